package lease

import (
	"context"
	"errors"
	"time"
)

// Shard is a shard as its source lists it.
type Shard struct {
	ID      string
	Parents []string // empty, one after a split, two after a merge
	HashLo  string   // the range of hash keys, as the source writes it; only kept for people
	HashHi  string
}

// Positions that are no sequence numbers. A checkpoint is one of TrimHorizon, ShardEnd, a timestamp (see At), or the sequence
// number of the last finished record, where a reader starts after.
const (
	TrimHorizon = "TRIM_HORIZON"
	ShardEnd    = "SHARD_END"
	// Latest is a value of Config.Start only. It is stored as the time at which the group first meets the stream, because what is
	// "latest" must not change when a shard is first read.
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

// Progress is what a reader wants to find again, wherever the shard is read next.
type Progress struct {
	// Checkpoint is a position; everything up to it is finished.
	Checkpoint string
	// Attempts counts the failed attempts at unfinished records, by sequence number, so that a record that always fails is not
	// tried for ever. One that kills its process is not counted. The caller bounds its size.
	Attempts map[string]int
}

// Config is one worker's part. Store, Shards and Consume are required.
type Config struct {
	Store  Store
	Worker string // prefix of the worker's name; a fresh random part is added per registration. Default: "worker"

	// Shards lists the stream's shards, all of them, open and closed. It returns when its context ends. It is slow, so it is called when the worker starts and then
	// once per List: children come from Held.End, and a listing is only needed for what nobody's end has told.
	Shards func(context.Context) ([]Shard, error)
	// Consume reads one shard while its lease is held. See Held for what it must do. It is called again, after a pause with full
	// jitter, when it returns an error that is not Fatal; the lease is kept meanwhile.
	Consume func(ctx context.Context, l *Held) error

	Start    string        // where a group begins a stream; the first worker's counts. Default: TrimHorizon
	Beat     time.Duration // between two heartbeats; default Duration/4
	Duration time.Duration // how long a worker is alive after a heartbeat; default 8 s
	Tick     time.Duration // between two looks at the table; default Duration/16
	List     time.Duration // between two listings of the shards; default 1 minute
	Drain    time.Duration // how long a graceful stop may take, and the drain of one shard; default 30 s

	Hooks Hooks

	// For tests only.
	suffix func() string // the random part of the worker's name
	gate   func()        // called before the worker fences itself: a process that is paused does nothing
	slack  time.Duration // a bug to plant: fencing itself later than promised
}

// Hooks are told what happens. Nil is off. They are called by the goroutines that do the work, several at a time, and must not
// block.
type Hooks struct {
	Registered func(worker string)                                // this worker takes part, under this name
	Fenced     func(worker string, err error)                     // it stops all work and registers anew: marked dead, or silent too long
	Dead       func(worker string)                                // this worker has marked another one dead
	Gained     func(shard string, fence int64)                    // a lease is held from now on
	Released   func(shard string, fence int64, to string)         // given up at its last checkpoint; to is empty, or who got it
	Lost       func(shard string, fence int64, err error)         // somebody else has it, or the worker was fenced
	Ended      func(shard string, fence int64, children []Shard)  // the shard is finished for ever
	Gone       func(shard string, checkpoint string)              // its source has forgotten the shard; unless at ShardEnd, data were lost
	Failed     func(shard string, err error, again time.Duration) // Consume failed, and is called again after this pause
	Trouble    func(op string, err error)                         // the table or the listing did not answer as it should; it goes on
}

// ErrLost is what Save and End return when the lease belongs to somebody else, or the worker has been fenced. It is also the
// cause of Consume's context. Nothing was stored, and nothing may be acknowledged any more.
var ErrLost = errors.New("the lease is lost")

// Fatal marks an error of Consume that no repeat heals: Run drains and hands over everything, and returns err.
func Fatal(err error) error { return &fatal{err} }

type fatal struct{ err error }

// IsFatal reports whether err is, or wraps, one that Fatal has marked.
func IsFatal(err error) bool {
	f := (*fatal)(nil)
	return errors.As(err, &f)
}

func (f *fatal) Error() string { return f.err.Error() }
func (f *fatal) Unwrap() error { return f.err }
