package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

func ExampleNewEvent() {
	e := outbox.NewEvent("order-1", orderCreated{OrderID: "order-1", Description: "two coffees"})
	fmt.Println(e.Type, e.AggregateID, len(e.ID))
	// Output: ORDER_CREATED order-1 26
}

// The row of an event, as Put and Transact store it.
func ExampleWriter_Items() {
	w, err := outbox.NewWriter(&recordingClient{}, "events")
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

// An event is delivered twice, to two processes. What the handler writes is committed once.
func ExampleHandleTx() {
	server := outboxtest.New()
	defer server.Close()
	ctx, client := context.Background(), dynamodb.NewFromConfig(server.Config())
	inbox, err := outbox.NewInbox(client, "inbox", "stock")
	if err == nil {
		err = inbox.Create(ctx)
	}
	if err == nil {
		_, err = client.CreateTable(ctx, &dynamodb.CreateTableInput{TableName: aws.String("stock"), BillingMode: types.BillingModePayPerRequest,
			AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("item"), AttributeType: "S"}},
			KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String("item"), KeyType: "HASH"}}})
	}
	if err != nil {
		panic(err)
	}
	writer, err := outbox.NewWriter(client, "events")
	if err != nil {
		panic(err)
	}
	for range 2 {
		inbox, err := outbox.NewInbox(client, "inbox", "stock") // that of another process
		if err != nil {
			panic(err)
		}
		consumer, err := outbox.NewConsumer(outbox.WithInbox(inbox))
		if err != nil {
			panic(err)
		}
		outbox.HandleTx(consumer, writer, func(_ context.Context, e outbox.Event[orderCreated]) (outbox.Effects, error) {
			return outbox.Effects{Writes: []types.TransactWriteItem{{Update: &types.Update{
				TableName: aws.String("stock"), Key: map[string]types.AttributeValue{"item": str("coffee")},
				UpdateExpression: aws.String("ADD reserved :two"), ExpressionAttributeValues: map[string]types.AttributeValue{":two": num("2")},
			}}}}, nil
		})
		fmt.Println(consumer.Process(ctx, outbox.Record{ID: "order-1#created", Type: "ORDER_CREATED", AggregateID: "order-1", Payload: []byte(`{}`)}))
	}
	stock, err := client.Scan(ctx, &dynamodb.ScanInput{TableName: aws.String("stock")})
	if err != nil {
		panic(err)
	}
	fmt.Println(stock.Items[0]["reserved"].(*types.AttributeValueMemberN).Value)
	// Output:
	// <nil>
	// <nil>
	// 2
}

// A handler whose effect lies elsewhere runs under a claim on its event, and passes the event's ID on for what a claim cannot cover.
func ExampleWithInbox() {
	server := outboxtest.New()
	defer server.Close()
	inbox, err := outbox.NewInbox(dynamodb.NewFromConfig(server.Config()), "inbox", "mails")
	if err == nil {
		err = inbox.Create(context.Background())
	}
	if err != nil {
		panic(err)
	}
	consumer, err := outbox.NewConsumer(outbox.WithInbox(inbox))
	if err != nil {
		panic(err)
	}
	outbox.Handle(consumer, func(_ context.Context, e outbox.Event[orderCreated]) error {
		fmt.Println("send a mail with the idempotency key", e.ID)
		return nil
	})
	for range 2 {
		fmt.Println(consumer.Process(context.Background(), outbox.Record{ID: "order-1#created", Type: "ORDER_CREATED", Payload: []byte(`{}`)}))
	}
	// Output:
	// send a mail with the idempotency key order-1#created
	// <nil>
	// <nil>
}

// Which condition failed, and what is stored.
func ExampleTransactionError() {
	failed := reason("ConditionalCheckFailed")
	failed.Item = map[string]types.AttributeValue{"orderId": str("order-1"), "status": str("PAID")} // the write asked for ALL_OLD
	w, err := outbox.NewWriter(&recordingClient{err: canceled(failed, reason("None"))}, "events")
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
	w, err := outbox.NewWriter(&recordingClient{}, "events", outbox.WithHeaders(func(ctx context.Context) map[string]string {
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
