package outbox

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/batchget"
	"github.com/seed-1b628d3f/outbox/internal/inbox"
	"github.com/seed-1b628d3f/outbox/internal/order"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// heal handles the events behind a position, as far as a page goes, for the sake of a later one.
func (o *ordering) heal(ctx context.Context, c *Consumer, r *Record, p order.Position, e *order.Event) error {
	first, last := p.Sequence+1, min(p.Sequence+batchget.Most, e.Sequence-1)
	found, now, err := o.fetch(ctx, r.AggregateID, first, last, false)
	if err != nil {
		return err
	}
	handlers := c.registered()
	for n := first; n <= last; n++ {
		row, there := found[n]
		if !there && n == first {
			return o.missing(r, n, e, now)
		}
		if !there {
			return nil // the next page tells
		}
		healed, err := o.decode(row, r, n)
		if err != nil {
			return &predecessorError{id: SequencedID(r.AggregateID, n), err: Permanent(err)}
		}
		d := &delivery{Context: ctx, consumer: c, record: healed}
		d.record.StreamARN, d.record.ShardID, d.record.Fence = r.StreamARN, r.ShardID, r.Fence // who takes the shard over, takes its claims over
		if outer := deliveryOf(ctx); outer != nil {
			d.before = outer.before + atomic.LoadInt32(&outer.calls) - 1
		}
		c.handle(handlers, d)
		if !d.finished {
			if atomic.LoadInt32(&d.spent) == 1 {
				timeSpent(ctx)
			}
			return &predecessorError{id: healed.ID, record: &healed, err: d.err}
		}
		progress(ctx)
		if atomic.LoadInt32(&d.known) == 0 {
			c.tellOrder(ctx, OrderInfo{Kind: OrderHealed, Record: healed, For: r.Sequence})
		}
		if ctx.Err() != nil {
			return nil
		}
	}
	return nil
}

// missing says that a number has no row: that nothing is known yet, or that it is a failure.
func (o *ordering) missing(r *Record, n int64, e *order.Event, now time.Time) error {
	id := SequencedID(r.AggregateID, n)
	if e.Young(now) {
		return &placeError{young: true, text: fmt.Sprintf("outbox: event %q is not in table %q yet: the event behind it waits, since it is younger than ten seconds", shorten(id), o.table)}
	}
	return fmt.Errorf("outbox: %w: event %q is not in table %q. Has its time to live passed, or does somebody leave out numbers? (Inbox.Pass takes it for handled)", ErrSequenceMissing, shorten(id), o.table)
}

// decode reads the row of an event that the stream has not brought.
func (o *ordering) decode(row rows.Item, r *Record, n int64) (Record, error) {
	healed, err := DecodeItem(row, &attributesOption{attributes: o.attributes, layout: o.layout})
	if err == nil && (healed.AggregateID != r.AggregateID || healed.Sequence != n) {
		err = fmt.Errorf("it is of aggregate %q and sequence %d", shorten(healed.AggregateID), healed.Sequence)
	}
	if err != nil {
		return Record{}, fmt.Errorf("outbox: the row of event %q cannot be used: %w", shorten(SequencedID(r.AggregateID, n)), err)
	}
	healed.Table = r.Table
	return healed, nil
}

// begin finds where an aggregate begins of which the consumer knows nothing, and stores it.
func (o *ordering) begin(ctx context.Context, c *Consumer, r *Record, a inbox.Aggregate, e *order.Event) error {
	first, more := e.Sequence, true
	for more {
		low := max(first-batchget.Most, 1)
		found, now, err := o.fetch(ctx, a.ID, low, first-1, true)
		if err != nil {
			return err
		}
		before := make([]order.Row, 0, first-low)
		for n := first - 1; n >= low; n-- {
			row, there := found[n]
			if !there {
				before = append(before, order.Row{})
				continue
			}
			d := itemDecoder{item: row}
			known := order.Row{Present: true, Time: d.time(o.layout.Time)}
			if expires := rows.Int(row, o.attributes.ExpiresAt); expires > 0 {
				known.ExpiresAt = time.Unix(expires, 0)
			}
			if d.err != nil {
				return &predecessorError{id: SequencedID(a.ID, n), err: Permanent(d.err)}
			}
			before = append(before, known)
		}
		above := first
		first, more = order.Beginning(first, before, o.from, now)
		if hole := first > 1 && !more && !before[above-first].Present; hole && e.Young(now) {
			return o.missing(r, first-1, e, now)
		}
	}
	place, refused, err := o.inbox.table.Begin(ctx, a, first, time.Now())
	switch {
	case err != nil:
		return &tableError{err}
	case refused: // by another process
		o.remember(a.ID, place.Position)
		if place.Claimed(time.Now()) {
			return inboxError(&inbox.ClaimedError{ID: SequencedID(a.ID, place.Sequence+1), Until: place.Until})
		}
		return nil
	}
	o.remember(a.ID, order.Position{Sequence: first - 1, First: first, Began: true})
	if first > 1 {
		c.tellOrder(ctx, OrderInfo{Kind: OrderBegan, Record: *r, For: first})
	}
	return nil
}

// fetch reads rows of the events table by their numbers, and returns the service's time as well. timesOnly leaves out everything but their times.
func (o *ordering) fetch(ctx context.Context, aggregate string, first, last int64, timesOnly bool) (found map[int64]rows.Item, now time.Time, err error) {
	ids := make([]string, 0, last-first+1)
	numbers := make(map[string]int64, last-first+1)
	for n := first; n <= last; n++ {
		id := SequencedID(aggregate, n)
		numbers[id], ids = n, append(ids, id)
	}
	q := batchget.Query{Table: o.table}
	q.Keys, q.Text = batchget.ByID(o.attributes.ID, ids)
	if timesOnly {
		q.Attributes = []string{o.attributes.ID, o.attributes.Time}
		if o.attributes.ExpiresAt != NoAttribute {
			q.Attributes = append(q.Attributes, o.attributes.ExpiresAt)
		}
	} else {
		q.Enough = func(found map[string]rows.Item) bool { return found[ids[0]] != nil } // nobody believes that a later one is missing
	}
	read, now, err := q.Read(ctx, o.client)
	if err != nil {
		return nil, now, o.unread(err)
	}
	found = make(map[int64]rows.Item, len(read))
	for id, row := range read {
		found[numbers[id]] = row
	}
	return found, now, nil
}

func (o *ordering) unread(err error) error {
	return &tableError{fmt.Errorf("outbox: events table %s: what is before the event cannot be read: %w", o.table, err)}
}

// predecessorError says that an event is not handled because one before it is not. It matches what its error matches, so the attempt is judged by it.
type predecessorError struct {
	id     string
	record *Record // nil if its row cannot be used
	err    error
}

func (e *predecessorError) Error() string {
	return fmt.Sprintf("outbox: event %q, which comes before, is not handled: %v", shorten(e.id), e.err)
}
func (e *predecessorError) Unwrap() error { return e.err }

// handled reports whether an event is known to be handled, or is not wanted.
func (o *ordering) handled(ctx context.Context, c *Consumer, r *Record) (bool, error) {
	place, err := o.inbox.table.Position(ctx, o.aggregate(r))
	if err != nil {
		return false, err
	}
	switch order.Next(place.Position, orderEvent(r), o.from) {
	case order.Duplicate:
	case order.Before:
		c.tellOrder(ctx, OrderInfo{Kind: OrderBefore, Record: *r})
	default:
		return false, nil
	}
	handledBefore(ctx)
	return true, nil
}
