package expr

import (
	"maps"
	"slices"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

const (
	messageBadPath    = "The document path provided in the update expression is invalid for update"
	messageBadOperand = "An operand in the update expression has an incorrect data type"
	messageNoSuchAttr = "The provided expression refers to an attribute that does not exist in the item"
)

// write is one value that an update puts in place, made from the value that was there.
type write struct {
	path Path
	make func(old attr.Value) (attr.Value, error)
}

// Apply makes the item that the update leaves behind. The item given is not changed; it holds the
// key even if exists is false, which says that the item is about to be created. Everything is read
// from the item as it was, and list indexes count as they were.
func (u *Upd) Apply(item attr.Item, exists bool) (attr.Item, error) {
	var writes []write
	var removals []Path
	for _, a := range u.actions {
		path := a.target.path
		switch a.section {
		case sectionRemove:
			// AWS forgives the removal of a part of nothing at all.
			if exists || !path.Nested() {
				removals = append(removals, path)
			}
		case sectionSet:
			v, err := a.value.result(item)
			if err != nil {
				return nil, err
			}
			writes = append(writes, write{path, func(attr.Value) (attr.Value, error) { return v, nil }})
		case sectionAdd:
			writes = append(writes, write{path, func(old attr.Value) (attr.Value, error) { return u.add(old, a.value.value) }})
		case sectionDelete:
			if old := path.find(item); old.Exists() {
				left, err := u.subtract(old, a.value.value)
				if err != nil {
					return nil, err
				}
				if !left.Exists() {
					removals = append(removals, path)
					continue
				}
			}
			writes = append(writes, write{path, func(old attr.Value) (attr.Value, error) { return u.subtract(old, a.value.value) }})
		}
	}
	// New list elements go to the end in the order of their indexes, and removals come last and
	// from the end, so that no change moves the target of another.
	slices.SortFunc(writes, func(a, b write) int { return comparePaths(a.path, b.path) })
	slices.SortFunc(removals, func(a, b Path) int { return comparePaths(b, a) })
	out := maps.Clone(item)
	for _, w := range writes {
		if err := replace(out, w.path, w.make); err != nil {
			return nil, err
		}
	}
	for _, path := range removals {
		if err := replace(out, path, func(attr.Value) (attr.Value, error) { return attr.Value{}, nil }); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func comparePaths(p, q Path) int {
	return slices.CompareFunc(p, q, func(a, b step) int {
		if a.name != b.name {
			if a.name < b.name {
				return -1
			}
			return 1
		}
		return a.index - b.index
	})
}

// replace replaces the value at the path of the item by what put makes of it; the zero Value
// removes it. The item's map is changed, the values in it are copied as far as need be.
func replace(item attr.Item, path Path, put func(attr.Value) (attr.Value, error)) error {
	v, err := changed(item[path[0].name], path[1:], put)
	if err != nil {
		return err
	}
	if v.Exists() {
		item[path[0].name] = v
	} else {
		delete(item, path[0].name)
	}
	return nil
}

func changed(v attr.Value, rest Path, put func(attr.Value) (attr.Value, error)) (attr.Value, error) {
	if len(rest) == 0 {
		return put(v)
	}
	s := rest[0]
	if s.list != (v.Kind() == attr.KindL) || !s.list && v.Kind() != attr.KindM {
		return attr.Value{}, wire.Validation(messageBadPath)
	}
	part, err := changed(s.in(v), rest[1:], put)
	if err != nil {
		return attr.Value{}, err
	}
	if !s.list {
		m := maps.Clone(v.Map())
		if m == nil {
			m = make(map[string]attr.Value)
		}
		if part.Exists() {
			m[s.name] = part
		} else {
			delete(m, s.name)
		}
		return attr.Map(m), nil
	}
	l := slices.Clone(v.List())
	switch {
	case part.Exists() && s.index < len(l):
		l[s.index] = part
	case part.Exists():
		l = append(l, part)
	case s.index < len(l):
		l = slices.Delete(l, s.index, s.index+1)
	}
	return attr.List(l), nil
}

// result evaluates the right side of an assignment.
func (n *node) result(item attr.Item) (attr.Value, error) {
	switch n.kind {
	case nodeValue:
		return n.value, nil
	case nodePath:
		v := n.path.find(item)
		if !v.Exists() {
			return v, wire.Validation(messageNoSuchAttr)
		}
		return v, nil
	}
	if n.op == "if_not_exists" {
		if v := n.args[0].path.find(item); v.Exists() {
			return v, nil
		}
		return n.args[1].result(item)
	}
	a, err := n.args[0].result(item)
	if err != nil {
		return attr.Value{}, err
	}
	b, err := n.args[1].result(item)
	if err != nil {
		return attr.Value{}, err
	}
	want := attr.KindL
	if n.kind == nodeArith {
		want = attr.KindN
	}
	if a.Kind() != want || b.Kind() != want {
		return attr.Value{}, wire.Validation(messageBadOperand)
	}
	if n.kind == nodeArith {
		return attr.Add(a, b, n.op == "-")
	}
	return attr.List(slices.Concat(a.List(), b.List())), nil
}

// mismatch is the complaint about an attribute of another type than what is added to it or taken
// from it.
func (u *Upd) mismatch() error {
	if u.legacy {
		return wire.Validation("Type mismatch for attribute to update")
	}
	return wire.Validation(messageBadOperand)
}

// add is what ADD makes of an attribute: a sum of numbers or a union of sets.
func (u *Upd) add(old, v attr.Value) (attr.Value, error) {
	if !old.Exists() {
		return v, nil
	}
	if old.Kind() != v.Kind() {
		return attr.Value{}, u.mismatch()
	}
	switch v.Kind() {
	case attr.KindN:
		return attr.Add(old, v, false)
	case attr.KindL: // never in an expression
		return attr.List(slices.Concat(old.List(), v.List())), nil
	}
	return attr.Union(old, v), nil
}

// subtract is what DELETE makes of an attribute; the zero Value if nothing is left.
func (u *Upd) subtract(old, v attr.Value) (attr.Value, error) {
	if !old.Exists() {
		return old, nil
	}
	if old.Kind() != v.Kind() {
		return attr.Value{}, u.mismatch()
	}
	return attr.Difference(old, v), nil
}
