package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// storm is what goes wrong: an answer and a request in twenty, and every second record.
var storm = []outboxtest.Fault{
	{Kind: outboxtest.LoseAnswer, Operation: "TransactWriteItems", Probability: 0.05},
	{Kind: outboxtest.Throttle, Operation: "TransactWriteItems", Probability: 0.05},
	{Kind: outboxtest.DuplicateRecord, Probability: 0.5},
}

// The test of the documentation, with an inbox, in another storm in every run.
func TestAnOrderIsConfirmedOnceInAStorm(t *testing.T) {
	cloud := outboxtest.Start(t, outboxtest.WithRandomFaults(storm...))
	mail := &sentMails{}
	consumer, err := newConsumerWithInbox(t.Context(), cloud.DynamoDB, mail)
	require.NoError(t, err)
	confirmOneOrder(t, cloud, consumer)
	require.Equal(t, []string{"42"}, mail.orders)
}

// Without an inbox the same storms confirm an order twice now and then. With it they never do.
func TestWithoutAnInboxAStormConfirmsTwice(t *testing.T) {
	confirmed := map[int]int{}
	for seed := range uint64(10) {
		mail := &sentMails{}
		consumer, err := newConsumer(mail)
		require.NoError(t, err)
		confirmOneOrder(t, outboxtest.Start(t, outboxtest.WithFaults(seed, storm...)), consumer)
		confirmed[len(mail.orders)]++

		cloud := outboxtest.Start(t, outboxtest.WithFaults(seed, storm...))
		once := &sentMails{}
		consumer, err = newConsumerWithInbox(t.Context(), cloud.DynamoDB, once)
		require.NoError(t, err)
		confirmOneOrder(t, cloud, consumer)
		require.Equalf(t, []string{"42"}, once.orders, "seed %d, with an inbox", seed)
	}
	require.NotZero(t, confirmed[1], "no storm left the record alone")
	require.NotZero(t, confirmed[2], "no storm delivered the record twice")
	require.Len(t, confirmed, 2)
}

// confirmOneOrder places order 42, and returns when its event was delivered and handled.
func confirmOneOrder(t *testing.T, cloud *outboxtest.AWS, consumer *outbox.Consumer) {
	t.Helper()
	cloud.CreateTable(t, "orders", "orderId")
	cloud.CreateOutbox(t, "events", "events", 1)
	writer, err := outbox.NewWriter(cloud.DynamoDB, "events")
	require.NoError(t, err)
	_, err = cloud.Map(outboxtest.EventSource{Stream: "events", ReportBatchItemFailures: true}, consumer.Invoke)
	require.NoError(t, err)
	require.NoError(t, placeOrder(t.Context(), writer, Order{ID: "42", Description: "two coffees"}))
	require.NoError(t, cloud.Drain(t.Context()))
}
