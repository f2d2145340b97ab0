package fastget

import (
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
)

// Answer lends the memory of one call's result. Its zero value is ready. It is safe for concurrent use: a client may make several
// requests of one call.
type Answer struct {
	mu       sync.Mutex
	lent     []*memory
	released bool
}

// Option makes a call of GetRecords read fast, into memory that is a's until Release. It leaves a protocol other than JSON 1.1,
// such as CBOR, alone.
func (a *Answer) Option(o *kinesis.Options) { o.Protocol = Wrap(o.Protocol, a) }

// Release takes the memory back for other calls: nobody may look at the result any more, its strings aside. What is not released
// is the result's own.
func (a *Answer) Release() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.released = true
	for _, m := range a.lent {
		m.giveBack()
	}
	a.lent = nil
}

// borrow returns memory for one result: of its own unless it can be taken back.
func (a *Answer) borrow() *memory {
	if a == nil {
		return new(memory)
	}
	return memories.Get().(*memory)
}

// lend notes a result that is complete.
func (a *Answer) lend(m *memory) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.released { // otherwise the request was overtaken by another one of the call
		a.lent = append(a.lent, m)
	}
}

// memory is what a result is made of, but for the text of its strings, which can outlive it.
type memory struct {
	data    []byte
	records []types.Record
	strings []string
	times   []time.Time
}

var memories = sync.Pool{New: func() any { return new(memory) }}

// giveBack clears what points elsewhere. So whoever looks at the result nevertheless sees nothing, rather than another one.
func (m *memory) giveBack() {
	clear(m.records)
	clear(m.strings)
	if cap(m.data) <= maxKept {
		memories.Put(m)
	}
}

// resize returns a slice of that length that is not nil, in the old one's memory if that has room. It holds anything.
func resize[T any](s []T, n int) []T {
	if s == nil {
		return make([]T, n)
	}
	return slices.Grow(s[:0], n)[:n]
}
