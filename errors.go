package outbox

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// Why a write failed, and what is known. Test with [errors.Is]; the [TransactionError] says which operation failed.
//
//	error              | what is known                     | what to do
//	-------------------|-----------------------------------|----------------------------------------------------------
//	ErrInvalidEvent    | nothing was sent                  | fix the caller
//	ErrInvalidWrite    | nothing was sent                  | fix the caller
//	ErrTooLarge        | nothing was sent                  | store large data elsewhere, send a reference
//	ErrConditionFailed | nothing was written               | decide as for any condition
//	ErrEventConflict   | nothing was written               | find out who derives the same id for two different events
//	ErrSequenceTaken   | nothing was written               | read the aggregate again, and decide again
//	ErrConflict        | nothing was written               | repeat with the same events, later
//	ErrUnknownOutcome  | written completely, or not at all | repeat with the same events
//	none of these      | nothing was written               | read the SDK's error: a table's name, a permission
var (
	// ErrInvalidEvent: no event is given, or an event has no id or type, is not valid UTF-8, has a time before 1973-03-04 or after 5138-11-15,
	// cannot be encoded, is given twice, or has a field for which the table has no attribute. It is also the error for a sequenced event
	// (NewSequenced) without a time or an aggregate id, with one of more than 2,028 bytes, or with a sequence below 1, and for sequenced events of one
	// aggregate that do not follow each other. Nothing was sent.
	ErrInvalidEvent = errors.New("invalid event")
	// ErrInvalidWrite: there are more than 100 operations, an operation is empty, an item is not a map, or two operations are
	// on one item. Nothing was sent.
	ErrInvalidWrite = errors.New("invalid write")
	// ErrTooLarge: an item is larger than 400 KB, the transaction is larger than 4 MB, or the change record of an event is larger
	// than the stream takes (1 MiB, see WithMaxRecordBytes). Nothing was sent.
	ErrTooLarge = errors.New("too large")
	// ErrConditionFailed: a condition of the caller's own operations did not hold. Nothing was written. The events are not stored,
	// so no earlier call with them has made the condition fail. After a lost answer within the same call the error is
	// ErrUnknownOutcome instead, since the lost request may still arrive.
	ErrConditionFailed = errors.New("condition failed")
	// ErrEventConflict: an event with this id and other content is stored already, or only some of the events of
	// the call are stored. Nothing was written. The error names the stored event, the new event, and the attributes that differ.
	ErrEventConflict = errors.New("event id is taken by a different event")
	// ErrSequenceTaken: the sequence of a sequenced event (NewSequenced) is stored already, by a faster writer or by an earlier call with other
	// events. Nothing was written. What was decided may be wrong by now: read the aggregate again, and decide again. The error matches
	// ErrEventConflict, too. Of a handler of HandleTx it is a lost race.
	ErrSequenceTaken = fmt.Errorf("the sequence is taken, read the aggregate again and decide again: %w", ErrEventConflict)
	// ErrConflict: other transactions held an item, or a table was throttled, until the attempts (WithWriteRetry) or the time were
	// spent. Nothing was written.
	ErrConflict = errors.New("conflict or throttling, repeat later with the same events")
	// ErrUnknownOutcome: the transaction was committed, or not; no answer of DynamoDB says which. The reasons are a timeout, a
	// cancelled context, a lost connection, a failure of the service, and an answer of something on the way. Repeat the call with the
	// same events: it writes what is missing, and nothing twice.
	ErrUnknownOutcome = errors.New("outcome unknown, repeat with the same events")
)

// TransactionError reports a transaction that was not committed, or, with [ErrUnknownOutcome], may not have been committed. By
// [errors.Is] and [errors.As] it matches the sentinel of this package that describes it, the SDK's own error, and the error of the
// context, if the end of the context ended the call.
type TransactionError struct {
	// Operations are the operations that made the transaction fail, in its order, from the last answer. It is empty if the failure
	// is not about single operations.
	Operations []FailedOperation
	// EventIDs are the ids of the transaction's events. It is empty if the transaction was refused before they were known.
	EventIDs []string
	// Attempts is how many requests were sent, including the SDK's own retries. With 0 nothing was sent.
	Attempts int

	kind    error // a sentinel of this package, or nil
	cause   error // the SDK's error, if the SDK was asked
	stopped error // the end of the context, if attempts were left
}

// FailedOperation says why one operation of a transaction failed.
type FailedOperation struct {
	// Index is the operation's position: the caller's writes in their order, then a Put for each event, and in a transaction of
	// HandleTx at last what the inbox keeps: the Put of the event's mark, or the Update of the aggregate's position (WithOrder).
	Index int
	// Kind is "Put", "Update", "Delete" or "ConditionCheck". It is empty if the operation has none or several of them.
	Kind string
	// Table is the operation's table.
	Table string
	// Key is the key of the item of an Update, Delete or ConditionCheck, of an event row, and of the inbox's mark. It is nil for
	// other Puts, whose key only the table knows. It is not part of Error's text.
	Key map[string]types.AttributeValue
	// EventID is the event's id if the operation is the Put of an event row. Otherwise it is empty.
	EventID string
	// Code is DynamoDB's cancellation code, such as "ConditionalCheckFailed" or "TransactionConflict". It is empty if the
	// transaction was refused before it was sent.
	Code string
	// Message says what is wrong. It names attributes and sizes, and repeats DynamoDB's message.
	Message string
	// OldItem is the stored item, if the operation asked for it (ReturnValuesOnConditionCheckFailure). It is not part of Error's
	// text.
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

// Error says what happened, where, and what to do. It contains ids, names and the SDK's text. It takes nothing from payloads, header
// values or items.
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

// eventsText names the first event, and counts the others.
func eventsText(ids []string) string {
	text := " of event " + strconv.Quote(shorten(ids[0]))
	if n := len(ids) - 1; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return text
}

// shorten bounds what an error text quotes.
func shorten(id string) string {
	const most = 200
	if len(id) <= most {
		return id
	}
	return id[:most] + "..."
}

// Unwrap returns the sentinel, the SDK's error and the context's error, without those that are nil.
func (e *TransactionError) Unwrap() []error {
	return slices.DeleteFunc([]error{e.kind, e.cause, e.stopped}, func(err error) bool { return err == nil })
}

func refuse(kind error, op FailedOperation) *TransactionError {
	return &TransactionError{Operations: []FailedOperation{op}, kind: kind}
}
