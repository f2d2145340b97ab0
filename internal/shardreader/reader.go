// Package shardreader reads one shard of a Kinesis stream or of a DynamoDB stream, from a position to its end. It keeps the
// limits of the service, goes on after throttling, outages and expired iterators, and skips no record silently.
//
// It knows the two services. It must not know leases, checkpoints or what a record means.
package shardreader

import (
	"context"
	"errors"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/awserr"
	"github.com/seed-1b628d3f/outbox/internal/backoff"
)

const (
	minPoll        = 200 * time.Millisecond // five requests a second
	defaultIdle    = time.Second
	requestTimeout = 30 * time.Second // a request for an iterator that takes longer has failed
	bytesPerSecond = 2 << 20
	minLimit       = 32   // a link that is too slow for fewer records is too slow for one
	usualLimit     = 1000 // what is asked for at first where there was no limit
	// A reader further behind than this may lose its next records to expiry, so every request checks whether it did. No stream
	// keeps records for less than a day, and an iterator is used within five minutes. On streams that keep records longer, the
	// check only costs a second request.
	nearExpiry = 24*time.Hour - 10*time.Minute
)

var jitter = backoff.FullJitter{Base: minPoll, Max: 10 * time.Second}

// Reader reads shards of one source. Its fields must not be changed while it reads. It is safe for concurrent use with one Read
// per shard, because each Read keeps the limits of its shard by itself.
type Reader struct {
	Source Source
	// Limit is how many records one request may return. 0 means as many as the service gives: 10,000 or 10 MB from Kinesis, 1,000
	// or 1 MB from DynamoDB Streams.
	Limit int
	// Poll is the shortest time between two requests of a kind for a shard. Default and minimum: 200 ms, the services' limit.
	Poll time.Duration
	// Idle is the longest pause between two requests while the shard has nothing new. Default: 1 s.
	Idle time.Duration
	// Downloads bounds the large answers that are read at once, if it is not nil.
	Downloads *Downloads

	// OnRetry, if not nil, is told of each failed request that will be repeated.
	OnRetry func(Retry)
	// OnTrimmed, if not nil, is told when the record at the position has expired.
	OnTrimmed func(Trimmed)
}

// Retry is a failed request that will be repeated. The place in the shard is kept.
type Retry struct {
	Shard     string
	Operation string // "GetRecords", "GetShardIterator" or "listing the children"
	Failures  int    // failures in a row
	Pause     time.Duration
	Throttled bool
	Err       error
}

// Trimmed says that the record delivered last, possibly by another reader, has expired. Records between it and Oldest are lost,
// if there were any: a shard that was silent for longer than the stream keeps records looks the same.
type Trimmed struct {
	Shard string
	After string // the sequence number of the expired record
	// Oldest is the first record that is still there, from which reading goes on; empty if there is no record yet.
	Oldest    string
	ArrivedAt time.Time // when Oldest arrived; zero if unknown
}

// Read delivers the records of a shard in order, from a position on. deliver also gets the service's answers without records,
// because they say how far behind the reading is. The next answer is fetched after deliver has returned, however long it takes,
// and may be read into the same memory.
//
// At the end of the shard the error is nil, and children are the shards that continue it. A listing may not know the children
// yet, and a disabled stream has no children. Otherwise the error is a *[StopError], what deliver returned, or ctx's cause when
// ctx has ended. Then a request under way is given up, but deliver is waited for.
//
// An answer without a next iterator is no end by itself. It is the end if it names the shard's children, or if the service lists the
// shard as ended and says the same again from the last record on. Otherwise it is a failed request, like every answer that lacks what
// the service always says.
func (r *Reader) Read(ctx context.Context, shard string, from Position, deliver func(Batch) error) (children []Shard, err error) {
	if err := from.check(); err != nil {
		return nil, &StopError{Shard: shard, Operation: "starting", Err: err}
	}
	w := walk{Reader: r, shard: shard, position: from, limit: r.Limit, large: true}
	w.since, _ = from.time()
	w.since = w.since.Truncate(time.Second) // DynamoDB Streams has no finer times
	for {
		batch, err := w.next(ctx)
		if err != nil {
			return nil, err
		}
		last := len(batch.Records) - 1
		var end Position
		if last >= 0 {
			end = Position(batch.Records[last].SequenceNumber) // deliver may change the slice
		}
		ended, named := batch.Next == "", w.named(&batch)
		err = deliver(batch)
		batch.done()
		if err != nil {
			return nil, err
		}
		if last >= 0 {
			w.position = end
		}
		switch {
		case ended && len(named) > 0:
			w.tellTrimmed(nil)
			return named, nil
		case ended:
			if children, over, err := w.end(ctx, last >= 0); over || err != nil {
				return children, err
			}
		}
	}
}

// walk is one reading of one shard.
type walk struct {
	*Reader
	shard    string
	position Position // everything up to it has been delivered
	iterator string   // "" if an iterator is to be made

	after string    // the iterator should return this record first, to show that it is still there; "" if nothing is to be shown
	gone  bool      // the service has said that the record at the position has expired
	since time.Time // records before this time are left out, until the first later record; zero after it
	lost  string    // if gone: the last record before the gap

	ends   int  // answers without a next iterator since the last new record
	shown  bool // the last answer, or the one before the end, has shown the record at the position
	doubts int  // failed attempts to find out whether the shard has ended

	limit        int  // of the next request; see Limit
	large        bool // the next answer may be large
	failures     int
	empty        int           // answers without records, in a row
	fresh        bool          // the last record was not old when it was read
	pause        time.Duration // between requests that find nothing
	nextGet      time.Time     // from when the limits of the shard allow the next GetRecords
	nextIterator time.Time
}

// next fetches the next batch, however many requests it takes.
func (w *walk) next(ctx context.Context) (Batch, error) {
	for {
		if w.iterator == "" {
			if err := w.newIterator(ctx); err != nil {
				return Batch{}, err
			}
			continue
		}
		if err := sleepUntil(ctx, w.nextGet); err != nil {
			return Batch{}, err
		}
		start := time.Now()
		batch, err := w.get(ctx)
		w.nextGet = time.Now().Add(w.poll())
		if ctx.Err() != nil {
			batch.done()
			return Batch{}, context.Cause(ctx)
		}
		if err != nil {
			if err := w.failed(ctx, "GetRecords", err); err != nil {
				return Batch{}, err
			}
			continue
		}
		w.failures = 0
		w.iterator = batch.Next
		w.pace(start, &batch)
		had := len(batch.Records)
		w.admit(&batch)
		w.goesOn(&batch)
		if had > 0 && len(batch.Records) == 0 && batch.Next != "" {
			// All records were known, so there is nothing to deliver. During a delivery the iterator could expire, and the same
			// records would be read for ever.
			batch.done()
			continue
		}
		// Near expiry, a new iterator shows whether there is a gap. Without new records it would only show the same again.
		if len(batch.Records) > 0 && batch.Behind > nearExpiry {
			w.iterator = ""
		}
		return batch, nil
	}
}

// get makes one request for records.
func (w *walk) get(ctx context.Context) (Batch, error) {
	call, transfer := w.Downloads.transfer(ctx)
	defer transfer.end()
	if w.large {
		if err := transfer.take(call); err != nil {
			return Batch{}, err
		}
	}
	batch, err := w.Source.Get(call, w.iterator, w.limit, transfer)
	if err == nil {
		if err = batch.check(w.above()); err != nil {
			batch.done()
			batch, w.iterator = Batch{}, "" // the iterator may be wrong, too
		}
	} else if gaveUp := stalled(call); gaveUp != nil {
		err = gaveUp
		w.shrink()
	}
	if w.large = err != nil || batch.Bytes >= largeAnswer; err == nil {
		w.grow(len(batch.Records))
	}
	return batch, err
}

// shrink halves how much is asked for, after a request that made no progress.
func (w *walk) shrink() {
	if w.limit == 0 {
		w.limit = usualLimit
		return
	}
	w.limit = min(w.limit, max(minLimit, w.limit/2))
}

// grow lets more be asked for after an answer with n records, if the limit was lowered and it was what bounded the answer.
func (w *walk) grow(n int) {
	if w.limit == w.Limit || n < w.limit {
		return
	}
	w.limit += w.limit/8 + 1
	if w.Limit > 0 {
		w.limit = min(w.limit, w.Limit)
	} else if w.limit >= maxKinesisRecords {
		w.limit = 0
	}
}

// above returns the sequence number that the next records are above, "" if they are above none.
func (w *walk) above() string {
	if w.after != "" {
		return "" // the record at the position comes first, and on some servers records before it
	}
	number, _ := w.position.sequence()
	return number
}

func (w *walk) newIterator(ctx context.Context) error {
	if err := sleepUntil(ctx, w.nextIterator); err != nil {
		return err
	}
	call, cancel := context.WithTimeout(ctx, requestTimeout)
	iterator, err := w.Source.Iterator(call, w.shard, w.position)
	cancel()
	w.nextIterator = time.Now().Add(w.poll())
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil && iterator == "" {
		err = errors.New("the service returned no iterator") // an empty iterator need not mean the end of the shard
	}
	if err != nil {
		return w.failed(ctx, "GetShardIterator", err)
	}
	w.iterator, w.shown = iterator, false
	w.after, _ = w.position.sequence()
	return nil
}

// failed decides about a failed request. It returns why the reading ends, or nil when it is time for the next attempt.
func (w *walk) failed(ctx context.Context, operation string, err error) error {
	v := judge(err)
	if t, ok := w.position.time(); ok && v == stop && awserr.Code(err) == "InvalidArgumentException" && w.Source.Now().Sub(t) < time.Hour {
		v = again // Kinesis refuses a time in the future, by its own clock
	}
	switch v {
	case stop:
		return &StopError{Shard: w.shard, Operation: operation, Err: err}
	case trimmed:
		if !w.gone {
			w.gone = true
			w.lost, _ = w.position.sequence()
		}
		w.position, w.iterator = Oldest, ""
	case expired:
		w.iterator = ""
	}
	w.failures++
	if w.failures == 1 && (v == trimmed || v == expired) {
		return nil // a new iterator helps; wait only if it does not
	}
	pause := max(jitter.Delay(w.failures), w.poll())
	if w.OnRetry != nil {
		w.OnRetry(Retry{Shard: w.shard, Operation: operation, Failures: w.failures, Pause: pause, Throttled: v == throttle, Err: err})
	}
	return sleepUntil(ctx, time.Now().Add(pause))
}

// emptyPages is how many answers without records mean that the tip is reached, if the service does not say how far it is and the
// last record was old. DynamoDB Streams goes through the empty parts of a shard one answer at a time.
// https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetRecords.html
const emptyPages = 10

// pace sets when the shard may be asked again.
func (w *walk) pace(start time.Time, b *Batch) {
	n := len(b.Records)
	if w.empty++; n > 0 {
		w.empty, w.fresh = 0, w.Source.Now().Sub(b.Records[n-1].ArrivedAt) < time.Minute
	}
	switch {
	case n > 0 || b.Behind > 0 || b.Behind < 0 && !w.fresh && w.empty < emptyPages:
		w.pause = 0
	default:
		w.pause = min(max(2*w.pause, w.poll()), w.idle())
		w.nextGet = time.Now().Add(max(w.pause, w.poll()))
	}
	// After a large answer the service refuses requests until the time for its bytes has passed.
	if paid := start.Add(time.Duration(float64(b.Bytes) / bytesPerSecond * float64(time.Second))); paid.After(w.nextGet) {
		w.nextGet = paid
	}
}

// admit drops the records of a batch that were delivered before or are older than the start. It also looks for a gap.
func (w *walk) admit(b *Batch) {
	found := false
	if w.after != "" {
		for len(b.Records) > 0 && CompareSequence(b.Records[0].SequenceNumber, w.after) <= 0 {
			found = found || b.Records[0].SequenceNumber == w.after
			b.Records = b.Records[1:]
		}
	}
	w.shown = found && (b.Next == "" || b.Behind <= 0) || w.shown && b.Next == ""
	if found {
		w.after = ""
	} else if certain := len(b.Records) > 0 || w.gone && b.Behind == 0; certain {
		// Without a later record only the service's word shows that a record has expired. An empty answer at the tip does not.
		w.tellTrimmed(b.Records)
	}
	for !w.since.IsZero() && len(b.Records) > 0 {
		if at := b.Records[0].ArrivedAt; at.IsZero() || !at.Before(w.since) {
			w.since = time.Time{}
			break
		}
		w.position = Position(b.Records[0].SequenceNumber)
		b.Records = b.Records[1:]
	}
}

// tellTrimmed says that the record at the position has expired, if it was not there. records are those that come after the gap.
func (w *walk) tellTrimmed(records []Record) {
	if w.after == "" && !w.gone {
		return
	}
	t := Trimmed{Shard: w.shard, After: w.after}
	if w.gone {
		t.After = w.lost
	}
	if len(records) > 0 {
		t.Oldest, t.ArrivedAt = records[0].SequenceNumber, records[0].ArrivedAt
	}
	w.after, w.gone, w.lost = "", false, ""
	if w.OnTrimmed != nil {
		w.OnTrimmed(t)
	}
}

func (r *Reader) poll() time.Duration { return max(r.Poll, minPoll) }

func (r *Reader) idle() time.Duration {
	if r.Idle <= 0 {
		return defaultIdle
	}
	return r.Idle
}

// sleepUntil waits until t. If ctx ends first, or had ended before, it returns ctx's cause.
func sleepUntil(ctx context.Context, t time.Time) error { return backoff.Sleep(ctx, time.Until(t)) }
