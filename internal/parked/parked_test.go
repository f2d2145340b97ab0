package parked_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	ids    []string
	during func()
	err    error
	reads  int
	asked  []string
}

func (s *store) Parked(_ context.Context, limit int) ([]string, bool, error) {
	s.mu.Lock()
	s.reads++
	ids, err := slices.Clone(s.ids), s.err
	s.mu.Unlock()
	if s.during != nil {
		s.during()
	}
	return ids[:min(len(ids), limit)], len(ids) <= limit, err
}

func (s *store) AreParked(_ context.Context, ids []string) (found []string, err error) {
	s.asked = append(s.asked, ids...)
	for _, id := range ids {
		if slices.Contains(s.ids, id) {
			found = append(found, id)
		}
	}
	return found, nil
}

func many(n int) (ids []string) {
	for i := range n {
		ids = append(ids, fmt.Sprint(i))
	}
	return ids
}

func TestARefreshReplacesWhatIsKnown(t *testing.T) {
	s, p := &store{ids: []string{"a", "b"}}, parked.New()
	require.NoError(t, p.Refresh(t.Context(), s, []string{"a"}, 0))
	require.True(t, p.Has("a") && p.Has("b"))
	require.False(t, p.Has("c"))
	s.ids = []string{"c"}
	require.NoError(t, p.Refresh(t.Context(), s, []string{"a"}, 0))
	require.False(t, p.Has("a") || p.Has("b"))
	require.True(t, p.Has("c"))
	p.Remove("c", p.Now())
	require.False(t, p.Has("c"))
}

// What is parked here while the store is read may be missing in its answer.
func TestARefreshForgetsNothingThatIsParkedMeanwhile(t *testing.T) {
	s, p := &store{}, parked.New()
	p.Add("before")
	s.during = func() { p.Add("meanwhile") }
	require.NoError(t, p.Refresh(t.Context(), s, nil, 0))
	require.True(t, p.Has("meanwhile"))
	require.False(t, p.Has("before"), "it was redriven: the answer has not got it")
}

func TestARefreshThatFailsChangesNothing(t *testing.T) {
	s, p := &store{ids: []string{"a"}}, parked.New()
	require.NoError(t, p.Refresh(t.Context(), s, nil, 0))
	s.err = errors.New("no")
	s.ids = nil
	require.ErrorIs(t, p.Refresh(t.Context(), s, nil, 0), s.err)
	require.True(t, p.Has("a"))
}

// A set that knows all is fresh for a while; one that began to read before a call is no answer to it.
func TestAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := &store{}, parked.New()
		require.NoError(t, p.Refresh(t.Context(), s, nil, time.Second))
		time.Sleep(900 * time.Millisecond)
		require.NoError(t, p.Refresh(t.Context(), s, nil, time.Second))
		require.Equal(t, 1, s.reads)
		time.Sleep(200 * time.Millisecond)
		require.NoError(t, p.Refresh(t.Context(), s, nil, time.Second))
		require.Equal(t, 2, s.reads)
		require.NoError(t, p.Refresh(t.Context(), s, nil, 0))
		require.Equal(t, 2, s.reads, "no time has passed in between")

		s.during = func() { time.Sleep(time.Minute) }
		time.Sleep(time.Second)
		go func() { _ = p.Refresh(context.Background(), s, nil, 0) }()
		time.Sleep(time.Second)
		require.NoError(t, p.Refresh(t.Context(), s, nil, 0))
		require.Equal(t, 4, s.reads, "the first of the two had begun before the second was asked for")
	})
}

// With more than are read at once, those of the call are asked for, each once, and what was known stays known.
func TestMoreThanAreReadAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := &store{ids: many(2000)}, parked.New()
		for range 2 {
			require.NoError(t, p.Refresh(t.Context(), s, []string{"1500", "free", "1500"}, time.Hour), "it is never fresh")
		}
		require.Equal(t, []string{"1500", "free", "1500", "free"}, s.asked)
		require.NoError(t, p.Refresh(t.Context(), s, []string{"1600"}, time.Hour))
		require.True(t, p.Has("1500") && p.Has("1600") && p.Has("3"))
		require.False(t, p.Has("free") || p.Has("1700"))
	})
}

// What was learned of an aggregate after somebody looked stays: it is newer.
func TestRemoveLeavesWhatIsNewer(t *testing.T) {
	s, p := &store{ids: []string{"a"}}, parked.New()
	require.NoError(t, p.Refresh(t.Context(), s, nil, 0))
	asOf := p.Now()
	require.NoError(t, p.Refresh(t.Context(), s, nil, 0))
	p.Remove("a", asOf)
	require.True(t, p.Has("a"), "read again since")
	asOf = p.Now()
	p.Add("b")
	p.Remove("b", asOf)
	require.True(t, p.Has("b"), "parked here since")
	p.Remove("a", p.Now())
	require.False(t, p.Has("a"))
}
