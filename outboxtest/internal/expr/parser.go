package expr

import (
	"strconv"
	"strings"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// nodeKind classes the nodes of a parsed expression.
type nodeKind uint8

const (
	nodePath nodeKind = iota
	nodeValue
	nodeFunction // op is its name
	nodeArith    // op is + or -
	nodeCompare  // op is the comparator
	nodeBetween
	nodeIn
	nodeAnd
	nodeOr
	nodeNot
)

// node is one operation, or an operand without args.
type node struct {
	kind   nodeKind
	op     string
	args   []*node
	parens bool // it stands in parentheses of its own

	written []pathToken // nodePath, as written
	path    Path        // nodePath, resolved
	holder  string      // nodeValue: the placeholder
	value   attr.Value  // nodeValue, resolved
}

// pathToken is one element of a path as written: a name, a #placeholder or an index.
type pathToken struct {
	text  string
	index bool
}

func (n *node) operand() bool { return n.kind <= nodeFunction }

func (n *node) condition() bool { return n.kind >= nodeCompare || n.kind == nodeFunction }

// parser turns tokens into nodes. The first error sticks.
type parser struct {
	kind      string
	src       string
	tokens    []token
	pos       int
	redundant bool
	operators int
	err       error
}

func newParser(kind, src string) (*parser, error) {
	if len(src) > maxSize {
		message := "Expression size has exceeded the maximum allowed size;"
		if kind != Update {
			message += " expression size: " + strconv.Itoa(len(src))
		}
		return nil, invalid(kind, message)
	}
	if strings.TrimSpace(src) == "" {
		return nil, invalid(kind, "The expression can not be empty;")
	}
	return &parser{kind: kind, src: src, tokens: lex(src)}, nil
}

// invalid is a complaint about the expression as such, which no item can change.
func invalid(kind, message string) *wire.Error {
	return wire.CountedValidation("Invalid " + kind + ": " + message)
}

func (p *parser) peek() token { return p.tokens[p.pos] }

func (p *parser) next() token {
	t := p.tokens[p.pos]
	if t.kind != tokenEOF {
		p.pos++
	}
	return t
}

// symbol consumes the token if it is that symbol.
func (p *parser) symbol(text string) bool {
	if t := p.peek(); t.kind == tokenSymbol && t.text == text {
		p.pos++
		return true
	}
	return false
}

// keyword consumes the token if it is that word in any case.
func (p *parser) keyword(word string) bool {
	if p.isKeyword(word) {
		p.pos++
		return true
	}
	return false
}

func (p *parser) isKeyword(words ...string) bool {
	t := p.peek()
	if t.kind != tokenIdent {
		return false
	}
	for _, w := range words {
		if strings.EqualFold(t.text, w) {
			return true
		}
	}
	return false
}

// syntax fails at the current token. AWS quotes it together with its neighbours.
func (p *parser) syntax() *node {
	if p.err != nil {
		return nil
	}
	t := p.peek()
	start, end := t.start, t.end
	if p.pos > 0 {
		start = p.tokens[p.pos-1].start
	}
	if t.kind == tokenEOF {
		if p.pos > 0 {
			end = p.tokens[p.pos-1].end
		}
	} else if after := p.tokens[p.pos+1]; after.kind != tokenEOF {
		end = after.end
	}
	p.err = invalid(p.kind, `Syntax error; token: "`+t.text+`", near: "`+p.src[start:end]+`"`)
	return nil
}

func (p *parser) expect(text string) bool {
	if p.err == nil && p.symbol(text) {
		return true
	}
	p.syntax()
	return false
}

// enclosed parses what stands in parentheses, the opening one consumed already.
func (p *parser) enclosed(inner func() *node) *node {
	n := inner()
	if n == nil || !p.expect(")") {
		return nil
	}
	if n.parens {
		p.redundant = true
	}
	n.parens = true
	if p.kind != Update && n.kind == nodePath && p.steps(n) {
		n.parens = false
	}
	if p.err != nil {
		return nil
	}
	return n
}

// operandOnly parses one operand: a path, a value or a function call, with or without parentheses.
func (p *parser) operandOnly() *node {
	if p.err != nil {
		return nil
	}
	if p.symbol("(") {
		return p.enclosed(p.operandOnly)
	}
	t := p.peek()
	switch {
	case t.kind == tokenValue:
		p.next()
		return &node{kind: nodeValue, holder: t.text}
	case t.kind == tokenIdent && p.tokens[p.pos+1].text == "(" && !p.grammarWord():
		return p.call()
	case t.kind == tokenIdent || t.kind == tokenName:
		return p.pathOnly()
	}
	return p.syntax()
}

// grammarWord reports whether the current word belongs to the grammar and cannot be a name. Other
// reserved words parse, and are refused by name later.
func (p *parser) grammarWord() bool {
	if p.kind == Update {
		return p.isKeyword("SET", "REMOVE", "ADD", "DELETE")
	}
	if p.kind == Projection {
		return false
	}
	return p.isKeyword("AND", "OR", "NOT", "BETWEEN", "IN")
}

func (p *parser) call() *node {
	n := &node{kind: nodeFunction, op: p.next().text}
	p.operators++
	p.next()
	for {
		arg := p.operandOnly()
		if arg == nil {
			return nil
		}
		n.args = append(n.args, arg)
		if p.symbol(",") {
			continue
		}
		if !p.expect(")") {
			return nil
		}
		return n
	}
}

func (p *parser) pathOnly() *node {
	if p.err != nil {
		return nil
	}
	t := p.peek()
	if t.kind != tokenName && (t.kind != tokenIdent || p.grammarWord()) {
		return p.syntax()
	}
	p.next()
	n := &node{kind: nodePath, written: []pathToken{{text: t.text}}}
	p.steps(n)
	if p.err != nil {
		return nil
	}
	return n
}

// steps parses the rest of a path and reports whether there was one.
func (p *parser) steps(n *node) bool {
	any := false
	for p.err == nil {
		switch {
		case p.symbol("."):
			t := p.peek()
			if t.kind != tokenName && (t.kind != tokenIdent || p.grammarWord()) {
				p.syntax()
				return any
			}
			p.next()
			n.written = append(n.written, pathToken{text: t.text})
		case p.symbol("["):
			t := p.peek()
			if t.kind != tokenNumber {
				p.syntax()
				return any
			}
			p.next()
			if !p.expect("]") {
				return any
			}
			n.written = append(n.written, pathToken{text: t.text, index: true})
		default:
			return any
		}
		any = true
	}
	return any
}

// reserved finds the first reserved word used as a name, the first list index out of range, or that
// the path is too long.
func (n *node) reserved() string {
	for _, w := range n.written {
		if w.index {
			if i, err := strconv.ParseInt(w.text, 10, 64); err != nil || i > maxIndex {
				return "List index is not within the allowable range; index: [" + w.text + "]"
			}
		} else if w.text[0] != '#' && isReserved(w.text) {
			return "Attribute name is a reserved keyword; reserved keyword: " + w.text
		}
	}
	if len(n.written) > maxSteps {
		return "The document path has too many nesting levels; nesting levels: " + strconv.Itoa(len(n.written))
	}
	return ""
}

// resolveNames replaces the placeholders of a path, or tells the first one that is not defined.
func (n *node) resolveNames(s *Scope) string {
	n.path = make(Path, len(n.written))
	for i, w := range n.written {
		switch {
		case w.index:
			index, _ := strconv.Atoi(w.text) // reserved has seen to the range
			n.path[i] = step{index: index, list: true}
		case w.text[0] == '#':
			name, ok := s.name(w.text)
			if !ok {
				return "An expression attribute name used in the document path is not defined; attribute name: " + w.text
			}
			n.path[i] = step{name: name}
		default:
			n.path[i] = step{name: w.text}
		}
	}
	return ""
}

// resolveValue replaces a value's placeholder, or tells that it is not defined.
func (n *node) resolveValue(s *Scope) string {
	v, ok := s.value(n.holder)
	if !ok {
		return "An expression attribute value used in expression is not defined; attribute value: " + n.holder
	}
	n.value = v
	return ""
}

// walk visits the node's descendants and then the node; it stops at the first complaint.
func (n *node) walk(visit func(*node) string) string {
	for _, arg := range n.args {
		if complaint := arg.walk(visit); complaint != "" {
			return complaint
		}
	}
	return visit(n)
}
