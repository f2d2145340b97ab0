package kinesis

import (
	"sort"
	"time"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/shape"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

const (
	maxRecords       = 10000
	maxReadBytes     = 10 << 20
	iteratorLifetime = 5 * time.Minute
)

func (e *Engine) getShardIterator(in shape.Values) (any, error) {
	s, sh, err := e.findShard(in, in.String("ShardId"))
	if err != nil {
		return nil, err
	}
	now := e.now()
	position, err := e.position(s, sh, in, now)
	if err != nil {
		return nil, err
	}
	if e.config.Limits && !sh.iterators.take(1, shardReads, now) {
		return nil, fail("ProvisionedThroughputExceededException", "%s", e.rateExceeded(s, sh))
	}
	return struct{ ShardIterator string }{e.iterator(s, sh, position, now)}, nil
}

// position translates an iterator type into an absolute index in the shard.
func (e *Engine) position(s *stream, sh *shard, in shape.Values, now time.Time) (int64, error) {
	kind, start := in.String("ShardIteratorType"), in.String("StartingSequenceNumber")
	wantsSequence := kind == "AT_SEQUENCE_NUMBER" || kind == "AFTER_SEQUENCE_NUMBER"
	switch {
	case wantsSequence && start == "":
		return 0, invalid("Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or "+
			"(2) TRIM_HORIZON or LATEST and no StartingSequenceNumber. Request specified %s and no StartingSequenceNumber.", kind)
	case !wantsSequence && start != "":
		return 0, invalid("Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or "+
			"(2) TRIM_HORIZON or LATEST and no StartingSequenceNumber. Request specified %s and also a StartingSequenceNumber.", kind)
	}
	switch kind {
	case "TRIM_HORIZON":
		return sh.trimmed, nil
	case "LATEST":
		return sh.end(), nil
	case "AT_TIMESTAMP":
		if !in.Has("Timestamp") {
			return 0, invalid("Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. Current request has no timestamp parameter.")
		}
		at := in.Time("Timestamp")
		if at.UnixMilli() > now.UnixMilli() {
			return 0, invalid("The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. "+
				"timestampInMillis: %d, currentTimestampInMillis: %d", at.UnixMilli(), now.UnixMilli())
		}
		return sh.at(at), nil
	}
	if err := e.checkSequence(s, sh, start); err != nil {
		return 0, err
	}
	return sh.search(start, kind == "AFTER_SEQUENCE_NUMBER"), nil
}

func (e *Engine) checkSequence(s *stream, sh *shard, start string) error {
	where := "StartingSequenceNumber " + start + " used in GetShardIterator on shard " + sh.id +
		" in stream " + s.name + " under account " + e.config.Account + " is invalid"
	seq, ok := parseSequence(start)
	switch {
	case !ok:
		return invalid("%s.", where)
	case seq.shardIndex != int64(sh.index):
		return invalid("Invalid StartingSequenceNumber. It encodes %s, while it was used in a call to a shard with %s",
			shardID(seq.shardIndex), sh.id)
	case seq.version == 0:
		return &wire.Error{Code: "InternalFailure", Status: 500} // what the service does with its oldest numbers
	case seq.version != 2 || seq.created != sh.created.Unix():
		return invalid("%s because it did not come from this stream.", where)
	}
	return nil
}

func (sh *shard) end() int64 { return sh.trimmed + int64(len(sh.records)) }

func (sh *shard) at(t time.Time) int64 {
	return sh.trimmed + int64(sort.Search(len(sh.records), func(i int) bool {
		return sh.records[i].arrived.UnixMilli() >= t.UnixMilli()
	}))
}

// search returns the index of the first record with that sequence number or a
// later one, or only a later one.
func (sh *shard) search(sequence string, after bool) int64 {
	return sh.trimmed + int64(sort.Search(len(sh.records), func(i int) bool {
		if after {
			return less(sequence, sh.records[i].sequence)
		}
		return !less(sh.records[i].sequence, sequence)
	}))
}

// from returns the records from an absolute index on.
func (sh *shard) from(position int64) []*record {
	skip := min(max(position-sh.trimmed, 0), int64(len(sh.records)))
	return sh.records[skip:]
}

type recordOut struct {
	ApproximateArrivalTimestamp wire.Epoch
	Data                        []byte
	PartitionKey                string
	SequenceNumber              string
}

type childShard struct {
	HashKeyRange hashKeyRange
	ParentShards []string
	ShardID      string `json:"ShardId"`
}

type getRecordsOut struct {
	ChildShards        []childShard `json:",omitempty"`
	MillisBehindLatest int64
	NextShardIterator  string `json:",omitempty"`
	Records            []recordOut
}

func (e *Engine) getRecords(in shape.Values) (any, error) {
	now := e.now()
	s, sh, position, err := e.openIterator(in.String("ShardIterator"), now)
	if err != nil {
		return nil, err
	}
	if e.config.Limits && (now.Before(sh.readableFrom) || !sh.reads.take(1, shardReads, now)) {
		return nil, fail("ProvisionedThroughputExceededException", "%s", e.rateExceeded(s, sh))
	}
	rest := sh.from(position)
	page, size := takePage(rest, in.Int("Limit", maxRecords))
	if e.config.Limits {
		sh.readableFrom = now.Add(time.Duration(float64(size) / shardReadBytes * float64(time.Second)))
		if size <= shardReadBytes {
			sh.readableFrom = now
		}
	}
	out := getRecordsOut{Records: make([]recordOut, 0, len(page))}
	for _, r := range page {
		out.Records = append(out.Records, recordOut{
			ApproximateArrivalTimestamp: wire.Epoch(r.arrived), Data: r.data, PartitionKey: r.key, SequenceNumber: r.sequence})
	}
	if len(rest) > len(page) {
		out.MillisBehindLatest = max(now.Sub(rest[len(page)].arrived).Milliseconds(), 1)
	}
	// The end of a closed shard is told by an answer of its own, never
	// together with the last records.
	if len(rest) == 0 && sh.last != "" {
		for _, child := range s.children(sh) {
			out.ChildShards = append(out.ChildShards, childShard{
				HashKeyRange: child.hashKeyRange(), ParentShards: child.parents(), ShardID: child.id})
		}
		return out, nil
	}
	next := max(position, sh.trimmed) + int64(len(page))
	out.NextShardIterator = e.iterator(s, sh, next, now)
	return out, nil
}

// takePage cuts the records of one answer off the front.
func takePage(rest []*record, limit int) (page []*record, size int) {
	for i, r := range rest {
		if i == limit || i > 0 && size+r.size() > maxReadBytes {
			return rest[:i], size
		}
		size += r.size()
	}
	return rest, size
}

// Record is one record as a consumer inside AWS reads it.
type Record struct {
	SequenceNumber string
	PartitionKey   string
	Data           []byte
	Arrived        time.Time
}

// Shard is one shard of a stream and its lineage.
type Shard struct {
	ID      string
	Parents []string
	Closed  bool
}

// Shards returns the shards of a stream in the order of their creation, nil if
// there is no such stream.
func (e *Engine) Shards(streamARN string) []Shard {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.settleAll()
	s := e.byARN(streamARN)
	if s == nil {
		return nil
	}
	out := make([]Shard, 0, len(s.shards))
	for _, sh := range s.shards {
		out = append(out, Shard{ID: sh.id, Parents: sh.parents(), Closed: sh.last != ""})
	}
	return out
}

// Position is where a consumer inside AWS begins in a shard: TRIM_HORIZON,
// LATEST or AT_TIMESTAMP with a time. False means that there is no such shard.
func (e *Engine) Position(streamARN, shardID, kind string, at time.Time) (int64, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, sh := e.lookup(streamARN, shardID)
	if sh == nil {
		return 0, false
	}
	switch kind {
	case "LATEST":
		return sh.end(), true
	case "AT_TIMESTAMP":
		return sh.at(at), true
	}
	return sh.trimmed, true
}

// Read returns up to limit records from a position on, the position after
// them, and whether the shard has ended there. False means that there is no
// such shard (any more).
func (e *Engine) Read(streamARN, shardID string, position int64, limit int) (records []Record, next int64, ended, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.settleAll()
	_, sh := e.lookup(streamARN, shardID)
	if sh == nil {
		return nil, position, true, false
	}
	rest := sh.from(position)
	page := rest[:min(limit, len(rest))]
	for _, r := range page {
		records = append(records, Record{SequenceNumber: r.sequence, PartitionKey: r.key, Data: r.data, Arrived: r.arrived})
	}
	return records, max(position, sh.trimmed) + int64(len(page)), sh.last != "" && len(rest) == len(page), true
}

func (e *Engine) lookup(streamARN, shardID string) (*stream, *shard) {
	s := e.byARN(streamARN)
	if s == nil {
		return nil, nil
	}
	return s, s.shard(shardID)
}
