package main

import (
	"fmt"
	"io"
	"math"
)

// What Reconcile reads, by its rules and DynamoDB's. A test compares it with what a run is billed.
const (
	pageBytes  = 1 << 20 // of a Scan; the row that passes it still counts
	batchKeys  = 100     // of a BatchGetItem
	letterKeys = 25      // of one for dead letters
	unitBytes  = 4 << 10 // of a read unit; half a unit if the read is eventually consistent
	memory     = 2       // days less than its time to live, in which an inbox is believed
)

// reads is what some requests read.
type reads struct{ requests, units float64 }

// pages returns how many rows each page of a scan has.
func pages(events, row int) (rows []int) {
	full := (pageBytes + row - 1) / row
	for ; events > 0; events -= full {
		rows = append(rows, min(full, events))
	}
	return rows
}

// scanned is a scan of events whose rows have so many bytes each.
func scanned(events, row int) (r reads) {
	for _, n := range pages(events, row) {
		r.requests++
		r.units += units(n*row, unitBytes) / 2
	}
	return r
}

// marked is the look for the mark of each event, page by page.
func marked(events, row int) (r reads) {
	for _, n := range pages(events, row) {
		r.requests += units(n, batchKeys)
		r.units += float64(n) / 2
	}
	return r
}

// positioned is the look for positions, if each page has events of the same aggregates, at most 100. Rows are larger with an id and a sequence of up
// to four digits.
func positioned(events, row, aggregates int) reads {
	n := float64(len(pages(events, row+len("#1234")+len("sequence")+3)))
	return reads{n, n * float64(aggregates) / 2}
}

// missed is what the reads are beside those above, if each page lacks at most 100 events: for a row that is not there Reconcile asks again, with
// consistent reads, and for all of it once more before it delivers the event. The requests are about so many.
func missed(events, row, missing int) reads {
	const (
		letter, discarded, again = 1, 2, 1 // a discarded event has one of two keys
		look                     = letter + discarded + again
		first                    = 0.5
	)
	pages, batches := float64(len(pages(events, row))), units(missing, batchKeys)
	return reads{
		math.Round(pages + 2*(float64(missing)/letterKeys+pages/2) + batches*(3+2*units(min(missing, batchKeys), letterKeys))),
		float64(missing) * (look + units(row, unitBytes) + first + look),
	}
}

// reconcile prints what Reconcile reads, and what that costs.
func reconcile(w io.Writer, sizes []int, a assumed) {
	const events, aggregates, missing = 100_000, 100, 1000
	row := rowBytes(sizes[0])
	fmt.Fprintf(w, "| Reconcile of %s events, each of %s | requests | read units |\n|---|--:|--:|\n", number(events), bytesText(sizes[0]))
	for _, l := range []struct {
		what string
		reads
	}{
		{"the scan", scanned(events, row)},
		{"the looks for the marks", marked(events, row)},
		{fmt.Sprintf("or for the positions of %d aggregates", aggregates), positioned(events, row, aggregates)},
		{fmt.Sprintf("more if %s are missing, and are delivered; without their handlers", number(missing)), missed(events, row, missing)},
	} {
		fmt.Fprintf(w, "| %s | %s | %s |\n", l.what, number(l.requests), number(l.units))
	}
	fmt.Fprintln(w)

	// kept is the cost of events for as long as they are in the table. Each cycle scans them, and judges those that are young enough.
	kept := func(days, cycle, since float64) func(int) float64 {
		judged := math.Min(math.Min(days, since), math.Max(0, a.days-memory))
		return func(payload int) float64 {
			scan, marks := scanned(million, rowBytes(payload)), marked(million, rowBytes(payload))
			return (days/cycle*scan.units + judged/cycle*marks.units) * readUnit / million
		}
	}
	const day, week = 1, 7
	days := "kept for " + number(a.days) + " days, "
	table(w, "for Reconcile", sizes, []line{
		{"kept for 7 days, a cycle a day", kept(week, day, week), false},
		{days + "a cycle a day", kept(a.days, day, a.days), false},
		{days + "a cycle a day, `Since` two days ago", kept(a.days, day, 2*day), false},
		{days + "a cycle a week", kept(a.days, week, a.days), false},
	})
}
