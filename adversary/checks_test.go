package adversary

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// TestTheChecksSeeWhatTheyAreFor breaks each invariant by hand, in a world without members.
func TestTheChecksSeeWhatTheyAreFor(t *testing.T) {
	success := func(w *world, p *process, r *record, fence int64) {
		w.history.end(w.history.start(context.Background(), p, r, fence), r, true)
	}
	for _, tc := range []struct {
		invariant string
		script    func(w *world, a, b *process, r []*record) // r are the events of one aggregate
	}{
		{"", func(w *world, a, b *process, r []*record) {
			for i, one := range r {
				success(w, a, one, 1)
				w.watch.judge([]outbox.LeaseStatus{{Shard: one.shard, Owner: "a", Fence: 1, Checkpoint: one.sequence}}, i+1)
			}
		}},
		{"I1: the fence", func(w *world, a, b *process, r []*record) {
			w.watch.judge([]outbox.LeaseStatus{{Shard: r[0].shard, Owner: "a", Fence: 2}}, 0)
			w.watch.judge([]outbox.LeaseStatus{{Shard: r[0].shard, Owner: "b", Fence: 1}}, 0)
		}},
		{"I1: fence 2 of", func(w *world, a, b *process, r []*record) {
			w.watch.judge([]outbox.LeaseStatus{{Shard: r[0].shard, Owner: "a", Fence: 2}}, 0)
			w.watch.judge([]outbox.LeaseStatus{{Shard: r[0].shard, Owner: "b", Fence: 2}}, 0)
		}},
		{"I1: fence 3 of", func(w *world, a, b *process, r []*record) {
			w.history.lease(a, outbox.LeaseEvent{Kind: outbox.LeaseGained, Shard: r[0].shard, Fence: 3})
			w.history.lease(b, outbox.LeaseEvent{Kind: outbox.LeaseGained, Shard: r[0].shard, Fence: 3})
		}},
		{"I2: the checkpoint of shardId-000000000000 goes back", func(w *world, a, b *process, r []*record) {
			success(w, a, r[0], 1)
			w.watch.judge([]outbox.LeaseStatus{{Shard: r[0].shard, Fence: 1, Checkpoint: r[0].sequence}}, 1)
			w.watch.judge([]outbox.LeaseStatus{{Shard: r[0].shard, Fence: 1}}, 1)
		}},
		{"I2: the checkpoint of shardId-000000000000, ", func(w *world, a, b *process, r []*record) {
			w.watch.judge([]outbox.LeaseStatus{{Shard: r[0].shard, Fence: 1, Checkpoint: r[0].sequence}}, 0)
		}},
		{"I3, I7, I17", func(w *world, a, b *process, r []*record) { success(w, a, r[1], 1) }},
		{"I6: 3 records", func(w *world, a, b *process, r []*record) {
			for _, one := range r {
				success(w, a, one, 1)
			}
			w.watch.judge([]outbox.LeaseStatus{{Shard: r[0].shard, Fence: 1}}, len(r))
		}},
		{"I7: two handlers", func(w *world, a, b *process, r []*record) {
			w.history.start(context.Background(), a, r[0], 1)
			w.history.start(context.Background(), a, r[0], 1)
		}},
		{"I13", func(w *world, a, b *process, r []*record) {
			w.history.start(context.Background(), a, r[0], 1)
			w.history.start(context.Background(), b, r[0], 2)
		}},
		{"I16", func(w *world, a, b *process, r []*record) {
			success(w, a, r[0], 1)
			w.tell(w.history.missing(w.required))
		}},
		{"false alarm", func(w *world, a, b *process, r []*record) {
			w.history.dataLost(outbox.DataLoss{Shard: r[0].shard})
			w.told()
		}},
		{"I5", func(w *world, a, b *process, r []*record) {
			success(w, a, r[0], 1)
			w.watch.judge([]outbox.LeaseStatus{{Shard: r[0].shard, Fence: 1, Checkpoint: r[0].sequence}}, 1)
			w.expiring(r[0].shard, len(r))
			w.told()
		}},
		{"I6: nothing has crashed", func(w *world, a, b *process, r []*record) {
			w.plan.clean = true
			success(w, a, r[0], 1)
			success(w, a, r[0], 1)
			w.told()
		}},
		{"I4, I8: two minutes", func(w *world, a, b *process, r []*record) { w.settle() }},
	} {
		t.Run(tc.invariant, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := calm()
				p.streams = tc.invariant == "I5"
				p.shards, p.maxUnfinished, p.members, p.core = 1, 2, 2, []int{0}
				w := newWorld(p, &coverage{})
				for _, m := range w.members {
					m.current = &process{name: m.name, member: m, link: &link{faults: m.faults}, done: make(chan struct{})}
				}
				w.members[1].current.link.killed.Store(strings.HasPrefix(tc.invariant, "I4"))
				var records []*record
				for range 3 {
					records = append(records, w.stream.write("a"))
					time.Sleep(time.Second)
				}
				tc.script(w, w.members[0].current, w.members[1].current, records)
				found := strings.Join(w.history.found(), "\n")
				if tc.invariant == "" {
					require.Empty(t, found)
				} else {
					require.Contains(t, found, tc.invariant)
				}
			})
		})
	}
}
