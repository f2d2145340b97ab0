package outboxtest_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// raw makes a request as no SDK would.
func raw(t *testing.T, s *outboxtest.Server, target, contentType, body string) (status int, answer string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://aws/", strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("X-Amz-Target", target)
	r.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestMalformedRequests(t *testing.T) {
	a := outboxtest.Start(t)
	stream(t, a, "changes", 1)
	const json11 = "application/x-amz-json-1.1"
	one := "ValidationException\",\"message\":\"1 validation error detected: Value "
	for _, c := range []struct {
		name, target, contentType, body, want string
	}{
		{"no JSON", "Kinesis_20131202.PutRecord", json11, "{", `{"__type":"SerializationException"}`},
		{"an empty body", "Kinesis_20131202.PutRecord", json11, "", `{"__type":"SerializationException"}`},
		{"no object", "Kinesis_20131202.PutRecord", json11, "[]", `{"__type":"SerializationException"}`},
		{"two objects", "Kinesis_20131202.PutRecord", json11, "{}{}", `{"__type":"SerializationException"}`},
		{"CBOR", "Kinesis_20131202.PutRecord", "application/x-amz-cbor-1.1", "\xa0", `CBOR is not supported here`},
		{"an unknown operation", "Kinesis_20131202.SubscribeToShard", json11, "{}", `{"__type":"UnknownOperationException","message":"outboxtest does not emulate SubscribeToShard of Kinesis"}`},
		{"an unknown service", "Firehose_20150804.PutRecord", json11, "{}", `UnknownOperationException`},
		{"a number for a string", "Kinesis_20131202.DescribeStream", json11, `{"StreamName":1}`,
			`class com.amazon.coral.value.json.numbers.TruncatingBigNumber can not be converted to an String`},
		{"a list for a string", "Kinesis_20131202.DescribeStream", json11, `{"StreamName":[]}`, `"Message":"Start of list found where not expected"`},
		{"a string for a list", "Kinesis_20131202.PutRecords", json11, `{"Records":"x"}`, `Expected list or null`},
		{"a string for a structure", "Kinesis_20131202.PutRecords", json11, `{"Records":["x"]}`, `Expected null`},
		{"a map for a list", "Kinesis_20131202.PutRecords", json11, `{"Records":{}}`, `Start of structure or map found where not expected.`},
		{"a Boolean for a number", "Kinesis_20131202.CreateStream", json11, `{"StreamName":"x","ShardCount":true}`,
			`class java.lang.Boolean can not be converted to an Integer`},
		{"a string for a time", "Kinesis_20131202.GetShardIterator", json11, `{"Timestamp":"x"}`,
			`class java.lang.String can not be converted to milliseconds since epoch`},
		{"half a base64", "Kinesis_20131202.PutRecord", json11, `{"Data":"abc"}`,
			`'abc' can not be converted to a Blob: Base64 encoded length is expected a multiple of 4 bytes but found: 3`},
		{"no base64", "Kinesis_20131202.PutRecord", json11, `{"Data":"=+/="}`, `'=+/=' can not be converted to a Blob: Invalid Base64 character: '='`},
		{"loose bits", "Kinesis_20131202.PutRecord", json11, `{"Data":"+/+="}`,
			`'+/+=' can not be converted to a Blob: Invalid last non-pad Base64 character dectected`},
		{"a name out of bounds", "Kinesis_20131202.DescribeStream", json11, `{"StreamName":""}`,
			`2 validation errors detected: Value '' at 'streamName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+; ` +
				`Value '' at 'streamName' failed to satisfy constraint: Member must have length greater than or equal to 1`},
		{"a limit out of bounds", "Kinesis_20131202.GetRecords", json11, `{"Limit":10001,"ShardIterator":"x"}`,
			one + `'10001' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 10000"`},
		{"nothing at all", "Kinesis_20131202.PutRecords", json11, `{"StreamName":"changes"}`,
			one + `null at 'records' failed to satisfy constraint: Member must not be null"`},
		{"too few records", "Kinesis_20131202.PutRecords", json11, `{"StreamName":"changes","Records":[]}`,
			one + `'[]' at 'records' failed to satisfy constraint: Member must have length greater than or equal to 1"`},
		{"inside a record", "Kinesis_20131202.PutRecords", json11, `{"StreamName":"changes","Records":[{"Data":"","PartitionKey":"k"},{"Data":""}]}`,
			one + `null at 'records.2.member.partitionKey' failed to satisfy constraint: Member must not be null"`},
		{"no record at all", "Kinesis_20131202.PutRecords", json11, `{"StreamName":"changes","Records":[null]}`,
			one + `null at 'records.1.member' failed to satisfy constraint: Member must not be null"`},
		{"a hash key out of range", "Kinesis_20131202.PutRecord", json11,
			`{"StreamName":"changes","Data":"","PartitionKey":"k","ExplicitHashKey":"340282366920938463463374607431768211456"}`,
			`{"__type":"InvalidArgumentException","message":"Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. ` +
				`Specified value was 340282366920938463463374607431768211456"}`},
		{"an unknown stream", "Kinesis_20131202.PutRecord", json11, `{"StreamName":"nowhere","Data":"","PartitionKey":"k"}`,
			`{"__type":"ResourceNotFoundException","message":"Stream nowhere under account 000000000000 not found."}`},
		{"the stream again", "Kinesis_20131202.CreateStream", json11, `{"StreamName":"changes","ShardCount":1}`,
			`{"__type":"ResourceInUseException","message":"Stream changes under account 000000000000 already exists."}`},
		{"Streams: an unknown stream", "DynamoDBStreams_20120810.DescribeStream", "application/x-amz-json-1.0",
			`{"StreamArn":"arn:aws:dynamodb:us-east-1:000000000000:table/x/stream/2015-05-11T21:21:33.291"}`,
			`Requested resource not found: Stream: arn:aws:dynamodb:us-east-1:000000000000:table/x/stream/2015-05-11T21:21:33.291 not found`},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, answer := raw(t, a.Server, c.target, c.contentType, c.body)
			require.Equal(t, http.StatusBadRequest, status)
			require.Contains(t, answer, c.want)
		})
	}
}

func TestARecordIsFoundByNameAndByARN(t *testing.T) {
	a := outboxtest.Start(t)
	name := stream(t, a, "changes", 1)
	arn := aws.String("arn:aws:kinesis:us-east-1:000000000000:stream/changes")
	_, err := a.Kinesis.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamARN: arn, PartitionKey: aws.String("k"), Data: []byte("x")})
	require.NoError(t, err)
	_, err = a.Kinesis.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamARN: arn, StreamName: name, PartitionKey: aws.String("k"), Data: []byte("x")})
	require.NoError(t, err)
	_, err = a.Kinesis.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamARN: aws.String("arn:aws:kinesis:us-east-1:111111111111:stream/changes"),
		PartitionKey: aws.String("k"), Data: []byte("x")})
	require.ErrorContains(t, err, "ResourceNotFoundException: Stream changes under account 111111111111 not found.")
}

// watch is a transport that keeps the body it was given.
type watch struct {
	http.RoundTripper
	body io.Reader
}

func (w *watch) RoundTrip(r *http.Request) (*http.Response, error) {
	w.body = r.Body
	return w.RoundTripper.RoundTrip(r)
}

// closing is a body that cannot be read once it is closed, as the SDK's.
type closing struct {
	*strings.Reader
	closed bool
}

func (c *closing) Read(b []byte) (int, error) {
	if c.closed {
		return 0, errors.New("read after close")
	}
	return c.Reader.Read(b)
}

func (c *closing) Close() error { c.closed = true; return nil }

// TestBufferedClientSendsACopy is the SDK's trap in slow motion: its body is
// closed while the transport is not done with what it was given.
func TestBufferedClientSendsACopy(t *testing.T) {
	s := outboxtest.New()
	t.Cleanup(s.Close)
	listener := httptest.NewServer(s)
	t.Cleanup(listener.Close)
	base := &watch{RoundTripper: listener.Client().Transport}
	body := &closing{Reader: strings.NewReader(`{"StreamName":"changes","ShardCount":1}`)}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, listener.URL, body)
	require.NoError(t, err)
	r.Header.Set("X-Amz-Target", "Kinesis_20131202.CreateStream")
	response, err := outboxtest.BufferedClient(base).Do(r)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.True(t, body.closed, "the original is closed, as a transport must")
	_, err = base.body.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "what the transport has is not")
}

func TestLargeAnswersOverARealListener(t *testing.T) {
	s := outboxtest.New()
	t.Cleanup(s.Close)
	listener := httptest.NewServer(s)
	t.Cleanup(listener.Close)
	client := kinesis.New(kinesis.Options{Region: "us-east-1", BaseEndpoint: &listener.URL, Credentials: s.Config().Credentials,
		HTTPClient: outboxtest.BufferedClient(listener.Client().Transport)})
	a := &outboxtest.AWS{Server: s, Kinesis: client}
	name := stream(t, a, "changes", 1)
	big := bytes.Repeat([]byte("x"), 100<<10)
	for range 20 {
		_, err := client.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: name, PartitionKey: aws.String("k"), Data: big})
		require.NoError(t, err)
		out, err := client.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: horizon(t, a, name, aws.String(first)), Limit: aws.Int32(2)})
		require.NoError(t, err)
		require.Equal(t, big, out.Records[0].Data)
	}
}

func TestThePlainHTTPClient(t *testing.T) {
	s := outboxtest.New()
	t.Cleanup(s.Close)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://kinesis.eu-west-1.amazonaws.com/", strings.NewReader("{}"))
	require.NoError(t, err)
	r.Header.Set("X-Amz-Target", "Kinesis_20131202.ListStreams")
	response, err := s.HTTPClient().Do(r)
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, "200 OK", response.Status)
	require.JSONEq(t, `{"HasMoreStreams":false,"StreamNames":[],"StreamSummaries":[]}`, string(body))
}
