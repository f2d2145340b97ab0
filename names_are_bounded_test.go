package outbox_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// heap returns how many bytes are in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestRememberedNamesAreBounded: the names in others' events may be long. What a process remembers of them, and says of them, is not.
func TestRememberedNamesAreBounded(t *testing.T) {
	const events, long = 300, 100_000 // 30 MB
	pad := strings.Repeat("x", long)
	t.Run("types without a handler", func(t *testing.T) {
		var log bytes.Buffer
		c := newConsumer(t, outbox.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		before := heap()
		for i := range events {
			for range 2 {
				require.NoError(t, c.Process(t.Context(), outbox.Record{ID: "1", Type: fmt.Sprint(i, pad)}))
			}
		}
		require.Equal(t, events, strings.Count(log.String(), "skipping events of a type without a handler"))
		require.Less(t, log.Len(), events*1000)
		require.Less(t, heap()-before, int64(events*long/10))
		runtime.KeepAlive(c)
	})
	t.Run("events in the inbox's memory", func(t *testing.T) {
		w := newInboxWorld(t)
		p := &process{}
		i := w.inbox(t, w.client(p, true))
		c := newConsumer(t, outbox.WithInbox(i))
		runs := 0
		outbox.HandleType(c, "T", func(context.Context, outbox.Event[struct{}]) error { runs++; return nil })
		before := len(p.calls())
		for _, size := range []int{1022, 1023} { // with the id and the type: 1,024 and 1,025
			for range 2 {
				require.NoError(t, c.Process(t.Context(), rec(fmt.Sprint(size%10), strings.Repeat("x", size))))
			}
		}
		require.Equal(t, 2, runs)
		require.Equal(t, 2+3, len(p.calls())-before, "claim and mark; with the long one, the duplicate's claim as well")
	})
}
