package lease

import (
	"context"
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// lists makes a member list what *shards is, whatever the others list.
func lists(mu *sync.Mutex, shards *[]Shard) func(*Config) {
	return func(c *Config) {
		c.Shards = func(context.Context) ([]Shard, error) {
			mu.Lock()
			defer mu.Unlock()
			return *shards, nil
		}
	}
}

// gones counts the shards that members take for gone.
func gones(mu *sync.Mutex, n map[string]int) func(*Config) {
	return func(c *Config) {
		c.Hooks.Gone = func(shard, _ string) {
			mu.Lock()
			defer mu.Unlock()
			n[shard]++
		}
	}
}

// counted returns what has been counted until now.
func counted(mu *sync.Mutex, n map[string]int) map[string]int {
	mu.Lock()
	defer mu.Unlock()
	return maps.Clone(n)
}

// A worker that lists another stream marks nothing as gone, creates nothing and reads nothing beside a worker that lists the right
// one, from its first moment on.
func TestAListingOfAnotherStreamIsNone(t *testing.T) {
	bubble(t, 4, func(t *testing.T, f *fleet) {
		var mu sync.Mutex
		gone, read := map[string]int{}, 0
		var told atomic.Int64
		a := f.start(all(f.answers(healthy), gones(&mu, gone)))
		f.balance(time.Minute, a)
		other := []Shard{{ID: "other"}}
		f.start(all(lists(&mu, &other), gones(&mu, gone), complaints(&told), func(c *Config) {
			c.Consume = func(ctx context.Context, h *Held) error { read++; return errors.New("no such shard") }
			c.Hooks.Trouble = func(_ string, err error) { require.ErrorIs(t, err, errAlien) }
		}))
		for range 30 {
			time.Sleep(time.Minute)
			synctest.Wait()
			f.balance(0, a)
		}
		require.Empty(t, counted(&mu, gone))
		require.Zero(t, read)
		require.NotContains(t, f.rows(), "other")
		require.InDelta(t, 30, told.Load(), 1)
		for id, row := range f.rows() {
			require.EqualValues(t, 1, row.Fence, id)
		}
	})
}

// One worker that does not list a shard is no proof, however long, while another lists it. A shard that nobody lists is gone.
func TestOneWorkersListingProvesNothing(t *testing.T) {
	bubble(t, 4, func(t *testing.T, f *fleet) {
		var mu sync.Mutex
		gone := map[string]int{}
		broken := func(shard string) error {
			if shard == "s-0003" {
				return errDenied
			}
			return nil
		}
		f.start(all(f.answers(broken), gones(&mu, gone)))
		fewer := f.shards[:3]
		b := f.start(all(f.answers(broken), gones(&mu, gone), lists(&mu, &fewer)))
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Empty(t, counted(&mu, gone))
		require.False(t, f.rows()["s-0003"].Gone)
		_, err := f.stopOne(b)
		require.NoError(t, err)
		time.Sleep(time.Minute)
		f.start(all(f.answers(broken), gones(&mu, gone)))
		f.set(f.shards[:3])
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		require.Equal(t, map[string]int{"s-0003": 1}, counted(&mu, gone))
		require.True(t, f.rows()["s-0003"].Gone)
	})
}

// A worker that is alone believes its listings after three minutes.
func TestAWorkerThatIsAloneNeedsMoreListings(t *testing.T) {
	bubble(t, 2, func(t *testing.T, f *fleet) {
		var mu sync.Mutex
		gone := map[string]int{}
		f.start(all(gones(&mu, gone), f.answers(func(shard string) error {
			if shard == "s-0001" {
				return errDenied
			}
			return nil
		})))
		time.Sleep(10 * time.Second)
		f.set(f.shards[:1])
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		require.Empty(t, counted(&mu, gone))
		time.Sleep(4 * time.Minute)
		synctest.Wait()
		require.Equal(t, map[string]int{"s-0001": 1}, counted(&mu, gone))
	})
}

// A shard that was marked gone, by whomever, and is listed again is read on at its checkpoint.
func TestAShardThatComesBack(t *testing.T) {
	bubble(t, 3, func(t *testing.T, f *fleet) {
		var mu sync.Mutex
		returned := map[string]string{}
		a := f.start(func(c *Config) {
			c.Hooks.Returned = func(shard, checkpoint string) {
				mu.Lock()
				defer mu.Unlock()
				returned[shard] = checkpoint
			}
		})
		f.balance(time.Minute, a)
		_, err := f.stopOne(a) // at checkpoint 1
		require.NoError(t, err)
		free := f.rows()["s-0002"]
		require.NoError(t, f.table.Miss(t.Context(), free, "somebody"))
		require.NoError(t, f.table.Gone(t.Context(), f.rows()["s-0002"]))
		var starts []string
		b := f.start(func(c *Config) {
			plain := c.Consume
			c.Consume = func(ctx context.Context, h *Held) error {
				mu.Lock()
				starts = append(starts, h.Progress().Checkpoint)
				mu.Unlock()
				return plain(ctx, h)
			}
		})
		f.balance(time.Minute, b)
		require.Equal(t, []string{"1", "1", "1"}, starts)
		require.Empty(t, f.rows()["s-0002"].Missing)
	})
}

// After an outage of a year every shard is another. When no worker finds a shard that it knows for five minutes, the fleet believes it.
func TestAfterALongOutageEveryShardIsNew(t *testing.T) {
	bubble(t, 3, func(t *testing.T, f *fleet) {
		var mu sync.Mutex
		gone := map[string]int{}
		a := f.start(nil)
		f.balance(time.Minute, a)
		_, err := f.stopOne(a)
		require.NoError(t, err)
		time.Sleep(365 * 24 * time.Hour)
		f.set([]Shard{{ID: "t-1"}, {ID: "t-2"}})
		broken := func(shard string) error {
			if shard[0] == 's' {
				return errors.New("no such shard")
			}
			return nil
		}
		f.start(all(f.answers(broken), gones(&mu, gone)))
		f.start(all(f.answers(broken), gones(&mu, gone)))
		time.Sleep(15 * time.Minute)
		synctest.Wait()
		rows := f.rows()
		require.NotEmpty(t, rows["t-1"].Owner)
		require.NotEmpty(t, rows["t-2"].Owner)
		require.Equal(t, map[string]int{"s-0000": 1, "s-0001": 1, "s-0002": 1}, counted(&mu, gone))
	})
}

// An end that listings contradict is taken back, and the shard is read on where it was.
func TestAnEndThatListingsContradictIsTakenBack(t *testing.T) {
	for name, test := range map[string]struct {
		shards []Shard
		reads  bool
	}{
		"open":                       {[]Shard{{ID: "a", Open: true}, {ID: "b", Open: true}}, true},
		"closed":                     {[]Shard{{ID: "a"}, {ID: "b", Open: true}}, false},
		"open, and a listed parent":  {[]Shard{{ID: "a", Open: true}, {ID: "b", Open: true, Parents: []string{"a"}}}, false},
		"open, and a known parent":   {[]Shard{{ID: "a", Open: true}, {ID: "b", Open: true}}, false},
		"open, in one listing alone": {[]Shard{{ID: "a", Open: true}, {ID: "b", Open: true}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 0, func(t *testing.T, f *fleet) {
				f.set([]Shard{{ID: "a"}, {ID: "b"}})
				var mu sync.Mutex
				var starts []string
				reopened := map[string]string{}
				f.start(func(c *Config) {
					plain := c.Consume
					c.Consume = func(ctx context.Context, h *Held) error {
						if h.Shard().ID != "a" {
							return plain(ctx, h)
						}
						mu.Lock()
						starts = append(starts, h.Progress().Checkpoint)
						first := len(starts) == 1
						mu.Unlock()
						if !first {
							return plain(ctx, h)
						}
						if err := h.Save(ctx, Progress{Checkpoint: "7"}); err != nil {
							return err
						}
						var children []Shard
						if name == "open, and a known parent" {
							children = []Shard{{ID: "c", Parents: []string{"a"}}}
						}
						return h.End(ctx, nil, children)
					}
					c.Hooks.Reopened = func(shard, checkpoint string) {
						mu.Lock()
						defer mu.Unlock()
						reopened[shard] = checkpoint
					}
				})
				time.Sleep(10 * time.Second)
				synctest.Wait()
				require.Equal(t, ShardEnd, f.rows()["a"].Checkpoint)
				f.set(test.shards)
				if name == "open, in one listing alone" {
					time.Sleep(55 * time.Second)
					f.set([]Shard{{ID: "a"}, {ID: "b"}})
				}
				time.Sleep(6 * time.Minute)
				synctest.Wait()
				if !test.reads {
					require.Equal(t, []string{TrimHorizon}, starts)
					require.Empty(t, reopened)
					return
				}
				require.Equal(t, []string{TrimHorizon, "7"}, starts)
				require.Equal(t, map[string]string{"a": "7"}, reopened)
				require.NotEmpty(t, f.rows()["a"].Owner)
			})
		})
	}
}
