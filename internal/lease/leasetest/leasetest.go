// Package leasetest is the conformance suite of lease.Store: what every implementation must do, also with writes that come twice
// or late. It is for tests only.
package leasetest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/lease"
)

// Conform runs the suite. Each test gets an empty store.
func Conform(t *testing.T, empty func(t *testing.T) lease.Store) {
	for name, test := range map[string]func(*suite){
		"an empty view":        testEmpty,
		"workers":              testWorkers,
		"late beats":           testLateBeats,
		"the mark of death":    testMarkDead,
		"begin":                testBegin,
		"ensure":               testEnsure,
		"acquire":              testAcquire,
		"want":                 testWant,
		"save":                 testSave,
		"release":              testRelease,
		"hand over":            testHandOver,
		"end":                  testEnd,
		"end with holes":       testEndWithHoles,
		"end of both parents":  testMerge,
		"gone":                 testGone,
		"an end taken back":    testReopen,
		"an ended context":     testContext,
		"answers are no views": testCopies,
	} {
		t.Run(name, func(t *testing.T) {
			test(&suite{t, t.Context(), empty(t)})
		})
	}
}

type suite struct {
	t   *testing.T
	ctx context.Context
	lease.Store
}

func (s *suite) ok(err error)      { s.t.Helper(); require.NoError(s.t, err) }
func (s *suite) refused(err error) { s.t.Helper(); require.ErrorIs(s.t, err, lease.ErrRefused) }

// beat is a beat that carries ten times its number as moves.
func (s *suite) beat(worker string, beat int64, draining bool) error {
	return s.Beat(s.ctx, lease.Worker{ID: worker, Beat: beat, Moves: 10 * beat, Draining: draining, Version: "v1"})
}

func (s *suite) view() lease.View {
	s.t.Helper()
	v, err := s.View(s.ctx)
	s.ok(err)
	looked, err := s.Look(s.ctx) // in these tests nothing is out of date
	s.ok(err)
	require.Equal(s.t, v.Workers, looked, "a look sees other workers than a view")
	return v
}

func (s *suite) row(shard string) lease.Lease {
	s.t.Helper()
	for _, l := range s.view().Leases {
		if l.ID == shard {
			return l
		}
	}
	require.Failf(s.t, "no lease", "shard %s in %+v", shard, s.view())
	return lease.Lease{}
}

func (s *suite) acquire(shard, worker string) lease.Lease {
	s.t.Helper()
	l, err := s.Acquire(s.ctx, s.row(shard), worker)
	s.ok(err)
	return l
}

var shard = lease.Shard{ID: "s-1", Parents: []string{"p-1", "p-2"}, HashLo: "0", HashHi: "340282366920938463463374607431768211455"}

func testEmpty(s *suite) { require.Equal(s.t, lease.View{}, s.view()) }

func testWorkers(s *suite) {
	s.ok(s.Register(s.ctx, "b", time.Minute))
	s.ok(s.Register(s.ctx, "a", time.Second))
	s.ok(s.Register(s.ctx, "a", time.Second)) // again, after a lost answer
	s.ok(s.beat("a", 1, false))
	require.Equal(s.t, []lease.Worker{{ID: "a", Beat: 1, Moves: 10, Duration: time.Second, Version: "v1"}, {ID: "b", Moves: 1, Duration: time.Minute}}, s.view().Workers)
	s.refused(s.Register(s.ctx, "a", time.Second)) // the name belongs to another worker

	s.refused(s.ForgetWorker(s.ctx, "a"))
	s.ok(s.Retire(s.ctx, "a"))
	s.ok(s.Retire(s.ctx, "a"))
	require.True(s.t, s.view().Workers[0].Dead)
	s.refused(s.Register(s.ctx, "a", time.Second))
	s.ok(s.ForgetWorker(s.ctx, "a"))
	s.ok(s.ForgetWorker(s.ctx, "a"))
	require.Len(s.t, s.view().Workers, 1)

	// Nothing late makes the worker live again.
	s.refused(s.beat("a", 2, false))
	s.refused(s.MarkDead(s.ctx, "a", 1))
	s.ok(s.Retire(s.ctx, "a"))
	require.Len(s.t, s.view().Workers, 1)
}

// Where a group begins is decided once.
func testBegin(s *suite) {
	for _, position := range []string{"first", "second", "first"} {
		begun, err := s.Begin(s.ctx, position)
		s.ok(err)
		require.Equal(s.t, "first", begun)
	}
	require.Equal(s.t, lease.View{}, s.view())
}

func testLateBeats(s *suite) {
	s.ok(s.Register(s.ctx, "a", time.Second))
	s.ok(s.beat("a", 2, true))
	s.ok(s.beat("a", 1, false)) // a late copy; the worker lives, so it is not refused
	s.ok(s.beat("a", 2, true))
	require.Equal(s.t, []lease.Worker{{ID: "a", Beat: 2, Moves: 20, Duration: time.Second, Draining: true, Version: "v1"}}, s.view().Workers)
}

func testMarkDead(s *suite) {
	s.ok(s.Register(s.ctx, "a", time.Second))
	s.ok(s.beat("a", 1, false))
	s.refused(s.MarkDead(s.ctx, "a", 0)) // the worker has beaten meanwhile
	require.False(s.t, s.view().Workers[0].Dead)
	s.ok(s.MarkDead(s.ctx, "a", 1))
	s.ok(s.MarkDead(s.ctx, "a", 1))
	s.ok(s.MarkDead(s.ctx, "a", 0)) // the worker is dead already
	require.True(s.t, s.view().Workers[0].Dead)
	s.refused(s.beat("a", 2, false))
	require.EqualValues(s.t, 1, s.view().Workers[0].Beat)
}

func testEnsure(s *suite) {
	s.ok(s.Ensure(s.ctx, shard, "10"))
	want := lease.Lease{Shard: shard, Progress: lease.Progress{Checkpoint: "10"}}
	require.Equal(s.t, want, s.row("s-1"))
	s.ok(s.Ensure(s.ctx, lease.Shard{ID: "s-1"}, "5"))
	require.Equal(s.t, want, s.row("s-1"), "a row that is there was changed")
	s.ok(s.Ensure(s.ctx, lease.Shard{ID: "s-0"}, lease.TrimHorizon))
	require.Equal(s.t, []lease.Lease{{Shard: lease.Shard{ID: "s-0"}, Progress: lease.Progress{Checkpoint: lease.TrimHorizon}}, want}, s.view().Leases)
}

func testAcquire(s *suite) {
	_, err := s.Acquire(s.ctx, lease.Lease{Shard: shard}, "a")
	s.refused(err)
	s.ok(s.Ensure(s.ctx, shard, "10"))
	free := s.row("s-1")
	l, err := s.Acquire(s.ctx, free, "a")
	s.ok(err)
	require.Equal(s.t, lease.Lease{Shard: shard, Owner: "a", Fence: 1, Progress: lease.Progress{Checkpoint: "10"}}, l)
	require.Equal(s.t, l, s.row("s-1"))
	again, err := s.Acquire(s.ctx, free, "a")
	s.ok(err)
	require.Equal(s.t, l, again)
	_, err = s.Acquire(s.ctx, free, "b")
	s.refused(err)

	s.ok(s.Want(s.ctx, l, "b"))
	s.ok(s.Save(s.ctx, l.Key(), 7, lease.Progress{Checkpoint: "11", Attempts: map[string]int{"12": 3}}))
	taken, err := s.Acquire(s.ctx, l, "c") // the owner is dead; want and progress may have changed
	s.ok(err)
	require.Equal(s.t, lease.Lease{Shard: shard, Owner: "c", Fence: 2, Progress: lease.Progress{Checkpoint: "11", Attempts: map[string]int{"12": 3}}}, taken)
	_, err = s.Acquire(s.ctx, free, "a") // a late copy
	s.refused(err)
	_, err = s.Acquire(s.ctx, lease.Lease{Shard: shard, Owner: "a", Fence: 2}, "b")
	s.refused(err)
	require.Equal(s.t, taken, s.row("s-1"))
}

func testWant(s *suite) {
	s.ok(s.Ensure(s.ctx, shard, "10"))
	s.refused(s.Want(s.ctx, s.row("s-1"), "b")) // no owner to ask
	l := s.acquire("s-1", "a")
	s.ok(s.Want(s.ctx, l, "b"))
	s.ok(s.Want(s.ctx, l, "b"))
	s.refused(s.Want(s.ctx, l, "c"))
	s.ok(s.Want(s.ctx, s.row("s-1"), "c"))
	s.refused(s.Want(s.ctx, l, "b"))
	require.Equal(s.t, "c", s.row("s-1").Want)
	next := s.acquire("s-1", "d")
	s.refused(s.Want(s.ctx, l, "b"))
	require.Equal(s.t, next, s.row("s-1"))
}

func testSave(s *suite) {
	s.ok(s.Ensure(s.ctx, shard, "10"))
	s.refused(s.Save(s.ctx, s.row("s-1").Key(), 1, lease.Progress{Checkpoint: "11"})) // no owner
	key := s.acquire("s-1", "a").Key()
	attempts := map[string]int{"12": 1, "13": 2}
	s.ok(s.Save(s.ctx, key, 1, lease.Progress{Checkpoint: "11", Attempts: attempts}))
	s.ok(s.Save(s.ctx, key, 1, lease.Progress{Checkpoint: "11", Attempts: attempts}))
	l := s.row("s-1")
	require.Equal(s.t, lease.Progress{Checkpoint: "11", Attempts: map[string]int{"12": 1, "13": 2}}, l.Progress)
	require.EqualValues(s.t, 1, l.N)
	s.ok(s.Save(s.ctx, key, 3, lease.Progress{Checkpoint: "14"}))
	s.refused(s.Save(s.ctx, key, 2, lease.Progress{Checkpoint: "12"})) // a late copy
	require.Equal(s.t, lease.Progress{Checkpoint: "14"}, s.row("s-1").Progress)

	s.refused(s.Save(s.ctx, lease.Key{Shard: "s-1", Owner: "b", Fence: 1}, 9, lease.Progress{Checkpoint: "15"}))
	next := s.acquire("s-1", "a") // the same worker at another fence is another owner
	s.refused(s.Save(s.ctx, key, 9, lease.Progress{Checkpoint: "15"}))
	s.ok(s.Save(s.ctx, next.Key(), 1, lease.Progress{Checkpoint: "15"})) // numbers start anew
	require.Equal(s.t, "15", s.row("s-1").Checkpoint)
}

func testRelease(s *suite) {
	s.ok(s.Ensure(s.ctx, shard, "10"))
	l := s.acquire("s-1", "a")
	s.ok(s.Save(s.ctx, l.Key(), 4, lease.Progress{Checkpoint: "11"}))
	s.ok(s.Want(s.ctx, l, "b"))
	s.refused(s.Release(s.ctx, lease.Key{Shard: "s-1", Owner: "b", Fence: 1}, ""))
	s.ok(s.Release(s.ctx, l.Key(), ""))
	s.ok(s.Release(s.ctx, l.Key(), ""))
	require.Equal(s.t, lease.Lease{Shard: shard, Fence: 1, Progress: lease.Progress{Checkpoint: "11"}}, s.row("s-1"))
	s.refused(s.Save(s.ctx, l.Key(), 5, lease.Progress{Checkpoint: "12"}))
	next := s.acquire("s-1", "b")
	require.EqualValues(s.t, 2, next.Fence)
	s.refused(s.Release(s.ctx, l.Key(), ""))
	require.Equal(s.t, next, s.row("s-1"))
}

func testHandOver(s *suite) {
	s.ok(s.Ensure(s.ctx, shard, "10"))
	l := s.acquire("s-1", "a")
	s.ok(s.Save(s.ctx, l.Key(), 4, lease.Progress{Checkpoint: "11"}))
	s.ok(s.Want(s.ctx, l, "b"))
	s.ok(s.Release(s.ctx, l.Key(), "b"))
	s.ok(s.Release(s.ctx, l.Key(), "b"))
	require.Equal(s.t, lease.Lease{Shard: shard, Owner: "b", Fence: 2, Progress: lease.Progress{Checkpoint: "11"}}, s.row("s-1"))
	s.refused(s.Release(s.ctx, l.Key(), "c"))
	s.refused(s.Save(s.ctx, l.Key(), 5, lease.Progress{Checkpoint: "12"}))
	s.ok(s.Save(s.ctx, lease.Key{Shard: "s-1", Owner: "b", Fence: 2}, 1, lease.Progress{Checkpoint: "12"}))
}

func testEnd(s *suite) {
	s.ok(s.Ensure(s.ctx, shard, "10"))
	l := s.acquire("s-1", "a")
	s.ok(s.Save(s.ctx, l.Key(), 1, lease.Progress{Checkpoint: "11", Attempts: map[string]int{"12": 1}}))
	children := []lease.Shard{{ID: "s-2", Parents: []string{"s-1"}, HashLo: "0", HashHi: "4"}, {ID: "s-3", Parents: []string{"s-1"}, HashLo: "5", HashHi: "9"}}
	s.ok(s.Ensure(s.ctx, children[1], "77")) // a listing had the child before

	s.refused(s.End(s.ctx, lease.Key{Shard: "s-1", Owner: "b", Fence: 1}, 2, nil, children))
	require.Len(s.t, s.view().Leases, 2, "a refused end has made a child")
	s.ok(s.End(s.ctx, l.Key(), 2, nil, children))
	s.ok(s.End(s.ctx, l.Key(), 2, nil, children))
	ended := s.row("s-1")
	require.Equal(s.t, lease.Progress{Checkpoint: lease.ShardEnd}, ended.Progress)
	require.Empty(s.t, ended.Owner)
	require.Equal(s.t, lease.Lease{Shard: children[0], Progress: lease.Progress{Checkpoint: lease.TrimHorizon}}, s.row("s-2"))
	require.Equal(s.t, lease.Lease{Shard: children[1], Progress: lease.Progress{Checkpoint: "77"}}, s.row("s-3"))

	_, err := s.Acquire(s.ctx, ended, "b")
	s.refused(err)
	s.refused(s.Save(s.ctx, l.Key(), 2, lease.Progress{Checkpoint: "12"}))
	child := s.acquire("s-2", "b")
	s.ok(s.End(s.ctx, l.Key(), 2, nil, children)) // a late copy
	require.Equal(s.t, child, s.row("s-2"))
	s.refused(s.End(s.ctx, lease.Key{Shard: "s-2", Owner: "a", Fence: 1}, 2, nil, nil))
	s.ok(s.End(s.ctx, child.Key(), 2, nil, nil))
}

func testEndWithHoles(s *suite) {
	s.ok(s.Ensure(s.ctx, shard, "10"))
	l := s.acquire("s-1", "a")
	holes := map[string]lease.Hole{"11": {Attempts: 2, Key: 1 << 63}, "12": {Key: 5}}
	s.ok(s.Save(s.ctx, l.Key(), 1, lease.Progress{Checkpoint: "12", Attempts: map[string]int{"13": 1}, Holes: holes}))
	require.Equal(s.t, lease.Progress{Checkpoint: "12", Attempts: map[string]int{"13": 1}, Holes: holes}, s.row("s-1").Progress)
	s.ok(s.Save(s.ctx, l.Key(), 2, lease.Progress{Checkpoint: "13"}))
	require.Nil(s.t, s.row("s-1").Holes)

	child := lease.Shard{ID: "s-2", Parents: []string{"s-1"}}
	s.refused(s.End(s.ctx, l.Key(), 1, holes, []lease.Shard{child})) // a later write is stored
	s.refused(s.Finish(s.ctx, l.Key()))
	s.ok(s.End(s.ctx, l.Key(), 3, holes, []lease.Shard{child}))
	ended := lease.Lease{Shard: shard, Owner: "a", Fence: 1, N: 3, Last: "13", Progress: lease.Progress{Checkpoint: lease.ShardEnd, Holes: holes}}
	require.Equal(s.t, ended, s.row("s-1"))
	s.ok(s.End(s.ctx, l.Key(), 3, holes, []lease.Shard{child})) // a repeat after a lost answer
	require.Equal(s.t, ended, s.row("s-1"))
	require.Equal(s.t, lease.Lease{Shard: child, Progress: lease.Progress{Checkpoint: lease.TrimHorizon}}, s.row("s-2"))
	delete(holes, "11")
	require.Len(s.t, s.row("s-1").Holes, 2, "the store shares its holes")

	s.ok(s.Save(s.ctx, l.Key(), 4, lease.Progress{Checkpoint: lease.ShardEnd, Holes: holes}))
	s.ok(s.End(s.ctx, l.Key(), 3, ended.Holes, []lease.Shard{child})) // a late copy
	require.Equal(s.t, holes, s.row("s-1").Holes)
	s.ok(s.Release(s.ctx, l.Key(), ""))
	l = s.acquire("s-1", "b")
	require.Equal(s.t, lease.Progress{Checkpoint: lease.ShardEnd, Holes: holes}, l.Progress)
	s.refused(s.Finish(s.ctx, lease.Key{Shard: "s-1", Owner: "a", Fence: 1}))
	s.ok(s.Finish(s.ctx, l.Key()))
	s.ok(s.Finish(s.ctx, l.Key()))
	finished := s.row("s-1")
	require.Empty(s.t, finished.Owner)
	require.Equal(s.t, lease.Progress{Checkpoint: lease.ShardEnd}, finished.Progress)
	_, err := s.Acquire(s.ctx, finished, "c")
	s.refused(err)
	s.refused(s.Save(s.ctx, l.Key(), 9, lease.Progress{Checkpoint: lease.ShardEnd, Holes: holes})) // a late copy
	s.refused(s.Finish(s.ctx, lease.Key{Shard: "s-1", Owner: "", Fence: 2}))
}

func testMerge(s *suite) {
	child := lease.Shard{ID: "s-3", Parents: []string{"s-1", "s-2"}, HashLo: "0", HashHi: "9"}
	for _, id := range []string{"s-1", "s-2"} {
		s.ok(s.Ensure(s.ctx, lease.Shard{ID: id}, lease.TrimHorizon))
		s.ok(s.End(s.ctx, s.acquire(id, "a").Key(), 1, nil, []lease.Shard{child}))
		require.Equal(s.t, lease.Lease{Shard: child, Progress: lease.Progress{Checkpoint: lease.TrimHorizon}}, s.row("s-3"))
	}
}

func testGone(s *suite) {
	s.ok(s.Ensure(s.ctx, shard, "10"))
	free := s.row("s-1")
	l := s.acquire("s-1", "a")
	s.refused(s.Gone(s.ctx, l)) // nobody misses it
	s.refused(s.Miss(s.ctx, free, "b"))
	s.ok(s.Miss(s.ctx, l, "b"))
	s.ok(s.Miss(s.ctx, l, "b"))
	s.refused(s.Miss(s.ctx, l, "c"))
	s.refused(s.Gone(s.ctx, l)) // as it was before b missed it
	missed := s.row("s-1")
	require.Equal(s.t, lease.Lease{Shard: shard, Owner: "a", Fence: 1, Missing: "b", Progress: lease.Progress{Checkpoint: "10"}}, missed)
	s.ok(s.Miss(s.ctx, missed, "c"))
	s.refused(s.Gone(s.ctx, missed))
	missed = s.row("s-1")
	s.ok(s.Gone(s.ctx, missed))
	s.ok(s.Gone(s.ctx, missed))
	gone := s.row("s-1")
	require.Equal(s.t, lease.Lease{Shard: shard, Fence: 1, Gone: true, Missing: "c", Progress: lease.Progress{Checkpoint: "10"}}, gone)
	s.ok(s.Ensure(s.ctx, shard, "10"))
	_, err := s.Acquire(s.ctx, gone, "b")
	s.refused(err)
	s.refused(s.Miss(s.ctx, gone, "d"))

	s.ok(s.Revive(s.ctx, gone))
	s.ok(s.Revive(s.ctx, gone))
	require.Equal(s.t, lease.Lease{Shard: shard, Fence: 1, Progress: lease.Progress{Checkpoint: "10"}}, s.row("s-1"))
	s.refused(s.Gone(s.ctx, missed)) // a late copy
	s.acquire("s-1", "b")
	s.refused(s.Revive(s.ctx, gone))
	s.refused(s.Gone(s.ctx, missed))
	s.refused(s.Gone(s.ctx, lease.Lease{Shard: lease.Shard{ID: "s-9"}, Missing: "b"}))
}

// An end is taken back, to the checkpoint before it, by whoever finds the shard open.
func testReopen(s *suite) {
	s.ok(s.Ensure(s.ctx, shard, "10"))
	l := s.acquire("s-1", "a")
	s.refused(s.Reopen(s.ctx, l))
	s.ok(s.Save(s.ctx, l.Key(), 1, lease.Progress{Checkpoint: "11"}))
	s.ok(s.End(s.ctx, l.Key(), 2, nil, nil))
	ended := s.row("s-1")
	require.Equal(s.t, "11", ended.Last)
	s.ok(s.Reopen(s.ctx, ended))
	s.ok(s.Reopen(s.ctx, ended))
	require.Equal(s.t, lease.Progress{Checkpoint: "11"}, s.row("s-1").Progress)
	require.Empty(s.t, s.row("s-1").Last)
	again := s.acquire("s-1", "b")
	require.EqualValues(s.t, 2, again.Fence)
	s.refused(s.Reopen(s.ctx, ended))
	s.ok(s.End(s.ctx, again.Key(), 1, nil, nil))
	s.refused(s.Reopen(s.ctx, ended)) // a late copy
	require.Equal(s.t, lease.ShardEnd, s.row("s-1").Checkpoint)
}

func testContext(s *suite) {
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	require.ErrorIs(s.t, s.Ensure(ctx, shard, "10"), context.Canceled)
	_, err := s.View(ctx)
	require.ErrorIs(s.t, err, context.Canceled)
	_, err = s.Look(ctx)
	require.ErrorIs(s.t, err, context.Canceled)
	require.Empty(s.t, s.view().Leases)
}

// testCopies: the store shares nothing with what goes in or comes out.
func testCopies(s *suite) {
	mine := lease.Shard{ID: "s-1", Parents: []string{"p-1"}}
	s.ok(s.Ensure(s.ctx, mine, "10"))
	mine.Parents[0] = "x"
	attempts := map[string]int{"11": 1}
	s.ok(s.Save(s.ctx, s.acquire("s-1", "a").Key(), 1, lease.Progress{Checkpoint: "10", Attempts: attempts}))
	attempts["11"] = 9
	require.Equal(s.t, []string{"p-1"}, s.row("s-1").Parents)
	require.Equal(s.t, map[string]int{"11": 1}, s.row("s-1").Attempts)
}
