// Package lambda is Lambda's event source mapping: it polls the shards of a
// stream, makes batches, invokes a function with them one batch per shard at a
// time, and does with the answer what Lambda does.
//
// It knows batches, answers, retries and the end of a shard. It must not know
// what a record contains, nor which service the stream belongs to: that is the
// Source's business.
package lambda

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/signal"
)

// Source is a stream that a mapping polls.
type Source interface {
	// Shards returns all shards, parents before children.
	Shards() []Shard
	// Position returns where to begin in a shard; false if there is no such shard.
	Position(shardID string, start string, at time.Time) (int64, bool)
	// Read returns up to limit records from a position on, the position after
	// them and whether the shard has ended there; ok is false if the shard is
	// gone.
	Read(shardID string, position int64, limit int) (records []Record, next int64, ended, ok bool)
	// Changed returns a channel that is closed when there may be more to read.
	Changed() <-chan struct{}
}

// Shard is one shard of a source.
type Shard struct {
	ID      string
	Parents []string
}

// Record is one record of a source.
type Record struct {
	// ID is what an answer calls it: the sequence number.
	ID string
	// Group is what parallel batches are divided by.
	Group string
	// EventName is what the filter looks at.
	EventName string
	Arrived   time.Time
	// JSON is the record as the function sees it.
	JSON json.RawMessage
}

// The places to begin at.
const (
	TrimHorizon = "TRIM_HORIZON"
	Latest      = "LATEST"
	AtTimestamp = "AT_TIMESTAMP"
)

// Config is what a mapping is made of. It has been validated.
type Config struct {
	Source                  Source
	Now                     func() time.Time
	Invoke                  func(context.Context, []byte) ([]byte, error)
	Start                   string
	StartAt                 time.Time
	BatchSize               int
	Window                  time.Duration
	ReportBatchItemFailures bool
	Bisect                  bool
	MaxAttempts             int           // 0: no limit
	MaxAge                  time.Duration // 0: no limit
	Parallel                int
	EventNames              []string // empty: all
	Timeout                 time.Duration
	OnFailure               func(Discarded)
	OnIgnored               func() // an answer named failures, and the mapping does not report them; may be nil
	OnProgress              func()
}

// Discarded is what a mapping has given up.
type Discarded struct {
	Condition string
	ShardID   string
	Records   []Record
	Payload   []byte
	Attempts  int
	Err       error
	// FunctionFailed tells that Err is the function's, not made of its answer.
	FunctionFailed bool
}

// The reasons to give up.
const (
	RetriesExhausted = "RetryAttemptsExhausted"
	TooOld           = "RecordAgeExceeded"
	TooLarge         = "PayloadSizeExceeded"
)

// Mapping is a running event source mapping. It is safe for concurrent use.
type Mapping struct {
	config  Config
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	changed signal.Signal // progress, and the beginning of a flush

	mu       sync.Mutex
	shards   map[string]*progress
	flushing int
}

// progress is how far a shard has been handled.
type progress struct {
	lanes []*lane
	ended bool // nothing will come any more
}

// New returns a running mapping. Where it begins is fixed before New returns.
func New(config Config) *Mapping {
	ctx, cancel := context.WithCancel(context.Background())
	m := &Mapping{config: config, cancel: cancel, shards: make(map[string]*progress)}
	first := config.Source.Shards()
	begin := make(map[string]int64, len(first))
	for _, sh := range first {
		if position, ok := config.Source.Position(sh.ID, config.Start, config.StartAt); ok {
			begin[sh.ID] = position
		}
	}
	m.wg.Add(1)
	go m.run(ctx, begin)
	return m
}

// Stop ends the mapping and waits: when it returns, the function does not run
// and will not be invoked again. The context of a running invocation is
// cancelled.
func (m *Mapping) Stop() {
	m.cancel()
	m.wg.Wait()
}

func (m *Mapping) fire() {
	m.changed.Fire()
	m.config.OnProgress()
}

// Flush makes batching windows end at once until the returned function is called.
func (m *Mapping) Flush() (end func()) {
	m.mu.Lock()
	m.flushing++
	m.mu.Unlock()
	m.changed.Fire()
	return func() {
		m.mu.Lock()
		m.flushing--
		m.mu.Unlock()
	}
}

// run starts the lanes of every shard whose parents have been handled.
func (m *Mapping) run(ctx context.Context, begin map[string]int64) {
	defer m.wg.Done()
	for {
		more, progressed := m.config.Source.Changed(), m.changed.Next()
		all := m.config.Source.Shards()
		present := make(map[string]bool, len(all))
		for _, sh := range all {
			present[sh.ID] = true
		}
		started := false
		for _, sh := range all {
			started = m.startShard(ctx, sh, present, begin) || started
		}
		if started {
			// A lane that finds nothing to do makes no progress, and its start is what Pending waits for.
			m.config.OnProgress()
		}
		select {
		case <-ctx.Done():
			return
		case <-more:
		case <-progressed:
		}
	}
}

// startShard starts the lanes of one shard if it is their turn, and reports whether it did.
func (m *Mapping) startShard(ctx context.Context, sh Shard, present map[string]bool, begin map[string]int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shards[sh.ID] != nil || ctx.Err() != nil {
		return false
	}
	for _, parent := range sh.Parents {
		// A parent that is not there any more has been trimmed away.
		if p := m.shards[parent]; present[parent] && (p == nil || !p.ended) {
			return false
		}
	}
	position, known := begin[sh.ID]
	if !known {
		// Born after the mapping: nothing of it may be skipped.
		var ok bool
		if position, ok = m.config.Source.Position(sh.ID, TrimHorizon, time.Time{}); !ok {
			return false
		}
	}
	p := &progress{}
	for i := range max(m.config.Parallel, 1) {
		p.lanes = append(p.lanes, &lane{mapping: m, shardID: sh.ID, index: i, position: position})
	}
	m.shards[sh.ID] = p
	for _, l := range p.lanes {
		m.wg.Add(1)
		go func() {
			defer m.wg.Done()
			l.run(ctx)
			m.finish(p)
		}()
	}
	return true
}

// finish notes that a shard has ended once all its lanes have.
func (m *Mapping) finish(p *progress) {
	m.mu.Lock()
	p.ended = true
	for _, l := range p.lanes {
		p.ended = p.ended && l.ended
	}
	m.mu.Unlock()
	m.fire()
}

// Pending describes what has not been handled yet, "" if the mapping has done
// all there is to do.
func (m *Mapping) Pending() string {
	var out []string
	for _, sh := range m.config.Source.Shards() {
		m.mu.Lock()
		p := m.shards[sh.ID]
		if p == nil {
			m.mu.Unlock()
			if !m.blank(sh) {
				out = append(out, fmt.Sprintf("shard %s has not been started, its parents %v are not finished", sh.ID, sh.Parents))
			}
			continue
		}
		for _, l := range p.lanes {
			if what := l.pending(); what != "" {
				out = append(out, what)
			}
		}
		m.mu.Unlock()
	}
	return strings.Join(out, "; ")
}

// blank reports whether a shard that was not started has nothing to handle.
func (m *Mapping) blank(sh Shard) bool {
	position, ok := m.config.Source.Position(sh.ID, TrimHorizon, time.Time{})
	if !ok {
		return true
	}
	records, _, _, _ := m.config.Source.Read(sh.ID, position, 1)
	return len(records) == 0
}

// invoke calls the function on a goroutine of its own, so that neither a panic
// nor a runtime.Goexit (t.FailNow) in it takes the mapping along.
func (m *Mapping) invoke(ctx context.Context, payload []byte) ([]byte, error) {
	if m.config.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, m.config.Timeout)
		defer cancel()
	}
	type answer struct {
		body []byte
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		a := answer{err: errors.New("the function ended its goroutine (runtime.Goexit; was t.FailNow called in it?)")}
		defer func() { done <- a }()
		defer func() {
			if p := recover(); p != nil {
				a.err = fmt.Errorf("the function panicked: %v\n%s", p, stack())
			}
		}()
		a.body, a.err = m.config.Invoke(ctx, payload)
	}()
	a := <-done
	// Lambda kills the function at the deadline, so that whatever it would have
	// answered later does not count.
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil, errors.Join(fmt.Errorf("task timed out after %.2f seconds", m.config.Timeout.Seconds()), a.err)
	}
	return a.body, a.err
}
