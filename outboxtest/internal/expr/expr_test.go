package expr_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/expr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// values reads placeholders or an item from JSON.
func values(t testing.TB, text string) map[string]attr.Value {
	t.Helper()
	if text == "" {
		return nil
	}
	var out map[string]attr.Value
	require.NoError(t, json.Unmarshal([]byte(text), &out))
	return out
}

func scope(t testing.TB, names map[string]string, placeholders string) *expr.Scope {
	t.Helper()
	s, err := expr.NewScope(names, values(t, placeholders))
	require.NoError(t, err)
	return s
}

func names(pairs ...string) map[string]string {
	out := make(map[string]string)
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i]] = pairs[i+1]
	}
	return out
}

const stored = `{"pk":{"S":"a"},"n":{"N":"5"},"s":{"S":"hello"},"e":{"S":""},"b":{"B":"AAEC"},"t":{"BOOL":true},"z":{"NULL":true},
	"ss":{"SS":["x","y"]},"ns":{"NS":["1","2"]},"l":{"L":[{"N":"1"},{"S":"x"},{"M":{"k":{"S":"v"}}}]},"m":{"M":{"a":{"N":"1"},"b":{"L":[{"S":"deep"}]},"n":{"N":"5"}}},
	"and":{"N":"9"},"a.b":{"S":"dot"}}`

const constants = `{":five":{"N":"5.0"},":six":{"N":"6"},":hello":{"S":"hello"},":he":{"S":"he"},":x":{"S":"x"},":one":{"N":"1"},":bin":{"B":"AAEC"},
	":N":{"S":"N"},":S":{"S":"S"},":M":{"S":"M"},":list":{"L":[{"N":"1"},{"S":"x"},{"M":{"k":{"S":"v"}}}]},":set":{"SS":["y","x"]},":two":{"N":"2"},":three":{"N":"3"},":true":{"BOOL":true}}`

func TestConditions(t *testing.T) {
	item := values(t, stored)
	for text, want := range map[string]bool{
		"n = :five": true, "n = :six": false, "n <> :six": true, "n < :six": true, "n <= :five": true, "n > :five": false, "n >= :six": false,
		"n = :hello": false, "n <> :hello": true, "n < :hello": false, "s > n": false,
		"absent = :five": false, "absent <> :five": true, "absent < :five": false, "absent = gone": false, "absent <> gone": true,
		"NOT absent = :five": true, "n = m.n": true, "n = m.a": false, "m.a = l[0]": true, "m.b[0] = :hello": false, "l[2].k = :hello": false,
		"l = :list": true, "ss = :set": true, "t = :true": true,
		"n BETWEEN :five AND :six": true, "n between :six AND :six": false, "s BETWEEN :he AND :hello": true, "absent BETWEEN :five AND :six": false,
		"n IN (:six, :five)": true, "n in (:six)": false, "absent IN (:six)": false,
		"attribute_exists(n)": true, "attribute_exists(m.a)": true, "attribute_exists(m.q)": false, "attribute_exists(l[3])": false, "attribute_exists(z)": true,
		"attribute_not_exists(absent)": true, "attribute_not_exists(n)": false,
		"attribute_type(n, :N)": true, "attribute_type(n, :S)": false, "attribute_type(m, :M)": true, "attribute_type(absent, :S)": false,
		"begins_with(s, :he)": true, "begins_with(s, :x)": false, "begins_with(n, :he)": false, "begins_with(b, :bin)": true,
		"contains(s, :he)": true, "contains(ss, :x)": true, "contains(ss, :he)": false, "contains(ns, :one)": true, "contains(ns, :x)": false,
		"contains(l, :x)": true, "contains(l, :two)": false, "contains(n, :five)": false, "contains(:hello, s)": true,
		"size(s) = :five": true, "size(ss) = :two": true, "size(l) = :three": true, "size(m) = :three": true, "size(b) = :three": true, "size(e) < :one": true,
		"size(n) = :one": false, "size(absent) < :five": false, "size(:hello) = n": true,
		"n = :five AND s = :hello": true, "n = :six OR s = :hello": true, "n = :six AND s = :hello OR t = :true": true,
		"t = :true OR n = :six AND s = :x": true, "(t = :true OR n = :six) AND s = :x": false,
		"NOT n = :six AND s = :x": false, "NOT (n = :six AND s = :x)": true, "not not n = :five": true,
		"#and = :five": false, "#dot = :hello": false, "(n) = (:five)": true, "((n = :five) AND s = :hello)": true, "(m).a = :one": true,
		"n=:five and(s=:hello)": true,
	} {
		t.Run(text, func(t *testing.T) {
			c, err := expr.ParseCondition(expr.Condition, text, scope(t, names("#and", "and", "#dot", "a.b"), constants))
			require.NoError(t, err)
			require.Equal(t, want, c.Match(item))
		})
	}
	c, err := expr.ParseCondition(expr.Condition, "attribute_not_exists(pk)", scope(t, nil, ""))
	require.NoError(t, err)
	require.True(t, c.Match(nil), "an item that does not exist has no attributes")
}

func TestConditionRefusals(t *testing.T) {
	many := func(count int, part, glue string) string {
		return strings.TrimSuffix(strings.Repeat(part+glue, count), glue)
	}
	for _, c := range []struct{ text, message string }{
		{"", "The expression can not be empty;"},
		{"  ", "The expression can not be empty;"},
		{"a", `Syntax error; token: "<EOF>", near: "a"`},
		{"a = ", `Syntax error; token: "<EOF>", near: "="`},
		{"a > 4", `Syntax error; token: "4", near: "> 4"`},
		{"things are not", `Syntax error; token: "are", near: "things are not"`},
		{"a in b, c", `Syntax error; token: "b", near: "in b,"`},
		{"a in (b,c,)", `Syntax error; token: ")", near: ",)"`},
		{"a > between", `Syntax error; token: "between", near: "> between"`},
		{"attribute_exists(a-b)", `Syntax error; token: "-", near: "a-b"`},
		{"attribute_exists(a..b)", `Syntax error; token: ".", near: "..b"`},
		{"attribute_exists()", `Syntax error; token: ")", near: "()"`},
		{"attribute_exists(a[b])", `Syntax error; token: "b", near: "[b]"`},
		{"attribute_exists(a[#b])", `Syntax error; token: "#b", near: "[#b]"`},
		{`attribute_exists("a")`, `Syntax error; token: """, near: "("a"`},
		{"#$.b > a", `Syntax error; token: "#", near: "#$"`},
		{"ü > a", `Syntax error; token: "ü", near: "ü >"`},
		{"size(a).b > a", `Syntax error; token: ".", near: ").b"`},
		{"(size(a))[0] > a", `Syntax error; token: "[", near: ")[0"`},
		{"_a = b", `Syntax error; token: "_", near: "_a"`},
		{"(a = b) = c", `Syntax error; token: "=", near: ") = c"`},
		{"a AND b = c", `Syntax error; token: "AND", near: "a AND b"`},
		{"a = b AND c", `Syntax error; token: "<EOF>", near: "c"`},
		{"(((", `Syntax error; token: "<EOF>", near: "("`},
		{"a > ((b))", "The expression has redundant parentheses;"},
		{"((a = b))", "The expression has redundant parentheses;"},
		{"a=b AND ((a=c AND (b=c OR a=b)))", "The expression has redundant parentheses;"},
		{"a > whatever((:things), ((a)))", "The expression has redundant parentheses;"},
		{"whatever(:x) > a", "Invalid function name; function: whatever"},
		{"attRIbute_exIsts(a)", "Invalid function name; function: attRIbute_exIsts"},
		{"if_not_exists(a, b) = c", "The function is not allowed in a condition expression; function: if_not_exists"},
		{"attribute_exists(a) > b", "The function is not allowed to be used this way in an expression; function: attribute_exists"},
		{"size(a)", "The function is not allowed to be used this way in an expression; function: size"},
		{"a = b AND size(a)", "The function is not allowed to be used this way in an expression; function: size"},
		{"size(contains(a, b)) > a", "The function is not allowed to be used this way in an expression; function: contains"},
		{"a in (b, attribute_exists(c))", "The function is not allowed to be used this way in an expression; function: attribute_exists"},
		{":five < abOrT", "Attribute name is a reserved keyword; reserved keyword: abOrT"},
		{"a.name = b", "Attribute name is a reserved keyword; reserved keyword: name"},
		{"a[4294967295] = b", "List index is not within the allowable range; index: [4294967295]"},
		{"attribute_exists(#p.q, :five)", "An expression attribute name used in the document path is not defined; attribute name: #p"},
		{":nope < a", "An expression attribute value used in expression is not defined; attribute value: :nope"},
		{"attribute_type(a)", "Incorrect number of operands for operator or function; operator or function: attribute_type, number of operands: 1"},
		{"begins_with(a, b, c)", "Incorrect number of operands for operator or function; operator or function: begins_with, number of operands: 3"},
		{"a in (" + many(101, ":five", ",") + ")", "The IN operator is provided with too many operands; number of operands: 101"},
		{"a = a", "The first operand must be distinct from the remaining operands for this operator or function; operator: =, first operand: [a]"},
		{"contains(a.b[1], a.#b[1])", "The first operand must be distinct from the remaining operands for this operator or function; operator: contains, first operand: [a, b, [1]]"},
		{"attribute_type(a, size(b))", "Incorrect operand type for operator or function; operator or function: attribute_type, operand type: N"},
		{"attribute_type(a, :five)", "Incorrect operand type for operator or function; operator or function: attribute_type, operand type: N"},
		{"attribute_type(a, :x)", "Invalid attribute type name found; type: x, valid types: {B,NULL,SS,BOOL,L,BS,N,NS,S,M}"},
		{"begins_with(a, :five)", "Incorrect operand type for operator or function; operator or function: begins_with, operand type: N"},
		{"size(:five) > a", "Incorrect operand type for operator or function; operator or function: size, operand type: N"},
		{"a < :true", "Incorrect operand type for operator or function; operator or function: <, operand type: BOOL"},
		{"a BETWEEN :list AND b", "Incorrect operand type for operator or function; operator or function: BETWEEN, operand type: L"},
		{"attribute_exists(:five)", "Operator or function requires a document path; operator or function: attribute_exists"},
		{"a BETWEEN :one AND :hello", "The BETWEEN operator requires same data type for lower and upper bounds; lower bound operand: AttributeValue: {N:1}, upper bound operand: AttributeValue: {S:hello}"},
		{"a BETWEEN :six AND :five", "The BETWEEN operator requires upper bound to be greater than or equal to lower bound; lower bound operand: AttributeValue: {N:6}, upper bound operand: AttributeValue: {N:5}"},
		{strings.Repeat("x", 4097), "Expression size has exceeded the maximum allowed size; expression size: 4097"},
		{many(151, "a<b", " OR "), "The expression contains too many operators; operator count: 301"},
	} {
		t.Run(c.text[:min(len(c.text), 60)], func(t *testing.T) {
			for _, kind := range []string{expr.Condition, expr.Filter} {
				_, err := expr.ParseCondition(kind, c.text, scope(t, names("#b", "b"), constants))
				require.Error(t, err)
				require.Equal(t, "Invalid "+kind+": "+c.message, wire.AsError(err).Message)
			}
		})
	}
	_, err := expr.ParseCondition(expr.Condition, many(150, "a<b", " OR "), scope(t, nil, ""))
	require.NoError(t, err, "299 operators")
	_, err = expr.ParseCondition(expr.Condition, strings.Repeat("(", 2000)+"a=b"+strings.Repeat(")", 2000), scope(t, nil, ""))
	require.Error(t, err)
}

func TestPlaceholders(t *testing.T) {
	for _, c := range []struct {
		names   map[string]string
		values  map[string]attr.Value
		message string
	}{
		{names(), nil, "ExpressionAttributeNames must not be empty"},
		{nil, map[string]attr.Value{}, "ExpressionAttributeValues must not be empty"},
		{names("a", "a"), nil, `ExpressionAttributeNames contains invalid key: Syntax error; key: "a"`},
		{names("#", "a"), nil, `ExpressionAttributeNames contains invalid key: Syntax error; key: "#"`},
		{names("#a-b", "a"), nil, `ExpressionAttributeNames contains invalid key: Syntax error; key: "#a-b"`},
		{nil, map[string]attr.Value{"a": attr.Null()}, `ExpressionAttributeValues contains invalid key: Syntax error; key: "a"`},
	} {
		_, err := expr.NewScope(c.names, c.values)
		require.EqualError(t, err, "ValidationException: "+c.message)
	}
	s := scope(t, names("#a", "a", "#b", "b", "#1_", "c"), `{":a":{"S":"x"},":b":{"S":"x"}}`)
	_, err := expr.ParseCondition(expr.Condition, "#a = :a OR #1_ = :a", s)
	require.NoError(t, err)
	require.EqualError(t, s.Unused(), "ValidationException: Value provided in ExpressionAttributeNames unused in expressions: keys: {#b}")
	_, err = expr.ParseProjection("#b", s)
	require.NoError(t, err)
	require.EqualError(t, s.Unused(), "ValidationException: Value provided in ExpressionAttributeValues unused in expressions: keys: {:b}")
}

func TestProjection(t *testing.T) {
	item := values(t, `{"a":{"S":"x"},"m":{"M":{"b":{"N":"1"},"c":{"M":{"d":{"N":"2"},"e":{"N":"3"}}}}},"l":{"L":[{"S":"l0"},{"M":{"a":{"S":"p"},"b":{"S":"q"}}},{"S":"l2"}]}}`)
	for text, want := range map[string]string{
		"a":                    `{"a":{"S":"x"}}`,
		"a, absent, m.absent":  `{"a":{"S":"x"}}`,
		"m.b":                  `{"m":{"M":{"b":{"N":"1"}}}}`,
		"m.c.d, m.b":           `{"m":{"M":{"b":{"N":"1"},"c":{"M":{"d":{"N":"2"}}}}}}`,
		"l[2], l[0]":           `{"l":{"L":[{"S":"l0"},{"S":"l2"}]}}`,
		"l[1].b, l[1].a, l[7]": `{"l":{"L":[{"M":{"a":{"S":"p"},"b":{"S":"q"}}}]}}`,
		"a.b, a[0], l.x, m[0]": ``,
		"#n":                   `{"a":{"S":"x"}}`,
		"absent":               `{}`,
	} {
		t.Run(text, func(t *testing.T) {
			p, err := expr.ParseProjection(text, scope(t, names("#n", "a"), ""))
			if want == "" {
				require.ErrorContains(t, err, "conflict")
				return
			}
			require.NoError(t, err)
			got, err := wire.Marshal(p.Apply(item))
			require.NoError(t, err)
			require.Equal(t, want, string(got))
		})
	}
	for text, message := range map[string]string{
		"a,,b":          `Syntax error; token: ",", near: ",,b"`,
		"a,":            `Syntax error; token: "<EOF>", near: ","`,
		"(a)":           `Syntax error; token: "(", near: "(a"`,
		":a":            `Syntax error; token: ":a", near: ":a"`,
		"f(a)":          `Syntax error; token: "(", near: "f(a"`,
		"a b":           `Syntax error; token: "b", near: "a b"`,
		"a.abORt":       "Attribute name is a reserved keyword; reserved keyword: abORt",
		"#x":            "An expression attribute name used in the document path is not defined; attribute name: #x",
		"b[1], a.b, #n": "Two document paths overlap with each other; must remove or rewrite one of these paths; path one: [a, b], path two: [a]",
		"a, a":          "Two document paths overlap with each other; must remove or rewrite one of these paths; path one: [a], path two: [a]",
		"a.b[1], #n[1]": "Two document paths conflict with each other; must remove or rewrite one of these paths; path one: [a, b, [1]], path two: [a, [1]]",
	} {
		t.Run(text, func(t *testing.T) {
			_, err := expr.ParseProjection(text, scope(t, names("#n", "a"), ""))
			require.EqualError(t, err, "ValidationException: Invalid ProjectionExpression: "+message)
		})
	}
}

func TestUpdates(t *testing.T) {
	const item = `{"pk":{"S":"a"},"n":{"N":"5"},"s":{"S":"x"},"ss":{"SS":["a","b"]},"l":{"L":[{"N":"0"},{"N":"1"},{"N":"2"},{"N":"3"}]},"m":{"M":{"a":{"N":"1"},"l":{"L":[{"S":"x"}]}}}}`
	const args = `{":one":{"N":"1"},":x":{"S":"x"},":set":{"SS":["b","c"]},":ab":{"SS":["a","b"]},":l":{"L":[{"S":"new"}]},":e":{"L":[]},":m":{"M":{}}}`
	for text, want := range map[string]string{
		"SET n = :one":                                 `{"n":{"N":"1"}}`,
		"SET n = n + :one":                             `{"n":{"N":"6"}}`,
		"set n = n - :one":                             `{"n":{"N":"4"}}`,
		"SET q = :one + n":                             `{"q":{"N":"6"}}`,
		"SET q = (n + :one)":                           `{"q":{"N":"6"}}`,
		"SET q = ((l[1])+(m.a))":                       `{"q":{"N":"2"}}`,
		"SET q = if_not_exists(n, :one)":               `{"q":{"N":"5"}}`,
		"SET q = if_not_exists(q, :one) + :one":        `{"q":{"N":"2"}}`,
		"SET q = if_not_exists(y, if_not_exists(z,n))": `{"q":{"N":"5"}}`,
		"SET l = list_append(l, :l)":                   `{"l":{"L":[{"N":"0"},{"N":"1"},{"N":"2"},{"N":"3"},{"S":"new"}]}}`,
		"SET q = list_append(if_not_exists(q,:e), :l)": `{"q":{"L":[{"S":"new"}]}}`,
		"SET l[1] = :x":                                `{"l":{"L":[{"N":"0"},{"S":"x"},{"N":"2"},{"N":"3"}]}}`,
		"SET l[9] = :x, l[7] = :one":                   `{"l":{"L":[{"N":"0"},{"N":"1"},{"N":"2"},{"N":"3"},{"N":"1"},{"S":"x"}]}}`,
		"SET m.b = :x, m.a = n":                        `{"m":{"M":{"a":{"N":"5"},"b":{"S":"x"},"l":{"L":[{"S":"x"}]}}}}`,
		"SET m.l[0] = :one":                            `{"m":{"M":{"a":{"N":"1"},"l":{"L":[{"N":"1"}]}}}}`,
		"SET n = s, s = n":                             `{"n":{"S":"x"},"s":{"N":"5"}}`,
		"REMOVE n, m.a, q":                             `{"n":null,"m":{"M":{"l":{"L":[{"S":"x"}]}}}}`,
		"REMOVE l[1], l[2]":                            `{"l":{"L":[{"N":"0"},{"N":"3"}]}}`,
		"REMOVE l[17]":                                 `{}`,
		"REMOVE l[1] SET l[3] = :x":                    `{"l":{"L":[{"N":"0"},{"N":"2"},{"S":"x"}]}}`,
		"SET l[3] = :x REMOVE l[1]":                    `{"l":{"L":[{"N":"0"},{"N":"2"},{"S":"x"}]}}`,
		"REMOVE n SET q = n":                           `{"n":null,"q":{"N":"5"}}`,
		"REMOVE m.l[0]":                                `{"m":{"M":{"a":{"N":"1"},"l":{"L":[]}}}}`,
		"ADD n :one, q :one, ss :set, r :set":          `{"n":{"N":"6"},"q":{"N":"1"},"ss":{"SS":["a","b","c"]},"r":{"SS":["b","c"]}}`,
		"ADD m.a :one":                                 `{"m":{"M":{"a":{"N":"2"},"l":{"L":[{"S":"x"}]}}}}`,
		"ADD l[2] :one DELETE ss :set":                 `{"l":{"L":[{"N":"0"},{"N":"1"},{"N":"3"},{"N":"3"}]},"ss":{"SS":["a"]}}`,
		"DELETE ss :ab":                                `{"ss":null}`,
		"DELETE q :ab":                                 `{}`,
		"SET #q = :m":                                  `{"a b.c":{"M":{}}}`,
	} {
		t.Run(text, func(t *testing.T) {
			u, err := expr.ParseUpdate(text, scope(t, names("#q", "a b.c"), args))
			require.NoError(t, err)
			before := values(t, item)
			got, err := u.Apply(before, true)
			require.NoError(t, err)
			var changes map[string]json.RawMessage
			require.NoError(t, json.Unmarshal([]byte(want), &changes))
			expected := values(t, item)
			for name, raw := range changes {
				if string(raw) == "null" {
					delete(expected, name)
					continue
				}
				var v attr.Value
				require.NoError(t, v.UnmarshalJSON(raw))
				expected[name] = v
			}
			gotJSON, err := wire.Marshal(got)
			require.NoError(t, err)
			wantJSON, err := wire.Marshal(expected)
			require.NoError(t, err)
			require.Equal(t, string(wantJSON), string(gotJSON))
			require.True(t, attr.EqualItems(values(t, item), before), "the item given must stay as it is")
		})
	}
}

func TestUpdateFailures(t *testing.T) {
	item := values(t, `{"pk":{"S":"a"},"n":{"N":"5"},"s":{"S":"x"},"ss":{"SS":["a"]},"l":{"L":[]},"m":{"M":{}}}`)
	const args = `{":one":{"N":"1"},":set":{"SS":["b"]},":ns":{"NS":["1"]},":l":{"L":[]},":big":{"N":"9e125"}}`
	const badPath = "The document path provided in the update expression is invalid for update"
	const badOperand = "An operand in the update expression has an incorrect data type"
	const missing = "The provided expression refers to an attribute that does not exist in the item"
	for text, message := range map[string]string{
		"SET q.a = :one": badPath, "SET s.a = :one": badPath, "SET l.a = :one": badPath, "SET m[0] = :one": badPath, "SET q[0] = :one": badPath,
		"REMOVE q.a": badPath, "REMOVE s[0]": badPath, "ADD q.a :one": badPath, "DELETE m.a.b :set": badPath,
		"SET a = s + :one": badOperand, "SET a = :one - ss": badOperand, "SET a = list_append(n, :l)": badOperand,
		"ADD s :one": badOperand, "ADD ss :ns": badOperand, "ADD l :set": badOperand, "DELETE ss :ns": badOperand, "DELETE n :set": badOperand,
		"SET a = q": missing, "SET a = q + :one": missing, "SET a = list_append(q, :l)": missing, "SET a = m.q": missing, "SET a = if_not_exists(q, r)": missing,
		"SET a = :big + :big": "Number overflow. Attempting to store a number with magnitude larger than supported range",
	} {
		t.Run(text, func(t *testing.T) {
			u, err := expr.ParseUpdate(text, scope(t, nil, args))
			require.NoError(t, err)
			_, err = u.Apply(item, true)
			require.EqualError(t, err, "ValidationException: "+message)
		})
	}
	u, err := expr.ParseUpdate("REMOVE x.y, z[0]", scope(t, nil, ""))
	require.NoError(t, err)
	got, err := u.Apply(values(t, `{"pk":{"S":"a"}}`), false)
	require.NoError(t, err, "AWS forgives this for an item that does not exist")
	require.Len(t, got, 1)
}

func TestUpdateRefusals(t *testing.T) {
	const args = `{":n":{"N":"1"},":s":{"S":"a"},":l":{"L":[]},":b":{"B":"AAEC"},":set":{"SS":["a"]}}`
	overlap := func(one, two string) string {
		return "Two document paths overlap with each other; must remove or rewrite one of these paths; path one: " + one + ", path two: " + two
	}
	for _, c := range []struct{ text, message string }{
		{"", "The expression can not be empty;"},
		{"INVALID SYNTAX HERE", `Syntax error; token: "INVALID", near: "INVALID SYNTAX"`},
		{"SET", `Syntax error; token: "<EOF>", near: "SET"`},
		{"SET a", `Syntax error; token: "<EOF>", near: "a"`},
		{"SET a = b,", `Syntax error; token: "<EOF>", near: ","`},
		{"SET a = set", `Syntax error; token: "set", near: "= set"`},
		{"SET a = b + c + d", `Syntax error; token: "+", near: "c + d"`},
		{"SET a = b * c", `Syntax error; token: "*", near: "b * c"`},
		{"SET a = 1", `Syntax error; token: "1", near: "= 1"`},
		{"SET (a = b)", `Syntax error; token: "(", near: "SET (a"`},
		{"SET a = (b.c).d", `Syntax error; token: ".", near: ").d"`},
		{"SET a = f(:n + :n)", `Syntax error; token: "+", near: ":n + :n"`},
		{"SET :n = b", `Syntax error; token: ":n", near: "SET :n ="`},
		{"REMOVE a = b", `Syntax error; token: "=", near: "a = b"`},
		{"ADD a b", `Syntax error; token: "b", near: "a b"`},
		{"ADD hits : incr", `Syntax error; token: ":", near: "hits : incr"`},
		{"DELETE a", `Syntax error; token: "<EOF>", near: "a"`},
		{"SET a = b REMOVE Absolute", "Attribute name is a reserved keyword; reserved keyword: Absolute"},
		{"SET a = f(b)", "Invalid function name; function: f"},
		{"SET a = size(b)", "The function is not allowed in an update expression; function: size"},
		{"SET a = list_append(list_append(b, :l), :l)", "The function is not allowed to be used this way in an expression; function: list_append"},
		{"SET a = b SET c = d", `The "SET" section can only be used once in an update expression;`},
		{"remove a add b :n remove c", `The "REMOVE" section can only be used once in an update expression;`},
		{"SET #q = b", "An expression attribute name used in the document path is not defined; attribute name: #q"},
		{"SET a = :q", "An expression attribute value used in expression is not defined; attribute value: :q"},
		{"SET a = b REMOVE a", overlap("[a]", "[a]")},
		{"SET a.b = c, a = d", overlap("[a, b]", "[a]")},
		{"SET #c[3].x = a, c[3] = a", overlap("[c, [3], x]", "[c, [3]]")},
		{"SET a.b = c, a[1] = d", "Two document paths conflict with each other; must remove or rewrite one of these paths; path one: [a, b], path two: [a, [1]]"},
		{"ADD a :s", "Incorrect operand type for operator or function; operator: ADD, operand type: STRING"},
		{"ADD a :l", "Incorrect operand type for operator or function; operator: ADD, operand type: LIST"},
		{"DELETE a :n", "Incorrect operand type for operator or function; operator: DELETE, operand type: NUMBER"},
		{"SET a = if_not_exists(b)", "Incorrect number of operands for operator or function; operator or function: if_not_exists, number of operands: 1"},
		{"SET a = if_not_exists(:n, b)", "Operator or function requires a document path; operator or function: if_not_exists"},
		{"SET a = list_append(:s, b)", "Incorrect operand type for operator or function; operator or function: list_append, operand type: S"},
		{"SET a = b + :set", "Incorrect operand type for operator or function; operator or function: +, operand type: SS"},
		{"SET a = :b - b", "Incorrect operand type for operator or function; operator or function: -, operand type: B"},
		{"SET a = ((b))", "The expression has redundant parentheses;"},
	} {
		t.Run(c.text, func(t *testing.T) {
			_, err := expr.ParseUpdate(c.text, scope(t, names("#c", "c"), args))
			require.EqualError(t, err, "ValidationException: Invalid UpdateExpression: "+c.message)
		})
	}
}

func TestBounds(t *testing.T) {
	const args = `{":n":{"N":"1"},":m":{"N":"2"},":s":{"S":"1"}}`
	ok := func(text string) map[string]expr.Bound {
		c, err := expr.ParseCondition(expr.KeyCondition, text, scope(t, names("#a", "a"), args))
		require.NoError(t, err)
		bounds, err := c.Bounds()
		require.NoError(t, err)
		return bounds
	}
	for text, want := range map[string]string{
		"#a = :n": "=[1]", ":n = a": "=[1]", "a < :n": "<[1]", ":n < a": ">[1]", ":n >= a": "<=[1]",
		"a BETWEEN :n AND :m": "BETWEEN[1 2]", "begins_with(a, :s)": "begins_with[1]",
	} {
		b := ok(text)["a"]
		var texts []string
		for _, v := range b.Values {
			texts = append(texts, v.Text())
		}
		require.Equal(t, want, b.Op+fmt.Sprint(texts), text)
	}
	require.Len(t, ok("(a = :n) AND (b = :m)"), 2)
	for text, message := range map[string]string{
		"a = :n OR b = :n":             "Invalid operator used in KeyConditionExpression: OR",
		"NOT a = :n":                   "Invalid operator used in KeyConditionExpression: NOT",
		"a IN (:n)":                    "Invalid operator used in KeyConditionExpression: IN",
		"a <> :n":                      "Invalid operator used in KeyConditionExpression: <>",
		"attribute_exists(a)":          "Invalid operator used in KeyConditionExpression: attribute_exists",
		"contains(a, :s)":              "Invalid operator used in KeyConditionExpression: contains",
		":n BETWEEN a AND :m":          "Invalid condition in KeyConditionExpression: BETWEEN operator must have the key attribute as its first operand",
		"begins_with(:s, a)":           "Invalid condition in KeyConditionExpression: begins_with operator must have the key attribute as its first operand",
		"size(a) = :n":                 "KeyConditionExpressions cannot contain nested operations",
		"a = b":                        "Invalid condition in KeyConditionExpression: Multiple attribute names used in one condition",
		"a.b = :n":                     "Invalid KeyConditionExpression: KeyConditionExpressions cannot have conditions on nested attributes",
		":n = :m":                      "Invalid condition in KeyConditionExpression: No key attribute specified",
		"a > :n AND b = :n AND a < :m": "Invalid KeyConditionExpression: KeyConditionExpressions must only contain one condition per key",
	} {
		t.Run(text, func(t *testing.T) {
			c, err := expr.ParseCondition(expr.KeyCondition, text, scope(t, nil, args))
			require.NoError(t, err)
			_, err = c.Bounds()
			require.EqualError(t, err, "ValidationException: "+message)
		})
	}
}
