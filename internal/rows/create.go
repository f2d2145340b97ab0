package rows

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// Creator is what Create needs. *dynamodb.Client satisfies it.
type Creator interface {
	CreateTable(context.Context, *dynamodb.CreateTableInput, ...func(*dynamodb.Options)) (*dynamodb.CreateTableOutput, error)
	DescribeTable(context.Context, *dynamodb.DescribeTableInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTableOutput, error)
	DescribeTimeToLive(context.Context, *dynamodb.DescribeTimeToLiveInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTimeToLiveOutput, error)
	UpdateTimeToLive(context.Context, *dynamodb.UpdateTimeToLiveInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateTimeToLiveOutput, error)
}

// Form is what a table looks like. Both keys are strings.
type Form struct {
	What      string // for errors: "lease table"
	Partition string // the partition key
	Sort      string // the sort key
	TTL       string // the attribute of its time to live
}

// Create makes a table, billed per request and with time to live, unless there is one, and waits until it is active. Any number
// of processes may call it at once. A table of another form is an error.
func Create(ctx context.Context, client Creator, table string, f Form) error {
	_, err := client.CreateTable(ctx, &dynamodb.CreateTableInput{
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
	})
	if exists := (*types.ResourceInUseException)(nil); err != nil && !errors.As(err, &exists) {
		return fmt.Errorf("create %s %s: %w", f.What, table, err)
	}
	if err := f.active(ctx, client, table); err != nil {
		return fmt.Errorf("wait for %s %s: %w", f.What, table, err)
	}
	if err := f.enableTTL(ctx, client, table); err != nil {
		return fmt.Errorf("time to live of %s %s: %w", f.What, table, err)
	}
	return nil
}

func (f Form) enableTTL(ctx context.Context, client Creator, table string) error {
	on, err := f.hasTTL(ctx, client, table)
	if on || err != nil {
		return err
	}
	_, err = client.UpdateTimeToLive(ctx, &dynamodb.UpdateTimeToLiveInput{
		TableName:               &table,
		TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: &f.TTL, Enabled: aws.Bool(true)},
	})
	if err != nil {
		// Somebody else may have switched it on meanwhile: then it cannot be changed again for an hour.
		if on, _ := f.hasTTL(ctx, client, table); on {
			return nil
		}
	}
	return err
}

func (f Form) hasTTL(ctx context.Context, client Creator, table string) (bool, error) {
	ttl, err := client.DescribeTimeToLive(ctx, &dynamodb.DescribeTimeToLiveInput{TableName: &table})
	if err != nil || ttl.TimeToLiveDescription == nil {
		return false, err
	}
	switch ttl.TimeToLiveDescription.TimeToLiveStatus {
	case types.TimeToLiveStatusEnabled, types.TimeToLiveStatusEnabling:
		if name := aws.ToString(ttl.TimeToLiveDescription.AttributeName); name != f.TTL {
			return false, fmt.Errorf("it is on %q, not on %s: it is another kind of table", name, f.TTL)
		}
		return true, nil
	}
	return false, nil
}

func (f Form) active(ctx context.Context, client Creator, table string) error {
	for {
		out, err := client.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &table})
		// A table that has just been made may not be found at first.
		if missing := (*types.ResourceNotFoundException)(nil); err != nil && !errors.As(err, &missing) {
			return err
		}
		if err == nil && out.Table.TableStatus == types.TableStatusActive {
			return f.check(out.Table)
		}
		timer := time.NewTimer(250 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

func (f Form) check(t *types.TableDescription) error {
	keys := map[types.KeyType]string{}
	for _, k := range t.KeySchema {
		keys[k.KeyType] = aws.ToString(k.AttributeName)
	}
	if keys[types.KeyTypeHash] != f.Partition || keys[types.KeyTypeRange] != f.Sort {
		return fmt.Errorf("it has the keys %q and %q, not %s and %s: it is another kind of table",
			keys[types.KeyTypeHash], keys[types.KeyTypeRange], f.Partition, f.Sort)
	}
	return nil
}
