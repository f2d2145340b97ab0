package expr

import (
	"strconv"
	"strings"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
)

// step is one element of a document path: a name, or a list index if name is empty and list is set.
type step struct {
	name  string
	index int
	list  bool
}

// Path is a document path with its placeholders replaced. Its first step is always a name.
type Path []step

// Head is the attribute that the path starts at.
func (p Path) Head() string { return p[0].name }

// Nested reports whether the path goes into the attribute.
func (p Path) Nested() bool { return len(p) > 1 }

// String prints the path as AWS does in complaints, e.g. "[a, [1], b]".
func (p Path) String() string {
	parts := make([]string, len(p))
	for i, s := range p {
		parts[i] = s.name
		if s.list {
			parts[i] = "[" + strconv.Itoa(s.index) + "]"
		}
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

func (p Path) equal(q Path) bool {
	if len(p) != len(q) {
		return false
	}
	for i := range p {
		if p[i] != q[i] {
			return false
		}
	}
	return true
}

// find reads the value at the path; the zero Value if there is none.
func (p Path) find(item attr.Item) attr.Value {
	v := item[p[0].name]
	for _, s := range p[1:] {
		if v = s.in(v); !v.Exists() {
			break
		}
	}
	return v
}

// in reads the step in a container.
func (s step) in(v attr.Value) attr.Value {
	if s.list {
		if l := v.List(); s.index < len(l) {
			return l[s.index]
		}
		return attr.Value{}
	}
	return v.Map()[s.name]
}

// clash tells how two paths of one expression get in each other's way: one contains the other, or
// they take the same value for a list and for a map.
func clash(p, q Path) (overlap, conflict bool) {
	for i := 0; i < len(p) && i < len(q); i++ {
		if p[i].list != q[i].list {
			return false, true
		}
		if p[i] != q[i] {
			return false, false
		}
	}
	return true, false
}

// checkClashes is AWS's complaint about the first pair of paths that overlap, else that conflict.
func checkClashes(paths []Path) string {
	conflicting := ""
	for i, q := range paths {
		for _, p := range paths[:i] {
			overlap, conflict := clash(p, q)
			if overlap {
				return "Two document paths overlap with each other; must remove or rewrite one of these paths; path one: " +
					p.String() + ", path two: " + q.String()
			}
			if conflict && conflicting == "" {
				conflicting = "Two document paths conflict with each other; must remove or rewrite one of these paths; path one: " +
					p.String() + ", path two: " + q.String()
			}
		}
	}
	return conflicting
}
