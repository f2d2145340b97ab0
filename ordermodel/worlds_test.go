package ordermodel

import (
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// planted is a bug that a world must show.
type planted struct {
	name string
	bugs bugs
	with func(*config) // what else has to be so
}

type smallWorld struct {
	config
	planted []planted
}

func guarded(p process) process { p.guarded = true; return p }
func looks(p process) process   { p.looks = true; return p }
func marks(p process) process   { p.marks = true; return p }
func plain(p process) process   { p.plain = true; return p }

func phase(n int, p process) process { p.phase = n; return p }

// behind is a position from the beginning on.
func behind(n int) position { return position{began: true, seq: n, first: 1} }

func smallWorlds() []smallWorld {
	return []smallWorld{
		{config{name: "two processes take turns", n: 3, rows: of(1, 2, 3), processes: []process{takes(1, 3), takes(2, 3)}, faults: 1}, []planted{
			{"a handler runs on a guess", bugs{guess: true}, nil},
			{"nothing is healed", bugs{noHealing: true}, func(c *config) { c.processes = []process{takes(3), takes(2, 1)} }},
			{"a lost answer is a success", bugs{lostIsDone: true}, nil},
			{"the memory is one ahead", bugs{memoryAhead: true}, func(c *config) { c.processes = []process{takes(1, 2, 3), takes(1, 2)} }},
			{"the commit's condition is weak", bugs{weakCondition: true, guess: true}, nil},
		}},
		{config{name: "three processes", large: true, n: 3, rows: of(1, 2, 3), processes: []process{takes(1), takes(2), takes(3)}, faults: 1}, nil},
		{config{name: "a replay beside", n: 3, rows: of(1, 2, 3), processes: []process{takes(1, 2, 3), takes(1, 2, 3)}, faults: 1}, nil},
		{config{name: "guarded handlers", n: 2, rows: of(1, 2), processes: []process{guarded(takes(1, 2)), guarded(takes(2))}, faults: 1}, []planted{
			{"nothing is healed", bugs{noHealing: true}, nil},
			{"the position moves before the effect", bugs{positionFirst: true}, nil},
		}},
		{config{name: "guarded handlers, and time passes", n: 2, rows: of(1, 2), processes: []process{guarded(takes(1, 2)), guarded(takes(2))}, ticks: 6}, []planted{
			{"a claim that was lost is completed", bugs{completeAnyway: true}, nil},
			{"a clock is ahead by more than the margin", bugs{}, func(c *config) { c.processes[1].skew = 3 }},
		}},
		{config{name: "HandleTx meets a claim", n: 2, rows: of(1, 2), processes: []process{guarded(takes(1, 2)), takes(1, 2)}}, []planted{
			{"it ignores the claim", bugs{ignoreClaim: true}, nil},
		}},
		{config{name: "a handler needs the one before", n: 3, rows: of(1, 2, 3), needs: map[int]int{2: 1, 3: 2}, processes: []process{takes(1, 3), takes(2, 3)}}, []planted{
			{"a failure on a guess counts", bugs{guess: true, believeFailure: true}, nil},
		}},
		{config{name: "a handler that meets its own effect", n: 2, rows: of(1, 2), strict: true, processes: []process{takes(1, 2), takes(1, 2)}}, []planted{
			{"a duplicate's failure counts", bugs{believeFailure: true}, nil},
		}},

		// Where an aggregate begins.
		{config{name: "all of the past", n: 3, rows: of(1, 2, 3), processes: []process{takes(3, 1), takes(2, 1)}, faults: 1}, nil},
		{config{name: "all that is left", n: 3, rows: of(1, 2, 3), from: true, processes: []process{takes(3, 1), takes(2, 1)}, faults: 1}, []planted{
			{"it begins at what comes first", bugs{beginHere: true}, nil},
			{"the beginning is written in any case", bugs{beginAnyway: true}, nil},
		}},
		{config{name: "in the middle", n: 4, rows: of(2, 3, 4), from: true, old: of(2), processes: []process{takes(4, 2), takes(3)}, faults: 1}, nil},
		{config{name: "a row goes while two begin", n: 3, rows: of(1, 2, 3), from: true, removed: []int{1}, mayBeLate: true, mayLack: true, processes: []process{takes(3, 1), takes(2)}}, []planted{
			{"what is below the beginning is a duplicate", bugs{noFirst: true}, nil},
			{"what is late is finished", bugs{lateIsDone: true}, nil},
		}},
		{config{name: "a time before the wanted one, written later", n: 2, rows: of(1, 2), from: true, backdated: of(1), processes: []process{takes(1), takes(2)}}, nil},
		{config{name: "a time before the wanted one, behind it", n: 3, rows: of(1, 2, 3), from: true, backdated: of(2), mayBeLate: true, processes: []process{takes(3, 1), takes(2)}}, nil},
		{config{name: "expired rows are gone or not", n: 4, rows: of(1, 2, 4), delivered: of(3), from: true, expired: of(1, 2), mayBeLate: true, processes: []process{takes(4), takes(4, 3)}}, nil},
		{config{name: "expired rows with a hole", n: 4, rows: of(1, 3, 4), from: true, processes: []process{takes(4), takes(3)}}, []planted{
			{"the beginning lies below a hole", bugs{beginWithHoles: true}, nil},
		}},

		// What is not there.
		{config{name: "numbers are committed out of order", n: 3, writes: [][]int{{1}, {3}, {2}}, processes: []process{takes(1, 3), takes(2)}, ticks: 1}, []planted{
			{"a missing row is believed at once", bugs{believeYoung: true}, nil},
			{"a missing number is passed over", bugs{believeYoung: true, passOver: true}, nil},
		}},
		{config{name: "the first ones are committed out of order", n: 2, writes: [][]int{{2}, {1}}, from: true, processes: []process{takes(2), takes(1)}, ticks: 1}, []planted{
			{"a missing row is believed at once", bugs{believeYoung: true}, nil},
		}},
		{config{name: "two events of a transaction are seen apart", n: 3, rows: of(1), writes: [][]int{{3, 2}}, apart: true, pos: behind(1), processes: []process{takes(3), takes(2)}, ticks: 1}, []planted{
			{"a missing row is believed at once", bugs{believeYoung: true}, nil},
		}},
		{config{name: "a number is late by minutes", n: 3, writes: [][]int{{1}, {3}, {2}}, mayLack: true, processes: []process{takes(1, 3), takes(2)}, ticks: 5}, []planted{
			{"a missing number is passed over", bugs{passOver: true}, nil},
		}},
		{config{name: "numbers with holes", n: 5, rows: of(1, 3, 5), mayLack: true, processes: []process{takes(1, 5), takes(3)}, faults: 1}, nil},
		{config{name: "a row went before its event came", n: 3, rows: of(1, 3), delivered: of(2), mayLack: true, processes: []process{takes(1, 3), takes(2, 2)}, faults: 1}, []planted{
			{"a missing number is passed over", bugs{passOver: true}, nil},
		}},
		{config{name: "keys that were not read", n: 3, rows: of(1, 2, 3), processes: []process{takes(1, 3), takes(2)}, faults: 1}, []planted{
			{"they are taken for missing rows", bugs{unprocessed: true}, nil},
		}},

		// Dead letters.
		{config{name: "a predecessor fails", n: 3, rows: of(1, 2, 3), poison: of(1), processes: []process{looks(takes(1, 3)), takes(2)}, people: []string{"cure;redrive"}}, []planted{
			{"followers are dropped", bugs{parkedIsFinished: true}, func(c *config) { c.removed = []int{3} }},
		}},
		{config{name: "a predecessor that the stream lost fails", n: 3, rows: of(1, 2, 3), poison: of(2), processes: []process{takes(1, 3)}, removed: nil, people: []string{"cure;redrive"}}, nil},
		{config{name: "its row goes before somebody redrives", n: 3, rows: of(1, 2, 3), poison: of(2), pos: behind(1), processes: []process{takes(3)}, people: nil}, []planted{
			{"only the delivered event is stored", bugs{buryDelivered: true}, func(c *config) { c.removed, c.mayLack = []int{2}, false; c.people = []string{"redrive"} }},
		}},
		{config{name: "letters that were stored in any order, and two redrives", large: true, n: 3, rows: of(1, 2, 3), letters: []int{3, 1, 2}, processes: []process{takes(3)}, people: []string{"redrive", "redrive"}}, nil},
		{config{name: "the row of a dead letter expires", n: 3, rows: of(1, 3), delivered: of(2), pos: behind(1), letters: []int{2}, mayLack: true, processes: []process{takes(3)}, people: []string{"redrive"}}, nil},
		{config{name: "a type without a handler", n: 3, rows: of(1, 2, 3), processes: []process{{queue: []int{1, 3}, has: of(1, 3)}, takes(2)}}, []planted{
			{"it is finished", bugs{skipUnknown: true}, func(c *config) { c.processes = []process{{queue: []int{1, 2}, has: of(1, 3)}} }},
		}},

		// Discards.
		{config{name: "the next one is discarded", n: 3, rows: of(1, 2, 3), pos: behind(1), letters: []int{2}, poison: of(2), processes: []process{takes(3), looks(takes(2))}, people: []string{"discard 2"}}, []planted{
			{"the position does not move", bugs{discardOnly: true}, func(c *config) { c.poison = 0 }},
		}},
		{config{name: "a follower is not discarded before its predecessor", n: 3, rows: of(1, 2, 3), letters: []int{1, 2}, processes: []process{takes(3)}, people: []string{"discard 2", "redrive"}}, []planted{
			{"the position moves to any number", bugs{discardAny: true}, nil},
			{"the letter alone is removed", bugs{discardOnly: true}, nil},
		}},
		{config{name: "a discard beside a guarded handler", n: 2, rows: of(1, 2), letters: []int{1}, processes: []process{guarded(takes(1, 2))}, people: []string{"discard 1"}, ticks: 5}, []planted{
			{"it does not heed the claim", bugs{discardInClaim: true}, nil},
		}},
		{config{name: "a discard and two redrives", n: 3, rows: of(1, 2, 3), pos: behind(1), letters: []int{3, 2}, people: []string{"discard 2", "redrive", "redrive"}}, nil},
		{config{name: "a number that does not exist is passed", n: 3, rows: of(1, 3), mayLack: true, pos: behind(1), processes: []process{takes(3)}, people: []string{"pass 2", "redrive"}, faults: 1}, nil},

		// From marks to positions.
		{config{name: "an old version beside", n: 3, rows: of(1, 2, 3), from: true, keep: true, processes: []process{marks(takes(1, 2)), takes(3, 2)}}, []planted{
			{"no marks are written", bugs{forgetMarks: true}, nil},
		}},
		{config{name: "what the old version has handled", large: true, n: 4, rows: of(1, 2, 3, 4), from: true, keep: true, marked: of(1, 3), processes: []process{takes(4), takes(2)}, faults: 1}, nil},
		{config{name: "a replay, and then without marks", n: 3, rows: of(1, 2, 3), from: true, keep: true, faults: 1,
			processes: []process{marks(takes(2)), takes(1), phase(1, takes(1, 2)), phase(2, plain(takes(3)))}}, []planted{
			{"without the replay", bugs{}, func(c *config) {
				c.processes = []process{marks(takes(2)), takes(1), phase(2, plain(takes(3)))}
			}},
		}},
		{config{name: "a mark below the beginning", n: 2, delivered: of(1), rows: of(2), marked: of(1), from: true, keep: true, processes: []process{takes(2), takes(1)}, faults: 1}, []planted{
			{"nobody looks at it", bugs{lateIsLate: true}, nil},
		}},
	}
}

const mostStates = 20_000

// explore runs all schedules of a world, or the first ones of too many. It returns a schedule that breaks a promise.
func explore(c config) (problem string, trace []string, all bool, states int) {
	e := &everything{visited: map[uint64]bool{}}
	for runs := 0; ; runs++ {
		w := newWorld(c, e, false)
		if w.run() && w.problem == "" {
			w.settle()
		}
		w.end()
		if w.problem != "" {
			t := newWorld(c, &again{path: e.path}, true)
			if t.run() && t.problem == "" {
				t.settle()
			}
			t.end()
			return w.problem, t.trace, false, len(e.visited)
		}
		if !e.next() {
			return "", nil, true, len(e.visited)
		}
		if len(e.visited) > mostStates || runs > 3*mostStates {
			return "", nil, false, len(e.visited)
		}
	}
}

// try runs random schedules of a world.
func try(c config, schedules int) (problem string, trace []string) {
	for i := range schedules {
		w := newWorld(c, anything{rand.New(rand.NewPCG(uint64(i), 1))}, true)
		if w.run() && w.problem == "" {
			w.settle()
		}
		w.end()
		if w.problem != "" {
			return w.problem, w.trace
		}
	}
	return "", nil
}

func TestSmallWorlds(t *testing.T) {
	for _, small := range smallWorlds() {
		t.Run(small.name, func(t *testing.T) {
			problem, trace, all, states := explore(small.config)
			if problem == "" && !all {
				problem, trace = try(small.config, 2000)
			}
			require.Emptyf(t, problem, "%s", strings.Join(trace, "\n"))
			require.Equalf(t, !small.large, all, "whether all schedules were run; %d states", states)
			t.Logf("%d states", states)
			for _, planted := range small.planted {
				c := small.config
				c.processes = append([]process(nil), c.processes...)
				c.bugs = planted.bugs
				if planted.with != nil {
					planted.with(&c)
				}
				problem, trace, all, _ := explore(c)
				if problem == "" && !all {
					problem, trace = try(c, 2000)
				}
				require.NotEmptyf(t, problem, "not found: %s", planted.name)
				t.Logf("%s: %s", planted.name, problem)
				if os.Getenv("ORDER_MODEL_TRACE") != "" {
					t.Log("\n" + strings.Join(trace, "\n"))
				}
			}
		})
	}
}

func seeds(otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv("ORDER_MODEL_SEEDS")); err == nil && n > 0 {
		return n
	}
	return otherwise
}
