package outbox_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// A worker whose clock is wrong begins where a worker with a right clock begins, and says how old records are by the stream's clock.
func TestAWorkersClockIsNotTheStreams(t *testing.T) {
	for _, ahead := range []time.Duration{0, 5 * time.Minute, 30 * time.Minute, -5 * time.Minute} {
		t.Run(fmt.Sprint(ahead), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := newFleet(t, outboxtest.WithClock(func() time.Time { return time.Now().Add(-ahead) }))
				defer f.Close()
				old := f.put(t, "old", 2, 2)
				require.NoError(t, f.Drain(t.Context()))
				time.Sleep(3 * time.Second)
				var oldest atomic.Int64
				w := f.start(t, func(_ context.Context, e outbox.Event[orderCreated]) error { f.note(t, e); return nil },
					outbox.StartAtLatest(), outbox.WithWorkerHooks(outbox.WorkerHooks{
						Status:  func(s outbox.ShardStatus) { oldest.Store(max(oldest.Load(), int64(s.Age))) },
						Retried: func(shard string, _ bool, err error) { t.Errorf("shard %s: %v", shard, err) },
					}))
				time.Sleep(2 * time.Second)
				var fresh []string
				for i := range 20 {
					fresh = append(fresh, f.put(t, fmt.Sprintf("fresh%d", i), 2, 1)...)
					time.Sleep(30 * time.Second)
				}
				f.await(t, "all handled", time.Minute, f.all(fresh))
				require.NoError(t, w.stop())
				f.requireTimes(t, 0, old)
				f.requireTimes(t, 1, fresh)
				require.Less(t, time.Duration(oldest.Load()), 5*time.Second)
			})
		})
	}
}
