package lease

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// Health is what a worker knows of its own ability to do the work, over all its lives. Its times are multiples of Config.List. The zero value
// is ready to be given to a Config. It is safe for concurrent use.
type Health struct {
	list  time.Duration // Config.List
	doubt time.Duration // for how long nothing is held against a worker whose first listing has not come

	mu      sync.Mutex
	began   time.Time
	listed  time.Time // when the last good listing ended; zero before the first
	failed  int       // listings that have failed since
	why     error     // the last error of these
	reads   map[*Held]*reads
	paused  map[string]pause // by shard that is left to others; "" stands for all shards
	refused error            // the last error of what is paused
	blinded time.Time        // until when the worker leaves all shards to others because it has not seen the table for long
	unseen  error            // why
	left    error            // why the worker leaves all shards to others, unless it is for its listings
	beats   contact          // with the lease table, by heartbeats
	looks   contact          // with the lease table, by looks and views
	stopped bool             // the worker drains
}

// reads is how the reading of a held shard goes.
type reads struct {
	good  time.Time // the last answer; zero if there was none
	first time.Time // the first failure after it; zero if there was none
	since time.Time // the same, or when a pause for it began
	err   error     // the last failure
}

// pause is a time in which a worker leaves a shard, or all, to others. Each is twice as long as the one before, if that was not long ago.
type pause struct {
	until  time.Time
	length time.Duration
}

// most is how many shards a worker's row may refuse.
const most = 20

// begin forgets what an earlier Run has left.
func (h *Health) begin(cfg Config) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list, h.doubt, h.began = cfg.List, cfg.Duration, time.Now()
	h.reads, h.paused = map[*Held]*reads{}, map[string]pause{}
	h.listed, h.failed, h.why, h.refused, h.unseen, h.left = time.Time{}, 0, nil, nil, nil, nil
	h.blinded, h.beats, h.looks, h.stopped = time.Time{}, contact{}, contact{}, false
}

// sick is for how long a failure must last until it is held against the worker.
func (h *Health) sick() time.Duration { return 2 * h.list }

// listing takes in what a listing came to.
func (h *Health) listing(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.failed++
		h.why = err
		return
	}
	h.listed, h.failed, h.why = time.Now(), 0, nil
}

// hold and release say from when to when a lease is held.
func (h *Health) hold(l *Held) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reads[l] = &reads{}
}

func (h *Health) release(l *Held) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.reads, l)
}

// reading takes in what a request of a shard's source came to. A worker that reads is able, whatever was before.
func (h *Health) reading(l *Held, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, now := h.reads[l], time.Now()
	switch {
	case r == nil: // a straggler of a lease that is not held any more
	case err == nil:
		r.good, r.first, r.since, r.err = now, time.Time{}, time.Time{}, nil
		for _, key := range []string{"", l.shard.ID} {
			if p := h.paused[key]; now.Before(p.until) {
				h.paused[key] = pause{now, p.length}
			}
		}
	default:
		r.err = err
		if r.since.IsZero() {
			r.first, r.since = now, now
		}
	}
}

// blind takes in that all views since then have failed, although heartbeats get through. The others would wait for such a worker: it
// neither acquires what falls to it nor hands over what others ask for.
func (h *Health) blind(since time.Time, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if long := now.Sub(since); long >= max(h.list/2, 2*h.doubt) {
		h.blinded = now.Add(5 * h.list)
		h.unseen = fmt.Errorf("the lease table could not be read for %v: %w", long.Round(time.Second), err)
	}
}

// unproven reports whether no listing has shown yet that the worker lists the stream whose leases the table has. Until then it
// acquires nothing, unless it is known to be unable and nobody else is able.
func (h *Health) unproven() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.listed.IsZero()
}

// ability returns the shards that the worker leaves to others, and why it cannot do the work at all, nil if it can. listed are the shards
// of the last listing: a worker is not to blame for a shard that is gone. missed are the shards still to be read that the last listings
// lack: another worker may know better, unless this one reads them well.
func (h *Health) ability(now time.Time, listed map[string]bool, missed []string) (refuses []string, unable error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	reading := false
	var failing []*Held
	for l, r := range h.reads {
		switch {
		case !r.since.IsZero() && now.Sub(r.since) >= h.sick() && (listed == nil || listed[l.shard.ID]):
			failing = append(failing, l)
		case r.since.IsZero() && !r.good.IsZero() && now.Sub(r.good) < h.sick():
			reading = true
		}
	}
	for _, l := range failing {
		key := l.shard.ID
		if !reading { // not this shard is sick, but this worker
			key = ""
		}
		h.pause(key, now)
		h.refused = fmt.Errorf("shard %s could not be read for %v: %w", l.shard.ID, now.Sub(h.reads[l].since).Round(time.Second), h.reads[l].err)
		h.reads[l].since = now // after the pause it counts anew
	}
	for key, p := range h.paused {
		switch {
		case now.Sub(p.until) > p.length:
			delete(h.paused, key)
		case key != "" && now.Before(p.until):
			refuses = append(refuses, key)
		}
	}
	well := map[string]bool{}
	for l, r := range h.reads {
		well[l.shard.ID] = r.since.IsZero()
	}
	for _, shard := range missed {
		if !well[shard] && !slices.Contains(refuses, shard) {
			refuses = append(refuses, shard)
		}
	}
	h.left = nil
	tooMany := len(refuses) > most
	slices.Sort(refuses)
	refuses = refuses[:min(len(refuses), most)]
	switch {
	case h.listed.IsZero() && (h.failed >= 2 || now.Sub(h.began) >= h.doubt), !h.listed.IsZero() && h.failed > 0 && now.Sub(h.listed) >= h.sick():
		unable = h.why
		if unable == nil {
			unable = fmt.Errorf("no listing has come in %v", now.Sub(h.began).Round(time.Second))
		}
		unable = fmt.Errorf("the shards of the stream cannot be listed: %w", unable)
	case now.Before(h.blinded):
		h.left = h.unseen
	case now.Before(h.paused[""].until):
		h.left = h.refused
	case tooMany:
		h.left = fmt.Errorf("more than %d shards can be read by others only", most)
	}
	if unable == nil {
		unable = h.left
	}
	return refuses, unable
}

// pause begins a pause, unless it lasts. The caller holds the lock.
func (h *Health) pause(key string, now time.Time) {
	p := h.paused[key]
	if now.Before(p.until) {
		return
	}
	p.length = min(max(2*p.length, 5*h.list), 60*h.list)
	p.until = now.Add(p.length)
	h.paused[key] = p
}

// assess finds out whether this worker can do the work, and tells the others when that changes.
func (l *life) assess(now time.Time) {
	listed, _ := l.list.known(0)
	refuses, unable := l.health.ability(now, listed, l.list.lacks(l.cfg.List/2))
	l.mu.Lock()
	changed := (unable != nil) != l.unable || !slices.Equal(refuses, l.refuses)
	l.unable, l.refuses = unable != nil, refuses
	tell := unable != nil && now.Sub(l.complained) >= remindEvery
	if tell {
		l.complained = now
	}
	l.mu.Unlock()
	if changed {
		l.moved()
	}
	if tell && l.cfg.Hooks.Unable != nil {
		l.cfg.Hooks.Unable(unable)
	}
}

// holdsBack reports whether it is too early to acquire anything: the worker does not know yet whether it is able, or knows that it is not,
// and the others do not know yet.
func (l *life) holdsBack(workers []Worker) bool {
	l.mu.Lock()
	unable := l.unable
	l.mu.Unlock()
	told := slices.ContainsFunc(workers, func(w Worker) bool { return w.ID == l.id && w.Unable })
	return unable && !told || !unable && l.health.unproven() // a listing may have failed since unable was found out
}

// takers returns the workers among candidates that take leases: those that are able, or all if none is.
func takers(candidates map[string]Worker) map[string]bool {
	able := map[string]bool{}
	for id, w := range candidates {
		if !w.Unable {
			able[id] = true
		}
	}
	if len(able) > 0 {
		return able
	}
	for id := range maps.Keys(candidates) {
		able[id] = true
	}
	return able
}
