package outbox_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
	"github.com/seed-1b628d3f/outbox/replay"
)

// The letters of an aggregate are stored in the order in which its events come. A redrive goes by the sequence nevertheless.
func TestDeadLettersThatArriveOutOfOrderAreRedrivenInOrder(t *testing.T) {
	w := newOrderWorld(t)
	events := w.write(t, 1, 2, 3, 4, 5)
	w.failing[1] = outbox.Permanent(errors.New("no stock"))
	c := w.process(t, w.DynamoDB, all, outbox.WithDeadLetters(w.letters))
	for _, n := range []int{4, 2, 3, 1, 0} {
		require.NoError(t, c.Process(t.Context(), events[n]))
	}
	require.ElementsMatch(t, []int64{1, 2, 3, 4, 5}, numbersOf(w.deadLetters(t)))
	require.Empty(t, w.effects(t))
	delete(w.failing, 1)
	result, err := w.letters.Redrive(t.Context(), w.process(t, w.DynamoDB, all), outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
	require.NoError(t, err)
	require.Equal(t, outbox.RedriveResult{Redriven: 5}, result)
	w.requireEffects(t, 1, 5)
	require.Empty(t, w.deadLetters(t))
}

func TestTwoRedrivesOfOneAggregateAtOnceKeepTheOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newOrderWorld(t)
		defer w.Close()
		events := w.write(t, 1, 2, 3, 4, 5)
		w.failing[2] = outbox.Permanent(errors.New("no stock"))
		require.NoError(t, w.process(t, w.DynamoDB, all, outbox.WithDeadLetters(w.letters)).Process(t.Context(), events...))
		require.Equal(t, []int64{2, 3, 4, 5}, numbersOf(w.deadLetters(t)))
		delete(w.failing, 2)
		var redrives sync.WaitGroup
		for range 2 {
			redrives.Go(func() {
				c := newConsumer(t, outbox.WithInbox(w.inbox(t, w.DynamoDB)), outbox.WithOrder(w.DynamoDB, "events", all))
				outbox.HandleTx(c, w.writer, func(ctx context.Context, e outbox.Event[orderCreated]) (outbox.Effects, error) {
					time.Sleep(10 * time.Millisecond)
					return w.handler(ctx, e)
				})
				_, err := w.lettersOf(t, w.DynamoDB).Redrive(t.Context(), c, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
				if err != nil {
					t.Error(err)
				}
			})
		}
		redrives.Wait()
		w.requireEffects(t, 1, 5)
		require.Empty(t, w.deadLetters(t))
	})
}

// Of a replay and a live delivery one handles an event, and the other one finds a duplicate.
func TestAReplayBesideLiveDeliveryKeepsTheOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newOrderWorld(t)
		defer w.Close()
		events := w.write(t, upTo(20)...)
		stored, err := replay.New(w.DynamoDB, "events")
		require.NoError(t, err)
		process := func() *outbox.Consumer {
			c := newConsumer(t, outbox.WithInbox(w.inbox(t, w.DynamoDB)), outbox.WithOrder(w.DynamoDB, "events", all))
			outbox.HandleTx(c, w.writer, func(ctx context.Context, e outbox.Event[orderCreated]) (outbox.Effects, error) {
				time.Sleep(10 * time.Millisecond)
				return w.handler(ctx, e)
			})
			return c
		}
		var both sync.WaitGroup
		both.Go(func() {
			if _, err := stored.To(t.Context(), replay.Query{AggregateID: aggregate}, process(), replay.Options{}); err != nil {
				t.Error(err)
			}
		})
		both.Go(func() {
			c := process()
			for _, n := range []int{2, 0, 1, 9, 7, 19} {
				for err := c.Process(t.Context(), events[n]); err != nil; err = c.Process(t.Context(), events[n]) { // the position has moved meanwhile
					time.Sleep(100 * time.Millisecond)
				}
			}
		})
		both.Wait()
		w.requireEffects(t, 1, 20)
	})
}

// The claim of the next event has the fence of its Worker's shard. So the one that takes the shard over need not wait for the claim's end.
func TestALaterFenceTakesTheClaimOfAPositionOver(t *testing.T) {
	t.Run("delivered", func(t *testing.T) { laterFence(t, false) })
	t.Run("healed", func(t *testing.T) { laterFence(t, true) })
}

func laterFence(t *testing.T, healed bool) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, outboxtest.WithFaults(1))
		defer f.Close()
		w := &inboxWorld{f.world}
		require.NoError(t, w.inbox(t, w.DynamoDB).Create(t.Context()))
		f.oneShard(t)
		position := func() values {
			out, err := w.DynamoDB.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: aws.String("inbox"), ConsistentRead: aws.Bool(true),
				Key: values{"eventId": str(aggregate), "consumer": str("mails#events#position")}})
			require.NoError(t, err)
			return out.Item
		}
		var mu sync.Mutex
		var ran []string
		var claims []map[string]types.AttributeValue
		worker := func(p *process, name string, hangs bool) running {
			client := w.client(p, false)
			c := newConsumer(t, outbox.WithInbox(w.inbox(t, client, outbox.WithClaimDuration(12*time.Hour))), outbox.WithOrder(client, "events", all))
			outbox.Handle(c, func(_ context.Context, e outbox.Event[orderCreated]) error {
				mu.Lock()
				ran, claims = append(ran, name+" "+e.ID), append(claims, position())
				mu.Unlock()
				if hangs && e.Sequence == 2 {
					time.Sleep(time.Hour)
				}
				return nil
			})
			table, err := outbox.NewLeaseTable(client, "leases", "mails")
			require.NoError(t, err)
			worker, err := outbox.NewWorker(w.Kinesis, "events", c, table, outbox.WithDrainTimeout(time.Second))
			require.NoError(t, err)
			return runWorker(t, worker)
		}
		for n := range int64(3) {
			if n == 1 && healed {
				require.NoError(t, f.SetFaults(outboxtest.Fault{Kind: outboxtest.DropRecord, Table: "events", Probability: 1}))
			}
			require.NoError(t, f.writer.Transact(t.Context(), nil, outbox.NewSequenced(aggregate, n+1, orderCreated{})))
			require.NoError(t, f.Drain(t.Context()))
			f.StopFaults()
		}
		p := &process{}
		first := worker(p, "first", true)
		time.Sleep(10 * time.Second)
		p.mu.Lock()
		p.dead = true
		p.mu.Unlock()

		second := worker(&process{}, "second", false)
		f.await(t, "handled by the second", 30*time.Minute, func() bool { return textOf(position(), "sequence") == "3" })
		require.NoError(t, second.stop())
		_ = first.stop()
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, []string{"first account-1#1", "first account-1#2", "second account-1#2", "second account-1#3"}, ran)
		require.Equal(t, textOf(claims[1], "shard"), textOf(claims[2], "shard"))
		require.Contains(t, textOf(claims[1], "shard"), "leases#mails#events#shardId-")
		require.Less(t, textOf(claims[1], "fence"), textOf(claims[2], "fence"))
		require.Equal(t, "1", textOf(claims[2], "sequence"))
	})
}
