package outbox_test

import (
	"context"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// TestAFalseEndIsTakenBack has open shards whose leases say that they have ended, as an answer that was not whole once did. The listings
// contradict that, and the shards are read on where they were.
func TestAFalseEndIsTakenBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		handle := func(_ context.Context, e outbox.Event[orderCreated]) error { f.note(t, e); return nil }
		w := f.start(t, handle)
		before := f.put(t, "a", 4, 5)
		f.await(t, "handled", time.Minute, f.all(before))
		require.NoError(t, w.stop())
		statuses, err := f.leases.(*outbox.LeaseTable).Status(t.Context(), "events")
		require.NoError(t, err)
		require.NotEmpty(t, statuses)
		for _, s := range statuses {
			_, err := f.DynamoDB.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{TableName: aws.String("leases"),
				Key: values{"group": str("mails"), "id": str("events#L#" + s.Shard)}, UpdateExpression: aws.String("SET #last = #checkpoint, #checkpoint = :end"),
				ExpressionAttributeNames:  map[string]string{"#last": "last", "#checkpoint": "checkpoint"},
				ExpressionAttributeValues: values{":end": str("SHARD_END")}})
			require.NoError(t, err)
		}
		w = f.start(t, handle)
		after := f.put(t, "b", 4, 5)
		f.await(t, "handled after the false end", 10*time.Minute, f.all(after))
		require.NoError(t, w.stop())
		f.requireTimes(t, 1, before)
		f.requireTimes(t, 1, after)
	})
}
