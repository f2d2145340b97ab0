package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// versionOf reads the version of an order, consistently.
func versionOf(ctx context.Context, client *dynamodb.Client, id string) (int64, error) {
	out, err := client.GetItem(ctx, &dynamodb.GetItemInput{TableName: aws.String("orders"), Key: values{"orderId": str(id)}, ConsistentRead: aws.Bool(true)})
	if err != nil {
		return 0, err
	}
	version, _ := strconv.ParseInt(textOf(out.Item, "version"), 10, 64)
	return version, nil
}

// nextVersion sets the version of an order, and does what other updates of the order do, if nobody else has set it since it was read.
func nextVersion(id string, have int64, with ...types.TransactWriteItem) types.TransactWriteItem {
	u := &types.Update{TableName: aws.String("orders"), Key: values{"orderId": str(id)},
		UpdateExpression: aws.String("SET version = :next"), ConditionExpression: aws.String("version = :have"),
		ExpressionAttributeValues: values{":have": num(fmt.Sprint(have)), ":next": num(fmt.Sprint(have + 1))}}
	if have == 0 {
		u.ConditionExpression = aws.String("attribute_not_exists(version)")
		delete(u.ExpressionAttributeValues, ":have")
	}
	for _, w := range with {
		*u.UpdateExpression += " " + *w.Update.UpdateExpression
		maps.Copy(u.ExpressionAttributeValues, w.Update.ExpressionAttributeValues)
	}
	return types.TransactWriteItem{Update: u}
}

// One aggregate, whose events lie in eight shards that eight instances of a function read at once. Each handler reads a version, and writes
// the next one under the condition that it is still there.
func TestAHotAggregateMakesNoDeadLetters(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const events, shards = 300, 8
		w := &inboxWorld{newWorldWith(t)}
		defer w.Close()
		require.NoError(t, w.inbox(t, w.DynamoDB).Create(t.Context()))
		a := &inboxWithLetters{inboxWorld: w}
		a.letters = a.lettersOf(t, w.DynamoDB)
		require.NoError(t, a.letters.Create(t.Context()))
		w.CreateOutbox(t, "hot-events", "hot-events", shards)
		writer, err := outbox.NewWriter(w.DynamoDB, "hot-events")
		require.NoError(t, err)
		for range events {
			require.NoError(t, writer.Put(t.Context(), "orders", order{"x"}, outbox.NewEvent("hot", orderCreated{})))
		}
		require.NoError(t, w.SetFaults(outboxtest.Fault{Kind: outboxtest.Latency, Operation: "TransactWriteItems", Probability: 1, Duration: 5 * time.Millisecond}))
		var runs, lost atomic.Int64
		instances := make(chan *outbox.Consumer, shards)
		for range shards {
			c := newConsumer(t, outbox.WithInbox(w.inbox(t, w.DynamoDB)), outbox.WithDeadLetters(a.letters), outbox.WithConsumerHooks(outbox.ConsumerHooks{
				Handled: func(_ context.Context, _ outbox.Record, _ time.Duration, err error) {
					runs.Add(1)
					if errors.Is(err, outbox.ErrConditionFailed) {
						lost.Add(1)
					}
				}}))
			outbox.HandleTx(c, w.writer, func(ctx context.Context, _ outbox.Event[orderCreated]) (outbox.Effects, error) {
				have, err := versionOf(ctx, w.DynamoDB, "hot")
				return outbox.Effects{Writes: []types.TransactWriteItem{nextVersion("hot", have)}}, err
			})
			instances <- c
		}
		_, err = w.Map(outboxtest.EventSource{Stream: "hot-events", ReportBatchItemFailures: true}, func(ctx context.Context, payload []byte) ([]byte, error) {
			c := <-instances
			defer func() { instances <- c }()
			return c.Invoke(ctx, payload)
		})
		require.NoError(t, err)
		require.NoError(t, w.Drain(t.Context()))
		for l, err := range a.letters.List(t.Context(), outbox.DeadLetterFilter{}) {
			require.NoError(t, err)
			t.Errorf("a dead letter: %s after %d attempts: %s", l.ID, l.Attempts, l.Error)
		}
		version, err := versionOf(t.Context(), w.DynamoDB, "hot")
		require.NoError(t, err)
		require.EqualValues(t, events, version)
		t.Logf("%d events, %d runs, %d lost races", events, runs.Load(), lost.Load())
		require.GreaterOrEqual(t, runs.Load(), events+lost.Load())
		require.Greater(t, lost.Load(), int64(events/10))
	})
}

// A handler that loses its race reads anew, up to eight times, in one delivery: also if the version makes the id of an event that it returns,
// which the winner has stored.
func TestALostRaceIsRunAgainInPlace(t *testing.T) {
	for _, withEvent := range []bool{false, true} {
		for _, races := range []int{1, 8, 9} {
			t.Run(fmt.Sprintf("with an event %t, lost %d times", withEvent, races), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					w := newInboxWorld(t)
					defer w.Close()
					var attempts []int
					effects := func(have int64, who string) outbox.Effects {
						e := outbox.Effects{Writes: []types.TransactWriteItem{nextVersion("hot", have)}}
						if withEvent {
							next := outbox.NewEvent("hot", orderCreated{Description: who})
							next.ID = fmt.Sprint("hot#", have+1)
							e.Events = []outbox.AnyEvent{next}
						}
						return e
					}
					c := w.tx(t, &process{}, func(ctx context.Context, e outbox.Event[orderCreated]) (outbox.Effects, error) {
						attempts = append(attempts, outbox.AttemptFromContext(ctx))
						have, err := versionOf(ctx, w.DynamoDB, "hot")
						require.NoError(t, err)
						if len(attempts) <= races { // another process is faster
							other := effects(have, "another")
							if !withEvent {
								other.Events = []outbox.AnyEvent{outbox.NewEvent("x", orderCreated{})}
							}
							require.NoError(t, w.writer.Transact(ctx, other.Writes, other.Events...))
						}
						return effects(have, "this one"), nil
					})
					err := c.Process(t.Context(), createdRecord("1"))
					version, versionErr := versionOf(t.Context(), w.DynamoDB, "hot")
					require.NoError(t, versionErr)
					if races == 9 {
						require.ErrorContains(t, err, "ConditionalCheckFailed")
						require.EqualValues(t, 9, version)
						require.NoError(t, c.Process(t.Context(), createdRecord("1")), "the next delivery")
						return
					}
					require.NoError(t, err)
					require.EqualValues(t, races+1, version)
					want := make([]int, races+1)
					for i := range want {
						want[i] = i + 1
					}
					require.Equal(t, want, attempts)
				})
			})
		}
	}
}

// Lost races do not use up the attempts, and failures between them do.
func TestLostRacesAndFailuresAreCountedApart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o, calls := newOffice(t), 0
		defer o.Close()
		c := newConsumer(t, outbox.WithDeadLetters(o.letters, outbox.WithInvokeAttempts(3)), outbox.WithInvokeRetry(outbox.Retry{MaxAttempts: 1}))
		outbox.HandleType(c, "T", func(context.Context, outbox.Event[struct{}]) error {
			if calls++; calls%6 == 0 {
				return errors.New("down")
			}
			return fmt.Errorf("store: %w", outbox.ErrConditionFailed)
		})
		for delivery := 1; delivery <= 3; delivery++ {
			require.Empty(t, o.ids(t))
			require.Equal(t, unfinished([]string{"s0", "s0", ""}[delivery-1]), o.invoke(t, c, changeRecord("1", "a")))
			require.Equal(t, 6*delivery, calls)
		}
		require.Equal(t, 18, o.list(t, outbox.DeadLetterFilter{})[0].Attempts, "three failures and fifteen lost races")
	})
}

// Lost races are counted whatever ends their delivery, also where one attempt is enough. With the letter the count goes.
func TestLostRacesAreCountedWhateverEndsTheirDelivery(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, calls := newInboxWithLetters(t), 0
		defer a.Close()
		c := newConsumer(t, outbox.WithDeadLetters(a.letters, outbox.WithInvokeAttempts(1)))
		outbox.HandleType(c, "T", func(context.Context, outbox.Event[struct{}]) error {
			switch calls++; calls {
			case 3, 6:
				return outbox.Unavailable(errors.New("the mail server"))
			case 7:
				return errors.New("down")
			}
			return outbox.ErrConditionFailed
		})
		for range 2 {
			require.Error(t, c.Process(t.Context(), rec("1", "a")))
			require.Len(t, a.all(t, "letters"), 1, "the count")
		}
		require.NoError(t, c.Process(t.Context(), rec("1", "a")))
		require.Equal(t, 7, calls)
		l, err := a.letters.Get(t.Context(), "a#1")
		require.NoError(t, err)
		require.Equal(t, 5, l.Attempts, "four lost races and a failure")
		for _, row := range a.all(t, "letters") {
			require.NotContains(t, row, "lost", "the count of a record that is finished")
		}
	})
}

// A condition that never holds is a failure in the end, also where one attempt is enough and the next delivery comes to another process.
func TestAConditionThatNeverHoldsBecomesADeadLetter(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a := newInboxWithLetters(t)
		defer a.Close()
		runs, deliveries := 0, 0
		for err := errors.New("not delivered yet"); err != nil; deliveries++ {
			require.Less(t, deliveries, 200)
			c := newConsumer(t, outbox.WithInbox(a.inbox(t, a.DynamoDB)), outbox.WithDeadLetters(a.letters, outbox.WithInvokeAttempts(1)))
			outbox.HandleTx(c, a.writer, func(context.Context, outbox.Event[orderCreated]) (outbox.Effects, error) {
				runs++
				return outbox.Effects{Writes: []types.TransactWriteItem{{ConditionCheck: &types.ConditionCheck{TableName: aws.String("orders"),
					Key: values{"orderId": str("none")}, ConditionExpression: aws.String("attribute_exists(orderId)")}}}}, nil
			})
			err = c.Process(t.Context(), createdRecord("1"))
		}
		require.Equal(t, 112, deliveries)
		require.Equal(t, 1008, runs)
		l, err := a.letters.Get(t.Context(), "order-1#1")
		require.NoError(t, err)
		require.Equal(t, 1008, l.Attempts)
		require.Contains(t, l.Error, "condition failed")
		require.Nil(t, a.mark(t, "1"))
	})
}

// A lost race does not wait longer than the invocation lasts.
func TestALostRaceEndsWithTheInvocation(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, calls := newConsumer(t), 0
		outbox.HandleType(c, "T", func(context.Context, outbox.Event[struct{}]) error {
			calls++
			time.Sleep(300 * time.Millisecond)
			return outbox.ErrConditionFailed
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		got, err := c.Invoke(ctx, kinesisEvent(changeRecord("1", "a")))
		require.NoError(t, err)
		require.Equal(t, unfinished("s0"), string(got))
		require.LessOrEqual(t, calls, 3)
		require.Less(t, time.Since(began), time.Second+200*time.Millisecond)
	})
}
