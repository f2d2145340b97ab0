package main

import (
	"strconv"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
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
		row, err := cloud.DynamoDB.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: aws.String("addresses"),
			Key: map[string]types.AttributeValue{"customer": &types.AttributeValueMemberS{Value: "c"}}})
		require.NoError(t, err)
		require.Equal(t, &types.AttributeValueMemberS{Value: "street 3"}, row.Item["address"], "%v", order)
	}
}
