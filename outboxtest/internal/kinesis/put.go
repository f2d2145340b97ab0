package kinesis

import (
	"math/big"
	"slices"
	"time"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/shape"
)

const maxPutBytes = 10 << 20 // one PutRecords request, data and partition keys

type putResult struct {
	SequenceNumber string `json:",omitempty"`
	ShardID        string `json:"ShardId,omitempty"`
	ErrorCode      string `json:",omitempty"`
	ErrorMessage   string `json:",omitempty"`
}

func (e *Engine) putRecord(in shape.Values) (any, error) {
	s, err := e.writable(in)
	if err != nil {
		return nil, err
	}
	hash, err := e.hash(in)
	if err != nil {
		return nil, err
	}
	if ordering := in.String("SequenceNumberForOrdering"); ordering != "" {
		if seq, ok := parseSequence(ordering); !ok || seq.at > s.latest(e.now()).Unix() {
			return nil, invalid("ExclusiveMinimumSequenceNumber %s used in PutRecord on stream %s under account %s is invalid.",
				ordering, s.name, e.config.Account)
		}
	}
	now := e.now()
	key, data := in.String("PartitionKey"), in.Bytes("Data")
	if err := s.fits(key, data); err != nil {
		return nil, err
	}
	sh := s.route(hash)
	if e.overWriteLimit(sh, len(key)+len(data), now) {
		return nil, fail("ProvisionedThroughputExceededException", "%s", e.rateExceeded(s, sh))
	}
	r := s.add(sh, key, data, now)
	e.changed.Fire()
	return putResult{SequenceNumber: r.sequence, ShardID: sh.id}, nil
}

func (e *Engine) putRecords(in shape.Values) (any, error) {
	s, err := e.writable(in)
	if err != nil {
		return nil, err
	}
	entries := in.Structs("Records")
	hashes := make([]*big.Int, len(entries))
	total := 0
	for i, entry := range entries {
		if hashes[i], err = e.hash(entry); err != nil {
			return nil, err
		}
		key, data := entry.String("PartitionKey"), entry.Bytes("Data")
		if err := s.fits(key, data); err != nil {
			return nil, err
		}
		total += len(key) + len(data)
	}
	if total > maxPutBytes {
		return nil, invalid("Records size exceeds 10 MB limit")
	}
	now := e.now()
	failed := 0
	results := make([]putResult, len(entries))
	accepted := make(map[*shard][]int)
	for i, entry := range entries {
		sh := s.route(hashes[i])
		key, data := entry.String("PartitionKey"), entry.Bytes("Data")
		if e.config.Refuse != nil && e.config.Refuse() || e.overWriteLimit(sh, len(key)+len(data), now) {
			failed++
			results[i] = putResult{ErrorCode: "ProvisionedThroughputExceededException", ErrorMessage: e.rateExceeded(s, sh)}
			continue
		}
		accepted[sh] = append(accepted[sh], i)
	}
	// The service writes one shard after the other, the youngest first.
	for _, sh := range slices.Backward(s.shards) {
		for _, i := range accepted[sh] {
			r := s.add(sh, entries[i].String("PartitionKey"), entries[i].Bytes("Data"), now)
			results[i] = putResult{SequenceNumber: r.sequence, ShardID: sh.id}
		}
	}
	e.changed.Fire()
	return struct {
		FailedRecordCount int
		Records           []putResult
	}{failed, results}, nil
}

// writable finds the stream of a request that needs one in use.
func (e *Engine) writable(in shape.Values) (*stream, error) {
	s, err := e.find(in)
	if err != nil {
		return nil, err
	}
	if s.status != active && s.status != updating {
		return nil, e.noStream(s.name)
	}
	return s, nil
}

func (e *Engine) hash(in shape.Values) (*big.Int, error) {
	explicit := in.String("ExplicitHashKey")
	if explicit == "" {
		return hashKey(in.String("PartitionKey")), nil
	}
	n, ok := new(big.Int).SetString(explicit, 10)
	if !ok || n.Cmp(hashSpace()) >= 0 {
		return nil, invalid("Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was %s", explicit)
	}
	return n, nil
}

// fits checks a record against the stream's own record limit; the limit of the
// API was checked before.
func (s *stream) fits(key string, data []byte) error {
	if size := len(key) + len(data); size > s.recordKiB<<10 {
		return invalid("Record size %d bytes, of the data and the partition key, exceeds the maximum record size of stream %s, %d KiB.",
			size, s.name, s.recordKiB)
	}
	return nil
}

// Put writes one record on behalf of a service inside AWS. The throughput
// limits do not apply to it.
func (e *Engine) Put(streamARN, partitionKey string, data []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.settleAll()
	s := e.byARN(streamARN)
	if s == nil || s.status != active && s.status != updating {
		return notFound("Stream %s not found.", streamARN)
	}
	if err := s.fits(partitionKey, data); err != nil {
		return err
	}
	s.add(s.route(hashKey(partitionKey)), partitionKey, data, e.now())
	e.changed.Fire()
	return nil
}

// window counts what happened in the current second.
type window struct {
	start time.Time
	used  int
}

// take books n units, unless that would be more than limit within a second.
// What is bigger than the limit passes into an empty window, or it never could.
func (w *window) take(n, limit int, now time.Time) bool {
	if age := now.Sub(w.start); age >= time.Second || age < 0 {
		w.start, w.used = now, 0
	}
	if w.used > 0 && w.used+n > limit {
		return false
	}
	w.used += n
	return true
}

const (
	shardWriteRecords = 1000
	shardWriteBytes   = 1 << 20
	shardReadBytes    = 2 << 20
	shardReads        = 5
)

func (e *Engine) overWriteLimit(sh *shard, size int, now time.Time) bool {
	return e.config.Limits && (!sh.writes.take(1, shardWriteRecords, now) || !sh.writeSize.take(size, shardWriteBytes, now))
}

func (e *Engine) rateExceeded(s *stream, sh *shard) string {
	return "Rate exceeded for shard " + sh.id + " in stream " + s.name + " under account " + e.config.Account + "."
}
