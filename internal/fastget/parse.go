package fastget

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/seed-1b628d3f/outbox/internal/jsonscan"
)

// span is where the inside of a string stands in the answer. The zero span is an absent member: before a real one stands a quote.
type span struct{ from, to int }

func (s span) of(body []byte) []byte { return body[s.from:s.to] }
func (s span) length() int           { return s.to - s.from }

type entry struct {
	data, sequence, key, encryption span
	arrived                         int64 // in milliseconds
	timed                           bool
}

// fields are the other members of the answer.
type fields struct {
	listed bool // Records is there
	next   span
	behind int64
	timed  bool // behind is there
	data   int  // the bytes of all data together, and perhaps a few more
	text   int  // the bytes of all strings that share a buffer
}

// answer is a cursor in an answer. Anything unusual ends the reading, and the SDK's reader reads the answer instead.
type answer struct {
	body []byte
	pos  int
	fields
	entries []entry
}

// parse finds where everything stands. It accepts only an object of known members in their usual forms, each once, and of unknown
// members of any form.
func (s *scratch) parse(body []byte) (fields, bool) {
	a := answer{body: body, entries: s.entries[:0]}
	ok := a.object(a.member) && a.peek() == 0 && a.pos == len(body)
	s.entries = a.entries
	return a.fields, ok
}

func (a *answer) peek() byte {
	for a.pos < len(a.body) {
		switch b := a.body[a.pos]; b {
		case ' ', '\t', '\r', '\n':
			a.pos++
		default:
			return b
		}
	}
	return 0
}

func (a *answer) take(b byte) bool {
	if a.peek() != b {
		return false
	}
	a.pos++
	return true
}

// object reads an object. member reads the value of a member. It returns the member's bit, or 0 for a member that may come
// several times, and false for anything unusual.
func (a *answer) object(member func(name []byte) (bit uint, ok bool)) bool {
	if !a.take('{') {
		return false
	}
	if a.take('}') {
		return true
	}
	var seen uint
	for {
		name, ok := a.text()
		if !ok || !a.take(':') {
			return false
		}
		bit, ok := member(name.of(a.body))
		if !ok || seen&bit != 0 {
			return false
		}
		seen |= bit
		if a.take(',') {
			continue
		}
		return a.take('}')
	}
}

func (a *answer) member(name []byte) (bit uint, ok bool) {
	switch string(name) {
	case "Records":
		a.listed = true
		return 1, a.records()
	case "NextShardIterator":
		a.next, ok = a.textOrNull()
		a.fields.text += a.next.length()
		return 2, ok
	case "MillisBehindLatest":
		a.timed = true
		a.behind, ok = a.integer()
		return 4, ok
	case "ChildShards": // comes only with the last answer of a shard
		return 0, false
	}
	return 0, a.skip()
}

func (a *answer) records() bool {
	if !a.take('[') {
		return false
	}
	if a.take(']') {
		return true
	}
	for {
		if !a.record() {
			return false
		}
		if a.take(',') {
			continue
		}
		return a.take(']')
	}
}

func (a *answer) record() bool {
	a.entries = append(a.entries, entry{})
	e := &a.entries[len(a.entries)-1]
	ok := a.object(func(name []byte) (bit uint, ok bool) {
		switch string(name) {
		case "Data":
			e.data, ok = a.blob()
			a.data += base64.StdEncoding.DecodedLen(e.data.length())
			return 1, ok
		case "SequenceNumber":
			e.sequence, ok = a.textOrNull()
			return 2, ok
		case "PartitionKey":
			e.key, ok = a.textOrNull()
			return 4, ok
		case "ApproximateArrivalTimestamp":
			e.timed = true
			e.arrived, ok = a.seconds()
			return 8, ok
		case "EncryptionType":
			e.encryption, ok = a.textOrNull()
			return 16, ok
		}
		return 0, a.skip()
	})
	a.fields.text += e.sequence.length() + e.key.length()
	return ok
}

// blob finds the end of a base64 string. The alphabet has neither quotes nor backslashes; decoding checks that the string uses
// it.
func (a *answer) blob() (span, bool) {
	if !a.take('"') {
		return span{}, false
	}
	n := bytes.IndexByte(a.body[a.pos:], '"')
	if n < 0 {
		return span{}, false
	}
	s := span{a.pos, a.pos + n}
	a.pos += n + 1
	return s, true
}

// text reads a string without escapes.
func (a *answer) text() (span, bool) {
	if !a.take('"') {
		return span{}, false
	}
	for i := a.pos; i < len(a.body); i++ {
		switch b := a.body[i]; {
		case b == '"':
			s := span{a.pos, i}
			a.pos = i + 1
			return s, true
		case b == '\\' || b < 0x20:
			return span{}, false
		}
	}
	return span{}, false
}

func (a *answer) textOrNull() (span, bool) {
	if a.peek() == 'n' {
		return span{}, a.skip()
	}
	return a.text()
}

func (a *answer) value() []byte {
	if a.peek() == 0 {
		return nil
	}
	c := jsonscan.New(a.body[a.pos:])
	raw := c.Value()
	a.pos += len(raw)
	return raw
}

func (a *answer) skip() bool { return a.value() != nil }

func (a *answer) integer() (int64, bool) {
	raw := a.value()
	if len(raw) == 0 || raw[0] != '-' && (raw[0] < '0' || raw[0] > '9') {
		return 0, false
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	return n, err == nil
}

// seconds reads a time in seconds as the SDK does: from a float64, to the millisecond.
func (a *answer) seconds() (ms int64, ok bool) {
	raw := a.value()
	if len(raw) == 0 || raw[0] < '0' || raw[0] > '9' {
		return 0, false
	}
	seconds, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || seconds >= 9e9 { // beyond that, nanoseconds do not fit
		return 0, false
	}
	return int64(seconds * 1000), true
}

// fill makes the output. All data share one buffer, and all strings another, so a record that is kept keeps them all. Everything
// but the text of the strings is in m. If some data are not base64, fill returns false and leaves out unchanged.
func (f *fields) fill(out *kinesis.GetRecordsOutput, body []byte, entries []entry, m *memory) bool {
	m.records, m.data = resize(m.records, len(entries)), resize(m.data, f.data)
	m.strings, m.times = resize(m.strings, 2*len(entries)+1), resize(m.times, len(entries))
	records, data, at := m.records, m.data, 0
	for i := range entries {
		e := &entries[i]
		records[i] = types.Record{}
		if e.data == (span{}) {
			continue
		}
		encoded := e.data.of(body)
		n, err := base64.StdEncoding.Decode(data[at:], encoded)
		// The decoder skips line breaks, which a JSON string must not have. Then the lengths differ.
		if err != nil || len(encoded)%4 != 0 || n != len(encoded)/4*3-padding(encoded) {
			return false
		}
		records[i].Data = data[at : at+n : at+n]
		at += n
	}

	var text strings.Builder
	text.Grow(f.text)
	for i := range entries {
		text.Write(entries[i].sequence.of(body))
		text.Write(entries[i].key.of(body))
	}
	text.Write(f.next.of(body))
	all := text.String()
	cut := func(s span, into *string) *string {
		if s == (span{}) {
			return nil
		}
		*into, all = all[:s.length()], all[s.length():]
		return into
	}
	for i := range entries {
		e, r := &entries[i], &records[i]
		r.SequenceNumber = cut(e.sequence, &m.strings[2*i])
		r.PartitionKey = cut(e.key, &m.strings[2*i+1])
		if e.timed {
			m.times[i] = time.UnixMilli(e.arrived).UTC()
			r.ApproximateArrivalTimestamp = &m.times[i]
		}
		r.EncryptionType = encryption(e.encryption.of(body))
	}
	out.NextShardIterator = cut(f.next, &m.strings[2*len(entries)])
	if f.listed {
		out.Records = slices.Clip(records)
	}
	if f.timed {
		out.MillisBehindLatest = &f.behind
	}
	return true
}

func padding(encoded []byte) int { return len(encoded) - len(bytes.TrimRight(encoded, "=")) }

// encryption returns the known types without a copy.
func encryption(name []byte) types.EncryptionType {
	for _, known := range [...]types.EncryptionType{"", types.EncryptionTypeNone, types.EncryptionTypeKms} {
		if string(known) == string(name) {
			return known
		}
	}
	return types.EncryptionType(name)
}
