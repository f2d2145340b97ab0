package outbox_test

import (
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
	require.ErrorIs(t, w.writer.Put(t.Context(), "orders", order{"order-1"}, other), outbox.ErrEventConflict)
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
	require.ErrorIs(t, err, outbox.ErrEventConflict)
	require.ErrorContains(t, err, "a difference in timestamp")
	require.NoError(t, w.writer.Transact(t.Context(), nil, theirs), "a repeat has the same time")

	// Without a time of its own there is nothing to compare: it is the Writer that has set the time of each attempt.
	untimed := outbox.Event[orderCreated]{ID: outbox.SequencedID("account-1", 2), AggregateID: "account-1", Sequence: 2, Data: mine.Data}
	require.NoError(t, w.writer.Transact(t.Context(), nil, untimed))
	time.Sleep(2 * time.Millisecond) // the Writer reads this clock
	require.NoError(t, w.writer.Transact(t.Context(), nil, untimed))
	w.requireRows(t, 0, 2)
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
