package main

import (
	"context"
	"strconv"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go/middleware"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// Whatever the order of arrival, the address with the highest sequence stays.
func TestTheLatestSequenceStays(t *testing.T) {
	for _, order := range [][]int64{{1, 2, 3}, {3, 1, 2}, {2, 3, 1}, {3, 2, 1}} {
		cloud := outboxtest.Start(t)
		cloud.CreateTable(t, "addresses", "customer")
		cloud.CreateOutbox(t, "events", "events", 1)
		writer, err := outbox.NewWriter(cloud.DynamoDB, "events")
		require.NoError(t, err)
		inbox, err := outbox.NewInbox(cloud.DynamoDB, "inbox", "addresses")
		require.NoError(t, err)
		require.NoError(t, inbox.Create(t.Context()))
		consumer, err := outbox.NewConsumer(outbox.WithInbox(inbox))
		require.NoError(t, err)
		followAddresses(consumer, writer, cloud.DynamoDB)
		for _, n := range order {
			number := strconv.FormatInt(n, 10)
			require.NoError(t, consumer.Process(t.Context(), outbox.Record{ID: "e" + number, Type: "ADDRESS_CHANGED", AggregateID: "c", Sequence: n,
				Payload: []byte(`{"address":"street ` + number + `"}`)}))
		}
		require.Equal(t, "street 3", addressOf(t, cloud), "%v", order)
	}
}

func addressOf(t *testing.T, cloud *outboxtest.AWS) string {
	row, err := cloud.DynamoDB.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: aws.String("addresses"),
		Key: map[string]types.AttributeValue{"customer": &types.AttributeValueMemberS{Value: "c"}}})
	require.NoError(t, err)
	return row.Item["address"].(*types.AttributeValueMemberS).Value
}

// Another process handles a newer event between this one's read and its write. The condition fails, the handler reads anew, and the event is
// late: in one delivery, and without an attempt, of which there is one.
func TestAfterALostRaceTheEventIsLate(t *testing.T) {
	cloud := outboxtest.Start(t)
	cloud.CreateTable(t, "addresses", "customer")
	cloud.CreateOutbox(t, "events", "events", 1)
	writer, err := outbox.NewWriter(cloud.DynamoDB, "events")
	require.NoError(t, err)
	inbox, err := outbox.NewInbox(cloud.DynamoDB, "inbox", "addresses")
	require.NoError(t, err)
	require.NoError(t, inbox.Create(t.Context()))
	letters, err := outbox.NewDeadLetterTable(cloud.DynamoDB, "dead-letters", "addresses")
	require.NoError(t, err)
	require.NoError(t, letters.Create(t.Context()))
	process := func(client *dynamodb.Client) *outbox.Consumer {
		consumer, err := outbox.NewConsumer(outbox.WithInbox(inbox), outbox.WithDeadLetters(letters, outbox.WithInvokeAttempts(1)))
		require.NoError(t, err)
		followAddresses(consumer, writer, client)
		return consumer
	}
	record := func(n int64) outbox.Record {
		number := strconv.FormatInt(n, 10)
		return outbox.Record{ID: "e" + number, Type: "ADDRESS_CHANGED", AggregateID: "c", Sequence: n, Payload: []byte(`{"address":"street ` + number + `"}`)}
	}
	other := process(cloud.DynamoDB)
	// A client behind whose read the other process handles an event.
	var newer int64
	slow := process(dynamodb.NewFromConfig(cloud.Config(), func(o *dynamodb.Options) {
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			between := func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (
				out middleware.InitializeOutput, metadata middleware.Metadata, err error) {
				out, metadata, err = next.HandleInitialize(ctx, in)
				if _, read := in.Parameters.(*dynamodb.GetItemInput); read && newer > 0 {
					require.NoError(t, other.Process(t.Context(), record(newer)))
				}
				return out, metadata, err
			}
			return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("other", between), middleware.Before)
		})
	}))

	newer = 2
	require.NoError(t, slow.Process(t.Context(), record(1)))
	require.Equal(t, "street 2", addressOf(t, cloud))
	require.Empty(t, lettersOf(t, letters))
}

func lettersOf(t *testing.T, letters *outbox.DeadLetterTable) (ids []string) {
	for l, err := range letters.List(t.Context(), outbox.DeadLetterFilter{}) {
		require.NoError(t, err)
		ids = append(ids, l.ID)
	}
	return ids
}
