package lease

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"
)

// Held is a lease that this worker holds. A Consume must do the following:
//
//   - Confirm before anything else. Then start after Progress().Checkpoint, and fetch its Holes. The holes are all there is to do if the
//     checkpoint is ShardEnd.
//   - Begin no record with a key of Ahead.
//   - When its context ends: return at once and acknowledge nothing more. It may still try, with another context, to Save what it
//     has acknowledged before; this works unless the lease is lost. If it does not return within a second, the lease is given up,
//     and Consume may be called for the shard again, at a later fence, while it runs.
//   - When Stop is closed: fetch nothing more, finish what has begun, Save, and return nil. The lease then goes to the worker
//     that wants it, at the last saved checkpoint. If this takes longer than Config.Drain, the context ends.
//   - When the shard is read to its end, and all of it acknowledged but some holes: End. When the holes are acknowledged: End without
//     holes, and return nil.
//
// A Held is safe for concurrent use.
type Held struct {
	life  *life
	shard Shard
	fence int64
	lose  context.CancelCauseFunc // ends Consume's context
	stop  chan struct{}

	returned chan struct{} // closed when no Consume runs any more
	overdue  chan struct{} // closed when a Consume should have returned and has not

	saving sync.Mutex // one write at a time, so that a later number means later progress
	n      int64

	mu       sync.Mutex
	progress Progress
	want     string // the worker that asked for the lease, as last seen
	stopped  bool
	lost     error           // why the lease is not ours any more
	children []Shard         // told to End
	ended    bool            // the row says ShardEnd
	last     *heldWrite      // the last write, until its answer is certain
	over     bool            // the shard is finished
	leaving  bool            // no Consume runs any more, Release is under way
	failing  bool            // reading has failed, and pauses before the next attempt
	unseen   bool            // the last view has lacked the row
	ahead    map[uint64]bool // see Ahead
	news     chan struct{}   // closed when ahead changes
}

// heldWrite is a write of progress. It may be repeated.
type heldWrite struct {
	op    string
	call  func(context.Context) error
	ends  bool // the row says ShardEnd afterwards
	final bool // the shard is finished afterwards
}

func newHeld(l *life, row Lease, lose context.CancelCauseFunc, ahead map[uint64]bool) *Held {
	return &Held{life: l, shard: row.Shard, fence: row.Fence, lose: lose, stop: make(chan struct{}), returned: make(chan struct{}), overdue: make(chan struct{}), n: row.N, progress: row.Progress, want: row.Want,
		ended: row.ended(), ahead: ahead, news: make(chan struct{})}
}

// Shard returns the shard with its lineage.
func (h *Held) Shard() Shard { return h.shard }

// Fence is higher than the fence of every earlier owner of the shard.
func (h *Held) Fence() int64 { return h.fence }

// Worker is the name under which the lease is held.
func (h *Held) Worker() string { return h.life.id }

// Progress is what this owner last passed to Save. Before the first Save it is what the previous owner stored.
func (h *Held) Progress() Progress {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.progress.clone()
}

// Ahead returns the keys of the unfinished records in the shards that this one continues, and in those that they continue. Records with such
// a key must not be begun. changed is closed when other keys are returned. The map must not be changed.
func (h *Held) Ahead() (keys map[uint64]bool, changed <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ahead, h.news
}

// Stop is closed when the lease is to be given up in good order.
func (h *Held) Stop() <-chan struct{} { return h.stop }

// Reading tells what a request came to that reading the shard needs, to its source or to another service: nil after an answer. A worker
// that gets no answers for long leaves the shard to others. Consume calls it after each request but those that were throttled.
func (h *Held) Reading(err error) { h.life.health.reading(h, err) }

// Failed tells that the shard cannot be read, for the nth time in a row, and waits until it may be tried again. It returns early when
// Stop is closed, and with ctx's cause when ctx ends. A Consume calls it to go on by itself, while handlers of the shard run; if it
// returns the error instead, it is called again only after the last of them.
func (h *Held) Failed(ctx context.Context, err error, n int) error {
	cfg := h.life.cfg
	again := cfg.slow().Delay(n)
	h.Reading(err)
	if cfg.Hooks.Failed != nil {
		cfg.Hooks.Failed(h.shard.ID, err, again)
	}
	h.setFailing(true)
	timer := time.NewTimer(again)
	defer timer.Stop()
	select {
	case <-timer.C:
		h.setFailing(false)
		return nil
	case <-h.stop:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Save stores progress. It repeats failed writes until ctx ends, for Config.Duration at most. After ErrLost nothing may be
// acknowledged any more. After any other error nobody knows whether the progress is stored; saving the same or later progress
// again is right either way.
func (h *Held) Save(ctx context.Context, p Progress) error {
	if p.Checkpoint == "" {
		return errNoCheckpoint
	}
	h.saving.Lock()
	defer h.saving.Unlock()
	return h.save(ctx, p.clone())
}

func (h *Held) save(ctx context.Context, p Progress) error {
	h.n++
	n := h.n
	return h.send(ctx, p, &heldWrite{op: "Save", call: func(ctx context.Context) error { return h.life.cfg.Store.Save(ctx, h.key(), n, p) }})
}

// send makes a write. The progress is finished whether or not it gets stored. A reader that starts again from less, under the same lease,
// would move back a checkpoint that was stored without an answer.
func (h *Held) send(ctx context.Context, p Progress, w *heldWrite) error {
	h.mu.Lock()
	h.progress, h.last = p, w
	h.mu.Unlock()
	return h.repeat(ctx, w)
}

func (h *Held) repeat(ctx context.Context, w *heldWrite) error {
	err := h.write(ctx, w.op, w.call)
	if err == nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.last, h.ended, h.over = nil, h.ended || w.ends, h.over || w.final
		if w.ends {
			nudge(h.life.wake) // the children may be read
		}
	}
	return err
}

// Confirm repeats the last write if nobody knows whether it is stored. Otherwise a reader that begins anew could finish as many records as it
// may above a checkpoint that is not in the table, again and again. It fails like Save.
func (h *Held) Confirm(ctx context.Context) error {
	h.saving.Lock()
	defer h.saving.Unlock()
	h.mu.Lock()
	last := h.last
	h.mu.Unlock()
	if last == nil {
		return nil
	}
	return h.repeat(ctx, last)
}

// Fail makes the whole worker stop in good order, and Run return err, as a Fatal error of Consume does. It acts at once: every
// lease is to be given up, and Config.Drain counts from now on.
func (h *Held) Fail(err error) { h.life.fail(err) }

// End says that the shard is read to its end, and that all of it is finished but the holes. It creates the leases of the children, all or
// nothing. The lease is kept while there are holes; End without holes finishes the shard for ever. End repeats and fails like Save.
func (h *Held) End(ctx context.Context, holes map[string]Hole, children []Shard) error {
	h.saving.Lock()
	defer h.saving.Unlock()
	p := Progress{Checkpoint: ShardEnd, Holes: maps.Clone(holes)}
	h.mu.Lock()
	ended, before := h.ended, len(h.progress.Holes)
	if !ended {
		h.children = children
	}
	h.mu.Unlock()
	store := h.life.cfg.Store
	switch {
	case ended && len(holes) > 0:
		err := h.save(ctx, p)
		if err == nil && len(holes) < before {
			h.life.moved() // the shards after this one wait for fewer
		}
		return err
	case ended:
		return h.send(ctx, p, &heldWrite{op: "Finish", final: true, call: func(ctx context.Context) error { return store.Finish(ctx, h.key()) }})
	}
	h.n++
	n := h.n
	return h.send(ctx, p, &heldWrite{op: "End", ends: true, final: len(holes) == 0, call: func(ctx context.Context) error {
		return store.End(ctx, h.key(), n, p.Holes, children)
	}})
}

func (h *Held) write(ctx context.Context, op string, call func(context.Context) error) error {
	start := time.Now()
	for n := 1; ; n++ {
		if err := h.whyLost(); err != nil {
			return err
		}
		err := h.life.call(ctx, op, call)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, ErrRefused):
			h.drop(fmt.Errorf("%w: shard %s belongs to another worker", ErrLost, h.shard.ID))
			return h.whyLost()
		}
		if time.Since(start) >= h.life.cfg.Duration || !sleep(ctx, h.life.cfg.retry().Delay(n)) {
			if f := (*fatal)(nil); errors.As(err, &f) {
				return f.err // only Consume decides that the worker ends
			}
			return err
		}
	}
}

func (h *Held) key() Key { return Key{h.shard.ID, h.life.id, h.fence} }

// drop says that the lease is not ours any more, and ends Consume's context.
func (h *Held) drop(why error) {
	h.mu.Lock()
	if h.lost == nil {
		h.lost = why
	}
	h.mu.Unlock()
	h.lose(why)
}

func (h *Held) whyLost() error {
	h.mu.Lock()
	lost := h.lost
	h.mu.Unlock()
	h.life.mu.Lock()
	defer h.life.mu.Unlock()
	if lost == nil {
		lost = h.life.over
	}
	return lost
}

func (h *Held) isOverdue() bool {
	select {
	case <-h.overdue:
		return true
	default:
		return false
	}
}

func (h *Held) isFailing() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failing
}

func (h *Held) setFailing(failing bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failing = failing
}

// yield closes Stop. It may be called again.
func (h *Held) yield() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.stopped {
		h.stopped = true
		close(h.stop)
	}
}

func (h *Held) stopping() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.stopped
}

// compare takes in the lease's row in the table, and the keys of what is unfinished in its ancestors; ok is false if the view has
// no row. One view without the row proves nothing.
func (h *Held) compare(row Lease, ok bool, ahead map[uint64]bool) {
	h.mu.Lock()
	var why error
	again := h.unseen
	h.unseen = !ok
	switch {
	case !ok && !again:
	case h.leaving || h.over:
	case ok && row.Fence == h.fence && row.finished(): // our own End, whose answer is still on its way
	// A lower fence cannot come from an old view, because readers are started between two views. The row was deleted and made
	// anew.
	case !ok, row.Fence != h.fence, row.Owner != h.life.id:
		why = fmt.Errorf("%w: shard %s is at fence %d, owner %q; we had fence %d", ErrLost, h.shard.ID, row.Fence, row.Owner, h.fence)
	default:
		h.want = row.Want
		if !maps.Equal(h.ahead, ahead) {
			h.ahead = ahead
			close(h.news)
			h.news = make(chan struct{})
		}
	}
	h.mu.Unlock()
	if why != nil {
		h.drop(why)
	}
}
