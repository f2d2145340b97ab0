package fleetsim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/itemsize"
)

// failing is a stream whose first event fails until it is healed, and what the handlers of all processes have done.
type failing struct {
	table  *simTable
	stream *simStream

	mu      sync.Mutex
	healed  bool
	handled map[string]int
	bad     []string // the events of the failing aggregate, as they were handled
	last    time.Time
	longest time.Duration // without any event handled
	row     int           // bytes of the largest lease
}

// failingProcess is one process with a worker. When it is killed, nothing of it reaches the world any more.
type failingProcess struct {
	outbox.LeaseClient
	f    *failing
	dead bool
	stop func()
}

var errDead = errors.New("the process was killed")

func process[I, O any](p *failingProcess, in I, call func(context.Context, I) (O, error)) (out O, err error) {
	p.f.mu.Lock()
	dead := p.dead
	p.f.mu.Unlock()
	if dead {
		return out, errDead
	}
	return call(context.Background(), in)
}

func (p *failingProcess) Query(_ context.Context, in *dynamodb.QueryInput, _ ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	return process(p, in, func(ctx context.Context, in *dynamodb.QueryInput) (*dynamodb.QueryOutput, error) {
		return p.f.table.Query(ctx, in)
	})
}

func (p *failingProcess) UpdateItem(_ context.Context, in *dynamodb.UpdateItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	return process(p, in, func(ctx context.Context, in *dynamodb.UpdateItemInput) (*dynamodb.UpdateItemOutput, error) {
		return p.f.table.UpdateItem(ctx, in)
	})
}

func (p *failingProcess) DeleteItem(_ context.Context, in *dynamodb.DeleteItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error) {
	return process(p, in, func(ctx context.Context, in *dynamodb.DeleteItemInput) (*dynamodb.DeleteItemOutput, error) {
		return p.f.table.DeleteItem(ctx, in)
	})
}

func (p *failingProcess) TransactWriteItems(_ context.Context, in *dynamodb.TransactWriteItemsInput, _ ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error) {
	return process(p, in, func(ctx context.Context, in *dynamodb.TransactWriteItemsInput) (*dynamodb.TransactWriteItemsOutput, error) {
		return p.f.table.TransactWriteItems(ctx, in)
	})
}

func (p *failingProcess) kill() {
	p.f.mu.Lock()
	p.dead = true
	p.f.mu.Unlock()
	p.stop()
}

func (f *failing) start(t *testing.T, opts ...outbox.WorkerOption) *failingProcess {
	p := &failingProcess{f: f}
	leases, err := outbox.NewLeaseTable(p, "leases", "mails")
	require.NoError(t, err)
	c, err := outbox.NewConsumer(outbox.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	outbox.Handle(c, func(ctx context.Context, e outbox.Event[orderCreated]) error {
		if !simSleep(ctx, 10*time.Millisecond) {
			return ctx.Err()
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if p.dead {
			return errDead
		}
		if e.AggregateID == "bad" && !f.healed {
			return errSim
		}
		f.handled[e.ID]++
		if e.AggregateID == "bad" {
			f.bad = append(f.bad, e.ID)
		}
		f.longest, f.last = max(f.longest, time.Since(f.last)), time.Now()
		return nil
	})
	w, err := outbox.NewWorker(f.stream, "events", c, leases, slices.Concat([]outbox.WorkerOption{
		outbox.WithHandlerRetry(outbox.Retry{MaxDelay: time.Minute})}, opts)...)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	p.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	return p
}

func (f *failing) missing(published int) (missing []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range published {
		if id := fmt.Sprint("e", i); f.handled[id] == 0 {
			missing = append(missing, id)
		}
	}
	return missing
}

// One event fails for half an hour, in a shard of 200 events a second that is split after a quarter of an hour. Its aggregate waits, also in
// the new shards. Nothing else does; and a kill repeats no more than ever.
func TestOneFailingEventHoldsBackOnlyItsAggregate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &failing{table: newSimTable(), stream: &simStream{rng: rand.New(rand.NewPCG(1, 1)), last: 999_000}, handled: map[string]int{}}
		f.stream.add(0, simKeys-1)
		f.table.wrote = func(_ *simLink, _, _ string, _, after values) {
			f.mu.Lock()
			defer f.mu.Unlock()
			size, err := itemsize.Of(after)
			if err != nil {
				t.Error(err)
			}
			f.row = max(f.row, size)
		}
		p := f.start(t)
		bad, others := 0, 0
		publishBad := func() {
			f.stream.publish(fmt.Sprint("bad", bad), "bad")
			bad++
		}
		publishBad()
		f.last = time.Now()
		for tenth := range 30 * 60 * 10 {
			switch {
			case tenth == 15*60*10:
				f.stream.split(0)
			case tenth%(60*10) == 300:
				publishBad()
			}
			for range 20 {
				f.stream.publish(fmt.Sprint("e", others), fmt.Sprint("a", others%500))
				others++
			}
			time.Sleep(100 * time.Millisecond)
		}
		f.mu.Lock()
		longest, row := f.longest, f.row
		require.Empty(t, f.bad)
		f.mu.Unlock()
		require.LessOrEqual(t, longest, 5*time.Second, "no event was handled for so long") // around the split: a listing, and the polls of two shards

		p.kill()
		next := f.start(t)
		time.Sleep(20 * time.Second)
		require.Empty(t, f.missing(others))
		twice := 0
		f.mu.Lock()
		for _, n := range f.handled {
			twice += n - 1
		}
		require.Empty(t, f.bad)
		f.healed = true
		f.mu.Unlock()
		time.Sleep(3 * time.Minute) // the retry, and the next one in the children
		next.stop()
		f.mu.Lock()
		defer f.mu.Unlock()
		require.Len(t, f.bad, bad, "each once")
		for i := range 16 { // those of the shard before the split, in order
			require.Equal(t, fmt.Sprint("bad", i), f.bad[i])
		}
		require.LessOrEqual(t, twice, 2*5000)
		for id := range f.table.rows {
			if shardOf(id) != "" {
				require.Empty(t, readRow(f.table.rows[id]).holes, id)
			}
		}
		t.Logf("%d events beside one that fails: the longest time without one handled %v; the largest row of a lease %d bytes; a kill repeated %d", others, longest, row, twice)
	})
}
