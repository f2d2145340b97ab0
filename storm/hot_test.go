package storm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// Nobody is at fault when a handler loses a race, when another delivery has the claim, or when what a handler depends on is down. None of
// these may make a dead letter, however often they happen.

// hot adds an amount to the one row of its aggregate.
type hot struct{ Amount int }

func (hot) EventType() string { return "HOT" }

// claimed is handled elsewhere, slowly, under a claim.
type claimed struct{ N int }

func (claimed) EventType() string { return "CLAIMED" }

// hotPlan has eight shards, eight readers and a single aggregate.
func hotPlan(seed uint64) *plan {
	rng := rand.New(rand.NewPCG(seed, 3))
	p := &plan{seed: seed, shards: 8, readers: 8, attempts: 3, lambda: rng.IntN(2) == 0, batch: []int{1, 5, 100}[rng.IntN(3)]}
	if !p.lambda {
		p.readers = 4 // a Worker reads several shards
	}
	if rng.IntN(2) == 0 {
		p.faultShare = 0.02
	}
	p.kills = rng.IntN(3) == 0
	return p
}

func TestAHotAggregateLosesRacesAndNoEvent(t *testing.T) {
	runs(t, 5, func(t *testing.T, seed uint64) *history {
		w := newWorld(t, hotPlan(seed))
		w.hotRun(t, 40)
		return w.history
	})
}

func TestThreeHundredEventsOfOneHotAggregate(t *testing.T) {
	for _, lambda := range []bool{true, false} {
		inBubble(t, func(t *testing.T) {
			w := newWorld(t, &plan{seed: 1, shards: 8, readers: 8, attempts: 10, batch: 100, lambda: lambda})
			w.hotRun(t, 300)
			require.Empty(t, w.problems)
			require.Positive(t, w.reached["runs that lost a race"])
			t.Logf("lambda=%t: %d runs of handlers, %d of them lost a race", lambda, w.runs, w.reached["runs that lost a race"])
		})
	}
}

func (w *world) hotRun(t *testing.T, events int) {
	defer w.close()
	w.read()
	want := 0
	for i := range events {
		require.NoError(t, w.writer.Transact(t.Context(), nil, outbox.NewEvent("one", hot{Amount: i + 1})))
		want += i + 1
	}
	have := func() int { return must(w.number(t.Context(), w.db, "one", "sum")) }
	w.until(t, func() bool { return have() >= want })
	w.sleep(10 * time.Second) // for what comes late
	if have() != want {
		w.problem("effects: the sum is %d, want %d", have(), want)
	}
	if lost := w.handlerRuns() - events; lost > 0 {
		w.reachTimes("runs that lost a race", lost)
	}
}

// until waits at most ten minutes, and ends with the first letter.
func (w *world) until(t *testing.T, done func() bool) {
	begun := time.Now()
	for time.Since(begun) < 10*time.Minute {
		for id, letter := range w.kept(t.Context()) {
			w.problem("letters: %s became a dead letter, and nobody is at fault: %s", id, letter.Error)
			return
		}
		if done() {
			return
		}
		w.sleep(min(10*time.Second, 500*time.Millisecond+time.Since(begun)/10))
	}
	w.problem("liveness: not everything is handled after ten minutes")
}

// add is a handler that reads, computes, and commits unless somebody was faster.
func (w *world) add(ctx context.Context, p *process, e outbox.Event[hot]) (outbox.Effects, error) {
	w.run(p, e.AggregateID)
	if err := p.link.wait(ctx); err != nil {
		return outbox.Effects{}, err
	}
	sum, err := w.number(ctx, p.private, e.AggregateID, "sum")
	if err != nil {
		return outbox.Effects{}, err
	}
	if err := p.link.sleep(ctx, time.Millisecond); err != nil {
		return outbox.Effects{}, err
	}
	number := func(n int) types.AttributeValue { return &types.AttributeValueMemberN{Value: strconv.Itoa(n)} }
	return outbox.Effects{Writes: []types.TransactWriteItem{{Update: &types.Update{
		TableName: aws.String("state"), Key: map[string]types.AttributeValue{"id": &types.AttributeValueMemberS{Value: e.AggregateID}},
		UpdateExpression:          aws.String("SET #sum = :next"),
		ConditionExpression:       aws.String("#sum = :sum OR (attribute_not_exists(#sum) AND :sum = :zero)"),
		ExpressionAttributeNames:  map[string]string{"#sum": "sum"},
		ExpressionAttributeValues: map[string]types.AttributeValue{":sum": number(sum), ":next": number(sum + e.Data.Amount), ":zero": number(0)},
	}}}}, nil
}

func TestAClaimIsNoAttempt(t *testing.T) {
	runs(t, 5, func(t *testing.T, seed uint64) *history {
		p := hotPlan(seed)
		p.readers = 2
		w := newWorld(t, p)
		w.claimsRun(t, 10)
		return w.history
	})
}

// claimsRun delivers each event to a Lambda function and to Workers, whose handlers take several seconds.
func (w *world) claimsRun(t *testing.T, events int) {
	defer w.close()
	through(func(next outbox.Handler) outbox.Handler {
		return func(ctx context.Context, r outbox.Record) error {
			err := next(ctx, r)
			if errors.Is(err, outbox.ErrClaimed) {
				w.reach("a claim of another was met")
			}
			return err
		}
	})(w)
	w.function(false)
	w.fleet(false)
	for i := range events {
		event := outbox.NewEvent(fmt.Sprint(i), claimed{N: i})
		require.NoError(t, w.writer.Transact(t.Context(), nil, event))
	}
	once := func() int {
		n := 0
		for i := range events {
			if w.successes(step{&aggregate{name: "claimed"}, i}) > 0 {
				n++
			}
		}
		return n
	}
	w.until(t, func() bool { return once() == events })
	w.sleep(10 * time.Second)
	w.until(t, func() bool { return true })
	if w.faults.none() && !w.plan.kills && w.handlerRuns() != events {
		w.problem("claims: %d runs of %d events, without a crash or a fault", w.handlerRuns(), events)
	}
}

func (w *world) slow(ctx context.Context, p *process, e outbox.Event[claimed]) error {
	w.run(p, e.AggregateID)
	took := time.Second + time.Duration(share(w.plan.seed, "handler", e.AggregateID, 0)*float64(6*time.Second))
	if err := p.link.sleep(ctx, took); err != nil {
		return err
	}
	return w.success(p, step{&aggregate{name: "claimed"}, e.Data.N})
}
