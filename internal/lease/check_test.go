package lease

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// answering is a table whose answers something changes on the way.
type answering struct {
	Store
	mu      sync.Mutex
	view    func(*View)
	acquire func(*Lease)
	begin   func(*string)
}

func (a *answering) View(ctx context.Context) (View, error) {
	v, err := a.Store.View(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.view != nil && err == nil {
		a.view(&v)
	}
	return v, err
}

func (a *answering) Acquire(ctx context.Context, seen Lease, worker string) (Lease, error) {
	l, err := a.Store.Acquire(ctx, seen, worker)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.acquire != nil && err == nil {
		a.acquire(&l)
	}
	return l, err
}

func (a *answering) Begin(ctx context.Context, position string) (string, error) {
	position, err := a.Store.Begin(ctx, position)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.begin != nil && err == nil {
		a.begin(&position)
	}
	return position, err
}

// An answer of the table that lacks something is told, and costs no lease: the worker reads on, at the same fence.
func TestAViewThatLacksSomethingIsNoView(t *testing.T) {
	for name, odd := range map[string]struct {
		times int
		view  func(*View)
	}{
		"everything":       {10, func(v *View) { *v = View{} }},
		"the workers":      {10, func(v *View) { v.Workers = nil }},
		"the checkpoints":  {10, func(v *View) { v.Leases[0].Checkpoint = "" }},
		"the fences":       {10, func(v *View) { v.Leases[0].Fence = 0 }},
		"a shard's id":     {10, func(v *View) { v.Leases[0].ID = "" }},
		"what is new":      {10, func(v *View) { v.Workers[0].Beat -= 2 }},
		"one lease, once":  {1, func(v *View) { v.Leases = v.Leases[1:] }},
		"all leases, once": {1, func(v *View) { v.Leases = nil }},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 3, func(t *testing.T, f *fleet) {
				store := &answering{Store: &f.table}
				var troubles, lost int
				m := f.start(func(c *Config) {
					c.Store = store
					c.Hooks.Trouble = func(op string, err error) {
						require.Equal(t, "View", op)
						troubles++
					}
					c.Hooks.Lost = func(string, int64, error) { lost++ }
				})
				f.balance(time.Minute, m)
				time.Sleep(10 * time.Second)
				left := odd.times
				store.mu.Lock()
				store.view = func(v *View) {
					if left--; left >= 0 {
						odd.view(v)
					}
				}
				store.mu.Unlock()
				time.Sleep(time.Minute)
				synctest.Wait()
				store.mu.Lock()
				defer store.mu.Unlock()
				require.Negative(t, left, "the odd views were not all asked for")
				f.balance(0, m)
				require.Zero(t, lost)
				for id, row := range f.rows() {
					require.EqualValues(t, 1, row.Fence, id)
				}
				if odd.times > 1 {
					require.Equal(t, odd.times, troubles)
				}
			})
		})
	}
}

// A lease whose row is missing from two views is given up: somebody has deleted the row.
func TestALeaseThatTwoViewsLackIsLost(t *testing.T) {
	bubble(t, 1, func(t *testing.T, f *fleet) {
		store := &answering{Store: &f.table}
		var lost []string
		m := f.start(func(c *Config) {
			c.Store = store
			c.Hooks.Lost = func(shard string, _ int64, _ error) { lost = append(lost, shard) }
		})
		f.balance(time.Minute, m)
		store.mu.Lock()
		store.view = func(v *View) { v.Leases = nil }
		store.mu.Unlock()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, []string{"s-0000"}, lost)
	})
}

// A position that an answer lacks is asked for again. No lease gets it.
func TestABeginningWithoutAPositionIsAskedForAgain(t *testing.T) {
	bubble(t, 2, func(t *testing.T, f *fleet) {
		asked := 0
		m := f.start(func(c *Config) {
			c.Store = &answering{Store: &f.table, begin: func(position *string) {
				if asked++; asked <= 2 {
					*position = ""
				}
			}}
		})
		f.balance(time.Minute, m)
		require.Equal(t, 3, asked)
		for id, row := range f.rows() {
			require.Equal(t, TrimHorizon, row.Checkpoint, id)
		}
	})
}

// An acquisition whose answer lacks something is not believed. The next view has the row, and the reader starts at its checkpoint.
func TestAnAcquisitionIsReadAgain(t *testing.T) {
	for name, odd := range map[string]func(*Lease){
		"everything":   func(l *Lease) { *l = Lease{} },
		"a checkpoint": func(l *Lease) { l.Checkpoint = "" },
		"the fence":    func(l *Lease) { l.Fence = 0 },
		"the owner":    func(l *Lease) { l.Owner = "" },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 2, func(t *testing.T, f *fleet) {
				var mu sync.Mutex
				var starts []Progress
				m := f.start(func(c *Config) {
					c.Store = &answering{Store: &f.table, acquire: odd}
					plain := c.Consume
					c.Consume = func(ctx context.Context, h *Held) error {
						mu.Lock()
						starts = append(starts, h.Progress())
						mu.Unlock()
						return plain(ctx, h)
					}
				})
				f.balance(time.Minute, m)
				require.Equal(t, []Progress{{Checkpoint: TrimHorizon}, {Checkpoint: TrimHorizon}}, starts)
			})
		})
	}
}

func TestProgressWithoutACheckpointIsNotStored(t *testing.T) {
	bubble(t, 1, func(t *testing.T, f *fleet) {
		var err error
		m := f.start(func(c *Config) {
			plain := c.Consume
			c.Consume = func(ctx context.Context, h *Held) error {
				err = h.Save(ctx, Progress{})
				return plain(ctx, h)
			}
		})
		f.balance(time.Minute, m)
		require.ErrorIs(t, err, errNoCheckpoint)
		require.Equal(t, TrimHorizon, f.rows()["s-0000"].Checkpoint)
	})
}
