package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/shardreader"
)

// A worker in the middle of its work: what it has finished, what it has not, and for how long that waits.
func TestStatusOfAWorker(t *testing.T) {
	w := newWorld(t)
	w.CreateOutbox(t, "events", "events", 2)
	leases, err := outbox.NewLeaseTable(w.dynamodb, "leases", "mails")
	require.NoError(t, err)
	require.NoError(t, leases.Create(t.Context()))
	status := func(args ...string) (statusJSON, result) {
		r := w.run(t, append([]string{"status", "--group", "mails", "-o", "json"}, args...)...)
		require.Empty(t, withoutNotes(r.err))
		return decode[statusJSON](t, r.out), r
	}
	s, r := status()
	require.Equal(t, exitFailed, r.code)
	require.Equal(t, "not begun", s.Shards[0].State)
	require.Len(t, s.Shards, 2)

	w.put(t, "a", 6)
	require.NoError(t, w.Drain(t.Context()))
	consumer, err := outbox.NewConsumer(outbox.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	blocked := make(chan struct{})
	outbox.Handle(consumer, func(ctx context.Context, e outbox.Event[orderCreated]) error {
		if e.ID == "a-005" || e.ID == "a-004" {
			select {
			case <-blocked:
			case <-ctx.Done():
			}
			return ctx.Err()
		}
		return nil
	})
	worker, err := outbox.NewWorker(w.kinesis, "events", consumer, leases, outbox.WithLeaseDuration(time.Second))
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- worker.Run(ctx) }()
	t.Cleanup(stop)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		s, _ = status()
		if s.Shards[0].Owner != "" && s.Shards[1].Owner != "" && s.OldestShard != "" {
			break
		}
		require.True(t, time.Now().Before(deadline), "%+v", s)
	}
	require.Len(t, s.Workers, 1)
	require.Equal(t, workerJSON{Worker: s.Shards[0].Owner, State: "alive", Version: s.Workers[0].Version, Shards: 2, LeaseSeconds: 1}, s.Workers[0])
	for _, shard := range s.Shards {
		require.Equal(t, "reading", shard.State)
		require.Equal(t, "alive", shard.OwnerState)
		require.Positive(t, shard.Fence)
		if *shard.LagSeconds > 0 {
			require.Positive(t, *shard.Waiting)
			require.Equal(t, "ORDER_CREATED", shard.Next.Type)
			require.Nil(t, shard.Next.Payload)
		}
	}
	require.True(t, s.OK, s.Reasons)
	require.Positive(t, *s.LagSeconds)
	late, r := status("--max-lag", "1ms")
	require.Equal(t, 1, r.code)
	require.True(t, late.Late)
	require.Regexp(t, `^shard shardId-00000000000\d lags .*, more than --max-lag$`, late.Reasons[0])
	_, r = status("--max-lag", "1h")
	require.Zero(t, r.code)
	text := w.ok(t, "status", "--group", "mails")
	require.Contains(t, text, "shardId-000000000001  reading")
	require.Contains(t, text, "ORDER_CREATED a-00")
	require.Regexp(t, `\n2 shards, 1 worker lives; \d records? waits?, the oldest for `, text)
	r = w.run(t, "status", "--group", "mails", "--max-lag", "1ms")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.out, ", more than --max-lag\n")
	require.Empty(t, r.err)

	close(blocked)
	stop()
	require.NoError(t, <-ran)
	s, _ = status()
	for _, shard := range s.Shards {
		require.Equal(t, "unowned", shard.State)
	}
	require.Contains(t, s.Reasons, "no worker of group mails is there: nobody reads its shards")
}

// Every state that a shard can be in.
func TestStatusOfEveryKindOfShard(t *testing.T) {
	w := newWorld(t)
	w.CreateOutbox(t, "events", "events", 3)
	w.CreateTable(t, "leases", "group", "id")
	_, err := w.kinesis.SplitShard(t.Context(), &kinesis.SplitShardInput{StreamName: ptr("events"), ShardToSplit: ptr("shardId-000000000000"),
		NewStartingHashKey: ptr("28356863910078205288614550619314017621")})
	require.NoError(t, err)
	put := func(shard, owner, checkpoint string) {
		item := map[string]types.AttributeValue{"group": &types.AttributeValueMemberS{Value: "g"}, "id": &types.AttributeValueMemberS{Value: "events#L#" + shard},
			"fence": &types.AttributeValueMemberN{Value: "3"}, "checkpoint": &types.AttributeValueMemberS{Value: checkpoint}}
		if owner != "" {
			item["owner"] = &types.AttributeValueMemberS{Value: owner}
		}
		_, err := w.dynamodb.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: ptr("leases"), Item: item})
		require.NoError(t, err)
	}
	put("shardId-000000000000", "", "TRIM_HORIZON")
	put("shardId-000000000001", "gone", "AT_TIMESTAMP#2026-01-02T03:04:05Z")
	put("shardId-000000000002", "", "SHARD_END")
	put("shardId-000000000999", "", "42")
	states := func() map[string]string {
		states := map[string]string{}
		for _, s := range decode[statusJSON](t, w.run(t, "status", "--group", "g", "-o", "json").out).Shards {
			states[s.Shard[len(s.Shard)-3:]] = s.State
		}
		return states
	}
	require.Equal(t, map[string]string{"000": "unowned", "001": "dead owner", "002": "ended too early", "003": "waiting for its parents", "004": "waiting for its parents", "999": "lost"}, states())
	put("shardId-000000000000", "", "SHARD_END")
	require.Equal(t, "not begun", states()["003"])
	require.Equal(t, "finished", states()["000"])
	require.Contains(t, w.run(t, "status", "--group", "g").out, "shardId-000000000999  lost")
	r := w.run(t, "status", "--group", "g", "--max-lag", "1h")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.out, "\n- shard shardId-000000000999 is lost: the stream has forgotten it, and it was not finished\n")
	require.Empty(t, withoutNotes(r.err))
}

// A shard that was read to its end is not finished while events of it wait, and its lag is that of the oldest of them.
func TestStatusOfAnEndedShardWhoseEventsWait(t *testing.T) {
	w := newWorld(t)
	w.CreateOutbox(t, "events", "events", 1)
	w.CreateTable(t, "leases", "group", "id")
	w.put(t, "a", 3)
	require.NoError(t, w.Drain(t.Context()))
	iterator, err := w.kinesis.GetShardIterator(t.Context(), &kinesis.GetShardIteratorInput{StreamName: ptr("events"), ShardId: ptr("shardId-000000000000"),
		ShardIteratorType: kinesistypes.ShardIteratorTypeTrimHorizon})
	require.NoError(t, err)
	out, err := w.kinesis.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: iterator.ShardIterator})
	require.NoError(t, err)
	sequence := *out.Records[1].SequenceNumber
	_, err = w.kinesis.SplitShard(t.Context(), &kinesis.SplitShardInput{StreamName: ptr("events"), ShardToSplit: ptr("shardId-000000000000"),
		NewStartingHashKey: ptr("85070591730234615865843651857942052864")})
	require.NoError(t, err)
	hole := &types.AttributeValueMemberM{Value: map[string]types.AttributeValue{"attempts": &types.AttributeValueMemberN{Value: "7"}}}
	put := func(owner string) {
		item := map[string]types.AttributeValue{"group": &types.AttributeValueMemberS{Value: "g"}, "id": &types.AttributeValueMemberS{Value: "events#L#shardId-000000000000"},
			"fence": &types.AttributeValueMemberN{Value: "3"}, "checkpoint": &types.AttributeValueMemberS{Value: "SHARD_END"},
			"unfinished": &types.AttributeValueMemberM{Value: map[string]types.AttributeValue{sequence: hole}}}
		if owner != "" {
			item["owner"] = &types.AttributeValueMemberS{Value: owner}
			_, err := w.dynamodb.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: ptr("leases"), Item: map[string]types.AttributeValue{
				"group": &types.AttributeValueMemberS{Value: "g"}, "id": &types.AttributeValueMemberS{Value: "events#W#" + owner}, "beat": &types.AttributeValueMemberN{Value: "1"},
				"duration": &types.AttributeValueMemberN{Value: "80"}}})
			require.NoError(t, err)
		}
		_, err := w.dynamodb.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: ptr("leases"), Item: item})
		require.NoError(t, err)
	}
	put("")
	require.Equal(t, "unowned", decode[statusJSON](t, w.run(t, "status", "--group", "g", "-o", "json").out).Shards[0].State)
	put("w-1")
	beats := 1
	w.intercept = func(operation string, _ http.ResponseWriter, _ *http.Request) bool {
		if operation == "Query" { // the worker lives
			beats++
			_, err := w.dynamodb.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{TableName: ptr("leases"), UpdateExpression: ptr("SET beat = :beat"),
				Key:                       map[string]types.AttributeValue{"group": &types.AttributeValueMemberS{Value: "g"}, "id": &types.AttributeValueMemberS{Value: "events#W#w-1"}},
				ExpressionAttributeValues: map[string]types.AttributeValue{":beat": &types.AttributeValueMemberN{Value: fmt.Sprint(beats)}}})
			require.NoError(t, err)
		}
		return false
	}
	time.Sleep(2 * time.Millisecond)
	r := w.run(t, "status", "--group", "g", "-o", "json", "--max-lag", "1ms")
	require.Equal(t, exitFailed, r.code)
	s := decode[statusJSON](t, r.out)
	require.Equal(t, "ended", s.Shards[0].State)
	require.Equal(t, sequence, s.Shards[0].Next.SequenceNumber)
	require.Equal(t, map[string]int{sequence: 7}, s.Shards[0].Attempts)
	require.Equal(t, "not begun", s.Shards[1].State, "its parent has ended")
	text := w.run(t, "status", "--group", "g").out // nobody has begun the children
	require.Contains(t, text, "; 1 record waits, the oldest for ")
	require.NotContains(t, text, "finished\n")

	w.records = `{"Records":[],"NextShardIterator":"next","MillisBehindLatest":0}`
	text = w.run(t, "status", "--group", "g").out
	require.Contains(t, text, "1 record waits below its checkpoint, and the age is unknown")
	r = w.run(t, "status", "--group", "g", "--max-lag", "1h")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.out, "shard shardId-000000000000: 1 record waits below its checkpoint, and the age is unknown: the first is not in the stream any more")
}

// Reads that find nothing leave the lag unknown. Then how far they came decides.
func TestStatusOfAnUnknownLag(t *testing.T) {
	f := newFleet(t, 1)
	f.well(t)
	f.records = `{"Records":[],"NextShardIterator":"next","MillisBehindLatest":600000}`
	require.Contains(t, f.run(t, "status", "--group", "g").out, "  unknown  at most 10m0s  ")
	text := f.ok(t, "status", "--group", "g", "--max-lag", "10m")
	require.Contains(t, text, "how many records wait is unknown\n")
	r := f.run(t, "status", "--group", "g", "--max-lag", "9m", "-o", "json")
	require.Equal(t, exitFailed, r.code)
	s := decode[statusJSON](t, r.out)
	require.True(t, s.Late)
	require.Nil(t, s.LagSeconds)
	require.Nil(t, s.Shards[0].LagSeconds)
	require.InDelta(t, 600, *s.Shards[0].LagAtMostSeconds, 0)
	require.Nil(t, s.Shards[0].Waiting)
	require.Equal(t, []string{"shard shardId-000000000000: its lag is unknown, 10m0s at most, which is more than --max-lag"}, s.Reasons)
}

// How many records wait is told up to the number that is read.
func TestStatusCountsWhatWaits(t *testing.T) {
	f := newFleet(t, 1)
	s := f.wrote(t, "a", mostCounted+2, shardID(0))
	f.worker(t, "w-1", true)
	for checkpoint, want := range map[string]string{s[0]: "99+", s[1]: "99+", s[2]: "99", s[mostCounted]: "1", s[mostCounted+1]: "0"} {
		f.lease(t, shardID(0), "w-1", checkpoint)
		require.Contains(t, f.ok(t, "status", "--group", "g"), "  reading  w-1    3      "+want+" ", checkpoint)
	}
	f.lease(t, shardID(0), "w-1", s[0])
	require.Contains(t, f.ok(t, "status", "--group", "g"), "; at least 99 records wait, the oldest for ")
	two := map[string]types.AttributeValue{s[95]: &types.AttributeValueMemberM{Value: hole()}, s[97]: &types.AttributeValueMemberM{Value: hole()}}
	f.lease(t, shardID(0), "w-1", s[98], "unfinished", two)
	text := f.ok(t, "status", "--group", "g")
	require.Contains(t, text, "; 5 records wait, the oldest for ")
	require.Contains(t, text, "ORDER_CREATED a-095")
}

// A stream that is over, and one without a shard that can be told.
func TestStatusOfAStreamThatHasEnded(t *testing.T) {
	s := &groupStatus{Ended: shardreader.OverBy([]shardreader.Shard{{ID: "a", Closed: true}}, nil).Reason}
	(&verdict{groupStatus: s}).judge()
	require.False(t, s.OK)
	require.Equal(t, []string{"the stream has ended: every shard is closed, and none continues it", "the stream lists no shard"}, s.Reasons)
}

// Without a group status lists those that the table knows. A group that is empty by mistake, or for a probe, is refused.
func TestStatusListsTheGroups(t *testing.T) {
	f := newFleet(t, 1)
	r := f.run(t, "status")
	require.Equal(t, result{exitFailed, "GROUP  STREAM  SHARDS  WORKERS\n", "outbox: lease table leases knows no group: no worker has begun\n"}, r)
	r = f.run(t, "status", "-o", "json")
	require.Equal(t, exitFailed, r.code)
	require.Equal(t, groupList{[]knownGroup{}, true, failure{"lease table leases knows no group: no worker has begun"}}, decode[groupList](t, r.out))
	f.well(t)
	f.putRow(t, "leases", "mails", "arn:aws:kinesis:us-east-1:000000000000:stream/events#W#w")
	text := f.ok(t, "status")
	require.Contains(t, text, "\ng      events  ")
	require.Contains(t, text, "\nmails  arn:aws:kinesis:us-east-1:000000000000:stream/events  0       1\n")
	list := decode[groupList](t, f.ok(t, "status", "-o", "json"))
	require.True(t, list.All)
	require.Len(t, list.Groups, 2)
	for _, args := range [][]string{{"status", "--max-lag", "1m"}, {"status", "--dead-letters", "d"}} {
		r := f.run(t, args...)
		require.Equal(t, exitUsage, r.code)
		require.Contains(t, r.err, "--group is missing")
	}
	f.refuse("Scan")
	r = f.run(t, "status", "--group", "other")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.out, "- which groups lease table leases knows cannot be read: read the keys of table leases: AccessDeniedException")
}

// What the stream does not say of its retention is taken to be the least that there is.
func TestStatusOfAStreamWhoseRetentionIsUnknown(t *testing.T) {
	f := newFleet(t, 1)
	s := f.well(t)
	f.refuse("DescribeStreamSummary")
	f.lease(t, shardID(0), "w-1", s[0])
	f.ahead.Store(int64(23 * time.Hour))
	r := f.run(t, "status", "--group", "g")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.err, "note: for how long stream events keeps records is unknown, and taken to be 24h0m: AccessDeniedException")
	require.Contains(t, r.out, "- shard shardId-000000000000 lags 23h0m, and the stream keeps records for 24h0m: they are about to expire\n")
}

// Letters of a consumer with another name are not "no dead letters".
func TestStatusOfAConsumerThatTheTableDoesNotKnow(t *testing.T) {
	f := newFleet(t, 1)
	f.well(t)
	f.CreateTable(t, "dead-letters", "group", "id")
	r := f.run(t, "status", "--group", "g", "--dead-letters", "dead-letters")
	require.Equal(t, exitOK, r.code)
	require.Empty(t, r.err)
	f.putRow(t, "dead-letters", "mailer", "a#1")
	r = f.run(t, "status", "--group", "g", "--dead-letters", "dead-letters")
	require.Contains(t, r.err, "note: nothing is known of consumer g in table dead-letters, which knows mailer: give --consumer\n")
}

func TestStatusOfWhatIsNotThere(t *testing.T) {
	w := newWorld(t)
	r := w.run(t, "status", "--group", "g")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.err, "only Workers have a lease table; of a function see its metric IteratorAge, and outbox doctor --function: lease table leases, group g")
	require.Contains(t, r.err, "(looked in us-east-1 at http://127.0.0.1:")
	require.Contains(t, w.run(t, "status").err, "only Workers have a lease table; ")
	w.CreateTable(t, "leases", "group", "id")
	r = w.run(t, "status", "--group", "g")
	require.Equal(t, 1, r.code)
	require.NotContains(t, r.err, "only Workers")
	require.Contains(t, r.err, "list the shards of stream events: ResourceNotFoundException")
	r = w.run(t, "status", "--group", "a#b")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.err, "must not be empty nor contain '#'")
	w.CreateOutbox(t, "events", "events", 1)
	w.refuse("GetShardIterator")
	r = w.run(t, "status", "--group", "g")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.out, "- shard shardId-000000000000 cannot be read: AccessDeniedException")
}

// What the lease table has stored as an end is believed only if the stream agrees.
func TestStatusDoubtsAStoredEnd(t *testing.T) {
	closed := shardreader.Shard{ID: "closed", Closed: true}
	parent, child, open := shardreader.Shard{ID: "parent"}, shardreader.Shard{ID: "child", Parents: []string{"parent"}, Closed: true}, shardreader.Shard{ID: "open"}
	var leases []outbox.LeaseStatus
	for _, s := range []string{"closed", "parent", "child", "open"} {
		leases = append(leases, outbox.LeaseStatus{Shard: s, Ended: true})
	}
	shards := join([]shardreader.Shard{closed, parent, child, open}, leases, nil)
	states := map[string]string{}
	for _, s := range shards {
		states[s.Shard] = s.State
		require.False(t, s.readable())
	}
	require.Equal(t, map[string]string{"closed": "finished", "parent": "finished", "child": "finished", "open": "ended too early"}, states)
	s := &groupStatus{Shards: shards, Workers: []*workerStatus{{Worker: "w", State: workerAlive}}}
	(&verdict{groupStatus: s}).judge()
	require.Equal(t, []string{"shard open is stored as finished, and the stream lists it as open: unless the listing is behind, nobody reads it"}, s.Reasons)
}

// One record, no next iterator and hours behind: the answer contradicts the listing, in which the shard is open.
func TestStatusOfAnAnswerThatLacksTheNextIterator(t *testing.T) {
	f := newFleet(t, 1)
	f.well(t)
	f.edit("GetRecords", func(_, a map[string]any) {
		delete(a, "NextShardIterator")
		a["MillisBehindLatest"] = 7_200_000
	})
	r := f.run(t, "status", "--group", "g", "--max-lag", "10s")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.out, "GetRecords gives no next iterator, as at the end of a shard, and the stream lists the shard as open")
}

// A clock that is before the arrival of a record knows no lag.
func TestStatusByAClockThatIsWrong(t *testing.T) {
	f := newFleet(t, 1)
	s := f.well(t)
	f.lease(t, shardID(0), "w-1", s[0])
	f.ahead.Store(-int64(time.Hour))
	r := f.run(t, "status", "--group", "g", "--max-lag", "10s")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.out, "after the time that AWS's answers say: the clock is wrong")
}
