package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	ktypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

const (
	simBound = 40
	simDrain = 20 * time.Second
)

// workerSim is a fleet of workers of the real package, their stream and their table, in one bubble.
type workerSim struct {
	*world
	*history
	t      *testing.T
	wire   sync.Mutex // one write of a lease at a time
	others sync.WaitGroup

	rngMu   sync.Mutex
	rng     *rand.Rand
	slow    time.Duration // how long a handler takes at most
	failing float64       // share of attempts that fail

	workers []*simWorker
	ids     map[string]bool
}

type simWorker struct {
	*simLink
	name   string
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

func newWorkerSim(t *testing.T, seed uint64) *workerSim {
	s := &workerSim{world: newWorldWith(t), history: newHistory(), t: t, rng: rand.New(rand.NewPCG(seed, 2)), slow: 50 * time.Millisecond, ids: map[string]bool{}}
	table, err := outbox.NewLeaseTable(s.DynamoDB, "leases", "mails")
	require.NoError(t, err)
	require.NoError(t, table.Create(t.Context()))
	return s
}

func (s *workerSim) float() float64 {
	s.rngMu.Lock()
	defer s.rngMu.Unlock()
	return s.rng.Float64()
}

func (s *workerSim) upTo(d time.Duration) time.Duration { return time.Duration(s.float() * float64(d)) }

// start1 starts a process with one worker.
func (s *workerSim) start1(prepare func(*simLink), opts ...outbox.WorkerOption) *simWorker {
	name := fmt.Sprint("w", len(s.workers))
	config := s.Config()
	l := &simLink{sim: s, next: s.HTTPClient().Transport, dead: make(chan struct{}), rng: rand.New(rand.NewPCG(uint64(len(s.workers)), uint64(s.float()*1e9))),
		cut: map[string]bool{}}
	config.HTTPClient = &http.Client{Transport: l}
	w := &simWorker{simLink: l, name: name, done: make(chan struct{})}
	ctx, cancel := context.WithCancel(s.t.Context())
	w.cancel, l.onKill = cancel, cancel
	if prepare != nil {
		prepare(l)
	}
	leases, err := outbox.NewLeaseTable(dynamodb.NewFromConfig(config), "leases", "mails")
	require.NoError(s.t, err)
	c := newConsumer(s.t, quiet(), outbox.WithTables("events"))
	outbox.Handle(c, func(ctx context.Context, e outbox.Event[orderCreated]) error { return s.handle(ctx, w, e) })
	worker, err := outbox.NewWorker(kinesis.NewFromConfig(config), "events", c, leases, append([]outbox.WorkerOption{
		outbox.WithMaxUnfinished(simBound), outbox.WithDrainTimeout(simDrain), outbox.WithBatchSize(15),
		outbox.WithHandlerRetry(outbox.Retry{MaxDelay: 2 * time.Second})}, opts...)...)
	require.NoError(s.t, err)
	s.workers = append(s.workers, w)
	go func() {
		defer close(w.done)
		w.err = worker.Run(ctx)
	}()
	return w
}

var errSim = errors.New("the handler fails")

// handle is a handler whose effect is the acknowledgement in the history. A process that is gone has none.
func (s *workerSim) handle(ctx context.Context, w *simWorker, e outbox.Event[orderCreated]) error {
	r, _ := outbox.RecordFromContext(ctx)
	at := simRecord{r.ShardID, r.SequenceNumber}
	w.gate()
	if w.killed() {
		return errGone
	}
	s.start(w.name, e.AggregateID, at, r.Fence)
	ok := simSleep(ctx, s.upTo(s.slow)) && s.float() >= s.failing
	w.gate()
	before, after := w.point()
	if before {
		w.die()
	}
	ok = ok && !w.killed()
	s.end(w.name, e.AggregateID, at, r.Fence, ok)
	if after {
		w.die()
	}
	if !ok {
		return errSim
	}
	return nil
}

// stop ends a worker in good order, and checks that it does so in time.
func (s *workerSim) stop(w *simWorker) {
	start := time.Now()
	w.cancel()
	<-w.done
	s.mu.Lock()
	defer s.mu.Unlock()
	if took := time.Since(start); took > simDrain+2*time.Second {
		s.violate("I14: Run of %s returned after %v", w.name, took)
	}
	if w.err != nil && !w.killed() {
		s.violate("Run of %s: %v", w.name, w.err)
	}
}

func (s *workerSim) publish(n int) {
	for range n {
		e := event(fmt.Sprint("e", len(s.ids)))
		e.AggregateID = fmt.Sprint("a", int(s.float()*12))
		require.NoError(s.t, s.writer.Put(s.t.Context(), "orders", order{e.ID}, e))
		s.ids[e.ID] = true
	}
}

func (s *workerSim) shards() []ktypes.Shard {
	out, err := s.Kinesis.ListShards(s.t.Context(), &kinesis.ListShardsInput{StreamName: aws.String("events")})
	require.NoError(s.t, err)
	return out.Shards
}

// reshard splits an open shard, or merges two.
func (s *workerSim) reshard(split bool) {
	low := func(sh ktypes.Shard) *big.Int {
		n, _ := new(big.Int).SetString(*sh.HashKeyRange.StartingHashKey, 10)
		return n
	}
	high := func(sh ktypes.Shard) *big.Int {
		n, _ := new(big.Int).SetString(*sh.HashKeyRange.EndingHashKey, 10)
		return n
	}
	var open []ktypes.Shard
	for _, sh := range s.shards() {
		if sh.SequenceNumberRange.EndingSequenceNumber == nil {
			open = append(open, sh)
		}
	}
	a := open[int(s.float()*float64(len(open)))]
	if split && len(open) < 6 {
		middle := new(big.Int).Add(low(a), high(a))
		_, err := s.Kinesis.SplitShard(s.t.Context(), &kinesis.SplitShardInput{StreamName: aws.String("events"), ShardToSplit: a.ShardId,
			NewStartingHashKey: aws.String(middle.Rsh(middle, 1).String())})
		require.NoError(s.t, err)
		return
	}
	for _, b := range open {
		if new(big.Int).Sub(low(b), high(a)).Cmp(big.NewInt(1)) == 0 {
			_, err := s.Kinesis.MergeShards(s.t.Context(), &kinesis.MergeShardsInput{StreamName: aws.String("events"), ShardToMerge: a.ShardId, AdjacentShardToMerge: b.ShardId})
			require.NoError(s.t, err)
			return
		}
	}
}

// truth reads the stream.
func (s *workerSim) truth() truth {
	t := truth{map[string][]simRecord{}, map[simRecord]string{}, map[string][]string{}}
	for _, sh := range s.shards() {
		id := *sh.ShardId
		for _, p := range []*string{sh.ParentShardId, sh.AdjacentParentShardId} {
			if p != nil {
				t.parents[id] = append(t.parents[id], *p)
			}
		}
		it, err := s.Kinesis.GetShardIterator(s.t.Context(), &kinesis.GetShardIteratorInput{StreamName: aws.String("events"), ShardId: &id, ShardIteratorType: ktypes.ShardIteratorTypeTrimHorizon})
		require.NoError(s.t, err)
		for next := it.ShardIterator; next != nil; {
			out, err := s.Kinesis.GetRecords(s.t.Context(), &kinesis.GetRecordsInput{ShardIterator: next})
			require.NoError(s.t, err)
			for _, r := range out.Records {
				at := simRecord{id, *r.SequenceNumber}
				t.order[id] = append(t.order[id], at)
				_, aggregate, _ := strings.Cut(string(r.Data), `"aggregateId":{"S":"`)
				t.aggregate[at], _, _ = strings.Cut(aggregate, `"`)
			}
			if next = out.NextShardIterator; len(out.Records) == 0 && aws.ToInt64(out.MillisBehindLatest) == 0 {
				break
			}
		}
	}
	return t
}

// settle waits, without faults, until everything is handled, stops everything in good order, and checks the history.
func (s *workerSim) settle(clean bool) (duplicates int) {
	require.NoError(s.t, s.Drain(s.t.Context()))
	t := s.truth()
	total := 0
	for _, records := range t.order {
		total += len(records)
	}
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		s.mu.Lock()
		handled := len(s.acks)
		s.mu.Unlock()
		if handled >= total || time.Now().After(deadline) { // what is missing then is a violation of I5 or I8
			break
		}
	}
	for _, w := range s.workers {
		s.stop(w)
	}
	s.others.Wait()
	if total != len(s.ids) {
		s.mu.Lock()
		s.violate("the stream has %d records of %d events", total, len(s.ids))
		s.mu.Unlock()
	}
	return s.check(t, clean, simBound)
}

var simKinds = []string{"clean", "reshard", "crash", "pause", "partition", "answers", "handlers", "storm"}

// simulate runs a schedule of a kind, decided by the seed.
func simulate(t *testing.T, kind string, seed uint64) (violations []string, duplicates int) {
	bubble(t, func(t *testing.T) {
		s := newWorkerSim(t, seed)
		defer s.Close()
		is := func(kinds ...string) bool {
			for _, k := range append(kinds, "storm") {
				if k == kind {
					return true
				}
			}
			return false
		}
		if is("handlers") {
			s.slow, s.failing = time.Second, 0.1
		}
		trouble := func(l *simLink) {
			if is("answers") {
				l.trouble = 0.05
			}
		}
		alive := []*simWorker{s.start1(trouble)}
		pick := func() int { return int(s.float() * float64(len(alive))) }
		goroutines, most := runtime.NumGoroutine(), 0
		for range 12 {
			s.publish(int(s.float() * 30))
			time.Sleep(s.upTo(3 * time.Second))
			switch n := pick(); int(s.float() * 7) {
			case 0, 1:
				if len(alive) < 5 {
					alive = append(alive, s.start1(trouble))
				}
			case 2:
				if len(alive) > 1 {
					s.stop(alive[n])
					alive = append(alive[:n], alive[n+1:]...)
				}
			case 3:
				if is("reshard") || kind == "clean" {
					s.reshard(s.float() < 0.6)
				}
			case 4:
				if is("crash", "handlers") {
					alive[n].die()
					alive[n] = s.start1(trouble)
				}
			case 5:
				if is("pause") {
					w, d := alive[n], s.upTo(20*time.Second)
					s.others.Go(func() { w.pause(d) })
				}
			case 6:
				if is("partition") {
					w, d, service := alive[n], s.upTo(15*time.Second), []string{"DynamoDB", "Kinesis"}[int(s.float()*2)]
					w.setCut(service, true)
					s.others.Go(func() { time.Sleep(d); w.setCut(service, false) })
				}
			}
			most = max(most, runtime.NumGoroutine()-goroutines)
		}
		for _, w := range s.workers {
			w.mu.Lock()
			w.trouble = 0
			w.mu.Unlock()
		}
		s.failing = 0
		duplicates = s.settle(kind == "clean" || kind == "reshard")
		if most > 400 { // 5 workers, up to 6 shards, and workers that drain
			s.violations = append(s.violations, fmt.Sprintf("I11: %d goroutines", most))
		}
		violations = s.violations
	})
	return violations, duplicates
}

// WORKER_SEEDS is how many seeds of each kind are run, WORKER_SEED the only one. WORKER_FIRST is where they begin. A seed decides the
// schedule, not what the scheduler and random pauses make of it: a failure may need several runs to come back.
func TestWorkerSimulation(t *testing.T) {
	number := func(name string, otherwise int) int {
		if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
			return n
		}
		return otherwise
	}
	first, seeds := number("WORKER_FIRST", 1), number("WORKER_SEEDS", 4)
	if one := number("WORKER_SEED", 0); one > 0 {
		first, seeds = one, 1
	}
	for _, kind := range simKinds {
		t.Run(kind, func(t *testing.T) {
			total := 0
			for seed := first; seed < first+seeds; seed++ {
				violations, duplicates := simulate(t, kind, uint64(seed))
				total += duplicates
				if len(violations) > 0 {
					require.Failf(t, "an invariant is broken", "WORKER_SEED=%d of kind %s:\n%s", seed, kind, strings.Join(violations[:min(6, len(violations))], "\n"))
				}
			}
			t.Logf("%d seeds, %d records were handled twice", seeds, total)
		})
	}
}
