package outbox

import (
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// What a failed write is about. Test with [errors.Is]; the [TransactionError] behind it says where.
var (
	// ErrInvalidEvent: an event lacks an id or a type, is not valid UTF-8, cannot be encoded, is given twice, or has
	// something that the table has no attribute for; or there is no event at all. Nothing was sent.
	ErrInvalidEvent = errors.New("invalid event")
	// ErrInvalidWrite: an operation cannot be part of the transaction: it is empty, an item is not a map, an item is
	// written twice, or there are more than 100 operations. Nothing was sent.
	ErrInvalidWrite = errors.New("invalid write")
	// ErrTooLarge: an item exceeds 400 KB, or the transaction 4 MB. Nothing was sent.
	ErrTooLarge = errors.New("too large")
	// ErrConditionFailed: a condition of one of the caller's own operations did not hold. Nothing was written.
	ErrConditionFailed = errors.New("condition failed")
	// ErrEventConflict: an event with this id and other content is already stored. Nothing was written.
	ErrEventConflict = errors.New("event id is taken by a different event")
	// ErrUnknownOutcome: no answer came that decides it, so the transaction may or may not have been committed. Repeat the call with the
	// same events: it writes what is missing and nothing twice.
	ErrUnknownOutcome = errors.New("outcome unknown, repeat with the same events")
)

// TransactionError reports a transaction that was not committed, or (with [ErrUnknownOutcome]) may not have been. It
// matches, by [errors.Is] and [errors.As], the sentinel of this package that describes it and the SDK's own error.
type TransactionError struct {
	// Operations are those that made the transaction fail, in its order. Empty when the failure is not about one of them.
	Operations []OperationError

	kind  error // a sentinel of this package, or nil
	cause error // the SDK's error, if the SDK was asked
}

// OperationError says why one operation of a transaction failed.
type OperationError struct {
	// Index is the operation's position: the caller's writes come first, in their order, then one Put for each event.
	Index int
	// Kind is "Put", "Update", "Delete", "ConditionCheck", or "" if the operation is none of them.
	Kind string
	// Table is the operation's table.
	Table string
	// EventID is the event's id if the operation is the Writer's own, the Put of an event row; otherwise it is empty.
	EventID string
	// Code is DynamoDB's cancellation code, such as "ConditionalCheckFailed" or "TransactionConflict". Empty if the
	// transaction was refused before it was sent.
	Code string
	// Message says what is wrong. It names attributes and sizes, and repeats what DynamoDB said.
	Message string
	// OldItem is the stored item, where the operation asked for it (ReturnValuesOnConditionCheckFailure).
	OldItem map[string]types.AttributeValue
}

func (o OperationError) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "operation %d", o.Index)
	if o.Kind != "" {
		fmt.Fprintf(&b, " (%s", o.Kind)
		if o.EventID != "" {
			fmt.Fprintf(&b, " of event %q", o.EventID)
		}
		fmt.Fprintf(&b, " in table %q)", o.Table)
	} else if o.EventID != "" {
		fmt.Fprintf(&b, " (event %q)", o.EventID)
	}
	if o.Code != "" {
		fmt.Fprintf(&b, ": %s", o.Code)
	}
	if o.Message != "" {
		fmt.Fprintf(&b, ": %s", o.Message)
	}
	return b.String()
}

// Error says what happened, where, and what to do.
func (e *TransactionError) Error() string {
	parts := []string{"outbox"}
	switch {
	case e.cause == nil || errors.Is(e.kind, ErrInvalidWrite):
		parts = append(parts, "transaction refused before sending")
	case errors.Is(e.kind, ErrUnknownOutcome):
		parts = append(parts, "transaction sent, no answer that decides it")
	default:
		parts = append(parts, "transaction not committed")
	}
	if e.kind != nil {
		parts = append(parts, e.kind.Error())
	}
	for _, o := range e.Operations {
		parts = append(parts, o.text())
	}
	if e.cause != nil && len(e.Operations) == 0 {
		parts = append(parts, e.cause.Error())
	}
	return strings.Join(parts, ": ")
}

// Unwrap returns the sentinel and the SDK's error, as far as there are any.
func (e *TransactionError) Unwrap() []error {
	var errs []error
	if e.kind != nil {
		errs = append(errs, e.kind)
	}
	if e.cause != nil {
		errs = append(errs, e.cause)
	}
	return errs
}
