// Bench holds the library against what users write without it, and against floors that no general JSON reader goes below.
// It prints one table of ratios: both sides of each were measured in this process, one after the other in every round, so
// that a busy machine slows down both. Times are there for orientation only.
//
//	go run ./bench
package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// row is one line of the table. Rows live in the files that are named after what they measure; the function rows lists them.
type row struct {
	group  string
	name   string
	target string // what is to be reached; empty for a row that only informs
	sides  []side
	slice  time.Duration // for each side in each round, where the usual is too short
	judge  func(r results) (measured string, reached bool)
}

func main() {
	fmt.Printf("%s, %s/%s, %d CPUs\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	heap := make([]byte, 32<<20) // as much as a small service has, so that the collector runs as often as there
	run(os.Stdout, os.Stderr, rows(), meter{rounds: 25, slice: 2 * time.Millisecond})
	runtime.KeepAlive(heap)
}

// rows are all rows, in the order of the table.
func rows() []row {
	return slices.Concat(decodeRows(), consumeRows(), laneRows(), writerRows(), orderRows(), codecRows(), sideBySideRows(), workerRows())
}

// run measures the rows and prints them as a table in Markdown.
func run(out, progress io.Writer, rows []row, m meter) {
	lines := [][]string{{"", "target", "measured", "reached"}}
	group := ""
	for i, r := range rows {
		_, _ = fmt.Fprintf(progress, "\r\033[K%d of %d: %s, %s", i+1, len(rows), r.group, r.name)
		m := m
		if r.slice > 0 {
			m.slice = r.slice
		}
		measured, reached := r.judge(m.compare(r.sides))
		verdict := ""
		if r.target != "" {
			verdict = map[bool]string{true: "yes", false: "NO"}[reached]
		}
		if r.group != group {
			group = r.group
			lines = append(lines, []string{"**" + group + "**", "", "", ""})
		}
		lines = append(lines, []string{r.name, r.target, measured, verdict})
	}
	_, _ = fmt.Fprint(progress, "\r\033[K")
	var widths [4]int
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	for n, line := range lines {
		for i, cell := range line {
			_, _ = fmt.Fprintf(out, "| %s%s ", cell, strings.Repeat(" ", widths[i]-len([]rune(cell))))
		}
		_, _ = fmt.Fprintln(out, "|")
		if n == 0 {
			for _, w := range widths {
				_, _ = fmt.Fprintf(out, "|%s", strings.Repeat("-", w+2))
			}
			_, _ = fmt.Fprintln(out, "|")
		}
	}
}
