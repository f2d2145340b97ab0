package outbox_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

func TestInvokeReportsTheFirstUnfinishedRecord(t *testing.T) {
	fine := changeRecord("ok", "a")
	for name, c := range map[string]struct {
		records []string
		want    string
	}{
		"no records":            {nil, ""},
		"all done":              {[]string{fine, fine}, ""},
		"first fails":           {[]string{changeRecord("fail", "a"), fine}, "s0"},
		"middle fails":          {[]string{fine, changeRecord("fail", "b"), fine}, "s1"},
		"last fails":            {[]string{fine, fine, changeRecord("fail", "b")}, "s2"},
		"panic":                 {[]string{fine, changeRecord("panic", "b")}, "s1"},
		"malformed":             {[]string{fine, `{"eventName":"INSERT","dyn`, fine}, "s1"},
		"not events":            {[]string{`{"eventName":"REMOVE"}`, `{"a":1}`, fine}, ""},
		"failure after skipped": {[]string{`{"eventName":"MODIFY"}`, fine, `{"eventName":"REMOVE"}`, changeRecord("fail", "x")}, "s3"},
		"failure before broken": {[]string{changeRecord("fail", "x"), `{`}, "s0"},
		"empty data":            {[]string{""}, "s0"},
	} {
		t.Run(name, func(t *testing.T) {
			consumer := newConsumer(t, outbox.WithConcurrency(1))
			outbox.HandleType(consumer, "T", func(_ context.Context, e outbox.Event[struct{}]) error {
				switch e.ID {
				case "fail":
					return errors.New("no")
				case "panic":
					panic("no")
				}
				return nil
			})
			got, err := consumer.Invoke(t.Context(), kinesisEvent(c.records...))
			require.NoError(t, err)
			require.Equal(t, unfinished(c.want), string(got))
		})
	}
}

func TestInvokeStartsNothingAfterAFailure(t *testing.T) {
	for _, poison := range []string{changeRecord("fail", "b"), `{"cut`} {
		var handled []string
		c := newConsumer(t, outbox.WithConcurrency(1), outbox.WithInvokeRetry(outbox.Retry{MaxAttempts: 1}))
		outbox.HandleType(c, "T", func(_ context.Context, e outbox.Event[struct{}]) error {
			if e.ID == "fail" {
				return errors.New("no")
			}
			handled = append(handled, e.ID)
			return nil
		})
		_, err := c.Invoke(t.Context(), kinesisEvent(changeRecord("1", "a"), poison, changeRecord("2", "c"), changeRecord("3", "d")))
		require.NoError(t, err)
		require.Equal(t, []string{"1"}, handled)
	}
}

// What runs when another record fails is waited for, and the answer is the lowest unfinished number.
func TestInvokeWaitsForRunningHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConsumer(t, outbox.WithConcurrency(3))
		slowDone := false
		outbox.HandleType(c, "T", func(_ context.Context, e outbox.Event[struct{}]) error {
			switch e.ID {
			case "slow":
				time.Sleep(time.Minute)
				slowDone = true
			case "fail":
				return errors.New("no")
			}
			return nil
		})
		got, err := c.Invoke(context.Background(), kinesisEvent(changeRecord("slow", "a"), changeRecord("fail", "b"), changeRecord("3", "a")))
		require.NoError(t, err)
		require.True(t, slowDone, "Invoke returned while a handler ran")
		require.Equal(t, unfinished("s1"), string(got))
	})
}

func TestInvokeStopsBeforeTheDeadline(t *testing.T) {
	for name, c := range map[string]struct {
		opts  []outbox.ConsumerOption
		limit time.Duration
		ends  time.Duration
		want  string
	}{
		"default margin":      {nil, 10 * time.Second, 9500 * time.Millisecond, "s3"},
		"own margin":          {[]outbox.ConsumerOption{outbox.WithDeadlineMargin(2 * time.Second)}, 12 * time.Second, 10 * time.Second, "s3"},
		"at most a fifth":     {nil, time.Second, 800 * time.Millisecond, "s0"},
		"deadline is over":    {nil, -time.Second, 0, "s0"},
		"time enough for all": {nil, time.Minute, 15 * time.Second, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				consumer := newConsumer(t, append(c.opts, outbox.WithConcurrency(1))...)
				outbox.HandleType(consumer, "T", func(ctx context.Context, _ outbox.Event[struct{}]) error {
					select {
					case <-time.After(3 * time.Second):
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				})
				start := time.Now()
				ctx, cancel := context.WithTimeout(context.Background(), c.limit)
				defer cancel()
				records := make([]string, 5)
				for i := range records {
					records[i] = changeRecord(fmt.Sprint(i), fmt.Sprint("agg", i))
				}
				got, err := consumer.Invoke(ctx, kinesisEvent(records...))
				require.NoError(t, err)
				require.Equal(t, unfinished(c.want), string(got))
				require.Equal(t, c.ends, time.Since(start))
			})
		})
	}
}

func TestInvokeTakesDynamoDBStreams(t *testing.T) {
	var raw map[string]any
	require.NoError(t, json.Unmarshal(golden(t, "streams_insert"), &raw))
	payload, err := json.Marshal(map[string]any{"Records": []any{raw}})
	require.NoError(t, err)

	c := newConsumer(t, outbox.WithTables("events"))
	var records []outbox.Record
	fail := false
	outbox.Handle(c, func(ctx context.Context, _ outbox.Event[orderCreated]) error {
		r, _ := outbox.RecordFromContext(ctx)
		records = append(records, r)
		if fail {
			return errors.New("no")
		}
		return nil
	})
	got, err := c.Invoke(t.Context(), payload)
	require.NoError(t, err)
	require.Equal(t, unfinished(""), string(got))
	require.Len(t, records, 1)
	require.Equal(t, "4421584500000000017450439091", records[0].SequenceNumber)
	require.Equal(t, "arn:aws:dynamodb:eu-west-1:123456789012:table/events/stream/2024-06-25T20:00:00.000", records[0].StreamARN)

	fail = true
	got, err = c.Invoke(t.Context(), payload)
	require.NoError(t, err)
	require.Equal(t, unfinished("4421584500000000017450439091"), string(got))
}

func TestInvokeTellsHandlersWhereARecordCameFrom(t *testing.T) {
	c := newConsumer(t)
	outbox.HandleType(c, "T", func(ctx context.Context, _ outbox.Event[struct{}]) error {
		r, _ := outbox.RecordFromContext(ctx)
		require.Equal(t, "arn:aws:kinesis:eu-west-1:1:stream/events", r.StreamARN)
		require.Equal(t, "shardId-000000000007", r.ShardID)
		require.Equal(t, "s0", r.SequenceNumber)
		return nil
	})
	got, err := c.Invoke(t.Context(), kinesisEvent(changeRecord("1", "a")))
	require.NoError(t, err)
	require.Equal(t, unfinished(""), string(got))
}

func TestTablesLimitAConsumer(t *testing.T) {
	foreign := `{"eventName":"INSERT","tableName":"orders","dynamodb":{"NewImage":{"eventId":{"S":"1"},"type":{"S":"T"}}}}`
	late := `{"eventName":"INSERT","dynamodb":{"NewImage":{"eventId":{"S":"1"},"type":{"S":"T"}}},"tableName":"orders"}`
	var reasons []string
	var handled int
	c := newConsumer(t, outbox.WithTables("other", "events"), outbox.WithConsumerHooks(outbox.ConsumerHooks{
		Skipped: func(_ context.Context, r outbox.Record, reason error) {
			require.ErrorIs(t, reason, outbox.ErrNotEvent)
			reasons = append(reasons, r.SequenceNumber+" "+reason.Error())
		},
	}))
	outbox.HandleType(c, "T", func(context.Context, outbox.Event[struct{}]) error { handled++; return nil })
	got, err := c.Invoke(t.Context(), kinesisEvent(foreign, late, changeRecord("1", "a")))
	require.NoError(t, err)
	require.Equal(t, unfinished(""), string(got))
	require.Equal(t, []string{"s0 outbox: not an event: the record is of another table", "s1 outbox: not an event: the record is of another table"}, reasons)
	require.Equal(t, 1, handled)
}

// A name in WithTables that is misspelt leaves out every event. The log says once that something is left out, wherever records come from.
func TestSkippedTablesAreLoggedOnce(t *testing.T) {
	foreign := strings.Replace(changeRecord("1", "a"), `"events"`, `"orders"`, 1)
	record, err := outbox.DecodeRecord([]byte(foreign))
	require.NoError(t, err)
	for name, deliver := range map[string]func(*outbox.Consumer) error{
		"Invoke": func(c *outbox.Consumer) error {
			_, err := c.Invoke(t.Context(), kinesisEvent(foreign, foreign))
			return err
		},
		"Process": func(c *outbox.Consumer) error { return c.Process(t.Context(), record, record) },
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			c := newConsumer(t, outbox.WithTables("event"), outbox.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
			require.NoError(t, deliver(c))
			require.NoError(t, deliver(c))
			require.Equal(t, 1, strings.Count(log.String(), "tables that WithTables does not name"), log.String())
			require.Contains(t, log.String(), "level=INFO")
			require.Contains(t, log.String(), "tables=[event]")
		})
	}
}

func TestJSONOfOthersIsLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	c := newConsumer(t, outbox.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	for range 2 {
		_, err := c.Invoke(t.Context(), kinesisEvent(`{"secret":1}`, `[2]`))
		require.NoError(t, err)
	}
	require.Equal(t, 1, strings.Count(log.String(), "JSON that is no change record"), log.String())
	require.Contains(t, log.String(), "level=INFO")
	require.NotContains(t, log.String(), "secret")
}

func TestInvokeSaysWhatArrivedInstead(t *testing.T) {
	for payload, want := range map[string]string{
		``:                           "have nothing",
		`"secret"`:                   "have 8 bytes that are no object",
		`{"body":"{}","headers":{}}`: `have an object with the members ["body" "headers"]`,
		`{"Records":5}`:              `have an object with the members ["Records"]`,
		`{"Records":[5]}`:            "record 0: want an object",
		`{"Records":[{}]}`:           `record 0: its eventSource is "", want aws:kinesis or aws:dynamodb`,
		`{"Records":[{"eventSource":"aws:sqs","body":"secret"}]}`: `record 0: its eventSource is "aws:sqs"`,
		`{"Records":[{"eventSource":"aws:kinesis"}]}`:             "record 0: it has no sequence number",
		`{"Records":[`:                "not JSON",
		`{"Records":[]} x`:            "not JSON",
		`{"Records":[],"Records":[]}`: "it has Records twice",
		`{"Records":[{"eventSource":"aws:kinesis","kinesis":{"sequenceNumber":"1"}},{"eventSource":"aws:dynamodb","dynamodb":{"SequenceNumber":"1"}}]}`: "record 1: it is from aws:dynamodb, the ones before it from aws:kinesis",
	} {
		got, err := newConsumer(t).Invoke(t.Context(), []byte(payload))
		require.ErrorContainsf(t, err, want, "payload %s", payload)
		require.ErrorContains(t, err, "outbox: Invoke: the payload is no event of Kinesis or DynamoDB Streams")
		require.NotContains(t, err.Error(), "secret")
		require.Nil(t, got)
	}
}

// Lambda's answer has no place for the reason of a failure, so the log is where it can be found.
func TestInvokeLogsWhyItFailed(t *testing.T) {
	var log bytes.Buffer
	c := newConsumer(t, outbox.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	bad := strings.Replace(string(kinesisEvent("x")), base64.StdEncoding.EncodeToString([]byte("x")), "*not base64*", 1)
	got, err := c.Invoke(t.Context(), []byte(bad))
	require.NoError(t, err)
	require.Equal(t, unfinished("s0"), string(got))
	require.Contains(t, log.String(), "shard=shardId-000000000007 sequenceNumber=s0")
	require.Contains(t, log.String(), "base64")
}

// A wrong attribute name would make every event "not an event": the log says so, once.
func TestItemsWithoutEventAttributesAreWarnedAboutOnce(t *testing.T) {
	var log bytes.Buffer
	c := newConsumer(t, outbox.WithLogger(slog.New(slog.NewTextHandler(&log, nil))), outbox.WithAttributes(outbox.Attributes{ID: "eventID"}))
	for range 2 {
		got, err := c.Invoke(t.Context(), kinesisEvent(changeRecord("1", "a"), `{"eventName":"REMOVE"}`, changeRecord("2", "a")))
		require.NoError(t, err)
		require.Equal(t, unfinished(""), string(got))
	}
	require.Equal(t, 1, bytes.Count(log.Bytes(), []byte("WARN")), log.String())
	require.Contains(t, log.String(), "idAttribute=eventID")
	require.Contains(t, log.String(), "sequenceNumber=s0")
}

func TestInvokeMayRunConcurrently(t *testing.T) {
	c := newConsumer(t)
	var mu sync.Mutex
	seen := map[string]int{}
	outbox.HandleType(c, "T", func(_ context.Context, e outbox.Event[struct{}]) error {
		mu.Lock()
		defer mu.Unlock()
		seen[e.ID]++
		return nil
	})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 50 {
				got, err := c.Invoke(context.Background(), kinesisEvent(changeRecord(fmt.Sprint(g, "-", i), "a"), changeRecord(fmt.Sprint(g, "+", i), "b")))
				require.NoError(t, err)
				require.Equal(t, unfinished(""), string(got))
			}
		})
	}
	wg.Wait()
	require.Len(t, seen, 8*50*2)
}

// As on Lambda Managed Instances: several invocations at once in one process, each with a deadline of its own.
func TestConcurrentInvocationsShareLanes(t *testing.T) {
	const concurrency = 3
	type running struct {
		now, most int
		started   map[string]bool
		overlaps  []string
	}
	newCase := func(t *testing.T) (c *outbox.Consumer, all *running) {
		c, all = newConsumer(t, outbox.WithConcurrency(concurrency), outbox.WithInvokeRetry(outbox.Retry{MaxAttempts: 1})), &running{started: map[string]bool{}}
		var mu sync.Mutex
		lanes := map[string]string{}
		outbox.HandleType(c, "T", func(ctx context.Context, e outbox.Event[struct{}]) error {
			mu.Lock()
			if other := lanes[e.AggregateID]; other != "" {
				all.overlaps = append(all.overlaps, e.ID+" began while "+other+" was handled")
			}
			lanes[e.AggregateID] = e.ID
			all.started[e.ID] = true
			all.now++
			all.most = max(all.most, all.now)
			mu.Unlock()
			defer func() {
				mu.Lock()
				defer mu.Unlock()
				lanes[e.AggregateID] = ""
				all.now--
			}()
			switch e.Type, _, _ = strings.Cut(e.ID, " "); e.Type {
			case "fail":
				return errors.New("no")
			case "slow":
				time.Sleep(30 * time.Second)
			default:
				time.Sleep(100 * time.Millisecond)
			}
			return ctx.Err()
		})
		return c, all
	}
	invoke := func(t *testing.T, c *outbox.Consumer, timeout time.Duration, changes ...string) (answer string, took time.Duration) {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		start := time.Now()
		got, err := c.Invoke(ctx, kinesisEvent(changes...))
		require.NoError(t, err)
		return string(got), time.Since(start)
	}

	synctest.Test(t, func(t *testing.T) { // many of them, over the same aggregates
		c, all := newCase(t)
		var wg sync.WaitGroup
		for n := range 8 {
			wg.Go(func() {
				var changes []string
				for i := range 20 {
					changes = append(changes, changeRecord(fmt.Sprint("quick ", n, "-", i), fmt.Sprint("a", (n+i)%5)))
				}
				answer, _ := invoke(t, c, 15*time.Minute, changes...)
				require.Equal(t, unfinished(""), answer)
			})
		}
		wg.Wait()
		require.Empty(t, all.overlaps)
		require.Equal(t, concurrency, all.most, "handlers at once, over all invocations")
	})

	synctest.Test(t, func(t *testing.T) { // one ends while its event waits for another invocation's
		c, all := newCase(t)
		var wg sync.WaitGroup
		wg.Go(func() {
			answer, took := invoke(t, c, time.Minute, changeRecord("slow 1", "a"), changeRecord("quick 1", "a"))
			require.Equal(t, unfinished(""), answer, "the end of another invocation is none of its business")
			require.Equal(t, 30*time.Second+100*time.Millisecond, took)
		})
		wg.Go(func() {
			time.Sleep(time.Second)
			answer, took := invoke(t, c, 10*time.Second, changeRecord("quick 2", "b"), changeRecord("quick 3", "a"))
			require.Equal(t, unfinished("s1"), answer)
			require.Equal(t, 10*time.Second-500*time.Millisecond, took, "its own deadline, less the margin")
		})
		wg.Go(func() {
			time.Sleep(2 * time.Second)
			answer, took := invoke(t, c, time.Minute, changeRecord("fail 1", "c"), changeRecord("quick 4", "a"))
			require.Equal(t, unfinished("s0"), answer)
			require.Zero(t, took, "it does not wait for a record that it will not start")
		})
		wg.Wait()
		require.Empty(t, all.overlaps)
		require.Equal(t, map[string]bool{"slow 1": true, "quick 1": true, "quick 2": true, "fail 1": true}, all.started,
			"nothing else of an invocation that has failed or ended")
	})
}

func FuzzInvoke(f *testing.F) {
	f.Add(kinesisEvent(changeRecord("1", "a"), `{"eventName":"REMOVE"}`))
	f.Add([]byte(`{"Records":[{"eventSource":"aws:dynamodb","dynamodb":{"SequenceNumber":"1"}}]}`))
	c, err := outbox.NewConsumer(quiet())
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, payload []byte) {
		answer, err := c.Invoke(context.Background(), payload)
		if err == nil {
			require.True(t, json.Valid(answer))
			require.True(t, json.Valid(payload), "an invocation that is not JSON was accepted")
		}
	})
}
