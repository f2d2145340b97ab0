package outbox_test

import (
	"context"
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// typedNils are nil pointers of every type that an attribute value may have.
var typedNils = []types.AttributeValue{
	(*types.AttributeValueMemberS)(nil), (*types.AttributeValueMemberN)(nil), (*types.AttributeValueMemberB)(nil), (*types.AttributeValueMemberBOOL)(nil),
	(*types.AttributeValueMemberNULL)(nil), (*types.AttributeValueMemberM)(nil), (*types.AttributeValueMemberL)(nil),
	(*types.AttributeValueMemberSS)(nil), (*types.AttributeValueMemberNS)(nil), (*types.AttributeValueMemberBS)(nil),
}

func TestDecodeItemRefusesNilPointers(t *testing.T) {
	for _, attribute := range []string{"eventId", "type", "timestamp", "aggregateId", "sequence", "payload", "contentType", "headers"} {
		for _, none := range typedNils {
			item := storedRow(t, outbox.Record{ID: "id", Type: "T", Payload: []byte("1")})
			item[attribute] = none
			_, err := outbox.DecodeItem(item)
			var malformed *outbox.DecodeError
			require.ErrorAs(t, err, &malformed, "%s: %T", attribute, none)
			require.Equal(t, attribute, malformed.Where)
			require.Contains(t, malformed.Reason, "a nil pointer of type ")

			item = storedRow(t, outbox.Record{ID: "id", Type: "T", Payload: []byte("1")})
			item["headers"] = &types.AttributeValueMemberM{Value: values{"h": none}}
			_, err = outbox.DecodeItem(item)
			require.ErrorContains(t, err, "headers: want type S for every value")
		}
	}
}

// A client of the user's own returns stored rows with nil pointers: of an event, and of the inbox.
func TestNilPointersInStoredRowsArePassedOver(t *testing.T) {
	for _, none := range typedNils {
		for _, attribute := range []string{"eventId", "type", "timestamp", "aggregateId", "sequence", "payload", "contentType", "headers"} {
			stored := values{"eventId": str("1"), "headers": &types.AttributeValueMemberM{Value: values{"h": none}}}
			stored[attribute] = none
			failed := reason("ConditionalCheckFailed")
			failed.Item = stored
			err := newWriter(t, &recordingClient{err: canceled(failed)}).Transact(t.Context(), nil, outbox.Record{ID: "1", Type: "T", Headers: map[string]string{"h": "v"}, Payload: []byte("1")})
			require.ErrorIs(t, err, outbox.ErrEventConflict)
		}
		for _, attribute := range []string{"type", "aggregateId", "owner"} {
			client := &inboxWithNils{row: values{"type": str("T"), attribute: none, "handledAt": none, "claimedUntil": none}}
			inbox, err := outbox.NewInbox(client, "inbox", "consumer")
			require.NoError(t, err)
			c := newConsumer(t, outbox.WithInbox(inbox))
			outbox.HandleType(c, "T", func(context.Context, outbox.Event[int]) error { return nil })
			var panicked *outbox.PanicError
			require.False(t, errors.As(c.Process(t.Context(), outbox.Record{ID: "1", Type: "T", Payload: []byte("1")}), &panicked), "%T: %v", none, panicked)
		}
	}
}

// inboxWithNils is a client that refuses to write, and shows the stored row.
type inboxWithNils struct {
	outbox.InboxClient
	row values
}

func (c *inboxWithNils) PutItem(context.Context, *dynamodb.PutItemInput, ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	return nil, &types.ConditionalCheckFailedException{Item: c.row}
}
