package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cloudwatchtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

func (x *examination) checkStream(ctx context.Context) {
	out, err := x.c.kinesis.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: &x.stream})
	if err != nil {
		x.failed(gradeProblem, "stream", x.stream, "kinesis:DescribeStreamSummary", err)
		return
	}
	d := out.StreamDescriptionSummary
	if d == nil {
		x.add(gradeUnknown, "stream", x.stream, "the answer does not describe it", "look at what answers in AWS's place")
		return
	}
	x.streamARN = aws.ToString(d.StreamARN)
	x.retention = time.Duration(aws.ToInt32(d.RetentionPeriodHours)) * time.Hour
	switch d.StreamStatus {
	case kinesistypes.StreamStatusActive, kinesistypes.StreamStatusUpdating:
		x.add(gradeOK, "stream", x.stream, fmt.Sprintf("%s, %s", d.StreamStatus, count(int(aws.ToInt32(d.OpenShardCount)), "open shard")), "")
	default:
		x.add(gradeProblem, "stream", x.stream, "it is "+string(d.StreamStatus), "wait until it is ACTIVE")
	}
	if x.retention < 48*time.Hour {
		x.add(gradeWarning, "retention", x.stream, fmt.Sprintf("records are kept for %s: consumers that stand still for longer lose them, and a weekend is longer", age(x.retention)),
			"raise the retention (IncreaseStreamRetentionPeriod), or be ready to replay from the table")
	} else {
		x.add(gradeOK, "retention", x.stream, "records are kept for "+age(x.retention), "")
	}
	encryption := "not encrypted at rest by a key of KMS"
	if d.EncryptionType == kinesistypes.EncryptionTypeKms {
		encryption = "encrypted by " + aws.ToString(d.KeyId) + ": DynamoDB and the consumers need its permissions"
	}
	x.add(gradeOK, "encryption", x.stream, encryption, "")
	if d.RecordDistributionStrategy == kinesistypes.RecordDistributionStrategyAuto {
		x.add(gradeWarning, "distribution", x.stream, "AUTO: Kinesis ignores the partition keys, so changes of one row, and an event and its duplicate, may lie in different shards and arrive in any order",
			"set USER_PARTITION_KEY (UpdateStreamRecordDistributionStrategy), or have handlers rely on neither: the sequence orders events, an inbox knows duplicates")
	} else {
		x.add(gradeOK, "distribution", x.stream, "by partition key", "")
	}
	x.checkRecordSize(int(aws.ToInt32(d.MaxRecordSizeInKiB)) << 10)
}

// kinesisRecordBytes is the largest record of a stream, and of a Writer, unless they are told otherwise.
const kinesisRecordBytes = 1 << 20

// checkRecordSize compares what the stream takes with what a Writer lets pass.
func (x *examination) checkRecordSize(takes int) {
	const check = "record size"
	takes = cmp.Or(takes, kinesisRecordBytes) // 0 from a server that does not say
	passes := cmp.Or(x.maxRecordBytes, kinesisRecordBytes)
	switch {
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

// checkTable looks at the status, the keys and the time to live of a table. It reports whether the table is there.
func (x *examination) checkTable(ctx context.Context, spec tableSpec, name string) bool {
	out, err := x.c.dynamodb.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &name})
	if missing := (*dynamodbtypes.ResourceNotFoundException)(nil); spec == leasesSpec && !x.leasesGiven && errors.As(err, &missing) {
		x.add(gradeOK, spec.what, name, "there is none: functions need none, and for workers of another table give --leases", "")
		return false
	}
	if err != nil {
		grade := gradeProblem
		if spec == leasesSpec && !x.leasesGiven { // who has functions only need not be allowed to look
			grade = gradeUnknown
		}
		x.failed(grade, spec.what, name, "dynamodb:DescribeTable", err)
		return false
	}
	if out.Table == nil {
		x.add(gradeUnknown, spec.what, name, "the answer does not describe it", "look at what answers in AWS's place")
		return true
	}
	if wrong := spec.wrongKeys(out.Table); wrong != "" {
		x.add(gradeProblem, spec.what, name, wrong, "it is another kind of table, or has names of its own (WithAttributes): correct the name, or ignore this")
		return true
	}
	switch s := out.Table.TableStatus; s {
	case dynamodbtypes.TableStatusActive, dynamodbtypes.TableStatusUpdating:
		x.add(gradeOK, spec.what, name, string(s)+", with the right keys", "")
	default:
		x.add(gradeProblem, spec.what, name, "it is "+string(s), "wait until it is ACTIVE")
	}
	ttl, err := x.c.dynamodb.DescribeTimeToLive(ctx, &dynamodb.DescribeTimeToLiveInput{TableName: &name})
	if err != nil {
		x.failed(gradeUnknown, "time to live", name, "dynamodb:DescribeTimeToLive", err)
		return true
	}
	d := ttl.TimeToLiveDescription
	on := d != nil && (d.TimeToLiveStatus == dynamodbtypes.TimeToLiveStatusEnabled || d.TimeToLiveStatus == dynamodbtypes.TimeToLiveStatusEnabling)
	switch {
	case !on && x.ttl == 0:
		x.add(gradeWarning, "time to live", name, "it is off: rows are kept for ever", "enable it on "+spec.ttl+" (outbox create)")
	case !on:
		x.add(gradeProblem, "time to live", name, "it is off, although rows are written with one", "enable it on "+spec.ttl+" (outbox create)")
	case aws.ToString(d.AttributeName) != spec.ttl:
		x.add(gradeProblem, "time to live", name, fmt.Sprintf("it is on the attribute %q: no row goes, or the wrong ones do", aws.ToString(d.AttributeName)), "enable it on "+spec.ttl)
	default:
		x.add(gradeOK, "time to live", name, spec.livesOn(), "")
	}
	return true
}

func (x *examination) checkTables(ctx context.Context) {
	for _, t := range []struct {
		spec tableSpec
		name string
	}{{leasesSpec, x.leases}, {inboxSpec, x.inbox}, {deadLettersSpec, x.deadLetters}} {
		if t.name != "" {
			x.checkTable(ctx, t.spec, t.name)
		}
	}
}

func (x *examination) checkEvents(ctx context.Context) {
	if !x.checkTable(ctx, eventsSpec, x.table) {
		return
	}
	x.checkLifetime(ctx)
	out, err := x.c.dynamodb.DescribeContinuousBackups(ctx, &dynamodb.DescribeContinuousBackupsInput{TableName: &x.table})
	switch {
	case err != nil:
		x.failed(gradeUnknown, "point-in-time recovery", x.table, "dynamodb:DescribeContinuousBackups", err)
	case !recoverable(out.ContinuousBackupsDescription):
		x.add(gradeWarning, "point-in-time recovery", x.table, "it is off", "enable it (outbox create --pitr), or accept that a table that is lost is lost")
	default:
		x.add(gradeOK, "point-in-time recovery", x.table, "it is on", "")
	}
}

// sample is how many rows checkLifetime looks at.
const sample = 25

// checkLifetime compares how long rows live with how long the stream keeps their records.
func (x *examination) checkLifetime(ctx context.Context) {
	lifetime, how := x.ttl, "by --ttl"
	if lifetime == 0 {
		out, err := x.c.dynamodb.Scan(ctx, &dynamodb.ScanInput{TableName: &x.table, Limit: aws.Int32(sample), ProjectionExpression: aws.String("#t, #e"),
			ExpressionAttributeNames: map[string]string{"#t": "timestamp", "#e": "expiresAt"}})
		if err != nil {
			x.failed(gradeUnknown, "lifetime of rows", x.table, "dynamodb:Scan", err)
			return
		}
		n := 0
		for _, row := range out.Items {
			written, expires := number(row["timestamp"]), number(row["expiresAt"])
			if written == 0 || expires == 0 {
				continue
			}
			if expires < 1e8 || expires >= 1e11 { // the years 1973 to 5138
				x.add(gradeProblem, "lifetime of rows", x.table, fmt.Sprintf("expiresAt is %d, which is no time in seconds: DynamoDB never deletes such a row", expires),
					"find out who writes such rows, perhaps in milliseconds: a Writer with WithTTL writes seconds")
				return
			}
			n++
			if d := time.Unix(expires, 0).Sub(time.UnixMilli(written)); lifetime == 0 || d < lifetime {
				lifetime = d
			}
		}
		if n == 0 {
			x.add(gradeOK, "lifetime of rows", x.table, fmt.Sprintf("none of %s expires", count(len(out.Items), "row")), "")
			return
		}
		how = "by the shortest of " + count(n, "row")
	}
	text := fmt.Sprintf("rows live for %s (%s)", age(lifetime), how)
	switch {
	case x.retention == 0:
		x.add(gradeUnknown, "lifetime of rows", x.table, text+", the stream's retention is not known", "")
	case lifetime <= x.retention:
		x.add(gradeProblem, "lifetime of rows", x.table, fmt.Sprintf("%s, and the stream keeps records for %s: what was missed cannot be replayed", text, age(x.retention)),
			"give WithTTL more than the retention and the time that somebody needs to notice and replay")
	default:
		x.add(gradeOK, "lifetime of rows", x.table, fmt.Sprintf("%s, longer than the stream's %s", text, age(x.retention)), "")
	}
}

func number(v dynamodbtypes.AttributeValue) int64 {
	if n, ok := v.(*dynamodbtypes.AttributeValueMemberN); ok && n != nil {
		i, _ := strconv.ParseInt(n.Value, 10, 64)
		return i
	}
	return 0
}

func (x *examination) checkDestination(ctx context.Context) {
	const check = "destination"
	out, err := x.c.dynamodb.DescribeKinesisStreamingDestination(ctx, &dynamodb.DescribeKinesisStreamingDestinationInput{TableName: &x.table})
	if err != nil {
		x.failed(gradeProblem, check, x.table, "dynamodb:DescribeKinesisStreamingDestination", err)
		return
	}
	var others []string
	for _, d := range out.KinesisDataStreamDestinations {
		arn := aws.ToString(d.StreamArn)
		if arn != x.streamARN && !strings.HasSuffix(arn, ":stream/"+x.stream) {
			others = append(others, arn)
			continue
		}
		if d.DestinationStatus != dynamodbtypes.DestinationStatusActive {
			x.add(gradeProblem, check, x.table, fmt.Sprintf("it is %s %s: changes do not reach the stream", d.DestinationStatus, aws.ToString(d.DestinationStatusDescription)),
				"enable it (outbox create), and replay what was written meanwhile (outbox replay)")
			return
		}
		x.add(gradeOK, check, x.table, "ACTIVE to "+x.stream, "")
		if d.ApproximateCreationDateTimePrecision == dynamodbtypes.ApproximateCreationDateTimePrecisionMicrosecond {
			x.add(gradeOK, "precision", x.table, "MICROSECOND", "")
		} else {
			x.add(gradeWarning, "precision", x.table, "MILLISECOND: changes of one millisecond cannot be told apart in time", "set it to MICROSECOND (UpdateKinesisStreamingDestination)")
		}
		return
	}
	found := "there is none to " + x.stream + ": nothing reaches the stream"
	if len(others) > 0 {
		found += "; it has one to " + strings.Join(others, ", ")
	}
	x.add(gradeProblem, check, x.table, found, "enable it (outbox create), or correct --stream")
}

// maxPages bounds listings.
const maxPages = 50

func (x *examination) checkFunctions(ctx context.Context) {
	for _, function := range x.functions {
		in := &lambda.ListEventSourceMappingsInput{FunctionName: aws.String(function)}
		n := 0
		for range maxPages {
			out, err := x.c.lambda.ListEventSourceMappings(ctx, in)
			if err != nil {
				x.failed(gradeUnknown, "function", function, "lambda:ListEventSourceMappings", err)
				n = -1
				break
			}
			for _, m := range out.EventSourceMappings {
				if arn := aws.ToString(m.EventSourceArn); arn == x.streamARN || strings.HasSuffix(arn, ":stream/"+x.stream) {
					n++
					x.checkMapping(function, m)
				}
			}
			if in.Marker = out.NextMarker; in.Marker == nil {
				break
			}
		}
		if n == 0 {
			x.add(gradeProblem, "function", function, "no event source mapping reads "+x.stream, "create one, with ReportBatchItemFailures")
		}
	}
}

func (x *examination) checkMapping(function string, m lambdatypes.EventSourceMappingConfiguration) {
	const check = "event source mapping"
	good := true
	tell := func(grade, found, do string) {
		good = false
		x.add(grade, check, function, found, do)
	}
	reports := false
	for _, r := range m.FunctionResponseTypes {
		reports = reports || r == lambdatypes.FunctionResponseTypeReportBatchItemFailures
	}
	if !reports {
		tell(gradeProblem, "it has no ReportBatchItemFailures: Lambda ignores what the Consumer answers, and takes failed batches for done", "set FunctionResponseTypes to ReportBatchItemFailures")
	}
	if state := aws.ToString(m.State); state != "Enabled" {
		tell(gradeProblem, "it is "+state, "enable it")
	}
	if m.DestinationConfig == nil || m.DestinationConfig.OnFailure == nil || aws.ToString(m.DestinationConfig.OnFailure.Destination) == "" {
		if aws.ToInt32(m.MaximumRetryAttempts) >= 0 || aws.ToInt32(m.MaximumRecordAgeInSeconds) >= 0 {
			tell(gradeProblem, "it gives records up, and has no on-failure destination: what is given up is lost silently", "set an OnFailure destination")
		} else {
			tell(gradeWarning, "it has no on-failure destination: a record that always fails holds up its shard until it expires", "set an OnFailure destination, and MaximumRecordAgeInSeconds")
		}
	}
	if !aws.ToBool(m.BisectBatchOnFunctionError) {
		tell(gradeWarning, "it does not bisect: a crash repeats whole batches", "set BisectBatchOnFunctionError")
	}
	if m.StartingPosition == lambdatypes.EventSourcePositionLatest {
		tell(gradeWarning, "it starts at LATEST: records that are written while Lambda sets it up or changes it can be missed",
			"create it anew with StartingPosition TRIM_HORIZON, which delivers again what the stream still has: an inbox passes over what was handled")
	}
	if m.MetricsConfig != nil && slices.Contains(m.MetricsConfig.Metrics, lambdatypes.EventSourceMappingMetricEventCount) {
		x.counted = append(x.counted, aws.ToString(m.UUID))
	} else {
		tell(gradeWarning, "it has no EventCount metrics: nobody can be told of records that Lambda drops", "set MetricsConfig to EventCount, and an alarm on DroppedEventCount")
	}
	if good {
		x.add(gradeOK, check, function, "Enabled, with ReportBatchItemFailures and an on-failure destination", "")
	}
}

// metric is one that should have an alarm. One that is delegated has a second dimension, DelegatedOperation, whose values are not documented:
// an alarm on the first one alone never gets data. See
// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/metrics-dimensions.html.
type metric struct {
	namespace, name, dimension, value string
	why                               string
	delegated                         bool
}

func (m metric) advice() string {
	if m.delegated {
		return fmt.Sprintf("create one in CloudWatch, on the query SELECT MAX(%s) FROM %q WHERE %s = '%s', or with the second dimension DelegatedOperation",
			m.name, m.namespace, m.dimension, m.value)
	}
	return "create one in CloudWatch"
}

// functionName is the name in a name or an ARN, with a qualifier or without.
func functionName(function string) string {
	if _, name, isARN := strings.Cut(function, ":function:"); isARN {
		function = name
	}
	name, _, _ := strings.Cut(function, ":")
	return name
}

func (x *examination) checkAlarms(ctx context.Context) {
	if x.noAlarms {
		return
	}
	wanted := []metric{
		{"AWS/DynamoDB", "FailedToReplicateRecordCount", "TableName", x.table, "change records that DynamoDB gave up: lost events", true},
		{"AWS/DynamoDB", "AgeOfOldestUnreplicatedRecord", "TableName", x.table, "changes that do not get into the stream", true},
		{"AWS/Kinesis", "GetRecords.IteratorAgeMilliseconds", "StreamName", x.stream, "consumers that fall behind", false},
	}
	for _, function := range x.functions {
		name := functionName(function)
		wanted = append(wanted,
			metric{"AWS/Lambda", "IteratorAge", "FunctionName", name, "a function that falls behind", false},
			metric{"AWS/Lambda", "Errors", "FunctionName", name, "invocations that fail", false})
	}
	for _, id := range x.counted {
		wanted = append(wanted, metric{"AWS/Lambda", "DroppedEventCount", "EventSourceMappingUUID", id,
			"records that Lambda gave up without telling the on-failure destination: lost events", false})
	}
	watched := map[metric]bool{}
	in := &cloudwatch.DescribeAlarmsInput{AlarmTypes: []cloudwatchtypes.AlarmType{cloudwatchtypes.AlarmTypeMetricAlarm}}
	for range maxPages {
		out, err := x.c.alarms.DescribeAlarms(ctx, in)
		if err != nil {
			x.failed(gradeUnknown, "alarms", x.table, "cloudwatch:DescribeAlarms", err)
			return
		}
		for _, alarm := range out.MetricAlarms {
			for _, m := range wanted {
				watched[m] = watched[m] || watches(alarm, m)
			}
		}
		if in.NextToken = out.NextToken; in.NextToken == nil {
			break
		}
	}
	for _, m := range wanted {
		if watched[m] {
			x.add(gradeOK, "alarm", m.value, m.name, "")
			continue
		}
		x.add(gradeWarning, "alarm", m.value, "none on "+m.namespace+" "+m.name+": "+m.why, m.advice())
	}
}

// watches reports whether the alarm, or a part of its expression, is on the metric.
func watches(alarm cloudwatchtypes.MetricAlarm, m metric) bool {
	is := func(namespace, name *string, dimensions []cloudwatchtypes.Dimension) bool {
		if aws.ToString(namespace) != m.namespace || aws.ToString(name) != m.name {
			return false
		}
		first, second := false, !m.delegated
		for _, d := range dimensions {
			first = first || aws.ToString(d.Name) == m.dimension && aws.ToString(d.Value) == m.value
			second = second || aws.ToString(d.Name) == "DelegatedOperation"
		}
		return first && second
	}
	if is(alarm.Namespace, alarm.MetricName, alarm.Dimensions) {
		return true
	}
	for _, q := range alarm.Metrics {
		if q.MetricStat != nil && q.MetricStat.Metric != nil && is(q.MetricStat.Metric.Namespace, q.MetricStat.Metric.MetricName, q.MetricStat.Metric.Dimensions) {
			return true
		}
		if queries(aws.ToString(q.Expression), m) {
			return true
		}
	}
	return false
}

// queries reports whether an expression is a query of CloudWatch Metrics Insights for the metric.
func queries(expression string, m metric) bool {
	words := strings.FieldsFunc(expression, func(r rune) bool { return strings.ContainsRune(" \t\n(),=\"'", r) })
	has := func(all ...string) bool { // one after the other
		for i := range words {
			if len(words)-i >= len(all) && slices.Equal(words[i:i+len(all)], all) {
				return true
			}
		}
		return false
	}
	return len(words) > 0 && strings.EqualFold(words[0], "SELECT") && has(m.name, "FROM", m.namespace) && has("WHERE", m.dimension, m.value)
}
