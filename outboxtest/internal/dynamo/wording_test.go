package dynamo_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	overflow  = "Number overflow. Attempting to store a number with magnitude larger than supported range"
	underflow = "Number underflow. Attempting to store a number with magnitude smaller than supported range"
	notNumber = "The parameter cannot be converted to a numeric value"
)

// valueRequests are requests that carry a value, by what they are, with %s in place of the value. The
// newer ones are worded in AWS's newer way, inside an envelope for single writes.
func valueRequests() (newer, bare, older, wrapped map[string][2]string) {
	newer = map[string][2]string{
		"an item":            {"PutItem", `{"TableName":"rows","Item":{"pk":{"S":"a"},"v":%s}}`},
		"a nested value":     {"PutItem", `{"TableName":"rows","Item":{"pk":{"S":"a"},"v":{"M":{"x":{"L":[%s]}}}}}`},
		"a put's condition":  {"PutItem", `{"TableName":"rows","Item":{"pk":{"S":"a"}},"ConditionExpression":"v = :v","ExpressionAttributeValues":{":v":%s}}`},
		"a put's Expected":   {"PutItem", `{"TableName":"rows","Item":{"pk":{"S":"a"}},"Expected":{"v":{"Value":%s}}}`},
		"an update":          {"UpdateItem", `{"TableName":"rows","Key":{"pk":{"S":"a"}},"UpdateExpression":"SET v = :v","ExpressionAttributeValues":{":v":%s}}`},
		"AttributeUpdates":   {"UpdateItem", `{"TableName":"rows","Key":{"pk":{"S":"a"}},"AttributeUpdates":{"v":{"Action":"PUT","Value":%s}}}`},
		"an update's key":    {"UpdateItem", `{"TableName":"rows","Key":{"pk":%s},"UpdateExpression":"REMOVE v"}`},
		"a delete's key":     {"DeleteItem", `{"TableName":"rows","Key":{"pk":%s}}`},
		"a delete condition": {"DeleteItem", `{"TableName":"rows","Key":{"pk":{"S":"a"}},"ConditionExpression":"v = :v","ExpressionAttributeValues":{":v":%s}}`},
	}
	bare = map[string][2]string{
		"a get's key":      {"GetItem", `{"TableName":"rows","Key":{"pk":%s}}`},
		"a batch of reads": {"BatchGetItem", `{"RequestItems":{"rows":{"Keys":[{"pk":%s}]}}}`},
		"a query's key":    {"Query", `{"TableName":"rows","KeyConditionExpression":"pk = :v","ExpressionAttributeValues":{":v":%s}}`},
		"a query's start":  {"Query", `{"TableName":"rows","KeyConditionExpression":"pk = :p","ExpressionAttributeValues":{":p":{"S":"a"}},"ExclusiveStartKey":{"pk":%s}}`},
		"an old style query": {"Query", `{"TableName":"rows","KeyConditions":{"pk":{"ComparisonOperator":"EQ","AttributeValueList":[{"S":"a"}]}},` +
			`"QueryFilter":{"v":{"ComparisonOperator":"EQ","AttributeValueList":[%s]}}}`},
	}
	older = map[string][2]string{
		"a batch of puts":    {"BatchWriteItem", `{"RequestItems":{"rows":[{"PutRequest":{"Item":{"pk":{"S":"a"},"v":%s}}}]}}`},
		"a batch of deletes": {"BatchWriteItem", `{"RequestItems":{"rows":[{"DeleteRequest":{"Key":{"pk":%s}}}]}}`},
		"a transacted put":   {"TransactWriteItems", `{"TransactItems":[{"Put":{"TableName":"rows","Item":{"pk":{"S":"a"},"v":%s}}}]}`},
		"a transacted key":   {"TransactWriteItems", `{"TransactItems":[{"Delete":{"TableName":"rows","Key":{"pk":%s}}}]}`},
		"a transacted get":   {"TransactGetItems", `{"TransactItems":[{"Get":{"TableName":"rows","Key":{"pk":%s}}}]}`},
	}
	wrapped = map[string][2]string{
		"a scan":             {"Scan", `{"TableName":"rows","FilterExpression":"v = :v","ExpressionAttributeValues":{":v":%s}}`},
		"a transacted value": {"TransactWriteItems", `{"TransactItems":[{"Update":{"TableName":"rows","Key":{"pk":{"S":"a"}},"UpdateExpression":"SET v = :v","ExpressionAttributeValues":{":v":%s}}}]}`},
	}
	return newer, bare, older, wrapped
}

func TestFaultyValuesAreWordedByOperation(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	newer, bare, older, wrapped := valueRequests()
	for _, c := range []struct{ value, newer, older string }{
		{`{"N":"abc"}`, notNumber + ": abc", notNumber + ": abc"},
		{`{"N":""}`, notNumber + ": ", notNumber},
		{`{"N":"1e126"}`, overflow, overflow},
		{`{"NS":["1","x"]}`, notNumber + ": x", notNumber + ": x"},
		// The newer text shows the members in order up to the first that comes twice.
		{`{"SS":["b","a","b"]}`, invalid + `Input collection ["a", "b", "b"] contains duplicates.`, invalid + "Input collection [b, a, b] contains duplicates."},
		{`{"BS":["/w==","AA==","AA=="]}`, invalid + `Input collection ["AA==","/w==","AA=="]of type BS contains duplicates.`,
			invalid + "Input collection [/w==, AA==, AA==]of type BS contains duplicates."},
		{`{"NS":["2","1","2"]}`, invalid + "Input collection contains duplicates.", "Input collection contains duplicates"},
	} {
		t.Run(c.value, func(t *testing.T) {
			for name, r := range newer {
				require.Equal(t, enveloped+c.newer, w.refused(r[0], fmt.Sprintf(r[1], c.value)), name)
			}
			for name, r := range bare {
				require.Equal(t, c.newer, w.refused(r[0], fmt.Sprintf(r[1], c.value)), name)
			}
			for name, r := range older {
				require.Equal(t, c.older, w.refused(r[0], fmt.Sprintf(r[1], c.value)), name)
			}
			for name, r := range wrapped {
				require.Equal(t, "ExpressionAttributeValues contains invalid value: "+c.older+" for key :v", w.refused(r[0], fmt.Sprintf(r[1], c.value)), name)
			}
		})
	}
	require.Nil(t, w.get("rows", item{"pk": s("a")}))
}

func TestNumbersOutOfRange(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	for number, message := range map[string]string{
		"1e99999999999":            overflow,
		"-1e99999999999":           overflow,
		"1e2147483648":             overflow,
		"0e126":                    overflow,
		"1e-99999999999":           underflow,
		"1e-131":                   underflow,
		"0e-131":                   underflow,
		"1e9223372036854775808":    notNumber + ": 1e9223372036854775808",
		"1e":                       notNumber + ": 1e",
		" 1":                       notNumber + ":  1",
		"0x10":                     notNumber + ": 0x10",
		"NaN":                      notNumber + ": NaN",
		strings.Repeat("1234", 10): "Attempting to store more than 38 significant digits in a Number",
	} {
		require.Equal(t, enveloped+message, w.refused("PutItem", `{"TableName":"rows","Item":{"pk":{"S":"a"},"v":{"N":"`+number+`"}}}`), number)
	}
	for number, stored := range map[string]string{"0e125": "0", "1e-130": "0." + strings.Repeat("0", 129) + "1", "0042.1200": "42.12", "0.1e126": "1" + strings.Repeat("0", 125)} {
		w.put("rows", item{"pk": s("a"), "v": n(number)})
		require.Equal(t, n(stored), w.get("rows", item{"pk": s("a")})["v"])
	}
}

func TestSingleWritesReportTheirFaultsInAnEnvelope(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	const key = `{"pk":{"S":"a"}}`
	begin := map[string]string{
		"PutItem":    `{"TableName":"rows","Item":` + key + `,`,
		"DeleteItem": `{"TableName":"rows","Key":` + key + `,`,
		"UpdateItem": `{"TableName":"rows","Key":` + key + `,`,
	}
	for _, c := range []struct{ rest, message string }{
		{`"ExpressionAttributeValues":{":v":{"S":"x"}}}`, "ExpressionAttributeValues can only be specified when using expressions"},
		{`"ExpressionAttributeNames":{"#a":"a"}}`, "ExpressionAttributeNames can only be specified when using expressions"},
		{`"Expected":{"a":{"Exists":false}},"ExpressionAttributeNames":{"#a":"a"}}`, "ExpressionAttributeNames can only be specified when using expressions"},
		{`"ConditionExpression":"attribute_exists(a)","ExpressionAttributeValues":{}}`, "ExpressionAttributeValues must not be empty"},
		{`"ConditionExpression":"attribute_exists(a)","ExpressionAttributeNames":{}}`, "ExpressionAttributeNames must not be empty"},
		{`"ConditionExpression":""}`, "Invalid ConditionExpression: The expression can not be empty;"},
		{`"ConditionExpression":"a = :v"}`, "Invalid ConditionExpression: An expression attribute value used in expression is not defined; attribute value: :v"},
		{`"ConditionExpression":"a = = b"}`, `Invalid ConditionExpression: Syntax error; token: "=", near: "= = b"`},
		{`"ConditionExpression":"attribute_exists(a)","Expected":{"a":{"Exists":false}}}`,
			"Can not use both expression and non-expression parameters in the same request: Non-expression parameters: {Expected} Expression parameters: {ConditionExpression}"},
		{`"Expected":{"a":{"Exists":true}}}`, invalid + "Value must be provided when Exists is true for Attribute: a"},
		{`"Expected":{"a":{"Exists":false,"Value":{"S":"x"}}}}`, invalid + "Value cannot be used when Exists is false for Attribute: a"},
		{`"Expected":{"a":{"Value":{"S":"x"},"ComparisonOperator":"EQ","AttributeValueList":[{"S":"x"}]}}}`,
			invalid + "Value and AttributeValueList cannot be used together for Attribute: a"},
		{`"Expected":{"a":{"ComparisonOperator":"EQ"}}}`, invalid + "Value or AttributeValueList must be used with ComparisonOperator: EQ for Attribute: a"},
		{`"Expected":{"a":{"ComparisonOperator":"BETWEEN","AttributeValueList":[{"S":"x"}]}}}`,
			invalid + "Invalid number of argument(s) for the BETWEEN ComparisonOperator"},
		{`"ReturnValues":"BOGUS"}`, "Failed to satisfy constraint: Member must satisfy enum value set: [ALL_OLD, UPDATED_OLD, ALL_NEW, UPDATE_NEW, NONE]"},
	} {
		for operation, start := range begin {
			require.Equal(t, enveloped+c.message, w.refused(operation, start+c.rest), "%s %s", operation, c.rest)
		}
	}
	for _, operation := range []string{"PutItem", "DeleteItem"} {
		require.Equal(t, enveloped+"ReturnValues can only be ALL_OLD or NONE", w.refused(operation, begin[operation]+`"ReturnValues":"ALL_NEW"}`))
	}
	// What only the table can tell has no envelope, and neither has a transaction.
	require.Equal(t, invalid+"Cannot update attribute pk. This attribute is part of the key",
		w.refused("UpdateItem", begin["UpdateItem"]+`"UpdateExpression":"SET pk = :v","ExpressionAttributeValues":{":v":{"S":"x"}}}`))
	require.Equal(t, `Invalid ConditionExpression: Syntax error; token: "=", near: "= = b"`,
		w.refused("TransactWriteItems", `{"TransactItems":[{"Put":{"TableName":"rows","Item":{"pk":{"S":"a"}},"ConditionExpression":"a = = b"}}]}`))
}

func TestMissingMembersOfAnUpdateAreListed(t *testing.T) {
	w := newWorld(t)
	const emptyName = "Value '' at 'tableName' failed to satisfy constraint: Member must have length greater than or equal to 1"
	const noKey = "Value null at 'key' failed to satisfy constraint: Member must not be null"
	require.Equal(t, "2 validation errors detected: "+emptyName+"; "+noKey, w.refused("UpdateItem", `{"TableName":""}`))
	require.Equal(t, "4 validation errors detected: Value 'X' at 'returnConsumedCapacity' failed to satisfy constraint: Member must satisfy enum value set: [INDEXES, TOTAL, NONE]; "+
		emptyName+"; Value 'X' at 'returnValues' failed to satisfy constraint: Member must satisfy enum value set: [ALL_NEW, UPDATED_OLD, ALL_OLD, NONE, UPDATED_NEW]; "+noKey,
		w.refused("UpdateItem", `{"TableName":"","ReturnConsumedCapacity":"X","ReturnValues":"X"}`))
	// With everything there that must be, the first fault is told alone.
	for operation, member := range map[string]string{"PutItem": "Item", "UpdateItem": "Key", "DeleteItem": "Key"} {
		require.Equal(t, enveloped+"Value at 'TableName' failed to satisfy constraint: Member must have length greater than or equal to 1",
			w.refused(operation, `{"TableName":"","ReturnValues":"X","`+member+`":{"pk":{"S":"a"}}}`))
	}
}

func TestConstraintsOfBatches(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	const capacity = "Value 'X' at 'returnConsumedCapacity' failed to satisfy constraint: Member must satisfy enum value set: [INDEXES, TOTAL, NONE]"
	const names = `Value '{"bad!name":{"Keys":[{"pk":{"S":"a"}}]}}' at 'requestItems' failed to satisfy constraint: Map keys must satisfy constraint: ` +
		"[Member must have length less than or equal to 255, Member must have length greater than or equal to 3, Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+]"
	keys, err := json.Marshal(make([]map[string]any, 101))
	require.NoError(t, err)
	writes := strings.Repeat(`{"PutRequest":{"Item":{"pk":{"S":"a"}}}},`, 25) + `{"DeleteRequest":{"Key":{"pk":{"S":"a"}}}}`
	for _, c := range []struct{ operation, body, message string }{
		{"BatchGetItem", `{"RequestItems":{}}`, enveloped + "Value at 'RequestItems' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{"BatchGetItem", `{"RequestItems":{"rows":{"Keys":[]}}}`,
			enveloped + "Value at 'RequestItems.rows.member.Keys' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{"BatchGetItem", `{"RequestItems":{"rows":{"Keys":` + strings.ReplaceAll(string(keys), "null", `{"pk":{"S":"a"}}`) + `}}}`,
			enveloped + "Value at 'RequestItems.rows.member.Keys' failed to satisfy constraint: Member must have length less than or equal to 100"},
		{"BatchGetItem", `{"RequestItems":{"bad!name":{"Keys":[{"pk":{"S":"a"}}]}}}`, enveloped + names},
		{"BatchGetItem", `{"RequestItems":{"bad!name":{"Keys":[{"pk":{"S":"a"}}]}},"ReturnConsumedCapacity":"X"}`, "2 validation errors detected: " + names + "; " + capacity},
		{"BatchWriteItem", `{"RequestItems":{}}`, "The requestItems parameter is required for BatchWriteItem"},
		{"BatchWriteItem", `{"RequestItems":{"rows":[]}}`, enveloped + "Value '{rows=[]}' at 'requestItems' failed to satisfy constraint: " +
			"Map value must satisfy constraint: [Member must have length less than or equal to 25, Member must have length greater than or equal to 1]"},
		{"BatchWriteItem", `{"RequestItems":{"bad!name":[{"PutRequest":{"Item":{"pk":{"S":"a"}}}}]},"ReturnConsumedCapacity":"X"}`, enveloped + capacity},
	} {
		require.Equal(t, c.message, w.refused(c.operation, c.body), "%s %.80s", c.operation, c.body)
	}
	require.Regexp(t, `^1 validation error detected: Value '\{rows=\[.+\]\}' at 'requestItems' failed to satisfy constraint: Map value must satisfy constraint: `+
		`\[Member must have length less than or equal to 25, Member must have length greater than or equal to 1\]$`,
		w.refused("BatchWriteItem", `{"RequestItems":{"rows":[`+writes+`]}}`))
}
