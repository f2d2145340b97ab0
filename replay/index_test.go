package replay_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/replay"
)

func TestCreateIndex(t *testing.T) {
	synctest.Test(t, createIndex)
}

func createIndex(t *testing.T) {
	w := newWorld(t)
	defer w.Close()
	w.many(t, 3, "a")
	for _, by := range []replay.Index{replay.ByAggregate, replay.ByType} {
		for range 2 { // the second time the index is there
			var steps []replay.IndexProgress
			require.NoError(t, w.events.CreateIndex(t.Context(), by, func(p replay.IndexProgress) { steps = append(steps, p) }))
			require.Equal(t, "ACTIVE", steps[len(steps)-1].Status)
		}
	}
	out, err := w.client.DescribeTable(t.Context(), describe("events"))
	require.NoError(t, err)
	require.Len(t, out.Table.GlobalSecondaryIndexes, 2)
	for _, index := range out.Table.GlobalSecondaryIndexes {
		require.Equal(t, types.ProjectionTypeInclude, index.Projection.ProjectionType)
		require.Contains(t, index.Projection.NonKeyAttributes, "sequence")
		require.NotContains(t, index.Projection.NonKeyAttributes, "payload")
	}
	require.ErrorContains(t, w.events.CreateIndex(t.Context(), "else", nil), "want aggregate or type")
	few, err := replay.New(w.DynamoDB, "events", replay.WithAttributes(outbox.Attributes{AggregateID: outbox.NoAttribute}))
	require.NoError(t, err)
	require.ErrorContains(t, few.CreateIndex(t.Context(), replay.ByAggregate, nil), "the table lacks the attribute")
	missing, err := replay.New(w.DynamoDB, "missing")
	require.NoError(t, err)
	var notFound *types.ResourceNotFoundException
	require.ErrorAs(t, missing.CreateIndex(t.Context(), replay.ByType, nil), &notFound)
}

// On a table with provisioned capacity, an index gets the same capacity.
func TestCreateIndexOfAProvisionedTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.Close()
		_, err := w.DynamoDB.CreateTable(t.Context(), &dynamodb.CreateTableInput{
			TableName:             aws.String("provisioned"),
			AttributeDefinitions:  []types.AttributeDefinition{{AttributeName: aws.String("eventId"), AttributeType: types.ScalarAttributeTypeS}},
			KeySchema:             []types.KeySchemaElement{{AttributeName: aws.String("eventId"), KeyType: types.KeyTypeHash}},
			ProvisionedThroughput: &types.ProvisionedThroughput{ReadCapacityUnits: aws.Int64(3), WriteCapacityUnits: aws.Int64(4)},
		})
		require.NoError(t, err)
		e, err := replay.New(w.DynamoDB, "provisioned")
		require.NoError(t, err)
		require.NoError(t, e.CreateIndex(t.Context(), replay.ByType, nil))
		out, err := w.client.DescribeTable(t.Context(), describe("provisioned"))
		require.NoError(t, err)
		p := out.Table.GlobalSecondaryIndexes[0].ProvisionedThroughput
		require.Equal(t, []int64{3, 4}, []int64{*p.ReadCapacityUnits, *p.WriteCapacityUnits})
	})
}

// CreateIndex waits while DynamoDB fills the index, which is not used until then. A context that ends ends only the waiting.
func TestCreateIndexWaitsUntilItIsActive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.Close()
		w.many(t, 3, "a")
		creating := 7
		w.client.describe = func(out *dynamodbTable) {
			for i := range out.Table.GlobalSecondaryIndexes {
				if creating > 0 {
					out.Table.GlobalSecondaryIndexes[i].IndexStatus = types.IndexStatusCreating
				}
			}
			creating--
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		err := w.events.CreateIndex(ctx, replay.ByType, nil)
		require.ErrorContains(t, err, "replay: index of table events by type: it is CREATING, and DynamoDB goes on with it")

		_, err = ids(t, w.events, replay.Query{Type: "NOTED"})
		require.NoError(t, err)
		require.Zero(t, w.client.queries.Load())
		var steps []string
		require.NoError(t, w.events.CreateIndex(t.Context(), replay.ByType, func(p replay.IndexProgress) { steps = append(steps, p.Status) }))
		require.Equal(t, "CREATING", steps[0])
		require.Equal(t, "ACTIVE", steps[len(steps)-1])
		_, err = ids(t, w.events, replay.Query{Type: "NOTED"})
		require.NoError(t, err)
		require.Equal(t, int64(1), w.client.queries.Load())
	})
}

// An existing index serves if it has the right keys and attributes. Otherwise it is left alone.
func TestIndexesOfOthers(t *testing.T) {
	synctest.Test(t, indexesOfOthers)
}

func indexesOfOthers(t *testing.T) {
	for name, c := range map[string]struct {
		index  types.CreateGlobalSecondaryIndexAction
		serves bool
	}{
		"all attributes": {gsi("mine", "aggregateId", "timestamp", types.ProjectionTypeAll), true},
		"keys only":      {gsi("mine", "aggregateId", "timestamp", types.ProjectionTypeKeysOnly), false},
		"no sort key":    {gsi("mine", "aggregateId", "", types.ProjectionTypeAll), false},
		"another key":    {gsi("mine", "tenant", "timestamp", types.ProjectionTypeAll), false},
	} {
		w := newWorld(t)
		defer w.Close()
		w.many(t, 2, "a")
		w.addIndex(t, c.index)
		got, err := ids(t, w.events, replay.Query{AggregateID: "a"})
		require.NoError(t, err)
		require.Len(t, got, 2)
		require.Equal(t, c.serves, w.client.queries.Load() == 1, name)
		require.NoError(t, w.events.CreateIndex(t.Context(), replay.ByAggregate, nil))
		out, err := w.client.DescribeTable(t.Context(), describe("events"))
		require.NoError(t, err)
		require.Equal(t, c.serves, len(out.Table.GlobalSecondaryIndexes) == 1, name)
	}
	w := newWorld(t)
	defer w.Close()
	w.addIndex(t, gsi("outbox-by-aggregate", "aggregateId", "", types.ProjectionTypeAll))
	require.ErrorContains(t, w.events.CreateIndex(t.Context(), replay.ByAggregate, nil), "there is an index outbox-by-aggregate with other keys or attributes")
}

func gsi(name, partition, sort string, projection types.ProjectionType) types.CreateGlobalSecondaryIndexAction {
	keys := []types.KeySchemaElement{{AttributeName: &partition, KeyType: types.KeyTypeHash}}
	if sort != "" {
		keys = append(keys, types.KeySchemaElement{AttributeName: &sort, KeyType: types.KeyTypeRange})
	}
	return types.CreateGlobalSecondaryIndexAction{IndexName: aws.String(name), KeySchema: keys, Projection: &types.Projection{ProjectionType: projection}}
}

// An index hides no row: CreateIndex finds a row that the index would lack before it makes the index.
func TestAnIndexHidesNoRow(t *testing.T) {
	for name, row := range map[string]item{
		"a time as text":         {"eventId": attrS("odd"), "type": attrS("NOTED"), "aggregateId": attrS("7"), "timestamp": attrS("2023-11-14T22:13:20.002Z"), "payload": attrS("{}")},
		"no time":                {"eventId": attrS("odd"), "type": attrS("NOTED"), "aggregateId": attrS("7"), "payload": attrS("{}")},
		"a number as aggregate":  {"eventId": attrS("odd"), "type": attrS("NOTED"), "aggregateId": attrN("7"), "timestamp": attrN("1700000000003"), "payload": attrS("{}")},
		"no event, and no trace": {"eventId": attrS("fine"), "aggregateId": attrN("7")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				defer w.Close()
				w.put(t, event("ours", "7", 1))
				w.row(t, row)
				err := w.events.CreateIndex(t.Context(), replay.ByAggregate, nil)
				if name == "no event, and no trace" {
					require.NoError(t, err)
					return
				}
				require.ErrorContains(t, err, `the row "odd" is of another form`)
				out, err := w.client.DescribeTable(t.Context(), describe("events"))
				require.NoError(t, err)
				require.Empty(t, out.Table.GlobalSecondaryIndexes)
			})
		})
	}
}
