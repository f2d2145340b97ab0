package outbox_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

func TestASequencedEventIsNamedByItsAggregateAndSequence(t *testing.T) {
	before := time.Now()
	e := outbox.NewSequenced("order-1", 7, orderCreated{OrderID: "order-1", Description: "x"})
	require.WithinRange(t, e.Time, before, time.Now())
	e.Time = time.Time{}
	require.Equal(t, outbox.Event[orderCreated]{ID: "order-1#7", Type: "ORDER_CREATED", AggregateID: "order-1", Sequence: 7,
		Data: orderCreated{OrderID: "order-1", Description: "x"}}, e)
	require.Equal(t, "order-1#7", outbox.SequencedID("order-1", 7))

	var none *orderPaid
	require.Empty(t, outbox.NewSequenced("order-1", 7, none).Type, "a nil pointer names no type")
}

// The row of the event is the lock: nobody needs another condition for an aggregate that is made of its events.
func TestASequenceIsWrittenOnce(t *testing.T) {
	w := newWorld(t)
	first := outbox.NewSequenced("order-1", 1, orderCreated{OrderID: "order-1", Description: "first"})
	require.NoError(t, w.writer.Transact(t.Context(), nil, first))
	require.NoError(t, w.writer.Transact(t.Context(), nil, first), "the same event once more")

	other := outbox.NewSequenced("order-1", 1, orderCreated{OrderID: "order-1", Description: "other"})
	require.ErrorIs(t, w.writer.Put(t.Context(), "orders", order{"order-1"}, other), outbox.ErrSequenceTaken)
	w.requireRows(t, 0, 1)
	require.NoError(t, w.writer.Put(t.Context(), "orders", order{"order-1"}, outbox.NewSequenced("order-1", 2, orderCreated{OrderID: "order-1"})))
	w.requireRows(t, 1, 2)
}

// Two deposits of the same amount, decided on the same balance: one of them must decide again, or it is lost and nobody knows.
func TestTwoEqualEventsOfOneSequenceAreTwoDecisions(t *testing.T) {
	w := newWorld(t)
	mine := outbox.NewSequenced("account-1", 1, orderCreated{Description: "deposit 10"})
	theirs := mine
	theirs.Time = mine.Time.Add(time.Millisecond)
	require.NoError(t, w.writer.Transact(t.Context(), nil, theirs))
	err := w.writer.Transact(t.Context(), nil, mine)
	require.ErrorIs(t, err, outbox.ErrSequenceTaken)
	require.ErrorContains(t, err, "a difference in timestamp")
	require.NoError(t, w.writer.Transact(t.Context(), nil, theirs), "a repeat has the same time")

	// Without a time of its own there would be nothing to compare: the Writer would set the time of each attempt.
	untimed := outbox.Event[orderCreated]{ID: outbox.SequencedID("account-1", 2), AggregateID: "account-1", Sequence: 2, Data: mine.Data}
	err = w.writer.Transact(t.Context(), nil, untimed)
	require.ErrorIs(t, err, outbox.ErrInvalidEvent)
	require.ErrorContains(t, err, "it is a sequenced event without a time: use NewSequenced, or set Time")
	w.requireRows(t, 0, 1)
}

// A sequence that is stored already is told apart from another id that is: the first is a race, the second a mistake.
func TestATakenSequenceIsToldApart(t *testing.T) {
	w := newWorld(t)
	at := time.UnixMilli(clockStart)
	sequenced := func(n int64, description string) outbox.Event[orderCreated] {
		e := outbox.NewSequenced("order-1", n, orderCreated{Description: description})
		e.Time = at
		return e
	}
	other := event("e-1")
	other.Data.Description = "another"
	require.NoError(t, w.writer.Transact(t.Context(), nil, sequenced(1, "theirs"), event("e-1")))
	for name, c := range map[string]struct {
		writes []types.TransactWriteItem
		events []outbox.AnyEvent
		taken  bool
	}{
		"another content":                     {nil, []outbox.AnyEvent{sequenced(1, "mine")}, true},
		"beside a write":                      {[]types.TransactWriteItem{putNew("1")}, []outbox.AnyEvent{sequenced(1, "mine")}, true},
		"the same, with the next one":         {nil, []outbox.AnyEvent{sequenced(1, "theirs"), sequenced(2, "mine")}, true},
		"beside an event of the same content": {nil, []outbox.AnyEvent{event("e-1"), sequenced(1, "mine")}, true},
		"beside an id that is taken as well":  {nil, []outbox.AnyEvent{other, sequenced(1, "mine")}, true},
		"only another id":                     {nil, []outbox.AnyEvent{other, sequenced(2, "mine")}, false},
		"an event that only looks alike":      {nil, []outbox.AnyEvent{outbox.Record{ID: "order-1#1", Type: "T", Sequence: 1, Payload: []byte("{}")}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			err := w.writer.Transact(t.Context(), c.writes, c.events...)
			require.ErrorIs(t, err, outbox.ErrEventConflict)
			require.Equal(t, c.taken, errors.Is(err, outbox.ErrSequenceTaken), "%v", err)
			w.requireRows(t, 0, 2)
			if c.taken {
				require.ErrorContains(t, err, "not committed: the sequence is taken, read the aggregate again and decide again: event id is taken by a different event: operation ")
			}
		})
	}
	require.NoError(t, w.writer.Transact(t.Context(), nil, sequenced(1, "theirs"), event("e-1")), "a repeat is no race")
}

// What lies between two events of a transaction could never be written by anybody.
func TestSequencedEventsOfATransactionFollowEachOther(t *testing.T) {
	sequenced := func(aggregate string, n int64) outbox.AnyEvent {
		return outbox.NewSequenced(aggregate, n, orderCreated{})
	}
	for name, c := range map[string]struct {
		events []outbox.AnyEvent
		want   string // the error
	}{
		"one after the other":       {[]outbox.AnyEvent{sequenced("a", 5), sequenced("a", 6), sequenced("a", 7)}, ""},
		"of two aggregates":         {[]outbox.AnyEvent{sequenced("a", 5), sequenced("b", 9), sequenced("a", 6), sequenced("b", 10)}, ""},
		"with others between":       {[]outbox.AnyEvent{sequenced("a", 5), outbox.NewEvent("a", orderCreated{}), sequenced("a", 6)}, ""},
		"not sequenced":             {[]outbox.AnyEvent{outbox.Event[orderCreated]{ID: "x", AggregateID: "a", Sequence: 2}, outbox.Event[orderCreated]{ID: "y", AggregateID: "a", Sequence: 9}}, ""},
		"the last of all sequences": {[]outbox.AnyEvent{sequenced("a", math.MaxInt64-1), sequenced("a", math.MaxInt64)}, ""},
		"a gap":                     {[]outbox.AnyEvent{sequenced("a", 5), sequenced("a", 7)}, `operation 2 (Put of event "a#7" in table "events"): its sequence is 7, and that of the aggregate's event before it in this transaction is 5`},
		"a gap behind others":       {[]outbox.AnyEvent{sequenced("a", 5), sequenced("b", 1), sequenced("a", 6), sequenced("b", 3)}, `event "b#3"`},
		"backwards":                 {[]outbox.AnyEvent{sequenced("a", 6), sequenced("a", 5)}, "its sequence is 5"},
		"twice":                     {[]outbox.AnyEvent{sequenced("a", 5), sequenced("a", 5)}, "it is on the same item as operation 1"},
	} {
		t.Run(name, func(t *testing.T) {
			client := &recordingClient{}
			w := newWriter(t, client)
			_, items := w.Items(t.Context(), append([]outbox.AnyEvent{outbox.NewEvent("c", orderCreated{})}, c.events...)...)
			for call, err := range map[string]error{
				"Transact": w.Transact(t.Context(), []types.TransactWriteItem{putNew("1")}, c.events...),
				"Items":    items,
			} {
				if c.want == "" {
					require.NoError(t, err, call)
					continue
				}
				require.ErrorIs(t, err, outbox.ErrInvalidEvent, call)
				require.ErrorContains(t, err, c.want, call)
				require.Empty(t, client.sent)
			}
		})
	}
}

// A handler whose next event was written by a faster one reads anew, in the same delivery: the event's row is all that its race is about.
func TestATakenSequenceIsALostRace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newInboxWorld(t)
		defer w.Close()
		next := func() outbox.Event[orderCreated] {
			n := int64(1)
			for w.row(t, "events", "eventId", outbox.SequencedID("account-1", n)) != nil {
				n++
			}
			return outbox.NewSequenced("account-1", n, orderCreated{Description: "deposit"})
		}
		runs := 0
		c := w.tx(t, &process{}, func(ctx context.Context, _ outbox.Event[orderCreated]) (outbox.Effects, error) {
			mine := next()
			if runs++; runs <= 3 { // another process is faster
				time.Sleep(time.Millisecond)
				require.NoError(t, w.writer.Transact(ctx, nil, next()))
			}
			return outbox.Effects{Events: []outbox.AnyEvent{mine}}, nil
		})
		require.NoError(t, c.Process(t.Context(), createdRecord("1")))
		require.Equal(t, 4, runs)
		w.requireRows(t, 0, 4)
		require.NoError(t, c.Process(t.Context(), createdRecord("1")), "a duplicate")
		w.requireRows(t, 0, 4)
	})
}

func TestASequencedEventNeedsAnAggregateAndASequence(t *testing.T) {
	long := strings.Repeat("a", 2029)
	for _, c := range []struct {
		name  string
		event outbox.AnyEvent
		want  string
	}{
		{"no aggregate", outbox.NewSequenced("", 1, orderCreated{}), "has no aggregate id"},
		{"sequence 0", outbox.NewSequenced("order-1", 0, orderCreated{}), "its sequence is 0"},
		{"a sequence below 0", outbox.NewSequenced("order-1", -1, orderCreated{}), "its sequence is -1"},
		{"an aggregate id without room for later sequences", outbox.NewSequenced(long, 1, orderCreated{}), "has 2029 bytes"},
		{"an event that was made by hand", outbox.Event[orderCreated]{ID: "order-1#0", AggregateID: "order-1"}, "its sequence is 0"},
		{"a record", outbox.Record{ID: "#1", Type: "T", Sequence: 1, Payload: []byte(`{}`)}, "has no aggregate id"},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := &recordingClient{}
			w := newWriter(t, client)
			_, items := w.Items(t.Context(), c.event)
			for call, err := range map[string]error{
				"Put":      w.Put(t.Context(), "orders", order{"order-1"}, c.event),
				"Transact": w.Transact(t.Context(), []types.TransactWriteItem{putNew("order-1")}, event("e-1"), c.event),
				"Items":    items,
			} {
				require.ErrorIs(t, err, outbox.ErrInvalidEvent, call)
				require.ErrorContains(t, err, c.want, call)
				tx := (*outbox.TransactionError)(nil)
				require.True(t, errors.As(err, &tx), call)
				require.Zero(t, tx.Attempts, call)
			}
			require.Empty(t, client.sent)
		})
	}
	w := newWriter(t, &recordingClient{})
	for _, e := range []outbox.AnyEvent{
		outbox.NewSequenced(long[1:], math.MaxInt64, orderCreated{}),
		outbox.NewSequenced("order#1", 1, orderCreated{}),
		outbox.Event[orderCreated]{ID: "order-1#1", AggregateID: "order-1"}, // not sequenced: its id only looks alike
		outbox.Event[orderCreated]{ID: "#", Sequence: -1},
	} {
		require.NoError(t, w.Transact(t.Context(), nil, e))
	}
}
