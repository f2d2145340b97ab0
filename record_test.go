package outbox_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

func TestDecodeRecordReadsBothCarriers(t *testing.T) {
	happened := time.UnixMilli(1719347890250).UTC()
	full := outbox.Record{
		ID: "01J1A2B3C4D5E6F7G8H9JKMNPQ", Type: "ORDER_CREATED", AggregateID: "order-1", Sequence: 3, Time: happened,
		Headers: map[string]string{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tenant": "acme"},
		Payload: []byte(`{"orderId":"order-1","description":"café \u2615 \"two\""}`), Table: "events",
	}
	with := func(change func(*outbox.Record)) outbox.Record {
		r := full
		change(&r)
		return r
	}
	micro, milli, second := time.UnixMicro(1719347890250647).UTC(), happened, time.Unix(1719347890, 0).UTC()
	bytes256 := make([]byte, 256)
	for i := range bytes256 {
		bytes256[i] = byte(i)
	}
	for name, want := range map[string]outbox.Record{
		"kinesis_insert_microseconds":           with(func(r *outbox.Record) { r.ChangedAt = micro }),
		"kinesis_insert_milliseconds":           with(func(r *outbox.Record) { r.ChangedAt = milli }),
		"kinesis_insert_precision_milliseconds": with(func(r *outbox.Record) { r.ChangedAt = milli }),
		"kinesis_insert_all_types":              with(func(r *outbox.Record) { r.ChangedAt = micro }),
		"kinesis_insert_any_order":              with(func(r *outbox.Record) { r.ChangedAt = micro }),
		"streams_insert":                        with(func(r *outbox.Record) { r.ChangedAt = second }),
		"kinesis_insert_binary_payload": with(func(r *outbox.Record) {
			r.ChangedAt, r.Payload, r.ContentType = micro, bytes256, "application/x-protobuf"
		}),
		"kinesis_insert_minimal": with(func(r *outbox.Record) {
			r.ChangedAt, r.AggregateID, r.Sequence, r.Headers = micro, "", 0, nil
		}),
	} {
		got, err := outbox.DecodeRecord(golden(t, name))
		require.NoError(t, err, name)
		require.Equal(t, want, got, name)
	}
}

func TestDecodeRecordSaysWhyARecordIsNoEvent(t *testing.T) {
	for name, why := range map[string]string{
		"kinesis_modify":     "a MODIFY, not an INSERT",
		"kinesis_remove":     "a REMOVE, not an INSERT",
		"kinesis_remove_ttl": "a REMOVE, not an INSERT",
		"streams_remove_ttl": "a REMOVE, not an INSERT",
		"kinesis_other_item": "an item without the attributes of an event",
		"foreign_json":       "JSON, but not a change record of DynamoDB",
	} {
		_, err := outbox.DecodeRecord(golden(t, name))
		require.ErrorIs(t, err, outbox.ErrNotEvent, name)
		require.ErrorContains(t, err, why, name)
	}
}

// A member eventName that is no string belongs to another tool's JSON, as long as it is JSON.
func TestAnEventNameThatIsNoStringIsForeign(t *testing.T) {
	for _, value := range []string{"5", "null", `{"a":"INSERT"}`} {
		text := strings.Replace(string(golden(t, "kinesis_insert_microseconds")), `"eventName":"INSERT"`, `"eventName":`+value, 1)
		_, err := outbox.DecodeRecord([]byte(text))
		require.ErrorIs(t, err, outbox.ErrNotEvent)
		require.ErrorContains(t, err, "not a change record of DynamoDB")
		_, err = outbox.DecodeRecord([]byte(strings.TrimSpace(text)[:len(text)-10]))
		require.ErrorContains(t, err, "not JSON")
		_, err = outbox.DecodeRecord([]byte(strings.Replace(text, `{"awsRegion"`, `{"eventName":[],"awsRegion"`, 1)))
		require.ErrorIs(t, err, outbox.ErrNotEvent)
		_, err = outbox.DecodeRecord([]byte(strings.Replace(text, `"eventSource"`, `"eventName":"INSERT","eventSource"`, 1)))
		require.NoError(t, err, "of two members with one name the later one counts")
	}
}

func TestDecodeRecordSaysWhatIsMalformed(t *testing.T) {
	good := string(golden(t, "kinesis_insert_microseconds"))
	replace := func(old, new string) string {
		require.Contains(t, good, old)
		return strings.Replace(good, old, new, 1)
	}
	for text, want := range map[string]string{
		"":               "the text ends in the middle of a value",
		"\x00\x01binary": "not JSON",
		good + "x":       "there is more after the end",
		replace(`"tableName":"events"`, `"tableName":[]`):                                           "tableName: want a string, have an array",
		replace(`{"S":"ORDER_CREATED"}`, `{"N":"5"}`):                                               "type: want type S, have N",
		replace(`{"S":"ORDER_CREATED"}`, `{"S":5}`):                                                 "type: want a string in S, have a number",
		replace(`{"S":"ORDER_CREATED"}`, `{"S":""}`):                                                "type: empty",
		replace(`{"S":"ORDER_CREATED"}`, `{"X":"a"}`):                                               "type: an attribute value has an unknown type",
		replace(`{"S":"ORDER_CREATED"}`, `{}`):                                                      "type: an attribute value must have exactly one type",
		replace(`{"S":"ORDER_CREATED"}`, `{"S":"a","N":"1"}`):                                       "type: an attribute value must have exactly one type",
		replace(`{"S":"ORDER_CREATED"}`, `"a"`):                                                     "type: want an attribute value, have a string",
		replace(`"eventId":{"S":"01J1A2B3C4D5E6F7G8H9JKMNPQ"},"type"`, `"eventId":{"S":""},"type"`): "eventId: empty",
		replace(`"timestamp":{"N":"1719347890250"},`, ``):                                           "timestamp: missing",
		replace(`{"N":"1719347890250"}`, `{"N":"1e12"}`):                                            "timestamp: want milliseconds",
		replace(`{"N":"1719347890250"}`, `{"S":"yesterday"}`):                                       "timestamp: want milliseconds since the epoch or a time in RFC 3339",
		replace(`{"N":"1719347890250"}`, `{"BOOL":true}`):                                           "timestamp: want type N, have BOOL",
		replace(`{"N":"1719347890250"}`, `{"N":1719347890250}`):                                     "timestamp: want a string in N",
		replace(`"sequence":{"N":"3"}`, `"sequence":{"N":"`+strings.Repeat("9", 400)+`"}`):          "sequence: want a whole number",
		replace(`"sequence":{"N":"3"}`, `"sequence":{"S":"3"}`):                                     "sequence: want type N, have S",
		replace(`"sequence":{"N":"3"}`, `"sequence":{"N":3}`):                                       "sequence: want a string in N",
		replace(`{"S":"acme"}`, `{"N":"1"}`):                                                        "headers: want type S for every value",
		replace(`{"S":"acme"}`, `1`):                                                                "headers: want an attribute value",
		replace(`"headers":{"M":{`, `"headers":{"M":[{`):                                            "not JSON",
		replace(`"headers":{"M":`, `"headers":{"L":[]},"h":{"M":`):                                  "headers: want type M, have L",
		replace(`"headers":{"M":`, `"headers":{"M":[]},"h":{"M":`):                                  "headers: want an object in M, have an array",
		replace(`"payload":{"S":`, `"payload":{"M":{}},"p":{"S":`):                                  "payload: want type S or B, have M",
		replace(`"payload":{"S":`, `"payload":{"B":"*"},"p":{"S":`):                                 "payload: the content of B is not base64",
		replace(`"payload":{"S":`, `"payload":{"S":true},"p":{"S":`):                                "payload: want a string in S, have a boolean",
		replace(`"payload":{"S":`, `"p":{"S":`):                                                     "payload: missing",
		replace(`1719347890250647`, `"now"`):                                                        "ApproximateCreationDateTime: want a number, have a string",
		replace(`1719347890250647`, `1e300`):                                                        "ApproximateCreationDateTime: want whole",
		replace(`"MICROSECOND"`, `"NANOSECOND"`):                                                    "Precision: want MICROSECOND or MILLISECOND",
		replace(`"MICROSECOND"`, `6`):                                                               "Precision: want a string, have a number",
		string(golden(t, "streams_insert_keys_only")):                                               "dynamodb.NewImage: missing",
		replace(`"userIdentity":null`, `"userIdentity":`+strings.Repeat("[", 10<<20)):               "nested deeper than 128 levels",
	} {
		r, err := outbox.DecodeRecord([]byte(text))
		var malformed *outbox.DecodeError
		require.ErrorAsf(t, err, &malformed, "want %q", want)
		require.ErrorContains(t, err, want)
		require.NotErrorIs(t, err, outbox.ErrNotEvent)
		require.Zero(t, r)
		require.NotContains(t, err.Error(), "acme", "the error quotes the record")
	}
}

// A record cut off at any byte is malformed, never an event and never silently nothing.
func TestDecodeRecordRefusesEveryPrefix(t *testing.T) {
	for _, name := range []string{"kinesis_insert_microseconds", "kinesis_insert_any_order", "streams_insert"} {
		data := []byte(strings.TrimSpace(string(golden(t, name))))
		for n := range data {
			var malformed *outbox.DecodeError
			_, err := outbox.DecodeRecord(data[:n])
			require.ErrorAsf(t, err, &malformed, "%s cut off after %d bytes", name, n)
		}
	}
}

func TestOptionalAttributesMayBeNull(t *testing.T) {
	text := strings.Replace(string(golden(t, "kinesis_insert_microseconds")), `"sequence":{"N":"3"}`, `"sequence":{"NULL":true}`, 1)
	r, err := outbox.DecodeRecord([]byte(text))
	require.NoError(t, err)
	require.Zero(t, r.Sequence)
}

func TestTimesOfOtherWriters(t *testing.T) {
	for value, want := range map[string]time.Time{
		`{"N":"1719347890250.75"}`:             time.UnixMilli(1719347890250).UTC(),
		`{"S":"2024-06-25T22:38:10.25+02:00"}`: time.UnixMilli(1719347890250).UTC(),
	} {
		r, err := outbox.DecodeRecord([]byte(strings.Replace(string(golden(t, "kinesis_insert_microseconds")), `{"N":"1719347890250"}`, value, 1)))
		require.NoError(t, err)
		require.Equal(t, want, r.Time)
	}
}

// Without a precision the magnitude of the number tells seconds, milliseconds and microseconds apart.
func TestPrecisionIsKnownByMagnitude(t *testing.T) {
	for number, want := range map[string]time.Time{
		"1719347890":       time.Unix(1719347890, 0).UTC(),
		"1719347890.25":    time.UnixMilli(1719347890250).UTC(),
		"1719347890250":    time.UnixMilli(1719347890250).UTC(),
		"1719347890250647": time.UnixMicro(1719347890250647).UTC(),
	} {
		text := strings.Replace(string(golden(t, "kinesis_insert_microseconds")), `,"ApproximateCreationDateTimePrecision":"MICROSECOND"`, "", 1)
		r, err := outbox.DecodeRecord([]byte(strings.Replace(text, "1719347890250647", number, 1)))
		require.NoError(t, err)
		require.Equal(t, want, r.ChangedAt, number)
	}
}

// The row of the TypeScript sample that this library grew from: its own names, and no payload.
var sampleRow = outbox.Attributes{AggregateID: "relatedOrderId", Payload: outbox.NoAttribute}

func TestDecodeRecordMapsAttributeNames(t *testing.T) {
	r, err := outbox.DecodeRecord(golden(t, "sample_row"), outbox.WithAttributes(sampleRow))
	require.NoError(t, err)
	at := time.UnixMilli(1719347890250).UTC()
	require.Equal(t, outbox.Record{
		ID: "evt_01J1A2B3C4D5E6F7G8H9JKMNPQ", Type: "ORDER_CREATED", AggregateID: "01J1A2B3C4D5E6F7G8H9JKMNPQ",
		Time: at, ChangedAt: at, Table: "events",
	}, r)

	noTime := sampleRow
	noTime.Time = outbox.NoAttribute
	r, err = outbox.DecodeRecord(golden(t, "sample_row"), outbox.WithAttributes(noTime))
	require.NoError(t, err)
	require.Equal(t, r.ChangedAt, r.Time, "without a time of its own an event has that of its change")

	_, err = outbox.DecodeRecord(golden(t, "sample_row"))
	require.ErrorContains(t, err, "payload: missing")
}

func TestAttributesAreChecked(t *testing.T) {
	for want, a := range map[string]outbox.Attributes{
		"needs ID and Type":                          {Type: outbox.NoAttribute},
		`Type and Payload are both named "type"`:     {Payload: "type"},
		`AggregateID and Headers are both named "x"`: {AggregateID: "x", Headers: "x"},
	} {
		_, err := outbox.DecodeRecord(nil, outbox.WithAttributes(a))
		require.ErrorContains(t, err, want)
		_, err = outbox.NewConsumer(outbox.WithAttributes(a))
		require.ErrorContains(t, err, want)
	}
}

func TestRecordFromContextOutsideAHandler(t *testing.T) {
	_, ok := outbox.RecordFromContext(context.Background())
	require.False(t, ok)
}

func TestDecodedRecordSharesNoMemoryWithItsInput(t *testing.T) {
	data := golden(t, "kinesis_insert_microseconds")
	got, err := outbox.DecodeRecord(data)
	require.NoError(t, err)
	for i := range data {
		data[i] = 'x'
	}
	want, err := outbox.DecodeRecord(golden(t, "kinesis_insert_microseconds"))
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// FuzzDecodeRecord holds DecodeRecord against a decoder built on encoding/json: both read the same, or both fail, and they
// agree on what is no event.
func FuzzDecodeRecord(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "records", "*.json"))
	require.NoError(f, err)
	require.NotEmpty(f, files)
	for _, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(data)
	}
	f.Add([]byte(`{"eventName":"INSERT","dynamodb":{"NewImage":{"eventId":{"S":"a","S":"b"},"type":{"S":"\ud83d"},"type":{"S":"t"},"headers":{"M":{"a":{"N":"1"},"a":{"S":"x"}}},"timestamp":{"N":"1719347890250"},"payload":{"B":"AA=\n="}},"ApproximateCreationDateTime":17e8},"dynamodb":null}`))
	f.Add([]byte(`{"\u0065ventName":"INSERT","dynamodb":{"NewImage":null},"tableName":null}`))
	f.Add([]byte(`{"eventName":"INSERT","eventName":"REMOVE"`))
	f.Add([]byte(`0 0`))
	f.Fuzz(func(t *testing.T, data []byte) {
		want, slowErr := slowDecode(data)
		if errors.Is(slowErr, errTooDeep) {
			_, _ = outbox.DecodeRecord(data) // must not panic
			return
		}
		got, err := outbox.DecodeRecord(data)
		require.Equalf(t, slowErr == nil, err == nil, "slow: %v, fast: %v", slowErr, err)
		require.Equalf(t, errors.Is(slowErr, outbox.ErrNotEvent), errors.Is(err, outbox.ErrNotEvent), "slow: %v, fast: %v", slowErr, err)
		if err == nil {
			require.Equal(t, want, got)
		}
	})
}

func BenchmarkDecodeRecord(b *testing.B) {
	for _, name := range []string{"kinesis_insert_microseconds", "kinesis_remove"} {
		data := golden(b, name)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				_, _ = outbox.DecodeRecord(data)
			}
		})
	}
}
