// Command cost prints what events cost on AWS, with and without the outbox. docs/cost.md and docs/sizing.md have what it prints without
// arguments; with sizes and rates of your own it prints those.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "cost:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	a := defaults()
	flags := flag.NewFlagSet("cost", flag.ContinueOnError)
	sizes := flags.String("sizes", "300,1024,4096", "bytes of payloads; the tables for a month and for sizing take the first")
	rates := flags.String("rates", "1,100,1000", "events a second")
	flags.IntVar(&a.row, "row", a.row, "bytes of the service's own row")
	flags.Float64Var(&a.days, "days", a.days, "for how many days events and marks are kept")
	flags.IntVar(&a.batch, "batch", a.batch, "events of an invocation")
	flags.IntVar(&a.memoryMB, "memory", a.memoryMB, "MB of the function's memory")
	flags.Float64Var(&a.batchMS, "batch-ms", a.batchMS, "milliseconds that an invocation takes")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if a.row < 1 || a.batch < 1 || a.days < 0 || a.memoryMB < 0 || a.batchMS < 0 {
		return errors.New("want a row and a batch of at least 1, and nothing below 0")
	}
	bytes, err := numbers("-sizes", *sizes)
	if err != nil {
		return err
	}
	perSecond, err := numbers("-rates", *rates)
	if err != nil {
		return err
	}
	payloads := make([]int, len(bytes))
	for i, b := range bytes {
		payloads[i] = int(b)
	}
	fmt.Fprintf(out, "US dollars in %s, prices of %s\n\n", region, asOf)
	perMillion(out, payloads, a)
	reconcile(out, payloads, a)
	perMonth(out, payloads[0], perSecond)
	sizing(out, payloads[0])
	return nil
}

// numbers reads a list with commas.
func numbers(name, list string) (out []float64, err error) {
	for text := range strings.SplitSeq(list, ",") {
		x, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		if err != nil || !(x > 0 && x <= 1e9) {
			return nil, fmt.Errorf("%s: %q is no number above 0", name, text)
		}
		out = append(out, x)
	}
	return out, nil
}
