package outbox_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// brokenCodec fails with an error that quotes what it was given.
type brokenCodec struct{ contentType string }

func (c brokenCodec) ContentType() string           { return c.contentType }
func (brokenCodec) Marshal(any) ([]byte, error)     { return nil, errors.New("no") }
func (brokenCodec) Unmarshal(d []byte, _ any) error { return quotingError(d) }

type quotingError string

func (e quotingError) Error() string { return "cannot read " + string(e) }

func TestTheContentTypeSelectsTheCodec(t *testing.T) {
	c := newConsumer(t, outbox.WithConcurrency(1), outbox.WithCodec(gobCodec{"application/X-Gob; version=1"}))
	var got []string
	outbox.Handle(c, func(_ context.Context, e outbox.Event[orderCreated]) error {
		got = append(got, e.ID+" "+e.Data.OrderID)
		return nil
	})
	binary, err := gobCodec{}.Marshal(orderCreated{OrderID: "o"})
	require.NoError(t, err)
	var records []outbox.Record
	for id, contentType := range map[string]string{"json": "", "json2": "application/json", "json3": "Application/JSON; charset=utf-8", "json4": " application/json "} {
		records = append(records, outbox.Record{ID: id, Type: "ORDER_CREATED", ContentType: contentType, Payload: []byte(`{"orderId":"o"}`)})
	}
	for id, contentType := range map[string]string{"gob": "application/x-gob", "gob2": "APPLICATION/X-GOB", "gob3": "application/x-gob;version=2"} {
		records = append(records, outbox.Record{ID: id, Type: "ORDER_CREATED", ContentType: contentType, Payload: binary})
	}
	require.NoError(t, c.Process(t.Context(), records...))
	require.ElementsMatch(t, []string{"json o", "json2 o", "json3 o", "json4 o", "gob o", "gob2 o", "gob3 o"}, got)

	long := "application/" + strings.Repeat("x", 10_000)
	for _, contentType := range []string{"application/x-protobuf", "json", long} {
		err = c.Process(t.Context(), outbox.Record{ID: "1", Type: "ORDER_CREATED", ContentType: contentType, Payload: binary})
		require.ErrorIs(t, err, outbox.ErrPermanent)
		require.ErrorContains(t, err, contentType[:min(len(contentType), 100)])
		require.ErrorContains(t, err, `have ["application/json" "application/x-gob"]; see WithCodec`)
		require.Less(t, len(err.Error()), 500, "the error grows with what is in the record")
	}
}

func TestACodecCanReplaceJSON(t *testing.T) {
	c := newConsumer(t, outbox.WithCodec(brokenCodec{"application/json"}))
	outbox.Handle(c, func(context.Context, outbox.Event[orderCreated]) error { return nil })
	for _, contentType := range []string{"", "application/json", "application/json; charset=utf-8"} {
		err := c.Process(t.Context(), outbox.Record{ID: "1", Type: "ORDER_CREATED", ContentType: contentType, Payload: []byte(`{}`)})
		require.ErrorContains(t, err, "cannot be decoded into outbox_test.orderCreated")
	}
}

// Errors of codecs, and of Unmarshal methods of payload types, may quote the payload: their text is not shown. The errors
// themselves stay reachable.
func TestErrorsOfCodecsDoNotQuoteThePayload(t *testing.T) {
	type timed struct {
		At time.Time `json:"at"`
	}
	var log bytes.Buffer
	c, err := outbox.NewConsumer(outbox.WithLogger(slog.New(slog.NewTextHandler(&log, nil))), outbox.WithCodec(brokenCodec{"text/x-broken"}))
	require.NoError(t, err)
	outbox.HandleType(c, "T", func(context.Context, outbox.Event[timed]) error { return nil })

	err = c.Process(t.Context(), outbox.Record{ID: "1", Type: "T", ContentType: "text/x-broken", Payload: []byte("secret")})
	require.ErrorContains(t, err, "the payload cannot be decoded into outbox_test.timed: outbox_test.quotingError, whose text is left out")
	require.ErrorIs(t, err, outbox.ErrPermanent)
	var quoting quotingError
	require.ErrorAs(t, err, &quoting)

	for payload, want := range map[string]string{`{"at":"secret"}`: "*time.ParseError, whose text is left out", `{"at":"secret`: "no JSON from byte 13 on", `secret`: "no JSON from byte 1 on"} {
		err = c.Process(t.Context(), outbox.Record{ID: "1", Type: "T", Payload: []byte(payload)})
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "secret")
	}

	outbox.HandleType(c, "PICKY", func(context.Context, outbox.Event[panickyPayload]) error { return nil })
	err = c.Process(t.Context(), outbox.Record{ID: "1", Type: "PICKY", Payload: []byte(`"secret"`)})
	var panicked *outbox.PanicError
	require.ErrorAs(t, err, &panicked)
	require.ErrorContains(t, err, "a codec panicked with a string")
	require.NotContains(t, err.Error(), "secret")
	require.Contains(t, string(panicked.Stack), "UnmarshalJSON")
	require.NotContains(t, log.String(), "secret")
	require.Contains(t, log.String(), "ParseError")
}

func TestCodecsAreChecked(t *testing.T) {
	for want, option := range map[string]outbox.Option{
		"WithCodec: want at least one codec":                                          outbox.WithCodec(),
		"WithCodec: codec 1 is nil":                                                   outbox.WithCodec(gobCodec{"a/b"}, nil),
		"WithCodec: codec 0 is nil":                                                   outbox.WithCodec((*gobCodec)(nil)),
		"WithCodec: codec 0 (outbox_test.gobCodec) has no content type":               outbox.WithCodec(gobCodec{" ;x=y"}),
		`codec 1 (outbox_test.gobCodec): there is one for content type "A/b" already`: outbox.WithCodec(gobCodec{"a/b; c=d"}, gobCodec{"A/b"}),
	} {
		_, err := outbox.NewConsumer(option)
		require.ErrorContains(t, err, want)
		_, err = outbox.NewWriter(&recordingClient{}, "events", option)
		require.ErrorContains(t, err, want)
	}
	_, err := outbox.NewConsumer(outbox.WithCodec(gobCodec{"a/b"}), outbox.WithCodec(gobCodec{"a/b"}))
	require.ErrorContains(t, err, "already")
}

func TestACodecThatPanicsIsAFailure(t *testing.T) {
	c := newConsumer(t, outbox.WithCodec(panickingCodec{}))
	outbox.Handle(c, func(context.Context, outbox.Event[orderCreated]) error { return nil })
	err := c.Process(t.Context(), outbox.Record{ID: "1", Type: "ORDER_CREATED", ContentType: "x/y", Payload: []byte("z")})
	var p *outbox.PanicError
	require.ErrorAs(t, err, &p)
}

type panickingCodec struct{}

func (panickingCodec) ContentType() string         { return "x/y" }
func (panickingCodec) Marshal(any) ([]byte, error) { panic("no") }
func (panickingCodec) Unmarshal([]byte, any) error { panic("no") }

// numberCodec is JSON with numbers as they stand.
type numberCodec struct{}

func (numberCodec) ContentType() string           { return "application/json" }
func (numberCodec) Marshal(v any) ([]byte, error) { return json.Marshal(v) }
func (numberCodec) Unmarshal(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return d.Decode(v)
}

// A codec that names application/json takes the place of the default.
func ExampleWithCodec() {
	consumer, err := outbox.NewConsumer(outbox.WithCodec(numberCodec{}))
	if err != nil {
		panic(err)
	}
	outbox.HandleType(consumer, "MEASURED", func(_ context.Context, e outbox.Event[map[string]any]) error {
		fmt.Println(e.Data["value"])
		return nil
	})
	record := outbox.Record{ID: "1", Type: "MEASURED", Payload: []byte(`{"value":12345678901234567890}`)}
	if err := consumer.Process(context.Background(), record); err != nil {
		panic(err)
	}
	// Output: 12345678901234567890
}

// What a payload is decoded into is used again; nothing of one event may be seen in another, also after a failure.
func TestNothingOfAPayloadIsLeftForTheNext(t *testing.T) {
	type data struct {
		Name string
		List []int
		Map  map[string]int
	}
	c := newConsumer(t, outbox.WithConcurrency(1), outbox.WithLogger(slog.New(slog.DiscardHandler)))
	var got []data
	outbox.HandleType(c, "T", func(_ context.Context, e outbox.Event[data]) error {
		got = append(got, e.Data)
		return nil
	})
	var records []outbox.Record
	for i, payload := range []string{`{"Name":"a","List":[1,2,3],"Map":{"x":1}}`, `{}`, `{"Name":"b","List":[4,5,6],"Map":5}`, `{"List":[7]}`, `{"Map":{"y":2}}`} {
		records = append(records, outbox.Record{ID: fmt.Sprint(i), Type: "T", Payload: []byte(payload)})
	}
	var failed *outbox.ProcessError
	require.ErrorAs(t, c.Process(t.Context(), records...), &failed)
	require.Equal(t, []int{2}, failed.Unfinished)
	require.Equal(t, []data{{"a", []int{1, 2, 3}, map[string]int{"x": 1}}, {}, {List: []int{7}}, {Map: map[string]int{"y": 2}}}, got)
}

// panickyPayload panics with the payload that it is to be decoded from.
type panickyPayload struct{}

func (*panickyPayload) UnmarshalJSON(data []byte) error { panic(string(data)) }
