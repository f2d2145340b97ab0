package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/replay"
)

// sessions are the pages that show one.
var sessions = []string{docs, "../../docs/dead-letters.md", "../../docs/operating.md"}

// session is what happens between the commands of the docs.
type session struct {
	*world
	down bool // the mail server, for order-2
	stop func()

	balances *ordered // the consumer of account-7
}

// The sessions in the docs print today what it says there, numbers, times and notes aside; UPDATE_DOCS=1 writes them anew.
func TestTheSessionOfTheDocs(t *testing.T) {
	for _, page := range sessions {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		n := strings.Count(string(text), "```console\n")
		require.Positive(t, n)
		for i := range n {
			t.Run(fmt.Sprintf("%s %d", filepath.Base(page), i+1), func(t *testing.T) { theSessionOf(t, page, i) })
		}
	}
}

// theSessionOf runs a session of a page, in a world of its own.
func theSessionOf(t *testing.T, docs string, n int) {
	page, err := os.ReadFile(docs)
	require.NoError(t, err)
	parts := strings.SplitAfter(string(page), "```console\n")
	recorded, _, ok := strings.Cut(parts[n+1], "```\n")
	require.True(t, ok)

	s := &session{world: newWorld(t), stop: func() {}}
	var got strings.Builder
	commands := 0
	for line := range strings.Lines(recorded) {
		switch {
		case strings.HasPrefix(line, "# "):
			s.happens(t, strings.TrimSpace(line[2:]))
		case strings.HasPrefix(line, "$ outbox "):
			commands++
		default:
			continue
		}
		got.WriteString(line)
		if args, isCommand := strings.CutPrefix(line, "$ outbox "); isCommand {
			r := s.run(t, strings.Fields(args)...)
			got.WriteString(r.out + withoutNotes(r.err))
			if r.code != 0 {
				fmt.Fprintf(&got, "(exit code %d)\n", r.code)
			}
		}
	}
	s.stop()
	require.Greater(t, commands, 2)
	text := regexp.MustCompile(`http://127\.0\.0\.1:\d+`).ReplaceAllString(got.String(), "http://127.0.0.1:4566")
	text = regexp.MustCompile(`\S+(-[A-Z2-7]{26})`).ReplaceAllString(text, "vm$1") // a worker is named after its machine
	if os.Getenv("UPDATE_DOCS") != "" {
		parts[n+1] = text + strings.TrimPrefix(parts[n+1], recorded)
		require.NoError(t, os.WriteFile(docs, []byte(strings.Join(parts, "")), 0o644))
		recorded = text
	}
	require.Equal(t, shape(recorded), shape(text), "run it with UPDATE_DOCS=1, and look at the difference")
}

// shape is what a text has besides numbers, names and releases of workers, and the width of columns.
func shape(text string) string {
	for _, step := range [][2]string{{`-[A-Z2-7]{26}`, "-0"}, {`\(devel\)|unknown`, "0"}, {`[0-9a-f]{8,}`, "0"}, {`[0-9][0-9:.,TZ-]*`, "0"}, {`0(ms|m|h|s)(0(ms|m|h|s))*`, "0s"}, {`[ \t]+`, " "}, {` \n`, "\n"}} {
		text = regexp.MustCompile(step[0]).ReplaceAllString(text, step[1])
	}
	return text
}

// happens does what a comment of the session says.
func (s *session) happens(t *testing.T, what string) {
	s.stop()
	s.stop = func() {}
	switch what {
	case "the service writes events of two orders":
		s.put(t, "order-1", 3)
		s.put(t, "order-2", 2)
		require.NoError(t, s.Drain(t.Context()))
	case "a worker reads them, while the mail server is down for order-2":
		s.down = true
		s.worker(t)
		for deadline := time.Now().Add(20 * time.Second); strings.Count(s.ok(t, "dead", "list", "--consumer", "confirmations", "-o", "json"), "\n") < 2; time.Sleep(20 * time.Millisecond) {
			require.True(t, time.Now().Before(deadline))
		}
		// So that the checkpoint is stored.
		for deadline := time.Now().Add(20 * time.Second); !strings.Contains(s.run(t, "status", "--group", "confirmations").out, "; nothing is waiting"); {
			require.True(t, time.Now().Before(deadline))
		}
	case "a worker has read events of two orders, while the mail server was down for order-2":
		s.ok(t, "create", "--dead-letters", "dead-letters")
		s.happens(t, "the service writes events of two orders")
		s.happens(t, "a worker reads them, while the mail server is down for order-2")
		s.stop()
		s.stop = func() {}
	case "the mail server is back, and a worker runs":
		s.down = false
		s.worker(t)
	case "a consumer with WithOrder was given the events 1, 3 and 4 of account-7; nobody has written 2":
		s.ok(t, "create", "--dead-letters", "dead-letters", "--inbox", "inbox")
		s.balances = orderedIn(t, s.world)
		s.balances.deliver(t, s.balances.write(t, 1, 3, 4)...)
	case "it is given 5, which its handler refuses, and 6":
		s.balances.failing[5] = true
		s.balances.deliver(t, s.balances.write(t, 5, 6)...)
	case "confirmations has handled what the stream brought; the destination was disabled while the service wrote order-2":
		m := mailedIn(t, s.world)
		m.handled(t, orderNumbered("order-1", 1, 60), orderNumbered("order-1", 2, 50), orderNumbered("poison", 1, 40), orderNumbered("order-3", 1, 20))
		m.written(t, orderNumbered("order-2", 1, 46), orderNumbered("order-2", 2, 44), orderNumbered("order-3", 2, 1))
	case "the function that calls Reconcile has run":
		m := mailedIn(t, s.world)
		events, err := replay.New(s.dynamodb, "events")
		require.NoError(t, err)
		_, err = events.Reconcile(t.Context(), m.consumer, replay.ReconcileOptions{})
		require.NoError(t, err)
	case "a worker runs":
		worker, err := outbox.NewWorker(s.kinesis, "events", s.balances.consumer, &outbox.MemoryLeases{})
		require.NoError(t, err)
		s.runs(t, worker)
	default:
		t.Fatalf("the session says what nobody knows to do: %s", what)
	}
}

func (s *session) worker(t *testing.T) {
	letters, err := outbox.NewDeadLetterTable(s.dynamodb, "dead-letters", "confirmations")
	require.NoError(t, err)
	consumer, err := outbox.NewConsumer(outbox.WithLogger(slog.New(slog.DiscardHandler)), outbox.WithDeadLetters(letters))
	require.NoError(t, err)
	down := s.down
	outbox.Handle(consumer, func(_ context.Context, e outbox.Event[orderCreated]) error {
		if down && e.AggregateID == "order-2" {
			return outbox.Permanent(errors.New("the mail server is down"))
		}
		return nil
	})
	leases, err := outbox.NewLeaseTable(s.dynamodb, "leases", "confirmations")
	require.NoError(t, err)
	worker, err := outbox.NewWorker(s.kinesis, "events", consumer, leases, outbox.WithLeaseDuration(2*time.Second))
	require.NoError(t, err)
	s.runs(t, worker)
}

// runs runs a worker until something else happens.
func (s *session) runs(t *testing.T, worker *outbox.Worker) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- worker.Run(ctx) }()
	s.stop = func() {
		cancel()
		require.NoError(t, <-ended)
	}
}
