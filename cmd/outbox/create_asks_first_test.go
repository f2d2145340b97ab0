package main

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/stretchr/testify/require"
)

// ttl returns the state of a table's time to live.
func (w *world) ttl(t *testing.T, table string) string {
	out, err := w.dynamodb.DescribeTimeToLive(t.Context(), &dynamodb.DescribeTimeToLiveInput{TableName: &table})
	require.NoError(t, err)
	return string(out.TimeToLiveDescription.TimeToLiveStatus)
}

// tables returns the names of the tables.
func (w *world) tables(t *testing.T) []string {
	out, err := w.dynamodb.ListTables(t.Context(), &dynamodb.ListTablesInput{})
	require.NoError(t, err)
	return out.TableNames
}

// A table with the right key may be of somebody else, whose rows a time to live would delete.
func TestCreateChangesNothingThatIsThereUnasked(t *testing.T) {
	w := newWorld(t)
	w.CreateTable(t, "events", "eventId")
	want := "this would change what is there, in us-east-1 at ENDPOINT:\n" +
		"  - turn on time to live of the events table events: from then on DynamoDB deletes its rows whose \"expiresAt\" is a time in the past\n" +
		"  - let the events table events write its changes to the stream events; rows that are there already do not reach it\n" +
		"  - turn on point-in-time recovery of the events table events, which is billed by its size\n" +
		"  - add the index outbox-by-type to the events table events, which costs a write unit for every event\n" +
		"outbox: not confirmed: nothing was done; there is no terminal to ask at: give --yes\n"
	args := []string{"create", "--pitr", "--index", "type"}
	for _, format := range []string{"text", "json"} {
		r := w.run(t, append(args, "-o", format)...)
		require.Equal(t, exitUnconfirmed, r.code)
		require.Equal(t, want, withoutEndpoint(r.err))
		require.Equal(t, map[string]string{"text": "", "json": "{\n  \"resources\": [],\n  \"error\": \"not confirmed: nothing was done; there is no terminal to ask at: give --yes\"\n}\n"}[format], r.out)
		require.Equal(t, []string{"events"}, w.tables(t), "nothing is made either")
		require.Equal(t, "DISABLED", w.ttl(t, "events"))
	}

	s := newScreen(t)
	for _, answer := range []struct {
		text string
		code int
		ttl  string
	}{{"n", exitUnconfirmed, "DISABLED"}, {"y", exitOK, "ENABLED"}} {
		before := len(s.shown.String())
		code := s.run(t, w, args...)
		waitFor(func() bool { return strings.Contains(s.shown.String()[before:], "Make these changes?") }, 20_000)
		_, err := s.keyboard.WriteString(answer.text + "\n")
		require.NoError(t, err)
		require.Equal(t, answer.code, <-code)
		require.Equal(t, answer.ttl, w.ttl(t, "events"))
	}
	require.Equal(t, exitOK, w.run(t, args...).code, "nothing is left to change, so nothing is asked")
}

// withoutEndpoint replaces the address of the test's AWS.
func withoutEndpoint(text string) string {
	before, after, found := strings.Cut(text, "http://127.0.0.1:")
	if !found {
		return text
	}
	return before + "ENDPOINT" + strings.TrimLeft(after, "0123456789")
}

// Keys are looked at before anything else, of all tables.
func TestCreateLooksAtAllKeysFirst(t *testing.T) {
	w := newWorld(t)
	w.CreateTable(t, "events", "eventId")
	w.CreateTable(t, "dead", "group", "other")
	r := w.run(t, "create", "--dead-letters", "dead", "--yes")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.err, `dead letter table dead: there is a table of this name with other keys: its sort key is "other", not "id"`)
	require.Equal(t, "DISABLED", w.ttl(t, "events"))
	require.Equal(t, []string{"dead", "events"}, w.tables(t))
}

// The events of the time in which a destination was off have not reached the stream, and whoever enables it again is told.
func TestCreateEnablesADestinationAgainAndSaysWhatIsMissing(t *testing.T) {
	w := newWorld(t)
	w.ok(t, "create")
	stream, err := w.kinesis.DescribeStreamSummary(t.Context(), &kinesis.DescribeStreamSummaryInput{StreamName: ptr("events")})
	require.NoError(t, err)
	arn := stream.StreamDescriptionSummary.StreamARN
	_, err = w.dynamodb.DisableKinesisStreamingDestination(t.Context(), &dynamodb.DisableKinesisStreamingDestinationInput{TableName: ptr("events"), StreamArn: arn})
	require.NoError(t, err)
	w.put(t, "a", 2) // does not reach the stream

	r := w.run(t, "create")
	require.Equal(t, exitUnconfirmed, r.code)
	require.Contains(t, r.err, "  - enable the destination of the events table events to the stream events, which is DISABLED; what was written meanwhile does not reach the stream\n")
	d, err := w.dynamodb.DescribeKinesisStreamingDestination(t.Context(), &dynamodb.DescribeKinesisStreamingDestinationInput{TableName: ptr("events")})
	require.NoError(t, err)
	require.Equal(t, types.DestinationStatusDisabled, d.KinesisDataStreamDestinations[0].DestinationStatus)

	r = w.run(t, "create", "--yes")
	require.Equal(t, exitOK, r.code, r.err)
	require.Contains(t, r.out, "+ destination events -> events changed  in microseconds; it was DISABLED: what was written meanwhile has not reached the stream\n")
	require.Equal(t, "note: events that were written while the destination was off are in the table only: outbox reconcile --table events --consumer C lists what consumer C lacks of them; without an inbox, outbox replay --table events --from TIME lists them all, and --again writes them again\n", r.err)
	require.NoError(t, w.Drain(t.Context()))
	require.Empty(t, w.ok(t, "tail", "--from", "oldest", "--for", "700ms"), "as the note says")
	w.ok(t, "replay", "--type", "ORDER_CREATED", "--again", "--run", "r", "--yes")
	require.NoError(t, w.Drain(t.Context()))
	require.Len(t, lines[eventJSON](t, w.ok(t, "tail", "--from", "oldest", "--count", "2")), 2)
}

// What create cannot change, it does not pass over.
func TestCreateRefusesAStreamThatIsNotAsAskedFor(t *testing.T) {
	w := newWorld(t)
	w.ok(t, "create", "--shards", "2")
	w.ok(t, "create", "--stream", "ondemand", "--table", "other", "--on-demand")
	for args, want := range map[string]string{
		"--shards 4":  "stream events exists: it has 2 open shards, and --shards 4 is for a new stream: change it with aws kinesis update-shard-count, or leave --shards out",
		"--on-demand": "stream events exists: it is provisioned, and --on-demand is for a new stream",
		"--stream ondemand --table new --shards 4": "stream ondemand exists: it is on-demand, and AWS decides how many shards it has",
	} {
		r := w.run(t, append([]string{"create", "--yes"}, strings.Fields(args)...)...)
		require.Equal(t, exitFailed, r.code, args)
		require.Contains(t, r.err, want)
	}
	require.Equal(t, []string{"events", "leases", "other"}, w.tables(t), "nothing is made")
	w.ok(t, "create", "--shards", "2")
	w.ok(t, "create", "--stream", "ondemand", "--table", "other", "--on-demand")
	r := w.run(t, "create", "--shards", "2", "--on-demand")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.err, "--shards and --on-demand exclude each other")

	r = w.run(t, "create", "--retention", "48h")
	require.Equal(t, exitUnconfirmed, r.code)
	require.Contains(t, r.err, "  - raise the retention of the stream events from 24 to 48 hours, which is billed by the shard or by the data\n")
}

// A time to live that is being turned off cannot be turned on, and one on another attribute is somebody's.
func TestCreateLeavesTheTimeToLiveOfOthers(t *testing.T) {
	w := newWorld(t)
	w.CreateTable(t, "events", "eventId")
	_, err := w.dynamodb.UpdateTimeToLive(t.Context(), &dynamodb.UpdateTimeToLiveInput{TableName: ptr("events"),
		TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: ptr("else"), Enabled: ptr(true)}})
	require.NoError(t, err)
	r := w.run(t, "create", "--yes")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.err, `it is on "else", not on "expiresAt"`)
	require.Equal(t, []string{"events"}, w.tables(t))
	require.Equal(t, exitUnconfirmed, w.run(t, "create", "--no-ttl").code, "only the destination is left to ask about")
	w.ok(t, "create", "--no-ttl", "--yes")
	require.Equal(t, "ENABLED", w.ttl(t, "events"))
}

// Waiting for an answer is no waiting for AWS.
func TestTheQuestionOfCreateOutlastsItsWait(t *testing.T) {
	w := newWorld(t)
	w.CreateTable(t, "events", "eventId")
	s := newScreen(t)
	code := s.run(t, w, "create", "--wait", "2s")
	s.shown.await(t, "Make these changes?")
	time.Sleep(2500 * time.Millisecond)
	_, err := s.keyboard.WriteString("y\n")
	require.NoError(t, err)
	require.Equal(t, exitOK, <-code)
}
