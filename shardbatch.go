package outbox

import (
	"errors"
	"fmt"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/backoff"
	"github.com/seed-1b628d3f/outbox/internal/deadletter"
	"github.com/seed-1b628d3f/outbox/internal/lanes"
	"github.com/seed-1b628d3f/outbox/internal/ledger"
)

// shardBatch is a batch of a shard on its way through the handlers.
type shardBatch struct {
	s          *shardRun
	handlers   map[string]registration
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
	if s.attempted && d.calls == 0 {
		d.before = int32(s.owed.Attempts(slot))
	}
	c := s.w.consumer
	if !c.divert(b.handlers, d) {
		c.handle(b.handlers, d)
	}
	v := d.judge(s.ctx.Err() != nil)
	returned = true
	if d.progressed() {
		s.owed.Anew(slot)
		d.races, d.waits = 0, min(d.waits, 1)
	}
	if d.waits > 0 && v != waits {
		s.blocked.remove(slot)
	}
	switch v {
	case settled:
		s.settle(slot)
		return lanes.GoOn
	case waits:
		return b.wait(i)
	case lost:
		d.races++
	}
	return b.retry(i, v)
}

// leave leaves a record to the next owner of the shard, and with it what comes later of its aggregate, also in other batches.
func (b *shardBatch) leave(i int) lanes.Next {
	if b.deliveries[i].waits > 0 {
		b.s.blocked.remove(b.slots[i])
	}
	b.s.owed.Left(b.slots[i], b.deliveries[i].record.AggregateID)
	return lanes.GiveUp
}

// retry counts a lost race or a failure. Then the record waits for its next attempt, or, if there is none, becomes a dead letter or the shard's
// poison. Lost races are not stored: 1,000 take some ten minutes, for which most owners have the shard.
func (b *shardBatch) retry(i int, v verdict) lanes.Next {
	s, d, slot := b.s, &b.deliveries[i], b.slots[i]
	n := deadletter.Attempts{Lost: int(d.races)}
	delay := rerunDelay.Delay(n.Lost)
	if v == lost {
		n.Failed = s.owed.Attempts(slot)
	} else {
		n.Failed = s.owed.Failed(slot)
		delay = backoff.FullJitter{Base: s.w.retry.BaseDelay, Max: s.w.retry.MaxDelay}.Delay(n.Failed)
	}
	if v.counted(n, s.w.retry.MaxAttempts) != hopeless {
		return b.later(i, delay)
	}
	c := s.w.consumer
	if c.dead == nil {
		s.poison(slot, fmt.Errorf("%d attempts: %w", n.Sum(), &HandlerError{Record: d.record, Err: d.err}))
		return b.leave(i)
	}
	d.doomed = &doomed{err: d.err, attempts: n.Sum()}
	if d.err = c.bury(d, d); d.err != nil {
		return b.wait(i)
	}
	d.finished = true
	s.settle(slot)
	return lanes.GoOn
}

// later lets a record wait, unless the shard is to be given up.
func (b *shardBatch) later(i int, delay time.Duration) lanes.Next {
	if b.s.ctx.Err() != nil || !b.s.asleep.sleep(&b.lanes, i, delay) {
		return b.leave(i)
	}
	return lanes.Later
}

// wait lets a record wait after what was no attempt. If another delivery has a claim on its event, it waits no longer than the claim lasts, and
// less at first, since a claim mostly ends sooner.
func (b *shardBatch) wait(i int) lanes.Next {
	d, r := &b.deliveries[i], b.s.w.retry
	d.waits++
	delay := backoff.FullJitter{Base: r.BaseDelay, Max: r.MaxDelay}.Delay(d.waits)
	if claimed := (*claimedError)(nil); errors.As(d.err, &claimed) {
		delay = min(delay, max(time.Until(claimed.until), 0)+time.Millisecond) // a claim ends when its time has passed
	}
	if table := (*tableError)(nil); errors.As(d.err, &table) {
		b.s.blocked.add(b.slots[i], d.err)
	} else {
		b.s.blocked.remove(b.slots[i])
	}
	return b.later(i, delay)
}
