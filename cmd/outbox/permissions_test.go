package main

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/lease"
	"github.com/seed-1b628d3f/outbox/internal/lease/dynamostore"
)

// The table of permissions in docs/cli.md lists what the commands call, with the flags that change that, and nothing else.
func TestThePermissionsOfTheDocs(t *testing.T) {
	w := newWorld(t)
	create := []string{"create", "--retention", "72h", "--pitr", "--index", "aggregate,type", "--inbox", "inbox", "--dead-letters", "dead-letters"}
	w.ok(t, create...)
	w.ok(t, create...) // looks at what is there
	ids := w.put(t, "a", 3)
	require.NoError(t, w.Drain(t.Context()))
	w.ok(t, "tail", "--from", "oldest", "--count", "1")
	w.ok(t, "tail", "--stream", w.tableWithAStream(t, "streamed"), "--from", "oldest", "--for", "700ms")
	w.ok(t, "replay", "--id", ids[0])
	w.ok(t, "replay", "--type", "ORDER_CREATED")
	w.ok(t, "replay", "--from", "100000h")
	w.ok(t, "replay", "--aggregate", "a", "--again", "--run", "r", "--yes")

	letters, err := outbox.NewDeadLetterTable(w.dynamodb, "dead-letters", "mails")
	require.NoError(t, err)
	consumer, err := outbox.NewConsumer(outbox.WithLogger(slog.New(slog.DiscardHandler)), outbox.WithDeadLetters(letters, outbox.WithInvokeAttempts(1)))
	require.NoError(t, err)
	outbox.Handle(consumer, func(context.Context, outbox.Event[orderCreated]) error { return outbox.Permanent(errors.New("no")) })
	large := []byte(`"` + strings.Repeat("x", 390<<10) + `"`) // more than a row
	for _, r := range []outbox.Record{
		{ID: "1", Type: "ORDER_CREATED", AggregateID: "a", Payload: []byte("{}")}, {ID: "2", Type: "ORDER_CREATED", AggregateID: "a", Payload: large},
		{ID: "3", Type: "ORDER_CREATED", Payload: large},
	} {
		require.NoError(t, consumer.Process(t.Context(), r))
	}
	w.run(t, "status", "--group", "nobody", "--dead-letters", "dead-letters") // it asks for what is known, too
	w.run(t, "status", "--group", "nobody", "--consumer", "mails", "--dead-letters", "dead-letters")
	key("KeyState", "Enabled")(t, w)
	w.run(t, "doctor", "--leases", "leases", "--inbox", "inbox", "--dead-letters", "dead-letters", "--function", "mailer")
	w.ok(t, "dead", "consumers")
	w.ok(t, "dead", "list", "--consumer", "mails", "--by-error")
	w.ok(t, "dead", "list", "--consumer", "mails")
	w.ok(t, "dead", "list", "--consumer", "mails", "--aggregate", "a")
	w.ok(t, "dead", "list", "--consumer", "mails", "--id", "a#1")
	w.ok(t, "dead", "show", "--consumer", "mails", "a#2")
	w.ok(t, "dead", "redrive", "--consumer", "mails", "--all", "--dry-run")
	w.run(t, "dead", "redrive", "--consumer", "mails", "--aggregate", "a", "--yes", "--wait", "1ms")
	w.ok(t, "dead", "discard", "--consumer", "mails", "--id", "a#1", "--yes")
	w.ok(t, "dead", "discard", "--consumer", "mails", "--aggregate", "a", "--yes")
	w.ok(t, "dead", "discard", "--consumer", "mails", "--all", "--yes")

	box, err := outbox.NewInbox(w.dynamodb, "inbox", "mails")
	require.NoError(t, err)
	consumer, err = outbox.NewConsumer(outbox.WithLogger(slog.New(slog.DiscardHandler)), outbox.WithDeadLetters(letters), outbox.WithInbox(box))
	require.NoError(t, err)
	outbox.Handle(consumer, func(_ context.Context, e outbox.Event[orderCreated]) error {
		if e.ID == "4" {
			return outbox.Permanent(errors.New("no"))
		}
		return nil
	})
	recent := time.Now().Add(-time.Hour)
	require.NoError(t, consumer.Process(t.Context(), outbox.Record{ID: "4", Type: "ORDER_CREATED", AggregateID: "b", Payload: []byte("{}")}, outbox.Record{ID: "5", Type: "ORDER_CREATED", Table: "events", Payload: []byte("{}")}))
	writer, err := outbox.NewWriter(w.dynamodb, "events")
	require.NoError(t, err)
	require.NoError(t, writer.Transact(t.Context(), nil, outbox.Record{ID: "4", Type: "OTHER", AggregateID: "b", Time: recent, Payload: []byte("{}")}))
	r := w.run(t, "reconcile", "--consumer", "mails")
	require.Contains(t, r.out, "1 undelivered", r)

	o := orderedIn(t, w)
	o.failing[2] = true
	o.deliver(t, o.write(t, 1, 2, 3)...)
	w.ok(t, "dead", "list", "--consumer", "balances", "--inbox", "inbox")
	w.ok(t, "dead", "show", "--consumer", "balances", "--inbox", "inbox", "account-7#2")
	w.ok(t, "order", "show", "--consumer", "balances", "--dead-letters", "dead-letters", "account-7")
	w.run(t, "dead", "discard", "--consumer", "balances", "--inbox", "inbox", "--id", "account-7#account-7%233", "--yes")
	w.ok(t, "dead", "discard", "--consumer", "balances", "--inbox", "inbox", "--all", "--yes")
	w.run(t, "order", "pass", "--consumer", "balances", "account-7", "4", "--yes")
	w.ok(t, "order", "forget", "--consumer", "balances", "account-7", "--yes")

	m := &moving{w, nil}
	m.store, err = dynamostore.New(w.dynamodb, "leases", "mails", "events")
	require.NoError(t, err)
	m.begun(t, lease.Progress{Checkpoint: lease.TrimHorizon})
	first := decode[eventJSON](t, w.ok(t, "tail", "--from", "oldest", "--count", "1")).SequenceNumber
	w.ok(t, "checkpoint", "move", "--group", "mails", "--shard", onlyShard, "--skip", first, "--yes")

	page, err := os.ReadFile(docs)
	require.NoError(t, err)
	_, table, ok := strings.Cut(string(page), "## Permissions")
	require.True(t, ok)
	granted := map[string]map[string]bool{}
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			continue
		}
		for _, command := range regexp.MustCompile("`([a-z ]+)`").FindAllStringSubmatch(cells[1], -1) {
			granted[command[1]] = map[string]bool{}
			for _, action := range regexp.MustCompile("`(?:[a-z]+:)?([A-Z][A-Za-z]+)`").FindAllStringSubmatch(cells[2], -1) {
				granted[command[1]][action[1]] = true
			}
		}
	}
	// AWS calls these with the caller's permissions: for the destination, and for a key of the role.
	onBehalf := []string{"DescribeStream", "PutRecord", "PutRecords", "CreateServiceLinkedRole"}
	for _, action := range onBehalf {
		require.True(t, granted["create"][action])
		delete(granted["create"], action)
	}
	// list and show have one row.
	called := w.calls
	called["dead show"] = maps.Clone(called["dead show"])
	maps.Copy(called["dead show"], called["dead list"])
	called["dead list"] = called["dead show"]
	require.Len(t, called, 15)
	for command, actions := range called {
		require.Equal(t, slices.Sorted(maps.Keys(actions)), slices.Sorted(maps.Keys(granted[command])), "called, and in the docs: %s", command)
	}
}
