// Command readme holds the code of the README and of the pages in docs, so that it compiles: a test in docs finds every Go
// block of theirs here or elsewhere in this repository.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/replay"
)

type OrderCreated struct {
	OrderID     string `json:"orderId"`
	Description string `json:"description"`
}

func (OrderCreated) EventType() string { return "ORDER_CREATED" }

func newWriter(ctx context.Context) (*outbox.Writer, error) {
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, err
	}
	return outbox.NewWriter(dynamodb.NewFromConfig(cfg), "events",
		outbox.WithHeaders(traceHeaders),      // trace context, tenant: with every event
		outbox.WithTTL(30*24*time.Hour),       // rows go by themselves, see below
		outbox.WithWriterHooks(countWrites()), // events, attempts, duplicates, consumed capacity
	)
}

func traceHeaders(context.Context) map[string]string { return nil } // of your tracing library

func countWrites() outbox.WriterHooks {
	return outbox.WriterHooks{
		Written: func(ctx context.Context, w outbox.WriteInfo) {
			slog.InfoContext(ctx, "written", "events", len(w.Events), "attempts", w.Attempts, "duplicate", w.Duplicate)
		},
	}
}

// confirmPayment is called again by the payment provider until it gets a 2xx.
func confirmPayment(ctx context.Context, writer *outbox.Writer, payment Payment) (status int) {
	event := outbox.NewEvent(payment.OrderID, PaymentConfirmed{PaymentID: payment.ID})
	event.ID = "PAYMENT_CONFIRMED#" + payment.ID // the same for every repeat
	err := writer.Put(ctx, "payments", payment, event)
	switch {
	case err == nil: // written, now or before
		return http.StatusOK
	case errors.Is(err, outbox.ErrUnknownOutcome), errors.Is(err, outbox.ErrConflict): // call again with the same event
		return http.StatusServiceUnavailable
	case errors.Is(err, outbox.ErrEventConflict): // the same id, another content
		return http.StatusConflict
	case errors.Is(err, outbox.ErrTooLarge):
		return http.StatusRequestEntityTooLarge
	default: // a mistake in the code, the table's name or the permissions: nobody needs to call again
		return http.StatusInternalServerError
	}
}

// Payment is what a payment provider tells.
type Payment struct {
	ID      string `dynamodbav:"paymentId"`
	OrderID string `dynamodbav:"orderId"`
}

// PaymentConfirmed announces it.
type PaymentConfirmed struct {
	PaymentID string `json:"paymentId"`
}

func (PaymentConfirmed) EventType() string { return "PAYMENT_CONFIRMED" }

// Order is a row of the table orders, whose key is orderId.
type Order struct {
	ID          string `dynamodbav:"orderId"`
	Description string `dynamodbav:"description"`
}

func placeOrder(ctx context.Context, writer *outbox.Writer, order Order) error {
	event := outbox.NewEvent(order.ID, OrderCreated{OrderID: order.ID, Description: order.Description})
	return writer.Put(ctx, "orders", order, event)
}

func placeOrderOnce(ctx context.Context, writer *outbox.Writer, order Order, item map[string]types.AttributeValue) error {
	event := outbox.NewEvent(order.ID, OrderCreated{OrderID: order.ID, Description: order.Description})
	return writer.Transact(ctx, []types.TransactWriteItem{{
		Put: &types.Put{
			TableName:           aws.String("orders"),
			Item:                item,
			ConditionExpression: aws.String("attribute_not_exists(orderId)"),
		},
	}}, event)
}

type mailer interface {
	Confirm(ctx context.Context, idempotencyKey string, order OrderCreated) error
}

type logMailer struct{}

func (logMailer) Confirm(_ context.Context, key string, order OrderCreated) error {
	log.Printf("order %s confirmed (%s)", order.OrderID, key)
	return nil
}

func newConsumer(mail mailer) (*outbox.Consumer, error) {
	consumer, err := outbox.NewConsumer(outbox.WithTables("events"))
	if err != nil {
		return nil, err
	}
	outbox.Handle(consumer, func(ctx context.Context, e outbox.Event[OrderCreated]) error {
		return mail.Confirm(ctx, e.ID, e.Data)
	})
	return consumer, nil
}

// newConsumerWithInbox knows what it has handled.
func newConsumerWithInbox(ctx context.Context, client *dynamodb.Client, mail mailer) (*outbox.Consumer, error) {
	inbox, err := outbox.NewInbox(client, "inbox", "confirmations") // the consumer: who handles
	if err != nil {
		return nil, err
	}
	if err := inbox.Create(ctx); err != nil { // unless it exists
		return nil, err
	}
	consumer, err := outbox.NewConsumer(outbox.WithTables("events"), outbox.WithInbox(inbox))
	if err != nil {
		return nil, err
	}
	outbox.Handle(consumer, func(ctx context.Context, e outbox.Event[OrderCreated]) error {
		return mail.Confirm(ctx, e.ID, e.Data)
	})
	return consumer, nil
}

// StockReserved announces that the order's goods are set aside.
type StockReserved struct {
	OrderID string `json:"orderId"`
}

func (StockReserved) EventType() string { return "STOCK_RESERVED" }

type payments interface {
	Capture(ctx context.Context, idempotencyKey string, payment PaymentConfirmed) error
}

// newWarehouse handles events with effects that must not happen twice.
func newWarehouse(ctx context.Context, client *dynamodb.Client, writer *outbox.Writer, provider payments) (*outbox.Consumer, error) {
	inbox, err := outbox.NewInbox(client, "inbox", "warehouse") // the consumer: who handles
	if err != nil {
		return nil, err
	}
	if err := inbox.Create(ctx); err != nil { // unless it exists
		return nil, err
	}
	consumer, err := outbox.NewConsumer(outbox.WithInbox(inbox))
	if err != nil {
		return nil, err
	}
	outbox.HandleTx(consumer, writer, func(ctx context.Context, e outbox.Event[OrderCreated]) (outbox.Effects, error) {
		return outbox.Effects{
			Writes: []types.TransactWriteItem{reserve(e.Data.OrderID)},
			Events: []outbox.AnyEvent{outbox.NewEvent(e.AggregateID, StockReserved{OrderID: e.Data.OrderID})},
		}, nil
	})
	outbox.Handle(consumer, func(ctx context.Context, e outbox.Event[PaymentConfirmed]) error {
		return provider.Capture(ctx, e.ID, e.Data) // e.ID is the provider's idempotency key
	})
	return consumer, nil
}

func reserve(orderID string) types.TransactWriteItem {
	return types.TransactWriteItem{Update: &types.Update{
		TableName:                 aws.String("stock"),
		Key:                       map[string]types.AttributeValue{"item": &types.AttributeValueMemberS{Value: "coffee"}},
		UpdateExpression:          aws.String("ADD reserved :one SET lastOrder = :order"),
		ExpressionAttributeValues: map[string]types.AttributeValue{":one": &types.AttributeValueMemberN{Value: "1"}, ":order": &types.AttributeValueMemberS{Value: orderID}},
	}}
}

// newConfirmations keeps what it cannot handle.
func newConfirmations(ctx context.Context, client *dynamodb.Client, mail mailer) (*outbox.Consumer, error) {
	letters, err := outbox.NewDeadLetterTable(client, "dead-letters", "confirmations") // the consumer: whose handlers
	if err != nil {
		return nil, err
	}
	if err := letters.Create(ctx); err != nil { // unless it exists
		return nil, err
	}
	consumer, err := outbox.NewConsumer(outbox.WithDeadLetters(letters))
	if err != nil {
		return nil, err
	}
	outbox.Handle(consumer, func(ctx context.Context, e outbox.Event[OrderCreated]) error {
		return mail.Confirm(ctx, e.ID, e.Data)
	})
	return consumer, nil
}

// redrive handles what was kept, once its cause is cured.
func redrive(ctx context.Context, letters *outbox.DeadLetterTable, consumer *outbox.Consumer) error {
	result, err := letters.Redrive(ctx, consumer, outbox.DeadLetterFilter{Type: "ORDER_CREATED"}, outbox.RedriveOptions{PerSecond: 50})
	if err != nil {
		return err
	}
	fmt.Println(result.Redriven, "redriven,", result.Failed, "failed again")
	return nil
}

// runWorker is for containers.
func runWorker(ctx context.Context, client *dynamodb.Client, stream *kinesis.Client, consumer *outbox.Consumer) error {
	leases, err := outbox.NewLeaseTable(client, "leases", "confirmations") // the group: who reads
	if err != nil {
		return err
	}
	if err := leases.Create(ctx); err != nil { // unless it exists
		return err
	}
	worker, err := outbox.NewWorker(stream, "events", consumer, leases)
	if err != nil {
		return err
	}
	return worker.Run(ctx) // until ctx ends, and no handler runs any more
}

// handleAgain is for the day after an outage.
func handleAgain(ctx context.Context, client *dynamodb.Client, consumer *outbox.Consumer, writer *outbox.Writer, from, to time.Time) error {
	events, err := replay.New(client, "events")
	if err != nil {
		return err
	}
	outage := replay.Query{Type: "ORDER_CREATED", From: from, To: to}
	result, err := events.To(ctx, outage, consumer, replay.Options{PerSecond: 100})
	if err != nil {
		return fmt.Errorf("%d of %d handled, go on with %+v: %w", result.Done, result.Found, result.Next, err)
	}
	result, err = events.Again(ctx, outage, writer, "outage-31-jan", replay.Options{})
	if err != nil {
		return fmt.Errorf("%d of %d written, call again: %w", result.Done, result.Found, err)
	}
	return nil
}

// reconcile is called at half past each hour.
func reconcile(ctx context.Context, events *replay.Events, consumer *outbox.Consumer) error {
	result, err := events.Reconcile(ctx, consumer, replay.ReconcileOptions{Every: time.Hour, Cycle: 24 * time.Hour})
	if err != nil {
		return err
	}
	log.Printf("segment %d of %d: %d undelivered, %d delivered", result.Segment, result.Segments, result.Undelivered, result.Delivered)
	return nil
}

// runAndReconcile does both until ctx ends, or until one of them cannot begin.
func runAndReconcile(ctx context.Context, worker *outbox.Worker, events *replay.Events, consumer *outbox.Consumer, tell func(replay.ReconcileResult, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reconciled := make(chan error, 1)
	go func() {
		defer cancel() // it ends before ctx only if it is refused
		options := replay.ReconcileOptions{Every: time.Hour, Cycle: 24 * time.Hour}
		reconciled <- events.ReconcileEvery(ctx, consumer, options, worker.HoldsFirstShard, tell)
	}()
	err := worker.Run(ctx)
	cancel()
	return errors.Join(err, <-reconciled)
}

func main() {
	consumer, err := newConsumer(logMailer{})
	if err != nil {
		log.Fatal(err)
	}
	lambda.Start(consumer)
}

var _ = []any{newWriter, newConsumerWithInbox, placeOrder, placeOrderOnce, confirmPayment, newWarehouse, newConfirmations, redrive, runWorker, handleAgain, reconcile, runAndReconcile, warehouse} // what a service does, not this function
