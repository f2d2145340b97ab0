package outbox_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// A slow handler stops the fetching of its shard, and no other, as long as the Worker has places for handlers left.
func TestOtherShardsGoOnBesideASlowHandler(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		const room, batch = 20, 10
		release := make(chan struct{})
		slow := "" // the shard of the slow handler
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
			first := slow == ""
			if first {
				slow = r.ShardID
			}
			f.mu.Unlock()
			if first {
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
		require.Less(t, blocked, room+batch) // the slow one may have been overtaken by others of its batch
		require.Greater(t, other, 2*room)
		close(release)
		f.await(t, "all handled", time.Minute, f.all(ids))
		require.NoError(t, w.stop())
		f.requireTimes(t, 1, ids)
		_, all := count()
		require.Equal(t, all, other, "the other shard had nothing left to do")
	})
}
