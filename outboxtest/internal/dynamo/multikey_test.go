package dynamo_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"
)

func multiKey(elements string) []types.KeySchemaElement {
	var out []types.KeySchemaElement
	for _, e := range strings.Fields(elements) {
		name, kind, _ := strings.Cut(e, ":")
		out = append(out, types.KeySchemaElement{AttributeName: &name, KeyType: types.KeyType(kind)})
	}
	return out
}

// multiIndexed is a table whose index has a key of two hash and three range attributes.
func multiIndexed(t *testing.T) *world {
	w := newWorld(t)
	_, err := w.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName: aws.String("rows"), BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: defsOf("pk:S", "h:S", "i:N", "a:S", "b:N", "c:B"), KeySchema: multiKey("pk:HASH"),
		GlobalSecondaryIndexes: []types.GlobalSecondaryIndex{{IndexName: aws.String("multi"), Projection: projectionOf("KEYS_ONLY"),
			KeySchema: multiKey("h:HASH i:HASH a:RANGE b:RANGE c:RANGE")}},
	})
	require.NoError(t, err)
	put := func(pk, i, a string, rest item) {
		it := item{"pk": s(pk), "h": s("o"), "i": n(i), "a": s(a), "other": s("x")}
		for k, v := range rest {
			it[k] = v
		}
		w.put("rows", it)
	}
	put("1", "1", "T", item{"b": n("10"), "c": b("x")})
	put("2", "1", "T", item{"b": n("9"), "c": b("y")})
	put("3", "1", "T", item{"b": n("9"), "c": b("xx")})
	put("4", "1", "T\x00", item{"b": n("1"), "c": b("x")})
	put("5", "1", "F", item{"b": n("-5"), "c": b("x")})
	put("6", "2", "T", item{"b": n("9"), "c": b("x")})
	put("7", "1", "T", item{"b": n("9")}) // no c, so it is not in the index
	return w
}

func TestIndexKeysOfSeveralAttributes(t *testing.T) {
	w := multiIndexed(t)
	values := item{":h": s("o"), ":i": n("1"), ":a": s("T"), ":b": n("9"), ":c": b("x"), ":d": b("xz")}
	query := func(condition string, options ...func(*dynamodb.QueryInput)) (*dynamodb.QueryOutput, error) {
		in := &dynamodb.QueryInput{TableName: aws.String("rows"), IndexName: aws.String("multi"), KeyConditionExpression: &condition, ExpressionAttributeValues: item{}}
		for name, v := range values {
			if strings.Contains(condition, name) {
				in.ExpressionAttributeValues[name] = v
			}
		}
		for _, o := range options {
			o(in)
		}
		return w.Query(t.Context(), in)
	}
	for condition, want := range map[string]string{
		"h = :h AND i = :i":                                               "5 3 2 1 4",
		"h = :h AND i = :i AND a = :a":                                    "3 2 1",
		"a = :a AND i = :i AND h = :h":                                    "3 2 1",
		"h = :h AND i = :i AND a < :a":                                    "5",
		"h = :h AND i = :i AND a <= :a":                                   "5 3 2 1",
		"h = :h AND i = :i AND a > :a":                                    "4",
		"h = :h AND i = :i AND a >= :a":                                   "3 2 1 4",
		"h = :h AND i = :i AND begins_with(a, :a)":                        "3 2 1 4",
		"h = :h AND i = :i AND a = :a AND b = :b":                         "3 2",
		"h = :h AND i = :i AND a = :a AND b > :b":                         "1",
		"h = :h AND i = :i AND a = :a AND b BETWEEN :b AND :b":            "3 2",
		"h = :h AND i = :i AND a = :a AND b = :b AND c = :c":              "",
		"h = :h AND i = :i AND a = :a AND b = :b AND c > :c":              "3 2",
		"h = :h AND i = :i AND a = :a AND b = :b AND begins_with(c, :c)":  "3",
		"h = :h AND i = :i AND a = :a AND b = :b AND c BETWEEN :c AND :d": "3",
	} {
		for _, forward := range []bool{true, false} {
			for _, limit := range []int32{1, 2, 100} {
				var got []string
				var start item
				for range 10 {
					out, err := query(condition, func(in *dynamodb.QueryInput) {
						in.ScanIndexForward, in.Limit, in.ExclusiveStartKey = &forward, &limit, start
					})
					require.NoError(t, err, condition)
					got = append(got, texts(out.Items, "pk")...)
					if start = out.LastEvaluatedKey; start == nil {
						break
					}
					require.Len(t, start, 6, "the table's key and all of the index's")
				}
				expected := strings.Fields(want)
				if !forward {
					slices.Reverse(expected)
				}
				require.Equal(t, strings.Join(expected, " "), strings.Join(got, " "), "%s, forward %v, limit %d", condition, forward, limit)
			}
		}
	}
	equality := func(names, of string) string {
		return "RANGE key attributes " + names + " must have equality conditions specified in the query because a condition is present on key attribute " + of
	}
	for condition, message := range map[string]string{
		"h = :h":                                  "HASH key attributes i must have equality conditions specified in the query",
		"h = :h AND i > :i":                       "HASH key attributes i must have equality conditions specified in the query",
		"h = :h AND i = :i AND b = :b":            equality("a", "b"),
		"h = :h AND i = :i AND a = :a AND c = :c": equality("b", "c"),
		"h = :h AND i = :i AND a > :a AND b = :b": equality("a", "b"),
		"h = :h AND i = :i AND c = :c":            equality("a, b", "c"),
		"h = :h AND i = :i AND a = :b":            "One or more parameter values were invalid: Condition parameter type does not match schema type",
	} {
		_, err := query(condition)
		require.Error(t, err, condition)
		requireInvalid(t, err, message)
	}
	// The old parameters know such keys, too.
	out, err := w.Query(t.Context(), &dynamodb.QueryInput{TableName: aws.String("rows"), IndexName: aws.String("multi"), KeyConditions: map[string]types.Condition{
		"h": conditionOf("EQ", s("o")), "i": conditionOf("EQ", n("1")), "a": conditionOf("EQ", s("T")), "b": conditionOf("GE", n("10"))}})
	require.NoError(t, err)
	require.Equal(t, []string{"1"}, texts(out.Items, "pk"))
	_, err = query("h = :h AND i = :i", func(in *dynamodb.QueryInput) {
		in.FilterExpression = aws.String("b = :b")
		in.ExpressionAttributeValues[":b"] = n("1")
	})
	requireInvalid(t, err, "Filter Expression can only contain non-primary key attributes: Primary key attribute: b")
	_, err = query("h = :h AND i = :i", func(in *dynamodb.QueryInput) { in.ExclusiveStartKey = item{"pk": s("1"), "h": s("o")} })
	requireInvalid(t, err, "The provided starting key is invalid")
	scan, err := w.Scan(t.Context(), &dynamodb.ScanInput{TableName: aws.String("rows"), IndexName: aws.String("multi")})
	require.NoError(t, err)
	require.Len(t, scan.Items, 6)
	require.Equal(t, item{"pk": s("6"), "h": s("o"), "i": n("2"), "a": s("T"), "b": n("9"), "c": b("x")}, scan.Items[slices.Index(texts(scan.Items, "pk"), "6")])

	// The index follows its items.
	_, err = w.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{TableName: aws.String("rows"), Key: item{"pk": s("2")}, UpdateExpression: aws.String("REMOVE c")})
	require.NoError(t, err)
	found, err := query("h = :h AND i = :i AND a = :a AND b = :b")
	require.NoError(t, err)
	require.Equal(t, []string{"3"}, texts(found.Items, "pk"))
	_, err = w.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("rows"), Item: item{"pk": s("8"), "b": s("no number")}})
	requireInvalid(t, err, "One or more parameter values were invalid: Type mismatch for Index Key b Expected: N Actual: S IndexName: multi")

	table, err := w.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: aws.String("rows")})
	require.NoError(t, err)
	require.Equal(t, multiKey("h:HASH i:HASH a:RANGE b:RANGE c:RANGE"), table.Table.GlobalSecondaryIndexes[0].KeySchema)
}

func TestIndexKeysThatAreRefused(t *testing.T) {
	w := newWorld(t)
	w.create("rows", "pk:S")
	for elements, message := range map[string]string{
		"a:HASH b:RANGE c:HASH":                          "Invalid KeySchema: HASH KeySchemaElements must precede RANGE KeySchemaElements",
		"a:HASH a:HASH":                                  "Both the Hash Key and the Range Key element in the KeySchema have the same name",
		"a:HASH b:HASH a:RANGE":                          "Both the Hash Key and the Range Key element in the KeySchema have the same name",
		"a:HASH b:HASH c:HASH d:HASH e:HASH":             "Invalid KeySchema: The number of HASH KeySchemaElements exceeds the limit of 4",
		"a:HASH b:RANGE c:RANGE d:RANGE e:RANGE f:RANGE": "Invalid KeySchema: The number of RANGE KeySchemaElements exceeds the limit of 4",
		"a:RANGE b:RANGE":                                "Invalid KeySchema: The first KeySchemaElement is not a HASH key type",
	} {
		_, err := w.UpdateTable(t.Context(), &dynamodb.UpdateTableInput{TableName: aws.String("rows"), AttributeDefinitions: defsOf("a:S", "b:S", "c:S", "d:S", "e:S", "f:S"),
			GlobalSecondaryIndexUpdates: []types.GlobalSecondaryIndexUpdate{{Create: &types.CreateGlobalSecondaryIndexAction{
				IndexName: aws.String("multi"), KeySchema: multiKey(elements), Projection: projectionOf("ALL")}}}})
		require.Error(t, err, elements)
		requireInvalid(t, err, message)
	}
}
