package streams

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/dynamo"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

const arn = "arn:aws:dynamodb:us-east-1:000000000000:table/events/stream/2015-05-11T21:21:33.291"

func item(t *testing.T, text string) attr.Item {
	t.Helper()
	var out attr.Item
	require.NoError(t, json.Unmarshal([]byte(text), &out))
	return out
}

// table is the DynamoDB that the engine asks.
type table struct{ tables []Table }

func start() (*Engine, *table) {
	db := &table{[]Table{{Name: "events", StreamARN: arn, View: "NEW_AND_OLD_IMAGES", Enabled: true, Keys: []KeySchemaElement{{"id", "HASH"}}}}}
	return New(Config{Now: time.Now, Region: "us-east-1", Tables: func(context.Context) []Table { return db.tables }}), db
}

func add(t *testing.T, e *Engine, id string) {
	t.Helper()
	keys := item(t, `{"id":{"S":"`+id+`"}}`)
	e.Add(dynamo.Change{Table: "events", StreamARN: arn, StreamView: "NEW_AND_OLD_IMAGES", Kind: dynamo.Insert, Keys: keys, New: keys, At: time.Now(), SizeBytes: 10})
}

// do runs an operation and returns its answer as loose JSON.
func do(t *testing.T, e *Engine, operation, body string) (map[string]any, error) {
	t.Helper()
	result, err := e.Do(t.Context(), operation, []byte(body))
	if err != nil {
		return nil, err
	}
	raw, err := wire.Marshal(result)
	require.NoError(t, err)
	var out map[string]any
	require.NoError(t, json.Unmarshal(raw, &out))
	return out, nil
}

func must(t *testing.T, e *Engine, operation, body string) map[string]any {
	t.Helper()
	out, err := do(t, e, operation, body)
	require.NoError(t, err)
	return out
}

func describe(t *testing.T, e *Engine) (status string, shards []map[string]any) {
	t.Helper()
	d := must(t, e, "DescribeStream", `{"StreamArn":"`+arn+`"}`)["StreamDescription"].(map[string]any)
	for _, sh := range d["Shards"].([]any) {
		shards = append(shards, sh.(map[string]any))
	}
	return d["StreamStatus"].(string), shards
}

func iteratorOf(t *testing.T, e *Engine, shard any, kind string) string {
	t.Helper()
	return must(t, e, "GetShardIterator", fmt.Sprintf(`{"StreamArn":%q,"ShardId":%q,"ShardIteratorType":%q}`, arn, shard, kind))["ShardIterator"].(string)
}

func get(t *testing.T, e *Engine, iterator string) (ids []string, next string) {
	t.Helper()
	out := must(t, e, "GetRecords", fmt.Sprintf(`{"ShardIterator":%q}`, iterator))
	for _, r := range out["Records"].([]any) {
		ids = append(ids, r.(map[string]any)["dynamodb"].(map[string]any)["Keys"].(map[string]any)["id"].(map[string]any)["S"].(string))
	}
	next, _ = out["NextShardIterator"].(string)
	return ids, next
}

func TestARolledShardEndsAndHasAChild(t *testing.T) {
	e, _ := start()
	add(t, e, "1")
	_, shards := describe(t, e)
	require.Len(t, shards, 1)
	it := iteratorOf(t, e, shards[0]["ShardId"], "TRIM_HORIZON")
	require.NoError(t, e.Roll(t.Context(), "events"))
	require.ErrorContains(t, e.Roll(t.Context(), "orders"), `table "orders" has no stream`)
	add(t, e, "2")
	_, shards = describe(t, e)
	require.Len(t, shards, 2)
	require.Equal(t, shards[0]["ShardId"], shards[1]["ParentShardId"])
	require.Contains(t, shards[0]["SequenceNumberRange"], "EndingSequenceNumber")
	require.NotContains(t, shards[1]["SequenceNumberRange"], "EndingSequenceNumber")

	ids, next := get(t, e, it)
	require.Equal(t, []string{"1"}, ids)
	ids, next = get(t, e, next)
	require.Empty(t, ids)
	require.Empty(t, next, "the parent has ended")
	ids, next = get(t, e, iteratorOf(t, e, shards[1]["ShardId"], "TRIM_HORIZON"))
	require.Equal(t, []string{"2"}, ids)
	require.NotEmpty(t, next)

	out := must(t, e, "DescribeStream", fmt.Sprintf(`{"StreamArn":%q,"ShardFilter":{"Type":"CHILD_SHARDS","ShardId":%q}}`, arn, shards[0]["ShardId"]))
	require.Len(t, out["StreamDescription"].(map[string]any)["Shards"], 1)
	out = must(t, e, "DescribeStream", fmt.Sprintf(`{"StreamArn":%q,"Limit":1}`, arn))
	require.Equal(t, shards[0]["ShardId"], out["StreamDescription"].(map[string]any)["LastEvaluatedShardId"])
}

// A malformed ARN is a fault of the request; only a stream that could be there is not found.
func TestMalformedARNsAndFilters(t *testing.T) {
	e, _ := start()
	add(t, e, "1")
	_, shards := describe(t, e)
	id := shards[0]["ShardId"]
	const noStream = "arn:aws:dynamodb:us-east-1:000000000000:table/events"
	for _, malformed := range []string{
		"sdfadfsdfnlfkajakfgjalksfgklasjklasdjfklasdfasdfgasf", noStream, noStream + "/stream/", "arn:aws:kinesis:us-east-1:000000000000:stream/events-and-more",
		"arn:aws:dynamodb:us-east-1:000000000000:events/stream/2015-05-11T21:21:33.291",
	} {
		for operation, body := range map[string]string{
			"DescribeStream": `{"StreamArn":%q}`, "ListStreams": `{"ExclusiveStartStreamArn":%q}`,
			"GetShardIterator": `{"StreamArn":%q,"ShardId":"shardId-00000000000000000000-00000000","ShardIteratorType":"LATEST"}`,
		} {
			_, err := do(t, e, operation, fmt.Sprintf(body, malformed))
			require.ErrorContains(t, err, "ValidationException: Invalid StreamArn", operation)
		}
	}
	gone := noStream + "/stream/2026-05-11T21:21:33.291"
	_, err := do(t, e, "DescribeStream", fmt.Sprintf(`{"StreamArn":%q}`, gone))
	require.ErrorContains(t, err, "ResourceNotFoundException")
	must(t, e, "ListStreams", fmt.Sprintf(`{"ExclusiveStartStreamArn":%q}`, gone))
	for filter, want := range map[string]string{
		`{}`:                              "Type must be provided",
		`{"Type":"CHILD_SHARDS"}`:         "ShardId must be provided",
		fmt.Sprintf(`{"ShardId":%q}`, id): "Type must be provided",
	} {
		_, err := do(t, e, "DescribeStream", fmt.Sprintf(`{"StreamArn":%q,"ShardFilter":%s}`, arn, filter))
		require.ErrorContains(t, err, "ValidationException: "+want, filter)
	}
}

func TestADisabledStreamStaysReadable(t *testing.T) {
	e, db := start()
	add(t, e, "1")
	db.tables[0].Enabled = false
	status, shards := describe(t, e)
	require.Equal(t, "DISABLED", status)
	ids, next := get(t, e, iteratorOf(t, e, shards[0]["ShardId"], "TRIM_HORIZON"))
	require.Equal(t, []string{"1"}, ids)
	_, next = get(t, e, next)
	require.Empty(t, next)
	db.tables = nil
	require.Len(t, must(t, e, "ListStreams", `{"TableName":"events"}`)["Streams"], 1, "it outlives its table")
}

func TestRecordsLiveForADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, _ := start()
		add(t, e, "1")
		_, shards := describe(t, e)
		it := iteratorOf(t, e, shards[0]["ShardId"], "TRIM_HORIZON")
		time.Sleep(15*time.Minute + time.Second)
		_, err := do(t, e, "GetRecords", fmt.Sprintf(`{"ShardIterator":%q}`, it))
		require.ErrorContains(t, err, "ExpiredIteratorException")
		time.Sleep(23*time.Hour + 40*time.Minute)
		it = iteratorOf(t, e, shards[0]["ShardId"], "TRIM_HORIZON")
		add(t, e, "2")
		time.Sleep(10 * time.Minute)
		_, err = do(t, e, "GetRecords", fmt.Sprintf(`{"ShardIterator":%q}`, it))
		require.ErrorContains(t, err, "TrimmedDataAccessException: The data you are trying to access has been trimmed")
		ids, _ := get(t, e, iteratorOf(t, e, shards[0]["ShardId"], "TRIM_HORIZON"))
		require.Equal(t, []string{"2"}, ids)
		require.NoError(t, e.Roll(t.Context(), "events"))
		time.Sleep(25 * time.Hour)
		_, shards = describe(t, e)
		require.Len(t, shards, 1, "a closed shard goes with its records")
	})
}

func TestPositions(t *testing.T) {
	e, _ := start()
	for i := range 4 {
		add(t, e, fmt.Sprint(i))
	}
	_, shards := describe(t, e)
	id := shards[0]["ShardId"].(string)
	records, _, _, _ := e.Read(arn, id, 0, 10)
	require.Len(t, records, 4)
	at := func(kind string, sequence string) []string {
		t.Helper()
		body := fmt.Sprintf(`{"StreamArn":%q,"ShardId":%q,"ShardIteratorType":%q,"SequenceNumber":%q}`, arn, id, kind, sequence)
		ids, _ := get(t, e, must(t, e, "GetShardIterator", body)["ShardIterator"].(string))
		return ids
	}
	require.Equal(t, []string{"1", "2", "3"}, at("AT_SEQUENCE_NUMBER", records[1].SequenceNumber))
	require.Equal(t, []string{"2", "3"}, at("AFTER_SEQUENCE_NUMBER", records[1].SequenceNumber))
	ids, next := get(t, e, iteratorOf(t, e, id, "LATEST"))
	require.Empty(t, ids)
	add(t, e, "new")
	ids, _ = get(t, e, next)
	require.Equal(t, []string{"new"}, ids)
	for body, want := range map[string]string{
		`"ShardIteratorType":"LATEST","SequenceNumber":"100000000000000000000"`:                     "must not be provided",
		`"ShardIteratorType":"AT_SEQUENCE_NUMBER"`:                                                  "must be provided",
		`"ShardIteratorType":"AT_SEQUENCE_NUMBER","SequenceNumber":"000000000000000000000"`:         "Invalid SequenceNumber",
		`"ShardIteratorType":"FROM_TIMESTAMP"`:                                                      "Member must satisfy enum value set",
		`"ShardIteratorType":"LATEST","ShardId":"shardId-00000000000000000000-00000000"`:            "ResourceNotFoundException",
		`"ShardIteratorType":"AT_SEQUENCE_NUMBER","SequenceNumber":"1"`:                             "Member must have length greater than or equal to 21",
		`"ShardIteratorType":"AFTER_SEQUENCE_NUMBER","SequenceNumber":"10000000000000000000000000"`: "",
	} {
		_, err := do(t, e, "GetShardIterator", fmt.Sprintf(`{"StreamArn":%q,"ShardId":%q,%s}`, arn, id, body))
		if want == "" {
			require.NoError(t, err, body)
			continue
		}
		require.ErrorContains(t, err, want, body)
	}
	_, err := do(t, e, "GetRecords", `{"ShardIterator":"nonsense"}`)
	require.ErrorContains(t, err, "Invalid ShardIterator")
}

// Times are full seconds, rounded down, and so is what they are compared with.
func TestPositionsAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, _ := start()
		first := time.Now()
		for i := range 6 {
			add(t, e, fmt.Sprint(i))
			time.Sleep(500 * time.Millisecond)
		}
		_, shards := describe(t, e)
		id := shards[0]["ShardId"].(string)
		for _, c := range []struct {
			at   time.Time
			want []string
		}{
			{time.Unix(0, 0), []string{"0", "1", "2", "3", "4", "5"}},
			{first.Add(-time.Millisecond), []string{"0", "1", "2", "3", "4", "5"}},
			{first, []string{"0", "1", "2", "3", "4", "5"}},
			{first.Add(time.Millisecond), []string{"2", "3", "4", "5"}},
			{first.Add(time.Second), []string{"2", "3", "4", "5"}},
			{first.Add(2500 * time.Millisecond), []string{}},
			{time.Now(), []string{}},
		} {
			body := fmt.Sprintf(`{"StreamArn":%q,"ShardId":%q,"ShardIteratorType":"AT_TIMESTAMP","Timestamp":%d.%03d}`, arn, id, c.at.Unix(), c.at.Nanosecond()/1e6)
			ids, next := get(t, e, must(t, e, "GetShardIterator", body)["ShardIterator"].(string))
			require.Equal(t, c.want, append([]string{}, ids...), "%s", c.at)
			require.NotEmpty(t, next)
		}
		for body, want := range map[string]string{
			`"ShardIteratorType":"AT_TIMESTAMP"`: "Timestamp must be provided",
			`"ShardIteratorType":"AT_TIMESTAMP","Timestamp":1,"SequenceNumber":"100000000000000000000"`:            "SequenceNumber must not be provided",
			`"ShardIteratorType":"LATEST","Timestamp":1`:                                                           "Timestamp must not be provided",
			`"ShardIteratorType":"AT_TIMESTAMP","Timestamp":1e300`:                                                 "in the future",
			fmt.Sprintf(`"ShardIteratorType":"AT_TIMESTAMP","Timestamp":%d`, time.Now().Add(2*time.Second).Unix()): "in the future",
			`"ShardIteratorType":"AT_TIMESTAMP","Timestamp":"now"`:                                                 "SerializationException",
		} {
			_, err := do(t, e, "GetShardIterator", fmt.Sprintf(`{"StreamArn":%q,"ShardId":%q,%s}`, arn, id, body))
			require.ErrorContains(t, err, want, body)
		}
	})
}

func TestViews(t *testing.T) {
	change := dynamo.Change{Table: "events", StreamARN: arn, Kind: dynamo.Modify, At: time.Unix(1719347890, 250e6), SizeBytes: 7, ByTTL: true,
		Keys: item(t, `{"id":{"S":"k"}}`), Old: item(t, `{"id":{"S":"old"}}`), New: item(t, `{"id":{"S":"<new>"}}`)}
	const oldImage, newImage = `"OldImage":{"id":{"S":"old"}},`, `"NewImage":{"id":{"S":"<new>"}},`
	for view, images := range map[string]string{
		"KEYS_ONLY": "", "NEW_IMAGE": newImage, "OLD_IMAGE": oldImage, "NEW_AND_OLD_IMAGES": newImage + oldImage,
	} {
		change.StreamView = view
		r := &record{sequence: "1", change: change, eventID: "e"}
		inner := `{"ApproximateCreationDateTime":1719347890,"Keys":{"id":{"S":"k"}},` + images + `"SequenceNumber":"1","SizeBytes":7,"StreamViewType":"` + view + `"}`
		api, err := wire.Marshal(r.out("eu-west-1"))
		require.NoError(t, err)
		require.Equal(t, `{"awsRegion":"eu-west-1","dynamodb":`+inner+`,"eventID":"e","eventName":"MODIFY","eventSource":"aws:dynamodb",`+
			`"eventVersion":"1.1","userIdentity":{"PrincipalId":"dynamodb.amazonaws.com","Type":"Service"}}`, string(api))
		require.Equal(t, `{"eventID":"e","eventName":"MODIFY","eventVersion":"1.1","eventSource":"aws:dynamodb","awsRegion":"eu-west-1","dynamodb":`+inner+
			`,"eventSourceARN":"`+arn+`","userIdentity":{"principalId":"dynamodb.amazonaws.com","type":"Service"}}`, string(r.lambdaJSON("eu-west-1", arn)))
	}
}
