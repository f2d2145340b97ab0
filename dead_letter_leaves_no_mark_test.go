package outbox_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// eachKind runs a test for HandleTx and for a guarded handler.
func eachKind(t *testing.T, f func(t *testing.T, a *inboxWithLetters, tx bool)) {
	for _, tx := range []bool{true, false} {
		t.Run(map[bool]string{true: "HandleTx", false: "guarded"}[tx], func(t *testing.T) { f(t, newInboxWithLetters(t), tx) })
	}
}

// requireEffects checks how often the effects of event "1" were committed.
func (a *inboxWithLetters) requireEffects(t *testing.T, n int) {
	t.Helper()
	want := map[int]string{0: "", 1: "1"}[n]
	require.Equal(t, want, textOf(a.row(t, "orders", "orderId", "1"), "commits"))
	require.Len(t, a.all(t, "events"), n)
}

// A delivery that meets the claim of another one is no attempt, in Process and in Invoke.
func TestWaitingForAClaimIsNoAttempt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a := newInboxWithLetters(t)
		defer a.Close()
		started := make(chan struct{})
		first := a.guard(t, &process{}, func(context.Context, outbox.Event[orderCreated]) error {
			close(started)
			time.Sleep(10 * time.Second)
			return errNoStock
		})
		done := make(chan error)
		go func() { done <- first.Process(t.Context(), createdRecord("1")) }()
		<-started
		runs := 0
		second := newConsumer(t, outbox.WithInbox(a.inbox(t, a.DynamoDB)), outbox.WithDeadLetters(a.letters, outbox.WithInvokeAttempts(1)))
		outbox.Handle(second, func(context.Context, outbox.Event[orderCreated]) error { runs++; return nil })
		many := newConsumer(t, outbox.WithInbox(a.inbox(t, a.DynamoDB)), outbox.WithDeadLetters(a.letters, outbox.WithInvokeAttempts(2)))
		outbox.Handle(many, ignoreOrder)
		for range 3 {
			require.ErrorIs(t, second.Process(t.Context(), createdRecord("1")), outbox.ErrClaimed)
			require.ErrorIs(t, many.Process(t.Context(), createdRecord("1")), outbox.ErrClaimed)
			got, err := second.Invoke(t.Context(), kinesisEvent(orderChange("1")))
			require.NoError(t, err)
			require.Equal(t, unfinished("s0"), string(got))
		}
		require.Empty(t, a.all(t, "letters"), "neither letters nor counted attempts")
		require.ErrorIs(t, <-done, errNoStock)
		require.NoError(t, second.Process(t.Context(), createdRecord("1")))
		require.Equal(t, 1, runs)
	})
}

// orderChange is the change record of createdRecord(id).
func orderChange(id string) string {
	return fmt.Sprintf(`{"eventName":"INSERT","tableName":"events","dynamodb":{"NewImage":{"eventId":{"S":%q},"type":{"S":"ORDER_CREATED"},`+
		`"aggregateId":{"S":%q},"timestamp":{"N":"1719347890250"},"payload":{"S":"{\"orderId\":\"x\"}"}}}}`, id, "order-"+id)
}

// What a handler refuses for good is a dead letter after one attempt, and has neither effects nor a mark: nothing but a redrive gives
// it them.
func TestADeadLetterIsNotMarkedAsHandled(t *testing.T) {
	eachKind(t, func(t *testing.T, a *inboxWithLetters, tx bool) {
		require.NoError(t, a.consumer(t, tx).Process(t.Context(), createdRecord("1")))
		l, err := a.letters.Get(t.Context(), "order-1#1")
		require.NoError(t, err)
		require.Equal(t, 1, l.Attempts)
		require.Contains(t, l.Error, "out of stock")
		require.False(t, l.Parked)
		require.Nil(t, a.mark(t, "1"))
		a.requireEffects(t, 0)

		// A second delivery waits behind it, and is the same letter.
		require.NoError(t, a.consumer(t, tx).Process(t.Context(), createdRecord("1")))
		require.Equal(t, 1, a.runs)
		a.repaired = true
		done, err := a.letters.Redrive(t.Context(), a.consumer(t, tx), outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
		require.NoError(t, err)
		require.Equal(t, outbox.RedriveResult{Redriven: 1}, done)
		require.Equal(t, 2, a.runs)
		require.NotEmpty(t, textOf(a.mark(t, "1"), "handledAt"))
		require.NoError(t, a.consumer(t, tx).Process(t.Context(), createdRecord("1")))
		if tx {
			a.requireEffects(t, 1)
		} else {
			require.Equal(t, 2, a.runs)
		}
		require.Empty(t, a.all(t, "letters"))
	})
}

// A redrive that crashes before it removes the letter, and is made again, has no second effect.
func TestARepeatedRedriveHasNoSecondEffect(t *testing.T) {
	eachKind(t, func(t *testing.T, a *inboxWithLetters, tx bool) {
		require.NoError(t, a.consumer(t, tx).Process(t.Context(), createdRecord("1")))
		a.repaired, a.runs = true, 0
		client := &refusingClient{DeadLetterClient: a.DynamoDB, operation: "TransactWriteItems"} // which removes letters
		client.refuse.Store(true)
		for range 3 {
			done, err := a.lettersOf(t, client).Redrive(t.Context(), a.consumer(t, tx), outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
			require.ErrorContains(t, err, "remove order-1#1")
			require.Zero(t, done)
			_, err = a.letters.Get(t.Context(), "order-1#1")
			require.NoError(t, err)
		}
		done, err := a.letters.Redrive(t.Context(), a.consumer(t, tx), outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
		require.NoError(t, err)
		require.Equal(t, outbox.RedriveResult{Redriven: 1}, done)
		require.Empty(t, a.all(t, "letters"))
		if tx {
			a.requireEffects(t, 1)
		} else {
			require.Equal(t, 1, a.runs)
		}
	})
}

// A redrive that meets a claim on the event leaves the letter as it is.
func TestARedriveDoesNotCountWaitingForAClaim(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a := newInboxWithLetters(t)
		defer a.Close()
		require.NoError(t, a.consumer(t, false).Process(t.Context(), createdRecord("1")))
		before, err := a.letters.Get(t.Context(), "order-1#1")
		require.NoError(t, err)
		a.repaired = true
		started := make(chan struct{})
		busy := a.guard(t, &process{}, func(context.Context, outbox.Event[orderCreated]) error {
			close(started)
			time.Sleep(10 * time.Second)
			return nil
		})
		done := make(chan error)
		go func() { done <- busy.Process(t.Context(), createdRecord("1")) }()
		<-started
		result, err := a.letters.Redrive(t.Context(), a.consumer(t, false), outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
		require.NoError(t, err)
		require.Equal(t, outbox.RedriveResult{Busy: 1}, result)
		after, err := a.letters.Get(t.Context(), "order-1#1")
		require.NoError(t, err)
		require.Equal(t, before, after)
		require.NoError(t, <-done)
		result, err = a.letters.Redrive(t.Context(), a.consumer(t, false), outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
		require.NoError(t, err)
		require.Equal(t, outbox.RedriveResult{Redriven: 1}, result)
		require.Equal(t, 1, a.runs, "the one that was refused")
	})
}

// Effects that cannot be committed are failures like any other: counted, and then a dead letter.
func TestEffectsThatCannotBeCommittedBecomeADeadLetter(t *testing.T) {
	a := newInboxWithLetters(t)
	require.NoError(t, a.writer.Put(t.Context(), "orders", order{"taken"}, event("taken")))
	for attempt := 1; attempt <= 3; attempt++ {
		c := newConsumer(t, outbox.WithInbox(a.inbox(t, a.DynamoDB)), outbox.WithDeadLetters(a.letters, outbox.WithInvokeAttempts(3)))
		outbox.HandleTx(c, a.writer, returnEffects(outbox.Effects{Events: []outbox.AnyEvent{outbox.Event[int]{ID: "taken", Type: "T"}}}))
		err := c.Process(t.Context(), createdRecord("1"))
		if attempt < 3 {
			require.ErrorIs(t, err, outbox.ErrEventConflict)
			continue
		}
		require.NoError(t, err)
	}
	l, err := a.letters.Get(t.Context(), "order-1#1")
	require.NoError(t, err)
	require.Equal(t, 3, l.Attempts)
	require.Contains(t, l.Error, "is taken by a different event")
	require.Nil(t, a.mark(t, "1"))
}

// Middleware sees redriven events like delivered ones, with their record in the context, and may refuse them.
func TestMiddlewareSeesRedrivenEvents(t *testing.T) {
	eachKind(t, func(t *testing.T, a *inboxWithLetters, tx bool) {
		refuse := false
		var seen []string
		c := a.consumer(t, tx, outbox.WithMiddleware(func(next outbox.Handler) outbox.Handler {
			return func(ctx context.Context, r outbox.Record) error {
				inContext, ok := outbox.RecordFromContext(ctx)
				require.True(t, ok)
				require.Equal(t, r, inContext)
				if refuse {
					return errors.New("not now")
				}
				err := next(ctx, r)
				seen = append(seen, fmt.Sprint(r.ID, r.ShardID, r.SequenceNumber, errors.Is(err, errNoStock)))
				return err
			}
		}))
		r := createdRecord("1")
		r.ShardID, r.SequenceNumber = "shard", "7"
		require.NoError(t, c.Process(t.Context(), r))
		a.repaired, refuse = true, true
		done, err := a.letters.Redrive(t.Context(), c, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
		require.NoError(t, err)
		require.Equal(t, outbox.RedriveResult{Failed: 1}, done)
		require.Equal(t, 1, a.runs)
		refuse = false
		done, err = a.letters.Redrive(t.Context(), c, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
		require.NoError(t, err)
		require.Equal(t, outbox.RedriveResult{Redriven: 1}, done)
		require.Equal(t, []string{"1shard7true", "1shard7false"}, seen)
		require.Equal(t, 2, a.runs)
	})
}

// An outage of the inbox, or of the tables of the effects, is no attempt at the events: they are not dead letters when it ends.
func TestAnOutageOfTheInboxMakesNoDeadLetters(t *testing.T) { bubble(t, anOutageOfTheInbox) }

// commitsFail is a Writer's client whose transactions fail for a while.
type commitsFail struct {
	*dynamodb.Client
	err error
}

func (c *commitsFail) TransactWriteItems(ctx context.Context, in *dynamodb.TransactWriteItemsInput, opts ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error) {
	if c.err != nil {
		return nil, c.err
	}
	return c.Client.TransactWriteItems(ctx, in, opts...)
}

func anOutageOfTheInbox(t *testing.T) {
	o := newOffice(t)
	defer o.Close()
	o.CreateTable(t, "events", "eventId")
	commits := &commitsFail{Client: o.DynamoDB}
	inbox, err := outbox.NewInbox(o.DynamoDB, "inbox", "mails")
	require.NoError(t, err)
	require.NoError(t, inbox.Create(t.Context()))
	writer, err := outbox.NewWriter(commits, "events")
	require.NoError(t, err)
	c := newConsumer(t, outbox.WithDeadLetters(o.letters, outbox.WithInvokeAttempts(1)), outbox.WithInbox(inbox))
	outbox.HandleType(c, "T", o.handle)
	outbox.HandleTxType(c, writer, "U", func(context.Context, outbox.Event[struct{}]) (outbox.Effects, error) { return outbox.Effects{}, nil })
	outbox.HandleTxType(c, writer, "V", func(_ context.Context, e outbox.Event[struct{}]) (outbox.Effects, error) {
		return outbox.Effects{Events: []outbox.AnyEvent{outbox.NewEvent(e.ID, orderCreated{})}}, nil
	})
	failing := true
	outbox.HandleTxType(c, writer, "W", func(context.Context, outbox.Event[struct{}]) (outbox.Effects, error) {
		if failing { // perhaps because of what a run has done before: the inbox knows, when it can be asked
			return outbox.Effects{}, outbox.Permanent(errors.New("it is there already"))
		}
		return outbox.Effects{}, nil
	})
	for down, err := range map[outboxtest.FaultKind]error{
		outboxtest.ServerError: errors.New("connection reset by peer"), outboxtest.Throttle: canceled(reason("ThrottlingError"), reason("None")),
	} {
		for eventType, operation := range map[string]string{"T": "PutItem", "U": "PutItem", "V": "", "W": "GetItem"} {
			r := rec(eventType+string(down), "a")
			r.Type = eventType
			failing = true
			if operation == "" {
				commits.err = err
			} else {
				require.NoError(t, o.SetFaults(outboxtest.Fault{Kind: down, Service: "DynamoDB", Operation: operation, Probability: 1}))
			}
			require.Error(t, c.Process(t.Context(), r))
			commits.err = nil
			o.StopFaults()
			require.Empty(t, o.ids(t), "%s %s", eventType, down)
			failing = false
			require.NoError(t, c.Process(t.Context(), r))
		}
	}
	require.Len(t, o.handled, 2)
}

// An event that was handled is no letter when it comes again behind a letter of its aggregate, as Lambda delivers a batch again: it is a
// duplicate. If the inbox cannot be asked, the event is parked, and a redrive finds the mark.
func TestWhatWasHandledIsNotParked(t *testing.T) {
	for _, tx := range []bool{false, true} {
		for name, test := range map[string]struct {
			calls []string // of the second delivery, to the inbox
			opts  []string // the guarded types
			same  bool     // process
			down  bool
			want  []string
		}{
			"to the same process":                   {same: true, want: []string{"a#2"}},
			"to another process":                    {calls: []string{"GetItem"}, want: []string{"a#2"}},
			"to a process whose inbox is down":      {calls: []string{"GetItem"}, down: true, want: []string{"a#2", "a#1"}},
			"to a handler that is not guarded here": {opts: []string{"OTHER"}, want: []string{"a#2", "a#1"}},
		} {
			if tx && test.opts != nil {
				continue // a handler of HandleTx always asks
			}
			t.Run(fmt.Sprintf("%s, tx %t", name, tx), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					a := newInboxWithLetters(t)
					defer a.Close()
					var told []string
					var log bytes.Buffer
					consumer := func(p *process, types ...string) *outbox.Consumer {
						c := newConsumer(t, outbox.WithInbox(a.inbox(t, a.client(p, false)), types...), outbox.WithDeadLetters(a.letters),
							outbox.WithLogger(slog.New(slog.NewTextHandler(&log, nil))),
							outbox.WithConsumerHooks(outbox.ConsumerHooks{
								Duplicate: func(ctx context.Context, r outbox.Record) {
									told = append(told, fmt.Sprint(r.ID, " ", outbox.AttemptFromContext(ctx)))
								},
							}))
						fail := func(id string) error {
							if id == "2" {
								return outbox.Permanent(errNoStock)
							}
							return nil
						}
						if tx {
							outbox.HandleTx(c, a.writer, func(_ context.Context, e outbox.Event[orderCreated]) (outbox.Effects, error) {
								return outbox.Effects{}, fail(e.ID)
							})
						} else {
							outbox.Handle(c, func(_ context.Context, e outbox.Event[orderCreated]) error { return fail(e.ID) })
						}
						return c
					}
					first, second := createdRecord("1"), createdRecord("2")
					first.AggregateID, second.AggregateID = "a", "a"
					p := &process{}
					c := consumer(p)
					require.NoError(t, c.Process(t.Context(), first, second))
					if !test.same {
						p = &process{}
						c = consumer(p, test.opts...)
					}
					before := len(p.calls())
					if test.down {
						p.fates = map[int]string{1: "broken"}
					}
					require.NoError(t, c.Process(t.Context(), first))
					require.ElementsMatch(t, test.calls, p.calls()[before:])
					require.Equal(t, test.down, strings.Contains(log.String(), "the inbox cannot be asked"), log.String())
					var have []string
					for l, err := range a.letters.List(t.Context(), outbox.DeadLetterFilter{}) {
						require.NoError(t, err)
						have = append(have, l.ID)
					}
					require.ElementsMatch(t, test.want, have)
					if len(test.want) == 1 {
						require.Equal(t, []string{"1 0"}, told)
					} else {
						require.Empty(t, told)
					}
				})
			})
		}
	}
}
