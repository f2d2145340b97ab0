package replay_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/replay"
)

// model is what a query must find, computed in the simplest way.
func model(events []outbox.Record, q replay.Query) []string {
	var found []outbox.Record
	for _, r := range events {
		if q.ID != "" && r.ID == q.ID || q.ID == "" &&
			(q.AggregateID == "" || r.AggregateID == q.AggregateID) && (q.Type == "" || r.Type == q.Type) &&
			(q.From.IsZero() || !r.Time.Before(q.From)) && (q.To.IsZero() || r.Time.Before(q.To)) {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b outbox.Record) int { return cmp.Or(a.Time.Compare(b.Time), strings.Compare(a.ID, b.ID)) })
	// Bubble sort, among the events of one aggregate that have a sequence.
	numbered := func(r outbox.Record) bool { return r.AggregateID != "" && r.Sequence != 0 }
	for range found {
		for i := range found {
			for j := i + 1; j < len(found); j++ {
				if numbered(found[i]) && numbered(found[j]) && found[i].AggregateID == found[j].AggregateID {
					if found[j].Sequence < found[i].Sequence {
						found[i], found[j] = found[j], found[i]
					}
					break
				}
			}
		}
	}
	out := []string{}
	for _, r := range found {
		out = append(out, r.ID)
	}
	return out
}

// Every combination of what a query may name finds what the model finds, in the same order: by a scan, and with each of the
// indexes.
func TestQueriesFindWhatMatchesInOrder(t *testing.T) {
	w := newWorld(t)
	rng := rand.New(rand.NewPCG(1, 2))
	events := random(rng, 120)
	w.put(t, events...)
	w.row(t, item{"eventId": attrS("foreign"), "aggregateId": attrS("a"), "timestamp": attrN("5")}) // no event
	var queries []replay.Query
	for _, aggregate := range []string{"", "a", "7", "none"} {
		for _, eventType := range []string{"", "PAID"} {
			for _, from := range []time.Time{{}, at(10), at(10).Add(-time.Microsecond), at(10).Add(time.Microsecond)} {
				for _, to := range []time.Time{{}, at(11), at(30).Add(time.Microsecond)} {
					q := replay.Query{AggregateID: aggregate, Type: eventType, From: from, To: to}
					if q != (replay.Query{}) && (to.IsZero() || from.Before(to)) {
						queries = append(queries, q)
					}
				}
			}
		}
	}
	queries = append(queries, replay.Query{ID: events[7].ID})
	nonEmpty, queried := 0, 0
	check := func(with ...replay.Index) {
		for _, q := range queries {
			w.client.scans.Store(0)
			w.client.queries.Store(0)
			got, err := ids(t, w.events, q)
			require.NoError(t, err, "%v: %+v", with, q)
			require.Equal(t, model(events, q), got, "%v: %+v", with, q)
			if len(got) > 1 {
				nonEmpty++
			}
			// A query that names what an index has does not scan.
			indexed := q.Type != "" && slices.Contains(with, replay.ByType) || q.AggregateID != "" && slices.Contains(with, replay.ByAggregate)
			require.True(t, !indexed || w.client.scans.Load() == 0, "%v: %+v", with, q)
			require.True(t, indexed || w.client.queries.Load() == 0, "%v: %+v", with, q)
			queried += int(w.client.queries.Load())
		}
	}
	check()
	require.NoError(t, w.events.CreateIndex(t.Context(), replay.ByType, nil))
	check(replay.ByType)
	require.NoError(t, w.events.CreateIndex(t.Context(), replay.ByAggregate, nil))
	check(replay.ByType, replay.ByAggregate)
	require.Greater(t, queried, 50)
	require.Greater(t, nonEmpty, 90)
}

// The rows come as they are stored, and name their table.
func TestRecordsAreComplete(t *testing.T) {
	w := newWorld(t)
	want := outbox.Record{ID: "1", Type: "NOTED", AggregateID: "a", Sequence: 4, Time: at(3), Headers: map[string]string{"trace": "x"},
		ContentType: "application/x-protobuf", Payload: []byte{0, 1, 255}, Table: "events"}
	w.put(t, want)
	for _, table := range []string{"events", "arn:aws:dynamodb:us-east-1:000000000000:table/events"} {
		e, err := replay.New(w.DynamoDB, table)
		require.NoError(t, err)
		for _, q := range []replay.Query{{ID: "1"}, {Type: "NOTED"}} {
			n := 0
			for r, err := range e.Records(t.Context(), q) {
				require.NoError(t, err)
				require.Equal(t, want, r)
				n++
			}
			require.Equal(t, 1, n)
		}
	}
}

func TestWhatAQueryMayNotBe(t *testing.T) {
	w := newWorld(t)
	for want, q := range map[string]replay.Query{
		"it is empty: set ID, or any of AggregateID, Type, From and To": {},
		"an ID stands alone": {ID: "1", Type: "NOTED"},
		"an ID stands alone, without AggregateID, Type, From and To": {ID: "1", From: at(0)},
		"must be before To": {Type: "NOTED", From: at(5), To: at(5)},
	} {
		_, err := ids(t, w.events, q)
		require.ErrorContains(t, err, "replay: the query: ")
		require.ErrorContains(t, err, want)
		_, err = w.events.To(t.Context(), q, newConsumer(t, unreached), replay.Options{})
		require.ErrorContains(t, err, want)
	}
	few, err := replay.New(w.DynamoDB, "events", replay.WithAttributes(outbox.Attributes{Time: outbox.NoAttribute, AggregateID: outbox.NoAttribute, Sequence: outbox.NoAttribute}))
	require.NoError(t, err)
	_, err = ids(t, few, replay.Query{AggregateID: "a", From: at(0)})
	require.ErrorContains(t, err, "the table has no attribute for AggregateID")
	require.ErrorContains(t, err, "the table has no attribute for From and To")
	w.put(t, event("2", "a", 1), event("1", "a", 2))
	got, err := ids(t, few, replay.Query{Type: "NOTED"})
	require.NoError(t, err)
	require.Equal(t, []string{"1", "2"}, got)
}

func TestNewSaysEverythingThatIsWrong(t *testing.T) {
	var unset *dynamodb.Client
	_, err := replay.New(unset, "", nil, replay.WithMaxEvents(0), replay.WithAttributes(outbox.Attributes{ID: outbox.NoAttribute}))
	for _, want := range []string{"replay: New: ", "the DynamoDB client is nil", "the events table: it is empty: want ", "option 0 is nil",
		"WithMaxEvents: want 1 to 100,000,000, have 0", "an event row needs ID and Type"} {
		require.ErrorContains(t, err, want)
	}
	_, err = replay.New(nil, "events")
	require.ErrorContains(t, err, "the DynamoDB client is nil")
}

func TestTooManyEventsAreRefusedBeforeAnythingIsHandled(t *testing.T) {
	w := newWorld(t, replay.WithMaxEvents(3))
	for i := range 4 {
		w.put(t, event(fmt.Sprint(i), "a", i))
	}
	got, err := ids(t, w.events, replay.Query{Type: "NOTED", From: at(1)})
	require.NoError(t, err)
	require.Len(t, got, 3)
	_, err = ids(t, w.events, replay.Query{Type: "NOTED"})
	require.ErrorIs(t, err, replay.ErrTooMany)
	require.ErrorContains(t, err, "more than 3 events match")
	require.Equal(t, int64(1), w.client.gets.Load())
}

func TestAnIDThatIsNotThere(t *testing.T) {
	w := newWorld(t)
	_, err := ids(t, w.events, replay.Query{ID: "missing"})
	require.ErrorIs(t, err, replay.ErrNotFound)
	require.ErrorContains(t, err, `replay: table events, id "missing"`)
	for _, dry := range []bool{true, false} {
		_, err = w.events.To(t.Context(), replay.Query{ID: "missing"}, newConsumer(t, unreached), replay.Options{DryRun: dry})
		require.ErrorIs(t, err, replay.ErrNotFound)
	}
	w.row(t, item{"eventId": attrS("foreign")})
	_, err = ids(t, w.events, replay.Query{ID: "foreign"})
	require.ErrorIs(t, err, outbox.ErrNotEvent)
}

// Rows of an existing table: other names, times as text, aggregates as numbers.
func TestRowsInOtherForms(t *testing.T) {
	w := newWorld(t)
	w.CreateTable(t, "old", "pk")
	e, err := replay.New(w.client, "old", replay.WithAttributes(outbox.Attributes{ID: "pk", Type: "kind", Time: "size", AggregateID: "user", Payload: "data"}))
	require.NoError(t, err)
	put := func(id string, time, aggregate types.AttributeValue) {
		_, err := w.DynamoDB.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: ptr("old"), Item: item{
			"pk": attrS(id), "kind": attrS("NOTED"), "size": time, "user": aggregate, "data": attrS("{}")}})
		require.NoError(t, err)
	}
	put("number", attrN(fmt.Sprint(at(1).UnixMilli())), attrN("7"))
	put("text", attrS(at(0).Format(time.RFC3339Nano)), attrS("7"))
	put("early", attrS(at(-1000).Format(time.RFC3339Nano)), attrS("7"))
	put("late", attrS(at(5).Format(time.RFC3339Nano)), attrS("7"))
	put("other", attrN(fmt.Sprint(at(1).UnixMilli())), attrN("70"))
	got, err := ids(t, e, replay.Query{AggregateID: "7", From: at(0), To: at(5)})
	require.NoError(t, err)
	require.Equal(t, []string{"text", "number"}, got)

	w.CreateTable(t, "sorted", "eventId", "other")
	sorted, err := replay.New(w.client, "sorted")
	require.NoError(t, err)
	_, err = ids(t, sorted, replay.Query{Type: "NOTED"})
	require.ErrorContains(t, err, "table sorted is no events table")
	wrong, err := replay.New(w.client, "old")
	require.NoError(t, err)
	_, err = ids(t, wrong, replay.Query{Type: "NOTED"})
	require.ErrorContains(t, err, `table old is no events table: want "eventId" as its partition key and no sort key`)
}

// A row that cannot be read is reported, and the others are not lost with it.
func TestARowThatCannotBeReadIsTold(t *testing.T) {
	w := newWorld(t)
	w.put(t, event("1", "a", 1), event("3", "a", 3))
	w.row(t, item{"eventId": attrS("2"), "type": attrS("NOTED"), "timestamp": attrN(fmt.Sprint(at(2).UnixMilli())), "payload": attrN("1")})
	w.row(t, item{"eventId": attrS("0"), "type": attrS("NOTED"), "timestamp": &types.AttributeValueMemberBOOL{Value: true}, "payload": attrS("{}")})
	var got []string
	for r, err := range w.events.Records(t.Context(), replay.Query{From: at(0)}) {
		if err != nil {
			var malformed *outbox.DecodeError
			require.ErrorAs(t, err, &malformed)
			require.ErrorContains(t, err, fmt.Sprintf("event %q of table events: outbox: malformed event row", r.ID))
			r.ID += "!"
		}
		got = append(got, r.ID)
	}
	require.Equal(t, []string{"0!", "1", "2!", "3"}, got)
	for r, err := range w.events.Records(t.Context(), replay.Query{From: at(0)}) { // the caller may stop
		require.Error(t, err)
		require.Equal(t, "0", r.ID)
		break
	}
}

// An answer of BatchGetItem takes 16 MB. The rest comes with the next answers.
func TestRowsOfMoreThanOneAnswer(t *testing.T) {
	w := newWorld(t)
	var want []string
	for i := range 44 {
		id := fmt.Sprintf("%02d", i)
		w.row(t, item{"eventId": attrS(id), "type": attrS("NOTED"), "aggregateId": attrS("a"), "timestamp": attrN(fmt.Sprint(at(i).UnixMilli())),
			"payload": attrS(strings.Repeat("x", 390_000))})
		want = append(want, id)
	}
	got, err := ids(t, w.events, replay.Query{AggregateID: "a"})
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Equal(t, int64(2), w.client.gets.Load())
}

// A throttled table gives back unprocessed keys. They are asked for again, with pauses, but not for ever.
func TestUnprocessedKeysAreAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.Close()
		var want []string
		for i := range 30 {
			w.put(t, event(fmt.Sprintf("%02d", i), "a", i))
			want = append(want, fmt.Sprintf("%02d", i))
		}
		calls, asked := 0, 0
		w.client.get = func(in *dynamodb.BatchGetItemInput) (*dynamodb.BatchGetItemOutput, error) {
			calls++
			request := in.RequestItems["events"]
			asked += len(request.Keys)
			if calls%8 != 0 || len(request.Keys) == 1 { // seven answers without rows, then one with a row
				return &dynamodb.BatchGetItemOutput{UnprocessedKeys: map[string]types.KeysAndAttributes{"events": request}}, nil
			}
			one := request
			one.Keys = request.Keys[:1]
			out, err := w.client.Client.BatchGetItem(t.Context(), &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{"events": one}})
			require.NoError(t, err)
			request.Keys = request.Keys[1:]
			out.UnprocessedKeys = map[string]types.KeysAndAttributes{"events": request}
			if len(request.Keys) == 1 {
				w.client.get = nil
			}
			return out, nil
		}
		got, err := ids(t, w.events, replay.Query{AggregateID: "a"})
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, 29*8, calls)

		calls = 0
		w.client.get = func(in *dynamodb.BatchGetItemInput) (*dynamodb.BatchGetItemOutput, error) {
			calls++
			return &dynamodb.BatchGetItemOutput{UnprocessedKeys: in.RequestItems}, nil
		}
		_, err = ids(t, w.events, replay.Query{AggregateID: "a"})
		require.ErrorContains(t, err, "DynamoDB left 30 keys unread 10 times in a row")
		require.Equal(t, 10, calls)

		broken := errors.New("broken")
		w.client.get = func(*dynamodb.BatchGetItemInput) (*dynamodb.BatchGetItemOutput, error) { return nil, broken }
		_, err = ids(t, w.events, replay.Query{AggregateID: "a"})
		require.ErrorIs(t, err, broken)
	})
}

// A row that is deleted between the search and the fetching is left out.
func TestARowThatGoesMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.put(t, event("1", "a", 1), event("2", "a", 2), event("3", "a", 3))
	w.client.get = func(*dynamodb.BatchGetItemInput) (*dynamodb.BatchGetItemOutput, error) {
		w.remove(t, "2")
		return nil, nil
	}
	got, err := ids(t, w.events, replay.Query{AggregateID: "a"})
	require.NoError(t, err)
	require.Equal(t, []string{"1", "3"}, got)
}

func TestATableThatIsNotThere(t *testing.T) {
	w := newWorld(t)
	e, err := replay.New(w.DynamoDB, "missing")
	require.NoError(t, err)
	for _, q := range []replay.Query{{ID: "1"}, {Type: "NOTED"}} {
		_, err = ids(t, e, q)
		var notFound *types.ResourceNotFoundException
		require.ErrorAs(t, err, &notFound)
		require.ErrorContains(t, err, "table missing")
		result, err := e.To(t.Context(), q, newConsumer(t, unreached), replay.Options{})
		require.ErrorAs(t, err, &notFound)
		require.Equal(t, replay.Result{Found: result.Found, Next: q}, result)
	}
}

// The texts of errors have no payloads in them.
func TestErrorsDoNotQuotePayloads(t *testing.T) {
	w := newWorld(t)
	w.row(t, item{"eventId": attrS("1"), "type": attrS("NOTED"), "timestamp": attrS("secret"), "payload": attrS("secret")})
	_, err := ids(t, w.events, replay.Query{ID: "1"})
	require.Error(t, err)
	require.False(t, bytes.Contains([]byte(err.Error()), []byte("secret")), err)
}

func ptr[T any](v T) *T { return &v }
