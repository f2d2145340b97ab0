package replay_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
	"github.com/seed-1b628d3f/outbox/replay"
)

// shop is an events table with an inbox and dead letters. Its handlers count their runs.
type shop struct {
	*world
	letters *outbox.DeadLetterTable
	inbox   *outbox.Inbox

	mu   sync.Mutex
	runs map[string]int
	fail func(id string) error // what the handler says of an event; nil: all succeed
}

// newShop makes a shop whose inbox has handled one event, so that it is nobody else's.
func newShop(t *testing.T) *shop { return newShopIn(t, newWorld(t)) }

func newShopIn(t *testing.T, w *world) *shop {
	s := &shop{world: w, runs: map[string]int{}}
	var err error
	s.events, err = replay.New(s.DynamoDB, "events")
	require.NoError(t, err)
	s.inbox, err = outbox.NewInbox(s.DynamoDB, "inbox", "mails")
	require.NoError(t, err)
	require.NoError(t, s.inbox.Create(t.Context()))
	s.letters, err = outbox.NewDeadLetterTable(s.DynamoDB, "letters", "mails")
	require.NoError(t, err)
	require.NoError(t, s.letters.Create(t.Context()))
	first := s.now("first", "")
	s.put(t, first)
	first.Table = "events"
	require.NoError(t, s.consumer(t).Process(t.Context(), first))
	require.Equal(t, 1, s.runs["first"])
	return s
}

// handles lets the stream deliver as many events, so that the inbox has more than what is lost.
func (s *shop) handles(t *testing.T, n int) {
	c := s.consumer(t)
	for i := range n {
		r := s.now(fmt.Sprint("handled", i), "")
		s.put(t, r)
		r.Table = "events"
		require.NoError(t, c.Process(t.Context(), r))
	}
}

// now is an event of this moment.
func (s *shop) now(id, aggregate string) outbox.Record {
	r := event(id, aggregate, 0)
	r.Time = time.Now().Truncate(time.Millisecond)
	return r
}

// consumer is that of another process each time: it remembers nothing.
func (s *shop) consumer(t *testing.T, opts ...outbox.ConsumerOption) *outbox.Consumer {
	inbox, err := outbox.NewInbox(s.DynamoDB, "inbox", "mails", outbox.WithInboxCache(0))
	require.NoError(t, err)
	return newConsumer(t, s.handle, append(opts, outbox.WithInbox(inbox))...)
}

func (s *shop) handle(_ context.Context, e outbox.Event[noted]) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		if err := s.fail(e.ID); err != nil {
			return err
		}
	}
	s.runs[e.ID]++
	return nil
}

// requireOnce checks that each of the events was handled, and none twice.
func (s *shop) requireOnce(t *testing.T, ids ...string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		require.Equal(t, 1, s.runs[id], "runs of %s: %v", id, s.runs)
	}
}

// reconcile reads the whole table. The counts must add up.
func (s *shop) reconcile(t *testing.T, c *outbox.Consumer, o replay.ReconcileOptions) (replay.ReconcileResult, error) {
	t.Helper()
	r, err := s.events.Reconcile(t.Context(), c, o)
	require.Equal(t, r.Searched, r.Young+r.Unwanted+r.Unknown+r.Handled+r.Claimed+r.DeadLetters+r.Unreadable+r.Undelivered, "%+v", r)
	return r, err
}

// source is a mapping that loses nothing.
func source() outboxtest.EventSource {
	return outboxtest.EventSource{Stream: "events", ReportBatchItemFailures: true}
}

// deliver lets a mapping deliver what is in the stream, and ends it.
func (s *shop) deliver(t *testing.T, source outboxtest.EventSource, c *outbox.Consumer) {
	m, err := s.Map(source, c.Invoke)
	require.NoError(t, err)
	require.NoError(t, s.Drain(t.Context()))
	m.Stop()
}

// oversized puts an event whose row fits into the table, and whose change record does not fit into the stream.
func (s *shop) oversized(t *testing.T, id string) {
	s.row(t, item{"eventId": attrS(id), "type": attrS("NOTED"), "timestamp": attrN(fmt.Sprint(time.Now().UnixMilli())), "payload": attrS("{}"),
		"note": attrS(strings.Repeat("\x01", 300<<10))})
}

func (s *shop) destination(t *testing.T, on bool) {
	out, err := s.DynamoDB.DescribeKinesisStreamingDestination(t.Context(), &dynamodb.DescribeKinesisStreamingDestinationInput{TableName: aws.String("events")})
	require.NoError(t, err)
	arn := out.KinesisDataStreamDestinations[0].StreamArn
	if on {
		_, err = s.DynamoDB.EnableKinesisStreamingDestination(t.Context(), &dynamodb.EnableKinesisStreamingDestinationInput{TableName: aws.String("events"), StreamArn: arn})
	} else {
		_, err = s.DynamoDB.DisableKinesisStreamingDestination(t.Context(), &dynamodb.DisableKinesisStreamingDestinationInput{TableName: aws.String("events"), StreamArn: arn})
	}
	require.NoError(t, err)
}

// without is a consumer of a deployment that lacks the handler.
func (s *shop) without(t *testing.T) *outbox.Consumer {
	c, err := outbox.NewConsumer(outbox.WithInbox(s.inbox), outbox.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	return c
}
