package dynamo

import (
	"encoding/binary"
	"math/bits"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/expr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

type scanInput struct {
	selection
	Limit         *int32 `wire:"min=1"`
	Segment       *int32 `wire:"min=0,max=999999"`
	TotalSegments *int32 `wire:"min=1,max=1000000"`
	ScanFilter    map[string]condition
}

func (db *DB) scan(in *scanInput) (*pageOutput, error) {
	r, err := in.parse()
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
	if r.start != nil {
		if err := in.checkStart(r); err != nil {
			return nil, err
		}
	}
	if err := r.checkAttributes(); err != nil {
		return nil, err
	}
	return r.page(in.Limit, in.walk(r)), nil
}

// parse checks the request as far as that goes without the table.
func (in *scanInput) parse() (*reading, error) {
	err := in.checkParams([]expression{{expr.Projection, in.ProjectionExpression}, {expr.Filter, in.FilterExpression}}, []param{
		{"AttributesToGet", in.AttributesToGet != nil}, {"ScanFilter", in.ScanFilter != nil},
		{"ConditionalOperator", in.ConditionalOperator != nil},
	})
	if err != nil {
		return nil, err
	}
	r := &reading{selection: &in.selection}
	if r.cond, err = filterOf(in.ScanFilter, in.ConditionalOperator); err != nil {
		return nil, err
	}
	if r.start, err = in.startValues(); err != nil {
		return nil, err
	}
	if err := in.checkSegments(); err != nil {
		return nil, err
	}
	if err := in.checkSelect(""); err != nil {
		return nil, err
	}
	return r, in.parseExpressions(r)
}

func (in *scanInput) checkSegments() error {
	switch {
	case in.Segment != nil && in.TotalSegments == nil:
		return wire.Validation("The TotalSegments parameter is required but was not present in the request when Segment parameter is present")
	case in.Segment == nil && in.TotalSegments != nil:
		return wire.Validation("The Segment parameter is required but was not present in the request when parameter TotalSegments is present")
	case in.Segment != nil && *in.Segment >= *in.TotalSegments:
		return wire.Validationf("The Segment parameter is zero-based and must be less than parameter TotalSegments: Segment: %d is not less than TotalSegments: %d",
			*in.Segment, *in.TotalSegments)
	}
	return nil
}

func (in *scanInput) parseExpressions(r *reading) error {
	s, err := in.scope(attr.Raw.Value)
	if err != nil {
		return err
	}
	if in.FilterExpression != nil {
		if r.cond, err = expr.ParseCondition(expr.Filter, *in.FilterExpression, s); err != nil {
			return err
		}
	}
	switch {
	case in.ProjectionExpression != nil:
		if r.proj, err = expr.ParseProjection(*in.ProjectionExpression, s); err != nil {
			return err
		}
	case in.AttributesToGet != nil:
		if r.proj, err = in.projection(nil, in.AttributesToGet); err != nil {
			return err
		}
	}
	return s.Unused()
}

// checkStart checks the key to start after against the schema and the segment.
func (in *scanInput) checkStart(r *reading) error {
	if len(r.start) != len(r.startNames()) {
		if r.i == nil {
			return wire.Validation("The provided starting key is invalid: " + messageKeyMismatch)
		}
		return wire.Validation("The provided starting key is invalid")
	}
	if err := r.checkStart(); err != nil {
		return err
	}
	if !in.covers(r.place()) {
		return wire.Validationf("The provided starting key is invalid: Invalid ExclusiveStartKey. Please use ExclusiveStartKey with correct Segment. TotalSegments: %d Segment: %d",
			*in.TotalSegments, *in.Segment)
	}
	return nil
}

// covers reports whether the segment to scan holds the place: segments are equal ranges of hashes.
func (in *scanInput) covers(place entryKey) bool {
	if in.Segment == nil {
		return true
	}
	hash := binary.BigEndian.Uint64([]byte(place.part[:8]))
	segment, _ := bits.Mul64(hash, uint64(*in.TotalSegments))
	return segment == uint64(*in.Segment)
}

// first is the place at which the segment begins.
func (in *scanInput) first() entryKey {
	if in.Segment == nil {
		return entryKey{}
	}
	total := uint64(*in.TotalSegments)
	hash, _ := bits.Div64(uint64(*in.Segment), total-1, total) // rounded up
	return entryKey{part: string(binary.BigEndian.AppendUint64(nil, hash))}
}

// walk gives the entries of the segment, one after the other.
func (in *scanInput) walk(r *reading) func() *entry {
	place := in.first()
	if r.start != nil {
		// Right after the key, which need not exist.
		place = r.place()
		place.tie += "\x00"
	}
	e := r.order().from(place)
	return func() *entry {
		current := e
		if current == nil || !in.covers(current.key) {
			return nil
		}
		e = current.next[0]
		return current
	}
}
