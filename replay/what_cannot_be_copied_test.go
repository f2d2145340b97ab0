package replay_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/replay"
)

// uncopyable puts five events, of which the second has an id that is too long for a copy and the fourth a row that is too large.
func uncopyable(t *testing.T, w *world) (long, large string) {
	long, large = strings.Repeat("x", 2040), "large"
	big := event(large, "a", 4)
	// As large as a row can be: the id of a copy makes it larger.
	big.Payload = []byte(`"` + strings.Repeat("p", 400<<10-2-len("eventId"+large+"typeNOTED"+"timestamp"+"aggregateIda"+"payload")-8) + `"`)
	w.put(t, event("1", "a", 1), event(long, "a", 2), event("3", "a", 3), big, event("5", "a", 5))
	return long, large
}

// What cannot be copied is found before the first write, and every repeat gets past it on request.
func TestARunGetsPastWhatCannotBeCopied(t *testing.T) {
	w := newWorld(t)
	long, large := uncopyable(t, w)
	query := replay.Query{AggregateID: "a"}
	for name, o := range map[string]replay.Options{"nobody is asked": {}, "dry run": {DryRun: true}, "no": {Uncopyable: func(r outbox.Record, _ error) bool { return r.ID == long }}} {
		t.Run(name, func(t *testing.T) {
			result, err := w.events.Again(t.Context(), query, w.writer, "run", o)
			require.ErrorIs(t, err, outbox.ErrInvalidEvent)
			require.ErrorContains(t, err, "2 of 5 events cannot be copied, and nothing was written")
			require.Equal(t, replay.Result{Found: 5, Next: query}, result)
			require.Len(t, w.all(t), 5)
		})
	}

	var told []string
	o := replay.Options{Uncopyable: func(r outbox.Record, err error) bool {
		require.Error(t, err)
		told = append(told, r.ID)
		return true
	}}
	dry := o
	dry.DryRun = true
	result, err := w.events.Again(t.Context(), query, w.writer, "run", dry)
	require.NoError(t, err)
	require.Equal(t, replay.Result{Found: 5, Uncopyable: 2}, result)
	for _, want := range []replay.Result{{Found: 5, Done: 3, Uncopyable: 2}, {Found: 8, Done: 3, Copies: 3, Uncopyable: 2}} {
		told = nil
		result, err := w.events.Again(t.Context(), query, w.writer, "run", o)
		require.NoError(t, err)
		require.Equal(t, want, result)
		require.Equal(t, []string{long, large}, told)
	}
	for _, id := range []string{"1", "3", "5"} {
		require.Contains(t, w.all(t), copyID(id, "run"))
	}
}

// A copy of what cannot be copied under a longer name has the same original, and is left out as a copy.
func TestCopiesOfWhatCannotBeCopiedAreLeftOut(t *testing.T) {
	w := newWorld(t)
	id := strings.Repeat("x", 2048-len("#replay#r#00000000"))
	w.put(t, event(id, "a", 1))
	all := replay.Options{Uncopyable: func(outbox.Record, error) bool { return true }}
	result, err := w.events.Again(t.Context(), replay.Query{AggregateID: "a"}, w.writer, "r", all)
	require.NoError(t, err)
	require.Equal(t, replay.Result{Found: 1, Done: 1}, result)
	result, err = w.events.Again(t.Context(), replay.Query{AggregateID: "a"}, w.writer, "longer", all)
	require.NoError(t, err)
	require.Equal(t, replay.Result{Found: 2, Uncopyable: 1, Copies: 1}, result)
}
