package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/changerec"
)

// WriterOption configures NewWriter.
type WriterOption interface{ applyWriter(*writerConfig) error }

// ConsumerOption configures NewConsumer.
type ConsumerOption interface {
	applyConsumer(*consumerConfig) error
}

// RecordOption configures DecodeRecord.
type RecordOption interface{ applyRecord(*recordConfig) error }

// SharedOption configures everything that deals with event rows. Give all of them the same.
type SharedOption interface {
	WriterOption
	ConsumerOption
	RecordOption
}

type writerConfig struct {
	attributes Attributes
	codecs     []namedCodec
}

type recordConfig struct{ layout *changerec.Layout }

type consumerConfig struct {
	attributes       Attributes
	tables           []string
	concurrency      int
	deadlineMargin   time.Duration
	failUnknownTypes bool
	middleware       []func(next Handler) Handler
	hooks            ConsumerHooks
	logger           *slog.Logger
	codecs           []namedCodec
}

// WithAttributes names the attributes of event rows in a table that existed before. Default: the names that the fields of
// Attributes say. Two fields with one name, and a missing ID or Type, are errors. To decode many records, make the option
// once.
func WithAttributes(a Attributes) SharedOption {
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

type consumerOption func(*consumerConfig) error

func (o consumerOption) applyConsumer(c *consumerConfig) error { return o(c) }

// WithTables limits a Consumer to events of the named tables (names, not ARNs); records of others are skipped. A record that
// does not name its table is not skipped. Default: every table. Use it when several outboxes share a stream.
func WithTables(names ...string) ConsumerOption {
	return consumerOption(func(c *consumerConfig) error {
		if len(names) == 0 || slices.Contains(names, "") {
			return errors.New("WithTables: want at least one name, none of them empty")
		}
		c.tables = slices.Clone(names)
		return nil
	})
}

// WithConcurrency sets how many handlers of a Consumer run at a time, over all calls of Process and Invoke. Default 10;
// 1 handles events strictly one after the other. Events of one aggregate are never handled at the same time, whatever the
// number.
func WithConcurrency(handlers int) ConsumerOption {
	return consumerOption(func(c *consumerConfig) error {
		if handlers < 1 || handlers > 10_000 {
			return fmt.Errorf("WithConcurrency: want 1 to 10,000, have %d", handlers)
		}
		c.concurrency = handlers
		return nil
	})
}

// WithDeadlineMargin sets how long before its context's deadline Invoke stops: it starts no more handlers, cancels the
// context of those that run, waits for them, and reports what is finished. A handler that ignores its context for longer
// makes the function time out, and then Lambda delivers the whole batch again. Default 500 ms; never more than a fifth of
// the time that the invocation has.
func WithDeadlineMargin(margin time.Duration) ConsumerOption {
	return consumerOption(func(c *consumerConfig) error {
		if margin <= 0 {
			return fmt.Errorf("WithDeadlineMargin: want more than 0, have %s", margin)
		}
		c.deadlineMargin = margin
		return nil
	})
}

// FailUnknownTypes makes an event whose type has no handler a failure. Default: such an event is skipped, reported to the
// Skipped hook, and logged once for each of the first 1,000 types, since a stream may carry events
// for others.
func FailUnknownTypes() ConsumerOption {
	return consumerOption(func(c *consumerConfig) error {
		c.failUnknownTypes = true
		return nil
	})
}

// WithMiddleware wraps every handler; the first one given is the outermost. Each is called once for every registered
// handler, when it is registered.
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

// ConsumerHooks are called by a Consumer at what their names say. A nil func is not called. They run on the goroutines of
// the handlers, several at a time, and delay them. When one panics, that is logged, and what the handler returned counts
// all the same.
type ConsumerHooks struct {
	// Handled is called after a handler has returned, with how long it took and its error.
	Handled func(ctx context.Context, r Record, took time.Duration, err error)
	// Skipped is called for a record that is left out: reason matches ErrNotEvent (r is then empty but for where it came
	// from) or says that its type has no handler.
	Skipped func(ctx context.Context, r Record, reason error)
}

// WithConsumerHooks sets the hooks. Default: none. The last call counts.
func WithConsumerHooks(hooks ConsumerHooks) ConsumerOption {
	return consumerOption(func(c *consumerConfig) error {
		c.hooks = hooks
		return nil
	})
}

// WithLogger sets where a Consumer logs failures and event types without a handler. It logs ids, types and errors, never
// payloads or headers; what a handler puts into its error is logged too. Default: slog.Default(), because Lambda's answer
// has no place for the reason of a failure; slog.New(slog.DiscardHandler) silences it.
func WithLogger(logger *slog.Logger) ConsumerOption {
	return consumerOption(func(c *consumerConfig) error {
		if logger == nil {
			return errors.New("WithLogger: the logger is nil")
		}
		c.logger = logger
		return nil
	})
}
