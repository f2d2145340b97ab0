package replay_test

import (
	"context"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/replay"
)

// Again writes on goroutines of its own. What panics there, of the Writer's hooks and headers, is an error of Again, and what was not written
// is not counted as done.
func TestAWriterThatPanicsFailsTheReplay(t *testing.T) {
	for name, end := range map[string]func(){"panics": func() { panic("on fire") }, "ends its goroutine": runtime.Goexit} {
		w := newWorld(t)
		w.many(t, 3, "a", "b")
		writer, err := outbox.NewWriter(w.DynamoDB, "events", outbox.WithHeaders(func(context.Context) map[string]string {
			end()
			return nil
		}))
		require.NoError(t, err)
		result, err := w.events.Again(t.Context(), replay.Query{Type: "NOTED"}, writer, "run", replay.Options{})
		var panicked *outbox.PanicError
		require.ErrorAs(t, err, &panicked, name)
		require.Zero(t, result.Done, name)
		require.NotZero(t, result.Next, name)
	}
}
