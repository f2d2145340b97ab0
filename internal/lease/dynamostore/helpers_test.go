package dynamostore_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/lease/dynamostore"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// start is an AWS with an empty lease table.
func start(t *testing.T, opts ...outboxtest.Option) *outboxtest.AWS {
	a := outboxtest.Start(t, opts...)
	require.NoError(t, dynamostore.Create(t.Context(), a.DynamoDB, "leases"))
	return a
}

// store is the Store of a group's leases for a stream.
func store(t *testing.T, client dynamostore.Client, group, stream string) *dynamostore.Store {
	s, err := dynamostore.New(client, "leases", group, stream)
	require.NoError(t, err)
	return s
}
