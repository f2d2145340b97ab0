package replay_test

import (
	"context"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/replay"
)

func TestACopyIsKnownByItsID(t *testing.T) {
	for _, original := range []string{"1", "order-1#created", "a#replay#b", "#replay#", "ü"} {
		id := copyID(original, "run-1")
		got, copied := replay.Original(id)
		require.True(t, copied, id)
		require.Equal(t, original, got)
		for _, derived := range []string{original, id + "-reserved", id + "#reserved", "RESERVED#" + id, "x" + id, id[:len(id)-1], id[1:], original + "#replay#run-1", copyID(id, "run-2")[1:]} {
			got, copied := replay.Original(derived)
			require.False(t, copied, derived)
			require.Equal(t, derived, got)
		}
	}
	for _, id := range []string{"", "#replay#", copyID("", "run")} {
		_, copied := replay.Original(id)
		require.False(t, copied, id)
	}
}

// A handler that gets an original and its copy writes events of its own, with ids derived from theirs. A replay has them all.
func TestWhatIsDerivedFromACopyIsReplayed(t *testing.T) {
	w := newWorld(t)
	copied := copyID("1", "run-1")
	w.put(t, event("1", "a", 0))
	_, err := w.events.Again(t.Context(), replay.Query{ID: "1"}, w.writer, "run-1", replay.Options{})
	require.NoError(t, err)
	want := []string{"1"}
	for i, id := range []string{"1", copied} {
		for j, derived := range []string{"RESERVED#" + id, id + "-reserved", id + "#reserved"} {
			w.put(t, event(derived, "a", 1+10*i+j))
			want = append(want, derived)
		}
	}
	got, err := ids(t, w.events, replay.Query{AggregateID: "a"})
	require.NoError(t, err)
	require.Equal(t, want, got)
	result, err := w.events.Again(t.Context(), replay.Query{AggregateID: "a"}, w.writer, "run-1", replay.Options{})
	require.NoError(t, err)
	require.Equal(t, replay.Result{Found: 8, Done: 7, Copies: 1}, result)
}

// The original expires after the search has found it: a copy is passed on, once.
func TestACopyTakesThePlaceOfAnExpiredOriginal(t *testing.T) {
	w := newWorld(t)
	w.put(t, event("1", "a", 0), event("2", "a", 1))
	for _, run := range []string{"run-1", "run-2"} {
		_, err := w.events.Again(t.Context(), replay.Query{ID: "1"}, w.writer, run, replay.Options{})
		require.NoError(t, err)
	}
	removed := false
	w.client.get = func(*dynamodb.BatchGetItemInput) (*dynamodb.BatchGetItemOutput, error) {
		if !removed {
			removed = true
			w.remove(t, "1")
		}
		return nil, nil
	}
	var s seen
	c := newConsumer(t, func(_ context.Context, e outbox.Event[noted]) error { s.note("a", e.ID); return nil })
	result, err := w.events.To(t.Context(), replay.Query{AggregateID: "a"}, c, replay.Options{})
	require.NoError(t, err)
	require.Equal(t, replay.Result{Found: 4, Done: 2, Gone: 1, Copies: 1}, result)
	require.Equal(t, []string{copyID("1", "run-1"), "2"}, s.order["a"])
}

// A table of others may have finer times than a copy. The original comes first all the same.
func TestAnOriginalComesBeforeItsCopies(t *testing.T) {
	w := newWorld(t)
	w.row(t, item{"eventId": attrS("1"), "type": attrS("NOTED"), "aggregateId": attrS("a"), "timestamp": attrS("2026-01-31T10:00:00.0005Z"), "payload": attrS("{}")})
	_, err := w.events.Again(t.Context(), replay.Query{ID: "1"}, w.writer, "run-1", replay.Options{})
	require.NoError(t, err)
	got, err := ids(t, w.events, replay.Query{AggregateID: "a"})
	require.NoError(t, err)
	require.Equal(t, []string{"1"}, got)
}
