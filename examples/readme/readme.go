// Command readme holds the code of the README, so that it compiles: a test finds every Go block of the README here or in
// the order service.
package main

import (
	"context"
	"log"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox"
)

type OrderCreated struct {
	OrderID     string `json:"orderId"`
	Description string `json:"description"`
}

func (OrderCreated) EventType() string { return "ORDER_CREATED" }

type Order struct {
	ID          string `dynamodbav:"orderId"`
	Description string `dynamodbav:"description"`
}

func newWriter(ctx context.Context) (*outbox.Writer, error) {
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, err
	}
	return outbox.NewWriter(dynamodb.NewFromConfig(cfg), "events")
}

func placeOrder(ctx context.Context, writer *outbox.Writer, order Order) error {
	event := outbox.NewEvent(order.ID, OrderCreated{OrderID: order.ID, Description: order.Description})
	return writer.Put(ctx, "orders", order, event)
}

func placeOrderOnce(ctx context.Context, writer *outbox.Writer, order Order, item map[string]types.AttributeValue) error {
	event := outbox.NewEvent(order.ID, OrderCreated{OrderID: order.ID, Description: order.Description})
	return writer.Transact(ctx, []types.TransactWriteItem{{
		Put: &types.Put{
			TableName:           aws.String("orders"),
			Item:                item,
			ConditionExpression: aws.String("attribute_not_exists(orderId)"),
		},
	}}, event)
}

type mailer interface {
	Confirm(ctx context.Context, idempotencyKey string, order OrderCreated) error
}

type logMailer struct{}

func (logMailer) Confirm(_ context.Context, key string, order OrderCreated) error {
	log.Printf("order %s confirmed (%s)", order.OrderID, key)
	return nil
}

func newConsumer(mail mailer) (*outbox.Consumer, error) {
	consumer, err := outbox.NewConsumer(outbox.WithTables("events"))
	if err != nil {
		return nil, err
	}
	outbox.Handle(consumer, func(ctx context.Context, e outbox.Event[OrderCreated]) error {
		return mail.Confirm(ctx, e.ID, e.Data)
	})
	return consumer, nil
}

func main() {
	consumer, err := newConsumer(logMailer{})
	if err != nil {
		log.Fatal(err)
	}
	lambda.Start(consumer)
}

var _ = []any{newWriter, placeOrder, placeOrderOnce} // what a service does, not this function
