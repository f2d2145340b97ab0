package dynamo_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"
)

func TestAnUpdateThatOnlyRemovesCreatesNothing(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	key := item{"pk": s("a")}
	update := func(in dynamodb.UpdateItemInput) item {
		in.TableName, in.Key, in.ReturnValues = aws.String("rows"), key, types.ReturnValueAllNew
		out, err := w.UpdateItem(t.Context(), &in)
		require.NoError(t, err)
		return out.Attributes
	}
	for _, expression := range []string{"REMOVE v", "REMOVE v.x", "REMOVE v[0]", "DELETE v :set", "REMOVE x DELETE v :set"} {
		in := dynamodb.UpdateItemInput{UpdateExpression: &expression}
		if strings.Contains(expression, ":set") {
			in.ExpressionAttributeValues = item{":set": ss("a")}
		}
		require.Empty(t, update(in), expression)
		require.Nil(t, w.get("rows", key), expression)
	}
	for _, value := range []av{nil, ss("a")} {
		require.Empty(t, update(dynamodb.UpdateItemInput{AttributeUpdates: map[string]types.AttributeValueUpdate{"v": {Action: "DELETE", Value: value}}}))
	}
	require.NoError(t, w.transact("", types.TransactWriteItem{Update: &types.Update{TableName: aws.String("rows"), Key: key, UpdateExpression: aws.String("REMOVE v")}}))
	require.Nil(t, w.get("rows", key))
	require.Empty(t, w.taken())

	// An update that changes nothing at all does create the item, and so does one that sets something.
	require.Equal(t, key, update(dynamodb.UpdateItemInput{}))
	require.Len(t, w.taken(), 1)
	key = item{"pk": s("b")}
	require.Equal(t, item{"pk": s("b"), "w": n("1")}, update(dynamodb.UpdateItemInput{
		UpdateExpression: aws.String("REMOVE v SET w = :w"), ExpressionAttributeValues: item{":w": n("1")}}))
}

func TestSetsComeBackInOrder(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	w.put("rows", item{
		"pk": s("a"), "ss": ss("b", "", "B", "a"),
		"ns": &types.AttributeValueMemberNS{Value: []string{"10", "9", "-1", "0.5"}},
		"bs": &types.AttributeValueMemberBS{Value: [][]byte{{0xff}, {0}, {}}},
	})
	stored := item{
		"pk": s("a"), "ss": ss("", "B", "a", "b"),
		"ns": &types.AttributeValueMemberNS{Value: []string{"-1", "0.5", "9", "10"}},
		"bs": &types.AttributeValueMemberBS{Value: [][]byte{{}, {0}, {0xff}}},
	}
	require.Equal(t, stored, w.get("rows", item{"pk": s("a")}))
	_, err := w.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
		TableName: aws.String("rows"), Key: item{"pk": s("a")}, UpdateExpression: aws.String("ADD ss :s, ns :n"),
		ExpressionAttributeValues: item{":s": ss("A"), ":n": &types.AttributeValueMemberNS{Value: []string{"2"}}},
	})
	require.NoError(t, err)
	stored["ss"], stored["ns"] = ss("", "A", "B", "a", "b"), &types.AttributeValueMemberNS{Value: []string{"-1", "0.5", "2", "9", "10"}}
	require.Equal(t, stored, w.get("rows", item{"pk": s("a")}))
}

func TestPathsOf33StepsAreRefused(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	for _, steps := range []int{32, 33} {
		path := "a" + strings.Repeat(".b", steps-1)
		_, err := w.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: aws.String("rows"), Key: item{"pk": s("a")}, ProjectionExpression: &path})
		if steps == 32 {
			require.NoError(t, err)
			continue
		}
		requireInvalid(t, err, "Invalid ProjectionExpression: The document path has too many nesting levels; nesting levels: 33")
		_, err = w.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("rows"), Item: item{"pk": s("a")},
			ConditionExpression: aws.String("attribute_not_exists(" + path + ")")})
		requireInvalid(t, err, enveloped+"Invalid ConditionExpression: The document path has too many nesting levels; nesting levels: 33")
	}
}

func TestAMissingAttributeContainsAndLacksNothing(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	w.put("rows", item{"pk": s("a"), "v": s("hello")})
	expect := func(attribute string) error {
		_, err := w.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("rows"), Item: item{"pk": s("a"), "v": s("hello")},
			Expected: map[string]types.ExpectedAttributeValue{attribute: {ComparisonOperator: types.ComparisonOperatorNotContains, AttributeValueList: []av{s("x")}}}})
		return err
	}
	require.NoError(t, expect("v"))
	requireError(t, expect("nothing"), "ConditionalCheckFailedException", "The conditional request failed")
}

// Each update sets an attribute p to as many bytes as what the rest of it costs leaves.
func TestUpdateItemIsMeasuredByWhatItWrites(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	key := item{"pk": s("k")}
	old := item{"pk": s("k"), "n": n("7"), "m": m(item{"z": s("zz")}), "l": l(s("x"), s("y"))}
	for _, c := range []struct {
		expression string
		values     item
		cost       int
	}{
		{"SET p = :p", nil, 3 + 19 + 1},
		{"SET p = :p, q = :q", item{":q": s("12345")}, 3 + 19 + 1 + 19 + 1 + 5},
		{"SET p = :p REMOVE r", nil, 3 + 19 + 1 + 1 + 1},
		{"SET p = :p REMOVE m.longer", nil, 3 + 19 + 1 + 1 + 1 + 4 + 6},
		{"SET p = :p, q = m.z", nil, 3 + 19 + 1 + 19 + 1 + 1 + 14 + 1 + 14 + 1},
		{"SET p = :p, n = n + :one", item{":one": n("1")}, 3 + 19 + 1 + 19 + 1 + 34 + (1 + 14 + 1) + 2},
		{"SET p = :p, n = n - :one", item{":one": n("1")}, 3 + 19 + 1 + 19 + 1 + 37 + (1 + 14 + 1) + 2},
		{"SET p = :p, q = if_not_exists(q, :q)", item{":q": s("abc")}, 3 + 19 + 1 + 19 + 1 + 39 + (1 + 14 + 1) + 3},
		{"SET p = :p, l = list_append(l, :l)", item{":l": l(s("abc"))}, 3 + 19 + 1 + 19 + 1 + 37 + (1 + 14 + 1) + (3 + 1 + 3)},
		{"SET p = :p, l[10] = :q", item{":q": s("abc")}, 3 + 19 + 1 + 19 + (1 + 4 + 2) + 3},
		{"SET p = :p ADD n :one", item{":one": n("1")}, 3 + 19 + 1 + 19 + 1 + 2},
		{"SET p = :p DELETE s :s", item{":s": ss("a", "b")}, 3 + 19 + 1 + 1 + 1},
	} {
		for over := range 2 {
			w.put("rows", old)
			values := item{":p": s(strings.Repeat("x", 400<<10-c.cost+over))}
			for name, v := range c.values {
				values[name] = v
			}
			_, err := w.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{TableName: aws.String("rows"), Key: key,
				UpdateExpression: &c.expression, ExpressionAttributeValues: values})
			if over == 1 {
				requireInvalid(t, err, "Item size to update has exceeded the maximum allowed size")
				continue
			}
			require.NoError(t, err, c.expression)
		}
	}
}

func TestKeyConditionRefusals(t *testing.T) {
	w := newWorld(t)
	w.create("texts", "pk:S", "sk:S")
	w.create("numbers", "pk:S", "sk:N")
	w.create("single", "pk:S")
	const schema = "One or more parameter values were invalid: Condition parameter type does not match schema type"
	operand := func(op, kind string) string {
		return "Invalid KeyConditionExpression: Incorrect operand type for operator or function; operator or function: " + op + ", operand type: " + kind
	}
	const undefined = "Invalid KeyConditionExpression: An expression attribute value used in expression is not defined; attribute value: :missing"
	truth := &types.AttributeValueMemberBOOL{Value: true}
	for _, c := range []struct {
		table, condition string
		values           item
		message          string
	}{
		{"texts", "pk = :p AND begins_with(sk, :v)", item{":v": n("1")}, operand("begins_with", "N")},
		{"texts", "pk = :p AND begins_with(sk, :v)", item{":v": truth}, operand("begins_with", "BOOL")},
		{"numbers", "pk = :p AND begins_with(sk, :v)", item{":v": n("1")}, operand("begins_with", "N")},
		{"numbers", "pk = :p AND begins_with(sk, :v)", item{":v": s("1")}, schema},
		{"numbers", "pk = :p AND sk < :v", item{":v": truth}, operand("<", "BOOL")},
		{"numbers", "pk = :p AND :v >= sk", item{":v": truth}, operand(">=", "BOOL")},
		{"numbers", "pk = :p AND sk BETWEEN :v AND :w", item{":v": truth, ":w": truth}, operand("BETWEEN", "BOOL")},
		{"numbers", "pk = :p AND sk = :v", item{":v": truth}, schema},
		{"numbers", "pk = :p AND sk > :v AND sk < :w", item{":v": n("1"), ":w": n("2")},
			"Invalid KeyConditionExpression: KeyConditionExpressions must only contain one condition per key"},
		{"numbers", "pk = :p AND sk > :v AND extra = :w", item{":v": n("1"), ":w": n("2")},
			"The number of query conditions (3) exceeds the number of key attributes defined in the schema (2)"},
		{"single", "pk = :p AND sk = :v", item{":v": n("1")}, "Query key condition not supported"},
		{"single", "pk = :p AND a = :v AND b = :v", item{":v": n("1")},
			"The number of query conditions (3) exceeds the number of key attributes defined in the schema (1)"},
		// The first problem in the order of writing wins, ahead of the table.
		{"texts", "pk = :missing AND begins_with(sk, :v)", item{":v": n("1")}, undefined},
		{"texts", "begins_with(sk, :v) AND pk = :missing", item{":v": n("1")}, operand("begins_with", "N")},
		{"texts", "pk = :p AND begins_with(sk, :v) AND sk = :missing", item{":v": n("1")}, operand("begins_with", "N")},
		{"nowhere", "pk = :p AND begins_with(sk, :v)", item{":v": n("1")}, operand("begins_with", "N")},
	} {
		values := item{}
		if strings.Contains(c.condition, ":p") {
			values[":p"] = s("p")
		}
		for name, v := range c.values {
			values[name] = v
		}
		_, err := w.Query(t.Context(), &dynamodb.QueryInput{TableName: &c.table, KeyConditionExpression: &c.condition, ExpressionAttributeValues: values})
		require.Error(t, err, c.condition)
		requireInvalid(t, err, c.message)
	}
}

func TestTheFirstFaultyActionOfATransactionIsReported(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	deep := `{"S":"x"}`
	for range 40 {
		deep = `{"M":{"n":` + deep + `}}`
	}
	const tooDeep = "Nesting Levels have exceeded supported limits: Attributes in the item have nested levels beyond supported limit"
	const syntax = `Invalid ConditionExpression: Syntax error; token: "=", near: "= = b"`
	const unused = "Value provided in ExpressionAttributeValues unused in expressions: keys: {:v}"
	deepPut := `{"Put":{"TableName":"rows","Item":{"pk":{"S":"d"},"v":` + deep + `}}}`
	nameless := `{"Put":{"TableName":"rows","Item":{"pk":{"S":"e"},"":{"S":"x"}}}}`
	malformed := `{"ConditionCheck":{"TableName":"rows","Key":{"pk":{"S":"c"}},"ConditionExpression":"a = = b"}}`
	superfluous := `{"ConditionCheck":{"TableName":"rows","Key":{"pk":{"S":"c"}},"ConditionExpression":"attribute_exists(pk)","ExpressionAttributeValues":{":v":{"S":"x"}}}}`
	elsewhere := `{"Put":{"TableName":"nowhere","Item":{"pk":{"S":"a"}}}}`
	deepValue := `{"ConditionCheck":{"TableName":"rows","Key":{"pk":{"S":"c"}},"ConditionExpression":"a = :v","ExpressionAttributeValues":{":v":` + deep + `}}}`
	for _, c := range []struct{ actions, message string }{
		{elsewhere + "," + malformed, syntax},
		{malformed + "," + deepPut, syntax},
		{deepPut + "," + malformed, tooDeep},
		{elsewhere + "," + superfluous, unused},
		{superfluous + "," + elsewhere, unused},
		{`{"Put":{"TableName":"rows","Item":{"pk":{"S":"c"}}}},` + superfluous, unused},
		{nameless + "," + deepPut, "Empty attribute name"},
		{deepPut + "," + nameless, tooDeep},
		{deepValue + "," + nameless, "ExpressionAttributeValues contains invalid value: " + tooDeep + " for key :v"},
	} {
		require.Equal(t, c.message, w.refused("TransactWriteItems", `{"TransactItems":[`+c.actions+`]}`), c.actions)
	}
	// What breaks a constraint comes before everything, all of it in one message.
	const capacity = "Value 'X' at 'returnConsumedCapacity' failed to satisfy constraint: Member must satisfy enum value set: [INDEXES, TOTAL, NONE]"
	const metrics = "Value 'Y' at 'returnItemCollectionMetrics' failed to satisfy constraint: Member must satisfy enum value set: [SIZE, NONE]"
	token := "Value '" + strings.Repeat("t", 37) + "' at 'clientRequestToken' failed to satisfy constraint: Member must have length less than or equal to 36"
	require.Equal(t, "3 validation errors detected: "+token+"; "+capacity+"; "+metrics, w.refused("TransactWriteItems",
		`{"TransactItems":[`+elsewhere+`],"ReturnConsumedCapacity":"X","ReturnItemCollectionMetrics":"Y","ClientRequestToken":"`+strings.Repeat("t", 37)+`"}`))
	require.Equal(t, "Invalid UpdateExpression: Expression size has exceeded the maximum allowed size;", w.refused("TransactWriteItems",
		`{"TransactItems":[{"Update":{"TableName":"rows","Key":{"pk":{"S":"a"}},"UpdateExpression":"REMOVE `+strings.Repeat("a", 4090)+`"}}]}`))
	require.Empty(t, w.taken())
}

func TestTableDefinitionRefusals(t *testing.T) {
	w := newWorld(t)
	const start = `{"TableName":"rows","BillingMode":"PAY_PER_REQUEST","AttributeDefinitions":[{"AttributeName":"a","AttributeType":"S"},{"AttributeName":"b","AttributeType":"N"}`
	element := func(name, kind string) string { return `{"AttributeName":"` + name + `","KeyType":"` + kind + `"}` }
	key := `],"KeySchema":[` + element("a", "HASH") + `]`
	index := func(name string, attributes ...string) string {
		return fmt.Sprintf(`{"IndexName":"%s","KeySchema":[%s],"Projection":{"ProjectionType":"INCLUDE","NonKeyAttributes":["%s"]}}`,
			name, element("b", "HASH"), strings.Join(attributes, `","`))
	}
	tooShort := func(name, member string) string {
		return "Value '" + name + "' at '" + member + ".1.member.indexName' failed to satisfy constraint: Member must have length greater than or equal to 3"
	}
	tags := strings.Repeat(`{"Key":"k","Value":"v"},`, 50) + `{"Key":"l","Value":"v"}`
	for i := range 50 {
		tags = strings.Replace(tags, `"k"`, fmt.Sprintf(`"k%d"`, i), 1)
	}
	for body, message := range map[string]string{
		start + `,{"AttributeName":"b","AttributeType":"S"}` + key + `,"GlobalSecondaryIndexes":[` + index("abc", "x") + `]}`: "Attribute Name is duplicated: b",
		start + key + `,"GlobalSecondaryIndexes":[` + index("abc", "x", "x") + `]}`:                                           invalid + "Duplicate value in NonKeyAttributes: x",
		start + key + `,"GlobalSecondaryIndexes":[` + index("abc", strings.Repeat("x", 256)) + `]}`: enveloped + "Value '[" + strings.Repeat("x", 256) +
			"]' at 'globalSecondaryIndexes.1.member.projection.nonKeyAttributes' failed to satisfy constraint: Member must satisfy constraint: [Member must have length less than or equal to 255, Member must have length greater than or equal to 1]",
		start + `],"KeySchema":[` + element("a", "HASH") + `,` + element("b", "RANGE") + `,` + element("c", "RANGE") + `]}`: enveloped +
			"Value '[KeySchemaElement(attributeName=a, keyType=HASH), KeySchemaElement(attributeName=b, keyType=RANGE), KeySchemaElement(attributeName=c, keyType=RANGE)]' " +
			"at 'keySchema' failed to satisfy constraint: Member must have length less than or equal to 2",
		start + key + `,"LocalSecondaryIndexes":[` + index("l1", "x") + `],"GlobalSecondaryIndexes":[` + index("g1", "x") + `]}`: "2 validation errors detected: " +
			tooShort("g1", "globalSecondaryIndexes") + "; " + tooShort("l1", "localSecondaryIndexes"),
		start + key + `,"GlobalSecondaryIndexes":[` + index("abc", "x") + `],"Tags":[` + tags + `]}`:             invalid + "Too many Tags: 51. Maximum is 50",
		start + key + `,"GlobalSecondaryIndexes":[` + index("abc", "x") + `],"Tags":[{"Key":"a!","Value":"v"}]}`: invalid + "Tag key may only contain letters, digits, spaces and _ . : / = + - @",
		start + key + `,"GlobalSecondaryIndexes":[` + index("abc", "x") + `],"Tags":[{"Key":"a"}]}`:              enveloped + "Value null at 'tags.1.member.value' failed to satisfy constraint: Member must not be null",
	} {
		require.Equal(t, message, w.refused("CreateTable", body), body)
	}
}

func TestIndexesAreRedefinedByNobody(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	add := func(kind string, updates ...types.GlobalSecondaryIndexUpdate) error {
		_, err := w.UpdateTable(t.Context(), &dynamodb.UpdateTableInput{TableName: aws.String("rows"), AttributeDefinitions: defsOf("x:" + kind),
			GlobalSecondaryIndexUpdates: updates})
		return err
	}
	create := func(name string) types.GlobalSecondaryIndexUpdate {
		return types.GlobalSecondaryIndexUpdate{Create: &types.CreateGlobalSecondaryIndexAction{IndexName: &name, KeySchema: keysOf("x", ""), Projection: projectionOf("ALL")}}
	}
	// Items that cannot be keys of the index are left out of it.
	for _, length := range []int{1, 2048, 2049} {
		w.put("rows", item{"pk": n2s(length), "x": s(strings.Repeat("x", length))})
	}
	require.NoError(t, add("S", create("first")))
	out, err := w.Scan(t.Context(), &dynamodb.ScanInput{TableName: aws.String("rows"), IndexName: aws.String("first")})
	require.NoError(t, err)
	require.Len(t, out.Items, 2)
	// One index at a time, whatever else is wrong with the request.
	gone := types.GlobalSecondaryIndexUpdate{Delete: &types.DeleteGlobalSecondaryIndexAction{IndexName: aws.String("nothing")}}
	other := types.GlobalSecondaryIndexUpdate{Delete: &types.DeleteGlobalSecondaryIndexAction{IndexName: aws.String("other")}}
	requireError(t, add("S", gone, other), "LimitExceededException", "Subscriber limit exceeded: Only 1 online index can be created or deleted simultaneously per table")
	both := create("both")
	both.Delete = &types.DeleteGlobalSecondaryIndexAction{IndexName: aws.String("first")}
	requireInvalid(t, add("S", both), invalid+"Only one of GlobalSecondaryIndexUpdate.Update, GlobalSecondaryIndexUpdate.Create, GlobalSecondaryIndexUpdate.Delete may be set")
	requireInvalid(t, add("N", create("second")), invalid+"Attributes cannot be redefined. Please check that your attribute has the same type as previously defined. "+
		"Existing schema: Schema:[SchemaElement: key{x:S:HASH}] New schema: Schema:[SchemaElement: key{x:N:HASH}]")
}

func n2s(i int) av { return s(fmt.Sprint(i)) }

func TestADeletedTableIsDescribedShortly(t *testing.T) {
	w := indexed(t)
	tables, err := w.ListTables(t.Context(), &dynamodb.ListTablesInput{})
	require.NoError(t, err)
	status, doc := w.raw("DeleteTable", `{"TableName":"`+tables.TableNames[0]+`"}`)
	require.Equal(t, http.StatusOK, status)
	d, _ := doc["TableDescription"].(map[string]any)
	require.Equal(t, "DELETING", d["TableStatus"])
	for _, member := range []string{"KeySchema", "AttributeDefinitions", "GlobalSecondaryIndexes", "LocalSecondaryIndexes", "CreationDateTime"} {
		require.NotContains(t, d, member)
	}
	for _, member := range []string{"TableArn", "TableId", "TableName", "TableSizeBytes", "ItemCount", "ProvisionedThroughput", "DeletionProtectionEnabled"} {
		require.Contains(t, d, member)
	}
}

func TestANewTableIsDescribedAsComing(t *testing.T) {
	w := newWorld(t)
	const body = `{"TableName":"rows","BillingMode":"PAY_PER_REQUEST","AttributeDefinitions":[{"AttributeName":"a","AttributeType":"S"}],` +
		`"KeySchema":[{"AttributeName":"a","KeyType":"HASH"}],"GlobalSecondaryIndexes":[{"IndexName":"abc","KeySchema":[{"AttributeName":"a","KeyType":"HASH"}],"Projection":{"ProjectionType":"ALL"}}]}`
	_, doc := w.raw("CreateTable", body)
	d, _ := doc["TableDescription"].(map[string]any)
	require.Equal(t, "CREATING", d["TableStatus"])
	require.NotContains(t, d, "WarmThroughput")
	require.Equal(t, map[string]any{"BillingMode": "PAY_PER_REQUEST"}, d["BillingModeSummary"], "there has been no update yet")
	require.NotContains(t, d["GlobalSecondaryIndexes"].([]any)[0], "WarmThroughput")
	_, doc = w.raw("DescribeTable", `{"TableName":"rows"}`)
	d, _ = doc["Table"].(map[string]any)
	require.Equal(t, "ACTIVE", d["TableStatus"])
	warm := map[string]any{"ReadUnitsPerSecond": 12000.0, "WriteUnitsPerSecond": 4000.0, "Status": "ACTIVE"}
	require.Equal(t, warm, d["WarmThroughput"])
	require.Contains(t, d["BillingModeSummary"], "LastUpdateToPayPerRequestDateTime")
	require.Equal(t, warm, d["GlobalSecondaryIndexes"].([]any)[0].(map[string]any)["WarmThroughput"])
}

func TestTagRefusals(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	table, err := w.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: aws.String("rows")})
	require.NoError(t, err)
	arn := table.Table.TableArn
	tag := func(key, value string) error {
		_, err := w.TagResource(t.Context(), &dynamodb.TagResourceInput{ResourceArn: arn, Tags: []types.Tag{{Key: &key, Value: &value}}})
		return err
	}
	// Characters count, not bytes.
	require.NoError(t, tag(strings.Repeat("é", 128), strings.Repeat("é", 256)))
	requireInvalid(t, tag(strings.Repeat("k", 129), "v"), invalid+"Tag key must be between 1 and 128 characters")
	requireInvalid(t, tag("k", strings.Repeat("v", 257)), invalid+"Tag value must be between 0 and 256 characters")
	requireInvalid(t, tag("hi!", "v"), invalid+"Tag key may only contain letters, digits, spaces and _ . : / = + - @")
	requireInvalid(t, tag("k", "<v>"), invalid+"Tag value may only contain letters, digits, spaces and _ . : / = + - @")
	status, body := w.text("TagResource", `{"ResourceArn":"`+*arn+`","Tags":[{"Key":"k","Value":"v"}]}`)
	require.Equal(t, http.StatusOK, status)
	require.Empty(t, body)
	require.Equal(t, "Invalid TableArn: Invalid ResourceArn provided as input nonsense", w.refused("TagResource", `{"ResourceArn":"nonsense","Tags":[]}`))
	require.Equal(t, "Invalid TableArn: Invalid ResourceArn provided as input nonsense", w.refused("UntagResource", `{"ResourceArn":"nonsense","TagKeys":[]}`))
	_, doc := w.raw("UntagResource", `{"ResourceArn":"`+strings.Replace(*arn, "rows", "nowhere", 1)+`","TagKeys":["k"]}`)
	require.Equal(t, "Requested resource not found", doc["message"])
	index := *arn + "/index/x"
	_, err = w.ListTagsOfResource(t.Context(), &dynamodb.ListTagsOfResourceInput{ResourceArn: &index})
	requireInvalid(t, err, "Invalid TableArn: Invalid ResourceArn provided as input "+index)
}

func TestScansFollowDynamoDBsHash(t *testing.T) {
	w := newWorld(t)
	w.create("texts", "pk:S")
	w.create("numbers", "pk:N")
	texts := []string{"2", "8", "9", "1", "6", "hello", "0", "5", "4", "äáöü", "aardman", "7", "3", "zapf"}
	numbers := []string{"7", "999.9", "8", "3", "2", "-999.9", "9", "4", "-0.09", "6", "1", "0", "0.012345", "5"}
	for i, text := range texts {
		w.put("texts", item{"pk": s(text)})
		w.put("numbers", item{"pk": n(numbers[i])})
	}
	scan := func(table string, value func(av) string) []string {
		out, err := w.Scan(t.Context(), &dynamodb.ScanInput{TableName: &table})
		require.NoError(t, err)
		var got []string
		for _, it := range out.Items {
			got = append(got, value(it["pk"]))
		}
		return got
	}
	require.Equal(t, texts, scan("texts", func(v av) string { return v.(*types.AttributeValueMemberS).Value }))
	got := scan("numbers", func(v av) string { return v.(*types.AttributeValueMemberN).Value })
	require.Equal(t, numbers, got)
	// Segments are equal ranges of the hash.
	for text, segment := range map[string]int32{"3635": 0, "228": 0, "1668": 1, "3435": 4} {
		w.put("texts", item{"pk": s(text)})
		out, err := w.Scan(t.Context(), &dynamodb.ScanInput{TableName: aws.String("texts"), Segment: &segment, TotalSegments: aws.Int32(4096)})
		require.NoError(t, err)
		require.Contains(t, out.Items, item{"pk": s(text)})
	}
}

func TestEntriesOfOneIndexKeyComeInHashOrder(t *testing.T) {
	w := newWorld(t)
	_, err := w.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName: aws.String("rows"), BillingMode: types.BillingModePayPerRequest, AttributeDefinitions: defsOf("a:S", "b:S", "c:S"), KeySchema: keysOf("a", "b"),
		GlobalSecondaryIndexes: []types.GlobalSecondaryIndex{{IndexName: aws.String("byC"), KeySchema: keysOf("c", ""), Projection: projectionOf("ALL")}},
	})
	require.NoError(t, err)
	for _, key := range []string{"aa", "ba", "ca", "cb", "da", "db"} {
		w.put("rows", item{"a": s(key[:1]), "b": s(key[1:]), "c": s("c")})
	}
	out, err := w.Query(t.Context(), &dynamodb.QueryInput{TableName: aws.String("rows"), IndexName: aws.String("byC"),
		KeyConditionExpression: aws.String("c = :c"), ExpressionAttributeValues: item{":c": s("c")}, ExclusiveStartKey: item{"a": s("a"), "b": s("a"), "c": s("c")}})
	require.NoError(t, err)
	var got []string
	for _, it := range out.Items {
		got = append(got, it["a"].(*types.AttributeValueMemberS).Value+it["b"].(*types.AttributeValueMemberS).Value)
	}
	require.Equal(t, []string{"da", "ba", "ca", "db", "cb"}, got)
}
