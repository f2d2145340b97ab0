package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/examples/orders/internal/deployment"
	"github.com/seed-1b628d3f/outbox/examples/orders/service"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// createOwn creates the tables of the library.
func createOwn(t *testing.T, client *dynamodb.Client, inboxTable, lettersTable, leasesTable string) {
	inbox, err := outbox.NewInbox(client, inboxTable, service.Group)
	require.NoError(t, err)
	require.NoError(t, inbox.Create(t.Context()))
	letters, err := outbox.NewDeadLetterTable(client, lettersTable, service.Group)
	require.NoError(t, err)
	require.NoError(t, letters.Create(t.Context()))
	leases, err := outbox.NewLeaseTable(client, leasesTable, service.Group)
	require.NoError(t, err)
	require.NoError(t, leases.Create(t.Context()))
}

// names is the configuration that the programs make of the environment that the deployment gives them.
func names(t *testing.T, d *deployment.Deployment) service.Config {
	read := func(program string, role service.Role) service.Config {
		require.Contains(t, d.Functions, program)
		c, err := service.FromEnvironment(role, func(name string) string { return d.Functions[program].Environment[name] })
		require.NoError(t, err, program)
		return c
	}
	c := read("consumer", service.RoleConsumer)
	c.EventsStream = d.Streams[d.Tables[c.EventsTable].Stream].Name
	require.NotEmpty(t, c.EventsStream)
	require.Equal(t, c, read("redrive", service.RoleRedrive))
	reconcile := c
	reconcile.EventsStream = ""
	require.Equal(t, reconcile, read("reconcile", service.RoleReconcile))
	api := read("api", service.RoleAPI)
	require.Equal(t, c.EventsTable, api.EventsTable)
	c.OrdersTable, c.LeasesTable = api.OrdersTable, "leases"
	for name := range d.Tables {
		if strings.Contains(strings.ToLower(name), "leases") {
			c.LeasesTable = name
		}
	}
	return c
}

// send sends a request to the API and returns its answer.
func send(t *testing.T, api http.Handler, method, path, body, key string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	api.ServeHTTP(w, r)
	return w
}

// to is an order whose confirmation goes to this address.
func to(address string) string {
	return fmt.Sprintf(`{"description":"two coffees","email":%q}`, address)
}

// sender is the only parameter without a default.
func sender(more ...string) map[string]string {
	parameters := map[string]string{"MailFrom": "shop@example.com"}
	for i := 0; i < len(more); i += 2 {
		parameters[more[i]] = more[i+1]
	}
	return parameters
}

// record is how Lambda shows a record of Kinesis.
func record(sequence string, data []byte) events.KinesisEventRecord {
	return events.KinesisEventRecord{
		AwsRegion: "us-east-1", EventID: "shardId-000000000000:" + sequence, EventName: "aws:kinesis:record", EventSource: "aws:kinesis",
		EventSourceArn: "arn:aws:kinesis:us-east-1:123456789012:stream/events", EventVersion: "1.0",
		Kinesis: events.KinesisRecord{Data: data, PartitionKey: "p", SequenceNumber: sequence, KinesisSchemaVersion: "1.0"},
	}
}

// startWorker starts a worker as -aws does. stop ends it, which must go well.
func startWorker(t *testing.T, local *outboxtest.AWS, mails *mailbox) (stop func()) {
	consumer, err := outbox.NewConsumer(outbox.WithTables(eventsTable))
	require.NoError(t, err)
	service.ConfirmOrders(consumer, mails)
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

// place places an order and returns its id.
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

// post sends an empty JSON object, and checks the status.
func post(t *testing.T, url string, want int) {
	answer, err := http.Post(url, "application/json", strings.NewReader("{}"))
	require.NoError(t, err)
	_, _ = io.Copy(io.Discard, answer.Body)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, want, answer.StatusCode, url)
}

// get reads JSON, and checks the status.
func get(t *testing.T, url string, status int, into any) {
	res, err := http.Get(url)
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, status, res.StatusCode)
	require.NoError(t, json.NewDecoder(res.Body).Decode(into))
}

// watched reads the steps that the page gets to see, from the one after the id on.
func watched(t *testing.T, url, after string, enough func(stages []string) bool) (stages []string, last string) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/watch", nil)
	require.NoError(t, err)
	r.Header.Set("Last-Event-ID", after)
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer func() { _ = answer.Body.Close() }()
	require.Equal(t, "text/event-stream", answer.Header.Get("Content-Type"))
	lines := bufio.NewScanner(answer.Body)
	for !enough(stages) && lines.Scan() {
		if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
			last = id
		}
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		var step struct{ Stage, Event string }
		if ok && json.Unmarshal([]byte(data), &step) == nil && step.Stage != "" {
			stages = append(stages, step.Stage)
		}
	}
	require.Truef(t, enough(stages), "the steps end at %q: %v", stages, lines.Err())
	return stages, last
}

// rows reads the text attributes of a whole table.
func rows(t *testing.T, cloud *outboxtest.AWS, table string) (all []map[string]string) {
	pages := dynamodb.NewScanPaginator(cloud.DynamoDB, &dynamodb.ScanInput{TableName: &table, ConsistentRead: aws.Bool(true)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		require.NoError(t, err)
		for _, item := range page.Items {
			row := make(map[string]string)
			for name, value := range item {
				if s, ok := value.(*types.AttributeValueMemberS); ok {
					row[name] = s.Value
				}
			}
			all = append(all, row)
		}
	}
	return all
}

// answer is what a function reports: "response" or "error" to an invocation, or "init/error".
type answer struct {
	kind, id, body string
}
