// Package watermark knows which records of a shard are finished, and up to where all of them are: the position from which
// the shard can be read again without losing one.
//
// It knows sequence numbers as opaque text. It must not know records, handlers or where checkpoints are stored.
package watermark

import (
	"context"
	"sync"
	"time"
)

// Slot is a record's place in a Ring. The records of one Add have consecutive slots.
type Slot uint64

// Ring holds the records of a shard that have been fetched and that are not finished, or wait for an earlier one to be. Their
// number is bounded. It is safe for concurrent use; records are added by one goroutine at a time.
type Ring struct {
	mu      sync.Mutex
	slots   []slot // a ring; slot n is at n mod len
	from    uint64 // the oldest unfinished record, or the next to be added
	to      uint64 // the next to be added
	last    string // the sequence number before from
	waiters []*waiter
}

type slot struct {
	sequence string
	added    time.Time
	done     bool
}

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
func New(capacity int) *Ring { return &Ring{slots: make([]slot, max(capacity, 1))} }

// Add puts records, given by their sequence numbers in order, into the ring: as many as it has room for, n of them, into the
// slots from first on. While it is full, Add blocks until earlier records are finished or ctx ends, whose cause it returns.
func (r *Ring) Add(ctx context.Context, sequences []string) (first Slot, n int, err error) {
	return 0, 0, nil
}

// Done says that a record is finished. A slot may be done only once.
func (r *Ring) Done(s Slot) {}

// Mark returns how far the shard is finished.
func (r *Ring) Mark() Mark { return Mark{} }

// Wait blocks until the finished prefix has had that many records since the beginning, or ctx ends, whose cause it returns.
func (r *Ring) Wait(ctx context.Context, finished uint64) error { return nil }

// Drain blocks until all records that were added before are finished, or ctx ends, whose cause it returns.
func (r *Ring) Drain(ctx context.Context) error { return nil }

// Flush decides when a mark is stored: when it has moved by Records, or has moved at all and Every has passed since
// the last time. It is not safe for concurrent use.
type Flush struct {
	Every   time.Duration
	Records int

	at      time.Time // when the last one was stored, or the first was asked about
	flushed uint64
}

// Due reports whether m is to be stored now. last says that nothing will follow, at a drain or a shard's end: then every
// movement counts.
func (f *Flush) Due(m Mark, now time.Time, last bool) bool { return false }

// Stored says that m has been stored.
func (f *Flush) Stored(m Mark, now time.Time) {}
