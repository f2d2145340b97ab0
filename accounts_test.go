package outbox_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/account"
	internalevent "github.com/seed-1b628d3f/outbox/internal/event"
)

// accountsOf asks a Consumer about events of the table.
func accountsOf(t testing.TB, c *outbox.Consumer, records ...outbox.Record) []account.Account {
	t.Helper()
	book, err := c.Accounts("arn:aws:dynamodb:us-east-1:000000000000:table/events")
	require.NoError(t, err)
	var events []internalevent.Event
	for _, r := range records {
		r.Table, r.Payload, r.ChangedAt = "events", nil, time.Time{}
		events = append(events, internalevent.Event(r))
	}
	accounts, err := book.Of(t.Context(), events)
	require.NoError(t, err)
	return accounts
}

// What a position says of the events around it.
func TestAPositionSaysWhichEventsAreHandled(t *testing.T) {
	w := newOrderWorld(t)
	records := w.write(t, 1, 2, 3, 4, 5, 6)
	begin := records[2].Time // 3 is the first one that is wanted
	c := w.process(t, w.DynamoDB, begin)
	const open, handled, unwanted = account.Open, account.Handled, account.Unwanted
	require.Equal(t, []account.Account{unwanted, unwanted, open, open, open, open}, accountsOf(t, c, records...), "no position")
	require.NoError(t, c.Process(t.Context(), records[3]))
	require.Equal(t, []account.Account{unwanted, unwanted, handled, handled, open, open}, accountsOf(t, c, records...))

	earlier := w.process(t, w.DynamoDB, records[0].Time)
	require.Equal(t, []account.Account{unwanted, unwanted, handled, handled, open, open}, accountsOf(t, earlier, records...), "below the first one, whatever from is")

	// A number without a handler stops its aggregate: it has to be told.
	unknown := records[4]
	unknown.Type = "OTHER"
	unsequenced := unknown
	unsequenced.ID, unsequenced.Sequence = "other", 0
	require.Equal(t, []account.Account{open, unwanted}, accountsOf(t, c, unknown, unsequenced))
	outbox.Ignore(c, "OTHER")
	require.Equal(t, []account.Account{open, unwanted}, accountsOf(t, c, unknown, unsequenced))

	_, err := w.inbox(t, w.DynamoDB).Pass(t.Context(), "events", aggregate, 5)
	require.NoError(t, err)
	require.Equal(t, []account.Account{handled, open}, accountsOf(t, c, records[4], records[5]), "passed by a person")
}

// An event that was written under a number that is handled or passed already was not handled. It is delivered, and becomes a dead letter. Below the
// first number nothing is wanted.
func TestANumberThatIsUsedAgainIsOpen(t *testing.T) {
	w := newOrderWorld(t)
	records := w.write(t, 1, 2, 3)
	c := w.process(t, w.DynamoDB, records[1].Time, outbox.WithDeadLetters(w.letters))
	require.NoError(t, c.Process(t.Context(), records[1], records[2]))
	_, err := w.inbox(t, w.DynamoDB).Pass(t.Context(), "events", aggregate, 4)
	require.NoError(t, err)
	var again []outbox.Record
	for n := int64(1); n <= 4; n++ {
		r := delivered(sequencedRecord(n))
		r.Time = time.Now().Add(time.Hour)
		r.ChangedAt = r.Time
		again = append(again, r)
	}
	const open, letter, unwanted = account.Open, account.DeadLetter, account.Unwanted
	require.Equal(t, []account.Account{unwanted, open, open, open}, accountsOf(t, c, again...))
	require.NoError(t, c.Process(t.Context(), again[1:]...))
	require.Equal(t, []account.Account{unwanted, letter, letter, letter}, accountsOf(t, c, again...))
	require.Equal(t, []account.Account{unwanted, account.Handled, account.Handled}, accountsOf(t, c, records...), "the position says so")
}

// A letter of an ordered consumer, and what Inbox.Discard makes of it.
func TestADiscardedSequenceIsNotOpen(t *testing.T) {
	w := newOrderWorld(t)
	records := w.write(t, 1, 2)
	c := w.process(t, w.DynamoDB, time.Time{}, outbox.WithDeadLetters(w.letters))
	w.failing[1] = outbox.Permanent(errors.New("no"))
	require.NoError(t, c.Process(t.Context(), records...))
	require.Equal(t, []account.Account{account.DeadLetter, account.DeadLetter}, accountsOf(t, c, records...))
	require.NoError(t, w.inbox(t, w.DynamoDB).Discard(t.Context(), w.letters, w.deadLetters(t)[0].ID))
	require.Equal(t, []account.Account{account.Handled, account.DeadLetter}, accountsOf(t, c, records...))
}

// Whichever way a letter is discarded, its event is known as one that was a letter.
func TestEachWayToDiscardIsRemembered(t *testing.T) {
	for name, discard := range map[string]func(w *orderWorld, id string) error{
		"the letters' Discard": func(w *orderWorld, id string) error { return w.letters.Discard(t.Context(), id) },
		"the Inbox's Discard": func(w *orderWorld, id string) error {
			return w.inbox(t, w.DynamoDB).Discard(t.Context(), w.letters, id)
		},
	} {
		for sequence := range int64(2) {
			if name == "the letters' Discard" && sequence > 0 {
				continue // it is refused, with an order
			}
			w := newOrderWorld(t)
			r := sequencedRecord(sequence)
			if sequence == 0 {
				r.ID = "e0"
			}
			require.NoError(t, w.writer.Transact(t.Context(), nil, r))
			w.failing[sequence] = outbox.Permanent(errors.New("no"))
			require.NoError(t, w.process(t, w.DynamoDB, time.Time{}, outbox.WithDeadLetters(w.letters)).Process(t.Context(), delivered(r)))
			require.NoError(t, discard(w, w.deadLetters(t)[0].ID), name)
			require.Empty(t, w.deadLetters(t))

			unordered := newConsumer(t, outbox.WithInbox(w.inbox(t, w.DynamoDB)), outbox.WithDeadLetters(w.letters)) // it asks no position
			outbox.HandleTx(unordered, w.writer, w.handler)
			require.Equal(t, []account.Account{account.DeadLetter}, accountsOf(t, unordered, r), "%s, sequence %d", name, sequence)
		}
	}
}

// In the change-over to positions, what a process with marks has handled is handled, although no position says so.
func TestMarksCountUntilTheChangeOverIsDone(t *testing.T) {
	w := newOrderWorld(t)
	records := w.write(t, 1, 2, 3, 4)
	from := records[0].Time.Add(-3 * time.Hour)
	long := sequencedRecord(1)
	long.AggregateID, long.ID, long.Time = "account-2", outbox.SequencedID("account-2", 1), from.Add(time.Hour)
	require.NoError(t, w.writer.Transact(t.Context(), nil, long))
	short := outbox.WithInboxTTL(50 * time.Hour) // it may have forgotten what is two hours old
	old := newConsumer(t, outbox.WithInbox(w.inbox(t, w.DynamoDB, short)))
	outbox.HandleTx(old, w.writer, w.handler)
	require.NoError(t, old.Process(t.Context(), records[1], records[2]))
	c := newConsumer(t, outbox.WithInbox(w.inbox(t, w.DynamoDB, short)), outbox.WithOrder(w.DynamoDB, "events", from), outbox.KeepMarks())
	outbox.HandleTx(c, w.writer, w.handler)

	const open, handled = account.Open, account.Handled
	all := append(records, delivered(long))
	require.Equal(t, []account.Account{open, handled, handled, open, account.Forgotten}, accountsOf(t, c, all...))
	require.NoError(t, c.Process(t.Context(), records[0]))
	require.Equal(t, []account.Account{handled, handled, handled, open, account.Forgotten}, accountsOf(t, c, all...))
	require.NoError(t, old.Process(t.Context(), delivered(long)))
	require.Equal(t, []account.Account{handled, handled, handled, open, handled}, accountsOf(t, c, all...))
	require.Equal(t, []account.Account{handled, open, open, open, open}, accountsOf(t, w.process(t, w.DynamoDB, from), all...), "positions alone")
}

// slowLook is a client that lets somebody redrive a letter after the nth batch was read.
type slowLook struct {
	*dynamodb.Client
	n  int
	do func()
}

func (s *slowLook) BatchGetItem(ctx context.Context, in *dynamodb.BatchGetItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	out, err := s.Client.BatchGetItem(ctx, in, opts...)
	if s.n--; s.n == 0 {
		s.do()
	}
	return out, err
}

// A redrive writes the inbox and then removes the letter. Whoever looks meanwhile sees one of the two.
func TestARedriveIsNotMissedByWhoLooksMeanwhile(t *testing.T) {
	for n := 1; n <= 4; n++ {
		w := newInboxWithLetters(t)
		r := createdRecord("e1")
		require.NoError(t, w.writer.Transact(t.Context(), nil, r))
		r.Table, r.Time = "events", time.Now()
		require.NoError(t, w.consumer(t, false).Process(t.Context(), r))
		require.Equal(t, []account.Account{account.DeadLetter}, accountsOf(t, w.consumer(t, false), r))
		w.repaired = true
		slow := &slowLook{w.DynamoDB, n, func() {
			result, err := w.letters.Redrive(t.Context(), w.consumer(t, false), outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
			require.NoError(t, err)
			require.Equal(t, 1, result.Redriven)
		}}
		c := newConsumer(t, outbox.WithInbox(w.inbox(t, slow)), outbox.WithDeadLetters(w.lettersOf(t, slow)))
		outbox.Handle(c, func(context.Context, outbox.Event[orderCreated]) error { return nil })
		got := accountsOf(t, c, r)
		require.NotEqual(t, []account.Account{account.Open}, got, "after look %d", n)
	}
}
