package outboxtest_test

import (
	"bytes"
	"encoding/gob"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// gobCodec is a codec whose payloads are bytes.
type gobCodec struct{}

func (gobCodec) ContentType() string { return "application/x-gob" }

func (gobCodec) Marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(v)
	return b.Bytes(), err
}

func (gobCodec) Unmarshal(data []byte, v any) error {
	return gob.NewDecoder(bytes.NewReader(data)).Decode(v)
}

// Events of a codec are found with its Unmarshal, beside those in JSON. Without it, neither helper passes in silence.
func TestEventsOfACodecAreFound(t *testing.T) {
	a := outboxtest.Start(t)
	a.CreateOutbox(t, "events", "stream", 1)
	is := func(id string) func(orderCreated) bool { return func(o orderCreated) bool { return o.OrderID == id } }
	put := func(id string, opts ...outbox.WriterOption) {
		w, err := outbox.NewWriter(a.DynamoDB, "events", opts...)
		require.NoError(t, err)
		require.NoError(t, w.Transact(t.Context(), nil, outbox.Event[orderCreated]{ID: "event-" + id, AggregateID: id, Data: orderCreated{id}}))
	}
	put("json")
	put("gob", outbox.WithCodec(gobCodec{}))

	unmarshal := gobCodec{}.Unmarshal
	for _, id := range []string{"json", "gob"} {
		require.Equal(t, orderCreated{id}, outboxtest.RequireEmitted(t, a.DynamoDB, "events", is(id), unmarshal))
		b := &brokenTest{TB: t}
		outboxtest.RequireNotEmitted(b, a.DynamoDB, "events", is(id), unmarshal)
		require.Contains(t, b.failure, "must not be there: ORDER_CREATED (event-"+id+")")
		require.NotContains(t, b.failure, "\x00")
	}
	outboxtest.RequireNotEmitted(t, a.DynamoDB, "events", is("other"), unmarshal)
	require.Equal(t, orderCreated{"json"}, outboxtest.RequireEmitted(t, a.DynamoDB, "events", is("json")))

	want := `its content type is "application/x-gob": give the Unmarshal of its codec`
	b := &brokenTest{TB: t}
	outboxtest.RequireEmitted(b, a.DynamoDB, "events", is("gob"))
	require.Contains(t, b.failure, "event event-gob cannot be decoded: "+want)
	b = &brokenTest{TB: t}
	outboxtest.RequireNotEmitted(b, a.DynamoDB, "events", is("other"))
	require.Contains(t, b.failure, want)
	b = &brokenTest{TB: t}
	outboxtest.RequireNotEmitted(b, a.DynamoDB, "events", is("other"), func([]byte, any) error { return bytes.ErrTooLarge })
	require.Contains(t, b.failure, bytes.ErrTooLarge.Error())
}
