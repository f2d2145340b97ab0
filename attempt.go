package outbox

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/backoff"
	"github.com/seed-1b628d3f/outbox/internal/changerec"
	"github.com/seed-1b628d3f/outbox/internal/deadletter"
	"github.com/seed-1b628d3f/outbox/internal/usercode"
)

var errGoexit = errors.New("the handler ended its goroutine")

func noHandler(eventType string) error {
	return fmt.Errorf("event type %q has no handler", shorten(eventType))
}

// handle runs one record's handler and keeps what came of it, also when the handler panics or ends its goroutine.
func (c *Consumer) handle(handlers map[string]registration, d *delivery) {
	var ctx context.Context = d
	if !c.ours(d.record.Table) {
		d.finished = true
		c.tellOtherTable(ctx, &d.record)
		c.skipped(ctx, &d.record, notEventError(changerec.OtherTable))
		return
	}
	h, known := handlers[d.record.Type]
	if c.order != nil {
		c.tellUnordered(ctx, &d.record)
		if !known && c.ordered(&d.record) {
			h, known = registration{c.refuse, true}, true
		}
	}
	if !known && !c.failUnknownTypes {
		d.finished = true
		c.skipUnknown(ctx, &d.record)
		return
	}
	var started time.Time
	if len(c.hooks) > 0 {
		started = time.Now()
	}
	d.err = errGoexit
	defer func() {
		if v := recover(); v != nil {
			d.err = &PanicError{Value: v, Stack: debug.Stack()}
		}
		d.finished = d.err == nil
		if !d.finished {
			c.logFailure(ctx, &HandlerError{Record: d.record, Err: d.err}, d.judge(false))
		}
		switch {
		case len(c.hooks) == 0:
		case d.finished && atomic.LoadInt32(&d.known) == 1:
			c.duplicate(d)
		default:
			c.handled(d, time.Since(started))
		}
	}()
	if !known {
		d.err = Permanent(noHandler(d.record.Type))
		return
	}
	atomic.AddInt32(&d.calls, 1)
	atomic.StoreInt32(&d.known, 0)
	atomic.StoreInt32(&d.moved, 0)
	atomic.StoreInt32(&d.spent, 0)
	atomic.StoreInt32(&d.ahead, 0)
	d.err = handlersError(h.handler(d, d.record))
	if d.err == nil && c.ordered(&d.record) && atomic.LoadInt32(&d.moved) == 0 && atomic.LoadInt32(&d.known) == 0 {
		d.err = c.ignore(d, d.record) // middleware has left it out
	}
}

// handlersError is a handler's error for all that comes after the handler: its methods do not panic.
func handlersError(err error) error { return usercode.Error("the handler", err) }

// verdict is what an attempt at a delivery means. Attempts are counted in different places: in the dead letter table for Invoke and
// Process, with the lease for a Worker, in the letter for a redrive.
type verdict int8

const (
	settled  verdict = iota // the delivery is finished
	waits                   // it was not begun, or cut off, or something that the handler stands on is not there, or it has come nearer: this is no attempt
	lost                    // another transaction was faster; the handler reads anew the next time. This has a budget of its own
	failed                  // the handler has failed, and may do better the next time
	hopeless                // the handler has failed, and will not do better
)

// judge says what the last attempt means. cutOff says that the handler was told to stop before it had returned.
func (d *delivery) judge(cutOff bool) verdict {
	switch {
	case d.finished:
		return settled
	case cutOff, d.err == nil, isHeldUp(d.err):
		return waits
	case errors.Is(d.err, ErrPermanent): // waiting does not cure it, and a dead letter keeps the event
		return hopeless
	case errors.Is(d.err, ErrUnavailable), errors.Is(d.err, ErrConflict), d.progressed():
		return waits
	case isLostRace(d.err):
		return lost
	}
	return failed
}

// maxRaces is how many lost races of an event are too many to be chance: its condition will never hold.
const maxRaces = 1000

// counted is the verdict when all attempts at the event, with the last one, are n: hopeless if the failures are most, or the races too many,
// whichever the last one was.
func (v verdict) counted(n deadletter.Attempts, most int) verdict {
	if (v == failed || v == lost) && (n.Failed >= most || n.Lost >= maxRaces) {
		return hopeless
	}
	return v
}

// A lost race is run again in place, some times and after some time, which the races spread: less than two seconds in all, on average.
const maxReruns = 8

// tooEarlyDelay is how long an event waits in Invoke and Process for the one before it, which may be on its way.
const tooEarlyDelay = 500 * time.Millisecond

var rerunDelay = backoff.FullJitter{Base: 20 * time.Millisecond, Max: time.Second}

// isLostRace reports whether an error says that another transaction was faster than the handler's. A service may make an event's id from the
// version of its row, without sequencing it. Then the winner has stored an event of this id, and the row's condition fails as well.
func isLostRace(err error) bool {
	if errors.Is(err, ErrConditionFailed) || errors.Is(err, ErrSequenceTaken) {
		return true
	}
	tx := (*TransactionError)(nil)
	return errors.Is(err, ErrEventConflict) && errors.As(err, &tx) && slices.ContainsFunc(tx.Operations, func(o FailedOperation) bool {
		return o.EventID == "" && o.Code == codeConditionFailed
	})
}

// tableError is a failure of a table that kept an event from its handler, or what the handler returned from being committed.
type tableError struct{ err error }

func (e *tableError) Error() string { return e.err.Error() }
func (e *tableError) Unwrap() error { return e.err }

// isHeldUp reports whether an error says that another delivery or an outage of the library's tables holds up the event.
func isHeldUp(err error) bool {
	table, place := (*tableError)(nil), (*placeError)(nil)
	return errors.Is(err, ErrClaimed) || errors.As(err, &table) || errors.As(err, &place) && !place.late
}
