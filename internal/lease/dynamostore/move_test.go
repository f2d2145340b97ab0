package dynamostore_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/lease"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// Whoever moves a checkpoint and whoever reads the shard never both have their way.
func TestAMoveHoldsOnlyForTheRowAsItWasRead(t *testing.T) {
	a := start(t)
	s := store(t, a.DynamoDB, "orders", "changes")
	ctx := t.Context()
	only := func() lease.Lease {
		v, err := s.View(ctx)
		require.NoError(t, err)
		return v.Leases[0]
	}
	back := lease.Progress{Checkpoint: lease.At(time.Unix(1_790_000_000, 0)), Holes: map[string]lease.Hole{"3": {Attempts: 1, Key: 7}}}
	require.NoError(t, s.Ensure(ctx, lease.Shard{ID: "s"}, lease.TrimHorizon))
	free := only()
	owned, err := s.Acquire(ctx, free, "w1")
	require.NoError(t, err)
	require.ErrorIs(t, s.Move(ctx, free, back), lease.ErrRefused, "somebody owns it now")
	require.NoError(t, s.Save(ctx, owned.Key(), 1, lease.Progress{Checkpoint: "10", Attempts: map[string]int{"11": 2}, Holes: map[string]lease.Hole{"3": {Attempts: 1, Key: 7}, "4": {}}}))
	require.ErrorIs(t, s.Move(ctx, owned, back), lease.ErrRefused, "it has saved since")

	// The owner is dead. What it still has under way is refused after the move.
	seen := only()
	for range 2 { // the second is a copy of the request that comes late
		require.NoError(t, s.Move(ctx, seen, back))
	}
	require.Equal(t, rows.Item{"group": rows.S("orders"), "id": rows.S("changes#L#s"), "fence": rows.N(2), "checkpoint": rows.S(back.Checkpoint),
		"unfinished": storedRow(t, a, "changes#L#s")["unfinished"]}, storedRow(t, a, "changes#L#s"))
	require.Equal(t, back.Holes, only().Holes)
	require.ErrorIs(t, s.Save(ctx, owned.Key(), 2, lease.Progress{Checkpoint: "12"}), lease.ErrRefused)
	require.ErrorIs(t, s.End(ctx, owned.Key(), 2, nil, nil), lease.ErrRefused)
	_, err = s.Acquire(ctx, seen, "w2")
	require.ErrorIs(t, err, lease.ErrRefused, "who takes it must have seen the move")

	// Of two moves of one row, one holds.
	moved := only()
	require.NoError(t, s.Move(ctx, moved, lease.Progress{Checkpoint: "7"}))
	require.ErrorIs(t, s.Move(ctx, moved, lease.Progress{Checkpoint: "8"}), lease.ErrRefused)
	require.Equal(t, "7", only().Checkpoint)
	require.Nil(t, only().Holes)
	taken, err := s.Acquire(ctx, only(), "w2")
	require.NoError(t, err)
	require.Equal(t, "7", taken.Checkpoint)
	require.NoError(t, s.End(ctx, taken.Key(), 1, map[string]lease.Hole{"3": {}}, nil))
	require.NoError(t, s.Release(ctx, taken.Key(), ""))
	ended := only()
	require.NoError(t, s.Reopen(ctx, ended))
	require.ErrorIs(t, s.Move(ctx, ended, lease.Progress{Checkpoint: lease.ShardEnd}), lease.ErrRefused, "its end was taken back")
	require.NoError(t, s.Miss(ctx, only(), "w3"))
	require.NoError(t, s.Gone(ctx, only()))
	require.ErrorIs(t, s.Move(ctx, only(), lease.Progress{Checkpoint: "9"}), lease.ErrRefused, "the stream has forgotten the shard")
}
