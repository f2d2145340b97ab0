package outbox

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// What a failed write is about. Test with [errors.Is]; the [TransactionError] behind it says where.
//
//	error              | what is known                     | what to do
//	-------------------|-----------------------------------|----------------------------------------------------------
//	ErrInvalidEvent    | nothing was sent                  | fix the caller
//	ErrInvalidWrite    | nothing was sent                  | fix the caller
//	ErrTooLarge        | nothing was sent                  | store large data elsewhere, send a reference
//	ErrConditionFailed | nothing was written               | decide as for any condition
//	ErrEventConflict   | nothing was written               | find out who derives the same id for two different events
//	ErrConflict        | nothing was written               | repeat with the same events, later
//	ErrUnknownOutcome  | written completely, or not at all | repeat with the same events
//	none of these      | nothing was written               | read the SDK's error: a table's name, a permission
var (
	// ErrInvalidEvent: an event lacks an id or a type, is not valid UTF-8, cannot be encoded, is given twice, or has
	// something that the table has no attribute for; or there is no event at all. Nothing was sent.
	ErrInvalidEvent = errors.New("invalid event")
	// ErrInvalidWrite: an operation cannot be part of the transaction: it is empty, an item is not a map, an item is
	// written twice, or there are more than 100 operations. Nothing was sent.
	ErrInvalidWrite = errors.New("invalid write")
	// ErrTooLarge: an item exceeds 400 KB, the transaction 4 MB, or the change record of an event what the stream takes
	// (1 MiB, see WithMaxRecordBytes). Nothing was sent.
	ErrTooLarge = errors.New("too large")
	// ErrConditionFailed: a condition of one of the caller's own operations did not hold. The events are not stored either, so it
	// does not fail because an earlier call has written them. Nothing was written. After a lost answer within the same call it is
	// ErrUnknownOutcome instead, since the lost request may still arrive.
	ErrConditionFailed = errors.New("condition failed")
	// ErrEventConflict: an event with this id and other content is already stored. Nothing was written. The error names
	// the stored event, the meant one, and the attributes that differ.
	ErrEventConflict = errors.New("event id is taken by a different event")
	// ErrConflict: other transactions held an item, or a table was throttled, at every attempt (WithWriteRetry) until these or
	// the time were spent. Nothing was written.
	ErrConflict = errors.New("conflict or throttling, repeat later with the same events")
	// ErrUnknownOutcome: no answer came that decides it, so the transaction may or may not have been committed: a timeout,
	// a cancelled context, a lost connection, a failure of the service. Repeat the call with the same events: it writes
	// what is missing and nothing twice.
	ErrUnknownOutcome = errors.New("outcome unknown, repeat with the same events")
)

// TransactionError reports a transaction that was not committed, or (with [ErrUnknownOutcome]) may not have been. It
// matches, by [errors.Is] and [errors.As], the sentinel of this package that describes it, the SDK's own error, and, where the
// end of a context ended the call, the context's.
type TransactionError struct {
	// Operations are those that made the transaction fail, in its order, from the last answer. Empty when the failure is not
	// about one of them.
	Operations []FailedOperation
	// EventIDs are the ids of the transaction's events. Empty when it was refused before they were known.
	EventIDs []string
	// Attempts is how many requests were sent, the SDK's own retries included. 0 means that nothing was sent.
	Attempts int

	kind    error // a sentinel of this package, or nil
	cause   error // the SDK's error, if the SDK was asked
	stopped error // why there was no further attempt although there were some left
}

// FailedOperation says why one operation of a transaction failed.
type FailedOperation struct {
	// Index is the operation's position: the caller's writes come first, in their order, then one Put for each event, then with
	// HandleTx the Put of the inbox's mark.
	Index int
	// Kind is "Put", "Update", "Delete", "ConditionCheck", or "" if the operation is none of them.
	Kind string
	// Table is the operation's table.
	Table string
	// Key is the key of the item, where the operation has one: that of an Update, Delete or ConditionCheck, and of an event
	// row. nil for other Puts, whose key only the table knows. It is not part of Error's text.
	Key map[string]types.AttributeValue
	// EventID is the event's id if the operation is the Writer's own, the Put of an event row; otherwise it is empty.
	EventID string
	// Code is DynamoDB's cancellation code, such as "ConditionalCheckFailed" or "TransactionConflict". Empty if the
	// transaction was refused before it was sent.
	Code string
	// Message says what is wrong. It names attributes and sizes, and repeats what DynamoDB said.
	Message string
	// OldItem is the stored item, where the operation asked for it (ReturnValuesOnConditionCheckFailure). It is not part of
	// Error's text.
	OldItem map[string]types.AttributeValue
}

func (o FailedOperation) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "operation %d", o.Index)
	if o.Kind != "" {
		fmt.Fprintf(&b, " (%s", o.Kind)
		if o.EventID != "" {
			fmt.Fprintf(&b, " of event %q", shorten(o.EventID))
		}
		fmt.Fprintf(&b, " in table %q)", o.Table)
	} else if o.EventID != "" {
		fmt.Fprintf(&b, " (event %q)", shorten(o.EventID))
	}
	if o.Code != "" {
		fmt.Fprintf(&b, ": %s", o.Code)
	}
	if o.Message != "" {
		fmt.Fprintf(&b, ": %s", o.Message)
	}
	return b.String()
}

// Error says what happened, where, and what to do. It has ids and names in it and what the SDK says, but nothing of its own
// from payloads, header values or items.
func (e *TransactionError) Error() string {
	what := "transaction"
	if len(e.EventIDs) > 0 {
		what += eventsText(e.EventIDs)
	}
	switch {
	case e.Attempts == 0:
		what += " refused before sending"
	case errors.Is(e.kind, ErrUnknownOutcome):
		what += " sent, no answer that decides it"
	default:
		what += " not committed"
	}
	if e.Attempts > 1 {
		what += fmt.Sprintf(", %d attempts", e.Attempts)
	}
	parts := []string{"outbox", what}
	if e.kind != nil {
		parts = append(parts, e.kind.Error())
	}
	for _, o := range e.Operations {
		parts = append(parts, o.text())
	}
	if e.cause != nil && len(e.Operations) == 0 {
		parts = append(parts, e.cause.Error())
	}
	if e.stopped != nil {
		parts = append(parts, e.stopped.Error())
	}
	return strings.Join(parts, ": ")
}

// eventsText names events, not too many.
func eventsText(ids []string) string {
	text := " of event " + strconv.Quote(shorten(ids[0]))
	if n := len(ids) - 1; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return text
}

// shorten keeps what may be long out of error texts.
func shorten(id string) string {
	const most = 200
	if len(id) <= most {
		return id
	}
	return id[:most] + "..."
}

// Unwrap returns the sentinel, the SDK's error and the context's, as far as there are any.
func (e *TransactionError) Unwrap() []error {
	return slices.DeleteFunc([]error{e.kind, e.cause, e.stopped}, func(err error) bool { return err == nil })
}

func refuse(kind error, op FailedOperation) *TransactionError {
	return &TransactionError{Operations: []FailedOperation{op}, kind: kind}
}
