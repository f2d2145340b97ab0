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
	hooks         []WorkerHooks
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

func durationOption(option string, d, low, high time.Duration, set func(*workerConfig)) WorkerOption {
	return workerOption(func(c *workerConfig) error {
		if d < low || d > high {
			return fmt.Errorf("%s: want %s to %s, have %s", option, low, high, d)
		}
		set(c)
		return nil
	})
}

// StartAt makes a group begin a stream with the first record that arrived at t or later, to the millisecond; on DynamoDB Streams to the second,
// rounded down. It counts once: the lease table stores what the first worker of the group says. A shard with a checkpoint goes on from its
// checkpoint. A new child of a known shard begins with its oldest record, whatever t is. t must be after 1970. Default: the oldest record of the
// stream, so that nothing is skipped.
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

// StartAtLatest makes a group begin a stream with what arrives from now on, and skip what is in the stream already. "Now" is when
// the group first meets the stream, by the stream's clock and rounded down to the second. This moment is stored, so a restart skips
// nothing, however long no worker ran. See StartAt.
func StartAtLatest() WorkerOption {
	return workerOption(func(c *workerConfig) error {
		return c.startAt("StartAtLatest", lease.Latest)
	})
}

// WithPollInterval sets how long a shard without new records waits at most before it is asked again. A shard with records is
// asked up to 5 times a second and for up to 2 MB a second, the limits of Kinesis. Default 1 s; 200 ms to 1 minute.
func WithPollInterval(d time.Duration) WorkerOption {
	return durationOption("WithPollInterval", d, 200*time.Millisecond, time.Minute, func(c *workerConfig) { c.pollInterval = d })
}

// WithBatchSize sets how many records of a shard one request asks for. Default 1,000; 1 to 10,000. DynamoDB Streams gives at most 1,000.
func WithBatchSize(records int) WorkerOption {
	return workerOption(func(c *workerConfig) error {
		if records < 1 || records > 10_000 {
			return fmt.Errorf("WithBatchSize: want 1 to 10,000, have %d", records)
		}
		c.batchSize = records
		return nil
	})
}

// WithMaxUnfinished bounds how many records of a shard may be fetched and above its checkpoint: unfinished records, and finished records behind
// them. It bounds memory, and how many records are handled again after a crash. Up to 50 records that fail or take long, but at most half of the
// bound, are stored beside the checkpoint when half of the bound is used: the checkpoint passes them. When the bound is reached, the shard is not
// read until its oldest records are finished; heartbeats and other shards go on. Default 5,000; 1 to 1,000,000. With 1, a failing record holds
// back its shard.
func WithMaxUnfinished(records int) WorkerOption {
	return workerOption(func(c *workerConfig) error {
		if records < 1 || records > 1_000_000 {
			return fmt.Errorf("WithMaxUnfinished: want 1 to 1,000,000, have %d", records)
		}
		c.maxUnfinished = records
		return nil
	})
}

// WithLeaseDuration sets how long a worker that no longer answers keeps its shards. Other workers take them a little more than
// this long after its last heartbeat. A worker that cannot reach the lease table for this long stops its handlers by itself. A
// worker sends four heartbeats in this time, and looks at the table sixteen times.
//
// Workers of one group may have different durations, for example during a deployment that changes it. A worker is then taken for
// dead after its own duration, or the observer's if that is longer. Default 8 s; 1 s to 10 minutes.
func WithLeaseDuration(d time.Duration) WorkerOption {
	return durationOption("WithLeaseDuration", d, time.Second, 10*time.Minute, func(c *workerConfig) { c.leaseDuration = d })
}

// WithDrainTimeout bounds how long a stop of Run, or the handover of a shard, waits for running handlers and for the records
// ahead of theirs in the shard. These are handled first, so that nothing is handled twice. After the timeout the handlers'
// contexts are cancelled, and the next owner handles their records again. Default 30 s; 1 s to 1 hour.
func WithDrainTimeout(d time.Duration) WorkerOption {
	return durationOption("WithDrainTimeout", d, time.Second, time.Hour, func(c *workerConfig) { c.drainTimeout = d })
}

// WithHandlerRetry sets how often and how soon a failed handler is called again. After the last attempt the event becomes a dead
// letter (WithDeadLetters), or Run ends with the error; the event is never skipped. Three errors do not count as attempts. ErrClaimed: the
// delivery is repeated when the claim has ended, or sooner. ErrUnavailable and ErrConflict: the handler is called again with the same delays.
// ErrConditionFailed, a lost race: it is called again within a second; after 1,000 of them, counted since this Worker has read the event, the
// error is as after the last attempt.
//
// The attempts at the 20 oldest failing records above the checkpoint of a shard, and at those that the checkpoint has passed
// (WithMaxUnfinished), are stored with it, so they go on counting after a restart and on other workers. Default: 100 attempts with delays of up
// to 200 ms at first and 30 s later, on average about 23 minutes. At most 100 attempts, and at most an hour between them.
func WithHandlerRetry(r Retry) WorkerOption {
	return workerOption(func(c *workerConfig) (err error) {
		if c.retry, err = r.orDefaults(defaultHandlerRetry); err != nil {
			return fmt.Errorf("WithHandlerRetry: %w", err)
		}
		return nil
	})
}

// WithStockReader makes the SDK read all answers of GetRecords. Default: a deserializer of this package reads answers of the
// usual form, in half the CPU time and into memory that it uses again; the SDK reads all others. A Worker of NewStreamsWorker always reads
// with the SDK.
func WithStockReader() WorkerOption {
	return workerOption(func(c *workerConfig) error {
		c.stockReader = true
		return nil
	})
}

// WorkerHooks are called by a Worker when what their names say happens. A nil func is not called. Several goroutines call them at
// a time. They must not block: a hook that blocks delays a shard, or the heartbeats. A hook that panics or ends its
// goroutine is logged, and the Worker goes on.
type WorkerHooks struct {
	// Lease is called when a lease changes hands.
	Lease func(LeaseEvent)
	// Status is called once a second for each shard that this worker reads, even while nothing arrives or a handler holds the
	// shard up. While reading fails, Behind is negative. When the lease has changed hands, remove the gauges that were made from
	// Status: see Lease.
	Status func(ShardStatus)
	// Health is called once a second with what Worker.Health returns, from the first second of Run until Run returns, also without a
	// shard.
	Health func(error)
	// Retried is called when a request to the stream failed and will be repeated; throttled says that the stream's limits were
	// exceeded. It is also called when reading a shard failed as a whole: its checkpoint cannot be stored, or the shard is
	// missing.
	Retried func(shard string, throttled bool, err error)
	// DataLost is called when records expired before they were read: the only way to lose events, and a sign that the stream's
	// retention is too short for the outage.
	DataLost func(DataLoss)
	// StreamEnded is called when nothing new can come from the stream, and once a minute from then on; the Worker goes on with what is left.
	// err says why. A DynamoDB stream that has been disabled is told of at once. A stream that does not exist, or whose shards are all
	// closed without children, is told of after a minute: until then the listing may be behind.
	StreamEnded func(err error)
}

// WithWorkerHooks adds hooks. If it is given several times, all hooks are called, in the order of the options. Default: no hooks.
// Leases, retries and losses are logged in any case.
func WithWorkerHooks(hooks WorkerHooks) WorkerOption {
	return workerOption(func(c *workerConfig) error {
		c.hooks = append(c.hooks, hooks)
		return nil
	})
}

// LeaseEventKind is what happened to a lease.
type LeaseEventKind string

// What happens to leases.
const (
	LeaseGained   LeaseEventKind = "gained"   // this worker reads the shard from now on
	LeaseReleased LeaseEventKind = "released" // this worker has given the shard up in good order; To says who has it now, if anybody
	LeaseLost     LeaseEventKind = "lost"     // another worker has taken the shard, or this worker could not renew its lease; Err says why
	LeaseEnded    LeaseEventKind = "ended"    // the shard was closed and all its records are finished
)

// LeaseEvent is something that happened to the lease of a shard.
type LeaseEvent struct {
	Kind  LeaseEventKind
	Shard string
	Fence int64  // higher than the fence of every earlier owner since the lease's row was made
	To    string // the worker that has the lease now; empty if no worker has it, or if it is not known
	Err   error  // why the lease was lost; otherwise nil
}

// DataLoss says that records of a shard have expired before they were handled.
type DataLoss struct {
	Shard string
	// After is the sequence number of the last record that was read, or a checkpoint. For a single record that had failed, or that waited
	// behind such a record, it is the record's own.
	After string
	// Oldest is the record from which reading goes on; empty if there is no such record.
	Oldest string
}
