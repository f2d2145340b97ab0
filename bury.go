package outbox

import (
	"context"
	"errors"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/deadletter"
	"github.com/seed-1b628d3f/outbox/internal/event"
)

// buryIfSpent makes a dead letter of an event whose handler has failed, if that was its last attempt outside a Worker. In Lambda, outer is
// the invocation's context, which ends after ctx. An attempt that the invocation's deadline cuts off counts.
func (c *Consumer) buryIfSpent(ctx, outer context.Context, d *delivery) {
	v := d.judge(errors.Is(ctx.Err(), context.Canceled))
	if c.dead == nil || v == settled || v == waits {
		return
	}
	if ctx = outer; outer.Err() != nil {
		ctx = context.WithoutCancel(ctx)
	}
	e := event.Event(d.record)
	n, err := c.countAttempt(ctx, &e, v)
	if err != nil {
		c.logger.ErrorContext(ctx, "outbox: a failed attempt is not counted", "event", d.record.ID, "error", err)
		return
	}
	if v.after(n, c.dead.attempts) != hopeless {
		return
	}
	d.doomed = &doomed{err: d.err, attempts: n}
	if err := c.bury(ctx, d); err != nil {
		d.err = errors.Join(d.err, err)
		return
	}
	d.err, d.finished = nil, true
	if n > 1 {
		forgetting, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		_ = c.dead.store.ForgetAttempts(forgetting, &e) // otherwise its time to live does
	}
}

// countAttempt counts a failed attempt outside a Worker in the dead letter table, and returns how many there are now. The attempt is not
// written if no other can follow it.
func (c *Consumer) countAttempt(ctx context.Context, e *event.Event, v verdict) (int, error) {
	if c.dead.attempts == 1 {
		return 1, nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if v == hopeless {
		before, err := c.dead.store.Attempts(ctx, e)
		return before + 1, err
	}
	return c.dead.store.Attempt(ctx, e)
}

// bury stores a doomed delivery as a dead letter. Its aggregate is parked afterwards, except with LetLaterEventsPass.
func (c *Consumer) bury(ctx context.Context, d *delivery) error {
	r := &d.record
	ctx, cancel := context.WithTimeout(ctx, storeTimeout+storeTime(len(r.Payload)+len(d.doomed.raw)))
	defer cancel()
	l := deadletter.Letter{Event: event.Event(*r), Raw: d.doomed.raw, Error: d.doomed.err.Error(), Attempts: d.doomed.attempts, StoredAt: time.Now()}
	stored, err := c.dead.store.Put(ctx, &l)
	if err != nil {
		c.logger.ErrorContext(ctx, "outbox: a dead letter cannot be stored, the event stays unfinished", "event", r.ID, "type", r.Type,
			"aggregate", r.AggregateID, "shard", r.ShardID, "sequenceNumber", r.SequenceNumber, "error", err)
		return notStored(err)
	}
	if r.AggregateID != "" && !c.dead.pass {
		c.dead.parked.Add(r.AggregateID)
	}
	if stored == deadletter.Added {
		c.logger.ErrorContext(ctx, "outbox: dead letter", "deadLetter", l.ID, "event", r.ID, "type", r.Type, "aggregate", r.AggregateID,
			"shard", r.ShardID, "sequenceNumber", r.SequenceNumber, "attempts", l.Attempts, "error", d.doomed.err)
	}
	c.deadLettered(ctx, &l, stored)
	return nil
}
