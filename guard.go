package outbox

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/backoff"
	"github.com/seed-1b628d3f/outbox/internal/inbox"
)

// Times of a guarded handler.
const (
	longestDeadline = 90 * time.Minute // of Lambda Managed Instances: a context's deadline makes no longer claim, unless WithClaimDuration does
	releaseTimeout  = time.Second
	completeTimeout = 10 * time.Second // three retries of the SDK, with the longest delays that throttling brings: 7 s
)

// guard wraps a plain handler as WithInbox says.
func (c *Consumer) guard(eventType string, next Handler) Handler {
	if c.inbox == nil || len(c.guarded) > 0 && !slices.Contains(c.guarded, eventType) {
		return next
	}
	return func(ctx context.Context, r Record) error {
		e, err := c.inbox.eventOf(&r)
		if err != nil {
			return err
		}
		if done, err := c.inbox.remembered(e); done || err != nil {
			return err
		}
		return c.claimed(ctx, r, e, next)
	}
}

// checkGuards tells of event types that are to be guarded and have no handler: a name that is mistyped leaves another one's handler
// unguarded. It is not an error, since handlers may be registered later.
func (c *Consumer) checkGuards(handlers map[string]Handler) {
	for _, eventType := range c.guarded {
		if _, known := handlers[eventType]; !known {
			c.logger.Error("outbox: WithInbox names an event type that has no handler: is the name right? Handlers of types that it does not name are not guarded",
				"type", eventType)
		}
	}
}

// claimed runs a handler under a claim.
func (c *Consumer) claimed(ctx context.Context, r Record, e inbox.Event, next Handler) error {
	i := c.inbox
	now := time.Now()
	until, deadline := i.claimUntil(ctx, now)
	outer := ctx
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	claim := inbox.Claim{Owner: rand.Text(), Until: until}
	if leases, ok := ctx.Value(leasesKey{}).(string); ok {
		claim.Shard, claim.Fence = leases+"#"+r.StreamARN+"#"+r.ShardID, r.Fence
	}
	switch err := i.table.Claim(ctx, e, claim, now); {
	case errors.Is(err, inbox.ErrHandled):
		i.remember(e)
		return nil
	case err != nil:
		if err := inboxError(err); errors.Is(err, ErrClaimed) || errors.Is(err, ErrPermanent) {
			return err
		}
		if !answered(err) {
			c.release(outer, e, claim.Owner) // it may have been written all the same
		}
		return &tableError{fmt.Errorf("outbox: the event could not be claimed: %w", err)}
	}
	succeeded := false
	defer func() { // also when the handler panics or ends its goroutine
		if !succeeded {
			c.release(outer, e, claim.Owner)
		}
	}()
	if err := ctx.Err(); err != nil {
		return &tableError{fmt.Errorf("outbox: claiming the event took all the time that its handler had: %w", err)}
	}
	if err := next(ctx, r); err != nil {
		return err
	}
	succeeded = true
	c.complete(outer, e, claim.Owner)
	i.remember(e)
	return nil
}

// claimUntil returns when a claim ends that is made now, and when its handler's context does. The times have a monotonic reading where
// they can, so that a step of this machine's clock does not move the handler's end.
func (i *Inbox) claimUntil(ctx context.Context, now time.Time) (until, deadline time.Time) {
	until = now.Add(i.claim)
	if d, ok := ctx.Deadline(); ok {
		until = now.Add(min(time.Until(d), max(i.claim, longestDeadline)))
	}
	return until, until.Add(-min(until.Sub(now)/10, time.Second))
}

// release gives a claim back. If that fails, the claim ends by itself.
func (c *Consumer) release(ctx context.Context, e inbox.Event, owner string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	if err := c.inbox.table.Release(ctx, e, owner); err != nil && !errors.Is(err, inbox.ErrLost) {
		c.logger.WarnContext(ctx, "outbox: a claim is not given back, the event waits for its end", "event", e.ID, "type", e.Type, "error", err)
	}
}

var completeDelay = backoff.FullJitter{Base: 50 * time.Millisecond, Max: time.Second}

// complete turns a claim into the mark. The effect has happened, so nothing that goes wrong here is the delivery's failure.
func (c *Consumer) complete(ctx context.Context, e inbox.Event, owner string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), completeTimeout)
	defer cancel()
	for n := 1; ; n++ {
		err := c.inbox.table.Complete(ctx, e, owner, time.Now())
		if err == nil {
			return
		}
		if errors.Is(err, inbox.ErrLost) || answered(err) && !isThrottling(codeOf(err)) || backoff.Wait(ctx, completeDelay.Delay(n)) != nil {
			c.logger.WarnContext(ctx, "outbox: an event was handled, and is not marked as handled: if it is delivered again, it may be handled again",
				"event", e.ID, "type", e.Type, "error", err)
			return
		}
	}
}

// leasesKey is the key of a context's value that names the leases whose fences its records have: fences of others are other numbers.
type leasesKey struct{}
