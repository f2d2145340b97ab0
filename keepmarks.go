package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/inbox"
)

// KeepMarks is for the change-over to WithOrder of a consumer that has handled events by their marks: processes without WithOrder may run beside
// those with both options. A sequenced event is looked up by its mark before its handler runs, and committed with its mark beside its position. What
// is marked moves the position alone. So each event has its effects once, whichever process handles it. The order holds for what is handled after
// the last process without WithOrder has ended. Each event costs a read and a write more than with WithOrder alone, and the Effects of a handler
// have at most 98 Writes and Events. Default: positions alone.
//
// Do not use an aggregate's id again meanwhile, also not after Inbox.Forget: a mark of its earlier life would move the position without a run. Pass and
// Inbox.Discard write no mark, so a process without WithOrder handles their event if it gets it.
//
// KeepMarks needs WithOrder with a time from: later than what the Inbox has forgotten (now less WithInboxTTL), and earlier than every event that is
// not handled yet. Handlers are those of HandleTx and Ignore: Handle panics for a guarded one. docs/ordering-and-duplicates.md has the steps, and
// what must be done before KeepMarks may go.
func KeepMarks() ConsumerOption {
	return consumerOption(func(c *consumerConfig) error {
		c.keepMarks = true
		return nil
	})
}

// checkKeepMarks returns what does not go together with KeepMarks.
func (c *consumerConfig) checkKeepMarks() error {
	switch {
	case !c.keepMarks:
		return nil
	case c.order == nil:
		return errors.New("KeepMarks: it needs WithOrder")
	case c.order.from.IsZero():
		return errors.New("KeepMarks: WithOrder needs a time from: the Inbox has forgotten what was handled long ago, and it would be handled again")
	case c.inbox != nil && time.Since(c.order.from) > c.inbox.ttl:
		return fmt.Errorf("KeepMarks: from is %s, and the Inbox forgets after %s (WithInboxTTL): what was handled first would be handled again. Want a later from, or no KeepMarks if the change-over is done",
			c.order.from.UTC().Format(time.RFC3339), c.inbox.ttl)
	}
	return nil
}

// errMarked says that an event was handled by a process that knows no positions.
var errMarked = errors.New("the event is marked as handled")

// unlessMarked returns the entry of an event that is the next one, or moves the position over it if it is marked.
func (o *ordering) unlessMarked(ctx context.Context, r *Record, next *positionEntry) (e entry, handled bool, err error) {
	event, err := o.inbox.eventOf(r)
	if err != nil {
		return nil, false, err
	}
	marked, err := o.inbox.handled(ctx, r)
	switch {
	case err != nil:
		return nil, false, entryError(err)
	case !marked:
		return &markedEntry{next, &markEntry{o.inbox, event}}, false, nil
	}
	if err := next.alone(ctx, time.Now()); err != nil && !errors.Is(err, inbox.ErrHandled) {
		return nil, false, entryError(err)
	}
	next.remember(ctx)
	return nil, true, nil
}

// markedEntry is the position of an aggregate, and beside it the mark of the event that is the next one. The mark decides whether the event was
// handled; a position that is behind it moves on.
type markedEntry struct {
	*positionEntry
	mark *markEntry
}

func (m *markedEntry) extras(now time.Time) []*extra {
	marks := m.mark.extras(now)
	for _, x := range marks {
		judge := x.judge
		x.judge = func(old inbox.Item) error {
			if err := judge(old); err != nil {
				return err
			}
			return errMarked // the position has not moved
		}
	}
	return append(m.positionEntry.extras(now), marks...)
}

// alone writes the mark first: who dies before the position moves leaves what a process without positions leaves.
func (m *markedEntry) alone(ctx context.Context, now time.Time) error {
	marked := m.mark.alone(ctx, now)
	if marked != nil && !errors.Is(marked, inbox.ErrHandled) {
		return marked
	}
	if err := m.positionEntry.alone(ctx, now); err != nil {
		return err
	}
	return marked
}

func (m *markedEntry) look(ctx context.Context, now time.Time) error {
	if err := m.positionEntry.look(ctx, now); err != nil {
		return err
	}
	marked := m.mark.look(ctx, now)
	if !errors.Is(marked, inbox.ErrHandled) {
		return marked
	}
	if err := m.positionEntry.alone(ctx, now); err != nil {
		return err
	}
	return marked
}
