package jsonscan

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

var texts = []string{
	`{}`, `[]`, `null`, `true`, `false`, `0`, `-1.5e+10`, `"a"`, ` { "a" : [ 1 , { "b" : [ ] } ] } `, `[[],[],{}]`, `{"a":{},"b":[{}]}`,
	``, ` `, `{`, `[`, `}`, `{]`, `[}`, `{"a"}`, `{"a":}`, `{"a":1,}`, `[1,]`, `[,1]`, `[1 2]`, `{"a" 1}`, `{1:2}`, `01`, `-`, `1.`, `.5`, `1e`, `+1`,
	`tru`, `nul`, `nulL`, `"`, `"\`, `"\x"`, `"\u12"`, `"\u12g4"`, "\"\x01\"", "\"\xff\"", `"\ud83d\ude00"`, `"\ud83d"`, `"\ud83dx"`, `"\ud83d\u0041"`,
	`"\ude00\ud83d\ude00"`, `1 2`, `{} x`, `{"\u0061":1}`, "\"\x7f\"", "\ufeff{}", `"\"\\\/\b\f\n\r\t"`, `nullnull`, `[nullx]`,
}

func TestAcceptsWhatEncodingJSONAccepts(t *testing.T) {
	for _, text := range texts {
		same(t, []byte(text))
	}
}

func TestDepthIsBounded(t *testing.T) {
	deep := func(n int) []byte { return []byte(strings.Repeat("[", n) + strings.Repeat("]", n)) }
	c := New(deep(MaxDepth))
	require.NotNil(t, c.Value())
	for _, n := range []int{MaxDepth + 1, 10_000, 5_000_000} {
		c = New(deep(n))
		require.Nil(t, c.Value())
		require.ErrorContains(t, c.Err(), "nested deeper than 128 levels")
	}
}

func TestKeyAndElementWalkAContainer(t *testing.T) {
	c := New([]byte(` {"a": [1, "x"] , "\u0062":null} `))
	require.True(t, c.Enter('{'))
	name, ok := c.Key(true)
	require.True(t, ok)
	require.Equal(t, "a", string(name))
	require.True(t, c.Enter('['))
	require.True(t, c.Element(true))
	require.Equal(t, "1", string(c.Value()))
	require.True(t, c.Element(false))
	require.Equal(t, `"x"`, string(c.Value()))
	require.False(t, c.Element(false))
	name, ok = c.Key(false)
	require.True(t, ok)
	require.Equal(t, "b", string(name))
	require.True(t, IsNull(c.Value()))
	_, ok = c.Key(false)
	require.False(t, ok)
	c.End()
	require.NoError(t, c.Err())
}

func TestWalkRefusesWhatValueRefuses(t *testing.T) {
	for _, text := range []string{`{"a":1,}`, `{"a" 1}`, `{a:1}`, `{"a":1 "b":2}`, `{"a":1`, `{"a":`, `{`, `{"a":1}x`} {
		c := New([]byte(text))
		require.True(t, c.Enter('{'))
		for first := true; ; first = false {
			if _, ok := c.Key(first); !ok {
				break
			}
			c.Value()
		}
		c.End()
		require.Errorf(t, c.Err(), "%q was accepted", text)
	}
}

func FuzzValue(f *testing.F) {
	for _, text := range texts {
		f.Add([]byte(text))
	}
	f.Fuzz(same)
}

// same compares with encoding/json: both accept a text or both refuse it, and a string means the same to both.
func same(t *testing.T, text []byte) {
	c := New(text)
	raw := c.Value()
	c.End()
	if c.Err() != nil && strings.Contains(c.Err().Error(), "nested deeper") {
		return
	}
	require.Equalf(t, json.Valid(text), c.Err() == nil, "%q: %v", text, c.Err())
	if c.Err() != nil || !IsString(raw) {
		return
	}
	var want string
	require.NoError(t, json.Unmarshal(text, &want))
	got := string(Unquote(nil, raw))
	require.Equal(t, want, got)
	require.True(t, utf8.ValidString(got))
	unquoteAll(t, raw)
}

// Every way to unescape a string gives the same result, and UnquotedLen is right about the room.
func TestWaysToUnquoteAgree(t *testing.T) {
	for _, text := range []string{
		`""`, `"a"`, `"12345678"`, `"\n2345678\n"`, `"1234567\"abcdefgh"`, `"\\]]]]]]]]"`, `"\"##########"`, `"\\\\\\\\\\\\"`, `"\ud83d\ude00\ud83d\ude00"`,
		`"\ud83d\ud83d\ude00"`, `"\ud83d\u0041\u0042"`, `"\u0041\ud83d\ude00"`, `"\ud83d"`, "\"\xff\xfe\xfd0123456789\"", "\"0123456é89\"", `"\/\b\f\n\r\t"`, "\"\xe2\x82\"",
		"\"\xf0\x9f\x98\x80\xf0\x9f\"", `"` + strings.Repeat(`\\`, 1000) + `"`, `"` + strings.Repeat("\xff", 1000) + `"`, `"` + strings.Repeat(`\u00e9`, 300) + `"`,
	} {
		same(t, []byte(text)) // compares all ways of unescaping
	}
}

func unquoteAll(t *testing.T, raw []byte) {
	want := string(Unquote(nil, raw))
	require.Equal(t, want, string(Text(raw)))
	require.GreaterOrEqual(t, UnquotedLen(raw), len(want))
	require.LessOrEqual(t, UnquotedLen(raw), max(3*len(raw), 8))
	out, ok := UnquoteWithin(make([]byte, 0, len(want)), raw)
	require.True(t, ok, "%.60q has room for all", raw)
	require.Equal(t, want, string(out))
	if want != "" {
		_, ok = UnquoteWithin(make([]byte, 0, len(want)-1), raw)
		require.False(t, ok, "%.60q has no room", raw)
	}
	var b strings.Builder
	WriteUnquoted(&b, raw)
	require.Equal(t, want, b.String())
	for _, room := range []int{len(want), max(len(want), len(raw)) + 20} {
		c := New(append([]byte(nil), raw...))
		out, ok = c.StringWithin(append(make([]byte, 0, room+2), "x:"...)[:2])
		require.True(t, ok, "%.60q in one pass", raw)
		require.Equal(t, "x:"+want, string(out))
		require.Equal(t, len(raw), c.Offset())
	}
	c := New(raw)
	_, ok = c.StringWithin(make([]byte, 0, max(len(want)-1, 0)))
	require.Equal(t, want == "", ok)
}

// Single leaves a value in another shape where it is. For a value in its shape it gives what Key and Value give.
func TestSingleTakesOneShapeOnly(t *testing.T) {
	for text, want := range map[string]string{
		`{"S":"x"}`: `S "x"`, `{"M":{"a":[1]}} `: `M {"a":[1]}`, `{"N":1}`: `N 1`, `{"":null}`: ` null`, `{"12345678":""}`: `12345678 ""`,
		`{ "S":"x"}`: "", `{"S" :"x"}`: "", `{"S": "x"}`: "", `{"S":"x" }`: "", `{"S":"x","S":"y"}`: "", `{}`: "", `"x"`: "", `{"\u0053":"x"}`: "", `{"é":1}`: "",
		`{"S":"x"`: "", `{"S":`: "", `{"S"`: "", `{"`: "", `{"S":"x`: "", `{"S":tru}`: "", ``: "", `{"S":[}`: "",
	} {
		c := New([]byte(text))
		name, value, ok := c.Single()
		if want == "" {
			require.False(t, ok, text)
			require.Zero(t, c.Offset(), text)
			continue
		}
		require.True(t, ok, text)
		require.Equal(t, want, string(name)+" "+string(value))
	}
}

// These texts cost a careless scanner time, memory or its stack. 10,000 levels are refused; everything else is JSON.
func TestHostileValues(t *testing.T) {
	for _, text := range []string{
		`"` + strings.Repeat(`\`, 1<<20) + `"`, `"` + strings.Repeat(`\`, 1<<20), `"` + strings.Repeat(`\`, 1<<20-1) + `"`,
		strings.Repeat("9", 400), "-0." + strings.Repeat("9", 400) + "e" + strings.Repeat("9", 400), `"` + "\x00" + `"`, "\x00", `{"a":` + "\x00}",
		strings.Repeat(`{"a":`, 128) + "1" + strings.Repeat("}", 128), strings.Repeat(`[{"a":`, 64) + "1" + strings.Repeat("}]", 64), `"` + strings.Repeat("\xff", 1<<14) + `"`,
	} {
		same(t, []byte(text))
	}
	for _, text := range []string{strings.Repeat(`{"a":`, 10_000), strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)} {
		c := New([]byte(text))
		require.Nil(t, c.Value())
		require.ErrorContains(t, c.Err(), "nested deeper than 128 levels")
	}
}

func TestScanningAllocatesNothing(t *testing.T) {
	text := []byte(`{"a":[1,2,{"b":"c\n"}],"d":{"e":"` + strings.Repeat("x", 1000) + `"},"f":null}`)
	buf := make([]byte, 0, 2000)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		c := New(text)
		c.Enter('{')
		for _, ok := c.Key(true); ok; _, ok = c.Key(false) {
			if raw := c.Value(); IsString(raw) {
				Unquote(buf, raw)
			}
		}
	}))
}
