package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// bank takes money from cards, unless there are none.
type bank struct {
	noCards bool
	asked   []string // the keys
	taken   map[string]int64
}

func (b *bank) Capture(_ context.Context, key string, request CaptureRequested) error {
	b.asked = append(b.asked, key)
	if b.noCards {
		return errors.Join(errNoSuchCard, errors.New("4111 is none"))
	}
	b.taken[key] = request.Cents
	return nil
}

type labels []string

func (l *labels) Add(more ...string) { *l = append(*l, more...) }

// The payment of docs/dead-letters.md: a refused capture is a dead letter, and a redrive asks with the same key.
func TestACaptureInTwoSteps(t *testing.T) {
	cloud := outboxtest.Start(t)
	cloud.CreateTable(t, "orders", "orderId")
	cloud.CreateTable(t, "captures", "orderId")
	cloud.CreateOutbox(t, "events", "events", 1)
	writer, err := outbox.NewWriter(cloud.DynamoDB, "events")
	require.NoError(t, err)
	letters, err := outbox.NewDeadLetterTable(cloud.DynamoDB, "dead-letters", "billing")
	require.NoError(t, err)
	require.NoError(t, letters.Create(t.Context()))
	inbox, err := outbox.NewInbox(cloud.DynamoDB, "inbox", "billing")
	require.NoError(t, err)
	require.NoError(t, inbox.Create(t.Context()))
	provider := &bank{noCards: true, taken: map[string]int64{}}
	var told labels
	billing, err := newBilling(letters, inbox, writer, provider, &told)
	require.NoError(t, err)
	for range 2 { // everything is delivered twice
		_, err = cloud.Map(outboxtest.EventSource{Stream: "events", ReportBatchItemFailures: true}, billing.Invoke)
		require.NoError(t, err)
	}
	require.NoError(t, placeOrder(t.Context(), writer, Order{ID: "42"}))
	require.NoError(t, cloud.Drain(t.Context()))
	require.Equal(t, labels{"CAPTURE_REQUESTED"}, told)
	require.Empty(t, provider.taken)

	provider.noCards = false
	result, err := redriveNow(t.Context(), letters, billing)
	require.NoError(t, err)
	require.Zero(t, result.Failed)
	require.Positive(t, result.Redriven, "and perhaps the order's second delivery, which was parked behind the capture")
	for l, err := range letters.List(t.Context(), outbox.DeadLetterFilter{}) {
		t.Fatalf("a letter is left: %v, %v", l.ID, err)
	}
	key := provider.asked[0]
	require.Equal(t, map[string]int64{key: 450}, provider.taken)
	for _, again := range provider.asked {
		require.Equal(t, key, again)
	}
	require.NoError(t, handleDiscarded(t.Context(), cloud.DynamoDB, billing, key))
	require.Len(t, provider.taken, 1)
	asked := len(provider.asked)
	require.NoError(t, handleDiscarded(t.Context(), cloud.DynamoDB, billing, key))
	require.Len(t, provider.asked, asked, "the inbox knows it")
}

// An outage of the provider makes no dead letter, though there is one attempt. Another failure does.
func TestAnOutageOfTheProviderIsWaitedFor(t *testing.T) {
	cloud := outboxtest.Start(t)
	letters, err := outbox.NewDeadLetterTable(cloud.DynamoDB, "dead-letters", "payments")
	require.NoError(t, err)
	require.NoError(t, letters.Create(t.Context()))
	consumer, err := outbox.NewConsumer(outbox.WithDeadLetters(letters, outbox.WithInvokeAttempts(1)))
	require.NoError(t, err)
	provider := &flaky{err: fmt.Errorf("capture: %w", errProviderDown)}
	waitForProvider(consumer, provider)
	payment := outbox.Record{ID: "1", Type: PaymentConfirmed{}.EventType(), AggregateID: "order-1", Payload: []byte("{}")}
	for range 20 {
		require.ErrorIs(t, consumer.Process(t.Context(), payment), outbox.ErrUnavailable)
	}
	provider.err = nil
	require.NoError(t, consumer.Process(t.Context(), payment))
	require.Empty(t, lettersOf(t, letters))
	provider.err = errors.New("the card is stolen")
	require.NoError(t, consumer.Process(t.Context(), payment))
	require.Equal(t, []string{"order-1#1"}, lettersOf(t, letters))
}

type flaky struct{ err error }

func (f *flaky) Capture(context.Context, string, PaymentConfirmed) error { return f.err }

// What Lambda has given up is in the events table. An inbox keeps the rest of that time from being handled again.
func TestWhatLambdaGaveUpIsHandledAfterAll(t *testing.T) {
	cloud := outboxtest.Start(t)
	cloud.CreateTable(t, "orders", "orderId")
	cloud.CreateOutbox(t, "events", "events", 1)
	writer, err := outbox.NewWriter(cloud.DynamoDB, "events")
	require.NoError(t, err)
	mail := &sentMails{}
	consumer, err := newConsumerWithInbox(t.Context(), cloud.DynamoDB, mail)
	require.NoError(t, err)
	messages := make(chan []byte, 10)
	var crashes atomic.Bool
	_, err = cloud.Map(outboxtest.EventSource{Stream: "events", ReportBatchItemFailures: true, MaxAttempts: 2,
		OnFailure: func(b outboxtest.FailedBatch) { messages <- b.Message }}, func(ctx context.Context, payload []byte) ([]byte, error) {
		if crashes.Load() {
			return nil, errors.New("out of memory")
		}
		return consumer.Invoke(ctx, payload)
	})
	require.NoError(t, err)
	for _, id := range []string{"1", "2", "3"} {
		crashes.Store(id == "2")
		require.NoError(t, placeOrder(t.Context(), writer, Order{ID: id}))
		require.NoError(t, cloud.Drain(t.Context()))
	}
	require.Equal(t, []string{"1", "3"}, mail.orders)
	require.NoError(t, handleGivenUp(t.Context(), cloud.DynamoDB, consumer, <-messages))
	require.Equal(t, []string{"1", "3", "2"}, mail.orders)
	require.Empty(t, messages)
	for _, message := range []string{`{}`, `{"DDBStreamBatchInfo":{"startSequenceNumber":"1"}}`} {
		require.ErrorContains(t, handleGivenUp(t.Context(), cloud.DynamoDB, consumer, []byte(message)), "this is no message of a Kinesis mapping", message)
	}
}
