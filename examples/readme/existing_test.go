package main

import (
	"bytes"
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

// During dual writing each event comes by the relay and by the stream, under one id. Handlers see it once.
func TestDualWritingHandlesOnce(t *testing.T) {
	for _, relayFirst := range []bool{true, false} {
		cloud := outboxtest.Start(t)
		cloud.CreateTable(t, "old-outbox", "id")
		cloud.CreateTable(t, "stock", "item")
		cloud.CreateTable(t, "payments", "paymentId")
		cloud.CreateOutbox(t, "events", "events", 1)
		writer, err := outbox.NewWriter(cloud.DynamoDB, "events")
		require.NoError(t, err)
		provider := &charges{}
		consumer, err := newWarehouse(t.Context(), cloud.DynamoDB, writer, provider)
		require.NoError(t, err)
		relay := func() {
			require.NoError(t, onTheOldWay(t.Context(), consumer, oldMessage{ID: "p", Type: "PAYMENT_CONFIRMED", Entity: "42",
				CreatedAt: time.Now(), Body: []byte(`{"paymentId":"p"}`)}))
		}
		stream := func() {
			_, err = cloud.Map(outboxtest.EventSource{Stream: "events", ReportBatchItemFailures: true}, consumer.Invoke)
			require.NoError(t, err)
			require.NoError(t, cloud.Drain(t.Context()))
		}
		event := outbox.NewEvent("42", PaymentConfirmed{PaymentID: "p"})
		event.ID = "p"
		require.NoError(t, writer.Transact(t.Context(), []types.TransactWriteItem{{Put: &types.Put{TableName: aws.String("old-outbox"),
			Item: map[string]types.AttributeValue{"id": &types.AttributeValueMemberS{Value: "p"}}}}}, event))
		if relayFirst {
			relay()
			stream()
		} else {
			stream()
			relay()
		}
		require.Equal(t, []string{"p"}, provider.keys)
	}
}

// An event goes through a table with names of its own, and as part of the caller's own transaction.
func TestAnOldTableAndAnOwnTransaction(t *testing.T) {
	cloud := outboxtest.Start(t)
	cloud.CreateTable(t, "old-events", "id")
	cloud.CreateTable(t, "orders", "orderId")
	writer, consumer, err := overOldTable(cloud.DynamoDB)
	require.NoError(t, err)
	order := []types.TransactWriteItem{{Put: &types.Put{TableName: aws.String("orders"),
		Item: map[string]types.AttributeValue{"orderId": &types.AttributeValueMemberS{Value: "42"}}}}}
	event := outbox.NewEvent("42", OrderCreated{OrderID: "42"})
	require.NoError(t, inMyTransaction(t.Context(), cloud.DynamoDB, writer, order, event))

	stored, err := cloud.DynamoDB.Scan(t.Context(), &dynamodb.ScanInput{TableName: aws.String("old-events")})
	require.NoError(t, err)
	require.Len(t, stored.Items, 1)
	require.Equal(t, &types.AttributeValueMemberS{Value: "ORDER_CREATED"}, stored.Items[0]["kind"])
	image, err := outbox.DecodeItem(stored.Items[0], outbox.WithAttributes(oldAttributes))
	require.NoError(t, err)
	var handled []OrderCreated
	outbox.Handle(consumer, func(_ context.Context, e outbox.Event[OrderCreated]) error {
		handled = append(handled, e.Data)
		return nil
	})
	require.NoError(t, consumer.Process(t.Context(), image))
	require.Equal(t, []OrderCreated{{OrderID: "42"}}, handled)
}

// A payload that is a map is malformed to a Consumer; a program that reads the record itself makes JSON of the map.
func TestAnOldTableWithMaps(t *testing.T) {
	cloud := outboxtest.Start(t)
	cloud.CreateTable(t, "old-events", "id")
	_, consumer, err := overOldTable(cloud.DynamoDB)
	require.NoError(t, err)
	var handled []outbox.Event[OrderCreated]
	outbox.Handle(consumer, func(_ context.Context, e outbox.Event[OrderCreated]) error {
		handled = append(handled, e)
		return nil
	})
	change := []byte(`{"eventName":"INSERT","tableName":"old-events","dynamodb":{"Keys":{"id":{"S":"e1"}},"NewImage":{"id":{"S":"e1"},"kind":{"S":"ORDER_CREATED"},` +
		`"createdAt":{"N":"1700000000000"},"entity":{"S":"order-42"},"body":{"M":{"orderId":{"S":"42"},"description":{"S":"two coffees"}}}}},"eventSource":"aws:dynamodb"}`)
	_, err = outbox.DecodeRecord(change, outbox.WithAttributes(oldAttributes))
	require.ErrorContains(t, err, "body")
	require.NoError(t, withAMap(t.Context(), consumer, change))
	require.Len(t, handled, 1)
	require.Equal(t, OrderCreated{OrderID: "42", Description: "two coffees"}, handled[0].Data)
	require.Equal(t, "order-42", handled[0].AggregateID)
	require.EqualValues(t, 1700000000000, handled[0].Time.UnixMilli())

	for _, other := range []string{"MODIFY", "REMOVE"} {
		require.NoError(t, withAMap(t.Context(), consumer, bytes.Replace(change, []byte("INSERT"), []byte(other), 1)))
	}
	require.NoError(t, withAMap(t.Context(), consumer, []byte(`{"eventName":"REMOVE","dynamodb":{"Keys":{"id":{"S":"e1"}}}}`)))
	for _, lacking := range []string{"body", "createdAt"} {
		require.ErrorContains(t, withAMap(t.Context(), consumer, bytes.Replace(change, []byte(`"`+lacking+`"`), []byte(`"other"`), 1)), "no body or no time")
	}
	require.Len(t, handled, 1)
}

var oldAttributes = outbox.Attributes{ID: "id", Type: "kind", Time: "createdAt", AggregateID: "entity", Payload: "body",
	Sequence: outbox.NoAttribute, Headers: outbox.NoAttribute}
