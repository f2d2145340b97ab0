package shardreader

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Source is a stream of shards: Kinesis or DynamoDB Streams. Each call is one request or one listing,
// unless the method says otherwise. Errors are the SDK's.
// Implementations are safe for concurrent use.
type Source interface {
	// Shards lists all shards that are still readable, open and closed. Callers at the same time share one listing, so the slice must
	// not be changed. A listing that failed is continued by the next call.
	Shards(ctx context.Context) ([]Shard, error)
	// Ended says whether the service lists a shard as ended, and which shards continue it.
	Ended(ctx context.Context, shard string) (ended bool, children []Shard, err error)
	// Iterator returns an iterator that starts at a position. For a sequence number it starts at the record itself, not after it,
	// so that the reader can see whether the record is still there.
	Iterator(ctx context.Context, shard string, from Position) (string, error)
	// Get reads up to limit records; 0 means as many as the service gives. The transfer, which may be nil, sees the answer coming.
	Get(ctx context.Context, iterator string, limit int, t *Transfer) (Batch, error)
	// Over says whether, and why, the stream gives nothing new any more.
	Over(ctx context.Context) (Over, error)
	// Now returns the service's time as far as its answers have told it, or else the local time. It makes no call.
	Now() time.Time
	// Latest returns a time that the service's clock has reached, as its last answer says it.
	Latest(ctx context.Context) (time.Time, error)
}

// Shard is one shard and its lineage.
type Shard struct {
	ID      string
	Parents []string // none, one after a split, two after a merge; they may have expired already
	// Closed says that the shard takes no more records: a listing says where it ends, or has its children. In a Batch it is not known.
	Closed bool
	// HashLo and HashHi are the hash keys that the shard holds, in decimal; empty for DynamoDB Streams.
	HashLo, HashHi string
}

// check finds what a listing must not lack.
func (s *Shard) check() error {
	if s.ID == "" {
		return errors.New("a shard is listed without its id")
	}
	return nil
}

// Batch is what one request read.
type Batch struct {
	Records []Record      // their Data is valid until deliver returns, their strings for ever
	Next    string        // the next iterator; "" at the end of the shard, and in an answer that lacks it
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

// check finds what the service never says: the answer is not the service's, or not whole. after is the sequence number that the
// records must be above, or "" if they may begin anywhere.
func (b *Batch) check(after string) error {
	for i := range b.Records {
		r := &b.Records[i]
		if _, ok := Position(r.SequenceNumber).sequence(); !ok {
			return fmt.Errorf("a record has no sequence number, but %q", r.SequenceNumber)
		}
		if after != "" && CompareSequence(r.SequenceNumber, after) <= 0 {
			return fmt.Errorf("the record %s comes behind the record %s", r.SequenceNumber, after)
		}
		after = r.SequenceNumber
		if r.Data == nil {
			return fmt.Errorf("the record %s has no data", r.SequenceNumber)
		}
	}
	for i := range b.Children {
		if err := b.Children[i].check(); err != nil {
			return err
		}
	}
	return nil
}

// errNoRecords is what is wrong with an answer that has no list of records, not even an empty one. An answer that gives back
// the iterator it was asked with passes over nothing, and is no such answer.
var errNoRecords = errors.New("the answer has no list of records")

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
