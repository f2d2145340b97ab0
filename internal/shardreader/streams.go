package shardreader

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"
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
}

func streamsOnce(o *dynamodbstreams.Options) { o.Retryer = aws.NopRetryer{} }

// Shards lists the shards, with the retries that the client is configured with.
func (s *Streams) Shards(ctx context.Context) ([]Shard, error) {
	var shards []Shard
	in := &dynamodbstreams.DescribeStreamInput{StreamArn: &s.ARN}
	for {
		out, err := s.Client.DescribeStream(ctx, in)
		if err != nil {
			return nil, err
		}
		d := out.StreamDescription
		if d == nil {
			return shards, nil
		}
		for _, sh := range d.Shards {
			one := Shard{ID: aws.ToString(sh.ShardId)}
			if parent := aws.ToString(sh.ParentShardId); parent != "" {
				one.Parents = []string{parent}
			}
			shards = append(shards, one)
		}
		if aws.ToString(d.LastEvaluatedShardId) == "" {
			return shards, nil
		}
		in = &dynamodbstreams.DescribeStreamInput{StreamArn: &s.ARN, ExclusiveStartShardId: d.LastEvaluatedShardId}
	}
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
	out, err := s.Client.GetShardIterator(ctx, in, streamsOnce)
	if err != nil {
		return "", err
	}
	return aws.ToString(out.ShardIterator), nil
}

const maxStreamsRecords = 1000

// Get implements [Source].
func (s *Streams) Get(ctx context.Context, iterator string, limit int) (Batch, error) {
	in := &dynamodbstreams.GetRecordsInput{ShardIterator: &iterator}
	if limit > 0 {
		in.Limit = aws.Int32(int32(min(limit, maxStreamsRecords)))
	}
	out, err := s.Client.GetRecords(ctx, in, streamsOnce)
	if err != nil {
		return Batch{}, err
	}
	b := Batch{Next: aws.ToString(out.NextShardIterator), Behind: -1, Records: make([]Record, len(out.Records))}
	for i := range out.Records {
		in := &out.Records[i]
		r := &b.Records[i]
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
