package outbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox/internal/changerec"
)

// NoAttribute in a field of [Attributes] says that the rows of the table do not have that attribute. A Writer refuses an
// event that would need it, with ErrInvalidEvent.
const NoAttribute = "-"

// Attributes names the attributes of an event row, for a table that existed before this package came. An empty field keeps
// the default name, which its comment says. See the README for the types.
type Attributes struct {
	ID          string // eventId, the table's partition key; always needed
	Type        string // type; always needed
	Time        string // timestamp; without one, an event read has the time of its change record
	AggregateID string // aggregateId
	Sequence    string // sequence
	Payload     string // payload; without one, an event read has the zero value as its Data
	ContentType string // contentType
	Headers     string // headers
}

var defaultAttributes = Attributes{
	ID: "eventId", Type: "type", Time: "timestamp", AggregateID: "aggregateId", Sequence: "sequence", Payload: "payload",
	ContentType: "contentType", Headers: "headers",
}

// complete fills in the defaults and returns what is wrong with the result.
func (a Attributes) complete() (Attributes, error) {
	fields, defaults := reflect.ValueOf(&a).Elem(), reflect.ValueOf(defaultAttributes)
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

// layout returns the same names for the decoder, which calls a missing attribute by the empty name.
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

// lacks returns what of an event the table has no attribute for, or "".
func (a *Attributes) lacks(r *eventRow) string {
	switch {
	case r.aggregateID != "" && a.AggregateID == NoAttribute:
		return "aggregate id"
	case r.sequence != 0 && a.Sequence == NoAttribute:
		return "sequence"
	case len(r.headers) > 0 && a.Headers == NoAttribute:
		return "headers"
	}
	return ""
}

// item builds the row of an event that lacks nothing.
func (a *Attributes) item(r *eventRow) map[string]types.AttributeValue {
	item := make(map[string]types.AttributeValue, 8)
	item[a.ID] = &types.AttributeValueMemberS{Value: r.id}
	item[a.Type] = &types.AttributeValueMemberS{Value: r.eventType}
	item[a.Time] = &types.AttributeValueMemberN{Value: strconv.FormatInt(r.time.UnixMilli(), 10)}
	item[a.Payload] = &types.AttributeValueMemberS{Value: string(r.payload)}
	if r.aggregateID != "" {
		item[a.AggregateID] = &types.AttributeValueMemberS{Value: r.aggregateID}
	}
	if r.sequence != 0 {
		item[a.Sequence] = &types.AttributeValueMemberN{Value: strconv.FormatInt(r.sequence, 10)}
	}
	if len(r.headers) > 0 {
		headers := make(map[string]types.AttributeValue, len(r.headers))
		for name, value := range r.headers {
			headers[name] = &types.AttributeValueMemberS{Value: value}
		}
		item[a.Headers] = &types.AttributeValueMemberM{Value: headers}
	}
	return item
}

// difference returns the first attribute in which the stored row says something else than the meant one, or "". The time
// does not count, since a repeat may have made the event anew; nor do attributes that are none of the event's.
func (a *Attributes) difference(meant, stored map[string]types.AttributeValue) string {
	if len(stored) == 0 {
		return "content (DynamoDB did not return it)"
	}
	for _, name := range []string{a.ID, a.Type, a.AggregateID, a.Sequence, a.ContentType, a.Headers} {
		if name != NoAttribute && !reflect.DeepEqual(meant[name], stored[name]) {
			return name
		}
	}
	if !samePayload(meant[a.Payload], stored[a.Payload]) {
		return a.Payload
	}
	return ""
}

// samePayload compares JSON by meaning: another version of a service may order members differently.
func samePayload(meant, stored types.AttributeValue) bool {
	if reflect.DeepEqual(meant, stored) {
		return true
	}
	m, ok1 := meant.(*types.AttributeValueMemberS)
	s, ok2 := stored.(*types.AttributeValueMemberS)
	if !ok1 || !ok2 {
		return false
	}
	var meaning [2]any
	for i, text := range []string{m.Value, s.Value} {
		d := json.NewDecoder(bytes.NewReader([]byte(text)))
		d.UseNumber()
		if d.Decode(&meaning[i]) != nil {
			return false
		}
	}
	return reflect.DeepEqual(meaning[0], meaning[1])
}
