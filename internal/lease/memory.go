package lease

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// Memory is a Store in memory, for a single process and for tests. It ends with the process. The zero value is ready for use.
type Memory struct {
	mu      sync.Mutex
	begun   string
	leases  map[string]*Lease
	workers map[string]*Worker
	gone    []departure // in the order of time
}

// departure says when a shard was marked gone.
type departure struct {
	shard string
	at    time.Time
}

// Rows of shards that the source has forgotten stay for a while, so that a worker whose listing is older does not make the shard
// new. Nobody else deletes them, and a listing that old is no listing any more.
const (
	goneFor  = 6 * time.Hour
	goneMost = 1000
)

var _ Store = (*Memory)(nil)

func (m *Memory) lock() (unlock func()) {
	m.mu.Lock()
	if m.leases == nil {
		m.leases, m.workers = map[string]*Lease{}, map[string]*Worker{}
	}
	return m.mu.Unlock
}

// clone shares with the row only what is never changed in place: the parents, the attempts and the holes.
func (l *Lease) clone() Lease { return *l }

// View implements Store.
func (m *Memory) View(ctx context.Context) (View, error) {
	if err := ctx.Err(); err != nil {
		return View{}, err
	}
	defer m.lock()()
	var v View
	for _, l := range m.leases {
		v.Leases = append(v.Leases, l.clone())
	}
	slices.SortFunc(v.Leases, func(a, b Lease) int { return cmp.Compare(a.ID, b.ID) })
	v.Workers = m.all()
	return v, nil
}

// Look implements Store. Its answer is never out of date.
func (m *Memory) Look(ctx context.Context) ([]Worker, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	defer m.lock()()
	return m.all(), nil
}

// all returns the workers' rows by name.
func (m *Memory) all() (all []Worker) {
	for _, w := range m.workers {
		all = append(all, *w)
	}
	slices.SortFunc(all, func(a, b Worker) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// Register implements Store.
func (m *Memory) Register(ctx context.Context, worker string, duration time.Duration) error {
	return m.write(ctx, func() bool {
		w := m.workers[worker]
		if w == nil {
			m.workers[worker] = &Worker{ID: worker, Moves: 1, Duration: duration}
			return true
		}
		return w.Beat == 0 && !w.Dead
	})
}

// Beat implements Store.
func (m *Memory) Beat(ctx context.Context, now Worker) error {
	return m.write(ctx, func() bool {
		w := m.workers[now.ID]
		if w == nil || w.Dead {
			return false
		}
		if w.Beat < now.Beat { // a late copy of an earlier beat must not look like life, nor set the beat back
			w.Beat, w.Moves, w.Draining, w.Unable, w.Refuses, w.Version = now.Beat, now.Moves, now.Draining, now.Unable, slices.Clone(now.Refuses), now.Version
		}
		return true
	})
}

// MarkDead implements Store.
func (m *Memory) MarkDead(ctx context.Context, worker string, seen int64) error {
	return m.write(ctx, func() bool {
		w := m.workers[worker]
		switch {
		case w == nil:
			return false
		case w.Beat == seen:
			w.Dead = true
		}
		return w.Dead
	})
}

// Retire implements Store.
func (m *Memory) Retire(ctx context.Context, worker string) error {
	return m.write(ctx, func() bool {
		if w := m.workers[worker]; w != nil {
			w.Dead = true
		}
		return true
	})
}

// ForgetWorker implements Store.
func (m *Memory) ForgetWorker(ctx context.Context, worker string) error {
	return m.write(ctx, func() bool {
		w := m.workers[worker]
		if w != nil && w.Dead {
			delete(m.workers, worker)
		}
		return w == nil || w.Dead
	})
}

// Begin implements Store.
func (m *Memory) Begin(ctx context.Context, position string) (string, error) {
	err := m.write(ctx, func() bool {
		m.begun = cmp.Or(m.begun, position)
		position = m.begun
		return true
	})
	return position, err
}

// Ensure implements Store.
func (m *Memory) Ensure(ctx context.Context, shard Shard, position string) error {
	return m.write(ctx, func() bool {
		m.ensure(shard, position)
		return true
	})
}

func (m *Memory) ensure(shard Shard, position string) {
	if m.leases[shard.ID] == nil {
		shard.Parents, shard.Open = slices.Clone(shard.Parents), false
		m.leases[shard.ID] = &Lease{Shard: shard, Progress: Progress{Checkpoint: position}}
	}
}

// Acquire implements Store.
func (m *Memory) Acquire(ctx context.Context, seen Lease, worker string) (Lease, error) {
	var now Lease
	err := m.write(ctx, func() bool {
		l := m.leases[seen.ID]
		if l == nil || l.Gone {
			return false
		}
		if l.Key() == seen.Key() && !l.finished() {
			l.Owner, l.Fence, l.N, l.Want = worker, l.Fence+1, 0, ""
		}
		now = l.clone()
		return l.Owner == worker && l.Fence == seen.Fence+1
	})
	return now, err
}

// Want implements Store.
func (m *Memory) Want(ctx context.Context, seen Lease, worker string) error {
	return m.write(ctx, func() bool {
		l := m.leases[seen.ID]
		if l == nil || l.Key() != seen.Key() || l.Owner == "" {
			return false
		}
		if l.Want == seen.Want {
			l.Want = worker
		}
		return l.Want == worker
	})
}

// Save implements Store.
func (m *Memory) Save(ctx context.Context, key Key, n int64, p Progress) error {
	return m.write(ctx, func() bool {
		l := m.leases[key.Shard]
		if l == nil || l.Key() != key || key.Owner == "" || l.N > n {
			return false
		}
		l.N, l.Progress = n, p.clone()
		return true
	})
}

// Release implements Store.
func (m *Memory) Release(ctx context.Context, key Key, to string) error {
	return m.write(ctx, func() bool {
		l := m.leases[key.Shard]
		if l == nil {
			return false
		}
		if l.Key() == key && key.Owner != "" {
			l.Owner, l.Want, l.N = to, "", 0
			if to != "" {
				l.Fence++
			}
			return true
		}
		return l.Owner == to && (to == "" && l.Fence == key.Fence || to != "" && l.Fence == key.Fence+1)
	})
}

// End implements Store.
func (m *Memory) End(ctx context.Context, key Key, n int64, holes map[string]Hole, children []Shard) error {
	return m.write(ctx, func() bool {
		l := m.leases[key.Shard]
		if l == nil {
			return false
		}
		if l.Key() != key || key.Owner == "" || l.N > n {
			return l.ended() && l.Fence == key.Fence
		}
		if l.Last == "" { // otherwise a repeat
			l.Last = l.Checkpoint
		}
		l.N, l.Progress = n, Progress{Checkpoint: ShardEnd, Holes: holes}.clone()
		if len(holes) == 0 {
			l.Owner, l.Want = "", ""
		}
		for _, c := range children {
			m.ensure(c, TrimHorizon)
		}
		return true
	})
}

// Finish implements Store.
func (m *Memory) Finish(ctx context.Context, key Key) error {
	return m.write(ctx, func() bool {
		l := m.leases[key.Shard]
		switch {
		case l == nil || !l.ended() || key.Owner == "":
			return false
		case l.Key() != key:
			return l.finished() && l.Fence == key.Fence
		}
		l.Owner, l.Want, l.Progress = "", "", Progress{Checkpoint: ShardEnd}
		return true
	})
}

// Miss implements Store.
func (m *Memory) Miss(ctx context.Context, seen Lease, worker string) error {
	return m.write(ctx, func() bool {
		l := m.leases[seen.ID]
		if l == nil || l.Gone || l.Key() != seen.Key() {
			return false
		}
		if l.Missing == seen.Missing {
			l.Missing = worker
		}
		return l.Missing == worker
	})
}

// Gone implements Store.
func (m *Memory) Gone(ctx context.Context, seen Lease) error {
	return m.write(ctx, func() bool {
		l := m.leases[seen.ID]
		switch {
		case l == nil:
			return false
		case l.Gone:
			return true
		case l.Key() != seen.Key() || l.Missing == "" || l.Missing != seen.Missing:
			return false
		}
		l.Owner, l.Want, l.Gone = "", "", true
		m.gone = append(slices.DeleteFunc(m.gone, func(d departure) bool { return d.shard == l.ID }), departure{l.ID, time.Now()})
		m.forget()
		return true
	})
}

// Revive implements Store.
func (m *Memory) Revive(ctx context.Context, seen Lease) error {
	return m.write(ctx, func() bool {
		l := m.leases[seen.ID]
		if l == nil || l.Fence != seen.Fence {
			return false
		}
		l.Gone, l.Missing = false, ""
		m.gone = slices.DeleteFunc(m.gone, func(d departure) bool { return d.shard == seen.ID })
		return true
	})
}

// Reopen implements Store.
func (m *Memory) Reopen(ctx context.Context, seen Lease) error {
	return m.write(ctx, func() bool {
		l := m.leases[seen.ID]
		if l == nil || l.Fence != seen.Fence || l.Owner != "" {
			return false
		}
		if l.Checkpoint == ShardEnd {
			l.Checkpoint, l.Last = cmp.Or(l.Last, TrimHorizon), ""
		}
		return true
	})
}

// forget deletes rows of shards that have been gone for long, and the oldest if there are too many.
func (m *Memory) forget() {
	for len(m.gone) > goneMost || len(m.gone) > 0 && time.Since(m.gone[0].at) >= goneFor {
		if l := m.leases[m.gone[0].shard]; l != nil && l.Gone {
			delete(m.leases, l.ID)
		}
		m.gone = m.gone[1:]
	}
}

func (m *Memory) write(ctx context.Context, apply func() bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	defer m.lock()()
	if !apply() {
		return ErrRefused
	}
	return nil
}
