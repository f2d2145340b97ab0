package service

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"
)

// Gateway serves an http.Handler to an HTTP API of Amazon API Gateway with payloads of version 2.0. It is a handler for
// lambda.Start, and safe for concurrent use. What it makes of the request's path, query and body is what a client has sent to the
// stage $default; the stage's name would be part of the path.
//
// See https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html.
type Gateway struct{ handler http.Handler }

// NewGateway returns a Gateway.
func NewGateway(handler http.Handler) *Gateway { return &Gateway{handler} }

// answerTime is how long before the invocation's deadline the request's context ends, so that a handler that waits for DynamoDB can
// still say what is not known.
const answerTime = 500 * time.Millisecond

// beforeDeadline returns a context that ends a margin before ctx's deadline, or a fifth of the time that is left, if that is less.
func beforeDeadline(ctx context.Context, margin time.Duration) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline.Add(-min(margin, max(time.Until(deadline)/5, 0))))
}

// Invoke implements lambda.Handler. The request's context ends shortly before ctx's deadline. An error means that the payload is no
// such request.
func (g *Gateway) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	var in events.APIGatewayV2HTTPRequest
	if err := json.Unmarshal(payload, &in); err != nil {
		return nil, fmt.Errorf("the payload is no request of an HTTP API: %w", err)
	}
	if in.Version != "2.0" || in.RequestContext.HTTP.Method == "" {
		return nil, errors.New("the payload is no request of an HTTP API in version 2.0")
	}
	ctx, cancel := beforeDeadline(ctx, answerTime)
	defer cancel()
	r, err := request(ctx, &in)
	if err != nil {
		return nil, err
	}
	w := &response{header: http.Header{}}
	g.handler.ServeHTTP(w, r)
	return json.Marshal(w.answer())
}

func request(ctx context.Context, in *events.APIGatewayV2HTTPRequest) (*http.Request, error) {
	body := []byte(in.Body)
	if in.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(in.Body); err != nil {
			return nil, fmt.Errorf("the body: %w", err)
		}
	}
	r, err := http.NewRequestWithContext(withCaller(ctx, in), in.RequestContext.HTTP.Method, "/", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.URL = &url.URL{Path: in.RawPath, RawQuery: in.RawQueryString}
	if decoded, err := url.PathUnescape(in.RawPath); err == nil {
		r.URL.Path, r.URL.RawPath = decoded, in.RawPath
	}
	for name, value := range in.Headers { // several values of a name are joined by a comma
		r.Header.Set(name, value)
	}
	if len(in.Cookies) > 0 {
		r.Header.Set("Cookie", strings.Join(in.Cookies, "; "))
	}
	r.Host = r.Header.Get("Host")
	r.Header.Del("Host")
	r.RequestURI = r.URL.RequestURI()
	r.RemoteAddr = in.RequestContext.HTTP.SourceIP
	return r, nil
}

// response collects what a handler answers.
type response struct {
	header http.Header
	sent   http.Header // as it was when the answer began
	status int
	body   bytes.Buffer
}

func (w *response) Header() http.Header { return w.header }

func (w *response) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status, w.sent = status, w.header.Clone()
	}
}

func (w *response) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}

func (w *response) answer() events.APIGatewayV2HTTPResponse {
	w.WriteHeader(http.StatusOK)
	out := events.APIGatewayV2HTTPResponse{StatusCode: w.status, Headers: make(map[string]string), Cookies: w.sent.Values("Set-Cookie")}
	for name, values := range w.sent {
		if name != "Set-Cookie" {
			out.Headers[name] = strings.Join(values, ",")
		}
	}
	if out.Body = w.body.String(); !utf8.ValidString(out.Body) {
		out.Body, out.IsBase64Encoded = base64.StdEncoding.EncodeToString(w.body.Bytes()), true
	}
	return out
}
