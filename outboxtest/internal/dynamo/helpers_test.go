package dynamo_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/dynamo"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// av is an attribute value. The functions below make them.
type av = types.AttributeValue

// item is a row, as the SDK has it.
type item = map[string]av

func s(v string) av { return &types.AttributeValueMemberS{Value: v} }

func n(v string) av { return &types.AttributeValueMemberN{Value: v} }

func b(v string) av { return &types.AttributeValueMemberB{Value: []byte(v)} }

func ss(v ...string) av { return &types.AttributeValueMemberSS{Value: v} }

func l(v ...av) av { return &types.AttributeValueMemberL{Value: append([]av{}, v...)} }

func m(v item) av { return &types.AttributeValueMemberM{Value: v} }

// texts are the texts of one attribute of the items, in order.
func texts(items []item, name string) []string {
	out := []string{}
	for _, it := range items {
		switch v := it[name].(type) {
		case *types.AttributeValueMemberS:
			out = append(out, v.Value)
		case *types.AttributeValueMemberN:
			out = append(out, v.Value)
		case *types.AttributeValueMemberB:
			out = append(out, string(v.Value))
		}
	}
	return out
}

// world is a DB, a client that talks to it over HTTP, a clock and the changes that were announced.
type world struct {
	*dynamodb.Client
	t   *testing.T
	db  *dynamo.DB
	url string

	mu      sync.Mutex
	now     time.Time
	changes []dynamo.Change
}

// newWorld makes a world without tables.
func newWorld(t *testing.T, options ...func(*dynamo.Config)) *world {
	t.Helper()
	w := &world{t: t, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	cfg := dynamo.Config{
		Now: w.clock,
		OnChange: func(c dynamo.Change) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.changes = append(w.changes, c)
		},
	}
	for _, o := range options {
		o(&cfg)
	}
	w.db = dynamo.New(cfg)
	server := httptest.NewServer(wire.DynamoDB().Handler(w.db))
	t.Cleanup(server.Close)
	w.url = server.URL
	w.Client = dynamodb.New(dynamodb.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(server.URL), HTTPClient: outboxtest.BufferedClient(nil),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "id", SecretAccessKey: "secret"}, nil
		}),
		RetryMaxAttempts: 1,
	})
	return w
}

// clock is the DB's clock.
func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// advance moves the clock on.
func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// taken hands over the changes announced since the last call.
func (w *world) taken() []dynamo.Change {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.changes
	w.changes = nil
	return out
}

// create makes an on-demand table with the given keys, written like "pk:S" or "pk:S sk:N".
func (w *world) create(name string, keys ...string) {
	w.t.Helper()
	in := &dynamodb.CreateTableInput{TableName: &name, BillingMode: types.BillingModePayPerRequest}
	for i, key := range keys {
		attribute, kind := key[:len(key)-2], key[len(key)-1:]
		in.AttributeDefinitions = append(in.AttributeDefinitions, types.AttributeDefinition{
			AttributeName: &attribute, AttributeType: types.ScalarAttributeType(kind)})
		keyType := types.KeyTypeHash
		if i > 0 {
			keyType = types.KeyTypeRange
		}
		in.KeySchema = append(in.KeySchema, types.KeySchemaElement{AttributeName: &attribute, KeyType: keyType})
	}
	_, err := w.CreateTable(w.t.Context(), in)
	require.NoError(w.t, err)
}

// put writes an item without conditions.
func (w *world) put(table string, it item) {
	w.t.Helper()
	_, err := w.PutItem(w.t.Context(), &dynamodb.PutItemInput{TableName: &table, Item: it})
	require.NoError(w.t, err)
}

// get reads an item; nil if there is none.
func (w *world) get(table string, key item) item {
	w.t.Helper()
	out, err := w.GetItem(w.t.Context(), &dynamodb.GetItemInput{TableName: &table, Key: key, ConsistentRead: aws.Bool(true)})
	require.NoError(w.t, err)
	return out.Item
}

// raw sends a request as it stands and returns the answer's status and document.
func (w *world) raw(operation, body string) (int, map[string]any) {
	w.t.Helper()
	status, data := w.text(operation, body)
	var doc map[string]any
	require.NoError(w.t, json.Unmarshal([]byte(data), &doc), data)
	return status, doc
}

// text sends a request as it stands and returns the answer's status and body.
func (w *world) text(operation, body string) (int, string) {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.url, strings.NewReader(body))
	require.NoError(w.t, err)
	r.Header.Set("X-Amz-Target", "DynamoDB_20120810."+operation)
	r.Header.Set("Content-Type", "application/x-amz-json-1.0")
	resp, err := http.DefaultClient.Do(r)
	require.NoError(w.t, err)
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	require.NoError(w.t, err)
	return resp.StatusCode, string(data)
}

// transact writes items in one transaction; the token may be "".
func (w *world) transact(token string, items ...types.TransactWriteItem) error {
	in := &dynamodb.TransactWriteItemsInput{TransactItems: items}
	if token != "" {
		in.ClientRequestToken = &token
	}
	_, err := w.TransactWriteItems(w.t.Context(), in)
	return err
}

// refused sends a request as it is written and returns the text of the ValidationException.
func (w *world) refused(operation, body string) string {
	w.t.Helper()
	status, doc := w.raw(operation, body)
	require.Equal(w.t, http.StatusBadRequest, status, "%s %s: %v", operation, body, doc)
	require.Equal(w.t, "com.amazon.coral.validate#ValidationException", doc["__type"], "%v", doc)
	message, _ := doc["message"].(string)
	return message
}

// putRequest is a put in a batch.
func putRequest(it item) types.WriteRequest {
	return types.WriteRequest{PutRequest: &types.PutRequest{Item: it}}
}

// deleteRequest is a delete in a batch.
func deleteRequest(key item) types.WriteRequest {
	return types.WriteRequest{DeleteRequest: &types.DeleteRequest{Key: key}}
}

// keysOf is a key schema; rng may be "".
func keysOf(hash, rng string) []types.KeySchemaElement {
	out := []types.KeySchemaElement{{AttributeName: &hash, KeyType: types.KeyTypeHash}}
	if rng != "" {
		out = append(out, types.KeySchemaElement{AttributeName: &rng, KeyType: types.KeyTypeRange})
	}
	return out
}

// defsOf defines attributes written like "pk:S".
func defsOf(defs ...string) []types.AttributeDefinition {
	var out []types.AttributeDefinition
	for _, d := range defs {
		name, kind, _ := strings.Cut(d, ":")
		out = append(out, types.AttributeDefinition{AttributeName: &name, AttributeType: types.ScalarAttributeType(kind)})
	}
	return out
}

// projectionOf is an index's projection.
func projectionOf(kind types.ProjectionType, attributes ...string) *types.Projection {
	return &types.Projection{ProjectionType: kind, NonKeyAttributes: attributes}
}

// indexed makes a table with a global index by number of everything, one of keys only, one of some
// attributes, and a local one of keys only.
func indexed(t *testing.T) *world {
	w := newWorld(t)
	_, err := w.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName: aws.String("rows"), BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: defsOf("pk:S", "sk:N", "g:S", "r:N", "z:S"), KeySchema: keysOf("pk", "sk"),
		GlobalSecondaryIndexes: []types.GlobalSecondaryIndex{
			{IndexName: aws.String("all"), KeySchema: keysOf("g", "r"), Projection: projectionOf(types.ProjectionTypeAll)},
			{IndexName: aws.String("keys"), KeySchema: keysOf("g", ""), Projection: projectionOf(types.ProjectionTypeKeysOnly)},
			{IndexName: aws.String("some"), KeySchema: keysOf("g", ""), Projection: projectionOf(types.ProjectionTypeInclude, "v")},
		},
		LocalSecondaryIndexes: []types.LocalSecondaryIndex{
			{IndexName: aws.String("local"), KeySchema: keysOf("pk", "z"), Projection: projectionOf(types.ProjectionTypeKeysOnly)},
		},
	})
	require.NoError(t, err)
	return w
}

// conditionOf is a condition of the legacy parameters.
func conditionOf(operator types.ComparisonOperator, values ...av) types.Condition {
	return types.Condition{ComparisonOperator: operator, AttributeValueList: values}
}

// putOf is a put in a transaction; with a condition it asks for the old row.
func putOf(table string, it item, condition ...string) types.TransactWriteItem {
	p := &types.Put{TableName: &table, Item: it}
	if len(condition) > 0 {
		p.ConditionExpression = &condition[0]
		p.ReturnValuesOnConditionCheckFailure = types.ReturnValuesOnConditionCheckFailureAllOld
	}
	return types.TransactWriteItem{Put: p}
}

// checkOf is a condition check in a transaction that asks for the old row.
func checkOf(table string, key item, condition string) types.TransactWriteItem {
	return types.TransactWriteItem{ConditionCheck: &types.ConditionCheck{
		TableName: &table, Key: key, ConditionExpression: &condition,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}}
}

// requireError checks an error's code and exact message.
func requireError(t *testing.T, err error, code, message string) {
	t.Helper()
	require.Error(t, err)
	var api smithy.APIError
	require.ErrorAs(t, err, &api)
	require.Equal(t, code, api.ErrorCode(), "%v", err)
	require.Equal(t, message, api.ErrorMessage())
}

// requireInvalid checks for a ValidationException with this message.
func requireInvalid(t *testing.T, err error, message string) {
	t.Helper()
	requireError(t, err, "ValidationException", message)
}

// enveloped begins the message about a parameter out of its constraints.
const enveloped = "1 validation error detected: "

// invalid begins the message about parameter values.
const invalid = "One or more parameter values were invalid: "
