package outbox_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

var all time.Time // of the past

func TestAGapIsHealedFromTheTable(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, 1, 2, 3, 4, 5)
	c := w.process(t, w.DynamoDB, all)
	require.NoError(t, c.Process(t.Context(), events[3]))
	w.requireEffects(t, 1, 4)
	require.Equal(t, int64(4), w.position(t))
	require.Equal(t, []int64{1, 2, 3, 4}, w.runs)
	require.Len(t, w.told, 3)
	for i, told := range w.told {
		require.Equal(t, outbox.OrderHealed, told.Kind)
		require.Equal(t, int64(i+1), told.Record.Sequence)
		require.Equal(t, int64(4), told.For)
	}
	// What is delivered again, here and elsewhere, runs no handler.
	require.NoError(t, c.Process(t.Context(), events[:4]...))
	require.NoError(t, w.process(t, w.DynamoDB, all).Process(t.Context(), events[:4]...))
	require.NoError(t, c.Process(t.Context(), events[4]))
	require.Equal(t, []int64{1, 2, 3, 4, 5}, w.runs)
	w.requireEffects(t, 1, 5)
}

func TestTwoProcessesKeepTheOrder(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, 1, 2, 3, 4, 5, 6)
	p, q := w.process(t, w.DynamoDB, all), w.process(t, w.DynamoDB, all)
	for i, c := range []*outbox.Consumer{p, q, p, q, q, p} {
		require.NoError(t, c.Process(t.Context(), events[[]int{0, 2, 1, 1, 5, 4}[i]]))
	}
	w.requireEffects(t, 1, 6)
}

func TestACatchUpGoesOverManyPages(t *testing.T) {
	w := newOrderWorld(t)
	var numbers []int64
	for n := range int64(250) {
		numbers = append(numbers, n+1)
	}
	events := w.write(t, numbers...)
	require.NoError(t, w.process(t, w.DynamoDB, all).Process(t.Context(), events[249]))
	w.requireEffects(t, 1, 250)
}

// What an invocation has no time for is left to the next one, which goes on where it ended.
func TestACatchUpUnderADeadlineGoesOn(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, 1, 2, 3, 4, 5, 6)
	ctx, cancel := context.WithCancel(t.Context())
	c := w.process(t, w.DynamoDB, all, outbox.WithDeadLetters(w.letters, outbox.WithInvokeAttempts(1)),
		outbox.WithConsumerHooks(outbox.ConsumerHooks{Order: func(_ context.Context, o outbox.OrderInfo) {
			if o.Record.Sequence == 3 {
				cancel()
			}
		}}))
	require.Error(t, c.Process(ctx, events[5]))
	require.Equal(t, int64(3), w.position(t))
	require.Empty(t, w.deadLetters(t), "no attempt")
	require.NoError(t, c.Process(t.Context(), events[5]))
	w.requireEffects(t, 1, 6)
}

// A handler reads what the one before has written, also if another process commits it between.
func TestAHandlerSeesItsPredecessor(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, 1, 2)
	other := w.process(t, w.DynamoDB, all)
	c := newConsumer(t, outbox.WithInbox(w.inbox(t, w.DynamoDB)), outbox.WithOrder(w.DynamoDB, "events", all))
	var saw []int
	outbox.HandleTx(c, w.writer, func(_ context.Context, e outbox.Event[orderCreated]) (outbox.Effects, error) {
		saw = append(saw, len(w.effects(t)))
		if e.Sequence == 1 {
			require.NoError(t, other.Process(t.Context(), events[0]))
		}
		return w.handler(t.Context(), e)
	})
	require.NoError(t, c.Process(t.Context(), events[1]))
	require.Equal(t, []int{0, 1}, saw)
	w.requireEffects(t, 1, 2)
}

func TestAMissingNumberStopsItsAggregate(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, 1, 3, 4)
	c := w.process(t, w.DynamoDB, all, outbox.WithDeadLetters(w.letters, outbox.WithInvokeAttempts(2)))
	require.NoError(t, c.Process(t.Context(), events[0]))
	err := c.Process(t.Context(), events[1])
	require.ErrorIs(t, err, outbox.ErrSequenceMissing)
	require.ErrorContains(t, err, "account-1#2")
	require.NoError(t, c.Process(t.Context(), events[1]), "the last attempt makes it a dead letter")
	require.NoError(t, c.Process(t.Context(), events[2]), "it is parked")
	require.Equal(t, []int64{3, 4}, numbersOf(w.deadLetters(t)))
	w.requireEffects(t, 1, 1)

	// A redrive does not help while it is missing.
	result, err := w.letters.Redrive(t.Context(), c, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
	require.NoError(t, err)
	require.Equal(t, outbox.RedriveResult{Failed: 1}, result)

	// It comes after all.
	w.write(t, 2)
	result, err = w.letters.Redrive(t.Context(), c, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
	require.NoError(t, err)
	require.Equal(t, outbox.RedriveResult{Redriven: 2}, result)
	w.requireEffects(t, 1, 4)
}

func TestANumberThatDoesNotExistIsPassedByAPerson(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, 1, 3)
	c, i := w.process(t, w.DynamoDB, all), w.inbox(t, w.DynamoDB)
	require.NoError(t, c.Process(t.Context(), events[0]))
	require.ErrorIs(t, c.Process(t.Context(), events[1]), outbox.ErrSequenceMissing)
	_, err := i.Pass(t.Context(), "events", aggregate, 3)
	require.ErrorIs(t, err, outbox.ErrNotNext)
	require.ErrorContains(t, err, "is 2, not 3")
	passed, err := i.Pass(t.Context(), "events", aggregate, 2)
	require.NoError(t, err)
	require.True(t, passed)
	passed, err = i.Pass(t.Context(), "events", aggregate, 2)
	require.NoError(t, err, "a repeat")
	require.False(t, passed)
	w.mu.Lock()
	w.failing[3] = errors.New("its own condition does not hold")
	w.mu.Unlock()
	require.ErrorContains(t, c.Process(t.Context(), events[1]), "its own condition", "the handler is called now")
	require.Equal(t, int64(2), w.position(t))
}

// A row may be missing for a moment: then the event behind it waits, and this is no attempt.
func TestAYoungEventWaitsForTheOneBefore(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, 1, 3)
	c := w.process(t, w.DynamoDB, all, outbox.WithDeadLetters(w.letters, outbox.WithInvokeAttempts(1)))
	young := events[1]
	young.ChangedAt = time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	require.ErrorContains(t, c.Process(ctx, young), "is not in table \"events\" yet")
	require.Empty(t, w.deadLetters(t))
	w.requireEffects(t, 1, 1)

	time.AfterFunc(200*time.Millisecond, func() { w.write(t, 2) })
	young.ChangedAt = time.Now()
	require.NoError(t, c.Process(t.Context(), young), "it waits in place")
	w.requireEffects(t, 1, 3)
}

func TestWhereAnAggregateBegins(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, 1, 2, 3, 4, 5, 6)
	from := events[3].Time
	c := w.process(t, w.DynamoDB, from, outbox.WithDeadLetters(w.letters, outbox.WithInvokeAttempts(1)))
	require.NoError(t, c.Process(t.Context(), events[1]), "it is not wanted")
	require.Equal(t, outbox.OrderBefore, w.told[0].Kind)
	require.NoError(t, c.Process(t.Context(), events[5]))
	w.requireEffects(t, 4, 6)
	require.Equal(t, outbox.OrderBegan, w.told[1].Kind)
	require.Equal(t, int64(4), w.told[1].For)
	require.NoError(t, c.Process(t.Context(), events[2]), "older than what is wanted, and below the beginning")
	require.Empty(t, w.deadLetters(t))

	// One that is wanted and comes later than this beginning can have no place any more.
	late := events[2]
	late.Time = from
	require.NoError(t, c.Process(t.Context(), late))
	letters := w.deadLetters(t)
	require.Equal(t, []int64{3}, numbersOf(letters))
	require.Contains(t, letters[0].Error, "begun this aggregate at 4")
	result, err := w.letters.Redrive(t.Context(), c, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
	require.NoError(t, err)
	require.Equal(t, 1, result.Failed, "a redrive does not bring it in")
	require.NoError(t, w.inbox(t, w.DynamoDB).Discard(t.Context(), w.letters, letters[0].ID))
	require.Empty(t, w.deadLetters(t))
}

// The rows of the first events are gone: with a time the aggregate begins above them, and without one it stops.
func TestAnAggregateWhoseFirstRowsAreGone(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, 3, 4)
	require.ErrorIs(t, w.process(t, w.DynamoDB, all).Process(t.Context(), events[1]), outbox.ErrSequenceMissing)
	require.NoError(t, w.process(t, w.DynamoDB, time.Unix(0, 0)).Process(t.Context(), events[1]))
	w.requireEffects(t, 3, 4)
}

func TestATypeWithoutAHandlerStopsItsAggregate(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, 1, 3)
	unknown := sequencedRecord(2)
	unknown.Type = "ORDER_SEEN"
	require.NoError(t, w.writer.Transact(t.Context(), nil, unknown))
	c := w.process(t, w.DynamoDB, all, outbox.WithDeadLetters(w.letters))
	require.NoError(t, c.Process(t.Context(), events[1]))
	letters := w.deadLetters(t)
	require.Equal(t, []int64{2, 3}, numbersOf(letters))
	require.Contains(t, letters[0].Error, `event type "ORDER_SEEN" has no handler`)
	require.True(t, letters[1].Parked)
	w.requireEffects(t, 1, 1)

	// A version that ignores the type goes on.
	next := w.process(t, w.DynamoDB, all, outbox.WithDeadLetters(w.letters))
	outbox.Ignore(next, "ORDER_SEEN")
	_, err := w.letters.Redrive(t.Context(), next, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
	require.NoError(t, err)
	require.Equal(t, int64(3), w.position(t))
	require.Equal(t, []int64{1, 3}, w.effects(t))
}

// The one before is the dead letter, since its row may expire.
func TestAHealedPredecessorThatFailsIsTheDeadLetter(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, 1, 2, 3)
	w.failing[2] = errors.New("no stock")
	c := w.process(t, w.DynamoDB, all, outbox.WithDeadLetters(w.letters, outbox.WithInvokeAttempts(2)))
	require.ErrorContains(t, c.Process(t.Context(), events[2]), `event "account-1#2", which comes before, is not handled: no stock`)
	require.NoError(t, c.Process(t.Context(), events[2]))
	letters := w.deadLetters(t)
	require.Equal(t, []int64{2, 3}, numbersOf(letters))
	require.Equal(t, "no stock", letters[0].Error)
	require.Equal(t, 2, letters[0].Attempts)
	require.False(t, letters[0].Parked)
	require.True(t, letters[1].Parked)

	_, err := w.DynamoDB.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: aws.String("events"), Key: values{"eventId": str("account-1#2")}})
	require.NoError(t, err)
	delete(w.failing, 2)
	_, err = w.letters.Redrive(t.Context(), c, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
	require.NoError(t, err)
	w.requireEffects(t, 1, 3)
	require.Empty(t, w.deadLetters(t))
}

func TestDiscardMovesThePosition(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, 1, 2, 3)
	w.failing[1] = outbox.Permanent(errors.New("no stock"))
	c, i := w.process(t, w.DynamoDB, all, outbox.WithDeadLetters(w.letters)), w.inbox(t, w.DynamoDB)
	require.NoError(t, c.Process(t.Context(), events...))
	letters := w.deadLetters(t)
	require.Equal(t, []int64{1, 2, 3}, numbersOf(letters))

	require.ErrorContains(t, w.letters.Discard(t.Context(), letters[0].ID), "use Inbox.Discard")
	require.ErrorIs(t, i.Discard(t.Context(), w.letters, letters[1].ID), outbox.ErrNotNext)
	require.Len(t, w.deadLetters(t), 3)
	require.NoError(t, i.Discard(t.Context(), w.letters, letters[0].ID))
	require.NoError(t, i.Discard(t.Context(), w.letters, letters[1].ID))
	require.ErrorIs(t, i.Discard(t.Context(), w.letters, letters[1].ID), outbox.ErrNoDeadLetter)
	require.Equal(t, int64(2), w.position(t))

	_, err := w.letters.Redrive(t.Context(), c, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
	require.NoError(t, err)
	require.NoError(t, w.process(t, w.DynamoDB, all).Process(t.Context(), events...), "what was discarded is a duplicate")
	require.Equal(t, []int64{3}, w.effects(t))
}

// Somebody uses the id of an aggregate again: its events are no duplicates, and none of them is lost in silence.
func TestASequenceThatGoesBackIsADeadLetter(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, 1, 2)
	c := w.process(t, w.DynamoDB, all, outbox.WithDeadLetters(w.letters))
	require.NoError(t, c.Process(t.Context(), events...))
	again := events[0]
	again.Time = time.Now()
	require.NoError(t, c.Process(t.Context(), again))
	letters := w.deadLetters(t)
	require.Len(t, letters, 1)
	require.Contains(t, letters[0].Error, "is the aggregate's id used again?")

	i := w.inbox(t, w.DynamoDB)
	require.NoError(t, i.Discard(t.Context(), w.letters, letters[0].ID))
	require.NoError(t, i.Forget(t.Context(), "events", aggregate))
	require.Equal(t, int64(0), w.position(t))
	require.NoError(t, c.Process(t.Context(), again))
	require.Equal(t, []int64{1, 2, 1}, w.effects(t))
}

func TestOneAggregateOfTwoTablesHasTwoPositions(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, 1)
	c := w.process(t, w.DynamoDB, all)
	require.NoError(t, c.Process(t.Context(), events[0]))
	other := events[0]
	other.Table = "invoices"
	w.failing[1] = errors.New("it is handled, by its mark")
	require.ErrorContains(t, c.Process(t.Context(), other), "by its mark")
}

func TestGuardedHandlersRunInOrder(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, 1, 2, 3)
	var ran []int64
	var other *outbox.Consumer
	make := func() *outbox.Consumer {
		c := newConsumer(t, outbox.WithInbox(w.inbox(t, w.DynamoDB)), outbox.WithOrder(w.DynamoDB, "events", all))
		outbox.Handle(c, func(_ context.Context, e outbox.Event[orderCreated]) error {
			if ran = append(ran, e.Sequence); e.Sequence == 2 && other != nil {
				o := other
				other = nil
				_, err := w.DynamoDB.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: aws.String("events"), Key: values{"eventId": str("account-1#2")}})
				require.NoError(t, err) // what is claimed is not missing
				require.ErrorIs(t, o.Process(t.Context(), events[2]), outbox.ErrClaimed, "another process waits while this one works")
				_, err = w.inbox(t, w.DynamoDB).Pass(t.Context(), "events", aggregate, 2)
				require.ErrorIs(t, err, outbox.ErrClaimed)
				require.ErrorIs(t, w.inbox(t, w.DynamoDB).Forget(t.Context(), "events", aggregate), outbox.ErrClaimed)
			}
			return nil
		})
		return c
	}
	other = make()
	c := make()
	require.NoError(t, c.Process(t.Context(), events[2]))
	require.NoError(t, c.Process(t.Context(), events...))
	require.NoError(t, make().Process(t.Context(), events...))
	require.Equal(t, []int64{1, 2, 3}, ran)
	require.Equal(t, int64(3), w.position(t))
}

func TestWhatDoesNotGoTogetherWithOrder(t *testing.T) {
	w := newOrderWorld(t)
	in := outbox.WithInbox(w.inbox(t, w.DynamoDB))
	order := outbox.WithOrder(w.DynamoDB, "events", all)
	for name, c := range map[string]struct {
		opts []outbox.ConsumerOption
		want string
	}{
		"no inbox":            {[]outbox.ConsumerOption{order}, "needs an Inbox"},
		"events may pass":     {[]outbox.ConsumerOption{in, order, outbox.WithDeadLetters(w.letters, outbox.LetLaterEventsPass())}, "LetLaterEventsPass"},
		"no sequence":         {[]outbox.ConsumerOption{in, order, outbox.WithAttributes(outbox.Attributes{Sequence: outbox.NoAttribute})}, "needs the attribute Sequence"},
		"no time":             {[]outbox.ConsumerOption{in, order, outbox.WithAttributes(outbox.Attributes{Time: outbox.NoAttribute})}, "needs the attribute Time"},
		"another table":       {[]outbox.ConsumerOption{in, order, outbox.WithTables("invoices")}, "leaves out its table"},
		"twice":               {[]outbox.ConsumerOption{in, order, order}, "given before"},
		"no client":           {[]outbox.ConsumerOption{in, outbox.WithOrder(nil, "events", all)}, "client is nil"},
		"no table":            {[]outbox.ConsumerOption{in, outbox.WithOrder(w.DynamoDB, "", all)}, "the events table"},
		"a time that changes": {[]outbox.ConsumerOption{in, outbox.WithOrder(w.DynamoDB, "events", time.Unix(1, 1))}, "each process would begin elsewhere"},
		"a time to come":      {[]outbox.ConsumerOption{in, outbox.WithOrder(w.DynamoDB, "events", time.Now().Add(time.Hour).Truncate(time.Second))}, "not in the future"},
	} {
		_, err := outbox.NewConsumer(append(c.opts, quiet())...)
		require.ErrorContains(t, err, c.want, name)
	}
	c := newConsumer(t, outbox.WithInbox(w.inbox(t, w.DynamoDB), "ANOTHER"), order)
	require.PanicsWithValue(t, `outbox: HandleType: with WithOrder the handler of "ORDER_CREATED" must be guarded (WithInbox names it, or no types), or one of HandleTx`,
		func() { outbox.Handle(c, ignoreOrder) })
}

// Middleware that leaves an event out has handled it, as without an order.
func TestAnEventThatMiddlewareLeavesOutIsHandled(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, 1, 2, 3, 4)
	c := w.process(t, w.DynamoDB, all, outbox.WithMiddleware(func(next outbox.Handler) outbox.Handler {
		return func(ctx context.Context, r outbox.Record) error {
			if r.Sequence == 2 || r.Sequence == 4 {
				return nil
			}
			return next(ctx, r)
		}
	}))
	require.NoError(t, c.Process(t.Context(), events[2]))
	require.NoError(t, c.Process(t.Context(), events[3]))
	require.Equal(t, []int64{1, 3}, w.effects(t))
	require.Equal(t, int64(4), w.position(t))
}
