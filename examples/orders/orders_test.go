package main

import (
	"context"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/examples/orders/service"
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
	var order service.Order
	get(t, url+"/orders/"+id, http.StatusOK, &order)
	require.Equal(t, service.Order{ID: id, Version: 1, Description: "two coffees"}, order)

	var mails []Mail
	for deadline := time.Now().Add(time.Minute); len(mails) == 0; {
		require.True(t, time.Now().Before(deadline), "no confirmation after a minute")
		get(t, url+"/mails", http.StatusOK, &mails)
	}
	require.Len(t, mails, 1)
	require.Equal(t, id, mails[0].OrderID)
	require.Equal(t, "Thank you for your order: two coffees", mails[0].Text)
	require.Equal(t, id+"#1", mails[0].EventID)

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

// A worker confirms, and the next one goes on where it stopped.
func TestWorkersConfirm(t *testing.T) {
	url, cloud, mails := started(t)
	for n := range 2 {
		id := place(t, url, `{"description":"x"}`)
		stop := startWorker(t, cloud, mails)
		for deadline := time.Now().Add(time.Minute); len(mails.latest(math.MaxInt)) == n; time.Sleep(time.Millisecond) {
			require.True(t, time.Now().Before(deadline), "no confirmation after a minute")
		}
		stop()
		require.Equal(t, id, mails.latest(math.MaxInt)[n].OrderID)
	}
}

func TestTheSameEventIsConfirmedOnce(t *testing.T) {
	m := &mailbox{}
	for range 3 {
		require.NoError(t, m.Confirm(t.Context(), "e-1", service.OrderCreated{OrderID: "1"}))
	}
	require.Len(t, m.latest(math.MaxInt), 1)
}

func TestBadArguments(t *testing.T) {
	require.ErrorContains(t, run(t.Context(), []string{"extra"}, io.Discard), `unexpected argument "extra"`)
	require.Error(t, run(t.Context(), []string{"-addr", "nonsense"}, io.Discard))
	require.ErrorContains(t, run(t.Context(), []string{"-aws", "-role", "boss"}, io.Discard), `-role: want api, worker or all, have "boss"`)
	require.ErrorContains(t, run(t.Context(), []string{"-role", "worker"}, io.Discard), "give -aws, too")
	require.ErrorContains(t, run(t.Context(), []string{"-aws", "-role", "api", "-mails"}, io.Discard), "has no /mails")
}
