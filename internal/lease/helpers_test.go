package lease

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// wire is a worker's way to the table, with a latency. It can be cut.
type wire struct {
	Store
	mu       sync.Mutex
	calls    map[string]int
	cut      bool
	lost     bool          // the next beat is lost
	slow     time.Duration // how long the answer to a beat takes
	beats    []int64
	onRetire func(worker string)
	good     time.Time // when the last confirmed beat was sent
}

// latency is how long one way takes.
const latency = 5 * time.Millisecond // there, and as much back

// pass is a request's way; it ends with the context while the wire is cut.
func (w *wire) pass(ctx context.Context, op string) error {
	w.mu.Lock()
	w.calls[op]++
	cut := w.cut
	w.mu.Unlock()
	if cut {
		<-ctx.Done()
		return ctx.Err()
	}
	if !sleep(ctx, 2*latency) {
		return ctx.Err()
	}
	return nil
}

// loseBeat loses the next beat, if lost.
func (w *wire) loseBeat(lost bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost = lost
}

// takeCalls returns how many requests of each kind were made since the last call.
func (w *wire) takeCalls() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	calls := w.calls
	w.calls = map[string]int{}
	return calls
}

// setCut cuts or mends the wire.
func (w *wire) setCut(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
}

// count returns how many requests were made.
func (w *wire) count() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.calls {
		n += c
	}
	return n
}

func (w *wire) View(ctx context.Context) (View, error) {
	if err := w.pass(ctx, "View"); err != nil {
		return View{}, err
	}
	return w.Store.View(ctx)
}

func (w *wire) Look(ctx context.Context) ([]Worker, error) {
	if err := w.pass(ctx, "Look"); err != nil {
		return nil, err
	}
	return w.Store.Look(ctx)
}

func (w *wire) Begin(ctx context.Context, position string) (string, error) {
	if err := w.pass(ctx, "Begin"); err != nil {
		return "", err
	}
	return w.Store.Begin(ctx, position)
}

func (w *wire) Register(ctx context.Context, worker string, duration time.Duration) error {
	if err := w.pass(ctx, "Register"); err != nil {
		return err
	}
	return w.Store.Register(ctx, worker, duration)
}

func (w *wire) Beat(ctx context.Context, row Worker) error {
	sent := time.Now()
	w.mu.Lock()
	w.beats = append(w.beats, row.Beat)
	lost := w.lost
	w.lost = false
	w.mu.Unlock()
	if lost {
		return errors.New("the beat is lost")
	}
	if err := w.pass(ctx, "Beat"); err != nil {
		return err
	}
	err := w.Store.Beat(ctx, row)
	if !sleep(ctx, w.slow) {
		return ctx.Err()
	}
	if err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.good = sent
	}
	return err
}

func (w *wire) Acquire(ctx context.Context, seen Lease, worker string) (Lease, error) {
	if err := w.pass(ctx, "Acquire"); err != nil {
		return Lease{}, err
	}
	return w.Store.Acquire(ctx, seen, worker)
}

func (w *wire) Want(ctx context.Context, seen Lease, worker string) error {
	if err := w.pass(ctx, "Want"); err != nil {
		return err
	}
	return w.Store.Want(ctx, seen, worker)
}

func (w *wire) Save(ctx context.Context, key Key, n int64, p Progress) error {
	if err := w.pass(ctx, "Save"); err != nil {
		return err
	}
	return w.Store.Save(ctx, key, n, p)
}

func (w *wire) Release(ctx context.Context, key Key, to string) error {
	if err := w.pass(ctx, "Release"); err != nil {
		return err
	}
	return w.Store.Release(ctx, key, to)
}

func (w *wire) MarkDead(ctx context.Context, worker string, seen int64) error {
	if err := w.pass(ctx, "MarkDead"); err != nil {
		return err
	}
	return w.Store.MarkDead(ctx, worker, seen)
}

func (w *wire) Retire(ctx context.Context, worker string) error {
	if w.onRetire != nil {
		w.onRetire(worker)
	}
	if err := w.pass(ctx, "Retire"); err != nil {
		return err
	}
	return w.Store.Retire(ctx, worker)
}

// fleet is some workers whose readers only wait.
type fleet struct {
	t      *testing.T
	table  Memory
	shards []Shard

	mu      sync.Mutex
	reader  map[string]*member   // by shard
	stopped map[string]time.Time // by shard, when its last reader returned
	gaps    []time.Duration
	members []*member
}

// member is a worker of a fleet.
type member struct {
	wire   *wire
	cancel context.CancelFunc
	done   chan error
	dead   chan struct{} // closed when the process is gone
}

// newFleet makes a fleet without workers that reads so many shards.
func newFleet(t *testing.T, shards int) *fleet {
	f := &fleet{t: t, reader: map[string]*member{}, stopped: map[string]time.Time{}}
	for i := range shards {
		f.shards = append(f.shards, Shard{ID: fmt.Sprintf("s-%04d", i)})
	}
	t.Cleanup(f.stop)
	return f
}

// list lists the shards.
func (f *fleet) list(context.Context) ([]Shard, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.shards, nil
}

// set replaces the shards.
func (f *fleet) set(shards []Shard) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shards = shards
}

// start adds a worker. change may be nil.
func (f *fleet) start(change func(*Config)) *member {
	ctx, cancel := context.WithCancel(context.Background())
	m := &member{wire: &wire{Store: &f.table, calls: map[string]int{}}, cancel: cancel, done: make(chan error, 1), dead: make(chan struct{})}
	cfg := Config{Store: m.wire, Shards: f.list, Consume: func(ctx context.Context, h *Held) error { return f.consume(ctx, m, h) }}
	if change != nil {
		change(&cfg)
	}
	f.members = append(f.members, m)
	go func() { m.done <- Run(ctx, cfg) }()
	return m
}

// consume holds a shard until it should stop, and notes how long nobody read it.
func (f *fleet) consume(ctx context.Context, m *member, h *Held) error {
	id := h.Shard().ID
	f.mu.Lock()
	if at, ok := f.stopped[id]; ok {
		f.gaps = append(f.gaps, time.Since(at))
		delete(f.stopped, id)
	}
	f.reader[id] = m
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.reader[id] == m {
			delete(f.reader, id)
			f.stopped[id] = time.Now()
		}
	}()
	select {
	case <-h.Stop():
		return h.Save(ctx, Progress{Checkpoint: "1"})
	case <-ctx.Done():
		return ctx.Err()
	}
}

// kill is kill -9, as far as the others can see.
func (f *fleet) kill(m *member) {
	m.wire.setCut(true)
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, reader := range f.reader {
		if reader == m {
			delete(f.reader, id)
			f.stopped[id] = time.Now()
		}
	}
	m.cancel()
}

// spread returns how many leases each living worker has, fewest and most, and whether somebody reads every shard.
func (f *fleet) spread(members ...*member) (least, most int, all bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	has := map[*member]int{}
	for _, m := range f.reader {
		has[m]++
	}
	least = len(f.shards)
	for _, m := range members {
		least, most = min(least, has[m]), max(most, has[m])
	}
	return least, most, len(f.reader) == len(f.shards)
}

// balance waits until the members share all shards evenly, and returns how long that took.
func (f *fleet) balance(limit time.Duration, members ...*member) time.Duration {
	f.t.Helper()
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		least, most, all := f.spread(members...)
		if all && most-least <= 1 {
			return time.Since(began)
		}
		require.Lessf(f.t, time.Since(began), limit, "not balanced: %d to %d leases, every shard read: %v", least, most, all)
	}
}

// takeGaps returns how long shards were without a reader, since the last call.
func (f *fleet) takeGaps() []time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	gaps := f.gaps
	f.gaps = nil
	return gaps
}

// stop stops all members and waits for them.
func (f *fleet) stop() {
	for _, m := range f.members {
		m.cancel()
	}
	for _, m := range f.members {
		if m.done != nil {
			<-m.done
		}
	}
}

// stopOne stops a member in good order.
func (f *fleet) stopOne(m *member) (time.Duration, error) {
	began := time.Now()
	m.cancel()
	err := <-m.done
	m.done = nil
	return time.Since(began), err
}

// rows returns the leases by shard.
func (f *fleet) rows() map[string]Lease {
	v, err := f.table.View(context.Background())
	require.NoError(f.t, err)
	rows := map[string]Lease{}
	for _, l := range v.Leases {
		rows[l.ID] = l
	}
	return rows
}

// bubble runs a test with a fleet that is gone when the test ends.
func bubble(t *testing.T, shards int, test func(*testing.T, *fleet)) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, shards)
		test(t, f)
		f.stop()
		f.members = nil
	})
}
