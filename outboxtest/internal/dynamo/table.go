package dynamo

import (
	"slices"
	"time"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// record is one stored version of an item. It is immutable.
type record struct {
	key  entryKey
	tie  string // what orders it among the entries of one index key
	item attr.Item
	size int
}

// throughput is provisioned capacity; zero on demand.
type throughput struct {
	read, write         int64
	increased, lowered  time.Time
	decreases           int
	maxReads, maxWrites *int64
}

// table is one table. The DB's lock guards it.
type table struct {
	name, arn, id string
	created       time.Time
	attrs         []attributeDefinition
	key           keySchema
	onDemand      bool
	onDemandSince time.Time
	provisioned   throughput
	class         string
	protected     bool
	local, global []*index
	stream        *stream
	lastStream    *stream
	ttl           string
	recovery      *recovery // nil: off
	destinations  []*destination
	tags          map[string]string

	items map[entryKey]*record
	order *ordered
	bytes int
}

// stream is a table's DynamoDB stream.
type stream struct {
	view, arn, label string
}

// index is a secondary index. It holds the table's records; what it projects is cut out on reading.
type index struct {
	name, arn     string
	key           keySchema
	global        bool
	projection    string
	nonKey        []string
	provisioned   throughput
	order         *ordered
	bytes         int
	projectedKeys map[string]struct{} // nil if everything is projected
}

func (t *table) indexes() []*index { return slices.Concat(t.global, t.local) }

func (t *table) index(name string) *index {
	for _, i := range t.indexes() {
		if i.name == name {
			return i
		}
	}
	return nil
}

// holds reports whether an item is in the index: it has the index's key, valid as a key.
func (i *index) holds(item attr.Item) bool {
	for _, a := range i.key.attrs() {
		if v := item[a.name]; v.Kind() != a.kind || empty(v) {
			return false
		}
	}
	return i.key.checkSizes(item) == nil
}

// place is where a record goes in the index.
func (i *index) place(rec *record) entryKey {
	p := i.key.place(rec.item)
	p.tie = rec.tie
	return p
}

// project cuts an item down to what the index holds of it.
func (i *index) project(item attr.Item) attr.Item {
	if i.projectedKeys == nil {
		return item
	}
	out := make(attr.Item, len(i.projectedKeys))
	for name := range i.projectedKeys {
		if v, ok := item[name]; ok {
			out[name] = v
		}
	}
	return out
}

// entrySize is the size of an item's entry in the index, 0 if it has none.
func (i *index) entrySize(item attr.Item) int {
	if item == nil || !i.holds(item) {
		return 0
	}
	return attr.ItemSize(i.project(item))
}

// setProjection notes which attributes the index carries.
func (i *index) setProjection(table keySchema) {
	if i.projection == "ALL" {
		i.projectedKeys = nil
		return
	}
	i.projectedKeys = make(map[string]struct{})
	for _, a := range append(table.attrs(), i.key.attrs()...) {
		i.projectedKeys[a.name] = struct{}{}
	}
	for _, name := range i.nonKey {
		i.projectedKeys[name] = struct{}{}
	}
}

// store puts a new version of an item in place of the old one; either may be nil.
func (t *table) store(old, next *record) {
	if old != nil {
		t.bytes -= old.size
	}
	if next != nil {
		t.bytes += next.size
		t.items[next.key] = next
		t.order.set(next.key, next)
	} else if old != nil {
		delete(t.items, old.key)
		t.order.remove(old.key)
	}
	for _, i := range t.indexes() {
		i.store(old, next)
	}
}

func (i *index) store(old, next *record) {
	stays := next != nil && i.holds(next.item)
	if stays {
		i.bytes += i.entrySize(next.item)
	}
	if old != nil && i.holds(old.item) {
		i.bytes -= i.entrySize(old.item)
		if place := i.place(old); !stays || place != i.place(next) {
			i.order.remove(place)
		}
	}
	if stays {
		i.order.set(i.place(next), next)
	}
}

// checkItem checks the keys of the table and of its indexes in an item that is to be put.
func (t *table) checkItem(item attr.Item) error {
	if err := t.key.checkItem(item); err != nil {
		return err
	}
	for _, i := range t.indexes() {
		for _, a := range i.key.attrs() {
			v := item[a.name]
			if !v.Exists() || t.key.has(a.name) {
				continue
			}
			if v.Kind() != a.kind {
				return i.mismatch(a, v.Kind())
			}
			if empty(v) {
				return hoist("One or more parameter values are not valid. A value specified for a secondary index key is not supported. " +
					"The AttributeValue for a key attribute cannot contain an empty " + kindWord(a.kind) + " value. IndexName: " + i.name + ", IndexKey: " + a.name)
			}
		}
		if err := i.key.checkSizes(item); err != nil {
			return err
		}
	}
	return nil
}

func (i *index) mismatch(a keyAttr, actual attr.Kind) error {
	return wire.Validation("One or more parameter values were invalid: Type mismatch for Index Key " + a.name +
		" Expected: " + a.kind.String() + " Actual: " + actual.String() + " IndexName: " + i.name)
}

// checkUpdated checks the keys of indexes that an update changed.
func (t *table) checkUpdated(old, next attr.Item) error {
	for _, i := range t.indexes() {
		for _, a := range i.key.attrs() {
			v := next[a.name]
			if !v.Exists() || t.key.has(a.name) || v.Equal(old[a.name]) {
				continue
			}
			if v.Kind() != a.kind {
				return wire.Validation("The update expression attempted to update the secondary index key to unsupported type")
			}
			if empty(v) {
				return hoist("One or more parameter values are not valid. The update expression attempted to update a secondary index key to a value that is not supported. " +
					"The AttributeValue for a key attribute cannot contain an empty " + kindWord(a.kind) + " value.")
			}
		}
		if err := i.key.checkSizes(next); err != nil {
			return err
		}
	}
	return nil
}
