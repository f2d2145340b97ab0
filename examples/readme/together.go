package main

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"github.com/seed-1b628d3f/outbox"
)

// warehouse reserves stock for new orders, and captures their payments. It returns when ctx has ended and no handler runs.
func warehouse(ctx context.Context, cfg aws.Config, provider payments, inLambda bool) error {
	db := dynamodb.NewFromConfig(cfg)
	writer, err := outbox.NewWriter(db, "events", outbox.WithTTL(30*24*time.Hour))
	if err != nil {
		return err
	}

	// What this consumer has handled, and what it cannot handle. Many consumers may share the tables. The inbox remembers for longer than the
	// rows live, so that a replay repeats nothing.
	inbox, err := outbox.NewInbox(db, "inbox", "warehouse", outbox.WithInboxTTL(40*24*time.Hour))
	if err != nil {
		return err
	}
	letters, err := outbox.NewDeadLetterTable(db, "dead-letters", "warehouse")
	if err != nil {
		return err
	}
	consumer, err := outbox.NewConsumer(outbox.WithTables("events"), outbox.WithInbox(inbox), outbox.WithDeadLetters(letters))
	if err != nil {
		return err
	}

	// Effects in DynamoDB commit in one transaction with the mark "handled": exactly once.
	outbox.HandleTx(consumer, writer, func(ctx context.Context, e outbox.Event[OrderCreated]) (outbox.Effects, error) {
		return outbox.Effects{
			Writes: []types.TransactWriteItem{reserve(e.Data.OrderID)},
			Events: []outbox.AnyEvent{outbox.NewEvent(e.AggregateID, StockReserved{OrderID: e.Data.OrderID})},
		}, nil
	})
	// Effects elsewhere run under a claim on the event. A crash can repeat one, so the provider gets the event's id.
	outbox.Handle(consumer, func(ctx context.Context, e outbox.Event[PaymentConfirmed]) error {
		return provider.Capture(ctx, e.ID, e.Data)
	})

	if inLambda {
		lambda.Start(consumer) // does not return
	}
	leases, err := outbox.NewLeaseTable(db, "leases", "warehouse")
	if err != nil {
		return err
	}
	// In production a template creates the tables; here they are created unless they exist.
	if err := errors.Join(inbox.Create(ctx), letters.Create(ctx), leases.Create(ctx)); err != nil {
		return err
	}
	worker, err := outbox.NewWorker(kinesis.NewFromConfig(cfg), "events", consumer, leases)
	if err != nil {
		return err
	}
	return worker.Run(ctx) // on as many machines as you like
}
