package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// A hundred events, and one in four calls fails: which ones is fixed. Retried in place, no event is handled twice, with an inbox or without. A
// batch that ends with its first failure comes again from there, with what has been handled behind it.
func TestTransientFailuresAreNotMultiplied(t *testing.T) {
	const events = 100
	hash := func(id string, call int) uint32 {
		h := fnv.New32a()
		_, _ = fmt.Fprint(h, "seed", id, "#", call)
		return h.Sum32()
	}
	fails := func(id string, call int) bool { return hash(id, call)%4 == 0 }
	runs := func(t *testing.T, guarded bool, opts ...outbox.ConsumerOption) (runs, invocations int) {
		bubble(t, func(t *testing.T) {
			w := newInboxWorld(t)
			defer w.Close()
			w.CreateOutbox(t, "hundred", "hundred", 1)
			writer, err := outbox.NewWriter(w.DynamoDB, "hundred")
			require.NoError(t, err)
			for i := range events {
				e := event(fmt.Sprint(i))
				e.AggregateID = e.ID
				require.NoError(t, writer.Put(t.Context(), "orders", order{"x"}, e))
			}
			if guarded {
				opts = append(opts, outbox.WithInbox(w.inbox(t, w.DynamoDB)))
			}
			c := newConsumer(t, opts...)
			var mu sync.Mutex
			calls := map[string]int{}
			outbox.Handle(c, func(_ context.Context, e outbox.Event[orderCreated]) error {
				mu.Lock()
				runs++
				calls[e.ID]++
				call := calls[e.ID]
				mu.Unlock()
				time.Sleep(20*time.Millisecond + time.Duration(hash(e.ID, call)%10_000_000)) // no two end at once
				if fails(e.ID, call) {
					return errors.New("throttled")
				}
				return nil
			})
			_, err = w.Map(outboxtest.EventSource{Stream: "hundred", ReportBatchItemFailures: true}, func(ctx context.Context, payload []byte) ([]byte, error) {
				invocations++
				return c.Invoke(ctx, payload)
			})
			require.NoError(t, err)
			require.NoError(t, w.Drain(t.Context()))
			require.Len(t, calls, events)
		})
		return runs, invocations
	}
	needed := 0
	for i := range events {
		n := 1
		for fails(fmt.Sprint(i), n) {
			n++
		}
		require.LessOrEqual(t, n, 5, "event %d: another seed, please", i)
		needed += n
	}
	for _, guarded := range []bool{false, true} {
		n, invocations := runs(t, guarded)
		t.Logf("guarded %t: %d events, %d runs in %d invocations", guarded, events, n, invocations)
		require.Equal(t, needed, n)
		require.LessOrEqual(t, invocations, 2)
		before, invocationsBefore := runs(t, guarded, outbox.WithInvokeRetry(outbox.Retry{MaxAttempts: 1}))
		t.Logf("guarded %t, not in place: %d runs in %d invocations", guarded, before, invocationsBefore)
		require.Greater(t, invocationsBefore, (needed-events)/10, "ten calls run at a time, so an invocation has at most ten that fail")
		require.True(t, guarded || before > needed)
	}
}

// While a failed event waits for its next call, its aggregate waits with it, and others are handled.
func TestOthersAreHandledWhileAFailedEventWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newConsumer(t, outbox.WithConcurrency(1), outbox.WithInvokeRetry(outbox.Retry{MaxAttempts: 3, BaseDelay: time.Second, MaxDelay: time.Second}))
		var calls []string
		outbox.HandleType(c, "T", func(ctx context.Context, e outbox.Event[struct{}]) error {
			calls = append(calls, fmt.Sprint(e.ID, " ", outbox.AttemptFromContext(ctx)))
			if e.ID == "a1" && outbox.AttemptFromContext(ctx) < 3 {
				return errors.New("not yet")
			}
			return nil
		})
		got, err := c.Invoke(t.Context(), kinesisEvent(changeRecord("a1", "a"), changeRecord("a2", "a"), changeRecord("b", "b"), changeRecord("none", "")))
		require.NoError(t, err)
		require.Equal(t, unfinished(""), string(got))
		require.Equal(t, []string{"a1 1", "b 1", "none 1", "a1 2", "a1 3", "a2 1"}, calls)
	})
}

// How often a failing handler is called in one invocation.
func TestWhatIsRetriedInPlace(t *testing.T) {
	down := errors.New("down")
	for name, test := range map[string]struct {
		err      error
		opts     func(o *office) []outbox.ConsumerOption
		deadline time.Duration
		slow     time.Duration // each call
		want     int           // calls
		written  int           // how often the attempts are counted
	}{
		"a failure": {err: down, want: 5},
		"a failure, with dead letters": {err: down, want: 5, written: 1, opts: func(o *office) []outbox.ConsumerOption {
			return []outbox.ConsumerOption{outbox.WithDeadLetters(o.letters)}
		}},
		"a failure with attempts for less": {err: down, want: 2, written: 1, opts: func(o *office) []outbox.ConsumerOption {
			return []outbox.ConsumerOption{outbox.WithDeadLetters(o.letters, outbox.WithInvokeAttempts(2))}
		}},
		"a failure with one attempt": {err: down, want: 1, opts: func(o *office) []outbox.ConsumerOption {
			return []outbox.ConsumerOption{outbox.WithDeadLetters(o.letters, outbox.WithInvokeAttempts(1))}
		}},
		"a failure with another option": {err: down, want: 7, opts: func(*office) []outbox.ConsumerOption {
			return []outbox.ConsumerOption{outbox.WithInvokeRetry(outbox.Retry{MaxAttempts: 7})}
		}},
		"a failure that takes the time there is": {err: down, want: 2, deadline: 3 * time.Second, slow: 1300 * time.Millisecond},
		"a delay that takes the time there is": {err: down, want: 1, deadline: time.Second, slow: 490 * time.Millisecond,
			opts: func(*office) []outbox.ConsumerOption {
				return []outbox.ConsumerOption{outbox.WithInvokeRetry(outbox.Retry{BaseDelay: time.Hour, MaxDelay: time.Hour})}
			}},
		"a permanent failure": {err: outbox.Permanent(down), want: 1},
		"an outage":           {err: outbox.Unavailable(down), want: 1},
		"a claim":             {err: outbox.ErrClaimed, want: 1},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				o := newOffice(t)
				defer o.Close()
				w := &inboxWorld{&world{AWS: o.AWS}}
				p := &process{}
				o.letters = o.table(t, w.client(p, true))
				var opts []outbox.ConsumerOption
				if test.opts != nil {
					opts = test.opts(o)
				}
				c, calls := newConsumer(t, opts...), 0
				outbox.HandleType(c, "T", func(context.Context, outbox.Event[struct{}]) error {
					calls++
					time.Sleep(test.slow)
					return test.err
				})
				ctx := t.Context()
				if test.deadline > 0 {
					bounded, cancel := context.WithTimeout(ctx, test.deadline)
					defer cancel()
					ctx = bounded
				}
				began := time.Now()
				_, err := c.Invoke(ctx, kinesisEvent(changeRecord("1", "a")))
				require.NoError(t, err)
				require.Equal(t, test.want, calls)
				if test.want == 1 {
					require.Equal(t, test.slow, time.Since(began), "there is nothing to wait for")
				}
				written := 0
				for _, call := range p.calls() {
					if call == "UpdateItem" {
						written++
					}
				}
				require.Equal(t, test.written, written, p.calls())
			})
		})
	}
}

// A handler that the end of its claim cuts off is not called again with what is left of the invocation: the delivery is one attempt.
func TestADeliveryThatIsCutOffIsOneAttempt(t *testing.T) {
	failure := map[string]bool{"an error": true, "a panic": true}
	for name, end := range map[string]func(context.Context) error{
		"an error":    func(ctx context.Context) error { return ctx.Err() },
		"a lost race": func(context.Context) error { return outbox.ErrConditionFailed },
		"a conflict":  func(context.Context) error { return outbox.ErrConflict },
		"a panic":     func(context.Context) error { panic("late") },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				a := newInboxWithLetters(t)
				defer a.Close()
				calls := 0
				c := newConsumer(t, outbox.WithInbox(a.inbox(t, a.DynamoDB)), outbox.WithDeadLetters(a.letters, outbox.WithInvokeAttempts(3)),
					outbox.WithInvokeRetry(outbox.Retry{MaxAttempts: 5, BaseDelay: time.Millisecond, MaxDelay: time.Millisecond}))
				outbox.HandleType(c, "T", func(ctx context.Context, _ outbox.Event[struct{}]) error {
					calls++
					<-ctx.Done()
					return end(ctx)
				})
				for delivery := 1; delivery <= 3; delivery++ {
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					_, err := c.Invoke(ctx, kinesisEvent(changeRecord("1", "a")))
					cancel()
					require.NoError(t, err)
					require.Equal(t, delivery, calls)
				}
				l, err := a.letters.Get(t.Context(), "a#1")
				if !failure[name] {
					require.ErrorIs(t, err, outbox.ErrNoDeadLetter)
					return
				}
				require.NoError(t, err)
				require.Equal(t, 3, l.Attempts)
			})
		})
	}
}

// An event that has used up its calls, or waits for an outage, ends the batch, also for events that wait for their next call. What these have
// failed does not count.
func TestAFailureEndsTheWaitingOfOthers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t)
		defer o.Close()
		c := newConsumer(t, outbox.WithDeadLetters(o.letters, outbox.WithInvokeAttempts(2)),
			outbox.WithInvokeRetry(outbox.Retry{MaxAttempts: 2, BaseDelay: time.Hour, MaxDelay: time.Hour}))
		var mu sync.Mutex
		var calls []string
		outbox.HandleType(c, "T", func(_ context.Context, e outbox.Event[struct{}]) error {
			mu.Lock()
			calls = append(calls, e.ID)
			mu.Unlock()
			if e.ID == "down" {
				time.Sleep(time.Second)
				return outbox.Unavailable(errors.New("the mail server"))
			}
			return errors.New("no")
		})
		began := time.Now()
		for _, first := range []string{"s0", "s1"} { // the second call of the event that waits is its last attempt
			require.Equal(t, unfinished(first), o.invoke(t, c, changeRecord("waits", "a"), changeRecord("down", "b")))
		}
		require.Equal(t, 2*time.Second, time.Since(began))
		slices.Sort(calls)
		require.Equal(t, []string{"down", "down", "waits", "waits"}, calls)
		require.Equal(t, 2, o.list(t, outbox.DeadLetterFilter{})[0].Attempts)
	})
}

// Attempts count whatever ends the delivery: the failure of another event while this one sleeps, or a last call that was no attempt.
func TestEachFailedCallCountsWhateverEndsTheBatch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t)
		defer o.Close()
		c := newConsumer(t, outbox.WithDeadLetters(o.letters), outbox.WithConcurrency(100), outbox.WithLogger(slog.New(slog.DiscardHandler)))
		var mu sync.Mutex
		calls := map[string]int{}
		outbox.HandleType(c, "T", func(_ context.Context, e outbox.Event[struct{}]) error {
			mu.Lock()
			defer mu.Unlock()
			if calls[e.ID]++; e.ID == "half" && calls[e.ID]%2 == 0 {
				return outbox.Unavailable(errors.New("the mail server"))
			}
			return errors.New("no")
		})
		var records []string
		for i := range 30 {
			records = append(records, changeRecord(fmt.Sprint("poison", i), fmt.Sprint("a", i)))
		}
		records = append(records, changeRecord("half", "b"))
		for n := 0; len(o.ids(t)) < len(records); n++ {
			require.Less(t, n, 40, "letters: %d", len(o.ids(t)))
			o.invoke(t, c, records...)
		}
		for id, n := range calls {
			most := 10 + 4 // the last invocation learns how many there were when its calls are counted
			if id == "half" {
				most *= 2
			}
			require.LessOrEqual(t, n, most, id)
		}
	})
}

// Records that wait for their next attempt when a batch ends are counted in the time that one of them has, however many there are.
func TestManyRecordsThatWaitAreCountedInTheTimeOfOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t)
		defer o.Close()
		c := newConsumer(t, outbox.WithDeadLetters(o.letters), outbox.WithConcurrency(2), outbox.WithLogger(slog.New(slog.DiscardHandler)))
		outbox.HandleType(c, "T", func(context.Context, outbox.Event[struct{}]) error { return outbox.ErrConditionFailed })
		var records []outbox.Record
		for i := range 40 {
			r, err := outbox.DecodeRecord([]byte(changeRecord(fmt.Sprint("e", i), fmt.Sprint("a", i))))
			require.NoError(t, err)
			records = append(records, r)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, func() {
			require.NoError(t, o.SetFaults(outboxtest.Fault{Kind: outboxtest.Latency, Probability: 1, Duration: time.Hour}))
			cancel()
		})
		began := time.Now()
		require.Error(t, c.Process(ctx, records...))
		require.Less(t, time.Since(began), 20*time.Second)
	})
}
