package outbox

import (
	"context"
	"errors"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/grace"
	"github.com/seed-1b628d3f/outbox/internal/lease"
	"github.com/seed-1b628d3f/outbox/internal/ledger"
)

// settle says that a record is finished.
func (s *shardRun) settle(slot ledger.Slot) {
	if s.owed.Settled(slot) {
		signal(s.due)
	}
}

// save stores the checkpoint again and again until ctx ends.
func (s *shardRun) save(ctx context.Context) {
	tick := time.NewTimer(ledger.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.due:
		case <-tick.C:
		}
		if s.owed.Due(time.Now()) {
			_ = s.store(ctx) // otherwise the next time
		}
		tick.Reset(ledger.Every)
	}
}

// lastSave is how long the last checkpoint may take after the context has ended.
const lastSave = 2 * time.Second

// saveLast stores the checkpoint when no handler runs any more.
func (s *shardRun) saveLast(ctx context.Context) error {
	// Also when ctx has ended because the drain took too long. A lease that is lost refuses it.
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = grace.After(ctx, lastSave)
		defer cancel()
	}
	err := s.store(ctx)
	if err != nil && !errors.Is(err, lease.ErrLost) {
		s.w.consumer.logger.Error("outbox: the last checkpoint of a shard is not stored, what is above it will be handled again", "stream", s.w.stream,
			"shard", s.held.Shard().ID, "records", s.owed.Status().Unstored, "error", err)
	}
	return err
}

// store saves the checkpoint, its holes, and the attempts at what is above it; of a shard that was read to its end, the end and the holes. The
// very end, without holes, is for finish.
func (s *shardRun) store(ctx context.Context) error {
	p := s.owed.Progress()
	var holes map[string]lease.Hole
	if len(p.Holes) > 0 {
		holes = make(map[string]lease.Hole, len(p.Holes))
		for _, h := range p.Holes {
			holes[h.Sequence] = lease.Hole{Attempts: h.Attempts, Key: h.Key}
		}
	}
	if !s.atEnd {
		if err := s.held.Save(ctx, lease.Progress{Checkpoint: p.Checkpoint, Attempts: p.Attempts, Holes: holes}); err != nil {
			return err
		}
	}
	if p.Ended && len(holes) > 0 {
		s.mu.Lock()
		children := s.children
		s.mu.Unlock()
		s.atEnd = true
		if err := s.held.End(ctx, holes, children); err != nil {
			return err
		}
	}
	s.owed.Stored(p, time.Now())
	signal(s.room)
	return nil
}
