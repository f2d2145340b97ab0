package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/spf13/cobra"

	"github.com/seed-1b628d3f/outbox/internal/names"
	"github.com/seed-1b628d3f/outbox/replay"
)

// createFlags are those of the command create.
type createFlags struct {
	table, stream, leases, inbox, deadLetters string
	shards                                    int
	onDemand, recovery, noTTL                 bool
	retentionGiven, shardsGiven               bool // --retention and --shards were
	retention                                 time.Duration
	indexes                                   []string
	wait                                      time.Duration
}

// names checks the names. A stream is given by name: that of a new one, and the requests of the others have no ARN.
func (f *createFlags) names() error {
	return checkNames(tableFlag("table", f.table), named{"stream", f.stream, names.KinesisName}, tableFlag("leases", f.leases), tableFlag("inbox", f.inbox), tableFlag("dead-letters", f.deadLetters))
}

func (f *createFlags) check() error {
	switch {
	case f.table == "" || f.stream == "":
		return errors.New("--table and --stream must not be empty")
	case f.names() != nil:
		return f.names()
	case f.onDemand && f.shardsGiven:
		return errors.New("--shards and --on-demand exclude each other: AWS decides how many shards an on-demand stream has")
	case f.shards < 1 || f.shards > 10_000:
		return fmt.Errorf("--shards: want 1 to 10000, have %d", f.shards)
	case f.retention < 24*time.Hour || f.retention > 365*24*time.Hour || f.retention%time.Hour != 0:
		return fmt.Errorf("--retention: want full hours from 24h to 8760h, have %s", f.retention)
	case f.wait <= 0:
		return fmt.Errorf("--wait: want more than 0, have %s", f.wait)
	}
	for _, by := range f.indexes {
		if by != string(replay.ByAggregate) && by != string(replay.ByType) {
			return fmt.Errorf("--index: want aggregate or type, have %q", by)
		}
	}
	names := []string{f.table, f.leases, f.inbox, f.deadLetters}
	for i, name := range names {
		if name != "" && slices.Contains(names[:i], name) {
			return fmt.Errorf("two tables are both named %q", name)
		}
	}
	return nil
}

func (a *app) createCommand() *cobra.Command {
	var f createFlags
	cmd := &cobra.Command{
		Use: "create", Short: "Create the tables, the stream and the destination between them",
		Long: `create makes what an outbox needs, as far as it does not exist, and waits until
all of it is ACTIVE: the events table with time to live, the Kinesis stream, the
streaming destination from one to the other in microseconds, and, by flags, the
lease table of workers, the inbox and the dead letter table. Tables are billed per
request.

It may be called again: it makes what is missing. First it looks at all that is
there, and refuses tables with other keys and a stream that is not as --shards or
--on-demand say. Then, before it changes settings of what is there, it tells them,
and asks: time to live, the destination, a longer retention, point-in-time recovery,
indexes. Without a terminal it wants --yes for that. Whatever the answer, it deletes
nothing, and leaves keys, billing and shards of what is there as they are.

An index costs a write unit for every event, and an index by type can throttle
the table's own writes when one type is hot: see the package replay.`,
		Example: `  outbox create
  outbox create --table orders-events --stream orders --shards 4 --leases orders-leases --pitr`,
		Args: cobra.NoArgs,
		RunE: a.action(f.check, func(ctx context.Context, c *clients) error { return a.create(ctx, c, f) }),
		PreRun: func(cmd *cobra.Command, _ []string) {
			f.retentionGiven, f.shardsGiven = cmd.Flags().Changed("retention"), cmd.Flags().Changed("shards")
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.table, "table", "events", "events table")
	flags.StringVar(&f.stream, "stream", "events", "Kinesis stream")
	flags.IntVar(&f.shards, "shards", 1, "shards of a new stream; several spread the events of an aggregate")
	flags.BoolVar(&f.onDemand, "on-demand", false, "make a new stream an on-demand one, without --shards")
	flags.DurationVar(&f.retention, "retention", 24*time.Hour, "how long the stream keeps records, at least")
	flags.StringVar(&f.leases, "leases", "leases", "lease table of workers; empty for none")
	flags.StringVar(&f.inbox, "inbox", "", "inbox table")
	flags.StringVar(&f.deadLetters, "dead-letters", "", "dead letter table")
	flags.BoolVar(&f.noTTL, "no-ttl", false, "no time to live on the events table: rows are kept for ever")
	flags.BoolVar(&f.recovery, "pitr", false, "point-in-time recovery of the events table")
	flags.StringSliceVar(&f.indexes, "index", nil, "index of the events table for replays: aggregate, type, or both")
	flags.BoolVarP(&a.yes, "yes", "y", false, "change settings of what is there without asking")
	flags.DurationVar(&f.wait, "wait", 10*time.Minute, "how long to wait until all is ACTIVE; an index may take longer")
	return cmd
}

// created is what became of one resource.
type created struct {
	Resource string `json:"resource"`
	Name     string `json:"name"`
	Action   string `json:"action"` // created, changed or exists
	Detail   string `json:"detail,omitempty"`
}

// creation is the result of create.
type creation struct {
	Resources []created `json:"resources"`
	failure
}

// creator makes the resources. First it looks at all of them, and plans; nothing is made or changed before all has been looked at.
type creator struct {
	*app
	*clients
	f createFlags

	tables  map[string]*dynamodbtypes.TableDescription // those that are there, by name
	changes []string                                   // what it would change of what is there
	steps   []func(context.Context) error              // what is to be made, in order
	done    []created
}

func (a *app) create(ctx context.Context, c *clients, f createFlags) (err error) {
	k := &creator{app: a, clients: c, f: f, tables: map[string]*dynamodbtypes.TableDescription{}, done: []created{}}
	if err = k.within(ctx, k.look); err == nil {
		err = k.ask(ctx)
	}
	if err == nil {
		err = k.within(ctx, k.make)
	}
	if a.json() {
		return errors.Join(err, a.printJSON(creation{k.done, failure{a.explain(err)}}))
	}
	return err
}

// within bounds how long a part may take. The answer to a question may take longer.
func (k *creator) within(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, k.f.wait, fmt.Errorf("gave up waiting after %s (--wait); call again to go on", k.f.wait))
	defer cancel()
	err := do(ctx)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}

// look finds out what is there, and what is to be done.
func (k *creator) look(ctx context.Context) error {
	events := eventsSpec
	if k.f.noTTL {
		events.ttl = ""
	}
	looks := []func(context.Context) error{
		func(ctx context.Context) error { return k.table(ctx, events, k.f.table) },
		k.stream,
	}
	if k.f.recovery {
		looks = append(looks, k.recovery)
	}
	for _, t := range []struct {
		spec tableSpec
		name string
	}{{leasesSpec, k.f.leases}, {inboxSpec, k.f.inbox}, {deadLettersSpec, k.f.deadLetters}} {
		if t.name != "" {
			looks = append(looks, func(ctx context.Context) error { return k.table(ctx, t.spec, t.name) })
		}
	}
	for _, look := range looks {
		if err := look(ctx); err != nil {
			return err
		}
	}
	for _, by := range k.f.indexes {
		k.index(replay.Index(by))
	}
	return nil
}

// ask tells what would be changed of what is there, and asks for it.
func (k *creator) ask(ctx context.Context) error {
	if len(k.changes) == 0 || k.yes {
		return nil
	}
	fmt.Fprintf(k.err, "this would change what is there, in %s:\n", k.app.where())
	for _, change := range k.changes {
		fmt.Fprintln(k.err, "  - "+change)
	}
	return k.confirm(ctx, "Make these changes?")
}

func (k *creator) make(ctx context.Context) error {
	for _, step := range k.steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// then plans a step.
func (k *creator) then(step func(context.Context) error) { k.steps = append(k.steps, step) }

// change notes that a step changes what is there.
func (k *creator) change(format string, args ...any) {
	k.changes = append(k.changes, fmt.Sprintf(format, args...))
}

// add notes, and tells, what became of a resource.
func (k *creator) add(c created) {
	k.done = append(k.done, c)
	if k.json() {
		return
	}
	p := k.paint(k.out)
	mark := p.green("+")
	if c.Action == "exists" {
		mark = p.faint("=")
	}
	if c.Detail != "" {
		c.Detail = p.faint("  " + c.Detail)
	}
	fmt.Fprintf(k.out, "%s %s %s %s%s\n", mark, c.Resource, p.bold(c.Name), c.Action, c.Detail)
}

// until waits until done says so, showing what it waits for.
func (k *creator) until(ctx context.Context, what string, done func() (bool, error)) error {
	var bar *progress
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		ok, err := done()
		if err != nil || ok {
			if bar != nil {
				bar.done()
			}
			if err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
			return nil
		}
		if bar == nil {
			bar = k.bar("waiting for "+what, -1)
		}
		bar.set(0)
		select {
		case <-ctx.Done():
			bar.done()
			return fmt.Errorf("%s: %w", what, ctx.Err())
		case <-time.After(pause):
		}
	}
}
