package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"github.com/seed-1b628d3f/outbox/internal/awserr"
	"github.com/seed-1b628d3f/outbox/internal/lease"
	"github.com/seed-1b628d3f/outbox/internal/names"
	"github.com/seed-1b628d3f/outbox/internal/shardreader"
	"github.com/seed-1b628d3f/outbox/internal/usercode"
)

// KinesisClient is what a Worker needs of the SDK to read a data stream. *kinesis.Client implements it. A client of your own must pass the option
// functions on: by them the Worker sees whether an answer still makes progress. Neither the client nor middleware of the SDK may keep the records
// of an answer: the Worker uses their memory again, unless WithStockReader is set.
type KinesisClient interface {
	ListShards(context.Context, *kinesis.ListShardsInput, ...func(*kinesis.Options)) (*kinesis.ListShardsOutput, error)
	GetShardIterator(context.Context, *kinesis.GetShardIteratorInput, ...func(*kinesis.Options)) (*kinesis.GetShardIteratorOutput, error)
	GetRecords(context.Context, *kinesis.GetRecordsInput, ...func(*kinesis.Options)) (*kinesis.GetRecordsOutput, error)
}

// StreamsClient is what a Worker needs of the SDK to read a DynamoDB stream. *dynamodbstreams.Client implements it. A client of your own
// must pass the option functions on.
type StreamsClient interface {
	DescribeStream(context.Context, *dynamodbstreams.DescribeStreamInput, ...func(*dynamodbstreams.Options)) (*dynamodbstreams.DescribeStreamOutput, error)
	GetShardIterator(context.Context, *dynamodbstreams.GetShardIteratorInput, ...func(*dynamodbstreams.Options)) (*dynamodbstreams.GetShardIteratorOutput, error)
	GetRecords(context.Context, *dynamodbstreams.GetRecordsInput, ...func(*dynamodbstreams.Options)) (*dynamodbstreams.GetRecordsOutput, error)
}

// Worker reads a stream outside Lambda. Workers on any number of machines share the shards of the stream with nothing but
// conditional writes on one DynamoDB table. Create a Worker with NewWorker or NewStreamsWorker, and call Run.
//
// Events of one aggregate are handled one at a time, in the order of arrival within a shard. Other aggregates run in parallel: up
// to WithConcurrency of the Consumer, over all shards of the Worker. After a failure the handler is called again, with backoff;
// its aggregate waits and the others go on. The checkpoint of a shard is the point up to which all its records are finished. Up to 50
// that fail or take long hold back neither the shard nor those that continue it: when they are in the way, they are stored beside the
// checkpoint, which passes them. A Worker logs to its Consumer's logger (WithLogger).
type Worker struct {
	workerConfig
	consumer   *Consumer
	stream     string
	source     shardreader.Source
	downloads  *shardreader.Downloads
	leases     lease.Store
	leasesName string // the fences of the records are those of these leases
	running    atomic.Bool
	health     workerHealth
	suspicion  chan struct{} // a token says that the stream may be over
}

// maxDownloads is how many large answers a Worker reads at once. Kinesis gives 2 MB a second of each shard, in answers of up to 10 MB, so
// more would share the link rather than fill it.
const maxDownloads = 16

// NewWorker returns a Worker that reads a Kinesis data stream, given by name or ARN, and hands its events to c. All workers of a
// fleet must give the same name or ARN. NewWorker makes no call. The error names everything that is wrong with the arguments, such as
// the ARN of a table, of a DynamoDB stream or of an enhanced fan-out consumer.
func NewWorker(client KinesisClient, stream string, c *Consumer, leases Leases, opts ...WorkerOption) (*Worker, error) {
	return newWorker("NewWorker", isNil(client), stream, names.KinesisStream, c, leases, opts, func(w *Worker) {
		w.source = &shardreader.Kinesis{Client: client, Stream: stream, StockReader: w.stockReader}
	})
}

// NewStreamsWorker returns a Worker that reads a DynamoDB stream, for tables without a Kinesis destination. streamARN is the table's
// LatestStreamArn, not the table's ARN; a stream that is enabled again has another ARN (WorkerHooks.StreamEnded). The stream's view
// must be NEW_IMAGE or NEW_AND_OLD_IMAGES. DynamoDB recommends at most two readers of a shard, and keeps its records for 24
// hours. Everything else is as with NewWorker.
func NewStreamsWorker(client StreamsClient, streamARN string, c *Consumer, leases Leases, opts ...WorkerOption) (*Worker, error) {
	return newWorker("NewStreamsWorker", isNil(client), streamARN, names.DynamoDBStream, c, leases, opts, func(w *Worker) {
		w.source = &shardreader.Streams{Client: client, ARN: streamARN}
	})
}

func newWorker(caller string, noClient bool, stream string, check func(string) error, c *Consumer, leases Leases, opts []WorkerOption, connect func(*Worker)) (*Worker, error) {
	w := &Worker{workerConfig: defaultWorkerConfig(), consumer: c, stream: stream, suspicion: make(chan struct{}, 1),
		downloads: shardreader.NewDownloads(maxDownloads)}
	var errs []error
	if noClient {
		errs = append(errs, errors.New("the client is nil"))
	}
	if err := check(stream); err != nil {
		errs = append(errs, fmt.Errorf("the stream: %w", err))
	}
	if c == nil {
		errs = append(errs, errors.New("the Consumer is nil"))
	} else {
		errs = append(errs, c.made())
	}
	errs = append(errs, applyAll(opts, func(o WorkerOption) error { return o.applyWorker(&w.workerConfig) }))
	if isNil(leases) {
		errs = append(errs, errors.New("the leases are nil"))
	} else if stream != "" {
		var err error
		w.leases, err = leases.store(stream)
		w.leasesName = leases.name()
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("outbox: %s: %w", caller, err)
	}
	connect(w)
	return w, nil
}

// Run takes part in reading the stream until ctx ends. Then it stops fetching, finishes within the drain timeout what it has
// begun, stores the checkpoints, and releases its leases. So other workers go on at once, and nothing is handled twice. Run
// returns when no handler runs any more. It returns nil, or an error if it stopped by itself.
//
// An event that cannot be handled becomes a dead letter. Without WithDeadLetters, it ends Run in the same good order: if a
// handler returned a Permanent error or failed or lost races too often (WithHandlerRetry), or if a record could not be decoded. A handler that
// ended its goroutine ends Run in any case. Nothing is skipped: the checkpoint stays before the record, or names it as unfinished; no
// later record of the shard is started, and the next Run meets the record again. The error wraps a *HandlerError that names the record. If several
// shards meet such records at once, the log has the others.
//
// Throttling, outages of the stream or the lease table, a missing table or permission, and lost leases do not end Run: it goes on when they
// are over, and Health has them meanwhile. Only a lease table of another form ends Run, at the start. Run must not be called again while it
// runs.
func (w *Worker) Run(ctx context.Context) (err error) {
	if w.consumer == nil {
		return errNotMade
	}
	if err := w.consumer.notNested(ctx); err != nil {
		return fmt.Errorf("outbox: worker of stream %s: Run: %w", w.stream, err)
	}
	if !w.running.CompareAndSwap(false, true) {
		return errors.New("outbox: the Worker is running already")
	}
	defer w.running.Store(false)
	w.health.begin()
	defer func() { w.health.end(err) }()
	beside, stopBeside := context.WithCancel(ctx)
	telling, stopTelling := context.WithCancel(context.WithoutCancel(ctx)) // also while the Worker drains
	var besides sync.WaitGroup
	if len(w.hooks) > 0 {
		besides.Go(func() { w.tellHealth(telling) })
	}
	besides.Go(func() { w.redriveRequested(beside) })
	besides.Go(func() { w.watchOver(beside) })
	defer besides.Wait()
	defer stopTelling()
	defer stopBeside()
	err = lease.Run(ctx, lease.Config{
		Store:    w.leases,
		Worker:   w.name,
		Version:  version(),
		Shards:   w.shards,
		Consume:  w.consume,
		Start:    w.start,
		Now:      w.source.Latest,
		Duration: w.leaseDuration,
		Drain:    w.drainTimeout,
		Hooks:    w.leaseHooks(),
		Health:   &w.health.leases,
	})
	if err != nil {
		return fmt.Errorf("outbox: worker of stream %s: %w", w.stream, err)
	}
	return nil
}

var errNotMade = errors.New("outbox: a Worker is made by NewWorker or NewStreamsWorker")

func (w *Worker) shards(ctx context.Context) ([]lease.Shard, error) {
	listed, err := w.source.Shards(ctx)
	w.suspect(shardreader.OverBy(listed, err))
	if err != nil {
		return nil, err
	}
	shards := asLeases(listed)
	for i := range shards {
		shards[i].Open = !listed[i].Closed
	}
	return shards, nil
}

func asLeases(shards []shardreader.Shard) []lease.Shard {
	out := make([]lease.Shard, len(shards))
	for i, s := range shards {
		out[i] = lease.Shard{ID: s.ID, Parents: s.Parents, HashLo: s.HashLo, HashHi: s.HashHi}
	}
	return out
}

func (w *Worker) reader(s *shardRun) *shardreader.Reader {
	return &shardreader.Reader{
		Source: w.source,
		Limit:  w.batchSize,
		Idle:   w.pollInterval,

		Downloads: w.downloads,
		OnRetry: func(r shardreader.Retry) {
			w.consumer.logger.WarnContext(s.ctx, "outbox: reading a shard is retried", "stream", w.stream, "shard", r.Shard, "operation", r.Operation,
				"failures", r.Failures, "throttled", r.Throttled, "error", r.Err)
			s.unseen()
			if !r.Throttled {
				s.held.Reading(r.Err)
			}
			w.retried(r.Shard, r.Throttled, r.Err)
		},
		OnTrimmed: func(t shardreader.Trimmed) {
			w.consumer.logger.ErrorContext(s.ctx, "outbox: records have expired before they were read", "stream", w.stream, "shard", t.Shard,
				"after", t.After, "oldest", t.Oldest)
			w.dataLost(DataLoss{Shard: t.Shard, After: t.After, Oldest: t.Oldest})
		},
	}
}

// call calls a hook. A hook that panics must not end the process.
func (w *Worker) call(hook string, f func()) {
	if p := usercode.Apart(f); p != nil {
		w.consumer.logger.Error("outbox: a hook panicked", "hook", hook, "stream", w.stream, "error", &PanicError{Value: p.Value}, "stack", string(p.Stack))
	}
}

func (w *Worker) retried(shard string, throttled bool, err error) {
	for _, hooks := range w.hooks {
		if hooks.Retried != nil {
			w.call("Retried", func() { hooks.Retried(shard, throttled, err) })
		}
	}
}

func (w *Worker) dataLost(loss DataLoss) {
	for _, hooks := range w.hooks {
		if hooks.DataLost != nil {
			w.call("DataLost", func() { hooks.DataLost(loss) })
		}
	}
}

// leaseHooks turns what the lease protocol tells into log lines and calls of the Lease hooks.
func (w *Worker) leaseHooks() lease.Hooks {
	tell := func(e LeaseEvent) {
		level := slog.LevelInfo
		if e.Err != nil {
			level = slog.LevelWarn
		}
		w.consumer.logger.Log(context.Background(), level, "outbox: lease "+string(e.Kind), "stream", w.stream, "shard", e.Shard, "fence", e.Fence, "to", e.To, "error", e.Err)
		for _, hooks := range w.hooks {
			if hooks.Lease != nil {
				w.call("Lease", func() { hooks.Lease(e) })
			}
		}
	}
	logger := w.consumer.logger
	return lease.Hooks{
		Registered: func(worker string) { logger.Info("outbox: worker registered", "stream", w.stream, "worker", worker) },
		Fenced: func(worker string, err error) {
			logger.Warn("outbox: worker fenced, it stops its work and registers anew", "stream", w.stream, "worker", worker, "error", err)
		},
		Dead: func(worker string) {
			logger.Warn("outbox: another worker is dead", "stream", w.stream, "worker", worker)
		},
		Gained: func(shard string, fence int64) { tell(LeaseEvent{Kind: LeaseGained, Shard: shard, Fence: fence}) },
		Released: func(shard string, fence int64, to string) {
			tell(LeaseEvent{Kind: LeaseReleased, Shard: shard, Fence: fence, To: to})
		},
		Lost: func(shard string, fence int64, err error) {
			tell(LeaseEvent{Kind: LeaseLost, Shard: shard, Fence: fence, Err: err})
		},
		Ended: func(shard string, fence int64, children []lease.Shard) {
			if len(children) == 0 {
				signal(w.suspicion)
			}
			tell(LeaseEvent{Kind: LeaseEnded, Shard: shard, Fence: fence})
		},
		Gone: func(shard string, checkpoint string) {
			if checkpoint == lease.ShardEnd {
				return
			}
			logger.Error("outbox: a shard is gone before it was finished", "stream", w.stream, "shard", shard, "checkpoint", checkpoint)
			w.dataLost(DataLoss{Shard: shard, After: checkpoint})
		},
		Failed: func(shard string, err error, again time.Duration) {
			logger.Error("outbox: a shard cannot be read", "stream", w.stream, "shard", shard, "error", err, "again", again)
			w.retried(shard, false, err)
		},
		Returned: func(shard string, checkpoint string) {
			logger.Warn("outbox: a shard that was taken for gone is listed again, and is read on", "stream", w.stream, "shard", shard, "checkpoint", checkpoint)
		},
		Reopened: func(shard string, checkpoint string) {
			logger.Error("outbox: a shard was stored as finished and is listed as open; it is read on", "stream", w.stream, "shard", shard, "checkpoint", checkpoint)
		},
		Unable: func(why error) {
			logger.Error("outbox: this worker cannot do the work, and leaves it to workers that can", "stream", w.stream, "error", why)
		},
		Waiting: func(shard string, fence int64, t time.Duration) {
			logger.Error("outbox: a shard was to be given up, and a handler of it still runs", "stream", w.stream, "shard", shard, "fence", fence, "for", t)
		},
		Trouble: func(op string, err error) {
			level := slog.LevelWarn
			if lease.IsLasting(err) || slices.Contains([]string{"ResourceNotFoundException", "AccessDeniedException", "ValidationException", "InvalidArgumentException"}, awserr.Code(err)) {
				level = slog.LevelError // no repeat will help until somebody repairs it
			}
			logger.Log(context.Background(), level, "outbox: leases: a call is repeated", "stream", w.stream, "operation", op, "error", err)
		},
	}
}
