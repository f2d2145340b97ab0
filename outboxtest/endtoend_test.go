package outboxtest_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	ddbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	streamtypes "github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

func TestAChangeGoesAllTheWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := outboxtest.Start(t)
		eventsTable(t, a)
		_, err := a.DynamoDB.UpdateTimeToLive(t.Context(), &dynamodb.UpdateTimeToLiveInput{TableName: aws.String("events"),
			TimeToLiveSpecification: &ddbtypes.TimeToLiveSpecification{AttributeName: aws.String("expiresAt"), Enabled: aws.Bool(true)}})
		require.NoError(t, err)
		viaKinesis, viaStream, inserts := &changes{}, &changes{}, &changes{}
		for fn, src := range map[*changes]outboxtest.EventSource{
			viaKinesis: {Stream: "changes"}, viaStream: {Table: "events"}, inserts: {Table: "events", Filter: []string{"INSERT"}, BatchWindow: time.Minute},
		} {
			_, err := a.Map(src, fn.Invoke)
			require.NoError(t, err)
		}
		for i := range 3 {
			require.NoError(t, putEvent(t.Context(), a, fmt.Sprint(i), "{}"))
		}
		require.NoError(t, putEvent(t.Context(), a, "0", `{"n":1}`))
		_, err = a.DynamoDB.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: aws.String("events"), Key: map[string]ddbtypes.AttributeValue{"eventId": text("1")}})
		require.NoError(t, err)
		time.Sleep(2 * time.Hour)
		a.ExpireTTL()
		require.NoError(t, a.RollStreamShard("events"))
		require.NoError(t, putEvent(t.Context(), a, "3", "{}"))
		require.NoError(t, a.Drain(deadline(t)))
		want := strings.Fields("INSERT/0 INSERT/1 INSERT/2 INSERT/3 MODIFY/0 REMOVE/0 REMOVE/1 REMOVE/2")
		require.Equal(t, want, viaKinesis.sorted())
		require.Equal(t, want, viaStream.sorted())
		require.Equal(t, want[:4], inserts.sorted())
		require.Equal(t, "INSERT/3", viaStream.seen[len(viaStream.seen)-1], "a child shard comes after its parent")

		out, err := a.Streams.ListStreams(t.Context(), &dynamodbstreams.ListStreamsInput{TableName: aws.String("events")})
		require.NoError(t, err)
		require.Len(t, out.Streams, 1)
		d, err := a.Streams.DescribeStream(t.Context(), &dynamodbstreams.DescribeStreamInput{StreamArn: out.Streams[0].StreamArn})
		require.NoError(t, err)
		require.Len(t, d.StreamDescription.Shards, 2)
		require.Equal(t, "eventId", *d.StreamDescription.KeySchema[0].AttributeName)
		it, err := a.Streams.GetShardIterator(t.Context(), &dynamodbstreams.GetShardIteratorInput{StreamArn: out.Streams[0].StreamArn,
			ShardId: d.StreamDescription.Shards[0].ShardId, ShardIteratorType: streamtypes.ShardIteratorTypeTrimHorizon})
		require.NoError(t, err)
		records, err := a.Streams.GetRecords(t.Context(), &dynamodbstreams.GetRecordsInput{ShardIterator: it.ShardIterator})
		require.NoError(t, err)
		require.Len(t, records.Records, 7)
		require.Equal(t, "dynamodb.amazonaws.com", *records.Records[6].UserIdentity.PrincipalId)
		require.Equal(t, "{}", records.Records[0].Dynamodb.NewImage["payload"].(*streamtypes.AttributeValueMemberS).Value)
	})
}

func TestChangesOfOneTableSpreadOverShards(t *testing.T) {
	a := outboxtest.Start(t)
	eventsTable(t, a)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 10 {
				if err := putEvent(t.Context(), a, fmt.Sprintf("%d-%d", w, i), "{}"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, a.Drain(deadline(t)))
	total := 0
	for _, sh := range shards(t, a, aws.String("changes")) {
		data, _ := readAll(t, a, horizon(t, a, aws.String("changes"), sh.ShardId))
		require.NotEmpty(t, data, "of 80 items every shard has some")
		total += len(data)
	}
	require.Equal(t, 80, total)
}

func TestARecordThatInflatesIsLostAndCounted(t *testing.T) {
	a := outboxtest.Start(t)
	eventsTable(t, a)
	// An empty map is 3 bytes of the item's 400 KB and 8 of the record.
	empties := make([]ddbtypes.AttributeValue, 100000)
	for i := range empties {
		empties[i] = &ddbtypes.AttributeValueMemberBOOL{Value: false}
	}
	_, err := a.DynamoDB.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("events"),
		Item: map[string]ddbtypes.AttributeValue{"eventId": text("big"), "payload": &ddbtypes.AttributeValueMemberL{Value: empties}}})
	require.NoError(t, err)
	require.NoError(t, putEvent(t.Context(), a, "small", "{}"))
	f := &changes{}
	_, err = a.Map(outboxtest.EventSource{Stream: "changes"}, f.Invoke)
	require.NoError(t, err)
	require.NoError(t, a.Drain(deadline(t)))
	require.Equal(t, []string{"INSERT/small"}, f.sorted())
	n, err := a.FailedToReplicate("events")
	require.Equal(t, 1, n)
	require.ErrorContains(t, err, "maximum record size")
}

// TestNothingIsLostInAStorm writes while everything goes wrong, and looks at
// what is there when it is over.
func TestNothingIsLostInAStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := outboxtest.Start(t, outboxtest.WithFaults(20240601))
		defer func() { t.Logf("seed %d", a.Seed()) }()
		eventsTable(t, a)
		f := &changes{}
		_, err := a.Map(outboxtest.EventSource{Stream: "changes", BatchSize: 7}, f.Invoke)
		require.NoError(t, err)
		require.NoError(t, a.SetFaults(
			outboxtest.Fault{Kind: outboxtest.LoseAnswer, Service: "DynamoDB", Probability: 0.1},
			outboxtest.Fault{Kind: outboxtest.Throttle, Service: "DynamoDB", Probability: 0.1},
			outboxtest.Fault{Kind: outboxtest.CutNetwork, Probability: 0.1},
			outboxtest.Fault{Kind: outboxtest.Latency, Probability: 0.2, Duration: 50 * time.Millisecond},
			outboxtest.Fault{Kind: outboxtest.DuplicateRecord, Probability: 0.3},
			outboxtest.Fault{Kind: outboxtest.ReorderRecord, Probability: 0.3},
			outboxtest.Fault{Kind: outboxtest.DelayRecord, Probability: 0.1, Duration: time.Minute}))
		var want []string
		for i := range 200 {
			id := fmt.Sprintf("%03d", i)
			want = append(want, "INSERT/"+id)
			for putEvent(t.Context(), a, id, "{}") != nil { //nolint:revive // until it is in
			}
		}
		a.StopFaults()
		require.NoError(t, a.Drain(t.Context()))
		got := f.sorted()
		require.Greater(t, len(got), 200, "some came twice")
		got = slices.DeleteFunc(slices.Compact(got), func(s string) bool { return strings.HasPrefix(s, "MODIFY/") })
		require.Equal(t, want, got)
	})
}

// TestAFunctionMayWrite drains what functions cause, too.
func TestAFunctionMayWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := outboxtest.Start(t)
		eventsTable(t, a)
		f := &changes{}
		_, err := a.Map(outboxtest.EventSource{Stream: "changes", BatchSize: 1}, func(ctx context.Context, payload []byte) ([]byte, error) {
			time.Sleep(time.Second)
			if _, err := f.Invoke(ctx, payload); err != nil {
				return nil, err
			}
			if n := len(f.sorted()); n < 10 {
				return nil, putEvent(ctx, a, fmt.Sprint("caused-", n), "{}")
			}
			return nil, nil
		})
		require.NoError(t, err)
		require.NoError(t, putEvent(t.Context(), a, "cause", "{}"))
		require.NoError(t, a.Drain(t.Context()))
		require.Len(t, f.sorted(), 10)
	})
}

// TestDrainMissesNothing has two functions write for each other, without a pause.
func TestDrainMissesNothing(t *testing.T) {
	for round := range 20 {
		a := outboxtest.Start(t)
		ping, pong := stream(t, a, "ping", 1), stream(t, a, "pong", 1)
		var handled atomic.Int64
		const length = 40
		pass := func(to *string) func(context.Context, []byte) ([]byte, error) {
			return func(ctx context.Context, _ []byte) ([]byte, error) {
				if handled.Add(1) == length {
					return nil, nil
				}
				_, err := a.Kinesis.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: to, PartitionKey: aws.String("k"), Data: []byte("x")})
				return nil, err
			}
		}
		_, err := a.Map(outboxtest.EventSource{Stream: *ping}, pass(pong))
		require.NoError(t, err)
		// Idle mappings in between keep Drain busy while the record changes sides.
		idle := stream(t, a, "idle", 1)
		for range 50 {
			_, err = a.Map(outboxtest.EventSource{Stream: *idle}, (&function{}).Invoke)
			require.NoError(t, err)
		}
		_, err = a.Map(outboxtest.EventSource{Stream: *pong}, pass(ping))
		require.NoError(t, err)
		put(t, a, ping, "k", "x")
		require.NoError(t, a.Drain(deadline(t)))
		require.EqualValues(t, length, handled.Load(), "round %d", round)
		a.Close()
	}
}

type orderCreated struct{ OrderID string }

func (orderCreated) EventType() string { return "ORDER_CREATED" }

type orderShipped struct{ OrderID string }

func (orderShipped) EventType() string { return "ORDER_SHIPPED" }

func TestRequireEmitted(t *testing.T) {
	a := outboxtest.Start(t)
	eventsTable(t, a)
	is := func(id string) func(orderCreated) bool { return func(o orderCreated) bool { return o.OrderID == id } }
	b := &brokenTest{TB: t}
	outboxtest.RequireEmitted(b, a.DynamoDB, "events", is("1"))
	require.Equal(t, "outboxtest: no event ORDER_CREATED in table events is the one that is looked for; there are no events at all", b.failure)
	require.NoError(t, putEvent(t.Context(), a, "e1", `{"OrderID":"1"}`))
	require.Equal(t, orderCreated{"1"}, outboxtest.RequireEmitted(t, a.DynamoDB, "events", is("1")))
	require.Equal(t, orderCreated{"1"}, outboxtest.RequireEmitted[orderCreated](t, a.DynamoDB, "events", nil))
	outboxtest.RequireNotEmitted(t, a.DynamoDB, "events", is("2"))
	require.NoError(t, putEvent(t.Context(), a, "e2", `nonsense`))
	require.Equal(t, orderCreated{"1"}, outboxtest.RequireEmitted(t, a.DynamoDB, "events", is("1")))
	outboxtest.RequireNotEmitted[orderShipped](t, a.DynamoDB, "events", nil)

	b = &brokenTest{TB: t}
	outboxtest.RequireEmitted(b, a.DynamoDB, "events", is("2"))
	require.Contains(t, b.failure, "2 events:\n\tORDER_CREATED (e1) {\"OrderID\":\"1\"}\n\tORDER_CREATED (e2) nonsense")
	b = &brokenTest{TB: t}
	outboxtest.RequireNotEmitted(b, a.DynamoDB, "events", is("1"))
	require.Equal(t, `outboxtest: table events has an event that must not be there: ORDER_CREATED (e1) {"OrderID":"1"}`, b.failure)
	b = &brokenTest{TB: t}
	outboxtest.RequireNotEmitted(b, a.DynamoDB, "events", is("2"))
	require.Contains(t, b.failure, "table events has an event that may be the one that must not be there: invalid character")
	b = &brokenTest{TB: t}
	outboxtest.RequireEmitted[orderCreated](b, a.DynamoDB, "nowhere", nil)
	require.Contains(t, b.failure, "reading table nowhere")
	b = &brokenTest{TB: t}
	outboxtest.RequireNotEmitted[orderCreated](b, a.DynamoDB, "nowhere", nil)
	require.Contains(t, b.failure, "reading table nowhere")
}

func TestADestinationNeedsAStream(t *testing.T) {
	a := outboxtest.Start(t)
	eventsTable(t, a)
	_, err := a.DynamoDB.EnableKinesisStreamingDestination(t.Context(), &dynamodb.EnableKinesisStreamingDestinationInput{
		TableName: aws.String("events"), StreamArn: aws.String("arn:aws:kinesis:us-east-1:000000000000:stream/nowhere")})
	require.Error(t, err)
	_, err = a.Kinesis.DeleteStream(t.Context(), &kinesis.DeleteStreamInput{StreamName: aws.String("changes")})
	require.NoError(t, err)
	require.NoError(t, putEvent(t.Context(), a, "1", "{}"))
	require.NoError(t, a.Drain(deadline(t)))
	n, err := a.FailedToReplicate("events")
	require.Equal(t, 1, n)
	require.ErrorContains(t, err, "not found")
}
