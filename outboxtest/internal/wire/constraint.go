package wire

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// rule is the parsed `wire` tag of one field.
type rule struct {
	required bool
	min, max *int64
	name     bool
	table    bool
	enum     []string
	keys     *[2]int
	values   *[2]int
	members  *[2]int
	newer    bool
	late     bool
}

// NamePattern is the pattern of table and index names, as AWS prints it.
const NamePattern = "[a-zA-Z0-9_.-]+"

func parseRule(tag string) rule {
	var r rule
	if tag == "" {
		return r
	}
	for part := range strings.SplitSeq(tag, ",") {
		key, value, _ := strings.Cut(part, "=")
		switch key {
		case "required":
			r.required = true
		case "name":
			r.name = true
		case "table":
			r.table = true
		case "members":
			r.members = span(value)
		case "newer":
			r.newer = true
		case "late":
			r.late = true
		case "min":
			r.min = number(value)
		case "max":
			r.max = number(value)
		case "enum":
			r.enum = strings.Split(value, "|")
		case "keys":
			r.keys = span(value)
		case "values":
			r.values = span(value)
		}
	}
	return r
}

func number(s string) *int64 {
	n, _ := strconv.ParseInt(s, 10, 64)
	return &n
}

func span(s string) *[2]int {
	low, high, _ := strings.Cut(s, "|")
	return &[2]int{int(*number(low)), int(*number(high))}
}

// maxViolations is where AWS stops counting.
const maxViolations = 10

type violations struct {
	found []string
	// late are those that count only where there is no other.
	late []string
}

func (v *violations) add(tree any, path, constraint string) {
	shown := "null"
	if tree != nil {
		shown = "'" + display(tree) + "'"
	}
	v.report(shown, path, constraint)
}

// report adds a violation by a value that is shown in its own way.
func (v *violations) report(shown, path, constraint string) {
	if len(v.found) < maxViolations {
		v.found = append(v.found, violation(shown, path, constraint))
	}
}

func violation(shown, path, constraint string) string {
	return "Value " + shown + " at '" + lowerMembers(path) + "' failed to satisfy constraint: " + constraint
}

func (v violations) err() error {
	found := v.found
	if len(found) == 0 {
		found = v.late
	}
	switch len(found) {
	case 0:
		return nil
	case 1:
		return Validation("1 validation error detected: " + found[0])
	}
	return Validation(strconv.Itoa(len(found)) + " validation errors detected: " + strings.Join(found, "; "))
}

func (v *violations) check(r rule, field reflect.Value, tree any, path string) {
	for field.Kind() == reflect.Pointer {
		field = field.Elem()
	}
	switch field.Kind() {
	case reflect.Int32, reflect.Int64:
		if r.min != nil && field.Int() < *r.min {
			v.add(tree, path, "Member must have value greater than or equal to "+strconv.FormatInt(*r.min, 10))
		}
		if r.max != nil && field.Int() > *r.max {
			v.add(tree, path, "Member must have value less than or equal to "+strconv.FormatInt(*r.max, 10))
		}
	case reflect.String, reflect.Slice, reflect.Map:
		if field.Kind() == reflect.String {
			if r.enum != nil && !slices.Contains(r.enum, field.String()) {
				v.add(tree, path, "Member must satisfy enum value set: ["+strings.Join(r.enum, ", ")+"]")
			}
			if r.name && !IsName(field.String()) {
				v.add(tree, path, "Member must satisfy regular expression pattern: "+NamePattern)
			}
		}
		if r.table {
			v.checkTable(field.String(), tree, path)
		}
		if r.min != nil && int64(field.Len()) < *r.min {
			v.checkLength(r, field, tree, path, "Member must have length greater than or equal to "+strconv.FormatInt(*r.min, 10))
		}
		if r.max != nil && int64(field.Len()) > *r.max {
			v.checkLength(r, field, tree, path, "Member must have length less than or equal to "+strconv.FormatInt(*r.max, 10))
		}
		if r.members != nil {
			v.checkMembers(*r.members, field, tree, path)
		}
		if field.Kind() == reflect.Map {
			v.checkEntries(r, field, tree, path)
		}
	}
}

// checkTable checks a table's name, or its ARN in place of the name.
func (v *violations) checkTable(name string, tree any, path string) {
	limit := 255
	if strings.HasPrefix(name, "arn:") {
		limit = 1024
	} else if name == "" {
		v.add(tree, path, "Member must have length greater than or equal to 1")
	} else if !IsName(name) {
		v.add(tree, path, "Member must satisfy regular expression pattern: "+NamePattern)
	}
	if len(name) > limit {
		v.add(tree, path, "Member must have length less than or equal to "+strconv.Itoa(limit))
	}
}

// checkLength reports a wrong length in the member's wording.
func (v *violations) checkLength(r rule, field reflect.Value, tree any, path, constraint string) {
	switch {
	case r.newer:
		if len(v.found) < maxViolations {
			v.found = append(v.found, "Value at '"+strings.ReplaceAll(path, memberMark, "")+"' failed to satisfy constraint: "+constraint)
		}
	case field.Kind() == reflect.Slice && field.Type().Elem().Kind() == reflect.Struct:
		v.report("'"+displayStructs(field, tree)+"'", path, constraint)
	default:
		v.add(tree, path, constraint)
	}
}

// checkMembers checks the lengths of a list's strings.
func (v *violations) checkMembers(lengths [2]int, list reflect.Value, tree any, path string) {
	for i := range list.Len() {
		if n := list.Index(i).Len(); n < lengths[0] || n > lengths[1] {
			v.add(tree, path, "Member must satisfy constraint: [Member must have length less than or equal to "+
				strconv.Itoa(lengths[1])+", Member must have length greater than or equal to "+strconv.Itoa(lengths[0])+"]")
			return
		}
	}
}

func (v *violations) checkEntries(r rule, field reflect.Value, tree any, path string) {
	if r.keys != nil { // names or ARNs of tables
		for _, key := range field.MapKeys() {
			k := key.String()
			if strings.HasPrefix(k, "arn:") || len(k) >= r.keys[0] && len(k) <= r.keys[1] && IsName(k) {
				continue
			}
			constraint := "Map keys must satisfy constraint: [Member must have length less than or equal to " +
				strconv.Itoa(r.keys[1]) + ", Member must have length greater than or equal to " + strconv.Itoa(r.keys[0]) +
				", Member must satisfy regular expression pattern: " + NamePattern + "]"
			if r.late {
				v.late = append(v.late, violation("'"+display(tree)+"'", path, constraint))
			} else {
				v.add(tree, path, constraint)
			}
		}
	}
	if r.values != nil {
		for it := field.MapRange(); it.Next(); {
			if n := it.Value().Len(); n < r.values[0] || n > r.values[1] {
				v.report("'"+displayJava(tree)+"'", path, "Map value must satisfy constraint: [Member must have length less than or equal to "+
					strconv.Itoa(r.values[1])+", Member must have length greater than or equal to "+strconv.Itoa(r.values[0])+"]")
			}
		}
	}
}

// IsName reports whether s matches NamePattern.
func IsName(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (c < '0' || c > '9') && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

// displayStructs prints a list of structures of strings the way Java prints objects, and any other
// list like display.
func displayStructs(list reflect.Value, tree any) string {
	items, _ := tree.([]any)
	t := list.Type().Elem()
	for i := range t.NumField() {
		if t.Field(i).Type != reflect.TypeFor[*string]() {
			return display(tree)
		}
	}
	parts := make([]string, len(items))
	for n, item := range items {
		members, _ := item.(map[string]any)
		var shown []string
		for i := range t.NumField() {
			name := t.Field(i).Name
			value := "null"
			if members[name] != nil {
				value = display(members[name])
			}
			shown = append(shown, lowerFirst(name)+"="+value)
		}
		parts[n] = strings.ToUpper(t.Name()[:1]) + t.Name()[1:] + "(" + strings.Join(shown, ", ") + ")"
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// displayJava prints a value the way Java prints collections.
func displayJava(tree any) string {
	switch t := tree.(type) {
	case []any:
		parts := make([]string, len(t))
		for i, p := range t {
			parts[i] = displayJava(p)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case map[string]any:
		var parts []string
		for _, k := range slices.Sorted(maps.Keys(t)) {
			parts = append(parts, k+"="+displayJava(t[k]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return display(tree)
}

// display prints a value the way AWS quotes it in a violation.
func display(tree any) string {
	switch t := tree.(type) {
	case string:
		return t
	case bool:
		return strconv.FormatBool(t)
	case json.Number:
		return t.String()
	case []any:
		parts := make([]string, len(t))
		for i, p := range t {
			parts[i] = display(p)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	b, err := Marshal(tree)
	if err != nil {
		return ""
	}
	return string(b)
}
