package outbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox/internal/changerec"
	"github.com/seed-1b628d3f/outbox/internal/inbox"
	"github.com/seed-1b628d3f/outbox/internal/names"
	"github.com/seed-1b628d3f/outbox/internal/order"
	"github.com/seed-1b628d3f/outbox/internal/recent"
)

// OrderClient is what WithOrder needs of the SDK. *dynamodb.Client implements it.
type OrderClient interface {
	BatchGetItem(context.Context, *dynamodb.BatchGetItemInput, ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error)
}

var (
	// ErrSequenceMissing says that an earlier event of the aggregate is not in the events table, and was not handled. It is a failure like others: the
	// event is tried again, and then it is a dead letter. When the missing one is there, a redrive handles both. If it never existed, take it for
	// handled (Inbox.Pass).
	ErrSequenceMissing = errors.New("an earlier event of the aggregate is not in the events table")
	// ErrLate says that an event can have no place in the order any more: it is below the one at which the consumer began the aggregate, or its
	// number was handled already with an earlier time, since somebody uses the aggregate's id again. It is permanent, and a redrive does not help
	// before Inbox.Forget. The use of an id once more need not be noticed: a number that happens to be the next one is handled as it.
	ErrLate = errors.New("the event comes after later ones of its aggregate were handled")
)

// WithOrder hands the sequenced events of each aggregate (NewSequenced) to their handlers in the order of their Sequence, each once and without a
// gap, whatever the stream does, over all processes of the consumer. An event that the stream has not brought is read from the events table, with a
// consistent read, and handled first. Other events are handled as without WithOrder. Default: the order of arrival.
//
// Nothing is passed over. An event whose predecessor is neither handled nor in the table fails with ErrSequenceMissing; one without a handler fails
// as well, so register Ignore for types that the consumer does not want. A dead letter holds up its aggregate until it is redriven or discarded
// (Inbox.Discard).
//
// table is the events table (a name or an ARN), which client reads. from says what of the past the consumer wants: of an
// aggregate that it does not know, events with an earlier Time count as handled, whenever they were written, and the aggregate begins at the first
// later one whose row is there. The zero time wants every aggregate from its event 1 on: an aggregate
// whose first rows are gone then fails with ErrSequenceMissing. from must be a constant, the same in all processes: a whole second, not in the
// future.
//
// WithOrder needs an Inbox (WithInbox). Handlers are those of HandleTx, guarded ones and Ignore; Handle panics for another one. LetLaterEventsPass
// is an error, and so are attributes without a time, an aggregate id or a sequence. All processes of the consumer must have WithOrder; KeepMarks is for
// the change-over.
func WithOrder(client OrderClient, table string, from time.Time) ConsumerOption {
	return consumerOption(func(c *consumerConfig) error {
		var errs []error
		if c.order != nil {
			errs = append(errs, errors.New("it was given before"))
		}
		if isNil(client) {
			errs = append(errs, errors.New("the DynamoDB client is nil"))
		}
		if err := names.Table(table); err != nil {
			errs = append(errs, fmt.Errorf("the events table: %w", err))
		}
		switch now := time.Now(); {
		case from.Nanosecond() != 0:
			errs = append(errs, fmt.Errorf("from is %s: want a whole second, and a constant: with time.Now() each process would begin elsewhere", from.Format(time.RFC3339Nano)))
		case from.After(now):
			errs = append(errs, fmt.Errorf("from is %s: want a time that is not in the future; this machine's clock says %s", from.Format(time.RFC3339), now.Format(time.RFC3339)))
		}
		if err := errors.Join(errs...); err != nil {
			return fmt.Errorf("WithOrder: %w", err)
		}
		c.order = &ordering{client: client, table: table, from: from}
		return nil
	})
}

// OrderKind says what WithOrder has done.
type OrderKind string

const (
	// OrderHealed says that an event that the stream had not brought was read from the table, and handled. Its own delivery, if it comes, is a duplicate.
	OrderHealed OrderKind = "healed"
	// OrderBegan says that the consumer begins an aggregate above 1, since the events before are not wanted, or their rows are gone.
	OrderBegan OrderKind = "began"
	// OrderBefore says that an event with a time before what WithOrder wants counts as handled.
	OrderBefore OrderKind = "before"
)

// OrderInfo tells what WithOrder has done.
type OrderInfo struct {
	Kind   OrderKind
	Record Record // the event that was healed, that was delivered when the aggregate began, or that is not wanted
	For    int64  // the sequence of the event that was delivered (OrderHealed), or of the first one (OrderBegan)
}

// checkOrder returns what does not go together with WithOrder, and completes it.
func (c *consumerConfig) checkOrder() error {
	o := c.order
	if o == nil {
		return nil
	}
	var errs []error
	if c.inbox == nil {
		errs = append(errs, errors.New("it needs an Inbox (WithInbox)"))
	}
	if c.dead != nil && c.dead.pass {
		errs = append(errs, errors.New("LetLaterEventsPass would let an event pass the ones before it"))
	}
	for _, field := range [...]struct{ name, attribute string }{{"Time", c.attributes.Time}, {"AggregateID", c.attributes.AggregateID}, {"Sequence", c.attributes.Sequence}} {
		if field.attribute == NoAttribute {
			errs = append(errs, fmt.Errorf("it needs the attribute %s", field.name))
		}
	}
	if c.inbox != nil && c.inbox.table.Name != "" && names.OfTable(c.inbox.table.Name) == names.OfTable(o.table) {
		errs = append(errs, fmt.Errorf("%q is the inbox table: it needs the events table", o.table))
	}
	if !c.tablesInclude(names.OfTable(o.table)) {
		errs = append(errs, fmt.Errorf("WithTables leaves out its table %q", names.OfTable(o.table)))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("WithOrder: %w", err)
	}
	o.attributes, o.layout = c.attributes, c.attributes.layout()
	o.inbox, o.known = c.inbox, recent.New[order.Position](c.inbox.cache)
	return nil
}

// ordered reports whether an event is handled by its sequence. A record that does not name its table is taken for one of the table of WithOrder.
func (c *Consumer) ordered(r *Record) bool {
	return c.order != nil && sequenced(r) && r.Sequence > 0 && r.AggregateID != "" && (r.Table == "" || names.OfTable(r.Table) == names.OfTable(c.order.table))
}

// orderOf returns the events table by whose sequences an event is ordered, and whose positions they move; or "".
func (c *Consumer) orderOf(r *Record) (table, consumer string) {
	if !c.ordered(r) {
		return "", ""
	}
	return names.OfTable(c.order.table), c.inbox.table.Consumer
}

// ordering is the order by sequence of a Consumer.
type ordering struct {
	client     OrderClient
	table      string
	from       time.Time
	attributes Attributes
	layout     *changerec.Layout
	inbox      *Inbox
	known      *recent.Cache[order.Position] // by the ids of aggregates. A position only grows, so a remembered one was true
}

func (o *ordering) aggregate(r *Record) inbox.Aggregate {
	return inbox.Aggregate{ID: r.AggregateID, Table: names.OfTable(o.table)}
}

// checkAggregate returns why no position can be that of an aggregate.
func checkAggregate(id string) error {
	switch {
	case id == "" || len(id) > order.MaxAggregate:
		return fmt.Errorf("outbox: the id of an aggregate with sequenced events has 1 to %d bytes, this one %d", order.MaxAggregate, len(id))
	case !utf8.ValidString(id):
		return fmt.Errorf("outbox: the id of an aggregate is not valid UTF-8: %q", shorten(id))
	}
	return nil
}

func orderEvent(r *Record) order.Event {
	return order.Event{Sequence: r.Sequence, Time: r.Time.Truncate(time.Millisecond), ChangedAt: r.ChangedAt}
}

// entry finds out what comes next for an event, and handles what is before it. Without an error, it is handled already, or the next one.
func (o *ordering) entry(ctx context.Context, c *Consumer, r *Record) (entry, bool, error) {
	if r.Table == "" {
		named := *r
		named.Table = names.OfTable(o.table)
		r = &named
	}
	e, a, table := orderEvent(r), o.aggregate(r), &o.inbox.table
	if err := checkAggregate(a.ID); err != nil { // no Writer has written it
		return nil, false, Permanent(err)
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, false, &tableError{fmt.Errorf("outbox: there was no time for what is before the event: %w", err)}
		}
		position, remembered := o.known.Get(a.ID)
		next := order.Next(position, e, o.from)
		var place inbox.Place
		if !remembered || next != order.Run && next != order.Duplicate { // another process may have gone on
			var err error
			if place, err = table.Position(ctx, a); err != nil {
				return nil, false, &tableError{err}
			}
			position = place.Position
			o.remember(a.ID, position)
			next = order.Next(position, e, o.from)
		}
		switch next {
		case order.Run:
			free := &positionEntry{o, a, position, e}
			if c.keepMarks {
				return o.unlessMarked(ctx, r, free)
			}
			return free, false, nil
		case order.Duplicate:
			handledBefore(ctx)
			return nil, true, nil
		case order.Before:
			handledBefore(ctx)
			c.tellOrder(ctx, OrderInfo{Kind: OrderBefore, Record: *r})
			return nil, true, nil
		case order.Late:
			if c.keepMarks && e.Sequence < position.First {
				if marked, err := o.inbox.handled(ctx, r); err != nil {
					return nil, false, entryError(err)
				} else if marked {
					return nil, true, nil
				}
			}
			return nil, false, o.late(&e, position)
		}
		if place.Against(claimBy(ctx, r), time.Now()) {
			return nil, false, inboxError(&inbox.ClaimedError{ID: SequencedID(a.ID, position.Sequence+1), Until: place.Until})
		}
		var err error
		if next == order.Begin {
			err = o.begin(ctx, c, r, a, &e)
		} else {
			err = o.heal(ctx, c, r, position, &e)
		}
		if err != nil {
			return nil, false, err
		}
	}
}

// remember notes a position. It copies the id, since that of a record keeps all of its memory alive.
func (o *ordering) remember(aggregate string, p order.Position) {
	if len(aggregate) <= maxRemembered {
		o.known.Add(strings.Clone(aggregate), p)
	}
}

func (o *ordering) late(e *order.Event, p order.Position) error {
	if e.Sequence < p.First {
		return &placeError{late: true, text: fmt.Sprintf("outbox: %v: the consumer has begun this aggregate at %d", ErrLate, p.First)}
	}
	return &placeError{late: true, text: fmt.Sprintf("outbox: %v: the events up to %d were handled, and the latest time of one was %s; this one is of %s: is the aggregate's id used again? (Inbox.Forget)",
		ErrLate, p.Sequence, p.At.UTC().Format(time.RFC3339Nano), e.Time.UTC().Format(time.RFC3339Nano))}
}

// placeError says that an event is not the next one: it is late, which is permanent, or the position has moved meanwhile, which the next delivery
// sees, or what is before it may be on its way.
type placeError struct {
	text  string
	late  bool
	young bool
}

func (e *placeError) Error() string { return e.text }
func (e *placeError) Is(target error) bool {
	return e.late && (target == ErrLate || target == ErrPermanent)
}

// isTooEarly reports whether an error says that what is before the event may still be on its way.
func isTooEarly(err error) bool {
	place := (*placeError)(nil)
	return errors.As(err, &place) && place.young
}

// positionEntry is the position of an aggregate, for the event that is the next one.
type positionEntry struct {
	o     *ordering
	a     inbox.Aggregate
	known order.Position
	event order.Event
}

// judge says what a stored position means for the event: inbox.ErrHandled, an *inbox.ClaimedError, a *placeError, or nil if it is the next one.
func (p *positionEntry) judge(place inbox.Place, now time.Time) error {
	p.o.remember(p.a.ID, place.Position)
	switch order.Next(place.Position, p.event, p.o.from) {
	case order.Duplicate:
		return inbox.ErrHandled
	case order.Late:
		return p.o.late(&p.event, place.Position)
	case order.Run:
		if place.Claimed(now) {
			return &inbox.ClaimedError{ID: SequencedID(p.a.ID, p.event.Sequence), Until: place.Until}
		}
		if place.Began == p.known.Began {
			return nil
		}
	}
	return &placeError{text: fmt.Sprintf("outbox: the position of the aggregate has moved from %d to %d: the event waits for its next delivery", p.known.Sequence, place.Sequence)}
}

// refused is judge for the row that made a write fail a moment ago. It never returns nil.
func (p *positionEntry) refused(place inbox.Place, now time.Time) error {
	if err := p.judge(place, now); err != nil {
		return err
	}
	return &inbox.ClaimedError{ID: SequencedID(p.a.ID, p.event.Sequence), Until: now}
}

func (p *positionEntry) extras(now time.Time) []*extra {
	table := &p.o.inbox.table
	update := table.Move(p.a, p.known, p.event, now)
	return []*extra{{
		write: types.TransactWriteItem{Update: update},
		key:   update.Key,
		name:  "the aggregate's position",
		row:   "the row of the aggregate's position in the inbox",
		form:  inboxForm,
		judge: func(old map[string]types.AttributeValue) error {
			place, err := table.PlaceOf(p.a, old)
			if err != nil {
				return judged(&tableError{err})
			}
			return judged(p.refused(place, now))
		},
	}}
}

func (p *positionEntry) alone(ctx context.Context, now time.Time) error {
	place, refused, err := p.o.inbox.table.MoveAlone(ctx, p.a, p.known, p.event, now)
	if !refused || err != nil {
		return err
	}
	return p.refused(place, now)
}

func (p *positionEntry) look(ctx context.Context, now time.Time) error {
	place, err := p.o.inbox.table.Position(ctx, p.a)
	if err != nil {
		return err
	}
	return p.judge(place, now)
}

func (p *positionEntry) claim(ctx context.Context, c inbox.Claim, now time.Time) error {
	place, refused, err := p.o.inbox.table.ClaimNext(ctx, p.a, p.known, c, now)
	if !refused || err != nil {
		return err
	}
	return p.refused(place, now)
}

func (p *positionEntry) complete(ctx context.Context, owner string, _ time.Time) error {
	return p.o.inbox.table.CompleteNext(ctx, p.a, p.known, p.event, owner)
}

func (p *positionEntry) release(ctx context.Context, owner string) error {
	return p.o.inbox.table.ReleaseNext(ctx, p.a, owner)
}

func (p *positionEntry) remember(ctx context.Context) {
	if d := deliveryOf(ctx); d != nil {
		atomic.StoreInt32(&d.moved, 1)
	}
	p.o.remember(p.a.ID, p.known.Over(p.event))
}
