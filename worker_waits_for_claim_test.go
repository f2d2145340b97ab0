package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// A Worker's later fence takes a claim of the same shard and leases over at once; nobody else does.
func TestALaterFenceTakesAClaimOver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		w := &inboxWorld{f.world}
		require.NoError(t, w.inbox(t, w.DynamoDB).Create(t.Context()))
		f.oneShard(t)
		// The first worker is cut off within its handler, which does not notice.
		var mu sync.Mutex
		runs := map[string]time.Time{}
		claims := map[string]values{}
		handler := func(name string, wait time.Duration) func(context.Context, outbox.Event[orderCreated]) error {
			return func(ctx context.Context, e outbox.Event[orderCreated]) error {
				mu.Lock()
				runs[name], claims[name] = time.Now(), w.mark(t, e.ID)
				mu.Unlock()
				time.Sleep(wait)
				return nil
			}
		}
		worker := func(p *process, name string, leases outbox.Leases, wait time.Duration) running {
			client := w.client(p, false)
			c := newConsumer(t, outbox.WithInbox(w.inbox(t, client, outbox.WithClaimDuration(time.Hour))))
			outbox.Handle(c, handler(name, wait))
			if leases == nil {
				table, err := outbox.NewLeaseTable(client, "leases", "mails")
				require.NoError(t, err)
				leases = table
			}
			worker, err := outbox.NewWorker(w.Kinesis, "events", c, leases, outbox.WithDrainTimeout(time.Second))
			require.NoError(t, err)
			return runWorker(t, worker)
		}
		others := &outbox.MemoryLeases{}
		for range 3 { // their fences get higher
			w := worker(&process{}, "of other leases", others, 0)
			time.Sleep(5 * time.Second)
			require.NoError(t, w.stop())
		}
		ids := f.put(t, "e", 1, 1)
		p := &process{}
		first := worker(p, "first", nil, 10*time.Minute)
		time.Sleep(5 * time.Second)
		ran := func(name string) bool {
			mu.Lock()
			defer mu.Unlock()
			_, ok := runs[name]
			return ok
		}
		require.True(t, ran("first"))
		p.mu.Lock()
		p.dead = true
		p.mu.Unlock()
		died := time.Now()

		foreign := worker(&process{}, "of other leases", others, 0)
		time.Sleep(30 * time.Second)
		second := worker(&process{}, "second", nil, 0)
		f.await(t, "handled by the second", time.Minute, func() bool { return ran("second") })
		require.False(t, ran("of other leases"), "fences of other leases are other numbers")
		mu.Lock()
		require.Less(t, runs["second"].Sub(died), 2*time.Minute)
		require.Equal(t, textOf(claims["first"], "shard"), textOf(claims["second"], "shard"))
		require.Contains(t, textOf(claims["second"], "shard"), "leases#mails#events#shardId-")
		require.Less(t, textOf(claims["first"], "fence"), textOf(claims["second"], "fence"))
		mu.Unlock()
		f.await(t, "marked", time.Minute, func() bool { return textOf(w.mark(t, ids[0]), "handledAt") != "" })
		require.NoError(t, second.stop())
		require.NoError(t, foreign.stop())
		_ = first.stop()
	})
}

// A Worker waits for another's claim, without counting attempts, and not longer than the claim lasts.
func TestAWorkerWaitsForAClaim(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		w := &inboxWorld{f.world}
		require.NoError(t, w.inbox(t, w.DynamoDB).Create(t.Context()))
		_, err := w.DynamoDB.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("inbox"), Item: values{
			"eventId": str("e-0-0"), "consumer": str("mails#events"), "type": str("ORDER_CREATED"), "aggregateId": str("e-0"), "owner": str("a dead one"),
			"claimedUntil": num(fmt.Sprint(time.Now().Add(time.Minute).UnixMilli()))}})
		require.NoError(t, err)
		until := time.Now().Add(time.Minute)
		var ran time.Time
		attempts := 0
		p := &process{}
		c := newConsumer(t, outbox.WithInbox(w.inbox(t, w.client(p, true))))
		outbox.Handle(c, func(_ context.Context, e outbox.Event[orderCreated]) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			ran = time.Now()
			if attempts++; attempts < 3 {
				return errors.New("down")
			}
			f.handled[e.ID]++
			return nil
		})
		worker, err := outbox.NewWorker(f.Kinesis, "events", c, f.leases, outbox.WithHandlerRetry(outbox.Retry{MaxAttempts: 3, MaxDelay: time.Hour}))
		require.NoError(t, err)
		running := runWorker(t, worker)
		ids := f.put(t, "e", 1, 1)
		f.await(t, "an attempt", 2*time.Minute, func() bool { return attempts > 0 })
		require.False(t, ran.Before(until), "it ran during the claim")
		require.Less(t, ran.Sub(until), time.Second)
		require.Less(t, len(p.calls()), 40)
		f.await(t, "handled", time.Hour, f.all(ids))
		require.NoError(t, running.stop(), "the waits were not counted as attempts")
		require.Equal(t, 3, attempts)
	})
}

// Where the handler did not run, nothing has failed that a dead letter could be about.
func TestAnEventThatCannotBeClaimedIsNoDeadLetter(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		defer f.Close()
		w := &inboxWorld{f.world}
		require.NoError(t, w.inbox(t, w.DynamoDB).Create(t.Context()))
		letters, err := outbox.NewDeadLetterTable(w.DynamoDB, "letters", "mails")
		require.NoError(t, err)
		require.NoError(t, letters.Create(t.Context()))
		consumer := func(client outbox.InboxClient) *outbox.Consumer {
			c := newConsumer(t, outbox.WithInbox(w.inbox(t, client)), outbox.WithDeadLetters(letters, outbox.WithInvokeAttempts(1)))
			outbox.Handle(c, func(_ context.Context, e outbox.Event[orderCreated]) error {
				f.mu.Lock()
				defer f.mu.Unlock()
				f.handled[e.ID]++
				return nil
			})
			return c
		}
		_ = w.guard(t, &process{killAt: 2}, ignoreOrder).Process(t.Context(), createdRecord("1"))
		for range 3 {
			require.ErrorIs(t, consumer(w.DynamoDB).Process(t.Context(), createdRecord("1")), outbox.ErrClaimed)
			require.ErrorContains(t, consumer(forbidden{w.DynamoDB}).Process(t.Context(), createdRecord("2")), "the event could not be claimed: inbox table inbox")
		}
		worker, err := outbox.NewWorker(f.Kinesis, "events", consumer(forbidden{w.DynamoDB}), f.leases, outbox.WithHandlerRetry(outbox.Retry{MaxAttempts: 1}))
		require.NoError(t, err)
		ids := f.put(t, "e", 1, 1)
		running := runWorker(t, worker)
		time.Sleep(time.Minute)
		require.NoError(t, running.stop())
		for l, err := range letters.List(t.Context(), outbox.DeadLetterFilter{}) {
			t.Fatalf("a dead letter: %v, %v", l, err)
		}
		require.Empty(t, f.handled)
		require.NoError(t, consumer(w.DynamoDB).Process(t.Context(), createdRecord("1"), createdRecord("2"), createdRecord(ids[0])))
		require.Len(t, f.handled, 3)
	})
}

// forbidden may not write.
type forbidden struct{ *dynamodb.Client }

func (forbidden) PutItem(context.Context, *dynamodb.PutItemInput, ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	return nil, &smithy.GenericAPIError{Code: "AccessDeniedException", Message: "no permission"}
}

// DeleteItem would give back what is not there: the answer has said so.
func (forbidden) DeleteItem(context.Context, *dynamodb.DeleteItemInput, ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error) {
	panic("nothing is claimed")
}
