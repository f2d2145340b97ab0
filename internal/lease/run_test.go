package lease

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestConfigIsChecked(t *testing.T) {
	err := Run(t.Context(), Config{Beat: time.Second, Duration: time.Second, Drain: -1})
	for _, problem := range []string{"Store", "Shards", "Consume", "Drain", "two beats"} {
		require.ErrorContains(t, err, problem)
	}
}

// A fatal error stops the worker: everything else drains and is released, and Run returns the error itself.
func TestAFatalErrorStopsTheWorker(t *testing.T) {
	bubble(t, 5, func(t *testing.T, f *fleet) {
		poison := errors.New("poison")
		m := f.start(func(c *Config) {
			plain := c.Consume
			c.Consume = func(ctx context.Context, h *Held) error {
				if h.Shard().ID == "s-0003" {
					sleep(ctx, 10*time.Second)
					return Fatal(poison)
				}
				return plain(ctx, h)
			}
		})
		err := <-m.done
		m.done = nil
		require.Same(t, poison, err)
		for id, l := range f.rows() {
			require.Empty(t, l.Owner, id)
			require.EqualValues(t, 1, l.Fence, "%s was acquired again while stopping", id)
			if id != "s-0003" {
				require.Equal(t, "1", l.Checkpoint, "%s was not drained", id)
			}
		}
	})
}

// Other errors are repeated under the same lease, with growing pauses, and a hook hears of them.
func TestOtherErrorsAreRepeatedUnderTheSameLease(t *testing.T) {
	bubble(t, 1, func(t *testing.T, f *fleet) {
		var mu sync.Mutex
		var fences []int64
		var told []string
		m := f.start(func(c *Config) {
			plain := c.Consume
			c.Consume = func(ctx context.Context, h *Held) error {
				mu.Lock()
				fences = append(fences, h.Fence())
				n := len(fences)
				mu.Unlock()
				switch {
				case n < 5:
					return errors.New("access denied")
				case n == 5:
					return nil // without having been told to stop
				}
				return plain(ctx, h)
			}
			c.Hooks.Failed = func(shard string, err error, again time.Duration) {
				mu.Lock()
				defer mu.Unlock()
				told = append(told, shard+": "+err.Error())
				require.LessOrEqual(t, again, 30*time.Second)
			}
		})
		f.balance(2*time.Minute, m)
		require.Equal(t, []int64{1, 1, 1, 1, 1, 1}, fences)
		require.Len(t, told, 5)
		require.Equal(t, "s-0000: access denied", told[0])
		require.Contains(t, told[4], "before its shard's end")
	})
}

// Run returns by its deadline even if a reader does not stop when it is asked. The reader's lease is then free.
func TestRunReturnsByItsDeadline(t *testing.T) {
	bubble(t, 3, func(t *testing.T, f *fleet) {
		m := f.start(func(c *Config) {
			c.Drain = 5 * time.Second
			c.Consume = func(ctx context.Context, h *Held) error {
				<-ctx.Done()
				require.NotErrorIs(t, context.Cause(ctx), ErrLost)
				return ctx.Err()
			}
		})
		time.Sleep(3 * time.Second)
		synctest.Wait()
		took, err := f.stopOne(m)
		require.NoError(t, err)
		require.LessOrEqual(t, took, 5*time.Second)
		require.Greater(t, took, 3*time.Second)
		for _, l := range f.rows() {
			require.Empty(t, l.Owner)
		}
	})
}

// A worker that wants a lease gets it even if its reader does not stop when it is asked.
func TestASlowHandoverIsCutShort(t *testing.T) {
	bubble(t, 2, func(t *testing.T, f *fleet) {
		a := f.start(func(c *Config) {
			c.Drain = 5 * time.Second
			plain := c.Consume
			c.Consume = func(ctx context.Context, h *Held) error {
				_ = plain(ctx, h)
				<-ctx.Done()
				return ctx.Err()
			}
		})
		time.Sleep(3 * time.Second)
		synctest.Wait()
		b := f.start(nil)
		f.balance(10*time.Second, a, b)
	})
}

// A worker that cannot reach the table stops within Duration, counted from when its last good beat was sent. It comes back under
// another name.
func TestAWorkerThatCannotReachTheTableStops(t *testing.T) {
	for phase := range 20 {
		bubble(t, 2, func(t *testing.T, f *fleet) {
			var mu sync.Mutex
			var ended time.Time
			var names []string
			m := f.start(func(c *Config) {
				c.Store.(*wire).slow = 700 * time.Millisecond
				c.Consume = func(ctx context.Context, h *Held) error {
					<-ctx.Done()
					mu.Lock()
					defer mu.Unlock()
					if len(names) == 1 {
						ended = time.Now()
						require.ErrorIs(t, context.Cause(ctx), ErrLost)
						require.ErrorIs(t, h.Save(context.WithoutCancel(ctx), Progress{Checkpoint: "9"}), ErrLost)
					}
					return ctx.Err()
				}
				c.Hooks.Registered = func(worker string) {
					mu.Lock()
					defer mu.Unlock()
					names = append(names, worker)
				}
			})
			time.Sleep(3*time.Second + time.Duration(phase)*101*time.Millisecond)
			m.wire.setCut(true)
			time.Sleep(20 * time.Second)
			synctest.Wait()
			require.Equal(t, 8*time.Second, ended.Sub(m.wire.good), "it counts from something else than the sending")
			for i, n := range m.wire.beats[1:] {
				// Otherwise the answer to a repeat would not say since when the beat has been there.
				require.Greaterf(t, n, m.wire.beats[i], "a beat's number was used twice: %v", m.wire.beats)
			}
			m.wire.setCut(false)
			time.Sleep(15 * time.Second)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			require.Len(t, names, 2)
			for _, l := range f.rows() {
				require.Equal(t, names[1], l.Owner)
				require.Equal(t, TrimHorizon, l.Checkpoint)
			}
		})
	}
}

// A worker that is marked dead stops at its next beat.
func TestAWorkerThatIsMarkedDeadStops(t *testing.T) {
	bubble(t, 2, func(t *testing.T, f *fleet) {
		var fenced []error
		m := f.start(func(c *Config) { c.Hooks.Fenced = func(_ string, err error) { fenced = append(fenced, err) } })
		f.balance(3*time.Second, m)
		v, err := f.table.View(t.Context())
		require.NoError(t, err)
		require.NoError(t, f.table.MarkDead(t.Context(), v.Workers[0].ID, v.Workers[0].Beat))
		time.Sleep(2100 * time.Millisecond)
		synctest.Wait()
		require.Len(t, fenced, 1)
		require.ErrorIs(t, fenced[0], errDead)
		f.balance(5*time.Second, m)
		for _, l := range f.rows() {
			require.EqualValues(t, 2, l.Fence)
		}
	})
}

// A lost lease ends its reader, whoever took it, and Save says so.
func TestALostLeaseEndsItsReader(t *testing.T) {
	bubble(t, 1, func(t *testing.T, f *fleet) {
		var mu sync.Mutex
		var saved, cause error
		f.start(func(c *Config) {
			c.Consume = func(ctx context.Context, h *Held) error {
				if h.Fence() == 3 {
					time.Sleep(3 * time.Second)
					_, err := f.table.Acquire(ctx, f.rows()[h.Shard().ID], "thief")
					require.NoError(t, err)
					time.Sleep(viewEvery * 3 / 2) // no worker that keeps to the protocol takes a lease so, and views are rare
					synctest.Wait()
					require.ErrorIs(t, context.Cause(ctx), ErrLost, "it was not told, and would have to save to see it")
				}
				if h.Fence() == 1 {
					time.Sleep(3 * time.Second)
					row := f.rows()[h.Shard().ID]
					_, err := f.table.Acquire(ctx, row, "thief")
					require.NoError(t, err)
					err = h.Save(ctx, Progress{Checkpoint: "9"})
					mu.Lock()
					saved, cause = err, context.Cause(ctx)
					mu.Unlock()
				}
				<-ctx.Done()
				return ctx.Err()
			}
		})
		time.Sleep(5 * time.Second)
		synctest.Wait()
		mu.Lock()
		require.ErrorIs(t, saved, ErrLost)
		require.ErrorIs(t, cause, ErrLost)
		mu.Unlock()
		require.Equal(t, TrimHorizon, f.rows()["s-0000"].Checkpoint)
		time.Sleep(10 * time.Second) // the thief has no row: it is dead
		synctest.Wait()
		require.GreaterOrEqual(t, f.rows()["s-0000"].Fence, int64(3))
		time.Sleep(viewEvery*3/2 + 10*time.Second)
		synctest.Wait()
		require.EqualValues(t, 5, f.rows()["s-0000"].Fence)
	})
}

func TestAttemptsSurviveARestart(t *testing.T) {
	bubble(t, 1, func(t *testing.T, f *fleet) {
		var seen []Progress
		change := func(c *Config) {
			c.Consume = func(ctx context.Context, h *Held) error {
				p := h.Progress()
				seen = append(seen, p.clone())
				if p.Attempts == nil {
					p.Attempts = map[string]int{}
				}
				p.Attempts["12"]++
				require.NoError(t, h.Save(ctx, Progress{Checkpoint: "11", Attempts: p.Attempts}))
				p.Attempts["12"] = 99 // ours alone
				<-h.Stop()
				return nil
			}
		}
		for range 2 {
			m := f.start(change)
			time.Sleep(3 * time.Second)
			_, err := f.stopOne(m)
			require.NoError(t, err)
		}
		require.Equal(t, []Progress{{Checkpoint: TrimHorizon}, {Checkpoint: "11", Attempts: map[string]int{"12": 1}}}, seen)
		require.Equal(t, map[string]int{"12": 2}, f.rows()["s-0000"].Attempts)
	})
}

// A table of another form ends Run, since it will never have leases.
func TestATableThatIsNoneForLeasesEndsRun(t *testing.T) {
	bubble(t, 1, func(t *testing.T, f *fleet) {
		other := errors.New("the key does not match the schema")
		m := f.start(func(c *Config) { c.Store = blind{c.Store, other} })
		require.ErrorIs(t, <-m.done, other)
		m.done = nil
	})
}

type blind struct {
	Store
	err error
}

func (b blind) View(context.Context) (View, error) { return View{}, Fatal(b.err) }

// A new group starts where it is told. A shard that appears later is read from its beginning.
func TestStart(t *testing.T) {
	bubble(t, 0, func(t *testing.T, f *fleet) {
		f.set([]Shard{{ID: "parent"}, {ID: "child", Parents: []string{"parent"}}, {ID: "alone", Parents: []string{"forgotten"}}})
		before := time.Now()
		f.start(func(c *Config) { c.Start = Latest })
		time.Sleep(3 * time.Second)
		synctest.Wait()
		rows := f.rows()
		require.Len(t, rows, 3)
		for id, l := range rows {
			at, ok := ParseAt(l.Checkpoint)
			if id == "parent" {
				at, ok = before, true // the shard is read already
			}
			require.True(t, ok, "%s is at %s", id, l.Checkpoint)
			require.WithinDuration(t, before, at, time.Second)
		}
		require.NotEmpty(t, rows["alone"].Owner)
		require.Empty(t, rows["child"].Owner, "a child is read before its parent has ended")

		f.set(append(slices.Clone(f.shards), Shard{ID: "later", Parents: []string{"child"}}))
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		require.Equal(t, TrimHorizon, f.rows()["later"].Checkpoint)
	})
}

// When its source forgets a shard, the row is kept for a while, the children start, and a hook hears what is lost.
func TestAShardThatItsSourceForgets(t *testing.T) {
	bubble(t, 0, func(t *testing.T, f *fleet) {
		var mu sync.Mutex
		gone := map[string]string{}
		f.set([]Shard{{ID: "held"}, {ID: "other"}, {ID: "child", Parents: []string{"held"}}})
		told := func() map[string]string {
			mu.Lock()
			defer mu.Unlock()
			return maps.Clone(gone)
		}
		var expired bool
		for range 2 {
			f.start(func(c *Config) {
				plain := c.Consume
				c.Consume = func(ctx context.Context, h *Held) error {
					for h.Shard().ID == "held" {
						if mu.Lock(); expired {
							mu.Unlock()
							return errors.New("no such shard")
						}
						mu.Unlock()
						if !sleep(ctx, time.Second) {
							return ctx.Err()
						}
					}
					return plain(ctx, h)
				}
				c.Hooks.Gone = func(shard, checkpoint string) {
					mu.Lock()
					defer mu.Unlock()
					gone[shard] = checkpoint
				}
			})
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.NotEmpty(t, f.rows()["held"].Owner)
		require.Empty(t, f.rows()["child"].Owner)
		f.set(f.shards[1:])
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		require.Empty(t, told(), "its reader has not noticed anything")
		f.set(append([]Shard{{ID: "held"}}, f.shards...))
		time.Sleep(65 * time.Second)
		synctest.Wait()
		f.set(f.shards[1:])
		mu.Lock()
		expired = true
		mu.Unlock()
		time.Sleep(65 * time.Second)
		synctest.Wait()
		require.Empty(t, told(), "one listing proves nothing")
		time.Sleep(125 * time.Second)
		synctest.Wait()
		rows := f.rows()
		require.True(t, rows["held"].Gone)
		require.Empty(t, rows["held"].Owner)
		require.NotEmpty(t, rows["child"].Owner)
		require.NotEmpty(t, rows["other"].Owner)
		require.Equal(t, map[string]string{"held": TrimHorizon}, told())
	})
}

// A listing that fails is repeated. An empty listing is a failure: no shard is taken for forgotten.
func TestAListingThatFailsIsRepeated(t *testing.T) {
	bubble(t, 4, func(t *testing.T, f *fleet) {
		calls := 0
		trouble := map[string]int{}
		var mu sync.Mutex
		m := f.start(func(c *Config) {
			c.Shards = func(ctx context.Context) ([]Shard, error) {
				switch calls++; {
				case calls < 3:
					return nil, errors.New("throttled")
				case calls > 3:
					return nil, nil
				}
				return f.list(ctx)
			}
			c.Hooks.Trouble = func(op string, _ error) {
				mu.Lock()
				defer mu.Unlock()
				trouble[op]++
			}
		})
		f.balance(30*time.Second, m)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		f.balance(0, m)
		require.Greater(t, trouble["Shards"], 3)
		require.Equal(t, []string{"Shards"}, slices.Collect(maps.Keys(trouble)))
	})
}

// Workers that come and go leave no rows behind for long.
func TestDeadRowsAreForgotten(t *testing.T) {
	bubble(t, 3, func(t *testing.T, f *fleet) {
		last := f.start(nil)
		for range 5 {
			m := f.start(func(c *Config) { c.Worker = "short" })
			time.Sleep(3 * time.Second)
			_, err := f.stopOne(m)
			require.NoError(t, err)
		}
		f.balance(5*time.Second, last)
		time.Sleep(viewEvery * 3 / 2) // the row of a dead worker stays as long as a lease, and then until somebody takes a view
		synctest.Wait()
		v, err := f.table.View(t.Context())
		require.NoError(t, err)
		require.Len(t, v.Workers, 1)
		require.True(t, strings.HasPrefix(v.Workers[0].ID, "worker-"))
	})
}

// An end whose answer is lost is found before the lease is given up.
func TestAnEndWhoseAnswerIsLostIsFound(t *testing.T) {
	bubble(t, 1, func(t *testing.T, f *fleet) {
		store := &deafEnd{Store: &f.table}
		var ended, lost []string
		f.start(func(c *Config) {
			c.Store = store
			c.Consume = func(ctx context.Context, h *Held) error {
				if h.Shard().ID != "s-0000" {
					<-h.Stop()
					return nil
				}
				brief, cancel := context.WithTimeout(ctx, time.Millisecond)
				defer cancel()
				err := h.End(brief, nil, []Shard{{ID: "child", Parents: []string{"s-0000"}}})
				require.Error(t, err)
				<-ctx.Done() // the shard is ours no more; or else until the test ends
				return ctx.Err()
			}
			c.Hooks.Ended = func(shard string, _ int64, _ []Shard) { ended = append(ended, shard) }
			c.Hooks.Lost = func(shard string, _ int64, _ error) { lost = append(lost, shard) }
			c.Drain = 4 * time.Second
		})
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.NotEmpty(t, f.rows()["child"].Owner)
		f.stop()
		f.members = nil
		require.Equal(t, []string{"s-0000"}, ended)
		require.Empty(t, lost)
	})
}

type deafEnd struct {
	Store
	calls int
}

func (d *deafEnd) End(ctx context.Context, key Key, n int64, holes map[string]Hole, children []Shard) error {
	err := d.Store.End(ctx, key, n, holes, children)
	if d.calls++; d.calls == 1 {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}
