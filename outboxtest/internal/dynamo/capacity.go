package dynamo

import (
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
)

// Bytes that one unit reads or writes.
const (
	readUnit  = 4 << 10
	writeUnit = 1 << 10
)

// consumedCapacity is the API's account of what an operation cost.
type consumedCapacity struct {
	TableName              string
	CapacityUnits          float64
	ReadCapacityUnits      float64             `json:",omitempty"`
	WriteCapacityUnits     float64             `json:",omitempty"`
	Table                  *capacity           `json:",omitempty"`
	LocalSecondaryIndexes  map[string]capacity `json:",omitempty"`
	GlobalSecondaryIndexes map[string]capacity `json:",omitempty"`
}

type capacity struct {
	CapacityUnits      float64
	ReadCapacityUnits  float64 `json:",omitempty"`
	WriteCapacityUnits float64 `json:",omitempty"`
}

// bill is what was consumed of one table.
type bill struct {
	t       *table
	table   float64
	indexes map[*index]float64
	// split is set where the response tells reads from writes: "read", "write" or nothing.
	split string
}

func unitsOf(size, unit int) float64 { return float64(max(1, (size+unit-1)/unit)) }

// readUnits is the cost of reading so many bytes.
func readUnits(size int, consistent bool) float64 {
	if consistent {
		return unitsOf(size, readUnit)
	}
	return unitsOf(size, readUnit) / 2
}

// writeBill is the cost of a write: the larger of the item's two versions, and the change to every
// index.
func writeBill(o outcome) bill {
	b := bill{t: o.t, table: unitsOf(max(attr.ItemSize(o.oldItem()), attr.ItemSize(o.next)), writeUnit)}
	for _, i := range o.t.indexes() {
		if n := i.writeUnits(o.oldItem(), o.next); n > 0 {
			if b.indexes == nil {
				b.indexes = make(map[*index]float64)
			}
			b.indexes[i] = n
		}
	}
	return b
}

// writeUnits is the cost of bringing the index up to date.
func (i *index) writeUnits(old, next attr.Item) float64 {
	before, after := i.entrySize(old), i.entrySize(next)
	switch {
	case before == 0 && after == 0:
		return 0
	case before == 0 || after == 0:
		return unitsOf(before+after, writeUnit)
	}
	a, b := i.project(old), i.project(next)
	if i.key.place(a) != i.key.place(b) {
		return unitsOf(before, writeUnit) + unitsOf(after, writeUnit)
	}
	if attr.EqualItems(a, b) {
		return 0
	}
	return unitsOf(max(before, after), writeUnit)
}

func (b bill) total() float64 {
	n := b.table
	for _, u := range b.indexes {
		n += u
	}
	return n
}

// add sums up two bills of one table.
func (b bill) add(c bill) bill {
	sum := bill{t: b.t, table: b.table + c.table, split: b.split}
	for _, from := range []map[*index]float64{b.indexes, c.indexes} {
		for i, u := range from {
			if sum.indexes == nil {
				sum.indexes = make(map[*index]float64)
			}
			sum.indexes[i] += u
		}
	}
	return sum
}

func (b bill) capacity(units float64) capacity {
	c := capacity{CapacityUnits: units}
	switch b.split {
	case "read":
		c.ReadCapacityUnits = units
	case "write":
		c.WriteCapacityUnits = units
	}
	return c
}

// statement is the bill as the response shows it; nil if it was not asked for.
func (a accounting) statement(b bill) *consumedCapacity {
	mode := str(a.ReturnConsumedCapacity)
	if mode != "TOTAL" && mode != "INDEXES" {
		return nil
	}
	total := b.capacity(b.total())
	c := &consumedCapacity{
		TableName: b.t.name, CapacityUnits: total.CapacityUnits,
		ReadCapacityUnits: total.ReadCapacityUnits, WriteCapacityUnits: total.WriteCapacityUnits,
	}
	if mode == "TOTAL" {
		return c
	}
	table := b.capacity(b.table)
	c.Table = &table
	for i, u := range b.indexes {
		into := &c.LocalSecondaryIndexes
		if i.global {
			into = &c.GlobalSecondaryIndexes
		}
		if *into == nil {
			*into = make(map[string]capacity)
		}
		(*into)[i.name] = b.capacity(u)
	}
	return c
}

// asked reports whether the response shall tell costs at all.
func (a accounting) asked() bool {
	mode := str(a.ReturnConsumedCapacity)
	return mode == "TOTAL" || mode == "INDEXES"
}

func (a accounting) forWrite(o outcome) *consumedCapacity {
	if !a.asked() {
		return nil
	}
	return a.statement(writeBill(o))
}

func (a accounting) forRead(t *table, size int, consistent bool) *consumedCapacity {
	return a.statement(bill{t: t, table: readUnits(size, consistent)})
}

type itemCollectionMetrics struct {
	ItemCollectionKey   attr.Item
	SizeEstimateRangeGB [2]float64
}

// metrics tells about the item collection, which only tables with local indexes have. Collections
// here are small.
func (c collections) metrics(o outcome, item attr.Item) *itemCollectionMetrics {
	if str(c.ReturnItemCollectionMetrics) != "SIZE" || len(o.t.local) == 0 {
		return nil
	}
	hash := o.t.key.hash[0].name
	return &itemCollectionMetrics{ItemCollectionKey: attr.Item{hash: item[hash]}, SizeEstimateRangeGB: [2]float64{0, 1}}
}
