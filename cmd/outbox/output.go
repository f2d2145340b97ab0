package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/fatih/color"
)

// paint colours text, if the stream it goes to is a terminal that wants it.
type paint bool

func (a *app) paint(stream io.Writer) paint {
	return paint(terminal(stream) && a.getenv("NO_COLOR") == "" && a.getenv("TERM") != "dumb")
}

// with makes the text printable in any case.
func (p paint) with(text string, attributes ...color.Attribute) string {
	text = printable(text)
	if !p || text == "" {
		return text
	}
	c := color.New(attributes...)
	c.EnableColor()
	return c.Sprint(text)
}

func (p paint) red(text string) string    { return p.with(text, color.FgRed) }
func (p paint) green(text string) string  { return p.with(text, color.FgGreen) }
func (p paint) yellow(text string) string { return p.with(text, color.FgYellow) }
func (p paint) cyan(text string) string   { return p.with(text, color.FgCyan) }
func (p paint) faint(text string) string  { return p.with(text, color.Faint) }
func (p paint) bold(text string) string   { return p.with(text, color.Bold) }

// printJSON writes a value as one indented document.
func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// note tells on standard error what is no result, no error and no progress.
func (a *app) note(format string, args ...any) {
	fmt.Fprintln(a.err, "note: "+oneLine(fmt.Sprintf(format, args...)))
}

// warn tells on standard error what is wrong without ending the command.
func (a *app) warn(format string, args ...any) {
	fmt.Fprintln(a.err, a.paint(a.err).yellow("outbox: ")+oneLine(fmt.Sprintf(format, args...)))
}

// columns writes rows in columns, and makes each cell printable. Colours must not be in it: they would count as width.
func (a *app) columns(rows [][]string) error {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = printable(cell)
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

// count writes a number of things.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return strconv.Itoa(n) + " " + thing + "s"
}

// age writes a duration for people: 3s, 4m12s, 26h5m.
func age(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Hour:
		return d.Round(time.Second).String()
	}
	return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
}
