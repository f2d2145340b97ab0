package main

import (
	"context"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox"
)

// AddressChanged has the whole new state, so a later one makes an earlier one needless.
type AddressChanged struct {
	Address string `json:"address"`
}

func (AddressChanged) EventType() string { return "ADDRESS_CHANGED" }

// followAddresses keeps the latest address of each customer, in whatever order the events come.
func followAddresses(consumer *outbox.Consumer, writer *outbox.Writer, client *dynamodb.Client) {
	outbox.HandleTx(consumer, writer, func(ctx context.Context, e outbox.Event[AddressChanged]) (outbox.Effects, error) {
		have, err := versionOf(ctx, client, e.AggregateID) // a consistent read
		if err != nil || have >= e.Sequence {
			return outbox.Effects{}, err // late: a newer one was handled, and only the mark is written
		}
		return outbox.Effects{Writes: []types.TransactWriteItem{{Update: &types.Update{
			TableName:                aws.String("addresses"),
			Key:                      map[string]types.AttributeValue{"customer": &types.AttributeValueMemberS{Value: e.AggregateID}},
			UpdateExpression:         aws.String("SET address = :address, #version = :version"),
			ConditionExpression:      aws.String("attribute_not_exists(#version) OR #version < :version"), // another process may have been faster
			ExpressionAttributeNames: map[string]string{"#version": "version"},
			ExpressionAttributeValues: map[string]types.AttributeValue{
				":address": &types.AttributeValueMemberS{Value: e.Data.Address},
				":version": &types.AttributeValueMemberN{Value: strconv.FormatInt(e.Sequence, 10)},
			},
		}}}}, nil
	})
}

func versionOf(ctx context.Context, client *dynamodb.Client, customer string) (int64, error) {
	out, err := client.GetItem(ctx, &dynamodb.GetItemInput{TableName: aws.String("addresses"), ConsistentRead: aws.Bool(true),
		Key: map[string]types.AttributeValue{"customer": &types.AttributeValueMemberS{Value: customer}}})
	if err != nil {
		return 0, err
	}
	var row struct {
		Version int64 `dynamodbav:"version"`
	}
	return row.Version, attributevalue.UnmarshalMap(out.Item, &row)
}

var _ = followAddresses // what a service does, not this function
