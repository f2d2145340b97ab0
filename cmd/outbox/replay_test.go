package main

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

func TestReplayListsEventsInOrder(t *testing.T) {
	w := newWorld(t)
	w.CreateOutbox(t, "events", "events", 1)
	want := w.put(t, "a", 5)
	w.put(t, "b", 2)
	for want, args := range map[string][]string{
		strings.Join(want, " "):       {"--aggregate", "a"},
		"a-002":                       {"--id", "a-002"},
		"a-001 b-001 a-002":           {"--type", "ORDER_CREATED", "--from", "2026-09-21T14:13:21Z", "--to", "2026-09-21T14:13:23Z"},
		"a-003 a-004":                 {"--from", epoch.Add(3 * time.Second).Format(time.RFC3339)},
		"":                            {"--type", "ELSE"},
		"a-000 b-000 a-001 b-001 ...": {"--to", "2027-01-01"},
	} {
		var got []string
		for _, e := range lines[eventJSON](t, w.ok(t, append([]string{"replay", "-o", "json"}, args...)...)) {
			got = append(got, e.ID)
			require.Nil(t, e.Payload)
			require.Nil(t, e.Headers)
		}
		if prefix, cut := strings.CutSuffix(want, " ..."); cut {
			require.True(t, strings.HasPrefix(strings.Join(got, " "), prefix))
			require.Len(t, got, 7)
			continue
		}
		require.Equal(t, want, strings.Join(got, " "), "%v", args)
	}
	require.Contains(t, w.ok(t, "replay", "--id", "a-002", "--payload"), "ORDER_CREATED  a-002  a #3  trace=t-1\n    {\"secret\":\"two coffees\"}\n")
	require.Equal(t, "5 events found\n", w.ok(t, "replay", "--aggregate", "a", "--dry-run"))
	require.Equal(t, replayed{DryRun: true, Found: 5}, decode[replayed](t, w.ok(t, "replay", "--aggregate", "a", "--dry-run", "-o", "json")))
	require.Equal(t, replayed{DryRun: true, Found: 5}, decode[replayed](t, w.ok(t, "replay", "--aggregate", "a", "--again", "--run", "r", "--dry-run", "-o", "json")))
	require.Equal(t, 7, w.events(t))

	// A row that cannot be read is told, the others are listed.
	_, err := w.dynamodb.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: ptr("events"), Item: map[string]types.AttributeValue{
		"eventId": &types.AttributeValueMemberS{Value: "bad"}, "type": &types.AttributeValueMemberS{Value: "ORDER_CREATED"}}})
	require.NoError(t, err)
	r := w.run(t, "replay", "--type", "ORDER_CREATED", "-o", "json")
	require.Equal(t, 1, r.code)
	require.Len(t, lines[eventJSON](t, r.out), 7)
	require.Contains(t, r.err, `event "bad" of table events`)
	require.Contains(t, r.err, "1 row could not be read")
}

// Nothing is written without a yes; a run that is repeated writes nothing twice.
func TestReplayWritesAgainWhenConfirmed(t *testing.T) {
	w := newWorld(t)
	w.CreateOutbox(t, "events", "events", 1)
	w.put(t, "a", 5)
	again := []string{"replay", "--aggregate", "a", "--again", "--run", "run-1"}
	r := w.run(t, again...) // the answer "y" on a standard input that is no terminal does not count
	require.Equal(t, result{exitUnconfirmed, "", "outbox: not confirmed: nothing was done; there is no terminal to ask at: give --yes\n"}, r)
	require.Equal(t, 5, w.events(t))

	require.Equal(t, "5 events found, 5 written again, 0 written before by this run\n", w.ok(t, append(again, "--yes", "--ttl", "48h")...))
	require.Equal(t, "10 events found, 0 written again, 5 written before by this run, 5 left out as copies\n", w.ok(t, append(again, "--yes", "--ttl", "48h")...))
	require.Equal(t, replayed{Found: 10, Repeated: 5, Copies: 5}, decode[replayed](t, w.ok(t, append(again, "--yes", "--rate", "1000", "-o", "json")...)))
	require.Equal(t, replayed{Found: 10, Written: 5, Copies: 5}, decode[replayed](t, w.ok(t, "replay", "--aggregate", "a", "--again", "--run", "run-2", "-y", "-o", "json")))
	require.Equal(t, 15, w.events(t))
	item, err := w.dynamodb.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: ptr("events"), Key: map[string]types.AttributeValue{"eventId": &types.AttributeValueMemberS{Value: "a-003#replay#run-1#176d4572"}}})
	require.NoError(t, err)
	require.Contains(t, item.Item, "expiresAt")
}

func TestAReplayThatFailsSaysWhereToGoOn(t *testing.T) {
	w := newWorld(t)
	w.CreateOutbox(t, "events", "events", 1)
	w.put(t, "a", 5)
	writer, err := outbox.NewWriter(w.dynamodb, "events")
	require.NoError(t, err)
	require.NoError(t, writer.Transact(t.Context(), nil, outbox.Record{ID: "a-003#replay#run#63302544", Type: "ELSE", Payload: []byte("1")}))
	again := []string{"replay", "--type", "ORDER_CREATED", "--again", "--run", "run", "--yes"}
	r := w.run(t, again...)
	require.Equal(t, 1, r.code)
	require.Equal(t, "5 events found, 3 written again, 0 written before by this run\ngo on with the same --run; --from 2026-09-21T14:13:23Z saves time\n", r.out)
	require.Contains(t, r.err, "event id is taken by a different event")
	r = w.run(t, append(again, "-o", "json")...)
	got := decode[replayed](t, r.out)
	require.NotEmpty(t, got.Error)
	got.Error = ""
	require.Equal(t, replayed{Found: 8, Repeated: 3, Copies: 3, GoOnFrom: "2026-09-21T14:13:23Z"}, got)

	require.NoError(t, w.SetFaults(outboxtest.Fault{Kind: outboxtest.ServerError, Operation: "PutItem", Probability: 1}))
	r = w.run(t, append(again[:5:5], "other", "--yes")...)
	require.Equal(t, 1, r.code)
	require.Contains(t, r.err, "call again with the same --run")
	w.StopFaults()
	r = w.run(t, "replay", "--type", "ORDER_CREATED", "--max", "2")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.err, "give --from and --to, or --max")
}

// A row that cannot be read ends a run, which says how to go on without it.
func TestReplayLeavesOutWhatCannotBeReadOnRequest(t *testing.T) {
	w := newWorld(t)
	w.CreateOutbox(t, "events", "events", 1)
	w.put(t, "a", 3)
	_, err := w.dynamodb.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: ptr("events"), Item: map[string]types.AttributeValue{
		"eventId": &types.AttributeValueMemberS{Value: "bad"}, "type": &types.AttributeValueMemberS{Value: "ORDER_CREATED"},
		"timestamp": &types.AttributeValueMemberS{Value: "noon"}, "payload": &types.AttributeValueMemberS{Value: "{}"},
	}})
	require.NoError(t, err)
	again := []string{"replay", "--type", "ORDER_CREATED", "--again", "--run", "run", "--yes"}
	r := w.run(t, again...)
	require.Equal(t, 1, r.code)
	require.Contains(t, r.err, `event "bad" of table events`)
	require.Contains(t, r.err, "--skip-unreadable leaves such rows out")
	require.Equal(t, 4, w.events(t))
	r = w.run(t, append(again, "--skip-unreadable")...)
	require.Equal(t, 0, r.code)
	require.Equal(t, "4 events found, 3 written again, 0 written before by this run, 1 left out as unreadable\n", r.out)
	require.Contains(t, r.err, `outbox: left out: event "bad" of table events`)
	r = w.run(t, append(again, "--skip-unreadable", "-o", "json")...)
	require.Equal(t, replayed{Found: 7, Repeated: 3, Copies: 3, Unreadable: 1}, decode[replayed](t, r.out))
	require.Equal(t, 2, w.run(t, "replay", "--id", "bad", "--skip-unreadable").code)
}
