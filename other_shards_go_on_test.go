package outbox_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// Slow handlers stop the fetching of their shard, and no other, once there are too many to be passed, as long as the Worker has places for
// handlers left.
func TestOtherShardsGoOnBesideSlowHandlers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		const room, batch = 8, 10
		release := make(chan struct{})
		slow, waiting := "", 0 // the shard of the slow handlers, and how many there are
		handled := map[string]int{}
		count := func() (blocked, other int) {
			f.mu.Lock()
			defer f.mu.Unlock()
			for shard, n := range handled {
				if shard == slow {
					blocked += n
				} else {
					other += n
				}
			}
			return blocked, other
		}
		w := f.start(t, func(ctx context.Context, e outbox.Event[orderCreated]) error {
			r, _ := outbox.RecordFromContext(ctx)
			f.mu.Lock()
			if slow == "" {
				slow = r.ShardID
			}
			waits := slow == r.ShardID && waiting <= room/2 // one more than there can be holes
			if waits {
				waiting++
			}
			f.mu.Unlock()
			if waits {
				<-release
			}
			f.note(t, e)
			f.mu.Lock()
			defer f.mu.Unlock()
			handled[r.ShardID]++
			return nil
		}, outbox.WithMaxUnfinished(room), outbox.WithBatchSize(batch))
		ids := f.put(t, "a", 300, 1) // each of an aggregate of its own
		time.Sleep(5 * time.Minute)
		blocked, other := count()
		require.Less(t, blocked, room+batch) // the slow ones may have been overtaken by others of their batch
		require.Greater(t, other, 2*room)
		close(release)
		f.await(t, "all handled", time.Minute, f.all(ids))
		require.NoError(t, w.stop())
		f.requireTimes(t, 1, ids)
		_, all := count()
		require.Equal(t, all, other, "the other shard had nothing left to do")
	})
}
