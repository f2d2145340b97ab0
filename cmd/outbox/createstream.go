package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
)

// stream looks at the stream and the destination, and plans to make them.
func (k *creator) stream(ctx context.Context) error {
	name := k.f.stream
	there, err := k.describeStream(ctx)
	if missing := (*kinesistypes.ResourceNotFoundException)(nil); errors.As(err, &missing) {
		there, err = nil, nil
	}
	if err != nil {
		return fmt.Errorf("stream %s: %w", name, err)
	}
	result := created{Resource: "stream", Name: name, Action: "created"}
	if there != nil {
		result.Action = "exists"
		if there.StreamStatus == kinesistypes.StreamStatusDeleting {
			return fmt.Errorf("stream %s: it is being deleted: call again when it is gone", name)
		}
		if wrong := k.f.notAs(there); wrong != "" {
			return fmt.Errorf("stream %s exists: %s", name, wrong)
		}
		if have, want := aws.ToInt32(there.RetentionPeriodHours), k.f.hours(); have < want {
			result.Action = "changed"
			k.change("raise the retention of the stream %s from %d to %d hours, which is billed by the shard or by the data", name, have, want)
		}
	}
	arn := "" // of the stream, as soon as it is there
	k.then(func(ctx context.Context) (err error) {
		arn, err = k.makeStream(ctx, result)
		return err
	})
	return k.destination(ctx, &arn)
}

// hours is the retention.
func (f *createFlags) hours() int32 { return int32(f.retention / time.Hour) }

// notAs says in what a stream is not as the flags want a new one, or is empty. Nothing else of create changes these.
func (f *createFlags) notAs(d *kinesistypes.StreamDescriptionSummary) string {
	onDemand := d.StreamModeDetails != nil && d.StreamModeDetails.StreamMode == kinesistypes.StreamModeOnDemand
	switch have := int(aws.ToInt32(d.OpenShardCount)); {
	case f.onDemand && !onDemand:
		return "it is provisioned, and --on-demand is for a new stream: change it with aws kinesis update-stream-mode"
	case f.shardsGiven && onDemand:
		return "it is on-demand, and AWS decides how many shards it has: leave --shards out"
	case f.shardsGiven && have != f.shards:
		return fmt.Sprintf("it has %s, and --shards %d is for a new stream: change it with aws kinesis update-shard-count, or leave --shards out", count(have, "open shard"), f.shards)
	}
	return ""
}

func (k *creator) describeStream(ctx context.Context) (*kinesistypes.StreamDescriptionSummary, error) {
	out, err := k.kinesis.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: &k.f.stream})
	if err != nil {
		return nil, err
	}
	d, unsaid := out.StreamDescriptionSummary, ""
	switch {
	case d == nil:
		return nil, errors.New("the answer does not describe the stream")
	case aws.ToString(d.StreamARN) == "":
		unsaid = "its ARN"
	case d.StreamStatus == "":
		unsaid = "its status"
	case d.RetentionPeriodHours == nil:
		unsaid = "how long it keeps records"
	case d.OpenShardCount == nil:
		unsaid = "how many open shards it has"
	case (k.f.onDemand || k.f.shardsGiven) && (d.StreamModeDetails == nil || d.StreamModeDetails.StreamMode == ""):
		unsaid = "whether it is on-demand"
	}
	if unsaid != "" {
		return nil, fmt.Errorf("the answer does not say %s", unsaid)
	}
	return d, nil
}

// makeStream makes the stream unless it is there, waits for it, and raises the retention. It returns the stream's ARN.
func (k *creator) makeStream(ctx context.Context, result created) (arn string, err error) {
	name := result.Name
	if result.Action == "created" {
		in := &kinesis.CreateStreamInput{StreamName: &name, ShardCount: aws.Int32(int32(k.f.shards))}
		if k.f.onDemand {
			in.ShardCount, in.StreamModeDetails = nil, &kinesistypes.StreamModeDetails{StreamMode: kinesistypes.StreamModeOnDemand}
		}
		_, err := k.kinesis.CreateStream(ctx, in)
		if exists := (*kinesistypes.ResourceInUseException)(nil); errors.As(err, &exists) {
			return "", fmt.Errorf("create the stream %s: somebody else has made it a moment ago: call again", name)
		} else if err != nil {
			return "", fmt.Errorf("create the stream %s: %w", name, err)
		}
	}
	var d *kinesistypes.StreamDescriptionSummary
	active := func() (ok bool, err error) {
		if d, err = k.describeStream(ctx); err != nil {
			return false, err
		}
		return d.StreamStatus == kinesistypes.StreamStatusActive, nil
	}
	if err := k.until(ctx, "stream "+name, active); err != nil {
		return "", err
	}
	hours, have := k.f.hours(), aws.ToInt32(d.RetentionPeriodHours)
	if have < hours && result.Action != "exists" {
		_, err := k.kinesis.IncreaseStreamRetentionPeriod(ctx, &kinesis.IncreaseStreamRetentionPeriodInput{StreamName: &name, RetentionPeriodHours: &hours})
		if err != nil {
			return "", fmt.Errorf("retention of the stream %s: %w", name, err)
		}
		if err := k.until(ctx, "stream "+name, active); err != nil {
			return "", err
		}
		have = hours
	}
	result.Detail = fmt.Sprintf("%s, keeps %d h", count(int(aws.ToInt32(d.OpenShardCount)), "shard"), have)
	if k.f.retentionGiven && have > hours {
		result.Detail += ", more than asked for: it is not reduced"
	}
	k.add(result)
	return aws.ToString(d.StreamARN), nil
}

// destination looks at the destination from the table to the stream, and plans to enable it. Only changes made while it is ACTIVE reach
// the stream.
func (k *creator) destination(ctx context.Context, arn *string) error {
	table := k.f.table
	result := created{Resource: "destination", Name: table + " -> " + k.f.stream, Action: "created"}
	if k.tables[table] != nil {
		d, err := k.destinationTo(ctx, func(have string) bool { return strings.HasSuffix(have, ":stream/"+k.f.stream) })
		if err != nil {
			return fmt.Errorf("destination of table %s: %w", table, err)
		}
		switch d.DestinationStatus {
		case "":
			k.change("let the events table %s write its changes to the stream %s; rows that are there already do not reach it", table, k.f.stream)
		case dynamodbtypes.DestinationStatusDisabled, dynamodbtypes.DestinationStatusDisabling, dynamodbtypes.DestinationStatusEnableFailed:
			result.Action = "changed"
			result.Detail = fmt.Sprintf("it was %s: what was written meanwhile has not reached the stream", d.DestinationStatus)
			k.change("enable the destination of the events table %s to the stream %s, which is %s; what was written meanwhile does not reach the stream", table, k.f.stream, d.DestinationStatus)
		default:
			result.Action = "exists"
		}
	}
	k.then(func(ctx context.Context) error { return k.makeDestination(ctx, result, *arn) })
	return nil
}

// makeDestination enables the destination if that was planned, and waits until it is ACTIVE.
func (k *creator) makeDestination(ctx context.Context, result created, arn string) error {
	enabled := false
	err := k.until(ctx, "destination of table "+k.f.table, func() (bool, error) {
		d, err := k.destinationTo(ctx, func(have string) bool { return have == arn })
		if err != nil {
			return false, err
		}
		switch d.DestinationStatus {
		case dynamodbtypes.DestinationStatusActive:
			precision := "in " + strings.ToLower(string(d.ApproximateCreationDateTimePrecision)) + "s"
			if d.ApproximateCreationDateTimePrecision == "" {
				precision = "the answer does not say its precision"
			}
			result.Detail = strings.TrimSuffix(precision+"; "+result.Detail, "; ")
			return true, nil
		case "", dynamodbtypes.DestinationStatusDisabled, dynamodbtypes.DestinationStatusEnableFailed:
			if enabled {
				return false, fmt.Errorf("%s after it was enabled: %s", d.DestinationStatus, aws.ToString(d.DestinationStatusDescription))
			}
			if result.Action == "exists" {
				return false, errors.New("it was disabled a moment ago: call again")
			}
			enabled = true
			_, err := k.dynamodb.EnableKinesisStreamingDestination(ctx, &dynamodb.EnableKinesisStreamingDestinationInput{
				TableName: &k.f.table, StreamArn: &arn,
				EnableKinesisStreamingConfiguration: &dynamodbtypes.EnableKinesisStreamingConfiguration{
					ApproximateCreationDateTimePrecision: dynamodbtypes.ApproximateCreationDateTimePrecisionMicrosecond,
				},
			})
			return false, err
		}
		return false, nil
	})
	if err != nil {
		return err
	}
	k.add(result)
	if result.Action == "changed" {
		k.note("events that were written while the destination was off are in the table only: %s lists what consumer C lacks of them; without an inbox, %s lists them all, and --again writes them again",
			k.reconcile(), k.named("replay", "--table", k.f.table, "--from", "TIME"))
	}
	return nil
}

// reconcile names the command that lists what a consumer lacks.
func (k *creator) reconcile() string {
	words := []string{"reconcile", "--table", k.f.table, "--consumer", "C"}
	if k.f.inbox != "" {
		words = append(words, "--inbox", k.f.inbox)
	}
	if k.f.deadLetters != "" {
		words = append(words, "--dead-letters", k.f.deadLetters)
	}
	return k.named(words...)
}

// destinationTo returns the destination of the table to the stream whose ARN is the one meant; empty if there is none.
func (k *creator) destinationTo(ctx context.Context, is func(arn string) bool) (dynamodbtypes.KinesisDataStreamDestination, error) {
	out, err := k.dynamodb.DescribeKinesisStreamingDestination(ctx, &dynamodb.DescribeKinesisStreamingDestinationInput{TableName: &k.f.table})
	if err != nil {
		return dynamodbtypes.KinesisDataStreamDestination{}, err
	}
	if out.KinesisDataStreamDestinations == nil {
		return dynamodbtypes.KinesisDataStreamDestination{}, errors.New("the answer has no list of destinations")
	}
	for _, d := range out.KinesisDataStreamDestinations {
		switch arn := aws.ToString(d.StreamArn); {
		case arn == "":
			return d, errors.New("the answer does not say to which stream a destination goes")
		case is(arn) && d.DestinationStatus == "": // empty means to the caller that there is none
			return d, errors.New("the answer does not say its status")
		case is(arn):
			return d, nil
		}
	}
	return dynamodbtypes.KinesisDataStreamDestination{}, nil
}
