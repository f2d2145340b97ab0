package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/inbox"
	"github.com/seed-1b628d3f/outbox/replay"
)

// reconcileFlags are those of the command reconcile.
type reconcileFlags struct {
	app                      *app // for commands that are named
	table, inbox, consumer   string
	letters, lettersConsumer string
	types                    []string
	order                    bool
	from, since, after       string
	grace                    time.Duration
	rate                     float64
	limit                    int
	attributes               attributesFlag

	begins, oldest time.Time // of --from and --since
	names          outbox.Attributes
}

// Bounds and defaults of flags.
const (
	usualGrace = 15 * time.Minute
	usualLimit = 20
	mostListed = 10_000 // of --limit, and so of the memory for what is listed
)

func (f *reconcileFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.table, "table", "events", "events table, by name or ARN")
	f.attributes.add(flags)
	flags.StringVar(&f.inbox, "inbox", "inbox", "inbox table")
	flags.StringVar(&f.consumer, "consumer", "", "consumer whose events they are, as NewInbox was given it")
	flags.StringVar(&f.letters, "dead-letters", "dead-letters", "dead letter table; empty: the consumer has none")
	flags.StringVar(&f.lettersConsumer, "dead-letters-consumer", "", "consumer that NewDeadLetterTable was given (default: --consumer)")
	flags.StringArrayVar(&f.types, "type", nil, "a type of events that the consumer handles with its inbox (default: all)")
	flags.BoolVar(&f.order, "order", false, "the consumer has WithOrder")
	flags.StringVar(&f.from, "from", "", "from what time on WithOrder wants events, or from so long ago (default: all)")
	flags.StringVar(&f.since, "since", "", "leave alone events before this time, or from longer ago")
	flags.DurationVar(&f.grace, "grace", usualGrace, "leave alone events that are younger, since they may be on their way")
	flags.Float64Var(&f.rate, "rate", 0, "read at most so many rows a second; 0 is no limit")
	flags.IntVar(&f.limit, "limit", usualLimit, "list at most so many events, the oldest")
	flags.StringVar(&f.after, "after", "", "go on behind this event, as a run that was cut off says")
}

func (f *reconcileFlags) check(a *app) (err error) {
	f.app = a
	switch {
	case f.table == "" || f.inbox == "":
		return errors.New("--table and --inbox must not be empty")
	case f.consumer == "":
		return errors.New("--consumer is missing: the name that the inbox was given (NewInbox)")
	case f.lettersConsumer != "" && f.letters == "":
		return errors.New("--dead-letters-consumer is for --dead-letters")
	case f.from != "" && !f.order:
		return errors.New("--from is for --order: it is what the service gives WithOrder. --since leaves events alone")
	case slices.Contains(f.types, ""):
		return errors.New("--type is empty: leave it out, or give it a value")
	case f.grace <= 0:
		return fmt.Errorf("--grace: want more than 0, have %s", f.grace)
	case f.rate != 0 && !(f.rate >= 1):
		return fmt.Errorf("--rate: want 1 or more, or 0 for no limit, have %g", f.rate)
	case f.limit < 0 || f.limit > mostListed:
		return fmt.Errorf("--limit: want 0 to %d, have %d", mostListed, f.limit)
	}
	named := []named{tableFlag("table", f.table), tableFlag("inbox", f.inbox), tableFlag("dead-letters", f.letters), keyFlag("dead-letters-consumer", f.lettersConsumer), keyFlag("after", f.after)}
	for _, eventType := range f.types {
		named = append(named, keyFlag("type", eventType))
	}
	if err := checkNames(named...); err != nil {
		return err
	}
	if err := inbox.CheckConsumer(f.consumer); err != nil {
		return fmt.Errorf("--consumer: %w", err)
	}
	if f.names, err = f.attributes.read(); err != nil {
		return err
	}
	if f.names.Time == outbox.NoAttribute {
		return errors.New("--attributes: without the time of an event nobody can tell whether it is on its way")
	}
	if f.begins, err = a.moment("from", f.from); err != nil {
		return err
	}
	if f.oldest, err = a.moment("since", f.since); err != nil {
		return err
	}
	if f.oldest.After(a.now()) {
		return fmt.Errorf("--since: %s is in the future", f.oldest.UTC().Format(time.RFC3339))
	}
	return nil
}

// lettersOf is the consumer that the dead letter table was given.
func (f *reconcileFlags) lettersOf() string {
	if f.lettersConsumer != "" {
		return f.lettersConsumer
	}
	return f.consumer
}

// again writes the command once more, with other flags added.
func (f *reconcileFlags) again(more ...string) string {
	words := []string{"reconcile", "--table", f.table, "--inbox", f.inbox, "--consumer", f.consumer, "--dead-letters", f.letters}
	if f.lettersConsumer != "" {
		words = append(words, "--dead-letters-consumer", f.lettersConsumer)
	}
	for _, eventType := range f.types {
		words = append(words, "--type", eventType)
	}
	if f.order {
		words = append(words, "--order")
	}
	if f.from != "" {
		words = append(words, "--from", f.begins.UTC().Format(time.RFC3339Nano))
	}
	if f.since != "" {
		words = append(words, "--since", f.oldest.UTC().Format(time.RFC3339Nano))
	}
	if f.grace != usualGrace {
		words = append(words, "--grace", f.grace.String())
	}
	if f.rate > 0 {
		words = append(words, "--rate", strconv.FormatFloat(f.rate, 'f', -1, 64))
	}
	if f.limit != usualLimit {
		words = append(words, "--limit", strconv.Itoa(f.limit))
	}
	if f.app.timeout != defaultTimeout {
		words = append(words, "--timeout", f.app.timeout.String())
	}
	return f.other(append(words, more...)...)
}

// other writes a command that knows the events table by the same names.
func (f *reconcileFlags) other(words ...string) string {
	if attributes := f.attributes.String(); attributes != "" {
		words = append(words, "--attributes", attributes)
	}
	return f.app.named(words...)
}

func (a *app) reconcileCommand() *cobra.Command {
	var f reconcileFlags
	cmd := &cobra.Command{
		Use: "reconcile", Short: "Find events that a consumer has neither handled nor given up",
		Long: `reconcile reads the whole events table, and looks for each event in the inbox and in
the dead letters of a consumer. It lists what neither has: what no stream has
delivered. It changes nothing and delivers nothing, since the handlers are in your
service: its call of Reconcile (package replay) delivers.

The command does not know which types the consumer handles. Without --type, an event
of a type without a handler is undelivered, too; the counts by type show it. --type
names a type that has one, and may be given several times. A consumer with WithOrder
needs --order, and the --from that WithOrder has.

Events that are younger than --grace may be on their way, and those that the inbox
may have forgotten cannot be judged: both are counted. How long the inbox remembers,
its rows say.

A run that was cut off says with which --after it goes on. It exits with 1 if
something is undelivered, or cannot be read.`,
		Example: `  outbox reconcile --consumer confirmations
  outbox reconcile --consumer confirmations --type ORDER_CREATED --type ORDER_PAID --since 3d
  outbox reconcile --consumer balances --order --from 2026-01-31T10:00:00Z --rate 2000 -o json | jq -r '.events[].id'`,
		Args: cobra.NoArgs,
		RunE: a.action(func() error { return f.check(a) }, func(ctx context.Context, c *clients) error { return a.reconcile(ctx, c, &f) }),
	}
	f.add(cmd.Flags())
	return cmd
}

// reconciler returns the events table as the walk reads it, and a Consumer that has the names and no handlers of its own. Wrong names are usage errors.
func (f *reconcileFlags) reconciler(c *clients, w *walk, memory time.Duration) (*replay.Events, *outbox.Consumer, error) {
	events, err := replay.New(w, f.table, replay.WithAttributes(f.names))
	if err != nil {
		return nil, nil, usageError{err}
	}
	box, err := outbox.NewInbox(c.dynamodb, f.inbox, f.consumer, outbox.WithInboxTTL(memory))
	if err != nil {
		return nil, nil, usageError{err}
	}
	opts := []outbox.ConsumerOption{outbox.WithAttributes(f.names), outbox.WithInbox(box)}
	if f.letters != "" {
		letters, err := outbox.NewDeadLetterTable(c.dynamodb, f.letters, f.lettersOf())
		if err != nil {
			return nil, nil, usageError{err}
		}
		opts = append(opts, outbox.WithDeadLetters(letters))
	}
	if f.order {
		opts = append(opts, outbox.WithOrder(c.dynamodb, f.table, f.begins))
	}
	if len(f.types) == 0 {
		opts = append(opts, outbox.FailUnknownTypes()) // then all types are judged
	}
	consumer, err := outbox.NewConsumer(opts...)
	if err != nil {
		return nil, nil, usageError{err}
	}
	for _, eventType := range slices.Compact(slices.Sorted(slices.Values(f.types))) {
		outbox.HandleType(consumer, eventType, func(context.Context, outbox.Event[json.RawMessage]) error {
			return errors.New("a report handles nothing")
		})
	}
	return events, consumer, nil
}

func (a *app) reconcile(ctx context.Context, c *clients, f *reconcileFlags) error {
	w := newWalk(c.dynamodb, f, a.now())
	if _, _, err := f.reconciler(c, w, usualMemory); err != nil { // before the first call
		return err
	}
	known, err := knownOfInbox(ctx, c.dynamodb, f)
	if err != nil {
		return err
	}
	if !known.marks && !f.order { // positions never expire
		a.note("no mark of consumer %s was read from inbox table %s: it is taken to remember for %d days, the default. If the service gives WithInboxTTL less, --since leaves older events alone", f.consumer, f.inbox, int(usualMemory/(24*time.Hour)))
	}
	r := &reconciliation{app: a, f: f, walk: w, inbox: known}
	if f.letters != "" {
		r.letters, r.allLetters, err = knownConsumers(ctx, c.dynamodb, f.letters)
		if missing := (*dynamodbtypes.ResourceNotFoundException)(nil); errors.As(err, &missing) {
			err = fmt.Errorf("a consumer without dead letters wants --dead-letters=: %w", err)
		}
		if err != nil {
			return err
		}
	}
	events, consumer, err := f.reconciler(c, w, known.memory)
	if err != nil {
		return err
	}
	book, err := consumer.Accounts(f.table)
	if err != nil {
		return err
	}
	w.memory = book.Memory
	bar := a.bar("searching", -1)
	w.progress = bar.set
	result, failed := events.Reconcile(ctx, consumer, replay.ReconcileOptions{Grace: f.grace, Since: f.oldest, ReportOnly: true, Found: r.found})
	bar.done()
	return r.tell(result, failed)
}
