package service

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// whyNot are the answers that a client can be at fault for, and what their text says at least.
var whyNot = map[int]string{
	http.StatusBadRequest:            "",
	http.StatusNotFound:              "^there is (nothing here|no such order)$",
	http.StatusMethodNotAllowed:      "^the method .* is not allowed here, want ",
	http.StatusRequestEntityTooLarge: "^the body is larger than 65536 bytes$",
	http.StatusUnprocessableEntity:   "^this idempotency key was used for another order$",
}

// insides are words of Go and of AWS, which are no client's business.
var insides = regexp.MustCompile(`\b(json|mail|http|outbox):|EOF|\b(service|main)\.|\*|Exception|goroutine|Go (value|struct)`)

// ofTheRequest is what an error quotes of it.
var ofTheRequest = regexp.MustCompile(`"(\\.|[^"\\])*"|'(\\.|[^'\\])*'`)

// Whatever a request is made of, its answer is JSON with a status that says why, the same through API Gateway; and a 201 has placed an order. What
// net/http answers by itself comes through API Gateway alone.
func FuzzEveryAnswerIsJSON(f *testing.F) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	cloud := outboxtest.Start(f)
	cloud.CreateTable(f, local.OrdersTable, "orderId")
	cloud.CreateOutbox(f, local.EventsTable, local.EventsStream, 1)
	api, err := NewAPI(cloud.DynamoDB, local)
	require.NoError(f, err)
	gateway := NewGateway(api)
	first := httptest.NewRequestWithContext(f.Context(), "POST", "/", strings.NewReader(`{"description":"tea"}`))
	first.Header.Set("Idempotency-Key", "first")
	w := httptest.NewRecorder()
	api.ServeHTTP(w, first)
	require.Equal(f, http.StatusCreated, w.Code)
	order := "/orders/" + regexp.MustCompile("[0-9A-Z]{26}").FindString(w.Body.String())
	for _, seed := range []struct{ method, target, name, value, body string }{
		{"POST", "/", "Idempotency-Key", "k", `{"description":"tea","email":"a@example.com"}`},
		{"POST", "/", "Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", `{"description":5}`},
		{"POST", "/", "Content-Type", "text/plain", `{"descripton":"tea"}`},
		{"POST", "/", "Content-Encoding", "gzip", "\x1f\x8b"},
		{"POST", "/", "", "", `[{"description":"tea"}]`},
		{"POST", "/", "", "", `{"description":"tea","email":"<a@b>"} x`},
		{"POST", "/", "Idempotency-Key", "", `{"description":"\u0000"}`},
		{"POST", "//", "Host", "localhost", "{}"},
		{"POST", "/?description=x", "Expect", "100-continue", "{"},
		{"GET", "/orders/01M8FY4G5DV22E5Q3FQK1WSBDZ", "Range", "bytes=0-1", ""},
		{"GET", "/orders/../orders/x", "If-Match", "*", ""},
		{"GET", "/orders/%2e%2e/%00", "Accept", "text/html", ""},
		{"HEAD", "/orders/1", "", "", ""},
		{"OPTIONS", "/", "Origin", "https://example.com", ""},
		{"DELETE", "/orders/1", "X-Http-Method-Override", "GET", ""},
		{"PROPFIND", "/%zz", "", "", ""},
		{"CONNECT", "/", "", "", ""},
		{"OPTIONS", "*", "", "", ""},
		{"EOF*", "/", "", "", ""},
		{"POST", "/", "", "", `{"description":"tea","email":"a"}`},
		{"POST", "/", "", "", `{"EOF":1}`},
		{"POST", order + "/changes", "", "", `{"description":"milk"}`},
		{"POST", order + "/changes", "Content-Type", "text/plain", `{"description":"milk","email":"a@example.com"}`},
		{"POST", order + "/changes", "Idempotency-Key", "k", `{"description":5}`},
		{"POST", order + "/changes", "", "", ""},
		{"PUT", order + "/changes", "", "", `{"description":"milk"}`},
		{"POST", "/orders/01M8FY4G5DV22E5Q3FQK1WSBDZ/changes", "", "", `{"description":"milk"}`},
		{"POST", "/orders/%00/changes", "", "", `{"description":"milk"}`},
		{"", "/", "", "", ""},
		{"a b", "/", "", "", ""},
	} {
		f.Add(seed.method, seed.target, seed.name, seed.value, []byte(seed.body))
	}
	f.Fuzz(func(t *testing.T, method, target, name, value string, body []byte) {
		r, err := http.NewRequestWithContext(t.Context(), method, "/", bytes.NewReader(body))
		isMethod := err == nil && method != ""
		path, query := target, ""
		if address, err := url.ParseRequestURI(target); err == nil && address.Host == "" && address.Scheme == "" {
			path, query = address.EscapedPath(), address.RawQuery
			if isMethod {
				r.URL, r.RequestURI = address, target
				if name != "" {
					r.Header.Set(name, value)
				}
				w := httptest.NewRecorder()
				api.ServeHTTP(w, r)
				requireWhy(t, api, w.Code, w.Header().Get("Content-Type"), w.Body.String(), w.Header().Get("Allow"))
			}
		}

		in := events.APIGatewayV2HTTPRequest{Version: "2.0", RawPath: path, RawQueryString: query, Headers: map[string]string{}, Body: string(body)}
		if name != "" {
			in.Headers[name] = value
		}
		in.RequestContext.HTTP.Method = method
		payload, err := json.Marshal(in)
		require.NoError(t, err)
		answer, err := gateway.Invoke(t.Context(), payload)
		if !isMethod {
			require.Error(t, err)
			return
		}
		require.NoError(t, err)
		var out events.APIGatewayV2HTTPResponse
		require.NoError(t, json.Unmarshal(answer, &out))
		requireWhy(t, api, out.StatusCode, out.Headers["Content-Type"], out.Body, out.Headers["Allow"])
	})
}

func requireWhy(t *testing.T, api http.Handler, status int, kind, body, allow string) {
	t.Helper()
	require.Equal(t, "application/json", kind)
	var answer struct{ Error, OrderID, Description string }
	require.NoError(t, json.Unmarshal([]byte(body), &answer), body)
	switch status {
	case http.StatusOK:
		require.NotEmpty(t, answer.OrderID)
	case http.StatusCreated:
		w := httptest.NewRecorder()
		api.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/orders/"+answer.OrderID, nil))
		require.Equal(t, http.StatusOK, w.Code, "order %s of the answer", answer.OrderID)
	default:
		text, known := whyNot[status]
		require.True(t, known, "%d %s", status, body)
		require.Regexp(t, text, answer.Error)
		require.NotEmpty(t, answer.Error)
		if status != http.StatusMethodNotAllowed {
			require.NotRegexp(t, insides, ofTheRequest.ReplaceAllString(answer.Error, ""))
		}
		require.Equal(t, status == http.StatusMethodNotAllowed, allow != "")
	}
}
