package adversary

import (
	"context"
	"sync"
	"time"

	"github.com/seed-1b628d3f/outbox"
)

// watch looks at the lease table from outside, as a monitor does, and remembers what must never go back.
type watch struct {
	mu     sync.Mutex
	world  *world
	table  *outbox.LeaseTable
	stream string
	fence  map[string]int64
	owner  map[string]string // of the fence
	passed map[string]int    // records up to the checkpoint, all of them settled, but for the waiting
	// The records below the checkpoint that are not finished, by shard. Each of them must be settled before the table forgets it.
	waiting map[string]map[*record]bool
}

func newWatch(w *world) *watch {
	table, err := outbox.NewLeaseTable(tableLink{link: &link{faults: newFaults(0, w.reached)}, db: w.db, consistent: true}, "leases", "group")
	must(err)
	stream := "events"
	if w.plan.streams {
		stream = streamARN
	}
	return &watch{world: w, table: table, stream: stream, fence: map[string]int64{}, owner: map[string]string{}, passed: map[string]int{}, waiting: map[string]map[*record]bool{}}
}

func (l *watch) leases() []outbox.LeaseStatus {
	leases, err := l.table.Status(context.Background(), l.stream)
	must(err)
	return leases
}

func (l *watch) look() {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.world.history
	h.mu.Lock()
	successes := h.successes // while the table answers, more is finished
	h.mu.Unlock()
	leases := l.leases()
	if len(leases) > 0 && l.world.from.Load() == nil {
		now := time.Now()
		l.world.from.Store(&now)
	}
	l.judge(leases, successes)
}

// judge checks I1, I2 and the bound of WithMaxUnfinished, for which only the first successes count.
func (l *watch) judge(leases []outbox.LeaseStatus, successes int) {
	s, h := l.world.stream, l.world.history
	s.mu.Lock()
	defer s.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, at := range leases {
		in := s.byID[at.Shard]
		if in == nil {
			continue // a lie of a listing
		}
		switch before := l.fence[at.Shard]; {
		case at.Fence < before:
			h.violate("I1: the fence of %s goes back from %d to %d", at.Shard, before, at.Fence)
		case at.Fence == before && at.Owner != "" && l.owner[at.Shard] != "" && at.Owner != l.owner[at.Shard]:
			h.violate("I1: fence %d of %s has two owners, %s and %s", at.Fence, at.Shard, l.owner[at.Shard], at.Owner)
		case at.Fence > before || l.owner[at.Shard] == "":
			l.fence[at.Shard], l.owner[at.Shard] = at.Fence, at.Owner
		}
		l.checkpoint(h, in, at, successes)
	}
}

func (l *watch) checkpoint(h *history, in *shard, at outbox.LeaseStatus, successes int) {
	upTo := 0
	switch {
	case at.Ended && in.closed:
		upTo = len(in.records)
	case at.Ended: // an end that the stream contradicts must be taken back: I16
		return
	case at.Checkpoint != "":
		upTo = in.find(at.Checkpoint, true)
	}
	if upTo < l.passed[in.id] {
		h.violate("I2: the checkpoint of %s goes back from record %d to %d", in.id, l.passed[in.id], upTo)
	}
	now := map[*record]bool{}
	for _, sequence := range at.Unfinished {
		if n := in.find(sequence, false); n < len(in.records) && in.records[n].sequence == sequence {
			now[in.records[n]] = true
		} else {
			h.violate("I2: %s waits for %s, which is not its record", in.id, sequence)
		}
	}
	for r := range l.waiting[in.id] {
		if !now[r] && !h.settled(r.event) && r.at >= in.trimmed {
			h.violate("I2: %s, record %d of %s, is not finished, and is no longer waited for", r.event, r.at, in.id)
		}
	}
	l.waiting[in.id] = now
	for ; l.passed[in.id] < upTo; l.passed[in.id]++ {
		r := in.records[l.passed[in.id]]
		if l.world.required(r) && !h.settled(r.event) && !now[r] && r.at >= in.trimmed {
			h.violate("I2: the checkpoint of %s, %q (ended: %v), passes %s, record %d, which is not finished", in.id, at.Checkpoint, at.Ended, r.event, r.at)
		}
	}
	above := 0 // or below, and not yet taken off what waits
	count := func(r *record) {
		if n := h.first[r.event]; n > 0 && n <= successes {
			above++
		}
	}
	for r := range now {
		count(r)
	}
	for _, r := range in.records[upTo:] {
		count(r)
	}
	if above > l.world.plan.maxUnfinished {
		h.violate("I6: %d records of %s are finished above its checkpoint, at most %d may be repeated", above, in.id, l.world.plan.maxUnfinished)
	}
}
