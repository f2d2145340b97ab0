// Package changerec reads the change records of DynamoDB: those of its Kinesis streaming destination and those of DynamoDB
// Streams. In one forward pass it finds the event's attributes without building attribute values. It stops as soon as it knows
// that a record is no event.
//
// The pass only notes where values stand. Afterwards the values that an event needs are unescaped once: short strings into memory
// that they share, the payload into other memory. Other events of a batch may share both.
//
// It knows both envelopes and how attribute values look on the wire. It must not know handlers, delivery or the library's own
// types.
//
// See https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/kds_using-shards-and-metrics.html and
// https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_Record.html.
package changerec

import (
	"fmt"

	"github.com/seed-1b628d3f/outbox/internal/event"
	"github.com/seed-1b628d3f/outbox/internal/jsonscan"
	"github.com/seed-1b628d3f/outbox/internal/slab"
)

// Layout names the attributes of an event row. An empty name means that rows have no such attribute.
type Layout struct {
	ID, Type, Time, AggregateID, Sequence, Payload, ContentType, Headers string
}

// NotEvent says why a record is not an event, which is no fault of the record. 0 means that the record is an event. As a small
// number it becomes an error without an allocation.
type NotEvent uint8

// The reasons why a record is not an event.
const (
	Modified NotEvent = 1 + iota
	Removed
	OtherChange
	OtherTable
	NoChange
	NoAttributes
	Aggregated
	Foreign // found by the caller
)

func (n NotEvent) Error() string {
	return "the record is " + [...]string{
		0:            "an event",
		Modified:     "a MODIFY, not an INSERT",
		Removed:      "a REMOVE, not an INSERT",
		OtherChange:  "not an INSERT",
		OtherTable:   "of another table",
		NoChange:     "JSON, but not a change record of DynamoDB",
		NoAttributes: "an item without the attributes of an event",
		Aggregated:   "packed by the Kinesis Producer Library",
		Foreign:      "foreign data, as WithForeignRecords says",
	}[n]
}

// Error says what is wrong with a record that should have been readable.
type Error struct {
	Where  string // the member or attribute, or "" for the text as a whole
	Reason string
}

func (e *Error) Error() string {
	if e.Where == "" {
		return e.Reason
	}
	return e.Where + ": " + e.Reason
}

func errorf(where, format string, args ...any) *Error {
	return &Error{Where: where, Reason: fmt.Sprintf(format, args...)}
}

// attribute is an index into the values of one image.
type attribute int

const (
	id attribute = iota
	typ
	at
	aggregateID
	sequence
	payload
	contentType
	headers
	attributes // the number of attributes
)

// record holds where the parts of one change record stand in its text.
type record struct {
	eventName, tableName, sourceARN []byte
	created, precision              []byte
	dynamodb                        bool
	imageSeen                       bool
	image                           [attributes]value
	text                            []byte // what the payload stands for, if the payload's kind is done
	tried                           bool   // text has been allocated
	slab                            *slab.Slab
}

// Decode reads one record into e. tables limits events to the named tables; empty means any table. The event shares no memory with data. Its
// strings and payload are from s, which may be nil.
//
// Where e was delivered from stays as it is. All else is replaced if both results are zero, cleared if the record is malformed, and stays as
// well if the record is not an event.
//
// Of two members with the same name the later counts, as with encoding/json into a map. Decode stops reading a record that is
// known not to be an event, so it does not check what follows.
func Decode(e *event.Event, data []byte, layout *Layout, tables []string, s *slab.Slab) (NotEvent, *Error) {
	r := record{slab: s}
	c := jsonscan.New(data)
	if !c.Enter('{') {
		if isAggregate(data) {
			return Aggregated, nil
		}
		c.Value()
		c.End()
		return verdict(&c, NoChange)
	}
	for first := true; ; first = false {
		name, ok := c.Key(first)
		if !ok {
			break
		}
		switch string(name) {
		case "eventName":
			r.eventName = c.Value()
			if reason := kind(r.eventName); reason != 0 {
				return reason, nil
			}
		case "tableName":
			if r.tableName = c.Value(); excluded(r.tableName, tables) {
				return OtherTable, nil
			}
		case "eventSourceARN":
			r.sourceARN = c.Value()
		case "dynamodb":
			r.change(&c, layout)
		default:
			c.Value()
		}
	}
	if c.End(); c.Err() != nil || !jsonscan.IsString(r.eventName) || !r.dynamodb {
		return verdict(&c, NoChange)
	}
	reason, err := r.event(e, layout, tables)
	if err != nil { // nobody should take a part of an event for one
		*e = event.Event{StreamARN: e.StreamARN, ShardID: e.ShardID, SequenceNumber: e.SequenceNumber, Fence: e.Fence}
	}
	return reason, err
}

// verdict returns reason, or an error if the text is not JSON.
func verdict(c *jsonscan.Cursor, reason NotEvent) (NotEvent, *Error) {
	if c.Err() != nil {
		return 0, errorf("", "not JSON: %v", c.Err())
	}
	return reason, nil
}

// kind returns why the event name makes the record no event, or 0. A name that is no string may come from another tool's JSON.
// Whether the text is JSON at all shows at its end.
func kind(raw []byte) NotEvent {
	if string(raw) == `"INSERT"` || !jsonscan.IsString(raw) {
		return 0
	}
	var space [16]byte // the names that count are shorter
	name, _ := jsonscan.UnquoteWithin(space[:0], raw)
	switch string(name) {
	case "INSERT":
		return 0
	case "MODIFY":
		return Modified
	case "REMOVE":
		return Removed
	}
	return OtherChange
}

func excluded(raw []byte, tables []string) bool {
	if len(tables) == 0 || !jsonscan.IsString(raw) {
		return false
	}
	var space [256]byte // a table's name has at most 255 characters; a longer name is on no list
	name, ok := jsonscan.UnquoteWithin(space[:0], raw)
	return !ok || !listed(name, tables)
}

// listed reports whether an event may come from the table.
func listed(table []byte, tables []string) bool {
	for _, t := range tables {
		if t == string(table) {
			return true
		}
	}
	return len(tables) == 0
}

// change notes where the parts of the member "dynamodb" stand.
func (r *record) change(c *jsonscan.Cursor, layout *Layout) {
	if r.dynamodb { // there was an earlier member of the same name
		r.created, r.precision, r.imageSeen, r.image = nil, nil, false, [attributes]value{}
	}
	if r.dynamodb = c.Enter('{'); !r.dynamodb {
		c.Value()
		return
	}
	for first := true; ; first = false {
		name, ok := c.Key(first)
		if !ok {
			return
		}
		switch string(name) {
		case "ApproximateCreationDateTime":
			r.created = c.Value()
		case "ApproximateCreationDateTimePrecision":
			r.precision = c.Value()
		case "NewImage":
			r.newImage(c, layout)
		default:
			c.Value()
		}
	}
}

func (r *record) newImage(c *jsonscan.Cursor, layout *Layout) {
	if r.imageSeen { // there was an earlier member of the same name
		r.image = [attributes]value{}
	}
	if r.imageSeen = c.Enter('{'); !r.imageSeen {
		c.Value()
		return
	}
	for first := true; ; first = false {
		name, ok := c.Key(first)
		if !ok {
			return
		}
		which := layout.find(name)
		if which == attributes {
			c.Value()
			continue
		}
		if which == payload && r.readPayload(c) {
			continue
		}
		r.image[which] = read(c)
	}
}

// find returns which attribute has the name, or attributes. It compares, because a switch over names that are not constant would
// convert the name to a string.
func (l *Layout) find(name []byte) attribute {
	switch {
	case len(name) == 0: // no layout has an attribute without a name
		return attributes
	case string(name) == l.ID:
		return id
	case string(name) == l.Type:
		return typ
	case string(name) == l.Time:
		return at
	case string(name) == l.AggregateID:
		return aggregateID
	case string(name) == l.Sequence:
		return sequence
	case string(name) == l.Payload:
		return payload
	case string(name) == l.ContentType:
		return contentType
	case string(name) == l.Headers:
		return headers
	}
	return attributes
}

// event reads the values whose places are known.
func (r *record) event(e *event.Event, layout *Layout, tables []string) (NotEvent, *Error) {
	table, err := r.table()
	if err != nil {
		return 0, err
	}
	// A record that does not name its table may be of any table, so it is not skipped. A tableName was checked when it was
	// passed.
	if !table.quoted && len(table.text) > 0 && !listed(table.text, tables) {
		return OtherTable, nil
	}
	if !r.imageSeen {
		return 0, errorf("dynamodb.NewImage", "missing: an INSERT carries it unless the stream's view type leaves it out")
	}
	if r.image[id].raw == nil || r.image[typ].raw == nil {
		return NoAttributes, nil
	}
	if e.ChangedAt, err = instant(r.created, r.precision); err != nil {
		return 0, err
	}
	if err = r.strings(e, table, layout); err != nil {
		return 0, err
	}
	if e.Time, err = eventTime(r.image[at], layout.Time, e.ChangedAt); err != nil {
		return 0, err
	}
	if e.Sequence, err = integer(r.image[sequence], layout.Sequence); err != nil {
		return 0, err
	}
	e.Payload, err = r.payload(layout.Payload)
	return 0, err
}

// clip describes a piece of a record for an error text: its kind helps, and its content may be private.
func clip(raw []byte) string {
	switch {
	case len(raw) == 0:
		return "nothing"
	case raw[0] == '{':
		return "an object"
	case raw[0] == '[':
		return "an array"
	case raw[0] == '"':
		return "a string"
	case raw[0] == 't' || raw[0] == 'f':
		return "a boolean"
	case raw[0] == 'n':
		return "null"
	}
	return "a number"
}
