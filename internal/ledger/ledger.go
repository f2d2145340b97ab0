// Package ledger is what one shard owes while its lease is held: which of its records are unfinished, which of them may be begun, what the
// next owner has to know, and how many records may be added before the checkpoint must follow.
//
// It knows sequence numbers and aggregates as opaque text. It must not know records, handlers, lanes, or where checkpoints are stored. It has
// no goroutine and no clock, and nothing in it waits: who has to is told when to ask again.
//
// The records above the checkpoint are in a ring. An unfinished one that would hold back the checkpoint for long leaves the ring as a hole:
// the checkpoint passes it, and the Progress names it. See holes.go.
package ledger

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// The checkpoint is to be stored when maxAbove records are finished above it, or a quarter of the ledger's limit, or after Every.
const (
	Every    = time.Second
	maxAbove = 500
)

// maxRemembered bounds the attempts of a Progress: those at the oldest records, which the next owner meets first.
const maxRemembered = 20

// never is behind every record.
const never = ^Slot(0)

// Ledger is safe for concurrent use. The records of a shard are added by one goroutine, in their order.
type Ledger struct {
	limit    int
	maxHoles int
	created  time.Time

	mu         sync.Mutex
	recent     ring
	holes      map[Slot]*entry  // the unfinished records that the checkpoint has passed
	byKey      map[uint64]int   // how many of them there are of each aggregate
	now        time.Duration    // the last time that the ledger was told, after it was made
	head       Slot             // the oldest record of the ring when Due was asked last
	headSince  time.Duration    // since when it has been
	checkpoint string           // the position up to which everything is finished but the holes
	failed     map[Slot]failure // unfinished records with failed attempts
	earlier    map[string]int   // attempts of earlier owners, by sequence number, at records that have not been added yet
	changes    uint64           // how often failed, earlier or holes have changed
	stored     mark             // of the Progress that was stored last
	storedAt   time.Time

	ended    bool // nothing more is added
	drained  bool // nothing more is handled
	stopping bool
	finishTo Slot            // while stopping, records before this one may still start
	poison   Slot            // nothing from here on is handled
	why      error           // there is poison; nil if there is none
	blocked  map[string]bool // aggregates of which a record was left
}

type failure struct {
	sequence string
	attempts int
}

// Progress is what the next owner of the shard has to know.
type Progress struct {
	// Checkpoint is the position up to which everything is finished but the Holes: a sequence number, or where the ledger began.
	Checkpoint string
	// Attempts are the failed attempts at records above the checkpoint, by sequence number: at most 20 records, the oldest ones. nil if
	// there are none.
	Attempts map[string]int
	// Holes are the unfinished records up to the checkpoint, in the order of the shard: at most 50.
	Holes []Hole
	// Ended says that the shard was read to its end, and that nothing of it is unfinished but the Holes.
	Ended bool

	mark
}

// Attempted reports whether there are attempts at any record.
func (p *Progress) Attempted() bool {
	return len(p.Attempts) > 0 || slices.ContainsFunc(p.Holes, func(h Hole) bool { return h.Attempts > 0 })
}

// mark is what a Progress has of the ledger.
type mark struct {
	finished Slot   // how many records lie up to the checkpoint
	holes    int    // how many of them are unfinished
	changes  uint64 // of the attempts and the holes
}

// New returns the ledger of a shard of which p is stored. At any time, at most limit records are above the stored checkpoint or among its
// holes, at least 1. If there are more holes to begin with, nothing is added before they are fewer. The holes have the slots from 0 on.
func New(limit int, p Progress, now time.Time) *Ledger {
	limit = max(limit, 1)
	first := Slot(len(p.Holes))
	l := &Ledger{
		limit: limit, maxHoles: min(maxHoles, limit/2), created: now, recent: ring{most: limit, from: first, to: first}, checkpoint: p.Checkpoint,
		earlier: maps.Clone(p.Attempts), storedAt: now, stored: mark{finished: first, holes: len(p.Holes)}, ended: p.Ended,
		holes: make(map[Slot]*entry), byKey: make(map[uint64]int), failed: make(map[Slot]failure), blocked: make(map[string]bool), poison: never,
	}
	for i, h := range p.Holes {
		l.addHole(Slot(i), entry{sequence: h.Sequence, key: h.Key, known: true})
		if h.Attempts > 0 {
			l.failed[Slot(i)] = failure{h.Sequence, h.Attempts}
		}
	}
	return l
}

// Add takes in records, given by their sequence numbers in order, as far as there is room above the stored checkpoint: the first n, into the
// slots from first on. It takes none while there is room for less than an eighth of the limit, unless that is enough for all of them. Then
// there is more room after Stored.
func (l *Ledger) Add(sequences []string, now time.Time) (first Slot, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first = l.recent.to
	l.tell(now)
	free := l.limit - int(l.recent.to-l.stored.finished) - l.stored.holes
	if free < min(len(sequences), max(l.limit/8, 1)) {
		return first, 0
	}
	n = min(free, len(sequences))
	l.recent.add(sequences[:n], l.now)
	for i := 0; i < n && len(l.earlier) > 0; i++ {
		if attempts := l.earlier[sequences[i]]; attempts > 0 {
			l.failed[first+Slot(i)] = failure{sequences[i], attempts}
			delete(l.earlier, sequences[i])
		}
	}
	return first, n
}

// Keys says to which aggregates records belong, in numbers; 0 is none. Records without a key do not become holes.
func (l *Ledger) Keys(slots []Slot, keys []uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, s := range slots {
		e := l.get(s)
		e.key, e.known = keys[i], true
	}
}

// MayStart reports whether a handler may be called for a record. If so, the record is begun; otherwise it is to be Left. After Stop, only a
// record of the ring that is not begun and lies before one that is may start: without it, the one behind it could be handled twice.
func (l *Ledger) MayStart(s Slot, aggregate string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.get(s)
	if s >= l.poison || l.blocked[aggregate] || l.stopping && (e.state == started || s >= l.finishTo || s < l.recent.from) {
		return false
	}
	if e.state == fresh {
		e.state, e.begun = started, l.now
	}
	l.finishTo = max(l.finishTo, s+1)
	return true
}

// Failed counts a failed attempt at a record, and returns how many there are, those of earlier owners included.
func (l *Ledger) Failed(s Slot) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := failure{l.get(s).sequence, l.failed[s].attempts + 1}
	l.failed[s] = f
	l.changes++
	return f.attempts
}

// Attempts returns how many attempts at an unfinished record have failed, those of earlier owners included.
func (l *Ledger) Attempts(s Slot) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed[s].attempts
}

// Anew forgets the failed attempts at an unfinished record: what they were at is done.
func (l *Ledger) Anew(s Slot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget(s)
}

func (l *Ledger) forget(s Slot) {
	if _, failed := l.failed[s]; failed {
		delete(l.failed, s)
		l.changes++
	}
}

// Left says that a record is left to the next owner. No later one of its aggregate may be begun, unless it has none (""). After Stop no record
// behind it is begun, either, unless so many are unfinished that not all can become holes.
func (l *Ledger) Left(s Slot, aggregate string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if aggregate != "" {
		l.blocked[aggregate] = true
	}
	if l.stopping && s >= l.recent.from && s < l.finishTo && l.recent.unfinished(l.finishTo) <= l.maxHoles-len(l.holes) {
		l.finishTo = s
	}
}

// Settled says that a record is finished. due reports that so much is finished that the checkpoint is to be stored, whatever the time. It
// panics if the record was settled before.
func (l *Ledger) Settled(s Slot) (due bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget(s)
	if l.holes[s] != nil {
		l.removeHole(s)
		return false
	}
	last, moved := l.recent.finish(s)
	if !moved {
		return false
	}
	l.checkpoint = last
	if l.ended { // the shards that continue this one wait for what can still be passed
		l.pass()
	}
	return l.above() >= l.enough() || l.atEnd()
}

// above returns how many records are finished above the stored checkpoint, and enough how many of them are reason to store it.
func (l *Ledger) above() int  { return int(l.recent.from - l.stored.finished) }
func (l *Ledger) enough() int { return min(maxAbove, max(l.limit/4, 1)) }

// atEnd reports whether nothing of the shard is unfinished but the holes, and nothing more will come.
func (l *Ledger) atEnd() bool { return l.ended && l.recent.from == l.recent.to }

// Poison says that a record will never be handled: nothing from it on is begun any more. What lies before it is, also after a Stop that
// follows, or the next owner would get no further. Of several poisons the first one of the shard counts.
func (l *Ledger) Poison(s Slot, why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s < l.poison {
		l.poison, l.why = s, why
	}
	if !l.stopping {
		l.finishTo = max(l.finishTo, s)
	}
}

// Poisoned returns why there is poison, or nil.
func (l *Ledger) Poisoned() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.why
}

// Stop says that the shard is to be given up: from now on no record is begun a second time, and none behind those that were begun.
func (l *Ledger) Stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopping = true
}

// Stopping reports whether Stop was called.
func (l *Ledger) Stopping() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stopping
}

// Due reports whether the Progress is to be stored: attempts or holes have changed, or enough is finished above the stored checkpoint, or
// something is and Every has passed, or the shard has ended.
func (l *Ledger) Due(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tell(now)
	l.pass()
	above := l.above()
	return l.changes != l.stored.changes || above >= l.enough() || above > 0 && (now.Sub(l.storedAt) >= Every || l.atEnd())
}

// Progress returns what is to be stored.
func (l *Ledger) Progress() Progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := Progress{Checkpoint: l.checkpoint, Ended: l.atEnd(), mark: mark{l.recent.from, len(l.holes), l.changes}}
	if len(l.failed)+len(l.earlier)+len(l.holes) == 0 {
		return p
	}
	for _, s := range slices.Sorted(maps.Keys(l.holes)) {
		p.Holes = append(p.Holes, Hole{Slot: s, Sequence: l.holes[s].sequence, Key: l.holes[s].key, Attempts: l.failed[s].attempts})
	}
	attempts := make(map[string]int)
	for _, s := range slices.Sorted(maps.Keys(l.failed)) {
		if len(attempts) < maxRemembered && l.holes[s] == nil {
			attempts[l.failed[s].sequence] = l.failed[s].attempts
		}
	}
	for sequence, n := range l.earlier { // further on than all that were added
		if len(attempts) < maxRemembered {
			attempts[sequence] = n
		}
	}
	if len(attempts) > 0 {
		p.Attempts = attempts
	}
	return p
}

// Stored says that a Progress was stored. There may be room for more records now. An older one than was stored last changes nothing.
func (l *Ledger) Stored(p Progress, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.finished >= l.stored.finished && p.changes >= l.stored.changes {
		l.stored, l.storedAt = p.mark, now
	}
}

// Status is what a ledger holds at some moment.
type Status struct {
	// Unfinished is how many records lie above the checkpoint of the Progress, those included that are finished and wait for an earlier one,
	// and how many holes there are: what would be delivered again after a crash, once the Progress is stored.
	Unfinished int
	// Oldest is when the first of them was added, or the ledger made with it; zero if there is none.
	Oldest time.Time
	// Unstored is how many records are finished above the stored checkpoint.
	Unstored int
}

// Status returns what the ledger holds now.
func (l *Ledger) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &l.recent
	status := Status{Unfinished: int(r.to-r.from) + len(l.holes), Unstored: l.above()}
	if len(l.holes) > 0 {
		status.Oldest = l.created.Add(l.holes[slices.Min(slices.Collect(maps.Keys(l.holes)))].added)
	} else if r.from < r.to {
		status.Oldest = l.created.Add(r.at(r.from).added)
	}
	return status
}
