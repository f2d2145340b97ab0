package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox"
)

// overOldTable uses an events table that was there before.
func overOldTable(client *dynamodb.Client) (*outbox.Writer, *outbox.Consumer, error) {
	row := outbox.WithAttributes(outbox.Attributes{
		ID: "id", Type: "kind", Time: "createdAt", AggregateID: "entity", Payload: "body",
		Sequence: outbox.NoAttribute, Headers: outbox.NoAttribute,
	})
	writer, err := outbox.NewWriter(client, "old-events", row)
	if err != nil {
		return nil, nil, err
	}
	consumer, err := outbox.NewConsumer(outbox.WithTables("old-events"), row)
	return writer, consumer, err
}

// inMyTransaction adds an event to a transaction of the service's own.
func inMyTransaction(ctx context.Context, client *dynamodb.Client, writer *outbox.Writer, mine []types.TransactWriteItem, event outbox.AnyEvent) error {
	puts, err := writer.Items(ctx, event)
	if err != nil {
		return err
	}
	_, err = client.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: append(mine, puts...)})
	return err
}

// oldMessage is what the relay of a polling outbox publishes.
type oldMessage struct {
	ID, Type, Entity string
	CreatedAt        time.Time
	Body             []byte
}

// onTheOldWay hands a message of the old relay to the handlers of the new Consumer.
func onTheOldWay(ctx context.Context, consumer *outbox.Consumer, message oldMessage) error {
	return consumer.Process(ctx, outbox.Record{
		ID: message.ID, Type: message.Type, AggregateID: message.Entity, Time: message.CreatedAt, Payload: message.Body,
		Table: "events", // as the change record will name it: to an inbox, one id in two tables is two events
	})
}

// withAMap hands a change record of a table whose payloads are maps to the handlers.
func withAMap(ctx context.Context, consumer *outbox.Consumer, data []byte) error {
	var change struct {
		EventName string
		DynamoDB  struct{ NewImage json.RawMessage }
	}
	if err := json.Unmarshal(data, &change); err != nil || change.EventName != "INSERT" {
		return err
	}
	item, err := attributevalue.UnmarshalMapJSON(change.DynamoDB.NewImage)
	if err != nil {
		return err
	}
	var row struct {
		ID, Kind, Entity string
		CreatedAt        int64
		Body             *OrderCreated
	}
	if err := attributevalue.UnmarshalMapWithOptions(item, &row, func(o *attributevalue.DecoderOptions) { o.TagKey = "json" }); err != nil {
		return err
	}
	if row.Body == nil || row.CreatedAt == 0 {
		return fmt.Errorf("event %s has no body or no time", row.ID)
	}
	payload, err := json.Marshal(row.Body)
	if err != nil {
		return err
	}
	return consumer.Process(ctx, outbox.Record{
		ID: row.ID, Type: row.Kind, AggregateID: row.Entity, Time: time.UnixMilli(row.CreatedAt), Payload: payload,
		Table: "old-events", // as the change record names it
	})
}

var _ = []any{overOldTable, inMyTransaction, onTheOldWay, withAMap} // what a service does, not this function
