package service

import (
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// DynamoDB deletes rows days after they have expired. What a consumer has handled of an order it knows for ever; a copy of an event, which a
// replay has written, it knows as long as the copy can be replayed.
func TestMarksOutliveTheRowsOfTheirEvents(t *testing.T) {
	quiet(t)
	mailer, _ := fakeSES(t)
	cloud, api, _, _ := mapped(t, mailer)
	placed(t, api, "a@example.com")
	require.NoError(t, cloud.Drain(t.Context()))
	_, expires := expiry(t, cloud, local.InboxTable)
	require.False(t, expires, "a position expires")

	writer, err := outbox.NewWriter(cloud.DynamoDB, local.EventsTable, outbox.WithTTL(EventsKept))
	require.NoError(t, err)
	require.NoError(t, writer.Transact(t.Context(), nil, outbox.NewEvent("2", OrderCreated{OrderID: "2", Description: "tea"})))
	require.NoError(t, cloud.Drain(t.Context()))
	row, _ := expiry(t, cloud, local.EventsTable)
	mark, expires := expiry(t, cloud, local.InboxTable)
	require.True(t, expires)
	require.Greater(t, mark.Sub(row), 6*24*time.Hour, "the row expires at %v, the mark at %v", row, mark)
}

// expiry is when the last item of a table that expires does so.
func expiry(t *testing.T, cloud *outboxtest.AWS, table string) (last time.Time, expires bool) {
	out, err := cloud.DynamoDB.Scan(t.Context(), &dynamodb.ScanInput{TableName: aws.String(table)})
	require.NoError(t, err)
	for _, item := range out.Items {
		n, ok := item["expiresAt"].(*types.AttributeValueMemberN)
		if !ok {
			continue
		}
		seconds, err := strconv.ParseInt(n.Value, 10, 64)
		require.NoError(t, err)
		if at := time.Unix(seconds, 0); at.After(last) {
			last, expires = at, true
		}
	}
	return last, expires
}
