package jsonscan

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// class says what a byte is inside a string. 0 is an ASCII byte that stands for itself.
var class = func() (t [256]byte) {
	for b := range 0x20 {
		t[b] = control
	}
	for b := 0x80; b < 0x100; b++ {
		t[b] = beyondASCII
	}
	t['"'], t['\\'] = quote, backslash
	return t
}()

const (
	quote = 1 + iota
	backslash
	control
	beyondASCII
)

// Eight bytes are one word, with the first byte lowest. The functions below mark bytes by their highest bit. A mark can be wrong
// only above a right mark, because only a byte with a right mark borrows from the next byte. So the lowest mark is always right,
// and code that goes on to a higher mark checks the byte again.
const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// ends marks quotes, backslashes and control characters. A byte below 0x80, less what it is compared with, has its highest bit
// set only if the two are equal, or if it is smaller than 0x20. Bytes from 0x80 on are masked out.
func ends(x uint64) uint64 {
	return ((x ^ '"'*ones - ones) | (x ^ '\\'*ones - ones) | (x - 0x20*ones)) &^ x & highs
}

// changes marks backslashes and bytes from 0x80 on.
func changes(x uint64) uint64 { return ((x ^ '\\'*ones - ones) | x) & highs }

// stringEnd returns where a string ends, its closing quote included, if its inside starts at i. It returns 0 if the string is
// malformed.
func stringEnd(d []byte, i int) int {
words:
	for len(d)-i >= 8 {
		x := binary.LittleEndian.Uint64(d[i:])
		for marks := ends(x); marks != 0; {
			k := bits.TrailingZeros64(marks) / 8
			switch b := d[i+k]; {
			case b == '"':
				return i + k + 1
			case b != '\\':
				if b < 0x20 {
					return 0
				}
				marks &= marks - 1 // a wrong mark
				continue
			}
			size := escape(d, i+k)
			if size == 0 {
				return 0
			}
			if k += size; k >= 8 {
				i += k
				continue words
			}
			marks &= ^uint64(0) << (8 * k)
		}
		i += 8
	}
	for i < len(d) {
		switch class[d[i]] {
		case quote:
			return i + 1
		case control:
			return 0
		case backslash:
			size := escape(d, i)
			if size == 0 {
				return 0
			}
			i += size
		default:
			i++
		}
	}
	return 0
}

// escape returns the length of the escape whose backslash is at i, or 0 if it is malformed.
func escape(d []byte, i int) int {
	if len(d)-i < 2 || escapes[d[i+1]] == 0 {
		return 0
	}
	if d[i+1] != 'u' {
		return 2
	}
	if _, ok := hex4(d[i+2:]); !ok {
		return 0
	}
	return 6
}

// nameEnd returns where the plain ASCII that starts at i ends.
func nameEnd(d []byte, i int) int {
	for len(d)-i >= 8 {
		x := binary.LittleEndian.Uint64(d[i:])
		if marks := ends(x) | x&highs; marks != 0 {
			return i + bits.TrailingZeros64(marks)/8
		}
		i += 8
	}
	for i < len(d) && class[d[i]] == 0 {
		i++
	}
	return i
}

// badString says where the malformed string whose opening quote is at i goes wrong.
func badString(d []byte, i int) (at int, reason string) {
	for i++; i < len(d); i++ {
		switch {
		case d[i] < 0x20:
			return i, "a control character inside a string must be escaped"
		case d[i] != '\\':
			continue
		}
		if i++; i >= len(d) {
			break
		}
		if escapes[d[i]] == 0 {
			return i, "a backslash must be followed by one of \"\\/bfnrtu"
		}
		if d[i] == 'u' {
			if len(d)-i < 5 {
				break
			}
			if _, ok := hex4(d[i+1:]); !ok {
				return i, `\u must be followed by four hexadecimal digits`
			}
		}
	}
	return len(d), cutOff
}

// escapes holds, by the byte after a backslash, the byte that the escape stands for, or 'u'.
var escapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'u': 'u'}

// plain reports whether the string raw stands for itself.
func plain(raw []byte) bool {
	inside := raw[1 : len(raw)-1]
	rest := inside[nameEnd(inside, 0):]
	return len(rest) == 0 || utf8.Valid(rest) && bytes.IndexByte(rest, '\\') < 0
}

// Text returns what the string raw stands for. It shares memory with raw unless raw has escapes or invalid UTF-8.
func Text(raw []byte) []byte {
	if plain(raw) {
		return raw[1 : len(raw)-1]
	}
	return Unquote(make([]byte, 0, UnquotedLen(raw)), raw)
}

// Unquote appends to dst what the string raw stands for. raw must be a string that a Cursor returned, quotes included. Like
// encoding/json Unquote replaces invalid UTF-8 and unpaired surrogates by U+FFFD.
func Unquote(dst, raw []byte) []byte {
	for rest := raw[1 : len(raw)-1]; ; {
		if dst, rest = unquote(dst, rest); len(rest) == 0 {
			return dst
		}
		dst = slices.Grow(dst, max(len(rest), utf8.UTFMax))
	}
}

// UnquoteWithin is Unquote if dst has room for the result. Otherwise ok is false, and dst is as it was.
func UnquoteWithin(dst, raw []byte) (out []byte, ok bool) {
	out, rest := unquote(dst, raw[1:len(raw)-1])
	if len(rest) > 0 {
		return dst, false
	}
	return out, true
}

// StringWithin passes over the next value if it is a string, and appends to dst what it stands for. It needs one pass; Value and
// Unquote need two. If the value is no string, has white space before it, is malformed, or needs more room than dst has, then ok
// is false and the cursor stays.
func (c *Cursor) StringWithin(dst []byte) (out []byte, ok bool) {
	d, i := c.data, c.pos
	if i >= len(d) || d[i] != '"' {
		return dst, false
	}
	i++
	n, room := len(dst), dst[:cap(dst)]
	for {
		for len(d)-i >= 8 && len(room)-n >= 8 {
			x := binary.LittleEndian.Uint64(d[i:])
			binary.LittleEndian.PutUint64(room[n:], x)
			marks := ends(x) | x&highs
			if marks == 0 {
				i, n = i+8, n+8
				continue
			}
			k := bits.TrailingZeros64(marks) / 8
			i, n = i+k, n+k
			if d[i] != '\\' || len(d)-i < 2 || d[i+1] == 'u' || escapes[d[i+1]] == 0 || n == len(room) {
				break
			}
			room[n] = escapes[d[i+1]]
			i, n = i+2, n+1
		}
		if i >= len(d) {
			return dst, false
		}
		size := 1
		switch class[d[i]] {
		case quote:
			c.pos = i + 1
			return room[:n], true
		case control:
			return dst, false
		case backslash:
			if size = escape(d, i); size == 0 {
				return dst, false
			}
			if size == 6 && len(d)-i >= 12 && d[i+6] == '\\' && escape(d, i+6) == 6 {
				_, size = unicodeEscape(d[i : i+12]) // 12 for a surrogate pair
			}
		case beyondASCII:
			_, size = utf8.DecodeRune(d[i:])
		}
		part, rest := unquote(room[:n], d[i:i+size])
		if len(rest) > 0 {
			return dst, false
		}
		i, n = i+size, len(part)
	}
}

// UnquotedLen returns how much room Unquote needs for the string raw: its unescaped length or a little more. It is at most
// len(raw)-2 for valid UTF-8, and at most three times as much otherwise.
func UnquotedLen(raw []byte) int {
	if utf8.Valid(raw) {
		return len(raw) - 2
	}
	var space [256]byte
	n := 0
	for rest := raw[1 : len(raw)-1]; len(rest) > 0; {
		var part []byte
		part, rest = unquote(space[:0], rest)
		n += len(part)
	}
	return n
}

// String returns what the string raw stands for, in one allocation.
func String(raw []byte) string {
	if plain(raw) {
		return string(raw[1 : len(raw)-1])
	}
	var b strings.Builder
	b.Grow(UnquotedLen(raw))
	WriteUnquoted(&b, raw)
	return b.String()
}

// WriteUnquoted writes what the string raw stands for.
func WriteUnquoted(b *strings.Builder, raw []byte) {
	var space [256]byte
	for rest := raw[1 : len(raw)-1]; len(rest) > 0; {
		var part []byte
		part, rest = unquote(space[:0], rest)
		b.Write(part)
	}
}

// unquote appends to dst what s stands for, as far as dst has room. s is the inside of a checked string. unquote returns the rest
// of s that it did not reach.
func unquote(dst, s []byte) (out, rest []byte) {
	n, room := len(dst), dst[:cap(dst)]
	i := 0
	for i < len(s) {
		// Copy eight bytes whatever they are. Only those before the first byte that does not stand for itself count.
		for len(s)-i >= 8 && len(room)-n >= 8 {
			x := binary.LittleEndian.Uint64(s[i:])
			binary.LittleEndian.PutUint64(room[n:], x)
			marks := changes(x)
			if marks == 0 {
				i, n = i+8, n+8
				continue
			}
			k := bits.TrailingZeros64(marks) / 8
			i, n = i+k, n+k
			if s[i] != '\\' || s[i+1] == 'u' || n == len(room) {
				break
			}
			room[n] = escapes[s[i+1]]
			i, n = i+2, n+1
		}
		if i == len(s) {
			break
		}
		if n == len(room) {
			break
		}
		b := s[i]
		switch {
		case b >= utf8.RuneSelf:
			r, size := utf8.DecodeRune(s[i:])
			if len(room)-n < utf8.RuneLen(r) {
				return room[:n], s[i:]
			}
			n += utf8.EncodeRune(room[n:], r)
			i += size
		case b != '\\':
			room[n] = b
			i, n = i+1, n+1
		case s[i+1] != 'u':
			room[n] = escapes[s[i+1]]
			i, n = i+2, n+1
		default:
			r, size := unicodeEscape(s[i:])
			if len(room)-n < utf8.RuneLen(r) {
				return room[:n], s[i:]
			}
			n += utf8.EncodeRune(room[n:], r)
			i += size
		}
	}
	return room[:n], s[i:]
}

// unicodeEscape reads \uXXXX, or a surrogate pair of two of them.
func unicodeEscape(s []byte) (r rune, size int) {
	r, _ = hex4(s[2:])
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	if len(s) >= 12 && s[6] == '\\' && s[7] == 'u' {
		low, _ := hex4(s[8:])
		if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
			return pair, 12
		}
	}
	return utf8.RuneError, 6
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
