package outbox_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// An event that was written before somebody passed its number comes after all: it is handled, as the person said. One that is written
// later has a number that is taken, and is told.
func TestAPassedEventThatComesIsADuplicate(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, 1, 3)
	c := w.process(t, w.DynamoDB, all, outbox.WithDeadLetters(w.letters))
	require.NoError(t, c.Process(t.Context(), events[0]))
	_, err := w.inbox(t, w.DynamoDB).Pass(t.Context(), "events", aggregate, 2)
	require.NoError(t, err)
	passed := w.write(t, 2)[0] // its time is before now
	require.NoError(t, w.process(t, w.DynamoDB, all, outbox.WithDeadLetters(w.letters)).Process(t.Context(), passed))
	require.Empty(t, w.deadLetters(t))
	require.Equal(t, []int64{1}, w.runs)

	later := passed
	later.Time = time.Now().Add(time.Minute)
	require.NoError(t, c.Process(t.Context(), later))
	require.Contains(t, w.deadLetters(t)[0].Error, outbox.ErrLate.Error())
}

// A letter is discarded with the positions of the consumer that made it.
func TestADiscardWithAnotherInboxIsRefused(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, 1)
	w.failing[1] = outbox.Permanent(errors.New("no stock"))
	require.NoError(t, w.process(t, w.DynamoDB, all, outbox.WithDeadLetters(w.letters)).Process(t.Context(), events[0]))
	id := w.deadLetters(t)[0].ID
	other, err := outbox.NewInbox(w.DynamoDB, "inbox", "invoices")
	require.NoError(t, err)
	require.ErrorContains(t, other.Discard(t.Context(), w.letters, id), `of the consumer "mails" of an inbox, and this one is of "invoices"`)
	require.Len(t, w.deadLetters(t), 1)
	n, err := other.Position(t.Context(), "events", aggregate)
	require.NoError(t, err)
	require.Zero(t, n)
	require.NoError(t, w.inbox(t, w.DynamoDB).Discard(t.Context(), w.letters, id))
	require.Equal(t, int64(1), w.position(t))
}

// A Consumer without the order would handle the event, and the next one with it once more.
func TestALetterWithAnOrderIsNotRedrivenWithoutIt(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, 1)
	w.failing[1] = outbox.Permanent(errors.New("no stock"))
	require.NoError(t, w.process(t, w.DynamoDB, all, outbox.WithDeadLetters(w.letters)).Process(t.Context(), events[0]))
	delete(w.failing, 1)
	without := newConsumer(t, outbox.WithInbox(w.inbox(t, w.DynamoDB)))
	outbox.HandleTx(without, w.writer, w.handler)
	result, err := w.letters.Redrive(t.Context(), without, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
	require.NoError(t, err)
	require.Equal(t, outbox.RedriveResult{Failed: 1}, result)
	require.Contains(t, w.deadLetters(t)[0].Error, "the Consumer has none (WithOrder)")
	require.Empty(t, w.effects(t))
}

// DeadLetterTable.Discard removes such a letter, but the position would stay behind its event, which the next one would bring back.
func TestALetterFromBeforeTheOrderIsNotDiscardedByTheInbox(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, 1)
	w.failing[1] = outbox.Permanent(errors.New("no stock"))
	marks := newConsumer(t, outbox.WithInbox(w.inbox(t, w.DynamoDB)), outbox.WithDeadLetters(w.letters))
	outbox.HandleTx(marks, w.writer, w.handler)
	require.NoError(t, marks.Process(t.Context(), events[0]))
	id := w.deadLetters(t)[0].ID
	require.ErrorContains(t, w.inbox(t, w.DynamoDB).Discard(t.Context(), w.letters, id), "without WithOrder for its table")
	require.Len(t, w.deadLetters(t), 1)
}

// A slip: the event's number is set, and its id says another one. Stored, it would be in the way of the event that belongs there.
func TestAnIDOfAnotherSequenceIsRefused(t *testing.T) {
	w := newOrderWorld(t)
	e := outbox.NewSequenced(aggregate, 1, orderCreated{})
	e.Sequence = 2
	err := w.writer.Transact(t.Context(), nil, e)
	require.ErrorIs(t, err, outbox.ErrInvalidEvent)
	require.ErrorContains(t, err, "its id is that of sequence 1, and its sequence is 2")
}
