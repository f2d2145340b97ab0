package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/lease"
	"github.com/seed-1b628d3f/outbox/internal/ledger"
	"github.com/seed-1b628d3f/outbox/internal/shardreader"
)

// shardRun is one shard while its lease is held. What is owed of it is in the ledger; here is what runs.
//
// Two contexts run it. ctx is the handlers': it ends when the lease is lost. reading ends earlier, when the lease is to be
// given up in good order: then nothing more is fetched, and what was fetched is finished.
type shardRun struct {
	w           *Worker
	held        *lease.Held
	owed        *ledger.Ledger
	ctx         context.Context
	stopReading context.CancelCauseFunc // ends reading
	parkedTurn  atomic.Int64            // the turn of order in which the parked aggregates were read; 0 before the first
	room        chan struct{}           // a token says that there may be room for more records
	due         chan struct{}           // a token says that the checkpoint is to be stored
	news        chan struct{}           // a token says that drain has to look again
	order       heldBack                // what must not reach the lanes yet
	allFetched  chan struct{}           // closed when every hole is fetched
	children    []lease.Shard           // when the shard was read to its end
	blocked     blocked                 // what waits for something else than its handler
	atEnd       bool                    // the end of the shard is stored, or nobody knows whether it is
	asleep      sleepers                // records that wait for their retry
	attempted   bool                    // earlier owners have left attempts

	mu      sync.Mutex
	batches []*shardBatch // in order, those that are not done
	seen    seen          // of what Status tells
}

var errStopReading = errors.New("the shard is to be given up")

// consume reads a shard until it ends or its lease is to be given up, and returns when no handler of it runs.
func (w *Worker) consume(ctx context.Context, held *lease.Held) error {
	ctx = context.WithValue(ctx, leasesKey{}, w.leasesName)
	if err := held.Confirm(ctx); err != nil {
		return err
	}
	found := held.Progress()
	if found.Checkpoint == lease.ShardEnd && len(found.Holes) == 0 {
		return held.End(ctx, nil, nil)
	}
	owed, err := owedOf(found)
	if err != nil {
		return lease.Fatal(err)
	}
	reading, stopReading := context.WithCancelCause(ctx)
	defer stopReading(nil)
	s := &shardRun{
		w: w, held: held, ctx: ctx, stopReading: stopReading,
		owed: ledger.New(w.maxUnfinished, owed, time.Now()),
		room: make(chan struct{}, 1), due: make(chan struct{}, 1), news: make(chan struct{}, 1), allFetched: make(chan struct{}), atEnd: owed.Ended,
		attempted: owed.Attempted(), seen: seen{behind: unknown, age: unknown},
	}
	defer w.health.reads(s)()
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
	s.expect(owed.Holes)
	running.Go(func() { s.followAncestors(besides) })
	running.Go(func() { s.fetchHoles(reading, owed.Holes) })

	if !owed.Ended {
		err = s.read(reading, position(owed.Checkpoint))
	}
	if err != nil {
		s.stop() // what fails is tried again by the next owner, or by the next call
	}
	s.drain()
	stopReading(errStopReading)
	<-stopped
	endBesides()
	running.Wait()
	return s.finish(ctx, err)
}

// read reads the shard to its end.
func (s *shardRun) read(reading context.Context, from shardreader.Position) error {
	var children []shardreader.Shard
	err := s.repeat(reading, func() (err error) {
		children, err = s.w.reader(s).Read(reading, s.held.Shard().ID, from, func(b shardreader.Batch) error {
			next := from
			if last := len(b.Records) - 1; last >= 0 {
				next = shardreader.Position(b.Records[last].SequenceNumber)
			}
			err := s.deliver(reading, b)
			if err == nil {
				from = next
			}
			return err
		})
		return err
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.children = asLeases(children)
	s.mu.Unlock()
	s.owed.End()
	signal(s.due) // perhaps all is finished but what may wait
	return nil
}

// repeat repeats a reading that fails as a whole. The handlers go on meanwhile: one that hangs must not keep its shard from being read.
func (s *shardRun) repeat(reading context.Context, read func() error) error {
	for n := 1; ; n++ {
		began := time.Now()
		err := read()
		if stop := (*shardreader.StopError)(nil); !errors.As(err, &stop) || reading.Err() != nil {
			return err
		}
		if time.Since(began) > time.Minute {
			n = 1
		}
		s.unseen()
		if err := s.held.Failed(reading, err, n); err != nil {
			return err
		}
	}
}

// owedOf turns what is stored of a shard into what is owed of it. A hole above the checkpoint, as after somebody has set the checkpoint back,
// is read with the other records.
func owedOf(p lease.Progress) (ledger.Progress, error) {
	owed := ledger.Progress{Checkpoint: p.Checkpoint, Attempts: p.Attempts, Ended: p.Checkpoint == lease.ShardEnd}
	if p.Checkpoint == "" {
		return owed, fmt.Errorf("a lease with the checkpoint %q cannot be read from", p.Checkpoint)
	}
	_, isTime := lease.ParseAt(p.Checkpoint)
	for sequence, hole := range p.Holes {
		if !owed.Ended && !isTime && (p.Checkpoint == lease.TrimHorizon || shardreader.CompareSequence(sequence, p.Checkpoint) > 0) {
			if owed.Attempts == nil {
				owed.Attempts = make(map[string]int)
			}
			owed.Attempts[sequence] = hole.Attempts
			continue
		}
		owed.Holes = append(owed.Holes, ledger.Hole{Sequence: sequence, Key: hole.Key, Attempts: hole.Attempts})
	}
	slices.SortFunc(owed.Holes, func(a, b ledger.Hole) int { return shardreader.CompareSequence(a.Sequence, b.Sequence) })
	for i := range owed.Holes {
		owed.Holes[i].Slot = ledger.Slot(i)
	}
	return owed, nil
}

// position turns a checkpoint into what a reader understands.
func position(checkpoint string) shardreader.Position {
	switch at, ok := lease.ParseAt(checkpoint); {
	case ok:
		return shardreader.At(at)
	case checkpoint == lease.TrimHorizon:
		return shardreader.Oldest
	}
	return shardreader.Position(checkpoint)
}

// poison says that a record will never be handled: nothing from it on is, and the Worker ends.
func (s *shardRun) poison(slot ledger.Slot, why error) {
	s.owed.Poison(slot, why)
	s.held.Fail(why) // the other shards drain, too, and the drain timeout counts from now on
	s.stop()
}

// stop begins the drain: nothing more is fetched, and records that wait for a retry are left to the next owner.
func (s *shardRun) stop() {
	s.stopReading(errStopReading)
	s.order.close()
	s.owed.Stop() // before the records that sleep are woken: none of them is begun again
	signal(s.news)
	s.asleep.wake()
}

// drain returns when no handler of the shard runs and none will start: everything is finished, or left to the next owner.
func (s *shardRun) drain() {
	release := context.AfterFunc(s.ctx, func() { s.stop() })
	defer release()
	for {
		stopping := s.owed.Stopping() // if so, no batch is added any more
		s.mu.Lock()
		if len(s.batches) == 0 {
			s.mu.Unlock()
			if stopping || s.owed.Status().Unfinished == 0 {
				return
			}
			<-s.news // holes are fetched, or wait for others
			continue
		}
		b := s.batches[0]
		s.batches = s.batches[1:]
		s.mu.Unlock()
		b.lanes.Wait(s.ctx.Done())
	}
}

// finish stores the last checkpoint, when no handler runs any more, and says how the reading of the shard has ended: err is the reader's.
func (s *shardRun) finish(ctx context.Context, err error) error {
	s.owed.Drained()
	saveErr := s.saveLast(ctx)
	poison := s.owed.Poisoned()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case saveErr != nil && err == nil:
		return saveErr
	case poison != nil:
		return lease.Fatal(poison)
	case err == nil && s.owed.Status().Unfinished == 0:
		return s.held.End(ctx, nil, s.children)
	case err == nil, errors.Is(err, errStopReading):
		return nil
	}
	return err
}

// signal leaves a token in a channel that has room for one.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
