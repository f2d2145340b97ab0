package outboxtest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// event is what a function sees of a Kinesis event.
type event struct {
	Records []struct {
		Kinesis struct {
			PartitionKey, SequenceNumber string
			Data                         []byte
		}
		EventID, EventName, EventSource, EventSourceARN string
	}
}

func (e event) data() []string {
	var out []string
	for _, r := range e.Records {
		out = append(out, string(r.Kinesis.Data))
	}
	return out
}

func (e event) id(data string) string {
	for _, r := range e.Records {
		if string(r.Kinesis.Data) == data {
			return r.Kinesis.SequenceNumber
		}
	}
	return "4" // in no batch
}

// function is a Lambda function that notes what it was invoked with.
type function struct {
	mu          sync.Mutex
	invocations [][]string
	answer      func(n int, e event) (string, error) // n counts from 0; nil answers nothing
}

func (f *function) Invoke(_ context.Context, payload []byte) ([]byte, error) {
	var e event
	if err := json.Unmarshal(payload, &e); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.invocations = append(f.invocations, e.data())
	if f.answer == nil {
		return nil, nil
	}
	body, err := f.answer(len(f.invocations)-1, e)
	return []byte(body), err
}

func (f *function) seen() [][]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.invocations)
}

// failing answers that the records are failed.
func failing(e event, data ...string) string {
	var items []string
	for _, d := range data {
		items = append(items, fmt.Sprintf(`{"itemIdentifier":%q}`, e.id(d)))
	}
	return `{"batchItemFailures":[` + strings.Join(items, ",") + `]}`
}

// deadline bounds a test that would otherwise wait for ever.
func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// run puts records 0 to n-1 into one shard, maps it and waits until all is
// handled; it returns what the function saw and what was given up.
func run(t *testing.T, src outboxtest.EventSource, n int, answer func(int, event) (string, error)) (seen [][]string, failed []outboxtest.FailedBatch) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		a := outboxtest.Start(t)
		name := stream(t, a, "changes", 1)
		for i := range n {
			put(t, a, name, "k", fmt.Sprint(i))
		}
		src.Stream = *name
		src.OnFailure = func(f outboxtest.FailedBatch) { failed = append(failed, f) }
		f := &function{answer: answer}
		_, err := a.Map(src, f.Invoke)
		require.NoError(t, err)
		require.NoError(t, a.Drain(deadline(t)))
		a.Close()
		seen = f.seen()
	})
	return seen, failed
}

func batches(texts ...string) (out [][]string) {
	for _, text := range texts {
		out = append(out, strings.Fields(text))
	}
	return out
}

func TestWhatAnAnswerMeans(t *testing.T) {
	boom := errors.New("boom")
	once := func(body string, err error) func(int, event) (string, error) {
		return func(n int, _ event) (string, error) {
			if n == 0 {
				return body, err
			}
			return "", nil
		}
	}
	failOnce := func(data ...string) func(int, event) (string, error) {
		return func(n int, e event) (string, error) {
			if n == 0 {
				return failing(e, data...), nil
			}
			return "", nil
		}
	}
	again := batches("0 1 2 3", "0 1 2 3")
	success := batches("0 1 2 3")
	for _, c := range []struct {
		name    string
		partial bool
		answer  func(int, event) (string, error)
		want    [][]string
	}{
		{"nothing", true, once("", nil), success},
		{"null", true, once("null", nil), success},
		{"an empty object", true, once("{}", nil), success},
		{"no failures", true, once(`{"batchItemFailures":[]}`, nil), success},
		{"null failures", true, once(`{"batchItemFailures":null}`, nil), success},
		{"something else", true, once(`{"statusCode":200}`, nil), success},
		{"the first failed", true, failOnce("0"), again},
		{"one failed", true, failOnce("2"), batches("0 1 2 3", "2 3")},
		{"the last failed", true, failOnce("3"), batches("0 1 2 3", "3")},
		{"the lowest wins", true, failOnce("3", "1", "2"), batches("0 1 2 3", "1 2 3")},
		{"an empty identifier", true, once(`{"batchItemFailures":[{"itemIdentifier":""}]}`, nil), again},
		{"a null identifier", true, once(`{"batchItemFailures":[{"itemIdentifier":null}]}`, nil), again},
		{"a number for an identifier", true, once(`{"batchItemFailures":[{"itemIdentifier":1}]}`, nil), again},
		{"a bad key", true, once(`{"batchItemFailures":[{"itemIdentifer":"1"}]}`, nil), again},
		{"an unknown identifier", true, failOnce("9"), again},
		{"a known and an unknown identifier", true, failOnce("2", "9"), again},
		{"not JSON", true, once("ok", nil), again},
		{"an error", true, once("", boom), again},
		{"an error with an answer", true, once(`{"batchItemFailures":[]}`, boom), again},
		{"failures nobody reads", false, failOnce("2"), success},
		{"an error without partial failures", false, once("", boom), again},
	} {
		t.Run(c.name, func(t *testing.T) {
			seen, failed := run(t, outboxtest.EventSource{ReportBatchItemFailures: c.partial}, 4, c.answer)
			require.Equal(t, c.want, seen)
			require.Empty(t, failed)
		})
	}
}

func TestGivingUp(t *testing.T) {
	boom := errors.New("boom")
	poison := func(bad ...string) func(int, event) (string, error) {
		return func(_ int, e event) (string, error) {
			if slices.ContainsFunc(e.data(), func(d string) bool { return slices.Contains(bad, d) }) {
				return "", boom
			}
			return "", nil
		}
	}
	report := func(bad string) func(int, event) (string, error) {
		return func(_ int, e event) (string, error) {
			if slices.Contains(e.data(), bad) {
				return failing(e, bad), nil
			}
			return "", nil
		}
	}
	for _, c := range []struct {
		name    string
		src     outboxtest.EventSource
		answer  func(int, event) (string, error)
		want    [][]string
		dropped [][2]string // condition, number of records x attempts
	}{
		{"after the last attempt the next batch goes on",
			outboxtest.EventSource{BatchSize: 2, MaxAttempts: 3}, poison("1"),
			batches("0 1", "0 1", "0 1", "2 3"), [][2]string{{"RetryAttemptsExhausted", "2x3"}}},
		{"one attempt means no retry",
			outboxtest.EventSource{MaxAttempts: 1}, poison("1"), batches("0 1 2 3"), [][2]string{{"RetryAttemptsExhausted", "4x1"}}},
		{"bisecting isolates the poison and does not count",
			outboxtest.EventSource{MaxAttempts: 1, BisectOnError: true}, poison("2"),
			batches("0 1 2 3", "0 1", "2 3", "2", "3"), [][2]string{{"RetryAttemptsExhausted", "1x1"}}},
		{"bisecting retries the single record",
			outboxtest.EventSource{MaxAttempts: 2, BisectOnError: true}, poison("0", "3"),
			batches("0 1 2 3", "0 1", "0", "0", "1", "2 3", "2", "3", "3"),
			[][2]string{{"RetryAttemptsExhausted", "1x2"}, {"RetryAttemptsExhausted", "1x2"}}},
		{"partial progress starts the count anew",
			outboxtest.EventSource{MaxAttempts: 2, ReportBatchItemFailures: true}, report("2"),
			batches("0 1 2 3", "2 3", "2 3"), [][2]string{{"RetryAttemptsExhausted", "2x2"}}},
		{"a reported record is retried from there, not bisected",
			outboxtest.EventSource{MaxAttempts: 2, ReportBatchItemFailures: true, BisectOnError: true}, report("1"),
			batches("0 1 2 3", "1 2 3", "1 2 3"), [][2]string{{"RetryAttemptsExhausted", "3x2"}}},
		{"old records are given up, younger ones not",
			outboxtest.EventSource{MaxAge: 10 * time.Second}, func(_ int, e event) (string, error) {
				time.Sleep(4 * time.Second)
				return "", boom
			},
			batches("0 1 2 3", "0 1 2 3", "0 1 2 3"), [][2]string{{"MaximumRecordAgeExceeded", "4x3"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			seen, failed := run(t, c.src, 4, c.answer)
			require.Equal(t, c.want, seen)
			require.Len(t, failed, len(c.dropped))
			for i, f := range failed {
				require.Equal(t, c.dropped[i], [2]string{f.Condition, fmt.Sprintf("%dx%d", f.Size, f.Attempts)})
				require.Equal(t, first, f.ShardID)
				require.Equal(t, "arn:aws:kinesis:us-east-1:000000000000:stream/changes", f.StreamARN)
				require.Error(t, f.Err)
				e := parse(t, f.Payload)
				require.Len(t, e.Records, f.Size)
				require.Equal(t, e.Records[0].Kinesis.SequenceNumber, f.FirstSequenceNumber)
				require.Equal(t, e.Records[f.Size-1].Kinesis.SequenceNumber, f.LastSequenceNumber)
			}
		})
	}
}

func parse(t *testing.T, payload []byte) event {
	t.Helper()
	var e event
	require.NoError(t, json.Unmarshal(payload, &e), "%s", payload)
	return e
}

func TestTheKinesisEvent(t *testing.T) {
	at := time.Date(2024, 11, 18, 10, 9, 15, 932e6, time.UTC)
	a := outboxtest.Start(t, outboxtest.WithClock(func() time.Time { return at }), outboxtest.WithRegion("eu-west-1"), outboxtest.WithAccount("123456789012"))
	name := stream(t, a, "changes", 1)
	sequence := *put(t, a, name, "859F4B<>", `{"a":"<"}`).SequenceNumber
	var got string
	_, err := a.Map(outboxtest.EventSource{Stream: "arn:aws:kinesis:eu-west-1:123456789012:stream/changes"}, func(_ context.Context, payload []byte) ([]byte, error) {
		got = string(payload)
		return nil, nil
	})
	require.NoError(t, err)
	require.NoError(t, a.Drain(deadline(t)))
	a.Close()
	require.Equal(t, `{"Records":[{"kinesis":{"kinesisSchemaVersion":"1.0","partitionKey":"859F4B<>","sequenceNumber":"`+sequence+
		`","data":"eyJhIjoiPCJ9","approximateArrivalTimestamp":1731924555.932},"eventSource":"aws:kinesis","eventVersion":"1.0",`+
		`"eventID":"shardId-000000000000:`+sequence+`","eventName":"aws:kinesis:record",`+
		`"invokeIdentityArn":"arn:aws:iam::123456789012:role/lambda-role","awsRegion":"eu-west-1",`+
		`"eventSourceARN":"arn:aws:kinesis:eu-west-1:123456789012:stream/changes"}]}`, got)
}

func TestBatchSizeAndPayloadLimit(t *testing.T) {
	seen, _ := run(t, outboxtest.EventSource{BatchSize: 3}, 7, nil)
	require.Equal(t, batches("0 1 2", "3 4 5", "6"), seen)

	a := outboxtest.Start(t)
	name := stream(t, a, "changes", 1)
	for range 10 {
		put(t, a, name, "k", strings.Repeat("x", 1<<20-1)) // 4/3 of that in base64
	}
	var sizes []int
	_, err := a.Map(outboxtest.EventSource{Stream: *name}, func(_ context.Context, payload []byte) ([]byte, error) {
		if len(payload) > 6<<20 {
			return nil, fmt.Errorf("a payload of %d bytes", len(payload))
		}
		sizes = append(sizes, len(parse(t, payload).Records))
		return nil, nil
	})
	require.NoError(t, err)
	require.NoError(t, a.Drain(deadline(t)))
	a.Close()
	require.Equal(t, []int{4, 4, 2}, sizes)
}

func TestBatchWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := outboxtest.Start(t)
		name := stream(t, a, "changes", 1)
		f := &function{}
		_, err := a.Map(outboxtest.EventSource{Stream: *name, BatchWindow: 10 * time.Second, BatchSize: 3}, f.Invoke)
		require.NoError(t, err)
		put(t, a, name, "k", "0")
		time.Sleep(9 * time.Second)
		put(t, a, name, "k", "1")
		synctest.Wait()
		require.Empty(t, f.seen(), "the window is open")
		time.Sleep(2 * time.Second)
		require.Equal(t, batches("0 1"), f.seen(), "the window is over")
		for i := range 3 {
			put(t, a, name, "k", fmt.Sprint("a", i))
		}
		synctest.Wait()
		require.Equal(t, batches("0 1", "a0 a1 a2"), f.seen(), "a full batch does not wait")
		put(t, a, name, "k", "b")
		began := time.Now()
		require.NoError(t, a.Drain(deadline(t)))
		require.Equal(t, batches("0 1", "a0 a1 a2", "b"), f.seen(), "draining does not wait")
		require.Zero(t, time.Since(began))
	})
}

func TestOneBatchPerShardAtATimeInOrder(t *testing.T) {
	for _, parallel := range []int{1, 4} {
		t.Run(fmt.Sprint(parallel), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := outboxtest.Start(t)
				name := stream(t, a, "changes", 2)
				var mu sync.Mutex
				running, most := make(map[string]int), make(map[string]int)
				perKey := make(map[string][]string)
				_, err := a.Map(outboxtest.EventSource{Stream: *name, BatchSize: 3, ParallelizationFactor: parallel},
					func(_ context.Context, payload []byte) ([]byte, error) {
						e := parse(t, payload)
						shard, _, _ := strings.Cut(e.Records[0].EventID, ":")
						mu.Lock()
						running[shard]++
						most[shard] = max(most[shard], running[shard])
						for _, r := range e.Records {
							perKey[r.Kinesis.PartitionKey] = append(perKey[r.Kinesis.PartitionKey], string(r.Kinesis.Data))
						}
						mu.Unlock()
						time.Sleep(time.Second)
						mu.Lock()
						running[shard]--
						mu.Unlock()
						return nil, nil
					})
				require.NoError(t, err)
				for i := range 200 {
					put(t, a, name, fmt.Sprint("key", i%20), fmt.Sprint(i/20))
				}
				require.NoError(t, a.Drain(t.Context()))
				require.Len(t, most, 2)
				for shard, n := range most {
					require.Equal(t, parallel, n, shard)
				}
				require.Len(t, perKey, 20)
				for key, order := range perKey {
					require.Equal(t, strings.Fields("0 1 2 3 4 5 6 7 8 9"), order, key)
				}
			})
		})
	}
}

func TestChildrenWaitForTheirParents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := outboxtest.Start(t)
		name := stream(t, a, "changes", 1)
		put(t, a, name, "k", "parent")
		split(t, a, name, shards(t, a, name)[0])
		put(t, a, name, "k", "child")
		all := shards(t, a, name)
		_, err := a.Kinesis.MergeShards(t.Context(), mergeInput(name, all[1], all[2]))
		require.NoError(t, err)
		put(t, a, name, "k", "grandchild")
		var failures int
		f := &function{answer: func(_ int, e event) (string, error) {
			if failures++; failures < 4 {
				return "", errors.New("not yet")
			}
			return "", nil
		}}
		_, err = a.Map(outboxtest.EventSource{Stream: *name}, f.Invoke)
		require.NoError(t, err)
		require.NoError(t, a.Drain(deadline(t)))
		require.Equal(t, batches("parent", "parent", "parent", "parent", "child", "grandchild"), f.seen())
	})
}

func TestStartingPositions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := outboxtest.Start(t)
		name := stream(t, a, "changes", 1)
		put(t, a, name, "k", "old")
		time.Sleep(time.Minute)
		second := time.Now()
		put(t, a, name, "k", "newer")
		functions := map[string]*function{}
		for position, src := range map[string]outboxtest.EventSource{
			"default":   {Stream: *name},
			"horizon":   {Stream: *name, StartingPosition: "TRIM_HORIZON"},
			"latest":    {Stream: *name, StartingPosition: "LATEST"},
			"timestamp": {Stream: *name, StartingPosition: "AT_TIMESTAMP", StartingTimestamp: second},
		} {
			functions[position] = &function{}
			_, err := a.Map(src, functions[position].Invoke)
			require.NoError(t, err)
		}
		require.NoError(t, a.Drain(deadline(t)))
		split(t, a, name, shards(t, a, name)[0])
		put(t, a, name, "k", "after the split")
		require.NoError(t, a.Drain(deadline(t)))
		require.Equal(t, [][]string{{"old", "newer"}, {"after the split"}}, functions["default"].seen())
		require.Equal(t, [][]string{{"old", "newer"}, {"after the split"}}, functions["horizon"].seen())
		require.Equal(t, [][]string{{"after the split"}}, functions["latest"].seen(), "of a shard born later nothing is skipped")
		require.Equal(t, [][]string{{"newer"}, {"after the split"}}, functions["timestamp"].seen())
	})
}

func TestFilterByEventName(t *testing.T) {
	seen := func(filter ...string) [][]string {
		a := outboxtest.Start(t)
		name := stream(t, a, "changes", 1)
		for _, data := range []string{`{"eventName":"INSERT"}`, `{"eventName":"MODIFY"}`, `nonsense`, `{"eventName":"REMOVE"}`, `{"eventName":"INSERT","n":2}`} {
			put(t, a, name, "k", data)
		}
		f := &function{}
		_, err := a.Map(outboxtest.EventSource{Stream: *name, Filter: filter}, f.Invoke)
		require.NoError(t, err)
		require.NoError(t, a.Drain(deadline(t)))
		a.Close()
		return f.seen()
	}
	require.Equal(t, [][]string{{`{"eventName":"INSERT"}`, `{"eventName":"INSERT","n":2}`}}, seen("INSERT"))
	require.Equal(t, [][]string{{`{"eventName":"MODIFY"}`, `{"eventName":"REMOVE"}`}}, seen("MODIFY", "REMOVE"))
	require.Len(t, seen()[0], 5)
}

func TestTheFunctionsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := outboxtest.Start(t)
		name := stream(t, a, "changes", 1)
		put(t, a, name, "k", "0")
		var failed []outboxtest.FailedBatch
		calls := 0
		_, err := a.Map(outboxtest.EventSource{Stream: *name, Timeout: 3 * time.Second, MaxAttempts: 2,
			OnFailure: func(f outboxtest.FailedBatch) { failed = append(failed, f) }}, func(ctx context.Context, _ []byte) ([]byte, error) {
			end, ok := ctx.Deadline()
			if calls++; !ok || time.Until(end) != 3*time.Second {
				t.Errorf("the deadline is %v, %v", end, ok)
			}
			<-ctx.Done()
			return nil, nil // too late to count
		})
		require.NoError(t, err)
		require.NoError(t, a.Drain(deadline(t)))
		require.Equal(t, 2, calls)
		require.Len(t, failed, 1)
		require.ErrorContains(t, failed[0].Err, "task timed out after 3.00 seconds")
	})
}

func TestAFunctionThatPanicsOrExits(t *testing.T) {
	for name, misbehave := range map[string]func(){
		"the function panicked: ouch":               func() { panic("ouch") },
		"the function ended its goroutine (runtime": func() { (&testing.T{}).SkipNow() },
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			_, failed := run(t, outboxtest.EventSource{MaxAttempts: 2}, 1, func(int, event) (string, error) {
				calls++
				misbehave()
				return "", nil
			})
			require.Equal(t, 2, calls)
			require.Len(t, failed, 1)
			require.ErrorContains(t, failed[0].Err, name)
		})
	}
}

func TestDrainSaysWhatIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := outboxtest.Start(t)
		name := stream(t, a, "changes", 1)
		sequence := *put(t, a, name, "k", "0").SequenceNumber
		m, err := a.Map(outboxtest.EventSource{Stream: *name}, func(context.Context, []byte) ([]byte, error) {
			return nil, errors.New("the mail server is down")
		})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		err = a.Drain(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		for _, part := range []string{"stream/changes", first, sequence, "the mail server is down", "failed"} {
			require.ErrorContains(t, err, part)
		}
		m.Stop()
		require.NoError(t, a.Drain(deadline(t)), "what is not mapped is not waited for")
		m.Stop()
	})
}

func TestStopWaitsAndCancels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := outboxtest.Start(t)
		name := stream(t, a, "changes", 1)
		put(t, a, name, "k", "0")
		began, ended := make(chan struct{}), false
		m, err := a.Map(outboxtest.EventSource{Stream: *name}, func(ctx context.Context, _ []byte) ([]byte, error) {
			close(began)
			<-ctx.Done()
			time.Sleep(time.Second)
			ended = true
			return nil, ctx.Err()
		})
		require.NoError(t, err)
		<-began
		m.Stop()
		require.True(t, ended, "Stop waits for the function")
	})
}

func TestMapNamesEverythingThatIsWrong(t *testing.T) {
	a := outboxtest.Start(t)
	_, err := a.Map(outboxtest.EventSource{StartingPosition: "SOMEWHERE", BatchSize: -1, BatchWindow: time.Hour, ParallelizationFactor: 11,
		MaxAttempts: -1, MaxAge: -1, Timeout: -1, Filter: []string{"insert"}}, nil)
	for _, part := range []string{"exactly one of Stream and Table", `StartingPosition "SOMEWHERE"`, "BatchSize -1", "BatchWindow 1h0m0s",
		"ParallelizationFactor 11", "MaxAttempts -1", "MaxAge -1ns", "Timeout -1ns", `Filter "insert"`, "function is nil"} {
		require.ErrorContains(t, err, part)
	}
	f := &function{}
	_, err = a.Map(outboxtest.EventSource{Stream: "nowhere"}, f.Invoke)
	require.ErrorContains(t, err, `no Kinesis stream "nowhere"`)
	name := stream(t, a, "changes", 1)
	a.Close()
	_, err = a.Map(outboxtest.EventSource{Stream: *name}, f.Invoke)
	require.ErrorContains(t, err, "closed")
	require.Error(t, a.Drain(deadline(t)))
}
