package outbox_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// A value that no constructor made answers each call with an error that names its constructor, and panics nowhere else than where a handler
// is registered.
func TestWhatNoConstructorMadeSaysSo(t *testing.T) {
	ctx := t.Context()
	cloud := outboxtest.Start(t)
	made := newConsumer(t)
	letters, err := outbox.NewDeadLetterTable(cloud.DynamoDB, "letters", "mails")
	require.NoError(t, err)

	consumer, inbox, table, leases, writer := &outbox.Consumer{}, &outbox.Inbox{}, &outbox.DeadLetterTable{}, &outbox.LeaseTable{}, &outbox.Writer{}
	calls := map[string]map[string]func() error{
		"a Consumer is made by NewConsumer": {
			"Process": func() error { return consumer.Process(ctx, outbox.Record{ID: "1", Type: "T"}) },
			"Invoke": func() error {
				_, err := consumer.Invoke(ctx, []byte(`{"Records":[]}`))
				return err
			},
			"NewWorker": func() error {
				_, err := outbox.NewWorker(cloud.Kinesis, "events", consumer, &outbox.MemoryLeases{})
				return err
			},
			"Redrive": func() error {
				_, err := letters.Redrive(ctx, consumer, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
				return err
			},
			"AnswerRedriveRequests": func() error {
				_, err := letters.AnswerRedriveRequests(ctx, consumer)
				return err
			},
		},
		"an Inbox is made by NewInbox": {
			"Create": func() error { return inbox.Create(ctx) },
			"WithInbox": func() error {
				_, err := outbox.NewConsumer(outbox.WithInbox(inbox))
				return err
			},
		},
		"a DeadLetterTable is made by NewDeadLetterTable": {
			"Create": func() error { return table.Create(ctx) },
			"List": func() error {
				for _, err := range table.List(ctx, outbox.DeadLetterFilter{}) {
					return err
				}
				return nil
			},
			"Get": func() error {
				_, err := table.Get(ctx, "a#1")
				return err
			},
			"Discard": func() error { return table.Discard(ctx, "a#1") },
			"Redrive": func() error {
				_, err := table.Redrive(ctx, made, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
				return err
			},
			"RequestRedrive": func() error {
				_, err := table.RequestRedrive(ctx, outbox.DeadLetterFilter{})
				return err
			},
			"PendingRedrives": func() error {
				_, err := table.PendingRedrives(ctx)
				return err
			},
			"AnswerRedriveRequests": func() error {
				_, err := table.AnswerRedriveRequests(ctx, made)
				return err
			},
			"WithDeadLetters": func() error {
				_, err := outbox.NewConsumer(outbox.WithDeadLetters(table))
				return err
			},
		},
		"a LeaseTable is made by NewLeaseTable": {
			"Create": func() error { return leases.Create(ctx) },
			"Status": func() error {
				_, err := leases.Status(ctx, "events")
				return err
			},
			"NewWorker": func() error {
				_, err := outbox.NewWorker(cloud.Kinesis, "events", made, leases)
				return err
			},
		},
		"a Worker is made by NewWorker or NewStreamsWorker": {
			"Run": func() error {
				ctx, cancel := context.WithTimeout(ctx, time.Minute)
				defer cancel()
				return (&outbox.Worker{}).Run(ctx)
			},
		},
		"a Writer is made by NewWriter": {
			"Put":      func() error { return writer.Put(ctx, "orders", order{"1"}, event("1")) },
			"Transact": func() error { return writer.Transact(ctx, nil, event("1")) },
			"Items": func() error {
				_, err := writer.Items(ctx, event("1"))
				return err
			},
		},
	}
	for want, methods := range calls {
		for name, call := range methods {
			err := call()
			require.ErrorContains(t, err, want, name)
			require.ErrorContains(t, err, "outbox: ", name)
		}
	}
	require.PanicsWithValue(t, "outbox: a Consumer is made by NewConsumer", func() {
		outbox.HandleType(consumer, "T", func(context.Context, outbox.Event[struct{}]) error { return nil })
	})
}
