package outbox

import (
	"context"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/smithy-go/middleware"

	"github.com/seed-1b628d3f/outbox/internal/awserr"
)

// sdkWatch sees every request that the SDK sends within one call, including retries. The SDK returns only its last answer, and an
// answer before may have been lost. sdkWatch is safe for concurrent use, since a client may return before the SDK does.
type sdkWatch struct {
	watching atomic.Bool  // the SDK has built a request with it
	sent     atomic.Int32 // requests
	refused  atomic.Int32 // requests whose answer says that they were not carried out
	open     atomic.Bool  // a request failed without such an answer
}

// install is an option function of a call. It may be applied more than once.
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

// handle counts a request, and judges its answer.
func (s *sdkWatch) handle(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
	s.sent.Add(1)
	out, metadata, err := next.HandleDeserialize(ctx, in)
	switch {
	case err != nil && awserr.Refused(err):
		s.refused.Add(1)
	case err != nil:
		s.open.Store(true)
	}
	return out, metadata, err
}

// allRefused reports whether a request was sent, and every answer says that its request was not carried out.
func (s *sdkWatch) allRefused() bool {
	sent := s.sent.Load()
	return sent > 0 && s.refused.Load() == sent && !s.open.Load()
}

// withoutInProgress keeps the SDK from retrying a transaction in progress: the Writer knows when to ask again.
type withoutInProgress struct{ aws.RetryerV2 }

func (r withoutInProgress) IsErrorRetryable(err error) bool {
	return awserr.Code(err) != awserr.InProgress && r.RetryerV2.IsErrorRetryable(err)
}
