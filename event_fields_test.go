package outbox_test

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// whereFrom are the fields of a Record that are not written: they say where it was delivered from.
var whereFrom = map[string]bool{"Table": true, "ChangedAt": true, "StreamARN": true, "ShardID": true, "SequenceNumber": true, "Fence": true}

// fill sets each field of the struct that p points to, but not Data.
func fill(t *testing.T, p any) {
	v := reflect.ValueOf(p).Elem()
	for i := range v.NumField() {
		name, field := v.Type().Field(i).Name, v.Field(i)
		switch field.Interface().(type) {
		case string:
			field.SetString("the " + name)
		case int64:
			field.SetInt(7)
		case time.Time:
			field.Set(reflect.ValueOf(time.UnixMilli(clockStart).UTC()))
		case map[string]string:
			field.Set(reflect.ValueOf(map[string]string{"name": name}))
		case []byte:
			field.SetBytes([]byte{1, 2})
		default:
			require.Equalf(t, "Data", name, "fill knows no value of type %s", field.Type())
		}
	}
}

// fieldsOf returns the fields of a struct by name.
func fieldsOf(v any) map[string]any {
	fields := map[string]any{}
	for i := range reflect.TypeOf(v).NumField() {
		fields[reflect.TypeOf(v).Field(i).Name] = reflect.ValueOf(v).Field(i).Interface()
	}
	return fields
}

// requireFields compares the fields that are written.
func requireFields(t *testing.T, want, have any) {
	t.Helper()
	fields := fieldsOf(have)
	for name, value := range fieldsOf(want) {
		if name != "Data" && !whereFrom[name] {
			require.Equalf(t, value, fields[name], "field %s", name)
		}
	}
}

// A field that is added to an event must be added in each of the places that CONTRIBUTING lists: what is written is read from the table and
// from the stream, reaches the handler, and is kept with a dead letter.
func TestNoFieldOfAnEventIsLost(t *testing.T) {
	w := newWorld(t)
	var event outbox.Event[orderCreated]
	var record outbox.Record
	fill(t, &event)
	fill(t, &record)
	event.ID, event.Data = "event", orderCreated{"1", "x"}
	require.NoError(t, w.writer.Put(t.Context(), "orders", order{"1"}, event))
	require.NoError(t, w.writer.Put(t.Context(), "orders", order{"1"}, record))

	read := func(id string) outbox.Record {
		r, err := outbox.DecodeItem(w.row(t, "events", "eventId", id))
		require.NoError(t, err)
		return r
	}
	requireFields(t, event, read("event"))
	requireFields(t, record, read(record.ID))

	letters, err := outbox.NewDeadLetterTable(w.DynamoDB, "letters", "c")
	require.NoError(t, err)
	require.NoError(t, letters.Create(t.Context()))
	var mu sync.Mutex
	delivered := map[string]outbox.Record{}
	var handled []outbox.Event[orderCreated]
	c := newConsumer(t, outbox.WithDeadLetters(letters), outbox.WithMiddleware(func(next outbox.Handler) outbox.Handler {
		return func(ctx context.Context, r outbox.Record) error {
			mu.Lock()
			defer mu.Unlock()
			delivered[r.ID] = r
			if r.ID == record.ID {
				return outbox.Permanent(errors.New("refused"))
			}
			return next(ctx, r)
		}
	}))
	outbox.HandleType(c, event.Type, func(_ context.Context, e outbox.Event[orderCreated]) error {
		handled = append(handled, e)
		return nil
	})
	_, err = w.Map(outboxtest.EventSource{Stream: "events", ReportBatchItemFailures: true}, c.Invoke)
	require.NoError(t, err)
	require.NoError(t, w.Drain(t.Context()))

	require.Equal(t, []outbox.Event[orderCreated]{event}, handled)
	requireFields(t, event, delivered["event"])
	requireFields(t, record, delivered[record.ID])
	for name := range whereFrom {
		if name != "Fence" { // only a Worker has one
			require.NotZerof(t, fieldsOf(delivered["event"])[name], "field %s", name)
		}
	}

	kept := 0
	for l, err := range letters.List(t.Context(), outbox.DeadLetterFilter{}) {
		require.NoError(t, err)
		require.Equal(t, delivered[record.ID], l.Record)
		kept++
	}
	require.Equal(t, 1, kept)
}

// Two events with one id that differ in a field are two events, whichever field it is. Only the time may differ.
func TestEveryFieldMakesAnotherEvent(t *testing.T) {
	w := newWorld(t)
	var first outbox.Event[orderCreated]
	fill(t, &first)
	require.NoError(t, w.writer.Put(t.Context(), "orders", order{"1"}, first))
	w.advance(time.Hour) // after the token
	require.NoError(t, w.writer.Put(t.Context(), "orders", order{"1"}, first))
	for name := range fieldsOf(first) {
		if name == "ID" {
			continue
		}
		other := first
		switch field := reflect.ValueOf(&other).Elem().FieldByName(name); field.Interface().(type) {
		case string:
			field.SetString("another")
		case int64:
			field.SetInt(8)
		case map[string]string:
			field.Set(reflect.ValueOf(map[string]string{"name": "another"}))
		case orderCreated:
			other.Data.OrderID = "another"
		default:
			require.Equalf(t, "Time", name, "no other value of type %s is known here", field.Type())
			continue
		}
		require.ErrorIsf(t, w.writer.Put(t.Context(), "orders", order{"1"}, other), outbox.ErrEventConflict, "field %s", name)
	}
}

// An event with a field that the table has no attribute for is refused, and not written without the field.
func TestAFieldWithoutItsAttributeIsRefused(t *testing.T) {
	var event outbox.Event[orderCreated]
	fill(t, &event)
	for name := range fieldsOf(outbox.Attributes{}) {
		if _, isField := fieldsOf(event)[name]; !isField || name == "ID" || name == "Type" || name == "Time" { // without these there is no Writer
			continue
		}
		var names outbox.Attributes
		reflect.ValueOf(&names).Elem().FieldByName(name).SetString(outbox.NoAttribute)
		w := newWriter(t, &recordingClient{}, outbox.WithAttributes(names))
		require.ErrorIsf(t, w.Put(t.Context(), "orders", order{"1"}, event), outbox.ErrInvalidEvent, "field %s", name)
	}
}
