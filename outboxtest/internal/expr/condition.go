package expr

import (
	"slices"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
)

// Cond is a parsed condition, filter or key condition. It is immutable and safe for concurrent use.
type Cond struct{ root *node }

// ParseCondition parses and checks a condition of the given kind: Condition, Filter or KeyCondition.
// It marks the placeholders it uses in the scope.
func ParseCondition(kind, src string, s *Scope) (*Cond, error) {
	p, err := newParser(kind, src)
	if err != nil {
		return nil, err
	}
	root := p.or()
	if p.err == nil && (p.peek().kind != tokenEOF || !root.condition()) {
		p.syntax()
	}
	if p.err != nil {
		return nil, p.err
	}
	if complaint := checkCondition(p, root, s); complaint != "" {
		return nil, invalid(kind, complaint)
	}
	return &Cond{root}, nil
}

// or parses disjunctions. Like and, not and comparison it may return a bare operand, which only
// parentheses around it and a comparator after those can make sense of.
func (p *parser) or() *node { return p.chain(nodeOr, "OR", p.and) }

func (p *parser) and() *node { return p.chain(nodeAnd, "AND", p.not) }

func (p *parser) chain(kind nodeKind, word string, part func() *node) *node {
	left := part()
	for left != nil && p.isKeyword(word) {
		if !left.condition() {
			return p.syntax()
		}
		p.next()
		right := part()
		if right == nil {
			return nil
		}
		if !right.condition() {
			return p.syntax()
		}
		p.operators++
		left = &node{kind: kind, op: word, args: []*node{left, right}}
	}
	return left
}

func (p *parser) not() *node {
	if p.err != nil {
		return nil
	}
	if !p.isKeyword("NOT") {
		return p.comparison()
	}
	p.next()
	inner := p.not()
	if inner == nil {
		return nil
	}
	if !inner.condition() {
		return p.syntax()
	}
	p.operators++
	return &node{kind: nodeNot, op: "NOT", args: []*node{inner}}
}

func (p *parser) comparison() *node {
	var left *node
	if p.symbol("(") {
		left = p.enclosed(p.or)
	} else {
		left = p.operandOnly()
	}
	if left == nil {
		return nil
	}
	t := p.peek()
	comparator := t.kind == tokenSymbol && slices.Contains([]string{"=", "<>", "<", "<=", ">", ">="}, t.text)
	if !comparator && !p.isKeyword("BETWEEN", "IN") {
		return left
	}
	if !left.operand() {
		return p.syntax()
	}
	p.operators++
	switch {
	case comparator:
		p.next()
		right := p.operandOnly()
		if right == nil {
			return nil
		}
		return &node{kind: nodeCompare, op: t.text, args: []*node{left, right}}
	case p.keyword("BETWEEN"):
		low := p.operandOnly()
		if low == nil {
			return nil
		}
		if !p.keyword("AND") {
			return p.syntax()
		}
		high := p.operandOnly()
		if high == nil {
			return nil
		}
		return &node{kind: nodeBetween, op: "BETWEEN", args: []*node{left, low, high}}
	}
	p.next()
	return p.in(left)
}

func (p *parser) in(left *node) *node {
	n := &node{kind: nodeIn, op: "IN", args: []*node{left}}
	if !p.expect("(") {
		return nil
	}
	for {
		member := p.operandOnly()
		if member == nil {
			return nil
		}
		n.args = append(n.args, member)
		if p.symbol(",") {
			continue
		}
		if !p.expect(")") {
			return nil
		}
		return n
	}
}

// Match evaluates the condition on an item; nil is the item that does not exist.
func (c *Cond) Match(item attr.Item) bool { return c.root.match(item) }

func (n *node) match(item attr.Item) bool {
	switch n.kind {
	case nodeAnd:
		return n.args[0].match(item) && n.args[1].match(item)
	case nodeOr:
		return n.args[0].match(item) || n.args[1].match(item)
	case nodeNot:
		return !n.args[0].match(item)
	case nodeCompare:
		return compare(n.op, n.args[0].eval(item), n.args[1].eval(item))
	case nodeBetween:
		v := n.args[0].eval(item)
		return compare(">=", v, n.args[1].eval(item)) && compare("<=", v, n.args[2].eval(item))
	case nodeIn:
		v := n.args[0].eval(item)
		return slices.ContainsFunc(n.args[1:], func(m *node) bool { return compare("=", v, m.eval(item)) })
	case nodeFunction:
		return n.test(item)
	}
	return false
}

func (n *node) test(item attr.Item) bool {
	first := n.args[0].eval(item)
	var second attr.Value
	if len(n.args) > 1 {
		second = n.args[1].eval(item)
	}
	switch n.op {
	case "attribute_exists":
		return first.Exists()
	case "attribute_not_exists":
		return !first.Exists()
	case "attribute_type":
		return first.Exists() && first.Kind().String() == second.Text()
	case "begins_with":
		return beginsWith(first, second)
	case "contains":
		return contains(first, second)
	}
	return false
}

// eval is the value of an operand, the zero Value if it has none.
func (n *node) eval(item attr.Item) attr.Value {
	switch n.kind {
	case nodePath:
		return n.path.find(item)
	case nodeValue:
		return n.value
	case nodeFunction: // only size is an operand
		if length, ok := n.args[0].eval(item).Len(); ok {
			return attr.Int(length)
		}
	}
	return attr.Value{}
}
