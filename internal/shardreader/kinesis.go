package shardreader

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/seed-1b628d3f/outbox/internal/fastget"
)

// KinesisClient is the part of *kinesis.Client that reading needs.
type KinesisClient interface {
	ListShards(context.Context, *kinesis.ListShardsInput, ...func(*kinesis.Options)) (*kinesis.ListShardsOutput, error)
	GetShardIterator(context.Context, *kinesis.GetShardIteratorInput, ...func(*kinesis.Options)) (*kinesis.GetShardIteratorOutput, error)
	GetRecords(context.Context, *kinesis.GetRecordsInput, ...func(*kinesis.Options)) (*kinesis.GetRecordsOutput, error)
}

// Kinesis is a Kinesis data stream as a source.
type Kinesis struct {
	Client KinesisClient
	Stream string // name or ARN
	// StockReader makes the SDK read all answers of GetRecords, instead of only the unusual ones.
	StockReader bool
}

// kinesisOnce turns off the SDK's retries. The Reader retries: it knows the limits of a shard, and two loops would multiply.
func kinesisOnce(o *kinesis.Options) { o.Retryer = aws.NopRetryer{} }

func (k *Kinesis) stream() (name, arn *string) {
	if strings.HasPrefix(k.Stream, "arn:") {
		return nil, &k.Stream
	}
	return &k.Stream, nil
}

// Shards lists the shards, with the retries that the client is configured with.
func (k *Kinesis) Shards(ctx context.Context) ([]Shard, error) {
	var shards []Shard
	in := &kinesis.ListShardsInput{}
	in.StreamName, in.StreamARN = k.stream()
	for {
		out, err := k.Client.ListShards(ctx, in)
		if err != nil {
			return nil, err
		}
		for _, sh := range out.Shards {
			s := Shard{ID: aws.ToString(sh.ShardId)}
			for _, parent := range []*string{sh.ParentShardId, sh.AdjacentParentShardId} {
				if parent != nil {
					s.Parents = append(s.Parents, *parent)
				}
			}
			s.hashes(sh.HashKeyRange)
			shards = append(shards, s)
		}
		if aws.ToString(out.NextToken) == "" {
			return shards, nil
		}
		// The token names the stream. Kinesis refuses a name beside a token.
		in = &kinesis.ListShardsInput{NextToken: out.NextToken}
	}
}

func (s *Shard) hashes(r *types.HashKeyRange) {
	if r != nil {
		s.HashLo, s.HashHi = aws.ToString(r.StartingHashKey), aws.ToString(r.EndingHashKey)
	}
}

// Iterator implements [Source].
func (k *Kinesis) Iterator(ctx context.Context, shard string, from Position) (string, error) {
	in := &kinesis.GetShardIteratorInput{ShardId: &shard, ShardIteratorType: types.ShardIteratorTypeTrimHorizon}
	in.StreamName, in.StreamARN = k.stream()
	if t, ok := from.time(); ok {
		in.ShardIteratorType, in.Timestamp = types.ShardIteratorTypeAtTimestamp, &t
	} else if number, ok := from.sequence(); ok {
		in.ShardIteratorType, in.StartingSequenceNumber = types.ShardIteratorTypeAtSequenceNumber, &number
	}
	out, err := k.Client.GetShardIterator(ctx, in, kinesisOnce)
	if err != nil {
		return "", err
	}
	return aws.ToString(out.ShardIterator), nil
}

const maxKinesisRecords = 10000

// recordSlices holds the memory for the records of a batch.
var recordSlices = sync.Pool{New: func() any { return new([]Record) }}

// Get implements [Source].
func (k *Kinesis) Get(ctx context.Context, iterator string, limit int) (Batch, error) {
	in := &kinesis.GetRecordsInput{ShardIterator: &iterator}
	_, in.StreamARN = k.stream()
	if limit > 0 {
		in.Limit = aws.Int32(int32(min(limit, maxKinesisRecords)))
	}
	opts := []func(*kinesis.Options){kinesisOnce}
	var answer fastget.Answer
	if !k.StockReader {
		opts = append(opts, answer.Option)
	}
	out, err := k.Client.GetRecords(ctx, in, opts...)
	if err != nil {
		return Batch{}, err
	}
	records := recordSlices.Get().(*[]Record)
	*records = slices.Grow((*records)[:0], len(out.Records))[:len(out.Records)]
	b := Batch{Next: aws.ToString(out.NextShardIterator), Behind: -1, Records: *records, release: func() {
		answer.Release()
		clear(*records)
		recordSlices.Put(records)
	}}
	if out.MillisBehindLatest != nil {
		b.Behind = time.Duration(*out.MillisBehindLatest) * time.Millisecond
	}
	for i := range out.Records {
		r := &out.Records[i]
		b.Records[i] = Record{SequenceNumber: aws.ToString(r.SequenceNumber), Data: r.Data, ArrivedAt: aws.ToTime(r.ApproximateArrivalTimestamp)}
		b.Bytes += len(r.Data) + len(aws.ToString(r.PartitionKey))
	}
	for _, child := range out.ChildShards {
		s := Shard{ID: aws.ToString(child.ShardId), Parents: child.ParentShards}
		s.hashes(child.HashKeyRange)
		b.Children = append(b.Children, s)
	}
	return b, nil
}
