package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cloudwatchtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// setup is a set-up with one thing wrong: what differs in the answers of AWS, and the finding, as grade|check|a part of its text.
type setup struct {
	want   string
	change func(*testing.T, *world)
}

const customerKey = "arn:aws:kms:us-east-1:000000000000:key/1234"

// brokenSetups has a row for each thing that doctor finds.
func brokenSetups() []setup {
	return []setup{
		// The stream.
		{"problem|stream|it is DELETING", summary("StreamStatus", "DELETING")},
		{"unknown|stream|the answer does not say its status", summary("StreamStatus", nil)},
		{"unknown|stream|the answer does not say how many open shards", summary("OpenShardCount", nil)},
		{"problem|stream|it has no open shard", summary("OpenShardCount", 0)},
		{"unknown|stream|the answer does not say its ARN", summary("StreamARN", nil)},
		{"unknown|retention|the answer does not say", summary("RetentionPeriodHours", nil)},
		{"unknown|encryption|the answer does not say", summary("EncryptionType", nil)},
		{"unknown|distribution|the answer does not say", summary("RecordDistributionStrategy", nil)},
		{"unknown|record size|the answer does not say", summary("MaxRecordSizeInKiB", nil)},
		{"problem|encryption|is Disabled", key("KeyState", "Disabled")},
		{"problem|encryption|is PendingDeletion", key("KeyState", "PendingDeletion")},
		{"unknown|encryption|the answer does not say", key("KeyState", nil)},
		{"unknown|encryption|kms:DescribeKey is refused", func(t *testing.T, w *world) { key("KeyState", "Enabled")(t, w); w.refuse("DescribeKey") }},

		// The tables.
		{"problem|events table|it is INACCESSIBLE_ENCRYPTION_CREDENTIALS", table("events", "TableStatus", "INACCESSIBLE_ENCRYPTION_CREDENTIALS")},
		{"unknown|events table|the answer does not say its status", table("events", "TableStatus", nil)},
		{"problem|encryption|the table's key is out of reach since", table("events", "SSEDescription", map[string]any{"SSEType": "KMS", "KMSMasterKeyArn": customerKey, "InaccessibleEncryptionDateTime": 1.79e9})},
		{"problem|encryption|is PendingDeletion", func(t *testing.T, w *world) {
			table("dead", "SSEDescription", map[string]any{"SSEType": "KMS", "Status": "ENABLED", "KMSMasterKeyArn": customerKey})(t, w)
			describeKey(w, "KeyState", "PendingDeletion")
		}},
		{"problem|time to live|it is off, although rows have an expiresAt", timeToLive("events", "TimeToLiveStatus", "DISABLED")},
		{"unknown|time to live|the answer does not say", timeToLive("inbox", "TimeToLiveStatus", nil)},
		{"problem|lifetime of rows|which is no time in seconds", row("events", rows.Item{"eventId": rows.S("1"), "expiresAt": rows.Millis(time.Now().Add(time.Hour * 999))})},
		{"problem|lifetime of rows|is no number", row("events", rows.Item{"eventId": rows.S("1"), "timestamp": rows.Millis(time.Now()), "expiresAt": rows.S("1819347890")})},
		{"warning|lifetime of rows|leaves 24h", lives(4 * 24 * time.Hour)},
		{"warning|lifetime of rows|expires within", func(t *testing.T, w *world) { // events of long ago that were written now
			w.empty(t, "events")
			row("events", rows.Item{"eventId": rows.S("1"), "timestamp": rows.N(1_700_000_000_000), "expiresAt": rows.N(time.Now().Add(24 * time.Hour).Unix())})(t, w)
		}},
		{"unknown|lifetime of rows|the table has no row", func(t *testing.T, w *world) { w.empty(t, "events") }},
		{"unknown|point-in-time recovery|the answer does not say", func(_ *testing.T, w *world) {
			w.edit("DescribeContinuousBackups", func(_, a map[string]any) { delete(a, "ContinuousBackupsDescription") })
		}},
		{"unknown|destination|the answer does not say its status", destination("DestinationStatus", nil)},
		{"problem|destination|it is ENABLE_FAILED no rights", func(_ *testing.T, w *world) {
			w.edit("DescribeKinesisStreamingDestination", func(_, a map[string]any) {
				d := in(a, "KinesisDataStreamDestinations", 0)
				d["DestinationStatus"], d["DestinationStatusDescription"] = "ENABLE_FAILED", "no rights"
			})
		}},
		{"unknown|destination|the answer does not say to which stream", destination("StreamArn", nil)},
		{"unknown|precision|the answer does not say", destination("ApproximateCreationDateTimePrecision", nil)},
		{"unknown|destination|the answer does not say which destinations there are", func(_ *testing.T, w *world) {
			w.edit("DescribeKinesisStreamingDestination", func(_, a map[string]any) { delete(a, "KinesisDataStreamDestinations") })
		}},
		{"problem|destination|it has one to arn:aws:kinesis:us-east-1:999999999999:stream/events", destination("StreamArn", "arn:aws:kinesis:us-east-1:999999999999:stream/events")},

		// The mapping.
		{"problem|filter|lets no event through", filter(`{"data":{"eventName":["REMOVE"]}}`)},
		{"problem|filter|lets no event through", filter(`{"eventName":["INSERT"]}`)},
		{"problem|filter|lets no event through", filter(`{"data":{"eventName":["insert"]}}`)},
		{"problem|filter|lets no event through", filter(`{"data":{"tableName":["orders"]}}`)},
		{"problem|filter|lets no event through", filter(`{"data":{"dynamodb":{"NewImage":{"type":["ORDER_CREATED"]}}}}`)},
		{"problem|filter|lets no event through", filter(`{"data":{"dynamodb":{"OldImage":{"type":{"S":["ORDER_CREATED"]}}}}}`)},
		{"unknown|filter|lets some events through", filter(`{"data":{"dynamodb":{"NewImage":{"type":{"S":["ORDER_CREATED"]}}}}}`)},
		{"unknown|filter|cannot be read", filter(`{"data":`)},
		{"unknown|filter|is encrypted", mappingWith("KMSKeyArn", customerKey)},
		{"problem|filter|Lambda cannot use it: KMSAccessDenied", mappingWith("FilterCriteriaError", map[string]any{"ErrorCode": "KMSAccessDenied", "Message": "no"})},
		{"problem|giving up|not below the stream's 72h", mappingWith("MaximumRecordAgeInSeconds", 72*3600)},
		{"problem|giving up|no retry", mappingWith("MaximumRetryAttempts", 0)},
		{"warning|giving up|after 3 retries", mappingWith("MaximumRetryAttempts", 3)},
		{"problem|giving up|older than 1m0s", mappingWith("MaximumRecordAgeInSeconds", 60)},
		{"warning|giving up|older than 2h", mappingWith("MaximumRecordAgeInSeconds", 7200)},
		{"warning|giving up|never gets anything", mappingWith("MaximumRecordAgeInSeconds", -1)},
		{"unknown|giving up|does not say", mappingWith("MaximumRecordAgeInSeconds", nil)},
		{"unknown|giving up|does not say", mappingWith("MaximumRetryAttempts", nil)},
		{"problem|event source mapping|its last result is PROBLEM: Function call failed", mappingWith("LastProcessingResult", "PROBLEM: Function call failed")},
		{"unknown|event source mapping|its last result is Throttled", mappingWith("LastProcessingResult", "Throttled")},
		{"unknown|event source mapping|the answer does not say its last result", mappingWith("LastProcessingResult", nil)},
		{"problem|event source mapping|it has a tumbling window of 60s", mappingWith("TumblingWindowInSeconds", 60)},
		{"unknown|event source mapping|the answer does not say its state", mappingWith("State", nil)},
		{"warning|event source mapping|it is Updating", mappingWith("State", "Updating")},
		{"problem|event source mapping|it is Disabled (Lambda cannot use the role)", func(t *testing.T, w *world) {
			w.edit("ListEventSourceMappings", func(_, a map[string]any) {
				m := in(a, "EventSourceMappings", 1)
				m["State"], m["StateTransitionReason"] = "Disabled", "Lambda cannot use the role"
			})
		}},
		{"unknown|event source mapping|the answer does not say where it starts", mappingWith("StartingPosition", nil)},
		{"problem|function|no event source mapping reads events", mappingWith("EventSourceArn", "arn:aws:kinesis:us-east-1:999999999999:stream/events")},

		{"unknown|function|the answer has no list of mappings", func(_ *testing.T, w *world) {
			w.edit("ListEventSourceMappings", func(_, a map[string]any) { delete(a, "EventSourceMappings") })
		}},

		{"problem|concurrency|its reserved concurrency is 0", func(_ *testing.T, w *world) {
			w.edit("GetFunctionConcurrency", func(_, a map[string]any) { a["ReservedConcurrentExecutions"] = 0 })
		}},
		{"unknown|concurrency|lambda:GetFunctionConcurrency is refused", refusing("GetFunctionConcurrency")},

		// The inbox, the dead letters, the leases.
		{"problem|inbox memory|forgets an event after 48h", marks(48 * time.Hour)},
		{"unknown|inbox memory|handledAt of a mark is no time", row("inbox", rows.Item{"eventId": rows.S("1"), "consumer": rows.S("mails#events"),
			"handledAt": rows.S("noon"), "expiresAt": rows.N(time.Now().Add(time.Hour).Unix())})},
		{"warning|inbox memory|forgets an event after 168h", marks(7 * 24 * time.Hour)},
		{"warning|inbox memory|and rows live for ever", func(t *testing.T, w *world) {
			w.empty(t, "events")
			row("events", rows.Item{"eventId": rows.S("1"), "timestamp": rows.Millis(time.Now())})(t, w)
		}},
		{"unknown|inbox memory|and how long rows live is not known", func(t *testing.T, w *world) { w.empty(t, "events") }},
		{"unknown|inbox memory|no mark", func(t *testing.T, w *world) { w.empty(t, "inbox") }},
		{"unknown|inbox memory|dynamodb:Scan is refused", refusing("Scan")},
		{"warning|dead letters|2 letters of mails", func(t *testing.T, w *world) {
			row("dead", rows.Item{"group": rows.S("mails"), "id": rows.S("a#1")})(t, w)
			row("dead", rows.Item{"group": rows.S("mails"), "id": rows.S("b#1")})(t, w)
		}},
		{"problem|shards|records of shardId-000000000000 are lost to group mails", row("leases", rows.Item{"group": rows.S("mails"), "id": rows.S("events#L#shardId-000000000000"),
			"fence": rows.N(1), "checkpoint": rows.S("4956"), "ttl": rows.N(time.Now().Add(time.Hour).Unix())})},
		{"warning|workers|has no worker at present", row("leases", rows.Item{"group": rows.S("mails"), "id": rows.S("events#W#w-1"), "beat": rows.N(7), "dead": rows.Bool(true)})},
		{"unknown|dead letters|dynamodb:Scan is refused", refusing("Scan")},
		{"unknown|groups|dynamodb:Scan is refused", refusing("Scan")},
		{"warning|workers|worker w-1 of group mails cannot do its work", row("leases", rows.Item{"group": rows.S("mails"), "id": rows.S("events#W#w-1"), "beat": rows.N(1), "unable": rows.Bool(true)})},

		// The alarms.
		{"warning|alarm|its actions are off", alarmWith("GetRecords.IteratorAgeMilliseconds", func(a *cloudwatchtypes.MetricAlarm) { a.ActionsEnabled = ptr(false) })},
		{"unknown|alarm|does not say whether its actions are on", alarmWith("GetRecords.IteratorAgeMilliseconds", func(a *cloudwatchtypes.MetricAlarm) { a.ActionsEnabled = nil })},
		{"warning|alarm|it tells nobody", alarmWith("IteratorAge", func(a *cloudwatchtypes.MetricAlarm) { a.AlarmActions = nil })},
		{"warning|alarm|fires only above 259200000", alarmWith("IteratorAge", func(a *cloudwatchtypes.MetricAlarm) { a.Threshold = ptr(72 * 3600e3) })},
		{"warning|alarm|fires only above 5", alarmWith("DroppedEventCount", func(a *cloudwatchtypes.MetricAlarm) { a.Threshold = ptr(5.0) })},
		{"warning|alarm|LessThanThreshold", alarmWith("Errors", func(a *cloudwatchtypes.MetricAlarm) { a.ComparisonOperator = "LessThanThreshold" })},
		{"warning|alarm|fires always", alarmWith("Errors", func(a *cloudwatchtypes.MetricAlarm) { a.ComparisonOperator = "GreaterThanOrEqualToThreshold" })},
		{"unknown|alarm|no threshold", alarmWith("Errors", func(a *cloudwatchtypes.MetricAlarm) { a.Threshold = nil })},
		{"warning|alarm|by Minimum", alarmWith("IteratorAge", func(a *cloudwatchtypes.MetricAlarm) { a.Statistic = "Minimum" })},
		{"warning|alarm|by SampleCount", alarmWith("Errors", func(a *cloudwatchtypes.MetricAlarm) { a.Statistic = "SampleCount" })},
		{"warning|alarm|takes 168h", alarmWith("IteratorAge", func(a *cloudwatchtypes.MetricAlarm) { a.Period, a.EvaluationPeriods = ptr(int32(86400)), ptr(int32(7)) })},
		{"warning|alarm|missing data", alarmWith("GetRecords.IteratorAgeMilliseconds", func(a *cloudwatchtypes.MetricAlarm) { a.TreatMissingData = nil })},
		{"warning|alarm|none on AWS/Lambda IteratorAge", alarmWith("IteratorAge", func(a *cloudwatchtypes.MetricAlarm) {
			a.Dimensions = append(a.Dimensions, cloudwatchtypes.Dimension{Name: ptr("Shard"), Value: ptr("0")})
		})},
		{"unknown|alarm|the values of DelegatedOperation are not documented", delegated("any")},
		{"warning|alarm|none on AWS/DynamoDB AgeOfOldestUnreplicatedRecord", queried(`SELECT MAX(AgeOfOldestUnreplicatedRecord) FROM "AWS/DynamoDB" WHERE TableName = 'events' AND Shard = '0'`)},
		{"warning|alarm|by MIN", queried(`SELECT MIN(AgeOfOldestUnreplicatedRecord) FROM "AWS/DynamoDB" WHERE TableName = 'events'`)},
		{"unknown|alarm|an expression", queried(`m1 * 0`)},
		{"problem|alarm|it is in ALARM", alarmWith("DroppedEventCount", func(a *cloudwatchtypes.MetricAlarm) { a.StateValue = cloudwatchtypes.StateValueAlarm })},
		{"warning|alarm|LessThanThreshold, which does not tell of more", alarmWith("IteratorAge", func(a *cloudwatchtypes.MetricAlarm) {
			a.StateValue, a.ComparisonOperator = cloudwatchtypes.StateValueAlarm, "LessThanThreshold"
		})},
		{"unknown|alarm|the metric of account 999999999999, which may be another; it is in ALARM at present", func(_ *testing.T, w *world) {
			a := &w.alarms[0].MetricAlarms[0]
			a.StateValue, a.Metrics[0].AccountId = cloudwatchtypes.StateValueAlarm, ptr("999999999999")
		}},
		{"unknown|alarm|its state is INSUFFICIENT_DATA", alarmWith("IteratorAge", func(a *cloudwatchtypes.MetricAlarm) { a.StateValue = cloudwatchtypes.StateValueInsufficientData })},
		{"unknown|alarm|its state is not in the answer", alarmWith("IteratorAge", func(a *cloudwatchtypes.MetricAlarm) { a.StateValue = "" })},
		{"unknown|alarm|the answer does not say its statistic", alarmWith("IteratorAge", func(a *cloudwatchtypes.MetricAlarm) { a.Statistic = "" })},
		{"unknown|alarm|the answer does not say its period", alarmWith("IteratorAge", func(a *cloudwatchtypes.MetricAlarm) { a.Period = nil })},
		{"unknown|alarms|the list does not end", func(_ *testing.T, w *world) {
			w.alarms = []*cloudwatch.DescribeAlarmsOutput{{NextToken: ptr("0")}}
		}},
	}
}

// Each set-up with something wrong leads to its finding, and to no exit code 0 with --strict.
func TestEachBrokenSetupIsFound(t *testing.T) {
	require.GreaterOrEqual(t, len(brokenSetups()), 40)
	for i, s := range append(brokenSetups(), believedAnswers()...) {
		t.Run(fmt.Sprintf("%02d %s", i, s.want), func(t *testing.T) {
			w := healthy(t)
			s.change(t, w)
			r := w.run(t, append(everything, "--strict")...)
			got := decode[doctorJSON](t, r.out)
			part := strings.SplitN(s.want, "|", 3)
			found := false
			for _, f := range got.Findings {
				found = found || f.Grade == part[0] && f.Check == part[1] && strings.Contains(f.Finding, part[2])
			}
			require.True(t, found, "%s is not among %+v", s.want, got.Findings)
			require.Equal(t, exitFailed, r.code)
			require.Equal(t, part[0] == gradeProblem, w.run(t, everything...).code == exitFailed)
		})
	}
}

// in is a part of an answer: a member of an object or an element of a list.
func in(answer map[string]any, path ...any) map[string]any {
	var at any = answer
	for _, p := range path {
		switch p := p.(type) {
		case string:
			at = at.(map[string]any)[p]
		case int:
			at = at.([]any)[p]
		}
	}
	return at.(map[string]any)
}

// set changes a member, or takes it away.
func set(of map[string]any, member string, value any) {
	if of[member] = value; value == nil {
		delete(of, member)
	}
}

func summary(member string, value any) func(*testing.T, *world) {
	return func(_ *testing.T, w *world) {
		w.edit("DescribeStreamSummary", func(_, a map[string]any) { set(in(a, "StreamDescriptionSummary"), member, value) })
	}
}

// key has the stream encrypted by a key of the customer's, of which something is known.
func key(member string, value any) func(*testing.T, *world) {
	return func(_ *testing.T, w *world) {
		w.edit("DescribeStreamSummary", func(_, a map[string]any) {
			d := in(a, "StreamDescriptionSummary")
			d["EncryptionType"], d["KeyId"] = "KMS", customerKey
		})
		describeKey(w, member, value)
	}
}

func describeKey(w *world, member string, value any) {
	w.edit("DescribeKey", func(_, a map[string]any) { set(in(a, "KeyMetadata"), member, value) })
}

func table(name, member string, value any) func(*testing.T, *world) {
	return func(_ *testing.T, w *world) {
		w.edit("DescribeTable", func(asked, a map[string]any) {
			if asked["TableName"] == name {
				set(in(a, "Table"), member, value)
			}
		})
	}
}

func timeToLive(name, member string, value any) func(*testing.T, *world) {
	return func(_ *testing.T, w *world) {
		w.edit("DescribeTimeToLive", func(asked, a map[string]any) {
			if asked["TableName"] == name {
				set(in(a, "TimeToLiveDescription"), member, value)
			}
		})
	}
}

func destination(member string, value any) func(*testing.T, *world) {
	return func(_ *testing.T, w *world) {
		w.edit("DescribeKinesisStreamingDestination", func(_, a map[string]any) { set(in(a, "KinesisDataStreamDestinations", 0), member, value) })
	}
}

func mappingWith(member string, value any) func(*testing.T, *world) {
	return func(_ *testing.T, w *world) {
		w.edit("ListEventSourceMappings", func(_, a map[string]any) { set(in(a, "EventSourceMappings", 1), member, value) })
	}
}

func filter(pattern string) func(*testing.T, *world) {
	return mappingWith("FilterCriteria", map[string]any{"Filters": []any{map[string]any{"Pattern": pattern}}})
}

func row(table string, item rows.Item) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		_, err := w.dynamodb.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &table, Item: item})
		require.NoError(t, err)
	}
}

// empty deletes a table's rows.
func (w *world) empty(t *testing.T, table string) {
	out, err := w.dynamodb.Scan(t.Context(), &dynamodb.ScanInput{TableName: &table})
	require.NoError(t, err)
	for _, item := range out.Items {
		key := map[string]types.AttributeValue{}
		for _, name := range []string{"eventId", "consumer", "group", "id"} {
			if item[name] != nil {
				key[name] = item[name]
			}
		}
		_, err := w.dynamodb.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: &table, Key: key})
		require.NoError(t, err)
	}
}

// lives has an event that lives for so long.
func lives(d time.Duration) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		writer, err := outbox.NewWriter(w.dynamodb, "events", outbox.WithTTL(d))
		require.NoError(t, err)
		require.NoError(t, writer.Transact(t.Context(), nil, outbox.NewEvent("a", orderCreated{})))
	}
}

// marks has an inbox with a mark that lives for so long.
func marks(d time.Duration) func(*testing.T, *world) {
	now := time.Now()
	return row("inbox", rows.Item{"eventId": rows.S("1"), "consumer": rows.S("mails#events"), "type": rows.S("ORDER_CREATED"),
		"handledAt": rows.Millis(now), "expiresAt": rows.N(now.Add(d).Unix())})
}

// alarmWith changes the alarm on a metric.
func alarmWith(name string, change func(*cloudwatchtypes.MetricAlarm)) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		for _, page := range w.alarms {
			for i := range page.MetricAlarms {
				if a := &page.MetricAlarms[i]; a.MetricName != nil && *a.MetricName == name {
					change(a)
					return
				}
			}
		}
		t.Fatalf("no alarm on %s", name)
	}
}

// delegated watches a metric of the destination by its dimensions.
func delegated(operation string) func(*testing.T, *world) {
	return func(_ *testing.T, w *world) {
		a := alarm("AWS/DynamoDB", "FailedToReplicateRecordCount", "TableName", "events")
		a.Dimensions = append(a.Dimensions, cloudwatchtypes.Dimension{Name: ptr("DelegatedOperation"), Value: &operation})
		w.alarms[0].MetricAlarms[0] = a
	}
}

// queried replaces the query on AgeOfOldestUnreplicatedRecord.
func queried(expression string) func(*testing.T, *world) {
	return func(_ *testing.T, w *world) {
		a := query(expression)
		m1 := cloudwatchtypes.MetricDataQuery{Id: ptr("m1"), ReturnData: ptr(false), MetricStat: &cloudwatchtypes.MetricStat{Stat: ptr("Maximum"), Period: ptr(int32(60)),
			Metric: &cloudwatchtypes.Metric{Namespace: ptr("AWS/DynamoDB"), MetricName: ptr("AgeOfOldestUnreplicatedRecord"), Dimensions: []cloudwatchtypes.Dimension{
				{Name: ptr("TableName"), Value: ptr("events")}, {Name: ptr("DelegatedOperation"), Value: ptr("any")}}}}}
		if strings.Contains(expression, "m1") {
			a.Metrics = append(a.Metrics, m1)
		}
		w.alarms[1].MetricAlarms[1] = a
	}
}
