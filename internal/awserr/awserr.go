// Package awserr reads the errors of the AWS SDK: the service's code, and whether the request was carried out. It knows the
// codes that all of AWS and DynamoDB's writes share, and nothing about what a caller does with them.
package awserr

import (
	"context"
	"errors"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
)

// InProgress is DynamoDB's code for a transaction whose token belongs to one that is still in progress.
const InProgress = "TransactionInProgressException"

// Code returns the service's error code. It is empty if the error is not the service's.
func Code(err error) string {
	var coded interface{ ErrorCode() string }
	if errors.As(err, &coded) && !isNil(coded) {
		return coded.ErrorCode()
	}
	return ""
}

// IsThrottling reports whether the service uses the code for too many requests.
func IsThrottling(code string) bool {
	_, throttling := retry.DefaultThrottleErrorCodes[code]
	return throttling
}

// ContextEnded reports whether the end of a context ended the call.
func ContextEnded(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// Refused reports whether the error is the service's word that it did not carry out this request, and will not. A lost answer,
// a timeout and a failure of the service leave that open. So does a transaction whose token is known: the first request with
// the token was carried out, or still may be.
func Refused(err error) bool {
	code := Code(err)
	if ContextEnded(err) || code == "" {
		return false
	}
	var response interface{ HTTPStatusCode() int }
	if errors.As(err, &response) && !isNil(response) && response.HTTPStatusCode() >= http.StatusInternalServerError {
		return false
	}
	switch code {
	case "RequestTimeout", "RequestTimeoutException", "InternalServerError", "InternalFailure", "ServiceUnavailable",
		InProgress, "IdempotentParameterMismatchException":
		return false
	}
	return true
}
