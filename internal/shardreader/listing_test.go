package shardreader

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	streamtypes "github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"
	"github.com/stretchr/testify/require"
)

// book is a listing of numbered pages, each with one shard. It notes which pages are read.
type book struct {
	pages int
	read  []string
	slow  time.Duration
	fail  func(token string) error
}

func (b *book) page(ctx context.Context, token string) ([]Shard, string, error) {
	b.read = append(b.read, token)
	if err := sleepUntil(ctx, time.Now().Add(b.slow)); err != nil {
		return nil, "", err
	}
	if b.fail != nil {
		if err := b.fail(token); err != nil {
			return nil, "", err
		}
	}
	n, _ := strconv.Atoi(token)
	next := ""
	if n+1 < b.pages {
		next = strconv.Itoa(n + 1)
	}
	return []Shard{{ID: fmt.Sprint("shard", n)}}, next, nil
}

func TestOneListingAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l listing
		b := &book{pages: 3, slow: time.Second}
		var asked sync.WaitGroup
		for i := range 100 {
			asked.Go(func() {
				time.Sleep(time.Duration(i) * 10 * time.Millisecond)
				shards, err := l.all(t.Context(), b.page)
				require.NoError(t, err)
				require.Equal(t, []Shard{{ID: "shard0"}, {ID: "shard1"}, {ID: "shard2"}}, shards)
			})
		}
		asked.Wait()
		require.Equal(t, []string{"", "1", "2"}, b.read, "a hundred callers, one listing")
		_, err := l.all(t.Context(), b.page)
		require.NoError(t, err)
		require.Len(t, b.read, 6, "the next caller gets a new one")
	})
}

func TestAListingGoesOnAtThePageThatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l listing
		throttled := code("LimitExceededException")
		b := &book{pages: 4}
		b.fail = func(token string) error {
			if token == "2" && slices.Index(b.read, "2") == len(b.read)-1 {
				return throttled
			}
			return nil
		}
		_, err := l.all(t.Context(), b.page)
		require.ErrorIs(t, err, throttled)
		shards, err := l.all(t.Context(), b.page)
		require.NoError(t, err)
		require.Len(t, shards, 4)
		require.Equal(t, []string{"", "1", "2", "2", "3"}, b.read)

		// What is old, or what the service does not accept any more, is read again.
		*b = book{pages: 3, fail: func(string) error {
			if len(b.read) == 2 {
				return throttled
			}
			return nil
		}}
		_, err = l.all(t.Context(), b.page)
		require.ErrorIs(t, err, throttled)
		time.Sleep(keptPages)
		_, err = l.all(t.Context(), b.page)
		require.NoError(t, err)
		require.Equal(t, []string{"", "1", "", "1", "2"}, b.read)

		*b = book{pages: 3, fail: func(string) error {
			switch len(b.read) {
			case 2:
				return throttled
			case 3:
				return code("ExpiredNextTokenException")
			}
			return nil
		}}
		_, err = l.all(t.Context(), b.page)
		require.ErrorIs(t, err, throttled)
		shards, err = l.all(t.Context(), b.page)
		require.NoError(t, err)
		require.Len(t, shards, 3)
		require.Equal(t, []string{"", "1", "1", "", "1", "2"}, b.read)
	})
}

func TestAListingOutlivesWhoBeganIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l listing
		b := &book{pages: 3, slow: time.Second}
		gone := errors.New("the caller is gone")
		ctx, stop := context.WithCancelCause(t.Context())
		time.AfterFunc(1500*time.Millisecond, func() { stop(gone) })
		var other sync.WaitGroup
		other.Go(func() {
			time.Sleep(time.Millisecond)
			shards, err := l.all(t.Context(), b.page)
			require.NoError(t, err)
			require.Len(t, shards, 3)
		})
		_, err := l.all(ctx, b.page)
		require.ErrorIs(t, err, gone)
		other.Wait()
		require.Equal(t, []string{"", "1", "1", "2"}, b.read)

		ctx, stop = context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second/2, func() { stop(gone) })
		other.Go(func() { _, _ = l.all(t.Context(), b.page) })
		time.Sleep(time.Millisecond)
		_, err = l.all(ctx, b.page)
		require.ErrorIs(t, err, gone, "who only waits does not wait longer than its context")
		other.Wait()
	})
}

// TestListingsThatLackSomething has listings that are not whole, or not the service's.
func TestListingsThatLackSomething(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, c := range map[string]struct {
			page read
			says string
		}{
			"a shard without id": {func(context.Context, string) ([]Shard, string, error) { return make([]Shard, 1), "", nil }, "without its id"},
			"a token for ever":   {func(context.Context, string) ([]Shard, string, error) { return []Shard{{ID: "a"}}, "more", nil }, "does not end: 2 pages have brought 1 shards"},
			"two tokens for ever": {func(_ context.Context, token string) ([]Shard, string, error) {
				return nil, map[string]string{"": "a", "a": "b", "b": "a"}[token], nil
			}, "does not end: 3 pages"},
			"new tokens for ever": {func(_ context.Context, token string) ([]Shard, string, error) {
				return []Shard{{ID: "a"}}, token + "x", nil
			}, "does not end: 102 pages have brought 1 shards"},
		} {
			var l listing
			for range 2 {
				_, err := l.all(t.Context(), c.page)
				require.ErrorContains(t, err, c.says, name)
			}
		}
		// A shard on two pages is one shard, as the later page has it.
		var l listing
		shards, err := l.all(t.Context(), func(_ context.Context, token string) ([]Shard, string, error) {
			if token == "" {
				return []Shard{{ID: "a"}, {ID: "b"}}, "more", nil
			}
			return []Shard{{ID: "a", Closed: true}}, "", nil
		})
		require.NoError(t, err)
		require.Equal(t, []Shard{{ID: "a", Closed: true}, {ID: "b"}}, shards)
	})
	for name, s := range map[string]Source{
		"kinesis, no answer":  &Kinesis{Client: silent{}},
		"streams, no answer":  &Streams{Client: silentStreams{}},
		"streams, no stream ": &Streams{Client: silentStreams{&dynamodbstreams.DescribeStreamOutput{}}},
	} {
		_, err := s.Shards(t.Context())
		require.Error(t, err, name)
	}
}

// rolled is a DynamoDB stream each of whose shards has a child; DescribeStream is limited to ten calls a second, as AWS does.
type rolled struct {
	StreamsClient
	mu        sync.Mutex
	shards    []streamtypes.Shard
	refuses   string // the code with which it refuses a filter
	ignores   bool   // it ignores a filter
	takes     time.Duration
	tokens    float64
	last      time.Time
	described int
	throttled int
	filtered  int
}

// newRolled is a stream of n closed shards and their children, on pages of 100.
func newRolled(n int) *rolled {
	r := &rolled{tokens: 10, last: time.Now(), takes: 10 * time.Millisecond}
	for i := range 2 * n {
		one := streamtypes.Shard{ShardId: aws.String(fmt.Sprintf("shard-%05d", i)), SequenceNumberRange: &streamtypes.SequenceNumberRange{StartingSequenceNumber: aws.String("1")}}
		if i >= n {
			one.ParentShardId = aws.String(fmt.Sprintf("shard-%05d", i-n))
		} else {
			one.SequenceNumberRange.EndingSequenceNumber = aws.String("2")
		}
		r.shards = append(r.shards, one)
	}
	return r
}

func (r *rolled) DescribeStream(_ context.Context, in *dynamodbstreams.DescribeStreamInput, _ ...func(*dynamodbstreams.Options)) (*dynamodbstreams.DescribeStreamOutput, error) {
	time.Sleep(r.takes)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.described++
	now := time.Now()
	r.tokens = min(10, r.tokens+10*now.Sub(r.last).Seconds())
	r.last = now
	if r.tokens < 1 {
		r.throttled++
		return nil, code("LimitExceededException")
	}
	r.tokens--
	shards := r.shards
	if f := in.ShardFilter; f != nil {
		if r.filtered++; r.refuses != "" {
			return nil, code(r.refuses)
		}
		if !r.ignores {
			shards = slices.DeleteFunc(slices.Clone(shards), func(s streamtypes.Shard) bool { return aws.ToString(s.ParentShardId) != *f.ShardId })
		}
	}
	if in.ExclusiveStartShardId != nil {
		shards = shards[slices.IndexFunc(shards, func(s streamtypes.Shard) bool { return *s.ShardId == *in.ExclusiveStartShardId })+1:]
	}
	d := &streamtypes.StreamDescription{Shards: shards[:min(100, len(shards))]}
	if len(shards) > 100 {
		d.LastEvaluatedShardId = d.Shards[99].ShardId
	}
	return &dynamodbstreams.DescribeStreamOutput{StreamDescription: d}, nil
}

func (r *rolled) GetShardIterator(_ context.Context, in *dynamodbstreams.GetShardIteratorInput, _ ...func(*dynamodbstreams.Options)) (*dynamodbstreams.GetShardIteratorOutput, error) {
	return &dynamodbstreams.GetShardIteratorOutput{ShardIterator: in.ShardId}, nil
}

func (r *rolled) GetRecords(context.Context, *dynamodbstreams.GetRecordsInput, ...func(*dynamodbstreams.Options)) (*dynamodbstreams.GetRecordsOutput, error) {
	return &dynamodbstreams.GetRecordsOutput{Records: []streamtypes.Record{}}, nil
}

// TestShardsThatEndTogether has all shards of a DynamoDB stream end at once, as they do every four hours.
func TestShardsThatEndTogether(t *testing.T) {
	for _, c := range []struct {
		shards, most int
		within       time.Duration
	}{{1, 1, 2 * time.Second}, {100, 1 + 2*2, 3 * time.Second}, {1000, 1 + 2*20, 6 * time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			client := newRolled(c.shards)
			source := &Streams{Client: client, ARN: "arn"}
			var reading sync.WaitGroup
			begin := time.Now()
			for i := range c.shards {
				reading.Go(func() {
					r := &Reader{Source: source, OnRetry: func(again Retry) { require.Fail(t, "a request failed", "%+v", again) }}
					children, err := r.Read(t.Context(), fmt.Sprintf("shard-%05d", i), Oldest, func(Batch) error { return nil })
					require.NoError(t, err)
					require.Len(t, children, 1)
					require.Equal(t, fmt.Sprintf("shard-%05d", i+c.shards), children[0].ID)
				})
			}
			reading.Wait()
			require.LessOrEqual(t, client.described, c.most, "%d shards", c.shards)
			require.Zero(t, client.throttled, "%d shards", c.shards)
			require.Less(t, time.Since(begin), c.within, "of the bubble's time")
		})
	}
}

// TestServersWithoutTheFilter also shows that the last listing is enough if it names the children.
func TestServersWithoutTheFilter(t *testing.T) {
	for name, change := range map[string]func(*rolled){
		"it knows the filter": func(*rolled) {},
		"it refuses it":       func(r *rolled) { r.refuses = "ValidationException" },
		"it ignores it":       func(r *rolled) { r.ignores = true },
	} {
		synctest.Test(t, func(t *testing.T) {
			client := newRolled(150)
			change(client)
			source := &Streams{Client: client, ARN: "arn"}
			over, children, err := source.Ended(t.Context(), "shard-00149")
			require.NoError(t, err, name)
			require.True(t, over, name)
			require.Equal(t, []Shard{{ID: "shard-00299", Parents: []string{"shard-00149"}}}, children, name)
			require.Equal(t, 1, client.filtered, name)
			if name == "it knows the filter" {
				require.Equal(t, 1, client.described)
				return
			}
			require.Equal(t, 1+3, client.described, name)
			over, _, err = source.Ended(t.Context(), "shard-00007")
			require.NoError(t, err, name)
			require.True(t, over, name)
			require.Equal(t, 1+3, client.described, "%s: the last listing has named them", name)
		})
	}
	synctest.Test(t, func(t *testing.T) {
		client := newRolled(1)
		client.shards[0].SequenceNumberRange.EndingSequenceNumber = nil
		over, children, err := (&Streams{Client: client, ARN: "arn"}).Ended(t.Context(), "shard-00001")
		require.NoError(t, err)
		require.False(t, over, "the shard is open")
		require.Empty(t, children)
		client.refuses = "LimitExceededException"
		_, _, err = (&Streams{Client: client, ARN: "arn"}).Ended(t.Context(), "shard-00001")
		require.Error(t, err, "a server that is busy has not refused the filter")
	})
}
