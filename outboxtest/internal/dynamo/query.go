package dynamo

import (
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/expr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

type queryInput struct {
	selection
	Limit                  *int32
	KeyConditionExpression *string
	KeyConditions          map[string]condition
	QueryFilter            map[string]condition
	ScanIndexForward       *bool
}

func (db *DB) query(in *queryInput) (*pageOutput, error) {
	r, bounds, err := in.parse()
	if err != nil {
		return nil, err
	}
	db.mu.RLock()
	defer db.mu.RUnlock()
	opened, err := db.open(&in.selection)
	if err != nil {
		return nil, err
	}
	r.t, r.i = opened.t, opened.i
	if r.start != nil && len(r.start) != len(r.startNames()) {
		return nil, wire.Validation("The provided starting key is invalid")
	}
	hash, rng, err := r.bounds(bounds, in.KeyConditionExpression != nil)
	if err != nil {
		return nil, err
	}
	if r.start != nil {
		if err := r.checkStartBounds(hash, rng); err != nil {
			return nil, err
		}
	}
	if err := in.checkFilter(r); err != nil {
		return nil, err
	}
	if err := r.checkAttributes(); err != nil {
		return nil, err
	}
	part := partition(hash)
	forward := in.ScanIndexForward == nil || *in.ScanIndexForward
	return r.page(in.Limit, r.walk(part, rng, forward)), nil
}

// parse checks the request as far as that goes without the table.
func (in *queryInput) parse() (*reading, map[string]expr.Bound, error) {
	if in.Limit != nil && *in.Limit < 1 {
		// AWS words this one unlike all others of its sort.
		return nil, nil, wire.Validation("1 validation error detected: Value at 'Limit' failed to satisfy constraint: Member must have value greater than or equal to 1")
	}
	err := in.checkParams([]expression{
		{expr.Projection, in.ProjectionExpression}, {expr.Filter, in.FilterExpression}, {expr.KeyCondition, in.KeyConditionExpression},
	}, []param{
		{"AttributesToGet", in.AttributesToGet != nil}, {"QueryFilter", in.QueryFilter != nil},
		{"ConditionalOperator", in.ConditionalOperator != nil},
		// The one old parameter that may go with expressions, if only with those for other things.
		{"KeyConditions", in.KeyConditions != nil && in.KeyConditionExpression != nil},
	})
	if err != nil {
		return nil, nil, err
	}
	r := &reading{selection: &in.selection}
	if r.cond, err = filterOf(in.QueryFilter, in.ConditionalOperator); err != nil {
		return nil, nil, err
	}
	if r.start, err = in.startValues(); err != nil {
		return nil, nil, err
	}
	if in.KeyConditions == nil && in.KeyConditionExpression == nil {
		return nil, nil, wire.Validation("Either the KeyConditions or KeyConditionExpression parameter must be specified in the request.")
	}
	if err := in.checkSelect("1 validation error detected: "); err != nil {
		return nil, nil, err
	}
	bounds, err := in.parseExpressions(r)
	if err != nil {
		return nil, nil, err
	}
	if bounds == nil {
		if bounds, err = boundsOf(in.KeyConditions); err != nil {
			return nil, nil, err
		}
	}
	if in.KeyConditionExpression == nil && (len(bounds) < 1 || len(bounds) > 2) {
		return nil, nil, wire.Validation("Conditions can be of length 1 or 2 only")
	}
	return r, bounds, nil
}

func (in *queryInput) parseExpressions(r *reading) (map[string]expr.Bound, error) {
	s, err := in.scope()
	if err != nil {
		return nil, err
	}
	var key *expr.Cond
	if in.KeyConditionExpression != nil {
		if key, err = expr.ParseCondition(expr.KeyCondition, *in.KeyConditionExpression, s); err != nil {
			return nil, err
		}
	}
	if in.FilterExpression != nil {
		if r.cond, err = expr.ParseCondition(expr.Filter, *in.FilterExpression, s); err != nil {
			return nil, err
		}
	}
	switch {
	case in.ProjectionExpression != nil:
		if r.proj, err = expr.ParseProjection(*in.ProjectionExpression, s); err != nil {
			return nil, err
		}
	case in.AttributesToGet != nil:
		if r.proj, err = in.projection(nil, in.AttributesToGet); err != nil {
			return nil, err
		}
	}
	if err := s.Unused(); err != nil {
		return nil, err
	}
	if key == nil {
		return nil, nil
	}
	return key.Bounds()
}

// bounds checks the key condition against the key. rng is nil if the sort key is free. expression
// says whether it was written as one.
func (r *reading) bounds(bounds map[string]expr.Bound, expression bool) (hash attr.Value, rng *expr.Bound, err error) {
	attrs := r.key().attrs()
	if expression && len(bounds) > 2 {
		return hash, nil, wire.Validationf("The number of query conditions (%d) exceeds the number of key attributes defined in the schema (%d)", len(bounds), len(attrs))
	}
	for n, a := range attrs {
		b, ok := bounds[a.name]
		if n == 0 && r.key().rng.name == "" && len(bounds) > 1 {
			return hash, nil, wire.Validation("Query key condition not supported")
		}
		if !ok {
			if n == 0 || len(bounds) > 1 {
				return hash, nil, wire.Validation("Query condition missed key schema element: " + a.name)
			}
			continue
		}
		if b.Op == "" {
			return hash, nil, wire.Validation("Attempted conditional constraint is not an indexable operation")
		}
		for _, v := range b.Values {
			if v.Kind() != a.kind {
				return hash, nil, wire.Validation("One or more parameter values were invalid: Condition parameter type does not match schema type")
			}
			if empty(v) && b.Op != "begins_with" {
				return hash, nil, wire.Validation("One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty " +
					kindWord(a.kind) + " value. Key: " + a.name)
			}
		}
		if n == 0 {
			if b.Op != "=" {
				return hash, nil, wire.Validation("Query key condition not supported")
			}
			hash = b.Values[0]
			continue
		}
		if b.Op == "begins_with" && a.kind == attr.KindN {
			return hash, nil, wire.Validation("One or more parameter values were invalid: ComparisonOperator BEGINS_WITH is not valid for N AttributeValue type")
		}
		rng = &b
	}
	return hash, rng, nil
}

// checkStartBounds checks the key to start after against the schema and the key condition.
func (r *reading) checkStartBounds(hash attr.Value, rng *expr.Bound) error {
	if err := r.checkStart(); err != nil {
		return err
	}
	same := r.start[r.key().hash.name].Equal(hash)
	if rng == nil {
		if !same {
			return wire.Validation("The provided starting key is outside query boundaries based on provided conditions")
		}
		return nil
	}
	if !rng.Match(r.start[r.key().rng.name]) {
		return wire.Validation("The provided starting key does not match the range key predicate")
	}
	if !same {
		return wire.Validation("The query can return at most one row and cannot be restarted")
	}
	return nil
}

// checkFilter refuses filters on the key, which is what the key condition is for.
func (in *queryInput) checkFilter(r *reading) error {
	if r.cond == nil {
		return nil
	}
	name := "Filter Expression"
	if in.QueryFilter != nil {
		name = "QueryFilter"
	}
	heads := r.cond.Heads()
	for _, a := range r.key().attrs() {
		if _, ok := heads[a.name]; ok {
			return wire.Validation(name + " can only contain non-primary key attributes: Primary key attribute: " + a.name)
		}
	}
	return nil
}

// walk gives the entries of the partition within the bound, one after the other.
func (r *reading) walk(part string, rng *expr.Bound, forward bool) func() *entry {
	var e *entry
	if forward {
		place := entryKey{part: part, sort: lowest(rng)}
		if r.start != nil {
			// Right after the key, which need not exist.
			after := r.place()
			after.tie += "\x00"
			if place.compare(after) < 0 {
				place = after
			}
		}
		e = r.order().from(place)
	} else {
		place := entryKey{part: part + "\x00"}
		if high, ok := highest(rng); ok {
			place = entryKey{part: part, sort: high}
		}
		if r.start != nil {
			if start := r.place(); start.compare(place) < 0 {
				place = start
			}
		}
		e = r.order().below(place)
	}
	name := r.key().rng.name
	return func() *entry {
		current := e
		if current == nil || current.key.part != part || rng != nil && !rng.Match(current.rec.item[name]) {
			return nil
		}
		if forward {
			e = current.next[0]
		} else {
			e = current.prev
		}
		return current
	}
}

// lowest is the sort key to begin at.
func lowest(b *expr.Bound) string {
	if b == nil {
		return ""
	}
	switch b.Op {
	case "=", ">=", "BETWEEN", "begins_with":
		return b.Values[0].Sortable()
	case ">":
		return b.Values[0].Sortable() + "\x00"
	}
	return ""
}

// highest is the first sort key beyond the bound; ok is false if every key of the partition may be
// within.
func highest(b *expr.Bound) (string, bool) {
	if b == nil {
		return "", false
	}
	switch b.Op {
	case "<":
		return b.Values[0].Sortable(), true
	case "=", "<=":
		return b.Values[0].Sortable() + "\x00", true
	case "BETWEEN":
		return b.Values[1].Sortable() + "\x00", true
	case "begins_with":
		return beyond(b.Values[0].Sortable())
	}
	return "", false
}

// beyond is the first string that is greater than every string with the prefix.
func beyond(prefix string) (string, bool) {
	b := []byte(prefix)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] < 0xff {
			b[i]++
			return string(b[:i+1]), true
		}
	}
	return "", false
}
