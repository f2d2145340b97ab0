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

var bubbleBegins = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// plan is what a seed makes of a world.
type plan struct {
	shards, functions, workers int
	accounts                   int
	events                     int64
	remembers                  int           // positions, for each process
	from                       time.Time     // of WithOrder, unless the consumer changes over
	fails                      float64       // share of the runs of handlers
	letters                    bool          // failures are dead letters at once; then no handler fails, and no event may be one
	mixed                      bool          // guarded handlers and ignored types are between the others
	kills                      int           // at most
	pause                      time.Duration // at most, between two events of an account
	late                       time.Duration // at most, of a record
	stream                     []outboxtest.Fault
	requests                   map[string]rates
	change                     change
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
		p.from = bubbleBegins
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
	planted mistakes
	wanted  check // that is to see what is planted

	mu        sync.Mutex
	luck      *rand.Rand
	kills     int                       // processes that are to die
	deaths    int                       // of them
	lively    bool                      // every record has come, so every event must have its effect
	committed map[string]map[int64]bool // the effects of each account
	healed    int
	written   map[string][]outbox.Record // the events of each account
	from      time.Time                  // of WithOrder
	versions  []version                  // that may run
	running   map[version]int
	deployed  context.Context // of the Workers of these versions
	end       context.CancelFunc
	cured     bool // no handler fails any more
	problems  []problem
}

// check is a promise that the storm holds the Consumers against.
type check string

const (
	checkTable       check = "table"       // a transaction that the inbox allows is one whose effect is the next one
	checkClaim       check = "claim"       // so is a run of a guarded handler that a claim allows
	checkPredecessor check = "predecessor" // a handler gets an event when the effect before it is there
	checkTold        check = "told"        // what is told as handled has had its effect
	checkBegan       check = "began"       // no aggregate begins above 1, and no event is left out as too old
	checkLetters     check = "letters"     // without a handler that fails there is no dead letter
	checkLiveness    check = "liveness"    // if every record has come, every event is handled
	checkLast        check = "last"        // otherwise it is, with the last event of its aggregate
	checkEffects     check = "effects"     // each effect is there once, in order
	checkPosition    check = "position"    // and the position is at the last event
)

var checks = []check{checkTable, checkClaim, checkPredecessor, checkTold, checkBegan, checkLetters, checkLiveness, checkLast, checkEffects, checkPosition}

// problem is a promise that does not hold.
type problem struct {
	check check
	text  string
}

// inBubble runs a world with a clock of its own, in which waiting is free.
func inBubble(t *testing.T, run func(*testing.T)) { synctest.Test(t, run) }

func newWorld(t *testing.T, seed uint64, p plan) *world {
	w := &world{seed: seed, plan: p, luck: rand.New(rand.NewPCG(seed, 2)), committed: map[string]map[int64]bool{}, rates: p.requests,
		written: map[string][]outbox.Record{}, from: p.from, versions: []version{ordered}, running: map[version]int{}}
	w.cloud = outboxtest.New(outboxtest.WithFaults(seed))
	w.client = w.cloud.HTTPClient()
	w.cloud.CreateOutbox(t, "events", "events", p.shards)
	w.cloud.CreateTable(t, "accounts", "accountId")
	require.NoError(t, w.cloud.SetFaults(p.stream...))
	return w
}

func (w *world) brokeLocked(c check, format string, args ...any) {
	w.problems = append(w.problems, problem{c, fmt.Sprintf(format, args...)})
}

func (w *world) broke(c check, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.brokeLocked(c, format, args...)
}

// found reports whether a planted bug has been seen, so that nothing need be waited for.
func (w *world) found() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.problems, func(p problem) bool { return p.check == w.wanted })
}

// patience is how long the end of something is waited for. What is planted for another check need not come to an end.
func (w *world) patience() time.Duration {
	if w.wanted == "" || w.wanted == checkLiveness {
		return 10 * time.Minute
	}
	return 30 * time.Second
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
func (w *world) hooks(v version) outbox.ConsumerHooks {
	told := func(r outbox.Record) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if v == marking && w.ignored(r.Sequence) {
			return
		}
		if n := w.upTo(r.Sequence); n > 0 && !w.committed[r.AggregateID][n] {
			w.brokeLocked(checkTold, "%s: %d is told as handled, and the last effect is that of %d", r.AggregateID, r.Sequence, w.lastLocked(r.AggregateID))
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
			switch {
			case o.Kind == outbox.OrderHealed:
				w.healed++
			case o.Kind == outbox.OrderBegan && o.For == w.firstLocked(o.Record.AggregateID), o.Kind == outbox.OrderBefore && o.Record.Time.Before(w.from):
			default:
				w.brokeLocked(checkBegan, "%s: %s with %d at %d", o.Record.AggregateID, o.Kind, o.Record.Sequence, o.For)
			}
		},
	}
}

// lastLocked is the last event of an account that has its effect, and firstLocked the first one that WithOrder wants.
func (w *world) lastLocked(account string) (last int64) {
	for n := range w.committed[account] {
		last = max(last, n)
	}
	return last
}

func (w *world) firstLocked(account string) int64 {
	return 1 + int64(slices.IndexFunc(w.written[account], func(r outbox.Record) bool { return !r.Time.Before(w.from) }))
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
	case w.plan.mixed && w.plan.change != keeps && n%3 == 0: // KeepMarks is not for guarded handlers
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
	w.deployed, w.end = context.WithCancel(ctx)
	calm := w.start("calm", ordered, 0)
	require.NoError(t, must(outbox.NewInbox(calm.private, "inbox", "consumer")).Create(ctx))
	if w.plan.letters {
		require.NoError(t, must(outbox.NewDeadLetterTable(calm.private, "letters", "consumer")).Create(ctx))
	}
	if w.plan.workers > 0 {
		require.NoError(t, calm.leases.(*outbox.LeaseTable).Create(ctx))
	}
	var mappings []*outboxtest.Mapping
	for i := range w.plan.functions {
		f := &function{world: w, name: fmt.Sprint("function-", i), idle: map[version][]*process{}}
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

	if w.plan.change == stays {
		w.write(t, w.plan.events)
	} else {
		w.changeOver(t)
	}
	w.quiet.Store(true)
	w.cloud.StopFaults()
	time.Sleep(w.plan.late + 5*time.Second) // what was delayed
	if w.lively = w.cloud.Struck()[outboxtest.DropRecord] == 0; w.lively {
		for end := time.Now().Add(w.patience()); !w.complete() && !w.found() && time.Now().Before(end); {
			time.Sleep(5 * time.Second)
		}
		if !w.complete() && !w.found() {
			w.broke(checkLiveness, "every record has come, and the last effects are %v", w.committed)
		}
	}
	stop()
	workers.Wait()
	for _, m := range mappings {
		m.Stop()
	}
	w.judge(t)
}

// write writes the events of each account up to a number.
func (w *world) write(t *testing.T, to int64) {
	writer := w.start("writer", ordered, 0).writer
	for n := int64(len(w.written[account(0)])) + 1; n <= to; n++ {
		for a := range w.plan.accounts {
			e := w.event(account(a), n)
			w.mu.Lock()
			w.written[account(a)] = append(w.written[account(a)], e)
			w.mu.Unlock()
			for {
				err := writer.Transact(t.Context(), nil, e)
				if err == nil {
					break
				}
				require.NotErrorIs(t, err, outbox.ErrEventConflict)
				time.Sleep(time.Second)
			}
		}
		time.Sleep(w.plan.pause)
	}
}

func (w *world) complete() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for a := range w.plan.accounts {
		for n := w.upTo(w.plan.events); n > 0; n = w.before(n) {
			if !w.committed[account(a)][n] {
				return false
			}
		}
	}
	return true
}

// judge looks at the last event of each account, which may have been dropped, and at the effects.
func (w *world) judge(t *testing.T) {
	calm := w.start("calm", ordered, 0)
	var want []int64
	for n := range w.plan.events {
		if !w.ignored(n + 1) {
			want = append(want, n+1)
		}
	}
	if w.plan.letters {
		for l, err := range must(outbox.NewDeadLetterTable(calm.private, "letters", "consumer")).List(t.Context(), outbox.DeadLetterFilter{}) {
			require.NoError(t, err)
			w.broke(checkLetters, "%s: %s", l.ID, l.Error)
		}
	}
	inbox := must(outbox.NewInbox(calm.private, "inbox", "consumer"))
	for a := range w.plan.accounts {
		r := w.written[account(a)][w.plan.events-1]
		r.Table = "events"
		err := calm.consumer.Process(t.Context(), r)
		for tries := 0; err != nil && errors.Is(err, outbox.ErrClaimed) && tries < 10; tries++ { // by a process that died
			time.Sleep(5 * time.Second)
			err = calm.consumer.Process(t.Context(), r)
		}
		if err != nil {
			w.broke(checkLast, "%s: %v", r.ID, err)
		}
		out, err := calm.private.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: aws.String("accounts"), ConsistentRead: aws.Bool(true),
			Key: map[string]types.AttributeValue{"accountId": &types.AttributeValueMemberS{Value: account(a)}}})
		require.NoError(t, err)
		var have []int64
		require.NoError(t, attributevalue.Unmarshal(out.Item["effects"], &have))
		if w.plan.change != stays {
			slices.Sort(have) // the processes with marks had no order
		}
		if !slices.Equal(want, have) {
			w.broke(checkEffects, "%s: %v", account(a), have)
		}
		if position := must(inbox.Position(t.Context(), "events", account(a))); position != w.plan.events {
			w.broke(checkPosition, "%s: %d", account(a), position)
		}
	}
}
