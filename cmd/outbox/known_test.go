package main

import (
	"context"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"
)

// putRow puts a row with the keys group and id, and flags that are set.
func (w *world) putRow(t testing.TB, table, group, id string, flags ...string) {
	item := map[string]types.AttributeValue{"group": &types.AttributeValueMemberS{Value: group}, "id": &types.AttributeValueMemberS{Value: id}}
	for _, f := range flags {
		item[f] = &types.AttributeValueMemberBOOL{Value: true}
	}
	_, err := w.dynamodb.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &table, Item: item})
	require.NoError(t, err)
}

// shortPages cuts each Scan into pages of one row.
type shortPages struct {
	*dynamodb.Client
}

func (p shortPages) Scan(ctx context.Context, in *dynamodb.ScanInput, opts ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error) {
	in.Limit = ptr(int32(1))
	return p.Client.Scan(ctx, in, opts...)
}

func TestGroupsAndConsumersThatTheTablesKnow(t *testing.T) {
	w := newWorld(t)
	w.CreateTable(t, "leases", "group", "id")
	w.putRow(t, "leases", "mails", "events#L#shard-0")
	w.putRow(t, "leases", "mails", "events#L#shard-1")
	w.putRow(t, "leases", "mails", "events#W#a")
	w.putRow(t, "leases", "mails", "events#W#b", "dead")
	w.putRow(t, "leases", "mails", "events#start")
	w.putRow(t, "leases", "mails", "arn:aws:kinesis:us-east-1:123456789012:stream/events#W#a")
	w.putRow(t, "leases", "bills", "events#start")
	w.putRow(t, "leases", "others", "no lease")
	for _, client := range []dynamodb.ScanAPIClient{w.dynamodb, shortPages{w.dynamodb}} {
		groups, all, err := knownGroups(t.Context(), client, "leases")
		require.NoError(t, err)
		require.True(t, all)
		require.Equal(t, []knownGroup{
			{Group: "bills", Stream: "events"}, {Group: "mails", Stream: "arn:aws:kinesis:us-east-1:123456789012:stream/events", Workers: 1},
			{Group: "mails", Stream: "events", Shards: 2, Workers: 1},
		}, groups)
		require.Equal(t, "group mails on stream events (2 shards, 1 worker)", groups[2].String())
	}
	for i := range mostScanned {
		w.putRow(t, "leases", "mails", "events#L#more-"+strings.Repeat("x", i+1))
	}
	_, all, err := knownGroups(t.Context(), shortPages{w.dynamodb}, "leases")
	require.NoError(t, err)
	require.False(t, all)
	v := verdict{groupStatus: &groupStatus{Group: "none", Stream: "events"}, statusFlags: statusFlags{leases: "leases"}}
	v.known(t.Context(), newApp(nil, nil, nil), shortPages{w.dynamodb})
	require.Contains(t, v.Reasons, "lease table leases has more rows than were read: there may be other groups")

	w.CreateTable(t, "dead-letters", "group", "id")
	w.putRow(t, "dead-letters", "mails", "a#1")
	w.putRow(t, "dead-letters", "mails", "a#2")
	w.putRow(t, "dead-letters", "mails#lane", "a")
	w.putRow(t, "dead-letters", "bills#attempt", "1")
	letters, all, err := knownConsumers(t.Context(), w.dynamodb, "dead-letters")
	require.NoError(t, err)
	require.True(t, all)
	require.Equal(t, map[string]int{"mails": 2, "bills": 0}, letters)
	require.Equal(t, "bills, mails", knownList(letters))

	_, _, err = knownGroups(t.Context(), w.dynamodb, "missing")
	require.ErrorContains(t, err, "read the keys of table missing: ")
}
