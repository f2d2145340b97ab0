package wire

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Unmarshaler is a type that reads its own part of a parsed body. Its error is an *Error.
type Unmarshaler interface {
	// UnmarshalWire takes what Parse made of the member. It is not called for null.
	// element says whether the member stands in a list or map, which AWS words differently.
	UnmarshalWire(tree any, element bool) error
}

// Bind parses the body into the struct that into points to and checks the constraints in its tags.
//
// A JSON value of the wrong type is a SerializationException; violated constraints are one
// ValidationException that lists them ("2 validation errors detected: ..."). Unknown members are
// ignored. Members are matched by the field's name. Fields are *string, *bool, *int64, *int32,
// *float64 (nil if absent), string, []byte, slices, maps with string keys, structs, pointers to
// structs, and Unmarshalers; the fields of embedded structs count as the struct's own. Type names in complaints are the Go type's, capitalised.
//
// The tag `wire:"..."` holds comma-separated constraints: required (must not be null),
// min=N and max=N (a number's value, otherwise a length), name (letters, digits, '_', '-', '.'),
// table (the name or ARN of a table),
// enum=A|B, keys=N|M (a map's keys are names of that length, or ARNs), values=N|M (a map's values are
// lists of that length), members=N|M (a list's strings have that length), newer (lengths are complained about in the newer wording, which does not
// quote the value) and late (a fault in the keys is reported only if there is no other).
func (p Protocol) Bind(body []byte, into any) error {
	tree, err := Parse(body)
	if err != nil {
		return err
	}
	b := binder{pkg: p.Package}
	if err := b.object(tree, reflect.ValueOf(into).Elem(), ""); err != nil {
		return err
	}
	if c, ok := into.(Prechecker); ok {
		if err := c.Precheck(tree); err != nil {
			return err
		}
	}
	return b.violations.err()
}

// Prechecker is an input that has something to check after the types and before the constraints.
type Prechecker interface {
	// Precheck looks at the parsed body.
	Precheck(tree map[string]any) error
}

type binder struct {
	pkg        string
	violations violations
}

func (b *binder) object(tree map[string]any, dst reflect.Value, path string) error {
	t := dst.Type()
	for i := range t.NumField() {
		field := t.Field(i)
		if field.Anonymous && field.Type.Kind() == reflect.Struct {
			if err := b.object(tree, dst.Field(i), path); err != nil {
				return err
			}
			continue
		}
		if !field.IsExported() {
			continue
		}
		tree := tree[field.Name]
		name := memberMark + field.Name
		if path != "" {
			name = path + "." + name
		}
		rule := parseRule(field.Tag.Get("wire"))
		if tree == nil {
			if rule.required {
				b.violations.add(nil, name, "Member must not be null")
			}
			continue
		}
		if err := b.value(tree, dst.Field(i), name, false); err != nil {
			return err
		}
		b.violations.check(rule, dst.Field(i), tree, name)
	}
	return nil
}

// value converts one JSON value; element tells members of lists and maps from members of structs,
// because AWS words their type errors differently.
func (b *binder) value(tree any, dst reflect.Value, path string, element bool) error {
	if u, ok := dst.Addr().Interface().(Unmarshaler); ok {
		if tree == nil {
			return nil
		}
		return u.UnmarshalWire(tree, element)
	}
	if dst.Kind() == reflect.Pointer {
		if tree == nil {
			return nil
		}
		fresh := reflect.New(dst.Type().Elem())
		if err := b.value(tree, fresh.Elem(), path, element); err != nil {
			return err
		}
		dst.Set(fresh)
		return nil
	}
	if tree == nil {
		// A null among the elements of a list or map is a structure without members: what it
		// requires is missing, and nobody behind the binding has to expect that.
		if element && dst.Kind() == reflect.Struct {
			return b.object(nil, dst, path)
		}
		return nil
	}
	switch dst.Kind() {
	case reflect.String:
		s, err := String(tree)
		if err != nil {
			return err
		}
		dst.SetString(s)
	case reflect.Bool:
		v, err := Bool(tree)
		if err != nil {
			return err
		}
		dst.SetBool(v)
	case reflect.Int32, reflect.Int64:
		v, err := integer(tree, dst.Kind())
		if err != nil {
			return err
		}
		dst.SetInt(v)
	case reflect.Float64:
		v, err := double(tree)
		if err != nil {
			return err
		}
		dst.SetFloat(v)
	case reflect.Slice:
		if dst.Type().Elem().Kind() == reflect.Uint8 {
			v, err := Blob(tree)
			if err != nil {
				return err
			}
			dst.SetBytes(v)
			return nil
		}
		return b.list(tree, dst, path, element)
	case reflect.Map:
		return b.mapping(tree, dst, path, element)
	case reflect.Struct:
		m, ok := tree.(map[string]any)
		if !ok {
			return notAnObject(tree, element, "class "+b.typeName(dst.Type()))
		}
		return b.object(m, dst, path)
	default:
		return &Error{Code: CodeInternal, Status: 500, Message: "wire: no binding for " + dst.Type().String()}
	}
	return nil
}

func (b *binder) list(tree any, dst reflect.Value, path string, element bool) error {
	items, ok := tree.([]any)
	if !ok {
		return notAList(tree, element)
	}
	out := reflect.MakeSlice(dst.Type(), len(items), len(items))
	for i, item := range items {
		if err := b.value(item, out.Index(i), path+"."+strconv.Itoa(i+1)+".member", true); err != nil {
			return err
		}
	}
	dst.Set(out)
	return nil
}

func (b *binder) mapping(tree any, dst reflect.Value, path string, element bool) error {
	m, ok := tree.(map[string]any)
	if !ok {
		return notAMap(tree, element, b.typeName(dst.Type().Elem()))
	}
	out := reflect.MakeMapWithSize(dst.Type(), len(m))
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		v := reflect.New(dst.Type().Elem()).Elem()
		if err := b.value(m[k], v, path+"."+k+".member", true); err != nil {
			return err
		}
		out.SetMapIndex(reflect.ValueOf(k), v)
	}
	dst.Set(out)
	return nil
}

// typeName is the Java class that AWS's complaint would name.
func (b *binder) typeName(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t.Kind() == reflect.String:
		return "java.lang.String"
	case t.Kind() == reflect.Slice:
		return "java.util.List<" + b.typeName(t.Elem()) + ">"
	case t.Kind() == reflect.Map:
		return "java.util.Map<java.lang.String, " + b.typeName(t.Elem()) + ">"
	}
	name := t.Name()
	if n, ok := reflect.New(t).Interface().(interface{ WireName() string }); ok {
		name = n.WireName()
	}
	if name != "" {
		name = strings.ToUpper(name[:1]) + name[1:]
	}
	return b.pkg + "." + name
}

// notAnObject is AWS's complaint about something else where a structure belongs.
func notAnObject(tree any, element bool, class string) error {
	if _, ok := tree.([]any); ok {
		return Serialization("Unrecognized collection type " + class)
	}
	if element {
		return Serialization("Unexpected value type in payload")
	}
	return Serialization("Unexpected field type")
}

// NotAnObject is AWS's complaint about something other than an object where a structure of the
// given class, e.g. "class com.example.AttributeValue", belongs.
func NotAnObject(tree any, element bool, class string) error {
	return notAnObject(tree, element, class)
}

// parameterized is what AWS's reflection says of a scalar where a collection inside a collection belongs.
const parameterized = "class sun.reflect.generics.reflectiveObjects.ParameterizedTypeImpl cannot be cast to class java.lang.Class " +
	"(sun.reflect.generics.reflectiveObjects.ParameterizedTypeImpl and java.lang.Class are in module java.base of loader 'bootstrap')"

func notAList(tree any, element bool) error {
	if _, ok := tree.(map[string]any); ok {
		return Serialization("Start of structure or map found where not expected")
	}
	if element {
		return Serialization(parameterized)
	}
	return Serialization("Unexpected field type")
}

func notAMap(tree any, element bool, valueType string) error {
	if _, ok := tree.([]any); ok {
		return Serialization("Unrecognized collection type java.util.Map<java.lang.String, " + valueType + ">")
	}
	if element {
		return Serialization(parameterized)
	}
	return Serialization("Unexpected field type")
}

// List reads a list member the way Bind does, for Unmarshalers.
func List(tree any) ([]any, error) {
	items, ok := tree.([]any)
	if !ok {
		return nil, notAList(tree, false)
	}
	return items, nil
}

// Map reads a map member the way Bind does, for Unmarshalers; valueType is the Java class of its values.
func Map(tree any, valueType string) (map[string]any, error) {
	m, ok := tree.(map[string]any)
	if !ok {
		return nil, notAMap(tree, false, valueType)
	}
	return m, nil
}

// String reads a string the way Bind does, for Unmarshalers.
func String(tree any) (string, error) {
	if s, ok := tree.(string); ok {
		return s, nil
	}
	return "", wrongScalar(tree, "String")
}

// Bool reads a boolean the way Bind does, for Unmarshalers: AWS takes a few words for it.
func Bool(tree any) (bool, error) {
	switch v := tree.(type) {
	case bool:
		return v, nil
	case string:
		switch strings.ToUpper(v) {
		case "TRUE", "1", "YES":
			return true, nil
		case "FALSE", "0", "NO":
			return false, nil
		}
		return false, Serialization("Unexpected token received from parser")
	}
	return false, wrongScalar(tree, "Boolean")
}

// Blob reads base64 the way Bind does, for Unmarshalers.
func Blob(tree any) ([]byte, error) {
	s, ok := tree.(string)
	if !ok {
		switch tree.(type) {
		case []any:
			return nil, Serialization("Unrecognized collection type class java.nio.ByteBuffer")
		case map[string]any:
			return nil, Serialization("Start of structure or map found where not expected")
		}
		return nil, Serialization("only base-64-encoded strings are convertible to bytes")
	}
	if len(s)%4 != 0 {
		return nil, Serialization("Base64 encoded length is expected a multiple of 4 bytes but found: " + strconv.Itoa(len(s)))
	}
	v, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || strings.ContainsAny(s, "\r\n") {
		return nil, Serialization("Invalid last non-pad Base64 character dectected") // AWS's spelling
	}
	return v, nil
}

func integer(tree any, kind reflect.Kind) (int64, error) {
	name, low, high := "Long", int64(math.MinInt64), int64(math.MaxInt64)
	if kind == reflect.Int32 {
		name, low, high = "Integer", math.MinInt32, math.MaxInt32
	}
	n, ok := tree.(json.Number)
	if !ok {
		return 0, wrongScalar(tree, name)
	}
	if v, err := n.Int64(); err == nil {
		return min(max(v, low), high), nil
	}
	f, err := n.Float64()
	if err != nil {
		return 0, Serialization("")
	}
	// The serializer truncates fractions and clamps what does not fit.
	if f >= float64(high) {
		return high, nil
	}
	if f <= float64(low) {
		return low, nil
	}
	return int64(math.Floor(f)), nil
}

func double(tree any) (float64, error) {
	n, ok := tree.(json.Number)
	if !ok {
		return 0, wrongScalar(tree, "Double")
	}
	f, err := n.Float64()
	if err != nil {
		return 0, Serialization("")
	}
	return f, nil
}

func wrongScalar(tree any, want string) error {
	switch v := tree.(type) {
	case bool:
		if v {
			return Serialization("TRUE_VALUE cannot be converted to " + want)
		}
		return Serialization("FALSE_VALUE cannot be converted to " + want)
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") {
			return Serialization("DECIMAL_VALUE cannot be converted to " + want)
		}
		return Serialization("NUMBER_VALUE cannot be converted to " + want)
	case string:
		return Serialization("STRING_VALUE cannot be converted to " + want)
	case []any:
		return Serialization("Unrecognized collection type class java.lang." + want)
	}
	return Serialization("Start of structure or map found where not expected")
}

// memberMark stands before the names of members in paths: what follows it is printed as it is, or in
// lower case, by the wording.
const memberMark = "\x00"

// lowerMembers prints a path in the older wording.
func lowerMembers(path string) string {
	parts := strings.Split(path, memberMark)
	for i := 1; i < len(parts); i++ {
		parts[i] = lowerFirst(parts[i])
	}
	return strings.Join(parts, "")
}

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
