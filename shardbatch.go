package outbox

import (
	"errors"
	"fmt"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/backoff"
	"github.com/seed-1b628d3f/outbox/internal/lanes"
	"github.com/seed-1b628d3f/outbox/internal/ledger"
)

// shardBatch is a batch of a shard on its way through the handlers.
type shardBatch struct {
	s          *shardRun
	handlers   map[string]Handler
	deliveries []delivery
	slots      []ledger.Slot
	lanes      lanes.Batch
}

func (b *shardBatch) done() bool {
	select {
	case <-b.lanes.Done():
		return true
	default:
		return false
	}
}

// Do makes one attempt at a record.
func (b *shardBatch) Do(i int) lanes.Next {
	s, d, slot := b.s, &b.deliveries[i], b.slots[i]
	if s.ctx.Err() != nil || !s.owed.MayStart(slot, d.record.AggregateID) {
		return b.leave(i)
	}
	returned := false
	defer func() {
		if !returned { // the handler has ended its goroutine, which cannot be waited for again
			b.leave(i)
			s.poison(slot, &HandlerError{Record: d.record, Err: errGoexit})
		}
	}()
	c := s.w.consumer
	if !c.divert(s.ctx, b.handlers, d) {
		c.handle(b.handlers, d)
	}
	returned = true
	v := d.judge(s.ctx.Err() != nil)
	switch v {
	case settled:
		s.settle(slot)
		return lanes.GoOn
	case waits:
		return b.wait(i)
	}
	return b.retry(i, v)
}

// leave leaves a record to the next owner of the shard, and with it what comes later of its aggregate, also in other batches.
func (b *shardBatch) leave(i int) lanes.Next {
	b.s.owed.Left(b.slots[i], b.deliveries[i].record.AggregateID)
	return lanes.GiveUp
}

// retry counts a failed attempt, and lets the record wait for its next one, unless there is none.
func (b *shardBatch) retry(i int, v verdict) lanes.Next {
	s, d, slot := b.s, &b.deliveries[i], b.slots[i]
	n := s.owed.Failed(slot)
	if v.after(n, s.w.retry.MaxAttempts) == failed {
		return b.later(i, backoff.FullJitter{Base: s.w.retry.BaseDelay, Max: s.w.retry.MaxDelay}.Delay(n))
	}
	c := s.w.consumer
	if c.dead == nil {
		s.poison(slot, fmt.Errorf("%d attempts: %w", n, &HandlerError{Record: d.record, Err: d.err}))
		return b.leave(i)
	}
	d.doomed = &doomed{err: d.err, attempts: n}
	if d.err = c.bury(s.ctx, d); d.err != nil {
		return b.wait(i)
	}
	d.finished = true
	s.settle(slot)
	return lanes.GoOn
}

// later lets a record wait, unless the shard is to be given up.
func (b *shardBatch) later(i int, delay time.Duration) lanes.Next {
	s := b.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owed.Stopping() || s.ctx.Err() != nil {
		return b.leave(i)
	}
	waiting := s.asleep[b]
	if waiting == nil {
		waiting = make(map[int]*time.Timer)
		s.asleep[b] = waiting
	}
	waiting[i] = time.AfterFunc(delay, func() {
		s.mu.Lock()
		delete(waiting, i)
		if len(waiting) == 0 {
			delete(s.asleep, b)
		}
		s.mu.Unlock()
		b.lanes.Resume(i)
	})
	return lanes.Later
}

// wait lets a record wait after something else than its handler has failed. For another's claim that is not longer than it lasts,
// and less at first, since a claim mostly ends sooner.
func (b *shardBatch) wait(i int) lanes.Next {
	d, r := &b.deliveries[i], b.s.w.retry
	d.waits++
	delay := backoff.FullJitter{Base: r.BaseDelay, Max: r.MaxDelay}.Delay(d.waits)
	if claimed := (*claimedError)(nil); errors.As(d.err, &claimed) && claimed != nil {
		delay = min(delay, max(time.Until(claimed.until), 0)+time.Millisecond) // a claim ends when its time has passed
	}
	return b.later(i, delay)
}
