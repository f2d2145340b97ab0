package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// Letters of one cause are one line, whatever ids, addresses and numbers their errors have.
func TestDeadLettersAreGroupedByTheirErrors(t *testing.T) {
	w := newWorld(t)
	w.ok(t, "create", "--dead-letters", "dead-letters")
	letters, err := outbox.NewDeadLetterTable(w.dynamodb, "dead-letters", "mails")
	require.NoError(t, err)
	consumer, err := outbox.NewConsumer(outbox.WithLogger(slog.New(slog.DiscardHandler)), outbox.WithDeadLetters(letters))
	require.NoError(t, err)
	fails := func(eventType, format string) {
		outbox.HandleType(consumer, eventType, func(_ context.Context, e outbox.Event[struct{}]) error {
			return outbox.Permanent(fmt.Errorf(format, e.ID))
		})
	}
	fails("ORDER_CREATED", "order %s: 550 mailbox jo@example.org\x1b[2J")
	fails("ORDER_PAID", "order %s: 421 mailbox jo@example.org\x1b[2J")
	fails("ORDER_SENT", "%s is no address")
	for i := range 7 {
		for _, eventType := range []string{"ORDER_CREATED", "ORDER_PAID", "ORDER_SENT"}[:min(3, 1+i%4)] {
			id := fmt.Sprintf("%s-%c", strings.ToLower(eventType[6:]), 'a'+i) // without a digit
			require.NoError(t, consumer.Process(t.Context(), outbox.Record{ID: id, Type: eventType, AggregateID: "of-" + id, Payload: []byte("{}")}))
		}
	}
	require.NoError(t, consumer.Process(t.Context(), outbox.Record{ID: "later", Type: "ORDER_CREATED", AggregateID: "of-created-a", Payload: []byte("{}")}))

	list := []string{"dead", "list", "--consumer", "mails", "--by-error"}
	groups := lines[errorGroup](t, w.ok(t, append(list, "-o", "json")...))
	require.Len(t, groups, 3)
	require.Equal(t, "order *: * mailbox *\x1b[*", groups[0].Error)
	require.Equal(t, []string{"ORDER_CREATED", "ORDER_PAID"}, groups[0].Types)
	require.Contains(t, groups[0].ExampleError, "order created-a: 550 mailbox", "the oldest as it is, for --error of redrive")
	require.Equal(t, "of-created-a#created-a", groups[0].Example)
	require.Equal(t, "* is no address", groups[1].Error)
	require.Equal(t, parkedText, groups[2].Error)
	total := 0
	for _, g := range groups {
		total += g.Letters
		require.False(t, g.Newest.Before(g.Oldest))
	}
	require.Len(t, lines[letterJSON](t, w.ok(t, "dead", "list", "--consumer", "mails", "-o", "json")), total)
	text := w.ok(t, append(list, "--type", "ORDER_SENT")...)
	require.Contains(t, text, "* is no address\n")
	require.Contains(t, text, fmt.Sprintf("%d dead letters in 1 group\n", groups[1].Letters))
	require.NotContains(t, w.ok(t, list...), "\x1b")
	require.Equal(t, exitUsage, w.run(t, append(list, "--payload")...).code)
	require.Equal(t, "0 dead letters in 0 groups\n", w.run(t, "dead", "list", "--consumer", "nobody", "--by-error").out)
}

func TestErrorsThatDifferInIdsSayTheSame(t *testing.T) {
	for text, want := range map[string]string{
		"timeout after 3.5s at 10.0.0.7:443":                  "timeout after * at *",
		"user 8b0f7c4e-2a55-4e5f-9d51-6a3c1a2b3c4d not found": "user * not found",
		"no: 01J1A2B3C4D5E6F7G8H9JKMNPQ, twice":               "no: *, twice",
		"of order-x and agg":                                  "of * and *",
		"mailbox <jo.doe+x@example.org> full":                 "mailbox <*> full",
		"connection refused":                                  "connection refused",
	} {
		require.Equal(t, want, sameError(outbox.DeadLetter{Error: text, Record: outbox.Record{ID: "order-x", AggregateID: "agg"}}))
	}
}

// Who does not know the name asks for the names.
func TestTheConsumersOfATableAreListed(t *testing.T) {
	w := newWorld(t)
	w.ok(t, "create", "--dead-letters", "dead-letters")
	r := w.run(t, "dead", "consumers")
	require.Equal(t, result{exitOK, "", "note: table dead-letters knows no consumer: no event has become a dead letter, or all are gone\n"}, r)
	for consumer, n := range map[string]int{"mails": 2, "invoices\x1b[2J": 1} {
		letters, err := outbox.NewDeadLetterTable(w.dynamodb, "dead-letters", consumer)
		require.NoError(t, err)
		c, err := outbox.NewConsumer(outbox.WithLogger(slog.New(slog.DiscardHandler)), outbox.WithDeadLetters(letters))
		require.NoError(t, err)
		outbox.HandleType(c, "T", func(context.Context, outbox.Event[struct{}]) error { return outbox.Permanent(errors.New("no")) })
		for i := range n {
			require.NoError(t, c.Process(t.Context(), outbox.Record{ID: fmt.Sprint(i), Type: "T", AggregateID: "a", Payload: []byte("{}")}))
		}
	}
	require.Equal(t, []consumerJSON{{"invoices\x1b[2J", 1}, {"mails", 2}}, lines[consumerJSON](t, w.ok(t, "dead", "consumers", "-o", "json")))
	text := w.ok(t, "dead", "consumers")
	require.Contains(t, text, "mails")
	require.NotContains(t, text, "\x1b")
	r = w.run(t, "dead", "list")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.err, "outbox dead consumers --table dead-letters lists those that the table knows")
	w.refuse("Scan")
	r = w.run(t, "dead", "consumers")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.err, "AccessDeniedException")
	require.Equal(t, exitUsage, w.run(t, "dead", "consumers", "--table", "a/b").code)
}
