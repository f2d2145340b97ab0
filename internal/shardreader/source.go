package shardreader

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Source is a stream of shards: Kinesis or DynamoDB Streams. Each call is one request or one listing,
// unless the method says otherwise. Errors are the SDK's.
// Implementations are safe for concurrent use.
type Source interface {
	// Shards lists all shards that are still readable, open and closed.
	Shards(ctx context.Context) ([]Shard, error)
	// Iterator returns an iterator that starts at a position. For a sequence number it starts at the record itself, not after it,
	// so that the reader can see whether the record is still there.
	Iterator(ctx context.Context, shard string, from Position) (string, error)
	// Get reads up to limit records; 0 means as many as the service gives.
	Get(ctx context.Context, iterator string, limit int) (Batch, error)
}

// Shard is one shard and its lineage.
type Shard struct {
	ID      string
	Parents []string // none, one after a split, two after a merge; they may have expired already
	// HashLo and HashHi are the hash keys that the shard holds, in decimal; empty for DynamoDB Streams.
	HashLo, HashHi string
}

// Batch is what one request read.
type Batch struct {
	Records []Record      // their Data is valid until deliver returns, their strings for ever
	Next    string        // the next iterator; "" at the end of the shard
	Behind  time.Duration // how far the batch is from the tip of the shard; negative if unknown
	Bytes   int           // what the service counts for the batch
	// Children are the shards that continue a shard that has ended, if the answer names them.
	Children []Shard

	release func() // takes the memory of Records back; nil if it was not lent
}

// done says that nobody looks at the records any more.
func (b *Batch) done() {
	if b.release != nil {
		b.release()
	}
}

// Record is one record of a shard.
type Record struct {
	SequenceNumber string
	Data           []byte // the change record in JSON; for DynamoDB Streams in the form that Lambda hands over
	ArrivedAt      time.Time
}

// Position is a place in a shard: Oldest, what At returns, or the sequence number of a record, which means after the record.
//
// There is no position for the newest record: it would be another record each time an iterator is made.
type Position string

// Oldest is the oldest record that the stream still has.
const Oldest Position = "TRIM_HORIZON"

const atTimestamp = "AT_TIMESTAMP:"

// At is the first record that arrived at t or later, to the millisecond; on DynamoDB Streams to the second.
func At(t time.Time) Position {
	return Position(atTimestamp + strconv.FormatInt(t.UnixMilli(), 10))
}

// time returns the time of a position that At made.
func (p Position) time() (time.Time, bool) {
	ms, found := strings.CutPrefix(string(p), atTimestamp)
	if !found {
		return time.Time{}, false
	}
	n, err := strconv.ParseInt(ms, 10, 64)
	return time.UnixMilli(n), err == nil
}

// sequence returns the sequence number of a position after a record.
func (p Position) sequence() (string, bool) {
	if p == "" || strings.Trim(string(p), "0123456789") != "" {
		return "", false
	}
	return string(p), true
}

func (p Position) check() error {
	_, time := p.time()
	_, sequence := p.sequence()
	if p != Oldest && !time && !sequence {
		return fmt.Errorf("%q is no position in a shard: want %s, %s<milliseconds> or a sequence number", string(p), Oldest, atTimestamp)
	}
	return nil
}

// CompareSequence compares sequence numbers as numbers. They have up to 56 digits, no fixed length and no leading zeros. It
// returns -1, 0 or 1.
func CompareSequence(a, b string) int {
	if len(a) != len(b) {
		if len(a) < len(b) {
			return -1
		}
		return 1
	}
	return strings.Compare(a, b)
}
