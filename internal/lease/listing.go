package lease

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/backoff"
)

// listing keeps what the source says. Its goroutine is one of life.others.
type listing struct {
	mu     sync.Mutex
	busy   bool
	next   time.Time
	last   time.Time // when the last listing began
	errors int
	shards []Shard
	listed map[string]bool
	missed map[string]miss // shards that have a lease and were missing in the last listings
	begun  string          // where the group has begun the stream; "" until a lease is to be created
	passed bool            // a tick has seen that rows are missing, and left them to another worker
}

// miss says that all listings that began from first to last lacked a shard.
type miss struct{ first, last time.Time }

// due starts a listing when it is time. It starts one early if the last is too old to tell whether a shard's parents are gone.
func (g *listing) due(alive context.Context, l *life, v View, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	early := g.errors == 0 && now.Sub(g.last) >= 2*l.cfg.Beat && g.outdated(v)
	if g.busy || now.Before(g.next) && !early {
		return
	}
	g.busy, g.last = true, now
	var before []string // a listing says nothing about a lease that is younger
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

// known returns the listed shards, nil before the first listing, and the shards that are gone. One listing without a shard proves
// nothing, nor do two at nearly the same time: the source may be eventually consistent.
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

// ensure creates the missing leases of listed shards, children before their parents. So a worker that sees a parent's row may
// conclude that a child without a row is new. One worker does this first, the others only a tick later.
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
	if chosen(all, "") != l.id && !g.passed {
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

// begin finds out where the group has begun the stream, which is decided once. After a time without workers, a shard need not be
// new although neither it nor its parents have leases.
func (g *listing) begin(alive context.Context, l *life) error {
	if g.begun != "" {
		return nil
	}
	position := l.cfg.Start
	if position == Latest {
		position = At(time.Now())
	}
	return l.call(alive, "Begin", func(ctx context.Context) error {
		begun, err := l.cfg.Store.Begin(ctx, position)
		if err == nil && begun == "" {
			err = errors.New("the table's answer lacks the position at which the group has begun")
		}
		if err == nil {
			g.begun = begun
		}
		return err
	})
}

// generations sorts shards into levels, children before their parents.
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
