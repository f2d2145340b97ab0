package outbox

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/deadletter"
	"github.com/seed-1b628d3f/outbox/internal/event"
	"github.com/seed-1b628d3f/outbox/internal/parked"
)

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

// storeTimeout bounds how long it takes to store a small dead letter, to count an attempt, or to read some of what is parked.
const storeTimeout = 5 * time.Second

// storeTime is the time that a letter of some size gets in addition. Its parts are in one partition, which takes a MB a second.
func storeTime(size int) time.Duration { return time.Duration(size) * 2 * time.Microsecond }

// divert stores a delivery that must not reach its handler, because it is doomed or its aggregate is parked. An event that was handled before its
// aggregate was parked is a duplicate, and no letter. It returns false if the delivery goes to its handler.
func (c *Consumer) divert(handlers map[string]registration, d *delivery) bool {
	dead := c.dead
	if dead == nil {
		return false
	}
	atomic.StoreInt32(&d.spent, 0) // of an earlier attempt
	atomic.StoreInt32(&d.ahead, 0)
	if d.doomed != nil {
		d.err = c.bury(d, d)
		d.finished = d.err == nil
		return true
	}
	r := &d.record
	if !dead.parked.Has(r.AggregateID) || !c.ours(r.Table) {
		return false
	}
	h, known := handlers[r.Type]
	ordered := c.ordered(r)
	if !known && !ordered && !c.failUnknownTypes {
		return false
	}
	if (h.kept || ordered) && c.handledAlready(d) {
		d.err, d.finished = nil, true
		c.duplicate(d)
		return true
	}
	parked, err := c.park(d, d)
	if err == nil && !parked {
		return false
	}
	d.err, d.finished = err, err == nil
	return true
}

// park stores an event behind the dead letter of its aggregate. It returns false if the aggregate is not parked any more.
func (c *Consumer) park(ctx context.Context, d *delivery) (parked bool, err error) {
	r, dead := &d.record, c.dead
	ctx, cancel := context.WithTimeout(ctx, storeTimeout+storeTime(len(r.Payload)))
	defer cancel()
	asOf := dead.parked.Now()
	l := deadletter.Letter{Event: event.Event(*r), Error: "parked: an earlier event of its aggregate is a dead letter", Parked: true, StoredAt: time.Now()}
	l.Order, l.Inbox = c.orderOf(r)
	stored, err := dead.store.PutBehind(ctx, &l)
	switch {
	case err != nil:
		c.logger.ErrorContext(ctx, "outbox: an event cannot be parked", "event", r.ID, "type", r.Type, "aggregate", r.AggregateID, "error", err)
		return false, notStored(err)
	case stored == deadletter.Refused: // the aggregate was redriven and is not parked any more
		dead.parked.Remove(r.AggregateID, asOf)
		return false, nil
	case stored == deadletter.Added:
		c.logger.WarnContext(ctx, "outbox: event parked", "event", r.ID, "type", r.Type, "aggregate", r.AggregateID)
	}
	c.deadLettered(ctx, &l, stored)
	return true, nil
}

// handledAlready reports whether the inbox knows the event of a delivery as handled. If the inbox cannot be asked, the event is parked, since a
// redrive finds out.
func (c *Consumer) handledAlready(d *delivery) bool {
	ctx, cancel := context.WithTimeout(d, storeTimeout)
	defer cancel()
	var handled bool
	var err error
	if c.ordered(&d.record) {
		handled, err = c.order.handled(ctx, c, &d.record)
	} else {
		handled, err = c.inbox.handled(ctx, &d.record)
	}
	if err != nil {
		c.logger.WarnContext(d, "outbox: the inbox cannot be asked whether an event that is parked was handled before", "event", d.record.ID,
			"type", d.record.Type, "aggregate", d.record.AggregateID, "error", err)
	}
	return handled
}

// refreshParked finds out which aggregates of the deliveries are parked. What was read before since does not count. shared says that others will
// ask what is found now. known is false if no delivery has an aggregate: then nothing has to be known. After an error, a call with the same
// since goes on where this one ended.
func (c *Consumer) refreshParked(ctx context.Context, deliveries []delivery, since time.Time, shared bool) (known bool, err error) {
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
	look := parked.Look{IDs: ids, Since: since, Shared: shared, Idle: storeTimeout}
	if err := c.dead.parked.Refresh(ctx, c.dead.store, look); err != nil {
		return false, notStored(err)
	}
	return true, nil
}
