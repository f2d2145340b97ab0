package adversary

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	streams "github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"
	"github.com/aws/smithy-go"
)

const streamARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/events/stream/2026-01-01T00:00:00.000"

// dynamoStream serves the stream as a DynamoDB stream. Its answers never name children: only a listing does.
type dynamoStream struct {
	*stream
	pageShards int
	calls      rate
}

func refused(format string, args ...any) error {
	return &smithy.GenericAPIError{Code: "ValidationException", Message: fmt.Sprintf(format, args...)}
}

// DescribeStream is limited to ten calls a second, in pages of at most 100 shards.
func (d *dynamoStream) DescribeStream(_ context.Context, in *streams.DescribeStreamInput, _ ...func(*streams.Options)) (*streams.DescribeStreamOutput, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.calls.admit(10) {
		return nil, &types.LimitExceededException{Message: aws.String("Rate exceeded")}
	}
	size := d.pageShards
	if in.Limit != nil {
		size = min(size, int(*in.Limit))
	}
	about := &types.StreamDescription{StreamArn: aws.String(streamARN), StreamLabel: aws.String("2026-01-01T00:00:00.000"), TableName: aws.String("events"),
		StreamStatus: types.StreamStatusEnabled, StreamViewType: types.StreamViewTypeNewImage, Shards: []types.Shard{}}
	for i, s := range d.shards {
		if in.ExclusiveStartShardId != nil && s.id <= *in.ExclusiveStartShardId {
			continue
		}
		if f := in.ShardFilter; f != nil && (len(s.parents) == 0 || s.parents[0] != aws.ToString(f.ShardId)) {
			continue
		}
		one := types.Shard{ShardId: aws.String(s.id), SequenceNumberRange: &types.SequenceNumberRange{StartingSequenceNumber: aws.String(s.start)}}
		if s.closed {
			one.SequenceNumberRange.EndingSequenceNumber = aws.String(s.end)
		}
		if len(s.parents) > 0 {
			one.ParentShardId = aws.String(s.parents[0])
		}
		about.Shards = append(about.Shards, one)
		if len(about.Shards) == size && i+1 < len(d.shards) {
			about.LastEvaluatedShardId = one.ShardId
			break
		}
	}
	return &streams.DescribeStreamOutput{StreamDescription: about, ResultMetadata: served(d.now())}, nil
}

func (d *dynamoStream) GetShardIterator(_ context.Context, in *streams.GetShardIteratorInput, _ ...func(*streams.Options)) (*streams.GetShardIteratorOutput, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.byID[aws.ToString(in.ShardId)]
	if s == nil {
		return nil, &types.ResourceNotFoundException{Message: aws.String("Requested resource not found: Shard does not exist")}
	}
	c := cursor{shard: s.id, at: s.trimmed, issued: d.timeOfIssue()}
	switch in.ShardIteratorType {
	case types.ShardIteratorTypeTrimHorizon:
	case types.ShardIteratorTypeLatest:
		c.at = len(s.records)
	case types.ShardIteratorTypeAtTimestamp:
		if in.Timestamp == nil || in.Timestamp.After(d.now()) {
			return nil, refused("the timestamp is in the future")
		}
		c.since = *in.Timestamp
	case types.ShardIteratorTypeAtSequenceNumber, types.ShardIteratorTypeAfterSequenceNumber:
		number := aws.ToString(in.SequenceNumber)
		if len(number) != d.digits || number[:4] != s.start[:4] {
			return nil, refused("invalid sequence number")
		}
		c.at = s.find(number, in.ShardIteratorType == types.ShardIteratorTypeAfterSequenceNumber)
		if c.at < s.trimmed {
			return nil, &types.TrimmedDataAccessException{Message: aws.String("the operation attempted to read past the oldest stream record in a shard")}
		}
	}
	return &streams.GetShardIteratorOutput{ShardIterator: aws.String(c.String()), ResultMetadata: served(d.now())}, nil
}

func (d *dynamoStream) GetRecords(_ context.Context, in *streams.GetRecordsInput, _ ...func(*streams.Options)) (*streams.GetRecordsOutput, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, ok := parseCursor(aws.ToString(in.ShardIterator))
	s := d.byID[c.shard]
	if !ok || s == nil {
		return nil, refused("invalid ShardIterator")
	}
	if d.timeOfIssue().Sub(c.issued) > 15*minute {
		return nil, &types.ExpiredIteratorException{Message: aws.String("Iterator expired")}
	}
	limit := 1000
	if in.Limit != nil {
		if limit = int(*in.Limit); limit < 1 || limit > 1000 {
			return nil, &types.LimitExceededException{Message: aws.String("GetRecords was called with a value of more than 1000")}
		}
	}
	if c.at < s.trimmed {
		return nil, &types.TrimmedDataAccessException{Message: aws.String("a stream record exceeds the 24 hour period and is trimmed")}
	}
	records, next, done := d.read(c, limit, 1<<20)
	out := &streams.GetRecordsOutput{Records: []types.Record{}, ResultMetadata: served(d.now())}
	for _, r := range records {
		text := func(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }
		out.Records = append(out.Records, types.Record{EventID: aws.String("e" + r.event), EventName: types.OperationTypeInsert, EventSource: aws.String("aws:dynamodb"),
			EventVersion: aws.String("1.1"), AwsRegion: aws.String("eu-west-1"),
			Dynamodb: &types.StreamRecord{SequenceNumber: aws.String(r.sequence), ApproximateCreationDateTime: aws.Time(r.arrived.Truncate(1e9)),
				Keys: map[string]types.AttributeValue{"eventId": text(r.event)}, StreamViewType: types.StreamViewTypeNewImage,
				NewImage: map[string]types.AttributeValue{"eventId": text(r.event), "type": text("HAPPENED"), "aggregateId": text(r.aggregate),
					"timestamp": &types.AttributeValueMemberN{Value: fmt.Sprint(r.arrived.UnixMilli())}, "payload": text(`"` + strings.Repeat("x", d.padding) + `"`)}}})
	}
	if !done {
		out.NextShardIterator = aws.String(next.String())
	}
	return out, nil
}
