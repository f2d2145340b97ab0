package adversary

import (
	"bytes"
	"fmt"
	"math/big"
	"reflect"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

type item = map[string]types.AttributeValue

// expression is a parsed condition: an operator with its operands, or a leaf.
type expression struct {
	op   string // "or", "and", "not", a comparison, "between", "in", a function's name, "path", "value", and "+" and "-" in updates
	name string // of a path or a value
	args []*expression
}

// parser reads the expressions of DynamoDB. It panics with a text that says what it does not understand, since only a caller's mistake can
// lead there.
type parser struct {
	text   string
	tokens []string
	at     int
}

func newParser(text string) *parser {
	p := &parser{text: text}
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == ' ' || c == '\n' || c == '\t':
			i++
		case strings.IndexByte("(),+-", c) >= 0:
			p.tokens, i = append(p.tokens, text[i:i+1]), i+1
		case strings.IndexByte("<>=", c) >= 0:
			n := 1
			if i+1 < len(text) && strings.IndexByte("=>", text[i+1]) >= 0 && c != '=' {
				n = 2
			}
			p.tokens, i = append(p.tokens, text[i:i+n]), i+n
		default:
			n := strings.IndexAny(text[i:], " \n\t(),+-<>=")
			if n < 0 {
				n = len(text) - i
			}
			p.tokens, i = append(p.tokens, text[i:i+n]), i+n
		}
	}
	return p
}

func (p *parser) peek() string {
	if p.at < len(p.tokens) {
		return p.tokens[p.at]
	}
	return ""
}

func (p *parser) is(word string) bool {
	if !strings.EqualFold(p.peek(), word) {
		return false
	}
	p.at++
	return true
}

func (p *parser) want(word string) {
	if !p.is(word) {
		panic(fmt.Sprintf("expression %q: want %q, have %q", p.text, word, p.peek()))
	}
}

func (p *parser) or() *expression {
	e := p.and()
	for p.is("OR") {
		e = &expression{op: "or", args: []*expression{e, p.and()}}
	}
	return e
}

func (p *parser) and() *expression {
	e := p.not()
	for p.is("AND") {
		e = &expression{op: "and", args: []*expression{e, p.not()}}
	}
	return e
}

func (p *parser) not() *expression {
	if p.is("NOT") {
		return &expression{op: "not", args: []*expression{p.not()}}
	}
	if p.is("(") {
		e := p.or()
		p.want(")")
		return e
	}
	left := p.operand()
	switch {
	case p.is("BETWEEN"):
		low := p.operand()
		p.want("AND")
		return &expression{op: "between", args: []*expression{left, low, p.operand()}}
	case p.is("IN"):
		p.want("(")
		return &expression{op: "in", args: append([]*expression{left}, p.list()...)}
	}
	switch op := p.peek(); op {
	case "=", "<>", "<", "<=", ">", ">=":
		p.at++
		return &expression{op: op, args: []*expression{left, p.operand()}}
	}
	return left
}

// list reads what stands before a closing parenthesis.
func (p *parser) list() (args []*expression) {
	for {
		args = append(args, p.operand())
		if p.is(")") {
			return args
		}
		p.want(",")
	}
}

func (p *parser) operand() *expression {
	word := p.peek()
	p.at++
	switch {
	case word == "":
		panic(fmt.Sprintf("expression %q ends too early", p.text))
	case word[0] == ':':
		return &expression{op: "value", name: word}
	case p.is("("):
		return &expression{op: word, args: p.list()}
	}
	return &expression{op: "path", name: word}
}

// scope is what an expression is evaluated in: an item, and the names and values of the request.
type scope struct {
	item   item
	names  map[string]string
	values item
}

// attribute resolves a path of one name, or of names of maps.
func (s scope) path(path string) []string {
	parts := strings.Split(path, ".")
	for i, part := range parts {
		if name, ok := s.names[part]; ok {
			parts[i] = name
		} else if part[0] == '#' {
			panic("no name for " + part)
		}
	}
	return parts
}

// value evaluates an operand; nil if the attribute does not exist.
func (s scope) value(e *expression) types.AttributeValue {
	switch e.op {
	case "value":
		v, ok := s.values[e.name]
		if !ok {
			panic("no value for " + e.name)
		}
		return v
	case "path":
		var at types.AttributeValue = &types.AttributeValueMemberM{Value: s.item}
		for _, name := range s.path(e.name) {
			m, ok := at.(*types.AttributeValueMemberM)
			if !ok {
				return nil
			}
			if at, ok = m.Value[name]; !ok {
				return nil
			}
		}
		return at
	case "size":
		return &types.AttributeValueMemberN{Value: fmt.Sprint(size(s.value(e.args[0])))}
	}
	panic("no operand: " + e.op)
}

func size(v types.AttributeValue) int {
	switch v := v.(type) {
	case *types.AttributeValueMemberS:
		return len(v.Value)
	case *types.AttributeValueMemberB:
		return len(v.Value)
	case *types.AttributeValueMemberM:
		return len(v.Value)
	case *types.AttributeValueMemberL:
		return len(v.Value)
	case *types.AttributeValueMemberSS:
		return len(v.Value)
	}
	return -1
}

// holds evaluates a condition. A nil condition holds.
func (s scope) holds(e *expression) bool {
	if e == nil {
		return true
	}
	switch e.op {
	case "or":
		return s.holds(e.args[0]) || s.holds(e.args[1])
	case "and":
		return s.holds(e.args[0]) && s.holds(e.args[1])
	case "not":
		return !s.holds(e.args[0])
	case "attribute_exists":
		return s.value(e.args[0]) != nil
	case "attribute_not_exists":
		return s.value(e.args[0]) == nil
	}
	var v []types.AttributeValue
	for _, arg := range e.args {
		v = append(v, s.value(arg))
	}
	switch e.op {
	case "=":
		return equal(v[0], v[1])
	case "<>":
		return !equal(v[0], v[1])
	case "<", "<=", ">", ">=":
		c, ok := order(v[0], v[1])
		return ok && (c < 0 && e.op[0] == '<' || c > 0 && e.op[0] == '>' || c == 0 && len(e.op) == 2)
	case "between":
		low, ok1 := order(v[1], v[0])
		high, ok2 := order(v[0], v[2])
		return ok1 && ok2 && low <= 0 && high <= 0
	case "in":
		for _, one := range v[1:] {
			if equal(v[0], one) {
				return true
			}
		}
		return false
	case "begins_with":
		whole, ok1 := v[0].(*types.AttributeValueMemberS)
		begin, ok2 := v[1].(*types.AttributeValueMemberS)
		return ok1 && ok2 && strings.HasPrefix(whole.Value, begin.Value)
	case "contains":
		return contains(v[0], v[1])
	case "attribute_type":
		return strings.HasSuffix(fmt.Sprintf("%T", v[0]), "Member"+v[1].(*types.AttributeValueMemberS).Value)
	}
	panic("no condition: " + e.op)
}

func contains(whole, part types.AttributeValue) bool {
	switch whole := whole.(type) {
	case *types.AttributeValueMemberS:
		part, ok := part.(*types.AttributeValueMemberS)
		return ok && strings.Contains(whole.Value, part.Value)
	case *types.AttributeValueMemberSS:
		for _, one := range whole.Value {
			if equal(&types.AttributeValueMemberS{Value: one}, part) {
				return true
			}
		}
	case *types.AttributeValueMemberL:
		for _, one := range whole.Value {
			if equal(one, part) {
				return true
			}
		}
	}
	return false
}

func number(v types.AttributeValue) (*big.Float, bool) {
	n, ok := v.(*types.AttributeValueMemberN)
	if !ok {
		return nil, false
	}
	f, _, err := big.ParseFloat(n.Value, 10, 200, big.ToNearestEven)
	if err != nil {
		panic("no number: " + n.Value)
	}
	return f, true
}

func equal(a, b types.AttributeValue) bool {
	if c, ok := order(a, b); ok {
		return c == 0
	}
	return a != nil && b != nil && reflect.DeepEqual(a, b)
}

// order compares two strings, numbers or binaries; others have no order.
func order(a, b types.AttributeValue) (int, bool) {
	switch x := a.(type) {
	case *types.AttributeValueMemberS:
		if y, ok := b.(*types.AttributeValueMemberS); ok {
			return strings.Compare(x.Value, y.Value), true
		}
	case *types.AttributeValueMemberN:
		if y, ok := b.(*types.AttributeValueMemberN); ok && x.Value == y.Value {
			return 0, true
		}
		n, _ := number(x)
		if m, ok := number(b); ok {
			return n.Cmp(m), true
		}
	case *types.AttributeValueMemberB:
		if y, ok := b.(*types.AttributeValueMemberB); ok {
			return bytes.Compare(x.Value, y.Value), true
		}
	}
	return 0, false
}
