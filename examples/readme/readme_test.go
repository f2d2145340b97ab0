package main

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

func TestReadmeConsumerIsComplete(t *testing.T) {
	consumer, err := newConsumer(logMailer{})
	require.NoError(t, err)
	answer, err := consumer.Invoke(t.Context(), []byte(`{"Records":[]}`))
	require.NoError(t, err)
	require.JSONEq(t, `{"batchItemFailures":[]}`, string(answer))
}

// sentMails keeps whom it confirmed.
type sentMails struct {
	mu     sync.Mutex
	orders []string
}

func (s *sentMails) Confirm(_ context.Context, _ string, order OrderCreated) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.orders = append(s.orders, order.OrderID)
	return nil
}

func TestAnOrderIsConfirmed(t *testing.T) {
	cloud := outboxtest.Start(t) // cloud.DynamoDB and cloud.Kinesis are SDK clients
	cloud.CreateTable(t, "orders", "orderId")
	cloud.CreateOutbox(t, "events", "events", 1)
	writer, err := outbox.NewWriter(cloud.DynamoDB, "events")
	require.NoError(t, err)

	require.NoError(t, placeOrder(t.Context(), writer, Order{ID: "42", Description: "two coffees"}))
	outboxtest.RequireEmitted(t, cloud.DynamoDB, "events", func(e OrderCreated) bool { return e.OrderID == "42" })

	mail := &sentMails{}
	consumer, err := newConsumer(mail)
	require.NoError(t, err)
	_, err = cloud.Map(outboxtest.EventSource{Stream: "events", ReportBatchItemFailures: true}, consumer.Invoke)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // a handler that always fails would keep Drain waiting
	defer cancel()
	require.NoError(t, cloud.Drain(ctx)) // everything has been delivered and handled
	require.Equal(t, []string{"42"}, mail.orders)
}

// charges keeps what the provider was asked for.
type charges struct {
	mu       sync.Mutex
	keys     []string
	captured chan string // or nil
}

func (c *charges) Capture(_ context.Context, key string, _ PaymentConfirmed) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keys = append(c.keys, key)
	if c.captured != nil {
		c.captured <- key
	}
	return nil
}

// Two functions with an inbox get every event, twice.
func TestTheWarehouseReservesOnce(t *testing.T) {
	cloud := outboxtest.Start(t)
	cloud.CreateTable(t, "stock", "item")
	cloud.CreateTable(t, "payments", "paymentId")
	cloud.CreateTable(t, "orders", "orderId")
	cloud.CreateOutbox(t, "events", "events", 1)
	writer, err := outbox.NewWriter(cloud.DynamoDB, "events")
	require.NoError(t, err)
	provider := &charges{}
	for range 2 {
		warehouse, err := newWarehouse(t.Context(), cloud.DynamoDB, writer, provider)
		require.NoError(t, err)
		_, err = cloud.Map(outboxtest.EventSource{Stream: "events", ReportBatchItemFailures: true}, warehouse.Invoke)
		require.NoError(t, err)
	}
	require.NoError(t, placeOrder(t.Context(), writer, Order{ID: "42"}))
	require.Equal(t, 200, confirmPayment(t.Context(), writer, Payment{ID: "p", OrderID: "42"}))
	require.NoError(t, cloud.Drain(t.Context()))
	require.Equal(t, []string{"PAYMENT_CONFIRMED#p"}, provider.keys)
	outboxtest.RequireEmitted(t, cloud.DynamoDB, "events", func(e StockReserved) bool { return e.OrderID == "42" })
	table := "stock"
	stock, err := cloud.DynamoDB.Scan(t.Context(), &dynamodb.ScanInput{TableName: &table})
	require.NoError(t, err)
	require.Len(t, stock.Items, 1)
	require.Equal(t, &types.AttributeValueMemberN{Value: "1"}, stock.Items[0]["reserved"])
}

// A mail that cannot be sent is kept, and sent when it can be.
func TestAConfirmationIsKeptUntilItCanBeSent(t *testing.T) {
	cloud := outboxtest.Start(t)
	cloud.CreateTable(t, "orders", "orderId")
	cloud.CreateOutbox(t, "events", "events", 1)
	writer, err := outbox.NewWriter(cloud.DynamoDB, "events")
	require.NoError(t, err)
	down := &outage{}
	consumer, err := newConfirmations(t.Context(), cloud.DynamoDB, down)
	require.NoError(t, err)
	_, err = cloud.Map(outboxtest.EventSource{Stream: "events", ReportBatchItemFailures: true}, consumer.Invoke)
	require.NoError(t, err)
	require.NoError(t, placeOrder(t.Context(), writer, Order{ID: "42"}))
	require.NoError(t, cloud.Drain(t.Context()))

	letters, err := outbox.NewDeadLetterTable(cloud.DynamoDB, "dead-letters", "confirmations")
	require.NoError(t, err)
	mail := &sentMails{}
	repaired, err := newConfirmations(t.Context(), cloud.DynamoDB, mail)
	require.NoError(t, err)
	require.NoError(t, redrive(t.Context(), letters, repaired))
	require.Equal(t, []string{"42"}, mail.orders)
}

type outage struct{}

func (*outage) Confirm(context.Context, string, OrderCreated) error {
	return outbox.Permanent(errors.New("no such address"))
}

// The program of the README's front page, all of it: stock is reserved, a payment is captured, and what cannot be is kept.
func TestAllTogether(t *testing.T) {
	cloud := outboxtest.Start(t)
	cloud.CreateTable(t, "stock", "item")
	cloud.CreateTable(t, "payments", "paymentId")
	cloud.CreateTable(t, "orders", "orderId")
	cloud.CreateOutbox(t, "events", "events", 1)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended, provider := make(chan error, 1), &charges{captured: make(chan string, 1)}
	go func() { ended <- warehouse(ctx, cloud.Config(), provider, false) }()

	writer, err := outbox.NewWriter(cloud.DynamoDB, "events")
	require.NoError(t, err)
	require.NoError(t, placeOrder(t.Context(), writer, Order{ID: "42"}))
	require.Equal(t, 200, confirmPayment(t.Context(), writer, Payment{ID: "p", OrderID: "42"}))
	require.Equal(t, "PAYMENT_CONFIRMED#p", <-provider.captured) // the events of an order are handled one at a time
	stop()
	require.NoError(t, <-ended)
	outboxtest.RequireEmitted(t, cloud.DynamoDB, "events", func(e StockReserved) bool { return e.OrderID == "42" })
}
