package outbox

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox/internal/inbox"
)

// entry is what the inbox keeps of an event: a mark of its own, or the position of its aggregate (WithOrder). The errors are those of
// internal/inbox; inboxError makes them those that callers see.
type entry interface {
	// extras returns the operations that keep the event as handled, within the transaction of its effects.
	extras(now time.Time) []*extra
	// alone keeps it as handled with a write of its own. inbox.ErrHandled says that it was handled before.
	alone(ctx context.Context, now time.Time) error
	// look asks the table, with a consistent read: nil means that the event is free to be handled.
	look(ctx context.Context, now time.Time) error
	claim(ctx context.Context, c inbox.Claim, now time.Time) error
	complete(ctx context.Context, owner string, now time.Time) error
	release(ctx context.Context, owner string) error
	// remember notes that it is handled.
	remember(ctx context.Context)
}

// entryOf returns what the inbox keeps of an event that is about to be handled. handled says that it was handled before. With WithOrder, what is
// before the event has been handled then.
func (c *Consumer) entryOf(ctx context.Context, r *Record) (e entry, handled bool, err error) {
	if c.ordered(r) {
		return c.order.entry(ctx, c, r)
	}
	event, err := c.inbox.eventOf(r)
	if err != nil {
		return nil, false, err
	}
	handled, err = c.inbox.remembered(ctx, event)
	return &markEntry{c.inbox, event}, handled, err
}

// markEntry is the mark of an event.
type markEntry struct {
	inbox *Inbox
	event inbox.Event
}

func (m *markEntry) alone(ctx context.Context, now time.Time) error {
	return m.inbox.table.MarkAlone(ctx, m.event, now)
}

func (m *markEntry) look(ctx context.Context, now time.Time) error {
	return m.inbox.table.Look(ctx, m.event, now)
}

func (m *markEntry) claim(ctx context.Context, c inbox.Claim, now time.Time) error {
	return m.inbox.table.Claim(ctx, m.event, c, now)
}

func (m *markEntry) complete(ctx context.Context, owner string, now time.Time) error {
	return m.inbox.table.Complete(ctx, m.event, owner, now)
}

func (m *markEntry) release(ctx context.Context, owner string) error {
	return m.inbox.table.Release(ctx, m.event, owner)
}

func (m *markEntry) remember(context.Context) { m.inbox.remember(m.event) }

func (m *markEntry) extras(now time.Time) []*extra {
	table := &m.inbox.table
	put := table.Mark(m.event, now)
	return []*extra{{
		write: types.TransactWriteItem{Put: put},
		key:   inbox.Key(put.Item),
		name:  "the inbox's mark",
		row:   "the row of the handled event in the inbox",
		form:  inboxForm,
		judge: func(old map[string]types.AttributeValue) error { return judged(table.Blocked(old, m.event, now)) },
	}}
}

const inboxForm = `the inbox table needs the partition key "` + inbox.KeyID + `" and the sort key "` + inbox.KeyConsumer + `" of type S`
