package adversary

import (
	"math/rand/v2"
	"sync"
	"time"
)

// fault is one thing that is wrong with a member or with what it is answered.
type fault string

const (
	// Answers of the stream.
	noNextIterator  fault = "GetRecords: NextShardIterator is missing, with records or without"
	noChildren      fault = "GetRecords: ChildShards is missing at the end of a shard"
	emptyBody       fault = "GetRecords: every field is missing"
	noIterator      fault = "GetShardIterator: ShardIterator is missing"
	emptyListing    fault = "a listing is empty"
	firstPageOnly   fault = "a listing ends after its first page"
	oldListing      fault = "a listing is minutes old"
	foreignListing  fault = "a listing is another stream's"
	noRangeEnd      fault = "a listing lacks EndingSequenceNumber"
	noLag           fault = "GetRecords: MillisBehindLatest and arrival times are missing"
	shortPage       fault = "GetRecords: fewer records than there are, or none"
	expiredIterator fault = "an iterator expires at once"
	nilAnswer       fault = "a client returns neither an answer nor an error"
	nilError        fault = "a client of the stream returns a nil pointer as its error"

	// Answers of the tables.
	noAttributes  fault = "UpdateItem: Attributes is missing"
	emptyQuery    fault = "Query: Items is missing"
	cutQuery      fault = "Query: the last items and LastEvaluatedKey are missing"
	noOldItem     fault = "a failed condition: Item is missing"
	lostAnswer    fault = "a write is carried out and its answer is lost"
	lateDuplicate fault = "a write is carried out again seconds later"

	// Requests.
	throttled   fault = "a request is throttled"
	serverError fault = "a request fails in the service"
	slow        fault = "a request takes seconds"
	hanging     fault = "a request is never answered"
	slowBytes   fault = "an answer comes at 20 KB a second"

	// A member is sick in one dependency.
	cannotList  fault = "a member may not list shards"
	cannotRead  fault = "a member may not read records"
	cannotLease fault = "a member does not reach the tables"
	frozen      fault = "a member's requests to everything hang"
)

// onAnswers are the faults that strike single calls, each with its probability.
var onAnswers = []fault{noNextIterator, noChildren, emptyBody, noIterator, emptyListing, firstPageOnly, oldListing, foreignListing, noRangeEnd, noLag, shortPage,
	expiredIterator, nilAnswer, nilError, noAttributes, emptyQuery, cutQuery, noOldItem, lostAnswer, lateDuplicate, throttled, serverError, slow, hanging, slowBytes}

// sicknesses strike every call.
var sicknesses = []fault{cannotList, cannotRead, cannotLease, frozen, foreignListing, emptyListing, emptyBody, noIterator}

// faults are what is switched on for one member. It is safe for concurrent use.
type faults struct {
	mu      sync.Mutex
	random  *rand.Rand
	on      map[fault]float64
	lied    map[string]bool // by closed shard: the last answer was a lie
	reached *coverage
}

func newFaults(seed uint64, reached *coverage) *faults {
	return &faults{random: rand.New(rand.NewPCG(seed, 1)), on: map[fault]float64{}, lied: map[string]bool{}, reached: reached}
}

func (f *faults) strikes(what fault) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.on[what]
	if p == 0 || p < 1 && f.random.Float64() >= p {
		return false
	}
	f.reached.count(string(what))
	return true
}

// strikesClosed is strikes for a lie about what a shard has left. Of a closed shard it strikes every other time at most: a service that keeps saying
// that a closed shard has no more must be believed.
func (f *faults) strikesClosed(what fault, shard string, closed bool) bool {
	f.mu.Lock()
	before := f.lied[shard] && closed
	f.lied[shard] = false
	f.mu.Unlock()
	if before || !f.strikes(what) {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lied[shard] = true
	return true
}

func (f *faults) set(what fault, probability float64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on[what] = probability
}

func (f *faults) heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.on)
}

func (f *faults) between(low, high time.Duration) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return low + time.Duration(f.random.Int64N(int64(high-low)+1))
}

func (f *faults) intn(n int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.random.IntN(n)
}

// coverage counts what was reached, over all seeds. It is safe for concurrent use.
type coverage struct {
	mu    sync.Mutex
	times map[string]int
}

func (c *coverage) count(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.times == nil {
		c.times = map[string]int{}
	}
	c.times[what]++
}

func (c *coverage) of(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.times[what]
}

func (c *coverage) all() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range c.times {
		n += one
	}
	return n
}
