package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// The whole path, through the binary's own entry: request, transaction, change record, handler, mail.
func TestAnOrderIsConfirmed(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	in, out := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, []string{"-addr", "127.0.0.1:0"}, out) }()
	buffer := make([]byte, 4096)
	n, err := in.Read(buffer)
	require.NoError(t, err)
	go func() { _, _ = io.Copy(io.Discard, in) }()
	url := regexp.MustCompile(`http://[0-9.:]+`).FindString(string(buffer[:n]))
	require.NotEmpty(t, url)

	id := place(t, url, `{"description":" two coffees "}`)
	var order Order
	get(t, url+"/orders/"+id, http.StatusOK, &order)
	require.Equal(t, Order{ID: id, Description: "two coffees"}, order)

	var mails []Mail
	for deadline := time.Now().Add(10 * time.Second); len(mails) == 0; {
		require.True(t, time.Now().Before(deadline), "no confirmation after 10 seconds")
		get(t, url+"/mails", http.StatusOK, &mails)
	}
	require.Len(t, mails, 1)
	require.Equal(t, id, mails[0].OrderID)
	require.Equal(t, "Thank you for your order: two coffees", mails[0].Text)
	require.Equal(t, "ORDER_CREATED#"+id, mails[0].EventID)

	get(t, url+"/orders/nothing", http.StatusNotFound, &map[string]string{})
	stop()
	require.NoError(t, <-ended)
}

// started is a service on an AWS of its own.
func started(t *testing.T) (string, *outboxtest.AWS, *mailbox) {
	cloud := outboxtest.Start(t)
	require.NoError(t, setUp(t.Context(), cloud.DynamoDB, cloud.Kinesis))
	mails := &mailbox{}
	handler, err := newAPI(cloud.DynamoDB, mails, true)
	require.NoError(t, err)
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL, cloud, mails
}

func TestBadRequestsAreRefused(t *testing.T) {
	url, cloud, _ := started(t)
	for body, reason := range map[string]string{
		``:                       "want a JSON object",
		`{`:                      "want a JSON object",
		`[]`:                     "want a JSON object",
		`{"description":5}`:      "want a JSON object",
		`{}`:                     "the description is empty",
		`{"description":"  "}`:   "the description is empty",
		`{"description":"a"} {}`: "there is more after the JSON object",
		`{"description":"` + strings.Repeat("x", maxDescription+1) + `"}`: "the description has 1001 bytes, at most 1000 are allowed",
		`{"description":"` + strings.Repeat("x", maxBody) + `"}`:          "the body is larger than 65536 bytes",
	} {
		res, err := http.Post(url+"/", "application/json", strings.NewReader(body))
		require.NoError(t, err)
		text, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		res.Body.Close()
		require.Equalf(t, http.StatusBadRequest, res.StatusCode, "%.40s", body)
		require.Containsf(t, string(text), reason, "%.40s", body)
	}
	requireItems(t, cloud, ordersTable, 0)
	requireItems(t, cloud, eventsTable, 0)
}

// One key is one order and one event: at once, from two instances at the same time, an hour later. With another body it is
// refused.
func TestAnIdempotencyKeyIsOneOrder(t *testing.T) {
	var mu sync.Mutex
	now := time.Now()
	cloud := outboxtest.Start(t, outboxtest.WithClock(func() time.Time { mu.Lock(); defer mu.Unlock(); return now }))
	require.NoError(t, setUp(t.Context(), cloud.DynamoDB, cloud.Kinesis))
	var urls []string
	for range 2 {
		handler, err := newAPI(dynamodb.NewFromConfig(cloud.Config()), &mailbox{}, true)
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
	requireItems(t, cloud, ordersTable, 1)
	requireItems(t, cloud, eventsTable, 1)

	status, other := post(0, "another key", "two coffees", "")
	require.Equal(t, http.StatusCreated, status, other)
	require.NotEqual(t, first, other)
	requireItems(t, cloud, eventsTable, 2)
}

// Every error of the Writer has its answer, and none of them says more than is known.
func TestErrorsAreExplained(t *testing.T) {
	for want, c := range map[int]struct {
		err  error
		text string
	}{
		http.StatusUnprocessableEntity:   {outbox.ErrEventConflict, "used for another order"},
		http.StatusRequestEntityTooLarge: {outbox.ErrTooLarge, "too large"},
		http.StatusServiceUnavailable:    {outbox.ErrConflict, "was not placed"},
	} {
		status, text := explain(fmt.Errorf("wrapped: %w", c.err), Order{ID: "1"})
		require.Equal(t, want, status)
		require.Contains(t, text, c.text)
	}
	status, text := explain(errors.New("anything else"), Order{ID: "1"})
	require.Equal(t, http.StatusInternalServerError, status)
	require.Equal(t, "the order was not placed", text)
	status, text = explain(outbox.ErrUnknownOutcome, Order{ID: "1"})
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, text, "not known whether order 1 was placed")
}

// The trace of the request arrives at the handler.
func TestTheTraceTravelsWithTheEvent(t *testing.T) {
	url, cloud, _ := started(t)
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	consumer, err := outbox.NewConsumer()
	require.NoError(t, err)
	arrived := make(chan string, 1)
	outbox.Handle(consumer, func(_ context.Context, e outbox.Event[OrderCreated]) error {
		arrived <- e.Headers["traceparent"]
		return nil
	})
	_, err = cloud.Map(outboxtest.EventSource{Stream: eventsStream, ReportBatchItemFailures: true}, consumer.Invoke)
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

// A failed transaction is a 5xx and has written nothing.
func TestAFailedTransactionIsNoOrder(t *testing.T) {
	cloud := outboxtest.Start(t)
	require.NoError(t, createTable(t.Context(), cloud.DynamoDB, ordersTable, "orderId")) // and no events table
	handler, err := newAPI(cloud.DynamoDB, &mailbox{}, true)
	require.NoError(t, err)
	server := httptest.NewServer(handler)
	defer server.Close()
	res, err := http.Post(server.URL+"/", "application/json", strings.NewReader(`{"description":"x"}`))
	require.NoError(t, err)
	res.Body.Close()
	require.Equal(t, http.StatusInternalServerError, res.StatusCode)
	requireItems(t, cloud, ordersTable, 0)
}

// startWorker starts a worker as -aws does. stop ends it, which must go well.
func startWorker(t *testing.T, local *outboxtest.AWS, mails *mailbox) (stop func()) {
	consumer, err := outbox.NewConsumer(outbox.WithTables(eventsTable))
	require.NoError(t, err)
	confirmOrders(consumer, mails)
	set, err := parse([]string{"-aws"})
	require.NoError(t, err)
	worker, err := newWorker(t.Context(), cloud{dynamodb: local.DynamoDB, kinesis: local.Kinesis}, set, consumer, outbox.WorkerHooks{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- worker.Run(ctx) }()
	return func() {
		cancel()
		require.NoError(t, <-ended)
	}
}

// A worker confirms, and the next one goes on where it stopped.
func TestWorkersConfirm(t *testing.T) {
	url, cloud, mails := started(t)
	for n := range 2 {
		id := place(t, url, `{"description":"x"}`)
		stop := startWorker(t, cloud, mails)
		for deadline := time.Now().Add(10 * time.Second); len(mails.all()) == n; time.Sleep(time.Millisecond) {
			require.True(t, time.Now().Before(deadline), "no confirmation after 10 seconds")
		}
		stop()
		require.Equal(t, id, mails.all()[n].OrderID)
	}
}

func TestTheSameEventIsConfirmedOnce(t *testing.T) {
	m := &mailbox{}
	for range 3 {
		require.NoError(t, m.Confirm(t.Context(), "e-1", OrderCreated{OrderID: "1"}))
	}
	require.Len(t, m.all(), 1)
}

func TestBadArguments(t *testing.T) {
	require.ErrorContains(t, run(t.Context(), []string{"extra"}, io.Discard), `unexpected argument "extra"`)
	require.Error(t, run(t.Context(), []string{"-addr", "nonsense"}, io.Discard))
	require.ErrorContains(t, run(t.Context(), []string{"-aws", "-role", "boss"}, io.Discard), `-role: want api, worker or all, have "boss"`)
	require.ErrorContains(t, run(t.Context(), []string{"-role", "worker"}, io.Discard), "give -aws, too")
	require.ErrorContains(t, run(t.Context(), []string{"-aws", "-role", "api", "-mails"}, io.Discard), "has no /mails")
}

func place(t *testing.T, url, body string) string {
	res, err := http.Post(url+"/", "application/json", bytes.NewReader([]byte(body)))
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, http.StatusCreated, res.StatusCode)
	var answer map[string]string
	require.NoError(t, json.NewDecoder(res.Body).Decode(&answer))
	require.Len(t, answer["orderId"], 26)
	return answer["orderId"]
}

func get(t *testing.T, url string, status int, into any) {
	res, err := http.Get(url)
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, status, res.StatusCode)
	require.NoError(t, json.NewDecoder(res.Body).Decode(into))
}

func requireItems(t *testing.T, cloud *outboxtest.AWS, table string, want int64) {
	t.Helper()
	out, err := cloud.DynamoDB.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: aws.String(table)})
	require.NoError(t, err)
	require.Equalf(t, want, aws.ToInt64(out.Table.ItemCount), "items in table %s", table)
}
