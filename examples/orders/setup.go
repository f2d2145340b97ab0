package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
)

const (
	ordersTable  = "orders"
	eventsTable  = "events"
	eventsStream = "events"
)

// patience is how long AWS may take to create a resource.
const patience = 5 * time.Minute

// leasesTable is the lease table of the workers.
const leasesTable = "order-leases"

// setUp creates both tables, the stream, and the destination that connects them, as far as they do not exist. A table that exists
// may be somebody else's: setUp changes nothing of such a table. If its keys differ, setUp fails before it makes anything. In
// production setting up is the job of CloudFormation or Terraform.
func setUp(ctx context.Context, db *dynamodb.Client, streams *kinesis.Client) error {
	for table, key := range map[string]string{ordersTable: "orderId", eventsTable: "eventId"} {
		if err := lookAt(ctx, db, table, key); err != nil {
			return err
		}
	}
	if _, err := createTable(ctx, db, ordersTable, "orderId"); err != nil {
		return err
	}
	mine, err := createTable(ctx, db, eventsTable, "eventId")
	if err != nil {
		return err
	}
	if mine {
		if err := enableTTL(ctx, db, eventsTable, "expiresAt"); err != nil {
			return err
		}
	}
	arn, err := createStream(ctx, streams, eventsStream)
	if err != nil {
		return err
	}
	return connect(ctx, db, eventsTable, arn, mine, othersPatience)
}

// othersPatience is how long another process, which has made a table, may take to connect it.
const othersPatience = time.Minute

// lookAt refuses a table with other keys. A table that is missing is fine.
func lookAt(ctx context.Context, db *dynamodb.Client, table, key string) error {
	out, err := db.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &table})
	if missing := (*dynamodbtypes.ResourceNotFoundException)(nil); errors.As(err, &missing) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("table %s: %w", table, err)
	}
	d := out.Table
	right := d != nil && len(d.KeySchema) == 1 && aws.ToString(d.KeySchema[0].AttributeName) == key &&
		slices.ContainsFunc(d.AttributeDefinitions, func(a dynamodbtypes.AttributeDefinition) bool {
			return aws.ToString(a.AttributeName) == key && a.AttributeType == dynamodbtypes.ScalarAttributeTypeS
		})
	if !right {
		return fmt.Errorf("there is a table %s whose key is not %s (S) alone: it is another application's, and stays as it is", table, key)
	}
	return nil
}

// createTable reports whether it has made the table, and waits until the table is ACTIVE.
func createTable(ctx context.Context, db *dynamodb.Client, table, key string) (mine bool, err error) {
	_, err = db.CreateTable(ctx, &dynamodb.CreateTableInput{
		TableName:            &table,
		AttributeDefinitions: []dynamodbtypes.AttributeDefinition{{AttributeName: &key, AttributeType: dynamodbtypes.ScalarAttributeTypeS}},
		KeySchema:            []dynamodbtypes.KeySchemaElement{{AttributeName: &key, KeyType: dynamodbtypes.KeyTypeHash}},
		BillingMode:          dynamodbtypes.BillingModePayPerRequest,
	})
	if exists := (*dynamodbtypes.ResourceInUseException)(nil); err != nil && !errors.As(err, &exists) {
		return false, fmt.Errorf("create table %s: %w", table, err)
	}
	mine = err == nil
	waiter := dynamodb.NewTableExistsWaiter(db, func(o *dynamodb.TableExistsWaiterOptions) { o.MinDelay, o.MaxDelay = time.Second, 5*time.Second })
	if err := waiter.Wait(ctx, &dynamodb.DescribeTableInput{TableName: &table}, patience); err != nil {
		return mine, fmt.Errorf("table %s: %w", table, err)
	}
	return mine, lookAt(ctx, db, table, key)
}

// enableTTL lets DynamoDB delete rows at the time that their attribute says.
func enableTTL(ctx context.Context, db *dynamodb.Client, table, attribute string) error {
	_, err := db.UpdateTimeToLive(ctx, &dynamodb.UpdateTimeToLiveInput{
		TableName:               &table,
		TimeToLiveSpecification: &dynamodbtypes.TimeToLiveSpecification{AttributeName: &attribute, Enabled: aws.Bool(true)},
	})
	if err != nil {
		return fmt.Errorf("enable the time to live of table %s: %w", table, err)
	}
	return nil
}

// createStream returns the stream's ARN.
func createStream(ctx context.Context, streams *kinesis.Client, name string) (string, error) {
	_, err := streams.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: &name, ShardCount: aws.Int32(1)})
	if exists := (*kinesistypes.ResourceInUseException)(nil); err != nil && !errors.As(err, &exists) {
		return "", fmt.Errorf("create stream %s: %w", name, err)
	}
	for deadline := time.Now().Add(patience); ; {
		out, err := streams.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: &name})
		if err != nil {
			return "", fmt.Errorf("stream %s: %w", name, err)
		}
		d := out.StreamDescriptionSummary
		if d.StreamStatus == kinesistypes.StreamStatusActive || d.StreamStatus == kinesistypes.StreamStatusUpdating {
			return aws.ToString(d.StreamARN), nil
		}
		if err := pause(ctx, deadline); err != nil {
			return "", fmt.Errorf("stream %s is %s: %w", name, d.StreamStatus, err)
		}
	}
}

// awaitStream waits until somebody has created the stream.
func awaitStream(ctx context.Context, streams *kinesis.Client, name string) error {
	waiter := kinesis.NewStreamExistsWaiter(streams, func(o *kinesis.StreamExistsWaiterOptions) { o.MinDelay, o.MaxDelay = time.Second, 5*time.Second })
	if err := waiter.Wait(ctx, &kinesis.DescribeStreamInput{StreamName: &name}, patience); err != nil {
		return fmt.Errorf("stream %s: %w", name, err)
	}
	return nil
}

// connect lets DynamoDB write the table's change records to the stream. Changes made before the destination is ACTIVE do not
// reach the stream, so it waits for that. If the table is not mine, connect waits for whoever has made it.
func connect(ctx context.Context, db *dynamodb.Client, table, streamARN string, mine bool, others time.Duration) error {
	enabled := false
	forOthers := time.Now().Add(others)
	for deadline := time.Now().Add(patience); ; {
		out, err := db.DescribeKinesisStreamingDestination(ctx, &dynamodb.DescribeKinesisStreamingDestinationInput{TableName: &table})
		if err != nil {
			return fmt.Errorf("destination of table %s: %w", table, err)
		}
		status := dynamodbtypes.DestinationStatusDisabled
		for _, d := range out.KinesisDataStreamDestinations {
			if aws.ToString(d.StreamArn) == streamARN {
				status = d.DestinationStatus
			}
		}
		switch status {
		case dynamodbtypes.DestinationStatusActive:
			return nil
		case dynamodbtypes.DestinationStatusDisabled, dynamodbtypes.DestinationStatusEnableFailed:
			if !mine {
				if err := pause(ctx, forOthers); err != nil {
					return fmt.Errorf("table %[1]s exists, and does not write its changes to the stream %[2]s (%[3]w): if the table is this service's, outbox create --table %[1]s --stream %[2]s --leases '' connects it", table, eventsStream, err)
				}
				continue
			}
			if enabled {
				return fmt.Errorf("destination of table %s: %s after it was enabled", table, status)
			}
			enabled = true
			_, err := db.EnableKinesisStreamingDestination(ctx, &dynamodb.EnableKinesisStreamingDestinationInput{
				TableName: &table,
				StreamArn: &streamARN,
				EnableKinesisStreamingConfiguration: &dynamodbtypes.EnableKinesisStreamingConfiguration{
					ApproximateCreationDateTimePrecision: dynamodbtypes.ApproximateCreationDateTimePrecisionMicrosecond,
				},
			})
			if err != nil {
				return fmt.Errorf("enable the destination of table %s: %w", table, err)
			}
			continue // it may be ACTIVE at once
		}
		if err := pause(ctx, deadline); err != nil {
			return fmt.Errorf("destination of table %s is %s: %w", table, status, err)
		}
	}
}

// pause waits a moment, unless ctx or the patience ends.
func pause(ctx context.Context, deadline time.Time) error {
	if time.Now().After(deadline) {
		return errors.New("gave up waiting")
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Second):
		return nil
	}
}
