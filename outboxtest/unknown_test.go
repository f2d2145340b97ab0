package outboxtest_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/aws/smithy-go/transport/http/protocol/awsjson"
	"github.com/aws/smithy-go/transport/http/protocol/awsquery"
	"github.com/aws/smithy-go/transport/http/protocol/ec2query"
	"github.com/aws/smithy-go/transport/http/protocol/restjson1"
	"github.com/aws/smithy-go/transport/http/protocol/restxml"
	"github.com/aws/smithy-go/transport/http/protocol/rpcv2"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// The clients of services that are not here can read that they are not, whichever protocol they speak.
func TestAServiceThatIsNotEmulatedSaysSo(t *testing.T) {
	service := smithy.NewServiceSchema(smithy.NewSchema(smithy.ShapeID{Namespace: "com.example", Name: "Some"}, smithy.ShapeTypeService, 0), "2010-01-01")
	operation := smithy.NewOperationSchema(smithy.NewSchema(smithy.ShapeID{Namespace: "com.example", Name: "Do"}, smithy.ShapeTypeOperation, 0), nil, nil)
	const form = "application/x-www-form-urlencoded"
	for name, c := range map[string]struct {
		protocol                            smithyhttp.ClientProtocol
		method, address, signed, kind, body string
		header                              [2]string
		want                                string
	}{
		"JSON 1.0": {awsjson.New10(service), "POST", "/", "sqs", "application/x-amz-json-1.0", "{}", [2]string{"X-Amz-Target", "AmazonSQS.SendMessage"},
			"AmazonSQS.SendMessage of the service sqs"},
		"JSON 1.1": {awsjson.New11(service), "POST", "/", "firehose", "application/x-amz-json-1.1", "{}", [2]string{"X-Amz-Target", "Firehose_20150804.PutRecord"},
			"Firehose_20150804.PutRecord of the service firehose"},
		"CBOR": {rpcv2.NewCBOR(service), "POST", "/service/GraniteServiceVersion20100801/operation/DescribeAlarms", "monitoring", "application/cbor", "\xa0",
			[2]string{"Smithy-Protocol", "rpc-v2-cbor"}, "DescribeAlarms of the service monitoring"},
		"Query":          {awsquery.New(service), "POST", "/", "sts", form, "Action=GetCallerIdentity&Version=2011-06-15", [2]string{}, "GetCallerIdentity of the service sts"},
		"Query by GET":   {awsquery.New(service), "GET", "/?Action=GetCallerIdentity", "sts", "", "", [2]string{}, "GetCallerIdentity of the service sts"},
		"EC2":            {ec2query.New(service), "POST", "/", "ec2", form, "Action=DescribeVpcs", [2]string{}, "DescribeVpcs of the service ec2"},
		"REST with JSON": {restjson1.New(service), "GET", "/2015-03-31/event-source-mappings?x=y", "lambda", "", "", [2]string{}, "GET /2015-03-31/event-source-mappings of the service lambda"},
		"REST with XML":  {restxml.New(service), "GET", "/2013-04-01/hostedzone", "route53", "", "", [2]string{}, "GET /2013-04-01/hostedzone of the service route53"},
		"S3":             {restxml.New(service), "PUT", "/bucket/a%26%3Cb%3E", "s3", "", "", [2]string{}, "PUT /bucket/a&<b> of the service s3"},
		"no signature":   {restjson1.New(service), "GET", "/", "", "", "", [2]string{}, "GET /"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), c.method, "http://aws"+c.address, strings.NewReader(c.body))
			require.NoError(t, err)
			if c.signed != "" {
				r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=key/20260102/us-east-1/"+c.signed+"/aws4_request, SignedHeaders=host, Signature=00")
			}
			if c.kind != "" {
				r.Header.Set("Content-Type", c.kind)
			}
			if c.header[0] != "" {
				r.Header.Set(c.header[0], c.header[1])
			}
			w := httptest.NewRecorder()
			outboxtest.Start(t).ServeHTTP(w, r)
			answer := w.Result()
			defer func() { require.NoError(t, answer.Body.Close()) }()
			require.Equal(t, http.StatusBadRequest, answer.StatusCode)
			err = c.protocol.DeserializeResponse(t.Context(), operation, &smithy.TypeRegistry{}, &smithyhttp.Response{Response: answer}, nil)
			var said smithy.APIError
			require.ErrorAs(t, err, &said)
			require.Equal(t, "UnknownOperationException", said.ErrorCode())
			require.Equal(t, "outboxtest does not emulate "+c.want, said.ErrorMessage())
		})
	}
}
