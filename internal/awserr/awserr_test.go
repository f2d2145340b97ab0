package awserr_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/awserr"
)

func code(code string) error { return &smithy.GenericAPIError{Code: code} }

func status(status int, err error) *smithyhttp.ResponseError {
	return &smithyhttp.ResponseError{Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}}, Err: err}
}

// request is an error with the id that AWS has given a request.
func request(id string, err *smithyhttp.ResponseError) error {
	return &awshttp.ResponseError{ResponseError: err, RequestID: id}
}

func TestWhatAnErrorSaysAboutItsRequest(t *testing.T) {
	for name, c := range map[string]struct {
		err        error
		code       string
		refused    bool
		ended      bool
		throttling bool
	}{
		"nothing":                      {},
		"a lost connection":            {err: errors.New("connection reset")},
		"a refusal":                    {err: status(400, code("AccessDeniedException")), code: "AccessDeniedException", refused: true},
		"a refusal without its status": {err: code("ValidationException"), code: "ValidationException", refused: true},
		"a refusal of the SDK's type":  {err: fmt.Errorf("put: %w", &types.ConditionalCheckFailedException{}), code: "ConditionalCheckFailedException", refused: true},
		"a new refusal":                {err: request("R1", status(400, code("NewException"))), code: "NewException", refused: true},
		"a code of a proxy":            {err: status(400, code("400")), code: "400"},
		"a refusal with a failure":     {err: request("R1", status(500, code("ValidationException"))), code: "ValidationException"},
		"an answer without a code":     {err: status(499, code("UnknownError")), code: "UnknownError"},
		"a code that is no refusal":    {err: code("NewException"), code: "NewException"},
		"the same without an answer":   {err: status(0, code("NewException")), code: "NewException"},
		"a redirection":                {err: status(307, code("AnyCode")), code: "AnyCode"},
		"a lost answer of DAX":         {err: code("ResponseTimeout"), code: "ResponseTimeout"},
		"a broken answer of DAX":       {err: code("Unknown"), code: "Unknown"},
		"an answer DAX cannot read":    {err: code("SerializationError"), code: "SerializationError"},
		"a cancelled request of DAX":   {err: code("RequestCanceled"), code: "RequestCanceled"},
		"a failure of the service":     {err: status(500, code("AnyCode")), code: "AnyCode"},
		"its code without the status":  {err: code("InternalServerError"), code: "InternalServerError"},
		"its other code":               {err: code("InternalFailure"), code: "InternalFailure"},
		"an outage":                    {err: code("ServiceUnavailable"), code: "ServiceUnavailable"},
		"a timeout of the service":     {err: status(400, code("RequestTimeout")), code: "RequestTimeout"},
		"its longer name":              {err: code("RequestTimeoutException"), code: "RequestTimeoutException"},
		"still in progress":            {err: status(400, code("TransactionInProgressException")), code: awserr.InProgress, throttling: true}, // to the SDK it is
		"committed with other content": {err: code("IdempotentParameterMismatchException"), code: "IdempotentParameterMismatchException"},
		"too many requests":            {err: code("ThrottlingException"), code: "ThrottlingException", refused: true, throttling: true},
		"too much for the table":       {err: code("ProvisionedThroughputExceededException"), code: "ProvisionedThroughputExceededException", refused: true, throttling: true},
		"cancelled":                    {err: fmt.Errorf("call: %w", context.Canceled), ended: true},
		"a deadline":                   {err: context.DeadlineExceeded, ended: true},
		"a refusal after the end":      {err: errors.Join(code("AccessDeniedException"), context.Canceled), code: "AccessDeniedException", ended: true},
	} {
		require.Equal(t, c.code, awserr.Code(c.err), name)
		require.Equal(t, c.refused, awserr.Refused(c.err), name)
		require.Equal(t, c.ended, awserr.ContextEnded(c.err), name)
		require.Equal(t, c.throttling, awserr.IsThrottling(awserr.Code(c.err)), name)
	}
}

// A nil pointer as an error, whose methods would panic, has no code, and says nothing about the request.
func TestANilPointerHasNoCode(t *testing.T) {
	var none *smithy.GenericAPIError
	for _, err := range []error{none, fmt.Errorf("wrapped: %w", none)} {
		require.Empty(t, awserr.Code(err))
		require.False(t, awserr.Refused(err))
	}
}
