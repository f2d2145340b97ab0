// Command api is the Lambda function behind the HTTP API: it places, changes and reads orders.
package main

import (
	"context"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/seed-1b628d3f/outbox/examples/orders/service"
)

func main() { service.RunFunction(service.RoleAPI, gateway) }

func gateway(ctx context.Context) (lambda.Handler, error) {
	c, sdk, err := service.Start(ctx, service.RoleAPI, os.Getenv, os.Stderr)
	if err != nil {
		return nil, err
	}
	handler, err := service.NewAPI(dynamodb.NewFromConfig(sdk), c)
	if err != nil {
		return nil, err
	}
	return service.NewGateway(handler), nil
}
