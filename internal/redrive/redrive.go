// Package redrive hands dead letters to a handler again, and removes those that were handled. It knows the order of a queue's letters, the
// locks that keep two redrives apart, and the pace. It must not know handlers or events: a callback says what became of a letter.
package redrive

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/backoff"
	"github.com/seed-1b628d3f/outbox/internal/deadletter"
	"github.com/seed-1b628d3f/outbox/internal/grace"
)

// Verdict says what became of a letter.
type Verdict int

// The verdicts. The zero value leaves a letter as it is.
const (
	NotTried Verdict = iota // no handler was called, or it could not do its work: the letter stays as it is
	Failed                  // the letter stays, with the reason and one more attempt
	Handled                 // the letter is removed
	gone                    // nothing was handed to Handle: the letter is not there any more
)

// Outcome is what Handle returns.
type Outcome struct {
	Verdict Verdict
	Reason  string // of Failed
}

// Result counts what a redrive did.
type Result struct {
	Redriven int // letters that were handled and removed; in a dry run, those that would be tried
	Failed   int // letters whose handler failed
	Busy     int // queues, or letters without a queue, that were left alone
}

// Engine redrives the letters of a Store. Its fields must not change while a redrive runs.
type Engine struct {
	Store *deadletter.Store
	// Handle handles a letter until ctx ends, and bounds the time of it. It is called for one letter of a queue at a time.
	Handle func(ctx context.Context, l *deadletter.Letter) Outcome
	Logger *slog.Logger
	// Concurrency is how many queues, and letters without a queue, are redriven at the same time.
	Concurrency int
	// PerSecond bounds how many letters are begun in a second. 0 means no bound.
	PerSecond float64
	// DryRun makes Redrive only count.
	DryRun bool
	// Progress, unless nil, is called after each letter. Calls do not overlap.
	Progress func(Result)
}

// storeTime bounds what is written after a handler, which is written even when the redrive is stopped.
const storeTime = 5 * time.Second

// Redrive redrives the targets. Letters of a queue are handled in their order, until one is not handled. When ctx ends, no further letter is
// begun; handlers is the context of the handlers that run then. The first error of the table or of targets ends the redrive. The result
// counts what was done, with an error too.
func (e Engine) Redrive(ctx, handlers context.Context, targets iter.Seq2[deadletter.Target, error]) (Result, error) {
	return e.do(ctx, handlers, func(yield func(job, error) bool) {
		for target, err := range targets {
			if !yield(job{target: target}, err) {
				return
			}
		}
	})
}

// Answer redrives what the stored requests ask for, at most limit of them. It removes a request when its letters are gone or one has failed
// again. A request whose letters were not tried stays.
func (e Engine) Answer(ctx, handlers context.Context, limit int) (Result, error) {
	requests, err := e.Store.Requests(ctx, limit)
	if err != nil {
		return Result{}, err
	}
	return e.do(ctx, handlers, func(yield func(job, error) bool) {
		for _, request := range requests {
			if !yield(job{request.Target, func() error { return e.Store.Answered(ctx, request) }}, nil) {
				return
			}
		}
	})
}

// job is a target, and what to call when it need not be redriven again.
type job struct {
	target deadletter.Target
	done   func() error
}

// run is one redrive.
type run struct {
	Engine
	places  chan struct{} // one for each job that runs
	running sync.WaitGroup

	mu     sync.Mutex
	result Result
	err    error
	next   time.Time // when the next letter may begin
}

func (e Engine) do(ctx, handlers context.Context, jobs iter.Seq2[job, error]) (Result, error) {
	r := &run{Engine: e, places: make(chan struct{}, e.Concurrency)}
	for j, err := range jobs {
		if err != nil {
			r.fail(err)
			break
		}
		if !r.start(ctx, handlers, j) {
			break
		}
	}
	r.running.Wait()
	if r.err == nil && ctx.Err() != nil {
		r.err = fmt.Errorf("redrive stopped: %w", ctx.Err())
	}
	return r.result, r.err
}

// fail ends the redrive. The first error counts.
func (r *run) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
}

func (r *run) over(ctx context.Context) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err != nil || ctx.Err() != nil
}

func (r *run) count(add func(*Result)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	add(&r.result)
	if r.Progress != nil {
		r.Progress(r.result)
	}
}

// start waits for a place and begins a job there. False means that the redrive is over.
func (r *run) start(ctx, handlers context.Context, j job) bool {
	select {
	case r.places <- struct{}{}:
	case <-ctx.Done():
	}
	if r.over(ctx) {
		return false
	}
	r.running.Go(func() {
		defer func() { <-r.places }()
		done, err := r.redrive(ctx, handlers, j.target)
		if err == nil && done && j.done != nil {
			err = j.done()
		}
		if err != nil {
			r.fail(err)
		}
	})
	return true
}

// redrive redrives a target, and reports whether there is no need to do it again.
func (r *run) redrive(ctx, handlers context.Context, target deadletter.Target) (done bool, err error) {
	if r.DryRun {
		ids, err := r.letters(ctx, target)
		for range ids {
			r.count(func(n *Result) { n.Redriven++ })
		}
		return true, err
	}
	lock, err := r.Store.Lock(ctx, target, rand.Text())
	switch {
	case errors.Is(err, deadletter.ErrMissing): // another redrive has finished it
		return true, nil
	case err != nil:
		return false, err
	case lock == nil:
		r.count(func(n *Result) { n.Busy++ })
		return false, nil
	}
	held, release := lock.Hold(handlers)
	defer func() {
		after, cancel := grace.After(ctx, storeTime)
		defer cancel()
		if err := release(after); err != nil {
			r.Logger.WarnContext(ctx, "outbox: a lock on dead letters is not released, it ends by itself", "deadLetter", target.ID(), "error", err)
		}
	}()
	for missing := []string(nil); ; { // the letters of the last round, if all of them were gone
		ids, err := r.letters(ctx, target)
		if err != nil {
			return false, err
		}
		if len(ids) > 0 && slices.Equal(ids, missing) {
			return false, fmt.Errorf("the dead letter table lists letters of %s, and does not return them", target.ID())
		}
		missing = ids
		for _, id := range ids {
			verdict, err := r.letter(ctx, held, handlers, id)
			if err != nil || verdict < Handled {
				return verdict == Failed, err
			}
			if verdict == Handled {
				missing = nil
			}
		}
		if target.Queue == "" {
			return true, nil
		}
		closed, err := r.close(ctx, lock)
		switch {
		case errors.Is(err, deadletter.ErrLockLost): // letters have arrived, and are somebody else's
			r.count(func(n *Result) { n.Busy++ })
			return false, nil
		case err != nil || closed || len(ids) == 0:
			return true, err
		}
		// Letters have arrived meanwhile.
	}
}

// letters returns the ids of a target's letters, in order.
func (r *run) letters(ctx context.Context, target deadletter.Target) ([]string, error) {
	if target.Queue == "" {
		return []string{target.Letter}, nil
	}
	ids, err := r.Store.IDs(ctx, target.Queue)
	if err == nil && target.Letter != "" {
		ids = ids[:slices.Index(ids, target.Letter)+1] // none if the letter is gone
	}
	return ids, err
}

// close ends the parking of a queue without letters, even when the redrive is stopped: no letter would lead to the queue any more.
func (r *run) close(ctx context.Context, lock *deadletter.Lock) (bool, error) {
	ctx, cancel := grace.After(ctx, storeTime)
	defer cancel()
	return lock.Close(ctx)
}

// letter hands one letter to Handle while the lock is held, and stores the outcome.
func (r *run) letter(ctx, held, handlers context.Context, id string) (Verdict, error) {
	if !r.pace(ctx) {
		return NotTried, nil
	}
	l, err := r.Store.Get(ctx, id)
	switch {
	case errors.Is(err, deadletter.ErrMissing):
		return gone, nil
	case err != nil:
		return NotTried, err
	case held.Err() != nil && handlers.Err() == nil: // the lock is lost
		r.count(func(n *Result) { n.Busy++ })
		return NotTried, nil
	}
	outcome := r.Handle(held, &l)
	after, cancel := grace.After(handlers, storeTime)
	defer cancel()
	switch {
	case outcome.Verdict == Handled:
		if _, err := r.Store.Remove(after, &l); err != nil {
			return NotTried, err
		}
		r.count(func(n *Result) { n.Redriven++ })
	case handlers.Err() != nil: // the stop may have cut the handler off
		return NotTried, nil
	case outcome.Verdict == Failed && held.Err() == nil:
		if err := r.Store.Tried(after, &l, outcome.Reason); err != nil {
			return NotTried, err
		}
		r.count(func(n *Result) { n.Failed++ })
	default: // it could not be tried, or was cut off when the lock was lost
		r.count(func(n *Result) { n.Busy++ })
		return NotTried, nil
	}
	return outcome.Verdict, nil
}

// pace waits until the next letter may begin. False means that ctx has ended.
func (r *run) pace(ctx context.Context) bool {
	if r.PerSecond == 0 {
		return ctx.Err() == nil
	}
	r.mu.Lock()
	at := r.next
	if now := time.Now(); at.Before(now) {
		at = now
	}
	r.next = at.Add(time.Duration(min(float64(time.Second)/r.PerSecond, float64(math.MaxInt64/2))))
	r.mu.Unlock()
	return backoff.Sleep(ctx, time.Until(at)) == nil
}
