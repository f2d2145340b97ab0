package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// An outage makes a worker unready, and not dead.
func TestProbesOfAWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := outboxtest.Start(t)
		cloud.CreateOutbox(t, "events", "events", 1)
		leases, err := outbox.NewLeaseTable(cloud.DynamoDB, "leases", "confirmations")
		require.NoError(t, err)
		require.NoError(t, leases.Create(t.Context()))
		consumer, err := newConsumer(&sentMails{})
		require.NoError(t, err)
		worker, err := outbox.NewWorker(cloud.Kinesis, "events", consumer, leases)
		require.NoError(t, err)
		mux := probes(worker)
		ask := func(path string) int {
			answer := httptest.NewRecorder()
			mux.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
			return answer.Code
		}
		require.Equal(t, http.StatusServiceUnavailable, ask("/readyz"))

		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- worker.Run(ctx) }()
		time.Sleep(10 * time.Second)
		require.Equal(t, http.StatusOK, ask("/readyz"))
		heal, err := cloud.Cut("DynamoDB")
		require.NoError(t, err)
		time.Sleep(time.Minute)
		require.Equal(t, http.StatusServiceUnavailable, ask("/readyz"))
		require.Equal(t, http.StatusOK, ask("/livez"))
		heal()
		time.Sleep(time.Minute)
		require.Equal(t, http.StatusOK, ask("/readyz"))
		cancel()
		require.NoError(t, <-done)
	})
}
