package outbox_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// A process dies before or after any of its calls, while it heals, begins an aggregate or commits. What others deliver afterwards is in order.
func TestAKillAtEveryCallOfOrder(t *testing.T) {
	for name, begins := range map[string]int64{"from the first event on": 1, "from a later one on": 3} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				points := 0
				everyKill(func(k kill) bool {
					w := newOrderWorld(t)
					events := w.write(t, 1, 2, 3, 4, 5)
					from := all
					if begins > 1 {
						from = events[begins-1].Time
					}
					p := &process{killAt: k.at, killAfter: k.after}
					dying := w.process(t, w.client(p, false), from)
					_ = dying.Process(t.Context(), events[3])
					_ = dying.Process(t.Context(), events[4])
					points = max(points, len(p.calls()))
					living := w.process(t, w.DynamoDB, from)
					for _, n := range []int{4, 3, 2, 4} {
						require.NoError(t, living.Process(t.Context(), events[n]), "killed at %d, after it: %t", k.at, k.after)
					}
					w.requireEffects(t, begins, 5)
					w.Close()
					return p.dead
				})
				require.Greater(t, points, 5)
			})
		})
	}
}

// Each request of a delivery is lost, answered in vain, sent twice, late, in conflict or throttled: the order holds, and nothing is missing.
func TestTheOrderHoldsWhateverBecomesOfRequests(t *testing.T) {
	for _, sdkRetries := range []bool{false, true} {
		for _, fate := range requestFates {
			t.Run(fmt.Sprintf("%s, retries of the SDK %t", fate, sdkRetries), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					for at := 1; ; at++ {
						w := newOrderWorld(t)
						events := w.write(t, 1, 2, 3, 4)
						p := &process{fates: map[int]string{at: fate}}
						c, other := w.process(t, w.client(p, sdkRetries), all), w.process(t, w.DynamoDB, all)
						_ = c.Process(t.Context(), events[2])
						require.NoError(t, other.Process(t.Context(), events[1]))
						p.arrive()
						calls := len(p.calls())
						for _, r := range []outbox.Record{events[3], events[0], events[2]} {
							if err := c.Process(t.Context(), r); err != nil { // the fate of this request
								require.NoError(t, c.Process(t.Context(), r), "request %d, after %v", at, err)
							}
							require.NoError(t, other.Process(t.Context(), r), "request %d", at)
						}
						w.requireEffects(t, 1, 4)
						w.Close()
						if calls < at {
							return
						}
						time.Sleep(time.Second)
					}
				})
			})
		}
	}
}
