// Package lanes runs the records of batches. Records with the same key never overlap and keep their order. Records with different
// keys run in parallel up to a limit.
//
// A lane is the records of one key, of which at most one runs at a time. Lanes span batches: two batches that run at the same
// time do not overlap within a key either. Of the records of a batch that may start, the first in the batch starts first. So when
// a batch is cut short, its finished records are mostly a prefix.
//
// A batch is handed over as a whole, and a worker stays with the batch while it has a record to start. So a record costs no
// goroutine, channel or lock: taking a record is a compare-and-swap in the batch's bitmap. The lock is only for what concerns
// several batches, and is taken a few times per batch.
//
// It knows indexes and keys. It must not know records, handlers or errors.
package lanes

import (
	"slices"
	"sync"
)

// Free is the key of records without a lane. They may run at any time.
const Free uint64 = 0

// Pool runs batches. It is safe for concurrent use. It owns at most limit goroutines, which exist only while there are records to
// run.
type Pool struct {
	limit int
	work  func() // p.worker as a value, so that starting a goroutine allocates nothing

	mu      sync.Mutex
	running int      // goroutines
	active  []*Batch // batches that are not done, in the order of Start
	ready   []*Batch // active batches that may have a record to start and no worker that takes it, in the order in which they were offered
}

// New returns a pool that runs at most limit records at a time.
func New(limit int) *Pool {
	p := &Pool{limit: limit}
	p.work = p.worker
	return p
}

// Runner is what a batch does with its records.
type Runner interface {
	// Do runs record i and says how its lane goes on. If Do ends its goroutine, the lane goes on as after GiveUp. Do must not
	// panic.
	Do(i int) Next
}

// Next is how a lane goes on after a record.
type Next int

const (
	// GiveUp gives up the later records of the same key in this batch: Do is not called for them.
	GiveUp Next = iota
	// GoOn lets the next record start.
	GoOn
	// Later says that the record is not settled. Its lane waits, without a goroutine, until Batch.Resume lets Do be called for
	// the record again.
	Later
)

// Start begins to call r.Do(i) for i in [0, len(keys)) and returns at once. Within a key, batches run in the order of their
// Starts. b must be zero. Neither b nor keys may be used for anything else before b.Wait has returned.
func (p *Pool) Start(b *Batch, keys []uint64, r Runner) {
	b.init(p, keys, r)
	if len(keys) == 0 {
		close(b.done)
		return
	}
	b.link()

	p.mu.Lock()
	defer p.mu.Unlock()
	alone := len(p.active) == 0
	for word := range b.ready {
		var open uint64 // no other goroutine sees b yet
		for i := word * 64; i < min(word*64+64, len(b.cells)); i++ {
			if b.cells[i].head == int32(i) && (alone || !p.queue(b, int32(i))) {
				open |= 1 << (i % 64)
			}
		}
		b.ready[word].Store(open)
	}
	p.active = append(p.active, b)
	p.offer(b)
}

// queue lets a lane wait for the lane with the same key in the latest batch that has not finished with the key. It reports
// whether there is such a batch. The caller holds the lock.
func (p *Pool) queue(b *Batch, head int32) bool {
	key := b.keys[head]
	if key == Free {
		return false
	}
	for i := len(p.active) - 1; i >= 0; i-- {
		if before := p.active[i]; before.follow(key, waiter{b, head}) {
			return true
		}
	}
	return false
}

// offer says that a batch may have a record to start. It starts a worker unless the limit is reached. The caller holds the lock.
func (p *Pool) offer(b *Batch) {
	if !b.hasOpen() {
		return
	}
	if !slices.Contains(p.ready, b) {
		p.ready = append(p.ready, b)
	}
	p.spawn()
}

func (p *Pool) spawn() {
	if p.running < p.limit {
		p.running++
		go p.work()
	}
}

// worker runs records until no record may start. Each worker starts the next worker, so fast handlers wake no more workers than
// they keep busy.
func (p *Pool) worker() {
	for {
		p.mu.Lock()
		b, i := p.pick()
		if b == nil {
			p.running--
			p.mu.Unlock()
			return
		}
		if slices.ContainsFunc(p.ready, (*Batch).hasOpen) {
			p.spawn()
		}
		p.mu.Unlock()
		b.drain(i)
	}
}

// pick takes a record of the first offered batch that has one. The caller holds the lock.
//
// A batch without a record that may start leaves the list. When one of its records becomes ready later, the worker that made it
// ready is still with the batch, and looks for a record itself.
func (p *Pool) pick() (*Batch, int32) {
	for len(p.ready) > 0 {
		if i, ok := p.ready[0].take(); ok {
			return p.ready[0], i
		}
		p.ready = slices.Delete(p.ready, 0, 1)
	}
	return nil, 0
}

// handOver ends a lane that another batch may wait for, and lets the other batch go on.
func (p *Pool) handOver(b *Batch, head int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b.cells[head].state.Store(finished)
	next, ok := b.waiting[head]
	if !ok {
		return // the other batch has withdrawn
	}
	delete(b.waiting, head)
	next.b.open(next.head)
	p.offer(next.b)
}

func (p *Pool) remove(b *Batch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	same := func(other *Batch) bool { return other == b }
	p.active = slices.DeleteFunc(p.active, same)
	p.ready = slices.DeleteFunc(p.ready, same)
}

// withdraw takes the lanes of b that wait for other batches out of their queues. It returns how many records they have.
func (p *Pool) withdraw(b *Batch) (records int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, before := range p.active {
		for head, w := range before.waiting {
			if w.b != b {
				continue
			}
			// What waits for b's lane waits for the lane before it from now on.
			if after, ok := b.waiting[w.head]; ok {
				before.waiting[head] = after
				delete(b.waiting, w.head)
			} else {
				delete(before.waiting, head)
				before.cells[head].state.CompareAndSwap(awaited, going)
			}
			b.cells[w.head].state.Store(finished)
			records += b.length(w.head)
		}
	}
	return records
}
