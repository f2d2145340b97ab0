package outboxtest_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	ddbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

func TestAnOutboxInOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The helpers go past faults, and wait for what takes its time.
		a := outboxtest.Start(t, outboxtest.WithDelays(time.Minute), outboxtest.WithFaults(1, outboxtest.Fault{Kind: outboxtest.CutNetwork, Probability: 1}))
		began := time.Now()
		a.CreateOutbox(t, "events", "changes", 3)
		require.GreaterOrEqual(t, time.Since(began), 2*time.Minute, "the stream and then the destination")
		a.CreateTable(t, "orders", "orderId")
		a.CreateTable(t, "lines", "orderId", "line")
		a.StopFaults()

		lines, err := a.DynamoDB.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: aws.String("lines")})
		require.NoError(t, err)
		require.Equal(t, []ddbtypes.KeySchemaElement{{AttributeName: aws.String("orderId"), KeyType: "HASH"}, {AttributeName: aws.String("line"), KeyType: "RANGE"}},
			lines.Table.KeySchema)
		require.Len(t, shards(t, a, aws.String("changes")), 3)
		all := &changes{}
		_, err = a.Map(outboxtest.EventSource{Stream: "changes"}, all.Invoke)
		require.NoError(t, err)
		require.NoError(t, putEvent(t.Context(), a, "1", "{}"))
		require.NoError(t, a.Drain(t.Context()))
		require.Equal(t, []string{"INSERT/1"}, all.sorted())
	})
}

func TestWhatCannotBeCreatedFailsTheTest(t *testing.T) {
	a := outboxtest.Start(t)
	b := &brokenTest{TB: t}
	a.CreateTable(b, "x", "id")
	require.Contains(t, b.failure, "CreateTable: ValidationException")
	a.CreateOutbox(b, "events", "changes", 0)
	require.Contains(t, b.failure, "CreateStream: ValidationException")
	a.CreateTable(t, "orders", "orderId")
	a.CreateOutbox(b, "orders", "changes", 1)
	require.Contains(t, b.failure, "CreateTable: ResourceInUseException")
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		still := outboxtest.Start(t, outboxtest.WithDelays(time.Hour), outboxtest.WithClock(func() time.Time { return now }))
		still.CreateOutbox(b, "events", "changes", 1)
		require.Contains(t, b.failure, "the stream changes is still CREATING; does the clock of WithClock stand still")
	})
}
