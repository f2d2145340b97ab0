package service

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/stretchr/testify/require"
)

var _ lambda.Handler = (*Gateway)(nil)

// aRequest is as API Gateway documents it, with everything that a request can have.
const aRequest = `{"version":"2.0","routeKey":"POST /","rawPath":"/orders/a%20b","rawQueryString":"x=1&x=2&y=%26",
	"cookies":["c=1","d=2"],
	"headers":{"host":"abc.execute-api.eu-west-1.amazonaws.com","idempotency-key":"k","accept":"a,b","content-type":"application/json"},
	"queryStringParameters":{"x":"1,2","y":"&"},
	"requestContext":{"accountId":"123456789012","apiId":"abc","domainName":"abc.execute-api.eu-west-1.amazonaws.com","stage":"$default",
		"http":{"method":"POST","path":"/orders/a b","protocol":"HTTP/1.1","sourceIp":"192.0.2.1","userAgent":"curl/8"},
		"requestId":"id","routeKey":"POST /","time":"12/Mar/2026:19:03:58 +0000","timeEpoch":1583348638390},
	"body":"eyJhIjoxfQ==","isBase64Encoded":true}`

func TestARequestReachesTheHandlerAsItWasSent(t *testing.T) {
	deadline := time.Now().Add(time.Minute)
	ctx, cancel := context.WithDeadline(t.Context(), deadline)
	defer cancel()
	_, err := NewGateway(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		require.Equal(t, http.MethodPost, r.Method)
		require.Equal(t, "/orders/a b", r.URL.Path)
		require.Equal(t, "/orders/a%20b?x=1&x=2&y=%26", r.RequestURI)
		require.Equal(t, []string{"1", "2"}, r.URL.Query()["x"])
		require.Equal(t, "abc.execute-api.eu-west-1.amazonaws.com", r.Host)
		require.Equal(t, "k", r.Header.Get("Idempotency-Key"))
		require.Equal(t, "a,b", r.Header.Get("Accept"))
		require.Len(t, r.Cookies(), 2)
		require.Equal(t, "192.0.2.1", r.RemoteAddr)
		body, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		require.Equal(t, `{"a":1}`, string(body))
		require.EqualValues(t, 7, r.ContentLength)
		have, ok := r.Context().Deadline()
		require.True(t, ok)
		require.Equal(t, deadline.Add(-500*time.Millisecond), have)
	})).Invoke(ctx, []byte(aRequest))
	require.NoError(t, err)
}

func TestWhatTheHandlerAnswersIsTheAnswer(t *testing.T) {
	answer := func(handler http.HandlerFunc) events.APIGatewayV2HTTPResponse {
		out, err := NewGateway(handler).Invoke(t.Context(), []byte(aRequest))
		require.NoError(t, err)
		var response events.APIGatewayV2HTTPResponse
		require.NoError(t, json.Unmarshal(out, &response))
		return response
	}
	require.Equal(t, events.APIGatewayV2HTTPResponse{StatusCode: 200, Headers: map[string]string{}}, answer(func(http.ResponseWriter, *http.Request) {}))
	require.Equal(t, events.APIGatewayV2HTTPResponse{
		StatusCode: 201, Body: "{}", Cookies: []string{"a=1", "b=2"},
		Headers: map[string]string{"Content-Type": "application/json", "Vary": "A,B"},
	}, answer(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Add("Vary", "A")
		w.Header().Add("Vary", "B")
		w.Header().Add("Set-Cookie", "a=1")
		w.Header().Add("Set-Cookie", "b=2")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusCreated)
		w.WriteHeader(http.StatusTeapot)
		w.Header().Set("Late", "1")
		_, _ = w.Write([]byte("{}"))
	}))
	binary := answer(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte{0xff, 0}) })
	require.True(t, binary.IsBase64Encoded)
	require.Equal(t, base64.StdEncoding.EncodeToString([]byte{0xff, 0}), binary.Body)
}

func TestOtherPayloadsAreRefused(t *testing.T) {
	gateway := NewGateway(http.NotFoundHandler())
	for _, payload := range []string{
		``, `[]`, `{}`, `{"Records":[]}`,
		`{"version":"1.0","requestContext":{"http":{"method":"GET"}}}`,
		`{"version":"2.0","requestContext":{"http":{"method":"G T"}}}`,
		`{"version":"2.0","requestContext":{"http":{"method":"GET"}},"body":"!","isBase64Encoded":true}`,
	} {
		_, err := gateway.Invoke(t.Context(), []byte(payload))
		require.Error(t, err, payload)
	}
}

func TestTheConfigurationNamesWhatIsMissing(t *testing.T) {
	environment := map[string]string{"EVENTS_TABLE": "e", "INBOX_TABLE": "i"}
	_, err := FromEnvironment(RoleConsumer, func(name string) string { return environment[name] })
	require.EqualError(t, err, "environment variable DEAD_LETTERS_TABLE is not set\nenvironment variable STACK is not set\nenvironment variable MAIL_FROM is not set\nenvironment variable MAIL_RATE is not set")
	for i, name := range Variables(RoleConsumer) {
		environment[name] = string(rune('a' + i))
	}
	_, err = FromEnvironment(RoleConsumer, func(name string) string { return environment[name] })
	require.EqualError(t, err, `environment variable MAIL_RATE is "f": want how many mails a second, such as 14 or 0.5`)
	environment["MAIL_RATE"] = "0.5"
	c, err := FromEnvironment(RoleConsumer, func(name string) string { return environment[name] })
	require.NoError(t, err)
	require.Equal(t, Config{EventsTable: "a", InboxTable: "b", DeadLettersTable: "c", Stack: "d", MailFrom: "e", MailRate: 0.5}, c)
}
