package dynamostore_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/itemsize"
	"github.com/seed-1b628d3f/outbox/internal/lease"
	"github.com/seed-1b628d3f/outbox/internal/rows"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// storedRow returns a row of group "orders" as it is stored, with "set" in place of a time to live that is in the future.
func storedRow(t *testing.T, a *outboxtest.AWS, id string) rows.Item {
	out, err := a.DynamoDB.GetItem(t.Context(), &dynamodb.GetItemInput{
		TableName: aws.String("leases"), Key: rows.Item{"group": rows.S("orders"), "id": rows.S(id)}, ConsistentRead: aws.Bool(true),
	})
	require.NoError(t, err)
	if ttl, ok := out.Item["ttl"].(*types.AttributeValueMemberN); ok {
		seconds, err := strconv.ParseInt(ttl.Value, 10, 64)
		require.NoError(t, err)
		require.Greater(t, seconds, time.Now().Unix())
		out.Item["ttl"] = rows.S("set")
	}
	return out.Item
}

// The rows of a lease table outlive the release that wrote them: their form is a promise. A change here needs a way from the old rows.
func TestTheRowsOfALeaseTable(t *testing.T) {
	a := start(t)
	s := store(t, a.DynamoDB, "orders", "changes")
	ctx := t.Context()
	key := func(id string, attributes rows.Item) rows.Item {
		attributes["group"], attributes["id"] = rows.S("orders"), rows.S(id)
		return attributes
	}

	require.NoError(t, s.Register(ctx, "w1", 8*time.Second))
	require.Equal(t, key("changes#W#w1", rows.Item{"beat": rows.N(0), "moves": rows.N(1), "duration": rows.N(8000), "ttl": rows.S("set")}), storedRow(t, a, "changes#W#w1"))
	require.NoError(t, s.Beat(ctx, lease.Worker{ID: "w1", Beat: 3, Moves: 7, Draining: true, Version: "v0.1.0"}))
	require.NoError(t, s.MarkDead(ctx, "w1", 3))
	require.Equal(t, key("changes#W#w1", rows.Item{"beat": rows.N(3), "moves": rows.N(7), "duration": rows.N(8000), "draining": rows.Bool(true), "dead": rows.Bool(true),
		"version": rows.S("v0.1.0"), "ttl": rows.S("set")}), storedRow(t, a, "changes#W#w1"))

	position, err := s.Begin(ctx, lease.TrimHorizon)
	require.NoError(t, err)
	require.Equal(t, lease.TrimHorizon, position)
	require.Equal(t, key("changes#start", rows.Item{"position": rows.S("TRIM_HORIZON")}), storedRow(t, a, "changes#start"))

	require.NoError(t, s.Ensure(ctx, lease.Shard{ID: "s-2", Parents: []string{"s-1", "s-0"}, HashLo: "0", HashHi: "99"}, lease.TrimHorizon))
	parents := &types.AttributeValueMemberSS{Value: []string{"s-0", "s-1"}}
	free := rows.Item{"checkpoint": rows.S("TRIM_HORIZON"), "fence": rows.N(0), "parents": parents, "hashLo": rows.S("0"), "hashHi": rows.S("99")}
	require.Equal(t, key("changes#L#s-2", free), storedRow(t, a, "changes#L#s-2"))
	view, err := s.View(ctx)
	require.NoError(t, err)
	held, err := s.Acquire(ctx, view.Leases[0], "w2")
	require.NoError(t, err)
	require.NoError(t, s.Save(ctx, held.Key(), 4, lease.Progress{Checkpoint: "49", Attempts: map[string]int{"50": 2}}))
	require.NoError(t, s.Want(ctx, held, "w3"))
	require.Equal(t, key("changes#L#s-2", rows.Item{"checkpoint": rows.S("49"), "fence": rows.N(1), "parents": parents, "hashLo": rows.S("0"),
		"hashHi": rows.S("99"), "owner": rows.S("w2"), "want": rows.S("w3"), "n": rows.N(4),
		"attempts": &types.AttributeValueMemberM{Value: rows.Item{"50": rows.N(2)}}}), storedRow(t, a, "changes#L#s-2"))
	holes := map[string]lease.Hole{"7": {Attempts: 3, Key: 1<<64 - 1}, "9": {}}
	require.NoError(t, s.End(ctx, held.Key(), 5, holes, []lease.Shard{{ID: "s-3", Parents: []string{"s-2"}}}))
	require.Equal(t, key("changes#L#s-2", rows.Item{"checkpoint": rows.S("SHARD_END"), "fence": rows.N(1), "parents": parents, "hashLo": rows.S("0"),
		"hashHi": rows.S("99"), "owner": rows.S("w2"), "want": rows.S("w3"), "n": rows.N(5), "last": rows.S("49"), "unfinished": &types.AttributeValueMemberM{Value: rows.Item{
			"7": &types.AttributeValueMemberM{Value: rows.Item{"attempts": rows.N(3), "key": &types.AttributeValueMemberN{Value: "18446744073709551615"}}},
			"9": &types.AttributeValueMemberM{Value: rows.Item{"attempts": rows.N(0)}}}}}), storedRow(t, a, "changes#L#s-2"))
	require.NoError(t, s.Finish(ctx, held.Key()))
	require.Equal(t, key("changes#L#s-2", rows.Item{"checkpoint": rows.S("SHARD_END"), "fence": rows.N(1), "parents": parents, "hashLo": rows.S("0"),
		"hashHi": rows.S("99"), "n": rows.N(5), "last": rows.S("49")}), storedRow(t, a, "changes#L#s-2"))
	require.Equal(t, key("changes#L#s-3", rows.Item{"checkpoint": rows.S("TRIM_HORIZON"), "fence": rows.N(0),
		"parents": &types.AttributeValueMemberSS{Value: []string{"s-2"}}}), storedRow(t, a, "changes#L#s-3"))
	seen := lease.Lease{Shard: lease.Shard{ID: "s-3"}}
	require.NoError(t, s.Miss(ctx, seen, "w3"))
	seen.Missing = "w3"
	require.NoError(t, s.Gone(ctx, seen))
	require.Equal(t, key("changes#L#s-3", rows.Item{"checkpoint": rows.S("TRIM_HORIZON"), "fence": rows.N(0), "missing": rows.S("w3"), "ttl": rows.S("set"),
		"parents": &types.AttributeValueMemberSS{Value: []string{"s-2"}}}), storedRow(t, a, "changes#L#s-3"))
}

// With 50 holes, as many as there can be, a row is still a small one.
func TestTheSizeOfHoles(t *testing.T) {
	ctx := t.Context()
	a := start(t)
	s := store(t, a.DynamoDB, "orders", "changes")
	require.NoError(t, s.Ensure(ctx, lease.Shard{ID: "shardId-000000000000"}, lease.TrimHorizon))
	l, err := s.Acquire(ctx, lease.Lease{Shard: lease.Shard{ID: "shardId-000000000000"}}, "w")
	require.NoError(t, err)
	holes := map[string]lease.Hole{}
	for i := range 50 {
		holes[fmt.Sprintf("49680622210660530497709061405818172283611631628111052%03d", i)] = lease.Hole{Attempts: 99, Key: 1<<64 - 1}
	}
	before, err := itemsize.Of(storedRow(t, a, "changes#L#shardId-000000000000"))
	require.NoError(t, err)
	require.NoError(t, s.Save(ctx, l.Key(), 1, lease.Progress{Checkpoint: "49680622210660530497709061405818172283611631628111052999", Holes: holes}))
	with, err := itemsize.Of(storedRow(t, a, "changes#L#shardId-000000000000"))
	require.NoError(t, err)
	require.Less(t, with, 6<<10)
	t.Logf("a lease of %d bytes has %d with 50 holes", before, with)
}
