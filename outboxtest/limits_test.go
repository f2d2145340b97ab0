package outboxtest_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

func TestAShardTakesAThousandRecordsASecond(t *testing.T) {
	now := time.Unix(1e9, 0)
	a := outboxtest.Start(t, outboxtest.WithKinesisLimits(), outboxtest.WithClock(func() time.Time { return now }))
	in := kinesis.PutRecordsInput{StreamName: stream(t, a, "changes", 1)}
	for range 400 {
		in.Records = append(in.Records, types.PutRecordsRequestEntry{PartitionKey: aws.String("k"), Data: []byte("x")})
	}
	refused := func() int32 {
		out, err := a.Kinesis.PutRecords(t.Context(), &in)
		require.NoError(t, err)
		return *out.FailedRecordCount
	}
	require.Zero(t, refused())
	require.Zero(t, refused())
	require.EqualValues(t, 200, refused())
	require.ErrorContains(t, putOnce(t, a, in.StreamName), "ProvisionedThroughputExceededException: Rate exceeded for shard "+first+" in stream changes")
	now = now.Add(time.Second)
	require.NoError(t, putOnce(t, a, in.StreamName))
	require.Equal(t, 1001, count(t, a, in.StreamName))
}

func TestARecordThatNoInvocationHoldsIsGivenUp(t *testing.T) {
	a := outboxtest.Start(t)
	name := stream(t, a, "changes", 1)
	_, err := a.Kinesis.UpdateMaxRecordSize(t.Context(), &kinesis.UpdateMaxRecordSizeInput{
		StreamARN: aws.String("arn:aws:kinesis:us-east-1:000000000000:stream/changes"), MaxRecordSizeInKiB: aws.Int32(5120)})
	require.NoError(t, err)
	put(t, a, name, "k", "before")
	big := put(t, a, name, "k", string(make([]byte, 5<<20-1))) // base64 makes it larger than 6 MB
	put(t, a, name, "k", "after")
	var given []string
	f := &function{}
	_, err = a.Map(outboxtest.EventSource{Stream: *name, OnFailure: func(b outboxtest.FailedBatch) {
		given = append(given, fmt.Sprintf("%s %s %d after %d: %v", b.Condition, b.FirstSequenceNumber, b.Size, b.Attempts, b.Err))
	}}, func(ctx context.Context, payload []byte) ([]byte, error) { return f.Invoke(ctx, payload) })
	require.NoError(t, err)
	require.NoError(t, a.Drain(deadline(t)))
	require.Len(t, given, 1)
	require.Regexp(t, "^PayloadSizeExceeded "+*big.SequenceNumber+` 1 after 0: a payload of 699\d{4} bytes is more than Lambda takes$`, given[0])
	require.Equal(t, batches("before", "after"), f.seen())
}
