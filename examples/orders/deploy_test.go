package main

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zclconf/go-cty/cty"

	"github.com/seed-1b628d3f/outbox/examples/orders/internal/deployment"
)

// What the template deploys is what the code needs, and no more: the code runs, and everything that it calls is recorded.
func TestTheTemplateDeploysWhatTheCodeNeeds(t *testing.T) {
	file, err := os.ReadFile("template.yaml")
	require.NoError(t, err)
	template := string(file)
	d, err := deployment.CloudFormation(file, sender("WithWorker", "true"))
	require.NoError(t, err)
	n := needs(t, d)
	require.NoError(t, d.Check(n))

	for name, parameters := range map[string]map[string]string{
		"the defaults":      sender(),
		"on Intel":          sender("Architecture", "x86_64"),
		"for everybody":     sender("Authorization", "NONE"),
		"two days":          sender("RetentionDays", "2"),
		"three days":        sender("RetentionDays", "3"),
		"two weeks":         sender("RetentionDays", "14"),
		"three weeks":       sender("RetentionDays", "21"),
		"only inserts":      sender("OnlyInserts", "true"),
		"an alarm's topic":  sender("AlarmTopic", "arn:aws:sns:us-east-1:123456789012:alarms"),
		"in several shards": sender("Shards", "4", "ParallelizationFactor", "10"),
	} {
		d, err := deployment.CloudFormation(file, parameters)
		require.NoError(t, err, name)
		require.NoError(t, d.Check(n), name)
		for _, a := range d.Alarms {
			require.Equal(t, parameters["AlarmTopic"], strings.Join(a.Actions, " "), name)
		}
		require.Equal(t, parameters["OnlyInserts"] == "true", len(d.Mappings[0].FilterPatterns) == 1, name)
	}

	d, err = deployment.CloudFormation(file, sender("DeletionProtection", "false"))
	require.NoError(t, err)
	require.NoError(t, d.Check(deletable(n)))

	// Every kind of mistake is found. The first place where the old text is gets the new one.
	for name, m := range mistakes {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, template, m.old)
			d, err := deployment.CloudFormation([]byte(strings.Replace(template, m.old, m.new, 1)), sender("WithWorker", "true"))
			if err == nil {
				err = d.Check(n)
			}
			require.ErrorContains(t, err, m.found)
		})
	}
}

// deletable is what is needed when the tables shall go.
func deletable(n deployment.Needs) deployment.Needs {
	n.Protected = false
	return n
}

// One parameter says how long the stream keeps records, and when Lambda gives one up: a day earlier, and after its 7 days at the latest.
// Template and module agree.
func TestTheTemplateAndTheModuleGiveUpBeforeTheStreamDoes(t *testing.T) {
	template, err := os.ReadFile("template.yaml")
	require.NoError(t, err)
	files := moduleFiles(t)
	allowed := regexp.MustCompile(`AllowedValues: \["2", "3", "7", "14", "21"\]`)
	require.Regexp(t, allowed, string(template))
	require.Contains(t, string(files["terraform/variables.tf"]), "contains([2, 3, 7, 14, 21], var.retention_days)")
	for days, givenUp := range map[int]int{2: 1, 3: 2, 7: 6, 14: 7, 21: 7} {
		of, err := deployment.CloudFormation(template, sender("RetentionDays", strconv.Itoa(days)))
		require.NoError(t, err)
		and, err := deployment.Terraform(files, moduleVariables("retention_days", days))
		require.NoError(t, err)
		for _, d := range []*deployment.Deployment{of, and} {
			require.Equal(t, givenUp*24*3600, d.Mappings[0].MaxAgeSeconds)
			require.Equal(t, days*24, d.Streams[d.Mappings[0].Stream].RetentionHours)
		}
	}
}

// A domain's identity and a recipient in the sandbox are what the policies name instead of the sender, and besides.
func TestPoliciesNameTheIdentity(t *testing.T) {
	file, err := os.ReadFile("template.yaml")
	require.NoError(t, err)
	d, err := deployment.CloudFormation(file, sender("MailIdentity", "example.com", "SandboxRecipient", "me@example.org"))
	require.NoError(t, err)
	for _, program := range []string{"consumer", "redrive"} {
		var identities []string
		for _, g := range d.Functions[program].Granted {
			if g.Action == "ses:SendEmail" {
				identities = append(identities, g.Resource)
			}
		}
		require.Equal(t, []string{"arn:aws:ses:us-east-1:123456789012:identity/example.com", "arn:aws:ses:us-east-1:123456789012:identity/me@example.org"}, identities)
	}
}

func moduleFiles(t *testing.T) map[string][]byte {
	paths, err := filepath.Glob("terraform/*.tf")
	require.NoError(t, err)
	files := make(map[string][]byte)
	for _, path := range paths {
		files[path], err = os.ReadFile(path)
		require.NoError(t, err)
	}
	return files
}

// moduleVariables are the module's variables; those without a default have a value.
func moduleVariables(more ...any) map[string]cty.Value {
	all := map[string]cty.Value{"mail_from": cty.StringVal("shop@example.com"), "dist": cty.StringVal("../dist/arm64")}
	for i := 0; i < len(more); i += 2 {
		switch v := more[i+1].(type) {
		case string:
			all[more[i].(string)] = cty.StringVal(v)
		case bool:
			all[more[i].(string)] = cty.BoolVal(v)
		case int:
			all[more[i].(string)] = cty.NumberIntVal(int64(v))
		}
	}
	return all
}

// The Terraform module deploys what the template does.
func TestTheModuleDeploysWhatTheCodeNeeds(t *testing.T) {
	files := moduleFiles(t)
	d, err := deployment.Terraform(files, moduleVariables("with_worker", true))
	require.NoError(t, err)
	n := needs(t, d)
	require.NoError(t, d.Check(n))

	for name, variables := range map[string]map[string]cty.Value{
		"the defaults":      moduleVariables(),
		"on Intel":          moduleVariables("architecture", "x86_64"),
		"for everybody":     moduleVariables("authorization", "NONE"),
		"two days":          moduleVariables("retention_days", 2),
		"three days":        moduleVariables("retention_days", 3),
		"two weeks":         moduleVariables("retention_days", 14),
		"three weeks":       moduleVariables("retention_days", 21),
		"only inserts":      moduleVariables("only_inserts", true),
		"an alarm's topic":  moduleVariables("alarm_topic", "arn:aws:sns:us-east-1:123456789012:alarms"),
		"in several shards": moduleVariables("shards", 4, "parallelization_factor", 10),
	} {
		d, err := deployment.Terraform(files, variables)
		require.NoError(t, err, name)
		require.NoError(t, d.Check(n), name)
		require.Equal(t, name == "only inserts", len(d.Mappings[0].FilterPatterns) == 1, name)
		for _, a := range d.Alarms {
			require.Equal(t, name == "an alarm's topic", len(a.Actions) == 1, name)
		}
	}

	d, err = deployment.Terraform(files, moduleVariables("deletion_protection", false))
	require.NoError(t, err)
	require.NoError(t, d.Check(deletable(n)))

	for name, m := range moduleMistakes {
		t.Run(name, func(t *testing.T) {
			wrong := maps.Clone(files)
			require.Contains(t, string(files[m.file]), m.old)
			wrong[m.file] = []byte(strings.Replace(string(files[m.file]), m.old, m.new, 1))
			d, err := deployment.Terraform(wrong, moduleVariables("with_worker", true))
			if err == nil {
				err = d.Check(n)
			}
			require.ErrorContains(t, err, m.found)
		})
	}
}

// moduleMistakes are those that only a module can have, and some of each kind: the check is the template's.
var moduleMistakes = map[string]struct{ file, old, new, found string }{
	"an action too many":          {"terraform/functions.tf", `Action = ["dynamodb:GetItem", "dynamodb:UpdateItem"], Resource = [aws_dynamodb_table.orders.arn]`, `Action = ["dynamodb:GetItem", "dynamodb:UpdateItem", "dynamodb:Scan"], Resource = [aws_dynamodb_table.orders.arn]`, "api: it may dynamodb:Scan"},
	"an action too few":           {"terraform/functions.tf", `"dynamodb:BatchGetItem", `, "", "consumer: it may not dynamodb:BatchGetItem"},
	"a wildcard":                  {"terraform/functions.tf", `Resource = [aws_sqs_queue.failures.arn]`, `Resource = ["*"]`, "a wildcard"},
	"no policy":                   {"terraform/functions.tf", `role = aws_iam_role.redrive.id`, `role = aws_iam_role.consumer.id`, "redrive: it may not"},
	"another's role":              {"terraform/functions.tf", "aws_iam_role.redrive.arn", "aws_iam_role.api.arn", "the role of no function, or of two"},
	"a variable too few":          {"terraform/functions.tf", "    MAIL_FROM          = var.mail_from\n", "", "consumer: the environment variables"},
	"another's code":              {"terraform/functions.tf", `filename         = "${var.dist}/redrive.zip"`, `filename         = "${var.dist}/worker.zip"`, "the hash is not that of"},
	"another key":                 {"terraform/tables.tf", `range_key    = "consumer"`, `range_key    = "eventId"`, "INBOX_TABLE: the keys"},
	"another time to live":        {"terraform/tables.tf", `attribute_name = "ttl"`, `attribute_name = "expiresAt"`, "LEASES_TABLE: the time to live"},
	"another precision":           {"terraform/tables.tf", "MICROSECOND", "MILLISECOND", "the precision of the destination"},
	"no destination":              {"terraform/tables.tf", "table_name                               = aws_dynamodb_table.events.name", "table_name                               = aws_dynamodb_table.orders.name", "EVENTS_TABLE: a destination"},
	"no encryption":               {"terraform/tables.tf", `encryption_type  = "KMS"`, `encryption_type  = "NONE"`, "the key of the stream"},
	"no partial answers":          {"terraform/functions.tf", `["ReportBatchItemFailures"]`, "[]", "FunctionResponseTypes"},
	"no counts of events":         {"terraform/functions.tf", `["EventCount"]`, "[]", "MetricsConfig"},
	"an alarm of no mapping":      {"terraform/alarms.tf", "aws_lambda_event_source_mapping.consumer.uuid", "aws_lambda_function.consumer.function_name", "want one alarm on {AWS/Lambda DroppedEventCount"},
	"another filter":              {"terraform/functions.tf", "var.only_inserts ? [1] : []", "[1, 2]", "want one block filter_criteria, have 2"},
	"records expire first":        {"terraform/functions.tf", "(var.retention_days - 1)", "var.retention_days", "they expire before Lambda gives them up"},
	"records outlive rows":        {"terraform/tables.tf", "var.retention_days * 24", "var.retention_days * 240", "the stream keeps records for"},
	"no deletion protection":      {"terraform/tables.tf", "  deletion_protection_enabled = var.deletion_protection\n", "", "ORDERS_TABLE: deletion protection"},
	"metrics of no stack":         {"terraform/functions.tf", "    STACK              = var.name\n", "", "consumer: the environment variables"},
	"metrics of another stack":    {"terraform/alarms.tf", "{ Stack = var.name }", "{ Stack = \"orders-2\" }", "want one alarm on {Orders DeadLetters Stack orders Sum}, have 0"},
	"nobody sees a destination":   {"terraform/alarms.tf", `"DisabledDestination"`, `"Disabled"`, "want one alarm on {Orders DisabledDestination Stack orders Maximum}, have 0"},
	"an alarm that is early":      {"terraform/alarms.tf", "periods     = 3", "periods     = 1", "AgeOfOldestUnreplicatedRecord: the seconds above the threshold"},
	"another stream":              {"terraform/functions.tf", "EVENTS_STREAM = aws_kinesis_stream.events.name", "EVENTS_STREAM = aws_dynamodb_table.orders.name", "redrive: EVENTS_STREAM"},
	"no rate of mails":            {"terraform/functions.tf", "    MAIL_RATE          = var.mail_rate\n", "", "consumer: the environment variables"},
	"no reading of the events":    {"terraform/functions.tf", `"dynamodb:Scan"`, `"dynamodb:Query"`, "reconcile: it may not dynamodb:Scan"},
	"too late for the hour":       {"terraform/functions.tf", "maximum_event_age_in_seconds = 900", "maximum_event_age_in_seconds = 1500", "reconcile: the repeats"},
	"called later than the hour":  {"terraform/functions.tf", "maximum_event_age_in_seconds = 180", "maximum_event_age_in_seconds = 600", "reconcile: the repeats"},
	"at the edge of the hour":     {"terraform/functions.tf", "cron(30 ", "cron(0 ", "the functions on a schedule"},
	"a part too few":              {"terraform/alarms.tf", "threshold   = 24", "threshold   = 23", "ReconciledSegments: the threshold"},
	"an alarm on all parts":       {"terraform/alarms.tf", `"LessThanThreshold"`, `"GreaterThanThreshold"`, "ReconciledSegments: the comparison"},
	"nobody reconciles":           {"terraform/alarms.tf", `, "incomplete-cycle"]`, "]", "ReconciledSegments: missing data"},
	"no alarm on the API":         {"terraform/alarms.tf", `"5xx"`, `"4xx"`, "want one alarm on {AWS/ApiGateway 5xx ApiId orders Sum}, have 0"},
	"errors of another function":  {"terraform/alarms.tf", "aws_lambda_function.api.function_name", "aws_lambda_function.redrive.function_name", "want one alarm on {AWS/Lambda Errors FunctionName orders-api Sum}, have 0"},
	"no alarm on throttles":       {"terraform/alarms.tf", `"Throttles"`, `"Duration"`, "want one alarm on {AWS/Lambda Throttles FunctionName orders-api Sum}, have 0"},
	"nobody counts the letters":   {"terraform/alarms.tf", `["stream-age", "waiting-dead-letters", `, `["stream-age", `, "WaitingDeadLetters: missing data"},
	"counts that are rare":        {"terraform/functions.tf", "rate(5 minutes)", "rate(1 hour)", "the functions on a schedule"},
	"an alarm between two counts": {"terraform/alarms.tf", "= 900", "= 60", "WaitingDeadLetters: the period"},
	"another metric":              {"terraform/alarms.tf", `"DeadLetters"`, `"DeadLetter"`, "want one alarm on {Orders DeadLetters Stack orders Sum}, have 0"},
	"an alarm of another table":   {"terraform/alarms.tf", "aws_dynamodb_table.events.name", "aws_dynamodb_table.orders.name", "want one alarm on {AWS/DynamoDB FailedToReplicateRecordCount"},
	"no permission":               {"terraform/api.tf", `principal     = "apigateway.amazonaws.com"`, `principal     = "events.amazonaws.com"`, "apigateway.amazonaws.com may not invoke api"},
	"a route too few":             {"terraform/api.tf", "GET /orders/{id}", "POST /", "the routes"},
	"a resource that is unknown":  {"terraform/tables.tf", `resource "aws_sqs_queue" "failures"`, `resource "aws_sns_topic" "failures"`, "aws_sqs_queue"},
	"nothing of that name":        {"terraform/outputs.tf", "aws_sqs_queue.failures.url", "aws_sqs_queue.failure.url", "failure"},
}

// The Makefile builds what is deployed, for what it is deployed on, and the Dockerfile what the worker is.
func TestTheMakefileBuildsWhatIsDeployed(t *testing.T) {
	makefile, err := os.ReadFile("Makefile")
	require.NoError(t, err)
	template, err := os.ReadFile("template.yaml")
	require.NoError(t, err)
	d, err := deployment.CloudFormation(template, sender())
	require.NoError(t, err)
	require.Regexp(t, `(?m)^FUNCTIONS +:= `+strings.Join(slices.Sorted(maps.Keys(d.Functions)), " ")+"$", string(makefile))
	require.Regexp(t, `(?m)^ARCHITECTURES +:= arm64 amd64$`, string(makefile)) // amd64 is what Lambda calls x86_64
	require.Contains(t, string(template), "AllowedValues: [arm64, x86_64]")
	for program := range d.Functions {
		require.FileExists(t, filepath.Join("cmd", program, "main.go"))
	}
}

// What the Dockerfile copies is there, and what it builds is the worker.
func TestTheDockerfileBuildsTheWorker(t *testing.T) {
	file, err := os.ReadFile("Dockerfile")
	require.NoError(t, err)
	copies := 0
	for line := range strings.Lines(string(file)) {
		words := strings.Fields(line)
		if len(words) < 3 || words[0] != "COPY" || strings.HasPrefix(words[1], "--from") {
			continue
		}
		copies++
		for _, path := range words[1 : len(words)-1] {
			_, err := os.Stat(filepath.Join("..", "..", path)) // from the root of the repository
			require.NoError(t, err, line)
		}
	}
	require.Equal(t, 3, copies)
	require.Contains(t, string(file), " go build -trimpath -ldflags \"-s -w\" -o /worker ./orders/cmd/worker\n")
	require.FileExists(t, filepath.Join("cmd", "worker", "main.go"))
	require.Contains(t, string(file), "CGO_ENABLED=0 ") // the image has no C library
	require.Regexp(t, `(?m)^USER [1-9][0-9]*:[1-9][0-9]*$`, string(file))
	require.Contains(t, string(file), "ENTRYPOINT [\"/worker\"]")
}

// mistakes are those that a template can have, with what the check says.
var mistakes = map[string]struct{ old, new, found string }{
	"an action too many":          {"Action: dynamodb:PutItem\n", "Action: [dynamodb:PutItem, dynamodb:Scan]\n", "api: it may dynamodb:Scan on arn:aws:dynamodb:us-east-1:123456789012:table/OrdersTable and never does"},
	"a resource too many":         {"Resource: !GetAtt OrdersTable.Arn\n", "Resource: [!GetAtt OrdersTable.Arn, !GetAtt InboxTable.Arn]\n", "api: it may dynamodb:GetItem on arn:aws:dynamodb:us-east-1:123456789012:table/InboxTable and never does"},
	"an action too few":           {"dynamodb:BatchGetItem, ", "", "consumer: it may not dynamodb:BatchGetItem on arn:aws:dynamodb:us-east-1:123456789012:table/DeadLettersTable"},
	"a resource too few":          {"Resource: [!GetAtt OrdersTable.Arn, !GetAtt EventsTable.Arn]", "Resource: !GetAtt OrdersTable.Arn", "api: it may not dynamodb:PutItem on arn:aws:dynamodb:us-east-1:123456789012:table/EventsTable"},
	"nothing read that was lost":  {"Action: dynamodb:BatchGetItem", "Action: dynamodb:GetItem", "redrive: it may not dynamodb:BatchGetItem on arn:aws:dynamodb:us-east-1:123456789012:table/EventsTable"},
	"an action with a wildcard":   {"Action: dynamodb:BatchGetItem", "Action: dynamodb:*", "a wildcard"},
	"a resource with a wildcard":  {"Resource: !GetAtt FailureQueue.Arn", `Resource: "*"`, "a wildcard"},
	"no mail":                     {"Action: ses:SendEmail", "Action: ses:SendRawEmail", "consumer: it may not ses:SendEmail on arn:aws:ses:us-east-1:123456789012:identity/shop@example.com"},
	"no reading for Lambda":       {"                  - kinesis:GetShardIterator\n", "", "consumer: it may not kinesis:GetShardIterator"},
	"no failure queue for Lambda": {"Action: sqs:SendMessage", "Action: sqs:ReceiveMessage", "consumer: it may not sqs:SendMessage"},
	"no logs":                     {"Resource: !GetAtt RedriveLogs.Arn", "Resource: !GetAtt ApiLogs.Arn", "redrive: it may not logs:PutLogEvents"},
	"another's role":              {"Role: !GetAtt RedriveRole.Arn", "Role: !GetAtt ApiRole.Arn", "the role of no function, or of two"},
	"somebody else takes a role":  {"Service: lambda.amazonaws.com", "Service: ec2.amazonaws.com", "who may take the role"},
	"a managed policy":            {"      Policies:\n        - PolicyName: api\n", "      ManagedPolicyArns: [arn:aws:iam::aws:policy/AdministratorAccess]\n      Policies:\n        - PolicyName: api\n", "does not know the property ManagedPolicyArns"},
	"no leases":                   {"Action: [dynamodb:Query, dynamodb:UpdateItem, dynamodb:DeleteItem]", "Action: [dynamodb:Query, dynamodb:UpdateItem]", "worker: it may not dynamodb:DeleteItem"},
	"another key":                 {"{ AttributeName: consumer, KeyType: RANGE }", "{ AttributeName: eventId, KeyType: RANGE }", "INBOX_TABLE: the keys"},
	"another type of a key":       {"{ AttributeName: eventId, AttributeType: S }", "{ AttributeName: eventId, AttributeType: N }", "EVENTS_TABLE: the attributes"},
	"no time to live":             {"      TimeToLiveSpecification: { AttributeName: expiresAt, Enabled: true }\n", "", "EVENTS_TABLE: the time to live"},
	"another time to live":        {"AttributeName: ttl, Enabled", "AttributeName: expiresAt, Enabled", "LEASES_TABLE: the time to live"},
	"another precision":           {"MICROSECOND", "MILLISECOND", "the precision of the destination"},
	"no destination":              {"      KinesisStreamSpecification:\n        StreamArn: !GetAtt EventsStream.Arn\n        ApproximateCreationDateTimePrecision: MICROSECOND\n", "", "EVENTS_TABLE: a destination"},
	"an index":                    {"      KeySchema:\n        - { AttributeName: eventId, KeyType: HASH }\n      TimeToLive", "      GlobalSecondaryIndexes: [{ IndexName: byType }]\n      KeySchema:\n        - { AttributeName: eventId, KeyType: HASH }\n      TimeToLive", "EVENTS_TABLE: the indexes"},
	"no recovery":                 {"PointInTimeRecoveryEnabled: true", "PointInTimeRecoveryEnabled: false", "point-in-time recovery"},
	"no encryption of a table":    {"SSEEnabled: true", "SSEEnabled: false", "encryption"},
	"no encryption of the stream": {"      StreamEncryption: { EncryptionType: KMS, KeyId: alias/aws/kinesis }\n", "", "the key of the stream"},
	"provisioned":                 {"BillingMode: PAY_PER_REQUEST", "BillingMode: PROVISIONED", "on demand"},
	"a variable too few":          {"          ORDERS_TABLE: !Ref OrdersTable\n", "", "api: the environment variables"},
	"a variable too many":         {"          ORDERS_TABLE: !Ref OrdersTable\n", "          ORDERS_TABLE: !Ref OrdersTable\n          INBOX_TABLE: !Ref InboxTable\n", "api: the environment variables"},
	"another table":               {"ORDERS_TABLE: !Ref OrdersTable", "ORDERS_TABLE: !Ref EventsTable", "ORDERS_TABLE: the keys"},
	"another handler":             {"Handler: bootstrap", "Handler: main", "the handler"},
	"another runtime":             {"Runtime: provided.al2023", "Runtime: go1.x", "the runtime"},
	"another architecture":        {"Architectures: [!Ref Architecture]", "Architectures: [mips]", "the architecture"},
	"another program":             {"CodeUri: cmd/redrive/", "CodeUri: cmd/worker/", "the functions"},
	"another way to build":        {"BuildMethod: go1.x", "BuildMethod: makefile", "the build method"},
	"logs for ever":               {"Properties: { RetentionInDays: !Ref LogRetentionDays }", "Properties: {}", "keeps lines for ever"},
	"no partial answers":          {"      FunctionResponseTypes: [ReportBatchItemFailures]\n", "", "FunctionResponseTypes"},
	"no counts of events":         {"      MetricsConfig: { Metrics: [EventCount] }\n", "", "MetricsConfig"},
	"no alarm on dropped events":  {"MetricName: DroppedEventCount", "MetricName: PolledEventCount", "want one alarm on {AWS/Lambda DroppedEventCount EventSourceMappingUUID ConsumerMapping Sum}, have 0"},
	"no bisecting":                {"BisectBatchOnFunctionError: true", "BisectBatchOnFunctionError: false", "BisectBatchOnFunctionError"},
	"attempts run out":            {"MaximumRetryAttempts: -1", "MaximumRetryAttempts: 3", "MaximumRetryAttempts"},
	"from the end":                {"TRIM_HORIZON", "LATEST", "StartingPosition"},
	"no failure destination":      {"      DestinationConfig: { OnFailure: { Destination: !GetAtt FailureQueue.Arn } }\n", "", "the on-failure destination"},
	"records expire first":        {"Hours: 168, GivenUpAfterSeconds: 518400", "Hours: 168, GivenUpAfterSeconds: 604800", "they expire before Lambda gives them up"},
	"records outlive rows":        {"Hours: 168,", "Hours: 720,", "the stream keeps records for 720h"},
	"a retention of its own":      {"!FindInMap [Retention, !Ref RetentionDays, Hours]", "!FindInMap [Retention, \"2\", Hours]", "they expire before Lambda gives them up"},
	"a retention that is nowhere": {"!FindInMap [Retention, !Ref RetentionDays, Hours]", "!FindInMap [Retention, \"9\", Hours]", "there is no 9 in the mapping"},
	"no deletion protection":      {"      DeletionProtectionEnabled: !Ref DeletionProtection\n", "", "ORDERS_TABLE: deletion protection"},
	"deletable by default":        {"Default: \"true\"\n    AllowedValues: [\"true\", \"false\"]", "Default: \"false\"\n    AllowedValues: [\"true\", \"false\"]", "LEASES_TABLE: deletion protection"},
	"metrics of no stack":         {"          STACK: !Ref AWS::StackName\n", "", "consumer: the environment variables"},
	"metrics of another stack":    {"{ Name: Stack, Value: !Ref AWS::StackName }", "{ Name: Stack, Value: orders-2 }", "want one alarm on {Orders "},
	"nobody sees a destination":   {"MetricName: DisabledDestination", "MetricName: Disabled", "want one alarm on {Orders DisabledDestination Stack orders Maximum}, have 0"},
	"an alarm that is early":      {"EvaluationPeriods: 3", "EvaluationPeriods: 1", "AgeOfOldestUnreplicatedRecord: the seconds above the threshold"},
	"no look at the destination":  {"dynamodb:DescribeKinesisStreamingDestination", "dynamodb:DescribeTable", "redrive: it may not dynamodb:DescribeKinesisStreamingDestination"},
	"another stream":              {"EVENTS_STREAM: !Ref EventsStream", "EVENTS_STREAM: !Ref EventsTable", "redrive: EVENTS_STREAM"},
	"no reading of the events":    {"Action: dynamodb:Scan", "Action: dynamodb:GetItem", "reconcile: it may not dynamodb:Scan on arn:aws:dynamodb:us-east-1:123456789012:table/EventsTable"},
	"no reading of the inbox":     {"Action: dynamodb:BatchGetItem\n                Resource: !GetAtt InboxTable.Arn", "Action: dynamodb:GetItem\n                Resource: !GetAtt DeadLettersTable.Arn", "reconcile: it may not dynamodb:BatchGetItem on arn:aws:dynamodb:us-east-1:123456789012:table/InboxTable"},
	"at the edge of the hour":     {"cron(30 * * * ? *)", "cron(0 * * * ? *)", "the functions on a schedule"},
	"too late for the hour":       {"MaximumEventAgeInSeconds: 900", "MaximumEventAgeInSeconds: 1500", "reconcile: the repeats: want one or more that end within 1h0m0s"},
	"late without a bound":        {"      MaximumEventAgeInSeconds: 900\n", "", "reconcile: the repeats"},
	"called later than the hour":  {"RetryPolicy: { MaximumEventAgeInSeconds: 180 }", "RetryPolicy: { MaximumEventAgeInSeconds: 600 }", "reconcile: the repeats: want one or more that end within 1h0m0s"},
	"called late without a bound": {"          RetryPolicy: { MaximumEventAgeInSeconds: 180 }\n", "", "reconcile: the repeats: want one or more that end within 1h0m0s"},
	"too long for the hour":       {"Timeout: 600", "Timeout: 900", "reconcile: the repeats: want one or more that end within 1h0m0s"},
	"too long for a repeat":       {"MaximumEventAgeInSeconds: 900", "MaximumEventAgeInSeconds: 600", "reconcile: the repeats: an invocation that runs out of time is not repeated"},
	"no repeat":                   {"MaximumRetryAttempts: 1", "MaximumRetryAttempts: 0", "reconcile: the repeats"},
	"repeats for no reason":       {"      MaximumRetryAttempts: 0\n", "      MaximumRetryAttempts: 2\n", "redrive: the repeats"},
	"nobody hears what was lost":  {"MetricName: UndeliveredEvents", "MetricName: Undelivered", "want one alarm on {Orders UndeliveredEvents Stack orders Maximum}, have 0"},
	"a part too few":              {"Threshold: 24", "Threshold: 23", "ReconciledSegments: the threshold: want 24, have 23"},
	"parts of two days":           {"Period: 86400", "Period: 172800", "ReconciledSegments: the seconds above the threshold"},
	"an alarm on all parts":       {"ComparisonOperator: LessThanThreshold", "ComparisonOperator: GreaterThanThreshold", "ReconciledSegments: the comparison"},
	"nobody reconciles":           {"TreatMissingData: breaching\n      ComparisonOperator: LessThan", "TreatMissingData: notBreaching\n      ComparisonOperator: LessThan", "ReconciledSegments: missing data"},
	"no rate of mails":            {"          MAIL_RATE: !Ref MailRate\n", "", "consumer: the environment variables"},
	"a filter of its own": {`Filters: [{ Pattern: '{"data":{"eventName":["INSERT"]}}' }]
        - !Ref AWS::NoValue`, `Filters: []
        - { Filters: [{ Pattern: '{"data":{"eventName":["REMOVE"]}}' }] }`, "the filter"},
	"a route too few":                {"RouteKey: GET /orders/{id}", "RouteKey: POST /", "the routes"},
	"a route to another function":    {"IntegrationUri: !GetAtt ApiFunction.Arn", "IntegrationUri: !GetAtt RedriveFunction.Arn", "POST /: the function"},
	"the old payload":                {`PayloadFormatVersion: "2.0"`, `PayloadFormatVersion: "1.0"`, "the version of payloads"},
	"another stage":                  {"StageName: $default", "StageName: live", "the stage"},
	"no permission for the API":      {"FunctionName: !Ref ApiFunction\n", "FunctionName: !Ref ConsumerFunction\n", "apigateway.amazonaws.com may not invoke api"},
	"no permission for the schedule": {"Principal: events.amazonaws.com", "Principal: scheduler.amazonaws.com", "events.amazonaws.com may not invoke redrive"},
	"another function on schedule":   {"Arn: !GetAtt RedriveFunction.Arn", "Arn: !GetAtt ConsumerFunction.Arn", "the functions on a schedule"},
	"no alarm on the API":            {"MetricName: 5xx", "MetricName: 4xx", "want one alarm on {AWS/ApiGateway 5xx ApiId HttpApi Sum}, have 0"},
	"errors of another function":     {"Dimensions: [{ Name: FunctionName, Value: !Ref ApiFunction }]", "Dimensions: [{ Name: FunctionName, Value: !Ref RedriveFunction }]", "want one alarm on {AWS/Lambda Errors FunctionName ApiFunction Sum}, have 0"},
	"no alarm on throttles":          {"MetricName: Throttles", "MetricName: Duration", "want one alarm on {AWS/Lambda Throttles FunctionName ApiFunction Sum}, have 0"},
	"an alarm that ends by itself":   {"MetricName: WaitingDeadLetters", "MetricName: DeadLetters", "want one alarm on {Orders WaitingDeadLetters Stack orders Maximum}, have 0"},
	"nobody counts the letters":      {"TreatMissingData: breaching\n      ComparisonOperator: GreaterThanThreshold\n      Threshold: 0", "TreatMissingData: notBreaching\n      ComparisonOperator: GreaterThanThreshold\n      Threshold: 0", "WaitingDeadLetters: missing data"},
	"an alarm between two counts":    {"Period: 900", "Period: 60", "WaitingDeadLetters: the period"},
	"counts that are rare":           {"rate(5 minutes)", "rate(1 hour)", "the functions on a schedule"},
	"another metric":                 {"MetricName: DeadLetters", "MetricName: DeadLetter", "want one alarm on {Orders DeadLetters Stack orders Sum}, have 0"},
	"an alarm of another table":      {"WHERE TableName = '${EventsTable}'", "WHERE TableName = '${OrdersTable}'", "want one alarm on {AWS/DynamoDB FailedToReplicateRecordCount"},
	"an alarm for nothing":           {"MetricName: IteratorAge\n", "MetricName: Duration\n", "nobody needs the alarm on {AWS/Lambda Duration"},
	"an alarm that comes late":       {"      Threshold: 0\n", "      Threshold: 5\n", "the threshold"},
	"an alarm without data":          {"TreatMissingData: notBreaching", "TreatMissingData: breaching", "missing data"},
	"a stream that nobody reads":     {"TreatMissingData: breaching", "TreatMissingData: notBreaching", "GetRecords.IteratorAgeMilliseconds: missing data"},
	"a resource of what has none":    {"Action: kinesis:ListStreams\n                Resource: \"*\"", "Action: kinesis:ListStreams\n                Resource: !GetAtt EventsStream.Arn", "consumer: it may not kinesis:ListStreams on *"},
	"an unknown resource":            {"  AccessLogs:\n    Type: AWS::Logs::LogGroup", "  AccessLogs:\n    Type: AWS::S3::Bucket", "does not know resources of type AWS::S3::Bucket"},
	"a table that nobody uses":       {"INBOX_TABLE: !Ref InboxTable", "INBOX_TABLE: nothing", "consumer: INBOX_TABLE is \"nothing\""},
	"nothing of that name":           {"Value: !Ref FailureQueue", "Value: !Ref FailureQueues", "there is nothing called FailureQueues"},
	"a setting that is not compared": {"      StartingPosition: TRIM_HORIZON\n", "      StartingPosition: TRIM_HORIZON\n      TumblingWindowInSeconds: 30\n", "does not know the property TumblingWindowInSeconds"},
}
