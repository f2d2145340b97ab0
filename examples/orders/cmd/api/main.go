// Command api is the Lambda function behind the HTTP API: it places, changes and reads orders.
package main

import (
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/seed-1b628d3f/outbox/examples/orders/service"
)

func main() { service.RunFunction(service.RoleAPI, gateway) }

// gateway has no metrics.
func gateway(sdk aws.Config, c service.Config, _ io.Writer) (*service.Gateway, error) {
	handler, err := service.NewAPI(dynamodb.NewFromConfig(sdk), c)
	if err != nil {
		return nil, err
	}
	return service.NewGateway(handler), nil
}
