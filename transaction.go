package outbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/seed-1b628d3f/outbox/internal/itemsize"
)

// maxOperations is DynamoDB's limit for one transaction.
const maxOperations = 100

// conditionalCheckFailed is DynamoDB's cancellation code for a condition that did not hold.
const conditionalCheckFailed = "ConditionalCheckFailed"

// check refuses what DynamoDB would refuse or would not carry on: before it is sent, so that the error can say where.
// The items from own onwards are the Writer's event rows.
func (w *Writer) check(items []types.TransactWriteItem, own int) error {
	if n := len(items); n > maxOperations {
		return refuse(ErrInvalidWrite, OperationError{Index: maxOperations,
			Message: fmt.Sprintf("%d operations (%d writes and %d events): DynamoDB takes at most %d", n, own, n-own, maxOperations)})
	}
	total := 0
	for i := range items {
		op := w.operation(items, i, own)
		target, problem := takeApart(&items[i])
		if problem != "" {
			op.Message = problem
			return refuse(ErrInvalidWrite, op)
		}
		size, err := itemsize.Of(target.item)
		if err != nil {
			op.Message = err.Error()
			return refuse(ErrInvalidWrite, op)
		}
		if size > itemsize.MaxItem {
			op.Message = fmt.Sprintf("the item has %d bytes: DynamoDB takes at most %d", size, itemsize.MaxItem)
			return refuse(ErrTooLarge, op)
		}
		if total += size; total > itemsize.MaxTransaction {
			op.Message = fmt.Sprintf("the transaction has %d bytes up to here: DynamoDB takes at most %d", total, itemsize.MaxTransaction)
			return refuse(ErrTooLarge, op)
		}
	}
	return w.checkTwice(items, own)
}

// checkTwice refuses two operations on one item as far as keys are known: event rows have theirs, and an operation with a
// Key shows which attributes are the key of its table. Two Puts into a table whose key nothing shows are left to DynamoDB,
// which refuses them too.
func (w *Writer) checkTwice(items []types.TransactWriteItem, own int) error {
	keys := map[string][]string{w.table: {w.attributes.ID}}
	for i := range items {
		if t, _ := takeApart(&items[i]); t.isKey && len(t.item) > 0 {
			keys[t.table] = slices.Sorted(maps.Keys(t.item))
		}
	}
	seen := make(map[string]int, len(items))
	for i := range items {
		t, _ := takeApart(&items[i])
		identity := strconv.Quote(t.table)
		for _, name := range keys[t.table] {
			identity += keyText(t.item[name])
		}
		if keys[t.table] == nil {
			continue
		}
		if before, twice := seen[identity]; twice {
			op := w.operation(items, i, own)
			op.Message = fmt.Sprintf("it is on the same item as operation %d: a transaction takes one operation for each item", before)
			if i >= own {
				return refuse(ErrInvalidEvent, op)
			}
			return refuse(ErrInvalidWrite, op)
		}
		seen[identity] = i
	}
	return nil
}

// keyText writes a key attribute so that different ones differ.
func keyText(v types.AttributeValue) string {
	switch v := v.(type) {
	case *types.AttributeValueMemberS:
		return ",S" + strconv.Quote(v.Value)
	case *types.AttributeValueMemberN:
		return ",N" + strconv.Quote(v.Value)
	case *types.AttributeValueMemberB:
		return ",B" + strconv.Quote(string(v.Value))
	}
	return ",?"
}

// target is what one operation acts on.
type target struct {
	kind  string
	table string
	item  map[string]types.AttributeValue
	isKey bool // item is only the key
}

// takeApart returns the target of an operation, or what is wrong with it.
func takeApart(item *types.TransactWriteItem) (target, string) {
	var t target
	kinds := 0
	if p := item.Put; p != nil {
		kinds++
		t = target{"Put", aws.ToString(p.TableName), p.Item, false}
	}
	if u := item.Update; u != nil {
		kinds++
		t = target{"Update", aws.ToString(u.TableName), u.Key, true}
	}
	if d := item.Delete; d != nil {
		kinds++
		t = target{"Delete", aws.ToString(d.TableName), d.Key, true}
	}
	if c := item.ConditionCheck; c != nil {
		kinds++
		t = target{"ConditionCheck", aws.ToString(c.TableName), c.Key, true}
	}
	switch {
	case kinds != 1:
		return target{}, fmt.Sprintf("it has %d of Put, Update, Delete and ConditionCheck: want exactly one", kinds)
	case t.table == "":
		return t, "it names no table"
	case len(t.item) == 0:
		return t, "it has no item and no key"
	}
	return t, ""
}

// operation describes operation i for an error.
func (w *Writer) operation(items []types.TransactWriteItem, i, own int) OperationError {
	t, _ := takeApart(&items[i])
	op := OperationError{Index: i, Kind: t.kind, Table: t.table}
	if i >= own {
		if id, ok := t.item[w.attributes.ID].(*types.AttributeValueMemberS); ok {
			op.EventID = id.Value
		}
	}
	return op
}

// explain turns the SDK's error into what is known. It returns nil when the error only says that an earlier attempt of the
// same transaction was committed.
func (w *Writer) explain(err error, items []types.TransactWriteItem, own int) error {
	if canceled := (*types.TransactionCanceledException)(nil); errors.As(err, &canceled) {
		return w.explainCanceled(err, canceled.CancellationReasons, items, own)
	}
	te := &TransactionError{cause: err}
	if params := (smithy.InvalidParamsError{}); errors.As(err, &params) { // the SDK's own check, before it sends
		te.kind = ErrInvalidWrite
		return te
	}
	if !refused(err) {
		te.kind = ErrUnknownOutcome
	}
	return te
}

// refused reports whether an error is DynamoDB's word that it did not do what it was asked: the request's fault, not a lost
// answer, a timeout, a failure of the service, or a refusal that may only concern the last of several attempts.
func refused(err error) bool {
	var api interface{ ErrorCode() string }
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &api) {
		return false
	}
	var response interface{ HTTPStatusCode() int }
	if errors.As(err, &response) && response.HTTPStatusCode() >= http.StatusInternalServerError {
		return false
	}
	switch api.ErrorCode() {
	case "TransactionInProgressException", "ThrottlingException", "ProvisionedThroughputExceededException", "RequestLimitExceeded",
		"RequestTimeout", "RequestTimeoutException":
		return false
	}
	return true
}

func (w *Writer) explainCanceled(err error, reasons []types.CancellationReason, items []types.TransactWriteItem, own int) error {
	te := &TransactionError{cause: err}
	stored, missing := 0, 0 // event rows that are stored as they were meant to be, and that are known not to be stored
	conditionFailed := false
	for i, reason := range reasons {
		code := aws.ToString(reason.Code)
		if i >= len(items) {
			break
		}
		if code == "" || code == "None" {
			if i >= own {
				missing++
			}
			continue
		}
		op := w.operation(items, i, own)
		op.Code, op.Message, op.OldItem = code, aws.ToString(reason.Message), reason.Item
		switch {
		case code == conditionalCheckFailed && i < own:
			conditionFailed = true
		case code == conditionalCheckFailed:
			differs := w.attributes.difference(items[i].Put.Item, reason.Item)
			if differs == "" {
				stored++
				op.Message = "the event is already stored, with the same content"
				break
			}
			te.kind = ErrEventConflict
			op.Message = fmt.Sprintf("an event with this id is stored with another %s", differs)
		}
		te.Operations = append(te.Operations, op)
	}
	switch {
	case te.kind != nil: // an event conflict
	case stored > 0 && stored == len(items)-own:
		return nil // the repeat of a committed transaction, whatever else has changed since
	case stored > 0 && missing > 0:
		te.kind = ErrEventConflict // some of the events were committed by a transaction without the others
	case stored > 0:
		te.kind = ErrUnknownOutcome // the conflict or throttling of the other rows hides whether they are stored
	case conditionFailed:
		te.kind = ErrConditionFailed
	}
	return te
}

// check returns what is wrong with an event.
func (r *eventRow) check() error {
	switch {
	case r.id == "":
		return errors.New("it has no id: use NewEvent, or set ID")
	case r.eventType == "":
		return errors.New("it has no type: use NewEvent, set Type, or give its data a method EventType")
	case len(r.id) > 2048:
		return fmt.Errorf("its id has %d bytes: a DynamoDB key has at most 2048", len(r.id))
	case !utf8.Valid(r.payload):
		return errors.New("its encoded data is not valid UTF-8")
	}
	texts := map[string]string{"id": r.id, "type": r.eventType, "aggregate id": r.aggregateID}
	for name, value := range r.headers {
		texts["header name "+strconv.Quote(name)], texts["header "+strconv.Quote(name)] = name, value
	}
	for what, text := range texts {
		if !utf8.ValidString(text) {
			return fmt.Errorf("its %s is not valid UTF-8", strings.ToValidUTF8(what, "\uFFFD"))
		}
	}
	return nil
}
