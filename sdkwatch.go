package outbox

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/smithy-go/middleware"
)

// sdkWatch sees every request that the SDK sends within one call, retries included: an answer that was lost is not the one
// that the SDK returns in the end. It is safe for concurrent use, since a client may return before the SDK does.
type sdkWatch struct {
	watching atomic.Bool  // the SDK has built a request with it
	sent     atomic.Int32 // requests
	refused  atomic.Int32 // of them, those with an answer that they were not carried out
	open     atomic.Bool  // one of them has no answer that it was not carried out
}

// install is an option of a call. It may be applied more than once.
func (s *sdkWatch) install(o *dynamodb.Options) {
	if _, installed := o.Retryer.(withoutInProgress); !installed && o.Retryer != nil {
		retryer, ok := o.Retryer.(aws.RetryerV2)
		if !ok {
			retryer = retry.AddWithErrorCodes(o.Retryer).(aws.RetryerV2) // it makes a RetryerV2 of any Retryer
		}
		o.Retryer = withoutInProgress{retryer}
	}
	o.APIOptions = append(o.APIOptions, s.addTo)
}

const watchID = "OutboxWatch"

func (s *sdkWatch) addTo(stack *middleware.Stack) error {
	s.watching.Store(true)
	if _, installed := stack.Deserialize.Get(watchID); installed {
		return nil
	}
	return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc(watchID, s.handle), middleware.Before)
}

// handle is around each request and its answer.
func (s *sdkWatch) handle(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
	s.sent.Add(1)
	out, metadata, err := next.HandleDeserialize(ctx, in)
	switch {
	case err != nil && answered(err):
		s.refused.Add(1)
	case err != nil:
		s.open.Store(true)
	}
	return out, metadata, err
}

// allRefused reports whether every request that was sent has an answer that it was not carried out.
func (s *sdkWatch) allRefused() bool {
	sent := s.sent.Load()
	return sent > 0 && s.refused.Load() == sent && !s.open.Load()
}

// withoutInProgress leaves transactions in progress to the Writer, which knows when to ask again.
type withoutInProgress struct{ aws.RetryerV2 }

func (r withoutInProgress) IsErrorRetryable(err error) bool {
	return codeOf(err) != codeInProgress && r.RetryerV2.IsErrorRetryable(err)
}

// codeOf returns the service's error code, or "".
func codeOf(err error) string {
	var api interface{ ErrorCode() string }
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// answered reports whether an error is DynamoDB's word that this request was not and will not be carried out: not a lost
// answer, a timeout, a failure of the service, or the same transaction in progress.
func answered(err error) bool {
	code := codeOf(err)
	if contextEnded(err) || code == "" {
		return false
	}
	var response interface{ HTTPStatusCode() int }
	if errors.As(err, &response) && response.HTTPStatusCode() >= http.StatusInternalServerError {
		return false
	}
	switch code {
	case codeInProgress, "RequestTimeout", "RequestTimeoutException", "InternalServerError", "InternalFailure", "ServiceUnavailable":
		return false
	case "IdempotentParameterMismatchException":
		// The token is made from the content, so the transaction that DynamoDB takes for another one has been committed.
		return false
	}
	return true
}

func contextEnded(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

func isThrottling(code string) bool {
	_, throttling := retry.DefaultThrottleErrorCodes[code]
	return throttling
}
