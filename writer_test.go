package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

func TestPutSendsTheItemAndTheDocumentedRow(t *testing.T) {
	c := &recordingClient{}
	e := event("e-1")
	e.Sequence, e.Headers = 3, map[string]string{"tenant": "acme"}
	require.NoError(t, newWriter(t, c).Put(t.Context(), "orders", order{"order-1"}, e))

	items := c.sent[0].TransactItems
	require.Len(t, items, 2)
	require.Equal(t, &types.Put{TableName: aws.String("orders"), Item: values{"orderId": str("order-1")}}, items[0].Put)
	require.Equal(t, &types.Put{
		TableName: aws.String("events"),
		Item: values{
			"eventId": str("e-1"), "type": str("ORDER_CREATED"), "timestamp": num("1719347890250"), "aggregateId": str("order-1"),
			"sequence": num("3"), "payload": str(`{"orderId":"order-1","description":"x"}`), "headers": &types.AttributeValueMemberM{Value: values{"tenant": str("acme")}},
		},
		ConditionExpression:                 aws.String("attribute_not_exists(#id)"),
		ExpressionAttributeNames:            map[string]string{"#id": "eventId"},
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}, items[1].Put)
	require.LessOrEqual(t, len(*c.sent[0].ClientRequestToken), 36)
}

func TestOptionalAttributesAreLeftOut(t *testing.T) {
	items, err := newWriter(t, &recordingClient{}).Items(t.Context(), outbox.Event[int]{ID: "e-1", Type: "T"})
	require.NoError(t, err)
	require.Contains(t, items[0].Put.Item, "timestamp", "an event without a time gets one")
	delete(items[0].Put.Item, "timestamp")
	require.Equal(t, values{"eventId": str("e-1"), "type": str("T"), "payload": str("0")}, items[0].Put.Item)
}

func TestAttributeNamesOfAnExistingTable(t *testing.T) {
	w := newWriter(t, &recordingClient{}, outbox.WithAttributes(outbox.Attributes{ID: "pk", AggregateID: "relatedOrderId", Sequence: outbox.NoAttribute}))
	items, err := w.Items(t.Context(), event("e-1"))
	require.NoError(t, err)
	require.Equal(t, map[string]string{"#id": "pk"}, items[0].Put.ExpressionAttributeNames)
	require.Equal(t, values{"pk": str("e-1"), "type": str("ORDER_CREATED"), "timestamp": num("1719347890250"), "relatedOrderId": str("order-1"),
		"payload": str(`{"orderId":"order-1","description":"x"}`)}, items[0].Put.Item)
}

// Nothing of an event is dropped because an existing table has no place for it.
func TestWhatTheTableCannotHoldIsRefused(t *testing.T) {
	w := newWriter(t, &recordingClient{}, outbox.WithAttributes(outbox.Attributes{
		AggregateID: outbox.NoAttribute, Sequence: outbox.NoAttribute, Headers: outbox.NoAttribute}))
	for want, e := range map[string]outbox.Event[int]{
		"its aggregate id cannot be stored": {ID: "e", Type: "T", AggregateID: "a"},
		"its sequence cannot be stored":     {ID: "e", Type: "T", Sequence: 1},
		"its headers cannot be stored":      {ID: "e", Type: "T", Headers: map[string]string{"a": "b"}},
	} {
		_, err := w.Items(t.Context(), e)
		require.ErrorIs(t, err, outbox.ErrInvalidEvent)
		require.ErrorContains(t, err, want)
	}
	_, err := w.Items(t.Context(), outbox.Event[int]{ID: "e", Type: "T"})
	require.NoError(t, err)
}

// Equal calls are one request to DynamoDB, whenever they are made; any difference makes another.
func TestRepeatIsTheSameRequest(t *testing.T) {
	c := &recordingClient{}
	w := newWriter(t, c)
	for range 2 {
		require.NoError(t, w.Put(t.Context(), "orders", order{"order-1"}, event("e-1")))
	}
	require.NoError(t, w.Put(t.Context(), "orders", order{"order-2"}, event("e-1")))
	require.NoError(t, w.Put(t.Context(), "orders", order{"order-1"}, event("e-2")))
	require.Equal(t, c.sent[0], c.sent[1])
	require.NotEqual(t, c.sent[0].ClientRequestToken, c.sent[2].ClientRequestToken)
	require.NotEqual(t, c.sent[0].ClientRequestToken, c.sent[3].ClientRequestToken)
}

// A map type of one's own that holds attribute values is the item, not something to marshal.
func TestAttributeValuesAreNotMarshalledAgain(t *testing.T) {
	type row map[string]types.AttributeValue
	c := &recordingClient{}
	r := row{"orderId": str("1"), "none": &types.AttributeValueMemberNULL{Value: true}}
	for _, item := range []any{r, &r, values(r), &types.AttributeValueMemberM{Value: r}} {
		require.NoError(t, newWriter(t, c).Put(t.Context(), "orders", item, event("e")))
		require.Equal(t, values(r), c.sent[len(c.sent)-1].TransactItems[0].Put.Item)
	}
}

func TestPutTakesWhatAttributevalueTakes(t *testing.T) {
	w := newWriter(t, &recordingClient{})
	for _, item := range []any{order{"1"}, &order{"1"}, map[string]string{"orderId": "1"}, values{"orderId": str("1")}} {
		require.NoErrorf(t, w.Put(t.Context(), "orders", item, event("e")), "%T", item)
	}
	for _, item := range []any{nil, (*order)(nil), 5, "x", []string{"a"}, map[int]func(){1: nil}} {
		err := w.Put(t.Context(), "orders", item, event("e"))
		require.ErrorIsf(t, err, outbox.ErrInvalidWrite, "%T", item)
		require.ErrorContains(t, err, `operation 0 (Put in table "orders")`)
	}
}

func TestInvalidEventsAreRefusedBeforeSending(t *testing.T) {
	for want, e := range map[string]outbox.AnyEvent{
		"no id":                                 outbox.Event[orderCreated]{},
		"no type":                               outbox.Event[int]{ID: "e"},
		"it has no type":                        outbox.NewEvent("a", (*orderPaid)(nil)),
		"has no type: use NewEvent":             outbox.Event[*orderPaid]{ID: "e"},
		"the event is nil":                      nil,
		"its id is not valid UTF-8":             outbox.Event[int]{ID: "\xff", Type: "T"},
		"its type is not valid UTF-8":           outbox.Event[int]{ID: "e", Type: "\xff"},
		"its aggregate id is not valid UTF-8":   outbox.Event[int]{ID: "e", Type: "T", AggregateID: "\xff"},
		"its content type is not valid UTF-8":   outbox.Record{ID: "e", Type: "T", ContentType: "a/\xff", Payload: []byte{1}},
		`its header "k" is not valid UTF-8`:     outbox.Event[int]{ID: "e", Type: "T", Headers: map[string]string{"k": "\xff"}},
		`header name "\xff" is not valid UTF-8`: outbox.Event[int]{ID: "e", Type: "T", Headers: map[string]string{"\xff": "v"}},
		"its data cannot be encoded":            outbox.Event[func()]{ID: "e", Type: "T"},
		"its id has 3000 bytes":                 outbox.Event[int]{ID: strings.Repeat("x", 3000), Type: "T"},
	} {
		c := &recordingClient{}
		err := newWriter(t, c).Put(t.Context(), "orders", order{"1"}, e)
		require.ErrorIs(t, err, outbox.ErrInvalidEvent)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "outbox: transaction refused before sending: invalid event: operation 1 (Put")
		require.Empty(t, c.sent)
	}
	err := newWriter(t, &recordingClient{}).Put(t.Context(), "orders", order{"1"})
	require.ErrorIs(t, err, outbox.ErrInvalidEvent)
	require.ErrorContains(t, err, "no event")
}

func TestInvalidWritesAreRefusedBeforeSending(t *testing.T) {
	put := func(table string, item values) types.TransactWriteItem {
		return types.TransactWriteItem{Put: &types.Put{TableName: &table, Item: item}}
	}
	check := func(key values) types.TransactWriteItem {
		return types.TransactWriteItem{ConditionCheck: &types.ConditionCheck{TableName: aws.String("orders"), Key: key}}
	}
	many := make([]types.TransactWriteItem, 100)
	for i := range many {
		many[i] = put("orders", values{"orderId": str(fmt.Sprint(i))})
	}
	large := func(n int) values { return values{"k": str(strings.Repeat("x", n))} }
	var elevenLarge []types.TransactWriteItem
	for range 11 {
		elevenLarge = append(elevenLarge, put("orders", large(390<<10)))
	}
	deep := str("x")
	for range 50 {
		deep = &types.AttributeValueMemberL{Value: []types.AttributeValue{deep}}
	}
	for want, c := range map[string]struct {
		kind   error
		writes []types.TransactWriteItem
		events []outbox.AnyEvent
	}{
		"operation 100: 101 operations (100 writes and 1 events): DynamoDB takes at most 100": {outbox.ErrInvalidWrite, many, nil},
		"operation 0: it has 0 of Put, Update, Delete and ConditionCheck":                     {outbox.ErrInvalidWrite, []types.TransactWriteItem{{}}, nil},
		"it has 2 of Put, Update, Delete and ConditionCheck": {outbox.ErrInvalidWrite, []types.TransactWriteItem{{
			Put: many[0].Put, Delete: &types.Delete{}}}, nil},
		"it names no table":         {outbox.ErrInvalidWrite, []types.TransactWriteItem{put("", values{"a": str("")})}, nil},
		"it has no item and no key": {outbox.ErrInvalidWrite, []types.TransactWriteItem{{Update: &types.Update{TableName: aws.String("t")}}}, nil},
		`attribute "a": no attribute value, but a nil *types.AttributeValueMemberS`: {outbox.ErrInvalidWrite, []types.TransactWriteItem{put("t", values{"a": (*types.AttributeValueMemberS)(nil)})}, nil},
		`expression value: attribute ":v": no attribute value`: {outbox.ErrInvalidWrite, []types.TransactWriteItem{{ConditionCheck: &types.ConditionCheck{
			TableName: aws.String("t"), Key: values{"k": str("1")}, ExpressionAttributeValues: values{":v": (*types.AttributeValueMemberN)(nil)}}}}, nil},
		`attribute "a": no attribute value`:                                         {outbox.ErrInvalidWrite, []types.TransactWriteItem{put("t", values{"a": nil})}, nil},
		"nested deeper than 32 levels":                                              {outbox.ErrInvalidWrite, []types.TransactWriteItem{put("t", values{"a": deep})}, nil},
		"the item has 409601 bytes: DynamoDB takes at most 409600":                  {outbox.ErrTooLarge, []types.TransactWriteItem{put("t", large(400<<10))}, nil},
		"operation 10 (Put in table \"orders\"): the transaction has 4392971 bytes": {outbox.ErrTooLarge, elevenLarge, nil},
		`operation 2 (ConditionCheck in table "orders"): it is on the same item as operation 0`: {outbox.ErrInvalidWrite,
			[]types.TransactWriteItem{put("orders", values{"orderId": str("1"), "a": str("b")}), check(values{"orderId": str("2")}), check(values{"orderId": str("1")})}, nil},
		"it is on the same item as operation 1": {outbox.ErrInvalidWrite, []types.TransactWriteItem{
			check(values{"p": num("1"), "s": &types.AttributeValueMemberB{Value: []byte{1}}}),
			check(values{"p": num("1"), "s": &types.AttributeValueMemberB{Value: []byte{2}}}),
			{Update: &types.Update{TableName: aws.String("orders"), Key: values{"p": num("1"), "s": &types.AttributeValueMemberB{Value: []byte{2}}}}}}, nil},
		`operation 1 (Put of event "e" in table "events"): it is on the same item as operation 0`: {outbox.ErrInvalidEvent, nil, []outbox.AnyEvent{event("e"), event("e")}},
		`operation 0 (Put of event "big" in table "events"): the item has`: {outbox.ErrTooLarge, nil, []outbox.AnyEvent{
			outbox.Event[string]{ID: "big", Type: "T", Data: strings.Repeat("x", 500<<10)}}},
	} {
		client := &recordingClient{}
		events := c.events
		if events == nil {
			events = []outbox.AnyEvent{event("e")}
		}
		err := newWriter(t, client).Transact(t.Context(), c.writes, events...)
		require.ErrorIsf(t, err, c.kind, "want %q", want)
		require.ErrorContains(t, err, want)
		var te *outbox.TransactionError
		require.ErrorAs(t, err, &te)
		require.Len(t, te.Operations, 1)
		require.Empty(t, client.sent)
	}
}

func TestCallersDataIsNotChanged(t *testing.T) {
	item := values{"orderId": str("1")}
	writes := make([]types.TransactWriteItem, 1, 10) // room to append into
	writes[0] = types.TransactWriteItem{Put: &types.Put{TableName: aws.String("orders"), Item: item}}
	e := event("e")
	e.Headers = map[string]string{"a": "b"}
	require.NoError(t, newWriter(t, &recordingClient{}).Transact(t.Context(), writes, e))
	require.Equal(t, values{"orderId": str("1")}, item)
	require.Equal(t, types.TransactWriteItem{}, writes[:2][1], "the event was appended into the caller's slice")
	require.Equal(t, map[string]string{"a": "b"}, e.Headers)
}

func TestCanceledTransactionSaysWhichOperationAndWhy(t *testing.T) {
	failed := reason("ConditionalCheckFailed")
	failed.Message, failed.Item = aws.String("The conditional request failed"), values{"orderId": str("1")}
	c := &recordingClient{err: canceled(reason("None"), failed, reason("None"))}
	writes := []types.TransactWriteItem{
		{Put: &types.Put{TableName: aws.String("customers"), Item: values{"id": str("1")}}},
		{Update: &types.Update{TableName: aws.String("orders"), Key: values{"orderId": str("1")}}},
	}
	err := newWriter(t, c).Transact(t.Context(), writes, event("e"))
	require.ErrorIs(t, err, outbox.ErrConditionFailed)
	require.EqualError(t, err, `outbox: transaction of event "e" not committed: condition failed: operation 1 (Update in table "orders"): ConditionalCheckFailed: The conditional request failed`)
	var te *outbox.TransactionError
	require.ErrorAs(t, err, &te)
	require.Equal(t, []outbox.FailedOperation{{Index: 1, Kind: "Update", Table: "orders", Key: values{"orderId": str("1")}, Code: "ConditionalCheckFailed",
		Message: "The conditional request failed", OldItem: values{"orderId": str("1")}}}, te.Operations)
	require.Equal(t, []string{"e"}, te.EventIDs)
	require.Equal(t, 1, te.Attempts)
	var sdk *types.TransactionCanceledException
	require.ErrorAs(t, err, &sdk)
	require.Len(t, sdk.CancellationReasons, 3)
}

// The event's own condition failed: the answer depends on what is stored.
func TestRepeatOfACommittedTransaction(t *testing.T) {
	meant := func(id string) values {
		items, err := newWriter(t, &recordingClient{}).Items(t.Context(), event(id))
		require.NoError(t, err)
		return maps.Clone(items[0].Put.Item)
	}
	stored := func(item values) types.CancellationReason {
		r := reason("ConditionalCheckFailed")
		r.Item = item
		return r
	}
	with := func(name string, v types.AttributeValue) values {
		item := meant("e")
		item[name] = v
		return item
	}
	without := meant("e")
	delete(without, "aggregateId")

	for name, c := range map[string]struct {
		reasons []types.CancellationReason
		want    error
		text    string
	}{
		"same":                        {[]types.CancellationReason{reason("None"), stored(meant("e"))}, nil, ""},
		"same, condition failed too":  {[]types.CancellationReason{reason("ConditionalCheckFailed"), stored(meant("e"))}, nil, ""},
		"another time":                {[]types.CancellationReason{reason("None"), stored(with("timestamp", num("1")))}, nil, ""},
		"another time to live":        {[]types.CancellationReason{reason("None"), stored(with("expiresAt", num("1")))}, nil, ""},
		"foreign attributes":          {[]types.CancellationReason{reason("None"), stored(with("note", str("x")))}, nil, ""},
		"garbage after the payload":   {[]types.CancellationReason{reason("None"), stored(with("payload", str(`{"description":"x", "orderId":"order-1"}]`)))}, outbox.ErrEventConflict, "a difference in payload"},
		"other order of JSON members": {[]types.CancellationReason{reason("None"), stored(with("payload", str(`{"description":"x", "orderId":"order-1"}`)))}, nil, ""},
		"another payload":             {[]types.CancellationReason{reason("None"), stored(with("payload", str(`{}`)))}, outbox.ErrEventConflict, "a difference in payload"},
		"payload of another type":     {[]types.CancellationReason{reason("None"), stored(with("payload", num("1")))}, outbox.ErrEventConflict, "a difference in payload"},
		"payload is not JSON":         {[]types.CancellationReason{reason("None"), stored(with("payload", str(`{`)))}, outbox.ErrEventConflict, "a difference in payload"},
		"another type":                {[]types.CancellationReason{reason("None"), stored(with("type", str("X")))}, outbox.ErrEventConflict, "a difference in type"},
		"another aggregate":           {[]types.CancellationReason{reason("None"), stored(without)}, outbox.ErrEventConflict, "a difference in aggregateId"},
		"another sequence":            {[]types.CancellationReason{reason("None"), stored(with("sequence", num("9")))}, outbox.ErrEventConflict, "a difference in sequence"},
		"not returned":                {[]types.CancellationReason{reason("None"), stored(nil)}, outbox.ErrEventConflict, "did not return it"},
	} {
		err := newWriter(t, &recordingClient{err: canceled(c.reasons...)}).Put(t.Context(), "orders", order{"1"}, event("e"))
		if c.want == nil {
			require.NoError(t, err, name)
			continue
		}
		require.ErrorIs(t, err, c.want, name)
		require.ErrorContains(t, err, c.text, name)
		require.ErrorContains(t, err, `event "e"`, name)
	}

	// One of two events is stored: this transaction was never committed as it stands.
	err := newWriter(t, &recordingClient{err: canceled(stored(meant("e1")), reason("None"))}).Transact(t.Context(), nil, event("e1"), event("e2"))
	require.ErrorIs(t, err, outbox.ErrEventConflict)
	// One is stored, and a conflict hides whether the other is.
	once := outbox.WithWriteRetry(outbox.Retry{MaxAttempts: 1})
	err = newWriter(t, &recordingClient{err: canceled(stored(meant("e1")), reason("TransactionConflict"))}, once).Transact(t.Context(), nil, event("e1"), event("e2"))
	require.NotErrorIs(t, err, outbox.ErrEventConflict)
	require.ErrorIs(t, err, outbox.ErrUnknownOutcome)
	err = newWriter(t, &recordingClient{err: canceled(stored(meant("e1")), stored(meant("e2")))}).Transact(t.Context(), nil, event("e1"), event("e2"))
	require.NoError(t, err)
}

type responseError struct {
	error
	status int
}

func (e responseError) Unwrap() error       { return e.error }
func (e responseError) HTTPStatusCode() int { return e.status }

func TestLostAnswersAreUnknownOutcomes(t *testing.T) {
	for _, unknown := range []error{
		errors.New("connection reset"), context.DeadlineExceeded, context.Canceled,
		&types.TransactionInProgressException{}, responseError{apiError{"InternalFailure"}, http.StatusInternalServerError},
		fmt.Errorf("operation error: %w", context.Canceled), fmt.Errorf("%w: %w", apiError{"ValidationException"}, context.DeadlineExceeded),
	} {
		err := newWriter(t, &recordingClient{err: unknown}, outbox.WithWriteRetry(outbox.Retry{MaxAttempts: 1})).Put(t.Context(), "orders", order{"1"}, event("e"))
		require.ErrorIsf(t, err, outbox.ErrUnknownOutcome, "%v", unknown)
		require.ErrorIs(t, err, unknown)
		require.ErrorContains(t, err, "repeat with the same events")
	}
	for _, known := range []error{
		apiError{"ValidationException"}, &types.ResourceNotFoundException{Message: aws.String("Requested resource not found")},
		responseError{apiError{"AccessDeniedException"}, http.StatusBadRequest},
	} {
		err := newWriter(t, &recordingClient{err: known}).Put(t.Context(), "orders", order{"1"}, event("e"))
		require.NotErrorIsf(t, err, outbox.ErrUnknownOutcome, "%v", known)
		require.ErrorIs(t, err, known)
		require.ErrorContains(t, err, `outbox: transaction of event "e" not committed: `+known.Error())
	}
}

func TestNothingIsSentWhenTheContextHasEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := &recordingClient{}
	err := newWriter(t, c).Put(ctx, "orders", order{"1"}, event("e"))
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, outbox.ErrUnknownOutcome)
	require.Empty(t, c.sent)
}

func TestNewWriterNamesEveryProblem(t *testing.T) {
	var unset *dynamodb.Client
	_, err := outbox.NewWriter(unset, "", nil, outbox.WithAttributes(outbox.Attributes{Type: outbox.NoAttribute}))
	for _, want := range []string{"outbox: NewWriter: ", "the DynamoDB client is nil", "the events table: it is empty", "option 0 is nil", "needs ID and Type"} {
		require.ErrorContains(t, err, want)
	}
	_, err = outbox.NewWriter(nil, "events", outbox.WithAttributes(outbox.Attributes{Payload: outbox.NoAttribute}))
	require.ErrorContains(t, err, "the DynamoDB client is nil")
	require.ErrorContains(t, err, "a Writer needs the attributes Payload and Time")
}

func TestNewEvent(t *testing.T) {
	before := time.Now()
	a, b := outbox.NewEvent("order-1", orderCreated{"order-1", "x"}), outbox.NewEvent("order-1", orderCreated{"order-1", "y"})
	require.Len(t, a.ID, 26)
	require.Less(t, a.ID, b.ID)
	require.Equal(t, "ORDER_CREATED", a.Type)
	require.Equal(t, "order-1", a.AggregateID)
	require.False(t, a.Time.Before(before))
}

func TestItemsRefusesWhatPutRefuses(t *testing.T) {
	w := newWriter(t, &recordingClient{})
	_, err := w.Items(t.Context(), outbox.Event[int]{})
	require.ErrorIs(t, err, outbox.ErrInvalidEvent)
	_, err = w.Items(t.Context(), event("e"), event("e"))
	require.ErrorIs(t, err, outbox.ErrInvalidEvent)
	items, err := w.Items(t.Context())
	require.NoError(t, err)
	require.Empty(t, items)
}
