package shardreader

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

const first = "shardId-000000000000"

// kinesisStream is a stream with one shard, and a reader of it.
func kinesisStream(t *testing.T, opts ...outboxtest.Option) (*outboxtest.AWS, *Reader, *seen) {
	a := outboxtest.Start(t, opts...)
	_, err := a.Kinesis.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: aws.String("changes"), ShardCount: aws.Int32(1)})
	require.NoError(t, err)
	s := &seen{}
	return a, s.reader(&Kinesis{Client: a.Kinesis, Stream: "changes"}), s
}

func put(t *testing.T, a *outboxtest.AWS, data string) {
	t.Helper()
	_, err := a.Kinesis.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: aws.String("changes"), PartitionKey: aws.String("k"), Data: []byte(data)})
	require.NoError(t, err)
}

func split(t *testing.T, a *outboxtest.AWS) {
	t.Helper()
	_, err := a.Kinesis.SplitShard(t.Context(), &kinesis.SplitShardInput{StreamName: aws.String("changes"), ShardToSplit: aws.String(first),
		NewStartingHashKey: aws.String("170141183460469231731687303715884105728")})
	require.NoError(t, err)
}

func TestKinesisFromBeginningToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, r, s := kinesisStream(t, outboxtest.WithKinesisLimits())
		var want []string
		for i := range 20 {
			put(t, a, fmt.Sprint(i))
			want = append(want, fmt.Sprint(i))
			time.Sleep(time.Second)
		}
		between := time.Now().Add(-5500 * time.Millisecond)
		_, err := during(t, r, first, Oldest, s, 10*time.Second)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, want, s.data)
		require.InDelta(t, 12, len(s.polls), 1, "one a second, and two more at the beginning")

		*s = seen{}
		_, err = during(t, r, first, At(between), s, time.Second)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, want[15:], s.data)

		split(t, a)
		*s = seen{}
		r.Limit = 7
		children, err := during(t, r, first, Oldest, s, time.Minute)
		require.NoError(t, err)
		require.Equal(t, want, s.data)
		require.Len(t, children, 2)
		require.Equal(t, []string{first}, children[0].Parents)
		require.Equal(t, "0", children[0].HashLo)
		require.Equal(t, "340282366920938463463374607431768211455", children[1].HashHi)

		// Everything after each record, and the end again.
		all := slices.Clone(s.numbers)
		require.Negative(t, CompareSequence(all[3], all[4]))
		for i, number := range all {
			*s = seen{}
			time.Sleep(time.Second)
			_, err = during(t, r, first, Position(number), s, time.Minute)
			require.NoError(t, err)
			require.Equal(t, want[i+1:], append([]string{}, s.data...))
			require.Empty(t, s.trimmed)
			require.Empty(t, s.retries, "no limit was met")
		}

		shards, err := r.Source.Shards(t.Context())
		require.NoError(t, err)
		require.Len(t, shards, 3)
		require.Equal(t, Shard{ID: first, Closed: true, HashLo: "0", HashHi: "340282366920938463463374607431768211455"}, shards[0])
		require.Equal(t, children, shards[1:])
		byARN := &Kinesis{Client: a.Kinesis, Stream: "arn:aws:kinesis:us-east-1:000000000000:stream/changes"}
		again, err := byARN.Shards(t.Context())
		require.NoError(t, err)
		require.Equal(t, shards, again)
		*s = seen{}
		_, err = during(t, s.reader(byARN), first, Oldest, s, time.Minute)
		require.NoError(t, err)
		require.Equal(t, want, s.data)
	})
}

// TestCatchingUpWithinTheLimits reads 14 MiB from a shard that nobody can read faster than 2 MiB a second.
func TestCatchingUpWithinTheLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, r, s := kinesisStream(t, outboxtest.WithKinesisLimits())
		big := strings.Repeat("x", 1<<20-10)
		for range 14 {
			put(t, a, big)
			time.Sleep(time.Second) // a shard takes 1 MiB a second
		}
		split(t, a)
		start := time.Now()
		_, err := during(t, r, first, Oldest, s, 3*time.Minute)
		require.NoError(t, err)
		require.Len(t, s.data, 14)
		require.Empty(t, s.retries, "no request was refused")
		require.InDelta(t, 7, time.Since(start).Seconds(), 1, "14 MiB at 2 MiB a second")
	})
}

func TestADeliveryLongerThanAnIteratorLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, r, s := kinesisStream(t)
		var want []string
		for i := range 9 {
			want = append(want, fmt.Sprint(i))
			put(t, a, want[i])
		}
		split(t, a)
		r.Limit = 3
		_, err := r.Read(t.Context(), first, Oldest, func(b Batch) error {
			time.Sleep(6 * time.Minute)
			return s.deliver(b)
		})
		require.NoError(t, err)
		require.Equal(t, want, s.data)
		require.Empty(t, s.trimmed)
	})
}

func TestAKinesisCheckpointThatHasExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, r, s := kinesisStream(t)
		put(t, a, "handled")
		put(t, a, "never seen")
		_, err := during(t, r, first, Oldest, s, time.Second)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		checkpoint := Position(s.numbers[0])
		time.Sleep(25 * time.Hour)
		arrived := time.Now()
		put(t, a, "there")
		*s = seen{}
		_, err = during(t, r, first, checkpoint, s, time.Second)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, []string{"there"}, s.data)
		require.Len(t, s.trimmed, 1)
		require.True(t, arrived.Equal(s.trimmed[0].ArrivedAt))
		s.trimmed[0].ArrivedAt = time.Time{}
		require.Equal(t, []Trimmed{{Shard: first, After: string(checkpoint), Oldest: s.numbers[0]}}, s.trimmed)
	})
}

func TestKinesisWithFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, r, s := kinesisStream(t)
		var want []string
		for i := range 100 {
			want = append(want, fmt.Sprint(i))
			put(t, a, want[i])
		}
		split(t, a)
		r.Limit = 3
		require.NoError(t, a.SetFaults(
			outboxtest.Fault{Kind: outboxtest.Throttle, Service: "Kinesis", Probability: 0.2},
			outboxtest.Fault{Kind: outboxtest.ServerError, Service: "Kinesis", Probability: 0.2},
			outboxtest.Fault{Kind: outboxtest.CutNetwork, Service: "Kinesis", Probability: 0.1},
			outboxtest.Fault{Kind: outboxtest.LoseAnswer, Service: "Kinesis", Probability: 0.1},
			outboxtest.Fault{Kind: outboxtest.Latency, Service: "Kinesis", Probability: 0.1, Duration: 6 * time.Minute}))
		_, err := during(t, r, first, Oldest, s, 24*time.Hour)
		require.NoError(t, err)
		require.Equal(t, want, s.data)
		require.Empty(t, s.trimmed)
		kinds := map[bool]int{}
		for _, again := range s.retries {
			kinds[again.Throttled]++
		}
		require.NotZero(t, kinds[true])
		require.NotZero(t, kinds[false])
	})
}

// The client's own retries would multiply with the reader's and break the limits of a shard.
func TestOnlyTheReaderRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, arn := table(t)
		_, err := a.Kinesis.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: aws.String("changes"), ShardCount: aws.Int32(1)})
		require.NoError(t, err)
		for _, source := range []Source{&Kinesis{Client: a.Kinesis, Stream: "changes"}, &Kinesis{Client: a.Kinesis, Stream: "changes", StockReader: true},
			&Streams{Client: a.Streams, ARN: arn}} {
			shards, err := source.Shards(t.Context())
			require.NoError(t, err)
			require.NoError(t, a.SetFaults(outboxtest.Fault{Kind: outboxtest.ServerError, Operation: "GetRecords", Calls: []int{1, 2, 3}},
				outboxtest.Fault{Kind: outboxtest.Throttle, Operation: "GetShardIterator", Calls: []int{1, 2, 3}}))
			s := &seen{}
			_, err = during(t, s.reader(source), shards[0].ID, Oldest, s, time.Minute)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Len(t, s.retries, 6)
			a.StopFaults()
		}
	})
}

func TestAStreamThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, r, s := kinesisStream(t)
		put(t, a, "1")
		time.AfterFunc(10*time.Second, func() {
			_, _ = a.Kinesis.DeleteStream(context.Background(), &kinesis.DeleteStreamInput{StreamName: aws.String("changes")})
		})
		_, err := during(t, r, first, Oldest, s, time.Minute)
		var stop *StopError
		require.ErrorAs(t, err, &stop)
		require.Equal(t, "GetRecords", stop.Operation)
		var gone *types.ResourceNotFoundException
		require.ErrorAs(t, err, &gone)
	})
}

// pages is a KinesisClient whose listing has two pages.
type pages struct {
	KinesisClient
	asked []kinesis.ListShardsInput
}

func (p *pages) ListShards(_ context.Context, in *kinesis.ListShardsInput, _ ...func(*kinesis.Options)) (*kinesis.ListShardsOutput, error) {
	p.asked = append(p.asked, *in)
	if in.NextToken == nil {
		return &kinesis.ListShardsOutput{Shards: []types.Shard{{ShardId: aws.String("a")}, {ShardId: aws.String("b")}}, NextToken: aws.String("more")}, nil
	}
	return &kinesis.ListShardsOutput{Shards: []types.Shard{{ShardId: aws.String("c"), ParentShardId: aws.String("a"), AdjacentParentShardId: aws.String("b")}}}, nil
}

func TestListingsHavePages(t *testing.T) {
	p := &pages{}
	shards, err := (&Kinesis{Client: p, Stream: "changes"}).Shards(t.Context())
	require.NoError(t, err)
	require.Equal(t, []Shard{{ID: "a", Closed: true}, {ID: "b", Closed: true}, {ID: "c", Parents: []string{"a", "b"}}}, shards)
	require.Len(t, p.asked, 2)
	require.Nil(t, p.asked[1].StreamName, "a name beside a token is refused")

	a, arn := table(t)
	for range 120 {
		require.NoError(t, a.RollStreamShard("events"))
	}
	shards, err = (&Streams{Client: a.Streams, ARN: arn}).Shards(t.Context())
	require.NoError(t, err)
	require.Len(t, shards, 121, "a page has 100")
	require.Empty(t, shards[0].Parents)
	require.Equal(t, []string{shards[119].ID}, shards[120].Parents)
}

var (
	_ KinesisClient = (*kinesis.Client)(nil)
	_ StreamsClient = (*dynamodbstreams.Client)(nil)
	_ Source        = (*Kinesis)(nil)
	_ Source        = (*Streams)(nil)
)
