package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// fleet is a world whose events workers read. It must be used in a bubble.
type fleet struct {
	*world
	leases outbox.Leases

	mu      sync.Mutex
	handled map[string]int
	order   map[string][]string // events by aggregate, as their handlers ended
	busy    map[string]bool     // aggregates that have a handler running
}

// newFleet makes a fleet without workers, with an empty lease table.
func newFleet(t *testing.T, opts ...outboxtest.Option) *fleet {
	f := &fleet{world: newWorldWith(t, opts...), handled: map[string]int{}, order: map[string][]string{}, busy: map[string]bool{}}
	table, err := outbox.NewLeaseTable(f.DynamoDB, "leases", "mails")
	require.NoError(t, err)
	require.NoError(t, table.Create(t.Context()))
	f.leases = table
	return f
}

// note keeps that an event was handled, and in which order its aggregate was.
func (f *fleet) note(t *testing.T, e outbox.Event[orderCreated]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.handled[e.ID]++
	f.order[e.AggregateID] = append(f.order[e.AggregateID], e.ID)
}

// start runs a worker with this handler.
func (f *fleet) start(t *testing.T, handle func(context.Context, outbox.Event[orderCreated]) error, opts ...outbox.WorkerOption) running {
	return f.startWith(t, f.Kinesis, f.leases, handle, opts...)
}

// startWith runs a worker with clients of its own.
func (f *fleet) startWith(t *testing.T, client outbox.KinesisClient, leases outbox.Leases, handle func(context.Context, outbox.Event[orderCreated]) error, opts ...outbox.WorkerOption) running {
	c := newConsumer(t, quiet(), outbox.WithTables("events"))
	outbox.Handle(c, handle)
	w, err := outbox.NewWorker(client, "events", c, leases, opts...)
	require.NoError(t, err)
	return runWorker(t, w)
}

// put writes events, n for each of the aggregates, in turn.
func (f *fleet) put(t *testing.T, prefix string, aggregates, n int) (ids []string) {
	for i := range n {
		for a := range aggregates {
			e := event(fmt.Sprintf("%s-%d-%d", prefix, a, i))
			e.AggregateID = fmt.Sprintf("%s-%d", prefix, a)
			require.NoError(t, f.writer.Put(t.Context(), "orders", order{e.AggregateID}, e))
			ids = append(ids, e.ID)
		}
	}
	return ids
}

// await waits until a condition holds; in a bubble that costs nothing.
func (f *fleet) await(t *testing.T, what string, patience time.Duration, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		f.mu.Lock()
		done := ok()
		f.mu.Unlock()
		if done {
			return
		}
		require.Truef(t, time.Now().Before(deadline), "after %s: not %s", patience, what)
	}
}

// all says whether each event was handled at least once.
func (f *fleet) all(ids []string) func() bool {
	return func() bool {
		return !slices.ContainsFunc(ids, func(id string) bool { return f.handled[id] == 0 })
	}
}

// requireTimes checks that each event was handled exactly n times.
func (f *fleet) requireTimes(t *testing.T, n int, ids []string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range ids {
		require.Equalf(t, n, f.handled[id], "event %s", id)
	}
}

// oneShard merges the world's two shards.
func (f *fleet) oneShard(t *testing.T) {
	stream := "events"
	shards, err := f.Kinesis.ListShards(t.Context(), &kinesis.ListShardsInput{StreamName: &stream})
	require.NoError(t, err)
	_, err = f.Kinesis.MergeShards(t.Context(), &kinesis.MergeShardsInput{StreamName: &stream,
		ShardToMerge: shards.Shards[0].ShardId, AdjacentShardToMerge: shards.Shards[1].ShardId})
	require.NoError(t, err)
}

// running is a worker that runs until stop is called, which returns what Run returned.
type running struct {
	stop func() error
	done <-chan struct{}
	err  *error
}

// runWorker starts Run on a goroutine of its own.
func runWorker(t *testing.T, w *outbox.Worker) running {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	var result error
	go func() {
		defer close(done)
		result = w.Run(ctx)
	}()
	return running{done: done, err: &result, stop: func() error {
		cancel()
		<-done
		return result
	}}
}

// fleetWithLetters is a fleet with a dead letter table. Events whose aggregate is "bad-0" fail while it is broken.
type fleetWithLetters struct {
	*fleet
	letters *outbox.DeadLetterTable
	broken  bool
	calls   map[string]int
}

// newFleetWithLetters makes a fleet with an empty dead letter table.
func newFleetWithLetters(t *testing.T) *fleetWithLetters {
	m := &fleetWithLetters{fleet: newFleet(t), broken: true, calls: map[string]int{}}
	var err error
	m.letters, err = outbox.NewDeadLetterTable(m.DynamoDB, "letters", "mails")
	require.NoError(t, err)
	require.NoError(t, m.letters.Create(t.Context()))
	return m
}

// startWorker runs a worker whose handler fails for event "bad-0-0" while broken.
func (m *fleetWithLetters) startWorker(t *testing.T, opts ...outbox.WorkerOption) running {
	c := newConsumer(t, outbox.WithTables("events"), outbox.WithDeadLetters(m.letters))
	outbox.Handle(c, func(_ context.Context, e outbox.Event[orderCreated]) error {
		m.mu.Lock()
		m.calls[e.ID]++
		down := m.broken
		m.mu.Unlock()
		if down && e.ID == "bad-0-0" {
			return errors.New("down")
		}
		m.note(t, e)
		return nil
	})
	w, err := outbox.NewWorker(m.Kinesis, "events", c, m.leases, opts...)
	require.NoError(t, err)
	return runWorker(t, w)
}

// repair makes every event succeed from now on.
func (m *fleetWithLetters) repair() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broken = false
}

// letterIDs returns the ids of all letters.
func (m *fleetWithLetters) letterIDs(t *testing.T) (ids []string) {
	for l, err := range m.letters.List(t.Context(), outbox.DeadLetterFilter{}) {
		require.NoError(t, err)
		ids = append(ids, l.ID)
	}
	return ids
}
