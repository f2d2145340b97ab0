package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/seed-1b628d3f/outbox/internal/awserr"
	"github.com/seed-1b628d3f/outbox/internal/backoff"
)

// Cancellation codes of DynamoDB.
const (
	codeNone            = "None"
	codeConditionFailed = "ConditionalCheckFailed"
	codeConflict        = "TransactionConflict"
	codeValidation      = "ValidationError"
)

// transientCodes are the cancellation codes that pass: another attempt may succeed.
var transientCodes = []string{codeConflict, "ThrottlingError", "ProvisionedThroughputExceeded"}

// inProgressDelay is the time that DynamoDB wants between the first attempt and the next one, when the transaction is still in
// progress. See https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html.
const inProgressDelay = 5 * time.Second

// send makes the attempts with one request. Only if a Put does not show the stored row, a transaction follows.
func (w *Writer) send(ctx context.Context, tx *transaction, info *WriteInfo) error {
	request := w.asOnePut(tx)
	if request == nil {
		request = w.inOneTransaction(tx)
	}
	var watch sdkWatch
	started := time.Now()
	for failures := 1; ; failures++ {
		before := info.Attempts
		capacity, err := request(ctx, watch.install)
		if watch.watching.Load() {
			info.Attempts = int(watch.sent.Load())
		} else {
			info.Attempts++ // not the SDK's client
		}
		if err == nil {
			info.Capacity, info.Duplicate = capacity, onlyRead(capacity)
			return nil
		}
		if hidesRow(err) { // a server or a client that does not know this for single items
			request = w.inOneTransaction(tx)
			continue
		}
		failure, retry := tx.classify(err, watch.open.Load(), info.Attempts > before)
		if failure != nil && errors.Is(failure.kind, ErrUnknownOutcome) && retry == never && watch.allRefused() {
			failure.kind = ErrConflict // the call's context ended while the SDK waited for its next attempt
		}
		if failure == nil {
			info.Duplicate = true
			return nil
		}
		if !awserr.Refused(err) && !watch.allRefused() {
			watch.open.Store(true) // also for a client that is not the SDK's
		}
		failure.Attempts = info.Attempts
		if retry == never || info.Attempts >= w.retry.MaxAttempts {
			return failure
		}
		delay := backoff.FullJitter{Base: w.retry.BaseDelay, Max: w.retry.MaxDelay}.Delay(failures)
		if retry == afterProgress {
			delay += max(0, inProgressDelay-time.Since(started))
		}
		if err := backoff.Wait(ctx, delay); err != nil {
			failure.stopped = err
			return failure
		}
	}
}

// onlyRead reports whether DynamoDB billed reads alone: then the transaction was committed before.
func onlyRead(capacity []types.ConsumedCapacity) bool {
	return len(capacity) > 0 && !slices.ContainsFunc(capacity, func(c types.ConsumedCapacity) bool {
		return aws.ToFloat64(c.ReadCapacityUnits) == 0
	})
}

// retryWhen says whether and when another attempt makes sense.
type retryWhen int

const (
	never         retryWhen = iota
	afterBackoff            // a conflict or throttling passes
	afterProgress           // the same transaction is still in progress
)

// classify turns an error of the SDK into what is known, from this answer. What the whole call knows besides, send adds. A nil error means that the
// transaction was committed before, or is not needed any more (extra). open says that an earlier request of the same call was
// perhaps carried out, or still may be. sent says that the last attempt sent a request.
func (tx *transaction) classify(err error, open, sent bool) (*TransactionError, retryWhen) {
	if canceled := (*types.TransactionCanceledException)(nil); errors.As(err, &canceled) {
		return tx.classifyCanceled(err, canceled.CancellationReasons, open)
	}
	if refused := (*putRefused)(nil); errors.As(err, &refused) {
		return tx.classifyCanceled(refused.error, []types.CancellationReason{refused.reason}, open)
	}
	te := tx.failure(err)
	invalid := smithy.InvalidParamsError{} // the SDK's own check, before it sends
	switch code := awserr.Code(err); {
	case errors.As(err, &invalid):
		te.kind = ErrInvalidWrite
	case !sent && !open && !awserr.ContextEnded(err): // no region, no credentials: the SDK's error says it all
	case code == awserr.InProgress:
		te.kind = ErrUnknownOutcome
		return te, afterProgress
	case open || !awserr.Refused(err):
		te.kind = ErrUnknownOutcome
	case awserr.IsThrottling(code):
		te.kind = ErrConflict // the SDK has retried it
	}
	return te, never
}

func (tx *transaction) failure(cause error) *TransactionError {
	ids := make([]string, len(tx.events))
	for i := range tx.events {
		ids[i] = tx.events[i].record.ID
	}
	return &TransactionError{EventIDs: ids, cause: cause}
}

// classifyCanceled reads the reasons of a cancelled transaction, one for each operation.
func (tx *transaction) classifyCanceled(err error, reasons []types.CancellationReason, open bool) (*TransactionError, retryWhen) {
	te := tx.failure(err)
	if len(reasons) != len(tx.items) { // no answer of DynamoDB: what is stored is not known
		te.kind = ErrUnknownOutcome
		return te, never
	}
	var (
		stored, missing int   // event rows that are stored as meant; event rows that are not stored
		taken           bool  // a row of a sequenced event is stored, whatever it has
		hidden          int   // rows of events and of the extra operations that are stored or not: a conflict or throttling hides which
		otherContent    bool  // an event row is stored with another content
		conditionFailed bool  // a condition of the caller's operations
		permanent       bool  // another reason that no retry cures
		judged          error // a judge's word on an extra operation
	)
	for i, reason := range reasons {
		code := aws.ToString(reason.Code)
		isEvent, extra := tx.isEvent(i), tx.extraOf(i)
		if code == "" || code == codeNone {
			if isEvent {
				missing++
			}
			continue
		}
		op := tx.operation(i)
		op.Code, op.Message, op.OldItem = code, aws.ToString(reason.Message), reason.Item
		transient := slices.Contains(transientCodes, code)
		switch {
		case transient && (isEvent || extra != nil):
			hidden++
		case transient:
		case code == codeConditionFailed && isEvent:
			taken = taken || sequenced(&tx.events[i-tx.firstEvent].record)
			if op.Message = tx.compare(i, reason.Item); op.Message == "" {
				stored++
				op.Message = "the event is already stored, with the same content"
			} else {
				otherContent = true
			}
		case code == codeConditionFailed && extra != nil:
			if judged = extra.judge(reason.Item); judged == nil {
				return nil, never // not needed any more, whatever else fails because of that
			}
			op.Message = extra.row
		case code == codeConditionFailed:
			conditionFailed = true
		case code == codeValidation && isEvent:
			permanent = true
			op.Message += fmt.Sprintf("; the events table needs the partition key %q of type S and no sort key (WithAttributes)", tx.attributes.ID)
		case code == codeValidation && extra != nil:
			permanent = true
			op.Message += "; " + extra.form
		default:
			permanent = true
		}
		te.Operations = append(te.Operations, op)
	}
	retry := never
	switch {
	case judged != nil:
		te.kind = judged
		return te, never
	case otherContent:
		te.kind = ErrEventConflict
	case len(tx.extras) == 0 && stored == len(tx.events):
		return nil, never // committed before, whatever else fails because of that
	case permanent: // DynamoDB's code says it all
	case stored > 0 && (missing > 0 || len(tx.extras) > 0 && hidden == 0):
		te.kind = ErrEventConflict // another transaction stored some of the events, or all of them without the extra operations
	case hidden > 0 && (stored > 0 || conditionFailed):
		// Perhaps the events are stored, and the condition fails because of that. The next answer tells.
		te.kind, retry = ErrUnknownOutcome, afterBackoff
	case conditionFailed:
		te.kind = ErrConditionFailed
	case len(te.Operations) > 0:
		te.kind, retry = ErrConflict, afterBackoff
	}
	if taken && errors.Is(te.kind, ErrEventConflict) {
		te.kind = ErrSequenceTaken
	}
	if open && !errors.Is(te.kind, ErrEventConflict) {
		te.kind = ErrUnknownOutcome // this answer does not tell what an earlier request did, or still does
	}
	return te, retry
}

// compare returns how the stored row of event i differs from the row that was meant, or "".
func (tx *transaction) compare(i int, stored map[string]types.AttributeValue) string {
	if len(stored) == 0 {
		return "an event with this id is stored, and DynamoDB did not return it"
	}
	event, a := &tx.events[i-tx.firstEvent], tx.attributes
	names := a.differences(event, stored)
	if len(names) == 0 {
		return ""
	}
	return fmt.Sprintf("an event with this id is stored, with a difference in %s: the stored one has type %q and aggregate %q, time %s; this one has type %q and aggregate %q, time %d",
		strings.Join(names, ", "), shorten(scalarText(stored[a.Type])), shorten(scalarText(stored[a.AggregateID])), scalarText(stored[a.Time]),
		shorten(event.record.Type), shorten(event.record.AggregateID), event.record.Time.UnixMilli())
}
