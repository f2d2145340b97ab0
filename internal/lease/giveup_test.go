package lease

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A lease is not handed to a worker that wanted it and has died since.
func TestALeaseIsNotHandedToTheDead(t *testing.T) {
	bubble(t, 2, func(t *testing.T, f *fleet) {
		var mu sync.Mutex
		var released []string
		f.start(func(c *Config) {
			plain := c.Consume
			c.Consume = func(ctx context.Context, h *Held) error {
				err := plain(ctx, h)
				if h.Fence() == 1 {
					time.Sleep(12 * time.Second)
				}
				return err
			}
			c.Hooks.Released = func(_ string, _ int64, to string) {
				mu.Lock()
				defer mu.Unlock()
				released = append(released, to)
			}
		})
		time.Sleep(3 * time.Second)
		synctest.Wait()
		b := f.start(nil)
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		f.kill(b)
		time.Sleep(15 * time.Second)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, []string{""}, released)
	})
}

// odd is a table that loses the first releases, and whose views take so long that releases overtake them.
type odd struct {
	Store
	mu       sync.Mutex
	lose     int
	viewing  bool
	releases []string
}

func (o *odd) Release(ctx context.Context, key Key, to string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.releases = append(o.releases, to)
	if o.lose--; o.lose >= 0 {
		return errors.New("connection reset by peer")
	}
	for !o.viewing {
		o.mu.Unlock()
		time.Sleep(time.Millisecond)
		o.mu.Lock()
	}
	return o.Store.Release(ctx, key, to)
}

func (o *odd) View(ctx context.Context) (View, error) {
	o.mu.Lock()
	v, err := o.Store.View(ctx)
	o.viewing = true
	o.mu.Unlock()
	time.Sleep(90 * time.Millisecond)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.viewing = false
	return v, err
}

// A release to the worker that wants the lease is one write, and a view from before it does not undo it.
func TestAReleaseIsRepeatedAndNeverForgotten(t *testing.T) {
	bubble(t, 2, func(t *testing.T, f *fleet) {
		var mu sync.Mutex
		starts := map[string][]int64{}
		store := &odd{Store: &f.table, lose: 2}
		a := f.start(func(c *Config) {
			c.Store = store
			c.Hooks.Gained = func(shard string, fence int64) {
				mu.Lock()
				defer mu.Unlock()
				starts[shard] = append(starts[shard], fence)
			}
		})
		time.Sleep(3 * time.Second)
		synctest.Wait()
		var name string
		b := f.start(func(c *Config) { c.Hooks.Registered = func(worker string) { name = worker } })
		f.balance(4*time.Second, a, b)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		f.balance(0, a, b)
		require.Equal(t, []string{name, name, name}, store.releases)
		for shard, fences := range starts {
			require.Equal(t, []int64{1}, fences, "shard %s was started again", shard)
		}
	})
}

// No reader runs when a worker retires, because from then on other workers may read its shards.
func TestNoReaderRunsWhenAWorkerRetires(t *testing.T) {
	bubble(t, 2, func(t *testing.T, f *fleet) {
		var mu sync.Mutex
		reading := map[string]int{} // by the worker's name
		m := f.start(func(c *Config) {
			plain := c.Consume
			c.Consume = func(ctx context.Context, h *Held) error {
				mu.Lock()
				reading[h.Worker()]++
				mu.Unlock()
				err := plain(ctx, h)
				time.Sleep(time.Second) // a handler that is slow to notice
				mu.Lock()
				reading[h.Worker()]--
				mu.Unlock()
				return err
			}
		})
		m.wire.onRetire = func(worker string) {
			mu.Lock()
			defer mu.Unlock()
			require.Zero(t, reading[worker])
		}
		f.balance(3*time.Second, m)
		v, err := f.table.View(t.Context())
		require.NoError(t, err)
		require.NoError(t, f.table.MarkDead(t.Context(), v.Workers[0].ID, v.Workers[0].Beat))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		m.wire.mu.Lock()
		defer m.wire.mu.Unlock()
		require.Equal(t, 1, m.wire.calls["Retire"])
	})
}

// A reader that starts again never moves the checkpoint back, even if the answer to its last save was lost.
func TestAReaderThatStartsAgainNeverMovesTheCheckpointBack(t *testing.T) {
	bubble(t, 1, func(t *testing.T, f *fleet) {
		var mu sync.Mutex
		var starts []string
		f.start(func(c *Config) {
			c.Consume = func(ctx context.Context, h *Held) error {
				mu.Lock()
				starts = append(starts, h.Progress().Checkpoint)
				n := len(starts)
				mu.Unlock()
				if n == 1 {
					brief, cancel := context.WithTimeout(ctx, time.Millisecond)
					defer cancel()
					return h.Save(brief, Progress{Checkpoint: "8"})
				}
				<-h.Stop()
				return nil
			}
		})
		time.Sleep(5 * time.Second)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, []string{TrimHorizon, "8"}, starts)
	})
}

// doubled is a table at which a copy of each release arrives half a second before the release.
type doubled struct{ Store }

func (d *doubled) Release(ctx context.Context, key Key, to string) error {
	if err := d.Store.Release(ctx, key, ""); err != nil {
		return err
	}
	time.Sleep(500 * time.Millisecond)
	return d.Store.Release(ctx, key, to)
}

// A release may be refused because a copy came first and another worker has acquired the lease since. This is no loss.
func TestAReleaseThatComesTwiceIsARelease(t *testing.T) {
	bubble(t, 1, func(t *testing.T, f *fleet) {
		var told []string
		a := f.start(func(c *Config) {
			c.Store, c.Beat, c.Duration = &doubled{&f.table}, 4*time.Second, 16*time.Second
			c.Hooks.Released = func(string, int64, string) { told = append(told, "released") }
			c.Hooks.Lost = func(string, int64, error) { told = append(told, "lost") }
		})
		time.Sleep(3 * time.Second)
		synctest.Wait()
		f.start(func(c *Config) { c.Tick = 100 * time.Millisecond })
		time.Sleep(time.Second)
		a.cancel()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.Equal(t, []string{"released"}, told)
	})
}

// lingering is a table that answers acquisitions late.
type lingering struct{ Store }

func (l *lingering) Acquire(ctx context.Context, seen Lease, worker string) (Lease, error) {
	row, err := l.Store.Acquire(ctx, seen, worker)
	time.Sleep(500 * time.Millisecond)
	return row, err
}

// A lease that is acquired while the worker begins to stop is given back, and the hooks hear nothing of it.
func TestAClaimThatComesTooLateIsNotTold(t *testing.T) {
	bubble(t, 1, func(t *testing.T, f *fleet) {
		var told []string
		m := f.start(func(c *Config) {
			c.Store = &lingering{&f.table}
			c.Hooks.Gained = func(string, int64) { told = append(told, "gained") }
			c.Hooks.Released = func(string, int64, string) { told = append(told, "released") }
			c.Hooks.Lost = func(string, int64, error) { told = append(told, "lost") }
		})
		for deadline := time.Now().Add(5 * time.Second); f.rows()["s-0000"].Fence == 0; time.Sleep(time.Millisecond) {
			require.True(t, time.Now().Before(deadline))
		}
		m.cancel()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.Empty(t, told)
		require.Empty(t, f.rows()["s-0000"].Owner)
	})
}
