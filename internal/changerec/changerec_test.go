package changerec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/event"
	"github.com/seed-1b628d3f/outbox/internal/slab"
)

var layout = &Layout{
	ID: "eventId", Type: "type", Time: "timestamp", AggregateID: "aggregateId", Sequence: "sequence", Payload: "payload",
	ContentType: "contentType", Headers: "headers",
}

func image(attributes string) string {
	return `{"eventName":"INSERT","tableName":"events","dynamodb":{"ApproximateCreationDateTime":1719347890250647,"NewImage":{` +
		`"eventId":{"S":"e-1"},"type":{"S":"T"},"timestamp":{"N":"1719347890250"}` + attributes + `},"ApproximateCreationDateTimePrecision":"MICROSECOND"}}`
}

func decode(t testing.TB, text string) event.Event {
	var e event.Event
	reason, err := Decode(&e, []byte(text), layout, nil, nil)
	require.Nil(t, err, text)
	require.Zero(t, reason, text)
	return e
}

// Attribute values in the shape that DynamoDB writes are read in one go, and all others by parse. Both must mean the same.
func TestEveryShapeOfAnAttributeValueMeansTheSame(t *testing.T) {
	want := event.Event{
		ID: "e-1", Type: "T", AggregateID: "a", Sequence: 7, Time: time.UnixMilli(1719347890250).UTC(), Table: "events", ContentType: "x/y",
		ChangedAt: time.UnixMicro(1719347890250647).UTC(), Headers: map[string]string{"h": "v", "é": "\n"}, Payload: []byte("\"\\\né€😀\uFFFD"),
	}
	payload := `"\"\\\n\u00e9€\ud83d\ude00\ud83d"`
	compact := image(`,"aggregateId":{"S":"a"},"sequence":{"N":"7"},"contentType":{"S":"x\/y"},"headers":{"M":{"h":{"S":"v"},"\u00e9":{"S":"\n"}}},"payload":{"S":` + payload + `}`)
	require.Equal(t, want, decode(t, compact))
	var spaced bytes.Buffer
	require.NoError(t, json.Indent(&spaced, []byte(compact), " ", "\t"))
	require.Equal(t, want, decode(t, spaced.String()))
	require.Equal(t, want, decode(t, strings.ReplaceAll(compact, `":`, `": `)))
	require.Equal(t, want, decode(t, strings.NewReplacer(`{"S":`, `{"S": `, `{"N":`, "{\"N\":\t", `{"M":`, `{"M": `).Replace(compact)))
	twice := strings.NewReplacer(`{"S":"a"}`, `{"S":"b","S":"a"}`, `{"N":"7"}`, `{"\u004e":"7"}`, `{"S":"v"}`, `{"S":1,"S":"v"}`,
		`"payload":{"S":`, `"payload":{"S":"first"},"payload":{"S":"second"},"payload":{"S":1,"S":`).Replace(compact)
	require.Equal(t, want, decode(t, twice))
}

// Of members with one name the last counts, whatever the earlier members were.
func TestTheLastOfEqualMembersCounts(t *testing.T) {
	one := `"eventId":{"S":"e-1"},"type":{"S":"T"},"timestamp":{"N":"1719347890250"},"payload":{"S":"1"}`
	other := `"eventId":{"S":"e-2"},"type":{"S":"T"},"timestamp":{"N":"1719347890250"},"payload":{"B":"Mg=="}`
	e := decode(t, `{"dynamodb":{"NewImage":{`+one+`}},"dynamodb":{"NewImage":{`+one+`,"aggregateId":{"S":"x"}},"NewImage":{`+other+`}},"eventName":"INSERT"}`)
	require.Equal(t, "e-2", e.ID)
	require.Equal(t, "2", string(e.Payload))
	require.Empty(t, e.AggregateID)
	e = decode(t, `{"dynamodb":{"NewImage":{`+other+`}},"eventName":"INSERT","dynamodb":{"NewImage":{`+one+`}}}`)
	require.Equal(t, "1", string(e.Payload))
}

// Events are decoded into memory that says where they were delivered from, and may say more of an earlier event.
func TestDecodingReplacesAllButThePlace(t *testing.T) {
	place := event.Event{StreamARN: "arn", ShardID: "shard", SequenceNumber: "1", Fence: 2}
	earlier := place
	earlier.ID, earlier.Type, earlier.AggregateID, earlier.Sequence, earlier.Time = "e-0", "U", "a", 7, time.Now()
	earlier.Headers, earlier.ContentType, earlier.Payload = map[string]string{"h": "v"}, "x/y", []byte("0")
	earlier.Table, earlier.ChangedAt = "other", time.Now()

	e, want := earlier, place
	want.ID, want.Type, want.Time, want.Payload = "e-1", "T", time.UnixMilli(1719347890250).UTC(), []byte("1")
	one := `{"eventName":"INSERT","dynamodb":{"NewImage":{"eventId":{"S":"e-1"},"type":{"S":"T"},"timestamp":{"N":"1719347890250"},"payload":{"S":"1"}}}}`
	reason, err := Decode(&e, []byte(one), layout, nil, nil)
	require.Zero(t, reason)
	require.Nil(t, err)
	require.Equal(t, want, e)

	e = earlier
	_, err = Decode(&e, []byte(image(`,"aggregateId":{"S":"a"},"payload":{"N":"1"}`)), layout, nil, nil)
	require.NotNil(t, err)
	require.Equal(t, place, e, "a malformed record")
	e = earlier
	reason, err = Decode(&e, []byte(`{"eventName":"REMOVE"}`), layout, nil, nil)
	require.Nil(t, err)
	require.Equal(t, Removed, reason)
	require.Equal(t, earlier, e, "a record that is no event")
}

func TestWhatIsNoEventStopsAtOnce(t *testing.T) {
	for text, want := range map[string]NotEvent{
		`{"eventName":"REMOVE" garbage`:                         Removed,
		`{"eventName":"MODIFY",`:                                Modified,
		`{"eventName":"R\u0045MOVE"`:                            Removed,
		`{"eventName":"something that is longer than any name"`: OtherChange,
		`{"tableName":"other"`:                                  OtherTable,
		`{"tableName":"` + strings.Repeat("x", 300) + `"`:       OtherTable,
		`{"eventName":"INSERT","dynamodb":5}`:                   NoChange,
		`{"eventName":5,"dynamodb":{}}`:                         NoChange,
		`[]`:                                                    NoChange,
		`{"eventName":"INSERT","dynamodb":{"NewImage":{"type":{"S":"T"}}}}`:                                 NoAttributes,
		`{"eventSourceARN":"arn:aws:dynamodb:r:1:table/other/stream/x","eventName":"INSERT","dynamodb":{}}`: OtherTable,
	} {
		var e event.Event
		reason, err := Decode(&e, []byte(text), layout, []string{"events", "more"}, nil)
		require.Nil(t, err, text)
		require.Equal(t, want, reason, text)
		require.NotEmpty(t, reason.Error())
	}
}

func TestLongStringsAndManyHeaders(t *testing.T) {
	long := strings.Repeat("é\n", 1000)
	var headers []string
	for i := range 100 {
		headers = append(headers, fmt.Sprintf(`"name-%d":{"S":"value \"%d\""}`, i, i))
	}
	quoted, err := json.Marshal(long)
	require.NoError(t, err)
	e := decode(t, image(`,"payload":{"S":""},"aggregateId":{"S":`+string(quoted)+`},"headers":{"M":{`+strings.Join(headers, ",")+`}}`))
	require.Equal(t, long, e.AggregateID)
	require.Equal(t, "e-1", e.ID)
	require.Len(t, e.Headers, 100)
	require.Equal(t, `value "99"`, e.Headers["name-99"])
	require.NotNil(t, e.Payload)
	require.Empty(t, e.Payload)
}

// A payload in front of a long rest does not keep the room of the rest.
func TestThePayloadKeepsNoMoreThanItNeeds(t *testing.T) {
	e := decode(t, image(`,"payload":{"S":"x"},"other":{"S":"`+strings.Repeat("y", 100_000)+`"}`))
	require.Less(t, cap(e.Payload), 1000)
}

func TestAllocations(t *testing.T) {
	var e event.Event
	for text, want := range map[string]float64{
		image(`,"aggregateId":{"S":"a"},"sequence":{"N":"7"},"payload":{"S":"{\"a\":1}"}`):                  2, // strings, payload
		image(`,"payload":{"B":"MTMyMQ=="}`):                                                                2,
		image(`,"payload":{"S":"{}"},"headers":{"M":{"a":{"S":"b"},"c":{"S":"d"}}}`):                        4, // and a map
		`{"eventName":"REMOVE","dynamodb":{}}`:                                                              0,
		`{"dynamodb":{"OldImage":{"a":{"S":"` + strings.Repeat(`\"`, 10_000) + `"}}},"eventName":"REMOVE"}`: 0,
		`{"tableName":"other"}`: 0,
		`{"a":1}`:               0,
	} {
		data := []byte(text)
		require.Equal(t, want, testing.AllocsPerRun(100, func() {
			e = event.Event{}
			_, _ = Decode(&e, data, layout, []string{"events"}, nil)
		}), "%.100s", text)
	}
}

// White space and the order of members mean nothing. They also decide which way a value is read, so this test compares both ways.
func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("..", "..", "testdata", "records", "*.json"))
	require.NoError(f, err)
	require.NotEmpty(f, files)
	for _, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(data)
	}
	f.Add([]byte(image(`,"payload":{"S":"\ud83d\ud83d\ude00\\\"]]"},"headers":{"M":{"a":{"S":"b"},"a":{"N":"1"}}}`)))
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		var got, want event.Event
		reason, bad := Decode(&got, data, layout, []string{"events"}, nil)
		require.Equal(t, before, data, "the input was changed")
		shared := slab.New(1 << 20)
		for range 2 { // the second payload must not touch the first
			var again event.Event
			againReason, againBad := Decode(&again, data, layout, []string{"events"}, shared)
			require.Equal(t, reason, againReason)
			require.Equal(t, bad, againBad)
			if bad == nil && reason == 0 {
				require.Equal(t, got, again)
			}
		}
		var spaced bytes.Buffer
		if json.Indent(&spaced, data, "", " ") != nil {
			require.True(t, bad != nil || reason != 0, "what is not JSON became an event")
			return
		}
		otherReason, otherBad := Decode(&want, spaced.Bytes(), layout, []string{"events"}, nil)
		require.Equal(t, otherReason, reason)
		require.Equal(t, otherBad == nil, bad == nil)
		if bad == nil && reason == 0 {
			require.Equal(t, want, got)
		}
	})
}
