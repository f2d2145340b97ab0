package adversary

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"regexp"
	"slices"
	"sort"
	"strings"
	"time"
)

// plan is a schedule: what the world is like, and what happens when.
type plan struct {
	seed           uint64
	streams        bool // a DynamoDB stream, not a Kinesis data stream
	shards         int
	members        int
	concurrency    int
	maxUnfinished  int
	batch          int
	drain          time.Duration
	letters        bool // there is a dead letter table
	latest         bool // StartAtLatest
	skew           time.Duration
	limited        bool
	endAlone       bool
	pageShards     int
	pageRows       int
	padding        int
	aggregates     int
	every          time.Duration // between two events
	handler        time.Duration
	longOneIn      int // events whose handler takes 20 to 60 s; 0 for none
	failsInHundred int // of the handlers, during the faults
	failing        map[string]bool
	phase          time.Duration // of the faults
	steps          []step
	core           []int
	crashes, hangs bool
	lied           []int // members to whom listings lie
	listingsLie    bool  // to more than one member, or to the only one
	clean          bool  // no process crashes, no call fails, no handler is cut off
}

// step is what happens at a moment of the phase of faults.
type step struct {
	at   time.Duration
	text string
	do   func(*world)
}

func (p *plan) String() string {
	var b strings.Builder
	kind := "a data stream"
	if p.streams {
		kind = "a DynamoDB stream"
	}
	fmt.Fprintf(&b, "%s of %d shards, pages of %d shards and %d rows, limits %v, clock off by %v; %d members with %d handlers, %d unfinished, batches of %d, drain %v; "+
		"dead letters %v, latest %v; %d aggregates, an event each %v; handlers take %v, one in %d long, %d %% fail for a while, for ever: %v; core %v\n",
		kind, p.shards, p.pageShards, p.pageRows, p.limited, p.skew, p.members, p.concurrency, p.maxUnfinished, p.batch, p.drain, p.letters, p.latest,
		p.aggregates, p.every, p.handler, p.longOneIn, p.failsInHundred, p.failing, p.core)
	for _, s := range p.steps {
		fmt.Fprintf(&b, "%10v  %s\n", s.at.Round(time.Millisecond), s.text)
	}
	fmt.Fprintf(&b, "%10v  the core is healed, the rest stays as it is", p.phase.Round(time.Millisecond))
	return b.String()
}

// without leaves out the steps whose text matches a pattern, to find out which of them a failure needs. "fails for ever" stands for the events
// whose handler does, "StartAtLatest" for the option.
func (p *plan) without(pattern string) {
	if pattern == "" {
		return
	}
	matches := regexp.MustCompile(pattern)
	p.steps = slices.DeleteFunc(p.steps, func(s step) bool { return matches.MatchString(s.text) })
	if matches.MatchString("fails for ever") {
		clear(p.failing)
	}
	p.latest = p.latest && !matches.MatchString("StartAtLatest")
	p.clean = false
}

// takes is how long the handler of an event takes. It depends on nothing but the event, so that a repeat takes as long.
func (p *plan) takes(event string) time.Duration {
	hash := fnv.New32a()
	hash.Write([]byte(event))
	h := hash.Sum32()
	if p.longOneIn > 0 && int(h>>8)%p.longOneIn == 0 {
		return time.Duration(20+h%40) * time.Second
	}
	if p.handler == 0 {
		return 0
	}
	return time.Duration(h) % p.handler
}

// dice are the choices of a seed.
type dice struct{ *rand.Rand }

func (d dice) chance(p float64) bool { return d.Float64() < p }

func (d dice) between(low, high time.Duration) time.Duration {
	return low + time.Duration(d.Int64N(int64(high-low)+1))
}

func oneOf[T any](d dice, all ...T) T { return all[d.IntN(len(all))] }

// planOf decides everything that a seed decides. Swarm: a seed leaves most kinds of trouble out, so that the others get room.
func planOf(seed uint64) *plan {
	d := dice{rand.New(rand.NewPCG(seed, 0))}
	p := &plan{seed: seed, streams: d.chance(.25), shards: oneOf(d, 1, 2, 3, 4, 6), members: oneOf(d, 1, 2, 3, 3, 4), concurrency: oneOf(d, 4, 10, 10, 30),
		maxUnfinished: oneOf(d, 20, 100, 5000), batch: oneOf(d, 5, 50, 1000), drain: oneOf(d, 2*time.Second, 30*time.Second), letters: d.chance(.3), latest: d.chance(.1),
		limited: d.chance(.5), endAlone: d.chance(.5), pageShards: oneOf(d, 2, 10, 100), pageRows: oneOf(d, 0, 0, 3), aggregates: oneOf(d, 5, 20, 60),
		every: oneOf(d, 50*time.Millisecond, 150*time.Millisecond, 400*time.Millisecond), handler: oneOf(d, 0, 20*time.Millisecond, 200*time.Millisecond),
		failing: map[string]bool{}, phase: d.between(20*time.Second, 60*time.Second)}
	if d.chance(.005) {
		p.shards, p.pageShards, p.pageRows, p.aggregates = oneOf(d, 100, 200), 100, 0, 300
	}
	if d.chance(.3) {
		p.skew = oneOf(d, -10*minute, -5*minute, 5*minute, 10*minute)
	}
	if d.chance(.2) {
		p.longOneIn = 150
	}
	if d.chance(.3) {
		p.failsInHundred = oneOf(d, 2, 30)
	}
	if d.chance(.25) {
		for range 1 + d.IntN(3) {
			p.failing[fmt.Sprintf("a%d-%d", d.IntN(p.aggregates), 1+d.IntN(10))] = true
		}
	}
	p.resharding(d)
	p.processes(d)
	if len(p.failing) > 0 && !p.letters || p.hangs {
		// At most 50 events of a shard, and half of maxUnfinished, may fail or wait behind those that fail: the aggregates are many, and slow.
		p.aggregates, p.every, p.maxUnfinished = max(p.aggregates, 60), max(p.every, 150*time.Millisecond), max(p.maxUnfinished, 100)
	}
	p.clean = !p.crashes && len(p.failing) == 0 && p.failsInHundred == 0 && p.longOneIn == 0
	p.answers(d)
	p.sickness(d)
	p.expiry(d)
	sort.SliceStable(p.steps, func(i, j int) bool { return p.steps[i].at < p.steps[j].at })
	for i := range p.members {
		if d.chance(.5) {
			p.core = append(p.core, i)
		}
	}
	if len(p.core) == 0 {
		p.core = []int{d.IntN(p.members)}
	}
	return p
}

func (p *plan) add(at time.Duration, do func(*world), format string, args ...any) {
	if at < p.phase {
		p.steps = append(p.steps, step{at: at, text: fmt.Sprintf(format, args...), do: do})
	}
}

func (p *plan) resharding(d dice) {
	if d.chance(.5) {
		return
	}
	for range 1 + d.IntN(4) {
		at, n := d.between(0, p.phase), d.IntN(1000)
		switch {
		case p.streams || d.chance(.2):
			p.add(at, func(w *world) { w.stream.roll(); w.reached.count("all shards end together") }, "all shards end, each has a child")
		case d.chance(.6):
			p.add(at, func(w *world) { w.stream.split(n); w.reached.count("split") }, "split %d", n)
		default:
			p.add(at, func(w *world) { w.stream.merge(n); w.reached.count("merge") }, "merge %d", n)
		}
	}
}

// processes are killed, stopped, and started again.
func (p *plan) processes(d dice) {
	kills, stops, hangs := d.chance(.4), d.chance(.4), d.chance(.15)
	for range d.IntN(5) {
		at, i, pause := d.between(time.Second, p.phase), d.IntN(p.members), d.between(0, 20*time.Second)
		switch {
		case kills && d.chance(.5):
			p.crashes = true
			p.add(at, func(w *world) { w.members[i].process().kill(); w.reached.count("kill") }, "m%d is killed", i)
		case stops:
			p.add(at, func(w *world) { w.members[i].process().stop(); w.reached.count("stop") }, "m%d is stopped", i)
		default:
			continue
		}
		p.add(at+pause, func(w *world) { w.members[i].start() }, "m%d is started", i)
	}
	if hangs {
		p.crashes, p.hangs = true, true
		i := d.IntN(p.members)
		p.add(d.between(time.Second, p.phase), func(w *world) { w.members[i].hang() }, "a handler of m%d hangs for ever", i)
	}
}

// answers lie for a while, to one member or to all.
func (p *plan) answers(d dice) {
	if d.chance(.2) {
		return
	}
	for _, what := range onAnswers {
		if !d.chance(.15) {
			continue
		}
		probability, whom := oneOf(d, .01, .1, .5), p.some(d)
		switch what {
		case emptyListing, firstPageOnly, oldListing, foreignListing, noRangeEnd, noChildren, noOldItem: // of rare answers
			probability = oneOf(d, .3, 1.)
		}
		at := d.between(0, p.phase/2)
		until := at + d.between(5*time.Second, p.phase)
		p.struck(what, whom)
		for _, i := range whom {
			p.add(at, func(w *world) { w.members[i].faults.set(what, probability) }, "m%d: %s (%.2f)", i, what, probability)
			p.add(until, func(w *world) { w.members[i].faults.set(what, 0) }, "m%d: no more: %s", i, what)
		}
	}
}

// sickness befalls single members, or all of them for a moment.
func (p *plan) sickness(d dice) {
	if d.chance(.4) {
		return
	}
	for range 1 + d.IntN(2) {
		what, at := oneOf(d, sicknesses...), d.between(0, p.phase)
		until, whom := at+oneOf(d, 3*time.Second, 12*time.Second, time.Hour), []int{d.IntN(p.members)}
		if d.chance(.15) {
			until, whom = at+12*time.Second, p.all()
		}
		p.struck(what, whom)
		for _, i := range whom {
			p.add(at, func(w *world) { w.members[i].faults.set(what, 1) }, "m%d is sick: %s", i, what)
			p.add(until, func(w *world) { w.members[i].faults.set(what, 0) }, "m%d is well again: %s", i, what)
		}
	}
}

// expiry is that of records that are older than some seconds: the stream's retention is too short for the outage.
func (p *plan) expiry(d dice) {
	if d.chance(.15) {
		n, age := d.IntN(1000), d.between(2*time.Second, 20*time.Second)
		p.add(d.between(15*time.Second, p.phase), func(w *world) { w.expire(n, age) }, "records of shard %d expire after %v", n, age)
	}
}

// struck notes what a fault means for the checks.
func (p *plan) struck(what fault, whom []int) {
	p.clean = false
	switch what {
	case foreignListing, emptyListing, firstPageOnly, oldListing, noRangeEnd:
		p.lied = append(p.lied, whom...)
	}
	slices.Sort(p.lied)
	p.lied = slices.Compact(p.lied)
	p.listingsLie = len(p.lied) > 1 || len(p.lied) == p.members
}

func (p *plan) all() (all []int) {
	for i := range p.members {
		all = append(all, i)
	}
	return all
}

func (p *plan) some(d dice) []int {
	if d.chance(.4) {
		return p.all()
	}
	return []int{d.IntN(p.members)}
}
