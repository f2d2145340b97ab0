package outbox_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

func TestTenAttemptsAreTheDefault(t *testing.T) {
	o := newOffice(t)
	c := o.consumer(t)
	for range 9 {
		require.Error(t, c.Process(t.Context(), rec("poison", "p")))
	}
	require.Empty(t, o.ids(t))
	require.NoError(t, c.Process(t.Context(), rec("poison", "p")))
	require.Equal(t, 10, o.list(t, outbox.DeadLetterFilter{})[0].Attempts)
	require.Len(t, rowsOf(t, o, "letters"), 2, "the letter and its aggregate, and no count of attempts")
}

// reads counts what is asked about parked aggregates.
type reads struct {
	*dynamodb.Client
	n int
}

func (r *reads) Query(ctx context.Context, in *dynamodb.QueryInput, opts ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	r.n++
	return r.Client.Query(ctx, in, opts...)
}

// Who need not know what is parked does not ask.
func TestParkedAggregatesAreAskedForOnlyWhereTheyMatter(t *testing.T) {
	o := newOffice(t)
	for _, c := range []struct {
		aggregate string
		opts      []outbox.DeadLetterOption
		reads     int
	}{
		{"a", nil, 1}, {"", nil, 0}, {"a", []outbox.DeadLetterOption{outbox.LetLaterEventsPass()}, 0},
	} {
		client := &reads{Client: o.DynamoDB}
		require.NoError(t, o.consumerOf(t, o.table(t, client), c.opts...).Process(t.Context(), rec("1", c.aggregate), rec("2", c.aggregate)))
		require.Equal(t, c.reads, client.n)
	}
}

// A record that cannot be decoded is not acknowledged before it is stored.
func TestAMalformedRecordWaitsForTheTable(t *testing.T) {
	o := newOffice(t)
	c := o.consumer(t)
	require.NoError(t, o.SetFaults(outboxtest.Fault{Kind: outboxtest.ServerError, Service: "DynamoDB", Operation: "PutItem", Probability: 1}))
	for range 2 {
		require.Equal(t, unfinished("s1"), o.invoke(t, c, changeRecord("1", "a"), `{"broken`, changeRecord("2", "b")))
	}
	o.StopFaults()
	require.Equal(t, unfinished(""), o.invoke(t, c, changeRecord("1", "a"), `{"broken`, changeRecord("2", "b")))
	require.Len(t, o.ids(t), 1)
}

// What the consumer would skip is not parked.
func TestWhatIsSkippedIsNotParked(t *testing.T) {
	o := newOffice(t)
	require.NoError(t, o.consumer(t, outbox.WithInvokeAttempts(1)).Process(t.Context(), rec("poison", "p")))
	other, unknown := rec("other", "p"), rec("unknown", "p")
	other.Table, unknown.Type = "others", "U"
	for name, c := range map[string]struct {
		opts []outbox.ConsumerOption
		want []string
	}{
		"skipped":                {nil, []string{"p#poison"}},
		"unknown types must not": {[]outbox.ConsumerOption{outbox.FailUnknownTypes()}, []string{"p#poison", "p#unknown"}},
	} {
		consumer := newConsumer(t, append(c.opts, outbox.WithTables("events"), outbox.WithDeadLetters(o.letters))...)
		outbox.HandleType(consumer, "T", o.handle)
		require.NoError(t, consumer.Process(t.Context(), other, unknown), name)
		require.Equal(t, c.want, o.ids(t), name)
		if len(c.want) > 1 {
			l, err := o.letters.Get(t.Context(), "p#unknown")
			require.NoError(t, err)
			require.True(t, l.Parked, "it waits, and is no failure yet")
			require.NoError(t, o.letters.Discard(t.Context(), "p#unknown"))
		}
	}
	require.Empty(t, o.handled)
}

// The caller sees both what the handler said and that it could not be kept.
func TestErrorsOfTheTableKeepTheHandlers(t *testing.T) {
	o := newOffice(t)
	require.NoError(t, o.consumer(t, outbox.WithInvokeAttempts(1)).Process(t.Context(), rec("poison", "p")))
	require.NoError(t, o.SetFaults(outboxtest.Fault{Kind: outboxtest.ServerError, Service: "DynamoDB", Operation: "TransactWriteItems", Probability: 1}))
	err := o.consumer(t, outbox.WithInvokeAttempts(1)).Process(t.Context(), rec("poison", "q"))
	require.ErrorContains(t, err, "the printer is on fire")
	require.ErrorContains(t, err, "the dead letter table cannot be used")
	err = o.consumer(t).Process(t.Context(), rec("p1", "p"))
	require.ErrorContains(t, err, "the dead letter table cannot be used")
}

// An attempt that the deadline of Process cuts off counts, too.
func TestADeadlineOfProcessCounts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t)
		defer o.Close()
		c := newConsumer(t, outbox.WithDeadLetters(o.letters, outbox.WithInvokeAttempts(2)))
		outbox.HandleType(c, "T", func(ctx context.Context, _ outbox.Event[struct{}]) error {
			<-ctx.Done()
			return ctx.Err()
		})
		for n := range 2 {
			require.Len(t, o.ids(t), 0)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			err := c.Process(ctx, rec("slow", "s"))
			cancel()
			require.Equal(t, n == 0, err != nil)
		}
		require.Equal(t, []string{"s#slow"}, o.ids(t))
	})
}

// singleReads counts the rows that are read one by one.
type singleReads struct {
	*dynamodb.Client
	n int
}

func (c *singleReads) GetItem(ctx context.Context, in *dynamodb.GetItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	c.n++
	return c.Client.GetItem(ctx, in, opts...)
}

// An aggregate that somebody has redriven since it was looked at is found free once, and not asked for again.
func TestAnAggregateIsFoundFreeOnce(t *testing.T) {
	o := newOffice(t)
	o.bury(t, 1, 1)
	o.repair()
	client := &singleReads{Client: o.DynamoDB}
	c := newConsumer(t, outbox.WithConcurrency(1), outbox.WithDeadLetters(o.table(t, client)))
	outbox.HandleType(c, "T", func(ctx context.Context, e outbox.Event[struct{}]) error {
		if e.ID == "first" {
			_, err := o.letters.Redrive(ctx, o.consumer(t), outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
			return err
		}
		return o.handle(ctx, e)
	})
	require.NoError(t, c.Process(t.Context(), rec("first", "a"), rec("0-1", "agg0"), rec("0-2", "agg0"), rec("0-3", "agg0")))
	require.Equal(t, []string{"poison0-0", "0-1", "0-2", "0-3"}, o.handled)
	require.Equal(t, 1, client.n)
}

var errNever = errors.New("never")

// A dead letter at its first attempt costs no count.
func TestAHopelessEventIsNotCounted(t *testing.T) {
	o := newOffice(t)
	client := &brokenTable{Client: o.DynamoDB, updates: true, deletes: true}
	c := newConsumer(t, outbox.WithDeadLetters(o.table(t, client)))
	outbox.HandleType(c, "T", func(context.Context, outbox.Event[struct{}]) error { return outbox.Permanent(errNever) })
	require.NoError(t, c.Process(t.Context(), rec("hopeless", "h")))
	require.Zero(t, client.calls)
	require.Equal(t, []string{"h#hopeless"}, o.ids(t))
}
