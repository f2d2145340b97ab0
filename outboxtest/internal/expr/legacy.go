package expr

import (
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
)

// Test is one condition of the kind that expressions have replaced.
type Test struct {
	Attribute string
	// Operator is the API's name of it, e.g. "BEGINS_WITH".
	Operator string
	Values   []attr.Value
}

// Tests makes a condition of tests, all of which must hold, or any; nil if there are none.
func Tests(tests []Test, any bool) *Cond {
	kind := nodeAnd
	if any {
		kind = nodeOr
	}
	var root *node
	for _, t := range tests {
		n := t.node()
		if root == nil {
			root = n
		} else {
			root = &node{kind: kind, args: []*node{root, n}}
		}
	}
	if root == nil {
		return nil
	}
	return &Cond{root}
}

// BoundOperator is the operator of a Bound for the API's name of it, "" if keys cannot be queried by it.
func BoundOperator(name string) string {
	switch name {
	case "EQ":
		return "="
	case "LT":
		return "<"
	case "LE":
		return "<="
	case "GT":
		return ">"
	case "GE":
		return ">="
	case "BETWEEN":
		return "BETWEEN"
	case "BEGINS_WITH":
		return "begins_with"
	}
	return ""
}

func (t Test) node() *node {
	args := []*node{{kind: nodePath, path: Path{{name: t.Attribute}}}}
	for _, v := range t.Values {
		args = append(args, &node{kind: nodeValue, value: v})
	}
	function := func(name string) *node { return &node{kind: nodeFunction, op: name, args: args} }
	switch t.Operator {
	case "NE":
		return &node{kind: nodeCompare, op: "<>", args: args}
	case "BETWEEN":
		return &node{kind: nodeBetween, args: args}
	case "IN":
		return &node{kind: nodeIn, args: args}
	case "NULL":
		return function("attribute_not_exists")
	case "NOT_NULL":
		return function("attribute_exists")
	case "BEGINS_WITH":
		return function("begins_with")
	case "CONTAINS":
		return function("contains")
	case "NOT_CONTAINS":
		// An attribute that is not there neither contains anything nor lacks it.
		return &node{kind: nodeAnd, args: []*node{
			{kind: nodeFunction, op: "attribute_exists", args: args[:1]},
			{kind: nodeNot, args: []*node{function("contains")}},
		}}
	}
	return &node{kind: nodeCompare, op: BoundOperator(t.Operator), args: args}
}

// Replacement is one change of the kind that update expressions have replaced.
type Replacement struct {
	Attribute string
	// Action is PUT, ADD or DELETE.
	Action string
	// Value is missing for the deletion of the whole attribute.
	Value attr.Value
}

// Replacements makes an update of changes; nil if there are none.
func Replacements(changes []Replacement) *Upd {
	if len(changes) == 0 {
		return nil
	}
	u := &Upd{legacy: true}
	for _, c := range changes {
		a := action{section: sectionSet, target: &node{kind: nodePath, path: Path{{name: c.Attribute}}}}
		switch {
		case !c.Value.Exists():
			a.section = sectionRemove
		case c.Action == "ADD":
			a.section = sectionAdd
		case c.Action == "DELETE":
			a.section = sectionDelete
		}
		if c.Value.Exists() {
			a.value = &node{kind: nodeValue, value: c.Value}
		}
		u.actions = append(u.actions, a)
	}
	return u
}
