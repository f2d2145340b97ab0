package outboxtest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

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
	for range 6 {
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
	require.Equal(t, []int{4, 2}, sizes)
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
