package expr

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// FuzzParse feeds every parser the same text: whatever it is, the answer is an expression that can
// be evaluated or a ValidationException, never a panic.
func FuzzParse(f *testing.F) {
	for _, src := range []string{
		"", "(", "a", "#n = :v", "attribute_not_exists(pk) AND NOT (a < :v OR b BETWEEN :v AND :w)",
		"a IN (:v, :w)", "size(a[0].b) >= :n", "begins_with(a, :v)", "contains(a, :v)", "attribute_type(a, :v)",
		"SET a = if_not_exists(a, :n) + :n, l = list_append(l, :l) REMOVE b[1] ADD c :n DELETE d :ss",
		"a, b.c, #n[3]", "a[99999999999999999999]", "((a = :v))", "a = :undefined", "SET a = (:n - (b))", "é = :v",
	} {
		f.Add(src)
	}
	number := attr.Int(1)
	values := map[string]attr.Value{
		":v": attr.String("S"), ":w": attr.String("T"), ":n": number, ":l": attr.List([]attr.Value{number}),
		":ss": attr.Union(members(f, `{"SS":["x"]}`), members(f, `{"SS":["y"]}`)), ":t": attr.Boolean(true),
	}
	item := attr.Item{
		"a": attr.List([]attr.Value{attr.Map(attr.Item{"b": attr.String("S")})}), "b": attr.List([]attr.Value{number, number}),
		"c": number, "d": members(f, `{"SS":["x","z"]}`), "l": attr.List(nil), "name": attr.String("S"),
	}
	before, err := wire.Marshal(item)
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, src string) {
		scope := func() *Scope {
			s, err := NewScope(map[string]string{"#n": "name"}, values)
			require.NoError(t, err)
			return s
		}
		for _, kind := range []string{Condition, Filter, KeyCondition} {
			s := scope()
			cond, err := ParseCondition(kind, src, s)
			if requireValidation(t, err) {
				continue
			}
			_ = s.Unused()
			_ = cond.Heads()
			_ = cond.Match(item)
			_ = cond.Match(nil)
			_, err = cond.Bounds()
			requireValidation(t, err)
		}
		if proj, err := ParseProjection(src, scope()); !requireValidation(t, err) {
			_ = proj.Apply(item)
		}
		if update, err := ParseUpdate(src, scope()); !requireValidation(t, err) {
			_, err = update.Apply(item, true)
			requireValidation(t, err)
			_, err = update.Apply(attr.Item{"pk": number}, false)
			requireValidation(t, err)
		}
		after, err := wire.Marshal(item)
		require.NoError(t, err)
		require.Equal(t, string(before), string(after), "the item must not change")
	})
}

func members(f *testing.F, text string) attr.Value {
	f.Helper()
	var v attr.Value
	require.NoError(f, v.UnmarshalJSON([]byte(text)))
	return v
}

// requireValidation reports whether there is an error, which must be a ValidationException.
func requireValidation(t *testing.T, err error) bool {
	t.Helper()
	if err == nil {
		return false
	}
	var e *wire.Error
	require.True(t, errors.As(err, &e), "%v", err)
	require.Equal(t, wire.CodeValidation, e.Code)
	require.NotEmpty(t, e.Message)
	return true
}
