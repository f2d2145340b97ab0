package wire

import (
	"bytes"
	"encoding/xml"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/smithy-go/encoding/cbor"
)

// WriteUnknown answers a request for a service that is not here, in the protocol of the request, so that
// the client of any service can read that it is not emulated: AWS JSON 1.0, RPC v2 with CBOR, Query,
// REST with XML and REST with JSON.
func WriteUnknown(w http.ResponseWriter, r *http.Request) {
	service, action := signedFor(r), queryAction(r)
	e := unknown(r, action)
	switch {
	case rpcV2(r):
		w.Header().Set("Smithy-Protocol", "rpc-v2-cbor")
		Protocol{ContentType: "application/cbor"}.write(w, e.HTTPStatus(), e.cbor())
	case action != "" || restXML[service]:
		Protocol{ContentType: "text/xml"}.write(w, e.HTTPStatus(), e.xml(service))
	case strings.HasPrefix(r.Header.Get("Content-Type"), DynamoDB().ContentType):
		DynamoDB().WriteError(w, e)
	default:
		Protocol{ContentType: "application/json"}.WriteError(w, e)
	}
}

// Unknown is the error that says which request has reached no service.
func Unknown(r *http.Request) *Error { return unknown(r, queryAction(r)) }

func unknown(r *http.Request, action string) *Error {
	what := r.Method + " " + r.URL.Path
	switch target := r.Header.Get("X-Amz-Target"); {
	case action != "":
		what = action
	case target != "":
		what = target
	case rpcV2(r):
		what = r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	}
	if service := signedFor(r); service != "" {
		what += " of the service " + service
	}
	return UnknownOperation(what)
}

func rpcV2(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Smithy-Protocol"), "rpc-v2-cbor")
}

// restXML are the services that speak XML, by the names that requests are signed for.
var restXML = map[string]bool{"s3": true, "s3express": true, "s3-object-lambda": true, "s3-outposts": true, "cloudfront": true, "route53": true}

// signedFor is the service in the scope of the request's signature:
// "AWS4-HMAC-SHA256 Credential=key/20260102/us-east-1/monitoring/aws4_request, ...".
func signedFor(r *http.Request) string {
	_, credential, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	scope, _, _ := strings.Cut(credential, ",")
	parts := strings.Split(scope, "/")
	if n := len(parts); n >= 5 && parts[n-1] == "aws4_request" {
		return parts[n-2]
	}
	return ""
}

// queryAction is the operation of a request in the Query protocol, in the form or in the address.
func queryAction(r *http.Request) string {
	if action := r.URL.Query().Get("Action"); action != "" {
		return action
	}
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		return ""
	}
	body, err := ReadBody(r, 0)
	if err != nil {
		return ""
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return ""
	}
	return form.Get("Action")
}

func (e *Error) cbor() []byte {
	doc := cbor.Map{}
	for k, v := range e.document("") {
		if text, ok := v.(string); ok {
			doc[k] = cbor.String(text)
		}
	}
	return cbor.Encode(doc)
}

// xml is the error as the Query protocol and most services that speak XML write it. Amazon S3 and Amazon EC2 have forms of their own.
func (e *Error) xml(service string) []byte {
	var message bytes.Buffer
	_ = xml.EscapeText(&message, []byte(e.Message)) // a Buffer never fails
	inner := "<Code>" + e.Code + "</Code><Message>" + message.String() + "</Message>"
	id := "<RequestId>" + requestID() + "</RequestId>"
	switch service {
	case "s3", "s3express":
		inner = "<Error>" + inner + id + "</Error>"
	case "ec2":
		inner = "<Response><Errors><Error>" + inner + "</Error></Errors>" + id + "</Response>"
	default:
		inner = "<ErrorResponse><Error><Type>Sender</Type>" + inner + "</Error>" + id + "</ErrorResponse>"
	}
	return []byte(xml.Header + inner)
}
