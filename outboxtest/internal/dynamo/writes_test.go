package dynamo_test

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/dynamo"
)

func TestUpdateItemReturnsWhatWasAsked(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	update := func(expression string, returns types.ReturnValue, values item) item {
		t.Helper()
		out, err := w.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
			TableName: aws.String("rows"), Key: item{"pk": s("a")}, UpdateExpression: &expression,
			ExpressionAttributeValues: values, ReturnValues: returns,
		})
		require.NoError(t, err)
		return out.Attributes
	}
	require.Equal(t, item{"v": n("1")}, update("SET v = if_not_exists(v, :z) + :one", types.ReturnValueUpdatedNew, item{":z": n("0"), ":one": n("1")}))
	require.Equal(t, item{"v": n("1")}, update("SET v = v + :one", types.ReturnValueUpdatedOld, item{":one": n("1")}))
	require.Equal(t, item{"pk": s("a"), "v": n("2")}, update("SET l = :l", types.ReturnValueAllOld, item{":l": l(n("1"))}))
	require.Equal(t, item{"pk": s("a"), "v": n("2"), "l": l(n("1"), s("x")), "labels": ss("p", "q")},
		update("SET l = list_append(l, :l) ADD labels :s", types.ReturnValueAllNew, item{":l": l(s("x")), ":s": ss("p", "q")}))
	require.Nil(t, update("REMOVE l[0]", types.ReturnValueNone, nil))
	require.Len(t, w.taken(), 5)
	require.Empty(t, update("SET v = v", types.ReturnValueNone, nil))
	require.Empty(t, w.taken(), "nothing changed")
}

func TestUpdateItemRefusals(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	w.put("rows", item{"pk": s("a"), "v": s("text")})
	for _, c := range []struct {
		expression, message string
		values              item
	}{
		{"SET pk = :v", "One or more parameter values were invalid: Cannot update attribute pk. This attribute is part of the key", item{":v": s("b")}},
		{"SET v = v + :v", "An operand in the update expression has an incorrect data type", item{":v": n("1")}},
		{"SET v = nowhere", "The provided expression refers to an attribute that does not exist in the item", nil},
		{"SET a.b = :v", "The document path provided in the update expression is invalid for update", item{":v": n("1")}},
		{"SET v = :v, v = :v", "1 validation error detected: Invalid UpdateExpression: Two document paths overlap with each other; " +
			"must remove or rewrite one of these paths; path one: [v], path two: [v]", item{":v": n("1")}},
		{"SET v = :w", "1 validation error detected: Invalid UpdateExpression: An expression attribute value used in expression is not defined; attribute value: :w", item{":v": n("1")}},
		{"SET w = :v", "Item size to update has exceeded the maximum allowed size", item{":v": s(strings.Repeat("x", 400<<10))}},
	} {
		_, err := w.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
			TableName: aws.String("rows"), Key: item{"pk": s("a")}, UpdateExpression: &c.expression, ExpressionAttributeValues: c.values,
		})
		requireInvalid(t, err, c.message)
	}
	require.Equal(t, item{"pk": s("a"), "v": s("text")}, w.get("rows", item{"pk": s("a")}))
}

func TestDeleteItem(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	w.put("rows", item{"pk": s("a"), "v": n("1")})
	w.taken()
	in := &dynamodb.DeleteItemInput{TableName: aws.String("rows"), Key: item{"pk": s("a")}, ReturnValues: types.ReturnValueAllOld,
		ConditionExpression: aws.String("v > :v"), ExpressionAttributeValues: item{":v": n("1")},
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld}
	_, err := w.DeleteItem(t.Context(), in)
	var failed *types.ConditionalCheckFailedException
	require.ErrorAs(t, err, &failed)
	require.Equal(t, "The conditional request failed", failed.ErrorMessage())
	require.Equal(t, item{"pk": s("a"), "v": n("1")}, failed.Item)
	in.ConditionExpression = aws.String("v >= :v")
	out, err := w.DeleteItem(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, item{"pk": s("a"), "v": n("1")}, out.Attributes)
	require.Nil(t, w.get("rows", item{"pk": s("a")}))
	in.ConditionExpression, in.ExpressionAttributeValues = nil, nil
	out, err = w.DeleteItem(t.Context(), in)
	require.NoError(t, err)
	require.Nil(t, out.Attributes)
	changes := w.taken()
	require.Len(t, changes, 1)
	require.Equal(t, "REMOVE", changes[0].Kind)
}

func TestScanPagesAndSegments(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S", "sk:N")
	const rows = 60
	for i := range rows {
		w.put("rows", item{"pk": s(strconv.Itoa(i % 20)), "sk": n(strconv.Itoa(i)), "even": n(strconv.Itoa(i % 2))})
	}
	for _, total := range []int32{1, 2, 3, 7} {
		seen := make(map[string]int)
		for segment := range total {
			in := &dynamodb.ScanInput{TableName: aws.String("rows"), Segment: aws.Int32(segment), TotalSegments: aws.Int32(total),
				Limit: aws.Int32(4), FilterExpression: aws.String("even = :e"), ExpressionAttributeValues: item{":e": n("0")},
				ProjectionExpression: aws.String("sk")}
			for {
				out, err := w.Scan(t.Context(), in)
				require.NoError(t, err)
				for _, it := range out.Items {
					require.Len(t, it, 1)
					seen[it["sk"].(*types.AttributeValueMemberN).Value]++
				}
				if in.ExclusiveStartKey = out.LastEvaluatedKey; in.ExclusiveStartKey == nil {
					break
				}
			}
		}
		require.Len(t, seen, rows/2, "with %d segments", total)
		for sk, times := range seen {
			require.Equal(t, 1, times, "%s with %d segments", sk, total)
		}
	}
	_, err := w.Scan(t.Context(), &dynamodb.ScanInput{TableName: aws.String("rows"), Segment: aws.Int32(2), TotalSegments: aws.Int32(2)})
	requireInvalid(t, err, "The Segment parameter is zero-based and must be less than parameter TotalSegments: Segment: 2 is not less than TotalSegments: 2")
	_, err = w.Scan(t.Context(), &dynamodb.ScanInput{TableName: aws.String("rows"), ExclusiveStartKey: item{"pk": s("a")}})
	requireInvalid(t, err, "The provided starting key is invalid: The provided key element does not match the schema")
}

func TestListAndDeleteTables(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"charlie", "alpha", "bravo"} {
		w.create(name, "pk:S")
	}
	out, err := w.ListTables(t.Context(), &dynamodb.ListTablesInput{Limit: aws.Int32(2)})
	require.NoError(t, err)
	require.Equal(t, []string{"alpha", "bravo"}, out.TableNames)
	require.Equal(t, "bravo", *out.LastEvaluatedTableName)
	out, err = w.ListTables(t.Context(), &dynamodb.ListTablesInput{ExclusiveStartTableName: out.LastEvaluatedTableName})
	require.NoError(t, err)
	require.Equal(t, []string{"charlie"}, out.TableNames)
	require.Nil(t, out.LastEvaluatedTableName)
	deleted, err := w.DeleteTable(t.Context(), &dynamodb.DeleteTableInput{TableName: aws.String("alpha")})
	require.NoError(t, err)
	require.Equal(t, types.TableStatusDeleting, deleted.TableDescription.TableStatus)
	_, err = w.DeleteTable(t.Context(), &dynamodb.DeleteTableInput{TableName: aws.String("alpha")})
	requireError(t, err, "ResourceNotFoundException", "Requested resource not found: Table: alpha not found")
	_, err = w.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: aws.String("alpha")})
	requireError(t, err, "ResourceNotFoundException", "Requested resource not found: Table: alpha not found")
}

// TestChangesComeInCommitOrder moves money between accounts from many goroutines: the sum never
// changes for any reader, and the changes add up to what is stored.
func TestChangesComeInCommitOrder(t *testing.T) {
	w := newWorld(t)
	w.create("accounts", "pk:S")
	w.create("log", "pk:S")
	for _, name := range []string{"a", "b", "c"} {
		w.put("accounts", item{"pk": s(name), "v": n("100")})
	}
	w.taken()
	names := []string{"a", "b", "c"}
	move := func(worker, i int) error {
		change := func(name, by string) types.TransactWriteItem {
			return types.TransactWriteItem{Update: &types.Update{TableName: aws.String("accounts"), Key: item{"pk": s(name)},
				UpdateExpression: aws.String("ADD v :by"), ExpressionAttributeValues: item{":by": n(by)}}}
		}
		return w.transact("", change(names[worker%3], "-1"), change(names[(worker+1)%3], "1"),
			putOf("log", item{"pk": s(fmt.Sprint(worker, "-", i))}, "attribute_not_exists(pk)"))
	}
	var wg sync.WaitGroup
	errs := make(chan error, 6*25)
	for worker := range 6 {
		wg.Go(func() {
			for i := range 25 {
				errs <- move(worker, i)
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	current := make(map[string]string)
	for _, name := range names {
		current[name] = "100"
	}
	changes := w.taken()
	require.Len(t, changes, 6*25*3)
	for _, c := range changes {
		if c.Table == "accounts" {
			name := c.Keys["pk"].Text()
			require.Equal(t, current[name], c.Old["v"].Text(), "every change starts where the last one ended")
			current[name] = c.New["v"].Text()
		}
	}
	for _, name := range names {
		require.Equal(t, n(current[name]), w.get("accounts", item{"pk": s(name)})["v"])
	}
}

func TestOnChangeMayRead(t *testing.T) {
	var w *world
	var read any
	w = newWorld(t, func(c *dynamo.Config) {
		c.OnChange = func(dynamo.Change) {
			read, _ = w.db.Do(t.Context(), "GetItem", []byte(`{"TableName":"rows","Key":{"pk":{"S":"a"}}}`))
		}
	})
	w.create("rows", "pk:S")
	w.put("rows", item{"pk": s("a")})
	body, err := json.Marshal(read)
	require.NoError(t, err)
	require.JSONEq(t, `{"Item":{"pk":{"S":"a"}}}`, string(body))
}

func TestTheBodyOfACancelledTransaction(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	post := func(operation, body string) (*http.Response, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url, strings.NewReader(body))
		require.NoError(t, err)
		r.Header.Set("X-Amz-Target", "DynamoDB_20120810."+operation)
		response, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		answer, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, strconv.FormatUint(uint64(crc32.ChecksumIEEE(answer)), 10), response.Header.Get("X-Amz-Crc32"))
		require.Len(t, response.Header.Get("X-Amzn-Requestid"), 52)
		return response, string(answer)
	}
	response, answer := post("TransactWriteItems", `{"TransactItems":[{"Put":{"TableName":"rows","Item":{"pk":{"S":"a"}}}},`+
		`{"ConditionCheck":{"TableName":"rows","Key":{"pk":{"S":"b"}},"ConditionExpression":"attribute_exists(pk)"}}]}`)
	require.Equal(t, http.StatusBadRequest, response.StatusCode)
	require.JSONEq(t, `{"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
		"Message":"Transaction cancelled, please refer cancellation reasons for specific reasons [None, ConditionalCheckFailed]",
		"CancellationReasons":[{"Code":"None"},{"Code":"ConditionalCheckFailed","Message":"The conditional request failed"}]}`, answer)
	_, answer = post("PutItem", `{"TableName":`)
	require.JSONEq(t, `{"__type":"com.amazon.coral.service#SerializationException"}`, answer)
	_, answer = post("ExecuteStatement", `{}`)
	require.JSONEq(t, `{"__type":"com.amazon.coral.service#UnknownOperationException","message":"outboxtest does not emulate ExecuteStatement of DynamoDB"}`, answer)
}
