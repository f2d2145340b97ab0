package outbox

import (
	"context"
	"errors"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/deadletter"
	"github.com/seed-1b628d3f/outbox/internal/event"
	"github.com/seed-1b628d3f/outbox/internal/grace"
)

// account counts in the dead letter table what has come of an unfinished delivery's attempts outside a Worker, and makes a dead letter of the
// event if they are spent, also if the last call was no attempt. An attempt that a deadline cuts off counts.
func (c *Consumer) account(d *delivery) {
	more, v := d.attempts(), d.verdict
	d.accounted = true
	if c.dead == nil || d.finished || more.Sum() == 0 && !d.anew {
		return
	}
	limit := 3*storeTimeout + storeTime(len(d.record.Payload))
	if p := (*predecessorError)(nil); errors.As(d.cause, &p) && p.record != nil { // one letter more
		limit += 2*storeTimeout + storeTime(len(p.record.Payload))
	}
	ctx, cancel := grace.After(d, limit)
	defer cancel()
	e := event.Event(d.record)
	if d.anew {
		if err := c.forgetAttempts(ctx, &e); err != nil { // this one would be added to those at other events
			c.logger.ErrorContext(ctx, "outbox: a failed attempt is not counted", "event", d.record.ID, "error", err)
			return
		}
	}
	if more.Sum() == 0 {
		return
	}
	n, counted, err := c.countAttempts(ctx, &e, more, v)
	if err != nil {
		c.logger.ErrorContext(ctx, "outbox: a failed attempt is not counted", "event", d.record.ID, "error", err)
		return
	}
	if v.counted(n, c.dead.attempts) != hopeless {
		return
	}
	d.doomed = &doomed{err: d.cause, attempts: n.Sum()}
	if err := c.bury(ctx, d); err != nil {
		d.err = errors.Join(d.err, err)
		return
	}
	d.err, d.finished = nil, true
	if counted {
		_ = c.forgetAttempts(ctx, &e) // otherwise its time to live does
	}
}

func (c *Consumer) forgetAttempts(ctx context.Context, e *event.Event) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return c.dead.store.ForgetAttempts(ctx, e)
}

// countAttempts adds a delivery's attempts to those in the dead letter table, and returns all of them. counted reports whether the table has a
// count now. They are not written if no other can follow.
func (c *Consumer) countAttempts(ctx context.Context, e *event.Event, more deadletter.Attempts, v verdict) (n deadletter.Attempts, counted bool, err error) {
	if v == failed && c.dead.attempts == 1 {
		v = hopeless
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if v != hopeless {
		n, err = c.dead.store.Attempt(ctx, e, more)
		return n, true, err
	}
	n, err = c.dead.store.Attempts(ctx, e)
	counted = n.Sum() > 0
	return deadletter.Attempts{Failed: n.Failed + more.Failed, Lost: n.Lost + more.Lost}, counted, err
}

// bury stores a doomed delivery as a dead letter. Its aggregate is parked afterwards, except with LetLaterEventsPass. If an event before it is at
// fault (WithOrder), that one is the dead letter, since its row may expire, and the delivered one is parked behind it.
func (c *Consumer) bury(ctx context.Context, d *delivery) error {
	p := (*predecessorError)(nil)
	if !errors.As(d.doomed.err, &p) || p.record == nil {
		return c.buryOne(ctx, d)
	}
	first := &delivery{Context: ctx, consumer: c, record: *p.record, doomed: &doomed{err: p.err, attempts: d.doomed.attempts}}
	if err := c.bury(ctx, first); err != nil {
		return err
	}
	parked, err := c.park(ctx, d)
	if err == nil && !parked {
		err = notStored(errors.New("the aggregate was redriven meanwhile"))
	}
	return err
}

func (c *Consumer) buryOne(ctx context.Context, d *delivery) error {
	r := &d.record
	ctx, cancel := context.WithTimeout(ctx, storeTimeout+storeTime(len(r.Payload)+len(d.doomed.raw)))
	defer cancel()
	l := deadletter.Letter{Event: event.Event(*r), Raw: d.doomed.raw, Error: d.doomed.err.Error(), Attempts: d.doomed.attempts, StoredAt: time.Now()}
	l.Order, l.Inbox = c.orderOf(r)
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
