package dynamo_test

import (
	"strconv"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"
)

func TestLegacyFilters(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S", "sk:N")
	for i := range 6 {
		it := item{"pk": s("a"), "sk": n(strconv.Itoa(i)), "v": n(strconv.Itoa(i % 3)), "t": s("text" + strconv.Itoa(i)), "set": ss("x")}
		if i == 5 {
			delete(it, "v")
		}
		w.put("rows", it)
	}
	for name, c := range map[string]struct {
		filter map[string]types.Condition
		or     bool
		want   []string
	}{
		"EQ":           {map[string]types.Condition{"v": conditionOf("EQ", n("1"))}, false, []string{"1", "4"}},
		"NE":           {map[string]types.Condition{"v": conditionOf("NE", n("1"))}, false, []string{"0", "2", "3", "5"}},
		"LE":           {map[string]types.Condition{"v": conditionOf("LE", n("1"))}, false, []string{"0", "1", "3", "4"}},
		"GT":           {map[string]types.Condition{"v": conditionOf("GT", n("1"))}, false, []string{"2"}},
		"IN":           {map[string]types.Condition{"v": conditionOf("IN", n("1"), n("2"))}, false, []string{"1", "2", "4"}},
		"BETWEEN":      {map[string]types.Condition{"v": conditionOf("BETWEEN", n("1"), n("2"))}, false, []string{"1", "2", "4"}},
		"NULL":         {map[string]types.Condition{"v": conditionOf("NULL")}, false, []string{"5"}},
		"NOT_NULL":     {map[string]types.Condition{"v": conditionOf("NOT_NULL")}, false, []string{"0", "1", "2", "3", "4"}},
		"BEGINS_WITH":  {map[string]types.Condition{"t": conditionOf("BEGINS_WITH", s("text4"))}, false, []string{"4"}},
		"CONTAINS":     {map[string]types.Condition{"set": conditionOf("CONTAINS", s("x"))}, false, []string{"0", "1", "2", "3", "4", "5"}},
		"NOT_CONTAINS": {map[string]types.Condition{"t": conditionOf("NOT_CONTAINS", s("4"))}, false, []string{"0", "1", "2", "3", "5"}},
		"AND":          {map[string]types.Condition{"v": conditionOf("EQ", n("1")), "t": conditionOf("EQ", s("text4"))}, false, []string{"4"}},
		"OR":           {map[string]types.Condition{"v": conditionOf("EQ", n("1")), "t": conditionOf("EQ", s("text0"))}, true, []string{"0", "1", "4"}},
	} {
		t.Run(name, func(t *testing.T) {
			in := &dynamodb.QueryInput{TableName: aws.String("rows"), KeyConditions: map[string]types.Condition{"pk": conditionOf("EQ", s("a"))},
				QueryFilter: c.filter, AttributesToGet: []string{"sk"}}
			if c.or {
				in.ConditionalOperator = types.ConditionalOperatorOr
			}
			out, err := w.Query(t.Context(), in)
			require.NoError(t, err)
			require.Equal(t, c.want, texts(out.Items, "sk"))
			require.Len(t, out.Items[0], 1)
		})
	}
	out, err := w.Query(t.Context(), &dynamodb.QueryInput{TableName: aws.String("rows"),
		KeyConditions: map[string]types.Condition{"pk": conditionOf("EQ", s("a")), "sk": conditionOf("BETWEEN", n("1"), n("3"))}})
	require.NoError(t, err)
	require.Equal(t, []string{"1", "2", "3"}, texts(out.Items, "sk"))
	scan, err := w.Scan(t.Context(), &dynamodb.ScanInput{TableName: aws.String("rows"), ScanFilter: map[string]types.Condition{"v": conditionOf("EQ", n("0"))}})
	require.NoError(t, err)
	require.Len(t, scan.Items, 2)
}

func TestLegacyWrites(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	key := item{"pk": s("a")}
	update := func(attribute string, action types.AttributeAction, value av, expected map[string]types.ExpectedAttributeValue) error {
		_, err := w.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{TableName: aws.String("rows"), Key: key, Expected: expected,
			AttributeUpdates: map[string]types.AttributeValueUpdate{attribute: {Action: action, Value: value}}})
		return err
	}
	never := map[string]types.ExpectedAttributeValue{"pk": {Exists: aws.Bool(false)}}
	require.NoError(t, update("v", "ADD", n("2"), never))
	require.NoError(t, update("v", "ADD", n("3"), map[string]types.ExpectedAttributeValue{"v": {Value: n("2")}}))
	require.NoError(t, update("l", "ADD", l(s("x")), nil))
	require.NoError(t, update("l", "ADD", l(s("y")), nil))
	require.NoError(t, update("set", "PUT", ss("a", "b"), nil))
	require.NoError(t, update("set", "DELETE", ss("a"), nil))
	require.Equal(t, item{"pk": s("a"), "v": n("5"), "l": l(s("x"), s("y")), "set": ss("b")}, w.get("rows", key))
	require.NoError(t, update("l", "DELETE", nil, nil))

	var failed *types.ConditionalCheckFailedException
	require.ErrorAs(t, update("v", "PUT", n("0"), never), &failed)
	require.ErrorAs(t, update("v", "PUT", n("0"), map[string]types.ExpectedAttributeValue{"v": {ComparisonOperator: "GT", AttributeValueList: []av{n("5")}}}), &failed)
	requireInvalid(t, update("v", "ADD", ss("x"), nil), "Type mismatch for attribute to update")
	requireInvalid(t, update("v", "PUT", nil, nil), "One or more parameter values were invalid: Only DELETE action is allowed when no attribute value is specified")
	requireInvalid(t, update("v", "DELETE", n("1"), nil), "One or more parameter values were invalid: DELETE action with value is not supported for the type N")
	requireInvalid(t, update("v", "ADD", s("x"), nil), "One or more parameter values were invalid: ADD action is not supported for the type S")
	requireInvalid(t, update("pk", "PUT", s("x"), nil), "One or more parameter values were invalid: Cannot update attribute pk. This attribute is part of the key")
	requireInvalid(t, update("v", "PUT", n("1"), map[string]types.ExpectedAttributeValue{"v": {}}),
		enveloped+"One or more parameter values were invalid: Value must be provided when Exists is null for Attribute: v")

	_, err := w.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("rows"), Item: key, Expected: never, ConditionExpression: aws.String("attribute_exists(pk)")})
	requireInvalid(t, err, "1 validation error detected: Can not use both expression and non-expression parameters in the same request: "+
		"Non-expression parameters: {Expected} Expression parameters: {ConditionExpression}")
	_, err = w.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: aws.String("rows"), Key: key, ExpressionAttributeNames: map[string]string{"#a": "a"}})
	requireInvalid(t, err, enveloped+"ExpressionAttributeNames can only be specified when using expressions")
	_, err = w.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{TableName: aws.String("rows"), Key: key, ExpressionAttributeValues: item{":a": n("1")}})
	requireInvalid(t, err, "1 validation error detected: ExpressionAttributeValues can only be specified when using expressions")
	_, err = w.Scan(t.Context(), &dynamodb.ScanInput{TableName: aws.String("rows"), ScanFilter: map[string]types.Condition{"v": conditionOf("BETWEEN", n("2"), n("1"))}})
	requireInvalid(t, err, "The BETWEEN condition was provided a range where the lower bound is greater than the upper bound")
	_, err = w.Scan(t.Context(), &dynamodb.ScanInput{TableName: aws.String("rows"), ScanFilter: map[string]types.Condition{"v": conditionOf("EQ")}})
	requireInvalid(t, err, "One or more parameter values were invalid: Invalid number of argument(s) for the EQ ComparisonOperator")
}
