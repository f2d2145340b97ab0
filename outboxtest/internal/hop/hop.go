// Package hop is what AWS runs between a DynamoDB table and a Kinesis stream:
// it turns changes into change records and puts them into the destinations,
// behind the writer's back and with whatever goes wrong on the way.
//
// It knows the form of a change record and the order of delivery. It must not
// know who consumes the stream, nor what an item means.
package hop

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/dynamo"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/fault"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/signal"
)

// Config says what the hop depends on.
type Config struct {
	Region string
	// Put writes a record into a stream. An error means that the record can
	// never be written: it is counted and given up.
	Put func(streamARN, partitionKey string, data []byte) error
	// Faults decides about each record.
	Faults *fault.Injector
	// OnProgress is told when the hop gets or delivers something.
	OnProgress func()
}

// Hop delivers changes in the order in which they were queued, except for what
// the faults do. It is safe for concurrent use.
type Hop struct {
	config  Config
	changed signal.Signal
	stop    chan struct{}
	stopped chan struct{}

	mu      sync.Mutex
	closed  bool
	queue   []dynamo.Change
	delayed []entry // by due time
	held    []entry // reordered: they go after the next record, or when due
	busy    bool
	failed  map[string]int // records given up, by table
	lastErr error
}

// entry is a change record on its way.
type entry struct {
	table, stream, key string
	data               []byte
	due                time.Time
}

// New returns a running hop; Close stops it.
func New(config Config) *Hop {
	h := &Hop{config: config, stop: make(chan struct{}), stopped: make(chan struct{}), failed: make(map[string]int)}
	go h.run()
	return h
}

// Queue takes one change; it never waits. Changes without a destination are of
// no interest.
func (h *Hop) Queue(c dynamo.Change) {
	if len(c.Destinations) == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	h.queue = append(h.queue, c)
	h.fire()
}

// Close stops the delivery and waits until it has stopped. What is still
// queued is lost.
func (h *Hop) Close() {
	h.mu.Lock()
	first := !h.closed
	h.closed = true
	h.mu.Unlock()
	if first {
		close(h.stop)
	}
	<-h.stopped
}

// Pending describes what has not reached its stream yet, "" if nothing.
func (h *Hop) Pending() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := len(h.queue) + len(h.held)
	if h.busy {
		n++
	}
	if n+len(h.delayed) == 0 {
		return ""
	}
	return fmt.Sprintf("%d change records on their way to Kinesis, %d more delayed by a fault", n, len(h.delayed))
}

// Failed returns how many change records of a table were given up, and the
// last reason of any.
func (h *Hop) Failed(table string) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failed[table], h.lastErr
}

func (h *Hop) run() {
	defer close(h.stopped)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		changed := h.changed.Next()
		due := h.deliver()
		var later <-chan time.Time
		if !due.IsZero() {
			timer.Reset(time.Until(due))
			later = timer.C
		}
		select {
		case <-h.stop:
			return
		case <-changed:
		case <-later:
		}
	}
}

// deliver writes everything that can be written now and returns when the next
// delayed record is due.
func (h *Hop) deliver() time.Time {
	for {
		h.mu.Lock()
		var batch []entry
		var change *dynamo.Change
		switch {
		case h.closed:
			h.mu.Unlock()
			return time.Time{}
		case len(h.delayed) > 0 && !time.Now().Before(h.delayed[0].due):
			batch, h.delayed = h.delayed[:1:1], h.delayed[1:]
		case len(h.queue) > 0:
			change, h.queue = &h.queue[0], h.queue[1:]
		case len(h.held) > 0 && !time.Now().Before(h.held[0].due): // nothing came to overtake them
			batch, h.held = h.held, nil
		default:
			due := h.nextDue()
			h.mu.Unlock()
			return due
		}
		h.busy = true
		h.mu.Unlock()
		if change != nil {
			batch = h.records(*change)
		}
		for _, en := range batch {
			h.put(en)
		}
		h.mu.Lock()
		h.busy = false
		h.mu.Unlock()
		h.fire()
	}
}

// nextDue is called with the lock held.
func (h *Hop) nextDue() (due time.Time) {
	for _, waiting := range [][]entry{h.delayed, h.held} {
		if len(waiting) > 0 && (due.IsZero() || waiting[0].due.Before(due)) {
			due = waiting[0].due
		}
	}
	return due
}

func (h *Hop) fire() {
	h.changed.Fire()
	h.config.OnProgress()
}

// records makes the records of a change and returns those to write now.
func (h *Hop) records(c dynamo.Change) []entry {
	var now []entry
	for _, dest := range c.Destinations {
		key := PartitionKey(c)
		data, err := Encode(c, h.config.Region, dest.Precision)
		if err != nil {
			h.fail(c.Table, err)
			continue
		}
		en := entry{table: c.Table, stream: dest.StreamARN, key: key, data: data}
		what := h.config.Faults.Record(c.Table)
		if what.Drop {
			h.fail(c.Table, fmt.Errorf("dropped by a fault: %s of %s", c.Kind, c.Table))
			continue
		}
		copies := []entry{en}
		if what.Duplicate {
			again := en
			if what.NewID {
				// Whether a duplicate keeps the event id is not documented,
				// so it may not; the encoding worked once, it works again.
				again.data, _ = Encode(c, h.config.Region, dest.Precision)
			}
			copies = append(copies, again)
		}
		switch {
		case what.Delay > 0:
			h.delay(copies, what.Delay)
		case what.Reorder > 0:
			h.mu.Lock()
			for _, en := range copies {
				en.due = time.Now().Add(what.Reorder)
				h.held = append(h.held, en)
			}
			h.mu.Unlock()
			continue
		default:
			now = append(now, copies...)
		}
		if len(now) > 0 {
			h.mu.Lock()
			now, h.held = append(now, h.held...), nil
			h.mu.Unlock()
		}
	}
	return now
}

func (h *Hop) delay(entries []entry, d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	due := time.Now().Add(d)
	for _, en := range entries {
		en.due = due
		i, _ := slices.BinarySearchFunc(h.delayed, due, func(e entry, t time.Time) int {
			if e.due.After(t) {
				return 1
			}
			return -1 // equal ones keep their order
		})
		h.delayed = slices.Insert(h.delayed, i, en)
	}
}

func (h *Hop) put(en entry) {
	if err := h.config.Put(en.stream, en.key, en.data); err != nil {
		h.fail(en.table, err)
	}
}

func (h *Hop) fail(table string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failed[table]++
	h.lastErr = err
}
