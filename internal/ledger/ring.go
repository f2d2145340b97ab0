package ledger

import (
	"fmt"
	"time"
)

// Slot is a record's place in its shard: how many were added before it.
type Slot uint64

// ring holds the records from the oldest unfinished one on, those that are finished and wait for an earlier one included.
type ring struct {
	most    int     // how many there can be
	entries []entry // that of slot n is at n mod len; they are replaced by more when they are full
	from    Slot    // the oldest unfinished record, or the next to be added
	to      Slot    // the next to be added
}

type entry struct {
	sequence string
	added    time.Duration // after the ledger was made
	begun    time.Duration // likewise, to about a second; only if it is started
	key      uint64        // of its aggregate
	state    state
	known    bool // its key is known
	deferred bool // see Deferred
}

type state uint8

const (
	fresh   state = iota // no handler was started for the record yet
	started              // at least one was
	done
)

// get returns the entry of an unfinished record. It panics for any other slot: to go on would mean a checkpoint past a record that is not
// finished.
func (r *ring) get(s Slot) *entry {
	if s < r.from || s >= r.to || r.at(s).state == done {
		panic(fmt.Sprintf("outbox: slot %d is finished or was never added; in use are %d to %d", s, r.from, r.to))
	}
	return r.at(s)
}

func (r *ring) at(s Slot) *entry { return &r.entries[uint64(s)%uint64(len(r.entries))] }

// add puts records behind the others.
func (r *ring) add(sequences []string, added time.Duration) {
	r.grow(int(r.to-r.from) + len(sequences))
	for _, sequence := range sequences {
		*r.at(r.to) = entry{sequence: sequence, added: added}
		r.to++
	}
}

// grow makes room for n records: for twice as many as there was room for, or more, so that it is seldom called. Most shards never need what
// they may.
func (r *ring) grow(n int) {
	if n <= len(r.entries) {
		return
	}
	old := r.entries
	r.entries = make([]entry, min(max(n, 2*len(old)), r.most))
	for s := r.from; s < r.to; s++ {
		*r.at(s) = old[uint64(s)%uint64(len(old))]
	}
}

// finish says that a record is finished. If it was the oldest unfinished one, last is the sequence number of the record before the one that is
// the oldest now.
func (r *ring) finish(s Slot) (last string, moved bool) {
	r.get(s).state = done
	if s != r.from {
		return "", false
	}
	return r.drop(), true
}

// drop takes out the oldest record, and those behind it that are finished. It returns the sequence number of the last of them.
func (r *ring) drop() (last string) {
	for first := true; r.from < r.to && (first || r.at(r.from).state == done); first = false {
		last = r.at(r.from).sequence
		*r.at(r.from) = entry{} // the memory of a batch must not be kept alive
		r.from++
	}
	return last
}

// unfinished returns how many records before a slot are unfinished.
func (r *ring) unfinished(to Slot) (n int) {
	for s := r.from; s < min(to, r.to); s++ {
		if r.at(s).state != done {
			n++
		}
	}
	return n
}
