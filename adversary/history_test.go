package adversary

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/seed-1b628d3f/outbox"
)

// How an event was told of.
const (
	deadLetter = "a dead letter"
	expired    = "expired"
)

// run is a handler that runs.
type run struct {
	by    *process
	ctx   context.Context
	shard string
	fence int64
	hung  bool
}

// history is what was seen from outside. It is safe for concurrent use.
type history struct {
	mu         sync.Mutex
	stream     *stream
	began      time.Time
	running    map[string][]*run // by aggregate
	handled    map[string]int    // successes, by event
	first      map[string]int    // the how-manyth success an event's first was
	successes  int
	told       map[string]string // events that need not be handled, and how this was said
	fences     map[string]map[int64]bool
	repeats    map[string]int // successes after the first, by shard
	losses     []outbox.DataLoss
	lost       map[string]int                // leases lost, by member
	holders    map[string]map[int64]*process // who has gained a shard, by fence
	violations []string
	lastStart  time.Time
	longest    time.Duration // between the starts of two handlers of events that do not fail for ever
	failing    map[string]bool
}

func newHistory(s *stream, failing map[string]bool) *history {
	return &history{stream: s, failing: failing, began: time.Now(), running: map[string][]*run{}, handled: map[string]int{}, told: map[string]string{}, first: map[string]int{},
		fences: map[string]map[int64]bool{}, repeats: map[string]int{}, lost: map[string]int{}, holders: map[string]map[int64]*process{}, lastStart: time.Now()}
}

// violate notes what must not happen. Only the first ones are kept: the others mostly follow from these.
func (h *history) violate(format string, args ...any) {
	if len(h.violations) < 5 {
		h.violations = append(h.violations, fmt.Sprintf("after %v: ", time.Since(h.began).Round(time.Millisecond))+fmt.Sprintf(format, args...))
	}
}

// note is violate, for those who do not hold the lock.
func (h *history) note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.violate(format, args...)
}

func (h *history) found() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.violations...)
}

// settled says that an event was handled, or need not be.
func (h *history) settled(event string) bool { return h.handled[event] > 0 || h.told[event] != "" }

// start notes that a handler begins.
func (h *history) start(ctx context.Context, by *process, r *record, fence int64) *run {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now := time.Now(); !h.failing[r.event] {
		h.longest, h.lastStart = max(h.longest, now.Sub(h.lastStart)), now
	}
	if h.fences[r.shard] == nil {
		h.fences[r.shard] = map[int64]bool{}
	}
	h.fences[r.shard][fence] = true
	if r.version > 0 {
		if before := fmt.Sprintf("%s-%d", r.aggregate, r.version-1); !h.settled(before) {
			h.violate("I3, I7, I17: %s of %s starts on %s while %s is not finished", r.event, r.shard, by.name, before)
		}
	}
	mine := &run{by: by, ctx: ctx, shard: r.shard, fence: fence}
	for _, other := range h.running[r.aggregate] {
		if other.by == by && other.fence == fence && other.shard == r.shard {
			h.violate("I7: two handlers of %s run at a time on %s", r.aggregate, by.name)
		}
	}
	for _, all := range h.running {
		for _, other := range all {
			if other.shard == r.shard && other.fence < fence && other.ctx.Err() == nil && !other.by.link.killed.Load() {
				h.violate("I13: %s handles %s with fence %d, while %s, with fence %d, still runs a handler whose context has not ended",
					by.name, r.shard, fence, other.by.name, other.fence)
			}
		}
	}
	h.running[r.aggregate] = append(h.running[r.aggregate], mine)
	return mine
}

// end notes that a handler has ended, and whether it has handled the event.
func (h *history) end(mine *run, r *record, success bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := h.running[r.aggregate]
	for i, one := range all {
		if one == mine {
			h.running[r.aggregate] = append(all[:i:i], all[i+1:]...)
			break
		}
	}
	if len(h.running[r.aggregate]) == 0 {
		delete(h.running, r.aggregate)
	}
	if !success {
		return
	}
	h.successes++
	if h.handled[r.event]++; h.handled[r.event] > 1 {
		h.repeats[r.shard]++
	} else {
		h.first[r.event] = h.successes
	}
}

func (h *history) hang(mine *run) {
	h.mu.Lock()
	defer h.mu.Unlock()
	mine.hung = true
}

func (h *history) deadLettered(event string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.told[event] = deadLetter
}

func (h *history) dataLost(loss outbox.DataLoss) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.losses = append(h.losses, loss)
}

// lease notes what a process says of a lease.
func (h *history) lease(by *process, e outbox.LeaseEvent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch e.Kind {
	case outbox.LeaseGained:
		if h.holders[e.Shard] == nil {
			h.holders[e.Shard] = map[int64]*process{}
		}
		if other := h.holders[e.Shard][e.Fence]; other != nil && other != by {
			h.violate("I1: fence %d of %s is of %s and of %s", e.Fence, e.Shard, other.name, by.name)
		}
		h.holders[e.Shard][e.Fence] = by
	case outbox.LeaseLost:
		h.lost[by.member.name]++
	}
}

// missing are the required events that are neither handled nor told of. An event waits rightly behind an event of its aggregate that fails for
// ever, and while a handler of its aggregate hangs in a live process.
func (h *history) missing(required func(*record) bool) (missing []*record) {
	h.stream.mu.Lock()
	all := h.stream.all
	h.stream.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	waiting := map[string]bool{}
	for aggregate, runs := range h.running {
		for _, r := range runs {
			waiting[aggregate] = waiting[aggregate] || r.hung && !r.by.link.killed.Load()
		}
	}
	for _, r := range all {
		if h.failing[r.event] && h.told[r.event] != deadLetter {
			waiting[r.aggregate] = true
		}
		if required(r) && !h.settled(r.event) && !waiting[r.aggregate] {
			missing = append(missing, r)
		}
	}
	return missing
}
