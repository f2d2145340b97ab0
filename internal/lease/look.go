package lease

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"
)

// rest is what a worker keeps of the view in which nothing was left to do. While it rests, it looks at the workers' rows only.
type rest struct {
	view  View
	rows  map[string]Worker // the workers of the view
	owns  map[string]bool   // workers that have leases in the view
	until time.Time         // then it takes a view in any case: a row can be changed by hand
}

// viewEvery is how long a worker rests at least without a view. Listings, too, are followed by a view.
const viewEvery = time.Minute

func newRest(v View, now time.Time) *rest {
	r := &rest{view: v, rows: make(map[string]Worker, len(v.Workers)), owns: map[string]bool{}, until: now.Add(viewEvery + rand.N(viewEvery/2))}
	for _, w := range v.Workers {
		r.rows[w.ID] = w
	}
	for _, l := range v.Leases {
		r.owns[l.Owner] = true
	}
	return r
}

// stirred reports whether the workers' rows, as a look has found them, say that something has changed since the view which others
// plan by. A look may be older than the view. So only steps forward count; a step is final, and the next look shows it.
func (r *rest) stirred(looked []Worker, me string) bool {
	missing := make(map[string]bool, len(r.rows))
	for id, w := range r.rows {
		missing[id] = !w.Dead || r.owns[id]
	}
	for _, w := range looked {
		was, known := r.rows[w.ID]
		delete(missing, w.ID)
		switch {
		case w.ID == me:
			// What this worker has changed, it knows, but for what it has said of itself: its view may be older.
			if w.Unable != was.Unable || !slices.Equal(w.Refuses, was.Refuses) {
				return true
			}
		case w.Dead && known && was.Dead:
		case !known, w.Dead, w.Draining && !was.Draining, w.Beat > 0 && was.Beat == 0:
			return true // it plans something else, or is planned for
		case w.Moves > was.Moves:
			return true
		}
	}
	for _, counts := range missing {
		if counts {
			return true
		}
	}
	return false
}

// look is a tick while nothing moves. It returns false if a view is needed.
func (l *life) look(alive context.Context) (wait time.Duration, calm bool) {
	l.mu.Lock()
	stirred := l.stirred || l.draining
	l.mu.Unlock()
	now := time.Now()
	if l.calm == nil || stirred || !now.Before(l.calm.until) {
		return 0, false
	}
	var looked []Worker
	err := l.call(alive, "Look", func(ctx context.Context) (err error) {
		looked, err = l.cfg.Store.Look(ctx)
		return err
	})
	l.looked(err)
	pace := l.pace(len(l.calm.view.Workers))
	if err != nil {
		l.calm = nil // the next tick takes a view, whose failures count
		return pace, true
	}
	if l.calm.stirred(looked, l.id) {
		return 0, false
	}
	now = time.Now() // count from when the answer came, as after a view
	v := View{Leases: l.calm.view.Leases, Workers: looked}
	wait = min(pace, l.watch.see(v, l.id, now))
	if len(l.watch.suspects(now)) > 0 {
		return 0, false
	}
	l.list.due(alive, l, v, now)
	return wait, true
}

// looked takes in whether the table may be looked at. Throttling and an outage begin no blindness: they pass, and the heartbeats tell of an
// outage. Only an answer ends it.
func (l *life) looked(err error) {
	l.health.look(err)
	switch {
	case err == nil:
		l.blind = time.Time{}
	case IsLasting(err) && l.blind.IsZero():
		l.blind = time.Now()
	}
}

// pace is the time between two looks. Each worker looks at the rows of all, so the units grow with the square of their number. In
// a large fleet a look may come later, because the first of many that notices a death tells the others.
func (l *life) pace(workers int) time.Duration {
	const many = 50
	return min(2*l.cfg.Tick, max(l.cfg.Tick, l.cfg.Tick*time.Duration(workers)/many))
}

// told notes what an operation of the store means for plans. A refusal says that the view was old. After an error nobody knows
// whether the row has changed, so it counts as a change.
func (l *life) told(op string, err error) {
	switch op {
	case "View", "Look", "Register", "Beat", "Retire", "ForgetWorker", "Save":
		return // nobody plans by what it changes, or a look sees it
	}
	if op == "MarkDead" || errors.Is(err, ErrRefused) { // a look sees the mark
		l.mu.Lock()
		defer l.mu.Unlock()
		l.stirred = true
		return
	}
	l.moved()
}

// moved tells the other workers, with a beat, that something has changed which they plan by.
func (l *life) moved() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.moves++
	l.stirred = true
	nudge(l.kick)
}

// row is the worker's row with the nth beat.
func (l *life) row(beat int64) Worker {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Worker{ID: l.id, Beat: beat, Moves: l.moves, Draining: l.draining, Unable: l.unable, Refuses: l.refuses, Version: l.cfg.Version}
}

// settle ends a tick with a view: the worker rests if nothing is left to do. When it begins to rest, it tells the others once more:
// a request may have been carried out long after it was sent, when they had looked. So they see all that this worker has seen.
func (l *life) settle(v View, moving bool, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	busy := moving || l.stirred
	if l.busy && !busy {
		l.moves++
		nudge(l.kick)
	}
	l.busy = busy
	// A worker of an old release does not tell what it changes.
	mute := slices.ContainsFunc(v.Workers, func(w Worker) bool { return w.Moves == 0 && !w.Dead })
	if !busy && !mute && !l.draining && !l.list.passed {
		l.calm = newRest(v, now)
	}
}
