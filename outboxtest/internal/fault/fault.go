// Package fault decides what goes wrong, and when: by probability from a seed,
// or at the nth call.
//
// It knows rules, counts and the seed. It must not know how a fault is carried
// out: who asks is told what should happen and does it.
package fault

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"sync"
	"time"
)

// Kind is what goes wrong.
type Kind string

// The kinds that strike requests.
const (
	LoseAnswer            Kind = "LoseAnswer"
	Throttle              Kind = "Throttle"
	ServerError           Kind = "ServerError"
	Latency               Kind = "Latency"
	CutNetwork            Kind = "CutNetwork"
	TransactionConflict   Kind = "TransactionConflict"
	TransactionInProgress Kind = "TransactionInProgress"
)

// ThrottleEntry is the kind that strikes single records of a PutRecords.
const ThrottleEntry Kind = "ThrottleEntry"

// The kinds that strike change records on their way into a stream.
const (
	DuplicateRecord Kind = "DuplicateRecord"
	DelayRecord     Kind = "DelayRecord"
	ReorderRecord   Kind = "ReorderRecord"
	DropRecord      Kind = "DropRecord"
)

// Rule is one thing that goes wrong. Service and Operation select requests, an
// empty one selects all; for records, Service selects the table.
type Rule struct {
	Kind        Kind
	Service     string
	Operation   string
	Probability float64
	Calls       []int
	Duration    time.Duration
}

// ForRecords reports whether the kind strikes change records, not requests.
func (k Kind) ForRecords() bool {
	return k == DuplicateRecord || k == DelayRecord || k == ReorderRecord || k == DropRecord
}

// Validate returns what is wrong with a rule.
func (r Rule) Validate() error {
	switch r.Kind {
	case LoseAnswer, Throttle, ServerError, CutNetwork, DuplicateRecord, ReorderRecord, DropRecord:
	case ThrottleEntry:
		if r.Service != "" && r.Service != "Kinesis" || r.Operation != "" && r.Operation != "PutRecords" {
			return fmt.Errorf("fault %s: only PutRecords of Kinesis has entries, not %s of %s", r.Kind, r.Operation, r.Service)
		}
	case TransactionConflict, TransactionInProgress:
		if r.Service != "" && r.Service != "DynamoDB" {
			return fmt.Errorf("fault %s: only DynamoDB has transactions, not %q", r.Kind, r.Service)
		}
		if r.Operation != "" && !applies(r.Kind, "DynamoDB", r.Operation) {
			return fmt.Errorf("fault %s: %s cannot meet it", r.Kind, r.Operation)
		}
	case Latency, DelayRecord:
		if r.Duration <= 0 {
			return fmt.Errorf("fault %s: the duration must be positive, not %v", r.Kind, r.Duration)
		}
	default:
		return fmt.Errorf("fault: unknown kind %q", r.Kind)
	}
	if r.Kind.ForRecords() && r.Operation != "" {
		return fmt.Errorf("fault %s: it strikes records, which have no operation, not %q", r.Kind, r.Operation)
	}
	if r.Probability < 0 || r.Probability > 1 {
		return fmt.Errorf("fault %s: the probability must be between 0 and 1, not %v", r.Kind, r.Probability)
	}
	if r.Probability == 0 && len(r.Calls) == 0 {
		return fmt.Errorf("fault %s: it never happens, give it a probability or calls", r.Kind)
	}
	if i := slices.IndexFunc(r.Calls, func(n int) bool { return n < 1 }); i >= 0 {
		return fmt.Errorf("fault %s: calls are counted from 1, not %d", r.Kind, r.Calls[i])
	}
	return nil
}

// Injector takes the decisions. It is safe for concurrent use.
type Injector struct {
	seed uint64

	mu     sync.Mutex
	rules  []Rule
	counts map[countKey]int
	struck map[Kind]int
}

type countKey struct {
	rule  int
	thing string
}

// New returns an injector with valid rules.
func New(seed uint64, rules ...Rule) *Injector {
	in := &Injector{seed: seed, struck: make(map[Kind]int)}
	in.Set(rules...)
	return in
}

// Seed returns the seed.
func (in *Injector) Seed() uint64 { return in.seed }

// Set replaces the rules and starts all counts anew; without rules nothing
// goes wrong any more.
func (in *Injector) Set(rules ...Rule) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.rules, in.counts = slices.Clone(rules), make(map[countKey]int)
}

// Struck returns how often each kind has come true, whatever the rules were.
func (in *Injector) Struck() map[Kind]int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return maps.Clone(in.struck)
}

// Request is what shall happen to one request.
type Request struct {
	Latency    time.Duration
	Kind       Kind // "" for nothing but the latency
	LoseAnswer bool // after the request was applied
}

// Request decides about one call of an operation.
func (in *Injector) Request(service, operation string) Request {
	in.mu.Lock()
	defer in.mu.Unlock()
	var out Request
	for i, r := range in.rules {
		if r.Kind.ForRecords() || r.Kind == ThrottleEntry || r.Service != "" && r.Service != service || r.Operation != "" && r.Operation != operation ||
			!applies(r.Kind, service, operation) || !in.strikes(i, service+"."+operation) {
			continue
		}
		switch r.Kind {
		case Latency:
			out.Latency += r.Duration
		case LoseAnswer:
			out.LoseAnswer = true
		default:
			if out.Kind == "" {
				out.Kind = r.Kind
			}
		}
	}
	if out.Latency > 0 {
		in.struck[Latency]++
	}
	switch {
	case out.Kind != "":
		in.struck[out.Kind]++
	case out.LoseAnswer: // of a request that was refused, the refusal arrives
		in.struck[LoseAnswer]++
	}
	return out
}

// Entry decides whether one record of a PutRecords is refused.
func (in *Injector) Entry() (refused bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for i, r := range in.rules {
		// Every rule counts, also after one has struck.
		if r.Kind == ThrottleEntry && in.strikes(i, "Kinesis.PutRecords entry") {
			refused = true
		}
	}
	if refused {
		in.struck[ThrottleEntry]++
	}
	return refused
}

// applies keeps the transaction faults to operations that can meet them.
func applies(k Kind, service, operation string) bool {
	switch k {
	case TransactionInProgress:
		return service == "DynamoDB" && operation == "TransactWriteItems"
	case TransactionConflict:
		return service == "DynamoDB" && slices.Contains([]string{
			"TransactWriteItems", "TransactGetItems", "PutItem", "UpdateItem", "DeleteItem"}, operation)
	}
	return true
}

// Record is what shall happen to one change record.
type Record struct {
	Drop, Duplicate bool
	NewID           bool          // the duplicate has an event id of its own
	Delay           time.Duration // 0 for none
	Reorder         time.Duration // how long to wait for a record that overtakes; 0 for none
}

// holdTime is how long a record waits to be overtaken, if the rule does not say.
const holdTime = 20 * time.Millisecond

// Record decides about one change record of a table.
func (in *Injector) Record(table string) Record {
	in.mu.Lock()
	defer in.mu.Unlock()
	var out Record
	for i, r := range in.rules {
		if !r.Kind.ForRecords() || r.Service != "" && r.Service != table || !in.strikes(i, table) {
			continue
		}
		switch r.Kind {
		case DropRecord:
			out.Drop = true
		case DuplicateRecord:
			out.Duplicate = true
			out.NewID = in.hash(i, "id:"+table, in.counts[countKey{i, table}])%2 == 0
		case ReorderRecord:
			out.Reorder = holdTime
			if r.Duration > 0 {
				out.Reorder = r.Duration
			}
		case DelayRecord:
			out.Delay += r.Duration
		}
	}
	if out.Drop { // and nothing else can happen to it
		in.struck[DropRecord]++
		return out
	}
	if out.Duplicate {
		in.struck[DuplicateRecord]++
	}
	switch {
	case out.Delay > 0: // which puts it behind more records than a reordering would
		in.struck[DelayRecord]++
	case out.Reorder > 0:
		in.struck[ReorderRecord]++
	}
	return out
}

// strikes counts one more call for the rule and decides about it. The decision
// depends on nothing but the seed, the rule, what it is about and the number of
// the call, so that other traffic, in whatever order, does not disturb a replay.
func (in *Injector) strikes(rule int, thing string) bool {
	key := countKey{rule, thing}
	in.counts[key]++
	n, r := in.counts[key], in.rules[rule]
	if slices.Contains(r.Calls, n) {
		return true
	}
	const unit = 1 << 53 // as many steps as a float64 can tell apart below 1
	return float64(in.hash(rule, thing, n)%unit)/unit < r.Probability
}

func (in *Injector) hash(rule int, thing string, n int) uint64 {
	h := fnv.New64a()
	var b [24]byte
	binary.BigEndian.PutUint64(b[0:], in.seed)
	binary.BigEndian.PutUint64(b[8:], uint64(rule))
	binary.BigEndian.PutUint64(b[16:], uint64(n))
	_, _ = h.Write(b[:]) // a hash never fails
	_, _ = h.Write([]byte(thing))
	// FNV mixes its last bytes badly into the high bits; finish as splitmix64 does.
	x := h.Sum64()
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
