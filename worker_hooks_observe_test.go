package outbox_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// The status of a shard comes by the clock: while nothing arrives, and while a handler holds the shard up.
func TestTheStatusOfAShardComesWithoutAnswers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		release := make(chan struct{})
		last, calls, records := map[string]outbox.ShardStatus{}, map[string]int{}, 0
		w := f.start(t, func(ctx context.Context, e outbox.Event[orderCreated]) error {
			select {
			case <-release:
			case <-ctx.Done():
				return ctx.Err()
			}
			f.note(t, e)
			return nil
		}, outbox.WithMaxUnfinished(5), outbox.WithWorkerHooks(outbox.WorkerHooks{Status: func(s outbox.ShardStatus) {
			f.mu.Lock()
			defer f.mu.Unlock()
			last[s.Shard] = s
			calls[s.Shard]++
			records += s.Records
		}}))
		look := func() (map[string]outbox.ShardStatus, map[string]int) {
			f.mu.Lock()
			defer f.mu.Unlock()
			now, n := last, calls
			last, calls = map[string]outbox.ShardStatus{}, map[string]int{}
			return now, n
		}
		time.Sleep(5 * time.Second)
		look()
		time.Sleep(time.Minute)
		idle, times := look()
		require.Len(t, idle, 2)
		for shard, s := range idle {
			require.InDelta(t, 60, times[shard], 1)
			require.Positive(t, s.Fence)
			require.Zero(t, s.Behind)
			require.Negative(t, s.Age, "no record has come")
			require.Zero(t, s.Waiting)
			require.Zero(t, s.Unfinished)
		}
		ids := f.put(t, "a", 40, 1)
		time.Sleep(time.Minute)
		stuck, times := look()
		for shard, s := range stuck {
			require.InDelta(t, 60, times[shard], 1)
			require.Equal(t, 5, s.Unfinished, "WithMaxUnfinished")
			require.Greater(t, s.Waiting, 55*time.Second)
			require.Less(t, s.Age, 5*time.Second)
			require.Positive(t, s.Age)
			require.Negative(t, s.Behind, "nothing was fetched for a minute: more may have come")
		}
		close(release)
		f.await(t, "all handled", time.Minute, f.all(ids))
		time.Sleep(2 * time.Second)
		after, _ := look()
		for _, s := range after {
			require.Zero(t, s.Unfinished)
			require.Zero(t, s.Waiting)
		}
		require.NoError(t, w.stop())
		require.Equal(t, 40, records)
		look()
		time.Sleep(time.Minute)
		late, _ := look()
		require.Empty(t, late, "after Run")
	})
}

// A hook that panics is logged, and the Worker goes on.
func TestAWorkersHookThatPanics(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		var log bytes.Buffer
		c := newConsumer(t, outbox.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		outbox.Handle(c, func(_ context.Context, e outbox.Event[orderCreated]) error {
			f.note(t, e)
			return nil
		})
		require.NoError(t, f.SetFaults(outboxtest.Fault{Kind: outboxtest.Throttle, Service: "Kinesis", Operation: "GetRecords", Calls: []int{1, 2, 3, 4, 5, 6, 7, 8}}))
		worker, err := outbox.NewWorker(f.Kinesis, "events", c, f.leases, outbox.WithWorkerHooks(outbox.WorkerHooks{
			Status:  func(outbox.ShardStatus) { panic("gauge") },
			Lease:   func(outbox.LeaseEvent) { panic("count") },
			Retried: func(string, bool, error) { panic("retry") },
		}))
		require.NoError(t, err)
		w := runWorker(t, worker)
		ids := f.put(t, "a", 30, 10)
		f.await(t, "all handled", time.Minute, f.all(ids))
		require.NoError(t, w.stop())
		for _, hook := range []string{"Status", "Lease", "Retried"} {
			require.True(t, strings.Contains(log.String(), `msg="outbox: a hook panicked" hook=`+hook), "%s: %s", hook, log.String())
		}
		f.requireTimes(t, 1, ids)
	})
}

// Hooks that are given in several options are all called, in the order of the options; one that panics does not keep the next from its call.
func TestHooksAddUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		var mu sync.Mutex
		called := map[string][]int{}
		note := func(hook string, n int) {
			mu.Lock()
			defer mu.Unlock()
			called[hook] = append(called[hook], n)
		}
		consumerHooks := func(n int) outbox.ConsumerOption {
			return outbox.WithConsumerHooks(outbox.ConsumerHooks{
				Handled: func(context.Context, outbox.Record, time.Duration, error) {
					note("Handled", n)
					panic("counter")
				},
				Skipped: func(context.Context, outbox.Record, error) {
					note("Skipped", n)
					panic("counter")
				},
			})
		}
		workerHooks := func(n int) outbox.WorkerOption {
			return outbox.WithWorkerHooks(outbox.WorkerHooks{
				Lease:  func(e outbox.LeaseEvent) { note("Lease "+e.Shard+string(e.Kind), n) },
				Status: func(s outbox.ShardStatus) { note("Status "+s.Shard, n) },
			})
		}
		writerHooks := func(n int) outbox.WriterOption {
			return outbox.WithWriterHooks(outbox.WriterHooks{
				Written: func(context.Context, outbox.WriteInfo) { note("Written", n) },
				Failed:  func(context.Context, outbox.WriteInfo, error) { note("Failed", n) },
			})
		}
		writer, err := outbox.NewWriter(f.DynamoDB, "events", writerHooks(1), outbox.WithWriterHooks(outbox.WriterHooks{}), writerHooks(2))
		require.NoError(t, err)
		require.NoError(t, writer.Transact(t.Context(), nil, event("1")))
		require.Error(t, writer.Transact(t.Context(), nil))

		c := newConsumer(t, consumerHooks(1), outbox.WithConsumerHooks(outbox.ConsumerHooks{}), consumerHooks(2), outbox.WithLogger(slog.New(slog.DiscardHandler)))
		outbox.HandleType(c, "KNOWN", func(context.Context, outbox.Event[struct{}]) error { return nil })
		require.NoError(t, c.Process(t.Context(), outbox.Record{ID: "1", Type: "KNOWN"}, outbox.Record{ID: "2", Type: "UNKNOWN"}))

		worker, err := outbox.NewWorker(f.Kinesis, "events", c, f.leases, workerHooks(1), workerHooks(2))
		require.NoError(t, err)
		w := runWorker(t, worker)
		time.Sleep(5 * time.Second)
		require.NoError(t, w.stop())

		mu.Lock()
		defer mu.Unlock()
		for _, hook := range []string{"Handled", "Written", "Failed"} {
			require.Equal(t, []int{1, 2}, called[hook], hook)
		}
		require.Equal(t, []int{1, 2}, called["Skipped"][:2])
		kinds := 0
		for hook, numbers := range called {
			if strings.HasPrefix(hook, "Status ") || strings.HasPrefix(hook, "Lease ") {
				kinds++
				for i, n := range numbers {
					require.Equal(t, i%2+1, n, "%s: %v", hook, numbers)
				}
			}
		}
		require.Positive(t, kinds)
	})
}

// deniedReads is a client whose requests for records are refused while denied says so.
type deniedReads struct {
	outbox.KinesisClient
	denied atomic.Bool
}

func (d *deniedReads) GetRecords(ctx context.Context, in *kinesis.GetRecordsInput, opts ...func(*kinesis.Options)) (*kinesis.GetRecordsOutput, error) {
	if d.denied.Load() {
		return nil, &smithy.GenericAPIError{Code: "AccessDeniedException"}
	}
	return d.KinesisClient.GetRecords(ctx, in, opts...)
}

// While a shard cannot be read, its status goes on, and does not say that it is at the tip.
func TestTheStatusOfAShardThatCannotBeRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		client := &deniedReads{KinesisClient: f.Kinesis}
		last := map[string]time.Duration{}
		w := f.startWith(t, client, f.leases, func(context.Context, outbox.Event[orderCreated]) error { return nil }, outbox.WithWorkerHooks(outbox.WorkerHooks{Status: func(s outbox.ShardStatus) {
			f.mu.Lock()
			defer f.mu.Unlock()
			last[s.Shard] = s.Behind
		}}))
		behind := func() map[string]time.Duration {
			f.mu.Lock()
			defer f.mu.Unlock()
			now := last
			last = map[string]time.Duration{}
			return now
		}
		time.Sleep(10 * time.Second)
		require.Len(t, behind(), 2)
		client.denied.Store(true)
		time.Sleep(10 * time.Second)
		behind()
		time.Sleep(10 * time.Second)
		denied := behind()
		require.Len(t, denied, 2)
		for shard, b := range denied {
			require.Negative(t, b, shard)
		}
		client.denied.Store(false)
		time.Sleep(time.Minute)
		for shard, b := range behind() {
			require.Zero(t, b, shard)
		}
		require.NoError(t, w.stop())
	})
}
