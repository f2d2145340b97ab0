package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/seed-1b628d3f/outbox/examples/orders/page"
	"github.com/seed-1b628d3f/outbox/examples/orders/service"
)

// runLocal is everything in one process: AWS, API, consumer, and the page that shows them.
func runLocal(ctx context.Context, set settings, mails *mailbox, out io.Writer) (err error) {
	listener, err := net.Listen("tcp", set.addr)
	if err != nil {
		return err
	}
	defer listener.Close()
	aws, err := embed()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, aws.close()) }()
	if err := setUp(ctx, aws.dynamodb, aws.kinesis); err != nil {
		return err
	}
	shown, err := page.New(ctx, aws.dynamodb, aws.kinesis, service.Config{
		OrdersTable: ordersTable, EventsTable: eventsTable, EventsStream: eventsStream,
		InboxTable: "inbox", DeadLettersTable: "dead-letters",
	}, mails, aws.loseNext)
	if err != nil {
		return err
	}
	mails.seen = shown.MailSent
	if err := aws.invoke(shown.Consumer()); err != nil {
		return err
	}
	var handler http.Handler
	if handler, err = newAPI(aws.dynamodb, mails, true, shown.WriterOption()); err != nil {
		return err
	}
	if handler, err = shown.Handler(handler); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, shown.Close)()
	text := fmt.Sprintf(`  http://%[1]s/ in a browser shows what becomes of each order

%[2]s
What the page's buttons do:

  curl -X POST http://%[1]s/events/ORDERID%%231/again     # the order's change record, once more
  curl -X POST http://%[1]s/lose        # the next change record is lost
  curl -X POST http://%[1]s/poison      # an order whose mail is refused: a dead letter
  curl -X POST http://%[1]s/redrive     # the mail provider is repaired, and dead letters are handled
`, listener.Addr(), curls(listener, true))
	return present(ctx, set, aws.where, listener, handler, text, out)
}
