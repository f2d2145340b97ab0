package storm

import (
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// fault is what becomes of one request.
type fault string

const (
	passes     fault = "passes"
	isLost     fault = "request lost"
	loses      fault = "answer lost"
	hangs      fault = "hangs" // neither carried out nor answered, until the client gives up
	isLate     fault = "late"  // the client is told that the connection broke; the request is carried out after others
	fails      fault = "500"
	doneFails  fault = "500 though done"
	isThrottle fault = "throttled"
	conflicts  fault = "conflict"
	inProgress fault = "in progress"
	lags       fault = "slow"
)

// allFaults are what a plan chooses from.
var allFaults = []fault{isLost, loses, hangs, isLate, fails, doneFails, isThrottle, conflicts, inProgress, lags}

// faults decides the fate of each request. A run has few kinds of faults, each with its own share of the requests.
type faults struct {
	seed   uint64
	shares map[fault]float64

	mu     sync.Mutex
	off    bool
	struck map[fault]int
}

// chooseFaults switches each kind on or off for the whole run.
func chooseFaults(seed uint64, rng *rand.Rand, most float64) *faults {
	f := &faults{seed: seed, shares: map[fault]float64{}, struck: map[fault]int{}}
	if most == 0 {
		return f
	}
	for _, kind := range allFaults {
		if rng.IntN(3) == 0 {
			f.shares[kind] = most * rng.Float64()
		}
	}
	return f
}

// decide returns the fate of the nth request of an operation of a process. It depends on nothing else, so a seed can be replayed.
func (f *faults) decide(process, operation string, n int) fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.off {
		return passes
	}
	at := share(f.seed, process, operation, n)
	for _, kind := range allFaults {
		at -= f.shares[kind]
		if at < 0 {
			if !possible(kind, operation) {
				return passes
			}
			f.struck[kind]++
			return kind
		}
	}
	return passes
}

// none says that the run has no faults.
func (f *faults) none() bool { return len(f.shares) == 0 }

// ambiguous says that clients can be left without an answer that they can trust.
func (f *faults) ambiguous() bool {
	return slices.ContainsFunc([]fault{isLost, loses, hangs, isLate, fails, doneFails}, func(kind fault) bool { return f.shares[kind] > 0 })
}

func (f *faults) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.off = true
}

// share is a number from 0 to 1 that the arguments decide.
func share(seed uint64, process, operation string, n int) float64 {
	hash := fnv.New64a()
	fmt.Fprintf(hash, "%d/%s/%s/%d", seed, process, operation, n)
	return rand.New(rand.NewPCG(hash.Sum64(), seed)).Float64()
}

func possible(kind fault, operation string) bool {
	switch kind {
	case inProgress:
		return operation == "TransactWriteItems"
	case conflicts:
		switch operation {
		case "TransactWriteItems", "PutItem", "UpdateItem", "DeleteItem":
			return true
		}
		return false
	}
	return true
}

// refusal is an answer of the service that nothing was done, or that it does not know.
func refusal(kind fault, operation string) *http.Response {
	status, code, more := http.StatusBadRequest, "", ""
	switch {
	case kind == fails || kind == doneFails:
		status, code = http.StatusInternalServerError, "InternalServerError"
	case kind == inProgress:
		code = "TransactionInProgressException"
	case kind == conflicts && operation == "TransactWriteItems":
		code, more = "TransactionCanceledException", `,"CancellationReasons":[{"Code":"TransactionConflict","Message":"Transaction is ongoing for the item"}]`
	case kind == conflicts:
		code = "TransactionConflictException"
	case kind == isThrottle && operation == "TransactWriteItems":
		code, more = "TransactionCanceledException", `,"CancellationReasons":[{"Code":"ThrottlingError","Message":"Throughput exceeds the current capacity"}]`
	default:
		code = "ProvisionedThroughputExceededException"
	}
	body := fmt.Sprintf(`{"__type":"com.amazonaws.dynamodb.v20120810#%s","message":"planted by the storm"%s}`, code, more)
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {"application/x-amz-json-1.0"}, "Date": {time.Now().UTC().Format(http.TimeFormat)}},
		Body:          io.NopCloser(strings.NewReader(body)),
		ContentLength: int64(len(body)),
	}
}
