package integration

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// change is a change record as far as the cases look at it.
type change struct {
	AWSRegion    string          `json:"awsRegion"`
	EventID      string          `json:"eventID"`
	EventName    string          `json:"eventName"`
	EventSource  string          `json:"eventSource"`
	RecordFormat string          `json:"recordFormat"`
	TableName    string          `json:"tableName"`
	UserIdentity json.RawMessage `json:"userIdentity"`
	DynamoDB     struct {
		Keys, NewImage, OldImage map[string]map[string]any
		Created                  json.Number `json:"ApproximateCreationDateTime"`
		Precision                string      `json:"ApproximateCreationDateTimePrecision"`
		SizeBytes                int
		SequenceNumber           string
		StreamViewType           string
	} `json:"dynamodb"`
}

func changes(t *trial, records []string) []change {
	t.Helper()
	var out []change
	for _, r := range records {
		var one change
		require.NoErrorf(t, json.Unmarshal([]byte(r), &one), "%s", r)
		out = append(out, one)
	}
	return out
}

func names(t *trial, records []string) []string {
	var out []string
	for _, one := range changes(t, records) {
		out = append(out, one.EventName)
	}
	return out
}

// The destination: what reaches the stream.
var hopCases = []testCase{
	{"hop: an ACTIVE destination names its stream and precision", onHop, func(t *trial, c clients) {
		table, stream := c.connected(t, "pk:S", types.ApproximateCreationDateTimePrecisionMicrosecond)
		out, err := c.DynamoDB.DescribeKinesisStreamingDestination(t.Context(), &dynamodb.DescribeKinesisStreamingDestinationInput{TableName: &table})
		require.NoError(t, err)
		require.Equal(t, table, aws.ToString(out.TableName))
		d := out.KinesisDataStreamDestinations[0]
		require.Equal(t, aws.ToString(c.summary(t, stream).StreamARN), aws.ToString(d.StreamArn))
		require.Equal(t, types.ApproximateCreationDateTimePrecisionMicrosecond, d.ApproximateCreationDateTimePrecision)
	}},
	{"hop: every change becomes one record", onHop, func(t *trial, c clients) {
		table, stream := c.connected(t, "pk:S", "")
		c.put(t, table, item{"pk": s("1"), "v": n(1)}, item{"pk": s("1"), "v": n(2)})
		_, err := c.update(t, table, "SET v = :v", item{":v": n(3)})
		require.NoError(t, err)
		_, err = c.DynamoDB.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: &table, Key: item{"pk": s("1")}})
		require.NoError(t, err)
		got := names(t, c.settled(t, stream, 4))
		slices.Sort(got) // AWS promises no order
		require.Equal(t, []string{"INSERT", "MODIFY", "MODIFY", "REMOVE"}, got)
	}},
	{"hop: a write that changes nothing makes no record", onHop, func(t *trial, c clients) {
		table, stream := c.connected(t, "pk:S", "")
		c.put(t, table, item{"pk": s("1"), "v": n(1)}, item{"pk": s("1"), "v": n(1)})
		_, err := c.update(t, table, "SET v = :v", item{":v": n(1)})
		require.NoError(t, err)
		_, err = c.DynamoDB.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: &table, Key: item{"pk": s("nothing")}})
		require.NoError(t, err)
		require.Equal(t, []string{"INSERT"}, names(t, c.settled(t, stream, 1)))
	}},
	{"hop: a failed write makes no record", onHop, func(t *trial, c clients) {
		table, stream := c.connected(t, "pk:S", "")
		c.put(t, table, item{"pk": s("0")})
		writes := puts(table, 3)
		writes[0].Put.ConditionExpression = aws.String("attribute_not_exists(pk)")
		canceled(t, c.transact(t, writes))
		_, err := c.update(t, table, "SET v = :v", item{":v": n(1)}, func(in *dynamodb.UpdateItemInput) { in.ConditionExpression = aws.String("attribute_exists(pk)") })
		requireCode(t, err, "ConditionalCheckFailedException")
		require.Equal(t, []string{"INSERT"}, names(t, c.settled(t, stream, 1)))
	}},
	{"hop: all items of a transaction and of a batch arrive", onHop, func(t *trial, c clients) {
		table, stream := c.connected(t, "pk:S", "")
		require.NoError(t, c.transact(t, puts(table, 30)))
		require.NoError(t, c.batchWrite(t, table, batchPuts(30, 50)))
		got := map[string]bool{}
		for _, one := range changes(t, c.settled(t, stream, 50)) {
			got[fmt.Sprint(one.DynamoDB.Keys["pk"]["S"])] = true
		}
		require.Len(t, got, 50)
	}},
	{"hop: a stream may have several shards, and loses nothing", onHop, func(t *trial, c clients) {
		table, stream := c.table(t, "pk:S"), c.stream(t, 3)
		c.connect(t, table, stream, "")
		require.NoError(t, c.transact(t, puts(table, 60)))
		require.Len(t, c.settled(t, stream, 60), 60)
	}},
	{"hop: one item's records have one partition key, another item's another", onHop, func(t *trial, c clients) {
		table, stream := c.connected(t, "pk:S sk:N", "")
		for i := range 4 {
			c.put(t, table, item{"pk": s("1"), "sk": n(1), "v": n(i)}, item{"pk": s("1"), "sk": n(2), "v": n(i)})
		}
		keys := map[string]map[string]bool{}
		for _, r := range c.readAll(t, stream, 8) {
			sk := fmt.Sprint(changes(t, []string{string(r.Data)})[0].DynamoDB.Keys["sk"]["N"])
			if keys[sk] == nil {
				keys[sk] = map[string]bool{}
			}
			keys[sk][aws.ToString(r.PartitionKey)] = true
		}
		require.Len(t, keys["1"], 1)
		require.Len(t, keys["2"], 1)
		require.NotEqual(t, keys["1"], keys["2"])
	}},
	{"hop: a disabled destination carries nothing", onHop, func(t *trial, c clients) {
		table, stream := c.connected(t, "pk:S", "")
		c.put(t, table, item{"pk": s("1")})
		c.readAll(t, stream, 1)
		arn := c.summary(t, stream).StreamARN
		_, err := c.DynamoDB.DisableKinesisStreamingDestination(t.Context(), &dynamodb.DisableKinesisStreamingDestinationInput{TableName: &table, StreamArn: arn})
		require.NoError(t, err)
		c.destinationBecomes(t, table, types.DestinationStatusDisabled)
		c.put(t, table, item{"pk": s("2")})
		require.Len(t, c.settled(t, stream, 1), 1)
	}},
	{"hop: a destination that cannot be is refused", onHop, func(t *trial, c clients) {
		table, stream := c.connected(t, "pk:S", "")
		arn := c.summary(t, stream).StreamARN
		_, err := c.DynamoDB.EnableKinesisStreamingDestination(t.Context(), &dynamodb.EnableKinesisStreamingDestinationInput{TableName: &table, StreamArn: arn})
		requireCode(t, err, "ResourceInUseException", "ValidationException")
		_, err = c.DynamoDB.EnableKinesisStreamingDestination(t.Context(), &dynamodb.EnableKinesisStreamingDestinationInput{TableName: aws.String(missing), StreamArn: arn})
		requireCode(t, err, "ResourceNotFoundException")
	}},
}

// The change record: what the library relies on.
var recordCases = []testCase{
	{"record: an INSERT with a payload is an event, and has everything", onHop, func(t *trial, c clients) {
		table, stream := c.connected(t, "eventId:S", types.ApproximateCreationDateTimePrecisionMicrosecond)
		c.put(t, table, item{"eventId": s("e-1"), "type": s("ORDER_CREATED"), "timestamp": n(1719347890250), "aggregateId": s("order-1"), "sequence": n(7),
			"payload": s(`{"a":"é\u2028"}`), "headers": m(item{"trace": s("x")}), "foreign": l(n("1e3"), null(), b("\xff"))})
		r, err := outbox.DecodeRecord(c.readAll(t, stream, 1)[0].Data)
		require.NoError(t, err)
		require.WithinDuration(t, time.Now(), r.ChangedAt, 5*time.Minute)
		r.ChangedAt, r.Table = time.Time{}, ""
		require.Equal(t, outbox.Record{ID: "e-1", Type: "ORDER_CREATED", AggregateID: "order-1", Sequence: 7, Time: time.UnixMilli(1719347890250).UTC(),
			Headers: map[string]string{"trace": "x"}, Payload: []byte(`{"a":"é\u2028"}`)}, utc(r))
	}},
	{"record: it names its table", onHop, func(t *trial, c clients) {
		table, stream := c.connected(t, "eventId:S", "")
		c.put(t, table, eventItem("e-1"))
		r, err := outbox.DecodeRecord(c.readAll(t, stream, 1)[0].Data)
		require.NoError(t, err)
		require.Equal(t, table, r.Table)
	}},
	{"record: MODIFY and REMOVE are no events", onHop, func(t *trial, c clients) {
		table, stream := c.connected(t, "eventId:S", "")
		c.put(t, table, eventItem("e-1"))
		changed := eventItem("e-1")
		changed["type"] = s("OTHER")
		c.put(t, table, changed)
		_, err := c.DynamoDB.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: &table, Key: item{"eventId": s("e-1")}})
		require.NoError(t, err)
		events := 0
		for _, r := range c.settled(t, stream, 3) {
			record, err := outbox.DecodeRecord([]byte(r))
			if err == nil {
				events++
				require.Equal(t, "ORDER_CREATED", record.Type)
				continue
			}
			require.ErrorIs(t, err, outbox.ErrNotEvent)
		}
		require.Equal(t, 1, events)
	}},
	{"record: an item that is no event is ErrNotEvent", onHop, func(t *trial, c clients) {
		table, stream := c.connected(t, "pk:S", "")
		c.put(t, table, item{"pk": s("1")})
		_, err := outbox.DecodeRecord(c.readAll(t, stream, 1)[0].Data)
		require.ErrorIs(t, err, outbox.ErrNotEvent)
	}},
	{"record: a binary payload of another content type", onHop, func(t *trial, c clients) {
		table, stream := c.connected(t, "eventId:S", "")
		in := eventItem("e-1")
		in["payload"], in["contentType"] = b("\x00\xff\x10"), s("application/protobuf")
		c.put(t, table, in)
		r, err := outbox.DecodeRecord(c.readAll(t, stream, 1)[0].Data)
		require.NoError(t, err)
		require.Equal(t, []byte("\x00\xff\x10"), r.Payload)
		require.Equal(t, "application/protobuf", r.ContentType)
	}},
	{"record: INSERT has the new image, REMOVE the old one, MODIFY both", onHop, func(t *trial, c clients) {
		table, stream := c.connected(t, "pk:S", "")
		c.put(t, table, item{"pk": s("1"), "v": n(1)}, item{"pk": s("1"), "v": n(2)})
		_, err := c.DynamoDB.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: &table, Key: item{"pk": s("1")}})
		require.NoError(t, err)
		for _, one := range changes(t, c.readSettled(t, stream, 3)) {
			require.Equal(t, map[string]map[string]any{"pk": {"S": "1"}}, one.DynamoDB.Keys)
			require.Equalf(t, one.EventName != "REMOVE", one.DynamoDB.NewImage != nil, "new image of %s", one.EventName)
			require.Equalf(t, one.EventName != "INSERT", one.DynamoDB.OldImage != nil, "old image of %s", one.EventName)
		}
	}},
	{"record: it says how large the images are", onHop, func(t *trial, c clients) {
		table, stream := c.connected(t, "pk:S", "")
		c.put(t, table, item{"pk": s("1"), "v": s(filler(1000))})
		require.Greater(t, changes(t, data(c.readAll(t, stream, 1)))[0].DynamoDB.SizeBytes, 1000)
	}},
	{"record: values of every type are written as DynamoDB's JSON", onHop, func(t *trial, c clients) {
		table, stream := c.connected(t, "pk:S", "")
		c.put(t, table, item{"pk": s("1"), "n": n("10.0"), "b": b("1321"), "yes": yes(false), "null": null(), "m": m(item{"a": s("x")}), "l": l(s("x"), n(13)),
			"ss": ss("a"), "ns": ns("1"), "bs": bs("1321")})
		one := changes(t, data(c.readAll(t, stream, 1)))[0]
		require.Equal(t, map[string]map[string]any{"pk": {"S": "1"}, "n": {"N": "10"}, "b": {"B": "MTMyMQ=="}, "yes": {"BOOL": false}, "null": {"NULL": true},
			"m": {"M": map[string]any{"a": map[string]any{"S": "x"}}}, "l": {"L": []any{map[string]any{"S": "x"}, map[string]any{"N": "13"}}},
			"ss": {"SS": []any{"a"}}, "ns": {"NS": []any{"1"}}, "bs": {"BS": []any{"MTMyMQ=="}}}, one.DynamoDB.NewImage)
	}},
	{"record: the envelope is that of the Kinesis destination, not of DynamoDB Streams", onHop, func(t *trial, c clients) {
		table, stream := c.connected(t, "pk:S", "")
		c.put(t, table, item{"pk": s("1")})
		one := changes(t, data(c.readAll(t, stream, 1)))[0]
		require.Equal(t, table, one.TableName)
		require.Equal(t, "application/json", one.RecordFormat)
		require.Equal(t, "aws:dynamodb", one.EventSource)
		require.NotEmpty(t, one.AWSRegion)
		require.Regexp(t, `^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`, one.EventID)
		require.Equal(t, "null", string(one.UserIdentity))
		require.Empty(t, one.DynamoDB.SequenceNumber)
		require.Empty(t, one.DynamoDB.StreamViewType)
	}},
	{"record: times are milliseconds unless something else is set", onHop, func(t *trial, c clients) {
		table, stream := c.connected(t, "pk:S", "")
		c.put(t, table, item{"pk": s("1")})
		one := changes(t, data(c.readAll(t, stream, 1)))[0]
		require.Len(t, one.DynamoDB.Created.String(), 13)
		require.Empty(t, one.DynamoDB.Precision)
	}},
	{"record: times are microseconds where that is set", onHop, func(t *trial, c clients) {
		table, stream := c.connected(t, "pk:S", types.ApproximateCreationDateTimePrecisionMicrosecond)
		c.put(t, table, item{"pk": s("1")})
		one := changes(t, data(c.readAll(t, stream, 1)))[0]
		require.Len(t, one.DynamoDB.Created.String(), 16)
		require.Equal(t, "MICROSECOND", one.DynamoDB.Precision)
	}},
}

func utc(r outbox.Record) outbox.Record {
	r.Time = r.Time.UTC()
	return r
}

// readSettled is settled; records of one item in any order.
func (c clients) readSettled(t *trial, stream string, want int) []string {
	t.Helper()
	out := c.settled(t, stream, want)
	require.Len(t, out, want)
	return out
}

// eventItem is an event's row.
func eventItem(id string) item {
	return item{"eventId": s(id), "type": s("ORDER_CREATED"), "timestamp": n(1719347890250), "payload": s(`{"orderId":"1"}`)}
}
