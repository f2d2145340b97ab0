package orderstorm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// rates say how often a request of an operation fails.
type rates struct{ broken, lost, error, conflict float64 }

// plan is what a seed makes of a world.
type plan struct {
	shards, functions, workers int
	accounts                   int
	events                     int64
	remembers                  int           // positions, for each process
	from                       time.Time     // of WithOrder
	fails                      float64       // share of the runs of handlers
	letters                    bool          // failures are dead letters at once; then no handler fails, and no event may be one
	mixed                      bool          // guarded handlers and ignored types are between the others
	kills                      int           // at most
	pause                      time.Duration // at most, between two events of an account
	late                       time.Duration // at most, of a record
	stream                     []outboxtest.Fault
	requests                   map[string]rates
}

func planOf(seed uint64) plan {
	r := rand.New(rand.NewPCG(seed, 1))
	up := func(most float64) float64 { return most * r.Float64() }
	p := plan{shards: 1 + r.IntN(3), accounts: 1 + r.IntN(3), events: 8, remembers: []int{0, 2, 100}[r.IntN(3)], letters: r.IntN(2) == 0, mixed: r.IntN(3) == 0,
		kills: r.IntN(5), pause: time.Duration(1+r.IntN(800)) * time.Millisecond, late: 10 * time.Second}
	p.functions = 1 + r.IntN(3)
	if r.IntN(5) == 0 { // a world with Workers costs twice as much
		p.functions, p.workers = r.IntN(3), 1+r.IntN(2)
	}
	if r.IntN(2) == 0 {
		p.from = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // when a bubble begins
	}
	if !p.letters {
		p.fails = up(0.2)
	}
	record := func(kind outboxtest.FaultKind, most float64, d time.Duration) outboxtest.Fault {
		return outboxtest.Fault{Kind: kind, Table: "events", Probability: up(most), Duration: d}
	}
	p.stream = []outboxtest.Fault{record(outboxtest.DuplicateRecord, 0.4, 0), record(outboxtest.DelayRecord, 0.5, time.Duration(up(float64(p.late)))),
		record(outboxtest.ReorderRecord, 0.6, time.Duration(1+r.IntN(5))*time.Second)}
	if r.IntN(8) > 0 {
		p.stream = append(p.stream, record(outboxtest.DropRecord, 0.4, 0))
	}
	p.requests = map[string]rates{
		"TransactWriteItems": {up(0.1), up(0.2), up(0.4), up(0.2)},
		"UpdateItem":         {up(0.1), up(0.1), up(0.1), up(0.1)},
		"GetItem":            {up(0.1), 0, up(0.1), 0},
		"BatchGetItem":       {up(0.1), 0, up(0.2), 0},
	}
	return p
}

// world is one run.
type world struct {
	seed    uint64
	plan    plan
	cloud   *outboxtest.Server
	client  *http.Client
	ctx     context.Context // of all processes
	rates   map[string]rates
	quiet   atomic.Bool // no request fails any more
	options []outbox.ConsumerOption
	tamper  func(exchange) exchange // nil unless a bug is planted

	mu        sync.Mutex
	luck      *rand.Rand
	kills     int              // processes that are to die
	deaths    int              // of them
	lively    bool             // every record has come, so every event must have its effect
	committed map[string]int64 // the last effect of each account
	healed    int
	problems  []string
}

// inBubble runs a world with a clock of its own, in which waiting is free.
func inBubble(t *testing.T, run func(*testing.T)) { synctest.Test(t, run) }

func newWorld(t *testing.T, seed uint64, p plan) *world {
	w := &world{seed: seed, plan: p, luck: rand.New(rand.NewPCG(seed, 2)), committed: map[string]int64{}, rates: p.requests}
	w.cloud = outboxtest.New(outboxtest.WithFaults(seed))
	w.client = w.cloud.HTTPClient()
	w.cloud.CreateOutbox(t, "events", "events", p.shards)
	w.cloud.CreateTable(t, "accounts", "accountId")
	require.NoError(t, w.cloud.SetFaults(p.stream...))
	return w
}

// brokeLocked keeps a promise that does not hold. Its name comes first.
func (w *world) brokeLocked(format string, args ...any) {
	w.problems = append(w.problems, fmt.Sprintf(format, args...))
}

func (w *world) broke(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.brokeLocked(format, args...)
}

// killAt draws at which request a new process dies.
func (w *world) killAt() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.kills >= w.plan.kills || w.quiet.Load() || w.luck.IntN(3) == 0 {
		return 0
	}
	w.kills++
	return 1 + w.luck.IntN(40)
}

// hooks hold what a Consumer tells against the table: what is told as handled has had its effect.
func (w *world) hooks() outbox.ConsumerHooks {
	told := func(r outbox.Record) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if have := w.committed[r.AggregateID]; have < w.upTo(r.Sequence) {
			w.brokeLocked("told: %s: %d is told as handled, and the last effect is that of %d", r.AggregateID, r.Sequence, have)
		}
	}
	return outbox.ConsumerHooks{
		Handled: func(_ context.Context, r outbox.Record, _ time.Duration, err error) {
			if err == nil {
				told(r)
			}
		},
		Duplicate: func(_ context.Context, r outbox.Record) { told(r) },
		Order: func(_ context.Context, o outbox.OrderInfo) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if o.Kind != outbox.OrderHealed {
				w.brokeLocked("began: %s: %s at %d", o.Record.AggregateID, o.Kind, o.For)
				return
			}
			w.healed++
		},
	}
}

// ignored reports whether nobody wants the event, so that it has no effect.
func (w *world) ignored(n int64) bool { return w.plan.mixed && n%5 == 2 }

// upTo is the last number up to n that has an effect.
func (w *world) upTo(n int64) int64 {
	for n > 0 && w.ignored(n) {
		n--
	}
	return n
}

func (w *world) before(n int64) int64 { return w.upTo(n - 1) }

// event is the event n of an account, as the stream delivers it.
func (w *world) event(account string, n int64) outbox.Record {
	r := outbox.Record{ID: outbox.SequencedID(account, n), Type: "POSTED", AggregateID: account, Sequence: n, Time: time.Now().Truncate(time.Millisecond), Payload: []byte("{}")}
	switch {
	case w.ignored(n):
		r.Type = "NOTED"
	case w.plan.mixed && n%3 == 0:
		r.Type = "MAILED"
	}
	return r
}

func account(i int) string { return fmt.Sprint("account-", i) }

// run is the life of a world.
func (w *world) run(t *testing.T) {
	defer w.cloud.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.ctx = ctx
	calm := w.start("calm", 0)
	require.NoError(t, must(outbox.NewInbox(calm.private, "inbox", "consumer")).Create(ctx))
	if w.plan.letters {
		require.NoError(t, must(outbox.NewDeadLetterTable(calm.private, "letters", "consumer")).Create(ctx))
	}
	if w.plan.workers > 0 {
		require.NoError(t, calm.leases.(*outbox.LeaseTable).Create(ctx))
	}
	var mappings []*outboxtest.Mapping
	for i := range w.plan.functions {
		f := &function{world: w, name: fmt.Sprint("function-", i)}
		m, err := w.cloud.Map(outboxtest.EventSource{Stream: "events", ReportBatchItemFailures: true, ParallelizationFactor: 1 + i}, f.invoke)
		require.NoError(t, err)
		mappings = append(mappings, m)
	}
	work, stop := context.WithCancel(ctx)
	defer stop()
	var workers sync.WaitGroup
	for i := range w.plan.workers {
		workers.Go(func() { w.work(work, fmt.Sprint("worker-", i)) })
	}

	last := w.write(t)
	w.quiet.Store(true)
	w.cloud.StopFaults()
	time.Sleep(w.plan.late + 5*time.Second) // what was delayed
	if w.lively = w.cloud.Struck()[outboxtest.DropRecord] == 0; w.lively {
		for end := time.Now().Add(10 * time.Minute); !w.complete() && time.Now().Before(end); {
			time.Sleep(5 * time.Second)
		}
		if !w.complete() {
			w.broke("liveness: every record has come, and the last effects are %v", w.committed)
		}
	}
	stop()
	workers.Wait()
	for _, m := range mappings {
		m.Stop()
	}
	w.end(t, calm, last)
}

// write writes the events, and returns the last one of each account.
func (w *world) write(t *testing.T) (last []outbox.Record) {
	writer := w.start("writer", 0).writer
	for n := int64(1); n <= w.plan.events; n++ {
		for a := range w.plan.accounts {
			e := w.event(account(a), n)
			for {
				err := writer.Transact(t.Context(), nil, e)
				if err == nil {
					break
				}
				require.NotErrorIs(t, err, outbox.ErrEventConflict)
				time.Sleep(time.Second)
			}
			if n == w.plan.events {
				last = append(last, e)
			}
		}
		time.Sleep(w.plan.pause)
	}
	return last
}

func (w *world) complete() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for a := range w.plan.accounts {
		if w.committed[account(a)] != w.upTo(w.plan.events) {
			return false
		}
	}
	return true
}

// end looks at the last event of each account, which may have been dropped, and at the effects.
func (w *world) end(t *testing.T, calm *process, last []outbox.Record) {
	var want []int64
	for n := range w.plan.events {
		if !w.ignored(n + 1) {
			want = append(want, n+1)
		}
	}
	if w.plan.letters {
		for l, err := range must(outbox.NewDeadLetterTable(calm.private, "letters", "consumer")).List(t.Context(), outbox.DeadLetterFilter{}) {
			require.NoError(t, err)
			w.broke("letters: %s: %s", l.ID, l.Error)
		}
	}
	inbox := must(outbox.NewInbox(calm.private, "inbox", "consumer"))
	for a, r := range last {
		r.Table = "events"
		err := calm.consumer.Process(t.Context(), r)
		for tries := 0; err != nil && errors.Is(err, outbox.ErrClaimed) && tries < 10; tries++ { // by a process that died
			time.Sleep(5 * time.Second)
			err = calm.consumer.Process(t.Context(), r)
		}
		if err != nil {
			w.broke("last: %s: %v", r.ID, err)
		}
		out, err := calm.private.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: aws.String("accounts"), ConsistentRead: aws.Bool(true),
			Key: map[string]types.AttributeValue{"accountId": &types.AttributeValueMemberS{Value: account(a)}}})
		require.NoError(t, err)
		var have []int64
		require.NoError(t, attributevalue.Unmarshal(out.Item["effects"], &have))
		if !slices.Equal(want, have) {
			w.broke("effects: %s: %v", account(a), have)
		}
		if position := must(inbox.Position(t.Context(), "events", account(a))); position != w.plan.events {
			w.broke("position: %s: %d", account(a), position)
		}
	}
}
