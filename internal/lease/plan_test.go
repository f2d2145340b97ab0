package lease

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// table is a table without a store: plans are applied to it at once.
type table struct{ snapshot }

// round lets each worker plan on the same view, and then carries out all plans. It reports whether there was anything to do.
func (tb *table) round(t *testing.T, workers ...string) (busy bool) {
	t.Helper()
	doer := map[string]string{}
	var all []func()
	for _, me := range workers {
		todo, _ := plan(tb.snapshot, me)
		for _, a := range todo {
			if a.verb == adopt {
				continue
			}
			busy = true
			if a.verb == acquire || a.verb == want {
				require.Empty(t, doer[a.lease.ID], "%s and %s go for %s at once: %+v", me, doer[a.lease.ID], a.lease.ID, tb)
				doer[a.lease.ID] = me
			}
			all = append(all, func() { tb.apply(t, a, me) })
		}
	}
	for _, f := range all {
		f()
	}
	return busy
}

func (tb *table) apply(t *testing.T, a action, me string) {
	var l *Lease
	for i := range tb.Leases {
		if tb.Leases[i].ID == a.lease.ID {
			l = &tb.Leases[i]
		}
	}
	for i := range tb.Workers {
		w := &tb.Workers[i]
		switch {
		case a.verb == markDead && w.ID == a.worker.ID:
			w.Dead = true
		case a.verb == acquire && w.ID == l.Owner:
			require.True(t, w.Dead, "%s acquires %+v of the living", me, *l)
		}
	}
	switch a.verb {
	case acquire:
		l.Owner, l.Want = me, ""
		l.Fence++
	case want:
		l.Want = me
	case yield: // the owner has drained at once
		l.Owner, l.Want = l.Want, ""
		l.Fence++
	case forgetShard:
		l.Owner, l.Want, l.Gone = "", "", true
	}
}

// forget carries out forgetWorker for the worker that may be dead.
func (tb *table) forget() {
	for _, l := range tb.Leases {
		if l.Owner == "c" {
			return
		}
	}
	if len(tb.Workers) == 3 && tb.Workers[2].Dead {
		tb.Workers = tb.Workers[:2]
	}
}

// Every small table converges: all assignments of up to four shards to three workers, one of which may be draining, unable, unwilling to
// read a shard, dead, dead without a mark, or gone. For up to three shards the test also takes all wishes.
func TestEverySmallTableConverges(t *testing.T) {
	states, worst := 0, 0
	owners := []string{"", "a", "b", "c"}
	for _, third := range []string{"alive", "draining", "unable", "all unable", "refuses s0", "all refuse s0", "dead", "suspect", "missing"} {
		for n := 1; n <= 4; n++ {
			wants := owners
			if n == 4 {
				wants = []string{""}
			}
			each := len(owners) * len(wants)
			total := 1
			for range n {
				total *= each
			}
			for code := range total {
				tb := &table{snapshot{suspect: map[string]bool{}}}
				for i, rest := 0, code; i < n; i, rest = i+1, rest/each {
					l := Lease{Shard: Shard{ID: fmt.Sprint("s", i)}, Owner: owners[rest%each%len(owners)], Want: wants[rest%each/len(owners)]}
					tb.Leases = append(tb.Leases, l)
				}
				tb.Workers = []Worker{{ID: "a", Beat: 1}, {ID: "b", Beat: 1}}
				running := []string{"a", "b"}
				c := Worker{ID: "c", Beat: 1}
				switch third {
				case "alive":
					running = append(running, "c")
				case "draining":
					running, c.Draining = append(running, "c"), true
				case "unable":
					running, c.Unable = append(running, "c"), true
				case "all unable":
					running, c.Unable = append(running, "c"), true
					tb.Workers[0].Unable, tb.Workers[1].Unable = true, true
				case "refuses s0":
					running, c.Refuses = append(running, "c"), []string{"s0"}
				case "all refuse s0":
					running, c.Refuses = append(running, "c"), []string{"s0"}
					tb.Workers[0].Refuses, tb.Workers[1].Refuses = c.Refuses, c.Refuses
				case "dead":
					c.Dead = true
				case "suspect", "missing":
					tb.suspect["c"] = true
				}
				if third != "missing" {
					tb.Workers = append(tb.Workers, c)
				}
				before := append([]Lease{{Owner: third}}, tb.Leases...)
				rounds := 0
				for tb.round(t, running...) {
					rounds++
					require.LessOrEqual(t, rounds, 4, "it does not converge from %+v: now %+v", before, tb)
					tb.forget()
				}
				has := map[string]int{}
				for _, l := range tb.Leases {
					has[l.Owner]++
				}
				w := 2
				if len(running) == 3 && third != "draining" && third != "unable" {
					w = 3
				}
				if third == "refuses s0" {
					require.NotEqual(t, "c", tb.Leases[0].Owner, "from %+v: %+v", before, tb)
				}
				require.Zero(t, has[""], "a lease starves from %+v: %+v", before, tb)
				for _, id := range running {
					if id == "c" && w == 2 {
						require.Zero(t, has["c"], "a draining or unable worker keeps leases from %+v: %+v", before, tb)
						continue
					}
					require.GreaterOrEqual(t, has[id], n/w, "from %+v: %+v", before, tb)
					require.LessOrEqual(t, has[id], (n+w-1)/w, "from %+v: %+v", before, tb)
				}
				states, worst = states+1, max(worst, rounds)
			}
		}
	}
	t.Logf("%d tables, at most %d rounds", states, worst)
}

func TestNothingMovesInABalancedTable(t *testing.T) {
	for n := range 12 {
		for w := 1; w <= 4; w++ {
			var s snapshot
			for i := range w {
				s.Workers = append(s.Workers, Worker{ID: fmt.Sprint("w", i), Beat: 1})
			}
			for i := range n {
				s.Leases = append(s.Leases, Lease{Shard: Shard{ID: fmt.Sprint("s", i)}, Owner: fmt.Sprint("w", i%w)})
			}
			for _, worker := range s.Workers {
				todo, moving := plan(s, worker.ID)
				require.False(t, moving)
				for _, a := range todo {
					require.Equal(t, adopt, a.verb, "%+v", a)
				}
			}
		}
	}
}

// Adding a worker moves one share, and removing a worker moves only the worker's own leases.
func TestOneMoreOrLessMovesOnlyWhatMust(t *testing.T) {
	const shards, workers = 100, 10
	var s snapshot
	taking := map[string]bool{}
	for i := range workers {
		id := fmt.Sprint("w", i)
		s.Workers = append(s.Workers, Worker{ID: id, Beat: 1})
		taking[id] = true
	}
	for i := range shards {
		s.Leases = append(s.Leases, Lease{Shard: Shard{ID: fmt.Sprint("s", i)}, Owner: fmt.Sprint("w", i%workers)})
	}
	moved := func() (n int) {
		targets := assign(s, taking, nil)
		require.Len(t, targets, shards)
		for _, l := range s.Leases {
			if targets[l.ID] != l.Owner {
				n++
			}
		}
		return n
	}
	taking["new"] = true
	require.Equal(t, shards/(workers+1), moved())
	delete(taking, "new")
	delete(taking, "w3")
	require.Equal(t, shards/workers, moved())
}

func TestLineage(t *testing.T) {
	lease := func(id, checkpoint string, parents ...string) Lease {
		return Lease{Shard: Shard{ID: id, Parents: parents}, Progress: Progress{Checkpoint: checkpoint}}
	}
	gone := lease("p", "7")
	gone.Gone = true
	for name, test := range map[string]struct {
		leases   []Lease
		listed   []string
		readable bool
	}{
		"no parents":                           {[]Lease{lease("c", "0")}, nil, true},
		"finished itself":                      {[]Lease{lease("c", ShardEnd)}, nil, false},
		"parent unfinished":                    {[]Lease{lease("c", "0", "p"), lease("p", "7")}, []string{"c", "p"}, false},
		"parent unfinished and unlisted":       {[]Lease{lease("c", "0", "p"), lease("p", "7")}, []string{"c"}, false},
		"parent finished":                      {[]Lease{lease("c", "0", "p"), lease("p", ShardEnd)}, nil, true},
		"parent forgotten by its source":       {[]Lease{lease("c", "0", "p"), gone}, nil, true},
		"parent unknown, nothing listed":       {[]Lease{lease("c", "0", "p")}, nil, false},
		"parent unknown but listed":            {[]Lease{lease("c", "0", "p")}, []string{"c", "p"}, false},
		"parent unknown and not listed":        {[]Lease{lease("c", "0", "p")}, []string{"c"}, true},
		"the listing is older than the shard":  {[]Lease{lease("c", "0", "p")}, []string{"a"}, false},
		"one of two parents unfinished":        {[]Lease{lease("c", "0", "p", "q"), lease("p", ShardEnd), lease("q", "7")}, nil, false},
		"both parents finished":                {[]Lease{lease("c", "0", "p", "q"), lease("p", ShardEnd), lease("q", ShardEnd)}, nil, true},
		"one parent finished, one long gone":   {[]Lease{lease("c", "0", "p", "q"), lease("p", ShardEnd)}, []string{"c"}, true},
		"grandparents do not count themselves": {[]Lease{lease("c", "0", "p"), lease("p", ShardEnd, "g"), lease("g", "1")}, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := snapshot{View: View{Leases: test.leases, Workers: []Worker{{ID: "me", Beat: 1}}}, listed: map[string]bool{}}
			for _, id := range test.listed {
				s.listed[id] = true
			}
			todo, _ := plan(s, "me")
			var acquisitions []string
			for _, a := range todo {
				if a.verb == acquire {
					acquisitions = append(acquisitions, a.lease.ID)
				}
			}
			if test.readable {
				require.Contains(t, acquisitions, "c")
			} else {
				require.NotContains(t, acquisitions, "c")
			}
		})
	}
}

func TestGenerations(t *testing.T) {
	var ids [][]string
	for _, level := range generations([]Shard{{ID: "g"}, {ID: "p", Parents: []string{"g"}}, {ID: "q", Parents: []string{"old"}}, {ID: "c", Parents: []string{"p", "q"}}, {ID: "d", Parents: []string{"g"}}}) {
		var l []string
		for _, s := range level {
			l = append(l, s.ID)
		}
		ids = append(ids, l)
	}
	require.Equal(t, [][]string{{"c", "d"}, {"p", "q"}, {"g"}}, ids)
}

func TestPositions(t *testing.T) {
	at, ok := ParseAt("AT_TIMESTAMP#2026-01-02T03:04:05.000000006Z")
	require.True(t, ok)
	require.Equal(t, "AT_TIMESTAMP#2026-01-02T03:04:05.000000006Z", At(at))
	for _, other := range []string{"", TrimHorizon, ShardEnd, Latest, "123", "AT_TIMESTAMP#yesterday"} {
		_, ok := ParseAt(other)
		require.False(t, ok, other)
	}
}

// A registration without a beat gets no leases: it may be the trace of a registration whose answer was lost.
func TestARegistrationWithoutABeatGetsNothing(t *testing.T) {
	s := snapshot{View: View{
		Leases:  []Lease{{Shard: Shard{ID: "s"}}, {Shard: Shard{ID: "t"}, Owner: "a"}},
		Workers: []Worker{{ID: "a", Beat: 1}, {ID: "b"}},
	}}
	todo, _ := plan(s, "b")
	require.Empty(t, todo)
	todo, _ = plan(s, "a")
	require.Equal(t, []action{{verb: acquire, lease: s.Leases[0]}, {verb: adopt, lease: s.Leases[1]}}, todo)
}

// A worker whose view is a little old hands a lease over to a worker that has just retired. The dead worker's row is still there, so the lease is
// acquired at once; without the row, everybody would wait for as long as a lease lasts.
func TestALeaseThatIsHandedToAWorkerThatHasGoneIsAcquiredAtOnce(t *testing.T) {
	w, now := newWatch(8*time.Second), time.Now()
	see := func(v View, after time.Duration) (todo []action) {
		now = now.Add(after)
		w.see(v, "me", now)
		todo, _ = plan(snapshot{View: v, suspect: w.suspects(now), lately: w.lately(now)}, "me")
		return todo
	}
	me, gone := Worker{ID: "me", Beat: 1}, Worker{ID: "gone", Beat: 9, Dead: true}
	require.Empty(t, see(View{Workers: []Worker{me, gone}}, 0), "nobody forgets the worker")
	handed := Lease{Shard: Shard{ID: "s"}, Owner: "gone", Fence: 2}
	require.Equal(t, []action{{verb: acquire, lease: handed}}, see(View{Workers: []Worker{me, gone}, Leases: []Lease{handed}}, time.Second))
	require.Empty(t, see(View{Workers: []Worker{me, gone}}, 7*time.Second))
	require.Equal(t, []action{{verb: forgetWorker, worker: gone}}, see(View{Workers: []Worker{me, gone}}, time.Second))
}
