package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/deadletter"
	"github.com/seed-1b628d3f/outbox/internal/event"
	"github.com/seed-1b628d3f/outbox/internal/parked"
)

// DeadLetterOption configures WithDeadLetters.
type DeadLetterOption interface{ applyDeadLetters(*deadLetters) error }

type deadLetterOption func(*deadLetters) error

func (o deadLetterOption) applyDeadLetters(d *deadLetters) error { return o(d) }

// WithDeadLetters makes a Consumer store what it cannot handle, and go on. An event becomes a dead letter when its handler returns a Permanent
// error, when its attempts are spent (WithHandlerRetry in a Worker, WithInvokeAttempts in Invoke and Process), or when its record cannot be
// decoded. The letter is stored before the record counts as finished. If the table cannot be written, the record stays unfinished and is
// delivered again; this does not count as an attempt.
//
// A dead letter parks its aggregate: later events of the aggregate are stored behind the letter, in order, without calling a handler, until
// they are redriven. Other aggregates go on.
//
// Another process may park an aggregate as well. So Invoke and Process read the table once a call if an event has an aggregate: strongly
// consistent, and one read unit while few aggregates are parked. A Worker reads it at most once a second for all its shards, and before the
// first batch of each shard that it takes over. While more than 1,000 aggregates are parked, a Worker reads before every batch. A Worker may
// learn a second late that an aggregate is parked; events that it has read before may still reach their handlers. While the table cannot be
// read, no batch with such an event begins.
//
// Default: no dead letters. In Lambda an event that cannot be handled is then delivered until the mapping's limits; a Worker's Run ends.
func WithDeadLetters(t *DeadLetterTable, opts ...DeadLetterOption) ConsumerOption {
	return consumerOption(func(c *consumerConfig) error {
		switch {
		case t == nil:
			return errors.New("WithDeadLetters: the table is nil")
		case t.made() != nil:
			return t.made()
		case c.dead != nil:
			return errors.New("WithDeadLetters: given twice")
		}
		dead := &deadLetters{table: t, store: t.store, attempts: 10, parked: parked.New()}
		if err := applyAll(opts, func(o DeadLetterOption) error { return o.applyDeadLetters(dead) }); err != nil {
			return fmt.Errorf("WithDeadLetters: %w", err)
		}
		c.dead = dead
		return nil
	})
}

// LetLaterEventsPass lets the later events of a dead letter's aggregate reach their handlers. This gives up their order. Default: they are
// parked.
func LetLaterEventsPass() DeadLetterOption {
	return deadLetterOption(func(d *deadLetters) error {
		d.pass = true
		return nil
	})
}

// WithInvokeAttempts sets how often Invoke and Process try an event before it becomes a dead letter: 1 to 1,000, default 10. Give the mapping
// of a Lambda function more attempts than that. A Worker has WithHandlerRetry instead.
//
// Attempts are counted in the dead letter table, one write for each failure. A count is forgotten after 14 days without another failure. It
// belongs to one record of the stream: a replay or a copy of the event has a count of its own. An attempt that the invocation's deadline cuts
// off counts. An attempt that ends the process does not.
func WithInvokeAttempts(n int) DeadLetterOption {
	return deadLetterOption(func(d *deadLetters) error {
		if n < 1 || n > 1000 {
			return fmt.Errorf("WithInvokeAttempts: want 1 to 1,000, have %d", n)
		}
		d.attempts = n
		return nil
	})
}

// deadLetters is a Consumer's dead letter table with its options, and the parked aggregates that the Consumer knows.
type deadLetters struct {
	table    *DeadLetterTable
	store    *deadletter.Store
	pass     bool
	attempts int
	parked   *parked.Set
}

// notStored wraps an error of the dead letter table.
func notStored(err error) error {
	return &tableError{fmt.Errorf("outbox: the dead letter table cannot be used: %w", err)}
}

// storeTimeout bounds how long it takes to store a small dead letter, to count an attempt, or to read what is parked.
const storeTimeout = 5 * time.Second

// storeTime is the time that a letter of some size gets in addition. Its parts are in one partition, which takes a MB a second.
func storeTime(size int) time.Duration { return time.Duration(size) * 2 * time.Microsecond }

// divert stores a delivery that must not reach its handler, because it is doomed or its aggregate is parked. It returns false if the delivery
// goes to its handler.
func (c *Consumer) divert(ctx context.Context, handlers map[string]Handler, d *delivery) bool {
	dead := c.dead
	if dead == nil {
		return false
	}
	if d.doomed != nil {
		d.err = c.bury(ctx, d)
		d.finished = d.err == nil
		return true
	}
	r := &d.record
	if !dead.parked.Has(r.AggregateID) || !c.ours(r.Table) {
		return false
	}
	if _, known := handlers[r.Type]; !known && !c.failUnknownTypes {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout+storeTime(len(r.Payload)))
	defer cancel()
	asOf := dead.parked.Now()
	l := deadletter.Letter{Event: event.Event(*r), Error: "parked: an earlier event of its aggregate is a dead letter", Parked: true, StoredAt: time.Now()}
	stored, err := dead.store.PutBehind(ctx, &l)
	switch {
	case err != nil:
		d.err = notStored(err)
		c.logger.ErrorContext(ctx, "outbox: an event cannot be parked", "event", r.ID, "type", r.Type, "aggregate", r.AggregateID, "error", err)
		return true
	case stored == deadletter.Refused: // the aggregate was redriven and is not parked any more
		dead.parked.Remove(r.AggregateID, asOf)
		return false
	}
	d.err, d.finished = nil, true
	if stored == deadletter.Added {
		c.logger.WarnContext(ctx, "outbox: event parked", "event", r.ID, "type", r.Type, "aggregate", r.AggregateID)
	}
	c.deadLettered(ctx, &l, stored)
	return true
}

// notStored wraps an error of the dead letter table.
func (c *Consumer) refreshParked(ctx context.Context, deliveries []delivery, maxAge time.Duration) (asked bool, err error) {
	if c.dead == nil || c.dead.pass {
		return false, nil
	}
	var ids []string
	for i := range deliveries {
		if id := deliveries[i].record.AggregateID; id != "" {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout) // other calls wait for this answer
	defer cancel()
	if err := c.dead.parked.Refresh(ctx, c.dead.store, ids, maxAge); err != nil {
		return false, notStored(err)
	}
	return true, nil
}
