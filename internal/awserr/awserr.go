// Package awserr reads the errors of the AWS SDK: the service's code, and whether the request was carried out. It knows the
// codes that all of AWS and DynamoDB's writes share, and nothing about what a caller does with them.
package awserr

import (
	"context"
	"errors"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws/retry"

	"github.com/seed-1b628d3f/outbox/internal/usercode"
)

// InProgress is DynamoDB's code for a transaction whose token belongs to one that is still in progress.
const InProgress = "TransactionInProgressException"

// Code returns the service's error code. It is empty if the error is not the service's.
func Code(err error) string {
	code := ""
	var coded interface{ ErrorCode() string }
	if errors.As(clientsError(err), &coded) {
		usercode.Run(func() { code = coded.ErrorCode() })
	}
	return code
}

// Message returns what the service says about the error, or all of the error's text if the error is not the service's.
func Message(err error) string {
	err = clientsError(err)
	message := err.Error()
	var said interface{ ErrorMessage() string }
	if errors.As(err, &said) {
		usercode.Run(func() { message = said.ErrorMessage() })
	}
	return message
}

// IsThrottling reports whether the service uses the code for too many requests.
func IsThrottling(code string) bool {
	_, throttling := retry.DefaultThrottleErrorCodes[code]
	return throttling
}

// ContextEnded reports whether the end of a context ended the call.
func ContextEnded(err error) bool {
	err = clientsError(err)
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// Refused reports whether the error is DynamoDB's word that it did not carry out this request, and will not: a code that DynamoDB has for
// a refusal, or an answer of 4xx with any code and with the id that AWS gives each request.
//
// Everything else leaves it open: a lost answer, a timeout, a failure of the service, a code that the client may have made itself, and an
// answer of something on the way, which may have JSON with a code of its own. So does a transaction whose token is known: the first
// request with the token was carried out, or still may be.
func Refused(err error) bool {
	code := Code(err)
	switch code {
	case "", unknownCode, "RequestTimeout", "RequestTimeoutException", "InternalServerError", "InternalFailure", "ServiceUnavailable",
		InProgress, "IdempotentParameterMismatchException":
		return false
	}
	if ContextEnded(err) {
		return false
	}
	status, request := 0, ""
	var response interface{ HTTPStatusCode() int }
	if errors.As(clientsError(err), &response) {
		usercode.Run(func() { status = response.HTTPStatusCode() })
	}
	var served interface{ ServiceRequestID() string }
	if errors.As(clientsError(err), &served) {
		usercode.Run(func() { request = served.ServiceRequestID() })
	}
	refusal := status >= http.StatusBadRequest && status < http.StatusInternalServerError
	return isRefusal(code) && (refusal || status == 0) || refusal && request != ""
}

// unknownCode is what the SDK calls an answer whose body has no code.
const unknownCode = "UnknownError"

// isRefusal reports whether DynamoDB says with the code that it has not carried out a write. No client of AWS is known to make up any of
// these codes. See https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html.
func isRefusal(code string) bool {
	switch code {
	case "AccessDeniedException", "ConditionalCheckFailedException", "ExpiredTokenException", "IncompleteSignatureException", "InvalidSignatureException",
		"ItemCollectionSizeLimitExceededException", "LimitExceededException", "MissingAuthenticationTokenException",
		"ProvisionedThroughputExceededException", "ReplicatedWriteConflictException", "RequestLimitExceeded", "ResourceNotFoundException",
		"ThrottlingException", "TransactionCanceledException", "TransactionConflictException", "UnrecognizedClientException", "ValidationException":
		return true
	}
	return false
}
