// Package lambdaevent reads what AWS Lambda hands to a function behind an event source mapping for a Kinesis data stream
// or a DynamoDB stream, and writes the answer that reports a partial failure.
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
	"fmt"
	"strings"

	"github.com/seed-1b628d3f/outbox/internal/jsonscan"
)

// The event sources that are understood.
const (
	Kinesis  = "aws:kinesis"
	DynamoDB = "aws:dynamodb"
)

// Record is one record of an invocation.
type Record struct {
	Source         string // Kinesis or DynamoDB
	SourceARN      string
	ShardID        string // empty for DynamoDB, which does not say
	SequenceNumber string
	Data           []byte // the change record; nil with Err
	Err            error  // why the data cannot be had
}

// Parse reads an invocation. The records' data may share memory with payload, which is never
// changed.
func Parse(payload []byte) ([]Record, error) {
	c := jsonscan.New(payload)
	if !c.Enter('{') {
		return nil, fmt.Errorf("want a JSON object with Records, have %s", describe(payload))
	}
	var records []Record
	found := false
	for first := true; ; first = false {
		name, ok := c.Key(first)
		if !ok {
			break
		}
		if string(name) != "Records" || c.Peek() != '[' {
			c.Value()
			continue
		}
		found, records = true, nil
		c.Enter('[')
		for first := true; c.Element(first); first = false {
			raw := c.Value()
			if raw == nil {
				break
			}
			r, err := record(raw)
			if err != nil {
				return nil, fmt.Errorf("record %d: %w", len(records), err)
			}
			if len(records) > 0 && r.Source != records[0].Source {
				return nil, fmt.Errorf("record %d is from %s, the ones before it from %s", len(records), r.Source, records[0].Source)
			}
			records = append(records, r)
		}
	}
	c.End()
	switch {
	case c.Err() != nil:
		return nil, fmt.Errorf("not JSON: %w", c.Err())
	case !found:
		return nil, fmt.Errorf("want a JSON object with Records, have %s", describe(payload))
	}
	return records, nil
}

func record(raw []byte) (Record, error) {
	var r Record
	var source, arn, eventID, kinesis, stream []byte
	c := jsonscan.New(raw)
	if !c.Enter('{') {
		return r, fmt.Errorf("want an object, have %s", describe(raw))
	}
	for first := true; ; first = false {
		name, ok := c.Key(first)
		if !ok {
			break
		}
		switch string(name) {
		case "eventSource":
			source = c.Value()
		case "eventSourceARN":
			arn = c.Value()
		case "eventID":
			eventID = c.Value()
		case "kinesis":
			kinesis = c.Value()
		case "dynamodb":
			stream = c.Value()
		default:
			c.Value()
		}
	}
	r.Source, r.SourceARN = text(source), text(arn)
	switch r.Source {
	case Kinesis:
		r.ShardID, _, _ = strings.Cut(text(eventID), ":")
		number, data := members(kinesis, "sequenceNumber", "data")
		r.SequenceNumber = text(number)
		var err error
		if r.Data, err = base64.StdEncoding.AppendDecode(nil, []byte(text(data))); err != nil {
			// One bad record among good ones is not a bad invocation: it is left to whoever decodes it.
			r.Data, r.Err = nil, fmt.Errorf("the data is not base64: %w", err)
		}
	case DynamoDB:
		number, _ := members(stream, "SequenceNumber", "")
		r.SequenceNumber, r.Data = text(number), raw
	default:
		return r, fmt.Errorf("its eventSource is %q, want %s or %s", clip(r.Source), Kinesis, DynamoDB)
	}
	if r.SequenceNumber == "" {
		return r, fmt.Errorf("it has no sequence number, so a failure could not be reported")
	}
	return r, nil
}

// members returns two members of an object.
func members(raw []byte, a, b string) (x, y []byte) {
	c := jsonscan.New(raw)
	if !c.Enter('{') {
		return nil, nil
	}
	for first := true; ; first = false {
		name, ok := c.Key(first)
		if !ok {
			return x, y
		}
		switch string(name) {
		case a:
			x = c.Value()
		case b:
			y = c.Value()
		default:
			c.Value()
		}
	}
}

// text returns what a string stands for, and "" for any other value.
func text(raw []byte) string {
	if !jsonscan.IsString(raw) {
		return ""
	}
	return string(jsonscan.Unquote(make([]byte, 0, len(raw)), raw))
}

// describe says what arrived instead: an object by the names of its members, never by their contents.
func describe(payload []byte) string {
	payload = bytes.TrimSpace(payload)
	if len(payload) == 0 {
		return "nothing"
	}
	c := jsonscan.New(payload)
	if !c.Enter('{') {
		return fmt.Sprintf("%d bytes that start with %q", len(payload), clip(string(payload[:min(len(payload), 16)])))
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

// Answer returns the function's answer: every record is done if firstUnfinished is empty, otherwise everything before that
// sequence number is. Lambda goes by the lowest number it is given, so one is enough.
func Answer(firstUnfinished string) []byte {
	if firstUnfinished == "" {
		return []byte(`{"batchItemFailures":[]}`)
	}
	number, err := json.Marshal(firstUnfinished)
	if err != nil { // a string always has a JSON form
		number = []byte(`""`)
	}
	return []byte(`{"batchItemFailures":[{"itemIdentifier":` + string(number) + `}]}`)
}
