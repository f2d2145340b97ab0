package main

import (
	"fmt"
	"io"
	"math"
	"strings"
)

// assumed is what cannot be known from the size of an event.
type assumed struct {
	row      int     // bytes of the service's own row
	days     float64 // that events, marks and so on are kept
	batch    int     // events of an invocation
	memoryMB int     // of the function
	batchMS  float64 // that an invocation takes
	mark     int     // bytes of an inbox row
}

func defaults() assumed {
	return assumed{row: 1000, days: 30, batch: 100, memoryMB: 256, batchMS: 500, mark: 200}
}

// line is a row of a table: a cost of one event, for each size.
type line struct {
	what string
	cost func(payload int) float64
	sum  bool // of the lines since the last sum, and that sum
}

const million = 1e6

// perMillion prints what a million events cost, with and without the outbox.
func perMillion(w io.Writer, sizes []int, a assumed) {
	lambda := func(int) float64 {
		return (invocation + a.batchMS/1000*float64(a.memoryMB)/kb*gbSecond) / float64(a.batch)
	}
	capture := func(p int) float64 { return units(rowBytes(p), kb) * captureUnit }
	table(w, "with an on-demand stream", sizes, []line{
		{"the service's row in the transaction", func(int) float64 { return inTransaction(a.row) * writeUnit }, false},
		{"the event's row in the transaction", func(p int) float64 { return inTransaction(rowBytes(p)) * writeUnit }, false},
		{"the event's row kept for " + number(a.days) + " days", func(p int) float64 { return stored(rowBytes(p), a.days) }, false},
		{"change data capture", capture, false},
		{"Kinesis, in and out once", func(p int) float64 { return carried(recordBytes(p)) }, false},
		{"the row's removal: change data capture, Kinesis", func(p int) float64 { return capture(p) + carried(removalBytes(p)) }, false},
		{"Lambda", lambda, false},
		{"**with the outbox**", nil, true},
		{"inbox, for `HandleTx`: one more item in its transaction, kept", func(int) float64 { return inTransaction(a.mark)*writeUnit + stored(a.mark, a.days) }, false},
		{"or for a guarded handler: two writes, kept", func(int) float64 { return 2*units(a.mark, kb)*writeUnit + stored(a.mark, a.days) }, false},
		{"dead letters: a read for each batch", func(int) float64 { return readUnit / float64(a.batch) }, false},
	})
	table(w, "for comparison", sizes, []line{
		{"the service's row alone, by one Put", func(int) float64 { return units(a.row, kb) * writeUnit }, false},
		{"Kinesis, in and out once, by PutRecord", func(p int) float64 { return carried(p) }, false},
		{"Lambda", lambda, false},
		{"**two writes, and events that get lost**", nil, true},
	})
	table(w, "with a provisioned stream", sizes, []line{
		{"Kinesis in place of the lines above, beside the shards", func(p int) float64 { return put(recordBytes(p)) + put(removalBytes(p)) }, false},
	})
}

// table prints lines for a million events.
func table(w io.Writer, title string, sizes []int, lines []line) {
	fmt.Fprintf(w, "| a million events, %s |", title)
	for _, s := range sizes {
		fmt.Fprintf(w, " %s |", bytesText(s))
	}
	fmt.Fprintf(w, "\n|---|%s\n", strings.Repeat("--:|", len(sizes)))
	sums := make([]float64, len(sizes))
	for _, l := range lines {
		fmt.Fprintf(w, "| %s |", l.what)
		for i, s := range sizes {
			if l.sum {
				fmt.Fprintf(w, " **%s** |", dollars(sums[i]))
				continue
			}
			c := l.cost(s) * million
			sums[i] += c
			fmt.Fprintf(w, " %s |", dollars(c))
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w)
}

// perMonth prints what does not go by events alone: the stream in both modes, and what leases cost.
func perMonth(w io.Writer, payload int, rates []float64) {
	fmt.Fprintf(w, "| a month at events a second, each of %s |", bytesText(payload))
	for _, r := range rates {
		fmt.Fprintf(w, " %s |", number(r))
	}
	fmt.Fprintf(w, "\n|---|%s\n", strings.Repeat("--:|", len(rates)))
	row := func(what string, cost func(rate float64) float64) {
		fmt.Fprintf(w, "| %s |", what)
		for _, r := range rates {
			fmt.Fprintf(w, " %s |", dollars(cost(r)))
		}
		fmt.Fprintln(w)
	}
	events := func(rate float64) float64 { return rate * hoursPerMonth * 3600 }
	record, removal := recordBytes(payload), removalBytes(payload)
	row("an on-demand stream: the hours", func(float64) float64 { return streamHour * hoursPerMonth })
	row("and its data", func(r float64) float64 { return events(r) * (carried(record) + carried(removal)) })
	row("or provisioned shards", func(r float64) float64 { return shards(payload, r) * shardHour * hoursPerMonth })
	row("and their records", func(r float64) float64 { return events(r) * (put(record) + put(removal)) })
	row("lease table, one worker: a look each half second, a heartbeat each 2 s", func(float64) float64 {
		const look = 0.5 // eventually consistent
		return hoursPerMonth * 3600 * (2*look*readUnit + 0.5*writeUnit)
	})
	row("and a checkpoint a second for each shard", func(r float64) float64 { return hoursPerMonth * 3600 * shards(payload, r) * writeUnit })
	fmt.Fprintln(w)
}

// shards is how many a stream needs: a shard takes 1,000 records and 1 MB a second, and each event comes a second time as the removal
// of its row.
func shards(payload int, rate float64) float64 {
	bytes := rate * float64(recordBytes(payload)+removalBytes(payload))
	return math.Max(1, math.Max(math.Ceil(2*rate/1000), math.Ceil(bytes/(1<<20))))
}

func dollars(x float64) string {
	if x != 0 && x < 0.005 {
		return "under 0.01"
	}
	return grouped(fmt.Sprintf("%.2f", math.Round(x*100)/100))
}

// grouped sets a comma before each three digits.
func grouped(text string) string {
	whole, fraction, has := strings.Cut(text, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if has {
		whole += "." + fraction
	}
	return whole
}

func number(x float64) string { return grouped(fmt.Sprintf("%g", x)) }

func bytesText(n int) string {
	if n%kb == 0 {
		return fmt.Sprintf("%d KB", n/kb)
	}
	return fmt.Sprintf("%d B", n)
}
