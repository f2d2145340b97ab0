package outbox

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/awserr"
	"github.com/seed-1b628d3f/outbox/internal/backoff"
	"github.com/seed-1b628d3f/outbox/internal/grace"
	"github.com/seed-1b628d3f/outbox/internal/inbox"
)

// Times of a guarded handler.
const (
	longestDeadline = 90 * time.Minute // of Lambda Managed Instances: a context's deadline makes no longer claim, unless WithClaimDuration does
	releaseTimeout  = time.Second
	completeTimeout = 10 * time.Second // three retries of the SDK, with the longest delays that throttling brings: 7 s
)

// guards reports whether WithInbox guards the plain handler of an event type.
func (c *Consumer) guards(eventType string) bool {
	return c.inbox != nil && (len(c.guarded) == 0 || slices.Contains(c.guarded, eventType))
}

func (c *Consumer) guard(next Handler) Handler {
	return func(ctx context.Context, r Record) error {
		e, done, err := c.entryOf(ctx, &r)
		if done || err != nil {
			return err
		}
		return c.inbox.claimed(ctx, r, e, next, c.logger)
	}
}

// checkGuards logs the event types of WithInbox that have no handler. If such a name is mistyped, a handler is left unguarded. It
// is only logged, since handlers may be registered later.
func (c *Consumer) checkGuards(handlers map[string]registration) {
	for _, eventType := range c.guarded {
		if _, known := handlers[eventType]; !known {
			c.logger.Error("outbox: WithInbox names an event type that has no handler: is the name right? Handlers of types that it does not name are not guarded",
				"type", eventType)
		}
	}
}

// claimed runs a handler under a claim.
func (i *Inbox) claimed(ctx context.Context, r Record, e entry, next Handler, logger *slog.Logger) error {
	now := time.Now()
	until, deadline := i.claimUntil(ctx, now)
	outer := ctx
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	claim := claimBy(ctx, &r)
	claim.Owner, claim.Until = rand.Text(), until
	switch err := e.claim(ctx, claim, now); {
	case errors.Is(err, inbox.ErrHandled):
		handledBefore(ctx)
		e.remember(ctx)
		return nil
	case err != nil:
		if err := inboxError(err); isHeldUp(err) || errors.Is(err, ErrPermanent) {
			return err
		}
		if !awserr.Refused(err) {
			release(outer, r, e, claim.Owner, logger) // the claim may be written nevertheless
		}
		return &tableError{fmt.Errorf("outbox: the event could not be claimed: %w", err)}
	}
	succeeded := false
	defer func() { // also when the handler panics or ends its goroutine
		if !succeeded {
			if ctx.Err() != nil {
				timeSpent(outer)
			}
			release(outer, r, e, claim.Owner, logger)
		}
	}()
	if err := ctx.Err(); err != nil {
		return &tableError{fmt.Errorf("outbox: claiming the event took all the time that its handler had: %w", err)}
	}
	if err := next(ctx, r); err != nil {
		return err
	}
	succeeded = true
	complete(outer, r, e, claim.Owner, logger)
	e.remember(ctx)
	return nil
}

// claimBy returns a claim with the shard and the fence of the Worker that delivers a record, if it is one.
func claimBy(ctx context.Context, r *Record) (c inbox.Claim) {
	if leases, ok := ctx.Value(leasesKey{}).(string); ok {
		c.Shard, c.Fence = leases+"#"+r.StreamARN+"#"+r.ShardID, r.Fence
	}
	return c
}

// claimUntil returns when a claim made now ends, and when the handler's context ends before it. Both times keep the monotonic
// reading of now, so that a step of this machine's clock does not move the end of the handler.
func (i *Inbox) claimUntil(ctx context.Context, now time.Time) (until, deadline time.Time) {
	until = now.Add(i.claim)
	if d, ok := ctx.Deadline(); ok {
		until = now.Add(min(time.Until(d), max(i.claim, longestDeadline)))
	}
	return until, until.Add(-min(until.Sub(now)/10, time.Second))
}

// release gives a claim back. If this fails, the claim ends at its time.
func release(ctx context.Context, r Record, e entry, owner string, logger *slog.Logger) {
	ctx, cancel := grace.After(ctx, releaseTimeout)
	defer cancel()
	if err := e.release(ctx, owner); err != nil && !errors.Is(err, inbox.ErrLost) {
		logger.WarnContext(ctx, "outbox: a claim is not given back, the event waits for its end", "event", r.ID, "type", r.Type, "error", err)
	}
}

var completeDelay = backoff.FullJitter{Base: 50 * time.Millisecond, Max: time.Second}

// complete turns a claim into the mark. The effect has happened, so the delivery is a success even if complete fails.
func complete(ctx context.Context, r Record, e entry, owner string, logger *slog.Logger) {
	ctx, cancel := grace.After(ctx, completeTimeout)
	defer cancel()
	for n := 1; ; n++ {
		err := e.complete(ctx, owner, time.Now())
		if err == nil {
			return
		}
		if errors.Is(err, inbox.ErrLost) || awserr.Refused(err) && !awserr.IsThrottling(awserr.Code(err)) || backoff.Wait(ctx, completeDelay.Delay(n)) != nil {
			logger.WarnContext(ctx, "outbox: an event was handled, and is not marked as handled: if it is delivered again, it may be handled again",
				"event", r.ID, "type", r.Type, "error", err)
			return
		}
	}
}

// leasesKey is the key of a context's value: the name of the leases that number the fences of its records. Fences of other
// leases cannot be compared with them.
type leasesKey struct{}
