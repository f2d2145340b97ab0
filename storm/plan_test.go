package storm

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// plan is what a seed decides about a redrive run.
type plan struct {
	seed        uint64
	shards      int
	lambda      bool // a Lambda function reads the stream; otherwise Workers do
	streams     bool // the stream is the table's DynamoDB stream, not Kinesis
	both        bool // a Lambda function reads Kinesis, and Workers read the DynamoDB stream: each event arrives twice
	readers     int  // Workers, or instances of the function
	batch       int
	attempts    int // WithInvokeAttempts
	aggregates  []*aggregate
	generations int
	sequences   float64 // the share of events that have a Sequence
	disorder    bool    // what is parked does not arrive in the order of its sequences
	reshard     int     // before this generation the stream is resharded; 0: never
	early       bool    // somebody redrives before anything is healed
	kills       bool
	pauses      bool
	skews       bool
	discard     *step
	faultShare  float64
}

// aggregate is a row of events, each of which wants to be handled after the one before.
type aggregate struct {
	name     string
	typ      string
	poison   map[int]*poison
	arrivals []int // in which order the events arrive, if it is not their own
}

// poison is an event that its handler refuses until it is healed.
type poison struct {
	permanent bool
	stage     int // healed at the first or the second stage; 3: never, since it is discarded
}

// step is one event of an aggregate.
type step struct {
	aggregate *aggregate
	n         int
}

func (s step) String() string { return fmt.Sprintf("%s/%d", s.aggregate.name, s.n) }

func planOf(seed uint64) *plan {
	rng := rand.New(rand.NewPCG(seed, 1))
	p := &plan{
		seed:        seed,
		shards:      []int{1, 2, 4, 8}[rng.IntN(4)],
		lambda:      rng.IntN(2) == 0,
		readers:     1 + rng.IntN(3),
		batch:       []int{1, 10, 100}[rng.IntN(3)],
		attempts:    3,
		generations: 4 + rng.IntN(3),
		sequences:   []float64{0, 0.5, 1}[rng.IntN(3)],
		early:       rng.IntN(2) == 0,
		kills:       rng.IntN(2) == 0,
		pauses:      rng.IntN(4) == 0,
		skews:       rng.IntN(3) == 0,
	}
	switch rng.IntN(6) {
	case 0:
		p.streams = true
	case 1:
		p.both = true
	}
	if rng.IntN(3) > 0 {
		p.faultShare = []float64{0.01, 0.03, 0.1}[rng.IntN(3)]
	}
	if rng.IntN(3) == 0 {
		p.reshard = 2 + rng.IntN(p.generations-1)
	}
	types := []string{stepTx{}.EventType(), stepTx{}.EventType(), plain{}.EventType(), guarded{}.EventType()}
	for i := range 3 + rng.IntN(3) {
		a := &aggregate{typ: types[rng.IntN(len(types))], poison: map[int]*poison{}}
		a.name = fmt.Sprintf("%s-%d", a.typ, i)
		for range rng.IntN(3) {
			a.poison[1+rng.IntN(p.generations-1)] = &poison{permanent: rng.IntN(3) > 0, stage: 1 + rng.IntN(2)}
		}
		p.aggregates = append(p.aggregates, a)
	}
	// One aggregate has poison in any case: without letters there is no redrive.
	first := p.aggregates[0]
	first.poison[1+rng.IntN(2)] = &poison{permanent: true, stage: 1}
	if rng.IntN(2) == 0 {
		a := p.aggregates[rng.IntN(len(p.aggregates))]
		n := 1 + rng.IntN(p.generations-1)
		a.poison[n] = &poison{permanent: true, stage: 3}
		p.discard = &step{a, n}
	}
	if p.sequences == 1 && rng.IntN(2) == 0 {
		p.disorder, p.early = true, false
		for _, a := range p.aggregates {
			a.disorder(rng, p.generations)
		}
	}
	return p
}

// disorder lets one of the poison events arrive early, so that the aggregate is parked, and then the others in any order.
func (a *aggregate) disorder(rng *rand.Rand, generations int) {
	if len(a.poison) == 0 {
		return
	}
	first := slices.Min(slices.Collect(maps.Keys(a.poison)))
	begin := 1 + rng.IntN(first)
	for n := 1; n < begin; n++ {
		a.arrivals = append(a.arrivals, n)
	}
	a.arrivals = append(a.arrivals, first)
	for _, i := range rng.Perm(generations - begin + 1) {
		if n := begin + i; n != first {
			a.arrivals = append(a.arrivals, n)
		}
	}
}

// arrives returns the number of the event that arrives with a generation.
func (a *aggregate) arrives(generation int) int {
	if generation > len(a.arrivals) {
		return generation
	}
	return a.arrivals[generation-1]
}

// before returns the number of the event that must be handled before n; 0 if n is the first.
func (p *plan) before(a *aggregate, n int) int {
	n--
	if p.discard != nil && p.discard.aggregate == a && p.discard.n == n {
		n--
	}
	return n
}

// skewOf is how far a process's clock is ahead of the services'.
func (w *world) skewOf(process string) time.Duration {
	if w.plan == nil || !w.plan.skews {
		return 0
	}
	at := share(w.plan.seed, process, "skew", 0)
	return time.Duration((at - 0.5) * float64(20*time.Minute))
}
