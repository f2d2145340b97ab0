package main

import (
	"testing"

	cloudwatchtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/stretchr/testify/require"
)

// believedAnswers has a row for each answer that looks well and is not: one that lacks something, one of another table or function, and an
// alarm that rings too late, or never.
func believedAnswers() []setup {
	return []setup{
		// Lists that are not in the answer.
		{"unknown|dead letters|no list of rows", scanned("dead", func(a map[string]any) { delete(a, "Items") })},
		{"unknown|groups|no list of rows", scanned("leases", func(a map[string]any) { delete(a, "Items") })},
		{"unknown|lifetime of rows|no list of rows", scanned("events", func(a map[string]any) { delete(a, "Items") })},
		{"unknown|inbox memory|no list of rows", scanned("inbox", func(a map[string]any) { delete(a, "Items") })},
		{"unknown|groups|a row without its group", scanned("leases", func(a map[string]any) { delete(in(a, "Items", 0), "group") })},
		{"unknown|groups|a row without its id", scanned("leases", func(a map[string]any) { delete(in(a, "Items", 0), "id") })},

		// Tables of which the answer says too little, or that are others.
		{`unknown|events table|the type of the key "eventId"`, table("events", "AttributeDefinitions", nil)},
		{"unknown|lease table|its keys", table("leases", "KeySchema", nil)},
		{`unknown|dead letter table|it is about "arn:aws:dynamodb:us-east-1:000000000000:table/dead"`, table("dead", "TableName", "other")},
		{"unknown|inbox table|anything about this table", table("inbox", "TableName", nil)},
		{"unknown|point-in-time recovery|the answer does not say", func(_ *testing.T, w *world) {
			w.edit("DescribeContinuousBackups", func(_, a map[string]any) {
				delete(in(a, "ContinuousBackupsDescription"), "PointInTimeRecoveryDescription")
			})
		}},

		// Mappings.
		{"warning|event source mapping|it starts at AT_TIMESTAMP", mappingWith("StartingPosition", "AT_TIMESTAMP")},
		{"unknown|event source mapping|does not say which function", mappingWith("FunctionArn", nil)},
		{"unknown|event source mapping|it calls arn:aws:lambda:us-east-1:000000000000:function:mailer:live", mappingWith("FunctionArn", "arn:aws:lambda:us-east-1:000000000000:function:mailer:live")},
		{"unknown|event source mapping|it calls arn:aws:lambda:us-east-1:000000000000:function:other", mappingWith("FunctionArn", "arn:aws:lambda:us-east-1:000000000000:function:other")},
		{"problem|giving up|is the stream itself", onFailure(eventsStream)},
		{"unknown|giving up|of a kind that doctor does not know", onFailure("arn:aws:kinesis:us-east-1:000000000000:stream/failed")},
		{"warning|concurrency|1 reserved, and Lambda wants 8", func(_ *testing.T, w *world) {
			w.edit("ListEventSourceMappings", func(_, a map[string]any) { in(a, "EventSourceMappings", 1)["ParallelizationFactor"] = 2 })
			w.edit("DescribeStreamSummary", func(_, a map[string]any) { in(a, "StreamDescriptionSummary")["OpenShardCount"] = 4 })
			w.edit("GetFunctionConcurrency", func(_, a map[string]any) { a["ReservedConcurrentExecutions"] = 1 })
		}},
		{"unknown|filter|lets some events through", filter(`{"data":{"userIdentity":[{"exists":true}]}}`)},
		{"unknown|filter|cannot be read", filter(`{"data":{"eventName":["REMOVE"]},"data":{"eventName":["INSERT"]}}`)},

		// Alarms that ring too late, or never.
		{"warning|alarm|only after 60 periods", alarmWith("DroppedEventCount", func(a *cloudwatchtypes.MetricAlarm) {
			a.EvaluationPeriods, a.DatapointsToAlarm = ptr(int32(60)), ptr(int32(60))
		})},
		{"warning|alarm|only after 5 periods", alarmWith("DroppedEventCount", func(a *cloudwatchtypes.MetricAlarm) { a.EvaluationPeriods = ptr(int32(5)) })},
		{"warning|alarm|fires only above 999", alarmWith("Errors", func(a *cloudwatchtypes.MetricAlarm) { a.Statistic, a.Threshold = "Sum", ptr(999.0) })},
		{"warning|alarm|takes 5h", alarmWith("Errors", func(a *cloudwatchtypes.MetricAlarm) { a.EvaluationPeriods = ptr(int32(300)) })},
		{"warning|alarm|is 1 at most", alarmWith("Errors", func(a *cloudwatchtypes.MetricAlarm) { a.Threshold = ptr(50.0) })},
		{"unknown|alarm|does not evaluate the rule", composed(`NOT ALARM("a")`, nil)},
		{"unknown|alarm|does not evaluate the rule", composed(`OK(a)`, nil)},
		{"unknown|alarm|does not evaluate the rule", composed(`ALARM("a") AND ALARM("b")`, nil)},
		{"unknown|alarm|does not evaluate the rule", composed(`ALARM("a") OR ALARM("b")`, ptr("quiet"))},
		{"warning|alarm|it tells nobody", composed(`ALARM("ab") OR ALARM("b")`, nil)},
		{"warning|alarm|the unit Bytes, and the metric is in Count", alarmWith("DroppedEventCount", func(a *cloudwatchtypes.MetricAlarm) { a.Unit = "Bytes" })},
		{"warning|alarm|the unit Seconds, and the metric is in Milliseconds", alarmWith("IteratorAge", func(a *cloudwatchtypes.MetricAlarm) { a.Unit = "Seconds" })},
		{"unknown|alarm|the metric of account 999999999999", func(_ *testing.T, w *world) { w.alarms[0].MetricAlarms[0].Metrics[0].AccountId = ptr("999999999999") }},
		{"warning|alarm|goes by p9", alarmWith("IteratorAge", func(a *cloudwatchtypes.MetricAlarm) { a.Statistic, a.ExtendedStatistic = "", ptr("p9") })},
		{"warning|alarm|goes by p90", alarmWith("DroppedEventCount", func(a *cloudwatchtypes.MetricAlarm) { a.Statistic, a.ExtendedStatistic = "", ptr("p90") })},
		{"unknown|alarm|no threshold that doctor knows", alarmWith("IteratorAge", func(a *cloudwatchtypes.MetricAlarm) { a.ThresholdMetricId = ptr("ad1") })},
	}
}

// composed has the alarm on IteratorAge tell nobody but by a composite alarm.
func composed(rule string, suppressor *string) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		alarmWith("IteratorAge", func(a *cloudwatchtypes.MetricAlarm) { a.AlarmActions = nil })(t, w)
		w.alarms[0].CompositeAlarms = []cloudwatchtypes.CompositeAlarm{{AlarmName: ptr("all"), AlarmRule: &rule, ActionsSuppressor: suppressor,
			ActionsEnabled: ptr(true), AlarmActions: []string{"arn:aws:sns:us-east-1:000000000000:alarms"}}}
	}
}

// scanned changes what a Scan of a table answers.
func scanned(table string, change func(answer map[string]any)) func(*testing.T, *world) {
	return func(_ *testing.T, w *world) {
		w.edit("Scan", func(asked, a map[string]any) {
			if asked["TableName"] == table {
				change(a)
			}
		})
	}
}

// create changes nothing where the answer does not say what is there.
func TestCreateChangesNothingWhereTheAnswerDoesNotSayWhatIsThere(t *testing.T) {
	for what, change := range map[string]func(*testing.T, *world){
		`the answer does not say the type of the key "eventId"`: table("events", "AttributeDefinitions", nil),
		"the answer does not say anything about this table":     table("events", "TableName", "other"),
		"the answer does not say whether it is on": func(_ *testing.T, w *world) {
			w.edit("DescribeContinuousBackups", func(_, a map[string]any) {
				delete(in(a, "ContinuousBackupsDescription"), "PointInTimeRecoveryDescription")
			})
		},
		"time to live of the events table events: the answer does not say whether it is on":       timeToLive("events", "TimeToLiveStatus", nil),
		"stream events: the answer does not say its ARN":                                          summary("StreamARN", nil),
		"stream events: the answer does not say its status":                                       summary("StreamStatus", nil),
		"stream events: the answer does not say how long it keeps records":                        summary("RetentionPeriodHours", nil),
		"stream events: the answer does not say how many open shards it has":                      summary("OpenShardCount", nil),
		"destination of table events: the answer does not say its status":                         destination("DestinationStatus", nil),
		"destination of table events: the answer does not say to which stream a destination goes": destination("StreamArn", nil),
		"destination of table events: the answer has no list of destinations": func(_ *testing.T, w *world) {
			w.edit("DescribeKinesisStreamingDestination", func(_, a map[string]any) { delete(a, "KinesisDataStreamDestinations") })
		},
		"stream events: the answer does not say whether it is on-demand": summary("StreamModeDetails", nil),
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			w.ok(t, "create")
			change(t, w)
			r := w.run(t, "create", "--pitr", "--shards", "1", "--yes")
			require.Equal(t, exitFailed, r.code)
			require.Contains(t, r.err, what)
		})
	}
}

func onFailure(destination string) func(*testing.T, *world) {
	return mappingWith("DestinationConfig", map[string]any{"OnFailure": map[string]any{"Destination": destination}})
}
