package expr

import (
	"slices"
	"strconv"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
)

// Sections of an update.
const (
	sectionSet    = "SET"
	sectionRemove = "REMOVE"
	sectionAdd    = "ADD"
	sectionDelete = "DELETE"
)

// action is one change that an update makes.
type action struct {
	section string
	target  *node
	value   *node // nil for REMOVE
}

// Upd is a parsed update. It is immutable and safe for concurrent use.
type Upd struct {
	actions []action
	// legacy is set on an update that no expression stands behind: it has rules of its own.
	legacy bool
}

// ParseUpdate parses and checks an update and marks the placeholders it uses in the scope.
func ParseUpdate(src string, s *Scope) (*Upd, error) {
	p, err := newParser(Update, src)
	if err != nil {
		return nil, err
	}
	var u Upd
	var sections []string
	for p.err == nil && p.peek().kind != tokenEOF {
		section := p.section()
		if section == "" {
			p.syntax()
			break
		}
		sections = append(sections, section)
		for p.err == nil {
			u.actions = append(u.actions, p.action(section))
			if !p.symbol(",") {
				break
			}
		}
	}
	if p.err != nil {
		return nil, p.err
	}
	if complaint := u.check(p, sections, s); complaint != "" {
		return nil, invalid(Update, complaint)
	}
	return &u, nil
}

// section consumes the keyword that starts a section.
func (p *parser) section() string {
	for _, section := range []string{sectionSet, sectionRemove, sectionAdd, sectionDelete} {
		if p.keyword(section) {
			return section
		}
	}
	return ""
}

func (p *parser) action(section string) action {
	a := action{section: section, target: p.pathOnly()}
	if p.err != nil || section == sectionRemove {
		return a
	}
	if section == sectionSet {
		if p.expect("=") {
			a.value = p.setValue()
		}
		return a
	}
	t := p.peek()
	if t.kind != tokenValue {
		p.syntax()
		return a
	}
	p.next()
	a.value = &node{kind: nodeValue, holder: t.text}
	return a
}

// setValue parses an operand, or the sum or difference of two; one pair of parentheses may stand
// around the whole.
func (p *parser) setValue() *node {
	if !p.symbol("(") {
		return p.arithmetic(p.operandOnly())
	}
	n := p.setValue()
	if n == nil || !p.expect(")") {
		return nil
	}
	if n.parens {
		p.redundant = true
	}
	n.parens = true
	if n.kind == nodeArith {
		return n
	}
	return p.arithmetic(n)
}

func (p *parser) arithmetic(left *node) *node {
	if left == nil || p.err != nil {
		return nil
	}
	t := p.peek()
	if !p.symbol("+") && !p.symbol("-") {
		return left
	}
	p.operators++
	right := p.operandOnly()
	if right == nil {
		return nil
	}
	return &node{kind: nodeArith, op: t.text, args: []*node{left, right}}
}

// check looks for faults in AWS's order and returns the first complaint.
func (u *Upd) check(p *parser, sections []string, s *Scope) string {
	if p.operators > maxOperators {
		return tooManyOperators()
	}
	if p.redundant {
		return "The expression has redundant parentheses;"
	}
	if complaint := u.each((*node).reserved); complaint != "" {
		return complaint
	}
	if complaint := u.each(updateFunction); complaint != "" {
		return complaint
	}
	for i, section := range sections {
		for _, earlier := range sections[:i] {
			if section == earlier {
				return `The "` + section + `" section can only be used once in an update expression;`
			}
		}
	}
	for _, check := range []func(*node) string{
		func(n *node) string {
			if n.kind == nodePath {
				return n.resolveNames(s)
			}
			return ""
		},
		func(n *node) string {
			if n.kind == nodeValue {
				return n.resolveValue(s)
			}
			return ""
		},
	} {
		if complaint := u.each(check); complaint != "" {
			return complaint
		}
	}
	if complaint := checkClashes(u.Paths()); complaint != "" {
		return complaint
	}
	for _, a := range u.actions {
		if complaint := a.operandType(); complaint != "" {
			return complaint
		}
	}
	return u.each(updateOperands)
}

// each visits every node of the update; it stops at the first complaint.
func (u *Upd) each(visit func(*node) string) string {
	for _, a := range u.actions {
		if complaint := visit(a.target); complaint != "" {
			return complaint
		}
		if a.value != nil {
			if complaint := a.value.walk(visit); complaint != "" {
				return complaint
			}
		}
	}
	return ""
}

func updateFunction(n *node) string {
	if n.kind != nodeFunction {
		return ""
	}
	if n.op != "if_not_exists" && n.op != "list_append" {
		if operands(n.op) == 0 {
			return "Invalid function name; function: " + n.op
		}
		return "The function is not allowed in an update expression; function: " + n.op
	}
	for _, arg := range n.args {
		if n.op == "list_append" && arg.kind == nodeFunction && arg.op == "list_append" {
			return "The function is not allowed to be used this way in an expression; function: list_append"
		}
	}
	return ""
}

// operandType checks the value of an ADD or DELETE.
func (a action) operandType() string {
	if a.section != sectionAdd && a.section != sectionDelete {
		return ""
	}
	k := a.value.value.Kind()
	if k.IsSet() || k == attr.KindN && a.section == sectionAdd {
		return ""
	}
	return "Incorrect operand type for operator or function; operator: " + a.section + ", operand type: " + k.LongName()
}

func updateOperands(n *node) string {
	if complaint := operandCount(n); complaint != "" {
		return complaint
	}
	switch {
	case n.kind == nodeArith:
		return operandsOf(n, attr.KindN)
	case n.kind == nodeFunction && n.op == "list_append":
		return operandsOf(n, attr.KindL)
	case n.kind == nodeFunction && n.args[0].kind != nodePath:
		return "Operator or function requires a document path; operator or function: " + n.op
	}
	return ""
}

// operandsOf checks the operands that are values; what a nested function yields is seen only when
// it is evaluated.
func operandsOf(n *node, want attr.Kind) string {
	for _, arg := range n.args {
		if arg.kind == nodeValue && arg.value.Kind() != want {
			return wrongType(n.op, arg.value.Kind().String())
		}
	}
	return ""
}

// Paths are the paths that the update changes, in the order they were written.
func (u *Upd) Paths() []Path {
	paths := make([]Path, len(u.actions))
	for i, a := range u.actions {
		paths[i] = a.target.path
	}
	return paths
}

// Reads are the paths that the update reads.
func (u *Upd) Reads() []Path {
	var paths []Path
	for _, a := range u.actions {
		if a.value != nil {
			a.value.walk(func(n *node) string {
				if n.kind == nodePath {
					paths = append(paths, n.path)
				}
				return ""
			})
		}
	}
	return paths
}

// Assigned is the type that the update gives a whole attribute as far as the expression alone
// tells; KindNone if it does not.
func (u *Upd) Assigned(name string) attr.Kind {
	for _, a := range u.actions {
		if !a.target.path.Nested() && a.target.path.Head() == name && a.value != nil {
			return a.value.known()
		}
	}
	return attr.KindNone
}

// What AWS charges for the parts of an update, in bytes, besides names and values.
const (
	chargeUpdate      = 3
	chargeWrite       = 19
	chargeClear       = 1
	chargePath        = 1
	chargePathStep    = 14
	chargeTargetStep  = 4
	chargePlus        = 34
	chargeMinus       = 37
	chargeIfNotExists = 39
	chargeListAppend  = 37
)

// Charge is the size that AWS holds against the item limit for the update itself: what it writes, and
// something for each of its parts. What is in the item already does not matter.
func (u *Upd) Charge() int {
	n := chargeUpdate
	for _, a := range u.actions {
		n += a.target.path.targetCharge()
		switch a.section {
		case sectionRemove, sectionDelete:
			n += chargeClear
		default:
			n += chargeWrite + a.value.charge()
		}
	}
	return n
}

// charge is what an operand costs.
func (n *node) charge() int {
	switch n.kind {
	case nodeValue:
		return n.value.Size()
	case nodePath:
		sum := chargePath
		for _, s := range n.path {
			sum += chargePathStep + s.size()
		}
		return sum
	}
	sum := 0
	switch n.op {
	case "+":
		sum = chargePlus
	case "-":
		sum = chargeMinus
	case "if_not_exists":
		sum = chargeIfNotExists
	case "list_append":
		sum = chargeListAppend
	}
	for _, arg := range n.args {
		sum += arg.charge()
	}
	return sum
}

// targetCharge is what the path costs as the target of an action.
func (p Path) targetCharge() int {
	sum := p[0].size()
	for _, s := range p[1:] {
		sum += chargeTargetStep + s.size()
	}
	return sum
}

// size is the length of a name, or of an index's digits.
func (s step) size() int {
	if s.list {
		return len(strconv.Itoa(s.index))
	}
	return len(s.name)
}

// OnlyClears reports whether the update does nothing but remove attributes or parts of them.
func (u *Upd) OnlyClears() bool {
	return !slices.ContainsFunc(u.actions, func(a action) bool { return a.section == sectionSet || a.section == sectionAdd })
}
