package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/lease"
	"github.com/seed-1b628d3f/outbox/internal/lease/dynamostore"
	"github.com/seed-1b628d3f/outbox/internal/shardreader"
)

// mover moves checkpoints.
type mover struct {
	*app
	f      *moveFlags
	store  *dynamostore.Store
	source shardreader.Source
	beats  map[string]int64 // of the owners that have been seen silent
}

func (a *app) checkpointMove(f *moveFlags) func(context.Context, *clients) error {
	return func(ctx context.Context, c *clients) error {
		store, err := dynamostore.New(c.dynamodb, f.leases, f.group, f.stream)
		if err != nil {
			return usageError{err}
		}
		m := &mover{app: a, f: f, store: store, source: sourceOf(c, f.stream), beats: map[string]int64{}}
		result := moves{Shards: []*movedShard{}}
		var planned []*movedShard
		if err = a.canAsk(); err == nil { // before the wait for heartbeats
			planned, err = m.plan(ctx)
		}
		if err == nil {
			result.Shards = planned
			err = m.move(ctx, planned)
		}
		if a.json() {
			result.Error = a.explain(err)
			return errors.Join(err, a.printJSON(result))
		}
		return err
	}
}

// plan looks at all shards that are to be moved, and at their owners. It changes nothing.
func (m *mover) plan(ctx context.Context) ([]*movedShard, error) {
	listed, err := m.source.Shards(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the shards of stream %s: %w", m.f.stream, err)
	}
	if len(listed) == 0 {
		return nil, fmt.Errorf("stream %s lists no shard", m.f.stream)
	}
	leases, err := m.chosen(ctx)
	if err != nil {
		return nil, err
	}
	planned := make([]*movedShard, len(leases))
	for i, l := range leases {
		if !slices.ContainsFunc(listed, func(s shardreader.Shard) bool { return s.ID == l.ID }) {
			return nil, m.unlisted(l.ID)
		}
		if planned[i], err = m.planOne(ctx, l); err != nil {
			return nil, fmt.Errorf("shard %s: %w", l.ID, err)
		}
	}
	return planned, nil
}

// unlisted says what to do about a shard of the lease table that the stream does not list.
func (m *mover) unlisted(shard string) error {
	if m.f.all {
		return fmt.Errorf("shard %s: the stream does not list it: name the other shards with --shard in place of --all", shard)
	}
	return fmt.Errorf("shard %s: the stream does not list it", shard)
}

// chosen returns the leases that the flags name, once it is known that nobody reads them.
func (m *mover) chosen(ctx context.Context) ([]lease.Lease, error) {
	first, err := m.store.View(ctx)
	if err != nil {
		return nil, err
	}
	if len(first.Leases) == 0 {
		return nil, fmt.Errorf("lease table %s knows no shard of group %s on stream %s: they have to be named as the workers name them", m.f.leases, m.f.group, m.f.stream)
	}
	view := first
	if wait := m.silence(first); wait > 0 {
		m.note("waiting %s to see whether the owners still send heartbeats", wait)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
		if view, err = m.store.View(ctx); err != nil {
			return nil, err
		}
	}
	var chosen []lease.Lease
	for _, l := range view.Leases {
		if m.wants(l) {
			chosen = append(chosen, l)
		}
	}
	for _, shard := range m.f.shards {
		if !slices.ContainsFunc(chosen, func(l lease.Lease) bool { return l.ID == shard }) {
			return nil, fmt.Errorf("shard %s: the group has no checkpoint of it", shard)
		}
	}
	if len(chosen) == 0 {
		return nil, errors.New("all shards are finished: outbox replay writes events again")
	}
	if left := len(view.Leases) - len(chosen); m.f.all && left > 0 {
		m.note("%s left out, since finished or forgotten: outbox replay writes their events again", count(left, "shard"))
	}
	for _, l := range chosen {
		if l.Owner == "" {
			continue
		}
		if !slices.ContainsFunc(view.Workers, func(w lease.Worker) bool { return w.ID == l.Owner }) {
			return nil, fmt.Errorf("shard %s: its owner %s has no row in the lease table, so whether it lives is not known: start a worker of the group, which takes the shard over, and stop it again", l.ID, l.Owner)
		}
		now, alive := beatOf(view, l.Owner)
		before, was := beatOf(first, l.Owner)
		if alive && (!was || now != before) {
			return nil, fmt.Errorf("shard %s: worker %s reads it, and sends heartbeats: stop the workers of the group first", l.ID, l.Owner)
		}
		if alive {
			m.beats[l.Owner] = now
		}
	}
	return chosen, nil
}

// wants reports whether a shard is to be moved. Finished shards and those that the stream has forgotten are refused by name, and left out
// of all.
func (m *mover) wants(l lease.Lease) bool {
	if m.f.all {
		return !l.Gone && l.Checkpoint != lease.ShardEnd
	}
	return slices.Contains(m.f.shards, l.ID)
}

// silence is how long to wait until an owner that sends no heartbeat is known to be dead: a little longer than its own word.
func (m *mover) silence(v lease.View) (wait time.Duration) {
	for _, l := range v.Leases {
		for _, w := range v.Workers {
			if m.wants(l) && w.ID == l.Owner && !w.Dead {
				lasts := w.Duration
				if lasts <= 0 {
					lasts = 30 * time.Second // the row does not say: to wait too long is safe, and usualLease would be a guess
				}
				wait = max(wait, lasts+lasts/16)
			}
		}
	}
	return wait
}

// beatOf returns the heartbeat of a worker, unless it is dead or the view has no row of it.
func beatOf(v lease.View, worker string) (beat int64, alive bool) {
	for _, w := range v.Workers {
		if w.ID == worker && !w.Dead {
			return w.Beat, true
		}
	}
	return 0, false
}

// planOne decides where a shard is read on.
func (m *mover) planOne(ctx context.Context, l lease.Lease) (*movedShard, error) {
	s := &movedShard{Shard: l.ID, Moved: aws.Bool(false), From: place(l.Checkpoint), seen: l, to: lease.Progress{Checkpoint: l.Checkpoint, Holes: maps.Clone(l.Holes)}}
	_, unfinished := l.Holes[m.f.skip]
	var err error
	switch {
	case l.Gone:
		return nil, errors.New("the stream has forgotten it")
	case m.f.skip != "" && unfinished:
		delete(s.to.Holes, m.f.skip)
		s.says = "the record " + m.f.skip + ", which waits below the checkpoint, is not handled"
	case l.Checkpoint == lease.ShardEnd:
		return nil, errors.New("it is finished, and the shards that continue it are read: outbox replay writes events again")
	case m.f.skip != "":
		err = m.planSkip(ctx, s)
	case m.f.after != "":
		err = m.planAfter(ctx, s)
	default:
		err = m.planFrom(ctx, s)
	}
	if err != nil {
		return nil, err
	}
	s.To = place(s.to.Checkpoint)
	s.Unfinished = slices.SortedFunc(maps.Keys(s.to.Holes), shardreader.CompareSequence)
	return s, nil
}

// mostPassed is how many records after the checkpoint --skip looks at, and how many that are not finished it leaves below. The next owner
// fetches them one by one.
const mostPassed = 100

// planSkip passes over one of the next records. Those before it wait below the new checkpoint: a process that is killed has stored no
// checkpoint for the last second, so the record that kills it is seldom the next one.
func (m *mover) planSkip(ctx context.Context, s *movedShard) error {
	records, err := m.later(ctx, s.Shard, positionOf(s.seen.Checkpoint), mostPassed, m.f.skip)
	if err != nil {
		return err
	}
	last := len(records) - 1
	if last < 0 || records[last].sequence != m.f.skip {
		return m.notNext(s, records)
	}
	if n := len(s.to.Holes) + last; n > mostPassed {
		return fmt.Errorf("%d records that are not finished would wait below the checkpoint, and %d may: have the handler return an error for this event in place of ending the process", n, mostPassed)
	}
	s.to.Checkpoint = m.f.skip
	s.says = "the record " + m.f.skip + " is not handled"
	if last > 0 {
		s.says += ", and " + waiting(last, false) + " below the checkpoint to be handled"
		if s.to.Holes == nil {
			s.to.Holes = map[string]lease.Hole{}
		}
	}
	for _, r := range records[:last] {
		s.to.Holes[r.sequence] = lease.Hole{Key: r.key}
	}
	return nil
}

// notNext says what --skip could take.
func (m *mover) notNext(s *movedShard, records []laterRecord) error {
	has := "there is no record after the checkpoint"
	switch n := len(records); {
	case n == 1:
		has = "the next record is " + records[0].sequence
	case n > 1:
		has = fmt.Sprintf("the next %d are %s to %s", n, records[0].sequence, records[n-1].sequence)
	}
	if waiting := slices.SortedFunc(maps.Keys(s.seen.Holes), shardreader.CompareSequence); len(waiting) > 0 {
		has += ", and below the checkpoint wait " + strings.Join(waiting, ", ")
	}
	if len(records) == mostPassed {
		has += "; have the handler return an error for an event further on, in place of ending the process"
	}
	return fmt.Errorf("--skip takes one of the next %d records, or one that waits below the checkpoint: %s", mostPassed, has)
}

// planAfter goes on after a record, which must be one of the shard.
func (m *mover) planAfter(ctx context.Context, s *movedShard) error {
	if _, err := m.source.Iterator(ctx, s.Shard, shardreader.Position(m.f.after)); err != nil {
		return fmt.Errorf("--after %s: %w", m.f.after, err)
	}
	s.to.Checkpoint = m.f.after
	maps.DeleteFunc(s.to.Holes, func(hole string, _ lease.Hole) bool { return shardreader.CompareSequence(hole, m.f.after) >= 0 })
	s.says = "read on after the record " + m.f.after + ": what lies between is read again, or not handled"
	if position := positionOf(s.seen.Checkpoint); position != shardreader.Oldest && sequenceNumber.MatchString(string(position)) {
		if shardreader.CompareSequence(m.f.after, string(position)) > 0 {
			s.says = "read on after the record " + m.f.after + ": the records before it that are not finished are NOT handled"
		} else {
			s.says = "read again after the record " + m.f.after
		}
	}
	return nil
}

// planFrom goes back, or on, to a time.
func (m *mover) planFrom(ctx context.Context, s *movedShard) error {
	if m.f.from == "oldest" {
		s.to = lease.Progress{Checkpoint: lease.TrimHorizon}
		s.says = "read again from the oldest record that the stream has"
		return nil
	}
	now := m.source.Now() // by the stream's clock, as the listing told it
	at, err := momentBefore(now, "from", m.f.from)
	if err != nil {
		return err
	}
	if at.After(now) {
		return fmt.Errorf("--from: %s is in the future", at.UTC().Format(time.RFC3339))
	}
	at = at.Truncate(time.Millisecond)
	if len(s.seen.Holes) > 0 { // those before the time would not be read again
		first, err := m.next(ctx, s.Shard, shardreader.At(at))
		if err != nil {
			return err
		}
		for hole := range s.seen.Holes {
			if first == "" || shardreader.CompareSequence(hole, first) < 0 {
				return fmt.Errorf("the record %s, which is not finished, is older than --from: pass over it first (--skip), or go back further", hole)
			}
		}
	}
	s.to = lease.Progress{Checkpoint: lease.At(at)}
	passesNone, err := m.before(ctx, s, at)
	if err != nil {
		return err
	}
	if s.says = "read again from " + at.UTC().Format(time.RFC3339Nano); !passesNone {
		s.says = "read from " + at.UTC().Format(time.RFC3339Nano) + " on: what came before and is not finished is NOT handled, what came later is handled again"
	}
	return nil
}

// before reports whether a time is known to be no later than the checkpoint, so that nothing is passed over.
func (m *mover) before(ctx context.Context, s *movedShard, at time.Time) (bool, error) {
	if was, ok := lease.ParseAt(s.seen.Checkpoint); ok {
		return !at.After(was), nil
	}
	if !sequenceNumber.MatchString(s.seen.Checkpoint) {
		return false, nil
	}
	first, err := m.next(ctx, s.Shard, shardreader.At(at))
	if errors.Is(err, errEmpty) {
		return false, nil // not known
	}
	return first != "" && shardreader.CompareSequence(first, s.seen.Checkpoint) <= 0, err
}

// positionOf is where a checkpoint is in the stream.
func positionOf(checkpoint string) shardreader.Position {
	if at, ok := lease.ParseAt(checkpoint); ok {
		return shardreader.At(at)
	}
	if checkpoint == lease.TrimHorizon {
		return shardreader.Oldest
	}
	return shardreader.Position(checkpoint)
}

// nextReads is how many reads may pass empty stretches of a shard on the way to its next record.
const nextReads = 20

// laterRecord is a record after a checkpoint.
type laterRecord struct {
	sequence string
	key      uint64 // of its aggregate; 0 if it has none, or is no event
}

// next returns the sequence number of the first record after a position, or "" if there is none.
func (m *mover) next(ctx context.Context, shard string, from shardreader.Position) (string, error) {
	records, err := m.later(ctx, shard, from, 1, "")
	if err != nil || len(records) == 0 {
		return "", err
	}
	return records[0].sequence, nil
}

// These end the reading of a shard: there is no more to know, or it is too far away.
var (
	errRead  = errors.New("read")
	errEmpty = errors.New("a long stretch of it is empty: call again with --after, or --from a time")
)

// later returns the records after a position, as many as most, and none after the one named last.
func (m *mover) later(ctx context.Context, shard string, from shardreader.Position, most int, last string) (records []laterRecord, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, m.timeout, &slowError{limit: m.timeout})
	defer cancel()
	var failed error // the last request, if it was answered with an error
	reader := shardreader.Reader{Source: m.source, Limit: most + 1, OnRetry: func(r shardreader.Retry) {
		failed = r.Err
		if r.Failures > 1 || !r.Throttled {
			m.warn("shard %s: %s is repeated: %s", r.Shard, r.Operation, m.explain(r.Err))
		}
	}}
	reads := 0
	_, err = reader.Read(ctx, shard, from, func(b shardreader.Batch) error {
		failed = nil
		for _, r := range b.Records {
			event, _ := outbox.DecodeRecord(r.Data, m.f.layout) // a record that is no event belongs to no aggregate
			records = append(records, laterRecord{strings.Clone(r.SequenceNumber), lease.AggregateKey(event.AggregateID)})
			if len(records) == most || r.SequenceNumber == last {
				return errRead
			}
		}
		switch reads++; {
		case b.Behind == 0, reads == nextReads && len(records) > 0:
			return errRead
		case reads == nextReads:
			return errEmpty
		}
		return nil
	})
	switch slow := (*slowError)(nil); {
	case errors.Is(err, errRead):
		err = nil
	case failed != nil && errors.As(err, &slow):
		err = fmt.Errorf("repeated for %s (--timeout): %w", m.timeout, failed)
	}
	return records, err
}

// move asks, and moves.
func (m *mover) move(ctx context.Context, planned []*movedShard) error {
	if !m.yes {
		fmt.Fprintf(m.err, "this would change the checkpoints of group %s on stream %s, in %s:\n", printable(m.f.group), m.f.stream, m.where())
		for _, s := range planned {
			fmt.Fprintf(m.err, "  - %s, now at %s: %s\n", printable(s.Shard), printable(s.From), s.says)
		}
	}
	if err := m.confirm(ctx, "Move "+count(len(planned), "checkpoint")+"?"); err != nil {
		return err
	}
	for _, s := range planned {
		if beat, silent := m.beats[s.seen.Owner]; silent {
			if err := m.store.MarkDead(ctx, s.seen.Owner, beat); err != nil {
				return m.refused(s, err)
			}
		}
		if err := m.store.Move(ctx, s.seen, s.to); err != nil {
			if !errors.Is(err, lease.ErrRefused) {
				s.Moved = nil
				err = fmt.Errorf("whether it has moved is not known, outbox status shows it: %w", err)
			}
			return m.refused(s, err)
		}
		s.Moved = aws.Bool(true)
		if !m.json() {
			fmt.Fprintf(m.out, "%s moved from %s to %s\n", printable(s.Shard), printable(s.From), s.To)
		}
	}
	return nil
}

func (m *mover) refused(s *movedShard, err error) error {
	if errors.Is(err, lease.ErrRefused) {
		return fmt.Errorf("shard %s: not moved: a worker, or somebody else, has changed it meanwhile: stop the workers of the group, and look again", s.Shard)
	}
	return fmt.Errorf("shard %s: %w", s.Shard, err)
}
