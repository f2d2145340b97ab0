package expr

import (
	"strings"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
)

// compare applies a comparator. A missing value differs from everything, another missing one
// included, and has no order; so do values of different types.
func compare(op string, a, b attr.Value) bool {
	equal := a.Exists() && a.Equal(b)
	switch op {
	case "=":
		return equal
	case "<>":
		return !equal
	}
	order, ok := a.Compare(b)
	if !ok {
		return false
	}
	switch op {
	case "<":
		return order < 0
	case "<=":
		return order <= 0
	case ">":
		return order > 0
	}
	return order >= 0
}

func beginsWith(v, prefix attr.Value) bool {
	ordered := v.Kind() == attr.KindS || v.Kind() == attr.KindB
	return ordered && v.Kind() == prefix.Kind() && strings.HasPrefix(v.Text(), prefix.Text())
}

// contains is a substring of a string or binary, or a member of a set or list.
func contains(v, part attr.Value) bool {
	member := attr.KindNone
	switch v.Kind() {
	case attr.KindS, attr.KindB:
		return part.Kind() == v.Kind() && strings.Contains(v.Text(), part.Text())
	case attr.KindL:
		for _, e := range v.List() {
			if e.Equal(part) {
				return true
			}
		}
		return false
	case attr.KindSS:
		member = attr.KindS
	case attr.KindNS:
		member = attr.KindN
	case attr.KindBS:
		member = attr.KindB
	}
	if part.Kind() != member {
		return false
	}
	for _, m := range v.Members() {
		if m == part.Text() {
			return true
		}
	}
	return false
}
