package outbox_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

var errOnce = errors.New("once")

// An event has its own attempts: those at the events before it, which are handled meanwhile, are not counted for it.
func TestAttemptsAtHandledEventsAreNotCountedForALaterOne(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, upTo(9)...)
	failures := map[int64]int{3: 2, 4: 1, 5: 2, 9: 2}
	process := func() *outbox.Consumer { // another one in each delivery, as in functions that come and go
		c := newConsumer(t, outbox.WithInbox(w.inbox(t, w.DynamoDB)), outbox.WithOrder(w.DynamoDB, "events", all), w.hooks(),
			outbox.WithDeadLetters(w.letters, outbox.WithInvokeAttempts(3)))
		outbox.HandleTx(c, w.writer, func(ctx context.Context, e outbox.Event[orderCreated]) (outbox.Effects, error) {
			if failures[e.Sequence]--; failures[e.Sequence] >= 0 {
				return outbox.Effects{}, errOnce
			}
			return w.handler(ctx, e)
		})
		return c
	}
	for n := 0; process().Process(t.Context(), events[8]) != nil; n++ {
		require.Less(t, n, 20)
	}
	require.Empty(t, w.deadLetters(t))
	w.requireEffects(t, 1, 9)
}

// The third failure of the event at fault makes it a dead letter, whatever was handled before.
func TestAttemptsAtOneEventAddUp(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, upTo(9)...)
	w.failing[5] = errOnce
	c := w.process(t, w.DynamoDB, all, outbox.WithDeadLetters(w.letters, outbox.WithInvokeAttempts(3)))
	for range 2 {
		require.ErrorIs(t, c.Process(t.Context(), events[8]), errOnce)
		require.Empty(t, w.deadLetters(t))
	}
	require.NoError(t, c.Process(t.Context(), events[8]))
	letters := w.deadLetters(t)
	require.Equal(t, []int64{5, 9}, numbersOf(letters))
	require.Equal(t, 3, letters[0].Attempts)
	w.requireEffects(t, 1, 4)
}

func TestAWorkerCountsAttemptsForTheEventAtFault(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, outboxtest.WithFaults(1))
		defer f.Close()
		w := &inboxWithLetters{inboxWorld: &inboxWorld{f.world}}
		w.letters = w.lettersOf(t, w.DynamoDB)
		require.NoError(t, errors.Join(w.letters.Create(t.Context()), w.inbox(t, w.DynamoDB).Create(t.Context())))
		f.oneShard(t)
		require.NoError(t, f.SetFaults(outboxtest.Fault{Kind: outboxtest.DropRecord, Table: "events", Probability: 1}))
		for n := range int64(8) {
			if n == 7 {
				require.NoError(t, f.Drain(t.Context()))
				f.StopFaults()
			}
			require.NoError(t, f.writer.Transact(t.Context(), nil, outbox.NewSequenced(aggregate, n+1, orderCreated{})))
		}
		failed, attempts := map[int64]bool{}, map[int64][]int{}
		c := newConsumer(t, quiet(), outbox.WithInbox(w.inbox(t, w.DynamoDB)), outbox.WithOrder(w.DynamoDB, "events", all), outbox.WithDeadLetters(w.letters))
		outbox.HandleTx(c, f.writer, func(ctx context.Context, e outbox.Event[orderCreated]) (outbox.Effects, error) {
			attempts[e.Sequence] = append(attempts[e.Sequence], outbox.AttemptFromContext(ctx))
			if !failed[e.Sequence] {
				failed[e.Sequence] = true
				return outbox.Effects{}, errOnce
			}
			return outbox.Effects{}, nil
		})
		worker, err := outbox.NewWorker(f.Kinesis, "events", c, f.leases, outbox.WithHandlerRetry(outbox.Retry{MaxAttempts: 2, BaseDelay: time.Second, MaxDelay: time.Second}))
		require.NoError(t, err)
		run := runWorker(t, worker)
		position := func() int64 {
			n, err := w.inbox(t, w.DynamoDB).Position(t.Context(), "events", aggregate)
			require.NoError(t, err)
			return n
		}
		f.await(t, "the last event", 10*time.Minute, func() bool { return position() == 8 })
		require.NoError(t, run.stop())
		for l, err := range w.letters.List(t.Context(), outbox.DeadLetterFilter{}) {
			require.NoError(t, err)
			t.Errorf("a dead letter: %d %s", l.Record.Sequence, l.Error)
		}
		require.Equal(t, []int{1, 2}, attempts[1])
		require.Less(t, attempts[2][0], attempts[2][1], "a healed event knows how often the delivery was tried")
	})
}

// A redrive gives each call a minute. What handles some events of a long row in it goes on, and makes no letter of an event that was cut off.
func TestARedriveGoesThroughALongCatchUp(t *testing.T) {
	for name, guarded := range map[string]bool{"HandleTx": false, "guarded": true} {
		bubble(t, func(t *testing.T) {
			w := newOrderWorld(t)
			defer w.Close()
			events := w.write(t, upTo(30)...)
			c := newConsumer(t, quiet(), outbox.WithInbox(w.inbox(t, w.DynamoDB)), outbox.WithOrder(w.DynamoDB, "events", all),
				outbox.WithDeadLetters(w.letters, outbox.WithInvokeAttempts(1)))
			broken := true
			handle := func(ctx context.Context, e outbox.Event[orderCreated]) (outbox.Effects, error) {
				if broken {
					return outbox.Effects{}, errOnce
				}
				select {
				case <-ctx.Done():
					return outbox.Effects{}, ctx.Err()
				case <-time.After(7 * time.Second):
				}
				return w.handler(ctx, e)
			}
			if guarded {
				outbox.Handle(c, func(ctx context.Context, e outbox.Event[orderCreated]) error {
					effects, err := handle(ctx, e)
					if err == nil {
						_, err = w.DynamoDB.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: effects.Writes})
					}
					return err
				})
			} else {
				outbox.HandleTx(c, w.writer, handle)
			}
			require.NoError(t, c.Process(t.Context(), events[29]))
			require.Equal(t, []int64{1, 30}, numbersOf(w.deadLetters(t)), name)
			broken = false
			result, err := w.letters.Redrive(t.Context(), c, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
			require.NoError(t, err)
			require.Equal(t, outbox.RedriveResult{Redriven: 2}, result, name)
			w.requireEffects(t, 1, 30)
			require.Empty(t, w.deadLetters(t), name)
		})
	}
}

// Attempts at handled events are forgotten also if the batch ends while the event waits for its next attempt.
func TestAttemptsAreForgottenWhenABatchEndsBetweenTwo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newOrderWorld(t)
		defer w.Close()
		events := w.write(t, upTo(20)...)
		failures := map[int64]int{}
		for n := range int64(20) {
			failures[n+1] = 2
		}
		var stop context.CancelFunc
		c := newConsumer(t, quiet(), outbox.WithInbox(w.inbox(t, w.DynamoDB)), outbox.WithOrder(w.DynamoDB, "events", all),
			outbox.WithDeadLetters(w.letters, outbox.WithInvokeAttempts(3)))
		outbox.HandleTx(c, w.writer, func(hctx context.Context, e outbox.Event[orderCreated]) (outbox.Effects, error) {
			if failures[e.Sequence]--; failures[e.Sequence] >= 0 {
				time.AfterFunc(time.Millisecond, stop) // mostly before the next attempt
				return outbox.Effects{}, errOnce
			}
			return w.handler(hctx, e)
		})
		process := func() error {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stop = cancel
			return c.Process(ctx, events[19])
		}
		for n := 0; process() != nil; n++ {
			require.Less(t, n, 100)
		}
		require.Empty(t, w.deadLetters(t))
		w.requireEffects(t, 1, 20)
	})
}
