package attr

// Size is the value's size in bytes by DynamoDB's published rules: UTF-8 bytes for strings, raw
// bytes for binary, about a byte for two digits of a number, one byte for BOOL and NULL, three
// bytes for a list or map and one more for each of its entries.
func (v Value) Size() int {
	switch v.kind {
	case KindS, KindB:
		return len(v.Text())
	case KindN:
		return v.decimal().size()
	case KindBOOL, KindNULL:
		return 1
	case KindM:
		return 3 + len(v.Map()) + ItemSize(v.Map())
	case KindL:
		n := 3
		for _, e := range v.List() {
			n += 1 + e.Size()
		}
		return n
	case KindSS, KindBS:
		n := 0
		for _, m := range v.Members() {
			n += len(m)
		}
		return n
	case KindNS:
		n := 0
		for _, m := range v.Members() {
			n += Value{KindN, m}.Size()
		}
		return n
	}
	return 0
}

// ItemSize is the item's size in bytes, attribute names included.
func ItemSize(item Item) int {
	n := 0
	for name, v := range item {
		n += len(name) + v.Size()
	}
	return n
}

// MessageTooDeep is AWS's complaint about a value nested too deeply; the short one stands in the reason of a cancellation.
const (
	MessageTooDeepShort = "Nesting Levels have exceeded supported limits"
	MessageTooDeep      = MessageTooDeepShort + ": Attributes in the item have nested levels beyond supported limit"
)

// TooDeep reports whether an item holds lists and maps within each other beyond the limit.
func TooDeep(item Item) bool {
	for _, v := range item {
		if v.deeper(maxNesting) {
			return true
		}
	}
	return false
}

func (v Value) deeper(levels int) bool {
	if levels == 0 {
		return true
	}
	for _, e := range v.List() {
		if e.deeper(levels - 1) {
			return true
		}
	}
	for _, e := range v.Map() {
		if e.deeper(levels - 1) {
			return true
		}
	}
	return false
}
