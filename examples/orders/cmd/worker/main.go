// Command worker confirms orders like the Lambda function does, in a container: it reads the stream itself, and any number of
// workers share it. SIGTERM stops it; then handlers that run finish, and it gives up its shards in good order. A second signal
// ends it at once.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/examples/orders/service"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	c, sdk, err := service.Start(ctx, service.RoleWorker, os.Getenv, os.Stderr)
	if err != nil {
		return err
	}
	consumer, err := service.Confirmations(sdk, c, os.Stdout)
	if err != nil {
		return err
	}
	leases, err := outbox.NewLeaseTable(dynamodb.NewFromConfig(sdk), c.LeasesTable, service.Group)
	if err != nil {
		return err
	}
	worker, err := outbox.NewWorker(kinesis.NewFromConfig(sdk), c.EventsStream, consumer, leases)
	if err != nil {
		return err
	}
	err = worker.Run(ctx)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil // it was stopped before it began
	}
	return err
}
