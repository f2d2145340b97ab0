package outboxtest

import (
	"context"
	"time"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// CreateTable creates a table with string keys: a partition key and, if it is
// named, a sort key. For other tables use the SDK. The test fails if the table
// cannot be created.
//
// Faults do not strike CreateTable or [Server.CreateOutbox], and their rules do
// not count the requests.
func (s *Server) CreateTable(t TB, name, partitionKey string, sortKey ...string) {
	t.Helper()
	s.createTable(t, name, partitionKey, sortKey)
}

func (s *Server) createTable(t TB, name, partitionKey string, sortKey []string) (ok bool) {
	t.Helper()
	type element struct{ AttributeName, KeyType string }
	type definition struct{ AttributeName, AttributeType string }
	keys, definitions := []element{{partitionKey, "HASH"}}, []definition{{partitionKey, "S"}}
	for _, key := range sortKey {
		keys, definitions = append(keys, element{key, "RANGE"}), append(definitions, definition{key, "S"})
	}
	return s.setUp(t, s.db.Do, "CreateTable", map[string]any{
		"TableName": name, "KeySchema": keys, "AttributeDefinitions": definitions, "BillingMode": "PAY_PER_REQUEST",
	}) && s.await(t, "table "+name, func() string {
		var out struct{ Table struct{ TableStatus string } }
		s.ask(t.Context(), "DescribeTable", map[string]any{"TableName": name}, &out)
		return out.Table.TableStatus
	})
}

// CreateOutbox creates what an outbox needs: the events table with the partition
// key eventId, a Kinesis stream with shards shards, and the destination that
// connects them, with a precision of microseconds. It returns when all of them
// are ACTIVE; with [WithDelays] this takes as long as the clock says. The test
// fails if something cannot be created.
func (s *Server) CreateOutbox(t TB, eventsTable, stream string, shards int) {
	t.Helper()
	if !s.createTable(t, eventsTable, "eventId", nil) ||
		!s.setUp(t, s.kinesis.Do, "CreateStream", map[string]any{"StreamName": stream, "ShardCount": shards}) ||
		!s.await(t, "stream "+stream, func() string { return s.kinesis.Status(stream) }) {
		return
	}
	arn, _ := s.kinesis.Resolve(stream) // it has just been created
	if !s.setUp(t, s.db.Do, "EnableKinesisStreamingDestination", map[string]any{"TableName": eventsTable, "StreamArn": arn,
		"EnableKinesisStreamingConfiguration": map[string]any{"ApproximateCreationDateTimePrecision": "MICROSECOND"}}) {
		return
	}
	s.await(t, "destination of table "+eventsTable, func() string {
		var out struct {
			KinesisDataStreamDestinations []struct{ DestinationStatus string }
		}
		s.ask(t.Context(), "DescribeKinesisStreamingDestination", map[string]any{"TableName": eventsTable}, &out)
		if len(out.KinesisDataStreamDestinations) == 0 {
			return "missing"
		}
		return out.KinesisDataStreamDestinations[0].DestinationStatus
	})
}

// setUp makes one request of a helper.
func (s *Server) setUp(t TB, do func(context.Context, string, []byte) (any, error), operation string, request any) (ok bool) {
	t.Helper()
	body, err := wire.Marshal(request)
	if err == nil {
		_, err = do(t.Context(), operation, body)
	}
	if err != nil {
		t.Fatalf("outboxtest: %s: %v", operation, err)
		return false
	}
	return true
}

// await waits until something is ACTIVE. It gives up after longer than this may
// take with a clock that goes.
func (s *Server) await(t TB, what string, status func() string) (ok bool) {
	t.Helper()
	const pause = time.Millisecond
	for deadline := time.Now().Add(2*s.settings.delay + time.Second); status() != "ACTIVE"; time.Sleep(max(pause, s.settings.delay/20)) {
		if time.Now().After(deadline) {
			t.Fatalf("outboxtest: the %s is still %s; does the clock of WithClock stand still, although WithDelays counts by it?", what, status())
			return false
		}
	}
	return true
}
