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

func TestQueryRangeAndOrder(t *testing.T) {
	w := newWorld(t)
	w.create("numbers", "pk:S", "sk:N")
	for _, v := range []string{"10", "9", "-1", "-10", "0", "0.5", "1e3", "-0.001"} {
		w.put("numbers", item{"pk": s("a"), "sk": n(v)})
		w.put("numbers", item{"pk": s("b"), "sk": n(v)})
	}
	w.create("strings", "pk:S", "sk:S")
	for _, v := range []string{"a", "ab", "abc", "b", "B", "é", "z"} {
		w.put("strings", item{"pk": s("a"), "sk": s(v)})
	}
	w.create("bytes", "pk:S", "sk:B")
	for _, v := range []string{"\x00", "\x7f", "\x80", "\xff", "\xff\xff"} {
		w.put("bytes", item{"pk": s("a"), "sk": b(v)})
	}
	for _, c := range []struct {
		table, condition string
		values           item
		want             []string
	}{
		{"numbers", "pk = :p", nil, []string{"-10", "-1", "-0.001", "0", "0.5", "9", "10", "1000"}},
		{"numbers", "pk = :p AND sk > :v", item{":v": n("0")}, []string{"0.5", "9", "10", "1000"}},
		{"numbers", "pk = :p AND sk >= :v", item{":v": n("0.0")}, []string{"0", "0.5", "9", "10", "1000"}},
		{"numbers", "pk = :p AND :v <= sk", item{":v": n("0.0")}, []string{"0", "0.5", "9", "10", "1000"}},
		{"numbers", "pk = :p AND sk < :v", item{":v": n("-0.5")}, []string{"-10", "-1"}},
		{"numbers", "sk <= :v AND pk = :p", item{":v": n("-1")}, []string{"-10", "-1"}},
		{"numbers", "pk = :p AND sk BETWEEN :v AND :w", item{":v": n("-1"), ":w": n("9")}, []string{"-1", "-0.001", "0", "0.5", "9"}},
		{"numbers", "(pk = :p) AND (sk = :v)", item{":v": n("10.00")}, []string{"10"}},
		{"strings", "pk = :p", nil, []string{"B", "a", "ab", "abc", "b", "z", "é"}},
		{"strings", "pk = :p AND begins_with(sk, :v)", item{":v": s("ab")}, []string{"ab", "abc"}},
		{"strings", "pk = :p AND sk > :v", item{":v": s("a")}, []string{"ab", "abc", "b", "z", "é"}},
		{"bytes", "pk = :p", nil, []string{"\x00", "\x7f", "\x80", "\xff", "\xff\xff"}},
		{"bytes", "pk = :p AND begins_with(sk, :v)", item{":v": b("\xff")}, []string{"\xff", "\xff\xff"}},
	} {
		t.Run(c.table+" "+c.condition, func(t *testing.T) {
			values := item{":p": s("a")}
			for k, v := range c.values {
				values[k] = v
			}
			for _, forward := range []bool{true, false} {
				want := append([]string{}, c.want...)
				if !forward {
					for i, j := 0, len(want)-1; i < j; i, j = i+1, j-1 {
						want[i], want[j] = want[j], want[i]
					}
				}
				in := &dynamodb.QueryInput{
					TableName: &c.table, KeyConditionExpression: &c.condition, ExpressionAttributeValues: values,
					ScanIndexForward: &forward,
				}
				out, err := w.Query(t.Context(), in)
				require.NoError(t, err)
				require.Equal(t, want, texts(out.Items, "sk"))
				require.Equal(t, int32(len(want)), out.Count)
				require.Nil(t, out.LastEvaluatedKey)

				// The same, one item at a time.
				var paged []string
				in.Limit = aws.Int32(1)
				for p := dynamodb.NewQueryPaginator(w.Client, in); p.HasMorePages(); {
					page, err := p.NextPage(t.Context())
					require.NoError(t, err)
					require.LessOrEqual(t, len(page.Items), 1)
					paged = append(paged, texts(page.Items, "sk")...)
				}
				require.Equal(t, want, paged)
			}
		})
	}
}

func TestQueryForAKeyThatOthersBeginWith(t *testing.T) {
	w := newWorld(t)
	w.create("texts", "pk:S", "sk:S")
	for _, sk := range []string{"a", "a\x00", "ab", "\xc3\xbf", "\xc3\xbf1"} {
		w.put("texts", item{"pk": s("p"), "sk": s(sk)})
	}
	for _, sk := range []string{"a", "a\x00", "ab", "\xc3\xbf"} {
		for _, forward := range []bool{true, false} {
			out, err := w.Query(t.Context(), &dynamodb.QueryInput{TableName: aws.String("texts"), KeyConditionExpression: aws.String("pk = :p AND sk = :s"),
				ExpressionAttributeValues: item{":p": s("p"), ":s": s(sk)}, ScanIndexForward: &forward})
			require.NoError(t, err)
			require.Equal(t, []string{sk}, texts(out.Items, "sk"))
		}
	}
}

func TestQueryPagesAtOneMegabyte(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S", "sk:N")
	for i := range 5 {
		w.put("rows", item{"pk": s("a"), "sk": n(fmt.Sprint(i)), "v": s(strings.Repeat("x", 300<<10))})
	}
	out, err := w.Query(t.Context(), &dynamodb.QueryInput{
		TableName: aws.String("rows"), KeyConditionExpression: aws.String("pk = :p"), ExpressionAttributeValues: item{":p": s("a")},
		Select: types.SelectCount, ReturnConsumedCapacity: types.ReturnConsumedCapacityTotal,
	})
	require.NoError(t, err)
	require.Equal(t, int32(4), out.Count)
	require.Empty(t, out.Items)
	require.Equal(t, item{"pk": s("a"), "sk": n("3")}, out.LastEvaluatedKey)
	require.Equal(t, 150.5, *out.ConsumedCapacity.CapacityUnits)
}

func TestQueryFilterAndProjection(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S", "sk:N")
	for i := range 6 {
		w.put("rows", item{"pk": s("a"), "sk": n(fmt.Sprint(i)), "even": &types.AttributeValueMemberBOOL{Value: i%2 == 0}, "m": m(item{"x": n("1"), "y": n("2")})})
	}
	out, err := w.Query(t.Context(), &dynamodb.QueryInput{
		TableName: aws.String("rows"), KeyConditionExpression: aws.String("pk = :p"), FilterExpression: aws.String("even = :t"),
		ProjectionExpression: aws.String("sk, m.x"), Limit: aws.Int32(4),
		ExpressionAttributeValues: item{":p": s("a"), ":t": &types.AttributeValueMemberBOOL{Value: true}},
	})
	require.NoError(t, err)
	require.Equal(t, []item{{"sk": n("0"), "m": m(item{"x": n("1")})}, {"sk": n("2"), "m": m(item{"x": n("1")})}}, out.Items)
	require.Equal(t, int32(4), out.ScannedCount)
	require.Equal(t, item{"pk": s("a"), "sk": n("3")}, out.LastEvaluatedKey)
}

func TestQueryRefusals(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S", "sk:N")
	w.create("plain", "pk:S")
	for _, c := range []struct {
		in      dynamodb.QueryInput
		message string
	}{
		{dynamodb.QueryInput{}, "Either the KeyConditions or KeyConditionExpression parameter must be specified in the request."},
		{dynamodb.QueryInput{KeyConditionExpression: aws.String("sk = :n")}, "Query condition missed key schema element: pk"},
		{dynamodb.QueryInput{KeyConditionExpression: aws.String("pk = :s AND z = :n")}, "Query condition missed key schema element: sk"},
		{dynamodb.QueryInput{KeyConditionExpression: aws.String("pk > :s")}, "Query key condition not supported"},
		{dynamodb.QueryInput{KeyConditionExpression: aws.String("pk = :n")}, "One or more parameter values were invalid: Condition parameter type does not match schema type"},
		{dynamodb.QueryInput{KeyConditionExpression: aws.String("pk = :s OR sk = :n")}, "Invalid operator used in KeyConditionExpression: OR"},
		{dynamodb.QueryInput{KeyConditionExpression: aws.String("pk = :s AND sk <> :n")}, "Invalid operator used in KeyConditionExpression: <>"},
		{dynamodb.QueryInput{KeyConditionExpression: aws.String("pk = :s"), FilterExpression: aws.String("sk = :n")},
			"Filter Expression can only contain non-primary key attributes: Primary key attribute: sk"},
		{dynamodb.QueryInput{KeyConditionExpression: aws.String("pk = :s"), IndexName: aws.String("none")}, "The table does not have the specified index: none"},
		{dynamodb.QueryInput{KeyConditionExpression: aws.String("pk = :s"), ExclusiveStartKey: item{"pk": s("a")}}, "The provided starting key is invalid"},
		{dynamodb.QueryInput{KeyConditionExpression: aws.String("pk = :s"), ExclusiveStartKey: item{"pk": s("b"), "sk": n("1")}},
			"The provided starting key is outside query boundaries based on provided conditions"},
		{dynamodb.QueryInput{KeyConditionExpression: aws.String("pk = :s"), Limit: aws.Int32(0)},
			"1 validation error detected: Value at 'Limit' failed to satisfy constraint: Member must have value greater than or equal to 1"},
		{dynamodb.QueryInput{KeyConditionExpression: aws.String("pk = :s"), Select: types.SelectSpecificAttributes},
			"1 validation error detected: Must specify the AttributesToGet or ProjectionExpression when choosing to get SPECIFIC_ATTRIBUTES"},
	} {
		t.Run(c.message, func(t *testing.T) {
			c.in.TableName = aws.String("rows")
			used := aws.ToString(c.in.KeyConditionExpression) + aws.ToString(c.in.FilterExpression)
			for name, v := range (item{":s": s("a"), ":n": n("1")}) {
				if strings.Contains(used, name) {
					if c.in.ExpressionAttributeValues == nil {
						c.in.ExpressionAttributeValues = item{}
					}
					c.in.ExpressionAttributeValues[name] = v
				}
			}
			_, err := w.Query(t.Context(), &c.in)
			requireInvalid(t, err, c.message)
		})
	}
	_, err := w.Query(t.Context(), &dynamodb.QueryInput{TableName: aws.String("plain"), KeyConditionExpression: aws.String("pk = :s AND sk = :s"),
		ExpressionAttributeValues: item{":s": s("a")}})
	requireInvalid(t, err, "Query key condition not supported")
}

// A partition of a table without a sort key has one item, so there is nothing to go on with: neither does an answer say where to, nor may
// a request. In an index it may have many.
func TestAQueryOfOneItemCannotBeRestarted(t *testing.T) {
	w := newWorld(t)
	w.create("plain", "pk:S")
	w.put("plain", item{"pk": s("a")})
	query := func(start item) (*dynamodb.QueryOutput, error) {
		return w.Query(t.Context(), &dynamodb.QueryInput{TableName: aws.String("plain"), KeyConditionExpression: aws.String("pk = :s"), Limit: aws.Int32(1),
			ExpressionAttributeValues: item{":s": s("a")}, ExclusiveStartKey: start})
	}
	out, err := query(nil)
	require.NoError(t, err)
	require.Len(t, out.Items, 1)
	require.Nil(t, out.LastEvaluatedKey)
	_, err = query(item{"pk": s("a")})
	requireInvalid(t, err, "The query can return at most one row and cannot be restarted")
	_, err = query(item{"pk": s("b")})
	requireInvalid(t, err, "The provided starting key is outside query boundaries based on provided conditions")
	_, err = query(item{"pk": s("a"), "more": s("x")})
	requireInvalid(t, err, "The provided starting key is invalid")
}
