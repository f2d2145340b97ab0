// Command consumer is the Lambda function behind the stream: it confirms orders. Its event source mapping must have
// FunctionResponseTypes ReportBatchItemFailures.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/examples/orders/service"
)

func main() {
	consumer, err := consumer(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, "consumer:", err)
		os.Exit(1)
	}
	lambda.Start(consumer)
}

func consumer(ctx context.Context) (*outbox.Consumer, error) {
	c, sdk, err := service.Start(ctx, service.RoleConsumer, os.Getenv, os.Stderr)
	if err != nil {
		return nil, err
	}
	return service.Confirmations(sdk, c, os.Stdout)
}
