package integration

import (
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"
)

// Single items: what can be stored, and what comes back.
var itemCases = []testCase{
	{"items: every type of attribute comes back as it was", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		in := item{
			"pk": s("1"), "s": s("é\n\"\u2028"), "empty": s(""), "n": n("-12.5"), "b": b("\x00\xff"), "yes": yes(true), "no": yes(false), "null": null(),
			"l": l(s("x"), n(1), m(item{})), "m": m(item{"a.b": m(item{"c": n(7)})}), "ss": ss("b"), "ns": ns("2"), "bs": bs("y"),
		}
		c.put(t, table, in)
		require.Equal(t, in, c.get(t, table, item{"pk": s("1")}))
	}},
	{"items: sets come back with all their members", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		c.put(t, table, item{"pk": s("1"), "ss": ss("b", "a", ""), "ns": ns("2", "1.50"), "bs": bs("y", "x")})
		got := c.get(t, table, item{"pk": s("1")})
		require.ElementsMatch(t, []string{"a", "b", ""}, got["ss"].(*types.AttributeValueMemberSS).Value)
		require.ElementsMatch(t, []string{"1.5", "2"}, got["ns"].(*types.AttributeValueMemberNS).Value)
		require.ElementsMatch(t, [][]byte{[]byte("x"), []byte("y")}, got["bs"].(*types.AttributeValueMemberBS).Value)
	}},
	{"items: a missing item is no error and no item", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		require.Nil(t, c.get(t, table, item{"pk": s("nothing")}))
	}},
	{"items: a put replaces the whole item and returns the old one", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		c.put(t, table, item{"pk": s("1"), "a": s("x")})
		out, err := c.DynamoDB.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &table, Item: item{"pk": s("1"), "b": s("y")}, ReturnValues: types.ReturnValueAllOld})
		require.NoError(t, err)
		require.Equal(t, item{"pk": s("1"), "a": s("x")}, out.Attributes)
		require.Equal(t, item{"pk": s("1"), "b": s("y")}, c.get(t, table, item{"pk": s("1")}))
	}},
	{"items: a delete returns the old item, and is a success without one", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		c.put(t, table, item{"pk": s("1"), "a": s("x")})
		remove := func() item {
			out, err := c.DynamoDB.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: &table, Key: item{"pk": s("1")}, ReturnValues: types.ReturnValueAllOld})
			require.NoError(t, err)
			return out.Attributes
		}
		require.Equal(t, item{"pk": s("1"), "a": s("x")}, remove())
		require.Empty(t, remove())
		require.Nil(t, c.get(t, table, item{"pk": s("1")}))
	}},
	{"items: numbers lose their superfluous zeros and nothing else", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		for in, want := range map[string]string{
			"1.50": "1.5", "0010": "10", "-0": "0", "1e3": "1000", "1E-3": "0.001", "0.0": "0", ".5": "0.5",
			"12345678901234567890123456789012345678":    "12345678901234567890123456789012345678",
			"-0.12345678901234567890123456789012345678": "-0.12345678901234567890123456789012345678",
		} {
			c.put(t, table, item{"pk": s("1"), "n": n(in)})
			require.Equalf(t, want, str(c.get(t, table, item{"pk": s("1")})["n"]), "of %s", in)
		}
	}},
	{"items: numbers with more than 38 digits or beyond the range are refused", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		for _, in := range []string{"123456789012345678901234567890123456789", "1e126", "-1e126", "1e-131", "x", "", "1_0", "NaN", "Infinity", "0x10"} {
			_, err := c.DynamoDB.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &table, Item: item{"pk": s("1"), "n": n(in)}})
			refused(t, fmt.Sprintf("number %q", in), err, "ValidationException", "SerializationException")
		}
		require.Nil(t, c.get(t, table, item{"pk": s("1")}))
	}},
	{"items: equal numbers are the same key", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:N")
		c.put(t, table, item{"pk": n("1.0"), "a": s("x")}, item{"pk": n("1"), "a": s("y")})
		require.Equal(t, item{"pk": n("1"), "a": s("y")}, c.get(t, table, item{"pk": n("1.00")}))
		require.Len(t, c.all(t, table), 1)
	}},
	{"items: empty, missing and wrongly typed keys are refused", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S sk:N")
		for what, key := range map[string]item{
			"empty": {"pk": s(""), "sk": n(1)}, "no hash": {"sk": n(1)}, "no sort": {"pk": s("1")},
			"wrong hash": {"pk": n(1), "sk": n(1)}, "wrong sort": {"pk": s("1"), "sk": s("1")},
		} {
			_, err := c.DynamoDB.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &table, Item: key})
			refused(t, "put: "+what, err, "ValidationException")
			_, err = c.DynamoDB.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: &table, Key: key})
			refused(t, "get: "+what, err, "ValidationException")
		}
		_, err := c.DynamoDB.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: &table, Key: item{"pk": s("1"), "sk": n(1), "more": n(1)}})
		refused(t, "get: more than the key", err, "ValidationException")
	}},
	{"items: a hash key has at most 2048 bytes, a sort key 1024", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S sk:S")
		c.put(t, table, item{"pk": s(filler(2048)), "sk": s(filler(1024))})
		for _, key := range []item{{"pk": s(filler(2049)), "sk": s("1")}, {"pk": s("1"), "sk": s(filler(1025))}} {
			_, err := c.DynamoDB.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &table, Item: key})
			requireCode(t, err, "ValidationException")
		}
	}},
	{"items: empty sets and sets with a member twice are refused", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		for _, v := range []types.AttributeValue{
			ss(), ns(), bs(), ss("a", "a"), ns("1", "1.0"), bs("x", "x"), l(m(item{"deep": ss()})),
		} {
			_, err := c.DynamoDB.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &table, Item: item{"pk": s("1"), "v": v}})
			refused(t, fmt.Sprintf("%T %v", v, v), err, "ValidationException")
		}
	}},
	{"items: an item of 409,600 bytes is stored, one more is refused", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		// Names count: "pk" and "1", "v" and the value.
		c.put(t, table, item{"pk": s("1"), "v": s(filler(400<<10 - 4))})
		_, err := c.DynamoDB.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &table, Item: item{"pk": s("2"), "v": s(filler(400<<10 - 3))}})
		requireCode(t, err, "ValidationException")
		require.Len(t, c.all(t, table), 1)
	}},
	{"items: a value nests 32 levels and no more", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		nested := func(levels int) types.AttributeValue {
			v := s("x")
			for range levels {
				v = l(v)
			}
			return v
		}
		c.put(t, table, item{"pk": s("1"), "v": nested(30)})
		_, err := c.DynamoDB.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &table, Item: item{"pk": s("1"), "v": nested(33)}})
		requireCode(t, err, "ValidationException")
	}},
	{"items: an operand of a transaction nests one level more", onTransactions, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		nested := func(levels int) types.AttributeValue {
			v := s("x")
			for range levels {
				v = m(item{"n": v})
			}
			return v
		}
		c.put(t, table, item{"pk": s("1"), "v": nested(31)})
		check := func(levels int) error {
			_, err := c.DynamoDB.TransactWriteItems(t.Context(), &dynamodb.TransactWriteItemsInput{TransactItems: []types.TransactWriteItem{{ConditionCheck: &types.ConditionCheck{
				TableName: &table, Key: item{"pk": s("1")}, ConditionExpression: aws.String("v <> :v"), ExpressionAttributeValues: item{":v": nested(levels)}}}}})
			return err
		}
		require.NoError(t, check(32))
		requireCode(t, check(33), "ValidationException")
	}},
	{"items: a projection picks attributes, members and elements", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		c.put(t, table, item{"pk": s("1"), "a": s("x"), "m": m(item{"p": n(1), "q": n(2)}), "l": l(n(1), n(2), n(3)), "name": s("reserved")})
		get := func(projection string, names map[string]string) (item, error) {
			out, err := c.DynamoDB.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: &table, Key: item{"pk": s("1")},
				ProjectionExpression: &projection, ExpressionAttributeNames: names})
			if err != nil {
				return nil, err
			}
			return out.Item, nil
		}
		got, err := get("a, m.q, l[2], l[0], #n, nothing, m.nothing", map[string]string{"#n": "name"})
		require.NoError(t, err)
		require.Equal(t, item{"a": s("x"), "m": m(item{"q": n(2)}), "l": l(n(1), n(3)), "name": s("reserved")}, got)
		_, err = get("name", nil)
		requireCode(t, err, "ValidationException")
		_, err = get("m, m.q", nil)
		requireCode(t, err, "ValidationException")
	}},
	{"items: consumed capacity counts 4 KB read and 1 KB written, a weak read half", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		put, err := c.DynamoDB.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &table, Item: item{"pk": s("1"), "v": s(filler(5000))},
			ReturnConsumedCapacity: types.ReturnConsumedCapacityTotal})
		require.NoError(t, err)
		require.NotNil(t, put.ConsumedCapacity)
		require.InDelta(t, 5, aws.ToFloat64(put.ConsumedCapacity.CapacityUnits), 0)
		require.Equal(t, table, aws.ToString(put.ConsumedCapacity.TableName))
		for _, consistent := range []bool{true, false} {
			want := map[bool]float64{true: 2, false: 1}[consistent]
			get, err := c.DynamoDB.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: &table, Key: item{"pk": s("1")}, ConsistentRead: &consistent,
				ReturnConsumedCapacity: types.ReturnConsumedCapacityTotal})
			require.NoError(t, err)
			require.NotNil(t, get.ConsumedCapacity)
			require.InDeltaf(t, want, aws.ToFloat64(get.ConsumedCapacity.CapacityUnits), 0, "consistent: %t", consistent)
		}
	}},
	{"items: an unknown table is ResourceNotFoundException", onTables, func(t *trial, c clients) {
		_, err := c.DynamoDB.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String(missing), Item: item{"pk": s("1")}})
		requireCode(t, err, "ResourceNotFoundException")
		_, err = c.DynamoDB.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: aws.String(missing), Key: item{"pk": s("1")}})
		requireCode(t, err, "ResourceNotFoundException")
	}},
	{"items: an ARN stands for the table's name", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		out, err := c.DynamoDB.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: &table})
		require.NoError(t, err)
		c.put(t, aws.ToString(out.Table.TableArn), item{"pk": s("1")})
		require.NotNil(t, c.get(t, table, item{"pk": s("1")}))
	}},
}

// Conditions of single writes.
var conditionCases = []testCase{
	{"conditions: a put on a taken key is ConditionalCheckFailedException", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		put := func(v string) error {
			_, err := c.DynamoDB.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &table, Item: item{"pk": s("1"), "v": s(v)},
				ConditionExpression: aws.String("attribute_not_exists(pk)")})
			return err
		}
		require.NoError(t, put("first"))
		err := put("second")
		requireCode(t, err, "ConditionalCheckFailedException")
		require.ErrorContains(t, err, "The conditional request failed")
		require.Equal(t, "first", str(c.get(t, table, item{"pk": s("1")})["v"]))
	}},
	{"conditions: the item that failed one comes back with ALL_OLD", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		stored := item{"pk": s("1"), "v": s("x")}
		c.put(t, table, stored)
		old := types.ReturnValuesOnConditionCheckFailureAllOld
		never, key := aws.String("attribute_not_exists(pk)"), item{"pk": s("1")}
		_, put := c.DynamoDB.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &table, Item: key, ConditionExpression: never, ReturnValuesOnConditionCheckFailure: old})
		_, update := c.DynamoDB.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{TableName: &table, Key: key, ConditionExpression: never, ReturnValuesOnConditionCheckFailure: old})
		_, del := c.DynamoDB.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: &table, Key: key, ConditionExpression: never, ReturnValuesOnConditionCheckFailure: old})
		for what, err := range map[string]error{"put": put, "update": update, "delete": del} {
			var failed *types.ConditionalCheckFailedException
			require.ErrorAsf(t, err, &failed, "%s", what)
			require.Equalf(t, stored, failed.Item, "%s", what)
		}
	}},
	{"conditions: every operator and function", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		c.put(t, table, conditionItem)
		for expression, want := range conditionTable {
			require.Equalf(t, want, c.holds(t, table, expression), "condition %q", expression)
		}
	}},
	{"conditions: a comparison with a missing attribute is false, unless it is for being unequal", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		c.put(t, table, conditionItem)
		for expression, want := range map[string]bool{
			"nothing = :one": false, "nothing < :one": false, "nothing <> :one": true, "NOT nothing = :one": true,
			"nothing IN (:one)": false, "nothing BETWEEN :one AND :two": false, "size(nothing) > :zero": false, "contains(nothing, :x)": false,
		} {
			require.Equalf(t, want, c.holds(t, table, expression), "condition %q", expression)
		}
	}},
	{"conditions: what cannot be read is refused, and changes nothing", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		for what, in := range map[string]*dynamodb.PutItemInput{
			"reserved word":      {ConditionExpression: aws.String("name = :v"), ExpressionAttributeValues: item{":v": n(1)}},
			"syntax":             {ConditionExpression: aws.String("a = = :v"), ExpressionAttributeValues: item{":v": n(1)}},
			"empty":              {ConditionExpression: aws.String("")},
			"undefined value":    {ConditionExpression: aws.String("a = :w"), ExpressionAttributeValues: item{":v": n(1)}},
			"undefined name":     {ConditionExpression: aws.String("attribute_exists(#a)")},
			"unknown function":   {ConditionExpression: aws.String("attribute_is_nice(a)")},
			"number of operands": {ConditionExpression: aws.String("begins_with(a)")},
			"no function in =":   {ConditionExpression: aws.String("attribute_exists(a) = :v"), ExpressionAttributeValues: item{":v": yes(true)}},
			"operator's types":   {ConditionExpression: aws.String("a < :v"), ExpressionAttributeValues: item{":v": yes(true)}},
			"type name":          {ConditionExpression: aws.String("attribute_type(a, :v)"), ExpressionAttributeValues: item{":v": s("X")}},
			"same operand":       {ConditionExpression: aws.String("a = a")},
			"BETWEEN reversed":   {ConditionExpression: aws.String("a BETWEEN :w AND :v"), ExpressionAttributeValues: item{":v": n(1), ":w": n(2)}},
		} {
			in.TableName, in.Item = &table, item{"pk": s("1")}
			_, err := c.DynamoDB.PutItem(t.Context(), in)
			refused(t, what, err, "ValidationException")
		}
		require.Empty(t, c.all(t, table))
	}},
	{"conditions: names and values that are not used are refused", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		for what, in := range map[string]*dynamodb.PutItemInput{
			"value":                 {ConditionExpression: aws.String("a = :v"), ExpressionAttributeValues: item{":v": n(1), ":w": n(1)}},
			"name":                  {ConditionExpression: aws.String("attribute_exists(a)"), ExpressionAttributeNames: map[string]string{"#a": "a"}},
			"without an expression": {ExpressionAttributeValues: item{":v": n(1)}},
		} {
			in.TableName, in.Item = &table, item{"pk": s("1")}
			_, err := c.DynamoDB.PutItem(t.Context(), in)
			refused(t, what, err, "ValidationException")
		}
	}},
}

var conditionItem = item{"pk": s("1"), "a": s("hello"), "num": n(10), "bin": b("abc"), "t": yes(true), "nil": null(),
	"lst": l(n(1), s("two"), l(n(3))), "mp": m(item{"x": m(item{"y": n(5)})}), "st": ss("p", "q"), "nst": ns("1", "2")}

// conditionTable says what conditions are over conditionItem.
var conditionTable = map[string]bool{
	"a = :hello": true, "a <> :hello": false, "num = :ten": true, "num < :two": false, "num > :two": true, "num >= :ten": true, "num <= :ten": true,
	"a = :ten": false, "a <> :ten": true, "a < :ten": false, // another type is unequal, and neither less nor more
	"num BETWEEN :two AND :ten": true, "num BETWEEN :one AND :two": false, "num IN (:one, :ten)": true, "num IN (:one, :two)": false,
	"attribute_exists(mp.x.y)": true, "attribute_exists(mp.x.z)": false, "attribute_not_exists(lst[2][1])": true, "attribute_exists(lst[2][0])": true,
	"attribute_type(nil, :null)": true, "attribute_type(a, :null)": false,
	"begins_with(a, :he)": true, "begins_with(a, :x)": false, "contains(a, :ell)": true, "contains(lst, :two_s)": true, "contains(lst, :two)": false,
	"contains(st, :p)": true, "contains(st, :x)": false, "contains(nst, :two)": true,
	"size(a) = :five": true, "size(bin) = :three": true, "size(lst) = :three": true, "size(mp) = :one": true, "size(st) = :two": true,
	"mp.x.y = :five": true, "lst[0] = :one": true, "lst[2][0] = :three": true, "t = :true": true,
	"a = :x OR num = :ten AND num = :two":   false, // AND before OR
	"(a = :x OR num = :ten) AND num = :ten": true, "NOT a = :x AND num = :ten": true, "NOT (a = :hello OR a = :x)": false,
	"#pk = :hello or #pk <> :hello": true, // keywords in any case
}

// holds reports whether a condition holds for the item of the table.
func (c clients) holds(t *trial, table, expression string) bool {
	t.Helper()
	values := item{}
	for name, v := range map[string]types.AttributeValue{
		":hello": s("hello"), ":ten": n(10), ":two": n(2), ":one": n(1), ":zero": n(0), ":null": s("NULL"), ":he": s("he"), ":x": s("x"), ":ell": s("ell"),
		":two_s": s("two"), ":p": s("p"), ":five": n(5), ":three": n(3), ":true": yes(true),
	} {
		if containsWord(expression, name) {
			values[name] = v
		}
	}
	// An update without an expression changes nothing where the item exists.
	in := &dynamodb.UpdateItemInput{TableName: &table, Key: item{"pk": s("1")}, ConditionExpression: &expression}
	if len(values) > 0 {
		in.ExpressionAttributeValues = values
	}
	if containsWord(expression, "#pk") {
		in.ExpressionAttributeNames = map[string]string{"#pk": "a"}
	}
	_, err := c.DynamoDB.UpdateItem(t.Context(), in)
	if errorCode(err) == "ConditionalCheckFailedException" {
		return false
	}
	require.NoErrorf(t, err, "condition %q", expression)
	return true
}

// containsWord reports whether a placeholder is in an expression: not only as the beginning of a longer one.
func containsWord(expression, word string) bool {
	for rest := expression; ; {
		i := strings.Index(rest, word)
		if i < 0 {
			return false
		}
		rest = rest[i+len(word):]
		if rest == "" || !strings.ContainsAny(rest[:1], "abcdefghijklmnopqrstuvwxyz_") {
			return true
		}
	}
}
