// Package watermark knows which records of a shard are finished, and up to where all of them are: the position from which
// the shard can be read again without losing one.
//
// It knows sequence numbers as opaque text. It must not know records, handlers or where checkpoints are stored.
package watermark

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Slot is a record's place in a Ring. The records of one Add have consecutive slots.
type Slot uint64

// Ring holds the records of a shard that have been fetched and that are not finished, or wait for an earlier one to be. Their
// number is bounded. It is safe for concurrent use, but records must be added by one goroutine at a time.
type Ring struct {
	capacity uint64
	created  time.Time

	mu      sync.Mutex
	slots   []slot // slot n is at n mod len; they grow up to capacity when they are full
	from    uint64 // the oldest unfinished record, or the next to be added
	to      uint64 // the next to be added
	last    string // the sequence number before from
	waiters []*waiter
}

type slot struct {
	sequence string
	added    time.Duration // after the ring was created; -1 once the record is finished
}

const done = time.Duration(-1)

type waiter struct {
	finished uint64
	reached  chan struct{}
}

// Mark is how far a shard is finished.
type Mark struct {
	// Sequence is the number of the last record of the finished prefix: the checkpoint. It is empty if there is none yet.
	Sequence string
	// Finished is how many records the finished prefix has had since the beginning.
	Finished uint64
	// Above is how many records are in the ring: what would be delivered again after a crash, once the mark is stored.
	Above int
	// Oldest is when the oldest unfinished record was added; zero if all are finished.
	Oldest time.Time
}

// New returns an empty ring for up to capacity records, at least 1.
func New(capacity int) *Ring { return &Ring{capacity: uint64(max(capacity, 1)), created: time.Now()} }

// Add puts records, given by their sequence numbers in order, into the ring: as many as there is room for, n of them, into
// the slots from first on. While the ring is full, Add blocks until earlier records are finished or ctx ends, whose cause it
// returns; then nothing was added. It waits for an eighth of the ring at once, so that it does not wake for every record.
func (r *Ring) Add(ctx context.Context, sequences []string) (first Slot, n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(sequences) == 0 {
		return Slot(r.to), 0, nil
	}
	if r.to-r.from == r.capacity {
		want := min(uint64(len(sequences)), max(r.capacity/8, 1))
		if err := r.wait(ctx, r.to-r.capacity+want); err != nil {
			return 0, 0, err
		}
	}
	now := time.Since(r.created)
	first, n = Slot(r.to), int(min(uint64(len(sequences)), r.capacity-(r.to-r.from)))
	r.grow(r.to - r.from + uint64(n))
	for _, sequence := range sequences[:n] {
		*r.at(r.to) = slot{sequence: sequence, added: now}
		r.to++
	}
	return first, n, nil
}

func (r *Ring) at(n uint64) *slot { return &r.slots[n%uint64(len(r.slots))] }

// grow makes room for n records: for twice as many as there was room for, or more, so that it is seldom called. Most rings never
// need what they may take.
func (r *Ring) grow(n uint64) {
	if n <= uint64(len(r.slots)) {
		return
	}
	old := r.slots
	r.slots = make([]slot, min(max(n, 2*uint64(len(old))), r.capacity))
	for i := r.from; i < r.to; i++ {
		*r.at(i) = old[i%uint64(len(old))]
	}
}

// Done says that a record is finished. It panics if the slot was done before or holds no record, since a checkpoint would
// then be past a record that is not finished.
func (r *Ring) Done(s Slot) {
	n := uint64(s)
	r.mu.Lock()
	defer r.mu.Unlock()
	if n < r.from || n >= r.to || r.at(n).added == done {
		panic(fmt.Sprintf("outbox: slot %d is done twice or was never added; in use are %d to %d", n, r.from, r.to))
	}
	r.at(n).added = done
	if n != r.from {
		return
	}
	for r.from < r.to && r.at(r.from).added == done {
		r.last = r.at(r.from).sequence
		*r.at(r.from) = slot{} // the ring must not keep a batch's memory alive
		r.from++
	}
	r.waiters = slices.DeleteFunc(r.waiters, func(w *waiter) bool {
		reached := w.finished <= r.from
		if reached {
			close(w.reached)
		}
		return reached
	})
}

// Mark returns how far the shard is finished.
func (r *Ring) Mark() Mark {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := Mark{Sequence: r.last, Finished: r.from, Above: int(r.to - r.from)}
	if r.from < r.to {
		m.Oldest = r.created.Add(r.at(r.from).added)
	}
	return m
}

// Wait blocks until the finished prefix has had that many records since the beginning, or ctx ends, whose cause it returns.
func (r *Ring) Wait(ctx context.Context, finished uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.wait(ctx, finished)
}

// wait is called, and returns, with the lock held; it is not held meanwhile.
func (r *Ring) wait(ctx context.Context, finished uint64) error {
	if r.from >= finished {
		return nil
	}
	w := &waiter{finished: finished, reached: make(chan struct{})}
	r.waiters = append(r.waiters, w)
	r.mu.Unlock()
	select {
	case <-w.reached:
	case <-ctx.Done():
	}
	r.mu.Lock()
	if r.from >= finished { // also when ctx ended at the same time
		return nil
	}
	r.waiters = slices.DeleteFunc(r.waiters, func(other *waiter) bool { return other == w })
	return context.Cause(ctx)
}
