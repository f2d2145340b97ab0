package outbox_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// killed is a client of a process that is killed before or after its nth call: from then on it reaches nothing.
type killed struct {
	outbox.DeadLetterClient
	mu    sync.Mutex
	left  int
	after bool
	calls int
}

func mortal[In, Out any](k *killed, ctx context.Context, in In, opts []func(*dynamodb.Options), do func(context.Context, In, ...func(*dynamodb.Options)) (Out, error)) (Out, error) {
	k.mu.Lock()
	k.calls++
	k.left--
	dead, last := k.left < 0, k.left == 0
	k.mu.Unlock()
	var none Out
	if dead || last && !k.after {
		return none, errKilled
	}
	out, err := do(ctx, in, opts...)
	if last {
		return none, errKilled
	}
	return out, err
}

func (k *killed) Query(ctx context.Context, in *dynamodb.QueryInput, opts ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	return mortal(k, ctx, in, opts, k.DeadLetterClient.Query)
}

func (k *killed) GetItem(ctx context.Context, in *dynamodb.GetItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	return mortal(k, ctx, in, opts, k.DeadLetterClient.GetItem)
}

func (k *killed) PutItem(ctx context.Context, in *dynamodb.PutItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	return mortal(k, ctx, in, opts, k.DeadLetterClient.PutItem)
}

func (k *killed) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	return mortal(k, ctx, in, opts, k.DeadLetterClient.UpdateItem)
}

func (k *killed) DeleteItem(ctx context.Context, in *dynamodb.DeleteItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error) {
	return mortal(k, ctx, in, opts, k.DeadLetterClient.DeleteItem)
}

func (k *killed) TransactWriteItems(ctx context.Context, in *dynamodb.TransactWriteItemsInput, opts ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error) {
	return mortal(k, ctx, in, opts, k.DeadLetterClient.TransactWriteItems)
}

// A kill before or after any call, while events become dead letters and while they are redriven: every event is handled, in
// order, at most one of each aggregate once more for the crash; and nothing stays behind in the table.
func TestAKillAtEveryCallOfDeadLettersAndRedrive(t *testing.T) {
	cases := 0
	for _, during := range []string{"parking", "redrive"} {
		for _, after := range []bool{false, true} {
			for n, more := 1, true; more; n++ {
				bubble(t, func(t *testing.T) {
					o := newOffice(t)
					defer o.Close()
					k := &killed{DeadLetterClient: o.DynamoDB, left: n, after: after}
					records := []outbox.Record{rec("poison1", "p"), rec("poison", ""), rec("p2", "p"), rec("p3", "p")}
					if during == "parking" {
						_ = o.consumerOf(t, o.table(t, k), outbox.WithInvokeAttempts(1)).Process(t.Context(), records...)
					}
					time.Sleep(time.Second) // in a bubble nothing takes time, and they are in the order of their storing
					require.NoError(t, o.consumer(t, outbox.WithInvokeAttempts(1)).Process(t.Context(), records...))
					require.Empty(t, o.handled)
					require.Equal(t, []string{"#poison", "p#p2", "p#p3", "p#poison1"}, o.ids(t))
					o.repair()
					if during == "redrive" {
						_, _ = o.table(t, k).Redrive(t.Context(), o.consumer(t), outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
					}
					time.Sleep(2 * time.Minute) // until locks have ended
					_, err := o.letters.Redrive(t.Context(), o.consumer(t), outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
					require.NoError(t, err)
					require.NoError(t, o.consumer(t).Process(t.Context(), rec("p4", "p")))
					var order []string
					repeated := 0
					for _, id := range o.handled {
						if id == "poison" {
							continue
						}
						if slices.Contains(order, id) {
							repeated++
							continue
						}
						order = append(order, id)
					}
					require.Equal(t, []string{"poison1", "p2", "p3", "p4"}, order)
					require.Contains(t, o.handled, "poison")
					require.LessOrEqual(t, repeated, 1)
					require.LessOrEqual(t, o.calls["poison"], 3, "the first time, when it failed, included")
					require.Empty(t, rowsOf(t, o, "letters"))
					more = k.calls >= n
				})
				cases++
				require.Less(t, n, 100)
			}
		}
	}
	t.Logf("%d cases", cases)
}

// A redrive goes on although its writes meet those of the events that are parked meanwhile: each of them is a transaction at the queue's row.
func TestARedriveThatMeetsTransactions(t *testing.T) {
	for _, operation := range []string{"UpdateItem", "DeleteItem"} {
		t.Run(operation, func(t *testing.T) {
			o := newOffice(t)
			o.bury(t, 20, 1)
			o.repair()
			require.NoError(t, o.SetFaults(outboxtest.Fault{Kind: outboxtest.TransactionConflict, Service: "DynamoDB", Operation: operation, Calls: []int{1, 2}}))
			c := newConsumer(t, outbox.WithConcurrency(1))
			outbox.HandleType(c, "T", o.handle)
			done, err := o.letters.Redrive(t.Context(), c, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
			require.NoError(t, err)
			require.Equal(t, 20, done.Redriven)
		})
	}
}

// errKilled is what a process sees that is dead.
var errKilled = errors.New("killed")
