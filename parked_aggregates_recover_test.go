package outbox_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/deadletter"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// A redrive that ends with its context after an aggregate's last letter has ended the parking, too: no letter would lead to it any more.
func TestARedriveThatIsCancelledEndsTheParking(t *testing.T) {
	o := newOffice(t)
	_ = o.consumer(t, outbox.WithInvokeAttempts(1)).Process(t.Context(), rec("poison", "p"))
	o.repair()
	ctx, cancel := context.WithCancel(t.Context())
	_, err := o.letters.Redrive(ctx, o.consumer(t), outbox.DeadLetterFilter{}, outbox.RedriveOptions{Progress: func(outbox.RedriveResult) { cancel() }})
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, rowsOf(t, o, "letters"))
	require.NoError(t, o.consumer(t).Process(t.Context(), rec("p2", "p")))
	require.Equal(t, []string{"poison", "p2"}, o.handled)
}

// failingDeletes is a client whose first DeleteItem calls fail.
type failingDeletes struct {
	outbox.DeadLetterClient
	left atomic.Int32
}

func failing(client outbox.DeadLetterClient, times int32) *failingDeletes {
	f := &failingDeletes{DeadLetterClient: client}
	f.left.Store(times)
	return f
}

func (f *failingDeletes) DeleteItem(ctx context.Context, in *dynamodb.DeleteItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error) {
	if f.left.Add(-1) >= 0 {
		return nil, errors.New("no connection")
	}
	return f.DeadLetterClient.DeleteItem(ctx, in, opts...)
}

// An aggregate whose last letter is gone, and whose parking is not ended because of a crash: whoever does the same again, or redrives it or
// all, ends the parking.
func TestAParkingWithoutLettersIsEnded(t *testing.T) {
	for name, end := range map[string]func(o *office, t *testing.T) error{
		"Discard": func(o *office, t *testing.T) error {
			err := o.letters.Discard(t.Context(), "p#poison")
			require.ErrorIs(t, err, outbox.ErrNoDeadLetter)
			return nil
		},
		"Redrive of all": func(o *office, t *testing.T) error {
			_, err := o.letters.Redrive(t.Context(), o.consumer(t), outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
			return err
		},
		"Redrive of the aggregate": func(o *office, t *testing.T) error {
			_, err := o.letters.Redrive(t.Context(), o.consumer(t), outbox.DeadLetterFilter{AggregateID: "p"}, outbox.RedriveOptions{})
			return err
		},
		"request for all": func(o *office, t *testing.T) error {
			_, err := o.letters.RequestRedrive(t.Context(), outbox.DeadLetterFilter{})
			require.NoError(t, err)
			_, err = o.letters.AnswerRedriveRequests(t.Context(), o.consumer(t))
			return err
		},
		"request for the aggregate": func(o *office, t *testing.T) error {
			_, err := o.letters.RequestRedrive(t.Context(), outbox.DeadLetterFilter{AggregateID: "p"})
			require.NoError(t, err)
			_, err = o.letters.AnswerRedriveRequests(t.Context(), o.consumer(t))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t)
			c := o.consumer(t, outbox.WithInvokeAttempts(1))
			_ = c.Process(t.Context(), rec("poison", "p"))
			_ = c.Process(t.Context(), rec("poison", "q"))
			require.Error(t, o.table(t, failing(o.DynamoDB, 1)).Discard(t.Context(), "p#poison"))
			require.Equal(t, []string{"mails#lane/p", "mails#lane/q", "mails/q#poison"}, slices.Sorted(slices.Values(rowsOf(t, o, "letters"))))
			require.NoError(t, end(o, t))
			require.NotContains(t, rowsOf(t, o, "letters"), "mails#lane/p")
			require.Contains(t, rowsOf(t, o, "letters"), "mails#lane/q")
			require.NoError(t, o.consumer(t).Process(t.Context(), rec("p2", "p")))
			require.Contains(t, o.handled, "p2")
		})
	}
}

// A redrive dies, and the letter that it had is discarded: the queue waits for the dead redrive, parks nothing, and goes with a redrive of all.
func TestAQueueThatADeadRedriveHoldsIsEnded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t)
		defer o.Close()
		require.NoError(t, o.consumer(t, outbox.WithInvokeAttempts(1)).Process(t.Context(), rec("poison", "p")))
		dead, err := deadletter.New(o.DynamoDB, "letters", "mails")
		require.NoError(t, err)
		lock, err := dead.Lock(t.Context(), deadletter.Target{Queue: "p"}, "dead")
		require.NoError(t, err)
		require.NotNil(t, lock)
		require.NoError(t, o.letters.Discard(t.Context(), "p#poison"))
		require.Equal(t, []string{"mails#lane/p"}, rowsOf(t, o, "letters"))
		require.NoError(t, o.consumer(t).Process(t.Context(), rec("p1", "p")))
		require.Equal(t, []string{"p1"}, o.handled)
		for _, want := range []outbox.RedriveResult{{Busy: 1}, {}} {
			done, err := o.letters.Redrive(t.Context(), o.consumer(t), outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
			require.NoError(t, err)
			require.Equal(t, want, done)
			time.Sleep(30 * time.Second)
		}
		require.Empty(t, rowsOf(t, o, "letters"))
	})
}

// An aggregate whose last letter is gone is not parked, also if a crash has kept its parking from being ended: its next event is handled by who
// knows nothing of it, and by who knew that it was parked.
func TestAnAggregateWithoutLettersIsNotParked(t *testing.T) {
	o := newOffice(t)
	before := o.consumer(t, outbox.WithInvokeAttempts(1))
	require.NoError(t, before.Process(t.Context(), rec("poison", "p"), rec("poison", "q")))
	o.repair()
	_, err := o.table(t, failing(o.DynamoDB, 10)).Redrive(t.Context(), o.consumer(t), outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
	require.Error(t, err)
	for _, letter := range o.ids(t) { // of the aggregate that the redrive did not come to
		require.Error(t, o.table(t, failing(o.DynamoDB, 1)).Discard(t.Context(), letter))
	}
	require.Contains(t, rowsOf(t, o, "letters"), "mails#lane/p")
	require.NoError(t, o.consumer(t).Process(t.Context(), rec("p1", "p")))
	require.NoError(t, before.Process(t.Context(), rec("p2", "p")))
	require.Subset(t, o.handled, []string{"p1", "p2"})
	require.Empty(t, o.ids(t))
	o.broken = true
	require.NoError(t, o.consumer(t, outbox.WithInvokeAttempts(1)).Process(t.Context(), rec("poison3", "p"), rec("p4", "p")))
	require.Equal(t, []string{"p#p4", "p#poison3"}, o.ids(t), "the next letter parks it again")
}

// lateTransaction is a client whose first transaction arrives late: after before has run.
type lateTransaction struct {
	outbox.DeadLetterClient
	before func()
}

func (l *lateTransaction) TransactWriteItems(ctx context.Context, in *dynamodb.TransactWriteItemsInput, opts ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error) {
	if before := l.before; before != nil {
		l.before = nil
		before()
	}
	return l.DeadLetterClient.TransactWriteItems(ctx, in, opts...)
}

// A large letter may come back late, without the parts that a redrive has removed. It is listed as what it is, no handler gets it, and it can be
// discarded.
func TestALetterThatLostItsPayload(t *testing.T) {
	o := newOffice(t)
	big := rec("poison", "p")
	big.Payload = []byte(`{"x":"` + strings.Repeat("x", 380<<10) + `"}`)
	late := &lateTransaction{DeadLetterClient: o.DynamoDB}
	late.before = func() {
		_ = o.consumer(t, outbox.WithInvokeAttempts(1)).Process(t.Context(), big)
		o.repair()
		_, err := o.letters.Redrive(t.Context(), o.consumer(t), outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
		require.NoError(t, err)
	}
	c := newConsumer(t, outbox.WithDeadLetters(o.table(t, late), outbox.WithInvokeAttempts(1)))
	outbox.HandleType(c, "T", func(context.Context, outbox.Event[struct{}]) error { return errors.New("down") })
	require.NoError(t, c.Process(t.Context(), big))

	require.Equal(t, []string{"poison"}, o.handled)
	result, err := o.letters.Redrive(t.Context(), o.consumer(t), outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
	require.NoError(t, err)
	require.Equal(t, outbox.RedriveResult{Failed: 1}, result)
	require.Equal(t, []string{"poison"}, o.handled)
	letters := o.list(t, outbox.DeadLetterFilter{})
	require.Len(t, letters, 1)
	require.Contains(t, letters[0].Error, "the payload is lost")
	require.NoError(t, o.letters.Discard(t.Context(), "p#poison"))
	require.Empty(t, rowsOf(t, o, "letters"))
}

// Attempts before a Permanent error count, and none is left behind.
func TestAPermanentFailureCountsTheAttemptsBefore(t *testing.T) {
	o := newOffice(t)
	c := newConsumer(t, outbox.WithDeadLetters(o.letters))
	calls := 0
	outbox.HandleType(c, "T", func(context.Context, outbox.Event[struct{}]) error {
		if calls++; calls < 4 {
			return errors.New("down")
		}
		return outbox.Permanent(errors.New("never"))
	})
	for range 4 {
		_ = c.Process(t.Context(), rec("1", "a"))
	}
	require.Equal(t, 4, o.list(t, outbox.DeadLetterFilter{})[0].Attempts)
	require.Equal(t, []string{"mails#lane/a", "mails/a#1"}, slices.Sorted(slices.Values(rowsOf(t, o, "letters"))))
}

// A handler that ends its goroutine has failed: in Process and Invoke that is an attempt like any other.
func TestAHandlerThatEndsItsGoroutineBecomesADeadLetter(t *testing.T) {
	o := newOffice(t)
	c := newConsumer(t, outbox.WithDeadLetters(o.letters, outbox.WithInvokeAttempts(2)))
	outbox.HandleType(c, "T", func(context.Context, outbox.Event[struct{}]) error {
		runtime.Goexit()
		return nil
	})
	require.Error(t, c.Process(t.Context(), rec("1", "a")))
	require.NoError(t, c.Process(t.Context(), rec("1", "a")))
	letters := o.list(t, outbox.DeadLetterFilter{})
	require.Len(t, letters, 1)
	require.Equal(t, 2, letters[0].Attempts)
	require.Contains(t, letters[0].Error, "ended its goroutine")
}

// A shard whose first records have no aggregate has not asked yet what its owner before has parked: what another shard of the process learned
// earlier is too old.
func TestAShardAsksForWhatIsParkedWhenItNeedsToKnow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newFleetWithLetters(t)
		defer m.Close()
		r := m.startWorker(t, outbox.WithPollInterval(200*time.Millisecond))
		time.Sleep(5 * time.Second)
		put := func(hash, data string) {
			_, err := m.Kinesis.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: ptr("events"), PartitionKey: ptr("k"), ExplicitHashKey: &hash, Data: []byte(data)})
			require.NoError(t, err)
		}
		const one, other = "0", "340282366920938463463374607431768211455"
		put(one, orderRecord("x-0-0", "x"))
		m.await(t, "the first handled", time.Second, m.all([]string{"x-0-0"}))

		elsewhere := newConsumer(t, outbox.WithDeadLetters(m.letters, outbox.WithInvokeAttempts(1))) // another process
		outbox.HandleType(elsewhere, "T", func(context.Context, outbox.Event[struct{}]) error { return errors.New("down") })
		require.NoError(t, elsewhere.Process(t.Context(), rec("a-0-0", "a")))

		put(other, `{"eventName":"REMOVE","tableName":"events","dynamodb":{}}`)
		time.Sleep(250 * time.Millisecond)
		put(other, orderRecord("a-0-1", "a"))
		time.Sleep(2 * time.Second)
		require.Equal(t, []string{"a#a-0-0", "a#a-0-1"}, m.letterIDs(t))
		require.NoError(t, r.stop())
	})
}

// orderRecord is the change record of an orderCreated.
func orderRecord(id, aggregate string) string {
	return strings.Replace(changeRecord(id, aggregate), `{"S":"T"}`, `{"S":"ORDER_CREATED"}`, 1)
}

// An attempt whose counting the SDK repeats, because the answer was lost, counts once.
func TestALostAnswerIsNoSecondAttempt(t *testing.T) {
	o := newOffice(t)
	require.NoError(t, o.SetFaults(outboxtest.Fault{Kind: outboxtest.LoseAnswer, Service: "DynamoDB", Operation: "UpdateItem", Calls: []int{1}}))
	c := o.consumer(t, outbox.WithInvokeAttempts(2))
	require.Error(t, c.Process(t.Context(), rec("poison", "a")))
	require.Empty(t, o.ids(t))
	require.NoError(t, c.Process(t.Context(), rec("poison", "a")))
	require.Equal(t, []string{"a#poison"}, o.ids(t))
}
