package shardreader

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/smithy-go/middleware"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// dateless is a client that loses the metadata of answers, as one of the user's own may.
type dateless struct{ KinesisClient }

func (c dateless) ListShards(ctx context.Context, in *kinesis.ListShardsInput, opts ...func(*kinesis.Options)) (*kinesis.ListShardsOutput, error) {
	out, err := c.KinesisClient.ListShards(ctx, in, opts...)
	if out != nil {
		out.ResultMetadata = middleware.Metadata{}
	}
	return out, err
}

// datelessStreams is dateless for DynamoDB Streams.
type datelessStreams struct{ StreamsClient }

func (c datelessStreams) DescribeStream(ctx context.Context, in *dynamodbstreams.DescribeStreamInput, opts ...func(*dynamodbstreams.Options)) (*dynamodbstreams.DescribeStreamOutput, error) {
	out, err := c.StreamsClient.DescribeStream(ctx, in, opts...)
	if out != nil {
		out.ResultMetadata = middleware.Metadata{}
	}
	return out, err
}

// Kinesis refuses a time that its clock has not reached, and a later time would skip what arrives before it.
func TestLatestIsNeverAheadOfTheService(t *testing.T) {
	for _, skew := range []time.Duration{0, 700 * time.Millisecond, 4 * time.Second, 5 * time.Minute, 3 * time.Hour, -5 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			service := func() time.Time { return time.Now().Add(-skew) }
			a, _, _ := kinesisStream(t, outboxtest.WithClock(service))
			defer a.Close()
			table, err := a.DynamoDB.CreateTable(t.Context(), &dynamodb.CreateTableInput{TableName: aws.String("changes"), BillingMode: dbtypes.BillingModePayPerRequest,
				AttributeDefinitions: []dbtypes.AttributeDefinition{{AttributeName: aws.String("id"), AttributeType: dbtypes.ScalarAttributeTypeS}},
				KeySchema:            []dbtypes.KeySchemaElement{{AttributeName: aws.String("id"), KeyType: dbtypes.KeyTypeHash}},
				StreamSpecification:  &dbtypes.StreamSpecification{StreamEnabled: aws.Bool(true), StreamViewType: dbtypes.StreamViewTypeNewImage}})
			require.NoError(t, err)
			arn := *table.TableDescription.LatestStreamArn
			for name, source := range map[string]Source{"Kinesis": &Kinesis{Client: a.Kinesis, Stream: "changes"}, "Streams": &Streams{Client: a.Streams, ARN: arn}} {
				before := service()
				at, err := source.Latest(t.Context())
				require.NoError(t, err)
				require.False(t, at.After(service()), "%s: %s is ahead of %s", name, at, service())
				require.WithinDuration(t, before, at, time.Second, name)
				require.WithinDuration(t, service(), source.Now(), time.Second, "%s, %s off", name, skew)
			}

			at, err := (&Kinesis{Client: dateless{a.Kinesis}, Stream: "changes"}).Latest(t.Context())
			require.NoError(t, err)
			require.False(t, at.After(service()) && skew > 0, "without a Date: %s is ahead of %s", at, service())
			require.WithinDuration(t, service(), at, max(2*skew, -skew)+10*time.Second, "and not much earlier")

			at, err = (&Streams{Client: datelessStreams{a.Streams}, ARN: arn}).Latest(t.Context())
			require.NoError(t, err)
			require.Equal(t, time.Now(), at, "as far as anybody can tell")
		})
	}
}

// A Date has full seconds. A local clock that is right must not lose its milliseconds to them.
func TestTheLocalClockIsBelievedUntilAnAnswerContradictsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var skew time.Duration
		a, _, _ := kinesisStream(t, outboxtest.WithClock(func() time.Time { return time.Now().Add(-skew) }))
		defer a.Close()
		k := &Kinesis{Client: a.Kinesis, Stream: "changes"}
		require.Equal(t, time.Now(), k.Now(), "before the first answer")
		for i := range 100 {
			time.Sleep(time.Duration(i) * 37 * time.Millisecond)
			_, err := k.Shards(t.Context())
			require.NoError(t, err)
			require.Equal(t, time.Now(), k.Now())
		}
		skew = 5 * time.Minute // the local clock is set forward
		_, err := k.Shards(t.Context())
		require.NoError(t, err)
		require.WithinDuration(t, time.Now().Add(-skew), k.Now(), time.Second)
		skew = 0
		_, err = k.Shards(t.Context())
		require.NoError(t, err)
		require.Equal(t, time.Now(), k.Now(), "and back")
	})
}
