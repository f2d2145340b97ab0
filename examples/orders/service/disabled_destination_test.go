package service

import (
	"bytes"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// Every redrive tells whether new events reach the stream, since no metric of AWS does. Another stream that gets them does not count. What cannot be found out is not told, and the
// invocation fails.
func TestADisabledDestinationIsAMetric(t *testing.T) {
	quiet(t)
	cloud, _ := withLetters(t)
	lines := &bytes.Buffer{}
	redrive, err := NewRedrive(cloud.DynamoDB, local, brokenMailer{}, lines)
	require.NoError(t, err)
	disabled := func() any {
		lines.Reset()
		_, err := redrive.Invoke(t.Context(), nil)
		require.NoError(t, err)
		return gauge(t, lines, DestinationMetric)
	}
	require.EqualValues(t, 0, disabled())
	stream := streamARN(t, cloud, local.EventsStream)
	_, err = cloud.DynamoDB.DisableKinesisStreamingDestination(t.Context(), &dynamodb.DisableKinesisStreamingDestinationInput{TableName: aws.String(local.EventsTable), StreamArn: stream})
	require.NoError(t, err)
	require.EqualValues(t, 1, disabled())
	_, err = cloud.DynamoDB.EnableKinesisStreamingDestination(t.Context(), &dynamodb.EnableKinesisStreamingDestinationInput{TableName: aws.String(local.EventsTable), StreamArn: stream})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return disabled() == 0.0 }, time.Minute, 10*time.Millisecond)

	_, err = cloud.Kinesis.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: aws.String("audit-" + local.EventsStream), ShardCount: aws.Int32(1)})
	require.NoError(t, err)
	_, err = cloud.DynamoDB.EnableKinesisStreamingDestination(t.Context(), &dynamodb.EnableKinesisStreamingDestinationInput{TableName: aws.String(local.EventsTable), StreamArn: streamARN(t, cloud, "audit-"+local.EventsStream)})
	require.NoError(t, err)
	require.EqualValues(t, 0, disabled())
	_, err = cloud.DynamoDB.DisableKinesisStreamingDestination(t.Context(), &dynamodb.DisableKinesisStreamingDestinationInput{TableName: aws.String(local.EventsTable), StreamArn: stream})
	require.NoError(t, err)
	require.EqualValues(t, 1, disabled())

	lines.Reset()
	missing := local
	missing.EventsTable = "another"
	redrive, err = NewRedrive(cloud.DynamoDB, missing, brokenMailer{}, lines)
	require.NoError(t, err)
	_, err = redrive.Invoke(t.Context(), nil)
	require.ErrorContains(t, err, "the destination of table another: ")
	require.Nil(t, gauge(t, lines, DestinationMetric))
}

func streamARN(t *testing.T, cloud *outboxtest.AWS, stream string) *string {
	out, err := cloud.Kinesis.DescribeStreamSummary(t.Context(), &kinesis.DescribeStreamSummaryInput{StreamName: &stream})
	require.NoError(t, err)
	return out.StreamDescriptionSummary.StreamARN
}
