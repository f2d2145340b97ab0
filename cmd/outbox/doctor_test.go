package main

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cloudwatchtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/rows"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

type doctorJSON struct {
	Findings []finding
	Wrong    bool
}

const eventsStream = "arn:aws:kinesis:us-east-1:000000000000:stream/events"

const mapping = `{"EventSourceMappings":[{"EventSourceArn":"arn:aws:kinesis:us-east-1:000000000000:stream/else","State":"Disabled"},
 {"EventSourceArn":"arn:aws:kinesis:us-east-1:000000000000:stream/events","State":%q,"FunctionResponseTypes":[%s],"BisectBatchOnFunctionError":%t,
  "MaximumRetryAttempts":%d,"MaximumRecordAgeInSeconds":172800,"DestinationConfig":{"OnFailure":{%s}},"TumblingWindowInSeconds":0,
  "StartingPosition":"TRIM_HORIZON","LastProcessingResult":"OK","FunctionArn":"arn:aws:lambda:us-east-1:000000000000:function:mailer",
  "UUID":"uuid-1","MetricsConfig":{"Metrics":["EventCount"]}}]}`

func alarm(namespace, name, dimension, value string) cloudwatchtypes.MetricAlarm {
	a := rings()
	a.Namespace, a.MetricName, a.Dimensions = &namespace, &name, []cloudwatchtypes.Dimension{{Name: &dimension, Value: &value}}
	a.Statistic, a.Period, a.TreatMissingData = cloudwatchtypes.StatisticMaximum, ptr(int32(60)), ptr("breaching")
	return a
}

// query is an alarm on a query of Metrics Insights, or on another expression.
func query(expression string) cloudwatchtypes.MetricAlarm {
	a := rings()
	a.Metrics = []cloudwatchtypes.MetricDataQuery{{Id: ptr("q1"), Expression: &expression, Period: ptr(int32(60)), ReturnData: ptr(true)}}
	return a
}

// rings is an alarm that tells somebody of anything above 0.
func rings() cloudwatchtypes.MetricAlarm {
	return cloudwatchtypes.MetricAlarm{AlarmName: ptr("a"), ActionsEnabled: ptr(true), AlarmActions: []string{"arn:aws:sns:us-east-1:000000000000:alarms"},
		ComparisonOperator: cloudwatchtypes.ComparisonOperatorGreaterThanThreshold, Threshold: ptr(0.0), EvaluationPeriods: ptr(int32(1)), StateValue: cloudwatchtypes.StateValueOk}
}

// healthy is a world in which nothing is wrong.
func healthy(t *testing.T) *world {
	w := newWorld(t)
	w.ok(t, "create", "--retention", "72h", "--pitr", "--inbox", "inbox", "--dead-letters", "dead")
	lives(30*24*time.Hour)(t, w)
	marks(30*24*time.Hour)(t, w)
	row("leases", rows.Item{"group": rows.S("mails"), "id": rows.S("events#L#shardId-000000000000"), "owner": rows.S("w-1"), "fence": rows.N(1), "checkpoint": rows.S("4956")})(t, w)
	row("leases", rows.Item{"group": rows.S("mails"), "id": rows.S("events#W#w-1"), "beat": rows.N(7)})(t, w)
	w.mappings = fmt.Sprintf(mapping, "Enabled", `"ReportBatchItemFailures"`, true, -1, `"Destination":"arn:aws:sqs:us-east-1:000000000000:failed"`)
	w.alarms = []*cloudwatch.DescribeAlarmsOutput{
		{MetricAlarms: []cloudwatchtypes.MetricAlarm{query(`SELECT SUM(FailedToReplicateRecordCount) FROM "AWS/DynamoDB" WHERE TableName = 'events'`),
			alarm("AWS/Lambda", "Errors", "FunctionName", "mailer")}},
		{MetricAlarms: []cloudwatchtypes.MetricAlarm{alarm("AWS/Kinesis", "GetRecords.IteratorAgeMilliseconds", "StreamName", "events"),
			query(`SELECT MAX(AgeOfOldestUnreplicatedRecord) FROM "AWS/DynamoDB" WHERE TableName = 'events'`),
			alarm("AWS/Lambda", "IteratorAge", "FunctionName", "mailer"), alarm("AWS/Lambda", "DroppedEventCount", "EventSourceMappingUUID", "uuid-1")}},
	}
	return w
}

var everything = []string{"doctor", "-o", "json", "--leases", "leases", "--inbox", "inbox", "--dead-letters", "dead", "--function", "arn:aws:lambda:us-east-1:000000000000:function:mailer"}

func TestDoctorFindsNothingWhereNothingIsWrong(t *testing.T) {
	w := healthy(t)
	got := decode[doctorJSON](t, w.ok(t, append(everything, "--strict")...))
	require.False(t, got.Wrong)
	for _, f := range got.Findings {
		require.Equal(t, gradeOK, f.Grade, "%+v", f)
		require.Empty(t, f.Do)
	}
	require.Len(t, got.Findings, 29)
	text := w.ok(t, "doctor", "--no-alarms")
	require.Contains(t, text, "ok       events table events: ACTIVE, with the right keys\n")
	require.Contains(t, text, "ok       lease table leases: ACTIVE, with the right keys\n")
	require.Contains(t, text, "\n14 ok, 0 warnings, 0 unknown, 0 problems\n")
	require.NotContains(t, text, "alarm")
}

// Without names doctor looks at what create makes without names. Only workers need leases, so nothing is wrong without them.
func TestDoctorLooksAtWhatCreateMakes(t *testing.T) {
	w := newWorld(t)
	w.ok(t, "create", "--retention", "72h", "--pitr")
	text := w.ok(t, "doctor", "--no-alarms")
	require.Contains(t, text, "lease table leases: ACTIVE")
	require.Contains(t, text, "\n13 ok, 0 warnings, 2 unknown, 0 problems\n") // without rows nobody knows how long they live, and who reads
	w.recreate(t, "leases", "eventId")
	require.Contains(t, w.run(t, "doctor", "--no-alarms").out, `problem  lease table leases: its partition key is "eventId"`)
	_, err := w.dynamodb.DeleteTable(t.Context(), &dynamodb.DeleteTableInput{TableName: ptr("leases")})
	require.NoError(t, err)
	require.Contains(t, w.ok(t, "doctor", "--no-alarms"), "ok       lease table leases: there is none: ")
	r := w.run(t, "doctor", "--no-alarms", "--leases", "leases")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.out, "problem  lease table leases: it does not exist")
	require.NotContains(t, w.ok(t, "doctor", "--no-alarms", "--leases", ""), "lease table leases")
}

// Each thing that can be wrong is found, with its grade; what is a problem makes the exit code 1.
func TestDoctorFindsWhatIsWrong(t *testing.T) {
	for want, change := range map[string]func(t *testing.T, w *world){
		"problem|events table|it does not exist in us-east-1": func(t *testing.T, w *world) {
			_, err := w.dynamodb.DeleteTable(t.Context(), &dynamodb.DeleteTableInput{TableName: ptr("events")})
			require.NoError(t, err)
		},
		"problem|stream|it does not exist in us-east-1": func(t *testing.T, w *world) {
			_, err := w.kinesis.DeleteStream(t.Context(), &kinesis.DeleteStreamInput{StreamName: ptr("events")})
			require.NoError(t, err)
		},
		"problem|events table|its sort key is \"timestamp\"": func(t *testing.T, w *world) { w.recreate(t, "events", "eventId", "timestamp") },
		"problem|lease table|its partition key is \"eventId\"": func(t *testing.T, w *world) {
			w.recreate(t, "leases", "eventId", "id")
		},
		"problem|inbox table|its sort key is \"\", not \"consumer\"": func(t *testing.T, w *world) { w.recreate(t, "inbox", "eventId") },
		"warning|time to live|it is off":                             func(t *testing.T, w *world) { w.recreate(t, "dead", "group", "id") },
		"problem|time to live|it is on the attribute \"else\"": func(t *testing.T, w *world) {
			w.recreate(t, "inbox", "eventId", "consumer")
			_, err := w.dynamodb.UpdateTimeToLive(t.Context(), &dynamodb.UpdateTimeToLiveInput{TableName: ptr("inbox"),
				TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: ptr("else"), Enabled: ptr(true)}})
			require.NoError(t, err)
		},
		"problem|destination|it is DISABLED": func(t *testing.T, w *world) {
			_, err := w.dynamodb.DisableKinesisStreamingDestination(t.Context(), &dynamodb.DisableKinesisStreamingDestinationInput{TableName: ptr("events"), StreamArn: ptr("arn:aws:kinesis:us-east-1:000000000000:stream/events")})
			require.NoError(t, err)
		},
		"problem|destination|there is none to events: nothing reaches the stream": func(t *testing.T, w *world) { w.recreate(t, "events", "eventId") },
		"problem|destination|it has one to arn:aws:kinesis:us-east-1:000000000000:stream/else": func(t *testing.T, w *world) {
			w.recreate(t, "events", "eventId")
			w.ok(t, "create", "--stream", "else", "--yes")
		},
		"warning|precision|MILLISECOND": func(t *testing.T, w *world) {
			_, err := w.dynamodb.UpdateKinesisStreamingDestination(t.Context(), &dynamodb.UpdateKinesisStreamingDestinationInput{TableName: ptr("events"), StreamArn: ptr("arn:aws:kinesis:us-east-1:000000000000:stream/events"),
				UpdateKinesisStreamingConfiguration: &types.UpdateKinesisStreamingConfiguration{ApproximateCreationDateTimePrecision: types.ApproximateCreationDateTimePrecisionMillisecond}})
			require.NoError(t, err)
		},
		"warning|retention|records are kept for 24h0m": func(t *testing.T, w *world) {
			_, err := w.kinesis.DecreaseStreamRetentionPeriod(t.Context(), &kinesis.DecreaseStreamRetentionPeriodInput{StreamName: ptr("events"), RetentionPeriodHours: ptr(int32(24))})
			require.NoError(t, err)
			w.mappings = strings.Replace(w.mappings, "172800", "72000", 1)
		},
		"warning|distribution|AUTO: Kinesis ignores the partition keys": func(t *testing.T, w *world) {
			_, err := w.kinesis.UpdateStreamMode(t.Context(), &kinesis.UpdateStreamModeInput{StreamARN: ptr(eventsStream),
				StreamModeDetails: &kinesistypes.StreamModeDetails{StreamMode: kinesistypes.StreamModeOnDemand}})
			require.NoError(t, err)
			_, err = w.kinesis.UpdateStreamRecordDistributionStrategy(t.Context(), &kinesis.UpdateStreamRecordDistributionStrategyInput{StreamARN: ptr(eventsStream),
				RecordDistributionStrategy: kinesistypes.RecordDistributionStrategyAuto})
			require.NoError(t, err)
		},
		"warning|record size|the stream takes records of up to 10485760 bytes, and a Writer that is not told refuses more than 1048576": func(t *testing.T, w *world) { w.takes(t, 10<<10) },
		"problem|lifetime of rows|what was missed cannot be replayed": func(t *testing.T, w *world) {
			writer, err := outbox.NewWriter(w.dynamodb, "events", outbox.WithTTL(48*time.Hour))
			require.NoError(t, err)
			require.NoError(t, writer.Transact(t.Context(), nil, outbox.NewEvent("a", orderCreated{})))
		},
		"problem|lifetime of rows|which is no time in seconds: DynamoDB never deletes such a row": func(t *testing.T, w *world) {
			_, err := w.dynamodb.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: ptr("events"), Item: map[string]types.AttributeValue{
				"eventId": &types.AttributeValueMemberS{Value: "1"}, "timestamp": &types.AttributeValueMemberN{Value: "1719347890250"},
				"expiresAt": &types.AttributeValueMemberN{Value: "1819347890250"}}})
			require.NoError(t, err)
		},
		"warning|point-in-time recovery|it is off": func(t *testing.T, w *world) {
			_, err := w.dynamodb.UpdateContinuousBackups(t.Context(), &dynamodb.UpdateContinuousBackupsInput{TableName: ptr("events"),
				PointInTimeRecoverySpecification: &types.PointInTimeRecoverySpecification{PointInTimeRecoveryEnabled: ptr(false)}})
			require.NoError(t, err)
		},
		"warning|alarm|none on AWS/Kinesis GetRecords.IteratorAgeMilliseconds":     func(t *testing.T, w *world) { w.alarms = w.alarms[:1] },
		"warning|alarm|none on AWS/DynamoDB FailedToReplicateRecordCount":          func(t *testing.T, w *world) { w.alarms = w.alarms[1:] },
		"problem|function|no event source mapping reads events":                    func(t *testing.T, w *world) { w.mappings = `{"EventSourceMappings":[]}` },
		"problem|event source mapping|it has no ReportBatchItemFailures":           w2(fmt.Sprintf(mapping, "Enabled", "", true, -1, `"Destination":"arn:aws:sqs:us-east-1:000000000000:failed"`)),
		"problem|event source mapping|it is Disabled":                              w2(fmt.Sprintf(mapping, "Disabled", `"ReportBatchItemFailures"`, true, -1, `"Destination":"arn:aws:sqs:us-east-1:000000000000:failed"`)),
		"problem|giving up|it gives records up, and has no on-failure destination": w2(fmt.Sprintf(mapping, "Enabled", `"ReportBatchItemFailures"`, true, 3, ``)),
		"warning|giving up|it has no on-failure destination: a record that always fails": func(_ *testing.T, w *world) {
			w.mappings = strings.Replace(fmt.Sprintf(mapping, "Enabled", `"ReportBatchItemFailures"`, true, -1, ``), "172800", "-1", 1)
		},
		"warning|event source mapping|it starts at LATEST": func(_ *testing.T, w *world) {
			w.mappings = strings.Replace(w.mappings, `TRIM_HORIZON`, `LATEST`, 1)
		},
		"warning|event source mapping|it has no EventCount metrics": func(_ *testing.T, w *world) {
			w.mappings = strings.Replace(w.mappings, `"EventCount"`, ``, 1)
		},
		"warning|alarm|none on AWS/Lambda DroppedEventCount: records that Lambda gave up": func(_ *testing.T, w *world) {
			w.mappings = strings.Replace(w.mappings, `uuid-1`, `uuid-2`, 1)
		},
		"warning|event source mapping|it does not bisect": w2(fmt.Sprintf(mapping, "Enabled", `"ReportBatchItemFailures"`, false, -1, `"Destination":"arn:aws:sqs:us-east-1:000000000000:failed"`)),
		"warning|alarm|none on AWS/DynamoDB AgeOfOldestUnreplicatedRecord": func(t *testing.T, w *world) {
			w.alarms[1].MetricAlarms[1] = alarm("AWS/DynamoDB", "AgeOfOldestUnreplicatedRecord", "TableName", "events") // without its second dimension
		},
		"unknown|alarms|cloudwatch:DescribeAlarms is refused":                          refusing("DescribeAlarms"),
		"unknown|function|lambda:ListEventSourceMappings is refused":                   refusing("ListEventSourceMappings"),
		"unknown|point-in-time recovery|dynamodb:DescribeContinuousBackups is refused": refusing("DescribeContinuousBackups"),
		"unknown|time to live|dynamodb:DescribeTimeToLive is refused":                  refusing("DescribeTimeToLive"),
		"unknown|lifetime of rows|dynamodb:Scan is refused":                            refusing("Scan"),
		"problem|events table|dynamodb:DescribeTable is refused":                       refusing("DescribeTable"),
		"problem|stream|kinesis:DescribeStreamSummary is refused":                      refusing("DescribeStreamSummary"),
		"problem|destination|dynamodb:DescribeKinesisStreamingDestination is refused":  refusing("DescribeKinesisStreamingDestination"),
		"unknown|point-in-time recovery|dynamodb:DescribeContinuousBackups failed: ":   func(t *testing.T, w *world) { w.broken = "DescribeContinuousBackups" },
	} {
		w := healthy(t)
		change(t, w)
		r := w.run(t, everything...)
		require.Empty(t, r.err, want)
		got := decode[doctorJSON](t, r.out)
		part := strings.SplitN(want, "|", 3)
		found := false
		for _, f := range got.Findings {
			found = found || f.Grade == part[0] && f.Check == part[1] && strings.Contains(f.Finding, part[2])
		}
		require.True(t, found, "%s is not among %+v", want, got.Findings)
		require.Equal(t, part[0] == gradeProblem, got.Wrong, want)
		require.Equal(t, part[0] == gradeProblem, r.code == exitFailed, want)
		if part[0] != gradeProblem {
			require.Equal(t, exitFailed, w.run(t, append(everything, "--strict")...).code, want)
		}
	}
}

func w2(mappings string) func(*testing.T, *world) {
	return func(_ *testing.T, w *world) { w.mappings = mappings }
}

func refusing(operation string) func(*testing.T, *world) {
	return func(_ *testing.T, w *world) { w.refuse(operation) }
}

// recreate replaces a table.
func (w *world) recreate(t *testing.T, table string, keys ...string) {
	_, err := w.dynamodb.DeleteTable(t.Context(), &dynamodb.DeleteTableInput{TableName: &table})
	require.NoError(t, err)
	w.CreateTable(t, table, keys[0], keys[1:]...)
}

// --ttl replaces the measuring, and makes a time to live that is off a problem.
func TestDoctorComparesTheGivenTTL(t *testing.T) {
	w := healthy(t)
	require.Equal(t, exitOK, w.run(t, "doctor", "--ttl", "73h").code)
	r := w.run(t, "doctor", "--ttl", "72h")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.out, "rows live for 72h0m (by --ttl), and the stream keeps records for 72h0m")
	require.Contains(t, r.out, "do: give WithTTL more than the retention")
	require.Empty(t, r.err)
	w.recreate(t, "events", "eventId")
	w.ok(t, "create", "--no-ttl", "--yes")
	require.Contains(t, w.run(t, "doctor", "--ttl", "720h").out, "problem  time to live events: it is off, although rows are written with one")
	require.Contains(t, w.run(t, "doctor").out, "unknown  lifetime of rows events: the table has no row to measure\n")
}

// --max-record-bytes is what the service gives its Writer.
func TestDoctorComparesTheGivenRecordSize(t *testing.T) {
	w := healthy(t)
	r := w.run(t, "doctor", "--max-record-bytes", "2097152")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.out, "problem  record size events: the stream takes records of up to 1048576 bytes, and a Writer lets pass 2097152: DynamoDB drops what is larger\n")
	require.Contains(t, r.out, "do: raise the stream's limit (UpdateMaxRecordSize), or give WithMaxRecordBytes no more\n")
	w.takes(t, 2<<10)
	for _, given := range []string{"2097152", "1048576"} {
		require.Contains(t, w.ok(t, "doctor", "--strict", "--no-alarms", "--max-record-bytes", given),
			"ok       record size events: the stream takes records of up to 2097152 bytes, a Writer lets pass "+given+"\n")
	}
	for _, wrong := range []string{"1023", "10485761"} {
		r := w.run(t, "doctor", "--max-record-bytes", wrong)
		require.Equal(t, exitUsage, r.code)
		require.Contains(t, r.err, "--max-record-bytes: want 1024 to 10485760, have "+wrong)
	}
}

// takes sets the largest record of the stream.
func (w *world) takes(t *testing.T, kib int32) {
	_, err := w.kinesis.UpdateMaxRecordSize(t.Context(), &kinesis.UpdateMaxRecordSizeInput{StreamARN: ptr(eventsStream), MaxRecordSizeInKiB: &kib})
	require.NoError(t, err)
}

// What changes while doctor looks, and what is not ACTIVE yet.
func TestDoctorOfWhatIsBeingMade(t *testing.T) {
	w := newWorld(t, outboxtest.WithDelays(time.Hour))
	_, err := w.kinesis.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: ptr("events"), ShardCount: ptr(int32(1))})
	require.NoError(t, err)
	r := w.run(t, "doctor", "-o", "json")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.out, "it is CREATING")
}

// An alarm on a query of Metrics Insights counts, which is how a metric is watched whatever its other dimensions are.
func TestAnAlarmOnAQueryIsAnAlarm(t *testing.T) {
	m := metric{namespace: "AWS/DynamoDB", name: "FailedToReplicateRecordCount", dimension: "TableName", value: "events"}
	for expression, want := range map[string]bool{
		`SELECT SUM(FailedToReplicateRecordCount) FROM "AWS/DynamoDB" WHERE TableName = 'events'`:                                                           true,
		`select MAX(FailedToReplicateRecordCount) FROM "AWS/DynamoDB" WHERE TableName='events'`:                                                             true,
		`SELECT SUM(FailedToReplicateRecordCount) FROM "AWS/DynamoDB" WHERE TableName = 'events-2'`:                                                         false,
		`SELECT SUM(FailedToReplicateRecordCount) FROM "AWS/DynamoDB"`:                                                                                      false,
		`SELECT SUM(FailedToReplicateRecordCount) FROM SCHEMA("AWS/DynamoDB", TableName, DelegatedOperation) WHERE TableName = 'events' GROUP BY TableName`: true,
		`SELECT SUM(FailedToReplicateRecordCount) FROM "AWS/DynamoDB" WHERE TableName = 'events' AND DelegatedOperation = 'any'`:                            false,
		`SELECT SUM(ThrottledPutRecordCount) FROM "AWS/DynamoDB" WHERE TableName = 'events'`:                                                                false,
		`SELECT SUM(FailedToReplicateRecordCount) FROM "Orders" WHERE TableName = 'events'`:                                                                 false,
		`SUM(METRICS())`: false,
		``:               false,
	} {
		alarm := cloudwatchtypes.MetricAlarm{Metrics: []cloudwatchtypes.MetricDataQuery{{Expression: &expression}}}
		require.Equal(t, want, watchOf(alarm, m).on, expression)
	}
}

// An account may have thousands of alarms, and a function many mappings: each list is read to its end.
func TestDoctorReadsListsToTheirEnd(t *testing.T) {
	w := healthy(t)
	first := make([]*cloudwatch.DescribeAlarmsOutput, 60)
	for i := range first {
		first[i] = &cloudwatch.DescribeAlarmsOutput{MetricAlarms: []cloudwatchtypes.MetricAlarm{alarm("AWS/SQS", "Else", "QueueName", "q")}}
	}
	w.alarms = append(first, w.alarms...)
	pages := 0
	w.edit("ListEventSourceMappings", func(_, a map[string]any) {
		if pages++; pages%60 != 0 {
			a["EventSourceMappings"], a["NextMarker"] = []any{}, fmt.Sprint(pages)
		}
	})
	w.ok(t, append(everything, "--strict")...)
	require.Equal(t, 60, pages)
	w.edit("ListEventSourceMappings", func(_, a map[string]any) { a["NextMarker"] = "again" })
	require.Contains(t, w.ok(t, "doctor", "--function", "mailer"), "unknown  function mailer: lambda:ListEventSourceMappings: the list does not end\n")
}

// A composite alarm may tell for an alarm that has no actions of its own.
func TestACompositeAlarmTells(t *testing.T) {
	w := healthy(t)
	alarmWith("IteratorAge", func(a *cloudwatchtypes.MetricAlarm) {
		a.AlarmName, a.ActionsEnabled, a.AlarmActions = ptr("behind"), ptr(false), nil
	})(t, w)
	require.Equal(t, exitFailed, w.run(t, append(everything, "--strict")...).code)
	w.alarms[1].CompositeAlarms = []cloudwatchtypes.CompositeAlarm{{AlarmName: ptr("all"), AlarmRule: ptr(`ALARM("behind") OR ALARM("else")`), ActionsEnabled: ptr(true), AlarmActions: []string{"arn"}}}
	w.ok(t, append(everything, "--strict")...)
	w.alarms[1].CompositeAlarms[0].AlarmRule = ptr(`ALARM("behind-2")`)
	require.Equal(t, exitFailed, w.run(t, append(everything, "--strict")...).code)
}

// A server that emulates AWS has no alarms and no functions: nothing is known of them, in words that can be read.
func TestDoctorOfAServerThatEmulatesLess(t *testing.T) {
	w := healthy(t)
	plain := httptest.NewServer(w.Server)
	t.Cleanup(plain.Close)
	t.Setenv("AWS_ENDPOINT_URL", plain.URL)
	var out, err bytes.Buffer
	a := newApp(strings.NewReader(""), &out, &err)
	a.httpClient = outboxtest.BufferedClient(nil)
	require.Equal(t, exitOK, a.run(t.Context(), []string{"doctor", "--function", "mailer"}))
	require.Empty(t, err.String())
	where := " is not available in us-east-1 at " + plain.URL + ": outboxtest does not emulate "
	require.Contains(t, out.String(), "unknown  alarms events: cloudwatch:DescribeAlarms"+where+"DescribeAlarms of the service monitoring\n")
	require.Contains(t, out.String(), "unknown  function mailer: lambda:ListEventSourceMappings"+where+"GET /2015-03-31/event-source-mappings of the service lambda\n")
	require.Contains(t, out.String(), "unknown  concurrency mailer: lambda:GetFunctionConcurrency"+where+"GET /2019-09-30/functions/mailer/concurrency of the service lambda\n")
	require.Contains(t, out.String(), "3 unknown, 0 problems\n")
}

// What an inbox remembers less the margin of the library is what Reconcile judges.
func TestDoctorSaysHowFarBackReconcileJudges(t *testing.T) {
	w := healthy(t)
	memories := 0
	for _, f := range decode[doctorJSON](t, w.ok(t, everything...)).Findings {
		if f.Check == "inbox memory" {
			memories++
			require.Contains(t, f.Finding, ", which is long enough, and lets Reconcile judge events of the last ")
		}
	}
	require.Equal(t, 1, memories, "findings about what the inbox remembers")
	for _, memory := range []time.Duration{72 * time.Hour, 30 * 24 * time.Hour} {
		box, err := outbox.NewInbox(w.dynamodb, "inbox", "mails", outbox.WithInboxTTL(memory))
		require.NoError(t, err)
		consumer, err := outbox.NewConsumer(outbox.WithInbox(box), outbox.FailUnknownTypes())
		require.NoError(t, err)
		book, err := consumer.Accounts("events")
		require.NoError(t, err)
		require.Equal(t, ", and lets Reconcile judge events of the last "+age(book.Memory), reconciles(memory))
	}
	require.Contains(t, reconciles(48*time.Hour), "too short for Reconcile")
}
