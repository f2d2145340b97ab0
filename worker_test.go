package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

func TestAWorkerHandlesEveryEventOnceAndGoesOnWhereItStopped(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		handle := func(ctx context.Context, e outbox.Event[orderCreated]) error {
			r, ok := outbox.RecordFromContext(ctx)
			if !ok || r.ShardID == "" || r.SequenceNumber == "" || r.StreamARN != "events" || r.Fence < 1 || r.Table != "events" {
				return outbox.Permanent(fmt.Errorf("the record does not say where it came from: %+v", r))
			}
			f.note(t, e)
			return nil
		}
		first := f.put(t, "a", 10, 30)
		w := f.start(t, handle)
		f.await(t, "all handled", 30*time.Second, f.all(first))
		second := f.put(t, "b", 10, 10)
		f.await(t, "all handled", 30*time.Second, f.all(second))
		require.NoError(t, w.stop())

		third := f.put(t, "c", 10, 10)
		w = f.start(t, handle)
		f.await(t, "all handled", 30*time.Second, f.all(third))
		require.NoError(t, w.stop())
		f.requireTimes(t, 1, slices.Concat(first, second, third))
	})
}

func TestAFailingHandlerIsCalledAgainWhileOthersGoOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		var at []time.Time
		w := f.start(t, func(_ context.Context, e outbox.Event[orderCreated]) error {
			if e.ID == "a-3-1" {
				f.mu.Lock()
				at = append(at, time.Now())
				n := len(at)
				f.mu.Unlock()
				if n < 8 {
					return errors.New("mail server down")
				}
			}
			f.note(t, e)
			return nil
		}, outbox.WithHandlerRetry(outbox.Retry{BaseDelay: 10 * time.Second, MaxDelay: 20 * time.Second}))
		ids := f.put(t, "a", 20, 5)
		// An earlier event of the same aggregate may come later, from another shard.
		others := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return strings.HasPrefix(id, "a-3-") })
		f.await(t, "the other aggregates handled", 5*time.Second, f.all(others))
		f.mu.Lock()
		require.Less(t, len(at), 8)
		f.mu.Unlock()
		f.await(t, "all handled", 5*time.Minute, f.all(ids))
		require.NoError(t, w.stop())
		f.requireTimes(t, 1, ids)
		require.Len(t, at, 8)
	})
}

// The lanes of failing events take no place of others, however many there are.
func TestManyFailingEventsDoNotStopTheRest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		w := f.start(t, func(_ context.Context, e outbox.Event[orderCreated]) error {
			if e.Data.Description == "bad" {
				return errors.New("always")
			}
			f.note(t, e)
			return nil
		}, outbox.WithHandlerRetry(outbox.Retry{BaseDelay: time.Hour, MaxDelay: time.Hour}))
		for i := range 100 {
			e := event(fmt.Sprint("bad-", i))
			e.AggregateID, e.Data.Description = e.ID, "bad"
			require.NoError(t, f.writer.Put(t.Context(), "orders", order{e.ID}, e))
		}
		good := f.put(t, "good", 20, 5)
		f.await(t, "the good ones handled", 30*time.Second, f.all(good))
		start := time.Now()
		require.NoError(t, w.stop(), "what waits for a retry does not hold a stop up")
		require.Less(t, time.Since(start), time.Second)
	})
}

func TestAnEventThatCannotBeHandledStopsTheWorkerInGoodOrder(t *testing.T) {
	for name, failing := range map[string]struct {
		err  error
		opts []outbox.WorkerOption
		want int // attempts
	}{
		"permanent": {outbox.Permanent(errors.New("no such customer")), nil, 1},
		"spent":     {errors.New("down"), []outbox.WorkerOption{outbox.WithHandlerRetry(outbox.Retry{MaxAttempts: 4})}, 4},
	} {
		bubble(t, func(t *testing.T) {
			f := newFleet(t)
			defer f.Close()
			f.oneShard(t) // another one need not have been read when the stop comes
			attempts := 0
			handle := func(_ context.Context, e outbox.Event[orderCreated]) error {
				if e.ID == "poison" {
					attempts++
					return failing.err
				}
				f.note(t, e)
				return nil
			}
			before := f.put(t, "before", 10, 10)
			require.NoError(t, f.Drain(t.Context()))
			poison := event("poison")
			poison.AggregateID = "poison"
			require.NoError(t, f.writer.Put(t.Context(), "orders", order{"poison"}, poison))
			require.NoError(t, f.Drain(t.Context()))
			after := f.put(t, "after", 10, 10)
			require.NoError(t, f.Drain(t.Context()))

			w := f.start(t, handle, failing.opts...)
			<-w.done
			require.ErrorIs(t, *w.err, failing.err, name)
			var at *outbox.HandlerError
			require.ErrorAs(t, *w.err, &at)
			require.Equal(t, "poison", at.Record.ID)
			require.Equal(t, failing.want, attempts)
			f.requireTimes(t, 1, before)

			// The next one meets it again at once; the count goes on, and nothing before it comes again.
			w = f.start(t, handle, failing.opts...)
			<-w.done
			require.ErrorIs(t, *w.err, failing.err)
			require.Equal(t, failing.want+1, attempts)
			f.requireTimes(t, 1, before)

			// Once it can be handled, everything goes on.
			w = f.start(t, func(_ context.Context, e outbox.Event[orderCreated]) error { f.note(t, e); return nil })
			f.await(t, "all handled", time.Minute, f.all(slices.Concat(after, []string{"poison"})))
			require.NoError(t, w.stop())
		})
	}
}

func TestAMalformedRecordIsNeverSkipped(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		first := f.put(t, "a", 3, 3)
		require.NoError(t, f.Drain(t.Context()))
		for _, data := range []string{`{"some":"json of others"}`, `{"eventName":"INSERT","dynamodb":{"NewImage":{"eve`} {
			_, err := f.Kinesis.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: aws.String("events"), PartitionKey: aws.String("x"), Data: []byte(data)})
			require.NoError(t, err)
		}
		for range 2 {
			w := f.start(t, func(_ context.Context, e outbox.Event[orderCreated]) error { f.note(t, e); return nil })
			<-w.done
			var malformed *outbox.DecodeError
			require.ErrorAs(t, *w.err, &malformed)
			var at *outbox.HandlerError
			require.ErrorAs(t, *w.err, &at)
			require.NotEmpty(t, at.Record.SequenceNumber)
		}
		f.requireTimes(t, 1, first[:0])
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, id := range first {
			require.LessOrEqual(t, f.handled[id], 1)
		}
	})
}

func TestASlowHandlerStopsItsShardsFetching(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		release := make(chan struct{})
		fetched := 0
		w := f.start(t, func(ctx context.Context, e outbox.Event[orderCreated]) error {
			select {
			case <-release:
			case <-ctx.Done():
				return ctx.Err()
			}
			f.note(t, e)
			return nil
		}, outbox.WithMaxUnfinished(20), outbox.WithBatchSize(10), outbox.WithWorkerHooks(outbox.WorkerHooks{Status: func(s outbox.ShardStatus) {
			f.mu.Lock()
			defer f.mu.Unlock()
			fetched += s.Records
			if s.Unfinished > 20 {
				t.Errorf("%d records above the checkpoint", s.Unfinished)
			}
		}}))
		ids := f.put(t, "a", 30, 10)
		time.Sleep(5 * time.Minute) // longer than an iterator lives, and than a lease
		f.mu.Lock()
		require.LessOrEqual(t, fetched, 2*(20+10), "two shards")
		require.Empty(t, f.handled)
		f.mu.Unlock()
		close(release)
		f.await(t, "all handled", time.Minute, f.all(ids))
		require.NoError(t, w.stop())
		f.requireTimes(t, 1, ids)
	})
}

// At no time are more records handled above the stored checkpoint than WithMaxUnfinished allows: what a crash repeats.
func TestTheBoundHoldsForWhatIsStored(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const most = 10
		f := newFleet(t)
		defer f.Close()
		handled := map[string][]string{} // sequence numbers by shard
		worst := 0
		w := f.start(t, func(ctx context.Context, e outbox.Event[orderCreated]) error {
			r, _ := outbox.RecordFromContext(ctx)
			f.note(t, e)
			f.mu.Lock() // the row is read and counted against at one time
			defer f.mu.Unlock()
			row, err := f.DynamoDB.GetItem(ctx, &dynamodb.GetItemInput{TableName: aws.String("leases"), ConsistentRead: aws.Bool(true),
				Key: values{"group": str("mails"), "id": str("events#L#" + r.ShardID)}})
			if err != nil {
				return err
			}
			stored := row.Item["checkpoint"].(*types.AttributeValueMemberS).Value
			above := 1
			for _, sequence := range handled[r.ShardID] {
				if stored == "TRIM_HORIZON" || sequence > stored { // in a shard they have one length
					above++
				}
			}
			handled[r.ShardID] = append(handled[r.ShardID], r.SequenceNumber)
			worst = max(worst, above)
			return nil
		}, outbox.WithMaxUnfinished(most))
		ids := f.put(t, "a", 20, 10)
		f.await(t, "all handled", 2*time.Minute, f.all(ids))
		require.NoError(t, w.stop())
		require.LessOrEqual(t, worst, most)
		require.Greater(t, worst, 1)
		f.requireTimes(t, 1, ids)
	})
}

func TestNewWorkerNamesEveryProblem(t *testing.T) {
	c := newConsumer(t)
	var unset *kinesis.Client
	_, err := outbox.NewWorker(unset, "", nil, nil, nil, outbox.WithBatchSize(0), outbox.WithMaxUnfinished(0), outbox.WithPollInterval(0),
		outbox.WithLeaseDuration(0), outbox.WithDrainTimeout(-1), outbox.WithHandlerRetry(outbox.Retry{MaxAttempts: 101}),
		outbox.StartAt(time.Time{}), outbox.StartAtLatest(), outbox.StartAt(time.Now()))
	for _, want := range []string{"outbox: NewWorker: ", "the client is nil", "the stream: it is empty: want ", "the Consumer is nil", "the leases are nil", "option 0 is nil",
		"WithBatchSize: want 1 to 10,000, have 0", "WithMaxUnfinished", "WithPollInterval: want 200ms to 1m0s, have 0s", "WithLeaseDuration", "WithDrainTimeout", "WithHandlerRetry: want 1 to 100",
		"StartAt: want a time after 1970, have 0001-01-01T00:00:00Z", "StartAt: another StartAt or StartAtLatest has been given"} {
		require.ErrorContains(t, err, want)
	}
	_, err = outbox.NewStreamsWorker(nil, "arn", c, &outbox.MemoryLeases{})
	require.ErrorContains(t, err, "outbox: NewStreamsWorker: the client is nil")
	_, err = outbox.NewLeaseTable(nil, "t", "g")
	require.ErrorContains(t, err, "the DynamoDB client is nil")
	_, err = outbox.NewLeaseTable(&dynamodb.Client{}, "", "a#b")
	require.ErrorContains(t, err, "outbox: NewLeaseTable: ")
}
