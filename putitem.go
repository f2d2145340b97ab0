package outbox

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox/internal/awserr"
	"github.com/seed-1b628d3f/outbox/internal/txtoken"
)

// putClient is what a client may have besides WriterClient. *dynamodb.Client has it.
type putClient interface {
	PutItem(context.Context, *dynamodb.PutItemInput, ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error)
}

// request sends a transaction once. It returns what DynamoDB has billed.
type request func(context.Context, func(*dynamodb.Options)) ([]types.ConsumedCapacity, error)

// inOneTransaction is the request that carries out any transaction. Each call of it is the same request, with the same token.
func (w *Writer) inOneTransaction(tx *transaction) request {
	in := &dynamodb.TransactWriteItemsInput{TransactItems: tx.items, ReturnConsumedCapacity: w.capacity()}
	in.ClientRequestToken = aws.String(txtoken.Of(tx.items, string(in.ReturnConsumedCapacity)))
	return func(ctx context.Context, watch func(*dynamodb.Options)) ([]types.ConsumedCapacity, error) {
		out, err := awserr.Written(w.client.TransactWriteItems(ctx, in, watch))
		if err != nil {
			return nil, err
		}
		return out.ConsumedCapacity, nil
	}
}

// asOnePut is the request for a transaction of one event, at half the price. It has no token: the condition keeps it from being carried out
// twice, and the stored row says what an earlier request did. It is nil if the transaction has more operations, or the client no PutItem.
func (w *Writer) asOnePut(tx *transaction) request {
	client, ok := w.client.(putClient)
	if !ok || len(tx.items) != 1 || !tx.isEvent(0) {
		return nil
	}
	p := tx.items[0].Put
	in := &dynamodb.PutItemInput{TableName: p.TableName, Item: p.Item, ConditionExpression: p.ConditionExpression,
		ExpressionAttributeNames: p.ExpressionAttributeNames, ReturnValuesOnConditionCheckFailure: p.ReturnValuesOnConditionCheckFailure,
		ReturnConsumedCapacity: w.capacity()}
	return func(ctx context.Context, watch func(*dynamodb.Options)) ([]types.ConsumedCapacity, error) {
		out, err := awserr.Written(client.PutItem(ctx, in, watch))
		switch {
		case err != nil:
			return nil, putError(err)
		case out.ConsumedCapacity == nil:
			return nil, nil
		}
		return []types.ConsumedCapacity{*out.ConsumedCapacity}, nil
	}
}

// capacity is what to ask DynamoDB for: only hooks are told what was billed.
func (w *Writer) capacity() types.ReturnConsumedCapacity {
	if len(w.hooks) > 0 {
		return types.ReturnConsumedCapacityTotal
	}
	return ""
}

// putRefused is DynamoDB's refusal of a PutItem, with the reason that it would have in a transaction.
type putRefused struct {
	error
	reason types.CancellationReason
}

func (e *putRefused) Unwrap() error { return e.error }

// hidesRow reports whether an error says that the event's row is stored, and does not show it.
func hidesRow(err error) bool {
	refused := (*putRefused)(nil)
	return errors.As(err, &refused) && aws.ToString(refused.reason.Code) == codeConditionFailed && len(refused.reason.Item) == 0
}

// putError gives the errors that are about the item the reason that they would have in a transaction. The others are the same for both.
func putError(err error) error {
	if !awserr.Refused(err) {
		return err
	}
	reason := types.CancellationReason{Message: aws.String(awserr.Message(err))}
	switch awserr.Code(err) {
	case "ConditionalCheckFailedException":
		failed := (*types.ConditionalCheckFailedException)(nil)
		if errors.As(err, &failed) {
			reason.Item = failed.Item
		}
		reason.Code = aws.String(codeConditionFailed)
	case "TransactionConflictException", "ReplicatedWriteConflictException": // the SDK does not repeat them
		reason.Code = aws.String(codeConflict)
	case "ValidationException":
		reason.Code = aws.String(codeValidation)
	default:
		return err
	}
	return &putRefused{err, reason}
}
