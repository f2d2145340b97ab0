package outbox_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

func TestHandleTxCommitsEffectsAndMarkTogether(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newInboxWorld(t)
		defer w.Close()
		p := &process{}
		c := w.tx(t, p, func(ctx context.Context, e outbox.Event[orderCreated]) (outbox.Effects, error) {
			r, ok := outbox.RecordFromContext(ctx)
			require.True(t, ok)
			require.Equal(t, e.ID, r.ID)
			return outbox.Effects{Writes: []types.TransactWriteItem{countCommit(e.ID)}, Events: []outbox.AnyEvent{event("next")}}, nil
		})
		require.NoError(t, c.Process(t.Context(), createdRecord("1")))
		require.Equal(t, []string{"TransactWriteItems"}, p.calls())
		require.Equal(t, "1", textOf(w.row(t, "orders", "orderId", "1"), "commits"))
		require.NotNil(t, w.row(t, "events", "eventId", "next"))
		require.Equal(t, values{"eventId": str("1"), "consumer": str("mails#events"), "type": str("ORDER_CREATED"), "aggregateId": str("order-1"),
			"handledAt": num("946684800000"), "expiresAt": num("949276800")}, w.mark(t, "1"), "now, and 30 days later")
	})
}

// What the handler does not return is one write less, and without anything it is the mark alone.
func TestAHandlerWithoutEffectsCostsOneWrite(t *testing.T) {
	w := newInboxWorld(t)
	p := &process{}
	require.NoError(t, w.tx(t, p, returnEffects(outbox.Effects{})).Process(t.Context(), createdRecord("1")))
	require.Equal(t, []string{"PutItem"}, p.calls())
	require.NotEmpty(t, textOf(w.mark(t, "1"), "handledAt"))
	p = &process{}
	require.NoError(t, w.tx(t, p, returnEffects(outbox.Effects{})).Process(t.Context(), createdRecord("1")))
	require.Equal(t, []string{"PutItem"}, p.calls(), "another process asks the table")
}

func TestADuplicateInOneProcessCostsNothing(t *testing.T) {
	w := newInboxWorld(t)
	for _, effects := range []outbox.Effects{{}, {Writes: []types.TransactWriteItem{countCommit("x")}}} {
		for _, cache := range []int{10, 0} {
			id := fmt.Sprint(len(effects.Writes), cache)
			runs := 0
			p := &process{}
			c := w.tx(t, p, func(context.Context, outbox.Event[orderCreated]) (outbox.Effects, error) { runs++; return effects, nil }, outbox.WithInboxCache(cache))
			for range 3 {
				require.NoError(t, c.Process(t.Context(), createdRecord(id)))
			}
			if cache > 0 {
				require.Len(t, p.calls(), 1)
				require.Equal(t, 1, runs)
			} else {
				require.Len(t, p.calls(), 3)
				require.Equal(t, 3, runs)
			}
		}
	}
	require.Equal(t, "2", textOf(w.row(t, "orders", "orderId", "x"), "commits"))
}

// A duplicate that the table knows is remembered as well.
func TestADuplicateOfAnotherProcessIsRemembered(t *testing.T) {
	w := newInboxWorld(t)
	h := returnEffects(outbox.Effects{Writes: []types.TransactWriteItem{countCommit("x")}})
	require.NoError(t, w.tx(t, &process{}, h).Process(t.Context(), createdRecord("1")))
	p := &process{}
	c := w.tx(t, p, h)
	for range 3 {
		require.NoError(t, c.Process(t.Context(), createdRecord("1")))
	}
	require.Len(t, p.calls(), 1)
}

func TestAFailedHandlerOrCommitLeavesNoMark(t *testing.T) {
	w := newInboxWorld(t)
	require.NoError(t, w.writer.Put(t.Context(), "orders", order{"taken"}, event("taken")))
	own := errors.New("down")
	for name, c := range map[string]struct {
		effects outbox.Effects
		err     error
		want    error
	}{
		"its error":           {err: own, want: own},
		"its permanent error": {err: outbox.Permanent(own), want: outbox.ErrPermanent},
		"its condition":       {effects: outbox.Effects{Writes: []types.TransactWriteItem{putNew("taken")}}, want: outbox.ErrConditionFailed},
		"its own condition failure elsewhere": {err: fmt.Errorf("mine: %w", &types.ConditionalCheckFailedException{Item: values{"handledAt": num("1")}}),
			want: &types.ConditionalCheckFailedException{}},
		"another's event": {effects: outbox.Effects{Events: []outbox.AnyEvent{outbox.Event[int]{ID: "taken", Type: "T"}}}, want: outbox.ErrEventConflict},
	} {
		p := &process{}
		err := w.tx(t, p, func(context.Context, outbox.Event[orderCreated]) (outbox.Effects, error) { return c.effects, c.err }).Process(t.Context(), createdRecord("1"))
		if failed := (*types.ConditionalCheckFailedException)(nil); errors.As(c.want, &failed) {
			require.ErrorAsf(t, err, &failed, name)
		} else {
			require.ErrorIsf(t, err, c.want, name)
		}
		require.NotErrorIs(t, err, outbox.ErrClaimed)
		require.Nilf(t, w.mark(t, "1"), name)
		require.Containsf(t, p.calls(), "GetItem", "%s: whether it was handled before", name)
	}
	require.NoError(t, w.tx(t, &process{}, returnEffects(outbox.Effects{})).Process(t.Context(), createdRecord("1")), "it can still be handled")
}

// What only fails because the event was handled is no failure: the handler's error and its panic, its conditions, events with other
// content.
func TestFailuresOfADuplicateAreSuccesses(t *testing.T) {
	w := newInboxWorld(t)
	require.NoError(t, w.tx(t, &process{}, returnEffects(outbox.Effects{Writes: []types.TransactWriteItem{putNew("1")}, Events: []outbox.AnyEvent{event("e")}})).
		Process(t.Context(), createdRecord("1")))
	changed := event("e")
	changed.Data.Description = "another"
	for name, h := range map[string]func(context.Context, outbox.Event[orderCreated]) (outbox.Effects, error){
		"error": func(context.Context, outbox.Event[orderCreated]) (outbox.Effects, error) {
			return outbox.Effects{}, errors.New("down")
		},
		"permanent error": func(context.Context, outbox.Event[orderCreated]) (outbox.Effects, error) {
			return outbox.Effects{}, outbox.Permanent(errors.New("no"))
		},
		"panic":          func(context.Context, outbox.Event[orderCreated]) (outbox.Effects, error) { panic("no") },
		"condition":      returnEffects(outbox.Effects{Writes: []types.TransactWriteItem{putNew("1")}}),
		"other content":  returnEffects(outbox.Effects{Events: []outbox.AnyEvent{changed}}),
		"the same again": returnEffects(outbox.Effects{Writes: []types.TransactWriteItem{putNew("1")}, Events: []outbox.AnyEvent{event("e")}}),
		"too much":       returnEffects(outbox.Effects{Writes: make([]types.TransactWriteItem, 200)}),
		"nothing":        returnEffects(outbox.Effects{}),
	} {
		c := w.tx(t, &process{}, h)
		for range 2 {
			require.NoErrorf(t, c.Process(t.Context(), createdRecord("1")), "%s", name)
		}
	}
	undecodable := createdRecord("1")
	undecodable.Payload = []byte(`{`)
	require.NoError(t, w.tx(t, &process{}, returnEffects(outbox.Effects{})).Process(t.Context(), undecodable))
	w.requireRows(t, 1, 1)
}

// coy answers a cancelled transaction with nothing but the caller's failed condition, and a refused write without its row.
type coy struct{ *dynamodb.Client }

func (c coy) TransactWriteItems(ctx context.Context, in *dynamodb.TransactWriteItemsInput, opts ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error) {
	out, err := c.Client.TransactWriteItems(ctx, in, opts...)
	if canceled := (*types.TransactionCanceledException)(nil); errors.As(err, &canceled) {
		for i := range canceled.CancellationReasons[1:] {
			canceled.CancellationReasons[1+i] = reason("None")
		}
	}
	return out, err
}

func (c coy) PutItem(ctx context.Context, in *dynamodb.PutItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	out, err := c.Client.PutItem(ctx, in, opts...)
	if failed := (*types.ConditionalCheckFailedException)(nil); errors.As(err, &failed) {
		failed.Item = nil
	}
	return out, err
}

func TestNotEveryFailedConditionNeedsToBeNamed(t *testing.T) {
	w := newInboxWorld(t)
	client := coy{w.client(&process{}, true)}
	for _, effects := range []outbox.Effects{{}, {Writes: []types.TransactWriteItem{putNew("1")}}} {
		id := fmt.Sprint(len(effects.Writes))
		for range 2 {
			c := newConsumer(t, outbox.WithInbox(w.inbox(t, client)))
			outbox.HandleTx(c, newWriter(t, client), returnEffects(effects))
			require.NoError(t, c.Process(t.Context(), createdRecord(id)))
		}
	}
	require.ErrorIs(t, newWriter(t, client).Transact(t.Context(), []types.TransactWriteItem{putNew("1")}, event("e")), outbox.ErrConditionFailed)
}

// blind cannot read.
type blind struct{ *dynamodb.Client }

func (blind) GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	return nil, errNoPermission
}

func TestALookThatFailsKeepsTheError(t *testing.T) {
	w := newInboxWorld(t)
	client := blind{w.client(&process{}, true)}
	own := &types.ResourceNotFoundException{Message: aws.String("mine")}
	c := newConsumer(t, outbox.WithInbox(w.inbox(t, client)))
	outbox.HandleTx(c, newWriter(t, client), func(context.Context, outbox.Event[orderCreated]) (outbox.Effects, error) {
		return outbox.Effects{}, outbox.Permanent(own)
	})
	err := c.Process(t.Context(), createdRecord("1"))
	require.ErrorIs(t, err, own)
	missing := (*types.ResourceNotFoundException)(nil)
	require.ErrorAs(t, err, &missing)
	require.Same(t, own, missing)
	require.ErrorIs(t, err, errNoPermission)
	require.NotErrorIs(t, err, outbox.ErrPermanent, "it may have been handled")
	require.ErrorContains(t, err, "whether the event was handled before is not known: inbox table inbox, consumer mails, event \"1\" of table \"events\": no permission to read")
}

// The level of a failure's line says what the failure means: also of a lost race of which nobody knows whether it is a duplicate.
func TestAFailureIsLoggedAsItIsJudged(t *testing.T) {
	for name, test := range map[string]struct {
		err   error
		blind bool
		want  string
	}{
		"a lost race":                  {err: outbox.ErrConditionFailed, want: "INFO"},
		"a lost race without the mark": {err: outbox.ErrConditionFailed, blind: true, want: "ERROR"},
		"an outage":                    {err: outbox.Unavailable(errors.New("down")), want: "WARN"},
		"an outage without the mark":   {err: outbox.Unavailable(errors.New("down")), blind: true, want: "ERROR"},
		"a conflict":                   {err: outbox.ErrConflict, want: "INFO"},
		"a claim":                      {err: outbox.ErrClaimed, want: "INFO"},
		"a failure":                    {err: errors.New("down"), want: "ERROR"},
		"a permanent lost race":        {err: outbox.Permanent(outbox.ErrConditionFailed), want: "ERROR"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newInboxWorld(t)
				defer w.Close()
				var client outbox.InboxClient = w.DynamoDB
				if test.blind {
					client = blind{w.DynamoDB}
				}
				var log bytes.Buffer
				c := newConsumer(t, outbox.WithInbox(w.inbox(t, client)), outbox.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
				outbox.HandleTx(c, w.writer, func(context.Context, outbox.Event[orderCreated]) (outbox.Effects, error) {
					return outbox.Effects{}, test.err
				})
				require.Error(t, c.Process(t.Context(), createdRecord("1")))
				require.Contains(t, log.String(), "level="+test.want)
				require.Equal(t, strings.Count(log.String(), "level="), strings.Count(log.String(), "level="+test.want), log.String())
			})
		})
	}
}

func TestEffectsThatCannotBeCommittedAreRefused(t *testing.T) {
	w := newInboxWorld(t)
	many := func(n int) (ops []types.TransactWriteItem) {
		for i := range n {
			ops = append(ops, countCommit(fmt.Sprint(i)))
		}
		return ops
	}
	inboxRow := types.TransactWriteItem{Delete: &types.Delete{TableName: aws.String("inbox"), Key: values{"eventId": str("1"), "consumer": str("mails#events")}}}
	inboxPut := types.TransactWriteItem{Put: &types.Put{TableName: aws.String("inbox"), Item: values{"eventId": str("1"), "consumer": str("mails#events")}}}
	otherRow := types.TransactWriteItem{Put: &types.Put{TableName: aws.String("inbox"), Item: values{"eventId": str("2"), "consumer": str("mails#events")}}}
	large := putNew("1")
	large.Put.Item["text"] = str(strings.Repeat("x", 400<<10))
	for name, c := range map[string]struct {
		effects outbox.Effects
		want    error
		text    string
	}{
		"100 operations":       {outbox.Effects{Writes: many(99), Events: []outbox.AnyEvent{event("e")}}, outbox.ErrInvalidWrite, "101 operations (99 writes and 1 events and the inbox's mark)"},
		"the inbox's row":      {outbox.Effects{Writes: []types.TransactWriteItem{inboxRow}}, outbox.ErrInvalidWrite, "operation 1 (Put in table \"inbox\"): it is on the same item as operation 0"},
		"the inbox's row, put": {outbox.Effects{Writes: []types.TransactWriteItem{inboxPut}}, outbox.ErrInvalidWrite, "it is on the same item as operation 0"},
		"an item twice":        {outbox.Effects{Writes: append(many(1), many(1)...)}, outbox.ErrInvalidWrite, "it is on the same item as operation 0"},
		"no event":             {outbox.Effects{Events: []outbox.AnyEvent{nil}}, outbox.ErrInvalidEvent, "the event is nil"},
		"a nil event":          {outbox.Effects{Events: []outbox.AnyEvent{(*outbox.Event[int])(nil)}}, outbox.ErrInvalidEvent, "the event is nil"},
		"an event twice":       {outbox.Effects{Events: []outbox.AnyEvent{event("e"), event("e")}}, outbox.ErrInvalidEvent, "same item"},
		"an empty operation":   {outbox.Effects{Writes: make([]types.TransactWriteItem, 1)}, outbox.ErrInvalidWrite, "want exactly one"},
		"an item too large":    {outbox.Effects{Writes: []types.TransactWriteItem{large}}, outbox.ErrTooLarge, "at most 409600"},
		"no such table":        {outbox.Effects{Writes: []types.TransactWriteItem{{Put: &types.Put{TableName: aws.String("none"), Item: values{"a": str("b")}}}}}, nil, "ResourceNotFound"},
	} {
		err := w.tx(t, &process{}, returnEffects(c.effects)).Process(t.Context(), createdRecord("1"))
		require.ErrorContainsf(t, err, c.text, name)
		if c.want != nil {
			require.ErrorIsf(t, err, c.want, name)
			require.NotErrorIsf(t, err, outbox.ErrPermanent, name)
		}
		require.Nilf(t, w.mark(t, "1"), name)
	}
	w.requireRows(t, 0, 0)
	require.NoError(t, w.tx(t, &process{}, returnEffects(outbox.Effects{Writes: append(many(98), otherRow)})).Process(t.Context(), createdRecord("1")), "99, and another row of the inbox")
}

func TestEventsThatAnInboxCannotKeepArePermanentFailures(t *testing.T) {
	w := newInboxWorld(t)
	p := &process{}
	c := w.tx(t, p, returnEffects(outbox.Effects{}))
	outbox.HandleType(c, "PLAIN", func(context.Context, outbox.Event[struct{}]) error { return nil })
	for want, r := range map[string]outbox.Record{
		"the event's id has 2049 bytes":   {ID: strings.Repeat("x", 2049)},
		"is not valid UTF-8":              {ID: "a\xff"},
		"id is not valid UTF-8":           {ID: "a", AggregateID: "\xff"},
		"type or aggregate id is not val": {ID: "b", AggregateID: "\xff"},
	} {
		for _, eventType := range []string{"ORDER_CREATED", "PLAIN"} {
			r.Type = eventType
			err := c.Process(t.Context(), r)
			require.ErrorIs(t, err, outbox.ErrPermanent)
			if !strings.Contains(want, "id is not") {
				require.ErrorContains(t, err, want)
			}
		}
	}
	require.Empty(t, p.calls())
	require.NoError(t, c.Process(t.Context(), outbox.Record{ID: strings.Repeat("x", 2048), Type: "PLAIN"}))
}

// Events that are stored, and not by this event's commit, are not taken for it: writes would be left out.
func TestEventsThatAnotherTransactionStoredAreAConflict(t *testing.T) {
	w := newInboxWorld(t)
	require.NoError(t, w.writer.Put(t.Context(), "orders", order{"a"}, event("e")))
	c := w.tx(t, &process{}, returnEffects(outbox.Effects{Writes: []types.TransactWriteItem{putNew("b")}, Events: []outbox.AnyEvent{event("e")}}))
	require.ErrorIs(t, c.Process(t.Context(), createdRecord("1")), outbox.ErrEventConflict)
	require.Nil(t, w.mark(t, "1"))
	w.requireRows(t, 1, 1)
}

// The mark that fails nobody else's condition is judged, and nothing else is taken for it.
func TestConflictsOnTheMarkAreRetried(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newInboxWorld(t)
		defer w.Close()
		for _, c := range []struct {
			answers []error
			want    error
			sent    int
		}{
			{[]error{canceled(reason("None"), reason("TransactionConflict")), nil}, nil, 2},
			{[]error{canceled(reason("ConditionalCheckFailed"), reason("TransactionConflict")), nil}, nil, 2},
			{[]error{canceled(reason("ConditionalCheckFailed"), reason("ThrottlingError"))}, outbox.ErrUnknownOutcome, 5},
			{[]error{canceled(reason("None"), reason("ThrottlingError"))}, outbox.ErrConflict, 9 * 5}, // the handler runs nine times
			{[]error{canceled(reason("ConditionalCheckFailed"), reason("None"))}, outbox.ErrConditionFailed, 9},
			{[]error{canceled(reason("None"), reason("ValidationError"))}, errors.New("the inbox table needs"), 1},
		} {
			client := &scriptedClient{answers: c.answers}
			consumer := newConsumer(t, outbox.WithInbox(w.inbox(t, w.DynamoDB)))
			outbox.HandleTx(consumer, newWriter(t, client), returnEffects(outbox.Effects{Writes: []types.TransactWriteItem{countCommit("1")}}))
			err := consumer.Process(t.Context(), createdRecord("1"))
			require.Len(t, client.sent, c.sent)
			switch {
			case c.want == nil:
				require.NoError(t, err)
			case errors.Is(err, c.want):
			default:
				require.ErrorContains(t, err, c.want.Error())
			}
		}
	})
}

func TestTheWritersHooksSeeCommitsWithMarks(t *testing.T) {
	w := newInboxWorld(t)
	var told []string
	hooks := outbox.WithWriterHooks(outbox.WriterHooks{
		Written: func(_ context.Context, i outbox.WriteInfo) {
			require.Positive(t, i.Took)
			told = append(told, fmt.Sprint("written ", len(i.Events), i.Duplicate))
		},
		Failed: func(_ context.Context, _ outbox.WriteInfo, err error) { told = append(told, "failed") },
	})
	handle := func(effects outbox.Effects) error {
		c := newConsumer(t, outbox.WithInbox(w.inbox(t, w.DynamoDB)))
		outbox.HandleTx(c, newWriter(t, w.DynamoDB, hooks), returnEffects(effects))
		return c.Process(t.Context(), createdRecord("1"))
	}
	require.Error(t, handle(outbox.Effects{Writes: make([]types.TransactWriteItem, 1)}))
	require.NoError(t, handle(outbox.Effects{Writes: []types.TransactWriteItem{countCommit("1")}}))
	require.NoError(t, handle(outbox.Effects{Events: []outbox.AnyEvent{event("e")}}))
	require.NoError(t, handle(outbox.Effects{Writes: make([]types.TransactWriteItem, 1)}), "it was handled")
	require.Equal(t, []string{"failed", "written 0 false", "written 1 true", "written 0 true"}, told)
}

func TestHandleTxRegistrationMistakesPanicAtStart(t *testing.T) {
	w := newInboxWorld(t)
	c := newConsumer(t, outbox.WithInbox(w.inbox(t, w.DynamoDB)))
	h := returnEffects(outbox.Effects{})
	require.PanicsWithValue(t, "outbox: HandleTxType: the Consumer is nil", func() { outbox.HandleTx(nil, w.writer, h) })
	require.PanicsWithValue(t, `outbox: HandleTxType: the Consumer of "ORDER_CREATED" has no Inbox (WithInbox)`, func() { outbox.HandleTx(newConsumer(t), w.writer, h) })
	require.PanicsWithValue(t, `outbox: HandleTxType: the Writer of "ORDER_CREATED" is nil`, func() { outbox.HandleTx(c, nil, h) })
	require.PanicsWithValue(t, `outbox: HandleTxType: the Writer of "ORDER_CREATED" was not made by NewWriter`, func() { outbox.HandleTx(c, &outbox.Writer{}, h) })
	require.PanicsWithValue(t, `outbox: HandleTxType: the handler of "X" is nil`, func() { outbox.HandleTxType[int](c, w.writer, "X", nil) })
	require.PanicsWithValue(t, "outbox: HandleTxType: the event type of outbox_test.orderCreated is empty", func() { outbox.HandleTxType(c, w.writer, "", h) })
	require.PanicsWithValue(t, "outbox: HandleTx: outbox.Payload is an interface and names no event type", func() {
		outbox.HandleTx(c, w.writer, func(context.Context, outbox.Event[outbox.Payload]) (outbox.Effects, error) {
			return outbox.Effects{}, nil
		})
	})
	other, err := outbox.NewWriter(w.DynamoDB, "inbox")
	require.NoError(t, err)
	require.PanicsWithValue(t, `outbox: HandleTxType: "inbox" is the events table and the inbox table`, func() { outbox.HandleTx(c, other, h) })
	outbox.HandleTx(c, w.writer, h)
	require.PanicsWithValue(t, `outbox: a handler for "ORDER_CREATED" is already registered`, func() { outbox.HandleTx(c, w.writer, h) })
}

// Two consumers get every event at the same time.
func TestTwoConsumersAtOnceCommitOnce(t *testing.T) {
	w := newInboxWorld(t)
	const events = 1000
	var wg sync.WaitGroup
	for range 2 {
		c := w.tx(t, &process{}, func(_ context.Context, e outbox.Event[orderCreated]) (outbox.Effects, error) {
			return outbox.Effects{Writes: []types.TransactWriteItem{countCommit(e.ID)}, Events: []outbox.AnyEvent{outbox.NewEvent(e.ID, orderCreated{})}}, nil
		})
		wg.Go(func() {
			for i := range events {
				if err := c.Process(t.Context(), createdRecord(fmt.Sprint(i))); err != nil {
					t.Errorf("event %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
	w.requireRows(t, events, events)
	for _, row := range w.all(t, "orders") {
		require.Equal(t, "1", textOf(row, "commits"))
	}
	require.Len(t, w.all(t, "inbox"), events)
}

// With a Worker and faults everywhere, every event that comes in leads to one that goes out.
func TestHandleTxInAStorm(t *testing.T) {
	bubble(t, func(t *testing.T) {
		faults := []outboxtest.Fault{
			{Kind: outboxtest.LoseAnswer, Service: "DynamoDB", Operation: "TransactWriteItems", Probability: 0.2},
			{Kind: outboxtest.TransactionConflict, Service: "DynamoDB", Probability: 0.2},
			{Kind: outboxtest.Throttle, Service: "DynamoDB", Operation: "PutItem", Probability: 0.2},
			{Kind: outboxtest.ServerError, Service: "DynamoDB", Operation: "GetItem", Probability: 0.2},
			{Kind: outboxtest.DuplicateRecord, Table: "events", Probability: 0.5},
		}
		f := newFleet(t, outboxtest.WithRandomFaults())
		defer f.Close()
		w := &inboxWorld{f.world}
		require.NoError(t, w.inbox(t, w.DynamoDB).Create(t.Context()))
		require.NoError(t, f.SetFaults(faults[len(faults)-1]))
		ids := f.put(t, "in", 5, 40)
		require.NoError(t, f.SetFaults(faults...))
		var stops []func() error
		duplicates := 0
		for range 2 {
			c := newConsumer(t, outbox.WithInbox(w.inbox(t, w.DynamoDB, outbox.WithInboxCache(10))), outbox.WithConsumerHooks(outbox.ConsumerHooks{
				Handled: func(_ context.Context, r outbox.Record, _ time.Duration, err error) {
					if err == nil {
						f.mu.Lock()
						f.handled[r.ID]++
						f.mu.Unlock()
					}
				},
				Duplicate: func(_ context.Context, r outbox.Record) {
					f.mu.Lock()
					defer f.mu.Unlock()
					f.handled[r.ID]++ // by a commit whose answer was lost
					duplicates++
				},
			}))
			outbox.HandleTx(c, newWriter(t, w.DynamoDB), func(_ context.Context, e outbox.Event[orderCreated]) (outbox.Effects, error) {
				return outbox.Effects{Writes: []types.TransactWriteItem{countCommit("of " + e.ID)}}, nil
			})
			worker, err := outbox.NewWorker(f.Kinesis, "events", c, f.leases)
			require.NoError(t, err)
			stops = append(stops, runWorker(t, worker).stop)
		}
		f.await(t, "all handled", 10*time.Minute, f.all(ids))
		f.StopFaults()
		for _, stop := range stops {
			require.NoError(t, stop())
		}
		for _, id := range ids {
			require.Equalf(t, "1", textOf(w.row(t, "orders", "orderId", "of "+id), "commits"), "%s", id)
		}
		require.Positive(t, duplicates, "no event was delivered twice")
	})
}
