package deployment

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// CloudFormation reads a template of the AWS Serverless Application Model. The parameters replace the template's defaults.
func CloudFormation(template []byte, parameters map[string]string) (*Deployment, error) {
	var document yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(template))
	if err := decoder.Decode(&document); err != nil {
		return nil, err
	}
	if len(document.Content) != 1 {
		return nil, errors.New("an empty template")
	}
	s := &stack{parameters: map[string]string{}, conditions: map[string]*yaml.Node{}, resources: map[string]*yaml.Node{}}
	root := document.Content[0]
	s.mappings = child(root, "Mappings")
	s.eachOf(root, "Parameters", func(name string, n *yaml.Node) {
		value, given := parameters[name]
		if fallback := child(n, "Default"); !given && fallback != nil {
			value, given = fallback.Value, true
		}
		if !given {
			s.fail("parameter %s has no value", name)
		}
		s.parameters[name] = value
	})
	for name := range parameters {
		if _, known := s.parameters[name]; !known {
			s.fail("there is no parameter %s", name)
		}
	}
	s.eachOf(root, "Conditions", func(name string, n *yaml.Node) { s.conditions[name] = n })
	s.eachOf(root, "Resources", func(name string, n *yaml.Node) { s.resources[name] = n })
	s.globals, _ = s.value(child(child(root, "Globals"), "Function")).(map[string]any)
	d := s.deployment()
	s.eachOf(root, "Outputs", func(name string, n *yaml.Node) {
		if s.deployed(n) {
			if v, _ := s.value(child(n, "Value")).(string); v == "" {
				s.fail("output %s has no value", name)
			}
		}
	})
	return d, errors.Join(s.problems...)
}

// stack evaluates a template.
type stack struct {
	parameters map[string]string
	conditions map[string]*yaml.Node
	resources  map[string]*yaml.Node
	mappings   *yaml.Node
	globals    map[string]any
	problems   []error
}

func (s *stack) fail(format string, args ...any) {
	s.problems = append(s.problems, fmt.Errorf(format, args...))
}

func child(n *yaml.Node, name string) *yaml.Node {
	if n == nil {
		return nil
	}
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	for i := 0; i+1 < len(n.Content) && n.Kind == yaml.MappingNode; i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}

func (s *stack) eachOf(root *yaml.Node, section string, do func(string, *yaml.Node)) {
	n := child(root, section)
	for i := 0; n != nil && i+1 < len(n.Content); i += 2 {
		do(n.Content[i].Value, n.Content[i+1])
	}
}

// deployed reports whether the condition of a resource or an output holds.
func (s *stack) deployed(n *yaml.Node) bool {
	condition := child(n, "Condition")
	return condition == nil || s.holds(condition.Value)
}

func (s *stack) holds(condition string) bool {
	n, known := s.conditions[condition]
	if !known {
		s.fail("there is no condition %s", condition)
		return false
	}
	v, _ := s.value(n).(bool)
	return v
}

// none is AWS::NoValue.
type none struct{}

// value evaluates a node.
func (s *stack) value(n *yaml.Node) any {
	if n == nil {
		return nil
	}
	if n.Kind == yaml.AliasNode {
		return s.value(n.Alias)
	}
	switch n.Tag {
	case "!Ref":
		return s.ref(n.Value)
	case "!GetAtt":
		name, attribute, _ := strings.Cut(n.Value, ".")
		return s.attribute(name, attribute)
	case "!Sub":
		return variable.ReplaceAllStringFunc(n.Value, func(v string) string {
			text, _ := s.ref(v[2 : len(v)-1]).(string)
			return text
		})
	case "!If":
		if s.holds(n.Content[0].Value) {
			return s.value(n.Content[1])
		}
		return s.value(n.Content[2])
	case "!Equals":
		return s.value(n.Content[0]) == s.value(n.Content[1])
	case "!FindInMap":
		found := s.mappings
		for _, part := range n.Content {
			key, _ := s.value(part).(string)
			if found = child(found, key); found == nil {
				s.fail("line %d: there is no %s in the mapping", n.Line, key)
				return ""
			}
		}
		return s.value(found)
	case "!Not":
		v, _ := s.value(n.Content[0]).(bool)
		return !v
	}
	if strings.HasPrefix(n.Tag, "!") && !strings.HasPrefix(n.Tag, "!!") {
		s.fail("line %d: the contract test does not know %s", n.Line, n.Tag)
		return nil
	}
	switch n.Kind {
	case yaml.MappingNode:
		m := make(map[string]any, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			if v := s.value(n.Content[i+1]); v != (none{}) {
				m[n.Content[i].Value] = v
			}
		}
		return m
	case yaml.SequenceNode:
		l := make([]any, 0, len(n.Content))
		for _, e := range n.Content {
			if v := s.value(e); v != (none{}) {
				l = append(l, v)
			}
		}
		return l
	}
	return n.Value
}

var variable = regexp.MustCompile(`\$\{[A-Za-z0-9:]+\}`)

// ref is the value of a parameter, or the name of a resource. Resources are named like in the template.
func (s *stack) ref(name string) any {
	switch name {
	case "AWS::NoValue":
		return none{}
	case "AWS::Region":
		return Region
	case "AWS::AccountId":
		return Account
	case "AWS::Partition":
		return "aws"
	case "AWS::StackName":
		return "orders"
	}
	if v, ok := s.parameters[name]; ok {
		return v
	}
	n, known := s.resources[name]
	if !known || !s.deployed(n) {
		s.fail("there is nothing called %s", name)
		return ""
	}
	if child(n, "Type").Value == "AWS::IAM::ManagedPolicy" {
		return arn("iam", "policy/"+name)
	}
	return name
}

func arn(service, resource string) string {
	region := Region
	if service == "iam" {
		region = ""
	}
	return "arn:aws:" + service + ":" + region + ":" + Account + ":" + resource
}

func (s *stack) attribute(name, attribute string) string {
	n, known := s.resources[name]
	if !known || !s.deployed(n) {
		s.fail("there is no resource %s", name)
		return ""
	}
	switch kind := child(n, "Type").Value + "." + attribute; kind {
	case "AWS::DynamoDB::Table.Arn":
		return arn("dynamodb", "table/"+name)
	case "AWS::Kinesis::Stream.Arn":
		return arn("kinesis", "stream/"+name)
	case "AWS::Serverless::Function.Arn":
		return arn("lambda", "function:"+name)
	case "AWS::IAM::Role.Arn":
		return arn("iam", "role/"+name)
	case "AWS::Logs::LogGroup.Arn":
		return arn("logs", "log-group:"+name+":*")
	case "AWS::SQS::Queue.Arn":
		return arn("sqs", name)
	case "AWS::SQS::Queue.QueueName":
		return name
	case "AWS::Events::Rule.Arn":
		return arn("events", "rule/"+name)
	case "AWS::ApiGatewayV2::Api.ApiEndpoint":
		return "https://" + name
	default:
		s.fail("%s: the contract test does not know the attribute %s", name, kind)
		return ""
	}
}

// of runs through the resources of a type that are deployed.
func (s *stack) of(kind string, do func(name string, p tree)) {
	for name, n := range s.resources {
		if child(n, "Type").Value == kind && s.deployed(n) {
			do(name, tree{name, s.value(child(n, "Properties")), &s.problems})
		}
	}
}

func (s *stack) deployment() *Deployment {
	d := &Deployment{Tables: map[string]Table{}, Streams: map[string]Stream{}, Queues: map[string]Queue{}, LogGroups: map[string]int{},
		Functions: map[string]Function{}, Repeats: map[string]Repeat{}}
	s.known()
	s.of("AWS::DynamoDB::Table", func(name string, p tree) { d.Tables[name] = s.table(name, p) })
	s.of("AWS::Kinesis::Stream", func(name string, p tree) {
		p.only("ShardCount", "RetentionPeriodHours", "StreamModeDetails", "StreamEncryption")
		e := p.get("StreamEncryption")
		stream := Stream{Name: name, RetentionHours: p.get("RetentionPeriodHours").int()}
		if e.get("EncryptionType").text() == "KMS" {
			stream.Key = e.get("KeyId").text()
		}
		d.Streams[s.attribute(name, "Arn")] = stream
	})
	s.of("AWS::SQS::Queue", func(name string, p tree) {
		p.only("MessageRetentionPeriod", "SqsManagedSseEnabled")
		d.Queues[s.attribute(name, "Arn")] = Queue{name, p.get("SqsManagedSseEnabled").bool(), p.get("MessageRetentionPeriod").int()}
	})
	s.of("AWS::Logs::LogGroup", func(name string, p tree) { d.LogGroups[name] = p.get("RetentionInDays").int() })
	s.functions(d)
	s.of("AWS::IAM::ManagedPolicy", func(_ string, p tree) {
		p.only("Description", "PolicyDocument")
		d.Worker = append(d.Worker, p.get("PolicyDocument").policy()...)
	})
	s.of("AWS::Lambda::EventSourceMapping", func(name string, p tree) { d.Mappings = append(d.Mappings, mapping(name, p)) })
	s.of("AWS::ApiGatewayV2::Api", func(name string, _ tree) { d.API = name })
	s.routes(d)
	s.of("AWS::Events::Rule", func(_ string, p tree) {
		p.only("ScheduleExpression", "Targets")
		for _, target := range p.get("Targets").list() {
			target.only("Id", "Arn", "RetryPolicy")
			d.Schedules = append(d.Schedules, Schedule{target.get("Arn").text(), p.get("ScheduleExpression").text(), target.get("RetryPolicy").get("MaximumEventAgeInSeconds").int()})
		}
	})
	s.of("AWS::Lambda::EventInvokeConfig", func(_ string, p tree) {
		p.only("FunctionName", "Qualifier", "MaximumRetryAttempts", "MaximumEventAgeInSeconds")
		d.Repeats[p.get("FunctionName").text()] = Repeat{p.get("MaximumRetryAttempts").int(), p.get("MaximumEventAgeInSeconds").int()}
	})
	s.of("AWS::Lambda::Permission", func(_ string, p tree) {
		p.only("Action", "FunctionName", "Principal", "SourceArn")
		if action := p.get("Action").text(); action != "lambda:InvokeFunction" {
			p.fail("the action is %q", action)
		}
		d.Callers = append(d.Callers, Caller{p.get("FunctionName").text(), p.get("Principal").text(), p.get("SourceArn").text()})
	})
	s.of("AWS::CloudWatch::Alarm", func(_ string, p tree) { d.Alarms = append(d.Alarms, alarm(p)) })
	return d
}

// known fails for a type of resource that is not compared.
func (s *stack) known() {
	for name, n := range s.resources {
		switch kind := child(n, "Type"); {
		case kind == nil:
			s.fail("%s has no type", name)
		case !strings.Contains(` AWS::DynamoDB::Table AWS::Kinesis::Stream AWS::SQS::Queue AWS::Logs::LogGroup AWS::Serverless::Function AWS::IAM::Role
			AWS::IAM::ManagedPolicy AWS::Lambda::EventSourceMapping AWS::Lambda::EventInvokeConfig AWS::Lambda::Permission AWS::Events::Rule AWS::CloudWatch::Alarm
			AWS::ApiGatewayV2::Api AWS::ApiGatewayV2::Integration AWS::ApiGatewayV2::Route AWS::ApiGatewayV2::Stage `, kind.Value):
			s.fail("%s: the contract test does not know resources of type %s", name, kind.Value)
		}
	}
}

func (s *stack) table(name string, p tree) Table {
	p.only("BillingMode", "AttributeDefinitions", "KeySchema", "TimeToLiveSpecification", "KinesisStreamSpecification",
		"PointInTimeRecoverySpecification", "SSESpecification", "GlobalSecondaryIndexes", "DeletionProtectionEnabled")
	t := Table{
		ARN: s.attribute(name, "Arn"), Attributes: map[string]string{}, OnDemand: p.get("BillingMode").text() == "PAY_PER_REQUEST",
		PointInTimeRecovery: p.get("PointInTimeRecoverySpecification", "PointInTimeRecoveryEnabled").bool(),
		Encrypted:           p.get("SSESpecification", "SSEEnabled").bool(),
		Protected:           p.get("DeletionProtectionEnabled").bool(),
		Stream:              p.get("KinesisStreamSpecification", "StreamArn").text(),
		Precision:           p.get("KinesisStreamSpecification", "ApproximateCreationDateTimePrecision").text(),
	}
	for _, a := range p.get("AttributeDefinitions").list() {
		t.Attributes[a.get("AttributeName").text()] = a.get("AttributeType").text()
	}
	for _, k := range p.get("KeySchema").list() {
		switch attribute := k.get("AttributeName").text(); k.get("KeyType").text() {
		case "HASH":
			t.Partition = attribute
		case "RANGE":
			t.Sort = attribute
		}
	}
	if ttl := p.get("TimeToLiveSpecification"); ttl.get("Enabled").bool() {
		t.TTL = ttl.get("AttributeName").text()
	}
	for _, i := range p.get("GlobalSecondaryIndexes").list() {
		t.Indexes = append(t.Indexes, i.get("IndexName").text())
	}
	return t
}

func (s *stack) functions(d *Deployment) {
	roles := map[string]tree{}
	s.of("AWS::IAM::Role", func(name string, p tree) {
		p.only("AssumeRolePolicyDocument", "Policies")
		roles[s.attribute(name, "Arn")] = p
	})
	s.of("AWS::Serverless::Function", func(name string, p tree) {
		// Without a role, SAM makes one, with wildcards.
		p.only("CodeUri", "Role", "Timeout", "LoggingConfig", "Environment")
		global := tree{"Globals", s.globals, &s.problems}
		global.only("Runtime", "Handler", "Architectures", "MemorySize")
		program := path.Base(p.get("CodeUri").text())
		if p.get("CodeUri").text() != "cmd/"+program+"/" {
			p.fail("the code is %s, no program of cmd", p.get("CodeUri").text())
		}
		metadata := tree{name + ".Metadata", s.value(child(s.resources[name], "Metadata")), &s.problems}
		if method := metadata.get("BuildMethod").text(); method != "go1.x" {
			metadata.fail("the build method is %q", method)
		}
		f := Function{
			Name: name, ARN: s.attribute(name, "Arn"), Runtime: global.get("Runtime").text(), Handler: global.get("Handler").text(),
			Timeout: p.get("Timeout").int(), LogGroup: p.get("LoggingConfig", "LogGroup").text(),
			Environment: p.get("Environment", "Variables").textMap(), Architecture: strings.Join(global.get("Architectures").texts(), " "),
		}
		role, known := roles[p.get("Role").text()]
		if !known {
			p.fail("it has no role of its own")
			return
		}
		delete(roles, p.get("Role").text())
		f.Trusted = role.get("AssumeRolePolicyDocument").trusted()
		for _, policy := range role.get("Policies").list() {
			f.Granted = append(f.Granted, policy.get("PolicyDocument").policy()...)
		}
		d.Functions[program] = f
	})
	for role := range roles {
		s.fail("%s is the role of no function, or of two", role)
	}
}

func mapping(name string, p tree) Mapping {
	p.only("FunctionName", "EventSourceArn", "StartingPosition", "BatchSize", "ParallelizationFactor", "FunctionResponseTypes",
		"BisectBatchOnFunctionError", "MaximumRetryAttempts", "MaximumRecordAgeInSeconds", "DestinationConfig", "FilterCriteria", "MetricsConfig")
	m := Mapping{
		ID:       name, // a UUID, which Ref returns
		Function: p.get("FunctionName").text(), Stream: p.get("EventSourceArn").text(), StartingPosition: p.get("StartingPosition").text(),
		ResponseTypes: p.get("FunctionResponseTypes").texts(), Bisect: p.get("BisectBatchOnFunctionError").bool(),
		MaxAttempts: p.get("MaximumRetryAttempts").int(), MaxAgeSeconds: p.get("MaximumRecordAgeInSeconds").int(),
		Parallelization: p.get("ParallelizationFactor").int(), OnFailure: p.get("DestinationConfig", "OnFailure", "Destination").text(),
		Metrics: p.get("MetricsConfig", "Metrics").texts(),
	}
	for _, f := range p.get("FilterCriteria", "Filters").list() {
		m.FilterPatterns = append(m.FilterPatterns, f.get("Pattern").text())
	}
	return m
}

func (s *stack) routes(d *Deployment) {
	integrations, stage := map[string]tree{}, ""
	s.of("AWS::ApiGatewayV2::Integration", func(name string, p tree) { integrations["integrations/"+name] = p })
	s.of("AWS::ApiGatewayV2::Stage", func(_ string, p tree) {
		if stage = p.get("StageName").text(); !p.get("AutoDeploy").bool() {
			p.fail("it is not deployed by itself")
		}
	})
	s.of("AWS::ApiGatewayV2::Route", func(_ string, p tree) {
		integration, known := integrations[p.get("Target").text()]
		if !known {
			p.fail("there is no %s", p.get("Target").text())
			return
		}
		if kind := integration.get("IntegrationType").text(); kind != "AWS_PROXY" {
			integration.fail("the type is %q", kind)
		}
		d.Routes = append(d.Routes, Route{p.get("RouteKey").text(), p.get("AuthorizationType").text(),
			integration.get("IntegrationUri").text(), integration.get("PayloadFormatVersion").text(), stage})
	})
}

func alarm(p tree) Alarm {
	p.only("AlarmDescription", "AlarmActions", "TreatMissingData", "ComparisonOperator", "Threshold", "EvaluationPeriods",
		"Namespace", "MetricName", "Dimensions", "Statistic", "Period", "Metrics")
	a := Alarm{Threshold: p.get("Threshold").number(), Period: p.get("Period").int(), Comparison: p.get("ComparisonOperator").text(),
		Missing: p.get("TreatMissingData").text(), Actions: p.get("AlarmActions").texts()}
	a.Periods = p.get("EvaluationPeriods").int()
	if queries := p.get("Metrics").list(); len(queries) == 1 {
		a.Period = queries[0].get("Period").int()
		a.Metric = queries[0].get("Expression").query()
		return a
	}
	dimensions := p.get("Dimensions").list()
	if len(dimensions) != 1 {
		p.fail("want one dimension, have %d", len(dimensions))
		return a
	}
	a.Metric = Metric{p.get("Namespace").text(), p.get("MetricName").text(), dimensions[0].get("Name").text(),
		dimensions[0].get("Value").text(), p.get("Statistic").text()}
	return a
}
