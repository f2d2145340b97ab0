package lease

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWhatALookSays(t *testing.T) {
	view := View{
		Leases: []Lease{{Shard: Shard{ID: "s-1"}, Owner: "left"}},
		Workers: []Worker{{ID: "me", Beat: 3, Moves: 4}, {ID: "other", Beat: 5, Moves: 6}, {ID: "new", Moves: 1}, {ID: "dead", Beat: 9, Moves: 2, Dead: true},
			{ID: "left", Beat: 9, Moves: 2, Dead: true}},
	}
	for name, c := range map[string]struct {
		change func(rows map[string]*Worker)
		says   bool
	}{
		"nothing new":                         {func(map[string]*Worker) {}, false},
		"beats":                               {func(rows map[string]*Worker) { rows["other"].Beat, rows["me"].Beat = 6, 4 }, false},
		"moves":                               {func(rows map[string]*Worker) { rows["other"].Moves = 7 }, true},
		"my own moves":                        {func(rows map[string]*Worker) { rows["me"].Moves = 7 }, false},
		"my row says that I am able again":    {func(rows map[string]*Worker) { rows["me"].Unable = true }, true},
		"my row says that I refuse a shard":   {func(rows map[string]*Worker) { rows["me"].Refuses = []string{"s-1"} }, true},
		"an old row":                          {func(rows map[string]*Worker) { rows["other"].Beat, rows["other"].Moves = 4, 5 }, false},
		"a first beat":                        {func(rows map[string]*Worker) { rows["new"].Beat = 1 }, true},
		"a worker that stops":                 {func(rows map[string]*Worker) { rows["other"].Draining = true }, true},
		"a worker that died":                  {func(rows map[string]*Worker) { rows["other"].Dead = true }, true},
		"a dead one's old row":                {func(rows map[string]*Worker) { rows["dead"].Dead = false }, false},
		"a worker more":                       {func(rows map[string]*Worker) { rows["more"] = &Worker{ID: "more", Moves: 1} }, true},
		"a worker less":                       {func(rows map[string]*Worker) { delete(rows, "other") }, true},
		"my own row is missing":               {func(rows map[string]*Worker) { delete(rows, "me") }, true},
		"a dead one less":                     {func(rows map[string]*Worker) { delete(rows, "dead") }, false},
		"a dead one less that has still some": {func(rows map[string]*Worker) { delete(rows, "left") }, true},
		"nobody":                              {func(rows map[string]*Worker) { clear(rows) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			rows := map[string]*Worker{}
			for _, w := range view.Workers {
				rows[w.ID] = &w
			}
			c.change(rows)
			var looked []Worker
			for _, w := range rows {
				looked = append(looked, *w)
			}
			require.Equal(t, c.says, newRest(view, time.Now()).stirred(looked, "me"))
		})
	}
}

// oldRelease is the table as a worker of a release without Moves uses it.
type oldRelease struct{ Store }

func (o oldRelease) Register(ctx context.Context, worker string, duration time.Duration) error {
	if err := o.Store.Register(ctx, worker, duration); err != nil {
		return err
	}
	m := o.Store.(*wire).Store.(*Memory)
	defer m.lock()()
	m.workers[worker].Moves = 0
	return nil
}

func (o oldRelease) Beat(ctx context.Context, w Worker) error {
	w.Moves = 0
	return o.Store.Beat(ctx, w)
}

// ends makes the reader of s-0000 end the shard when end is closed, with children.
func (f *fleet) ends(end <-chan struct{}, children []Shard) func(*Config) {
	return func(c *Config) {
		consume := c.Consume
		c.Consume = func(ctx context.Context, h *Held) error {
			if h.Shard().ID != "s-0000" {
				return consume(ctx, h)
			}
			reading, stop := context.WithCancel(ctx)
			defer stop()
			go func() {
				select {
				case <-end:
					stop()
				case <-reading.Done():
				}
			}()
			if err := consume(reading, h); ctx.Err() != nil || reading.Err() == nil {
				return err
			}
			return h.End(ctx, nil, children)
		}
	}
}

// While a worker of an old release runs, the new ones take a view with every tick, so they see what it changes. Afterwards they rest.
func TestAnOldReleaseBesideANewOne(t *testing.T) {
	bubble(t, 2, func(t *testing.T, f *fleet) {
		end, children := make(chan struct{}), childrenOf("s-0000", 3)
		old := f.start(func(c *Config) {
			c.Store = oldRelease{c.Store}
			f.ends(end, children)(c)
		})
		f.balance(time.Second, old)
		young := f.start(f.ends(nil, nil))
		f.balance(2*time.Second, old, young)
		time.Sleep(5 * time.Second)
		young.wire.takeCalls()
		time.Sleep(10 * time.Second)
		calls := young.wire.takeCalls()
		require.Zero(t, calls["Look"])
		require.InDelta(t, 20, calls["View"], 2, "one view a tick: %v", calls)

		f.mu.Lock()
		oldReads := f.reader["s-0000"] == old
		f.mu.Unlock()
		if oldReads {
			f.set(append(slices.Clone(children), f.shards[1:]...))
			close(end)
			f.balance(750*time.Millisecond, old, young)
		}

		_, err := f.stopOne(old)
		require.NoError(t, err)
		time.Sleep(time.Minute)
		young.wire.takeCalls()
		time.Sleep(10 * time.Second)
		calls = young.wire.takeCalls()
		require.InDelta(t, 20, calls["Look"], 2, "%v", calls)
		require.LessOrEqual(t, calls["View"], 1)
	})
}

// moves returns the sum of all workers' moves.
func (f *fleet) moves() (sum int64) {
	looked, err := f.table.Look(context.Background())
	require.NoError(f.t, err)
	for _, w := range looked {
		sum += w.Moves
	}
	return sum
}

func childrenOf(shard string, n int) (children []Shard) {
	for i := range n {
		children = append(children, Shard{ID: fmt.Sprint(shard, "-", i), Parents: []string{shard}})
	}
	return children
}

// A shard ends under one worker, and another worker is to have some of the children. It hears of them within a tick, from the beat
// that follows at once, and if this beat is lost, from the next.
func TestAChangeIsToldAtOnceAndAgain(t *testing.T) {
	for name, lost := range map[string]bool{"at once": false, "again": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 2, func(t *testing.T, f *fleet) {
				end, children := make(chan struct{}), childrenOf("s-0000", 3)
				a, b := f.start(f.ends(end, children)), f.start(f.ends(end, children))
				f.balance(5*time.Second, a, b)
				time.Sleep(11 * time.Second)
				f.set(append(slices.Clone(children), f.shards[1:]...))
				a.wire.loseBeat(lost)
				b.wire.loseBeat(lost)
				before := f.moves()
				close(end)
				if !lost {
					time.Sleep(100 * time.Millisecond)
					require.NotEqual(t, before, f.moves(), "nobody was told")
				}
				f.balance(time.Second, a, b)
				require.Len(t, f.rows(), 5)
			})
		})
	}
}

// A lease whose creation is carried out long after it was sent, when the others have looked, is told of once more.
func TestALateLeaseIsToldOf(t *testing.T) {
	bubble(t, 3, func(t *testing.T, f *fleet) {
		var all atomic.Bool
		more := append(slices.Clone(f.shards), Shard{ID: "s-new"})
		a := f.start(func(c *Config) {
			c.List = 5 * time.Second
			c.Store = &lateEnsure{Store: c.Store, late: &all}
			c.Shards = func(context.Context) ([]Shard, error) {
				if all.Load() {
					return more, nil
				}
				return more[:3], nil
			}
		})
		f.balance(time.Second, a)
		b := f.start(func(c *Config) { c.Shards = func(context.Context) ([]Shard, error) { return more[:3], nil } })
		f.balance(3*time.Second, a, b) // a has two leases and b has one, so the new one is for b
		time.Sleep(12 * time.Second)
		all.Store(true)
		f.set(more)
		f.balance(10*time.Second, a, b)
	})
}

// lateEnsure gives no answer to the first Ensure of a shard, and carries it out 1.9 s later. It carries out no other.
type lateEnsure struct {
	Store
	late  *atomic.Bool
	tried sync.Map
}

func (l *lateEnsure) Ensure(ctx context.Context, shard Shard, position string) error {
	if !l.late.Load() {
		return l.Store.Ensure(ctx, shard, position)
	}
	if _, again := l.tried.LoadOrStore(shard.ID, true); again {
		return ErrRefused
	}
	time.AfterFunc(1900*time.Millisecond, func() { _ = l.Store.Ensure(context.Background(), shard, position) })
	<-ctx.Done()
	return ctx.Err()
}

// A look may show an earlier beat than the look before. This is no sign of life.
func TestAnEarlierBeatIsNoSignOfLife(t *testing.T) {
	w, began := newWatch(8*time.Second), time.Now()
	seen := func(beat int64, after time.Duration) map[string]bool {
		at := began.Add(after)
		w.see(View{Workers: []Worker{{ID: "other", Beat: beat}}}, "me", at)
		return w.suspects(at)
	}
	require.Empty(t, seen(5, 0))
	require.Empty(t, seen(4, 4*time.Second))
	require.Empty(t, seen(5, 8*time.Second))
	require.Contains(t, seen(5, 8250*time.Millisecond), "other")
	require.Empty(t, seen(6, 8300*time.Millisecond))
}

// In a large fleet looks come half as often, which costs a death no more than half a second.
func TestALargeFleetLooksLessOften(t *testing.T) {
	l := &life{cfg: Config{Tick: 500 * time.Millisecond}}
	for workers, want := range map[int]time.Duration{0: 500, 1: 500, 50: 500, 60: 600, 100: 1000, 1000: 1000} {
		require.Equal(t, want*time.Millisecond, l.pace(workers), "%d workers", workers)
	}
}

// Rows of shards that are gone stay for some hours, and no more than a thousand of them, however fast shards come and go.
func TestMemoryForgetsShardsThatAreGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &Memory{}
		gone := func(id string) {
			require.NoError(t, m.Ensure(t.Context(), Shard{ID: id}, ShardEnd))
			require.NoError(t, m.Miss(t.Context(), Lease{Shard: Shard{ID: id}}, "w"))
			require.NoError(t, m.Gone(t.Context(), Lease{Shard: Shard{ID: id}, Missing: "w"}))
		}
		require.NoError(t, m.Ensure(t.Context(), Shard{ID: "open"}, TrimHorizon))
		gone("first")
		time.Sleep(goneFor - time.Second)
		gone("second")
		require.NoError(t, m.Revive(t.Context(), Lease{Shard: Shard{ID: "second"}}))
		gone("second")
		require.Len(t, m.leases, 3, "a listing may still have the shard")
		time.Sleep(time.Second)
		gone("third")
		require.Len(t, m.leases, 3)
		require.NotContains(t, m.leases, "first")
		require.NoError(t, m.Revive(t.Context(), Lease{Shard: Shard{ID: "third"}}))
		time.Sleep(goneFor)
		gone("fourth")
		require.Contains(t, m.leases, "third", "it was listed again")
		require.NotContains(t, m.leases, "second")
		gone("third")
		for i := range 3 * goneMost {
			gone(fmt.Sprint("s-", i))
		}
		require.Len(t, m.leases, 1+goneMost)
		require.Contains(t, m.leases, "open")
	})
}
