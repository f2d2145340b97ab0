package adversary

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// bound is the time in which every record must be handled, or told of, after the last change for the worse. A member that can do nothing for
// minutes is given up by then, and what it held is taken and caught up with.
const bound = 10 * minute

// world is one run of a plan, inside a bubble.
type world struct {
	plan           *plan
	reached        *coverage
	stream         *stream
	kinesis        *kinesisService
	dynamo         *dynamoStream
	foreignKinesis *kinesisService
	foreignDynamo  *dynamoStream
	db             *database
	members        []*member
	history        *history
	watch          *watch
	log            *logs
	faulty         atomic.Bool
	writing        atomic.Bool
	over           chan struct{}
	background     sync.WaitGroup
	from           atomic.Pointer[time.Time] // when the group had met the stream. With StartAtLatest, what arrived before need not be handled
	expired        []*record                 // unread, of shards with a checkpoint
	trimmed        map[string]bool           // shards of which something has expired
}

func newWorld(p *plan, reached *coverage) *world {
	w := &world{plan: p, reached: reached, log: &logs{}, over: make(chan struct{}), db: newDatabase(), trimmed: map[string]bool{}}
	digits := 56
	if p.streams {
		digits = 27
	}
	w.stream = newStream(p.shards, digits)
	w.stream.skew, w.stream.limited, w.stream.padding = p.skew, p.limited, p.padding
	other := newStream((p.shards+1)/2, digits)
	other.skew = p.skew
	if p.seed%2 == 1 { // of other ids, too
		for _, s := range other.shards {
			s.id = "shardId-9" + s.id[len("shardId-0"):]
		}
	}
	w.kinesis = &kinesisService{stream: w.stream, pageShards: p.pageShards, endAlone: p.endAlone}
	w.foreignKinesis = &kinesisService{stream: other, pageShards: p.pageShards}
	w.dynamo = &dynamoStream{stream: w.stream, pageShards: p.pageShards}
	w.foreignDynamo = &dynamoStream{stream: other, pageShards: p.pageShards}
	w.db.pageRows = p.pageRows
	w.history = newHistory(w.stream, p.failing)
	w.watch = newWatch(w)
	for i := range p.members {
		w.members = append(w.members, &member{name: fmt.Sprintf("m%d", i), world: w, faults: newFaults(p.seed*31+uint64(i)+2, reached)})
	}
	w.faulty.Store(true)
	return w
}

// required says that a record must be handled or told of.
func (w *world) required(r *record) bool {
	if !w.plan.latest {
		return true
	}
	from := w.from.Load()
	return from != nil && !r.arrived.Add(-w.plan.skew).Before(*from)
}

// begin starts the members, the traffic, and the watch.
func (w *world) begin() {
	for _, m := range w.members {
		m.start()
	}
	w.writing.Store(true)
	w.background.Go(w.write)
	w.background.Go(func() {
		for w.sleep(1900 * time.Millisecond) {
			w.watch.look()
		}
	})
}

// sleep returns false when the world ends.
func (w *world) sleep(d time.Duration) bool {
	select {
	case <-w.over:
		return false
	case <-time.After(d):
		return true
	}
}

func (w *world) write() {
	random := rand.New(rand.NewPCG(w.plan.seed, 2))
	for w.sleep(w.plan.every/2 + time.Duration(random.Int64N(int64(w.plan.every)))) {
		if w.writing.Load() {
			w.stream.write(fmt.Sprintf("a%d", random.IntN(w.plan.aggregates)))
		}
	}
}

// suffer is the phase of faults.
func (w *world) suffer() {
	began := time.Now()
	for _, s := range w.plan.steps {
		time.Sleep(time.Until(began.Add(s.at)))
		s.do(w)
	}
	time.Sleep(time.Until(began.Add(w.plan.phase)))
}

// recover heals the core. Of the others, those that are not alive stay so; whatever is wrong with the rest stays wrong for ever.
func (w *world) recover() {
	w.faulty.Store(false)
	core := map[int]bool{}
	for _, i := range w.plan.core {
		core[i] = true
		w.members[i].faults.heal()
		w.members[i].start()
	}
	for i, m := range w.members {
		for _, what := range []fault{hanging, slow, slowBytes, throttled} {
			m.faults.set(what, 0) // a member that is only slow keeps its shards, and may need longer than the bound
		}
		if !core[i] && w.plan.seed>>(i%8)%3 == 0 {
			m.depart()
			w.plan.clean = false
			w.reached.count("a member is dead for ever")
		}
	}
	if len(w.plan.core) < len(w.members) {
		w.reached.count("a member stays as it is beside a healthy core")
	}
}

// progress waits until everything is handled or told of, and returns what is not after the bound.
func (w *world) progress() []*record {
	time.Sleep(10 * time.Second)
	w.writing.Store(false)
	began := time.Now()
	for {
		missing := w.history.missing(w.required)
		if len(missing) == 0 || time.Since(began) > bound || len(w.history.found()) > 0 {
			return missing
		}
		time.Sleep(time.Second)
	}
}

// tell notes what is neither handled nor told of.
func (w *world) tell(missing []*record) {
	if len(missing) > 0 {
		for _, at := range w.watch.leases() {
			w.log.add("lease table", fmt.Sprintf("%+v", at))
		}
	}
	for _, r := range missing {
		w.history.note("I16: %s, record %d of %s, is neither handled nor told of %v after the last fault", r.event, r.at, r.shard, bound)
	}
}

// end stops the core in good order, and kills the rest.
func (w *world) end() {
	w.log.keep()
	for _, m := range w.members {
		m.mu.Lock()
		m.gone = true
		m.mu.Unlock()
	}
	for _, i := range w.plan.core {
		w.members[i].process().stop()
	}
	for _, i := range w.plan.core {
		p := w.members[i].process()
		select {
		case <-p.done:
		case <-time.After(w.plan.drain + 15*time.Second):
			if !w.hung(p) {
				w.history.note("I14: Run of %s has not returned %v after its context has ended", p.name, w.plan.drain+15*time.Second)
			}
		}
	}
	if w.ordered() {
		w.succeeded()
	}
	for _, m := range w.members {
		for _, p := range m.processes() {
			p.kill()
		}
	}
	close(w.over)
	w.background.Wait()
	for _, m := range w.members {
		for _, p := range m.processes() {
			<-p.done
		}
	}
}

// hung says that a handler of the process hangs for ever.
func (w *world) hung(p *process) bool {
	w.history.mu.Lock()
	defer w.history.mu.Unlock()
	for _, all := range w.history.running {
		for _, r := range all {
			if r.by == p && r.hung {
				return true
			}
		}
	}
	return false
}

// hang makes the member's next handler hang for ever.
func (m *member) hang() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hangs++
}
