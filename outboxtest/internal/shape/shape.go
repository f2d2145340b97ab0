// Package shape checks a decoded JSON request against the model of an AWS
// operation, the way the service front ends do it before the operation itself
// runs: wrong JSON types are a SerializationException, violated constraints of
// the model are one ValidationException that lists them.
//
// It knows JSON types, constraints and the wording of the two exceptions. It
// must not know any operation, nor what a field means.
package shape

import (
	"regexp"
	"strconv"
)

// Kind is the model type of a field.
type Kind int

// The model types that the emulated services use.
const (
	kindString Kind = iota
	kindInteger
	kindBoolean
	kindTimestamp
	kindBlob
	kindList
	kindMap
	kindStructure
)

// Field is the model of one member: its type and its constraints. The zero
// value is not useful; build one with the constructors. A Field is immutable,
// every method returns a changed copy.
type Field struct {
	name     string
	kind     Kind
	notNull  bool
	pattern  *regexp.Regexp
	text     string
	enum     []string
	min, max *int64
	keyLen   *[2]int64
	valueLen *[2]int64
	children []Field
	member   string
}

// String is a text member.
func String(name string) Field { return Field{name: name, kind: kindString} }

// Integer is a whole number of 32 bits.
func Integer(name string) Field { return Field{name: name, kind: kindInteger} }

// Boolean is a true or false member.
func Boolean(name string) Field { return Field{name: name, kind: kindBoolean} }

// Timestamp is a number of seconds since the epoch, with fractions.
func Timestamp(name string) Field { return Field{name: name, kind: kindTimestamp} }

// Blob is binary data, base64 on the wire.
func Blob(name string) Field { return Field{name: name, kind: kindBlob} }

// List is a list whose elements follow elem, which needs no name. How the
// front end prints an element in an error text is member; "" prints the value.
func List(name string, elem Field, member string) Field {
	return Field{name: name, kind: kindList, children: []Field{elem}, member: member}
}

// Map is a map of strings.
func Map(name string) Field { return Field{name: name, kind: kindMap} }

// Structure is a nested structure of the given members.
func Structure(name string, members ...Field) Field {
	return Field{name: name, kind: kindStructure, children: members}
}

// Required makes null or absence a violation.
func (f Field) Required() Field { f.notNull = true; return f }

// Match demands that the whole text matches the pattern.
func (f Field) Match(pattern string) Field {
	f.text, f.pattern = pattern, regexp.MustCompile(`^(?s:`+pattern+`)$`)
	return f
}

// OneOf demands one of the values; the error text lists them in this order.
func (f Field) OneOf(values ...string) Field { f.enum = values; return f }

// Range demands a number, or the length of anything else, between low and
// high. A negative high means that there is no upper bound.
func (f Field) Range(low, high int64) Field {
	f.min = &low
	if high >= 0 {
		f.max = &high
	}
	return f
}

// AtMost demands a number or a length of at most high.
func (f Field) AtMost(high int64) Field { f.max = &high; return f }

// EntryLengths bounds the lengths of a map's keys and values.
func (f Field) EntryLengths(minKey, maxKey, minValue, maxValue int64) Field {
	f.keyLen, f.valueLen = &[2]int64{minKey, maxKey}, &[2]int64{minValue, maxValue}
	return f
}

func lowerFirst(s string) string {
	if s == "" || s[0] < 'A' || s[0] > 'Z' {
		return s
	}
	return string(s[0]+'a'-'A') + s[1:]
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
