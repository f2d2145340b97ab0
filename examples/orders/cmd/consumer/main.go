// Command consumer is the Lambda function behind the stream: it confirms orders. Its event source mapping must have
// FunctionResponseTypes ReportBatchItemFailures.
package main

import (
	"context"
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/seed-1b628d3f/outbox/examples/orders/service"
)

func main() { service.RunFunction(service.RoleConsumer, consumer) }

func consumer(ctx context.Context) (lambda.Handler, error) {
	c, sdk, err := service.Start(ctx, service.RoleConsumer, os.Getenv, os.Stderr)
	if err != nil {
		return nil, err
	}
	return service.Confirmations(sdk, c, os.Stdout)
}
