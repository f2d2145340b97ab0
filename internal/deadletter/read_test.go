package deadletter_test

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/deadletter"
	"github.com/seed-1b628d3f/outbox/internal/event"
	"github.com/seed-1b628d3f/outbox/internal/owntable"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// queueReader sees how the letters of a queue are read.
type queueReader struct {
	*dynamodb.Client
	payloads, atOnce int
}

func (r *queueReader) Query(ctx context.Context, in *dynamodb.QueryInput, opts ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	out, err := r.Client.Query(ctx, in, opts...)
	for _, row := range out.Items {
		if row["payload"] != nil {
			r.payloads++
		}
	}
	return out, err
}

func (r *queueReader) BatchGetItem(ctx context.Context, in *dynamodb.BatchGetItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	r.atOnce = max(r.atOnce, len(in.RequestItems["letters"].Keys))
	return r.Client.BatchGetItem(ctx, in, opts...)
}

// A queue may be longer than memory: only the places of its letters are read at once.
func TestALongQueueIsReadInPages(t *testing.T) {
	a := outboxtest.Start(t)
	require.NoError(t, owntable.Form{What: "table", Partition: "group", Sort: "id", TTL: "expiresAt"}.Create(t.Context(), a.DynamoDB, "letters"))
	reader := &queueReader{Client: a.DynamoDB}
	s, err := deadletter.New(reader, "letters", "c")
	require.NoError(t, err)
	var want []string
	for i := range 60 {
		l := deadletter.Letter{Event: event.Event{ID: fmt.Sprint(i), AggregateID: "a", SequenceNumber: fmt.Sprint(i), Payload: bytes.Repeat([]byte("x"), 40_000)}}
		put(t, s, &l)
		want = append(want, l.ID)
	}
	ids, err := s.IDs(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, want, ids)
	var got []string
	for l, err := range s.Letters(t.Context(), "a", all) {
		require.NoError(t, err)
		require.Len(t, l.Event.Payload, 40_000)
		got = append(got, l.ID)
	}
	require.Equal(t, want, got)
	require.Zero(t, reader.payloads)
	require.Equal(t, 25, reader.atOnce)
}

// A head has everything of a letter but its body, in parts or not: what a redrive selects letters by, and what a removal needs.
func TestAHeadIsALetterWithoutItsBody(t *testing.T) {
	s, at := newStore(t), time.UnixMilli(1719347890250).UTC()
	of := func(id, aggregate string, payload []byte) event.Event {
		return event.Event{ID: id, Type: "T", AggregateID: aggregate, Sequence: 7, Time: at, Headers: map[string]string{"h": "v"}, ContentType: "x/y",
			Payload: payload, Table: "events", ChangedAt: at, StreamARN: "arn", ShardID: "shard", SequenceNumber: "12"}
	}
	want := map[string]deadletter.Letter{}
	for _, l := range []deadletter.Letter{
		{Event: of("1", "a", []byte("1")), Error: "why", Attempts: 3, Parked: true, StoredAt: at},
		{Event: of("2", "b", bytes.Repeat([]byte("2"), 400<<10)), Error: "why", Attempts: 3, Parked: true, StoredAt: at},
		{Event: of("3", "", []byte("3")), Error: "why", StoredAt: at},
		{Event: event.Event{ShardID: "s", SequenceNumber: "1"}, Raw: []byte("garbage"), StoredAt: at},
	} {
		put(t, s, &l)
		require.NoError(t, s.Tried(t.Context(), &l, "again"))
		whole, err := s.Get(t.Context(), l.ID)
		require.NoError(t, err)
		require.Equal(t, l.Event, whole.Event)
		require.False(t, whole.TriedAt.IsZero())
		whole.Event.Headers, whole.Event.Payload, whole.Raw = nil, nil, nil
		head, err := s.Head(t.Context(), l.ID)
		require.NoError(t, err)
		require.Equal(t, whole, head)
		want[l.ID] = whole
	}
	_, err := s.Head(t.Context(), "a#missing")
	require.ErrorIs(t, err, deadletter.ErrMissing)
	collect := func(heads iter.Seq2[deadletter.Letter, error]) []string {
		var ids []string
		for l, err := range heads {
			require.NoError(t, err)
			require.Equal(t, want[l.ID], l)
			ids = append(ids, l.ID)
		}
		return ids
	}
	require.Equal(t, []string{"##s:1", "#3", "a#1", "b#2"}, collect(s.AllHeads(t.Context())))
	require.Equal(t, []string{"b#2"}, collect(s.Heads(t.Context(), "b")))
	require.Equal(t, []string{"##s:1", "#3"}, collect(s.Heads(t.Context(), "")))
}

// Queues are read one by one or all at once, with the number of their letters.
func TestAQueueKnowsHowManyLettersItHas(t *testing.T) {
	s := newStore(t)
	for i := range 3 {
		put(t, s, &deadletter.Letter{Event: event.Event{ID: fmt.Sprint(i), AggregateID: "a#"}, StoredAt: time.Now()})
	}
	put(t, s, &deadletter.Letter{Event: event.Event{ID: "1", AggregateID: "b"}, StoredAt: time.Now()})
	a, b := deadletter.Queue{Key: "a%23", Letters: 3}, deadletter.Queue{Key: "b", Letters: 1}
	var all []deadletter.Queue
	for q, err := range s.Queues(t.Context()) {
		require.NoError(t, err)
		all = append(all, q)
	}
	require.Equal(t, []deadletter.Queue{a, b}, all)
	got, err := s.Queue(t.Context(), "a#")
	require.NoError(t, err)
	require.Equal(t, a, got)
	_, err = s.Queue(t.Context(), "c")
	require.ErrorIs(t, err, deadletter.ErrMissing)
}
