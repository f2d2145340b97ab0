package outboxtest_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

func TestKinesisStoresAndReadsByPartitionKey(t *testing.T) {
	a := outboxtest.Start(t)
	name := stream(t, a, "changes", 4)
	where := make(map[string]string)
	for i := range 200 {
		key := fmt.Sprintf("key-%d", i%20)
		out := put(t, a, name, key, fmt.Sprintf("%s/%d", key, i))
		require.Len(t, *out.SequenceNumber, 56)
		if shard, ok := where[key]; ok {
			require.Equal(t, shard, *out.ShardId, "one key is one shard")
		}
		where[key] = *out.ShardId
	}
	used := 0
	seen := make(map[string]bool)
	for _, sh := range shards(t, a, name) {
		it := horizon(t, a, name, sh.ShardId)
		last := *sh.SequenceNumberRange.StartingSequenceNumber
		require.Nil(t, sh.SequenceNumberRange.EndingSequenceNumber)
		out, err := a.Kinesis.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: it})
		require.NoError(t, err)
		if len(out.Records) > 0 {
			used++
		}
		order := make(map[string]int)
		for _, r := range out.Records {
			require.Greater(t, *r.SequenceNumber, last, "strictly increasing in the shard")
			last = *r.SequenceNumber
			require.False(t, seen[last], "unique in the stream")
			seen[last] = true
			require.Equal(t, *sh.ShardId, where[*r.PartitionKey])
			var n int
			_, err := fmt.Sscanf(string(r.Data), *r.PartitionKey+"/%d", &n)
			require.NoError(t, err)
			require.GreaterOrEqual(t, n, order[*r.PartitionKey], "in order")
			order[*r.PartitionKey] = n
		}
		require.Zero(t, *out.MillisBehindLatest)
	}
	require.Len(t, seen, 200)
	require.Greater(t, used, 1, "the keys spread over shards")
}

func TestKinesisManyWriters(t *testing.T) {
	a := outboxtest.Start(t)
	name := stream(t, a, "changes", 3)
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range 50 {
				_, err := a.Kinesis.PutRecord(t.Context(), &kinesis.PutRecordInput{
					StreamName: name, PartitionKey: aws.String(fmt.Sprint(w, i)), Data: []byte("x")})
				if err != nil {
					t.Errorf("writer %d: %v", w, err)
				}
			}
		})
	}
	wg.Wait()
	total := 0
	for _, sh := range shards(t, a, name) {
		data, _ := readAll(t, a, horizon(t, a, name, sh.ShardId))
		total += len(data)
	}
	require.Equal(t, 16*50, total)
}
