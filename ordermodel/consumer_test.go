package ordermodel

import (
	"slices"

	"github.com/seed-1b628d3f/outbox/internal/order"
)

// memory is what a process remembers of the position.
type memory struct{ position }

func (m *memory) sum() uint64 {
	if m == nil {
		return 0
	}
	return m.position.sum()
}

// outcome is what came of an event.
type outcome struct {
	verdict verdict
	number  int // of the event whose handler failed, or of the row that is missing
	cause   cause
	until   int // waits: until this time
}

type verdict int

const (
	done verdict = iota
	waits
	failed
)

type cause int

const (
	handlerFails cause = iota
	noHandler
	missing
	late
)

// claimTime is how long a claim lasts. The handler's context ends one unit before.
const claimTime = 4

// consume takes what the stream brings, one after the other. A process that dies begins anew with the same.
func (p *proc) consume() {
	if p.conf.phase > 0 {
		p.when("for those before", 0, func() bool {
			return !slices.ContainsFunc(p.w.procs, func(q *proc) bool { return q.conf.phase < p.conf.phase && !q.done })
		})
	}
	for p.at < len(p.conf.queue) {
		if p.lives(func() bool { return p.deliver(p.conf.queue[p.at]) }) {
			p.at++
		}
		p.past = p.memory.sum()
	}
}

func (p *proc) lives(work func() bool) (finished bool) {
	defer func() {
		r := recover()
		if r == any(died{}) {
			p.memory, finished = nil, false
		} else if r != nil {
			panic(r)
		}
	}()
	return work()
}

func (p *proc) handles(n int) bool { return p.conf.has == 0 || p.conf.has.has(n) }

// deliver reports whether the stream may go on.
func (p *proc) deliver(n int) bool {
	w := p.w
	if !w.seenOf.has(n) {
		p.when("for the event", 0, func() bool { return w.seenOf.has(n) || w.writersDone() })
		if !w.seenOf.has(n) {
			return true
		}
	}
	p.since = w.steps
	if p.conf.marks {
		return p.deliverByMark(n)
	}
	if w.bugs.skipUnknown && !p.handles(n) {
		w.finished(n, "one without a handler")
		return true
	}
	if p.conf.looks {
		parked := false
		if p.call("parked?", 0, func() any { parked = w.lane; return parked }) != nil {
			return false
		}
		if parked {
			if stored, err := p.park(n); stored || err != nil {
				return stored
			}
		}
	}
	switch o := p.handle(n, w.event(n, true), false); o.verdict {
	case done:
		return true
	case waits:
		p.rest(o.until)
		return false
	default:
		return p.failed(n, o)
	}
}

// park stores an event behind the dead letter of its aggregate, unless it was handled, or the aggregate is not parked any more.
func (p *proc) park(n int) (stored bool, err error) {
	w := p.w
	if w.bugs.parkedIsFinished {
		return true, nil
	}
	if err := p.read(); err != nil {
		return false, err
	}
	if order.Next(p.memory.known(), w.event(n, true), w.since()) == order.Duplicate {
		w.finished(n, "a duplicate")
		return true, nil
	}
	err = p.call("park", n, func() any {
		if stored = w.lane; stored {
			w.store(n, letter{})
		}
		return stored
	})
	return stored, err
}

func (w *world) store(n int, l letter) {
	if _, there := w.letters[n]; !there {
		w.letters[n] = l
	}
	w.lane = true
}

// failed counts an attempt at the event that was delivered, and stores a dead letter after the last one.
func (p *proc) failed(n int, o outcome) bool {
	w := p.w
	if o.cause == handlerFails || o.cause == missing {
		count := 0
		if p.call("count an attempt at", n, func() any { w.tried[n]++; count = w.tried[n]; return count }) != nil || count < w.attempts {
			return false
		}
	}
	if !p.bury(n, o) {
		return false
	}
	if o.number == n || o.cause == missing || w.bugs.buryDelivered {
		return true
	}
	stored, err := p.park(n)
	return stored && err == nil
}

// bury stores the event at fault: a predecessor, since its row may expire; but of a row that is missing there is nothing to store.
func (p *proc) bury(n int, o outcome) bool {
	w, l := p.w, letter{late: o.cause == late}
	which := o.number
	switch {
	case o.cause == missing:
		which, l.lacks = n, o.number
	case w.bugs.buryDelivered:
		which = n
	}
	if o.cause == handlerFails && w.had(which) && !w.everPoison.has(which) && !w.anyGuarded() {
		w.fail("a dead letter of event %d, which was handled", which)
	}
	if p.call("bury", which, func() any { w.store(which, l); return "" }) != nil {
		return false
	}
	switch o.cause {
	case late:
		w.tellLate(n)
	case missing:
		w.tellLack(o.number)
	}
	return true
}

// read reads the position.
func (p *proc) read() error {
	p.memory = nil
	var read position
	if err := p.call("read the position", 0, func() any { read = p.w.pos; return read }); err != nil {
		return err
	}
	p.memory = &memory{read}
	return nil
}

// handle handles an event, and before it those that are missing.
func (p *proc) handle(n int, e order.Event, redrive bool) outcome {
	w := p.w
	for again := range 60 {
		remembered := p.memory != nil
		if !remembered {
			if w.bugs.guess && again == 0 {
				p.memory = &memory{position{began: n > 1, seq: n - 1, first: 1}}
			} else if p.read() != nil {
				return outcome{verdict: waits, until: p.clock() + 1}
			}
		}
		at := p.memory.position
		next := order.Next(at.known(), e, w.since())
		if remembered && next != order.Run && next != order.Duplicate { // another process may have moved on
			p.memory = nil
			continue
		}
		switch {
		case w.bugs.noHealing && next == order.Heal, w.bugs.beginHere && next == order.Begin:
			next = order.Run
		case (w.bugs.noFirst || w.bugs.lateIsDone) && next == order.Late:
			next = order.Duplicate
		}
		var o outcome
		switch next {
		case order.Duplicate:
			w.finishedAs(n, "a duplicate", redrive)
			return outcome{}
		case order.Before:
			w.finishedAs(n, "older than what is wanted", redrive)
			return outcome{}
		case order.Late:
			if p.keeps() && n < at.first && !w.bugs.lateIsLate {
				marked, err := p.looksAtMark(n)
				switch {
				case err != nil:
					return outcome{verdict: waits, until: p.clock() + 1}
				case marked:
					w.finishedAs(n, "marked", redrive)
					return outcome{}
				}
			}
			return outcome{verdict: failed, number: n, cause: late}
		case order.Begin:
			o = p.begin(n, e)
		case order.Heal:
			if o = p.claimedBy(at); o.verdict == done { // somebody else is at it
				o = p.heal(at.seq+1, n, e)
			}
		case order.Run:
			if !p.handles(n) {
				return outcome{verdict: failed, number: n, cause: noHandler}
			}
			moved := false
			if o, moved = p.run(n, at); moved {
				return outcome{}
			}
		}
		if o.verdict != done {
			return o
		}
	}
	w.fail("%s comes to no end with %d", p.name, n)
	return outcome{}
}

func (w *world) finishedAs(n int, why string, redrive bool) {
	if redrive { // its letter goes
		l, there := w.letters[n]
		delete(w.letters, n)
		w.finished(n, why)
		if there {
			w.letters[n] = l
		}
		return
	}
	w.finished(n, why)
}

// claimedBy waits for the end of a claim.
func (p *proc) claimedBy(at position) outcome {
	if !at.claimed(p.clock()) {
		return outcome{}
	}
	p.memory = nil
	return outcome{verdict: waits, until: at.until + 1}
}

// begin writes where the aggregate begins.
func (p *proc) begin(n int, e order.Event) outcome {
	w := p.w
	var rows []order.Row
	if p.call("read rows backwards", 0, func() any {
		for m := n - 1; m >= 1; m-- {
			rows = append(rows, w.row(m))
		}
		return w.table
	}) != nil {
		return outcome{verdict: waits, until: p.clock() + 1}
	}
	first, _ := order.Beginning(int64(n), rows, w.since(), moment(p.clock()))
	if first == int64(n) && !rows[0].Present && e.Young(moment(p.clock())) && !w.bugs.believeYoung {
		return outcome{verdict: waits, until: w.changed[n] + 3}
	}
	if w.bugs.beginWithHoles {
		for first > 1 && w.table&upTo(int(first)-1) != 0 {
			first--
		}
	}
	p.memory = nil
	if p.call("begin at", int(first), func() any {
		if (w.pos.began || w.pos.claimed(p.clock())) && !w.bugs.beginAnyway {
			return "refused"
		}
		w.begins(int(first), p)
		w.pos = position{began: true, seq: int(first) - 1, first: int(first)}
		p.memory = &memory{w.pos}
		return "begun"
	}) != nil {
		p.memory = nil
	}
	if p.memory == nil && w.pos.claimed(p.clock()) {
		return outcome{verdict: waits, until: w.pos.until + 1}
	}
	return outcome{}
}

// heal handles the first number behind the position, for the sake of n.
func (p *proc) heal(m, n int, e order.Event) outcome {
	w, there := p.w, false
	if p.call("read row", m, func() any {
		there = w.table.has(m)
		if w.bugs.unprocessed && w.faults > 0 && w.ch.choose(2) == 1 {
			w.faults--
			there = false
		}
		return there
	}) != nil {
		return outcome{verdict: waits, until: p.clock() + 1}
	}
	switch {
	case there:
		return p.handle(m, w.event(m, false), false)
	case w.bugs.passOver:
		p.memory = nil
		_ = p.call("pass over", m, func() any {
			if w.pos.seq == m-1 {
				w.pos = w.pos.moved(m)
			}
			return ""
		})
		return outcome{}
	case e.Young(moment(p.clock())) && !w.bugs.believeYoung:
		return outcome{verdict: waits, until: w.changed[n] + 3}
	}
	return outcome{verdict: failed, number: m, cause: missing}
}

// fails says what a handler does in a state.
func (w *world) fails(n int, effects []int) bool {
	had := func(m int) bool { return slices.Contains(effects, m) }
	need, needs := w.needs[n]
	return w.poison.has(n) && !w.calm || w.strict && had(n) || needs && !had(need)
}

// run runs the handler of n at a position. moved says that the position is behind n now.
func (p *proc) run(n int, at position) (o outcome, moved bool) {
	if p.conf.guarded {
		return p.runGuarded(n, at)
	}
	w := p.w
	if p.keeps() {
		marked, err := p.looksAtMark(n)
		switch {
		case err != nil:
			return outcome{verdict: waits, until: p.clock() + 1}, false
		case marked:
			p.moveOver(n, at)
			return outcome{}, false
		}
	}
	var saw []int
	p.local("the handler of … reads", n, func() any { saw = w.effects; return len(saw) })
	if w.fails(n, saw) {
		if !w.bugs.believeFailure { // whose fault is it?
			if p.read() != nil {
				return outcome{verdict: waits, until: p.clock() + 1}, false
			}
			if p.memory.seq != at.seq || p.memory.began != at.began {
				return outcome{}, false
			}
		}
		return outcome{verdict: failed, number: n}, false
	}
	result := ""
	p.memory = nil
	err := p.call("commit", n, func() any {
		switch {
		case w.pos.claimed(p.clock()) && !w.bugs.ignoreClaim:
			result = "claimed"
		case w.bugs.weakCondition && w.pos.seq >= n, !w.bugs.weakCondition && (w.pos.seq != at.seq || w.pos.began != at.began):
			result = "refused"
		case p.keeps() && w.mark.has(n):
			result = "marked"
		default:
			if p.keeps() && !w.bugs.forgetMarks {
				w.mark = w.mark.with(n)
			}
			w.apply(n, len(saw))
			w.pos = w.pos.moved(n)
			result = "ok"
		}
		return result
	})
	switch {
	case err != nil && w.bugs.lostIsDone:
		p.memory = &memory{at.moved(n)}
		return outcome{}, true
	case err != nil, result == "refused":
		return outcome{}, false // the position tells
	case result == "claimed":
		return outcome{verdict: waits, until: w.pos.until + 1}, false
	case result == "marked": // the version with marks has handled it: the position moves alone
		p.moveOver(n, at)
		return outcome{}, false
	}
	p.memory = &memory{at.moved(n)}
	if w.bugs.memoryAhead {
		p.memory.seq++
	}
	return outcome{}, true
}

// runGuarded runs a handler whose effects are elsewhere, under a claim on the position.
func (p *proc) runGuarded(n int, at position) (o outcome, moved bool) {
	w := p.w
	w.owners++
	me, until, result := w.owners, p.clock()+claimTime, ""
	p.memory = nil
	err := p.call("claim", n*100+until, func() any {
		switch {
		case w.pos.claimed(p.clock()):
			result = "claimed"
		case w.pos.seq != at.seq || w.pos.began != at.began:
			result = "refused"
		default:
			w.pos.owner, w.pos.until = me, until
			result = "ok"
		}
		return result
	})
	release := func() {
		_ = p.call("release", 0, func() any {
			if w.pos.owner == me {
				w.pos.owner, w.pos.until = 0, 0
			}
			return ""
		})
	}
	complete := func() {
		for range 3 {
			if p.call("complete", n, func() any {
				if w.pos.owner != me && !w.bugs.completeAnyway {
					return "lost"
				}
				w.pos = w.pos.moved(n)
				p.memory = &memory{w.pos}
				return "ok"
			}) == nil {
				return
			}
			p.memory = nil
		}
	}
	switch {
	case err != nil: // the claim may be written nevertheless
		release()
		return outcome{verdict: waits, until: p.clock() + 1}, false
	case result == "claimed":
		return outcome{verdict: waits, until: w.pos.until + 1}, false
	case result == "refused":
		return outcome{}, false
	}
	if w.bugs.positionFirst {
		complete()
	}
	ended, bad := false, false
	p.local("the handler of … works", n, func() any {
		switch {
		case p.clock() >= until:
			ended = true
		case w.fails(n, w.effects):
			bad = true
		default:
			w.apply(n, -1)
		}
		return 2*bit(ended) + bit(bad)
	})
	switch {
	case ended:
		release()
		return outcome{verdict: waits, until: p.clock() + 1}, false
	case bad:
		release()
		return outcome{verdict: failed, number: n}, false
	}
	complete()
	return outcome{}, true
}
