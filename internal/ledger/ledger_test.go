package ledger

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var t0 = time.Unix(1000, 0)

// holding returns a ledger with n records, "1" to "n" in the slots from 0 on, behind the checkpoint "0".
func holding(t *testing.T, limit, n int) *Ledger {
	l := New(limit, Progress{Checkpoint: "0"}, t0)
	first, added := l.Add(numbers(1, n), t0)
	require.Zero(t, first)
	require.Equal(t, n, added)
	return l
}

func numbers(from, to int) (sequences []string) {
	for i := from; i <= to; i++ {
		sequences = append(sequences, fmt.Sprint(i))
	}
	return sequences
}

func store(l *Ledger, now time.Time) Progress {
	p := l.Progress()
	l.Stored(p, now)
	return p
}

func TestAddTakesWhatThereIsRoomFor(t *testing.T) {
	for name, test := range map[string]struct {
		limit   int
		before  int // added, of which
		settled int // are settled, the first ones, and
		stored  bool
		add     int
		want    int
	}{
		"an empty ledger":                          {16, 0, 0, false, 10, 10},
		"not more than the limit":                  {16, 0, 0, false, 40, 16},
		"a limit of nothing is one of one":         {0, 0, 0, false, 3, 1},
		"nothing":                                  {16, 16, 0, false, 0, 0},
		"a full ledger":                            {16, 16, 0, false, 1, 0},
		"what is finished and not stored":          {16, 16, 16, false, 10, 0},
		"what is stored makes room":                {16, 16, 10, true, 10, 10},
		"what is left of the room":                 {16, 10, 0, false, 10, 6},
		"not for every record, but for an eighth":  {16, 16, 1, true, 10, 0},
		"an eighth":                                {16, 16, 2, true, 10, 2},
		"less than an eighth, if that is the rest": {16, 16, 1, true, 1, 1},
		"a small ledger has no eighth":             {4, 4, 1, true, 10, 1},
	} {
		t.Run(name, func(t *testing.T) {
			l := holding(t, test.limit, test.before)
			for s := range Slot(test.settled) {
				l.Settled(s)
			}
			if test.stored {
				store(l, t0)
			}
			first, n := l.Add(numbers(test.before+1, test.before+test.add), t0)
			require.Equal(t, Slot(test.before), first)
			require.Equal(t, test.want, n)
			require.LessOrEqual(t, l.Status().Unfinished, max(test.limit, 1))
		})
	}
}

func TestMayStart(t *testing.T) {
	why := errors.New("poison")
	for name, test := range map[string]struct {
		before func(l *Ledger)
		slot   Slot // of 5: the aggregates are "even" and "odd", and the last one has none
		want   bool
	}{
		"a new record":                         {func(*Ledger) {}, 3, true},
		"one that has failed":                  {func(l *Ledger) { l.MayStart(3, "odd"); l.Failed(3) }, 3, true},
		"behind one that was left":             {func(l *Ledger) { l.Left(1, "odd") }, 3, false},
		"behind one of another aggregate":      {func(l *Ledger) { l.Left(0, "even") }, 3, true},
		"without an aggregate, behind such":    {func(l *Ledger) { l.Left(0, "") }, 4, true},
		"before poison":                        {func(l *Ledger) { l.Poison(3, why) }, 2, true},
		"poison":                               {func(l *Ledger) { l.Poison(3, why) }, 3, false},
		"behind poison":                        {func(l *Ledger) { l.Poison(3, why) }, 4, false},
		"behind the first of two poisons":      {func(l *Ledger) { l.Poison(1, why); l.Poison(3, why) }, 2, false},
		"stopped, and nothing is begun":        {func(l *Ledger) { l.Stop() }, 0, false},
		"stopped, before one that is begun":    {func(l *Ledger) { l.MayStart(3, "odd"); l.Stop() }, 2, true},
		"stopped, behind one that is begun":    {func(l *Ledger) { l.MayStart(3, "odd"); l.Stop() }, 4, false},
		"stopped, begun before":                {func(l *Ledger) { l.MayStart(2, "even"); l.MayStart(3, "odd"); l.Stop() }, 2, false},
		"stopped, and begun since":             {func(l *Ledger) { l.MayStart(3, "odd"); l.Stop(); l.MayStart(2, "even") }, 2, false},
		"stopped, before one that was left":    {func(l *Ledger) { l.MayStart(3, "odd"); l.Stop(); l.Left(2, "even") }, 1, true},
		"stopped, behind one that was left":    {func(l *Ledger) { l.MayStart(3, "odd"); l.Stop(); l.Left(0, "even") }, 1, false},
		"left before the stop, another behind": {func(l *Ledger) { l.MayStart(3, "odd"); l.Left(0, "even"); l.Stop() }, 1, true},
		"stopped for poison, before it":        {func(l *Ledger) { l.Poison(3, why); l.Stop() }, 2, true},
		"stopped for poison, behind begun":     {func(l *Ledger) { l.MayStart(4, "even"); l.Poison(2, why); l.Stop() }, 3, false},
		"stopped before poison":                {func(l *Ledger) { l.Stop(); l.Poison(3, why) }, 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			l := holding(t, 100, 5)
			test.before(l)
			require.Equal(t, test.want, l.MayStart(test.slot, []string{"even", "odd", "even", "odd", ""}[test.slot]))
		})
	}
}

func TestFailedCountsTheAttemptsOfAllOwners(t *testing.T) {
	l := New(100, Progress{Checkpoint: "0", Attempts: map[string]int{"2": 3, "9": 1}}, t0)
	l.Add(numbers(1, 3), t0)
	require.Equal(t, map[string]int{"2": 3, "9": 1}, l.Progress().Attempts, "also of what is not fetched yet")
	require.False(t, l.Due(t0.Add(time.Hour)), "all of that is stored")
	require.Equal(t, 1, l.Failed(0))
	require.Equal(t, 2, l.Failed(0))
	require.Equal(t, 4, l.Failed(1))
	require.Equal(t, map[string]int{"1": 2, "2": 4, "9": 1}, l.Progress().Attempts)
	l.Settled(1)
	require.Equal(t, map[string]int{"1": 2, "9": 1}, l.Progress().Attempts, "what is finished has none")
	l.Add([]string{"9"}, t0)
	require.Equal(t, 2, l.Failed(3))
	l.Settled(3)
	l.Settled(0)
	require.Nil(t, l.Progress().Attempts)
}

func TestTheAttemptsOfTheOldestRecordsAreKept(t *testing.T) {
	l := New(100, Progress{Checkpoint: "0", Attempts: map[string]int{"later": 7, "much later": 8}}, t0)
	l.Add(numbers(1, 50), t0)
	for s := range Slot(19) {
		l.Failed(49 - s)
	}
	got := l.Progress().Attempts
	require.Len(t, got, maxRemembered, "a row of the lease table is not for more")
	for i := 32; i <= 50; i++ {
		require.Equal(t, 1, got[fmt.Sprint(i)])
	}
	l.Failed(0)
	l.Failed(1)
	want := map[string]int{"1": 1, "2": 1}
	for i := 32; i < 50; i++ {
		want[fmt.Sprint(i)] = 1
	}
	require.Equal(t, want, l.Progress().Attempts)
}

func TestSettledMovesTheCheckpointOverWhatIsFinishedWithoutAGap(t *testing.T) {
	l := holding(t, 100, 5)
	for _, step := range []struct {
		slot       Slot
		checkpoint string
		status     Status
	}{
		{1, "0", Status{5, t0, 0}},
		{3, "0", Status{5, t0, 0}},
		{0, "2", Status{3, t0, 2}},
		{2, "4", Status{1, t0, 4}},
		{4, "5", Status{0, time.Time{}, 5}},
	} {
		l.Settled(step.slot)
		require.Equal(t, step.checkpoint, l.Progress().Checkpoint)
		require.Equal(t, step.status, l.Status())
	}
	l.Add(numbers(6, 6), t0.Add(time.Minute))
	require.Equal(t, Status{1, t0.Add(time.Minute), 5}, l.Status())
}

func TestSettledSaysWhenTheCheckpointIsDue(t *testing.T) {
	for name, test := range map[string]struct {
		limit int
		due   int // with which finished record
	}{
		"a large limit":  {10_000, 500},
		"a quarter":      {400, 100},
		"a small limit":  {3, 1},
		"the border":     {2_000, 500},
		"just below it":  {1_996, 499},
		"the least that": {1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			l := New(test.limit, Progress{}, t0)
			for s := range Slot(2 * test.due) {
				if int(s) == test.due {
					require.True(t, l.Due(t0))
					store(l, t0)
					require.False(t, l.Due(t0.Add(time.Hour)))
				}
				first, n := l.Add([]string{fmt.Sprint(s)}, t0)
				require.Equal(t, s, first)
				require.Equal(t, 1, n)
				require.Equal(t, int(s)%test.due == test.due-1, l.Settled(s), s)
			}
		})
	}
	l := holding(t, 4, 3)
	require.False(t, l.Settled(1), "nothing is finished without a gap")
}

func TestARecordIsSettledOnce(t *testing.T) {
	l := holding(t, 4, 3)
	require.Panics(t, func() { l.Settled(3) })
	l.Settled(1)
	require.Panics(t, func() { l.Settled(1) })
	require.Panics(t, func() { l.MayStart(1, "a") })
	require.Panics(t, func() { l.Failed(1) })
	l.Settled(0)
	require.Panics(t, func() { l.Settled(0) })
	require.Equal(t, "2", l.Progress().Checkpoint)
}

func TestTheFirstPoisonCounts(t *testing.T) {
	first, second, third := errors.New("first"), errors.New("second"), errors.New("third")
	l := holding(t, 10, 5)
	require.NoError(t, l.Poisoned())
	l.Poison(3, second)
	require.Equal(t, second, l.Poisoned())
	l.Poison(4, third)
	require.Equal(t, second, l.Poisoned())
	l.Poison(1, first)
	require.Equal(t, first, l.Poisoned())
}

func TestStopIsRemembered(t *testing.T) {
	l := holding(t, 10, 1)
	require.False(t, l.Stopping())
	l.Poison(0, errors.New("poison"))
	require.False(t, l.Stopping(), "what lies before it is handled")
	l.Stop()
	l.Stop()
	require.True(t, l.Stopping())
}

func TestDue(t *testing.T) {
	for name, test := range map[string]struct {
		does  func(l *Ledger)
		after time.Duration
		want  bool
	}{
		"nothing was done":           {func(*Ledger) {}, time.Hour, false},
		"finished behind a gap":      {func(l *Ledger) { l.Settled(1) }, time.Hour, false},
		"one, at once":               {func(l *Ledger) { l.Settled(0) }, 0, false},
		"one, just before the time":  {func(l *Ledger) { l.Settled(0) }, Every - 1, false},
		"one, at the time":           {func(l *Ledger) { l.Settled(0) }, Every, true},
		"a quarter of the limit":     {func(l *Ledger) { l.Settled(0); l.Settled(1) }, 0, true},
		"a failed attempt":           {func(l *Ledger) { l.Failed(2) }, 0, true},
		"a failed one that is over":  {func(l *Ledger) { l.Failed(2); store(l, t0); l.Settled(2) }, 0, true},
		"stored":                     {func(l *Ledger) { l.Failed(2); l.Settled(0); store(l, t0) }, time.Hour, false},
		"stored, and not in between": {func(l *Ledger) { p := l.Progress(); l.Settled(0); l.Stored(p, t0.Add(time.Hour)) }, time.Hour + Every, true},
		"counted while it was stored": {func(l *Ledger) {
			l.Failed(2)
			p := l.Progress()
			l.Failed(2)
			l.Stored(p, t0)
		}, 0, true},
		"the time counts from the last store": {func(l *Ledger) {
			l.Settled(0)
			store(l, t0.Add(time.Minute))
			l.Settled(1)
		}, time.Minute + Every - 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			l := holding(t, 8, 5)
			test.does(l)
			require.Equal(t, test.want, l.Due(t0.Add(test.after)))
		})
	}
}

func TestStoredMakesRoomAndNeverTakesItBack(t *testing.T) {
	l := holding(t, 4, 4)
	early := l.Progress()
	l.Settled(0)
	l.Settled(1)
	late := l.Progress()
	require.Equal(t, Status{2, t0, 2}, l.Status())
	l.Stored(late, t0)
	require.Equal(t, Status{2, t0, 0}, l.Status())
	l.Stored(early, t0)
	require.Equal(t, Status{2, t0, 0}, l.Status(), "an answer that comes late")
	_, n := l.Add(numbers(5, 9), t0)
	require.Equal(t, 2, n)
}

// TestManyHandlersFinishOneShard has handlers finish in any order while a fetcher adds and somebody stores what there is.
func TestManyHandlersFinishOneShard(t *testing.T) {
	const records, limit, handlers = 5000, 64, 8
	l := New(limit, Progress{Checkpoint: "none"}, t0)
	work := make(chan Slot, limit)
	var mu sync.Mutex
	finished := make([]bool, records)
	var all sync.WaitGroup
	for range handlers {
		all.Go(func() {
			for slot := range work {
				mu.Lock()
				finished[slot] = true
				mu.Unlock()
				l.Settled(slot)
			}
		})
	}
	look := func() error { // and store
		p := l.Progress()
		mu.Lock()
		defer mu.Unlock()
		if gap := slices.Index(finished[:p.finished], false); gap >= 0 {
			return fmt.Errorf("the checkpoint %q has passed record %d, which is not finished", p.Checkpoint, gap)
		}
		if p.finished > 0 && p.Checkpoint != fmt.Sprint(p.finished-1) {
			return fmt.Errorf("the checkpoint is %q, with %d records finished", p.Checkpoint, p.finished)
		}
		l.Stored(p, t0)
		return nil
	}
	for next := 0; next < records; {
		batch := numbers(next, min(next+next%100, records-1))
		for len(batch) > 0 {
			first, n := l.Add(batch, t0)
			require.EqualValues(t, next, first)
			for i := range n {
				work <- first + Slot(i)
			}
			next, batch = next+n, batch[n:]
			require.NoError(t, look())
			require.LessOrEqual(t, l.Status().Unfinished, limit)
		}
	}
	close(work)
	all.Wait()
	require.NoError(t, look())
	require.Equal(t, fmt.Sprint(records-1), l.Progress().Checkpoint)
	require.Equal(t, Status{}, l.Status())
}

func TestNoAllocationPerRecord(t *testing.T) {
	l := New(1000, Progress{}, t0)
	batch := numbers(1, 100)
	require.Zero(t, testing.AllocsPerRun(100, func() { handle(l, batch) }))
}

func handle(l *Ledger, batch []string) {
	first, n := l.Add(batch, t0)
	for i := n - 1; i >= 0; i-- {
		l.MayStart(first+Slot(i), "a")
	}
	for i := n - 1; i >= 0; i-- {
		l.Settled(first + Slot(i))
	}
	store(l, t0)
}

func BenchmarkARecord(b *testing.B) {
	l := New(1000, Progress{}, t0)
	batch := numbers(1, 100)
	b.ReportAllocs()
	for b.Loop() {
		handle(l, batch)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100, "ns/record")
}
