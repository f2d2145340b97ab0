package service

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

func post(t *testing.T, api http.Handler, key, body string) (int, string) {
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
	r.Header.Set("Idempotency-Key", key)
	w := httptest.NewRecorder()
	api.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// instances are APIs with a client each, as in several processes.
func instances(t *testing.T, cloud *outboxtest.AWS, n int) (all []http.Handler) {
	for range n {
		api, err := NewAPI(dynamodb.NewFromConfig(cloud.Config()), local)
		require.NoError(t, err)
		all = append(all, api)
	}
	return all
}

// The first use of a key by many clients at once, through several instances: one of them places the order, and all get the same
// answer. Of two orders under one key, one wins, and the other is refused by every instance.
func TestTheFirstUseOfAKeyAtTheSameTime(t *testing.T) {
	quiet(t)
	cloud := outboxtest.Start(t)
	setUp(t, cloud)
	apis := instances(t, cloud, 4)
	for _, bodies := range [][]string{{`{"description":"two coffees"}`}, {`{"description":"tea"}`, `{"description":"water"}`}} {
		key := bodies[0]
		var mu sync.Mutex
		var wg sync.WaitGroup
		placed, refused := make(map[string]bool), 0
		start := make(chan struct{})
		for i := range 24 {
			wg.Go(func() {
				<-start
				status, answer := post(t, apis[i%len(apis)], key, bodies[i/4%len(bodies)])
				for n := 0; status == http.StatusServiceUnavailable && n < 20; n++ { // transactions that met: a client tries again
					status, answer = post(t, apis[i%len(apis)], key, bodies[i/4%len(bodies)])
				}
				mu.Lock()
				defer mu.Unlock()
				switch status {
				case http.StatusCreated:
					placed[answer] = true
				case http.StatusUnprocessableEntity:
					refused++
				default:
					t.Errorf("%d %s", status, answer)
				}
			})
		}
		close(start)
		wg.Wait()
		require.Len(t, placed, 1)
		require.Equal(t, 24-24/len(bodies), refused)
	}
	requireItems(t, cloud, local.OrdersTable, 2)
	requireItems(t, cloud, local.EventsTable, 2)
}

// The transaction commits and its answer is lost. The client is told that nobody knows; its repeat, which another instance gets, finds
// the order, and no second one.
func TestALostAnswerIsOneOrder(t *testing.T) {
	quiet(t)
	cloud := outboxtest.Start(t)
	setUp(t, cloud)
	apis := instances(t, cloud, 2)
	require.NoError(t, cloud.SetFaults(outboxtest.Fault{Kind: outboxtest.LoseAnswer, Operation: "TransactWriteItems", Probability: 1}))
	status, answer := post(t, apis[0], "k", `{"description":"two coffees"}`)
	require.Equal(t, http.StatusServiceUnavailable, status, answer)
	require.Contains(t, answer, "it is not known whether order "+orderID("k")+" was placed")
	requireItems(t, cloud, local.OrdersTable, 1)

	cloud.StopFaults()
	status, answer = post(t, apis[1], "k", `{"description":"two coffees"}`)
	require.Equal(t, http.StatusCreated, status, answer)
	require.JSONEq(t, `{"orderId":"`+orderID("k")+`"}`, answer)
	requireItems(t, cloud, local.OrdersTable, 1)
	requireItems(t, cloud, local.EventsTable, 1)
}
