package outbox

import (
	"context"
	"errors"
)

// Ignore registers event types that the consumer does not want. Of a sequenced event (WithOrder), it moves the position of the aggregate on, with one
// write, so that the next one can be handled. Another event counts as handled, without a word in the log. Ignore panics like Handle.
func Ignore(c *Consumer, eventTypes ...string) {
	if c == nil {
		panic("outbox: Ignore: the Consumer is nil")
	}
	for _, eventType := range eventTypes {
		if eventType == "" {
			panic("outbox: Ignore: an event type is empty")
		}
		c.add(eventType, c.ignore, false)
	}
}

func (c *Consumer) ignore(ctx context.Context, r Record) error {
	if !c.ordered(&r) {
		return nil
	}
	e, done, err := c.entryOf(ctx, &r)
	if done || err != nil {
		return err
	}
	if err := keepAlone(ctx, e); err != nil {
		return err
	}
	e.remember(ctx)
	return nil
}

// refuse is the handler of a sequenced event whose type has none: what is before it is handled, and then it fails.
func (c *Consumer) refuse(ctx context.Context, r Record) error {
	e, done, err := c.entryOf(ctx, &r)
	if done || err != nil {
		return err
	}
	refused := Permanent(errors.Join(noHandler(r.Type), errors.New("in an order nothing is passed over: register a handler, or Ignore")))
	if err := unlessHandled(ctx, e, refused); err != nil {
		return err
	}
	handledBefore(ctx) // by a process that has a handler
	return nil
}
