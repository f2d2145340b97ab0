// Package parked holds which aggregates are parked, as far as a process knows: an aggregate is parked while it has dead letters. The package
// must not know where dead letters are kept.
package parked

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// Parked aggregates are read all together, or those of a batch are asked for one by one. Strongly consistent, a read unit of DynamoDB is
// perUnit rows that follow each other, or one row that is asked for, whether it is there or not.
const (
	perUnit  = 25
	pageRows = 2000
	atOnce   = 100 // aggregates in a question

	// A look reads all if this costs no more than the questions would, and so it never costs more than twice their price; at least fewRows.
	fewRows = 100
	// A look that many share reads more. So do looks that follow, if they may know what is older.
	sharedRows = 100_000
	// What was read may be older the more it cost: unitTime for each unit, so looks take no more than 100 units a second.
	unitTime = 10 * time.Millisecond

	tooManyTime = time.Minute // how long it is believed that there are too many to be read all
	maxAsked    = 100_000     // how many answers are remembered
)

// Set holds the parked aggregates that a process knows. It contains all that this process parked and, after a Refresh, those of its IDs that
// were parked at its Since. It may contain an aggregate that is not parked any more: storing an event behind its letters finds out. What was
// read or answered before a failure is kept. It is safe for concurrent use.
type Set struct {
	turn chan struct{} // taken during a refresh

	mu       sync.Mutex
	ids      map[string]uint64    // the generation in which an aggregate was parked here, or found to be parked
	now      uint64               // the generation; each step forward of what is known begins a new one
	all      time.Time            // when the last reading of all began that was completed; zero before
	rows     int                  // how many rows there were when somebody last looked, or more
	rowsAt   time.Time            // when
	reading  *reading             // one of all that is not complete
	asked    map[string]time.Time // when the last question about an aggregate began that was answered
	complete int                  // rows of the last complete reading
}

type reading struct {
	began      time.Time
	generation uint64
	after      string
	rows       int
}

// New returns an empty set.
func New() *Set {
	return &Set{turn: make(chan struct{}, 1), ids: make(map[string]uint64), asked: make(map[string]time.Time)}
}

// Has reports whether an aggregate is known to be parked.
func (p *Set) Has(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, parked := p.ids[id]
	return parked
}

// Add adds aggregates that are parked. Call it after the dead letter is stored.
func (p *Set) Add(ids ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now++
	for _, id := range ids {
		p.ids[id] = p.now
	}
}

// Now returns the current generation, for Remove.
func (p *Set) Now() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

// Remove removes an aggregate that was found not to be parked. asOf is what Now returned before the look. An aggregate that was added since
// stays.
func (p *Set) Remove(id string, asOf uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ids[id] <= asOf {
		delete(p.ids, id)
	}
}

// Affordable returns how old a look at what others have parked may be, so that looks do not cost too much.
func (p *Set) Affordable() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Duration(p.complete) * unitTime / perUnit
}

// Store knows which aggregates are parked.
type Store interface {
	// Parked returns those of some rows, at most limit of them, and where the rows behind them begin. next is empty if there are none.
	Parked(ctx context.Context, after string, limit int) (ids []string, rows int, next string, err error)
	// AreParked returns those of the aggregates that are parked.
	AreParked(ctx context.Context, ids []string) ([]string, error)
}

// Look is what a caller of Refresh has to know.
type Look struct {
	IDs    []string      // which of these aggregates are parked
	Since  time.Time     // what was read before does not count
	Shared bool          // others will ask what this look has found
	Idle   time.Duration // bounds each call of the store, however many there are
}

// Refresh finds out which of the aggregates are parked. After an error, a later Refresh goes on where this one ended, if the Since of the later
// one is not later than the beginning of this one.
func (p *Set) Refresh(ctx context.Context, store Store, l Look) error {
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	unknown := p.unknown(l) // another call may have found out meanwhile
	if len(unknown) == 0 {
		return nil
	}
	most := max(fewRows, perUnit*len(unknown))
	if l.Shared {
		most = max(most, sharedRows)
	}
	for p.readable(l.Since, most) {
		if done, err := p.readOn(ctx, store, l, most); err != nil || done {
			return err
		}
	}
	for some := range slices.Chunk(unknown, atOnce) {
		if err := p.ask(ctx, store, l, some); err != nil {
			return err
		}
	}
	return nil
}

// unknown returns those of the aggregates of which nothing is known. One that is known to be parked need not be asked for.
func (p *Set) unknown(l Look) (ids []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.all.IsZero() && !p.all.Before(l.Since) {
		return nil
	}
	for _, id := range slices.Compact(slices.Sorted(slices.Values(l.IDs))) {
		_, parked := p.ids[id]
		if at, asked := p.asked[id]; !parked && (!asked || at.Before(l.Since)) {
			ids = append(ids, id)
		}
	}
	return ids
}

// readable reports whether all may be read, and begins the reading unless there is one to go on with.
func (p *Set) readable(since time.Time, most int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rows > most && time.Since(p.rowsAt) < tooManyTime {
		return false
	}
	if p.reading == nil || p.reading.began.Before(since) {
		p.now++
		p.reading = &reading{began: time.Now(), generation: p.now}
	}
	return true
}

// readOn reads a page. done says that it was the last one.
func (p *Set) readOn(ctx context.Context, store Store, l Look, most int) (done bool, err error) {
	r := p.reading // whoever has the turn changes it
	ctx, cancel := context.WithTimeout(ctx, l.Idle)
	defer cancel()
	ids, rows, next, err := store.Parked(ctx, r.after, min(pageRows, max(most-r.rows, 0)+1))
	if err != nil {
		return false, err
	}
	p.Add(ids...)
	p.mu.Lock()
	defer p.mu.Unlock()
	r.rows += rows
	r.after = next
	p.rows, p.rowsAt = r.rows, time.Now()
	if next != "" {
		return false, nil
	}
	maps.DeleteFunc(p.ids, func(_ string, since uint64) bool { return since < r.generation })
	p.all, p.complete, p.reading = r.began, r.rows, nil
	clear(p.asked)
	return true, nil
}

// ask asks for a few aggregates.
func (p *Set) ask(ctx context.Context, store Store, l Look, ids []string) error {
	ctx, cancel := context.WithTimeout(ctx, l.Idle)
	defer cancel()
	began := time.Now()
	parked, err := store.AreParked(ctx, ids)
	if err != nil {
		return err
	}
	p.Add(parked...)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.asked) > maxAsked {
		clear(p.asked)
	}
	for _, id := range ids {
		p.asked[id] = began
	}
	return nil
}
