// Package lanes runs the records of batches so that records with the same key never overlap and keep their order, while
// records with different keys run in parallel up to a limit.
//
// A lane is what one key needs: the records of that key which wait, and at most one that runs. Lanes span batches, so two
// batches that run at the same time do not overlap within a key either. Among the records of a batch that may start, the
// one that comes first in the batch starts first: when a batch has to be cut short, what is finished is mostly a prefix.
//
// It knows indexes and keys. It must not know records, handlers or errors.
package lanes

import (
	"math/bits"
	"slices"
	"sync"
)

// Free is the key of records that have no lane: they may run at any time.
const Free uint64 = 0

// Pool runs batches. It is safe for concurrent use. It owns at most limit goroutines, which exist only while there is
// something to run.
type Pool struct {
	limit int

	mu      sync.Mutex
	running int
	batches []*batch            // those with a record that may start, oldest first
	lanes   map[uint64][]waiter // present while a batch holds the key; the batches that wait for it, oldest first
}

type waiter struct {
	b     *batch
	index int32
}

// batch is one call of Run.
type batch struct {
	do   func(int) bool
	keys []uint64
	next []int32  // the next record with the same key in this batch, or -1
	open []uint64 // bit i: record i may start
	low  int      // no word of open before this one has a bit
	may  int      // how many bits open has
	left int      // records that have neither run nor been given up
	done chan struct{}
}

// New returns a pool that runs at most limit records at a time.
func New(limit int) *Pool {
	return &Pool{limit: limit, lanes: make(map[uint64][]waiter)}
}

// Run calls do(i) for i in [0, len(keys)), and returns when no call is running and none will start. If do returns false or
// ends its goroutine, the later records of the same key in this batch are given up: do is not called for them. do must not
// panic.
func (p *Pool) Run(keys []uint64, do func(i int) (goOn bool)) {
	n := len(keys)
	if n == 0 {
		return
	}
	b := &batch{
		do:   do,
		keys: keys,
		next: make([]int32, n),
		open: make([]uint64, (n+63)/64),
		left: n,
		done: make(chan struct{}),
	}
	heads := b.link()

	p.mu.Lock()
	for _, i := range heads {
		key := keys[i]
		if key == Free {
			b.start(i)
			continue
		}
		if waiting, held := p.lanes[key]; held {
			p.lanes[key] = append(waiting, waiter{b, i})
			continue
		}
		p.lanes[key] = nil
		b.start(i)
	}
	if b.may > 0 {
		p.batches = append(p.batches, b)
	}
	p.spawn(b.may)
	p.mu.Unlock()
	<-b.done
}

// link connects the records of each key and returns the first of each.
func (b *batch) link() []int32 {
	heads := make([]int32, 0, len(b.keys))
	last := make(map[uint64]int32, len(b.keys))
	for i, key := range b.keys {
		b.next[i] = -1
		if key != Free {
			before, seen := last[key]
			last[key] = int32(i)
			if seen {
				b.next[before] = int32(i)
				continue
			}
		}
		heads = append(heads, int32(i))
	}
	return heads
}

func (b *batch) start(i int32) {
	word := int(i / 64)
	b.open[word] |= 1 << (i % 64)
	b.low = min(b.low, word)
	b.may++
}

// take returns the first record that may start.
func (b *batch) take() int32 {
	for b.open[b.low] == 0 {
		b.low++
	}
	bit := bits.TrailingZeros64(b.open[b.low])
	b.open[b.low] &^= 1 << bit
	b.may--
	return int32(b.low*64 + bit)
}

// spawn starts goroutines for as many new records. The caller holds the lock.
func (p *Pool) spawn(records int) {
	for range min(records, p.limit-p.running) {
		p.running++
		go p.work()
	}
}

// work runs records until none may start.
func (p *Pool) work() {
	for {
		p.mu.Lock()
		if len(p.batches) == 0 {
			p.running--
			p.mu.Unlock()
			return
		}
		b := p.batches[0]
		i := b.take()
		if b.may == 0 {
			p.batches = slices.Delete(p.batches, 0, 1)
		}
		p.mu.Unlock()
		if !p.run(b, i) {
			return
		}
	}
}

// run runs one record and then settles its lane. It does not return if do ends the goroutine: the deferred part then
// settles the lane and hands the goroutine's place on.
func (p *Pool) run(b *batch, i int32) bool {
	goOn, returned := false, false
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.settle(b, i, goOn)
		if !returned {
			p.running--
			p.spawn(1)
		}
	}()
	goOn = b.do(int(i))
	returned = true
	return true
}

// settle takes a record off its lane and lets the next one start. The caller holds the lock.
func (p *Pool) settle(b *batch, i int32, goOn bool) {
	b.left--
	next := b.next[i]
	if !goOn {
		for ; next >= 0; next = b.next[next] {
			b.left--
		}
	}
	if b.left == 0 {
		close(b.done)
	}
	if next >= 0 {
		p.ready(b, next)
		return
	}
	key := b.keys[i]
	if key == Free {
		return
	}
	waiting := p.lanes[key]
	if len(waiting) == 0 {
		delete(p.lanes, key)
		return
	}
	p.lanes[key] = waiting[1:]
	p.ready(waiting[0].b, waiting[0].index)
	p.spawn(1)
}

func (p *Pool) ready(b *batch, i int32) {
	if b.may == 0 {
		p.batches = append(p.batches, b)
	}
	b.start(i)
}
