package ordermodel

import (
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"math/rand/v2"
)

// chooser decides who goes next, and which request fails.
type chooser interface {
	// choose returns a number below n.
	choose(n int) int
	// fault returns what happens to a call.
	fault() fate
	// seen reports whether the world has been in this state before; then its run ends.
	seen(state func() uint64) bool
}

// fate is what happens to a call.
type fate int

const (
	carriedOut fate = iota
	requestLost
	answerLost
	diesBefore
	diesAfter
	fates
)

func (f fate) String() string {
	return [...]string{"", "request lost", "answer lost", "dies before it", "dies after it"}[f]
}

// everything runs all schedules of a world, one after the other.
type everything struct {
	path    []choice
	at      int
	visited map[uint64]bool
}

type choice struct{ of, taken int }

func (e *everything) choose(n int) int {
	if n <= 1 {
		return 0
	}
	if e.at == len(e.path) {
		e.path = append(e.path, choice{of: n})
	}
	e.at++
	return e.path[e.at-1].taken
}

func (e *everything) fault() fate { return fate(e.choose(int(fates))) }

func (e *everything) seen(state func() uint64) bool {
	if e.at < len(e.path) { // on the way to the last choice
		return false
	}
	s := state()
	before := e.visited[s]
	e.visited[s] = true
	return before
}

// next goes on to the next schedule, and reports whether there is one.
func (e *everything) next() bool {
	e.at = 0
	for ; len(e.path) > 0; e.path = e.path[:len(e.path)-1] {
		if last := &e.path[len(e.path)-1]; last.taken+1 < last.of {
			last.taken++
			return true
		}
	}
	return false
}

// anything runs one random schedule.
type anything struct{ r *rand.Rand }

func (a anything) choose(n int) int        { return a.r.IntN(n) }
func (a anything) seen(func() uint64) bool { return false }

func (a anything) fault() fate {
	if a.r.IntN(8) > 0 {
		return carriedOut
	}
	return fate(a.r.IntN(int(fates)))
}

// again runs the schedule of a path once more.
type again struct {
	path []choice
	at   int
}

func (a *again) choose(n int) int {
	if n <= 1 || a.at == len(a.path) {
		return 0
	}
	a.at++
	return a.path[a.at-1].taken
}
func (a *again) fault() fate             { return fate(a.choose(int(fates))) }
func (a *again) seen(func() uint64) bool { return false }

// proc is somebody who makes calls: a process of the consumer, a person, a writer.
type proc struct {
	w    *world
	name string
	conf process
	safe bool // nothing of its calls is lost

	next func() (struct{}, bool)
	stop func()
	wait func(struct{}) bool

	begun, done bool
	ready       func() bool // nil: yes
	wakes       int         // at this time of its clock it goes on in any case; 0: never
	past        uint64      // a hash of all that it has seen; so of all that it knows

	// Of a process of the consumer:
	memory *memory
	at     int // in its queue
	since  int // the step at which the delivery began
}

type (
	stopped struct{} // the run is over
	died    struct{}
)

var errLost = errors.New("no answer")

// start makes somebody who does what body says.
func (w *world) start(name string, body func(*proc)) *proc {
	p := &proc{w: w, name: name}
	p.next, p.stop = iter.Pull(func(yield func(struct{}) bool) {
		p.wait = yield
		defer func() {
			if r := recover(); r != nil && r != any(stopped{}) {
				panic(r)
			}
		}()
		body(p)
	})
	w.procs = append(w.procs, p)
	return p
}

func (p *proc) pause() {
	if !p.wait(struct{}{}) {
		panic(stopped{})
	}
}

// call is one atomic step on the tables, about a number. Its request or its answer may be lost, and the process may die.
func (p *proc) call(what string, n int, do func() any) error { return p.step(what, n, false, do) }

// local is a step that leaves no request.
func (p *proc) local(what string, n int, do func() any) { _ = p.step(what, n, true, do) }

func (p *proc) step(what string, n int, local bool, do func() any) error {
	p.ready, p.wakes = nil, 0
	p.pause()
	w, f := p.w, carriedOut
	if w.faults > 0 && !p.safe && !w.calm {
		if f = w.ch.fault(); local && (f == requestLost || f == answerLost) {
			f = carriedOut
		}
		if f != carriedOut {
			w.faults--
		}
	}
	if f == requestLost || f == diesBefore {
		p.saw(what, n, f, nil)
		return p.suffer(f)
	}
	w.steps++
	before := w.pos.seq
	result := do()
	if w.pos.seq < before {
		w.fail("the position goes back from %d to %d", before, w.pos.seq)
	}
	if now := w.state(); now != w.last {
		w.last = now
		w.changes++
	}
	p.saw(what, n, f, result)
	return p.suffer(f)
}

// saw keeps what a step has shown.
func (p *proc) saw(what string, n int, f fate, result any) {
	if p.w.tracing {
		p.w.note("%s: %s %d %v %v", p.name, what, n, f, result)
	}
	if f == answerLost {
		result = nil
	}
	p.past = mix(p.past, text(what), uint64(n), uint64(f), sum(result))
}

func (p *proc) suffer(f fate) error {
	switch f {
	case diesBefore, diesAfter:
		panic(died{})
	case requestLost, answerLost:
		return errLost
	}
	return nil
}

// rest waits until something has changed, or until a time of the process's clock, unless it is 0.
func (p *proc) rest(until int) {
	changes := p.w.changes
	p.when("it rests", until, func() bool { return p.w.changes != changes })
}

// when waits for a condition, or a time.
func (p *proc) when(why string, until int, condition func() bool) {
	p.wakes = until
	p.ready = func() bool { return condition() || until > 0 && p.clock() >= until }
	p.past = mix(p.past, text(why), uint64(until))
	if p.w.tracing {
		p.w.note("%s waits: %s", p.name, why)
	}
	p.pause()
	p.ready, p.wakes = nil, 0
	p.past++ // it is not where it was
}

func (p *proc) clock() int { return p.w.now + p.conf.skew }

var seed = maphash.MakeSeed()

func text(s string) uint64 { return maphash.String(seed, s) }

func mix(h uint64, parts ...uint64) uint64 {
	for _, part := range parts {
		h = (h ^ part) * 0x9E3779B97F4A7C15
		h ^= h >> 29
	}
	return h
}

// sum is a hash of what a step has shown.
func sum(result any) uint64 {
	switch r := result.(type) {
	case nil:
		return 1
	case bool:
		return 2 + bit(r)
	case int:
		return mix(4, uint64(r))
	case string:
		return text(r)
	case set:
		return mix(5, uint64(r))
	case position:
		return r.sum()
	}
	return text(fmt.Sprint(result))
}

func bit(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// whole is the state of the world and of everybody in it.
func (w *world) whole() uint64 {
	h := mix(w.state(), uint64(w.now), uint64(w.faults), uint64(w.ticks))
	for _, p := range w.procs {
		h = mix(h, bit(p.done), bit(p.ready == nil || p.ready()), uint64(p.wakes), p.past, uint64(p.at))
	}
	return h
}

const longest = 4000 // steps of a run

// run runs everybody to the end. It returns false if the schedule leads to what has been seen.
func (w *world) run() bool {
	for range longest {
		if w.problem != "" {
			return true
		}
		var on []*proc
		waiting, alarm := 0, 0
		for _, p := range w.procs {
			if !p.begun { // up to its first call
				p.begun = true
				p.goOn()
			}
			switch {
			case p.done:
				continue
			case p.ready == nil || p.ready():
				on = append(on, p)
			case p.wakes > 0:
				if at := p.wakes - p.conf.skew; alarm == 0 || at < alarm {
					alarm = at
				}
			}
			waiting++
		}
		switch {
		case waiting == 0:
			return true
		case len(on) == 0 && alarm == 0:
			w.fail("nobody can go on")
			return true
		case len(on) == 0:
			w.now = max(w.now+1, alarm)
			continue
		case !w.calm && w.ch.seen(w.whole):
			return false
		}
		pick := 0
		if !w.calm {
			pick = w.ch.choose(len(on) + min(w.ticks, 1))
		}
		if pick == len(on) {
			w.ticks--
			w.now++
			continue
		}
		on[pick].goOn()
	}
	w.fail("no end after %d steps", longest)
	return true
}

func (p *proc) goOn() {
	if _, more := p.next(); !more {
		p.done = true
	}
}

// end stops everybody who still waits.
func (w *world) end() {
	for _, p := range w.procs {
		p.stop()
	}
}
