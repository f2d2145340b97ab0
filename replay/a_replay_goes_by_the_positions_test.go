package replay_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/replay"
)

// A replay into a Consumer with WithOrder: what is at or below the position is a duplicate and counts as done, what is above it is handled, and
// what is older than the Consumer wants is done as well.
func TestAReplayGoesByThePositions(t *testing.T) {
	w := newWorld(t)
	start := time.Now().Add(-time.Hour).Truncate(time.Second)
	var events []outbox.Record
	for n := range int64(6) {
		r := outbox.Record{ID: outbox.SequencedID("account-1", n+1), Type: "T", AggregateID: "account-1", Sequence: n + 1,
			Time: start.Add(time.Duration(n) * time.Minute), Payload: []byte(`{}`)}
		w.put(t, r)
		r.Table = "events"
		events = append(events, r)
	}
	var ran []int64
	consumer := func(name string, from time.Time) *outbox.Consumer {
		inbox, err := outbox.NewInbox(w.DynamoDB, "inbox", name)
		require.NoError(t, err)
		require.NoError(t, inbox.Create(t.Context()))
		c, err := outbox.NewConsumer(outbox.WithInbox(inbox), outbox.WithOrder(w.DynamoDB, "events", from), outbox.WithLogger(slog.New(slog.DiscardHandler)))
		require.NoError(t, err)
		outbox.HandleTxType(c, w.writer, "T", func(_ context.Context, e outbox.Event[struct{}]) (outbox.Effects, error) {
			ran = append(ran, e.Sequence)
			return outbox.Effects{}, nil
		})
		return c
	}
	to := func(c *outbox.Consumer, q replay.Query) replay.Result {
		ran = nil
		result, err := w.events.To(t.Context(), q, c, replay.Options{})
		require.NoError(t, err)
		return result
	}
	c := consumer("first", time.Time{})
	require.NoError(t, c.Process(t.Context(), events[:2]...))
	require.Equal(t, replay.Result{Found: 2, Done: 2}, to(c, replay.Query{Type: "T", From: events[3].Time, To: events[5].Time}))
	require.Equal(t, []int64{3, 4, 5}, ran, "3 is not in the query")
	require.Equal(t, replay.Result{Found: 6, Done: 6}, to(c, replay.Query{Type: "T"}))
	require.Equal(t, []int64{6}, ran)
	for _, again := range []*outbox.Consumer{c, consumer("first", time.Time{})} { // also in another process
		require.Equal(t, replay.Result{Found: 6, Done: 6}, to(again, replay.Query{Type: "T"}))
		require.Empty(t, ran)
	}
	require.Equal(t, replay.Result{Found: 6, Done: 6}, to(consumer("second", events[2].Time), replay.Query{Type: "T"}))
	require.Equal(t, []int64{3, 4, 5, 6}, ran, "another name begins anew, at its time")

	_, err := w.events.Again(t.Context(), replay.Query{ID: events[0].ID}, w.writer, "run", replay.Options{})
	require.NoError(t, err)
	for id, r := range w.all(t) {
		if _, copied := replay.Original(id); copied {
			ran, r.Table = nil, "events"
			require.NoError(t, c.Process(t.Context(), r, r))
			require.Equal(t, []int64{1}, ran, "a copy has no place in the order, and a mark of its own")
		}
	}
}
