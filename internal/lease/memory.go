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
}

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
	for _, w := range m.workers {
		v.Workers = append(v.Workers, *w)
	}
	slices.SortFunc(v.Leases, func(a, b Lease) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(v.Workers, func(a, b Worker) int { return cmp.Compare(a.ID, b.ID) })
	return v, nil
}

// Register implements Store.
func (m *Memory) Register(ctx context.Context, worker string, duration time.Duration) error {
	return m.write(ctx, func() bool {
		w := m.workers[worker]
		if w == nil {
			m.workers[worker] = &Worker{ID: worker, Duration: duration}
			return true
		}
		return w.Beat == 0 && !w.Dead
	})
}

// Beat implements Store.
func (m *Memory) Beat(ctx context.Context, worker string, beat int64, draining bool) error {
	return m.write(ctx, func() bool {
		w := m.workers[worker]
		if w == nil || w.Dead {
			return false
		}
		if w.Beat < beat { // a late copy of an earlier beat must not look like life, nor set the beat back
			w.Beat, w.Draining = beat, draining
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
		shard.Parents = slices.Clone(shard.Parents)
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

// Gone implements Store.
func (m *Memory) Gone(ctx context.Context, key Key) error {
	return m.write(ctx, func() bool {
		l := m.leases[key.Shard]
		if l == nil || l.Gone {
			return true
		}
		if l.Key() != key {
			return false
		}
		l.Owner, l.Want, l.Gone = "", "", true
		return true
	})
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
