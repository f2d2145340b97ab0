package outbox_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

func TestHandlersGetTypedEvents(t *testing.T) {
	c := newConsumer(t, outbox.WithConcurrency(1))
	var created []outbox.Event[orderCreated]
	outbox.Handle(c, func(ctx context.Context, e outbox.Event[orderCreated]) error {
		created = append(created, e)
		r, ok := outbox.RecordFromContext(ctx)
		require.True(t, ok)
		require.Equal(t, e.ID, r.ID)
		return nil
	})
	var paid []outbox.Event[*orderPaid]
	outbox.Handle(c, func(_ context.Context, e outbox.Event[*orderPaid]) error {
		paid = append(paid, e)
		return nil
	})
	at := time.UnixMilli(1719347890250)
	headers := map[string]string{"tenant": "acme"}
	require.NoError(t, c.Process(t.Context(),
		outbox.Record{ID: "1", Type: "ORDER_CREATED", AggregateID: "a", Sequence: 7, Time: at, Headers: headers, Payload: []byte(`{"orderId":"a","description":"x"}`)},
		outbox.Record{ID: "2", Type: "ORDER_PAID", AggregateID: "a", Payload: []byte(`{"Cents":5}`), ContentType: "application/json"},
		outbox.Record{ID: "3", Type: "ORDER_CREATED"}, // a table without payloads
	))
	require.Equal(t, []outbox.Event[orderCreated]{
		{ID: "1", Type: "ORDER_CREATED", AggregateID: "a", Sequence: 7, Time: at, Headers: headers, Data: orderCreated{"a", "x"}},
		{ID: "3", Type: "ORDER_CREATED"},
	}, created)
	require.Len(t, paid, 1)
	require.Equal(t, 5, paid[0].Data.Cents)
}

func TestUndecodablePayloadIsAPermanentFailure(t *testing.T) {
	c := newConsumer(t)
	outbox.Handle(c, func(context.Context, outbox.Event[orderCreated]) error { return nil })
	for want, r := range map[string]outbox.Record{
		"cannot be decoded into outbox_test.orderCreated":                                             {ID: "1", Type: "ORDER_CREATED", Payload: []byte(`{"orderId":5}`)},
		`no codec for the payload's content type "application/x-protobuf": have ["application/json"]`: {ID: "1", Type: "ORDER_CREATED", Payload: []byte(`x`), ContentType: "application/x-protobuf"},
	} {
		err := c.Process(t.Context(), r)
		require.ErrorContains(t, err, want)
		require.ErrorIs(t, err, outbox.ErrPermanent)
	}
}

func TestRegistrationMistakesPanicAtStart(t *testing.T) {
	c := newConsumer(t)
	h := func(context.Context, outbox.Event[orderCreated]) error { return nil }
	outbox.Handle(c, h)
	require.PanicsWithValue(t, `outbox: a handler for "ORDER_CREATED" is already registered`, func() { outbox.Handle(c, h) })
	require.PanicsWithValue(t, `outbox: a handler for "ORDER_CREATED" is already registered`, func() { outbox.HandleType(c, "ORDER_CREATED", h) })
	require.PanicsWithValue(t, "outbox: HandleType: the Consumer is nil", func() { outbox.Handle(nil, h) })
	require.PanicsWithValue(t, `outbox: HandleType: the handler of "X" is nil`, func() { outbox.HandleType[int](c, "X", nil) })
	require.PanicsWithValue(t, "outbox: HandleType: the event type of int is empty", func() {
		outbox.HandleType(c, "", func(context.Context, outbox.Event[int]) error { return nil })
	})
	require.PanicsWithValue(t, "outbox: Handle: outbox.Payload is an interface and names no event type", func() {
		outbox.Handle(c, func(context.Context, outbox.Event[outbox.Payload]) error { return nil })
	})
	broken := newConsumer(t, outbox.WithMiddleware(func(outbox.Handler) outbox.Handler { return nil }))
	require.Panics(t, func() { outbox.Handle(broken, h) })
}

func TestNewConsumerNamesEveryProblem(t *testing.T) {
	_, err := outbox.NewConsumer(outbox.WithConcurrency(0), nil, outbox.WithTables(), outbox.WithTables("events", "arn:aws:dynamodb:eu-west-1:1:table/events"),
		outbox.WithDeadlineMargin(0), outbox.WithMiddleware(nil), outbox.WithLogger(nil))
	for _, want := range []string{"WithConcurrency: want 1 to 10,000, have 0", "option 1 is nil", "WithTables: want at least one name",
		`"arn:aws:dynamodb:eu-west-1:1:table/events" is no table's name`, "WithDeadlineMargin: want more than 0",
		"WithMiddleware: a middleware is nil", "WithLogger: the logger is nil"} {
		require.ErrorContains(t, err, want)
	}
}

// Contract 4, over seeds: events of an aggregate never overlap and keep their order, also over concurrent calls; after a
// failure nothing later of that aggregate starts; everything else is handled; the error names exactly what is unfinished.
func TestOrderPerAggregate(t *testing.T) {
	for seed := range uint64(100) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 3))
			c := newConsumer(t, outbox.WithConcurrency(1+rnd.IntN(6)))
			var mu sync.Mutex
			busy := map[string]string{}
			handled := map[string]bool{}
			fails := map[string]bool{}
			outbox.HandleType(c, "T", func(_ context.Context, e outbox.Event[struct{}]) error {
				mu.Lock()
				require.Emptyf(t, busy[e.AggregateID], "seed %d: %s overlaps with %s", seed, e.ID, busy[e.AggregateID])
				if e.AggregateID != "" {
					busy[e.AggregateID] = e.ID
				}
				failing := fails[e.ID]
				mu.Unlock()
				time.Sleep(time.Millisecond * time.Duration(len(e.ID)%3))
				mu.Lock()
				defer mu.Unlock()
				delete(busy, e.AggregateID)
				if failing {
					return errors.New("no")
				}
				handled[e.ID] = true
				return nil
			})
			var calls []func()
			for call := range 1 + rnd.IntN(3) {
				records := make([]outbox.Record, 1+rnd.IntN(60))
				var want []int // unfinished
				failed := map[string]bool{}
				for i := range records {
					aggregate := ""
					if n := rnd.IntN(6); n > 0 {
						aggregate = fmt.Sprint("agg", n)
					}
					records[i] = rec(fmt.Sprintf("%d-%d", call, i), aggregate)
					fail := rnd.IntN(12) == 0
					fails[records[i].ID] = fail
					if fail || aggregate != "" && failed[aggregate] {
						want = append(want, i)
						failed[aggregate] = true
					}
				}
				calls = append(calls, func() {
					err := c.Process(context.Background(), records...)
					if len(want) == 0 {
						require.NoError(t, err)
						return
					}
					var pe *outbox.ProcessError
					require.ErrorAs(t, err, &pe)
					require.Equalf(t, want, pe.Unfinished, "seed %d", seed)
					mu.Lock()
					defer mu.Unlock()
					for i, j := 0, 0; i < len(records); i++ {
						unfinished := j < len(want) && want[j] == i
						if unfinished {
							j++
						}
						require.Equalf(t, !unfinished, handled[records[i].ID], "seed %d, record %d", seed, i)
					}
				})
			}
			var wg sync.WaitGroup
			for _, call := range calls {
				wg.Go(call)
			}
			wg.Wait()
		})
	}
}

func TestDifferentAggregatesRunInParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 50
		c := newConsumer(t, outbox.WithConcurrency(n))
		var together sync.WaitGroup
		together.Add(n)
		outbox.HandleType(c, "T", func(context.Context, outbox.Event[struct{}]) error {
			together.Done()
			together.Wait() // a deadlock unless all of them run at once
			return nil
		})
		records := make([]outbox.Record, n)
		for i := range records {
			records[i] = rec(fmt.Sprint(i), fmt.Sprint("agg", i))
		}
		require.NoError(t, c.Process(t.Context(), records...))
	})
}

func TestAPanicBecomesAnErrorWithItsStack(t *testing.T) {
	var log bytes.Buffer
	c := newConsumer(t, outbox.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	outbox.HandleType(c, "T", func(context.Context, outbox.Event[struct{}]) error { panic("boom") })
	err := c.Process(t.Context(), rec("1", "a"), rec("2", "a"))
	var p *outbox.PanicError
	require.ErrorAs(t, err, &p)
	require.Equal(t, "boom", p.Value)
	require.Equal(t, "panic: boom", p.Error())
	require.Contains(t, string(p.Stack), "consumer_test.go")
	require.Contains(t, log.String(), "consumer_test.go", "the log has the stack")
	var pe *outbox.ProcessError
	require.ErrorAs(t, err, &pe)
	require.Equal(t, []int{0, 1}, pe.Unfinished)
	require.Len(t, pe.Failures, 1)
}

func TestAHandlerThatEndsItsGoroutineIsAFailure(t *testing.T) {
	c := newConsumer(t, outbox.WithConcurrency(1))
	var handled []string
	outbox.HandleType(c, "T", func(_ context.Context, e outbox.Event[struct{}]) error {
		if e.ID == "1" {
			runtime.Goexit()
		}
		handled = append(handled, e.ID)
		return nil
	})
	err := c.Process(t.Context(), rec("1", "a"), rec("2", "b"))
	require.ErrorContains(t, err, "the handler ended its goroutine")
	require.Equal(t, []string{"2"}, handled)
}

func TestHandlerErrorsStayReachable(t *testing.T) {
	c := newConsumer(t)
	cause := errors.New("mail server down")
	outbox.HandleType(c, "T", func(context.Context, outbox.Event[struct{}]) error { return outbox.Permanent(cause) })
	err := c.Process(t.Context(), outbox.Record{ID: "e-1", Type: "T", AggregateID: "a-1", Payload: []byte(`{"secret":1}`), ShardID: "shardId-000000000000", SequenceNumber: "4965"})
	require.ErrorIs(t, err, cause)
	require.ErrorIs(t, err, outbox.ErrPermanent)
	var he *outbox.HandlerError
	require.ErrorAs(t, err, &he)
	require.Equal(t, "e-1", he.Record.ID)
	require.ErrorContains(t, err, `record 0 at shardId-000000000000:4965 (event "e-1", type "T", aggregate "a-1"): mail server down`)
	require.NotContains(t, err.Error(), "secret")
	require.NoError(t, outbox.Permanent(nil))
}

func TestWhenTheContextEndsNothingMoreStarts(t *testing.T) {
	c := newConsumer(t, outbox.WithConcurrency(1))
	ctx, cancel := context.WithCancel(t.Context())
	outbox.HandleType(c, "T", func(context.Context, outbox.Event[struct{}]) error {
		cancel()
		return nil
	})
	err := c.Process(ctx, rec("1", "a"), rec("2", "b"), rec("3", ""))
	var pe *outbox.ProcessError
	require.ErrorAs(t, err, &pe)
	require.Equal(t, []int{1, 2}, pe.Unfinished)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "2 records unfinished, 0 of them failed; stopped: context canceled")
}

// A call of Process that waits for a handler of another call stops waiting when its own context ends.
func TestAnEndedContextStopsWaitingForOtherCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConsumer(t)
		start := time.Now()
		var mu sync.Mutex
		var handled []string
		outbox.HandleType(c, "T", func(_ context.Context, e outbox.Event[struct{}]) error {
			if e.ID == "slow" {
				time.Sleep(time.Hour)
			}
			mu.Lock()
			defer mu.Unlock()
			handled = append(handled, e.ID)
			return nil
		})
		var wg sync.WaitGroup
		wg.Go(func() { require.NoError(t, c.Process(context.Background(), rec("slow", "a"))) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		err := c.Process(ctx, rec("1", "b"), rec("2", "a"), rec("3", "a"))
		require.Equal(t, time.Second, time.Since(start))
		var pe *outbox.ProcessError
		require.ErrorAs(t, err, &pe)
		require.Equal(t, []int{1, 2}, pe.Unfinished)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NoError(t, c.Process(context.Background(), rec("4", "a")))
		require.Equal(t, []string{"1", "slow", "4"}, handled)
		wg.Wait()
	})
}

// Each handler sees its own record, whatever the caller does with its slice afterwards.
func TestRecordFromContextOutlivesTheCall(t *testing.T) {
	c := newConsumer(t)
	var mu sync.Mutex
	contexts := map[string]context.Context{}
	outbox.HandleType(c, "T", func(ctx context.Context, e outbox.Event[struct{}]) error {
		mu.Lock()
		defer mu.Unlock()
		contexts[e.ID] = context.WithValue(ctx, "key", e.ID) //nolint:staticcheck // any key will do
		return nil
	})
	records := make([]outbox.Record, 20)
	for i := range records {
		records[i] = rec(fmt.Sprint(i), "")
	}
	ctx := context.WithValue(t.Context(), "outer", "kept") //nolint:staticcheck // any key will do
	require.NoError(t, c.Process(ctx, records...))
	clear(records)
	require.Len(t, contexts, 20)
	for id, ctx := range contexts {
		r, ok := outbox.RecordFromContext(ctx)
		require.True(t, ok)
		require.Equal(t, id, r.ID)
		require.Equal(t, "kept", ctx.Value("outer"))
	}
}

// A hook observes. One that panics is logged, and changes nothing about what was handled.
func TestAHookThatPanicsChangesNothing(t *testing.T) {
	var log bytes.Buffer
	c := newConsumer(t, outbox.WithConcurrency(1), outbox.WithLogger(slog.New(slog.NewTextHandler(&log, nil))), outbox.WithConsumerHooks(outbox.ConsumerHooks{
		Handled: func(context.Context, outbox.Record, time.Duration, error) { panic("metrics are down") },
		Skipped: func(context.Context, outbox.Record, error) { panic("so are these") },
	}))
	var handled []string
	outbox.HandleType(c, "T", func(_ context.Context, e outbox.Event[struct{}]) error {
		handled = append(handled, e.ID)
		return nil
	})
	require.NoError(t, c.Process(t.Context(), rec("1", "a"), outbox.Record{ID: "2", Type: "other", AggregateID: "a"}, rec("3", "a")))
	require.Equal(t, []string{"1", "3"}, handled)
	require.Equal(t, 2, bytes.Count(log.Bytes(), []byte("hook=Handled")), log.String())
	require.Equal(t, 1, bytes.Count(log.Bytes(), []byte("hook=Skipped")), log.String())
	require.Contains(t, log.String(), "metrics are down")

	got, err := c.Invoke(t.Context(), kinesisEvent(`{"eventName":"REMOVE"}`, changeRecord("4", "a")))
	require.NoError(t, err)
	require.Equal(t, unfinished(""), string(got))
}

// What a record costs beside its codec: its strings, its payload, and its event.
func TestAllocationsOfARecord(t *testing.T) {
	c := newConsumer(t)
	outbox.HandleType(c, "T", func(context.Context, outbox.Event[struct{}]) error { return nil })
	data := []byte(changeRecord("1", "a"))
	codec := testing.AllocsPerRun(100, func() {
		var v struct{}
		require.NoError(t, json.Unmarshal([]byte(`{}`), &v))
	})
	records := make([]outbox.Record, 100)
	decoded := testing.AllocsPerRun(100, func() { records[0], _ = outbox.DecodeRecord(data) })
	require.Equal(t, 2.0, decoded)
	require.LessOrEqual(t, decoded+testing.AllocsPerRun(100, func() { _ = c.Process(context.Background(), records[0]) }), 6+codec, "one by one")
	for i := range records {
		records[i] = rec(fmt.Sprint(i), fmt.Sprint(i))
	}
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() { _ = c.Process(context.Background(), records...) })/100, 1.2+codec, "in batches")
}

func TestUnknownTypesAreSkippedAndWarnedAboutOnce(t *testing.T) {
	var log bytes.Buffer
	var skipped []string
	c := newConsumer(t, outbox.WithConcurrency(1), outbox.WithLogger(slog.New(slog.NewTextHandler(&log, nil))), outbox.WithConsumerHooks(outbox.ConsumerHooks{
		Skipped: func(_ context.Context, r outbox.Record, reason error) {
			skipped = append(skipped, r.ID+": "+reason.Error())
		},
	}))
	require.NoError(t, c.Process(t.Context(), rec("1", "a"), rec("2", "a")))
	require.Equal(t, []string{`1: outbox: event type "T" has no handler`, `2: outbox: event type "T" has no handler`}, skipped)
	require.Equal(t, 1, bytes.Count(log.Bytes(), []byte("WARN")), log.String())
}

func TestUnknownTypesCanFail(t *testing.T) {
	err := newConsumer(t, outbox.FailUnknownTypes()).Process(t.Context(), rec("1", "a"))
	require.ErrorContains(t, err, `event type "T" has no handler`)
}

func TestMiddlewareWrapsInOrderAndHooksSeeTheResult(t *testing.T) {
	var calls []string
	mark := func(name string) func(outbox.Handler) outbox.Handler {
		return func(next outbox.Handler) outbox.Handler {
			return func(ctx context.Context, r outbox.Record) error {
				calls = append(calls, name+" before "+r.ID)
				err := next(ctx, r)
				calls = append(calls, name+" after")
				return err
			}
		}
	}
	failure := errors.New("no")
	c := newConsumer(t, outbox.WithMiddleware(mark("outer")), outbox.WithMiddleware(mark("inner")), outbox.WithConsumerHooks(outbox.ConsumerHooks{
		Handled: func(_ context.Context, r outbox.Record, took time.Duration, err error) {
			require.GreaterOrEqual(t, took, time.Duration(0))
			calls = append(calls, fmt.Sprint("hook ", r.ID, " ", err))
		},
	}))
	outbox.HandleType(c, "T", func(context.Context, outbox.Event[struct{}]) error {
		calls = append(calls, "handler")
		return failure
	})
	require.ErrorIs(t, c.Process(t.Context(), rec("1", "a")), failure)
	require.Equal(t, []string{"outer before 1", "inner before 1", "handler", "inner after", "outer after", "hook 1 no"}, calls)
}

func TestTablesLimitProcessToo(t *testing.T) {
	c := newConsumer(t, outbox.WithTables("events"), outbox.WithConcurrency(1))
	var handled []string
	outbox.HandleType(c, "T", func(_ context.Context, e outbox.Event[struct{}]) error { handled = append(handled, e.ID); return nil })
	foreign, ours := rec("1", "a"), rec("2", "a")
	foreign.Table, ours.Table = "other", "events"
	require.NoError(t, c.Process(t.Context(), foreign, ours, rec("3", "a")))
	require.Equal(t, []string{"2", "3"}, handled)
}

func TestDecodingErrorsDoNotQuoteThePayload(t *testing.T) {
	c := newConsumer(t)
	outbox.Handle(c, func(context.Context, outbox.Event[orderCreated]) error { return nil })
	err := c.Process(t.Context(), outbox.Record{ID: "1", Type: "ORDER_CREATED", Payload: []byte(`{"orderId":41115}`)})
	require.ErrorContains(t, err, `field "orderId" at byte 16: a JSON number does not fit string`)
	require.NotContains(t, err.Error(), "41115")
}

func TestNoRecordsIsSuccess(t *testing.T) {
	require.NoError(t, newConsumer(t).Process(t.Context()))
}

func TestFailuresAreLoggedWithoutPayload(t *testing.T) {
	var log bytes.Buffer
	c := newConsumer(t, outbox.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	outbox.HandleType(c, "T", func(context.Context, outbox.Event[struct{}]) error { return errors.New("mail server down") })
	require.Error(t, c.Process(t.Context(), outbox.Record{ID: "e-1", Type: "T", Payload: []byte(`{"card":"4111"}`), Headers: map[string]string{"k": "hidden"}}))
	require.Contains(t, log.String(), `event=e-1 type=T`)
	require.Contains(t, log.String(), `error="mail server down"`)
	require.NotContains(t, log.String(), "4111")
	require.NotContains(t, log.String(), "hidden")
}

// A Record that somebody built by hand and forgot an ID or a Type in would be skipped, or handled without what idempotency needs.
func TestRecordsWithoutIDOrTypeAreRefused(t *testing.T) {
	c, calls := newConsumer(t), 0
	outbox.HandleType(c, "T", func(context.Context, outbox.Event[struct{}]) error { calls++; return nil })
	err := c.Process(t.Context(), rec("1", "a"), outbox.Record{Type: "T"}, outbox.Record{ID: "3"})
	require.ErrorIs(t, err, outbox.ErrInvalidEvent)
	var failed *outbox.ProcessError
	require.ErrorAs(t, err, &failed)
	require.Equal(t, []int{0, 1, 2}, failed.Unfinished)
	require.Len(t, failed.Failures, 2)
	require.Equal(t, 1, failed.Failures[0].Index)
	require.ErrorContains(t, err, "record 2 (event \"3\"")
	require.Zero(t, calls)
}
