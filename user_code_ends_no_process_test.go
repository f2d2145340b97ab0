package outbox_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// bomb is code of a user: it panics, or ends its goroutine.
type bomb func()

func panics() { panic("on fire") }

// bombCodec calls the bomb in one of its methods.
type bombCodec struct {
	in   string
	bomb bomb
}

func (c bombCodec) ignite(in string) {
	if c.in == in {
		c.bomb()
	}
}
func (c bombCodec) ContentType() string         { c.ignite("ContentType"); return "text/x-bomb" }
func (c bombCodec) Marshal(any) ([]byte, error) { c.ignite("Marshal"); return []byte(`{}`), nil }
func (c bombCodec) Unmarshal([]byte, any) error { c.ignite("Unmarshal"); return nil }

// handler is a log handler that calls the bomb.
type handler struct {
	slog.Handler
	bomb bomb
}

func (handler) Enabled(context.Context, slog.Level) bool { return true }

func (h handler) Handle(context.Context, slog.Record) error {
	h.bomb()
	return nil
}

// bombError is an error that calls the bomb in one of its methods.
type bombError struct {
	in   string
	bomb bomb
}

func (e bombError) ignite(in string) {
	if e.in == in {
		e.bomb()
	}
}
func (e bombError) Error() string     { e.ignite("Error"); return "bomb" }
func (e bombError) Is(error) bool     { e.ignite("Is"); return false }
func (e bombError) As(any) bool       { e.ignite("As"); return false }
func (e bombError) Unwrap() error     { e.ignite("Unwrap"); return nil }
func (e bombError) ErrorCode() string { e.ignite("ErrorCode"); return "AccessDeniedException" }

// TestUserCodeEndsNoProcess: whatever of the user's is called on a goroutine of the library may panic. A panic that got through would end this
// test. Where the library can go on after a runtime.Goexit, it does.
func TestUserCodeEndsNoProcess(t *testing.T) {
	process := func(t *testing.T, want string, h func(context.Context, outbox.Event[struct{}]) error, opts ...outbox.ConsumerOption) {
		c := newConsumer(t, opts...)
		outbox.HandleType(c, "T", h)
		err := c.Process(t.Context(), outbox.Record{ID: "1", Type: "T", AggregateID: "a", ContentType: "text/x-bomb", Payload: []byte(`{}`)})
		if want == "" {
			require.NoError(t, err)
			return
		}
		require.ErrorContains(t, err, want)
		require.Len(t, err.(*outbox.ProcessError).Failures, 1) //nolint:errorlint // the documented type
	}
	succeed := func(context.Context, outbox.Event[struct{}]) error { return nil }
	decodes := outbox.WithCodec(bombCodec{})
	letters := func(t *testing.T) outbox.ConsumerOption {
		return outbox.WithDeadLetters(newOffice(t).letters, outbox.WithInvokeAttempts(1))
	}
	ends := map[string]bomb{"panics": panics, "ends its goroutine": runtime.Goexit}
	for name, run := range map[string]func(t *testing.T, b bomb, how string){
		"a handler": func(t *testing.T, b bomb, how string) {
			process(t, map[string]string{"panics": "on fire"}[how]+map[string]string{"ends its goroutine": "ended its goroutine"}[how],
				func(context.Context, outbox.Event[struct{}]) error { b(); return nil }, decodes)
		},
		"middleware": func(t *testing.T, b bomb, _ string) {
			process(t, "1 of them failed", succeed, decodes, outbox.WithMiddleware(func(outbox.Handler) outbox.Handler {
				return func(context.Context, outbox.Record) error { b(); return nil }
			}))
		},
		"a codec that decodes": func(t *testing.T, b bomb, _ string) {
			process(t, "1 of them failed", succeed, outbox.WithCodec(bombCodec{"Unmarshal", b}))
		},
		"a codec that encodes for HandleTx": func(t *testing.T, b bomb, _ string) {
			w := newInboxWorld(t)
			c := newConsumer(t, decodes, outbox.WithInbox(w.inbox(t, w.DynamoDB)))
			writer := newWriter(t, w.DynamoDB, outbox.WithCodec(bombCodec{"Marshal", b}))
			outbox.HandleTxType(c, writer, "T", func(context.Context, outbox.Event[struct{}]) (outbox.Effects, error) {
				return outbox.Effects{Events: []outbox.AnyEvent{outbox.NewEvent("a", orderCreated{})}}, nil
			})
			require.ErrorContains(t, c.Process(t.Context(), rec("1", "a")), "1 of them failed")
		},
		"headers and hooks of HandleTx's Writer": func(t *testing.T, b bomb, how string) {
			for _, option := range []outbox.WriterOption{
				outbox.WithHeaders(func(context.Context) map[string]string { b(); return nil }),
				outbox.WithWriterHooks(outbox.WriterHooks{Written: func(context.Context, outbox.WriteInfo) { b() }}),
			} {
				w := newInboxWorld(t)
				c := newConsumer(t, outbox.WithInbox(w.inbox(t, w.DynamoDB)))
				outbox.HandleTxType(c, newWriter(t, w.DynamoDB, option), "T", func(context.Context, outbox.Event[struct{}]) (outbox.Effects, error) {
					return outbox.Effects{Events: []outbox.AnyEvent{outbox.NewEvent("a", orderCreated{})}}, nil
				})
				require.ErrorContains(t, c.Process(t.Context(), rec("1", "a")), "1 of them failed")
			}
		},
		"the hook Handled": func(t *testing.T, b bomb, _ string) { // what the handler has done counts
			process(t, "", succeed, decodes, outbox.WithConsumerHooks(outbox.ConsumerHooks{
				Handled: func(context.Context, outbox.Record, time.Duration, error) { b() }}))
		},
		"the function of WithForeignRecords": func(t *testing.T, b bomb, _ string) {
			c := newConsumer(t, outbox.WithForeignRecords(func([]byte) bool { b(); return true }))
			require.False(t, passedOver(t, c, "plain text"))
		},
		"the hook Skipped": func(t *testing.T, b bomb, _ string) {
			c := newConsumer(t, outbox.WithConsumerHooks(outbox.ConsumerHooks{Skipped: func(context.Context, outbox.Record, error) { b() }}))
			outbox.HandleType(c, "T", succeed)
			require.NoError(t, c.Process(t.Context(), outbox.Record{ID: "1", Type: "other", AggregateID: "a"}, rec("2", "a")))
			answer, err := c.Invoke(t.Context(), kinesisEvent(`{"eventName":"REMOVE"}`, changeRecord("3", "a")))
			require.NoError(t, err)
			require.Equal(t, unfinished(""), string(answer))
		},
		"the hook Duplicate": func(t *testing.T, b bomb, _ string) {
			w := newInboxWorld(t)
			told := 0
			c := newConsumer(t, outbox.WithInbox(w.inbox(t, w.DynamoDB)), outbox.WithConsumerHooks(outbox.ConsumerHooks{
				Duplicate: func(context.Context, outbox.Record) { told++; b() }}))
			outbox.HandleType(c, "T", succeed)
			for range 2 {
				require.NoError(t, c.Process(t.Context(), rec("1", "a")))
			}
			require.Equal(t, 1, told)
		},
		"the hook DeadLettered": func(t *testing.T, b bomb, _ string) {
			process(t, "", func(context.Context, outbox.Event[struct{}]) error { return errors.New("down") }, decodes, letters(t),
				outbox.WithConsumerHooks(outbox.ConsumerHooks{DeadLettered: func(context.Context, outbox.DeadLetter) { b() }}))
		},
		"Progress of a redrive": func(t *testing.T, b bomb, _ string) {
			o := newOffice(t)
			o.bury(t, 2, 2)
			c := newConsumer(t, outbox.WithDeadLetters(o.letters))
			outbox.HandleType(c, "T", succeed)
			done, err := o.letters.Redrive(t.Context(), c, outbox.DeadLetterFilter{}, outbox.RedriveOptions{Progress: func(outbox.RedriveResult) { b() }})
			require.NoError(t, err)
			require.Equal(t, outbox.RedriveResult{Redriven: 4}, done)
		},
		"the hooks of a Worker": func(t *testing.T, b bomb, _ string) {
			bubble(t, func(t *testing.T) {
				f := newFleet(t)
				defer f.Close()
				require.NoError(t, f.SetFaults(outboxtest.Fault{Kind: outboxtest.Throttle, Service: "Kinesis", Operation: "GetRecords", Calls: []int{1, 2, 3, 4, 5, 6, 7, 8}}))
				w := f.start(t, func(_ context.Context, e outbox.Event[orderCreated]) error {
					f.note(t, e)
					return nil
				}, outbox.WithWorkerHooks(outbox.WorkerHooks{
					Status:  func(outbox.ShardStatus) { b() },
					Lease:   func(outbox.LeaseEvent) { b() },
					Retried: func(string, bool, error) { b() },
				}))
				ids := f.put(t, "a", 3, 3)
				f.await(t, "all handled", time.Minute, f.all(ids))
				require.NoError(t, w.stop())
				f.requireTimes(t, 1, ids)
			})
		},
	} {
		for how, b := range ends {
			t.Run(name+" "+how, func(t *testing.T) { run(t, b, how) })
		}
	}

	t.Run("a log handler panics", func(t *testing.T) {
		logger := outbox.WithLogger(slog.New(handler{slog.DiscardHandler, panics}))
		process(t, "down", func(context.Context, outbox.Event[struct{}]) error { return errors.New("down") }, decodes, logger)
		bubble(t, func(t *testing.T) {
			f := newFleet(t)
			defer f.Close()
			c := newConsumer(t, outbox.WithTables("events"), logger)
			outbox.Handle(c, func(_ context.Context, e outbox.Event[orderCreated]) error {
				f.note(t, e)
				return nil
			})
			w, err := outbox.NewWorker(f.Kinesis, "events", c, f.leases)
			require.NoError(t, err)
			r := runWorker(t, w)
			ids := f.put(t, "a", 1, 1)
			f.await(t, "all handled", time.Minute, f.all(ids))
			require.NoError(t, r.stop())
		})
	})
	t.Run("a codec has a name that panics", func(t *testing.T) {
		_, err := outbox.NewConsumer(outbox.WithCodec(bombCodec{"ContentType", panics}))
		require.ErrorContains(t, err, "WithCodec: codec 0 (outbox_test.bombCodec): ContentType panicked: on fire")
	})
	for _, method := range []string{"Error", "Is", "As", "Unwrap", "ErrorCode"} {
		hostile := bombError{method, panics}
		for name, err := range map[string]error{"": hostile, "wrapped ": fmt.Errorf("load: %w", hostile), "joined ": errors.Join(errors.New("load"), hostile)} {
			if name != "" && method == "Error" {
				continue // it panics in the code that wraps it
			}
			t.Run("the method "+method+" of a "+name+"handler's error panics", func(t *testing.T) {
				fail := func(context.Context, outbox.Event[struct{}]) error { return err }
				process(t, "1 of them failed", fail, decodes)
				process(t, "", fail, decodes, letters(t))
				w := newInboxWorld(t)
				c := newConsumer(t, outbox.WithInbox(w.inbox(t, w.DynamoDB)))
				outbox.HandleTxType(c, w.writer, "T", func(context.Context, outbox.Event[struct{}]) (outbox.Effects, error) { return outbox.Effects{}, err })
				require.ErrorContains(t, c.Process(t.Context(), rec("1", "a")), "1 of them failed")
			})
			t.Run("the method "+method+" of a "+name+"client's error panics", func(t *testing.T) {
				w := newWriter(t, &recordingClient{err: err})
				failed := w.Transact(t.Context(), nil, outbox.NewEvent("a", orderCreated{}))
				require.NotEmpty(t, failed.Error())
				require.NotErrorIs(t, failed, outbox.ErrConditionFailed)
				inbox, newErr := outbox.NewInbox(failingInbox{err: err}, "inbox", "mails")
				require.NoError(t, newErr)
				process(t, "could not be claimed", succeed, decodes, outbox.WithInbox(inbox))
				bubble(t, func(t *testing.T) {
					f := newFleet(t)
					defer f.Close()
					client := &failingKinesis{KinesisClient: f.Kinesis, err: err}
					client.left.Store(3)
					r := f.startWith(t, client, f.leases, func(_ context.Context, e outbox.Event[orderCreated]) error {
						f.note(t, e)
						return nil
					})
					ids := f.put(t, "a", 1, 1)
					f.await(t, "all handled", time.Minute, f.all(ids))
					require.NoError(t, r.stop())
				})
			})
		}
	}
}

// failingInbox is a client whose writes fail.
type failingInbox struct {
	outbox.InboxClient
	err error
}

func (c failingInbox) PutItem(context.Context, *dynamodb.PutItemInput, ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	return nil, c.err
}

func (c failingInbox) DeleteItem(context.Context, *dynamodb.DeleteItemInput, ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error) {
	return nil, c.err
}

// failingKinesis fails at first.
type failingKinesis struct {
	outbox.KinesisClient
	left atomic.Int32
	err  error
}

func (c *failingKinesis) ListShards(ctx context.Context, in *kinesis.ListShardsInput, opts ...func(*kinesis.Options)) (*kinesis.ListShardsOutput, error) {
	if c.left.Add(-1) >= 0 {
		return nil, c.err
	}
	return c.KinesisClient.ListShards(ctx, in, opts...)
}

// TestANilPointerAsAnErrorIsAFailure: the usual mistake is a function that returns a pointer, as the error of a handler.
func TestANilPointerAsAnErrorIsAFailure(t *testing.T) {
	var log bytes.Buffer
	c := newConsumer(t, outbox.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	outbox.HandleType(c, "T", func(context.Context, outbox.Event[struct{}]) error { return (*nilError)(nil) })
	want := "the handler returned a nil *outbox_test.nilError as its error"
	require.ErrorContains(t, c.Process(t.Context(), rec("1", "a")), want)
	require.Equal(t, 1, strings.Count(log.String(), want))
}

// TestErrorsOfHandlersStayThemselves: errors.Is and errors.As find in the error of a delivery what the handler returned.
func TestErrorsOfHandlersStayThemselves(t *testing.T) {
	own := &types.ConditionalCheckFailedException{}
	var told error
	c := newConsumer(t, outbox.WithConsumerHooks(outbox.ConsumerHooks{Handled: func(_ context.Context, _ outbox.Record, _ time.Duration, err error) { told = err }}))
	outbox.HandleType(c, "T", func(context.Context, outbox.Event[struct{}]) error {
		return outbox.Permanent(fmt.Errorf("book: %w", errors.Join(context.Canceled, own)))
	})
	err := c.Process(t.Context(), rec("1", "a"))
	for _, err := range []error{err, told} {
		require.ErrorIs(t, err, outbox.ErrPermanent)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, own)
		var found *types.ConditionalCheckFailedException
		require.ErrorAs(t, err, &found)
		require.Same(t, own, found)
		require.NotErrorIs(t, err, context.DeadlineExceeded)
	}
}
