// Package jsonscan reads JSON in one forward pass, without building values: it finds where values start and end, checks
// that what it passes over is valid, and unescapes only what the caller asks for.
//
// It accepts exactly what encoding/json accepts, except that nesting is bounded by [MaxDepth]. It knows JSON's grammar
// (RFC 8259) and must not know what the documents mean. Nothing in it panics on any input, and its memory is constant.
package jsonscan

import (
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxDepth is how deeply objects and arrays may be nested. DynamoDB nests an item at most 32 levels, each of which takes
// two levels of JSON; the envelopes around it add fewer than ten.
const MaxDepth = 128

// Error is a place where the text stops being acceptable JSON.
type Error struct {
	Offset int
	Reason string
}

func (e *Error) Error() string { return fmt.Sprintf("byte %d: %s", e.Offset, e.Reason) }

// Cursor is a position in a JSON text. The first error sticks: every later call does nothing, so a caller may read on and
// look at Err once. A Cursor is not safe for concurrent use.
type Cursor struct {
	data []byte
	pos  int
	err  *Error
}

// New returns a cursor at the start of data, which it never changes.
func New(data []byte) Cursor { return Cursor{data: data} }

// Err returns the first error met, or nil.
func (c *Cursor) Err() error {
	if c.err == nil {
		return nil
	}
	return c.err
}

// Peek returns the first byte of the next value, or 0 at the end of the text.
func (c *Cursor) Peek() byte {
	c.space()
	if c.err != nil || c.pos >= len(c.data) {
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

// Key moves to the next member of the object that was entered and returns its name; first says that it is the object's
// first. At the end of the object, or after an error, ok is false. The name is only valid until the next call when it
// holds escapes.
func (c *Cursor) Key(first bool) (name []byte, ok bool) {
	if !c.next('}', first) {
		return nil, false
	}
	if c.Peek() != '"' {
		c.fail("an object's member must start with a name")
		return nil, false
	}
	raw := c.Value()
	if c.Peek() != ':' {
		c.fail("a colon must follow a member's name")
		return nil, false
	}
	c.pos++
	name = raw[1 : len(raw)-1]
	if !plain(name) {
		name = Unquote(nil, raw)
	}
	return name, true
}

// Element moves to the next element of the array that was entered; first says that it is the first.
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
			c.fail("a comma must be followed by another value")
			return false
		}
		return true
	}
	c.fail("a comma or the closing bracket must follow a value")
	return false
}

// End reports an error unless only white space is left.
func (c *Cursor) End() {
	if c.Peek(); c.err == nil && c.pos < len(c.data) {
		c.fail("there is more after the end of the value")
	}
}

// Value passes over the next value of any kind, checks it, and returns its bytes as they stand in the text.
// It returns nil after an error.
func (c *Cursor) Value() []byte {
	c.space()
	if c.err != nil {
		return nil
	}
	start := c.pos
	var kinds [MaxDepth]byte // the closing bracket of every open object or array
	depth := 0
	for {
		switch b := c.Peek(); b {
		case '"':
			c.string()
		case '{', '[':
			if depth == MaxDepth {
				c.fail(fmt.Sprintf("nested deeper than %d levels", MaxDepth))
				return nil
			}
			c.pos++
			kinds[depth] = b + 2 // in ASCII, '}' is '{'+2 and ']' is '['+2
			depth++
			if c.Peek() != b+2 {
				if b == '{' {
					c.name()
				}
				continue // to the first value inside
			}
		case 't':
			c.literal("true")
		case 'f':
			c.literal("false")
		case 'n':
			c.literal("null")
		default:
			c.number()
		}
		if c.err != nil {
			return nil
		}
		// A value has ended, or an empty container stands before its closing bracket: close all that ends here.
		for depth > 0 && c.Peek() == kinds[depth-1] {
			c.pos++
			depth--
		}
		if c.err != nil {
			return nil
		}
		if depth == 0 {
			return c.data[start:c.pos]
		}
		if c.Peek() != ',' {
			c.fail("a comma or the closing bracket must follow a value")
			return nil
		}
		c.pos++
		if kinds[depth-1] == '}' {
			c.name()
		}
	}
}

func (c *Cursor) name() {
	if c.Peek() != '"' {
		c.fail("an object's member must start with a name")
		return
	}
	c.string()
	if c.Peek() != ':' {
		c.fail("a colon must follow a member's name")
		return
	}
	c.pos++
}

func (c *Cursor) fail(reason string) {
	if c.err != nil {
		return
	}
	if c.pos >= len(c.data) {
		reason = "the text ends in the middle of a value"
	}
	c.err = &Error{Offset: c.pos, Reason: reason}
}

func (c *Cursor) space() {
	for c.pos < len(c.data) {
		switch c.data[c.pos] {
		case ' ', '\t', '\r', '\n':
			c.pos++
		default:
			return
		}
	}
}

func (c *Cursor) literal(want string) {
	if len(c.data)-c.pos < len(want) {
		c.pos = len(c.data)
		c.fail("")
		return
	}
	if string(c.data[c.pos:c.pos+len(want)]) != want {
		c.fail("a value starts with a byte that no value starts with")
		return
	}
	c.pos += len(want)
}

// string checks the string that starts at the cursor.
func (c *Cursor) string() {
	if c.err != nil {
		return
	}
	d, i := c.data, c.pos+1
	for i < len(d) {
		b := d[i]
		if !special[b] {
			i++
			continue
		}
		if b == '"' {
			c.pos = i + 1
			return
		}
		if b != '\\' {
			c.pos = i
			c.fail("a control character inside a string must be escaped")
			return
		}
		i++
		if i >= len(d) {
			break
		}
		switch d[i] {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			i++
		case 'u':
			if len(d)-i < 5 {
				c.pos = len(d)
				c.fail("")
				return
			}
			if _, ok := hex4(d[i+1:]); !ok {
				c.pos = i
				c.fail(`\u must be followed by four hexadecimal digits`)
				return
			}
			i += 5
		default:
			c.pos = i
			c.fail("a backslash must be followed by one of \"\\/bfnrtu")
			return
		}
	}
	c.pos = len(d)
	c.fail("")
}

// special marks the bytes that do not simply stand for themselves inside a string.
var special = func() (t [256]bool) {
	for b := range 0x20 {
		t[b] = true
	}
	t['"'], t['\\'] = true, true
	return t
}()

func (c *Cursor) number() {
	d, i := c.data, c.pos
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
	if !ok {
		started := i > c.pos
		c.pos = i
		if started {
			c.fail("a number is malformed")
		} else {
			c.fail("a value starts with a byte that no value starts with")
		}
		return
	}
	c.pos = i
}

// plain reports whether the inside of a checked string stands for itself.
func plain(inside []byte) bool {
	for _, b := range inside {
		if b == '\\' || b >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// IsNull reports whether raw, a value that a Cursor returned, is null.
func IsNull(raw []byte) bool { return len(raw) == 4 && raw[0] == 'n' }

// IsString reports whether raw, a value that a Cursor returned, is a string.
func IsString(raw []byte) bool { return len(raw) >= 2 && raw[0] == '"' }

// Unquote appends to dst what the string raw stands for. raw must be a string that a Cursor returned, quotes included.
// Like encoding/json it replaces invalid UTF-8 and unpaired surrogates by U+FFFD.
func Unquote(dst, raw []byte) []byte {
	s := raw[1 : len(raw)-1]
	for i := 0; i < len(s); {
		from := i
		for i < len(s) && s[i] != '\\' && s[i] < utf8.RuneSelf {
			i++
		}
		dst = append(dst, s[from:i]...)
		if i == len(s) {
			break
		}
		if s[i] != '\\' {
			r, n := utf8.DecodeRune(s[i:])
			dst = utf8.AppendRune(dst, r)
			i += n
			continue
		}
		switch b := s[i+1]; b {
		case 'u':
			r, _ := hex4(s[i+2:])
			i += 6
			if utf16.IsSurrogate(r) {
				pair := rune(utf8.RuneError)
				if len(s)-i >= 6 && s[i] == '\\' && s[i+1] == 'u' {
					low, _ := hex4(s[i+2:])
					pair = utf16.DecodeRune(r, low)
				}
				if r = pair; r != utf8.RuneError {
					i += 6
				}
			}
			dst = utf8.AppendRune(dst, r)
			continue
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		default:
			dst = append(dst, b)
		}
		i += 2
	}
	return dst
}

// hex4 reads four hexadecimal digits.
func hex4(d []byte) (rune, bool) {
	if len(d) < 4 {
		return 0, false
	}
	var r rune
	for _, b := range d[:4] {
		switch {
		case '0' <= b && b <= '9':
			b -= '0'
		case 'a' <= b && b <= 'f':
			b -= 'a' - 10
		case 'A' <= b && b <= 'F':
			b -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(b)
	}
	return r, true
}
