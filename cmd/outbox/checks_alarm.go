package main

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	cloudwatchtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
)

// alarmWatch is how an alarm watches a metric.
type alarmWatch struct {
	on        bool
	statistic string
	period    time.Duration // 0 if it is not known
	// unknown says why nobody can tell what the alarm does with the metric.
	unknown string
	unit    cloudwatchtypes.StandardUnit // that the alarm asks for; empty for any
}

// watchOf says how an alarm watches a metric: by itself, as the only one of its queries, in a query of Metrics Insights, or in an expression.
func watchOf(a cloudwatchtypes.MetricAlarm, m metric) alarmWatch {
	if a.MetricName != nil {
		w := m.watched(a.Namespace, a.MetricName, a.Dimensions, string(a.Statistic)+aws.ToString(a.ExtendedStatistic), a.Period)
		w.unit = a.Unit
		return w
	}
	part := alarmWatch{}
	for _, q := range a.Metrics {
		w := m.watchedBy(q)
		if !w.on {
			continue
		}
		if len(a.Metrics) == 1 || aws.ToBool(q.ReturnData) {
			return w
		}
		part = alarmWatch{on: true, unknown: "it watches an expression, which doctor does not evaluate"}
	}
	return part
}

func (m metric) watchedBy(q cloudwatchtypes.MetricDataQuery) (w alarmWatch) {
	if s := q.MetricStat; s != nil && s.Metric != nil {
		w = m.watched(s.Metric.Namespace, s.Metric.MetricName, s.Metric.Dimensions, aws.ToString(s.Stat), s.Period)
		w.unit = s.Unit
	} else {
		w = m.queriedBy(aws.ToString(q.Expression), q.Period)
	}
	if account := aws.ToString(q.AccountId); account != "" && w.unknown == "" {
		w.unknown = "it watches the metric of account " + account + ", which may be another"
	}
	return w
}

// watched reports whether a metric and its dimensions are m. A metric with a dimension more is another one, which may not exist.
func (m metric) watched(namespace, name *string, dimensions []cloudwatchtypes.Dimension, statistic string, period *int32) alarmWatch {
	if aws.ToString(namespace) != m.namespace || aws.ToString(name) != m.name {
		return alarmWatch{}
	}
	w := alarmWatch{statistic: statistic, period: time.Duration(aws.ToInt32(period)) * time.Second}
	operation := ""
	for _, d := range dimensions {
		switch name, value := aws.ToString(d.Name), aws.ToString(d.Value); {
		case name == m.dimension && value == m.value:
			w.on = true
		case name == "DelegatedOperation" && m.delegated:
			operation = value
		case name == "Resource" && m.dimension == "FunctionName" && (value == m.value || strings.HasPrefix(value, m.value+":")): // an alias or a version
		default:
			return alarmWatch{}
		}
	}
	if m.delegated {
		if operation == "" {
			return alarmWatch{}
		}
		w.unknown = fmt.Sprintf("it is on DelegatedOperation %q: the values of DelegatedOperation are not documented, and with a wrong one there is never any data", operation)
	}
	return w
}

// queriedBy reports whether an expression is a query of CloudWatch Metrics Insights for the metric.
func (m metric) queriedBy(expression string, period *int32) alarmWatch {
	words := strings.FieldsFunc(expression, func(r rune) bool { return strings.ContainsRune(" \t\n(),=\"'", r) })
	i := slices.IndexFunc(words, func(word string) bool { return strings.EqualFold(word, "WHERE") })
	if i < 5 || !strings.EqualFold(words[0], "SELECT") || words[2] != m.name || !strings.EqualFold(words[3], "FROM") {
		return alarmWatch{}
	}
	from, where := words[4:i], words[i+1:]
	if strings.EqualFold(from[0], "SCHEMA") && len(from) > 1 { // with the names of dimensions
		from = from[1:]
	}
	if from[0] != m.namespace || len(where) < 2 || where[0] != m.dimension || where[1] != m.value || len(where) > 2 && strings.EqualFold(where[2], "AND") {
		return alarmWatch{} // what else has to hold may never hold
	}
	return alarmWatch{on: true, statistic: words[1], period: time.Duration(aws.ToInt32(period)) * time.Second}
}

// judge says what is wrong with an alarm on a metric, and what to do.
func (w alarmWatch) judge(a cloudwatchtypes.MetricAlarm, m metric, composites []cloudwatchtypes.CompositeAlarm, late time.Duration) (grade, wrong, do string) {
	tells, unclear := tellsIn(a, composites)
	switch {
	case tells, aws.ToBool(a.ActionsEnabled) && len(a.AlarmActions) > 0:
	case unclear != "":
		return gradeUnknown, "it tells nobody itself, and doctor does not evaluate the rule or the suppressor of the composite alarm " + unclear, "look at it in CloudWatch"
	case a.ActionsEnabled == nil:
		return gradeUnknown, "the answer does not say whether its actions are on", "look at it in CloudWatch"
	case !*a.ActionsEnabled:
		return gradeWarning, "its actions are off: it tells nobody", "enable its actions"
	default:
		return gradeWarning, "it tells nobody: it has no action for ALARM, and no composite alarm names it", "give it one, such as a topic of SNS"
	}
	if w.unknown != "" {
		return gradeUnknown, w.unknown, m.advice()
	}
	if w.unit != "" && w.unit != m.unit() {
		return gradeWarning, fmt.Sprintf("it asks for the unit %s, and the metric is in %s: it never gets data", w.unit, m.unit()), "take the unit away"
	}
	if wrong := wrongThreshold(a, m); wrong != "" {
		grade := gradeWarning
		if a.ThresholdMetricId != nil || a.Threshold == nil || a.ComparisonOperator == "" {
			grade = gradeUnknown
		}
		return grade, wrong, fmt.Sprintf("let it fire above %s, or earlier", number(m.most))
	}
	switch statistic := strings.ToUpper(w.statistic); {
	case statistic == "":
		return gradeUnknown, "the answer does not say its statistic", "look at it in CloudWatch"
	case !slices.Contains([]string{"MAXIMUM", "MAX", "SUM", "AVERAGE", "AVG"}, statistic) && !m.highPercentile(statistic):
		return gradeWarning, "it goes by " + w.statistic + ", which hides what is bad among what is good", "let it go by the maximum or the sum"
	case m.name == "Errors" && statistic != "SUM" && aws.ToFloat64(a.Threshold) >= 1:
		return gradeWarning, "it goes by " + w.statistic + ", which is 1 at most: each invocation counts as 0 or 1", "let it go by the sum"
	}
	points := time.Duration(aws.ToInt32(a.DatapointsToAlarm))
	if points == 0 {
		points = time.Duration(aws.ToInt32(a.EvaluationPeriods))
	}
	switch takes := points * w.period; {
	case takes <= 0:
		return gradeUnknown, "the answer does not say its period", "look at it in CloudWatch"
	case m.most == 0 && points > 1:
		return gradeWarning, fmt.Sprintf("it fires only after %d periods with some: what is lost in one tells nobody", points), "set DatapointsToAlarm to 1"
	case m.name == "Errors" && takes > slowestErrors:
		return gradeWarning, fmt.Sprintf("it takes %s until it fires", age(takes)), "shorten its period, or let it ask for fewer of them"
	case takes > late:
		return gradeWarning, fmt.Sprintf("it takes %s until it fires, and a quarter of the retention is %s", age(takes), age(late)), "shorten its period, or let it ask for fewer of them"
	}
	if m.silence && aws.ToString(a.TreatMissingData) != "breaching" {
		return gradeWarning, "missing data is no alarm: there is none if nobody reads", "set TreatMissingData to breaching"
	}
	if a.StateValue != cloudwatchtypes.StateValueOk {
		return gradeUnknown, fmt.Sprintf("its state is %s: whether it gets any data cannot be seen", cmp.Or(string(a.StateValue), "not in the answer")), "look again when there has been some traffic"
	}
	return gradeOK, "", ""
}

// plainOr is the rule of a composite alarm that is in ALARM as soon as one of others is.
var plainOr = regexp.MustCompile(`^\s*ALARM\s*\(\s*("[^"]+"|[^"()\s]+)\s*\)(\s+OR\s+ALARM\s*\(\s*("[^"]+"|[^"()\s]+)\s*\))*\s*$`)

// tellsIn reports whether a composite alarm with actions tells of the alarm: it is one of those in a plain OR. unclear is a composite alarm
// that names it in another way, or that something may silence.
func tellsIn(a cloudwatchtypes.MetricAlarm, composites []cloudwatchtypes.CompositeAlarm) (tells bool, unclear string) {
	for _, c := range composites {
		if !aws.ToBool(c.ActionsEnabled) || len(c.AlarmActions) == 0 {
			continue
		}
		rule := aws.ToString(c.AlarmRule)
		words := strings.FieldsFunc(rule, func(r rune) bool { return strings.ContainsRune("()\"", r) }) // a name may have spaces
		for i := range words {
			words[i] = strings.TrimSpace(words[i])
		}
		for _, name := range []string{aws.ToString(a.AlarmName), aws.ToString(a.AlarmArn)} {
			switch {
			case name == "" || !slices.Contains(words, name):
			case plainOr.MatchString(rule) && aws.ToString(c.ActionsSuppressor) == "":
				return true, ""
			default:
				unclear = aws.ToString(c.AlarmName)
			}
		}
	}
	return false, unclear
}

// unit is that in which AWS writes the metric.
func (m metric) unit() cloudwatchtypes.StandardUnit {
	if m.name == "Errors" || strings.HasSuffix(m.name, "Count") {
		return cloudwatchtypes.StandardUnitCount
	}
	return cloudwatchtypes.StandardUnitMilliseconds
}

// highPercentile reports whether a statistic is a percentile from 90 on of an age. Of a count it hides the few that are bad.
func (m metric) highPercentile(statistic string) bool {
	percent, ok := strings.CutPrefix(statistic, "P")
	f, err := strconv.ParseFloat(percent, 64)
	return ok && err == nil && f >= 90 && f <= 100 && m.unit() != cloudwatchtypes.StandardUnitCount
}

// wrongThreshold says what is wrong with when an alarm fires.
func wrongThreshold(a cloudwatchtypes.MetricAlarm, m metric) string {
	if a.ThresholdMetricId != nil || a.Threshold == nil || a.ComparisonOperator == "" {
		return "it has no threshold that doctor knows"
	}
	threshold, always, never := *a.Threshold, false, false
	switch a.ComparisonOperator {
	case cloudwatchtypes.ComparisonOperatorGreaterThanThreshold:
		always, never = threshold < 0, threshold >= m.most+1
		if m.most > 0 {
			never = threshold > m.most
		}
	case cloudwatchtypes.ComparisonOperatorGreaterThanOrEqualToThreshold:
		always, never = threshold <= 0, threshold > m.most+1
	default:
		return fmt.Sprintf("it fires by %s, which does not tell of more than there should be", a.ComparisonOperator)
	}
	switch {
	case always:
		return fmt.Sprintf("with %s %s it fires always", a.ComparisonOperator, number(threshold))
	case never:
		return fmt.Sprintf("it fires only above %s", number(threshold))
	}
	return ""
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
