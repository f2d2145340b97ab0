package integration

import (
	"crypto/md5"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"
)

func entries(from, to int) []types.PutRecordsRequestEntry {
	var out []types.PutRecordsRequestEntry
	for i := from; i < to; i++ {
		out = append(out, types.PutRecordsRequestEntry{PartitionKey: aws.String(fmt.Sprint("k", i)), Data: fmt.Appendf(nil, "%03d", i)})
	}
	return out
}

var writeCases = []testCase{
	{"kinesis: a record comes back as it was put", onStreams, func(t *trial, c clients) {
		stream := c.stream(t, 1)
		put := c.record(t, stream, "key", "\x00data\xff")
		require.Equal(t, "shardId-000000000000", aws.ToString(put.ShardId))
		got, ended := c.read(t, c.iterator(t, stream, put.ShardId), 1)
		require.False(t, ended)
		require.Len(t, got, 1)
		require.Equal(t, []byte("\x00data\xff"), got[0].Data)
		require.Equal(t, "key", aws.ToString(got[0].PartitionKey))
		require.Equal(t, put.SequenceNumber, got[0].SequenceNumber)
		require.WithinDuration(t, time.Now(), aws.ToTime(got[0].ApproximateArrivalTimestamp), 5*time.Minute)
	}},
	{"kinesis: a batch is answered entry by entry, and read in order", onStreams, func(t *trial, c clients) {
		stream := c.stream(t, 1)
		out, err := c.Kinesis.PutRecords(t.Context(), &kinesis.PutRecordsInput{StreamName: &stream, Records: entries(0, 100)})
		require.NoError(t, err)
		require.Zero(t, aws.ToInt32(out.FailedRecordCount))
		require.Len(t, out.Records, 100)
		got, _ := c.read(t, c.iterator(t, stream, out.Records[0].ShardId), 100)
		require.Len(t, got, 100)
		for i, r := range got {
			require.Equal(t, fmt.Sprintf("%03d", i), string(r.Data))
			require.Equal(t, out.Records[i].SequenceNumber, r.SequenceNumber)
		}
		requireIncreasing(t, got)
	}},
	{"kinesis: sequence numbers have 56 digits and grow from put to put", onStreams, func(t *trial, c clients) {
		stream := c.stream(t, 1)
		var last *big.Int
		for i := range 20 {
			out := c.record(t, stream, fmt.Sprint(i), "x")
			require.Len(t, aws.ToString(out.SequenceNumber), 56)
			v := number(t, out.SequenceNumber)
			if last != nil {
				require.Positive(t, v.Cmp(last))
			}
			last = v
		}
	}},
	{"kinesis: 500 entries are taken, 501 and none are refused", onStreams, func(t *trial, c clients) {
		stream := c.stream(t, 1)
		put := func(count int) error {
			_, err := c.Kinesis.PutRecords(t.Context(), &kinesis.PutRecordsInput{StreamName: &stream, Records: append([]types.PutRecordsRequestEntry{}, entries(0, count)...)})
			return err
		}
		require.NoError(t, put(500))
		refused(t, "none", put(0), "ValidationException", "InvalidArgumentException")
		refused(t, "501", put(501), "ValidationException", "InvalidArgumentException")
	}},
	{"kinesis: a record over 1 MiB is refused", onStreams, func(t *trial, c clients) {
		stream := c.stream(t, 1)
		put := func(bytes int) error {
			_, err := c.Kinesis.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: &stream, PartitionKey: aws.String("k"), Data: make([]byte, bytes)})
			return err
		}
		require.NoError(t, put(1<<20-100))
		requireCode(t, put(1<<20+1), "ValidationException", "InvalidArgumentException")
	}},
	{"kinesis: partition keys have 1 to 256 characters", onStreams, func(t *trial, c clients) {
		stream := c.stream(t, 1)
		put := func(key string) error {
			_, err := c.Kinesis.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: &stream, PartitionKey: &key, Data: []byte("x")})
			return err
		}
		require.NoError(t, put(strings.Repeat("é", 256)))
		requireCode(t, put(""), "ValidationException", "InvalidArgumentException")
		requireCode(t, put(strings.Repeat("é", 257)), "ValidationException", "InvalidArgumentException")
	}},
	{"kinesis: the MD5 of the partition key chooses the shard", onStreams, func(t *trial, c clients) {
		stream := c.stream(t, 3)
		shards := c.shards(t, stream)
		require.Len(t, shards, 3)
		for i := range 20 {
			key := fmt.Sprint("key", i)
			sum := md5.Sum([]byte(key))
			hash, want := new(big.Int).SetBytes(sum[:]), ""
			for _, sh := range shards {
				if number(t, sh.HashKeyRange.StartingHashKey).Cmp(hash) <= 0 && number(t, sh.HashKeyRange.EndingHashKey).Cmp(hash) >= 0 {
					want = aws.ToString(sh.ShardId)
				}
			}
			require.Equal(t, want, aws.ToString(c.record(t, stream, key, "x").ShardId))
		}
	}},
	{"kinesis: an explicit hash key goes before the partition key", onStreams, func(t *trial, c clients) {
		stream := c.stream(t, 2)
		for _, sh := range c.shards(t, stream) {
			for _, hash := range []*string{sh.HashKeyRange.StartingHashKey, sh.HashKeyRange.EndingHashKey} {
				put := c.record(t, stream, "same", "x", func(in *kinesis.PutRecordInput) { in.ExplicitHashKey = hash })
				require.Equal(t, sh.ShardId, put.ShardId)
			}
		}
	}},
	{"kinesis: an explicit hash key of 2 to the 128th is refused", onStreams, func(t *trial, c clients) {
		stream := c.stream(t, 1)
		_, err := c.Kinesis.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: &stream, PartitionKey: aws.String("k"), Data: []byte("x"),
			ExplicitHashKey: aws.String("340282366920938463463374607431768211456")})
		requireCode(t, err, "InvalidArgumentException")
	}},
	{"kinesis: an unknown stream is ResourceNotFoundException", onStreams, func(t *trial, c clients) {
		_, err := c.Kinesis.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: aws.String(missing), PartitionKey: aws.String("k"), Data: []byte("x")})
		requireCode(t, err, "ResourceNotFoundException")
		_, err = c.Kinesis.PutRecords(t.Context(), &kinesis.PutRecordsInput{StreamName: aws.String(missing), Records: entries(0, 1)})
		requireCode(t, err, "ResourceNotFoundException")
		_, err = c.Kinesis.ListShards(t.Context(), &kinesis.ListShardsInput{StreamName: aws.String(missing)})
		requireCode(t, err, "ResourceNotFoundException")
		_, err = c.Kinesis.DescribeStreamSummary(t.Context(), &kinesis.DescribeStreamSummaryInput{StreamName: aws.String(missing)})
		requireCode(t, err, "ResourceNotFoundException")
	}},
	{"kinesis: an ARN stands for the stream's name", onStreams, func(t *trial, c clients) {
		stream := c.stream(t, 1)
		arn := c.summary(t, stream).StreamARN
		put, err := c.Kinesis.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamARN: arn, PartitionKey: aws.String("k"), Data: []byte("x")})
		require.NoError(t, err)
		it, err := c.Kinesis.GetShardIterator(t.Context(), &kinesis.GetShardIteratorInput{StreamARN: arn, ShardId: put.ShardId, ShardIteratorType: types.ShardIteratorTypeTrimHorizon})
		require.NoError(t, err)
		got, _ := c.read(t, it.ShardIterator, 1)
		require.Equal(t, []string{"x"}, data(got))
	}},
}

func at(when time.Time) func(*kinesis.GetShardIteratorInput) {
	return func(in *kinesis.GetShardIteratorInput) {
		in.ShardIteratorType, in.Timestamp = types.ShardIteratorTypeAtTimestamp, &when
	}
}

// three is a stream of one shard with the records a, b and c.
func (c clients) three(t *trial) (stream string, shard *string, puts []*kinesis.PutRecordOutput) {
	stream = c.stream(t, 1)
	for _, d := range []string{"a", "b", "c"} {
		puts = append(puts, c.record(t, stream, "k", d))
	}
	return stream, puts[0].ShardId, puts
}

var readCases = []testCase{
	{"kinesis: TRIM_HORIZON reads from the oldest record on", onStreams, func(t *trial, c clients) {
		stream, shard, _ := c.three(t)
		got, _ := c.read(t, c.iterator(t, stream, shard), 3)
		require.Equal(t, []string{"a", "b", "c"}, data(got))
	}},
	{"kinesis: LATEST reads what is put later", onStreams, func(t *trial, c clients) {
		stream, shard, _ := c.three(t)
		it := c.iterator(t, stream, shard, from(types.ShardIteratorTypeLatest, nil))
		c.record(t, stream, "k", "d")
		got, _ := c.read(t, it, 1)
		require.Equal(t, []string{"d"}, data(got))
	}},
	{"kinesis: AT_SEQUENCE_NUMBER reads that record, AFTER_SEQUENCE_NUMBER the next", onStreams, func(t *trial, c clients) {
		stream, shard, puts := c.three(t)
		got, _ := c.read(t, c.iterator(t, stream, shard, from(types.ShardIteratorTypeAtSequenceNumber, puts[1].SequenceNumber)), 2)
		require.Equal(t, []string{"b", "c"}, data(got))
		got, _ = c.read(t, c.iterator(t, stream, shard, from(types.ShardIteratorTypeAfterSequenceNumber, puts[1].SequenceNumber)), 1)
		require.Equal(t, []string{"c"}, data(got))
		it := c.iterator(t, stream, shard, from(types.ShardIteratorTypeAfterSequenceNumber, puts[2].SequenceNumber))
		c.record(t, stream, "k", "d")
		got, _ = c.read(t, it, 1)
		require.Equal(t, []string{"d"}, data(got))
	}},
	{"kinesis: the shard's starting sequence number is a place to read from", onStreams, func(t *trial, c clients) {
		stream, shard, _ := c.three(t)
		start := c.shards(t, stream)[0].SequenceNumberRange.StartingSequenceNumber
		for _, kind := range []types.ShardIteratorType{types.ShardIteratorTypeAtSequenceNumber, types.ShardIteratorTypeAfterSequenceNumber} {
			got, _ := c.read(t, c.iterator(t, stream, shard, from(kind, start)), 3)
			require.Equalf(t, []string{"a", "b", "c"}, data(got), "%s", kind)
		}
	}},
	{"kinesis: AT_TIMESTAMP reads what arrived then or later", onStreams, func(t *trial, c clients) {
		stream := c.stream(t, 1)
		shard := c.record(t, stream, "k", "a").ShardId
		first, _ := c.read(t, c.iterator(t, stream, shard), 1)
		t.pause(1100 * time.Millisecond) // a server may keep whole seconds
		c.record(t, stream, "k", "b")
		arrived := aws.ToTime(first[0].ApproximateArrivalTimestamp)
		got, _ := c.read(t, c.iterator(t, stream, shard, at(arrived.Add(-time.Minute))), 2)
		require.Equal(t, []string{"a", "b"}, data(got))
		got, _ = c.read(t, c.iterator(t, stream, shard, at(arrived.Add(500*time.Millisecond))), 1)
		require.Equal(t, []string{"b"}, data(got))
	}},
	{"kinesis: a limit cuts, and the next iterator goes on", onStreams, func(t *trial, c clients) {
		stream := c.stream(t, 1)
		out, err := c.Kinesis.PutRecords(t.Context(), &kinesis.PutRecordsInput{StreamName: &stream, Records: entries(0, 10)})
		require.NoError(t, err)
		var all []string
		it := c.iterator(t, stream, out.Records[0].ShardId)
		for len(all) < 10 {
			page, err := c.Kinesis.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: it, Limit: aws.Int32(3)})
			require.NoError(t, err)
			require.LessOrEqual(t, len(page.Records), 3)
			require.NotNil(t, page.NextShardIterator)
			all, it = append(all, data(page.Records)...), page.NextShardIterator
			t.pause(time.Millisecond)
		}
		require.Equal(t, []string{"000", "001", "002", "003", "004", "005", "006", "007", "008", "009"}, all)
	}},
	{"kinesis: a limit is 1 to 10,000", onStreams, func(t *trial, c clients) {
		stream, shard, _ := c.three(t)
		it := c.iterator(t, stream, shard)
		for _, limit := range []int32{0, 10_001} {
			_, err := c.Kinesis.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: it, Limit: &limit})
			refused(t, fmt.Sprint("limit ", limit), err, "ValidationException", "InvalidArgumentException")
		}
		_, err := c.Kinesis.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: it, Limit: aws.Int32(10_000)})
		require.NoError(t, err)
	}},
	{"kinesis: an iterator can be used again, and gives the same", onStreams, func(t *trial, c clients) {
		stream, shard, _ := c.three(t)
		it := c.iterator(t, stream, shard)
		for range 2 {
			got, _ := c.read(t, it, 3)
			require.Equal(t, []string{"a", "b", "c"}, data(got))
		}
	}},
	{"kinesis: an empty answer is not the end, and is 0 ms behind", onStreams, func(t *trial, c clients) {
		stream := c.stream(t, 1)
		out, err := c.Kinesis.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: c.iterator(t, stream, aws.String("shardId-000000000000"))})
		require.NoError(t, err)
		require.Empty(t, out.Records)
		require.NotNil(t, out.NextShardIterator)
		require.NotNil(t, out.MillisBehindLatest)
		require.Zero(t, *out.MillisBehindLatest)
	}},
	{"kinesis: what is left to read shows in MillisBehindLatest", onStreams, func(t *trial, c clients) {
		stream, shard, _ := c.three(t)
		t.pause(50 * time.Millisecond)
		out, err := c.Kinesis.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: c.iterator(t, stream, shard), Limit: aws.Int32(1)})
		require.NoError(t, err)
		require.Positive(t, aws.ToInt64(out.MillisBehindLatest))
	}},
	{"kinesis: what cannot be read is refused", onStreams, func(t *trial, c clients) {
		stream, shard, puts := c.three(t)
		ask := func(in kinesis.GetShardIteratorInput) error {
			in.StreamName = &stream
			_, err := c.Kinesis.GetShardIterator(t.Context(), &in)
			return err
		}
		refused(t, "no such shard", ask(kinesis.GetShardIteratorInput{ShardId: aws.String("shardId-000000000009"), ShardIteratorType: types.ShardIteratorTypeLatest}), "ResourceNotFoundException")
		refused(t, "no number", ask(kinesis.GetShardIteratorInput{ShardId: shard, ShardIteratorType: types.ShardIteratorTypeAtSequenceNumber}), "InvalidArgumentException", "ValidationException")
		refused(t, "bad number", ask(kinesis.GetShardIteratorInput{ShardId: shard, ShardIteratorType: types.ShardIteratorTypeAtSequenceNumber, StartingSequenceNumber: aws.String("1x")}),
			"InvalidArgumentException", "ValidationException")
		refused(t, "bad type", ask(kinesis.GetShardIteratorInput{ShardId: shard, ShardIteratorType: "SOMEWHERE", StartingSequenceNumber: puts[0].SequenceNumber}), "ValidationException")
		_, err := c.Kinesis.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: aws.String("nonsense")})
		refused(t, "bad iterator", err, "InvalidArgumentException")
	}},
}
