package redrive_test

import (
	"context"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/deadletter"
	"github.com/seed-1b628d3f/outbox/internal/event"
	"github.com/seed-1b628d3f/outbox/internal/redrive"
)

// interposed is a client that calls before, once, ahead of its first DeleteItem, and whose GetItem does not find what hidden says.
type interposed struct {
	deadletter.Client
	before func()
	hidden func(id string) bool
}

func (c *interposed) DeleteItem(ctx context.Context, in *dynamodb.DeleteItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error) {
	if before := c.before; before != nil {
		c.before = nil
		before()
	}
	return c.Client.DeleteItem(ctx, in, opts...)
}

func (c *interposed) GetItem(ctx context.Context, in *dynamodb.GetItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	out, err := c.Client.GetItem(ctx, in, opts...)
	if id, ok := in.Key["id"].(*types.AttributeValueMemberS); ok && err == nil && c.hidden != nil && c.hidden(id.Value) {
		out.Item = nil
	}
	return out, err
}

// Events that are delivered again without an inbox become letters again while they are redriven. The queue looks as it did, and goes on.
func TestLettersThatComeAgainAreHandled(t *testing.T) {
	client, s := newTable(t)
	again := &interposed{Client: client, before: func() { store(t, s, event.Event{ID: "2", AggregateID: "a", SequenceNumber: "2"}) }}
	mine, err := deadletter.New(again, "letters", "c")
	require.NoError(t, err)
	var order []string
	result, err := engine(mine, func(_ context.Context, l *deadletter.Letter) redrive.Outcome {
		if order = append(order, l.Event.ID); len(order) == 2 {
			store(t, s, event.Event{ID: "1", AggregateID: "a", SequenceNumber: "1"})
		}
		return redrive.Outcome{Verdict: redrive.Handled}
	}).Redrive(t.Context(), t.Context(), only(queue, single))
	require.NoError(t, err)
	require.Equal(t, []string{"1", "2", "1", "2", "3"}, order)
	require.Equal(t, redrive.Result{Redriven: 5}, result)
}

// A table that lists letters and never returns one of them would keep a redrive for ever.
func TestLettersThatAreListedAndNotReturned(t *testing.T) {
	client, _ := newTable(t)
	mine, err := deadletter.New(&interposed{Client: client, hidden: func(id string) bool { return id == "a#1" || id == "a#2" }}, "letters", "c")
	require.NoError(t, err)
	result, err := engine(mine, nil).Redrive(t.Context(), t.Context(), only(queue))
	require.ErrorContains(t, err, "the dead letter table lists letters of a#, and does not return them")
	require.Zero(t, result)
}
