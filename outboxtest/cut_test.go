package outboxtest_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// reachable tells which of the services answer.
func reachable(ctx context.Context, a *outboxtest.AWS) (up []string) {
	if _, err := a.DynamoDB.ListTables(ctx, &dynamodb.ListTablesInput{}); err == nil {
		up = append(up, "DynamoDB")
	}
	if _, err := a.Kinesis.ListStreams(ctx, &kinesis.ListStreamsInput{}); err == nil {
		up = append(up, "Kinesis")
	}
	if _, err := a.Streams.ListStreams(ctx, &dynamodbstreams.ListStreamsInput{}); err == nil {
		up = append(up, "DynamoDBStreams")
	}
	return up
}

func TestEachServiceIsCutAndHealedOnItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // where the pauses of the SDK cost nothing
		a := outboxtest.Start(t)
		all := []string{"DynamoDB", "Kinesis", "DynamoDBStreams"}
		cut := func(services ...string) func() {
			t.Helper()
			heal, err := a.Cut(services...)
			require.NoError(t, err)
			return heal
		}
		database := cut("DynamoDB")
		require.Equal(t, []string{"Kinesis", "DynamoDBStreams"}, reachable(t.Context(), a))
		stream, again := cut("Kinesis"), cut("Kinesis", "DynamoDBStreams")
		require.Empty(t, reachable(t.Context(), a))
		database()
		a.StopFaults()
		require.Equal(t, []string{"DynamoDB"}, reachable(t.Context(), a), "faults are another matter")
		stream()
		stream() // does not heal what it did not cut
		require.Equal(t, []string{"DynamoDB"}, reachable(t.Context(), a))
		again()
		require.Equal(t, all, reachable(t.Context(), a))
		everything := cut()
		require.Empty(t, reachable(t.Context(), a))
		everything()
		require.Equal(t, all, reachable(t.Context(), a))
		_, err := a.Cut("Kinesis", "S3")
		require.ErrorContains(t, err, `unknown service "S3"`)
		require.Equal(t, all, reachable(t.Context(), a))
	})
}

func TestACutDoesNotReachInsideAWS(t *testing.T) {
	a := outboxtest.Start(t)
	a.CreateOutbox(t, "events", "changes", 1)
	all := &changes{}
	_, err := a.Map(outboxtest.EventSource{Stream: "changes"}, all.Invoke)
	require.NoError(t, err)
	heal, err := a.Cut("Kinesis")
	require.NoError(t, err)
	defer heal()
	require.NoError(t, putEvent(t.Context(), a, "1", "{}"))
	require.NoError(t, a.Drain(t.Context()))
	require.Equal(t, []string{"INSERT/1"}, all.sorted())
}

func TestACutStrikesWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a *outboxtest.AWS
		var heal func()
		cut := func() {
			var err error
			heal, err = a.Cut("Kinesis")
			require.NoError(t, err)
		}
		during := false
		a = outboxtest.Start(t, outboxtest.WithFaults(1, outboxtest.Fault{Kind: outboxtest.Latency, Operation: "PutRecord", Calls: []int{1}, Duration: time.Second}),
			outboxtest.WithClock(func() time.Time { // is asked while a request is carried out
				if during {
					during = false
					cut()
				}
				return time.Now()
			}))
		name := stream(t, a, "changes", 1)
		result := make(chan error)
		go func() { result <- putOnce(t, a, name) }()
		time.Sleep(time.Second / 2)
		cut()
		require.ErrorContains(t, <-result, "connection refused", "a request that has not arrived does not arrive")
		heal()
		require.Zero(t, count(t, a, name))
		during = true
		require.ErrorContains(t, putOnce(t, a, name), "connection reset by peer", "the answer to one that has arrived is lost")
		heal()
		require.Equal(t, 1, count(t, a, name))
	})
}
