package outbox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/seed-1b628d3f/outbox/internal/backoff"
	"github.com/seed-1b628d3f/outbox/internal/txtoken"
)

// Cancellation codes and error codes of DynamoDB.
const (
	codeNone            = "None"
	codeConditionFailed = "ConditionalCheckFailed"
	codeValidation      = "ValidationError"
	codeInProgress      = "TransactionInProgressException"
)

// transientCodes are cancellation codes that another attempt may not meet.
var transientCodes = []string{"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}

// inProgressPause is how long after the first attempt DynamoDB wants the next one, when the transaction is still in progress.
// See https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html.
const inProgressPause = 5 * time.Second

// send makes the attempts, all of them the same request with the same token.
func (w *Writer) send(ctx context.Context, tx *transaction, info *WriteInfo) error {
	in := &dynamodb.TransactWriteItemsInput{TransactItems: tx.items}
	if w.hooks.Written != nil {
		in.ReturnConsumedCapacity = types.ReturnConsumedCapacityTotal
	}
	in.ClientRequestToken = aws.String(txtoken.Of(tx.items, string(in.ReturnConsumedCapacity)))
	var watch sdkRetries
	started := time.Now()
	for attempt := 1; ; attempt++ {
		before := watch.failed
		out, err := w.client.TransactWriteItems(ctx, in, watch.install)
		info.Attempts += max(1, watch.failed-before)
		if err == nil {
			if watch.failed > before {
				info.Attempts++ // the one that succeeded after those
			}
			info.Capacity = out.ConsumedCapacity
			info.Duplicate = onlyRead(out.ConsumedCapacity)
			return nil
		}
		failure, again := tx.judge(err, watch.unanswered)
		if failure == nil {
			info.Duplicate = true
			return nil
		}
		if errors.Is(failure.kind, ErrInvalidWrite) {
			info.Attempts = 0
		}
		failure.Attempts = info.Attempts
		if again == never || attempt >= w.retry.MaxAttempts {
			return failure
		}
		pause := backoff.FullJitter{Base: w.retry.BaseDelay, Max: w.retry.MaxDelay}.Pause(attempt)
		if again == afterProgress {
			pause += max(0, inProgressPause-time.Since(started))
		}
		if err := backoff.Wait(ctx, pause); err != nil {
			failure.stopped = err
			return failure
		}
	}
}

// onlyRead reports whether DynamoDB billed nothing but reads, as it does for a transaction that was committed before.
func onlyRead(capacity []types.ConsumedCapacity) bool {
	return len(capacity) > 0 && !slices.ContainsFunc(capacity, func(c types.ConsumedCapacity) bool {
		return aws.ToFloat64(c.ReadCapacityUnits) == 0
	})
}

// sdkRetries watches one call's retries by the SDK: an answer that was lost is not the one that the SDK returns in the end.
// It also leaves transactions in progress to the Writer, which knows when to ask again, so that two loops never multiply.
type sdkRetries struct {
	aws.RetryerV2
	failed     int  // attempts so far
	unanswered bool // one of them may have been carried out
}

// install puts the watch in front of the retryer that the client is configured with.
func (s *sdkRetries) install(o *dynamodb.Options) {
	retryer, ok := o.Retryer.(aws.RetryerV2)
	if !ok {
		retryer = retry.AddWithErrorCodes(o.Retryer).(aws.RetryerV2) // it makes a RetryerV2 of any Retryer
	}
	s.RetryerV2, o.Retryer = retryer, s
}

// IsErrorRetryable is asked after every failed attempt.
func (s *sdkRetries) IsErrorRetryable(err error) bool {
	s.failed++
	s.unanswered = s.unanswered || !answered(err)
	return codeOf(err) != codeInProgress && s.RetryerV2.IsErrorRetryable(err)
}

// codeOf returns the service's error code, or "".
func codeOf(err error) string {
	var api interface{ ErrorCode() string }
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// answered reports whether an error is DynamoDB's word that this request was not carried out: not a lost answer, a timeout or
// a failure of the service.
func answered(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || codeOf(err) == "" {
		return false
	}
	var response interface{ HTTPStatusCode() int }
	if errors.As(err, &response) && response.HTTPStatusCode() >= http.StatusInternalServerError {
		return false
	}
	switch codeOf(err) {
	case "RequestTimeout", "RequestTimeoutException", "InternalServerError", "InternalFailure", "ServiceUnavailable":
		return false
	}
	return true
}

// again says whether and when another attempt makes sense.
type again int

const (
	never         again = iota
	afterPause          // what was in the way passes
	afterProgress       // the same transaction is still in progress
)

// judge turns an error of the SDK into what is known. It is the one place that decides about answers: nil means that the
// transaction was committed before. unanswered says that an earlier attempt of the same call may have been carried out.
func (tx *transaction) judge(err error, unanswered bool) (*TransactionError, again) {
	if canceled := (*types.TransactionCanceledException)(nil); errors.As(err, &canceled) {
		return tx.judgeCanceled(err, canceled.CancellationReasons, unanswered)
	}
	te := tx.failure(nil, err)
	if params := (smithy.InvalidParamsError{}); errors.As(err, &params) { // the SDK's own check, before it sends
		te.kind = ErrInvalidWrite
		return te, never
	}
	switch code := codeOf(err); {
	case code == codeInProgress:
		te.kind = ErrUnknownOutcome
		return te, afterProgress
	case unanswered || !answered(err):
		te.kind = ErrUnknownOutcome
	case code == "IdempotentParameterMismatchException":
		// The token is made from the content: a transaction that DynamoDB holds for another one has been committed with it.
		te.kind = ErrUnknownOutcome
	case isThrottling(code):
		te.kind = ErrConflict // the SDK has repeated it
	}
	return te, never
}

func isThrottling(code string) bool {
	_, throttling := retry.DefaultThrottleErrorCodes[code]
	return throttling
}

func (tx *transaction) failure(kind, cause error) *TransactionError {
	ids := make([]string, len(tx.events))
	for i := range tx.events {
		ids[i] = tx.events[i].record.ID
	}
	return &TransactionError{EventIDs: ids, kind: kind, cause: cause}
}

// judgeCanceled reads the reasons of a cancelled transaction, one for each operation.
func (tx *transaction) judgeCanceled(err error, reasons []types.CancellationReason, unanswered bool) (*TransactionError, again) {
	te := tx.failure(nil, err)
	var (
		stored, missing int  // event rows that are stored as meant, and that are known not to be stored
		hidden          int  // event rows of which a conflict or throttling hides whether they are stored
		conditionFailed bool // one of the caller's
		otherContent    bool // an event row is stored, but not as meant
		permanent       bool // another reason that stays
	)
	for i, reason := range reasons[:min(len(reasons), len(tx.items))] {
		code := aws.ToString(reason.Code)
		if code == "" || code == codeNone {
			if i >= tx.own {
				missing++
			}
			continue
		}
		op := tx.operation(i)
		op.Code, op.Message, op.OldItem = code, aws.ToString(reason.Message), reason.Item
		transient := slices.Contains(transientCodes, code)
		switch {
		case transient && i >= tx.own:
			hidden++
		case transient:
		case code == codeConditionFailed && i < tx.own:
			conditionFailed = true
		case code == codeConditionFailed:
			if op.Message = tx.compare(i, reason.Item); op.Message == "" {
				stored++
				op.Message = "the event is already stored, with the same content"
			} else {
				otherContent = true
			}
		case code == codeValidation && i >= tx.own:
			permanent = true
			op.Message += fmt.Sprintf("; the events table needs the partition key %q of type S and no sort key (WithAttributes)", tx.attributes.ID)
		default:
			permanent = true
		}
		te.Operations = append(te.Operations, op)
	}
	switch {
	case otherContent:
		te.kind = ErrEventConflict
	case stored == len(tx.events):
		return nil, never // the repeat of a committed transaction, whatever else has changed since
	case permanent:
	case stored > 0 && missing > 0:
		te.kind = ErrEventConflict // some of the events were committed by a transaction without the others
	case hidden > 0 && (stored > 0 || conditionFailed):
		// Perhaps the events are stored and the condition fails only because of that. The next answer tells.
		te.kind = ErrUnknownOutcome
		return te, afterPause
	case conditionFailed:
		te.kind = ErrConditionFailed
	case unanswered:
		te.kind = ErrUnknownOutcome
		return te, afterPause
	case len(te.Operations) > 0:
		te.kind = ErrConflict
		return te, afterPause
	}
	return te, never
}

// compare returns how the stored row of event i differs from the meant one, or "".
func (tx *transaction) compare(i int, stored map[string]types.AttributeValue) string {
	if len(stored) == 0 {
		return "an event with this id is stored, and DynamoDB did not return it"
	}
	event, a := &tx.events[i-tx.own], tx.attributes
	names := a.differences(event, stored)
	if len(names) == 0 {
		return ""
	}
	return fmt.Sprintf("an event with this id is stored with another %s: the stored one has type %q and aggregate %q, time %s; this one has type %q and aggregate %q, time %d",
		strings.Join(names, ", "), text(stored[a.Type]), text(stored[a.AggregateID]), text(stored[a.Time]),
		event.record.Type, event.record.AggregateID, event.record.Time.UnixMilli())
}
