package storm

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// needy is an event whose handler needs a service that can be down.
type needy struct{ N int }

func (needy) EventType() string { return "NEEDY" }

var errDown = errors.New("the service is down")

func TestAnOutageIsNoAttempt(t *testing.T) {
	runs(t, 5, func(t *testing.T, seed uint64) *history {
		p := hotPlan(seed)
		p.shards, p.readers, p.kills = 2, 2, false
		w := newWorld(t, p)
		w.outageRun(t, 10)
		return w.history
	})
}

// outageRun lets a service be down for minutes: much longer than the attempts of an event last.
func (w *world) outageRun(t *testing.T, events int) {
	defer w.close()
	w.outage.Store(true)
	w.read()
	for i := range events {
		require.NoError(t, w.writer.Transact(t.Context(), nil, outbox.NewEvent(fmt.Sprint(i), needy{N: i})))
	}
	began := time.Now()
	w.until(t, func() bool { return time.Since(began) > time.Minute })
	if w.handlerRuns() < 10*events {
		w.problem("runs: %d in the outage, so events were not tried again", w.handlerRuns())
	}
	w.outage.Store(false)
	w.until(t, func() bool {
		for i := range events {
			if w.successes(step{&aggregate{name: "needy"}, i}) == 0 {
				return false
			}
		}
		return true
	})
}

func (w *world) need(p *process, e outbox.Event[needy]) error {
	w.run(p, e.AggregateID)
	if w.outage.Load() {
		return outbox.Unavailable(errDown)
	}
	return w.success(p, step{&aggregate{name: "needy"}, e.Data.N})
}

// TestARedriveLeavesALetterAloneWhileAServiceIsDown shows that a redrive in an outage is no attempt either.
func TestARedriveLeavesALetterAloneWhileAServiceIsDown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, &plan{seed: 1, shards: 1, readers: 1, attempts: 3, batch: 10, lambda: true})
		defer w.close()
		poisoned := true
		through(func(next outbox.Handler) outbox.Handler {
			return func(ctx context.Context, r outbox.Record) error {
				if poisoned {
					return outbox.Permanent(errPoison)
				}
				return next(ctx, r)
			}
		})(w)
		w.read()
		require.NoError(t, w.writer.Transact(t.Context(), nil, outbox.NewEvent("one", needy{N: 1})))
		require.NoError(t, w.cloud.Drain(t.Context()))
		before := w.kept(t.Context())["one/1"]
		require.Equal(t, 1, before.Attempts)

		poisoned = false
		w.outage.Store(true)
		p := w.start("person", 0)
		result := w.redrive(p, outbox.DeadLetterFilter{})
		require.Zero(t, result.Redriven)
		require.Equal(t, before, w.kept(t.Context())["one/1"])

		w.outage.Store(false)
		require.Equal(t, 1, w.redrive(p, outbox.DeadLetterFilter{}).Redriven)
	})
}
