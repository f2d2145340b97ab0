package changerec

import (
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/jsonscan"
)

// typed takes an attribute value such as {"S":"x"} apart. A missing attribute and a NULL both give an empty kind.
func typed(raw []byte, where string) (kind string, value []byte, err error) {
	if raw == nil {
		return "", nil, nil
	}
	c := jsonscan.New(raw)
	if !c.Enter('{') {
		return "", nil, errorf(where, "want an attribute value, have %s", clip(raw))
	}
	for first := true; ; first = false {
		name, ok := c.Key(first)
		if !ok {
			break
		}
		if kind != "" && kind != string(name) {
			return "", nil, errorf(where, "an attribute value must have exactly one type")
		}
		if kind = known(name); kind == "" {
			return "", nil, errorf(where, "an attribute value has an unknown type")
		}
		value = c.Value()
	}
	if kind == "" {
		return "", nil, errorf(where, "an attribute value must have exactly one type")
	}
	if kind == "NULL" {
		return "", nil, nil
	}
	return kind, value, nil
}

// known returns the name of a type, without a copy, or "" for anything else.
func known(name []byte) string {
	for _, kind := range [...]string{"S", "N", "M", "B", "BOOL", "NULL", "L", "SS", "NS", "BS"} {
		if kind == string(name) {
			return kind
		}
	}
	return ""
}

// appendText appends what a string attribute stands for. An aggregate may also be identified by a number.
func appendText(dst, raw []byte, where string, numberToo bool) ([]byte, error) {
	kind, value, err := typed(raw, where)
	switch {
	case err != nil || kind == "":
		return dst, err
	case kind != "S" && (kind != "N" || !numberToo):
		return dst, errorf(where, "want type S, have %s", kind)
	case !jsonscan.IsString(value):
		return dst, errorf(where, "want a string in %s, have %s", kind, clip(value))
	}
	return jsonscan.Unquote(dst, value), nil
}

// integer reads a whole number of type N that fits 64 bits; missing is 0.
func integer(raw []byte, where string) (int64, error) {
	kind, value, err := typed(raw, where)
	switch {
	case err != nil || kind == "":
		return 0, err
	case kind != "N":
		return 0, errorf(where, "want type N, have %s", kind)
	case !jsonscan.IsString(value):
		return 0, errorf(where, "want a string in N, have %s", clip(value))
	}
	var space [32]byte
	n, err := strconv.ParseInt(string(jsonscan.Unquote(space[:0], value)), 10, 64)
	if err != nil {
		return 0, errorf(where, "want a whole number of at most 64 bits")
	}
	return n, nil
}

// eventTime reads the time of an event: N, milliseconds since the epoch (a fraction is cut off), or S in RFC 3339.
// A row that has none by its layout takes the time of its change.
func eventTime(raw []byte, where string, changedAt time.Time) (time.Time, error) {
	if where == "" {
		return changedAt, nil
	}
	kind, value, err := typed(raw, where)
	switch {
	case err != nil:
		return time.Time{}, err
	case kind == "":
		return time.Time{}, errorf(where, "missing: an event needs a time")
	case kind != "N" && kind != "S":
		return time.Time{}, errorf(where, "want type N, have %s", kind)
	case !jsonscan.IsString(value):
		return time.Time{}, errorf(where, "want a string in %s, have %s", kind, clip(value))
	}
	var space [64]byte
	text := string(jsonscan.Unquote(space[:0], value))
	if kind == "S" {
		t, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return time.Time{}, errorf(where, "want milliseconds since the epoch or a time in RFC 3339")
		}
		return t.UTC(), nil
	}
	whole, fraction, _ := strings.Cut(text, ".")
	ms, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || strings.Trim(fraction, "0123456789") != "" {
		return time.Time{}, errorf(where, "want milliseconds since the epoch")
	}
	return time.UnixMilli(ms).UTC(), nil
}

// instant reads ApproximateCreationDateTime. The Kinesis destination writes whole milliseconds without a precision, or
// microseconds with one; DynamoDB Streams writes seconds. Without a precision the magnitude tells: 11 digits of seconds
// reach the year 5138, and 15 digits of milliseconds the year 33658.
func instant(raw, precision []byte) (time.Time, error) {
	const where = "dynamodb.ApproximateCreationDateTime"
	if raw == nil || jsonscan.IsNull(raw) {
		return time.Time{}, nil
	}
	if raw[0] != '-' && (raw[0] < '0' || raw[0] > '9') {
		return time.Time{}, errorf(where, "want a number, have %s", clip(raw))
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil {
		seconds, err := strconv.ParseFloat(string(raw), 64)
		if err != nil || seconds < 0 || seconds >= 1e11 {
			return time.Time{}, errorf(where, "want whole microseconds or milliseconds, or seconds since the epoch")
		}
		return time.UnixMilli(int64(seconds * 1000)).UTC(), nil
	}
	unit := ""
	if precision != nil && !jsonscan.IsNull(precision) {
		if !jsonscan.IsString(precision) {
			return time.Time{}, errorf(where+"Precision", "want a string, have %s", clip(precision))
		}
		var space [16]byte
		unit = string(jsonscan.Unquote(space[:0], precision))
	}
	switch {
	case unit == "MICROSECOND" || unit == "" && n >= 1e15:
		return time.UnixMicro(n).UTC(), nil
	case unit == "MILLISECOND" || unit == "" && n >= 1e11:
		return time.UnixMilli(n).UTC(), nil
	case unit == "":
		return time.Unix(n, 0).UTC(), nil
	}
	return time.Time{}, errorf(where+"Precision", "want MICROSECOND or MILLISECOND")
}

// stringMap reads an M of S.
func stringMap(raw []byte, where string) (map[string]string, error) {
	kind, value, err := typed(raw, where)
	switch {
	case err != nil || kind == "":
		return nil, err
	case kind != "M":
		return nil, errorf(where, "want type M, have %s", kind)
	}
	c := jsonscan.New(value)
	if !c.Enter('{') {
		return nil, errorf(where, "want an object in M, have %s", clip(value))
	}
	raws := make(map[string][]byte)
	for first := true; ; first = false {
		name, ok := c.Key(first)
		if !ok {
			break
		}
		key := string(name)
		raws[key] = c.Value()
	}
	m := make(map[string]string, len(raws))
	for key, raw := range raws {
		kind, value, err := typed(raw, where)
		if err != nil {
			return nil, err
		}
		if kind != "S" || !jsonscan.IsString(value) {
			return nil, errorf(where, "want type S for every value")
		}
		m[key] = string(jsonscan.Unquote(nil, value))
	}
	return m, nil
}

// payloadBytes reads the payload from S or B.
func payloadBytes(raw []byte, where string) ([]byte, error) {
	if where == "" {
		return nil, nil
	}
	kind, value, err := typed(raw, where)
	switch {
	case err != nil:
		return nil, err
	case kind == "":
		return nil, errorf(where, "missing: an event needs a payload")
	case kind != "S" && kind != "B":
		return nil, errorf(where, "want type S or B, have %s", kind)
	case !jsonscan.IsString(value):
		return nil, errorf(where, "want a string in %s, have %s", kind, clip(value))
	}
	text := jsonscan.Unquote(make([]byte, 0, len(value)), value)
	if kind == "S" {
		return text, nil
	}
	n, err := base64.StdEncoding.Decode(text, text) // never overtakes what it reads
	if err != nil {
		return nil, errorf(where, "the content of B is not base64")
	}
	return text[:n], nil
}
