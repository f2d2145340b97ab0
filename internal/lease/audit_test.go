package lease

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"
)

// audit is the one table of a simulation. It applies the writes of all workers one after the other, and checks each change of a
// row against the invariants. A bug can be planted in it.
type audit struct {
	mem  Memory
	bug  string
	sim  *sim
	mu   sync.Mutex // one write at a time
	dead map[string]bool
	gone map[string]bool // workers that have retired by themselves
	// seized counts the leases taken from workers that had not retired.
	seized int
	beat   map[string]time.Time // when a worker's last beat was applied
	full   bool                 // all hash keys have been covered once
	past   []pastWorkers        // the workers' rows of the last second, for looks that are out of date
}

// pastWorkers are the workers' rows as they were until a time.
type pastWorkers struct {
	until time.Time
	rows  []Worker
}

type rows struct {
	leases  map[string]Lease
	workers map[string]Worker
}

func (a *audit) rows() rows {
	defer a.mem.lock()()
	r := rows{make(map[string]Lease, len(a.mem.leases)), make(map[string]Worker, len(a.mem.workers))}
	for id, l := range a.mem.leases {
		r.leases[id] = l.clone()
	}
	for id, w := range a.mem.workers {
		r.workers[id] = *w
	}
	return r
}

// write is one write of actor to the table.
func (a *audit) write(op, actor string, f func() error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := a.rows()
	err := f()
	after := a.rows()
	a.keep(before)
	for id, now := range after.workers {
		was, ok := before.workers[id]
		if now.Dead && !a.dead[id] {
			if silent := time.Since(a.beat[id]); op == "MarkDead" && silent < simDuration {
				a.sim.violation("I15: %s was marked dead %v after its last beat", id, silent)
			}
			a.dead[id], a.gone[id] = true, op == "Retire" || was.Draining
		}
		if now.Beat != was.Beat || !ok {
			a.beat[id] = time.Now()
			if was.Dead || now.Beat < was.Beat {
				a.sim.violation("I15: a beat of %s was accepted: %+v -> %+v", id, was, now)
			}
		}
	}
	for id, now := range after.leases {
		if was, ok := before.leases[id]; ok {
			a.change(op, actor, was, now)
		}
	}
	a.coverage(after)
	return err
}

// keep remembers the workers' rows before a write.
func (a *audit) keep(r rows) {
	for len(a.past) > 0 && time.Since(a.past[0].until) > time.Second {
		a.past = a.past[1:]
	}
	p := pastWorkers{time.Now(), nil}
	for _, id := range slices.Sorted(maps.Keys(r.workers)) {
		p.rows = append(p.rows, r.workers[id])
	}
	a.past = append(a.past, p)
}

// lookBack is a look that is out of date by so much, as an eventually consistent read may be.
func (a *audit) lookBack(ctx context.Context, old time.Duration) ([]Worker, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.past {
		if time.Since(p.until) < old {
			return p.rows, nil
		}
	}
	return a.mem.Look(ctx)
}

func (a *audit) change(op, actor string, was, now Lease) {
	bad := func(invariant, why string) {
		a.sim.violation("%s: %s: %s by %s: %+v -> %+v", invariant, why, op, actor, was, now)
	}
	changed := now.Owner != was.Owner
	switch {
	case changed && now.Owner != "" && now.Fence != was.Fence+1, (!changed || now.Owner == "") && now.Fence != was.Fence:
		bad("I1", "owner and fence do not change together")
	case changed && was.Owner != "" && !a.dead[was.Owner] && actor != was.Owner:
		bad("I15", "taken from a living owner")
	case changed && was.Owner != "" && !a.dead[was.Owner] && op != "Release" && op != "End" && op != "Finish" && op != "Gone":
		bad("I15", "changed hands neither released nor handed over")
	}
	if changed && was.Owner != "" && actor != was.Owner && !a.gone[was.Owner] {
		a.seized++
	}
	if now.Checkpoint == was.Checkpoint || op == "Reopen" {
		return
	}
	if actor != was.Owner || was.Owner == "" {
		bad("I1", "a checkpoint of one who is not the owner")
	}
	from, to := position(was.Checkpoint), position(now.Checkpoint)
	if to < from {
		bad("I2", "the checkpoint went back")
	}
	if unacked := a.sim.unacked(now.ID, to); unacked >= 0 {
		bad("I2", fmt.Sprintf("the checkpoint passed record %d, which nobody has handled", unacked))
	}
}

// coverage checks that every hash key belongs to a shard that is not finished.
func (a *audit) coverage(r rows) {
	var covered [simRange]bool
	for _, l := range r.leases {
		if l.Checkpoint == ShardEnd || l.Gone {
			continue
		}
		lo, _ := strconv.Atoi(l.HashLo)
		hi, _ := strconv.Atoi(l.HashHi)
		for i := lo; i <= hi; i++ {
			covered[i] = true
		}
	}
	for i, ok := range covered {
		if !ok {
			if a.full {
				a.sim.violation("I4: hash key %d belongs to no unfinished shard", i)
			}
			return
		}
	}
	a.full = true
}

// The rest makes audit a Store.

func (a *audit) View(ctx context.Context) (View, error) {
	v, err := a.mem.View(ctx)
	if a.bug == "child before parent" {
		for i := range v.Leases {
			v.Leases[i].Parents = nil
		}
	}
	return v, err
}

func (a *audit) Look(ctx context.Context) ([]Worker, error) { return a.lookBack(ctx, 0) }

func (a *audit) Begin(ctx context.Context, position string) (begun string, err error) {
	err = a.write("Begin", "", func() error {
		begun, err = a.mem.Begin(ctx, position)
		return err
	})
	return begun, err
}

func (a *audit) Register(ctx context.Context, worker string, duration time.Duration) error {
	return a.write("Register", worker, func() error { return a.mem.Register(ctx, worker, duration) })
}

func (a *audit) Beat(ctx context.Context, now Worker) error {
	return a.write("Beat", now.ID, func() error {
		w := a.mem.workers[now.ID]
		switch {
		case a.bug == "beat of the dead" && w != nil && w.Dead, a.bug == "beat goes back" && w != nil && !w.Dead:
			w.Beat = now.Beat
			return nil
		case a.bug == "nobody is told of changes":
			now.Moves = 1
		case a.bug == "nobody is unable":
			now.Unable, now.Refuses = false, nil
		}
		return a.mem.Beat(ctx, now)
	})
}

func (a *audit) MarkDead(ctx context.Context, worker string, seen int64) error {
	return a.write("MarkDead", "", func() error {
		switch w := a.mem.workers[worker]; {
		case a.bug == "takeover without the mark":
			return nil
		case a.bug == "mark ignores the beat" && w != nil:
			seen = w.Beat
		}
		return a.mem.MarkDead(ctx, worker, seen)
	})
}

func (a *audit) Retire(ctx context.Context, worker string) error {
	return a.write("Retire", worker, func() error { return a.mem.Retire(ctx, worker) })
}

func (a *audit) ForgetWorker(ctx context.Context, worker string) error {
	return a.write("ForgetWorker", "", func() error { return a.mem.ForgetWorker(ctx, worker) })
}

func (a *audit) Ensure(ctx context.Context, shard Shard, position string) error {
	return a.write("Ensure", "", func() error { return a.mem.Ensure(ctx, shard, position) })
}

func (a *audit) Acquire(ctx context.Context, seen Lease, worker string) (now Lease, err error) {
	err = a.write("Acquire", worker, func() error {
		if l := a.mem.leases[seen.ID]; a.bug == "acquire ignores the fence" && l != nil && l.Checkpoint != ShardEnd {
			seen = l.clone()
		}
		now, err = a.mem.Acquire(ctx, seen, worker)
		return err
	})
	return now, err
}

func (a *audit) Want(ctx context.Context, seen Lease, worker string) error {
	return a.write("Want", worker, func() error {
		if a.bug == "want is ignored" {
			return nil
		}
		return a.mem.Want(ctx, seen, worker)
	})
}

func (a *audit) Save(ctx context.Context, key Key, n int64, p Progress) error {
	return a.write("Save", key.Owner, func() error {
		switch l := a.mem.leases[key.Shard]; {
		case a.bug == "unfenced save" && l.Checkpoint != ShardEnd:
			l.Progress = p
			return nil
		case a.bug == "save ignores the owner" && l.Fence == key.Fence && l.Checkpoint != ShardEnd:
			l.Progress = p
			return nil
		case a.bug == "n is not checked" && l.Key() == key:
			n = max(n, l.N)
		}
		return a.mem.Save(ctx, key, n, p)
	})
}

func (a *audit) Release(ctx context.Context, key Key, to string) error {
	return a.write("Release", key.Owner, func() error {
		if l := a.mem.leases[key.Shard]; a.bug == "unfenced release" && l.Owner != "" {
			key = l.Key()
		}
		return a.mem.Release(ctx, key, to)
	})
}

func (a *audit) End(ctx context.Context, key Key, n int64, holes map[string]Hole, children []Shard) error {
	return a.write("End", key.Owner, func() error {
		switch a.bug {
		case "end is not one transaction": // the second half of the transaction is late
			children = nil
		case "children start at the end":
			for _, c := range children {
				a.mem.ensure(c, strconv.Itoa(a.sim.published(c.ID)))
			}
		}
		return a.mem.End(ctx, key, n, holes, children)
	})
}

func (a *audit) Finish(ctx context.Context, key Key) error {
	return a.write("Finish", key.Owner, func() error { return a.mem.Finish(ctx, key) })
}

func (a *audit) Miss(ctx context.Context, seen Lease, worker string) error {
	return a.write("Miss", worker, func() error { return a.mem.Miss(ctx, seen, worker) })
}

func (a *audit) Gone(ctx context.Context, seen Lease) error {
	return a.write("Gone", seen.Owner, func() error { return a.mem.Gone(ctx, seen) })
}

func (a *audit) Revive(ctx context.Context, seen Lease) error {
	return a.write("Revive", "", func() error { return a.mem.Revive(ctx, seen) })
}

func (a *audit) Reopen(ctx context.Context, seen Lease) error {
	return a.write("Reopen", "", func() error { return a.mem.Reopen(ctx, seen) })
}

// position is a checkpoint as the number of finished records.
func position(checkpoint string) int {
	switch checkpoint {
	case TrimHorizon:
		return 0
	case ShardEnd:
		return 1 << 30
	}
	n, err := strconv.Atoi(checkpoint)
	if err != nil {
		panic(err)
	}
	return n
}
