// Command orders is the order service: an HTTP API that places orders, and a consumer that confirms them by mail. A placed
// order and the event that announces it are committed together; the mail follows from the event.
//
// Without arguments it needs nothing but Go: it starts an AWS of its own in this process. With -aws it uses the AWS that the
// SDK's configuration names (credentials, region, AWS_ENDPOINT_URL).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/seed-1b628d3f/outbox"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "orders:", err)
		os.Exit(1)
	}
}

// run is the service, from its arguments to its drained end. It returns nil when ctx has ended and everything is drained.
func run(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("orders", flag.ContinueOnError)
	addr := flags.String("addr", "127.0.0.1:8080", "address to listen on")
	useAWS := flags.Bool("aws", false, "use the AWS of the SDK's configuration instead of one in this process")
	showMails := flags.Bool("mails", false, "with -aws, too, show the confirmations at /mails, to everybody")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}

	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		return err
	}
	defer listener.Close()

	mails := &mailbox{}
	consumer, err := outbox.NewConsumer(outbox.WithTables(eventsTable))
	if err != nil {
		return err
	}
	confirmOrders(consumer, mails)

	connect := embedded
	if *useAWS {
		connect = configured
	}
	aws, err := connect(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, aws.close()) }()
	if err := setUp(ctx, aws.dynamodb, aws.kinesis); err != nil {
		return err
	}
	if err := aws.consume(consumer); err != nil {
		return err
	}

	*showMails = *showMails || !*useAWS
	handler, err := newAPI(aws.dynamodb, mails, *showMails)
	if err != nil {
		return err
	}
	url := "http://" + listener.Addr().String()
	fmt.Fprintf(out, "order service on %s, %s\n\n", url, aws.where)
	fmt.Fprintf(out, "  curl -d '{\"description\":\"two coffees\"}' %s/\n", url)
	if *showMails {
		fmt.Fprintf(out, "  curl %s/mails\n", url)
	}
	fmt.Fprintf(out, "\nCtrl-C stops it.\n")
	return serve(ctx, listener, handler)
}

// newAPI builds the HTTP side.
func newAPI(client *dynamodb.Client, mails *mailbox, showMails bool) (http.Handler, error) {
	writer, err := outbox.NewWriter(client, eventsTable, outbox.WithHeaders(traceHeaders), outbox.WithTTL(eventsKept))
	if err != nil {
		return nil, err
	}
	a := &api{orders: client, writer: writer, mails: mails}
	return a.routes(showMails), nil
}

// serve answers requests until ctx ends, and then lets the ones under way finish.
func serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	slog.Info("draining")
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err := server.Shutdown(drain)
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
