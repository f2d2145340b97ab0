// Package lambdaevent reads what AWS Lambda hands to a function behind an event source mapping for a Kinesis data stream or a
// DynamoDB stream. It also writes the answer that reports a partial failure.
//
// It knows the envelopes. It must not know what a record means.
//
// See https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-batchfailurereporting.html and
// https://docs.aws.amazon.com/lambda/latest/dg/services-ddb-batchfailurereporting.html.
package lambdaevent

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/seed-1b628d3f/outbox/internal/jsonscan"
	"github.com/seed-1b628d3f/outbox/internal/slab"
)

// The event sources that are understood.
const (
	Kinesis  = "aws:kinesis"
	DynamoDB = "aws:dynamodb"
)

// Record is one record of an invocation.
type Record struct {
	SourceARN string
	ShardID   string // empty for DynamoDB, which does not say
	Data      []byte // the change record, until the next call of Next; with Err, the text in its place
	Err       error  // why there is no data
	number    []byte // as it stands in the invocation
}

// SequenceNumber returns the number by which a failure is reported. The string is made by each call, in memory of s, which may be
// nil.
func (r *Record) SequenceNumber(s *slab.Slab) string {
	if s == nil {
		return jsonscan.String(r.number)
	}
	return s.String(jsonscan.Text(r.number))
}

// Scanner reads the records of an invocation in one pass. A DynamoDB Streams record is its own change record. A Kinesis record
// holds the change record in base64; the Scanner decodes all of them into one buffer.
type Scanner struct {
	payload []byte
	c       jsonscan.Cursor
	state   state
	n       int // records read
	source  string
	err     error

	buffer     []byte
	arn, shard repeated
}

// repeated is a string that is mostly the same in all records.
type repeated struct {
	raw  []byte
	text string
}

// read returns what the string raw stands for. For any other value it returns "".
func (r *repeated) read(raw []byte) string {
	switch {
	case !jsonscan.IsString(raw):
		return ""
	case !bytes.Equal(r.raw, raw):
		r.raw, r.text = raw, jsonscan.String(raw)
	}
	return r.text
}

// readShard returns the part of an event id before the colon.
func (r *repeated) readShard(raw []byte) string {
	if !jsonscan.IsString(raw) {
		return ""
	}
	// Only the text up to the first colon matters.
	key := raw
	if colon := bytes.IndexByte(raw, ':'); colon >= 0 {
		key = raw[:colon+1]
	}
	if !bytes.Equal(r.raw, key) {
		r.raw = key
		r.text, _, _ = strings.Cut(jsonscan.String(raw), ":")
	}
	return r.text
}

type state int

const (
	before state = iota // before the first record
	inside
	over
)

// New returns a Scanner of an invocation. It never changes the invocation.
func New(payload []byte) *Scanner {
	return &Scanner{payload: payload, c: jsonscan.New(payload)}
}

// Offset returns how far the invocation has been read, in bytes.
func (s *Scanner) Offset() int { return s.c.Offset() }

// Next reads the next record. It returns false after the last record, or if the payload is no invocation; see Err.
func (s *Scanner) Next(r *Record) bool {
	switch {
	case s.state == before && s.enter():
		s.state = inside
	case s.state == inside && s.c.Element(false):
	default:
		s.end()
		return false
	}
	if s.err = s.read(r); s.err != nil {
		s.err = fmt.Errorf("record %d: %w", s.n, s.err)
	}
	if s.c.Err() != nil || s.err != nil {
		s.end()
		return false
	}
	s.n++
	return true
}

// Err returns why the payload is no invocation, after Next has returned false. It is nil for a valid invocation.
func (s *Scanner) Err() error { return s.err }

// enter goes to the first record.
func (s *Scanner) enter() bool {
	if !s.c.Enter('{') || !s.member(true) {
		s.refuse()
		return false
	}
	s.c.Enter('[')
	return s.c.Element(true)
}

// member goes to the array Records.
func (s *Scanner) member(first bool) bool {
	for ; ; first = false {
		name, ok := s.c.Key(first)
		if !ok {
			return false
		}
		if string(name) == "Records" && s.c.Peek() == '[' {
			return true
		}
		s.c.Value()
	}
}

// end reads what follows the records. If nothing is known to be wrong yet, it says what is wrong with the text.
func (s *Scanner) end() {
	if s.state == over {
		return
	}
	s.state = over
	if s.err != nil && s.c.Err() == nil {
		return
	}
	if s.err == nil && s.member(false) {
		s.err = errors.New("it has Records twice")
		return
	}
	s.c.End()
	if s.c.Err() != nil {
		s.err = fmt.Errorf("not JSON: %w", s.c.Err())
	}
}

func (s *Scanner) refuse() {
	s.state = over
	s.c.End()
	s.err = fmt.Errorf("want a JSON object with Records, have %s", describe(s.payload))
}

func (s *Scanner) read(r *Record) error {
	*r = Record{}
	if s.c.Peek() != '{' {
		return fmt.Errorf("want an object, have %s", describe(s.c.Value()))
	}
	start := s.c.Offset()
	var source, arn, eventID, number, streamNumber []byte
	var data data
	s.c.Enter('{')
	for first := true; ; first = false {
		name, ok := s.c.Key(first)
		if !ok {
			break
		}
		switch string(name) {
		case "eventSource":
			source = s.c.Value()
		case "eventSourceARN":
			arn = s.c.Value()
		case "eventID":
			eventID = s.c.Value()
		case "kinesis":
			number, data = s.kinesis()
		case "dynamodb":
			streamNumber = s.dynamodb()
		default:
			s.c.Value()
		}
	}
	if s.c.Err() != nil {
		return nil // end reports it
	}
	from := sourceOf(source)
	switch from {
	case Kinesis:
		r.number = number
		r.Data, r.Err = s.decode(data)
		r.ShardID = s.shard.readShard(eventID)
	case DynamoDB:
		r.number, r.Data = streamNumber, s.payload[start:s.c.Offset()]
	default:
		return fmt.Errorf("its eventSource is %q, want %s or %s", clip(from), Kinesis, DynamoDB)
	}
	if s.n > 0 && from != s.source {
		return fmt.Errorf("it is from %s, the ones before it from %s", from, s.source)
	}
	s.source, r.SourceARN = from, s.arn.read(arn)
	if !jsonscan.IsString(r.number) || len(r.number) <= len(`""`) {
		return errors.New("it has no sequence number, so a failure could not be reported")
	}
	return nil
}

// sourceOf returns the event source. For a known source it allocates nothing.
func sourceOf(raw []byte) string {
	switch {
	case string(raw) == `"`+Kinesis+`"`:
		return Kinesis
	case string(raw) == `"`+DynamoDB+`"`:
		return DynamoDB
	case !jsonscan.IsString(raw):
		return ""
	}
	return jsonscan.String(raw)
}

// data is the data of a Kinesis record, decoded or as it stands in the record.
type data struct {
	decoded []byte
	done    bool // the data is in decoded, which may be empty
	raw     []byte
}

// kinesis reads the sequence number and the data of a Kinesis record. It passes over a value that is no object.
func (s *Scanner) kinesis() (number []byte, d data) {
	if !s.c.Enter('{') {
		s.c.Value()
		return nil, d
	}
	for first := true; ; first = false {
		name, ok := s.c.Key(first)
		if !ok {
			return number, d
		}
		switch string(name) {
		case "sequenceNumber":
			number = s.c.Value()
		case "data":
			if d.decoded, d.done = s.base64(); !d.done {
				d.raw = s.c.Value()
			}
		default:
			s.c.Value()
		}
	}
}

// dynamodb reads the sequence number of a DynamoDB Streams record. It passes over a value that is no object.
func (s *Scanner) dynamodb() (number []byte) {
	if !s.c.Enter('{') {
		s.c.Value()
		return nil
	}
	for first := true; ; first = false {
		name, ok := s.c.Key(first)
		switch {
		case !ok:
			return number
		case string(name) == "SequenceNumber":
			number = s.c.Value()
		default:
			s.c.Value()
		}
	}
}

// base64 decodes the next value into the buffer if it is a string of pure base64. Such a string is also a valid JSON string, so
// nothing has to look at it again. Otherwise the cursor stays.
func (s *Scanner) base64() (decoded []byte, ok bool) {
	rest := s.c.Rest()
	if len(rest) == 0 || rest[0] != '"' {
		return nil, false
	}
	n := bytes.IndexByte(rest[1:], '"')
	if n < 0 {
		return nil, false
	}
	s.reserve(n)
	size, ok := decodeBase64(s.buffer, rest[1:1+n])
	if !ok {
		return nil, false
	}
	s.c.Advance(n + 2)
	return s.buffer[:size], true
}

// reserve makes room for what n characters of base64 hold.
func (s *Scanner) reserve(n int) {
	if need := base64.StdEncoding.DecodedLen(n); need > len(s.buffer) {
		s.buffer = make([]byte, need+min(need/4, 4096)) // the next record may be a little longer
	}
}

func (s *Scanner) decode(d data) (decoded []byte, err error) {
	switch {
	case d.done:
		return d.decoded, nil
	case !jsonscan.IsString(d.raw):
		return d.raw, errors.New("there is no data")
	}
	// Some encoders escape the slash.
	encoded := jsonscan.Text(d.raw)
	s.reserve(len(encoded))
	n, err := base64.StdEncoding.Decode(s.buffer, encoded)
	if err != nil {
		// One bad record does not make the invocation bad: the caller reports the record.
		return encoded, fmt.Errorf("the data is not base64: %w", err)
	}
	return s.buffer[:n], nil
}

// describe says what arrived instead. It names the members of an object, never their contents.
func describe(payload []byte) string {
	payload = bytes.TrimSpace(payload)
	if len(payload) == 0 {
		return "nothing"
	}
	c := jsonscan.New(payload)
	if !c.Enter('{') {
		return fmt.Sprintf("%d bytes that are no object", len(payload)) // what they are may be a secret
	}
	var names []string
	for first := true; len(names) < 8; first = false {
		name, ok := c.Key(first)
		if !ok {
			break
		}
		names = append(names, clip(string(name)))
		c.Value()
	}
	return fmt.Sprintf("an object with the members %q", names)
}

func clip(s string) string { return s[:min(len(s), 64)] }

// Answer returns the function's answer. If firstUnfinished is empty, all records are finished; otherwise those before this
// sequence number are. Lambda goes by the lowest number it is given, so one number is enough.
func Answer(firstUnfinished string) []byte {
	if firstUnfinished == "" {
		return []byte(`{"batchItemFailures":[]}`)
	}
	number, err := json.Marshal(firstUnfinished)
	if err != nil { // cannot happen: a string always has a JSON form
		number = []byte(`""`)
	}
	return []byte(`{"batchItemFailures":[{"itemIdentifier":` + string(number) + `}]}`)
}
