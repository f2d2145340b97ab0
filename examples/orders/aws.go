package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// cloud is the AWS that the service runs on, and the way events come back from it.
type cloud struct {
	where    string
	dynamodb *dynamodb.Client
	kinesis  *kinesis.Client
	// consume starts to hand the stream's records to the consumer.
	consume func(*outbox.Consumer) error
	// close drains, and returns when no handler runs any more.
	close func() error
}

// embedded starts an AWS in this process, on a port of the loopback interface. Its Lambda mapping invokes the consumer as
// AWS Lambda would.
func embedded(context.Context) (*cloud, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	local := outboxtest.New()
	server := &http.Server{Handler: local, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()

	endpoint := "http://" + listener.Addr().String()
	cfg := aws.Config{
		Region:       "us-east-1",
		BaseEndpoint: &endpoint,
		Credentials:  credentials.NewStaticCredentialsProvider("local", "local", ""),
		HTTPClient:   outboxtest.BufferedClient(nil),
	}
	return &cloud{
		where:    "with an AWS of its own in this process",
		dynamodb: dynamodb.NewFromConfig(cfg),
		kinesis:  kinesis.NewFromConfig(cfg),
		consume: func(consumer *outbox.Consumer) error {
			_, err := local.Map(outboxtest.EventSource{Stream: eventsStream, ReportBatchItemFailures: true, Timeout: 30 * time.Second}, consumer.Invoke)
			return err
		},
		close: func() error {
			drain, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			err := local.Drain(drain)
			local.Close()
			err = errors.Join(err, server.Close())
			if end := <-served; !errors.Is(end, http.ErrServerClosed) {
				err = errors.Join(err, end)
			}
			return err
		},
	}, nil
}

// configured uses the AWS of the SDK's configuration: credentials, region and endpoints come from where every AWS tool has
// them. Its consumer polls the stream from this process.
func configured(ctx context.Context) (*cloud, error) {
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, err
	}
	if cfg.Region == "" {
		return nil, errors.New("no AWS region is configured: set AWS_REGION")
	}
	c := &cloud{
		where:    "with AWS in " + cfg.Region,
		dynamodb: dynamodb.NewFromConfig(cfg),
		kinesis:  kinesis.NewFromConfig(cfg),
	}
	polling, stop := context.WithCancel(context.WithoutCancel(ctx))
	var pollers sync.WaitGroup
	c.consume = func(consumer *outbox.Consumer) error {
		return pollStream(polling, &pollers, c.kinesis, eventsStream, consumer)
	}
	c.close = func() error {
		stop()
		pollers.Wait()
		return nil
	}
	return c, nil
}
