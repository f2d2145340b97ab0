// Command reconcile is the Lambda function in the middle of each hour: it looks for events in a 24th of the events table that no delivery has
// brought, confirms their orders, and tells two metrics: how many there were, and that the part was read to its end.
package main

import (
	"context"
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/seed-1b628d3f/outbox/examples/orders/service"
)

func main() { service.RunFunction(service.RoleReconcile, reconcile) }

func reconcile(ctx context.Context) (lambda.Handler, error) {
	c, sdk, err := service.Start(ctx, service.RoleReconcile, os.Getenv, os.Stderr)
	if err != nil {
		return nil, err
	}
	return service.Reconciles(sdk, c, os.Stdout)
}
