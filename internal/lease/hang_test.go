package lease

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// hanging is a fleet's member of which one Consume, of s-0000 at its first fence, ignores everything until it is let go.
type hanging struct {
	*member
	let   chan struct{}
	letGo func() // closes let; any number of times

	mu      sync.Mutex
	waits   []time.Duration // as told by Waiting
	fences  []int64         // at which s-0000 was read
	names   []string
	retired []string
}

func (f *fleet) startHanging() *hanging {
	h := &hanging{let: make(chan struct{})}
	h.letGo = sync.OnceFunc(func() { close(h.let) })
	h.member = f.start(func(c *Config) {
		plain := c.Consume
		c.Consume = func(ctx context.Context, held *Held) error {
			if held.Shard().ID == "s-0000" {
				h.mu.Lock()
				h.fences = append(h.fences, held.Fence())
				h.mu.Unlock()
				if held.Fence() == 1 {
					<-h.let
					return ctx.Err()
				}
			}
			return plain(ctx, held)
		}
		c.Hooks.Registered = func(worker string) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.names = append(h.names, worker)
		}
		c.Hooks.Waiting = func(shard string, fence int64, d time.Duration) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.waits = append(h.waits, d)
		}
	})
	h.wire.onRetire = func(worker string) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.retired = append(h.retired, worker)
	}
	return h
}

// A worker that was fenced takes part again at once, and reads all shards, also the one in which a handler of its last life hangs. It
// tells every minute what it waits for, retires its old name when nothing of it runs, and Run waits for that.
func TestAFencedWorkerDoesNotWaitForAHungHandler(t *testing.T) {
	bubble(t, 3, func(t *testing.T, f *fleet) {
		h := f.startHanging()
		defer h.letGo()
		time.Sleep(3 * time.Second)
		h.wire.setCut(true)
		time.Sleep(12 * time.Second)
		h.wire.setCut(false)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		require.Len(t, h.names, 2)
		f.balance(0, h.member)
		for id, row := range f.rows() {
			require.Equal(t, h.names[1], row.Owner, id)
		}
		require.Equal(t, []int64{1, 2}, h.fences)
		require.Empty(t, h.retired)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		require.Len(t, h.names, 2)
		require.Len(t, h.waits, 10)
		require.Equal(t, 10*time.Minute, h.waits[9].Round(time.Second))

		h.cancel()
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		select {
		case <-h.done:
			require.Fail(t, "Run has returned while a handler runs")
		default:
		}
		require.Len(t, h.waits, 15, "it is told after a stop, too")
		require.Equal(t, h.names[1:], h.retired)
		h.letGo()
		require.NoError(t, <-h.done)
		h.done = nil
		require.Equal(t, []string{h.names[1], h.names[0]}, h.retired)
	})
}

// A shard that is to be handed over, and whose handler hangs, is handed over after Drain.
func TestAHungHandlerDoesNotKeepItsShard(t *testing.T) {
	bubble(t, 2, func(t *testing.T, f *fleet) {
		h := f.startHanging()
		defer h.letGo()
		time.Sleep(3 * time.Second)
		f.set(f.shards[:1])
		other := f.start(nil)
		time.Sleep(5 * time.Second)
		h.mu.Lock()
		name := h.names[0]
		h.mu.Unlock()
		require.NoError(t, f.table.Want(t.Context(), f.rows()["s-0000"], func() string {
			v, err := f.table.View(t.Context())
			require.NoError(t, err)
			i := slices.IndexFunc(v.Workers, func(w Worker) bool { return w.ID != name })
			return v.Workers[i].ID
		}()))
		time.Sleep(65 * time.Second)
		synctest.Wait()
		f.mu.Lock()
		reader := f.reader["s-0000"]
		f.mu.Unlock()
		require.Same(t, other, reader)
		require.NotEqual(t, name, f.rows()["s-0000"].Owner)
		require.EqualValues(t, 2, f.rows()["s-0000"].Fence)
		require.Len(t, h.waits, 1)
		h.letGo()
	})
}

// A lease that another worker has taken is acquired again as soon as it falls to this worker, though a handler still hangs.
func TestALostLeaseWithAHungHandlerIsReadAgain(t *testing.T) {
	bubble(t, 1, func(t *testing.T, f *fleet) {
		h := f.startHanging()
		defer h.letGo()
		time.Sleep(3 * time.Second)
		_, err := f.table.Acquire(t.Context(), f.rows()["s-0000"], "thief") // who has no row, and is dead
		require.NoError(t, err)
		time.Sleep(2 * time.Minute) // nobody tells of what the thief has done
		synctest.Wait()
		f.balance(0, h.member)
		require.Equal(t, []int64{1, 3}, h.fences)
		h.letGo()
	})
}
