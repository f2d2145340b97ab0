package lease

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"
)

// ErrRefused says that a condition did not hold: neither this write nor an earlier copy of it was applied. After any other error
// of a Store nobody knows whether the write was applied.
var ErrRefused = errors.New("the row is not as expected")

// Store is the table of one group and one stream. Every method but View and Look is one conditional write, and may be repeated. It returns
// nil if the row is as the write wanted it, whether this call or an earlier copy did it. A late copy of a write, arriving after
// its caller gave up, must not change what newer writes have changed.
//
// A Store is safe for concurrent use.
type Store interface {
	// View reads everything, consistently, leases before workers. So the owner of a lease in the view was registered before the
	// workers were read.
	View(ctx context.Context) (View, error)
	// Look reads the workers only. The answer may be a little out of date, and differently for each row: a row may be as it was
	// before its last writes, or missing though it has just been made, or still there though it has just been deleted.
	Look(ctx context.Context) ([]Worker, error)

	// Register creates the worker's row with beat 0, moves 1, and how long the worker's leases last. It is refused if the row
	// has a beat or is dead.
	Register(ctx context.Context, worker string, duration time.Duration) error
	// Beat sets the beat of the worker w.ID, with its Moves, Draining, Unable, Refuses and Version, if this is a step forward. It is refused if
	// the row is missing or dead.
	Beat(ctx context.Context, w Worker) error
	// MarkDead marks a worker dead if its beat is still the one seen. It is refused if the row is missing: the view is then old,
	// and a worker whose row was deleted by hand may live without knowing it.
	MarkDead(ctx context.Context, worker string, seen int64) error
	// Retire marks a worker dead, whatever its beat. Only the worker itself may do so, when nothing of it runs any more.
	Retire(ctx context.Context, worker string) error
	// ForgetWorker deletes the row of a dead worker.
	ForgetWorker(ctx context.Context, worker string) error

	// Begin stores the position at which the group begins the stream, unless a position is stored. It returns the stored one.
	Begin(ctx context.Context, position string) (string, error)
	// Ensure creates the lease of a shard at a position, without an owner, unless the lease exists.
	Ensure(ctx context.Context, shard Shard, position string) error
	// Acquire makes worker the owner and steps the fence, if owner and fence are still as seen. It returns the new row.
	Acquire(ctx context.Context, seen Lease, worker string) (Lease, error)
	// Want asks the owner for the lease, if owner, fence and want are still as seen.
	Want(ctx context.Context, seen Lease, worker string) error
	// Save stores progress as the nth write under this key's fence. It is refused if a write with a higher number is stored. The
	// checkpoint of an ended shard stays ShardEnd.
	Save(ctx context.Context, key Key, n int64, p Progress) error
	// Release makes to the owner and steps the fence. If to is empty, it removes the owner.
	Release(ctx context.Context, key Key, to string) error
	// End keeps the checkpoint as Last, sets it to ShardEnd, and creates the missing leases of the children at TrimHorizon, all in one
	// transaction, as the nth write under this key's fence. With holes it stores them, and the owner keeps the lease; without, it
	// removes the owner. It is written once for a shard.
	End(ctx context.Context, key Key, n int64, holes map[string]Hole, children []Shard) error
	// Finish removes the holes and the owner of an ended shard.
	Finish(ctx context.Context, key Key) error
	// Miss stores that worker does not find the shard in its source any more, if owner, fence and the worker that missed it
	// before are still as seen.
	Miss(ctx context.Context, seen Lease, worker string) error
	// Gone marks the lease of a shard that its source has forgotten, removes its owner, and lets the row expire later, if owner,
	// fence and the worker that misses the shard are still as seen. A row that was deleted at once would let a late copy of Ensure
	// make the shard new again.
	Gone(ctx context.Context, seen Lease) error
	// Revive takes Miss and Gone back, if the fence is still as seen.
	Revive(ctx context.Context, seen Lease) error
	// Reopen takes an End back: the checkpoint is again what it was before, or TrimHorizon if the row does not say. It is refused
	// if the lease has an owner or another fence than seen.
	Reopen(ctx context.Context, seen Lease) error
}

// View is the table at one time.
type View struct {
	Leases  []Lease
	Workers []Worker
}

// Worker is a worker's row.
type Worker struct {
	ID       string
	Beat     int64
	Moves    int64         // steps when the worker has changed what others plan by; 0 if its release does not count this
	Duration time.Duration // how long its leases are its own after a beat, by its own word; 0 if its row does not say
	Dead     bool
	Draining bool
	Unable   bool     // it cannot list the stream, or reads no shard
	Refuses  []string // shards that it could not read, sorted; others should
	Version  string   // of its release, for people; empty if its row does not say
}

// Lease is a lease's row.
type Lease struct {
	Shard
	Owner   string // empty: no owner
	Fence   int64  // steps at every new owner, and only then
	N       int64  // number of the last write under this fence
	Want    string // the worker that asks the owner for the lease
	Gone    bool
	Missing string // the worker that has not found the shard in its source
	Last    string // the checkpoint before the end
	Progress
}

// ended reports whether the shard was read to its end. Its children may be read.
func (l Lease) ended() bool { return l.Checkpoint == ShardEnd }

// finished reports whether nothing is left to do for the shard.
func (l Lease) finished() bool { return l.ended() && len(l.Holes) == 0 }

// lostFrom is the position from which on something is lost if the source has forgotten the shard: ShardEnd if nothing is.
func (l Lease) lostFrom() string {
	if l.ended() && len(l.Holes) > 0 {
		return slices.MinFunc(slices.Collect(maps.Keys(l.Holes)), func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	}
	return l.Checkpoint
}

// Key names a lease while one worker owns it. Owner is empty if no worker does.
type Key struct {
	Shard string
	Owner string
	Fence int64
}

// Key returns the key of the lease as it is.
func (l Lease) Key() Key { return Key{l.ID, l.Owner, l.Fence} }
