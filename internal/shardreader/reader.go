// Package shardreader reads one shard of a Kinesis stream or of a DynamoDB stream from a position to its end: within the
// limits of the service, through throttling, outages and expired iterators, without skipping a record silently.
//
// It knows the two services. It must not know leases, checkpoints or what a record means.
package shardreader

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/awserr"
	"github.com/seed-1b628d3f/outbox/internal/backoff"
)

const (
	minPoll        = 200 * time.Millisecond // five requests a second
	defaultIdle    = time.Second
	requestTimeout = 30 * time.Second // then it has failed
	bytesPerSecond = 2 << 20
	// A reader that is further behind than this may be overtaken by the expiry of its records, and every request checks whether it was: no stream
	// keeps records for less than a day, and an iterator is used within five minutes. Where records live longer, it costs a second request.
	nearExpiry = 24*time.Hour - 10*time.Minute
)

// jitter spaces out requests that fail.
var jitter = backoff.FullJitter{Base: minPoll, Max: 10 * time.Second}

// Reader reads shards of one source. Its fields must not be changed while it reads. It is safe for concurrent use, one Read
// per shard: the limits of a shard are kept within one Read.
type Reader struct {
	Source Source
	// Limit is how many records one request may return; 0 is as many as the service gives (10,000 or 10 MB from Kinesis, 1,000
	// or 1 MB from DynamoDB Streams).
	Limit int
	// Poll is the shortest time between two requests of a kind for a shard. Default and minimum: 200 ms, the services' limit.
	Poll time.Duration
	// Idle is the longest pause between two requests while the shard has nothing new. Default: 1 s.
	Idle time.Duration

	// OnRetry, if not nil, is told of each request that failed and is going to be repeated.
	OnRetry func(Retry)
	// OnTrimmed, if not nil, is told when the record at the position to go on from has expired.
	OnTrimmed func(Trimmed)
}

// Retry is a failed request that will be repeated; the place in the shard is kept.
type Retry struct {
	Shard     string
	Operation string // "GetRecords", "GetShardIterator" or "listing the children"
	Failures  int    // how many there were in a row
	Pause     time.Duration
	Throttled bool
	Err       error
}

// Trimmed says that the record that was delivered last, possibly by another reader, has expired. What followed it up to
// Oldest is lost, if anything did: a shard that was silent for longer than the stream keeps records looks the same.
type Trimmed struct {
	Shard string
	After string // the sequence number of the record that has expired
	// Oldest is the first record that is still there, from which reading goes on; empty if there is none yet.
	Oldest    string
	ArrivedAt time.Time // when Oldest arrived; zero if unknown
}

// Read delivers the records of a shard in order from a position on. deliver gets the answers of the service, also those
// without records, for what they say of Behind. The next one is fetched when deliver has returned, however long that takes, and
// may be read into the same memory.
//
// Only at the end of the shard is the error nil, and children are the shards that go on from it: the listing may not know
// them yet, and a stream that was disabled has none. Otherwise the error is ctx's cause when ctx has ended, a *[StopError], or
// what deliver returned. A request under way is given up when ctx ends; deliver is waited for.
func (r *Reader) Read(ctx context.Context, shard string, from Position, deliver func(Batch) error) (children []Shard, err error) {
	if err := from.check(); err != nil {
		return nil, &StopError{Shard: shard, Operation: "starting", Err: err}
	}
	w := walk{Reader: r, shard: shard, position: from}
	w.since, _ = from.time()
	w.since = w.since.Truncate(time.Second) // DynamoDB Streams knows no more
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
		ended, named := batch.Next == "", batch.Children
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
			return named, nil
		case ended:
			return w.children(ctx)
		}
	}
}

// walk is one reading of one shard.
type walk struct {
	*Reader
	shard    string
	position Position // what everything before has been delivered of
	iterator string   // "" if one is to be made

	after string    // the record that the iterator should return first, to show that it is still there; "" if nothing is to be shown
	gone  bool      // the service has said that the record at the position has expired
	since time.Time // records before this time are left out, until the first that is not; zero once there was one
	lost  string    // with gone: the last record before the gap

	failures     int
	empty        int           // answers without records, in a row
	fresh        bool          // the last record was not old when it was read
	pause        time.Duration // between requests that find nothing
	nextGet      time.Time     // the limits of the shard allow the next GetRecords from then on
	nextIterator time.Time
}

// next fetches the next batch, however often it takes.
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
		call, cancel := context.WithTimeout(ctx, requestTimeout)
		batch, err := w.Source.Get(call, w.iterator, w.Limit)
		cancel()
		w.nextGet = time.Now().Add(w.poll())
		if ctx.Err() != nil {
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
		if had > 0 && len(batch.Records) == 0 && batch.Next != "" {
			// All of it was known: no news, and the iterator must not grow old over its delivery, or it would be read for ever.
			batch.done()
			continue
		}
		// Near expiry the next iterator is one that shows a gap. Without news it would only show the same again.
		if len(batch.Records) > 0 && batch.Behind > nearExpiry {
			w.iterator = ""
		}
		return batch, nil
	}
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
		err = errors.New("the service returned no iterator") // whatever it means, it is not known to be the end of the shard
	}
	if err != nil {
		return w.failed(ctx, "GetShardIterator", err)
	}
	w.iterator = iterator
	w.after, _ = w.position.sequence()
	return nil
}

// failed decides about a failed request: it returns why the reading ends, or nil when it is time for the next attempt.
func (w *walk) failed(ctx context.Context, operation string, err error) error {
	v := judge(err)
	if t, ok := w.position.time(); ok && v == stop && awserr.Code(err) == "InvalidArgumentException" && time.Since(t) < time.Hour {
		v = again // Kinesis refuses a time in the future, and its clock need not be ours
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
		return nil // the remedy is at hand; only if it does not help is there something to wait for
	}
	pause := max(jitter.Delay(w.failures), w.poll())
	if w.OnRetry != nil {
		w.OnRetry(Retry{Shard: w.shard, Operation: operation, Failures: w.failures, Pause: pause, Throttled: v == throttle, Err: err})
	}
	return sleepUntil(ctx, time.Now().Add(pause))
}

// emptyPages is how many answers without records it takes to believe that the tip is reached, where the service does not say how far it is
// and the last record was an old one: it goes through the parts of a shard that hold nothing an answer at a time.
// https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetRecords.html
const emptyPages = 10

// pace sets when the shard may be asked again.
func (w *walk) pace(start time.Time, b *Batch) {
	n := len(b.Records)
	if w.empty++; n > 0 {
		w.empty, w.fresh = 0, time.Since(b.Records[n-1].ArrivedAt) < time.Minute
	}
	switch {
	case n > 0 || b.Behind > 0 || b.Behind < 0 && !w.fresh && w.empty < emptyPages:
		w.pause = 0
	default:
		w.pause = min(max(2*w.pause, w.poll()), w.idle())
		w.nextGet = time.Now().Add(max(w.pause, w.poll()))
	}
	// A large answer is to be paid off: until then the service refuses the next request.
	if paid := start.Add(time.Duration(float64(b.Bytes) / bytesPerSecond * float64(time.Second))); paid.After(w.nextGet) {
		w.nextGet = paid
	}
}

// admit takes out of a batch what has been delivered before or is older than the start, and looks for a gap.
func (w *walk) admit(b *Batch) {
	found := false
	if w.after != "" {
		for len(b.Records) > 0 && CompareSequence(b.Records[0].SequenceNumber, w.after) <= 0 {
			found = true
			b.Records = b.Records[1:]
		}
	}
	// Nothing is known of the gap's other side while an open shard has answered with nothing, but is behind.
	if certain := len(b.Records) > 0 || b.Behind == 0 || b.Next == ""; found {
		w.after = ""
	} else if certain && (w.after != "" || w.gone) {
		t := Trimmed{Shard: w.shard, After: w.after}
		if w.gone {
			t.After = w.lost
		}
		if len(b.Records) > 0 {
			t.Oldest, t.ArrivedAt = b.Records[0].SequenceNumber, b.Records[0].ArrivedAt
		}
		w.after, w.gone, w.lost = "", false, ""
		if w.OnTrimmed != nil {
			w.OnTrimmed(t)
		}
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

// children lists what goes on from the shard, for an answer that did not say.
func (w *walk) children(ctx context.Context) ([]Shard, error) {
	w.failures = 0
	for {
		call, cancel := context.WithTimeout(ctx, requestTimeout)
		all, err := w.Source.Shards(call)
		cancel()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err == nil {
			return slices.DeleteFunc(all, func(s Shard) bool { return !slices.Contains(s.Parents, w.shard) }), nil
		}
		if err := w.failed(ctx, "listing the children", err); err != nil {
			return nil, err
		}
	}
}

func (r *Reader) poll() time.Duration { return max(r.Poll, minPoll) }

func (r *Reader) idle() time.Duration {
	if r.Idle <= 0 {
		return defaultIdle
	}
	return r.Idle
}

// sleepUntil waits until t; it fails with ctx's cause if ctx ends first, or had ended before.
func sleepUntil(ctx context.Context, t time.Time) error { return backoff.Sleep(ctx, time.Until(t)) }
