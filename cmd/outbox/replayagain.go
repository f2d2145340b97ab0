package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/replay"
)

// again is a run of replay --again, or its dry run.
type again struct {
	*app
	f      replayFlags
	events *replay.Events
	writer *outbox.Writer
	result replayed

	unreadable, uncopyable []error // those that were left out, or would be
}

func (a *app) replayAgain(ctx context.Context, c *clients, events *replay.Events, f replayFlags) (err error) {
	g := &again{app: a, f: f, events: events}
	opts := []outbox.WriterOption{outbox.WithAttributes(f.names), outbox.WithWriterHooks(outbox.WriterHooks{Written: countRepeats(&g.result.Repeated)})}
	if f.ttl != 0 {
		opts = append(opts, outbox.WithTTL(f.ttl))
	}
	if g.writer, err = outbox.NewWriter(c.dynamodb, f.table, opts...); err != nil {
		return usageError{err}
	}
	if f.dryRun {
		found, err := g.look(ctx)
		if err == nil {
			g.tell(g.uncopyable, "cannot be copied")
			err = a.wouldReplay(replayed{DryRun: true, Found: found.Found, Uncopyable: found.Uncopyable})
		}
		return err
	}
	if err := a.canAsk(); err != nil {
		return err
	}
	if !a.yes {
		found, err := g.look(ctx)
		if err == nil && found.Uncopyable > 0 && !f.skipUncopyable {
			g.tell(g.uncopyable, "cannot be copied")
			err = cannotBeCopied(found.Uncopyable)
		}
		if err != nil {
			return err
		}
		question := fmt.Sprintf("No inbox knows the copies: what was handled already is handled again. Write up to %s again to table %s in %s, as run %s?", count(found.Found-found.Uncopyable, "event"), f.table, a.where(), f.run)
		if err := a.confirm(ctx, question); err != nil {
			return err
		}
	}
	return g.write(ctx)
}

// look searches, and finds what cannot be copied. It writes nothing.
func (g *again) look(ctx context.Context) (replay.Result, error) {
	bar := g.bar("searching", -1)
	defer bar.done()
	return g.events.Again(ctx, g.f.query, g.writer, g.f.run, replay.Options{DryRun: true, Progress: func(p replay.Progress) { bar.set(p.Searched) },
		Uncopyable: func(_ outbox.Record, err error) bool {
			g.uncopyable = append(g.uncopyable, err)
			return true
		}})
}

func (g *again) write(ctx context.Context) error {
	g.uncopyable = nil
	bar, total := g.bar("searching", -1), -1
	done, failed := g.events.Again(ctx, g.f.query, g.writer, g.f.run, replay.Options{PerSecond: g.f.rate, Progress: func(p replay.Progress) {
		if !p.Searching && total < 0 {
			bar.done()
			total = p.Found
			bar = g.bar("writing", total)
		}
		if p.Searching {
			bar.set(p.Searched)
		} else {
			bar.set(p.Passed)
		}
	}, Unreadable: func(_ outbox.Record, err error) bool {
		if g.f.skipUnreadable {
			g.unreadable = append(g.unreadable, err)
		}
		return g.f.skipUnreadable
	}, Uncopyable: func(_ outbox.Record, err error) bool {
		g.uncopyable = append(g.uncopyable, err)
		return g.f.skipUncopyable
	}})
	bar.done()
	g.tell(g.unreadable, "left out")
	if len(g.uncopyable) > 0 && !g.f.skipUncopyable {
		g.tell(g.uncopyable, "cannot be copied")
		if refused := (*outbox.TransactionError)(nil); errors.As(failed, &refused) { // and not what ended the search for others
			failed = cannotBeCopied(len(g.uncopyable))
		}
	} else {
		g.tell(g.uncopyable, "left out")
	}
	if malformed := (*outbox.DecodeError)(nil); errors.As(failed, &malformed) {
		failed = fmt.Errorf("%w: --skip-unreadable leaves such rows out", failed)
	}
	g.result.Found, g.result.Copies, g.result.Gone, g.result.Unreadable, g.result.Uncopyable = done.Found, done.Copies, done.Gone, done.Unreadable, len(g.uncopyable)
	g.result.Written = done.Done - g.result.Repeated
	if failed != nil {
		g.result.Error = g.explain(failed)
		if !done.Next.From.IsZero() && done.Done > 0 {
			g.result.GoOnFrom = done.Next.From.UTC().Format(time.RFC3339Nano)
		}
	}
	if g.json() {
		return errors.Join(failed, g.printJSON(g.result))
	}
	g.print()
	return failed
}

// print tells the result as text.
func (g *again) print() {
	r := g.result
	fmt.Fprintf(g.out, "%s found, %d written again, %d written before by this run", count(r.Found, "event"), r.Written, r.Repeated)
	if r.Copies > 0 {
		fmt.Fprintf(g.out, ", %d left out as copies", r.Copies)
	}
	if r.Unreadable > 0 {
		fmt.Fprintf(g.out, ", %d left out as unreadable", r.Unreadable)
	}
	if r.Uncopyable > 0 && g.f.skipUncopyable {
		fmt.Fprintf(g.out, ", %d left out as uncopyable", r.Uncopyable)
	}
	fmt.Fprintln(g.out)
	if r.GoOnFrom != "" {
		fmt.Fprintf(g.out, "go on with the same --run; --from %s saves time\n", r.GoOnFrom)
	}
}

// mostTold is how many events are told one by one.
const mostTold = 20

// tell warns of events.
func (g *again) tell(errs []error, what string) {
	for _, err := range errs[:min(len(errs), mostTold)] {
		g.warn("%s: %s", what, g.explain(err))
	}
	if more := len(errs) - mostTold; more > 0 {
		g.warn("%s: %d more", what, more)
	}
}

func cannotBeCopied(n int) error {
	return fmt.Errorf("%s cannot be copied, and nothing was written: --skip-uncopyable leaves them out", count(n, "event"))
}

// countRepeats counts the writes that had been made before. Several are made at a time.
func countRepeats(n *int) func(context.Context, outbox.WriteInfo) {
	var mu sync.Mutex
	return func(_ context.Context, w outbox.WriteInfo) {
		if w.Duplicate {
			mu.Lock()
			defer mu.Unlock()
			*n++
		}
	}
}
