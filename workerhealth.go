package outbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/lease"
	"github.com/seed-1b628d3f/outbox/internal/ledger"
)

// Health returns nil while the Worker runs and can do its work, and otherwise an error that names each reason:
//
//   - Run has not begun, is stopping, or has ended;
//   - no heartbeat was stored, or the lease table was not read, since Run began or for the time of a lease (WithLeaseDuration);
//   - the shards of the stream have not been listed yet, or not for two minutes;
//   - a shard that the Worker holds, or what is parked, could not be read for the time of a lease;
//   - events have waited for as long for the dead letter table, the inbox, or an answer to a commit of HandleTx;
//   - the Worker leaves its shards to others, since it could not read them or the lease table before;
//   - the stream is over (WorkerHooks.StreamEnded).
//
// A Worker without a shard is healthy, and so are one that is behind and one whose handlers fail or wait (Unavailable, ErrConflict, ErrClaimed).
// Health makes no call to AWS and does not wait, so a probe may call it as often as it likes, from any goroutine. Use it for readiness and for an
// alarm, and not for liveness: what it names is mostly an outage, which no restart ends. The error wraps the errors of AWS.
func (w *Worker) Health() error {
	if w.consumer == nil {
		return errNotMade
	}
	reasons := w.health.reasons(time.Now(), w.leaseDuration)
	if len(reasons) == 0 {
		return nil
	}
	return &healthError{w.stream, reasons}
}

// healthError has each reason why a Worker cannot do its work.
type healthError struct {
	stream  string
	reasons []error
}

func (e *healthError) Error() string {
	texts := make([]string, len(e.reasons))
	for i, r := range e.reasons {
		texts[i] = r.Error()
	}
	return "outbox: worker of stream " + e.stream + ": " + strings.Join(texts, "; ")
}

func (e *healthError) Unwrap() []error { return e.reasons }

// workerHealth is what the lease protocol does not know of a Worker's health.
type workerHealth struct {
	leases lease.Health

	mu     sync.Mutex
	phase  phase
	err    error  // what Run has returned
	over   string // why the stream is over
	shards map[*shardRun]struct{}
}

type phase int

const (
	notBegun phase = iota
	begun
	ended
)

func (h *workerHealth) begin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.phase, h.err, h.over, h.shards = begun, nil, "", make(map[*shardRun]struct{})
}

func (h *workerHealth) end(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.phase, h.err = ended, err
}

// streamOver notes why the stream is over; "" if it is not.
func (h *workerHealth) streamOver(reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = reason
}

// reads notes that a shard is read until forget is called.
func (h *workerHealth) reads(s *shardRun) (forget func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.shards[s] = struct{}{}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.shards, s)
	}
}

// holds reports whether a shard is read under a fence.
func (h *workerHealth) holds(shard string, fence int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.shards {
		if s.held.Shard().ID == shard && s.held.Fence() == fence {
			return true
		}
	}
	return false
}

func (h *workerHealth) reasons(now time.Time, patience time.Duration) []error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.phase == notBegun:
		return []error{errors.New("Run has not begun")}
	case h.phase == ended && h.err != nil:
		return []error{fmt.Errorf("Run has ended: %w", h.err)}
	case h.phase == ended:
		return []error{errors.New("Run has ended")}
	}
	reasons := h.leases.Problems()
	if h.over != "" {
		reasons = append(reasons, fmt.Errorf("the stream has ended: %s", h.over))
	}
	for s := range h.shards {
		if n, first := s.blocked.oldest(); n > 0 && now.Sub(first.since) >= patience {
			reasons = append(reasons, fmt.Errorf("%d events of shard %s wait, the first for %v: %w", n, s.held.Shard().ID, now.Sub(first.since).Round(time.Second), first.err))
		}
	}
	return reasons
}

// tellHealth calls the Health hook once a second until ctx ends.
func (w *Worker) tellHealth(ctx context.Context) {
	ticker := time.NewTicker(statusEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			err := w.Health()
			for _, hooks := range w.hooks {
				if hooks.Health != nil {
					w.call("Health", func() { hooks.Health(err) })
				}
			}
		}
	}
}

// blocked is which records of a shard wait for a table of the library.
type blocked struct {
	mu      sync.Mutex
	records map[ledger.Slot]obstacle
}

// obstacle is what a record waits for.
type obstacle struct {
	since time.Time
	err   error
}

// add notes that a record waits. It may be called again while the record does.
func (b *blocked) add(slot ledger.Slot, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.records == nil {
		b.records = make(map[ledger.Slot]obstacle)
	}
	o, waits := b.records[slot]
	if !waits {
		o.since = time.Now()
	}
	o.err = err
	b.records[slot] = o
}

func (b *blocked) remove(slot ledger.Slot) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.records, slot)
}

// oldest returns how many records wait, and what the first of them waits for.
func (b *blocked) oldest() (n int, first obstacle) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, o := range b.records {
		if first.since.IsZero() || o.since.Before(first.since) {
			first = o
		}
	}
	return len(b.records), first
}
