package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/rows"
	"github.com/seed-1b628d3f/outbox/outboxtest"
	"github.com/seed-1b628d3f/outbox/replay"
)

// orderNumbered returns an event of an order that was written some minutes ago, as a stream delivers it.
func orderNumbered(aggregate string, n, minutes int) outbox.Record {
	return outbox.Record{ID: fmt.Sprintf("%s-%03d", aggregate, n), Type: "ORDER_CREATED", AggregateID: aggregate, Table: "events", Payload: []byte(`{"secret":"two coffees"}`),
		Time: time.Now().Add(-time.Duration(minutes) * time.Minute).Truncate(time.Second)}
}

// mailed is the consumer confirmations, which has an inbox and dead letters. It refuses the aggregate "poison".
type mailed struct {
	*world
	consumer *outbox.Consumer
	letters  *outbox.DeadLetterTable
}

// mailedIn makes the tables as well.
func mailedIn(t *testing.T, w *world, opts ...outbox.InboxOption) *mailed {
	w.ok(t, "create", "--inbox", "inbox", "--dead-letters", "dead-letters")
	box, err := outbox.NewInbox(w.dynamodb, "inbox", "confirmations", opts...)
	require.NoError(t, err)
	m := &mailed{world: w}
	m.letters, err = outbox.NewDeadLetterTable(w.dynamodb, "dead-letters", "confirmations")
	require.NoError(t, err)
	m.consumer, err = outbox.NewConsumer(outbox.WithLogger(slog.New(slog.DiscardHandler)), outbox.WithInbox(box), outbox.WithDeadLetters(m.letters, outbox.WithInvokeAttempts(1)))
	require.NoError(t, err)
	outbox.Handle(m.consumer, func(_ context.Context, e outbox.Event[orderCreated]) error {
		if e.AggregateID == "poison" {
			return outbox.Permanent(errors.New("no"))
		}
		return nil
	})
	return m
}

// written writes events that nobody delivers.
func (m *mailed) written(t *testing.T, events ...outbox.Record) {
	writer, err := outbox.NewWriter(m.dynamodb, "events")
	require.NoError(t, err)
	for _, e := range events {
		e.Table = ""
		require.NoError(t, writer.Transact(t.Context(), nil, e))
	}
}

// handled writes events and delivers them.
func (m *mailed) handled(t *testing.T, events ...outbox.Record) {
	m.written(t, events...)
	require.NoError(t, m.consumer.Process(t.Context(), events...))
}

// reconcile runs the command with -o json, and requires an exit code.
func (m *mailed) reconcile(t *testing.T, code int, args ...string) reconciled {
	r := m.run(t, append([]string{"reconcile", "--consumer", "confirmations", "-o", "json"}, args...)...)
	require.Equal(t, code, r.code, r)
	out := decode[reconciled](t, r.out)
	require.Equal(t, out.Searched, out.Handled+out.Claimed+out.DeadLetters+out.Undelivered+out.Unreadable+out.Young+out.Unknown+out.Unwanted, r.out)
	require.Equal(t, code == exitOK, out.OK, r.out)
	return out
}

func ids(events []eventJSON) (ids []string) {
	for _, e := range events {
		ids = append(ids, e.ID)
	}
	return ids
}

// What the consumer has neither handled nor given up is listed, the oldest first, and nothing is delivered.
func TestReconcileListsWhatIsUndelivered(t *testing.T) {
	m := mailedIn(t, newWorld(t))
	lost, later := orderNumbered("order-2", 1, 45), orderNumbered("order-2", 2, 0)
	later.Time = lost.Time.Add(time.Minute)
	m.handled(t, orderNumbered("order-1", 1, 60), orderNumbered("order-3", 1, 30), orderNumbered("poison", 1, 50), orderNumbered("poison", 2, 49))
	require.NoError(t, m.letters.Discard(t.Context(), "poison#poison-001"))
	m.written(t, later, lost, orderNumbered("order-4", 1, 1))

	out := m.reconcile(t, exitFailed)
	require.Equal(t, []string{"order-2-001", "order-2-002"}, ids(out.Events))
	require.Equal(t, eventJSON{ID: lost.ID, Type: lost.Type, AggregateID: lost.AggregateID, Time: lost.Time.UTC(), Table: "events"}, out.Events[0], "without its payload")
	require.True(t, lost.Time.Equal(out.Oldest), out.Oldest)
	require.Equal(t, time.Minute, out.Latest.Sub(out.Oldest))
	require.Equal(t, []typeCount{{Type: "ORDER_CREATED", Undelivered: 2, Judged: 6}}, out.Types)
	require.Equal(t, []int{7, 2, 2, 2, 1}, []int{out.Searched, out.Handled, out.DeadLetters, out.Undelivered, out.Young})

	r := m.run(t, "reconcile", "--consumer", "confirmations", "--limit", "1")
	require.Equal(t, exitFailed, r.code)
	require.Empty(t, r.err)
	require.Contains(t, r.out, "ORDER_CREATED  order-2-001  order-2\nand 1 more, of later times: --limit lists up to 10000\n7 events read: 2 handled, 2 given up (dead letters), 2 undelivered, 1 younger than 15m0s\n2 events are undelivered, with times from ")
	require.Contains(t, r.out, "outbox replay --table events --id=order-2-001 --again --run reconcile")

	require.Equal(t, out, m.reconcile(t, exitFailed), "it has changed something")
	require.NoError(t, m.consumer.Process(t.Context(), lost))
	require.Equal(t, []string{"order-2-002"}, ids(m.reconcile(t, exitFailed).Events))
}

// The exit code is 0 if nothing is undelivered, and what could not be judged is told.
func TestReconcileIsGreenIfNothingIsMissing(t *testing.T) {
	m := mailedIn(t, newWorld(t))
	m.handled(t, orderNumbered("order-1", 1, 60), orderNumbered("poison", 1, 50), orderNumbered("order-1", 2, 20))
	green := []string{"reconcile", "--consumer", "confirmations"}
	require.Equal(t, "3 events read: 2 handled, 1 given up (dead letters)\nnothing is undelivered of what could be judged\n", m.ok(t, green...))
	m.written(t, orderNumbered("order-4", 1, 1), orderNumbered("order-4", 2, 90))
	require.Equal(t, "5 events read: 2 handled, 1 given up (dead letters), 1 younger than 15m0s, 1 too old to be judged\nnothing is undelivered of what could be judged\n",
		m.ok(t, append(green, "--since", "80m")...))
	require.True(t, m.reconcile(t, exitOK, "--since", "80m").OK)

	r := m.run(t, append(green, "--type", "ORDER_PAID")...)
	require.Equal(t, result{exitOK, "5 events read: 1 younger than 15m0s, 4 unwanted\nno event could be judged\n", "note: no event of type ORDER_PAID could be judged; the name may be wrong\n"}, r)
	require.Len(t, m.reconcile(t, exitFailed, "--type", "ORDER_CREATED").Events, 1, "its events are judged")

	m.ok(t, "create", "--table", "others", "--stream", "others", "--leases=")
	require.NoError(t, m.consumer.Process(t.Context(), outbox.Record{ID: "1", Type: "ORDER_CREATED", Table: "others", Time: time.Now(), Payload: []byte("{}")}))
	r = m.run(t, append(green, "--table", "others")...)
	require.Equal(t, result{exitOK, "0 events read\nno event could be judged\n", "note: table others has no events; if its attributes have other names, give --attributes\n"}, r)
}

// For each likely reason the command says what it may be, and what to do.
func TestReconcileSaysWhyAndWhatToDo(t *testing.T) {
	paid := orderNumbered("order-5", 1, 50)
	paid.Type = "ORDER_PAID"
	for name, situation := range map[string]struct {
		prepare     func(t *testing.T, m *mailed)
		args        []string
		because, do string
		not         string // a reason that must not be given
	}{
		"a consumer that is down": {func(t *testing.T, m *mailed) { m.written(t, orderNumbered("order-2", 1, 20)) }, nil,
			"the latest event is among them: the consumer may be down, or more than 15m0s behind", "outbox status --group G", "lost on the way"},
		"a consumer that was down all the time": {func(t *testing.T, m *mailed) { m.written(t, orderNumbered("order-2", 1, 20)) }, []string{"--since", "25m"},
			"the latest event is among them", "outbox status --group G", "no event of type"},
		"a loss": {func(t *testing.T, m *mailed) { m.written(t, orderNumbered("order-2", 1, 45)) }, nil,
			"later events are not among them: these were lost on the way", `outbox doctor --table events; "Events that never reached the stream" in docs/operating.md`, "may be down"},
		"any": {func(t *testing.T, m *mailed) { m.written(t, orderNumbered("order-2", 1, 45)) }, nil,
			"nothing was delivered: this command has no handlers", "outbox replay --table events --id=order-2-001 --again --run reconcile", ""},
		"an id that a shell must not read": {func(t *testing.T, m *mailed) { m.written(t, orderNumbered("$(rm) 'x'", 1, 45)) }, nil,
			"nothing was delivered: this command has no handlers", `outbox replay --table events '--id=$(rm) '\''x'\''-001' --again`, ""},
		"an order": {func(t *testing.T, m *mailed) { m.written(t, orderNumbered("order-2", 1, 45)) }, []string{"--order"},
			"nothing was delivered: this command has no handlers", "call Reconcile in the service", "--again"},
		"a type without a handler": {func(t *testing.T, m *mailed) { m.written(t, paid) }, nil,
			"no event of type ORDER_PAID is known to the inbox: the consumer may have no handler of it", "outbox reconcile --table events --inbox inbox --consumer confirmations --dead-letters dead-letters --type ORDER_CREATED", "lost on the way"},
		"a handler that the person knows of": {func(t *testing.T, m *mailed) { m.written(t, paid) }, []string{"--type", "ORDER_PAID", "--type", "ORDER_CREATED"},
			"no event of type ORDER_PAID is known", "outbox doctor --table events --function F shows filters", "without these types"},
		"no dead letters asked": {func(t *testing.T, m *mailed) { m.handled(t, orderNumbered("poison", 1, 50)) }, []string{"--dead-letters="},
			"no dead letter table was asked", "--dead-letters TABLE", ""},
		"dead letters of another name": {func(t *testing.T, m *mailed) { m.handled(t, orderNumbered("poison", 1, 50)) }, []string{"--dead-letters-consumer", "mails"},
			"table dead-letters has no dead letter of consumer mails, but of confirmations", "--dead-letters-consumer", ""},
		"a row that cannot be read": {func(t *testing.T, m *mailed) {
			_, err := m.dynamodb.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: ptr("events"), Item: rows.Item{"eventId": rows.S("x"), "type": rows.S("T"), "timestamp": rows.S("now")}})
			require.NoError(t, err)
		}, nil, "no consumer can handle a row that cannot be read", "find out who writes such rows", "nothing was delivered"},
		"an inbox that is too large to know": {func(t *testing.T, m *mailed) {
			m.edit("Scan", func(asked, answer map[string]any) {
				if asked["TableName"] == "inbox" {
					answer["Items"], answer["Count"], answer["LastEvaluatedKey"] = []any{}, 0, map[string]any{"eventId": map[string]any{"S": "x"}, "consumer": map[string]any{"S": "y"}}
				}
			})
			m.edit("BatchGetItem", func(_, answer map[string]any) {
				for table := range answer["Responses"].(map[string]any) {
					answer["Responses"].(map[string]any)[table] = []any{}
				}
			})
		}, nil, "nothing of consumer confirmations and table events is known to the inbox, as far as it was read", "compare --consumer, --inbox and --table", "lost on the way"},
	} {
		t.Run(name, func(t *testing.T) {
			m := mailedIn(t, newWorld(t))
			m.handled(t, orderNumbered("order-1", 1, 60), orderNumbered("order-3", 1, 30))
			situation.prepare(t, m)
			r := m.run(t, append([]string{"reconcile", "--consumer", "confirmations"}, situation.args...)...)
			require.Equal(t, exitFailed, r.code, r)
			require.Equal(t, strings.Contains(name, "too large"), strings.Contains(r.err, "note: no mark of consumer confirmations was read from inbox table inbox: it is taken to remember for 30 days, the default."), r.err)
			_, reasons, _ := strings.Cut(r.out, "because  ")
			require.Contains(t, reasons, situation.because)
			require.Contains(t, reasons, situation.do)
			if situation.not != "" {
				require.NotContains(t, reasons, situation.not)
			}
		})
	}
}

// More events than Reconcile delivers by default need its MaxDeliver; more than it takes need another way.
func TestReconcileNamesTheLimitOfMany(t *testing.T) {
	r := &reconciliation{f: &reconcileFlags{}}
	require.NotContains(t, r.bringBack(1000), "MaxDeliver")
	require.Contains(t, r.bringBack(1001), ", with a MaxDeliver of 1001 or more (100000 at most)")
	require.Contains(t, r.bringBack(100_000), ", with a MaxDeliver of 100000 or more (100000 at most)")
	many := r.bringBack(100_001)
	require.Contains(t, many, "so many segments that none has more than 100000 of the events")
	require.Contains(t, many, "replay.To")
	require.NotContains(t, many, "100001")
}

// The limits that the advice names are those of Reconcile: what it says of them is tried.
func TestReconcileNamesTheLimitsOfTheLibrary(t *testing.T) {
	m := mailedIn(t, newWorld(t))
	m.handled(t, orderNumbered("order-1", 1, 60))
	var batch []dynamodbtypes.WriteRequest
	for n := range usualMaxDeliver + 1 {
		batch = append(batch, dynamodbtypes.WriteRequest{PutRequest: &dynamodbtypes.PutRequest{Item: rows.Item{"eventId": rows.S(fmt.Sprint(n)), "type": rows.S("ORDER_CREATED"),
			"timestamp": rows.S(orderNumbered("", 0, 60).Time.UTC().Format(time.RFC3339)), "payload": rows.S("{}")}}})
		if len(batch) == 25 || n == usualMaxDeliver {
			_, err := m.dynamodb.BatchWriteItem(t.Context(), &dynamodb.BatchWriteItemInput{RequestItems: map[string][]dynamodbtypes.WriteRequest{"events": batch}})
			require.NoError(t, err)
			batch = nil
		}
	}
	events, err := replay.New(m.dynamodb, "events")
	require.NoError(t, err)
	deliver := func(most int) error {
		_, err := events.Reconcile(t.Context(), m.consumer, replay.ReconcileOptions{MaxDeliver: most})
		return err
	}
	require.ErrorContains(t, deliver(mostMaxDeliver+1), fmt.Sprintf("MaxDeliver: want 1 to %d", mostMaxDeliver))
	tooMany := fmt.Sprintf("more than %d events are not handled", usualMaxDeliver)
	require.ErrorContains(t, deliver(0), tooMany)
	_, err = m.dynamodb.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: ptr("events"), Key: rows.Item{"eventId": rows.S("0")}})
	require.NoError(t, err)
	require.NotContains(t, fmt.Sprint(deliver(0)), tooMany, "usualMaxDeliver is what it would deliver")
}

// A name that the inbox does not know is an error before the events table is read, and the names that it knows are told.
func TestReconcileRefusesAConsumerThatTheInboxDoesNotKnow(t *testing.T) {
	m := mailedIn(t, newWorld(t))
	m.handled(t, orderNumbered("order-1", 1, 60))
	m.ok(t, "create", "--table", "others", "--stream", "others", "--leases=")
	for args, want := range map[string]string{
		"--consumer mails":                        "inbox table inbox has nothing of consumer mails and events table events",
		"--consumer confirmations --table others": "inbox table inbox has nothing of consumer confirmations and events table others",
	} {
		m.calls = nil
		r := m.run(t, append([]string{"reconcile"}, strings.Fields(args)...)...)
		require.Equal(t, exitFailed, r.code)
		require.Contains(t, r.err, want+": it has handled nothing yet, or a name is not the one that the service gives NewInbox and NewWriter. It knows confirmations (table events)\n")
		require.Equal(t, map[string]bool{"Scan": true}, m.calls["reconcile"])
	}
	r := m.run(t, "reconcile", "--consumer", "confirmations", "--dead-letters", "letters")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.err, "a consumer without dead letters wants --dead-letters=: read the keys of table letters: ResourceNotFoundException")
}

// How long the inbox remembers is what its marks say: an event whose mark may have expired is not taken for undelivered.
func TestReconcileTakesTheMemoryOfTheInboxFromItsMarks(t *testing.T) {
	m := mailedIn(t, newWorld(t), outbox.WithInboxTTL(7*24*time.Hour))
	m.handled(t, orderNumbered("order-1", 1, 60))
	m.written(t, orderNumbered("order-2", 1, 6*24*60), orderNumbered("order-2", 2, 4*24*60))
	out := m.reconcile(t, exitFailed)
	require.Equal(t, []string{"order-2-002"}, ids(out.Events))
	require.Equal(t, 1, out.Unknown)

	m = mailedIn(t, newWorld(t), outbox.WithInboxTTL(24*time.Hour))
	m.handled(t, orderNumbered("order-1", 1, 60))
	r := m.run(t, "reconcile", "--consumer", "confirmations")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.err, "the inbox forgets too soon")
	require.Empty(t, r.out, "nothing was read")
}

// The events of a consumer with WithOrder are judged by its positions, and those before its beginning are not wanted.
func TestReconcileOfAConsumerWithOrder(t *testing.T) {
	w := newWorld(t)
	w.ok(t, "create", "--inbox", "inbox", "--dead-letters", "dead-letters")
	o := orderedIn(t, w)
	o.deliver(t, o.write(t, 1, 2)...)
	o.write(t, 3, 4)
	m := &mailed{world: w}
	out := m.reconcile(t, exitFailed, "--consumer", "balances", "--order")
	require.Equal(t, []string{"account-7#3", "account-7#4"}, ids(out.Events))
	require.Equal(t, 2, out.Handled)
	require.Equal(t, []typeCount{{Type: "ORDER_CREATED", Undelivered: 2, Judged: 4}}, out.Types)
	o.deliver(t, o.write(t, 5)...)
	require.Equal(t, 5, m.reconcile(t, exitOK, "--consumer", "balances", "--order").Handled)

	old := outbox.Record{ID: outbox.SequencedID("account-8", 1), Type: "ORDER_CREATED", AggregateID: "account-8", Sequence: 1, Time: epoch, Payload: []byte("{}")}
	m.written(t, old)
	require.Equal(t, []string{old.ID}, ids(m.reconcile(t, exitFailed, "--consumer", "balances", "--order").Events))
	require.Equal(t, 1, m.reconcile(t, exitOK, "--consumer", "balances", "--order", "--from", "2026-11-01").Unwanted)
}

// A table whose attributes have other names is read by them, and the commands that are named know them.
func TestReconcileOfATableWithOtherNames(t *testing.T) {
	w, _ := newOthers(t)
	m := mailedIn(t, w)
	require.NoError(t, m.consumer.Process(t.Context(), outbox.Record{ID: "0", Type: "ORDER_CREATED", Table: "old-events", Time: epoch, Payload: []byte("{}")}))
	writer, err := outbox.NewWriter(w.dynamodb, "old-events", outbox.WithAttributes(theOthers))
	require.NoError(t, err)
	require.NoError(t, writer.Transact(t.Context(), nil, outbox.Record{ID: "4", Type: "ORDER_CREATED", Time: orderNumbered("", 0, 60).Time, Payload: []byte("{}")}))
	out := m.reconcile(t, exitFailed, "--table", "old-events", "--attributes", otherNames)
	require.Equal(t, []string{"4"}, ids(out.Events))
	require.Equal(t, 3, out.Unknown)
	require.Contains(t, out.Reasons[len(out.Reasons)-1].Do, "outbox replay --table old-events --id=4 --again --run reconcile --attributes aggregateId=order,headers=-,")
}

// A run that fails in the middle tells what it has found, and --after goes on with the page that was not judged.
func TestReconcileGoesOnWhereItWasCutOff(t *testing.T) {
	m := mailedIn(t, newWorld(t))
	var lost []string
	for n := range 40 {
		e := orderNumbered("order", n, 60+n)
		if n%8 == 0 {
			m.written(t, e)
			lost = append(lost, e.ID)
		} else {
			m.handled(t, e)
		}
	}
	for broken, at := range map[string]int{"Scan": 3, "BatchGetItem": 6} { // a page needs four BatchGetItems at most
		t.Run(broken, func(t *testing.T) {
			m.breakEventsAt(broken, at)
			first := m.reconcile(t, exitFailed)
			require.Contains(t, first.Error, "InternalServerError")
			require.Positive(t, first.Searched)
			require.NotEmpty(t, first.GoOnAfter)

			m.breakEventsAt(broken, at)
			r := m.run(t, "reconcile", "--consumer", "confirmations")
			require.Contains(t, r.out, "the table was not read to its end; to go on: outbox reconcile --table events --inbox inbox --consumer confirmations --dead-letters dead-letters --after="+first.GoOnAfter+"\n")
			require.NotContains(t, r.out, "because")

			m.breakEventsAt(broken, 0)
			second := m.reconcile(t, exitFailed, "--after", first.GoOnAfter)
			require.Equal(t, 40, first.Searched+second.Searched)
			require.Empty(t, second.Error)
			require.ElementsMatch(t, lost, append(ids(first.Events), ids(second.Events)...))
		})
	}
}

// An interrupt tells what was found until then, as a failure does.
func TestAnInterruptedReconcileSaysWhereItGoesOn(t *testing.T) {
	m := mailedIn(t, newWorld(t))
	for n := range 20 {
		m.handled(t, orderNumbered("order", n, 60+n))
	}
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	m.breakEventsAt("BatchGetItem", 0)
	pages := m.intercept   // of 5 rows, with a look at the inbox each
	var looks atomic.Int32 // a request that was interrupted may still be answered
	m.intercept = func(operation string, out http.ResponseWriter, in *http.Request) bool {
		if operation == "BatchGetItem" && looks.Add(1) == 3 {
			interrupt()
		}
		return pages(operation, out, in)
	}
	r := m.runWith(ctx, "reconcile", "--consumer", "confirmations", "-o", "json")
	require.Equal(t, exitInterrupted, r.code, r)
	first := decode[reconciled](t, r.out)
	require.Equal(t, "interrupted", first.Error)
	require.Equal(t, first.Searched, first.Handled)
	require.NotEmpty(t, first.GoOnAfter)
	second := m.reconcile(t, exitOK, "--after", first.GoOnAfter)
	require.GreaterOrEqual(t, first.Searched+second.Searched, 20, "a page may come although its request was interrupted, and is read again")
}

// With --rate a page has a second's worth of rows at most, and is asked for when its time has come.
func TestReconcileReadsNoFasterThanAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := outboxtest.Start(t)
		cloud.CreateOutbox(t, "events", "events", 1)
		(&mailed{world: &world{dynamodb: cloud.DynamoDB}}).written(t, orderNumbered("a", 1, 1), orderNumbered("a", 2, 1), orderNumbered("a", 3, 1), orderNumbered("a", 4, 1), orderNumbered("a", 5, 1))
		f := &reconcileFlags{table: "events", rate: 2, names: outbox.DefaultAttributes()}
		w := newWalk(cloud.DynamoDB, f, time.Now())
		read, began := 0, time.Now()
		w.progress = func(n int) { read = n }
		in := &dynamodb.ScanInput{TableName: &f.table}
		for want := 2; ; want += 2 {
			out, err := w.Scan(t.Context(), in)
			require.NoError(t, err)
			require.Equal(t, min(want, 5), read)
			if in.ExclusiveStartKey = out.LastEvaluatedKey; in.ExclusiveStartKey == nil {
				break
			}
		}
		require.GreaterOrEqual(t, time.Since(began), 2*time.Second) // of the bubble's clock
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := w.Scan(ctx, in)
		require.ErrorIs(t, err, context.Canceled)
	})
}

// breakEventsAt lets pages of the events table have 5 rows, and has the n-th request of an operation fail; 0: none.
func (w *world) breakEventsAt(broken string, n int) {
	seen := 0
	w.mu.Lock()
	defer w.mu.Unlock()
	w.intercept = func(operation string, out http.ResponseWriter, in *http.Request) bool {
		body, _ := io.ReadAll(in.Body)
		if operation == "Scan" && bytes.Contains(body, []byte(`"TableName":"events"`)) {
			var asked map[string]any
			if json.Unmarshal(body, &asked) == nil {
				asked["Limit"] = 5
				body, _ = json.Marshal(asked)
			}
		}
		in.Body, in.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		w.mu.Lock()
		defer w.mu.Unlock()
		if operation == broken && (broken != "Scan" || bytes.Contains(body, []byte(`"TableName":"events"`))) {
			seen++
			if n > 0 && seen >= n {
				out.Header().Set("Content-Type", "application/x-amz-json-1.0")
				out.WriteHeader(http.StatusBadRequest)
				fmt.Fprint(out, `{"__type":"com.amazon.coral.service#InternalServerError","message":"broken"}`)
				return true
			}
		}
		return false
	}
}

// A copy has an id of its own: the event that it copies stays undelivered, until the event itself is handled.
func TestACopyLeavesItsOriginalUndelivered(t *testing.T) {
	m := mailedIn(t, newWorld(t))
	lost := orderNumbered("order-2", 1, 45)
	m.handled(t, orderNumbered("order-1", 1, 30))
	m.written(t, lost)
	out := m.reconcile(t, exitFailed)
	bringBack := out.Reasons[len(out.Reasons)-1].Do
	_, command, ok := strings.Cut(bringBack, "Or write copies, for each id, with what the service gives WithTTL as --ttl: outbox ")
	require.True(t, ok, bringBack)
	command, _, _ = strings.Cut(command, ". Every consumer")
	m.ok(t, append(strings.Fields(command), "--yes")...)

	found, err := m.dynamodb.Scan(t.Context(), &dynamodb.ScanInput{TableName: ptr("events"), FilterExpression: ptr("begins_with(eventId, :copy)"), ExpressionAttributeValues: rows.Item{":copy": rows.S(lost.ID + "#replay#")}})
	require.NoError(t, err)
	require.Len(t, found.Items, 1)
	theCopy, err := outbox.DecodeItem(found.Items[0])
	require.NoError(t, err)
	theCopy.Table = "events"
	require.NoError(t, m.consumer.Process(t.Context(), theCopy))
	out = m.reconcile(t, exitFailed)
	require.Equal(t, []string{lost.ID}, ids(out.Events))
	require.Equal(t, 2, out.Handled, "the other event and the copy")

	events, err := replay.New(m.dynamodb, "events")
	require.NoError(t, err)
	result, err := events.Reconcile(t.Context(), m.consumer, replay.ReconcileOptions{})
	require.NoError(t, err)
	require.Equal(t, 1, result.Delivered)
	require.Equal(t, 3, m.reconcile(t, exitOK).Handled)
}
