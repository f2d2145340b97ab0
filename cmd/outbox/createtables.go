package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox/internal/names"
	"github.com/seed-1b628d3f/outbox/replay"
)

// tableSpec is the form of a table that the library needs.
type tableSpec struct {
	what            string
	partition, sort string
	ttl             string
	ttlOf           string // which rows have one, if not all
}

// The forms of the tables. Keys are strings.
var (
	eventsSpec      = tableSpec{what: "events table", partition: "eventId", ttl: "expiresAt"}
	leasesSpec      = tableSpec{what: "lease table", partition: "group", sort: "id", ttl: "ttl"}
	inboxSpec       = tableSpec{what: "inbox table", partition: "eventId", sort: "consumer", ttl: "expiresAt"}
	deadLettersSpec = tableSpec{what: "dead letter table", partition: "group", sort: "id", ttl: "expiresAt", ttlOf: "requests and counts, not letters"}
)

// table looks at a table, and plans to make it with its time to live.
func (k *creator) table(ctx context.Context, spec tableSpec, name string) error {
	err := k.until(ctx, spec.what+" "+name, func() (bool, error) {
		there, err := k.describeTable(ctx, spec, name)
		k.tables[name] = there
		return there == nil || there.TableStatus == dynamodbtypes.TableStatusActive, err
	})
	if err != nil {
		return err
	}
	result := created{Resource: spec.what, Name: name, Action: "created"}
	if k.tables[name] == nil {
		k.then(func(ctx context.Context) error { return k.makeTable(ctx, spec, result) })
		return nil
	}
	result.Action = "exists"
	if spec.ttl == "" {
		k.then(func(context.Context) error { k.add(result); return nil })
		return nil
	}
	result.Detail = "time to live " + spec.livesOn()
	on, err := k.livesOn(ctx, name, spec.ttl)
	if err != nil {
		return fmt.Errorf("time to live of the %s %s: %w", spec.what, name, err)
	}
	if !on {
		result.Action = "changed"
		k.change("turn on time to live of the %s %s: from then on DynamoDB deletes its rows whose %q is a time in the past", spec.what, name, spec.ttl)
	}
	k.then(func(ctx context.Context) error {
		if !on {
			if err := k.enableTTL(ctx, spec, name); err != nil {
				return err
			}
		}
		k.add(result)
		return nil
	})
	return nil
}

// describeTable returns a table, or nil if it is not there. A table of another kind is an error.
func (k *creator) describeTable(ctx context.Context, spec tableSpec, name string) (*dynamodbtypes.TableDescription, error) {
	out, err := k.dynamodb.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &name})
	if missing := (*dynamodbtypes.ResourceNotFoundException)(nil); errors.As(err, &missing) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if out.Table == nil {
		return nil, errors.New("the answer does not describe the table")
	}
	if what := spec.unsaid(out.Table, name); what != "" {
		return nil, fmt.Errorf("the answer does not say %s", what)
	}
	if wrong := spec.wrongKeys(out.Table); wrong != "" {
		return nil, fmt.Errorf("there is a table of this name with other keys: %s", wrong)
	}
	if out.Table.TableStatus == dynamodbtypes.TableStatusDeleting {
		return nil, errors.New("the table is being deleted: call again when it is gone")
	}
	return out.Table, nil
}

// makeTable makes a table that was not there.
func (k *creator) makeTable(ctx context.Context, spec tableSpec, result created) error {
	name := result.Name
	in := &dynamodb.CreateTableInput{TableName: &name, BillingMode: dynamodbtypes.BillingModePayPerRequest}
	for i, key := range slices.DeleteFunc([]string{spec.partition, spec.sort}, func(key string) bool { return key == "" }) {
		in.AttributeDefinitions = append(in.AttributeDefinitions, dynamodbtypes.AttributeDefinition{AttributeName: aws.String(key), AttributeType: dynamodbtypes.ScalarAttributeTypeS})
		in.KeySchema = append(in.KeySchema, dynamodbtypes.KeySchemaElement{AttributeName: aws.String(key),
			KeyType: []dynamodbtypes.KeyType{dynamodbtypes.KeyTypeHash, dynamodbtypes.KeyTypeRange}[i]})
	}
	_, err := k.dynamodb.CreateTable(ctx, in)
	if exists := (*dynamodbtypes.ResourceInUseException)(nil); errors.As(err, &exists) {
		return fmt.Errorf("create the %s %s: somebody else has made it a moment ago: call again", spec.what, name)
	} else if err != nil {
		return fmt.Errorf("create the %s %s: %w", spec.what, name, err)
	}
	err = k.until(ctx, spec.what+" "+name, func() (bool, error) {
		there, err := k.describeTable(ctx, spec, name) // not there is one that was made a moment ago
		return there != nil && there.TableStatus == dynamodbtypes.TableStatusActive, err
	})
	if err != nil {
		return err
	}
	if spec.ttl != "" {
		if err := k.enableTTL(ctx, spec, name); err != nil {
			return err
		}
		result.Detail = "time to live " + spec.livesOn()
	}
	k.add(result)
	return nil
}

// livesOn names the attribute of the time to live.
func (s tableSpec) livesOn() string {
	if s.ttlOf == "" {
		return "on " + s.ttl
	}
	return "on " + s.ttl + " (" + s.ttlOf + ")"
}

// unsaid names what an answer lacks from which the keys of the table follow, or is empty.
func (s tableSpec) unsaid(t *dynamodbtypes.TableDescription, name string) string {
	switch {
	case aws.ToString(t.TableName) != names.OfTable(name), t.TableArn != nil && strings.Contains(name, "/") && *t.TableArn != name:
		return fmt.Sprintf("anything about this table: it is about %q", cmp.Or(aws.ToString(t.TableArn), aws.ToString(t.TableName)))
	case len(t.KeySchema) == 0:
		return "its keys"
	}
	for _, e := range t.KeySchema {
		if !slices.ContainsFunc(t.AttributeDefinitions, func(d dynamodbtypes.AttributeDefinition) bool {
			return d.AttributeType != "" && aws.ToString(d.AttributeName) == aws.ToString(e.AttributeName)
		}) {
			return fmt.Sprintf("the type of the key %q", aws.ToString(e.AttributeName))
		}
	}
	return ""
}

// wrongKeys says in what the keys of a table differ, or is empty.
func (s tableSpec) wrongKeys(t *dynamodbtypes.TableDescription) string {
	keys := map[dynamodbtypes.KeyType]string{}
	for _, e := range t.KeySchema {
		keys[e.KeyType] = aws.ToString(e.AttributeName)
	}
	if have, want := keys[dynamodbtypes.KeyTypeHash], s.partition; have != want {
		return fmt.Sprintf("its partition key is %q, not %q", have, want)
	}
	if have, want := keys[dynamodbtypes.KeyTypeRange], s.sort; have != want {
		return fmt.Sprintf("its sort key is %q, not %q", have, want)
	}
	for _, d := range t.AttributeDefinitions {
		if name := aws.ToString(d.AttributeName); (name == s.partition || name == s.sort) && d.AttributeType != dynamodbtypes.ScalarAttributeTypeS {
			return fmt.Sprintf("the key %q is of type %s, not S", name, d.AttributeType)
		}
	}
	return ""
}

// livesOn reports whether the time to live of a table is on. On another attribute it is an error.
func (k *creator) livesOn(ctx context.Context, table, attribute string) (bool, error) {
	out, err := k.dynamodb.DescribeTimeToLive(ctx, &dynamodb.DescribeTimeToLiveInput{TableName: &table})
	if err != nil {
		return false, err
	}
	d := out.TimeToLiveDescription
	if d == nil {
		return false, errors.New("the answer does not describe it")
	}
	switch d.TimeToLiveStatus {
	case "":
		return false, errors.New("the answer does not say whether it is on")
	case dynamodbtypes.TimeToLiveStatusEnabled, dynamodbtypes.TimeToLiveStatusEnabling:
		if have := aws.ToString(d.AttributeName); have != attribute {
			return false, fmt.Errorf("it is on %q, not on %q, which takes an hour to change: disable it first", have, attribute)
		}
		return true, nil
	case dynamodbtypes.TimeToLiveStatusDisabling:
		return false, errors.New("it is being disabled, which takes up to an hour: call again then")
	}
	return false, nil
}

func (k *creator) enableTTL(ctx context.Context, spec tableSpec, table string) error {
	_, err := k.dynamodb.UpdateTimeToLive(ctx, &dynamodb.UpdateTimeToLiveInput{
		TableName:               &table,
		TimeToLiveSpecification: &dynamodbtypes.TimeToLiveSpecification{AttributeName: &spec.ttl, Enabled: aws.Bool(true)},
	})
	if err != nil {
		return fmt.Errorf("time to live of the %s %s: %w", spec.what, table, err)
	}
	return nil
}

// recovery looks at the point-in-time recovery of the events table, and plans to enable it.
func (k *creator) recovery(ctx context.Context) error {
	table := k.f.table
	result := created{Resource: "point-in-time recovery", Name: table, Action: "created"}
	if k.tables[table] != nil {
		out, err := k.dynamodb.DescribeContinuousBackups(ctx, &dynamodb.DescribeContinuousBackupsInput{TableName: &table})
		if err != nil {
			return fmt.Errorf("point-in-time recovery of table %s: %w", table, err)
		}
		switch on, said := recoverable(out.ContinuousBackupsDescription); {
		case !said:
			return fmt.Errorf("point-in-time recovery of table %s: the answer does not say whether it is on", table)
		case on:
			result.Action = "exists"
		default:
			k.change("turn on point-in-time recovery of the events table %s, which is billed by its size", table)
		}
	}
	k.then(func(ctx context.Context) error {
		if result.Action == "created" {
			_, err := k.dynamodb.UpdateContinuousBackups(ctx, &dynamodb.UpdateContinuousBackupsInput{TableName: &table,
				PointInTimeRecoverySpecification: &dynamodbtypes.PointInTimeRecoverySpecification{PointInTimeRecoveryEnabled: aws.Bool(true)}})
			if err != nil {
				return fmt.Errorf("point-in-time recovery of table %s: %w", table, err)
			}
		}
		k.add(result)
		return nil
	})
	return nil
}

// recoverable reports whether point-in-time recovery is on, and whether the answer says so.
func recoverable(d *dynamodbtypes.ContinuousBackupsDescription) (on, said bool) {
	if d == nil || d.PointInTimeRecoveryDescription == nil {
		return false, false
	}
	status := d.PointInTimeRecoveryDescription.PointInTimeRecoveryStatus
	return status == dynamodbtypes.PointInTimeRecoveryStatusEnabled, status != ""
}

// index plans an index for replays.
func (k *creator) index(by replay.Index) {
	if there := k.tables[k.f.table]; there != nil && !slices.ContainsFunc(there.GlobalSecondaryIndexes, func(i dynamodbtypes.GlobalSecondaryIndexDescription) bool {
		return aws.ToString(i.IndexName) == by.Name()
	}) {
		k.change("add the index %s to the events table %s, which costs a write unit for every event", by.Name(), k.f.table)
	}
	k.then(func(ctx context.Context) error { return k.makeIndex(ctx, by) })
}

// makeIndex makes an index, and waits for it.
func (k *creator) makeIndex(ctx context.Context, by replay.Index) error {
	events, err := replay.New(k.dynamodb, k.f.table)
	if err != nil {
		return err
	}
	result := created{Resource: "index", Name: by.Name(), Action: "exists"}
	var bar *progress
	err = events.CreateIndex(ctx, by, func(p replay.IndexProgress) {
		if p.Status != string(dynamodbtypes.IndexStatusActive) {
			result.Action = "created"
			if bar == nil {
				bar = k.bar("waiting for index "+by.Name(), -1)
			}
			bar.set(0)
		}
	})
	if bar != nil {
		bar.done()
	}
	if err == nil {
		k.add(result)
	}
	return err
}
