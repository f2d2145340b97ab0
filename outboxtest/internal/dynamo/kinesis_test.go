package dynamo_test

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/dynamo"
)

const streamARN = "arn:aws:kinesis:us-east-1:000000000000:stream/events"

func TestKinesisDestination(t *testing.T) {
	w := newWorld(t, func(c *dynamo.Config) {
		c.EnableDelay = time.Minute
		c.StreamExists = func(arn string) bool { return arn == streamARN }
	})
	w.create("rows", "pk:S")
	status := func() types.DestinationStatus {
		out, err := w.DescribeKinesisStreamingDestination(t.Context(), &dynamodb.DescribeKinesisStreamingDestinationInput{TableName: aws.String("rows")})
		require.NoError(t, err)
		require.Len(t, out.KinesisDataStreamDestinations, 1)
		require.Equal(t, streamARN, *out.KinesisDataStreamDestinations[0].StreamArn)
		return out.KinesisDataStreamDestinations[0].DestinationStatus
	}
	enable := func(arn string) error {
		_, err := w.EnableKinesisStreamingDestination(t.Context(), &dynamodb.EnableKinesisStreamingDestinationInput{
			TableName: aws.String("rows"), StreamArn: &arn})
		return err
	}
	destinations := func(pk string) []dynamo.Destination {
		w.put("rows", item{"pk": s(pk)})
		changes := w.taken()
		require.Len(t, changes, 1)
		return changes[0].Destinations
	}

	_, answer := w.text("EnableKinesisStreamingDestination", `{"TableName":"rows","StreamArn":"`+streamARN+`"}`)
	require.JSONEq(t, `{"TableName":"rows","StreamArn":"`+streamARN+`","DestinationStatus":"ENABLING","EnableKinesisStreamingConfiguration":{}}`, answer)
	require.Equal(t, types.DestinationStatusEnabling, status())
	require.Empty(t, destinations("before"), "a change before ACTIVE is not replicated")
	requireInvalid(t, enable(streamARN), "Table is not in a valid state to enable Kinesis Streaming Destination: "+
		"EnableKinesisStreamingDestination must be DISABLED or ENABLE_FAILED to perform ENABLE operation.")

	w.advance(time.Minute)
	require.Equal(t, types.DestinationStatusActive, status())
	_, answer = w.text("DescribeKinesisStreamingDestination", `{"TableName":"rows"}`)
	require.JSONEq(t, `{"TableName":"rows","KinesisDataStreamDestinations":[{"StreamArn":"`+streamARN+`","DestinationStatus":"ACTIVE"}]}`, answer,
		"a precision that nobody chose is not told")
	require.Equal(t, []dynamo.Destination{{StreamARN: streamARN, Precision: "MILLISECOND"}}, destinations("active"))

	micro := types.ApproximateCreationDateTimePrecisionMicrosecond
	update := func() error {
		_, err := w.UpdateKinesisStreamingDestination(t.Context(), &dynamodb.UpdateKinesisStreamingDestinationInput{
			TableName: aws.String("rows"), StreamArn: aws.String(streamARN),
			UpdateKinesisStreamingConfiguration: &types.UpdateKinesisStreamingConfiguration{ApproximateCreationDateTimePrecision: micro},
		})
		return err
	}
	require.NoError(t, update())
	require.Equal(t, types.DestinationStatusUpdating, status())
	require.Equal(t, "MILLISECOND", destinations("updating")[0].Precision, "changes go on to be replicated")
	requireInvalid(t, update(), "Table is not in a valid state to enable Kinesis Streaming Destination: No streaming destination with streamArn: "+streamARN+
		" found for table with tableName: rows")
	w.advance(time.Minute)
	require.Equal(t, types.DestinationStatusActive, status())
	require.ErrorContains(t, update(), "Invalid Request: Precision is already set to the desired value of MICROSECOND for tableId: ")
	require.Equal(t, "MICROSECOND", destinations("micro")[0].Precision)
	_, answer = w.text("DescribeKinesisStreamingDestination", `{"TableName":"rows"}`)
	require.Contains(t, answer, `"ApproximateCreationDateTimePrecision":"MICROSECOND"`)

	disable := func() error {
		_, err := w.DisableKinesisStreamingDestination(t.Context(), &dynamodb.DisableKinesisStreamingDestinationInput{
			TableName: aws.String("rows"), StreamArn: aws.String(streamARN)})
		return err
	}
	require.NoError(t, disable())
	require.Equal(t, types.DestinationStatusDisabling, status())
	require.Empty(t, destinations("disabling"))
	w.advance(time.Minute)
	require.Equal(t, types.DestinationStatusDisabled, status())
	requireInvalid(t, disable(), "Table is not in a valid state to enable Kinesis Streaming Destination: "+
		"KinesisStreamingDestination must be ACTIVE to perform DISABLE operation.")
	require.NoError(t, enable(streamARN), "it can be enabled again")
	for body, message := range map[string]string{
		`{"TableName":"rows","StreamArn":"` + streamARN + `"}`: "Streaming destination cannot be updated with given parameters: UpdateKinesisStreamingConfiguration cannot be null or contain only null values",
		`{"TableName":"rows","StreamArn":"` + streamARN + `","UpdateKinesisStreamingConfiguration":{"ApproximateCreationDateTimePrecision":"SECOND"}}`: enveloped +
			"Value 'SECOND' at 'updateKinesisStreamingConfiguration.approximateCreationDateTimePrecision' failed to satisfy constraint: Member must satisfy enum value set: [MILLISECOND, MICROSECOND]",
	} {
		require.Equal(t, message, w.refused("UpdateKinesisStreamingDestination", body))
	}

	unknown := "arn:aws:kinesis:us-east-1:000000000000:stream/unknown"
	requireError(t, enable(unknown), "ResourceNotFoundException", "Requested resource not found: Stream: "+unknown+" not found")
	_, err := w.DescribeKinesisStreamingDestination(t.Context(), &dynamodb.DescribeKinesisStreamingDestinationInput{TableName: aws.String("nowhere")})
	requireError(t, err, "ResourceNotFoundException", "Requested resource not found: Table: nowhere not found")
}
