package shardreader

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"

	"github.com/seed-1b628d3f/outbox/internal/awserr"
)

// StreamsClient is the part of *dynamodbstreams.Client that reading needs.
type StreamsClient interface {
	DescribeStream(context.Context, *dynamodbstreams.DescribeStreamInput, ...func(*dynamodbstreams.Options)) (*dynamodbstreams.DescribeStreamOutput, error)
	GetShardIterator(context.Context, *dynamodbstreams.GetShardIteratorInput, ...func(*dynamodbstreams.Options)) (*dynamodbstreams.GetShardIteratorOutput, error)
	GetRecords(context.Context, *dynamodbstreams.GetRecordsInput, ...func(*dynamodbstreams.Options)) (*dynamodbstreams.GetRecordsOutput, error)
}

// Streams is the DynamoDB stream of a table as a source. It does not say how far behind a batch is.
type Streams struct {
	Client StreamsClient
	ARN    string

	Clock

	listing listing
	asking  atomic.Int32 // the calls of Ended under way

	mu   sync.Mutex
	next time.Time // from when the next DescribeStream is allowed
}

// describePause is the time between two calls of DescribeStream. DynamoDB allows ten a second to an account in a Region.
const describePause = 100 * time.Millisecond

func streamsOnce(o *dynamodbstreams.Options) { o.Retryer = aws.NopRetryer{} }

// Shards implements [Source], with the retries that the client is configured with.
func (s *Streams) Shards(ctx context.Context) ([]Shard, error) { return s.listing.all(ctx, s.page) }

func (s *Streams) page(ctx context.Context, token string) ([]Shard, string, error) {
	in := &dynamodbstreams.DescribeStreamInput{StreamArn: &s.ARN}
	if token != "" {
		in.ExclusiveStartShardId = &token
	}
	return s.describe(ctx, in)
}

// describe asks for one page of shards.
func (s *Streams) describe(ctx context.Context, in *dynamodbstreams.DescribeStreamInput) (shards []Shard, next string, err error) {
	if err := s.pace(ctx); err != nil {
		return nil, "", err
	}
	sent := time.Now()
	out, err := awserr.Answered(s.Client.DescribeStream(ctx, in))
	if err != nil {
		return nil, "", err
	}
	s.Saw(out.ResultMetadata, sent)
	d := out.StreamDescription
	if d == nil {
		return nil, "", errors.New("the answer does not describe the stream")
	}
	for _, sh := range d.Shards {
		one := Shard{ID: aws.ToString(sh.ShardId)}
		if parent := aws.ToString(sh.ParentShardId); parent != "" {
			one.Parents = []string{parent}
		}
		if r := sh.SequenceNumberRange; r != nil {
			one.Closed = aws.ToString(r.EndingSequenceNumber) != ""
		}
		shards = append(shards, one)
	}
	return shards, aws.ToString(d.LastEvaluatedShardId), nil
}

// pace waits until DescribeStream may be called again.
func (s *Streams) pace(ctx context.Context) error {
	s.mu.Lock()
	at := s.next
	if now := time.Now(); at.Before(now) {
		at = now
	}
	s.next = at.Add(describePause)
	s.mu.Unlock()
	return sleepUntil(ctx, at)
}

// Ended implements [Source]. DynamoDB replaces all shards of a table within a short time, and a stream has hundreds. So what the last
// listing said is enough if it names children; one who asks alone asks for the children only; and several share a listing.
func (s *Streams) Ended(ctx context.Context, shard string) (bool, []Shard, error) {
	if children := childrenOf(s.listing.known(), shard); len(children) > 0 {
		return true, children, nil
	}
	alone := s.asking.Add(1) == 1
	defer s.asking.Add(-1)
	if alone && !s.listing.busy() {
		children, err := s.children(ctx, shard)
		if len(children) > 0 || err != nil && judge(err) != stop {
			return len(children) > 0, children, err
		}
		// A server that refuses the filter, or does not know it, has a listing. So has the shard of a stream that was disabled, which
		// has no children.
	}
	all, err := s.Shards(ctx)
	if err != nil {
		return false, nil, err
	}
	over, children := ended(all, shard)
	return over, children, nil
}

// children asks for the children of a shard. They are nil if the server ignores the filter.
func (s *Streams) children(ctx context.Context, shard string) ([]Shard, error) {
	page, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	listed, next, err := s.describe(page, &dynamodbstreams.DescribeStreamInput{StreamArn: &s.ARN,
		ShardFilter: &types.ShardFilter{Type: types.ShardFilterTypeChildShards, ShardId: &shard}})
	if err != nil {
		return nil, err
	}
	if next != "" || !continues(listed, shard) {
		return nil, nil
	}
	return listed, nil
}

// Iterator implements [Source]. A server that refuses to start at a time, because it does not know how or because its clock is
// behind, is asked for the oldest record in a second request: the Reader leaves out what is older.
func (s *Streams) Iterator(ctx context.Context, shard string, from Position) (string, error) {
	in := dynamodbstreams.GetShardIteratorInput{StreamArn: &s.ARN, ShardId: &shard, ShardIteratorType: types.ShardIteratorTypeTrimHorizon}
	if t, ok := from.time(); ok {
		at := in
		// The times of the records are full seconds, rounded down. A time between them would leave out what arrived in its second.
		at.ShardIteratorType, at.Timestamp = types.ShardIteratorTypeAtTimestamp, aws.Time(t.Truncate(time.Second))
		if iterator, err := s.iterator(ctx, &at); err == nil || judge(err) != stop {
			return iterator, err
		}
	} else if number, ok := from.sequence(); ok {
		in.ShardIteratorType, in.SequenceNumber = types.ShardIteratorTypeAtSequenceNumber, &number
	}
	return s.iterator(ctx, &in)
}

func (s *Streams) iterator(ctx context.Context, in *dynamodbstreams.GetShardIteratorInput) (string, error) {
	out, err := awserr.Answered(s.Client.GetShardIterator(ctx, in, streamsOnce))
	if err != nil {
		return "", err
	}
	return aws.ToString(out.ShardIterator), nil
}

const maxStreamsRecords = 1000

// Get implements [Source].
func (s *Streams) Get(ctx context.Context, iterator string, limit int, t *Transfer) (Batch, error) {
	in := &dynamodbstreams.GetRecordsInput{ShardIterator: &iterator}
	if limit > 0 {
		in.Limit = aws.Int32(int32(min(limit, maxStreamsRecords)))
	}
	sent := time.Now()
	out, err := awserr.Answered(s.Client.GetRecords(ctx, in, streamsOnce, dynamodbstreams.WithAPIOptions(t.watch)))
	if err != nil {
		return Batch{}, err
	}
	s.Saw(out.ResultMetadata, sent)
	if out.Records == nil && aws.ToString(out.NextShardIterator) != iterator {
		return Batch{}, errNoRecords
	}
	b := Batch{Next: aws.ToString(out.NextShardIterator), Behind: -1, Records: make([]Record, len(out.Records))}
	for i := range out.Records {
		in := &out.Records[i]
		r := &b.Records[i]
		if in.EventName == "" { // to the decoder it would be no event
			return Batch{}, fmt.Errorf("the record %d of the answer does not say what happened", i+1)
		}
		// An upper bound more often than not, so that appending rarely has to move.
		size := 512
		if d := in.Dynamodb; d != nil {
			r.SequenceNumber, r.ArrivedAt = aws.ToString(d.SequenceNumber), aws.ToTime(d.ApproximateCreationDateTime)
			b.Bytes += int(aws.ToInt64(d.SizeBytes))
			size += 2 * int(aws.ToInt64(d.SizeBytes))
		}
		r.Data = appendStreamRecord(make([]byte, 0, size), in, s.ARN)
	}
	return b, nil
}
