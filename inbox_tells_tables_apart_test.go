package outbox_test

import (
	"context"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// Guarded and with HandleTx, with and without the cache: one id in two tables, and in none, is handled once for each.
func TestOneIDInTwoTablesIsTwoEvents(t *testing.T) {
	for _, cache := range []int{0, 100} {
		for _, committed := range []bool{false, true} {
			w := newInboxWorld(t)
			inbox := w.inbox(t, w.DynamoDB, outbox.WithInboxCache(cache))
			runs := map[string]int{}
			c := newConsumer(t, outbox.WithInbox(inbox))
			note := func(ctx context.Context) {
				r, _ := outbox.RecordFromContext(ctx)
				runs[r.Table]++
			}
			if committed {
				outbox.HandleTx(c, newWriter(t, w.DynamoDB), func(ctx context.Context, e outbox.Event[orderCreated]) (outbox.Effects, error) {
					note(ctx)
					return outbox.Effects{Writes: []types.TransactWriteItem{countCommit("1")}}, nil
				})
			} else {
				outbox.Handle(c, func(ctx context.Context, e outbox.Event[orderCreated]) error { note(ctx); return nil })
			}
			for range 2 {
				for _, table := range []string{"events-eu", "events-us", ""} {
					r := createdRecord("1")
					r.Table = table
					require.NoError(t, c.Process(t.Context(), r))
				}
			}
			require.Equal(t, map[string]int{"events-eu": 1, "events-us": 1, "": 1}, onlyFirst(runs, committed && cache == 0), "cache %d, committed %t", cache, committed)
			require.Len(t, w.all(t, "inbox"), 3)
			if committed {
				require.Equal(t, "3", textOf(w.row(t, "orders", "orderId", "1"), "commits"))
			}
		}
	}
}

// onlyFirst halves the runs of handlers whose duplicates run, and are not committed.
func onlyFirst(runs map[string]int, duplicatesRun bool) map[string]int {
	for table := range runs {
		if duplicatesRun {
			runs[table] /= 2
		}
	}
	return runs
}

// An event reaches one consumer from Kinesis and from the table's own stream, in Lambda and in Workers, and by a redrive: to the inbox it is
// one event. (A replay: TestAReplayNamesTheTable.)
func TestEveryDeliveryNamesTheTable(t *testing.T) {
	w := newInboxWorld(t)
	table, err := w.DynamoDB.UpdateTable(t.Context(), &dynamodb.UpdateTableInput{TableName: aws.String("events"),
		StreamSpecification: &types.StreamSpecification{StreamEnabled: aws.Bool(true), StreamViewType: types.StreamViewTypeNewImage}})
	require.NoError(t, err)
	writer := newWriter(t, w.DynamoDB)
	require.NoError(t, writer.Transact(t.Context(), nil, event("1")))
	letters, err := outbox.NewDeadLetterTable(w.DynamoDB, "letters", "mails")
	require.NoError(t, err)
	require.NoError(t, letters.Create(t.Context()))

	runs, bad := 0, true
	consumer := func(opts ...outbox.ConsumerOption) *outbox.Consumer {
		c := newConsumer(t, append(opts, outbox.WithInbox(w.inbox(t, w.DynamoDB, outbox.WithInboxCache(0))))...)
		outbox.Handle(c, func(ctx context.Context, _ outbox.Event[orderCreated]) error {
			r, _ := outbox.RecordFromContext(ctx)
			require.Equal(t, "events", r.Table)
			if bad {
				return outbox.Permanent(errNoStock)
			}
			runs++
			return nil
		})
		return c
	}
	// First it becomes a dead letter, and the redrive handles it.
	first := consumer(outbox.WithDeadLetters(letters))
	_, err = w.Map(outboxtest.EventSource{Stream: "events", ReportBatchItemFailures: true}, first.Invoke)
	require.NoError(t, err)
	require.NoError(t, w.Drain(t.Context()))
	bad = false
	result, err := letters.Redrive(t.Context(), first, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
	require.NoError(t, err)
	require.Equal(t, 1, result.Redriven)
	require.Equal(t, 1, runs)

	// Then it comes on every other way.
	_, err = w.Map(outboxtest.EventSource{Stream: "events", ReportBatchItemFailures: true}, consumer().Invoke)
	require.NoError(t, err)
	require.NoError(t, w.Drain(t.Context()))
	workers := map[string]func(*outbox.Consumer) (*outbox.Worker, error){
		"Kinesis": func(c *outbox.Consumer) (*outbox.Worker, error) {
			return outbox.NewWorker(w.Kinesis, "events", c, new(outbox.MemoryLeases))
		},
	}
	if arn := table.TableDescription.LatestStreamArn; arn != nil {
		workers["DynamoDB Streams"] = func(c *outbox.Consumer) (*outbox.Worker, error) {
			return outbox.NewStreamsWorker(w.Streams, *arn, c, new(outbox.MemoryLeases))
		}
	}
	_, err = w.Map(outboxtest.EventSource{Table: "events", ReportBatchItemFailures: true}, consumer().Invoke)
	require.NoError(t, err)
	require.NoError(t, w.Drain(t.Context()))
	require.Len(t, workers, 2)
	for name, worker := range workers {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		duplicates := 0
		one, err := worker(consumer(outbox.WithConsumerHooks(outbox.ConsumerHooks{Duplicate: func(context.Context, outbox.Record) { duplicates++; cancel() }})))
		require.NoError(t, err)
		require.NoError(t, one.Run(ctx))
		require.Equal(t, 1, duplicates, name)
	}
	require.Equal(t, 1, runs)
	require.Len(t, w.all(t, "inbox"), 1)
}
