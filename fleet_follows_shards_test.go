package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// Shards are split and merged while several workers read them, come and go. Nothing is lost, and a clean stop costs no
// duplicates.
func TestAFleetFollowsTheShards(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		handle := func(ctx context.Context, e outbox.Event[orderCreated]) error {
			r, _ := outbox.RecordFromContext(ctx) // another worker may have the same aggregate, from another shard
			lane := fmt.Sprint(e.AggregateID, r.ShardID, r.Fence)
			f.mu.Lock()
			if f.busy[lane] {
				t.Errorf("two handlers of %s overlap", lane)
			}
			f.busy[lane] = true
			f.mu.Unlock()
			time.Sleep(5 * time.Millisecond)
			f.mu.Lock()
			f.busy[lane] = false
			f.mu.Unlock()
			f.note(t, e)
			return nil
		}
		var ids []string
		workers := []running{f.start(t, handle)}
		ids = append(ids, f.put(t, "one", 10, 10)...)
		split(t, f, 0)
		workers = append(workers, f.start(t, handle), f.start(t, handle))
		ids = append(ids, f.put(t, "split", 10, 10)...)
		time.Sleep(20 * time.Second)
		require.NoError(t, workers[0].stop())
		ids = append(ids, f.put(t, "fewer", 10, 10)...)
		_, err := f.Kinesis.MergeShards(t.Context(), &kinesis.MergeShardsInput{StreamName: aws.String("events"),
			ShardToMerge: aws.String("shardId-000000000002"), AdjacentShardToMerge: aws.String("shardId-000000000003")})
		require.NoError(t, err)
		ids = append(ids, f.put(t, "merged", 10, 10)...)
		f.await(t, "all handled", 2*time.Minute, f.all(ids))
		for _, w := range workers[1:] {
			require.NoError(t, w.stop())
		}
		f.requireTimes(t, 1, ids)
	})
}

// split splits the nth shard in the middle of its hash keys.
func split(t *testing.T, f *fleet, n int) {
	shards, err := f.Kinesis.ListShards(t.Context(), &kinesis.ListShardsInput{StreamName: aws.String("events")})
	require.NoError(t, err)
	_, err = f.Kinesis.SplitShard(t.Context(), &kinesis.SplitShardInput{StreamName: aws.String("events"), ShardToSplit: shards.Shards[n].ShardId,
		NewStartingHashKey: aws.String("85070591730234615865843651857942052864")})
	require.NoError(t, err)
}

// partitioned is a client of the lease table that can be cut off.
type partitioned struct {
	outbox.LeaseClient
	mu  sync.Mutex
	cut bool
}

func (p *partitioned) gone() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cut
}

func (p *partitioned) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, o ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	if p.gone() {
		return nil, errCut
	}
	return p.LeaseClient.UpdateItem(ctx, in, o...)
}

func (p *partitioned) Query(ctx context.Context, in *dynamodb.QueryInput, o ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	if p.gone() {
		return nil, errCut
	}
	return p.LeaseClient.Query(ctx, in, o...)
}

func (p *partitioned) TransactWriteItems(ctx context.Context, in *dynamodb.TransactWriteItemsInput, o ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error) {
	if p.gone() {
		return nil, errCut
	}
	return p.LeaseClient.TransactWriteItems(ctx, in, o...)
}

// A worker that cannot reach the lease table any more ends its handlers before another one begins with its shards, and the other one goes on
// within 10 seconds. What is handled twice is at most what was above the checkpoint.
func TestAWorkerThatIsCutOffIsReplaced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		cut := &partitioned{LeaseClient: f.DynamoDB}
		cutLeases, err := outbox.NewLeaseTable(cut, "leases", "mails")
		require.NoError(t, err)
		lastOfOld, firstOfNew := map[string]time.Time{}, map[string]time.Time{} // by shard, after the cut
		old := f.startWith(t, f.Kinesis, cutLeases, func(ctx context.Context, e outbox.Event[orderCreated]) error {
			if ctx.Err() != nil {
				t.Error("a handler is started with a context that has ended")
			}
			f.note(t, e)
			if cut.gone() {
				<-ctx.Done() // no handler ends before it has to
			}
			r, _ := outbox.RecordFromContext(ctx)
			f.mu.Lock()
			defer f.mu.Unlock()
			if cut.gone() {
				lastOfOld[r.ShardID] = time.Now()
			}
			return ctx.Err()
		}, outbox.WithMaxUnfinished(50))
		ids := f.put(t, "a", 5, 10)
		f.await(t, "all handled", time.Minute, f.all(ids))
		time.Sleep(3 * time.Second) // and stored

		replacement := f.start(t, func(ctx context.Context, e outbox.Event[orderCreated]) error {
			f.note(t, e)
			r, _ := outbox.RecordFromContext(ctx)
			f.mu.Lock()
			defer f.mu.Unlock()
			if cut.gone() && firstOfNew[r.ShardID].IsZero() {
				firstOfNew[r.ShardID] = time.Now()
			}
			return nil
		})
		time.Sleep(30 * time.Second) // one shard each
		cut.mu.Lock()
		cut.cut = true
		cut.mu.Unlock()
		start := time.Now()
		var more []string
		for i := range 40 {
			more = append(more, f.put(t, fmt.Sprint("b", i), 5, 1)...)
			time.Sleep(500 * time.Millisecond)
		}
		f.await(t, "all handled", time.Minute, f.all(more))
		f.mu.Lock()
		require.Len(t, lastOfOld, 1, "one shard each")
		for shard, last := range lastOfOld {
			require.Greater(t, last.Sub(start), 5*time.Second, "no handler waited for its end")
			require.Less(t, last.Sub(start), 9*time.Second, "it went on without its lease")
			require.Contains(t, firstOfNew, shard)
			require.False(t, firstOfNew[shard].Before(last), "another worker began %s before the last handler had ended", last.Sub(firstOfNew[shard]))
			require.Less(t, firstOfNew[shard].Sub(start), 10*time.Second)
		}
		duplicates := 0
		for _, id := range slices.Concat(ids, more) {
			duplicates += f.handled[id] - 1
		}
		f.mu.Unlock()
		require.LessOrEqual(t, duplicates, 50)
		require.NoError(t, replacement.stop())
		require.NoError(t, old.stop())
		t.Logf("%d of %d events were handled twice", duplicates, len(ids)+len(more))
	})
}

// errCut is what a client without a network returns.
var errCut = errors.New("no route to host")
