package outbox

import (
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/changerec"
)

var errGoexit = errors.New("the handler ended its goroutine")

func noHandler(eventType string) error { return fmt.Errorf("event type %q has no handler", eventType) }

// handle runs one record's handler and keeps what came of it, also when the handler panics or ends its goroutine.
func (c *Consumer) handle(handlers map[string]Handler, d *delivery) {
	ctx := d.Context
	if !c.ours(d.record.Table) {
		d.finished = true
		c.tellOtherTable(ctx, &d.record)
		c.skipped(ctx, &d.record, notEventError(changerec.OtherTable))
		return
	}
	h, known := handlers[d.record.Type]
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
		if d.err != nil {
			c.logFailure(ctx, &HandlerError{Record: d.record, Err: d.err})
		}
		d.finished = d.err == nil
		if len(c.hooks) > 0 {
			c.handled(ctx, d, time.Since(started))
		}
	}()
	if !known {
		d.err = Permanent(noHandler(d.record.Type))
		return
	}
	d.err = h(d, d.record)
	askOnce(d.err)
}

// askOnce asks a handler's error all that is asked of it later. A method of the error that panics does so here, where the panic is the
// handler's, and not where it would take the process along.
func askOnce(err error) {
	if err == nil {
		return
	}
	_ = err.Error()
	_ = errors.Is(err, ErrPermanent)
	_ = errors.As(err, new(*PanicError))
	_ = isWaiting(err)
	_ = errors.As(err, new(*claimedError))
}

// verdict is what an attempt at a delivery means. Attempts are counted in different places: in the dead letter table for Invoke and
// Process, with the lease for a Worker, in the letter for a redrive.
type verdict int

const (
	settled  verdict = iota // the delivery is finished
	waits                   // it was not begun, or cut off, or something that the handler stands on is not there: this is no attempt
	failed                  // the handler has failed, and may do better the next time
	hopeless                // the handler has failed, and will not do better
)

// judge says what the last attempt means. cutOff says that the handler was told to stop before it had returned.
func (d *delivery) judge(cutOff bool) verdict {
	switch {
	case d.finished:
		return settled
	case cutOff, d.err == nil, isWaiting(d.err):
		return waits
	case errors.Is(d.err, ErrPermanent):
		return hopeless
	}
	return failed
}

// after is the verdict once the failure is counted: n attempts of most have failed.
func (v verdict) after(n, most int) verdict {
	if v == failed && n >= most {
		return hopeless
	}
	return v
}

// tableError is a failure of a table that kept an event from its handler, or what the handler returned from being committed.
type tableError struct{ err error }

func (e *tableError) Error() string { return e.err.Error() }
func (e *tableError) Unwrap() error { return e.err }

// isWaiting reports whether an error says that something the handler stands on is not there.
func isWaiting(err error) bool {
	table := (*tableError)(nil)
	return errors.Is(err, ErrClaimed) || errors.As(err, &table) && table != nil // an error's own As may set nothing
}
