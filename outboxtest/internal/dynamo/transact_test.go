package dynamo_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"
)

func TestTransactionAppliesAllOrNothing(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	w.create("events", "id:S", "n:N")
	w.put("rows", item{"pk": s("a"), "v": n("1")})
	w.taken()

	update := types.TransactWriteItem{Update: &types.Update{
		TableName: aws.String("rows"), Key: item{"pk": s("a")}, UpdateExpression: aws.String("SET v = v + :one"),
		ExpressionAttributeValues: item{":one": n("1")},
	}}
	event := putOf("events", item{"id": s("e"), "n": n("1")}, "attribute_not_exists(id)")
	require.NoError(t, w.transact("", update, event))
	require.Equal(t, item{"pk": s("a"), "v": n("2")}, w.get("rows", item{"pk": s("a")}))
	require.Equal(t, item{"id": s("e"), "n": n("1")}, w.get("events", item{"id": s("e"), "n": n("1")}))
	changes := w.taken()
	require.Len(t, changes, 2)
	require.Equal(t, "MODIFY", changes[0].Kind)
	require.Equal(t, "INSERT", changes[1].Kind)

	// The event is there now, so the row must stay as it is.
	w.put("rows", item{"pk": s("c"), "v": n("7")})
	w.taken()
	err := w.transact("", update, event, checkOf("rows", item{"pk": s("c")}, "attribute_not_exists(pk)"), putOf("rows", item{"pk": s("b")}))
	var cancelled *types.TransactionCanceledException
	require.ErrorAs(t, err, &cancelled)
	require.Equal(t, "Transaction cancelled, please refer cancellation reasons for specific reasons "+
		"[None, ConditionalCheckFailed, ConditionalCheckFailed, None]", cancelled.ErrorMessage())
	require.Len(t, cancelled.CancellationReasons, 4)
	require.Equal(t, "None", *cancelled.CancellationReasons[0].Code)
	require.Nil(t, cancelled.CancellationReasons[0].Message)
	failed := cancelled.CancellationReasons[1]
	require.Equal(t, "ConditionalCheckFailed", *failed.Code)
	require.Equal(t, "The conditional request failed", *failed.Message)
	require.Equal(t, item{"id": s("e"), "n": n("1")}, failed.Item)
	require.Equal(t, item{"pk": s("c"), "v": n("7")}, cancelled.CancellationReasons[2].Item)
	require.Equal(t, item{"pk": s("a"), "v": n("2")}, w.get("rows", item{"pk": s("a")}))
	require.Nil(t, w.get("rows", item{"pk": s("b")}))
	require.Empty(t, w.taken())
}

func TestTransactionReturnsItemForAllFourActions(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	stored := item{"pk": s("a"), "v": n("1")}
	w.put("rows", stored)
	never := aws.String("attribute_not_exists(pk)")
	old := types.ReturnValuesOnConditionCheckFailureAllOld
	key := item{"pk": s("a")}
	for name, action := range map[string]types.TransactWriteItem{
		"put":    {Put: &types.Put{TableName: aws.String("rows"), Item: key, ConditionExpression: never, ReturnValuesOnConditionCheckFailure: old}},
		"update": {Update: &types.Update{TableName: aws.String("rows"), Key: key, UpdateExpression: aws.String("REMOVE v"), ConditionExpression: never, ReturnValuesOnConditionCheckFailure: old}},
		"delete": {Delete: &types.Delete{TableName: aws.String("rows"), Key: key, ConditionExpression: never, ReturnValuesOnConditionCheckFailure: old}},
		"check":  checkOf("rows", key, *never),
	} {
		t.Run(name, func(t *testing.T) {
			var cancelled *types.TransactionCanceledException
			require.ErrorAs(t, w.transact("", action), &cancelled)
			require.Equal(t, stored, cancelled.CancellationReasons[0].Item)
		})
	}
}

func TestTransactionToken(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	add := func(by string) types.TransactWriteItem {
		return types.TransactWriteItem{Update: &types.Update{
			TableName: aws.String("rows"), Key: item{"pk": s("a")}, UpdateExpression: aws.String("ADD v :by"),
			ExpressionAttributeValues: item{":by": n(by)},
		}}
	}
	value := func() av { return w.get("rows", item{"pk": s("a")})["v"] }

	require.NoError(t, w.transact("token", add("1")))
	w.taken()
	require.NoError(t, w.transact("token", add("1")))
	require.NoError(t, w.transact("token", add("1.0")), "the same number, written differently")
	require.Equal(t, n("1"), value())
	require.Empty(t, w.taken())

	var mismatch *types.IdempotentParameterMismatchException
	require.ErrorAs(t, w.transact("token", add("2")), &mismatch)

	w.advance(10*time.Minute - time.Second)
	require.NoError(t, w.transact("token", add("1")))
	require.Equal(t, n("1"), value())
	w.advance(time.Second)
	require.NoError(t, w.transact("token", add("2")), "the token is forgotten")
	require.Equal(t, n("3"), value())

	// A transaction that failed leaves no token behind.
	failing := putOf("rows", item{"pk": s("a")}, "attribute_not_exists(pk)")
	require.Error(t, w.transact("other", failing))
	require.NoError(t, w.transact("other", putOf("rows", item{"pk": s("b")})))
}

func TestTransactionValidation(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	many := func(count int) []types.TransactWriteItem {
		var out []types.TransactWriteItem
		for i := range count {
			out = append(out, putOf("rows", item{"pk": s(fmt.Sprint(i))}))
		}
		return out
	}
	large := func(count int) []types.TransactWriteItem {
		out := many(count)
		for _, a := range out {
			a.Put.Item["v"] = s(strings.Repeat("x", 399<<10))
		}
		return out
	}
	require.NoError(t, w.transact("", many(100)...))
	require.NoError(t, w.transact("", large(10)...))
	require.NoError(t, w.transact(strings.Repeat("t", 36), many(1)...))

	key := item{"pk": s("a")}
	for name, c := range map[string]struct {
		token   string
		items   []types.TransactWriteItem
		code    string
		message string
	}{
		"one item twice": {
			items:   []types.TransactWriteItem{putOf("rows", key), checkOf("rows", key, "attribute_exists(pk)")},
			message: "Transaction request cannot include multiple operations on one item",
		},
		"no table": {
			items: []types.TransactWriteItem{putOf("rows", key), putOf("nowhere", key)},
			code:  "ResourceNotFoundException", message: "Requested resource not found",
		},
		"item too big": {
			items:   []types.TransactWriteItem{putOf("rows", item{"pk": s("a"), "v": s(strings.Repeat("x", 400<<10))})},
			message: "Item size has exceeded the maximum allowed size",
		},
		"empty key": {
			items: []types.TransactWriteItem{putOf("rows", key), putOf("rows", item{"pk": s("")})},
			message: "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty " +
				"string value. Key: pk",
		},
		"empty lookup key": {
			items: []types.TransactWriteItem{checkOf("rows", item{"pk": s("")}, "attribute_exists(pk)")},
			message: "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty " +
				"string value. Key: pk",
		},
		"syntax": {
			items:   []types.TransactWriteItem{putOf("rows", key, "hello!")},
			message: `Invalid ConditionExpression: Syntax error; token: "!", near: "hello!"`,
		},
		"no action": {
			items:   []types.TransactWriteItem{{}},
			message: "Invalid Request: TransactWriteRequest should contain Delete or Put or Update request",
		},
		"two actions": {
			items:   []types.TransactWriteItem{{Put: putOf("rows", key).Put, ConditionCheck: checkOf("rows", key, "attribute_exists(pk)").ConditionCheck}},
			message: "TransactItems can only contain one of Check, Put, Update or Delete",
		},
		"key too long": {
			items: []types.TransactWriteItem{putOf("rows", item{"pk": s(strings.Repeat("x", 2049))})},
			code:  "TransactionCanceledException", message: "Transaction cancelled, please refer cancellation reasons for specific reasons [ValidationError]",
		},
		"wrong key type": {
			items: []types.TransactWriteItem{putOf("rows", key), putOf("rows", item{"pk": n("1")}), putOf("rows", item{"pk": n("2")}), checkOf("rows", item{"pk": s("c")}, "attribute_exists(pk)")},
			code:  "TransactionCanceledException", message: "Transaction cancelled, please refer cancellation reasons for specific reasons [None, ValidationError, None, None]",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if c.code == "" {
				c.code = "ValidationException"
			}
			requireError(t, w.transact(c.token, c.items...), c.code, c.message)
		})
	}

	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"none":       {w.transact("", []types.TransactWriteItem{}...), "Value '[]' at 'transactItems' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		"too many":   {w.transact("", many(101)...), "at 'transactItems' failed to satisfy constraint: Member must have length less than or equal to 100"},
		"4 MB":       {w.transact("", large(11)...), "Transaction payload size cannot exceed 4MB. Payload Size: "},
		"long token": {w.transact(strings.Repeat("t", 37), many(1)...), "at 'clientRequestToken' failed to satisfy constraint: Member must have length less than or equal to 36"},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorContains(t, c.err, "ValidationException")
			require.ErrorContains(t, c.err, c.want)
		})
	}
}

func TestTransactionCapacity(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	in := &dynamodb.TransactWriteItemsInput{
		ClientRequestToken:     aws.String("token"),
		ReturnConsumedCapacity: types.ReturnConsumedCapacityIndexes,
		TransactItems: []types.TransactWriteItem{
			putOf("rows", item{"pk": s("a"), "v": s(strings.Repeat("x", 1500))}),
			checkOf("rows", item{"pk": s("b")}, "attribute_not_exists(pk)"),
		},
	}
	out, err := w.TransactWriteItems(t.Context(), in)
	require.NoError(t, err)
	require.Len(t, out.ConsumedCapacity, 1)
	require.Equal(t, 6.0, *out.ConsumedCapacity[0].CapacityUnits)
	require.Equal(t, 6.0, *out.ConsumedCapacity[0].WriteCapacityUnits)
	require.Equal(t, 6.0, *out.ConsumedCapacity[0].Table.WriteCapacityUnits)

	out, err = w.TransactWriteItems(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, 4.0, *out.ConsumedCapacity[0].ReadCapacityUnits, "a repetition costs reads")
}
