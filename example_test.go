package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox"
)

func ExampleNewEvent() {
	e := outbox.NewEvent("order-1", orderCreated{OrderID: "order-1", Description: "two coffees"})
	fmt.Println(e.Type, e.AggregateID, len(e.ID))
	// Output: ORDER_CREATED order-1 26
}

// The row of an event, as Put and Transact store it.
func ExampleWriter_Items() {
	w, err := outbox.NewWriter(&client{}, "events")
	if err != nil {
		panic(err)
	}
	items, err := w.Items(context.Background(), event("order-1#created"))
	if err != nil {
		panic(err)
	}
	put := items[0].Put
	fmt.Println(*put.TableName, *put.ConditionExpression)
	for _, name := range []string{"eventId", "type", "aggregateId", "payload"} {
		fmt.Println(name, put.Item[name].(*types.AttributeValueMemberS).Value)
	}
	// Output:
	// events attribute_not_exists(#id)
	// eventId order-1#created
	// type ORDER_CREATED
	// aggregateId order-1
	// payload {"orderId":"order-1","description":"x"}
}

func ExampleHandle() {
	consumer, err := outbox.NewConsumer()
	if err != nil {
		panic(err)
	}
	outbox.Handle(consumer, func(_ context.Context, e outbox.Event[orderCreated]) error {
		fmt.Println(e.AggregateID, e.Data.Description)
		return nil
	})
	data, err := os.ReadFile("testdata/records/kinesis_insert_microseconds.json")
	if err != nil {
		panic(err)
	}
	record, err := outbox.DecodeRecord(data)
	if err != nil {
		panic(err)
	}
	fmt.Println(consumer.Process(context.Background(), record))
	// Output:
	// order-1 café ☕ "two"
	// <nil>
}

// Which condition failed, and what is stored.
func ExampleTransactionError() {
	failed := reason("ConditionalCheckFailed")
	failed.Item = map[string]types.AttributeValue{"orderId": str("order-1"), "status": str("PAID")} // the write asked for ALL_OLD
	w, err := outbox.NewWriter(&client{err: canceled(failed, reason("None"))}, "events")
	if err != nil {
		panic(err)
	}
	err = w.Transact(context.Background(), []types.TransactWriteItem{putNew("order-1")}, event("order-1#created"))
	if refused := (*outbox.TransactionError)(nil); errors.Is(err, outbox.ErrConditionFailed) && errors.As(err, &refused) {
		op := refused.Operations[0]
		fmt.Println(op.Index, op.Kind, op.Table, op.Code, op.OldItem["status"].(*types.AttributeValueMemberS).Value)
	}
	// Output: 0 Put orders ConditionalCheckFailed PAID
}

// Trace context and tenant travel with every event.
func ExampleWithHeaders() {
	w, err := outbox.NewWriter(&client{}, "events", outbox.WithHeaders(func(ctx context.Context) map[string]string {
		return map[string]string{"tenant": fmt.Sprint(ctx.Value(tenantKey{}))}
	}))
	if err != nil {
		panic(err)
	}
	items, err := w.Items(context.WithValue(context.Background(), tenantKey{}, "acme"), event("order-1#created"))
	if err != nil {
		panic(err)
	}
	headers := items[0].Put.Item["headers"].(*types.AttributeValueMemberM).Value
	fmt.Println(headers["tenant"].(*types.AttributeValueMemberS).Value)
	// Output: acme
}
