package outbox

import (
	"context"
	"slices"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/backoff"
	"github.com/seed-1b628d3f/outbox/internal/lease"
	"github.com/seed-1b628d3f/outbox/internal/ledger"
	"github.com/seed-1b628d3f/outbox/internal/shardreader"
	"github.com/seed-1b628d3f/outbox/internal/slab"
)

// deliver hands the records of an answer to the lanes, as far as the ledger has room, and waits for room for the rest. So a slow handler stops
// its shard's fetching, and a crash repeats no more than there is room for.
func (s *shardRun) deliver(reading context.Context, fetched shardreader.Batch) error {
	s.see(fetched)
	if err := s.leaveRoom(reading); err != nil {
		return err
	}
	sequences, size := make([]string, len(fetched.Records)), 0
	for i := range fetched.Records {
		sequences[i] = fetched.Records[i].SequenceNumber
		size += len(fetched.Records[i].Data)
	}
	memory := slab.New(size)
	for from := 0; from < len(sequences); {
		first, n := s.owed.Add(sequences[from:], time.Now())
		if n == 0 {
			signal(s.due) // the checkpoint may pass what is in the way
			select {
			case <-s.room:
			case <-reading.Done():
				return context.Cause(reading)
			}
			continue
		}
		if err := s.start(reading, first, fetched.Records[from:from+n], memory, false); err != nil {
			return err
		}
		from += n
	}
	return nil
}

// start finds out what the records are, and starts the handlers of the events, or holds them back. What is no event is finished. holes says
// that they are records below the checkpoint.
func (s *shardRun) start(reading context.Context, first ledger.Slot, records []shardreader.Record, memory *slab.Slab, holes bool) error {
	defer signal(s.news)
	c := s.w.consumer
	b := &shardBatch{s: s, handlers: c.registered(), deliveries: make([]delivery, 0, len(records)), slots: make([]ledger.Slot, 0, len(records))}
	var poison error
	var poisonAt ledger.Slot
	for i := 0; i < len(records) && poison == nil; i++ {
		slot, n := first+ledger.Slot(i), len(b.deliveries)
		b.deliveries = append(b.deliveries, delivery{Context: s.ctx, consumer: c})
		d := &b.deliveries[n]
		got, reason := c.receive(d, records[i].Data, nil, func(r *Record) { s.origin(r, &records[i]) }, memory)
		switch got {
		case receivedEvent, receivedDoomed:
			b.slots = append(b.slots, slot)
			continue
		case receivedOther:
			c.skipNotEvent(s.ctx, &d.record, reason)
			s.settle(slot)
		case receivedIgnored:
			s.settle(slot)
		case receivedPoison:
			failure := &HandlerError{Record: d.record, Err: reason}
			c.logFailure(s.ctx, failure, hopeless)
			poison, poisonAt = failure, slot
		}
		b.deliveries = b.deliveries[:n]
	}
	keys := make([]uint64, len(b.deliveries))
	for i := range b.deliveries {
		keys[i] = lease.AggregateKey(b.deliveries[i].record.AggregateID)
	}
	if !holes {
		s.owed.Keys(b.slots, keys)
	}
	for admitted := false; !admitted; {
		turn := s.order.now()
		if err := s.awaitParked(reading, b.deliveries, turn); err != nil {
			return err
		}
		admitted = s.order.admit(s, b, keys, holes, turn)
	}
	if poison != nil { // what lies before it is handled
		s.poison(poisonAt, poison)
	}
	return poison
}

// run hands events to the lanes.
func (s *shardRun) run(b *shardBatch) {
	c := s.w.consumer
	keys := make([]uint64, len(b.deliveries))
	for i := range b.deliveries {
		keys[i] = c.lane(b.deliveries[i].record.AggregateID)
	}
	s.mu.Lock()
	defer s.mu.Unlock() // drain must not meet a batch that is not started
	// All that are done, not only the first: one failing event must not keep the memory of those behind it.
	s.batches = append(slices.DeleteFunc(s.batches, (*shardBatch).done), b)
	c.pool.Start(&b.lanes, keys, b)
}

// origin fills in where a record of this shard came from.
func (s *shardRun) origin(to *Record, r *shardreader.Record) {
	to.StreamARN, to.ShardID, to.SequenceNumber, to.Fence = s.w.stream, s.held.Shard().ID, r.SequenceNumber, s.held.Fence()
}

// parkedAge is how old what a Worker knows of aggregates that others park may be, unless many are parked.
const parkedAge = time.Second

// awaitParked finds out which aggregates are parked, however long it takes. The owner before this one may have parked some, so what another
// shard of this process learned before the lease was held is not enough. Nor is what was learned before this turn of heldBack.
func (s *shardRun) awaitParked(reading context.Context, deliveries []delivery, turn int64) error {
	c := s.w.consumer
	retry := backoff.FullJitter{Base: 200 * time.Millisecond, Max: 10 * time.Second}
	since := time.Now()
	shared := c.dead != nil && turn != noTurn && s.parkedTurn.Load() == turn
	if shared {
		since = since.Add(-max(parkedAge, c.dead.parked.Affordable()))
	}
	for n := 1; ; n++ {
		known, err := c.refreshParked(reading, deliveries, since, shared)
		if err == nil {
			if known && turn != noTurn {
				s.parkedTurn.Store(turn)
			}
			return nil
		}
		if reading.Err() == nil {
			s.held.Reading(err) // another worker may reach them
			c.logger.ErrorContext(reading, "outbox: parked aggregates cannot be read, a shard waits", "stream", s.w.stream,
				"shard", s.held.Shard().ID, "failures", n, "error", err)
		}
		if err := backoff.Sleep(reading, retry.Delay(n)); err != nil {
			return err
		}
	}
}
