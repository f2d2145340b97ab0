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

// maxRead is how many parked aggregates Refresh reads. If there are more, it asks about the aggregates of the batch.
const maxRead = 1000

// Set holds the parked aggregates that a process knows. It contains all that this process parked and, after a Refresh, those of its ids that
// were parked before it began. It may contain an aggregate that is not parked any more: storing an event behind its letters finds out. It is
// safe for concurrent use.
type Set struct {
	turn chan struct{} // taken during a refresh

	mu       sync.Mutex
	ids      map[string]uint64 // the generation in which an aggregate was parked here, or found to be parked
	now      uint64            // the generation; each refresh begins a new one, and so does each Add
	began    time.Time         // when the last refresh that succeeded began
	complete bool              // whether that refresh read all parked aggregates
}

// New returns an empty set.
func New() *Set { return &Set{turn: make(chan struct{}, 1), ids: make(map[string]uint64)} }

// Has reports whether an aggregate is known to be parked.
func (p *Set) Has(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, parked := p.ids[id]
	return parked
}

// Add adds an aggregate that this process has parked. Call it after the dead letter is stored.
func (p *Set) Add(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now++
	p.add([]string{id})
}

func (p *Set) add(ids []string) {
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

// Store knows which aggregates are parked.
type Store interface {
	// Parked returns the parked aggregates, at most limit. complete is false if there are more.
	Parked(ctx context.Context, limit int) (ids []string, complete bool, err error)
	// AreParked returns those of the aggregates that are parked.
	AreParked(ctx context.Context, ids []string) ([]string, error)
}

// Refresh reads which of the ids are parked. It reads nothing if a complete refresh began less than maxAge ago.
func (p *Set) Refresh(ctx context.Context, store Store, ids []string, maxAge time.Duration) error {
	oldest := time.Now().Add(-maxAge)
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	p.mu.Lock()
	fresh := p.complete && !p.began.Before(oldest)
	p.now++
	generation, began := p.now, time.Now()
	p.mu.Unlock()
	if fresh { // another call may have read meanwhile
		return nil
	}
	parked, complete, err := store.Parked(ctx, maxRead)
	if err == nil && !complete {
		var asked []string
		asked, err = store.AreParked(ctx, slices.Compact(slices.Sorted(slices.Values(ids))))
		parked = append(parked, asked...)
	}
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if complete { // a part of the aggregates says nothing about the others
		maps.DeleteFunc(p.ids, func(_ string, since uint64) bool { return since < generation })
	}
	p.add(parked)
	p.began, p.complete = began, complete
	return nil
}
