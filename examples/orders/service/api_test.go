package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// started is the API on an AWS of its own.
func started(t *testing.T) (string, *outboxtest.AWS) {
	cloud := outboxtest.Start(t)
	setUp(t, cloud)
	handler, err := NewAPI(cloud.DynamoDB, local)
	require.NoError(t, err)
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL, cloud
}

func TestBadRequestsAreRefused(t *testing.T) {
	url, cloud := started(t)
	for body, reason := range map[string]string{
		``:                                "want a JSON object like {\\\"description\\\":\\\"two coffees\\\"}: the body is empty\"",
		`{`:                               "the body ends too early",
		`[]`:                              ": the body is a JSON array\"",
		`{"description":5}`:               ": description is a JSON number: want a string\"",
		`{}`:                              "the description is empty",
		`{"description":"  "}`:            "the description is empty",
		`{"description":"a"} {}`:          "there is more after the JSON object",
		`{"description":"a","email":"b"}`: "the email: want only an address, like a@example.com\"",
		`{"description":"a","email":"B <b@example.com>"}`:                            "want only an address",
		`{"description":"a","email":"` + strings.Repeat("x", 250) + `@example.com"}`: "the email: it has 262 bytes, at most 254 are allowed",
		`{"description":"` + strings.Repeat("x", maxDescription+1) + `"}`:            "the description has 1001 bytes, at most 1000 are allowed",
		"{\"description\":\"caf\xe9\"}":                                              "the body is not valid UTF-8",
		`{"description":"\ud83d coffee"}`:                                            "a character was lost",
		`{"description":"caf�"}`:                                                     "a character was lost",
		`{"descripton":"a"}`:                                                         `two coffees\"}: unknown field \"descripton\"`,
	} {
		res, err := http.Post(url+"/", "application/json", strings.NewReader(body))
		require.NoError(t, err)
		text, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		res.Body.Close()
		require.Equalf(t, http.StatusBadRequest, res.StatusCode, "%.40s", body)
		require.Containsf(t, string(text), reason, "%.40s", body)
	}
	requireItems(t, cloud, local.OrdersTable, 0)
	requireItems(t, cloud, local.EventsTable, 0)
}

// Every refusal is JSON, with the status that says why.
func TestRefusalsAreJSON(t *testing.T) {
	url, cloud := started(t)
	large := `{"description":"` + strings.Repeat("x", maxBody) + `"}`
	for _, c := range []struct {
		method, path, body string
		status             int
		allow, reason      string
	}{
		{http.MethodPost, "/", large, http.StatusRequestEntityTooLarge, "", "the body is larger than 65536 bytes"},
		{http.MethodGet, "/", "", http.StatusMethodNotAllowed, "POST", "the method GET is not allowed here, want POST"},
		{http.MethodDelete, "/orders/1", "", http.StatusMethodNotAllowed, "GET, HEAD", "the method DELETE is not allowed here, want GET, HEAD"},
		{http.MethodGet, "/orders/1", "", http.StatusNotFound, "", "there is no such order"},
		{http.MethodGet, "/orders/" + strings.Repeat("x", 3000), "", http.StatusNotFound, "", "there is no such order"},
		{http.MethodGet, "/orders", "", http.StatusNotFound, "", "there is nothing here"},
		{http.MethodPost, "/orders/1/2", "{}", http.StatusNotFound, "", "there is nothing here"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, url+c.path, strings.NewReader(c.body))
		require.NoError(t, err)
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		var answer Problem
		require.NoError(t, json.NewDecoder(res.Body).Decode(&answer), "%s %s", c.method, c.path)
		res.Body.Close()
		require.Equal(t, c.status, res.StatusCode, "%s %s", c.method, c.path)
		require.Equal(t, "application/json", res.Header.Get("Content-Type"))
		require.Equal(t, c.allow, res.Header.Get("Allow"))
		require.Equal(t, c.reason, answer.Error)
	}
	requireItems(t, cloud, local.OrdersTable, 0)
}

// curl -d says that its body is a form. What counts is the body.
func TestTheContentTypeDoesNotDecide(t *testing.T) {
	url, cloud := started(t)
	for _, kind := range []string{"application/json", "application/x-www-form-urlencoded", "text/plain"} {
		res, err := http.Post(url+"/", kind, strings.NewReader(`{"description":"two coffees ☕"}`))
		require.NoError(t, err)
		res.Body.Close()
		require.Equal(t, http.StatusCreated, res.StatusCode, kind)
	}
	requireItems(t, cloud, local.OrdersTable, 3)
}

// One key is one order and one event: at once, from two instances at the same time, an hour later. With another body it is
// refused.
func TestAnIdempotencyKeyIsOneOrder(t *testing.T) {
	var mu sync.Mutex
	now := time.Now()
	cloud := outboxtest.Start(t, outboxtest.WithClock(func() time.Time { mu.Lock(); defer mu.Unlock(); return now }))
	setUp(t, cloud)
	var urls []string
	for range 2 {
		handler, err := NewAPI(dynamodb.NewFromConfig(cloud.Config()), local)
		require.NoError(t, err)
		server := httptest.NewServer(handler)
		defer server.Close()
		urls = append(urls, server.URL)
	}
	post := func(instance int, key, description, trace string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, urls[instance]+"/", strings.NewReader(`{"description":"`+description+`"}`))
		if err != nil {
			return 0, err.Error()
		}
		req.Header.Set("Idempotency-Key", key)
		req.Header.Set("Traceparent", trace)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err.Error()
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(body)
	}
	trace := func(n int) string { return fmt.Sprintf("00-%032x-%016x-01", n, n) }

	status, first := post(0, "k", "two coffees", trace(1))
	require.Equal(t, http.StatusCreated, status, first)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if status, body := post(i%2, "k", "two coffees", trace(i)); status != http.StatusCreated || body != first {
				t.Errorf("repeat %d: %d %s", i, status, body)
			}
		})
	}
	wg.Wait()
	mu.Lock()
	now = now.Add(time.Hour)
	mu.Unlock()
	status, later := post(1, "k", "two coffees", trace(99))
	require.Equal(t, http.StatusCreated, status, later)
	require.Equal(t, first, later)

	status, text := post(0, "k", "three coffees", trace(1))
	require.Equal(t, http.StatusUnprocessableEntity, status, text)
	requireItems(t, cloud, local.OrdersTable, 1)
	requireItems(t, cloud, local.EventsTable, 1)

	status, other := post(0, "another key", "two coffees", "")
	require.Equal(t, http.StatusCreated, status, other)
	require.NotEqual(t, first, other)
	requireItems(t, cloud, local.EventsTable, 2)
}

// Every error of the Writer has its answer, and none of them says more than is known.
func TestErrorsAreExplained(t *testing.T) {
	for want, c := range map[int]struct {
		err  error
		text string
	}{
		http.StatusUnprocessableEntity:   {errOtherOrder, "used for another order"},
		http.StatusGone:                  {errRemoved, "was removed"},
		http.StatusNotFound:              {errNoOrder, "no such order"},
		http.StatusRequestEntityTooLarge: {outbox.ErrTooLarge, "too large"},
		http.StatusServiceUnavailable:    {outbox.ErrConflict, "was not placed"},
	} {
		status, text := explain(fmt.Errorf("wrapped: %w", c.err), "1", "placed")
		require.Equal(t, want, status)
		require.Contains(t, text, c.text)
	}
	for done, next := range map[string]string{"placed": "repeat it with the same Idempotency-Key, or look it up", "changed": "look it up before you repeat it"} {
		for _, c := range []struct {
			err    error
			status int
			text   string
		}{
			{errors.New("anything else"), http.StatusInternalServerError, "the order was not " + done},
			{outbox.ErrUnknownOutcome, http.StatusServiceUnavailable, "it is not known whether order 1 was " + done + ": " + next},
			{outbox.ErrConditionFailed, http.StatusServiceUnavailable, "the order was not " + done + ", please try again"},
			{outbox.ErrSequenceTaken, http.StatusServiceUnavailable, "the order was not " + done + ", please try again"},
			{errUnreadable, http.StatusServiceUnavailable, "the order cannot be read at the moment"},
		} {
			status, text := explain(c.err, "1", done)
			require.Equal(t, c.status, status)
			require.Equal(t, c.text, text)
		}
	}
}

// The trace of the request arrives at the handler.
func TestTheTraceTravelsWithTheEvent(t *testing.T) {
	url, cloud := started(t)
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	consumer, err := outbox.NewConsumer()
	require.NoError(t, err)
	arrived := make(chan string, 1)
	outbox.Handle(consumer, func(_ context.Context, e outbox.Event[OrderCreated]) error {
		arrived <- e.Headers["traceparent"]
		return nil
	})
	_, err = cloud.Map(outboxtest.EventSource{Stream: "events", ReportBatchItemFailures: true}, consumer.Invoke)
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/", strings.NewReader(`{"description":"x"}`))
	require.NoError(t, err)
	req.Header.Set("Traceparent", trace)
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	res.Body.Close()
	require.Equal(t, http.StatusCreated, res.StatusCode)
	require.NoError(t, cloud.Drain(t.Context()))
	require.Equal(t, trace, <-arrived)
}

// A trace that is none does not keep an order from being placed.
func TestABadTraceIsLeftOut(t *testing.T) {
	url, _ := started(t)
	for _, trace := range []string{strings.Repeat("\xff", 55), strings.Repeat("x", 55), "00-"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/", strings.NewReader(`{"description":"x"}`))
		require.NoError(t, err)
		req.Header.Set("Traceparent", trace)
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		res.Body.Close()
		require.Equal(t, http.StatusCreated, res.StatusCode, "%q", trace)
	}
}

// A failed transaction is a 5xx and has written nothing.
func TestAFailedTransactionIsNoOrder(t *testing.T) {
	cloud := outboxtest.Start(t)
	cloud.CreateTable(t, local.OrdersTable, "orderId") // and no events table
	handler, err := NewAPI(cloud.DynamoDB, local)
	require.NoError(t, err)
	server := httptest.NewServer(handler)
	defer server.Close()
	res, err := http.Post(server.URL+"/", "application/json", strings.NewReader(`{"description":"x"}`))
	require.NoError(t, err)
	res.Body.Close()
	require.Equal(t, http.StatusInternalServerError, res.StatusCode)
	requireItems(t, cloud, local.OrdersTable, 0)
}
