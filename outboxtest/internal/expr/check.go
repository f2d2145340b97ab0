package expr

import (
	"strconv"
	"strings"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
)

// checkCondition looks for faults in AWS's order: parentheses, functions' names and places and
// reserved words anywhere, then condition by condition its names and values, the numbers of
// operands, operands that must differ, and types. It returns the first complaint.
func checkCondition(p *parser, root *node, s *Scope) string {
	if p.operators > maxOperators {
		return tooManyOperators()
	}
	if p.redundant {
		return "The expression has redundant parentheses;"
	}
	if complaint := root.walk(conditionFunction); complaint != "" {
		return complaint
	}
	if complaint := root.misplaced(true); complaint != "" {
		return complaint
	}
	if complaint := root.walk((*node).reserved); complaint != "" {
		return complaint
	}
	return root.leaves(func(leaf *node) string { return checkLeaf(leaf, s) })
}

func tooManyOperators() string {
	// AWS stops counting at the first one too many.
	return "The expression contains too many operators; operator count: " + strconv.Itoa(maxOperators+1)
}

// operands is how many operands a function takes; 0 if there is no such function.
func operands(function string) int {
	switch function {
	case "attribute_exists", "attribute_not_exists", "size":
		return 1
	case "attribute_type", "begins_with", "contains", "if_not_exists", "list_append":
		return 2
	}
	return 0
}

func conditionFunction(n *node) string {
	switch {
	case n.kind != nodeFunction:
		return ""
	case operands(n.op) == 0:
		return "Invalid function name; function: " + n.op
	case n.op == "if_not_exists" || n.op == "list_append":
		return "The function is not allowed in a condition expression; function: " + n.op
	}
	return ""
}

// misplaced finds a test used as an operand, or size used as a test.
func (n *node) misplaced(test bool) string {
	if n.kind == nodeFunction && (n.op == "size") == test {
		return "The function is not allowed to be used this way in an expression; function: " + n.op
	}
	for _, arg := range n.args {
		if complaint := arg.misplaced(n.kind >= nodeAnd); complaint != "" {
			return complaint
		}
	}
	return ""
}

// leaves visits the tests from left to right.
func (n *node) leaves(visit func(*node) string) string {
	if n.kind < nodeAnd {
		return visit(n)
	}
	for _, arg := range n.args {
		if complaint := arg.leaves(visit); complaint != "" {
			return complaint
		}
	}
	return ""
}

func checkLeaf(leaf *node, s *Scope) string {
	for _, check := range []func(*node) string{
		func(n *node) string {
			switch n.kind {
			case nodePath:
				return n.resolveNames(s)
			case nodeValue:
				return n.resolveValue(s)
			}
			return ""
		},
		operandCount,
		distinct,
		operandTypes,
	} {
		if complaint := leaf.walk(check); complaint != "" {
			return complaint
		}
	}
	return ""
}

func operandCount(n *node) string {
	if n.kind == nodeFunction && len(n.args) != operands(n.op) {
		return "Incorrect number of operands for operator or function; operator or function: " + n.op +
			", number of operands: " + strconv.Itoa(len(n.args))
	}
	if n.kind == nodeIn && len(n.args)-1 > maxIn {
		return "The IN operator is provided with too many operands; number of operands: " + strconv.Itoa(len(n.args)-1)
	}
	return ""
}

// distinct finds a comparison of a path with itself.
func distinct(n *node) string {
	if len(n.args) == 2 && n.args[0].kind == nodePath && n.args[1].kind == nodePath && n.args[0].path.equal(n.args[1].path) {
		return "The first operand must be distinct from the remaining operands for this operator or function; operator: " +
			n.op + ", first operand: " + n.args[0].path.String()
	}
	return ""
}

// known is the type of an operand as far as the expression tells.
func (n *node) known() attr.Kind {
	switch {
	case n.kind == nodeValue:
		return n.value.Kind()
	case n.kind == nodeArith, n.kind == nodeFunction && n.op == "size":
		return attr.KindN
	case n.kind == nodeFunction && n.op == "list_append":
		return attr.KindL
	case n.kind == nodeFunction && n.op == "if_not_exists":
		return n.args[1].known()
	}
	return attr.KindNone
}

func wrongType(op, kind string) string {
	return "Incorrect operand type for operator or function; operator or function: " + op + ", operand type: " + kind
}

func ordered(k attr.Kind) bool {
	return k == attr.KindNone || k == attr.KindS || k == attr.KindN || k == attr.KindB
}

func operandTypes(n *node) string {
	switch n.kind {
	case nodeCompare:
		if n.op == "=" || n.op == "<>" {
			return ""
		}
		return orderedOperands(n)
	case nodeBetween:
		if complaint := orderedOperands(n); complaint != "" {
			return complaint
		}
		return between(n.args[1], n.args[2])
	case nodeFunction:
		return argumentTypes(n)
	}
	return ""
}

func orderedOperands(n *node) string {
	for _, arg := range n.args {
		if k := arg.known(); !ordered(k) {
			return wrongType(n.op, k.String())
		}
	}
	return ""
}

func between(low, high *node) string {
	if low.kind != nodeValue || high.kind != nodeValue {
		return ""
	}
	bounds := "; lower bound operand: AttributeValue: " + show(low.value) +
		", upper bound operand: AttributeValue: " + show(high.value)
	if low.value.Kind() != high.value.Kind() {
		return "The BETWEEN operator requires same data type for lower and upper bounds" + bounds
	}
	if compare(">", low.value, high.value) {
		return "The BETWEEN operator requires upper bound to be greater than or equal to lower bound" + bounds
	}
	return ""
}

// show prints an ordered value as AWS does in complaints, e.g. {S:abc}.
func show(v attr.Value) string {
	text := v.Text()
	if v.Kind() == attr.KindB {
		b, err := v.MarshalJSON()
		if err == nil {
			text = strings.TrimSuffix(strings.TrimPrefix(string(b), `{"B":"`), `"}`)
		}
	}
	return "{" + v.Kind().String() + ":" + text + "}"
}

func argumentTypes(n *node) string {
	switch n.op {
	case "attribute_exists", "attribute_not_exists":
		if n.args[0].kind != nodePath {
			return "Operator or function requires a document path; operator or function: " + n.op
		}
	case "begins_with":
		for _, arg := range n.args {
			if k := arg.known(); k != attr.KindNone && k != attr.KindS && k != attr.KindB {
				return wrongType(n.op, k.String())
			}
		}
	case "size":
		if k := n.args[0].known(); k == attr.KindN || k == attr.KindBOOL || k == attr.KindNULL {
			return wrongType(n.op, k.String())
		}
	case "attribute_type":
		k := n.args[1].known()
		if k == attr.KindNone {
			return wrongType(n.op, "{NS,SS,L,BS,N,M,B,BOOL,NULL,S}")
		}
		if k != attr.KindS {
			return wrongType(n.op, k.String())
		}
		switch name := n.args[1].value.Text(); name {
		case "B", "NULL", "SS", "BOOL", "L", "BS", "N", "NS", "S", "M":
		default:
			return "Invalid attribute type name found; type: " + name + ", valid types: {B,NULL,SS,BOOL,L,BS,N,NS,S,M}"
		}
	}
	return ""
}
