// Command redrive is the Lambda function on a schedule: it hands the dead letters that somebody asked for to the handlers again, and tells
// two metrics: how many letters wait, and whether new events reach the stream.
package main

import (
	"context"
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/seed-1b628d3f/outbox/examples/orders/service"
)

func main() { service.RunFunction(service.RoleRedrive, redrive) }

func redrive(ctx context.Context) (lambda.Handler, error) {
	c, sdk, err := service.Start(ctx, service.RoleRedrive, os.Getenv, os.Stderr)
	if err != nil {
		return nil, err
	}
	return service.Redrives(sdk, c, os.Stdout)
}
