package outbox

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox/internal/inbox"
)

// Effects are what a handler of HandleTx wants to be committed. The zero value is nothing.
type Effects struct {
	// Writes are operations on the caller's tables, as for Writer.Transact. With the Events there are at most 99.
	Writes []types.TransactWriteItem
	// Events are stored as Writer.Transact does it. Those made by NewEvent get a new id in every run of the handler, which is right
	// here: only one run is committed.
	Events []AnyEvent
}

// HandleTx registers h for the event type that T names. h does nothing but read and compute: what it returns is committed by w in one
// transaction with the mark that the event was handled, so every effect is committed exactly once, however often the event is delivered,
// to however many processes at once, and wherever a process crashes or an answer is lost. h itself may run again, also at the same time
// as another run of it.
//
// A delivery of an event that was handled before is a success without effects, even if h or a condition of its Writes fails this time:
// after such an error the mark is looked at, with one consistent read. If that read fails, too, the error matches both, and is not
// permanent. A duplicate that this process remembers (WithInboxCache) costs neither a run of h nor a call; another one costs a run and a
// transaction that is refused. Without writes and events, the mark alone is written, with one conditional write.
//
// A condition of h's Writes that fails although the event was not handled is the delivery's error (ErrConditionFailed), like everything
// else that makes Writer.Transact fail; a panic of h is a *PanicError. Nothing is committed then, and the event is delivered again. A
// mark that cannot be committed since a guarded handler has the event claimed is ErrClaimed. A commit that meets an outage, throttling or
// other transactions until its attempts are spent (ErrUnknownOutcome, ErrConflict) is no attempt at the event, unless the context's deadline
// passes meanwhile, as that of an invocation. Events that are stored already, without the mark, are ErrEventConflict, also when they are the
// same: another transaction wrote them.
//
// w's hooks are told of each commit, except for a mark alone. w and the Inbox must be of one account and Region, and w's client may
// write to the inbox table (dynamodb:PutItem). The effects are remembered for as long as WithInboxTTL says.
//
// It panics like Handle, and if the Consumer has no Inbox (WithInbox), if w is nil, or if w's events table is the inbox table.
//
// See https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html.
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
	case w.table == c.inbox.table.Name:
		panic(fmt.Sprintf("outbox: HandleTxType: %q is the events table and the inbox table", w.table))
	case h == nil:
		panic(fmt.Sprintf("outbox: HandleTxType: the handler of %q is nil", eventType))
	case eventType == "":
		panic(fmt.Sprintf("outbox: HandleTxType: the event type of %s is empty", reflect.TypeFor[T]()))
	}
	decode := decoder[T](c)
	c.add(eventType, func(ctx context.Context, r Record) error {
		return c.inbox.handleTx(ctx, w, &r, func() (Effects, error) {
			e, err := decode(&r)
			if err != nil {
				return Effects{}, err
			}
			return h(ctx, e)
		})
	})
}

// handleTx runs a handler and commits its effects, unless that was done before.
func (i *Inbox) handleTx(ctx context.Context, w *Writer, r *Record, run func() (Effects, error)) error {
	e, err := i.eventOf(r)
	if err != nil {
		return err
	}
	if done, err := i.remembered(e); done || err != nil {
		return err
	}
	switch effects, err := computed(run); {
	case err != nil:
		if err := i.unlessHandled(ctx, e, err); err != nil {
			return err
		}
	case len(effects.Writes)+len(effects.Events) == 0:
		if err := i.table.MarkAlone(ctx, e, time.Now()); err != nil && !errors.Is(err, inbox.ErrHandled) {
			if err := inboxError(err); errors.Is(err, ErrClaimed) || errors.Is(err, ErrPermanent) {
				return err
			}
			return &tableError{err}
		}
	default:
		if err := i.commit(ctx, w, e, effects); err != nil {
			if ctx.Err() == nil && (errors.Is(err, ErrUnknownOutcome) || errors.Is(err, ErrConflict)) {
				return &tableError{err} // the handler has done its part
			}
			return err
		}
	}
	i.remember(e)
	return nil
}

// computed runs a handler. A panic becomes an error, since it may come from what an earlier run has changed.
func computed(run func() (Effects, error)) (effects Effects, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return run()
}

// commit commits effects and mark.
func (i *Inbox) commit(ctx context.Context, w *Writer, e inbox.Event, effects Effects) error {
	started := time.Now()
	var info WriteInfo
	err := w.transact(ctx, effects.Writes, effects.Events, i.mark(e, started), &info)
	claimed, other := (*claimedError)(nil), (*inbox.OtherEventError)(nil)
	switch {
	case err == nil, errors.As(err, &claimed), errors.As(err, &other): // the answer has shown the row
	case errors.Is(err, ErrConflict): // nothing was written, and the next delivery will know
	default:
		if err = i.unlessHandled(ctx, e, err); err == nil {
			info.Duplicate = true
		}
	}
	info.Took = time.Since(started)
	return w.tell(ctx, info, err)
}

// mark is the operation that marks an event as handled, within the transaction of its effects.
func (i *Inbox) mark(e inbox.Event, now time.Time) *extra {
	put := i.table.Mark(e, now)
	return &extra{
		write: types.TransactWriteItem{Put: put},
		key:   inbox.Key(put.Item),
		name:  "the inbox's mark",
		row:   "the row of the handled event in the inbox",
		form:  `the inbox table needs the partition key "` + inbox.KeyID + `" and the sort key "` + inbox.KeyConsumer + `" of type S`,
		judge: func(old map[string]types.AttributeValue) error {
			err := inbox.Blocked(old, e, now)
			if errors.Is(err, inbox.ErrHandled) {
				return nil
			}
			return inboxError(err)
		},
	}
}

// unlessHandled returns err unless the event was handled: then the failure comes from what was done before, and is none.
func (i *Inbox) unlessHandled(ctx context.Context, e inbox.Event, err error) error {
	if ctx.Err() != nil {
		return &undecidedError{err, ctx.Err()} // whoever delivers the event again will know
	}
	looked := i.table.Look(ctx, e, time.Now())
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

// undecidedError is a failure that may come from what was done before. It matches what both errors do, except that it is not permanent:
// another look may find the mark.
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
