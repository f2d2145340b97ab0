package dynamo_test

import (
	"context"
	"net/http/httptest"
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

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

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

type (
	av   = types.AttributeValue
	item = map[string]av
)

func s(v string) av { return &types.AttributeValueMemberS{Value: v} }

func n(v string) av { return &types.AttributeValueMemberN{Value: v} }

func b(v string) av { return &types.AttributeValueMemberB{Value: []byte(v)} }

func ss(v ...string) av { return &types.AttributeValueMemberSS{Value: v} }

func l(v ...av) av { return &types.AttributeValueMemberL{Value: append([]av{}, v...)} }

func m(v item) av { return &types.AttributeValueMemberM{Value: v} }

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

// requireError checks an error's code and exact message.
func requireError(t *testing.T, err error, code, message string) {
	t.Helper()
	require.Error(t, err)
	var api smithy.APIError
	require.ErrorAs(t, err, &api)
	require.Equal(t, code, api.ErrorCode(), "%v", err)
	require.Equal(t, message, api.ErrorMessage())
}

func requireInvalid(t *testing.T, err error, message string) {
	t.Helper()
	requireError(t, err, "ValidationException", message)
}
