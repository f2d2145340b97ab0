package lease

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

// link is a worker's process and its way to the table: they can be slow, cut, paused or dead.
type link struct {
	sim   *sim
	store Store
	name  string

	mu       sync.Mutex
	rng      *rand.Rand
	faults   faults
	paused   time.Time // until when
	tainted  bool      // the process has been paused: for a moment it may act as if it still held its leases
	cut      time.Time // until when no message gets through
	dead     bool
	lostBeat int       // beats lost in a row
	lacked   int       // the last crippled view has lacked some of so many leases
	good     time.Time // when the last confirmed beat was sent
	calls    int

	// The process dies at its nth call of one kind, before the call is sent or after it was carried out. Then onCrash is called.
	crashOp    string
	crashAt    int
	crashAfter bool
	onCrash    func()
}

// faults are probabilities per call.
type faults struct {
	loseRequest, loseAnswer, duplicate, throttle, slow float64
	keepBeats                                          bool // never lose more than two beats in a row

	lacking float64 // the answer lacks something
	sick    string  // what this process cannot do, for ever: "list", "read", or "find": it lists another stream
}

var (
	errCrashed   = errors.New("this process is dead")
	errConn      = errors.New("connection reset by peer")
	errThrottled = errors.New("throttled")
)

// gate holds up everything that the process does while it is paused.
func (k *link) gate() {
	for {
		k.mu.Lock()
		wait := time.Until(k.paused)
		k.mu.Unlock()
		if wait <= 0 {
			return
		}
		time.Sleep(wait)
	}
}

func (k *link) pause(d time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.paused, k.tainted = time.Now().Add(d), true
}

func (k *link) partition(d time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cut = time.Now().Add(d)
}

func (k *link) crash() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.dead = true
}

func (k *link) heal() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cut, k.faults = time.Time{}, faults{sick: k.faults.sick}
	k.paused = time.Time{}
}

func (k *link) crashed() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.dead
}

func (k *link) isCut() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return time.Now().Before(k.cut)
}

type fate struct {
	there, back, again                time.Duration
	loseRequest, loseAnswer, throttle bool
	duplicate, reset                  bool
}

func (k *link) fate(op string) fate {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls++
	hit := func(p float64) bool { return k.rng.Float64() < p }
	ms := func(n int) time.Duration { return time.Duration(1+k.rng.IntN(n)) * time.Millisecond }
	f := fate{there: ms(5), back: ms(5)}
	f.loseRequest, f.loseAnswer, f.throttle = hit(k.faults.loseRequest), hit(k.faults.loseAnswer), hit(k.faults.throttle)
	f.duplicate, f.again, f.reset = hit(k.faults.duplicate), ms(15000), hit(0.5)
	if hit(k.faults.slow) {
		f.there = ms(3000)
	}
	if hit(k.faults.slow) {
		f.back = ms(1500)
	}
	if op == "Beat" && k.faults.keepBeats {
		if f.loseRequest || f.loseAnswer || f.throttle || f.there+f.back >= 900*time.Millisecond {
			k.lostBeat++
		} else {
			k.lostBeat = 0
		}
		if k.lostBeat > 2 {
			k.lostBeat, f = 0, fate{there: ms(5), back: ms(5)}
		}
	}
	return f
}

// send carries a call to the table. If the caller's context ends, the caller goes away and its request does not.
func send[T any](ctx context.Context, k *link, op string, f func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	var none T
	k.gate()
	if k.crashed() {
		return none, errCrashed
	}
	if ctx.Err() != nil {
		return none, ctx.Err()
	}
	sent := time.Now()
	fate := k.fate(op)
	k.mu.Lock()
	crash := false
	if k.crashAt > 0 && k.crashOp == op {
		k.crashAt--
		crash = k.crashAt == 0
	}
	k.mu.Unlock()
	if crash {
		k.crash()
		if k.crashAfter {
			_, _ = f()
		}
		k.onCrash()
		return none, errCrashed
	}
	answers := make(chan answer, 1)
	k.sim.wg.Go(func() {
		fail := func(err error) { answers <- answer{none, err} }
		time.Sleep(fate.there)
		switch {
		case k.isCut() || fate.loseRequest:
			if fate.reset {
				fail(errConn)
			}
			return
		case fate.throttle:
			fail(errThrottled)
			return
		}
		value, err := f()
		if fate.duplicate {
			k.sim.wg.Go(func() {
				time.Sleep(fate.again)
				_, _ = f()
			})
		}
		time.Sleep(fate.back)
		switch {
		case k.isCut() || fate.loseAnswer:
			if fate.reset {
				fail(errConn)
			}
		default:
			answers <- answer{value, err}
		}
	})
	var a answer
	select {
	case a = <-answers:
	case <-ctx.Done():
		a.err = ctx.Err()
	}
	k.gate()
	if k.crashed() {
		return none, errCrashed
	}
	if a.err == nil && (op == "Beat" || op == "Register") {
		k.mu.Lock()
		k.good = sent
		k.mu.Unlock()
	}
	return a.value, a.err
}

func (k *link) do(ctx context.Context, op string, f func(context.Context) error) error {
	_, err := send(ctx, k, op, func() (struct{}, error) { return struct{}{}, f(context.Background()) })
	return err
}

func (k *link) View(ctx context.Context) (View, error) {
	v, err := send(ctx, k, "View", func() (View, error) { return k.store.View(context.Background()) })
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil && k.rng.Float64() < k.faults.lacking {
		k.cripple(&v)
	}
	return v, err
}

func (k *link) Look(ctx context.Context) ([]Worker, error) {
	return send(ctx, k, "Look", func() ([]Worker, error) { return k.sim.table.lookBack(context.Background(), k.staleness()) })
}

// staleness is how old the answer to a look is: mostly a few milliseconds, now and again a second.
func (k *link) staleness() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.rng.IntN(10) == 0 {
		return time.Duration(k.rng.IntN(1000)) * time.Millisecond
	}
	return time.Duration(k.rng.IntN(20)) * time.Millisecond
}

// sickness says what this process cannot do.
func (k *link) sickness() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.faults.sick
}

// cripple takes something from an answer.
func (k *link) cripple(v *View) {
	switch k.rng.IntN(4) {
	case 0:
		*v = View{}
	case 1:
		v.Workers = nil
	case 2:
		if n := len(v.Leases); n > 0 {
			v.Leases[k.rng.IntN(n)].Checkpoint = ""
		}
	case 3:
		if n := len(v.Leases); n > 0 && k.lacked != len(v.Leases) { // two such answers in a row are evidence
			v.Leases = v.Leases[:k.rng.IntN(n)]
			k.lacked = n
			return
		}
	}
	k.lacked = 0
}

func (k *link) Begin(ctx context.Context, position string) (string, error) {
	return send(ctx, k, "Begin", func() (string, error) { return k.store.Begin(context.Background(), position) })
}

func (k *link) Register(ctx context.Context, worker string, duration time.Duration) error {
	return k.do(ctx, "Register", func(ctx context.Context) error { return k.store.Register(ctx, worker, duration) })
}

func (k *link) Beat(ctx context.Context, w Worker) error {
	return k.do(ctx, "Beat", func(ctx context.Context) error { return k.store.Beat(ctx, w) })
}

func (k *link) MarkDead(ctx context.Context, worker string, seen int64) error {
	return k.do(ctx, "MarkDead", func(ctx context.Context) error { return k.store.MarkDead(ctx, worker, seen) })
}

func (k *link) Retire(ctx context.Context, worker string) error {
	return k.do(ctx, "Retire", func(ctx context.Context) error { return k.store.Retire(ctx, worker) })
}

func (k *link) ForgetWorker(ctx context.Context, worker string) error {
	return k.do(ctx, "ForgetWorker", func(ctx context.Context) error { return k.store.ForgetWorker(ctx, worker) })
}

func (k *link) Ensure(ctx context.Context, shard Shard, position string) error {
	return k.do(ctx, "Ensure", func(ctx context.Context) error { return k.store.Ensure(ctx, shard, position) })
}

func (k *link) Acquire(ctx context.Context, seen Lease, worker string) (Lease, error) {
	return send(ctx, k, "Acquire", func() (Lease, error) { return k.store.Acquire(context.Background(), seen, worker) })
}

func (k *link) Want(ctx context.Context, seen Lease, worker string) error {
	return k.do(ctx, "Want", func(ctx context.Context) error { return k.store.Want(ctx, seen, worker) })
}

func (k *link) Save(ctx context.Context, key Key, n int64, p Progress) error {
	return k.do(ctx, "Save", func(ctx context.Context) error { return k.store.Save(ctx, key, n, p) })
}

func (k *link) Release(ctx context.Context, key Key, to string) error {
	return k.do(ctx, "Release", func(ctx context.Context) error { return k.store.Release(ctx, key, to) })
}

func (k *link) End(ctx context.Context, key Key, n int64, holes map[string]Hole, children []Shard) error {
	return k.do(ctx, "End", func(ctx context.Context) error { return k.store.End(ctx, key, n, holes, children) })
}

func (k *link) Finish(ctx context.Context, key Key) error {
	return k.do(ctx, "Finish", func(ctx context.Context) error { return k.store.Finish(ctx, key) })
}

func (k *link) Miss(ctx context.Context, seen Lease, worker string) error {
	return k.do(ctx, "Miss", func(ctx context.Context) error { return k.store.Miss(ctx, seen, worker) })
}

func (k *link) Gone(ctx context.Context, seen Lease) error {
	return k.do(ctx, "Gone", func(ctx context.Context) error { return k.store.Gone(ctx, seen) })
}

func (k *link) Revive(ctx context.Context, seen Lease) error {
	return k.do(ctx, "Revive", func(ctx context.Context) error { return k.store.Revive(ctx, seen) })
}

func (k *link) Reopen(ctx context.Context, seen Lease) error {
	return k.do(ctx, "Reopen", func(ctx context.Context) error { return k.store.Reopen(ctx, seen) })
}
