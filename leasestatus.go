package outbox

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/lease"
	"github.com/seed-1b628d3f/outbox/internal/shardreader"
)

// LeaseStatus says who reads a shard, and how far, according to the lease table.
type LeaseStatus struct {
	// Shard is the shard's id. Parents are the shards that it continues.
	Shard   string
	Parents []string
	// Owner is the worker that reads the shard; empty if no worker does. OwnerState is what the table says about the owner. A
	// worker that has crashed is still registered: other workers notice the crash some seconds later and take the shard, and if there is no
	// other worker, the row stays so for a week. The command outbox status looks twice.
	Owner      string
	OwnerState OwnerState
	// WantedBy is the worker that has asked the owner for the shard; empty if no worker has.
	WantedBy string
	// Fence grows with every new owner (see Record.Fence).
	Fence int64
	// Checkpoint is the sequence number up to which all records but the Unfinished are finished. It is empty if the shard has Ended, or
	// if no record is finished yet. Then StartsAt is the time from which the shard is read, and a zero StartsAt means from its oldest record.
	Checkpoint string
	StartsAt   time.Time
	// Ended says that the shard was closed, and that all its records but the Unfinished are finished.
	Ended bool
	// Unfinished are the sequence numbers of the records up to the checkpoint, or the end, that are not finished, in order: at most 50.
	// They have failed, or take long, or wait behind such records of their aggregates. The owner goes on with them.
	Unfinished []string
	// Forgotten says that the stream no longer has the shard. Unless the shard has Ended without Unfinished records, records were lost.
	Forgotten bool
	// Attempts counts the failed attempts at records that are not finished, by sequence number.
	Attempts map[string]int
}

// OwnerState is what the lease table says about the owner of a shard.
type OwnerState string

// The states of an owner.
const (
	OwnerRegistered OwnerState = "registered" // the owner has announced itself, and no other worker has found it dead
	OwnerDraining   OwnerState = "draining"   // the owner is stopping
	OwnerDead       OwnerState = "dead"       // the owner's heartbeats have stopped; another worker is about to take the shard
)

// Status returns the group's leases of a stream, sorted by shard id. stream is the name or ARN by which the workers name it. If
// no worker of the group has read the stream, there are no leases. Status only reads; it is meant for people and for monitoring.
func (t *LeaseTable) Status(ctx context.Context, stream string) ([]LeaseStatus, error) {
	store, err := t.store(stream)
	if err != nil {
		return nil, fmt.Errorf("outbox: Status: %w", err)
	}
	view, err := store.View(ctx)
	if err != nil {
		return nil, fmt.Errorf("outbox: %w", err)
	}
	states := make(map[string]OwnerState, len(view.Workers))
	for _, w := range view.Workers {
		switch {
		case w.Dead:
			states[w.ID] = OwnerDead
		case w.Draining:
			states[w.ID] = OwnerDraining
		default:
			states[w.ID] = OwnerRegistered
		}
	}
	statuses := make([]LeaseStatus, 0, len(view.Leases))
	for _, l := range view.Leases {
		statuses = append(statuses, leaseStatus(l, states))
	}
	slices.SortFunc(statuses, func(a, b LeaseStatus) int { return strings.Compare(a.Shard, b.Shard) })
	return statuses, nil
}

func leaseStatus(l lease.Lease, states map[string]OwnerState) LeaseStatus {
	s := LeaseStatus{Shard: l.ID, Parents: l.Parents, Owner: l.Owner, WantedBy: l.Want, Fence: l.Fence, Forgotten: l.Gone, Attempts: maps.Clone(l.Attempts)}
	if s.Owner != "" {
		if s.OwnerState = states[s.Owner]; s.OwnerState == "" {
			s.OwnerState = OwnerDead // the owner's row is gone
		}
	}
	for sequence, hole := range l.Holes {
		s.Unfinished = append(s.Unfinished, sequence)
		if hole.Attempts > 0 {
			if s.Attempts == nil {
				s.Attempts = make(map[string]int)
			}
			s.Attempts[sequence] = hole.Attempts
		}
	}
	slices.SortFunc(s.Unfinished, shardreader.CompareSequence)
	switch at, isTime := lease.ParseAt(l.Checkpoint); {
	case l.Checkpoint == lease.ShardEnd:
		s.Ended = true
	case isTime:
		s.StartsAt = at
	case l.Checkpoint != lease.TrimHorizon:
		s.Checkpoint = l.Checkpoint
	}
	return s
}

// HoldsFirstShard reports whether this Worker reads the first of the shards, by id, that any worker of its group reads. It is for work that one of a
// fleet is to do, such as replay.Events.ReconcileEvery: so it is true in one Worker, or in two for a moment when a shard changes hands. It is
// false while Run does not run. It reads the lease table, once. The error is the lease table's. HoldsFirstShard is safe for concurrent use.
func (w *Worker) HoldsFirstShard(ctx context.Context) (bool, error) {
	if w.consumer == nil {
		return false, errNotMade
	}
	view, err := w.leases.View(ctx)
	if err != nil {
		return false, fmt.Errorf("outbox: worker of stream %s: HoldsFirstShard: %w", w.stream, err)
	}
	var first *lease.Lease
	for i, l := range view.Leases {
		if l.Owner != "" && (first == nil || l.ID < first.ID) {
			first = &view.Leases[i]
		}
	}
	return first != nil && w.health.holds(first.ID, first.Fence), nil
}
