package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

func TestTailShowsWhatIsWanted(t *testing.T) {
	w := newWorld(t)
	w.CreateOutbox(t, "events", "events", 2)
	w.put(t, "a", 3)
	w.put(t, "b", 2)
	_, err := w.dynamodb.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: ptr("events"), // a REMOVE is no event
		Key: map[string]types.AttributeValue{"eventId": &types.AttributeValueMemberS{Value: "a-000"}}})
	require.NoError(t, err)
	require.NoError(t, w.Drain(t.Context()))

	all := lines[eventJSON](t, w.ok(t, "tail", "--from", "oldest", "--count", "5"))
	byID := map[string]eventJSON{}
	for _, e := range all {
		byID[e.ID] = e
	}
	require.Len(t, byID, 5)
	one := byID["a-001"]
	require.NotEmpty(t, one.SequenceNumber)
	require.NotZero(t, one.ChangedAt)
	require.Contains(t, one.Shard, "shardId-")
	one.SequenceNumber, one.ChangedAt, one.Shard = "", epoch, ""
	require.Equal(t, eventJSON{ID: "a-001", Type: "ORDER_CREATED", AggregateID: "a", Sequence: 2, Time: epoch.Add(1e9), Table: "events", ChangedAt: epoch}, one)

	for _, c := range []struct {
		want int
		args []string
	}{
		{2, []string{"--aggregate", "b"}}, {5, []string{"--aggregate", "b,a", "--type", "ORDER_CREATED"}}, {0, []string{"--type", "ELSE"}}, {0, []string{"--table", "else"}},
		{5, []string{"--table", "events"}}, {5, []string{"--from", "1h"}}, {0, []string{"--from", "now"}}, {5, []string{"--from", "2020-01-01"}},
	} {
		from := []string{"tail", "--for", "700ms"}
		if c.args[0] != "--from" {
			from = append(from, "--from", "oldest")
		}
		require.Len(t, lines[eventJSON](t, w.ok(t, append(from, c.args...)...)), c.want, "%v", c.args)
	}

	private := lines[eventJSON](t, w.ok(t, "tail", "--from", "oldest", "--count", "1", "--payload"))[0]
	require.JSONEq(t, `{"secret":"two coffees"}`, string(private.Payload))
	require.Equal(t, map[string]string{"trace": "t-1"}, private.Headers)
	text := w.ok(t, "tail", "--from", "oldest", "--for", "700ms", "-o", "text")
	require.Contains(t, text, "2026-09-21T14:13:21.000Z  ORDER_CREATED  a-001  a #2  00000000000")
	require.NotContains(t, text, "coffees")
	require.NotContains(t, text, "\x1b", "no colours without a terminal")
	require.Contains(t, w.ok(t, "tail", "--from", "oldest", "--count", "1", "-o", "text", "--payload"), "  trace=t-1\n    {\"secret\":\"two coffees\"}\n")
}

// It follows the stream while it is written and resharded, and ends when it is interrupted.
func TestTailFollowsTheStream(t *testing.T) {
	w := newWorld(t)
	w.CreateOutbox(t, "events", "events", 1)
	w.put(t, "before", 1)
	require.NoError(t, w.Drain(t.Context()))
	time.Sleep(5 * time.Millisecond) // "now" is a millisecond
	ctx, interrupt := context.WithCancel(t.Context())
	var out, errs syncBuffer
	code := make(chan int, 1)
	go func() { code <- w.app(strings.NewReader(""), &out, &errs).run(ctx, []string{"tail"}) }()
	written := 0
	next := func() {
		for i := 0; ; i++ { // what is written before it listens is not shown
			id := fmt.Sprintf("w%d-%d", written, i)
			w.put(t, id, 1)
			require.NoError(t, w.Drain(t.Context()))
			if i == 200 || strings.Contains(out.String(), fmt.Sprintf(`"id":"w%d-`, written)) {
				break
			}
			// The reader polls once a second at most.
			waitFor(func() bool { return strings.Contains(out.String(), fmt.Sprintf(`"id":"w%d-`, written)) }, 100)
		}
		out.await(t, fmt.Sprintf(`"id":"w%d-`, written))
		written++
	}
	next()
	_, err := w.kinesis.SplitShard(t.Context(), &kinesis.SplitShardInput{StreamName: ptr("events"), ShardToSplit: ptr("shardId-000000000000"),
		NewStartingHashKey: ptr("170141183460469231731687303715884105728")})
	require.NoError(t, err)
	next()
	out.await(t, `"shard":"shardId-00000000000`)
	for _, child := range []string{"shardId-000000000001", "shardId-000000000002"} {
		for i := 0; i < 50 && !strings.Contains(out.String(), child); i++ {
			next()
		}
		require.Contains(t, out.String(), child)
	}
	_, err = w.kinesis.MergeShards(t.Context(), &kinesis.MergeShardsInput{StreamName: ptr("events"), ShardToMerge: ptr("shardId-000000000001"), AdjacentShardToMerge: ptr("shardId-000000000002")})
	require.NoError(t, err)
	next()
	out.await(t, "shardId-000000000003")
	interrupt()
	require.Equal(t, exitInterrupted, <-code)
	require.Equal(t, "outbox: interrupted\n", errs.String())
	require.NotContains(t, out.String(), `"id":"before`)
	seen := map[string]int{}
	for _, e := range lines[eventJSON](t, out.String()) {
		seen[e.ID]++
		require.Equal(t, 1, seen[e.ID], e.ID)
	}

	// From the oldest record, parents come before their children.
	var order []string
	for _, e := range lines[eventJSON](t, w.ok(t, "tail", "--from", "oldest", "--for", "4s")) {
		if len(order) == 0 || order[len(order)-1] != e.Shard {
			order = append(order, e.Shard)
		}
	}
	require.Equal(t, "shardId-000000000000", order[0])
	require.Equal(t, "shardId-000000000003", order[len(order)-1])
}

// What cannot be read is told, and does not end it; what fails for good does.
func TestTailTellsWhatIsWrong(t *testing.T) {
	w := newWorld(t)
	w.CreateOutbox(t, "events", "events", 1)
	_, err := w.kinesis.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: ptr("events"), PartitionKey: ptr("k"), Data: []byte(`{"eventName":"INSERT","dynamodb":`)})
	require.NoError(t, err)
	w.put(t, "a", 1)
	require.NoError(t, w.Drain(t.Context()))
	r := w.run(t, "tail", "--from", "oldest", "--count", "1")
	require.Zero(t, r.code)
	require.Len(t, lines[eventJSON](t, r.out), 1)
	require.Contains(t, r.err, "outbox: shard shardId-000000000000, record ")
	require.Contains(t, r.err, ": malformed change record")
	require.NotContains(t, r.err, ": outbox: ")

	r = w.run(t, "tail", "--stream", "missing")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.err, "list the shards of stream missing: ResourceNotFoundException")
	require.Contains(t, r.err, "(looked in us-east-1 at http://127.0.0.1:")
	w.refuse("GetRecords")
	r = w.run(t, "tail", "--from", "oldest")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.err, "AccessDeniedException")
	w.refuse()
	require.NoError(t, w.SetFaults(outboxtest.Fault{Kind: outboxtest.ServerError, Operation: "GetRecords", Calls: []int{1}}))
	r = w.run(t, "tail", "--from", "oldest", "--count", "1")
	require.Zero(t, r.code)
	require.Contains(t, r.err, "GetRecords is repeated")
	var out brokenWriter
	require.Equal(t, 1, w.app(strings.NewReader(""), out, &syncBuffer{}).run(t.Context(), []string{"tail", "--from", "oldest"}))
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, fmt.Errorf("broken pipe") }

// Text of others cannot drive the terminal.
func TestControlCharactersAreMadeVisible(t *testing.T) {
	require.Equal(t, `a\u001b[2Jb\u000a\u009b\u202eé世`, printable("a\x1b[2Jb\n\u009b\u202eé世"))
	require.Equal(t, "plain", printable("plain"))
}

// A payload that is not JSON comes in base64.
func TestPayloadsThatAreNotJSON(t *testing.T) {
	w := newWorld(t)
	w.CreateOutbox(t, "events", "events", 1)
	_, err := w.dynamodb.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: ptr("events"), Item: map[string]types.AttributeValue{
		"eventId": &types.AttributeValueMemberS{Value: "1"}, "type": &types.AttributeValueMemberS{Value: "T\x1b[31m"}, "timestamp": &types.AttributeValueMemberN{Value: "1790000000000"},
		"contentType": &types.AttributeValueMemberS{Value: "application/x-protobuf"}, "payload": &types.AttributeValueMemberB{Value: []byte{0, 255}}}})
	require.NoError(t, err)
	require.NoError(t, w.Drain(t.Context()))
	e := lines[eventJSON](t, w.ok(t, "tail", "--from", "oldest", "--count", "1", "--payload"))[0]
	require.Equal(t, []byte{0, 255}, e.PayloadBytes)
	require.Equal(t, json.RawMessage(nil), e.Payload)
	text := w.ok(t, "tail", "--from", "oldest", "--count", "1", "--payload", "-o", "text")
	require.Contains(t, text, "2 bytes, not text")
	require.NotContains(t, text, "\x1b")
}

// The machine's clock is wrong, and the stream's is right.
func TestTheCommandGoesByTheStreamsClock(t *testing.T) {
	for _, ahead := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
		t.Run(ahead.String(), func(t *testing.T) {
			w := newWorld(t, outboxtest.WithClock(func() time.Time { return time.Now().Add(-ahead) }))
			w.CreateOutbox(t, "events", "events", 1)
			leases, err := outbox.NewLeaseTable(w.dynamodb, "leases", "mails")
			require.NoError(t, err)
			require.NoError(t, leases.Create(t.Context()))
			w.put(t, "a", 2)
			require.NoError(t, w.Drain(t.Context()))
			require.Len(t, lines[eventJSON](t, w.ok(t, "tail", "--from", "5m", "--for", "700ms")), 2, "they arrived less than 5 minutes ago")
			before := time.Now().Add(-ahead - time.Minute).UTC().Format(time.RFC3339)
			require.Len(t, lines[eventJSON](t, w.ok(t, "tail", "--from", before, "--count", "2")), 2, "it is no time of the future to the stream")
			r := w.run(t, "checkpoint", "move", "--group", "mails", "--all", "--from", before, "--yes")
			require.Contains(t, r.err, "lease table leases knows no shard of group mails")
			r = w.run(t, "tail", "--from", time.Now().Add(-ahead+55*time.Minute).UTC().Format(time.RFC3339))
			require.Equal(t, map[time.Duration]int{10 * time.Minute: exitFailed, -10 * time.Minute: exitUsage}[ahead], r.code)
			require.Contains(t, r.err, "is in the future")
			s := decode[statusJSON](t, w.run(t, "status", "--group", "mails", "-o", "json").out)
			require.Less(t, *s.LagSeconds, 300.0)
		})
	}
}

// A listing without a shard is no stream that has ended.
func TestTailOfAListingWithoutShards(t *testing.T) {
	w := newWorld(t)
	w.ok(t, "create")
	w.edit("ListShards", func(_, a map[string]any) { delete(a, "Shards") })
	r := w.run(t, "tail", "--from", "oldest", "--for", "5s")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.err, "stream events lists no shard")
}
