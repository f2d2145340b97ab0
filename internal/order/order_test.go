package order

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	from = time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	then = from.Add(time.Hour)
	old  = from.Add(-time.Hour)
)

func TestWhatComesNext(t *testing.T) {
	all, later := Position{Sequence: 4, First: 1, At: then, Began: true}, Position{Sequence: 7, First: 5, At: then, Began: true}
	for _, c := range []struct {
		name string
		p    Position
		e    Event
		from time.Time
		want Step
	}{
		{"the next one", all, Event{5, then, then}, from, Run},
		{"the next one, whatever its time", all, Event{5, old, old}, from, Run},
		{"one behind a gap", all, Event{7, then, then}, from, Heal},
		{"the last one again", all, Event{4, then, then}, from, Duplicate},
		{"an earlier one again", all, Event{1, old, then}, from, Duplicate},
		{"a number that is used again", all, Event{4, then.Add(time.Millisecond), then}, from, Late},
		{"a difference below what is stored", all, Event{4, then.Add(time.Microsecond), then}, from, Duplicate},
		{"a number that nobody knows the time of", Position{Sequence: 4, First: 1, Began: true}, Event{4, then, then}, from, Duplicate},
		{"one below the beginning", later, Event{4, then, then}, from, Late},
		{"one below the beginning, and old", later, Event{4, old, old}, from, Before},
		{"one below the beginning, with an old time, written later", later, Event{4, old, then}, from, Before},
		{"the first one at all", Position{}, Event{1, then, then}, time.Time{}, Run},
		{"the first one, wanted", Position{}, Event{1, then, then}, from, Run},
		{"the first one, old", Position{}, Event{1, old, old}, from, Before},
		{"the first one, with an old time, written later", Position{}, Event{1, old, then}, from, Before},
		{"the first one, without a time", Position{}, Event{Sequence: 1}, from, Run},
		{"a later one of an unknown aggregate", Position{}, Event{3, then, then}, from, Begin},
		{"a later one of an unknown aggregate, old", Position{}, Event{3, old, old}, from, Before},
		{"a later one, if all of the past is wanted", Position{}, Event{3, old, old}, time.Time{}, Heal},
		{"the one at the beginning", Position{Sequence: 4, First: 5, Began: true}, Event{5, then, then}, from, Run},
		{"the one before the beginning", Position{Sequence: 4, First: 5, Began: true}, Event{4, then, then}, from, Late},
		{"a beginning at 1", Position{First: 1, Began: true}, Event{3, then, then}, from, Heal},
		{"the largest number", Position{Sequence: 1<<63 - 2, Began: true}, Event{1<<63 - 1, then, then}, from, Run},
	} {
		require.Equal(t, c.want, Next(c.p, c.e, c.from), c.name)
	}
}

func TestWhereAnAggregateBegins(t *testing.T) {
	here, gone := Row{Present: true, Time: then}, Row{}
	expired, lasting := Row{Present: true, Time: then, ExpiresAt: then}, Row{Present: true, Time: then, ExpiresAt: then.Add(time.Second)}
	older := Row{Present: true, Time: old}
	for _, c := range []struct {
		name  string
		n     int64
		rows  []Row // of n-1, n-2 and so on
		first int64
		more  bool
	}{
		{"at 1", 3, []Row{here, here}, 1, false},
		{"at the event itself", 3, []Row{gone, here}, 3, false},
		{"above a hole", 4, []Row{here, gone, here}, 3, false},
		{"above a row whose time is over", 4, []Row{here, expired, here}, 3, false},
		{"with a row whose time is not over", 4, []Row{here, lasting, here}, 1, false},
		{"above a row that is not wanted", 4, []Row{here, older, here}, 3, false},
		{"further down", 9, []Row{here, here}, 7, true},
	} {
		first, more := Beginning(c.n, c.rows, from, then)
		require.Equal(t, c.first, first, c.name)
		require.Equal(t, c.more, more, c.name)
	}
}

func TestWhatMayStillBeOnItsWay(t *testing.T) {
	young := func(age time.Duration) bool { return Event{ChangedAt: then}.Young(then.Add(age)) }
	require.True(t, young(0))
	require.True(t, young(10*time.Second-1))
	require.False(t, young(10*time.Second))
	require.True(t, young(-time.Second), "clocks differ a little")
	require.False(t, young(-time.Hour), "this clock knows nothing")
	require.False(t, Event{}.Young(then), "nobody knows when it was written")
}
