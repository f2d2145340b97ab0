package outboxtest_test

import (
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

func TestDescribeAndListStreams(t *testing.T) {
	a := outboxtest.Start(t)
	for i := range 5 {
		stream(t, a, fmt.Sprint("s", i), 3)
	}
	var names []string
	pages := kinesis.NewListStreamsPaginator(a.Kinesis, &kinesis.ListStreamsInput{Limit: aws.Int32(2)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		require.NoError(t, err)
		names = append(names, page.StreamNames...)
	}
	require.Equal(t, []string{"s0", "s1", "s2", "s3", "s4"}, names)
	out, err := a.Kinesis.ListStreams(t.Context(), &kinesis.ListStreamsInput{ExclusiveStartStreamName: aws.String("s3")})
	require.NoError(t, err)
	require.Equal(t, []string{"s4"}, out.StreamNames)
	require.Equal(t, types.StreamStatusActive, out.StreamSummaries[0].StreamStatus)

	d, err := a.Kinesis.DescribeStream(t.Context(), &kinesis.DescribeStreamInput{StreamName: aws.String("s1"), Limit: aws.Int32(2)})
	require.NoError(t, err)
	require.True(t, *d.StreamDescription.HasMoreShards)
	require.Len(t, d.StreamDescription.Shards, 2)
	d, err = a.Kinesis.DescribeStream(t.Context(), &kinesis.DescribeStreamInput{StreamName: aws.String("s1"),
		ExclusiveStartShardId: d.StreamDescription.Shards[1].ShardId})
	require.NoError(t, err)
	require.False(t, *d.StreamDescription.HasMoreShards)
	require.Len(t, d.StreamDescription.Shards, 1)
	require.Equal(t, "arn:aws:kinesis:us-east-1:000000000000:stream/s1", *d.StreamDescription.StreamARN)
	require.EqualValues(t, 24, *d.StreamDescription.RetentionPeriodHours)
	limits, err := a.Kinesis.DescribeLimits(t.Context(), &kinesis.DescribeLimitsInput{})
	require.NoError(t, err)
	require.EqualValues(t, 15, *limits.OpenShardCount)
}

func TestTags(t *testing.T) {
	a := outboxtest.Start(t)
	name := stream(t, a, "changes", 1)
	_, err := a.Kinesis.AddTagsToStream(t.Context(), &kinesis.AddTagsToStreamInput{StreamName: name, Tags: map[string]string{"a": "1", "b": "2", "c": ""}})
	require.NoError(t, err)
	_, err = a.Kinesis.RemoveTagsFromStream(t.Context(), &kinesis.RemoveTagsFromStreamInput{StreamName: name, TagKeys: []string{"b"}})
	require.NoError(t, err)
	out, err := a.Kinesis.ListTagsForStream(t.Context(), &kinesis.ListTagsForStreamInput{StreamName: name, Limit: aws.Int32(1)})
	require.NoError(t, err)
	require.True(t, *out.HasMoreTags)
	require.Equal(t, "a", *out.Tags[0].Key)
	out, err = a.Kinesis.ListTagsForStream(t.Context(), &kinesis.ListTagsForStreamInput{StreamName: name, ExclusiveStartTagKey: aws.String("a")})
	require.NoError(t, err)
	require.Len(t, out.Tags, 1)
	require.Equal(t, "c", *out.Tags[0].Key)
	for tag, want := range map[string]string{
		"a*": "Some tags contain invalid characters. Valid characters: Unicode letters, digits, white space, _ . / = + - % @.",
		"a%": "Failed to add tags to stream changes under account 000000000000 because some tags contained illegal characters.",
	} {
		_, err = a.Kinesis.AddTagsToStream(t.Context(), &kinesis.AddTagsToStreamInput{StreamName: name, Tags: map[string]string{tag: "x"}})
		require.ErrorContains(t, err, want)
	}
	many := make(map[string]string)
	for i := range 51 {
		many[fmt.Sprint("t", i)] = "x"
	}
	_, err = a.Kinesis.AddTagsToStream(t.Context(), &kinesis.AddTagsToStreamInput{StreamName: name, Tags: many})
	require.ErrorContains(t, err, "because a given stream cannot have more than 50 tags associated with it.")
}

// With AUTO the partition key says nothing: one key's records are spread over the shards.
func TestRecordDistribution(t *testing.T) {
	a := outboxtest.Start(t)
	onDemand := &types.StreamModeDetails{StreamMode: types.StreamModeOnDemand}
	_, err := a.Kinesis.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: aws.String("changes"), StreamModeDetails: onDemand,
		RecordDistributionStrategy: types.RecordDistributionStrategyAuto})
	require.NoError(t, err)
	summary := func() *types.StreamDescriptionSummary {
		t.Helper()
		out, err := a.Kinesis.DescribeStreamSummary(t.Context(), &kinesis.DescribeStreamSummaryInput{StreamName: aws.String("changes")})
		require.NoError(t, err)
		return out.StreamDescriptionSummary
	}
	shards := func() map[string]int {
		t.Helper()
		hit := map[string]int{}
		for range 8 {
			out, err := a.Kinesis.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: aws.String("changes"), PartitionKey: aws.String("k"), Data: []byte("x")})
			require.NoError(t, err)
			hit[*out.ShardId]++
		}
		return hit
	}
	require.Equal(t, types.RecordDistributionStrategyAuto, summary().RecordDistributionStrategy)
	require.Equal(t, map[string]int{"shardId-000000000000": 2, "shardId-000000000001": 2, "shardId-000000000002": 2, "shardId-000000000003": 2}, shards())
	arn := summary().StreamARN
	change := func(to types.RecordDistributionStrategy) error {
		_, err := a.Kinesis.UpdateStreamRecordDistributionStrategy(t.Context(), &kinesis.UpdateStreamRecordDistributionStrategyInput{StreamARN: arn,
			RecordDistributionStrategy: to})
		return err
	}
	require.NoError(t, change(types.RecordDistributionStrategyUserPartitionKey))
	require.Equal(t, types.RecordDistributionStrategyUserPartitionKey, summary().RecordDistributionStrategy)
	require.Len(t, shards(), 1)
	require.ErrorContains(t, change("RANDOM"), "Member must satisfy enum value set")

	require.NoError(t, change(types.RecordDistributionStrategyAuto))
	_, err = a.Kinesis.UpdateStreamMode(t.Context(), &kinesis.UpdateStreamModeInput{StreamARN: arn,
		StreamModeDetails: &types.StreamModeDetails{StreamMode: types.StreamModeProvisioned}})
	require.NoError(t, err)
	require.Equal(t, types.RecordDistributionStrategyUserPartitionKey, summary().RecordDistributionStrategy)
	require.ErrorContains(t, change(types.RecordDistributionStrategyAuto), "InvalidArgumentException")
	_, err = a.Kinesis.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: aws.String("other"), ShardCount: aws.Int32(1),
		RecordDistributionStrategy: types.RecordDistributionStrategyAuto})
	require.ErrorContains(t, err, "InvalidArgumentException")
}

// Who names neither a mode nor a number of shards gets four.
func TestAStreamOfNoNumberHasFourShards(t *testing.T) {
	a := outboxtest.Start(t)
	_, err := a.Kinesis.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: aws.String("changes")})
	require.NoError(t, err)
	all := shards(t, a, aws.String("changes"))
	require.Len(t, all, 4)
	covers(t, all)
}

func TestModesAndRecordSize(t *testing.T) {
	a := outboxtest.Start(t)
	_, err := a.Kinesis.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: aws.String("changes"),
		StreamModeDetails: &types.StreamModeDetails{StreamMode: types.StreamModeOnDemand}})
	require.NoError(t, err)
	summary := func() *types.StreamDescriptionSummary {
		t.Helper()
		out, err := a.Kinesis.DescribeStreamSummary(t.Context(), &kinesis.DescribeStreamSummaryInput{StreamName: aws.String("changes")})
		require.NoError(t, err)
		return out.StreamDescriptionSummary
	}
	require.Equal(t, types.StreamModeOnDemand, summary().StreamModeDetails.StreamMode)
	require.EqualValues(t, 4, *summary().OpenShardCount)
	require.EqualValues(t, 1024, *summary().MaxRecordSizeInKiB)
	require.Equal(t, types.RecordDistributionStrategyUserPartitionKey, summary().RecordDistributionStrategy)
	arn := summary().StreamARN
	_, err = a.Kinesis.UpdateStreamMode(t.Context(), &kinesis.UpdateStreamModeInput{StreamARN: arn,
		StreamModeDetails: &types.StreamModeDetails{StreamMode: types.StreamModeProvisioned}})
	require.NoError(t, err)
	require.Equal(t, types.StreamModeProvisioned, summary().StreamModeDetails.StreamMode)
	big := &kinesis.PutRecordInput{StreamARN: arn, PartitionKey: aws.String("k"), Data: make([]byte, 2<<20)}
	_, err = a.Kinesis.PutRecord(t.Context(), big)
	require.ErrorContains(t, err, "InvalidArgumentException")
	_, err = a.Kinesis.UpdateMaxRecordSize(t.Context(), &kinesis.UpdateMaxRecordSizeInput{StreamARN: arn, MaxRecordSizeInKiB: aws.Int32(3072)})
	require.NoError(t, err)
	_, err = a.Kinesis.PutRecord(t.Context(), big)
	require.NoError(t, err)
	for mode, in := range map[string]*kinesis.CreateStreamInput{
		"ShardCount is a required parameter for PROVISIONED": {StreamName: aws.String("x"),
			StreamModeDetails: &types.StreamModeDetails{StreamMode: types.StreamModeProvisioned}},
		"ShardCount cannot be set for ON_DEMAND": {StreamName: aws.String("x"), ShardCount: aws.Int32(1),
			StreamModeDetails: &types.StreamModeDetails{StreamMode: types.StreamModeOnDemand}},
	} {
		_, err = a.Kinesis.CreateStream(t.Context(), in)
		require.ErrorContains(t, err, mode)
	}
}
