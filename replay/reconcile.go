package replay

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/account"
	"github.com/seed-1b628d3f/outbox/internal/event"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// ErrBehind says that Reconcile has delivered nothing, because what it found looks like a consumer that is down or far behind, or like an inbox
// that belongs to another one. The text of the error says which.
var ErrBehind = errors.New("the consumer is behind, down, or another one")

// ReconcileOptions are those of Reconcile. The zero value reads the whole table, and delivers what it finds.
type ReconcileOptions struct {
	// Every is how often Reconcile is called, and Cycle is the time in which all calls together read the whole table. A call reads one of
	// Cycle/Every segments, which it chooses by the clock: the next one at each multiple of Every since 1970, in UTC. So call it well between two
	// multiples, such as at half past for an Every of an hour. Every is in whole seconds, and Cycle is 1 to 10,000 times as long. Both zero: each
	// call reads the whole table.
	Every, Cycle time.Duration
	// Grace is the age below which an event counts as on its way, and is left alone. Default: 15 minutes. A consumer that is further behind gets
	// events from Reconcile before it gets those in front of them from the stream.
	Grace time.Duration
	// Since leaves alone all events with an earlier Time. Zero: as far back as the inbox remembers. Set it after each change that leaves the inbox
	// without what was handled before, or makes events wanted that were not: a new consumer, an inbox that it gets, that is another one or was restored,
	// a restored events table, a handler that is added, a WithInboxTTL that is raised. The time of the change, in all processes, is the right one. Without
	// Since, the events from before the change may be handled again. Events from before Since cost no look for their marks. It is not in the future.
	// With a Since of two Cycles and the Grace ago, each event is judged at least twice.
	Since time.Time
	// MaxDeliver is how many undelivered events a call delivers. If it finds more, it delivers nothing: the consumer is likely to be down (ErrBehind).
	// Default: 1,000; 1 to 100,000.
	MaxDeliver int
	// ReportOnly delivers nothing, and is never ErrBehind.
	ReportOnly bool
	// PerSecond bounds how many events are delivered a second, on average; 0 is no bound.
	PerSecond float64
	// Found is told of each event that is undelivered when it is read, also if others handle it before it is delivered; r has no payload and no
	// headers. Found is told as well of each row that cannot be read: r has the ID alone then, and err matches *outbox.DecodeError, or
	// outbox.ErrNotEvent if the row has no id or type. Found is never called twice at a time, and must not block. nil: nobody is told.
	Found func(r outbox.Record, err error)
}

// ReconcileResult counts the events that a call has read. Each counts once: Searched is the sum of the fields from Young to Undelivered.
type ReconcileResult struct {
	// Segment is which of the Segments this call has read, from 0 on. Without Every, there is one.
	Segment, Segments int
	// Searched is how many events were read.
	Searched int
	// Young are those that may be on their way (ReconcileOptions.Grace).
	Young int
	// Unwanted are those of types without a handler, or with a handler outside the inbox. With WithOrder, they are also those from before the order
	// begins, and those below the number at which the consumer has begun their aggregate, whenever they were written.
	Unwanted int
	// Unknown are those that cannot be judged: the inbox may have forgotten them, or they are from before Since.
	Unknown int
	// Handled are those that the inbox has, Claimed those that are being handled, DeadLetters those that are dead letters or were discarded as such.
	Handled, Claimed, DeadLetters int
	// Unreadable are rows that are no whole events.
	Unreadable int
	// Undelivered are those that nobody has handled, nor given up. Delivered says how many of them were handled now, or are dead letters now.
	Undelivered, Delivered int
	// Oldest is the earliest Time of the Undelivered; zero if there are none.
	Oldest time.Time
}

// Reconcile looks for events of the table that c has not handled, although they are older than Grace, and hands them to c, those of a call in the
// order of To. It compares the table with the inbox and the dead letters of c, so it finds what no stream has delivered: a record too large
// for the stream, a destination that was disabled, a retention that has passed. Call it on a schedule, in as many places as you like, beside Workers
// and mappings: the inbox keeps every effect single. Nothing is stored for it.
//
// An event that is found is late: later events of its aggregate have been handled, unless c has WithOrder. Of two lost events of an aggregate, the
// later one comes first if its segment is read first, unless c has WithOrder. A handler may fail, as after any
// delivery, which is an attempt; the event is then found by the next cycle again, or is a dead letter. An event that was discarded as a dead letter
// before the call is not delivered. c needs WithDeadLetters for it, with the table and the name that its other processes have.
//
// Reconcile refuses a Consumer of which nothing can be known: without an Inbox, with an inbox that forgets before two cycles are over, or with other
// attributes than those of replay.New. It ends with an error if the context ends before the segment is read, if an event that it found is still not
// handled, or if rows expire before two cycles are over, which it notices by their times. A clock of this machine that is off by more than five
// minutes is an error before anything is judged. With an error, the result counts what was done until then.
//
// An error that matches ErrBehind says that nothing was delivered. Either more than MaxDeliver events were found, or more events than the inbox has:
// it does not know what was handled, or the consumer is down. The segment is compared first. If more of its events are found than are handled, the
// call reads on through the other segments, and counts what the inbox has of them, however old.
//
// The inbox forgets by the time of the handling, and Reconcile judges by the Time of the event: an event whose Time is more than two days later than
// its handling may be delivered after the inbox has forgotten it.
//
// A call reads its segment with eventually consistent reads, at half a read unit for each 4 KB, and half a read unit for each event that is judged,
// or up to twice that with KeepMarks, in each cycle again. The later looks, for what the first one did not find, are strongly consistent. An event that is
// undelivered costs some ten read units more until it is delivered, and more if its row is large.
//
// A call holds a page of the table in memory, and some 150 bytes for each event that it has found. While it delivers, it holds up to 100 rows as
// well, which may have 400 KB each. While it looks for dead letters, it holds up to 25 of them, with their payloads.
func (e *Events) Reconcile(ctx context.Context, c *outbox.Consumer, o ReconcileOptions) (ReconcileResult, error) {
	r, err := e.newReconciliation(c, o, time.Now())
	if err == nil {
		err = r.run(ctx)
	}
	if err != nil {
		err = fmt.Errorf("replay: Reconcile: %w", err)
	}
	return r.result, err
}

// Bounds and defaults of ReconcileOptions.
const (
	defaultGrace      = 15 * time.Minute
	defaultMaxDeliver = 1000
	mostDeliver       = 100_000
	mostSegments      = 10_000
	longestGrace      = 100 * 365 * 24 * time.Hour // an inbox remembers no longer
	longestCycle      = longestGrace / 2
)

// complete fills in defaults. The error names everything that is wrong.
func (o *ReconcileOptions) complete(now time.Time) error {
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch {
	case o.Every == 0 && o.Cycle == 0:
	case o.Every < time.Second || o.Every%time.Second != 0:
		refuse("Every: want whole seconds, and a Cycle with it, have %s", o.Every)
	case o.Cycle < o.Every || o.Cycle%o.Every != 0 || o.Cycle/o.Every > mostSegments:
		refuse("Cycle: want 1 to %d times Every (%s), have %s", mostSegments, o.Every, o.Cycle)
	case o.Cycle > longestCycle:
		refuse("Cycle: want at most %s, have %s", longestCycle, o.Cycle)
	}
	if o.Grace == 0 {
		o.Grace = defaultGrace
	}
	if o.Grace < 0 || o.Grace > longestGrace {
		refuse("Grace: want more than 0 and at most %s, have %s", longestGrace, o.Grace)
	}
	if o.Since.After(now) {
		refuse("Since: want a time that is not in the future, have %s; this machine's clock says %s", o.Since.Format(time.RFC3339), now.Format(time.RFC3339))
	}
	if o.MaxDeliver == 0 {
		o.MaxDeliver = defaultMaxDeliver
	}
	if o.MaxDeliver < 1 || o.MaxDeliver > mostDeliver {
		refuse("MaxDeliver: want 1 to %d, have %d", mostDeliver, o.MaxDeliver)
	}
	if !(o.PerSecond >= 0) || math.IsInf(o.PerSecond, 0) {
		refuse("PerSecond: want 0 or more, have %v", o.PerSecond)
	}
	return errors.Join(errs...)
}

// segmentAt returns which segment is read at a time, and how many there are.
func (o *ReconcileOptions) segmentAt(now time.Time) (segment, segments int) {
	if o.Every == 0 {
		return 0, 1
	}
	segments = int(o.Cycle / o.Every)
	return int(now.Unix() / int64(o.Every/time.Second) % int64(segments)), segments
}

// reconciliation is a call of Reconcile.
type reconciliation struct {
	events   *Events
	consumer *outbox.Consumer
	book     *account.Book
	options  ReconcileOptions
	now      time.Time // when it began
	result   ReconcileResult
	found    []key           // the undelivered, unless nothing is delivered
	settled  map[string]bool // the ids of those that others have handled, or given up, before they were delivered
	// tooShort says that rows expire before two cycles are over, and shortest is the shortest time for which one of them is kept.
	tooShort bool
	shortest time.Duration
}

// newReconciliation never returns nil.
func (e *Events) newReconciliation(c *outbox.Consumer, o ReconcileOptions, now time.Time) (*reconciliation, error) {
	r := &reconciliation{events: e, consumer: c, now: now, settled: map[string]bool{}}
	if err := e.made(); err != nil {
		return r, err
	}
	if c == nil {
		return r, errors.New("the Consumer is nil")
	}
	if err := o.complete(now); err != nil {
		return r, err
	}
	if e.names.Time == outbox.NoAttribute {
		return r, errors.New("the table has no attribute for the time of an event (WithAttributes)")
	}
	var err error
	if r.book, err = c.Accounts(e.table); err != nil {
		return r, err
	}
	if err := e.checkAttributes(r.book); err != nil {
		return r, err
	}
	if needs := o.Grace + 2*o.Cycle; r.book.Memory <= needs {
		return r, fmt.Errorf("the inbox forgets too soon: by what it remembers, events are judged for %s, and the Grace and two Cycles are %s: lengthen WithInboxTTL by more than %s", r.book.Memory, needs, needs-r.book.Memory)
	}
	r.options = o
	r.result.Segment, r.result.Segments = o.segmentAt(now)
	return r, nil
}

func (r *reconciliation) run(ctx context.Context) error {
	if err := r.search(ctx, r.result.Segment, r.take); err != nil {
		return err
	}
	if !r.options.ReportOnly && len(r.found) > 0 {
		if err := r.checkInbox(ctx); err != nil {
			return err
		}
		if err := r.deliver(ctx); err != nil {
			return err
		}
	}
	if r.tooShort {
		return fmt.Errorf("table %s has rows that are kept for %s, and two Cycles with the Grace are %s: an event may be gone before it is missed (WithTTL)",
			r.events.table, r.shortest, 2*r.options.Cycle+r.options.Grace)
	}
	return nil
}

// search reads a segment, and passes it on page by page, until take returns false.
func (r *reconciliation) search(ctx context.Context, segment int, take func(context.Context, []item) (bool, error)) error {
	next := r.events.segment(segment, r.result.Segments)
	for more := true; more; {
		var p page
		var err error
		if p, more, err = next(ctx); err != nil {
			return fmt.Errorf("search table %s: %w", r.events.table, err)
		}
		goOn, err := take(ctx, p.items)
		if err != nil || !goOn {
			return err
		}
		if err := ctx.Err(); more && err != nil {
			return err
		}
	}
	return nil
}

// take counts the events of a page.
func (r *reconciliation) take(ctx context.Context, items []item) (bool, error) {
	var judged []event.Event
	var expiries []time.Time
	for _, i := range items {
		record, err := outbox.DecodeItem(i, r.events.keys)
		record.Table = r.events.tableName()
		switch {
		case err != nil: // also ErrNotEvent: the search asks for rows with a type
			id := rows.Text(i, r.events.names.ID)
			r.unreadable(row{record: outbox.Record{ID: id}, err: fmt.Errorf("event %q of table %s: %w", id, r.events.table, err)})
		case record.Time.After(r.now.Add(-r.options.Grace)):
			r.result.Young++
			if r.book.Wants(event.Event(record)) { // it may expire before it is judged
				r.checkExpiry(r.events.expiryOf(i), record.Time)
			}
		case record.Time.Before(r.options.Since):
			r.result.Unknown++
		default:
			judged, expiries = append(judged, event.Event(record)), append(expiries, r.events.expiryOf(i))
		}
		r.result.Searched++
	}
	accounts, err := r.book.Of(ctx, judged)
	if err != nil {
		r.result.Searched -= len(judged)
		return false, err
	}
	for i, a := range accounts {
		r.count(a)
		if a != account.Unwanted {
			r.checkExpiry(expiries[i], judged[i].Time)
		}
		if a == account.Open {
			r.missed(outbox.Record(judged[i]))
		}
	}
	if len(r.found) > r.options.MaxDeliver {
		return false, fmt.Errorf("more than %d events are not handled, and none was delivered: %w", r.options.MaxDeliver, ErrBehind)
	}
	return true, nil
}

func (r *reconciliation) missed(record outbox.Record) {
	if r.result.Oldest.IsZero() || record.Time.Before(r.result.Oldest) {
		r.result.Oldest = record.Time
	}
	r.tell(record, nil)
	if !r.options.ReportOnly {
		r.found = append(r.found, keyOfRecord(record))
	}
}

func (r *reconciliation) count(a account.Account) {
	counted := map[account.Account]*int{
		account.Open: &r.result.Undelivered, account.Handled: &r.result.Handled, account.Claimed: &r.result.Claimed,
		account.DeadLetter: &r.result.DeadLetters, account.Unwanted: &r.result.Unwanted, account.Forgotten: &r.result.Unknown,
	}
	*counted[a]++
}

func (r *reconciliation) unreadable(row row) {
	r.result.Unreadable++
	r.tell(row.record, row.err)
}

func (r *reconciliation) tell(record outbox.Record, err error) {
	if r.options.Found != nil {
		r.options.Found(record, err)
	}
}

// checkExpiry notes whether a row goes before two cycles are over. A row expires as long after it was written as the Writer says; so with a time
// from before that, it seems to be kept for longer, and with a time of the future for less long: if it expires first, nobody judges it.
func (r *reconciliation) checkExpiry(expires, at time.Time) {
	if r.options.Cycle == 0 || expires.Before(r.now.AddDate(-5, 0, 0)) { // also zero. DynamoDB does not delete what expired so long ago
		return
	}
	kept := max(expires.Sub(at), 0)
	if kept < 2*r.options.Cycle+r.options.Grace && (!r.tooShort || kept < r.shortest) {
		r.tooShort, r.shortest = true, kept
	}
}

// checkInbox compares how many events the inbox has with how many are not handled. If there are more of the latter in the segment, it reads on, also
// what is young, too old to be judged, or from before Since, until there are not. If the whole table has more of them, then it is likely that the
// inbox does not have what was handled.
func (r *reconciliation) checkInbox(ctx context.Context) error {
	if r.result.Handled+r.result.Claimed >= len(r.found) {
		return nil
	}
	var known, open int
	for n := range r.result.Segments {
		err := r.search(ctx, (r.result.Segment+n)%r.result.Segments, func(ctx context.Context, items []item) (bool, error) {
			k, o, err := r.weigh(ctx, r.readable(items))
			known, open = known+k, open+o
			return true, err
		})
		if err != nil {
			return err
		}
		if known >= open {
			return nil
		}
	}
	return fmt.Errorf("%d events of table %s are not handled, and the inbox has %d of its events; none was delivered. Either the inbox, or the name of its consumer, is another one, "+
		"new or restored, or remembers for longer than before; or its marks have expired, since events are rare; or the consumer is down. Set Since to the time when the inbox began to have everything, or hand over what is missing with To: %w",
		open, r.events.table, known, ErrBehind)
}

// weigh returns how many of the events the inbox has, and how many are undelivered.
func (r *reconciliation) weigh(ctx context.Context, events []event.Event) (known, open int, err error) {
	var judged, rest []event.Event
	for _, e := range events {
		if e.Time.After(r.now.Add(-r.options.Grace)) || e.Time.Before(r.options.Since) {
			rest = append(rest, e)
		} else {
			judged = append(judged, e)
		}
	}
	accounts, err := r.book.Of(ctx, judged)
	if err != nil {
		return 0, 0, err
	}
	for i, a := range accounts {
		switch a {
		case account.Open:
			open++
		case account.Handled, account.Claimed:
			known++
		case account.Forgotten:
			rest = append(rest, judged[i])
		}
	}
	more, err := r.book.Known(ctx, rest)
	return known + more, open, err
}

func (r *reconciliation) readable(items []item) (events []event.Event) {
	for _, i := range items {
		if record, err := outbox.DecodeItem(i, r.events.keys); err == nil {
			record.Table = r.events.tableName()
			events = append(events, event.Event(record))
		}
	}
	return events
}
