package integration

import (
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"
)

func token(v string) func(*dynamodb.TransactWriteItemsInput) {
	return func(in *dynamodb.TransactWriteItemsInput) { in.ClientRequestToken = &v }
}

var transactionCases = []testCase{
	{"transactions: all four kinds commit together", onTransactions, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		c.putFour(t, table)
		require.NoError(t, c.transact(t, four(table, "attribute_exists(pk)", noneReturned)))
		require.ElementsMatch(t, []item{{"pk": s("put"), "v": n(2)}, {"pk": s("update"), "v": n(2)}, {"pk": s("check"), "v": n(1)}}, c.all(t, table))
	}},
	{"transactions: they reach over tables", onTransactions, func(t *trial, c clients) {
		one, two := c.table(t, "pk:S"), c.table(t, "pk:S")
		require.NoError(t, c.transact(t, append(puts(one, 2), puts(two, 3)...)))
		require.Len(t, c.all(t, one), 2)
		require.Len(t, c.all(t, two), 3)
	}},
	{"transactions: nothing is applied when one condition fails, wherever it stands", onTransactions, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		c.put(t, table, item{"pk": s("taken")})
		never := types.TransactWriteItem{ConditionCheck: &types.ConditionCheck{TableName: &table, Key: item{"pk": s("taken")}, ConditionExpression: aws.String("attribute_not_exists(pk)")}}
		for at := range 3 {
			writes := puts(table, 3)
			writes[at] = never
			reasons := canceled(t, c.transact(t, writes))
			want := []string{"None", "None", "None"}
			want[at] = "ConditionalCheckFailed"
			require.Equal(t, want, codes(reasons))
			require.Len(t, c.all(t, table), 1)
		}
	}},
	{"transactions: every failed condition is reported, with AWS's words", onTransactions, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		c.putFour(t, table)
		err := c.transact(t, append(four(table, "attribute_not_exists(pk)", noneReturned), puts(table, 1)...))
		reasons := canceled(t, err)
		require.Equal(t, []string{"ConditionalCheckFailed", "ConditionalCheckFailed", "ConditionalCheckFailed", "ConditionalCheckFailed", "None"}, codes(reasons))
		require.Equal(t, "The conditional request failed", aws.ToString(reasons[0].Message))
		require.Nil(t, reasons[4].Message)
		require.ErrorContains(t, err, "Transaction cancelled, please refer cancellation reasons for specific reasons "+
			"[ConditionalCheckFailed, ConditionalCheckFailed, ConditionalCheckFailed, ConditionalCheckFailed, None]")
	}},
	{"transactions: ALL_OLD returns the item for all four kinds", onTransactions, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		c.putFour(t, table)
		reasons := canceled(t, c.transact(t, four(table, "attribute_not_exists(pk)", types.ReturnValuesOnConditionCheckFailureAllOld)))
		require.Len(t, reasons, 4)
		for i, key := range []string{"put", "update", "delete", "check"} {
			require.Equalf(t, item{"pk": s(key), "v": n(1)}, reasons[i].Item, "of the %s", key)
		}
	}},
	{"transactions: without ALL_OLD, and without an item, none is returned", onTransactions, func(t *trial, c clients) {
		full, empty := c.table(t, "pk:S"), c.table(t, "pk:S")
		c.putFour(t, full)
		for _, r := range slices.Concat(
			canceled(t, c.transact(t, four(full, "attribute_not_exists(pk)", noneReturned))),
			canceled(t, c.transact(t, four(empty, "attribute_exists(pk)", types.ReturnValuesOnConditionCheckFailureAllOld))),
		) {
			require.Equal(t, "ConditionalCheckFailed", aws.ToString(r.Code))
			require.Empty(t, r.Item)
		}
	}},
	{"transactions: a check of a missing item holds and writes nothing", onTransactions, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		require.NoError(t, c.transact(t, []types.TransactWriteItem{
			{ConditionCheck: &types.ConditionCheck{TableName: &table, Key: item{"pk": s("nothing")}, ConditionExpression: aws.String("attribute_not_exists(pk)")}},
			{Delete: &types.Delete{TableName: &table, Key: item{"pk": s("nothing either")}}},
		}))
		require.Empty(t, c.all(t, table))
	}},
	{"transactions: an update creates, counts and reads old values", onTransactions, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		c.put(t, table, item{"pk": s("1"), "v": n(1)})
		update := func(key string) types.TransactWriteItem {
			return types.TransactWriteItem{Update: &types.Update{TableName: &table, Key: item{"pk": s(key)},
				UpdateExpression: aws.String("SET v = if_not_exists(v, :zero) + :one, w = if_not_exists(v, :zero)"), ExpressionAttributeValues: item{":zero": n(0), ":one": n(1)}}}
		}
		require.NoError(t, c.transact(t, []types.TransactWriteItem{update("1"), update("2")}))
		require.ElementsMatch(t, []item{{"pk": s("1"), "v": n(2), "w": n(1)}, {"pk": s("2"), "v": n(1), "w": n(0)}}, c.all(t, table))
	}},
	{"transactions: a token makes a repeat a success that writes nothing", onTransactions, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		writes := []types.TransactWriteItem{{Update: &types.Update{TableName: &table, Key: item{"pk": s("1")}, UpdateExpression: aws.String("ADD v :one"), ExpressionAttributeValues: item{":one": n(1)}}}}
		id := unique("t")[13:]
		for range 3 {
			require.NoError(t, c.transact(t, writes, token(id)))
		}
		require.Equal(t, n(1), c.get(t, table, item{"pk": s("1")})["v"])
		require.NoError(t, c.transact(t, writes, token(id+"b")))
		require.Equal(t, n(2), c.get(t, table, item{"pk": s("1")})["v"])
	}},
	{"transactions: a token holds where a condition would now fail", onTransactions, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		writes := puts(table, 1)
		writes[0].Put.ConditionExpression = aws.String("attribute_not_exists(pk)")
		id := unique("t")[13:]
		require.NoError(t, c.transact(t, writes, token(id)))
		require.NoError(t, c.transact(t, writes, token(id)))
		canceled(t, c.transact(t, writes, token(id+"b")))
	}},
	{"transactions: a token with another request is IdempotentParameterMismatchException", onTransactions, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		id := unique("t")[13:]
		require.NoError(t, c.transact(t, puts(table, 1), token(id)))
		requireCode(t, c.transact(t, puts(table, 2), token(id)), "IdempotentParameterMismatchException")
		other := puts(table, 1)
		other[0].Put.ConditionExpression = aws.String("attribute_exists(pk)")
		requireCode(t, c.transact(t, other, token(id)), "IdempotentParameterMismatchException")
		require.Len(t, c.all(t, table), 1)
	}},
	{"transactions: a token that failed is not spent", onTransactions, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		writes := puts(table, 1)
		writes[0].Put.ConditionExpression = aws.String("attribute_not_exists(pk)")
		c.put(t, table, item{"pk": s("0"), "v": s("in the way")})
		id := unique("t")[13:]
		canceled(t, c.transact(t, writes, token(id)))
		_, err := c.DynamoDB.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: &table, Key: item{"pk": s("0")}})
		require.NoError(t, err)
		require.NoError(t, c.transact(t, writes, token(id)))
		require.Len(t, c.all(t, table), 1)
	}},
	{"transactions: concurrent ones on one item lose no count", onTransactions, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		var wg sync.WaitGroup
		var mu sync.Mutex
		committed := 0
		for range 5 {
			wg.Go(func() {
				for range 10 {
					err := c.transact(t, []types.TransactWriteItem{
						{Update: &types.Update{TableName: &table, Key: item{"pk": s("a")}, UpdateExpression: aws.String("ADD v :one"), ExpressionAttributeValues: item{":one": n(1)}}},
						{Update: &types.Update{TableName: &table, Key: item{"pk": s("b")}, UpdateExpression: aws.String("ADD v :one"), ExpressionAttributeValues: item{":one": n(1)}}},
					})
					mu.Lock()
					switch {
					case err == nil:
						committed++
					case errorCode(err) != "TransactionCanceledException" && errorCode(err) != "TransactionConflictException":
						t.Errorf("neither a success nor a conflict: %s", describe(err))
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		require.Positive(t, committed)
		for _, key := range []string{"a", "b"} {
			require.Equalf(t, strconv.Itoa(committed), str(c.get(t, table, item{"pk": s(key)})["v"]), "counter %s", key)
		}
	}},
	{"transactions: readers never see a half of one", onTransactions, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		both := func(v int) []types.TransactWriteItem {
			return []types.TransactWriteItem{{Put: &types.Put{TableName: &table, Item: item{"pk": s("a"), "v": n(v)}}}, {Put: &types.Put{TableName: &table, Item: item{"pk": s("b"), "v": n(v)}}}}
		}
		require.NoError(t, c.transact(t, both(0)))
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() {
			for v := range 30 {
				if err := c.transact(t, both(v)); err != nil && errorCode(err) != "TransactionCanceledException" {
					t.Errorf("%s", describe(err))
				}
			}
		})
		for range 30 {
			out, err := c.DynamoDB.TransactGetItems(t.Context(), &dynamodb.TransactGetItemsInput{TransactItems: gets(table, "a", "b")})
			if errorCode(err) == "TransactionCanceledException" {
				continue // a conflict
			}
			require.NoError(t, err)
			require.Equal(t, out.Responses[0].Item["v"], out.Responses[1].Item["v"])
		}
	}},
	{"transactions: consumed capacity is double", onTransactions, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		out, err := c.DynamoDB.TransactWriteItems(t.Context(), &dynamodb.TransactWriteItemsInput{TransactItems: puts(table, 3), ReturnConsumedCapacity: types.ReturnConsumedCapacityTotal})
		require.NoError(t, err)
		require.Len(t, out.ConsumedCapacity, 1)
		require.InDelta(t, 6, aws.ToFloat64(out.ConsumedCapacity[0].CapacityUnits), 0)
		read, err := c.DynamoDB.TransactGetItems(t.Context(), &dynamodb.TransactGetItemsInput{TransactItems: gets(table, "0", "1"), ReturnConsumedCapacity: types.ReturnConsumedCapacityTotal})
		require.NoError(t, err)
		require.Len(t, read.ConsumedCapacity, 1)
		require.InDelta(t, 4, aws.ToFloat64(read.ConsumedCapacity[0].CapacityUnits), 0)
	}},
}

var transactionLimitCases = []testCase{
	{"transaction limits: 100 operations are taken, 101 and none are refused", onTransactions, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		requireCode(t, c.transact(t, puts(table, 101)), "ValidationException")
		requireCode(t, c.transact(t, []types.TransactWriteItem{}), "ValidationException")
		require.Empty(t, c.all(t, table))
		require.NoError(t, c.transact(t, puts(table, 100)))
		require.Len(t, c.all(t, table), 100)
	}},
	{"transaction limits: a token has at most 36 characters", onTransactions, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		requireCode(t, c.transact(t, puts(table, 1), token(fmt.Sprintf("%037d", sequence.Add(1)))), "ValidationException")
		require.Empty(t, c.all(t, table))
		require.NoError(t, c.transact(t, puts(table, 1), token(runID+filler(28))))
	}},
	{"transaction limits: one item in two operations is refused", onTransactions, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		check := types.TransactWriteItem{ConditionCheck: &types.ConditionCheck{TableName: &table, Key: item{"pk": s("0")}, ConditionExpression: aws.String("attribute_not_exists(pk)")}}
		for _, writes := range [][]types.TransactWriteItem{append(puts(table, 1), puts(table, 1)...), append(puts(table, 2), check)} {
			requireCode(t, c.transact(t, writes), "ValidationException")
		}
		require.Empty(t, c.all(t, table))
	}},
	{"transaction limits: an operation of two kinds, or of none, is refused", onTransactions, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		two := puts(table, 1)
		two[0].Delete = &types.Delete{TableName: &table, Key: item{"pk": s("1")}}
		refused(t, "two kinds", c.transact(t, two), "ValidationException")
		refused(t, "none", c.transact(t, append(puts(table, 1), types.TransactWriteItem{})), "ValidationException")
		require.Empty(t, c.all(t, table))
	}},
	{"transaction limits: an item over 400 KB is refused", onTransactions, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		writes := puts(table, 2)
		writes[1].Put.Item["v"] = s(filler(400 << 10))
		err := c.transact(t, writes)
		requireCode(t, err, "ValidationException", "TransactionCanceledException")
		if errorCode(err) == "TransactionCanceledException" {
			require.Equal(t, []string{"None", "ValidationError"}, codes(canceled(t, err)))
		}
		require.Empty(t, c.all(t, table))
		writes[1].Put.Item["v"] = s(filler(400<<10 - 4))
		require.NoError(t, c.transact(t, writes))
	}},
	{"transaction limits: over 4 MB in all is refused", onTransactions, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		writes := puts(table, 11)
		for i := range writes {
			writes[i].Put.Item["v"] = s(filler(390 << 10))
		}
		require.Error(t, c.transact(t, writes))
		require.Empty(t, c.all(t, table))
		require.NoError(t, c.transact(t, writes[:10]))
	}},
	{"transaction limits: an update that grows over 400 KB cancels with its position", onTransactions, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		c.put(t, table, item{"pk": s("big"), "v": s(filler(300 << 10))})
		err := c.transact(t, append(puts(table, 1), types.TransactWriteItem{Update: &types.Update{TableName: &table, Key: item{"pk": s("big")},
			UpdateExpression: aws.String("SET w = :w"), ExpressionAttributeValues: item{":w": s(filler(200 << 10))}}}))
		require.Equal(t, []string{"None", "ValidationError"}, codes(canceled(t, err)))
		require.Len(t, c.all(t, table), 1)
	}},
	{"transaction limits: an update that cannot be computed cancels with its position", onTransactions, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		c.put(t, table, item{"pk": s("text"), "v": s("x")})
		err := c.transact(t, append(puts(table, 1), types.TransactWriteItem{Update: &types.Update{TableName: &table, Key: item{"pk": s("text")},
			UpdateExpression: aws.String("SET v = v + :one"), ExpressionAttributeValues: item{":one": n(1)}}}))
		require.Equal(t, []string{"None", "ValidationError"}, codes(canceled(t, err)))
		require.Len(t, c.all(t, table), 1)
	}},
	{"transaction limits: keys that are missing, empty or of the wrong type are refused", onTransactions, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		for what, bad := range map[string]item{"missing": {"v": n(1)}, "empty": {"pk": s("")}, "wrong type": {"pk": n(1)}} {
			err := c.transact(t, append(puts(table, 1), types.TransactWriteItem{Put: &types.Put{TableName: &table, Item: bad}}))
			refused(t, what, err, "ValidationException", "TransactionCanceledException")
			if errorCode(err) == "TransactionCanceledException" {
				require.Equalf(t, []string{"None", "ValidationError"}, codes(canceled(t, err)), "%s", what)
			}
		}
		require.Empty(t, c.all(t, table))
	}},
	{"transaction limits: a broken expression is refused, not cancelled", onTransactions, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		for _, expression := range []string{"name = name2", "a = ", "a = :undefined"} {
			writes := puts(table, 2)
			writes[1].Put.ConditionExpression = &expression
			refused(t, expression, c.transact(t, writes), "ValidationException")
		}
		require.Empty(t, c.all(t, table))
	}},
	{"transaction limits: an unknown table is ResourceNotFoundException, and nothing is applied", onTransactions, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		requireCode(t, c.transact(t, append(puts(table, 1), puts(missing, 1)...)), "ResourceNotFoundException")
		require.Empty(t, c.all(t, table))
	}},
}

func gets(table string, keys ...string) []types.TransactGetItem {
	var out []types.TransactGetItem
	for _, k := range keys {
		out = append(out, types.TransactGetItem{Get: &types.Get{TableName: &table, Key: item{"pk": s(k)}}})
	}
	return out
}

var transactGetCases = []testCase{
	{"transaction reads: answers by position, an empty one where nothing is", onTransactions, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		c.put(t, table, item{"pk": s("1"), "v": n(1), "w": n(1)}, item{"pk": s("3"), "v": n(3)})
		in := gets(table, "3", "2", "1")
		in[2].Get.ProjectionExpression = aws.String("v")
		out, err := c.DynamoDB.TransactGetItems(t.Context(), &dynamodb.TransactGetItemsInput{TransactItems: in})
		require.NoError(t, err)
		require.Len(t, out.Responses, 3)
		require.Equal(t, item{"pk": s("3"), "v": n(3)}, out.Responses[0].Item)
		require.Empty(t, out.Responses[1].Item)
		require.Equal(t, item{"v": n(1)}, out.Responses[2].Item)
	}},
	{"transaction reads: 100 are answered, 101 are refused", onTransactions, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		require.NoError(t, c.transact(t, puts(table, 100)))
		var keys []string
		for i := range 100 {
			keys = append(keys, strconv.Itoa(i))
		}
		out, err := c.DynamoDB.TransactGetItems(t.Context(), &dynamodb.TransactGetItemsInput{TransactItems: gets(table, keys...)})
		require.NoError(t, err)
		require.Len(t, out.Responses, 100)
		for i, r := range out.Responses {
			require.Equal(t, strconv.Itoa(i), str(r.Item["pk"]))
		}
		_, err = c.DynamoDB.TransactGetItems(t.Context(), &dynamodb.TransactGetItemsInput{TransactItems: gets(table, append(keys, "100")...)})
		requireCode(t, err, "ValidationException")
	}},
	{"transaction reads: an unknown table is ResourceNotFoundException", onTransactions, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		_, err := c.DynamoDB.TransactGetItems(t.Context(), &dynamodb.TransactGetItemsInput{TransactItems: append(gets(table, "1"), gets(missing, "1")...)})
		requireCode(t, err, "ResourceNotFoundException")
	}},
}
