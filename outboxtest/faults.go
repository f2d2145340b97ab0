package outboxtest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/fault"
)

// FaultKind is what goes wrong.
type FaultKind string

// Faults that strike requests.
const (
	// LoseAnswer carries the request out and then breaks the connection, so that
	// the client does not know what happened.
	LoseAnswer FaultKind = "LoseAnswer"
	// Throttle refuses the request for exceeding a throughput. A
	// TransactWriteItems is cancelled with the reason ThrottlingError.
	Throttle FaultKind = "Throttle"
	// ServerError answers 500 without doing anything.
	ServerError FaultKind = "ServerError"
	// Latency makes the request wait for Duration first.
	Latency FaultKind = "Latency"
	// CutNetwork breaks the connection before the request arrives.
	CutNetwork FaultKind = "CutNetwork"
	// TransactionConflict refuses a write because another transaction has the
	// item. TransactWriteItems and TransactGetItems are cancelled with this
	// reason; a single write gets a TransactionConflictException.
	TransactionConflict FaultKind = "TransactionConflict"
	// TransactionInProgress refuses a TransactWriteItems because another with the
	// same token is still going on.
	TransactionInProgress FaultKind = "TransactionInProgress"
)

// ThrottleEntry strikes single records of a PutRecords, as a busy shard does: the
// answer is a success that names the refused records. Calls and Probability count
// records, not requests.
const ThrottleEntry FaultKind = "ThrottleEntry"

// Faults that strike change records on their way from DynamoDB into Kinesis.
const (
	// DuplicateRecord writes the record twice.
	DuplicateRecord FaultKind = "DuplicateRecord"
	// DelayRecord writes the record after Duration; later records overtake it.
	DelayRecord FaultKind = "DelayRecord"
	// ReorderRecord lets the next record overtake, if it comes within Duration;
	// default: 20 ms.
	ReorderRecord FaultKind = "ReorderRecord"
	// DropRecord loses the record, as DynamoDB loses a record that is too large.
	// See [Server.FailedToReplicate].
	DropRecord FaultKind = "DropRecord"
)

// Fault is one rule of what goes wrong. A rule counts the requests (of one
// operation) or records (of one table) that it selects. It strikes the calls
// listed in Calls and, of the others, the share Probability. The decision about
// the nth call depends only on the seed, the rule's place among the rules, and n.
// So the same traffic meets the same faults again, whatever else goes on beside
// it.
type Fault struct {
	// Kind is what goes wrong.
	Kind FaultKind
	// Service is DynamoDB, Kinesis or DynamoDBStreams; empty selects all.
	Service string
	// Operation is the name in the API, such as TransactWriteItems; empty selects
	// all.
	Operation string
	// Table selects the change records of one table; empty selects all.
	Table string
	// Probability of striking, from 0 to 1.
	Probability float64
	// Calls that are struck whatever the probability, counted from 1.
	Calls []int
	// Duration of a Latency, a DelayRecord or a ReorderRecord.
	Duration time.Duration
}

// rules translates and validates faults. The error names every problem.
func rules(faults []Fault) ([]fault.Rule, error) {
	var out []fault.Rule
	var errs []error
	for i, f := range faults {
		r := fault.Rule{Kind: fault.Kind(f.Kind), Service: f.Service, Operation: f.Operation,
			Probability: f.Probability, Calls: slices.Clone(f.Calls), Duration: f.Duration}
		err := r.Validate()
		switch onRecords := r.Kind.ForRecords(); {
		case err != nil:
		case onRecords && f.Service != "":
			err = fmt.Errorf("fault %s: it strikes the records of a Table, not a Service", f.Kind)
		case !onRecords && f.Table != "":
			err = fmt.Errorf("fault %s: it strikes requests to a Service, not the records of a Table", f.Kind)
		case !onRecords && !slices.Contains([]string{"", serviceDynamoDB, serviceKinesis, serviceStreams}, f.Service):
			err = fmt.Errorf("fault %s: unknown service %q", f.Kind, f.Service)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("outboxtest: fault %d: %w", i+1, err))
			continue
		}
		if r.Kind.ForRecords() {
			r.Service = f.Table
		}
		out = append(out, r)
	}
	return out, errors.Join(errs...)
}

// SetFaults replaces the faults; the rules count anew. The error names every
// fault that can never happen, and then the faults stay as they were.
func (s *Server) SetFaults(faults ...Fault) error {
	r, err := rules(faults)
	if err != nil {
		return err
	}
	s.faults.Set(r...)
	return nil
}

// StopFaults ends all faults. Records that are being delayed still arrive late.
func (s *Server) StopFaults() { s.faults.Set() }

// Seed returns the seed of the faults. [Start] logs it. With [New], print it
// where a failure will be looked into.
func (s *Server) Seed() uint64 { return s.faults.Seed() }

// Struck returns how often each kind of fault has struck since the server was
// started, so that a test can check that it met the faults it is about.
func (s *Server) Struck() map[FaultKind]int {
	out := make(map[FaultKind]int)
	for kind, n := range s.faults.Struck() {
		out[FaultKind(kind)] = n
	}
	return out
}
