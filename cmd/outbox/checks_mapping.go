package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/seed-1b628d3f/outbox/internal/names"
)

// endlessPages ends a listing that would not end. It is far above what an account can have.
const endlessPages = 10_000

// functionName is the name in a name or an ARN, with a qualifier or without.
func functionName(function string) string {
	if _, name, isARN := strings.Cut(function, ":function:"); isARN {
		function = name
	}
	name, _, _ := strings.Cut(function, ":")
	return name
}

// isFunction reports whether an ARN is that of a function, and of the same version or alias.
func isFunction(arn, function string) bool {
	qualifier := func(f string) string {
		_, name, ok := strings.Cut(f, ":function:")
		if !ok {
			name = f
		}
		_, q, _ := strings.Cut(name, ":")
		return strings.TrimPrefix(q, "$LATEST")
	}
	return functionName(arn) == functionName(function) && qualifier(arn) == qualifier(function) &&
		(!strings.HasPrefix(function, "arn:") || unqualified(arn) == unqualified(function))
}

func (x *examination) checkFunctions(ctx context.Context) {
	for _, function := range x.functions {
		x.parallel = 0
		n, others, err := x.checkMappings(ctx, function)
		switch {
		case err != nil:
			x.readers++ // whether it reads is not known, which is told
			x.failed(gradeUnknown, "function", function, "lambda:ListEventSourceMappings", err)
		case n == 0:
			found := "no event source mapping reads " + x.stream
			if len(others) > 0 {
				found += "; it reads " + strings.Join(others, ", ")
			}
			x.add(gradeProblem, "function", function, found, "create one, with ReportBatchItemFailures")
		}
		x.checkConcurrency(ctx, function)
	}
}

// checkMappings looks at a function's mappings, and returns how many read the events, and what the others read.
func (x *examination) checkMappings(ctx context.Context, function string) (n int, others []string, err error) {
	in := &lambda.ListEventSourceMappingsInput{FunctionName: aws.String(function)}
	for range endlessPages {
		out, err := x.c.lambda.ListEventSourceMappings(ctx, in)
		if err != nil {
			return n, others, err
		}
		if out.EventSourceMappings == nil {
			return n, others, errors.New("the answer has no list of mappings")
		}
		for _, m := range out.EventSourceMappings {
			source, ok := x.mappedSource(aws.ToString(m.EventSourceArn))
			if !ok {
				others = append(others, aws.ToString(m.EventSourceArn))
				continue
			}
			n++
			x.readers++
			if !source.ofTable {
				x.parallel += x.openShards * max(1, int(aws.ToInt32(m.ParallelizationFactor)))
			}
			x.checkMapping(function, source, m)
		}
		marker := in.Marker
		if in.Marker = out.NextMarker; aws.ToString(in.Marker) == "" {
			return n, others, nil
		}
		if marker != nil && *marker == *in.Marker {
			break
		}
	}
	return n, others, errEndless
}

// source is what a mapping reads.
type source struct {
	arn       string
	ofTable   bool // the table's own stream, not Kinesis
	retention time.Duration
}

// mappedSource returns what a mapping reads, if events come that way.
func (x *examination) mappedSource(arn string) (source, bool) {
	if stream, _, _ := strings.Cut(arn, "/consumer/"); x.isStream(stream) { // with enhanced fan-out, the mapping names a consumer
		return source{arn, x.ofTable, x.retention}, true
	}
	if x.isTableStream(arn) {
		return source{arn, true, tableStreamRetention}, true
	}
	return source{}, false
}

// isTableStream reports whether an ARN is that of a DynamoDB stream which the events table has or had.
func (x *examination) isTableStream(arn string) bool {
	table, _, ok := strings.Cut(arn, "/stream/")
	if x.events != nil && x.events.TableArn != nil {
		return ok && table == *x.events.TableArn
	}
	return ok && strings.HasSuffix(table, ":table/"+names.OfTable(x.table))
}

func (x *examination) checkMapping(function string, s source, m lambdatypes.EventSourceMappingConfiguration) {
	const check = "event source mapping"
	good := true
	tell := func(grade, found, do string) {
		good = false
		x.add(grade, check, function, found, do)
	}
	if !slices.Contains(m.FunctionResponseTypes, lambdatypes.FunctionResponseTypeReportBatchItemFailures) {
		tell(gradeProblem, "it has no ReportBatchItemFailures: Lambda ignores what the Consumer answers, and takes failed batches for done", "set FunctionResponseTypes to ReportBatchItemFailures")
	}
	switch state, reason := aws.ToString(m.State), aws.ToString(m.StateTransitionReason); state {
	case "Enabled":
	case "":
		tell(gradeUnknown, "the answer does not say its state", "look at the mapping in the console of Lambda")
	case "Creating", "Enabling", "Updating":
		tell(gradeWarning, "it is "+state, "look again in some minutes")
	default:
		if reason != "" {
			state += " (" + reason + ")"
		}
		tell(gradeProblem, "it is "+state, "enable it")
	}
	switch last := aws.ToString(m.LastProcessingResult); {
	case last == "":
		tell(gradeUnknown, "the answer does not say its last result", "look at the mapping in the console of Lambda")
	case strings.HasPrefix(last, "PROBLEM"):
		tell(gradeProblem, "its last result is "+last, "see the function's log, its role and its network")
	case last != "OK" && last != "No records processed":
		tell(gradeUnknown, "its last result is "+last+", which doctor does not know", "see the function's log")
	}
	if n := aws.ToInt32(m.TumblingWindowInSeconds); n > 0 {
		tell(gradeProblem, fmt.Sprintf("it has a tumbling window of %ds: a Consumer keeps no state for windows", n), "set TumblingWindowInSeconds to 0")
	}
	if !aws.ToBool(m.BisectBatchOnFunctionError) {
		tell(gradeWarning, "it does not bisect: a crash repeats whole batches", "set BisectBatchOnFunctionError")
	}
	switch m.StartingPosition {
	case "":
		tell(gradeUnknown, "the answer does not say where it starts", "look at the mapping in the console of Lambda")
	case lambdatypes.EventSourcePositionTrimHorizon:
	default:
		tell(gradeWarning, "it starts at "+string(m.StartingPosition)+": older records are never read, and at LATEST records that are written while Lambda sets it up or changes it can be missed",
			"create it anew with StartingPosition TRIM_HORIZON, which delivers again what the stream still has: an inbox passes over what was handled; "+x.reconcile()+" lists what it never had")
	}
	switch arn := aws.ToString(m.FunctionArn); {
	case arn == "":
		tell(gradeUnknown, "the answer does not say which function it calls", "look at the mapping in the console of Lambda")
	case !isFunction(arn, function):
		tell(gradeUnknown, "it calls "+arn, "give --function this version or alias, and look at it")
	}
	if on, latest := tableStream(x.events); s.ofTable && x.events != nil && (!on || latest != s.arn) {
		tell(gradeProblem, "it reads a stream that the table has no more, "+s.arn, "create a mapping that reads "+latest+"; see \"The stream has ended\" in docs/operating.md")
	}
	if m.MetricsConfig != nil && slices.Contains(m.MetricsConfig.Metrics, lambdatypes.EventSourceMappingMetricEventCount) {
		x.counted = append(x.counted, aws.ToString(m.UUID))
	} else {
		tell(gradeWarning, "it has no EventCount metrics: nobody can be told of records that Lambda drops", "set MetricsConfig to EventCount, and an alarm on DroppedEventCount")
	}
	if good {
		x.add(gradeOK, check, function, "Enabled, with ReportBatchItemFailures, reads "+s.arn, "")
	}
	x.checkGivingUp(function, s, m)
	x.checkFilter(function, s, m)
	if s.ofTable && !x.ofTable && x.events != nil && x.events.StreamSpecification != nil {
		x.checkView()
	}
}

// Limits below which an outage of the usual kind makes Lambda give records up.
const (
	shortAge   = 15 * time.Minute
	lowAge     = 6 * time.Hour
	fewRetries = 100
)

// checkGivingUp looks at when Lambda gives records up, and whom it tells. What expires in the stream is told to nobody.
func (x *examination) checkGivingUp(function string, s source, m lambdatypes.EventSourceMappingConfiguration) {
	const check = "giving up"
	if m.MaximumRecordAgeInSeconds == nil || m.MaximumRetryAttempts == nil {
		x.silent(check, function, "when it gives records up")
		return
	}
	retries, limit := int(*m.MaximumRetryAttempts), time.Duration(*m.MaximumRecordAgeInSeconds)*time.Second
	x.checkOnFailure(function, m)
	told := m.DestinationConfig != nil && m.DestinationConfig.OnFailure != nil && aws.ToString(m.DestinationConfig.OnFailure.Destination) != ""
	set := "set MaximumRetryAttempts to -1, and MaximumRecordAgeInSeconds somewhat below the stream's retention"
	switch {
	case !told && (retries >= 0 || limit >= 0):
		x.add(gradeProblem, check, function, "it gives records up, and has no on-failure destination: what is given up is lost silently", "set an OnFailure destination; "+x.reconcile()+" lists what is lost")
	case !told:
		x.add(gradeWarning, check, function, "it has no on-failure destination: a record that always fails holds up its shard until it expires", "set an OnFailure destination, and MaximumRecordAgeInSeconds")
	case retries == 0:
		x.add(gradeProblem, check, function, "it gives a batch up with no retry: one failed invocation is enough", set)
	case limit >= 0 && s.retention == 0:
		x.add(gradeUnknown, check, function, fmt.Sprintf("it gives records up that are older than %s, and the stream's retention is not known", age(limit)), "")
	case limit >= 0 && limit >= s.retention:
		x.add(gradeProblem, check, function, fmt.Sprintf("it gives records up that are older than %s, not below the stream's %s: they expire before, and the on-failure destination is not told", age(limit), age(s.retention)), set)
	case limit >= 0 && limit < shortAge:
		x.add(gradeProblem, check, function, fmt.Sprintf("it gives records up that are older than %s: a backlog is enough", age(limit)), set)
	case retries >= 0 && retries < fewRetries:
		x.add(gradeWarning, check, function, fmt.Sprintf("it gives a batch up after %d retries: an outage of minutes is enough", retries), set)
	case limit >= 0 && limit < min(lowAge, s.retention/2):
		x.add(gradeWarning, check, function, fmt.Sprintf("it gives records up that are older than %s: an outage of that time is enough", age(limit)), set)
	case limit < 0 && retries < 0:
		x.add(gradeWarning, check, function, "it gives no record up, so its on-failure destination never gets anything: a record that always fails holds up its shard until it expires, and nobody is told", set)
	case limit < 0:
		x.add(gradeOK, check, function, fmt.Sprintf("after %d retries, with an on-failure destination", retries), "")
	default:
		x.add(gradeOK, check, function, fmt.Sprintf("at an age of %s, with an on-failure destination", age(limit)), "")
	}
}

// checkOnFailure looks at what Lambda tells of records that it gives up. It takes a queue, a topic, a bucket, or a topic of Kafka.
func (x *examination) checkOnFailure(function string, m lambdatypes.EventSourceMappingConfiguration) {
	const check = "giving up"
	if m.DestinationConfig == nil || m.DestinationConfig.OnFailure == nil {
		return
	}
	to := aws.ToString(m.DestinationConfig.OnFailure.Destination)
	service := ""
	if part := strings.SplitN(to, ":", 4); len(part) == 4 && part[0] == "arn" {
		service = part[2]
	}
	switch {
	case to == "" || strings.HasPrefix(to, "kafka://") || slices.Contains([]string{"sqs", "sns", "s3"}, service):
	case x.isStream(to):
		x.add(gradeProblem, check, function, "its on-failure destination is the stream itself", "set a queue of SQS")
	default:
		x.add(gradeUnknown, check, function, "its on-failure destination is "+to+", of a kind that doctor does not know", "set a queue of SQS")
	}
}

// checkConcurrency finds a function that may not run.
func (x *examination) checkConcurrency(ctx context.Context, function string) {
	const check = "concurrency"
	out, err := x.c.lambda.GetFunctionConcurrency(ctx, &lambda.GetFunctionConcurrencyInput{FunctionName: aws.String(unqualified(function))})
	switch {
	case err != nil:
		x.failed(gradeUnknown, check, function, "lambda:GetFunctionConcurrency", err)
	case out.ReservedConcurrentExecutions == nil:
		x.add(gradeOK, check, function, "nothing is reserved: it shares what the account has left", "")
	case *out.ReservedConcurrentExecutions == 0:
		x.add(gradeProblem, check, function, "its reserved concurrency is 0: it never runs", "delete the reservation, or raise it")
	case int(*out.ReservedConcurrentExecutions) < x.parallel:
		x.add(gradeWarning, check, function, fmt.Sprintf("%d reserved, and Lambda wants %d for the open shards, each times its ParallelizationFactor: shards wait for one another", *out.ReservedConcurrentExecutions, x.parallel),
			"raise the reservation, or delete it")
	default:
		x.add(gradeOK, check, function, fmt.Sprintf("%d reserved", *out.ReservedConcurrentExecutions), "")
	}
}

// unqualified is a function's name or ARN without its version or alias.
func unqualified(function string) string {
	before, name, isARN := strings.Cut(function, ":function:")
	if !isARN {
		return functionName(function)
	}
	name, _, _ = strings.Cut(name, ":")
	return before + ":function:" + name
}
