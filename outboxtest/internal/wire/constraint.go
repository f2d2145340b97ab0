package wire

import (
	"encoding/json"
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

type violations []string

func (v *violations) add(tree any, path, constraint string) {
	if len(*v) >= maxViolations {
		return
	}
	shown := "null"
	if tree != nil {
		shown = "'" + display(tree) + "'"
	}
	*v = append(*v, "Value "+shown+" at '"+path+"' failed to satisfy constraint: "+constraint)
}

func (v violations) err() error {
	switch len(v) {
	case 0:
		return nil
	case 1:
		return Validation("1 validation error detected: " + v[0])
	}
	return Validation(strconv.Itoa(len(v)) + " validation errors detected: " + strings.Join(v, "; "))
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
			v.add(tree, path, "Member must have length greater than or equal to "+strconv.FormatInt(*r.min, 10))
		}
		if r.max != nil && int64(field.Len()) > *r.max {
			v.add(tree, path, "Member must have length less than or equal to "+strconv.FormatInt(*r.max, 10))
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

func (v *violations) checkEntries(r rule, field reflect.Value, tree any, path string) {
	if r.keys != nil { // names or ARNs of tables
		for _, key := range field.MapKeys() {
			if k := key.String(); len(k) < r.keys[0] || len(k) > r.keys[1] || !IsName(k) && !strings.HasPrefix(k, "arn:") {
				v.add(tree, path, "Map keys must satisfy constraint: [Member must have length less than or equal to "+
					strconv.Itoa(r.keys[1])+", Member must have length greater than or equal to "+strconv.Itoa(r.keys[0])+
					", Member must satisfy regular expression pattern: "+NamePattern+"]")
			}
		}
	}
	if r.values != nil {
		for it := field.MapRange(); it.Next(); {
			if n := it.Value().Len(); n < r.values[0] || n > r.values[1] {
				v.add(tree, path, "Map value must satisfy constraint: [Member must have length less than or equal to "+
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
