package reconcilestorm

import (
	"bytes"
	"context"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
	"github.com/seed-1b628d3f/outbox/replay"
)

// TestNothingIsMissingWhateverIsLost runs RECONCILE_SEEDS worlds from RECONCILE_FIRST on, or the world of RECONCILE_SEED alone. Two run at once.
func TestNothingIsMissingWhateverIsLost(t *testing.T) {
	first, count := number("RECONCILE_FIRST", 1), number("RECONCILE_SEEDS", 40)
	if seed := number("RECONCILE_SEED", 0); seed > 0 {
		first, count = seed, 1
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // most of what a world allocates lives for one request
	var dropped, delivered, deaths, unread, proofs, discarded, ordered, workers, worlds atomic.Int64
	t.Run("worlds", func(t *testing.T) {
		for lane := range uint64(2) {
			t.Run(strconv.FormatUint(lane, 10), func(t *testing.T) {
				t.Parallel()
				for seed := first + lane; seed < first+count; seed += 2 {
					var w *world
					inBubble(t, func(t *testing.T) {
						w = newWorld(t, seed, planOf(seed))
						w.run(t)
					})
					require.Emptyf(t, w.problems, "RECONCILE_SEED=%d go test -count=1 -run '^TestNothingIsMissingWhateverIsLost$' ./reconcilestorm\n%+v", seed, w.plan)
					dropped.Add(int64(w.cloud.Struck()[outboxtest.DropRecord]))
					delivered.Add(w.delivered.Load())
					deaths.Add(w.deaths.Load())
					unread.Add(w.unread.Load())
					proofs.Add(int64(w.proofs))
					discarded.Add(int64(len(w.discarded)))
					for counted, is := range map[*atomic.Int64]bool{&ordered: w.plan.ordered, &workers: w.plan.workers > 0} {
						if is {
							counted.Add(1)
						}
					}
					worlds.Add(1)
				}
			})
		}
	})
	t.Logf("%d worlds from seed %d on, %d with order: %d records were dropped, %d events delivered by Reconcile, %d processes died, %d answers left keys unread, %d letters discarded; %d times nothing was missing",
		worlds.Load(), first, ordered.Load(), dropped.Load(), delivered.Load(), deaths.Load(), unread.Load(), discarded.Load(), proofs.Load())
	if count > 20 {
		for name, n := range map[string]*atomic.Int64{"dropped": &dropped, "delivered": &delivered, "deaths": &deaths, "unread": &unread, "discarded": &discarded, "ordered": &ordered, "workers": &workers} {
			require.NotZero(t, n.Load(), name)
		}
	}
}

// A consumer that loses one event in a hundred, another one in each world: the report names this event alone, and it has its effect once in the end.
func TestALossOfOneInAHundredIsAlwaysFound(t *testing.T) {
	for seed := range uint64(10) {
		inBubble(t, func(t *testing.T) {
			p := plan{shards: 2, accounts: 4, events: 25, page: 30, segments: 1, ordered: seed%2 == 1}
			w := newWorld(t, seed, p)
			defer w.cloud.Close()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			calm := w.open(t, ctx)
			number := seed*31%100 + 1 // of the events in the order of the writes
			if w.plan.ordered {
				number = 97 + seed*31%4 // the last one of an aggregate: what follows an earlier one brings it, too
			}
			var lost string
			w.loses = func(record []byte) bool { return bytes.Contains(record, []byte(strconv.Quote(lost))) }
			f := &function{world: w, name: "function"}
			w.quiet.Store(true) // it does not die
			for n := range int64(p.events) {
				for a := range p.accounts {
					if uint64(n)*uint64(p.accounts)+uint64(a)+1 == number {
						lost = w.id(account(a), n+1)
					}
					w.write(t, calm, account(a), n+1)
				}
			}
			m := must(w.cloud.Map(outboxtest.EventSource{Stream: "events", ReportBatchItemFailures: true}, f.invoke))
			require.NoError(t, w.cloud.Drain(ctx))
			m.Stop()
			time.Sleep(time.Hour)
			var found []string
			o := replay.ReconcileOptions{ReportOnly: true, Found: func(r outbox.Record, _ error) { found = append(found, r.ID) }}
			_, err := calm.events.Reconcile(ctx, calm.consumer, o)
			require.NoError(t, err)
			require.Equal(t, []string{lost}, found, "seed %d", seed)
			o.ReportOnly = false
			r, err := calm.events.Reconcile(ctx, calm.consumer, o)
			require.NoError(t, err)
			require.Equal(t, 1, r.Delivered)
			require.True(t, w.observe(ctx, calm))
			w.end(ctx)
			require.Empty(t, w.problems)
		})
	}
}

// TestEachCheckOfTheReconcileStormSeesWhatItIsFor plants bugs of Reconcile as they look from outside. Production code has no switch for them. Each
// must be seen by the check that is meant for it, and each check has one.
func TestEachCheckOfTheReconcileStormSeesWhatItIsFor(t *testing.T) {
	for _, c := range checks {
		require.Truef(t, slices.ContainsFunc(planted, func(p plantedBug) bool { return p.seen == c }), "no bug is planted for the check %q", c)
	}
	for _, p := range planted {
		t.Run(p.bug, func(t *testing.T) {
			var all []problem
			for seed := uint64(1); seed <= 40; seed++ {
				var w *world
				inBubble(t, func(t *testing.T) {
					plan := planOf(seed)
					p.plan(&plan)
					w = newWorld(t, seed, plan)
					w.tamper = p.tamper
					w.run(t)
				})
				for _, problem := range w.problems {
					if problem.check == p.seen {
						t.Logf("seed %d: %s: %.200s", seed, problem.check, problem.text)
						return
					}
				}
				all = append(all, w.problems...)
			}
			require.Failf(t, "nobody has seen it", "the check %q has seen nothing, others have: %.2000q", p.seen, all)
		})
	}
}

func number(name string, otherwise uint64) uint64 {
	if n, err := strconv.ParseUint(os.Getenv(name), 10, 64); err == nil {
		return n
	}
	return otherwise
}
