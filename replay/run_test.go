package replay_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
	"github.com/seed-1b628d3f/outbox/replay"
)

// seen notes what handlers get.
type seen struct {
	mu    sync.Mutex
	order map[string][]string // by aggregate
	n     map[string]int
}

func (s *seen) note(aggregate, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.order == nil {
		s.order, s.n = map[string][]string{}, map[string]int{}
	}
	s.order[aggregate] = append(s.order[aggregate], id)
	s.n[id]++
}

func TestToHandlesEveryEventInItsAggregatesOrder(t *testing.T) {
	w := newWorld(t)
	want := w.many(t, 60, "a", "b", "c", "d")
	w.many(t, 1, "other")
	var s seen
	c := newConsumer(t, func(ctx context.Context, e outbox.Event[noted]) error {
		r, ok := outbox.RecordFromContext(ctx)
		if !ok || r.Table != "events" || e.Data.N != 1 {
			return fmt.Errorf("not as stored: %+v", r)
		}
		s.note(e.AggregateID, e.ID)
		return nil
	})
	var steps []replay.Progress
	result, err := w.events.To(t.Context(), replay.Query{Type: "NOTED", From: at(1)}, c, replay.Options{Progress: func(p replay.Progress) { steps = append(steps, p) }})
	require.NoError(t, err)
	for a := range want {
		want[a] = want[a][1:] // From
	}
	require.Equal(t, replay.Result{Found: 236, Done: 236}, result)
	require.Equal(t, want, s.order)
	require.Equal(t, []replay.Progress{
		{Searching: true, Searched: 241, Found: 236}, {Searched: 241, Found: 236},
		{Searched: 241, Found: 236, Passed: 100}, {Searched: 241, Found: 236, Passed: 200}, {Searched: 241, Found: 236, Passed: 236},
	}, steps)
}

// Whichever event fails, Result says what is done, and its query finds all other events and only a few that are done.
func TestAFailureSaysWhereToGoOn(t *testing.T) {
	w := newWorld(t)
	all := w.many(t, 60, "a", "b", "c", "d")
	for bad := range 60 {
		if bad > 3 && bad%10 != 0 && bad < 57 {
			continue // the edges, and some in between
		}
		var s seen
		failing := true
		poison := fmt.Sprintf("b-%03d", bad)
		c := newConsumer(t, func(_ context.Context, e outbox.Event[noted]) error {
			if failing && e.ID == poison {
				return errors.New("not today")
			}
			s.note(e.AggregateID, e.ID)
			return nil
		})
		q := replay.Query{Type: "NOTED", To: at(60)}
		result, err := w.events.To(t.Context(), q, c, replay.Options{})
		var failed *outbox.ProcessError
		require.ErrorAs(t, err, &failed)
		require.ErrorContains(t, err, "replay: To: ")
		require.Equal(t, len(s.n), result.Done)
		require.Equal(t, all["b"][:bad], append([]string{}, s.order["b"]...), "nothing overtakes what failed")
		require.Equal(t, replay.Query{Type: "NOTED", From: at(bad), To: at(60)}, result.Next)

		failing = false
		again, err := w.events.To(t.Context(), result.Next, c, replay.Options{})
		require.NoError(t, err)
		require.Zero(t, again.Next)
		require.Len(t, s.n, 240)
		require.Equal(t, 240-4*bad, again.Done)
		for id, n := range s.n {
			require.LessOrEqual(t, n, 2, id)
		}
	}
}

// Sequences against the order of the times can put the earliest unfinished event behind later events.
func TestWhereToGoOnIsTheEarliestOfWhatIsLeft(t *testing.T) {
	w := newWorld(t)
	for i := range 4 {
		r := event(fmt.Sprint(i), "a", 10-i)
		r.Sequence = int64(1 + i)
		w.put(t, r)
	}
	broken := errors.New("broken")
	one := replay.Options{PerSecond: 1.9} // one at a time
	result, err := w.events.To(t.Context(), replay.Query{AggregateID: "a"}, processor(func(records ...outbox.Record) error {
		if records[0].ID == "1" {
			return broken
		}
		return nil
	}), one)
	require.ErrorIs(t, err, broken)
	require.Equal(t, replay.Result{Found: 4, Done: 1, Next: replay.Query{AggregateID: "a", From: at(7)}}, result)
}

// What the caller's own Processor says counts. After an error that names no records, the whole batch is unfinished.
func TestAnErrorThatNamesNothingLeavesTheBatchUndone(t *testing.T) {
	w := newWorld(t)
	w.many(t, 120, "a")
	broken := errors.New("broken")
	calls := 0
	result, err := w.events.To(t.Context(), replay.Query{AggregateID: "a"}, processor(func(records ...outbox.Record) error {
		if calls++; calls == 2 {
			return broken
		}
		return nil
	}), replay.Options{})
	require.ErrorIs(t, err, broken)
	require.Equal(t, replay.Result{Found: 120, Done: 100, Next: replay.Query{AggregateID: "a", From: at(100)}}, result)
}

type processor func(...outbox.Record) error

func (p processor) Process(_ context.Context, records ...outbox.Record) error { return p(records...) }

// A row that cannot be read ends the replay, after what is before it.
func TestARowThatCannotBeReadEndsAReplay(t *testing.T) {
	w := newWorld(t)
	w.many(t, 3, "a")
	w.row(t, item{"eventId": attrS("a-001x"), "type": attrS("NOTED"), "aggregateId": attrS("a"), "timestamp": attrN(fmt.Sprint(at(1).UnixMilli())), "payload": attrN("1")})
	var s seen
	c := newConsumer(t, func(_ context.Context, e outbox.Event[noted]) error { s.note("a", e.ID); return nil })
	result, err := w.events.To(t.Context(), replay.Query{AggregateID: "a"}, c, replay.Options{})
	var malformed *outbox.DecodeError
	require.ErrorAs(t, err, &malformed)
	require.ErrorContains(t, err, `event "a-001x"`)
	require.Equal(t, replay.Result{Found: 4, Done: 2, Next: replay.Query{AggregateID: "a", From: at(1)}}, result)
	require.Equal(t, []string{"a-000", "a-001"}, s.order["a"])

	result, err = w.events.To(t.Context(), replay.Query{ID: "a-001x"}, c, replay.Options{})
	require.ErrorAs(t, err, &malformed)
	require.Equal(t, replay.Result{Found: 1, Next: replay.Query{ID: "a-001x"}}, result)
}

// A row that cannot be read is left out only if the caller says so, for each row. The rest is handled. The query of the Result
// begins at the row that is not to be left out, if its time can be read.
func TestRowsThatCannotBeReadAreLeftOutOnRequest(t *testing.T) {
	w := newWorld(t)
	w.many(t, 3, "a")
	w.row(t, item{"eventId": attrS("a-001x"), "type": attrS("NOTED"), "timestamp": attrN(fmt.Sprint(at(1).UnixMilli())), "payload": attrN("1")})
	w.row(t, item{"eventId": attrS("no-time"), "type": attrS("NOTED"), "timestamp": attrS("noon"), "payload": attrS("{}")})
	var s seen
	c := newConsumer(t, func(_ context.Context, e outbox.Event[noted]) error { s.note("a", e.ID); return nil })
	var asked []string
	leaveOut := func(ids ...string) replay.Options {
		return replay.Options{Unreadable: func(r outbox.Record, err error) bool {
			var malformed *outbox.DecodeError
			require.ErrorAs(t, err, &malformed)
			require.ErrorContains(t, err, fmt.Sprintf("event %q of table events", r.ID))
			asked = append(asked, r.ID)
			return slices.Contains(ids, r.ID)
		}}
	}
	result, err := w.events.To(t.Context(), replay.Query{Type: "NOTED"}, c, leaveOut("no-time"))
	require.ErrorContains(t, err, `event "a-001x"`)
	require.Equal(t, replay.Result{Found: 5, Done: 2, Unreadable: 1, Next: replay.Query{Type: "NOTED", From: at(1)}}, result)
	result, err = w.events.To(t.Context(), result.Next, c, leaveOut("a-001x", "no-time"))
	require.NoError(t, err)
	require.Equal(t, replay.Result{Found: 4, Done: 2, Unreadable: 2}, result)
	require.Equal(t, []string{"no-time", "a-001x", "no-time", "a-001x"}, asked)
	require.Equal(t, []string{"a-000", "a-001", "a-001", "a-002"}, s.order["a"])

	result, err = w.events.Again(t.Context(), replay.Query{Type: "NOTED"}, w.writer, "run", leaveOut("a-001x", "no-time"))
	require.NoError(t, err)
	require.Equal(t, replay.Result{Found: 5, Done: 3, Unreadable: 2}, result)
}

func TestACanceledReplayStops(t *testing.T) {
	w := newWorld(t)
	w.many(t, 150, "a")
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	result, err := w.events.To(ctx, replay.Query{AggregateID: "a"}, processor(func(records ...outbox.Record) error {
		n += len(records)
		cancel()
		return nil
	}), replay.Options{})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 100, n)
	require.Equal(t, replay.Result{Found: 150, Done: 100, Next: replay.Query{AggregateID: "a", From: at(100)}}, result)
}

func TestADryRunHandlesNothing(t *testing.T) {
	w := newWorld(t)
	w.many(t, 5, "a")
	for q, want := range map[replay.Query]int{{AggregateID: "a"}: 5, {ID: "a-001"}: 1, {Type: "NONE"}: 0} {
		result, err := w.events.To(t.Context(), q, newConsumer(t, unreached), replay.Options{DryRun: true})
		require.NoError(t, err)
		require.Equal(t, replay.Result{Found: want}, result)
		result, err = w.events.Again(t.Context(), q, w.writer, "run", replay.Options{DryRun: true})
		require.NoError(t, err)
		require.Equal(t, replay.Result{Found: want}, result)
	}
	require.Len(t, w.all(t), 5)
}

// With a rate, no event comes earlier than the rate allows, and none much later.
func TestARateIsKept(t *testing.T) {
	for _, rate := range []float64{0.5, 1, 7, 40, 1000} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			defer w.Close()
			w.many(t, 130, "a")
			started, n := time.Now(), 0
			result, err := w.events.To(t.Context(), replay.Query{AggregateID: "a"}, processor(func(records ...outbox.Record) error {
				require.LessOrEqual(t, float64(n), rate*time.Since(started).Seconds()+1e-3)
				require.LessOrEqual(t, len(records), int(max(1, rate)))
				n += len(records)
				return nil
			}), replay.Options{PerSecond: rate})
			require.NoError(t, err)
			require.Equal(t, 130, result.Done)
			require.InDelta(t, 130/rate, time.Since(started).Seconds(), max(1, 1/rate)+0.1)
		})
	}
	w := newWorld(t)
	w.many(t, 3, "a")
	for _, rate := range []float64{-1, math.NaN(), math.Inf(1)} {
		_, err := w.events.To(t.Context(), replay.Query{AggregateID: "a"}, newConsumer(t, unreached), replay.Options{PerSecond: rate})
		require.ErrorContains(t, err, "PerSecond: want 0 or more")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	result, err := w.events.To(ctx, replay.Query{AggregateID: "a"}, processor(func(...outbox.Record) error { return nil }), replay.Options{PerSecond: 0.01})
	require.Error(t, err, "there is no time for the second one")
	require.Equal(t, replay.Result{Found: 3, Done: 1, Next: replay.Query{AggregateID: "a", From: at(1)}}, result)
}

func TestArgumentsOfAReplay(t *testing.T) {
	w := newWorld(t)
	_, err := w.events.To(t.Context(), replay.Query{ID: "1"}, nil, replay.Options{})
	require.ErrorContains(t, err, "the Consumer is nil")
	_, err = w.events.Again(t.Context(), replay.Query{ID: "1"}, nil, "run", replay.Options{})
	require.ErrorContains(t, err, "the Writer is nil")
	for _, run := range []string{"", "a b", "a#b", "é", strings.Repeat("x", 65)} {
		_, err = w.events.Again(t.Context(), replay.Query{ID: "1"}, w.writer, run, replay.Options{})
		require.ErrorContains(t, err, "the name of the run is")
	}
}

// The copies reach a consumer through the stream, with everything that the originals had. A repeat of the run adds nothing.
func TestAgainWritesCopiesThatReachEveryConsumer(t *testing.T) {
	w := newWorld(t)
	want := w.many(t, 25, "a", "b")
	full := outbox.Record{ID: "full", Type: "NOTED", AggregateID: "c", Sequence: 9, Time: at(7), Headers: map[string]string{"trace": "x"},
		ContentType: "application/json", Payload: []byte(` {"n" : 1} `)}
	alone := event("alone", "", 8)
	w.put(t, full, alone)
	require.NoError(t, w.Drain(t.Context()))
	var mu sync.Mutex
	delivered := map[string]outbox.Record{}
	_, err := w.Map(outboxtest.EventSource{Stream: "events", ReportBatchItemFailures: true}, newConsumer(t, func(ctx context.Context, e outbox.Event[noted]) error {
		mu.Lock()
		defer mu.Unlock()
		delivered[e.ID], _ = outbox.RecordFromContext(ctx)
		return nil
	}).Invoke)
	require.NoError(t, err)
	require.NoError(t, w.Drain(t.Context()))
	require.Len(t, delivered, 52)

	q := replay.Query{Type: "NOTED"}
	for range 3 { // the second and third time it finds the copies, too
		result, err := w.events.Again(t.Context(), q, w.writer, "run-1", replay.Options{})
		require.NoError(t, err)
		require.Equal(t, 52, result.Done)
		require.Equal(t, result.Found-52, result.Copies)
		require.NoError(t, w.Drain(t.Context()))
		require.Len(t, w.all(t), 104)
		require.Len(t, delivered, 104)
	}
	id := copyID("full", "run-1")
	stored := w.all(t)[id]
	require.Equal(t, full.Headers, delivered[id].Headers)
	stored.ID = full.ID
	require.Equal(t, full, stored)

	// Another run copies only the originals. A reader of the table sees no event twice.
	result, err := w.events.Again(t.Context(), replay.Query{AggregateID: "a"}, w.writer, "run-2", replay.Options{PerSecond: 1000})
	require.NoError(t, err)
	require.Equal(t, replay.Result{Found: 50, Done: 25, Copies: 25}, result)
	got, err := ids(t, w.events, replay.Query{AggregateID: "a"})
	require.NoError(t, err)
	require.Equal(t, want["a"], got)

	// When the original is gone, one copy stands for it, under the original's name.
	w.remove(t, "a-003")
	got, err = ids(t, w.events, replay.Query{AggregateID: "a"})
	require.NoError(t, err)
	require.Equal(t, copyID("a-003", "run-1"), got[3])
	require.Len(t, got, 25)
	result, err = w.events.Again(t.Context(), replay.Query{ID: copyID("a-003", "run-2")}, w.writer, "run-3", replay.Options{})
	require.NoError(t, err)
	require.Equal(t, 1, result.Done)
	require.Contains(t, w.all(t), copyID("a-003", "run-3"))
}

// A run that was cut off anywhere, with lost answers on the way, is repeated until it succeeds. Then every copy is there once.
func TestARunThatFailedIsRepeated(t *testing.T) {
	synctest.Test(t, runThatFailed)
}

func runThatFailed(t *testing.T) {
	w := newWorld(t)
	defer w.Close()
	w.many(t, 30, "a", "b", "c", "d", "e")
	failures := 0
	for calls := range 60 {
		require.NoError(t, w.SetFaults(
			outboxtest.Fault{Kind: outboxtest.ServerError, Service: "DynamoDB", Operation: "PutItem", Calls: series(5*calls, 40)},
			outboxtest.Fault{Kind: outboxtest.LoseAnswer, Service: "DynamoDB", Operation: "PutItem", Probability: 0.1}))
		result, err := w.events.Again(t.Context(), replay.Query{Type: "NOTED"}, w.writer, "run", replay.Options{})
		if err == nil {
			require.Equal(t, 150, result.Done)
			break
		}
		failures++
		require.ErrorIs(t, err, outbox.ErrUnknownOutcome)
		require.Less(t, result.Done, 150)
		require.Equal(t, "NOTED", result.Next.Type)
	}
	w.StopFaults()
	result, err := w.events.Again(t.Context(), replay.Query{Type: "NOTED"}, w.writer, "run", replay.Options{})
	require.NoError(t, err)
	require.Equal(t, 150, result.Done)
	require.Positive(t, failures)
	events := w.all(t)
	require.Len(t, events, 300)
	for id := range events {
		if !strings.Contains(id, "#") {
			require.Contains(t, events, copyID(id, "run"))
		}
	}
}

func series(from, n int) []int {
	calls := make([]int, n)
	for i := range calls {
		calls[i] = from + i + 1
	}
	return calls
}

// No event of an aggregate is written behind a failed one.
func TestAgainKeepsTheOrderOfAnAggregate(t *testing.T) {
	w := newWorld(t)
	want := w.many(t, 20, "a", "b", "c")
	// The copy of a-007 cannot be written: its id is taken.
	w.put(t, event(copyID("a-007", "run"), "else", -5))
	result, err := w.events.Again(t.Context(), replay.Query{Type: "NOTED", From: at(0)}, w.writer, "run", replay.Options{})
	require.ErrorIs(t, err, outbox.ErrEventConflict)
	require.False(t, result.Next.From.After(at(7)), result.Next.From)
	events := w.all(t)
	for i, id := range want["a"] {
		_, there := events[copyID(id, "run")]
		require.Equal(t, i <= 7, there, id)
	}

	// Through a stream, in order as far as they were written in order.
	order := map[string][]string{}
	c := newConsumer(t, func(_ context.Context, e outbox.Event[noted]) error {
		order["a"] = append(order["a"], e.ID)
		return nil
	})
	_, err = w.events.To(t.Context(), replay.Query{AggregateID: "a"}, c, replay.Options{})
	require.NoError(t, err)
	require.Equal(t, want["a"], order["a"])
}

// To an inbox an event of a replay is the one that came from the stream, also if the table is given by its ARN.
func TestAReplayNamesTheTable(t *testing.T) {
	w := newWorld(t)
	w.put(t, event("1", "a", 0))
	inbox, err := outbox.NewInbox(w.DynamoDB, "inbox", "mails")
	require.NoError(t, err)
	require.NoError(t, inbox.Create(t.Context()))
	runs := 0
	c := newConsumer(t, func(context.Context, outbox.Event[noted]) error { runs++; return nil }, outbox.WithInbox(inbox))
	_, err = w.Map(outboxtest.EventSource{Stream: "events", ReportBatchItemFailures: true}, c.Invoke)
	require.NoError(t, err)
	require.NoError(t, w.Drain(t.Context()))
	byARN, err := replay.New(w.DynamoDB, "arn:aws:dynamodb:us-east-1:000000000000:table/events")
	require.NoError(t, err)
	for _, events := range []*replay.Events{w.events, byARN} {
		result, err := events.To(t.Context(), replay.Query{ID: "1"}, c, replay.Options{})
		require.NoError(t, err)
		require.Equal(t, 1, result.Done)
	}
	require.Equal(t, 1, runs)
}
