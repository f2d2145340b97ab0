package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// ofTable is a world whose function reads the table's own stream, and which has no Kinesis. It returns the stream's ARN.
func ofTable(t *testing.T, view types.StreamViewType) (w *world, arn string) {
	w = newWorld(t)
	w.ok(t, "create", "--pitr")
	out, err := w.dynamodb.UpdateTable(t.Context(), &dynamodb.UpdateTableInput{TableName: ptr("events"),
		StreamSpecification: &types.StreamSpecification{StreamEnabled: ptr(true), StreamViewType: view}})
	require.NoError(t, err)
	lives(30*24*time.Hour)(t, w)
	arn = *out.TableDescription.LatestStreamArn
	w.mappings = strings.ReplaceAll(fmt.Sprintf(mapping, "Enabled", `"ReportBatchItemFailures"`, true, -1, `"Destination":"arn:aws:sqs:us-east-1:000000000000:failed"`), eventsStream, arn)
	w.mappings = strings.Replace(w.mappings, "172800", "72000", 1)
	return w, arn
}

// A function, or workers, may read the table's own stream in the place of Kinesis.
func TestDoctorUnderstandsTheTablesOwnStream(t *testing.T) {
	w, arn := ofTable(t, types.StreamViewTypeNewImage)
	text := w.ok(t, "doctor", "--strict", "--no-alarms", "--stream", arn, "--function", "mailer", "--leases", "")
	for _, line := range []string{
		"ok       stream " + arn + ": it is the table's, and enabled\n", "ok       view events: NEW_IMAGE\n",
		"ok       retention " + arn + ": records are kept for 24h0m, which nobody can raise: be ready to replay from the table\n",
		"ok       event source mapping mailer: Enabled, with ReportBatchItemFailures, reads " + arn + "\n",
	} {
		require.Contains(t, text, line)
	}
	require.NotContains(t, text, "destination events")
	row("leases", rows.Item{"group": rows.S("mails"), "id": rows.S(arn + "#W#w-1"), "beat": rows.N(7)})(t, w)
	require.Contains(t, w.ok(t, "doctor", "--strict", "--no-alarms", "--stream", arn), "ok       groups leases: group mails on stream "+arn)

	t.Run("a mapping that reads it beside a destination to Kinesis", func(t *testing.T) {
		require.Contains(t, w.ok(t, "doctor", "--no-alarms", "--function", "mailer"), "ok       event source mapping mailer: Enabled, with ReportBatchItemFailures, reads "+arn)
	})
	t.Run("a filter has no member data there", func(t *testing.T) {
		filter(`{"eventName":["INSERT"]}`)(t, w)
		require.Contains(t, w.ok(t, "doctor", "--no-alarms", "--stream", arn, "--function", "mailer"), "ok       filter mailer: it lets every event through")
		filter(`{"data":{"eventName":["INSERT"]}}`)(t, w)
		require.Contains(t, w.run(t, "doctor", "--no-alarms", "--stream", arn, "--function", "mailer").out, "problem  filter mailer: it lets no event through")
	})
	t.Run("workers have no metric", func(t *testing.T) {
		require.Contains(t, w.ok(t, "doctor", "--stream", arn), "unknown  alarm "+arn+": CloudWatch has no metric of how far the Workers of a DynamoDB stream are behind\n")
	})
	t.Run("it was enabled anew", func(t *testing.T) {
		old := strings.TrimSuffix(arn, arn[len(arn)-3:]) + "999"
		r := w.run(t, "doctor", "--no-alarms", "--stream", old)
		require.Equal(t, exitFailed, r.code)
		require.Contains(t, r.out, "problem  stream "+old+": it has ended: the table's stream is now "+arn+"\n")
		w.mappings = strings.ReplaceAll(w.mappings, arn, old)
		require.Contains(t, w.run(t, "doctor", "--no-alarms", "--stream", arn, "--function", "mailer").out, "problem  event source mapping mailer: it reads a stream that the table has no more, "+old+"\n")
	})
	t.Run("it is disabled", func(t *testing.T) {
		table("events", "StreamSpecification", nil)(t, w)
		require.Contains(t, w.run(t, "doctor", "--no-alarms", "--stream", arn).out, "problem  stream "+arn+": the table has no DynamoDB stream any more: changes reach nobody\n")
	})
	t.Run("it has no images", func(t *testing.T) {
		w, arn := ofTable(t, types.StreamViewTypeKeysOnly)
		require.Contains(t, w.run(t, "doctor", "--no-alarms", "--stream", arn).out, "problem  view events: KEYS_ONLY: records do not contain the event\n")
		require.Contains(t, w.run(t, "doctor", "--no-alarms", "--function", "mailer").out, "problem  view events: KEYS_ONLY")
	})
	t.Run("it is another table's", func(t *testing.T) {
		r := w.run(t, "doctor", "--table", "orders", "--stream", arn)
		require.Equal(t, exitUsage, r.code)
		require.Contains(t, r.err, "--stream is a stream of table events, and --table is orders")
	})
	t.Run("it is not given", func(t *testing.T) {
		_, err := w.dynamodb.DisableKinesisStreamingDestination(t.Context(), &dynamodb.DisableKinesisStreamingDestinationInput{TableName: ptr("events"), StreamArn: ptr(eventsStream)})
		require.NoError(t, err)
		w.edits = nil
		require.Contains(t, w.run(t, "doctor", "--no-alarms", "--stream", "else").out, "do: if consumers read the table's own stream, give --stream "+arn)
	})
}

// With enhanced fan-out a mapping names a consumer of the stream, and a stream and a table may be given by ARN.
func TestDoctorUnderstandsConsumersAndARNs(t *testing.T) {
	w := healthy(t)
	mappingWith("EventSourceArn", eventsStream+"/consumer/mailer:1719347890")(t, w)
	w.ok(t, append(everything, "--strict", "--stream", eventsStream, "--table", "arn:aws:dynamodb:us-east-1:000000000000:table/events")...)
}

// --attributes says what WithAttributes says in the service.
func TestDoctorUnderstandsWithAttributes(t *testing.T) {
	w := newWorld(t)
	w.ok(t, "create")
	w.CreateTable(t, "old", "id")
	r := w.run(t, "doctor", "--table", "old")
	require.Contains(t, r.out, `problem  events table old: its partition key is "id", not "eventId"`)
	require.Contains(t, r.out, "or has names of its own (WithAttributes): correct the name, or give --attributes\n")

	args := []string{"doctor", "--no-alarms", "--table", "old", "--attributes", "id=id,type=kind,time=createdAt,expiresAt=end", "--function", "mailer"}
	_, err := w.dynamodb.UpdateTimeToLive(t.Context(), &dynamodb.UpdateTimeToLiveInput{TableName: ptr("old"), TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: ptr("end"), Enabled: ptr(true)}})
	require.NoError(t, err)
	writer, err := outbox.NewWriter(w.dynamodb, "old", outbox.WithTTL(30*24*time.Hour), outbox.WithAttributes(outbox.Attributes{ID: "id", Type: "kind", Time: "createdAt", ExpiresAt: "end"}))
	require.NoError(t, err)
	require.NoError(t, writer.Transact(t.Context(), nil, outbox.NewEvent("a", orderCreated{})))
	w.mappings = fmt.Sprintf(mapping, "Enabled", `"ReportBatchItemFailures"`, true, -1, `"Destination":"arn:aws:sqs:us-east-1:000000000000:failed"`)
	filter(`{"data":{"dynamodb":{"NewImage":{"kind":["ORDER_CREATED"]}}}}`)(t, w)
	text := w.run(t, args...).out
	require.Contains(t, text, "ok       events table old: ACTIVE, with the right keys\n")
	require.Contains(t, text, "ok       time to live old: on end\n")
	require.Contains(t, text, "rows live for 720h")
	row("old", rows.Item{"id": rows.S("1"), "end": rows.S("tomorrow")})(t, w)
	require.Contains(t, w.run(t, args...).out, "problem  lifetime of rows old: end of a row is no number: DynamoDB never deletes such a row\n")

	args[5] = "id=id,expiresAt=-"
	text = w.run(t, args...).out
	require.Contains(t, text, `problem  time to live old: it is on the attribute "end", which no Writer writes: the wrong rows may go`)
	require.Contains(t, text, "ok       lifetime of rows old: no row expires: the table has no attribute for it\n")
	r = w.run(t, "doctor", "--attributes", "ID=id")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.err, `--attributes: there is no "ID"`)
}
