package main

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/backoff"
	"github.com/seed-1b628d3f/outbox/internal/lease"
	"github.com/seed-1b628d3f/outbox/internal/lease/dynamostore"
)

// The states of a worker.
const (
	workerAlive    = "alive"    // a heartbeat has come while status looked
	workerDraining = "draining" // the same, and it is stopping
	workerSilent   = "silent"   // none has come, though one was due
	workerUnknown  = "unknown"  // none has come, and perhaps none was due
	workerDead     = "dead"     // another worker has found it dead, or it has stopped in good order
)

// workerStatus is how a worker does.
type workerStatus struct {
	Worker  string `json:"worker"`
	State   string `json:"state"`
	Version string `json:"version,omitempty"` // of the library; absent if the row does not say
	Shards  int    `json:"shards"`            // that it owns
	// Lease is how long its leases last after a heartbeat. It sends four in this time.
	Lease seconds `json:"leaseSeconds"`
	// Unable says that by its own word it cannot do the work, and Refuses the shards that it could not read.
	Unable  bool     `json:"unable,omitempty"`
	Refuses []string `json:"refuses,omitempty"`
	// Watched is for how long status has looked for a heartbeat in vain.
	Watched seconds `json:"watchedSeconds,omitempty"`
}

// lives reports whether a heartbeat has come.
func (w *workerStatus) lives() bool { return w.State == workerAlive || w.State == workerDraining }

// usualLease is how long leases last if a row does not say.
const usualLease = 8 * time.Second

// watchWorkers looks at the workers' rows until each worker that is not dead has sent a heartbeat, or has been silent for longer than its
// leases last, or most has passed. So no clock of another machine counts. first is what the table had a moment ago.
func watchWorkers(ctx context.Context, store *dynamostore.Store, first lease.View, most time.Duration) (workers []*workerStatus, err error) {
	began := time.Now()
	workers = []*workerStatus{} // none are [] in JSON
	beats := make(map[string]int64)
	for _, w := range first.Workers {
		beats[w.ID] = w.Beat
	}
	for view := first; ; {
		watched := time.Since(began)
		workers = workers[:0]
		pause := 500 * time.Millisecond
		waits := false
		for _, row := range view.Workers {
			beat, known := beats[row.ID]
			w := asWorker(row, !known || row.Beat > beat, watched)
			workers = append(workers, w)
			if lasts := time.Duration(w.Lease); w.State == workerSilent || w.State == workerUnknown {
				waits = waits || watched < min(lasts+lasts/8, most)
				pause = min(pause, lasts/8)
			}
		}
		if !waits {
			break
		}
		if err := backoff.Sleep(ctx, max(pause, 5*time.Millisecond)); err != nil {
			return nil, err
		}
		if view, err = store.View(ctx); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(workers, func(a, b *workerStatus) int { return cmp.Compare(a.Worker, b.Worker) })
	return workers, nil
}

// asWorker judges a worker after it was watched for a time. A beat is due four times in a lease, and may be late by half of this.
func asWorker(row lease.Worker, beaten bool, watched time.Duration) *workerStatus {
	w := &workerStatus{Worker: row.ID, Version: row.Version, Lease: seconds(cmp.Or(row.Duration, usualLease)), Unable: row.Unable, Refuses: row.Refuses}
	switch {
	case row.Dead:
		w.State = workerDead
	case beaten && row.Draining:
		w.State = workerDraining
	case beaten:
		w.State = workerAlive
	case watched >= time.Duration(w.Lease)*3/8:
		w.State, w.Watched = workerSilent, seconds(watched)
	default:
		w.State, w.Watched = workerUnknown, seconds(watched)
	}
	return w
}
