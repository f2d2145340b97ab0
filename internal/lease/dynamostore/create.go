package dynamostore

import (
	"context"

	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// Create makes the table unless there is one, and waits until it is active. See rows.Create.
func Create(ctx context.Context, client rows.Creator, table string) error {
	return rows.Create(ctx, client, table, rows.Form{What: "lease table", Partition: "group", Sort: "id", TTL: "ttl"})
}
