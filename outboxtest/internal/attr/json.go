package attr

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// class is how AWS's serializer names the type.
const class = "com.amazonaws.dynamodb.v20120810.AttributeValue"

// maxNesting is how deep lists and maps may hold each other.
const maxNesting = 32

// Raw is a value as it came: its JSON types are right, but it may still break the rules for
// values. AWS answers the two kinds of fault at different moments of a request.
type Raw struct{ members map[string]any }

// WireName is the type's name in AWS's complaints.
func (*Raw) WireName() string { return "AttributeValue" }

// UnmarshalWire checks the JSON types; a wrong one is a SerializationException.
func (r *Raw) UnmarshalWire(tree any, element bool) error {
	members, ok := tree.(map[string]any)
	if !ok {
		return wire.NotAnObject(tree, element, "class "+class)
	}
	for _, kind := range kinds() {
		v, ok := members[kind.String()]
		if !ok || v == nil {
			continue
		}
		if err := checkMember(kind, v); err != nil {
			return err
		}
	}
	r.members = members
	return nil
}

// kinds lists the types in the order in which they are looked for.
func kinds() [10]Kind {
	return [...]Kind{KindS, KindN, KindB, KindBOOL, KindNULL, KindSS, KindNS, KindBS, KindL, KindM}
}

func checkMember(kind Kind, tree any) error {
	var err error
	switch kind {
	case KindS, KindN:
		_, err = wire.String(tree)
	case KindB:
		_, err = wire.Blob(tree)
	case KindBOOL, KindNULL:
		_, err = wire.Bool(tree)
	case KindSS, KindNS, KindBS:
		var items []any
		if items, err = wire.List(tree); err != nil {
			return err
		}
		for _, item := range items {
			if item == nil {
				continue
			}
			if kind == KindBS {
				_, err = wire.Blob(item)
			} else {
				_, err = wire.String(item)
			}
			if err != nil {
				return err
			}
		}
	case KindL:
		var items []any
		if items, err = wire.List(tree); err != nil {
			return err
		}
		for _, item := range items {
			if err := checkElement(item); err != nil {
				return err
			}
		}
	case KindM:
		var m map[string]any
		if m, err = wire.Map(tree, class); err != nil {
			return err
		}
		for _, item := range m {
			if err := checkElement(item); err != nil {
				return err
			}
		}
	}
	return err
}

func checkElement(tree any) error {
	if tree == nil {
		return nil
	}
	var r Raw
	return r.UnmarshalWire(tree, true)
}

// Value checks the rules and makes the value; a broken rule is a ValidationException.
func (r Raw) Value() (Value, error) { return fromMembers(r.members, maxNesting) }

// Operand is Value for the operand of an expression in a transaction, which may nest one level more: the item alone is measured.
func (r Raw) Operand() (Value, error) { return fromMembers(r.members, maxNesting+1) }

// IsZero reports whether nothing came.
func (r Raw) IsZero() bool { return r.members == nil }

// Items makes an item of raw values, nil of nil.
func Items(raw map[string]Raw) (Item, error) {
	if raw == nil {
		return nil, nil
	}
	item := make(Item, len(raw))
	for _, name := range sortedKeys(raw) {
		v, err := raw[name].Value()
		if err != nil {
			return nil, err
		}
		item[name] = v
	}
	return item, nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// fromMembers makes a value of at most so many levels.
func fromMembers(members map[string]any, levels int) (Value, error) {
	if levels == 0 {
		return Value{}, wire.CountedValidation(MessageTooDeep)
	}
	var found Value
	count := 0
	for _, kind := range kinds() {
		tree, ok := members[kind.String()]
		if !ok || tree == nil {
			continue
		}
		v, err := fromTree(kind, tree, levels)
		if err != nil {
			return Value{}, err
		}
		found = v
		count++
	}
	switch count {
	case 0:
		return Value{}, wire.Validation("Supplied AttributeValue is empty, must contain exactly one of the supported datatypes")
	case 1:
		return found, nil
	}
	return Value{}, wire.Validation("Supplied AttributeValue has more than one datatypes set, must contain exactly one of the supported datatypes")
}

func fromTree(kind Kind, tree any, levels int) (Value, error) {
	switch kind {
	case KindS:
		s, err := wire.String(tree)
		return String(s), err
	case KindN:
		s, err := wire.String(tree)
		if err != nil {
			return Value{}, err
		}
		return Number(s)
	case KindB:
		b, err := wire.Blob(tree)
		return Binary(b), err
	case KindBOOL:
		b, err := wire.Bool(tree)
		return Boolean(b), err
	case KindNULL:
		b, err := wire.Bool(tree)
		if err == nil && !b {
			err = wire.CountedValidation("One or more parameter values were invalid: Null attribute value types must have the value of true")
		}
		return Null(), err
	case KindSS, KindNS, KindBS:
		return fromSet(kind, tree)
	case KindL:
		items, err := wire.List(tree)
		if err != nil {
			return Value{}, err
		}
		list := make([]Value, len(items))
		for i, item := range items {
			members, _ := item.(map[string]any)
			if list[i], err = fromMembers(members, levels-1); err != nil {
				return Value{}, err
			}
		}
		return List(list), nil
	}
	m, err := wire.Map(tree, class)
	if err != nil {
		return Value{}, err
	}
	out := make(map[string]Value, len(m))
	for _, name := range sortedKeys(m) {
		members, _ := m[name].(map[string]any)
		if out[name], err = fromMembers(members, levels-1); err != nil {
			return Value{}, err
		}
	}
	return Map(out), nil
}

func fromSet(kind Kind, tree any) (Value, error) {
	items, err := wire.List(tree)
	if err != nil {
		return Value{}, err
	}
	if len(items) == 0 {
		switch kind {
		case KindSS:
			return Value{}, wire.CountedValidation("One or more parameter values were invalid: An string set  may not be empty")
		case KindNS:
			return Value{}, wire.CountedValidation("One or more parameter values were invalid: An number set  may not be empty")
		}
		return Value{}, wire.CountedValidation("One or more parameter values were invalid: Binary sets should not be empty")
	}
	members := make([]string, len(items))
	shown := make([]string, len(items))
	seen := make(map[string]struct{}, len(items))
	for i, item := range items {
		shown[i], _ = item.(string)
		if members[i], err = setMember(kind, item); err != nil {
			return Value{}, err
		}
		seen[members[i]] = struct{}{}
	}
	if len(seen) < len(members) {
		return Value{}, duplicates(kind, members, shown)
	}
	return set(kind, members), nil
}

// duplicates is AWS's complaint about a set in which a member comes twice; shown are the members as
// they were written. The newer text quotes the members, up to the first repetition in their order.
func duplicates(kind Kind, members, shown []string) error {
	const start = "One or more parameter values were invalid: Input collection "
	fault := func(newer, older string) error {
		return &wire.Error{Code: wire.CodeValidation, Message: newer, Older: older, Counted: true}
	}
	if kind == KindNS {
		return fault(start+"contains duplicates.", "Input collection contains duplicates")
	}
	older := start + "[" + strings.Join(shown, ", ") + "]"
	seen := make(map[string]string)
	i := 0
	for ; i < len(members); i++ {
		if _, twice := seen[members[i]]; twice {
			break
		}
		seen[members[i]] = shown[i]
	}
	var list []string
	for _, m := range sortedKeys(seen) {
		list = append(list, strconv.Quote(seen[m]))
	}
	for _, s := range shown[i:] {
		list = append(list, strconv.Quote(s))
	}
	if kind == KindSS {
		return fault(start+"["+strings.Join(list, ", ")+"] contains duplicates.", older+" contains duplicates.")
	}
	// AWS leaves out the space.
	return fault(start+"["+strings.Join(list, ",")+"]of type BS contains duplicates.", older+"of type BS contains duplicates.")
}

func setMember(kind Kind, tree any) (string, error) {
	if tree == nil {
		return "", wire.Validation("One or more parameter values were invalid: An " + setNoun(kind) + " set may not have a null member")
	}
	switch kind {
	case KindBS:
		b, err := wire.Blob(tree)
		return string(b), err
	case KindNS:
		s, err := wire.String(tree)
		if err != nil {
			return "", err
		}
		d, err := parseDecimal(s)
		return d.text(), err
	}
	return wire.String(tree)
}

func setNoun(kind Kind) string {
	switch kind {
	case KindSS:
		return "string"
	case KindNS:
		return "number"
	}
	return "binary"
}

// UnmarshalJSON reads the value's wire form; faults are *wire.Error.
func (v *Value) UnmarshalJSON(data []byte) error {
	tree, err := wire.Parse(data)
	if err != nil {
		return err
	}
	var r Raw
	if err := r.UnmarshalWire(tree, true); err != nil {
		return err
	}
	*v, err = r.Value()
	return err
}

// MarshalJSON writes the value's wire form, e.g. {"N":"10"}; maps in the order of their names.
func (v Value) MarshalJSON() ([]byte, error) { return v.append(nil, false), nil }

// Canonical is the wire form with the members of sets in order: Equal values have the same.
func (v Value) Canonical() []byte { return v.append(nil, true) }

func (v Value) append(b []byte, ordered bool) []byte {
	if v.kind == KindNone {
		return append(b, "null"...)
	}
	b = append(b, '{', '"')
	b = append(b, v.kind.String()...)
	b = append(b, '"', ':')
	switch v.kind {
	case KindS, KindN:
		b = appendString(b, v.Text())
	case KindB:
		b = appendBase64(b, v.Text())
	case KindBOOL:
		if v.Bool() {
			b = append(b, "true"...)
		} else {
			b = append(b, "false"...)
		}
	case KindNULL:
		b = append(b, "true"...)
	case KindM:
		b = append(b, '{')
		for i, name := range sortedKeys(v.Map()) {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendString(b, name), ':')
			b = v.Map()[name].append(b, ordered)
		}
		b = append(b, '}')
	case KindL:
		b = append(b, '[')
		for i, e := range v.List() {
			if i > 0 {
				b = append(b, ',')
			}
			b = e.append(b, ordered)
		}
		b = append(b, ']')
	case KindSS, KindNS, KindBS:
		members := v.Members()
		if ordered {
			members = slices.Sorted(slices.Values(members))
		}
		b = append(b, '[')
		for i, m := range members {
			if i > 0 {
				b = append(b, ',')
			}
			if v.kind == KindBS {
				b = appendBase64(b, m)
			} else {
				b = appendString(b, m)
			}
		}
		b = append(b, ']')
	}
	return append(b, '}')
}

func appendBase64(b []byte, raw string) []byte {
	b = append(b, '"')
	b = base64.StdEncoding.AppendEncode(b, []byte(raw))
	return append(b, '"')
}

func appendString(b []byte, s string) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil { // a string always encodes
		return append(b, '"', '"')
	}
	return append(b, bytes.TrimSuffix(buf.Bytes(), []byte("\n"))...)
}
