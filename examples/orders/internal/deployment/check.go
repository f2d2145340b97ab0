package deployment

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Needs is what the code needs of a deployment.
type Needs struct {
	Tables    map[string]Table    // by the variable that names them; what has to be equal are keys, attributes, time to live, indexes and precision
	Variables map[string][]string // the environment variables of a program
	Used      map[string][]Grant  // what a program, or "worker", was seen to do
	Routes    []string
	Consumer  string        // the program behind the stream
	Scheduled string        // the program that runs every five minutes
	Cycle     Cycle         // what runs more rarely
	Kept      time.Duration // for how long rows and inbox marks live
	Protected bool          // the tables, from deletion
	Alarms    []Metric      // other than those of the destination, the stream, the queue, the API and the functions
	Gauges    []Metric      // likewise, of what the function on the schedule counts: the alarm lasts, also if nobody counts
}

// Cycle is a program that works through something in parts: one in each Every, whose limits are the clock's multiples, and all in Length.
type Cycle struct {
	Program       string
	Every, Length time.Duration
	Found         Metric // a gauge with each run: above 0 is an alarm
	Done          Metric // 1 for each part that is done
}

// Check returns everything in which a deployment is not what the code needs.
func (d *Deployment) Check(n Needs) error {
	c := &check{d: d, n: n}
	c.functions()
	c.tables()
	c.stream()
	c.api()
	c.schedule()
	c.alarms()
	return errors.Join(c.problems...)
}

type check struct {
	d        *Deployment
	n        Needs
	problems []error
}

func (c *check) fail(format string, args ...any) {
	c.problems = append(c.problems, fmt.Errorf(format, args...))
}

func (c *check) equal(what string, want, have any) {
	if fmt.Sprint(want) != fmt.Sprint(have) {
		c.fail("%s: want %v, have %v", what, want, have)
	}
}

func (c *check) functions() {
	c.equal("the functions", slices.Sorted(maps.Keys(c.n.Variables)), slices.Sorted(maps.Keys(c.d.Functions)))
	for program, f := range c.d.Functions {
		c.equal(program+": the environment variables", slices.Sorted(slices.Values(c.n.Variables[program])), slices.Sorted(maps.Keys(f.Environment)))
		c.equal(program+": the runtime", "provided.al2023", f.Runtime)
		c.equal(program+": the handler", "bootstrap", f.Handler)
		c.equal(program+": who may take the role", []string{"lambda.amazonaws.com"}, f.Trusted)
		if f.Architecture != "arm64" && f.Architecture != "x86_64" {
			c.fail("%s: the architecture is %q", program, f.Architecture)
		}
		if days := c.d.LogGroups[f.LogGroup]; days == 0 {
			c.fail("%s: its log group %q is not there, or keeps lines for ever", program, f.LogGroup)
		}
		c.grants(program, f.Granted, slices.Concat(c.n.Used[program], c.platform(program, f)))
	}
	if c.d.Worker != nil {
		c.grants("worker", c.d.Worker, c.n.Used["worker"])
	}
}

// platform is what Lambda itself does with a function's role.
//
// See https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-create.html, "Configure execution role permissions", and
// https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html.
func (c *check) platform(program string, f Function) (grants []Grant) {
	logs := arn("logs", "log-group:"+f.LogGroup+":*")
	grants = append(grants, Grant{"logs:CreateLogStream", logs}, Grant{"logs:PutLogEvents", logs})
	for _, m := range c.d.Mappings {
		if c.d.program(m.Function) != program {
			continue
		}
		for _, action := range []string{"DescribeStream", "DescribeStreamSummary", "GetRecords", "GetShardIterator", "ListShards"} {
			grants = append(grants, Grant{"kinesis:" + action, m.Stream})
		}
		grants = append(grants, Grant{listStreams, "*"}, Grant{"sqs:SendMessage", m.OnFailure})
	}
	return grants
}

// listStreams is an action without a resource in IAM: it has to be allowed on all.
//
// See https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonkinesisdatastreams.html.
const listStreams = "kinesis:ListStreams"

// grants compares what is allowed with what is done: no more and no less.
func (c *check) grants(program string, granted, used []Grant) {
	for _, g := range granted {
		if !slices.Contains(used, g) {
			c.fail("%s: it may %s on %s and never does", program, g.Action, g.Resource)
		}
	}
	missing := map[Grant]bool{}
	for _, u := range used {
		if !slices.Contains(granted, u) && !missing[u] {
			missing[u] = true
			c.fail("%s: it may not %s on %s", program, u.Action, u.Resource)
		}
	}
	for i, g := range granted {
		if slices.Contains(granted[:i], g) {
			c.fail("%s: it may twice %s on %s", program, g.Action, g.Resource)
		}
	}
}

// tables compares every table that a program gets to know with the one that the code creates.
func (c *check) tables() {
	values := map[string]string{}
	for program, f := range c.d.Functions {
		for variable, value := range f.Environment {
			if other, known := values[variable]; known && other != value {
				c.fail("%s: %s is %q, and %q elsewhere", program, variable, value, other)
			}
			values[variable] = value
		}
	}
	used := map[string]bool{}
	for variable, want := range c.n.Tables {
		for program, f := range c.d.Functions {
			name, named := f.Environment[variable]
			if !named {
				continue
			}
			have, exists := c.d.Tables[name]
			if !exists {
				c.fail("%s: %s is %q, which is no table", program, variable, name)
				continue
			}
			used[name] = true
			c.table(variable, want, have)
		}
	}
	for name, t := range c.d.Tables {
		if !used[name] {
			if lease := c.n.Tables["LEASES_TABLE"]; c.d.Worker != nil && t.Partition == lease.Partition && strings.Contains(strings.ToLower(name), "leases") {
				c.table("LEASES_TABLE", lease, t)
				continue
			}
			c.fail("nobody uses table %s", name)
		}
	}
}

func (c *check) table(variable string, want, have Table) {
	c.equal(variable+": the keys", []string{want.Partition, want.Sort}, []string{have.Partition, have.Sort})
	c.equal(variable+": the attributes", want.Attributes, have.Attributes)
	c.equal(variable+": the time to live", want.TTL, have.TTL)
	c.equal(variable+": the indexes", want.Indexes, have.Indexes)
	c.equal(variable+": on demand", want.OnDemand, have.OnDemand)
	c.equal(variable+": the precision of the destination", want.Precision, have.Precision)
	c.equal(variable+": a destination", want.Stream != "", have.Stream != "")
	c.equal(variable+": point-in-time recovery", true, have.PointInTimeRecovery)
	c.equal(variable+": encryption", true, have.Encrypted)
	c.equal(variable+": deletion protection", c.n.Protected, have.Protected)
}

func (c *check) stream() {
	if len(c.d.Mappings) != 1 {
		c.fail("want one event source mapping, have %d", len(c.d.Mappings))
		return
	}
	m := c.d.Mappings[0]
	c.equal("the function behind the stream", c.n.Consumer, c.d.program(m.Function))
	events := c.d.Tables[c.d.Functions[c.n.Consumer].Environment["EVENTS_TABLE"]]
	c.equal("the stream of the mapping", events.Stream, m.Stream)
	stream, exists := c.d.Streams[m.Stream]
	if !exists {
		c.fail("the mapping reads %q, which is no stream", m.Stream)
	}
	for program, f := range c.d.Functions {
		if name, named := f.Environment["EVENTS_STREAM"]; named {
			c.equal(program+": EVENTS_STREAM", stream.Name, name)
		}
	}
	c.equal("the key of the stream", "alias/aws/kinesis", stream.Key)
	c.equal("StartingPosition", "TRIM_HORIZON", m.StartingPosition)
	c.equal("FunctionResponseTypes", []string{"ReportBatchItemFailures"}, m.ResponseTypes)
	c.equal("BisectBatchOnFunctionError", true, m.Bisect)
	c.equal("MaximumRetryAttempts", -1, m.MaxAttempts)
	c.equal("MetricsConfig", []string{"EventCount"}, m.Metrics)
	if m.Parallelization < 1 || m.Parallelization > 10 {
		c.fail("ParallelizationFactor is %d", m.Parallelization)
	}
	retention, age := time.Duration(stream.RetentionHours)*time.Hour, time.Duration(m.MaxAgeSeconds)*time.Second
	if age <= 0 || age >= retention {
		c.fail("MaximumRecordAgeInSeconds is %s, and the stream keeps records for %s: they expire before Lambda gives them up", age, retention)
	}
	if retention < 24*time.Hour || retention >= c.n.Kept {
		c.fail("the stream keeps records for %s, rows and marks live for %s", retention, c.n.Kept)
	}
	queue, exists := c.d.Queues[m.OnFailure]
	if !exists {
		c.fail("the on-failure destination %q is no queue", m.OnFailure)
	}
	c.equal("encryption of the failure queue", true, queue.Encrypted)
	c.equal("the days that the failure queue keeps messages", 14*24*3600, queue.Retention)
	for _, pattern := range m.FilterPatterns {
		c.equal("the filter", `{"data":{"eventName":["INSERT"]}}`, pattern)
	}
}

func (c *check) api() {
	api := c.d.Functions["api"].ARN
	var keys []string
	for _, r := range c.d.Routes {
		keys = append(keys, r.Key)
		c.equal(r.Key+": the function", api, r.Function)
		c.equal(r.Key+": the version of payloads", "2.0", r.Payload)
		c.equal(r.Key+": the stage", "$default", r.Stage)
		if r.Authorization != "AWS_IAM" && r.Authorization != "NONE" {
			c.fail("%s: the authorization is %q", r.Key, r.Authorization)
		}
	}
	c.equal("the routes", slices.Sorted(slices.Values(c.n.Routes)), slices.Sorted(slices.Values(keys)))
	c.called("api", "apigateway.amazonaws.com", ":execute-api:")
}

func (c *check) schedule() {
	scheduled, cycle := c.d.Functions[c.n.Scheduled], c.d.Functions[c.n.Cycle.Program]
	want := map[string]string{scheduled.ARN: "rate(5 minutes)", cycle.ARN: "cron(30 * * * ? *)"}
	have, tries := make(map[string]string), make(map[string]int)
	for _, s := range c.d.Schedules {
		have[s.Function], tries[s.Function] = s.When, s.MaxSeconds
	}
	c.equal("the functions on a schedule", want, have)
	c.equal("the number of schedules", len(want), len(c.d.Schedules))
	for _, program := range []string{c.n.Scheduled, c.n.Cycle.Program} {
		c.called(program, "events.amazonaws.com", ":rule/")
	}
	c.equal("the permissions to invoke", 3, len(c.d.Callers))
	c.equal(c.n.Scheduled+": the repeats", Repeat{}, c.d.Repeats[scheduled.Name])
	r := c.d.Repeats[cycle.Name]
	late := tries[cycle.ARN]
	if ends := 30*time.Minute + time.Duration(late+r.MaxSeconds+cycle.Timeout)*time.Second; r.Attempts < 1 || r.MaxSeconds == 0 || late == 0 || ends >= c.n.Cycle.Every {
		c.fail("%s: the repeats: want one or more that end within %s, have %+v, up to %ds late, and a timeout of %ds", c.n.Cycle.Program, c.n.Cycle.Every, r, late, cycle.Timeout)
	}
	if again := time.Duration(cycle.Timeout)*time.Second + time.Minute; again >= time.Duration(r.MaxSeconds)*time.Second {
		c.fail("%s: the repeats: an invocation that runs out of time is not repeated", c.n.Cycle.Program) // Lambda waits a minute
	}
}

func (c *check) called(program, service, source string) {
	for _, caller := range c.d.Callers {
		if c.d.program(caller.Function) == program && caller.Service == service && strings.Contains(caller.Source, source) {
			return
		}
	}
	c.fail("%s may not invoke %s", service, program)
}

// alarms wants one alarm on each metric, and no others.
func (c *check) alarms() {
	events := c.d.Functions[c.n.Consumer].Environment["EVENTS_TABLE"]
	table := c.d.Tables[events]
	api, consumer, scheduled := c.d.Functions["api"].Name, c.d.Functions[c.n.Consumer].Name, c.d.Functions[c.n.Scheduled].Name
	age := Metric{"AWS/Kinesis", "GetRecords.IteratorAgeMilliseconds", "StreamName", c.d.Streams[table.Stream].Name, "Maximum"}
	// How long each has to be above its threshold, in seconds: as docs/operating.md says, but for what DEPLOY.md says under Choices.
	lasts := map[Metric]int{
		{"AWS/DynamoDB", "FailedToReplicateRecordCount", "TableName", events, "Sum"}:      60,
		{"AWS/DynamoDB", "AgeOfOldestUnreplicatedRecord", "TableName", events, "Maximum"}: 900,
		{"AWS/DynamoDB", "ThrottledPutRecordCount", "TableName", events, "Sum"}:           600,
		{"AWS/ApiGateway", "5xx", "ApiId", c.d.API, "Sum"}:                                300,
		{"AWS/Lambda", "Errors", "FunctionName", api, "Sum"}:                              300,
		{"AWS/Lambda", "Throttles", "FunctionName", api, "Sum"}:                           300,
		{"AWS/Lambda", "IteratorAge", "FunctionName", consumer, "Maximum"}:                300,
		{"AWS/Lambda", "Errors", "FunctionName", consumer, "Sum"}:                         300,
		{"AWS/Lambda", "Throttles", "FunctionName", consumer, "Sum"}:                      600,
		{"AWS/Lambda", "Errors", "FunctionName", scheduled, "Sum"}:                        900,
		age: 300,
	}
	for _, m := range c.n.Alarms {
		lasts[m] = 60
	}
	for _, m := range c.n.Gauges {
		lasts[m] = 900
	}
	lasts[c.n.Cycle.Found] = int(c.n.Cycle.Every / time.Second)
	lasts[c.n.Cycle.Done] = int(c.n.Cycle.Length / time.Second)
	for _, m := range c.d.Mappings {
		lasts[Metric{"AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", c.d.Queues[m.OnFailure].Name, "Maximum"}] = 60
		lasts[Metric{"AWS/Lambda", "DroppedEventCount", "EventSourceMappingUUID", m.ID, "Sum"}] = 60
	}
	for m, seconds := range lasts {
		gauge := slices.Contains(c.n.Gauges, m)
		missing, comparison := "notBreaching", "GreaterThanThreshold"
		if m == age || gauge || m == c.n.Cycle.Done { // nobody reads, nobody counts
			missing = "breaching"
		}
		if m == c.n.Cycle.Done {
			comparison = "LessThanThreshold"
		}
		n := 0
		for _, a := range c.d.Alarms {
			if a.Metric != m {
				continue
			}
			n++
			c.equal(m.Name+": the comparison", comparison, a.Comparison)
			c.equal(m.Name+": missing data", missing, a.Missing)
			c.equal(m.Name+": the seconds above the threshold", seconds, a.Period*a.Periods)
			if gauge {
				c.equal(m.Name+": the period, of three counts", 900, a.Period)
			}
			if m == c.n.Cycle.Done {
				c.equal(m.Name+": the threshold", int(c.n.Cycle.Length/c.n.Cycle.Every), a.Threshold)
				c.equal(m.Name+": the periods", 1, a.Periods)
			} else if m.Statistic == "Sum" || m.Namespace == "AWS/SQS" || gauge || m == c.n.Cycle.Found {
				c.equal(m.Name+": the threshold", 0, a.Threshold)
			} else if a.Threshold <= 0 {
				c.fail("%s: the threshold is %v", m.Name, a.Threshold)
			}
		}
		if n != 1 {
			c.fail("want one alarm on %v, have %d", m, n)
		}
	}
	for _, a := range c.d.Alarms {
		if _, wanted := lasts[a.Metric]; !wanted {
			c.fail("nobody needs the alarm on %v", a.Metric)
		}
	}
}
