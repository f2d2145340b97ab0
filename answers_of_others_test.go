package outbox_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
)

// middlebox answers every request as something between the SDK and DynamoDB may.
type middlebox struct {
	status int
	header http.Header
	body   string
}

func (m middlebox) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: m.status, Header: m.header, Body: io.NopCloser(bytes.NewReader([]byte(m.body))), Request: r}, nil
}

// Only DynamoDB knows that a transaction was not committed: an answer of 4xx with its code. What a proxy says on its own tells nothing.
func TestOnlyAnAnswerOfDynamoDBMeansNotWritten(t *testing.T) {
	html, typed := http.Header{"Content-Type": {"text/html"}}, http.Header{"X-Amzn-Errortype": {"AccessDeniedException:http://internal"}}
	served := http.Header{"X-Amzn-Requestid": {"QF2AF6"}}
	shapes := map[string]struct {
		header   http.Header
		body     string
		dynamoDB bool
	}{
		"a code in the body":       {nil, `{"__type":"com.amazonaws.dynamodb.v20120810#ResourceNotFoundException","message":"no table"}`, true},
		"a code of tomorrow":       {served, `{"__type":"com.amazon.coral.service#BrandNewException"}`, true},
		"a code of somebody else":  {nil, `{"code":"400","message":"bad gateway"}`, false},
		"an exception of nobody":   {nil, `{"__type":"Exception"}`, false},
		"a code in the header":     {typed, `{}`, true},
		"HTML":                     {html, "<html>timeout</html>", false},
		"HTML under a header":      {typed, "<html>timeout</html>", false},
		"text":                     {nil, "upstream request timeout", false},
		"nothing":                  {nil, "", false},
		"JSON without a code":      {nil, `{"message":"Endpoint request timed out"}`, false},
		"JSON that is no object":   {nil, `["timeout"]`, false},
		"a code of the wrong type": {nil, `{"__type":7}`, false},
	}
	for name, shape := range shapes {
		for _, status := range []int{200, 302, 400, 401, 403, 404, 407, 408, 413, 429, 460, 499, 500, 502, 503, 504} {
			client := sdkClient(&server{}, aws.NopRetryer{}).Options()
			client.HTTPClient = &http.Client{Transport: middlebox{status, shape.header, shape.body}}
			err := newWriter(t, dynamodb.New(client)).Put(t.Context(), "orders", order{"1"}, event("e"))
			refused := shape.dynamoDB && status/100 == 4
			if status == 200 && err == nil { // with a code in a header or a body of JSON, it is still a success
				require.NotContains(t, []string{"HTML", "text"}, name)
				continue
			}
			require.Error(t, err, "%s, %d", name, status)
			require.Equal(t, !refused, errors.Is(err, outbox.ErrUnknownOutcome), "%s, %d: %v", name, status, err)
		}
	}
}

// A client that is not the SDK's, as that of DAX, shows no answer: only codes with which DynamoDB refuses count. DAX calls a lost answer
// an API error, too.
func TestACodeWithoutAnAnswerMayBeMadeUp(t *testing.T) {
	for code, refused := range map[string]bool{
		"ValidationException": true, "AccessDeniedException": true, "ResourceNotFoundException": true, "ThrottlingException": true,
		"ResponseTimeout": false, "Unknown": false, "InternalServerError": false, "RequestError": false, "RequestCanceled": false, "SerializationError": false,
		"ServiceUnavailable": false, "UnknownError": false, "NotImplemented": false, "TransactionInProgressException": false,
	} {
		client := &bareClient{[]error{&smithy.GenericAPIError{Code: code, Message: "network error: i/o timeout", Fault: smithy.FaultClient}}}
		err := newWriter(t, client, outbox.WithWriteRetry(outbox.Retry{MaxAttempts: 1})).Put(t.Context(), "orders", order{"1"}, event("e"))
		require.Error(t, err, code)
		require.Equal(t, !refused, errors.Is(err, outbox.ErrUnknownOutcome), "%s: %v", code, err)
	}
	// A cancellation that does not say which operation failed: perhaps the event is stored, and its condition failed because of that.
	for n := range 4 {
		reasons := make([]types.CancellationReason, n)
		for i := range reasons {
			reasons[i] = reason("ConditionalCheckFailed")
		}
		err := newWriter(t, &bareClient{[]error{fmt.Errorf("wrapped: %w", canceled(reasons...))}}).Put(t.Context(), "orders", order{"1"}, event("e"))
		require.Equal(t, n != 2, errors.Is(err, outbox.ErrUnknownOutcome), "%d reasons: %v", n, err)
	}
}
