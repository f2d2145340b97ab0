package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/replay"
)

// marking is a process of the version that knows marks alone.
func (w *orderWorld) marking(t testing.TB, client *dynamodb.Client) *outbox.Consumer {
	c := newConsumer(t, outbox.WithInbox(w.inbox(t, client)))
	outbox.HandleTx(c, newWriter(t, client), w.handler)
	return c
}

// keeping is a process of the change-over.
func (w *orderWorld) keeping(t testing.TB, client *dynamodb.Client, from time.Time, opts ...outbox.ConsumerOption) *outbox.Consumer {
	return w.process(t, client, from, append(opts, outbox.KeepMarks())...)
}

// requireOnce checks that each event up to the last one has had its effect once, in whatever order.
func (w *orderWorld) requireOnce(t testing.TB, last int64, what ...any) {
	t.Helper()
	effects := w.effects(t)
	sorted := slices.Sorted(slices.Values(effects))
	var want []int64
	for n := range last {
		want = append(want, n+1)
	}
	require.Equal(t, want, sorted, "effects %v, %s", effects, fmt.Sprint(what...))
}

func TestAProcessWithMarksBesideOneWithOrder(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, 1, 2, 3, 4, 5)
	from := events[0].Time
	old, c := w.marking(t, w.DynamoDB), w.keeping(t, w.DynamoDB, from)
	require.NoError(t, old.Process(t.Context(), events[0], events[2]))
	require.NoError(t, c.Process(t.Context(), events[3]))
	require.Equal(t, []int64{1, 3, 2, 4}, w.effects(t))
	require.Equal(t, []int64{1, 3, 2, 4}, w.runs, "what is marked runs no handler")
	require.Equal(t, int64(4), w.position(t))
	require.NoError(t, old.Process(t.Context(), events[:4]...))
	require.NoError(t, w.marking(t, w.DynamoDB).Process(t.Context(), events...))
	require.NoError(t, c.Process(t.Context(), events[4]))
	w.requireOnce(t, 5)
	require.Equal(t, int64(5), w.position(t))
}

// The other process commits between the look at the mark and the commit: the mark decides, also when the handler or a condition fails because of
// what the other one did, and when there are no effects.
func TestAMarkThatIsWrittenMeanwhile(t *testing.T) {
	for name, second := range map[string]func(w *orderWorld, e outbox.Event[orderCreated]) (outbox.Effects, error){
		"the same effects": func(_ *orderWorld, e outbox.Event[orderCreated]) (outbox.Effects, error) {
			return outbox.Effects{Writes: []types.TransactWriteItem{appendEffect(aggregate, e.Sequence)}}, nil
		},
		"no effects": func(*orderWorld, outbox.Event[orderCreated]) (outbox.Effects, error) { return outbox.Effects{}, nil },
		"a failure": func(*orderWorld, outbox.Event[orderCreated]) (outbox.Effects, error) {
			return outbox.Effects{}, outbox.Permanent(errors.New("it is there"))
		},
		"a condition": func(*orderWorld, outbox.Event[orderCreated]) (outbox.Effects, error) {
			return outbox.Effects{Writes: []types.TransactWriteItem{putNew(aggregate)}}, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newOrderWorld(t)
			events := w.write(t, 1, 2)
			old := w.marking(t, w.DynamoDB)
			c := newConsumer(t, outbox.WithInbox(w.inbox(t, w.DynamoDB)), outbox.WithOrder(w.DynamoDB, "events", events[0].Time), outbox.KeepMarks())
			outbox.HandleTx(c, w.writer, func(ctx context.Context, e outbox.Event[orderCreated]) (outbox.Effects, error) {
				if err := old.Process(t.Context(), events[e.Sequence-1]); err != nil {
					return outbox.Effects{}, err
				}
				return second(w, e)
			})
			require.NoError(t, c.Process(t.Context(), events...))
			w.requireEffects(t, 1, 2)
			require.Equal(t, int64(2), w.position(t))
		})
	}
}

// A process of the change-over dies before or after any of its calls, with and without effects, while one with marks works.
func TestAKillAtEveryCallOfTheChangeOver(t *testing.T) {
	for _, empty := range []bool{false, true} {
		t.Run(fmt.Sprintf("without effects %t", empty), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				points := 0
				everyKill(func(k kill) bool {
					w := newOrderWorld(t)
					events := w.write(t, 1, 2, 3, 4, 5)
					from := events[0].Time
					old := w.marking(t, w.DynamoDB)
					require.NoError(t, old.Process(t.Context(), events[1]))
					p := &process{killAt: k.at, killAfter: k.after}
					dying := w.keeping(t, w.client(p, false), from, outbox.WithMiddleware(func(next outbox.Handler) outbox.Handler {
						return func(ctx context.Context, r outbox.Record) error {
							if empty && r.Sequence == 3 {
								return nil // the library keeps it as handled, with its mark
							}
							return next(ctx, r)
						}
					}))
					_ = dying.Process(t.Context(), events[2])
					require.NoError(t, old.Process(t.Context(), events[0]))
					_ = dying.Process(t.Context(), events[3])
					points = max(points, len(p.calls()))
					require.NoError(t, old.Process(t.Context(), events[4], events[3]))
					living := w.keeping(t, w.DynamoDB, from)
					for _, n := range []int{4, 2, 3} {
						require.NoError(t, living.Process(t.Context(), events[n]), "killed at %d, after it: %t", k.at, k.after)
					}
					if effects := w.effects(t); empty && !slices.Contains(effects, 3) {
						slices.Sort(effects)
						require.Equal(t, []int64{1, 2, 4, 5}, effects)
					} else {
						w.requireOnce(t, 5, "killed at ", k.at, ", after it: ", k.after)
					}
					require.Equal(t, int64(5), w.position(t))
					for n := range int64(5) {
						require.NotEmpty(t, textOf(w.mark(t, outbox.SequencedID(aggregate, n+1)), "handledAt"), "event %d is not marked", n+1)
					}
					w.Close()
					return p.dead
				})
				require.Greater(t, points, 8)
			})
		})
	}
}

// Each request of a process of the change-over meets each fate, beside a process with marks.
func TestTheChangeOverWhateverBecomesOfRequests(t *testing.T) {
	for _, fate := range requestFates {
		t.Run(fate, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				for at := 1; ; at++ {
					w := newOrderWorld(t)
					events := w.write(t, 1, 2, 3, 4)
					p := &process{fates: map[int]string{at: fate}}
					c, old := w.keeping(t, w.client(p, false), events[0].Time), w.marking(t, w.DynamoDB)
					require.NoError(t, old.Process(t.Context(), events[1]))
					_ = c.Process(t.Context(), events[2])
					require.NoError(t, old.Process(t.Context(), events[2]))
					p.arrive()
					calls := len(p.calls())
					for _, r := range []outbox.Record{events[3], events[0], events[2]} {
						if err := c.Process(t.Context(), r); err != nil { // the fate of this request
							require.NoError(t, c.Process(t.Context(), r), "request %d, after %v", at, err)
						}
						require.NoError(t, old.Process(t.Context(), r), "request %d", at)
					}
					w.requireOnce(t, 4, "request ", at)
					require.Equal(t, int64(4), w.position(t))
					w.Close()
					if calls < at {
						return
					}
					time.Sleep(time.Second)
				}
			})
		})
	}
}

// turns lets one request of several processes through at a time. Use it in a bubble.
type turns struct {
	mu      sync.Mutex
	waiting map[int]chan struct{}
}

type turn struct {
	of   *turns
	who  int
	next http.RoundTripper
}

func (t *turn) RoundTrip(r *http.Request) (*http.Response, error) {
	let := make(chan struct{})
	t.of.mu.Lock()
	t.of.waiting[t.who] = let
	t.of.mu.Unlock()
	<-let
	return t.next.RoundTrip(r)
}

// give lets the requests through in the order that choose says, until the processes have ended. choose is called if more than one waits.
func (t *turns) give(ended func() bool, choose func(n int) int) {
	for {
		synctest.Wait()
		t.mu.Lock()
		var who []int
		for p := range t.waiting {
			who = append(who, p)
		}
		if len(who) == 0 {
			t.mu.Unlock()
			if ended() {
				return
			}
			time.Sleep(10 * time.Millisecond) // a process waits before it tries again
			continue
		}
		slices.Sort(who)
		p := who[0]
		if len(who) > 1 {
			p = who[choose(len(who))]
		}
		let := t.waiting[p]
		delete(t.waiting, p)
		t.mu.Unlock()
		close(let)
	}
}

// everySchedule calls run once for each sequence of choices that it can make.
func everySchedule(run func(choose func(n int) int)) (schedules int) {
	var path, widths []int
	for {
		schedules++
		at := 0
		run(func(n int) int {
			if at == len(path) {
				path, widths = append(path, 0), append(widths, n)
			}
			at++
			return path[at-1]
		})
		last := len(path) - 1
		for last >= 0 && path[last]+1 == widths[last] {
			last--
		}
		if last < 0 {
			return schedules
		}
		path, widths = path[:last+1], widths[:last+1]
		path[last]++
	}
}

// A process with marks and one of the change-over have the same events, and their requests come in every order that there is. What is delivered
// after the one with marks has ended is in order.
func TestEveryScheduleOfTheChangeOver(t *testing.T) {
	for name, c := range map[string]struct{ old, kept []int64 }{
		"the same event":                   {old: []int64{1}, kept: []int64{1}},
		"what the other one heals":         {old: []int64{2, 1}, kept: []int64{3}},
		"what comes first and what is new": {old: []int64{3}, kept: []int64{2, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				schedules := everySchedule(func(choose func(n int) int) {
					w := newOrderWorld(t)
					defer w.Close()
					events := w.write(t, 1, 2, 3)
					from := events[0].Time
					turns := &turns{waiting: map[int]chan struct{}{}}
					var ended sync.WaitGroup
					running := 2
					run := func(who int, numbers []int64, make func(*dynamodb.Client) *outbox.Consumer) {
						client := dynamodb.New(w.client(&process{}, false).Options(), func(o *dynamodb.Options) {
							o.HTTPClient = &http.Client{Transport: &turn{turns, who, w.HTTPClient().Transport}}
						})
						consumer := make(client)
						ended.Go(func() {
							for _, n := range numbers {
								if err := consumer.Process(t.Context(), events[n-1]); err != nil && !errors.Is(err, outbox.ErrConflict) {
									t.Errorf("event %d of process %d: %v", n, who, err)
								}
							}
							turns.mu.Lock()
							running--
							turns.mu.Unlock()
						})
					}
					run(0, c.old, func(client *dynamodb.Client) *outbox.Consumer { return w.marking(t, client) })
					run(1, c.kept, func(client *dynamodb.Client) *outbox.Consumer { return w.keeping(t, client, from) })
					turns.give(func() bool {
						turns.mu.Lock()
						defer turns.mu.Unlock()
						return running == 0
					}, choose)
					ended.Wait()

					later := w.write(t, 4, 5, 6)
					p, q := w.keeping(t, w.DynamoDB, from), w.keeping(t, w.DynamoDB, from)
					require.NoError(t, p.Process(t.Context(), later[1]))
					require.NoError(t, q.Process(t.Context(), later[2]))
					require.NoError(t, p.Process(t.Context(), slices.Concat(events, later)...))
					w.requireOnce(t, 6)
					require.Equal(t, []int64{4, 5, 6}, w.effects(t)[3:])
				})
				require.Greater(t, schedules, 3)
				t.Logf("%d schedules", schedules)
			})
		})
	}
}

// The whole way from marks to positions, as docs/ordering-and-duplicates.md has it: one aggregate is quiet all the time, and of another one the process
// with marks handles the last events.
func TestFromMarksToPositions(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, 1, 2, 3, 4, 5)
	from := events[0].Time
	quiet := sequencedRecord(1)
	quiet.AggregateID, quiet.ID = "account-2", outbox.SequencedID("account-2", 1)
	require.NoError(t, w.writer.Transact(t.Context(), nil, quiet))
	quiet = delivered(quiet)
	old := w.marking(t, w.DynamoDB)
	require.NoError(t, old.Process(t.Context(), events[0], quiet))

	c := w.keeping(t, w.DynamoDB, from)
	require.NoError(t, c.Process(t.Context(), events[1]))
	require.NoError(t, old.Process(t.Context(), events[2], events[3]))
	require.Equal(t, int64(2), w.position(t))

	all, err := replay.New(w.DynamoDB, "events")
	require.NoError(t, err)
	runs := len(w.runs)
	result, err := all.To(t.Context(), replay.Query{From: from}, c, replay.Options{})
	require.NoError(t, err)
	require.Equal(t, replay.Result{Found: 6, Done: 6}, result, "duplicates are done as well")
	require.Equal(t, int64(5), w.position(t))
	require.Equal(t, []int64{5}, w.runs[runs:], "what the stream has not brought yet")

	// From here on nobody looks at marks.
	for _, row := range w.all(t, "inbox") {
		if row["handledAt"] != nil {
			_, err := w.DynamoDB.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: ptr("inbox"), Key: values{"eventId": row["eventId"], "consumer": row["consumer"]}})
			require.NoError(t, err)
		}
	}
	later := w.write(t, 6, 7)
	runs = len(w.runs)
	ordered := w.process(t, w.DynamoDB, from)
	require.NoError(t, ordered.Process(t.Context(), later[1]))
	require.NoError(t, ordered.Process(t.Context(), append(events, quiet)...))
	require.Equal(t, []int64{6, 7}, w.runs[runs:])
	require.Equal(t, []int64{1, 1, 2, 3, 4, 5, 6, 7}, slices.Sorted(slices.Values(w.effects(t))), "both aggregates have one row")
	for n := range int64(2) {
		require.Nil(t, w.mark(t, outbox.SequencedID(aggregate, n+6)), "no marks without KeepMarks")
	}
}

// An event below the beginning that the process with marks has handled is a duplicate; without its mark it is late.
func TestAMarkBelowTheBeginningIsADuplicate(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, 1, 2, 3)
	require.NoError(t, w.marking(t, w.DynamoDB).Process(t.Context(), events[1]))
	for _, n := range []int64{1, 2} {
		_, err := w.DynamoDB.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: ptr("events"), Key: values{"eventId": str(outbox.SequencedID(aggregate, n))}})
		require.NoError(t, err)
	}
	c := w.keeping(t, w.DynamoDB, events[0].Time)
	require.NoError(t, c.Process(t.Context(), events[2]))
	require.NoError(t, c.Process(t.Context(), events[1]))
	require.ErrorIs(t, c.Process(t.Context(), events[0]), outbox.ErrLate)
	require.Equal(t, []int64{2, 3}, w.effects(t))
}

func TestWhatDoesNotGoTogetherWithKeepMarks(t *testing.T) {
	w := newOrderWorld(t)
	in := outbox.WithInbox(w.inbox(t, w.DynamoDB, outbox.WithInboxTTL(48*time.Hour)))
	since := func(d time.Duration) outbox.ConsumerOption {
		return outbox.WithOrder(w.DynamoDB, "events", time.Now().Add(-d).Truncate(time.Second))
	}
	for name, c := range map[string]struct {
		opts []outbox.ConsumerOption
		want string
	}{
		"no order":                  {[]outbox.ConsumerOption{in}, "KeepMarks: it needs WithOrder"},
		"all of the past":           {[]outbox.ConsumerOption{in, outbox.WithOrder(w.DynamoDB, "events", all)}, "KeepMarks: WithOrder needs a time from"},
		"what the inbox has forgot": {[]outbox.ConsumerOption{in, since(49 * time.Hour)}, "the Inbox forgets after 48h0m0s"},
	} {
		_, err := outbox.NewConsumer(append(c.opts, outbox.KeepMarks(), quiet())...)
		require.ErrorContains(t, err, c.want, name)
	}
	c := newConsumer(t, outbox.KeepMarks(), in, since(47*time.Hour))
	require.PanicsWithValue(t, `outbox: HandleType: the handler of "ORDER_CREATED" is guarded, and KeepMarks is for those of HandleTx: end all processes without WithOrder first, or give the Inbox another consumer name`,
		func() { outbox.Handle(c, ignoreOrder) })
}

// Position and mark are two of the 100 operations of a transaction.
func TestHowManyEffectsFitBesidePositionAndMark(t *testing.T) {
	for kept, most := range map[bool]int{false: 99, true: 98} {
		w := newOrderWorld(t)
		event := w.write(t, 1)[0]
		opts := []outbox.ConsumerOption{outbox.WithInbox(w.inbox(t, w.DynamoDB)), outbox.WithOrder(w.DynamoDB, "events", event.Time)}
		if kept {
			opts = append(opts, outbox.KeepMarks())
		}
		c := newConsumer(t, opts...)
		var effects outbox.Effects
		for i := range most {
			effects.Writes = append(effects.Writes, putNew(fmt.Sprintf("order-%d", i)))
		}
		effects.Events = []outbox.AnyEvent{outbox.NewEvent("x", orderCreated{})} // one too many
		outbox.HandleTx(c, w.writer, func(context.Context, outbox.Event[orderCreated]) (outbox.Effects, error) { return effects, nil })
		err := c.Process(t.Context(), event)
		require.ErrorIs(t, err, outbox.ErrInvalidWrite)
		require.ErrorContains(t, err, "101 operations")
		require.Equal(t, kept, strings.Contains(err.Error(), "and the aggregate's position and the inbox's mark"), err.Error())
		effects.Events = nil
		require.NoError(t, c.Process(t.Context(), event))
		w.requireRows(t, int64(most), 1)
	}
}
