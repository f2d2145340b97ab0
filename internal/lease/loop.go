package lease

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/backoff"
)

// loop looks at the table, plans and acts, until the life ends or everything is drained.
//
// A tick is one View, and there are four per heartbeat: while nothing moves, a worker makes 1.25 calls per tick, or 5 per Beat, however
// many shards there are (a View of DynamoDB is one Query per megabyte, about 2,000 leases). A lease that moves costs one Want, one
// Release, and what its reader saves; a claim is one call; and for as long as something moves, but not for longer than Duration, the
// two workers concerned look five times a tick.
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

// fast is the tick while leases are moving: what bounds a handover to well under a second.
func (l *life) fast() time.Duration { return l.cfg.Tick / 5 }

// tick does one round and returns how long to wait for the next one.
func (l *life) tick(alive, work context.Context) time.Duration {
	l.mu.Lock()
	clear(l.done) // the view that begins now knows
	l.mu.Unlock()
	var s snapshot
	err := l.call(alive, "View", func(ctx context.Context) (err error) {
		s.View, err = l.cfg.Store.View(ctx)
		return err
	})
	if !l.watch.viewed && IsFatal(err) {
		l.fail(err) // it never worked, and will not
	}
	if err != nil {
		return l.cfg.Tick
	}
	l.watch.viewed = true
	// From when the answer came: the beats in it may have been sent until then.
	now := time.Now()
	l.compare(s.View)
	next := min(l.cfg.Tick, l.watch.see(s.View, l.id, now))
	s.suspect = l.watch.suspects(now)
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
	rows := make(map[string]Lease, len(v.Leases))
	for _, row := range v.Leases {
		rows[row.ID] = row
	}
	for _, h := range l.all() {
		row, ok := rows[h.shard.ID]
		h.compare(row, ok)
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

// act does what is planned. It reports whether a worker has been marked dead, in s, too: then there is more to plan.
func (l *life) act(alive, work context.Context, s *snapshot, todo []action) (more bool) {
	var mu sync.Mutex
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
				return // whoever can still read a shard knows better than a listing
			}
			if h != nil {
				h.drop(errors.Join(ErrLost, errors.New("its source has forgotten the shard")))
				return // and once its reader has returned, the row is dealt with
			}
			err := l.call(alive, "Gone", func(ctx context.Context) error { return l.cfg.Store.Gone(ctx, a.lease.Key()) })
			if err == nil && l.cfg.Hooks.Gone != nil {
				l.cfg.Hooks.Gone(shard, a.lease.Checkpoint)
			}
		case adopt:
			l.start(alive, work, a.lease)
		case claim:
			if h != nil || draining {
				return
			}
			var row Lease
			err := l.call(alive, "Claim", func(ctx context.Context) (err error) {
				row, err = l.cfg.Store.Claim(ctx, a.lease, l.id)
				return err
			})
			if err == nil { // an answer that was lost is found by the next view
				l.start(alive, work, row)
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

// watch judges by this process's own monotonic clock who is alive. It is used by one goroutine at a time.
type watch struct {
	limit  time.Duration
	seen   map[string]sighting
	viewed bool      // the table has been seen
	unrest time.Time // since when leases have been moving; zero: they are not
}

type sighting struct {
	beat  int64 // -1: it owns leases and has no row
	since time.Time
	limit time.Duration
}

func newWatch(duration time.Duration) *watch {
	return &watch{limit: patience(duration), seen: map[string]sighting{}}
}

// patience is a little longer than what the watched allow themselves, for clocks that do not run equally fast, and for the time it takes
// handlers to notice that their context has ended.
func patience(duration time.Duration) time.Duration { return duration + duration/32 }

// see takes in a view, and returns in how long somebody will have been silent for too long.
func (w *watch) see(v View, me string, now time.Time) time.Duration {
	beats, limits := map[string]int64{}, map[string]time.Duration{}
	for _, l := range v.Leases {
		if l.Owner != "" {
			beats[l.Owner] = -1
		}
	}
	for _, worker := range v.Workers {
		if worker.Dead {
			delete(beats, worker.ID)
			continue
		}
		beats[worker.ID] = worker.Beat
		limits[worker.ID] = patience(worker.Duration) // it may have been given another one than this worker
	}
	delete(beats, me)
	seen := make(map[string]sighting, len(beats))
	next := w.limit
	for id, beat := range beats {
		at, ok := w.seen[id]
		if !ok || at.beat != beat {
			at = sighting{beat, now, max(w.limit, limits[id])}
		}
		seen[id] = at
		if left := at.limit - now.Sub(at.since); left > 0 {
			next = min(next, left)
		}
	}
	w.seen = seen
	return next
}

func (w *watch) suspects(now time.Time) map[string]bool {
	suspects := map[string]bool{}
	for id, at := range w.seen {
		if now.Sub(at.since) >= at.limit {
			suspects[id] = true
		}
	}
	return suspects
}

// moving reports whether looking often is worth it: not for longer than the limit, since a handler may take its time.
func (w *watch) moving(moving bool, now time.Time) bool {
	if !moving {
		w.unrest = time.Time{}
		return false
	}
	if w.unrest.IsZero() {
		w.unrest = now
	}
	return now.Sub(w.unrest) < w.limit
}

// listing keeps what the source says. Its goroutine is one of life.others.
type listing struct {
	mu     sync.Mutex
	busy   bool
	next   time.Time
	last   time.Time // when the last one began
	errors int
	shards []Shard
	listed map[string]bool
	missed map[string]miss // by shard with a lease that the last listings did not have
	begun  string          // where the group has begun the stream; "" until a lease is to be created
	passed bool            // a tick has seen that rows are missing, and left them to another worker
}

// miss is when the first and the last of the listings began in which a shard was missing, without one between that had it.
type miss struct{ first, last time.Time }

// due starts a listing if it is time, or early if the last one is too old to tell whether a shard's parents are gone.
func (g *listing) due(alive context.Context, l *life, v View, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	early := g.errors == 0 && now.Sub(g.last) >= 2*l.cfg.Beat && g.outdated(v)
	if g.busy || now.Before(g.next) && !early {
		return
	}
	g.busy, g.last = true, now
	var before []string // a lease that is younger than the listing says nothing
	for _, row := range v.Leases {
		if !row.Gone {
			before = append(before, row.ID)
		}
	}
	l.others.Go(func() {
		ctx, cancel := context.WithTimeout(alive, l.cfg.List)
		defer cancel()
		shards, err := l.cfg.Shards(ctx)
		if err == nil && len(shards) == 0 {
			err = errors.New("no shards are listed, though every stream has some")
		}
		if err != nil && alive.Err() == nil {
			l.trouble("Shards", err)
		}
		g.result(l.cfg, shards, before, err)
		nudge(l.wake)
	})
}

func (g *listing) outdated(v View) bool {
	rows := make(map[string]bool, len(v.Leases))
	for _, row := range v.Leases {
		rows[row.ID] = true
	}
	return slices.ContainsFunc(v.Leases, func(row Lease) bool {
		orphan := slices.ContainsFunc(row.Parents, func(p string) bool { return !rows[p] })
		return orphan && !g.listed[row.ID] && !row.Gone && row.Checkpoint != ShardEnd
	})
}

func (g *listing) result(cfg Config, shards []Shard, before []string, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.busy = false
	if err != nil {
		g.errors++
		g.next = time.Now().Add(backoff.FullJitter{Base: cfg.Beat, Max: cfg.List}.Delay(g.errors))
		return
	}
	g.errors, g.next = 0, time.Now().Add(cfg.List)
	listed := make(map[string]bool, len(shards))
	for _, s := range shards {
		listed[s.ID] = true
	}
	missed := map[string]miss{}
	for _, id := range before {
		if listed[id] {
			continue
		}
		m, before := g.missed[id]
		if !before {
			m.first = g.last
		}
		m.last = g.last
		missed[id] = m
	}
	g.shards, g.listed, g.missed = shards, listed, missed
}

// known returns which shards are listed, none before the first listing, and which are not any more. One listing proves nothing, nor do two
// at nearly the same time: the source may be eventually consistent.
func (g *listing) known(apart time.Duration) (listed, gone map[string]bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	gone = map[string]bool{}
	for id, m := range g.missed {
		if m.last.Sub(m.first) >= apart {
			gone[id] = true
		}
	}
	return g.listed, gone
}

// ensure creates the leases of listed shards that have none, children before their parents: whoever sees a parent's row may then
// conclude that a child without one is new. One worker does it, the others only a tick later.
func (g *listing) ensure(alive context.Context, l *life, v View) (created bool) {
	g.mu.Lock()
	shards := g.shards
	g.mu.Unlock()
	rows := map[string]bool{}
	for _, row := range v.Leases {
		rows[row.ID] = true
	}
	missing := slices.DeleteFunc(slices.Clone(shards), func(s Shard) bool { return rows[s.ID] })
	if len(missing) == 0 || l.isDraining() {
		g.passed = false
		return false
	}
	all := map[string]bool{l.id: true}
	for id := range l.taking {
		all[id] = true
	}
	if first(all, "") != l.id && !g.passed {
		g.passed = true
		return false
	}
	if err := g.begin(alive, l); err != nil {
		return false
	}
	for _, level := range generations(missing) {
		var mu sync.Mutex
		var failed bool
		each(level, func(s Shard) {
			position := g.begun
			if slices.ContainsFunc(s.Parents, func(p string) bool { return rows[p] }) {
				position = TrimHorizon
			}
			err := l.call(alive, "Ensure", func(ctx context.Context) error { return l.cfg.Store.Ensure(ctx, s, position) })
			mu.Lock()
			defer mu.Unlock()
			failed = failed || err != nil
			created = created || err == nil
		})
		if failed {
			return false
		}
	}
	return created
}

// begin finds out where the group has begun the stream, which is decided once: a shard without a lease may be new, but not every one whose
// parents have none is, after a time when no worker ran.
func (g *listing) begin(alive context.Context, l *life) error {
	if g.begun != "" {
		return nil
	}
	position := l.cfg.Start
	if position == Latest {
		position = At(time.Now())
	}
	return l.call(alive, "Begin", func(ctx context.Context) (err error) {
		g.begun, err = l.cfg.Store.Begin(ctx, position)
		return err
	})
}

// generations sorts shards into levels: no shard is in an earlier level than one of its children.
func generations(shards []Shard) [][]Shard {
	byID := make(map[string]*Shard, len(shards))
	for i := range shards {
		byID[shards[i].ID] = &shards[i]
	}
	level := map[string]int{}
	var raise func(s *Shard, n int)
	raise = func(s *Shard, n int) {
		if at, ok := level[s.ID]; ok && at >= n || n > len(shards) {
			return
		}
		level[s.ID] = n
		for _, p := range s.Parents {
			if parent := byID[p]; parent != nil {
				raise(parent, n+1)
			}
		}
	}
	for i := range shards {
		raise(&shards[i], 0)
	}
	var levels [][]Shard
	for _, s := range shards {
		for len(levels) <= level[s.ID] {
			levels = append(levels, nil)
		}
		levels[level[s.ID]] = append(levels[level[s.ID]], s)
	}
	return levels
}
