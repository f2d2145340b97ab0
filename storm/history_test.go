package storm

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/seed-1b628d3f/outbox"
)

// history is what the handlers of all processes did, and what was wrong with it.
type history struct {
	began time.Time

	mu       sync.Mutex
	done     map[string]map[int]int // successes of handlers, by aggregate and number
	runs     int
	attempts map[string]int
	told     map[string]int      // how often a hook said that an event of HandleTx has just been handled
	redrives map[string]*process // who handles a letter of an aggregate
	problems []string
	reached  map[string]int
	lines    []string
}

func newHistory() *history {
	return &history{began: time.Now(), done: map[string]map[int]int{}, redrives: map[string]*process{}, attempts: map[string]int{}, told: map[string]int{}, reached: map[string]int{}}
}

// problem notes a promise that was broken.
func (h *history) problem(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.problemLocked(format, args...)
}

func (h *history) problemLocked(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	h.lines = append(h.lines, h.at()+" PROBLEM "+text)
	if len(h.problems) < 20 {
		h.problems = append(h.problems, h.at()+" "+text)
	}
}

// wrong says whether a promise was broken: then there is no need to go on.
func (h *history) wrong() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.problems) > 0
}

// note keeps a line for whoever looks into a failure.
func (h *history) note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines = append(h.lines, h.at()+" "+fmt.Sprintf(format, args...))
}

// reach counts that a run came to something that not every run comes to.
func (h *history) reach(what string) { h.reachTimes(what, 1) }

func (h *history) reachTimes(what string, times int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reached[what] += times
}

func (h *history) at() string { return fmt.Sprintf("%8.3fs", time.Since(h.began).Seconds()) }

// enter begins a run of a handler. Two processes must not handle letters of one aggregate at a time. One that is paused in its handler cannot
// know that its lock ends.
func (h *history) enter(p *process, s step, redrive bool) (leave func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.runs++
	h.lines = append(h.lines, fmt.Sprintf("%s %s handles %s, redrive=%t", h.at(), p.name, s, redrive))
	if !redrive {
		return func() {}
	}
	if other := h.redrives[s.aggregate.name]; other != nil && !other.dead() && !other.paused.Load() && !p.paused.Load() {
		h.problemLocked("overlap: %s and %s handle letters of %s at the same time", other.name, p.name, s.aggregate.name)
	}
	h.redrives[s.aggregate.name] = p
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.redrives[s.aggregate.name] == p {
			delete(h.redrives, s.aggregate.name)
		}
	}
}

// run counts a run of a handler whose order does not matter.
func (h *history) run(p *process, aggregateID string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.runs++
	h.lines = append(h.lines, fmt.Sprintf("%s %s handles an event of %s", h.at(), p.name, aggregateID))
}

func (h *history) handlerRuns() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.runs
}

// success counts an effect of a handler without a transaction. It has none if its process is dead.
func (h *history) success(p *process, s step) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p.dead() {
		return errDead
	}
	if h.done[s.aggregate.name] == nil {
		h.done[s.aggregate.name] = map[int]int{}
	}
	h.done[s.aggregate.name][s.n]++
	return nil
}

// hooks are those of all processes. What is committed once has just been handled once, whoever did it. A process that has lost an answer cannot
// know whether it was the one.
func (h *history) hooks(sure bool) outbox.ConsumerHooks {
	return outbox.ConsumerHooks{
		Handled: func(_ context.Context, r outbox.Record, _ time.Duration, err error) {
			if err != nil || r.Type != (stepTx{}).EventType() && r.Type != (hot{}).EventType() {
				return
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			if h.told[r.ID]++; h.told[r.ID] > 1 && sure {
				h.problemLocked("hooks: %d times it was told that %s of %s, %s, has just been handled", h.told[r.ID], r.ID, r.AggregateID, r.Payload)
			}
		},
		Duplicate: func(context.Context, outbox.Record) { h.reach("a duplicate was told of") },
	}
}

// attempt returns which run of an event's handler this is, from 1.
func (h *history) attempt(s step) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.attempts[s.String()]++
	return h.attempts[s.String()]
}

func (h *history) successes(s step) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.done[s.aggregate.name][s.n]
}
