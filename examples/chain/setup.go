package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/seed-1b628d3f/outbox"
)

// shards is how many each stream has: copies of one record can reach two workers at once.
const shards = 2

// patience is how long AWS may take to create a resource.
const patience = 5 * time.Minute

// creator makes what the services need, and removes it. In production this is the job of CloudFormation or Terraform.
type creator struct {
	db      *dynamodb.Client
	streams *kinesis.Client
	made    struct{ tables, streams []string }
}

// service creates a table for its rows, and the outbox: the events table, and the stream that DynamoDB carries its changes to.
func (c *creator) service(ctx context.Context, s service, key, carriedTo string) error {
	if err := c.table(ctx, s.rows(), key); err != nil {
		return err
	}
	if err := c.table(ctx, s.events(), "eventId"); err != nil {
		return err
	}
	if err := c.stream(ctx, s.stream()); err != nil {
		return err
	}
	if carriedTo != s.stream() {
		if err := c.stream(ctx, carriedTo); err != nil {
			return err
		}
	}
	return c.connect(ctx, s.events(), carriedTo)
}

// handling creates the library's tables for a service that handles events of others.
func (c *creator) handling(ctx context.Context, s service) error {
	inbox, err := outbox.NewInbox(c.db, s.inbox(), s.name)
	if err != nil {
		return err
	}
	letters, err := outbox.NewDeadLetterTable(c.db, s.letters(), s.name)
	if err != nil {
		return err
	}
	leases, err := outbox.NewLeaseTable(c.db, s.leases(), s.name)
	if err != nil {
		return err
	}
	c.made.tables = append(c.made.tables, s.inbox(), s.letters(), s.leases())
	for _, create := range []func(context.Context) error{inbox.Create, letters.Create, leases.Create} {
		if err := create(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *creator) table(ctx context.Context, name, key string) error {
	c.made.tables = append(c.made.tables, name)
	_, err := c.db.CreateTable(ctx, &dynamodb.CreateTableInput{
		TableName:            &name,
		AttributeDefinitions: []dynamodbtypes.AttributeDefinition{{AttributeName: &key, AttributeType: dynamodbtypes.ScalarAttributeTypeS}},
		KeySchema:            []dynamodbtypes.KeySchemaElement{{AttributeName: &key, KeyType: dynamodbtypes.KeyTypeHash}},
		BillingMode:          dynamodbtypes.BillingModePayPerRequest,
	})
	if err == nil {
		waiter := dynamodb.NewTableExistsWaiter(c.db, func(o *dynamodb.TableExistsWaiterOptions) { o.MinDelay, o.MaxDelay = time.Second, 5*time.Second })
		err = waiter.Wait(ctx, &dynamodb.DescribeTableInput{TableName: &name}, patience)
	}
	if err != nil {
		return fmt.Errorf("table %s: %w", name, err)
	}
	return nil
}

func (c *creator) stream(ctx context.Context, name string) error {
	c.made.streams = append(c.made.streams, name)
	_, err := c.streams.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: &name, ShardCount: aws.Int32(shards),
		StreamModeDetails: &kinesistypes.StreamModeDetails{StreamMode: kinesistypes.StreamModeProvisioned}})
	if err == nil {
		waiter := kinesis.NewStreamExistsWaiter(c.streams, func(o *kinesis.StreamExistsWaiterOptions) { o.MinDelay, o.MaxDelay = time.Second, 5*time.Second })
		err = waiter.Wait(ctx, &kinesis.DescribeStreamInput{StreamName: &name}, patience)
	}
	if err != nil {
		return fmt.Errorf("stream %s: %w", name, err)
	}
	return nil
}

// connect returns when DynamoDB carries the table's changes to the stream: earlier ones would be lost.
func (c *creator) connect(ctx context.Context, table, stream string) error {
	described, err := c.streams.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: &stream})
	if err != nil {
		return fmt.Errorf("stream %s: %w", stream, err)
	}
	_, err = c.db.EnableKinesisStreamingDestination(ctx, &dynamodb.EnableKinesisStreamingDestinationInput{
		TableName: &table, StreamArn: described.StreamDescriptionSummary.StreamARN,
		EnableKinesisStreamingConfiguration: &dynamodbtypes.EnableKinesisStreamingConfiguration{
			ApproximateCreationDateTimePrecision: dynamodbtypes.ApproximateCreationDateTimePrecisionMicrosecond,
		},
	})
	if err != nil {
		return fmt.Errorf("destination of table %s: %w", table, err)
	}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); sleep(ctx, time.Second) {
		out, err := c.db.DescribeKinesisStreamingDestination(ctx, &dynamodb.DescribeKinesisStreamingDestinationInput{TableName: &table})
		if err != nil {
			return fmt.Errorf("destination of table %s: %w", table, err)
		}
		for _, d := range out.KinesisDataStreamDestinations {
			if d.DestinationStatus == dynamodbtypes.DestinationStatusActive {
				return nil
			}
		}
	}
	return fmt.Errorf("destination of table %s: not active after %s", table, patience)
}

// remove deletes everything that was made, as far as it can.
func (c *creator) remove(ctx context.Context) error {
	var errs []error
	for _, name := range c.made.tables {
		_, err := c.db.DeleteTable(ctx, &dynamodb.DeleteTableInput{TableName: &name})
		if missing := (*dynamodbtypes.ResourceNotFoundException)(nil); err != nil && !errors.As(err, &missing) {
			errs = append(errs, fmt.Errorf("delete table %s: %w", name, err))
		}
	}
	for _, name := range c.made.streams {
		_, err := c.streams.DeleteStream(ctx, &kinesis.DeleteStreamInput{StreamName: &name})
		if missing := (*kinesistypes.ResourceNotFoundException)(nil); err != nil && !errors.As(err, &missing) {
			errs = append(errs, fmt.Errorf("delete stream %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
