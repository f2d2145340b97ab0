package replay_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
	"github.com/seed-1b628d3f/outbox/replay"
)

// item is a row, as the SDK has it.
type item = map[string]types.AttributeValue

// attrS is a string attribute, and attrN a number.
func attrS(v string) types.AttributeValue { return &types.AttributeValueMemberS{Value: v} }
func attrN(v string) types.AttributeValue { return &types.AttributeValueMemberN{Value: v} }

// counting is a client that counts how the table is searched, and lets a test answer in DynamoDB's place.
type counting struct {
	*dynamodb.Client
	scans, queries, gets atomic.Int64
	describe             func(*dynamodb.DescribeTableOutput)
	get                  func(*dynamodb.BatchGetItemInput) (*dynamodb.BatchGetItemOutput, error)
}

func (c *counting) Scan(ctx context.Context, in *dynamodb.ScanInput, opts ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error) {
	c.scans.Add(1)
	if !aws.ToBool(in.ConsistentRead) {
		return nil, errors.New("not strongly consistent")
	}
	return c.Client.Scan(ctx, in, opts...)
}

func (c *counting) Query(ctx context.Context, in *dynamodb.QueryInput, opts ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	c.queries.Add(1)
	return c.Client.Query(ctx, in, opts...)
}

func (c *counting) BatchGetItem(ctx context.Context, in *dynamodb.BatchGetItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	c.gets.Add(1)
	if !aws.ToBool(in.RequestItems["events"].ConsistentRead) && in.RequestItems["events"].Keys != nil {
		return nil, errors.New("not strongly consistent")
	}
	if c.get != nil {
		if out, err := c.get(in); out != nil || err != nil {
			return out, err
		}
	}
	return c.Client.BatchGetItem(ctx, in, opts...)
}

func (c *counting) DescribeTable(ctx context.Context, in *dynamodb.DescribeTableInput, opts ...func(*dynamodb.Options)) (*dynamodb.DescribeTableOutput, error) {
	out, err := c.Client.DescribeTable(ctx, in, opts...)
	if err == nil && c.describe != nil {
		c.describe(out)
	}
	return out, err
}

// world is an AWS with an events table.
type world struct {
	*outboxtest.AWS
	client *counting
	writer *outbox.Writer
	events *replay.Events
}

// newWorld makes a world with an empty table.
func newWorld(t testing.TB, opts ...replay.Option) *world { return newWorldOf(t, 2, opts...) }

// newWorldOf makes a world whose stream has as many shards.
func newWorldOf(t testing.TB, shards int, opts ...replay.Option) *world {
	cloud := outboxtest.Start(t)
	cloud.CreateOutbox(t, "events", "events", shards)
	w := &world{AWS: cloud, client: &counting{Client: cloud.DynamoDB}}
	var err error
	w.writer, err = outbox.NewWriter(cloud.DynamoDB, "events")
	require.NoError(t, err)
	w.events, err = replay.New(w.client, "events", opts...)
	require.NoError(t, err)
	return w
}

// put writes events as they are.
func (w *world) put(t testing.TB, records ...outbox.Record) {
	for _, r := range records {
		require.NoError(t, w.writer.Transact(t.Context(), nil, r))
	}
}

// row puts an item into the table without the Writer.
func (w *world) row(t testing.TB, i item) {
	_, err := w.DynamoDB.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("events"), Item: i})
	require.NoError(t, err)
}

// remove deletes an event.
func (w *world) remove(t testing.TB, id string) {
	_, err := w.DynamoDB.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: aws.String("events"), Key: item{"eventId": attrS(id)}})
	require.NoError(t, err)
}

// all returns every id in the table.
func (w *world) all(t testing.TB) map[string]outbox.Record {
	out, err := w.DynamoDB.Scan(t.Context(), &dynamodb.ScanInput{TableName: aws.String("events")})
	require.NoError(t, err)
	records := map[string]outbox.Record{}
	for _, i := range out.Items {
		r, err := outbox.DecodeItem(i)
		require.NoError(t, err)
		records[r.ID] = r
	}
	return records
}

// ids iterates to the end and returns the ids, or the error.
func ids(t testing.TB, e *replay.Events, q replay.Query) ([]string, error) {
	found := []string{}
	for r, err := range e.Records(t.Context(), q) {
		if err != nil {
			return found, err
		}
		found = append(found, r.ID)
	}
	return found, nil
}

// epoch is the time of the first events.
var epoch = time.UnixMilli(1_700_000_000_000).UTC()

// at is a time so many milliseconds after the beginning.
func at(ms int) time.Time { return epoch.Add(time.Duration(ms) * time.Millisecond) }

// event is an event of one aggregate, at a time.
func event(id, aggregate string, ms int) outbox.Record {
	return outbox.Record{ID: id, Type: "NOTED", AggregateID: aggregate, Time: at(ms), Payload: []byte(`{"n":1}`)}
}

// random returns events with few aggregates, types and times, so that they coincide.
func random(rng *rand.Rand, n int) []outbox.Record {
	events := make([]outbox.Record, n)
	for i := range events {
		r := event(fmt.Sprintf("%04d-%03d", rng.IntN(10_000), i), []string{"", "a", "b", "7"}[rng.IntN(4)], rng.IntN(40))
		r.Type = []string{"NOTED", "PAID", "SENT"}[rng.IntN(3)]
		if rng.IntN(2) == 0 {
			r.Sequence = 1 + rng.Int64N(20)
		}
		events[i] = r
	}
	return events
}

// noted is the event that consumers handle.
type noted struct {
	N int `json:"n"`
}

func (noted) EventType() string { return "NOTED" }

// newConsumer makes a Consumer of the table with this handler.
func newConsumer(t testing.TB, handle func(context.Context, outbox.Event[noted]) error, opts ...outbox.ConsumerOption) *outbox.Consumer {
	c, err := outbox.NewConsumer(append([]outbox.ConsumerOption{outbox.WithTables("events"), outbox.WithLogger(slog.New(slog.DiscardHandler))}, opts...)...)
	require.NoError(t, err)
	outbox.Handle(c, handle)
	return c
}

// unreached is a handler that must not be reached.
func unreached(context.Context, outbox.Event[noted]) error { panic("nothing should have been handled") }

// dynamodbTable is the answer of DescribeTable.
type dynamodbTable = dynamodb.DescribeTableOutput

// describe asks for a table's description.
func describe(table string) *dynamodb.DescribeTableInput {
	return &dynamodb.DescribeTableInput{TableName: &table}
}

// addIndex adds a global secondary index to the table.
func (w *world) addIndex(t testing.TB, index types.CreateGlobalSecondaryIndexAction) {
	var attributes []types.AttributeDefinition
	for _, k := range index.KeySchema {
		kind := types.ScalarAttributeTypeS
		if *k.AttributeName == "timestamp" {
			kind = types.ScalarAttributeTypeN
		}
		attributes = append(attributes, types.AttributeDefinition{AttributeName: k.AttributeName, AttributeType: kind})
	}
	_, err := w.DynamoDB.UpdateTable(t.Context(), &dynamodb.UpdateTableInput{TableName: aws.String("events"), AttributeDefinitions: attributes,
		GlobalSecondaryIndexUpdates: []types.GlobalSecondaryIndexUpdate{{Create: &index}}})
	require.NoError(t, err)
}

// many puts n events for each of the aggregates, in turn, and returns their ids by aggregate.
func (w *world) many(t testing.TB, n int, aggregates ...string) map[string][]string {
	ids := map[string][]string{}
	for i := range n {
		for _, a := range aggregates {
			r := event(fmt.Sprintf("%s-%03d", a, i), a, i)
			w.put(t, r)
			ids[a] = append(ids[a], r.ID)
		}
	}
	return ids
}

// copyID is the id of a copy, as docs/event-row.md has it.
func copyID(original, run string) string {
	id := original + "#replay#" + run
	return fmt.Sprintf("%s#%x", id, sha256.Sum256([]byte(id)))[:len(id)+9]
}
