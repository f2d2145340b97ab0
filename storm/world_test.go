package storm

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// world is one run: the services, the processes, and what became of the events.
type world struct {
	*history
	plan   *plan
	faults *faults
	rng    *rand.Rand // of the goroutine that drives the run
	cloud  *outboxtest.AWS
	log    io.Writer

	ctx    context.Context // of all processes
	end    context.CancelFunc
	ending atomic.Bool
	calm   atomic.Bool // nobody is killed any more
	group  sync.WaitGroup

	// The one who watches has clients of its own, without faults.
	db      *dynamodb.Client
	letters *outbox.DeadLetterTable
	writer  *outbox.Writer

	healed       atomic.Int32 // the stage of poison that is healed
	discardBegun atomic.Bool
	outage       atomic.Bool // a service that a handler needs is down
	written      []step
	streamARN    string // of the events table

	stuck func(p *process, s step) bool // a handler that would never return by itself

	// What a planted fault changes.
	swapped         bool // the first two events of the first aggregate arrive the other way round
	discardsTwo     bool
	tamper          func(operation string, request []byte) ([]byte, bool)
	consumerOptions []outbox.ConsumerOption
}

func newWorld(t *testing.T, p *plan) *world {
	w := &world{history: newHistory(), plan: p, rng: rand.New(rand.NewPCG(p.seed, 2)), cloud: outboxtest.Start(t), log: io.Discard}
	w.ctx, w.end = context.WithCancel(t.Context())
	w.faults = chooseFaults(p.seed, w.rng, p.faultShare)
	w.log = historyLog{w.history}

	w.db = w.cloud.DynamoDB
	w.cloud.CreateOutbox(t, "events", "changes", p.shards)
	w.cloud.CreateTable(t, "state", "id")
	table, err := w.db.UpdateTable(t.Context(), &dynamodb.UpdateTableInput{TableName: aws.String("events"), StreamSpecification: &types.StreamSpecification{
		StreamEnabled: aws.Bool(true), StreamViewType: types.StreamViewTypeNewImage,
	}})
	require.NoError(t, err)
	w.streamARN = *table.TableDescription.LatestStreamArn
	w.letters = must(outbox.NewDeadLetterTable(w.db, "letters", "consumer"))
	w.writer = must(outbox.NewWriter(w.db, "events"))
	require.NoError(t, w.letters.Create(t.Context()))
	require.NoError(t, must(outbox.NewInbox(w.db, "inbox", "consumer")).Create(t.Context()))
	require.NoError(t, must(outbox.NewLeaseTable(w.db, "leases", "consumer")).Create(t.Context()))
	return w
}

// spawn runs f on a goroutine that the end of the run waits for.
func (w *world) spawn(f func()) {
	w.group.Add(1)
	go func() {
		defer w.group.Done()
		f()
	}()
}

func (w *world) sleep(d time.Duration) { time.Sleep(d) }

// between returns a time between two bounds that the seed decides.
func (w *world) between(least, most time.Duration) time.Duration {
	return least + time.Duration(w.rng.Float64()*float64(most-least))
}

// write stores the events of a generation, in any order of the aggregates, with ids and times that say nothing about their order.
func (w *world) write(t *testing.T, generation int) {
	for _, i := range w.rng.Perm(len(w.plan.aggregates)) {
		s := step{w.plan.aggregates[i], w.plan.aggregates[i].arrives(generation)}
		if w.swapped && i == 0 && generation <= 2 {
			s.n = 3 - s.n
		}
		require.NoError(t, w.writer.Transact(t.Context(), nil, w.event(s)))
		w.written = append(w.written, s)
		w.sleep(w.between(0, 20*time.Millisecond))
	}
	w.note("generation %d is written", generation)
}

func (w *world) event(s step) outbox.AnyEvent {
	id := fmt.Sprintf("%016x", w.rng.Uint64())
	at := time.Now().Add(w.between(-time.Hour, time.Hour)).Truncate(time.Millisecond)
	sequence := int64(0)
	if w.rng.Float64() < w.plan.sequences {
		sequence = int64(s.n)
	}
	switch s.aggregate.typ {
	case stepTx{}.EventType():
		return outbox.Event[stepTx]{ID: id, AggregateID: s.aggregate.name, Sequence: sequence, Time: at, Data: stepTx{s.n}}
	case plain{}.EventType():
		return outbox.Event[plain]{ID: id, AggregateID: s.aggregate.name, Sequence: sequence, Time: at, Data: plain{s.n}}
	}
	return outbox.Event[guarded]{ID: id, AggregateID: s.aggregate.name, Sequence: sequence, Time: at, Data: guarded{s.n}}
}

// handled says whether the effect of an event is there.
func (w *world) handled(ctx context.Context, s step) bool {
	if s.aggregate.typ == (stepTx{}).EventType() {
		return must(w.number(ctx, w.db, "effect "+s.String(), "runs")) > 0
	}
	return w.successes(s) > 0
}

// kept returns the letters that there are, by aggregate and number.
func (w *world) kept(ctx context.Context) map[string]outbox.DeadLetter {
	letters := map[string]outbox.DeadLetter{}
	for letter, err := range w.letters.List(ctx, outbox.DeadLetterFilter{}) {
		if err != nil {
			w.problem("the letters cannot be listed: %v", err)
			return letters
		}
		var data struct{ N, Amount int }
		if err := json.Unmarshal(letter.Record.Payload, &data); err != nil {
			w.problem("the letter %s has another payload: %q", letter.ID, letter.Record.Payload)
		}
		letters[fmt.Sprintf("%s/%d", letter.Record.AggregateID, data.N+data.Amount)] = letter
	}
	return letters
}

// settle waits until each event that was written is handled or a letter: until then its successors must not arrive.
func (w *world) settle(ctx context.Context) bool {
	var missing []string
	begun := time.Now()
	for time.Since(begun) < 5*time.Minute {
		letters := w.kept(ctx)
		missing = nil
		for _, s := range w.written {
			if _, kept := letters[s.String()]; !kept && !w.handled(ctx, s) && !w.isDiscarded(s) {
				missing = append(missing, s.String())
			}
		}
		if missing == nil {
			return true
		}
		w.sleep(min(10*time.Second, 500*time.Millisecond+time.Since(begun)/10))
	}
	w.problem("liveness: after five minutes neither handled nor a letter: %s", strings.Join(missing, " "))
	return false
}

// close ends all processes and waits for them.
func (w *world) close() {
	w.ending.Store(true)
	w.end()
	w.group.Wait()
	for kind, times := range w.faults.struck {
		w.reachTimes(string(kind), times)
	}
}

// historyLog keeps what the library logs.
type historyLog struct{ *history }

func (l historyLog) Write(line []byte) (int, error) {
	_, text, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
	l.note("log %s", text)
	return len(line), nil
}
