package dynamo_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"
)

func TestCreateAndDescribeTable(t *testing.T) {
	w := newWorld(t)
	in := &dynamodb.CreateTableInput{
		TableName:             aws.String("rows"),
		AttributeDefinitions:  []types.AttributeDefinition{{AttributeName: aws.String("pk"), AttributeType: "S"}, {AttributeName: aws.String("sk"), AttributeType: "N"}},
		KeySchema:             []types.KeySchemaElement{{AttributeName: aws.String("pk"), KeyType: "HASH"}, {AttributeName: aws.String("sk"), KeyType: "RANGE"}},
		ProvisionedThroughput: &types.ProvisionedThroughput{ReadCapacityUnits: aws.Int64(3), WriteCapacityUnits: aws.Int64(4)},
		StreamSpecification:   &types.StreamSpecification{StreamEnabled: aws.Bool(true), StreamViewType: types.StreamViewTypeNewAndOldImages},
	}
	created, err := w.CreateTable(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, types.TableStatusCreating, created.TableDescription.TableStatus)
	require.NoError(t, dynamodb.NewTableExistsWaiter(w.Client).Wait(t.Context(), &dynamodb.DescribeTableInput{TableName: aws.String("rows")}, time.Minute))

	w.put("rows", item{"pk": s("a"), "sk": n("1")})
	out, err := w.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: aws.String("rows")})
	require.NoError(t, err)
	d := out.Table
	require.Equal(t, types.TableStatusActive, d.TableStatus)
	require.Equal(t, "arn:aws:dynamodb:us-east-1:000000000000:table/rows", *d.TableArn)
	require.Len(t, *d.TableId, 36)
	require.WithinDuration(t, w.clock(), *d.CreationDateTime, 0)
	require.Equal(t, in.AttributeDefinitions, d.AttributeDefinitions)
	require.Equal(t, in.KeySchema, d.KeySchema)
	require.Equal(t, int64(1), *d.ItemCount)
	require.Equal(t, int64(2+1+2+2), *d.TableSizeBytes)
	require.Equal(t, int64(4), *d.ProvisionedThroughput.WriteCapacityUnits)
	require.Nil(t, d.BillingModeSummary)
	require.Equal(t, *d.TableArn+"/stream/"+*d.LatestStreamLabel, *d.LatestStreamArn)

	byARN, err := w.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: d.TableArn})
	require.NoError(t, err)
	require.Equal(t, "rows", *byARN.Table.TableName)
	_, err = w.CreateTable(t.Context(), in)
	var inUse *types.ResourceInUseException
	require.ErrorAs(t, err, &inUse)
	_, err = w.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: aws.String("nowhere")})
	requireError(t, err, "ResourceNotFoundException", "Requested resource not found: Table: nowhere not found")
	change := w.taken()[0]
	require.Equal(t, "NEW_AND_OLD_IMAGES", change.StreamView)
	require.Equal(t, *d.LatestStreamArn, change.StreamARN)
}

func TestCreateTableRefusals(t *testing.T) {
	w := newWorld(t)
	const defs = `"AttributeDefinitions":[{"AttributeName":"a","AttributeType":"S"},{"AttributeName":"b","AttributeType":"N"}]`
	const keys = `"KeySchema":[{"AttributeName":"a","KeyType":"HASH"},{"AttributeName":"b","KeyType":"RANGE"}]`
	const start = `{"TableName":"rows","BillingMode":"PAY_PER_REQUEST",`
	const one = "1 validation error detected: "
	const bad = "One or more parameter values were invalid: "
	index := func(name, rng, projection string) string {
		return `{"IndexName":"` + name + `","KeySchema":[{"AttributeName":"a","KeyType":"HASH"}` + rng + `],"Projection":` + projection + `}`
	}
	const byB = `,{"AttributeName":"b","KeyType":"RANGE"}`
	for body, message := range map[string]string{
		`{}`:               "The parameter 'TableName' is required but was not present in the request",
		`{"TableName":""}`: "4 validation errors detected: Value '' at 'tableName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+; Value '' at 'tableName' failed to satisfy constraint: Member must have length greater than or equal to 3; Value null at 'attributeDefinitions' failed to satisfy constraint: Member must not be null; Value null at 'keySchema' failed to satisfy constraint: Member must not be null",
		`{"TableName":"ab",` + defs + `,` + keys + `}`:                                                                       one + "Value 'ab' at 'tableName' failed to satisfy constraint: Member must have length greater than or equal to 3",
		`{"TableName":"a;b",` + defs + `,` + keys + `}`:                                                                      one + "Value 'a;b' at 'tableName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+",
		`{"TableName":"abc","BillingMode":"free",` + defs + `,` + keys + `}`:                                                 one + "Value 'free' at 'billingMode' failed to satisfy constraint: Member must satisfy enum value set: [PROVISIONED, PAY_PER_REQUEST]",
		`{"TableName":"abc",` + defs + `,` + keys + `}`:                                                                      bad + "ReadCapacityUnits and WriteCapacityUnits must both be specified when BillingMode is PROVISIONED",
		start + keys + `,"AttributeDefinitions":[]}`:                                                                         "Invalid KeySchema: Some index key attribute have no definition",
		start + defs + `,"KeySchema":[{"AttributeName":"c","KeyType":"HASH"}]}`:                                              bad + "Some index key attributes are not defined in AttributeDefinitions. Keys: [c], AttributeDefinitions: [a, b]",
		start + defs + `,"KeySchema":[{"AttributeName":"a","KeyType":"RANGE"}]}`:                                             "Invalid KeySchema: The first KeySchemaElement is not a HASH key type",
		start + defs + `,"KeySchema":[{"AttributeName":"a","KeyType":"HASH"}]}`:                                              bad + "Number of attributes in KeySchema does not exactly match number of attributes defined in AttributeDefinitions",
		start + defs + `,` + keys + `,"GlobalSecondaryIndexes":[]}`:                                                          bad + "List of GlobalSecondaryIndexes is empty",
		start + defs + `,` + keys + `,"LocalSecondaryIndexes":[]}`:                                                           bad + "List of LocalSecondaryIndexes is empty",
		start + defs + `,` + keys + `,"LocalSecondaryIndexes":[` + index("abc", "", `{"ProjectionType":"ALL"}`) + `]}`:       bad + "Index KeySchema does not have a range key for index: abc",
		start + defs + `,` + keys + `,"GlobalSecondaryIndexes":[` + index("abc", byB, `{}`) + `]}`:                           bad + "Unknown ProjectionType: null",
		start + defs + `,` + keys + `,"GlobalSecondaryIndexes":[` + index("abc", byB, `{"ProjectionType":"INCLUDE"}`) + `]}`: bad + "ProjectionType is INCLUDE, but NonKeyAttributes is not specified",
		start + defs + `,` + keys + `,"GlobalSecondaryIndexes":[` + index("abc", byB, `{"ProjectionType":"ALL"}`) + `,` + index("abc", byB, `{"ProjectionType":"ALL"}`) + `]}`: bad + "Duplicate index name: abc",
		start + defs + `,"KeySchema":[{"AttributeName":"b","KeyType":"HASH"}],"LocalSecondaryIndexes":[` + index("abc", byB, `{"ProjectionType":"ALL"}`) + `]}`:                bad + "Table KeySchema does not have a range key, which is required when specifying a LocalSecondaryIndex",
		start + defs + `,` + keys + `,"ProvisionedThroughput":{"ReadCapacityUnits":1,"WriteCapacityUnits":1}}`:                                                                 bad + "Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode is PAY_PER_REQUEST",
		start + defs + `,` + keys + `,"StreamSpecification":{"StreamEnabled":false,"StreamViewType":"KEYS_ONLY"}}`:                                                             bad + "Table is being created with a stream disabled, UpdateViewType should not be specified",
	} {
		t.Run(body, func(t *testing.T) {
			status, doc := w.raw("CreateTable", body)
			require.Equal(t, http.StatusBadRequest, status)
			require.Equal(t, "com.amazon.coral.validate#ValidationException", doc["__type"])
			require.Equal(t, message, doc["message"])
		})
	}
}

func TestMalformedRequests(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct{ operation, body, kind, message string }{
		{"PutItem", ``, "SerializationException", ""},
		{"PutItem", `{`, "SerializationException", ""},
		{"PutItem", `[]`, "SerializationException", ""},
		{"PutItem", `{} {}`, "SerializationException", ""},
		{"PutItem", `{"TableName":1}`, "SerializationException", "NUMBER_VALUE cannot be converted to String"},
		{"PutItem", `{"TableName":1.5}`, "SerializationException", "DECIMAL_VALUE cannot be converted to String"},
		{"PutItem", `{"TableName":[]}`, "SerializationException", "Unrecognized collection type class java.lang.String"},
		{"PutItem", `{"Item":"x"}`, "SerializationException", "Unexpected field type"},
		{"PutItem", `{"Item":[]}`, "SerializationException", "Unrecognized collection type java.util.Map<java.lang.String, com.amazonaws.dynamodb.v20120810.AttributeValue>"},
		{"PutItem", `{"Item":{"a":"x"}}`, "SerializationException", "Unexpected value type in payload"},
		{"PutItem", `{"Item":{"a":{"S":1}}}`, "SerializationException", "NUMBER_VALUE cannot be converted to String"},
		{"PutItem", `{"Item":{"a":{"N":1}}}`, "SerializationException", "NUMBER_VALUE cannot be converted to String"},
		{"PutItem", `{"Item":{"a":{"B":"abc"}}}`, "SerializationException", "Base64 encoded length is expected a multiple of 4 bytes but found: 3"},
		{"PutItem", `{"Item":{"a":{"L":{}}}}`, "SerializationException", "Start of structure or map found where not expected"},
		{"Query", `{"Limit":"1"}`, "SerializationException", "STRING_VALUE cannot be converted to Integer"},
		{"ExecuteStatement", `{}`, "UnknownOperationException", ""},
		{"Nonsense", `{}`, "UnknownOperationException", ""},
	} {
		t.Run(c.operation+c.body, func(t *testing.T) {
			status, doc := w.raw(c.operation, c.body)
			require.Equal(t, http.StatusBadRequest, status)
			require.Equal(t, "com.amazon.coral.service#"+c.kind, doc["__type"])
			if c.message != "" {
				require.Equal(t, c.message, doc["Message"])
			}
		})
	}
	_, doc := w.raw("PutItem", `{"TableName":"abc","Item":{"a":{"S":"a","N":"1"}}}`)
	require.Equal(t, "Supplied AttributeValue has more than one datatypes set, must contain exactly one of the supported datatypes", doc["message"])
	_, doc = w.raw("PutItem", `{"TableName":"abc","Item":{"a":{}}}`)
	require.Equal(t, "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes", doc["message"])
	_, doc = w.raw("PutItem", `{"TableName":"abc","Item":{"a":{"NULL":false}}}`)
	require.Equal(t, "1 validation error detected: One or more parameter values were invalid: Null attribute value types must have the value of true", doc["message"])
	_, doc = w.raw("PutItem", `{"TableName":"a;","ReturnConsumedCapacity":"x"}`)
	require.Equal(t, "3 validation errors detected: Value 'a;' at 'tableName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+; "+
		"Value null at 'item' failed to satisfy constraint: Member must not be null; "+
		"Value 'x' at 'returnConsumedCapacity' failed to satisfy constraint: Member must satisfy enum value set: [INDEXES, TOTAL, NONE]", doc["message"])
}
