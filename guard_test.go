package outbox_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

func TestAClaimBecomesTheMarkAfterTheHandler(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newInboxWorld(t)
		defer w.Close()
		p := &process{}
		c := w.guard(t, p, func(ctx context.Context, e outbox.Event[orderCreated]) error {
			claim := w.mark(t, e.ID)
			require.NotEmpty(t, textOf(claim, "owner"))
			delete(claim, "owner")
			require.Equal(t, values{"eventId": str("1"), "consumer": str("mails#events"), "type": str("ORDER_CREATED"), "aggregateId": str("order-1"),
				"claimedUntil": num("946684860000"), "expiresAt": num("949276800")}, claim, "for a minute")
			deadline, ok := ctx.Deadline()
			require.True(t, ok)
			require.Equal(t, 59*time.Second, time.Until(deadline))
			r, ok := outbox.RecordFromContext(ctx)
			require.True(t, ok)
			require.Equal(t, e.ID, r.ID)
			time.Sleep(10 * time.Second)
			return nil
		})
		require.NoError(t, c.Process(t.Context(), createdRecord("1")))
		require.Equal(t, []string{"PutItem", "UpdateItem"}, p.calls())
		mark := w.mark(t, "1")
		delete(mark, "owner")
		require.Equal(t, values{"eventId": str("1"), "consumer": str("mails#events"), "type": str("ORDER_CREATED"), "aggregateId": str("order-1"),
			"handledAt": num("946684810000"), "expiresAt": num("949276810")}, mark)
	})
}

func TestADuplicateOfAGuardedEventCostsNoCallOrOne(t *testing.T) {
	w := newInboxWorld(t)
	for _, cache := range []int{10, 0} {
		id := fmt.Sprint(cache)
		runs := 0
		p := &process{}
		c := w.guard(t, p, func(context.Context, outbox.Event[orderCreated]) error { runs++; return nil }, outbox.WithInboxCache(cache))
		for range 3 {
			require.NoError(t, c.Process(t.Context(), createdRecord(id)))
		}
		require.Equal(t, 1, runs)
		if cache > 0 {
			require.Equal(t, []string{"PutItem", "UpdateItem"}, p.calls())
		} else {
			require.Equal(t, []string{"PutItem", "UpdateItem", "PutItem", "PutItem"}, p.calls())
		}
		p = &process{}
		c = w.guard(t, p, func(context.Context, outbox.Event[orderCreated]) error { runs++; return nil }, outbox.WithInboxCache(cache))
		for range 3 {
			require.NoError(t, c.Process(t.Context(), createdRecord(id)))
		}
		require.Equal(t, 1, runs)
		require.Len(t, p.calls(), map[int]int{10: 1, 0: 3}[cache], "another process")
	}
}

func TestAFailedGuardedHandlerGivesItsClaimBack(t *testing.T) {
	w := newInboxWorld(t)
	own := errors.New("down")
	wrapped := fmt.Errorf("mine: %w", &types.ConditionalCheckFailedException{Item: values{"handledAt": num("1")}})
	for name, h := range map[string]func() error{
		"error":                  func() error { return own },
		"permanent error":        func() error { return outbox.Permanent(own) },
		"a condition of its own": func() error { return wrapped },
		"panic":                  func() error { panic("no") },
		"Goexit":                 func() error { runtime.Goexit(); return nil },
	} {
		p := &process{}
		c := w.guard(t, p, func(context.Context, outbox.Event[orderCreated]) error { return h() })
		err := c.Process(t.Context(), createdRecord("1"))
		failures := (*outbox.ProcessError)(nil)
		require.ErrorAsf(t, err, &failures, name)
		switch got := failures.Failures[0].Err; name {
		case "error":
			require.ErrorIs(t, got, own)
		case "permanent error":
			require.ErrorIs(t, got, own)
			require.ErrorIs(t, got, outbox.ErrPermanent)
		case "a condition of its own":
			require.ErrorIs(t, got, wrapped)
		case "panic":
			panicked := (*outbox.PanicError)(nil)
			require.ErrorAs(t, got, &panicked)
			require.Contains(t, string(panicked.Stack), "guard_test.go", "where it panicked")
		}
		require.Equalf(t, []string{"PutItem", "DeleteItem"}, p.calls(), name)
		require.Nilf(t, w.mark(t, "1"), name)
	}
	p := &process{}
	c := w.guard(t, p, ignoreOrder)
	undecodable := createdRecord("1")
	undecodable.Payload = []byte(`{`)
	require.ErrorIs(t, c.Process(t.Context(), undecodable), outbox.ErrPermanent)
	require.Nil(t, w.mark(t, "1"))
	require.NoError(t, c.Process(t.Context(), createdRecord("1")))
	require.NoError(t, c.Process(t.Context(), undecodable), "it was handled")
}

// While one delivery is being handled, another fails, says until when, and does not run.
func TestAClaimedEventWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newInboxWorld(t)
		defer w.Close()
		started, finish := make(chan struct{}), make(chan struct{})
		end := sync.OnceFunc(func() { close(finish) })
		defer end()
		slow := w.guard(t, &process{}, func(context.Context, outbox.Event[orderCreated]) error {
			close(started)
			<-finish
			return nil
		})
		done := make(chan error, 1)
		go func() { done <- slow.Process(t.Context(), createdRecord("1")) }()
		<-started
		time.Sleep(10 * time.Second)
		var logs bytes.Buffer
		other, err := outbox.NewConsumer(outbox.WithInbox(w.inbox(t, w.DynamoDB)), outbox.WithLogger(slog.New(slog.NewTextHandler(&logs, nil))))
		require.NoError(t, err)
		outbox.Handle(other, func(context.Context, outbox.Event[orderCreated]) error { return errors.New("it ran") })
		err = other.Process(t.Context(), createdRecord("1"))
		require.ErrorIs(t, err, outbox.ErrClaimed)
		require.NotErrorIs(t, err, outbox.ErrPermanent)
		require.ErrorContains(t, err, `another delivery of the event is being handled: event "1" is claimed until 2000-01-01T00:01:00Z`)
		require.Contains(t, logs.String(), "level=INFO")
		require.NotContains(t, logs.String(), "level=ERROR")
		for _, effects := range []outbox.Effects{{}, {Writes: []types.TransactWriteItem{countCommit("1")}}} {
			require.ErrorIs(t, w.tx(t, &process{}, returnEffects(effects)).Process(t.Context(), createdRecord("1")), outbox.ErrClaimed, "HandleTx heeds a claim")
		}
		failing := w.tx(t, &process{}, func(context.Context, outbox.Event[orderCreated]) (outbox.Effects, error) {
			return outbox.Effects{}, errors.New("down")
		})
		require.ErrorContains(t, failing.Process(t.Context(), createdRecord("1")), "down", "a claim is no mark")
		end()
		require.NoError(t, <-done)
		require.NoError(t, other.Process(t.Context(), createdRecord("1")))
		w.requireRows(t, 0, 0)
	})
}

// An owner that outlives its claim does not complete it once another has taken it over.
func TestASlowOwnerNeverCompletesAnothersClaim(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newInboxWorld(t)
		defer w.Close()
		hold := map[string]chan error{"first": make(chan error), "second": make(chan error)}
		done := map[string]chan error{}
		var logs bytes.Buffer
		for name := range hold {
			done[name] = make(chan error)
		}
		start := func(name string) {
			c, err := outbox.NewConsumer(outbox.WithInbox(w.inbox(t, w.DynamoDB)), outbox.WithLogger(slog.New(slog.NewTextHandler(&logs, nil))))
			require.NoError(t, err)
			outbox.Handle(c, func(ctx context.Context, _ outbox.Event[orderCreated]) error {
				<-ctx.Done() // and goes on
				return <-hold[name]
			})
			go func() { done[name] <- c.Process(t.Context(), createdRecord("1")) }()
		}
		start("first")
		time.Sleep(61 * time.Second)
		start("second")
		time.Sleep(time.Second)
		second := textOf(w.mark(t, "1"), "owner")
		hold["first"] <- nil
		require.NoError(t, <-done["first"], "its effect has happened")
		require.Contains(t, logs.String(), "an event was handled, and is not marked as handled")
		require.Equal(t, second, textOf(w.mark(t, "1"), "owner"), "the second's claim is as it was")
		require.Empty(t, textOf(w.mark(t, "1"), "handledAt"))
		time.Sleep(65 * time.Second)
		hold["second"] <- errors.New("down")
		require.Error(t, <-done["second"])
		require.Nil(t, w.mark(t, "1"))
	})
}

// A failing first owner does not release the claim of the second either; an owner whose claim nobody took completes it, late as it is.
func TestAClaimIsItsOwnersEvenLate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newInboxWorld(t)
		defer w.Close()
		release := make(chan error)
		c := w.guard(t, &process{}, func(context.Context, outbox.Event[orderCreated]) error { return <-release })
		done := make(chan error)
		go func() { done <- c.Process(t.Context(), createdRecord("1")) }()
		time.Sleep(2 * time.Minute)
		release <- nil
		require.NoError(t, <-done)
		require.NotEmpty(t, textOf(w.mark(t, "1"), "handledAt"))

		go func() { done <- c.Process(t.Context(), createdRecord("2")) }()
		time.Sleep(2 * time.Minute)
		other := w.guard(t, &process{}, func(context.Context, outbox.Event[orderCreated]) error {
			release <- errors.New("down")
			require.Error(t, <-done)
			require.NotEmpty(t, textOf(w.mark(t, "2"), "owner"), "still claimed")
			return nil
		})
		require.NoError(t, other.Process(t.Context(), createdRecord("2")))
		require.NotEmpty(t, textOf(w.mark(t, "2"), "handledAt"))
	})
}

// The handler's context ends before its claim does, and the claim no later than the delivery's context.
func TestTheHandlersContextEndsBeforeItsClaim(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newInboxWorld(t)
		defer w.Close()
		for n, c := range []struct {
			deadline              time.Duration // of the delivery; 0 is none
			options               []outbox.InboxOption
			wantClaim, wantHandle time.Duration
		}{
			{0, nil, time.Minute, 59 * time.Second},
			{0, []outbox.InboxOption{outbox.WithClaimDuration(time.Hour)}, time.Hour, time.Hour - time.Second},
			{0, []outbox.InboxOption{outbox.WithClaimDuration(time.Second)}, time.Second, 900 * time.Millisecond},
			{5 * time.Minute, nil, 5 * time.Minute, 5*time.Minute - time.Second},
			{5 * time.Second, nil, 5 * time.Second, 4500 * time.Millisecond},
			{24 * time.Hour, nil, 90 * time.Minute, 90*time.Minute - time.Second},
			{89 * time.Minute, nil, 89 * time.Minute, 89*time.Minute - time.Second},
			{24 * time.Hour, []outbox.InboxOption{outbox.WithClaimDuration(2 * time.Hour)}, 2 * time.Hour, 2*time.Hour - time.Second},
			{5 * time.Minute, []outbox.InboxOption{outbox.WithClaimDuration(time.Hour)}, 5 * time.Minute, 5*time.Minute - time.Second},
		} {
			ctx, cancel := t.Context(), func() {}
			if c.deadline > 0 {
				ctx, cancel = context.WithTimeout(ctx, c.deadline)
			}
			now := time.Now()
			consumer := w.guard(t, &process{}, func(ctx context.Context, e outbox.Event[orderCreated]) error {
				deadline, _ := ctx.Deadline()
				require.Equal(t, c.wantHandle, deadline.Sub(now))
				require.Equal(t, fmt.Sprint(now.Add(c.wantClaim).UnixMilli()), textOf(w.mark(t, e.ID), "claimedUntil"))
				return nil
			}, c.options...)
			require.NoError(t, consumer.Process(ctx, createdRecord(fmt.Sprint(n))))
			cancel()
		}
		// A context that has ended, and one that ends while the claim is made.
		ctx, cancel := context.WithCancel(t.Context())
		p := &process{}
		c := w.guard(t, p, func(context.Context, outbox.Event[orderCreated]) error { return errors.New("it ran") })
		p.next = cancelling{p.next, cancel}
		err := c.Process(ctx, createdRecord("x"))
		require.ErrorIs(t, err, context.Canceled)
		require.NotContains(t, err.Error(), "it ran")
		require.Nil(t, w.mark(t, "x"), "given back")
	})
}

// What cannot be marked after its effect is a success, and this process remembers it.
func TestAnEffectThatCannotBeMarkedIsASuccess(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newInboxWorld(t)
		defer w.Close()
		var logs bytes.Buffer
		p := &process{}
		c, err := outbox.NewConsumer(outbox.WithInbox(w.inbox(t, w.client(p, true))), outbox.WithLogger(slog.New(slog.NewTextHandler(&logs, nil))))
		require.NoError(t, err)
		runs := 0
		outbox.Handle(c, func(context.Context, outbox.Event[orderCreated]) error {
			runs++
			p.mu.Lock()
			p.dead = true
			p.mu.Unlock()
			return nil
		})
		began := time.Now()
		require.NoError(t, c.Process(t.Context(), createdRecord("1")))
		require.LessOrEqual(t, time.Since(began), 10*time.Second)
		require.Equal(t, 1, strings.Count(logs.String(), "level=WARN"))
		require.Contains(t, logs.String(), "not marked as handled")
		require.NoError(t, c.Process(t.Context(), createdRecord("1")))
		require.Equal(t, 1, runs)
	})
}

func TestWhichHandlersAreGuarded(t *testing.T) {
	w := newInboxWorld(t)
	for _, c := range []struct {
		types []string
		want  map[string]bool
	}{
		{nil, map[string]bool{"A": true, "B": true}},
		{[]string{"B", "TX"}, map[string]bool{"A": false, "B": true}},
	} {
		p := &process{}
		consumer := newConsumer(t, outbox.WithInbox(w.inbox(t, w.client(p, true)), c.types...))
		for _, eventType := range []string{"A", "B"} {
			outbox.HandleType(consumer, eventType, func(ctx context.Context, _ outbox.Event[struct{}]) error {
				_, hasDeadline := ctx.Deadline()
				require.Equal(t, c.want[eventType], hasDeadline)
				return nil
			})
		}
		outbox.HandleTxType(consumer, w.writer, "TX", func(ctx context.Context, _ outbox.Event[struct{}]) (outbox.Effects, error) {
			_, hasDeadline := ctx.Deadline()
			require.False(t, hasDeadline, "HandleTx needs no claim")
			return outbox.Effects{}, nil
		})
		for _, eventType := range []string{"A", "B", "TX"} {
			before := len(p.calls())
			require.NoError(t, consumer.Process(t.Context(), outbox.Record{ID: fmt.Sprint(eventType, len(c.types)), Type: eventType}))
			require.Equal(t, map[string]int{"A": 2, "B": 2, "TX": 1}[eventType]*map[bool]int{true: 1}[eventType == "TX" || c.want[eventType]], len(p.calls())-before, eventType)
		}
	}
}

// A type that is to be guarded and has no handler is told, once, when events come.
func TestAGuardedTypeWithoutAHandlerIsTold(t *testing.T) {
	w := newInboxWorld(t)
	var logs bytes.Buffer
	c, err := outbox.NewConsumer(outbox.WithInbox(w.inbox(t, w.DynamoDB), "A", "ORDER_CREATD", "TX"), outbox.WithLogger(slog.New(slog.NewTextHandler(&logs, nil))))
	require.NoError(t, err)
	outbox.HandleType(c, "A", func(context.Context, outbox.Event[struct{}]) error { return nil })
	outbox.HandleTxType(c, w.writer, "TX", func(context.Context, outbox.Event[struct{}]) (outbox.Effects, error) { return outbox.Effects{}, nil })
	outbox.Handle(c, ignoreOrder)
	for range 2 {
		require.NoError(t, c.Process(t.Context(), createdRecord("1")))
	}
	require.Equal(t, 1, strings.Count(logs.String(), "level=ERROR"), logs.String())
	require.Contains(t, logs.String(), "WithInbox names an event type that has no handler")
	require.Contains(t, logs.String(), "type=ORDER_CREATD")
}

// The guard is inside the middleware, which sees every delivery.
func TestMiddlewareSeesDeliveriesThatTheGuardFinishes(t *testing.T) {
	w := newInboxWorld(t)
	seen, runs := 0, 0
	c := newConsumer(t, outbox.WithInbox(w.inbox(t, w.DynamoDB)), outbox.WithMiddleware(func(next outbox.Handler) outbox.Handler {
		return func(ctx context.Context, r outbox.Record) error {
			seen++
			require.Nil(t, w.mark(t, "none"))
			return next(ctx, r)
		}
	}))
	outbox.Handle(c, func(context.Context, outbox.Event[orderCreated]) error { runs++; return nil })
	for range 3 {
		require.NoError(t, c.Process(t.Context(), createdRecord("1")))
	}
	require.Equal(t, 3, seen)
	require.Equal(t, 1, runs)
}

// Two consumers get every event at the same time, and nothing crashes: every event is handled once.
func TestTwoGuardsAtOnceRunOnce(t *testing.T) {
	w := newInboxWorld(t)
	const events = 1000
	runs := make([]atomic.Int32, events)
	index := func(id string) (i int) { _, _ = fmt.Sscan(id, &i); return i }
	var wg sync.WaitGroup
	for range 2 {
		c := w.guard(t, &process{}, func(_ context.Context, e outbox.Event[orderCreated]) error {
			runs[index(e.ID)].Add(1)
			return nil
		})
		wg.Go(func() {
			for i := range events {
				for {
					err := c.Process(t.Context(), createdRecord(fmt.Sprint(i)))
					if errors.Is(err, outbox.ErrClaimed) {
						time.Sleep(100 * time.Microsecond)
						continue
					}
					if err != nil {
						t.Errorf("event %d: %v", i, err)
					}
					break
				}
			}
		})
	}
	wg.Wait()
	for i := range runs {
		require.Equal(t, int32(1), runs[i].Load(), i)
	}
	rows := w.all(t, "inbox")
	require.Len(t, rows, events)
	for _, row := range rows {
		require.NotEmpty(t, textOf(row, "handledAt"))
	}
}

// A claim that a crash left behind gives way to HandleTx, too, once its time has passed.
func TestAnAbandonedClaimGivesWay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newInboxWorld(t)
		defer w.Close()
		for i, effects := range []outbox.Effects{{}, {Writes: []types.TransactWriteItem{countCommit("1")}}} {
			id := fmt.Sprint(i)
			p := &process{killAt: 2}
			_ = w.guard(t, p, ignoreOrder).Process(t.Context(), createdRecord(id))
			require.NotEmpty(t, textOf(w.mark(t, id), "claimedUntil"))
			c := w.tx(t, &process{}, returnEffects(effects))
			require.ErrorIs(t, c.Process(t.Context(), createdRecord(id)), outbox.ErrClaimed)
			time.Sleep(time.Minute)
			require.NoError(t, c.Process(t.Context(), createdRecord(id)))
			require.NotEmpty(t, textOf(w.mark(t, id), "handledAt"))
		}
	})
}

// A delivery whose context ends during the handler is completed or given back all the same; so is a claim of which nobody knows.
func TestAClaimEndsThoughTheDeliveryWasCancelled(t *testing.T) {
	w := newInboxWorld(t)
	for id, result := range map[string]error{"good": nil, "bad": errors.New("down")} {
		ctx, cancel := context.WithCancel(t.Context())
		p := &process{}
		err := w.guard(t, p, func(context.Context, outbox.Event[orderCreated]) error { cancel(); return result }).Process(ctx, createdRecord(id))
		if result == nil {
			require.NoError(t, err)
			require.NotEmpty(t, textOf(w.mark(t, id), "handledAt"))
		} else {
			require.ErrorIs(t, err, result)
			require.Nil(t, w.mark(t, id))
		}
	}
	p := &process{fates: map[int]string{1: "answer lost"}}
	c := newConsumer(t, outbox.WithInbox(w.inbox(t, w.client(p, false))))
	outbox.Handle(c, ignoreOrder)
	require.ErrorContains(t, c.Process(t.Context(), createdRecord("lost")), "the event could not be claimed")
	require.Equal(t, []string{"PutItem", "DeleteItem"}, p.calls())
	require.Nil(t, w.mark(t, "lost"))
	require.NoError(t, c.Process(t.Context(), createdRecord("lost")))
}

// cancelling cancels a context while a request is under way.
type cancelling struct {
	next   http.RoundTripper
	cancel func()
}

func (c cancelling) RoundTrip(r *http.Request) (*http.Response, error) {
	c.cancel()
	return c.next.RoundTrip(r)
}
