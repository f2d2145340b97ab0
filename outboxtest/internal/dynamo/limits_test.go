package dynamo_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"
)

const maxItem = 400 << 10

// TestItemsOfExactly400KB: the limit counts names and values, and holds wherever an item is written.
func TestItemsOfExactly400KB(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	sized := func(size int) item { // "pk" + "k" + "v" + value
		return item{"pk": s("k"), "v": s(strings.Repeat("x", size-4))}
	}
	const tooBig = "Item size has exceeded the maximum allowed size"
	const updateTooBig = "Item size to update has exceeded the maximum allowed size"
	transactUpdate := func(size int) error {
		return w.transact("", types.TransactWriteItem{Update: &types.Update{TableName: aws.String("rows"), Key: item{"pk": s("k")},
			UpdateExpression: aws.String("SET v = :v"), ExpressionAttributeValues: item{":v": sized(size)["v"]}}})
	}
	for name, write := range map[string]func(size int) error{
		"put": func(size int) error {
			_, err := w.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("rows"), Item: sized(size)})
			return err
		},
		"batch": func(size int) error {
			_, err := w.BatchWriteItem(t.Context(), &dynamodb.BatchWriteItemInput{RequestItems: map[string][]types.WriteRequest{"rows": {putRequest(sized(size))}}})
			return err
		},
		"transaction": func(size int) error { return w.transact("", putOf("rows", sized(size))) },
	} {
		require.NoError(t, write(maxItem), name)
		require.Equal(t, sized(maxItem), w.get("rows", item{"pk": s("k")}))
		requireInvalid(t, write(maxItem+1), tooBig)
	}
	require.NoError(t, transactUpdate(maxItem))
	var cancelled *types.TransactionCanceledException
	require.ErrorAs(t, transactUpdate(maxItem+1), &cancelled, "an update's size is known only when it runs")
	require.Equal(t, "ValidationError", *cancelled.CancellationReasons[0].Code)
	require.Equal(t, updateTooBig, *cancelled.CancellationReasons[0].Message)
}

func TestTransactionsOfExactly4MB(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	sized := func(size int) []types.TransactWriteItem {
		var actions []types.TransactWriteItem
		for i := 0; size > 0; i++ {
			part := min(size, 390<<10)
			size -= part
			actions = append(actions, putOf("rows", item{"pk": s(fmt.Sprintf("%02d", i)), "v": s(strings.Repeat("x", part-5))}))
		}
		return actions
	}
	require.NoError(t, w.transact("", sized(4<<20)...))
	require.ErrorContains(t, w.transact("", sized(4<<20+1)...), "Transaction payload size cannot exceed 4MB")
}

func TestTokensLiveTenMinutes(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	put := putOf("rows", item{"pk": s("a")})
	require.NoError(t, w.transact("token", put))
	// Another request is refused, also one whose condition could not hold.
	requireError(t, w.transact("token", putOf("rows", item{"pk": s("a")}, "attribute_not_exists(pk)")), "IdempotentParameterMismatchException",
		"DynamoDB rejected the request because you retried a request with a different payload but with an idempotent token that was already used.")
	// What the answer shall tell is no part of the request.
	_, err := w.TransactWriteItems(t.Context(), &dynamodb.TransactWriteItemsInput{ClientRequestToken: aws.String("token"),
		TransactItems: []types.TransactWriteItem{put}, ReturnConsumedCapacity: types.ReturnConsumedCapacityTotal})
	require.NoError(t, err)
	// The repetition does not prolong the ten minutes, and writes nothing, whatever has happened since.
	w.advance(9 * time.Minute)
	_, err = w.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: aws.String("rows"), Key: item{"pk": s("a")}})
	require.NoError(t, err)
	require.NoError(t, w.transact("token", put))
	require.Nil(t, w.get("rows", item{"pk": s("a")}))
	w.advance(time.Minute)
	require.NoError(t, w.transact("token", put))
	require.Equal(t, item{"pk": s("a")}, w.get("rows", item{"pk": s("a")}))
}

func TestCapacityOfTransactionsIsTwice(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	w.create("more", "pk:S")
	big := s(strings.Repeat("x", 2000))
	w.put("rows", item{"pk": s("updated"), "v": big})
	w.put("rows", item{"pk": s("deleted"), "v": big})
	out, err := w.TransactWriteItems(t.Context(), &dynamodb.TransactWriteItemsInput{
		ReturnConsumedCapacity: types.ReturnConsumedCapacityTotal,
		TransactItems: []types.TransactWriteItem{
			putOf("rows", item{"pk": s("put")}),
			{Update: &types.Update{TableName: aws.String("rows"), Key: item{"pk": s("updated")}, UpdateExpression: aws.String("REMOVE v")}},
			{Delete: &types.Delete{TableName: aws.String("rows"), Key: item{"pk": s("deleted")}}},
			checkOf("rows", item{"pk": s("nothing")}, "attribute_not_exists(pk)"),
			putOf("more", item{"pk": s("put"), "v": big}),
		},
	})
	require.NoError(t, err)
	require.Len(t, out.ConsumedCapacity, 2)
	// 1 for what is put, 2 for the larger image of what is updated, 2 for what is deleted, 1 for the check.
	require.Equal(t, "rows", *out.ConsumedCapacity[0].TableName)
	require.Equal(t, 2*(1+2+2+1.0), *out.ConsumedCapacity[0].CapacityUnits)
	require.Equal(t, 2*2.0, *out.ConsumedCapacity[1].CapacityUnits)
	require.Nil(t, out.ConsumedCapacity[0].Table, "TOTAL does not tell parts")
	put, err := w.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("more"), Item: item{"pk": s("put"), "v": big}, ReturnConsumedCapacity: "TOTAL"})
	require.NoError(t, err)
	require.Equal(t, 2.0, *put.ConsumedCapacity.CapacityUnits)
	get, err := w.TransactGetItems(t.Context(), &dynamodb.TransactGetItemsInput{ReturnConsumedCapacity: "TOTAL",
		TransactItems: []types.TransactGetItem{{Get: &types.Get{TableName: aws.String("more"), Key: item{"pk": s("put")}}}}})
	require.NoError(t, err)
	require.Equal(t, 2.0, *get.ConsumedCapacity[0].CapacityUnits)
}

// TestNothingChangedIsNoChange: writes that leave an item as it was are announced to nobody.
func TestNothingChangedIsNoChange(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	stored := item{"pk": s("a"), "v": n("1"), "set": ss("x", "y")}
	key := item{"pk": s("a")}
	w.put("rows", stored)
	require.Len(t, w.taken(), 1)
	same := item{"pk": s("a"), "v": n("1.0"), "set": ss("y", "x")}
	update := &types.Update{TableName: aws.String("rows"), Key: key, UpdateExpression: aws.String("SET v = :v REMOVE nothing"), ExpressionAttributeValues: item{":v": n("1")}}
	w.put("rows", same)
	_, err := w.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{TableName: update.TableName, Key: key, UpdateExpression: update.UpdateExpression,
		ExpressionAttributeValues: update.ExpressionAttributeValues})
	require.NoError(t, err)
	_, err = w.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: aws.String("rows"), Key: item{"pk": s("nothing")}})
	require.NoError(t, err)
	_, err = w.BatchWriteItem(t.Context(), &dynamodb.BatchWriteItemInput{RequestItems: map[string][]types.WriteRequest{
		"rows": {putRequest(same), deleteRequest(item{"pk": s("nothing")})}}})
	require.NoError(t, err)
	require.NoError(t, w.transact("", types.TransactWriteItem{Update: update}, checkOf("rows", item{"pk": s("b")}, "attribute_not_exists(pk)"),
		types.TransactWriteItem{Delete: &types.Delete{TableName: aws.String("rows"), Key: item{"pk": s("nothing")}}}))
	require.NoError(t, w.transact("", putOf("rows", same), checkOf("rows", item{"pk": s("b")}, "attribute_not_exists(pk)")))
	require.Empty(t, w.taken())
	require.Equal(t, stored, w.get("rows", key))
}

// The operands of a transaction's expressions may nest one level more than an item. Whoever writes one is told by the reason.
func TestOperandsNestOneLevelMoreInATransaction(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	nested := func(levels int) types.AttributeValue {
		v := s("x")
		for range levels {
			v = m(item{"n": v})
		}
		return v
	}
	key := item{"pk": s("a")}
	w.put("rows", key)
	update := func(expression string, levels int) types.TransactWriteItem {
		return types.TransactWriteItem{Update: &types.Update{TableName: aws.String("rows"), Key: key, UpdateExpression: &expression,
			ExpressionAttributeValues: item{":v": nested(levels)}}}
	}
	check := func(levels int) types.TransactWriteItem {
		return types.TransactWriteItem{ConditionCheck: &types.ConditionCheck{TableName: aws.String("rows"), Key: key,
			ConditionExpression: aws.String("attribute_exists(pk) AND v <> :v"), ExpressionAttributeValues: item{":v": nested(levels)}}}
	}
	const short = "Nesting Levels have exceeded supported limits"
	const long = short + ": Attributes in the item have nested levels beyond supported limit"
	require.NoError(t, w.transact("", check(32)))
	requireInvalid(t, w.transact("", check(33)), "ExpressionAttributeValues contains invalid value: "+long+" for key :v")
	require.NoError(t, w.transact("", update("SET v = :v", 31)))
	var cancelled *types.TransactionCanceledException
	require.ErrorAs(t, w.transact("", update("SET v = :v", 32)), &cancelled)
	require.Equal(t, "ValidationError", *cancelled.CancellationReasons[0].Code)
	require.Equal(t, short, *cancelled.CancellationReasons[0].Message)
	_, err := w.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{TableName: aws.String("rows"), Key: key, UpdateExpression: aws.String("SET w = pk"),
		ConditionExpression: aws.String("v <> :v"), ExpressionAttributeValues: item{":v": nested(32)}})
	requireInvalid(t, err, "1 validation error detected: "+long)
}

// TestFiftyGoroutines has every operation on the same items at once; what was counted must add up.
func TestFiftyGoroutines(t *testing.T) {
	const workers, rounds = 50, 2
	w := newWorld(t)
	w.create("rows", "pk:S", "sk:N")
	w.create("sums", "pk:S")
	sums := aws.String("sums")
	work := func(worker, round int) error {
		it := item{"pk": s(fmt.Sprint(worker % 5)), "sk": n(fmt.Sprint(worker*rounds + round))}
		add := func(pk string) types.TransactWriteItem {
			return types.TransactWriteItem{Update: &types.Update{TableName: sums, Key: item{"pk": s(pk)}, UpdateExpression: aws.String("ADD v :one"),
				ExpressionAttributeValues: item{":one": n("1")}}}
		}
		if err := w.transact(fmt.Sprint(worker, "-", round), add("transacted"), putOf("rows", it, "attribute_not_exists(pk)")); err != nil {
			return err
		}
		u := add("updated").Update
		if _, err := w.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{TableName: sums, Key: u.Key, UpdateExpression: u.UpdateExpression,
			ExpressionAttributeValues: u.ExpressionAttributeValues}); err != nil {
			return err
		}
		if _, err := w.Query(t.Context(), &dynamodb.QueryInput{TableName: aws.String("rows"), KeyConditionExpression: aws.String("pk = :p"),
			ExpressionAttributeValues: item{":p": it["pk"]}}); err != nil {
			return err
		}
		if _, err := w.Scan(t.Context(), &dynamodb.ScanInput{TableName: aws.String("rows"), Limit: aws.Int32(10)}); err != nil {
			return err
		}
		_, err := w.BatchWriteItem(t.Context(), &dynamodb.BatchWriteItemInput{RequestItems: map[string][]types.WriteRequest{"sums": {putRequest(item{"pk": s(fmt.Sprint(worker))})}}})
		return err
	}
	var wg sync.WaitGroup
	errs := make(chan error, workers*rounds)
	for worker := range workers {
		wg.Go(func() {
			for round := range rounds {
				errs <- work(worker, round)
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	for _, pk := range []string{"transacted", "updated"} {
		require.Equal(t, n(fmt.Sprint(workers*rounds)), w.get("sums", item{"pk": s(pk)})["v"])
	}
	require.Len(t, w.taken(), workers*rounds*3+workers)
	table, err := w.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: aws.String("rows")})
	require.NoError(t, err)
	require.EqualValues(t, workers*rounds, *table.Table.ItemCount)
}
