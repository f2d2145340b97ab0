package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/account"
	"github.com/seed-1b628d3f/outbox/internal/event"
	"github.com/seed-1b628d3f/outbox/internal/inbox"
	"github.com/seed-1b628d3f/outbox/internal/names"
	"github.com/seed-1b628d3f/outbox/internal/order"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// Accounts is for replay.Events.Reconcile: what the inbox and the dead letters of c know of the events of a table, which is a name or an ARN. It
// makes no call. The error says why nothing can be known: there is no Inbox, or it keeps nothing of the handlers, or WithTables leaves the
// table out.
func (c *Consumer) Accounts(eventsTable string) (*account.Book, error) {
	err := c.made()
	switch {
	case err != nil:
	case names.Table(eventsTable) != nil:
		err = fmt.Errorf("the events table: %w", names.Table(eventsTable))
	case c.inbox == nil:
		err = errors.New("the Consumer has no Inbox (WithInbox): nobody knows which events it has handled")
	case !c.ours(names.OfTable(eventsTable)):
		err = fmt.Errorf("WithTables leaves out the table %q", names.OfTable(eventsTable))
	case !c.keepsAny():
		err = errors.New("the Consumer has no handler whose events the Inbox keeps: register one (HandleTx, or Handle with WithInbox)")
	}
	if err != nil {
		return nil, fmt.Errorf("outbox: Accounts: %w", err)
	}
	return &account.Book{Names: account.Names(c.attributes), Memory: c.inbox.ttl - forgetting, Of: c.accountsOf, Known: c.known, Wants: c.wantsAccount}, nil
}

// forgetting is how long before the end of its time to live an inbox counts as one that may have forgotten an event: the event's time may be later
// than the time at which it was handled.
const forgetting = 48 * time.Hour

func (c *Consumer) keepsAny() bool {
	for _, h := range c.registered() {
		if h.kept {
			return true
		}
	}
	return c.failUnknownTypes || c.order != nil
}

// accountsOf looks for the events in the inbox, then in the dead letters, and then in the inbox again: a redrive writes the inbox before it removes
// a letter. The first look costs half, and may be a little old.
func (c *Consumer) accountsOf(ctx context.Context, events []event.Event) ([]account.Account, error) {
	if err := c.notNested(ctx); err != nil {
		return nil, fmt.Errorf("outbox: Accounts: %w", err)
	}
	now := time.Now()
	accounts := make([]account.Account, len(events))
	var open []int
	for i := range events {
		r := Record(events[i])
		switch {
		case !c.wantsAccount(events[i]):
			accounts[i] = account.Unwanted
		case !c.ordered(&r) && c.forgets(&r, now): // a position never forgets; lookForMarks asks for the marks of ordered ones
			accounts[i] = account.Forgotten
		default:
			open = append(open, i)
		}
	}
	open, err := c.lookInInbox(ctx, events, open, accounts, false)
	if err == nil {
		open, err = c.lookInLetters(ctx, events, open, accounts)
	}
	if err == nil {
		_, err = c.lookInInbox(ctx, events, open, accounts, true)
	}
	if err != nil {
		return nil, fmt.Errorf("outbox: %w", err)
	}
	return accounts, nil
}

// wantsAccount reports whether the inbox keeps what becomes of an event. One without a handler stops its aggregate (WithOrder).
func (c *Consumer) wantsAccount(e event.Event) bool {
	r := Record(e)
	h, known := c.registered()[r.Type]
	return c.ordered(&r) || known && h.kept || !known && c.failUnknownTypes
}

// known looks in the inbox alone, also for what it may have forgotten.
func (c *Consumer) known(ctx context.Context, events []event.Event) (int, error) {
	if err := c.notNested(ctx); err != nil {
		return 0, fmt.Errorf("outbox: Accounts: %w", err)
	}
	accounts := make([]account.Account, len(events))
	var wanted []int
	for i := range events {
		if c.wantsAccount(events[i]) {
			wanted = append(wanted, i)
		}
	}
	if _, err := c.lookInInbox(ctx, events, wanted, accounts, true); err != nil {
		return 0, fmt.Errorf("outbox: %w", err)
	}
	n := 0
	for _, a := range accounts {
		if a == account.Handled || a == account.Claimed {
			n++
		}
	}
	return n, nil
}

// forgets reports whether the inbox may have had the mark of an event.
func (c *Consumer) forgets(r *Record, now time.Time) bool {
	return r.Time.Before(now.Add(forgetting - c.inbox.ttl))
}

// lookInInbox sets the accounts of those events that the inbox knows. It returns which are still open.
func (c *Consumer) lookInInbox(ctx context.Context, events []event.Event, at []int, accounts []account.Account, consistent bool) (open []int, err error) {
	table := &c.inbox.table
	keys := make([]rows.Item, 0, len(at))
	for _, i := range at {
		if r := Record(events[i]); c.ordered(&r) {
			keys = append(keys, table.PositionKey(c.order.aggregate(&r)))
		} else {
			keys = append(keys, table.MarkKey(inboxEvent(&r)))
		}
	}
	found, err := table.Rows(ctx, keys, consistent)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	for n, i := range at {
		r := Record(events[i])
		if c.ordered(&r) {
			accounts[i] = c.accountByPosition(&r, found[n], now)
		} else {
			accounts[i] = accountByMark(table.Judge(found[n], inboxEvent(&r), now), now)
		}
		if accounts[i] == account.Open {
			open = append(open, i)
		}
	}
	if c.keepMarks {
		return c.lookForMarks(ctx, events, open, accounts, consistent)
	}
	return open, nil
}

// lookForMarks is for the change-over to positions: a process that knows marks alone may have handled what no position says.
func (c *Consumer) lookForMarks(ctx context.Context, events []event.Event, at []int, accounts []account.Account, consistent bool) (open []int, err error) {
	table := &c.inbox.table
	var ordered []int
	var keys []rows.Item
	for _, i := range at {
		if r := Record(events[i]); c.ordered(&r) {
			ordered, keys = append(ordered, i), append(keys, table.MarkKey(inboxEvent(&r)))
		} else {
			open = append(open, i)
		}
	}
	found, err := table.Rows(ctx, keys, consistent)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	for n, i := range ordered {
		r := Record(events[i])
		switch accounts[i] = accountByMark(table.Judge(found[n], inboxEvent(&r), now), now); {
		case accounts[i] == account.Open && c.forgets(&r, now):
			accounts[i] = account.Forgotten
		case accounts[i] == account.Open:
			open = append(open, i)
		}
	}
	return open, nil
}

// accountByMark says what the row of an event means. If it belongs to another event, delivering this one says so.
func accountByMark(judged error, now time.Time) account.Account {
	claimed := (*inbox.ClaimedError)(nil)
	switch {
	case errors.Is(judged, inbox.ErrHandled):
		return account.Handled
	case errors.As(judged, &claimed) && !endless(claimed.Until, now):
		return account.Claimed
	}
	return account.Open
}

// endless reports whether a claim ends later than a claim can, by an hour for clocks that are off a little: it is of a machine whose clock was far
// ahead. The event is told, cycle for cycle; until the claim ends, delivering it fails.
func endless(until, now time.Time) bool { return until.After(now.Add(longestClaim + time.Hour)) }

// accountByPosition says what a position means for an event. If it cannot be read, delivering the event says so.
func (c *Consumer) accountByPosition(r *Record, row rows.Item, now time.Time) account.Account {
	place, err := c.order.inbox.table.PlaceOf(c.order.aggregate(r), row)
	if err != nil {
		return account.Open
	}
	switch order.Next(place.Position, orderEvent(r), c.order.from) {
	case order.Before:
		return account.Unwanted
	case order.Late:
		if r.Sequence < place.First {
			return account.Unwanted
		}
	case order.Duplicate: // also one that a person has passed
		return account.Handled
	case order.Run:
		if place.Claimed(now) && !endless(place.Until, now) {
			return account.Claimed
		}
	}
	return account.Open
}

// lookInLetters sets the accounts of those events that are dead letters, or were discarded as such. It returns which are still open.
func (c *Consumer) lookInLetters(ctx context.Context, events []event.Event, at []int, accounts []account.Account) (open []int, err error) {
	if c.dead == nil || len(at) == 0 {
		return at, nil
	}
	some := make([]event.Event, 0, len(at))
	for _, i := range at {
		some = append(some, events[i])
	}
	letters, err := c.dead.store.AreLetters(ctx, some)
	if err != nil {
		return nil, err
	}
	for n, i := range at {
		if letters[n] {
			accounts[i] = account.DeadLetter
		} else {
			open = append(open, i)
		}
	}
	return open, nil
}
