package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/spf13/cobra"

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

// createFlags are those of the command create.
type createFlags struct {
	table, stream, leases, inbox, deadLetters string
	shards                                    int
	onDemand, recovery, noTTL                 bool
	retentionGiven                            bool // --retention was
	retention                                 time.Duration
	indexes                                   []string
	wait                                      time.Duration
}

// names checks the names. A stream is given by name: that of a new one, and the requests of the others have no ARN.
func (f *createFlags) names() error {
	return checkNames(tableFlag("table", f.table), named{"stream", f.stream, names.KinesisName}, tableFlag("leases", f.leases), tableFlag("inbox", f.inbox), tableFlag("dead-letters", f.deadLetters))
}

func (f *createFlags) check() error {
	switch {
	case f.table == "" || f.stream == "":
		return errors.New("--table and --stream must not be empty")
	case f.names() != nil:
		return f.names()
	case f.shards < 1 || f.shards > 10_000:
		return fmt.Errorf("--shards: want 1 to 10000, have %d", f.shards)
	case f.retention < 24*time.Hour || f.retention > 365*24*time.Hour || f.retention%time.Hour != 0:
		return fmt.Errorf("--retention: want full hours from 24h to 8760h, have %s", f.retention)
	case f.wait <= 0:
		return fmt.Errorf("--wait: want more than 0, have %s", f.wait)
	}
	for _, by := range f.indexes {
		if by != string(replay.ByAggregate) && by != string(replay.ByType) {
			return fmt.Errorf("--index: want aggregate or type, have %q", by)
		}
	}
	names := []string{f.table, f.leases, f.inbox, f.deadLetters}
	for i, name := range names {
		if name != "" && slices.Contains(names[:i], name) {
			return fmt.Errorf("two tables are both named %q", name)
		}
	}
	return nil
}

func (a *app) createCommand() *cobra.Command {
	var f createFlags
	cmd := &cobra.Command{
		Use: "create", Short: "Create the tables, the stream and the destination between them",
		Long: `create makes what an outbox needs, as far as it does not exist, and waits until
all of it is ACTIVE: the events table with time to live, the Kinesis stream, the
streaming destination from one to the other in microseconds, and, by flags, the
lease table of workers, the inbox and the dead letter table. Tables are billed per
request.

It may be called again. It deletes nothing, and leaves keys, billing and shards of
what is there as they are. But it enables time to live where it is off (on the
events table unless --no-ttl), enables a destination that is disabled, and raises
a retention that is shorter than --retention.

An index costs a write unit for every event, and an index by type can throttle
the table's own writes when one type is hot: see the package replay.`,
		Example: `  outbox create
  outbox create --table orders-events --stream orders --shards 4 --leases orders-leases --pitr`,
		Args:   cobra.NoArgs,
		RunE:   a.action(f.check, func(ctx context.Context, c *clients) error { return a.create(ctx, c, f) }),
		PreRun: func(cmd *cobra.Command, _ []string) { f.retentionGiven = cmd.Flags().Changed("retention") },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.table, "table", "events", "events table")
	flags.StringVar(&f.stream, "stream", "events", "Kinesis stream")
	flags.IntVar(&f.shards, "shards", 1, "shards of a new stream; several spread the events of an aggregate")
	flags.BoolVar(&f.onDemand, "on-demand", false, "make a new stream an on-demand one, without --shards")
	flags.DurationVar(&f.retention, "retention", 24*time.Hour, "how long the stream keeps records, at least")
	flags.StringVar(&f.leases, "leases", "leases", "lease table of workers; empty for none")
	flags.StringVar(&f.inbox, "inbox", "", "inbox table")
	flags.StringVar(&f.deadLetters, "dead-letters", "", "dead letter table")
	flags.BoolVar(&f.noTTL, "no-ttl", false, "no time to live on the events table: rows are kept for ever")
	flags.BoolVar(&f.recovery, "pitr", false, "point-in-time recovery of the events table")
	flags.StringSliceVar(&f.indexes, "index", nil, "index of the events table for replays: aggregate, type, or both")
	flags.DurationVar(&f.wait, "wait", 10*time.Minute, "how long to wait until all is ACTIVE; an index may take longer")
	return cmd
}

// created is what became of one resource.
type created struct {
	Resource string `json:"resource"`
	Name     string `json:"name"`
	Action   string `json:"action"` // created, changed or exists
	Detail   string `json:"detail,omitempty"`
}

// creation is the result of create.
type creation struct {
	Resources []created `json:"resources"`
	failure
}

// creator makes the resources one after the other.
type creator struct {
	*app
	*clients
	done []created
}

func (a *app) create(ctx context.Context, c *clients, f createFlags) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, f.wait, fmt.Errorf("gave up waiting after %s (--wait); call again to go on", f.wait))
	defer cancel()
	k := &creator{app: a, clients: c, done: []created{}}
	events := eventsSpec
	if f.noTTL {
		events.ttl = ""
	}
	var arn string
	steps := []func() error{
		func() error { return k.table(ctx, events, f.table) },
		func() (err error) { arn, err = k.stream(ctx, f); return err },
		func() error { return k.destination(ctx, f.table, arn) },
	}
	if f.recovery {
		steps = append(steps, func() error { return k.recovery(ctx, f.table) })
	}
	for _, t := range []struct {
		spec tableSpec
		name string
	}{{leasesSpec, f.leases}, {inboxSpec, f.inbox}, {deadLettersSpec, f.deadLetters}} {
		if t.name != "" {
			steps = append(steps, func() error { return k.table(ctx, t.spec, t.name) })
		}
	}
	for _, by := range f.indexes {
		steps = append(steps, func() error { return k.index(ctx, f.table, replay.Index(by)) })
	}
	for _, step := range steps {
		if err = step(); err != nil {
			break
		}
	}
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	if a.json() {
		return errors.Join(err, a.printJSON(creation{k.done, failure{a.explain(err)}}))
	}
	return err
}

// add notes, and tells, what became of a resource.
func (k *creator) add(c created) {
	k.done = append(k.done, c)
	if k.json() {
		return
	}
	p := k.paint(k.out)
	mark := p.green("+")
	if c.Action == "exists" {
		mark = p.faint("=")
	}
	if c.Detail != "" {
		c.Detail = p.faint("  " + c.Detail)
	}
	fmt.Fprintf(k.out, "%s %s %s %s%s\n", mark, c.Resource, p.bold(c.Name), c.Action, c.Detail)
}

// until waits until done says so, showing what it waits for.
func (k *creator) until(ctx context.Context, what string, done func() (bool, error)) error {
	var bar *progress
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		ok, err := done()
		if err != nil || ok {
			if bar != nil {
				bar.done()
			}
			if err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
			return nil
		}
		if bar == nil {
			bar = k.bar("waiting for "+what, -1)
		}
		bar.set(0)
		select {
		case <-ctx.Done():
			bar.done()
			return fmt.Errorf("%s: %w", what, ctx.Err())
		case <-time.After(pause):
		}
	}
}

// table makes a table, and enables its time to live.
func (k *creator) table(ctx context.Context, spec tableSpec, name string) error {
	keys := []string{spec.partition}
	if spec.sort != "" {
		keys = append(keys, spec.sort)
	}
	in := &dynamodb.CreateTableInput{TableName: &name, BillingMode: dynamodbtypes.BillingModePayPerRequest}
	for i, key := range keys {
		in.AttributeDefinitions = append(in.AttributeDefinitions, dynamodbtypes.AttributeDefinition{AttributeName: aws.String(key), AttributeType: dynamodbtypes.ScalarAttributeTypeS})
		in.KeySchema = append(in.KeySchema, dynamodbtypes.KeySchemaElement{AttributeName: aws.String(key),
			KeyType: []dynamodbtypes.KeyType{dynamodbtypes.KeyTypeHash, dynamodbtypes.KeyTypeRange}[i]})
	}
	result := created{Resource: spec.what, Name: name, Action: "created"}
	_, err := k.dynamodb.CreateTable(ctx, in)
	if exists := (*dynamodbtypes.ResourceInUseException)(nil); errors.As(err, &exists) {
		result.Action = "exists"
	} else if err != nil {
		return fmt.Errorf("create the %s %s: %w", spec.what, name, err)
	}
	err = k.until(ctx, spec.what+" "+name, func() (bool, error) {
		out, err := k.dynamodb.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &name})
		if missing := (*dynamodbtypes.ResourceNotFoundException)(nil); errors.As(err, &missing) {
			return false, nil // it was made a moment ago
		}
		if err != nil {
			return false, err
		}
		if out.Table == nil {
			return false, errors.New("the answer does not describe the table")
		}
		if wrong := spec.wrongKeys(out.Table); wrong != "" {
			return false, fmt.Errorf("there is a table of this name with other keys: %s", wrong)
		}
		return out.Table.TableStatus == dynamodbtypes.TableStatusActive, nil
	})
	if err != nil {
		return err
	}
	if spec.ttl != "" {
		on, err := k.enableTTL(ctx, name, spec.ttl)
		if err != nil {
			return fmt.Errorf("time to live of the %s %s: %w", spec.what, name, err)
		}
		result.Detail = "time to live " + spec.livesOn()
		if on && result.Action == "exists" {
			result.Action = "changed"
		}
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

// enableTTL reports whether it had to be enabled.
func (k *creator) enableTTL(ctx context.Context, table, attribute string) (changed bool, err error) {
	out, err := k.dynamodb.DescribeTimeToLive(ctx, &dynamodb.DescribeTimeToLiveInput{TableName: &table})
	if err != nil {
		return false, err
	}
	if d := out.TimeToLiveDescription; d != nil && (d.TimeToLiveStatus == dynamodbtypes.TimeToLiveStatusEnabled || d.TimeToLiveStatus == dynamodbtypes.TimeToLiveStatusEnabling) {
		if have := aws.ToString(d.AttributeName); have != attribute {
			return false, fmt.Errorf("it is on %q, not on %q, which takes an hour to change: disable it first", have, attribute)
		}
		return false, nil
	}
	_, err = k.dynamodb.UpdateTimeToLive(ctx, &dynamodb.UpdateTimeToLiveInput{
		TableName:               &table,
		TimeToLiveSpecification: &dynamodbtypes.TimeToLiveSpecification{AttributeName: &attribute, Enabled: aws.Bool(true)},
	})
	return err == nil, err
}

// stream makes the stream and returns its ARN.
func (k *creator) stream(ctx context.Context, f createFlags) (arn string, err error) {
	in := &kinesis.CreateStreamInput{StreamName: &f.stream, ShardCount: aws.Int32(int32(f.shards))}
	if f.onDemand {
		in.ShardCount, in.StreamModeDetails = nil, &kinesistypes.StreamModeDetails{StreamMode: kinesistypes.StreamModeOnDemand}
	}
	result := created{Resource: "stream", Name: f.stream, Action: "created"}
	_, err = k.kinesis.CreateStream(ctx, in)
	if exists := (*kinesistypes.ResourceInUseException)(nil); errors.As(err, &exists) {
		result.Action = "exists"
	} else if err != nil {
		return "", fmt.Errorf("create the stream %s: %w", f.stream, err)
	}
	var d *kinesistypes.StreamDescriptionSummary
	active := func() (bool, error) {
		out, err := k.kinesis.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: &f.stream})
		if err != nil {
			return false, err
		}
		if d = out.StreamDescriptionSummary; d == nil {
			return false, errors.New("the answer does not describe the stream")
		}
		return d.StreamStatus == kinesistypes.StreamStatusActive, nil
	}
	if err := k.until(ctx, "stream "+f.stream, active); err != nil {
		return "", err
	}
	hours := int32(f.retention / time.Hour)
	if aws.ToInt32(d.RetentionPeriodHours) < hours {
		_, err := k.kinesis.IncreaseStreamRetentionPeriod(ctx, &kinesis.IncreaseStreamRetentionPeriodInput{StreamName: &f.stream, RetentionPeriodHours: &hours})
		if err != nil {
			return "", fmt.Errorf("retention of the stream %s: %w", f.stream, err)
		}
		if err := k.until(ctx, "stream "+f.stream, active); err != nil {
			return "", err
		}
		if result.Action == "exists" {
			result.Action = "changed"
		}
	}
	result.Detail = fmt.Sprintf("%s, keeps %d h", count(int(aws.ToInt32(d.OpenShardCount)), "shard"), max(hours, aws.ToInt32(d.RetentionPeriodHours)))
	if f.retentionGiven && aws.ToInt32(d.RetentionPeriodHours) > hours {
		result.Detail += ", more than asked for: it is not reduced"
	}
	k.add(result)
	return aws.ToString(d.StreamARN), nil
}

// destination connects the table to the stream. Only changes made after it is ACTIVE reach the stream.
func (k *creator) destination(ctx context.Context, table, arn string) error {
	result := created{Resource: "destination", Name: table + " -> " + arn[strings.LastIndex(arn, "/")+1:], Action: "exists"}
	err := k.until(ctx, "destination of table "+table, func() (bool, error) {
		d, err := destinationOf(ctx, k.clients, table, arn)
		if err != nil {
			return false, err
		}
		switch d.DestinationStatus {
		case dynamodbtypes.DestinationStatusActive:
			result.Detail = "in " + strings.ToLower(string(d.ApproximateCreationDateTimePrecision)) + "s"
			return true, nil
		case "", dynamodbtypes.DestinationStatusDisabled, dynamodbtypes.DestinationStatusEnableFailed:
			if result.Action == "created" {
				return false, fmt.Errorf("%s after it was enabled: %s", d.DestinationStatus, aws.ToString(d.DestinationStatusDescription))
			}
			result.Action = "created"
			_, err := k.dynamodb.EnableKinesisStreamingDestination(ctx, &dynamodb.EnableKinesisStreamingDestinationInput{
				TableName: &table, StreamArn: &arn,
				EnableKinesisStreamingConfiguration: &dynamodbtypes.EnableKinesisStreamingConfiguration{
					ApproximateCreationDateTimePrecision: dynamodbtypes.ApproximateCreationDateTimePrecisionMicrosecond,
				},
			})
			return false, err
		}
		return false, nil
	})
	if err == nil {
		k.add(result)
	}
	return err
}

// destinationOf returns the destination from a table to a stream; empty if there is none.
func destinationOf(ctx context.Context, c *clients, table, arn string) (dynamodbtypes.KinesisDataStreamDestination, error) {
	out, err := c.dynamodb.DescribeKinesisStreamingDestination(ctx, &dynamodb.DescribeKinesisStreamingDestinationInput{TableName: &table})
	if err != nil {
		return dynamodbtypes.KinesisDataStreamDestination{}, err
	}
	for _, d := range out.KinesisDataStreamDestinations {
		if aws.ToString(d.StreamArn) == arn {
			return d, nil
		}
	}
	return dynamodbtypes.KinesisDataStreamDestination{}, nil
}

// recovery enables point-in-time recovery.
func (k *creator) recovery(ctx context.Context, table string) error {
	result := created{Resource: "point-in-time recovery", Name: table, Action: "exists"}
	out, err := k.dynamodb.DescribeContinuousBackups(ctx, &dynamodb.DescribeContinuousBackupsInput{TableName: &table})
	if err != nil {
		return fmt.Errorf("point-in-time recovery of table %s: %w", table, err)
	}
	if !recoverable(out.ContinuousBackupsDescription) {
		result.Action = "created"
		_, err := k.dynamodb.UpdateContinuousBackups(ctx, &dynamodb.UpdateContinuousBackupsInput{TableName: &table,
			PointInTimeRecoverySpecification: &dynamodbtypes.PointInTimeRecoverySpecification{PointInTimeRecoveryEnabled: aws.Bool(true)}})
		if err != nil {
			return fmt.Errorf("point-in-time recovery of table %s: %w", table, err)
		}
	}
	k.add(result)
	return nil
}

func recoverable(d *dynamodbtypes.ContinuousBackupsDescription) bool {
	return d != nil && d.PointInTimeRecoveryDescription != nil &&
		d.PointInTimeRecoveryDescription.PointInTimeRecoveryStatus == dynamodbtypes.PointInTimeRecoveryStatusEnabled
}

// index makes an index for replays.
func (k *creator) index(ctx context.Context, table string, by replay.Index) error {
	events, err := replay.New(k.dynamodb, table)
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
