package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// loopback is how long to measure calls that take a third of a millisecond and two processors.
const loopback = 50 * time.Millisecond

// placed is what the Writer rows write.
type placed struct {
	ID          string `dynamodbav:"orderId"`
	Customer    string `dynamodbav:"customer"`
	Description string `dynamodbav:"description"`
	Status      string `dynamodbav:"status"`
	Cents       int    `dynamodbav:"cents"`
}

type orderPlaced struct {
	OrderID     string `json:"orderId"`
	Description string `json:"description"`
}

func (orderPlaced) EventType() string { return "ORDER_PLACED" }

var (
	somePlaced = placed{ID: "01J9Z3", Customer: "c-17", Description: "two coffees", Status: "NEW", Cents: 780}
	someEvent  = outbox.Event[orderPlaced]{ID: "01J9Z4", Type: "ORDER_PLACED", AggregateID: "01J9Z3", Data: orderPlaced{"01J9Z3", "two coffees"}}
)

// idleDynamoDB is a server on the loopback interface that answers at once, and a client of it.
func idleDynamoDB() *dynamodb.Client {
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "{}")
	})}
	go func() { _ = server.Serve(listener) }() // until the process ends
	return dynamodb.New(dynamodb.Options{
		Region: "eu-west-1", BaseEndpoint: aws.String("http://" + listener.Addr().String()), HTTPClient: outboxtest.BufferedClient(nil),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "a", SecretAccessKey: "b"}, nil
		}),
	})
}

// answers is a client that does nothing.
type answers struct{}

func (answers) TransactWriteItems(context.Context, *dynamodb.TransactWriteItemsInput, ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error) {
	return &dynamodb.TransactWriteItemsOutput{}, nil
}

// prebuilt is the transaction that Put makes of somePlaced and someEvent, ready to be sent.
func prebuilt(w *outbox.Writer) *dynamodb.TransactWriteItemsInput {
	items := must(w.Items(context.Background(), someEvent))
	order := types.TransactWriteItem{Put: &types.Put{TableName: aws.String("orders"), Item: must(attributevalue.MarshalMap(somePlaced))}}
	return &dynamodb.TransactWriteItemsInput{
		TransactItems:      append([]types.TransactWriteItem{order}, items...),
		ClientRequestToken: aws.String("01234567890123456789012345678901"),
	}
}

// writerRows is about what Put costs over sending the same transaction, built beforehand, with the SDK alone.
func writerRows() []row {
	client := idleDynamoDB()
	w := must(outbox.NewWriter(client, "events"))
	nowhere := must(outbox.NewWriter(answers{}, "events"))
	ctx := context.Background()
	in := prebuilt(w)
	return []row{{
		group: "Writer over the SDK's bare call, on loopback", name: "Put of a row and an event", target: "at most 4 % and 45 allocs more", slice: loopback,
		sides: []side{
			{"Put", 1, func() {
				if err := w.Put(ctx, "orders", somePlaced, someEvent); err != nil {
					panic(err)
				}
			}},
			{"TransactWriteItems, prebuilt", 1, func() { must(client.TransactWriteItems(ctx, in)) }},
		},
		judge: func(r results) (string, bool) {
			more, allocs := r.ratio("Put", "TransactWriteItems, prebuilt")-1, r.get("Put").allocs-r.get("TransactWriteItems, prebuilt").allocs
			return fmt.Sprintf("%.1f %% CPU, %.0f allocs more; %s a call", 100*more, allocs, duration(r.ns("Put"))), more <= 0.04 && allocs <= 45.5
		},
	}, {
		group: "Writer over the SDK's bare call, on loopback", name: "of which: all that is not the SDK's call",
		sides: []side{
			{"Put", 1, func() {
				if err := nowhere.Put(ctx, "orders", somePlaced, someEvent); err != nil {
					panic(err)
				}
			}},
			{"TransactWriteItems, prebuilt", 1, func() { must(client.TransactWriteItems(ctx, in)) }},
		}, slice: loopback,
		judge: func(r results) (string, bool) {
			return fmt.Sprintf("%.1f %%, %s, %.0f allocs", 100*r.ratio("Put", "TransactWriteItems, prebuilt"), duration(r.ns("Put")), r.get("Put").allocs), true
		},
	}, {
		group: "Writer over the SDK's bare call, on loopback", name: "of which: the event's row and its checks", target: "at most 3 %", slice: loopback,
		sides: []side{
			{"Items", 1, func() { must(w.Items(ctx, someEvent)) }},
			{"TransactWriteItems, prebuilt", 1, func() { must(client.TransactWriteItems(ctx, in)) }},
		},
		judge: func(r results) (string, bool) {
			share := r.ratio("Items", "TransactWriteItems, prebuilt")
			return fmt.Sprintf("%.1f %%, %s", 100*share, duration(r.ns("Items"))), share <= 0.03
		},
	}}
}
