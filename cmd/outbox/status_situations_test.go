package main

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// situation is one in which status must not say that all is well, or may.
type situation struct {
	name    string
	shards  int // of the stream; default 1
	happens func(t *testing.T, f *fleet)
	args    []string // besides --group g
	code    int
	bounded bool   // with --max-lag 1h the code is 0
	says    string // the summary line and the reasons
	state   string // of a shard; default: any
}

// hole is a record below a checkpoint that is not finished.
func hole() map[string]types.AttributeValue {
	return map[string]types.AttributeValue{"attempts": &types.AttributeValueMemberN{Value: "2"}}
}

var situations = []situation{
	{name: "all is read, and the worker lives", code: 0, says: "; nothing is waiting\n", state: "reading",
		happens: func(t *testing.T, f *fleet) { f.well(t) }},
	{name: "records wait for a worker that lives", code: 0, says: "2 records wait, the oldest", state: "reading",
		happens: func(t *testing.T, f *fleet) { s := f.well(t); f.lease(t, shardID(0), "w-1", s[0]) }},
	{name: "a worker that drains still reads", code: 0, says: "; nothing is waiting\n", state: "reading",
		happens: func(t *testing.T, f *fleet) { f.well(t); f.worker(t, "w-1", true, "draining", true) }},
	{name: "a shard is lost", code: 1, says: "shard shardId-000000000999 is lost: the stream has forgotten it, and it was not finished",
		happens: func(t *testing.T, f *fleet) { s := f.well(t); f.lease(t, shardID(999), "", s[2], "ttl", 99) }},
	{name: "the lag is unknown", code: 1, bounded: true, says: "shard shardId-000000000000: its lag is unknown, 10m0s at most",
		happens: func(t *testing.T, f *fleet) {
			f.well(t)
			f.records = `{"Records":[],"NextShardIterator":"next","MillisBehindLatest":600000}`
		}},
	{name: "records behind the checkpoint have expired", code: 1, says: "shard shardId-000000000000: its checkpoint is older than what the stream keeps",
		happens: func(t *testing.T, f *fleet) {
			s := f.well(t)
			f.lease(t, shardID(0), "w-1", s[0])
			f.ahead.Store(int64(25 * time.Hour))
			f.wrote(t, "b", 1, shardID(0))
		}},
	{name: "all records behind the checkpoint have expired", code: 1, says: "shard shardId-000000000000: its checkpoint is older than what the stream keeps",
		happens: func(t *testing.T, f *fleet) { f.well(t); f.ahead.Store(int64(25 * time.Hour)) }},
	{name: "a shard that was silent for long, and this is accepted", code: 0, args: []string{"--silent-shards"}, says: "; nothing is waiting\n",
		happens: func(t *testing.T, f *fleet) { f.well(t); f.ahead.Store(int64(25 * time.Hour)) }},
	{name: "the group began before what the stream keeps", code: 1, says: "shard shardId-000000000000: its checkpoint is older than what the stream keeps",
		happens: func(t *testing.T, f *fleet) {
			f.well(t)
			f.lease(t, shardID(0), "w-1", "AT_TIMESTAMP#2026-01-02T03:04:05Z")
			f.ahead.Store(int64(25 * time.Hour))
		}},
	{name: "records are about to expire", code: 1, says: "shard shardId-000000000000 lags 23h",
		happens: func(t *testing.T, f *fleet) {
			s := f.well(t)
			f.lease(t, shardID(0), "w-1", s[0])
			f.ahead.Store(int64(23*time.Hour + 30*time.Minute))
		}},
	{name: "the only worker was killed", code: 1, says: "worker w-1 is silent: no heartbeat in", state: "silent owner",
		happens: func(t *testing.T, f *fleet) { f.well(t); delete(f.beats, "events#W#w-1") }},
	{name: "one of two workers was killed", shards: 2, code: 1, says: "worker w-2 is silent: no heartbeat in", state: "silent owner",
		happens: func(t *testing.T, f *fleet) {
			f.worker(t, "w-1", true)
			f.worker(t, "w-2", false)
			f.lease(t, shardID(0), "w-1", "TRIM_HORIZON")
			f.lease(t, shardID(1), "w-2", "TRIM_HORIZON")
		}},
	{name: "a worker without shards was killed", code: 1, says: "worker w-2 is silent: no heartbeat in", state: "reading",
		happens: func(t *testing.T, f *fleet) { f.well(t); f.worker(t, "w-2", false) }},
	{name: "the wait is too short to tell", code: 1, args: []string{"--wait", "1ms"}, says: "whether worker w-1 lives is unknown", state: "unknown owner",
		happens: func(t *testing.T, f *fleet) {
			f.well(t)
			f.worker(t, "w-1", false, "duration", 600_000)
			delete(f.beats, "events#W#w-1")
		}},
	{name: "the owner's row is gone", code: 1, says: "shard shardId-000000000000: its owner w-9 is dead", state: "dead owner",
		happens: func(t *testing.T, f *fleet) { s := f.well(t); f.lease(t, shardID(0), "w-9", s[2]) }},
	{name: "the owner is marked dead, and nobody takes the shard", code: 1, says: "shard shardId-000000000000: its owner w-2 is dead", state: "dead owner",
		happens: func(t *testing.T, f *fleet) {
			s := f.well(t)
			f.worker(t, "w-2", false, "dead", true)
			f.lease(t, shardID(0), "w-2", s[2])
		}},
	{name: "all workers have stopped in good order", code: 1, says: "no worker of group g is there", state: "unowned",
		happens: func(t *testing.T, f *fleet) {
			s := f.wrote(t, "a", 1, shardID(0))
			f.worker(t, "w-1", false, "dead", true)
			f.lease(t, shardID(0), "", s[0])
		}},
	{name: "a shard has no owner, and a worker lives", shards: 2, code: 1, says: "shard shardId-000000000001 has no owner", state: "unowned",
		happens: func(t *testing.T, f *fleet) {
			f.worker(t, "w-1", true)
			f.lease(t, shardID(0), "w-1", "TRIM_HORIZON")
			f.lease(t, shardID(1), "", "TRIM_HORIZON")
		}},
	{name: "the table is empty", code: 1, says: "no worker of group g has begun stream events", state: "not begun",
		happens: func(t *testing.T, f *fleet) {}},
	{name: "the group has another name", code: 1, says: "lease table leases knows group mails on stream events (1 shard, 1 worker)", state: "not begun",
		happens: func(t *testing.T, f *fleet) {
			f.putRow(t, "leases", "mails", "events#L#"+shardID(0))
			f.putRow(t, "leases", "mails", "events#W#w-1")
		}},
	{name: "the rows are of another stream", code: 1, says: "lease table leases knows group g on stream arn:aws:kinesis:us-east-1:000000000000:stream/events (1 shard, 1 worker)", state: "not begun",
		happens: func(t *testing.T, f *fleet) {
			f.putRow(t, "leases", "g", "arn:aws:kinesis:us-east-1:000000000000:stream/events#L#"+shardID(0))
			f.putRow(t, "leases", "g", "arn:aws:kinesis:us-east-1:000000000000:stream/events#W#w-1")
		}},
	{name: "no row knows a shard of the stream", shards: 2, code: 1, says: "no worker has begun shard shardId-000000000001", state: "not begun",
		happens: func(t *testing.T, f *fleet) { f.worker(t, "w-1", true); f.lease(t, shardID(0), "w-1", "TRIM_HORIZON") }},
	{name: "the stream is another one with the same name", code: 1, says: "no worker has begun shard shardId-000000000000", state: "not begun",
		happens: func(t *testing.T, f *fleet) { f.worker(t, "w-1", true); f.lease(t, shardID(17), "w-1", "4711") }},
	{name: "a worker says that it cannot do the work", code: 1, says: "worker w-1 says that it cannot do the work", state: "reading",
		happens: func(t *testing.T, f *fleet) { f.well(t); f.worker(t, "w-1", true, "unable", true) }},
	{name: "a worker leaves a shard that it cannot read to others", code: 1, says: "worker w-2 could not read shard shardId-000000000000", state: "reading",
		happens: func(t *testing.T, f *fleet) {
			f.well(t)
			f.worker(t, "w-2", true, "refuses", []string{shardID(0)})
		}},
	{name: "a shard is stored as finished and is open", code: 1, says: "shard shardId-000000000000 is stored as finished, and the stream lists it as open", state: "ended too early",
		happens: func(t *testing.T, f *fleet) { f.worker(t, "w-1", true); f.lease(t, shardID(0), "", "SHARD_END") }},
	{name: "an unfinished record is not in the stream any more", code: 1, state: "reading",
		says: "shard shardId-000000000000: 1 record waits below its checkpoint, and the age is unknown: the first is not in the stream any more",
		happens: func(t *testing.T, f *fleet) {
			s := f.well(t)
			f.lease(t, shardID(0), "w-1", s[2], "unfinished", map[string]types.AttributeValue{s[1]: &types.AttributeValueMemberM{Value: hole()}})
			f.ahead.Store(int64(25 * time.Hour))
			f.wrote(t, "c", 1, shardID(0))
		}},
	{name: "the shards that continue another wait for it", code: 0, says: "1 record waits, the oldest", state: "waiting for its parents",
		happens: func(t *testing.T, f *fleet) { s := f.well(t); f.split(t); f.lease(t, shardID(0), "w-1", s[1]) }},
	{name: "an answer has no list of records", code: 1, says: "shard shardId-000000000000 cannot be read: GetRecords has no list of records",
		happens: func(t *testing.T, f *fleet) {
			f.well(t)
			f.records = `{"NextShardIterator":"next","MillisBehindLatest":0}`
		}},
	{name: "an answer ends a closed shard too early", code: 1, says: "shard shardId-000000000000 cannot be read: GetRecords gives no next iterator, as at the end of a shard, and does not say that this is the end",
		happens: func(t *testing.T, f *fleet) {
			f.well(t)
			f.split(t)
			f.records = `{"Records":[],"MillisBehindLatest":600000}`
		}},
	{name: "the dead letters cannot be counted", code: 1, args: []string{"--dead-letters", "dead-letters"},
		says: "the dead letters of table dead-letters cannot be counted: ", state: "reading",
		happens: func(t *testing.T, f *fleet) { f.well(t) }},
	{name: "a shard cannot be read", code: 1, says: "shard shardId-000000000000 cannot be read: AccessDeniedException",
		happens: func(t *testing.T, f *fleet) { f.well(t); f.refuse("GetRecords") }},
}
