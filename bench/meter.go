package main

import (
	"fmt"
	"runtime"
	"slices"
	"time"
)

// side is one of the things that a row compares.
type side struct {
	name string
	per  int // how many records one call handles; 0 is 1
	do   func()
}

// meter says how long to measure.
type meter struct {
	rounds int
	slice  time.Duration // for each side in each round
}

// result is what was measured of a side, per record.
type result struct {
	cpu    []float64 // nanoseconds on all CPUs by round, those of the garbage collector included
	wall   []float64 // nanoseconds on the clock by round
	allocs float64
}

type results map[string]result

// compare measures all sides in every round, so that what disturbs one round disturbs all of them.
func (m meter) compare(sides []side) results {
	all := results{}
	calls := make([]int, len(sides))
	for i, s := range sides {
		calls[i] = m.calibrate(s.do)
		all[s.name] = result{allocs: allocs(s.do, min(calls[i], 100)) / float64(max(s.per, 1))}
	}
	for round := range m.rounds {
		for i := range sides {
			i = (i + round) % len(sides) // nobody is always first
			records := float64(calls[i] * max(sides[i].per, 1))
			start, used := time.Now(), cpuTime()
			for range calls[i] {
				sides[i].do()
			}
			cpu, wall := cpuTime()-used, time.Since(start)
			r := all[sides[i].name]
			r.cpu = append(r.cpu, float64(cpu)/records)
			r.wall = append(r.wall, float64(wall)/records)
			all[sides[i].name] = r
		}
	}
	return all
}

// calibrate returns how many calls fill a slice of time.
func (m meter) calibrate(do func()) int {
	for n := 1; ; n *= 2 {
		start := cpuTime()
		for range n {
			do()
		}
		if took := cpuTime() - start; took > m.slice/4 {
			return max(1, int(float64(n)*float64(m.slice)/float64(took)))
		}
	}
}

// allocs returns how many allocations a call makes, those of its goroutines included.
func allocs(do func(), calls int) float64 {
	var before, after runtime.MemStats
	do()
	runtime.ReadMemStats(&before)
	for range calls {
		do()
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(calls)
}

func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2]
}

// ns is the median CPU time of a side.
func (r results) ns(name string) float64 { return median(r.get(name).cpu) }

// ratio is the median, over the rounds, of the CPU time of a by that of b: by how much b is faster.
func (r results) ratio(a, b string) float64 { return ratio(r.get(a).cpu, r.get(b).cpu) }

// wallRatio is ratio on the clock, which counts what runs in parallel once.
func (r results) wallRatio(a, b string) float64 { return ratio(r.get(a).wall, r.get(b).wall) }

func ratio(a, b []float64) float64 {
	ratios := make([]float64, len(a))
	for i := range ratios {
		ratios[i] = a[i] / b[i]
	}
	return median(ratios)
}

func (r results) get(name string) result {
	found, ok := r[name]
	if !ok {
		panic("no side is called " + name)
	}
	return found
}

// duration prints nanoseconds.
func duration(ns float64) string {
	switch {
	case ns < 1000:
		return fmt.Sprintf("%.0f ns", ns)
	case ns < 100_000:
		return fmt.Sprintf("%.1f µs", ns/1000)
	}
	return fmt.Sprintf("%.0f µs", ns/1000)
}

// must is for what cannot fail once the tests have passed.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
