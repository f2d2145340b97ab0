package replay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/backoff"
)

// ReconcileEvery calls Reconcile in the middle of each o.Every until ctx ends, and hands told what it returns. It is for a program that runs all the
// time, beside a Worker:
//
//	events.ReconcileEvery(ctx, consumer, options, worker.HoldsFirstShard, told)
//
// Of a fleet in which each program does this, the one whose turn it is reads the segment; without turn (nil) all of them do, at a multiple of the
// price. turn is asked from the middle of each o.Every on, again and again, until it is this program's turn or nine tenths of o.Every have passed. So
// if a program is killed meanwhile, the one whose turn it is then reads the segment from its beginning. turn and told are called by the goroutine that has called ReconcileEvery.
//
// A call has until the end of its slot, and then ends with context.DeadlineExceeded: give the Cycle more segments. If it takes longer nevertheless, as
// with a handler that goes on, told gets an error for each segment, of a cycle at most, that was left out meanwhile.
//
// ReconcileEvery returns nil when ctx has ended; the handlers that it has called have ended before. It returns an error at once if Reconcile would
// refuse its arguments, or if o.Every is zero or told is nil. An error of Reconcile or of turn ends nothing: told gets it, with a zero result if it is
// one of turn. After an error of Reconcile the segment is read in the next cycle again, and not before.
func (e *Events) ReconcileEvery(ctx context.Context, c *outbox.Consumer, o ReconcileOptions, turn func(context.Context) (bool, error), told func(ReconcileResult, error)) error {
	_, err := e.newReconciliation(c, o, time.Now())
	switch {
	case err != nil:
	case o.Every == 0:
		err = errors.New("no Every: want how often, have 0")
	case told == nil:
		err = errors.New("told is nil: nobody would hear of what is undelivered")
	}
	if err != nil {
		return fmt.Errorf("replay: ReconcileEvery: %w", err)
	}
	var done time.Time // the beginning of the last slot that was read here
	for {
		now := time.Now()
		slot := o.slotAt(now)
		next := slot.Add(o.Every / 2)
		switch {
		case slot.Equal(done) || now.After(o.latest(slot)): // a call that begins later could read the next segment
			next = next.Add(o.Every)
		case !now.Before(next):
			next = now.Add(o.Every / turns)
			mine, err := true, error(nil)
			within, cancel := context.WithDeadline(ctx, slot.Add(o.Every))
			if turn != nil {
				mine, err = turn(within)
			}
			switch {
			case ctx.Err() != nil:
			case err != nil:
				told(ReconcileResult{}, fmt.Errorf("replay: ReconcileEvery: whose turn it is: %w", err))
			case mine:
				told(e.Reconcile(within, c, o))
				done = slot
				if ctx.Err() == nil {
					o.tellPassed(slot, time.Now(), told)
				}
			}
			cancel()
		}
		if backoff.Sleep(ctx, time.Until(next)) != nil {
			return nil
		}
	}
}

// turns is how often in o.Every a program asks at most whether it is its turn: often enough that a program that takes over has time to read.
const turns = 20

// latest returns when a call in a slot begins at the latest.
func (o *ReconcileOptions) latest(slot time.Time) time.Time { return slot.Add(o.Every * 9 / 10) }

// tellPassed tells of each slot after the one of a call that has just ended in which no call can begin any more: a cycle's at most.
func (o *ReconcileOptions) tellPassed(slot, now time.Time, told func(ReconcileResult, error)) {
	next := slot.Add(o.Every)
	if first := o.slotAt(now.Add(-o.Cycle)); first.After(next) {
		next = first
	}
	for ; now.After(o.latest(next)); next = next.Add(o.Every) {
		var r ReconcileResult
		r.Segment, r.Segments = o.segmentAt(next)
		told(r, fmt.Errorf("replay: ReconcileEvery: segment %d of %d was not read in its time: the call before took until %s", r.Segment, r.Segments, now.UTC().Format(time.RFC3339)))
	}
}

// slotAt returns when the slot of a time has begun.
func (o *ReconcileOptions) slotAt(now time.Time) time.Time {
	return time.Unix(now.Unix()-now.Unix()%int64(o.Every/time.Second), 0)
}
