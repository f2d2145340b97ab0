package outbox_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// Run returns when no handler runs, and not before; a handler that does not end in time has its context cancelled.
func TestRunReturnsWhenNoHandlerRuns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		started, finished := make(chan struct{}, 100), make(chan error, 100)
		w := f.start(t, func(ctx context.Context, e outbox.Event[orderCreated]) error {
			started <- struct{}{}
			<-ctx.Done()
			time.Sleep(time.Second)
			finished <- ctx.Err()
			return ctx.Err()
		}, outbox.WithDrainTimeout(5*time.Second))
		f.put(t, "a", 1, 1)
		<-started
		start := time.Now()
		require.NoError(t, w.stop())
		require.Len(t, finished, 1, "Run returned while a handler was running")
		require.InDelta(t, 6, time.Since(start).Seconds(), 1)

		w = f.start(t, func(_ context.Context, e outbox.Event[orderCreated]) error { f.note(t, e); return nil })
		f.await(t, "handled by the next one", time.Minute, f.all([]string{"a-0-0"}))
		require.NoError(t, w.stop())
	})
}

func TestAWorkerReadsADynamoDBStream(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		_, err := f.DynamoDB.UpdateTable(t.Context(), &dynamodb.UpdateTableInput{TableName: aws.String("events"),
			StreamSpecification: &types.StreamSpecification{StreamEnabled: aws.Bool(true), StreamViewType: types.StreamViewTypeNewImage}})
		require.NoError(t, err)
		table, err := f.DynamoDB.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: aws.String("events")})
		require.NoError(t, err)
		c := newConsumer(t, quiet(), outbox.WithTables("events"))
		outbox.Handle(c, func(_ context.Context, e outbox.Event[orderCreated]) error { f.note(t, e); return nil })
		w, err := outbox.NewStreamsWorker(f.Streams, *table.Table.LatestStreamArn, c, &outbox.MemoryLeases{})
		require.NoError(t, err)
		r := runWorker(t, w)
		first := f.put(t, "a", 5, 10)
		require.NoError(t, f.RollStreamShard("events"))
		second := f.put(t, "b", 5, 10)
		f.await(t, "all handled", time.Minute, f.all(slices.Concat(first, second)))
		require.NoError(t, r.stop())
		f.requireTimes(t, 1, slices.Concat(first, second))
		for a := range 5 {
			var want []string
			for i := range 10 {
				want = append(want, fmt.Sprintf("a-%d-%d", a, i))
			}
			require.Equal(t, want, f.order[fmt.Sprintf("a-%d", a)], "a DynamoDB stream keeps the order")
		}
	})
}

func TestStartPositions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		old := f.put(t, "old", 2, 2)
		require.NoError(t, f.Drain(t.Context()))
		time.Sleep(time.Hour)
		since := time.Now()
		recent := f.put(t, "recent", 2, 2)
		require.NoError(t, f.Drain(t.Context()))
		time.Sleep(time.Hour)
		for _, c := range []struct {
			group    string
			opts     []outbox.WorkerOption
			old, new int // how often they are handled
		}{
			{"latest", []outbox.WorkerOption{outbox.StartAtLatest()}, 0, 0},
			{"time", []outbox.WorkerOption{outbox.StartAt(since)}, 0, 1},
			{"oldest", nil, 1, 1},
		} {
			f.mu.Lock()
			clear(f.handled)
			f.mu.Unlock()
			leases, err := outbox.NewLeaseTable(f.DynamoDB, "leases", c.group)
			require.NoError(t, err)
			w := f.startWith(t, f.Kinesis, leases, func(_ context.Context, e outbox.Event[orderCreated]) error { f.note(t, e); return nil }, c.opts...)
			time.Sleep(30 * time.Second)
			fresh := f.put(t, c.group, 2, 2)
			f.await(t, "all handled", time.Minute, f.all(fresh))
			require.NoError(t, w.stop())
			f.requireTimes(t, c.old, old)
			f.requireTimes(t, c.new, recent)
			f.requireTimes(t, 1, fresh)
		}
	})
}

func TestRunRunsOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		w, err := outbox.NewWorker(f.Kinesis, "events", newConsumer(t, quiet()), f.leases)
		require.NoError(t, err)
		r := runWorker(t, w)
		time.Sleep(time.Second)
		require.ErrorContains(t, w.Run(t.Context()), "running already")
		require.NoError(t, r.stop())
		r = runWorker(t, w)
		time.Sleep(time.Second)
		require.NoError(t, r.stop())
	})
}

// A lease table may come after its worker, as in a deployment. Until then the log has an error for each call, and Health names it. A table of
// another form ends Run.
func TestALeaseTableThatComesLate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		leases, err := outbox.NewLeaseTable(f.DynamoDB, "nothing", "mails")
		require.NoError(t, err)
		var log bytes.Buffer
		c := newConsumer(t, outbox.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		outbox.Handle(c, func(_ context.Context, e outbox.Event[orderCreated]) error { f.note(t, e); return nil })
		worker, err := outbox.NewWorker(f.Kinesis, "events", c, leases)
		require.NoError(t, err)
		w := runWorker(t, worker)
		ids := f.put(t, "a", 1, 3)
		time.Sleep(5 * time.Minute)
		var missing *types.ResourceNotFoundException
		require.ErrorAs(t, worker.Health(), &missing)
		require.ErrorContains(t, worker.Health(), "no heartbeat has been stored yet: lease table nothing")
		require.NoError(t, leases.Create(t.Context()))
		f.await(t, "all handled", time.Minute, f.all(ids))
		require.NoError(t, worker.Health())
		require.NoError(t, w.stop())
		require.Regexp(t, `level=ERROR msg="outbox: leases: a call is repeated" stream=events operation=Register error=.*ResourceNotFoundException`, log.String())

		other, err := outbox.NewLeaseTable(f.DynamoDB, "events", "mails")
		require.NoError(t, err)
		w = f.startWith(t, f.Kinesis, other, func(context.Context, outbox.Event[orderCreated]) error { return nil })
		<-w.done
		require.ErrorContains(t, *w.err, "outbox: worker of stream events: lease table events, group mails")
		require.ErrorContains(t, *w.err, "ValidationException")
	})
}

// What a handler keeps of an event stays as it was, although the memory of the answers that it came with is used again.
func TestWhatAHandlerKeepsOutlivesTheAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		var events []outbox.Event[orderCreated]
		var records []outbox.Record
		w := f.start(t, func(ctx context.Context, e outbox.Event[orderCreated]) error {
			r, _ := outbox.RecordFromContext(ctx)
			f.mu.Lock()
			events, records = append(events, e), append(records, r)
			f.mu.Unlock()
			f.note(t, e)
			return nil
		})
		seen := map[string]bool{}
		for round := range 8 {
			var ids []string
			for i := range 60 { // enough for an answer of more than one chunk of memory
				e := event(fmt.Sprintf("e-%d-%d", round, i))
				e.AggregateID = "order of " + e.ID
				e.Headers = map[string]string{"of": e.ID}
				e.Data = orderCreated{e.ID, strings.Repeat(e.ID+" ", 20+i)}
				require.NoError(t, f.writer.Put(t.Context(), "orders", order{e.AggregateID}, e))
				ids = append(ids, e.ID)
			}
			f.await(t, "handled", time.Minute, f.all(ids))
		}
		require.NoError(t, w.stop())
		for i, e := range events {
			number := 0
			_, err := fmt.Sscanf(e.ID[strings.LastIndex(e.ID, "-"):], "-%d", &number)
			require.NoError(t, err)
			want := orderCreated{e.ID, strings.Repeat(e.ID+" ", 20+number)}
			payload, err := json.Marshal(want)
			require.NoError(t, err)
			require.Equal(t, want, e.Data)
			require.Equal(t, "order of "+e.ID, e.AggregateID)
			require.Equal(t, string(payload), string(records[i].Payload))
			require.Equal(t, map[string]string{"of": e.ID}, records[i].Headers)
			require.Equal(t, e.ID, records[i].ID)
			place := records[i].ShardID + records[i].SequenceNumber
			require.Falsef(t, seen[place], "two records are at %s", place)
			seen[place] = true
		}
	})
}

// A stream that does not exist, or may not be read, is nothing that heals by itself: it is logged as an error, and asked for again.
func TestAMissingStreamIsLoggedAsAnError(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		var log bytes.Buffer
		c := newConsumer(t, outbox.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		w, err := outbox.NewWorker(f.Kinesis, "evnets", c, f.leases)
		require.NoError(t, err)
		r := runWorker(t, w)
		time.Sleep(10 * time.Second)
		require.NoError(t, r.stop())
		require.Regexp(t, `level=ERROR msg="outbox: leases: a call is repeated" stream=evnets operation=\S+ error=.*ResourceNotFoundException`, log.String())
	})
}
