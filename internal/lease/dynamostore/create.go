package dynamostore

import (
	"context"

	"github.com/seed-1b628d3f/outbox/internal/owntable"
)

// Creator is what Create needs. *dynamodb.Client implements it.
type Creator = owntable.Creator

// Create makes the table, billed per request and with time to live, unless it exists, and waits until it is active. Any number of
// workers may call it at once.
func Create(ctx context.Context, client Creator, table string) error {
	return owntable.Form{What: "lease table", Partition: "group", Sort: "id", TTL: "ttl"}.Create(ctx, client, table)
}
