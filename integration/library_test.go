package integration

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

type order struct {
	ID          string `dynamodbav:"pk"`
	Description string `dynamodbav:"description"`
}

type orderCreated struct {
	OrderID     string `json:"orderId"`
	Description string `json:"description"`
}

func (orderCreated) EventType() string { return "ORDER_CREATED" }

// event is one with an id of its own, the same each time.
func event(id string) outbox.Event[orderCreated] {
	e := outbox.NewEvent("order-1", orderCreated{OrderID: "order-1", Description: "x"})
	e.ID, e.Time = id, time.UnixMilli(1719347890250)
	return e
}

// shop is the tables of an outbox and a Writer over them.
type shop struct {
	clients
	orders, events string
	writer         *outbox.Writer
}

func (c clients) shop(t *trial) shop {
	t.Helper()
	w := shop{clients: c, orders: c.table(t, "pk:S"), events: c.table(t, "eventId:S")}
	var err error
	w.writer, err = outbox.NewWriter(c.DynamoDB, w.events)
	require.NoError(t, err)
	return w
}

func (w shop) requireRows(t *trial, orders, events int) {
	t.Helper()
	require.Len(t, w.all(t, w.orders), orders, "orders")
	require.Len(t, w.all(t, w.events), events, "events")
}

func (w shop) putNew(id string) types.TransactWriteItem {
	return types.TransactWriteItem{Put: &types.Put{TableName: &w.orders, Item: item{"pk": s(id)}, ConditionExpression: aws.String("attribute_not_exists(pk)"),
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld}}
}

// The Writer: what it relies on, as a whole.
var writerCases = []testCase{
	{"writer: a row and its event commit together", onTransactions, func(t *trial, c clients) {
		w := c.shop(t)
		e := event("e-1")
		e.Sequence, e.Headers = 7, map[string]string{"trace": "x"}
		require.NoError(t, w.writer.Put(t.Context(), w.orders, order{"order-1", "é"}, e))
		require.Equal(t, []item{{"pk": s("order-1"), "description": s("é")}}, c.all(t, w.orders))
		require.Equal(t, []item{{"eventId": s("e-1"), "type": s("ORDER_CREATED"), "timestamp": n(1719347890250), "aggregateId": s("order-1"), "sequence": n(7),
			"headers": m(item{"trace": s("x")}), "payload": s(`{"orderId":"order-1","description":"x"}`)}}, c.all(t, w.events))
	}},
	{"writer: a repeat of the same event is a success and writes nothing", onTransactions, func(t *trial, c clients) {
		w := c.shop(t)
		for range 3 {
			require.NoError(t, w.writer.Put(t.Context(), w.orders, order{"order-1", "x"}, event("e-1")))
		}
		w.requireRows(t, 1, 1)
	}},
	{"writer: a repeat that was built anew is a success, and the first one stays", onTransactions, func(t *trial, c clients) {
		w := c.shop(t)
		write := []types.TransactWriteItem{w.putNew("order-1")}
		require.NoError(t, w.writer.Transact(t.Context(), write, event("e-1")))
		anew := event("e-1")
		anew.Time = anew.Time.Add(time.Minute) // another request, so that the token does not help
		require.NoError(t, w.writer.Transact(t.Context(), write, anew))
		w.requireRows(t, 1, 1)
		require.Equal(t, n(1719347890250), c.all(t, w.events)[0]["timestamp"])
	}},
	{"writer: another content under the same id is ErrEventConflict", onTransactions, func(t *trial, c clients) {
		w := c.shop(t)
		require.NoError(t, w.writer.Put(t.Context(), w.orders, order{"order-1", "x"}, event("e-1")))
		other := event("e-1")
		other.Data.Description = "something else"
		err := w.writer.Put(t.Context(), w.orders, order{"order-2", "x"}, other)
		require.ErrorIs(t, err, outbox.ErrEventConflict)
		require.ErrorContains(t, err, `event "e-1"`)
		w.requireRows(t, 1, 1)
	}},
	{"writer: a condition that fails is ErrConditionFailed, with its operation and item", onTransactions, func(t *trial, c clients) {
		w := c.shop(t)
		c.put(t, w.orders, item{"pk": s("order-1"), "description": s("in the way")})
		err := w.writer.Transact(t.Context(), []types.TransactWriteItem{w.putNew("order-2"), w.putNew("order-1")}, event("e-1"))
		require.ErrorIs(t, err, outbox.ErrConditionFailed)
		var failed *outbox.TransactionError
		require.ErrorAs(t, err, &failed)
		require.Len(t, failed.Operations, 1)
		op := failed.Operations[0]
		require.Equal(t, 1, op.Index)
		require.Equal(t, "Put", op.Kind)
		require.Equal(t, w.orders, op.Table)
		require.Equal(t, "ConditionalCheckFailed", op.Code)
		require.Equal(t, item{"pk": s("order-1"), "description": s("in the way")}, op.OldItem)
		w.requireRows(t, 1, 0)
	}},
	{"writer: all four kinds of operations go with an event", onTransactions, func(t *trial, c clients) {
		w := c.shop(t)
		c.putFour(t, w.orders)
		require.NoError(t, w.writer.Transact(t.Context(), four(w.orders, "attribute_exists(pk)", noneReturned), event("e-1"), event("e-2")))
		w.requireRows(t, 3, 2)
	}},
	{"writer: a transaction of which some events are stored is a conflict", onTransactions, func(t *trial, c clients) {
		w := c.shop(t)
		require.NoError(t, w.writer.Put(t.Context(), w.orders, order{"order-1", "x"}, event("e-1")))
		err := w.writer.Put(t.Context(), w.orders, order{"order-2", "x"}, event("e-1"), event("e-2"))
		require.ErrorIs(t, err, outbox.ErrEventConflict)
		w.requireRows(t, 1, 1)
	}},
	{"writer: Items go into the caller's own transaction, and come back when they are stored", onTransactions, func(t *trial, c clients) {
		w := c.shop(t)
		items, err := w.writer.Items(t.Context(), event("e-1"), event("e-2"))
		require.NoError(t, err)
		require.NoError(t, c.transact(t, append(items, w.putNew("order-1"))))
		reasons := canceled(t, c.transact(t, append(items, w.putNew("order-1"))))
		require.Equal(t, []string{"ConditionalCheckFailed", "ConditionalCheckFailed", "ConditionalCheckFailed"}, codes(reasons))
		require.Equal(t, items[0].Put.Item, reasons[0].Item)
		require.Equal(t, items[1].Put.Item, reasons[1].Item)
		w.requireRows(t, 1, 2)
	}},
	{"writer: 99 writes and one event fill a transaction", onTransactions, func(t *trial, c clients) {
		w := c.shop(t)
		require.NoError(t, w.writer.Transact(t.Context(), puts(w.orders, 99), event("e-1")))
		w.requireRows(t, 99, 1)
		require.ErrorIs(t, w.writer.Transact(t.Context(), puts(w.orders, 100), event("e-2")), outbox.ErrInvalidWrite)
	}},
	{"writer: what DynamoDB refuses is refused by its name, and leaves nothing", onTransactions, func(t *trial, c clients) {
		w := c.shop(t)
		err := w.writer.Put(t.Context(), missing, order{"order-1", "x"}, event("e-1"))
		requireCode(t, err, "ResourceNotFoundException")
		for what, row := range map[string]item{"no key": {"v": n(1)}, "empty key": {"pk": s("")}, "wrong key": {"pk": n(1)}} {
			err := w.writer.Put(t.Context(), w.orders, row, event("e-1"))
			refused(t, what, err, "ValidationException", "TransactionCanceledException")
			require.NotErrorIsf(t, err, outbox.ErrUnknownOutcome, "%s: %v", what, err)
			require.NotErrorIsf(t, err, outbox.ErrConditionFailed, "%s: %v", what, err)
		}
		w.requireRows(t, 0, 0)
	}},
	{"writer: an item of 400 KB goes with an event, one more byte does not", onTransactions, func(t *trial, c clients) {
		w := c.shop(t)
		row := item{"pk": s("1"), "v": s(filler(400<<10 - 4))}
		require.NoError(t, w.writer.Put(t.Context(), w.orders, row, event("e-1")))
		row["v"] = s(filler(400<<10 - 3))
		require.ErrorIs(t, w.writer.Put(t.Context(), w.orders, row, event("e-2")), outbox.ErrTooLarge)
		w.requireRows(t, 1, 1)
	}},
	{"writer: many writers of the same events write each once", onTransactions, func(t *trial, c clients) {
		w := c.shop(t)
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				for i := range 6 {
					id := fmt.Sprint("order-", i)
					for tries := 0; ; tries++ {
						err := w.writer.Transact(t.Context(), []types.TransactWriteItem{w.putNew(id)}, event("e-"+id))
						if err == nil {
							break
						}
						if conflict := (*outbox.TransactionError)(nil); !errors.As(err, &conflict) || errors.Is(err, outbox.ErrConditionFailed) || tries == 50 {
							t.Errorf("%v", err)
							return
						}
					}
				}
			})
		}
		wg.Wait()
		w.requireRows(t, 6, 6)
	}},
	{"writer: another table's attribute names", onTransactions, func(t *trial, c clients) {
		orders, events := c.table(t, "pk:S"), c.table(t, "id:S")
		w, err := outbox.NewWriter(c.DynamoDB, events, outbox.WithAttributes(outbox.Attributes{ID: "id", Type: "name", Payload: "body"}))
		require.NoError(t, err)
		for range 2 {
			require.NoError(t, w.Put(t.Context(), orders, order{"order-1", "x"}, event("e-1")))
		}
		require.Equal(t, "ORDER_CREATED", str(c.all(t, events)[0]["name"]))
	}},
}

// consumer is one that remembers what it has handled.
type consumer struct {
	*outbox.Consumer
	mu      sync.Mutex
	handled []outbox.Event[orderCreated]
	fail    map[string]int // how often an id still fails
}

func newConsumer(t *trial, opts ...outbox.ConsumerOption) *consumer {
	t.Helper()
	c := &consumer{fail: map[string]int{}}
	var err error
	c.Consumer, err = outbox.NewConsumer(append(opts, outbox.WithLogger(slog.New(slog.DiscardHandler)))...)
	require.NoError(t, err)
	outbox.Handle(c.Consumer, func(_ context.Context, e outbox.Event[orderCreated]) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.fail[e.ID] > 0 {
			c.fail[e.ID]--
			return errors.New("mail server down")
		}
		c.handled = append(c.handled, e)
		return nil
	})
	return c
}

func (c *consumer) ids() []string {
	var out []string
	for _, e := range c.handled {
		out = append(out, e.ID)
	}
	slices.Sort(out)
	return out
}

// records reads what is in a stream and leaves out what is no event.
func (c clients) records(t *trial, stream string, want int) []outbox.Record {
	t.Helper()
	var out []outbox.Record
	for _, r := range c.readAll(t, stream, want) {
		record, err := outbox.DecodeRecord(r.Data)
		if errors.Is(err, outbox.ErrNotEvent) {
			continue
		}
		require.NoError(t, err)
		record.SequenceNumber = aws.ToString(r.SequenceNumber)
		out = append(out, record)
	}
	return out
}

// connectedShop is a shop whose events go to a stream.
func (c clients) connectedShop(t *trial) (w shop, stream string) {
	w, stream = c.shop(t), c.stream(t, 1)
	c.connect(t, w.events, stream, types.ApproximateCreationDateTimePrecisionMicrosecond)
	return w, stream
}

// From the Writer to the handler, over the server's own destination and stream.
var consumerCases = []testCase{
	{"consumer: an event arrives as it was written", onHop, func(t *trial, c clients) {
		w, stream := c.connectedShop(t)
		e := event("e-1")
		e.Sequence, e.Headers, e.Data.Description = 7, map[string]string{"trace": "x"}, "é\u2028<&>"
		require.NoError(t, w.writer.Put(t.Context(), w.orders, order{"order-1", "x"}, e))
		got := newConsumer(t, outbox.WithTables(w.events))
		require.NoError(t, got.Process(t.Context(), c.records(t, stream, 1)...))
		require.Len(t, got.handled, 1)
		got.handled[0].Time = got.handled[0].Time.In(e.Time.Location())
		require.Equal(t, e, got.handled[0])
	}},
	{"consumer: every event of many transactions is handled once", onHop, func(t *trial, c clients) {
		w, stream := c.connectedShop(t)
		var want []string
		for i := range 20 {
			a, b := fmt.Sprintf("e-%02d-a", i), fmt.Sprintf("e-%02d-b", i)
			want = append(want, a, b)
			require.NoError(t, w.writer.Put(t.Context(), w.orders, order{fmt.Sprint(i), "x"}, event(a), event(b)))
		}
		got := newConsumer(t)
		require.NoError(t, got.Process(t.Context(), c.records(t, stream, 40)...))
		require.Equal(t, want, got.ids())
	}},
	{"consumer: a repeat of a write makes no second event", onHop, func(t *trial, c clients) {
		w, stream := c.connectedShop(t)
		for range 3 {
			require.NoError(t, w.writer.Put(t.Context(), w.orders, order{"1", "x"}, event("e-1")))
		}
		c.settled(t, stream, 1)
		got := newConsumer(t)
		require.NoError(t, got.Process(t.Context(), c.records(t, stream, 1)...))
		require.Equal(t, []string{"e-1"}, got.ids())
	}},
	{"consumer: a handler that fails gets its event again when the stream is read again", onHop, func(t *trial, c clients) {
		w, stream := c.connectedShop(t)
		for _, id := range []string{"e-1", "e-2", "e-3"} {
			require.NoError(t, w.writer.Put(t.Context(), w.orders, order{id, "x"}, event(id)))
		}
		got := newConsumer(t)
		got.fail["e-2"] = 1
		require.Error(t, got.Process(t.Context(), c.records(t, stream, 3)...))
		require.NotContains(t, got.ids(), "e-2")
		require.NoError(t, got.Process(t.Context(), c.records(t, stream, 3)...))
		require.Contains(t, got.ids(), "e-2")
	}},
	{"consumer: the removal of old rows, and their change, is skipped", onHop, func(t *trial, c clients) {
		w, stream := c.connectedShop(t)
		require.NoError(t, w.writer.Put(t.Context(), w.orders, order{"1", "x"}, event("e-1")))
		_, err := c.DynamoDB.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{TableName: &w.events, Key: item{"eventId": s("e-1")},
			UpdateExpression: aws.String("SET seen = :t"), ExpressionAttributeValues: item{":t": yes(true)}})
		require.NoError(t, err)
		_, err = c.DynamoDB.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: &w.events, Key: item{"eventId": s("e-1")}})
		require.NoError(t, err)
		got := newConsumer(t)
		require.NoError(t, got.Process(t.Context(), c.records(t, stream, 3)...))
		require.Equal(t, []string{"e-1"}, got.ids())
	}},
	{"consumer: two outboxes share a stream, told apart by their tables", onHop, func(t *trial, c clients) {
		one, stream := c.connectedShop(t)
		two := c.shop(t)
		c.connect(t, two.events, stream, "")
		require.NoError(t, one.writer.Put(t.Context(), one.orders, order{"1", "x"}, event("e-one")))
		require.NoError(t, two.writer.Put(t.Context(), two.orders, order{"2", "x"}, event("e-two")))
		records := c.records(t, stream, 2)
		require.Len(t, records, 2)
		got := newConsumer(t, outbox.WithTables(two.events))
		require.NoError(t, got.Process(t.Context(), records...))
		require.Equal(t, []string{"e-two"}, got.ids())
	}},
	{"consumer: the row of a table that existed before, without a payload", onHop, func(t *trial, c clients) {
		table, stream := c.connected(t, "eventId:S", "")
		c.put(t, table, item{"eventId": s("e-1"), "timestamp": n(1719347890250), "type": s("ORDER_CREATED"), "relatedOrderId": s("order-1")})
		mapping := outbox.WithAttributes(outbox.Attributes{AggregateID: "relatedOrderId", Payload: outbox.NoAttribute})
		r, err := outbox.DecodeRecord(c.readAll(t, stream, 1)[0].Data, mapping)
		require.NoError(t, err)
		require.Equal(t, "order-1", r.AggregateID)
		require.Nil(t, r.Payload)
	}},
	{"consumer: an event whose handler is not there is skipped, or fails if that is asked for", onHop, func(t *trial, c clients) {
		w, stream := c.connectedShop(t)
		e := event("e-1")
		e.Type = "SOMETHING_ELSE"
		require.NoError(t, w.writer.Put(t.Context(), w.orders, order{"1", "x"}, e))
		records := c.records(t, stream, 1)
		require.Len(t, records, 1)
		require.NoError(t, newConsumer(t).Process(t.Context(), records...))
		require.Error(t, newConsumer(t, outbox.FailUnknownTypes()).Process(t.Context(), records...))
	}},
}
