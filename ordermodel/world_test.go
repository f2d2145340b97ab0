package ordermodel

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/order"
)

// set is a set of numbers from 1 to 63.
type set uint64

func of(numbers ...int) (s set) {
	for _, n := range numbers {
		s = s.with(n)
	}
	return s
}

func upTo(n int) set            { return 1<<(n+1) - 2 }
func (s set) has(n int) bool    { return n > 0 && s>>n&1 == 1 }
func (s set) with(n int) set    { return s | 1<<n }
func (s set) without(n int) set { return s &^ (1 << n) }
func (s set) Format(f fmt.State, _ rune) {
	var numbers []string
	for n := range 64 {
		if s.has(n) {
			numbers = append(numbers, fmt.Sprint(n))
		}
	}
	fmt.Fprint(f, "{"+strings.Join(numbers, " ")+"}")
}

// process is a process of the consumer.
type process struct {
	queue   []int // what the stream brings it, in this order, each until it is finished
	guarded bool  // its handlers are guarded; otherwise they are of HandleTx
	looks   bool  // it looks whether the aggregate is parked; otherwise it does not know
	marks   bool  // it is of a version that knows marks alone
	plain   bool  // it has no KeepMarks, if others have
	phase   int   // it begins when those of lower phases have ended
	has     set   // what it has handlers for; empty: everything
	skew    int   // of its clock
}

func takes(numbers ...int) process { return process{queue: numbers} }

// config is a world before it begins.
type config struct {
	name      string
	large     bool // more than mostStates: random schedules take the place of all
	n         int  // the highest number
	processes []process
	rows      set     // in the events table since long
	writes    [][]int // what a writer commits while the consumer works, in this order; what is together is one transaction
	apart     bool    // the rows of a transaction are seen one after the other
	delivered set     // not in the table any more, and yet in the stream
	removed   []int   // what time to live removes, some time
	expired   set     // its time is over, and it is not removed yet
	from      bool    // the consumer wants what is not old
	old       set     // events from before that
	backdated set     // written after that, with a time before it
	marked    set     // handled by the version with marks
	keep      bool    // KeepMarks
	pos       position
	letters   []int
	poison    set         // fails until it is cured
	needs     map[int]int // fails for good unless another one has had its effect
	strict    bool        // a handler fails for good if its effect is there
	people    []string
	faults    int
	ticks     int
	attempts  int
	bugs      bugs

	mayBeLate, mayLack bool // numbers may be told as late, or as missing; otherwise somebody could have done better
}

// bugs are what a wrong implementation does. The zero value is the right one.
type bugs struct {
	guess            bool // a handler runs although the position is not known
	believeFailure   bool // a failure counts without a look at the position
	noHealing        bool // what is missing between is jumped over
	passOver         bool // what is not in the table is passed over
	believeYoung     bool // a missing row is believed at once
	unprocessed      bool // a key that was not read is a missing row
	weakCondition    bool // the commit only wants the position below the event
	memoryAhead      bool // the process remembers one more than it has committed
	lostIsDone       bool // a lost answer is a success
	noFirst          bool // what is below the beginning is a duplicate
	beginHere        bool // an aggregate begins at what comes first
	beginAnyway      bool // the beginning is written whatever the position is
	beginWithHoles   bool // the beginning lies below a hole
	ignoreClaim      bool // HandleTx ignores the claim of a guarded handler
	completeAnyway   bool // a claim that was lost is completed
	positionFirst    bool // a guarded handler's position moves before its effect
	skipUnknown      bool // an event without a handler is finished
	discardOnly      bool // a discard removes the letter alone
	discardAny       bool // a discard moves the position to any number
	discardInClaim   bool // a discard does not heed a claim
	buryDelivered    bool // of a predecessor that fails no letter is made
	lateIsDone       bool // what is late is finished
	forgetMarks      bool // with KeepMarks no mark is written
	lateIsLate       bool // with KeepMarks nobody looks whether what is late is marked
	parkedIsFinished bool // a follower of a dead letter is dropped
}

// position is the row, as the consumer's table has it.
type position struct {
	began        bool
	seq, first   int
	owner, until int
}

func (p position) sum() uint64 {
	return mix(bit(p.began), uint64(p.seq), uint64(p.first), uint64(p.owner), uint64(p.until))
}

func (p position) String() string {
	return fmt.Sprintf("position %d from %d began %t owner %d until %d", p.seq, p.first, p.began, p.owner, p.until)
}

func (p position) known() order.Position {
	return order.Position{Sequence: int64(p.seq), First: int64(p.first), Began: p.began}
}

// moved is the position behind an event. Whatever moves it ends a claim.
func (p position) moved(to int) position {
	return position{began: true, seq: to, first: max(p.first, 1)}
}

func (p position) claimed(now int) bool { return p.owner != 0 && p.until >= now }

type letter struct {
	late  bool
	lacks int // the number that was missing; 0: none
}

type world struct {
	config
	ch     chooser
	procs  []*proc
	steps  int
	last   uint64 // the state after the last step
	breaks bool   // faults are possible, or time passes
	calm   bool   // the end: nothing is lost any more, and everything is cured

	now     int
	changes int
	table   set // rows
	written [64]int
	changed [64]int // the time of the row's writing
	seenOf  set     // what the stream has
	pos     position
	mark    set
	letters map[int]letter
	lane    bool
	tried   map[int]int
	owners  int

	effects    []int // in the order of their commits
	passed     set   // by a person
	late       set   // told
	lacking    set   // told
	everPoison set
	problem    string
	trace      []string
	tracing    bool
}

// long ago, and longer: before from.
const (
	longAgo   = -50
	longerAgo = -200
)

// unit is how much time passes at once: three of them are what a missing row is given.
const unit = 4 * time.Second

func moment(t int) time.Time { return time.Unix(1_000_000, 0).Add(time.Duration(t) * unit) }

func newWorld(c config, ch chooser, tracing bool) *world {
	w := &world{config: c, ch: ch, tracing: tracing, table: c.rows, seenOf: c.rows | c.delivered, pos: c.pos, mark: c.marked, letters: map[int]letter{}, tried: map[int]int{}}
	w.attempts, w.breaks, w.everPoison, w.last = max(c.attempts, 1), c.faults+c.ticks > 0, c.poison, w.state()
	for n := range w.changed {
		w.changed[n], w.written[n] = longAgo, -1
	}
	for _, n := range c.letters {
		w.letters[n], w.lane = letter{}, true
	}
	for n := 1; n <= c.n; n++ {
		if c.pos.began && n <= c.pos.seq && n >= c.pos.first || c.marked.has(n) {
			w.effects = append(w.effects, n)
		}
	}
	for i, conf := range c.processes {
		w.start(fmt.Sprintf("P%d", i+1), (*proc).consume).conf = conf
	}
	w.startPeople()
	return w
}

// state is a hash of what the tables hold, and of what has happened.
func (w *world) state() uint64 {
	h := mix(1, uint64(w.table), w.pos.sum(), uint64(w.mark), bit(w.lane), uint64(w.passed), uint64(w.late), uint64(w.lacking), uint64(w.seenOf), uint64(w.poison))
	for n := 1; n <= w.n; n++ {
		l, there := w.letters[n]
		h = mix(h, bit(there), bit(l.late), uint64(l.lacks), uint64(w.tried[n]))
	}
	for _, e := range w.effects {
		h = mix(h, uint64(e))
	}
	return h
}

func (w *world) note(format string, a ...any) {
	if w.tracing {
		w.trace = append(w.trace, fmt.Sprintf("%d ", w.now)+fmt.Sprintf(format, a...))
	}
}

func (w *world) fail(format string, a ...any) {
	if w.problem == "" {
		w.problem = fmt.Sprintf(format, a...)
	}
}

func (w *world) since() (from time.Time) {
	if w.from {
		from = moment(longAgo - 1)
	}
	return from
}

// unwanted are events with a time before the wanted ones, whenever they were written.
func (w *world) unwanted(n int) bool { return w.from && (w.old.has(n) || w.backdated.has(n)) }

// event is what a delivery knows of a number. Only the stream says when the row was written.
func (w *world) event(n int, stream bool) order.Event {
	e := order.Event{Sequence: int64(n), Time: moment(w.changed[n])}
	if stream {
		e.ChangedAt = e.Time
	}
	if w.old.has(n) || w.backdated.has(n) {
		e.Time = moment(longerAgo)
	}
	if w.old.has(n) && stream {
		e.ChangedAt = e.Time
	}
	return e
}

func (w *world) row(n int) order.Row {
	r := order.Row{Present: w.table.has(n), Time: w.event(n, false).Time}
	if w.expired.has(n) {
		r.ExpiresAt = moment(longAgo)
	}
	return r
}

func (w *world) had(n int) bool {
	return slices.Contains(w.effects, n)
}

// anyGuarded: a guarded handler may run once more if something breaks, or takes long.
func (w *world) anyGuarded() bool {
	return w.breaks && slices.ContainsFunc(w.processes, func(p process) bool { return p.guarded })
}

// apply is an effect. What the order promises is checked here.
func (w *world) apply(n, saw int) {
	highest := 0
	for _, e := range w.effects {
		highest = max(highest, e)
	}
	switch {
	case w.had(n) && !w.anyGuarded():
		w.fail("twice: event %d has two effects", n)
	case w.passed.has(n):
		w.fail("event %d was discarded, and is handled", n)
	case n < highest && !w.keep:
		w.fail("order: the effect of %d comes after that of %d", n, highest)
	case saw >= 0 && saw != len(w.effects) && !w.keep && !w.anyGuarded():
		w.fail("isolation: the handler of %d saw %d effects, and is committed behind %d", n, saw, len(w.effects))
	}
	for m := max(w.pos.first, 1); m < n; m++ {
		if !w.had(m) && !w.passed.has(m) && !w.mark.has(m) && !w.keep {
			w.fail("gap: the effect of %d, and %d is not handled", n, m)
		}
	}
	w.effects = append(w.effects, n)
}

// finished is a delivery that ends without a run.
func (w *world) finished(n int, why string) {
	if w.had(n) || w.passed.has(n) || w.unwanted(n) || w.hasLetter(n) {
		return
	}
	w.fail("lost in silence: event %d is finished as %s", n, why)
}

// tellLate and tellLack are what a person learns.
func (w *world) tellLate(n int) {
	w.late = w.late.with(n)
	if !w.mayBeLate {
		w.fail("avoidable: event %d is late", n)
	}
}

func (w *world) tellLack(n int) {
	w.lacking = w.lacking.with(n)
	if !w.mayLack {
		w.fail("avoidable: event %d is said to be missing", n)
	}
}

// begins checks where an aggregate begins: not above an event that was in the table all the time.
func (w *world) begins(first int, p *proc) {
	m := first - 1
	if m >= 1 && w.table.has(m) && w.written[m] < p.since && !w.unwanted(m) && !w.expired.has(m) {
		w.fail("the aggregate begins at %d, and %d was there", first, m)
	}
}

// checkEnd is what must hold when everybody has done what is theirs.
func (w *world) checkEnd() {
	highest := 0
	for _, c := range w.processes {
		for _, n := range c.queue {
			if !c.marks && !w.unwanted(n) {
				highest = max(highest, n)
			}
		}
	}
	for n := 1; n <= w.n; n++ {
		switch {
		case w.had(n), w.passed.has(n), w.late.has(n), w.unwanted(n):
		case n > highest || n < w.pos.first && !w.delivers(n): // nobody was given it; where the aggregate begins was told
		case w.marked.has(n):
		default:
			w.fail("lost: event %d was never handled", n)
		}
	}
}

func (w *world) delivers(n int) bool {
	return slices.ContainsFunc(w.processes, func(p process) bool { return slices.Contains(p.queue, n) })
}

func (w *world) hasLetter(n int) bool {
	_, there := w.letters[n]
	return there
}

func (s set) count() int { return bits.OnesCount64(uint64(s)) }
