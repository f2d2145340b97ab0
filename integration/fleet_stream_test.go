package integration

import (
	"context"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"
)

// createStream creates the stream of the order service with more than the one shard that it would create.
func createStream(t *testing.T, c *kinesis.Client, shards int32) {
	t.Helper()
	_, err := c.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: aws.String(fleetStream), ShardCount: &shards})
	require.NoError(t, err)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		out, err := c.DescribeStreamSummary(t.Context(), &kinesis.DescribeStreamSummaryInput{StreamName: aws.String(fleetStream)})
		require.NoError(t, err)
		if out.StreamDescriptionSummary.StreamStatus == types.StreamStatusActive {
			return
		}
		require.True(t, time.Now().Before(deadline), "the stream does not become active")
	}
}

// changeShards splits or merges shards, so that there are 3 to 8 open ones. A stream that is being changed refuses.
func (f *fleet) changeShards(ctx context.Context) {
	listed, err := f.stream.ListShards(ctx, &kinesis.ListShardsInput{StreamName: aws.String(fleetStream)})
	if err != nil {
		f.reshard.refused++
		return
	}
	var open []types.Shard
	for _, s := range listed.Shards {
		if s.SequenceNumberRange.EndingSequenceNumber == nil {
			open = append(open, s)
		}
	}
	low := func(s types.Shard) *big.Int { return decimal(s.HashKeyRange.StartingHashKey) }
	slices.SortFunc(open, func(a, b types.Shard) int { return low(a).Cmp(low(b)) })
	if len(open) <= 3 || len(open) < 8 && f.random.IntN(2) == 0 {
		s := open[f.random.IntN(len(open))]
		middle := new(big.Int).Add(low(s), decimal(s.HashKeyRange.EndingHashKey))
		_, err = f.stream.SplitShard(ctx, &kinesis.SplitShardInput{StreamName: aws.String(fleetStream), ShardToSplit: s.ShardId,
			NewStartingHashKey: aws.String(middle.Rsh(middle, 1).String())})
		if err == nil {
			f.reshard.split++
		}
	} else {
		i := f.random.IntN(len(open) - 1)
		_, err = f.stream.MergeShards(ctx, &kinesis.MergeShardsInput{StreamName: aws.String(fleetStream), ShardToMerge: open[i].ShardId,
			AdjacentShardToMerge: open[i+1].ShardId})
		if err == nil {
			f.reshard.merged++
		}
	}
	if err != nil {
		f.reshard.refused++
	}
}

func decimal(text *string) *big.Int {
	v, _ := new(big.Int).SetString(aws.ToString(text), 10) // what the server has said
	return v
}

// forward copies the one shard of a stream to another stream: the destination of a server's tables is its own stream. stop
// ends it.
func forward(t *testing.T, from, to *kinesis.Client) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	it, err := from.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{StreamName: aws.String(fleetStream),
		ShardId: aws.String("shardId-000000000000"), ShardIteratorType: types.ShardIteratorTypeTrimHorizon})
	require.NoError(t, err)
	var forwarder sync.WaitGroup
	forwarder.Go(func() {
		next := it.ShardIterator
		for ; ctx.Err() == nil; time.Sleep(250 * time.Millisecond) {
			got, err := from.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: next})
			if err != nil {
				continue // the same iterator again
			}
			next = got.NextShardIterator
			for _, r := range got.Records {
				for ctx.Err() == nil {
					if _, err := to.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: aws.String(fleetStream), PartitionKey: r.PartitionKey, Data: r.Data}); err == nil {
						break
					}
					time.Sleep(50 * time.Millisecond)
				}
			}
		}
	})
	return func() {
		cancel()
		forwarder.Wait()
	}
}
