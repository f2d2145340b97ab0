package outboxtest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	ddbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// event is what a function sees of a Kinesis event.
type event struct {
	Records []struct {
		Kinesis struct {
			PartitionKey, SequenceNumber string
			Data                         []byte
		}
		EventID, EventName, EventSource, EventSourceARN string
	}
}

// data returns the data of the records.
func (e event) data() []string {
	var out []string
	for _, r := range e.Records {
		out = append(out, string(r.Kinesis.Data))
	}
	return out
}

// eventsTable creates the table "events" with a DynamoDB stream, and with the
// Kinesis stream "changes" of four shards as its destination.
func eventsTable(t *testing.T, a *outboxtest.AWS) {
	t.Helper()
	_, err := a.DynamoDB.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName:            aws.String("events"),
		AttributeDefinitions: []ddbtypes.AttributeDefinition{{AttributeName: aws.String("eventId"), AttributeType: "S"}},
		KeySchema:            []ddbtypes.KeySchemaElement{{AttributeName: aws.String("eventId"), KeyType: "HASH"}},
		BillingMode:          ddbtypes.BillingModePayPerRequest,
		StreamSpecification:  &ddbtypes.StreamSpecification{StreamEnabled: aws.Bool(true), StreamViewType: "NEW_AND_OLD_IMAGES"},
	})
	require.NoError(t, err)
	stream(t, a, "changes", 4)
	_, err = a.DynamoDB.EnableKinesisStreamingDestination(t.Context(), &dynamodb.EnableKinesisStreamingDestinationInput{
		TableName: aws.String("events"), StreamArn: aws.String("arn:aws:kinesis:us-east-1:000000000000:stream/changes")})
	require.NoError(t, err)
}

// text is a string attribute.
func text(s string) ddbtypes.AttributeValue { return &ddbtypes.AttributeValueMemberS{Value: s} }

// putEvent puts an event into the table of eventsTable.
func putEvent(ctx context.Context, a *outboxtest.AWS, id, payload string) error {
	_, err := a.DynamoDB.PutItem(ctx, &dynamodb.PutItemInput{TableName: aws.String("events"), Item: map[string]ddbtypes.AttributeValue{
		"eventId": text(id), "type": text("ORDER_CREATED"), "payload": text(payload),
		"expiresAt": &ddbtypes.AttributeValueMemberN{Value: fmt.Sprint(time.Now().Add(time.Hour).Unix())}}})
	return err
}

// putOnce puts a record without any retry.
func putOnce(t *testing.T, a *outboxtest.AWS, stream *string) error {
	t.Helper()
	_, err := a.Kinesis.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: stream, PartitionKey: aws.String("k"), Data: []byte("x")}, once)
	return err
}

// stream creates a stream and returns the shared part of requests to it.
func stream(t *testing.T, a *outboxtest.AWS, name string, shards int32) *string {
	t.Helper()
	_, err := a.Kinesis.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: &name, ShardCount: &shards})
	require.NoError(t, err)
	return &name
}

// put puts a record into a stream.
func put(t *testing.T, a *outboxtest.AWS, stream *string, key, data string) *kinesis.PutRecordOutput {
	t.Helper()
	out, err := a.Kinesis.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: stream, PartitionKey: &key, Data: []byte(data)})
	require.NoError(t, err)
	return out
}

// shards lists all shards of a stream.
func shards(t *testing.T, a *outboxtest.AWS, stream *string) []types.Shard {
	t.Helper()
	out, err := a.Kinesis.ListShards(t.Context(), &kinesis.ListShardsInput{StreamName: stream})
	require.NoError(t, err)
	return out.Shards
}

// first is the id of a stream's first shard.
const first = "shardId-000000000000"

// iterator returns a shard iterator.
func iterator(t *testing.T, a *outboxtest.AWS, in *kinesis.GetShardIteratorInput) *string {
	t.Helper()
	out, err := a.Kinesis.GetShardIterator(t.Context(), in)
	require.NoError(t, err)
	return out.ShardIterator
}

// horizon is an iterator at the oldest record of a shard.
func horizon(t *testing.T, a *outboxtest.AWS, stream, shard *string) *string {
	t.Helper()
	return iterator(t, a, &kinesis.GetShardIteratorInput{StreamName: stream, ShardId: shard, ShardIteratorType: types.ShardIteratorTypeTrimHorizon})
}

// readAll reads a shard until nothing is left, and says whether it has ended.
func readAll(t *testing.T, a *outboxtest.AWS, it *string) (data []string, ended bool) {
	t.Helper()
	for {
		out, err := a.Kinesis.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: it})
		require.NoError(t, err)
		for _, r := range out.Records {
			data = append(data, string(r.Data))
		}
		if it = out.NextShardIterator; it == nil {
			require.NotEmpty(t, out.ChildShards, "a shard ends only with children")
			return data, true
		}
		if len(out.Records) == 0 {
			return data, false
		}
	}
}

// split splits a shard in the middle.
func split(t *testing.T, a *outboxtest.AWS, stream *string, sh types.Shard) {
	t.Helper()
	_, err := a.Kinesis.SplitShard(t.Context(), &kinesis.SplitShardInput{StreamName: stream, ShardToSplit: sh.ShardId, NewStartingHashKey: middle(sh)})
	require.NoError(t, err)
}

// middle is the hash key in the middle of a shard.
func middle(sh types.Shard) *string {
	low, _ := new(big.Int).SetString(*sh.HashKeyRange.StartingHashKey, 10)
	high, _ := new(big.Int).SetString(*sh.HashKeyRange.EndingHashKey, 10)
	return aws.String(low.Add(low, high).Rsh(low, 1).String())
}

// covers checks that the open shards divide all hash keys among them.
func covers(t *testing.T, all []types.Shard) {
	t.Helper()
	next := big.NewInt(0)
	for range all {
		for _, sh := range all {
			if sh.SequenceNumberRange.EndingSequenceNumber == nil && *sh.HashKeyRange.StartingHashKey == next.String() {
				high, _ := new(big.Int).SetString(*sh.HashKeyRange.EndingHashKey, 10)
				next = high.Add(high, big.NewInt(1))
			}
		}
	}
	require.Equal(t, new(big.Int).Lsh(big.NewInt(1), 128).String(), next.String(), "the open shards cover every hash key")
}

// mergeInput is the request that merges two neighbours.
func mergeInput(stream *string, left, right types.Shard) *kinesis.MergeShardsInput {
	return &kinesis.MergeShardsInput{StreamName: stream, ShardToMerge: left.ShardId, AdjacentShardToMerge: right.ShardId}
}

// changes is a function that notes the changes it is told, from either source.
type changes struct {
	mu   sync.Mutex
	seen []string // eventName/eventId
}

func (c *changes) Invoke(_ context.Context, payload []byte) ([]byte, error) {
	type change struct {
		EventName string
		TableName string
		DynamoDB  struct {
			Keys struct{ EventID struct{ S string } }
		}
	}
	var e struct {
		Records []struct {
			change
			Kinesis *struct{ Data []byte }
		}
	}
	if err := json.Unmarshal(payload, &e); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range e.Records {
		ch := r.change
		if r.Kinesis != nil {
			if err := json.Unmarshal(r.Kinesis.Data, &ch); err != nil {
				return nil, err
			}
		}
		c.seen = append(c.seen, ch.EventName+"/"+ch.DynamoDB.Keys.EventID.S)
	}
	return nil, nil
}

// sorted returns what was seen, sorted.
func (c *changes) sorted() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := slices.Clone(c.seen)
	slices.Sort(out)
	return out
}

// function is a Lambda function that notes what it was invoked with.
type function struct {
	mu          sync.Mutex
	invocations [][]string
	answer      func(n int, e event) (string, error) // n counts from 0; nil answers nothing
}

func (f *function) Invoke(_ context.Context, payload []byte) ([]byte, error) {
	var e event
	if err := json.Unmarshal(payload, &e); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.invocations = append(f.invocations, e.data())
	if f.answer == nil {
		return nil, nil
	}
	body, err := f.answer(len(f.invocations)-1, e)
	return []byte(body), err
}

// seen returns the data of each invocation.
func (f *function) seen() [][]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.invocations)
}

// batches are the data of invocations, each written like "0 1 2".
func batches(texts ...string) (out [][]string) {
	for _, text := range texts {
		out = append(out, strings.Fields(text))
	}
	return out
}

// parse reads a payload.
func parse(t *testing.T, payload []byte) event {
	t.Helper()
	var e event
	require.NoError(t, json.Unmarshal(payload, &e), "%s", payload)
	return e
}

// deadline bounds a test that would otherwise wait for ever.
func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// run puts records 0 to n-1 into one shard, maps it and waits until all is
// handled; it returns what the function saw and what was given up.
func run(t *testing.T, src outboxtest.EventSource, n int, answer func(int, event) (string, error)) (seen [][]string, failed []outboxtest.FailedBatch) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		a := outboxtest.Start(t)
		name := stream(t, a, "changes", 1)
		for i := range n {
			put(t, a, name, "k", fmt.Sprint(i))
		}
		src.Stream = *name
		src.OnFailure = func(f outboxtest.FailedBatch) { failed = append(failed, f) }
		f := &function{answer: answer}
		_, err := a.Map(src, f.Invoke)
		require.NoError(t, err)
		require.NoError(t, a.Drain(deadline(t)))
		a.Close()
		seen = f.seen()
	})
	return seen, failed
}

// once switches retries off.
func once(o *kinesis.Options) { o.RetryMaxAttempts = 1 }

// count returns how many records the first shard has.
func count(t *testing.T, a *outboxtest.AWS, stream *string) int {
	t.Helper()
	data, _ := readAll(t, a, horizon(t, a, stream, aws.String(first)))
	return len(data)
}

// brokenTest is a test that notes its failure.
type brokenTest struct {
	outboxtest.TB
	failure string
}

func (b *brokenTest) Fatalf(format string, args ...any) { b.failure = fmt.Sprintf(format, args...) }
