package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// dead is a world with a worker that has made dead letters: of aggregate a one that failed and two behind it, of b one, and a record
// that cannot be decoded.
type dead struct {
	*world
	healed atomic.Bool
	other  atomic.Bool // the handler fails with another error
	worker *outbox.Worker
}

func newDead(t *testing.T) *dead {
	d := &dead{world: newWorld(t)}
	d.CreateOutbox(t, "events", "events", 1)
	letters, err := outbox.NewDeadLetterTable(d.dynamodb, "dead-letters", "mails")
	require.NoError(t, err)
	d.ok(t, "create", "--dead-letters", "dead-letters", "--yes")
	consumer, err := outbox.NewConsumer(outbox.WithLogger(slog.New(slog.DiscardHandler)), outbox.WithDeadLetters(letters))
	require.NoError(t, err)
	outbox.Handle(consumer, func(_ context.Context, e outbox.Event[orderCreated]) error {
		if d.healed.Load() || e.ID == "a-001" || e.ID == "a-002" {
			return nil
		}
		if d.other.Load() {
			return outbox.Permanent(errors.New("something else"))
		}
		return outbox.Permanent(errors.New("mail server says no to " + e.ID + "\x1b[2J"))
	})
	d.worker, err = outbox.NewWorker(d.kinesis, "events", consumer, &outbox.MemoryLeases{})
	require.NoError(t, err)
	d.put(t, "a", 3)
	d.put(t, "b", 1)
	require.NoError(t, d.Drain(t.Context()))
	_, err = d.kinesis.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: ptr("events"), PartitionKey: ptr("k"), Data: []byte(`{"broken`)})
	require.NoError(t, err)
	stop := d.work(t)
	for deadline := time.Now().Add(30 * time.Second); len(d.letters(t)) < 5; time.Sleep(20 * time.Millisecond) {
		require.True(t, time.Now().Before(deadline), d.letters(t))
	}
	stop()
	return d
}

// work runs the worker until the returned function is called.
func (d *dead) work(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.worker.Run(ctx) }()
	return func() {
		cancel()
		require.NoError(t, <-ended)
	}
}

func (d *dead) letters(t *testing.T, args ...string) []letterJSON {
	return lines[letterJSON](t, d.ok(t, append([]string{"dead", "list", "--consumer", "mails", "-o", "json"}, args...)...))
}

func TestDeadLettersAreListedAndShown(t *testing.T) {
	d := newDead(t)
	for args, want := range map[string]int{"": 5, "--type ORDER_CREATED": 4, "--aggregate a": 3, "--error says": 2, "--error to|b-000": 0, "--stored-after 1h": 5, "--stored-before 1h": 0, "--id a#a-000": 1} {
		require.Len(t, d.letters(t, strings.Fields(args)...), want, args)
	}
	first := d.letters(t, "--id", "a#a-000", "--payload")[0]
	require.Equal(t, "ORDER_CREATED", first.Event.Type)
	require.JSONEq(t, `{"secret":"two coffees"}`, string(first.Event.Payload))
	require.Equal(t, 1, first.Attempts)
	require.False(t, first.Parked)
	require.True(t, d.letters(t, "--id", "a#a-001")[0].Parked)
	require.Nil(t, d.letters(t, "--id", "a#a-001")[0].Event.Payload)

	text := d.ok(t, "dead", "list", "--consumer", "mails")
	require.Contains(t, text, `a#a-000  ORDER_CREATED  failed 1 time  mail server says no to a-000\u001b[2J`)
	require.Contains(t, text, "a#a-001  ORDER_CREATED  waits behind another\n")
	require.Contains(t, text, "cannot be decoded  outbox: malformed change record")
	require.Contains(t, text, "5 dead letters, 2 of them behind another\n")
	require.NotContains(t, text, "coffees")
	require.Empty(t, lines[letterJSON](t, d.ok(t, "dead", "list", "--consumer", "others", "-o", "json")))

	shown := decode[letterJSON](t, d.ok(t, "dead", "show", "--consumer", "mails", "a#a-000", "-o", "json"))
	require.Equal(t, first.StoredAt, shown.StoredAt)
	require.Nil(t, shown.Event.Payload)
	text = d.ok(t, "dead", "show", "--consumer", "mails", "a#a-001", "--payload")
	require.Contains(t, text, "it waits behind another dead letter")
	require.Contains(t, text, "\n    {\"secret\":\"two coffees\"}\n")
	undecodable := 0
	for _, l := range d.letters(t, "--payload") {
		if l.Raw == nil {
			continue
		}
		undecodable++
		require.Equal(t, `{"broken`, string(l.Raw))
		require.Contains(t, d.ok(t, "dead", "show", "--consumer", "mails", l.ID), "8 bytes that cannot be decoded\n")
		require.Contains(t, d.ok(t, "dead", "show", "--consumer", "mails", l.ID, "--payload"), "{\"broken\n")
	}
	require.Equal(t, 1, undecodable)
	r := d.run(t, "dead", "show", "--consumer", "mails", "missing")
	require.Equal(t, result{exitFailed, "", "outbox: no such dead letter: \"missing\"\n"}, r)
	require.Equal(t, shown, decode[letterJSON](t, d.ok(t, "dead", "show", "--consumer", "mails", "a-000", "-o", "json")), "by the event's id")

	s := decode[statusJSON](t, d.run(t, "status", "--group", "mails", "--dead-letters", "dead-letters", "-o", "json").out)
	require.Equal(t, 5, s.DeadLetters.Letters)
	require.Equal(t, 2, s.DeadLetters.Parked)
	require.NotZero(t, s.DeadLetters.Oldest)
	require.Contains(t, d.run(t, "status", "--group", "g", "--consumer", "mails", "--dead-letters", "dead-letters").out, "5 dead letters, 2 of them behind another; the oldest is")
	require.Contains(t, d.run(t, "status", "--group", "g", "--dead-letters", "dead-letters").out, "no dead letters\n")
}

// A worker that is healed handles what it is asked for, in order, and the command sees it through.
func TestDeadLettersAreRedriven(t *testing.T) {
	d := newDead(t)
	redrive := []string{"dead", "redrive", "--consumer", "mails", "-o", "json"}
	r := d.run(t, append(redrive, "--all")...)
	require.Equal(t, exitUnconfirmed, r.code)
	require.Len(t, d.letters(t), 5)

	r = d.run(t, append(redrive, "--aggregate", "a", "--yes", "--wait", "300ms")...) // no worker runs
	require.Equal(t, exitFailed, r.code)
	require.Equal(t, redriven{Asked: 3, Left: 3, Pending: true}, decode[redriven](t, r.out))
	require.Equal(t, "note: asked; waiting for a worker of mails to answer, for 300ms at most (--wait)\n", r.err)
	stop := d.work(t)
	r = d.run(t, append(redrive, "--aggregate", "a", "--yes")...) // it fails again
	require.Equal(t, exitFailed, r.code)
	require.Equal(t, redriven{Asked: 3, Left: 3}, decode[redriven](t, r.out))
	require.GreaterOrEqual(t, d.letters(t, "--id", "a#a-000")[0].Attempts, 2)
	require.Contains(t, d.ok(t, "dead", "show", "--consumer", "mails", "a#a-000"), "redrive failed  20")

	d.other.Store(true)
	r = d.run(t, append(redrive, "--error", "to a-000", "--yes")...)
	require.Equal(t, redriven{Asked: 1, Left: 1}, decode[redriven](t, r.out), "it has another error now, and is still there")

	d.healed.Store(true)
	require.Equal(t, redriven{Asked: 1, Gone: 1}, decode[redriven](t, d.ok(t, append(redrive, "--type", "ORDER_CREATED", "--error", "b-000", "--yes")...)))
	require.Equal(t, "3 dead letters asked for, 3 gone, 0 left\n", d.ok(t, "dead", "redrive", "--consumer", "mails", "--aggregate", "a", "--yes"))
	require.Equal(t, redriven{}, decode[redriven](t, d.ok(t, append(redrive, "--aggregate", "a")...)), "there is nothing to ask about")
	stop()
	r = d.run(t, "dead", "redrive", "--consumer", "mails", "--all", "--yes", "--wait", "10ms")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.out, "1 dead letter asked for, 0 gone, 1 left\nno worker has answered, and the request stays: does one run, with this table and this consumer? In Lambda a function has to call AnswerRedriveRequests\n")
	require.Equal(t, redriven{Asked: 1, Left: 1, Pending: true}, decode[redriven](t, d.ok(t, append(redrive, "--all", "--yes", "--no-wait")...)))
}

func TestDeadLettersAreDiscarded(t *testing.T) {
	d := newDead(t)
	r := d.run(t, "dead", "discard", "--consumer", "mails", "--all")
	require.Equal(t, exitUnconfirmed, r.code)
	require.Len(t, d.letters(t), 5)
	require.Equal(t, "1 dead letter discarded\n", d.ok(t, "dead", "discard", "--consumer", "mails", "--id", "a#a-000", "--yes"))
	require.Len(t, d.letters(t), 4)
	require.Equal(t, "0 dead letters discarded\n", d.ok(t, "dead", "discard", "--consumer", "mails", "--id", "a#a-000", "--yes"))
	require.Equal(t, map[string]int{"discarded": 4}, decode[map[string]int](t, d.ok(t, "dead", "discard", "--consumer", "mails", "--all", "-y", "-o", "json")))
	require.Empty(t, d.letters(t))
	require.Equal(t, 4, d.events(t), "the events stay")
}

func TestDeadLettersOfWhatIsNotThere(t *testing.T) {
	w := newWorld(t)
	for _, args := range []string{"list", "redrive --all --yes", "discard --all --yes", "show 1"} {
		r := w.run(t, append([]string{"dead"}, append(strings.Fields(args), "--consumer", "mails")...)...)
		require.Equal(t, exitFailed, r.code, args)
		require.Contains(t, r.err, "ResourceNotFoundException", args)
		require.Contains(t, r.err, "(looked in us-east-1 at", args)
		require.Equal(t, 1, strings.Count(r.err, "outbox: "), r.err)
	}
	for args, want := range map[string]string{
		"dead": "a command is missing: consumers, list, show, redrive or discard", "dead list": "--consumer is missing", "dead list --consumer m --table=": "--table must not be empty",
		"dead redrive --consumer m": "which dead letters?", "dead discard --consumer m": "which dead letters?", "dead discard --consumer m --all --type T": "which dead letters?",
		"dead show --consumer m": "want one id", "dead list --consumer m --stored-after x": `--stored-after: "x" is no time`, "dead list --consumer m --stored-before x": `--stored-before: "x" is no time`,
		"dead redrive --consumer m --all --wait -1s": "--wait: want 0 or more",
	} {
		r := w.run(t, strings.Fields(args)...)
		require.Equal(t, exitUsage, r.code, args)
		require.Contains(t, r.err, want, args)
	}
}

// Whoever stops waiting is told that the request has been made.
func TestARequestStaysWhenTheWaitingIsInterrupted(t *testing.T) {
	d := newDead(t)
	var out, err syncBuffer
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int, 1)
	go func() {
		code <- d.app(strings.NewReader(""), &out, &err).run(ctx, strings.Fields("dead redrive --consumer mails --aggregate a --yes"))
	}()
	err.await(t, "note: asked; waiting for a worker of mails to answer, for 10m0s at most (--wait)\n")
	require.NotContains(t, err.String(), "the request stays")
	cancel()
	require.Equal(t, exitInterrupted, <-code)
	require.Contains(t, err.String(), "note: the request stays for 7 days: a worker that comes will answer it\noutbox: interrupted\n")
	require.Empty(t, out.String())

	d.healed.Store(true)
	stop := d.work(t)
	defer stop()
	for deadline := time.Now().Add(30 * time.Second); len(d.letters(t, "--aggregate", "a")) > 0; time.Sleep(20 * time.Millisecond) {
		require.True(t, time.Now().Before(deadline))
	}
}

// A mistyped name cannot be told from one without dead letters, so a result that is empty says what was asked for.
func TestAnEmptyResultSaysWhatItIsOf(t *testing.T) {
	w := newWorld(t)
	w.ok(t, "create", "--dead-letters", "dead-letters")
	note := "note: nothing found for consumer nobody in table dead-letters; it has to be the name that NewDeadLetterTable was given (outbox dead consumers --table dead-letters lists those that the table knows)\n"
	for args, out := range map[string]string{
		"list": "0 dead letters, 0 of them behind another\n", "list -o json": "", "redrive --all": "0 dead letters asked for, 0 gone, 0 left\n", "discard --all": "0 dead letters discarded\n",
	} {
		require.Equal(t, result{exitOK, out, note}, w.run(t, append([]string{"dead"}, append(strings.Fields(args), "--consumer", "nobody")...)...), args)
	}
	require.Equal(t, result{exitOK, "0 dead letters, 0 of them behind another\n", "note: no dead letter of consumer nobody in table dead-letters matches; outbox dead list --table dead-letters --consumer nobody shows all\n"},
		w.run(t, "dead", "list", "--consumer", "nobody", "--stored-after", "2030-01-01"))
	r := w.run(t, "status", "--group", "nobody")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.out, "- no worker of group nobody has begun stream events: lease table leases has no shard of them\n")
	for _, format := range []string{"text", "json"} {
		require.Equal(t, result{exitOK, "", "note: 0 events found\n"}, w.run(t, "replay", "--aggregate", "nobody", "-o", format))
	}
	for _, args := range []string{"replay --id nobody", "dead show --consumer nobody nobody"} { // what one id names has to be there
		r := w.run(t, strings.Fields(args)...)
		require.Equal(t, exitFailed, r.code, args)
		require.Contains(t, r.err, "nobody", args)
	}
}

// A discard that was cut off between the removal of a letter and the end of the parking is repaired by its repetition, and by a redrive.
func TestADiscardIsRepeated(t *testing.T) {
	for name, again := range map[string][]string{
		"discard": {"dead", "discard", "--id", "b#b-000", "--yes"}, "redrive": {"dead", "redrive", "--aggregate", "b", "--yes", "--no-wait"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDead(t)
			d.refuse("DeleteItem")
			require.NotEqual(t, exitOK, d.run(t, "dead", "discard", "--consumer", "mails", "--id", "b#b-000", "--yes").code)
			d.refuse()
			queue := func() bool {
				out, err := d.dynamodb.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: ptr("dead-letters"), ConsistentRead: ptr(true),
					Key: map[string]types.AttributeValue{"group": &types.AttributeValueMemberS{Value: "mails#lane"}, "id": &types.AttributeValueMemberS{Value: "b"}}})
				require.NoError(t, err)
				return out.Item != nil
			}
			require.True(t, queue())
			d.run(t, append(again, "--consumer", "mails")...)
			stop := d.work(t)
			defer stop()
			for deadline := time.Now().Add(30 * time.Second); queue(); time.Sleep(20 * time.Millisecond) {
				require.True(t, time.Now().Before(deadline), "the aggregate is still parked")
			}
		})
	}
}

func TestFunctionName(t *testing.T) {
	for function, name := range map[string]string{
		"mailer": "mailer", "mailer:live": "mailer", "arn:aws:lambda:eu-west-1:1:function:mailer": "mailer",
		"arn:aws:lambda:eu-west-1:1:function:mailer:live": "mailer",
	} {
		require.Equal(t, name, functionName(function))
	}
}

// Events of two types may have one id: each of their letters is shown.
func TestTheLettersOfAnEventAreShown(t *testing.T) {
	w := newWorld(t)
	w.ok(t, "create", "--dead-letters", "dead-letters")
	letters, err := outbox.NewDeadLetterTable(w.dynamodb, "dead-letters", "mails")
	require.NoError(t, err)
	consumer, err := outbox.NewConsumer(outbox.WithLogger(slog.New(slog.DiscardHandler)), outbox.WithDeadLetters(letters))
	require.NoError(t, err)
	for _, r := range []outbox.Record{{ID: "7", Type: "T", AggregateID: "a"}, {ID: "7", Type: "U", AggregateID: "b"}, {ID: "8", Type: "V", AggregateID: "7"}} {
		outbox.HandleType(consumer, r.Type, func(context.Context, outbox.Event[struct{}]) error {
			return outbox.Permanent(errors.New("no " + r.Type))
		})
		r.Payload = []byte("{}")
		require.NoError(t, consumer.Process(t.Context(), r))
	}
	text := w.ok(t, "dead", "show", "--consumer", "mails", "7")
	require.Contains(t, text, "a#7\n")
	require.Contains(t, text, "b#7\n")
	require.NotContains(t, text, "7#8")
}
