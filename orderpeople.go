package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/deadletter"
	"github.com/seed-1b628d3f/outbox/internal/inbox"
	"github.com/seed-1b628d3f/outbox/internal/names"
	"github.com/seed-1b628d3f/outbox/internal/order"
)

// ErrNotNext says that a sequence cannot be passed, since an earlier one has not been handled. The text of the error names the next one.
var ErrNotNext = errors.New("an earlier sequence of the aggregate is not handled")

// Position returns up to which sequence the consumer has handled an aggregate (WithOrder), or that before the one at which it has begun. 0 means that
// it has handled nothing, or knows nothing of the aggregate. eventsTable is a name or an ARN. The read is consistent.
func (i *Inbox) Position(ctx context.Context, eventsTable, aggregateID string) (sequence int64, err error) {
	a, err := i.aggregate(eventsTable, aggregateID)
	if err != nil {
		return 0, err
	}
	place, err := i.table.Position(ctx, a)
	if err != nil {
		return 0, fmt.Errorf("outbox: %w", err)
	}
	return place.Sequence, nil
}

// Pass takes a sequence of an aggregate for handled, without an effect (WithOrder). It must be the next one; otherwise the error matches ErrNotNext. A
// sequence that was handled or passed before is no error, and passed is false, also if an earlier attempt of this call has moved the position and
// its answer was lost. While a guarded handler works at it, the error matches ErrClaimed. Pass is for a number
// that does not exist, and for an event whose row cannot be used; to give up an event that is a dead letter, use Discard. If the number's event comes
// after all, it is a duplicate if it was written before this call, and ErrLate otherwise. Neither name is checked. An aggregate of which the consumer
// knows nothing begins at 1, so only 1 can be passed.
func (i *Inbox) Pass(ctx context.Context, eventsTable, aggregateID string, sequence int64) (passed bool, err error) {
	a, err := i.aggregate(eventsTable, aggregateID)
	if err != nil {
		return false, err
	}
	if sequence < 1 {
		return false, fmt.Errorf("outbox: Pass: the sequence is %d: the first event of an aggregate has the sequence 1", sequence)
	}
	return i.pass(ctx, a, order.Event{Sequence: sequence, Time: time.Now()}) // an event that was written before now is handled by it
}

func (i *Inbox) pass(ctx context.Context, a inbox.Aggregate, e order.Event) (passed bool, err error) {
	place, err := i.table.Position(ctx, a)
	for err == nil {
		switch now := time.Now(); {
		case e.Sequence <= place.Sequence:
			return false, nil // or it is below the beginning, and can have no place any more
		case place.Claimed(now):
			return false, fmt.Errorf("outbox: %w", inboxError(&inbox.ClaimedError{ID: SequencedID(a.ID, place.Sequence+1), Until: place.Until}))
		case e.Sequence > place.Sequence+1:
			return false, fmt.Errorf("outbox: %w: the next one of aggregate %q is %d, not %d", ErrNotNext, shorten(a.ID), place.Sequence+1, e.Sequence)
		}
		var refused bool
		if place, refused, err = i.table.MoveAlone(ctx, a, place.Position, e, time.Now()); err == nil && !refused {
			return true, nil
		}
	}
	return false, fmt.Errorf("outbox: %w", err)
}

// Forget removes the position of an aggregate (WithOrder), for an aggregate whose id is used again. The consumer begins anew with the next event that
// is delivered, as if it had never seen one of the aggregate. What was handled, and is still wanted and in the events table, is handled once more:
// replay.Events.Reconcile finds it undelivered, and delivers it. A process that remembers the position takes what it knows for duplicates until a new event
// comes, so restart the processes. While a guarded handler works at the next event, the error matches ErrClaimed.
func (i *Inbox) Forget(ctx context.Context, eventsTable, aggregateID string) error {
	a, err := i.aggregate(eventsTable, aggregateID)
	if err != nil {
		return err
	}
	switch claimed, err := i.table.Forget(ctx, a, time.Now()); {
	case err != nil:
		return fmt.Errorf("outbox: %w", err)
	case !claimed.IsZero():
		return fmt.Errorf("outbox: %w", inboxError(&inbox.ClaimedError{ID: a.ID, Until: claimed}))
	}
	return nil
}

// Discard removes a dead letter for good, without handling it, and takes its event for handled: for dead letters of a Consumer with WithOrder, in
// place of DeadLetterTable.Discard. The event must be the next one of its aggregate; otherwise the error matches ErrNotNext, and the letter stays.
// The letter of an event that was handled, or is late, is only removed. Other errors are those of DeadLetterTable.Discard and of Pass.
// A call that failed can be repeated.
func (i *Inbox) Discard(ctx context.Context, letters *DeadLetterTable, id string) error {
	switch {
	case i.made() != nil:
		return fmt.Errorf("outbox: %w", i.made())
	case letters == nil:
		return errors.New("outbox: Discard: the DeadLetterTable is nil")
	}
	if err := letters.made(); err != nil {
		return err
	}
	return letters.discard(ctx, id, func(l *deadletter.Letter) error {
		r := Record(l.Event)
		switch {
		case l.Order == "" && sequenced(&r):
			return errors.New("outbox: Discard: the dead letter was stored without WithOrder for its table: DeadLetterTable.Discard removes it. If there is an order now, Pass moves the position")
		case l.Order == "", checkAggregate(r.AggregateID) != nil: // it has no position
			return nil
		case l.Inbox != i.table.Consumer:
			return fmt.Errorf("outbox: Discard: the dead letter is of the consumer %q of an inbox, and this one is of %q", l.Inbox, i.table.Consumer)
		}
		_, err := i.pass(ctx, inbox.Aggregate{ID: r.AggregateID, Table: l.Order}, orderEvent(&r))
		return err
	})
}

func (i *Inbox) aggregate(eventsTable, aggregateID string) (inbox.Aggregate, error) {
	if err := i.made(); err != nil {
		return inbox.Aggregate{}, fmt.Errorf("outbox: %w", err)
	}
	if err := names.Table(eventsTable); err != nil {
		return inbox.Aggregate{}, fmt.Errorf("outbox: the events table: %w", err)
	}
	if err := checkAggregate(aggregateID); err != nil {
		return inbox.Aggregate{}, err
	}
	return inbox.Aggregate{ID: aggregateID, Table: names.OfTable(eventsTable)}, nil
}
