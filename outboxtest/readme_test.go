package outboxtest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// mailServer is what the handlers of the README's code need, and can be down.
type mailServer struct {
	down bool
	sent []string
}

func (m *mailServer) send(order string) error {
	if m.down {
		return outbox.Permanent(errors.New("the mail server is down"))
	}
	m.sent = append(m.sent, order)
	return nil
}

// service is a service that writes events, and one that sends mails.
func service(t *testing.T, cloud *outboxtest.AWS, mails *mailServer) (*outbox.Writer, *outbox.Consumer, *outbox.DeadLetterTable) {
	letters, err := outbox.NewDeadLetterTable(cloud.DynamoDB, "dead-letters", "mails")
	require.NoError(t, err)
	require.NoError(t, letters.Create(t.Context()))
	consumer, err := outbox.NewConsumer(outbox.WithDeadLetters(letters), outbox.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	outbox.Handle(consumer, func(_ context.Context, e outbox.Event[OrderCreated]) error { return mails.send(e.Data.OrderID) })
	writer, err := outbox.NewWriter(cloud.DynamoDB, "events")
	require.NoError(t, err)
	return writer, consumer, letters
}

// The README's first test.
func TestOrders(t *testing.T) {
	cloud := outboxtest.Start(t)
	cloud.CreateTable(t, "orders", "orderId")
	cloud.CreateOutbox(t, "events", "changes", 2)
	mails := &mailServer{}
	writer, consumer, _ := service(t, cloud, mails)

	_, err := cloud.Map(outboxtest.EventSource{Stream: "changes", ReportBatchItemFailures: true}, consumer.Invoke)
	require.NoError(t, err)
	require.NoError(t, writer.Transact(t.Context(), nil, outbox.NewEvent("order-42", OrderCreated{OrderID: "42"})))
	err = cloud.Drain(t.Context())
	require.NoError(t, err)
	outboxtest.RequireEmitted(t, cloud.DynamoDB, "events", func(e OrderCreated) bool { return e.OrderID == "42" })
	require.Equal(t, []string{"42"}, mails.sent)
}

// The README's second one.
func TestADeadLetterIsRedriven(t *testing.T) {
	cloud := outboxtest.Start(t)
	cloud.CreateOutbox(t, "events", "changes", 1)
	mails := &mailServer{down: true}
	writer, consumer, letters := service(t, cloud, mails)
	_, err := cloud.Map(outboxtest.EventSource{Stream: "changes", ReportBatchItemFailures: true}, consumer.Invoke)
	require.NoError(t, err)

	require.NoError(t, writer.Transact(t.Context(), nil, outbox.NewEvent("order-42", OrderCreated{OrderID: "42"})))
	require.NoError(t, cloud.Drain(t.Context()))
	stored := 0
	for letter, err := range letters.List(t.Context(), outbox.DeadLetterFilter{}) {
		require.NoError(t, err)
		require.Contains(t, letter.Error, "the mail server is down")
		stored++
	}
	require.Equal(t, 1, stored)

	mails.down = false
	result, err := letters.Redrive(t.Context(), consumer, outbox.DeadLetterFilter{}, outbox.RedriveOptions{})
	require.NoError(t, err)
	require.Equal(t, 1, result.Redriven)
	require.Equal(t, []string{"42"}, mails.sent)
}

// The README's third one.
func TestAWorkerIsDrained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := outboxtest.Start(t)
		cloud.CreateOutbox(t, "events", "changes", 2)
		mails := &mailServer{}
		writer, consumer, _ := service(t, cloud, mails)
		leases, err := outbox.NewLeaseTable(cloud.DynamoDB, "leases", "mails")
		require.NoError(t, err)
		require.NoError(t, leases.Create(t.Context()))
		worker, err := outbox.NewWorker(cloud.Kinesis, "changes", consumer, leases)
		require.NoError(t, err)
		ctx, stop := context.WithCancel(t.Context())
		stopped := make(chan error, 1)
		go func() { stopped <- worker.Run(ctx) }()

		require.NoError(t, writer.Transact(t.Context(), nil, outbox.NewEvent("order-42", OrderCreated{OrderID: "42"})))
		require.NoError(t, cloud.DrainWorkers(t.Context(), "changes", "leases", "mails"))
		require.Equal(t, []string{"42"}, mails.sent)
		stop()
		require.NoError(t, <-stopped)
	})
}

// placeOrder is what the README kills: an order that is checked, and written with its event under an id of its own.
func placeOrder(ctx context.Context, client *dynamodb.Client, order string) error {
	writer, err := outbox.NewWriter(client, "events")
	if err != nil {
		return err
	}
	_, err = client.GetItem(ctx, &dynamodb.GetItemInput{TableName: aws.String("orders"), Key: map[string]types.AttributeValue{"orderId": &types.AttributeValueMemberS{Value: order}}})
	if err != nil {
		return err
	}
	e := outbox.NewEvent(order, OrderCreated{OrderID: order})
	e.ID = order
	return writer.Put(ctx, "orders", map[string]string{"orderId": order}, e)
}

// ordered counts the events of an order.
func ordered(t *testing.T, cloud *outboxtest.AWS, order string) (n int) {
	out, err := cloud.DynamoDB.Scan(t.Context(), &dynamodb.ScanInput{TableName: aws.String("events"), FilterExpression: aws.String("aggregateId = :o"),
		ExpressionAttributeValues: map[string]types.AttributeValue{":o": &types.AttributeValueMemberS{Value: order}}})
	require.NoError(t, err)
	return len(out.Items)
}

// The README's fourth one.
func TestAnOrderSurvivesEveryCrash(t *testing.T) {
	cloud := outboxtest.Start(t)
	cloud.CreateTable(t, "orders", "orderId")
	cloud.CreateOutbox(t, "events", "changes", 1)
	rounds := 0
	for n, killed := 1, true; killed; n++ {
		order := fmt.Sprint("order-", n)
		process := cloud.Process(t.Context(), outboxtest.Death{Request: n})
		_ = placeOrder(process.Context(), process.DynamoDB, order)
		killed = process.Killed()
		require.NoError(t, placeOrder(t.Context(), cloud.DynamoDB, order))
		require.Equal(t, 1, ordered(t, cloud, order))
		rounds = n
	}
	require.Equal(t, 3, rounds, "two requests, and a round without a crash")
}

// Every line of Go in the README is one of this file, comments aside, and it names every kind of fault.
func TestTheReadmeIsCompiled(t *testing.T) {
	page, err := os.ReadFile("README.md")
	require.NoError(t, err)
	here, err := os.ReadFile("readme_test.go")
	require.NoError(t, err)
	bare := func(line string) string {
		return strings.TrimSpace(regexp.MustCompile(`(^|\s)//.*`).ReplaceAllString(line, ""))
	}
	known := map[string]bool{"": true}
	for line := range strings.Lines(string(here)) {
		known[bare(line)] = true
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	require.Len(t, blocks, 4)
	for _, block := range blocks {
		for line := range strings.Lines(block[1]) {
			require.True(t, known[bare(line)], "not in readme_test.go: %s", line)
		}
	}
	faults, err := os.ReadFile("faults.go")
	require.NoError(t, err)
	kinds := regexp.MustCompile(`(\w+) FaultKind = "`).FindAllStringSubmatch(string(faults), -1)
	require.Greater(t, len(kinds), 10)
	for _, kind := range kinds {
		require.Contains(t, string(page), "| `"+kind[1]+"` |")
	}
}
