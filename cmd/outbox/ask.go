package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// confirm asks at the terminal whether to go on. Without a terminal only --yes is a yes.
func (a *app) confirm(ctx context.Context, question string) error {
	if err := a.canAsk(); err != nil || a.yes {
		return err
	}
	fmt.Fprint(a.err, a.paint(a.err).bold(question)+" [y/N] ")
	answer := make(chan string, 1)
	go func() { // reading cannot be cancelled; the process ends soon in any case
		line, _ := bufio.NewReader(a.in).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(a.err)
		return ctx.Err()
	case text := <-answer:
		if text == "y" || text == "yes" {
			return nil
		}
	}
	return errUnconfirmed
}

// canAsk is an error if nobody can be asked. A command whose looking takes long, or costs much, asks this first.
func (a *app) canAsk() error {
	if !a.yes && (!terminal(a.in) || !terminal(a.err)) {
		return fmt.Errorf("%w; there is no terminal to ask at: give --yes", errUnconfirmed)
	}
	return nil
}

// progress is a bar at the terminal, or nothing where there is none.
type progress struct{ bar *progressbar.ProgressBar }

// bar shows how far something is. A negative total is unknown, and shows that it goes on. Every step is shown, since there is one for each
// call of AWS at most, and the last one may stand for long.
func (a *app) bar(what string, total int) *progress {
	if !terminal(a.err) {
		return &progress{}
	}
	columns := 80
	if f, ok := a.err.to.(*os.File); ok {
		if have, _, err := term.GetSize(int(f.Fd())); err == nil && have > 0 {
			columns = have
		}
	}
	options := []progressbar.Option{
		progressbar.OptionSetWriter(a.err.to), progressbar.OptionSetDescription(firstOf(printable(what), max(10, columns-25))), progressbar.OptionShowCount(), progressbar.OptionClearOnFinish(),
		progressbar.OptionSetWidth(30), progressbar.OptionEnableColorCodes(bool(a.paint(a.err))),
	}
	if total < 0 {
		options = append(options, progressbar.OptionSpinnerType(14), progressbar.OptionSetElapsedTime(true))
	} else if narrow := columns < 60; narrow { // a line that is wider than the terminal is not taken away
		options = append(options, progressbar.OptionSetPredictTime(false))
	} else {
		options = append(options, progressbar.OptionShowIts(), progressbar.OptionSetPredictTime(true))
	}
	bar := progressbar.NewOptions(total, options...)
	_ = bar.RenderBlank()
	return &progress{bar}
}

func (p *progress) set(n int) {
	if p.bar != nil {
		_ = p.bar.Set(n)
	}
}

// done takes the bar away.
func (p *progress) done() {
	if p.bar != nil {
		_ = p.bar.Exit()
		_ = p.bar.Clear()
	}
}
