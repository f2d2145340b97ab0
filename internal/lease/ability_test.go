package lease

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

var errDenied = errors.New("access denied")

// answers makes a member's Consume get an answer every second, or fail as broken says.
func (f *fleet) answers(broken func(shard string) error) func(*Config) {
	return func(c *Config) {
		plain := c.Consume
		c.Consume = func(ctx context.Context, h *Held) error {
			if err := broken(h.Shard().ID); err != nil {
				return err
			}
			reading, stop := context.WithCancel(ctx)
			var wg sync.WaitGroup
			wg.Go(func() {
				for h.Reading(broken(h.Shard().ID)); sleep(reading, time.Second); {
					h.Reading(broken(h.Shard().ID))
				}
			})
			defer wg.Wait()
			defer stop()
			return plain(ctx, h)
		}
	}
}

func healthy(string) error { return nil }

// complaints counts what Unable tells.
func complaints(n *atomic.Int64) func(*Config) {
	return func(c *Config) { c.Hooks.Unable = func(error) { n.Add(1) } }
}

// all is several changes.
func all(changes ...func(*Config)) func(*Config) {
	return func(c *Config) {
		for _, change := range changes {
			change(c)
		}
	}
}

func deaf(c *Config) { c.Shards = func(context.Context) ([]Shard, error) { return nil, errDenied } }

// A worker that cannot list the stream gets nothing beside a worker that can, and says so every minute. When it is alone it reads what
// it can. When its listings succeed, it gets its share.
func TestAWorkerThatCannotListGetsNothing(t *testing.T) {
	bubble(t, 6, func(t *testing.T, f *fleet) {
		a := f.start(f.answers(healthy))
		var told atomic.Int64
		f.balance(time.Minute, a)
		var mu sync.Mutex
		repaired := false
		b := f.start(all(f.answers(healthy), complaints(&told), func(c *Config) {
			c.Shards = func(ctx context.Context) ([]Shard, error) {
				mu.Lock()
				defer mu.Unlock()
				if !repaired {
					return nil, errDenied
				}
				return f.list(ctx)
			}
		}))
		for range 10 {
			time.Sleep(time.Minute)
			synctest.Wait()
			f.balance(0, a)
		}
		require.InDelta(t, 10, told.Load(), 1)
		_, err := f.stopOne(a)
		require.NoError(t, err)
		f.balance(5*time.Second, b)
		a = f.start(f.answers(healthy))
		f.balance(5*time.Second, a)
		mu.Lock()
		repaired = true
		mu.Unlock()
		f.balance(65*time.Second, a, b)
		for id, row := range f.rows() {
			require.NotEmpty(t, row.Owner, id)
		}
	})
}

// A worker whose listings have begun to fail keeps its leases for two minutes: an outage of the listing alone is no reason to move.
func TestAWorkerThatCannotListAnyMoreGivesUp(t *testing.T) {
	bubble(t, 6, func(t *testing.T, f *fleet) {
		var mu sync.Mutex
		var since time.Time
		a := f.start(f.answers(healthy))
		b := f.start(all(f.answers(healthy), func(c *Config) {
			c.Shards = func(ctx context.Context) ([]Shard, error) {
				mu.Lock()
				defer mu.Unlock()
				if since.IsZero() {
					return f.list(ctx)
				}
				return nil, errDenied
			}
		}))
		f.balance(time.Minute, a, b)
		mu.Lock()
		since = time.Now()
		mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		f.balance(0, a, b)
		f.balance(2*time.Minute, a)
	})
}

// A worker that can read no shard gives all up after two minutes. It tries again after five minutes, and then after ten.
func TestAWorkerThatCannotReadGivesUp(t *testing.T) {
	bubble(t, 6, func(t *testing.T, f *fleet) {
		a := f.start(f.answers(healthy))
		var told atomic.Int64
		f.balance(time.Minute, a)
		began := time.Now()
		f.start(all(f.answers(func(string) error { return errDenied }), complaints(&told)))
		f.balance(2*time.Second+150*time.Second, a)
		unread := 0 // minutes in which some shard was not read
		for range 60 {
			time.Sleep(time.Minute)
			synctest.Wait()
			if _, _, whole := f.spread(a); !whole {
				unread++
			}
		}
		require.Less(t, unread, 10, "the worker gets shards too often")
		require.Greater(t, unread, 1, "the worker does not try again")
		require.Greater(t, told.Load(), int64(40))
		require.Less(t, time.Since(began), 2*time.Hour)
	})
}

// A shard that nobody can read costs the other shards nothing: it goes from one worker to the next, and they stay where they are read.
func TestAShardThatNobodyCanRead(t *testing.T) {
	bubble(t, 6, func(t *testing.T, f *fleet) {
		broken := func(shard string) error {
			if shard == "s-0003" {
				return errDenied
			}
			return nil
		}
		var told atomic.Int64
		for range 3 {
			f.start(all(f.answers(broken), complaints(&told)))
		}
		time.Sleep(10 * time.Second)
		owners := map[string]bool{}
		for range 60 {
			time.Sleep(time.Minute)
			synctest.Wait()
			f.mu.Lock()
			read := len(f.reader)
			f.mu.Unlock()
			require.GreaterOrEqual(t, read, 5, "a shard that can be read is not")
			owners[f.rows()["s-0003"].Owner] = true
		}
		require.Zero(t, told.Load())
		require.GreaterOrEqual(t, len(owners), 3, "not every worker has tried: %v", owners)
		for id, row := range f.rows() {
			require.NotEmpty(t, row.Owner, id)
			require.Less(t, row.Fence, int64(60), "%s moves all the time", id)
		}
	})
}

// A shard that one worker cannot read, though it reads others, goes to another worker and stays there.
func TestAShardThatOneWorkerCannotRead(t *testing.T) {
	bubble(t, 6, func(t *testing.T, f *fleet) {
		a := f.start(f.answers(func(shard string) error {
			if shard == "s-0003" {
				return errDenied
			}
			return nil
		}))
		f.reads(t, 10*time.Second, a, 5)
		b := f.start(f.answers(healthy))
		time.Sleep(4 * time.Minute)
		synctest.Wait()
		f.balance(0, a, b)
		f.mu.Lock()
		reader := f.reader["s-0003"]
		f.mu.Unlock()
		require.Same(t, b, reader)
	})
}

// reads waits until a member reads so many shards.
func (f *fleet) reads(t *testing.T, limit time.Duration, m *member, shards int) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		if _, most, _ := f.spread(m); most == shards {
			return
		}
		require.Less(t, time.Since(began), limit)
	}
}

// If nobody can list the stream, all read what they can.
func TestAFleetThatCannotListReadsOn(t *testing.T) {
	bubble(t, 6, func(t *testing.T, f *fleet) {
		first := f.start(f.answers(healthy))
		f.balance(time.Minute, first)
		_, err := f.stopOne(first)
		require.NoError(t, err)
		a, b := f.start(all(f.answers(healthy), deaf)), f.start(all(f.answers(healthy), deaf))
		f.balance(time.Minute, a, b)
		time.Sleep(time.Hour)
		synctest.Wait()
		f.balance(0, a, b)
	})
}

// blinded is a table of which one worker may not read what is in it.
type blinded struct {
	Store
	denied *atomic.Bool
}

func (b *blinded) refuse() error {
	if b.denied.Load() {
		return Denied(errDenied)
	}
	return nil
}

func (b *blinded) View(ctx context.Context) (View, error) {
	if err := b.refuse(); err != nil {
		return View{}, err
	}
	return b.Store.View(ctx)
}

func (b *blinded) Look(ctx context.Context) ([]Worker, error) {
	if err := b.refuse(); err != nil {
		return nil, err
	}
	return b.Store.Look(ctx)
}

// A worker that beats and may not look at the table leaves its shards to the others, and takes part again when it may.
func TestAWorkerThatMayNotLookGivesUp(t *testing.T) {
	bubble(t, 6, func(t *testing.T, f *fleet) {
		var denied atomic.Bool
		a := f.start(f.answers(healthy))
		b := f.start(all(f.answers(healthy), func(c *Config) { c.Store = &blinded{c.Store, &denied} }))
		f.balance(time.Minute, a, b)
		denied.Store(true)
		time.Sleep(2*time.Minute + 20*time.Second)
		has, _, whole := f.spread(a)
		require.True(t, whole)
		require.Equal(t, 6, has)
		denied.Store(false)
		f.balance(time.Minute, a, b)
	})
}
