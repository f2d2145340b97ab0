package outbox

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/backoff"
	"github.com/seed-1b628d3f/outbox/internal/deadletter"
)

// RedriveOptions say how dead letters are redriven.
type RedriveOptions struct {
	// PerSecond bounds how many are handled in a second. 0 means no bound.
	PerSecond float64
	// DryRun makes Redrive only count what it would handle.
	DryRun bool
	// Progress is called after each dead letter, with what has been done so far. Calls do not overlap, and other letters wait for them: it must
	// not block. nil is not called.
	Progress func(RedriveResult)
}

// RedriveResult counts dead letters.
type RedriveResult struct {
	Redriven int // handled and removed; in a dry run, those that would be tried
	Failed   int // the handler failed again: they stay, with the new error, and those behind them stay too
	Busy     int // aggregates, or letters without one, that were left alone: another redrive has them, or they could not be tried
}

// lockTime is how long a lock on an aggregate or a letter lasts, and so how long a handler may take in a redrive. It is
// renewed before each letter. lockMargin is how much earlier the handler's context ends.
const (
	lockTime   = time.Minute
	lockMargin = 2 * time.Second
)

// Redrive hands the dead letters that the filter selects to the handlers of c, and removes those that are handled. Of an
// aggregate, the letters are handled in their order, the first one first, until one fails: all of them, unless the filter names
// an ID, which makes it the last. Different aggregates are redriven at the same time, WithConcurrency of c at once. When the
// last letter is gone, the aggregate is not parked any more; events that arrive meanwhile are handled behind the others.
//
// A letter whose handler fails stays, with the new error and one more attempt. So does one of which c has no handler, and a
// record that still cannot be decoded. A handler has a minute for each letter. Letters are handled at least once: a crash
// between the handler and the removal leads to one more time. Redrive may run several times at once, on different machines:
// locks in the table keep two from handling the same aggregate.
//
// The error is about the table, or that ctx has ended; what the result counts is done all the same. Handlers that fail are no
// error of Redrive.
func (t *DeadLetterTable) Redrive(ctx context.Context, c *Consumer, filter DeadLetterFilter, opts RedriveOptions) (RedriveResult, error) {
	if err := t.runnable("Redrive", c); err != nil {
		return RedriveResult{}, err
	}
	if !(opts.PerSecond >= 0) || math.IsInf(opts.PerSecond, 0) {
		return RedriveResult{}, fmt.Errorf("outbox: Redrive: PerSecond: want 0 or more, have %v", opts.PerSecond)
	}
	r := t.newRedriver(ctx, ctx, c, opts)
	seen := map[string]bool{}
	for l, err := range t.letters(ctx, filter) {
		if err != nil {
			r.fail(err)
			break
		}
		queue := deadletter.QueueOf(l.ID)
		switch {
		case queue == "" || filter.ID != "":
			r.start(l.ID)
		case !seen[queue]:
			seen[queue] = true
			r.start(queue + "#")
		}
		if r.over() {
			break
		}
	}
	if !r.over() {
		queues, err := t.queuesOf(ctx, filter)
		if err != nil {
			r.fail(err)
		}
		for _, queue := range queues {
			if !seen[queue] && !r.over() {
				r.start(queue + "#")
			}
		}
	}
	return r.wait()
}

// runnable reports whether the table and the Consumer can redrive at all.
func (t *DeadLetterTable) runnable(call string, c *Consumer) error {
	if err := t.made(); err != nil {
		return err
	}
	if c == nil {
		return fmt.Errorf("outbox: %s: the Consumer is nil", call)
	}
	if err := c.made(); err != nil {
		return fmt.Errorf("outbox: %s: %w", call, err)
	}
	return nil
}

// queuesOf returns the parked queues that a filter means as a whole. A crash between the removal of the last letter and the end of the parking
// leaves one without letters, which no letter leads to.
func (t *DeadLetterTable) queuesOf(ctx context.Context, filter DeadLetterFilter) (queues []string, err error) {
	switch filter {
	case DeadLetterFilter{}:
		queues, err = t.store.Queues(ctx)
	case DeadLetterFilter{AggregateID: filter.AggregateID}:
		var parked []string
		if parked, err = t.store.AreParked(ctx, []string{filter.AggregateID}); len(parked) > 0 {
			queues = []string{deadletter.QueueKey(filter.AggregateID)}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("outbox: %w", err)
	}
	return queues, nil
}

// RequestRedrive asks whoever runs the consumer's handlers to redrive the dead letters that the filter selects, and returns how
// many letters there are. A Worker whose Consumer has this table looks for requests every two seconds; elsewhere, call
// AnswerRedriveRequests. A request is forgotten after 7 days.
func (t *DeadLetterTable) RequestRedrive(ctx context.Context, filter DeadLetterFilter) (int, error) {
	n, seen := 0, map[string]bool{}
	for l, err := range t.letters(ctx, filter) {
		if err != nil {
			return n, err
		}
		id := l.ID
		if queue := deadletter.QueueOf(id); queue != "" && filter.ID == "" {
			id = queue + "#"
		}
		if !seen[id] {
			seen[id] = true
			if err := t.store.Ask(ctx, id); err != nil {
				return n, fmt.Errorf("outbox: %w", err)
			}
		}
		n++
	}
	queues, err := t.queuesOf(ctx, filter)
	if err != nil {
		return n, err
	}
	for _, queue := range queues {
		if id := queue + "#"; !seen[id] {
			if err := t.store.Ask(ctx, id); err != nil {
				return n, fmt.Errorf("outbox: %w", err)
			}
		}
	}
	return n, nil
}

// PendingRedrives returns how many requests are not answered yet, at most 1,000: each for one aggregate, or for one letter.
func (t *DeadLetterTable) PendingRedrives(ctx context.Context) (int, error) {
	if err := t.made(); err != nil {
		return 0, err
	}
	requests, err := t.store.Requests(ctx, maxRequests)
	if err != nil {
		return 0, fmt.Errorf("outbox: %w", err)
	}
	return len(requests), nil
}

const maxRequests = 1000

// AnswerRedriveRequests redrives what was asked for by RequestRedrive, at most 1,000 requests, as Redrive does. Call it where the
// handlers are and no Worker runs, for example in a Lambda function on a schedule. Without requests it costs one read unit.
func (t *DeadLetterTable) AnswerRedriveRequests(ctx context.Context, c *Consumer) (RedriveResult, error) {
	if err := t.runnable("AnswerRedriveRequests", c); err != nil {
		return RedriveResult{}, err
	}
	return t.redriveRequested(ctx, ctx, c)
}

func (t *DeadLetterTable) redriveRequested(ctx, handlers context.Context, c *Consumer) (RedriveResult, error) {
	requests, err := t.store.Requests(ctx, maxRequests)
	if err != nil {
		return RedriveResult{}, fmt.Errorf("outbox: %w", err)
	}
	r := t.newRedriver(ctx, handlers, c, RedriveOptions{})
	for _, request := range requests {
		if r.over() {
			break
		}
		r.start(request.LetterID, func() {
			if err := t.store.Answered(ctx, request); err != nil {
				r.fail(fmt.Errorf("outbox: %w", err))
			}
		})
	}
	return r.wait()
}

// redriver is one redrive. When ctx ends, no other letter is begun; handlers is the context of those that run.
type redriver struct {
	t             *DeadLetterTable
	c             *Consumer
	ctx, handlers context.Context
	opts          RedriveOptions
	free          chan struct{} // a place for each aggregate at a time
	running       sync.WaitGroup

	mu     sync.Mutex
	result RedriveResult
	err    error
	next   time.Time // when the next letter may begin
}

func (t *DeadLetterTable) newRedriver(ctx, handlers context.Context, c *Consumer, opts RedriveOptions) *redriver {
	return &redriver{t: t, c: c, ctx: ctx, handlers: handlers, opts: opts, free: make(chan struct{}, c.concurrency)}
}

func (r *redriver) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
}

func (r *redriver) over() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err != nil || r.ctx.Err() != nil
}

func (r *redriver) wait() (RedriveResult, error) {
	r.running.Wait()
	if r.err == nil && r.ctx.Err() != nil {
		r.err = fmt.Errorf("outbox: redrive stopped: %w", r.ctx.Err())
	}
	return r.result, r.err
}

func (r *redriver) count(add func(*RedriveResult)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	add(&r.result)
	if r.opts.Progress != nil {
		r.opts.Progress(r.result)
	}
}

// start redrives a letter, or with "<queue>#" a whole queue, when there is a place. then are called if that is done, by whomever, or
// ended with a handler that failed; not if it was cut short.
func (r *redriver) start(id string, then ...func()) {
	select {
	case r.free <- struct{}{}:
	case <-r.ctx.Done():
		return
	}
	r.running.Go(func() {
		defer func() { <-r.free }()
		done, err := r.redriveQueue(id)
		if err != nil {
			r.fail(err)
			return
		}
		for _, f := range then {
			if done {
				f()
			}
		}
	})
}

// outcome is what became of a letter.
type outcome int

const (
	letterHandled  outcome = iota // or gone
	letterFailed                  // the handler was called, and it stays
	letterCutShort                // no handler was called, or it was cut off
)

// redriveQueue redrives the letters of a queue up to the one with the id, or the only one of a letter without a queue. It reports
// whether there is no need to do it again.
func (r *redriver) redriveQueue(id string) (answered bool, err error) {
	store, queue := r.t.store, deadletter.QueueOf(id)
	if r.opts.DryRun {
		_, _, err := r.each(queue, id, func(string) (outcome, error) {
			r.count(func(n *RedriveResult) { n.Redriven++ })
			return letterHandled, nil
		})
		return true, err
	}
	lock, err := store.Lock(r.ctx, id, ids.New(), time.Now().Add(lockTime))
	switch {
	case errors.Is(err, deadletter.ErrMissing): // somebody has redriven it
		return true, nil
	case err != nil:
		return false, fmt.Errorf("outbox: %w", err)
	case lock == nil:
		r.count(func(n *RedriveResult) { n.Busy++ })
		return false, nil
	}
	defer func() {
		ctx, cancel := detached(r.ctx)
		defer cancel()
		if err := lock.Release(ctx); err != nil {
			r.c.logger.WarnContext(r.ctx, "outbox: a lock on dead letters is not released, it ends by itself", "deadLetter", id, "error", err)
		}
	}()
	for {
		letters, last, err := r.each(queue, id, func(id string) (outcome, error) { return r.redriveLetter(lock, id) })
		if err != nil || last != letterHandled || queue == "" {
			return last != letterCutShort, err
		}
		closed, err := r.close(queue)
		if err != nil {
			return false, err
		}
		if closed || letters == 0 {
			return true, nil
		}
		// Letters have arrived meanwhile.
	}
}

// close ends the parking of a queue without letters, also when the redrive is cancelled: without its last letter nobody would see that there is
// still something to do.
func (r *redriver) close(queue string) (bool, error) {
	ctx, cancel := detached(r.ctx)
	defer cancel()
	closed, err := r.t.store.Close(ctx, queue)
	if err != nil {
		return false, fmt.Errorf("outbox: %w", err)
	}
	return closed, nil
}

// detached is for what has to be done even when ctx has ended.
func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
}

// each calls do for the letters of a queue, in order, up to the one with the id, or for that one alone, until one is not handled. It
// returns how many there were, and what became of the last one. If the letter with the id is gone, there are none.
func (r *redriver) each(queue, id string, do func(id string) (outcome, error)) (n int, last outcome, err error) {
	if queue == "" {
		last, err := do(id)
		return 1, last, err
	}
	letters, err := r.t.store.IDs(r.ctx, queue)
	if err != nil {
		return 0, letterCutShort, fmt.Errorf("outbox: %w", err)
	}
	if id != queue+"#" {
		letters = letters[:slices.Index(letters, id)+1]
	}
	for _, id := range letters {
		n++
		if last, err := do(id); err != nil || last != letterHandled {
			return n, last, err
		}
	}
	return n, letterHandled, nil
}

// redriveLetter hands one letter to its handler and removes it, if it is still there.
func (r *redriver) redriveLetter(lock *deadletter.Lock, id string) (outcome, error) {
	if !r.pace() {
		return letterCutShort, nil
	}
	kept, err := lock.Extend(r.ctx, time.Now().Add(lockTime))
	switch {
	case errors.Is(err, deadletter.ErrMissing): // the last letters were discarded
		return letterHandled, nil
	case err != nil:
		return letterCutShort, fmt.Errorf("outbox: %w", err)
	case !kept:
		r.count(func(n *RedriveResult) { n.Busy++ })
		return letterCutShort, nil
	}
	l, err := r.t.store.Get(r.ctx, id) // now that the lock is renewed
	switch {
	case errors.Is(err, deadletter.ErrMissing):
		return letterHandled, nil
	case err != nil:
		return letterCutShort, fmt.Errorf("outbox: %w", err)
	}
	ctx, cancel := context.WithDeadline(r.handlers, lock.Until.Add(-lockMargin))
	defer cancel()
	started, failure := r.c.handleLetter(ctx, &l)
	after, cancelAfter := detached(r.handlers)
	defer cancelAfter()
	switch {
	case failure == nil:
		if _, err := r.t.store.Remove(after, &l); err != nil {
			return letterCutShort, fmt.Errorf("outbox: %w", err)
		}
		r.count(func(n *RedriveResult) { n.Redriven++ })
		return letterHandled, nil
	case r.handlers.Err() != nil: // a cut off attempt is none
		return letterCutShort, nil
	case !started || !isAttempt(failure):
		r.count(func(n *RedriveResult) { n.Busy++ })
		return letterCutShort, nil
	}
	if err := r.t.store.Tried(after, &l, failure.Error()); err != nil {
		return letterCutShort, fmt.Errorf("outbox: %w", err)
	}
	r.count(func(n *RedriveResult) { n.Failed++ })
	return letterFailed, nil
}

// pace waits until the next letter may begin. False means that ctx has ended.
func (r *redriver) pace() bool {
	if r.opts.PerSecond == 0 {
		return r.ctx.Err() == nil
	}
	r.mu.Lock()
	at := r.next
	if now := time.Now(); at.Before(now) {
		at = now
	}
	r.next = at.Add(time.Duration(min(float64(time.Second)/r.opts.PerSecond, float64(math.MaxInt64/2))))
	r.mu.Unlock()
	return backoff.Sleep(r.ctx, time.Until(at)) == nil
}

var errIncomplete = errors.New("the payload is lost: this is a late copy of a dead letter that was removed; discard it")

// handleLetter hands a dead letter to its handler. What a delivery may skip, a redrive must not: it would be removed unhandled. started
// is false if there was no place for the handler in time.
func (c *Consumer) handleLetter(ctx context.Context, l *deadletter.Letter) (started bool, err error) {
	r := Record(l.Event)
	if l.Incomplete {
		return true, errIncomplete
	}
	if l.Raw != nil {
		reason, malformed := decodeRecord(&r, l.Raw, c.layout, c.tables, nil)
		switch {
		case malformed != nil:
			return true, malformed
		case reason != 0:
			return true, reason
		}
	}
	b := c.newBatch(ctx, 1, false)
	b.redrive = true
	if _, known := b.handlers[r.Type]; !known {
		return true, noHandler(r.Type)
	}
	if !c.ours(r.Table) {
		return true, fmt.Errorf("table %q is not one of WithTables", r.Table)
	}
	b.deliveries[0].record = r
	b.start()
	switch unfinished := b.result(ctx.Err()); {
	case unfinished == nil:
		return true, nil
	case len(unfinished.Failures) > 0:
		return true, unfinished.Failures[0].Err
	default:
		return false, unfinished
	}
}

// redriveEvery is how often a Worker looks for requests.
const redriveEvery = 2 * time.Second

// redriveRequested does what is asked for in the dead letter table until ctx ends. Then handlers that run have the drain
// timeout.
func (w *Worker) redriveRequested(ctx context.Context) {
	dead := w.consumer.dead
	if dead == nil {
		return
	}
	handlers, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(w.drainTimeout, cancel) })
	defer stop()
	ticker := time.NewTicker(redriveEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		result, err := dead.table.redriveRequested(ctx, handlers, w.consumer)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			w.consumer.logger.WarnContext(ctx, "outbox: requested redrives are not complete", "error", err)
		case result.Redriven+result.Failed > 0:
			w.consumer.logger.InfoContext(ctx, "outbox: redriven on request", "redriven", result.Redriven, "failed", result.Failed)
		}
	}
}
