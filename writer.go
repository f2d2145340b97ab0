package outbox

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox/internal/names"
)

// WriterClient is what a Writer needs of the SDK. *dynamodb.Client implements it. A client of your own must be safe for
// concurrent use, leave the input as it is, and pass the option functions on. Through these functions the Writer watches the SDK's
// retries. Without them it knows only the SDK's last answer: a lost answer before goes unnoticed.
//
// From a client that is not the SDK's, as that of DAX, an error means "not written" only with a code with which DynamoDB refuses; with every
// other it is ErrUnknownOutcome.
//
// If the client also has the SDK's method PutItem, a Writer sends one event without writes by it, for half the write units of a transaction.
// Client types of your own that embed *dynamodb.Client have the method. The permission is the same, dynamodb:PutItem.
type WriterClient interface {
	TransactWriteItems(context.Context, *dynamodb.TransactWriteItemsInput, ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error)
}

// Writer writes changes together with the events that announce them: both are committed, or neither. NewWriter makes a Writer. It
// is safe for concurrent use: make one for a process, and keep it.
type Writer struct {
	writerConfig
	client WriterClient
	table  string
	region string // for the size of change records
}

// longestRegion stands in for the Region of a client that does not tell it.
const longestRegion = "us-isof-south-1"

// NewWriter returns a Writer that stores events in eventsTable (a name or an ARN) through client. NewWriter makes no call. The
// error names everything that is wrong with the arguments.
func NewWriter(client WriterClient, eventsTable string, opts ...WriterOption) (*Writer, error) {
	w := &Writer{writerConfig: defaultWriterConfig(), client: client, table: eventsTable, region: longestRegion}
	var errs []error
	if isNil(client) {
		errs = append(errs, errors.New("the DynamoDB client is nil"))
	} else if c, ok := client.(interface{ Options() dynamodb.Options }); ok {
		w.region = c.Options().Region
	}
	if err := names.Table(eventsTable); err != nil {
		errs = append(errs, fmt.Errorf("the events table: %w", err))
	}
	errs = append(errs, applyAll(opts, func(o WriterOption) error { return o.applyWriter(&w.writerConfig) }))
	errs = append(errs, w.check())
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("outbox: NewWriter: %w", err)
	}
	return w, nil
}

// Put stores item in table, and the events, in one transaction. It replaces an item with the same key; use Transact for a write
// with a condition. item is a struct or map that attributevalue can marshal (struct tags `dynamodbav`), or a
// map[string]types.AttributeValue. At least one event is needed.
//
// After an error, call again with the same Event values. A repeat of what was committed succeeds and writes nothing: for ten minutes
// by DynamoDB's idempotency token, and later, or if one event is written alone, by the stored event. The events alone decide what a repeat is:
// with the same events and another item it writes nothing either.
//
// A transaction that meets a conflict or throttling is retried within the call (WithWriteRetry). The call ends with ctx. Give ctx a
// deadline, of more than 5 seconds if transactions in progress are to be waited for. Without a deadline the pauses between requests may
// add up to 15 seconds, or more if DynamoDB asks the SDK for longer pauses, and a request that is not answered takes as long as the HTTP
// client lets it.
//
// The error is a *TransactionError, or the error of ctx if ctx had ended before anything was sent. With ErrUnknownOutcome the
// transaction may have been committed; with every other error nothing was written. The sentinels of this package, such as
// ErrConflict, say what to do.
//
// See https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html.
func (w *Writer) Put(ctx context.Context, table string, item any, events ...AnyEvent) error {
	values, err := marshalItem(item)
	if err != nil {
		return w.failed(ctx, WriteInfo{}, refuse(ErrInvalidWrite, FailedOperation{Kind: "Put", Table: table, Message: err.Error()}))
	}
	write := types.TransactWriteItem{Put: &types.Put{TableName: &table, Item: values}}
	return w.Transact(ctx, []types.TransactWriteItem{write}, events...)
}

// Transact commits the writes and the events in one transaction. Writes and events together are at most 100. The writes are sent as
// they are, with their conditions, and are not changed. Set ReturnValuesOnConditionCheckFailure on a write to find its stored item
// in the error. One event without writes is sent by PutItem, if the client has it (WriterClient).
//
// Everything else is as with Put. A repeat of what was committed succeeds even if a condition of its writes no longer holds.
func (w *Writer) Transact(ctx context.Context, writes []types.TransactWriteItem, events ...AnyEvent) error {
	started := time.Now()
	var info WriteInfo
	err := w.transact(ctx, writes, events, nil, &info)
	info.Took = time.Since(started)
	return w.tell(ctx, info, err)
}

// tell tells the hooks how a call ended, and returns the call's error.
func (w *Writer) tell(ctx context.Context, info WriteInfo, err error) error {
	if err != nil {
		return w.failed(ctx, info, err)
	}
	for _, hooks := range w.hooks {
		if hooks.Written != nil {
			hooks.Written(ctx, info)
		}
	}
	return nil
}

// made reports whether NewWriter has made the Writer.
func (w *Writer) made() error {
	if w.client == nil {
		return refuse(ErrInvalidWrite, FailedOperation{Message: "a Writer is made by NewWriter"})
	}
	return nil
}

// transact commits writes and events, and with them the extra operations.
func (w *Writer) transact(ctx context.Context, writes []types.TransactWriteItem, events []AnyEvent, extras []*extra, info *WriteInfo) error {
	if err := w.made(); err != nil {
		return err
	}
	if len(events) == 0 && len(extras) == 0 {
		return refuse(ErrInvalidEvent, FailedOperation{Index: len(writes), Message: "no event: a write without one needs no outbox"})
	}
	tx, err := w.newTransaction(ctx, writes, events, extras)
	if err != nil {
		return err
	}
	if len(w.hooks) > 0 {
		info.Events = tx.records()
	}
	return w.send(ctx, tx, info)
}

// failed tells the hooks about an error, and returns it.
func (w *Writer) failed(ctx context.Context, info WriteInfo, err error) error {
	for _, hooks := range w.hooks {
		if hooks.Failed != nil {
			hooks.Failed(ctx, info, err)
		}
	}
	return err
}

// Items returns the operations that store the events, for a transaction that the caller sends: a conditional Put for each event,
// in order, and none without events. The caller then also chooses the idempotency token, repeats the transaction, and reads the
// cancellation reasons. A failed condition of such a Put means that the event's id is stored already; the Item of the reason shows
// the stored content. ctx is for WithHeaders; hooks are not called. The error is a *TransactionError, or the error of ctx.
func (w *Writer) Items(ctx context.Context, events ...AnyEvent) ([]types.TransactWriteItem, error) {
	if err := w.made(); err != nil {
		return nil, err
	}
	tx, err := w.newTransaction(ctx, nil, events, nil)
	if err != nil {
		return nil, err
	}
	return tx.items, nil
}

// marshalItem turns the item of Put into a map of attribute values.
func marshalItem(item any) (map[string]types.AttributeValue, error) {
	if values, ok := item.(map[string]types.AttributeValue); ok {
		return values, nil
	}
	if m, ok := item.(*types.AttributeValueMemberM); ok && m != nil {
		return m.Value, nil
	}
	v := reflect.ValueOf(item)
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	_, custom := item.(attributevalue.Marshaler)
	if t := reflect.TypeFor[map[string]types.AttributeValue](); !custom && v.IsValid() && v.CanConvert(t) {
		return v.Convert(t).Interface().(map[string]types.AttributeValue), nil // a type of the caller's own
	}
	if !custom && v.Kind() != reflect.Struct && v.Kind() != reflect.Map {
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
