package outbox_test

import (
	"context"
	"strings"
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

func TestNewInboxNamesEveryMistake(t *testing.T) {
	var none *dynamodb.Client
	_, err := outbox.NewInbox(none, "", "a#b", nil, outbox.WithInboxTTL(time.Hour), outbox.WithClaimDuration(0), outbox.WithInboxCache(-1))
	for _, want := range []string{"outbox: NewInbox: ", "the DynamoDB client is nil", "the inbox table: it is empty: want ", `without '#': "a#b"`, "option 0 is nil",
		"WithInboxTTL: want 24 hours to 100 years, have 1h0m0s", "WithClaimDuration: want 1 second to 12 hours, have 0s", "WithInboxCache: want 0 to 1,000,000, have -1"} {
		require.ErrorContains(t, err, want)
	}
	client := dynamodb.New(dynamodb.Options{})
	for _, name := range []string{"", "#", strings.Repeat("x", 256), "\xff"} {
		_, err := outbox.NewInbox(client, "inbox", name)
		require.ErrorContains(t, err, "the name of an inbox's consumer must be")
	}
	for _, opt := range []outbox.InboxOption{outbox.WithInboxTTL(101 * 365 * 24 * time.Hour), outbox.WithClaimDuration(13 * time.Hour), outbox.WithInboxCache(1_000_001)} {
		_, err := outbox.NewInbox(client, "inbox", "mails", opt)
		require.Error(t, err)
	}
	_, err = outbox.NewInbox(client, "inbox", strings.Repeat("ü", 127)+"x", outbox.WithInboxTTL(24*time.Hour), outbox.WithClaimDuration(time.Second), outbox.WithInboxCache(0))
	require.NoError(t, err)
}

func TestWithInboxNamesEveryMistake(t *testing.T) {
	i, err := outbox.NewInbox(dynamodb.New(dynamodb.Options{}), "inbox", "mails")
	require.NoError(t, err)
	for want, opts := range map[string][]outbox.ConsumerOption{
		"WithInbox: the Inbox is nil":         {outbox.WithInbox(nil)},
		"WithInbox: a Consumer has one Inbox": {outbox.WithInbox(i), outbox.WithInbox(i)},
		"WithInbox: an event type is empty":   {outbox.WithInbox(i, "T", "")},
	} {
		_, err := outbox.NewConsumer(opts...)
		require.ErrorContains(t, err, want)
	}
}

func TestInboxCreate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		aws1 := outboxtest.Start(t, outboxtest.WithDelays(3*time.Second))
		defer aws1.Close()
		w := &inboxWorld{&world{AWS: aws1}}
		i := w.inbox(t, aws1.DynamoDB)
		for range 2 {
			require.NoError(t, i.Create(t.Context()))
		}
		ttl, err := aws1.DynamoDB.DescribeTimeToLive(t.Context(), &dynamodb.DescribeTimeToLiveInput{TableName: aws.String("inbox")})
		require.NoError(t, err)
		require.Equal(t, "expiresAt", aws.ToString(ttl.TimeToLiveDescription.AttributeName))
		table, err := aws1.DynamoDB.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: aws.String("inbox")})
		require.NoError(t, err)
		require.Equal(t, types.BillingModePayPerRequest, table.Table.BillingModeSummary.BillingMode)
		aws1.CreateTable(t, "leases", "group", "id")
		other, err := outbox.NewInbox(aws1.DynamoDB, "leases", "mails")
		require.NoError(t, err)
		require.EqualError(t, other.Create(t.Context()),
			`outbox: wait for inbox table leases: it has the keys "group" and "id", not eventId and consumer: it is another kind of table`)
		require.NoError(t, i.Create(t.Context()))
	})
}

// Same id, another type or aggregate: neither the table nor the memory takes the one for the other.
func TestAnotherEventWithTheSameIDIsNeverSkipped(t *testing.T) {
	w := newInboxWorld(t)
	kinds := map[string]func(c *outbox.Consumer, eventType string){
		"transaction": func(c *outbox.Consumer, eventType string) {
			outbox.HandleTxType(c, w.writer, eventType, func(context.Context, outbox.Event[struct{}]) (outbox.Effects, error) {
				return outbox.Effects{Writes: []types.TransactWriteItem{countCommit("x")}}, nil
			})
		},
		"mark alone": func(c *outbox.Consumer, eventType string) {
			outbox.HandleTxType(c, w.writer, eventType, func(context.Context, outbox.Event[struct{}]) (outbox.Effects, error) { return outbox.Effects{}, nil })
		},
		"a failing handler": func(c *outbox.Consumer, eventType string) {
			outbox.HandleTxType(c, w.writer, eventType, func(_ context.Context, e outbox.Event[struct{}]) (outbox.Effects, error) {
				if eventType == "T" && e.AggregateID == "a" {
					return outbox.Effects{}, nil
				}
				return outbox.Effects{}, context.Canceled
			})
		},
		"guard": func(c *outbox.Consumer, eventType string) {
			outbox.HandleType(c, eventType, func(context.Context, outbox.Event[struct{}]) error { return nil })
		},
	}
	for name, register := range kinds {
		for _, cache := range []int{0, 10} {
			consumer := func() *outbox.Consumer {
				c := newConsumer(t, outbox.WithInbox(w.inbox(t, w.DynamoDB, outbox.WithInboxCache(cache))))
				register(c, "T")
				register(c, "U")
				return c
			}
			c := consumer()
			r := rec(name+string(rune('0'+cache)), "a")
			require.NoError(t, c.Process(t.Context(), r))
			for _, c := range []*outbox.Consumer{c, consumer()} {
				require.NoError(t, c.Process(t.Context(), r))
				for _, other := range []outbox.Record{{ID: r.ID, Type: "U", AggregateID: "a"}, {ID: r.ID, Type: "T", AggregateID: "b"}, {ID: r.ID, Type: "T"}} {
					err := c.Process(t.Context(), other)
					require.ErrorIsf(t, err, outbox.ErrPermanent, "%s, %d: %v", name, cache, other)
					require.ErrorContainsf(t, err, `that one has type "T" and aggregate "a", this one has type "`+other.Type+`" and aggregate "`+other.AggregateID+`"`, name)
				}
			}
		}
	}
}

// Consumers of other names handle the same events on their own.
func TestConsumersOfOtherNamesAreSeparate(t *testing.T) {
	w := newInboxWorld(t)
	handled := map[string]int{}
	for _, name := range []string{"mails", "mail", "audit", "mails"} {
		i, err := outbox.NewInbox(w.DynamoDB, "inbox", name)
		require.NoError(t, err)
		c := newConsumer(t, outbox.WithInbox(i))
		outbox.Handle(c, func(context.Context, outbox.Event[orderCreated]) error { handled[name]++; return nil })
		require.NoError(t, c.Process(t.Context(), createdRecord("1")))
	}
	require.Equal(t, map[string]int{"mails": 1, "mail": 1, "audit": 1}, handled)
}

// After its time to live an event is handled again, and not before.
func TestAnInboxForgetsAfterItsTimeToLive(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newInboxWorld(t)
		defer w.Close()
		var plain atomic.Int32
		consumer := func() *outbox.Consumer {
			i := w.inbox(t, w.DynamoDB, outbox.WithInboxTTL(48*time.Hour))
			c := newConsumer(t, outbox.WithInbox(i))
			outbox.Handle(c, func(context.Context, outbox.Event[orderCreated]) error { plain.Add(1); return nil })
			outbox.HandleTxType(c, w.writer, "T", func(context.Context, outbox.Event[struct{}]) (outbox.Effects, error) {
				return outbox.Effects{Writes: []types.TransactWriteItem{countCommit("x")}}, nil
			})
			return c
		}
		deliverBoth := func() {
			require.NoError(t, consumer().Process(t.Context(), createdRecord("1"), rec("2", "a")))
		}
		deliverBoth()
		time.Sleep(48*time.Hour - time.Second)
		w.ExpireTTL()
		deliverBoth()
		require.EqualValues(t, 1, plain.Load())
		require.Equal(t, "1", textOf(w.row(t, "orders", "orderId", "x"), "commits"))
		time.Sleep(2 * time.Second)
		w.ExpireTTL()
		require.Empty(t, w.all(t, "inbox"))
		deliverBoth()
		require.EqualValues(t, 2, plain.Load())
		require.Equal(t, "2", textOf(w.row(t, "orders", "orderId", "x"), "commits"))
	})
}
