package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// inboxThatIsDown claims no event while it is down.
type inboxThatIsDown struct {
	outbox.InboxClient
	down atomic.Bool
}

func (i *inboxThatIsDown) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	if i.down.Load() {
		return nil, errors.New("down")
	}
	return i.InboxClient.UpdateItem(ctx, in, opts...)
}

func (i *inboxThatIsDown) PutItem(ctx context.Context, in *dynamodb.PutItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	if i.down.Load() {
		return nil, errors.New("down")
	}
	return i.InboxClient.PutItem(ctx, in, opts...)
}

// unanswered answers no transaction.
type unanswered struct{}

func (unanswered) TransactWriteItems(context.Context, *dynamodb.TransactWriteItemsInput, ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error) {
	return nil, errors.New("no answer")
}

// A commit of HandleTx without an answer is the library's own call, so it is named.
func TestAWorkerNamesCommitsWithoutAnAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newInboxWorld(t)
		defer w.Close()
		c := newConsumer(t, outbox.WithInbox(w.inbox(t, w.DynamoDB)))
		outbox.HandleTx(c, newWriter(t, unanswered{}), func(context.Context, outbox.Event[orderCreated]) (outbox.Effects, error) {
			return outbox.Effects{Writes: []types.TransactWriteItem{{Delete: &types.Delete{TableName: aws.String("orders"),
				Key: map[string]types.AttributeValue{"orderId": &types.AttributeValueMemberS{Value: "x"}}}}}}, nil
		})
		worker, err := outbox.NewWorker(w.Kinesis, "events", c, new(outbox.MemoryLeases))
		require.NoError(t, err)
		r := runWorker(t, worker)
		require.NoError(t, w.writer.Put(t.Context(), "orders", order{"x"}, event("1")))
		time.Sleep(2 * time.Minute)
		require.ErrorContains(t, worker.Health(), "no answer")
		require.NoError(t, r.stop())
	})
}

// What a handler waits for is a matter of its event, as what it fails at: also after the event has waited for a table of the library.
func TestAWorkerWhoseHandlersWaitIsHealthy(t *testing.T) {
	for name, waits := range map[string]error{
		"an outage":  outbox.Unavailable(errors.New("the mail server")),
		"a conflict": fmt.Errorf("store: %w", outbox.ErrConflict),
		"a claim":    fmt.Errorf("wait: %w", outbox.ErrClaimed),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newInboxWorld(t)
				defer w.Close()
				client := &inboxThatIsDown{InboxClient: w.DynamoDB}
				client.down.Store(true)
				c := newConsumer(t, outbox.WithInbox(w.inbox(t, client)))
				var calls atomic.Int32
				outbox.Handle(c, func(context.Context, outbox.Event[orderCreated]) error {
					calls.Add(1)
					return waits
				})
				worker, err := outbox.NewWorker(w.Kinesis, "events", c, new(outbox.MemoryLeases))
				require.NoError(t, err)
				r := runWorker(t, worker)
				require.NoError(t, w.writer.Put(t.Context(), "orders", order{"x"}, event("1")))
				time.Sleep(time.Minute)
				require.ErrorContains(t, worker.Health(), "could not be claimed")
				require.Zero(t, calls.Load())
				client.down.Store(false)
				for range 30 {
					time.Sleep(10 * time.Second)
					if calls.Load() > 0 {
						require.NoError(t, worker.Health())
					}
				}
				require.Greater(t, calls.Load(), int32(3))
				require.NoError(t, r.stop())
			})
		})
	}
}
