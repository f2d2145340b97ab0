package dynamo

import (
	"slices"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// Limits of keys and items, in bytes.
const (
	maxHashSize  = 2048
	maxRangeSize = 1024
	maxItemSize  = 400 << 10
)

// keyAttr is one attribute of a key.
type keyAttr struct {
	name string
	kind attr.Kind
}

// keySchema is the key of a table or index. Only global indexes have more than one attribute of a sort.
type keySchema struct {
	hash, ranges []keyAttr
}

func (k keySchema) attrs() []keyAttr { return slices.Concat(k.hash, k.ranges) }

func (k keySchema) has(name string) bool {
	return slices.ContainsFunc(k.attrs(), func(a keyAttr) bool { return a.name == name })
}

// multi reports whether the key has several attributes of one sort.
func (k keySchema) multi() bool { return len(k.hash) > 1 || len(k.ranges) > 1 }

// key picks the key's attributes from an item.
func (k keySchema) key(item attr.Item) attr.Item {
	out := make(attr.Item, 2)
	for _, a := range k.attrs() {
		out[a.name] = item[a.name]
	}
	return out
}

// place is where an item with a valid key goes.
func (k keySchema) place(item attr.Item) entryKey {
	p := entryKey{part: partition(k.values(k.hash, item))}
	for _, v := range k.values(k.ranges, item) {
		p.sort += k.sortable(v)
	}
	return p
}

func (k keySchema) values(attrs []keyAttr, item attr.Item) []attr.Value {
	out := make([]attr.Value, len(attrs))
	for i, a := range attrs {
		out[i] = item[a.name]
	}
	return out
}

const (
	messageKeyMismatch = "The provided key element does not match the schema"
	messageHashSize    = "One or more parameter values were invalid: Size of hashkey has exceeded the maximum size limit of2048 bytes"
	messageRangeSize   = "One or more parameter values were invalid: Aggregated size of all range keys has exceeded the size limit of 1024 bytes"
)

// emptyKey is the complaint about an empty key, which a transaction reports for itself instead of
// giving it as a reason.
func emptyKey(a keyAttr) error {
	return hoist("One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty " +
		kindWord(a.kind) + " value. Key: " + a.name)
}

// hoisted is a validation fault that fails a transaction as a whole.
type hoisted struct{ fault *wire.Error }

func hoist(message string) error { return &hoisted{wire.Validation(message)} }

// Error is the fault's text.
func (h *hoisted) Error() string { return h.fault.Error() }

// Unwrap is the fault.
func (h *hoisted) Unwrap() error { return h.fault }

func kindWord(k attr.Kind) string {
	if k == attr.KindB {
		return "binary"
	}
	return "string"
}

func empty(v attr.Value) bool { return v.Kind() != attr.KindN && v.Text() == "" }

// checkKey checks a key given by itself.
func (k keySchema) checkKey(key attr.Item) error {
	attrs := k.attrs()
	if len(key) != len(attrs) {
		return wire.Validation(messageKeyMismatch)
	}
	for _, a := range attrs {
		v := key[a.name]
		if v.Kind() != a.kind {
			return wire.Validation(messageKeyMismatch)
		}
		if empty(v) {
			return emptyKey(a)
		}
	}
	return k.checkSizes(key)
}

// checkItem checks the key in an item.
func (k keySchema) checkItem(item attr.Item) error {
	for _, a := range k.attrs() {
		v := item[a.name]
		switch {
		case !v.Exists():
			return wire.Validation("One or more parameter values were invalid: Missing the key " + a.name + " in the item")
		case v.Kind() != a.kind:
			return wire.Validation("One or more parameter values were invalid: Type mismatch for key " + a.name +
				" expected: " + a.kind.String() + " actual: " + v.Kind().String())
		case empty(v):
			return emptyKey(a)
		}
	}
	return k.checkSizes(item)
}

func (k keySchema) checkSizes(item attr.Item) error {
	size := func(attrs []keyAttr) (n int) {
		for _, v := range k.values(attrs, item) {
			if v.Kind() != attr.KindN {
				n += len(v.Text())
			}
		}
		return n
	}
	if size(k.hash) > maxHashSize {
		return wire.Validation(messageHashSize)
	}
	if size(k.ranges) > maxRangeSize {
		return wire.Validation(messageRangeSize)
	}
	return nil
}
