package dynamo_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"
)

func TestBatchWriteAndGet(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	w.create("more", "pk:S", "sk:N")
	w.put("rows", item{"pk": s("old")})
	w.taken()
	out, err := w.BatchWriteItem(t.Context(), &dynamodb.BatchWriteItemInput{
		RequestItems: map[string][]types.WriteRequest{
			"rows": {putRequest(item{"pk": s("a"), "v": n("1"), "w": n("2")}), deleteRequest(item{"pk": s("old")}), deleteRequest(item{"pk": s("never")})},
			"more": {putRequest(item{"pk": s("a"), "sk": n("1")})},
		},
		ReturnConsumedCapacity: types.ReturnConsumedCapacityTotal,
	})
	require.NoError(t, err)
	require.Empty(t, out.UnprocessedItems)
	units := map[string]float64{}
	for _, c := range out.ConsumedCapacity {
		units[*c.TableName] = *c.CapacityUnits
	}
	require.Equal(t, map[string]float64{"rows": 3, "more": 1}, units)
	require.Len(t, w.taken(), 3)

	got, err := w.BatchGetItem(t.Context(), &dynamodb.BatchGetItemInput{
		RequestItems: map[string]types.KeysAndAttributes{
			"rows": {Keys: []item{{"pk": s("a")}, {"pk": s("old")}}, ProjectionExpression: aws.String("#v"), ExpressionAttributeNames: map[string]string{"#v": "v"}, ConsistentRead: aws.Bool(true)},
			"more": {Keys: []item{{"pk": s("a"), "sk": n("1.0")}}},
		},
		ReturnConsumedCapacity: types.ReturnConsumedCapacityTotal,
	})
	require.NoError(t, err)
	require.Equal(t, map[string][]item{"rows": {{"v": n("1")}}, "more": {{"pk": s("a"), "sk": n("1")}}}, got.Responses)
	require.Empty(t, got.UnprocessedKeys)
	require.Len(t, got.ConsumedCapacity, 2)
}

func TestBatchesOfMoreThan16MB(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	var keys []item
	for i := range 42 {
		key := item{"pk": s(fmt.Sprint(i))}
		keys = append(keys, key)
		w.put("rows", item{"pk": key["pk"], "v": s(strings.Repeat("x", 400_000))})
	}
	read := 0
	in := &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{"rows": {Keys: keys, ConsistentRead: aws.Bool(true)}}}
	out, err := w.BatchGetItem(t.Context(), in)
	require.NoError(t, err)
	read += len(out.Responses["rows"])
	require.Equal(t, 41, read)
	require.True(t, *out.UnprocessedKeys["rows"].ConsistentRead)
	in.RequestItems = out.UnprocessedKeys
	out, err = w.BatchGetItem(t.Context(), in)
	require.NoError(t, err)
	require.Len(t, out.Responses["rows"], 1)
	require.Empty(t, out.UnprocessedKeys)
}

func TestBatchRefusals(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	key := item{"pk": s("a")}
	write := func(table string, requests ...types.WriteRequest) error {
		_, err := w.BatchWriteItem(t.Context(), &dynamodb.BatchWriteItemInput{RequestItems: map[string][]types.WriteRequest{table: requests}})
		return err
	}
	get := func(table string, keys ...item) error {
		_, err := w.BatchGetItem(t.Context(), &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{table: {Keys: keys}}})
		return err
	}
	const duplicates = "Provided list of item keys contains duplicates"
	const mismatch = "The provided key element does not match the schema"
	requireInvalid(t, write("rows", putRequest(key), deleteRequest(key)), duplicates)
	requireInvalid(t, write("rows", putRequest(item{"v": n("1")})), mismatch)
	requireInvalid(t, write("rows", putRequest(item{"pk": n("1")})), mismatch)
	requireInvalid(t, write("rows", putRequest(item{"pk": s("")})), "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty string value. Key: pk")
	requireInvalid(t, write("rows", types.WriteRequest{}), "Supplied AttributeValue has more than one datatypes set, must contain exactly one of the supported datatypes")
	requireInvalid(t, write("rows", putRequest(item{"pk": s("a"), "v": s(strings.Repeat("x", 400<<10))})), "Item size has exceeded the maximum allowed size")
	requireError(t, write("nowhere", putRequest(key)), "ResourceNotFoundException", "Requested resource not found")
	requireInvalid(t, get("rows", key, key), duplicates)
	requireInvalid(t, get("rows", item{"pk": n("1")}), mismatch)
	requireError(t, get("nowhere", key), "ResourceNotFoundException", "Requested resource not found")

	var requests []types.WriteRequest
	for i := range 26 {
		requests = append(requests, putRequest(item{"pk": s(fmt.Sprint(i))}))
	}
	require.ErrorContains(t, write("rows", requests...), "Map value must satisfy constraint: [Member must have length less than or equal to 25, Member must have length greater than or equal to 1]")
	var keys []item
	for i := range 101 {
		keys = append(keys, item{"pk": s(fmt.Sprint(i))})
	}
	require.ErrorContains(t, get("rows", keys...), "Member must have length less than or equal to 100")
	require.Empty(t, w.taken(), "a batch that is refused writes nothing")
}

func TestTransactGet(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	w.create("more", "pk:S", "sk:N")
	w.put("rows", item{"pk": s("a"), "v": n("1"), "w": n("2")})
	get := func(table string, key item, projection ...string) types.TransactGetItem {
		g := &types.Get{TableName: &table, Key: key}
		if len(projection) > 0 {
			g.ProjectionExpression = &projection[0]
		}
		return types.TransactGetItem{Get: g}
	}
	do := func(items ...types.TransactGetItem) (*dynamodb.TransactGetItemsOutput, error) {
		return w.TransactGetItems(t.Context(), &dynamodb.TransactGetItemsInput{TransactItems: items, ReturnConsumedCapacity: types.ReturnConsumedCapacityTotal})
	}
	key := item{"pk": s("a")}
	out, err := do(get("rows", key, "v"), get("more", item{"pk": s("a"), "sk": n("1")}))
	require.NoError(t, err)
	require.Len(t, out.Responses, 2)
	require.Equal(t, item{"v": n("1")}, out.Responses[0].Item)
	require.Nil(t, out.Responses[1].Item)
	require.Len(t, out.ConsumedCapacity, 2)
	require.Equal(t, 2.0, *out.ConsumedCapacity[0].ReadCapacityUnits)

	_, err = do(get("rows", key), get("rows", key))
	requireInvalid(t, err, "Transaction request cannot include multiple operations on one item")
	_, err = do(get("nowhere", key))
	requireError(t, err, "ResourceNotFoundException", "Requested resource not found")
	_, err = do(get("rows", key), get("rows", item{"pk": n("1")}))
	var cancelled *types.TransactionCanceledException
	require.ErrorAs(t, err, &cancelled)
	require.Equal(t, "Transaction cancelled, please refer cancellation reasons for specific reasons [None, ValidationError]", cancelled.ErrorMessage())
	require.Equal(t, "The provided key element does not match the schema", *cancelled.CancellationReasons[1].Message)
}
