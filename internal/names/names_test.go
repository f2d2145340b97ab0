package names

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What AWS takes for which parameter, in all its partitions, and what it never will.
func TestNamesThatCanWork(t *testing.T) {
	const stream, table, label = "arn:aws:kinesis:us-east-1:123456789012:stream/", "arn:aws:dynamodb:us-east-1:123456789012:table/", "/stream/2026-01-31T12:00:00.000"
	for _, c := range []struct {
		name                    string
		kinesis, dynamo, tables bool
		says                    string // of the error of what it is not
	}{
		{"events", true, false, true, `"events": want `},
		{"a", true, false, false, `"a": want `},
		{"a.b-c_9", true, false, true, ""},
		{strings.Repeat("n", 128), true, false, true, ""},
		{strings.Repeat("n", 129), false, false, true, ""},
		{strings.Repeat("n", 255), false, false, true, ""},
		{strings.Repeat("n", 256), false, false, false, `n...": want `},
		{"", false, false, false, "it is empty: want "},
		{"my events", false, false, false, ""}, {"events\n", false, false, false, ""}, {"évents", false, false, false, ""}, {"a/b/c", false, false, false, ""}, {"events#1", false, false, false, ""},
		{stream + "events", true, false, false, "is the ARN of a Kinesis stream: want "},
		{"arn:aws-cn:kinesis:cn-north-1:123456789012:stream/events", true, false, false, ""},
		{"arn:aws-us-gov:kinesis:us-gov-west-1:123456789012:stream/events", true, false, false, ""},
		{"arn:aws-iso-b:kinesis:us-isob-east-1:123456789012:stream/events", true, false, false, ""},
		{stream + "events/consumer/mails:1700000000", false, false, false, "is the ARN of an enhanced fan-out consumer, which takes SubscribeToShard: want "},
		{stream, false, false, false, "is no ARN that AWS gives"}, {stream + "events/", false, false, false, ""}, {stream + strings.Repeat("n", 129), false, false, false, ""},
		{"arn:aws:kinesis:us-east-1:1:stream/events", false, false, false, "is no ARN that AWS gives"},
		{"arn:aws:kinesis::123456789012:stream/events", false, false, false, ""},
		{"arn:azure:kinesis:us-east-1:123456789012:stream/events", false, false, false, ""},
		{"arn:aws:firehose:us-east-1:123456789012:deliverystream/events", false, false, false, "is the ARN of the service firehose: want "},
		{"arn:aws:kinesisvideo:us-east-1:123456789012:stream/events/1", false, false, false, "is the ARN of the service kinesisvideo: want "},
		{"arn:aws:s3:::events", false, false, false, "is the ARN of the service s3: want "},
		{"arn:aws:kinesis", false, false, false, "is no ARN that AWS gives"}, {"arn:", false, false, false, ""},
		{table + "events", false, false, true, "is the ARN of a DynamoDB table: want "},
		{"arn:aws-cn:dynamodb:cn-north-1:123456789012:table/events", false, false, true, ""},
		{"arn:aws-us-gov:dynamodb:us-gov-west-1:123456789012:table/events", false, false, true, ""},
		{table + "ev", false, false, false, "is no ARN that AWS gives"},
		{table + "events/index/byType", false, false, false, "is the ARN of an index: want "},
		{table + "events" + label, false, true, false, "is the ARN of a DynamoDB stream: want "},
		{"arn:aws-cn:dynamodb:cn-north-1:123456789012:table/events" + label, false, true, false, ""},
		{"arn:aws-us-gov:dynamodb:us-gov-west-1:123456789012:table/events" + label, false, true, false, ""},
		{"arn:aws:dynamodb:ddblocal:000000000000:table/events" + label, false, true, false, ""},
		{table + "events/stream/", false, false, false, "is no ARN that AWS gives"}, {table + "events/stream", false, false, false, ""},
		{table + "events/backup/01489602797149-73d8d5bc", false, false, false, ""}, {table + "events/stream/\xff", false, false, false, ""},
	} {
		for what, is := range map[string]struct {
			err  error
			want bool
		}{"Kinesis": {KinesisStream(c.name), c.kinesis}, "DynamoDB Streams": {DynamoDBStream(c.name), c.dynamo}, "a table": {Table(c.name), c.tables},
			"Kinesis, by name": {KinesisName(c.name), c.kinesis && !strings.HasPrefix(c.name, "arn:")}} {
			require.Equal(t, is.want, is.err == nil, "%s: %q: %v", what, c.name, is.err)
			if is.err != nil {
				require.Contains(t, is.err.Error(), c.says, what)
				require.Less(t, len(is.err.Error()), 500)
			}
		}
	}
}
