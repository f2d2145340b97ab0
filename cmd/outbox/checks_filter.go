package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/seed-1b628d3f/outbox/internal/names"
)

// checkFilter compares a mapping's filter with an event's record. What a filter leaves out, the function never sees, and nobody is told.
// https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventfiltering.html
func (x *examination) checkFilter(function string, s source, m lambdatypes.EventSourceMappingConfiguration) {
	const check = "filter"
	if e := m.FilterCriteriaError; e != nil {
		x.add(gradeProblem, check, function, fmt.Sprintf("Lambda cannot use it: %s: %s", aws.ToString(e.ErrorCode), aws.ToString(e.Message)), "give Lambda the key back, or set the filter anew")
		return
	}
	if m.FilterCriteria == nil {
		if m.KMSKeyArn != nil {
			x.add(gradeUnknown, check, function, "it is encrypted, so it is not in the list of mappings", "look with aws lambda get-event-source-mapping: it has to let INSERT records through")
		}
		return
	}
	if len(m.FilterCriteria.Filters) == 0 {
		return
	}
	record, verdict := x.record(s), never
	var patterns []string
	for _, f := range m.FilterCriteria.Filters {
		pattern := aws.ToString(f.Pattern)
		patterns = append(patterns, pattern)
		var p map[string]any
		if json.Unmarshal([]byte(pattern), &p) != nil || namesTwice(json.NewDecoder(strings.NewReader(pattern))) {
			x.add(gradeUnknown, check, function, "it cannot be read: "+pattern, "set it anew")
			return
		}
		verdict = max(verdict, allOf(p, record)) // one is enough
	}
	shown := strings.Join(patterns, " or ")
	switch verdict {
	case never:
		like := `{"data":{"eventName":["INSERT"]}}`
		if s.ofTable {
			like = `{"eventName":["INSERT"]}`
		}
		x.add(gradeProblem, check, function, "it lets no event through: "+shown, "delete it, or use "+like+"; "+x.reconcile()+" lists what it has left out")
	case maybe:
		x.add(gradeUnknown, check, function, "it lets some events through, and whether those are all that the function is for cannot be seen: "+shown, "compare it with the types that have handlers; whoever adds one has to think of it; "+x.reconcile()+" names types of which nothing was handled")
	default:
		x.add(gradeOK, check, function, "it lets every event through: "+shown, "")
	}
}

// namesTwice reports whether an object of a pattern has a member twice: which of them holds, Lambda does not say.
func namesTwice(d *json.Decoder) bool {
	t, err := d.Token()
	if err != nil || t != json.Delim('{') && t != json.Delim('[') {
		return false
	}
	seen := map[json.Token]bool{}
	for d.More() {
		if t == json.Delim('{') {
			name, err := d.Token()
			if err != nil || seen[name] {
				return true
			}
			seen[name] = true
		}
		if namesTwice(d) {
			return true
		}
	}
	_, err = d.Token() // the end
	return err != nil
}

// match says for how many events something holds.
type match int

const (
	never match = iota
	maybe
	always
)

// anything is a value that differs from event to event.
type anything struct{}

// others is in the place of an object's members of which nothing is known.
const others = "*"

// record is an event's record as Lambda's filter sees it. A member that differs from event to event is anything.
func (x *examination) record(s source) map[string]any {
	a := x.attributes
	text, image := map[string]any{"S": anything{}}, map[string]any{}
	for name, value := range map[string]any{
		a.ID: text, a.Type: text, a.AggregateID: text, a.ContentType: text,
		a.Sequence: map[string]any{"N": anything{}}, a.ExpiresAt: map[string]any{"N": anything{}}, a.Headers: map[string]any{"M": anything{}},
		a.Payload: map[string]any{"S": anything{}, "B": anything{}}, a.Time: map[string]any{"S": anything{}, "N": anything{}},
	} {
		image[name] = value
	}
	delete(image, absent)
	image[others] = anything{} // a reader passes over them
	change := map[string]any{"ApproximateCreationDateTime": anything{}, "Keys": map[string]any{a.ID: text}, "NewImage": image, "SizeBytes": anything{}}
	record := map[string]any{"awsRegion": anything{}, "eventID": anything{}, "eventName": "INSERT", "eventSource": "aws:dynamodb", "dynamodb": change}
	if s.ofTable {
		change["SequenceNumber"], change["StreamViewType"] = anything{}, anything{}
		record["eventVersion"], record["eventSourceARN"] = anything{}, anything{}
		return record
	}
	change["ApproximateCreationDateTimePrecision"] = anything{}
	record["recordFormat"], record["tableName"], record["userIdentity"] = "application/json", names.OfTable(x.table), nil
	return map[string]any{"data": record, "kinesisSchemaVersion": anything{}, "partitionKey": anything{}, "sequenceNumber": anything{}, "approximateArrivalTimestamp": anything{}}
}

// allOf matches the members of a pattern: each has to hold.
func allOf(pattern map[string]any, object map[string]any) match {
	m := always
	for name, p := range pattern {
		if alternatives, ok := p.([]any); ok && name == "$or" {
			m = min(m, anyOf(alternatives, func(one any) match {
				inner, ok := one.(map[string]any)
				if !ok {
					return never
				}
				return allOf(inner, object)
			}))
			continue
		}
		value, there := object[name]
		if rest, open := object[others]; open && !there {
			value, there = rest, true
		}
		m = min(m, member(p, value, there))
	}
	return m
}

// anyOf matches alternatives: one has to hold.
func anyOf(alternatives []any, holds func(any) match) match {
	m := never
	for _, one := range alternatives {
		m = max(m, holds(one))
	}
	return m
}

func member(pattern, value any, there bool) match {
	if _, ok := value.(anything); ok {
		return maybe
	}
	switch p := pattern.(type) {
	case map[string]any:
		inner, ok := value.(map[string]any)
		if !ok && there {
			return never // it is no object
		}
		return allOf(p, inner)
	case []any:
		if _, ok := value.(map[string]any); ok {
			return never // a rule is about a value, not about an object
		}
		return anyOf(p, func(one any) match { return rule(one, value, there) })
	}
	return never
}

// rule matches one rule with a value that all events have alike, or that none has.
func rule(rule, value any, there bool) match {
	text, _ := value.(string)
	holds := func(b bool) match {
		if b {
			return always
		}
		return never
	}
	operators, ok := rule.(map[string]any)
	if !ok {
		return holds(there && rule == value)
	}
	for operator, operand := range operators {
		want, _ := operand.(string)
		switch operator {
		case "exists":
			if there && value == nil {
				return maybe // whether null is there, is not documented
			}
			return holds(there == (operand == true))
		case "prefix":
			return holds(there && strings.HasPrefix(text, want))
		case "suffix":
			return holds(there && strings.HasSuffix(text, want))
		case "equals-ignore-case":
			return holds(there && strings.EqualFold(text, want))
		case "anything-but":
			if list, ok := operand.([]any); ok {
				return holds(there && !slices.Contains(list, value))
			}
			if _, ok := operand.(map[string]any); !ok {
				return holds(there && operand != value)
			}
		case "numeric":
			return never // no number is the same in all events
		}
	}
	return maybe
}
