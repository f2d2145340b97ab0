package outbox

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/changerec"
	"github.com/seed-1b628d3f/outbox/internal/lanes"
	"github.com/seed-1b628d3f/outbox/internal/usercode"
)

// Handler handles events of one type, without the type parameter. Middleware wraps Handlers.
type Handler func(ctx context.Context, r Record) error

// ErrPermanent marks an error that no retry can cure. See Permanent.
var ErrPermanent = errors.New("permanent failure")

// Permanent marks err as an error that no retry can cure. A handler returns it for an event that it can never handle. errors.Is
// finds ErrPermanent in the result, and errors.Is and errors.As still find err and what it wraps. Permanent(nil) is nil. An error that is
// Unavailable as well is permanent.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanentError{err}
}

type permanentError struct{ err error }

func (e permanentError) Error() string        { return e.err.Error() }
func (e permanentError) Unwrap() error        { return e.err }
func (e permanentError) Is(target error) bool { return target == ErrPermanent }

// PanicError is the error of a handler that panicked.
type PanicError struct {
	Value any    // the value that the handler panicked with
	Stack []byte // the stack of the panic, as debug.Stack prints it
}

// Error shows Value. It leaves out Stack, which the log has.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// HandlerError says which record was not handled, and why.
type HandlerError struct {
	// Index is the record's position among the arguments of Process. In a Worker it is 0.
	Index int
	// Record is the event. If it could not be decoded, Record says only where it came from.
	Record Record
	// Err is the handler's error, a *PanicError, a *DecodeError, or an error of decoding the payload. Ask it by errors.Is and errors.As: a
	// handler's error comes in a form of this package, whose methods do not panic whatever its own methods do.
	Err error
}

// Error names the event and where it was delivered from.
func (e *HandlerError) Error() string { return "record" + e.text() }

func (e *HandlerError) text() string {
	where := ""
	if e.Record.SequenceNumber != "" {
		where = fmt.Sprintf(" at %s:%s", e.Record.ShardID, e.Record.SequenceNumber)
	}
	return fmt.Sprintf("%s (event %q, type %q, aggregate %q): %v", where, e.Record.ID, e.Record.Type, e.Record.AggregateID, e.Err)
}

// Unwrap returns Err.
func (e *HandlerError) Unwrap() error { return e.Err }

// ProcessError says which records of a call of Process are unfinished. All other records of the call are finished.
type ProcessError struct {
	// Unfinished are the positions of the records that failed or were not started, ascending.
	Unfinished []int
	// Failures are the reasons of the records that failed, by position.
	Failures []*HandlerError
	// Stopped says why records were not started although nothing before them failed: the context ended, or the dead letter table
	// could not be read. Otherwise it is nil.
	Stopped error
}

// Error counts the unfinished records and gives every reason.
func (e *ProcessError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "outbox: %d records unfinished, %d of them failed", len(e.Unfinished), len(e.Failures))
	if e.Stopped != nil {
		fmt.Fprintf(&b, "; stopped: %v", e.Stopped)
	}
	for _, f := range e.Failures {
		fmt.Fprintf(&b, "; record %d%s", f.Index, f.text())
	}
	return b.String()
}

// Unwrap returns all reasons.
func (e *ProcessError) Unwrap() []error {
	var errs []error
	if e.Stopped != nil {
		errs = append(errs, e.Stopped)
	}
	for _, f := range e.Failures {
		errs = append(errs, f)
	}
	return errs
}

// ErrUnavailable marks an error as an outage of something that the handler depends on. See Unavailable.
var ErrUnavailable = errors.New("unavailable")

// Unavailable marks err as an outage of something that the handler depends on: the event is not at fault, and waits until the outage is over.
// The call does not count as an attempt. errors.Is finds ErrUnavailable in the result, and errors.Is and errors.As still find err and what it
// wraps. Unavailable(nil) is nil. An error that is Permanent as well is permanent.
//
// A Worker calls the handler again, with the delays of WithHandlerRetry, and other aggregates go on. Invoke ends the batch, which Lambda
// delivers again. Process leaves the event unfinished. A redrive leaves the letter as it is. Nothing ends the waiting but success, the stream's
// retention, or the mapping's age or attempts: give it none below the retention. Each call is logged at level WARN, and told to the hook
// Handled.
func Unavailable(err error) error {
	if err == nil {
		return nil
	}
	return unavailableError{err}
}

type unavailableError struct{ err error }

func (e unavailableError) Error() string        { return e.err.Error() }
func (e unavailableError) Unwrap() error        { return e.err }
func (e unavailableError) Is(target error) bool { return target == ErrUnavailable }

// Consumer hands events to the handlers of their types. Within one Consumer, handlers of one aggregate never overlap, not even
// across concurrent calls of Process and Invoke. An event without an aggregate id has no order with other events. A Consumer is
// safe for concurrent use, and so is the registration of handlers.
type Consumer struct {
	consumerConfig
	layout *changerec.Layout
	codecs codecs
	pool   *lanes.Pool
	seed   maphash.Seed

	warning sync.Mutex
	warned  map[uint64]bool // hashes of what was logged and must not be logged again
	// They say that what is told once has been logged: records of other tables, JSON of others.
	otherTable, otherJSON atomic.Bool

	register sync.Mutex
	handlers atomic.Pointer[map[string]registration] // a map is replaced, never changed

	guardsChecked sync.Once
}

// registration is a handler, and whether the inbox keeps which events it has handled.
type registration struct {
	handler Handler
	kept    bool
}

// NewConsumer returns a Consumer without handlers. It makes no call. The error names everything that is wrong with the options.
func NewConsumer(opts ...ConsumerOption) (*Consumer, error) {
	c := &Consumer{
		consumerConfig: consumerConfig{
			attributes:     DefaultAttributes(),
			concurrency:    10,
			deadlineMargin: 500 * time.Millisecond,
			invokeRetry:    defaultInvokeRetry,
			logger:         slog.Default(),
		},
		seed:   maphash.MakeSeed(),
		warned: make(map[uint64]bool),
	}
	if err := applyAll(opts, func(o ConsumerOption) error { return o.applyConsumer(&c.consumerConfig) }); err != nil {
		return nil, fmt.Errorf("outbox: NewConsumer: %w", err)
	}
	if err := errors.Join(c.checkOrder(), c.checkKeepMarks()); err != nil {
		return nil, fmt.Errorf("outbox: NewConsumer: %w", err)
	}
	c.layout = c.attributes.layout()
	c.logger = usercode.Logger(c.logger)
	c.codecs = newCodecs(c.consumerConfig.codecs)
	c.pool = lanes.New(c.concurrency)
	c.handlers.Store(&map[string]registration{})
	return c, nil
}

// Handle registers h for the event type that T names. Like http.ServeMux it panics at start rather than failing at the first
// event: if c or h is nil, if the type is empty, or if the type already has a handler.
//
// The context of h carries the record (RecordFromContext). It ends when the call of Process or Invoke must end, when a Worker loses the shard or
// its drain timeout has passed, when a guarded handler's claim is about to end (WithInbox), and in a redrive after about a minute, before the
// deadline of its call, or when its lock is lost. If h returns an error or panics, the event is not handled. h may be called again for the same
// event; see WithInbox and HandleTx.
func Handle[T Payload](c *Consumer, h func(context.Context, Event[T]) error) {
	HandleType(c, typeNamedBy[T]("Handle"), h)
}

func typeNamedBy[T Payload](caller string) string {
	var zero T
	var data any = zero
	if t := reflect.TypeFor[T](); t.Kind() == reflect.Pointer {
		data = reflect.New(t.Elem()).Interface()
	}
	if data == nil {
		panic(fmt.Sprintf("outbox: %s: %s is an interface and names no event type", caller, reflect.TypeFor[T]()))
	}
	return typeOf(data)
}

// HandleType is Handle for payload types that do not name their event type.
func HandleType[T any](c *Consumer, eventType string, h func(context.Context, Event[T]) error) {
	switch {
	case c == nil:
		panic("outbox: HandleType: the Consumer is nil")
	case h == nil:
		panic(fmt.Sprintf("outbox: HandleType: the handler of %q is nil", eventType))
	case eventType == "":
		panic(fmt.Sprintf("outbox: HandleType: the event type of %s is empty", reflect.TypeFor[T]()))
	}
	if c.order != nil && !c.guards(eventType) {
		panic(fmt.Sprintf("outbox: HandleType: with WithOrder the handler of %q must be guarded (WithInbox names it, or no types), or one of HandleTx", eventType))
	}
	if c.keepMarks {
		panic(fmt.Sprintf("outbox: HandleType: the handler of %q is guarded, and KeepMarks is for those of HandleTx: end all processes without WithOrder first, or give the Inbox another consumer name", eventType))
	}
	decode := decoder[T](c)
	plain := func(ctx context.Context, r Record) error {
		e, err := decode(&r)
		if err != nil {
			return err
		}
		return h(ctx, e)
	}
	if c.guards(eventType) {
		c.add(eventType, c.guard(plain), true)
		return
	}
	c.add(eventType, plain, false)
}

func decoder[T any](c *Consumer) func(*Record) (Event[T], error) {
	pool := sync.Pool{New: func() any { return new(T) }}
	return func(r *Record) (Event[T], error) {
		e := Event[T]{
			ID: r.ID, Type: r.Type, AggregateID: r.AggregateID, Sequence: r.Sequence, Time: r.Time, Headers: r.Headers,
		}
		if r.Payload == nil {
			return e, nil
		}
		// The handler gets a copy of the value, so the memory that the codec decodes into can be used again.
		data := pool.Get().(*T)
		err := c.codecs.decode(r, data)
		e.Data = *data
		*data = *new(T)
		pool.Put(data)
		return e, err
	}
}

// made reports whether NewConsumer has made the Consumer.
func (c *Consumer) made() error {
	if c.handlers.Load() == nil {
		return errors.New("a Consumer is made by NewConsumer")
	}
	return nil
}

func (c *Consumer) add(eventType string, h Handler, kept bool) {
	for i := len(c.middleware) - 1; i >= 0; i-- {
		if h = c.middleware[i](h); h == nil {
			panic(fmt.Sprintf("outbox: middleware %d returned a nil handler for %q", i, eventType))
		}
	}
	c.register.Lock()
	defer c.register.Unlock()
	if err := c.made(); err != nil {
		panic("outbox: " + err.Error())
	}
	handlers := maps.Clone(*c.handlers.Load())
	if _, twice := handlers[eventType]; twice {
		panic(fmt.Sprintf("outbox: a handler for %q is already registered", eventType))
	}
	handlers[eventType] = registration{h, kept}
	c.handlers.Store(&handlers)
}

// Process hands the records to their handlers and returns when no handler of this call runs any more. Records of one aggregate are handled in the
// order given. A handler that has lost a race is run again (HandleTx). After a failure, the later records of its aggregate are not started; other
// aggregates go on. When ctx ends, nothing more is started. A record whose type has no handler is skipped and counts as finished, unless
// FailUnknownTypes is set.
//
// The error is a *ProcessError. It says which records are unfinished; all others are finished. Deliver the unfinished records
// again, in their order. If a record has no ID or no Type, nothing is handled and the error matches ErrInvalidEvent. Decoded
// records always have both. Process is safe for concurrent use.
//
// A handler or hook of a Consumer must not call Process, Invoke, Worker.Run or a redrive of the same Consumer: it would wait for itself. With the
// context of the handler or hook, such a call is an error, and nothing is handled. With another context it cannot be recognised.
func (c *Consumer) Process(ctx context.Context, records ...Record) error {
	if err := errors.Join(c.made(), c.notNested(ctx)); err != nil {
		return fmt.Errorf("outbox: Process: %w", err)
	}
	b := c.newBatch(ctx, len(records), false)
	var invalid []*HandlerError
	for i := range records {
		b.deliveries[i].record = records[i]
		if records[i].ID == "" || records[i].Type == "" {
			invalid = append(invalid, &HandlerError{Index: i, Record: records[i], Err: fmt.Errorf("%w: a Record needs an ID and a Type", ErrInvalidEvent)})
		}
	}
	if len(invalid) > 0 {
		e := b.result(nil)
		e.Failures = invalid
		return e
	}
	stopped := b.run()
	if stopped == nil {
		stopped = ctx.Err()
	}
	if err := b.result(stopped); err != nil {
		return err
	}
	return nil
}

func (c *Consumer) registered() map[string]registration {
	handlers := *c.handlers.Load()
	c.guardsChecked.Do(func() { c.checkGuards(handlers) })
	return handlers
}

// lane returns the key under which the events of an aggregate keep their order.
func (c *Consumer) lane(aggregateID string) uint64 {
	if aggregateID == "" {
		return lanes.Free
	}
	return max(maphash.String(c.seed, aggregateID), 1)
}

// ours reports whether WithTables lets events of this table through. A record that does not name its table passes.
func (c *Consumer) ours(table string) bool { return table == "" || c.tablesInclude(table) }

func (c *consumerConfig) tablesInclude(table string) bool {
	return len(c.tables) == 0 || slices.Contains(c.tables, table)
}
