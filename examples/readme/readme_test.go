package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// Every Go block of the README stands, line by line, in a Go file of the examples, and so compiles.
func TestReadmeCodeIsCompiled(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	var sources []string
	require.NoError(t, filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") {
			return err
		}
		source, err := os.ReadFile(path)
		sources = append(sources, normal(string(source)))
		return err
	}))
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	require.GreaterOrEqual(t, len(blocks), 3)
	for _, block := range blocks {
		found := false
		for _, source := range sources {
			found = found || strings.Contains(source, normal(block[1]))
		}
		require.Truef(t, found, "this block of the README is in no example:\n%s", block[1])
	}
}

// Every test that README, DESIGN and DEPLOY name exists.
func TestNamedTestsExist(t *testing.T) {
	var tests strings.Builder
	require.NoError(t, filepath.WalkDir("../..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		tests.Write(source)
		return err
	}))
	named := 0
	for _, page := range []string{"README.md", "DESIGN.md", "examples/orders/DEPLOY.md"} {
		text, err := os.ReadFile("../../" + page)
		require.NoError(t, err)
		for _, name := range regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9]+)`").FindAllStringSubmatch(string(text), -1) {
			named++
			require.Containsf(t, tests.String(), "func "+name[1]+"(", "%s names a test that does not exist", page)
		}
	}
	require.Greater(t, named, 10)
}

func TestReadmeConsumerIsComplete(t *testing.T) {
	consumer, err := newConsumer(logMailer{})
	require.NoError(t, err)
	answer, err := consumer.Invoke(t.Context(), []byte(`{"Records":[]}`))
	require.NoError(t, err)
	require.JSONEq(t, `{"batchItemFailures":[]}`, string(answer))
}

// sentMails keeps whom it confirmed.
type sentMails struct {
	mu     sync.Mutex
	orders []string
}

func (s *sentMails) Confirm(_ context.Context, _ string, order OrderCreated) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.orders = append(s.orders, order.OrderID)
	return nil
}

func TestAnOrderIsConfirmed(t *testing.T) {
	aws := outboxtest.Start(t) // aws.DynamoDB and aws.Kinesis are SDK clients
	aws.CreateTable(t, "orders", "orderId")
	aws.CreateOutbox(t, "events", "events", 1)
	writer, err := outbox.NewWriter(aws.DynamoDB, "events")
	require.NoError(t, err)

	require.NoError(t, placeOrder(t.Context(), writer, Order{ID: "42", Description: "two coffees"}))
	outboxtest.RequireEmitted(t, aws.DynamoDB, "events", func(e OrderCreated) bool { return e.OrderID == "42" })

	mail := &sentMails{}
	consumer, err := newConsumer(mail)
	require.NoError(t, err)
	_, err = aws.Map(outboxtest.EventSource{Stream: "events", ReportBatchItemFailures: true}, consumer.Invoke)
	require.NoError(t, err)
	require.NoError(t, aws.Drain(t.Context())) // everything has been delivered and handled
	require.Equal(t, []string{"42"}, mail.orders)
}

// normal removes indentation and blank lines, which differ between a page and a function's body.
func normal(code string) string {
	var lines []string
	for line := range strings.Lines(code) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return "\n" + strings.Join(lines, "\n") + "\n"
}

// charges keeps what the provider was asked for.
type charges struct {
	mu   sync.Mutex
	keys []string
}

func (c *charges) Capture(_ context.Context, key string, _ PaymentConfirmed) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keys = append(c.keys, key)
	return nil
}

// Two functions with an inbox get every event, twice.
func TestTheWarehouseReservesOnce(t *testing.T) {
	aws := outboxtest.Start(t)
	aws.CreateTable(t, "stock", "item")
	aws.CreateTable(t, "payments", "paymentId")
	aws.CreateTable(t, "orders", "orderId")
	aws.CreateOutbox(t, "events", "events", 1)
	writer, err := outbox.NewWriter(aws.DynamoDB, "events")
	require.NoError(t, err)
	provider := &charges{}
	for range 2 {
		warehouse, err := newWarehouse(t.Context(), aws.DynamoDB, writer, provider)
		require.NoError(t, err)
		_, err = aws.Map(outboxtest.EventSource{Stream: "events", ReportBatchItemFailures: true}, warehouse.Invoke)
		require.NoError(t, err)
	}
	require.NoError(t, placeOrder(t.Context(), writer, Order{ID: "42"}))
	require.Equal(t, 200, confirmPayment(t.Context(), writer, Payment{ID: "p", OrderID: "42"}))
	require.NoError(t, aws.Drain(t.Context()))
	require.Equal(t, []string{"PAYMENT_CONFIRMED#p"}, provider.keys)
	outboxtest.RequireEmitted(t, aws.DynamoDB, "events", func(e StockReserved) bool { return e.OrderID == "42" })
	table := "stock"
	stock, err := aws.DynamoDB.Scan(t.Context(), &dynamodb.ScanInput{TableName: &table})
	require.NoError(t, err)
	require.Len(t, stock.Items, 1)
	require.Equal(t, &types.AttributeValueMemberN{Value: "1"}, stock.Items[0]["reserved"])
}

// A mail that cannot be sent is kept, and sent when it can be.
func TestAConfirmationIsKeptUntilItCanBeSent(t *testing.T) {
	aws := outboxtest.Start(t)
	aws.CreateTable(t, "orders", "orderId")
	aws.CreateOutbox(t, "events", "events", 1)
	writer, err := outbox.NewWriter(aws.DynamoDB, "events")
	require.NoError(t, err)
	down := &outage{}
	consumer, err := newConfirmations(t.Context(), aws.DynamoDB, down)
	require.NoError(t, err)
	_, err = aws.Map(outboxtest.EventSource{Stream: "events", ReportBatchItemFailures: true}, consumer.Invoke)
	require.NoError(t, err)
	require.NoError(t, placeOrder(t.Context(), writer, Order{ID: "42"}))
	require.NoError(t, aws.Drain(t.Context()))

	letters, err := outbox.NewDeadLetterTable(aws.DynamoDB, "dead-letters", "confirmations")
	require.NoError(t, err)
	mail := &sentMails{}
	repaired, err := newConfirmations(t.Context(), aws.DynamoDB, mail)
	require.NoError(t, err)
	require.NoError(t, redrive(t.Context(), letters, repaired))
	require.Equal(t, []string{"42"}, mail.orders)
}

type outage struct{}

func (*outage) Confirm(context.Context, string, OrderCreated) error {
	return outbox.Permanent(errors.New("no such address"))
}
