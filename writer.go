package outbox

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox/internal/txtoken"
)

// DynamoDBClient is what a Writer needs of the SDK. *dynamodb.Client implements it.
type DynamoDBClient interface {
	TransactWriteItems(context.Context, *dynamodb.TransactWriteItemsInput, ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error)
}

// Writer writes changes together with the events that announce them: both are committed, or neither. It is safe for
// concurrent use. Create it with NewWriter and keep it.
type Writer struct {
	client     DynamoDBClient
	table      string
	attributes Attributes
}

// NewWriter returns a Writer that stores events in eventsTable through client. It makes no call. The error names everything
// that is wrong with the arguments.
func NewWriter(client DynamoDBClient, eventsTable string, opts ...WriterOption) (*Writer, error) {
	cfg := writerConfig{attributes: defaultAttributes}
	var errs []error
	if isNil(client) {
		errs = append(errs, errors.New("the DynamoDB client is nil"))
	}
	if eventsTable == "" {
		errs = append(errs, errors.New("the name of the events table is empty"))
	}
	for i, opt := range opts {
		if opt == nil {
			errs = append(errs, fmt.Errorf("option %d is nil", i))
			continue
		}
		errs = append(errs, opt.applyWriter(&cfg))
	}
	if cfg.attributes.Payload == NoAttribute || cfg.attributes.Time == NoAttribute {
		errs = append(errs, errors.New("a Writer needs the attributes Payload and Time"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("outbox: NewWriter: %w", err)
	}
	return &Writer{
		client:     client,
		table:      eventsTable,
		attributes: cfg.attributes,
	}, nil
}

// Put stores item in table, replacing any item with the same key, and the events, in one transaction. item is a struct or
// map that attributevalue can marshal (struct tags `dynamodbav`), or a map[string]types.AttributeValue. Use Transact for
// anything that needs a condition.
//
// At least one event is needed. A repeat with the same events succeeds without writing anything, now by DynamoDB's
// idempotency token and at any later time by the stored event, so after an error a caller may simply call again with the
// same Event values. The events decide: a repeat with the same events and another item writes nothing either.
//
// The error is a *TransactionError, except when ctx had ended before anything was sent. With ErrUnknownOutcome the
// transaction may have been committed; with every other error nothing was written.
//
// See https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html.
func (w *Writer) Put(ctx context.Context, table string, item any, events ...AnyEvent) error {
	values, err := marshalItem(item)
	if err != nil {
		return refuse(ErrInvalidWrite, OperationError{Kind: "Put", Table: table, Message: err.Error()})
	}
	write := types.TransactWriteItem{Put: &types.Put{TableName: &table, Item: values}}
	return w.Transact(ctx, []types.TransactWriteItem{write}, events...)
}

// Transact commits the writes and the events in one transaction. The writes are passed on as they are, conditions included,
// and are not changed; at most 100 writes and events together. Set ReturnValuesOnConditionCheckFailure on a write to find
// its stored item in the error.
//
// Everything else is as with Put. A condition of the caller that no longer holds because an earlier attempt was committed
// does not make a repeat fail.
func (w *Writer) Transact(ctx context.Context, writes []types.TransactWriteItem, events ...AnyEvent) error {
	if len(events) == 0 {
		return refuse(ErrInvalidEvent, OperationError{Index: len(writes), Message: "no event: a write without one needs no outbox"})
	}
	rows, err := w.rows(len(writes), events)
	if err != nil {
		return err
	}
	items := slices.Concat(writes, rows)
	if err := w.check(items, len(writes)); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("outbox: nothing was sent: %w", err)
	}
	_, err = w.client.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{
		TransactItems:      items,
		ClientRequestToken: aws.String(txtoken.Of(items)),
	})
	if err != nil {
		return w.explain(err, items, len(writes))
	}
	return nil
}

// Items returns the operations that store the events, for a transaction that the caller sends: one conditional Put each, in
// order. The caller then also chooses the idempotency token and reads the cancellation reasons. A failed condition on one
// of them means that its id is stored already; the returned Item shows whether with the same content. No event gives no
// operation. The error is a *TransactionError.
func (w *Writer) Items(events ...AnyEvent) ([]types.TransactWriteItem, error) {
	items, err := w.rows(0, events)
	if err != nil {
		return nil, err
	}
	if err := w.check(items, 0); err != nil {
		return nil, err
	}
	return items, nil
}

// rows builds the Puts of the event rows; first is the index of the first of them in the transaction.
func (w *Writer) rows(first int, events []AnyEvent) ([]types.TransactWriteItem, error) {
	now := time.Now()
	items := make([]types.TransactWriteItem, len(events))
	for i, event := range events {
		refused := func(id string, err error) error {
			return refuse(ErrInvalidEvent, OperationError{Index: first + i, Kind: "Put", Table: w.table, EventID: id, Message: err.Error()})
		}
		if isNil(event) {
			return nil, refused("", errors.New("the event is nil"))
		}
		row, err := event.row()
		if err == nil {
			err = row.check()
		}
		if lacks := w.attributes.lacks(&row); err == nil && lacks != "" {
			err = fmt.Errorf("its %s cannot be stored: the table has no attribute for it (WithAttributes)", lacks)
		}
		if err != nil {
			return nil, refused(row.id, err)
		}
		if row.time.IsZero() {
			row.time = now
		}
		items[i].Put = &types.Put{
			TableName:                           aws.String(w.table),
			Item:                                w.attributes.item(&row),
			ConditionExpression:                 aws.String("attribute_not_exists(#id)"),
			ExpressionAttributeNames:            map[string]string{"#id": w.attributes.ID}, // the caller of Items may change it
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		}
	}
	return items, nil
}

// marshalItem turns what Put was given into an attribute-value map.
func marshalItem(item any) (map[string]types.AttributeValue, error) {
	if values, ok := item.(map[string]types.AttributeValue); ok {
		return values, nil
	}
	v := reflect.ValueOf(item)
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if _, custom := item.(attributevalue.Marshaler); !custom && v.Kind() != reflect.Struct && v.Kind() != reflect.Map {
		return nil, fmt.Errorf("the item is %T: want a struct, a map, or a map[string]types.AttributeValue", item)
	}
	value, err := attributevalue.Marshal(item)
	if err != nil {
		return nil, fmt.Errorf("the item cannot be marshalled: %w", err)
	}
	m, ok := value.(*types.AttributeValueMemberM)
	if !ok {
		return nil, fmt.Errorf("the item %T marshals to %T: want a map", item, value)
	}
	return m.Value, nil
}

// isNil reports whether v is nil or holds a nil pointer, as a client variable that was never set does.
func isNil(v any) bool {
	if v == nil {
		return true
	}
	r := reflect.ValueOf(v)
	switch r.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Func, reflect.Interface:
		return r.IsNil()
	}
	return false
}

func refuse(kind error, op OperationError) *TransactionError {
	return &TransactionError{Operations: []OperationError{op}, kind: kind}
}
