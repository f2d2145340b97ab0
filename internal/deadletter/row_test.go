package deadletter_test

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/deadletter"
	"github.com/seed-1b628d3f/outbox/internal/event"
	"github.com/seed-1b628d3f/outbox/internal/owntable"
	"github.com/seed-1b628d3f/outbox/internal/rows"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// Tables outlive versions of this library: these are the rows of a letter, attribute by attribute. The fence of the worker that had the event
// is not among them: it says nothing about the worker that handles the letter.
func TestTheRowsOfALetter(t *testing.T) {
	a := outboxtest.Start(t)
	require.NoError(t, owntable.Form{What: "table", Partition: "group", Sort: "id", TTL: "expiresAt"}.Create(t.Context(), a.DynamoDB, "letters"))
	s, err := deadletter.New(a.DynamoDB, "letters", "c")
	require.NoError(t, err)
	at := time.UnixMilli(1719347890250).UTC()
	all := deadletter.Letter{Event: event.Event{
		ID: "e#1", Type: "T", AggregateID: "a%", Sequence: 7, Time: at, Headers: map[string]string{"h": "v"}, ContentType: "x/y",
		Payload: []byte{1, 2}, Table: "events", ChangedAt: at.Add(647 * time.Microsecond), StreamARN: "arn", ShardID: "shard",
		SequenceNumber: "12", Fence: 5,
	}, Error: "why", Attempts: 3, Parked: true, StoredAt: at}
	text := deadletter.Letter{Event: event.Event{ID: "2", Payload: []byte(`{}`)}, StoredAt: at}
	raw := deadletter.Letter{Event: event.Event{ShardID: "shard", SequenceNumber: "13"}, Raw: []byte{0xff}, Error: "unreadable", StoredAt: at}
	for _, l := range []*deadletter.Letter{&all, &text, &raw} {
		put(t, s, l)
		require.Zero(t, l.Event.Fence)
	}

	table := "letters"
	scan, err := a.DynamoDB.Scan(t.Context(), &dynamodb.ScanInput{TableName: &table})
	require.NoError(t, err)
	have := map[string]rows.Item{}
	for _, row := range scan.Items {
		delete(row, "token") // new each time
		have[rows.Text(row, "group")+"/"+rows.Text(row, "id")] = row
	}
	require.Equal(t, map[string]rows.Item{
		"c#lane/a%25": {"group": rows.S("c#lane"), "id": rows.S("a%25"), "aggregateId": rows.S("a%"), "letters": rows.N(1), "last": rows.N(1)},
		"c/a%25#e%231": {
			"group": rows.S("c"), "id": rows.S("a%25#e%231"), "place": rows.N(1),
			"error": rows.S("why"), "attempts": rows.N(3), "parked": rows.Bool(true), "storedAt": rows.N(1719347890250),
			"eventId": rows.S("e#1"), "type": rows.S("T"), "aggregateId": rows.S("a%"), "sequence": rows.N(7), "timestamp": rows.N(1719347890250),
			"headers": rows.Headers(map[string]string{"h": "v"}), "contentType": rows.S("x/y"), "payload": rows.B([]byte{1, 2}),
			"table": rows.S("events"), "changedAt": rows.N(1719347890250647), "streamArn": rows.S("arn"), "shardId": rows.S("shard"),
			"sequenceNumber": rows.S("12"),
		},
		"c/#2": {
			"group": rows.S("c"), "id": rows.S("#2"),
			"error": rows.S(""), "attempts": rows.N(0), "storedAt": rows.N(1719347890250), "eventId": rows.S("2"), "payload": rows.S("{}"),
		},
		"c/##shard:13": {
			"group": rows.S("c"), "id": rows.S("##shard:13"),
			"error": rows.S("unreadable"), "attempts": rows.N(0), "storedAt": rows.N(1719347890250), "shardId": rows.S("shard"),
			"sequenceNumber": rows.S("13"), "raw": rows.B([]byte{0xff}),
		},
	}, have)
}
