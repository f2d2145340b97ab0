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

// same checks one text against encoding/json: accepted by both or by neither, and a string means the same to both.
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
}
