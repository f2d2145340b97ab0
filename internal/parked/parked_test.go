package parked_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/parked"
)

// store is what is parked; during is called while it is read.
type store struct {
	mu     sync.Mutex
	ids    []string // sorted
	during func()
	fails  func() error
	began  int // readings of all
	rows   int // that were read
	asked  []string
}

func (s *store) Parked(_ context.Context, after string, limit int) ([]string, int, string, error) {
	s.mu.Lock()
	if after == "" {
		s.began++
	}
	from := 0
	if after != "" {
		from, _ = slices.BinarySearch(s.ids, after)
		from++
	}
	ids := slices.Clone(s.ids[min(from, len(s.ids)):])
	next := ""
	if len(ids) > limit {
		ids = ids[:limit]
		next = ids[limit-1]
	}
	s.mu.Unlock()
	if s.during != nil {
		s.during()
	}
	if s.fails != nil {
		if err := s.fails(); err != nil {
			return nil, 0, "", err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows += len(ids)
	return ids, len(ids), next, nil
}

func (s *store) AreParked(_ context.Context, ids []string) (found []string, err error) {
	if len(ids) > 100 {
		return nil, errors.New("more than DynamoDB answers at once")
	}
	if s.fails != nil {
		if err := s.fails(); err != nil {
			return nil, err
		}
	}
	s.asked = append(s.asked, ids...)
	for _, id := range ids {
		if _, parked := slices.BinarySearch(s.ids, id); parked {
			found = append(found, id)
		}
	}
	return found, nil
}

func many(n int) (ids []string) {
	for i := range n {
		ids = append(ids, fmt.Sprintf("%06d", i))
	}
	return ids
}

// since is a look for aggregates that is not older than a while.
func since(age time.Duration, ids ...string) parked.Look {
	return parked.Look{IDs: ids, Since: time.Now().Add(-age), Idle: 5 * time.Second}
}

func TestARefreshReplacesWhatIsKnown(t *testing.T) {
	s, p := &store{ids: []string{"a", "b"}}, parked.New()
	require.NoError(t, p.Refresh(t.Context(), s, since(0, "x")))
	require.True(t, p.Has("a") && p.Has("b"))
	require.False(t, p.Has("c"))
	s.ids = []string{"c"}
	require.NoError(t, p.Refresh(t.Context(), s, since(0, "x")))
	require.False(t, p.Has("a") || p.Has("b"))
	require.True(t, p.Has("c"))
	p.Remove("c", p.Now())
	require.False(t, p.Has("c"))
}

// What is known to be parked need not be looked at: storing behind it finds out.
func TestWhatIsParkedIsNotAskedFor(t *testing.T) {
	s, p := &store{ids: []string{"a"}}, parked.New()
	require.NoError(t, p.Refresh(t.Context(), s, since(0, "a")))
	require.NoError(t, p.Refresh(t.Context(), s, since(0, "a")))
	require.Equal(t, 1, s.began)
}

// What is parked here while the store is read may be missing in its answer.
func TestARefreshForgetsNothingThatIsParkedMeanwhile(t *testing.T) {
	s, p := &store{}, parked.New()
	p.Add("before")
	s.during = func() { p.Add("meanwhile") }
	require.NoError(t, p.Refresh(t.Context(), s, since(0, "x")))
	require.True(t, p.Has("meanwhile"))
	require.False(t, p.Has("before"), "it was redriven: the answer has not got it")
}

func TestARefreshThatFailsForgetsNothing(t *testing.T) {
	s, p := &store{ids: []string{"a"}}, parked.New()
	require.NoError(t, p.Refresh(t.Context(), s, since(0, "x")))
	down := errors.New("no")
	s.fails = func() error { return down }
	s.ids = nil
	require.ErrorIs(t, p.Refresh(t.Context(), s, since(0, "x")), down)
	require.True(t, p.Has("a"))
}

// A set that knows all is fresh for a while; one that began to read before a call is no answer to it.
func TestAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := &store{}, parked.New()
		require.NoError(t, p.Refresh(t.Context(), s, since(time.Second, "x")))
		time.Sleep(900 * time.Millisecond)
		require.NoError(t, p.Refresh(t.Context(), s, since(time.Second, "x")))
		require.Equal(t, 1, s.began)
		time.Sleep(200 * time.Millisecond)
		require.NoError(t, p.Refresh(t.Context(), s, since(time.Second, "x")))
		require.Equal(t, 2, s.began)
		require.NoError(t, p.Refresh(t.Context(), s, since(0, "x")))
		require.Equal(t, 2, s.began, "no time has passed in between")

		s.during = func() { time.Sleep(time.Minute) }
		time.Sleep(time.Second)
		go func() { _ = p.Refresh(context.Background(), s, since(0, "x")) }()
		time.Sleep(time.Second)
		require.NoError(t, p.Refresh(t.Context(), s, since(0, "x")))
		require.Equal(t, 4, s.began, "the first of the two had begun before the second was asked for")
	})
}

// Calls that wait for a look share the next one, however many they are.
func TestCallsAtOnceShareALook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := &store{ids: many(5000), during: func() { time.Sleep(100 * time.Millisecond) }}, parked.New()
		var calls sync.WaitGroup
		for i := range 50 {
			time.Sleep(time.Millisecond)
			look := since(0)
			for n := range 300 {
				look.IDs = append(look.IDs, fmt.Sprintf("healthy%d-%d", i, n))
			}
			calls.Go(func() { require.NoError(t, p.Refresh(t.Context(), s, look)) })
		}
		calls.Wait()
		require.Equal(t, 2, s.began)
	})
}

// A look costs no more than twice what the questions would, and what is too much to be read is not tried again for a minute.
func TestTheCostOfALookIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, parkedThere := range []int{0, 90, 900, 1100, 20_000, 120_000} {
			for _, batch := range []int{1, 10, 500, 10_000} {
				s, p := &store{ids: many(parkedThere)}, parked.New()
				for round := range 3 {
					var ids []string
					for i := range batch {
						ids = append(ids, fmt.Sprint("healthy", i))
					}
					require.NoError(t, p.Refresh(t.Context(), s, since(0, append(ids, ids...)...)))
					units := float64(s.rows)/25 + float64(len(s.asked))
					require.LessOrEqual(t, units, float64(2*batch+6), "%d parked, batches of %d", parkedThere, batch)
					if parkedThere > max(25*batch, 100) {
						require.Len(t, s.asked, batch)
						require.Equal(t, round == 0, s.rows > 0, "a page is not read in vain again")
					} else {
						require.Empty(t, s.asked)
						require.Equal(t, parkedThere, s.rows)
					}
					s.rows, s.asked = 0, nil
					time.Sleep(10 * time.Second)
				}
			}
		}
	})
}

// A look that others share reads all that is parked, and may be the older the more this cost: no more than 100 units a second.
func TestASharedLookIsAffordable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for parkedThere, want := range map[int]time.Duration{0: time.Second, 1000: time.Second, 25_000: 10 * time.Second, 100_000: 40 * time.Second} {
			s, p := &store{ids: many(parkedThere)}, parked.New()
			began := time.Now()
			for i := 0; time.Since(began) < 10*time.Minute; i++ {
				look := since(max(time.Second, p.Affordable()), fmt.Sprint("healthy", i))
				look.Shared = true
				require.NoError(t, p.Refresh(t.Context(), s, look))
				time.Sleep(100 * time.Millisecond)
			}
			require.Empty(t, s.asked)
			require.InDelta(t, 10*time.Minute/want, s.began, 60, "readings of %d", parkedThere)
			require.LessOrEqual(t, s.rows/25/600, 110)
		}
	})
}

// What was read or answered before a failure is kept for a call that may know what is so old: it goes on where the other ended, in pages and in
// questions. A call that must know what is newer begins anew.
func TestALookGoesOnWhereItEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("no")
		for name, one := range map[string]struct {
			parked, batch int
			calls         int // of the store, without failures
		}{"all are read": {30_000, 5000, 15}, "they are asked for": {30_000, 1000, 23}} {
			for _, newer := range []bool{false, true} {
				s, p := &store{ids: many(one.parked)}, parked.New()
				calls, failures := 0, 0
				s.fails = func() error {
					if calls++; calls%3 == 0 {
						failures++
						return down
					}
					return nil
				}
				var ids []string
				for i := range one.batch {
					ids = append(ids, fmt.Sprint("healthy", i))
				}
				look, n := since(0, append(ids, "000007")...), 1
				for ; n < 40; n++ {
					if p.Refresh(t.Context(), s, look) == nil {
						break
					}
					if time.Sleep(time.Second); newer {
						look.Since = time.Now()
					}
				}
				if newer {
					require.Equal(t, 40, n, name)
					continue
				}
				require.Equal(t, failures+1, n, name)
				require.Equal(t, one.calls, calls-failures, name)
				require.True(t, p.Has("000007"))
				require.False(t, p.Has("healthy1"))
			}
		}
	})
}

// Each call of the store has its time, however many there are; one that hangs ends the look.
func TestALookTakesAsLongAsItGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := &store{ids: many(30_000), during: func() { time.Sleep(4 * time.Second) }}, parked.New()
		began := time.Now()
		require.NoError(t, p.Refresh(t.Context(), s, since(0, many(40_000)...)))
		require.Equal(t, time.Minute, time.Since(began))
		hanging := hangs{}
		require.ErrorIs(t, p.Refresh(t.Context(), hanging, since(0, "x")), context.DeadlineExceeded)
		require.Equal(t, time.Minute+5*time.Second, time.Since(began))
	})
}

type hangs struct{}

func (hangs) Parked(ctx context.Context, _ string, _ int) ([]string, int, string, error) {
	<-ctx.Done()
	return nil, 0, "", ctx.Err()
}

func (hangs) AreParked(ctx context.Context, _ []string) ([]string, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// What was learned of an aggregate after somebody looked stays: it is newer.
func TestRemoveLeavesWhatIsNewer(t *testing.T) {
	s, p := &store{ids: []string{"a"}}, parked.New()
	require.NoError(t, p.Refresh(t.Context(), s, since(0, "x")))
	asOf := p.Now()
	require.NoError(t, p.Refresh(t.Context(), s, since(0, "x")))
	p.Remove("a", asOf)
	require.True(t, p.Has("a"), "read again since")
	asOf = p.Now()
	p.Add("b")
	p.Remove("b", asOf)
	require.True(t, p.Has("b"), "parked here since")
	p.Remove("a", p.Now())
	require.False(t, p.Has("a"))
}

// Whatever is parked and redriven, by whomever, and whichever calls fail: after a look that succeeds, all is known of its aggregates that was
// parked at its Since and still is, and what this process has parked.
func TestNothingThatIsParkedIsMissed(t *testing.T) {
	looks, complete := 0, 0
	for seed := range uint64(150) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 3))
			s, p := &store{}, parked.New()
			size := []int{30, 300, 6000}[rng.IntN(3)]
			id := func() string { return strconv.Itoa(100_000 + rng.IntN(size)) }
			at := map[string]time.Time{} // since when it is parked
			change := func(n int) {
				s.mu.Lock()
				defer s.mu.Unlock()
				for range n {
					one := id()
					if _, there := at[one]; there {
						delete(at, one)
					} else {
						at[one] = time.Now()
					}
				}
				s.ids = s.ids[:0:0]
				for one := range at {
					s.ids = append(s.ids, one)
				}
				slices.Sort(s.ids)
			}
			change(rng.IntN(2 * size))
			s.during = func() { time.Sleep(time.Duration(rng.IntN(100)) * time.Millisecond); change(rng.IntN(3)) }
			faults := rng.IntN(4)
			s.fails = func() error {
				if rng.IntN(10) < faults {
					return errors.New("down")
				}
				return nil
			}
			for range 30 {
				l := since(time.Duration(rng.IntN(3000))*time.Millisecond, id(), id(), id())
				for range rng.IntN(40) * rng.IntN(20) {
					l.IDs = append(l.IDs, id())
				}
				l.Shared = rng.IntN(3) == 0
				err := p.Refresh(t.Context(), s, l)
				for ; err != nil && rng.IntN(3) > 0; err = p.Refresh(t.Context(), s, l) {
					time.Sleep(time.Duration(rng.IntN(300)) * time.Millisecond)
				}
				for _, one := range l.IDs {
					if parkedAt, there := at[one]; err == nil && there && parkedAt.Before(l.Since) {
						require.True(t, p.Has(one), "seed %d: %s is missed", seed, one)
					}
				}
				if err == nil {
					looks++
				}
				if asOf, one := p.Now(), id(); rng.IntN(3) == 0 && p.Has(one) { // an event was to be stored behind its letters
					if _, there := at[one]; !there {
						p.Remove(one, asOf)
					}
				}
				time.Sleep(time.Duration(rng.IntN(2000)) * time.Millisecond)
				change(rng.IntN(5))
			}
			complete += s.began
		})
	}
	t.Logf("%d looks, %d readings of all were begun", looks, complete)
}
