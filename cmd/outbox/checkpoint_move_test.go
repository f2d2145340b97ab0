package main

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/lease"
	"github.com/seed-1b628d3f/outbox/internal/lease/dynamostore"
)

const onlyShard = "shardId-000000000000"

// moving is a world with events of one shard, and the lease table of group mails.
type moving struct {
	*world
	store *dynamostore.Store
}

func newMoving(t *testing.T) *moving {
	w := newWorld(t)
	w.ok(t, "create")
	store, err := dynamostore.New(w.dynamodb, "leases", "mails", "events")
	require.NoError(t, err)
	return &moving{w, store}
}

// write puts events of one aggregate into the stream, and returns their sequence numbers.
func (m *moving) write(t *testing.T, n int) (numbers []string) {
	m.put(t, "a", n)
	require.NoError(t, m.Drain(t.Context()))
	it, err := m.kinesis.GetShardIterator(t.Context(), &kinesis.GetShardIteratorInput{StreamName: ptr("events"), ShardId: ptr(onlyShard), ShardIteratorType: kinesistypes.ShardIteratorTypeTrimHorizon})
	require.NoError(t, err)
	out, err := m.kinesis.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: it.ShardIterator})
	require.NoError(t, err)
	for _, r := range out.Records {
		numbers = append(numbers, *r.SequenceNumber)
	}
	require.Len(t, numbers, n)
	return numbers
}

// handled runs a worker until it has handled events up to the one with this id, and returns the ids.
func (m *moving) handled(t *testing.T, last string) (ids []string) {
	consumer, err := outbox.NewConsumer(outbox.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	var mu sync.Mutex
	done := make(chan struct{})
	outbox.Handle(consumer, func(_ context.Context, e outbox.Event[orderCreated]) error {
		mu.Lock()
		defer mu.Unlock()
		if ids = append(ids, e.ID); e.ID == last {
			close(done)
		}
		return nil
	})
	leases, err := outbox.NewLeaseTable(m.dynamodb, "leases", "mails")
	require.NoError(t, err)
	worker, err := outbox.NewWorker(m.kinesis, "events", consumer, leases)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ran := make(chan error, 1)
	go func() { ran <- worker.Run(ctx) }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Errorf("after 30 s %v are handled, and not %s", ids, last)
	}
	stop()
	require.NoError(t, <-ran)
	return ids
}

func (m *moving) lease(t *testing.T) lease.Lease {
	v, err := m.store.View(t.Context())
	require.NoError(t, err)
	require.Len(t, v.Leases, 1)
	return v.Leases[0]
}

// begun stores a checkpoint and records below it that are not finished, by a worker that has stopped.
func (m *moving) begun(t *testing.T, p lease.Progress) {
	require.NoError(t, m.store.Ensure(t.Context(), lease.Shard{ID: onlyShard}, lease.TrimHorizon))
	owned, err := m.store.Acquire(t.Context(), m.lease(t), "gone")
	require.NoError(t, err)
	require.NoError(t, m.store.Save(t.Context(), owned.Key(), 1, p))
	require.NoError(t, m.store.Release(t.Context(), owned.Key(), ""))
}

func (m *moving) move(t *testing.T, args ...string) result {
	return m.run(t, append([]string{"checkpoint", "move", "--group", "mails"}, args...)...)
}

func TestAMovedCheckpointIsWhereTheNextWorkerGoesOn(t *testing.T) {
	m := newMoving(t)
	numbers := m.write(t, 4)
	require.Equal(t, []string{"a-000", "a-001", "a-002", "a-003"}, m.handled(t, "a-003"))
	require.Equal(t, numbers[3], m.lease(t).Checkpoint)

	r := m.move(t, "--shard", onlyShard, "--after", numbers[1], "--yes")
	require.Equal(t, result{exitOK, onlyShard + " moved from " + numbers[3] + " to " + numbers[1] + "\n", ""}, r)
	require.Equal(t, []string{"a-002", "a-003"}, m.handled(t, "a-003"), "read again after the record")

	require.Equal(t, exitOK, m.move(t, "--shard", onlyShard, "--after", numbers[0], "--yes").code)
	require.Equal(t, exitOK, m.move(t, "--shard", onlyShard, "--skip", numbers[1], "--yes").code)
	require.Equal(t, []string{"a-002", "a-003"}, m.handled(t, "a-003"), "one record is passed over")

	for _, from := range []string{"oldest", "1h"} {
		r = m.move(t, "--all", "--from", from, "--yes", "-o", "json")
		require.Equal(t, exitOK, r.code, r.err)
		got := decode[moves](t, r.out).Shards
		require.Len(t, got, 1)
		require.True(t, *got[0].Moved)
		require.Equal(t, []string{"a-000", "a-001", "a-002", "a-003"}, m.handled(t, "a-003"), "read again from a time")
	}
	require.Equal(t, exitOK, m.move(t, "--all", "--from", "oldest", "--yes").code)
	require.Equal(t, exitOK, m.move(t, "--shard", onlyShard, "--after", numbers[2], "--yes").code)
	require.Equal(t, []string{"a-003"}, m.handled(t, "a-003"), "moved on")
}

func TestACheckpointIsNotMovedUnasked(t *testing.T) {
	m := newMoving(t)
	numbers := m.write(t, 3)
	m.begun(t, lease.Progress{Checkpoint: numbers[2]})
	before := m.lease(t)
	r := m.move(t, "--shard", onlyShard, "--after", numbers[0])
	require.Equal(t, exitUnconfirmed, r.code)
	require.Equal(t, "outbox: not confirmed: nothing was done; there is no terminal to ask at: give --yes\n", r.err)
	require.Equal(t, before, m.lease(t))

	// While the question stands, a worker takes the shard: the yes comes too late.
	s := newScreen(t)
	code := s.run(t, m.world, "checkpoint", "move", "--group", "mails", "--shard", onlyShard, "--after", numbers[0])
	s.shown.await(t, "this would change the checkpoints of group mails on stream events")
	s.shown.await(t, "  - "+onlyShard+", now at "+numbers[2]+": read again after the record "+numbers[0])
	s.shown.await(t, "Move 1 checkpoint?")
	taken, err := m.store.Acquire(t.Context(), m.lease(t), "new")
	require.NoError(t, err)
	_, err = s.keyboard.WriteString("y\n")
	require.NoError(t, err)
	require.Equal(t, exitFailed, <-code)
	s.shown.await(t, "a worker, or somebody else, has changed it meanwhile")
	require.Equal(t, taken, m.lease(t))
}

// An owner whose heartbeat moves is alive, whatever the operator thinks; one that is silent for as long as its lease lasts is dead.
func TestOnlyADeadOwnersCheckpointIsMoved(t *testing.T) {
	m := newMoving(t)
	numbers := m.write(t, 3)
	m.begun(t, lease.Progress{Checkpoint: numbers[2]})
	require.NoError(t, m.store.Register(t.Context(), "w-1", time.Second))
	owned, err := m.store.Acquire(t.Context(), m.lease(t), "w-1")
	require.NoError(t, err)
	args := []string{"--shard", onlyShard, "--after", numbers[0], "--yes"}

	ctx, stop := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for beat := int64(1); ctx.Err() == nil; beat++ {
			_ = m.store.Beat(ctx, lease.Worker{ID: "w-1", Beat: beat, Duration: time.Second})
			time.Sleep(20 * time.Millisecond)
		}
	}()
	r := m.move(t, args...)
	stop()
	<-stopped
	require.Equal(t, exitFailed, r.code)
	require.Equal(t, "note: waiting 1.0625s to see whether the owners still send heartbeats\n"+
		"outbox: shard "+onlyShard+": worker w-1 reads it, and sends heartbeats: stop the workers of the group first\n", r.err)
	require.Equal(t, owned, m.lease(t))

	r = m.move(t, args...)
	require.Equal(t, exitOK, r.code, r.err)
	require.ErrorIs(t, m.store.Beat(t.Context(), lease.Worker{ID: "w-1", Beat: 1 << 40}), lease.ErrRefused, "it is marked dead, should it come back")
	require.ErrorIs(t, m.store.Save(t.Context(), owned.Key(), 9, lease.Progress{Checkpoint: numbers[2]}), lease.ErrRefused)
	require.Equal(t, numbers[0], m.lease(t).Checkpoint)
	require.Equal(t, []string{"a-001", "a-002"}, m.handled(t, "a-002"))
}

// What waits below the checkpoint is neither lost nor doubled by a move.
func TestAMoveKeepsWhatWaitsBelowTheCheckpoint(t *testing.T) {
	m := newMoving(t)
	numbers := m.write(t, 6)
	holes := func(of ...int) map[string]lease.Hole {
		all := map[string]lease.Hole{}
		for _, i := range of {
			all[numbers[i]] = lease.Hole{Attempts: 1}
		}
		return all
	}
	first := lease.Progress{Checkpoint: numbers[4], Holes: holes(1, 3)}
	m.begun(t, first)
	for _, c := range []struct {
		args []string
		want lease.Progress
	}{
		{[]string{"--skip", numbers[3]}, lease.Progress{Checkpoint: numbers[4], Holes: holes(1)}},
		{[]string{"--skip", numbers[5]}, lease.Progress{Checkpoint: numbers[5], Holes: holes(1, 3)}},
		{[]string{"--after", numbers[2]}, lease.Progress{Checkpoint: numbers[2], Holes: holes(1)}},
		{[]string{"--after", numbers[1]}, lease.Progress{Checkpoint: numbers[1]}},
		{[]string{"--after", numbers[5]}, lease.Progress{Checkpoint: numbers[5], Holes: holes(1, 3)}},
		{[]string{"--from", "oldest"}, lease.Progress{Checkpoint: lease.TrimHorizon}},
	} {
		r := m.move(t, append(c.args, "--shard", onlyShard, "--yes")...)
		require.Equal(t, exitOK, r.code, "%v: %s", c.args, r.err)
		got := m.lease(t).Progress
		if len(got.Holes) == 0 {
			got.Holes = nil
		}
		require.Equal(t, c.want, got, c.args)
		require.NoError(t, m.store.Move(t.Context(), m.lease(t), first), "back to where it was")
	}
	r := m.move(t, "--shard", onlyShard, "--from", "1h", "--yes")
	require.Equal(t, exitOK, r.code, r.err)
	require.Empty(t, m.lease(t).Holes, "all of them came later, and are read again")
	require.NoError(t, m.store.Move(t.Context(), m.lease(t), first))

	time.Sleep(10 * time.Millisecond)
	r = m.move(t, "--shard", onlyShard, "--from", "0s", "--yes")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.err, ", which is not finished, is older than --from: pass over it first (--skip), or go back further")
	r = m.move(t, "--shard", onlyShard, "--skip", numbers[0], "--yes")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.err, "--skip takes one of the next 100 records, or one that waits below the checkpoint: the next record is "+numbers[5]+", and below the checkpoint wait "+numbers[1]+", "+numbers[3])
}

// The question says whether records are passed over: a time before the checkpoint passes over none.
func TestAMoveToATimeSaysWhatItPassesOver(t *testing.T) {
	m := newMoving(t)
	numbers := m.write(t, 3)
	m.begun(t, lease.Progress{Checkpoint: numbers[2]})
	for _, c := range []struct{ checkpoint, from, says string }{
		{numbers[2], "1h", ": read again from "}, {lease.At(time.Now()), "1h", ": read again from "},
		{lease.TrimHorizon, "0s", "what came before and is not finished is NOT handled"}, {lease.At(time.Now().Add(-time.Hour)), "0s", "is NOT handled"},
		{numbers[0], "0s", "is NOT handled"},
	} {
		require.NoError(t, m.store.Move(t.Context(), m.lease(t), lease.Progress{Checkpoint: c.checkpoint}))
		s := newScreen(t)
		code := s.run(t, m.world, "checkpoint", "move", "--group", "mails", "--all", "--from", c.from)
		s.shown.await(t, c.says)
		_, err := s.keyboard.WriteString("n\n")
		require.NoError(t, err)
		require.Equal(t, exitUnconfirmed, <-code)
	}
}

// After a move to a time, status says from where on the shard is read.
func TestStatusShowsWhereAShardWithoutACheckpointIsRead(t *testing.T) {
	m := newMoving(t)
	numbers := m.write(t, 2)
	m.begun(t, lease.Progress{Checkpoint: numbers[1]})
	require.Equal(t, exitOK, m.move(t, "--all", "--from", "1h", "--yes").code)
	r := m.run(t, "status", "--group", "mails", "-o", "json")
	shard := decode[statusJSON](t, r.out).Shards[0]
	require.WithinDuration(t, time.Now().Add(-time.Hour), shard.StartsAt, time.Minute)
	require.Equal(t, numbers[0], shard.NextSequenceNumber)
	require.Contains(t, r.out, `"workers": []`)
	require.Contains(t, m.run(t, "status", "--group", "mails").out, "from "+shard.StartsAt.UTC().Format(time.RFC3339Nano))
	require.Contains(t, m.run(t, "status", "--group", "mails").out, "ORDER_CREATED a-000 "+numbers[0])
	require.Equal(t, exitOK, m.move(t, "--all", "--from", "oldest", "--yes").code)
	require.Contains(t, m.run(t, "status", "--group", "mails").out, "from the oldest")
}

// A process that is killed has not stored its last checkpoint: the record that kills it is seldom the next one. Those before it are handled,
// and before those that come later of their aggregate.
func TestSkipReachesARecordThatIsNotTheNext(t *testing.T) {
	m := newMoving(t)
	numbers := m.write(t, 6)
	m.begun(t, lease.Progress{Checkpoint: numbers[0]})
	s := newScreen(t)
	code := s.run(t, m.world, "checkpoint", "move", "--group", "mails", "--shard", onlyShard, "--skip", numbers[3])
	s.shown.await(t, "the record "+numbers[3]+" is not handled, and 2 records wait below the checkpoint to be handled")
	_, err := s.keyboard.WriteString("n\n")
	require.NoError(t, err)
	require.Equal(t, exitUnconfirmed, <-code)
	r := m.move(t, "--shard", onlyShard, "--skip", numbers[3], "--yes", "-o", "json")
	require.Equal(t, exitOK, r.code, r.err)
	require.Equal(t, numbers[1:3], decode[moves](t, r.out).Shards[0].Unfinished)
	require.Equal(t, lease.Progress{Checkpoint: numbers[3], Holes: map[string]lease.Hole{
		numbers[1]: {Key: lease.AggregateKey("a")}, numbers[2]: {Key: lease.AggregateKey("a")}}}, m.lease(t).Progress)
	require.Equal(t, []string{"a-001", "a-002", "a-004", "a-005"}, m.handled(t, "a-005"))
}

// More than 100 records do not wait below a checkpoint.
func TestSkipReachesNoFurtherThanARowCanTell(t *testing.T) {
	m := newMoving(t)
	numbers := m.write(t, 102)
	m.begun(t, lease.Progress{Checkpoint: numbers[0]})
	r := m.move(t, "--shard", onlyShard, "--skip", numbers[101], "--yes")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.err, "the next 100 are "+numbers[1]+" to "+numbers[100]+"; have the handler return an error for an event further on")
	r = m.move(t, "--shard", onlyShard, "--skip", numbers[100], "--yes")
	require.Equal(t, exitOK, r.code, r.err)
	require.Len(t, m.lease(t).Holes, 99)
	require.NoError(t, m.store.Move(t.Context(), m.lease(t), lease.Progress{Checkpoint: numbers[1], Holes: map[string]lease.Hole{numbers[0]: {}, numbers[1]: {}}}))
	r = m.move(t, "--shard", onlyShard, "--skip", numbers[101], "--yes")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.err, "101 records that are not finished would wait below the checkpoint, and 100 may")
}

func TestWhatCannotBeMovedIsSaid(t *testing.T) {
	m := newMoving(t)
	numbers := m.write(t, 2)
	for args, want := range map[string]string{
		"--shard s": "where to? Give one of --from, --after and --skip", "--shard s --from 1h --skip 1": "where to?", "--from 1h": "which shards?",
		"--all --shard s --from 1h": "which shards?", "--all --skip 1": "--after and --skip are for one --shard", "--shard s --shard t --after 1": "for one --shard",
		"--shard s --after x": `--after: "x" is no sequence number`, "--shard s --from noon": `--from: "noon" is no time`, "--all --from 2100-01-01": "--from: 2100-01-01T00:00:00Z is in the future", "--shard s --from 1h --attributes id=i": "--attributes is for --skip", "--all --from 1h --stream a/b": "or the ARN of a DynamoDB stream",
	} {
		r := m.move(t, strings.Fields(args)...)
		require.Equal(t, exitUsage, r.code, args)
		require.Contains(t, r.err, want, args)
	}
	require.Equal(t, exitUsage, m.run(t, "checkpoint").code)
	require.Equal(t, exitUsage, m.run(t, "checkpoint", "move", "--group", "a#b", "--all", "--from", "1h").code)

	failed := func(want string, args ...string) {
		r := m.move(t, append(args, "--yes")...)
		require.Equal(t, exitFailed, r.code, "%v", args)
		require.Contains(t, r.err, want)
	}
	failed("lease table leases knows no shard of group mails on stream events", "--all", "--from", "1h")
	m.begun(t, lease.Progress{Checkpoint: numbers[1]})
	failed("shard other: the group has no checkpoint of it", "--shard", "other", "--from", "1h")
	failed("there is no record after the checkpoint", "--shard", onlyShard, "--skip", numbers[1])
	owned, err := m.store.Acquire(t.Context(), m.lease(t), "w")
	require.NoError(t, err)
	require.NoError(t, m.store.End(t.Context(), owned.Key(), 1, nil, nil))
	failed("it is finished, and the shards that continue it are read", "--shard", onlyShard, "--from", "oldest")
	failed("all shards are finished", "--all", "--from", "oldest")
	require.NoError(t, m.store.Ensure(t.Context(), lease.Shard{ID: "lost"}, lease.TrimHorizon))
	failed("shard lost: the stream does not list it\n", "--shard", "lost", "--from", "oldest")
	failed("shard lost: the stream does not list it: name the other shards with --shard in place of --all", "--all", "--from", "oldest")
	m.edit("ListShards", func(_, a map[string]any) { a["Shards"] = []any{} })
	failed("outbox: stream events lists no shard\n", "--all", "--from", "oldest")
}

// A view that lacks an owner's row does not say that the owner is dead.
func TestACheckpointDoesNotMoveUnderAnOwnerWithoutARow(t *testing.T) {
	m := newMoving(t)
	m.write(t, 3)
	m.handled(t, "a-002")
	before, err := m.store.View(t.Context())
	require.NoError(t, err)
	row := map[string]types.AttributeValue{"group": &types.AttributeValueMemberS{Value: "mails"}, "id": &types.AttributeValueMemberS{Value: "events#L#" + onlyShard}}
	_, err = m.dynamodb.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{TableName: ptr("leases"), Key: row, UpdateExpression: ptr("SET #o = :o"),
		ExpressionAttributeNames: map[string]string{"#o": "owner"}, ExpressionAttributeValues: map[string]types.AttributeValue{":o": &types.AttributeValueMemberS{Value: "w-9"}}})
	require.NoError(t, err)
	r := m.run(t, "checkpoint", "move", "--group", "mails", "--all", "--from", "oldest", "--yes")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.err, "its owner w-9 has no row in the lease table")
	view, err := m.store.View(t.Context())
	require.NoError(t, err)
	require.Equal(t, before.Leases[0].Checkpoint, view.Leases[0].Checkpoint)
}

// An answer that is lost says nothing of what was written.
func TestACheckpointWhoseMoveIsNotAnswered(t *testing.T) {
	m := newMoving(t)
	m.write(t, 3)
	m.handled(t, "a-002")
	m.intercept = func(operation string, out http.ResponseWriter, _ *http.Request) bool {
		if operation != "UpdateItem" {
			return false
		}
		out.WriteHeader(http.StatusInternalServerError)
		return true
	}
	r := m.run(t, "checkpoint", "move", "--group", "mails", "--all", "--from", "oldest", "--yes", "-o", "json")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.out, `"moved": null`)
	require.Contains(t, r.out, "whether it has moved is not known, outbox status shows it")
}
