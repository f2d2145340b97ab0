package main

import (
	"fmt"
	"sync"

	"github.com/seed-1b628d3f/outbox/internal/lanes"
)

// free is a handler that does nothing.
type free struct{}

func (free) Do(int) lanes.Next { return lanes.GoOn }

func dispatch(p *lanes.Pool, keys []uint64, r lanes.Runner) {
	var b lanes.Batch
	p.Start(&b, keys, r)
	b.Wait(nil)
}

// keysOf returns n keys, different ones of them different.
func keysOf(n, different int) []uint64 {
	keys := make([]uint64, n)
	for i := range keys {
		keys[i] = uint64(i%different+1) * 0x9e3779b97f4a7c15
	}
	return keys
}

// perRecord is dispatch with a goroutine for each record, bounded by a channel, and no order.
func perRecord(limit int, keys []uint64, r lanes.Runner) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, limit)
	for i := range keys {
		slots <- struct{}{}
		wg.Go(func() {
			r.Do(i)
			<-slots
		})
	}
	wg.Wait()
}

// laneRows is about what it costs to hand a record to a handler that does nothing.
func laneRows() []row {
	var rows []row
	for _, c := range []struct {
		name      string
		n, keys   int
		target    string
		most      float64
		mostAlloc float64
	}{
		{"batches of 100, 8 aggregates", 100, 8, "75 ns, 0.1 allocs a record", 75, 0.1},
		{"batches of 100, each its own aggregate", 100, 100, "75 ns, 0.1 allocs a record", 75, 0.1},
		{"batches of 1,000, each its own aggregate", 1000, 1000, "75 ns, 0.1 allocs a record", 75, 0.1},
	} {
		p, keys := lanes.New(8), keysOf(c.n, c.keys)
		rows = append(rows, row{
			group: "Dispatch to 8 lanes", name: c.name, target: c.target,
			sides: []side{
				{"lanes", c.n, func() { dispatch(p, keys, free{}) }},
				{"goroutines", c.n, func() { perRecord(8, keys, free{}) }},
			},
			judge: func(r results) (string, bool) {
				ns, allocs := r.ns("lanes"), r.get("lanes").allocs
				return fmt.Sprintf("%.0f ns, %.2f allocs; %.1f × as fast as a goroutine each", ns, allocs, r.ratio("goroutines", "lanes")), ns <= c.most && allocs <= c.mostAlloc
			},
		})
	}
	return rows
}
