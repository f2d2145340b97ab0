package outbox

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/backoff"
	"github.com/seed-1b628d3f/outbox/internal/grace"
	"github.com/seed-1b628d3f/outbox/internal/lanes"
)

// batch is one set of records on its way through the handlers.
type batch struct {
	c          *Consumer
	handlers   map[string]registration
	ctx        context.Context
	failFast   bool   // after a failure start nothing new, of any aggregate
	giveUp     func() // with failFast: ends the wait for records that are not started
	redrive    bool   // the records are dead letters: they are not parked, and not stored again
	hasFailed  atomic.Bool
	asleep     sleepers
	deliveries []delivery
	keys       []uint64
	lanes      lanes.Batch

	// A batch of one needs no more memory than this.
	oneDelivery [1]delivery
	oneKey      [1]uint64
}

// newBatch returns a batch of n empty deliveries.
func (c *Consumer) newBatch(ctx context.Context, n int, failFast bool) *batch {
	b := &batch{c: c, handlers: c.registered(), ctx: ctx, failFast: failFast}
	switch n {
	case 0:
	case 1:
		b.deliveries = b.oneDelivery[:]
	default:
		b.deliveries = make([]delivery, n)
	}
	return b
}

// run hands the records to their handlers. It returns when none of them runs any more. With an error nothing was started.
func (b *batch) run() error {
	if _, err := b.c.refreshParked(b.ctx, b.deliveries, time.Now(), false); err != nil {
		return err
	}
	b.start()
	return nil
}

// start hands the records to their handlers whatever is parked, and returns when none of them runs any more.
func (b *batch) start() {
	b.keys = b.oneKey[:]
	if len(b.deliveries) != 1 {
		b.keys = make([]uint64, len(b.deliveries))
	}
	for i := range b.deliveries {
		d := &b.deliveries[i]
		d.Context, d.consumer = b.ctx, b.c
		b.keys[i] = b.c.lane(d.record.AggregateID)
	}
	waiting := b.ctx
	if b.failFast { // records may wait for other calls, whose handlers take as long as they like
		waiting, b.giveUp = context.WithCancel(b.ctx)
		defer b.giveUp()
	}
	b.c.pool.Start(&b.lanes, b.keys, b)
	select {
	case <-b.lanes.Done():
	case <-waiting.Done():
		b.asleep.wake()
		b.lanes.Wait(waiting.Done())
	}
	b.accountForSleepers()
}

// accountForSleepers counts the attempts at records that were given up while they waited for the next one. All of them have the time that one
// would have: the caller waits.
func (b *batch) accountForSleepers() {
	if b.redrive || b.c.dead == nil {
		return
	}
	var (
		places   chan struct{}
		end      time.Time
		counting sync.WaitGroup
	)
	for i := range b.deliveries {
		if d := &b.deliveries[i]; (d.attempts().Sum() > 0 || d.anew) && !d.finished && !d.accounted {
			if places == nil {
				places, end = make(chan struct{}, b.c.concurrency), time.Now().Add(3*storeTimeout)
			}
			d.Context = grace.Until(d.Context, end)
			places <- struct{}{}
			counting.Go(func() {
				defer func() { <-places }()
				b.c.account(d)
			})
		}
	}
	counting.Wait()
}

// Do makes one attempt at a record unless the batch has to stop, and says how its aggregate goes on: with the next record, with this one
// again, or not at all.
func (b *batch) Do(i int) (next lanes.Next) {
	if b.ctx.Err() != nil || b.failFast && b.hasFailed.Load() {
		return lanes.GiveUp // accountForSleepers knows those that have waited for their next attempt
	}
	d := &b.deliveries[i]
	returned := false
	defer func() {
		if !returned { // the handler has ended its goroutine, which cannot be waited for again
			b.count(d)
			b.settle(d)
		}
	}()
	if b.redrive || !b.c.divert(b.handlers, d) {
		b.c.handle(b.handlers, d)
	}
	returned = true
	v := b.count(d)
	if delay, again := b.again(d, v); again && b.asleep.sleep(&b.lanes, i, delay) {
		return lanes.Later
	}
	return b.settle(d)
}

// count judges the last attempt and counts it.
func (b *batch) count(d *delivery) verdict {
	v := d.judge(errors.Is(b.ctx.Err(), context.Canceled))
	if d.progressed() {
		d.failures, d.races, d.reruns, d.anew = 0, 0, 0, true
	}
	switch v {
	case lost:
		d.races++
		d.verdict, d.cause = v, d.err
	case failed, hopeless:
		d.failures++
		d.verdict, d.cause = v, d.err
	}
	return v
}

// again reports whether and after which delay a record is tried once more in place. There is no time for it if the batch ends before, nor after
// a call that was cut off: the next one would have the rest of the time alone.
func (b *batch) again(d *delivery, v verdict) (delay time.Duration, again bool) {
	switch {
	case atomic.LoadInt32(&d.spent) == 1 && (!b.redrive || !d.progressed()):
		return 0, false
	case v == lost || v == waits && (errors.Is(d.err, ErrConflict) || d.progressed()):
		d.reruns++
		delay, again = rerunDelay.Delay(int(d.reruns)), d.reruns <= maxReruns
	case v == waits && isTooEarly(d.err): // for ten seconds at most
		delay, again = tooEarlyDelay, true
	case v == failed && int(d.failures) < b.calls():
		delay, again = backoff.FullJitter{Base: b.c.invokeRetry.BaseDelay, Max: b.c.invokeRetry.MaxDelay}.Delay(int(d.failures)), true
	}
	if end, ok := b.ctx.Deadline(); ok && time.Until(end) <= delay {
		return 0, false
	}
	return delay, again
}

// calls returns how many calls of a failing handler the batch makes.
func (b *batch) calls() int {
	switch {
	case !b.failFast:
		return 1
	case b.c.dead == nil:
		return b.c.invokeRetry.MaxAttempts
	}
	return min(b.c.invokeRetry.MaxAttempts, b.c.dead.attempts)
}

// settle ends the batch's attempts at a record.
func (b *batch) settle(d *delivery) lanes.Next {
	if !b.redrive {
		b.c.account(d)
	}
	if d.finished {
		return lanes.GoOn
	}
	b.hasFailed.Store(true)
	if b.failFast {
		b.giveUp()
	}
	return lanes.GiveUp
}

// result reports what is unfinished, or nil.
func (b *batch) result(stopped error) *ProcessError {
	var e ProcessError
	for i := range b.deliveries {
		d := &b.deliveries[i]
		if d.finished {
			continue
		}
		e.Unfinished = append(e.Unfinished, i)
		if d.err != nil {
			e.Failures = append(e.Failures, &HandlerError{Index: i, Record: d.record, Err: d.err})
		}
	}
	if len(e.Unfinished) == 0 {
		return nil
	}
	e.Stopped = stopped
	return &e
}
