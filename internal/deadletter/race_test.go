package deadletter_test

import (
	"bytes"
	"context"
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

// before does something before each BatchGetItem.
type before struct {
	*dynamodb.Client
	do func()
}

func (b *before) BatchGetItem(ctx context.Context, in *dynamodb.BatchGetItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	b.do()
	return b.Client.BatchGetItem(ctx, in, opts...)
}

// A letter that is removed while its queue is read is not there, and its failure is not kept.
func TestLettersThatAreRemovedMeanwhile(t *testing.T) {
	a := outboxtest.Start(t)
	require.NoError(t, owntable.Form{What: "table", Partition: "group", Sort: "id", TTL: "expiresAt"}.Create(t.Context(), a.DynamoDB, "letters"))
	client := &before{Client: a.DynamoDB}
	s, err := deadletter.New(client, "letters", "c")
	require.NoError(t, err)
	var letters []deadletter.Letter
	for _, n := range []string{"1", "2", "3"} {
		l := deadletter.Letter{Event: event.Event{ID: n, AggregateID: "a", SequenceNumber: n}, StoredAt: time.Now()}
		put(t, s, &l)
		letters = append(letters, l)
	}
	client.do = func() {
		_, err := s.Remove(t.Context(), &letters[1])
		require.NoError(t, err)
	}
	var got []string
	for l, err := range s.Letters(t.Context(), "a", all) {
		require.NoError(t, err)
		got = append(got, l.ID)
	}
	require.Equal(t, []string{"a#1", "a#3"}, got)
	require.NoError(t, s.Tried(t.Context(), &letters[1], "again"))
	_, err = s.Get(t.Context(), letters[1].ID)
	require.ErrorIs(t, err, deadletter.ErrMissing)
}

// beforePart does something before the first PutItem.
type beforePart struct {
	*dynamodb.Client
	do func()
}

func (b *beforePart) PutItem(ctx context.Context, in *dynamodb.PutItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	if do := b.do; do != nil {
		b.do = nil
		do()
	}
	return b.Client.PutItem(ctx, in, opts...)
}

// Two events with one id, both in parts, that become letters at the same time: each keeps its own payload.
func TestPartsOfTwoEventsWithOneID(t *testing.T) {
	a := outboxtest.Start(t)
	require.NoError(t, owntable.Form{What: "table", Partition: "group", Sort: "id", TTL: "expiresAt"}.Create(t.Context(), a.DynamoDB, "letters"))
	client := &beforePart{Client: a.DynamoDB}
	slow, err := deadletter.New(client, "letters", "c")
	require.NoError(t, err)
	fast, err := deadletter.New(a.DynamoDB, "letters", "c")
	require.NoError(t, err)
	letter := func(typ string) *deadletter.Letter {
		payload := bytes.Repeat([]byte(typ), 399<<10)
		return &deadletter.Letter{Event: event.Event{ID: "1", AggregateID: "a", Type: typ, Payload: payload}, StoredAt: time.Now()}
	}
	x, y := letter("X"), letter("Y")
	client.do = func() { put(t, fast, y) } // while x believes that there is no letter with its id
	put(t, slow, x)
	for _, l := range []*deadletter.Letter{x, y} {
		got, err := fast.Get(t.Context(), l.ID)
		require.NoError(t, err)
		require.Equal(t, l.Event.Type, got.Event.Type)
		require.True(t, bytes.Equal(l.Event.Payload, got.Event.Payload), "the payload of %s", l.Event.Type)
	}
	table := "letters"
	count := func() int {
		out, err := a.DynamoDB.Scan(t.Context(), &dynamodb.ScanInput{TableName: &table})
		require.NoError(t, err)
		return len(out.Items)
	}
	for _, l := range []*deadletter.Letter{x, y} {
		got, err := fast.Get(t.Context(), l.ID)
		require.NoError(t, err)
		removed, err := fast.Remove(t.Context(), &got)
		require.NoError(t, err)
		require.True(t, removed)
	}
	require.Equal(t, 1, count(), "the queue's row; no part is left")
}

// A large event that is to be stored behind letters that are gone leaves nothing in the table.
func TestAnEventThatIsNotStoredLeavesNoParts(t *testing.T) {
	a := outboxtest.Start(t)
	require.NoError(t, owntable.Form{What: "table", Partition: "group", Sort: "id", TTL: "expiresAt"}.Create(t.Context(), a.DynamoDB, "letters"))
	s, err := deadletter.New(a.DynamoDB, "letters", "c")
	require.NoError(t, err)
	first := &deadletter.Letter{Event: event.Event{ID: "1", AggregateID: "a"}, StoredAt: time.Now()}
	large := &deadletter.Letter{Event: event.Event{ID: "2", AggregateID: "a", Payload: make([]byte, 399<<10)}, StoredAt: time.Now()}
	put(t, s, first)
	_, err = s.Remove(t.Context(), first)
	require.NoError(t, err)
	for _, rows := range []int{1, 0} { // the queue's row, until it is closed
		stored, err := s.PutBehind(t.Context(), large)
		require.NoError(t, err)
		require.Equal(t, deadletter.Refused, stored)
		out, err := a.DynamoDB.Scan(t.Context(), &dynamodb.ScanInput{TableName: aws.String("letters")})
		require.NoError(t, err)
		require.Len(t, out.Items, rows)
		_, err = s.Close(t.Context(), "a")
		require.NoError(t, err)
	}
	put(t, s, first)
	stored, err := s.PutBehind(t.Context(), large)
	require.NoError(t, err)
	require.Equal(t, deadletter.Added, stored)
}

// A transaction that meets others is made again, one that is throttled is not.
func TestTransactionsThatMeetOthersAreRepeated(t *testing.T) {
	a := outboxtest.Start(t)
	require.NoError(t, owntable.Form{What: "table", Partition: "group", Sort: "id", TTL: "expiresAt"}.Create(t.Context(), a.DynamoDB, "letters"))
	s, err := deadletter.New(a.DynamoDB, "letters", "c")
	require.NoError(t, err)
	letter := func(id string) *deadletter.Letter {
		return &deadletter.Letter{Event: event.Event{ID: id, AggregateID: "a"}, StoredAt: time.Now()}
	}
	require.NoError(t, a.SetFaults(outboxtest.Fault{Kind: outboxtest.TransactionConflict, Service: "DynamoDB", Operation: "TransactWriteItems", Calls: []int{1, 2, 3}}))
	stored, err := s.Put(t.Context(), letter("1"))
	require.NoError(t, err)
	require.Equal(t, deadletter.Added, stored)
	require.NoError(t, a.SetFaults(outboxtest.Fault{Kind: outboxtest.Throttle, Service: "DynamoDB", Operation: "TransactWriteItems", Calls: []int{1}}))
	_, err = s.Put(t.Context(), letter("2"))
	require.ErrorContains(t, err, "ThrottlingError")
}

// As many requests as are wanted, and they expire.
func TestRequestsAreBoundedAndExpire(t *testing.T) {
	a := outboxtest.Start(t)
	require.NoError(t, owntable.Form{What: "table", Partition: "group", Sort: "id", TTL: "expiresAt"}.Create(t.Context(), a.DynamoDB, "letters"))
	s, err := deadletter.New(a.DynamoDB, "letters", "c")
	require.NoError(t, err)
	for _, queue := range []string{"a", "b", "c"} {
		require.NoError(t, s.Ask(t.Context(), deadletter.Target{Queue: queue}))
	}
	for limit, want := range map[int]int{1: 1, 2: 2, 3: 3, 4: 3} {
		requests, err := s.Requests(t.Context(), limit)
		require.NoError(t, err)
		require.Len(t, requests, want)
	}
	table := "letters"
	rows, err := a.DynamoDB.Scan(t.Context(), &dynamodb.ScanInput{TableName: &table})
	require.NoError(t, err)
	for _, row := range rows.Items {
		require.Contains(t, row, "expiresAt")
	}
}
