package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"math"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/examples/orders/service"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// soakVariable is how long TestSoak places orders, such as 10m, for which go test needs a longer -timeout, too.
const (
	soakVariable = "SOAK_DURATION"
	soakDefault  = 3 * time.Second
)

// faults is everything that may go wrong without anything being lost: all but DropRecord.
func faults() (all []outboxtest.Fault) {
	for _, service := range []string{"DynamoDB", "Kinesis"} {
		all = append(all,
			outboxtest.Fault{Kind: outboxtest.LoseAnswer, Service: service, Probability: 0.05},
			outboxtest.Fault{Kind: outboxtest.Throttle, Service: service, Probability: 0.05},
			outboxtest.Fault{Kind: outboxtest.ServerError, Service: service, Probability: 0.05},
			outboxtest.Fault{Kind: outboxtest.Latency, Service: service, Probability: 0.1, Duration: 30 * time.Millisecond},
			outboxtest.Fault{Kind: outboxtest.CutNetwork, Service: service, Probability: 0.05})
	}
	return append(all,
		outboxtest.Fault{Kind: outboxtest.TransactionConflict, Probability: 0.05},
		outboxtest.Fault{Kind: outboxtest.TransactionInProgress, Probability: 0.05},
		outboxtest.Fault{Kind: outboxtest.DuplicateRecord, Probability: 0.1},
		outboxtest.Fault{Kind: outboxtest.DelayRecord, Probability: 0.05, Duration: 300 * time.Millisecond},
		outboxtest.Fault{Kind: outboxtest.ReorderRecord, Probability: 0.2})
}

// Whatever goes wrong: an order that was answered with 201 has one event and one confirmation, and no event or confirmation is
// without its order. Confirmations come both ways, from Lambda and from a Worker, each with a mailbox of its own.
func TestSoak(t *testing.T) {
	quiet(t) // thousands of failures that are meant
	duration := soakDefault
	if text := os.Getenv(soakVariable); text != "" {
		var err error
		duration, err = time.ParseDuration(text)
		require.NoError(t, err, soakVariable)
	}
	cloud := outboxtest.Start(t, outboxtest.WithRandomFaults()) // logs its seed
	cloud.CreateTable(t, ordersTable, "orderId")
	cloud.CreateOutbox(t, eventsTable, eventsStream, 2)
	mailboxes := map[string]*mailbox{"Lambda": {}, "the Worker": {}}
	_, err := cloud.Map(outboxtest.EventSource{Stream: eventsStream, ReportBatchItemFailures: true, Timeout: 30 * time.Second},
		confirming(t, mailboxes["Lambda"]).Invoke)
	require.NoError(t, err)
	defer startWorker(t, cloud, mailboxes["the Worker"])()
	handler, err := newAPI(cloud.DynamoDB, &mailbox{}, false)
	require.NoError(t, err)
	server := httptest.NewServer(handler)
	defer server.Close()

	require.NoError(t, cloud.SetFaults(faults()...))
	placed, refused := storm(t, cloud, server.URL, duration)
	cloud.StopFaults()
	calm, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, cloud.Drain(calm))

	struck := cloud.Struck()
	t.Logf("%v: %d orders placed, %d answers were no 201, faults: %v", duration, len(placed), refused, struck)
	require.NotEmpty(t, placed)
	require.NotEmpty(t, struck, "there was no storm")
	if duration > 30*time.Second { // in less, a rare kind may be missing
		for _, f := range faults() {
			require.NotZero(t, struck[f.Kind], f.Kind)
		}
	}
	lost, reason := cloud.FailedToReplicate(eventsTable)
	require.Zero(t, lost, "records lost on the way to Kinesis: %v", reason)
	orders, events := make(map[string]int), make(map[string]int)
	for _, row := range rows(t, cloud, ordersTable) {
		orders[row["orderId"]]++
	}
	for _, row := range rows(t, cloud, eventsTable) {
		events[row["aggregateId"]]++
	}
	for _, id := range placed {
		require.Equal(t, 1, orders[id], "order %s was answered with 201", id)
	}
	require.Equal(t, orders, events, "one event for every order, and none without")
	for who, m := range mailboxes {
		for end := time.Now().Add(time.Minute); len(m.latest(math.MaxInt)) < len(orders) && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		}
		confirmed := make(map[string]int)
		for _, mail := range m.latest(math.MaxInt) { // one for each event id
			confirmed[mail.OrderID]++
		}
		require.Equal(t, orders, confirmed, "one confirmation from %s for every order, and none without", who)
	}
}

// storm places orders for a while. It returns those that were answered with 201, and how many answers were something else.
func storm(t *testing.T, cloud *outboxtest.AWS, url string, duration time.Duration) (placed []string, refused int) {
	ctx, cancel := context.WithTimeout(t.Context(), duration)
	defer cancel()
	var mu sync.Mutex
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for ctx.Err() == nil {
				key := rand.Text()
				for ok := false; !ok && ctx.Err() == nil; sleep(ctx, 10*time.Millisecond) {
					var id string
					id, ok = order(t, url, key)
					mu.Lock()
					if ok {
						placed = append(placed, id)
					} else {
						refused++
					}
					mu.Unlock()
				}
			}
		})
	}
	workers.Go(func() { // now and again a service is out of reach for a while
		random := mathrand.New(mathrand.NewPCG(cloud.Seed(), 0))
		for ctx.Err() == nil {
			sleep(ctx, time.Duration(random.IntN(1000))*time.Millisecond)
			heal, err := cloud.Cut([]string{"DynamoDB", "Kinesis"}[random.IntN(2)])
			if err != nil {
				t.Error(err)
				return
			}
			sleep(ctx, time.Duration(random.IntN(300))*time.Millisecond)
			heal()
		}
	})
	workers.Wait()
	return placed, refused
}

// order places an order and reports whether it was answered with 201. A client that tries again does so with the same key.
func order(t *testing.T, url, key string) (id string, ok bool) {
	req, err := http.NewRequest(http.MethodPost, url+"/", strings.NewReader(`{"description":"two coffees"}`))
	if err != nil {
		t.Errorf("request: %v", err)
		return "", false
	}
	req.Header.Set("Idempotency-Key", key)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Errorf("the service does not answer: %v", err)
		return "", false
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusCreated {
		if res.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("answer %d: %s", res.StatusCode, body)
		}
		return "", false
	}
	var answer struct{ OrderID string }
	if err == nil {
		err = json.Unmarshal(body, &answer)
	}
	if err != nil || answer.OrderID == "" {
		t.Errorf("201 with %q: %v", body, err)
	}
	return answer.OrderID, true
}

func confirming(t *testing.T, m *mailbox) *outbox.Consumer {
	consumer, err := outbox.NewConsumer(outbox.WithTables(eventsTable))
	require.NoError(t, err)
	service.ConfirmOrders(consumer, m)
	return consumer
}

func quiet(t *testing.T) {
	loud := slog.Default()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	t.Cleanup(func() { slog.SetDefault(loud) })
}
