package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"weak"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// waitingShard returns what the lease table says of the shard that has unfinished records below its checkpoint.
func (f *fleet) waitingShard(t *testing.T) (found outbox.LeaseStatus) {
	all, err := f.leases.(*outbox.LeaseTable).Status(t.Context(), "events")
	require.NoError(t, err)
	for _, s := range all {
		if len(s.Unfinished) > 0 {
			require.Empty(t, found.Shard, "two shards wait: %+v", all)
			found = s
		}
	}
	return found
}

// A stop leaves failing events, and what waits behind them, below the checkpoint. The next owner handles them in order, with their attempts,
// and nothing else again, also after a split.
func TestFailingEventsAreHandedOver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		f.oneShard(t)
		var healed atomic.Bool
		handle := func(ctx context.Context, e outbox.Event[orderCreated]) error {
			if strings.HasPrefix(e.AggregateID, "bad") && !healed.Load() {
				return errors.New("no")
			}
			f.note(t, e)
			return nil
		}
		retry := outbox.WithHandlerRetry(outbox.Retry{BaseDelay: 5 * time.Second, MaxDelay: 5 * time.Second})
		w := f.start(t, handle, retry)
		bad := f.put(t, "bad", 1, 2)
		ids := f.put(t, "a", 20, 5)
		f.await(t, "the others handled", time.Minute, f.all(ids))
		require.NoError(t, w.stop())
		status := f.waitingShard(t)
		require.Len(t, status.Unfinished, 2)
		require.GreaterOrEqual(t, status.Attempts[status.Unfinished[0]], 1)
		require.Zero(t, status.Attempts[status.Unfinished[1]])
		require.Greater(t, status.Checkpoint, status.Unfinished[1])
		before := status.Attempts[status.Unfinished[0]]

		w = f.start(t, handle, retry)
		time.Sleep(20 * time.Second)
		require.Greater(t, f.waitingShard(t).Attempts[status.Unfinished[0]], before)
		split(t, f, 2)
		more := f.put(t, "b", 20, 5)
		bad = append(bad, f.put(t, "bad", 1, 4)[2:]...) // the first two are there already
		f.await(t, "the others handled after the split", time.Minute, f.all(more))
		require.Len(t, f.waitingShard(t).Unfinished, 2)
		require.True(t, f.waitingShard(t).Ended)
		require.NoError(t, w.stop())
		f.requireTimes(t, 0, bad)
		healed.Store(true)
		w = f.start(t, handle, retry)
		f.await(t, "all handled", 2*time.Minute, f.all(bad))
		time.Sleep(5 * time.Second)
		require.Empty(t, f.waitingShard(t).Shard)
		require.NoError(t, w.stop())
		f.requireTimes(t, 1, slices.Concat(ids, more, bad))
		require.Equal(t, bad[:2], f.order["bad-0"][:2])
	})
}

// trimmed answers a request for one record with a later one, as if the record had expired.
type trimmed struct{ outbox.KinesisClient }

func (c trimmed) GetRecords(ctx context.Context, in *kinesis.GetRecordsInput, opts ...func(*kinesis.Options)) (*kinesis.GetRecordsOutput, error) {
	out, err := c.KinesisClient.GetRecords(ctx, in, opts...)
	if err == nil && aws.ToInt32(in.Limit) == 1 && len(out.Records) > 0 {
		out.Records[0].SequenceNumber = aws.String(*out.Records[0].SequenceNumber + "0")
	}
	return out, err
}

// An event that expires while it waits below the checkpoint is told of, and what waits behind it goes on.
func TestAWaitingEventThatExpiresIsTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		f.oneShard(t)
		w := f.start(t, func(ctx context.Context, e outbox.Event[orderCreated]) error {
			if e.AggregateID == "bad-0" {
				return errors.New("no")
			}
			f.note(t, e)
			return nil
		})
		lost := f.put(t, "bad", 1, 1)
		ids := f.put(t, "a", 5, 1)
		f.await(t, "the others handled", time.Minute, f.all(ids))
		require.NoError(t, w.stop())
		waiting := f.waitingShard(t)
		require.Len(t, waiting.Unfinished, 1)
		later := event("later")
		later.AggregateID = "bad-0"
		require.NoError(t, f.writer.Put(t.Context(), "orders", order{"later"}, later))
		var told []outbox.DataLoss
		w = f.startWith(t, trimmed{f.Kinesis}, f.leases, func(_ context.Context, e outbox.Event[orderCreated]) error { f.note(t, e); return nil },
			outbox.WithWorkerHooks(outbox.WorkerHooks{DataLost: func(d outbox.DataLoss) {
				f.mu.Lock()
				defer f.mu.Unlock()
				told = append(told, d)
			}}))
		f.await(t, "the later one handled", time.Minute, f.all([]string{"later"}))
		time.Sleep(3 * time.Second)
		require.NoError(t, w.stop())
		require.Equal(t, []outbox.DataLoss{{Shard: waiting.Shard, After: waiting.Unfinished[0]}}, told)
		require.Empty(t, f.waitingShard(t).Shard)
		f.requireTimes(t, 0, lost)
		f.requireTimes(t, 1, ids)
	})
}

// noSaves refuses the writes of checkpoints.
type noSaves struct {
	outbox.LeaseClient
	refuse atomic.Bool
}

func (c *noSaves) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	if c.refuse.Load() && strings.HasPrefix(*in.UpdateExpression, "SET #checkpoint = :checkpoint, #n") {
		return nil, errCut
	}
	return c.LeaseClient.UpdateItem(ctx, in, opts...)
}

// moody refuses every fourth read.
type moody struct {
	outbox.KinesisClient
	reads atomic.Int32
}

func (c *moody) GetRecords(ctx context.Context, in *kinesis.GetRecordsInput, opts ...func(*kinesis.Options)) (*kinesis.GetRecordsOutput, error) {
	if c.reads.Add(1)%4 == 0 {
		return nil, &smithy.GenericAPIError{Code: "AccessDeniedException"}
	}
	return c.KinesisClient.GetRecords(ctx, in, opts...)
}

// While checkpoints cannot be stored and reading begins anew again and again, no more is handled above the stored checkpoint than ever.
func TestTheBoundHoldsWhenReadingBeginsAnew(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		f.oneShard(t)
		client := &noSaves{LeaseClient: f.DynamoDB}
		leases, err := outbox.NewLeaseTable(client, "leases", "mails")
		require.NoError(t, err)
		w := f.startWith(t, &moody{KinesisClient: f.Kinesis}, leases, func(_ context.Context, e outbox.Event[orderCreated]) error { f.note(t, e); return nil },
			outbox.WithMaxUnfinished(50), outbox.WithBatchSize(10))
		first := f.put(t, "first", 5, 1)
		f.await(t, "the first handled", 5*time.Minute, f.all(first))
		time.Sleep(time.Minute)
		client.refuse.Store(true)
		var ids []string
		for i := range 300 {
			ids = append(ids, f.put(t, fmt.Sprint("e", i), 1, 1)...)
		}
		time.Sleep(5 * time.Minute)
		f.mu.Lock()
		above := len(f.handled) - len(first)
		f.mu.Unlock()
		require.LessOrEqual(t, above, 50)
		require.Positive(t, above)
		client.refuse.Store(false)
		f.await(t, "all handled", 10*time.Minute, f.all(ids))
		require.NoError(t, w.stop())
		f.requireTimes(t, 1, slices.Concat(first, ids))
	})
}

// A failing event keeps no memory of the events that were handled behind it.
func TestAFailingEventKeepsNothingButItself(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		f.oneShard(t)
		var payloads []weak.Pointer[byte]
		w := f.start(t, func(ctx context.Context, e outbox.Event[orderCreated]) error {
			if e.AggregateID == "bad-0" {
				return errors.New("no")
			}
			r, ok := outbox.RecordFromContext(ctx)
			if !ok {
				return errors.New("no record")
			}
			f.mu.Lock()
			payloads = append(payloads, weak.Make(&r.Payload[0]))
			f.mu.Unlock()
			f.note(t, e)
			return nil
		})
		f.put(t, "bad", 1, 1)
		time.Sleep(5 * time.Second)
		var ids []string
		for i := range 20 {
			ids = append(ids, f.put(t, fmt.Sprint("a", i), 20, 1)...)
			time.Sleep(2 * time.Second)
		}
		f.await(t, "the others handled", time.Minute, f.all(ids))
		runtime.GC()
		runtime.GC()
		f.mu.Lock()
		kept := len(slices.DeleteFunc(payloads, func(p weak.Pointer[byte]) bool { return p.Value() == nil }))
		f.mu.Unlock()
		require.Less(t, kept, len(ids)/4)
		require.NoError(t, w.stop())
	})
}

// withoutRecord is a client that cannot start at one record while it is denied.
type withoutRecord struct {
	outbox.KinesisClient
	sequence string
	denied   atomic.Bool
}

func (c *withoutRecord) GetShardIterator(ctx context.Context, in *kinesis.GetShardIteratorInput, opts ...func(*kinesis.Options)) (*kinesis.GetShardIteratorOutput, error) {
	if c.denied.Load() && aws.ToString(in.StartingSequenceNumber) == c.sequence {
		return nil, &smithy.GenericAPIError{Code: "AccessDeniedException"}
	}
	return c.KinesisClient.GetShardIterator(ctx, in, opts...)
}

// A waiting event that cannot be read again holds up its own aggregate only.
func TestAWaitingEventThatCannotBeReadHoldsUpNoOther(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		f.oneShard(t)
		var healed atomic.Bool
		handle := func(_ context.Context, e outbox.Event[orderCreated]) error {
			if strings.HasPrefix(e.AggregateID, "bad") && !healed.Load() {
				return errors.New("no")
			}
			f.note(t, e)
			return nil
		}
		w := f.start(t, handle)
		bad := f.put(t, "bad", 3, 2) // of three aggregates in turn
		ids := f.put(t, "a", 20, 1)
		f.await(t, "the others handled", time.Minute, f.all(ids))
		require.NoError(t, w.stop())
		waiting := f.waitingShard(t).Unfinished
		require.Len(t, waiting, len(bad))
		healed.Store(true)
		client := &withoutRecord{KinesisClient: f.Kinesis, sequence: waiting[0]}
		client.denied.Store(true)
		w = f.startWith(t, client, f.leases, handle)
		time.Sleep(time.Minute)
		handled := 0
		f.mu.Lock()
		for _, id := range bad {
			handled += f.handled[id]
		}
		f.mu.Unlock()
		require.Equal(t, 4, handled, "the two other aggregates")
		client.denied.Store(false)
		f.await(t, "all handled", 2*time.Minute, f.all(bad))
		require.NoError(t, w.stop())
		f.requireTimes(t, 1, bad)
		for a, order := range f.order {
			require.True(t, slices.IsSorted(order), "%s: %v", a, order)
		}
	})
}
