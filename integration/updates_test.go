package integration

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"
)

// updated is an update of {"pk": "1"} plus before, which must succeed.
func (c clients) updated(t *trial, before item, expression string, values item) item {
	t.Helper()
	table := c.table(t, "pk:S")
	if before != nil {
		before["pk"] = s("1")
		c.put(t, table, before)
	}
	out, err := c.update(t, table, expression, values)
	require.NoErrorf(t, err, "update %q", expression)
	require.Equal(t, out, c.get(t, table, item{"pk": s("1")}), "ALL_NEW is what is stored")
	delete(out, "pk")
	return out
}

var updateCases = []testCase{
	{"updates: an update of a missing item creates it", onTables, func(t *trial, c clients) {
		require.Equal(t, item{"a": s("x")}, c.updated(t, nil, "SET a = :x", item{":x": s("x")}))
	}},
	{"updates: SET computes, and reads the item as it was before", onTables, func(t *trial, c clients) {
		got := c.updated(t, item{"a": n(10), "b": n(3)}, "SET a = b, b = a, d = a - :one, e = :one + a, f = a + b", item{":one": n(1)})
		require.Equal(t, item{"a": n(3), "b": n(10), "d": n(9), "e": n(11), "f": n(13)}, got)
	}},
	{"updates: arithmetic is exact to 38 digits", onTables, func(t *trial, c clients) {
		got := c.updated(t, item{"a": n("0.1"), "b": n("9999999999999999999999999999999999999")}, "SET a = a + :a, b = b + :b", item{":a": n("0.2"), ":b": n(1)})
		require.Equal(t, item{"a": n("0.3"), "b": n("10000000000000000000000000000000000000")}, got)
	}},
	{"updates: if_not_exists and list_append", onTables, func(t *trial, c clients) {
		got := c.updated(t, item{"a": n(1), "lst": l(n(1))},
			"SET a = if_not_exists(a, :v), b = if_not_exists(b, :v), cnt = if_not_exists(cnt, :zero) + :v, lst = list_append(lst, :l), front = list_append(:l, lst)",
			item{":v": n(7), ":zero": n(0), ":l": l(n(2))})
		require.Equal(t, item{"a": n(1), "b": n(7), "cnt": n(7), "lst": l(n(1), n(2)), "front": l(n(2), n(1))}, got)
	}},
	{"updates: SET reaches members and elements, and appends beyond the end", onTables, func(t *trial, c clients) {
		got := c.updated(t, item{"mp": m(item{"a": m(item{})}), "lst": l(n(1), n(2))}, "SET mp.a.b = :v, lst[0] = :v, lst[9] = :v", item{":v": n(7)})
		require.Equal(t, item{"mp": m(item{"a": m(item{"b": n(7)})}), "lst": l(n(7), n(2), n(7))}, got)
	}},
	{"updates: REMOVE takes attributes, members and elements", onTables, func(t *trial, c clients) {
		got := c.updated(t, item{"a": n(1), "b": n(2), "mp": m(item{"p": n(1), "q": n(2)}), "lst": l(n(0), n(1))}, "REMOVE a, mp.p, lst[0], lst[7], nothing", nil)
		require.Equal(t, item{"b": n(2), "mp": m(item{"q": n(2)}), "lst": l(n(1))}, got)
	}},
	{"updates: REMOVE counts elements as they were before", onTables, func(t *trial, c clients) {
		tools := l(s("chisel"), s("hammer"), s("nails"), s("screwdriver"), s("hacksaw")) // the example in AWS's documentation
		got := c.updated(t, item{"tools": tools}, "REMOVE tools[1], tools[2]", nil)
		require.Equal(t, item{"tools": l(s("chisel"), s("screwdriver"), s("hacksaw"))}, got)
	}},
	{"updates: ADD counts, joins sets, and starts from nothing", onTables, func(t *trial, c clients) {
		got := c.updated(t, item{"a": n(1), "st": ss("p")}, "ADD a :two, fresh :two, st :p, st2 :p", item{":two": n(2), ":p": ss("p")})
		require.Equal(t, item{"a": n(3), "fresh": n(2), "st": ss("p"), "st2": ss("p")}, got)
	}},
	{"updates: DELETE takes members from a set, and the last one takes the set", onTables, func(t *trial, c clients) {
		got := c.updated(t, item{"a": ss("p", "q"), "gone": ns("1")}, "DELETE a :p, gone :one, nothing :p", item{":p": ss("p", "x"), ":one": ns("1")})
		require.Equal(t, item{"a": ss("q")}, got)
	}},
	{"updates: all four clauses in one expression", onTables, func(t *trial, c clients) {
		got := c.updated(t, item{"a": n(1), "b": n(1), "st": ss("p", "q"), "x": n(1)}, "ADD b :one REMOVE x SET a = :one + a DELETE st :q", item{":one": n(1), ":q": ss("q")})
		require.Equal(t, item{"a": n(2), "b": n(2), "st": ss("p")}, got)
	}},
	{"updates: ReturnValues gives what it says", onTables, func(t *trial, c clients) {
		for kind, want := range map[types.ReturnValue]item{
			types.ReturnValueNone: nil, types.ReturnValueAllOld: {"pk": s("1"), "a": n(1), "b": n(1)}, types.ReturnValueAllNew: {"pk": s("1"), "a": n(2), "b": n(1), "d": n(2)},
			types.ReturnValueUpdatedOld: {"a": n(1)}, types.ReturnValueUpdatedNew: {"a": n(2), "d": n(2)},
		} {
			table := c.table(t, "pk:S")
			c.put(t, table, item{"pk": s("1"), "a": n(1), "b": n(1)})
			got, err := c.update(t, table, "SET a = :two, d = :two", item{":two": n(2)}, func(in *dynamodb.UpdateItemInput) { in.ReturnValues = kind })
			require.NoError(t, err)
			require.Equalf(t, want, got, "%s", kind)
		}
	}},
	{"updates: what cannot be done is refused, and changes nothing", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		before := item{"pk": s("1"), "a": s("x"), "lst": l(n(1)), "num": n(1)}
		c.put(t, table, before)
		for expression, values := range map[string]item{
			"SET pk = :v":                   {":v": s("2")},
			"REMOVE pk":                     nil,
			"SET a = a + :v":                {":v": n(1)},
			"SET a = nothing":               nil,
			"SET a = nothing + :v":          {":v": n(1)},
			"SET nothing.b = :v":            {":v": n(1)},
			"SET a.b = :v":                  {":v": n(1)},
			"SET num[0] = :v":               {":v": n(1)},
			"SET lst = list_append(a, :v)":  {":v": l(n(1))},
			"ADD a :v":                      {":v": n(1)},
			"ADD num :v":                    {":v": s("x")},
			"DELETE num :v":                 {":v": ss("x")},
			"SET b = :v, b = :v":            {":v": n(1)},
			"SET lst = :v REMOVE lst[0]":    {":v": n(1)},
			"SET b = :v SET d = :v":         {":v": n(1)},
			"SET name = :v":                 {":v": n(1)},
			"SET b :v":                      {":v": n(1)},
			"SET b = :v + :v + :v":          {":v": n(1)},
			"SET b = if_not_exists(:v, :v)": {":v": n(1)},
			"SET b = attribute_exists(a)":   nil,
			"SET b = :v, d = :w":            {":v": n(1)},
			"SET b = :v REMOVE":             {":v": n(1)},
		} {
			_, err := c.update(t, table, expression, values)
			refused(t, expression, err, "ValidationException")
		}
		require.Equal(t, before, c.get(t, table, item{"pk": s("1")}))
	}},
	{"updates: an item that would grow over 400 KB is refused and stays", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		c.put(t, table, item{"pk": s("1"), "a": s(filler(300 << 10))})
		_, err := c.update(t, table, "SET b = :v", item{":v": s(filler(150 << 10))})
		requireCode(t, err, "ValidationException")
		require.NotContains(t, c.get(t, table, item{"pk": s("1")}), "b")
	}},
	{"updates: a condition that fails leaves the item, and makes none", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		when := func(condition string) func(*dynamodb.UpdateItemInput) {
			return func(in *dynamodb.UpdateItemInput) { in.ConditionExpression = aws.String(condition) }
		}
		_, err := c.update(t, table, "SET a = :v", item{":v": n(1)}, when("attribute_exists(pk)"))
		requireCode(t, err, "ConditionalCheckFailedException")
		require.Empty(t, c.all(t, table))
		_, err = c.update(t, table, "SET a = :v", item{":v": n(1)}, when("attribute_not_exists(pk)"))
		require.NoError(t, err)
		_, err = c.update(t, table, "SET a = :v", item{":v": n(2)}, when("a > :v"))
		requireCode(t, err, "ConditionalCheckFailedException")
		require.Equal(t, n(1), c.get(t, table, item{"pk": s("1")})["a"])
	}},
}
