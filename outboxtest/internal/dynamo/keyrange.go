package dynamo

import (
	"strings"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/expr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// The order of entries within a partition is that of strings. The string of a single range attribute
// is its value's; those of several follow one another, each with its zero bytes escaped and an end
// that is less than anything that could go on.
const (
	escapedZero = "\x00\xff"
	endOfValue  = "\x00\x01"
)

// sortable is the string of one attribute of the key.
func (k keySchema) sortable(v attr.Value) string {
	if !k.multi() {
		return v.Sortable()
	}
	return k.beginning(v) + endOfValue
}

// beginning is what the strings of values that begin with this one begin with.
func (k keySchema) beginning(v attr.Value) string {
	if !k.multi() {
		return v.Sortable()
	}
	return strings.ReplaceAll(v.Sortable(), "\x00", escapedZero)
}

// after is the first string after all entries with the value, given the string of what comes before.
func (k keySchema) after(prefix string, v attr.Value) string {
	s := prefix + k.sortable(v)
	if !k.multi() {
		return s + "\x00"
	}
	return beyond(s)
}

// stretch is a part of a partition: from low, to high exclusively, or to the end if high is "".
type stretch struct{ low, high string }

func (s stretch) holds(sort string) bool { return sort >= s.low && (s.high == "" || sort < s.high) }

// stretch is what equal values of the first range attributes, and a condition on the next, leave.
func (k keySchema) stretch(equal []attr.Value, last *expr.Bound) stretch {
	prefix := ""
	for _, v := range equal {
		prefix += k.sortable(v)
	}
	s := stretch{low: prefix, high: beyond(prefix)}
	if last == nil {
		if len(equal) > 0 && !k.multi() { // exactly this one: there is no end that keeps longer values off
			s.high = prefix + "\x00"
		}
		return s
	}
	v := last.Values[0]
	switch last.Op {
	case "<":
		s.high = prefix + k.sortable(v)
	case "<=":
		s.high = k.after(prefix, v)
	case ">":
		s.low = k.after(prefix, v)
	case ">=":
		s.low = prefix + k.sortable(v)
	case "BETWEEN":
		s = stretch{prefix + k.sortable(v), k.after(prefix, last.Values[1])}
	case "begins_with":
		s = stretch{prefix + k.beginning(v), beyond(prefix + k.beginning(v))}
	}
	return s
}

// beyond is the first string that is greater than every string with the prefix, "" if there is none.
func beyond(prefix string) string {
	b := []byte(prefix)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] < 0xff {
			b[i]++
			return string(b[:i+1])
		}
	}
	return ""
}

// keyRange is where in a table or index a query looks.
type keyRange struct {
	hash []attr.Value
	// equal are the values of the first range attributes, last the condition on the next, if any.
	equal []attr.Value
	last  *expr.Bound
}

// bounds checks the key condition against the key. expression says whether it was written as one.
func (r *reading) bounds(bounds map[string]expr.Bound, expression bool) (keyRange, error) {
	var kr keyRange
	k := r.key()
	attrs := k.attrs()
	if expression && len(bounds) > max(2, len(attrs)) {
		return kr, wire.Validationf("The number of query conditions (%d) exceeds the number of key attributes defined in the schema (%d)", len(bounds), len(attrs))
	}
	if len(attrs) == 1 && len(bounds) > 1 {
		return kr, wire.Validation("Query key condition not supported")
	}
	if err := checkNames(k, bounds); err != nil {
		return kr, err
	}
	for _, a := range attrs {
		if b, ok := bounds[a.name]; ok {
			if err := a.checkBound(b); err != nil {
				return kr, err
			}
		}
	}
	for _, a := range k.hash {
		b := bounds[a.name]
		if b.Op != "=" {
			if k.multi() {
				return kr, wire.Validation("HASH key attributes " + a.name + " must have equality conditions specified in the query")
			}
			return kr, wire.Validation("Query key condition not supported")
		}
		kr.hash = append(kr.hash, b.Values[0])
	}
	var loose []string
	for _, a := range k.ranges {
		b, ok := bounds[a.name]
		if ok && (len(loose) > 0 || kr.last != nil) {
			return kr, wire.Validation("RANGE key attributes " + strings.Join(loose, ", ") +
				" must have equality conditions specified in the query because a condition is present on key attribute " + a.name)
		}
		switch {
		case !ok:
			loose = append(loose, a.name)
		case b.Op == "=":
			kr.equal = append(kr.equal, b.Values[0])
		default:
			loose = append(loose, a.name)
			kr.last = &b
		}
	}
	return kr, nil
}

// checkNames checks that all conditions are on attributes of the key, the hash attribute among them.
func checkNames(k keySchema, bounds map[string]expr.Bound) error {
	known, missing := 0, ""
	for _, a := range k.attrs() {
		if _, ok := bounds[a.name]; ok {
			known++
		} else if missing == "" {
			missing = a.name
		}
	}
	if known < len(bounds) || !k.multi() && missing == k.hash[0].name {
		return wire.Validation("Query condition missed key schema element: " + missing)
	}
	return nil
}

// checkBound checks the condition on one attribute of the key.
func (a keyAttr) checkBound(b expr.Bound) error {
	if b.Op == "" {
		return wire.Validation("Attempted conditional constraint is not an indexable operation")
	}
	for _, v := range b.Values {
		if v.Kind() != a.kind {
			return wire.Validation("One or more parameter values were invalid: Condition parameter type does not match schema type")
		}
		if empty(v) && b.Op != "begins_with" {
			return wire.Validation("One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty " +
				kindWord(a.kind) + " value. Key: " + a.name)
		}
	}
	if b.Op == "begins_with" && a.kind == attr.KindN {
		return wire.Validation("One or more parameter values were invalid: ComparisonOperator BEGINS_WITH is not valid for N AttributeValue type")
	}
	return nil
}
