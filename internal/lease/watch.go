package lease

import "time"

// watch judges by this process's own monotonic clock who is alive. One goroutine at a time uses it.
type watch struct {
	limit  time.Duration
	seen   map[string]sighting
	dead   map[string]time.Time // since when the row of a dead worker has been seen
	viewed bool                 // the table has been seen
	unrest time.Time            // when leases began to move; zero while they rest
}

type sighting struct {
	beat  int64 // -1: the worker owns leases and has no row
	since time.Time
	limit time.Duration
}

func newWatch(duration time.Duration) *watch {
	return &watch{limit: patience(duration), seen: map[string]sighting{}, dead: map[string]time.Time{}}
}

// patience is a little longer than the watched worker allows itself. The margin is for clocks that run differently fast, and for
// handlers that take time to notice the end of their context.
func patience(duration time.Duration) time.Duration { return duration + duration/32 }

// see takes in a view, or a look with the leases of the last view. It returns the time until the next worker will have been silent for too long.
func (w *watch) see(v View, me string, now time.Time) time.Duration {
	beats, limits, dead := map[string]int64{}, map[string]time.Duration{}, map[string]time.Time{}
	for _, l := range v.Leases {
		if l.Owner != "" {
			beats[l.Owner] = -1
		}
	}
	for _, worker := range v.Workers {
		if worker.Dead {
			delete(beats, worker.ID)
			since, ok := w.dead[worker.ID]
			if !ok {
				since = now
			}
			dead[worker.ID] = since
			continue
		}
		beats[worker.ID] = worker.Beat
		limits[worker.ID] = patience(worker.Duration) // the worker may have been given another duration than this one
	}
	delete(beats, me)
	seen := make(map[string]sighting, len(beats))
	next := w.limit
	for id, beat := range beats {
		at, ok := w.seen[id]
		// A look may show an earlier beat than the one before.
		if !ok || at.beat < beat || beat == -1 && at.beat != -1 {
			at = sighting{beat, now, max(w.limit, limits[id])}
		}
		seen[id] = at
		if left := at.limit - now.Sub(at.since); left > 0 {
			next = min(next, left)
		}
	}
	w.seen, w.dead = seen, dead
	return next
}

// lately returns the workers that have not been dead for long. Another worker, whose view is older, may still hand a lease over to them.
func (w *watch) lately(now time.Time) map[string]bool {
	lately := map[string]bool{}
	for id, since := range w.dead {
		if now.Sub(since) < w.limit {
			lately[id] = true
		}
	}
	return lately
}

func (w *watch) suspects(now time.Time) map[string]bool {
	suspects := map[string]bool{}
	for id, at := range w.seen {
		if now.Sub(at.since) >= at.limit {
			suspects[id] = true
		}
	}
	return suspects
}

// moving reports whether looking often is worth it. It is not for longer than the limit, because a handler may take its time.
func (w *watch) moving(moving bool, now time.Time) bool {
	if !moving {
		w.unrest = time.Time{}
		return false
	}
	if w.unrest.IsZero() {
		w.unrest = now
	}
	return now.Sub(w.unrest) < w.limit
}
