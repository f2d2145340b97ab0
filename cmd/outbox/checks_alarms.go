package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cloudwatchtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/seed-1b628d3f/outbox/internal/names"
)

// metric is one that should have an alarm. One that is delegated has a second dimension, DelegatedOperation, whose values are not documented:
// an alarm on the first one alone never gets data. See
// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/metrics-dimensions.html.
type metric struct {
	namespace, name, dimension, value string
	why                               string
	delegated                         bool
	// An alarm has to fire at more than most, which is in the unit of the metric.
	most float64
	// silence says that no data is bad news.
	silence bool
}

func (m metric) advice() string {
	if m.delegated {
		statistic := "MAX"
		if m.most == 0 { // a count
			statistic = "SUM"
		}
		return fmt.Sprintf("create one in CloudWatch, on the query SELECT "+statistic+"(%s) FROM %q WHERE %s = '%s'", m.name, m.namespace, m.dimension, m.value)
	}
	return "create one in CloudWatch"
}

// What an alarm may leave unnoticed.
const (
	mostUnreplicated = time.Hour // of changes that wait for the stream
	mostErrors       = 100       // of a function, in one period
	slowestErrors    = time.Hour // until an alarm on them fires
	// mostOfRetention is the part of the retention that readers may be behind: the rest is for whoever is called.
	mostOfRetention = 4
)

// wantedAlarms are the metrics that docs/operating.md wants alarms on.
func (x *examination) wantedAlarms() (wanted []metric) {
	behind := float64((x.late()).Milliseconds())
	if !x.ofTable {
		table, stream := names.OfTable(x.table), names.OfTable(x.stream)
		wanted = append(wanted,
			metric{"AWS/DynamoDB", "FailedToReplicateRecordCount", "TableName", table, "change records that DynamoDB gave up: lost events", true, 0, false},
			metric{"AWS/DynamoDB", "AgeOfOldestUnreplicatedRecord", "TableName", table, "changes that do not get into the stream", true, float64(mostUnreplicated.Milliseconds()), false},
			metric{"AWS/Kinesis", "GetRecords.IteratorAgeMilliseconds", "StreamName", stream, "consumers that fall behind", false, behind, true})
	}
	for _, function := range x.functions {
		name := functionName(function)
		wanted = append(wanted,
			metric{"AWS/Lambda", "IteratorAge", "FunctionName", name, "a function that falls behind", false, behind, false},
			metric{"AWS/Lambda", "Errors", "FunctionName", name, "invocations that fail", false, mostErrors, false})
	}
	for _, id := range x.counted {
		wanted = append(wanted, metric{"AWS/Lambda", "DroppedEventCount", "EventSourceMappingUUID", id,
			"records that Lambda gave up without telling the on-failure destination: lost events", false, 0, false})
	}
	return wanted
}

// late is how far behind a reader may be before somebody has to be told.
func (x *examination) late() time.Duration {
	if x.retention == 0 { // not known: as for the shortest
		return tableStreamRetention / mostOfRetention
	}
	return x.retention / mostOfRetention
}

func (x *examination) checkAlarms(ctx context.Context) {
	if x.noAlarms {
		return
	}
	wanted := x.wantedAlarms()
	alarms, composites, err := x.listAlarms(ctx, wanted)
	if err != nil {
		x.failed(gradeUnknown, "alarms", names.OfTable(x.table), "cloudwatch:DescribeAlarms", err)
		return
	}
	for _, m := range wanted {
		x.findings = append(x.findings, judgeAlarms(m, alarms, composites, x.late()))
	}
	if x.ofTable {
		x.add(gradeUnknown, "alarm", x.stream, "CloudWatch has no metric of how far the Workers of a DynamoDB stream are behind", "watch their hook Status (docs/operating.md)")
	}
}

// listAlarms returns the alarms that watch one of the metrics, and all composite ones.
func (x *examination) listAlarms(ctx context.Context, wanted []metric) (alarms []cloudwatchtypes.MetricAlarm, composites []cloudwatchtypes.CompositeAlarm, err error) {
	in := &cloudwatch.DescribeAlarmsInput{AlarmTypes: []cloudwatchtypes.AlarmType{cloudwatchtypes.AlarmTypeMetricAlarm, cloudwatchtypes.AlarmTypeCompositeAlarm}}
	for range endlessPages {
		out, err := x.c.alarms.DescribeAlarms(ctx, in)
		if err != nil {
			return nil, nil, err
		}
		for _, a := range out.MetricAlarms {
			if slices.ContainsFunc(wanted, func(m metric) bool { return watchOf(a, m).on }) {
				alarms = append(alarms, a)
			}
		}
		composites = append(composites, out.CompositeAlarms...)
		token := in.NextToken
		if in.NextToken = out.NextToken; aws.ToString(in.NextToken) == "" {
			return alarms, composites, nil
		}
		if token != nil && *token == *in.NextToken {
			break
		}
	}
	return nil, nil, errEndless
}

// judgeAlarms returns the finding about a metric: that of the best alarm on it.
func judgeAlarms(m metric, alarms []cloudwatchtypes.MetricAlarm, composites []cloudwatchtypes.CompositeAlarm, late time.Duration) finding {
	best := finding{gradeWarning, "alarm", m.value, "none on " + m.namespace + " " + m.name + ": " + m.why, m.advice()}
	found := false
	for _, a := range alarms {
		w := watchOf(a, m)
		if !w.on {
			continue
		}
		// An alarm of a scaling policy, which fires when there is little, is in ALARM most of the time.
		little := strings.HasPrefix(string(a.ComparisonOperator), "LessThan")
		rings := a.StateValue == cloudwatchtypes.StateValueAlarm
		if rings && w.unknown == "" && !little {
			return finding{gradeProblem, "alarm", m.value, fmt.Sprintf("%s: it is in ALARM at present (%s): %s", m.name, aws.ToString(a.AlarmName), m.why), "see docs/operating.md, Alarms"}
		}
		grade, wrong, do := w.judge(a, m, composites, late)
		f := finding{grade, "alarm", m.value, m.name, do}
		if rings && !little {
			wrong += "; it is in ALARM at present"
		}
		if wrong != "" {
			f.Finding = fmt.Sprintf("%s (%s): %s", m.name, aws.ToString(a.AlarmName), wrong)
		}
		if !found || better(grade, best.Grade) {
			best, found = f, true
		}
	}
	return best
}

func better(a, b string) bool {
	order := []string{gradeOK, gradeUnknown, gradeWarning, gradeProblem}
	return slices.Index(order, a) < slices.Index(order, b)
}
