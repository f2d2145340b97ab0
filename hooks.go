package outbox

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"slices"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/changerec"
	"github.com/seed-1b628d3f/outbox/internal/deadletter"
	"github.com/seed-1b628d3f/outbox/internal/names"
	"github.com/seed-1b628d3f/outbox/internal/usercode"
)

// What a Consumer tells its hooks and its log.

func (c *Consumer) skipUnknown(ctx context.Context, r *Record) {
	if c.firstTime("type " + r.Type) {
		c.logger.WarnContext(ctx, "outbox: skipping events of a type without a handler", "type", shorten(r.Type), "event", shorten(r.ID), "table", r.Table)
	}
	if c.tellsSkipped() {
		c.skipped(ctx, r, fmt.Errorf("outbox: %w", noHandler(r.Type)))
	}
}

// skipNotEvent skips a record that is no event. An inserted item without the attributes of an event is either an item of another
// kind, or an event behind wrong attribute names. So the log warns once for each stream.
func (c *Consumer) skipNotEvent(ctx context.Context, r *Record, reason error) {
	if errors.Is(reason, notEventError(changerec.NoAttributes)) && c.firstTime("stream "+r.StreamARN) {
		c.logger.WarnContext(ctx, "outbox: skipping inserted items without the attributes of an event; if they are events, set WithAttributes",
			"idAttribute", c.attributes.ID, "typeAttribute", c.attributes.Type, "stream", r.StreamARN, "sequenceNumber", r.SequenceNumber)
	}
	if errors.Is(reason, notEventError(changerec.OtherTable)) {
		c.tellOtherTable(ctx, r)
	}
	if errors.Is(reason, notEventError(changerec.NoChange)) && c.otherJSON.CompareAndSwap(false, true) {
		c.logger.InfoContext(ctx, "outbox: skipping JSON that is no change record of DynamoDB; this is said once", "stream", r.StreamARN, "sequenceNumber", r.SequenceNumber)
	}
	if errors.Is(reason, notEventError(changerec.Aggregated)) && c.firstTime("packed "+r.StreamARN) {
		c.logger.WarnContext(ctx, "outbox: skipping records that the Kinesis Producer Library has packed; this is said once for each stream. If somebody publishes change records with it, their events are lost: publish them unpacked",
			"stream", r.StreamARN, "sequenceNumber", r.SequenceNumber)
	}
	c.skipped(ctx, r, reason)
}

// remarkable reports whether skipNotEvent may log a reason. It is asked for each record that is no event, and is nearly always
// false.
func (c *Consumer) remarkable(reason notEventError) bool {
	switch changerec.NotEvent(reason) {
	case changerec.NoAttributes, changerec.Aggregated:
		return true
	case changerec.OtherTable:
		return !c.otherTable.Load()
	case changerec.NoChange:
		return !c.otherJSON.Load()
	}
	return false
}

// tellOtherTable logs once that WithTables leaves records out. On a stream that several outboxes share, WithTables is there to
// leave records out. But a misspelt name leaves out every event.
func (c *Consumer) tellOtherTable(ctx context.Context, r *Record) {
	if c.otherTable.CompareAndSwap(false, true) {
		c.logger.InfoContext(ctx, "outbox: skipping records of tables that WithTables does not name; this is said once", "tables", c.tables,
			"stream", r.StreamARN, "sequenceNumber", r.SequenceNumber)
	}
}

// tellUnordered logs once for each table that WithOrder is for another one: a misspelt name would switch the order off.
func (c *Consumer) tellUnordered(ctx context.Context, r *Record) {
	if sequenced(r) && r.Table != "" && names.OfTable(r.Table) != names.OfTable(c.order.table) && c.firstTime("order "+r.Table) {
		c.logger.WarnContext(ctx, "outbox: sequenced events of a table that WithOrder does not name are handled in the order of their arrival; this is said once",
			"table", r.Table, "ordered", c.order.table)
	}
}

// maxWarned bounds how many names of others are told. They may be long, so only their hashes are remembered.
const maxWarned = 1000

// firstTime reports whether something has yet to be logged, and remembers it as logged.
func (c *Consumer) firstTime(what string) bool {
	c.warning.Lock()
	defer c.warning.Unlock()
	hash := maphash.String(c.seed, what)
	if c.warned[hash] || len(c.warned) >= maxWarned {
		return false
	}
	c.warned[hash] = true
	return true
}

func (c *Consumer) logFailure(ctx context.Context, e *HandlerError, v verdict) {
	level := slog.LevelError
	switch {
	case v == lost, errors.Is(e.Err, ErrClaimed):
		level = slog.LevelInfo
	case v != waits, isHeldUp(e.Err):
	case errors.Is(e.Err, ErrUnavailable):
		level = slog.LevelWarn
	default: // a conflict
		level = slog.LevelInfo
	}
	attrs := []any{"event", e.Record.ID, "type", e.Record.Type, "aggregate", e.Record.AggregateID,
		"stream", e.Record.StreamARN, "shard", e.Record.ShardID, "sequenceNumber", e.Record.SequenceNumber, "error", e.Err}
	if panicked := (*PanicError)(nil); errors.As(e.Err, &panicked) {
		attrs = append(attrs, "stack", string(panicked.Stack))
	}
	c.logger.Log(ctx, level, "outbox: event not handled", attrs...)
}

// skipped, handled and duplicate tell the hooks. A hook that panics must neither end the process nor make a handled event unhandled. The
// panic is logged.

func (c *Consumer) skipped(ctx context.Context, r *Record, reason error) {
	for _, hooks := range c.hooks {
		if hooks.Skipped != nil {
			ctx := context.WithValue(ctx, handlingKey{c}, true) // a record that is no event is no delivery
			c.call(ctx, "Skipped", r, func() { hooks.Skipped(ctx, *r, reason) })
		}
	}
}

// tellsSkipped reports whether any hook is called for skipped records.
func (c *Consumer) tellsSkipped() bool {
	return slices.ContainsFunc(c.hooks, func(h ConsumerHooks) bool { return h.Skipped != nil })
}

func (c *Consumer) handled(d *delivery, took time.Duration) {
	for _, hooks := range c.hooks {
		if hooks.Handled != nil {
			p := usercode.Run(func() { hooks.Handled(d, d.record, took, d.err) }) // not apart: this is for each event
			c.tellPanic(d, p, "Handled", &d.record)
		}
	}
}

func (c *Consumer) duplicate(d *delivery) {
	for _, hooks := range c.hooks {
		if hooks.Duplicate != nil {
			c.call(d, "Duplicate", &d.record, func() { hooks.Duplicate(d, d.record) })
		}
	}
}

// tellOrder tells the log and the hooks what WithOrder has done.
func (c *Consumer) tellOrder(ctx context.Context, o OrderInfo) {
	level := slog.LevelInfo
	if o.Kind == OrderHealed || o.Kind == OrderBefore && !c.firstTime("order before") { // the first of what is not wanted stands for all
		level = slog.LevelDebug
	}
	c.logger.Log(ctx, level, "outbox: order by sequence: "+string(o.Kind), "event", o.Record.ID, "type", o.Record.Type, "aggregate", o.Record.AggregateID, "for", o.For)
	for _, hooks := range c.hooks {
		if hooks.Order != nil {
			c.call(ctx, "Order", &o.Record, func() { hooks.Order(ctx, o) })
		}
	}
}

func (c *Consumer) call(ctx context.Context, hook string, r *Record, f func()) {
	c.tellPanic(ctx, usercode.Apart(f), hook, r)
}

// tellPanic logs the panic of a hook, if there was one.
func (c *Consumer) tellPanic(ctx context.Context, p *usercode.Panic, hook string, r *Record) {
	if p != nil {
		c.logger.ErrorContext(ctx, "outbox: a hook panicked", "hook", hook, "event", r.ID, "type", r.Type,
			"sequenceNumber", r.SequenceNumber, "error", &PanicError{Value: p.Value}, "stack", string(p.Stack))
	}
}

// deadLettered tells of a new dead letter, or of an event that is a dead letter already.
func (c *Consumer) deadLettered(ctx context.Context, l *deadletter.Letter, stored deadletter.Stored) {
	if stored == deadletter.Before {
		c.logger.InfoContext(ctx, "outbox: delivered again, and a dead letter already", "deadLetter", l.ID, "event", l.Event.ID, "type", l.Event.Type,
			"aggregate", l.Event.AggregateID)
	}
	if len(c.hooks) == 0 {
		return
	}
	letter := deadLetter(l)
	letter.Again = stored == deadletter.Before
	for _, hooks := range c.hooks {
		if hooks.DeadLettered != nil {
			c.call(ctx, "DeadLettered", &letter.Record, func() { hooks.DeadLettered(ctx, letter) })
		}
	}
}
