package outboxtest_test

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	streamstypes "github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// An iterator from before a DynamoDB stream was disabled comes to the end of its shard, after the records. A stream that is enabled
// again at the same time is another one.
func TestADisabledStreamEnds(t *testing.T) {
	at := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	a := outboxtest.Start(t, outboxtest.WithClock(func() time.Time { return at }))
	a.CreateTable(t, "events", "eventId")
	set := func(on bool) string {
		s := &types.StreamSpecification{StreamEnabled: &on}
		if on {
			s.StreamViewType = types.StreamViewTypeNewImage
		}
		out, err := a.DynamoDB.UpdateTable(t.Context(), &dynamodb.UpdateTableInput{TableName: aws.String("events"), StreamSpecification: s})
		require.NoError(t, err)
		return aws.ToString(out.TableDescription.LatestStreamArn)
	}
	known := map[string]bool{}
	for range 3 {
		arn := set(true)
		require.False(t, known[arn], "%s comes again", arn)
		known[arn] = true
		d, err := a.Streams.DescribeStream(t.Context(), &dynamodbstreams.DescribeStreamInput{StreamArn: &arn})
		require.NoError(t, err)
		shard := d.StreamDescription.Shards[0].ShardId
		require.False(t, known[*shard], "%s comes again", *shard)
		known[*shard] = true
		first, err := a.Streams.GetShardIterator(t.Context(), &dynamodbstreams.GetShardIteratorInput{StreamArn: &arn, ShardId: shard, ShardIteratorType: streamstypes.ShardIteratorTypeTrimHorizon})
		require.NoError(t, err)
		it, records := first.ShardIterator, 0
		read := func() {
			out, err := a.Streams.GetRecords(t.Context(), &dynamodbstreams.GetRecordsInput{ShardIterator: it})
			require.NoError(t, err)
			for _, r := range out.Records {
				number := *r.Dynamodb.SequenceNumber
				require.False(t, known[number], "%s comes again", number)
				known[number] = true
				records++
			}
			it = out.NextShardIterator
		}
		read()
		require.NotNil(t, it)
		_, err = a.DynamoDB.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("events"), Item: map[string]types.AttributeValue{"eventId": &types.AttributeValueMemberS{Value: arn}}})
		require.NoError(t, err)
		set(false)
		read()
		require.Equal(t, 1, records)
		if it != nil {
			read()
		}
		require.Nil(t, it, "the shard has ended")
	}
}

// A Kinesis stream that is deleted and created in the same second does not repeat the numbers of the first one.
func TestAStreamThatIsCreatedAgainHasOtherNumbers(t *testing.T) {
	at := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	a := outboxtest.Start(t, outboxtest.WithClock(func() time.Time { return at }))
	name := aws.String("changes")
	known := map[string]bool{}
	for range 3 {
		_, err := a.Kinesis.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: name, ShardCount: aws.Int32(1)})
		require.NoError(t, err)
		put := func() {
			out, err := a.Kinesis.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: name, PartitionKey: aws.String("k"), Data: []byte("x")})
			require.NoError(t, err)
			require.False(t, known[*out.SequenceNumber], "%s comes again", *out.SequenceNumber)
			known[*out.SequenceNumber] = true
		}
		put()
		_, err = a.Kinesis.SplitShard(t.Context(), &kinesis.SplitShardInput{StreamName: name, ShardToSplit: aws.String("shardId-000000000000"), NewStartingHashKey: aws.String("170141183460469231731687303715884105728")})
		require.NoError(t, err)
		put()
		listed, err := a.Kinesis.ListShards(t.Context(), &kinesis.ListShardsInput{StreamName: name})
		require.NoError(t, err)
		starts := map[string]bool{} // children of one split may have one
		for _, s := range listed.Shards {
			starts[*s.SequenceNumberRange.StartingSequenceNumber] = true
		}
		for number := range starts {
			require.False(t, known[number], "%s comes again", number)
			known[number] = true
		}
		for _, s := range listed.Shards[1:] {
			i, err := a.Kinesis.GetShardIterator(t.Context(), &kinesis.GetShardIteratorInput{StreamName: name, ShardId: s.ShardId, ShardIteratorType: kinesistypes.ShardIteratorTypeTrimHorizon})
			require.NoError(t, err)
			require.NotEmpty(t, i.ShardIterator)
		}
		_, err = a.Kinesis.DeleteStream(t.Context(), &kinesis.DeleteStreamInput{StreamName: name})
		require.NoError(t, err)
	}
}
