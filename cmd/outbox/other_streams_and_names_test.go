package main

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/lease"
	"github.com/seed-1b628d3f/outbox/internal/lease/dynamostore"
)

// otherNames is what --attributes says in these tests, and theOthers the same in Go.
const otherNames = "id=pk,type=kind,time=createdAt,aggregateId=order,headers=-"

var theOthers = outbox.Attributes{ID: "pk", Type: "kind", Time: "createdAt", AggregateID: "order", Headers: outbox.NoAttribute}

// tableWithAStream makes a table with key pk, and returns the ARN of its DynamoDB stream.
func (w *world) tableWithAStream(t *testing.T, name string) string {
	out, err := w.dynamodb.CreateTable(t.Context(), &dynamodb.CreateTableInput{TableName: &name, BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{{AttributeName: ptr("pk"), AttributeType: types.ScalarAttributeTypeS}},
		KeySchema:            []types.KeySchemaElement{{AttributeName: ptr("pk"), KeyType: types.KeyTypeHash}},
		StreamSpecification:  &types.StreamSpecification{StreamEnabled: ptr(true), StreamViewType: types.StreamViewTypeNewImage}})
	require.NoError(t, err)
	return *out.TableDescription.LatestStreamArn
}

// newOthers makes a world whose events table has other names and a DynamoDB stream, and returns the stream's ARN.
func newOthers(t *testing.T) (*world, string) {
	w := newWorld(t)
	stream := w.tableWithAStream(t, "old-events")
	writer, err := outbox.NewWriter(w.dynamodb, "old-events", outbox.WithAttributes(theOthers))
	require.NoError(t, err)
	for i, id := range []string{"1", "2", "3"} {
		r := outbox.Record{ID: id, Type: "ORDER_CREATED", AggregateID: "a", Sequence: int64(i + 1), Time: epoch, Payload: []byte(`{"secret":"tea"}`)}
		require.NoError(t, writer.Transact(t.Context(), nil, r))
	}
	return w, stream
}

func TestDynamoDBStreamsAndOtherNamesAreRead(t *testing.T) {
	w, stream := newOthers(t)
	shown := lines[eventJSON](t, w.ok(t, "tail", "--stream", stream, "--attributes", otherNames, "--from", "oldest", "--count", "3", "--payload"))
	require.Len(t, shown, 3)
	require.Equal(t, "1", shown[0].ID)
	require.Equal(t, "ORDER_CREATED", shown[0].Type)
	require.Equal(t, "a", shown[0].AggregateID)
	require.Equal(t, "old-events", shown[0].Table)
	require.NotEmpty(t, shown[0].SequenceNumber)
	require.JSONEq(t, `{"secret":"tea"}`, string(shown[0].Payload))
	require.Empty(t, w.ok(t, "tail", "--stream", stream, "--from", "oldest", "--for", "1500ms"), "by the usual names they are no events")

	of := []string{"replay", "--table", "old-events", "--attributes", otherNames}
	require.Len(t, lines[eventJSON](t, w.ok(t, append(of, "--aggregate", "a", "-o", "json")...)), 3)
	require.Len(t, lines[eventJSON](t, w.ok(t, append(of, "--id", "2", "-o", "json")...)), 1)
	require.Equal(t, "3 events found, 3 written again, 0 written before by this run\n", w.ok(t, append(of, "--type", "ORDER_CREATED", "--again", "--run", "r", "--yes")...))
	copies := lines[eventJSON](t, w.ok(t, "tail", "--stream", stream, "--attributes", otherNames, "--from", "oldest", "--count", "6"))[3:]
	require.Contains(t, copies[0].ID, "1#replay#r#")

	for _, args := range []string{"tail --attributes name=x", "replay --type T --attributes name=x"} {
		r := w.run(t, strings.Fields(args)...)
		require.Equal(t, exitUsage, r.code)
		require.Contains(t, r.err, `--attributes: there is no "name"`)
	}
}

// A checkpoint in a DynamoDB stream is moved like one in a Kinesis stream.
func TestACheckpointOfADynamoDBStreamIsMoved(t *testing.T) {
	w, stream := newOthers(t)
	w.CreateTable(t, "leases", "group", "id")
	shown := lines[eventJSON](t, w.ok(t, "tail", "--stream", stream, "--attributes", otherNames, "--from", "oldest", "--count", "3"))
	store, err := dynamostore.New(w.dynamodb, "leases", "mails", stream)
	require.NoError(t, err)
	require.NoError(t, store.Ensure(t.Context(), lease.Shard{ID: shown[0].Shard}, lease.TrimHorizon))
	for _, c := range []struct{ flag, number string }{{"--skip", shown[0].SequenceNumber}, {"--skip", shown[1].SequenceNumber}, {"--after", shown[0].SequenceNumber}} {
		r := w.run(t, "checkpoint", "move", "--stream", stream, "--group", "mails", "--shard", shown[0].Shard, c.flag, c.number, "--yes")
		require.Equal(t, exitOK, r.code, r.err)
		v, err := store.View(t.Context())
		require.NoError(t, err)
		require.Equal(t, c.number, v.Leases[0].Checkpoint)
	}
}
