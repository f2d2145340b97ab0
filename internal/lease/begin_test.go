package lease

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A group that begins at the latest record decides once when that is. Two generations of shards that it finds in one listing are
// read from this time, and so are shards whose parents nobody knows any more.
func TestLatestIsTheTimeTheGroupBegan(t *testing.T) {
	for name, late := range map[string][]Shard{
		"two generations": {{ID: "a"}, {ID: "b", Parents: []string{"a"}}, {ID: "c", Parents: []string{"b"}}},
		"an orphan":       {{ID: "a"}, {ID: "c", Parents: []string{"b"}}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 0, func(t *testing.T, f *fleet) {
				f.set([]Shard{{ID: "a"}})
				f.start(func(c *Config) { c.Start = Latest })
				time.Sleep(90 * time.Second)
				synctest.Wait()
				began := f.rows()["a"].Checkpoint
				require.True(t, strings.HasPrefix(began, atPrefix), began)
				f.stop()
				f.members = nil
				time.Sleep(24 * time.Hour)
				f.set(late)
				f.start(func(c *Config) { c.Start = Latest })
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				require.Equal(t, began, f.rows()["c"].Checkpoint)
				if len(late) == 3 {
					require.Equal(t, TrimHorizon, f.rows()["b"].Checkpoint)
				}
			})
		})
	}
}

// Workers with different lease durations, as during a deployment that changes it, let each other live: each is dead only after
// its own duration.
func TestWorkersOfDifferentDurations(t *testing.T) {
	bubble(t, 4, func(t *testing.T, f *fleet) {
		var fenced atomic.Int32
		short := f.start(nil)
		long := f.start(func(c *Config) {
			c.Duration = time.Minute
			c.Hooks.Fenced = func(string, error) { fenced.Add(1) }
		})
		f.balance(time.Minute, short, long)
		time.Sleep(10 * time.Minute)
		require.Zero(t, fenced.Load())
		f.kill(long)
		took := f.balance(2*time.Minute, short)
		require.Greater(t, took, 44*time.Second, "a minute after the last beat, and the next is due after a quarter of that")
		require.Less(t, took, 65*time.Second)
	})
}

// If a lease's row is deleted, and made anew by another worker before its owner looks, the shard is read again.
func TestALeaseThatWasMadeAnew(t *testing.T) {
	bubble(t, 2, func(t *testing.T, f *fleet) {
		a := f.start(nil)
		f.balance(time.Minute, a)
		for _, s := range f.shards {
			func() {
				defer f.table.lock()()
				delete(f.table.leases, s.ID)
				f.table.ensure(s, TrimHorizon)
			}()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		f.balance(0, a)
		for id, row := range f.rows() {
			require.NotEmpty(t, row.Owner, id)
			require.Positive(t, row.Fence, id)
		}
	})
}
