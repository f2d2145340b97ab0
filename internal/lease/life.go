package lease

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// life is a worker from its registration to its retirement. Its goroutines are the loop that looks and plans, the heart, the
// drainer, some for each lease, and now and then a listing. finish waits for all of them.
type life struct {
	cfg        Config
	watch      *watch
	health     *Health
	id         string
	registered time.Time    // taken before the registration was sent
	confirmed  atomic.Int64 // the last beat that is stored

	wake   chan struct{} // take a view now
	kick   chan struct{} // beat soon
	failed chan struct{} // closed by fail

	consumers, others sync.WaitGroup
	list              listing   // used by the loop
	calm              *rest     // used by the loop; nil if the next tick needs a view
	blind             time.Time // used by the loop: since when the table may not be looked at; zero if it may
	sightless         time.Time // used by the loop: since when each view has failed

	mu       sync.Mutex
	held     map[string]*Held
	done     map[string]int64 // by shard, the fence that this life has finished with since the last view began; the view may still show it
	draining bool
	moves    int64    // steps with each change that others plan by; every beat carries it
	stirred  bool     // since the last view began, this worker has tried to write what somebody plans by
	busy     bool     // the last view has left something to do
	unable   bool     // as the others are told
	refuses  []string // as the others are told
	fatal    error
	taking   map[string]bool // the other workers that take leases, as last seen
	over     error           // why this life has ended

	complained time.Time // when it was last told why this worker is unable
}

func newLife(cfg Config, w *watch, health *Health, id string) *life {
	return &life{
		cfg: cfg, watch: w, health: health, id: id, held: map[string]*Held{}, done: map[string]int64{},
		moves: 1, wake: make(chan struct{}, 1), kick: make(chan struct{}, 1), failed: make(chan struct{}),
	}
}

// run returns nil after ctx has ended, the Fatal error of a Consume, or an error that wraps ErrLost: register anew. Consumes may then
// still run; finish waits for them.
func (l *life) run(ctx context.Context) error {
	alive, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	end := func(why error) {
		l.mu.Lock()
		if l.over == nil {
			l.over = why
		}
		l.mu.Unlock()
		cancel(why)
	}
	work, cut := context.WithCancelCause(alive) // of the Consumes: ends earlier when draining takes too long
	defer cut(nil)
	l.others.Go(func() { l.beat(alive, end) })
	l.others.Go(func() { l.drain(ctx, alive, cut, end) })
	l.loop(alive, work, end)

	l.mu.Lock()
	err, cause, draining := l.fatal, l.over, l.draining
	l.mu.Unlock()
	if cause != nil && !draining {
		err = cause
		if l.cfg.Hooks.Fenced != nil {
			l.cfg.Hooks.Fenced(l.id, cause)
		}
	}
	end(errOver)
	return err
}

// awaitSight returns when the table can be looked at again, or ctx ends. A worker that beats and cannot look would keep a share that it
// never acquires.
func (l *life) awaitSight(ctx context.Context) {
	for n := 1; ; n++ {
		err := l.call(ctx, "View", func(ctx context.Context) error {
			_, err := l.cfg.Store.View(ctx)
			return err
		})
		if err == nil || !sleep(ctx, l.cfg.retry().Delay(n)) {
			return
		}
	}
}

// finish waits until nothing of this life runs any more, and retires its name.
func (l *life) finish(ctx context.Context) {
	l.consumers.Wait()
	l.others.Wait()
	l.retire(context.WithoutCancel(ctx))
}

// retire says that nothing of this worker runs any more, so that nobody needs to wait for the leases it could not release. If
// retiring fails, these leases expire.
func (l *life) retire(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, min(l.cfg.Beat/2, l.reserve()))
	defer cancel()
	for n := 1; ; n++ {
		err := l.call(ctx, "Retire", func(ctx context.Context) error { return l.cfg.Store.Retire(ctx, l.id) })
		if err == nil || !sleep(ctx, l.cfg.retry().Delay(n)) {
			return
		}
	}
}

// beat sends the heartbeats and waits for nothing else. It ends everything when no heartbeat has been confirmed for too long. The
// time counts from when a beat was sent: the others count from when they see it, which is later.
func (l *life) beat(alive context.Context, end func(error)) {
	limit := l.cfg.Duration + l.cfg.slack
	watchdog := time.AfterFunc(time.Until(l.registered.Add(limit)), func() {
		if l.cfg.gate != nil {
			l.cfg.gate()
		}
		end(errSilent)
	})
	defer watchdog.Stop()
	// Each attempt has a number of its own. If a repeated number were found stored, nobody would know since when.
	for b, failures := int64(1), 0; ; b++ {
		sent := time.Now()
		err := l.call(alive, "Beat", func(ctx context.Context) error {
			return l.cfg.Store.Beat(ctx, l.row(b))
		})
		l.health.beat(sent, err)
		pause := max(0, l.cfg.Beat-time.Since(sent))
		switch {
		case errors.Is(err, ErrRefused):
			if l.cfg.gate != nil {
				l.cfg.gate()
			}
			end(errDead)
			return
		case err != nil:
			failures++
			pause = l.cfg.retry().Delay(failures)
		case !watchdog.Stop(): // the watchdog has fired already
			return
		default:
			l.confirmed.Store(b)
			if b == 1+int64(failures) { // after the first confirmed beat this worker gets leases
				nudge(l.wake)
			}
			failures = 0
			watchdog.Reset(time.Until(sent.Add(limit)))
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-l.kick:
			sleep(alive, time.Until(sent.Add(l.fast()))) // one beat tells of all that changes meanwhile
		case <-alive.Done():
		}
		timer.Stop()
		if alive.Err() != nil {
			return
		}
	}
}

// drain waits until the worker is to stop, and then makes it stop in time.
func (l *life) drain(ctx, alive context.Context, cut, end func(error)) {
	select {
	case <-ctx.Done():
	case <-l.failed:
	case <-alive.Done():
		return
	}
	l.mu.Lock()
	l.draining = true
	l.health.stop()
	peers := len(l.taking) > 0 && len(l.held) > 0
	tick := l.pace(len(l.taking) + 1)
	l.mu.Unlock()
	nudge(l.kick)
	nudge(l.wake)
	limit := time.NewTimer(l.cfg.Drain - 2*l.reserve())
	defer limit.Stop()
	if peers {
		// Reading goes on until the others ask for the leases. They see at their next tick that this worker is draining. So each
		// shard stands still only as long as in a planned handover.
		sleep(alive, min(tick+2*l.fast(), l.cfg.Drain/4))
	}
	for _, h := range l.all() {
		h.yield()
	}
	select {
	case <-limit.C:
		cut(errDrain)
	case <-alive.Done():
		return
	}
	sleep(alive, l.reserve())
	end(errOver)
}

// reserve is the part of Drain that is kept for releasing what had to be cut off. Retiring has another part of the same size.
func (l *life) reserve() time.Duration { return min(l.cfg.Drain/10, time.Second) }

// fail makes the whole worker stop in good order, and Run return err.
func (l *life) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.draining = true // set at once, so that a released lease is not acquired again
	if l.fatal == nil {
		l.fatal = err
		close(l.failed)
	}
}

// start makes the lease ours, unless we have it or had it under this fence.
func (l *life) start(alive, work context.Context, row Lease, ahead map[uint64]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if alive.Err() != nil || l.held[row.ID] != nil || row.Fence <= l.done[row.ID] {
		return
	}
	ctx, lose := context.WithCancelCause(work)
	h := newHeld(l, row, lose, ahead)
	l.held[row.ID] = h
	l.health.hold(h)
	if l.draining {
		h.yield()
	}
	l.consumers.Go(func() {
		defer lose(nil)
		gained := !h.stopping() // otherwise the acquisition was answered after draining had begun
		if gained {
			if l.cfg.Hooks.Gained != nil {
				l.cfg.Hooks.Gained(row.ID, h.fence)
			}
			l.consumers.Go(func() {
				defer close(h.returned)
				l.consume(ctx, h)
			})
			select {
			case <-h.returned:
			case <-h.overdue: // whoever has the lease next goes on, as after a crash; at this fence nothing can be stored any more
			}
		}
		l.health.release(h)
		l.leave(alive, h, gained)
		l.mu.Lock()
		delete(l.held, row.ID)
		l.done[row.ID] = h.fence
		l.mu.Unlock()
		nudge(l.wake)
	})
}

// consume calls Consume until the lease ends one way or another.
func (l *life) consume(ctx context.Context, h *Held) {
	for n := 1; ; n++ {
		began := time.Now()
		err := l.reading(ctx, h)
		h.mu.Lock()
		over := h.over
		h.mu.Unlock()
		if f := (*fatal)(nil); errors.As(err, &f) && ctx.Err() == nil && !h.isOverdue() {
			l.fail(f.err)
			return
		}
		if over || ctx.Err() != nil {
			return
		}
		if err != nil && h.stopping() {
			l.trouble("Consume", err)
			return
		}
		if h.stopping() {
			return
		}
		if err == nil {
			err = errors.New("it returned before its shard's end without having been told to stop")
		}
		if time.Since(began) > l.cfg.slow().Max {
			n = 1
		}
		if h.Failed(ctx, err, n) != nil || h.stopping() {
			return
		}
	}
}

// reading is one call of Consume. Its context ends when draining the shard takes too long.
func (l *life) reading(ctx context.Context, h *Held) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var guard sync.WaitGroup
	defer guard.Wait()
	finished := make(chan struct{})
	defer close(finished)
	guard.Go(func() { l.guard(ctx, h, cancel, finished) })
	return l.cfg.Consume(ctx, h)
}

// remindEvery is how often it is told what is waited for.
const remindEvery = time.Minute

// guard watches a Consume that is to return. Its context ends after Drain. If it does not return then, the lease is given up all the
// same: one handler that hangs must not keep a shard from being read.
func (l *life) guard(ctx context.Context, h *Held, cut context.CancelCauseFunc, finished <-chan struct{}) {
	patience := l.cfg.Drain
	select {
	case <-finished:
		return
	case <-ctx.Done():
		patience = 0
	case <-h.stop:
	}
	asked := time.Now()
	limit, overdue, remind := time.NewTimer(patience), time.NewTimer(patience+l.reserve()), time.NewTicker(remindEvery)
	defer limit.Stop()
	defer overdue.Stop()
	defer remind.Stop()
	for {
		select {
		case <-finished:
			return
		case <-limit.C:
			cut(errDrain)
		case <-overdue.C:
			close(h.overdue)
		case <-remind.C:
			if l.cfg.Hooks.Waiting != nil {
				l.cfg.Hooks.Waiting(h.shard.ID, h.fence, time.Since(asked))
			}
		}
	}
}

// leave gives the lease up when no Consume runs any more. It repeats the release until the answer is certain. Otherwise a late
// release could arrive after this worker has acquired the lease again, and take it away under a reader. The hooks hear of the
// release only if they have heard of the gain.
func (l *life) leave(alive context.Context, h *Held, gained bool) {
	h.mu.Lock()
	h.leaving = true
	lost, over, last, children, to := h.lost, h.over, h.last, h.children, h.want
	h.mu.Unlock()
	for n := 1; last != nil && last.final && !over && lost == nil; n++ {
		// Perhaps the shard is finished, and only the answer was lost. Asking once more is the way to know.
		switch err := l.call(alive, last.op, last.call); {
		case err == nil:
			over = true
		case errors.Is(err, ErrRefused):
			lost = ErrLost
		case !sleep(alive, l.cfg.retry().Delay(n)):
			lost = context.Cause(alive)
		}
	}
	if over {
		if l.cfg.Hooks.Ended != nil {
			l.cfg.Hooks.Ended(h.shard.ID, h.fence, children)
		}
		return
	}
	l.mu.Lock()
	if !l.taking[to] {
		to = ""
	}
	l.mu.Unlock()
	for n := 1; lost == nil; n++ {
		err := l.call(alive, "Release", func(ctx context.Context) error { return l.cfg.Store.Release(ctx, h.key(), to) })
		switch {
		// Refused: an earlier attempt released the lease, or a copy of this one that the network made, and another worker has
		// acquired it since. The lease was finished with and its checkpoint stored. A worker that was taken for dead hears of it
		// elsewhere.
		case err == nil, errors.Is(err, ErrRefused):
			if gained && l.cfg.Hooks.Released != nil {
				l.cfg.Hooks.Released(h.shard.ID, h.fence, to)
			}
			return
		case !sleep(alive, l.cfg.retry().Delay(n)):
			lost = context.Cause(alive)
		}
	}
	if gained && l.cfg.Hooks.Lost != nil {
		l.cfg.Hooks.Lost(h.shard.ID, h.fence, lost)
	}
}

func (l *life) all() []*Held {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]*Held, 0, len(l.held))
	for _, h := range l.held {
		all = append(all, h)
	}
	return all
}

func (l *life) isDraining() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.draining
}

// call is one call of the store. It may take half a beat at most: a later answer is as good as lost, and several attempts must
// fit in before the leases expire.
func (l *life) call(ctx context.Context, op string, f func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, l.cfg.Beat/2)
	defer cancel()
	err := f(limited)
	l.told(op, err)
	if err != nil && !errors.Is(err, ErrRefused) && ctx.Err() == nil {
		l.trouble(op, err)
	}
	return err
}

func (l *life) trouble(op string, err error) {
	if l.cfg.Hooks.Trouble != nil {
		l.cfg.Hooks.Trouble(op, err)
	}
}

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
