// Package lanes runs the records of batches so that records with the same key never overlap and keep their order, while
// records with different keys run in parallel up to a limit.
//
// A lane is what one key needs: the records of that key, of which at most one runs. Lanes span batches, so two batches that
// run at the same time do not overlap within a key either. Among the records of a batch that may start, the one that comes
// first in the batch starts first: when a batch has to be cut short, what is finished is mostly a prefix.
//
// A batch is handed over as a whole, and a worker stays with it while it has something to start. So a record costs no
// goroutine, channel or lock: taking one is a compare-and-swap in the batch's bitmap. The lock is for what concerns several
// batches, and is taken a few times for each of them.
//
// It knows indexes and keys. It must not know records, handlers or errors.
package lanes

import (
	"slices"
	"sync"
)

// Free is the key of records that have no lane: they may run at any time.
const Free uint64 = 0

// Pool runs batches. It is safe for concurrent use. It owns at most limit goroutines, which exist only while there is
// something to run.
type Pool struct {
	limit int
	work  func() // p.worker, once, so that starting a goroutine allocates nothing

	mu      sync.Mutex
	running int      // goroutines
	active  []*Batch // those that are not done, in the order of Start
	ready   []*Batch // those of them that may have a record to start and nobody who does; likewise
}

// New returns a pool that runs at most limit records at a time.
func New(limit int) *Pool {
	p := &Pool{limit: limit}
	p.work = p.worker
	return p
}

// Runner is what a batch does with its records.
type Runner interface {
	// Do runs record i and says how its lane goes on. Ending its goroutine is as GiveUp. It must not panic.
	Do(i int) Next
}

// Next is how a lane goes on after a record.
type Next int

const (
	// GiveUp gives up the later records of the same key in this batch: Do is not called for them.
	GiveUp Next = iota
	// GoOn lets the next one start.
	GoOn
	// Later says that the record is not settled. Its lane waits, and takes no goroutine, until Batch.Resume lets Do be called
	// for it again.
	Later
)

// Start begins to call r.Do(i) for i in [0, len(keys)) and returns at once. The order of calls to Start is the order of the
// batches within a key. b must be zero. Neither b nor keys may be used for anything else before b.Wait has returned.
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
		var open uint64 // nobody else sees b yet
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

// queue lets the lane of a batch wait for the one with the same key in the latest batch that has not finished with it. It
// reports whether there is one. The caller holds the lock.
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

// offer says that a batch may have a record to start, and starts a worker if there may be another one. The caller holds
// the lock.
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

// worker runs records until none may start. Each worker starts the next one, so fast handlers do not wake more of them than
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

// pick takes a record of the oldest batch that has one. The caller holds the lock.
//
// A batch without one leaves the list: its records that become ready later do so by a worker that is with the batch, which
// then looks for one itself.
func (p *Pool) pick() (*Batch, int32) {
	for len(p.ready) > 0 {
		if i, ok := p.ready[0].take(); ok {
			return p.ready[0], i
		}
		p.ready = slices.Delete(p.ready, 0, 1)
	}
	return nil, 0
}

// handOver ends a lane that another batch may wait for, and lets that batch go on.
func (p *Pool) handOver(b *Batch, head int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b.cells[head].state.Store(finished)
	next, ok := b.waiting[head]
	if !ok {
		return // it has withdrawn
	}
	delete(b.waiting, head)
	next.b.open(next.head)
	p.offer(next.b)
}

// remove forgets a batch that is done.
func (p *Pool) remove(b *Batch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	same := func(other *Batch) bool { return other == b }
	p.active = slices.DeleteFunc(p.active, same)
	p.ready = slices.DeleteFunc(p.ready, same)
}

// withdraw takes the lanes of b that wait for other batches out of their queues. It returns how many records that were.
func (p *Pool) withdraw(b *Batch) (records int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, before := range p.active {
		for head, w := range before.waiting {
			if w.b != b {
				continue
			}
			// Whoever waits for b's lane waits for the one before it from now on.
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
