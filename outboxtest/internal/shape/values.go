package shape

import "time"

// Values is a request that has passed Decode: every member has the Go type of
// its model, unknown members and nulls are gone.
type Values map[string]any

// Has reports whether the member was given and was not null.
func (v Values) Has(name string) bool { _, ok := v[name]; return ok }

// String returns a text member, "" if it is absent.
func (v Values) String(name string) string { s, _ := v[name].(string); return s }

// Int returns a number, or absent if the member is absent.
func (v Values) Int(name string, absent int) int {
	if n, ok := v[name].(int64); ok {
		return int(n)
	}
	return absent
}

// Bool returns a Boolean, false if it is absent.
func (v Values) Bool(name string) bool { b, _ := v[name].(bool); return b }

// Time returns a timestamp to the millisecond, as the services keep it.
func (v Values) Time(name string) time.Time { t, _ := v[name].(time.Time); return t }

// Bytes returns a blob.
func (v Values) Bytes(name string) []byte { b, _ := v[name].([]byte); return b }

// Strings returns a list of text.
func (v Values) Strings(name string) []string {
	list, _ := v[name].([]any)
	out := make([]string, 0, len(list))
	for _, e := range list {
		s, _ := e.(string)
		out = append(out, s)
	}
	return out
}

// StringMap returns a map of text.
func (v Values) StringMap(name string) map[string]string {
	m, _ := v[name].(map[string]string)
	return m
}

// Struct returns a nested structure, nil if it is absent.
func (v Values) Struct(name string) Values { s, _ := v[name].(Values); return s }

// Structs returns a list of structures; a null element is an empty one.
func (v Values) Structs(name string) []Values {
	list, _ := v[name].([]any)
	out := make([]Values, 0, len(list))
	for _, e := range list {
		s, _ := e.(Values)
		out = append(out, s)
	}
	return out
}
