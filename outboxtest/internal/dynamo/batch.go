package dynamo

import (
	"maps"
	"slices"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/expr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

const (
	maxBatchWrites = 25
	maxBatchReads  = 100
	// maxBatchBytes is how much one batch writes or answers; the rest is given back unprocessed.
	maxBatchBytes = 16 << 20
)

const messageDuplicates = "Provided list of item keys contains duplicates"

type putRequest struct {
	Item map[string]attr.Raw `wire:"required"`
}

type deleteRequest struct {
	Key map[string]attr.Raw `wire:"required"`
}

type writeRequest struct {
	PutRequest    *putRequest
	DeleteRequest *deleteRequest
}

type batchWriteItemInput struct {
	RequestItems map[string][]writeRequest `wire:"required,keys=3|255,late,values=1|25"`
	accounting
	collections
}

// unprocessedWrite is a request that was not done, as it came.
type unprocessedWrite struct {
	PutRequest    *unprocessedPut    `json:",omitempty"`
	DeleteRequest *unprocessedDelete `json:",omitempty"`
}

type unprocessedPut struct{ Item attr.Item }

type unprocessedDelete struct{ Key attr.Item }

func (w *write) unprocessed() unprocessedWrite {
	if w.kind == writePut {
		return unprocessedWrite{PutRequest: &unprocessedPut{w.item}}
	}
	return unprocessedWrite{DeleteRequest: &unprocessedDelete{w.item}}
}

type batchWriteItemOutput struct {
	UnprocessedItems      map[string][]unprocessedWrite
	ConsumedCapacity      []*consumedCapacity                `json:",omitempty"`
	ItemCollectionMetrics map[string][]itemCollectionMetrics `json:",omitempty"`
}

func (db *DB) batchWriteItem(in *batchWriteItemInput) (*batchWriteItemOutput, error) {
	writes, err := in.parse()
	if err != nil {
		return nil, err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	tables, err := db.checkBatch(writes)
	if err != nil {
		return nil, err
	}
	out := &batchWriteItemOutput{UnprocessedItems: make(map[string][]unprocessedWrite)}
	var bills bills
	size := 0
	for i, w := range writes {
		if size += attr.ItemSize(w.item); size > maxBatchBytes {
			out.UnprocessedItems[w.table] = append(out.UnprocessedItems[w.table], w.unprocessed())
			continue
		}
		o, err := w.evaluate(tables[i])
		if err != nil {
			return nil, err
		}
		if in.asked() {
			bills.add(writeBill(o))
		}
		if m := in.metrics(o, w.item); m != nil {
			if out.ItemCollectionMetrics == nil {
				out.ItemCollectionMetrics = make(map[string][]itemCollectionMetrics)
			}
			out.ItemCollectionMetrics[o.t.name] = append(out.ItemCollectionMetrics[o.t.name], *m)
		}
		db.commit(o.t, o.old, o.next, false)
	}
	out.ConsumedCapacity = bills.statements(in.accounting)
	return out, nil
}

// parse checks the requests as far as that goes without their tables.
func (in *batchWriteItemInput) parse() ([]*write, error) {
	if len(in.RequestItems) == 0 {
		return nil, wire.Validation("The requestItems parameter is required for BatchWriteItem")
	}
	var writes []*write
	for _, name := range slices.Sorted(maps.Keys(in.RequestItems)) {
		for _, r := range in.RequestItems[name] {
			w := &write{kind: writePut, table: name}
			var raw map[string]attr.Raw
			switch {
			case (r.PutRequest == nil) == (r.DeleteRequest == nil):
				return nil, wire.Validation("Supplied AttributeValue has more than one datatypes set, must contain exactly one of the supported datatypes")
			case r.PutRequest != nil:
				raw = r.PutRequest.Item
			default:
				w.kind, raw = writeDelete, r.DeleteRequest.Key
			}
			var err error
			if w.item, err = itemOf(raw); err != nil {
				return nil, err
			}
			if attr.ItemSize(w.item) > maxItemSize {
				return nil, wire.Validation(messageTooBig)
			}
			writes = append(writes, w)
		}
	}
	if len(writes) > maxBatchWrites {
		return nil, wire.Validation("Too many items requested for the BatchWriteItem call")
	}
	return writes, nil
}

// checkBatch checks the writes against their tables. The caller holds mu.
func (db *DB) checkBatch(writes []*write) ([]*table, error) {
	tables := make([]*table, len(writes))
	for i, w := range writes {
		t, err := db.forItems(w.table)
		if err != nil {
			return nil, err
		}
		tables[i] = t
	}
	seen := newKeySet()
	for i, w := range writes {
		t := tables[i]
		if w.kind == writePut && t.key.checkKinds(w.item) != nil {
			// A put that lacks its key, or has one of another type, gets the general complaint here.
			return nil, wire.Validation(messageKeyMismatch)
		}
		if err := w.check(t); err != nil {
			return nil, err
		}
		if !seen.add(t, w.item) {
			return nil, wire.Validation(messageDuplicates)
		}
	}
	return tables, nil
}

// checkKinds checks that an item has the key's attributes, in the right types.
func (k keySchema) checkKinds(item attr.Item) error {
	for _, a := range k.attrs() {
		if item[a.name].Kind() != a.kind {
			return wire.Validation(messageKeyMismatch)
		}
	}
	return nil
}

// keySet finds keys that come twice.
type keySet map[*table]map[entryKey]struct{}

func newKeySet() keySet { return make(keySet) }

// add reports whether the key of the item was not there yet.
func (s keySet) add(t *table, item attr.Item) bool {
	if s[t] == nil {
		s[t] = make(map[entryKey]struct{})
	}
	place := t.key.place(item)
	_, twice := s[t][place]
	s[t][place] = struct{}{}
	return !twice
}

type keysAndAttributes struct {
	Keys                     []map[string]attr.Raw `wire:"required,min=1,max=100,newer"`
	AttributesToGet          []string              `wire:"min=1,max=255"`
	ConsistentRead           *bool
	ProjectionExpression     *string
	ExpressionAttributeNames map[string]string
}

type batchGetItemInput struct {
	RequestItems map[string]keysAndAttributes `wire:"required,min=1,keys=3|255,newer"`
	accounting
}

// unprocessedKeys are keys that were not read, with what else came with them.
type unprocessedKeys struct {
	Keys                     []attr.Item
	AttributesToGet          []string          `json:",omitempty"`
	ConsistentRead           *bool             `json:",omitempty"`
	ProjectionExpression     *string           `json:",omitempty"`
	ExpressionAttributeNames map[string]string `json:",omitempty"`
}

type batchGetItemOutput struct {
	Responses        map[string][]attr.Item
	UnprocessedKeys  map[string]*unprocessedKeys
	ConsumedCapacity []*consumedCapacity `json:",omitempty"`
}

// batchRead is what is asked of one table.
type batchRead struct {
	keysAndAttributes
	name string
	keys []attr.Item
	proj *expr.Proj
}

func (db *DB) batchGetItem(in *batchGetItemInput) (*batchGetItemOutput, error) {
	reads, err := in.parse()
	if err != nil {
		return nil, err
	}
	db.mu.RLock()
	defer db.mu.RUnlock()
	tables := make([]*table, len(reads))
	for i, r := range reads {
		if tables[i], err = db.forItems(r.name); err != nil {
			return nil, err
		}
	}
	seen := newKeySet()
	for i, r := range reads {
		for _, key := range r.keys {
			if err := tables[i].key.checkKey(key); err != nil {
				return nil, err
			}
			if !seen.add(tables[i], key) {
				return nil, wire.Validation(messageDuplicates)
			}
		}
	}
	out := &batchGetItemOutput{Responses: make(map[string][]attr.Item), UnprocessedKeys: make(map[string]*unprocessedKeys)}
	var bills bills
	size := 0
	for i, r := range reads {
		if err := r.answer(tables[i], out, &bills, &size); err != nil {
			return nil, err
		}
	}
	out.ConsumedCapacity = bills.statements(in.accounting)
	return out, nil
}

// answer reads the items of one table as long as the answer has room.
func (r batchRead) answer(t *table, out *batchGetItemOutput, bills *bills, size *int) error {
	items := []attr.Item{}
	for _, key := range r.keys {
		item, err := t.get(key, r.proj)
		if err != nil {
			return err
		}
		if n := attr.ItemSize(item); *size+n > maxBatchBytes {
			u := out.UnprocessedKeys[r.name]
			if u == nil {
				u = &unprocessedKeys{
					AttributesToGet: r.AttributesToGet, ConsistentRead: r.ConsistentRead,
					ProjectionExpression: r.ProjectionExpression, ExpressionAttributeNames: r.ExpressionAttributeNames,
				}
				out.UnprocessedKeys[r.name] = u
			}
			u.Keys = append(u.Keys, key)
			continue
		}
		*size += attr.ItemSize(item)
		bills.add(bill{t: t, table: readUnits(attr.ItemSize(item), isTrue(r.ConsistentRead))})
		if item != nil {
			items = append(items, projected(item, r.proj))
		}
	}
	out.Responses[r.name] = items
	return nil
}

// parse checks the requests as far as that goes without their tables.
func (in *batchGetItemInput) parse() ([]batchRead, error) {
	var reads []batchRead
	total := 0
	var all []expression
	var legacy []param
	for _, name := range slices.Sorted(maps.Keys(in.RequestItems)) {
		k := in.RequestItems[name]
		r := batchRead{keysAndAttributes: k, name: name}
		e := expressions{ExpressionAttributeNames: k.ExpressionAttributeNames}
		own := []expression{{expr.Projection, k.ProjectionExpression}}
		old := []param{{"AttributesToGet", k.AttributesToGet != nil}}
		if err := e.checkParams(own, old); err != nil {
			return nil, err
		}
		all, legacy = append(all, own...), append(legacy, old...)
		var err error
		if r.proj, err = e.projection(k.ProjectionExpression, k.AttributesToGet); err != nil {
			return nil, err
		}
		for _, raw := range k.Keys {
			key, err := itemOf(raw)
			if err != nil {
				return nil, err
			}
			r.keys = append(r.keys, key)
		}
		if total += len(r.keys); total > maxBatchReads {
			return nil, wire.Validation("Too many items requested for the BatchGetItem call")
		}
		reads = append(reads, r)
	}
	// One table's expression does not go with another's old parameter either.
	var e expressions
	return reads, e.checkParams(unique(all), uniqueParams(legacy))
}

// unique is one of the given expressions, if any is given.
func unique(all []expression) []expression {
	for _, x := range all {
		if x.given() {
			return []expression{x}
		}
	}
	return nil
}

func uniqueParams(all []param) []param {
	for _, p := range all {
		if p.given {
			return []param{p}
		}
	}
	return nil
}
