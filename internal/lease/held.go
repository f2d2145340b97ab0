package lease

import "context"

// Held is a lease that this worker holds. A Consume must
//
//   - start after Progress().Checkpoint;
//   - return as soon as its context ends, without acknowledging anything more;
//   - when Stop is closed: fetch nothing more, finish what is under way, Save, and return nil. The lease then goes to who wants
//     it, at the last saved checkpoint;
//   - when the shard is finished and everything of it acknowledged: End, and return nil.
//
// It is safe for concurrent use.
type Held struct{}

// Shard returns the shard with its lineage.
func (h *Held) Shard() Shard { panic("todo") }

// Fence is higher than the fence of every earlier owner of the shard.
func (h *Held) Fence() int64 { panic("todo") }

// Progress is what was last saved, by this owner or the one before.
func (h *Held) Progress() Progress { panic("todo") }

// Stop is closed when the lease is to be given up in good order.
func (h *Held) Stop() <-chan struct{} { panic("todo") }

// Save stores progress. After ErrLost nothing may be acknowledged any more. After any other error nobody knows whether it is
// stored; saving the same or later progress again is right in both cases.
func (h *Held) Save(ctx context.Context, p Progress) error { panic("todo") }

// End finishes the shard for ever and creates the leases of its children, all or nothing. Errors are those of Save.
func (h *Held) End(ctx context.Context, children []Shard) error { panic("todo") }

// Run takes part until ctx ends, or until a Consume returns a Fatal error. Then it drains, hands over or releases every lease, and
// returns nil or that error. It returns only when no Consume runs.
func Run(ctx context.Context, cfg Config) error { panic("todo") }
