package integration

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"
)

// The words in which cases are written.

// item is a row, as the SDK has it. The functions below make its attributes.
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

// unique is a name that neither another case nor another run uses.
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

// define adds an attribute's definition to a table, once, and returns the attribute's name.
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

// keySchema makes a key of attributes like "pk:S"; sort may be empty.
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

// tableNamed is table with a name.
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

// streamNamed is stream with a name.
func (c clients) streamNamed(t *trial, name string, shards int32) string {
	_, err := c.Kinesis.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: &name, ShardCount: &shards})
	require.NoError(t, err)
	t.Cleanup(func(ctx context.Context) {
		_, _ = c.Kinesis.DeleteStream(ctx, &kinesis.DeleteStreamInput{StreamName: &name, EnforceConsumerDeletion: aws.Bool(true)})
	})
	c.streamActive(t, name)
	return name
}

// streamActive waits until a stream is ACTIVE.
func (c clients) streamActive(t *trial, name string) {
	t.eventually("the stream is not ACTIVE", func() bool {
		return c.summary(t, name).StreamStatus == kinesistypes.StreamStatusActive
	})
}

// summary describes a stream.
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

// data returns the records' data as text.
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

// errorCode returns the type of an AWS error without its namespace, or "".
func errorCode(err error) string {
	var api interface{ ErrorCode() string }
	if !errors.As(err, &api) {
		return ""
	}
	code := api.ErrorCode()
	return code[strings.LastIndex(code, "#")+1:]
}

// requireCode fails the case unless err is an AWS error of one of these types.
func requireCode(t *trial, err error, codes ...string) {
	if !slices.Contains(codes, errorCode(err)) {
		t.Errorf("want an error %s, have %s", strings.Join(codes, " or "), describe(err))
		t.FailNow()
	}
}

// refused notes a failure unless err is an AWS error of one of these types. The case goes on, so that its failure tells all that
// a server does not refuse, and not only what happened to be asked first.
func refused(t *trial, what string, err error, codes ...string) {
	if !slices.Contains(codes, errorCode(err)) {
		t.Errorf("%s: want an error %s, have %s", what, strings.Join(codes, " or "), describe(err))
	}
}

// describe says what a call returned, for a test that fails.
func describe(err error) string {
	if err == nil {
		return "success"
	}
	return fmt.Sprintf("%s: %v", errorCode(err), err)
}

// missing is the name of a table and a stream that do not exist.
const missing = "outbox-cases-missing"

// onTables are the services of the cases about tables.
var onTables = []service{tables}

// onStreams are the services of the cases about Kinesis.
var onStreams = []service{streams}

// onHop are the services of the cases about the way from a table into a stream.
var onHop = []service{tables, transactions, streams, hop}

// onTransactions are the services of the cases about transactions.
var onTransactions = []service{tables, transactions}

// batchPuts puts items with the keys from, from+1, ... below to.
func batchPuts(from, to int) []types.WriteRequest {
	var out []types.WriteRequest
	for i := from; i < to; i++ {
		out = append(out, types.WriteRequest{PutRequest: &types.PutRequest{Item: item{"pk": s(strconv.Itoa(i)), "v": n(i)}}})
	}
	return out
}

// batchWrite sends a batch, of which nothing may be left unprocessed.
func (c clients) batchWrite(t *trial, table string, requests []types.WriteRequest) error {
	out, err := c.DynamoDB.BatchWriteItem(t.Context(), &dynamodb.BatchWriteItemInput{RequestItems: map[string][]types.WriteRequest{table: requests}})
	if err == nil {
		require.Empty(t, out.UnprocessedItems)
	}
	return err
}

// update changes the item with pk 1 and returns what is asked for.
func (c clients) update(t *trial, table, expression string, values item, change ...func(*dynamodb.UpdateItemInput)) (item, error) {
	in := &dynamodb.UpdateItemInput{TableName: &table, Key: item{"pk": s("1")}, UpdateExpression: &expression, ReturnValues: types.ReturnValueAllNew}
	if len(values) > 0 {
		in.ExpressionAttributeValues = values
	}
	for _, f := range change {
		f(in)
	}
	out, err := c.DynamoDB.UpdateItem(t.Context(), in)
	if err != nil {
		return nil, err
	}
	return out.Attributes, nil
}

// transact sends a transaction.
func (c clients) transact(t *trial, writes []types.TransactWriteItem, change ...func(*dynamodb.TransactWriteItemsInput)) error {
	in := &dynamodb.TransactWriteItemsInput{TransactItems: writes}
	for _, f := range change {
		f(in)
	}
	_, err := c.DynamoDB.TransactWriteItems(t.Context(), in)
	return err
}

// four is one operation of each kind, on keys put, update, delete and check, with the same condition.
func four(table, condition string, old types.ReturnValuesOnConditionCheckFailure) []types.TransactWriteItem {
	return []types.TransactWriteItem{
		{Put: &types.Put{TableName: &table, Item: item{"pk": s("put"), "v": n(2)}, ConditionExpression: &condition, ReturnValuesOnConditionCheckFailure: old}},
		{Update: &types.Update{TableName: &table, Key: item{"pk": s("update")}, UpdateExpression: aws.String("SET v = :v"), ExpressionAttributeValues: item{":v": n(2)},
			ConditionExpression: &condition, ReturnValuesOnConditionCheckFailure: old}},
		{Delete: &types.Delete{TableName: &table, Key: item{"pk": s("delete")}, ConditionExpression: &condition, ReturnValuesOnConditionCheckFailure: old}},
		{ConditionCheck: &types.ConditionCheck{TableName: &table, Key: item{"pk": s("check")}, ConditionExpression: &condition, ReturnValuesOnConditionCheckFailure: old}},
	}
}

// putFour stores the items that four is about.
func (c clients) putFour(t *trial, table string) {
	for _, key := range []string{"put", "update", "delete", "check"} {
		c.put(t, table, item{"pk": s(key), "v": n(1)})
	}
}

// canceled returns the reasons of a cancelled transaction.
func canceled(t *trial, err error) []types.CancellationReason {
	var canceled *types.TransactionCanceledException
	require.ErrorAsf(t, err, &canceled, "want a TransactionCanceledException, have %s", describe(err))
	return canceled.CancellationReasons
}

// codes are the codes of the reasons, in order.
func codes(reasons []types.CancellationReason) []string {
	var out []string
	for _, r := range reasons {
		out = append(out, aws.ToString(r.Code))
	}
	return out
}

// noneReturned asks for no row when a condition fails.
const noneReturned = types.ReturnValuesOnConditionCheckFailureNone

// connected is a table whose changes go to a stream with one shard.
func (c clients) connected(t *trial, key string, precision types.ApproximateCreationDateTimePrecision) (table, stream string) {
	t.Helper()
	table, stream = c.table(t, key), c.stream(t, 1)
	c.connect(t, table, stream, precision)
	return table, stream
}

// connect sends a table's changes to a stream, and waits until they are sent.
func (c clients) connect(t *trial, table, stream string, precision types.ApproximateCreationDateTimePrecision) {
	t.Helper()
	in := &dynamodb.EnableKinesisStreamingDestinationInput{TableName: &table, StreamArn: c.summary(t, stream).StreamARN}
	if precision != "" {
		in.EnableKinesisStreamingConfiguration = &types.EnableKinesisStreamingConfiguration{ApproximateCreationDateTimePrecision: precision}
	}
	_, err := c.DynamoDB.EnableKinesisStreamingDestination(t.Context(), in)
	require.NoError(t, err)
	c.destinationBecomes(t, table, types.DestinationStatusActive)
}

// destinationBecomes waits until a table's destination has a status.
func (c clients) destinationBecomes(t *trial, table string, status types.DestinationStatus) {
	t.eventually("the destination is not "+string(status), func() bool {
		out, err := c.DynamoDB.DescribeKinesisStreamingDestination(t.Context(), &dynamodb.DescribeKinesisStreamingDestinationInput{TableName: &table})
		require.NoError(t, err)
		return len(out.KinesisDataStreamDestinations) == 1 && out.KinesisDataStreamDestinations[0].DestinationStatus == status
	})
}

// settled reads the records of a stream and makes sure that no more than want come.
func (c clients) settled(t *trial, stream string, want int) []string {
	t.Helper()
	c.readAll(t, stream, want)
	t.pause(300 * time.Millisecond)
	return data(c.readAll(t, stream, want))
}

// record puts a record into a stream.
func (c clients) record(t *trial, stream, key, data string, change ...func(*kinesis.PutRecordInput)) *kinesis.PutRecordOutput {
	t.Helper()
	in := &kinesis.PutRecordInput{StreamName: &stream, PartitionKey: &key, Data: []byte(data)}
	for _, f := range change {
		f(in)
	}
	out, err := c.Kinesis.PutRecord(t.Context(), in)
	require.NoError(t, err)
	return out
}

// number reads a decimal that is too long for an int64.
func number(t *trial, text *string) *big.Int {
	t.Helper()
	v, ok := new(big.Int).SetString(aws.ToString(text), 10)
	require.Truef(t, ok, "%q is no number", aws.ToString(text))
	return v
}

// requireIncreasing checks that sequence numbers increase.
func requireIncreasing(t *trial, records []kinesistypes.Record) {
	t.Helper()
	for i := 1; i < len(records); i++ {
		require.Positivef(t, number(t, records[i].SequenceNumber).Cmp(number(t, records[i-1].SequenceNumber)), "sequence number %d is not above its predecessor", i)
	}
}

// from changes the kind of an iterator.
func from(kind kinesistypes.ShardIteratorType, sequenceNumber *string) func(*kinesis.GetShardIteratorInput) {
	return func(in *kinesis.GetShardIteratorInput) {
		in.ShardIteratorType, in.StartingSequenceNumber = kind, sequenceNumber
	}
}
