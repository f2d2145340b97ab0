package lease

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// loop looks at the table, plans and acts, until the life ends or everything is drained.
//
// A tick is one Look while nothing moves, and otherwise one View. There are four ticks per heartbeat. While nothing moves, a worker
// makes 1.25 calls per tick, or 5 per Beat, however many shards there are, and one View a minute; more than 50 workers tick less
// often. (A View of DynamoDB is one Query per megabyte, about 4,000 leases.) A lease that moves costs one Want, one Release, what
// its reader saves, and two or three beats; an acquisition is one call and a beat. Each worker then takes a View or two. While
// leases move, but not for much longer than Duration, the two workers concerned take a View five times a tick.
func (l *life) loop(alive, work context.Context, end func(error)) {
	for woken := true; ; {
		l.assess(time.Now())
		wait := l.tick(alive, work, woken)
		if !l.blind.IsZero() && time.Since(l.blind) >= l.health.sick() && !l.isDraining() {
			end(errBlind)
			return
		}
		l.mu.Lock()
		finished := l.draining && len(l.held) == 0
		l.mu.Unlock()
		if finished {
			return
		}
		woken = false
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-l.wake:
			woken = true
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

// tick does one round and returns how long to wait for the next one. woken says that something has changed in this process.
func (l *life) tick(alive, work context.Context, woken bool) time.Duration {
	if !woken {
		if wait, calm := l.look(alive); calm {
			return wait
		}
	}
	l.calm = nil
	l.mu.Lock()
	clear(l.done) // the view that begins now knows of these releases
	l.stirred = false
	l.mu.Unlock()
	var s snapshot
	beat := l.confirmed.Load()
	asked := time.Now()
	err := l.call(alive, "View", func(ctx context.Context) (err error) {
		if s.View, err = l.cfg.Store.View(ctx); err == nil {
			err = s.check(l.id, beat)
		}
		return err
	})
	if !l.watch.viewed && IsFatal(err) {
		l.fail(err) // this is no lease table
	}
	l.looked(err)
	if err != nil {
		if l.sightless.IsZero() {
			l.sightless = asked
		}
		if !IsLasting(err) { // otherwise this worker soon registers anew
			l.health.blind(l.sightless, err)
		}
		return l.cfg.Tick
	}
	l.sightless = time.Time{}
	l.watch.viewed = true
	// Count from when the answer came: a beat in it may have been sent just before.
	now := time.Now()
	l.compare(s.View)
	next := min(l.cfg.Tick, l.watch.see(s.View, l.id, now))
	s.suspect, s.lately = l.watch.suspects(now), l.watch.lately(now)
	l.list.due(alive, l, s.View, now)
	s.listed, s.gone = l.list.known(l.cfg.List / 2)
	s.long, s.returned, s.open = l.list.doubts(l.cfg.List)
	if created := l.list.ensure(alive, l, s.View); created {
		return l.fast() // look again, with the new rows
	}

	for {
		todo, moving := plan(s, l.id)
		often := l.watch.moving(moving, now)
		if !l.act(alive, work, &s, todo) {
			if often {
				next = min(next, l.fast())
			}
			l.settle(s.View, moving, now)
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
	others := map[string]Worker{}
	for _, w := range v.Workers {
		if w.ID != l.id && !w.Dead && !w.Draining && w.Beat > 0 {
			others[w.ID] = w
		}
	}
	l.mu.Lock()
	l.taking = takers(others)
	l.mu.Unlock()
}

// act does what is planned. If a worker has been marked dead, act marks it in s too and returns true: there is more to plan.
func (l *life) act(alive, work context.Context, s *snapshot, todo []action) (more bool) {
	var mu sync.Mutex
	line := newLineage(s.View)
	workers := s.Workers // a listing may still read these
	s.Workers = slices.Clone(workers)
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
		case missShard:
			_ = l.call(alive, "Miss", func(ctx context.Context) error { return l.cfg.Store.Miss(ctx, a.lease, l.id) })
		case reviveShard:
			err := l.call(alive, "Revive", func(ctx context.Context) error { return l.cfg.Store.Revive(ctx, a.lease) })
			if err == nil {
				l.list.settled(shard)
			}
			if err == nil && a.lease.Gone && l.cfg.Hooks.Returned != nil {
				l.cfg.Hooks.Returned(shard, a.lease.Checkpoint)
			}
		case reopenShard:
			err := l.call(alive, "Reopen", func(ctx context.Context) error { return l.cfg.Store.Reopen(ctx, a.lease) })
			if err == nil {
				l.list.settled(shard)
			}
			if err == nil && l.cfg.Hooks.Reopened != nil {
				l.cfg.Hooks.Reopened(shard, cmp.Or(a.lease.Last, TrimHorizon))
			}
		case forgetShard:
			if h != nil && !h.isFailing() {
				return // a worker that can still read a shard knows better than a listing
			}
			if h != nil {
				h.drop(errors.Join(ErrLost, errors.New("its source has forgotten the shard")))
				return // after its reader has returned, a later round marks the row
			}
			err := l.call(alive, "Gone", func(ctx context.Context) error { return l.cfg.Store.Gone(ctx, a.lease) })
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
			if h != nil || draining || !ok || l.holdsBack(workers) {
				return
			}
			var row Lease
			err := l.call(alive, "Acquire", func(ctx context.Context) (err error) {
				if row, err = l.cfg.Store.Acquire(ctx, a.lease, l.id); err == nil {
					err = acquired(a.lease, row, l.id)
				}
				return err
			})
			if err == nil { // the next view finds an acquisition whose answer was lost
				l.start(alive, work, row, ahead)
			}
		case want:
			if !draining && !l.holdsBack(workers) {
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
