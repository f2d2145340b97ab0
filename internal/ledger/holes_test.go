package ledger

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// known returns a ledger like holding, whose records belong to these aggregates; the last one to the rest.
func known(t *testing.T, limit, n int, keys ...uint64) *Ledger {
	l := holding(t, limit, n)
	for s := range Slot(n) {
		l.Keys([]Slot{s}, []uint64{keys[min(int(s), len(keys)-1)]})
	}
	return l
}

// holesOf returns the sequence numbers of the holes that a look at some moment leaves.
func holesOf(l *Ledger, at time.Duration) (numbers []string) {
	l.Due(t0.Add(at))
	for _, h := range l.Progress().Holes {
		numbers = append(numbers, h.Sequence)
	}
	return numbers
}

// When a record becomes a hole: in a ring of 20, of which the records 3 to 11 are finished.
func TestWhenARecordBecomesAHole(t *testing.T) {
	for name, test := range map[string]struct {
		before func(l *Ledger)
		n      int
		at     time.Duration
		want   []string
		up     string // the checkpoint
	}{
		"it has failed":                       {func(l *Ledger) { l.Failed(0) }, 11, 0, []string{"1"}, "1"},
		"two have failed":                     {func(l *Ledger) { l.Failed(0); l.Failed(1) }, 11, 0, []string{"1", "2"}, "11"},
		"it has failed, and there is room":    {func(l *Ledger) { l.Failed(0) }, 10, time.Hour, nil, "0"},
		"it has not":                          {func(l *Ledger) { l.MayStart(0, "a") }, 11, 0, nil, "0"},
		"one behind it has":                   {func(l *Ledger) { l.Failed(1) }, 11, 0, nil, "0"},
		"it runs for long":                    {func(l *Ledger) { l.MayStart(0, "a") }, 11, long, []string{"1"}, "1"},
		"not so long":                         {func(l *Ledger) { l.MayStart(0, "a") }, 11, long - 1, nil, "0"},
		"it waits for long for what is not":   {func(l *Ledger) {}, 11, long, []string{"1"}, "1"},
		"behind one of its aggregate":         {func(l *Ledger) { l.Keys([]Slot{0, 1}, []uint64{5, 5}); l.Failed(0) }, 11, 0, []string{"1", "2"}, "11"},
		"none has an aggregate":               {func(l *Ledger) { l.Keys([]Slot{0, 1}, []uint64{0, 0}); l.Failed(0) }, 11, 0, []string{"1"}, "1"},
		"it waits for another shard":          {func(l *Ledger) { l.Deferred(0) }, 11, 0, []string{"1"}, "1"},
		"the shard has ended":                 {func(l *Ledger) { l.Failed(0); l.Failed(1); l.End() }, 5, 0, []string{"1", "2"}, "5"},
		"ended, and not failed":               {func(l *Ledger) { l.MayStart(0, "a"); l.End() }, 5, 0, nil, "0"},
		"ended, and running for long":         {func(l *Ledger) { l.MayStart(0, "a"); l.End() }, 5, long, []string{"1"}, "1"},
		"it is poison":                        {func(l *Ledger) { l.Failed(0); l.Poison(0, errors.New("no")) }, 11, 0, nil, "0"},
		"it lies before poison":               {func(l *Ledger) { l.Failed(0); l.Poison(1, errors.New("no")) }, 11, 0, []string{"1"}, "1"},
		"nothing more is handled":             {func(l *Ledger) { l.Drained() }, 5, 0, []string{"1", "2"}, "5"},
		"nothing is finished behind it":       {func(l *Ledger) { l.Drained() }, 2, 0, nil, "0"},
		"nothing more is handled, and poison": {func(l *Ledger) { l.Poison(1, errors.New("no")); l.Drained() }, 5, 0, []string{"1"}, "1"},
	} {
		t.Run(name, func(t *testing.T) {
			l := known(t, 20, test.n, 1, 2, 3)
			for s := Slot(2); s < Slot(test.n); s++ {
				l.Settled(s)
			}
			test.before(l)
			require.Equal(t, test.want, holesOf(l, test.at))
			require.Equal(t, test.up, l.Progress().Checkpoint)
			require.Equal(t, test.n == 5 && test.up == "5" && l.ended, l.Progress().Ended)
		})
	}
	l := holding(t, 20, 11)
	l.Failed(0)
	require.Empty(t, holesOf(l, time.Hour), "nobody knows its aggregate yet")
}

func TestHolesAreFew(t *testing.T) {
	for limit, most := range map[int]int{1: 0, 2: 1, 20: 10, 99: 49, 100: 50, 5000: 50} {
		l := known(t, limit, limit, 7)
		for s := range Slot(limit) {
			l.Failed(s)
		}
		require.LessOrEqual(t, len(holesOf(l, 0)), most, limit)
		l.End()
		require.Len(t, holesOf(l, 0), most, limit)
	}
}

// The owner after goes on with the holes: they count in what a crash repeats, keep their attempts, and are gone when they are finished.
func TestHolesOfTheOwnerBefore(t *testing.T) {
	l := New(10, Progress{Checkpoint: "9", Attempts: map[string]int{"10": 2}, Holes: []Hole{{0, "3", 7, 4}, {1, "5", 7, 0}}}, t0)
	require.False(t, l.Due(t0.Add(time.Hour)), "all of that is stored")
	require.Equal(t, Status{2, t0, 0}, l.Status())
	first, n := l.Add(numbers(10, 30), t0)
	require.Equal(t, Slot(2), first)
	require.Equal(t, 8, n, "the holes take room")
	require.True(t, l.MayStart(0, "a"))
	require.Equal(t, 5, l.Failed(0))
	require.Equal(t, 3, l.Failed(2))
	p := l.Progress()
	require.Equal(t, []Hole{{0, "3", 7, 5}, {1, "5", 7, 0}}, p.Holes)
	require.Equal(t, map[string]int{"10": 3}, p.Attempts)
	require.False(t, l.Settled(0))
	require.Panics(t, func() { l.Settled(0) })
	require.True(t, l.Due(t0), "a hole less is to be stored")
	_, n = l.Add(numbers(18, 30), t0)
	require.Zero(t, n, "until then a crash repeats it")
	store(l, t0)
	_, n = l.Add(numbers(18, 30), t0)
	require.Equal(t, 1, n)
	l.Stop()
	require.False(t, l.MayStart(1, "a"), "it is a hole for the next owner, too")

	l = New(10, Progress{Checkpoint: "SHARD_END", Holes: []Hole{{0, "3", 7, 0}}, Ended: true}, t0)
	require.True(t, l.Progress().Ended)
	l.Settled(0)
	require.True(t, l.Progress().Ended)
	require.Empty(t, l.Progress().Holes)
	require.Zero(t, l.Status().Unfinished)
	many := Progress{Checkpoint: "9"}
	for i := range 20 {
		many.Holes = append(many.Holes, Hole{Slot(i), fmt.Sprint(i), 1, 0})
	}
	_, n = New(10, many, t0).Add(numbers(10, 11), t0)
	require.Zero(t, n, "the owner before had a larger limit")
}

// The last finished record of a shard makes its end due at once.
func TestTheEndIsDueAtOnce(t *testing.T) {
	l := known(t, 100, 4, 1, 2, 3, 4)
	l.Failed(1)
	l.Settled(0)
	store(l, t0)
	l.End()
	require.True(t, l.Due(t0), "what waits can be passed now")
	store(l, t0)
	require.False(t, l.Settled(3))
	require.True(t, l.Settled(2))
	require.True(t, l.Due(t0))
	require.True(t, l.Progress().Ended)
}
