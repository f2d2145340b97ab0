package dynamo

import (
	"errors"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/expr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

type get struct {
	TableName                *string             `wire:"required,table"`
	Key                      map[string]attr.Raw `wire:"required"`
	ProjectionExpression     *string
	ExpressionAttributeNames map[string]string
}

type transactGetItem struct {
	Get *get `wire:"required"`
}

type transactGetItemsInput struct {
	TransactItems []transactGetItem `wire:"required,min=1,max=100"`
	accounting
}

type itemResponse struct {
	// Item is nil if there is none.
	Item any `json:",omitempty"`
}

type transactGetItemsOutput struct {
	Responses        []itemResponse
	ConsumedCapacity []*consumedCapacity `json:",omitempty"`
}

func (db *DB) transactGetItems(in *transactGetItemsInput) (*transactGetItemsOutput, error) {
	keys := make([]attr.Item, len(in.TransactItems))
	projs := make([]*expr.Proj, len(in.TransactItems))
	for i, a := range in.TransactItems {
		e := expressions{ExpressionAttributeNames: a.Get.ExpressionAttributeNames}
		if err := e.checkParams([]expression{{expr.Projection, a.Get.ProjectionExpression}}, nil); err != nil {
			return nil, err
		}
		var err error
		if keys[i], err = itemOf(a.Get.Key); err != nil {
			return nil, err
		}
		if projs[i], err = e.projection(a.Get.ProjectionExpression, nil); err != nil {
			return nil, err
		}
	}
	db.mu.RLock()
	defer db.mu.RUnlock()
	tables := make([]*table, len(keys))
	for i, a := range in.TransactItems {
		t, err := db.forItems(*a.Get.TableName)
		if err != nil {
			return nil, err
		}
		tables[i] = t
	}
	if err := checkGets(tables, keys); err != nil {
		return nil, err
	}
	out := &transactGetItemsOutput{Responses: make([]itemResponse, len(keys))}
	var bills bills
	total := 0
	for i, t := range tables {
		item, err := t.get(keys[i], projs[i])
		if err != nil {
			return nil, err
		}
		if item != nil {
			out.Responses[i].Item = projected(item, projs[i])
		}
		size := attr.ItemSize(item)
		total += size
		bills.add(bill{t: t, table: 2 * unitsOf(size, readUnit), split: "read"})
	}
	if total > maxTransaction {
		return nil, wire.Validation("The aggregate size of the items in the transaction exceeds 4 MB")
	}
	out.ConsumedCapacity = bills.statements(in.accounting)
	return out, nil
}

// checkGets checks the keys: one that does not fit its table cancels the transaction.
func checkGets(tables []*table, keys []attr.Item) error {
	reasons := make([]cancellationReason, len(keys))
	for i := range reasons {
		reasons[i].Code = "None"
	}
	seen := newKeySet()
	var fault error
	for i, t := range tables {
		err := t.key.checkKey(keys[i])
		var whole *hoisted
		switch {
		case errors.As(err, &whole):
			return whole.fault
		case err == nil:
			if !seen.add(t, keys[i]) {
				return wire.Validation("Transaction request cannot include multiple operations on one item")
			}
		case fault == nil:
			fault = err
			reasons[i] = reasonOf(err)
		}
	}
	if fault != nil {
		return cancelled(reasons)
	}
	return nil
}
