package outbox_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/itemsize"
	"github.com/seed-1b628d3f/outbox/internal/recordsize"
)

func TestHeadersComeFromTheContextOncePerWrite(t *testing.T) {
	called := 0
	w := newWriter(t, &recordingClient{},
		outbox.WithHeaders(func(ctx context.Context) map[string]string {
			called++
			return map[string]string{"tenant": fmt.Sprint(ctx.Value(tenantKey{})), "source": "first", "own": "no"}
		}),
		outbox.WithHeaders(func(context.Context) map[string]string { return map[string]string{"source": "second"} }),
		outbox.WithHeaders(func(context.Context) map[string]string { return nil }),
	)
	a, b := event("a"), event("b")
	a.Headers = map[string]string{"own": "yes"}
	items, err := w.Items(context.WithValue(t.Context(), tenantKey{}, "acme"), a, b)
	require.NoError(t, err)
	require.Equal(t, 1, called)
	require.Equal(t, values{"tenant": str("acme"), "source": str("second"), "own": str("yes")}, items[0].Put.Item["headers"].(*types.AttributeValueMemberM).Value)
	require.Equal(t, values{"tenant": str("acme"), "source": str("second"), "own": str("no")}, items[1].Put.Item["headers"].(*types.AttributeValueMemberM).Value)
	require.Equal(t, map[string]string{"own": "yes"}, a.Headers, "the caller's map was changed")

	_, err = outbox.NewWriter(&recordingClient{}, "events", outbox.WithHeaders(nil))
	require.ErrorContains(t, err, "WithHeaders: the function is nil")
}

// Another request of the same customer has another trace; the event is the same all the same. A header of the event itself
// is part of it.
func TestHeadersOfTheContextDoNotMakeAnotherEvent(t *testing.T) {
	w := newWorld(t)
	trace := 0
	writer := newWriter(t, w.DynamoDB, outbox.WithHeaders(func(context.Context) map[string]string {
		trace++
		return map[string]string{"traceparent": strconv.Itoa(trace)}
	}))
	e := event("e")
	e.Headers = map[string]string{"tenant": "acme"}
	for range 3 {
		require.NoError(t, writer.Put(t.Context(), "orders", order{"1"}, e))
	}
	require.NoError(t, w.writer.Put(t.Context(), "orders", order{"1"}, e), "without headers of the context")
	w.requireRows(t, 1, 1)

	e.Headers = map[string]string{"tenant": "other"}
	err := writer.Put(t.Context(), "orders", order{"1"}, e)
	require.ErrorIs(t, err, outbox.ErrEventConflict)
	require.ErrorContains(t, err, "a difference in headers")
}

func TestAnEventConflictNamesBothEvents(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, w.writer.Put(t.Context(), "orders", order{"1"}, event("e")))
	other := outbox.Event[string]{ID: "e", Type: "OTHER", AggregateID: "order-2", Time: time.UnixMilli(1719347890251), Data: "secret"}
	err := w.writer.Put(t.Context(), "orders", order{"1"}, other)
	require.ErrorIs(t, err, outbox.ErrEventConflict)
	require.EqualError(t, err, `outbox: transaction of event "e" not committed: event id is taken by a different event: operation 1 (Put of event "e" in table "events"): `+
		`ConditionalCheckFailed: an event with this id is stored, with a difference in type, aggregateId, payload: `+
		`the stored one has type "ORDER_CREATED" and aggregate "order-1", time 1719347890250; this one has type "OTHER" and aggregate "order-2", time 1719347890251`)
}

func TestTTLIsCountedFromTheWriting(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := &recordingClient{}
		w := newWriter(t, c, outbox.WithTTL(7*24*time.Hour), outbox.WithAttributes(outbox.Attributes{ExpiresAt: "ttl"}))
		time.Sleep(20 * time.Minute)
		e := event("e") // long ago: its time does not matter
		require.NoError(t, w.Put(t.Context(), "orders", order{"1"}, e))
		full := time.Now().Add(7 * 24 * time.Hour).Truncate(time.Hour).Add(time.Hour)
		require.Equal(t, num(strconv.FormatInt(full.Unix(), 10)), c.sent[0].TransactItems[1].Put.Item["ttl"])

		time.Sleep(9 * time.Minute) // a repeat within the token's ten minutes is the same request
		require.NoError(t, w.Put(t.Context(), "orders", order{"1"}, e))
		require.Equal(t, c.sent[0], c.sent[1])
	})
}

func TestShortTTLsAreRefused(t *testing.T) {
	for want, opts := range map[string][]outbox.WriterOption{
		"want more than 0, have 0s":           {outbox.WithTTL(0)},
		"want more than 0, have -1h0m0s":      {outbox.WithTTL(-time.Hour)},
		"want at most 100 years":              {outbox.WithTTL(1<<63 - 1)},
		"WithTTL: 23h0m0s is less than a day": {outbox.WithTTL(23 * time.Hour)},
		"AllowShortTTL overrides this":        {outbox.WithTTL(23 * time.Hour)},
		"WithHeaders needs the attribute Headers": {outbox.WithHeaders(func(context.Context) map[string]string { return nil }),
			outbox.WithAttributes(outbox.Attributes{Headers: outbox.NoAttribute})},
		"WithTTL needs the attribute ExpiresAt":          {outbox.WithTTL(48 * time.Hour), outbox.WithAttributes(outbox.Attributes{ExpiresAt: outbox.NoAttribute})},
		`Payload and ExpiresAt are both named "payload"`: {outbox.WithAttributes(outbox.Attributes{ExpiresAt: "payload"})},
	} {
		_, err := outbox.NewWriter(&recordingClient{}, "events", opts...)
		require.ErrorContains(t, err, want)
	}
	for _, opts := range [][]outbox.WriterOption{
		{outbox.WithTTL(24 * time.Hour)},
		{outbox.WithTTL(time.Minute), outbox.AllowShortTTL()},
		{outbox.AllowShortTTL(), outbox.WithTTL(time.Minute)},
		{outbox.WithAttributes(outbox.Attributes{ExpiresAt: outbox.NoAttribute})},
	} {
		_, err := outbox.NewWriter(&recordingClient{}, "events", opts...)
		require.NoError(t, err)
	}
}

// A row that DynamoDB has deleted is no protection any more, and says so: the documented end of idempotency.
func TestARepeatAfterTheTimeToLiveIsWrittenAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorldWith(t)
		defer w.Close()
		w.enableTTL(t)
		writer := newWriter(t, w.DynamoDB, outbox.WithTTL(24*time.Hour))
		require.NoError(t, writer.Put(t.Context(), "orders", order{"1"}, event("e")))
		time.Sleep(23 * time.Hour)
		w.ExpireTTL()
		require.NoError(t, writer.Put(t.Context(), "orders", order{"1"}, event("e")))
		require.Len(t, w.records(t), 1)
		time.Sleep(3 * time.Hour)
		w.ExpireTTL()
		w.requireRows(t, 1, 0)
		require.NoError(t, writer.Put(t.Context(), "orders", order{"1"}, event("e")))
		require.Len(t, w.records(t), 2, "its removal, and the event again; the first has left the stream")
	})
}

func TestRecordsThatTheStreamWouldSkipAreRefused(t *testing.T) {
	control := func(n int) outbox.Event[int] { // a control character takes six bytes in JSON, and one in the row
		return outbox.Event[int]{ID: "e", Type: "T", Time: time.UnixMilli(clockStart), Headers: map[string]string{"h": strings.Repeat("\x01", n)}}
	}
	c := &recordingClient{}
	err := newWriter(t, c).Put(t.Context(), "orders", order{"1"}, control(180_000))
	require.ErrorIs(t, err, outbox.ErrTooLarge)
	require.ErrorContains(t, err, `operation 1 (Put of event "e" in table "events"): the item has 180050 bytes: DynamoDB takes at most 409600; its change record will have 1080533 bytes with the partition key: the stream takes at most 1048576 (WithMaxRecordBytes)`)
	require.Empty(t, c.sent)
	require.NoError(t, newWriter(t, c, outbox.WithMaxRecordBytes(10<<20)).Put(t.Context(), "orders", order{"1"}, control(180_000)))
	require.NoError(t, newWriter(t, c).Put(t.Context(), "orders", order{"1"}, control(170_000)))
	require.ErrorIs(t, newWriter(t, c, outbox.WithMaxRecordBytes(2000)).Put(t.Context(), "orders", order{"1"}, control(300)), outbox.ErrTooLarge)

	err = newWriter(t, c).Put(t.Context(), "orders", order{"1"}, outbox.Event[string]{ID: "e", Type: "T", Time: time.UnixMilli(clockStart), Data: strings.Repeat("x", 400<<10)})
	require.ErrorIs(t, err, outbox.ErrTooLarge)
	require.ErrorContains(t, err, "the item has 409639 bytes")
	require.ErrorContains(t, err, "its change record will have 410")

	for _, n := range []int{-1, 0, 1023, 10<<20 + 1} {
		_, err := outbox.NewWriter(&recordingClient{}, "events", outbox.WithMaxRecordBytes(n))
		require.ErrorContains(t, err, "WithMaxRecordBytes: want 1024 to 10485760")
	}
}

// At the limit to the byte: what the Writer lets through comes out of the stream, one byte more would not.
func TestTheLimitIsTheStreams(t *testing.T) {
	w := newWorld(t)
	large := func(id string, n int) outbox.Event[int] {
		return outbox.Event[int]{ID: id, Type: "T", Time: time.UnixMilli(clockStart),
			Headers: map[string]string{"h": strings.Repeat("\x01", 174_000), "i": strings.Repeat("x", n)}}
	}
	write := func(id string, n int, opts ...outbox.WriterOption) error {
		return newWriter(t, w.DynamoDB, opts...).Put(t.Context(), "orders", order{"1"}, large(id, n))
	}
	fits := 0
	for step := 1 << 14; step > 0; step /= 2 { // the most that the Writer takes
		if _, err := newWriter(t, w.DynamoDB).Items(t.Context(), large("e", fits+step)); err == nil {
			fits += step
		}
	}
	require.NoError(t, write("e", fits))
	require.ErrorIs(t, write("f", fits+1), outbox.ErrTooLarge)
	require.NoError(t, w.Drain(t.Context()))
	lost, _ := w.FailedToReplicate("events")
	require.Zero(t, lost)
	require.NoError(t, write("f", fits+1, outbox.WithMaxRecordBytes(2<<20)))
	require.NoError(t, w.Drain(t.Context()))
	lost, err := w.FailedToReplicate("events")
	require.Equal(t, 1, lost, "the guard refuses what would have come out")
	require.Error(t, err)
}

// Random events, through the whole way: the sizes that the Writer computes are those of the row and of the record that comes
// out of the stream.
func TestComputedSizesAreTheRealOnes(t *testing.T) {
	w := newWorld(t)
	alphabet := []rune("ab\"\\\n\t\r\b\f\x00\x01\x1f\x7f</&é漢😀\u2028")
	computed := map[string][2]int{}
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 1))
		text := func(longest int) string {
			var b strings.Builder
			for range r.IntN(longest + 1) {
				b.WriteRune(alphabet[r.IntN(len(alphabet))])
			}
			return b.String()
		}
		e := outbox.Event[any]{ID: strconv.FormatUint(seed, 10) + text(20), Type: "T" + text(10), AggregateID: text(10), Time: time.UnixMilli(r.Int64N(1 << 45)),
			Data: map[string]any{text(5): text(300), "n": r.NormFloat64(), "l": []int{r.Int()}}}
		if r.IntN(2) == 0 {
			e.Sequence = r.Int64() >> r.IntN(63)
		}
		for range r.IntN(4) {
			if e.Headers == nil {
				e.Headers = map[string]string{}
			}
			e.Headers[text(10)] = text(40)
		}
		items, err := newWriter(t, w.DynamoDB).Items(t.Context(), e)
		require.NoError(t, err)
		item := items[0].Put.Item
		size, err := itemsize.Of(item)
		require.NoError(t, err)
		key := len("eventId") + len(e.ID)
		computed[e.ID] = [2]int{size + key, recordsize.Of(recordsize.Insert{Region: "us-east-1", Table: "events", Item: item, Key: "eventId", Bytes: size + key})}
		require.NoErrorf(t, w.writer.Transact(t.Context(), nil, e), "seed %d", seed)
	}
	records := w.records(t)
	require.Len(t, records, len(computed))
	for _, data := range records {
		r, err := outbox.DecodeRecord(data)
		require.NoError(t, err)
		want := computed[r.ID]
		require.Containsf(t, string(data), fmt.Sprintf(`"SizeBytes":%d,`, want[0]), "DynamoDB's size of %q", data)
		require.Equalf(t, want[1], len(data), "the record %q", data)
	}
}

func TestHooks(t *testing.T) {
	w := newWorld(t)
	var written, failed []outbox.WriteInfo
	var failure error
	writer := newWriter(t, w.DynamoDB, outbox.WithHeaders(func(context.Context) map[string]string { return map[string]string{"a": "b"} }),
		outbox.WithWriterHooks(outbox.WriterHooks{
			Written: func(_ context.Context, i outbox.WriteInfo) { written = append(written, i) },
			Failed:  func(_ context.Context, i outbox.WriteInfo, err error) { failed, failure = append(failed, i), err },
		}))
	put := func() error { return writer.Transact(t.Context(), []types.TransactWriteItem{putNew("1")}, event("e")) }

	require.NoError(t, put())
	require.Len(t, written, 1)
	require.Len(t, written[0].Events, 1)
	e := written[0].Events[0]
	require.Equal(t, []any{"e", "ORDER_CREATED", "order-1", "events", map[string]string{"a": "b"}, `{"orderId":"order-1","description":"x"}`},
		[]any{e.ID, e.Type, e.AggregateID, e.Table, e.Headers, string(e.Payload)})
	e.Headers["a"] = "changed by the hook"
	require.Equal(t, 1, written[0].Attempts)
	require.False(t, written[0].Duplicate)
	require.Len(t, written[0].Capacity, 2)
	for _, c := range written[0].Capacity {
		require.InDeltaf(t, 2, aws.ToFloat64(c.CapacityUnits), 0, "table %s", *c.TableName)
	}

	require.NoError(t, put(), "found out by the token")
	require.True(t, written[1].Duplicate)
	require.NotEmpty(t, written[1].Capacity)
	w.advance(time.Hour)
	require.NoError(t, put(), "found out by the stored event")
	require.True(t, written[2].Duplicate)
	require.Empty(t, written[2].Capacity)
	require.Empty(t, failed)

	err := writer.Transact(t.Context(), []types.TransactWriteItem{putNew("1")}, event("f"))
	require.ErrorIs(t, err, outbox.ErrConditionFailed)
	require.Equal(t, err, failure)
	require.Equal(t, "f", failed[0].Events[0].ID)
	require.Equal(t, 1, failed[0].Attempts)

	for _, refused := range []func() error{
		func() error { return writer.Put(t.Context(), "orders", 5, event("g")) },
		func() error { return writer.Put(t.Context(), "orders", order{"1"}) },
		func() error { return writer.Put(t.Context(), "orders", order{"1"}, event("")) },
	} {
		refused := refused()
		require.Error(t, refused)
		require.Equal(t, refused, failure)
		require.Zero(t, failed[len(failed)-1].Attempts)
	}
	require.Len(t, failed, 4)
	require.Len(t, written, 3)
}

// Asking for the capacity is another parameter of the request: a deployment that adds a hook must not meet its own token.
func TestHooksChangeTheToken(t *testing.T) {
	with, without := &recordingClient{}, &recordingClient{}
	require.NoError(t, newWriter(t, with, outbox.WithWriterHooks(outbox.WriterHooks{Written: func(context.Context, outbox.WriteInfo) {}})).
		Put(t.Context(), "orders", order{"1"}, event("e")))
	require.NoError(t, newWriter(t, without).Put(t.Context(), "orders", order{"1"}, event("e")))
	require.Equal(t, types.ReturnConsumedCapacityTotal, with.sent[0].ReturnConsumedCapacity)
	require.Empty(t, without.sent[0].ReturnConsumedCapacity)
	require.NotEqual(t, with.sent[0].ClientRequestToken, without.sent[0].ClientRequestToken)
}

// enableTTL switches time to live on for the events.
func (w *world) enableTTL(t *testing.T) {
	_, err := w.DynamoDB.UpdateTimeToLive(t.Context(), &dynamodb.UpdateTimeToLiveInput{TableName: aws.String("events"),
		TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: aws.String("expiresAt"), Enabled: aws.Bool(true)}})
	require.NoError(t, err)
}
