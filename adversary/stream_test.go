package adversary

import (
	"fmt"
	"hash/fnv"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The keys of the stream are hashed to 32 bits; the services' hash keys are these with zeros behind them.
const keys = 1 << 32

// record is one change record, and where it lies.
type record struct {
	event, aggregate string
	version          int // among the aggregate's events, from 0 on
	shard            string
	at               int // its position in the shard
	sequence         string
	arrived          time.Time // by the clock of the service
	bytes            int
}

// shard is a range of keys for a time.
type shard struct {
	id          string
	index       int
	parents     []string
	children    []string
	low, high   uint64 // [low, high)
	records     []*record
	trimmed     int // so many of the records have expired
	start, end  string
	closed      bool
	callsInSec  int
	bytesInSec  int
	secondBegan time.Time
}

// stream is what both services serve. It is safe for concurrent use.
type stream struct {
	mu       sync.Mutex
	skew     time.Duration // the clock of the service minus the clock of the bubble, which is the clock of all members
	byID     map[string]*shard
	shards   []*shard
	versions map[string]int
	records  map[string]*record // by event
	all      []*record
	limited  bool // the services' limits of calls and of bytes hold
	padding  int  // bytes of each payload
	digits   int  // of a sequence number
}

func newStream(shards int, digits int) *stream {
	s := &stream{byID: map[string]*shard{}, versions: map[string]int{}, records: map[string]*record{}, digits: digits}
	for i := range shards {
		s.open(uint64(i)*keys/uint64(shards), uint64(i+1)*keys/uint64(shards))
	}
	return s
}

func (s *stream) now() time.Time { return time.Now().Add(s.skew) }

// open adds a shard. The caller has the lock, or is alone.
func (s *stream) open(low, high uint64, parents ...*shard) *shard {
	n := &shard{index: len(s.shards), id: fmt.Sprintf("shardId-%012d", len(s.shards)), low: low, high: high}
	n.start = s.sequence(n, 0)
	for _, p := range parents {
		n.parents = append(n.parents, p.id)
		p.children = append(p.children, n.id)
		p.closed, p.end = true, s.sequence(p, len(p.records)+1)
	}
	s.byID[n.id] = n
	s.shards = append(s.shards, n)
	return n
}

// sequence is the number of a position. It begins with the number of the shard, so that shards have no order, and is sparse.
func (s *stream) sequence(in *shard, at int) string {
	return fmt.Sprintf("%d%0*d", 4900+in.index, s.digits-4, at*7+1)
}

// write appends an event of an aggregate. Events of an aggregate lie in one line of shards.
func (s *stream) write(aggregate string) *record {
	s.mu.Lock()
	defer s.mu.Unlock()
	hash := fnv.New32a()
	hash.Write([]byte(aggregate))
	key := uint64(hash.Sum32()) * 2654435761 % keys
	for _, at := range s.shards {
		if at.closed || key < at.low || key >= at.high {
			continue
		}
		version := s.versions[aggregate]
		s.versions[aggregate]++
		r := &record{event: fmt.Sprintf("%s-%d", aggregate, version), aggregate: aggregate, version: version, shard: at.id, at: len(at.records),
			arrived: s.now(), bytes: 250 + s.padding}
		r.sequence = s.sequence(at, r.at+1)
		at.records = append(at.records, r)
		s.records[r.event] = r
		s.all = append(s.all, r)
		return r
	}
	panic("no open shard has the key")
}

func (s *stream) openShards() (open []*shard) {
	for _, at := range s.shards {
		if !at.closed {
			open = append(open, at)
		}
	}
	sort.Slice(open, func(i, j int) bool { return open[i].low < open[j].low })
	return open
}

// split closes the nth open shard, in the order of keys, and opens two children.
func (s *stream) split(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := s.openShards()
	p := open[n%len(open)]
	middle := (p.low + p.high) / 2
	s.open(p.low, middle, p)
	s.open(middle, p.high, p)
}

// merge closes the nth open shard and its neighbour, and opens one child of both.
func (s *stream) merge(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if open := s.openShards(); len(open) > 1 {
		n %= len(open) - 1
		s.open(open[n].low, open[n+1].high, open[n], open[n+1])
	}
}

// roll closes every open shard and opens one child of each, as a DynamoDB stream does every few hours.
func (s *stream) roll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.openShards() {
		s.open(p.low, p.high, p)
	}
}

// cursor is a place in a shard; its text is the iterator.
type cursor struct {
	shard  string
	at     int
	issued time.Time
	since  time.Time // records that arrived before are passed over; zero for no such bound
}

func (c cursor) String() string {
	since := int64(0)
	if !c.since.IsZero() {
		since = c.since.UnixNano()
	}
	return fmt.Sprintf("%s/%d/%d/%d", c.shard, c.at, c.issued.UnixNano(), since)
}

func parseCursor(text string) (c cursor, ok bool) {
	part := strings.Split(text, "/")
	if len(part) != 4 {
		return c, false
	}
	at, err := strconv.Atoi(part[1])
	issued, _ := strconv.ParseInt(part[2], 10, 64)
	c = cursor{shard: part[0], at: at, issued: time.Unix(0, issued)}
	if since, _ := strconv.ParseInt(part[3], 10, 64); since != 0 {
		c.since = time.Unix(0, since)
	}
	return c, err == nil
}

// closedShard is the shard of an iterator, and whether it is closed.
func (s *stream) closedShard(iterator string) (id string, closed bool) {
	c, _ := parseCursor(iterator)
	s.mu.Lock()
	defer s.mu.Unlock()
	in := s.byID[c.shard]
	return c.shard, in != nil && in.closed
}

// find is the position of the first record whose number is not below (after: above) a sequence number of the shard.
func (in *shard) find(sequence string, after bool) int {
	return sort.Search(len(in.records), func(i int) bool {
		have := in.records[i].sequence
		return have > sequence || have == sequence && !after
	})
}

// trim makes the shard's oldest records expire. It returns those that were there.
func (s *stream) trim(id string, upTo int) []*record {
	s.mu.Lock()
	defer s.mu.Unlock()
	in := s.byID[id]
	from := in.trimmed
	in.trimmed = max(from, min(upTo, len(in.records)))
	return slices.Clone(in.records[from:in.trimmed])
}

// read returns what lies behind a cursor, and where the next answer begins. done says that nothing can follow.
func (s *stream) read(c cursor, limit, bytes int) (records []*record, next cursor, done bool) {
	in := s.byID[c.shard]
	at := max(c.at, in.trimmed)
	for ; at < len(in.records) && len(records) < limit && bytes > 0; at++ {
		if r := in.records[at]; !r.arrived.Before(c.since) {
			records = append(records, r)
			bytes -= r.bytes
		}
	}
	return records, cursor{shard: c.shard, at: at, issued: time.Now(), since: c.since}, in.closed && at == len(in.records)
}

// admit counts a call of GetRecords against the shard's limits.
func (s *stream) admit(in *shard) bool {
	if now := time.Now(); now.Sub(in.secondBegan) >= time.Second {
		in.secondBegan, in.callsInSec = now, 0
		in.bytesInSec = max(0, in.bytesInSec-2<<20) // a large answer uses the seconds that follow
	}
	if s.limited && (in.callsInSec >= 5 || in.bytesInSec >= 2<<20) {
		return false
	}
	in.callsInSec++
	return true
}

// rate counts the calls of an account in a second.
type rate struct {
	calls int
	began time.Time
}

func (r *rate) admit(perSecond int) bool {
	if now := time.Now(); now.Sub(r.began) >= time.Second {
		r.calls, r.began = 0, now
	}
	r.calls++
	return r.calls <= perSecond
}
