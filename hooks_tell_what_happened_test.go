package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// told is what hooks were told, in order.
type told struct {
	mu    sync.Mutex
	lines []string
}

func (l *told) hooks() outbox.ConsumerOption {
	add := func(ctx context.Context, r outbox.Record, what string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.lines = append(l.lines, fmt.Sprintf("%s %s %d", what, r.ID, outbox.AttemptFromContext(ctx)))
	}
	return outbox.WithConsumerHooks(outbox.ConsumerHooks{
		Handled: func(ctx context.Context, r outbox.Record, _ time.Duration, err error) {
			if inContext, ok := outbox.RecordFromContext(ctx); !ok || inContext.ID != r.ID {
				panic("another record in the context")
			}
			if err != nil {
				add(ctx, r, "failed")
				return
			}
			add(ctx, r, "handled")
		},
		Duplicate: func(ctx context.Context, r outbox.Record) { add(ctx, r, "duplicate") },
	})
}

// take returns what was told since the last call.
func (l *told) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines = nil
	return lines
}

// A duplicate is told as a duplicate, whoever finds it: the memory of the process, the claim of a guarded handler, the commit of HandleTx, its
// mark alone, or the look after a handler that fails.
func TestHooksTellDuplicatesApart(t *testing.T) {
	for _, kind := range []string{"guarded", "HandleTx", "HandleTx without effects", "HandleTx whose second run fails"} {
		t.Run(kind, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newInboxWorld(t)
				defer w.Close()
				var l told
				runs := 0
				process := func() *outbox.Consumer {
					c := newConsumer(t, outbox.WithInbox(w.inbox(t, w.DynamoDB)), l.hooks())
					switch kind {
					case "guarded":
						outbox.Handle(c, func(context.Context, outbox.Event[orderCreated]) error { runs++; return nil })
					default:
						outbox.HandleTx(c, w.writer, func(_ context.Context, e outbox.Event[orderCreated]) (effects outbox.Effects, err error) {
							if runs++; runs > 1 && kind == "HandleTx whose second run fails" {
								err = errors.New("down")
							}
							if kind != "HandleTx without effects" {
								effects.Writes = []types.TransactWriteItem{countCommit(e.ID)}
							}
							return effects, err
						})
					}
					return c
				}
				first := process()
				require.NoError(t, first.Process(t.Context(), createdRecord("1")))
				require.Equal(t, []string{"handled 1 1"}, l.take())
				require.NoError(t, first.Process(t.Context(), createdRecord("1")))
				require.Equal(t, []string{"duplicate 1 1"}, l.take())
				require.Equal(t, 1, runs)
				time.Sleep(time.Second) // in one millisecond it would be the same transaction, with the same token
				require.NoError(t, process().Process(t.Context(), createdRecord("1")))
				require.Equal(t, []string{"duplicate 1 1"}, l.take())
			})
		})
	}
}

// A commit whose answer was lost, and which the SDK repeats, is no duplicate.
func TestAnEventWhoseCommitIsRepeatedIsHandled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newInboxWorld(t)
		defer w.Close()
		var l told
		client := w.client(&process{fates: map[int]string{1: "answer lost"}}, true)
		c := newConsumer(t, outbox.WithInbox(w.inbox(t, client)), l.hooks())
		writer := newWriter(t, client, outbox.WithWriterHooks(outbox.WriterHooks{Written: func(_ context.Context, i outbox.WriteInfo) {
			require.True(t, i.Duplicate)
		}}))
		outbox.HandleTx(c, writer, returnEffects(outbox.Effects{Writes: []types.TransactWriteItem{countCommit("1")}}))
		require.NoError(t, c.Process(t.Context(), createdRecord("1")))
		require.Equal(t, []string{"handled 1 1"}, l.take())
	})
}

// What keeps a handler from being called is told as a failure.
func TestHooksTellWhatKeptAHandlerFromRunning(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newInboxWorld(t)
		defer w.Close()
		w.claimedByOthers(t)
		var l told
		c := newConsumer(t, outbox.WithInbox(w.inbox(t, w.DynamoDB)), outbox.FailUnknownTypes(), l.hooks())
		outbox.Handle(c, ignoreOrder)
		require.ErrorIs(t, c.Process(t.Context(), createdRecord("1")), outbox.ErrClaimed)
		broken := createdRecord("2")
		broken.Payload = []byte("{")
		require.Error(t, c.Process(t.Context(), broken))
		require.Error(t, c.Process(t.Context(), rec("3", "a")))
		require.Equal(t, []string{"failed 1 1", "failed 2 1", "failed 3 0"}, l.take(), "nobody could be called for the last one")
	})
}

// Handlers, middleware and hooks know which call it is: in one delivery by Process and Invoke, in a redrive from the letter's attempts on.
func TestAHandlerKnowsWhichCallItIs(t *testing.T) {
	o := newOffice(t)
	var l told
	var seen []int
	broken := true
	c := newConsumer(t, outbox.WithDeadLetters(o.letters, outbox.WithInvokeAttempts(5)), l.hooks(),
		outbox.WithInvokeRetry(outbox.Retry{MaxAttempts: 2, BaseDelay: 1}),
		outbox.WithMiddleware(func(next outbox.Handler) outbox.Handler {
			return func(ctx context.Context, r outbox.Record) error {
				seen = append(seen, outbox.AttemptFromContext(ctx))
				return next(ctx, r)
			}
		}))
	outbox.HandleType(c, "T", func(ctx context.Context, _ outbox.Event[struct{}]) error {
		seen = append(seen, outbox.AttemptFromContext(context.WithoutCancel(ctx)))
		if broken {
			return errors.New("down")
		}
		return nil
	})
	require.Zero(t, outbox.AttemptFromContext(t.Context()))
	require.Equal(t, unfinished("s0"), o.invoke(t, c, changeRecord("1", "a")))
	require.Equal(t, []string{"failed 1 1", "failed 1 2"}, l.take())
	require.Equal(t, unfinished("s0"), o.invoke(t, c, changeRecord("1", "a")))
	require.Equal(t, []string{"failed 1 1", "failed 1 2"}, l.take(), "of this delivery")
	require.Equal(t, unfinished(""), o.invoke(t, c, changeRecord("1", "a")))
	require.Equal(t, []string{"failed 1 1", "failed 1 2"}, l.take())
	require.Equal(t, 6, o.list(t, outbox.DeadLetterFilter{})[0].Attempts)
	_, err := o.letters.Redrive(t.Context(), c, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
	require.NoError(t, err)
	broken = false
	_, err = o.letters.Redrive(t.Context(), c, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
	require.NoError(t, err)
	require.Equal(t, []string{"failed 1 7", "handled 1 8"}, l.take())
	require.Equal(t, []int{1, 1, 2, 2, 1, 1, 2, 2, 1, 1, 2, 2, 7, 7, 8, 8}, seen)
}

// A Worker counts on where the last one has stopped, and calls that are no attempts count for themselves.
func TestAWorkersHandlerKnowsWhichCallItIs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		f.oneShard(t)
		var l told
		life := 1
		start := func() running {
			c := newConsumer(t, outbox.WithTables("events"), l.hooks())
			outbox.Handle(c, func(ctx context.Context, e outbox.Event[orderCreated]) error {
				switch n := outbox.AttemptFromContext(ctx); {
				case n == 2:
					return outbox.Unavailable(errors.New("the mail server"))
				case life == 1 || n < 6:
					return errors.New("down")
				}
				return nil
			})
			w, err := outbox.NewWorker(f.Kinesis, "events", c, f.leases, outbox.WithHandlerRetry(outbox.Retry{BaseDelay: 30 * time.Second, MaxDelay: 30 * time.Second}))
			require.NoError(t, err)
			return runWorker(t, w)
		}
		r := start()
		f.put(t, "a", 1, 1)
		f.await(t, "called four times", time.Hour, func() bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.lines) == 4 })
		require.NoError(t, r.stop())
		require.Equal(t, []string{"failed a-0-0 1", "failed a-0-0 2", "failed a-0-0 3", "failed a-0-0 4"}, l.take())
		life = 2
		r = start()
		f.await(t, "handled", time.Hour, func() bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.lines) == 3 })
		require.NoError(t, r.stop())
		require.Equal(t, []string{"failed a-0-0 4", "failed a-0-0 5", "handled a-0-0 6"}, l.take(), "three failures are stored")
	})
}
