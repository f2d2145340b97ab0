package kinesis

import (
	"crypto/md5"
	"fmt"
	"math/big"
	"slices"
	"sort"
	"time"
)

const (
	defaultRetentionHours = 24
	maxRetentionHours     = 8760
	defaultRecordKiB      = 1024
)

type status string

const (
	creating status = "CREATING"
	active   status = "ACTIVE"
	updating status = "UPDATING"
	deleting status = "DELETING"
)

// The record distribution strategies.
const (
	byPartitionKey = "USER_PARTITION_KEY"
	byTurns        = "AUTO" // how the service spreads records it does not say; evenly
)

type stream struct {
	name, arn      string
	incarnation    int64 // tells apart streams that had the same name one after the other
	status         status
	settleAt       time.Time // when the change under way is complete
	settle         func()    // completes it; nil if nothing is under way
	createdAt      time.Time
	retentionHours int
	mode           string
	distribution   string // how records find their shard
	turn           int    // of the shards, with byTurns
	recordKiB      int
	tags           map[string]string
	shards         []*shard
	index          uint64 // of the last record
}

type shard struct {
	index             int
	id                string
	parent, adjacent  string
	low, high         *big.Int
	created           time.Time // as the sequence numbers say
	opened, closedAt  time.Time // by the clock
	first, last       string    // starting and ending sequence number; last is "" while open
	trimmed           int64     // number of records that are gone
	records           []*record
	reads, iterators  window
	readableFrom      time.Time // limits: no read before this
	writes, writeSize window
}

type record struct {
	sequence string
	key      string
	data     []byte
	arrived  time.Time
}

func (r *record) size() int { return len(r.data) + len(r.key) }

func shardID[N int | int64](index N) string { return fmt.Sprintf("shardId-%012d", index) }

// bornEarlier is how long before its stream was asked for a first shard was
// created, as its sequence numbers tell.
const bornEarlier = 3 * time.Second

// shardCreated returns the creation time that the sequence numbers of children
// carry: a second after their parents' end, and later than that of every other
// shard.
func (s *stream) shardCreated(now time.Time) time.Time {
	return s.latest(now.Truncate(time.Second)).Add(time.Second)
}

func (s *stream) addShard(opened, created time.Time, low, high *big.Int, parent, adjacent string) {
	index := 0
	if n := len(s.shards); n > 0 {
		index = s.shards[n-1].index + 1
	}
	s.shards = append(s.shards, &shard{
		index: index, id: shardID(index), parent: parent, adjacent: adjacent, low: low, high: high,
		opened: opened, created: created, first: sequenceNumber(created, index, 0, created),
	})
}

// latest returns the latest time that a sequence number of the stream may
// carry: now, or later while new shards' creation is counted ahead of it.
func (s *stream) latest(now time.Time) time.Time {
	for _, sh := range s.shards {
		if sh.created.After(now) {
			now = sh.created
		}
	}
	return now
}

func (s *stream) shard(id string) *shard {
	for _, sh := range s.shards {
		if sh.id == id {
			return sh
		}
	}
	return nil
}

func (s *stream) open() []*shard {
	var out []*shard
	for _, sh := range s.shards {
		if sh.last == "" {
			out = append(out, sh)
		}
	}
	return out
}

func (s *stream) children(parent *shard) []*shard {
	var out []*shard
	for _, sh := range s.shards {
		if sh.parent == parent.id || sh.adjacent == parent.id {
			out = append(out, sh)
		}
	}
	return out
}

// route returns the open shard that owns the hash key.
func (s *stream) route(hash *big.Int) *shard {
	if s.distribution == byTurns {
		open := s.open()
		s.turn++
		return open[s.turn%len(open)]
	}
	for _, sh := range s.shards {
		if sh.last == "" && hash.Cmp(sh.low) >= 0 && hash.Cmp(sh.high) <= 0 {
			return sh
		}
	}
	return nil // unreachable: the open shards cover every hash key
}

func (s *stream) add(sh *shard, key string, data []byte, now time.Time) *record {
	s.index++
	at := now
	if at.Before(sh.created) {
		at = sh.created
	}
	r := &record{sequence: sequenceNumber(sh.created, sh.index, s.index, at), key: key, data: data, arrived: now}
	sh.records = append(sh.records, r)
	return r
}

// trim forgets what has outlived the retention period: records, and closed
// shards without any.
func (s *stream) trim(now time.Time) {
	horizon := now.Add(-time.Duration(s.retentionHours) * time.Hour)
	for _, sh := range s.shards {
		n := sort.Search(len(sh.records), func(i int) bool { return !sh.records[i].arrived.Before(horizon) })
		if n > 0 {
			sh.records = slices.Clone(sh.records[n:])
			sh.trimmed += int64(n)
		}
	}
	// The newest shard stays whatever happens: it numbers the next one.
	s.shards = slices.DeleteFunc(s.shards, func(sh *shard) bool {
		return sh.last != "" && sh.closedAt.Before(horizon) && sh != s.shards[len(s.shards)-1]
	})
}

func hashKey(partitionKey string) *big.Int {
	sum := md5.Sum([]byte(partitionKey))
	return new(big.Int).SetBytes(sum[:])
}

// hashSpace is the number of hash keys, 2^128.
func hashSpace() *big.Int { return new(big.Int).Lsh(big.NewInt(1), 128) }

func plus(n *big.Int, d int64) *big.Int { return new(big.Int).Add(n, big.NewInt(d)) }

// settleAll completes the changes whose time has come and drops what has
// outlived its retention period. Every call to the engine starts with it.
func (e *Engine) settleAll() {
	now := e.now()
	for _, s := range e.streams {
		if s.settle != nil && !now.Before(s.settleAt) {
			done := s.settle
			s.settle = nil
			done()
			e.changed.Fire()
		}
		s.trim(now)
	}
}

// begin puts a stream into a passing status; done runs when the configured
// delay is over.
func (e *Engine) begin(s *stream, passing status, done func()) {
	s.status, s.settle, s.settleAt = passing, done, e.now().Add(e.config.Delay)
	e.settleAll()
}
