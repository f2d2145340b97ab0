package changerec

import (
	"encoding/base64"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/seed-1b628d3f/outbox/internal/jsonscan"
)

// kindOf is the type of an attribute value, or why its type is not known.
type kindOf uint8

const (
	none    kindOf = iota // no attribute, or a NULL
	unread                // not taken apart yet
	unknown               // a type that DynamoDB does not have
	done                  // a string that is unescaped already
	str
	num
	object
	binary
	other // BOOL and what follows it in names
)

// names are the types by kindOf. The last four are needed only for errors.
var names = [...]string{none: "NULL", unread: "", unknown: "", done: "S", str: "S", num: "N", object: "M", binary: "B", other: "BOOL", 9: "L", 10: "SS", 11: "NS", 12: "BS"}

func (k kindOf) String() string { return names[k] }

func kindNamed(name []byte) kindOf {
	switch string(name) {
	case "S":
		return str
	case "N":
		return num
	case "M":
		return object
	case "B":
		return binary
	case "NULL":
		return none
	}
	for k := other; int(k) < len(names); k++ {
		if names[k] == string(name) {
			return k
		}
	}
	return unknown
}

// value is an attribute value such as {"S":"x"}, or where it stands.
type value struct {
	raw   []byte // nil if there is no such attribute; the whole value if kind is unread
	kind  kindOf
	inner []byte // what follows the type's name
}

// read passes over an attribute value. It takes the value apart at once if it has the shape that DynamoDB writes.
func read(c *jsonscan.Cursor) value {
	if name, inner, ok := c.Single(); ok {
		return value{raw: inner, kind: kindNamed(name), inner: inner}
	}
	return value{raw: c.Value(), kind: unread}
}

// typed returns the value's type and what it holds. For a missing attribute and for a NULL the type is none.
func (v value) typed(where string) (kind kindOf, inner []byte, err *Error) {
	switch v.kind {
	case unknown:
		return none, nil, errorf(where, "an attribute value has an unknown type")
	case unread:
		return v.parse(where)
	}
	return v.kind, v.inner, nil
}

// parse takes apart a value with white space, escapes in the type's name, or a type twice.
func (v value) parse(where string) (kind kindOf, inner []byte, err *Error) {
	c := jsonscan.New(v.raw)
	if !c.Enter('{') {
		return none, nil, errorf(where, "want an attribute value, have %s", clip(v.raw))
	}
	for first := true; ; first = false {
		name, ok := c.Key(first)
		switch {
		case !ok && first:
			return none, nil, errorf(where, "an attribute value must have exactly one type")
		case !ok:
			return kind, inner, nil
		}
		k := kindNamed(name)
		if k == unknown {
			return none, nil, errorf(where, "an attribute value has an unknown type")
		}
		if !first && k != kind {
			return none, nil, errorf(where, "an attribute value must have exactly one type")
		}
		kind, inner = k, c.Value()
	}
}

// longest is how many bytes of JSON a number or a time may take. A number of DynamoDB has at most 38 digits.
const longest = 256

// digits reads a whole number of up to 18 digits, which always fits 64 bits. For anything else ok is false.
func digits(text []byte) (n int64, ok bool) {
	if len(text) == 0 || len(text) > 18 {
		return 0, false
	}
	for _, b := range text {
		if b < '0' || b > '9' {
			return 0, false
		}
		n = n*10 + int64(b-'0')
	}
	return n, true
}

// integer reads a whole number of type N that fits 64 bits. A missing number is 0.
func integer(v value, where string) (int64, *Error) {
	kind, inner, err := v.typed(where)
	switch {
	case err != nil || kind == none:
		return 0, err
	case kind != num:
		return 0, errorf(where, "want type N, have %s", kind)
	case !jsonscan.IsString(inner):
		return 0, errorf(where, "want a string in N, have %s", clip(inner))
	}
	if n, ok := digits(inner[1 : len(inner)-1]); ok {
		return n, nil
	}
	if len(inner) > longest {
		return 0, errorf(where, "want a whole number of at most 64 bits")
	}
	n, bad := strconv.ParseInt(string(jsonscan.Text(inner)), 10, 64)
	if bad != nil {
		return 0, errorf(where, "want a whole number of at most 64 bits")
	}
	return n, nil
}

// eventTime reads the time of an event: an N as milliseconds since the epoch, without their fraction, or an S in RFC 3339. If the
// layout has no time, it is the time of the change.
func eventTime(v value, where string, changedAt time.Time) (time.Time, *Error) {
	if where == "" {
		return changedAt, nil
	}
	kind, inner, err := v.typed(where)
	switch {
	case err != nil:
		return time.Time{}, err
	case kind == none:
		return time.Time{}, errorf(where, "missing: an event needs a time")
	case kind != num && kind != str:
		return time.Time{}, errorf(where, "want type N, have %s", kind)
	case !jsonscan.IsString(inner):
		return time.Time{}, errorf(where, "want a string in %s, have %s", kind, clip(inner))
	}
	if ms, ok := digits(inner[1 : len(inner)-1]); ok && kind == num {
		return moment(ms, where)
	}
	if len(inner) > longest {
		return time.Time{}, errorf(where, "want milliseconds since the epoch, or a time in RFC 3339")
	}
	text := string(jsonscan.Text(inner))
	if kind == str {
		t, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return time.Time{}, errorf(where, "want milliseconds since the epoch or a time in RFC 3339")
		}
		return t.UTC(), nil
	}
	whole, fraction, _ := strings.Cut(text, ".")
	ms, bad := strconv.ParseInt(whole, 10, 64)
	if bad != nil || strings.Trim(fraction, "0123456789") != "" {
		return time.Time{}, errorf(where, "want milliseconds since the epoch")
	}
	return moment(ms, where)
}

func moment(ms int64, where string) (time.Time, *Error) {
	if wrong := WrongMillis(ms); wrong != "" {
		return time.Time{}, errorf(where, "%s", wrong)
	}
	return time.UnixMilli(ms).UTC(), nil
}

// WrongMillis returns why a number is no time in milliseconds since the epoch, or "". Times are from 1973-03-04 to 5138-11-15: no time
// of these years in another unit is in the same range. So the magnitude of what is refused tells its unit.
func WrongMillis(n int64) string {
	const want = "want milliseconds since the epoch, from 1973-03-04 to 5138-11-15"
	switch {
	case n >= 1e11 && n < 1e14:
		return ""
	case n >= 1e8 && n < 1e11:
		return want + ", have what looks like seconds"
	case n >= 1e14 && n < 1e17:
		return want + ", have what looks like microseconds"
	case n >= 1e17:
		return want + ", have what looks like nanoseconds"
	}
	return want
}

// instant reads ApproximateCreationDateTime. The Kinesis destination writes whole milliseconds without a precision, or
// microseconds with a precision. DynamoDB Streams writes seconds. Without a precision the magnitude tells (WrongMillis).
func instant(raw, precision []byte) (time.Time, *Error) {
	const where = "dynamodb.ApproximateCreationDateTime"
	if raw == nil || jsonscan.IsNull(raw) {
		return time.Time{}, nil
	}
	if raw[0] != '-' && (raw[0] < '0' || raw[0] > '9') {
		return time.Time{}, errorf(where, "want a number, have %s", clip(raw))
	}
	var t time.Time
	if n, ok := digits(raw); ok && string(precision) == `"MICROSECOND"` { // what DynamoDB writes by default
		t = time.UnixMicro(n).UTC()
	} else {
		text, unit := string(raw), ""
		n, err := int64(0), error(strconv.ErrRange)
		if len(text) <= len("-9223372036854775808") {
			n, err = strconv.ParseInt(text, 10, 64)
		}
		if precision != nil && !jsonscan.IsNull(precision) {
			if !jsonscan.IsString(precision) {
				return time.Time{}, errorf(where+"Precision", "want a string, have %s", clip(precision))
			}
			unit = string(jsonscan.Text(precision))
		}
		switch {
		case err != nil:
			seconds, err := strconv.ParseFloat(text, 64)
			if err != nil || seconds < 0 || seconds >= 1e11 {
				return time.Time{}, errorf(where, "want whole microseconds or milliseconds, or seconds since the epoch")
			}
			t = time.UnixMilli(int64(seconds * 1000)).UTC()
		case unit == "MICROSECOND" || unit == "" && n >= 1e14:
			t = time.UnixMicro(n).UTC()
		case unit == "MILLISECOND" || unit == "" && n >= 1e11:
			t = time.UnixMilli(n).UTC()
		case unit == "":
			t = time.Unix(n, 0).UTC()
		default:
			return time.Time{}, errorf(where+"Precision", "want MICROSECOND or MILLISECOND")
		}
	}
	if WrongMillis(t.UnixMilli()) != "" {
		return time.Time{}, errorf(where, "want a time from 1973-03-04 to 5138-11-15")
	}
	return t, nil
}

// readPayload passes over a payload in the shape in which DynamoDB writes a string, and unescapes it on the way. The payload's
// length is unknown before its end, so it gets as much room as there is text. Two rules bound the memory: readPayload does so
// once for each record, and not for invalid UTF-8, which takes three times its room.
func (r *record) readPayload(c *jsonscan.Cursor) bool {
	at := *c
	if r.tried || !at.Skip(`{"S":`) || !utf8.Valid(at.Rest()) {
		return false
	}
	r.tried = true
	text, ok := at.StringWithin(r.slab.Room(len(at.Rest())))
	if !ok || !at.Skip("}") {
		return false
	}
	*c = at
	r.text, r.image[payload] = text, value{raw: text, kind: done}
	return true
}

// payload reads the payload from an S or a B.
func (r *record) payload(where string) ([]byte, *Error) {
	if where == "" {
		return nil, nil
	}
	v := r.image[payload]
	if v.kind == done {
		return r.slab.Keep(r.text), nil
	}
	kind, inner, err := v.typed(where)
	switch {
	case err != nil:
		return nil, err
	case kind == none:
		return nil, errorf(where, "missing: an event needs a payload")
	case kind != str && kind != binary:
		return nil, errorf(where, "want type S or B, have %s", kind)
	case !jsonscan.IsString(inner):
		return nil, errorf(where, "want a string in %s, have %s", kind, clip(inner))
	case kind == str:
		return r.slab.Keep(jsonscan.Unquote(r.slab.Room(jsonscan.UnquotedLen(inner)), inner)), nil
	case !utf8.Valid(inner): // it would take three times the room
		return nil, errorf(where, "the content of B is not base64")
	}
	text := jsonscan.Text(inner)
	size := base64.StdEncoding.DecodedLen(len(text))
	decoded := r.slab.Room(size)[:size]
	n, bad := base64.StdEncoding.Decode(decoded, text)
	if bad != nil {
		return nil, errorf(where, "the content of B is not base64")
	}
	return r.slab.Keep(decoded[:n]), nil
}
