package outbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// The Writer encodes with its first codec, and a Consumer that knows it reads the event: on the way through the table and the
// stream, with both content types in it.
func TestAWritersCodecArrivesAtTheHandler(t *testing.T) {
	w := newWorld(t)
	reversed := newWriter(t, w.DynamoDB, outbox.WithCodec(reversing{}))
	require.NoError(t, reversed.Put(t.Context(), "orders", order{"1"}, event("reversed")))
	require.NoError(t, w.writer.Put(t.Context(), "orders", order{"1"}, event("plain")))

	row := w.row(t, "events", "eventId", "reversed")
	require.Equal(t, str("text/reversed"), row["contentType"])
	require.Equal(t, &types.AttributeValueMemberB{Value: []byte(`}"x":"noitpircsed","1-redro":"dIredro"{`)}, row["payload"])
	require.NotContains(t, w.row(t, "events", "eventId", "plain"), "contentType")

	var mu sync.Mutex
	got := map[string]orderCreated{}
	c := newConsumer(t, outbox.WithCodec(reversing{}))
	outbox.Handle(c, func(_ context.Context, e outbox.Event[orderCreated]) error {
		mu.Lock()
		defer mu.Unlock()
		got[e.ID] = e.Data
		return nil
	})
	_, err := w.Map(outboxtest.EventSource{Stream: "events", ReportBatchItemFailures: true}, c.Invoke)
	require.NoError(t, err)
	require.NoError(t, w.Drain(t.Context()))
	require.Equal(t, map[string]orderCreated{"reversed": event("").Data, "plain": event("").Data}, got)

	// The same event again, after the token: bytes are compared as bytes.
	w.advance(time.Hour)
	require.NoError(t, reversed.Put(t.Context(), "orders", order{"1"}, event("reversed")))
	other := event("reversed")
	other.Data.Description = "y"
	require.ErrorIs(t, reversed.Put(t.Context(), "orders", order{"1"}, other), outbox.ErrEventConflict)
}

func TestACodecNeedsItsAttribute(t *testing.T) {
	none := outbox.WithAttributes(outbox.Attributes{ContentType: outbox.NoAttribute})
	_, err := outbox.NewWriter(&recordingClient{}, "events", outbox.WithCodec(reversing{}), none)
	require.ErrorContains(t, err, `WithCodec: content type "text/reversed" needs the attribute ContentType`)
	_, err = outbox.NewWriter(&recordingClient{}, "events", none)
	require.NoError(t, err)
}

// An error of Marshal may quote the payload.
func TestErrorsOfEncodingAreDiscreet(t *testing.T) {
	err := newWriter(t, &recordingClient{}).Put(t.Context(), "orders", order{"1"}, outbox.Event[indiscreet]{ID: "e", Type: "T"})
	require.ErrorIs(t, err, outbox.ErrInvalidEvent)
	require.ErrorContains(t, err, "its data cannot be encoded: *json.MarshalerError")
	require.NotContains(t, err.Error(), "4111")
	require.ErrorContains(t, newWriter(t, &recordingClient{}).Put(t.Context(), "orders", order{"1"}, outbox.Event[chan int]{ID: "e", Type: "T"}), "unsupported type: chan int")
}

type indiscreet struct{}

func (indiscreet) MarshalJSON() ([]byte, error) { return nil, errors.New("card 4111 is expired") }

// reversing writes JSON backwards.
type reversing struct{}

func (reversing) ContentType() string { return "text/reversed" }

func (reversing) Marshal(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	slices.Reverse(data)
	return data, err
}

func (reversing) Unmarshal(data []byte, v any) error {
	data = slices.Clone(data)
	slices.Reverse(data)
	return json.Unmarshal(data, v)
}

// rawCodec returns nil for no bytes, as append does.
type rawCodec struct{}

func (rawCodec) ContentType() string                { return "application/octet-stream" }
func (rawCodec) Marshal(v any) ([]byte, error)      { return append([]byte(nil), v.([]byte)...), nil }
func (rawCodec) Unmarshal(data []byte, v any) error { *v.(*[]byte) = data; return nil }

// Nothing is a payload, too.
func TestACodecMayReturnNothing(t *testing.T) {
	a := outboxtest.Start(t)
	a.CreateOutbox(t, "events", "events", 1)
	w, err := outbox.NewWriter(a.DynamoDB, "events", outbox.WithCodec(rawCodec{}))
	require.NoError(t, err)
	for range 2 { // the second time it is compared with what is stored
		require.NoError(t, w.Transact(t.Context(), nil, outbox.Event[[]byte]{ID: "1", Type: "T"}))
	}
}
