package outboxtest_test

import (
	"encoding/base64"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
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

// answer makes a request as no SDK would and returns everything that came back.
func answer(t *testing.T, s *outboxtest.Server, target, body string) *httptest.ResponseRecorder {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://aws/", strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	if target != "" {
		r.Header.Set("X-Amz-Target", target)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func TestAnswersOfKinesisLookLikeThoseOfAWS(t *testing.T) {
	a := outboxtest.Start(t)
	for _, c := range []struct{ name, target, body, want string }{
		{"no result", "Kinesis_20131202.CreateStream", `{"StreamName":"changes","ShardCount":1}`, ""},
		{"a result", "Kinesis_20131202.ListTagsForStream", `{"StreamName":"changes"}`, `{"HasMoreTags":false,"Tags":[]}`},
		{"an error", "Kinesis_20131202.Whatever", `{}`, `{"__type":"UnknownOperationException","message":"outboxtest does not emulate Whatever of Kinesis"}`},
		{"an unknown service", "Whatever.Whatever", `{}`, `{"__type":"UnknownOperationException","message":"outboxtest does not emulate Whatever.Whatever"}`},
		{"no target", "", `{}`, `{"__type":"UnknownOperationException","message":"outboxtest does not emulate POST /"}`},
	} {
		w := answer(t, a.Server, c.target, c.body)
		require.Equal(t, c.want, w.Body.String(), c.name)
		require.Equal(t, "application/x-amz-json-1.1", w.Header().Get("Content-Type"), c.name)
		require.Regexp(t, "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$", w.Header().Get("X-Amzn-Requestid"), c.name)
		require.Len(t, w.Header().Get("X-Amz-Id-2"), 96, c.name)
	}
	written := answer(t, a.Server, "Kinesis_20131202.PutRecord", `{"StreamName":"changes","PartitionKey":"k","Data":""}`).Body.String()
	require.Regexp(t, `^{"SequenceNumber":"\d{56}","ShardId":"shardId-000000000000"}$`, written, "of an unencrypted stream no encryption is told")
	long := strings.Repeat("a", 129)
	w := answer(t, a.Server, "Kinesis_20131202.RemoveTagsFromStream", `{"StreamName":"changes","TagKeys":["a","`+long+`","b"]}`)
	require.Contains(t, w.Body.String(), "1 validation error detected: Value '[a, "+long+", b]' at 'tagKeys' failed to satisfy constraint: Member must satisfy "+
		"constraint: [Member must have length less than or equal to 128, Member must have length greater than or equal to 1]")
}

func TestIteratorsHaveTheLengthOfRealOnes(t *testing.T) {
	a := outboxtest.Start(t)
	for _, name := range []string{"s", strings.Repeat("s", 60), strings.Repeat("s", 128)} {
		it := *horizon(t, a, stream(t, a, name, 1), aws.String(first))
		raw, err := base64.StdEncoding.DecodeString(it)
		require.NoError(t, err)
		require.Zero(t, (len(raw)-152)%16, "%d bytes for a name of %d", len(raw), len(name))
		require.LessOrEqual(t, len(it), 512)
	}
}

// hexadecimal reads a sequence number from its parts.
func hexadecimal(t *testing.T, parts ...string) *string {
	t.Helper()
	n, ok := new(big.Int).SetString(strings.Join(parts, ""), 16)
	require.True(t, ok)
	return aws.String(n.String())
}

func TestSequenceNumbersThatAreNotOfToday(t *testing.T) {
	a := outboxtest.Start(t)
	name := stream(t, a, "changes", 1)
	created, ok := new(big.Int).SetString(*shards(t, a, name)[0].SequenceNumberRange.StartingSequenceNumber, 10)
	require.True(t, ok)
	second := created.Text(16)[1:10]
	const index, anyTime = "0000000000000000", "000000000"
	for _, c := range []struct {
		what   string
		number *string
		want   string
	}{
		{"a small number", aws.String("5"), "Invalid StartingSequenceNumber. It encodes shardId-000000000005, while it was used in a call to a shard with shardId-000000000000"},
		{"the oldest form", aws.String("0"), "InternalFailure"},
		{"the second form", hexadecimal(t, "2", second, "0", "00", anyTime, "00000000000000", "00", "00000000", "1"), "because it did not come from this stream."},
		{"a shard below zero", hexadecimal(t, "2", second, "0", index, "00", anyTime, "80000000", "2"),
			"Invalid StartingSequenceNumber. It encodes shardId--02147483648, while"},
		{"after the end of time", hexadecimal(t, "2", "3bb2cc3d8", "0", index, "00", anyTime, "00000000", "2"), "is invalid."},
	} {
		_, err := a.Kinesis.GetShardIterator(t.Context(), &kinesis.GetShardIteratorInput{StreamName: name, ShardId: aws.String(first),
			ShardIteratorType: types.ShardIteratorTypeAtSequenceNumber, StartingSequenceNumber: c.number})
		require.ErrorContains(t, err, c.want, c.what)
	}
	put := func(number *string) error {
		t.Helper()
		_, err := a.Kinesis.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: name, PartitionKey: aws.String("k"), Data: []byte("x"), SequenceNumberForOrdering: number})
		return err
	}
	for _, number := range []*string{aws.String("0"), hexadecimal(t, "2", anyTime, "0", index, "00", anyTime, "00000000", "2"),
		hexadecimal(t, "2", second, "0", "00", anyTime, "00000000000000", "00", "00000000", "1"),
		hexadecimal(t, "2", second, "0", index, "00", anyTime, "80000000", "2"), nil} {
		require.NoError(t, put(number))
	}
	tomorrow := fmt.Sprintf("%09x", time.Now().Add(24*time.Hour).Unix())
	for _, number := range []*string{hexadecimal(t, "2", second, "0", index, "00", tomorrow, "00000000", "2"),
		hexadecimal(t, "2", second, "0", "8000000000000000", "00", anyTime, "00000000", "2")} {
		require.ErrorContains(t, put(number), "ExclusiveMinimumSequenceNumber "+*number+" used in PutRecord on stream changes under account 000000000000 is invalid.")
	}
}

func TestAWriterMayOrderByItsOwnNumbers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := outboxtest.Start(t)
		name := stream(t, a, "changes", 1)
		// The numbers of a shard that was made within the second are ahead of the clock.
		split(t, a, name, shards(t, a, name)[0])
		var last *string
		for range 3 {
			out, err := a.Kinesis.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: name, PartitionKey: aws.String("k"), Data: []byte("x"), SequenceNumberForOrdering: last})
			require.NoError(t, err)
			last = out.SequenceNumber
		}
	})
}

func TestOnlyNeighboursInTheirOrderAreMerged(t *testing.T) {
	a := outboxtest.Start(t)
	name := stream(t, a, "changes", 3)
	merge := func(stream *string, first, second string) error {
		_, err := a.Kinesis.MergeShards(t.Context(), &kinesis.MergeShardsInput{StreamName: stream, ShardToMerge: &first, AdjacentShardToMerge: &second})
		return err
	}
	require.ErrorContains(t, merge(name, "shardId-000000000001", "shardId-000000000000"), "InvalidArgumentException: Shards shardId-000000000001 and "+
		"shardId-000000000000 in stream changes under account 000000000000 are not an adjacent pair of shards eligible for merging")
	require.ErrorContains(t, merge(aws.String("nowhere"), "shardId-0", "2.14E4"), "ResourceNotFoundException: Could not find shard 2.14E4 in stream nowhere",
		"ids without form are found before the stream is looked for")
	require.NoError(t, merge(name, "shardId-000000000000", "shardId-000000000001"))
}

func TestAnOnDemandStreamIsNotResharded(t *testing.T) {
	a := outboxtest.Start(t)
	name := aws.String("changes")
	_, err := a.Kinesis.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: name, StreamModeDetails: &types.StreamModeDetails{StreamMode: types.StreamModeOnDemand}})
	require.NoError(t, err)
	const refusal = "ValidationException: Request is invalid. Stream changes under account 000000000000 is in On-Demand mode."
	_, err = a.Kinesis.UpdateShardCount(t.Context(), &kinesis.UpdateShardCountInput{StreamName: name, TargetShardCount: aws.Int32(3), ScalingType: types.ScalingTypeUniformScaling})
	require.ErrorContains(t, err, refusal)
	_, err = a.Kinesis.SplitShard(t.Context(), &kinesis.SplitShardInput{StreamName: name, ShardToSplit: aws.String(first), NewStartingHashKey: aws.String("10")})
	require.ErrorContains(t, err, refusal)
	_, err = a.Kinesis.MergeShards(t.Context(), &kinesis.MergeShardsInput{StreamName: name, ShardToMerge: aws.String(first), AdjacentShardToMerge: aws.String("shardId-000000000001")})
	require.ErrorContains(t, err, refusal)
	require.Len(t, shards(t, a, name), 4)
}

// UpdateShardCount leaves as many closed shards behind as on AWS.
func TestUpdateShardCountGoesTheLongWay(t *testing.T) {
	for _, c := range []struct{ from, to, all int32 }{{4, 5, 15}, {10, 13, 37}, {4, 8, 12}, {4, 2, 6}, {5, 3, 7}, {4, 4, 4}} {
		a := outboxtest.Start(t)
		name := stream(t, a, "changes", c.from)
		_, err := a.Kinesis.UpdateShardCount(t.Context(), &kinesis.UpdateShardCountInput{StreamName: name, TargetShardCount: &c.to, ScalingType: types.ScalingTypeUniformScaling})
		require.NoError(t, err)
		all := shards(t, a, name)
		require.Len(t, all, int(c.all), "from %d to %d", c.from, c.to)
		covers(t, all)
	}
}

func TestPutRecordsWritesOneShardAfterTheOther(t *testing.T) {
	a := outboxtest.Start(t)
	name := stream(t, a, "changes", 3)
	in := kinesis.PutRecordsInput{StreamName: name}
	for _, key := range []string{"a", "b", "e", "f", "g", "a"} {
		in.Records = append(in.Records, types.PutRecordsRequestEntry{PartitionKey: &key, Data: []byte("x")})
	}
	out, err := a.Kinesis.PutRecords(t.Context(), &in)
	require.NoError(t, err)
	index := func(i int) string {
		n, ok := new(big.Int).SetString(*out.Records[i].SequenceNumber, 10)
		require.True(t, ok)
		return n.Text(16)[11:27]
	}
	type place struct {
		shard, index string
		entry        int
	}
	var places []place
	for i, r := range out.Records {
		places = append(places, place{*r.ShardId, index(i), i})
	}
	slices.SortFunc(places, func(a, b place) int { return strings.Compare(a.index, b.index) })
	for i := range places[1:] {
		before, after := places[i], places[i+1]
		require.GreaterOrEqual(t, before.shard, after.shard, "%+v", places)
		require.True(t, before.shard > after.shard || before.entry < after.entry, "in a shard, the order is that of the request: %+v", places)
	}
}

func TestListStreamsTellsAHundredAtATime(t *testing.T) {
	a := outboxtest.Start(t)
	for i := range 101 {
		stream(t, a, fmt.Sprint("stream", i), 1)
	}
	for _, limit := range []*int32{nil, aws.Int32(100), aws.Int32(10000)} {
		out, err := a.Kinesis.ListStreams(t.Context(), &kinesis.ListStreamsInput{Limit: limit})
		require.NoError(t, err)
		require.Len(t, out.StreamNames, 100)
		require.True(t, *out.HasMoreStreams)
		out, err = a.Kinesis.ListStreams(t.Context(), &kinesis.ListStreamsInput{NextToken: out.NextToken})
		require.NoError(t, err)
		require.Equal(t, []string{"stream99"}, out.StreamNames)
		require.False(t, *out.HasMoreStreams)
	}
}

// The mapping gets through the shards that were open for a moment only.
func TestAMappingFollowsUpdateShardCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := outboxtest.Start(t)
		name := stream(t, a, "changes", 4)
		f := &function{}
		_, err := a.Map(outboxtest.EventSource{Stream: *name}, f.Invoke)
		require.NoError(t, err)
		var want []string
		for _, target := range []int32{5, 9, 5, 3} {
			for i := range 40 {
				want = append(want, fmt.Sprintf("%d-%d", target, i))
				put(t, a, name, fmt.Sprint("key", i), want[len(want)-1])
			}
			_, err := a.Kinesis.UpdateShardCount(t.Context(), &kinesis.UpdateShardCountInput{StreamName: name, TargetShardCount: &target, ScalingType: types.ScalingTypeUniformScaling})
			require.NoError(t, err)
		}
		require.NoError(t, a.Drain(deadline(t)))
		require.ElementsMatch(t, want, slices.Concat(f.seen()...))
	})
}

// The creation seconds in the numbers are as on AWS: a first shard's is before
// its stream was asked for, a child's is a second after its parent's end.
func TestWhenShardsSayTheyWereCreated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := outboxtest.Start(t)
		name := stream(t, a, "changes", 2)
		seconds := func(number *string) (created, at int64) {
			n, ok := new(big.Int).SetString(*number, 10)
			require.True(t, ok)
			hex := n.Text(16)
			created, err := strconv.ParseInt(hex[1:10], 16, 64)
			require.NoError(t, err)
			at, err = strconv.ParseInt(hex[29:38], 16, 64)
			require.NoError(t, err)
			return created, at
		}
		began := time.Now().Unix()
		for _, sh := range shards(t, a, name) {
			created, at := seconds(sh.SequenceNumberRange.StartingSequenceNumber)
			require.Equal(t, began-3, created)
			require.Equal(t, created, at)
		}
		time.Sleep(time.Minute)
		split(t, a, name, shards(t, a, name)[0])
		all := shards(t, a, name)
		_, ended := seconds(all[0].SequenceNumberRange.EndingSequenceNumber)
		require.Equal(t, began+60, ended)
		for _, child := range all[2:] {
			created, at := seconds(child.SequenceNumberRange.StartingSequenceNumber)
			require.Equal(t, ended+1, created)
			require.Equal(t, created, at)
		}
	})
}
