package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// fleet is a stream and the rows of those who read it, written by hand.
type fleet struct {
	*world
	ahead atomic.Int64 // how far the clock of the services is ahead
	rows  map[string]map[string]types.AttributeValue
	beats map[string]int64 // of the workers that live: each look finds another beat
}

func newFleet(t *testing.T, shards int) *fleet {
	f := &fleet{rows: map[string]map[string]types.AttributeValue{}, beats: map[string]int64{}}
	f.world = newWorld(t, outboxtest.WithClock(func() time.Time { return time.Now().Add(time.Duration(f.ahead.Load())) }))
	f.CreateOutbox(t, "events", "events", shards)
	f.CreateTable(t, "leases", "group", "id")
	f.intercept = func(operation string, _ http.ResponseWriter, _ *http.Request) bool {
		if operation == "Query" {
			for id := range maps.Keys(f.beats) {
				f.beats[id]++
				f.row(t, id, "beat", f.beats[id])
			}
		}
		return false
	}
	return f
}

// shardID is the nth shard.
func shardID(n int) string { return fmt.Sprintf("shardId-%012d", n) }

// row changes the row with an id of the group g; a nil value removes.
func (f *fleet) row(t *testing.T, id string, pairs ...any) {
	item := f.rows[id]
	if item == nil {
		item = map[string]types.AttributeValue{"group": &types.AttributeValueMemberS{Value: "g"}, "id": &types.AttributeValueMemberS{Value: id}}
		f.rows[id] = item
	}
	for i := 0; i < len(pairs); i += 2 {
		name := pairs[i].(string)
		switch v := pairs[i+1].(type) {
		case nil:
			delete(item, name)
		case bool:
			item[name] = &types.AttributeValueMemberBOOL{Value: v}
		case string:
			item[name] = &types.AttributeValueMemberS{Value: v}
		case []string:
			item[name] = &types.AttributeValueMemberSS{Value: v}
		case map[string]types.AttributeValue:
			item[name] = &types.AttributeValueMemberM{Value: v}
		default:
			item[name] = &types.AttributeValueMemberN{Value: fmt.Sprint(v)}
		}
	}
	_, err := f.dynamodb.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: ptr("leases"), Item: item})
	require.NoError(t, err)
}

// worker writes the row of a worker, whose leases last for 80 ms: it lives, or has died.
func (f *fleet) worker(t *testing.T, id string, lives bool, pairs ...any) {
	f.row(t, "events#W#"+id, append([]any{"beat", 7, "moves", 1, "duration", 80, "version", "v0.1.0"}, pairs...)...)
	if lives {
		f.beats["events#W#"+id] = 7
	}
}

// lease writes the row of a shard.
func (f *fleet) lease(t *testing.T, shard, owner, checkpoint string, pairs ...any) {
	all := append([]any{"fence", 3, "checkpoint", checkpoint}, pairs...)
	if owner != "" {
		all = append(all, "owner", owner)
	}
	f.row(t, "events#L#"+shard, all...)
}

// wrote lets n events reach the stream, and returns the sequence numbers of a shard.
func (f *fleet) wrote(t *testing.T, aggregate string, n int, shard string) (sequences []string) {
	f.put(t, aggregate, n)
	require.NoError(t, f.Drain(t.Context()))
	iterator, err := f.kinesis.GetShardIterator(t.Context(), &kinesis.GetShardIteratorInput{StreamName: ptr("events"), ShardId: &shard,
		ShardIteratorType: kinesistypes.ShardIteratorTypeTrimHorizon})
	require.NoError(t, err)
	out, err := f.kinesis.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: iterator.ShardIterator})
	require.NoError(t, err)
	for _, r := range out.Records {
		sequences = append(sequences, *r.SequenceNumber)
	}
	return sequences
}

func (f *fleet) split(t *testing.T) {
	_, err := f.kinesis.SplitShard(t.Context(), &kinesis.SplitShardInput{StreamName: ptr("events"), ShardToSplit: ptr(shardID(0)),
		NewStartingHashKey: ptr("85070591730234615865843651857942052864")})
	require.NoError(t, err)
}

// well is a shard that is read to its tip by a worker that lives.
func (f *fleet) well(t *testing.T) (sequences []string) {
	sequences = f.wrote(t, "a", 3, shardID(0))
	f.worker(t, "w-1", true)
	f.lease(t, shardID(0), "w-1", sequences[2])
	return sequences
}

// For each situation: what the summary says, in text and in JSON, and the exit code, with and without --max-lag. None that is wrong, or
// not known, is green.
func TestStatusIsGreenOnlyForWhatIsKnown(t *testing.T) {
	for _, s := range situations {
		t.Run(s.name, func(t *testing.T) {
			f := newFleet(t, max(1, s.shards))
			s.happens(t, f)
			for _, more := range [][]string{nil, {"--max-lag", "1h"}} {
				args := append(append([]string{"status", "--group", "g"}, s.args...), more...)
				code := s.code
				if s.bounded && more != nil {
					code = exitOK
				}
				r := f.run(t, args...)
				require.Equal(t, code, r.code, "%s\n%s%s", args, r.out, r.err)
				require.Empty(t, withoutNotes(r.err))
				if s.code == code {
					require.Contains(t, r.out, s.says)
				}
				require.Equal(t, code == exitOK && strings.Contains(s.says, "nothing is waiting"), strings.Contains(r.out, "nothing is waiting"), r.out)
				if s.state != "" {
					require.Contains(t, r.out, "  "+s.state+"  ")
				}
				r = f.run(t, append(args, "-o", "json")...)
				require.Equal(t, code, r.code)
				found := decode[statusJSON](t, r.out)
				require.Equal(t, code == exitOK, found.OK)
				require.Equal(t, code == exitOK, len(found.Reasons) == 0)
				if code != exitOK {
					require.Contains(t, strings.Join(found.Reasons, "\n"), s.says)
				}
				if s.state != "" {
					require.True(t, slices.ContainsFunc(found.Shards, func(shard shardJSON) bool { return shard.State == s.state }), r.out)
				}
			}
		})
	}
}

// A worker that is killed leaves its rows as they were. From the first look on it is not taken to read.
func TestStatusOfAWorkerThatWasKilled(t *testing.T) {
	w := newWorld(t)
	w.CreateOutbox(t, "events", "events", 1)
	process := w.Process(t.Context(), outboxtest.Death{})
	leases, err := outbox.NewLeaseTable(process.DynamoDB, "leases", "g")
	require.NoError(t, err)
	require.NoError(t, leases.Create(t.Context()))
	consumer, err := outbox.NewConsumer(outbox.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	outbox.Handle(consumer, func(context.Context, outbox.Event[orderCreated]) error { return nil })
	worker, err := outbox.NewWorker(process.Kinesis, "events", consumer, leases, outbox.WithLeaseDuration(time.Second))
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- worker.Run(process.Context()) }()
	w.put(t, "a", 2)
	require.NoError(t, w.DrainWorkers(t.Context(), "events", "leases", "g"))
	require.Contains(t, w.ok(t, "status", "--group", "g"), "1 shard, 1 worker lives; nothing is waiting\n")

	process.Kill()
	<-ended
	for range 2 {
		r := w.run(t, "status", "--group", "g", "--max-lag", "5m")
		require.Equal(t, exitFailed, r.code, r.out)
		require.Contains(t, r.out, "  silent owner  ")
		require.Regexp(t, `\n1 shard, 0 workers live; not all is well, or known:\n- worker \S+ is silent: no heartbeat in [1-9].*s, and one is due every 250ms; nobody reads its 1 shard\n`, r.out)
	}
}
