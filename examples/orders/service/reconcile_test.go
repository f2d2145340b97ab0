package service

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
	"github.com/seed-1b628d3f/outbox/replay"
)

// reconciling is a service that is reconciled each hour.
type reconciling struct {
	cloud     *outboxtest.AWS
	reconcile *Reconcile
	lines     *bytes.Buffer
}

// newReconciling makes a service that has confirmed an order, so that its inbox is nobody else's.
func newReconciling(t *testing.T, mailer Mailer) *reconciling {
	r := &reconciling{cloud: outboxtest.Start(t), lines: &bytes.Buffer{}}
	setUp(t, r.cloud)
	inbox, err := outbox.NewInbox(r.cloud.DynamoDB, local.InboxTable, Group)
	require.NoError(t, err)
	require.NoError(t, inbox.Create(t.Context()))
	letters, err := outbox.NewDeadLetterTable(r.cloud.DynamoDB, local.DeadLettersTable, Group)
	require.NoError(t, err)
	require.NoError(t, letters.Create(t.Context()))
	r.reconcile, err = NewReconcile(r.cloud.DynamoDB, local, mailer, r.lines)
	require.NoError(t, err)
	r.confirm(t, "first")
	return r
}

// put writes an event that nothing delivers.
func (r *reconciling) put(t *testing.T, id string) {
	writer, err := outbox.NewWriter(r.cloud.DynamoDB, local.EventsTable)
	require.NoError(t, err)
	require.NoError(t, writer.Transact(t.Context(), nil, outbox.Event[OrderCreated]{ID: id, AggregateID: id, Data: OrderCreated{OrderID: id}}))
}

// confirm puts an event, and lets it be delivered.
func (r *reconciling) confirm(t *testing.T, id string) {
	r.put(t, id)
	e := outbox.Record{ID: id, AggregateID: id, Type: "ORDER_CREATED", Time: time.Now(), Payload: []byte("{}"), Table: local.EventsTable}
	require.NoError(t, r.reconcile.consumer.Process(t.Context(), e))
}

// cycle lets a day pass. It returns what the metrics said in all, and the errors.
func (r *reconciling) cycle(t *testing.T) (undelivered, done int, failed []error) {
	time.Sleep(time.Until(time.Now().Truncate(ReconcileEvery).Add(ReconcileEvery * 3 / 2)))
	for range int(ReconcileCycle / ReconcileEvery) {
		r.lines.Reset()
		_, err := r.reconcile.Invoke(t.Context(), nil)
		if err != nil {
			failed = append(failed, err)
			require.Nil(t, gauge(t, r.lines, ReconciledMetric))
		} else {
			require.EqualValues(t, 1, gauge(t, r.lines, ReconciledMetric))
			done++
		}
		if n, told := gauge(t, r.lines, UndeliveredMetric).(float64); told {
			undelivered += int(n)
		}
		time.Sleep(ReconcileEvery)
	}
	return undelivered, done, failed
}

// A day of invocations finds each order that no delivery has brought, and confirms it. The next day finds nothing.
func TestADayFindsWhatNoDeliveryHasBrought(t *testing.T) {
	quiet(t)
	synctest.Test(t, func(t *testing.T) {
		mails := &countingMailer{}
		r := newReconciling(t, mails)
		defer r.cloud.Close()
		for i := range 50 {
			r.confirm(t, fmt.Sprint("confirmed", i))
			r.put(t, fmt.Sprint("lost", i))
		}
		undelivered, done, failed := r.cycle(t)
		require.Empty(t, failed)
		require.Equal(t, []int{50, 24}, []int{undelivered, done})
		require.EqualValues(t, 101, mails.n.Load())
		undelivered, done, failed = r.cycle(t)
		require.Empty(t, failed)
		require.Equal(t, []int{0, 24}, []int{undelivered, done})
		require.EqualValues(t, 101, mails.n.Load())
	})
}

// A part of the table is not done if a row of it cannot be read, or if so much is missing that the consumer must be down. What is known is told.
func TestAPartOfTheTableThatIsNotDoneIsAnError(t *testing.T) {
	quiet(t)
	logs := &bytes.Buffer{}
	slog.SetDefault(slog.New(slog.NewTextHandler(logs, nil)))
	synctest.Test(t, func(t *testing.T) {
		mails := &countingMailer{}
		r := newReconciling(t, mails)
		defer r.cloud.Close()
		_, err := r.cloud.DynamoDB.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String(local.EventsTable), Item: map[string]types.AttributeValue{
			"eventId": &types.AttributeValueMemberS{Value: "broken"}, "type": &types.AttributeValueMemberS{Value: "ORDER_CREATED"},
		}})
		require.NoError(t, err)
		undelivered, done, failed := r.cycle(t)
		require.Equal(t, []int{0, 23}, []int{undelivered, done})
		require.Len(t, failed, 1)
		require.EqualError(t, failed[0], "1 rows are no whole events, and nobody knows what they were")
		require.Contains(t, logs.String(), "msg=unreadable event=broken")
		require.NotContains(t, logs.String(), "msg=undelivered")

		_, err = r.cloud.DynamoDB.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: aws.String(local.EventsTable), Key: map[string]types.AttributeValue{
			"eventId": &types.AttributeValueMemberS{Value: "broken"}}})
		require.NoError(t, err)
		ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
		defer cancel()
		r.lines.Reset()
		_, err = r.reconcile.Invoke(ctx, nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Empty(t, r.lines.String())
	})
}

// An inbox that belongs to another consumer knows nothing of the table: no order is confirmed again, and the alarms hear of it.
func TestAnInboxThatKnowsNothingConfirmsNothing(t *testing.T) {
	quiet(t)
	synctest.Test(t, func(t *testing.T) {
		mails := &countingMailer{}
		r := newReconciling(t, mails)
		defer r.cloud.Close()
		inbox, err := outbox.NewInbox(r.cloud.DynamoDB, "another", Group)
		require.NoError(t, err)
		require.NoError(t, inbox.Create(t.Context()))
		wrong := local
		wrong.InboxTable = "another"
		r.reconcile, err = NewReconcile(r.cloud.DynamoDB, wrong, mails, r.lines)
		require.NoError(t, err)
		undelivered, done, failed := r.cycle(t)
		require.Equal(t, []int{1, 23}, []int{undelivered, done})
		require.Len(t, failed, 1)
		require.ErrorIs(t, failed[0], replay.ErrBehind)
		require.EqualValues(t, 1, mails.n.Load())
	})
}

// countingMailer counts confirmations.
type countingMailer struct{ n atomic.Int64 }

func (m *countingMailer) Confirm(context.Context, string, OrderCreated) error {
	m.n.Add(1)
	return nil
}

func (m *countingMailer) Changed(context.Context, string, OrderChanged) error {
	m.n.Add(1)
	return nil
}
