package outboxtest_test

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// demo stands in for the *testing.T of a test, which an example has not got.
type demo struct{ cleanups []func() }

func (d *demo) Helper()                   {}
func (d *demo) Context() context.Context  { return context.Background() }
func (d *demo) Logf(string, ...any)       {}
func (d *demo) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }
func (d *demo) Cleanup(f func())          { d.cleanups = append(d.cleanups, f) }

func (d *demo) end() {
	for _, f := range d.cleanups {
		f()
	}
}

// OrderCreated is an event, as the library knows it.
type OrderCreated struct {
	OrderID string `json:"orderId"`
}

func (OrderCreated) EventType() string { return "ORDER_CREATED" }

// A test of a service, from what it writes to what its function is told.
func ExampleStart() {
	t := &demo{} // in a test: t *testing.T
	defer t.end()

	cloud := outboxtest.Start(t)
	cloud.CreateTable(t, "orders", "orderId")
	cloud.CreateOutbox(t, "events", "changes", 2)
	_, err := cloud.Map(outboxtest.EventSource{Stream: "changes"}, func(_ context.Context, payload []byte) ([]byte, error) {
		var event struct {
			Records []struct{ Kinesis struct{ Data []byte } }
		}
		if err := json.Unmarshal(payload, &event); err != nil {
			return nil, err
		}
		var change struct{ EventName, TableName string }
		err := json.Unmarshal(event.Records[0].Kinesis.Data, &change)
		fmt.Println("the function sees:", change.EventName, change.TableName)
		return nil, err
	})
	if err != nil {
		t.Fatalf("%v", err)
	}

	// What the service under test does.
	text := func(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }
	_, err = cloud.DynamoDB.TransactWriteItems(t.Context(), &dynamodb.TransactWriteItemsInput{TransactItems: []types.TransactWriteItem{
		{Put: &types.Put{TableName: aws.String("orders"), Item: map[string]types.AttributeValue{"orderId": text("42")}}},
		{Put: &types.Put{TableName: aws.String("events"), Item: map[string]types.AttributeValue{
			"eventId": text("e-1"), "type": text("ORDER_CREATED"), "payload": text(`{"orderId":"42"}`)}}},
	}})
	if err != nil {
		t.Fatalf("%v", err)
	}

	if err := cloud.Drain(t.Context()); err != nil {
		t.Fatalf("%v", err)
	}
	event := outboxtest.RequireEmitted(t, cloud.DynamoDB, "events", func(e OrderCreated) bool { return e.OrderID == "42" })
	outboxtest.RequireNotEmitted(t, cloud.DynamoDB, "events", func(e OrderCreated) bool { return e.OrderID == "43" })
	fmt.Println("emitted:", event.OrderID)
	// Output:
	// the function sees: INSERT events
	// emitted: 42
}

// A tenth of all answers gets lost, in every run others. In a test, Start logs
// the seed, and the environment variable OUTBOXTEST_SEED replays it.
func ExampleWithRandomFaults() {
	t := &demo{}
	defer t.end()
	cloud := outboxtest.Start(t, outboxtest.WithRandomFaults(outboxtest.Fault{Kind: outboxtest.LoseAnswer, Service: "DynamoDB", Probability: 0.1}))
	cloud.CreateOutbox(t, "events", "changes", 2) // goes past the faults
	written := 0
	for range 100 {
		// The SDK tries again, and so does a service whose attempts were not enough.
		for attempt := 0; attempt < 10; attempt++ {
			_, err := cloud.DynamoDB.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("events"),
				Item: map[string]types.AttributeValue{"eventId": &types.AttributeValueMemberS{Value: fmt.Sprint(written)}}})
			if err == nil {
				written++
				break
			}
		}
	}
	fmt.Println(written, "written")
	// Output: 100 written
}

// Kinesis is out of reach for a while, DynamoDB is not.
func ExampleServer_Cut() {
	t := &demo{}
	defer t.end()
	cloud := outboxtest.Start(t)
	heal, err := cloud.Cut("Kinesis")
	if err != nil {
		t.Fatalf("%v", err)
	}
	_, err = cloud.Kinesis.ListStreams(t.Context(), nil)
	fmt.Println("Kinesis answers:", err == nil)
	_, err = cloud.DynamoDB.ListTables(t.Context(), nil)
	fmt.Println("DynamoDB answers:", err == nil)
	heal()
	_, err = cloud.Kinesis.ListStreams(t.Context(), nil)
	fmt.Println("healed:", err == nil)
	// Output:
	// Kinesis answers: false
	// DynamoDB answers: true
	// healed: true
}
