// Command orders is the order service: an HTTP API that places and changes orders, and a worker that confirms both by mail. An
// order and the event that announces it are committed together; the mail follows from the event.
//
// Without arguments it needs nothing but Go: it starts an AWS of its own in this process, and serves a page that shows what becomes
// of each order. With -aws it uses the AWS that the SDK's configuration names (credentials, region, AWS_ENDPOINT_URL), has no page,
// and -role api and -role worker make processes of their own of its two halves: any number of workers share the stream through a
// lease table. The command localaws serves an AWS to all of them. These workers keep nothing of what they have handled, so they confirm in
// the order of arrival; those in cmd keep the order of the events.
//
// What is deployed to AWS is not this program but those in cmd, which are made of the same package service. DEPLOY.md says how.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/examples/orders/service"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "orders:", err)
		os.Exit(1)
	}
}

// run is the service, from its arguments to its drained end. It returns nil when ctx has ended and everything is drained.
func run(ctx context.Context, args []string, out io.Writer) error {
	set, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	mails := &mailbox{takes: set.mailTakes, most: mailsKept}
	if !set.aws {
		return runLocal(ctx, set, mails, out)
	}
	consumer, err := outbox.NewConsumer(outbox.WithTables(eventsTable))
	if err != nil {
		return err
	}
	service.ConfirmOrders(consumer, mails)
	if set.role == roleWorker {
		return runWorker(ctx, set, consumer, mails, out)
	}
	return runOnAWS(ctx, set, consumer, mails, out)
}

// The roles of a process.
const (
	roleAll    = "all"
	roleAPI    = "api"
	roleWorker = "worker"
)

type settings struct {
	addr       string
	aws        bool
	role       string
	showMails  bool
	mailTakes  time.Duration
	lease      time.Duration
	unfinished int
}

func parse(args []string) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("orders", flag.ContinueOnError)
	flags.StringVar(&s.addr, "addr", "127.0.0.1:8080", "address to listen on")
	flags.BoolVar(&s.aws, "aws", false, "use the AWS of the SDK's configuration instead of one in this process")
	flags.StringVar(&s.role, "role", roleAll, "with -aws: api, worker, or all in one process")
	flags.BoolVar(&s.showMails, "mails", false, "with -aws, too, show the confirmations of this process at /mails, to everybody")
	flags.DurationVar(&s.mailTakes, "mail-takes", 0, "how long the mail provider takes for a confirmation")
	flags.DurationVar(&s.lease, "lease", 8*time.Second, "with -aws: after how long others take over from a worker that does not answer")
	flags.IntVar(&s.unfinished, "max-unfinished", 5000, "with -aws: how many records of a shard a worker has under way at most, and handles again after a crash")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	switch {
	case flags.NArg() > 0:
		return s, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case s.role != roleAll && s.role != roleAPI && s.role != roleWorker:
		return s, fmt.Errorf("-role: want api, worker or all, have %q", s.role)
	case s.role != roleAll && !s.aws:
		return s, fmt.Errorf("-role %s: several processes need an AWS that they share: give -aws, too", s.role)
	case s.role != roleAll && s.showMails:
		return s, fmt.Errorf("-role %s has no /mails: a worker prints what it confirms", s.role)
	}
	return s, nil
}

// runOnAWS is the API, and with it, unless there are workers elsewhere, a worker.
func runOnAWS(ctx context.Context, set settings, consumer *outbox.Consumer, mails *mailbox, out io.Writer) error {
	listener, err := net.Listen("tcp", set.addr)
	if err != nil {
		return err
	}
	defer listener.Close()
	aws, err := configured(ctx)
	if err != nil {
		return err
	}
	if err := setUp(ctx, aws.dynamodb, aws.kinesis); err != nil {
		return err
	}
	if set.role == roleAPI {
		return serveAPI(ctx, set, aws, listener, mails, out)
	}
	worker, err := newWorker(ctx, aws, set, consumer, outbox.WorkerHooks{})
	if err != nil {
		return err
	}
	// The worker stops after the API. If it stops by itself, the API stops, too.
	serving, stopServing := context.WithCancel(ctx)
	defer stopServing()
	working, stopWorking := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWorking()
	worked := make(chan error, 1)
	go func() {
		worked <- worker.Run(working)
		stopServing()
	}()
	err = serveAPI(serving, set, aws, listener, mails, out)
	stopWorking()
	return errors.Join(err, <-worked)
}

// serveAPI serves the API until ctx ends.
func serveAPI(ctx context.Context, set settings, aws cloud, listener net.Listener, mails *mailbox, out io.Writer) error {
	handler, err := newAPI(aws.dynamodb, mails, set.showMails)
	if err != nil {
		return err
	}
	text := "It serves POST /, GET /orders/{id} and POST /orders/{id}/changes. Without -aws there is a page, too.\n\n" + curls(listener, set.showMails)
	if !set.showMails && set.role == roleAll {
		text += "\nWith -mails it shows what it has confirmed at /mails.\n"
	}
	text += fmt.Sprintf("\nWho reads the stream: outbox status --stream %s --leases %s --group %s\n", eventsStream, leasesTable, service.Group)
	return present(ctx, set, aws.where, listener, handler, text, out)
}

// present says where the service is and what to try, and serves it until ctx ends.
func present(ctx context.Context, set settings, where string, listener net.Listener, handler http.Handler, text string, out io.Writer) error {
	if _, err := fmt.Fprintf(out, "order service on http://%s, %s\n\n%s\nCtrl-C stops it.\n", listener.Addr(), where, text); err != nil {
		return err
	}
	return serve(ctx, listener, guarded(set, listener.Addr(), handler))
}

// curls are what to ask the API for.
func curls(listener net.Listener, showMails bool) string {
	text := fmt.Sprintf(`  curl -d '{"description":"two coffees"}' http://%[1]s/
  curl -H 'Idempotency-Key: 1' -d '{"description":"tea"}' http://%[1]s/     # called again, it is the same order
  curl http://%[1]s/orders/ORDERID
  curl -d '{"description":"three coffees"}' http://%[1]s/orders/ORDERID/changes
`, listener.Addr())
	if showMails {
		text += fmt.Sprintf("  curl http://%s/mails\n", listener.Addr())
	}
	return text
}
