package ordermodel

import (
	"fmt"
	"strconv"
	"strings"
)

func (w *world) startPeople() {
	if len(w.writes) > 0 {
		w.start("writer", (*proc).write).safe = true
	}
	for _, n := range w.removed {
		w.start("time to live", func(p *proc) {
			p.when("for its row", 0, func() bool { return w.table.has(n) || w.writersDone() })
			_ = p.call("row … goes", n, func() any { w.table = w.table.without(n); return "" })
		}).safe = true
	}
	for i, orders := range w.people {
		p := w.start("person "+strconv.Itoa(i+1), func(p *proc) {
			for order := range strings.SplitSeq(orders, ";") {
				p.obey(order)
			}
		})
		p.safe = true
	}
}

func (w *world) writersDone() bool {
	for _, p := range w.procs {
		if p.name == "writer" && !p.done {
			return false
		}
	}
	return true
}

// write commits events. The rows of a transaction may be seen one after the other; the stream shows each when it is there.
func (p *proc) write() {
	w := p.w
	commit := func(numbers ...int) {
		_ = p.call("write", numbers[0], func() any {
			for _, n := range numbers {
				w.table, w.seenOf = w.table.with(n), w.seenOf.with(n)
				w.changed[n], w.written[n] = w.now, w.steps
			}
			return ""
		})
	}
	for _, together := range w.writes {
		if !w.apart {
			commit(together...)
			continue
		}
		for _, n := range together {
			commit(n)
		}
	}
}

// obey does what a person wants: "cure", "redrive", "pass 3", "discard 3".
func (p *proc) obey(what string) {
	w := p.w
	var n int
	switch verb, number, _ := strings.Cut(what, " "); verb {
	case "cure":
		_ = p.call("cure", 0, func() any { w.poison = 0; return "" })
	case "redrive":
		p.redrive()
	case "pass":
		n, _ = strconv.Atoi(number)
		p.pass(n)
	case "discard":
		n, _ = strconv.Atoi(number)
		p.when("for the letter", 0, func() bool { _, there := w.letters[n]; return there || w.consumersDone() })
		p.discard(n)
	default:
		panic(what)
	}
}

func (w *world) consumersDone() bool {
	for _, p := range w.procs {
		if len(p.conf.queue) > 0 && !p.done {
			return false
		}
	}
	return true
}

// redrive handles the letters in the order of their numbers, until one fails.
func (p *proc) redrive() {
	w := p.w
	for range 10 {
		var numbers []int
		open := false
		_ = p.call("list the letters", 0, func() any {
			open = w.lane
			for n := 1; n <= w.n; n++ {
				if _, there := w.letters[n]; there {
					numbers = append(numbers, n)
				}
			}
			return fmt.Sprint(numbers)
		})
		if !open {
			return
		}
		for _, n := range numbers {
			there := false
			_ = p.call("get letter", n, func() any { _, there = w.letters[n]; return there })
			if there && !p.redriven(n) {
				return
			}
		}
		closed := false
		_ = p.call("close the lane", 0, func() any {
			if closed = len(w.letters) == 0; closed {
				w.lane = false
			}
			return closed
		})
		if closed {
			return
		}
	}
}

func (p *proc) redriven(n int) bool {
	w := p.w
	for range 20 {
		p.since = w.steps
		switch o := p.handle(n, w.event(n, true), true); o.verdict {
		case done:
			_ = p.call("remove letter", n, func() any { delete(w.letters, n); return "" })
			return true
		case waits:
			p.rest(o.until)
		default:
			p.bury(n, o) // a predecessor that fails gets a letter of its own
			if l := w.letters[n]; o.cause == missing || o.cause == late {
				l.lacks, l.late = 0, o.cause == late
				if o.cause == missing {
					l.lacks = o.number
				}
				w.letters[n] = l
			}
			return false
		}
	}
	return false
}

// moved is what became of the wish to move the position over a number.
type moved int

const (
	movedOver moved = iota
	movedBefore
	notNext
)

// pass takes the next number for handled.
func (p *proc) pass(n int) (m moved) {
	w := p.w
	for range 20 {
		claimed := false
		_ = p.call("pass", n, func() any {
			switch {
			case w.pos.claimed(p.clock()) && !w.bugs.discardInClaim:
				claimed = true
				return "claimed"
			case w.pos.began && (n <= w.pos.seq || n < w.pos.first):
				if m = movedBefore; n < w.pos.first && !w.had(n) {
					w.passed = w.passed.with(n) // it can have no place any more
				}
			case n != w.pos.seq+1 && !w.bugs.discardAny:
				m = notNext
			default:
				m = movedOver
				w.passed = w.passed.with(n)
				w.pos = w.pos.moved(n)
			}
			return int(m)
		})
		if !claimed {
			break
		}
		p.rest(w.pos.until + 1)
	}
	return m
}

// discard removes a letter for good. It reports whether it is gone.
func (p *proc) discard(n int) bool {
	w, there := p.w, false
	_ = p.call("find letter", n, func() any { _, there = w.letters[n]; return there })
	if !there {
		return false
	}
	if !w.bugs.discardOnly && p.pass(n) == notNext {
		return false
	}
	_ = p.call("remove letter", n, func() any {
		if delete(w.letters, n); w.bugs.discardOnly && !w.had(n) {
			w.passed = w.passed.with(n)
		}
		return ""
	})
	_ = p.call("close the lane", 0, func() any {
		if len(w.letters) == 0 {
			w.lane = false
		}
		return ""
	})
	return true
}

// settle is the end: nothing breaks any more, handlers are cured, and a person sees to each letter that still fails.
func (w *world) settle() {
	w.calm = true
	w.note("the end")
	for range 3 * w.n {
		w.start("the last redrive", func(p *proc) {
			p.safe = true
			p.redrive()
			for n := 1; n <= w.n; n++ {
				l, there := w.letters[n]
				switch {
				case !there:
					continue
				case l.lacks > 0:
					p.pass(l.lacks)
				case l.late:
					p.discard(n)
				}
				return
			}
		})
		if w.run(); w.problem != "" {
			return
		}
		if !w.lane && len(w.letters) == 0 {
			w.checkEnd()
			return
		}
	}
	w.fail("letters are left: %v", w.letters)
}
