package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/replay"
)

// replayFlags are those of the command replay.
type replayFlags struct {
	table, id, aggregate, eventType string
	from, to                        string
	again, dryRun, payload          bool
	run                             string
	rate                            float64
	most                            int
	ttl                             time.Duration
	skipUnreadable, skipUncopyable  bool
	attributes                      attributesFlag

	query replay.Query
	names outbox.Attributes
}

var runName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

func (f *replayFlags) check(a *app) (err error) {
	a.lists = !f.again && !f.dryRun
	if f.table == "" {
		return errors.New("--table must not be empty")
	}
	if err := checkNames(tableFlag("table", f.table), keyFlag("id", f.id), keyFlag("aggregate", f.aggregate),
		keyFlag("type", f.eventType)); err != nil {
		return err
	}
	if f.names, err = f.attributes.read(); err != nil {
		return err
	}
	f.query = replay.Query{ID: f.id, AggregateID: f.aggregate, Type: f.eventType}
	if f.query.From, err = a.moment("from", f.from); err != nil {
		return err
	}
	if f.query.To, err = a.moment("to", f.to); err != nil {
		return err
	}
	ranged := f.from != "" || f.to != ""
	switch {
	case f.query == replay.Query{}:
		return errors.New("which events? Give --id, or any of --aggregate, --type, --from and --to")
	case f.id != "" && (f.aggregate != "" || f.eventType != "" || ranged):
		return errors.New("--id stands alone, without --aggregate, --type, --from and --to")
	case f.from != "" && f.to != "" && !f.query.From.Before(f.query.To):
		return fmt.Errorf("--from (%s) must be before --to (%s)", f.query.From.UTC().Format(time.RFC3339), f.query.To.UTC().Format(time.RFC3339))
	case f.again && !runName.MatchString(f.run):
		return errors.New("--again needs --run, a name of 1 to 64 letters, digits, '.', '_' and '-': the same name again writes nothing twice, another writes everything once more")
	case !f.again && (f.run != "" || a.yes || f.rate != 0 || f.ttl != 0 || f.skipUnreadable || f.skipUncopyable):
		return errors.New("--run, --rate, --ttl, --skip-unreadable, --skip-uncopyable and --yes are for --again")
	case f.payload && (f.again || f.dryRun):
		return errors.New("--payload is for a list of events, without --again and --dry-run")
	case f.rate < 0:
		return fmt.Errorf("--rate: want 0 or more, have %g", f.rate)
	case f.most < 1:
		return fmt.Errorf("--max: want 1 or more, have %d", f.most)
	case f.ttl != 0 && f.ttl < 24*time.Hour:
		return fmt.Errorf("--ttl: want at least 24h, have %s", f.ttl)
	}
	return nil
}

func (a *app) replayCommand() *cobra.Command {
	var f replayFlags
	cmd := &cobra.Command{
		Use: "replay", Short: "Find events in the events table, and write them again",
		Long: `replay finds events that are still in the events table, by id, or by aggregate,
type and time, and prints them in order. With --again it writes each once more, as
a new event with an id of its own, so that it passes through the stream to every
consumer. No inbox knows the copies: what was handled already is handled again. It
asks first.

A run has a name. The same name again writes only what is missing, so a run that
failed is simply repeated; another name writes everything once more. What is
written never expires unless --ttl says so.

Before it asks, it reads all events and looks for those that cannot be copied: the
id of a copy is longer by the name of the run, which makes some ids too long and some
rows too large. It writes nothing if there are any, unless --skip-uncopyable leaves
them out.

Handlers of your own service can have events handed to them without a detour over
the stream: that needs their code, so it is no command but the package replay.

Without an index (outbox create --index) all but --id reads the whole table.`,
		Example: `  outbox replay --aggregate order-42
  outbox replay --type ORDER_CREATED --from 2026-01-31T10:00:00Z --to 2026-01-31T12:00:00Z
  outbox replay --type ORDER_CREATED --from 3d --again --run outage-31-jan --rate 50`,
		Args: cobra.NoArgs,
		RunE: a.action(func() error { return f.check(a) }, func(ctx context.Context, c *clients) error { return a.replay(ctx, c, f) }),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.table, "table", "events", "events table, by name or ARN")
	f.attributes.add(flags)
	flags.StringVar(&f.id, "id", "", "the event with this id")
	flags.StringVar(&f.aggregate, "aggregate", "", "events of this aggregate")
	flags.StringVar(&f.eventType, "type", "", "events of this type")
	flags.StringVar(&f.from, "from", "", "events at or after this time, or from so long ago")
	flags.StringVar(&f.to, "to", "", "events before this time, or until so long ago")
	flags.BoolVar(&f.again, "again", false, "write the events again")
	flags.StringVar(&f.run, "run", "", "name of the run, with --again")
	flags.BoolVar(&f.dryRun, "dry-run", false, "only say how many events there are")
	flags.Float64Var(&f.rate, "rate", 0, "write at most so many events a second; 0 is no limit")
	flags.DurationVar(&f.ttl, "ttl", 0, "time to live of what is written, as the service's WithTTL; without it, it is kept for ever")
	flags.IntVar(&f.most, "max", 100_000, "refuse to go on with more events than this")
	flags.BoolVar(&f.skipUnreadable, "skip-unreadable", false, "leave out rows that cannot be read, each with a warning; without it they end the run")
	flags.BoolVar(&f.skipUncopyable, "skip-uncopyable", false, "leave out events whose copy would be too large, with warnings; without it nothing is written")
	flags.BoolVar(&f.payload, "payload", false, "print payloads and headers, too")
	flags.BoolVarP(&a.yes, "yes", "y", false, "do not ask")
	return cmd
}

// replayed is the result of --again and --dry-run.
type replayed struct {
	DryRun bool `json:"dryRun,omitempty"`
	Found  int  `json:"found"`
	// Written events are new, Repeated ones were there from an earlier call of the same run.
	Written    int    `json:"written"`
	Repeated   int    `json:"repeated"`
	Copies     int    `json:"copies"`
	Gone       int    `json:"gone"`
	Unreadable int    `json:"unreadable,omitempty"`
	Uncopyable int    `json:"uncopyable,omitempty"`
	GoOnFrom   string `json:"goOnFrom,omitempty"`
	failure
}

func (a *app) replay(ctx context.Context, c *clients, f replayFlags) error {
	events, err := replay.New(c.dynamodb, f.table, replay.WithMaxEvents(f.most), replay.WithAttributes(f.names))
	if err != nil {
		return usageError{err}
	}
	if f.again {
		return a.replayAgain(ctx, c, events, f)
	}
	if !f.dryRun {
		return a.list(ctx, events, f)
	}
	bar := a.bar("searching", -1)
	result, err := events.To(ctx, f.query, none{}, replay.Options{DryRun: true, Progress: func(p replay.Progress) { bar.set(p.Searched) }})
	bar.done()
	if err != nil {
		return err
	}
	return a.wouldReplay(replayed{DryRun: true, Found: result.Found})
}

// wouldReplay tells the result of --dry-run.
func (a *app) wouldReplay(result replayed) error {
	if a.json() {
		return a.printJSON(result)
	}
	fmt.Fprintf(a.out, "%s found", count(result.Found, "event"))
	if result.Uncopyable > 0 {
		fmt.Fprintf(a.out, ", %d of them cannot be copied", result.Uncopyable)
	}
	fmt.Fprintln(a.out)
	return nil
}

// list prints the events.
func (a *app) list(ctx context.Context, events *replay.Events, f replayFlags) error {
	bad, n := 0, 0
	for r, err := range events.Records(ctx, f.query) {
		if malformed := (*outbox.DecodeError)(nil); errors.As(err, &malformed) {
			a.warn("%s", a.explain(err))
			bad++
			continue
		}
		if err != nil {
			return err
		}
		if err := a.printEvent(r, a.json(), f.payload); err != nil {
			return err
		}
		n++
	}
	if n == 0 && bad == 0 {
		a.note("0 events found")
	}
	if bad > 0 {
		return fmt.Errorf("%s could not be read", count(bad, "row"))
	}
	return nil
}

// none is a processor that a dry run never calls.
type none struct{}

func (none) Process(context.Context, ...outbox.Record) error {
	return errors.New("a dry run handles nothing")
}
