package service

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// The id of an order does not follow from the one before, not even within a millisecond.
func TestNobodyGuessesTheIDOfAnOrder(t *testing.T) {
	var last ulid.ULID
	for range 1000 {
		text, err := newID()
		require.NoError(t, err)
		id, err := ulid.ParseStrict(text)
		require.NoError(t, err)
		if id.Time() == last.Time() {
			require.NotEqual(t, last.Entropy()[:4], id.Entropy()[:4], "%v comes after %v", id, last)
		}
		last = id
	}
}

// With Authorization NONE, whoever guesses the key of an order finds the order. The address is not in the answer.
func TestTheAnswerKeepsTheAddress(t *testing.T) {
	cloud := outboxtest.Start(t)
	setUp(t, cloud)
	api := instances(t, cloud, 1)[0]
	status, placed := post(t, api, "1", `{"description":"tea","email":"customer@example.com"}`)
	require.Equal(t, http.StatusCreated, status, placed)
	id, err := orderID(keyed("1"))
	require.NoError(t, err)
	w := httptest.NewRecorder()
	api.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/orders/"+id, nil))
	require.Equal(t, http.StatusOK, w.Code)
	require.JSONEq(t, `{"orderId":"`+id+`","version":1,"description":"tea"}`, w.Body.String())
}

func keyed(key string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	r.Header.Set("Idempotency-Key", key)
	return r
}
