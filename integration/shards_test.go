package integration

import (
	"context"
	"fmt"
	"math/big"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"
)

const (
	firstShard  = "shardId-000000000000"
	middleOfAll = "170141183460469231731687303715884105728"
)

// split splits the first shard in the middle and waits.
func (c clients) split(t *trial, stream string) {
	t.Helper()
	_, err := c.Kinesis.SplitShard(t.Context(), &kinesis.SplitShardInput{StreamName: &stream, ShardToSplit: aws.String(firstShard), NewStartingHashKey: aws.String(middleOfAll)})
	require.NoError(t, err)
	c.streamActive(t, stream)
}

func shardNames(shards []types.Shard) []string {
	out := []string{}
	for _, sh := range shards {
		out = append(out, aws.ToString(sh.ShardId))
	}
	return out
}

var shardCases = []testCase{
	{"shards: those of a new stream cover all hash keys, without a gap", onStreams, func(t *trial, c clients) {
		shards := c.shards(t, c.stream(t, 3))
		require.Equal(t, []string{firstShard, "shardId-000000000001", "shardId-000000000002"}, shardNames(shards))
		next := big.NewInt(0)
		for _, sh := range shards {
			require.Zero(t, number(t, sh.HashKeyRange.StartingHashKey).Cmp(next))
			next = next.Add(number(t, sh.HashKeyRange.EndingHashKey), big.NewInt(1))
			require.Nil(t, sh.ParentShardId)
			require.NotNil(t, sh.SequenceNumberRange.StartingSequenceNumber)
			require.Nil(t, sh.SequenceNumberRange.EndingSequenceNumber)
		}
		require.Equal(t, "340282366920938463463374607431768211456", next.String())
	}},
	{"shards: a split closes the parent and shares its range out", onStreams, func(t *trial, c clients) {
		stream := c.stream(t, 1)
		c.split(t, stream)
		shards := c.shards(t, stream)
		require.Equal(t, []string{firstShard, "shardId-000000000001", "shardId-000000000002"}, shardNames(shards))
		require.NotNil(t, shards[0].SequenceNumberRange.EndingSequenceNumber)
		for i, want := range []string{"0 to 170141183460469231731687303715884105727", middleOfAll + " to 340282366920938463463374607431768211455"} {
			child := shards[i+1]
			require.Equal(t, firstShard, aws.ToString(child.ParentShardId))
			require.Nil(t, child.AdjacentParentShardId)
			require.Nil(t, child.SequenceNumberRange.EndingSequenceNumber)
			require.Equal(t, want, aws.ToString(child.HashKeyRange.StartingHashKey)+" to "+aws.ToString(child.HashKeyRange.EndingHashKey))
			require.Positive(t, number(t, child.SequenceNumberRange.StartingSequenceNumber).Cmp(number(t, shards[0].SequenceNumberRange.StartingSequenceNumber)))
		}
		require.EqualValues(t, 2, aws.ToInt32(c.summary(t, stream).OpenShardCount))
	}},
	{"shards: a closed parent stays readable, and ends", onStreams, func(t *trial, c clients) {
		stream := c.stream(t, 1)
		c.record(t, stream, "k", "before")
		c.split(t, stream)
		put := c.record(t, stream, "k", "after")
		require.NotEqual(t, firstShard, aws.ToString(put.ShardId))
		got, ended := c.read(t, c.iterator(t, stream, aws.String(firstShard)), 2)
		require.Equal(t, []string{"before"}, data(got))
		require.True(t, ended, "the closed shard has no end")
		got, ended = c.read(t, c.iterator(t, stream, put.ShardId), 1)
		require.Equal(t, []string{"after"}, data(got))
		require.False(t, ended)
	}},
	{"shards: an iterator from before a split reads to the end", onStreams, func(t *trial, c clients) {
		stream := c.stream(t, 1)
		it := c.iterator(t, stream, aws.String(firstShard), from(types.ShardIteratorTypeLatest, nil))
		c.record(t, stream, "k", "before")
		c.split(t, stream)
		got, ended := c.read(t, it, 2)
		require.Equal(t, []string{"before"}, data(got))
		require.True(t, ended)
	}},
	{"shards: the end of a parent names its children", onStreams, func(t *trial, c clients) {
		stream := c.stream(t, 1)
		c.split(t, stream)
		it := c.iterator(t, stream, aws.String(firstShard))
		for range 10 {
			out, err := c.Kinesis.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: it})
			require.NoError(t, err)
			if it = out.NextShardIterator; it != nil {
				continue
			}
			require.Len(t, out.ChildShards, 2)
			for _, child := range out.ChildShards {
				require.Equal(t, []string{firstShard}, child.ParentShards)
				require.NotNil(t, child.HashKeyRange)
			}
			return
		}
		require.Fail(t, "the closed shard has no end")
	}},
	{"shards: a merge joins neighbours, and the child has two parents", onStreams, func(t *trial, c clients) {
		stream := c.stream(t, 2)
		for _, sh := range c.shards(t, stream) {
			c.record(t, stream, "k", "in "+*sh.ShardId, func(in *kinesis.PutRecordInput) { in.ExplicitHashKey = sh.HashKeyRange.StartingHashKey })
		}
		_, err := c.Kinesis.MergeShards(t.Context(), &kinesis.MergeShardsInput{StreamName: &stream, ShardToMerge: aws.String(firstShard), AdjacentShardToMerge: aws.String("shardId-000000000001")})
		require.NoError(t, err)
		c.streamActive(t, stream)
		shards := c.shards(t, stream)
		require.Len(t, shards, 3)
		child := shards[2]
		require.Equal(t, firstShard, aws.ToString(child.ParentShardId))
		require.Equal(t, "shardId-000000000001", aws.ToString(child.AdjacentParentShardId))
		require.Equal(t, "0", aws.ToString(child.HashKeyRange.StartingHashKey))
		require.Equal(t, "340282366920938463463374607431768211455", aws.ToString(child.HashKeyRange.EndingHashKey))
		require.Equal(t, child.ShardId, c.record(t, stream, "k", "after").ShardId)
		for i := range 2 {
			got, ended := c.read(t, c.iterator(t, stream, shards[i].ShardId), 2)
			require.Equal(t, []string{"in " + *shards[i].ShardId}, data(got))
			require.True(t, ended)
		}
	}},
	{"shards: records of a key keep their order over a split", onStreams, func(t *trial, c clients) {
		stream := c.stream(t, 1)
		for i := range 5 {
			c.record(t, stream, "k", fmt.Sprint("before ", i))
		}
		c.split(t, stream)
		var child *string
		for i := range 5 {
			child = c.record(t, stream, "k", fmt.Sprint("after ", i)).ShardId
		}
		parent, _ := c.read(t, c.iterator(t, stream, aws.String(firstShard)), 6)
		rest, _ := c.read(t, c.iterator(t, stream, child), 5)
		require.Equal(t, []string{"before 0", "before 1", "before 2", "before 3", "before 4", "after 0", "after 1", "after 2", "after 3", "after 4"}, data(append(parent, rest...)))
		requireIncreasing(t, append(parent, rest...))
	}},
	{"shards: what cannot be split or merged is refused", onStreams, func(t *trial, c clients) {
		stream := c.stream(t, 3)
		split := func(shard, hash string) error {
			_, err := c.Kinesis.SplitShard(t.Context(), &kinesis.SplitShardInput{StreamName: &stream, ShardToSplit: &shard, NewStartingHashKey: &hash})
			return err
		}
		refused(t, "no such shard", split("shardId-000000000009", "5"), "ResourceNotFoundException")
		refused(t, "beyond the shard", split(firstShard, middleOfAll), "InvalidArgumentException")
		refused(t, "at its beginning", split(firstShard, "0"), "InvalidArgumentException")
		_, err := c.Kinesis.MergeShards(t.Context(), &kinesis.MergeShardsInput{StreamName: &stream, ShardToMerge: aws.String(firstShard), AdjacentShardToMerge: aws.String("shardId-000000000002")})
		refused(t, "no neighbours", err, "InvalidArgumentException")
		require.Len(t, c.shards(t, stream), 3)
	}},
	{"shards: a closed shard can be neither split again nor merged", onStreams, func(t *trial, c clients) {
		stream := c.stream(t, 2)
		_, err := c.Kinesis.SplitShard(t.Context(), &kinesis.SplitShardInput{StreamName: &stream, ShardToSplit: aws.String(firstShard), NewStartingHashKey: aws.String("5")})
		require.NoError(t, err)
		c.streamActive(t, stream)
		_, err = c.Kinesis.SplitShard(t.Context(), &kinesis.SplitShardInput{StreamName: &stream, ShardToSplit: aws.String(firstShard), NewStartingHashKey: aws.String("9")})
		refused(t, "split again", err, "InvalidArgumentException")
		_, err = c.Kinesis.MergeShards(t.Context(), &kinesis.MergeShardsInput{StreamName: &stream, ShardToMerge: aws.String(firstShard), AdjacentShardToMerge: aws.String("shardId-000000000001")})
		refused(t, "merged", err, "InvalidArgumentException")
	}},
	{"shards: lists come in pages", onStreams, func(t *trial, c clients) {
		stream := c.stream(t, 5)
		var got []string
		in := &kinesis.ListShardsInput{StreamName: &stream, MaxResults: aws.Int32(2)}
		for range 5 {
			out, err := c.Kinesis.ListShards(t.Context(), in)
			require.NoError(t, err)
			require.LessOrEqual(t, len(out.Shards), 2)
			got = append(got, shardNames(out.Shards)...)
			if out.NextToken == nil {
				break
			}
			in = &kinesis.ListShardsInput{NextToken: out.NextToken, MaxResults: aws.Int32(2)}
		}
		require.Len(t, got, 5)
		require.IsIncreasing(t, got)
		_, err := c.Kinesis.ListShards(t.Context(), &kinesis.ListShardsInput{StreamName: &stream, NextToken: aws.String("x")})
		requireCode(t, err, "InvalidArgumentException")
	}},
	{"shards: lists start after a shard", onStreams, func(t *trial, c clients) {
		stream := c.stream(t, 3)
		out, err := c.Kinesis.ListShards(t.Context(), &kinesis.ListShardsInput{StreamName: &stream, ExclusiveStartShardId: aws.String(firstShard)})
		require.NoError(t, err)
		require.Equal(t, []string{"shardId-000000000001", "shardId-000000000002"}, shardNames(out.Shards))
	}},
	{"shards: AT_LATEST lists the open ones", onStreams, func(t *trial, c clients) {
		stream := c.stream(t, 1)
		c.split(t, stream)
		out, err := c.Kinesis.ListShards(t.Context(), &kinesis.ListShardsInput{StreamName: &stream, ShardFilter: &types.ShardFilter{Type: types.ShardFilterTypeAtLatest}})
		require.NoError(t, err)
		require.Equal(t, []string{"shardId-000000000001", "shardId-000000000002"}, shardNames(out.Shards))
	}},
	{"shards: a new count is reached", onStreams, func(t *trial, c clients) {
		stream := c.stream(t, 2)
		out, err := c.Kinesis.UpdateShardCount(t.Context(), &kinesis.UpdateShardCountInput{StreamName: &stream, TargetShardCount: aws.Int32(4), ScalingType: types.ScalingTypeUniformScaling})
		require.NoError(t, err)
		require.EqualValues(t, 2, aws.ToInt32(out.CurrentShardCount))
		require.EqualValues(t, 4, aws.ToInt32(out.TargetShardCount))
		t.eventually("there are not four open shards", func() bool { return aws.ToInt32(c.summary(t, stream).OpenShardCount) == 4 })
	}},
}

var streamCases = []testCase{
	{"streams: a new one is described as it was made", onStreams, func(t *trial, c clients) {
		stream := c.stream(t, 2)
		d := c.summary(t, stream)
		require.Equal(t, stream, aws.ToString(d.StreamName))
		require.Regexp(t, `^arn:aws:kinesis:[a-z0-9-]+:[0-9]{12}:stream/`+stream+"$", aws.ToString(d.StreamARN))
		require.EqualValues(t, 24, aws.ToInt32(d.RetentionPeriodHours))
		require.EqualValues(t, 2, aws.ToInt32(d.OpenShardCount))
		require.Equal(t, types.EncryptionTypeNone, d.EncryptionType)
		require.NotNil(t, d.StreamModeDetails)
		require.Equal(t, types.StreamModeProvisioned, d.StreamModeDetails.StreamMode)
		out, err := c.Kinesis.DescribeStream(t.Context(), &kinesis.DescribeStreamInput{StreamName: &stream})
		require.NoError(t, err)
		require.Equal(t, types.StreamStatusActive, out.StreamDescription.StreamStatus)
		require.Len(t, out.StreamDescription.Shards, 2)
		require.False(t, aws.ToBool(out.StreamDescription.HasMoreShards))
	}},
	{"streams: descriptions come in pages", onStreams, func(t *trial, c clients) {
		stream := c.stream(t, 3)
		out, err := c.Kinesis.DescribeStream(t.Context(), &kinesis.DescribeStreamInput{StreamName: &stream, Limit: aws.Int32(2)})
		require.NoError(t, err)
		require.Len(t, out.StreamDescription.Shards, 2)
		require.True(t, aws.ToBool(out.StreamDescription.HasMoreShards))
		out, err = c.Kinesis.DescribeStream(t.Context(), &kinesis.DescribeStreamInput{StreamName: &stream, ExclusiveStartShardId: out.StreamDescription.Shards[1].ShardId})
		require.NoError(t, err)
		require.Equal(t, []string{"shardId-000000000002"}, shardNames(out.StreamDescription.Shards))
		require.False(t, aws.ToBool(out.StreamDescription.HasMoreShards))
	}},
	{"streams: who names no number of shards gets four", onStreams, func(t *trial, c clients) {
		name := unique("stream")
		_, err := c.Kinesis.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: &name})
		require.NoError(t, err)
		t.Cleanup(func(ctx context.Context) {
			_, _ = c.Kinesis.DeleteStream(ctx, &kinesis.DeleteStreamInput{StreamName: &name})
		})
		c.streamActive(t, name)
		require.Len(t, c.shards(t, name), 4)
	}},
	{"streams: a name is taken once", onStreams, func(t *trial, c clients) {
		stream := c.stream(t, 1)
		_, err := c.Kinesis.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: &stream, ShardCount: aws.Int32(1)})
		requireCode(t, err, "ResourceInUseException")
	}},
	{"streams: a deleted one is gone, and its name free", onStreams, func(t *trial, c clients) {
		stream := c.stream(t, 1)
		c.record(t, stream, "k", "old")
		_, err := c.Kinesis.DeleteStream(t.Context(), &kinesis.DeleteStreamInput{StreamName: &stream})
		require.NoError(t, err)
		t.eventually("the stream is still there", func() bool {
			_, err := c.Kinesis.DescribeStreamSummary(t.Context(), &kinesis.DescribeStreamSummaryInput{StreamName: &stream})
			return errorCode(err) == "ResourceNotFoundException"
		})
		_, err = c.Kinesis.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: &stream, ShardCount: aws.Int32(1)})
		require.NoError(t, err)
		c.streamActive(t, stream)
		got, _ := c.read(t, c.iterator(t, stream, aws.String(firstShard)), 0)
		require.Empty(t, got)
	}},
	{"streams: lists come in pages, in order", onStreams, func(t *trial, c clients) {
		prefix := unique("list")
		var names []string
		for i := range 3 {
			names = append(names, c.streamNamed(t, fmt.Sprint(prefix, i), 1)) // neighbours, whatever other cases make
		}
		out, err := c.Kinesis.ListStreams(t.Context(), &kinesis.ListStreamsInput{ExclusiveStartStreamName: &names[0], Limit: aws.Int32(2)})
		require.NoError(t, err)
		require.Equal(t, names[1:], out.StreamNames)
		require.NotNil(t, out.HasMoreStreams)
	}},
	{"streams: a list may start after a name that is not there", onStreams, func(t *trial, c clients) {
		prefix := unique("list")
		first, gone, last := prefix+"0", prefix+"1", prefix+"2"
		c.streamNamed(t, first, 1)
		c.streamNamed(t, last, 1)
		out, err := c.Kinesis.ListStreams(t.Context(), &kinesis.ListStreamsInput{ExclusiveStartStreamName: &gone, Limit: aws.Int32(1)})
		require.NoError(t, err)
		require.Equal(t, []string{last}, out.StreamNames)
	}},
	{"streams: the SDK's paginator lists all of them", onStreams, func(t *trial, c clients) {
		want := map[string]bool{c.stream(t, 1): true, c.stream(t, 1): true, c.stream(t, 1): true}
		pages := kinesis.NewListStreamsPaginator(c.Kinesis, &kinesis.ListStreamsInput{Limit: aws.Int32(1)})
		for pages.HasMorePages() {
			page, err := pages.NextPage(t.Context())
			require.NoError(t, err)
			for _, name := range page.StreamNames {
				delete(want, name)
			}
		}
		require.Empty(t, want, "the pages end early")
	}},
	{"streams: retention goes from 24 hours to a year, and back", onStreams, func(t *trial, c clients) {
		stream := c.stream(t, 1)
		change := func(hours int32) error {
			if hours < aws.ToInt32(c.summary(t, stream).RetentionPeriodHours) {
				_, err := c.Kinesis.DecreaseStreamRetentionPeriod(t.Context(), &kinesis.DecreaseStreamRetentionPeriodInput{StreamName: &stream, RetentionPeriodHours: &hours})
				return err
			}
			_, err := c.Kinesis.IncreaseStreamRetentionPeriod(t.Context(), &kinesis.IncreaseStreamRetentionPeriodInput{StreamName: &stream, RetentionPeriodHours: &hours})
			return err
		}
		for _, hours := range []int32{48, 8760, 24} {
			require.NoErrorf(t, change(hours), "to %d hours", hours)
			t.eventually("the retention has not changed", func() bool { return aws.ToInt32(c.summary(t, stream).RetentionPeriodHours) == hours })
			c.streamActive(t, stream)
		}
		refused(t, "23 hours", change(23), "InvalidArgumentException")
		refused(t, "8,761 hours", change(8761), "InvalidArgumentException")
	}},
	{"streams: bad names and counts are refused", onStreams, func(t *trial, c clients) {
		for what, in := range map[string]kinesis.CreateStreamInput{
			"space": {StreamName: aws.String("a b"), ShardCount: aws.Int32(1)}, "129 characters": {StreamName: aws.String(fmt.Sprintf("%0129d", 0)), ShardCount: aws.Int32(1)},
			"no shards": {StreamName: aws.String(unique("s")), ShardCount: aws.Int32(0)},
		} {
			_, err := c.Kinesis.CreateStream(t.Context(), &in)
			if err == nil {
				t.Cleanup(func(ctx context.Context) {
					_, _ = c.Kinesis.DeleteStream(ctx, &kinesis.DeleteStreamInput{StreamName: in.StreamName})
				})
			}
			refused(t, what, err, "ValidationException")
		}
	}},
}
