package service

import (
	"log/slog"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// local is the configuration of the tests.
var local = Config{Stack: "shop", OrdersTable: "orders", EventsTable: "events", EventsStream: "events", InboxTable: "inbox", DeadLettersTable: "letters", MailFrom: "shop@example.com", MailRate: 1000}

// setUp creates the tables and the stream of the configuration.
func setUp(t *testing.T, cloud *outboxtest.AWS) {
	cloud.CreateTable(t, local.OrdersTable, "orderId")
	cloud.CreateOutbox(t, local.EventsTable, local.EventsStream, 1)
}

// requireItems checks how many items a table has.
func requireItems(t *testing.T, cloud *outboxtest.AWS, table string, want int64) {
	t.Helper()
	out, err := cloud.DynamoDB.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: aws.String(table)})
	require.NoError(t, err)
	require.Equalf(t, want, aws.ToInt64(out.Table.ItemCount), "items in table %s", table)
}

// quiet drops what is logged by default until the test ends.
func quiet(t *testing.T) {
	loud := slog.Default()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	t.Cleanup(func() { slog.SetDefault(loud) })
}
