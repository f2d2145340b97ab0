package deployment

import (
	"errors"
	"path"
	"slices"
	"strings"

	"github.com/zclconf/go-cty/cty"
)

// Terraform reads a Terraform module, given the content of its files by name. The variables replace the module's defaults.
func Terraform(files map[string][]byte, variables map[string]cty.Value) (*Deployment, error) {
	m, err := newModule(files, variables)
	if err != nil {
		return nil, err
	}
	d := m.deployment()
	for _, o := range m.outputs {
		m.evaluate(o.Body.Attributes["value"].Expr, nil)
	}
	return d, errors.Join(m.problems...)
}

func text(i instance, attribute string) string { return i.attributes[attribute].AsString() }

// one is the only block of a type, or nothing.
func (t tree) one(name string) tree {
	switch all := t.get(name).list(); len(all) {
	case 0:
		return tree{t.at + "." + name, nil, t.problems}
	case 1:
		return all[0]
	default:
		t.fail("want one block %s, have %d", name, len(all))
		return all[0]
	}
}

func (m *module) deployment() *Deployment {
	d := &Deployment{Tables: map[string]Table{}, Streams: map[string]Stream{}, Queues: map[string]Queue{}, LogGroups: map[string]int{},
		Functions: map[string]Function{}, Repeats: map[string]Repeat{}}
	m.onlyKnown()
	m.of("aws_dynamodb_table", func(i instance, p tree) { d.Tables[text(i, "name")] = moduleTable(i, p) })
	m.of("aws_dynamodb_kinesis_streaming_destination", func(_ instance, p tree) {
		p.only("table_name", "stream_arn", "approximate_creation_date_time_precision")
		t := d.Tables[p.get("table_name").text()]
		t.Stream, t.Precision = p.get("stream_arn").text(), p.get("approximate_creation_date_time_precision").text()
		d.Tables[p.get("table_name").text()] = t
	})
	m.of("aws_kinesis_stream", func(i instance, p tree) {
		p.only("name", "shard_count", "retention_period", "encryption_type", "kms_key_id", "stream_mode_details")
		s := Stream{Name: text(i, "name"), RetentionHours: p.get("retention_period").int()}
		if p.get("encryption_type").text() == "KMS" {
			s.Key = p.get("kms_key_id").text()
		}
		d.Streams[text(i, "arn")] = s
	})
	m.of("aws_sqs_queue", func(i instance, p tree) {
		p.only("name", "message_retention_seconds", "sqs_managed_sse_enabled")
		d.Queues[text(i, "arn")] = Queue{text(i, "name"), p.get("sqs_managed_sse_enabled").bool(), p.get("message_retention_seconds").int()}
	})
	m.of("aws_cloudwatch_log_group", func(i instance, p tree) { d.LogGroups[text(i, "name")] = p.get("retention_in_days").int() })
	m.functions(d)
	m.of("aws_iam_policy", func(_ instance, p tree) {
		p.only("name", "policy")
		d.Worker = append(d.Worker, p.get("policy").policy()...)
	})
	m.of("aws_lambda_event_source_mapping", func(i instance, p tree) { d.Mappings = append(d.Mappings, moduleMapping(i, p)) })
	m.of("aws_apigatewayv2_api", func(i instance, _ tree) { d.API = text(i, "id") })
	m.routes(d)
	rates := map[string]string{}
	m.of("aws_cloudwatch_event_rule", func(i instance, p tree) { rates[text(i, "name")] = p.get("schedule_expression").text() })
	m.of("aws_cloudwatch_event_target", func(_ instance, p tree) {
		p.only("rule", "arn", "retry_policy")
		d.Schedules = append(d.Schedules, Schedule{p.get("arn").text(), rates[p.get("rule").text()], p.one("retry_policy").get("maximum_event_age_in_seconds").int()})
	})
	m.of("aws_lambda_function_event_invoke_config", func(_ instance, p tree) {
		p.only("function_name", "maximum_retry_attempts", "maximum_event_age_in_seconds")
		d.Repeats[p.get("function_name").text()] = Repeat{p.get("maximum_retry_attempts").int(), p.get("maximum_event_age_in_seconds").int()}
	})
	m.of("aws_lambda_permission", func(_ instance, p tree) {
		p.only("action", "function_name", "principal", "source_arn")
		if action := p.get("action").text(); action != "lambda:InvokeFunction" {
			p.fail("the action is %q", action)
		}
		d.Callers = append(d.Callers, Caller{p.get("function_name").text(), p.get("principal").text(), p.get("source_arn").text()})
	})
	m.of("aws_cloudwatch_metric_alarm", func(_ instance, p tree) { d.Alarms = append(d.Alarms, moduleAlarm(p)) })
	return d
}

func (m *module) onlyKnown() {
	known := []string{
		"aws_dynamodb_table", "aws_dynamodb_kinesis_streaming_destination", "aws_kinesis_stream", "aws_sqs_queue", "aws_cloudwatch_log_group",
		"aws_lambda_function", "aws_lambda_event_source_mapping", "aws_lambda_permission", "aws_lambda_function_event_invoke_config", "aws_iam_role",
		"aws_iam_role_policy", "aws_iam_policy", "aws_cloudwatch_event_rule", "aws_cloudwatch_event_target", "aws_cloudwatch_metric_alarm",
		"aws_apigatewayv2_api", "aws_apigatewayv2_integration", "aws_apigatewayv2_route", "aws_apigatewayv2_stage",
	}
	for _, r := range m.resources {
		if !slices.Contains(known, r.kind) {
			m.fail("%s: the contract test does not know resources of type %s", r.name, r.kind)
		}
	}
}

func moduleTable(i instance, p tree) Table {
	p.only("name", "billing_mode", "hash_key", "range_key", "attribute", "ttl", "point_in_time_recovery", "server_side_encryption", "global_secondary_index",
		"deletion_protection_enabled")
	t := Table{
		ARN: text(i, "arn"), Partition: p.get("hash_key").text(), Sort: p.get("range_key").text(), Attributes: map[string]string{},
		Protected: p.get("deletion_protection_enabled").bool(), OnDemand: p.get("billing_mode").text() == "PAY_PER_REQUEST",
		PointInTimeRecovery: p.one("point_in_time_recovery").get("enabled").bool(), Encrypted: p.one("server_side_encryption").get("enabled").bool(),
	}
	for _, a := range p.get("attribute").list() {
		t.Attributes[a.get("name").text()] = a.get("type").text()
	}
	if ttl := p.one("ttl"); ttl.get("enabled").bool() {
		t.TTL = ttl.get("attribute_name").text()
	}
	for _, index := range p.get("global_secondary_index").list() {
		t.Indexes = append(t.Indexes, index.get("name").text())
	}
	return t
}

func (m *module) functions(d *Deployment) {
	trusted, granted := map[string][]string{}, map[string][]Grant{}
	m.of("aws_iam_role", func(i instance, p tree) {
		p.only("name", "assume_role_policy")
		trusted[text(i, "arn")] = p.get("assume_role_policy").trusted()
	})
	m.of("aws_iam_role_policy", func(_ instance, p tree) {
		p.only("name", "role", "policy")
		role := arn("iam", "role/"+p.get("role").text())
		granted[role] = append(granted[role], p.get("policy").policy()...)
	})
	m.of("aws_lambda_function", func(i instance, p tree) {
		p.only("function_name", "role", "filename", "source_code_hash", "runtime", "handler", "architectures", "memory_size", "timeout", "environment", "logging_config")
		archive := p.get("filename").text()
		if !strings.EqualFold(archive, p.get("source_code_hash").text()) {
			p.fail("the hash is not that of %s", archive)
		}
		role := p.get("role").text()
		if trusted[role] == nil {
			p.fail("it has no role of its own")
		}
		d.Functions[strings.TrimSuffix(path.Base(archive), ".zip")] = Function{
			Name: text(i, "function_name"), ARN: text(i, "arn"), Runtime: p.get("runtime").text(), Handler: p.get("handler").text(),
			Architecture: strings.Join(p.get("architectures").texts(), " "), Timeout: p.get("timeout").int(),
			LogGroup: p.one("logging_config").get("log_group").text(), Environment: p.one("environment").get("variables").textMap(),
			Trusted: trusted[role], Granted: granted[role],
		}
		delete(trusted, role)
	})
	for role := range trusted {
		m.fail("%s is the role of no function, or of two", role)
	}
}

func moduleMapping(i instance, p tree) Mapping {
	p.only("function_name", "event_source_arn", "starting_position", "batch_size", "parallelization_factor", "function_response_types",
		"bisect_batch_on_function_error", "maximum_retry_attempts", "maximum_record_age_in_seconds", "destination_config", "filter_criteria",
		"metrics_config")
	mapping := Mapping{
		ID:       text(i, "uuid"),
		Function: p.get("function_name").text(), Stream: p.get("event_source_arn").text(), StartingPosition: p.get("starting_position").text(),
		ResponseTypes: p.get("function_response_types").texts(), Bisect: p.get("bisect_batch_on_function_error").bool(),
		MaxAttempts: p.get("maximum_retry_attempts").int(), MaxAgeSeconds: p.get("maximum_record_age_in_seconds").int(),
		Parallelization: p.get("parallelization_factor").int(), OnFailure: p.one("destination_config").one("on_failure").get("destination_arn").text(),
		Metrics: p.one("metrics_config").get("metrics").texts(),
	}
	for _, f := range p.one("filter_criteria").get("filter").list() {
		mapping.FilterPatterns = append(mapping.FilterPatterns, f.get("pattern").text())
	}
	return mapping
}

func (m *module) routes(d *Deployment) {
	integrations, stage := map[string]tree{}, ""
	m.of("aws_apigatewayv2_integration", func(i instance, p tree) { integrations["integrations/"+text(i, "id")] = p })
	m.of("aws_apigatewayv2_stage", func(_ instance, p tree) {
		if stage = p.get("name").text(); !p.get("auto_deploy").bool() {
			p.fail("it is not deployed by itself")
		}
	})
	m.of("aws_apigatewayv2_route", func(_ instance, p tree) {
		integration, known := integrations[p.get("target").text()]
		if !known {
			p.fail("there is no %s", p.get("target").text())
			return
		}
		if kind := integration.get("integration_type").text(); kind != "AWS_PROXY" {
			integration.fail("the type is %q", kind)
		}
		d.Routes = append(d.Routes, Route{p.get("route_key").text(), p.get("authorization_type").text(),
			integration.get("integration_uri").text(), integration.get("payload_format_version").text(), stage})
	})
}

func moduleAlarm(p tree) Alarm {
	p.only("alarm_name", "alarm_description", "alarm_actions", "treat_missing_data", "comparison_operator", "threshold", "evaluation_periods",
		"metric_query", "namespace", "metric_name", "dimensions", "statistic", "period")
	a := Alarm{Threshold: p.get("threshold").number(), Period: p.get("period").int(), Comparison: p.get("comparison_operator").text(),
		Missing: p.get("treat_missing_data").text(), Actions: p.get("alarm_actions").texts()}
	a.Periods = p.get("evaluation_periods").int()
	if queries := p.get("metric_query").list(); len(queries) == 1 {
		a.Period = queries[0].get("period").int()
		if !queries[0].get("return_data").bool() {
			p.fail("the query returns nothing")
		}
		a.Metric = queries[0].get("expression").query()
		return a
	}
	names := p.get("dimensions").names()
	if len(names) != 1 {
		p.fail("want one dimension, have %d", len(names))
		return a
	}
	a.Metric = Metric{p.get("namespace").text(), p.get("metric_name").text(), names[0], p.get("dimensions", names[0]).text(), p.get("statistic").text()}
	return a
}
