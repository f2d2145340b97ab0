package outboxtest_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

func TestIteratorTypes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := outboxtest.Start(t)
		name := stream(t, a, "changes", 1)
		var sequences []*string
		var times []time.Time
		for i := range 5 {
			times = append(times, time.Now())
			sequences = append(sequences, put(t, a, name, "k", fmt.Sprint(i)).SequenceNumber)
			time.Sleep(time.Second)
		}
		read := func(kind types.ShardIteratorType, sequence *string, at *time.Time) []string {
			t.Helper()
			data, ended := readAll(t, a, iterator(t, a, &kinesis.GetShardIteratorInput{StreamName: name, ShardId: aws.String(first),
				ShardIteratorType: kind, StartingSequenceNumber: sequence, Timestamp: at}))
			require.False(t, ended)
			return data
		}
		require.Equal(t, []string{"0", "1", "2", "3", "4"}, read(types.ShardIteratorTypeTrimHorizon, nil, nil))
		require.Empty(t, read(types.ShardIteratorTypeLatest, nil, nil))
		require.Equal(t, []string{"2", "3", "4"}, read(types.ShardIteratorTypeAtSequenceNumber, sequences[2], nil))
		require.Equal(t, []string{"3", "4"}, read(types.ShardIteratorTypeAfterSequenceNumber, sequences[2], nil))
		require.Equal(t, []string{"1", "2", "3", "4"}, read(types.ShardIteratorTypeAtTimestamp, nil, &times[1]))
		between := times[1].Add(500 * time.Millisecond)
		require.Equal(t, []string{"2", "3", "4"}, read(types.ShardIteratorTypeAtTimestamp, nil, &between))
		ancient := times[0].Add(-time.Hour)
		require.Equal(t, []string{"0", "1", "2", "3", "4"}, read(types.ShardIteratorTypeAtTimestamp, nil, &ancient))

		latest := iterator(t, a, &kinesis.GetShardIteratorInput{StreamName: name, ShardId: aws.String(first), ShardIteratorType: types.ShardIteratorTypeLatest})
		put(t, a, name, "k", "new")
		data, _ := readAll(t, a, latest)
		require.Equal(t, []string{"new"}, data)
	})
}

func TestIteratorRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := outboxtest.Start(t)
		name, other := stream(t, a, "changes", 2), stream(t, a, "other", 1)
		var inFirst, elsewhere *string
		for i := 0; inFirst == nil || elsewhere == nil; i++ {
			if out := put(t, a, name, fmt.Sprint(i), "x"); *out.ShardId == first {
				inFirst = out.SequenceNumber
			} else {
				elsewhere = out.SequenceNumber
			}
		}
		time.Sleep(time.Second)
		// A stream made again under its name does not know the old numbers.
		_, err := a.Kinesis.DeleteStream(t.Context(), &kinesis.DeleteStreamInput{StreamName: other})
		require.NoError(t, err)
		foreign := inFirst
		stream(t, a, "other", 1)
		future := time.Now().Add(time.Minute)
		tooMuch := "and also a StartingSequenceNumber."
		for _, c := range []struct {
			name string
			in   kinesis.GetShardIteratorInput
			want string
		}{
			{"sequence with TRIM_HORIZON", kinesis.GetShardIteratorInput{ShardIteratorType: "TRIM_HORIZON", StartingSequenceNumber: inFirst}, tooMuch},
			{"sequence with LATEST", kinesis.GetShardIteratorInput{ShardIteratorType: "LATEST", StartingSequenceNumber: inFirst}, tooMuch},
			{"AT without sequence", kinesis.GetShardIteratorInput{ShardIteratorType: "AT_SEQUENCE_NUMBER"},
				"Request specified AT_SEQUENCE_NUMBER and no StartingSequenceNumber."},
			{"AFTER without sequence", kinesis.GetShardIteratorInput{ShardIteratorType: "AFTER_SEQUENCE_NUMBER"},
				"Request specified AFTER_SEQUENCE_NUMBER and no StartingSequenceNumber."},
			{"AT_TIMESTAMP without time", kinesis.GetShardIteratorInput{ShardIteratorType: "AT_TIMESTAMP"},
				"Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. Current request has no timestamp parameter."},
			{"AT_TIMESTAMP in the future", kinesis.GetShardIteratorInput{ShardIteratorType: "AT_TIMESTAMP", Timestamp: &future},
				"The timestampInMillis parameter cannot be greater than the currentTimestampInMillis."},
			{"not a sequence number", kinesis.GetShardIteratorInput{ShardIteratorType: "AT_SEQUENCE_NUMBER", StartingSequenceNumber: aws.String("99999999999999999999999999999999999999999")},
				"StartingSequenceNumber 99999999999999999999999999999999999999999 used in GetShardIterator on shard " + first + " in stream changes under account 000000000000 is invalid."},
			{"another shard's number", kinesis.GetShardIteratorInput{ShardIteratorType: "AT_SEQUENCE_NUMBER", StartingSequenceNumber: elsewhere},
				"Invalid StartingSequenceNumber. It encodes shardId-000000000001, while it was used in a call to a shard with " + first},
			{"another stream's number", kinesis.GetShardIteratorInput{StreamName: other, ShardIteratorType: "AT_SEQUENCE_NUMBER", StartingSequenceNumber: foreign},
				"is invalid because it did not come from this stream."},
			{"unknown shard", kinesis.GetShardIteratorInput{ShardIteratorType: "LATEST", ShardId: aws.String("shardId-000000000009")},
				"ResourceNotFoundException: Shard shardId-000000000009 in stream changes under account 000000000000 does not exist"},
			{"not a shard", kinesis.GetShardIteratorInput{ShardIteratorType: "LATEST", ShardId: aws.String("nonsense")},
				"ResourceNotFoundException: Could not find shard nonsense in stream changes under account 000000000000."},
			{"unknown stream", kinesis.GetShardIteratorInput{ShardIteratorType: "LATEST", StreamName: aws.String("nowhere")},
				"ResourceNotFoundException: Shard " + first + " in stream nowhere under account 000000000000 does not exist"},
			{"unknown type", kinesis.GetShardIteratorInput{ShardIteratorType: "SOMEWHERE"},
				"ValidationException: 1 validation error detected: Value 'SOMEWHERE' at 'shardIteratorType' failed to satisfy constraint: " +
					"Member must satisfy enum value set: [AFTER_SEQUENCE_NUMBER, LATEST, AT_TIMESTAMP, AT_SEQUENCE_NUMBER, TRIM_HORIZON]"},
		} {
			in := c.in
			if in.StreamName == nil {
				in.StreamName = name
			}
			if in.ShardId == nil {
				in.ShardId = aws.String(first)
			}
			_, err := a.Kinesis.GetShardIterator(t.Context(), &in)
			require.ErrorContains(t, err, c.want, c.name)
		}
		_, err = a.Kinesis.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: aws.String("bm90IGFuIGl0ZXJhdG9y")})
		require.ErrorContains(t, err, "InvalidArgumentException: Invalid ShardIterator.")
		old := horizon(t, a, other, aws.String(first))
		_, err = a.Kinesis.DeleteStream(t.Context(), &kinesis.DeleteStreamInput{StreamName: other})
		require.NoError(t, err)
		stream(t, a, "other", 1)
		_, err = a.Kinesis.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: old})
		require.ErrorContains(t, err, "ResourceNotFoundException", "the iterator is of the stream that was deleted")
		valid := []byte(*horizon(t, a, name, aws.String(first)))
		valid[60] ^= 1
		_, err = a.Kinesis.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: aws.String(string(valid))})
		require.ErrorContains(t, err, "InvalidArgumentException: Invalid ShardIterator.")
	})
}

func TestIteratorsDieAfterFiveMinutes(t *testing.T) {
	now := time.Date(2024, 3, 4, 1, 2, 40, 0, time.UTC)
	a := outboxtest.Start(t, outboxtest.WithClock(func() time.Time { return now }))
	name := stream(t, a, "changes", 1)
	it := horizon(t, a, name, aws.String(first))
	now = now.Add(5 * time.Minute)
	_, err := a.Kinesis.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: it})
	require.NoError(t, err)
	now = now.Add(time.Second)
	_, err = a.Kinesis.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: it})
	var expired *types.ExpiredIteratorException
	require.ErrorAs(t, err, &expired)
	require.Equal(t, "Iterator expired. The iterator was created at time Mon Mar 04 01:02:40 UTC 2024 while right now it is "+
		"Mon Mar 04 01:07:41 UTC 2024 which is further in the future than the tolerated delay of 300000 milliseconds.", expired.ErrorMessage())
}

func TestRetentionTrimsByTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := outboxtest.Start(t)
		name := stream(t, a, "changes", 1)
		old := put(t, a, name, "k", "old")
		stale := horizon(t, a, name, aws.String(first))
		time.Sleep(2 * time.Minute)
		out, err := a.Kinesis.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: stale, Limit: aws.Int32(1)})
		require.NoError(t, err)
		require.Zero(t, *out.MillisBehindLatest)
		time.Sleep(13 * time.Hour)
		put(t, a, name, "k", "young")
		it := horizon(t, a, name, aws.String(first))
		out, err = a.Kinesis.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: it, Limit: aws.Int32(1)})
		require.NoError(t, err)
		require.Equal(t, "old", string(out.Records[0].Data))
		time.Sleep(time.Second)
		out, err = a.Kinesis.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: it, Limit: aws.Int32(1)})
		require.NoError(t, err)
		require.EqualValues(t, 1000, *out.MillisBehindLatest, "the next record has waited for a second")
		time.Sleep(11 * time.Hour)
		data, _ := readAll(t, a, horizon(t, a, name, aws.String(first)))
		require.Equal(t, []string{"young"}, data, "24 hours have passed since the first")
		data, _ = readAll(t, a, iterator(t, a, &kinesis.GetShardIteratorInput{StreamName: name, ShardId: aws.String(first),
			ShardIteratorType: types.ShardIteratorTypeAtSequenceNumber, StartingSequenceNumber: old.SequenceNumber}))
		require.Equal(t, []string{"young"}, data, "a trimmed position goes on at the oldest record")

		_, err = a.Kinesis.IncreaseStreamRetentionPeriod(t.Context(), &kinesis.IncreaseStreamRetentionPeriodInput{StreamName: name, RetentionPeriodHours: aws.Int32(48)})
		require.NoError(t, err)
		split(t, a, name, shards(t, a, name)[0])
		time.Sleep(30 * time.Hour)
		data, ended := readAll(t, a, horizon(t, a, name, aws.String(first)))
		require.Equal(t, []string{"young"}, data)
		require.True(t, ended)
		require.Len(t, shards(t, a, name), 3)
		_, err = a.Kinesis.DecreaseStreamRetentionPeriod(t.Context(), &kinesis.DecreaseStreamRetentionPeriodInput{StreamName: name, RetentionPeriodHours: aws.Int32(24)})
		require.NoError(t, err)
		require.Len(t, shards(t, a, name), 2, "the closed parent has outlived the retention period")
		_, err = a.Kinesis.DecreaseStreamRetentionPeriod(t.Context(), &kinesis.DecreaseStreamRetentionPeriodInput{StreamName: name, RetentionPeriodHours: aws.Int32(23)})
		require.ErrorContains(t, err, "Minimum allowed retention period is 24 hours. Requested retention period (23 hours) is too short.")
		_, err = a.Kinesis.DecreaseStreamRetentionPeriod(t.Context(), &kinesis.DecreaseStreamRetentionPeriodInput{StreamName: name, RetentionPeriodHours: aws.Int32(72)})
		require.ErrorContains(t, err, "can not be longer than existing retention period (24 hours). Use IncreaseRetentionPeriod API.")
	})
}

// TestAnIteratorSurvivesTrimming reads on while records in front of it expire.
func TestAnIteratorSurvivesTrimming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := outboxtest.Start(t)
		name := stream(t, a, "changes", 1)
		for i := range 6 {
			put(t, a, name, "k", fmt.Sprint(i))
			time.Sleep(time.Minute)
		}
		time.Sleep(24*time.Hour - 5*time.Minute - 30*time.Second)
		get := func(it *string) (string, *string) {
			out, err := a.Kinesis.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: it, Limit: aws.Int32(1)})
			require.NoError(t, err)
			require.Len(t, out.Records, 1)
			return string(out.Records[0].Data), out.NextShardIterator
		}
		data, it := get(horizon(t, a, name, aws.String(first)))
		require.Equal(t, "1", data, "the first has expired")
		time.Sleep(time.Minute)
		data, it = get(it)
		require.Equal(t, "2", data, "what was read has expired")
		time.Sleep(3 * time.Minute)
		data, _ = get(it)
		require.Equal(t, "5", data, "what was to be read next has expired")
	})
}

func TestARequestIsBounded(t *testing.T) {
	a := outboxtest.Start(t)
	in := kinesis.PutRecordsInput{StreamName: stream(t, a, "changes", 1)}
	for range 15 {
		in.Records = append(in.Records, types.PutRecordsRequestEntry{PartitionKey: aws.String("k"), Data: make([]byte, 700<<10)})
	}
	_, err := a.Kinesis.PutRecords(t.Context(), &in)
	require.ErrorContains(t, err, "InvalidArgumentException: Records size exceeds 10 MB limit")
	require.Zero(t, count(t, a, in.StreamName), "nothing was written")
	in.Records = in.Records[:14]
	_, err = a.Kinesis.PutRecords(t.Context(), &in)
	require.NoError(t, err)
}

func TestGetRecordsIsBoundedByCountAndBytes(t *testing.T) {
	a := outboxtest.Start(t)
	name := stream(t, a, "changes", 1)
	big := bytes.Repeat([]byte("x"), 1<<20-1)
	for range 11 {
		_, err := a.Kinesis.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: name, PartitionKey: aws.String("k"), Data: big})
		require.NoError(t, err)
	}
	out, err := a.Kinesis.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: horizon(t, a, name, aws.String(first))})
	require.NoError(t, err)
	require.Len(t, out.Records, 10)
	require.NotZero(t, *out.MillisBehindLatest)
	out, err = a.Kinesis.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: out.NextShardIterator, Limit: aws.Int32(1)})
	require.NoError(t, err)
	require.Len(t, out.Records, 1)
	require.Zero(t, *out.MillisBehindLatest)
	_, err = a.Kinesis.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: name, PartitionKey: aws.String("kk"), Data: big})
	var invalid *types.InvalidArgumentException
	require.ErrorAs(t, err, &invalid, "the partition key counts")
}

func TestKinesisLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := outboxtest.Start(t, outboxtest.WithKinesisLimits())
		name := stream(t, a, "changes", 1)
		it := horizon(t, a, name, aws.String(first))
		var tooMuch *types.ProvisionedThroughputExceededException
		get := func() (*kinesis.GetRecordsOutput, error) {
			return a.Kinesis.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: it}, once)
		}
		put(t, a, name, "k", strings.Repeat("x", 100<<10))
		for range 5 { // a small answer is no obstacle to the next
			_, err := get()
			require.NoError(t, err)
		}
		_, err := get()
		require.ErrorAs(t, err, &tooMuch)
		require.Equal(t, "Rate exceeded for shard shardId-000000000000 in stream changes under account 000000000000.", tooMuch.ErrorMessage())
		time.Sleep(time.Second)
		_, err = get()
		require.NoError(t, err)

		// Writing: a shard takes 1 MiB a second, the rest of a request fails.
		time.Sleep(time.Second)
		var in kinesis.PutRecordsInput
		in.StreamName = name
		for range 3 {
			in.Records = append(in.Records, types.PutRecordsRequestEntry{PartitionKey: aws.String("k"), Data: make([]byte, 500<<10)})
		}
		out, err := a.Kinesis.PutRecords(t.Context(), &in)
		require.NoError(t, err)
		require.EqualValues(t, 1, *out.FailedRecordCount)
		require.Nil(t, out.Records[0].ErrorCode)
		require.Equal(t, "ProvisionedThroughputExceededException", *out.Records[2].ErrorCode)
		require.Nil(t, out.Records[2].SequenceNumber)

		// Reading: an answer of 4 MiB bars the shard for two seconds.
		for range 8 {
			time.Sleep(time.Second)
			_, err := a.Kinesis.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: name, PartitionKey: aws.String("k"), Data: make([]byte, 500<<10)})
			require.NoError(t, err)
		}
		time.Sleep(time.Second)
		got, err := get()
		require.NoError(t, err)
		require.Len(t, got.Records, 11)
		time.Sleep(time.Second)
		_, err = get()
		require.ErrorAs(t, err, &tooMuch)
		time.Sleep(2 * time.Second)
		_, err = get()
		require.NoError(t, err)

		for range 5 {
			horizon(t, a, name, aws.String(first))
		}
		_, err = a.Kinesis.GetShardIterator(t.Context(), &kinesis.GetShardIteratorInput{StreamName: name, ShardId: aws.String(first), ShardIteratorType: "LATEST"}, once)
		require.ErrorAs(t, err, &tooMuch)
	})
}
