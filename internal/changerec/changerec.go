// Package changerec reads the change records of DynamoDB: the ones its Kinesis streaming destination writes and the ones
// of DynamoDB Streams. In one forward pass it finds the event's attributes without building attribute values, and stops as
// soon as it knows that a record is no event.
//
// It knows both envelopes and how attribute values look on the wire. It must not know handlers, delivery or the library's
// own types.
//
// See https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/kds_using-shards-and-metrics.html and
// https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_Record.html.
package changerec

import (
	"bytes"
	"fmt"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/jsonscan"
)

// Layout names the attributes of an event row. An empty name means that rows have no such attribute.
type Layout struct {
	ID, Type, Time, AggregateID, Sequence, Payload, ContentType, Headers string
}

// Event is what an inserted event row says.
type Event struct {
	ID, Type, AggregateID, ContentType string
	Sequence                           int64
	Time                               time.Time
	Headers                            map[string]string
	Payload                            []byte // nil when the layout has no payload

	Table     string    // where the row was inserted
	ChangedAt time.Time // when, as DynamoDB knows it; zero if the record does not say
}

// NotEvent says why a record is not an event. It is no fault of the record.
type NotEvent string

// The reasons why a record is not an event.
const (
	Modified     NotEvent = "a MODIFY, not an INSERT"
	Removed      NotEvent = "a REMOVE, not an INSERT"
	OtherChange  NotEvent = "not an INSERT"
	OtherTable   NotEvent = "of another table"
	NoChange     NotEvent = "JSON, but not a change record of DynamoDB"
	NoAttributes NotEvent = "an item without the attributes of an event"
)

func (n NotEvent) Error() string { return "the record is " + string(n) }

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

// attribute is an index into the raw values of one image.
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
	attributes // how many there are
)

// record holds where the parts of one change record stand in its text.
type record struct {
	eventName, tableName, sourceARN []byte
	created, precision              []byte
	dynamodb                        bool
	imageSeen                       bool
	image                           [attributes][]byte
}

// Decode reads one record. tables limits what counts as an event to the named tables; empty means any. The error is a
// [NotEvent] or an [*Error]. The event shares no memory with data.
//
// As with encoding/json into a map, of two members with the same name the later one counts. A record that is known not to
// be an event is not read to its end, so what follows there is not checked.
func Decode(data []byte, layout *Layout, tables []string) (Event, error) {
	var r record
	c := jsonscan.New(data)
	if !c.Enter('{') {
		c.Value()
		if c.End(); c.Err() != nil {
			return Event{}, errorf("", "not JSON: %v", c.Err())
		}
		return Event{}, NoChange
	}
	for first := true; ; first = false {
		name, ok := c.Key(first)
		if !ok {
			break
		}
		switch string(name) {
		case "eventName":
			r.eventName = c.Value()
			if err := kind(r.eventName); err != nil {
				return Event{}, err
			}
		case "tableName":
			if r.tableName = c.Value(); excluded(r.tableName, tables) {
				return Event{}, OtherTable
			}
		case "eventSourceARN":
			r.sourceARN = c.Value()
		case "dynamodb":
			r.change(&c, layout)
		default:
			c.Value()
		}
	}
	c.End()
	if c.Err() != nil {
		return Event{}, errorf("", "not JSON: %v", c.Err())
	}
	if r.eventName == nil || !r.dynamodb {
		return Event{}, NoChange
	}
	return r.event(layout, tables)
}

// kind returns why a record with this event name is not an event, or nil.
func kind(raw []byte) error {
	switch {
	case raw == nil: // the text is not JSON; the cursor says where
		return nil
	case !jsonscan.IsString(raw):
		return errorf("eventName", "want a string, have %s", clip(raw))
	}
	var space [16]byte
	switch string(jsonscan.Unquote(space[:0], raw)) {
	case "INSERT":
		return nil
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
	var space [256]byte // a table's name has at most 255 characters; longer ones are on no list
	return !listed(jsonscan.Unquote(space[:0], raw), tables)
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
	r.created, r.precision, r.imageSeen, r.image = nil, nil, false, [attributes][]byte{}
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
	r.image = [attributes][]byte{}
	if r.imageSeen = c.Enter('{'); !r.imageSeen {
		c.Value()
		return
	}
	for first := true; ; first = false {
		name, ok := c.Key(first)
		if !ok {
			return
		}
		var which attribute
		switch string(name) {
		case "": // no layout has an attribute without a name
			c.Value()
			continue
		case layout.ID:
			which = id
		case layout.Type:
			which = typ
		case layout.Time:
			which = at
		case layout.AggregateID:
			which = aggregateID
		case layout.Sequence:
			which = sequence
		case layout.Payload:
			which = payload
		case layout.ContentType:
			which = contentType
		case layout.Headers:
			which = headers
		default:
			c.Value()
			continue
		}
		r.image[which] = c.Value()
	}
}

// event reads the values whose places are known.
func (r *record) event(layout *Layout, tables []string) (Event, error) {
	var e Event
	// The short strings share one allocation: they are unescaped one behind the other and cut apart afterwards.
	var space [512]byte
	text, err := r.appendTable(space[:0])
	if err != nil {
		return e, err
	}
	table := len(text)
	// A record that does not name its table cannot be ruled out, so it is not skipped.
	if table > 0 && !listed(text, tables) {
		return e, OtherTable
	}
	if !r.imageSeen {
		return e, errorf("dynamodb.NewImage", "missing: an INSERT carries it unless the stream's view type leaves it out")
	}
	if r.image[id] == nil || r.image[typ] == nil {
		return e, NoAttributes
	}
	if e.ChangedAt, err = instant(r.created, r.precision); err != nil {
		return e, err
	}

	var ends [4]int
	for i, a := range [...]attribute{id, typ, aggregateID, contentType} {
		if text, err = appendText(text, r.image[a], layout.name(a), a == aggregateID); err != nil {
			return e, err
		}
		ends[i] = len(text)
	}
	all := string(text)
	e.Table, e.ID, e.Type = all[:table], all[table:ends[0]], all[ends[0]:ends[1]]
	e.AggregateID, e.ContentType = all[ends[1]:ends[2]], all[ends[2]:ends[3]]
	if e.ID == "" {
		return e, errorf(layout.ID, "empty: an event needs an id")
	}
	if e.Type == "" {
		return e, errorf(layout.Type, "empty: an event needs a type")
	}

	if e.Time, err = eventTime(r.image[at], layout.Time, e.ChangedAt); err != nil {
		return e, err
	}
	if e.Sequence, err = integer(r.image[sequence], layout.Sequence); err != nil {
		return e, err
	}
	if e.Headers, err = stringMap(r.image[headers], layout.Headers); err != nil {
		return e, err
	}
	e.Payload, err = payloadBytes(r.image[payload], layout.Payload)
	return e, err
}

// appendTable appends the name of the record's table, as far as the record says.
func (r *record) appendTable(dst []byte) ([]byte, error) {
	switch {
	case r.tableName != nil && !jsonscan.IsNull(r.tableName):
		if !jsonscan.IsString(r.tableName) {
			return dst, errorf("tableName", "want a string, have %s", clip(r.tableName))
		}
		return jsonscan.Unquote(dst, r.tableName), nil
	case jsonscan.IsString(r.sourceARN):
		// arn:aws:dynamodb:<region>:<account>:table/<name>/stream/<label>
		var space [512]byte
		_, rest, _ := bytes.Cut(jsonscan.Unquote(space[:0], r.sourceARN), []byte(":table/"))
		name, _, _ := bytes.Cut(rest, []byte("/"))
		return append(dst, name...), nil
	}
	return dst, nil
}

func (l *Layout) name(a attribute) string {
	return [...]string{l.ID, l.Type, l.Time, l.AggregateID, l.Sequence, l.Payload, l.ContentType, l.Headers}[a]
}

// clip shortens a piece of a record for an error text: the kind of a value helps, its content may be private.
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
