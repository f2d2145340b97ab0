package integration

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// ordered is a shop with an inbox, and consumers that handle its sequenced events in order. The effect of an event is its number at the end of a list in
// the aggregate's row, without a condition: the list shows every effect, in the order of their commits.
type ordered struct {
	shop
	inbox string

	mu   sync.Mutex
	told []outbox.OrderInfo
}

func (w shop) ordered(t *trial) *ordered {
	t.Helper()
	return &ordered{shop: w, inbox: w.table(t, "eventId:S consumer:S")}
}

// write writes the events from first to last of an aggregate, and returns them as they are stored.
func (w *ordered) write(t *trial, aggregate string, first, last int64) (records []outbox.Record) {
	t.Helper()
	for number := first; number <= last; number++ {
		e := outbox.NewSequenced(aggregate, number, orderCreated{OrderID: aggregate})
		e.Time = time.Now().Add(-time.Hour).Truncate(time.Second).Add(time.Duration(number) * time.Second)
		require.NoError(t, w.writer.Transact(t.Context(), nil, e))
		r, err := outbox.DecodeItem(w.get(t, w.events, item{"eventId": s(e.ID)}))
		require.NoError(t, err)
		r.Table = w.events
		records = append(records, r)
	}
	return records
}

func (w *ordered) inboxOf(t *trial) *outbox.Inbox {
	t.Helper()
	i, err := outbox.NewInbox(w.DynamoDB, w.inbox, "balances")
	require.NoError(t, err)
	return i
}

// consumer is a process of its own, without handlers.
func (w *ordered) consumer(t *trial, from time.Time) *outbox.Consumer {
	t.Helper()
	c, err := outbox.NewConsumer(outbox.WithInbox(w.inboxOf(t)), outbox.WithOrder(w.DynamoDB, w.events, from), outbox.WithLogger(slog.New(slog.DiscardHandler)),
		outbox.WithConsumerHooks(outbox.ConsumerHooks{Order: func(_ context.Context, o outbox.OrderInfo) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.told = append(w.told, o)
		}}))
	require.NoError(t, err)
	return c
}

// process is a consumer whose effects are written by HandleTx.
func (w *ordered) process(t *trial, from time.Time) *outbox.Consumer {
	t.Helper()
	c := w.consumer(t, from)
	outbox.HandleTx(c, w.writer, func(_ context.Context, e outbox.Event[orderCreated]) (outbox.Effects, error) {
		return outbox.Effects{Writes: []types.TransactWriteItem{{Update: &types.Update{TableName: &w.orders, Key: item{"pk": s(e.AggregateID)},
			UpdateExpression:          aws.String("SET effects = list_append(if_not_exists(effects, :none), :one)"),
			ExpressionAttributeValues: item{":none": l(), ":one": l(n(e.Sequence))}}}}}, nil
	})
	return c
}

// requireEffects checks that these events have had their effects, once each and in this order, and that the position is at the last one.
func (w *ordered) requireEffects(t *trial, aggregate string, numbers ...int64) {
	t.Helper()
	var want []types.AttributeValue
	for _, number := range numbers {
		want = append(want, n(number))
	}
	require.Equal(t, l(want...), w.get(t, w.orders, item{"pk": s(aggregate)})["effects"])
	at, err := w.inboxOf(t).Position(t.Context(), w.events, aggregate)
	require.NoError(t, err)
	require.Equal(t, numbers[len(numbers)-1], at)
}

func upTo(last int64) (numbers []int64) {
	for i := range last {
		numbers = append(numbers, i+1)
	}
	return numbers
}

// deliver hands records to a process one after the other, until each is handled.
func deliver(t *trial, c *outbox.Consumer, records []outbox.Record) {
	for _, r := range records {
		for tries := 0; ; tries++ {
			err := c.Process(t.Context(), r)
			if err == nil {
				break
			}
			if tries == 100 || t.Context().Err() != nil {
				t.Errorf("%s: %v", r.ID, err)
				return
			}
		}
	}
}

// disturbed is what a stream makes of records: some do not arrive, others twice, in any order. The last one of each aggregate arrives, as it does if
// another one follows some day.
func disturbed(records []outbox.Record, last int64) (out []outbox.Record) {
	for _, r := range records {
		for range 1 + rand.IntN(2) {
			if r.Sequence == last || rand.IntN(5) > 0 {
				out = append(out, r)
			}
		}
	}
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

var all time.Time // of the past

// The order by sequence: consistent reads of many rows, and a position that moves under its condition, in a transaction and alone.
var orderCases = []testCase{
	{"order: an early event brings those before it from the table", onTransactions, func(t *trial, c clients) {
		w := c.shop(t).ordered(t)
		events := w.write(t, "a", 1, 4)
		p := w.process(t, all)
		require.NoError(t, p.Process(t.Context(), events[2]))
		w.requireEffects(t, "a", 1, 2, 3)
		require.Len(t, w.told, 2)
		require.NoError(t, p.Process(t.Context(), events...))
		require.NoError(t, w.process(t, all).Process(t.Context(), events...), "duplicates of another process")
		w.requireEffects(t, "a", 1, 2, 3, 4)
	}},
	{"order: more events than a read takes are caught up with", onTransactions, func(t *trial, c clients) {
		w := c.shop(t).ordered(t)
		events := w.write(t, "a", 1, 120)
		require.NoError(t, w.process(t, all).Process(t.Context(), events[119]))
		w.requireEffects(t, "a", upTo(120)...)
	}},
	{"order: a position that another process has moved shows itself to a transaction that fails", onTransactions, func(t *trial, c clients) {
		w := c.shop(t).ordered(t)
		events := w.write(t, "a", 1, 3)
		one, two := w.process(t, all), w.process(t, all)
		require.NoError(t, one.Process(t.Context(), events[0]))
		require.NoError(t, two.Process(t.Context(), events[1]))
		require.NoError(t, one.Process(t.Context(), events[1]), "it remembers the position 1")
		require.NoError(t, two.Process(t.Context(), events[2]))
		w.requireEffects(t, "a", 1, 2, 3)
	}},
	{"order: two processes and a bad stream keep it", onTransactions, func(t *trial, c clients) {
		w := c.shop(t).ordered(t)
		var events []outbox.Record
		for _, aggregate := range []string{"a", "b", "c"} {
			events = append(events, w.write(t, aggregate, 1, 12)...)
		}
		var processes sync.WaitGroup
		for range 2 {
			p, seen := w.process(t, all), disturbed(events, 12)
			processes.Go(func() { deliver(t, p, seen) })
		}
		processes.Wait()
		for _, aggregate := range []string{"a", "b", "c"} {
			w.requireEffects(t, aggregate, upTo(12)...)
		}
	}},
	{"order: what a server's own stream brings, and what it does not", onHop, func(t *trial, c clients) {
		shop, stream := c.connectedShop(t)
		w := shop.ordered(t)
		w.write(t, "a", 1, 20)
		arrived := disturbed(c.records(t, stream, 20), 20)
		deliver(t, w.process(t, all), arrived)
		w.requireEffects(t, "a", upTo(20)...)
	}},
	{"order: a number that is missing stops its aggregate until it is passed", onTransactions, func(t *trial, c clients) {
		w := c.shop(t).ordered(t)
		events := append(w.write(t, "a", 1, 1), w.write(t, "a", 3, 3)...)
		p, i := w.process(t, all), w.inboxOf(t)
		require.NoError(t, p.Process(t.Context(), events[0]))
		require.ErrorIs(t, p.Process(t.Context(), events[1]), outbox.ErrSequenceMissing)
		w.requireEffects(t, "a", 1)
		_, err := i.Pass(t.Context(), w.events, "a", 3)
		require.ErrorIs(t, err, outbox.ErrNotNext)
		for range 2 {
			_, err = i.Pass(t.Context(), w.events, "a", 2)
			require.NoError(t, err)
		}
		require.NoError(t, p.Process(t.Context(), events[1]))
		w.requireEffects(t, "a", 1, 3)
		require.NoError(t, i.Forget(t.Context(), w.events, "a"))
		at, err := i.Position(t.Context(), w.events, "a")
		require.NoError(t, err)
		require.Zero(t, at)
	}},
	{"order: an aggregate begins behind what is not wanted", onTransactions, func(t *trial, c clients) {
		w := c.shop(t).ordered(t)
		events := w.write(t, "a", 1, 6)
		require.NoError(t, w.process(t, events[2].Time).Process(t.Context(), events[5]))
		w.requireEffects(t, "a", 3, 4, 5, 6)
		require.Equal(t, outbox.OrderBegan, w.told[0].Kind)
		require.Equal(t, int64(3), w.told[0].For)
	}},
	{"order: guarded handlers run one after the other, under a claim of the position", onTransactions, func(t *trial, c clients) {
		w := c.shop(t).ordered(t)
		events := w.write(t, "a", 1, 3)
		var ran []int64
		other := w.consumer(t, all)
		outbox.Handle(other, func(context.Context, outbox.Event[orderCreated]) error { return fmt.Errorf("it must not run") })
		p := w.consumer(t, all)
		outbox.Handle(p, func(ctx context.Context, e outbox.Event[orderCreated]) error {
			ran = append(ran, e.Sequence)
			if e.Sequence == 2 {
				require.ErrorIs(t, other.Process(ctx, events[1]), outbox.ErrClaimed)
				_, err := w.inboxOf(t).Pass(ctx, w.events, "a", 2)
				require.ErrorIs(t, err, outbox.ErrClaimed)
			}
			return nil
		})
		require.NoError(t, p.Process(t.Context(), events[2]))
		require.NoError(t, other.Process(t.Context(), events...), "all are handled")
		require.Equal(t, []int64{1, 2, 3}, ran)
		rows := slices.DeleteFunc(w.all(t, w.inbox), func(row item) bool { return str(row["eventId"]) != "a" })
		require.Len(t, rows, 1)
		require.NotContains(t, rows[0], "owner", "the claim is gone")
	}},
}
