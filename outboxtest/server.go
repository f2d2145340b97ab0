package outboxtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/dynamo"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/fault"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/hop"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/kinesis"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/signal"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/streams"
)

// Server is AWS: one account in one region. It is an [http.Handler] and safe for
// concurrent use.
type Server struct {
	settings settings
	faults   *fault.Injector
	services map[string]service // by X-Amz-Target
	db       *dynamo.DB
	kinesis  *kinesis.Engine
	hop      *hop.Hop
	streams  *streams.Engine
	progress signal.Signal // fired by everything that Drain waits for
	cuts     cuts

	mu       sync.Mutex
	closed   bool
	mappings []*Mapping
}

// New returns a running server; Close it. If an option is wrong, New panics with
// a text that says which; [Start] fails the test instead.
func New(opts ...Option) *Server {
	s, err := newServer(opts)
	if err != nil {
		panic(err)
	}
	return s
}

func newServer(opts []Option) (*Server, error) {
	set := settings{now: time.Now, region: "us-east-1", account: "000000000000", warn: func(text string) { slog.Warn(text) }}
	var errs []error
	for _, o := range opts {
		errs = append(errs, o.apply(&set))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	r, _ := rules(set.faults) // the option has validated them
	s := &Server{settings: set, faults: fault.New(set.seed, r...)}
	s.kinesis = kinesis.New(kinesis.Config{
		Now: set.now, Region: set.region, Account: set.account, Limits: set.kinesisLimits, Delay: set.delay,
		Refuse: s.faults.Entry})
	s.hop = hop.New(hop.Config{Region: set.region, Put: s.kinesis.Put, Faults: s.faults, OnProgress: s.progress.Fire})
	s.streams = streams.New(streams.Config{Now: set.now, Region: set.region, Tables: s.tables})
	s.db = dynamo.New(dynamo.Config{
		Now: set.now, Region: set.region, Account: set.account, OnChange: s.onChange,
		StreamExists: s.kinesis.Exists, EnableDelay: set.delay,
	})
	s.services = s.routes()
	return s, nil
}

func (s *Server) onChange(c dynamo.Change) {
	s.streams.Add(c)
	s.hop.Queue(c)
}

// Close stops the mappings and the replication and waits for them: when it
// returns, no function runs. Records that are not delivered by then are lost.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	mappings := slices.Clone(s.mappings)
	s.mu.Unlock()
	for _, m := range mappings {
		m.Stop()
	}
	s.hop.Close()
	s.progress.Fire()
}

// RollStreamShard closes the open shard of a table's DynamoDB stream and opens
// its child. The real service does so by itself every few hours.
func (s *Server) RollStreamShard(table string) error {
	if err := s.streams.Roll(context.Background(), table); err != nil {
		return fmt.Errorf("outboxtest: %w", err)
	}
	return nil
}

// ExpireTTL deletes the items whose time to live has passed by the clock.
// DynamoDB does so hours to days later; this server only when ExpireTTL is
// called.
func (s *Server) ExpireTTL() { s.db.ExpireTTL() }

// FailedToReplicate returns how many change records of a table were lost between
// DynamoDB and Kinesis, mostly because they were larger than the stream's record
// limit. It is the CloudWatch metric FailedToReplicateRecordCount. The error is
// the reason of the last loss.
func (s *Server) FailedToReplicate(table string) (int, error) { return s.hop.Failed(table) }

// ServeHTTP answers a request to any of the services, which it tells apart by the
// X-Amz-Target header. It does not check signatures. Any other request gets an
// UnknownOperationException in the protocol of the request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.serve(w, r) }

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
