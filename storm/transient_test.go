package storm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// flaky is an event whose handler fails now and again, for no reason of the event's.
type flaky struct{ N int }

func (flaky) EventType() string { return "FLAKY" }

// transientPlan is a Lambda function with batches in which many events fail once, and some of them twice.
func transientPlan(seed uint64) *plan {
	rng := rand.New(rand.NewPCG(seed, 4))
	return &plan{seed: seed, shards: 1 + rng.IntN(4), readers: 4, lambda: true, batch: []int{10, 100}[rng.IntN(2)], attempts: 20}
}

func TestATransientFailureRepeatsOneEventAndNoBatch(t *testing.T) {
	runs(t, 5, func(t *testing.T, seed uint64) *history {
		w := newWorld(t, transientPlan(seed))
		w.transientRun(t, 100)
		return w.history
	})
}

func (w *world) transientRun(t *testing.T, events int) {
	defer w.close()
	for i := range events {
		require.NoError(t, w.writer.Transact(t.Context(), nil, outbox.NewEvent(fmt.Sprint(i), flaky{N: i})))
	}
	w.read()
	aggregate := &aggregate{name: "flaky"}
	w.until(t, func() bool {
		for i := range events {
			if w.successes(step{aggregate, i}) == 0 {
				return false
			}
		}
		return true
	})
	least := 0
	for i := range events {
		least++
		for run := 1; w.failsAt(i, run); run++ {
			least++
		}
	}
	w.reachTimes("runs", w.handlerRuns())
	w.reachTimes("runs that were needed", least)
	if w.handlerRuns() != least {
		w.problem("runs: %d handlers ran for %d events, %d were needed", w.handlerRuns(), events, least)
	}
}

// failsAt says whether the nth run of an event fails: a quarter of the runs do, but not five in a row, since Invoke calls a handler five
// times before it ends the batch.
func (w *world) failsAt(event, run int) bool {
	return run%5 != 0 && share(w.plan.seed, "flaky", fmt.Sprint(event), run) < 0.25
}

var errTransient = errors.New("try again")

func (w *world) flaky(ctx context.Context, p *process, e outbox.Event[flaky]) error {
	w.run(p, e.AggregateID)
	if err := p.link.sleep(ctx, 5*time.Millisecond); err != nil {
		return err
	}
	s := step{&aggregate{name: "flaky"}, e.Data.N}
	if w.failsAt(e.Data.N, w.attempt(s)) {
		return errTransient
	}
	return w.success(p, s)
}
