package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// cloud is the AWS that the service runs on.
type cloud struct {
	where    string
	dynamodb *dynamodb.Client
	kinesis  *kinesis.Client
}

// configured is the AWS of the SDK's configuration: credentials, region and endpoints come from where every AWS tool has them.
func configured(ctx context.Context) (cloud, error) {
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return cloud{}, err
	}
	if cfg.Region == "" {
		return cloud{}, errors.New("no AWS region is configured: set AWS_REGION")
	}
	return cloud{where: "with AWS in " + cfg.Region, dynamodb: dynamodb.NewFromConfig(cfg), kinesis: kinesis.NewFromConfig(cfg)}, nil
}

// embedded is an AWS in this process, on a port of the loopback interface.
type embedded struct {
	cloud
	local  *outboxtest.Server
	server *http.Server
	served chan error
}

func embed() (*embedded, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	e := &embedded{local: outboxtest.New(), served: make(chan error, 1)}
	e.server = &http.Server{Handler: e.local, ReadHeaderTimeout: 5 * time.Second}
	go func() { e.served <- e.server.Serve(listener) }()

	endpoint := "http://" + listener.Addr().String()
	cfg := aws.Config{
		Region:       "us-east-1",
		BaseEndpoint: &endpoint,
		Credentials:  credentials.NewStaticCredentialsProvider("local", "local", ""),
		HTTPClient:   outboxtest.BufferedClient(nil),
	}
	e.cloud = cloud{where: "with an AWS of its own in this process", dynamodb: dynamodb.NewFromConfig(cfg), kinesis: kinesis.NewFromConfig(cfg)}
	return e, nil
}

// invoke makes its Lambda mapping invoke the consumer as AWS Lambda would.
func (e *embedded) invoke(consumer *outbox.Consumer) error {
	_, err := e.local.Map(outboxtest.EventSource{Stream: eventsStream, ReportBatchItemFailures: true, Timeout: 30 * time.Second}, consumer.Invoke)
	return err
}

// loseNext has DynamoDB lose the next event's change record.
func (e *embedded) loseNext() error {
	return e.local.SetFaults(outboxtest.Fault{Kind: outboxtest.DropRecord, Table: eventsTable, Calls: []int{1}})
}

// close drains, and returns when no handler runs any more.
func (e *embedded) close() error {
	drain, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := e.local.Drain(drain)
	e.local.Close()
	err = errors.Join(err, e.server.Close())
	if end := <-e.served; !errors.Is(end, http.ErrServerClosed) {
		err = errors.Join(err, end)
	}
	return err
}
