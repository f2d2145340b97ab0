package outboxtest_test

import (
	"crypto/md5"
	"fmt"
	"math/big"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

func TestSplitAndMergeKeepTheLineage(t *testing.T) {
	a := outboxtest.Start(t)
	name := stream(t, a, "changes", 1)
	for i := range 10 {
		put(t, a, name, fmt.Sprint("key", i), fmt.Sprint("before", i))
	}
	parentIterator := horizon(t, a, name, aws.String("shardId-000000000000"))
	split(t, a, name, shards(t, a, name)[0])
	all := shards(t, a, name)
	require.Len(t, all, 3)
	covers(t, all)
	parent, left, right := all[0], all[1], all[2]
	require.NotNil(t, parent.SequenceNumberRange.EndingSequenceNumber, "the parent is closed")
	for _, child := range []types.Shard{left, right} {
		require.Equal(t, *parent.ShardId, *child.ParentShardId)
		require.Nil(t, child.AdjacentParentShardId)
		require.Greater(t, *child.SequenceNumberRange.StartingSequenceNumber, *parent.SequenceNumberRange.EndingSequenceNumber,
			"a child's numbers are above its parent's")
	}

	for i := range 10 {
		out := put(t, a, name, fmt.Sprint("key", i), fmt.Sprint("after", i))
		require.NotEqual(t, *parent.ShardId, *out.ShardId)
	}
	data, ended := readAll(t, a, parentIterator)
	require.Len(t, data, 10, "what was written before stays in the parent")
	require.True(t, ended)
	// Closed shards are still readable from every position.
	data, ended = readAll(t, a, iterator(t, a, &kinesis.GetShardIteratorInput{StreamName: name, ShardId: parent.ShardId,
		ShardIteratorType: types.ShardIteratorTypeAfterSequenceNumber, StartingSequenceNumber: parent.SequenceNumberRange.EndingSequenceNumber}))
	require.Empty(t, data)
	require.True(t, ended)

	_, err := a.Kinesis.SplitShard(t.Context(), &kinesis.SplitShardInput{StreamName: name, ShardToSplit: parent.ShardId, NewStartingHashKey: middle(left)})
	var invalid *types.InvalidArgumentException
	require.ErrorAs(t, err, &invalid, "a closed shard cannot be split")
	_, err = a.Kinesis.MergeShards(t.Context(), &kinesis.MergeShardsInput{StreamName: name, ShardToMerge: parent.ShardId, AdjacentShardToMerge: right.ShardId})
	require.ErrorAs(t, err, &invalid, "nor merged")

	_, err = a.Kinesis.MergeShards(t.Context(), &kinesis.MergeShardsInput{StreamName: name, ShardToMerge: left.ShardId, AdjacentShardToMerge: right.ShardId})
	require.NoError(t, err)
	all = shards(t, a, name)
	require.Len(t, all, 4)
	covers(t, all)
	require.Equal(t, *left.ShardId, *all[3].ParentShardId)
	require.Equal(t, *right.ShardId, *all[3].AdjacentParentShardId)
	total := 0
	for _, sh := range []types.Shard{left, right} {
		data, ended := readAll(t, a, horizon(t, a, name, sh.ShardId))
		require.True(t, ended)
		total += len(data)
	}
	require.Equal(t, 10, total)
}

func TestTheEndOfAShardNamesItsChildren(t *testing.T) {
	a := outboxtest.Start(t)
	name := stream(t, a, "changes", 1)
	put(t, a, name, "k", "x")
	it := horizon(t, a, name, aws.String("shardId-000000000000"))
	split(t, a, name, shards(t, a, name)[0])
	out, err := a.Kinesis.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: it})
	require.NoError(t, err)
	require.Len(t, out.Records, 1)
	require.NotNil(t, out.NextShardIterator)
	require.Empty(t, out.ChildShards)
	out, err = a.Kinesis.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: out.NextShardIterator})
	require.NoError(t, err)
	require.Nil(t, out.NextShardIterator)
	require.Len(t, out.ChildShards, 2)
	require.Equal(t, []string{"shardId-000000000000"}, out.ChildShards[0].ParentShards)
}

func TestMergeRefusesShardsThatAreNotNeighbours(t *testing.T) {
	a := outboxtest.Start(t)
	name := stream(t, a, "changes", 3)
	_, err := a.Kinesis.MergeShards(t.Context(), &kinesis.MergeShardsInput{StreamName: name,
		ShardToMerge: aws.String("shardId-000000000000"), AdjacentShardToMerge: aws.String("shardId-000000000002")})
	require.ErrorContains(t, err, "InvalidArgumentException: Shards shardId-000000000000 and shardId-000000000002 in stream changes "+
		"under account 000000000000 are not an adjacent pair of shards eligible for merging")
}

func TestUpdateShardCount(t *testing.T) {
	a := outboxtest.Start(t)
	name := stream(t, a, "changes", 2)
	for _, target := range []int32{4, 3, 6, 3, 2, 1} {
		out, err := a.Kinesis.UpdateShardCount(t.Context(), &kinesis.UpdateShardCountInput{StreamName: name,
			TargetShardCount: &target, ScalingType: types.ScalingTypeUniformScaling})
		require.NoError(t, err)
		require.Equal(t, target, *out.TargetShardCount)
		summary, err := a.Kinesis.DescribeStreamSummary(t.Context(), &kinesis.DescribeStreamSummaryInput{StreamName: name})
		require.NoError(t, err)
		require.Equal(t, target, *summary.StreamDescriptionSummary.OpenShardCount)
		covers(t, shards(t, a, name))
		routes(t, a, name)
	}
	for _, target := range []int32{2, 4} {
		_, err := a.Kinesis.UpdateShardCount(t.Context(), &kinesis.UpdateShardCountInput{StreamName: name,
			TargetShardCount: &target, ScalingType: types.ScalingTypeUniformScaling})
		require.NoError(t, err)
	}
	for target, want := range map[int32]string{
		9: "UpdateShardCount cannot scale up over double your current open shard count. Current open shard count: 4 Target shard count: 9",
		1: "UpdateShardCount cannot scale down below half your current open shard count. Current open shard count: 4 Target shard count: 1",
	} {
		_, err := a.Kinesis.UpdateShardCount(t.Context(), &kinesis.UpdateShardCountInput{StreamName: name,
			TargetShardCount: &target, ScalingType: types.ScalingTypeUniformScaling})
		require.ErrorContains(t, err, "InvalidArgumentException: "+want)
	}
}

// routes checks that records go where the MD5 of their key says.
func routes(t *testing.T, a *outboxtest.AWS, stream *string) {
	t.Helper()
	all := make(map[string]types.Shard)
	for _, sh := range shards(t, a, stream) {
		all[*sh.ShardId] = sh
	}
	for i := range 30 {
		key := fmt.Sprint("key", i)
		sum := md5.Sum([]byte(key))
		hash := new(big.Int).SetBytes(sum[:])
		sh := all[*put(t, a, stream, key, "x").ShardId]
		low, _ := new(big.Int).SetString(*sh.HashKeyRange.StartingHashKey, 10)
		high, _ := new(big.Int).SetString(*sh.HashKeyRange.EndingHashKey, 10)
		require.True(t, low.Cmp(hash) <= 0 && hash.Cmp(high) <= 0, "%s is in %s, not in %s", hash, *sh.ShardId, key)
		require.Nil(t, sh.SequenceNumberRange.EndingSequenceNumber)
	}
}

func TestListShardsPagesAndFilters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := outboxtest.Start(t)
		name := stream(t, a, "changes", 4)
		began := time.Now()
		time.Sleep(time.Hour)
		split(t, a, name, shards(t, a, name)[3])
		list := func(in kinesis.ListShardsInput) (ids []string) {
			t.Helper()
			in.StreamName = name
			for {
				out, err := a.Kinesis.ListShards(t.Context(), &in)
				require.NoError(t, err)
				for _, sh := range out.Shards {
					ids = append(ids, (*sh.ShardId)[len(*sh.ShardId)-1:])
				}
				if out.NextToken == nil {
					return ids
				}
				in = kinesis.ListShardsInput{NextToken: out.NextToken, MaxResults: in.MaxResults}
			}
		}
		filter := func(kind types.ShardFilterType, shard string, at time.Time) kinesis.ListShardsInput {
			f := &types.ShardFilter{Type: kind}
			if shard != "" {
				f.ShardId = &shard
			}
			if !at.IsZero() {
				f.Timestamp = &at
			}
			return kinesis.ListShardsInput{ShardFilter: f, MaxResults: aws.Int32(2)}
		}
		all := []string{"0", "1", "2", "3", "4", "5"}
		require.Equal(t, all, list(kinesis.ListShardsInput{}))
		require.Equal(t, all, list(kinesis.ListShardsInput{MaxResults: aws.Int32(2)}))
		require.Equal(t, all[2:], list(kinesis.ListShardsInput{ExclusiveStartShardId: aws.String("shardId-000000000001")}))
		require.Equal(t, all[2:], list(filter(types.ShardFilterTypeAfterShardId, "shardId-000000000001", time.Time{})))
		require.Equal(t, all, list(filter(types.ShardFilterTypeFromTrimHorizon, "", time.Time{})))
		require.Equal(t, all[:4], list(filter(types.ShardFilterTypeAtTrimHorizon, "", time.Time{})))
		require.Equal(t, []string{"0", "1", "2", "4", "5"}, list(filter(types.ShardFilterTypeAtLatest, "", time.Time{})))
		require.Equal(t, all[:4], list(filter(types.ShardFilterTypeAtTimestamp, "", began.Add(time.Minute))))
		require.Equal(t, all, list(filter(types.ShardFilterTypeFromTimestamp, "", began)))
		time.Sleep(time.Hour)
		require.Equal(t, []string{"0", "1", "2", "4", "5"}, list(filter(types.ShardFilterTypeFromTimestamp, "", time.Now())))
		require.Equal(t, []string{"0", "1", "2", "4", "5"}, list(filter(types.ShardFilterTypeAtTimestamp, "", time.Now())))

		out, err := a.Kinesis.ListShards(t.Context(), &kinesis.ListShardsInput{StreamName: name, MaxResults: aws.Int32(1)})
		require.NoError(t, err)
		time.Sleep(5*time.Minute + time.Second)
		_, err = a.Kinesis.ListShards(t.Context(), &kinesis.ListShardsInput{NextToken: out.NextToken})
		var expired *types.ExpiredNextTokenException
		require.ErrorAs(t, err, &expired)
	})
}

func TestStreamsTakeTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := outboxtest.Start(t, outboxtest.WithDelays(10*time.Second))
		name := stream(t, a, "changes", 1)
		status := func() types.StreamStatus {
			out, err := a.Kinesis.DescribeStreamSummary(t.Context(), &kinesis.DescribeStreamSummaryInput{StreamName: name})
			require.NoError(t, err)
			return out.StreamDescriptionSummary.StreamStatus
		}
		require.Equal(t, types.StreamStatusCreating, status())
		_, err := a.Kinesis.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: name, PartitionKey: aws.String("k"), Data: []byte("x")})
		var missing *types.ResourceNotFoundException
		require.ErrorAs(t, err, &missing)
		time.Sleep(10 * time.Second)
		require.Equal(t, types.StreamStatusActive, status())
		put(t, a, name, "k", "x")
		split(t, a, name, shards(t, a, name)[0])
		require.Equal(t, types.StreamStatusUpdating, status())
		put(t, a, name, "k", "still into the parent")
		require.Len(t, shards(t, a, name), 1)
		time.Sleep(10 * time.Second)
		require.Equal(t, types.StreamStatusActive, status())
		require.Len(t, shards(t, a, name), 3)
		_, err = a.Kinesis.DeleteStream(t.Context(), &kinesis.DeleteStreamInput{StreamName: name})
		require.NoError(t, err)
		require.Equal(t, types.StreamStatusDeleting, status())
		time.Sleep(10 * time.Second)
		_, err = a.Kinesis.DescribeStreamSummary(t.Context(), &kinesis.DescribeStreamSummaryInput{StreamName: name})
		require.ErrorAs(t, err, &missing)
	})
}
