package outbox_test

import (
	"context"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// Status tells what a worker has stored, while the worker runs and afterwards.
func TestLeasesTellWhoReadsAndHowFar(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		table := f.leases.(*outbox.LeaseTable)
		none, err := table.Status(t.Context(), "events")
		require.NoError(t, err)
		require.Empty(t, none)

		w := f.start(t, func(_ context.Context, e outbox.Event[orderCreated]) error { f.note(t, e); return nil })
		f.await(t, "everything handled", time.Minute, f.all(f.put(t, "a", 5, 4)))
		leases, err := table.Status(t.Context(), "events")
		require.NoError(t, err)
		require.Len(t, leases, 2)
		for i, l := range leases {
			require.Equal(t, []string{"shardId-000000000000", "shardId-000000000001"}[i], l.Shard)
			require.NotEmpty(t, l.Owner)
			require.Equal(t, outbox.OwnerRegistered, l.OwnerState)
			require.Equal(t, int64(1), l.Fence)
		}
		require.NoError(t, w.stop())
		after, err := table.Status(t.Context(), "events")
		require.NoError(t, err)
		require.Len(t, after, 2)
		for _, l := range after {
			require.Empty(t, l.Owner)
			require.Empty(t, l.OwnerState)
			require.Len(t, l.Checkpoint, 56)
			require.False(t, l.Ended)
		}
		other, err := table.Status(t.Context(), "other")
		require.NoError(t, err)
		require.Empty(t, other)
	})
}

// Every form of a row.
func TestLeasesReadsEveryRow(t *testing.T) {
	f := newFleet(t)
	put := func(id string, more values) {
		item := values{"group": str("mails"), "id": str("events#" + id), "fence": num("3")}
		for name, value := range more {
			item[name] = value
		}
		_, err := f.DynamoDB.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("leases"), Item: item})
		require.NoError(t, err)
	}
	yes := &types.AttributeValueMemberBOOL{Value: true}
	put("L#a", values{"checkpoint": str("SHARD_END"), "ttl": num("1")})
	put("L#b", values{"checkpoint": str("AT_TIMESTAMP#2026-01-02T03:04:05Z"), "owner": str("dead"), "want": str("ok"),
		"parents": &types.AttributeValueMemberSS{Value: []string{"a"}}})
	put("L#c", values{"checkpoint": str("TRIM_HORIZON"), "owner": str("draining")})
	put("L#d", values{"checkpoint": str("42"), "owner": str("gone"),
		"attempts": &types.AttributeValueMemberM{Value: values{"43": num("7")}}})
	put("L#e", values{"checkpoint": str("42"), "owner": str("ok")})
	hole := func(more values) types.AttributeValue { return &types.AttributeValueMemberM{Value: more} }
	put("L#f", values{"checkpoint": str("SHARD_END"), "unfinished": hole(values{"100": hole(values{"attempts": num("2"), "key": num("9")}), "99": hole(nil)})})
	put("W#dead", values{"beat": num("1"), "dead": yes})
	put("W#draining", values{"beat": num("1"), "draining": yes})
	put("W#ok", values{"beat": num("1")})

	got, err := f.leases.(*outbox.LeaseTable).Status(t.Context(), "events")
	require.NoError(t, err)
	require.Equal(t, []outbox.LeaseStatus{
		{Shard: "a", Fence: 3, Ended: true, Forgotten: true},
		{Shard: "b", Fence: 3, Parents: []string{"a"}, Owner: "dead", OwnerState: outbox.OwnerDead, WantedBy: "ok", StartsAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
		{Shard: "c", Fence: 3, Owner: "draining", OwnerState: outbox.OwnerDraining},
		{Shard: "d", Fence: 3, Owner: "gone", OwnerState: outbox.OwnerDead, Checkpoint: "42", Attempts: map[string]int{"43": 7}},
		{Shard: "e", Fence: 3, Owner: "ok", OwnerState: outbox.OwnerRegistered, Checkpoint: "42"},
		{Shard: "f", Fence: 3, Ended: true, Unfinished: []string{"99", "100"}, Attempts: map[string]int{"100": 2}},
	}, got)
}

func TestLeasesOfWhatIsNotThere(t *testing.T) {
	f := newFleet(t)
	_, err := f.leases.(*outbox.LeaseTable).Status(t.Context(), "a#b")
	require.ErrorContains(t, err, "must not be empty nor contain '#'")
	missing, err := outbox.NewLeaseTable(f.DynamoDB, "missing", "mails")
	require.NoError(t, err)
	_, err = missing.Status(t.Context(), "events")
	require.ErrorContains(t, err, "lease table missing, group mails")
	var notFound *types.ResourceNotFoundException
	require.ErrorAs(t, err, &notFound)
}
