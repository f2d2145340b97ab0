package outbox_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// puttingClient is a scriptedClient that has PutItem, whose answers are scripted as well.
type puttingClient struct {
	scriptedClient
	puts    []error
	put     []*dynamodb.PutItemInput
	silence bool // an answer of a client that answers with nothing
}

func (c *puttingClient) PutItem(_ context.Context, in *dynamodb.PutItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	n := min(len(c.put), len(c.puts)-1)
	c.put, c.at = append(c.put, in), append(c.at, time.Now())
	if c.silence {
		return nil, nil
	}
	return &dynamodb.PutItemOutput{}, c.puts[n]
}

// An event alone is the same conditional Put as in a transaction. Everything else is a transaction, and so is everything for a client that has
// only this.
func TestOneEventAloneIsSentByPutItem(t *testing.T) {
	written := outbox.WithWriterHooks(outbox.WriterHooks{Written: func(context.Context, outbox.WriteInfo) {}})
	for _, opts := range [][]outbox.WriterOption{nil, {written}} {
		c := &puttingClient{puts: []error{nil}}
		w := newWriter(t, c, opts...)
		require.NoError(t, w.Transact(t.Context(), nil, event("e-1")))
		require.Empty(t, c.sent)
		items, err := w.Items(t.Context(), event("e-1"))
		require.NoError(t, err)
		p := items[0].Put
		want := &dynamodb.PutItemInput{TableName: p.TableName, Item: p.Item, ConditionExpression: p.ConditionExpression,
			ExpressionAttributeNames:            p.ExpressionAttributeNames,
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld}
		if opts != nil {
			want.ReturnConsumedCapacity = types.ReturnConsumedCapacityTotal
		}
		require.Equal(t, []*dynamodb.PutItemInput{want}, c.put)
	}

	c := &puttingClient{scriptedClient: scriptedClient{answers: []error{nil}}}
	w := newWriter(t, c)
	require.NoError(t, w.Put(t.Context(), "orders", order{"1"}, event("e-1")))
	require.NoError(t, w.Transact(t.Context(), []types.TransactWriteItem{putNew("1")}, event("e-1")))
	require.NoError(t, w.Transact(t.Context(), nil, event("e-1"), event("e-2")))
	require.Len(t, c.sent, 3)
	require.Empty(t, c.put)

	plain := &scriptedClient{answers: []error{nil}}
	require.NoError(t, newWriter(t, plain).Transact(t.Context(), nil, event("e-1")))
	require.Len(t, plain.sent, 1)
}

// What DynamoDB says about a PutItem means what it means about the operation of a transaction.
func TestWhatAnAnswerToAPutItemMeans(t *testing.T) {
	items, err := newWriter(t, &recordingClient{}).Items(t.Context(), event("e-1"))
	require.NoError(t, err)
	mine := items[0].Put.Item
	other := values{"eventId": str("e-1"), "type": str("OTHER")}
	stored := func(item values) error {
		return &types.ConditionalCheckFailedException{Message: aws.String("The conditional request failed"), Item: item}
	}
	held := &types.TransactionConflictException{Message: aws.String("Transaction is ongoing for the item")}
	for name, c := range map[string]struct {
		puts []error
		want error  // nil for success, also if text is given
		text string // in the error
		sent int
	}{
		"stored before":                     {[]error{stored(mine)}, nil, "", 1},
		"another event has the id":          {[]error{stored(other)}, outbox.ErrEventConflict, `operation 0 (Put of event "e-1" in table "events"): ConditionalCheckFailed: an event with this id is stored, with a difference in type`, 1},
		"held, and then not":                {[]error{held, held, nil}, nil, "", 3},
		"held, and written by a repeat":     {[]error{held, stored(mine)}, nil, "", 2},
		"held for ever":                     {[]error{held}, outbox.ErrConflict, `5 attempts: conflict or throttling, repeat later with the same events: operation 0 (Put of event "e-1" in table "events"): TransactionConflict: Transaction is ongoing for the item`, 5},
		"held by a write of another Region": {[]error{&types.ReplicatedWriteConflictException{}, nil}, nil, "", 2},
		"throttled":                         {[]error{&types.ProvisionedThroughputExceededException{}}, outbox.ErrConflict, "ProvisionedThroughputExceededException", 1},
		"a table of another form":           {[]error{apiError{"ValidationException"}}, nil, `ValidationError: ValidationException; the events table needs the partition key "eventId" of type S and no sort key`, 1},
		"no permission":                     {[]error{apiError{"AccessDeniedException"}}, nil, "AccessDeniedException", 1},
		"no such table":                     {[]error{&types.ResourceNotFoundException{}}, nil, "ResourceNotFoundException", 1},
		"a failure of the service":          {[]error{&types.InternalServerError{}}, outbox.ErrUnknownOutcome, "InternalServerError", 1},
		"an answer of something on the way": {[]error{badGateway(apiError{"ValidationException"})}, outbox.ErrUnknownOutcome, "ValidationException", 1},
		"a lost answer":                     {[]error{context.DeadlineExceeded}, outbox.ErrUnknownOutcome, "deadline exceeded", 1},
		"a code that nobody knows":          {[]error{apiError{"Novelty"}}, outbox.ErrUnknownOutcome, "Novelty", 1},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				client := &puttingClient{puts: c.puts}
				err := newWriter(t, client).Transact(t.Context(), nil, event("e-1"))
				require.Len(t, client.put, c.sent)
				require.Empty(t, client.sent)
				if c.text == "" {
					require.NoError(t, err)
					return
				}
				require.ErrorContains(t, err, c.text)
				for _, kind := range []error{outbox.ErrConditionFailed, outbox.ErrEventConflict, outbox.ErrConflict, outbox.ErrUnknownOutcome, outbox.ErrInvalidWrite} {
					require.Equal(t, errors.Is(c.want, kind), errors.Is(err, kind), "%v", err)
				}
				require.ErrorIs(t, err, c.puts[len(c.puts)-1], "the SDK's error")
			})
		})
	}
	silent := &puttingClient{silence: true}
	require.NoError(t, newWriter(t, silent).Transact(t.Context(), nil, event("e-1")), "no error is a success, as for a transaction")
}

// badGateway is an error of a proxy, which has put a code of its own into its answer.
func badGateway(err error) error {
	return &smithyhttp.ResponseError{Response: &smithyhttp.Response{Response: &http.Response{StatusCode: http.StatusBadGateway}}, Err: err}
}

// A server or a client that does not show the row with a failed condition of a single item is asked by a transaction, which shows it.
func TestARowThatAPutItemDoesNotShowIsAskedForByATransaction(t *testing.T) {
	items, err := newWriter(t, &recordingClient{}).Items(t.Context(), event("e-1"))
	require.NoError(t, err)
	hidden := []error{&types.ConditionalCheckFailedException{}, apiError{"ConditionalCheckFailedException"}}
	stored, differs := reason("ConditionalCheckFailed"), reason("ConditionalCheckFailed")
	stored.Item, differs.Item = items[0].Put.Item, values{"eventId": str("e-1"), "type": str("OTHER")}
	for _, put := range hidden {
		for want, answers := range map[error][]error{
			nil:                      {canceled(stored)},
			outbox.ErrEventConflict:  {canceled(differs)},
			outbox.ErrUnknownOutcome: {context.DeadlineExceeded},
		} {
			c := &puttingClient{puts: []error{put}, scriptedClient: scriptedClient{answers: answers}}
			require.ErrorIs(t, newWriter(t, c).Transact(t.Context(), nil, event("e-1")), want)
			require.Len(t, c.put, 1)
			require.Len(t, c.sent, 1)
			require.NotEmpty(t, aws.ToString(c.sent[0].ClientRequestToken))
		}
	}
	c := &puttingClient{puts: []error{hidden[0]}, scriptedClient: scriptedClient{answers: []error{nil}}}
	require.NoError(t, newWriter(t, c).Transact(t.Context(), nil, event("e-1")), "it has gone meanwhile, and is written")
}

// An event alone is billed one write unit for each started KB, and an event in a transaction two.
func TestAnEventAloneCostsHalf(t *testing.T) {
	w := newWorld(t)
	var units []float64
	writer := newWriter(t, w.DynamoDB, outbox.WithWriterHooks(outbox.WriterHooks{Written: func(_ context.Context, info outbox.WriteInfo) {
		sum := 0.0
		for _, c := range info.Capacity {
			if aws.ToString(c.TableName) == "events" {
				sum += aws.ToFloat64(c.CapacityUnits)
			}
		}
		units = append(units, sum)
		require.Equal(t, sum == 0, info.Duplicate)
	}}))
	large := outbox.NewSequenced("order-1", 2, orderCreated{Description: strings.Repeat("x", 3500)})
	for _, e := range []outbox.Event[orderCreated]{outbox.NewSequenced("order-1", 1, orderCreated{}), large} {
		require.NoError(t, writer.Transact(t.Context(), nil, e))
		require.NoError(t, writer.Transact(t.Context(), nil, e), "a repeat")
		e.AggregateID, e.ID = "order-2", outbox.SequencedID("order-2", e.Sequence)
		require.NoError(t, writer.Transact(t.Context(), []types.TransactWriteItem{putNew(e.ID)}, e))
	}
	require.Equal(t, []float64{1, 0, 2, 4, 0, 8}, units)
}
