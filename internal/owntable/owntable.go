// Package owntable creates the library's own DynamoDB tables. They have two keys of type S and a time to live, and are billed per
// request. The package must not know what the tables contain.
package owntable

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox/internal/awserr"
	"github.com/seed-1b628d3f/outbox/internal/backoff"
)

// Creator is what Create needs. *dynamodb.Client satisfies it.
type Creator interface {
	CreateTable(context.Context, *dynamodb.CreateTableInput, ...func(*dynamodb.Options)) (*dynamodb.CreateTableOutput, error)
	DescribeTable(context.Context, *dynamodb.DescribeTableInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTableOutput, error)
	DescribeTimeToLive(context.Context, *dynamodb.DescribeTimeToLiveInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTimeToLiveOutput, error)
	UpdateTimeToLive(context.Context, *dynamodb.UpdateTimeToLiveInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateTimeToLiveOutput, error)
}

// Form is the form of a kind of table.
type Form struct {
	What                 string // for errors, such as "lease table"
	Partition, Sort, TTL string // the attributes
}

// Create makes the table, unless it exists, and waits until it is active. Any number of processes may call Create at once. A table of
// another form is an error.
func (f Form) Create(ctx context.Context, client Creator, table string) error {
	_, err := awserr.Written(client.CreateTable(ctx, &dynamodb.CreateTableInput{
		TableName:   &table,
		BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: &f.Partition, AttributeType: types.ScalarAttributeTypeS},
			{AttributeName: &f.Sort, AttributeType: types.ScalarAttributeTypeS},
		},
		KeySchema: []types.KeySchemaElement{
			{AttributeName: &f.Partition, KeyType: types.KeyTypeHash},
			{AttributeName: &f.Sort, KeyType: types.KeyTypeRange},
		},
	}))
	if exists := (*types.ResourceInUseException)(nil); err != nil && !errors.As(err, &exists) {
		return fmt.Errorf("create %s %s: %w", f.What, table, err)
	}
	if err := f.active(ctx, client, table); err != nil {
		return fmt.Errorf("wait for %s %s: %w", f.What, table, err)
	}
	ttl, err := awserr.Answered(client.DescribeTimeToLive(ctx, &dynamodb.DescribeTimeToLiveInput{TableName: &table}))
	if err != nil {
		return fmt.Errorf("time to live of %s %s: %w", f.What, table, err)
	}
	if d := ttl.TimeToLiveDescription; d != nil {
		switch d.TimeToLiveStatus {
		case types.TimeToLiveStatusEnabled, types.TimeToLiveStatusEnabling:
			if name := aws.ToString(d.AttributeName); name != f.TTL {
				return fmt.Errorf("%s %s has its time to live on %q, not on %s: it is another kind of table", f.What, table, name, f.TTL)
			}
			return nil
		}
	}
	_, err = awserr.Written(client.UpdateTimeToLive(ctx, &dynamodb.UpdateTimeToLiveInput{
		TableName:               &table,
		TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: &f.TTL, Enabled: aws.Bool(true)},
	}))
	if err != nil {
		// Another process may have enabled it meanwhile: then it cannot be changed for an hour.
		again, errAgain := awserr.Answered(client.DescribeTimeToLive(ctx, &dynamodb.DescribeTimeToLiveInput{TableName: &table}))
		if errAgain == nil && again.TimeToLiveDescription != nil && aws.ToString(again.TimeToLiveDescription.AttributeName) == f.TTL {
			return nil
		}
		return fmt.Errorf("time to live of %s %s: %w", f.What, table, err)
	}
	return nil
}

func (f Form) active(ctx context.Context, client Creator, table string) error {
	for {
		out, err := awserr.Answered(client.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &table}))
		// A new table may not be found at first.
		if missing := (*types.ResourceNotFoundException)(nil); err != nil && !errors.As(err, &missing) {
			return err
		}
		if err == nil && out.Table == nil {
			return errors.New("the answer does not describe the table")
		}
		if err == nil && out.Table.TableStatus == types.TableStatusActive {
			return f.check(out.Table)
		}
		if err := backoff.Sleep(ctx, 250*time.Millisecond); err != nil {
			return err
		}
	}
}

func (f Form) check(t *types.TableDescription) error {
	keys := map[types.KeyType]string{}
	for _, k := range t.KeySchema {
		keys[k.KeyType] = aws.ToString(k.AttributeName)
	}
	if keys[types.KeyTypeHash] != f.Partition || keys[types.KeyTypeRange] != f.Sort {
		return fmt.Errorf("it has the keys %q and %q, not %s and %s: it is another kind of table", keys[types.KeyTypeHash], keys[types.KeyTypeRange], f.Partition, f.Sort)
	}
	for _, a := range t.AttributeDefinitions {
		if name := aws.ToString(a.AttributeName); (name == f.Partition || name == f.Sort) && a.AttributeType != types.ScalarAttributeTypeS {
			return fmt.Errorf("its key %s is of type %s, not S: it is another kind of table", name, a.AttributeType)
		}
	}
	return nil
}
