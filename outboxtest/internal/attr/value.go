// Package attr holds DynamoDB attribute values: their JSON form, the rules they must obey, their
// size, their order and their arithmetic.
//
// It knows nothing about tables, keys' schemas or expressions. Its errors are *wire.Error with the
// text AWS uses, without the prefixes that depend on where a value was found.
package attr

import (
	"bytes"
	"slices"
	"strings"
)

// Kind is a value's data type.
type Kind uint8

// The data types. KindNone is the zero Value: no value at all.
const (
	KindNone Kind = iota
	KindS
	KindN
	KindB
	KindBOOL
	KindNULL
	KindM
	KindL
	KindSS
	KindNS
	KindBS
)

// String is the type's descriptor on the wire, e.g. "SS".
func (k Kind) String() string {
	switch k {
	case KindS:
		return "S"
	case KindN:
		return "N"
	case KindB:
		return "B"
	case KindBOOL:
		return "BOOL"
	case KindNULL:
		return "NULL"
	case KindM:
		return "M"
	case KindL:
		return "L"
	case KindSS:
		return "SS"
	case KindNS:
		return "NS"
	case KindBS:
		return "BS"
	}
	return ""
}

// LongName is the type's name in complaints about update expressions, e.g. "STRING".
func (k Kind) LongName() string {
	switch k {
	case KindS:
		return "STRING"
	case KindN:
		return "NUMBER"
	case KindB:
		return "BINARY"
	case KindBOOL:
		return "BOOLEAN"
	case KindM:
		return "MAP"
	case KindL:
		return "LIST"
	}
	return k.String()
}

// IsSet reports whether the type is one of the three sets.
func (k Kind) IsSet() bool { return k == KindSS || k == KindNS || k == KindBS }

// Value is one attribute value. It is immutable: nobody may change the slices and maps it hands
// out, so values are shared freely between items, snapshots and goroutines. The zero Value is
// no value.
type Value struct {
	kind Kind
	// string (S; N in plain notation; B as bytes), bool, map[string]Value, []Value or []string (sets).
	data any
}

// Item is a set of named values: an item, a key or a map.
type Item = map[string]Value

// String makes an S.
func String(s string) Value { return Value{KindS, s} }

// Binary makes a B.
func Binary(b []byte) Value { return Value{KindB, string(b)} }

// Boolean makes a BOOL.
func Boolean(b bool) Value { return Value{KindBOOL, b} }

// Null makes a NULL.
func Null() Value { return Value{kind: KindNULL} }

// Map makes an M of m, which the Value owns from then on.
func Map(m map[string]Value) Value { return Value{KindM, m} }

// List makes an L of l, which the Value owns from then on.
func List(l []Value) Value { return Value{KindL, l} }

// Number makes an N of a number's text; the error is AWS's complaint about it.
func Number(text string) (Value, error) {
	d, err := parseDecimal(text)
	if err != nil {
		return Value{}, err
	}
	return Value{KindN, d.text()}, nil
}

// Int makes an N.
func Int(n int) Value {
	v, _ := Number(itoa(n)) // an int has at most 20 digits
	return v
}

// set makes a set of members in their stored form: N in plain notation, B as bytes. It puts them in
// DynamoDB's order: numbers by value, anything else by bytes.
func set(kind Kind, members []string) Value {
	less := strings.Compare
	if kind == KindNS {
		less = func(a, b string) int {
			order, _ := Value{KindN, a}.Compare(Value{KindN, b})
			return order
		}
	}
	slices.SortFunc(members, less)
	return Value{kind, members}
}

// Kind is the value's type, KindNone for the zero Value.
func (v Value) Kind() Kind { return v.kind }

// Exists reports whether there is a value.
func (v Value) Exists() bool { return v.kind != KindNone }

// Text is the content of an S, the plain decimal notation of an N, or the bytes of a B; else "".
func (v Value) Text() string {
	if v.kind == KindS || v.kind == KindN || v.kind == KindB {
		s, _ := v.data.(string)
		return s
	}
	return ""
}

// Bool is the content of a BOOL; else false.
func (v Value) Bool() bool {
	b, _ := v.data.(bool)
	return b
}

// Map is the content of an M, not to be changed; else nil.
func (v Value) Map() map[string]Value {
	m, _ := v.data.(map[string]Value)
	return m
}

// List is the content of an L, not to be changed; else nil.
func (v Value) List() []Value {
	l, _ := v.data.([]Value)
	return l
}

// Members are the members of a set in the form of Text, not to be changed; else nil.
func (v Value) Members() []string {
	m, _ := v.data.([]string)
	return m
}

// Len is the length that size() tells: characters' bytes, members, or entries; ok is false for
// types without one.
func (v Value) Len() (n int, ok bool) {
	switch v.kind {
	case KindS, KindB:
		return len(v.Text()), true
	case KindM:
		return len(v.Map()), true
	case KindL:
		return len(v.List()), true
	case KindSS, KindNS, KindBS:
		return len(v.Members()), true
	}
	return 0, false
}

// Equal reports whether two values are of one type and the same: numbers by value, sets in any
// order, lists and maps by their content.
func (v Value) Equal(w Value) bool {
	if v.kind != w.kind {
		return false
	}
	switch v.kind {
	case KindM:
		return EqualItems(v.Map(), w.Map())
	case KindL:
		return slices.EqualFunc(v.List(), w.List(), Value.Equal)
	case KindSS, KindNS, KindBS:
		return equalSets(v.Members(), w.Members())
	}
	// Numbers have one plain notation each, so comparing text is comparing value.
	return v.data == w.data
}

// EqualItems reports whether two items have the same attributes with Equal values.
func EqualItems(a, b Item) bool {
	if len(a) != len(b) {
		return false
	}
	for name, v := range a {
		w, ok := b[name]
		if !ok || !v.Equal(w) {
			return false
		}
	}
	return true
}

func equalSets(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	in := make(map[string]struct{}, len(a))
	for _, m := range a {
		in[m] = struct{}{}
	}
	for _, m := range b {
		if _, ok := in[m]; !ok {
			return false
		}
	}
	return true
}

// Compare orders two values of the same ordered type (S by UTF-8 bytes, N by value, B by unsigned
// bytes); ok is false if they have no order.
func (v Value) Compare(w Value) (order int, ok bool) {
	if v.kind != w.kind {
		return 0, false
	}
	switch v.kind {
	case KindS, KindB:
		return strings.Compare(v.Text(), w.Text()), true
	case KindN:
		return bytes.Compare(v.decimal().sortable(), w.decimal().sortable()), true
	}
	return 0, false
}

// Sortable is a string for an S, N or B whose byte order is Compare's order among values of that
// type, and which is equal exactly for Equal values; "" for other types.
func (v Value) Sortable() string {
	if v.kind == KindN {
		return string(v.decimal().sortable())
	}
	return v.Text()
}

// Stored is an S, N or B as DynamoDB hashes it: a number is a byte for sign and exponent, then a byte
// for every two digits.
func (v Value) Stored() []byte {
	if v.kind == KindN {
		return v.decimal().stored()
	}
	return []byte(v.Text())
}

// Union is the set v with the members of w that it lacks; both are sets of one type.
func Union(v, w Value) Value {
	in := memberSet(v)
	out := slices.Clone(v.Members())
	for _, m := range w.Members() {
		if _, ok := in[m]; !ok {
			out = append(out, m)
		}
	}
	return set(v.kind, out)
}

// Difference is the set v without the members of w; the zero Value if none is left, since there are
// no empty sets.
func Difference(v, w Value) Value {
	gone := memberSet(w)
	var out []string
	for _, m := range v.Members() {
		if _, ok := gone[m]; !ok {
			out = append(out, m)
		}
	}
	if out == nil {
		return Value{}
	}
	return set(v.kind, out)
}

func memberSet(v Value) map[string]struct{} {
	in := make(map[string]struct{}, len(v.Members()))
	for _, m := range v.Members() {
		in[m] = struct{}{}
	}
	return in
}
