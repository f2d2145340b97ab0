package attr_test

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

func number(t *testing.T, text string) attr.Value {
	t.Helper()
	v, err := attr.Number(text)
	require.NoError(t, err, text)
	return v
}

func TestNumberIsNormalised(t *testing.T) {
	for in, want := range map[string]string{
		"0": "0", "-0": "0", "0.000": "0", "0e125": "0", "1": "1", "+1": "1", "01": "1", "1.0": "1", "1.": "1", ".5": "0.5",
		"-15.789e6": "-15789000", "1E2": "100", "1e-3": "0.001", "120e-1": "12",
		"12345678901234567890123456789012345678":          "12345678901234567890123456789012345678",
		"-0001.23456789012345678901234567890123456780000": "-1.2345678901234567890123456789012345678",
		"1e125":           "1" + strings.Repeat("0", 125),
		"1e-130":          "0." + strings.Repeat("0", 129) + "1",
		"0.1e126":         "1" + strings.Repeat("0", 125),
		"9.99999999e+125": "999999999" + strings.Repeat("0", 117),
	} {
		require.Equal(t, want, number(t, in).Text(), in)
	}
}

func TestNumberIsRefused(t *testing.T) {
	const overflow = "Number overflow. Attempting to store a number with magnitude larger than supported range"
	const underflow = "Number underflow. Attempting to store a number with magnitude smaller than supported range"
	const digits = "Attempting to store more than 38 significant digits in a Number"
	for in, want := range map[string]string{
		"":      "The parameter cannot be converted to a numeric value: ",
		"1e126": overflow, "-11e125": overflow, "1e99999999": overflow, "1e99999999999": overflow, "0e126": overflow,
		"1e-131": underflow, "0.9e-130": underflow, "0e-131": underflow,
		strings.Repeat("1", 39): digits, "1." + strings.Repeat("3", 38): digits,
	} {
		_, err := attr.Number(in)
		require.EqualError(t, err, "ValidationException: "+want, in)
	}
	for _, in := range []string{"x", " 1", "1 ", "NaN", "Infinity", "1e", "e1", "1+2", "1.2.3", "--1", "+-1", "0x1", "1_000", "1e1.5", "1e+-1", "-", ".", "1e9223372036854775808"} {
		_, err := attr.Number(in)
		require.EqualError(t, err, "ValidationException: The parameter cannot be converted to a numeric value: "+in)
	}
}

func TestNumbersAreOrdered(t *testing.T) {
	ordered := []string{"-9e125", "-1000", "-10", "-9.5", "-9", "-1.5", "-1", "-0.5", "-1e-130", "0", "1e-130", "0.05", "0.5", "1", "1.5", "9", "9.5", "10", "1000", "9e125"}
	for i, a := range ordered {
		for j, b := range ordered {
			order, ok := number(t, a).Compare(number(t, b))
			require.True(t, ok)
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			require.Equal(t, want, order, "%s and %s", a, b)
			require.Equal(t, want, strings.Compare(number(t, a).Sortable(), number(t, b).Sortable()), "%s and %s", a, b)
			require.Equal(t, i == j, number(t, a).Equal(number(t, b)))
		}
	}
}

// TestSortableAgreesWithIntegers is a property: on integers, Sortable orders as integers do.
func TestSortableAgreesWithIntegers(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	draw := func() int { return (r.IntN(2001) - 1000) * []int{1, 7, 1000, 1 << 40}[r.IntN(4)] }
	for range 5000 {
		a, b := draw(), draw()
		got := strings.Compare(number(t, strconv.Itoa(a)).Sortable(), number(t, strconv.Itoa(b)).Sortable())
		require.Equal(t, min(max(a-b, -1), 1), got, "%d and %d", a, b)
	}
}

func TestAdd(t *testing.T) {
	for _, c := range []struct{ a, b, sum, difference string }{
		{"1", "2", "3", "-1"},
		{"0.1", "0.2", "0.3", "-0.1"},
		{"1", "1", "2", "0"},
		{"1", "10000000000000000000000", "10000000000000000000001", "-9999999999999999999999"},
		{"9e125", "9e124", "99" + strings.Repeat("0", 124), "81" + strings.Repeat("0", 124)},
		{"-5", "5", "0", "-10"},
	} {
		sum, err := attr.Add(number(t, c.a), number(t, c.b), false)
		require.NoError(t, err)
		require.Equal(t, c.sum, sum.Text())
		difference, err := attr.Add(number(t, c.a), number(t, c.b), true)
		require.NoError(t, err)
		require.Equal(t, c.difference, difference.Text())
	}
	for _, c := range [][2]string{{"9e125", "9e125"}, {"1e50", "1"}} {
		_, err := attr.Add(number(t, c[0]), number(t, c[1]), false)
		require.ErrorContains(t, err, "Number overflow", "AWS calls too many digits an overflow too")
	}
}

func parse(t *testing.T, text string) attr.Value {
	t.Helper()
	var v attr.Value
	require.NoError(t, json.Unmarshal([]byte(text), &v), text)
	return v
}

func TestSize(t *testing.T) {
	for text, want := range map[string]int{
		`{"S":""}`: 0, `{"S":"abc"}`: 3, `{"S":"é"}`: 2, `{"B":"AAEC"}`: 3, `{"BOOL":true}`: 1, `{"NULL":true}`: 1,
		`{"N":"0"}`: 1, `{"N":"1"}`: 2, `{"N":"12"}`: 2, `{"N":"123"}`: 3, `{"N":"1.2"}`: 3, `{"N":"-12"}`: 3, `{"N":"100"}`: 2, `{"N":"0.0001"}`: 2,
		`{"N":"12345678901234567890123456789012345678"}`:   20,
		`{"N":"-1.2345678901234567890123456789012345678"}`: 21,
		`{"SS":["a","bc"]}`: 3, `{"NS":["1","12"]}`: 4, `{"BS":["AAEC"]}`: 3,
		`{"N":"123456"}`: 4, `{"N":"3.14159"}`: 5, `{"N":"1.5"}`: 3, `{"N":"1e125"}`: 2, `{"N":"-1"}`: 3,
		`{"L":[]}`: 3, `{"L":[{"S":"ab"},{"BOOL":true}]}`: 3 + 1 + 2 + 1 + 1,
		`{"M":{}}`: 3, `{"M":{"ab":{"S":"c"}}}`: 3 + 1 + 2 + 1,
	} {
		require.Equal(t, want, parse(t, text).Size(), text)
	}
	require.Equal(t, 2+3+1+1, attr.ItemSize(attr.Item{"pk": attr.String("abc"), "x": attr.Boolean(true)}))
}

func TestJSONRoundTrip(t *testing.T) {
	for _, text := range []string{
		`{"S":"a<b>& \"é\" \\ "}`, `{"N":"-1.5"}`, `{"B":"AAEC"}`, `{"B":""}`, `{"BOOL":false}`, `{"NULL":true}`,
		`{"SS":["","a","b"]}`, `{"NS":["1","2"]}`, `{"BS":["","AAEC"]}`,
		`{"L":[{"S":"a"},{"L":[]},{"M":{}}]}`, `{"M":{"":{"S":"a"},"b":{"L":[{"NULL":true}]}}}`,
	} {
		out, err := wire.Marshal(parse(t, text))
		require.NoError(t, err)
		require.Equal(t, text, string(out))
	}
}

func TestInvalidValues(t *testing.T) {
	deep := func(levels int) string {
		return strings.Repeat(`{"L":[`, levels) + `{"S":"x"}` + strings.Repeat(`]}`, levels)
	}
	parse(t, deep(31))
	for text, want := range map[string]string{
		`{}`:                     "ValidationException: Supplied AttributeValue is empty, must contain exactly one of the supported datatypes",
		`{"X":"y"}`:              "ValidationException: Supplied AttributeValue is empty, must contain exactly one of the supported datatypes",
		`{"S":"a","N":"1"}`:      "ValidationException: Supplied AttributeValue has more than one datatypes set, must contain exactly one of the supported datatypes",
		`{"NULL":false}`:         "ValidationException: One or more parameter values were invalid: Null attribute value types must have the value of true",
		`{"SS":[]}`:              "ValidationException: One or more parameter values were invalid: An string set  may not be empty",
		`{"NS":[]}`:              "ValidationException: One or more parameter values were invalid: An number set  may not be empty",
		`{"BS":[]}`:              "ValidationException: One or more parameter values were invalid: Binary sets should not be empty",
		`{"NS":["1","x"]}`:       "ValidationException: The parameter cannot be converted to a numeric value: x",
		`{"BS":["AAEC","AAEC"]}`: "ValidationException: One or more parameter values were invalid: Input collection [\"AAEC\",\"AAEC\"]of type BS contains duplicates.",
		`{"L":[{"S":1}]}`:        "SerializationException: NUMBER_VALUE cannot be converted to String",
		`{"M":{"a":{}}}`:         "ValidationException: Supplied AttributeValue is empty, must contain exactly one of the supported datatypes",
		`{"BOOL":[]}`:            "SerializationException: Unrecognized collection type class java.lang.Boolean",
		`{"B":"A==="}`:           "SerializationException: Invalid last non-pad Base64 character dectected",
		deep(32):                 "ValidationException: " + attr.MessageTooDeep,
	} {
		var v attr.Value
		require.EqualError(t, json.Unmarshal([]byte(text), &v), want, text)
	}
}

func TestEqual(t *testing.T) {
	same := [][2]string{
		{`{"N":"1.0"}`, `{"N":"1"}`}, {`{"SS":["a","b"]}`, `{"SS":["b","a"]}`}, {`{"NS":["1","2.0"]}`, `{"NS":["2","1"]}`},
		{`{"M":{"a":{"NS":["1","2"]},"b":{"S":"x"}}}`, `{"M":{"b":{"S":"x"},"a":{"NS":["2","1"]}}}`},
	}
	for _, c := range same {
		require.True(t, parse(t, c[0]).Equal(parse(t, c[1])), "%v", c)
		require.Equal(t, parse(t, c[0]).Canonical(), parse(t, c[1]).Canonical())
	}
	for _, c := range [][2]string{
		{`{"S":"1"}`, `{"N":"1"}`}, {`{"B":"AAEC"}`, `{"S":"AAEC"}`}, {`{"L":[{"S":"a"},{"S":"b"}]}`, `{"L":[{"S":"b"},{"S":"a"}]}`},
		{`{"SS":["a"]}`, `{"SS":["a","b"]}`}, {`{"M":{"a":{"S":"x"}}}`, `{"M":{"b":{"S":"x"}}}`}, {`{"NULL":true}`, `{"BOOL":true}`},
	} {
		require.False(t, parse(t, c[0]).Equal(parse(t, c[1])), "%v", c)
	}
}

func TestSetArithmetic(t *testing.T) {
	a, b := parse(t, `{"SS":["a","b"]}`), parse(t, `{"SS":["b","c"]}`)
	require.Equal(t, []string{"a", "b", "c"}, attr.Union(a, b).Members())
	require.Equal(t, []string{"a"}, attr.Difference(a, b).Members())
	require.False(t, attr.Difference(a, a).Exists(), "there is no empty set")
	require.Equal(t, []string{"a", "b"}, a.Members(), "values do not change")
}

func TestKindNames(t *testing.T) {
	var names []string
	for k := attr.KindS; k <= attr.KindBS; k++ {
		names = append(names, k.String())
	}
	slices.Sort(names)
	require.Equal(t, "B BOOL BS L M N NS NULL S SS", strings.Join(names, " "))
}

func FuzzValue(f *testing.F) {
	for _, seed := range []string{`{"S":"a"}`, `{"N":"1e5"}`, `{"L":[{"M":{"a":{"NS":["1","2"]}}}]}`, `{"B":"AAEC"}`, `{"N":"-0.0001"}`, `{"BOOL":"yes"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var v attr.Value
		if json.Unmarshal(data, &v) != nil {
			return
		}
		out, err := wire.Marshal(v)
		require.NoError(t, err)
		var again attr.Value
		require.NoError(t, json.Unmarshal(out, &again), "%s became %s", data, out)
		require.True(t, v.Equal(again), "%s became %s", data, out)
		require.Equal(t, v.Size(), again.Size())
		require.Equal(t, v.Canonical(), again.Canonical())
	})
}
