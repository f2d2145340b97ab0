package integration

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"
)

// The words in which cases are written.

type item = map[string]types.AttributeValue

func s(v string) types.AttributeValue                  { return &types.AttributeValueMemberS{Value: v} }
func n(v any) types.AttributeValue                     { return &types.AttributeValueMemberN{Value: fmt.Sprint(v)} }
func b(v string) types.AttributeValue                  { return &types.AttributeValueMemberB{Value: []byte(v)} }
func yes(v bool) types.AttributeValue                  { return &types.AttributeValueMemberBOOL{Value: v} }
func null() types.AttributeValue                       { return &types.AttributeValueMemberNULL{Value: true} }
func m(v item) types.AttributeValue                    { return &types.AttributeValueMemberM{Value: v} }
func l(v ...types.AttributeValue) types.AttributeValue { return &types.AttributeValueMemberL{Value: v} }
func ss(v ...string) types.AttributeValue              { return &types.AttributeValueMemberSS{Value: v} }
func ns(v ...string) types.AttributeValue              { return &types.AttributeValueMemberNS{Value: v} }
func bs(v ...string) types.AttributeValue {
	out := &types.AttributeValueMemberBS{}
	for _, e := range v {
		out.Value = append(out.Value, []byte(e))
	}
	return out
}

// str is the text of an S or N, or "".
func str(v types.AttributeValue) string {
	switch v := v.(type) {
	case *types.AttributeValueMemberS:
		return v.Value
	case *types.AttributeValueMemberN:
		return v.Value
	}
	return ""
}

// column is one attribute of the items, as text, in the items' order.
func column(items []item, name string) []string {
	out := []string{}
	for _, i := range items {
		out = append(out, str(i[name]))
	}
	return out
}

var (
	runID    = strings.ToLower(rand.Text()[:8]) // a real account may hold what an earlier run left
	sequence atomic.Int64
)

func unique(what string) string {
	return fmt.Sprintf("outbox-cases-%s-%d-%s", runID, sequence.Add(1), what)
}

// attribute is a name with a type, as in "pk:S".
func attribute(text string) (name string, kind types.ScalarAttributeType) {
	name, k, _ := strings.Cut(text, ":")
	return name, types.ScalarAttributeType(k)
}

// tableOption changes the request that creates a table.
type tableOption func(*dynamodb.CreateTableInput)

func define(in *dynamodb.CreateTableInput, text string) *string {
	name, kind := attribute(text)
	for _, d := range in.AttributeDefinitions {
		if *d.AttributeName == name {
			return &name
		}
	}
	in.AttributeDefinitions = append(in.AttributeDefinitions, types.AttributeDefinition{AttributeName: &name, AttributeType: kind})
	return &name
}

func keySchema(in *dynamodb.CreateTableInput, hash, sort string) []types.KeySchemaElement {
	out := []types.KeySchemaElement{{AttributeName: define(in, hash), KeyType: types.KeyTypeHash}}
	if sort != "" {
		out = append(out, types.KeySchemaElement{AttributeName: define(in, sort), KeyType: types.KeyTypeRange})
	}
	return out
}

// index adds a global secondary index; sort may be empty; included attributes make it INCLUDE, "*" makes it ALL.
func index(name, hash, sort string, included ...string) tableOption {
	return func(in *dynamodb.CreateTableInput) {
		p := &types.Projection{ProjectionType: types.ProjectionTypeKeysOnly}
		switch {
		case len(included) == 1 && included[0] == "*":
			p.ProjectionType = types.ProjectionTypeAll
		case len(included) > 0:
			p.ProjectionType, p.NonKeyAttributes = types.ProjectionTypeInclude, included
		}
		in.GlobalSecondaryIndexes = append(in.GlobalSecondaryIndexes, types.GlobalSecondaryIndex{
			IndexName: &name, KeySchema: keySchema(in, hash, sort), Projection: p})
	}
}

// table creates a table with a key like "pk:S" or "pk:S sk:N", waits until it is ACTIVE, and removes it after the case.
func (c clients) table(t *trial, key string, opts ...tableOption) string {
	return c.tableNamed(t, unique("table"), key, opts...)
}

func (c clients) tableNamed(t *trial, name, key string, opts ...tableOption) string {
	hash, sort, _ := strings.Cut(key, " ")
	in := &dynamodb.CreateTableInput{TableName: &name, BillingMode: types.BillingModePayPerRequest}
	in.KeySchema = keySchema(in, hash, sort)
	for _, o := range opts {
		o(in)
	}
	_, err := c.DynamoDB.CreateTable(t.Context(), in)
	require.NoError(t, err)
	t.Cleanup(func(ctx context.Context) {
		_, _ = c.DynamoDB.DeleteTable(ctx, &dynamodb.DeleteTableInput{TableName: &name})
	})
	t.eventually("the table is not ACTIVE", func() bool {
		out, err := c.DynamoDB.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: &name})
		require.NoError(t, err)
		for _, g := range out.Table.GlobalSecondaryIndexes {
			if g.IndexStatus != types.IndexStatusActive {
				return false
			}
		}
		return out.Table.TableStatus == types.TableStatusActive
	})
	return name
}

// put stores items.
func (c clients) put(t *trial, table string, items ...item) {
	t.Helper()
	for _, i := range items {
		_, err := c.DynamoDB.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &table, Item: i})
		require.NoError(t, err)
	}
}

// get reads an item; nil if there is none.
func (c clients) get(t *trial, table string, key item) item {
	t.Helper()
	out, err := c.DynamoDB.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: &table, Key: key, ConsistentRead: aws.Bool(true)})
	require.NoError(t, err)
	return out.Item
}

// all reads a table.
func (c clients) all(t *trial, table string) []item {
	t.Helper()
	var out []item
	pages := dynamodb.NewScanPaginator(c.DynamoDB, &dynamodb.ScanInput{TableName: &table, ConsistentRead: aws.Bool(true)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		require.NoError(t, err)
		out = append(out, page.Items...)
	}
	return out
}

// stream creates a stream, waits until it is ACTIVE, and removes it after the case.
func (c clients) stream(t *trial, shards int32) string {
	return c.streamNamed(t, unique("stream"), shards)
}

func (c clients) streamNamed(t *trial, name string, shards int32) string {
	_, err := c.Kinesis.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: &name, ShardCount: &shards})
	require.NoError(t, err)
	t.Cleanup(func(ctx context.Context) {
		_, _ = c.Kinesis.DeleteStream(ctx, &kinesis.DeleteStreamInput{StreamName: &name, EnforceConsumerDeletion: aws.Bool(true)})
	})
	c.streamActive(t, name)
	return name
}

func (c clients) streamActive(t *trial, name string) {
	t.eventually("the stream is not ACTIVE", func() bool {
		return c.summary(t, name).StreamStatus == kinesistypes.StreamStatusActive
	})
}

func (c clients) summary(t *trial, name string) *kinesistypes.StreamDescriptionSummary {
	t.Helper()
	out, err := c.Kinesis.DescribeStreamSummary(t.Context(), &kinesis.DescribeStreamSummaryInput{StreamName: &name})
	require.NoError(t, err)
	return out.StreamDescriptionSummary
}

// shards lists the shards of a stream.
func (c clients) shards(t *trial, stream string) []kinesistypes.Shard {
	t.Helper()
	out, err := c.Kinesis.ListShards(t.Context(), &kinesis.ListShardsInput{StreamName: &stream})
	require.NoError(t, err)
	require.Nil(t, out.NextToken)
	return out.Shards
}

// iterator is one at the beginning of a shard, unless change says otherwise.
func (c clients) iterator(t *trial, stream string, shard *string, change ...func(*kinesis.GetShardIteratorInput)) *string {
	t.Helper()
	in := &kinesis.GetShardIteratorInput{StreamName: &stream, ShardId: shard, ShardIteratorType: kinesistypes.ShardIteratorTypeTrimHorizon}
	for _, f := range change {
		f(in)
	}
	out, err := c.Kinesis.GetShardIterator(t.Context(), in)
	require.NoError(t, err)
	return out.ShardIterator
}

// read follows an iterator until it has want records and an empty answer more, or the shard's end.
func (c clients) read(t *trial, iterator *string, want int) (records []kinesistypes.Record, ended bool) {
	t.Helper()
	t.eventually(fmt.Sprintf("fewer than %d records", want), func() bool {
		if iterator == nil {
			return true
		}
		out, err := c.Kinesis.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: iterator})
		require.NoError(t, err)
		records, iterator = append(records, out.Records...), out.NextShardIterator
		return len(records) >= want && len(out.Records) == 0
	})
	return records, iterator == nil
}

// readAll reads want records from all the shards of a stream, in the order of shards.
func (c clients) readAll(t *trial, stream string, want int) []kinesistypes.Record {
	t.Helper()
	var records []kinesistypes.Record
	t.eventually(fmt.Sprintf("not %d records in the stream", want), func() bool {
		records = nil
		for _, sh := range c.shards(t, stream) {
			some, _ := c.read(t, c.iterator(t, stream, sh.ShardId), 0)
			records = append(records, some...)
		}
		return len(records) >= want
	})
	return records
}

func data(records []kinesistypes.Record) []string {
	out := []string{}
	for _, r := range records {
		out = append(out, string(r.Data))
	}
	return out
}

// puts are n transaction Puts of items with keys 0 to n-1.
func puts(table string, count int) []types.TransactWriteItem {
	var out []types.TransactWriteItem
	for i := range count {
		out = append(out, types.TransactWriteItem{Put: &types.Put{TableName: &table, Item: item{"pk": s(strconv.Itoa(i))}}})
	}
	return out
}

// filler is a text of so many bytes.
func filler(bytes int) string { return strings.Repeat("x", bytes) }
