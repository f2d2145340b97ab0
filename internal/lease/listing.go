package lease

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
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
	open   map[string]miss // shards that have ended, and that the last listings had as open
	unread []string        // those that were missing in the last listing and are still to be read
	alone  time.Time       // since when all listings were made while no other worker was able
	back   map[string]bool // shards that were marked gone, or missed by somebody, when the last listing began, and that it has
	alien  time.Time       // since when all listings have had none of the table's shards; zero: they have some
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
	before := v // a listing says nothing about a lease that is younger
	l.others.Go(func() {
		ctx, cancel := context.WithTimeout(alive, l.cfg.List)
		defer cancel()
		shards, err := l.cfg.Shards(ctx)
		if err == nil && len(shards) == 0 {
			err = errors.New("no shards are listed, though every stream has some")
		}
		err = g.result(l.cfg, shards, before, l.id, err)
		if alive.Err() == nil {
			l.health.listing(err)
			if err != nil {
				l.trouble("Shards", err)
			}
		}
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

// errAlien is a listing of something else than the stream whose leases the table has.
var errAlien = errors.New("the stream listed has none of the shards of the lease table: another Region, account or endpoint?")

// result takes in a listing that began when the table was as before. It returns an error if the listing is none.
func (g *listing) result(cfg Config, shards []Shard, before View, me string, err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.busy = false
	listed, parents := make(map[string]bool, len(shards)), map[string]bool{}
	for _, s := range shards {
		listed[s.ID] = true
		for _, p := range s.Parents {
			parents[p] = true
		}
	}
	if err == nil {
		err = g.familiar(cfg, listed, before, me)
	}
	if err != nil {
		g.errors++
		g.next = time.Now().Add(backoff.FullJitter{Base: cfg.Beat, Max: cfg.List}.Delay(g.errors))
		return err
	}
	g.errors, g.next = 0, time.Now().Add(cfg.List-rand.N(cfg.List/8)) // workers that began together do not stay together
	open := map[string]bool{}
	for _, s := range shards {
		open[s.ID] = s.Open && !parents[s.ID]
	}
	var unread []string
	missed, opened, back := map[string]miss{}, map[string]miss{}, map[string]bool{}
	for _, row := range before.Leases {
		switch {
		case !listed[row.ID] && !row.Gone:
			if !row.finished() {
				unread = append(unread, row.ID)
			}
			missed[row.ID] = g.again(g.missed, row.ID)
		case open[row.ID] && row.Checkpoint == ShardEnd:
			opened[row.ID] = g.again(g.open, row.ID)
		}
		if listed[row.ID] && (row.Gone || row.Missing != "") {
			back[row.ID] = true
		}
	}
	g.shards, g.listed, g.missed, g.open, g.back, g.unread = shards, listed, missed, opened, back, unread
	if g.alone.IsZero() {
		g.alone = g.last
	}
	if othersAble(before, me) {
		g.alone = time.Time{}
	}
	return nil
}

// othersAble reports whether another worker can do the work.
func othersAble(v View, me string) bool {
	return slices.ContainsFunc(v.Workers, func(w Worker) bool { return w.ID != me && !w.Dead && w.Beat > 0 && !w.Unable })
}

// again notes that the last listing, too, says something of a shard.
func (g *listing) again(before map[string]miss, shard string) miss {
	m, ok := before[shard]
	if !ok {
		m.first = g.last
	}
	m.last = g.last
	return m
}

// familiar returns an error if a listing has none of the shards that are still to be read. But if no other worker can list them
// either, and this lasts, then all of them have expired.
func (g *listing) familiar(cfg Config, listed map[string]bool, before View, me string) error {
	unread := 0
	for _, row := range before.Leases {
		if row.finished() || row.Gone && !listed[row.ID] {
			continue
		}
		if unread++; listed[row.ID] {
			g.alien = time.Time{}
			return nil
		}
	}
	if unread == 0 {
		g.alien = time.Time{}
		return nil
	}
	if g.alien.IsZero() {
		g.alien = g.last
	}
	if othersAble(before, me) || g.last.Sub(g.alien) < 5*cfg.List {
		return errAlien
	}
	return nil
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

// lacks returns the shards still to be read that are gone as known has it.
func (g *listing) lacks(apart time.Duration) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var lacks []string
	for _, id := range g.unread {
		if m := g.missed[id]; m.last.Sub(m.first) >= apart {
			lacks = append(lacks, id)
		}
	}
	return lacks
}

// doubts returns shards of the table about which the last listings say something else: missing for long, back again, and open.
func (g *listing) doubts(list time.Duration) (long, back, open map[string]bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	long, open = map[string]bool{}, map[string]bool{}
	for id, m := range g.missed {
		since := m.first
		if g.alone.After(since) {
			since = g.alone
		}
		long[id] = !g.alone.IsZero() && m.last.Sub(since) >= 3*list
	}
	for id, m := range g.open {
		open[id] = m.last.Sub(m.first) >= 2*list // a listing may be older than its answer
	}
	return long, g.back, open
}

// settled says that what the last listing has said of a shard is done. A worker whose listing says the opposite could undo it at once, and
// both would write for ever; so each writes once for a listing.
func (g *listing) settled(shard string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.back, g.open = maps.Clone(g.back), maps.Clone(g.open)
	delete(g.back, shard)
	delete(g.open, shard)
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
		now, err := l.sourceTime(alive)
		if err != nil {
			return err
		}
		position = At(now)
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

// sourceTime asks for the source's time, which may take several calls.
func (l *life) sourceTime(alive context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(alive, l.cfg.List)
	defer cancel()
	now, err := l.cfg.Now(ctx)
	if err != nil && alive.Err() == nil {
		l.trouble("Now", err)
	}
	return now, err
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
