package outboxtest_test

import (
	"encoding/json"
	"regexp"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	ddbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// TestRecordsAsTheyLieInTheStream looks at what really is in two Kinesis streams after writes of
// every kind, byte by byte apart from the ids.
func TestRecordsAsTheyLieInTheStream(t *testing.T) {
	at := time.UnixMicro(1719347890250647)
	a := outboxtest.Start(t, outboxtest.WithClock(func() time.Time { return at }), outboxtest.WithRegion("eu-west-1"))
	table := aws.String("events")
	_, err := a.DynamoDB.CreateTable(t.Context(), &dynamodb.CreateTableInput{TableName: table, BillingMode: "PAY_PER_REQUEST",
		AttributeDefinitions: []ddbtypes.AttributeDefinition{{AttributeName: aws.String("agg"), AttributeType: "S"}, {AttributeName: aws.String("seq"), AttributeType: "N"}},
		KeySchema:            []ddbtypes.KeySchemaElement{{AttributeName: aws.String("agg"), KeyType: "HASH"}, {AttributeName: aws.String("seq"), KeyType: "RANGE"}}})
	require.NoError(t, err)
	for name, config := range map[string]*ddbtypes.EnableKinesisStreamingConfiguration{
		"milli": nil, "micro": {ApproximateCreationDateTimePrecision: "MICROSECOND"},
	} {
		stream(t, a, name, 1)
		_, err := a.DynamoDB.EnableKinesisStreamingDestination(t.Context(), &dynamodb.EnableKinesisStreamingDestinationInput{TableName: table,
			StreamArn: aws.String("arn:aws:kinesis:eu-west-1:000000000000:stream/" + name), EnableKinesisStreamingConfiguration: config})
		require.NoError(t, err)
	}
	type item = map[string]ddbtypes.AttributeValue
	number := func(n string) ddbtypes.AttributeValue { return &ddbtypes.AttributeValueMemberN{Value: n} }
	key := func(n string) item { return item{"agg": text("A"), "seq": number(n)} }
	put := func(it item) {
		_, err := a.DynamoDB.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: table, Item: it})
		require.NoError(t, err)
	}
	first := key("01.0")
	first["v"] = &ddbtypes.AttributeValueMemberM{Value: item{
		"b": &ddbtypes.AttributeValueMemberB{Value: []byte("1321")}, "l": &ddbtypes.AttributeValueMemberL{Value: []ddbtypes.AttributeValue{text("x")}},
		"n": number("12345678901234567890123456789012345678"), "s": &ddbtypes.AttributeValueMemberSS{Value: []string{"b", "a"}},
		"t": &ddbtypes.AttributeValueMemberBOOL{Value: true}, "z": &ddbtypes.AttributeValueMemberNULL{Value: true}}}
	put(first)
	put(first) // changes nothing
	second := key("2")
	second["v"] = text("old")
	put(second)
	second["v"] = text("new one")
	put(second)
	_, err = a.DynamoDB.TransactWriteItems(t.Context(), &dynamodb.TransactWriteItemsInput{TransactItems: []ddbtypes.TransactWriteItem{
		{Delete: &ddbtypes.Delete{TableName: table, Key: key("2")}},
		{ConditionCheck: &ddbtypes.ConditionCheck{TableName: table, Key: key("1"), ConditionExpression: aws.String("attribute_exists(agg)")}},
	}})
	require.NoError(t, err)
	require.NoError(t, a.Drain(deadline(t)))

	const keys1, keys2 = `"Keys":{"agg":{"S":"A"},"seq":{"N":"1"}},`, `"Keys":{"agg":{"S":"A"},"seq":{"N":"2"}},`
	const image1 = `{"agg":{"S":"A"},"seq":{"N":"1"},"v":{"M":{"b":{"B":"MTMyMQ=="},"l":{"L":[{"S":"x"}]},` +
		`"n":{"N":"12345678901234567890123456789012345678"},"s":{"SS":["a","b"]},"t":{"BOOL":true},"z":{"NULL":true}}}},`
	const old2, new2 = `{"agg":{"S":"A"},"seq":{"N":"2"},"v":{"S":"old"}},`, `{"agg":{"S":"A"},"seq":{"N":"2"},"v":{"S":"new one"}},`
	want := []struct{ event, rest string }{
		// Sizes: the keys and the images, with the names of the attributes.
		{"INSERT", keys1 + `"NewImage":` + image1 + `"SizeBytes":67`},
		{"INSERT", keys2 + `"NewImage":` + old2 + `"SizeBytes":22`},
		{"MODIFY", keys2 + `"NewImage":` + new2 + `"OldImage":` + old2 + `"SizeBytes":39`},
		{"REMOVE", keys2 + `"OldImage":` + old2[:len(old2)-len(`"old"}},`)] + `"new one"}},` + `"SizeBytes":26`},
	}
	id := regexp.MustCompile(`"eventID":"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",`)
	for name, c := range map[string]struct{ at, precision string }{
		"milli": {"1719347890250", ""},
		"micro": {"1719347890250647", `,"ApproximateCreationDateTimePrecision":"MICROSECOND"`},
	} {
		it, err := a.Kinesis.GetShardIterator(t.Context(), &kinesis.GetShardIteratorInput{StreamName: aws.String(name),
			ShardId: aws.String("shardId-000000000000"), ShardIteratorType: "TRIM_HORIZON"})
		require.NoError(t, err)
		out, err := a.Kinesis.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: it.ShardIterator})
		require.NoError(t, err)
		require.Len(t, out.Records, len(want))
		for i, r := range out.Records {
			require.True(t, json.Valid(r.Data))
			require.Regexp(t, id, string(r.Data))
			require.Equal(t, `{"awsRegion":"eu-west-1","eventName":"`+want[i].event+`","userIdentity":null,"recordFormat":"application/json","tableName":"events",`+
				`"dynamodb":{"ApproximateCreationDateTime":`+c.at+`,`+want[i].rest+c.precision+`},"eventSource":"aws:dynamodb"}`,
				id.ReplaceAllString(string(r.Data), ""))
			require.Regexp(t, `^[0-9A-F]{32}$`, *r.PartitionKey)
		}
		require.Equal(t, *out.Records[1].PartitionKey, *out.Records[3].PartitionKey, "one item, one key")
		require.NotEqual(t, *out.Records[0].PartitionKey, *out.Records[1].PartitionKey, "two items of one partition, two keys")
	}
}
