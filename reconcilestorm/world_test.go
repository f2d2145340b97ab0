package reconcilestorm

import (
	"context"
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
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
	"github.com/seed-1b628d3f/outbox/replay"
)

// plan is what a seed makes of a world.
type plan struct {
	shards, functions, workers int
	reconcilers, segments      int
	accounts, events           int // events of each account
	page                       int // rows of a Scan
	ordered, letters           bool
	kills                      int // at most
	pause                      time.Duration
	stream                     []outboxtest.Fault
	requests                   map[string]rates
}

func planOf(seed uint64) plan {
	r := rand.New(rand.NewPCG(seed, 1))
	up := func(most float64) float64 { return most * r.Float64() }
	p := plan{shards: 1 + r.IntN(2), functions: 1 + r.IntN(2), reconcilers: 1 + r.IntN(2), segments: 1 + r.IntN(3), accounts: 2 + r.IntN(2), events: 7,
		page: 1 + r.IntN(10), kills: r.IntN(6), pause: time.Duration(1+r.IntN(600)) * time.Millisecond}
	if r.IntN(4) == 0 { // a world with Workers costs twice as much
		p.functions, p.workers = r.IntN(2), 1+r.IntN(2)
	}
	if p.ordered = r.IntN(2) == 0; !p.ordered {
		p.letters = r.IntN(2) == 0
	}
	p.stream = []outboxtest.Fault{{Kind: outboxtest.DropRecord, Table: "events", Probability: 0.2},
		{Kind: outboxtest.DuplicateRecord, Table: "events", Probability: up(0.3)},
		{Kind: outboxtest.DelayRecord, Table: "events", Probability: up(0.4), Duration: time.Duration(up(float64(8 * time.Second)))}}
	p.requests = map[string]rates{
		"TransactWriteItems": {up(0.1), up(0.2), up(0.2), 0},
		"PutItem":            {up(0.1), up(0.2), up(0.2), 0},
		"UpdateItem":         {up(0.1), up(0.1), up(0.1), 0},
		"GetItem":            {up(0.1), 0, up(0.1), 0},
		"BatchGetItem":       {up(0.1), 0, up(0.1), up(0.3)},
		"Scan":               {up(0.1), 0, up(0.1), 0},
	}
	return p
}

// world is one run.
type world struct {
	seed    uint64
	plan    plan
	cloud   *outboxtest.Server
	client  *http.Client
	private *dynamodb.Client                // of the one who looks from outside
	ctx     context.Context                 // of all processes
	quiet   atomic.Bool                     // no request fails any more, and nobody dies
	cured   atomic.Bool                     // the handlers succeed for what is poison
	tamper  func(*world, exchange) exchange // nil unless a bug is planted
	loses   func(record []byte) bool        // what no function gets

	deaths, delivered, unread atomic.Int64
	proofs                    int
	written                   []string
	discarded                 map[string]bool

	mu       sync.Mutex
	luck     *rand.Rand
	killed   int
	problems []problem
}

// inBubble runs a world with a clock of its own, in which waiting is free.
func inBubble(t *testing.T, run func(*testing.T)) { synctest.Test(t, run) }

func newWorld(t *testing.T, seed uint64, p plan) *world {
	w := &world{seed: seed, plan: p, luck: rand.New(rand.NewPCG(seed, 2)), discarded: map[string]bool{}}
	w.cloud = outboxtest.New(outboxtest.WithFaults(seed))
	w.client = w.cloud.HTTPClient()
	config := w.cloud.Config()
	config.HTTPClient = w.client
	w.private = dynamodb.NewFromConfig(config)
	w.cloud.CreateOutbox(t, "events", "events", p.shards)
	w.cloud.CreateTable(t, "accounts", "accountId")
	return w
}

// check is a promise that the storm holds Reconcile against.
type check string

const (
	checkFound      check = "found"      // what is reported was neither handled nor given up before
	checkProof      check = "proof"      // if nothing is reported, nothing is missing
	checkUnreadable check = "unreadable" // every row is an event
	checkError      check = "error"      // a report without faults is no error
	checkBehind     check = "behind"     // nobody is taken for a consumer that is down, or for another one
	checkLiveness   check = "liveness"   // in the end nothing is reported
	checkLetters    check = "letters"    // nor is there a dead letter
	checkDiscarded  check = "discarded"  // what was discarded is not handled
	checkEffects    check = "effects"    // everything else has its effect once, and in order if there is one
)

var checks = []check{checkFound, checkProof, checkUnreadable, checkError, checkBehind, checkLiveness, checkLetters, checkDiscarded, checkEffects}

// problem is a promise that does not hold.
type problem struct {
	check check
	text  string
}

// broke notes a promise that does not hold.
func (w *world) broke(c check, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.problems = append(w.problems, problem{c, fmt.Sprintf(format, args...)})
}

// killAt draws at which request a new process dies.
func (w *world) killAt() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.killed >= w.plan.kills || w.quiet.Load() || w.luck.IntN(3) == 0 {
		return 0
	}
	w.killed++
	return 1 + w.luck.IntN(40)
}

func account(i int) string { return fmt.Sprint("account-", i) }

// id is that of the event n of an account: that of a number is for sequenced events.
func (w *world) id(account string, n int64) string {
	if w.plan.ordered {
		return outbox.SequencedID(account, n)
	}
	return fmt.Sprint(account, "/", n)
}

// write stores the event n of an account. Its number is its place in the account.
func (w *world) write(t *testing.T, p *process, account string, n int64) outbox.Record {
	e := outbox.Event[posted]{ID: w.id(account, n), AggregateID: account, Time: time.Now().Truncate(time.Millisecond), Data: posted{n}}
	if w.plan.ordered {
		e.Sequence = n
	}
	for p.writer.Transact(t.Context(), nil, e) != nil {
		time.Sleep(time.Second)
	}
	w.written = append(w.written, e.ID)
	return outbox.Record{ID: e.ID, Type: "POSTED", AggregateID: account, Sequence: e.Sequence, Time: e.Time, Table: "events", Payload: fmt.Appendf(nil, `{"N":%d}`, n)}
}

// open begins a world. Half of its events are handled at once: an inbox that has less is not believed.
func (w *world) open(t *testing.T, ctx context.Context) (calm *process) {
	w.ctx = ctx
	calm = w.start("calm", true, 0)
	require.NoError(t, calm.inbox.Create(ctx))
	require.NoError(t, calm.letters.Create(ctx))
	require.NoError(t, calm.leases.Create(ctx))
	w.cured.Store(true)
	defer w.cured.Store(false)
	for n := range w.eventsOf(opening) {
		require.NoError(t, calm.consumer.Process(ctx, w.write(t, calm, opening, n+1)))
	}
	return calm
}

// run is the life of a world.
func (w *world) run(t *testing.T) {
	defer w.cloud.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	calm := w.open(t, ctx)
	require.NoError(t, w.cloud.SetFaults(w.plan.stream...))
	var mappings []*outboxtest.Mapping
	for i := range w.plan.functions {
		f := &function{world: w, name: fmt.Sprint("function-", i)}
		mappings = append(mappings, must(w.cloud.Map(outboxtest.EventSource{Stream: "events", ReportBatchItemFailures: true}, f.invoke)))
	}
	work, stopWork := context.WithCancel(ctx)
	defer stopWork()
	look, stopLook := context.WithCancel(ctx)
	defer stopLook()
	var workers, reconcilers sync.WaitGroup
	for i := range w.plan.workers {
		workers.Go(func() { w.work(work, fmt.Sprint("worker-", i)) })
	}
	for i := range w.plan.reconcilers {
		reconcilers.Go(func() { w.reconcile(look, fmt.Sprint("reconciler-", i)) })
	}

	writer := w.start("writer", false, 0)
	for n := range int64(w.plan.events) {
		for a := range w.plan.accounts {
			w.write(t, writer, account(a), n+1)
		}
		time.Sleep(w.plan.pause)
		w.observe(ctx, calm)
	}
	w.quiet.Store(true)
	w.cloud.StopFaults()
	w.settle(ctx, calm)
	stopWork()
	workers.Wait()
	for _, m := range mappings {
		m.Stop()
	}
	if w.plan.letters {
		w.cured.Store(true)
		w.clear(ctx, calm)
		time.Sleep(time.Duration(2+w.plan.segments) * time.Second) // for whoever brings discarded events back
		w.settle(ctx, calm)
	}
	stopLook()
	reconcilers.Wait()
	w.end(ctx)
}

// settle waits until nothing is undelivered.
func (w *world) settle(ctx context.Context, calm *process) {
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); {
		time.Sleep(3 * time.Second)
		if w.observe(ctx, calm) {
			return
		}
	}
	w.broke(checkLiveness, "after five minutes without faults something is undelivered")
}

// clear discards the poison of the first account, and redrives the other letters.
func (w *world) clear(ctx context.Context, calm *process) {
	for id, letter := range w.kept(ctx, calm) {
		if letter.Record.AggregateID != account(0) || letter.Parked {
			continue
		}
		must(0, calm.letters.Discard(ctx, letter.ID))
		w.discarded[id] = true
	}
	must(calm.letters.Redrive(ctx, calm.consumer, outbox.DeadLetterFilter{}, outbox.RedriveOptions{}))
	for id := range w.kept(ctx, calm) {
		w.broke(checkLetters, "%s is still there", id)
	}
}

// kept returns the letters by the ids of their events.
func (w *world) kept(ctx context.Context, calm *process) map[string]outbox.DeadLetter {
	letters := map[string]outbox.DeadLetter{}
	for l, err := range must(outbox.NewDeadLetterTable(w.private, "letters", "consumer")).List(ctx, outbox.DeadLetterFilter{}) {
		must(0, err)
		letters[l.Record.ID] = l
	}
	return letters
}

// effects returns which numbers of an account have had their effects, in that order.
func (w *world) effects(ctx context.Context, account string) (numbers []int64) {
	out := must(w.private.GetItem(ctx, &dynamodb.GetItemInput{TableName: aws.String("accounts"), ConsistentRead: aws.Bool(true),
		Key: must(attributevalue.MarshalMap(map[string]string{"accountId": account}))}))
	must(0, attributevalue.Unmarshal(out.Item["effects"], &numbers))
	return numbers
}

// known returns the ids of the events that have had their effects, are letters, or were discarded.
func (w *world) known(ctx context.Context, calm *process) map[string]bool {
	known := map[string]bool{}
	if w.plan.letters {
		for id := range w.kept(ctx, calm) { // before the effects: a redrive commits the effect first
			known[id] = true
		}
		for id := range w.discarded {
			known[id] = true
		}
	}
	for _, a := range w.all() {
		for _, n := range w.effects(ctx, a) {
			known[w.id(a, n)] = true
		}
	}
	return known
}

// opening is the account of open.
const opening = "first"

// all returns all accounts.
func (w *world) all() []string {
	all := []string{opening}
	for a := range w.plan.accounts {
		all = append(all, account(a))
	}
	return all
}

// eventsOf returns how many events an account has.
func (w *world) eventsOf(account string) int64 {
	if account == opening {
		return int64(w.plan.accounts * w.plan.events)
	}
	return int64(w.plan.events)
}

// observe asks Reconcile for a report, and holds it against the effects and the letters. It reports whether nothing is undelivered.
func (w *world) observe(ctx context.Context, calm *process) bool {
	before := w.known(ctx, calm)
	r, err := calm.events.Reconcile(ctx, calm.consumer, replay.ReconcileOptions{ReportOnly: true, Grace: time.Millisecond, Found: func(r outbox.Record, err error) {
		if err != nil {
			w.broke(checkUnreadable, "%s: %v", r.ID, err)
		}
		if before[r.ID] {
			w.broke(checkFound, "%s is reported, and was handled, or given up, before", r.ID)
		}
	}})
	if err != nil {
		w.broke(checkError, "%v", err)
		return false
	}
	if r.Searched != r.Handled+r.DeadLetters { // the library's word that nothing is missing
		return false
	}
	w.proofs++
	after := w.known(ctx, calm)
	for _, id := range w.written {
		if !after[id] {
			w.broke(checkProof, "%s is not reported, and was not handled", id)
		}
	}
	return true
}

// end looks at the effects.
func (w *world) end(ctx context.Context) {
	for _, a := range w.all() {
		have := w.effects(ctx, a)
		if !w.plan.ordered {
			slices.Sort(have)
		}
		var want []int64
		for n := range w.eventsOf(a) {
			id := w.id(a, n+1)
			switch {
			case !w.discarded[id]:
				want = append(want, n+1)
			case slices.Contains(have, n+1):
				w.broke(checkDiscarded, "%s was handled", id)
			}
		}
		if !slices.Equal(want, have) {
			w.broke(checkEffects, "%s: have %v, want %v", a, have, want)
		}
	}
}
