package outboxtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/lambda"
)

// EventSource is a Lambda event source mapping: what to read and how to batch it.
// The source is required. The zero value of every other field is Lambda's
// default, unless the field says otherwise.
type EventSource struct {
	// Stream is the name or the ARN of a Kinesis stream. Either Stream or Table
	// is required.
	Stream string
	// Table is the name of a table whose DynamoDB stream is read, or the ARN of a
	// DynamoDB stream.
	Table string

	// StartingPosition is TRIM_HORIZON, LATEST or AT_TIMESTAMP. Default:
	// TRIM_HORIZON, which skips nothing; Lambda has no default.
	StartingPosition string
	// StartingTimestamp is required by AT_TIMESTAMP, which only Kinesis has.
	StartingTimestamp time.Time

	// BatchSize is how many records an invocation gets at most: 1 to 10,000.
	// Default: 100.
	BatchSize int
	// BatchWindow is how long to wait for a batch to fill, up to 5 minutes.
	// Default: 0, a batch goes at once. [Server.Drain] ends windows.
	BatchWindow time.Duration
	// Filter lists the event names of change records (INSERT, MODIFY, REMOVE)
	// that reach the function; others are skipped. Default: all.
	Filter []string
	// ParallelizationFactor is how many batches of one shard, divided by
	// partition key, may be under way at once: 1 to 10. Default: 1.
	ParallelizationFactor int

	// ReportBatchItemFailures makes the mapping read the function's answer for
	// batchItemFailures. Without it every answer is a success, as on AWS: the
	// records that the function could not handle are lost. The first answer that
	// names failures in vain is logged as a warning, to the test's log with
	// [Start], otherwise to [slog.Default].
	ReportBatchItemFailures bool
	// BisectOnError splits a batch in two when the function fails with it.
	BisectOnError bool
	// MaxAttempts is how often a batch is tried in all, one more than Lambda's
	// MaximumRetryAttempts. Default: 0, until it succeeds.
	MaxAttempts int
	// MaxAge is the age at which records are given up. Default: 0, never.
	MaxAge time.Duration
	// OnFailure is told which records were given up. The mapping's own goroutines
	// call it, several at a time. Without OnFailure the records are lost
	// silently, as on AWS.
	OnFailure func(FailedBatch)

	// Timeout is the function's. After this time the function's context ends, and
	// the function has failed, whatever it answers. Default: 0, none.
	Timeout time.Duration
}

// FailedBatch is a batch that a mapping has given up: what Lambda sends to the
// on-failure destination.
type FailedBatch struct {
	// Condition is RetryAttemptsExhausted, RecordAgeExceeded or
	// PayloadSizeExceeded.
	Condition string
	// StreamARN and ShardID say where the records are.
	StreamARN, ShardID string
	// FirstSequenceNumber and LastSequenceNumber are those of the first and the
	// last record.
	FirstSequenceNumber, LastSequenceNumber string
	// Size is the number of records.
	Size int
	// Attempts is how often the function was invoked with this batch.
	Attempts int
	// Message is what an SQS queue or an SNS topic gets as on-failure
	// destination: where the records are, not the records.
	Message []byte
	// Payload is the event that the function would have got. S3 destinations get
	// it; SQS and SNS do not.
	Payload []byte
	// Err is the last error of the function, or why it was not invoked.
	Err error
}

// Mapping is a running event source mapping. It is safe for concurrent use.
type Mapping struct {
	server  *Server
	running *lambda.Mapping
	name    string
}

// Stop deletes the mapping. It cancels the context of a running invocation. When
// Stop returns, the function does not run and is not invoked again. Stop may be
// called twice.
func (m *Mapping) Stop() {
	m.running.Stop()
	m.server.forget(m)
}

// Map starts an event source mapping. It polls the shards of src and invokes the
// function, which has the type of a Lambda handler, until the mapping or the
// server is stopped. Where it begins to read is fixed before Map returns. The
// error names everything that is wrong with src.
func (s *Server) Map(src EventSource, invoke func(context.Context, []byte) ([]byte, error)) (*Mapping, error) {
	err := src.validate()
	if invoke == nil {
		err = errors.Join(err, errors.New("the function is nil"))
	}
	if err != nil {
		return nil, fmt.Errorf("outboxtest: event source: %w", err)
	}
	source, arn, err := s.source(src)
	if err != nil {
		return nil, fmt.Errorf("outboxtest: event source: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.New("outboxtest: the server is closed")
	}
	m := &Mapping{server: s, name: arn, running: lambda.New(src.config(s, source, arn, invoke))}
	s.mappings = append(s.mappings, m)
	return m, nil
}

func (s *Server) forget(m *Mapping) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, have := range s.mappings {
		if have == m {
			s.mappings = append(s.mappings[:i:i], s.mappings[i+1:]...)
			break
		}
	}
	s.progress.Fire()
}

func (src EventSource) config(s *Server, source lambda.Source, arn string, invoke func(context.Context, []byte) ([]byte, error)) lambda.Config {
	c := lambda.Config{
		Source: source, Now: s.settings.now, Invoke: invoke, Start: src.StartingPosition, StartAt: src.StartingTimestamp,
		BatchSize: src.BatchSize, Window: src.BatchWindow, ReportBatchItemFailures: src.ReportBatchItemFailures,
		Bisect: src.BisectOnError, MaxAttempts: src.MaxAttempts, MaxAge: src.MaxAge, Parallel: max(src.ParallelizationFactor, 1),
		EventNames: src.Filter, Timeout: src.Timeout, OnProgress: s.progress.Fire,
	}
	if !src.ReportBatchItemFailures {
		c.OnIgnored = sync.OnceFunc(func() {
			s.settings.warn("outboxtest: the function of the mapping of " + arn + " has answered with batchItemFailures, which are ignored, and their events lost, " +
				"since the EventSource has no ReportBatchItemFailures")
		})
	}
	if c.Start == "" {
		c.Start = lambda.TrimHorizon
	}
	if c.BatchSize == 0 {
		c.BatchSize = 100
	}
	if src.OnFailure != nil {
		c.OnFailure = func(d lambda.Discarded) {
			src.OnFailure(FailedBatch{
				Condition: d.Condition, StreamARN: arn, ShardID: d.ShardID,
				FirstSequenceNumber: d.Records[0].ID, LastSequenceNumber: d.Records[len(d.Records)-1].ID,
				Size: len(d.Records), Attempts: d.Attempts, Message: s.failureMessage(src, arn, d), Payload: d.Payload, Err: d.Err,
			})
		}
	}
	return c
}

func (src EventSource) validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check((src.Stream == "") != (src.Table == ""), "exactly one of Stream and Table must be set")
	switch src.StartingPosition {
	case "", lambda.TrimHorizon, lambda.Latest:
		check(src.StartingTimestamp.IsZero(), "StartingTimestamp goes with StartingPosition AT_TIMESTAMP only")
	case lambda.AtTimestamp:
		check(!src.StartingTimestamp.IsZero(), "StartingPosition AT_TIMESTAMP needs a StartingTimestamp")
		check(src.Table == "", "a DynamoDB stream has no StartingPosition AT_TIMESTAMP")
	default:
		check(false, "StartingPosition %q is none of TRIM_HORIZON, LATEST, AT_TIMESTAMP", src.StartingPosition)
	}
	check(src.BatchSize >= 0 && src.BatchSize <= 10000, "BatchSize %d is not between 1 and 10000", src.BatchSize)
	check(src.BatchWindow >= 0 && src.BatchWindow <= 5*time.Minute, "BatchWindow %v is not between 0 and 5m", src.BatchWindow)
	check(src.ParallelizationFactor >= 0 && src.ParallelizationFactor <= 10, "ParallelizationFactor %d is not between 1 and 10", src.ParallelizationFactor)
	check(src.MaxAttempts >= 0, "MaxAttempts %d is negative", src.MaxAttempts)
	check(src.MaxAge >= 0, "MaxAge %v is negative", src.MaxAge)
	check(src.Timeout >= 0, "Timeout %v is negative", src.Timeout)
	for _, name := range src.Filter {
		check(name == "INSERT" || name == "MODIFY" || name == "REMOVE", "Filter %q is none of INSERT, MODIFY, REMOVE", name)
	}
	return errors.Join(errs...)
}
