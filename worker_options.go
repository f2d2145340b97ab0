package outbox

import (
	"fmt"
	"os"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/lease"
)

// WorkerOption configures NewWorker and NewStreamsWorker.
type WorkerOption interface{ applyWorker(*workerConfig) error }

type workerConfig struct {
	name          string
	start         string
	pollInterval  time.Duration
	batchSize     int
	maxUnfinished int
	leaseDuration time.Duration
	drainTimeout  time.Duration
	retry         Retry
	hooks         WorkerHooks
	stockReader   bool
}

var defaultHandlerRetry = Retry{MaxAttempts: 100, BaseDelay: 200 * time.Millisecond, MaxDelay: 30 * time.Second}

func defaultWorkerConfig() workerConfig {
	name, err := os.Hostname()
	if err != nil {
		name = "worker"
	}
	return workerConfig{
		name: name, start: lease.TrimHorizon, pollInterval: time.Second, batchSize: 1000, maxUnfinished: 5000,
		leaseDuration: 8 * time.Second, drainTimeout: 30 * time.Second, retry: defaultHandlerRetry,
	}
}

type workerOption func(*workerConfig) error

func (o workerOption) applyWorker(c *workerConfig) error { return o(c) }

// durationOption checks a duration's range and sets it.
func durationOption(option string, d, low, high time.Duration, set func(*workerConfig)) WorkerOption {
	return workerOption(func(c *workerConfig) error {
		if d < low || d > high {
			return fmt.Errorf("%s: want %s to %s, have %s", option, low, high, d)
		}
		set(c)
		return nil
	})
}

// StartAt makes a group begin a stream with the first record that arrived at t or later, to the millisecond; on DynamoDB Streams to the
// second, rounded down. It counts once: what the first worker of the group says is stored in the lease table. Shards with a checkpoint go
// on from it, and children that a known shard gets begin with their oldest record, whatever t is. It must be after 1970. Default: the
// oldest record of the stream, so that nothing is skipped.
func StartAt(t time.Time) WorkerOption {
	return workerOption(func(c *workerConfig) error {
		if t.Unix() <= 0 {
			return fmt.Errorf("StartAt: want a time after 1970, have %s", t.Format(time.RFC3339))
		}
		return c.startAt("StartAt", lease.At(t))
	})
}

func (c *workerConfig) startAt(option, position string) error {
	if c.start != lease.TrimHorizon {
		return fmt.Errorf("%s: another StartAt or StartAtLatest has been given", option)
	}
	c.start = position
	return nil
}

// StartAtLatest makes a group begin a stream with what arrives from now on: what is in the stream already is skipped. The moment is stored
// when the group first meets the stream, so a restart skips nothing, however long nobody ran. See StartAt.
func StartAtLatest() WorkerOption {
	return workerOption(func(c *workerConfig) error {
		return c.startAt("StartAtLatest", lease.Latest)
	})
}

// WithPollInterval sets how long a shard without new records waits at most before it is asked again. A shard with records is
// asked up to 5 times a second and for 2 MB a second, the limits of Kinesis. Default 1 s; 200 ms to 1 minute.
func WithPollInterval(d time.Duration) WorkerOption {
	return durationOption("WithPollInterval", d, 200*time.Millisecond, time.Minute, func(c *workerConfig) { c.pollInterval = d })
}

// WithBatchSize sets how many records are read at once from a shard. Default 1,000; 1 to 10,000.
func WithBatchSize(records int) WorkerOption {
	return workerOption(func(c *workerConfig) error {
		if records < 1 || records > 10_000 {
			return fmt.Errorf("WithBatchSize: want 1 to 10,000, have %d", records)
		}
		c.batchSize = records
		return nil
	})
}

// WithMaxUnfinished bounds how many records of a shard may have been fetched and lie above its checkpoint: those that are unfinished, and
// those that are finished behind them. It bounds what is handled again after a crash, and memory. When it is reached, the
// shard is not read until the oldest are finished; heartbeats and other shards go on. Default 5,000; 1 to 1,000,000.
func WithMaxUnfinished(records int) WorkerOption {
	return workerOption(func(c *workerConfig) error {
		if records < 1 || records > 1_000_000 {
			return fmt.Errorf("WithMaxUnfinished: want 1 to 1,000,000, have %d", records)
		}
		c.maxUnfinished = records
		return nil
	})
}

// WithLeaseDuration sets for how long a worker that does not answer keeps its shards: others take them over that long, and a
// little more, after its last heartbeat. A worker that cannot reach the lease table for that long stops its handlers by
// itself. Heartbeats come four times as often, and a worker looks at the table sixteen times as often. Workers of one group may have different
// durations, as while it is changed: each is taken for dead after its own, or after the observer's if that is longer. Default 8 s; 1 s to 10
// minutes.
func WithLeaseDuration(d time.Duration) WorkerOption {
	return durationOption("WithLeaseDuration", d, time.Second, 10*time.Minute, func(c *workerConfig) { c.leaseDuration = d })
}

// WithDrainTimeout sets how long Run, after its context has ended, and the handover of a shard wait for handlers that are running, and for
// records before theirs in the shard, which are handled first so that nothing is handled twice. Then their contexts are cancelled, and what
// they had is handled again by the next owner. Default 30 s; 1 s to 1 hour.
func WithDrainTimeout(d time.Duration) WorkerOption {
	return durationOption("WithDrainTimeout", d, time.Second, time.Hour, func(c *workerConfig) { c.drainTimeout = d })
}

// WithHandlerRetry sets how often and how soon a handler that failed is called again. The attempts are stored with the
// checkpoint, those of the 20 oldest records of a shard, so they go on counting after a restart and on other workers. When they are spent, the
// event becomes a dead letter (WithDeadLetters), or Run ends with the error: it is not skipped. Default: 100 attempts, bounds of 200 ms to 30 s for
// the delays, about 25 minutes on average; at most 100 attempts and an hour between them. A delivery that fails with
// ErrClaimed is none: it is repeated when the claim has ended, or sooner.
func WithHandlerRetry(r Retry) WorkerOption {
	return workerOption(func(c *workerConfig) (err error) {
		if c.retry, err = r.orDefaults(defaultHandlerRetry); err != nil {
			return fmt.Errorf("WithHandlerRetry: %w", err)
		}
		return nil
	})
}

// WithStockReader makes the SDK read the answers of GetRecords by itself. Default: answers of the usual form are read by a
// deserializer of this package, which takes half the CPU time and uses its memory again, and all others by the SDK.
func WithStockReader() WorkerOption {
	return workerOption(func(c *workerConfig) error {
		c.stockReader = true
		return nil
	})
}

// WorkerHooks are called by a Worker at what their names say, from several goroutines at a time, and must not block: what they
// do delays a shard, or the heartbeats. A nil func is not called. When one panics, that is logged, and the Worker goes on.
type WorkerHooks struct {
	// Lease is called when a lease changes hands.
	Lease func(LeaseEvent)
	// Status is called once a second for each shard that this worker reads, also while nothing arrives and while a handler holds the shard up,
	// but not while reading it has failed as a whole: then there is only Retried. When the lease has changed hands, gauges that were made of it
	// have to go: see Lease.
	Status func(ShardStatus)
	// Retried is called when a request to the stream failed and will be made again; throttled says that its limits were
	// exceeded. So it is when reading a shard failed as a whole, because its checkpoint cannot be stored or the shard is missing.
	Retried func(shard string, throttled bool, err error)
	// DataLost is called when records expired before they were read: the only way to lose events, and a sign that the
	// stream's retention is too short for the outage.
	DataLost func(DataLoss)
}

// WithWorkerHooks sets the hooks. Default: none; leases, retries and losses are logged in any case. The last call counts.
func WithWorkerHooks(hooks WorkerHooks) WorkerOption {
	return workerOption(func(c *workerConfig) error {
		c.hooks = hooks
		return nil
	})
}

// LeaseEventKind is what happened to a lease.
type LeaseEventKind string

// What happens to leases.
const (
	LeaseGained   LeaseEventKind = "gained"   // this worker reads the shard from now on
	LeaseReleased LeaseEventKind = "released" // given up in good order; To says who has it now, if anybody
	LeaseLost     LeaseEventKind = "lost"     // another worker has taken it, or this one could not renew it; Err says why
	LeaseEnded    LeaseEventKind = "ended"    // the shard was closed and everything of it is finished
)

// LeaseEvent is something that happened to the lease of a shard.
type LeaseEvent struct {
	Kind  LeaseEventKind
	Shard string
	Fence int64  // higher than that of every earlier owner since the row was made
	To    string // the worker that has the lease now; empty if nobody, or not known
	Err   error  // why it was lost; otherwise nil
}

// DataLoss says that records of a shard have expired unread.
type DataLoss struct {
	Shard string
	// After is the sequence number of the last record that was read, or a checkpoint.
	After string
	// Oldest is the record from which reading goes on; empty if there is none.
	Oldest string
}
