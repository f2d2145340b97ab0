package main

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// Two deposits of the same amount, decided on the same version: the second one has to be decided again.
func TestADepositOnAnOldVersionIsDecidedAgain(t *testing.T) {
	cloud := outboxtest.Start(t)
	cloud.CreateOutbox(t, "events", "events", 1)
	writer, err := outbox.NewWriter(cloud.DynamoDB, "events")
	require.NoError(t, err)
	account := Account{ID: "account-1"}
	mine, theirs := deposit(account, "r1", 10), deposit(account, "r2", 10)
	require.NoError(t, commit(t.Context(), writer, theirs))
	require.ErrorIs(t, commit(t.Context(), writer, mine), errDecideAgain)
	require.NoError(t, commit(t.Context(), writer, theirs), "a repeat")
	account.Version++
	require.NoError(t, commit(t.Context(), writer, deposit(account, "r1", 10)))
}

// The second deposit arrives alone, and the first one is handled before it.
func TestDepositsAreHandledInOrder(t *testing.T) {
	cloud := outboxtest.Start(t)
	cloud.CreateOutbox(t, "events", "events", 1)
	writer, err := outbox.NewWriter(cloud.DynamoDB, "events")
	require.NoError(t, err)
	inbox, err := outbox.NewInbox(cloud.DynamoDB, "inbox", "balances")
	require.NoError(t, err)
	require.NoError(t, inbox.Create(t.Context()))
	letters, err := outbox.NewDeadLetterTable(cloud.DynamoDB, "dead-letters", "balances")
	require.NoError(t, err)
	require.NoError(t, letters.Create(t.Context()))
	consumer, err := orderedConsumer(cloud.DynamoDB, inbox, letters)
	require.NoError(t, err)
	var amounts []int64
	outbox.HandleTx(consumer, writer, func(_ context.Context, e outbox.Event[Deposited]) (outbox.Effects, error) {
		amounts = append(amounts, e.Data.Amount)
		return outbox.Effects{}, nil
	})
	require.NoError(t, commit(t.Context(), writer, deposit(Account{ID: "account-1"}, "r1", 10)))
	require.NoError(t, commit(t.Context(), writer, deposit(Account{ID: "account-1", Version: 1}, "r2", 20)))
	require.NoError(t, consumer.Process(t.Context(), outbox.Record{ID: "account-1#2", Type: "DEPOSITED", AggregateID: "account-1", Sequence: 2, Time: time.Now(),
		Table: "events", Payload: []byte(`{"amount":20}`)}))
	require.Equal(t, []int64{10, 20}, amounts)
}
