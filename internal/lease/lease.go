package lease

import (
	"context"
	"errors"
	"maps"
	"time"
)

// Shard is a shard as its source lists it.
type Shard struct {
	ID      string
	Parents []string // none, one after a split, two after a merge
	// Open says that the source lists the shard as one that is not closed. A table does not keep it. False says nothing.
	Open   bool
	HashLo string // the range of hash keys, as the source writes it; kept only for people
	HashHi string
}

// Positions that are not sequence numbers. A checkpoint is TrimHorizon, ShardEnd, a timestamp (see At), or the sequence number of
// the last finished record. A reader starts after that record.
const (
	TrimHorizon = "TRIM_HORIZON"
	ShardEnd    = "SHARD_END"
	// Latest is a value of Config.Start only. The table stores the time at which the group first meets the stream instead,
	// because "latest" must mean the same time for every shard, however late a shard is first read. See Config.Now.
	Latest = "LATEST"
)

const atPrefix = "AT_TIMESTAMP#"

// At is the position of the first record at or after t.
func At(t time.Time) string { return atPrefix + t.UTC().Format(time.RFC3339Nano) }

// ParseAt returns the time of a position made by At.
func ParseAt(position string) (time.Time, bool) {
	if len(position) < len(atPrefix) || position[:len(atPrefix)] != atPrefix {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339Nano, position[len(atPrefix):])
	return t, err == nil
}

// Progress is what the next reader of a shard needs, whichever worker it runs on.
type Progress struct {
	// Checkpoint is a position. Everything up to it is finished, except the Holes.
	Checkpoint string
	// Attempts counts the failed attempts at records above the checkpoint, by sequence number, so that a record that always fails is
	// not tried for ever. An attempt that kills its process is not counted. The caller bounds the size of the map.
	Attempts map[string]int
	// Holes are the unfinished records up to the checkpoint, by sequence number. The next reader fetches them one by one. The caller
	// bounds the size of the map.
	Holes map[string]Hole
}

// Hole is what is known of an unfinished record below the checkpoint.
type Hole struct {
	Attempts int
	Key      uint64 // of its aggregate: later records with the key wait for this one; 0: none waits
}

// AggregateKey tells aggregates apart in the lease table: alike in every process. A few may share a key, and then wait for each other's holes.
func AggregateKey(aggregateID string) uint64 {
	if aggregateID == "" {
		return 0
	}
	h := uint64(14695981039346656037) // FNV-1a
	for i := range len(aggregateID) {
		h = (h ^ uint64(aggregateID[i])) * 1099511628211
	}
	return max(h, 1)
}

func (p Progress) clone() Progress {
	return Progress{p.Checkpoint, maps.Clone(p.Attempts), maps.Clone(p.Holes)}
}

// Config is one worker's part. Store, Shards and Consume are required.
type Config struct {
	Store  Store
	Worker string // prefix of the worker's name; each registration adds a fresh random part. Default: "worker"
	// Version is that of the release, which the worker's row tells people. Default: the row does not say.
	Version string

	// Shards lists all shards of the stream, open and closed. It returns when its context ends. It is slow, so it is called
	// rarely: at the start, once per List, and when the last listing is older than a child in the table whose parents have no
	// row. Held.End tells the children of a shard; a listing is needed only for the shards that no Held.End has told.
	Shards func(context.Context) ([]Shard, error)
	// Consume reads one shard while its lease is held. See Held for what it must do. If it returns an error that is not Fatal,
	// the lease is kept, and Consume is called again after a pause with full jitter.
	Consume func(ctx context.Context, l *Held) error

	// Now returns a time that the source's clock has reached, as lately as it can tell. It is called once, for a Start of Latest:
	// records are found by the source's clock. Default: the local clock.
	Now func(context.Context) (time.Time, error)

	Start    string        // where a group begins a stream; the first worker of the group decides. Default: TrimHorizon
	Beat     time.Duration // between two heartbeats; default Duration/4
	Duration time.Duration // how long a worker is alive after a heartbeat; default 8 s
	Tick     time.Duration // between two looks at the table; default Duration/16
	List     time.Duration // between two listings of the shards; default 1 minute
	Drain    time.Duration // how long a graceful stop, or the drain of one shard, may take; default 30 s

	Hooks Hooks
	// Health is told how the worker does, and may be asked by others. Each running worker has its own. Default: nobody asks.
	Health *Health

	// For tests only.
	suffix func() string // the random part of the worker's name
	gate   func()        // called before the worker fences itself: a paused process must do nothing
	slack  time.Duration // a bug to plant: the worker fences itself later than promised
}

// Hooks are told what happens. A nil hook is off. The goroutines that do the work call the hooks, several at a time. Hooks must
// not block.
type Hooks struct {
	Registered func(worker string)                                // this worker takes part, under this name
	Fenced     func(worker string, err error)                     // this worker was marked dead or was silent too long; it stops all work and registers anew
	Dead       func(worker string)                                // this worker has marked another worker dead
	Gained     func(shard string, fence int64)                    // this worker holds the lease from now on
	Released   func(shard string, fence int64, to string)         // the lease was given up at its last checkpoint; to got it, or is empty
	Lost       func(shard string, fence int64, err error)         // another worker has the lease, or this worker was fenced
	Ended      func(shard string, fence int64, children []Shard)  // the shard is finished for ever
	Returned   func(shard string, checkpoint string)              // a shard that was marked gone is listed again, and is read on after this checkpoint
	Reopened   func(shard string, checkpoint string)              // a shard that was stored as finished is listed as open, and is read on after this checkpoint
	Unable     func(why error)                                    // this worker cannot do the work, and leaves it to others if others can; told every minute
	Gone       func(shard string, checkpoint string)              // the source has forgotten the shard; unless checkpoint is ShardEnd, data were lost
	Failed     func(shard string, err error, again time.Duration) // reading failed, and is tried again after this pause
	Waiting    func(shard string, fence int64, t time.Duration)   // a Consume that is to return has run on for so long; told every minute
	Trouble    func(op string, err error)                         // the table or the listing failed; the worker goes on
}

// ErrLost is what Save and End return when another worker has the lease, or this worker was fenced. It is then also the cause of
// Consume's context. Nothing was stored, and nothing may be acknowledged any more.
var ErrLost = errors.New("the lease is lost")

// Fatal marks an error that no repeat heals. If a Consume returns it, Run drains, hands over everything, and returns err. If a Store
// returns it, the table is none that could have the rows.
func Fatal(err error) error { return &fatal{err} }

type fatal struct{ err error }

// IsFatal reports whether err is, or wraps, an error that Fatal has marked.
func IsFatal(err error) bool {
	f := (*fatal)(nil)
	return errors.As(err, &f)
}

func (f *fatal) Error() string { return f.err.Error() }
func (f *fatal) Unwrap() error { return f.err }

// Denied marks an error of a Store that lasts until somebody acts: the table does not exist, or a permission is missing. Both may come
// minutes after the worker, so Run goes on asking.
func Denied(err error) error { return &denied{err} }

type denied struct{ err error }

// IsLasting reports whether err is Fatal or Denied: unlike throttling and outages it does not pass by itself.
func IsLasting(err error) bool {
	d := (*denied)(nil)
	return IsFatal(err) || errors.As(err, &d)
}

func (d *denied) Error() string { return d.err.Error() }
func (d *denied) Unwrap() error { return d.err }
