package dynamo

import (
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/expr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

type putItemInput struct {
	TableName           *string             `wire:"required,table"`
	Item                map[string]attr.Raw `wire:"required"`
	Expected            map[string]expectedAttributeValue
	ConditionalOperator *string `wire:"enum=OR|AND"`
	ReturnValues        *string `wire:"enum=ALL_NEW|UPDATED_OLD|ALL_OLD|NONE|UPDATED_NEW"`
	accounting
	collections
	conditional
}

// Precheck looks at what is told alone.
func (*putItemInput) Precheck(tree map[string]any) error { return writeOrder(tree, "Item") }

type writeOutput struct {
	Attributes            attr.Item              `json:",omitempty"`
	ConsumedCapacity      *consumedCapacity      `json:",omitempty"`
	ItemCollectionMetrics *itemCollectionMetrics `json:",omitempty"`
}

func (db *DB) putItem(in *putItemInput) (*writeOutput, error) {
	w := write{kind: writePut, table: *in.TableName}
	err := in.parse(&w, nil, false, []param{{"Expected", in.Expected != nil}, {"ConditionalOperator", in.ConditionalOperator != nil}})
	if err != nil {
		return nil, err
	}
	if w.item, err = itemOf(in.Item); err != nil {
		return nil, err
	}
	if err := onlyOld(in.ReturnValues); err != nil {
		return nil, err
	}
	if attr.ItemSize(w.item) > maxItemSize {
		return nil, wire.Validation(messageTooBig)
	}
	if w.cond, err = expectations(in.Expected, in.ConditionalOperator); err != nil {
		return nil, err
	}
	if err := in.parseExpressions(&w, nil); err != nil {
		return nil, err
	}
	return db.oldOutput(&w, in.ReturnValues, in.accounting, in.collections)
}

// onlyOld checks ReturnValues where there is nothing new to return.
func onlyOld(returnValues *string) error {
	if v := str(returnValues); v != "" && v != "ALL_OLD" && v != "NONE" {
		return wire.CountedValidation("ReturnValues can only be ALL_OLD or NONE")
	}
	return nil
}

// oldOutput performs a put or a delete.
func (db *DB) oldOutput(w *write, returnValues *string, a accounting, c collections) (*writeOutput, error) {
	o, err := db.one(w)
	if err != nil {
		return nil, err
	}
	out := &writeOutput{ConsumedCapacity: a.forWrite(o), ItemCollectionMetrics: c.metrics(o, w.item)}
	if str(returnValues) == "ALL_OLD" {
		out.Attributes = o.oldItem()
	}
	return out, nil
}

type getItemInput struct {
	TableName            *string             `wire:"required,table"`
	Key                  map[string]attr.Raw `wire:"required"`
	AttributesToGet      []string            `wire:"min=1,max=255"`
	ConsistentRead       *bool
	ProjectionExpression *string
	accounting
	ExpressionAttributeNames map[string]string
}

type getItemOutput struct {
	// Item is nil if there is none; one of which nothing is projected is empty.
	Item             any               `json:",omitempty"`
	ConsumedCapacity *consumedCapacity `json:",omitempty"`
}

func (db *DB) getItem(in *getItemInput) (*getItemOutput, error) {
	e := expressions{ExpressionAttributeNames: in.ExpressionAttributeNames}
	if err := e.checkParams([]expression{{expr.Projection, in.ProjectionExpression}}, []param{{"AttributesToGet", in.AttributesToGet != nil}}); err != nil {
		return nil, err
	}
	key, err := itemOf(in.Key)
	if err != nil {
		return nil, err
	}
	proj, err := e.projection(in.ProjectionExpression, in.AttributesToGet)
	if err != nil {
		return nil, err
	}
	db.mu.RLock()
	defer db.mu.RUnlock()
	t, err := db.forItems(*in.TableName)
	if err != nil {
		return nil, err
	}
	item, err := t.get(key, proj)
	if err != nil {
		return nil, err
	}
	out := &getItemOutput{ConsumedCapacity: in.forRead(t, attr.ItemSize(item), isTrue(in.ConsistentRead))}
	if item != nil {
		out.Item = projected(item, proj)
	}
	return out, nil
}

// get reads an item; nil if there is none.
func (t *table) get(key attr.Item, proj *expr.Proj) (attr.Item, error) {
	if err := t.key.checkKey(key); err != nil {
		return nil, err
	}
	if proj != nil {
		if err := t.checkScalars(nested(proj.Paths()...)); err != nil {
			return nil, err
		}
	}
	if rec := t.items[t.key.place(key)]; rec != nil {
		return rec.item, nil
	}
	return nil, nil
}

// projected cuts an item down; an item that exists stays one even if nothing of it is left.
func projected(item attr.Item, proj *expr.Proj) attr.Item {
	if item == nil || proj == nil {
		return item
	}
	return proj.Apply(item)
}

// projection parses the attributes to return: an expression, or the old list of names. Nil is all.
func (e *expressions) projection(text *string, names []string) (*expr.Proj, error) {
	if names != nil {
		seen := make(map[string]struct{}, len(names))
		for _, name := range names {
			if err := checkName(name); err != nil {
				return nil, err
			}
			if _, twice := seen[name]; twice {
				return nil, wire.Validation("One or more parameter values were invalid: Duplicate value in attribute name: " + name)
			}
			seen[name] = struct{}{}
		}
		return expr.Attributes(names), nil
	}
	if text == nil {
		return nil, nil
	}
	s, err := e.scope(attr.Raw.Value)
	if err != nil {
		return nil, err
	}
	proj, err := expr.ParseProjection(*text, s)
	if err != nil {
		return nil, err
	}
	return proj, s.Unused()
}
