package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// An event whose copy would be too large ends no run in the middle: it is found first, left out on request, and every repeat gets past it.
func TestReplayGetsPastWhatCannotBeCopied(t *testing.T) {
	w := newWorld(t)
	w.CreateOutbox(t, "events", "events", 1)
	w.put(t, "a", 3)
	writer, err := outbox.NewWriter(w.dynamodb, "events")
	require.NoError(t, err)
	long := strings.Repeat("x", 2040)
	require.NoError(t, writer.Transact(t.Context(), nil, outbox.Record{ID: long, Type: "ORDER_CREATED", Time: epoch, Payload: []byte("{}")}))

	again := []string{"replay", "--type", "ORDER_CREATED", "--again", "--run", "run"}
	for _, format := range []string{"text", "json"} {
		r := w.run(t, append(again, "--yes", "-o", format)...)
		require.Equal(t, exitFailed, r.code)
		require.Contains(t, r.err, "outbox: cannot be copied: ")
		require.True(t, strings.HasSuffix(r.err, "outbox: 1 event cannot be copied, and nothing was written: --skip-uncopyable leaves them out\n"), r.err)
		if format == "json" {
			require.Equal(t, replayed{Found: 4, Uncopyable: 1, failure: failure{"1 event cannot be copied, and nothing was written: --skip-uncopyable leaves them out"}}, decode[replayed](t, r.out))
		}
		require.Equal(t, 4, w.events(t), "nothing is written, though the event is not the first")
	}
	s := newScreen(t)
	require.Equal(t, exitFailed, <-s.run(t, w, again...), "and the question does not come")
	s.shown.await(t, "1 event cannot be copied")
	require.Equal(t, exitUnconfirmed, w.run(t, append(again, "--skip-uncopyable")...).code)
	r := w.run(t, append(again, "--dry-run")...)
	require.Equal(t, exitOK, r.code)
	require.Equal(t, "4 events found, 1 of them cannot be copied\n", r.out)
	require.Equal(t, replayed{DryRun: true, Found: 4, Uncopyable: 1}, decode[replayed](t, w.run(t, append(again, "--dry-run", "-o", "json")...).out))

	again = append(again, "--yes", "--skip-uncopyable")
	r = w.run(t, again...)
	require.Equal(t, exitOK, r.code)
	require.Equal(t, "4 events found, 3 written again, 0 written before by this run, 1 left out as uncopyable\n", r.out)
	require.Contains(t, r.err, "outbox: left out: ")
	require.Equal(t, replayed{Found: 7, Repeated: 3, Copies: 3, Uncopyable: 1}, decode[replayed](t, w.run(t, append(again, "-o", "json")...).out))
	require.Equal(t, exitUsage, w.run(t, "replay", "--id", "1", "--skip-uncopyable").code)
}

// What ends the search is told, though an event before it cannot be copied.
func TestAReplayThatCannotReadSaysSo(t *testing.T) {
	w := newWorld(t)
	w.CreateOutbox(t, "events", "events", 1)
	w.put(t, "a", 100)
	writer, err := outbox.NewWriter(w.dynamodb, "events")
	require.NoError(t, err)
	long := strings.Repeat("x", 2040)
	require.NoError(t, writer.Transact(t.Context(), nil, outbox.Record{ID: long, Type: "ORDER_CREATED", Time: epoch.Add(-time.Second), Payload: []byte("{}")}))
	require.NoError(t, w.SetFaults(outboxtest.Fault{Kind: outboxtest.ServerError, Operation: "BatchGetItem", Calls: []int{2, 3, 4, 5}}))
	r := w.run(t, "replay", "--type", "ORDER_CREATED", "--again", "--run", "run", "--yes", "-o", "json")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.err, "outbox: cannot be copied: ")
	require.Contains(t, decode[replayed](t, r.out).Error, "InternalServerError")
	require.NotContains(t, r.out, "cannot be copied")
	require.Equal(t, 101, w.events(t))
}
