package dynamo

import (
	"fmt"
	"maps"
	"slices"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/expr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// The parameters that expressions have replaced. They become expressions.

type condition struct {
	AttributeValueList []attr.Raw
	ComparisonOperator *string `wire:"required,enum=IN|NULL|BETWEEN|LT|NOT_CONTAINS|EQ|GT|NOT_NULL|NE|LE|BEGINS_WITH|GE|CONTAINS"`
}

type expectedAttributeValue struct {
	AttributeValueList []attr.Raw
	ComparisonOperator *string `wire:"enum=IN|NULL|BETWEEN|LT|NOT_CONTAINS|EQ|GT|NOT_NULL|NE|LE|BEGINS_WITH|GE|CONTAINS"`
	Exists             *bool
	Value              *attr.Raw
}

// arguments is how many values an operator takes: at least, and at most.
func arguments(operator string) (low, high int) {
	switch operator {
	case "NULL", "NOT_NULL":
		return 0, 0
	case "BETWEEN":
		return 2, 2
	case "IN":
		return 1, 1 << 30
	}
	return 1, 1
}

// accepts reports whether an operator can compare with a value of the type.
func accepts(operator string, kind attr.Kind) bool {
	scalar := kind == attr.KindS || kind == attr.KindN || kind == attr.KindB
	switch operator {
	case "EQ", "NE":
		return true
	case "BEGINS_WITH":
		return kind == attr.KindS || kind == attr.KindB
	}
	return scalar
}

// counted is like invalid, for a fault that single writes count.
func counted(format string, args ...any) error {
	return wire.CountedValidation(invalidParameters + fmt.Sprintf(format, args...))
}

func rawValues(raw []attr.Raw) ([]attr.Value, error) {
	values := make([]attr.Value, len(raw))
	for i, r := range raw {
		v, err := r.Value()
		if err != nil {
			return nil, err
		}
		values[i] = v
	}
	return values, nil
}

// checkArguments checks the number of values and that they go together.
func checkArguments(operator string, values []attr.Value) error {
	if low, high := arguments(operator); len(values) < low || len(values) > high {
		return counted("Invalid number of argument(s) for the %s ComparisonOperator", operator)
	}
	for _, v := range values {
		if v.Kind() != values[0].Kind() {
			return counted("AttributeValues inside AttributeValueList must be of same type")
		}
	}
	return nil
}

func checkRange(operator string, values []attr.Value) error {
	if operator != "BETWEEN" {
		return nil
	}
	if order, ok := values[0].Compare(values[1]); ok && order > 0 {
		return wire.Validation("The BETWEEN condition was provided a range where the lower bound is greater than the upper bound")
	}
	return nil
}

// tests checks conditions and makes tests of them, in the order of the attributes' names.
func tests(conditions map[string]condition) ([]expr.Test, error) {
	var out []expr.Test
	for _, name := range slices.Sorted(maps.Keys(conditions)) {
		c := conditions[name]
		if err := checkName(name); err != nil {
			return nil, err
		}
		values, err := rawValues(c.AttributeValueList)
		if err != nil {
			return nil, err
		}
		if err := checkArguments(*c.ComparisonOperator, values); err != nil {
			return nil, err
		}
		for _, v := range values {
			if !accepts(*c.ComparisonOperator, v.Kind()) {
				return nil, invalid("ComparisonOperator %s is not valid for %s AttributeValue type", *c.ComparisonOperator, v.Kind())
			}
		}
		if err := checkRange(*c.ComparisonOperator, values); err != nil {
			return nil, err
		}
		out = append(out, expr.Test{Attribute: name, Operator: *c.ComparisonOperator, Values: values})
	}
	return out, nil
}

// filterOf makes a condition of a QueryFilter or ScanFilter; nil of none.
func filterOf(conditions map[string]condition, operator *string) (*expr.Cond, error) {
	list, err := tests(conditions)
	if err != nil {
		return nil, err
	}
	if err := checkOperator(len(list), operator, conditions != nil); err != nil {
		return nil, err
	}
	return expr.Tests(list, str(operator) == "OR"), nil
}

// checkOperator checks that a ConditionalOperator has something to connect.
func checkOperator(n int, operator *string, given bool) error {
	switch {
	case operator == nil:
		return nil
	case !given:
		return invalid("ConditionalOperator cannot be used without Filter or Expected")
	case n == 0:
		return invalid("ConditionalOperator cannot be used without Filter or Expected")
	case n == 1:
		return invalid("ConditionalOperator can only be used when Filter or Expected has two or more elements")
	}
	return nil
}

// boundsOf makes bounds of KeyConditions.
func boundsOf(conditions map[string]condition) (map[string]expr.Bound, error) {
	list, err := tests(conditions)
	if err != nil {
		return nil, err
	}
	bounds := make(map[string]expr.Bound, len(list))
	for _, t := range list {
		bounds[t.Attribute] = expr.Bound{Op: expr.BoundOperator(t.Operator), Values: t.Values}
	}
	return bounds, nil
}

// expectations makes a condition of Expected; nil of none.
func expectations(expected map[string]expectedAttributeValue, operator *string) (*expr.Cond, error) {
	var list []expr.Test
	for _, name := range slices.Sorted(maps.Keys(expected)) {
		t, err := expected[name].test(name)
		if err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	if err := checkOperator(len(list), operator, expected != nil); err != nil {
		return nil, err
	}
	return expr.Tests(list, str(operator) == "OR"), nil
}

func (e expectedAttributeValue) test(name string) (expr.Test, error) {
	t := expr.Test{Attribute: name}
	fail := func(format string, args ...any) (expr.Test, error) {
		return t, counted(format+" for Attribute: %s", append(args, name)...)
	}
	raw := e.AttributeValueList
	switch {
	case e.AttributeValueList != nil && e.Value != nil:
		return fail("Value and AttributeValueList cannot be used together")
	case e.Value != nil:
		raw = []attr.Raw{*e.Value}
	}
	if e.ComparisonOperator == nil {
		return e.simple(t, fail)
	}
	t.Operator = *e.ComparisonOperator
	if e.Exists != nil {
		return fail("Exists and ComparisonOperator cannot be used together")
	}
	if _, high := arguments(t.Operator); high > 0 && e.AttributeValueList == nil && e.Value == nil {
		return fail("Value or AttributeValueList must be used with ComparisonOperator: %s", t.Operator)
	}
	var err error
	if t.Values, err = rawValues(raw); err != nil {
		return t, err
	}
	if err := checkArguments(t.Operator, t.Values); err != nil {
		return t, err
	}
	for _, v := range t.Values {
		if !accepts(t.Operator, v.Kind()) {
			return t, counted("ComparisonOperator %s is not valid for %s AttributeValue type", t.Operator, v.Kind())
		}
	}
	return t, checkRange(t.Operator, t.Values)
}

// simple is an expectation without an operator: a value, or none at all.
func (e expectedAttributeValue) simple(t expr.Test, fail func(string, ...any) (expr.Test, error)) (expr.Test, error) {
	exists := e.Exists == nil || *e.Exists
	switch {
	case e.AttributeValueList != nil:
		return fail("AttributeValueList can only be used with a ComparisonOperator")
	case exists && e.Value == nil:
		given := "null"
		if e.Exists != nil {
			given = fmt.Sprint(*e.Exists)
		}
		return fail("Value must be provided when Exists is %s", given)
	case !exists && e.Value != nil:
		return fail("Value cannot be used when Exists is false")
	case !exists:
		t.Operator = "NULL"
		return t, nil
	}
	v, err := e.Value.Value()
	t.Operator, t.Values = "EQ", []attr.Value{v}
	return t, err
}
