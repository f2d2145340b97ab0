package dynamo

import (
	"errors"
	"strconv"
	"strings"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// maxTransaction is the largest payload of a transaction, in bytes.
const maxTransaction = 4 << 20

type put struct {
	TableName *string             `wire:"required,table"`
	Item      map[string]attr.Raw `wire:"required"`
	conditional
}

type update struct {
	TableName        *string             `wire:"required,table"`
	Key              map[string]attr.Raw `wire:"required"`
	UpdateExpression *string             `wire:"required"`
	conditional
}

type deleteAction struct {
	TableName *string             `wire:"required,table"`
	Key       map[string]attr.Raw `wire:"required"`
	conditional
}

// WireName is the API's name of the type.
func (*deleteAction) WireName() string { return "Delete" }

type conditionCheck struct {
	TableName           *string             `wire:"required,table"`
	Key                 map[string]attr.Raw `wire:"required"`
	ConditionExpression *string             `wire:"required"`
	conditional
}

type transactWriteItem struct {
	ConditionCheck *conditionCheck
	Put            *put
	Delete         *deleteAction
	Update         *update
}

type transactWriteItemsInput struct {
	TransactItems      []transactWriteItem `wire:"required,min=1,max=100"`
	ClientRequestToken *string             `wire:"min=1,max=36"`
	accounting
	collections
}

type transactWriteItemsOutput struct {
	ConsumedCapacity      []*consumedCapacity                `json:",omitempty"`
	ItemCollectionMetrics map[string][]itemCollectionMetrics `json:",omitempty"`
}

// cancellationReason tells why an action stopped a transaction, or that it did not.
type cancellationReason struct {
	Code    string
	Message string    `json:",omitempty"`
	Item    attr.Item `json:",omitempty"`
}

func (db *DB) transactWriteItems(in *transactWriteItemsInput) (*transactWriteItemsOutput, error) {
	writes, err := in.parse()
	if err != nil {
		return nil, err
	}
	token := str(in.ClientRequestToken)
	sum := fingerprint(in)
	db.mu.Lock()
	defer db.mu.Unlock()
	if token != "" {
		if done, err := db.tokens.find(token, sum, db.cfg.Now()); err != nil || done != nil {
			if err != nil {
				return nil, err
			}
			return in.repeated(done), nil
		}
	}
	outcomes, err := db.transact(writes)
	if err != nil {
		return nil, err
	}
	for i, o := range outcomes {
		if writes[i].kind != writeCheck {
			db.commit(o.t, o.old, o.next, false)
		}
	}
	if token != "" {
		db.tokens.keep(token, sum, outcomes, db.cfg.Now())
	}
	return in.output(writes, outcomes), nil
}

// transact finds out what every write will do. Nothing is changed; the caller holds mu.
func (db *DB) transact(writes []*write) ([]outcome, error) {
	tables := make([]*table, len(writes))
	for i, w := range writes {
		t, err := db.forItems(w.table)
		if err != nil {
			return nil, err
		}
		tables[i] = t
	}
	// One item cannot be meant twice. A key that is no key is reported below.
	type target struct {
		t   *table
		key entryKey
	}
	seen := make(map[target]struct{}, len(writes))
	for i, w := range writes {
		key := w.item
		if w.kind == writePut {
			key = tables[i].key.key(w.item)
		}
		if tables[i].key.checkKey(key) != nil {
			continue
		}
		item := target{tables[i], tables[i].key.place(key)}
		if _, twice := seen[item]; twice {
			return nil, wire.Validation("Transaction request cannot include multiple operations on one item")
		}
		seen[item] = struct{}{}
	}
	reasons := make([]cancellationReason, len(writes))
	for i := range reasons {
		reasons[i].Code = "None"
	}
	// The first write that does not fit its table cancels the transaction before any is tried.
	var fault error
	for i, w := range writes {
		err := w.check(tables[i])
		if err == nil {
			continue
		}
		var whole *hoisted
		if errors.As(err, &whole) {
			return nil, whole.fault
		}
		if fault == nil {
			fault = err
			reasons[i] = reasonOf(err)
		}
	}
	if fault != nil {
		return nil, cancelled(reasons)
	}
	outcomes := make([]outcome, len(writes))
	failed := false
	for i, w := range writes {
		o, err := w.evaluate(tables[i])
		if err != nil {
			var whole *hoisted
			if errors.As(err, &whole) {
				return nil, whole.fault
			}
			failed = true
			reasons[i] = reasonOf(err)
			continue
		}
		outcomes[i] = o
	}
	if failed {
		return nil, cancelled(reasons)
	}
	return outcomes, nil
}

func reasonOf(err error) cancellationReason {
	e := wire.AsError(err)
	r := cancellationReason{Code: "ValidationError", Message: e.Message}
	if e.Code == "ConditionalCheckFailedException" {
		r.Code = "ConditionalCheckFailed"
		r.Item, _ = e.Fields["Item"].(attr.Item)
	}
	return r
}

func cancelled(reasons []cancellationReason) error {
	codes := make([]string, len(reasons))
	for i, r := range reasons {
		codes[i] = r.Code
	}
	return &wire.Error{
		Code: "TransactionCanceledException",
		Message: "Transaction cancelled, please refer cancellation reasons for specific reasons [" +
			strings.Join(codes, ", ") + "]",
		Fields: map[string]any{"CancellationReasons": reasons},
	}
}

// parse checks the actions as far as that goes without their tables.
func (in *transactWriteItemsInput) parse() ([]*write, error) {
	writes := make([]*write, len(in.TransactItems))
	size := 0
	for i, action := range in.TransactItems {
		w, values, err := action.parse()
		if err != nil {
			return nil, err
		}
		writes[i] = w
		size += attr.ItemSize(w.item) + values
	}
	for _, w := range writes {
		if w.kind == writePut && attr.ItemSize(w.item) > maxItemSize {
			return nil, wire.Validation(messageTooBig)
		}
	}
	if size > maxTransaction {
		const message = "Transaction payload size cannot exceed 4MB. Payload Size: "
		return nil, wire.Validation(message + ": " + message + strconv.Itoa(size))
	}
	return writes, nil
}

// parse makes a write of an action; values is the size of the placeholders' values.
func (a transactWriteItem) parse() (w *write, values int, err error) {
	w = &write{inTransaction: true}
	var c *conditional
	var text *string
	var item map[string]attr.Raw
	given := 0
	if p := a.Put; p != nil {
		given++
		w.kind, w.table, item, c = writePut, *p.TableName, p.Item, &p.conditional
	}
	if u := a.Update; u != nil {
		given++
		w.kind, w.table, item, c, text = writeUpdate, *u.TableName, u.Key, &u.conditional, u.UpdateExpression
	}
	if d := a.Delete; d != nil {
		given++
		w.kind, w.table, item, c = writeDelete, *d.TableName, d.Key, &d.conditional
	}
	if k := a.ConditionCheck; k != nil {
		given++
		w.kind, w.table, item, c = writeCheck, *k.TableName, k.Key, &k.conditional
	}
	switch {
	case given == 0:
		return nil, 0, wire.Validation("Invalid Request: TransactWriteRequest should contain Delete or Put or Update request")
	case given > 1:
		return nil, 0, wire.Validation("TransactItems can only contain one of Check, Put, Update or Delete")
	}
	if err := c.parse(w, text, w.kind == writeUpdate, nil); err != nil {
		return nil, 0, err
	}
	if w.item, err = itemOf(item); err != nil {
		return nil, 0, err
	}
	if err := c.parseExpressions(w, text); err != nil {
		return nil, 0, err
	}
	all, err := c.values(attr.Raw.Operand)
	return w, attr.ItemSize(all), err
}

// output tells what a transaction cost: twice the writes of the items, once those of the indexes.
func (in *transactWriteItemsInput) output(writes []*write, outcomes []outcome) *transactWriteItemsOutput {
	out := &transactWriteItemsOutput{}
	if in.asked() {
		var bills bills
		for _, o := range outcomes {
			b := writeBill(o)
			b.table *= 2
			b.split = "write"
			bills.add(b)
		}
		out.ConsumedCapacity = bills.statements(in.accounting)
	}
	for i, o := range outcomes {
		if m := in.metrics(o, writes[i].item); m != nil && writes[i].kind != writeCheck {
			if out.ItemCollectionMetrics == nil {
				out.ItemCollectionMetrics = make(map[string][]itemCollectionMetrics)
			}
			out.ItemCollectionMetrics[o.t.name] = append(out.ItemCollectionMetrics[o.t.name], *m)
		}
	}
	return out
}

// repeated is the answer to a transaction that was done already: it costs reads.
func (in *transactWriteItemsInput) repeated(done *doneToken) *transactWriteItemsOutput {
	out := &transactWriteItemsOutput{}
	if in.asked() {
		var bills bills
		for _, read := range done.reads {
			bills.add(bill{t: read.t, table: 2 * unitsOf(read.size, readUnit), split: "read"})
		}
		out.ConsumedCapacity = bills.statements(in.accounting)
	}
	return out
}

// bills are the bills of an operation, one for each table in the order they came up.
type bills []bill

func (b *bills) add(c bill) {
	for i := range *b {
		if (*b)[i].t == c.t {
			(*b)[i] = (*b)[i].add(c)
			return
		}
	}
	*b = append(*b, c)
}

func (b bills) statements(a accounting) []*consumedCapacity {
	var out []*consumedCapacity
	for _, c := range b {
		if s := a.statement(c); s != nil {
			out = append(out, s)
		}
	}
	return out
}
