package outbox

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox/internal/inbox"
	"github.com/seed-1b628d3f/outbox/internal/usercode"
)

// Effects are what a handler of HandleTx wants to commit. The zero value commits the mark alone.
type Effects struct {
	// Writes are operations on the caller's tables, as for Writer.Transact. Writes and Events together are at most 99, with KeepMarks 98.
	Writes []types.TransactWriteItem
	// Events are stored as by Writer.Transact. NewEvent may make a new id in every run of the handler, since only one run is
	// committed.
	Events []AnyEvent
}

// HandleTx registers h for the event type that T names. h only reads and computes: w commits the Effects that h returns, in one
// transaction with the mark that the event was handled, or with its aggregate's position (WithOrder). So every effect is committed exactly once, however often the event is
// delivered, to however many processes at once, and wherever a process crashes or an answer is lost. h itself may run more than
// once, also in two processes at a time.
//
// If h has lost a race, it runs again after a random delay, and shall read anew: in Invoke, Process and a redrive up to eight times, as long as
// the context allows; for a Worker see WithHandlerRetry. A lost race is ErrConditionFailed or ErrSequenceTaken (or ErrEventConflict beside a
// failed condition). ErrConflict is contention: h is run again, too, and it is never counted. Neither is an attempt. How many lost races are
// too many is in docs/ordering-and-duplicates.md. It does not matter whether the commit or h itself returns the error.
//
// The delivery of an event that was handled before is a success, even if h or a condition of its Writes fails this time.
// Otherwise the delivery fails with the error of h, a *PanicError, or the error of Writer.Transact. Then nothing was committed, or,
// with ErrUnknownOutcome, perhaps all; a later delivery finds out. If the mark cannot be read after a failure, the error is not
// permanent. If a guarded handler holds a claim on the event, the error is ErrClaimed. If another transaction has stored the
// Events, even with the same content, the error is ErrEventConflict, or ErrSequenceTaken, which matches it. ErrClaimed does not count as an
// attempt. Neither does ErrUnknownOutcome, unless the context of the delivery has ended.
//
// w and the Inbox must be of one account and Region. w's hooks are told of each commit, but not of a mark without effects. HandleTx
// panics like Handle, and also if the Consumer has no Inbox (WithInbox), if w is nil, or if w's events table is the inbox table.
//
// What a duplicate costs is in docs/ordering-and-duplicates.md. See also
// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html.
func HandleTx[T Payload](c *Consumer, w *Writer, h func(context.Context, Event[T]) (Effects, error)) {
	HandleTxType(c, w, typeNamedBy[T]("HandleTx"), h)
}

// HandleTxType is HandleTx for payload types that do not name their event type.
func HandleTxType[T any](c *Consumer, w *Writer, eventType string, h func(context.Context, Event[T]) (Effects, error)) {
	switch {
	case c == nil:
		panic("outbox: HandleTxType: the Consumer is nil")
	case c.inbox == nil:
		panic(fmt.Sprintf("outbox: HandleTxType: the Consumer of %q has no Inbox (WithInbox)", eventType))
	case w == nil:
		panic(fmt.Sprintf("outbox: HandleTxType: the Writer of %q is nil", eventType))
	case w.client == nil:
		panic(fmt.Sprintf("outbox: HandleTxType: the Writer of %q was not made by NewWriter", eventType))
	case w.table == c.inbox.table.Name:
		panic(fmt.Sprintf("outbox: HandleTxType: %q is the events table and the inbox table", w.table))
	case h == nil:
		panic(fmt.Sprintf("outbox: HandleTxType: the handler of %q is nil", eventType))
	case eventType == "":
		panic(fmt.Sprintf("outbox: HandleTxType: the event type of %s is empty", reflect.TypeFor[T]()))
	}
	decode := decoder[T](c)
	c.add(eventType, func(ctx context.Context, r Record) error {
		return c.handleTx(ctx, w, &r, func() (Effects, error) {
			e, err := decode(&r)
			if err != nil {
				return Effects{}, err
			}
			return h(ctx, e)
		})
	}, true)
}

// handleTx runs a handler and commits its effects, unless the event was handled before.
func (c *Consumer) handleTx(ctx context.Context, w *Writer, r *Record, run func() (Effects, error)) error {
	e, done, err := c.entryOf(ctx, r)
	if done || err != nil {
		return err
	}
	switch effects, err := computed(run); {
	case err != nil:
		if err := unlessHandled(ctx, e, err); err != nil {
			return err
		}
		handledBefore(ctx)
	case len(effects.Writes)+len(effects.Events) == 0:
		if err := keepAlone(ctx, e); err != nil {
			return err
		}
	default:
		if err := commit(ctx, w, e, effects); err != nil {
			if ctx.Err() == nil && errors.Is(err, ErrUnknownOutcome) {
				return &tableError{err} // not the fault of the handler
			}
			return err
		}
	}
	e.remember(ctx)
	return nil
}

// keepAlone keeps an event without effects as handled.
func keepAlone(ctx context.Context, e entry) error {
	switch err := e.alone(ctx, time.Now()); {
	case errors.Is(err, inbox.ErrHandled):
		handledBefore(ctx)
	case err != nil:
		return entryError(err)
	}
	return nil
}

// entryError is the error of an entry as the delivery sees it.
func entryError(err error) error {
	if err := inboxError(err); isHeldUp(err) || errors.Is(err, ErrPermanent) {
		return err
	}
	return &tableError{err}
}

// computed runs a handler. A panic becomes an error, since the reason may be what an earlier run has changed.
func computed(run func() (Effects, error)) (effects Effects, err error) {
	if p := usercode.Run(func() { effects, err = run() }); p != nil {
		err = &PanicError{Value: p.Value, Stack: p.Stack}
	}
	return effects, err
}

// commit commits the effects and the entry, and tells the hooks.
func commit(ctx context.Context, w *Writer, e entry, effects Effects) error {
	started := time.Now()
	var info WriteInfo
	err := w.transact(ctx, effects.Writes, effects.Events, e.extras(started), &info)
	judged := (*judgedError)(nil)
	switch {
	case err == nil, errors.As(err, &judged): // the answer has shown the row
	case errors.Is(err, ErrConflict): // nothing was written, and the next delivery will know
	default:
		if err = unlessHandled(ctx, e, err); err == nil {
			info.Duplicate = true
		}
	}
	if info.Duplicate && info.Attempts <= 1 { // with more, the first one may have committed it
		handledBefore(ctx)
	}
	info.Took = time.Since(started)
	return w.tell(ctx, info, err)
}

// judgedError is what the row that made a transaction fail says about the event.
type judgedError struct{ error }

func (e *judgedError) Unwrap() error { return e.error }

// judged is the word of an extra operation's judge: nil if the event was handled.
func judged(err error) error {
	if err == nil || errors.Is(err, inbox.ErrHandled) {
		return nil
	}
	return &judgedError{inboxError(err)}
}

// unlessHandled returns err, or nil if the event was handled before: then the effects of the first run may be what made the
// second fail. It reads the entry once, consistently. If this read fails, the error is not permanent.
func unlessHandled(ctx context.Context, e entry, err error) error {
	if ctx.Err() != nil {
		return &undecidedError{err, ctx.Err()} // the next delivery reads the entry
	}
	looked := e.look(ctx, time.Now())
	switch {
	case looked == nil:
		return err
	case errors.Is(looked, inbox.ErrHandled):
		return nil
	}
	if claimed := (*inbox.ClaimedError)(nil); errors.As(looked, &claimed) {
		return err // not handled yet
	}
	if other := inboxError(looked); errors.Is(other, ErrPermanent) {
		return errors.Join(other, err)
	}
	return &tableError{&undecidedError{err, looked}}
}

// undecidedError is the failure of an event of which nobody knows whether it was handled before. It matches what its two errors
// match, except ErrPermanent: a duplicate must not become a dead letter.
type undecidedError struct{ err, looked error }

func (e *undecidedError) Error() string {
	return fmt.Sprintf("%v; outbox: whether the event was handled before is not known: %v", e.err, e.looked)
}

func (e *undecidedError) Is(target error) bool {
	return target != ErrPermanent && (errors.Is(e.err, target) || errors.Is(e.looked, target))
}

func (e *undecidedError) As(target any) bool {
	return errors.As(e.err, target) || errors.As(e.looked, target)
}
