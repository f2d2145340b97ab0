package outbox

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"sync"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/backoff"
	"github.com/seed-1b628d3f/outbox/internal/deadletter"
	"github.com/seed-1b628d3f/outbox/internal/redrive"
	"github.com/seed-1b628d3f/outbox/internal/usercode"
)

// RedriveOptions say how dead letters are redriven.
type RedriveOptions struct {
	// PerSecond bounds how many letters are begun in a second. 0 means no bound.
	PerSecond float64
	// DryRun makes Redrive count the letters that it would handle, and no more.
	DryRun bool
	// Progress, unless nil, is called after each dead letter, with what has been done so far. Calls do not overlap. It must not block, because
	// other letters wait for it. If it panics, this is logged and the redrive goes on.
	Progress func(RedriveResult)
}

// RedriveResult counts dead letters.
type RedriveResult struct {
	Redriven int // letters that were handled and removed; in a dry run, letters that would be tried
	Failed   int // letters whose handler failed again: they stay, with the new error, and so do the letters behind them
	Busy     int // aggregates, or letters without one, that were left alone: another redrive has them, or they could not be tried
}

// Redrive hands the dead letters that the filter selects to the handlers of c, and removes those that are handled. Of an aggregate, all letters
// are handled, in their order, until one fails. If the filter names an ID, that letter is the last. Different aggregates are redriven at the
// same time, as many as WithConcurrency of c says. When the last letter of an aggregate is gone, its parking ends. Events that arrive
// meanwhile are handled behind the others.
//
// A letter whose handler fails stays, with the new error and one more attempt. So does a letter that c has no handler for, and a record that
// still cannot be decoded. A handler has a minute for each call, and Redrive waits for one that takes longer. Letters are handled at least once:
// after a crash between the handler and the removal, a letter is handled again. Redrive may run several times at once, on different machines,
// whose clocks need not agree: locks in the table keep two redrives from handling the same aggregate. A lock that a crash has left is taken over
// when this process has seen it unchanged for 20 seconds. Redrive waits for that, in one of the places that WithConcurrency gives, if ctx leaves
// the time; otherwise, and in the first 20 seconds, it counts the aggregate as Busy, and a later call takes the lock.
//
// An error means that the table failed, that ctx has ended, or that a handler or hook of c has called Redrive. The result counts what was done,
// with an error too. A handler that fails is not an error of Redrive. If ctx has a deadline, as in Lambda, Redrive ends before it, by the margin
// of c (WithDeadlineMargin).
func (t *DeadLetterTable) Redrive(ctx context.Context, c *Consumer, filter DeadLetterFilter, opts RedriveOptions) (RedriveResult, error) {
	if err := t.runnable(ctx, "Redrive", c); err != nil {
		return RedriveResult{}, err
	}
	if !(opts.PerSecond >= 0) || math.IsInf(opts.PerSecond, 0) {
		return RedriveResult{}, fmt.Errorf("outbox: Redrive: PerSecond: want 0 or more, have %v", opts.PerSecond)
	}
	ctx, cancel := c.beforeDeadline(ctx)
	defer cancel()
	return redriven(t.engine(c, opts).Redrive(ctx, ctx, func(yield func(deadletter.Target, error) bool) {
		for s, err := range t.selected(ctx, filter) {
			if !s.again && !yield(s.target, err) {
				return
			}
		}
	}))
}

// runnable reports whether the table and the Consumer can redrive, and the call is not one of a handler of the Consumer.
func (t *DeadLetterTable) runnable(ctx context.Context, call string, c *Consumer) error {
	if err := t.made(); err != nil {
		return err
	}
	if c == nil {
		return fmt.Errorf("outbox: %s: the Consumer is nil", call)
	}
	if err := errors.Join(c.made(), c.notNested(ctx)); err != nil {
		return fmt.Errorf("outbox: %s: %w", call, err)
	}
	return nil
}

// selection is a target of a redrive, or a further letter in a target.
type selection struct {
	target  deadletter.Target
	letters int  // of the target that the filter selects; 0 for a queue whose last letter is gone and that nobody has closed
	again   bool // the target came before
}

// selected runs through what a filter selects. It reads no payload, and no letter of a queue that is selected as a whole. A crash may leave a
// queue without letters, and so may a discard beside a redrive that dies: a filter for all letters, or for its aggregate's, selects it.
func (t *DeadLetterTable) selected(ctx context.Context, f DeadLetterFilter) iter.Seq2[selection, error] {
	return func(yield func(selection, error) bool) {
		switch f {
		case DeadLetterFilter{}:
			for q, err := range t.store.Queues(ctx) {
				if !yield(selection{target: deadletter.Target{Queue: q.Key}, letters: q.Letters}, err) {
					return
				}
			}
			for l, err := range t.store.Heads(ctx, "") {
				if !yield(selection{target: deadletter.Target{Letter: l.ID}, letters: 1}, err) {
					return
				}
			}
			return
		case DeadLetterFilter{AggregateID: f.AggregateID}:
			q, err := t.store.Queue(ctx, f.AggregateID)
			if !errors.Is(err, deadletter.ErrMissing) {
				yield(selection{target: deadletter.Target{Queue: q.Key}, letters: q.Letters}, err)
			}
			return
		}
		queues := map[string]bool{}
		for l, err := range t.heads(ctx, f) {
			if err == nil && !f.matches(&l) {
				continue
			}
			s := selection{target: deadletter.Target{Queue: deadletter.QueueOf(l.ID), Letter: l.ID}, letters: 1}
			if s.target.Queue != "" && f.ID == "" {
				s.target.Letter, s.again = "", queues[s.target.Queue]
				queues[s.target.Queue] = true
			}
			if !yield(s, err) {
				return
			}
		}
	}
}

// heads runs through the letters among which a filter selects, without their payloads.
func (t *DeadLetterTable) heads(ctx context.Context, f DeadLetterFilter) iter.Seq2[deadletter.Letter, error] {
	switch {
	case f.ID != "":
		return func(yield func(deadletter.Letter, error) bool) {
			if l, err := t.store.Head(ctx, f.ID); !errors.Is(err, deadletter.ErrMissing) {
				yield(l, err)
			}
		}
	case f.AggregateID != "":
		return t.store.Heads(ctx, deadletter.QueueKey(f.AggregateID))
	}
	return t.store.AllHeads(ctx)
}

// RequestRedrive asks whoever runs the consumer's handlers to redrive the dead letters that the filter selects. It returns how many letters
// there are. A Worker whose Consumer has this table looks for requests every two seconds, or every minute while those that are there cannot be
// tried; elsewhere, call AnswerRedriveRequests. A request is forgotten after 7 days.
func (t *DeadLetterTable) RequestRedrive(ctx context.Context, filter DeadLetterFilter) (int, error) {
	if err := t.made(); err != nil {
		return 0, err
	}
	n := 0
	for s, err := range t.selected(ctx, filter) {
		if err == nil && !s.again {
			err = t.store.Ask(ctx, s.target)
		}
		if err != nil {
			return n, fmt.Errorf("outbox: %w", err)
		}
		n += s.letters
	}
	return n, nil
}

// PendingRedrives returns how many requests are not answered yet, at most 1,000. A request is for one aggregate, for
// its letters up to one of them, or for one letter without an aggregate.
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

// AnswerRedriveRequests redrives what RequestRedrive asked for, at most 1,000 requests, as Redrive does. Call it where the handlers are and no
// Worker runs, for example in a Lambda function on a schedule. Without requests it costs one read unit. A lock
// that a crash has left may need several calls, as Redrive says.
func (t *DeadLetterTable) AnswerRedriveRequests(ctx context.Context, c *Consumer) (RedriveResult, error) {
	if err := t.runnable(ctx, "AnswerRedriveRequests", c); err != nil {
		return RedriveResult{}, err
	}
	ctx, cancel := c.beforeDeadline(ctx)
	defer cancel()
	return t.redriveRequested(ctx, ctx, c)
}

func (t *DeadLetterTable) redriveRequested(ctx, handlers context.Context, c *Consumer) (RedriveResult, error) {
	return redriven(t.engine(c, RedriveOptions{}).Answer(ctx, handlers, maxRequests))
}

// engine returns what redrives the table's letters with the handlers of c.
func (t *DeadLetterTable) engine(c *Consumer, opts RedriveOptions) redrive.Engine {
	e := redrive.Engine{
		Store: t.store, Handle: c.redrive, Logger: c.logger, Concurrency: c.concurrency, PerSecond: opts.PerSecond, DryRun: opts.DryRun,
	}
	if opts.Progress != nil {
		e.Progress = func(r redrive.Result) {
			if p := usercode.Apart(func() { opts.Progress(RedriveResult(r)) }); p != nil {
				c.logger.Error("outbox: Progress of a redrive panicked", "error", &PanicError{Value: p.Value}, "stack", string(p.Stack))
			}
		}
	}
	return e
}

func redriven(r redrive.Result, err error) (RedriveResult, error) {
	if err != nil {
		err = fmt.Errorf("outbox: %w", err)
	}
	return RedriveResult(r), err
}

// letterTime is how long a dead letter waits for a place among the handlers of its Consumer, and how long its handler may take after that.
const letterTime = time.Minute

// redrive hands a dead letter to its handler, and says what becomes of the letter.
func (c *Consumer) redrive(ctx context.Context, l *deadletter.Letter) redrive.Outcome {
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	b := c.newBatch(ctx, 1, false)
	b.redrive = true
	d := &b.deliveries[0]
	d.before = int32(min(l.Attempts, math.MaxInt32))
	if d.err = c.receiveLetter(b.handlers, d, l); d.err == nil {
		place := time.AfterFunc(letterTime, giveUp)
		defer place.Stop()
		registered := b.handlers[d.record.Type]
		timed := registered
		timed.handler = func(ctx context.Context, r Record) error {
			place.Stop()
			ctx, cancel := context.WithTimeout(ctx, letterTime)
			defer cancel()
			defer c.watch(ctx, &r)()
			return registered.handler(ctx, r)
		}
		b.handlers = map[string]registration{d.record.Type: timed}
		b.start()
	}
	switch d.judge(ctx.Err() != nil) { // no place, or cut off: no attempt
	case settled:
		return redrive.Outcome{Verdict: redrive.Handled}
	case waits:
		return redrive.Outcome{Verdict: redrive.NotTried}
	default: // also lost, the ninth time: the letter stays in any case, and a request would be repeated for days
		if p := (*predecessorError)(nil); errors.As(d.err, &p) && p.record != nil && c.dead != nil { // so that it can be discarded, and outlives its row
			first := &delivery{Context: ctx, consumer: c, record: *p.record, doomed: &doomed{err: p.err}}
			if err := c.bury(ctx, first); err != nil {
				return redrive.Outcome{Verdict: redrive.NotTried}
			}
		}
		return redrive.Outcome{Verdict: redrive.Failed, Reason: d.err.Error()}
	}
}

// watch warns while a dead letter's handler runs on after its time, until the returned function is called: its aggregate waits, and so does
// whoever has asked for the redrive.
func (c *Consumer) watch(ctx context.Context, r *Record) (returned func()) {
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	began := time.Now()
	var telling sync.WaitGroup
	telling.Go(func() {
		for pause := letterTime + time.Second; backoff.Sleep(running, pause) == nil; pause = letterTime {
			c.logger.WarnContext(ctx, "outbox: the handler of a dead letter ignores the end of its context, and holds up the redrive",
				"event", r.ID, "type", r.Type, "aggregate", r.AggregateID, "for", time.Since(began).Round(time.Second))
		}
	})
	return func() {
		cancel()
		telling.Wait()
	}
}

var errIncomplete = errors.New("the payload is lost: this is a late copy of a dead letter that was removed; discard it")

// receiveLetter makes a delivery of a dead letter. What a delivery may skip, a redrive must not: the letter would be removed unhandled.
func (c *Consumer) receiveLetter(handlers map[string]registration, d *delivery, l *deadletter.Letter) error {
	if l.Incomplete {
		return errIncomplete
	}
	if d.record = Record(l.Event); l.Raw != nil {
		from := func(r *Record) {
			r.StreamARN, r.ShardID, r.SequenceNumber = l.Event.StreamARN, l.Event.ShardID, l.Event.SequenceNumber
		}
		if _, err := c.receive(d, l.Raw, nil, from, nil); err != nil {
			return err
		}
	}
	if _, known := handlers[d.record.Type]; !known {
		return noHandler(d.record.Type)
	}
	if l.Order != "" && !c.ordered(&d.record) {
		return fmt.Errorf("it has an order by the sequences of table %q, and the Consumer has none (WithOrder)", l.Order)
	}
	if !c.ours(d.record.Table) {
		return fmt.Errorf("table %q is not one of WithTables", d.record.Table)
	}
	return nil
}

// A Worker looks for requests to redrive every redriveEvery. While nothing of what is asked for can be tried, the pause doubles, up to redriveMost:
// the service that the handlers call may be down.
const (
	redriveEvery = 2 * time.Second
	redriveMost  = time.Minute
)

// redriveRequested answers requests to redrive until ctx ends. Handlers that run then have the drain timeout.
func (w *Worker) redriveRequested(ctx context.Context) {
	dead := w.consumer.dead
	if dead == nil {
		return
	}
	handlers, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(w.drainTimeout, cancel) })
	defer stop()
	for pause := redriveEvery; backoff.Sleep(ctx, pause) == nil; {
		result, err := dead.table.redriveRequested(ctx, handlers, w.consumer)
		if result.Redriven+result.Failed > 0 || result.Busy == 0 && err == nil {
			pause = redriveEvery
		} else {
			pause = min(2*pause, redriveMost)
		}
		switch {
		case ctx.Err() != nil:
		case err != nil:
			w.consumer.logger.WarnContext(ctx, "outbox: requested redrives are not complete", "error", err)
		case result.Redriven+result.Failed > 0:
			w.consumer.logger.InfoContext(ctx, "outbox: redriven on request", "redriven", result.Redriven, "failed", result.Failed)
		}
	}
}
