package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/replay"
)

// The code of docs/dead-letters.md.

// CaptureRequested says that an order's money is to be taken.
type CaptureRequested struct {
	OrderID string `json:"orderId"`
	Cents   int64  `json:"cents"`
}

func (CaptureRequested) EventType() string { return "CAPTURE_REQUESTED" }

type cards interface {
	Capture(ctx context.Context, idempotencyKey string, request CaptureRequested) error
}

// errNoSuchCard is an error of the provider's that no retry cures.
var errNoSuchCard = errors.New("no such card")

// counter is of your metrics library.
type counter interface{ Add(labels ...string) }

// newBilling takes money in two steps, and keeps what it cannot handle.
func newBilling(letters *outbox.DeadLetterTable, inbox *outbox.Inbox, writer *outbox.Writer, provider cards, deadLetters counter) (*outbox.Consumer, error) {
	consumer, err := outbox.NewConsumer(
		outbox.WithInbox(inbox),
		outbox.WithDeadLetters(letters),
		outbox.WithConsumerHooks(outbox.ConsumerHooks{
			DeadLettered: func(ctx context.Context, l outbox.DeadLetter) {
				if !l.Parked && !l.Again { // what waits behind it, or comes again, tells nothing new
					deadLetters.Add(l.Record.Type)
				}
			},
		}),
	)
	if err != nil {
		return nil, err
	}
	// The first step is data: what is to be captured, once for each order, and the event that asks for it.
	outbox.HandleTx(consumer, writer, func(ctx context.Context, e outbox.Event[OrderCreated]) (outbox.Effects, error) {
		request := CaptureRequested{OrderID: e.Data.OrderID, Cents: 450}
		return outbox.Effects{
			Writes: []types.TransactWriteItem{{Put: captureOf(request)}},
			Events: []outbox.AnyEvent{outbox.NewEvent(e.AggregateID, request)},
		}, nil
	})
	// The second is the effect: one run at a time, none after a success, and the same key in every run.
	outbox.Handle(consumer, func(ctx context.Context, e outbox.Event[CaptureRequested]) error {
		err := provider.Capture(ctx, e.ID, e.Data)
		if errors.Is(err, errNoSuchCard) {
			return outbox.Permanent(err) // a dead letter at once, without the other attempts
		}
		return err
	})
	return consumer, nil
}

// errProviderDown is an error of the provider's that the event has no part in.
var errProviderDown = errors.New("the provider does not answer")

// waitForProvider captures payments as soon as the provider answers.
func waitForProvider(consumer *outbox.Consumer, provider payments) {
	outbox.Handle(consumer, func(ctx context.Context, e outbox.Event[PaymentConfirmed]) error {
		err := provider.Capture(ctx, e.ID, e.Data)
		if errors.Is(err, errProviderDown) {
			return outbox.Unavailable(err)
		}
		return err
	})
}

func captureOf(request CaptureRequested) *types.Put {
	return &types.Put{
		TableName: aws.String("captures"),
		Item: map[string]types.AttributeValue{
			"orderId": &types.AttributeValueMemberS{Value: request.OrderID},
			"cents":   &types.AttributeValueMemberN{Value: fmt.Sprint(request.Cents)},
		},
		ConditionExpression: aws.String("attribute_not_exists(orderId)"),
	}
}

// redriveOnSchedule is a Lambda function that a schedule calls, with the handlers of the one that reads the stream.
func redriveOnSchedule(letters *outbox.DeadLetterTable, consumer *outbox.Consumer) {
	lambda.Start(func(ctx context.Context) (outbox.RedriveResult, error) {
		return letters.AnswerRedriveRequests(ctx, consumer)
	})
}

// redriveNow is for a program that has the handlers itself.
func redriveNow(ctx context.Context, letters *outbox.DeadLetterTable, consumer *outbox.Consumer) (outbox.RedriveResult, error) {
	cured := outbox.DeadLetterFilter{Type: "CAPTURE_REQUESTED", ErrorContains: "no such card"}
	would, err := letters.Redrive(ctx, consumer, cured, outbox.RedriveOptions{DryRun: true})
	if err != nil || would.Redriven == 0 {
		return would, err
	}
	return letters.Redrive(ctx, consumer, cured, outbox.RedriveOptions{PerSecond: 10})
}

// handleDiscarded brings back an event that was discarded by mistake.
func handleDiscarded(ctx context.Context, client *dynamodb.Client, consumer *outbox.Consumer, eventID string) error {
	events, err := replay.New(client, "events")
	if err != nil {
		return err
	}
	_, err = events.To(ctx, replay.Query{ID: eventID}, consumer, replay.Options{})
	return err
}

// handleGivenUp handles after all what Lambda has given up, as a message of the on-failure destination says. The consumer has an inbox.
func handleGivenUp(ctx context.Context, client *dynamodb.Client, consumer *outbox.Consumer, message []byte) error {
	var failed struct {
		KinesisBatchInfo struct{ ApproximateArrivalOfFirstRecord, ApproximateArrivalOfLastRecord time.Time }
	}
	if err := json.Unmarshal(message, &failed); err != nil {
		return err
	}
	batch := failed.KinesisBatchInfo
	if batch.ApproximateArrivalOfFirstRecord.IsZero() || batch.ApproximateArrivalOfLastRecord.IsZero() {
		return errors.New("this is no message of a Kinesis mapping")
	}
	events, err := replay.New(client, "events")
	if err != nil {
		return err
	}
	_, err = events.To(ctx, replay.Query{
		From: batch.ApproximateArrivalOfFirstRecord.Add(-time.Hour), // an event is older than its arrival
		To:   batch.ApproximateArrivalOfLastRecord.Add(time.Second),
	}, consumer, replay.Options{})
	return err
}

// newTimelines does not need the order of an aggregate's events.
func newTimelines(letters *outbox.DeadLetterTable) (*outbox.Consumer, error) {
	return outbox.NewConsumer(outbox.WithDeadLetters(letters, outbox.LetLaterEventsPass()))
}

var _ = []any{redriveOnSchedule, newTimelines}
