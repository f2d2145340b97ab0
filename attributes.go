package outbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox/internal/changerec"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// NoAttribute in a field of [Attributes] says that the rows of the table do not have this attribute. A Writer refuses an event that
// needs the attribute, with ErrInvalidEvent.
const NoAttribute = "-"

// Attributes names the attributes of an event row, for an events table that exists already. An empty field keeps the default
// name, which its comment begins with. The types are in docs/event-row.md.
type Attributes struct {
	ID          string // eventId, the table's partition key; always needed
	Type        string // type; always needed
	Time        string // timestamp; without it, a delivered event has the time of its change record
	AggregateID string // aggregateId
	Sequence    string // sequence
	Payload     string // payload; without it, a delivered event has the zero value as its Data
	ContentType string // contentType
	Headers     string // headers
	ExpiresAt   string // expiresAt; written with WithTTL, and read by WithOrder and replay.Events.Reconcile alone
}

// DefaultAttributes returns the names that the attributes of a row have without WithAttributes.
func DefaultAttributes() Attributes {
	return Attributes{
		ID: "eventId", Type: "type", Time: "timestamp", AggregateID: "aggregateId", Sequence: "sequence", Payload: "payload",
		ContentType: "contentType", Headers: "headers", ExpiresAt: "expiresAt",
	}
}

// complete fills in the defaults, and returns what is wrong with the result.
func (a Attributes) complete() (Attributes, error) {
	fields, defaults := reflect.ValueOf(&a).Elem(), reflect.ValueOf(DefaultAttributes())
	used := map[string]string{}
	var errs []error
	for i := range fields.NumField() {
		field := fields.Type().Field(i).Name
		if fields.Field(i).String() == "" {
			fields.Field(i).Set(defaults.Field(i))
		}
		name := fields.Field(i).String()
		if name == NoAttribute {
			continue
		}
		if other, twice := used[name]; twice {
			errs = append(errs, fmt.Errorf("attributes: %s and %s are both named %q", other, field, name))
		}
		used[name] = field
	}
	if a.ID == NoAttribute || a.Type == NoAttribute {
		errs = append(errs, errors.New("attributes: an event row needs ID and Type"))
	}
	return a, errors.Join(errs...)
}

// layout returns the same names for the decoder, to which an attribute without a name is missing.
func (a Attributes) layout() *changerec.Layout {
	name := func(s string) string {
		if s == NoAttribute {
			return ""
		}
		return s
	}
	return &changerec.Layout{
		ID: name(a.ID), Type: name(a.Type), Time: name(a.Time), AggregateID: name(a.AggregateID), Sequence: name(a.Sequence),
		Payload: name(a.Payload), ContentType: name(a.ContentType), Headers: name(a.Headers),
	}
}

// unstorable names the part of an event for which the table has no attribute, or returns "".
func (a *Attributes) unstorable(r *Record) string {
	switch {
	case r.AggregateID != "" && a.AggregateID == NoAttribute:
		return "aggregate id"
	case r.Sequence != 0 && a.Sequence == NoAttribute:
		return "sequence"
	case len(r.Headers) > 0 && a.Headers == NoAttribute:
		return "headers"
	case r.ContentType != "" && a.ContentType == NoAttribute:
		return "content type"
	}
	return ""
}

// item builds the row of an event without an unstorable part. With a zero expiresAt the row has no time to live.
func (a *Attributes) item(r *Record, expiresAt time.Time) map[string]types.AttributeValue {
	v := &struct { // one allocation
		id, eventType, aggregateID, payload, contentType types.AttributeValueMemberS
		time, sequence, expiresAt                        types.AttributeValueMemberN
	}{}
	item := make(map[string]types.AttributeValue, 8)
	v.id.Value, v.eventType.Value, v.time.Value = r.ID, r.Type, strconv.FormatInt(r.Time.UnixMilli(), 10)
	item[a.ID], item[a.Type], item[a.Time] = &v.id, &v.eventType, &v.time
	if r.ContentType == "" {
		v.payload.Value = string(r.Payload)
		item[a.Payload] = &v.payload
	} else {
		v.contentType.Value = r.ContentType
		payload := r.Payload
		if payload == nil {
			payload = []byte{} // a codec may return nil for an empty payload, and DynamoDB refuses a value that is nil
		}
		item[a.Payload], item[a.ContentType] = &types.AttributeValueMemberB{Value: payload}, &v.contentType
	}
	if r.AggregateID != "" {
		v.aggregateID.Value = r.AggregateID
		item[a.AggregateID] = &v.aggregateID
	}
	if r.Sequence != 0 {
		v.sequence.Value = strconv.FormatInt(r.Sequence, 10)
		item[a.Sequence] = &v.sequence
	}
	if len(r.Headers) > 0 {
		headers := make(map[string]types.AttributeValue, len(r.Headers))
		for name, value := range r.Headers {
			headers[name] = &types.AttributeValueMemberS{Value: value}
		}
		item[a.Headers] = &types.AttributeValueMemberM{Value: headers}
	}
	if !expiresAt.IsZero() {
		v.expiresAt.Value = strconv.FormatInt(expiresAt.Unix(), 10)
		item[a.ExpiresAt] = &v.expiresAt
	}
	return item
}

// differences returns the names of the attributes in which a stored row differs from the event that was meant. The time, the time
// to live and the headers of WithHeaders do not count, since they may differ between two attempts at one event. Other attributes
// of the row do not count either. The time of a sequenced event does count: two events that differ in it alone are two decisions on the same
// version, and only one of them may be told that it is written.
func (a *Attributes) differences(event *meant, stored map[string]types.AttributeValue) []string {
	var names []string
	for _, name := range []string{a.ID, a.Type, a.AggregateID, a.Sequence, a.ContentType} {
		if name != NoAttribute && !reflect.DeepEqual(event.row[name], stored[name]) {
			names = append(names, name)
		}
	}
	if sequenced(&event.record) && !reflect.DeepEqual(event.row[a.Time], stored[a.Time]) {
		names = append(names, a.Time)
	}
	if !samePayload(event.row[a.Payload], stored[a.Payload]) {
		names = append(names, a.Payload)
	}
	var headers map[string]types.AttributeValue
	if m, ok := rows.As[*types.AttributeValueMemberM](stored[a.Headers]); ok {
		headers = m.Value
	}
	for name, value := range event.ownHeaders {
		if s, ok := rows.As[*types.AttributeValueMemberS](headers[name]); !ok || s.Value != value {
			return append(names, a.Headers)
		}
	}
	return names
}

// samePayload compares JSON by meaning: another version of a service may order members differently.
func samePayload(meant, stored types.AttributeValue) bool {
	if reflect.DeepEqual(meant, stored) {
		return true
	}
	m, ok1 := rows.As[*types.AttributeValueMemberS](meant)
	s, ok2 := rows.As[*types.AttributeValueMemberS](stored)
	if !ok1 || !ok2 {
		return false
	}
	var meaning [2]any
	for i, text := range []string{m.Value, s.Value} {
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		if d.Decode(&meaning[i]) != nil {
			return false
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return false // something follows the value
		}
	}
	return reflect.DeepEqual(meaning[0], meaning[1])
}

// scalarText reads a string or number attribute for a message.
func scalarText(v types.AttributeValue) string {
	if s, ok := rows.As[*types.AttributeValueMemberS](v); ok {
		return s.Value
	}
	if n, ok := rows.As[*types.AttributeValueMemberN](v); ok {
		return n.Value
	}
	return ""
}
