package outbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/backoff"
	"github.com/seed-1b628d3f/outbox/internal/lease"
	"github.com/seed-1b628d3f/outbox/internal/shardreader"
	"github.com/seed-1b628d3f/outbox/internal/slab"
	"github.com/seed-1b628d3f/outbox/internal/watermark"
)

// shardRun is one shard while its lease is held: fetch, decode, lanes, handlers, checkpoint.
//
// Two contexts run it. ctx is the handlers': it ends when the lease is lost. reading ends earlier, when the lease is to be
// given up in good order: then nothing more is fetched, and what was fetched is finished.
type shardRun struct {
	w    *Worker
	held *lease.Held
	ring *watermark.Ring
	ctx  context.Context
	// knowsParked says that the parked aggregates were read since the lease is held. Only the reader's goroutine uses it.
	knowsParked bool
	// stopReading ends reading.
	stopReading context.CancelCauseFunc

	mu       sync.Mutex
	stopping bool                                // no retry begins any more, and nothing behind begun
	begun    watermark.Slot                      // behind the last record that a handler was started for: what is before must be finished, or it leaves duplicates
	poison   watermark.Slot                      // nothing from here on is handled
	err      error                               // why; nil if there is no poison
	asleep   map[*shardBatch]map[int]*time.Timer // records that wait for their retry
	attempts map[watermark.Slot]attempt          // failed attempts at unfinished records
	earlier  map[string]int                      // those of earlier owners, at records that have not been fetched yet
	changed  bool                                // attempts have changed since they were saved
	blocked  map[string]bool                     // aggregates of which an event was given up: later ones must not overtake it
	added    uint64                              // records that were put into the ring
	stored   uint64                              // of them, those up to the stored checkpoint
	freed    chan struct{}                       // closed and replaced when stored grows
	batches  []*shardBatch                       // in order, those that are not done
	seen     seen                                // of what Status tells
}

// attempt counts what has to survive a restart.
type attempt struct {
	sequence string
	n        int
}

// maxRemembered bounds the attempts that are saved with a checkpoint: those of the oldest records, which the next owner meets
// first.
const maxRemembered = 20

var errStopReading = errors.New("the shard is to be given up")

// consume reads a shard until it ends or its lease is to be given up, and returns when no handler of it runs.
func (w *Worker) consume(ctx context.Context, held *lease.Held) error {
	const none = ^watermark.Slot(0)
	ctx = context.WithValue(ctx, leasesKey{}, w.leasesName)
	s := &shardRun{
		w: w, held: held, ctx: ctx, ring: watermark.New(w.maxUnfinished), poison: none,
		asleep: make(map[*shardBatch]map[int]*time.Timer), attempts: make(map[watermark.Slot]attempt), blocked: make(map[string]bool), freed: make(chan struct{}),
		seen: seen{behind: unknown},
	}
	s.earlier = held.Progress().Attempts
	from, err := position(held.Progress().Checkpoint)
	if err != nil {
		return lease.Fatal(err)
	}
	reading, stopReading := context.WithCancelCause(ctx)
	s.stopReading = stopReading
	defer stopReading(nil)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-held.Stop():
			s.stop()
		case <-reading.Done():
		}
	}()
	besides, endBesides := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { s.save(besides) })
	if len(w.hooks) > 0 {
		running.Go(func() { s.tellStatus(besides) })
	}

	reader := w.reader(s)
	children, err := reader.Read(reading, held.Shard().ID, from, func(b shardreader.Batch) error { return s.deliver(reading, b) })
	if err != nil {
		s.stop() // what fails is tried again by the next owner, or by the next call
	}
	s.drain()
	stopReading(errStopReading)
	<-stopped
	endBesides()
	running.Wait()
	return s.finish(ctx, children, err)
}

// finish stores the last checkpoint, when no handler runs any more, and says how the reading of the shard has ended: err is the reader's.
func (s *shardRun) finish(ctx context.Context, children []shardreader.Shard, err error) error {
	// Also when ctx has ended because the drain took too long. A lease that is lost refuses it.
	last, cancel := ctx, context.CancelFunc(func() {})
	if ctx.Err() != nil {
		last, cancel = context.WithTimeout(context.WithoutCancel(ctx), lastSave)
	}
	defer cancel()
	mark := s.ring.Mark()
	saveErr := s.store(last, mark)
	if saveErr != nil && !errors.Is(saveErr, lease.ErrLost) {
		s.w.consumer.logger.Error("outbox: the last checkpoint of a shard is not stored, what is above it will be handled again", "stream", s.w.stream,
			"shard", s.held.Shard().ID, "records", mark.Finished-s.stored, "error", saveErr)
	}
	s.mu.Lock()
	poison := s.err
	s.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case saveErr != nil && err == nil:
		return saveErr
	case poison != nil:
		return lease.Fatal(poison)
	case err == nil && mark.Above == 0:
		return s.held.End(ctx, asLeases(children))
	case err == nil, errors.Is(err, errStopReading):
		return nil
	}
	return err
}

// position turns a checkpoint into what a reader understands.
func position(checkpoint string) (shardreader.Position, error) {
	switch at, ok := lease.ParseAt(checkpoint); {
	case ok:
		return shardreader.At(at), nil
	case checkpoint == lease.TrimHorizon:
		return shardreader.Oldest, nil
	case checkpoint == "", checkpoint == lease.ShardEnd:
		return "", fmt.Errorf("a lease with the checkpoint %q cannot be read from", checkpoint)
	}
	return shardreader.Position(checkpoint), nil
}

// deliver hands a batch to the lanes, as far as there is room above the stored checkpoint, and waits for room for the rest. So a
// slow handler stops its shard's fetching, and a crash repeats no more than there is room for.
func (s *shardRun) deliver(reading context.Context, fetched shardreader.Batch) error {
	s.see(fetched)
	sequences, size := make([]string, len(fetched.Records)), 0
	for i := range fetched.Records {
		sequences[i] = fetched.Records[i].SequenceNumber
		size += len(fetched.Records[i].Data)
	}
	memory := slab.New(size)
	for from := 0; from < len(sequences); {
		room, err := s.room(reading, len(sequences)-from)
		if err != nil {
			return err
		}
		first, n, err := s.ring.Add(reading, sequences[from:from+room])
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.added += uint64(n)
		s.mu.Unlock()
		if err := s.start(reading, first, fetched.Records[from:from+n], memory); err != nil {
			return err
		}
		from += n
	}
	return nil
}

// room waits until some of n records may be added, and returns how many.
func (s *shardRun) room(reading context.Context, n int) (int, error) {
	for {
		s.mu.Lock()
		free, freed := s.w.maxUnfinished-int(s.added-s.stored), s.freed
		s.mu.Unlock()
		if free >= min(n, max(s.w.maxUnfinished/8, 1)) { // not for every record
			return min(free, n), nil
		}
		select {
		case <-freed:
		case <-reading.Done():
			return 0, context.Cause(reading)
		}
	}
}

// start decodes records and starts their handlers. Records that are no events are finished. One that cannot be read is a dead
// letter, or, without WithDeadLetters, poison.
func (s *shardRun) start(reading context.Context, first watermark.Slot, records []shardreader.Record, memory *slab.Slab) error {
	c := s.w.consumer
	b := &shardBatch{s: s, handlers: c.registered(), deliveries: make([]delivery, 0, len(records)), slots: make([]watermark.Slot, 0, len(records))}
	var poison error
	for i := 0; i < len(records) && poison == nil; i++ {
		slot, n := first+watermark.Slot(i), len(b.deliveries)
		b.deliveries = append(b.deliveries, delivery{Context: s.ctx})
		d := &b.deliveries[n]
		got, reason := c.receive(d, records[i].Data, nil, func(r *Record) { s.origin(r, &records[i]) }, memory)
		switch got {
		case receivedEvent, receivedDoomed:
			b.slots = append(b.slots, slot)
			s.remember(slot, records[i].SequenceNumber)
			continue
		case receivedOther:
			c.skipNotEvent(s.ctx, &d.record, reason)
			s.ring.Done(slot)
		case receivedIgnored:
			s.ring.Done(slot)
		case receivedPoison:
			failure := &HandlerError{Record: d.record, Err: reason}
			c.logFailure(s.ctx, failure)
			s.fail(slot, failure)
			poison = failure
		}
		b.deliveries = b.deliveries[:n]
	}
	if err := s.awaitParked(reading, b.deliveries); err != nil {
		return err
	}
	keys := make([]uint64, len(b.deliveries))
	for i := range b.deliveries {
		keys[i] = c.lane(b.deliveries[i].record.AggregateID)
	}
	s.mu.Lock()
	for len(s.batches) > 0 && s.batches[0].finished() {
		s.batches = s.batches[1:]
	}
	s.batches = append(s.batches, b)
	s.mu.Unlock()
	c.pool.Start(&b.lanes, keys, b)
	return poison
}

// origin fills in where a record of this shard came from.
func (s *shardRun) origin(to *Record, r *shardreader.Record) {
	to.StreamARN, to.ShardID, to.SequenceNumber, to.Fence = s.w.stream, s.held.Shard().ID, r.SequenceNumber, s.held.Fence()
}

// remember takes over the attempts that an earlier owner has made at a record.
func (s *shardRun) remember(slot watermark.Slot, sequence string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.earlier[sequence]; n > 0 {
		s.attempts[slot] = attempt{sequence, n}
		delete(s.earlier, sequence)
	}
}

// parkedAge is how old what a Worker knows of aggregates that others park may be.
const parkedAge = time.Second

// awaitParked finds out which aggregates are parked, however long it takes. The owner before this one may have parked some, so what another
// shard of this process learned before the lease was held is not enough.
func (s *shardRun) awaitParked(reading context.Context, deliveries []delivery) error {
	retry := backoff.FullJitter{Base: 200 * time.Millisecond, Max: 10 * time.Second}
	for n := 1; ; n++ {
		age := parkedAge
		if !s.knowsParked {
			age = 0
		}
		asked, err := s.w.consumer.refreshParked(reading, deliveries, age)
		if err == nil {
			s.knowsParked = s.knowsParked || asked
			return nil
		}
		if reading.Err() == nil {
			s.w.consumer.logger.ErrorContext(reading, "outbox: parked aggregates cannot be read, a shard waits", "stream", s.w.stream,
				"shard", s.held.Shard().ID, "failures", n, "error", err)
		}
		if err := backoff.Sleep(reading, retry.Delay(n)); err != nil {
			return err
		}
	}
}

// fail says that a record will never be handled: nothing from it on is.
func (s *shardRun) fail(slot watermark.Slot, err error) {
	s.mu.Lock()
	if slot < s.poison {
		s.poison, s.err = slot, err
	}
	if !s.stopping {
		s.begun = max(s.begun, slot) // what comes before it is handled, or the next Run would not get any further
	}
	s.mu.Unlock()
	s.held.Fail(err) // the other shards drain, too, and the drain timeout counts from now on
	s.stop()
}

// stop begins the drain: nothing more is fetched, and records that wait for a retry are left to the next owner.
func (s *shardRun) stop() {
	s.stopReading(errStopReading)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping = true
	s.wake()
}

// wake ends all waits for retries. The caller holds the lock.
func (s *shardRun) wake() {
	for b, waiting := range s.asleep {
		for i, timer := range waiting {
			if timer.Stop() {
				delete(waiting, i)
				b.lanes.Resume(i)
			}
		}
	}
}

// drain returns when no handler of the shard runs and none will start.
func (s *shardRun) drain() {
	release := context.AfterFunc(s.ctx, func() { s.stop() })
	defer release()
	for {
		s.mu.Lock()
		if len(s.batches) == 0 {
			s.mu.Unlock()
			return
		}
		b := s.batches[0]
		s.batches = s.batches[1:]
		s.mu.Unlock()
		b.lanes.Wait(s.ctx.Done())
	}
}

// The checkpoint is stored when this many records are finished above it, or a quarter of WithMaxUnfinished, or after this time.
const (
	flushRecords = 500
	flushEvery   = time.Second
	lastSave     = 2 * time.Second // how long the last one may take after the context has ended
)

// save stores the watermark again and again until ctx ends.
func (s *shardRun) save(ctx context.Context) {
	flush := watermark.Flush{Every: flushEvery, Records: min(flushRecords, max(s.w.maxUnfinished/4, 1))}
	for ctx.Err() == nil {
		tick, cancel := context.WithTimeout(ctx, flushEvery)
		_ = s.ring.Wait(tick, flush.Next()) // or the time has come
		cancel()
		mark := s.ring.Mark()
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if !flush.Due(mark, time.Now()) && !changed {
			continue
		}
		if s.store(ctx, mark) == nil {
			flush.Stored(mark, time.Now())
		}
	}
}

// store saves the watermark and the attempts at what is above it.
func (s *shardRun) store(ctx context.Context, mark watermark.Mark) error {
	p := lease.Progress{Checkpoint: mark.Sequence}
	if p.Checkpoint == "" {
		p.Checkpoint = s.held.Progress().Checkpoint
	}
	s.mu.Lock()
	s.changed = false
	if len(s.attempts)+len(s.earlier) > 0 {
		p.Attempts = maps.Clone(s.earlier)
		if p.Attempts == nil {
			p.Attempts = make(map[string]int)
		}
		oldest := slices.Sorted(maps.Keys(s.attempts))
		for _, slot := range oldest[:min(len(oldest), maxRemembered)] {
			p.Attempts[s.attempts[slot].sequence] = s.attempts[slot].n
		}
	}
	s.mu.Unlock()
	err := s.held.Save(ctx, p)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.changed = true
		return err
	}
	if mark.Finished > s.stored {
		s.stored = mark.Finished
		close(s.freed)
		s.freed = make(chan struct{})
	}
	return nil
}
