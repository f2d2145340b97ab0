package shape

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// maxViolations is how many violations the front end reports before it stops
// looking.
const maxViolations = 10

type violations []string

func check(v Values, members []Field) error {
	var found violations
	found.members("", v, members)
	if len(found) == 0 {
		return nil
	}
	plural := ""
	if len(found) > 1 {
		plural = "s"
	}
	return &wire.Error{Code: "ValidationException", Status: 400,
		Message: fmt.Sprintf("%d validation error%s detected: %s", len(found), plural, strings.Join(found, "; "))}
}

func (vs *violations) members(parent string, v Values, members []Field) {
	for _, f := range members {
		vs.field(parent+lowerFirst(f.name), v[f.name], f)
	}
}

func (vs *violations) add(path, printed, constraint string) {
	if len(*vs) < maxViolations {
		*vs = append(*vs, fmt.Sprintf("Value %s at '%s' failed to satisfy constraint: %s", printed, path, constraint))
	}
}

func (vs *violations) field(path string, v any, f Field) {
	if v == nil {
		if f.notNull {
			vs.add(path, "null", "Member must not be null")
		}
		return
	}
	// Printed only for a violation: a batch of 500 records is not cheap to print.
	printed := func() string { return "'" + show(v, f) + "'" }
	if s, ok := v.(string); ok {
		if f.pattern != nil && !f.pattern.MatchString(s) {
			vs.add(path, printed(), "Member must satisfy regular expression pattern: "+f.text)
		}
		if f.enum != nil && !slices.Contains(f.enum, s) {
			vs.add(path, printed(), "Member must satisfy enum value set: ["+strings.Join(f.enum, ", ")+"]")
		}
	}
	vs.bounds(path, printed, v, f)
	switch v := v.(type) {
	case []any:
		vs.elements(path, printed, v, f.children[0])
	case map[string]string:
		vs.entries(path, printed, v, f)
	case Values:
		vs.members(path+".", v, f.children)
	}
}

func (vs *violations) bounds(path string, printed func() string, v any, f Field) {
	what, n := "length", int64(0)
	switch v := v.(type) {
	case int64:
		what, n = "value", v
	case string:
		n = int64(utf8.RuneCountInString(v))
	case []byte:
		n = int64(len(v))
	case []any:
		n = int64(len(v))
	case map[string]string:
		n = int64(len(v))
	default:
		return
	}
	if f.min != nil && n < *f.min {
		vs.add(path, printed(), "Member must have "+what+" greater than or equal to "+itoa(*f.min))
	}
	if f.max != nil && n > *f.max {
		vs.add(path, printed(), "Member must have "+what+" less than or equal to "+itoa(*f.max))
	}
}

// elements checks the members of a list. The lengths of texts are a constraint
// of the list as a whole, everything else is reported where it is.
func (vs *violations) elements(path string, printed func() string, list []any, elem Field) {
	fits := true
	for i, e := range list {
		if s, ok := e.(string); ok && elem.min != nil && elem.max != nil {
			n := int64(utf8.RuneCountInString(s))
			fits = fits && n >= *elem.min && n <= *elem.max
			continue
		}
		vs.field(fmt.Sprintf("%s.%d.member", path, i+1), e, elem)
	}
	if !fits {
		vs.add(path, printed(), "Member must satisfy constraint: "+lengths(*elem.min, *elem.max))
	}
}

func lengths(low, high int64) string {
	return fmt.Sprintf("[Member must have length less than or equal to %d, Member must have length greater than or equal to %d]", high, low)
}

func (vs *violations) entries(path string, printed func() string, m map[string]string, f Field) {
	within := func(s string, b *[2]int64) bool {
		n := int64(utf8.RuneCountInString(s))
		return b == nil || n >= b[0] && n <= b[1]
	}
	keys, values := true, true
	for k, v := range m {
		keys = keys && within(k, f.keyLen)
		values = values && within(v, f.valueLen)
	}
	if !keys {
		vs.add(path, printed(), "Map keys must satisfy constraint: "+lengths(f.keyLen[0], f.keyLen[1]))
	}
	if !values {
		vs.add(path, printed(), "Map value must satisfy constraint: "+lengths(f.valueLen[0], f.valueLen[1]))
	}
}

// show prints a value the way Java's toString does, which is what the services
// quote.
func show(v any, f Field) string {
	switch v := v.(type) {
	case string:
		return v
	case int64:
		return itoa(v)
	case []byte:
		return fmt.Sprintf("java.nio.HeapByteBuffer[pos=0 lim=%d cap=%d]", len(v), len(v))
	case []any:
		parts := make([]string, 0, len(v))
		for _, e := range v {
			if f.member != "" {
				parts = append(parts, f.member)
				continue
			}
			parts = append(parts, show(e, f.children[0]))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case map[string]string:
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for i, k := range keys {
			keys[i] = k + "=" + v[k]
		}
		return "{" + strings.Join(keys, ", ") + "}"
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}
