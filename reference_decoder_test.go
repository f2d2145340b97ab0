package outbox_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/seed-1b628d3f/outbox"
)

// slowDecode reads a change record with encoding/json alone, one generic value after the other. It is what DecodeRecord
// must agree with. It was written from the documentation of DecodeRecord, not from its code.
func slowDecode(data []byte) (outbox.Record, error) {
	var r outbox.Record
	if err := depth(data); err != nil {
		return r, err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if token, err := d.Token(); err != nil || token != json.Delim('{') {
		if json.Valid(data) {
			return r, outbox.ErrNotEvent
		}
		return r, errors.New("not JSON")
	}
	top := map[string]json.RawMessage{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return r, err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return r, err
		}
		top[name.(string)] = value
		if name == "eventName" { // decides at once when it is not INSERT
			if kind, err := stringOf(value); err == nil && kind != "INSERT" {
				return r, outbox.ErrNotEvent
			}
		}
	}
	if !json.Valid(data) {
		return r, errors.New("not JSON")
	}
	var change map[string]json.RawMessage
	if _, err := stringOf(top["eventName"]); err != nil || !isObject(top["dynamodb"]) {
		return r, outbox.ErrNotEvent
	}
	if err := json.Unmarshal(top["dynamodb"], &change); err != nil {
		return r, err
	}
	if name := top["tableName"]; name != nil && string(name) != "null" {
		var err error
		if r.Table, err = stringOf(name); err != nil {
			return r, err
		}
	} else if arn, err := stringOf(top["eventSourceARN"]); err == nil {
		if _, rest, ok := strings.Cut(arn, ":table/"); ok {
			r.Table = strings.Split(rest, "/")[0]
		}
	}
	if !isObject(change["NewImage"]) {
		return r, errors.New("no NewImage")
	}
	var image map[string]json.RawMessage
	if err := json.Unmarshal(change["NewImage"], &image); err != nil {
		return r, err
	}
	if image["eventId"] == nil || image["type"] == nil {
		return r, outbox.ErrNotEvent
	}
	var err error
	if r.ChangedAt, err = changedAt(change); err != nil {
		return r, err
	}
	get := func(name string, kinds ...string) (string, json.RawMessage) {
		if err != nil || image[name] == nil {
			return "", nil
		}
		var kind string
		var raw json.RawMessage
		kind, raw, err = attribute(image[name])
		if err == nil && kind != "" && !strings.Contains(strings.Join(kinds, ","), kind) {
			err = fmt.Errorf("%s has type %s", name, kind)
		}
		return kind, raw
	}
	textOf := func(name string, kinds ...string) string {
		_, raw := get(name, kinds...)
		if err != nil || raw == nil {
			return ""
		}
		var s string
		s, err = stringOf(raw)
		return s
	}
	r.ID, r.Type = textOf("eventId", "S"), textOf("type", "S")
	r.AggregateID, r.ContentType = textOf("aggregateId", "S", "N"), textOf("contentType", "S")
	if err == nil && (r.ID == "" || r.Type == "") {
		return r, errors.New("empty id or type")
	}
	kind, raw := get("timestamp", "N", "S")
	if err != nil {
		return r, err
	}
	if len(raw) > 256 {
		return r, errors.New("a long time")
	}
	if kind == "" {
		return r, errors.New("no time")
	}
	stamp, err2 := stringOf(raw)
	if err2 != nil {
		return r, err2
	}
	if kind == "S" {
		if r.Time, err = time.Parse(time.RFC3339Nano, stamp); err != nil {
			return r, err
		}
		r.Time = r.Time.UTC()
	} else {
		whole, fraction, _ := strings.Cut(stamp, ".")
		ms, err := strconv.ParseInt(whole, 10, 64)
		if err != nil || strings.Trim(fraction, "0123456789") != "" {
			return r, errors.New("no milliseconds")
		}
		if r.Time = time.UnixMilli(ms).UTC(); implausible(r.Time) {
			return r, errors.New("another unit")
		}
	}
	if _, raw := get("sequence", "N"); len(raw) > 256 {
		return r, errors.New("a long number")
	}
	if s := textOf("sequence", "N"); err == nil && s != "" {
		r.Sequence, err = strconv.ParseInt(s, 10, 64)
	} else if kind, _ := get("sequence", "N"); kind != "" && err == nil {
		err = errors.New("empty number")
	}
	if _, raw := get("headers", "M"); err == nil && raw != nil {
		var m map[string]json.RawMessage
		if !isObject(raw) || json.Unmarshal(raw, &m) != nil {
			return r, errors.New("headers are no map")
		}
		r.Headers = map[string]string{}
		for name, value := range m {
			kind, raw, err := attribute(value)
			if err != nil || kind != "S" {
				return r, errors.New("a header is no string")
			}
			if r.Headers[name], err = stringOf(raw); err != nil {
				return r, err
			}
		}
	}
	kind, raw = get("payload", "S", "B")
	if err != nil {
		return r, err
	}
	switch kind {
	case "S":
		s, err := stringOf(raw)
		r.Payload = []byte(s)
		return r, err
	case "B":
		if _, err := stringOf(raw); err != nil {
			return r, err
		}
		r.Payload = []byte{}
		return r, json.Unmarshal(raw, &r.Payload)
	}
	return r, errors.New("no payload")
}

// implausible reports whether a time is outside of the years in which every unit has a magnitude of its own.
func implausible(t time.Time) bool {
	return t.Before(time.UnixMilli(100_000_000_000)) || !t.Before(time.UnixMilli(100_000_000_000_000))
}

func changedAt(change map[string]json.RawMessage) (time.Time, error) {
	t, err := changedAnyTime(change)
	if err == nil && !t.IsZero() && implausible(t) {
		return t, errors.New("another unit")
	}
	return t, err
}

func changedAnyTime(change map[string]json.RawMessage) (time.Time, error) {
	raw := string(change["ApproximateCreationDateTime"])
	if raw == "" || raw == "null" {
		return time.Time{}, nil
	}
	var f float64
	if err := json.Unmarshal([]byte(raw), &f); err != nil {
		return time.Time{}, err
	}
	n, err := strconv.ParseInt(raw, 10, 64)
	if err != nil {
		if f < 0 || f >= 1e11 || math.IsInf(f, 0) {
			return time.Time{}, errors.New("no seconds")
		}
		return time.UnixMilli(int64(f * 1000)).UTC(), nil
	}
	precision := ""
	if p := change["ApproximateCreationDateTimePrecision"]; p != nil && string(p) != "null" {
		if precision, err = stringOf(p); err != nil {
			return time.Time{}, err
		}
	}
	switch precision {
	case "MICROSECOND":
		return time.UnixMicro(n).UTC(), nil
	case "MILLISECOND":
		return time.UnixMilli(n).UTC(), nil
	case "":
		switch {
		case n >= 1e14:
			return time.UnixMicro(n).UTC(), nil
		case n >= 1e11:
			return time.UnixMilli(n).UTC(), nil
		}
		return time.Unix(n, 0).UTC(), nil
	}
	return time.Time{}, errors.New("unknown precision")
}

// attribute takes {"S":"x"} apart; NULL counts as missing.
func attribute(raw json.RawMessage) (string, json.RawMessage, error) {
	var m map[string]json.RawMessage
	if !isObject(raw) {
		return "", nil, errors.New("no attribute value")
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return "", nil, err
	}
	if len(m) != 1 {
		return "", nil, errors.New("want one type")
	}
	for kind, value := range m {
		if !strings.Contains(" S N B M L BOOL NULL SS NS BS ", " "+kind+" ") || kind == "" || strings.Contains(kind, " ") {
			return "", nil, errors.New("unknown type")
		}
		if kind == "NULL" {
			return "", nil, nil
		}
		return kind, value, nil
	}
	return "", nil, nil
}

func stringOf(raw json.RawMessage) (string, error) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", errors.New("no string")
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err
}

func isObject(raw json.RawMessage) bool { return len(raw) > 0 && raw[0] == '{' }

// depth refuses what nests too deeply, which encoding/json alone would accept.
func depth(data []byte) error {
	level, inString := 0, false
	for i := 0; i < len(data); i++ {
		switch b := data[i]; {
		case inString && b == '\\':
			i++
		case b == '"':
			inString = !inString
		case inString:
		case b == '{' || b == '[':
			if level++; level > 100 {
				return errTooDeep
			}
		case b == '}' || b == ']':
			level--
		}
	}
	return nil
}

var errTooDeep = errors.New("too deep to compare")
