package outbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
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
	knowsParked bool                    // the parked aggregates were read since the lease is held; only the reader's goroutine uses it
	room        chan struct{}           // a token says that there may be room for more records
	due         chan struct{}           // a token says that the checkpoint is to be stored

	mu      sync.Mutex
	asleep  map[*shardBatch]map[int]*time.Timer // records that wait for their retry
	batches []*shardBatch                       // in order, those that are not done
	seen    seen                                // of what Status tells
}

var errStopReading = errors.New("the shard is to be given up")

// consume reads a shard until it ends or its lease is to be given up, and returns when no handler of it runs.
func (w *Worker) consume(ctx context.Context, held *lease.Held) error {
	ctx = context.WithValue(ctx, leasesKey{}, w.leasesName)
	found := held.Progress()
	from, err := position(found.Checkpoint)
	if err != nil {
		return lease.Fatal(err)
	}
	reading, stopReading := context.WithCancelCause(ctx)
	defer stopReading(nil)
	s := &shardRun{
		w: w, held: held, ctx: ctx, stopReading: stopReading,
		owed: ledger.New(w.maxUnfinished, ledger.Progress{Checkpoint: found.Checkpoint, Attempts: found.Attempts}, time.Now()),
		room: make(chan struct{}, 1), due: make(chan struct{}, 1),
		asleep: make(map[*shardBatch]map[int]*time.Timer), seen: seen{behind: unknown},
	}
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

// poison says that a record will never be handled: nothing from it on is, and the Worker ends.
func (s *shardRun) poison(slot ledger.Slot, why error) {
	s.owed.Poison(slot, why)
	s.held.Fail(why) // the other shards drain, too, and the drain timeout counts from now on
	s.stop()
}

// stop begins the drain: nothing more is fetched, and records that wait for a retry are left to the next owner.
func (s *shardRun) stop() {
	s.stopReading(errStopReading)
	s.owed.Stop() // before the records that sleep are woken: none goes to sleep afterwards
	s.mu.Lock()
	defer s.mu.Unlock()
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

// finish stores the last checkpoint, when no handler runs any more, and says how the reading of the shard has ended: err is the reader's.
func (s *shardRun) finish(ctx context.Context, children []shardreader.Shard, err error) error {
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
		return s.held.End(ctx, asLeases(children))
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
