package outbox_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// All processes have stopped: what is older than the chosen time counts as handled, and what was handled after it runs once more.
func TestFromGuardedHandlersToPositions(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, 1, 2, 3, 4)
	var ran []int64
	handle := func(opts ...outbox.ConsumerOption) *outbox.Consumer {
		c := newConsumer(t, append(opts, outbox.WithInbox(w.inbox(t, w.DynamoDB)))...)
		outbox.Handle(c, func(_ context.Context, e outbox.Event[orderCreated]) error {
			ran = append(ran, e.Sequence)
			return nil
		})
		return c
	}
	require.NoError(t, handle().Process(t.Context(), events[:3]...))
	c := handle(outbox.WithOrder(w.DynamoDB, "events", events[2].Time))
	require.NoError(t, c.Process(t.Context(), events[3]))
	require.NoError(t, c.Process(t.Context(), events...))
	require.Equal(t, []int64{1, 2, 3, 3, 4}, ran)
}

// The rows of the service's own table say what was handled, for as long as its handler asks them.
func TestFromATableOfOnesOwnToPositions(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, 1, 2, 3, 4)
	handler := func(_ context.Context, e outbox.Event[orderCreated]) (outbox.Effects, error) {
		if slices.Contains(w.effects(t), e.Sequence) {
			return outbox.Effects{}, nil
		}
		return outbox.Effects{Writes: []types.TransactWriteItem{appendEffect(aggregate, e.Sequence)}}, nil
	}
	old := newConsumer(t, outbox.WithInbox(w.inbox(t, w.DynamoDB)))
	outbox.HandleTx(old, w.writer, handler)
	require.NoError(t, old.Process(t.Context(), events[:2]...))
	c := newConsumer(t, outbox.WithInbox(w.inbox(t, w.DynamoDB)), outbox.WithOrder(w.DynamoDB, "events", events[0].Time))
	outbox.HandleTx(c, w.writer, handler)
	require.NoError(t, c.Process(t.Context(), events[3]))
	w.requireEffects(t, 1, 4)
	require.Equal(t, int64(4), w.position(t))
}

// Time to live removes marks, and no position: neither one that moved in a transaction, nor one that moved alone.
func TestAPositionNeverExpires(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, 1, 2)
	c := w.process(t, w.DynamoDB, time.Unix(0, 0))
	outbox.Ignore(c, "UNWANTED")
	unwanted := sequencedRecord(1)
	unwanted.Type, unwanted.AggregateID, unwanted.ID = "UNWANTED", "account-2", outbox.SequencedID("account-2", 1)
	require.NoError(t, w.writer.Transact(t.Context(), nil, unwanted))
	other := createdRecord("by its mark")
	require.NoError(t, c.Process(t.Context(), events[1], delivered(unwanted), other))
	expiring := map[string]bool{}
	for _, row := range w.all(t, "inbox") {
		expiring[textOf(row, "eventId")] = row["expiresAt"] != nil
	}
	require.Equal(t, map[string]bool{aggregate: false, "account-2": false, "by its mark": true}, expiring)
}
