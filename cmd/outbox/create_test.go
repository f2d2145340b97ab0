package main

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

type createdJSON struct {
	Resources []created
	Error     string
}

// Everything is made, in the forms that the library needs; a second call changes nothing.
func TestCreateMakesWhatIsMissing(t *testing.T) {
	w := newWorld(t)
	args := []string{"create", "--shards", "3", "--retention", "72h", "--pitr", "--inbox", "inbox", "--dead-letters", "dead", "--index", "aggregate,type", "-o", "json"}
	for _, action := range []string{"created", "exists"} {
		got := decode[createdJSON](t, w.ok(t, args...))
		require.Equal(t, []created{
			{"events table", "events", action, "time to live on expiresAt"},
			{"stream", "events", action, "3 shards, keeps 72 h"},
			{"destination", "events -> events", action, "in microseconds"},
			{"point-in-time recovery", "events", action, ""},
			{"lease table", "leases", action, "time to live on ttl"},
			{"inbox table", "inbox", action, "time to live on expiresAt"},
			{"dead letter table", "dead", action, "time to live on expiresAt (requests and counts, not letters)"},
			{"index", "outbox-by-aggregate", action, ""},
			{"index", "outbox-by-type", action, ""},
		}, got.Resources)
	}
	for name, keys := range map[string][]string{"events": {"eventId"}, "leases": {"group", "id"}, "inbox": {"eventId", "consumer"}, "dead": {"group", "id"}} {
		out, err := w.dynamodb.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: &name})
		require.NoError(t, err)
		var have []string
		for _, k := range out.Table.KeySchema {
			have = append(have, *k.AttributeName)
		}
		require.Equal(t, keys, have, name)
		require.Equal(t, types.BillingModePayPerRequest, out.Table.BillingModeSummary.BillingMode)
	}
	require.Zero(t, w.events(t))
	w.put(t, "a", 1)
	require.NoError(t, w.Drain(t.Context()))
	require.Len(t, lines[eventJSON](t, w.ok(t, "tail", "--from", "oldest", "--count", "1")), 1, "the destination works")
}

func TestCreateSaysWhatItDid(t *testing.T) {
	w := newWorld(t, outboxtest.WithDelays(20*time.Millisecond))
	require.Equal(t, `+ events table other created
+ stream changes created  4 shards, keeps 24 h
+ destination other -> changes created  in microseconds
`, w.ok(t, "create", "--table", "other", "--stream", "changes", "--leases", "", "--on-demand", "--no-ttl"))
	require.Equal(t, `+ events table other changed  time to live on expiresAt
+ stream changes changed  4 shards, keeps 48 h
= destination other -> changes exists  in microseconds
`, w.ok(t, "create", "--table", "other", "--stream", "changes", "--leases", "", "--retention", "48h", "--yes"))
	shortened := []string{"create", "--table", "other", "--stream", "changes", "--leases", ""}
	require.Contains(t, w.ok(t, append(shortened, "--retention", "24h")...), "= stream changes exists  4 shards, keeps 48 h, more than asked for: it is not reduced\n")
	require.Contains(t, w.ok(t, shortened...), "= stream changes exists  4 shards, keeps 48 h\n")
	out, err := w.kinesis.DescribeStreamSummary(t.Context(), &kinesis.DescribeStreamSummaryInput{StreamName: ptr("changes")})
	require.NoError(t, err)
	require.Equal(t, "ON_DEMAND", string(out.StreamDescriptionSummary.StreamModeDetails.StreamMode))
	destination("ApproximateCreationDateTimePrecision", nil)(t, w)
	require.Contains(t, w.ok(t, shortened...), "= destination other -> changes exists  the answer does not say its precision\n")
}

func TestCreateRefusesTablesOfAnotherKind(t *testing.T) {
	w := newWorld(t)
	w.CreateTable(t, "leases", "id")
	w.CreateTable(t, "inbox", "eventId", "other")
	r := w.run(t, "create")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.err, `lease table leases: there is a table of this name with other keys: its partition key is "id", not "group"`)
	r = w.run(t, "create", "--leases", "", "--inbox", "inbox", "-o", "json")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.err, `its sort key is "other", not "consumer"`)
	got := decode[createdJSON](t, r.out)
	require.Empty(t, got.Resources)
	require.Contains(t, got.Error, "its sort key is", "and how it ended")
	tables, err := w.dynamodb.ListTables(t.Context(), &dynamodb.ListTablesInput{})
	require.NoError(t, err)
	require.Equal(t, []string{"inbox", "leases"}, tables.TableNames, "nothing is made before all keys are found right")

	_, err = w.dynamodb.CreateTable(t.Context(), &dynamodb.CreateTableInput{TableName: ptr("numbers"), BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{{AttributeName: ptr("eventId"), AttributeType: types.ScalarAttributeTypeN}},
		KeySchema:            []types.KeySchemaElement{{AttributeName: ptr("eventId"), KeyType: types.KeyTypeHash}}})
	require.NoError(t, err)
	r = w.run(t, "create", "--table", "numbers")
	require.Contains(t, r.err, `the key "eventId" is of type N, not S`)

	w.CreateTable(t, "expiring", "eventId")
	_, err = w.dynamodb.UpdateTimeToLive(t.Context(), &dynamodb.UpdateTimeToLiveInput{TableName: ptr("expiring"),
		TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: ptr("else"), Enabled: ptr(true)}})
	require.NoError(t, err)
	r = w.run(t, "create", "--table", "expiring")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.err, `it is on "else", not on "expiresAt"`)
}

// The waiting has an end, and a refused permission is told.
func TestCreateGivesUp(t *testing.T) {
	w := newWorld(t, outboxtest.WithDelays(time.Hour))
	r := w.run(t, "create", "--wait", "1s")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.err, "gave up waiting after 1s (--wait); call again to go on")
	require.Contains(t, r.err, "stream events")

	for _, operation := range []string{"CreateTable", "DescribeTable", "DescribeTimeToLive", "UpdateTimeToLive", "CreateStream", "DescribeStreamSummary",
		"IncreaseStreamRetentionPeriod", "DescribeKinesisStreamingDestination", "EnableKinesisStreamingDestination", "DescribeContinuousBackups",
		"UpdateContinuousBackups", "UpdateTable"} {
		w := newWorld(t)
		if operation == "DescribeTimeToLive" || operation == "DescribeContinuousBackups" { // of what is there
			w.ok(t, "create")
		}
		w.refuse(operation)
		r := w.run(t, "create", "--retention", "48h", "--pitr", "--index", "type")
		require.Equal(t, 1, r.code, operation)
		require.Contains(t, r.err, "AccessDeniedException: User is not authorized", operation)
		require.NotContains(t, r.err, "RequestID", operation)
	}
}
