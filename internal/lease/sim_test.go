package lease

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"
)

const (
	simRange    = 16 // hash keys
	simDuration = 8 * time.Second
	simDrain    = 5 * time.Second
)

// sim is a stream, its table and a fleet, in one synctest bubble.
type sim struct {
	bug   string
	table *audit
	wg    sync.WaitGroup // everything but the workers

	mu         sync.Mutex
	rng        *rand.Rand
	shards     map[string]*simShard
	violations []string
	events     []string
	began      time.Time
	dead, lost int // hooks
	fenced     int
	released   map[string]time.Time // by shard, when its last reader returned after a Stop
	handovers  []time.Duration
	workers    []*simWorker
	next       int
	victim     func(*simWorker) // prepares the first worker
}

// simShard is a shard of the stream, and what has been done with it.
type simShard struct {
	Shard
	lo, hi   int
	records  int
	closed   bool
	children []Shard
	acked    []int
	handler  *link // the process that handles a record now
	readers  map[reader]int
}

// reader is a process that reads a shard at a fence. After a fence it may read the shard again before it has stopped altogether.
type reader struct {
	*link
	fence int64
}

type simWorker struct {
	*link
	stop   context.CancelFunc
	ended  chan struct{}
	err    error
	stopAt time.Time
	goneAt time.Time
}

func newSim(seed uint64, bug string) *sim {
	s := &sim{bug: bug, rng: rand.New(rand.NewPCG(seed, 1)), shards: map[string]*simShard{}, began: time.Now(), released: map[string]time.Time{}}
	s.table = &audit{bug: bug, sim: s, dead: map[string]bool{}, gone: map[string]bool{}, beat: map[string]time.Time{}}
	s.shard(0, simRange/2-1)
	s.shard(simRange/2, simRange-1)
	return s
}

func (s *sim) violation(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.violations = append(s.violations, fmt.Sprintf("%v ", time.Since(s.began))+fmt.Sprintf(format, args...))
}

func (s *sim) event(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, fmt.Sprintf("%v ", time.Since(s.began))+fmt.Sprintf(format, args...))
}

// shard adds an open shard. The caller holds mu, or is alone.
func (s *sim) shard(lo, hi int, parents ...string) *simShard {
	s.next++
	sh := &simShard{
		Shard: Shard{ID: fmt.Sprintf("s-%03d", s.next), Parents: parents, HashLo: strconv.Itoa(lo), HashHi: strconv.Itoa(hi)},
		lo:    lo, hi: hi, readers: map[reader]int{},
	}
	s.shards[sh.ID] = sh
	return sh
}

func (s *sim) open() []*simShard {
	var open []*simShard
	for _, sh := range s.shards {
		if !sh.closed {
			open = append(open, sh)
		}
	}
	slices.SortFunc(open, func(a, b *simShard) int { return a.lo - b.lo })
	return open
}

func (s *sim) publish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := s.open()
	sh := open[s.rng.IntN(len(open))]
	sh.records++
	sh.acked = append(sh.acked, 0)
}

func (s *sim) split() {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := s.open()
	sh := open[s.rng.IntN(len(open))]
	if sh.lo == sh.hi {
		return
	}
	middle := (sh.lo + sh.hi) / 2
	sh.closed = true
	sh.children = []Shard{s.shard(sh.lo, middle, sh.ID).Shard, s.shard(middle+1, sh.hi, sh.ID).Shard}
}

func (s *sim) merge() {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := s.open()
	if len(open) < 2 {
		return
	}
	i := s.rng.IntN(len(open) - 1)
	a, b := open[i], open[i+1]
	child := s.shard(a.lo, b.hi, a.ID, b.ID).Shard
	a.closed, b.closed = true, true
	a.children, b.children = []Shard{child}, []Shard{child}
}

func (s *sim) list(context.Context) ([]Shard, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Shard
	for _, sh := range s.shards {
		all = append(all, sh.Shard)
	}
	return all, nil
}

func (s *sim) published(shard string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shards[shard].records
}

// unacked returns the first unhandled record before a position, or -1.
func (s *sim) unacked(shard string, before int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, n := range s.shards[shard].acked {
		if i < before && n == 0 {
			return i
		}
	}
	return -1
}

func (s *sim) random(max time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return 1 + time.Duration(s.rng.Int64N(int64(max)))
}

// start adds a worker.
func (s *sim) start(f faults) *simWorker {
	s.mu.Lock()
	k := &link{sim: s, store: s.table, name: fmt.Sprintf("w%d", len(s.workers)), rng: rand.New(rand.NewPCG(s.rng.Uint64(), 2)), faults: f}
	ctx, cancel := context.WithCancel(context.Background())
	w := &simWorker{link: k, stop: cancel, ended: make(chan struct{})}
	s.workers = append(s.workers, w)
	name := s.rng.Uint64()
	s.mu.Unlock()
	if s.victim != nil && len(s.workers) == 1 {
		s.victim(w)
	}
	cfg := Config{
		Store: k, Worker: k.name, Shards: func(ctx context.Context) ([]Shard, error) { return s.listFor(ctx, k) }, Duration: simDuration, Drain: simDrain, List: time.Minute, gate: k.gate,
		suffix:  func() string { name++; return strconv.FormatUint(name, 36) },
		Consume: func(ctx context.Context, h *Held) error { return s.consume(ctx, k, h) },
		Hooks: Hooks{
			Dead:   func(string) { s.count(&s.dead) },
			Fenced: func(string, error) { s.count(&s.fenced) },
			Lost: func(shard string, fence int64, err error) {
				if !k.crashed() && !errors.Is(err, errOver) {
					s.event("%s lost %s: %v", k.name, shard, err)
					s.count(&s.lost)
				}
			},
		},
	}
	switch s.bug {
	case "fenced too late":
		cfg.slack = 4 * time.Second
	case "mark ignores the beat":
		// A worker that fences itself never beats again. The condition excuses a worker whose clock has stood still.
		cfg.slack = time.Minute
	}
	go func() {
		defer close(w.ended)
		w.err = Run(ctx, cfg)
		w.goneAt = time.Now()
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, sh := range s.shards {
			for r, n := range sh.readers {
				if r.link == k && n != 0 {
					s.violations = append(s.violations, fmt.Sprintf("I14: Run of %s has returned while it reads %s", k.name, sh.ID))
				}
			}
		}
	}()
	return w
}

func (s *sim) count(n *int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*n++
}

// consume is a reader. It handles one record after the other.
func (s *sim) consume(ctx context.Context, k *link, h *Held) error {
	s.mu.Lock()
	sh := s.shards[h.Shard().ID]
	if sickness := k.sickness(); sh == nil || sickness == "read" || sickness == "find" {
		s.mu.Unlock()
		return errDenied
	}
	r := reader{k, h.Fence()}
	sh.readers[r]++
	if sh.readers[r] > 1 {
		s.violations = append(s.violations, fmt.Sprintf("I11: %s reads %s twice at once", k.name, sh.ID))
	}
	if at, ok := s.released[sh.ID]; ok {
		s.handovers = append(s.handovers, time.Since(at))
		delete(s.released, sh.ID)
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		sh.readers[r]--
	}()

	done := position(h.Progress().Checkpoint)
	s.startsAtTheWatermark(h, done)
	saved, savedAt := done, time.Now()
	save := func(ctx context.Context) error {
		err := h.Save(ctx, Progress{Checkpoint: strconv.Itoa(done)})
		if err == nil {
			saved, savedAt = done, time.Now()
		}
		return err
	}
	for {
		k.gate()
		if k.crashed() {
			return errCrashed
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		h.Reading(nil)
		select {
		case <-h.Stop():
			if s.bug == "released without drain" {
				done++ // done also counts the record that is being handled
			}
			if done > saved {
				if err := save(ctx); err != nil {
					return err
				}
			}
			s.mu.Lock()
			s.released[sh.ID] = time.Now()
			s.mu.Unlock()
			return nil
		default:
		}
		s.mu.Lock()
		more, closed, children := done < sh.records, sh.closed, sh.children
		s.mu.Unlock()
		switch {
		case more:
			if s.handle(ctx, k, sh, h) {
				s.mu.Lock()
				sh.acked[done]++
				s.mu.Unlock()
				done++
			}
		case closed:
			return h.End(ctx, nil, children)
		default:
			sleep(ctx, s.random(100*time.Millisecond))
		}
		if done-saved >= 8 || done > saved && time.Since(savedAt) > 300*time.Millisecond {
			if err := save(ctx); errors.Is(err, ErrLost) {
				return err
			}
		}
	}
}

// startsAtTheWatermark checks that a reader starts after what its predecessor saved last.
func (s *sim) startsAtTheWatermark(h *Held, done int) {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	row := s.table.rows().leases[h.Shard().ID]
	h.saving.Lock()
	first := h.n == 0
	h.saving.Unlock()
	stored := position(row.Checkpoint)
	if row.Fence == h.Fence() && row.Owner == h.Worker() && (stored > done || first && stored < done) {
		s.violation("I14: %s starts %s after %d, and the checkpoint is %s", h.Worker(), row.ID, done, row.Checkpoint)
	}
}

// handle is a handler of one record. It reports whether the record may be acknowledged.
func (s *sim) handle(ctx context.Context, k *link, sh *simShard, h *Held) bool {
	s.lineage(sh)
	k.mu.Lock()
	good, paused := k.good, k.tainted
	k.mu.Unlock()
	if late := time.Since(good); late > simDuration && !paused {
		s.violation("I13: %s handles a record of %s %v after its last good beat", k.name, sh.ID, late)
	}
	s.mu.Lock()
	if other := sh.handler; other != nil && other != k && !paused && !other.crashed() && !other.wasPaused() {
		s.violations = append(s.violations, fmt.Sprintf("%v I2: %s and %s handle records of %s at once", time.Since(s.began), k.name, other.name, sh.ID))
	}
	sh.handler = k
	s.mu.Unlock()
	finished := sleep(ctx, s.random(40*time.Millisecond))
	k.gate()
	s.mu.Lock()
	defer s.mu.Unlock()
	if sh.handler == k {
		sh.handler = nil
	}
	return finished && !k.crashed()
}

func (k *link) wasPaused() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.tainted
}

func (s *sim) lineage(sh *simShard) {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	defer s.table.mem.lock()()
	for _, p := range sh.Parents {
		if row := s.table.mem.leases[p]; row == nil || row.Checkpoint != ShardEnd {
			s.violation("I3: a record of %s is handled before its parent %s has ended: %+v", sh.ID, p, row)
		}
	}
}

// running are the workers that have neither been told to stop nor crashed.
func (s *sim) running() []*simWorker {
	var running []*simWorker
	for _, w := range s.workers {
		if w.stopAt.IsZero() && !w.crashed() {
			running = append(running, w)
		}
	}
	return running
}

// finish stops a worker. Unless the worker has crashed, finish waits for it.
func (s *sim) finish(w *simWorker) {
	w.stopAt = time.Now()
	w.stop()
}

// balancedWithin says what is wrong with the shares if they are not even within a time.
func (s *sim) balancedWithin(patience time.Duration, workers int) (wrong string) {
	for end := time.Now().Add(patience); ; time.Sleep(time.Second) {
		if wrong = s.balanced(workers); wrong == "" || !time.Now().Before(end) {
			return wrong
		}
	}
}

// balanced says what is wrong with the table when everything is calm.
func (s *sim) balanced(workers int) string {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	r := s.table.rows()
	has := map[string]int{}
	for _, w := range r.workers {
		if !w.Dead {
			has[w.ID] = 0
		}
	}
	if len(has) != workers {
		return fmt.Sprintf("%d workers are registered as living, not %d: %v", len(has), workers, r.workers)
	}
	n := 0
	for _, l := range r.leases {
		if l.Checkpoint == ShardEnd {
			continue
		}
		n++
		if _, ok := has[l.Owner]; !ok {
			return fmt.Sprintf("nobody living has %+v", l)
		}
		has[l.Owner]++
	}
	for id, count := range has {
		if count < n/workers || count > (n+workers-1)/workers {
			return fmt.Sprintf("%s has %d of %d leases: %v", id, count, n, has)
		}
	}
	return ""
}

// unfinished says which records of the stream have not been handled.
func (s *sim) unfinished() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sh := range s.shards {
		for i, n := range sh.acked {
			if n == 0 {
				return fmt.Sprintf("record %d of %s", i, sh.ID)
			}
		}
	}
	return ""
}

func (s *sim) duplicates() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, sh := range s.shards {
		for _, acks := range sh.acked {
			n += max(0, acks-1)
		}
	}
	return n
}
