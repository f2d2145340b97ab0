package fastget

import (
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
)

// Answer lends the memory of one call's result. Its zero value is ready for use. It is safe for concurrent use, because a client
// may make several requests for one call.
type Answer struct {
	mu       sync.Mutex
	lent     []*memory
	released bool
}

// Option makes a call of GetRecords read fast, into memory that is a's until Release. It changes nothing for a protocol other
// than JSON 1.1, such as CBOR.
func (a *Answer) Option(o *kinesis.Options) { o.Protocol = Wrap(o.Protocol, a) }

// Release takes the memory back for other calls. After it nobody may look at the result, except at its strings. Without Release
// the memory stays the result's own.
func (a *Answer) Release() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.released = true
	for _, m := range a.lent {
		m.giveBack()
	}
	a.lent = nil
}

// borrow returns memory for one result. Without an Answer it is new memory, because it is never taken back.
func (a *Answer) borrow() *memory {
	if a == nil {
		return new(memory)
	}
	return memories.Get().(*memory)
}

// lend notes a complete result.
func (a *Answer) lend(m *memory) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.released { // otherwise another request of the call was faster
		a.lent = append(a.lent, m)
	}
}

// memory is what a result is made of, except the text of its strings, which can outlive it.
type memory struct {
	data    []byte
	records []types.Record
	strings []string
	times   []time.Time
}

var memories = sync.Pool{New: func() any { return new(memory) }}

// giveBack clears all pointers, so that a forbidden look at the result finds nothing rather than another result.
func (m *memory) giveBack() {
	clear(m.records)
	clear(m.strings)
	if cap(m.data) <= maxKept {
		memories.Put(m)
	}
}

// resize returns a slice of length n that is not nil, in the memory of s if it has room. Its elements have any values.
func resize[T any](s []T, n int) []T {
	if s == nil {
		return make([]T, n)
	}
	return slices.Grow(s[:0], n)[:n]
}
