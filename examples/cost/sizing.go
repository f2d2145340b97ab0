package main

import (
	"fmt"
	"io"
	"math"
)

// What a Worker took for a MB of change records, in milliseconds of CPU on the machine of docs/performance.md, and what HTTP and TLS
// add; a test finds both numbers there.
const (
	workerMS = 12.6
	httpMS   = 3.5
)

// About how many bytes the rows of the lease table take, with a short name of the host: a test measures them.
const (
	leaseRow  = 260
	workerRow = 110
)

// sizing prints what each part has to take at some rates.
func sizing(w io.Writer, payload int) {
	rates := []float64{1000, 10_000, 100_000}
	fmt.Fprintf(w, "| events a second, each of %s |", bytesText(payload))
	for _, r := range rates {
		fmt.Fprintf(w, " %s |", number(r))
	}
	fmt.Fprint(w, "\n|---|--:|--:|--:|\n")
	row := func(what string, f func(rate float64) float64) {
		fmt.Fprintf(w, "| %s |", what)
		for _, r := range rates {
			fmt.Fprintf(w, " %s |", number(math.Ceil(f(r)*100)/100))
		}
		fmt.Fprintln(w)
	}
	record, removal := float64(recordBytes(payload)), float64(removalBytes(payload))
	writes := func(r float64) float64 { return r * inTransaction(rowBytes(payload)) }
	fleet := func(r float64) float64 { return math.Max(2, math.Ceil(shards(payload, r)/10)) }
	row("write units a second, events table", writes)
	row("partitions that it needs at least, of 1,000 units each", func(r float64) float64 { return math.Ceil(writes(r) / 1000) })
	row("MB a second of new records into the stream", func(r float64) float64 { return r * record / (1 << 20) })
	row("and of removals, while as many rows expire", func(r float64) float64 { return r * removal / (1 << 20) })
	row("shards, of 1,000 records and 1 MB a second each", func(r float64) float64 { return shards(payload, r) })
	row("CPUs that Workers need for reading and decoding, HTTP and TLS included", func(r float64) float64 {
		return r * record / (1 << 20) * (workerMS + httpMS) / 1000
	})
	row("handlers at once, if one takes 20 ms", func(r float64) float64 { return r * 0.02 })
	row("workers, with 10 shards each", fleet)
	row("read units a second on the lease table, while nothing moves", func(r float64) float64 {
		looks := 2 / math.Min(2, math.Max(1, fleet(r)/50)) // a second; a large fleet looks less often
		look := math.Ceil(fleet(r)*workerRow/4096) / 2     // eventually consistent
		view := math.Ceil((shards(payload, r)*leaseRow + fleet(r)*workerRow) / 4096)
		return fleet(r) * (looks*look + view/60)
	})
	row("write units a second for checkpoints and heartbeats", func(r float64) float64 { return shards(payload, r) + fleet(r)/2 })
	row("write units a second for an inbox, `HandleTx` or guarded", func(r float64) float64 { return 2 * r })
	row("invocations at once in Lambda, if a batch of 100 takes 500 ms", func(r float64) float64 { return r / 100 * 0.5 })
	fmt.Fprintln(w)
}
