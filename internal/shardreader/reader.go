// Package shardreader reads one shard of a Kinesis stream or of a DynamoDB stream from a position to its end: within the
// limits of the service, through throttling, outages and expired iterators, without skipping a record silently.
//
// It knows the two services. It must not know leases, checkpoints or what a record means.
package shardreader

import (
	"context"
	"errors"
	"time"
)

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
	// Retention is how long the stream keeps a record; 0 if unknown. If it is known, a reader that is about to be overtaken by
	// the expiry checks with every request whether it was; otherwise only when it makes an iterator.
	Retention time.Duration

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

// StopError says that a shard cannot be read for a reason that does not go away by itself: it or the stream does not exist,
// access is denied, the position is not one of this stream. It never means that the shard has ended.
type StopError struct {
	Shard     string
	Operation string
	Err       error
}

// Error names the shard and the request.
func (e *StopError) Error() string {
	return "outbox: shard " + e.Shard + " cannot be read, " + e.Operation + ": " + e.Err.Error()
}

// Unwrap returns the SDK's error.
func (e *StopError) Unwrap() error { return e.Err }

// Read delivers the records of a shard in order from a position on, batch by batch; no batch is empty. The next batch is
// fetched when deliver has returned, however long that takes.
//
// Only at the end of the shard is the error nil, and children are the shards that go on from it: the listing may not know
// them yet, and a stream that was disabled has none. Otherwise the error is ctx's when ctx has ended, a *[StopError], or what
// deliver returned. A request under way is given up when ctx ends; deliver is waited for.
func (r *Reader) Read(ctx context.Context, shard string, from Position, deliver func(Batch) error) (children []Shard, err error) {
	return nil, errors.New("outbox: not written yet")
}
