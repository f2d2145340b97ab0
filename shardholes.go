package outbox

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/backoff"
	"github.com/seed-1b628d3f/outbox/internal/ledger"
	"github.com/seed-1b628d3f/outbox/internal/shardreader"
	"github.com/seed-1b628d3f/outbox/internal/slab"
)

// A hole is an unfinished record that the checkpoint has passed. The owner after the one that made it fetches the holes one by one, beside the
// records above the checkpoint. Later events of a hole's aggregate are held back until the hole is on its way to its handler; in shards that
// continue the hole's shard, until it is finished. What is held back is in no lane, where it would be in the way of what it waits for.

// fetchPoll and readPoll keep the requests for holes and those for the other records, together, within the five a second of a shard.
const (
	fetchPoll = 300 * time.Millisecond
	readPoll  = 600 * time.Millisecond
)

// heldBack is what must not reach the lanes yet. Its zero value holds nothing back.
type heldBack struct {
	mu      sync.Mutex
	closed  bool
	turn    int64           // from 1 on; steps when keys need not wait any more, whose aggregates may be parked since
	ahead   map[uint64]bool // keys of unfinished events in the shards that this one continues
	unread  map[uint64]int  // holes of this shard that are not fetched yet, by key
	waiting map[uint64]*line
}

// line is what waits of one key, in order: first the holes.
type line struct{ holes, later shardBatch }

// expect says which holes will come.
func (s *shardRun) expect(holes []ledger.Hole) {
	o := &s.order
	o.unread, o.waiting = make(map[uint64]int), make(map[uint64]*line)
	o.ahead, _ = s.held.Ahead()
	o.turn = 1
	for _, h := range holes {
		if h.Key != 0 {
			o.unread[h.Key]++
		}
	}
}

// close holds back everything from now on, for the next owner.
func (o *heldBack) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
}

// now returns the turn.
func (o *heldBack) now() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.turn
}

// admit hands the events of a batch to the lanes, except those that have to wait. It does nothing and returns false if the turn, in which the
// parked aggregates were read, is over.
func (o *heldBack) admit(s *shardRun, b *shardBatch, keys []uint64, holes bool, turn int64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.turn != turn {
		return false
	}
	if o.closed {
		return true
	}
	n := 0
	for i, key := range keys {
		if key == 0 || !o.ahead[key] && o.waiting[key] == nil && (holes || o.unread[key] == 0) {
			if n < i {
				b.deliveries[n], b.slots[n] = b.deliveries[i], b.slots[i]
			}
			n++
			continue
		}
		if o.waiting[key] == nil {
			o.waiting[key] = &line{}
		}
		to := &o.waiting[key].later
		if holes {
			to = &o.waiting[key].holes
		}
		to.deliveries, to.slots = append(to.deliveries, b.deliveries[i]), append(to.slots, b.slots[i])
		to.handlers = b.handlers
		s.owed.Deferred(b.slots[i])
	}
	if b.deliveries, b.slots = b.deliveries[:n], b.slots[:n]; n > 0 {
		s.run(b)
	}
	return true
}

// fetched says that a hole has been admitted, or will not be.
func (o *heldBack) fetched(s *shardRun, key uint64) {
	if key == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.unread[key]--; o.unread[key] == 0 {
		delete(o.unread, key)
	}
	o.open(s, key)
}

// open hands over what waits of a key, as far as it need not wait any more. The caller holds the lock.
func (o *heldBack) open(s *shardRun, key uint64) {
	l := o.waiting[key]
	if l == nil || o.closed || o.ahead[key] {
		return
	}
	start := func(from *shardBatch) {
		if len(from.slots) > 0 {
			b := &shardBatch{s: s, handlers: from.handlers, deliveries: from.deliveries, slots: from.slots}
			*from = shardBatch{}
			s.run(b)
			signal(s.news)
		}
	}
	start(&l.holes)
	if o.unread[key] == 0 {
		start(&l.later)
		delete(o.waiting, key)
	}
}

// followAncestors holds back what has to wait for the shards that this one continues, until ctx ends.
func (s *shardRun) followAncestors(ctx context.Context) {
	for {
		keys, changed := s.held.Ahead()
		for followed := false; !followed; {
			// What was waited for may be a dead letter now, and its aggregate parked.
			free := s.order.freed(keys)
			if s.awaitParked(ctx, free, noTurn) != nil {
				return
			}
			followed = s.order.follow(s, keys, len(free))
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// noTurn is no turn: nothing that is known counts.
const noTurn = 0

// freed returns the events that wait for nothing but keys that are no longer ahead, if only these are.
func (o *heldBack) freed(ahead map[uint64]bool) []delivery {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.free(ahead)
}

func (o *heldBack) free(ahead map[uint64]bool) (free []delivery) {
	for key := range o.ahead {
		if l := o.waiting[key]; l != nil && !ahead[key] {
			free = append(append(free, l.holes.deliveries...), l.later.deliveries...)
		}
	}
	return free
}

// follow takes in which keys are ahead, and hands over what need not wait any more: n events. It does nothing and returns false if there are
// more by now.
func (o *heldBack) follow(s *shardRun, ahead map[uint64]bool, n int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.free(ahead)) != n {
		return false
	}
	if !maps.Equal(o.ahead, ahead) {
		o.ahead = ahead
		o.turn++
	}
	for key := range o.waiting {
		o.open(s, key)
	}
	return true
}

// leaveRoom slows down the reading while holes are fetched.
func (s *shardRun) leaveRoom(reading context.Context) error {
	select {
	case <-s.allFetched:
		return nil
	default:
		return backoff.Sleep(reading, readPoll)
	}
}

// fetchHoles fetches the unfinished records up to the checkpoint and starts their handlers: in order, but if a record cannot be fetched, those
// of other aggregates come first.
func (s *shardRun) fetchHoles(reading context.Context, holes []ledger.Hole) {
	defer close(s.allFetched)
	reader := s.w.reader(s)
	reader.Poll = fetchPoll
	for n := 1; len(holes) > 0; {
		err := s.fetchHole(reading, reader, holes[0])
		switch stop := (*shardreader.StopError)(nil); {
		case err == nil:
			holes, n = holes[1:], 1
		case errors.As(err, &stop) && reading.Err() == nil:
			key := holes[0].Key
			behind := func(h ledger.Hole) bool { return h.Key == key && key != 0 || h.Slot == holes[0].Slot }
			holes = append(slices.DeleteFunc(slices.Clone(holes), behind), slices.DeleteFunc(slices.Clone(holes), func(h ledger.Hole) bool { return !behind(h) })...)
			if s.held.Failed(reading, err, n) != nil {
				return
			}
			n++
		default:
			s.stop() // nothing behind a poison is handled
			return
		}
	}
}

func (s *shardRun) fetchHole(reading context.Context, reader *shardreader.Reader, h ledger.Hole) error {
	record, found, err := reader.One(reading, s.held.Shard().ID, h.Sequence)
	if err != nil {
		return err
	}
	s.held.Reading(nil)
	if !found {
		s.w.consumer.logger.ErrorContext(s.ctx, "outbox: a record that waited has expired before it was handled", "stream", s.w.stream,
			"shard", s.held.Shard().ID, "sequenceNumber", h.Sequence, "attempts", h.Attempts)
		s.w.dataLost(DataLoss{Shard: s.held.Shard().ID, After: h.Sequence})
		s.settle(h.Slot)
		signal(s.news)
	} else if err := s.start(reading, h.Slot, []shardreader.Record{record}, slab.New(len(record.Data)), true); err != nil {
		return err
	}
	s.order.fetched(s, h.Key)
	return nil
}
