package outbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"testing"
	"time"
	"unicode/utf8"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// storedRow is the row that a Writer stores for the event.
func storedRow(t testing.TB, event outbox.AnyEvent, opts ...outbox.WriterOption) values {
	writer, err := outbox.NewWriter(dynamodb.New(dynamodb.Options{Region: "us-east-1"}), "events", opts...)
	require.NoError(t, err)
	items, err := writer.Items(t.Context(), event)
	require.NoError(t, err)
	return items[0].Put.Item
}

var otherNames = outbox.Attributes{
	ID: "pk", Type: "kind", Time: "at", AggregateID: "about", Sequence: "version", Payload: "data", ContentType: "mime", Headers: "meta", ExpiresAt: "ttl",
}

// What a Writer stores, DecodeItem reads back, and DecodeRecord reads the same from its change record.
func FuzzDecodeItemIsTheInverseOfTheWriter(f *testing.F) {
	f.Add("id", "TYPE", "aggregate", int64(3), int64(1719347890250), "name", "value", "", []byte(`{"a":1}`), false)
	f.Add("id", "TYPE", "", int64(0), int64(1e11), "", "", "application/x-protobuf", []byte{0, 255}, true)
	f.Add("\u2028<&>", "é", "\x00", int64(math.MinInt64), int64(1e14-1), "h", "\"\\", "text/plain", []byte{}, true)
	f.Fuzz(func(t *testing.T, id, eventType, aggregate string, sequence, ms int64, header, value, contentType string, payload []byte, mapped bool) {
		const most = 200
		for _, s := range []string{id, eventType, aggregate, header, value, contentType} {
			if !utf8.ValidString(s) || len(s) > most {
				return
			}
		}
		if id == "" || eventType == "" || len(payload) > 1000 || contentType == "" && !utf8.Valid(payload) {
			return
		}
		// What nil is not: a record without a payload cannot be written.
		want := outbox.Record{ID: id, Type: eventType, AggregateID: aggregate, Sequence: sequence, Time: time.UnixMilli(ms).UTC(),
			ContentType: contentType, Payload: append([]byte{}, payload...)}
		if ms < 1e11 || ms >= 1e14 {
			return // refused by all, see TestATimeInAnotherUnitIsRefused
		}
		if header != "" {
			want.Headers = map[string]string{header: value}
		}
		shared := outbox.WithAttributes(outbox.Attributes{})
		if mapped {
			shared = outbox.WithAttributes(otherNames)
		}
		row := storedRow(t, want, shared, outbox.WithTTL(48*time.Hour))
		got, err := outbox.DecodeItem(row, shared)
		require.NoError(t, err)
		require.Equal(t, want, got)

		fromStream, err := outbox.DecodeRecord(insertOf(t, row), shared)
		require.NoError(t, err)
		require.Equal(t, want, fromStream)
	})
}

// insertOf is the change record of an item, without what DecodeItem does not know either.
func insertOf(t testing.TB, item values) []byte {
	data, err := json.Marshal(map[string]any{"eventName": "INSERT", "dynamodb": map[string]any{"NewImage": wireItem(item)}})
	require.NoError(t, err)
	return data
}

func wireItem(item values) map[string]any {
	out := map[string]any{}
	for name, v := range item {
		out[name] = wireValue(v)
	}
	return out
}

func wireValue(v types.AttributeValue) map[string]any {
	switch v := v.(type) {
	case *types.AttributeValueMemberS:
		return map[string]any{"S": v.Value}
	case *types.AttributeValueMemberN:
		return map[string]any{"N": v.Value}
	case *types.AttributeValueMemberB:
		return map[string]any{"B": v.Value}
	case *types.AttributeValueMemberBOOL:
		return map[string]any{"BOOL": v.Value}
	case *types.AttributeValueMemberNULL:
		return map[string]any{"NULL": true}
	case *types.AttributeValueMemberM:
		return map[string]any{"M": wireItem(v.Value)}
	case *types.AttributeValueMemberL:
		return map[string]any{"L": []any{}}
	case *types.AttributeValueMemberSS:
		return map[string]any{"SS": v.Value}
	case *types.AttributeValueMemberNS:
		return map[string]any{"NS": v.Value}
	case *types.AttributeValueMemberBS:
		return map[string]any{"BS": v.Value}
	}
	panic("unreachable")
}

// Every attribute with every kind of value, and without one: DecodeItem takes and refuses what DecodeRecord does, for the same
// reason.
func TestDecodeItemTakesWhatDecodeRecordTakes(t *testing.T) {
	values := map[string]types.AttributeValue{
		"S": str("text"), "empty S": str(""), "S time": str("2024-06-25T20:38:10.25+02:00"), "N": num("12"), "N fraction": num("12.75"), "N time": num("1719347890250"), "N time with a fraction": num("1719347890250.75"), "N seconds": num("1719347890"), "N microseconds": num("1719347890250647"), "N nanoseconds": num("1719347890250647000"), "N large": num("123456789012345678901234567890"),
		"N exponent": num("1E3"), "N negative": num("-5"), "N no fraction": num("12.x"), "B": &types.AttributeValueMemberB{Value: []byte{1, 2}},
		"BOOL": &types.AttributeValueMemberBOOL{Value: true}, "NULL": &types.AttributeValueMemberNULL{Value: true},
		"M": &types.AttributeValueMemberM{Value: values{"a": str("b")}}, "empty M": &types.AttributeValueMemberM{Value: values{}},
		"M of N": &types.AttributeValueMemberM{Value: values{"a": num("1")}},
		"L":      &types.AttributeValueMemberL{}, "SS": &types.AttributeValueMemberSS{Value: []string{"a"}},
		"NS": &types.AttributeValueMemberNS{Value: []string{"1"}}, "BS": &types.AttributeValueMemberBS{Value: [][]byte{{1}}}, "none": nil,
	}
	taken, refused, skipped := 0, 0, 0
	for _, attribute := range []string{"eventId", "type", "timestamp", "aggregateId", "sequence", "payload", "contentType", "headers", "expiresAt", "foreign"} {
		for name, value := range values {
			item := storedRow(t, outbox.Record{ID: "id", Type: "TYPE", AggregateID: "a", Sequence: 1, ContentType: "text/plain",
				Headers: map[string]string{"h": "v"}, Payload: []byte("x"), Time: time.UnixMilli(1719347890250)})
			item[attribute] = value
			if value == nil {
				delete(item, attribute)
			}
			got, err := outbox.DecodeItem(item)
			want, wantErr := outbox.DecodeRecord(insertOf(t, item))
			require.Equal(t, want, got, "%s: %s", attribute, name)
			var malformed, wantMalformed *outbox.DecodeError
			switch {
			case wantErr == nil:
				require.NoError(t, err, "%s: %s", attribute, name)
				taken++
			case errors.Is(wantErr, outbox.ErrNotEvent):
				require.Equal(t, wantErr, err, "%s: %s", attribute, name)
				skipped++
			default:
				require.ErrorAs(t, wantErr, &wantMalformed, "%s: %s", attribute, name)
				require.ErrorAs(t, err, &malformed, "%s: %s", attribute, name)
				require.Equal(t, wantMalformed.Where+": "+wantMalformed.Reason, malformed.Where+": "+malformed.Reason, "%s: %s", attribute, name)
				require.ErrorContains(t, err, "outbox: malformed event row: "+attribute+": ")
				refused++
			}
		}
	}
	require.Equal(t, []int{2, 250}, []int{skipped, taken + refused + skipped})
	require.Greater(t, taken, 60)
	require.Greater(t, refused, 60)
}

func TestDecodeItemOfATableWithoutSomeAttributes(t *testing.T) {
	few := outbox.WithAttributes(outbox.Attributes{Time: outbox.NoAttribute, Payload: outbox.NoAttribute, AggregateID: outbox.NoAttribute,
		Sequence: outbox.NoAttribute, ContentType: outbox.NoAttribute, Headers: outbox.NoAttribute})
	got, err := outbox.DecodeItem(values{"eventId": str("1"), "type": str("T"), "payload": num("1"), "": num("1")}, few)
	require.NoError(t, err)
	require.Equal(t, outbox.Record{ID: "1", Type: "T"}, got)

	_, err = outbox.DecodeItem(nil)
	require.ErrorIs(t, err, outbox.ErrNotEvent)
	_, err = outbox.DecodeItem(nil, outbox.WithAttributes(outbox.Attributes{ID: outbox.NoAttribute}))
	require.ErrorContains(t, err, "outbox: DecodeItem: attributes: an event row needs ID and Type")
	_, err = outbox.DecodeItem(nil, nil)
	require.ErrorContains(t, err, "option 0 is nil")
}

func TestARecordSharesNoMemoryWithItsItem(t *testing.T) {
	payload := []byte("payload")
	item := storedRow(t, outbox.Record{ID: "1", Type: "T", ContentType: "text/plain", Payload: payload})
	item["payload"] = &types.AttributeValueMemberB{Value: payload}
	r, err := outbox.DecodeItem(item)
	require.NoError(t, err)
	payload[0] = 'X'
	require.Equal(t, "payload", string(r.Payload))
}

// A Record that was read is written as it is, also by a Writer with another codec; a repeat is a repeat.
func TestARecordIsWrittenAsItIs(t *testing.T) {
	aws := outboxtest.Start(t)
	aws.CreateOutbox(t, "events", "events", 1)
	duplicates := 0
	writer, err := outbox.NewWriter(aws.DynamoDB, "events", outbox.WithCodec(gobCodec{"application/x-gob"}),
		outbox.WithWriterHooks(outbox.WriterHooks{Written: func(_ context.Context, w outbox.WriteInfo) {
			if w.Duplicate {
				duplicates++
			}
		}}))
	require.NoError(t, err)
	for i, payload := range []string{`{ "a" : "<1>" }`, `not JSON`} {
		r := outbox.Record{ID: strconv.Itoa(i), Type: "T", Time: time.UnixMilli(1719347890250).UTC(), Payload: []byte(payload), Table: "elsewhere", Fence: 3}
		require.NoError(t, writer.Transact(t.Context(), nil, r))
		require.NoError(t, writer.Transact(t.Context(), nil, &r))
		out, err := aws.DynamoDB.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: sdk.String("events"), Key: values{"eventId": str(r.ID)}})
		require.NoError(t, err)
		got, err := outbox.DecodeItem(out.Item)
		require.NoError(t, err)
		r.Table, r.Fence = "", 0
		require.Equal(t, r, got)
	}
	require.Equal(t, 2, duplicates)

	err = writer.Transact(t.Context(), nil, outbox.Record{ID: "x", Type: "T"})
	require.ErrorIs(t, err, outbox.ErrInvalidEvent)
	require.ErrorContains(t, err, "it has no payload")

	plain, err := outbox.NewWriter(aws.DynamoDB, "events", outbox.WithAttributes(outbox.Attributes{ContentType: outbox.NoAttribute}))
	require.NoError(t, err)
	err = plain.Transact(t.Context(), nil, outbox.Record{ID: "x", Type: "T", ContentType: "text/plain", Payload: []byte("x")})
	require.ErrorIs(t, err, outbox.ErrInvalidEvent)
	require.ErrorContains(t, err, "its content type cannot be stored")
}
