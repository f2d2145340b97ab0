package lanes

import (
	"math/bits"
	"sync/atomic"
)

// Batch is what one call of Start runs. Its zero value is ready for Start.
type Batch struct {
	pool    *Pool
	runner  Runner
	keys    []uint64
	cells   []cell          // one for each record
	ready   []atomic.Uint64 // bit i: record i may start
	low     atomic.Int32    // where to look first in ready; a hint
	left    atomic.Int32    // records that have neither run nor been given up
	done    chan struct{}
	waiting map[int32]waiter // by the head of a lane here: what goes on after the lane; guarded by the pool's lock

	table []int32 // the heads, hashed by their keys, plus 1; nil for a small batch
	shift uint8

	smallCells [small]cell
	smallReady [1]atomic.Uint64
}

// small is how many records need no memory of their own.
const small = 8

// cell is a record's place in its lane.
type cell struct {
	next  int32        // the next record of the lane in this batch, or -1
	head  int32        // the first record
	tail  int32        // the last record; valid in the head's cell only
	state atomic.Int32 // the state of the lane; valid in the head's cell only
}

// The states of a lane.
const (
	going    = iota
	awaited  // another batch waits for the lane
	finished // the lane's records in this batch have run or been given up
)

type waiter struct {
	b    *Batch
	head int32
}

func (b *Batch) init(p *Pool, keys []uint64, r Runner) {
	b.pool, b.runner, b.keys, b.done = p, r, keys, make(chan struct{})
	n := len(keys)
	b.left.Store(int32(n))
	b.cells, b.ready = b.smallCells[:min(n, small)], b.smallReady[:]
	if n > small {
		b.cells, b.ready = make([]cell, n), make([]atomic.Uint64, (n+63)/64)
		size := bits.Len(uint(2*n - 1)) // at most half full
		b.table, b.shift = make([]int32, 1<<size), uint8(64-size)
	}
}

// link connects the records of each key.
func (b *Batch) link() {
	for i, key := range b.keys {
		c, at := &b.cells[i], int32(i)
		c.next, c.head, c.tail = -1, at, at
		if key == Free {
			continue
		}
		if head := b.headOf(key, at); head != at {
			c.head = head
			b.cells[b.cells[head].tail].next = at
			b.cells[head].tail = at
		}
	}
}

// headOf returns the head of the key's lane. It is record i if no earlier record has the key.
func (b *Batch) headOf(key uint64, i int32) int32 {
	if b.table == nil {
		if head := b.find(key, int(i)); head >= 0 {
			return head
		}
		return i
	}
	mask := len(b.table) - 1
	slot := b.slot(key)
	for ; b.table[slot] != 0; slot = (slot + 1) & mask {
		if head := b.table[slot] - 1; b.keys[head] == key {
			return head
		}
	}
	b.table[slot] = i + 1
	return i
}

// find returns the head of the key's lane among the first n records, or -1.
func (b *Batch) find(key uint64, n int) int32 {
	if b.table == nil {
		for i, k := range b.keys[:n] {
			if k == key {
				return int32(i)
			}
		}
		return -1
	}
	mask := len(b.table) - 1
	for slot := b.slot(key); b.table[slot] != 0; slot = (slot + 1) & mask {
		if head := b.table[slot] - 1; b.keys[head] == key {
			return head
		}
	}
	return -1
}

func (b *Batch) slot(key uint64) int { return int(key * 0x9e3779b97f4a7c15 >> b.shift) }

// follow lets w wait for the key's lane here unless the lane has finished. The caller holds the pool's lock.
func (b *Batch) follow(key uint64, w waiter) bool {
	head := b.find(key, len(b.keys))
	if head < 0 || !b.cells[head].state.CompareAndSwap(going, awaited) {
		return false
	}
	if b.waiting == nil {
		b.waiting = make(map[int32]waiter)
	}
	b.waiting[head] = w
	return true
}

func (b *Batch) open(i int32) {
	word := i / 64
	b.ready[word].Or(1 << (i % 64))
	if b.low.Load() > word {
		b.low.Store(word)
	}
}

func (b *Batch) hasOpen() bool {
	for i := range b.ready {
		if b.ready[i].Load() != 0 {
			return true
		}
	}
	return false
}

// take returns the first record that may start. If several workers change the hint at once, take may look in the wrong place
// first, and find an earlier record last.
func (b *Batch) take() (i int32, ok bool) {
	for start := b.low.Load(); ; start = 0 {
		for word := start; int(word) < len(b.ready); word++ {
			for open := b.ready[word].Load(); open != 0; open = b.ready[word].Load() {
				if b.ready[word].CompareAndSwap(open, open&(open-1)) {
					if word > start {
						b.low.Store(word)
					}
					return word*64 + int32(bits.TrailingZeros64(open)), true
				}
			}
		}
		if start == 0 {
			return 0, false
		}
	}
}

// drain runs record i and then every record that may start. If Do ends the goroutine, drain does not return: its deferred part
// settles the lane and hands the goroutine's place on.
func (b *Batch) drain(i int32) {
	settled, returned := int32(0), false
	defer func() {
		if !returned {
			settled += b.settle(i, false)
			p := b.pool
			p.mu.Lock()
			p.running--
			p.offer(b)
			if len(p.ready) > 0 {
				p.spawn()
			}
			p.mu.Unlock()
		}
		b.count(settled)
	}()
	for ok := true; ok; i, ok = b.take() {
		if next := b.runner.Do(int(i)); next != Later {
			settled += b.settle(i, next == GoOn)
		}
	}
	returned = true
}

// settle lets the next record of i's lane start, or gives up the rest of the lane. It returns how many records are settled.
func (b *Batch) settle(i int32, goOn bool) int32 {
	c, n := &b.cells[i], int32(1)
	if c.next >= 0 {
		if goOn {
			b.open(c.next)
			return 1
		}
		n = int32(b.length(i))
	}
	if b.keys[i] != Free && !b.cells[c.head].state.CompareAndSwap(going, finished) {
		b.pool.handOver(b, c.head)
	}
	return n
}

// length returns how many records the lane has from i on.
func (b *Batch) length(i int32) (n int) {
	for ; i >= 0; i = b.cells[i].next {
		n++
	}
	return n
}

// count subtracts settled records from those that are left. The last record ends the batch.
func (b *Batch) count(settled int32) {
	if settled > 0 && b.left.Add(-settled) == 0 {
		b.pool.remove(b)
		close(b.done)
	}
}

// Resume lets Do be called again for a record for which Do returned Later, or is about to. Call it once for each Later. Wait does
// not give up such a record: Resume it when the batch is to end.
func (b *Batch) Resume(i int) {
	p := b.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	b.open(int32(i))
	p.offer(b)
}

// Done is closed when no call of Do is running and none will start.
func (b *Batch) Done() <-chan struct{} { return b.done }

// Wait returns when no call of Do is running and none will start. When cancel is closed, Wait gives up the records that have not
// started, including those that wait for another batch. A nil cancel is never closed.
func (b *Batch) Wait(cancel <-chan struct{}) {
	select {
	case <-b.done:
		return
	case <-cancel:
	}
	settled := int32(b.pool.withdraw(b))
	for i, ok := b.take(); ok; i, ok = b.take() {
		settled += b.settle(i, false)
	}
	b.count(settled)
	<-b.done
}
