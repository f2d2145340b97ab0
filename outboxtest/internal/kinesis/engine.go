// Package kinesis is the Kinesis Data Streams service in memory: streams,
// shards with their lineage, sequence numbers, iterators, retention and, on
// request, the throughput limits.
//
// It knows Kinesis and nothing above it: not HTTP, not who writes the records
// and not what is in them. Durations are judged by the injected clock only; the
// package starts no goroutine and sets no timer.
package kinesis

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/shape"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/signal"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// Config says what the service depends on.
type Config struct {
	Now     func() time.Time
	Region  string
	Account string
	// Limits switches the per-shard throughput limits on.
	Limits bool
	// Delay is how long, by Now, a stream takes to be created, changed or
	// deleted. Zero means at once.
	Delay time.Duration
	// Refuse decides about each record of a PutRecords whether its shard refuses
	// it; nil refuses none.
	Refuse func() bool
}

// Engine is the service. It is safe for concurrent use.
type Engine struct {
	config     Config
	operations map[string]operation

	mu      sync.Mutex
	streams map[string]*stream   // by name
	created int64                // numbers the incarnations of streams
	buried  map[string]time.Time // the latest creation of a shard of deleted streams, by name

	changed signal.Signal // fired whenever a reader may find something new
}

type operation struct {
	members []shape.Field
	run     func(*Engine, shape.Values) (any, error)
}

// New returns a service without streams.
func New(config Config) *Engine {
	return &Engine{
		config:     config,
		operations: operations(),
		streams:    make(map[string]*stream),
		buried:     make(map[string]time.Time),
	}
}

// Do runs one operation of the API on a JSON request. The result is what goes
// on the wire, nil for an operation that answers nothing. An error is a
// *wire.Error.
func (e *Engine) Do(_ context.Context, name string, body []byte) (any, error) {
	op, ok := e.operations[name]
	if !ok {
		return nil, wire.UnknownOperation(name + " of Kinesis")
	}
	in, err := shape.Decode(body, op.members)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.settleAll()
	return op.run(e, in)
}

// Changed returns a channel that is closed when records, shards or streams
// are added after the call.
func (e *Engine) Changed() <-chan struct{} { return e.changed.Next() }

func (e *Engine) now() time.Time { return e.config.Now() }

func fail(code, format string, args ...any) error {
	return &wire.Error{Code: code, Message: fmt.Sprintf(format, args...), Status: 400}
}

func invalid(format string, args ...any) error {
	return fail("InvalidArgumentException", format, args...)
}

func notFound(format string, args ...any) error {
	return fail("ResourceNotFoundException", format, args...)
}
