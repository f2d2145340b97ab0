// Package streams is DynamoDB Streams in memory: for every table with a stream
// a lineage of shards with the table's changes in commit order, kept for 24
// hours, and the API to read them.
//
// It knows shards, iterators and the form of a stream record. It must not know
// how a table works: which tables have streams it is told, and what changed
// too. Durations are judged by the injected clock; it starts no goroutine.
package streams

import (
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/dynamo"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/signal"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// retention is how long a record is kept.
const retention = 24 * time.Hour

// Table is what the service must know of a table that has, or had, a stream.
type Table struct {
	Name, StreamARN, View string
	Enabled               bool
	Keys                  []KeySchemaElement
}

// KeySchemaElement is one attribute of a table's key.
type KeySchemaElement struct{ AttributeName, KeyType string }

// Config says what the service depends on.
type Config struct {
	Now    func() time.Time
	Region string
	// Tables returns the tables that have a stream, or whose last one is known.
	// It is called without any lock held.
	Tables func(context.Context) []Table
}

// Engine is the service. It is safe for concurrent use.
type Engine struct {
	config  Config
	changed signal.Signal

	mu      sync.Mutex
	streams map[string]*stream // by ARN; streams outlive their tables
	numbers int64              // the last sequence number
}

type stream struct {
	arn, table, view string
	enabled          bool
	keys             []KeySchemaElement
	created          time.Time
	shards           []*shard
}

type shard struct {
	id, parent  string
	first, last string // starting and ending sequence number; last is "" while open
	closedAt    time.Time
	trimmed     int64
	records     []*record
}

type record struct {
	sequence string
	change   dynamo.Change
	eventID  string
}

// New returns a service without streams.
func New(config Config) *Engine {
	return &Engine{config: config, streams: make(map[string]*stream)}
}

// Changed returns a channel that is closed when records or shards are added
// after the call.
func (e *Engine) Changed() <-chan struct{} { return e.changed.Next() }

// Add takes a change of a table; one without a stream is of no interest.
func (e *Engine) Add(c dynamo.Change) {
	if c.StreamView == "" {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.stream(c.StreamARN, c.Table)
	s.view = c.StreamView
	sh := s.shards[len(s.shards)-1]
	if sh.last != "" { // disabled a moment ago; the change was earlier
		sh = e.addShard(s, sh.id)
	}
	sequence := e.next()
	h := fnv.New128a()
	_, _ = h.Write([]byte(c.StreamARN + sequence)) // a hash never fails
	sh.records = append(sh.records, &record{sequence: sequence, change: c, eventID: fmt.Sprintf("%x", h.Sum(nil))})
	e.changed.Fire()
}

// Roll closes the open shard of a table's stream and opens a child of it, as
// the service does every few hours.
func (e *Engine) Roll(ctx context.Context, table string) error {
	e.refresh(ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.latest(table)
	if s == nil || !s.enabled {
		return fmt.Errorf("table %q has no stream", table)
	}
	open := s.shards[len(s.shards)-1]
	e.closeShard(open)
	e.addShard(s, open.id)
	e.changed.Fire()
	return nil
}

// refresh learns which streams there are now.
func (e *Engine) refresh(ctx context.Context) {
	tables := e.config.Tables(ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	current := make(map[string]bool)
	for _, t := range tables {
		if t.StreamARN == "" {
			continue
		}
		s := e.stream(t.StreamARN, t.Name)
		s.keys = t.Keys
		if t.View != "" {
			s.view = t.View
		}
		current[t.StreamARN] = t.Enabled
	}
	for arn, s := range e.streams {
		if newest := s.shards[len(s.shards)-1]; !current[arn] && (s.enabled || newest.last == "") { // a late change has opened another shard
			s.enabled = false
			e.closeShard(newest)
			e.changed.Fire()
		}
	}
	e.trim()
}

// stream finds a stream or makes it known.
func (e *Engine) stream(arn, table string) *stream {
	s := e.streams[arn]
	if s == nil {
		s = &stream{arn: arn, table: table, enabled: true, created: e.config.Now()}
		e.streams[arn] = s
		e.addShard(s, "")
		e.changed.Fire()
	}
	return s
}

// latest returns the newest stream of a table.
func (e *Engine) latest(table string) *stream {
	var newest *stream
	for _, s := range e.streams {
		if s.table == table && (newest == nil || label(s.arn) > label(newest.arn)) {
			newest = s
		}
	}
	return newest
}

func label(arn string) string {
	_, after, _ := strings.Cut(arn, "/stream/")
	return after
}

func (e *Engine) addShard(s *stream, parent string) *shard {
	h := fnv.New32a()
	_, _ = fmt.Fprint(h, s.arn, len(s.shards), e.numbers) // a hash never fails
	// The number grows with every shard, so that ids sort by age.
	id := fmt.Sprintf("shardId-%020d-%08x", e.config.Now().UnixMilli(), h.Sum32())
	if n := len(s.shards); n > 0 && id <= s.shards[n-1].id {
		var last int64
		_, _ = fmt.Sscanf(s.shards[n-1].id, "shardId-%020d-", &last)
		id = fmt.Sprintf("shardId-%020d-%08x", last+1, h.Sum32())
	}
	sh := &shard{id: id, parent: parent, first: e.next()}
	s.shards = append(s.shards, sh)
	return sh
}

func (e *Engine) closeShard(sh *shard) {
	if sh.last == "" {
		sh.last, sh.closedAt = e.next(), e.config.Now()
	}
}

// next returns a sequence number: 21 digits, increasing over all streams.
func (e *Engine) next() string {
	e.numbers++
	return fmt.Sprintf("1%017d000", e.numbers)
}

func (e *Engine) trim() {
	horizon := e.config.Now().Add(-retention)
	for _, s := range e.streams {
		for _, sh := range s.shards {
			n := 0
			for n < len(sh.records) && sh.records[n].change.At.Before(horizon) {
				n++
			}
			if n > 0 {
				sh.records = slices.Clone(sh.records[n:])
				sh.trimmed += int64(n)
			}
		}
		newest := s.shards[len(s.shards)-1]
		s.shards = slices.DeleteFunc(s.shards, func(sh *shard) bool {
			return sh != newest && sh.last != "" && sh.closedAt.Before(horizon)
		})
	}
}

func (s *stream) shard(id string) *shard {
	for _, sh := range s.shards {
		if sh.id == id {
			return sh
		}
	}
	return nil
}

func (sh *shard) end() int64 { return sh.trimmed + int64(len(sh.records)) }

func (sh *shard) from(position int64) []*record {
	return sh.records[min(max(position-sh.trimmed, 0), int64(len(sh.records))):]
}

func notFound(format string, args ...any) error {
	return wire.Errorf("ResourceNotFoundException", "Requested resource not found: "+format, args...)
}
