package shardreader

import (
	"errors"
	"net/http"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/seed-1b628d3f/outbox/internal/awserr"
)

// StopError says that a shard cannot be read for a reason that lasts: the shard or the stream does not exist, access is denied,
// or the position is not in this stream. It never means that the shard has ended.
type StopError struct {
	Shard     string
	Operation string
	Err       error
}

// Error names the shard and the request.
func (e *StopError) Error() string {
	return "shard " + e.Shard + " cannot be read, " + e.Operation + ": " + e.Err.Error()
}

// Unwrap returns the SDK's error.
func (e *StopError) Unwrap() error { return e.Err }

// verdict is what a failed request means for the reading.
type verdict int

const (
	again    verdict = iota // the next attempt may succeed: an outage, a lost connection, expired credentials
	throttle                // the next attempt may succeed, but there were too many requests
	expired                 // the iterator is too old; the place is known
	trimmed                 // the record at the iterator or the position is gone
	stop                    // the next attempt will fail in the same way
)

// passing are the refusals, beside throttling, that the next attempt may not meet: by then the SDK has got new credentials, or
// has seen how wrong the clock is.
var passing = map[string]bool{
	"ExpiredTokenException": true, "ExpiredToken": true, "RequestTimeTooSkewed": true, "RequestExpired": true, "RequestInTheFuture": true,
	"RequestTimeout": true, "RequestTimeoutException": true,
	"InternalFailure": true, "InternalFailureException": true, "InternalServerError": true, "ServiceUnavailable": true,
}

// judge decides by the code of the service's error. An unknown code stops the shard. This is loud, and the reading can begin
// again from the same place.
func judge(err error) verdict {
	var status int
	if response := (*smithyhttp.ResponseError)(nil); errors.As(err, &response) {
		status = response.HTTPStatusCode()
	}
	var api smithy.APIError
	if !errors.As(err, &api) {
		if status == http.StatusTooManyRequests {
			return throttle
		}
		return again
	}
	code := api.ErrorCode()
	switch code {
	case "ExpiredIteratorException":
		return expired
	case "TrimmedDataAccessException":
		return trimmed
	case "KMSThrottlingException":
		return throttle
	}
	if awserr.IsThrottling(code) || status == http.StatusTooManyRequests {
		return throttle
	}
	if passing[code] || status >= 500 || api.ErrorFault() == smithy.FaultServer {
		return again
	}
	return stop
}
