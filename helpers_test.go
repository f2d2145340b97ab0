package outbox_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/gob"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// bubble runs a test with a clock of its own, in which waiting is free.
func bubble(t *testing.T, f func(*testing.T)) { synctest.Test(t, f) }

// ptr returns a pointer to a copy of v.
func ptr[T any](v T) *T { return &v }

// orderCreated is the event of most tests.
type orderCreated struct {
	OrderID     string `json:"orderId"`
	Description string `json:"description"`
}

func (orderCreated) EventType() string { return "ORDER_CREATED" }

// orderPaid is an event whose pointer has the method.
type orderPaid struct{ Cents int }

func (*orderPaid) EventType() string { return "ORDER_PAID" }

// order is the item that is written with an event.
type order struct {
	ID string `dynamodbav:"orderId"`
}

// event is an ORDER_CREATED of order-1.
func event(id string) outbox.Event[orderCreated] {
	return outbox.Event[orderCreated]{ID: id, AggregateID: "order-1", Time: time.UnixMilli(1719347890250), Data: orderCreated{"order-1", "x"}}
}

// rec is a record of type "T" with an empty object as payload.
func rec(id, aggregate string) outbox.Record {
	return outbox.Record{ID: id, Type: "T", AggregateID: aggregate, Payload: []byte(`{}`)}
}

// changeRecord is a change record of an inserted event of type "T".
func changeRecord(id, aggregate string) string {
	return fmt.Sprintf(`{"eventName":"INSERT","tableName":"events","dynamodb":{"ApproximateCreationDateTime":1719347890250,`+
		`"NewImage":{"eventId":{"S":%q},"type":{"S":"T"},"timestamp":{"N":"1719347890250"},"aggregateId":{"S":%q},"payload":{"S":"{}"}}}}`, id, aggregate)
}

// golden reads a stored change record.
func golden(t testing.TB, name string) []byte {
	data, err := os.ReadFile(filepath.Join("testdata", "records", name+".json"))
	require.NoError(t, err)
	return data
}

// values is an item, as the SDK has it.
type values = map[string]types.AttributeValue

// str is a string attribute.
func str(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

// num is a number attribute.
func num(s string) types.AttributeValue { return &types.AttributeValueMemberN{Value: s} }

// putNew puts an order that must not exist.
func putNew(id string) types.TransactWriteItem {
	return types.TransactWriteItem{Put: &types.Put{
		TableName: aws.String("orders"), Item: values{"orderId": str(id)}, ConditionExpression: aws.String("attribute_not_exists(orderId)")}}
}

// tenantKey is the key of a context's tenant, for headers.
type tenantKey struct{}

// gobCodec is a codec that is not JSON.
type gobCodec struct{ contentType string }

func (c gobCodec) ContentType() string { return c.contentType }

func (gobCodec) Marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(v)
	return b.Bytes(), err
}

func (gobCodec) Unmarshal(data []byte, v any) error {
	return gob.NewDecoder(bytes.NewReader(data)).Decode(v)
}

// quiet is a logger that drops everything.
func quiet() outbox.ConsumerOption { return outbox.WithLogger(slog.New(slog.DiscardHandler)) }

// newConsumer makes a Consumer that logs nothing unless the options say otherwise.
func newConsumer(t testing.TB, opts ...outbox.ConsumerOption) *outbox.Consumer {
	c, err := outbox.NewConsumer(append([]outbox.ConsumerOption{quiet()}, opts...)...)
	require.NoError(t, err)
	return c
}

// kinesisEvent is an invocation whose records have the sequence numbers s0, s1, ...
func kinesisEvent(data ...string) []byte {
	var records []string
	for i, d := range data {
		records = append(records, fmt.Sprintf(`{"kinesis":{"kinesisSchemaVersion":"1.0","partitionKey":"859F","sequenceNumber":"s%d","data":%q,`+
			`"approximateArrivalTimestamp":1731924555.932},"eventSource":"aws:kinesis","eventVersion":"1.0","eventID":"shardId-000000000007:s%d",`+
			`"eventName":"aws:kinesis:record","invokeIdentityArn":"arn","awsRegion":"eu-west-1","eventSourceARN":"arn:aws:kinesis:eu-west-1:1:stream/events"}`,
			i, base64.StdEncoding.EncodeToString([]byte(d)), i))
	}
	return []byte(`{"Records":[` + strings.Join(records, ",") + `]}`)
}

// unfinished is the answer of Invoke that names this record as the first unfinished one; "" is none.
func unfinished(number string) string {
	if number == "" {
		return `{"batchItemFailures":[]}`
	}
	return `{"batchItemFailures":[{"itemIdentifier":"` + number + `"}]}`
}

// newWriter makes a Writer of the table "events".
func newWriter(t testing.TB, c outbox.WriterClient, opts ...outbox.WriterOption) *outbox.Writer {
	w, err := outbox.NewWriter(c, "events", opts...)
	require.NoError(t, err)
	return w
}

// clockStart is the time of a new testClock, in Unix milliseconds.
const clockStart = 1_719_347_890_250

// testClock is moved by hand.
type testClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *testClock) read() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *testClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// world is an AWS with the two tables, a stream, and the destination between them.
type world struct {
	*outboxtest.AWS
	*testClock
	writer *outbox.Writer
}

// newWorld is a world whose clock is moved by hand.
func newWorld(t *testing.T, opts ...outboxtest.Option) *world {
	clock := &testClock{now: time.UnixMilli(clockStart)}
	w := newWorldWith(t, append(opts, outboxtest.WithClock(clock.read))...)
	w.testClock = clock
	return w
}

// newWorldWith is a world with exactly these options.
func newWorldWith(t *testing.T, opts ...outboxtest.Option) *world {
	w := &world{AWS: outboxtest.Start(t, opts...)}
	for table, key := range map[string]string{"orders": "orderId", "events": "eventId"} {
		_, err := w.DynamoDB.CreateTable(t.Context(), &dynamodb.CreateTableInput{
			TableName:            &table,
			AttributeDefinitions: []types.AttributeDefinition{{AttributeName: &key, AttributeType: types.ScalarAttributeTypeS}},
			KeySchema:            []types.KeySchemaElement{{AttributeName: &key, KeyType: types.KeyTypeHash}},
			BillingMode:          types.BillingModePayPerRequest,
		})
		require.NoError(t, err)
	}
	_, err := w.Kinesis.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: aws.String("events"), ShardCount: aws.Int32(2)})
	require.NoError(t, err)
	stream, err := w.Kinesis.DescribeStreamSummary(t.Context(), &kinesis.DescribeStreamSummaryInput{StreamName: aws.String("events")})
	require.NoError(t, err)
	_, err = w.DynamoDB.EnableKinesisStreamingDestination(t.Context(), &dynamodb.EnableKinesisStreamingDestinationInput{
		TableName: aws.String("events"), StreamArn: stream.StreamDescriptionSummary.StreamARN,
		EnableKinesisStreamingConfiguration: &types.EnableKinesisStreamingConfiguration{
			ApproximateCreationDateTimePrecision: types.ApproximateCreationDateTimePrecisionMicrosecond}})
	require.NoError(t, err)
	w.writer = newWriter(t, w.DynamoDB)
	return w
}

// row returns the item of a table with this key, or nil.
func (w *world) row(t *testing.T, table, key, value string) values {
	out, err := w.DynamoDB.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: &table, Key: values{key: str(value)}, ConsistentRead: aws.Bool(true)})
	require.NoError(t, err)
	return out.Item
}

// requireRows checks how many orders and events are stored.
func (w *world) requireRows(t *testing.T, orders, events int64) {
	t.Helper()
	for table, want := range map[string]int64{"orders": orders, "events": events} {
		out, err := w.DynamoDB.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: &table})
		require.NoError(t, err)
		require.Equalf(t, want, aws.ToInt64(out.Table.ItemCount), "rows in table %s", table)
	}
}

// records returns the data of everything in the stream.
func (w *world) records(t *testing.T) [][]byte {
	require.NoError(t, w.Drain(t.Context()))
	shards, err := w.Kinesis.ListShards(t.Context(), &kinesis.ListShardsInput{StreamName: aws.String("events")})
	require.NoError(t, err)
	var all [][]byte
	for _, shard := range shards.Shards {
		it, err := w.Kinesis.GetShardIterator(t.Context(), &kinesis.GetShardIteratorInput{StreamName: aws.String("events"),
			ShardId: shard.ShardId, ShardIteratorType: kinesistypes.ShardIteratorTypeTrimHorizon})
		require.NoError(t, err)
		for next := it.ShardIterator; ; {
			out, err := w.Kinesis.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: next})
			require.NoError(t, err)
			if len(out.Records) == 0 {
				break
			}
			for _, r := range out.Records {
				all = append(all, r.Data)
			}
			next = out.NextShardIterator
		}
	}
	return all
}

// requireOneChangeRecordEach checks that the whole stream has one change record of each event.
func (w *world) requireOneChangeRecordEach(t *testing.T, events int) {
	seen := map[string]int{}
	for _, data := range w.records(t) {
		record, err := outbox.DecodeRecord(data)
		require.NoErrorf(t, err, "%s", data)
		seen[record.ID]++
	}
	require.Len(t, seen, events)
	for id, n := range seen {
		require.Equalf(t, 1, n, "change records of %s", id)
	}
}

// recordingClient answers every transaction with err and keeps what it was sent.
type recordingClient struct {
	sent []*dynamodb.TransactWriteItemsInput
	err  error
}

func (c *recordingClient) TransactWriteItems(_ context.Context, in *dynamodb.TransactWriteItemsInput, _ ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error) {
	c.sent = append(c.sent, in)
	return &dynamodb.TransactWriteItemsOutput{}, c.err
}

// scriptedClient answers one call after the other, and the last for ever.
type scriptedClient struct {
	answers []error
	sent    []*dynamodb.TransactWriteItemsInput
	at      []time.Time
}

func (s *scriptedClient) TransactWriteItems(_ context.Context, in *dynamodb.TransactWriteItemsInput, _ ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error) {
	n := min(len(s.sent), len(s.answers)-1)
	s.sent, s.at = append(s.sent, in), append(s.at, time.Now())
	return &dynamodb.TransactWriteItemsOutput{}, s.answers[n]
}

// canceled is DynamoDB's answer to a transaction that one of the codes stopped.
func canceled(reasons ...types.CancellationReason) error {
	return &types.TransactionCanceledException{Message: aws.String("Transaction cancelled"), CancellationReasons: reasons}
}

// reason is a reason of a cancelled transaction.
func reason(code string) types.CancellationReason { return types.CancellationReason{Code: &code} }

// apiError is an error of the API with this code.
type apiError struct{ code string }

func (e apiError) Error() string { return e.code }

func (e apiError) ErrorCode() string { return e.code }

// answer is what a scripted server says: a status and a body, or a broken connection.
type answer struct {
	status int
	body   string
}

// The answers that tests script.
var (
	lostAnswer = answer{}
	denied     = answer{http.StatusBadRequest, `{"__type":"com.amazon.coral.service#AccessDeniedException","message":"no"}`}
	throttled  = answer{http.StatusBadRequest, `{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"slow down"}`}
	failure    = answer{http.StatusInternalServerError, `{"__type":"com.amazonaws.dynamodb.v20120810#InternalServerError","message":"oops"}`}
	conflict   = answer{http.StatusBadRequest, `{"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException","Message":"Transaction cancelled",` +
		`"CancellationReasons":[{"Code":"TransactionConflict"},{"Code":"None"}]}`}
	condition = answer{http.StatusBadRequest, `{"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException","Message":"Transaction cancelled",` +
		`"CancellationReasons":[{"Code":"ConditionalCheckFailed"},{"Code":"None"}]}`}
	limit = answer{http.StatusBadRequest, `{"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException","Message":"Transaction cancelled",` +
		`"CancellationReasons":[{"Code":"ItemCollectionSizeLimitExceeded"},{"Code":"TransactionConflict"}]}`}
	mismatch    = answer{http.StatusBadRequest, `{"__type":"com.amazonaws.dynamodb.v20120810#IdempotentParameterMismatchException","Message":"different"}`}
	unavailable = answer{http.StatusServiceUnavailable, `<html>busy</html>`}
	goingOn     = answer{http.StatusBadRequest, `{"__type":"com.amazonaws.dynamodb.v20120810#TransactionInProgressException","Message":"in progress"}`}
	itemIsHeld  = answer{http.StatusBadRequest, `{"__type":"com.amazonaws.dynamodb.v20120810#TransactionConflictException","message":"Transaction is ongoing for the item"}`}
	done        = answer{http.StatusOK, `{}`}
)

// brokenTable fails some calls for good.
type brokenTable struct {
	*dynamodb.Client
	updates, deletes bool
	calls            int
}

func (b *brokenTable) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	if b.updates {
		b.calls++
		return nil, errNoPermission
	}
	return b.Client.UpdateItem(ctx, in, opts...)
}

func (b *brokenTable) DeleteItem(ctx context.Context, in *dynamodb.DeleteItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error) {
	if b.deletes {
		b.calls++
		return nil, errNoPermission
	}
	return b.Client.DeleteItem(ctx, in, opts...)
}

// errNoPermission is what clients that may not do something return.
var errNoPermission = errors.New("no permission to read")

// refusingClient is a client that answers one operation with an error for as long as it is told to.
type refusingClient struct {
	outbox.DeadLetterClient
	operation string
	refuse    atomic.Bool
}

// check says whether this operation is refused now.
func (r *refusingClient) check(operation string) error {
	if r.refuse.Load() && operation == r.operation {
		return errors.New("refused")
	}
	return nil
}

func (r *refusingClient) Query(ctx context.Context, in *dynamodb.QueryInput, opts ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	if err := r.check("Query"); err != nil {
		return nil, err
	}
	return r.DeadLetterClient.Query(ctx, in, opts...)
}

func (r *refusingClient) TransactWriteItems(ctx context.Context, in *dynamodb.TransactWriteItemsInput, opts ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error) {
	if err := r.check("TransactWriteItems"); err != nil {
		return nil, err
	}
	return r.DeadLetterClient.TransactWriteItems(ctx, in, opts...)
}
