package outbox_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// One worker of a fleet holds the first shard that is read, whichever shards there are: after a start, a stop, a merge of the shards and a kill.
func TestOneWorkerOfAFleetHoldsTheFirstShard(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		type member struct {
			*outbox.Worker
			kill func()
		}
		var members []member
		start := func() running {
			p := f.Process(t.Context(), outboxtest.Death{})
			leases, err := outbox.NewLeaseTable(p.DynamoDB, "leases", "mails")
			require.NoError(t, err)
			c := newConsumer(t, quiet(), outbox.WithTables("events"))
			outbox.Handle(c, func(context.Context, outbox.Event[orderCreated]) error { return nil })
			w, err := outbox.NewWorker(p.Kinesis, "events", c, leases)
			require.NoError(t, err)
			members = append(members, member{w, p.Kill})
			holds, err := w.HoldsFirstShard(t.Context())
			require.NoError(t, err)
			require.False(t, holds, "it does not run yet")
			return runWorker(t, w)
		}
		// holder waits until one holds the first shard, at a moment at which no worker does what it does once in so many seconds.
		holder := func() int {
			time.Sleep(2*time.Minute + 123*time.Millisecond)
			for range 600 {
				who := -1
				for i, m := range members {
					holds, err := m.HoldsFirstShard(t.Context())
					if holds {
						require.NoError(t, err)
						require.Equal(t, -1, who, "two hold it")
						who = i
					}
				}
				if who != -1 {
					return who
				}
				time.Sleep(time.Second) // it changes hands
			}
			require.Fail(t, "nobody holds it")
			return -1
		}
		runs := []running{start(), start(), start()}
		first := holder()
		require.NoError(t, runs[first].stop())
		second := holder()
		require.NotEqual(t, first, second)
		f.oneShard(t)
		third := holder()
		require.NotEqual(t, first, third)
		members[third].kill()
		fourth := holder()
		require.NotContains(t, []int{first, third}, fourth)
		for i, r := range runs {
			if i != first && i != third {
				require.NoError(t, r.stop())
			}
		}
	})
}

// Who cannot read the lease table says so, and a Worker that was not made says that.
func TestWhoHoldsTheFirstShardIsNotGuessed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		c := newConsumer(t, quiet(), outbox.WithTables("events"))
		w, err := outbox.NewWorker(f.Kinesis, "events", c, f.leases)
		require.NoError(t, err)
		_, err = f.Cut("DynamoDB")
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		holds, err := w.HoldsFirstShard(ctx)
		require.ErrorContains(t, err, "outbox: worker of stream events: HoldsFirstShard: ")
		require.False(t, holds)
		_, err = new(outbox.Worker).HoldsFirstShard(t.Context())
		require.EqualError(t, err, "outbox: a Worker is made by NewWorker or NewStreamsWorker")
	})
}
