package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox/internal/changerec"
	"github.com/seed-1b628d3f/outbox/internal/names"
)

// applyAll applies the options. The error names everything that is wrong with them.
func applyAll[O any](opts []O, apply func(O) error) error {
	var errs []error
	for i, opt := range opts {
		if any(opt) == nil {
			errs = append(errs, fmt.Errorf("option %d is nil", i))
			continue
		}
		errs = append(errs, apply(opt))
	}
	return errors.Join(errs...)
}

// WriterOption configures NewWriter.
type WriterOption interface{ applyWriter(*writerConfig) error }

// ConsumerOption configures NewConsumer.
type ConsumerOption interface {
	applyConsumer(*consumerConfig) error
}

// Option says how event rows look. It configures NewWriter, NewConsumer, DecodeRecord and DecodeItem: give each of them the same
// Options.
type Option interface {
	WriterOption
	ConsumerOption
	applyRecord(*recordConfig) error
}

type writerConfig struct {
	attributes     Attributes
	retry          Retry
	headers        []func(context.Context) map[string]string
	ttl            time.Duration // 0: events are kept
	shortTTL       bool
	maxRecordBytes int
	hooks          []WriterHooks // in the order of the options
	codecs         []namedCodec  // the first one encodes; empty means JSON
}

func defaultWriterConfig() writerConfig {
	return writerConfig{
		attributes:     DefaultAttributes(),
		retry:          defaultRetry,
		maxRecordBytes: 1 << 20,
	}
}

// check returns what is wrong with the options together.
func (c *writerConfig) check() error {
	var errs []error
	if c.attributes.Payload == NoAttribute || c.attributes.Time == NoAttribute {
		errs = append(errs, errors.New("a Writer needs the attributes Payload and Time"))
	}
	if codec := c.codec(); !codec.isJSON() && c.attributes.ContentType == NoAttribute {
		errs = append(errs, fmt.Errorf("WithCodec: content type %q needs the attribute ContentType", codec.contentType))
	}
	if len(c.headers) > 0 && c.attributes.Headers == NoAttribute {
		errs = append(errs, errors.New("WithHeaders needs the attribute Headers"))
	}
	if c.ttl > 0 && c.attributes.ExpiresAt == NoAttribute {
		errs = append(errs, errors.New("WithTTL needs the attribute ExpiresAt"))
	}
	if c.ttl > 0 && c.ttl < minTTL && !c.shortTTL {
		errs = append(errs, fmt.Errorf("WithTTL: %s is less than a day, which the stream's retention and the time to notice and replay need; AllowShortTTL overrides this", c.ttl))
	}
	return errors.Join(errs...)
}

// codec returns the codec that encodes.
func (c *writerConfig) codec() namedCodec {
	if len(c.codecs) == 0 {
		return namedCodec{jsonCodec{}, contentTypeJSON}
	}
	return c.codecs[0]
}

// contextHeaders returns the headers of WithHeaders. Of two with one name, the later option wins.
func (c *writerConfig) contextHeaders(ctx context.Context) map[string]string {
	var headers map[string]string
	for _, f := range c.headers {
		for name, value := range f(ctx) {
			if headers == nil {
				headers = make(map[string]string)
			}
			headers[name] = value
		}
	}
	return headers
}

type recordConfig struct{ layout *changerec.Layout }

type consumerConfig struct {
	attributes       Attributes
	tables           []string
	foreign          func(data []byte) bool // or nil
	concurrency      int
	deadlineMargin   time.Duration
	invokeRetry      Retry
	failUnknownTypes bool
	middleware       []func(next Handler) Handler
	hooks            []ConsumerHooks // in the order of the options
	logger           *slog.Logger
	codecs           []namedCodec
	inbox            *Inbox       // or nil
	guarded          []string     // the event types whose plain handlers the inbox guards; empty means all
	dead             *deadLetters // nil without WithDeadLetters
	order            *ordering    // nil without WithOrder
	keepMarks        bool
}

// WithAttributes names the attributes of event rows, for an events table that exists already. Default: DefaultAttributes. Two fields
// with one name, and an ID or Type that is NoAttribute, are errors. To decode many records, make the option once.
func WithAttributes(a Attributes) Option {
	a, err := a.complete()
	return &attributesOption{attributes: a, layout: a.layout(), err: err}
}

type attributesOption struct {
	attributes Attributes
	layout     *changerec.Layout
	err        error
}

func (o *attributesOption) set(a *Attributes) error {
	*a = o.attributes
	return o.err
}

func (o *attributesOption) applyWriter(c *writerConfig) error     { return o.set(&c.attributes) }
func (o *attributesOption) applyConsumer(c *consumerConfig) error { return o.set(&c.attributes) }
func (o *attributesOption) applyRecord(c *recordConfig) error {
	c.layout = o.layout
	return o.err
}

// Retry says how often and how soon something is retried. A zero field means the default of the option that takes the Retry. If MaxDelay is zero
// and BaseDelay is above the default of MaxDelay, MaxDelay is BaseDelay. A MaxDelay below BaseDelay, also a default one, is an error.
type Retry struct {
	// MaxAttempts is the number of attempts after which no retry follows: 1 to 100. With 1 nothing is retried.
	MaxAttempts int
	// BaseDelay bounds the first delay. Each further delay has twice the bound of the delay before. A delay is chosen evenly
	// between nothing and its bound (full jitter). At most MaxDelay.
	BaseDelay time.Duration
	// MaxDelay bounds every delay. At most an hour.
	MaxDelay time.Duration
}

var defaultRetry = Retry{MaxAttempts: 5, BaseDelay: 50 * time.Millisecond, MaxDelay: time.Second}

// orDefaults fills in the zero fields, and returns what is wrong with the result.
func (r Retry) orDefaults(defaults Retry) (Retry, error) {
	if r.MaxAttempts == 0 {
		r.MaxAttempts = defaults.MaxAttempts
	}
	if r.BaseDelay == 0 {
		r.BaseDelay = defaults.BaseDelay
	}
	if r.MaxDelay == 0 {
		r.MaxDelay = max(defaults.MaxDelay, r.BaseDelay)
	}
	switch {
	case r.MaxAttempts < 1 || r.MaxAttempts > 100:
		return r, fmt.Errorf("want 1 to 100 attempts, have %d", r.MaxAttempts)
	case r.BaseDelay < 0 || r.MaxDelay < r.BaseDelay || r.MaxDelay > time.Hour:
		return r, fmt.Errorf("want a base delay of at least 0 and a maximum between it and an hour, have %s and %s", r.BaseDelay, r.MaxDelay)
	}
	return r, nil
}

// WithWriteRetry sets how a Writer retries a transaction or a PutItem within one call of Put or Transact. The call ends earlier when its context
// does, and it does not wait for an attempt for which there is no time. Default: 5 attempts, 50 ms to 1 s between them; on average 0.4 s of
// delays, at most 0.75 s.
//
// It retries what the SDK's retryer does not: a transaction that was cancelled for nothing but TransactionConflict, ThrottlingError or
// ProvisionedThroughputExceeded, and a PutItem that met a transaction or a write in another Region (TransactionConflictException,
// ReplicatedWriteConflictException). One permanent reason makes a retry
// pointless and ends the call, except where a conflict on the event's own row hides whether an earlier attempt was committed. It also retries a
// transaction that is still in progress, not before 5 s after its first attempt, as DynamoDB wants it; the SDK's retryer, which would ask at
// once, is told not to. With less than that before the context's deadline the call ends at once with ErrUnknownOutcome.
//
// Everything else (lost connections, 5xx, throttled requests) is left to the retryer that the client is configured with, and
// what it gives up on, the Writer does not retry. Its requests count: once MaxAttempts were sent, by either, no new attempt
// begins. So the two add up, to at most MaxAttempts - 1 requests and one last attempt of the SDK, and never multiply. An attempt of the
// SDK is one request for a cancelled transaction, and by default up to 4 requests while they are lost, fail or are throttled. The
// default of 5 leaves the Writer one attempt after the SDK has spent its 4 requests and the last of them met a conflict. A call then sends 8
// requests at most. A client with more attempts needs more here as well, if conflicts are to be retried after them.
func WithWriteRetry(r Retry) WriterOption {
	return writerOption(func(c *writerConfig) (err error) {
		if c.retry, err = r.orDefaults(defaultRetry); err != nil {
			return fmt.Errorf("WithWriteRetry: %w", err)
		}
		return nil
	})
}

// WithHeaders adds headers to every event of a Writer: trace context, tenant. Default: none. f is called once for each call of Put,
// Transact or Items, on the caller's goroutine, and not again for a retry within the call. It must be safe for concurrent use; its
// panic reaches the caller. A header of the event itself wins over a header of f. If several options give one header, the last
// option wins.
//
// The headers of f may differ when the event is written again (another trace). This does not make it a different event.
func WithHeaders(f func(ctx context.Context) map[string]string) WriterOption {
	return writerOption(func(c *writerConfig) error {
		if f == nil {
			return errors.New("WithHeaders: the function is nil")
		}
		c.headers = append(c.headers, f)
		return nil
	})
}

// minTTL is the shortest time to live without AllowShortTTL. It is the shortest retention of a stream.
const minTTL = 24 * time.Hour

const maxTTL = 100 * 365 * 24 * time.Hour

// WithTTL makes DynamoDB delete event rows after ttl, counted from the writing and rounded up to a full hour. Default: rows are
// kept. 24 hours to 100 years; AllowShortTTL allows less than 24 hours. The events table must have time to live enabled on the
// attribute expiresAt (see Attributes).
//
// Choose a ttl that outlasts the stream's retention (24 hours by default, up to 365 days) plus the time that someone needs to
// notice a failure and replay. Idempotency ends with the row: a repeat after this writes the event again, and Put replaces the item
// again. Use Transact with a condition where this would harm. DynamoDB deletes hours to days late. Every deletion makes another
// change record, which a Consumer skips.
//
// See https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/TTL.html.
func WithTTL(ttl time.Duration) WriterOption {
	return writerOption(func(c *writerConfig) error {
		if ttl <= 0 {
			return fmt.Errorf("WithTTL: want more than 0, have %s", ttl)
		}
		if ttl > maxTTL {
			return fmt.Errorf("WithTTL: want at most 100 years, have %s", ttl)
		}
		c.ttl = ttl
		return nil
	})
}

// AllowShortTTL lets WithTTL take less than 24 hours, for tests and for events that nobody will ever replay. Default: an error.
func AllowShortTTL() WriterOption {
	return writerOption(func(c *writerConfig) error {
		c.shortTTL = true
		return nil
	})
}

// WithMaxRecordBytes sets how large a change record the stream takes, in bytes with its 32-byte partition key. A Writer refuses an
// event with a larger change record, with ErrTooLarge: DynamoDB's streaming destination would skip it silently. Default: 1 MiB, the
// default of Kinesis; 1 KiB to 10 MiB. Set it if UpdateMaxRecordSize gave the stream another limit.
//
// See https://docs.aws.amazon.com/streams/latest/dev/large-records.html.
func WithMaxRecordBytes(n int) WriterOption {
	return writerOption(func(c *writerConfig) error {
		if n < 1<<10 || n > 10<<20 {
			return fmt.Errorf("WithMaxRecordBytes: want 1024 to 10485760, have %d", n)
		}
		c.maxRecordBytes = n
		return nil
	})
}

// WriteInfo describes a call of Put or Transact to the hooks.
type WriteInfo struct {
	// Events are the events of the call, as they are stored. It is empty if the call was refused before all of them were known.
	Events []Record
	// Attempts is how many requests were sent, including the SDK's own retries. It is 0 if the call was refused before sending.
	Attempts int
	// Duplicate says that the transaction was committed before: by an earlier call, or, if Attempts is more than 1, perhaps by
	// an earlier attempt of this call.
	Duplicate bool
	// Capacity is what DynamoDB billed for the last attempt, by table. It is empty for a failure, and for a duplicate that was
	// found by its stored event: then DynamoDB does not say.
	Capacity []types.ConsumedCapacity
	// Took is how long the call took.
	Took time.Duration
}

// WriterHooks are functions that a Writer calls, on the caller's goroutine before the call returns. A nil function is not called.
// Panics are not recovered: a panic of Written reaches the caller although the transaction was committed.
type WriterHooks struct {
	// Written is called after a transaction was committed, now or before. With hooks, the Writer asks DynamoDB for the consumed
	// capacity, to fill in Duplicate and Capacity.
	Written func(ctx context.Context, w WriteInfo)
	// Failed is called with the error that the call returns. ctx may have ended.
	Failed func(ctx context.Context, w WriteInfo, err error)
}

// WithWriterHooks adds hooks. Default: none. If it is given several times, all hooks are called, in the order of the options.
func WithWriterHooks(hooks WriterHooks) WriterOption {
	return writerOption(func(c *writerConfig) error {
		c.hooks = append(c.hooks, hooks)
		return nil
	})
}

type writerOption func(*writerConfig) error

func (o writerOption) applyWriter(c *writerConfig) error { return o(c) }

type consumerOption func(*consumerConfig) error

func (o consumerOption) applyConsumer(c *consumerConfig) error { return o(c) }

// WithTables limits a Consumer to the events of the named tables (names, not ARNs). Default: every table. Use it when several outboxes
// share a stream. Records of other tables are skipped, which is logged once, at level Info. A record that does not name its table
// is handled.
func WithTables(tables ...string) ConsumerOption {
	return consumerOption(func(c *consumerConfig) error {
		if len(tables) == 0 {
			return errors.New("WithTables: want at least one name")
		}
		for _, name := range tables {
			if !names.IsTableName(name) { // no record would ever match it
				return fmt.Errorf("WithTables: %q is no table's name: want 3 to 255 letters, digits, '_', '.' or '-'", name)
			}
		}
		c.tables = slices.Clone(tables)
		return nil
	})
}

// WithForeignRecords passes over records of others on a shared stream that are no JSON: plain text, gzip, Avro, several lines of JSON.
// Without it, such a record becomes a dead letter. Without a dead letter table it ends Run, and Invoke answers with it, as with a damaged
// change record. Default: no function. Records that the Kinesis Producer Library has packed are passed over in any case, as is JSON of others.
//
// foreign reports whether a record belongs to others. It is asked only about data that cannot be a change record of DynamoDB, nor the
// first part of one. So a function that always returns true loses no event that is whole or cut off. An empty record may be the rest of an
// event, so foreign is not asked about it.
//
// foreign gets data of its own, and may be called from several goroutines at a time. If it panics, the panic is logged, and the record is not
// foreign. What is passed over goes to the Skipped hook, with a reason that matches ErrNotEvent. A redrive passes over nothing: a dead letter
// that is foreign stays until it is discarded.
func WithForeignRecords(foreign func(data []byte) bool) ConsumerOption {
	return consumerOption(func(c *consumerConfig) error {
		switch {
		case foreign == nil:
			return errors.New("WithForeignRecords: the function is nil")
		case c.foreign != nil:
			return errors.New("WithForeignRecords: a Consumer has one function")
		}
		c.foreign = foreign
		return nil
	})
}

// WithConcurrency sets how many handlers of a Consumer run at a time, over all calls of Process and Invoke, Workers and redrives.
// Default: 10; 1 to 10,000. With 1, events are handled strictly one after the other. Events of one aggregate are never handled at
// the same time, whatever the number.
func WithConcurrency(handlers int) ConsumerOption {
	return consumerOption(func(c *consumerConfig) error {
		if handlers < 1 || handlers > 10_000 {
			return fmt.Errorf("WithConcurrency: want 1 to 10,000, have %d", handlers)
		}
		c.concurrency = handlers
		return nil
	})
}

// WithDeadlineMargin sets how long before its context's deadline Invoke stops: it starts no more handlers, cancels the contexts of the running
// handlers, waits for them, and reports what is finished. So do Redrive and AnswerRedriveRequests. Default: 500 ms; more than 0, and at most a
// fifth of the invocation's time is used. If a handler ignores its context for longer than the margin, the function times out, and Lambda
// delivers the whole batch again.
func WithDeadlineMargin(margin time.Duration) ConsumerOption {
	return consumerOption(func(c *consumerConfig) error {
		if margin <= 0 {
			return fmt.Errorf("WithDeadlineMargin: want more than 0, have %s", margin)
		}
		c.deadlineMargin = margin
		return nil
	})
}

var defaultInvokeRetry = Retry{MaxAttempts: 5, BaseDelay: 100 * time.Millisecond, MaxDelay: time.Second}

// WithInvokeRetry sets how often Invoke calls a failing handler in one invocation, and how soon, before it ends the batch. Meanwhile the later
// events of the aggregate wait, and others are handled. Invoke does not wait for a call for which there is no time before the deadline
// (WithDeadlineMargin). Default: 5 calls, with delays of up to 100 ms at first and 800 ms later, on average 0.75 s in all. With MaxAttempts 1
// the first failure ends the batch.
//
// An error that is Permanent, ErrClaimed or ErrUnavailable is not retried here, nor is an outage of the inbox or the dead letter table
// (ErrUnknownOutcome of HandleTx, too), nor a call that its context cut off. Lost races and ErrConflict have eight reruns of their own (HandleTx).
// With dead letters, each call that fails is an attempt, and one invocation makes no more calls than WithInvokeAttempts. They are counted
// together, after the last one, or when another event ends the batch.
func WithInvokeRetry(r Retry) ConsumerOption {
	return consumerOption(func(c *consumerConfig) (err error) {
		if c.invokeRetry, err = r.orDefaults(defaultInvokeRetry); err != nil {
			return fmt.Errorf("WithInvokeRetry: %w", err)
		}
		return nil
	})
}

// FailUnknownTypes makes an event whose type has no handler a failure. Default: such an event is skipped, since a stream may carry
// events for others. It is reported to the Skipped hook, and logged once for each of the first 1,000 types.
func FailUnknownTypes() ConsumerOption {
	return consumerOption(func(c *consumerConfig) error {
		c.failUnknownTypes = true
		return nil
	})
}

// WithMiddleware wraps every handler. The first middleware is the outermost; several options add up. Each middleware is called
// once for every handler, when the handler is registered. Default: none.
func WithMiddleware(middleware ...func(next Handler) Handler) ConsumerOption {
	return consumerOption(func(c *consumerConfig) error {
		for _, m := range middleware {
			if m == nil {
				return errors.New("WithMiddleware: a middleware is nil")
			}
		}
		c.middleware = append(c.middleware, middleware...)
		return nil
	})
}

// ConsumerHooks are functions that a Consumer calls. A nil function is not called. They are called from several goroutines at once, and delay the
// handlers. A hook that panics or ends its goroutine is logged, and changes nothing. Only Handled runs on the handler's goroutine: if it
// ends that goroutine, the handler counts as having ended it.
type ConsumerHooks struct {
	// Handled is called after each call of a handler, with the time that it took and its error. AttemptFromContext tells which call it was.
	// If the handler could not be called, err says why: a claim (ErrClaimed), the inbox, a payload that cannot be decoded, a type without a
	// handler (FailUnknownTypes), or an event before it that has failed (WithOrder). Without an error, the event has just been handled. Of events
	// that WithOrder reads from the table, Handled is told first; took of the delivered event contains what they took.
	Handled func(ctx context.Context, r Record, took time.Duration, err error)
	// Duplicate is called in place of Handled if the inbox says that the event was handled before (WithInbox, HandleTx). The handler was
	// not called, or, with HandleTx, what it returned was not committed. After a lost answer, Handled may be told for what another process has
	// committed, and Duplicate for what this one has. Instead of parking a handled event, Duplicate is called, too (WithDeadLetters).
	Duplicate func(ctx context.Context, r Record)
	// Skipped is called for a record that is left out. reason says that the event's type has no handler, or matches ErrNotEvent;
	// then r contains only where the record came from.
	Skipped func(ctx context.Context, r Record, reason error)
	// DeadLettered is called after an event was stored as a dead letter (WithDeadLetters), also after it was parked. Again is set
	// if the event was a dead letter before. If the process ends between storing and calling, a later delivery makes the only
	// call, with Again set.
	DeadLettered func(ctx context.Context, l DeadLetter)
	// Order is called when WithOrder has done something that the stream does not show.
	Order func(ctx context.Context, o OrderInfo)
}

// WithConsumerHooks adds hooks. Default: none. If it is given several times, all hooks are called, in the order of the options.
func WithConsumerHooks(hooks ConsumerHooks) ConsumerOption {
	return consumerOption(func(c *consumerConfig) error {
		c.hooks = append(c.hooks, hooks)
		return nil
	})
}

// WithLogger sets where a Consumer and its Workers log failures and event types without a handler. Default: slog.Default(), because
// Lambda's answer has no place for the reason of a failure; slog.New(slog.DiscardHandler) logs nothing. The log contains ids, types
// and errors, never payloads or headers. So a payload is logged only if a handler puts it into its error. A line at which the logger's
// handler panics is lost.
func WithLogger(logger *slog.Logger) ConsumerOption {
	return consumerOption(func(c *consumerConfig) error {
		if logger == nil {
			return errors.New("WithLogger: the logger is nil")
		}
		c.logger = logger
		return nil
	})
}
