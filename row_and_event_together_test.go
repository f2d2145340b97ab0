package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// The tests of the contract, over the SDK's clients and outboxtest. README names them.

func TestARowAndItsEventCommitTogether(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, w.writer.Put(t.Context(), "orders", order{"order-1"}, event("e-1")))
	w.requireRows(t, 1, 1)
	require.Equal(t, values{"orderId": str("order-1")}, w.row(t, "orders", "orderId", "order-1"))
	require.Equal(t, values{
		"eventId": str("e-1"), "type": str("ORDER_CREATED"), "timestamp": num("1719347890250"), "aggregateId": str("order-1"),
		"payload": str(`{"orderId":"order-1","description":"x"}`)}, w.row(t, "events", "eventId", "e-1"))
}

func TestNothingIsWrittenWhenAConditionFails(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, w.writer.Transact(t.Context(), []types.TransactWriteItem{putNew("order-1")}, event("e-1")))
	err := w.writer.Transact(t.Context(), []types.TransactWriteItem{putNew("order-2"), putNew("order-1")}, event("e-2"))
	require.ErrorIs(t, err, outbox.ErrConditionFailed)
	require.ErrorContains(t, err, `operation 1 (Put in table "orders"): ConditionalCheckFailed`)
	w.requireRows(t, 1, 1)
}

// At once, within the ten minutes of the idempotency token, and after them; built anew, with a domain condition that its own
// first attempt made false; and never over another event.
func TestRepeatWritesOnce(t *testing.T) {
	w := newWorld(t)
	write := []types.TransactWriteItem{putNew("order-1")}
	for _, later := range []time.Duration{0, 0, 9 * time.Minute, 2 * time.Minute, time.Hour} {
		w.advance(later)
		require.NoErrorf(t, w.writer.Transact(t.Context(), write, event("e-1")), "%s later", later)
		anew := event("e-1")
		anew.Time = time.UnixMilli(clockStart).Add(time.Minute)
		require.NoErrorf(t, w.writer.Transact(t.Context(), write, anew), "%s later, built anew", later)
	}
	other := event("e-1")
	other.Data.Description = "something else"
	err := w.writer.Put(t.Context(), "orders", order{"order-9"}, other)
	require.ErrorIs(t, err, outbox.ErrEventConflict)
	require.ErrorContains(t, err, `event "e-1"`)
	w.requireRows(t, 1, 1)
	require.Equal(t, num("1719347890250"), w.row(t, "events", "eventId", "e-1")["timestamp"], "a repeat changed the row")
}

// Two writers with clients of their own, as two processes have them, and 50 goroutines that all write the same 200 events
// through a bad network: every call succeeds or says with a documented error why not, and a repeat settles it.
func TestManyWritersOfTheSameEventsWriteEachOnce(t *testing.T) {
	const goroutines, events = 50, 200
	w := newWorld(t)
	require.NoError(t, w.SetFaults(
		outboxtest.Fault{Kind: outboxtest.TransactionConflict, Operation: "TransactWriteItems", Probability: 0.2},
		outboxtest.Fault{Kind: outboxtest.LoseAnswer, Operation: "TransactWriteItems", Probability: 0.1},
		outboxtest.Fault{Kind: outboxtest.Throttle, Operation: "TransactWriteItems", Probability: 0.05},
		outboxtest.Fault{Kind: outboxtest.ServerError, Operation: "TransactWriteItems", Probability: 0.05},
	))
	retry := outbox.WithWriteRetry(outbox.Retry{MaxAttempts: 2, BaseDelay: time.Millisecond})
	writers := []*outbox.Writer{
		newWriter(t, dynamodb.NewFromConfig(w.Config()), retry),
		newWriter(t, dynamodb.NewFromConfig(w.Config()), retry),
	}
	var wg sync.WaitGroup
	var failures atomic.Int64
	for g := range goroutines {
		wg.Go(func() {
			for i := range events {
				id := fmt.Sprint("order-", (i+g*7)%events)
				for attempt := 1; ; attempt++ {
					err := writers[g%2].Transact(t.Context(), []types.TransactWriteItem{putNew(id)}, event("e-"+id))
					if err == nil {
						break
					}
					failures.Add(1)
					if !errors.Is(err, outbox.ErrConflict) && !errors.Is(err, outbox.ErrUnknownOutcome) || attempt > 100 {
						t.Errorf("%s, attempt %d: %v", id, attempt, err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	w.StopFaults()
	w.requireRows(t, events, events)
	w.requireOneChangeRecordEach(t, events)
	require.NotZero(t, failures.Load(), "the network was too good")
}

func TestEveryEventReachesItsHandler(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	handled := map[string]int{}
	w.consume(t, func(ctx context.Context, e outbox.Event[orderCreated]) error {
		r, ok := outbox.RecordFromContext(ctx)
		require.True(t, ok)
		require.NotEmpty(t, r.SequenceNumber)
		require.Contains(t, r.ShardID, "shardId-")
		require.Equal(t, "events", r.Table)
		mu.Lock()
		defer mu.Unlock()
		handled[e.ID]++
		return nil
	})
	for i := range 250 {
		require.NoError(t, w.writer.Put(t.Context(), "orders", order{fmt.Sprint(i)}, event(fmt.Sprint("e-", i))))
	}
	require.NoError(t, w.Drain(t.Context()))
	require.Len(t, handled, 250)
}

// A handler that fails sees its event again, and everything after it in the shard arrives too.
func TestEventsAreDeliveredAgainUntilHandled(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	attempts, handled := map[string]int{}, map[string]bool{}
	w.consume(t, func(_ context.Context, e outbox.Event[orderCreated]) error {
		mu.Lock()
		defer mu.Unlock()
		if attempts[e.ID]++; attempts[e.ID] < 3 {
			if attempts[e.ID] == 2 {
				panic("crash")
			}
			return errors.New("mail server down")
		}
		handled[e.ID] = true
		return nil
	})
	for i := range 20 {
		require.NoError(t, w.writer.Put(t.Context(), "orders", order{fmt.Sprint(i)}, event(fmt.Sprint("e-", i))))
	}
	require.NoError(t, w.Drain(t.Context()))
	require.Len(t, handled, 20)
}

func TestItemsGoIntoTheCallersOwnTransaction(t *testing.T) {
	w := newWorld(t)
	items, err := w.writer.Items(t.Context(), event("e-1"), event("e-2"))
	require.NoError(t, err)
	send := func() error {
		_, err := w.DynamoDB.TransactWriteItems(t.Context(), &dynamodb.TransactWriteItemsInput{TransactItems: append(items, putNew("order-1"))})
		return err
	}
	require.NoError(t, send())
	var canceled *types.TransactionCanceledException
	require.ErrorAs(t, send(), &canceled)
	require.Equal(t, items[0].Put.Item, canceled.CancellationReasons[0].Item, "the stored event comes back")
	w.requireRows(t, 1, 2)
}

func TestBadWritesLeaveNothingBehind(t *testing.T) {
	w := newWorld(t)
	twoPuts := []types.TransactWriteItem{
		{Put: &types.Put{TableName: aws.String("orders"), Item: values{"orderId": str("1"), "a": str("x")}}},
		{Put: &types.Put{TableName: aws.String("orders"), Item: values{"orderId": str("1"), "a": str("y")}}},
	}
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"wrong table": {w.writer.Put(t.Context(), "nonsense", order{"1"}, event("e")), "ResourceNotFoundException"},
		"no key":      {w.writer.Put(t.Context(), "orders", values{"x": str("1")}, event("e")), "ValidationE"},
		"item twice":  {w.writer.Transact(t.Context(), twoPuts, event("e")), "multiple operations on one item"},
		"500 KB":      {w.writer.Put(t.Context(), "orders", values{"orderId": str("1"), "a": str(strings.Repeat("x", 500<<10))}, event("e")), "too large"},
		"no expression": {w.writer.Transact(t.Context(), []types.TransactWriteItem{{Update: &types.Update{
			TableName: aws.String("orders"), Key: values{"orderId": str("1")}}}}, event("e")), "invalid write"},
		"empty key":        {w.writer.Put(t.Context(), "orders", order{""}, event("e")), "ValidationE"},
		"no id":            {w.writer.Put(t.Context(), "orders", order{"1"}, event("")), "it has no id"},
		"the events table": {newWriter(t, w.DynamoDB).Transact(t.Context(), nil, event("e"), event("e")), "same item"},
	} {
		require.Errorf(t, c.err, "%s", name)
		require.ErrorContainsf(t, c.err, c.want, "%s", name)
		require.ErrorContainsf(t, c.err, "outbox: ", "%s", name)
		require.NotErrorIsf(t, c.err, outbox.ErrUnknownOutcome, "%s", name)
	}
	w.requireRows(t, 0, 0)
}

// The answer is lost after the transaction was applied: the caller is told that it does not know, and a repeat settles it.
func TestALostAnswerIsSettledByARepeat(t *testing.T) {
	w := newWorld(t)
	cut := &cutting{WriterClient: w.DynamoDB}
	writer := newWriter(t, cut)
	err := writer.Put(t.Context(), "orders", order{"1"}, event("e"))
	require.ErrorIs(t, err, outbox.ErrUnknownOutcome)
	require.NoError(t, writer.Put(t.Context(), "orders", order{"1"}, event("e")))
	w.requireRows(t, 1, 1)
}

// cutting loses the answer to the first transaction.
type cutting struct {
	outbox.WriterClient
	cut bool
}

func (c *cutting) TransactWriteItems(ctx context.Context, in *dynamodb.TransactWriteItemsInput, opts ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error) {
	out, err := c.WriterClient.TransactWriteItems(ctx, in, opts...)
	if !c.cut {
		c.cut = true
		return nil, errors.New("connection reset by peer")
	}
	return out, err
}

// consume maps the stream to a consumer with this handler.
func (w *world) consume(t *testing.T, h func(context.Context, outbox.Event[orderCreated]) error) {
	c := newConsumer(t)
	outbox.Handle(c, h)
	_, err := w.Map(outboxtest.EventSource{Stream: "events", ReportBatchItemFailures: true}, c.Invoke)
	require.NoError(t, err)
}
