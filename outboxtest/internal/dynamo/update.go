package dynamo

import (
	"maps"
	"slices"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/expr"
)

type deleteItemInput struct {
	TableName           *string             `wire:"required,table"`
	Key                 map[string]attr.Raw `wire:"required"`
	Expected            map[string]expectedAttributeValue
	ConditionalOperator *string `wire:"enum=OR|AND"`
	ReturnValues        *string `wire:"enum=ALL_NEW|UPDATED_OLD|ALL_OLD|NONE|UPDATED_NEW"`
	accounting
	collections
	conditional
}

// Precheck looks at what is told alone.
func (*deleteItemInput) Precheck(tree map[string]any) error { return writeOrder(tree, "Key") }

func (db *DB) deleteItem(in *deleteItemInput) (*writeOutput, error) {
	w := write{kind: writeDelete, table: *in.TableName}
	err := in.parse(&w, nil, false, []param{{"Expected", in.Expected != nil}, {"ConditionalOperator", in.ConditionalOperator != nil}})
	if err != nil {
		return nil, err
	}
	if w.item, err = itemOf(in.Key); err != nil {
		return nil, err
	}
	if err := onlyOld(in.ReturnValues); err != nil {
		return nil, err
	}
	if w.cond, err = expectations(in.Expected, in.ConditionalOperator); err != nil {
		return nil, err
	}
	if err := in.parseExpressions(&w, nil); err != nil {
		return nil, err
	}
	return db.oldOutput(&w, in.ReturnValues, in.accounting, in.collections)
}

type attributeValueUpdate struct {
	Value  *attr.Raw
	Action *string `wire:"enum=ADD|PUT|DELETE"`
}

// updateItemInput has its members in the order in which AWS lists their faults.
type updateItemInput struct {
	accounting
	TableName           *string             `wire:"required,table"`
	ConditionalOperator *string             `wire:"enum=OR|AND"`
	ReturnValues        *string             `wire:"enum=ALL_NEW|UPDATED_OLD|ALL_OLD|NONE|UPDATED_NEW"`
	Key                 map[string]attr.Raw `wire:"required"`
	AttributeUpdates    map[string]attributeValueUpdate
	Expected            map[string]expectedAttributeValue
	UpdateExpression    *string
	collections
	conditional
}

// Precheck looks at what is told alone.
func (*updateItemInput) Precheck(tree map[string]any) error { return writeOrder(tree, "Key") }

func (db *DB) updateItem(in *updateItemInput) (*writeOutput, error) {
	w := write{kind: writeUpdate, table: *in.TableName}
	err := in.parse(&w, in.UpdateExpression, true, []param{
		{"AttributeUpdates", in.AttributeUpdates != nil}, {"Expected", in.Expected != nil},
		{"ConditionalOperator", in.ConditionalOperator != nil},
	})
	if err != nil {
		return nil, err
	}
	if w.item, err = itemOf(in.Key); err != nil {
		return nil, err
	}
	if w.update, err = replacements(in.AttributeUpdates); err != nil {
		return nil, err
	}
	if w.cond, err = expectations(in.Expected, in.ConditionalOperator); err != nil {
		return nil, err
	}
	if err := in.parseExpressions(&w, in.UpdateExpression); err != nil {
		return nil, err
	}
	o, err := db.one(&w)
	if err != nil {
		return nil, err
	}
	return &writeOutput{
		Attributes:            w.returned(o, str(in.ReturnValues)),
		ConsumedCapacity:      in.forWrite(o),
		ItemCollectionMetrics: in.metrics(o, w.item),
	}, nil
}

// returned is what an update gives back.
func (w *write) returned(o outcome, returnValues string) attr.Item {
	item := o.oldItem()
	switch returnValues {
	case "ALL_OLD":
		return item
	case "ALL_NEW":
		return o.next
	case "UPDATED_NEW":
		item = o.next
	case "UPDATED_OLD":
	default:
		return nil
	}
	if w.update == nil || item == nil {
		return nil
	}
	return expr.Pick(w.update.Paths(), item)
}

// replacements makes an update of AttributeUpdates; nil of none.
func replacements(updates map[string]attributeValueUpdate) (*expr.Upd, error) {
	var out []expr.Replacement
	for _, name := range slices.Sorted(maps.Keys(updates)) {
		if err := checkName(name); err != nil {
			return nil, err
		}
		u := updates[name]
		r := expr.Replacement{Attribute: name, Action: str(u.Action)}
		if r.Action == "" {
			r.Action = "PUT"
		}
		if u.Value == nil {
			if r.Action != "DELETE" {
				return nil, invalid("Only DELETE action is allowed when no attribute value is specified")
			}
			out = append(out, r)
			continue
		}
		var err error
		if r.Value, err = u.Value.Value(); err != nil {
			return nil, err
		}
		kind := r.Value.Kind()
		switch {
		case r.Action == "DELETE" && !kind.IsSet():
			return nil, invalid("DELETE action with value is not supported for the type %s", kind)
		case r.Action == "ADD" && !kind.IsSet() && kind != attr.KindN && kind != attr.KindL:
			return nil, invalid("ADD action is not supported for the type %s", kind)
		}
		out = append(out, r)
	}
	return expr.Replacements(out), nil
}
