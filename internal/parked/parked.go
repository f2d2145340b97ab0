// Package parked is what a process knows of parked aggregates: those with dead letters. It must not know where they are kept.
package parked

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// maxRead is how many parked aggregates are read at once. If there are more, those of each batch are asked for.
const maxRead = 1000

// Set is what a process knows of parked aggregates. It may hold one that is not parked any more: storing behind it finds
// out. It lacks none that this process has parked, nor one that was parked before the last refresh began.
type Set struct {
	turn chan struct{} // taken during a refresh

	mu       sync.Mutex
	ids      map[string]uint64 // in which generation it was found to be parked, or parked here
	now      uint64            // the generation: a refresh begins one, and so does what is parked here
	began    time.Time         // when the last refresh that succeeded began
	complete bool              // it found all
}

// New returns a set that knows of none.
func New() *Set { return &Set{turn: make(chan struct{}, 1), ids: make(map[string]uint64)} }

// Has reports whether an aggregate is known to be parked.
func (p *Set) Has(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, parked := p.ids[id]
	return parked
}

// Add says that this process has parked an aggregate: after it was stored.
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

// Now returns the generation of what is known, for Remove.
func (p *Set) Now() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

// Remove says that an aggregate was found not to be parked, after asOf. What has been learned of it since stays.
func (p *Set) Remove(id string, asOf uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ids[id] <= asOf {
		delete(p.ids, id)
	}
}

// Store knows what is parked.
type Store interface {
	// Parked returns the parked aggregates, at most limit; complete says that these are all.
	Parked(ctx context.Context, limit int) (ids []string, complete bool, err error)
	// AreParked returns which of the aggregates are parked.
	AreParked(ctx context.Context, ids []string) ([]string, error)
}

// Refresh makes the set know which of the ids are parked, unless it knew all not longer than maxAge ago.
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
	if fresh { // perhaps by somebody who was waited for
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
	if complete { // otherwise what was known stays
		maps.DeleteFunc(p.ids, func(_ string, since uint64) bool { return since < generation })
	}
	p.add(parked)
	p.began, p.complete = began, complete
	return nil
}
