package lease

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Beside a worker whose listing is an old one for ever all shards are read, by whomever.
func TestAWorkerWithAnOldListingHoldsUpNothing(t *testing.T) {
	bubble(t, 4, func(t *testing.T, f *fleet) {
		var mu sync.Mutex
		old := f.shards
		a, b := f.start(f.answers(healthy)), f.start(all(f.answers(healthy), lists(&mu, &old)))
		f.balance(time.Minute, a, b)
		f.set(append(old[:4:4], Shard{ID: "s-0004"}, Shard{ID: "s-0005"}, Shard{ID: "s-0006"}, Shard{ID: "s-0007"}))
		f.balance(70*time.Second, a, b)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		f.balance(0, a, b)
		for id, row := range f.rows() {
			require.False(t, row.Gone, id)
		}
	})
}

// A worker that neither lists nor reads one of its shards, and reads others, hands that shard over.
func TestAShardThatItsOwnerNeitherListsNorReads(t *testing.T) {
	bubble(t, 4, func(t *testing.T, f *fleet) {
		var mu sync.Mutex
		listed, sick := f.shards, ""
		a := f.start(all(lists(&mu, &listed), f.answers(func(shard string) error {
			mu.Lock()
			defer mu.Unlock()
			if shard == sick {
				return errDenied
			}
			return nil
		})))
		b := f.start(f.answers(healthy))
		f.balance(time.Minute, a, b)
		mu.Lock()
		f.mu.Lock()
		for id, reader := range f.reader {
			if reader == a {
				sick = id
			}
		}
		f.mu.Unlock()
		listed = slices.DeleteFunc(slices.Clone(listed), func(s Shard) bool { return s.ID == sick })
		mu.Unlock()
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		f.mu.Lock()
		reader := f.reader[sick]
		f.mu.Unlock()
		require.Same(t, b, reader)
		f.balance(0, a, b)
	})
}

// unseen is a table that a worker writes to, and cannot view.
type unseen struct {
	Store
	now *atomic.Bool
}

func (u unseen) View(ctx context.Context) (View, error) {
	if u.now.Load() {
		return View{}, errDenied
	}
	return u.Store.View(ctx)
}

// A worker whose heartbeats get through and whose views fail would neither acquire what falls to it nor tell anybody. After half a minute
// it says that it is unable, and the others acquire it.
func TestAWorkerThatCannotSeeTheTableGetsNothingMore(t *testing.T) {
	bubble(t, 4, func(t *testing.T, f *fleet) {
		var blind atomic.Bool
		var told atomic.Int64
		a := f.start(f.answers(healthy))
		b := f.start(all(f.answers(healthy), complaints(&told), func(c *Config) { c.Store = unseen{c.Store, &blind} }))
		f.balance(time.Minute, a, b)
		blind.Store(true)
		f.set(append(f.shards[:4:4], Shard{ID: "s-0004"}, Shard{ID: "s-0005"}, Shard{ID: "s-0006"}, Shard{ID: "s-0007"}))
		f.reads(t, 4*time.Minute, a, 6)
		require.Positive(t, told.Load())
		blind.Store(false)
		f.balance(6*time.Minute+10*time.Second, a, b)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		f.balance(0, a, b)
	})
}

// A worker that has just become alone marks nothing as gone that the others have contradicted until now.
func TestAWorkerThatHasJustBecomeAloneMarksNothing(t *testing.T) {
	bubble(t, 4, func(t *testing.T, f *fleet) {
		var mu sync.Mutex
		gone := map[string]int{}
		fewer := f.shards[:3]
		a := f.start(f.answers(healthy))
		b := f.start(all(f.answers(healthy), gones(&mu, gone), lists(&mu, &fewer)))
		f.balance(time.Minute, a, b)
		time.Sleep(20 * time.Minute)
		_, err := f.stopOne(a)
		require.NoError(t, err)
		time.Sleep(2 * time.Minute)
		_, err = f.stopOne(b)
		require.NoError(t, err)
		require.Empty(t, counted(&mu, gone))
	})
}
