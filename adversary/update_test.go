package adversary

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// action is one action of an update expression.
type action struct {
	kind string // SET, REMOVE, ADD, DELETE
	path string
	to   *expression
}

// update reads an update expression.
func (p *parser) update() (actions []action) {
	kind := ""
	for p.peek() != "" {
		switch word := strings.ToUpper(p.peek()); word {
		case "SET", "REMOVE", "ADD", "DELETE":
			kind = word
			p.at++
		case ",":
			p.at++
		}
		a := action{kind: kind, path: p.peek()}
		p.at++
		switch kind {
		case "SET":
			p.want("=")
			a.to = p.operand()
			for p.peek() == "+" || p.peek() == "-" {
				op := p.peek()
				p.at++
				a.to = &expression{op: op, args: []*expression{a.to, p.operand()}}
			}
		case "ADD", "DELETE":
			a.to = p.operand()
		case "REMOVE":
		default:
			panic(fmt.Sprintf("update %q: no clause before %q", p.text, a.path))
		}
		actions = append(actions, a)
	}
	return actions
}

// apply returns what the actions make of the item, which stays as it is.
func (s scope) apply(actions []action) item {
	result := maps.Clone(s.item)
	if result == nil {
		result = item{}
	}
	for _, a := range actions {
		path := s.path(a.path)
		switch a.kind {
		case "SET":
			put(result, path, s.computed(a.to))
		case "REMOVE":
			put(result, path, nil)
		case "ADD":
			put(result, path, added(s.value(&expression{op: "path", name: a.path}), s.value(a.to)))
		case "DELETE":
			put(result, path, without(s.value(&expression{op: "path", name: a.path}), s.value(a.to)))
		}
	}
	return result
}

// put sets or removes what lies at a path. Maps on the way are copied, since the item before the update shares them.
func put(into item, path []string, v types.AttributeValue) {
	for len(path) > 1 {
		m, ok := into[path[0]].(*types.AttributeValueMemberM)
		if !ok {
			panic("the document path is invalid for update: " + strings.Join(path, "."))
		}
		inner := maps.Clone(m.Value)
		into[path[0]] = &types.AttributeValueMemberM{Value: inner}
		into, path = inner, path[1:]
	}
	if v == nil {
		delete(into, path[0])
	} else {
		into[path[0]] = v
	}
}

func (s scope) computed(e *expression) types.AttributeValue {
	switch e.op {
	case "if_not_exists":
		if v := s.value(e.args[0]); v != nil {
			return v
		}
		return s.computed(e.args[1])
	case "list_append":
		a, b := s.computed(e.args[0]).(*types.AttributeValueMemberL), s.computed(e.args[1]).(*types.AttributeValueMemberL)
		return &types.AttributeValueMemberL{Value: slices.Concat(a.Value, b.Value)}
	case "+", "-":
		a, ok1 := number(s.computed(e.args[0]))
		b, ok2 := number(s.computed(e.args[1]))
		if !ok1 || !ok2 {
			panic("an operand in the update expression has an incorrect data type")
		}
		if e.op == "-" {
			b.Neg(b)
		}
		return &types.AttributeValueMemberN{Value: a.Add(a, b).Text('f', -1)}
	}
	v := s.value(e)
	if v == nil {
		panic("the provided expression refers to an attribute that does not exist in the item: " + e.name)
	}
	return v
}

func added(old, v types.AttributeValue) types.AttributeValue {
	if old == nil {
		return v
	}
	switch v := v.(type) {
	case *types.AttributeValueMemberN:
		a, _ := number(old)
		b, _ := number(v)
		return &types.AttributeValueMemberN{Value: a.Add(a, b).Text('f', -1)}
	case *types.AttributeValueMemberSS:
		all := slices.Concat(old.(*types.AttributeValueMemberSS).Value, v.Value)
		slices.Sort(all)
		return &types.AttributeValueMemberSS{Value: slices.Compact(all)}
	}
	panic(fmt.Sprintf("ADD of a %T", v))
}

func without(old, v types.AttributeValue) types.AttributeValue {
	have, ok := old.(*types.AttributeValueMemberSS)
	if !ok {
		return old
	}
	gone := v.(*types.AttributeValueMemberSS).Value
	rest := slices.DeleteFunc(slices.Clone(have.Value), func(s string) bool { return slices.Contains(gone, s) })
	if len(rest) == 0 {
		return nil
	}
	return &types.AttributeValueMemberSS{Value: rest}
}
