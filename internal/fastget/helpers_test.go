package fastget

import (
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/service/kinesis/schemas"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/aws/smithy-go/transport/http/protocol/awsjson"
)

// stock is the SDK's own protocol.
var stock = awsjson.New11(schemas.Kinesis_20131202)

// operation is GetRecords.
var operation = smithy.NewOperationSchema(schemas.GetRecords, schemas.GetRecordsInput, schemas.GetRecordsOutput)

// response is an answer over HTTP.
func response(status int, body io.Reader, length int64) *smithyhttp.Response {
	return &smithyhttp.Response{Response: &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(body), ContentLength: length}}
}
