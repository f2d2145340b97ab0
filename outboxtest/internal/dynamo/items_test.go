package dynamo_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"
)

func TestPutAndGet(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	full := item{
		"pk": s("a"), "s": s(""), "n": n("-15789000"), "b": b(""), "t": &types.AttributeValueMemberBOOL{Value: true},
		"null": &types.AttributeValueMemberNULL{Value: true}, "ss": ss("", "a"), "ns": &types.AttributeValueMemberNS{Value: []string{"1", "2"}},
		"bs": &types.AttributeValueMemberBS{Value: [][]byte{[]byte("x")}}, "l": l(s("x"), l(), m(item{})), "m": m(item{"a.b": n("0.5")}),
	}
	w.put("rows", full)
	require.Equal(t, full, w.get("rows", item{"pk": s("a")}))
	require.Nil(t, w.get("rows", item{"pk": s("b")}))

	out, err := w.PutItem(t.Context(), &dynamodb.PutItemInput{
		TableName: aws.String("rows"), Item: item{"pk": s("a"), "n": n("+1.50e1")}, ReturnValues: types.ReturnValueAllOld,
		ReturnConsumedCapacity: types.ReturnConsumedCapacityIndexes,
	})
	require.NoError(t, err)
	require.Equal(t, full, out.Attributes)
	require.Equal(t, 1.0, *out.ConsumedCapacity.Table.CapacityUnits)
	require.Equal(t, item{"pk": s("a"), "n": n("15")}, w.get("rows", item{"pk": s("a")}))

	got, err := w.GetItem(t.Context(), &dynamodb.GetItemInput{
		TableName: aws.String("rows"), Key: item{"pk": s("a")}, ProjectionExpression: aws.String("#x"),
		ExpressionAttributeNames: map[string]string{"#x": "missing"}, ReturnConsumedCapacity: types.ReturnConsumedCapacityTotal,
	})
	require.NoError(t, err)
	require.Equal(t, item{}, got.Item, "the item exists, though nothing of it is asked for")
	require.Equal(t, 0.5, *got.ConsumedCapacity.CapacityUnits)
}

func TestChanges(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	w.put("rows", item{"pk": s("a"), "set": ss("x", "y")})
	w.put("rows", item{"pk": s("a"), "set": ss("y", "x")})
	w.put("rows", item{"pk": s("a"), "v": n("1")})
	changes := w.taken()
	require.Len(t, changes, 2, "a write that changes nothing is no change")
	require.Equal(t, "INSERT", changes[0].Kind)
	require.Nil(t, changes[0].Old)
	require.Equal(t, "arn:aws:dynamodb:us-east-1:000000000000:table/rows", changes[0].TableARN)
	require.Equal(t, w.clock(), changes[0].At)
	require.Equal(t, "MODIFY", changes[1].Kind)
	require.Equal(t, changes[0].New, changes[1].Old)
	require.Len(t, changes[1].Keys, 1)
	require.Equal(t, 3+(3+3+2)+(3+1+2), changes[1].SizeBytes)
}

func TestPutConditions(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	stored := item{"pk": s("a"), "v": n("1")}
	put := func(condition string, values item, returned types.ReturnValuesOnConditionCheckFailure) error {
		_, err := w.PutItem(t.Context(), &dynamodb.PutItemInput{
			TableName: aws.String("rows"), Item: stored, ConditionExpression: &condition, ExpressionAttributeValues: values,
			ReturnValuesOnConditionCheckFailure: returned,
		})
		return err
	}
	require.NoError(t, put("attribute_not_exists(pk)", nil, ""))
	var failed *types.ConditionalCheckFailedException
	require.ErrorAs(t, put("attribute_not_exists(pk)", nil, ""), &failed)
	require.Equal(t, "The conditional request failed", failed.ErrorMessage())
	require.Nil(t, failed.Item)
	require.ErrorAs(t, put("v > :v", item{":v": n("1")}, types.ReturnValuesOnConditionCheckFailureAllOld), &failed)
	require.Equal(t, stored, failed.Item)
	require.NoError(t, put("v <= :v", item{":v": n("1")}, ""))
}

func TestPutRefusals(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S", "sk:B")
	key := item{"pk": s("a"), "sk": b("b")}
	with := func(name string, v av) item {
		out := item{name: v}
		for k, x := range key {
			if k != name {
				out[k] = x
			}
		}
		return out
	}
	deep := s("x")
	for range 32 {
		deep = m(item{"d": deep})
	}
	for _, c := range []struct {
		item    item
		message string
	}{
		{item{"pk": s("a")}, "One or more parameter values were invalid: Missing the key sk in the item"},
		{with("pk", n("1")), "One or more parameter values were invalid: Type mismatch for key pk expected: S actual: N"},
		{with("pk", s("")), "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty string value. Key: pk"},
		{with("sk", b("")), "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty binary value. Key: sk"},
		{with("pk", s(strings.Repeat("x", 2049))), "One or more parameter values were invalid: Size of hashkey has exceeded the maximum size limit of2048 bytes"},
		{with("sk", b(strings.Repeat("x", 1025))), "One or more parameter values were invalid: Aggregated size of all range keys has exceeded the size limit of 1024 bytes"},
		{with("v", n("")), enveloped + "The parameter cannot be converted to a numeric value: "},
		{with("v", n("b")), enveloped + "The parameter cannot be converted to a numeric value: b"},
		{with("v", n("1e126")), enveloped + "Number overflow. Attempting to store a number with magnitude larger than supported range"},
		{with("v", n("1e-131")), enveloped + "Number underflow. Attempting to store a number with magnitude smaller than supported range"},
		{with("v", n(strings.Repeat("1", 39))), enveloped + "Attempting to store more than 38 significant digits in a Number"},
		{with("v", ss()), "1 validation error detected: One or more parameter values were invalid: An string set  may not be empty"},
		{with("v", ss("a", "a")), "1 validation error detected: One or more parameter values were invalid: Input collection [\"a\", \"a\"] contains duplicates."},
		{with("v", &types.AttributeValueMemberNS{Value: []string{"1", "1.0"}}), "1 validation error detected: One or more parameter values were invalid: Input collection contains duplicates."},
		{with("v", deep), enveloped + "Nesting Levels have exceeded supported limits: Attributes in the item have nested levels beyond supported limit"},
		{with("v", s(strings.Repeat("x", 400<<10))), "Item size has exceeded the maximum allowed size"},
	} {
		t.Run(c.message, func(t *testing.T) {
			_, err := w.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("rows"), Item: c.item})
			requireInvalid(t, err, c.message)
		})
	}
	_, err := w.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("nowhere"), Item: key})
	requireError(t, err, "ResourceNotFoundException", "Requested resource not found")
	_, err = w.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("rows"), Item: key, ReturnValues: types.ReturnValueAllNew})
	requireInvalid(t, err, "1 validation error detected: ReturnValues can only be ALL_OLD or NONE")
	_, err = w.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: aws.String("rows"), Key: item{"pk": s("a")}})
	requireInvalid(t, err, "The provided key element does not match the schema")
	_, err = w.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: aws.String("rows"), Key: with("sk", n("1"))})
	requireInvalid(t, err, "The provided key element does not match the schema")
}
