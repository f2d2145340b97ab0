package dynamo

import (
	"strings"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/expr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// pageBytes is how much a query or scan reads at a time; the item that passes it still counts.
const pageBytes = 1 << 20

// selection is what queries and scans have in common in their requests.
type selection struct {
	TableName            *string  `wire:"required,table"`
	IndexName            *string  `wire:"name,min=3,max=255"`
	Select               *string  `wire:"enum=SPECIFIC_ATTRIBUTES|COUNT|ALL_ATTRIBUTES|ALL_PROJECTED_ATTRIBUTES"`
	AttributesToGet      []string `wire:"min=1,max=255"`
	ConsistentRead       *bool
	ExclusiveStartKey    map[string]attr.Raw
	ProjectionExpression *string
	FilterExpression     *string
	ConditionalOperator  *string `wire:"enum=OR|AND"`
	accounting
	expressions
}

type pageOutput struct {
	// Items is nil for a count.
	Items            any `json:",omitempty"`
	Count            int
	ScannedCount     int
	LastEvaluatedKey attr.Item         `json:",omitempty"`
	ConsumedCapacity *consumedCapacity `json:",omitempty"`
}

// reading is a query or scan in progress.
type reading struct {
	*selection
	t     *table
	i     *index // nil for the table itself
	start attr.Item
	proj  *expr.Proj
	cond  *expr.Cond
}

// startValues checks the values of the key to start after.
func (s *selection) startValues() (attr.Item, error) {
	if s.ExclusiveStartKey == nil {
		return nil, nil
	}
	key, err := attr.Items(s.ExclusiveStartKey)
	if err == nil {
		return key, nil
	}
	message := wire.AsError(err).Message
	for _, bare := range []string{"contains duplicates", "number set", "numeric value", "significant digits", "number with magnitude"} {
		if strings.Contains(message, bare) {
			return nil, err
		}
	}
	return nil, wire.Validation("The provided starting key is invalid: " + message)
}

// checkSelect checks Select against the other ways of saying what to return.
func (s *selection) checkSelect(prefix string) error {
	kind := str(s.Select)
	if kind == "" {
		return nil
	}
	chosen := kind
	if kind == "COUNT" {
		chosen = "only the Count"
	}
	switch {
	case kind == "SPECIFIC_ATTRIBUTES":
		if s.ProjectionExpression == nil && s.AttributesToGet == nil {
			return wire.Validation(prefix + "Must specify the AttributesToGet or ProjectionExpression when choosing to get SPECIFIC_ATTRIBUTES")
		}
	case s.ProjectionExpression != nil:
		return wire.Validation(prefix + "Cannot specify the ProjectionExpression when choosing to get " + chosen)
	case s.AttributesToGet != nil:
		return wire.Validation(prefix + "Cannot specify the AttributesToGet when choosing to get " + chosen)
	case kind == "ALL_PROJECTED_ATTRIBUTES" && s.IndexName == nil:
		return wire.Validation(prefix + "ALL_PROJECTED_ATTRIBUTES can be used only when Querying using an IndexName")
	}
	return nil
}

// open finds the table and the index to read. The caller holds the lock.
func (db *DB) open(s *selection) (*reading, error) {
	t, err := db.forItems(*s.TableName)
	if err != nil {
		return nil, err
	}
	r := &reading{selection: s, t: t}
	if s.IndexName == nil {
		return r, nil
	}
	if r.i = t.index(*s.IndexName); r.i == nil {
		return nil, wire.Validation("The table does not have the specified index: " + *s.IndexName)
	}
	if r.i.global && isTrue(s.ConsistentRead) {
		return nil, wire.Validation("Consistent reads are not supported on global secondary indexes")
	}
	return r, nil
}

// key is the key that is read by.
func (r *reading) key() keySchema {
	if r.i != nil {
		return r.i.key
	}
	return r.t.key
}

func (r *reading) order() *ordered {
	if r.i != nil {
		return r.i.order
	}
	return r.t.order
}

// startNames are the attributes of a key to start after: the table's and the index's.
func (r *reading) startNames() []keyAttr {
	names := r.t.key.attrs()
	if r.i != nil {
		for _, a := range r.i.key.attrs() {
			if !r.t.key.has(a.name) {
				names = append(names, a)
			}
		}
	}
	return names
}

// checkStart checks the index's part of the key to start after, and then the table's.
func (r *reading) checkStart() error {
	if r.i != nil {
		for _, a := range r.i.key.attrs() {
			v := r.start[a.name]
			if !v.Exists() {
				return wire.Validation("The provided starting key is invalid")
			}
			if v.Kind() != a.kind {
				return wire.Validation(messageKeyMismatch)
			}
		}
	}
	if err := r.t.key.checkKey(r.tableKey()); err != nil {
		return wire.Validation("The provided starting key is invalid: " + wire.AsError(err).Message)
	}
	return nil
}

// tableKey is the table's part of the key to start after.
func (r *reading) tableKey() attr.Item {
	key := make(attr.Item, 2)
	for _, a := range r.t.key.attrs() {
		if v, ok := r.start[a.name]; ok {
			key[a.name] = v
		}
	}
	return key
}

// place is where the key to start after lies.
func (r *reading) place() entryKey {
	if r.i == nil {
		return r.t.key.place(r.start)
	}
	place := r.i.key.place(r.start)
	place.tie = r.t.key.tie(r.start)
	return place
}

// checkAttributes checks what is returned and filtered against the keys and the index.
func (r *reading) checkAttributes() error {
	if r.proj != nil {
		if err := r.t.checkScalars(nested(r.proj.Paths()...)); err != nil {
			return err
		}
	}
	if r.i != nil && r.i.global && r.i.projectedKeys != nil {
		if str(r.Select) == "ALL_ATTRIBUTES" {
			return wire.Validation("One or more parameter values were invalid: Select type ALL_ATTRIBUTES is not supported for global secondary index " +
				r.i.name + " because its projection type is not ALL")
		}
		if missing := r.notProjected(); len(missing) > 0 {
			return wire.Validation("One or more parameter values were invalid: Global secondary index " + r.i.name +
				" does not project [" + strings.Join(missing, ", ") + "]")
		}
	}
	if r.cond != nil {
		return r.t.checkScalars(r.cond.Heads())
	}
	return nil
}

// notProjected are the attributes asked for that the index does not carry.
func (r *reading) notProjected() []string {
	if r.i == nil || r.i.projectedKeys == nil || r.proj == nil {
		return nil
	}
	var missing []string
	for _, p := range r.proj.Paths() {
		if _, ok := r.i.projectedKeys[p.Head()]; !ok {
			missing = append(missing, p.Head())
		}
	}
	return missing
}

// fetches reports whether items are read from the table although an index is: a local index can
// give what it does not carry.
func (r *reading) fetches() bool {
	return r.i != nil && !r.i.global && r.i.projectedKeys != nil &&
		(str(r.Select) == "ALL_ATTRIBUTES" || len(r.notProjected()) > 0)
}

// page reads from the first entry that next gives to the last, or to the end of the page.
func (r *reading) page(limit *int32, next func() *entry) *pageOutput {
	out := &pageOutput{}
	items := []attr.Item{}
	consistent := isTrue(r.ConsistentRead)
	fetch := r.fetches()
	var indexBytes, tableBytes int
	fetched := 0.0
	for e := next(); e != nil; e = next() {
		item := e.rec.item
		size := e.rec.size
		if r.i != nil {
			if !fetch {
				item = r.i.project(item)
			}
			size = r.i.entrySize(e.rec.item)
			indexBytes += size
		} else {
			tableBytes += size
		}
		if fetch {
			fetched += readUnits(e.rec.size, consistent)
		}
		out.ScannedCount++
		if r.cond == nil || r.cond.Match(item) {
			items = append(items, projected(item, r.proj))
		}
		if limit != nil && out.ScannedCount >= int(*limit) || indexBytes+tableBytes >= pageBytes {
			out.LastEvaluatedKey = r.lastKey(e.rec.item)
			break
		}
	}
	out.Count = len(items)
	if str(r.Select) != "COUNT" {
		out.Items = items
	}
	b := bill{t: r.t, table: readUnits(tableBytes, consistent)}
	if r.i != nil {
		b.table = fetched
		b.indexes = map[*index]float64{r.i: readUnits(indexBytes, consistent)}
	}
	out.ConsumedCapacity = r.statement(b)
	return out
}

func (r *reading) lastKey(item attr.Item) attr.Item {
	key := make(attr.Item, 4)
	for _, a := range r.startNames() {
		key[a.name] = item[a.name]
	}
	return key
}
