package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// inboxModel is what must be true of a few events, whatever was done: for a HandleTx event and a guarded one of each number.
type inboxModel struct {
	crashes   map[string]int // of processes while the guarded event was delivered to them
	completed map[string]int // runs of the guarded handler with an effect
	succeeded map[string]bool
}

// Random sequences of deliveries, failing handlers, struck requests, deaths and time.
func TestInboxSequences(t *testing.T) {
	const seeds, steps, events = 12, 120, 10
	deliveries, deaths, successes := 0, 0, 0
	for seed := range uint64(seeds) {
		bubble(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			w := newInboxWorld(t)
			defer w.Close()
			m := inboxModel{map[string]int{}, map[string]int{}, map[string]bool{}}
			var all []*process
			begin := func() (*process, *outbox.Consumer) {
				p := &process{fates: map[int]string{}}
				all = append(all, p)
				client := w.client(p, rng.IntN(2) == 0)
				c := newConsumer(t, outbox.WithInbox(w.inbox(t, client, outbox.WithInboxCache(rng.IntN(3)))))
				fails := func() error { // sometimes
					errs := []error{errors.New("down"), outbox.Unavailable(errors.New("down")), fmt.Errorf("lost: %w", outbox.ErrConditionFailed), outbox.ErrConflict}
					if n := rng.IntN(12); n < len(errs) {
						return errs[n]
					}
					return nil
				}
				outbox.HandleTxType(c, newWriter(t, client), "TX", func(_ context.Context, e outbox.Event[struct{}]) (outbox.Effects, error) {
					if rng.IntN(10) == 0 {
						panic("down")
					}
					if err := fails(); err != nil {
						return outbox.Effects{}, err
					}
					return outbox.Effects{Writes: []types.TransactWriteItem{countCommit(e.ID)}, Events: []outbox.AnyEvent{outbox.NewEvent(e.ID, orderCreated{})}}, nil
				})
				outbox.HandleType(c, "PLAIN", func(_ context.Context, e outbox.Event[struct{}]) error {
					if err := fails(); err != nil {
						return err
					}
					return p.effect(func() { m.completed[e.ID]++ })
				})
				return p, c
			}
			check := func(what string, id string) {
				row, plain := w.row(t, "orders", "orderId", "TX"+id), w.mark(t, "PLAIN"+id)
				mark := w.mark(t, "TX"+id)
				commits := textOf(row, "commits")
				require.Containsf(t, []string{"", "1"}, commits, "seed %d: %s: commits of %s", seed, what, id)
				require.Equalf(t, commits == "1", textOf(mark, "handledAt") != "", "seed %d: %s: %s is committed without its mark, or marked without its effects", seed, what, id)
				require.Truef(t, !m.succeeded["TX"+id] || commits == "1", "seed %d: %s: %s succeeded, and nothing is committed", seed, what, id)
				done := m.completed["PLAIN"+id]
				require.LessOrEqualf(t, done, 1+m.crashes["PLAIN"+id], "seed %d: %s: runs of %s", seed, what, id)
				require.Truef(t, done > 0 || textOf(plain, "handledAt") == "" && !m.succeeded["PLAIN"+id], "seed %d: %s: %s is handled, and never was", seed, what, id)
			}
			processes := make([]*process, 3)
			consumers := make([]*outbox.Consumer, 3)
			for i := range processes {
				processes[i], consumers[i] = begin()
			}
			for step := range steps {
				i, id := rng.IntN(len(processes)), fmt.Sprint(step*(events-2)/steps+rng.IntN(3))
				p := processes[i]
				what := "time"
				switch rng.IntN(6) {
				case 0:
					time.Sleep(time.Duration(rng.IntN(40)) * time.Second)
				case 1:
					what = "late requests"
					all[rng.IntN(len(all))].arrive()
				default:
					kind := []string{"TX", "PLAIN"}[rng.IntN(2)]
					what = "delivery of " + kind
					next := len(p.calls()) + 1
					for n := range 4 {
						if rng.IntN(5) == 0 {
							p.fates[next+n] = requestFates[rng.IntN(len(requestFates))]
						}
					}
					if rng.IntN(6) == 0 {
						p.killAt, p.killAfter = next+rng.IntN(4), rng.IntN(2) == 0
					}
					err := consumers[i].Process(t.Context(), outbox.Record{ID: kind + id, Type: kind, Table: "events", Payload: []byte("{}")})
					deliveries++
					if err == nil && !p.dead {
						successes++
						m.succeeded[kind+id] = true
					}
					p.killAt = 0
					if p.dead {
						deaths++
						m.crashes[kind+id]++
						processes[i], consumers[i] = begin()
					}
				}
				check(what, id)
			}
			for _, p := range all {
				p.arrive()
			}
			p, c := begin()
			p.fates = nil
			for id := range events {
				for _, kind := range []string{"TX", "PLAIN"} {
					r := outbox.Record{ID: fmt.Sprint(kind, id), Type: kind, Table: "events", Payload: []byte("{}")}
					for deliver(t, c, r) != nil {
						time.Sleep(time.Second)
					}
					m.succeeded[r.ID] = true
				}
				check("the end", fmt.Sprint(id))
			}
			for _, row := range w.all(t, "events") {
				require.Contains(t, textOf(row, "aggregateId"), "TX")
			}
			require.Lenf(t, w.all(t, "events"), events, "events that go out, seed %d", seed)
		})
	}
	t.Logf("%d seeds, %d deliveries, %d deaths, %d successes", seeds, deliveries, deaths, successes)
	require.Positive(t, deaths)
}
