package main

import (
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
	require.NoError(t, deposit(t.Context(), writer, account, 10))
	time.Sleep(2 * time.Millisecond) // the times of the two events differ
	require.ErrorIs(t, deposit(t.Context(), writer, account, 10), errDecideAgain)
	account.Version++
	require.NoError(t, deposit(t.Context(), writer, account, 10))
}
