package adversary

import (
	"context"
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
)

// kinesisService serves the stream as a Kinesis data stream.
type kinesisService struct {
	*stream
	pageShards int
	listings   rate
	endAlone   bool // the end of a shard comes in an answer of its own, behind the last records
}

func invalid(format string, args ...any) error {
	return &types.InvalidArgumentException{Message: aws.String(fmt.Sprintf(format, args...))}
}

func hashKey(n uint64) *string {
	key := new(big.Int).Lsh(big.NewInt(int64(n)), 96)
	return aws.String(key.String())
}

func (k *kinesisService) described(s *shard) types.Shard {
	d := types.Shard{ShardId: aws.String(s.id), HashKeyRange: &types.HashKeyRange{StartingHashKey: hashKey(s.low), EndingHashKey: below(s.high)},
		SequenceNumberRange: &types.SequenceNumberRange{StartingSequenceNumber: aws.String(s.start)}}
	if s.closed {
		d.SequenceNumberRange.EndingSequenceNumber = aws.String(s.end)
	}
	if len(s.parents) > 0 {
		d.ParentShardId = aws.String(s.parents[0])
	}
	if len(s.parents) > 1 {
		d.AdjacentParentShardId = aws.String(s.parents[1])
	}
	return d
}

func below(high uint64) *string {
	key := new(big.Int).Lsh(big.NewInt(int64(high)), 96)
	return aws.String(key.Sub(key, big.NewInt(1)).String())
}

// ListShards answers in pages of pageShards shards. The token is the position of the next page.
func (k *kinesisService) ListShards(_ context.Context, in *kinesis.ListShardsInput, _ ...func(*kinesis.Options)) (*kinesis.ListShardsOutput, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.listings.admit(1000) {
		return nil, &types.LimitExceededException{Message: aws.String("Rate exceeded for stream")}
	}
	from := 0
	if in.NextToken != nil {
		if in.StreamName != nil {
			return nil, invalid("NextToken and StreamName cannot be provided together.")
		}
		from, _ = strconv.Atoi(strings.TrimPrefix(*in.NextToken, "page-"))
	}
	if in.ExclusiveStartShardId != nil {
		for from < len(k.shards) && k.shards[from].id <= *in.ExclusiveStartShardId {
			from++
		}
	}
	if f := in.ShardFilter; f != nil && f.Type != types.ShardFilterTypeFromTrimHorizon && f.Type != types.ShardFilterTypeAfterShardId && f.Type != types.ShardFilterTypeAtLatest {
		panic("this world has no such filter: " + f.Type)
	}
	size := k.pageShards
	if in.MaxResults != nil {
		size = min(size, int(*in.MaxResults))
	}
	out := &kinesis.ListShardsOutput{ResultMetadata: served(k.now())}
	for ; from < len(k.shards) && len(out.Shards) < size; from++ {
		s := k.shards[from]
		if f := in.ShardFilter; f != nil && (f.Type == types.ShardFilterTypeAtLatest && s.closed || f.Type == types.ShardFilterTypeAfterShardId && s.id <= *f.ShardId) {
			continue
		}
		out.Shards = append(out.Shards, k.described(s))
	}
	if from < len(k.shards) {
		out.NextToken = aws.String(fmt.Sprintf("page-%d", from))
	}
	return out, nil
}

func (k *kinesisService) GetShardIterator(_ context.Context, in *kinesis.GetShardIteratorInput, _ ...func(*kinesis.Options)) (*kinesis.GetShardIteratorOutput, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.byID[aws.ToString(in.ShardId)]
	if s == nil {
		return nil, &types.ResourceNotFoundException{Message: aws.String("Shard " + aws.ToString(in.ShardId) + " in stream events does not exist")}
	}
	c := cursor{shard: s.id, at: s.trimmed, issued: k.timeOfIssue()}
	switch in.ShardIteratorType {
	case types.ShardIteratorTypeTrimHorizon:
	case types.ShardIteratorTypeLatest:
		c.at = len(s.records)
	case types.ShardIteratorTypeAtTimestamp:
		if in.Timestamp == nil {
			return nil, invalid("Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP.")
		}
		c.since = *in.Timestamp
	case types.ShardIteratorTypeAtSequenceNumber, types.ShardIteratorTypeAfterSequenceNumber:
		number := aws.ToString(in.StartingSequenceNumber)
		if len(number) != k.digits || number[:4] != s.start[:4] || number < s.start || s.closed && number > s.end {
			return nil, invalid("StartingSequenceNumber %s used in GetShardIterator on shard %s is invalid", number, s.id)
		}
		c.at = s.find(number, in.ShardIteratorType == types.ShardIteratorTypeAfterSequenceNumber)
	default:
		return nil, invalid("no such iterator type: %s", in.ShardIteratorType)
	}
	return &kinesis.GetShardIteratorOutput{ShardIterator: aws.String(c.String()), ResultMetadata: served(k.now())}, nil
}

func (k *kinesisService) GetRecords(_ context.Context, in *kinesis.GetRecordsInput, _ ...func(*kinesis.Options)) (*kinesis.GetRecordsOutput, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c, ok := parseCursor(aws.ToString(in.ShardIterator))
	s := k.byID[c.shard]
	if !ok || s == nil {
		return nil, invalid("Invalid ShardIterator.")
	}
	if k.timeOfIssue().Sub(c.issued) > 5*minute {
		return nil, &types.ExpiredIteratorException{Message: aws.String("Iterator expired.")}
	}
	if !k.admit(s) {
		return nil, &types.ProvisionedThroughputExceededException{Message: aws.String("Rate exceeded for shard " + s.id)}
	}
	limit := 10000
	if in.Limit != nil {
		if limit = int(*in.Limit); limit < 1 || limit > 10000 {
			return nil, invalid("Limit %d", limit)
		}
	}
	records, next, done := k.read(c, limit, 10<<20)
	out := &kinesis.GetRecordsOutput{Records: []types.Record{}, MillisBehindLatest: aws.Int64(0), ResultMetadata: served(k.now())}
	for _, r := range records {
		s.bytesInSec += r.bytes
		out.Records = append(out.Records, types.Record{SequenceNumber: aws.String(r.sequence), PartitionKey: aws.String("k"),
			ApproximateArrivalTimestamp: aws.Time(r.arrived), Data: k.changeRecord(r)})
	}
	if next.at < len(s.records) {
		out.MillisBehindLatest = aws.Int64(k.now().Sub(s.records[next.at].arrived).Milliseconds())
	}
	if !done || k.endAlone && len(records) > 0 {
		out.NextShardIterator = aws.String(next.String())
		return out, nil
	}
	for _, id := range s.children {
		child := k.byID[id]
		out.ChildShards = append(out.ChildShards, types.ChildShard{ShardId: aws.String(id), ParentShards: child.parents,
			HashKeyRange: &types.HashKeyRange{StartingHashKey: hashKey(child.low), EndingHashKey: below(child.high)}})
	}
	return out, nil
}

// changeRecord is what DynamoDB's streaming destination writes for an event.
func (s *stream) changeRecord(r *record) []byte {
	return fmt.Appendf(nil, `{"awsRegion":"eu-west-1","eventID":"5a88419c-468a-4ac4-8bad-7f832caf7345","eventName":"INSERT","userIdentity":null,`+
		`"recordFormat":"application/json","tableName":"events","dynamodb":{"ApproximateCreationDateTime":%d,"Keys":{"eventId":{"S":"%s"}},`+
		`"NewImage":{"eventId":{"S":"%[2]s"},"type":{"S":"HAPPENED"},"timestamp":{"N":"%[1]d"},"aggregateId":{"S":"%[3]s"},`+
		`"payload":{"S":"\"%[4]s\""}},"SizeBytes":198},"eventSource":"aws:dynamodb"}`, r.arrived.UnixMilli(), r.event, r.aggregate, strings.Repeat("x", s.padding))
}
