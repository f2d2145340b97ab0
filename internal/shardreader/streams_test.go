package shardreader

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	streamtypes "github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/changerec"
	"github.com/seed-1b628d3f/outbox/internal/event"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

func insert(t *testing.T, a *outboxtest.AWS, id string, more ...map[string]dbtypes.AttributeValue) {
	t.Helper()
	item := map[string]dbtypes.AttributeValue{
		"eventId": &dbtypes.AttributeValueMemberS{Value: id}, "type": &dbtypes.AttributeValueMemberS{Value: "T"},
		"timestamp": &dbtypes.AttributeValueMemberN{Value: "1700000000123"}, "payload": &dbtypes.AttributeValueMemberS{Value: `{"id":"` + id + `"}`}}
	for _, m := range more {
		for k, v := range m {
			item[k] = v
		}
	}
	_, err := a.DynamoDB.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("events"), Item: item})
	require.NoError(t, err)
}

var layout = &changerec.Layout{ID: "eventId", Type: "type", Time: "timestamp", AggregateID: "aggregateId", Sequence: "sequence", Payload: "payload",
	ContentType: "contentType", Headers: "headers"}

// ids decodes what was delivered.
func ids(t *testing.T, s *seen) (out []string) {
	t.Helper()
	for _, data := range s.data {
		var e event.Event
		reason, malformed := changerec.Decode(&e, []byte(data), layout, []string{"events"}, nil)
		require.Nil(t, malformed, data)
		require.Zero(t, reason, data)
		require.Equal(t, "events", e.Table)
		require.JSONEq(t, `{"id":"`+e.ID+`"}`, string(e.Payload))
		out = append(out, e.ID)
	}
	return out
}

func TestStreamsFromBeginningToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, arn := table(t)
		var want []string
		for i := range 30 {
			want = append(want, fmt.Sprint("id", i))
			insert(t, a, want[i])
			time.Sleep(time.Second)
		}
		since := time.Now().Add(-5500 * time.Millisecond)
		s := &seen{}
		r := s.reader(&Streams{Client: a.Streams, ARN: arn})
		shards, err := r.Source.Shards(t.Context())
		require.NoError(t, err)
		shard := shards[0].ID
		_, err = during(t, r, shard, Oldest, s, 10*time.Second)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, want, ids(t, s))
		require.InDelta(t, 12, len(s.polls), 1, "one a second, and two more at the beginning")

		*s = seen{}
		_, err = during(t, r, shard, At(since), s, time.Second)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, want[24:], ids(t, s), "to the second")

		require.NoError(t, a.RollStreamShard("events"))
		insert(t, a, "in the child")
		*s = seen{}
		r.Limit = 7
		children, err := during(t, r, shard, Oldest, s, time.Minute)
		require.NoError(t, err)
		require.Equal(t, want, ids(t, s))
		require.Len(t, children, 1, "found by listing")
		require.Equal(t, []string{shard}, children[0].Parents)

		all := slices.Clone(s.numbers)
		for i, number := range all {
			*s = seen{}
			_, err = during(t, r, shard, Position(number), s, time.Minute)
			require.NoError(t, err)
			require.Equal(t, want[i+1:], append([]string{}, ids(t, s)...))
		}
		require.Empty(t, s.trimmed)
		*s = seen{}
		_, err = during(t, r, children[0].ID, Oldest, s, time.Second)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, []string{"in the child"}, ids(t, s))
	})
}

// startingClient notes how iterators start and how many records are read, and may refuse to start at a time.
type startingClient struct {
	StreamsClient
	refusal error
	starts  []streamtypes.ShardIteratorType
	read    int
}

func (c *startingClient) GetShardIterator(ctx context.Context, in *dynamodbstreams.GetShardIteratorInput, opts ...func(*dynamodbstreams.Options)) (*dynamodbstreams.GetShardIteratorOutput, error) {
	c.starts = append(c.starts, in.ShardIteratorType)
	if in.Timestamp != nil && c.refusal != nil {
		return nil, c.refusal
	}
	return c.StreamsClient.GetShardIterator(ctx, in, opts...)
}

func (c *startingClient) GetRecords(ctx context.Context, in *dynamodbstreams.GetRecordsInput, opts ...func(*dynamodbstreams.Options)) (*dynamodbstreams.GetRecordsOutput, error) {
	out, err := c.StreamsClient.GetRecords(ctx, in, opts...)
	if err == nil {
		c.read += len(out.Records)
	}
	return out, err
}

// The server finds the time, or the Reader does where the server will not: what is delivered is the same.
func TestStreamsStartAtATime(t *testing.T) {
	const at, oldest = streamtypes.ShardIteratorTypeAtTimestamp, streamtypes.ShardIteratorTypeTrimHorizon
	synctest.Test(t, func(t *testing.T) {
		a, arn := table(t)
		var all []string
		begin := time.Now()
		for i := range 30 {
			all = append(all, fmt.Sprint("id", i))
			insert(t, a, all[i])
			time.Sleep(500 * time.Millisecond)
		}
		for _, c := range []struct {
			name    string
			since   time.Time
			refusal error
			starts  []streamtypes.ShardIteratorType
			want    []string
			read    int
		}{
			{"the server does", begin.Add(10 * time.Second), nil, []streamtypes.ShardIteratorType{at}, all[20:], 10},
			{"the server does, within a second", begin.Add(10700 * time.Millisecond), nil, []streamtypes.ShardIteratorType{at}, all[20:], 10},
			{"the server does not know how", begin.Add(10700 * time.Millisecond), code("ValidationException"), []streamtypes.ShardIteratorType{at, oldest}, all[20:], 30},
			{"the server takes it for a mistake of another kind", begin.Add(10 * time.Second), code("InvalidParameterValueException"), []streamtypes.ShardIteratorType{at, oldest}, all[20:], 30},
			{"before the oldest record", begin.Add(-time.Hour), nil, []streamtypes.ShardIteratorType{at}, all, 30},
			{"the server's clock is behind", time.Now().Add(time.Minute), nil, []streamtypes.ShardIteratorType{at, oldest}, nil, 30},
		} {
			s := &seen{}
			client := &startingClient{StreamsClient: a.Streams, refusal: c.refusal}
			r := s.reader(&Streams{Client: client, ARN: arn})
			shards, err := r.Source.Shards(t.Context())
			require.NoError(t, err)
			_, err = during(t, r, shards[0].ID, At(c.since), s, time.Second)
			require.ErrorIs(t, err, context.DeadlineExceeded, c.name)
			require.Equal(t, c.want, ids(t, s), c.name)
			require.Equal(t, c.starts, client.starts, c.name)
			require.Equal(t, c.read, client.read, c.name)
			require.Empty(t, s.retries, c.name)
		}
		s := &seen{}
		client := &startingClient{StreamsClient: a.Streams, refusal: code("ThrottlingException")}
		_, err := during(t, s.reader(&Streams{Client: client, ARN: arn}), "shard", At(begin), s, time.Second)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NotContains(t, client.starts, oldest, "it did not refuse, and is asked again")
		require.NotEmpty(t, s.retries)
	})
}

func TestStreamsWithSlowDeliveryAndFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, arn := table(t)
		var want []string
		for i := range 40 {
			want = append(want, fmt.Sprint("id", i))
			insert(t, a, want[i])
		}
		require.NoError(t, a.RollStreamShard("events"))
		s := &seen{}
		r := s.reader(&Streams{Client: a.Streams, ARN: arn})
		shards, err := r.Source.Shards(t.Context())
		require.NoError(t, err)
		require.NoError(t, a.SetFaults(
			outboxtest.Fault{Kind: outboxtest.Throttle, Service: "DynamoDBStreams", Probability: 0.2},
			outboxtest.Fault{Kind: outboxtest.ServerError, Service: "DynamoDBStreams", Probability: 0.2},
			outboxtest.Fault{Kind: outboxtest.LoseAnswer, Service: "DynamoDBStreams", Probability: 0.1}))
		r.Limit = 3
		_, err = r.Read(t.Context(), shards[0].ID, Oldest, func(b Batch) error {
			time.Sleep(16 * time.Minute) // these iterators live 15 minutes
			return s.deliver(b)
		})
		require.NoError(t, err)
		require.Equal(t, want, ids(t, s))
		require.Empty(t, s.trimmed)
		require.NotEmpty(t, s.retries)
	})
}

func TestAStreamsCheckpointThatHasExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, arn := table(t)
		insert(t, a, "handled")
		insert(t, a, "never seen")
		s := &seen{}
		r := s.reader(&Streams{Client: a.Streams, ARN: arn})
		shards, err := r.Source.Shards(t.Context())
		require.NoError(t, err)
		_, err = during(t, r, shards[0].ID, Oldest, s, time.Second)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		checkpoint := s.numbers[0]
		time.Sleep(25 * time.Hour)
		insert(t, a, "there")
		*s = seen{}
		_, err = during(t, r, shards[0].ID, Position(checkpoint), s, time.Second)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, []string{"there"}, ids(t, s))
		require.Len(t, s.trimmed, 1)
		require.Equal(t, checkpoint, s.trimmed[0].After)
		require.Equal(t, s.numbers[0], s.trimmed[0].Oldest)
	})
}

// TestAStreamRecordIsWhatLambdaHandsOver compares the bridge with what a function gets for the same changes.
func TestAStreamRecordIsWhatLambdaHandsOver(t *testing.T) {
	a, arn := table(t)
	var fromLambda []json.RawMessage
	_, err := a.Map(outboxtest.EventSource{Table: arn}, func(_ context.Context, payload []byte) ([]byte, error) {
		var in struct{ Records []json.RawMessage }
		err := json.Unmarshal(payload, &in)
		fromLambda = append(fromLambda, in.Records...)
		return nil, err
	})
	require.NoError(t, err)
	value := func(v dbtypes.AttributeValue) map[string]dbtypes.AttributeValue {
		return map[string]dbtypes.AttributeValue{"v": v}
	}
	for i, v := range []dbtypes.AttributeValue{
		&dbtypes.AttributeValueMemberS{Value: "\"quotes\", \\, <html>&, ü, 世界, \U0001f600, \u2028 and \x00\x01\x1f\x7f\t\n\r"},
		&dbtypes.AttributeValueMemberS{Value: ""},
		&dbtypes.AttributeValueMemberN{Value: "12345678901234567890123456789012345678"},
		&dbtypes.AttributeValueMemberB{Value: []byte{0, 1, 255}},
		&dbtypes.AttributeValueMemberB{Value: []byte{}},
		&dbtypes.AttributeValueMemberBOOL{Value: true}, &dbtypes.AttributeValueMemberBOOL{}, &dbtypes.AttributeValueMemberNULL{Value: true},
		&dbtypes.AttributeValueMemberSS{Value: []string{"a", "b\""}}, &dbtypes.AttributeValueMemberNS{Value: []string{"1", "2.5"}},
		&dbtypes.AttributeValueMemberBS{Value: [][]byte{{1}, {2, 3}}},
		&dbtypes.AttributeValueMemberL{Value: []dbtypes.AttributeValue{&dbtypes.AttributeValueMemberS{Value: "x"}, &dbtypes.AttributeValueMemberN{Value: "1"}}},
		&dbtypes.AttributeValueMemberL{Value: []dbtypes.AttributeValue{}},
		&dbtypes.AttributeValueMemberM{Value: map[string]dbtypes.AttributeValue{"a\"b": &dbtypes.AttributeValueMemberS{Value: "x"}, "c": &dbtypes.AttributeValueMemberM{
			Value: map[string]dbtypes.AttributeValue{}}}},
	} {
		insert(t, a, fmt.Sprint("id", i), value(v))
	}
	insert(t, a, "id1", value(&dbtypes.AttributeValueMemberS{Value: "modified"}))
	_, err = a.DynamoDB.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: aws.String("events"),
		Key: map[string]dbtypes.AttributeValue{"eventId": &dbtypes.AttributeValueMemberS{Value: "id2"}}})
	require.NoError(t, err)
	_, err = a.DynamoDB.UpdateTimeToLive(t.Context(), &dynamodb.UpdateTimeToLiveInput{TableName: aws.String("events"),
		TimeToLiveSpecification: &dbtypes.TimeToLiveSpecification{AttributeName: aws.String("v"), Enabled: aws.Bool(true)}})
	require.NoError(t, err)
	insert(t, a, "old", value(&dbtypes.AttributeValueMemberN{Value: fmt.Sprint(time.Now().Add(-time.Hour).Unix())}))
	a.ExpireTTL()
	require.NoError(t, a.Drain(t.Context()))
	require.NoError(t, a.RollStreamShard("events"))

	s := &seen{}
	r := s.reader(&Streams{Client: a.Streams, ARN: arn})
	shards, err := r.Source.Shards(t.Context())
	require.NoError(t, err)
	_, err = r.Read(t.Context(), shards[0].ID, Oldest, s.deliver)
	require.NoError(t, err)
	require.Len(t, s.data, 18)
	require.Len(t, fromLambda, 18)
	require.Contains(t, string(fromLambda[17]), "principalId")
	for i, data := range s.data {
		require.JSONEq(t, string(fromLambda[i]), data)
	}
}

func TestStreamRecordsThatLackSomething(t *testing.T) {
	for want, r := range map[string]streamtypes.Record{
		`{"eventName":"","eventSourceARN":"arn"}`: {},
		`{"eventName":"INSERT","eventSourceARN":"arn","userIdentity":{},"dynamodb":{}}`: {EventName: "INSERT", Dynamodb: &streamtypes.StreamRecord{},
			UserIdentity: &streamtypes.Identity{}},
		`{"eventName":"INSERT","eventSourceARN":"arn","dynamodb":{"ApproximateCreationDateTime":1700000000.123,"NewImage":{}}}`: {EventName: "INSERT",
			Dynamodb: &streamtypes.StreamRecord{ApproximateCreationDateTime: aws.Time(time.UnixMilli(1700000000123)), NewImage: map[string]streamtypes.AttributeValue{}}},
		`{"eventName":"INSERT","eventSourceARN":"arn","dynamodb":{"NewImage":{"a":{"UNKNOWN":null}}}}`: {EventName: "INSERT",
			Dynamodb: &streamtypes.StreamRecord{NewImage: map[string]streamtypes.AttributeValue{"a": &streamtypes.UnknownUnionMember{Tag: "X"}}}},
	} {
		require.Equal(t, want, string(appendStreamRecord(nil, &r, "arn")))
	}
	// An event with a value of an unknown kind is malformed, never smaller or skipped.
	r := streamtypes.Record{EventName: "INSERT", Dynamodb: &streamtypes.StreamRecord{NewImage: map[string]streamtypes.AttributeValue{
		"eventId": &streamtypes.UnknownUnionMember{Tag: "X"}, "type": &streamtypes.AttributeValueMemberS{Value: "T"}}}}
	_, malformed := changerec.Decode(new(event.Event), appendStreamRecord(nil, &r, "arn"), layout, nil, nil)
	require.NotNil(t, malformed)
	require.Equal(t, "eventId", malformed.Where)
}

func FuzzStringsAreJSON(f *testing.F) {
	f.Add("\x00\"\\\u2028ü")
	f.Fuzz(func(t *testing.T, s string) {
		var back string
		require.NoError(t, json.Unmarshal(appendString(nil, s), &back))
		require.Equal(t, strings.ToValidUTF8(s, "\ufffd") == s, back == s)
	})
}

func BenchmarkStreamRecord(b *testing.B) {
	r := streamtypes.Record{EventName: "INSERT", EventID: aws.String(strings.Repeat("e", 32)), Dynamodb: &streamtypes.StreamRecord{
		SequenceNumber: aws.String(strings.Repeat("1", 21)), NewImage: map[string]streamtypes.AttributeValue{
			"eventId": &streamtypes.AttributeValueMemberS{Value: strings.Repeat("i", 26)}, "type": &streamtypes.AttributeValueMemberS{Value: "ORDER_CREATED"},
			"payload":   &streamtypes.AttributeValueMemberS{Value: `{"text":"` + strings.Repeat("x", 1000) + `"}`},
			"timestamp": &streamtypes.AttributeValueMemberN{Value: "1700000000123"}}}}
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		out = appendStreamRecord(out[:0], &r, "arn:aws:dynamodb:us-east-1:000000000000:table/events/stream/x")
	}
	require.True(b, bytes.HasPrefix(out, []byte(`{"eventName":"INSERT"`)))
}
