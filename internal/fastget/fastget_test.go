package fastget

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// counting counts what is left to the stock protocol.
type counting struct {
	smithyhttp.ClientProtocol
	n int
}

func (c *counting) DeserializeResponse(ctx context.Context, s *smithy.OperationSchema, r *smithy.TypeRegistry, resp *smithyhttp.Response, out smithy.Deserializable) error {
	c.n++
	return c.ClientProtocol.DeserializeResponse(ctx, s, r, resp, out)
}

// both reads an answer with both readers, requires the same result and returns it. It also returns whether the fast reader did it
// alone. The memory of the results is used again.
func both(t require.TestingT, status int, body string) (want kinesis.GetRecordsOutput, wantErr error, alone bool) {
	wantErr = stock.DeserializeResponse(context.Background(), operation, kinesis.TypeRegistry, response(status, strings.NewReader(body), -1), &want)
	var answer Answer
	defer answer.Release()
	for _, length := range []int64{-1, int64(len(body))} {
		beneath := &counting{ClientProtocol: stock}
		var got kinesis.GetRecordsOutput
		gotErr := Wrap(beneath, &answer).DeserializeResponse(context.Background(), operation, kinesis.TypeRegistry, response(status, strings.NewReader(body), length), &got)
		require.Equal(t, want, got, "%q", body)
		require.Equal(t, wantErr, gotErr, "%q", body)
		alone = beneath.n == 0
	}
	return want, wantErr, alone
}

// usual are answers that the fast reader must not leave to the stock one.
var usual = []string{
	`{"MillisBehindLatest":0,"NextShardIterator":"AAAA","Records":[]}`,
	`{}`, ` { } `, `{"Records":[{}]}`, `{"Records":[{"Data":""}]}`, `{"MillisBehindLatest":-12}`, `{"NextShardIterator":null}`, `{"NextShardIterator":""}`,
	`{"Records":[{"ApproximateArrivalTimestamp":1731924555.932,"Data":"aGVsbG8=","PartitionKey":"859F","SequenceNumber":"4965","EncryptionType":"KMS"},
		{"SequenceNumber":"4966","PartitionKey":"ü世","Data":"eA==","ApproximateArrivalTimestamp":1.731924555932E9}],"NextShardIterator":"x","MillisBehindLatest":5}`,
	`{"Records":[{"EncryptionType":"NONE"},{"EncryptionType":"NEW"},{"EncryptionType":""},{"EncryptionType":null,"PartitionKey":null,"SequenceNumber":null}]}`,
	`{"unknown":[1,{"Records":[{"Data":1}]},"\"",null],"Records":[{"x":{"Data":"a"},"Data":"eA==","y":"\u0041","z":-1.5e3}]}`,
	`{"Records":[{"ApproximateArrivalTimestamp":0},{"ApproximateArrivalTimestamp":1},{"ApproximateArrivalTimestamp":0.001},{"ApproximateArrivalTimestamp":1731924555.9329999}]}`,
}

// unusual are answers that the fast reader must leave to the stock reader. Most of them are errors.
var unusual = []string{
	``, ` `, `null`, `[]`, `1`, `{`, `{"Records"`, `{"Records":`, `{"Records":[`, `{"Records":[{`, `{"Records":[{}`, `{"Records":[{}]`, `{"Records":[{},]}`, `{"Records":[,]}`,
	`{"Records":null}`, `{"Records":{}}`, `{"Records":[null]}`, `{"Records":[1]}`, `{"Records":[{}{}]}`, `{} x`, `{}{}`, `{,}`, `{"a":1,}`, `{"a"}`, `{"a":}`, `{"a":1 "b":2}`,
	`{"Records":[{"Data":null}]}`, `{"Records":[{"Data":1}]}`, `{"Records":[{"Data":"?"}]}`, `{"Records":[{"Data":"e"}]}`, `{"Records":[{"Data":"eA="}]}`, `{"Records":[{"Data":"eA"}]}`,
	"{\"Records\":[{\"Data\":\"eA\n==\"}]}", "{\"Records\":[{\"Data\":\"\n\n\n\n\"}]}", "{\"Records\":[{\"Data\":\"eHh4\r\n\r\n\"}]}", `{"Records":[{"Data":"eA==`,
	`{"Records":[{"Data":"\u0065A=="}]}`, `{"Records":[{"Data":"\/\/\/\/"}]}`, `{"Records":[{"Data":"eA==\""}]}`,
	`{"Records":[{"PartitionKey":"\"a\""}]}`, `{"Records":[{"PartitionKey":1}]}`, "{\"Records\":[{\"PartitionKey\":\"\x01\"}]}", `{"Records":[{"SequenceNumber":"1`,
	`{"Records":[{"Data":"eA==","Data":"eHg="}]}`, `{"Records":[{}],"Records":[]}`, `{"NextShardIterator":"a","NextShardIterator":"b"}`, `{"Re\u0063ords":[]}`,
	`{"Records":[{"SequenceNumber":"1","SequenceNumber":null}]}`, `{"MillisBehindLatest":1,"MillisBehindLatest":2}`,
	`{"MillisBehindLatest":null}`, `{"MillisBehindLatest":1.5}`, `{"MillisBehindLatest":1e3}`, `{"MillisBehindLatest":99999999999999999999}`, `{"MillisBehindLatest":"1"}`, `{"MillisBehindLatest":01}`,
	`{"Records":[{"ApproximateArrivalTimestamp":null}]}`, `{"Records":[{"ApproximateArrivalTimestamp":-1.5}]}`,
	`{"Records":[{"ApproximateArrivalTimestamp":1e300}]}`, `{"Records":[{"ApproximateArrivalTimestamp":1e999}]}`, `{"Records":[{"ApproximateArrivalTimestamp":9223372037}]}`, `{"Records":[{"ApproximateArrivalTimestamp":"Infinity"}]}`,
	`{"ChildShards":[{"ShardId":"a","ParentShards":["b"],"HashKeyRange":{"StartingHashKey":"0","EndingHashKey":"1"}}],"Records":[],"MillisBehindLatest":0}`, `{"ChildShards":null}`,
	`{"message":"x","Message":"y"`, `{"x":nul}`, `{"x":[[[}`, "\xef\xbb\xbf{}",
}

func TestTheUsualAnswerIsReadFast(t *testing.T) {
	for _, body := range usual {
		_, err, alone := both(t, 200, body)
		require.NoError(t, err, body)
		require.True(t, alone, "left to the stock reader: %s", body)
	}
}

func TestTheUnusualAnswerIsLeftToTheSDK(t *testing.T) {
	for _, body := range unusual {
		_, _, alone := both(t, 200, body)
		require.False(t, alone, "%q", body)
	}
	for _, body := range []string{`{"__type":"ExpiredIteratorException","message":"gone"}`, `{"Records":[]}`, `<html>`, ``} {
		for _, status := range []int{201, 204, 301, 400, 403, 500, 503} {
			_, _, alone := both(t, status, body)
			require.False(t, alone)
		}
	}
	var expired *types.ExpiredIteratorException
	_, err, _ := both(t, 400, `{"__type":"ExpiredIteratorException","message":"gone"}`)
	require.ErrorAs(t, err, &expired)
}

// TestEveryCutAndEveryChangedByte compares the readers on damaged answers.
func TestEveryCutAndEveryChangedByte(t *testing.T) {
	body := usual[8]
	for i := range body {
		both(t, 200, body[:i])
		for _, b := range []byte("\"\\,}0=\n\xff") {
			both(t, 200, body[:i]+string([]byte{b})+body[i+1:])
		}
	}
}

func TestTimesAreTheSDKs(t *testing.T) {
	for range 4000 {
		ms := rand.Int64N(5e12)
		body := fmt.Sprintf(`{"Records":[{"ApproximateArrivalTimestamp":%d.%03d}]}`, ms/1000, ms%1000)
		_, _, alone := both(t, 200, body)
		require.True(t, alone)
	}
}

func FuzzBothReadersAgree(f *testing.F) {
	for _, body := range append(append([]string{}, usual...), unusual...) {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		if !strings.Contains(strings.ToLower(body), "nan") { // the SDK's reader panics at the time "NaN"
			both(t, 200, body)
		}
	})
}

func TestABrokenConnectionIsTheSDKsError(t *testing.T) {
	reset := errors.New("connection reset by peer")
	for _, protocol := range []smithyhttp.ClientProtocol{stock, Wrap(stock, nil)} {
		var out kinesis.GetRecordsOutput
		body := io.MultiReader(strings.NewReader(`{"Records":[]}`), iotest.ErrReader(reset))
		err := protocol.DeserializeResponse(t.Context(), operation, kinesis.TypeRegistry, response(200, body, 100), &out)
		require.ErrorIs(t, err, reset)
		require.Equal(t, &smithy.DeserializationError{Err: reset}, err)
		require.Zero(t, out)
	}
}

// cbor is a protocol that this package does not know.
type cbor struct{ smithyhttp.ClientProtocol }

func (cbor) ID() smithy.ShapeID {
	return smithy.ShapeID{Namespace: "smithy.protocols", Name: "rpcv2Cbor"}
}

func TestOtherProtocolsAreLeftAlone(t *testing.T) {
	require.Equal(t, cbor{stock}, Wrap(cbor{stock}, nil))
	require.Nil(t, Wrap(nil, nil))
	once := Wrap(stock, nil)
	require.Equal(t, once, Wrap(once, nil), "not one within another")
	require.Equal(t, stock.ID(), once.ID())
}

// Results do not share memory: the test changes one record's data, reads other answers, and compares the other records.
func TestResultsDoNotShareMemory(t *testing.T) {
	read := func(body string) *kinesis.GetRecordsOutput {
		out := &kinesis.GetRecordsOutput{}
		require.NoError(t, Wrap(stock, nil).DeserializeResponse(t.Context(), operation, kinesis.TypeRegistry, response(200, strings.NewReader(body), -1), out))
		return out
	}
	first := read(`{"Records":[{"Data":"YWFh","SequenceNumber":"1"},{"Data":"YmJi","SequenceNumber":"2"}]}`)
	for range 10 {
		read(`{"Records":[{"Data":"eHh4","SequenceNumber":"8"},{"Data":"eXl5","SequenceNumber":"9"}]}`)
	}
	require.Equal(t, "aaa", string(first.Records[0].Data))
	require.Equal(t, "2", *first.Records[1].SequenceNumber)
	_ = append(first.Records[0].Data, "zzz"...)
	require.Equal(t, "bbb", string(first.Records[1].Data))
}

// Only released memory is used again. Memory that is still lent is left alone, and so is memory that an overtaken request reads
// into after the release.
func TestReleasedMemoryIsUsedAgain(t *testing.T) {
	read := func(a *Answer, letter string) *kinesis.GetRecordsOutput {
		out := &kinesis.GetRecordsOutput{}
		body := fmt.Sprintf(`{"Records":[{"Data":%q,"SequenceNumber":%q}]}`, strings.Repeat(letter, 4), letter)
		require.NoError(t, Wrap(stock, a).DeserializeResponse(t.Context(), operation, kinesis.TypeRegistry, response(200, strings.NewReader(body), -1), out))
		return out
	}
	check := func(out *kinesis.GetRecordsOutput, letter string) {
		require.Equal(t, letter, *out.Records[0].SequenceNumber)
		data, err := base64.StdEncoding.DecodeString(strings.Repeat(letter, 4))
		require.NoError(t, err)
		require.Equal(t, data, out.Records[0].Data)
	}
	var first, second Answer
	lent, again := read(&first, "A"), read(&first, "B")
	sequence := *lent.Records[0].SequenceNumber
	kept := []*kinesis.GetRecordsOutput{read(&second, "C"), read(nil, "D")}
	check(lent, "A")
	check(again, "B")
	first.Release()
	first.Release()
	require.Equal(t, "A", sequence, "the text of a string outlives its record")
	require.Zero(t, lent.Records[0], "whoever looks at it nevertheless must not see another record")
	kept = append(kept, read(&first, "E"))
	first.Release()
	for range 20 {
		var more Answer
		check(read(&more, "Z"), "Z")
		more.Release()
	}
	for range 100 { // the answer to an overtaken request is still being read while the other memory goes back
		var a, other Answer
		overtaken := make(chan struct{})
		go func() {
			defer close(overtaken)
			read(&a, "O")
		}()
		check(read(&a, "W"), "W")
		a.Release()
		check(read(&other, "X"), "X")
		other.Release()
		<-overtaken
	}
	for i, letter := range []string{"C", "D", "E"} {
		check(kept[i], letter)
	}
}

func TestThroughAClient(t *testing.T) {
	a := outboxtest.Start(t)
	_, err := a.Kinesis.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: aws.String("s"), ShardCount: aws.Int32(1)})
	require.NoError(t, err)
	for i := range 50 {
		_, err := a.Kinesis.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: aws.String("s"), PartitionKey: aws.String("k"), Data: bytes.Repeat([]byte{byte(i)}, i)})
		require.NoError(t, err)
	}
	fast := kinesis.NewFromConfig(a.Config(), new(Answer).Option)
	it, err := fast.GetShardIterator(t.Context(), &kinesis.GetShardIteratorInput{StreamName: aws.String("s"), ShardId: aws.String("shardId-000000000000"), ShardIteratorType: types.ShardIteratorTypeTrimHorizon})
	require.NoError(t, err)
	in := &kinesis.GetRecordsInput{ShardIterator: it.ShardIterator}
	want, err := a.Kinesis.GetRecords(t.Context(), in)
	require.NoError(t, err)
	for _, get := range []func() (*kinesis.GetRecordsOutput, error){
		func() (*kinesis.GetRecordsOutput, error) { return fast.GetRecords(t.Context(), in) },
		func() (*kinesis.GetRecordsOutput, error) {
			return a.Kinesis.GetRecords(t.Context(), in, new(Answer).Option)
		},
	} {
		got, err := get()
		require.NoError(t, err)
		require.Len(t, got.Records, 50)
		require.Equal(t, want.Records, got.Records)
		require.Equal(t, want.MillisBehindLatest, got.MillisBehindLatest)
		require.NotEmpty(t, *got.NextShardIterator)
	}
	_, err = fast.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: aws.String("nonsense")})
	var invalid *types.InvalidArgumentException
	require.ErrorAs(t, err, &invalid)
}
