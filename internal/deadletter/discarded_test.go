package deadletter_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/deadletter"
	"github.com/seed-1b628d3f/outbox/internal/event"
	"github.com/seed-1b628d3f/outbox/internal/owntable"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// An event is known as a letter, and for good as one that was discarded, but not after a redrive has removed its letter. Events that differ in their
// tables or types are others, also if they have one id.
func TestWhatWasALetterIsKnown(t *testing.T) {
	a := outboxtest.Start(t)
	require.NoError(t, owntable.Form{What: "table", Partition: "group", Sort: "id", TTL: "expiresAt"}.Create(t.Context(), a.DynamoDB, "letters"))
	s, err := deadletter.New(a.DynamoDB, "letters", "c")
	require.NoError(t, err)
	var events []event.Event
	for i := range 60 {
		events = append(events, event.Event{ID: fmt.Sprint(i), AggregateID: fmt.Sprint(i % 7), Type: "T", Table: "events", Payload: []byte("1")})
	}
	long := strings.Repeat("é#", 700)
	events = append(events, event.Event{ID: long, AggregateID: long, Type: "T", Table: "events"}, event.Event{ID: "free", Type: "T", Table: "events"},
		events[3]) // twice
	are := func(n int) bool {
		t.Helper()
		known, err := s.AreLetters(t.Context(), events)
		require.NoError(t, err)
		require.Len(t, known, len(events))
		return known[n]
	}
	for _, n := range []int{3, 60, 61} {
		require.False(t, are(n))
		l := deadletter.Letter{Event: events[n], StoredAt: time.Now()}
		if n == 3 {
			l.Event.Table = "" // as from a source that does not name it
		}
		put(t, s, &l)
		require.True(t, are(n))
		_, err := s.Remove(t.Context(), &l)
		require.NoError(t, err)
		require.False(t, are(n), "redriven")
		put(t, s, &l)
		removed, err := s.Discard(t.Context(), &l)
		require.NoError(t, err)
		require.True(t, removed)
		require.True(t, are(n), "discarded")
		removed, err = s.Discard(t.Context(), &l)
		require.NoError(t, err)
		require.False(t, removed)
	}
	require.True(t, are(62))
	known, err := s.AreLetters(t.Context(), events)
	require.NoError(t, err)
	count := 0
	for _, is := range known {
		if is {
			count++
		}
	}
	require.Equal(t, 4, count)

	// One id and aggregate in another table, first as the only one, then under a key of its own.
	other := event.Event{ID: "61x", AggregateID: "a", Type: "T", Table: "events"}
	events[0], events[1], events[2] = other, other, other
	events[1].Table, events[2].Type = "elsewhere", "U"
	for n := range 3 {
		l := deadletter.Letter{Event: events[n], StoredAt: time.Now()}
		put(t, s, &l)
		for k := range 3 {
			require.Equal(t, k <= n, are(k), "event %d of %d", k, n)
		}
	}
	l, err := s.Get(t.Context(), "a#61x")
	require.NoError(t, err)
	_, err = s.Discard(t.Context(), &l)
	require.NoError(t, err)
	require.True(t, are(0))
	events[0].Table = "a third one"
	require.False(t, are(0))
}

// between calls do before the nth BatchGetItem.
type between struct {
	*dynamodb.Client
	n  int
	do func()
}

func (b *between) BatchGetItem(ctx context.Context, in *dynamodb.BatchGetItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	if b.n--; b.n == 0 {
		b.do()
	}
	return b.Client.BatchGetItem(ctx, in, opts...)
}

// Whenever the letter is discarded, it is known before and after, and so while somebody looks.
func TestADiscardIsNotMissedByWhoLooksMeanwhile(t *testing.T) {
	a := outboxtest.Start(t)
	require.NoError(t, owntable.Form{What: "table", Partition: "group", Sort: "id", TTL: "expiresAt"}.Create(t.Context(), a.DynamoDB, "letters"))
	s, err := deadletter.New(a.DynamoDB, "letters", "c")
	require.NoError(t, err)
	for n := 1; n <= 3; n++ {
		l := deadletter.Letter{Event: event.Event{ID: fmt.Sprint(n), AggregateID: "a", Type: "T", Table: "events"}, StoredAt: time.Now()}
		put(t, s, &l)
		slow, err := deadletter.New(&between{a.DynamoDB, n, func() {
			_, err := s.Discard(t.Context(), &l)
			require.NoError(t, err)
		}}, "letters", "c")
		require.NoError(t, err)
		known, err := slow.AreLetters(t.Context(), []event.Event{l.Event})
		require.NoError(t, err)
		require.Equal(t, []bool{true}, known, "before the call %d", n)
	}
}

// A record that cannot be decoded has no event that anybody could ask for: nothing is left of it.
func TestADiscardedRecordLeavesNothing(t *testing.T) {
	a := outboxtest.Start(t)
	require.NoError(t, owntable.Form{What: "table", Partition: "group", Sort: "id", TTL: "expiresAt"}.Create(t.Context(), a.DynamoDB, "letters"))
	s, err := deadletter.New(a.DynamoDB, "letters", "c")
	require.NoError(t, err)
	l := deadletter.Letter{Event: event.Event{ShardID: "s", SequenceNumber: "9"}, Raw: []byte("?"), StoredAt: time.Now()}
	put(t, s, &l)
	_, err = s.Discard(t.Context(), &l)
	require.NoError(t, err)
	out, err := a.DynamoDB.Scan(t.Context(), &dynamodb.ScanInput{TableName: aws.String("letters")})
	require.NoError(t, err)
	require.Empty(t, out.Items)
}

// An id may be used again when the row of its event has expired: the event with another time is another one.
func TestADiscardIsOfOneEventNotOfItsID(t *testing.T) {
	a := outboxtest.Start(t)
	require.NoError(t, owntable.Form{What: "table", Partition: "group", Sort: "id", TTL: "expiresAt"}.Create(t.Context(), a.DynamoDB, "letters"))
	s, err := deadletter.New(a.DynamoDB, "letters", "c")
	require.NoError(t, err)
	at := time.Now()
	timed := func(id string, at time.Time) event.Event {
		return event.Event{ID: id, AggregateID: "a", Type: "T", Table: "events", Time: at}
	}
	for _, e := range []event.Event{timed("1", at), timed("2", time.Time{})} {
		l := deadletter.Letter{Event: e, StoredAt: at}
		put(t, s, &l)
		l, err := s.Get(t.Context(), l.ID)
		require.NoError(t, err)
		_, err = s.Discard(t.Context(), &l)
		require.NoError(t, err)
	}
	known, err := s.AreLetters(t.Context(), []event.Event{timed("1", at), timed("1", at.Truncate(time.Millisecond)), timed("1", time.Time{}),
		timed("1", at.Add(time.Millisecond)), timed("1", at.Add(-time.Hour)), timed("2", at), timed("2", time.Time{})})
	require.NoError(t, err)
	require.Equal(t, []bool{true, true, true, false, false, true, true}, known)
}
