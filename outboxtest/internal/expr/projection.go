package expr

import (
	"slices"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
)

// Proj is a parsed projection. It is immutable and safe for concurrent use.
type Proj struct{ paths []Path }

// ParseProjection parses and checks a projection and marks the placeholders it uses in the scope.
func ParseProjection(src string, s *Scope) (*Proj, error) {
	p, err := newParser(Projection, src)
	if err != nil {
		return nil, err
	}
	var nodes []*node
	for {
		n := p.pathOnly()
		if n == nil {
			return nil, p.err
		}
		nodes = append(nodes, n)
		if !p.symbol(",") {
			break
		}
	}
	if p.peek().kind != tokenEOF {
		p.syntax()
		return nil, p.err
	}
	for _, n := range nodes {
		if complaint := n.reserved(); complaint != "" {
			return nil, invalid(Projection, complaint)
		}
	}
	paths := make([]Path, len(nodes))
	for i, n := range nodes {
		if complaint := n.resolveNames(s); complaint != "" {
			return nil, invalid(Projection, complaint)
		}
		paths[i] = n.path
	}
	if complaint := checkClashes(paths); complaint != "" {
		return nil, invalid(Projection, complaint)
	}
	return &Proj{paths}, nil
}

// Attributes is the projection on whole attributes, as AttributesToGet has it.
func Attributes(names []string) *Proj {
	paths := make([]Path, len(names))
	for i, name := range names {
		paths[i] = Path{{name: name}}
	}
	return &Proj{paths}
}

// Paths are the projected paths, not to be changed.
func (p *Proj) Paths() []Path { return p.paths }

// Apply picks the projected parts of the item. List elements move together, in the list's order.
func (p *Proj) Apply(item attr.Item) attr.Item { return Pick(p.paths, item) }

// Pick collects the parts of the item at the paths, none of which may contain another.
func Pick(paths []Path, item attr.Item) attr.Item {
	out := make(attr.Item, len(paths))
	root := make(picks)
	for _, path := range paths {
		root.add(path)
	}
	for s, sub := range root {
		if v := sub.pick(item[s.name]); v.Exists() {
			out[s.name] = v
		}
	}
	return out
}

// picks is a tree of paths; an empty one means everything below.
type picks map[step]picks

func (p picks) add(path Path) {
	for _, s := range path {
		if p[s] == nil {
			p[s] = make(picks)
		}
		p = p[s]
	}
}

// pick is what the tree leaves of the value, the zero Value if nothing.
func (p picks) pick(v attr.Value) attr.Value {
	if len(p) == 0 || !v.Exists() {
		return v
	}
	if v.Kind() == attr.KindL {
		var list []attr.Value
		for _, s := range p.indexes() {
			if e := p[s].pick(s.in(v)); e.Exists() {
				list = append(list, e)
			}
		}
		if list == nil {
			return attr.Value{}
		}
		return attr.List(list)
	}
	m := make(map[string]attr.Value)
	for s, sub := range p {
		if s.list {
			continue
		}
		if e := sub.pick(s.in(v)); e.Exists() {
			m[s.name] = e
		}
	}
	if len(m) == 0 {
		return attr.Value{}
	}
	return attr.Map(m)
}

func (p picks) indexes() []step {
	var out []step
	for s := range p {
		if s.list {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b step) int { return a.index - b.index })
	return out
}
