// Command localaws serves an AWS of outboxtest at a port, so that several processes can share it: DynamoDB, DynamoDB Streams
// and Kinesis, in memory. It prints the environment in which the SDK, the AWS command line and the order service find it.
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

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "localaws:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("localaws", flag.ContinueOnError)
	addr := flags.String("addr", "127.0.0.1:4566", "address to listen on; anybody who reaches it may do anything")
	limits := flags.Bool("limits", false, "with the limits of Kinesis shards")
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
	var opts []outboxtest.Option
	if *limits {
		opts = append(opts, outboxtest.WithKinesisLimits())
	}
	aws := outboxtest.New(opts...)
	defer aws.Close()
	server := &http.Server{Handler: aws, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	fmt.Fprintf(out, "export AWS_ENDPOINT_URL=http://%s AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local\n", listener.Addr())
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	err = server.Close()
	if end := <-served; !errors.Is(end, http.ErrServerClosed) {
		err = errors.Join(err, end)
	}
	return err
}
