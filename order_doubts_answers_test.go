package outbox_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// An aggregate that began too high, because an answer lacked something, would lose its first events for good.
func TestAnAnswerThatDoesNotSpeakOfTheRowsIsNoBeginning(t *testing.T) {
	for name, answer := range map[string]func(*dynamodb.BatchGetItemOutput){
		"no list":                     func(out *dynamodb.BatchGetItemOutput) { out.Responses = map[string][]map[string]types.AttributeValue{} },
		"a null in place of the list": func(out *dynamodb.BatchGetItemOutput) { out.Responses["events"] = nil },
		"another table's list": func(out *dynamodb.BatchGetItemOutput) {
			out.Responses = map[string][]map[string]types.AttributeValue{"other": {}}
		},
		"unread keys that are none": func(out *dynamodb.BatchGetItemOutput) {
			out.Responses, out.UnprocessedKeys = nil, map[string]types.KeysAndAttributes{"events": {}}
		},
		"unread keys of somebody else": func(out *dynamodb.BatchGetItemOutput) {
			out.UnprocessedKeys = map[string]types.KeysAndAttributes{"events": {Keys: []map[string]types.AttributeValue{{"eventId": str("x")}}}}
		},
	} {
		w := newOrderWorld(t)
		events := w.write(t, 1, 2, 3)
		calls := 0
		r := &reluctantTable{Client: w.DynamoDB, answer: func(out *dynamodb.BatchGetItemOutput) {
			if calls++; calls == 1 {
				answer(out)
			}
		}}
		c := newConsumer(t, quiet(), outbox.WithInbox(w.inbox(t, w.DynamoDB)), outbox.WithOrder(r, "events", since), outbox.WithDeadLetters(w.letters, outbox.WithInvokeAttempts(1)))
		outbox.HandleTx(c, w.writer, w.handler)
		require.ErrorContains(t, c.Process(t.Context(), events[2]), "what is before the event cannot be read", name)
		require.Empty(t, w.deadLetters(t), "%s is no attempt", name)
		require.NoError(t, c.Process(t.Context(), events[2]), name)
		w.requireEffects(t, 1, 3)
	}
}

// dated is a transport whose answers have a Date of their own.
type dated struct {
	http.RoundTripper
	date time.Time
}

func (d dated) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := d.RoundTripper.RoundTrip(r)
	if err == nil {
		answer.Header.Set("Date", d.date.UTC().Format(http.TimeFormat))
	}
	return answer, err
}

// Whether an event is young, the service's clock says: with this machine's, which is ahead, the aggregate would begin too high.
func TestAClockThatIsAheadMakesNoBeginning(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, 2)
	committed := time.Now().Add(-time.Minute)
	client := dynamodb.New(w.DynamoDB.Options(), func(o *dynamodb.Options) {
		transport := http.DefaultTransport
		if have, ok := o.HTTPClient.(*http.Client); ok && have.Transport != nil {
			transport = have.Transport
		}
		o.HTTPClient = &http.Client{Transport: dated{transport, committed.Add(2 * time.Second)}}
	})
	c := newConsumer(t, outbox.WithInbox(w.inbox(t, w.DynamoDB)), outbox.WithOrder(client, "events", since))
	outbox.HandleTx(c, w.writer, w.handler)
	events[0].ChangedAt = committed
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.ErrorContains(t, c.Process(ctx, events[0]), "is not in table \"events\" yet")
	require.Empty(t, w.runs)
}

// Where an aggregate begins must not depend on how its events come: what is wanted, a row and a delivery say alike.
func TestAnEventThatIsDatedBackIsNotWanted(t *testing.T) {
	for _, arrival := range [][]int{{0, 1, 2}, {1, 0, 2}, {2, 0, 1}} {
		w := newOrderWorld(t)
		events := w.write(t, 1, 2, 3)
		from := events[1].Time
		events[0].ChangedAt = from.Add(time.Minute) // committed later than its time says
		c := w.process(t, w.DynamoDB, from, outbox.WithDeadLetters(w.letters))
		for _, i := range arrival {
			require.NoError(t, c.Process(t.Context(), events[i]))
		}
		require.Empty(t, w.deadLetters(t), "%v", arrival)
		w.requireEffects(t, 2, 3)
	}
}

// Once an aggregate has begun, the next one is handled, whatever its time.
func TestAnEventThatIsDatedBackInTheMiddleIsHandled(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, 2)
	first, third := w.write(t, 1), w.write(t, 3)
	from := first[0].Time
	events[0].Time = from.Add(-time.Hour)
	c := w.process(t, w.DynamoDB, from)
	for _, r := range []outbox.Record{first[0], events[0], third[0]} {
		require.NoError(t, c.Process(t.Context(), r))
	}
	w.requireEffects(t, 1, 3)
}

// Of a transaction's rows the first is seen last: the aggregate must not begin above it, however many lie between.
func TestABeginningWaitsForARowOnItsWay(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, 2, 3)
	young := events[1]
	young.ChangedAt = time.Now()
	c := w.process(t, w.DynamoDB, since, outbox.WithDeadLetters(w.letters, outbox.WithInvokeAttempts(1)))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.ErrorContains(t, c.Process(ctx, young), `"account-1#1" is not in table "events" yet`)
	require.Empty(t, w.runs)
	w.write(t, 1)
	require.NoError(t, c.Process(t.Context(), young))
	w.requireEffects(t, 1, 3)
}

// A table that gives nothing is told: the event waits for it by name.
func TestKeysThatStayUnreadAreTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newOrderWorld(t)
		defer w.Close()
		events := w.write(t, 1, 2)
		r := &reluctantTable{Client: w.DynamoDB, unread: func(_ int, keys []map[string]types.AttributeValue) int { return len(keys) }}
		err := r.process(t, w).Process(t.Context(), events[1])
		require.ErrorContains(t, err, "events table events")
		require.ErrorContains(t, err, "left 1 keys unread 10 times")
		require.Empty(t, w.deadLetters(t), "no attempt")
	})
}

// A process of an old version has no handler, and does not know yet that a newer one has handled the event.
func TestATypeWithoutAHandlerThatAnotherProcessHasHandledIsADuplicate(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, 1)
	added := sequencedRecord(2)
	added.Type = "ORDER_SEEN"
	require.NoError(t, w.writer.Transact(t.Context(), nil, added))
	old, newer := w.process(t, w.DynamoDB, all, outbox.WithDeadLetters(w.letters)), w.process(t, w.DynamoDB, all, outbox.WithDeadLetters(w.letters))
	outbox.Ignore(newer, "ORDER_SEEN")
	require.NoError(t, old.Process(t.Context(), events[0]))
	require.NoError(t, newer.Process(t.Context(), delivered(added)))
	require.NoError(t, old.Process(t.Context(), delivered(added)))
	require.Empty(t, w.deadLetters(t))
}

// A Record that names no table is one of the ordered table, also to marks.
func TestAMarkIsFoundForARecordWithoutATable(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, 1)
	marks := newConsumer(t, outbox.WithInbox(w.inbox(t, w.DynamoDB)))
	outbox.HandleTx(marks, w.writer, w.handler)
	require.NoError(t, marks.Process(t.Context(), events[0]))
	unnamed := events[0]
	unnamed.Table = ""
	require.NoError(t, w.process(t, w.DynamoDB, events[0].Time, outbox.KeepMarks()).Process(t.Context(), unnamed))
	require.Equal(t, []int64{1}, w.runs)
	require.Equal(t, int64(1), w.position(t))
}

// No Writer writes such an aggregate. DynamoDB refuses the key of one, and two of the others would have one key.
func TestAnAggregateThatCanHaveNoPositionIsRefused(t *testing.T) {
	for name, id := range map[string]string{"too long": strings.Repeat("a", 2049), "no UTF-8": "a\xff"} {
		w := newOrderWorld(t)
		c := w.process(t, w.DynamoDB, all, outbox.WithDeadLetters(w.letters))
		require.NoError(t, c.Process(t.Context(), outbox.Record{ID: outbox.SequencedID(id, 1), Type: "ORDER_CREATED", AggregateID: id, Sequence: 1, Table: "events",
			Time: time.Now(), Payload: []byte(`{}`)}))
		letters := 0
		for l, err := range w.letters.List(t.Context(), outbox.DeadLetterFilter{}) {
			require.NoError(t, err)
			require.Contains(t, l.Error, "aggregate", name)
			letters++
		}
		require.Equal(t, 1, letters, name)
		require.Empty(t, w.runs, name)
		for l := range w.letters.List(t.Context(), outbox.DeadLetterFilter{}) {
			require.NoError(t, w.inbox(t, w.DynamoDB).Discard(t.Context(), w.letters, l.ID), name)
		}
		for range w.letters.List(t.Context(), outbox.DeadLetterFilter{}) {
			require.Fail(t, "a letter that nobody can remove", name)
		}
		_, err := w.inbox(t, w.DynamoDB).Pass(t.Context(), "events", id, 1)
		require.ErrorContains(t, err, "aggregate", name)
	}
}

// A misspelt table switches the order off. This is told, once.
func TestSequencedEventsOfATableWithoutAnOrderAreTold(t *testing.T) {
	var log bytes.Buffer
	w := newOrderWorld(t)
	events := w.write(t, 1, 2)
	c := newConsumer(t, outbox.WithInbox(w.inbox(t, w.DynamoDB)), outbox.WithOrder(w.DynamoDB, "evnets", all), outbox.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	outbox.HandleTx(c, w.writer, w.handler)
	require.NoError(t, c.Process(t.Context(), events...))
	require.Equal(t, 1, strings.Count(log.String(), "table=events ordered=evnets"), log.String())
}
