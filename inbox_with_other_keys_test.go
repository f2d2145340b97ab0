package outbox_test

import (
	"context"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// A table that nobody has created with Create has the event's id as its whole key. The second consumer meets the first one's row, and must
// not take the event for handled.
func TestAnInboxWithOtherKeysSkipsNothing(t *testing.T) {
	cloud := outboxtest.Start(t)
	cloud.CreateTable(t, "inbox", "eventId")
	cloud.CreateTable(t, "orders", "orderId")
	cloud.CreateTable(t, "events", "eventId")
	writer := newWriter(t, cloud.DynamoDB)
	effects := outbox.Effects{Writes: []types.TransactWriteItem{countCommit("1")}}
	for _, plain := range []outbox.Effects{{}, effects} {
		for i, name := range []string{"mails", "invoices"} {
			inbox, err := outbox.NewInbox(cloud.DynamoDB, "inbox", name)
			require.NoError(t, err)
			runs := 0
			c := newConsumer(t, outbox.WithInbox(inbox))
			outbox.HandleTx(c, writer, func(context.Context, outbox.Event[orderCreated]) (outbox.Effects, error) { runs++; return plain, nil })
			r := createdRecord("1")
			if len(plain.Writes) > 0 {
				r = createdRecord("2")
			}
			err = c.Process(t.Context(), r)
			require.Equal(t, 1, runs)
			if i > 0 {
				require.ErrorContains(t, err, "the table has other keys: it needs the partition key")
			}
		}
	}
}
