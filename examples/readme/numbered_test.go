package main

import (
	"testing"

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
