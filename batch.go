package outbox

import (
	"context"
	"sync/atomic"

	"github.com/seed-1b628d3f/outbox/internal/lanes"
)

// batch is one set of records on its way through the handlers.
type batch struct {
	c          *Consumer
	handlers   map[string]Handler
	ctx        context.Context
	outer      context.Context // what ctx was made of, for bookkeeping after it has ended
	failFast   bool            // after a failure start nothing new, of any aggregate
	giveUp     func()          // with failFast: ends the wait for records that are not started
	redrive    bool            // the records are dead letters: they are not parked, and not stored again
	hasFailed  atomic.Bool
	deliveries []delivery
	keys       []uint64
	lanes      lanes.Batch

	// A batch of one needs no more memory than this.
	oneDelivery [1]delivery
	oneKey      [1]uint64
}

// newBatch returns a batch of n empty deliveries.
func (c *Consumer) newBatch(ctx context.Context, n int, failFast bool) *batch {
	b := &batch{c: c, handlers: c.registered(), ctx: ctx, outer: ctx, failFast: failFast}
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
	if _, err := b.c.refreshParked(b.ctx, b.deliveries, 0); err != nil {
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
		d.Context = b.ctx
		b.keys[i] = b.c.lane(d.record.AggregateID)
	}
	waiting := b.ctx
	if b.failFast { // records may wait for other calls, whose handlers take as long as they like
		waiting, b.giveUp = context.WithCancel(b.ctx)
		defer b.giveUp()
	}
	b.c.pool.Start(&b.lanes, b.keys, b)
	b.lanes.Wait(waiting.Done())
}

// Do handles one record unless the batch has to stop, and reports whether the later ones of its aggregate may follow.
func (b *batch) Do(i int) (next lanes.Next) {
	if b.ctx.Err() != nil || b.failFast && b.hasFailed.Load() {
		return lanes.GiveUp
	}
	d := &b.deliveries[i]
	defer func() { // also when the handler ends its goroutine
		if !b.redrive {
			b.c.buryIfSpent(b.ctx, b.outer, d)
		}
		if next = lanes.GoOn; !d.finished {
			next = lanes.GiveUp
			b.hasFailed.Store(true)
			if b.failFast {
				b.giveUp()
			}
		}
	}()
	if b.redrive || !b.c.divert(b.ctx, b.handlers, d) {
		b.c.handle(b.handlers, d)
	}
	return next
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
