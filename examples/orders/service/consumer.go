package service

import (
	"context"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/replay"
)

// Group names those who confirm orders: in the inbox, in the dead letter table, and among the leases. The Lambda function and the
// workers are the same consumer, so that one can take over from the other and no order is confirmed twice.
const Group = "confirmations"

// Mailer sends the mails of orders. The key is the same for every repeat of the same mail, also for a copy that a replay has written.
type Mailer interface {
	Confirm(ctx context.Context, key string, order OrderCreated) error
	Changed(ctx context.Context, key string, order OrderChanged) error
}

// ConfirmOrders registers the handlers that confirm every new order, and every change of one.
func ConfirmOrders(consumer *outbox.Consumer, mailer Mailer) {
	outbox.Handle(consumer, func(ctx context.Context, e outbox.Event[OrderCreated]) error {
		original, _ := replay.Original(e.ID)
		return mailer.Confirm(ctx, original, e.Data)
	})
	outbox.Handle(consumer, func(ctx context.Context, e outbox.Event[OrderChanged]) error {
		original, _ := replay.Original(e.ID)
		return mailer.Changed(ctx, original, e.Data)
	})
}

// InOrder hands each order's events to their handlers by their sequence: the mail of a change comes after that of the order, however the stream
// has them. Of every order all events are wanted.
func InOrder(client *dynamodb.Client, c Config) outbox.ConsumerOption {
	return outbox.WithOrder(client, c.EventsTable, time.Time{})
}

// NewConsumer returns the consumer that confirms orders and their changes, in order, once each unless something crashes, and keeps what it cannot
// handle as dead letters. For each of them a line with a metric goes to metricLines.
func NewConsumer(client *dynamodb.Client, c Config, mailer Mailer, metricLines io.Writer) (*outbox.Consumer, error) {
	consumer, _, err := newConsumer(client, c, mailer, newMetrics(c, metricLines))
	return consumer, err
}

func newConsumer(client *dynamodb.Client, c Config, mailer Mailer, m *metrics) (*outbox.Consumer, *outbox.DeadLetterTable, error) {
	inbox, err := outbox.NewInbox(client, c.InboxTable, Group, outbox.WithInboxTTL(MarksKept))
	if err != nil {
		return nil, nil, err
	}
	letters, err := outbox.NewDeadLetterTable(client, c.DeadLettersTable, Group)
	if err != nil {
		return nil, nil, err
	}
	consumer, err := outbox.NewConsumer(outbox.WithTables(c.EventsTable), outbox.WithInbox(inbox), outbox.WithDeadLetters(letters), InOrder(client, c),
		outbox.WithConsumerHooks(outbox.ConsumerHooks{DeadLettered: m.deadLettered}))
	if err != nil {
		return nil, nil, err
	}
	ConfirmOrders(consumer, mailer)
	return consumer, letters, nil
}
