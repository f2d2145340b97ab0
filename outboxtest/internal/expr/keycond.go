package expr

import (
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// Bound is a condition on one key attribute: a comparator, BETWEEN or begins_with, and its values.
type Bound struct {
	Op     string
	Values []attr.Value
}

// Match applies the bound to a key's value.
func (b Bound) Match(v attr.Value) bool {
	switch b.Op {
	case "BETWEEN":
		return compare(">=", v, b.Values[0]) && compare("<=", v, b.Values[1])
	case "begins_with":
		return beginsWith(v, b.Values[0])
	}
	return compare(b.Op, v, b.Values[0])
}

// Bounds takes a key condition apart: one bound for each attribute it names.
func (c *Cond) Bounds() (map[string]Bound, error) {
	bounds := make(map[string]Bound)
	if err := c.root.bounds(bounds); err != nil {
		return nil, err
	}
	return bounds, nil
}

func (n *node) bounds(out map[string]Bound) error {
	switch {
	case n.kind == nodeAnd:
		for _, arg := range n.args {
			if err := arg.bounds(out); err != nil {
				return err
			}
		}
		return nil
	case n.kind == nodeOr, n.kind == nodeNot, n.kind == nodeIn, n.kind == nodeCompare && n.op == "<>",
		n.kind == nodeFunction && n.op != "begins_with":
		return wire.Validation("Invalid operator used in KeyConditionExpression: " + n.op)
	case (n.kind == nodeBetween || n.kind == nodeFunction) && n.args[0].kind != nodePath && n.args[0].kind != nodeFunction:
		return wire.Validation("Invalid condition in KeyConditionExpression: " + n.op + " operator must have the key attribute as its first operand")
	}
	key := -1
	for i, arg := range n.args {
		switch arg.kind {
		case nodeFunction:
			return wire.Validation("KeyConditionExpressions cannot contain nested operations")
		case nodePath:
			if key >= 0 {
				return wire.Validation("Invalid condition in KeyConditionExpression: Multiple attribute names used in one condition")
			}
			if arg.path.Nested() {
				return wire.Validation("Invalid KeyConditionExpression: KeyConditionExpressions cannot have conditions on nested attributes")
			}
			key = i
		}
	}
	if key < 0 {
		return wire.Validation("Invalid condition in KeyConditionExpression: No key attribute specified")
	}
	name := n.args[key].path.Head()
	if _, twice := out[name]; twice {
		return wire.Validation("Invalid KeyConditionExpression: KeyConditionExpressions must only contain one condition per key")
	}
	b := Bound{Op: n.op}
	if key == 1 {
		b.Op = mirrored(n.op)
	}
	for i, arg := range n.args {
		if i != key {
			b.Values = append(b.Values, arg.value)
		}
	}
	out[name] = b
	return nil
}

// mirrored is the comparator with its sides exchanged.
func mirrored(op string) string {
	switch op {
	case "<":
		return ">"
	case "<=":
		return ">="
	case ">":
		return "<"
	case ">=":
		return "<="
	}
	return op
}

// Heads are the attributes that the condition looks at, and whether it looks inside them.
func (c *Cond) Heads() map[string]bool {
	heads := make(map[string]bool)
	c.root.walk(func(n *node) string {
		if n.kind == nodePath {
			heads[n.path.Head()] = heads[n.path.Head()] || n.path.Nested()
		}
		return ""
	})
	return heads
}
