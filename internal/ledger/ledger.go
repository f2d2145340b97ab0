// Package ledger is what one shard owes while its lease is held: which of its records are unfinished, which of them may be begun, what the
// next owner has to know, and how many records may be added before the checkpoint must follow.
//
// It knows sequence numbers and aggregates as opaque text. It must not know records, handlers, lanes, or where checkpoints are stored. It has
// no goroutine and no clock, and nothing in it waits: who has to is told when to ask again.
//
// Records that have failed are kept with their sequence numbers, apart from the ring of those that lie above the checkpoint.
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
	limit   int
	created time.Time

	mu         sync.Mutex
	recent     ring
	checkpoint string           // the position up to which everything is finished
	failed     map[Slot]failure // unfinished records with failed attempts
	earlier    map[string]int   // attempts of earlier owners, by sequence number, at records that have not been added yet
	changes    uint64           // how often failed or earlier have changed
	stored     mark             // of the Progress that was stored last
	storedAt   time.Time

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
	// Checkpoint is the position up to which everything is finished: a sequence number, or where the ledger began.
	Checkpoint string
	// Attempts are the failed attempts at records above the checkpoint, by sequence number: at most 20 records, the oldest ones. nil if
	// there are none.
	Attempts map[string]int

	mark
}

// mark is what a Progress has of the ledger.
type mark struct {
	finished Slot   // how many records lie up to the checkpoint
	changes  uint64 // of the attempts
}

// New returns the ledger of a shard of which p is stored. At most limit records are above the stored checkpoint at any time, at least 1.
func New(limit int, p Progress, now time.Time) *Ledger {
	limit = max(limit, 1)
	return &Ledger{
		limit: limit, created: now, recent: ring{most: limit}, checkpoint: p.Checkpoint, earlier: maps.Clone(p.Attempts), storedAt: now,
		failed: make(map[Slot]failure), blocked: make(map[string]bool), poison: never,
	}
}

// Add takes in records, given by their sequence numbers in order, as far as there is room above the stored checkpoint: the first n, into the
// slots from first on. It takes none while there is room for less than an eighth of the limit, unless that is enough for all of them. Then
// there is more room after Stored.
func (l *Ledger) Add(sequences []string, now time.Time) (first Slot, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first = l.recent.to
	free := l.limit - int(l.recent.to-l.stored.finished)
	if free < min(len(sequences), max(l.limit/8, 1)) {
		return first, 0
	}
	n = min(free, len(sequences))
	l.recent.add(sequences[:n], now.Sub(l.created))
	for i := 0; i < n && len(l.earlier) > 0; i++ {
		if attempts := l.earlier[sequences[i]]; attempts > 0 {
			l.failed[first+Slot(i)] = failure{sequences[i], attempts}
			delete(l.earlier, sequences[i])
		}
	}
	return first, n
}

// MayStart reports whether a handler may be called for a record. If so, the record is begun; otherwise it is to be Left. After Stop, only a
// record that is not begun and lies before one that is may start: without it, the one behind it would be handled twice.
func (l *Ledger) MayStart(s Slot, aggregate string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.recent.get(s)
	if s >= l.poison || l.blocked[aggregate] || l.stopping && (e.state == started || s >= l.finishTo) {
		return false
	}
	e.state = started
	l.finishTo = max(l.finishTo, s+1)
	return true
}

// Failed counts a failed attempt at a record, and returns how many there are, those of earlier owners included.
func (l *Ledger) Failed(s Slot) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := failure{l.recent.get(s).sequence, l.failed[s].attempts + 1}
	l.failed[s] = f
	l.changes++
	return f.attempts
}

// Left says that a record is left to the next owner. No later one of its aggregate may be begun, unless it has none (""), and after Stop no
// record behind it, which the next owner handles in any case.
func (l *Ledger) Left(s Slot, aggregate string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if aggregate != "" {
		l.blocked[aggregate] = true
	}
	if l.stopping {
		l.finishTo = min(l.finishTo, s)
	}
}

// Settled says that a record is finished. due reports that so much is finished that the checkpoint is to be stored, whatever the time. It
// panics if the record was settled before.
func (l *Ledger) Settled(s Slot) (due bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last, moved := l.recent.finish(s)
	if _, failed := l.failed[s]; failed {
		delete(l.failed, s)
		l.changes++
	}
	if !moved {
		return false
	}
	l.checkpoint = last
	return l.above() >= l.enough()
}

// above returns how many records are finished above the stored checkpoint, and enough how many of them are reason to store it.
func (l *Ledger) above() int  { return int(l.recent.from - l.stored.finished) }
func (l *Ledger) enough() int { return min(maxAbove, max(l.limit/4, 1)) }

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

// Due reports whether the Progress is to be stored: attempts have changed, or enough is finished above the stored checkpoint, or something is
// and Every has passed.
func (l *Ledger) Due(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	above := l.above()
	return l.changes != l.stored.changes || above >= l.enough() || above > 0 && now.Sub(l.storedAt) >= Every
}

// Progress returns what is to be stored.
func (l *Ledger) Progress() Progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := Progress{Checkpoint: l.checkpoint, mark: mark{l.recent.from, l.changes}}
	if len(l.failed)+len(l.earlier) == 0 {
		return p
	}
	p.Attempts = make(map[string]int)
	oldest := slices.Sorted(maps.Keys(l.failed))
	for _, s := range oldest[:min(len(oldest), maxRemembered)] {
		p.Attempts[l.failed[s].sequence] = l.failed[s].attempts
	}
	for sequence, n := range l.earlier { // further on than all that were added
		if len(p.Attempts) < maxRemembered {
			p.Attempts[sequence] = n
		}
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
	// Unfinished is how many records lie above the end of what is finished without a gap, those included that are finished and wait for an
	// earlier one: what would be delivered again after a crash, once the Progress is stored.
	Unfinished int
	// Oldest is when the first of them was added; zero if there is none.
	Oldest time.Time
	// Unstored is how many records below that end are above the stored checkpoint.
	Unstored int
}

// Status returns what the ledger holds now.
func (l *Ledger) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &l.recent
	status := Status{Unfinished: int(r.to - r.from), Unstored: l.above()}
	if r.from < r.to {
		status.Oldest = l.created.Add(r.at(r.from).added)
	}
	return status
}
