package dynamostore

import (
	"context"

	"github.com/seed-1b628d3f/outbox/internal/lease"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// Move stores other progress for a lease, on a person's word: the next owner goes on from there. It removes the owner,
// and steps the fence, so that no write of anybody who saw the row before holds. It is refused if owner, fence, checkpoint or the number
// of the last write are not as seen, or if the shard counts as gone. The caller makes sure that the owner is dead.
func (s *Store) Move(ctx context.Context, seen lease.Lease, p lease.Progress) error {
	values := rows.Item{":was": rows.S(seen.Checkpoint), ":to": rows.S(p.Checkpoint), ":next": rows.N(seen.Fence + 1)}
	condition := same(seen.Key(), values) + " AND #checkpoint = :was AND attribute_not_exists(#ttl)"
	if seen.N == 0 {
		condition += " AND (attribute_not_exists(#n) OR #n = :n)"
	} else {
		condition += " AND #n = :n"
	}
	values[":n"] = rows.N(seen.N)
	expression := "SET #checkpoint = :to, #fence = :next"
	if len(p.Holes) > 0 {
		expression += ", #unfinished = :unfinished"
		values[":unfinished"] = unfinished(p.Holes)
	}
	expression += " REMOVE #owner, #want, #n, #attempts, #missing"
	if len(p.Holes) == 0 {
		expression += ", #unfinished"
	}
	_, err := s.update(ctx, s.leaseID(seen.ID), condition, expression, values, func(row rows.Item) bool {
		return row != nil && rows.Text(row, "owner") == "" && rows.Int(row, "fence") == seen.Fence+1 && rows.Text(row, "checkpoint") == p.Checkpoint
	})
	return err
}
