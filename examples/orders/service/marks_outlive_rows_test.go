package service

import (
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// DynamoDB deletes rows days after they have expired. An event that can still be replayed is known to the inbox.
func TestMarksOutliveTheRowsOfTheirEvents(t *testing.T) {
	quiet(t)
	mailer, _ := fakeSES(t)
	cloud, api, _, _ := mapped(t, mailer)
	placed(t, api, "a@example.com")
	require.NoError(t, cloud.Drain(t.Context()))
	row, mark := expiry(t, cloud, local.EventsTable), expiry(t, cloud, local.InboxTable)
	require.Greater(t, mark.Sub(row), 6*24*time.Hour, "the row expires at %v, the mark at %v", row, mark)
}

// expiry is when the only item of a table expires.
func expiry(t *testing.T, cloud *outboxtest.AWS, table string) time.Time {
	out, err := cloud.DynamoDB.Scan(t.Context(), &dynamodb.ScanInput{TableName: aws.String(table)})
	require.NoError(t, err)
	require.Len(t, out.Items, 1)
	n, ok := out.Items[0]["expiresAt"].(*types.AttributeValueMemberN)
	require.True(t, ok, "%v", out.Items[0])
	seconds, err := strconv.ParseInt(n.Value, 10, 64)
	require.NoError(t, err)
	return time.Unix(seconds, 0)
}
