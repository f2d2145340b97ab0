package outbox_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// hanging sends requests that are never answered, for the operations it names once it is on.
type hanging struct {
	http.RoundTripper
	operations string
	on         atomic.Bool
	hung       atomic.Int32
}

func (h *hanging) RoundTrip(r *http.Request) (*http.Response, error) {
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	if !h.on.Load() || !strings.Contains(h.operations, operation) {
		return h.RoundTripper.RoundTrip(r)
	}
	h.hung.Add(1)
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// TestWhatIsWrittenAfterAHandlerEndsBeforeTheAnswer: whatever table hangs, Invoke and a redrive answer before their context's deadline. The
// time is that of a bubble.
func TestWhatIsWrittenAfterAHandlerEndsBeforeTheAnswer(t *testing.T) {
	const timeout = 10 * time.Second
	down := errors.New("down")
	after9s := func(result error) func(context.Context) error {
		return func(ctx context.Context) error {
			select {
			case <-time.After(9 * time.Second):
				return result
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	late, fails, hopeless := after9s(nil), after9s(down), after9s(outbox.Permanent(down))
	cutOff := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	succeeds := func(context.Context) error { return nil }
	invoke := func(ctx context.Context, c *outbox.Consumer, _ *outbox.DeadLetterTable) {
		answer, err := c.Invoke(ctx, kinesisEvent(changeRecord("1", "a")))
		if err != nil || len(answer) == 0 {
			panic("no answer")
		}
	}
	redrive := func(ctx context.Context, c *outbox.Consumer, letters *outbox.DeadLetterTable) {
		_, _ = letters.Redrive(ctx, c, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
	}
	answer := func(ctx context.Context, c *outbox.Consumer, letters *outbox.DeadLetterTable) {
		_, _ = letters.AnswerRedriveRequests(ctx, c)
	}
	for name, test := range map[string]struct {
		operations string // which hang
		handler    func(context.Context) error
		call       func(context.Context, *outbox.Consumer, *outbox.DeadLetterTable)
		guarded    bool
	}{
		"a mark after a success":             {"UpdateItem", late, invoke, true},
		"a claim that is given back":         {"DeleteItem", cutOff, invoke, true},
		"a claim":                            {"PutItem DeleteItem", succeeds, invoke, true},
		"an attempt":                         {"UpdateItem", fails, invoke, false},
		"an attempt that was cut off":        {"UpdateItem", cutOff, invoke, false},
		"the attempts of a hopeless event":   {"GetItem", hopeless, invoke, false},
		"a dead letter":                      {"TransactWriteItems PutItem", hopeless, invoke, false},
		"all of the tables after a failure":  {"UpdateItem DeleteItem TransactWriteItems PutItem", cutOff, invoke, true},
		"a letter that is removed":           {"TransactWriteItems DeleteItem", late, redrive, false},
		"a letter that failed, and its lock": {"UpdateItem", fails, redrive, false},
		"an attempt that a redrive cuts off": {"UpdateItem DeleteItem", cutOff, redrive, false},
		"a letter of a request":              {"TransactWriteItems DeleteItem UpdateItem", late, answer, false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				cloud := outboxtest.Start(t)
				defer cloud.Close()
				h := &hanging{RoundTripper: cloud.HTTPClient().Transport, operations: test.operations}
				client := dynamodb.NewFromConfig(cloud.Config(), func(o *dynamodb.Options) { o.HTTPClient = &http.Client{Transport: h} })
				inbox, err := outbox.NewInbox(client, "inbox", "mails")
				require.NoError(t, err)
				require.NoError(t, inbox.Create(t.Context()))
				letters, err := outbox.NewDeadLetterTable(client, "letters", "mails")
				require.NoError(t, err)
				require.NoError(t, letters.Create(t.Context()))
				opts := []outbox.ConsumerOption{outbox.WithDeadLetters(letters)}
				if test.guarded {
					opts = append(opts, outbox.WithInbox(inbox))
				}
				bury := newConsumer(t, outbox.WithDeadLetters(letters, outbox.WithInvokeAttempts(1)))
				outbox.HandleType(bury, "T", func(context.Context, outbox.Event[struct{}]) error { return down })
				require.NoError(t, bury.Process(t.Context(), rec("letter", "b")))
				_, err = letters.RequestRedrive(t.Context(), outbox.DeadLetterFilter{})
				require.NoError(t, err)

				c := newConsumer(t, opts...)
				outbox.HandleType(c, "T", func(ctx context.Context, _ outbox.Event[struct{}]) error {
					h.on.Store(true)
					return test.handler(ctx)
				})
				h.on.Store(name == "a claim")
				ctx, cancel := context.WithTimeout(t.Context(), timeout)
				defer cancel()
				test.call(ctx, c, letters)
				require.NoError(t, ctx.Err(), "the answer is late")
				require.Positive(t, h.hung.Load(), "nothing has hung")
			})
		})
	}
}

// TestInvokeLeavesNoHandlerRunning: a handler that ignores its context costs the answer.
func TestInvokeLeavesNoHandlerRunning(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, running := newConsumer(t), true
		outbox.HandleType(c, "T", func(context.Context, outbox.Event[struct{}]) error {
			time.Sleep(time.Minute)
			running = false
			return nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		answer, err := c.Invoke(ctx, kinesisEvent(changeRecord("1", "a")))
		require.NoError(t, err)
		require.Equal(t, unfinished(""), string(answer))
		require.False(t, running)
	})
}

// TestAHandlerThatCallsItsOwnConsumer gets an error instead of waiting for itself.
func TestAHandlerThatCallsItsOwnConsumer(t *testing.T) {
	f := newOffice(t)
	f.bury(t, 1, 1)
	type key struct{}
	other := newConsumer(t)
	outbox.HandleType(other, "through", func(ctx context.Context, _ outbox.Event[struct{}]) error {
		return ctx.Value(key{}).(*outbox.Consumer).Process(ctx, rec("2", "b"))
	})
	leases := new(outbox.MemoryLeases)
	for name, nested := range map[string]func(ctx context.Context, c *outbox.Consumer) error{
		"Process": func(ctx context.Context, c *outbox.Consumer) error { return c.Process(ctx, rec("2", "b")) },
		"Process, through another Consumer": func(ctx context.Context, c *outbox.Consumer) error {
			return other.Process(context.WithValue(ctx, key{}, c), outbox.Record{ID: "1", Type: "through", Payload: []byte(`{}`)})
		},
		"Invoke": func(ctx context.Context, c *outbox.Consumer) error {
			_, err := c.Invoke(ctx, kinesisEvent(changeRecord("2", "b")))
			return err
		},
		"Redrive": func(ctx context.Context, c *outbox.Consumer) error {
			_, err := f.letters.Redrive(ctx, c, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
			return err
		},
		"AnswerRedriveRequests": func(ctx context.Context, c *outbox.Consumer) error {
			_, err := f.letters.AnswerRedriveRequests(ctx, c)
			return err
		},
		"Run": func(ctx context.Context, c *outbox.Consumer) error {
			w, err := outbox.NewWorker(f.Kinesis, "events", c, leases)
			require.NoError(t, err)
			return w.Run(ctx)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var c *outbox.Consumer
			var inHandler, inHook, inSkipped error
			c = newConsumer(t, outbox.WithConcurrency(1), outbox.WithConsumerHooks(outbox.ConsumerHooks{
				Handled: func(ctx context.Context, _ outbox.Record, _ time.Duration, _ error) { inHook = nested(ctx, c) },
				Skipped: func(ctx context.Context, _ outbox.Record, _ error) { inSkipped = nested(ctx, c) },
			}))
			outbox.HandleType(c, "T", func(ctx context.Context, e outbox.Event[struct{}]) error {
				inHandler = nested(ctx, c)
				return nil
			})
			require.NoError(t, c.Process(t.Context(), rec("1", "a")))
			require.ErrorContains(t, inHandler, "called by a handler or hook of the same Consumer")
			require.ErrorContains(t, inHook, "called by a handler or hook of the same Consumer")
			_, err := c.Invoke(t.Context(), kinesisEvent(`{"no":"event"}`))
			require.NoError(t, err)
			require.ErrorContains(t, inSkipped, "called by a handler or hook of the same Consumer")
		})
	}
	c := newConsumer(t)
	outbox.HandleType(c, "T", func(ctx context.Context, _ outbox.Event[struct{}]) error {
		return newConsumer(t).Process(ctx, rec("2", "b")) // another one is fine
	})
	require.NoError(t, c.Process(t.Context(), rec("1", "a")))
}
