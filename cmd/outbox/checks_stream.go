package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
)

// weekend is how long somebody may need to notice that something is wrong.
const weekend = 48 * time.Hour

// checkStream looks at what consumers read: the Kinesis stream, or the table's own.
func (x *examination) checkStream(ctx context.Context) {
	if x.ofTable {
		x.checkTableStream()
		return
	}
	in := &kinesis.DescribeStreamSummaryInput{}
	in.StreamName, in.StreamARN = streamName(x.stream)
	out, err := x.c.kinesis.DescribeStreamSummary(ctx, in)
	if err != nil {
		x.failed(gradeProblem, "stream", x.stream, "kinesis:DescribeStreamSummary", err)
		if on, arn := tableStream(x.events); on {
			x.findings[len(x.findings)-1].Do = "if consumers read the table's own stream, give --stream " + arn + "; else create it" + x.byCreate() + ", or correct the name or the Region"
		}
		return
	}
	d := out.StreamDescriptionSummary
	if d == nil {
		x.add(gradeUnknown, "stream", x.stream, "the answer does not describe it", "look at what answers in AWS's place")
		return
	}
	if x.streamARN = aws.ToString(d.StreamARN); x.streamARN == "" {
		x.silent("stream", x.stream, "its ARN")
	}
	x.checkStreamStatus(d)
	x.retention = time.Duration(aws.ToInt32(d.RetentionPeriodHours)) * time.Hour
	switch {
	case x.retention <= 0:
		x.silent("retention", x.stream, "how long records are kept")
	case x.retention < weekend:
		x.add(gradeWarning, "retention", x.stream, fmt.Sprintf("records are kept for %s: consumers that stand still for longer lose them, and a weekend is longer", age(x.retention)),
			"raise the retention (IncreaseStreamRetentionPeriod), or be ready to replay from the table")
	default:
		x.add(gradeOK, "retention", x.stream, "records are kept for "+age(x.retention), "")
	}
	switch d.EncryptionType {
	case kinesistypes.EncryptionTypeKms:
		x.checkKey(ctx, x.stream, aws.ToString(d.KeyId), "DynamoDB and the consumers need its permissions")
	case kinesistypes.EncryptionTypeNone:
		x.add(gradeOK, "encryption", x.stream, "not encrypted at rest by a key of KMS", "")
	default:
		x.silent("encryption", x.stream, "whether it is encrypted")
	}
	switch d.RecordDistributionStrategy {
	case "":
		x.silent("distribution", x.stream, "how records are spread over the shards")
	case kinesistypes.RecordDistributionStrategyAuto:
		x.add(gradeWarning, "distribution", x.stream, "AUTO: Kinesis ignores the partition keys, so changes of one row, and an event and its duplicate, may lie in different shards and arrive in any order",
			"set USER_PARTITION_KEY (UpdateStreamRecordDistributionStrategy), or have handlers rely on neither: the sequence orders events, an inbox knows duplicates")
	default:
		x.add(gradeOK, "distribution", x.stream, "by partition key", "")
	}
	x.checkRecordSize(int(aws.ToInt32(d.MaxRecordSizeInKiB)) << 10)
}

func (x *examination) checkStreamStatus(d *kinesistypes.StreamDescriptionSummary) {
	const check = "stream"
	open := int(aws.ToInt32(d.OpenShardCount))
	x.openShards = max(0, open)
	switch s := d.StreamStatus; {
	case s == "":
		x.silent(check, x.stream, "its status")
	case s != kinesistypes.StreamStatusActive && s != kinesistypes.StreamStatusUpdating:
		x.add(gradeProblem, check, x.stream, "it is "+string(s), "wait until it is ACTIVE; if it is DELETING, see \"The destination is not ACTIVE\" in docs/operating.md")
	case d.OpenShardCount == nil:
		x.silent(check, x.stream, "how many open shards it has")
	case open < 1:
		x.add(gradeProblem, check, x.stream, "it has no open shard: nothing can be written to it", "look at it in the console of Kinesis")
	default:
		x.add(gradeOK, check, x.stream, fmt.Sprintf("%s, %s", s, count(open, "open shard")), "")
	}
}

// kinesisRecordBytes is the largest record of a Writer, unless it is told otherwise.
const kinesisRecordBytes = 1 << 20

// checkRecordSize compares what the stream takes with what a Writer lets pass.
func (x *examination) checkRecordSize(takes int) {
	const check = "record size"
	passes := cmp.Or(x.maxRecordBytes, kinesisRecordBytes)
	switch {
	case takes <= 0:
		x.silent(check, x.stream, "how large records may be")
	case takes < passes:
		x.add(gradeProblem, check, x.stream, fmt.Sprintf("the stream takes records of up to %d bytes, and a Writer lets pass %d: DynamoDB drops what is larger", takes, passes),
			"raise the stream's limit (UpdateMaxRecordSize), or give WithMaxRecordBytes no more")
	case takes > passes && x.maxRecordBytes == 0:
		x.add(gradeWarning, check, x.stream, fmt.Sprintf("the stream takes records of up to %d bytes, and a Writer that is not told refuses more than %d", takes, passes),
			"if events need to be so large, give WithMaxRecordBytes the stream's limit; tell doctor what it has (--max-record-bytes)")
	default:
		x.add(gradeOK, check, x.stream, fmt.Sprintf("the stream takes records of up to %d bytes, a Writer lets pass %d", takes, passes), "")
	}
}

// tableStreamRetention is how long a DynamoDB stream keeps records. Nobody can change it.
const tableStreamRetention = 24 * time.Hour

// tableStream returns whether a table has a DynamoDB stream of its own, and its ARN.
func tableStream(t *dynamodbtypes.TableDescription) (on bool, arn string) {
	if t == nil {
		return false, ""
	}
	return t.StreamSpecification != nil && aws.ToBool(t.StreamSpecification.StreamEnabled), aws.ToString(t.LatestStreamArn)
}

// checkTableStream looks at the table's own stream.
func (x *examination) checkTableStream() {
	const check = "stream"
	x.retention, x.streamARN = tableStreamRetention, x.stream
	on, latest := tableStream(x.events)
	switch {
	case x.events == nil: // the finding is that of the table
		x.add(gradeUnknown, check, x.stream, "the table cannot be looked at", "")
		return
	case x.events.StreamSpecification == nil || !on:
		x.add(gradeProblem, check, x.stream, "the table has no DynamoDB stream any more: changes reach nobody", "enable it with the view NEW_IMAGE, give readers the new ARN, and bring back what was written meanwhile ("+x.reconcile()+" lists it)")
		return
	case latest == "":
		x.silent(check, x.stream, "which stream is the table's")
	case latest != x.stream:
		x.add(gradeProblem, check, x.stream, "it has ended: the table's stream is now "+latest, "see \"The stream has ended\" in docs/operating.md; for doctor give --stream "+latest)
	default:
		x.add(gradeOK, check, x.stream, "it is the table's, and enabled", "")
	}
	x.checkView()
	x.add(gradeOK, "retention", x.stream, "records are kept for "+age(x.retention)+", which nobody can raise: be ready to replay from the table", "")
}

// checkView looks at what a record of the table's own stream contains.
func (x *examination) checkView() {
	const check = "view"
	switch view := x.events.StreamSpecification.StreamViewType; view {
	case "":
		x.silent(check, x.table, "what the records of its stream contain")
	case dynamodbtypes.StreamViewTypeNewImage, dynamodbtypes.StreamViewTypeNewAndOldImages:
		x.add(gradeOK, check, x.table, string(view), "")
	default:
		x.add(gradeProblem, check, x.table, string(view)+": records do not contain the event", "disable the stream, and enable it with the view NEW_IMAGE; then bring back what was written meanwhile ("+x.reconcile()+" lists it)")
	}
}

func (x *examination) checkDestination(ctx context.Context) {
	const check = "destination"
	if x.ofTable {
		return
	}
	out, err := x.c.dynamodb.DescribeKinesisStreamingDestination(ctx, &dynamodb.DescribeKinesisStreamingDestinationInput{TableName: &x.table})
	if err != nil {
		x.failed(gradeProblem, check, x.table, "dynamodb:DescribeKinesisStreamingDestination", err)
		return
	}
	if out.KinesisDataStreamDestinations == nil {
		x.silent(check, x.table, "which destinations there are")
		return
	}
	var others []string
	unnamed := false
	for _, d := range out.KinesisDataStreamDestinations {
		arn := aws.ToString(d.StreamArn)
		if x.isStream(arn) {
			x.checkTheDestination(d)
			return
		}
		unnamed = unnamed || arn == ""
		others = append(others, arn)
	}
	if unnamed {
		x.silent(check, x.table, "to which stream a destination goes")
		return
	}
	found := "there is none to " + x.stream + ": nothing reaches the stream"
	if len(others) > 0 {
		found += "; it has one to " + strings.Join(others, ", ")
	}
	do := "enable it" + x.byCreate() + ", or correct --stream"
	if on, arn := tableStream(x.events); on {
		do += "; if consumers read the table's own stream, give --stream " + arn
	}
	x.add(gradeProblem, check, x.table, found, do)
}

func (x *examination) checkTheDestination(d dynamodbtypes.KinesisDataStreamDestination) {
	const check = "destination"
	switch s := d.DestinationStatus; s {
	case "":
		x.silent(check, x.table, "its status")
	case dynamodbtypes.DestinationStatusActive:
		x.add(gradeOK, check, x.table, "ACTIVE to "+x.stream, "")
	case dynamodbtypes.DestinationStatusUpdating:
		x.add(gradeWarning, check, x.table, "it is UPDATING", "wait until it is ACTIVE")
	default:
		x.add(gradeProblem, check, x.table, strings.TrimSpace(fmt.Sprintf("it is %s %s", s, aws.ToString(d.DestinationStatusDescription)))+": changes do not reach the stream",
			"enable it"+x.byCreate()+", and bring back what was written meanwhile ("+x.reconcile()+" lists it)")
		return
	}
	const precision = "precision"
	switch p := d.ApproximateCreationDateTimePrecision; p {
	case "":
		x.silent(precision, x.table, "the precision of times")
	case dynamodbtypes.ApproximateCreationDateTimePrecisionMicrosecond:
		x.add(gradeOK, precision, x.table, "MICROSECOND", "")
	default:
		x.add(gradeWarning, precision, x.table, string(p)+": changes of one millisecond cannot be told apart in time", "set it to MICROSECOND (UpdateKinesisStreamingDestination)")
	}
}

// isStream reports whether an ARN is that of the Kinesis stream. A stream of the same name in another account or Region is another one.
func (x *examination) isStream(arn string) bool {
	if x.streamARN != "" {
		return arn == x.streamARN
	}
	return arn == x.stream || strings.HasSuffix(arn, ":stream/"+x.stream)
}
