package lease

import (
	"context"
	"errors"
	"sync"
	"time"
)

// loop looks at the table, plans and acts, until the life ends or everything is drained.
//
// A tick is one View, and there are four ticks per heartbeat. While nothing moves, a worker makes 1.25 calls per tick, or 5 per
// Beat, however many shards there are. (A View of DynamoDB is one Query per megabyte, about 2,000 leases.) A lease that moves
// costs one Want, one Release, and what its reader saves; an acquisition is one call. While leases move, but not for much longer
// than Duration, the two workers concerned look five times a tick.
func (l *life) loop(alive, work context.Context) {
	for {
		wait := l.tick(alive, work)
		l.mu.Lock()
		finished := l.draining && len(l.held) == 0
		l.mu.Unlock()
		if finished {
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-l.wake:
		case <-alive.Done():
		}
		timer.Stop()
		if alive.Err() != nil {
			return
		}
	}
}

// fast is the tick while leases are moving. It bounds a handover to well under a second.
func (l *life) fast() time.Duration { return l.cfg.Tick / 5 }

// tick does one round and returns how long to wait for the next one.
func (l *life) tick(alive, work context.Context) time.Duration {
	l.mu.Lock()
	clear(l.done) // the view that begins now knows of these releases
	l.mu.Unlock()
	var s snapshot
	err := l.call(alive, "View", func(ctx context.Context) (err error) {
		s.View, err = l.cfg.Store.View(ctx)
		return err
	})
	if !l.watch.viewed && IsFatal(err) {
		l.fail(err) // the table has never worked, and no repeat will change this
	}
	if err != nil {
		return l.cfg.Tick
	}
	l.watch.viewed = true
	// Count from when the answer came: a beat in it may have been sent just before.
	now := time.Now()
	l.compare(s.View)
	next := min(l.cfg.Tick, l.watch.see(s.View, l.id, now))
	s.suspect, s.lately = l.watch.suspects(now), l.watch.lately(now)
	l.list.due(alive, l, s.View, now)
	s.listed, s.gone = l.list.known(l.cfg.List / 2)
	if created := l.list.ensure(alive, l, s.View); created {
		return l.fast() // look again, with the new rows
	}

	for {
		todo, moving := plan(s, l.id)
		if !l.watch.moving(moving, now) {
			moving = false
		}
		if !l.act(alive, work, &s, todo) {
			if moving {
				next = min(next, l.fast())
			}
			return next
		}
	}
}

// compare takes in what the table says about the leases that we hold, and who may get them.
func (l *life) compare(v View) {
	line := newLineage(v)
	for _, h := range l.all() {
		row, ok := line.rows[h.shard.ID]
		if !ok {
			h.compare(Lease{}, false, nil)
			continue
		}
		ahead, _ := line.ahead(*row)
		h.compare(*row, true, ahead)
	}
	taking := map[string]bool{}
	for _, w := range v.Workers {
		if w.ID != l.id && !w.Dead && !w.Draining && w.Beat > 0 {
			taking[w.ID] = true
		}
	}
	l.mu.Lock()
	l.taking = taking
	l.mu.Unlock()
}

// act does what is planned. If a worker has been marked dead, act marks it in s too and returns true: there is more to plan.
func (l *life) act(alive, work context.Context, s *snapshot, todo []action) (more bool) {
	var mu sync.Mutex
	line := newLineage(s.View)
	each(todo, func(a action) {
		shard := a.lease.ID
		l.mu.Lock()
		h, draining := l.held[shard], l.draining
		l.mu.Unlock()
		switch a.verb {
		case markDead:
			err := l.call(alive, "MarkDead", func(ctx context.Context) error { return l.cfg.Store.MarkDead(ctx, a.worker.ID, a.worker.Beat) })
			if err != nil {
				return
			}
			if l.cfg.Hooks.Dead != nil {
				l.cfg.Hooks.Dead(a.worker.ID)
			}
			mu.Lock()
			defer mu.Unlock()
			more = true
			for i := range s.Workers {
				if s.Workers[i].ID == a.worker.ID {
					s.Workers[i].Dead = true
				}
			}
		case forgetWorker:
			_ = l.call(alive, "ForgetWorker", func(ctx context.Context) error { return l.cfg.Store.ForgetWorker(ctx, a.worker.ID) })
		case forgetShard:
			if h != nil && !h.isFailing() {
				return // a worker that can still read a shard knows better than a listing
			}
			if h != nil {
				h.drop(errors.Join(ErrLost, errors.New("its source has forgotten the shard")))
				return // after its reader has returned, a later round marks the row
			}
			err := l.call(alive, "Gone", func(ctx context.Context) error { return l.cfg.Store.Gone(ctx, a.lease.Key()) })
			if err == nil && l.cfg.Hooks.Gone != nil {
				l.cfg.Hooks.Gone(shard, a.lease.lostFrom())
			}
		case adopt:
			if h != nil {
				return
			}
			if ahead, ok := line.ahead(a.lease); ok {
				l.start(alive, work, a.lease, ahead)
			}
		case acquire:
			ahead, ok := line.ahead(a.lease)
			if h != nil || draining || !ok {
				return
			}
			var row Lease
			err := l.call(alive, "Acquire", func(ctx context.Context) (err error) {
				row, err = l.cfg.Store.Acquire(ctx, a.lease, l.id)
				return err
			})
			if err == nil { // the next view finds an acquisition whose answer was lost
				l.start(alive, work, row, ahead)
			}
		case want:
			if !draining {
				_ = l.call(alive, "Want", func(ctx context.Context) error { return l.cfg.Store.Want(ctx, a.lease, l.id) })
			}
		case yield:
			if h != nil {
				h.yield()
			}
		}
	})
	return more
}

// each calls f for every item, 16 at a time, and returns when all are done.
func each[T any](items []T, f func(T)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, 16)
	for _, item := range items {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			f(item)
		})
	}
	wg.Wait()
}
