package outboxtest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http/httptest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// A server with a stream, a function that is invoked with what is written, and
// the wait until everything has been handled. In a test, [outboxtest.Start] does
// the first three steps.
func Example() {
	ctx := context.Background()
	server := outboxtest.New()
	defer server.Close()
	client := kinesis.NewFromConfig(server.Config())

	_, err := client.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: aws.String("changes"), ShardCount: aws.Int32(2)})
	if err != nil {
		log.Fatal(err)
	}
	_, err = server.Map(outboxtest.EventSource{Stream: "changes"}, func(_ context.Context, payload []byte) ([]byte, error) {
		var event struct {
			Records []struct{ Kinesis struct{ Data []byte } }
		}
		if err := json.Unmarshal(payload, &event); err != nil {
			return nil, err
		}
		fmt.Printf("%s\n", event.Records[0].Kinesis.Data)
		return nil, nil
	})
	if err != nil {
		log.Fatal(err)
	}
	_, err = client.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: aws.String("changes"), PartitionKey: aws.String("k"), Data: []byte("hello")})
	if err != nil {
		log.Fatal(err)
	}
	if err := server.Drain(ctx); err != nil {
		log.Fatal(err)
	}
	// Output: hello
}

// A batch that fails three times is given up; the records behind it go on.
func ExampleServer_Map() {
	ctx := context.Background()
	server := outboxtest.New()
	defer server.Close()
	client := kinesis.NewFromConfig(server.Config())
	_, err := client.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: aws.String("changes"), ShardCount: aws.Int32(1)})
	if err != nil {
		log.Fatal(err)
	}
	for _, data := range []string{"good", "bad", "good"} {
		_, err := client.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: aws.String("changes"), PartitionKey: aws.String("k"), Data: []byte(data)})
		if err != nil {
			log.Fatal(err)
		}
	}
	calls := 0
	_, err = server.Map(outboxtest.EventSource{
		Stream:      "changes",
		BatchSize:   1,
		MaxAttempts: 3,
		OnFailure:   func(f outboxtest.FailedBatch) { fmt.Println(f.Condition, f.Attempts, f.Err) },
	}, func(context.Context, []byte) ([]byte, error) {
		if calls++; calls > 1 && calls < 5 {
			return nil, fmt.Errorf("the mail server is down")
		}
		return nil, nil
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := server.Drain(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(calls, "invocations")
	// Output:
	// RetryAttemptsExhausted 3 the mail server is down
	// 5 invocations
}

// The first two writes fail: one is carried out although its answer is lost, one
// is refused. The SDK hides both.
func ExampleWithFaults() {
	ctx := context.Background()
	server := outboxtest.New(outboxtest.WithFaults(42,
		outboxtest.Fault{Kind: outboxtest.LoseAnswer, Operation: "PutRecord", Calls: []int{1}},
		outboxtest.Fault{Kind: outboxtest.Throttle, Operation: "PutRecord", Calls: []int{2}},
	))
	defer server.Close()
	client := kinesis.NewFromConfig(server.Config())
	_, err := client.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: aws.String("changes"), ShardCount: aws.Int32(1)})
	if err != nil {
		log.Fatal(err)
	}
	_, err = client.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: aws.String("changes"), PartitionKey: aws.String("k"), Data: []byte("once?")})
	fmt.Println("error:", err)

	records := 0
	_, err = server.Map(outboxtest.EventSource{Stream: "changes", BatchSize: 1}, func(context.Context, []byte) ([]byte, error) {
		records++
		return nil, nil
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := server.Drain(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println("records:", records)
	// Output:
	// error: <nil>
	// records: 2
}

// The same server over a real listener, for clients in other processes.
func ExampleBufferedClient() {
	server := outboxtest.New()
	defer server.Close()
	listener := httptest.NewServer(server)
	defer listener.Close()

	config := server.Config()
	config.BaseEndpoint = &listener.URL
	config.HTTPClient = outboxtest.BufferedClient(nil)
	client := kinesis.NewFromConfig(config)
	out, err := client.ListStreams(context.Background(), &kinesis.ListStreamsInput{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(out.StreamNames), "streams")
	// Output: 0 streams
}

// A clock of the test's own: 25 hours pass at once, and a record is gone.
func ExampleWithClock() {
	ctx := context.Background()
	now := time.Date(2024, 6, 1, 12, 0, 0, 0, time.UTC)
	server := outboxtest.New(outboxtest.WithClock(func() time.Time { return now }))
	defer server.Close()
	client := kinesis.NewFromConfig(server.Config())
	_, err := client.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: aws.String("changes"), ShardCount: aws.Int32(1)})
	if err != nil {
		log.Fatal(err)
	}
	_, err = client.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: aws.String("changes"), PartitionKey: aws.String("k"), Data: []byte("old")})
	if err != nil {
		log.Fatal(err)
	}
	now = now.Add(25 * time.Hour)
	it, err := client.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{StreamName: aws.String("changes"),
		ShardId: aws.String("shardId-000000000000"), ShardIteratorType: "TRIM_HORIZON"})
	if err != nil {
		log.Fatal(err)
	}
	out, err := client.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: it.ShardIterator})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(out.Records), "records")
	// Output: 0 records
}
