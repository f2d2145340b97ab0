package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// A worker that stops with a backlog starts only what lies before something that it has started already: so it stops soon, and nothing is
// handled twice.
func TestAStopWithABacklog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		f.oneShard(t)
		var started, cut atomic.Int32
		var stopping atomic.Bool
		handle := func(ctx context.Context, e outbox.Event[orderCreated]) error {
			if stopping.Load() {
				started.Add(1)
			}
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				cut.Add(1)
				return ctx.Err()
			}
			f.note(t, e)
			return nil
		}
		w := f.start(t, handle)
		var ids []string
		for i := range 300 {
			e := event(fmt.Sprint("x-", i))
			e.AggregateID = e.ID
			if i%5 == 0 {
				e.AggregateID = "hot"
			}
			require.NoError(t, f.writer.Put(t.Context(), "orders", order{e.ID}, e))
			ids = append(ids, e.ID)
		}
		time.Sleep(5 * time.Second)
		stopping.Store(true)
		began := time.Now()
		require.NoError(t, w.stop())
		require.Less(t, time.Since(began), 15*time.Second, "half of the drain timeout")
		require.Less(t, started.Load(), int32(40))
		require.Zero(t, cut.Load())
		stopping.Store(false)
		w = f.start(t, handle)
		f.await(t, "all handled", 10*time.Minute, f.all(ids))
		require.NoError(t, w.stop())
		f.requireTimes(t, 1, ids)
	})
}

// If an event waits for its retry, everything behind it is handled again in any case, and a stop begins nothing.
func TestAStopBehindAnEventThatWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		f.oneShard(t)
		var started atomic.Int32
		var stopping atomic.Bool
		w := f.start(t, func(ctx context.Context, e outbox.Event[orderCreated]) error {
			if stopping.Load() {
				started.Add(1)
			}
			if e.AggregateID == "bad" {
				return errors.New("no")
			}
			time.Sleep(time.Second)
			f.note(t, e)
			return nil
		}, outbox.WithHandlerRetry(outbox.Retry{BaseDelay: time.Hour, MaxDelay: time.Hour}))
		for i := range 300 {
			e := event(fmt.Sprint("x-", i))
			e.AggregateID = e.ID
			switch {
			case i == 0:
				e.AggregateID = "bad"
			case i%5 == 0:
				e.AggregateID = "hot"
			}
			require.NoError(t, f.writer.Put(t.Context(), "orders", order{e.ID}, e))
		}
		time.Sleep(20 * time.Second)
		stopping.Store(true)
		began := time.Now()
		require.NoError(t, w.stop())
		require.Less(t, time.Since(began), 3*time.Second)
		require.Less(t, started.Load(), int32(11))
	})
}

// Who deletes the row of a lease has the shard read again, by the process that had the lease, too.
func TestADeletedLeaseIsReadAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		w := f.start(t, func(_ context.Context, e outbox.Event[orderCreated]) error { f.note(t, e); return nil })
		before := f.put(t, "a", 4, 5)
		f.await(t, "handled", time.Minute, f.all(before))
		statuses, err := f.leases.(*outbox.LeaseTable).Status(t.Context(), "events")
		require.NoError(t, err)
		for _, s := range statuses {
			_, err := f.DynamoDB.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: aws.String("leases"),
				Key: values{"group": str("mails"), "id": str("events#L#" + s.Shard)}})
			require.NoError(t, err)
		}
		time.Sleep(time.Minute) // until the reader has noticed
		after := f.put(t, "b", 4, 5)
		f.await(t, "handled after the deletion", 5*time.Minute, f.all(after))
		require.NoError(t, w.stop())
		f.requireTimes(t, 2, before)
	})
}

// A group that begins at the latest record and is then away while its stream's shards are replaced twice goes on where it was: a shard is
// not new to it because it does not know the shard's parents.
func TestLatestIsDecidedOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		_, err := f.DynamoDB.UpdateTable(t.Context(), &dynamodb.UpdateTableInput{TableName: aws.String("events"),
			StreamSpecification: &types.StreamSpecification{StreamEnabled: aws.Bool(true), StreamViewType: types.StreamViewTypeNewImage}})
		require.NoError(t, err)
		table, err := f.DynamoDB.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: aws.String("events")})
		require.NoError(t, err)
		start := func() running {
			c := newConsumer(t, quiet(), outbox.WithTables("events"))
			outbox.Handle(c, func(_ context.Context, e outbox.Event[orderCreated]) error { f.note(t, e); return nil })
			w, err := outbox.NewStreamsWorker(f.Streams, *table.Table.LatestStreamArn, c, f.leases, outbox.StartAtLatest())
			require.NoError(t, err)
			return runWorker(t, w)
		}
		old := f.put(t, "old", 2, 5)
		time.Sleep(time.Minute)
		w := start()
		time.Sleep(10 * time.Second)
		ids := f.put(t, "a", 2, 5)
		f.await(t, "a handled", time.Minute, f.all(ids))
		require.NoError(t, w.stop())
		for _, name := range []string{"b", "c", "d"} {
			ids = slices.Concat(ids, f.put(t, name, 2, 5))
			require.NoError(t, f.RollStreamShard("events"))
			time.Sleep(4 * time.Hour)
		}
		w = start()
		f.await(t, "all handled", 5*time.Minute, f.all(ids))
		require.NoError(t, w.stop())
		f.requireTimes(t, 1, ids)
		f.requireTimes(t, 0, old)
	})
}
