package outboxtest_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
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

func TestFaultsOfRequests(t *testing.T) {
	a := outboxtest.Start(t)
	name := stream(t, a, "changes", 1)
	for _, c := range []struct {
		kind    outboxtest.FaultKind
		want    string
		written int
	}{
		{outboxtest.LoseAnswer, "connection reset by peer", 1},
		{outboxtest.CutNetwork, "connection refused", 0},
		{outboxtest.Throttle, "ProvisionedThroughputExceededException: Rate exceeded for shard", 0},
		{outboxtest.ServerError, "InternalFailure: Internal service failure.", 0},
	} {
		t.Run(string(c.kind), func(t *testing.T) {
			before := count(t, a, name)
			require.NoError(t, a.SetFaults(outboxtest.Fault{Kind: c.kind, Service: "Kinesis", Operation: "PutRecord", Calls: []int{1}}))
			require.ErrorContains(t, putOnce(t, a, name), c.want)
			require.Equal(t, before+c.written, count(t, a, name))
			require.NoError(t, putOnce(t, a, name), "only the first call is struck")
			require.NoError(t, a.SetFaults(outboxtest.Fault{Kind: c.kind, Operation: "PutRecord", Calls: []int{1}}))
			_, err := a.Kinesis.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: name, PartitionKey: aws.String("k"), Data: []byte("x")})
			require.NoError(t, err, "the SDK tries again after each of them")
			require.Equal(t, 2, a.Struck()[c.kind])
		})
	}
	require.NoError(t, a.SetFaults(outboxtest.Fault{Kind: outboxtest.CutNetwork, Probability: 1}))
	require.Error(t, putOnce(t, a, name))
	a.StopFaults()
	require.NoError(t, putOnce(t, a, name))
}

func TestFaultsOverARealListener(t *testing.T) {
	s := outboxtest.New(outboxtest.WithFaults(1,
		outboxtest.Fault{Kind: outboxtest.LoseAnswer, Operation: "PutRecord", Calls: []int{1}},
		outboxtest.Fault{Kind: outboxtest.CutNetwork, Operation: "PutRecord", Calls: []int{2}}))
	t.Cleanup(s.Close)
	listener := httptest.NewServer(s)
	t.Cleanup(listener.Close)
	a := &outboxtest.AWS{Server: s, Kinesis: kinesis.New(kinesis.Options{Region: "us-east-1", BaseEndpoint: &listener.URL,
		Credentials: s.Config().Credentials, HTTPClient: outboxtest.BufferedClient(listener.Client().Transport)})}
	name := stream(t, a, "changes", 1)
	for range 2 {
		require.ErrorContains(t, putOnce(t, a, name), "request send failed", "the connection breaks")
	}
	require.Equal(t, 1, count(t, a, name), "the first was carried out, the second not")
}

func TestLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := outboxtest.Start(t)
		name := stream(t, a, "changes", 1)
		require.NoError(t, a.SetFaults(outboxtest.Fault{Kind: outboxtest.Latency, Duration: 2 * time.Second, Probability: 1}))
		began := time.Now()
		require.NoError(t, putOnce(t, a, name))
		require.Equal(t, 2*time.Second, time.Since(began))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := a.Kinesis.ListStreams(ctx, &kinesis.ListStreamsInput{}, once)
		require.ErrorIs(t, err, context.DeadlineExceeded, "the client's patience ends first")
		require.Equal(t, 3*time.Second, time.Since(began))
	})
}

func TestFaultsOfTransactions(t *testing.T) {
	a := outboxtest.Start(t)
	oneTry := func(o *dynamodb.Options) { o.RetryMaxAttempts = 1 }
	transact := func() error {
		item := ddbtypes.TransactWriteItem{Put: &ddbtypes.Put{TableName: aws.String("t"), Item: map[string]ddbtypes.AttributeValue{}}}
		_, err := a.DynamoDB.TransactWriteItems(t.Context(), &dynamodb.TransactWriteItemsInput{TransactItems: []ddbtypes.TransactWriteItem{item, item}}, oneTry)
		return err
	}
	for kind, code := range map[outboxtest.FaultKind]string{outboxtest.TransactionConflict: "TransactionConflict", outboxtest.Throttle: "ThrottlingError"} {
		require.NoError(t, a.SetFaults(outboxtest.Fault{Kind: kind, Operation: "TransactWriteItems", Probability: 1}))
		var cancelled *ddbtypes.TransactionCanceledException
		require.ErrorAs(t, transact(), &cancelled)
		require.Len(t, cancelled.CancellationReasons, 2)
		require.Equal(t, code, *cancelled.CancellationReasons[0].Code)
		require.Equal(t, "None", *cancelled.CancellationReasons[1].Code)
		require.Equal(t, "Transaction cancelled, please refer cancellation reasons for specific reasons ["+code+", None]", cancelled.ErrorMessage())
	}
	require.NoError(t, a.SetFaults(outboxtest.Fault{Kind: outboxtest.TransactionInProgress, Probability: 1}))
	var inProgress *ddbtypes.TransactionInProgressException
	require.ErrorAs(t, transact(), &inProgress)
	require.NoError(t, a.SetFaults(outboxtest.Fault{Kind: outboxtest.TransactionConflict, Probability: 1}))
	_, err := a.DynamoDB.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("t"), Item: map[string]ddbtypes.AttributeValue{}}, oneTry)
	var conflict *ddbtypes.TransactionConflictException
	require.ErrorAs(t, err, &conflict)
	require.NoError(t, a.SetFaults(outboxtest.Fault{Kind: outboxtest.ServerError, Probability: 1}))
	var internal *ddbtypes.InternalServerError
	require.ErrorAs(t, transact(), &internal)
}

func TestTheSameSeedReplaysTheSameFaults(t *testing.T) {
	play := func(seed uint64) (out string) {
		a := outboxtest.Start(t, outboxtest.WithFaults(seed,
			outboxtest.Fault{Kind: outboxtest.LoseAnswer, Operation: "PutRecord", Probability: 0.2},
			outboxtest.Fault{Kind: outboxtest.ServerError, Operation: "PutRecord", Probability: 0.3}))
		require.Equal(t, seed, a.Seed())
		name := stream(t, a, "changes", 1)
		for range 60 {
			switch err := putOnce(t, a, name); {
			case err == nil:
				out += "."
			case strings.Contains(err.Error(), "InternalFailure"):
				out += "5"
			default:
				out += "?"
			}
		}
		return out
	}
	one := play(7)
	require.Equal(t, one, play(7))
	require.NotEqual(t, one, play(8))
	for _, symbol := range []string{".", "5", "?"} {
		require.Contains(t, one, symbol)
	}
}

func TestFaultsThatCannotHappenAreRefused(t *testing.T) {
	bad := []outboxtest.Fault{
		{Kind: outboxtest.Throttle},
		{Kind: outboxtest.Throttle, Probability: 0.5, Table: "events"},
		{Kind: outboxtest.DropRecord, Probability: 0.5, Service: "Kinesis"},
		{Kind: outboxtest.Throttle, Probability: 0.5, Service: "kinesis"},
	}
	wants := []string{"fault 1: fault Throttle: it never happens", "fault 2: fault Throttle: it strikes requests to a Service",
		"fault 3: fault DropRecord: it strikes the records of a Table", `fault 4: fault Throttle: unknown service "kinesis"`}
	a := outboxtest.Start(t)
	err := a.SetFaults(bad...)
	b := &brokenTest{TB: t}
	require.Nil(t, outboxtest.Start(b, outboxtest.WithFaults(1, bad...)))
	for _, want := range wants {
		require.ErrorContains(t, err, want)
		require.Contains(t, b.failure, want)
	}
	require.Panics(t, func() { outboxtest.New(outboxtest.WithFaults(1, bad...)) })
}

func TestEveryWrongOptionIsNamed(t *testing.T) {
	b := &brokenTest{TB: t}
	outboxtest.Start(b, outboxtest.WithClock(nil), outboxtest.WithRegion(""), outboxtest.WithAccount("12"), outboxtest.WithDelays(-1))
	for _, want := range []string{"WithClock", `WithRegion: ""`, `WithAccount: "12"`, "WithDelays: -1ns"} {
		require.Contains(t, b.failure, want)
	}
}

func TestPartialFailuresOfAThrottledShard(t *testing.T) {
	a := outboxtest.Start(t, outboxtest.WithKinesisLimits(), outboxtest.WithClock(func() time.Time { return time.Unix(1e9, 0) }))
	name := stream(t, a, "changes", 2)
	in := kinesis.PutRecordsInput{StreamName: name}
	for range 3 {
		in.Records = append(in.Records, types.PutRecordsRequestEntry{PartitionKey: aws.String("same"), Data: make([]byte, 400<<10)},
			types.PutRecordsRequestEntry{PartitionKey: aws.String("k"), ExplicitHashKey: aws.String("0"), Data: []byte("x")})
	}
	out, err := a.Kinesis.PutRecords(t.Context(), &in)
	require.NoError(t, err)
	require.EqualValues(t, 1, *out.FailedRecordCount, "only the full shard refuses")
	require.NotNil(t, out.Records[4].ErrorCode)
	require.Equal(t, first, *out.Records[5].ShardId)
}

func TestPartialFailuresByAFault(t *testing.T) {
	a := outboxtest.Start(t, outboxtest.WithFaults(7, outboxtest.Fault{Kind: outboxtest.ThrottleEntry, Calls: []int{2, 5}}))
	name := stream(t, a, "changes", 2)
	write := func(n int) (refused []int) {
		t.Helper()
		in := kinesis.PutRecordsInput{StreamName: name}
		for i := range n {
			in.Records = append(in.Records, types.PutRecordsRequestEntry{PartitionKey: aws.String(fmt.Sprint(i)), Data: []byte("x")})
		}
		out, err := a.Kinesis.PutRecords(t.Context(), &in)
		require.NoError(t, err)
		for i, r := range out.Records {
			if r.ErrorCode == nil {
				require.NotNil(t, r.SequenceNumber)
				continue
			}
			require.Equal(t, "ProvisionedThroughputExceededException", *r.ErrorCode)
			require.Regexp(t, `^Rate exceeded for shard shardId-00000000000\d in stream changes under account 000000000000\.$`, *r.ErrorMessage)
			require.Nil(t, r.SequenceNumber)
			require.Nil(t, r.ShardId)
			refused = append(refused, i)
		}
		require.EqualValues(t, len(refused), *out.FailedRecordCount)
		return refused
	}
	require.Equal(t, []int{1}, write(3))
	require.Equal(t, []int{1}, write(3), "records are counted over all requests")
	require.NoError(t, putOnce(t, a, name), "a PutRecord has no entries")

	require.NoError(t, a.SetFaults(outboxtest.Fault{Kind: outboxtest.ThrottleEntry, Probability: 0.3}))
	refused := write(200)
	require.InDelta(t, 60, len(refused), 30)
	again := outboxtest.Start(t, outboxtest.WithFaults(7, outboxtest.Fault{Kind: outboxtest.ThrottleEntry, Probability: 0.3}))
	a, name = again, stream(t, again, "changes", 2)
	require.Equal(t, refused, write(200), "the same seed refuses the same records")
}

// logging is a test that keeps what it is told.
type logging struct {
	outboxtest.TB
	lines []string
}

func (l *logging) Logf(format string, args ...any) {
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

func TestARunPrintsItsSeedAndTheSeedReplaysIt(t *testing.T) {
	storm := outboxtest.Fault{Kind: outboxtest.Throttle, Operation: "PutRecord", Probability: 0.5}
	play := func(a *outboxtest.AWS) (out string) {
		name := stream(t, a, "changes", 1)
		for range 64 {
			if putOnce(t, a, name) == nil {
				out += "."
			} else {
				out += "x"
			}
		}
		return out
	}
	l := &logging{TB: t}
	first := outboxtest.Start(l, outboxtest.WithRandomFaults(storm))
	require.Equal(t, []string{fmt.Sprintf("outboxtest: faults by seed %d; to replay them, set OUTBOXTEST_SEED=%d", first.Seed(), first.Seed())}, l.lines)
	other := outboxtest.Start(l, outboxtest.WithRandomFaults(storm))
	require.NotEqual(t, first.Seed(), other.Seed())
	one := play(first)
	require.NotEqual(t, one, play(other))

	t.Setenv(outboxtest.SeedVariable, fmt.Sprint(first.Seed()))
	again := outboxtest.Start(l, outboxtest.WithRandomFaults(storm))
	require.Equal(t, first.Seed(), again.Seed())
	require.Equal(t, one, play(again))
	l.lines = nil
	require.Equal(t, one, play(outboxtest.Start(l, outboxtest.WithFaults(first.Seed(), storm))))
	require.Equal(t, []string{fmt.Sprintf("outboxtest: faults by seed %d", first.Seed())}, l.lines)

	l.lines = nil
	outboxtest.Start(l)
	require.Empty(t, l.lines, "without faults there is nothing to replay")
	t.Setenv(outboxtest.SeedVariable, "yesterday")
	b := &brokenTest{TB: t}
	outboxtest.Start(b, outboxtest.WithRandomFaults(storm))
	require.Contains(t, b.failure, "the environment variable OUTBOXTEST_SEED is no seed")
}
