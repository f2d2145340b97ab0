package adversary

import (
	"context"
	"net/http"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

const minute = time.Minute

// timeOfIssue is the clock by which iterators age: they age alike whatever the clock says.
func (s *stream) timeOfIssue() time.Time { return time.Now() }

// served is what the SDK puts beside an answer: among it, the service's time of the header Date.
func served(at time.Time) middleware.Metadata {
	answer := &smithyhttp.Response{Response: &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Date": {at.UTC().Format(http.TimeFormat)}}}}
	received := middleware.DeserializeHandlerFunc(func(context.Context, middleware.DeserializeInput) (middleware.DeserializeOutput, middleware.Metadata, error) {
		return middleware.DeserializeOutput{RawResponse: answer}, middleware.Metadata{}, nil
	})
	_, metadata, err := awsmiddleware.RecordResponseTiming{}.HandleDeserialize(context.Background(), middleware.DeserializeInput{}, received)
	if err != nil {
		panic(err)
	}
	return metadata
}
