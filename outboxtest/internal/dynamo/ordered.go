package dynamo

import (
	"cmp"
	"crypto/md5"
	"encoding/binary"
	"math/bits"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
)

// entryKey is the place of an item in a table or index: the partition first, in the order of its
// hash as a scan walks it, then the sort key, then whatever else tells entries apart.
type entryKey struct {
	part, sort, tie string
}

func (k entryKey) compare(l entryKey) int {
	return cmp.Or(cmp.Compare(k.part, l.part), cmp.Compare(k.sort, l.sort), cmp.Compare(k.tie, l.tie))
}

// partition puts the hash of a partition key in front of it. It is DynamoDB's hash, so that scans
// meet the keys in the same order and segments hold the same keys.
func partition(values []attr.Value) string {
	var k keySchema
	if len(values) > 1 {
		k.hash = make([]keyAttr, len(values))
	}
	id := ""
	for _, v := range values {
		id += k.sortable(v)
	}
	return hashOf(values) + id
}

// hashOf is the hash of a key's values, in eight bytes.
func hashOf(values []attr.Value) string {
	h := md5.New()
	_, _ = h.Write([]byte("Outliers")) // a hash never fails
	for _, v := range values {
		_, _ = h.Write(v.Stored())
	}
	return string(h.Sum(nil)[:8])
}

// tie orders items that share an index's key, as DynamoDB does: by the hash of their own key. It is
// different for every item.
func (k keySchema) tie(item attr.Item) string {
	p := k.place(item)
	var length [4]byte
	binary.BigEndian.PutUint32(length[:], uint32(len(p.part)))
	return hashOf(k.values(k.attrs(), item)) + string(length[:]) + p.part + p.sort
}

// mix spreads a number over all its bits.
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

const maxLevel = 24

// ordered is a skip list: records in the order of their keys, found in time logarithmic to their
// number and walked both ways. Readers may share it; a writer needs it alone.
type ordered struct {
	head   entry
	level  int
	length int
	seed   uint64
}

// entry is one record in an ordered list.
type entry struct {
	key  entryKey
	rec  *record
	next []*entry
	prev *entry
}

func newOrdered() *ordered {
	return &ordered{head: entry{next: make([]*entry, maxLevel)}, level: 1}
}

// before fills in the last entry of each level that lies before the key, and returns the lowest.
func (o *ordered) before(key entryKey, path *[maxLevel]*entry) *entry {
	e := &o.head
	for l := o.level - 1; l >= 0; l-- {
		for e.next[l] != nil && e.next[l].key.compare(key) < 0 {
			e = e.next[l]
		}
		if path != nil {
			path[l] = e
		}
	}
	return e
}

// from is the first entry at or after the key, nil if there is none.
func (o *ordered) from(key entryKey) *entry { return o.before(key, nil).next[0] }

// below is the last entry before the key, nil if there is none.
func (o *ordered) below(key entryKey) *entry {
	if e := o.before(key, nil); e != &o.head {
		return e
	}
	return nil
}

// set puts the record at the key, in place of the one that was there.
func (o *ordered) set(key entryKey, rec *record) {
	var path [maxLevel]*entry
	for l := o.level; l < maxLevel; l++ {
		path[l] = &o.head
	}
	if e := o.before(key, &path).next[0]; e != nil && e.key == key {
		e.rec = rec
		return
	}
	levels := o.draw()
	o.level = max(o.level, levels)
	e := &entry{key: key, rec: rec, next: make([]*entry, levels)}
	for l := range levels {
		e.next[l], path[l].next[l] = path[l].next[l], e
	}
	if path[0] != &o.head {
		e.prev = path[0]
	}
	if e.next[0] != nil {
		e.next[0].prev = e
	}
	o.length++
}

// remove deletes the entry at the key, if there is one.
func (o *ordered) remove(key entryKey) {
	var path [maxLevel]*entry
	e := o.before(key, &path).next[0]
	if e == nil || e.key != key {
		return
	}
	for l := range e.next {
		path[l].next[l] = e.next[l]
	}
	if e.next[0] != nil {
		e.next[0].prev = e.prev
	}
	o.length--
}

// draw picks the number of levels of a new entry: one more with a chance of a quarter each.
func (o *ordered) draw() int {
	o.seed += 0x9e3779b97f4a7c15
	return min(maxLevel, 1+bits.TrailingZeros64(mix(o.seed))/2)
}
