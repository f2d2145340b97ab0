package deadletter_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/deadletter"
	"github.com/seed-1b628d3f/outbox/internal/event"
	"github.com/seed-1b628d3f/outbox/internal/owntable"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// target is a letter, and those before it in its queue.
func target(l *deadletter.Letter) deadletter.Target {
	return deadletter.Target{Queue: deadletter.QueueOf(l.ID), Letter: l.ID}
}

// Everything of a letter comes back, whatever its size and whatever its ids.
func TestLettersComeBackWhole(t *testing.T) {
	s := newStore(t)
	at := time.UnixMilli(1719347890250).UTC()
	for name, l := range map[string]deadletter.Letter{
		"all": {Event: event.Event{ID: "e", Type: "T", AggregateID: "a", Sequence: 7, Time: at, Headers: map[string]string{"h": "v"},
			Payload: []byte(`{}`), Table: "events", ChangedAt: at.Add(time.Microsecond), StreamARN: "arn", ShardID: "shard", SequenceNumber: "12"},
			Error: "why", Attempts: 3, StoredAt: at},
		"binary":          {Event: event.Event{ID: "b", ContentType: "application/x-protobuf", Payload: []byte{0, 0xff}}, StoredAt: at},
		"no payload":      {Event: event.Event{ID: "n"}, StoredAt: at},
		"empty payload":   {Event: event.Event{ID: "m", ContentType: "x", Payload: []byte{}}, StoredAt: at},
		"parked":          {Event: event.Event{ID: "p", AggregateID: "a"}, Parked: true, StoredAt: at},
		"raw":             {Event: event.Event{ShardID: "shard", SequenceNumber: "13"}, Raw: []byte{1, 2, 0xfe}, StoredAt: at},
		"raw, from where": {Raw: []byte("x"), StoredAt: at},
		"large":           {Event: event.Event{ID: "l", Payload: bytes.Repeat([]byte("x"), 399<<10), Headers: map[string]string{"h": strings.Repeat("v", 900)}}, StoredAt: at},
		"large headers":   {Event: event.Event{ID: "g", Headers: map[string]string{"h": strings.Repeat("v", 399<<10)}, Payload: []byte("1")}, StoredAt: at},
		"large raw":       {Event: event.Event{ShardID: "s", SequenceNumber: "9"}, Raw: bytes.Repeat([]byte{0xff, 1}, 5<<20), StoredAt: at},
		"long ids": {Event: event.Event{ID: strings.Repeat("é#", 700), AggregateID: strings.Repeat("#", 2000), Payload: []byte("1")},
			StoredAt: at},
		"no text":    {Event: event.Event{ID: "t", Payload: []byte("\xff")}, StoredAt: at},
		"long error": {Event: event.Event{ID: "o"}, Error: strings.Repeat("é", 5000), StoredAt: at},
	} {
		t.Run(name, func(t *testing.T) {
			want := l
			put(t, s, &l)
			got, err := s.Get(t.Context(), l.ID)
			require.NoError(t, err)
			require.Equal(t, want.Event, got.Event)
			require.Equal(t, want.Raw, got.Raw)
			require.Equal(t, want.Attempts, got.Attempts)
			require.Equal(t, want.Parked, got.Parked)
			require.Equal(t, want.StoredAt, got.StoredAt)
			require.LessOrEqual(t, len(got.Error), 2<<10+3)
			require.True(t, strings.HasPrefix(want.Error, strings.TrimSuffix(got.Error, "...")))
			removed, err := s.Remove(t.Context(), &got)
			require.NoError(t, err)
			require.True(t, removed)
			removed, err = s.Remove(t.Context(), &got)
			require.NoError(t, err)
			require.False(t, removed)
		})
	}
}

// Different ids never share a row or a queue.
func TestKeysAreDifferent(t *testing.T) {
	s := newStore(t)
	ids := []string{"a", "a#", "a%23", "#a", "a#b", "%", "", strings.Repeat("x", 400), strings.Repeat("x", 401), strings.Repeat("x", 402), strings.Repeat("x", 400) + "#", "\xff", "\xfe"}
	seen := map[string]bool{}
	for _, aggregate := range ids {
		for _, id := range ids {
			if id == "" {
				continue
			}
			l := deadletter.Letter{Event: event.Event{ID: id, AggregateID: aggregate}, StoredAt: time.Now()}
			put(t, s, &l)
			require.Falsef(t, seen[l.ID], "%q of %q", id, aggregate)
			seen[l.ID] = true
			require.Equal(t, deadletter.QueueKey(aggregate), deadletter.QueueOf(l.ID))
			require.LessOrEqual(t, len(l.ID), 1000)
		}
	}
	for _, aggregate := range ids[:6] {
		n := 0
		for l, err := range s.Letters(t.Context(), deadletter.QueueKey(aggregate), all) {
			require.NoError(t, err)
			require.Equal(t, aggregate, l.Event.AggregateID)
			n++
		}
		require.Equal(t, len(ids)-1, n)
	}
}

// The letters of one shard are in its order, however long its numbers are, and whenever they were stored.
func TestLettersOfAShardAreInItsOrder(t *testing.T) {
	s := newStore(t)
	for _, n := range []string{"100", "99", "49590338271490256608559692538361571095921575989136588898", "7"} {
		l := deadletter.Letter{Event: event.Event{ID: "e" + n, AggregateID: "a", StreamARN: "arn", ShardID: "s", SequenceNumber: n}, StoredAt: time.Now()}
		put(t, s, &l)
	}
	var order []string
	for l, err := range s.Letters(t.Context(), "a", all) {
		require.NoError(t, err)
		order = append(order, l.Event.SequenceNumber)
	}
	require.Equal(t, []string{"7", "99", "100", "49590338271490256608559692538361571095921575989136588898"}, order)
}

func TestAQueueIsThereWhileItHasLetters(t *testing.T) {
	s := newStore(t)
	var letters []deadletter.Letter
	for i := range 3 {
		l := deadletter.Letter{Event: event.Event{ID: fmt.Sprint(i), AggregateID: "a#"}, StoredAt: time.Now()}
		stored, err := s.PutBehind(t.Context(), &l)
		require.NoError(t, err)
		require.Equal(t, []deadletter.Stored{deadletter.Refused, deadletter.Added}[min(i, 1)], stored, "there must be a first one")
		put(t, s, &l)
		put(t, s, &l) // twice counts once
		letters = append(letters, l)
	}
	parked, err := s.AreParked(t.Context(), []string{"b", "a#", "a"})
	require.NoError(t, err)
	require.Equal(t, []string{"a#"}, parked)
	for i := range letters {
		closed, err := s.Close(t.Context(), deadletter.QueueKey("a#"))
		require.NoError(t, err)
		require.False(t, closed)
		_, err = s.Remove(t.Context(), &letters[i])
		require.NoError(t, err)
	}
	closed, err := s.Close(t.Context(), deadletter.QueueKey("a#"))
	require.NoError(t, err)
	require.True(t, closed)
	_, err = s.Lock(t.Context(), target(&letters[0]), "me")
	require.ErrorIs(t, err, deadletter.ErrMissing)
}

// A request that is made again while it is answered stays.
func TestRequests(t *testing.T) {
	s := newStore(t)
	require.NoError(t, s.Ask(t.Context(), deadletter.Target{Queue: "a"}))
	requests, err := s.Requests(t.Context(), 10)
	require.NoError(t, err)
	require.Len(t, requests, 1)
	time.Sleep(2 * time.Millisecond)
	require.NoError(t, s.Ask(t.Context(), deadletter.Target{Queue: "a"}))
	require.NoError(t, s.Answered(t.Context(), requests[0]))
	requests, err = s.Requests(t.Context(), 10)
	require.NoError(t, err)
	require.Len(t, requests, 1)
	require.NoError(t, s.Answered(t.Context(), requests[0]))
	requests, err = s.Requests(t.Context(), 10)
	require.NoError(t, err)
	require.Empty(t, requests)
}

func TestAttemptsAreCounted(t *testing.T) {
	s := newStore(t)
	replayed := &event.Event{ID: "e#1"}
	first := &event.Event{ID: "e#1", ShardID: "s", SequenceNumber: "1"}
	second := &event.Event{ID: "e#1", ShardID: "s", SequenceNumber: "2"}
	elsewhere := &event.Event{ID: "e#1", StreamARN: "other", ShardID: "s", SequenceNumber: "1"}
	otherTable := &event.Event{ID: "e#1", Table: "other", ShardID: "s", SequenceNumber: "1"}
	for want := 1; want <= 3; want++ {
		for _, e := range []*event.Event{replayed, first, second, elsewhere, otherTable} { // each on its own
			n, err := s.Attempt(t.Context(), e, deadletter.Attempts{Failed: 1, Lost: 9})
			require.NoError(t, err)
			require.Equal(t, deadletter.Attempts{Failed: want, Lost: 9 * want}, n)
		}
	}
	require.NoError(t, s.ForgetAttempts(t.Context(), first))
	for e, want := range map[*event.Event]deadletter.Attempts{replayed: {Failed: 5, Lost: 27}, first: {Failed: 2}, second: {Failed: 5, Lost: 27},
		elsewhere: {Failed: 5, Lost: 27}, otherTable: {Failed: 5, Lost: 27}} {
		n, err := s.Attempt(t.Context(), e, deadletter.Attempts{Failed: 2})
		require.NoError(t, err)
		require.Equal(t, want, n)
		n, err = s.Attempts(t.Context(), e)
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
}

// Numbers of two shards or streams say nothing about each other, and clocks say nothing at all.
func TestLettersComeWhereTheyWereStored(t *testing.T) {
	s, now := newStore(t), time.Now()
	var want []string
	for i, e := range []event.Event{
		{StreamARN: "x", ShardID: "1", SequenceNumber: "9"}, {StreamARN: "x", ShardID: "2", SequenceNumber: "5"}, {StreamARN: "y", ShardID: "1", SequenceNumber: "3"},
		{}, {SequenceNumber: "2"}, {StreamARN: "x", SequenceNumber: "1"}, {StreamARN: "x", ShardID: "1", SequenceNumber: "no number"},
	} {
		e.ID, e.AggregateID = fmt.Sprint(9-i), "a"
		put(t, s, &deadletter.Letter{Event: e, StoredAt: now.Add(-time.Duration(i) * time.Hour)})
		want = append(want, "a#"+e.ID)
	}
	ids, err := s.IDs(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, want, ids)
}

// An event's sequence in its aggregate decides, whatever brought the event, and whenever.
func TestLettersWithASequenceAreInItsOrder(t *testing.T) {
	s := newStore(t)
	for i, sequence := range []int64{3, 1, 2} {
		put(t, s, &deadletter.Letter{Event: event.Event{ID: fmt.Sprint(sequence), AggregateID: "a", Table: "events", Sequence: sequence, StreamARN: "x",
			ShardID: "1", SequenceNumber: fmt.Sprint(i + 1)}, StoredAt: time.Now()})
	}
	ids, err := s.IDs(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, []string{"a#1", "a#2", "a#3"}, ids)
}

// Of letters that are stored at once, the first one is the first.
func TestLettersThatAreStoredAtOnceKeepTheirOrder(t *testing.T) {
	s := newStore(t)
	at := time.Now()
	for _, id := range []string{"c", "a", "b"} {
		put(t, s, &deadletter.Letter{Event: event.Event{ID: id, AggregateID: "x"}, StoredAt: at})
	}
	ids, err := s.IDs(t.Context(), "x")
	require.NoError(t, err)
	require.Equal(t, []string{"x#c", "x#a", "x#b"}, ids)
}

// Records that cannot be decoded are told by where they came from: stream, shard and number. Where the shard is not known, their bytes count, too.
func TestRawLettersAreToldByTheirPlace(t *testing.T) {
	type record struct{ stream, shard, number, bytes string }
	for name, one := range map[string]struct {
		records []record
		letters int
	}{
		"delivered twice":                {[]record{{"x", "s", "1", "a"}, {"x", "s", "1", "a"}, {"x", "s", "1", "written otherwise"}}, 1},
		"another number, shard, stream":  {[]record{{"x", "s", "1", "a"}, {"x", "s", "2", "a"}, {"x", "t", "1", "a"}, {"y", "s", "1", "a"}, {"", "s", "1", "a"}}, 5},
		"no shard":                       {[]record{{"x", "", "1", "a"}, {"x", "", "1", "a"}, {"x", "", "1", "b"}, {"x", "", "1", "b"}, {"y", "", "1", "a"}}, 3},
		"no number":                      {[]record{{"x", "s", "", "a"}, {"x", "s", "", "a"}, {"x", "s", "", "b"}, {"y", "s", "", "a"}, {"y", "s", "", "a"}}, 3},
		"nothing known":                  {[]record{{"", "", "", "a"}, {"", "", "", "a"}, {"", "", "", "b"}}, 2},
		"large":                          {[]record{{"x", "", "1", "large 1"}, {"x", "", "1", "large 2"}, {"x", "", "1", "large 1"}}, 2},
		"names that look like the other": {[]record{{"x", "s:1", "1", "a"}, {"x", "s", "1:1", "a"}}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			s, want := newStore(t), map[record]bool{}
			for _, r := range one.records {
				raw := r.bytes
				if strings.HasPrefix(raw, "large") {
					raw = strings.Repeat(raw, 60_000)
				}
				l := deadletter.Letter{Raw: []byte(raw), Event: event.Event{StreamARN: r.stream, ShardID: r.shard, SequenceNumber: r.number}, Error: "no \xff", StoredAt: time.Now()}
				put(t, s, &l)
				require.LessOrEqual(t, len(l.ID), 1000)
				want[r] = true
			}
			n := 0
			for l, err := range s.Letters(t.Context(), "", all) {
				require.NoError(t, err)
				require.Equal(t, "no ?", l.Error)
				e := &l.Event
				bytes := string(l.Raw[:min(len(l.Raw), len("large 1"))])
				require.True(t, want[record{e.StreamARN, e.ShardID, e.SequenceNumber, bytes}], "%q of %+v", bytes, e)
				n++
			}
			require.Equal(t, one.letters, n)
		})
	}
}

// Two events that share an id, a type and an aggregate are told apart by their tables, or else by the streams that they came from. What is not
// known of a delivery makes no difference. However many share a key, each is kept.
func TestEventsAreToldByTableOrStream(t *testing.T) {
	type source struct{ table, stream string }
	for name, one := range map[string]struct {
		sources []source
		letters int
	}{
		"one table by several streams":         {[]source{{"x", "1"}, {"x", "2"}, {"x", ""}, {"", ""}}, 1},
		"tables":                               {[]source{{"x", "1"}, {"y", "1"}, {"z", "1"}, {"x", "1"}, {"z", "1"}}, 3},
		"streams that name no table":           {[]source{{"", "1"}, {"", "2"}, {"", "3"}, {"", "2"}}, 3},
		"a table, and a stream without a name": {[]source{{"x", "1"}, {"", "1"}, {"", "2"}}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			for _, from := range one.sources {
				put(t, s, &deadletter.Letter{Event: event.Event{ID: "1", Type: "T", AggregateID: "a", Table: from.table, StreamARN: from.stream}, StoredAt: time.Now()})
			}
			ids, err := s.IDs(t.Context(), "a")
			require.NoError(t, err)
			require.Len(t, ids, one.letters)
		})
	}
}

func TestConsumersHaveNames(t *testing.T) {
	for _, name := range []string{"", "a#b", strings.Repeat("x", 256)} {
		_, err := deadletter.New(nil, "letters", name)
		require.ErrorContains(t, err, "a consumer's name has 1 to 255 bytes of UTF-8 and no '#'")
	}
	_, err := deadletter.New(nil, "letters", strings.Repeat("x", 255))
	require.NoError(t, err)
}

// remover removes the letter that it is asked for, once, before it answers.
type remover struct {
	*dynamodb.Client
	s *deadletter.Store // over the client itself
	l *deadletter.Letter
}

func (r *remover) GetItem(ctx context.Context, in *dynamodb.GetItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	if r.l != nil {
		l := r.l
		r.l = nil
		if _, err := r.s.Remove(ctx, l); err != nil {
			return nil, err
		}
	}
	return r.Client.GetItem(ctx, in, opts...)
}

// A letter that was there when it was to be stored, and is removed before that is looked at, is stored.
func TestALetterThatIsRemovedMeanwhileIsStored(t *testing.T) {
	a := outboxtest.Start(t)
	require.NoError(t, owntable.Form{What: "table", Partition: "group", Sort: "id", TTL: "expiresAt"}.Create(t.Context(), a.DynamoDB, "letters"))
	s, err := deadletter.New(a.DynamoDB, "letters", "c")
	require.NoError(t, err)
	first := deadletter.Letter{Event: event.Event{ID: "1", AggregateID: "a"}, StoredAt: time.UnixMilli(1)}
	put(t, s, &first)
	racing, err := deadletter.New(&remover{Client: a.DynamoDB, s: s, l: &first}, "letters", "c")
	require.NoError(t, err)
	second := deadletter.Letter{Event: event.Event{ID: "1", AggregateID: "a"}, StoredAt: time.UnixMilli(2)}
	stored, err := racing.Put(t.Context(), &second)
	require.NoError(t, err)
	require.Equal(t, deadletter.Added, stored)
	ids, err := s.IDs(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, []string{"a#1"}, ids)
}

// halfway is a client whose BatchGetItem leaves all but one key unprocessed.
type halfway struct{ *dynamodb.Client }

func (h halfway) BatchGetItem(ctx context.Context, in *dynamodb.BatchGetItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	left := in.RequestItems["letters"]
	first := left
	first.Keys, left.Keys = left.Keys[:1], left.Keys[1:]
	out, err := h.Client.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{"letters": first}}, opts...)
	if err == nil && len(left.Keys) > 0 {
		out.UnprocessedKeys = map[string]types.KeysAndAttributes{"letters": left}
	}
	return out, err
}

// Keys that DynamoDB leaves unprocessed are asked for again; of more queues than wanted, so many are returned.
func TestQueuesAreReadCompletely(t *testing.T) {
	a := outboxtest.Start(t)
	require.NoError(t, owntable.Form{What: "table", Partition: "group", Sort: "id", TTL: "expiresAt"}.Create(t.Context(), a.DynamoDB, "letters"))
	s, err := deadletter.New(halfway{a.DynamoDB}, "letters", "c")
	require.NoError(t, err)
	for _, aggregate := range []string{"a", "b", "c"} {
		put(t, s, &deadletter.Letter{Event: event.Event{ID: "1", AggregateID: aggregate}, StoredAt: time.Now()})
	}
	parked, err := s.AreParked(t.Context(), []string{"a", "x", "c"})
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"a", "c"}, parked)
}

// Queues are read in pages of any size, each once; one without letters parks nothing.
func TestParkedAggregatesAreReadInPages(t *testing.T) {
	s := newStore(t)
	for _, aggregate := range []string{"a", "b", "c#", "d"} {
		l := deadletter.Letter{Event: event.Event{ID: "1", AggregateID: aggregate}, StoredAt: time.Now()}
		put(t, s, &l)
		if aggregate == "b" {
			_, err := s.Remove(t.Context(), &l)
			require.NoError(t, err)
		}
	}
	for limit := 1; limit <= 5; limit++ {
		var all []string
		read, after := 0, ""
		for more := true; more; more = after != "" {
			aggregates, queues, next, err := s.Parked(t.Context(), after, limit)
			require.NoError(t, err)
			require.LessOrEqual(t, queues, limit)
			all, read, after = append(all, aggregates...), read+queues, next
		}
		require.Equal(t, []string{"a", "c#", "d"}, all)
		require.Equal(t, 4, read)
	}
	parked, err := s.AreParked(t.Context(), []string{"a", "b"})
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, parked)
}

// A duplicate of a delivery, in the same millisecond, is not the letter's own request that lost its answer.
func TestADuplicateAtTheSameTimeIsOneBefore(t *testing.T) {
	s, at := newStore(t), time.Now()
	for _, event := range []event.Event{{ID: "1", AggregateID: "a"}, {ID: "1"}} {
		for i, want := range []deadletter.Stored{deadletter.Added, deadletter.Before} {
			stored, err := s.Put(t.Context(), &deadletter.Letter{Event: event, StoredAt: at})
			require.NoError(t, err)
			require.Equal(t, want, stored, "time %d", i+1)
		}
	}
}
