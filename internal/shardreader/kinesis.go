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

	"github.com/seed-1b628d3f/outbox/internal/awserr"
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

	listing listing
	Clock
}

// kinesisOnce turns off the SDK's retries. The Reader retries: it knows the limits of a shard, and two loops would multiply.
func kinesisOnce(o *kinesis.Options) { o.Retryer = aws.NopRetryer{} }

func (k *Kinesis) stream() (name, arn *string) {
	if strings.HasPrefix(k.Stream, "arn:") {
		return nil, &k.Stream
	}
	return &k.Stream, nil
}

// Shards implements [Source], with the retries that the client is configured with.
func (k *Kinesis) Shards(ctx context.Context) ([]Shard, error) { return k.listing.all(ctx, k.page) }

func (k *Kinesis) page(ctx context.Context, token string) (shards []Shard, next string, err error) {
	in := &kinesis.ListShardsInput{}
	if token != "" {
		in.NextToken = &token // it names the stream; Kinesis refuses a name beside it
	} else {
		in.StreamName, in.StreamARN = k.stream()
	}
	sent := time.Now()
	out, err := awserr.Answered(k.Client.ListShards(ctx, in))
	if err != nil {
		return nil, "", err
	}
	k.Saw(out.ResultMetadata, sent)
	for _, sh := range out.Shards {
		s := Shard{ID: aws.ToString(sh.ShardId)}
		for _, parent := range []*string{sh.ParentShardId, sh.AdjacentParentShardId} {
			if aws.ToString(parent) != "" {
				s.Parents = append(s.Parents, *parent)
			}
		}
		s.hashes(sh.HashKeyRange)
		if r := sh.SequenceNumberRange; r != nil {
			s.Closed = aws.ToString(r.EndingSequenceNumber) != ""
		}
		shards = append(shards, s)
	}
	return shards, aws.ToString(out.NextToken), nil
}

// Ended implements [Source]. It is asked about answers that do not name the children of their shard, as Kinesis itself does.
func (k *Kinesis) Ended(ctx context.Context, shard string) (bool, []Shard, error) {
	all, err := k.Shards(ctx)
	if err != nil {
		return false, nil, err
	}
	over, children := ended(all, shard)
	return over, children, nil
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
	out, err := awserr.Answered(k.Client.GetShardIterator(ctx, in, kinesisOnce))
	if err != nil {
		return "", err
	}
	return aws.ToString(out.ShardIterator), nil
}

const (
	maxKinesisRecords = 10000
	mostBehind        = 366 * 24 * time.Hour // Kinesis keeps records for a year at most
)

// recordSlices holds the memory for the records of a batch.
var recordSlices = sync.Pool{New: func() any { return new([]Record) }}

// Get implements [Source].
func (k *Kinesis) Get(ctx context.Context, iterator string, limit int, t *Transfer) (Batch, error) {
	in := &kinesis.GetRecordsInput{ShardIterator: &iterator}
	_, in.StreamARN = k.stream()
	if limit > 0 {
		in.Limit = aws.Int32(int32(min(limit, maxKinesisRecords)))
	}
	opts := []func(*kinesis.Options){kinesisOnce, kinesis.WithAPIOptions(t.watch)}
	var answer fastget.Answer
	if !k.StockReader {
		opts = append(opts, answer.Option)
	}
	sent := time.Now()
	out, err := awserr.Answered(k.Client.GetRecords(ctx, in, opts...))
	if err != nil {
		return Batch{}, err
	}
	k.Saw(out.ResultMetadata, sent)
	if out.Records == nil && len(out.ChildShards) == 0 && aws.ToString(out.NextShardIterator) != iterator {
		answer.Release()
		return Batch{}, errNoRecords
	}
	records := recordSlices.Get().(*[]Record)
	*records = slices.Grow((*records)[:0], len(out.Records))[:len(out.Records)]
	b := Batch{Next: aws.ToString(out.NextShardIterator), Behind: -1, Records: *records, release: func() {
		answer.Release()
		clear(*records)
		recordSlices.Put(records)
	}}
	if behind := out.MillisBehindLatest; behind != nil && *behind >= 0 {
		b.Behind = time.Duration(min(*behind, mostBehind.Milliseconds())) * time.Millisecond
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
