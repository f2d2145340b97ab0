// Package jsonscan reads JSON in one forward pass, without building values. It finds where values start and end, checks that what
// it passes over is valid, and unescapes only what the caller asks for.
//
// It accepts exactly what encoding/json accepts, except that nesting is bounded by [MaxDepth]. It knows JSON's grammar (RFC 8259)
// and must not know what the documents mean. It panics on no input, and its memory is constant.
//
// It reads mostly strings, so it looks at eight bytes of them at a time; see [stringEnd] and [unquote].
package jsonscan

import (
	"fmt"
)

// MaxDepth is how deeply objects and arrays may be nested inside one value. DynamoDB nests an item at most 32 levels, each of
// which takes two levels of JSON. The envelopes around the item add fewer than ten.
const MaxDepth = 128

// Error is a place where the text stops being acceptable JSON.
type Error struct {
	Offset int
	Reason string
}

func (e *Error) Error() string { return fmt.Sprintf("byte %d: %s", e.Offset, e.Reason) }

// Cursor is a position in a JSON text. After the first error every later call does nothing, so a caller may read on and look at
// Err once. A Cursor is not safe for concurrent use.
type Cursor struct {
	data []byte
	pos  int // after an error at the end of data, which stops the fast paths
	err  *Error
}

// New returns a cursor at the start of data. It never changes data.
func New(data []byte) Cursor { return Cursor{data: data} }

// Err returns the first error, or nil.
func (c *Cursor) Err() error {
	if c.err == nil {
		return nil
	}
	return c.err
}

// Offset returns how far the text has been read, in bytes: all of it after an error.
func (c *Cursor) Offset() int { return c.pos }

// Peek returns the first byte of the next value, or 0 at the end of the text and after an error.
func (c *Cursor) Peek() byte {
	c.pos = space(c.data, c.pos)
	if c.pos >= len(c.data) {
		return 0
	}
	return c.data[c.pos]
}

// Enter consumes open ('{' or '[') if the next value starts with it, and reports whether it did.
func (c *Cursor) Enter(open byte) bool {
	if c.Peek() != open {
		return false
	}
	c.pos++
	return true
}

// Key moves to the next member of the object that was entered, and returns its name. first says that it is the object's first
// member. At the end of the object, or after an error, ok is false. The name shares memory with the text unless it has escapes or
// invalid UTF-8.
func (c *Cursor) Key(first bool) (name []byte, ok bool) {
	d, i := c.data, c.pos
	atName := first
	if !first && i < len(d) && d[i] == ',' {
		i++
		atName = true
	}
	if atName && i < len(d) && d[i] == '"' {
		start := i + 1
		i = nameEnd(d, start)
		if i+1 < len(d) && d[i] == '"' && d[i+1] == ':' {
			c.pos = i + 2
			return d[start:i], true
		}
	}
	raw, ok := c.RawKey(first)
	if !ok {
		return nil, false
	}
	return Text(raw), true
}

// RawKey is Key without unescaping: it returns the name as it stands in the text, quotes included.
func (c *Cursor) RawKey(first bool) (raw []byte, ok bool) {
	if !c.next('}', first) {
		return nil, false
	}
	start := c.pos
	end, reason := member(c.data, start)
	if reason != "" {
		c.fail(end, reason)
		return nil, false
	}
	c.pos = end
	return c.data[start:stringEnd(c.data, start+1)], true
}

// Element moves to the next element of the array that was entered. first says that it is the array's first element.
func (c *Cursor) Element(first bool) bool { return c.next(']', first) }

func (c *Cursor) next(end byte, first bool) bool {
	b := c.Peek()
	switch {
	case c.err != nil:
		return false
	case b == end:
		c.pos++
		return false
	case first:
		return true
	case b == ',':
		c.pos++
		if c.Peek() == end {
			c.fail(c.pos, "a comma must be followed by another value")
			return false
		}
		return true
	}
	c.fail(c.pos, wantEnd)
	return false
}

// End reports an error unless only white space is left.
func (c *Cursor) End() {
	if c.Peek(); c.err == nil && c.pos < len(c.data) {
		c.fail(c.pos, "there is more after the end of the value")
	}
}

// Value passes over the next value of any kind, checks it, and returns its bytes as they stand in the text. After an error it
// returns nil.
func (c *Cursor) Value() []byte {
	start := c.pos
	if start < len(c.data) && c.data[start] == '"' {
		if end := stringEnd(c.data, start+1); end > 0 {
			c.pos = end
			return c.data[start:end]
		}
	}
	if c.err != nil {
		return nil
	}
	start = space(c.data, start)
	end, reason := skip(c.data, start, MaxDepth)
	if reason != "" {
		c.fail(end, reason)
		return nil
	}
	c.pos = end
	return c.data[start:end]
}

// Single passes over the next value if it is an object in the shape {"name":value}, without white space around name and value and
// without escapes in the name. It returns both. Otherwise ok is false and the cursor stays: the value may still be an object with
// one member in another shape.
func (c *Cursor) Single() (name, value []byte, ok bool) {
	d, i := c.data, c.pos
	if len(d)-i < 2 || d[i] != '{' || d[i+1] != '"' {
		return nil, nil, false
	}
	start := i + 2
	i = nameEnd(d, start)
	name = d[start:i]
	if len(d)-i < 3 || d[i] != '"' || d[i+1] != ':' || d[i+2] <= ' ' {
		return nil, nil, false
	}
	i += 2
	start = i
	if d[i] == '"' {
		i = stringEnd(d, i+1)
	} else if end, reason := skip(d, i, MaxDepth-1); reason == "" {
		i = end
	} else {
		return nil, nil, false
	}
	if i == 0 || i >= len(d) || d[i] != '}' {
		return nil, nil, false
	}
	c.pos = i + 1
	return name, d[start:i], true
}

// Rest returns the text that has not been read. After an error it is empty.
func (c *Cursor) Rest() []byte { return c.data[c.pos:] }

// Advance passes over n bytes of Rest, which the caller knows to be a value.
func (c *Cursor) Advance(n int) { c.pos += n }

// Skip passes over text if it comes next, byte for byte, and reports whether it did.
func (c *Cursor) Skip(text string) bool {
	if rest := c.data[c.pos:]; len(rest) < len(text) || string(rest[:len(text)]) != text {
		return false
	}
	c.pos += len(text)
	return true
}

const (
	wantEnd   = "a comma or the closing bracket must follow a value"
	wantName  = "an object's member must start with a name"
	wantColon = "a colon must follow a member's name"
	wantValue = "a value starts with a byte that no value starts with"
	cutOff    = "the text ends in the middle of a value"
)

var tooDeep = fmt.Sprintf("nested deeper than %d levels", MaxDepth)

func (c *Cursor) fail(at int, reason string) {
	if c.err == nil {
		if at >= len(c.data) {
			at, reason = len(c.data), cutOff
		}
		c.err = &Error{Offset: at, Reason: reason}
	}
	c.pos = len(c.data)
}

// space returns where the white space at i ends.
func space(d []byte, i int) int {
	for i < len(d) && (d[i] == ' ' || d[i] == '\n' || d[i] == '\t' || d[i] == '\r') {
		i++
	}
	return i
}

// skip returns where the value that starts at i ends. If the text is not a value, it returns where it goes wrong, and why. The
// value may nest up to levels deep.
func skip(d []byte, i, levels int) (end int, reason string) {
	var objects [2]uint64 // for each open container, the innermost lowest: whether it is an object
	depth := 0
	for {
		if i < len(d) && d[i] <= ' ' {
			i = space(d, i)
		}
		if i >= len(d) {
			return i, cutOff
		}
		switch b := d[i]; b {
		case '"':
			if end = stringEnd(d, i+1); end == 0 {
				return badString(d, i)
			}
			i = end
		case '{', '[':
			if depth == levels {
				return i, tooDeep
			}
			i = space(d, i+1)
			if i < len(d) && d[i] == b+2 { // in ASCII, '}' is '{'+2 and ']' is '['+2
				i++
				break
			}
			depth++
			objects[1] = objects[1]<<1 | objects[0]>>63
			objects[0] <<= 1
			if b == '{' {
				objects[0] |= 1
				if i, reason = member(d, i); reason != "" {
					return i, reason
				}
			}
			continue // to the first value inside
		case 't':
			i, reason = literal(d, i, "true")
		case 'f':
			i, reason = literal(d, i, "false")
		case 'n':
			i, reason = literal(d, i, "null")
		default:
			i, reason = number(d, i)
		}
		if reason != "" {
			return i, reason
		}
		// A value has ended. Close all containers that end here, up to the comma before the next value.
		for {
			if depth == 0 {
				return i, ""
			}
			if i < len(d) && d[i] <= ' ' {
				i = space(d, i)
			}
			if i >= len(d) {
				return i, cutOff
			}
			inObject := objects[0]&1 == 1
			if d[i] == ',' {
				i++
				if inObject {
					if i, reason = member(d, i); reason != "" {
						return i, reason
					}
				}
				break
			}
			if d[i] != ']' && !inObject || d[i] != '}' && inObject {
				return i, wantEnd
			}
			i++
			depth--
			objects[0] = objects[0]>>1 | objects[1]<<63
			objects[1] >>= 1
		}
	}
}

// member returns where the value of the member at i starts.
func member(d []byte, i int) (start int, reason string) {
	if i < len(d) && d[i] <= ' ' {
		i = space(d, i)
	}
	if i >= len(d) || d[i] != '"' {
		return i, wantName
	}
	end := stringEnd(d, i+1)
	if end == 0 {
		return badString(d, i)
	}
	if i = end; i < len(d) && d[i] <= ' ' {
		i = space(d, i)
	}
	if i >= len(d) || d[i] != ':' {
		return i, wantColon
	}
	return i + 1, ""
}

func literal(d []byte, i int, want string) (end int, reason string) {
	if len(d)-i < len(want) {
		return len(d), cutOff
	}
	if string(d[i:i+len(want)]) != want {
		return i, wantValue
	}
	return i + len(want), ""
}

func number(d []byte, i int) (end int, reason string) {
	start := i
	digits := func() bool {
		from := i
		for i < len(d) && d[i]-'0' <= 9 {
			i++
		}
		return i > from
	}
	ok := true
	if i < len(d) && d[i] == '-' {
		i++
	}
	if i < len(d) && d[i] == '0' {
		i++
	} else {
		ok = digits()
	}
	if ok && i < len(d) && d[i] == '.' {
		i++
		ok = digits()
	}
	if ok && i < len(d) && (d[i] == 'e' || d[i] == 'E') {
		i++
		if i < len(d) && (d[i] == '+' || d[i] == '-') {
			i++
		}
		ok = digits()
	}
	switch {
	case ok:
		return i, ""
	case i > start:
		return i, "a number is malformed"
	}
	return i, wantValue
}

// IsNull reports whether raw, a value that a Cursor returned, is null.
func IsNull(raw []byte) bool { return len(raw) == 4 && raw[0] == 'n' }

// IsString reports whether raw, a value that a Cursor returned, is a string.
func IsString(raw []byte) bool { return len(raw) >= 2 && raw[0] == '"' }
