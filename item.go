package outbox

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox/internal/changerec"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// DecodeItem reads an event row as it is stored in the events table, for programs that query the table. It is the inverse of what
// a Writer stores, and it accepts the same forms of attributes as DecodeRecord. WithAttributes names the attributes of an
// existing table. The Record shares no memory with item.
//
// Table, ChangedAt and the fields about delivery stay empty, because an item does not say them. If the layout has no time
// attribute, Time is zero.
//
// For an item without an id or a type, the error matches ErrNotEvent. For a row that cannot be read, and for an attribute value that
// is a nil pointer, it is a *DecodeError.
// DecodeItem is safe for concurrent use.
func DecodeItem(item map[string]types.AttributeValue, opts ...Option) (Record, error) {
	layout := defaultLayout
	if len(opts) > 0 {
		var err error
		if layout, err = layoutOf(opts); err != nil {
			return Record{}, fmt.Errorf("outbox: DecodeItem: %w", err)
		}
	}
	if item[layout.ID] == nil || item[layout.Type] == nil {
		return Record{}, notEventError(changerec.NoAttributes)
	}
	d := itemDecoder{item: item}
	r := Record{
		ID:          d.text(layout.ID, false),
		Type:        d.text(layout.Type, false),
		AggregateID: d.text(layout.AggregateID, true),
		ContentType: d.text(layout.ContentType, false),
		Headers:     d.headers(layout.Headers),
		Time:        d.time(layout.Time),
		Sequence:    d.integer(layout.Sequence),
		Payload:     d.payload(layout.Payload),
	}
	switch {
	case d.err != nil:
		return Record{}, d.err
	case r.ID == "":
		d.fail(layout.ID, "empty: an event needs an id")
	case r.Type == "":
		d.fail(layout.Type, "empty: an event needs a type")
	}
	if d.err != nil {
		return Record{}, d.err
	}
	return r, nil
}

// itemDecoder reads the attributes of one item and keeps the first error.
type itemDecoder struct {
	item map[string]types.AttributeValue
	err  error
}

func (d *itemDecoder) fail(where, reason string) {
	if d.err == nil {
		d.err = &DecodeError{Where: where, Reason: reason, row: true}
	}
}

// get returns an attribute. It returns nil if the layout or the item lacks the attribute, or if the attribute is a NULL.
func (d *itemDecoder) get(name string) types.AttributeValue {
	v := d.item[name]
	switch _, null := v.(*types.AttributeValueMemberNULL); {
	case name == "" || v == nil:
		return nil
	case isNil(v):
		d.fail(name, "want an attribute value, have a nil pointer of type "+kindOf(v))
		return nil
	case null:
		return nil
	}
	return v
}

// text reads an S, or also an N for the id of an aggregate.
func (d *itemDecoder) text(name string, numberToo bool) string {
	v := d.get(name)
	if s, ok := v.(*types.AttributeValueMemberS); ok {
		return s.Value
	}
	if n, ok := v.(*types.AttributeValueMemberN); ok && numberToo {
		return n.Value
	}
	if v != nil {
		d.fail(name, "want type S, have "+kindOf(v))
	}
	return ""
}

func (d *itemDecoder) headers(name string) map[string]string {
	v := d.get(name)
	if v == nil {
		return nil
	}
	m, ok := v.(*types.AttributeValueMemberM)
	if !ok {
		d.fail(name, "want type M, have "+kindOf(v))
		return nil
	}
	headers := make(map[string]string, len(m.Value))
	for header, value := range m.Value {
		s, ok := rows.As[*types.AttributeValueMemberS](value)
		if !ok {
			d.fail(name, "want type S for every value")
			return nil
		}
		headers[header] = s.Value
	}
	return headers
}

// time reads an N as milliseconds since the epoch, without their fraction, or an S in RFC 3339.
func (d *itemDecoder) time(name string) time.Time {
	if name == "" {
		return time.Time{}
	}
	switch v := d.get(name).(type) {
	case nil:
		d.fail(name, "missing: an event needs a time")
	case *types.AttributeValueMemberN:
		whole, fraction, _ := strings.Cut(v.Value, ".")
		ms, err := strconv.ParseInt(whole, 10, 64)
		if err != nil || strings.Trim(fraction, "0123456789") != "" {
			d.fail(name, "want milliseconds since the epoch")
		} else if wrong := changerec.WrongMillis(ms); wrong != "" {
			d.fail(name, wrong)
		}
		return time.UnixMilli(ms).UTC()
	case *types.AttributeValueMemberS:
		if t, err := time.Parse(time.RFC3339Nano, v.Value); err == nil {
			return t.UTC()
		}
		d.fail(name, "want milliseconds since the epoch or a time in RFC 3339")
	default:
		d.fail(name, "want type N, have "+kindOf(v))
	}
	return time.Time{}
}

func (d *itemDecoder) integer(name string) int64 {
	switch v := d.get(name).(type) {
	case nil:
	case *types.AttributeValueMemberN:
		if n, err := strconv.ParseInt(v.Value, 10, 64); err == nil {
			return n
		}
		d.fail(name, "want a whole number of at most 64 bits")
	default:
		d.fail(name, "want type N, have "+kindOf(v))
	}
	return 0
}

func (d *itemDecoder) payload(name string) []byte {
	if name == "" {
		return nil
	}
	switch v := d.get(name).(type) {
	case nil:
		d.fail(name, "missing: an event needs a payload")
	case *types.AttributeValueMemberS:
		return []byte(v.Value)
	case *types.AttributeValueMemberB:
		return append([]byte{}, v.Value...)
	default:
		d.fail(name, "want type S or B, have "+kindOf(v))
	}
	return nil
}

// kindOf names the type of an attribute value, never its content.
func kindOf(v types.AttributeValue) string {
	switch v.(type) {
	case *types.AttributeValueMemberS:
		return "S"
	case *types.AttributeValueMemberN:
		return "N"
	case *types.AttributeValueMemberB:
		return "B"
	case *types.AttributeValueMemberBOOL:
		return "BOOL"
	case *types.AttributeValueMemberNULL:
		return "NULL"
	case *types.AttributeValueMemberM:
		return "M"
	case *types.AttributeValueMemberL:
		return "L"
	case *types.AttributeValueMemberSS:
		return "SS"
	case *types.AttributeValueMemberNS:
		return "NS"
	case *types.AttributeValueMemberBS:
		return "BS"
	}
	return "an unknown type"
}

// record makes a Record an AnyEvent. The payload keeps its encoding.
func (r Record) record(namedCodec) (Record, error) {
	event := Record{ID: r.ID, Type: r.Type, AggregateID: r.AggregateID, Sequence: r.Sequence, Time: r.Time, Headers: r.Headers,
		ContentType: r.ContentType, Payload: bytes.Clone(r.Payload)}
	if r.Payload == nil {
		return event, errors.New("it has no payload: its table has no attribute for it, or nobody has set it")
	}
	return event, nil
}
