package fleetsim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

const (
	simBound    = 12 // WithMaxUnfinished
	simDrain    = 20 * time.Second
	simLease    = 8 * time.Second
	simNotice   = simLease / 40 // how long a handler runs on after its context has ended
	simAttempts = 4             // attempts at an event that always fails
)

// simCloud is what the workers of a simulation share: a stream, and a table for the leases.
type simCloud interface {
	connect(l *simLink) (outbox.KinesisClient, outbox.LeaseClient)
	publish(id, aggregate string)
	split(pick int)
	merge(pick int)
	arrived() // waits until everything published is in the stream
	truth() truth
	close()
}

// workerSim is a fleet of workers of the real package, with their stream and their table, in one bubble.
type workerSim struct {
	simCloud
	*history
	t      *testing.T
	others sync.WaitGroup

	rngMu    sync.Mutex
	rng      *rand.Rand // of the handlers
	slow     time.Duration
	failing  float64 // share of attempts that fail
	stuck    bool    // the events of two aggregates fail
	bound    int     // WithMaxUnfinished
	retry    outbox.Retry
	poison   string                                                           // an event that always fails
	poisoned []int64                                                          // the fences of the attempts at poison
	calm     bool                                                             // nothing fails any more
	effect   func(ctx context.Context, run func(context.Context) error) error // a bug to plant in a handler

	workers []*simWorker
	events  int
}

type simWorker struct {
	*simLink
	cancel context.CancelFunc
	done   chan struct{}
	err    error
	lost   int // leases
}

func newWorkerSim(t *testing.T, seed uint64, wire bool) *workerSim {
	s := &workerSim{history: newHistory(), t: t, rng: rand.New(rand.NewPCG(seed, 2)), slow: 50 * time.Millisecond, bound: simBound, retry: outbox.Retry{MaxDelay: 2 * time.Second}}
	if wire {
		s.simCloud = newWireCloud(t, s)
	} else {
		s.simCloud = newCheapCloud(s, seed)
	}
	return s
}

func (s *workerSim) fails(event, aggregate string) bool {
	s.rngMu.Lock()
	defer s.rngMu.Unlock()
	return !s.calm && (event == s.poison || s.stuck && (aggregate == "a0" || aggregate == "a1") || s.rng.Float64() < s.failing)
}

func (s *workerSim) upTo(d time.Duration) time.Duration {
	s.rngMu.Lock()
	defer s.rngMu.Unlock()
	return time.Duration(s.rng.Float64() * float64(d))
}

// join starts a process with one worker. It dies at killAt if a point is given.
func (s *workerSim) join(trouble float64, killAt ...simPoint) *simWorker {
	l := &simLink{sim: s, name: fmt.Sprint("w", len(s.workers)), rng: rand.New(rand.NewPCG(uint64(len(s.workers)), uint64(s.upTo(1e9)))),
		trouble: trouble, cut: map[string]time.Time{}, points: map[string]int{}}
	w := &simWorker{simLink: l, done: make(chan struct{})}
	ctx, cancel := context.WithCancel(s.t.Context())
	w.cancel, l.onKill = cancel, cancel
	for _, at := range killAt {
		l.killAt = at
	}
	stream, table := s.connect(l)
	leases, err := outbox.NewLeaseTable(table, "leases", "mails")
	require.NoError(s.t, err)
	c, err := outbox.NewConsumer(outbox.WithLogger(slog.New(slog.DiscardHandler)), outbox.WithTables("events"))
	require.NoError(s.t, err)
	outbox.Handle(c, func(ctx context.Context, e outbox.Event[orderCreated]) error { return s.handle(ctx, w, e) })
	worker, err := outbox.NewWorker(stream, "events", c, leases,
		outbox.WithMaxUnfinished(s.bound), outbox.WithDrainTimeout(simDrain), outbox.WithLeaseDuration(simLease), outbox.WithBatchSize(7),
		outbox.WithHandlerRetry(s.retry), outbox.WithWorkerHooks(outbox.WorkerHooks{
			Lease: func(e outbox.LeaseEvent) { s.lease(w, e) },
			DataLost: func(d outbox.DataLoss) {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.violate("I5: %s says that data are lost: %+v", w.name, d)
			},
		}))
	require.NoError(s.t, err)
	s.workers = append(s.workers, w)
	go func() {
		defer close(w.done)
		w.err = worker.Run(ctx)
	}()
	return w
}

func (s *workerSim) lease(w *simWorker, e outbox.LeaseEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Kind == outbox.LeaseLost {
		w.lost++
	}
}

var errSim = errors.New("the handler fails")

// handle is a handler whose effect is the acknowledgement in the history. In a process that is gone it has no effect.
func (s *workerSim) handle(ctx context.Context, w *simWorker, e outbox.Event[orderCreated]) error {
	r, _ := outbox.RecordFromContext(ctx)
	at := simRecord{r.ShardID, r.SequenceNumber}
	w.gate()
	if w.killed() {
		return errGone
	}
	run := func(ctx context.Context) error {
		s.start(w.name, e.AggregateID, at, r.Fence)
		s.mayRun(w, at, r.Fence)
		ok := simSleep(ctx, s.upTo(s.slow)) && !s.fails(e.ID, e.AggregateID)
		w.gate()
		before, after := w.point("Handler")
		if before {
			w.die()
		}
		ok = ok && !w.killed()
		if ok {
			s.mayRun(w, at, r.Fence)
		} else if ctx.Err() != nil && !w.killed() { // the handler takes a while to notice, for which the protocol leaves room
			time.Sleep(s.upTo(simNotice))
			s.isAlone(w, at, r.Fence)
		}
		s.end(w.name, e.AggregateID, at, r.Fence, ok)
		if e.ID == s.poison && !ok {
			s.mu.Lock()
			s.poisoned = append(s.poisoned, r.Fence)
			s.mu.Unlock()
		}
		if after {
			w.die()
		}
		if !ok {
			return errSim
		}
		return nil
	}
	if s.effect != nil {
		return s.effect(ctx, run)
	}
	return run(ctx)
}

// mayRun checks that a process still has the right to run a handler. It excuses a paused process, which cannot know better.
func (s *workerSim) mayRun(w *simWorker, at simRecord, fence int64) {
	if late := time.Since(w.lastGood()); late > simLease && !w.mayBeLate() {
		s.mu.Lock()
		s.violate("I13: %s handles %v %v after its last good beat", w.name, at, late)
		s.mu.Unlock()
	}
	s.isAlone(w, at, fence)
}

// isAlone checks that no other worker has the lease by now.
func (s *workerSim) isAlone(w *simWorker, at simRecord, fence int64) {
	paused := w.mayBeLate()
	s.mu.Lock()
	defer s.mu.Unlock()
	if newest := s.fences[at.shard]; fence < newest && !paused {
		s.violate("I13: %s handles %v with fence %d, and somebody has fence %d", w.name, at, fence, newest)
	}
}

// stop ends a worker in good order, and checks that it ends in time.
func (s *workerSim) stop(w *simWorker) {
	start := time.Now()
	w.cancel()
	<-w.done
	took := time.Since(start)
	s.mu.Lock()
	defer s.mu.Unlock()
	if limit := simDrain + 2*time.Second + w.pausedSince(start); took > limit {
		s.violate("I14: Run of %s returned after %v", w.name, took)
	}
	if poison := (*outbox.HandlerError)(nil); w.err != nil && !w.killed() && (s.poison == "" || !errors.As(w.err, &poison)) {
		s.violate("Run of %s: %v", w.name, w.err)
	}
	for key, r := range s.running {
		if strings.HasPrefix(key, w.name+"/") && !w.killed() {
			s.violate("I14: Run of %s has returned while %v is handled", w.name, r)
		}
	}
}

func (s *workerSim) send(n int, rng *rand.Rand) {
	for range n {
		s.publish(fmt.Sprint("e", s.events), fmt.Sprint("a", rng.IntN(8)))
		s.events++
	}
}

func (w *simWorker) ended() bool {
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

// living are the workers that run and have not been told to stop.
func (s *workerSim) living(stopping map[*simWorker]bool) (living []*simWorker) {
	for _, w := range s.workers {
		if !w.killed() && !stopping[w] && !w.ended() {
			living = append(living, w)
		}
	}
	return living
}

// heal ends the failures of handlers.
func (s *workerSim) heal() {
	s.rngMu.Lock()
	defer s.rngMu.Unlock()
	s.calm = true
}

// longestPause is for how long a worker that could not do the work leaves shards to others: an hour at most.
const longestPause = time.Hour

// settle ends the faults, and waits until everything is handled and balanced. A worker that was unable to do the work in a long fault takes part
// again after a pause, so the time for the balance begins then. Then settle stops everything in good order, and checks the history. clean says
// that nothing may have been handled twice.
func (s *workerSim) settle(clean bool, stopping map[*simWorker]bool) (duplicates int) {
	for _, w := range s.workers {
		w.heal()
	}
	s.heal()
	s.arrived()
	t := s.truth()
	total := 0
	for _, records := range t.order {
		total += len(records)
	}
	cheap, _ := s.simCloud.(*cheapCloud)
	wrong := ""
	healed := time.Now()
	for deadline := healed.Add(3 * time.Minute); ; time.Sleep(250 * time.Millisecond) {
		if cheap != nil && cheap.unable() && time.Since(healed) < longestPause {
			deadline = time.Now().Add(3 * time.Minute)
		}
		s.mu.Lock()
		handled := len(s.acks)
		s.mu.Unlock()
		if wrong = ""; cheap != nil {
			wrong = cheap.unbalanced(s.living(stopping))
		}
		if handled >= total && wrong == "" || time.Now().After(deadline) {
			break
		}
	}
	s.mu.Lock()
	if wrong != "" {
		s.violate("I8: %s", wrong)
	}
	// Before it stops, each owner after the last attempt makes one more attempt.
	if owners := len(slices.Compact(slices.Sorted(slices.Values(s.poisoned)))); len(s.poisoned) > simAttempts+max(0, owners-1) {
		s.violate("I10: %d attempts of %d owners at a record that always fails, after %d the worker stops", len(s.poisoned), owners, simAttempts)
	}
	if total != s.events {
		s.violate("the stream has %d records of %d events", total, s.events)
	}
	s.mu.Unlock()
	for _, w := range s.workers {
		s.stop(w)
	}
	s.others.Wait()
	if cheap != nil {
		if owned := cheap.owned(); len(owned) > 0 {
			s.violations = append(s.violations, fmt.Sprintf("I14: all workers have stopped, and %s", owned))
		}
	}
	return s.check(t, clean, s.bound)
}

// simKind says what goes wrong in a schedule.
type simKind struct {
	name    string
	events  []string
	trouble float64 // share of calls that meet with trouble
	clean   bool    // nothing may be handled twice, and no lease may be lost
	slow    bool    // handlers take up to a second, and fail now and then
	poison  bool    // an event always fails, so one worker after the other stops
	stuck   bool    // the events of two of eight aggregates fail until the end
	bound   int     // WithMaxUnfinished; 0: simBound
}

// simSteady happens in every schedule: workers come and go, up to 5 at once.
var simSteady = []string{"join", "join", "stop", "rest"}

var simKinds = []simKind{
	{name: "clean", clean: true},
	{name: "reshard", events: []string{"split", "merge", "split under drain", "merge under drain"}, clean: true},
	{name: "crash", events: []string{"crash", "crash", "crash", "split", "merge"}},
	{name: "pause", events: []string{"pause", "pause", "pause", "split"}},
	{name: "partition", events: []string{"cut DynamoDB", "cut DynamoDB", "cut Kinesis", "cut Kinesis policy", "split"}, slow: true},
	{name: "answers", events: []string{"split", "merge", "split under drain", "cut Kinesis policy"}, trouble: 0.2, clean: true},
	{name: "handlers", events: []string{"crash", "split under drain", "split under drain", "merge under drain"}, slow: true},
	{name: "poison", events: []string{"split", "merge", "stop"}, poison: true},
	{name: "waiting", events: []string{"split", "merge", "stop", "split under drain", "merge under drain"}, stuck: true, bound: 60, clean: true},
	{name: "holes", events: []string{"crash", "crash", "split", "merge", "stop", "split under drain", "merge under drain", "cut Kinesis policy"}, stuck: true},
	{name: "clock", events: []string{"freeze", "expire", "expire", "split"}},
	{name: "storm", events: []string{"crash", "crash", "pause", "pause", "cut DynamoDB", "cut DynamoDB", "cut Kinesis", "cut Kinesis policy", "freeze", "expire", "split", "merge",
		"split under drain", "merge under drain"}, trouble: 0.1, slow: true},
}

// simulate runs one schedule. It begins with one worker. Ten times it publishes up to 15 events, lets up to 3 s pass, and makes
// one thing of the kind happen. At the end it leaves two workers without faults until everything is handled and shared evenly.
// plant, if not nil, puts a bug into the world.
func simulate(t *testing.T, kind simKind, seed uint64, wire bool, plant func(*workerSim)) (violations []string, reached simReached) {
	synctest.Test(t, func(t *testing.T) {
		s := newWorkerSim(t, seed, wire)
		defer s.close()
		if plant != nil {
			plant(s)
		}
		if kind.slow {
			s.slow, s.failing, s.retry = time.Second, 0.2, outbox.Retry{BaseDelay: time.Second, MaxDelay: 4 * time.Second}
		}
		if kind.stuck {
			s.stuck, s.retry = true, outbox.Retry{BaseDelay: time.Second, MaxDelay: 4 * time.Second}
		}
		if kind.bound > 0 {
			s.bound = kind.bound
		}
		if kind.poison {
			s.poison, s.retry = "e9", outbox.Retry{MaxAttempts: simAttempts, MaxDelay: time.Second}
		}
		rng := rand.New(rand.NewPCG(seed, 3))
		upTo := func(d time.Duration) time.Duration { return time.Duration(rng.Int64N(int64(d))) }
		events := slices.Concat(simSteady, kind.events)
		stopping := map[*simWorker]bool{}
		stop := func(w *simWorker) {
			stopping[w] = true
			s.others.Go(func() { s.stop(w) })
		}
		s.join(kind.trouble)
		goroutines, most := runtime.NumGoroutine(), 0
		for range 10 {
			s.send(rng.IntN(16), rng)
			time.Sleep(upTo(3 * time.Second))
			living := s.living(stopping)
			if len(living) == 0 { // all workers have met the poison
				living = append(living, s.join(kind.trouble))
			}
			w := living[rng.IntN(len(living))]
			event, pick, d := events[rng.IntN(len(events))], rng.IntN(1<<20), upTo(20*time.Second)
			event, drains := strings.CutSuffix(event, " under drain")
			drains = drains && len(living) > 1
			if rng.IntN(2) == 0 { // about as long as a lease
				d = simLease*3/4 + d/5
			}
			stopsFirst := drains && rng.IntN(2) == 0
			if stopsFirst {
				stop(w)
				time.Sleep(upTo(time.Second))
			}
			switch event {
			case "join":
				if len(living) < 5 {
					s.join(kind.trouble)
				}
			case "stop":
				if len(living) > 1 {
					stop(w)
				}
			case "split":
				s.split(pick)
			case "merge":
				s.merge(pick)
			case "crash":
				w.die()
				s.join(kind.trouble)
			case "pause":
				w.pause(d)
			case "freeze": // for each process its clock jumps
				for _, w := range living {
					w.pause(d)
				}
			case "expire":
				if c, ok := s.simCloud.(*cheapCloud); ok {
					c.expire(rng)
				}
			case "cut DynamoDB", "cut Kinesis", "cut Kinesis policy":
				w.partition(strings.TrimPrefix(event, "cut "), d)
			}
			if drains && !stopsFirst {
				time.Sleep(upTo(2 * time.Second))
				stop(w)
			}
			most = max(most, runtime.NumGoroutine()-goroutines)
		}
		s.heal()
		time.Sleep(2 * time.Second)
		for living := s.living(stopping); len(living) != 2; living = s.living(stopping) {
			if len(living) < 2 {
				s.join(0)
			} else {
				stop(living[0])
			}
		}
		reached = s.reached(s.settle(kind.clean, stopping))
		if most > 600 { // 5 workers, up to 6 shards and their ends, and workers that drain
			s.violations = append(s.violations, fmt.Sprintf("I11: %d goroutines", most))
		}
		for _, w := range s.workers {
			if kind.clean && w.lost > 0 {
				s.violations = append(s.violations, fmt.Sprintf("I12: %s has lost %d leases though it was well", w.name, w.lost))
			}
		}
		violations = s.violations
	})
	return violations, reached
}

// simReached counts what a schedule has reached: a world in which it never happens proves nothing about it.
type simReached struct {
	twice  int // records that were handled twice
	holes  int // that were stored
	hollow int // shards that ended with holes
}

func (h *history) reached(duplicates int) simReached {
	holes, hollow := map[simRecord]bool{}, map[string]bool{}
	for _, s := range h.saves {
		for sequence := range s.holes {
			holes[simRecord{s.shard, sequence}] = true
			if s.checkpoint == "SHARD_END" {
				hollow[s.shard] = true
			}
		}
	}
	return simReached{duplicates, len(holes), len(hollow)}
}

// WORKER_SEEDS is how many seeds of each kind run, WORKER_FIRST the first seed, and WORKER_SEED the only seed. A seed decides the
// schedule, but not what Go's scheduler makes of it: a failure may need several runs (-count=20) to come back.
func TestWorkerSimulation(t *testing.T) {
	seeds := simNumber("WORKER_SEEDS", 40)
	t.Run("cheap", func(t *testing.T) { runSeeds(t, seeds, false) })
	t.Run("wire", func(t *testing.T) { runSeeds(t, simNumber("WORKER_WIRE_SEEDS", min(seeds, 2)), true) })
}

func runSeeds(t *testing.T, seeds int, wire bool) {
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	first := simNumber("WORKER_FIRST", 1)
	if one := simNumber("WORKER_SEED", 0); one > 0 {
		first, seeds = one, 1
	}
	for _, kind := range simKinds {
		t.Run(kind.name, func(t *testing.T) {
			var total simReached
			for seed := first; seed < first+seeds; seed++ {
				violations, reached := simulate(t, kind, uint64(seed), wire, nil)
				total.twice, total.holes, total.hollow = total.twice+reached.twice, total.holes+reached.holes, total.hollow+reached.hollow
				if len(violations) > 0 {
					require.Failf(t, "an invariant is broken", "%s\nto run it again: WORKER_SEED=%d go test -count=1 -run '^%s$' ./fleetsim",
						strings.Join(violations[:min(6, len(violations))], "\n"), seed, t.Name())
				}
			}
			t.Logf("%s: %d seeds, %d records were handled twice, %d waited below a checkpoint, %d shards ended before such a record",
				strings.TrimPrefix(t.Name(), "TestWorkerSimulation/"), seeds, total.twice, total.holes, total.hollow)
			if kind.stuck && seeds > 5 {
				require.Greater(t, total.holes, seeds)
				require.Greater(t, total.hollow, seeds/2)
			}
		})
	}
}
