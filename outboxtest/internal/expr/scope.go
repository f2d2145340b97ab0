// Package expr is DynamoDB's expression language: conditions, filters, key conditions, projections
// and updates, parsed and checked with AWS's own complaints, and evaluated on items.
//
// It knows nothing about tables and requests. Every error is a *wire.Error, a ValidationException.
package expr

import (
	"slices"
	"strings"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// Limits of the language.
const (
	maxSize      = 4096
	maxOperators = 300
	maxIn        = 100
	maxSteps     = 32
	maxIndex     = 1<<31 - 1
)

// Kinds of expression, named after the parameter that carries them.
const (
	Condition    = "ConditionExpression"
	Filter       = "FilterExpression"
	KeyCondition = "KeyConditionExpression"
	Projection   = "ProjectionExpression"
	Update       = "UpdateExpression"
)

// Scope holds the placeholders that the expressions of one request share, and remembers which were
// used. It serves one request and is not safe for concurrent use.
type Scope struct {
	names      map[string]string
	values     map[string]attr.Value
	usedNames  map[string]struct{}
	usedValues map[string]struct{}
}

// NewScope checks the placeholders' spelling; nil maps mean that the request has none.
func NewScope(names map[string]string, values map[string]attr.Value) (*Scope, error) {
	if names != nil && len(names) == 0 {
		return nil, wire.CountedValidation("ExpressionAttributeNames must not be empty")
	}
	for _, key := range sortedKeys(names) {
		if !isPlaceholder(key, '#') {
			return nil, wire.Validation(`ExpressionAttributeNames contains invalid key: Syntax error; key: "` + key + `"`)
		}
		if len(key) > 255 {
			return nil, wire.Validation(`ExpressionAttributeNames contains invalid key: The expression attribute map contains a key that is too long; key: "` + key + `"`)
		}
		if names[key] == "" {
			return nil, wire.Validation("ExpressionAttributeNames contains invalid value: Empty attribute name for key " + key)
		}
		if len(names[key]) > 65535 {
			return nil, wire.Validation("ExpressionAttributeNames contains invalid value: Attribute name is too large, must be less than 65536 bytes for key " + key)
		}
	}
	if err := CheckValueNames(values); err != nil {
		return nil, err
	}
	return &Scope{
		names: names, values: values,
		usedNames: make(map[string]struct{}), usedValues: make(map[string]struct{}),
	}, nil
}

// CheckValueNames checks the spelling of value placeholders alone; nil is fine, empty is not.
func CheckValueNames[V any](values map[string]V) error {
	if values != nil && len(values) == 0 {
		return wire.CountedValidation("ExpressionAttributeValues must not be empty")
	}
	for _, key := range sortedKeys(values) {
		if !isPlaceholder(key, ':') {
			return wire.Validation(`ExpressionAttributeValues contains invalid key: Syntax error; key: "` + key + `"`)
		}
		if len(key) > 255 {
			return wire.Validation(`ExpressionAttributeValues contains invalid key: The expression attribute map contains a key that is too long; key: "` + key + `"`)
		}
	}
	return nil
}

func isPlaceholder(key string, mark byte) bool {
	return len(key) > 1 && key[0] == mark && run(key, 1) == len(key)
}

func (s *Scope) name(placeholder string) (string, bool) {
	name, ok := s.names[placeholder]
	if ok {
		s.usedNames[placeholder] = struct{}{}
	}
	return name, ok
}

func (s *Scope) value(placeholder string) (attr.Value, bool) {
	v, ok := s.values[placeholder]
	if ok {
		s.usedValues[placeholder] = struct{}{}
	}
	return v, ok
}

// Unused is AWS's complaint about placeholders that no expression parsed so far has used.
func (s *Scope) Unused() error {
	if unused := missing(s.names, s.usedNames); unused != "" {
		return wire.CountedValidation("Value provided in ExpressionAttributeNames unused in expressions: keys: {" + unused + "}")
	}
	if unused := missing(s.values, s.usedValues); unused != "" {
		return wire.CountedValidation("Value provided in ExpressionAttributeValues unused in expressions: keys: {" + unused + "}")
	}
	return nil
}

func missing[V any](given map[string]V, used map[string]struct{}) string {
	var out []string
	for _, key := range sortedKeys(given) {
		if _, ok := used[key]; !ok {
			out = append(out, key)
		}
	}
	return strings.Join(out, ", ")
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
