package dynamo

import (
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/expr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

const messageNoRestart = "The query can return at most one row and cannot be restarted"

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
	kr, err := r.bounds(bounds, in.KeyConditionExpression != nil)
	if err != nil {
		return nil, err
	}
	part, within := partition(kr.hash), r.key().stretch(kr.equal, kr.last)
	if r.start != nil {
		if err := r.checkStartBounds(part, within, len(kr.equal) > 0 || kr.last != nil); err != nil {
			return nil, err
		}
	}
	if err := in.checkFilter(r); err != nil {
		return nil, err
	}
	if err := r.checkAttributes(); err != nil {
		return nil, err
	}
	forward := in.ScanIndexForward == nil || *in.ScanIndexForward
	out := r.page(in.Limit, r.walk(part, within, forward))
	if r.single() {
		out.LastEvaluatedKey = nil // such a query cannot be restarted
	}
	return out, nil
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
	if in.KeyConditionExpression == nil && in.IndexName == nil && (len(bounds) < 1 || len(bounds) > 2) {
		return nil, nil, wire.Validation("Conditions can be of length 1 or 2 only")
	}
	return r, bounds, nil
}

func (in *queryInput) parseExpressions(r *reading) (map[string]expr.Bound, error) {
	s, err := in.scope(attr.Raw.Value)
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

// checkStartBounds checks the key to start after against the schema and the key condition; ranged
// says whether that limits the range attributes.
func (r *reading) checkStartBounds(part string, within stretch, ranged bool) error {
	if err := r.checkStart(); err != nil {
		return err
	}
	place := r.key().place(r.start)
	switch same := place.part == part; {
	case !ranged && !same:
		return wire.Validation("The provided starting key is outside query boundaries based on provided conditions")
	case r.single():
		return wire.Validation(messageNoRestart)
	case ranged && !within.holds(place.sort):
		return wire.Validation("The provided starting key does not match the range key predicate")
	case !same:
		return wire.Validation(messageNoRestart)
	}
	return nil
}

// single reports whether a partition has one item at most: that of a table without a range attribute.
func (r *reading) single() bool { return r.i == nil && len(r.t.key.ranges) == 0 }

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

// walk gives the entries of the partition within the stretch, one after the other.
func (r *reading) walk(part string, within stretch, forward bool) func() *entry {
	var e *entry
	if forward {
		place := entryKey{part: part, sort: within.low}
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
		if within.high != "" {
			place = entryKey{part: part, sort: within.high}
		}
		if r.start != nil {
			if start := r.place(); start.compare(place) < 0 {
				place = start
			}
		}
		e = r.order().below(place)
	}
	return func() *entry {
		current := e
		if current == nil || current.key.part != part || !within.holds(current.key.sort) {
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
