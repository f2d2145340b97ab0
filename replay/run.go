package replay

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/backoff"
	"github.com/seed-1b628d3f/outbox/internal/batchget"
	"github.com/seed-1b628d3f/outbox/internal/usercode"
)

// Processor is what To hands events to. *outbox.Consumer implements it. If its error is no *outbox.ProcessError, the whole batch
// counts as not handled.
type Processor interface {
	Process(ctx context.Context, records ...outbox.Record) error
}

// Options are those of To and Again. The zero value replays everything at full speed.
type Options struct {
	// DryRun only searches, and for Again looks for what cannot be copied. The Result says how many events were found; nothing is
	// handled or written.
	DryRun bool
	// PerSecond bounds how many events are handled or written a second, on average; 0 is no bound.
	PerSecond float64
	// Unreadable is asked about a row that has an id and a type but cannot be read. r has only its ID, and err, which matches
	// *outbox.DecodeError, says why. If Unreadable returns true, the row is left out and counted in Result.Unreadable; later
	// events of its aggregate do not wait for it. If it returns false or is nil, the replay ends at the row with err.
	Unreadable func(r outbox.Record, err error) bool
	// Uncopyable is asked by Again, before it writes anything, about each event whose copy the Writer would refuse, mostly because the copy's
	// longer id is too long, or makes the row too large. err, a *outbox.TransactionError, says why. If Uncopyable returns true for all of them,
	// they are left out and counted in Result.Uncopyable; later events of their aggregates do not wait for them. If it returns false once or is
	// nil, Again ends with an error, and nothing is written.
	Uncopyable func(r outbox.Record, err error) bool
	// Progress is called on the way, never twice at a time. It must not block.
	Progress func(Progress)
}

// Progress says how far a replay is.
type Progress struct {
	// Searched is how many rows were looked at, Found how many events match. Both grow while the search runs. Again then looks for
	// what cannot be copied: Searching stays true, and they stand still.
	Searching       bool
	Searched, Found int
	// Passed is how many of the found events were handled, written or left out.
	Passed int
}

// Result says what a replay did, also when it failed.
type Result struct {
	// Found is how many rows the query found.
	Found int
	// Done is how many events were handled or written; after an error, until the error.
	Done int
	// Copies is how many copies of Again were left out because their originals are there too. Gone is how many rows were deleted
	// after the search found them.
	Copies, Gone int
	// Unreadable is how many rows were left out because Options.Unreadable said so.
	Unreadable int
	// Uncopyable is how many events Again left out because Options.Uncopyable said so, for all of them before the first is written.
	Uncopyable int
	// Next, after an error, is the query to go on with. It begins at the earliest event that is not done, so it may find some
	// events that are done. It is zero if nothing is left.
	Next Query
}

// To hands the events that match the query to a Consumer, in order and in batches, and returns when all are handled. A batch
// begins when the batch before is finished, so the events of one aggregate keep their order. A handler sees an event as from the
// stream, with the same ID. Types without a handler are skipped as usual.
//
// A replay may be repeated wherever an event may be delivered twice. A Consumer with an inbox skips what it has handled before,
// but not what its inbox has forgotten (WithInboxTTL). To have events handled again, give the inbox another consumer name. To refuses a Consumer
// with an inbox and other WithAttributes than those of New.
//
// The replay ends at the first batch with a failure, after the rest of the batch was handled as far as possible. The Result says
// where to go on. A row that cannot be read is a failure too, and a replay that goes on meets it again, unless Options.Unreadable
// leaves it out. The error is the Consumer's, DynamoDB's or ctx's; before anything was handled, it may be ErrTooMany or
// ErrNotFound.
func (e *Events) To(ctx context.Context, q Query, consumer Processor, o Options) (Result, error) {
	if consumer == nil {
		return Result{}, errors.New("replay: To: the Consumer is nil")
	}
	if err := e.checkAttributesOf(consumer); err != nil {
		return Result{}, fmt.Errorf("replay: To: %w", err)
	}
	return e.run(ctx, "To", q, o, nil, func(ctx context.Context, records []outbox.Record) ([]int, error) {
		return processed(ctx, consumer, records)
	})
}

// processed hands records over. It returns the indexes of those that are unfinished, and why.
func processed(ctx context.Context, to Processor, records []outbox.Record) (unfinished []int, err error) {
	err = to.Process(ctx, records...)
	failed := (*outbox.ProcessError)(nil)
	switch {
	case err == nil:
		return nil, nil
	case errors.As(err, &failed):
		return failed.Unfinished, err
	}
	return everything(records), err
}

var runName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// Again writes the events that match the query once more, as new events, so that they reach every consumer through the stream. A
// copy has the original's type, aggregate, sequence, time, headers and payload. Its id is made of the original's id and run, the
// name of the run: 1 to 64 letters, digits, '.', '_' and '-'. Original finds the original's id in it.
//
// The name makes a repeat safe: a run that failed, or was repeated by mistake, writes only what is missing, for as long as the
// rows are kept. A new name writes everything once more. If the original of a copy is there, the copy is not copied.
//
// Before it writes, Again reads all events once and asks the Writer whether it takes their copies (Options.Uncopyable), so that no
// repeat of a run ends at the same event again. So it reads each row twice, and the Writer's WithHeaders is called twice.
//
// Each event is written by itself, at one write unit for each started KB, or two if the Writer's client has no PutItem. The events of one
// aggregate are written in order, up to ten aggregates at a time. The Writer must have the table and the attributes of these events; its codec
// does not matter. Again ends at the first batch with a failure, as To does. If a write failed, the error is a *outbox.TransactionError.
func (e *Events) Again(ctx context.Context, q Query, writer *outbox.Writer, run string, o Options) (Result, error) {
	if writer == nil {
		return Result{}, errors.New("replay: Again: the Writer is nil")
	}
	if !runName.MatchString(run) {
		return Result{}, fmt.Errorf("replay: Again: the name of the run is %q: want 1 to 64 letters, digits, '.', '_' and '-'", run)
	}
	try := func(r outbox.Record) error {
		return apart(func() error {
			_, err := writer.Items(ctx, copyOf(r, run))
			return err
		})
	}
	return e.run(ctx, "Again", q, o, try, func(ctx context.Context, records []outbox.Record) ([]int, error) {
		return eachAggregate(records, func(r outbox.Record) error {
			return apart(func() error { return writer.Transact(ctx, nil, copyOf(r, run)) })
		})
	})
}

// apart calls the Writer, which calls hooks and functions of headers. Their panic becomes an error: Transact runs on other goroutines than
// the caller's.
func apart(call func() error) (err error) {
	if p := usercode.Apart(func() { err = call() }); p != nil {
		return &outbox.PanicError{Value: p.Value, Stack: p.Stack}
	}
	return err
}

// concurrency is how many aggregates Again writes at a time.
const concurrency = 10

// eachAggregate calls write for the records, in order within each aggregate. After a failure it begins nothing more. It returns
// the indexes of the records that were not written, and why.
func eachAggregate(records []outbox.Record, write func(outbox.Record) error) (unfinished []int, err error) {
	var groups [][]int
	groupOf := map[string]int{}
	for i, r := range records {
		g, known := groupOf[r.AggregateID]
		if !known || r.AggregateID == "" {
			g = len(groups)
			groups = append(groups, nil)
			groupOf[r.AggregateID] = g
		}
		groups[g] = append(groups[g], i)
	}
	var (
		mu     sync.Mutex
		next   int
		failed []error
		done   = make([]bool, len(records))
		wg     sync.WaitGroup
	)
	take := func() []int {
		mu.Lock()
		defer mu.Unlock()
		if next == len(groups) || len(failed) > 0 {
			return nil
		}
		next++
		return groups[next-1]
	}
	finish := func(i int, err error) (goOn bool) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			failed = append(failed, err)
		}
		done[i] = err == nil
		return len(failed) == 0
	}
	for range min(concurrency, len(groups)) {
		wg.Go(func() {
			for group := take(); group != nil; group = take() {
				for _, i := range group {
					if !finish(i, write(records[i])) {
						return
					}
				}
			}
		})
	}
	wg.Wait()
	for i := range done {
		if !done[i] {
			unfinished = append(unfinished, i)
		}
	}
	return unfinished, errors.Join(failed...)
}

func everything(records []outbox.Record) []int {
	all := make([]int, len(records))
	for i := range all {
		all[i] = i
	}
	return all
}

// run searches, and passes what it finds to handle. handle returns the indexes of the records that are not done; with an error,
// at least one index. try, which may be nil, says before the first call of handle which records it would refuse.
func (e *Events) run(ctx context.Context, what string, q Query, o Options, try func(outbox.Record) error, handle func(context.Context, []outbox.Record) ([]int, error)) (Result, error) {
	fail := func(r Result, err error) (Result, error) { return r, fmt.Errorf("replay: %s: %w", what, err) }
	if !(o.PerSecond >= 0) || math.IsInf(o.PerSecond, 0) {
		return fail(Result{}, fmt.Errorf("PerSecond: want 0 or more, have %v", o.PerSecond))
	}
	var p Progress
	tell := func() {
		if o.Progress != nil {
			o.Progress(p)
		}
	}
	found, err := e.find(ctx, q, func(searched, found int) {
		p = Progress{Searching: true, Searched: searched, Found: found}
		tell()
	})
	if err != nil {
		return fail(Result{Next: q}, err)
	}
	r := Result{Found: len(found)}
	var refused map[string]bool
	if try != nil {
		if refused, err = e.refused(ctx, found, o.Uncopyable, try, tell); err != nil {
			r.Next = q
			return fail(r, err)
		}
		r.Uncopyable = len(refused)
	}
	p.Searching, p.Found = false, len(found)
	tell()
	if o.DryRun {
		if q.ID == "" {
			return r, nil
		}
		switch rows, err := e.fetch(ctx, found); { // there was no search for an id
		case err != nil:
			return fail(Result{Next: q}, err)
		case rows[0].gone:
			return fail(Result{}, e.notFound(q.ID))
		}
		return r, nil
	}
	size := batchget.Most
	if o.PerSecond > 0 {
		size = int(min(batchget.Most, max(1, o.PerSecond))) // at most a second's worth at once
	}
	passed, started, paced := copies{}, time.Now(), 0
	for from := 0; from < len(found); from += size {
		some := found[from:min(from+size, len(found))]
		if o.PerSecond > 0 {
			due := started.Add(time.Duration(float64(paced) / o.PerSecond * float64(time.Second)))
			if err := backoff.Wait(ctx, time.Until(due)); err != nil {
				r.Next = rest(q, found[from:])
				return fail(r, err)
			}
		}
		n, left, err := e.pass(ctx, some, passed, refused, &r, o.Unreadable, handle)
		paced += n
		if err != nil {
			r.Next = rest(q, slices.Concat(left, found[from+len(some):]))
			return fail(r, err)
		}
		if r.Gone > 0 && q.ID != "" {
			return fail(Result{}, e.notFound(q.ID))
		}
		p.Passed += len(some)
		tell()
	}
	return r, nil
}

// pass fetches and handles one batch. It returns how many records handle was given, and the keys of those that are not done.
func (e *Events) pass(ctx context.Context, some []key, passed copies, refused map[string]bool, r *Result, leaveOut func(outbox.Record, error) bool, handle func(context.Context, []outbox.Record) ([]int, error)) (n int, left []key, err error) {
	rows, err := e.fetch(ctx, some)
	if err != nil {
		return 0, some, err
	}
	var records []outbox.Record
	var keys []key
	var unreadable error
	for i, row := range rows {
		switch {
		case row.err != nil && leaveOut != nil && leaveOut(row.record, row.err):
			r.Unreadable++
		case row.err != nil:
			unreadable, left = row.err, some[i:]
		case row.gone:
			r.Gone++
		case passed.leaveOut(row.record.ID):
			r.Copies++
		case refused[row.record.ID]:
		default:
			records, keys = append(records, row.record), append(keys, row.key)
		}
		if unreadable != nil {
			break // later rows wait for this one
		}
	}
	if len(records) == 0 {
		return 0, left, unreadable
	}
	unfinished, err := handle(ctx, records)
	r.Done += len(records) - len(unfinished)
	all := make([]key, 0, len(unfinished)+len(left))
	for _, i := range unfinished {
		all = append(all, keys[i])
	}
	return len(records), append(all, left...), errors.Join(err, unreadable)
}

// rest is the query that finds what another query has left, and little else.
func rest(q Query, left []key) Query {
	var earliest time.Time
	for _, k := range left {
		if k.at.IsZero() {
			return q // without a time, there is no time to begin at
		}
		if earliest.IsZero() || k.at.Before(earliest) {
			earliest = k.at
		}
	}
	if !earliest.IsZero() {
		q.From = earliest.Truncate(time.Millisecond) // copies have no less
	}
	return q
}
