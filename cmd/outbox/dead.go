package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-1b628d3f/outbox"
)

// deadFlags are those of the commands about dead letters.
type deadFlags struct {
	table, consumer           string
	id, eventType, aggregate  string
	errorText                 string
	storedAfter, storedBefore string
	all, payload, noWait      bool
	dryRun, byError           bool
	inbox, inboxConsumer      string // of the positions of WithOrder
	waitGiven                 bool   // --wait was
	wait                      time.Duration

	filter outbox.DeadLetterFilter
}

// check reads the filter. A command that changes something wants one, or --all.
func (f *deadFlags) check(a *app, changes bool) (err error) {
	switch {
	case f.table == "":
		return errors.New("--table must not be empty")
	case f.consumer == "":
		return errors.New("--consumer is missing: the name that the dead letter table was given (NewDeadLetterTable); " + a.named("dead", "consumers", "--table", f.table) + " lists those that the table knows")
	case f.wait < 0:
		return fmt.Errorf("--wait: want 0 or more, have %s", f.wait)
	}
	if err := checkNames(tableFlag("table", f.table), keyFlag("consumer", f.consumer), keyFlag("id", f.id),
		keyFlag("aggregate", f.aggregate), keyFlag("type", f.eventType), tableFlag("inbox", f.inbox)); err != nil {
		return err
	}
	f.filter = outbox.DeadLetterFilter{ID: f.id, Type: f.eventType, AggregateID: f.aggregate, ErrorContains: f.errorText}
	if f.filter.StoredAfter, err = a.moment("stored-after", f.storedAfter); err != nil {
		return err
	}
	if f.filter.StoredBefore, err = a.moment("stored-before", f.storedBefore); err != nil {
		return err
	}
	if after, before := f.filter.StoredAfter, f.filter.StoredBefore; !after.IsZero() && !before.IsZero() && !after.Before(before) {
		return fmt.Errorf("--stored-after (%s) must be before --stored-before (%s)", after.UTC().Format(time.RFC3339), before.UTC().Format(time.RFC3339))
	}
	if f.byError && (f.payload || f.inbox != "") {
		return errors.New("--by-error goes with neither --payload nor --inbox")
	}
	if f.inboxConsumer != "" && f.inbox == "" {
		return errors.New("--inbox-consumer is for --inbox")
	}
	if f.waitGiven && (f.noWait || f.dryRun) {
		return errors.New("--wait has no meaning with --no-wait and --dry-run")
	}
	if f.noWait && f.dryRun {
		return errors.New("--dry-run and --no-wait exclude each other")
	}
	empty := f.filter == outbox.DeadLetterFilter{}
	if changes && empty != f.all {
		return errors.New("which dead letters? Give --id, --type, --aggregate, --error, --stored-after or --stored-before, or --all alone")
	}
	return nil
}

func (a *app) deadCommand() *cobra.Command {
	root := &cobra.Command{
		Use: "dead", Short: "List, show, redrive and discard dead letters",
		Long: `dead is about the events that a consumer could not handle, and those that wait
behind them. Their texts of errors are what the handlers said, and may quote payloads.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("a command is missing: consumers, list, show, redrive or discard")
		},
	}
	root.AddCommand(a.deadConsumersCommand(), a.deadListCommand(), a.deadShowCommand(), a.deadRedriveCommand(), a.deadDiscardCommand())
	return root
}

// deadCommandOf builds a command with the flags that all have.
func (a *app) deadCommandOf(cmd *cobra.Command, f *deadFlags, changes, filtered bool, do func(context.Context, *outbox.DeadLetterTable, *deadFlags) error) *cobra.Command {
	cmd.RunE = a.action(func() error { a.lists = !changes; return f.check(a, changes) }, func(ctx context.Context, c *clients) error {
		table, err := outbox.NewDeadLetterTable(c.dynamodb, f.table, f.consumer)
		if err != nil {
			return usageError{err}
		}
		return do(ctx, table, f)
	})
	flags := cmd.Flags()
	flags.StringVar(&f.table, "table", "dead-letters", "dead letter table")
	flags.StringVar(&f.consumer, "consumer", "", "consumer whose dead letters they are")
	if filtered {
		flags.StringVar(&f.id, "id", "", "the dead letter with this id")
		flags.StringVar(&f.eventType, "type", "", "events of this type")
		flags.StringVar(&f.aggregate, "aggregate", "", "events of this aggregate")
		flags.StringVar(&f.errorText, "error", "", "whose error contains this text")
		flags.StringVar(&f.storedAfter, "stored-after", "", "that became dead letters at or after this time, or since so long ago")
		flags.StringVar(&f.storedBefore, "stored-before", "", "that became dead letters before this time, or so long ago")
	}
	if changes {
		flags.BoolVar(&f.all, "all", false, "all dead letters of the consumer")
		flags.BoolVarP(&a.yes, "yes", "y", false, "do not ask")
	}
	return cmd
}

// letterJSON is a dead letter as the commands print it.
type letterJSON struct {
	ID       string    `json:"id"`
	Event    eventJSON `json:"event"`
	Error    string    `json:"error,omitempty"`
	Attempts int       `json:"attempts"`
	Parked   bool      `json:"parked"`
	StoredAt time.Time `json:"storedAt,omitzero"`
	TriedAt  time.Time `json:"triedAt,omitzero"`
	Order    string    `json:"order,omitempty"`     // the events table by whose sequences the consumer orders the event
	WaitsFor int64     `json:"waitsFor,omitempty"`  // with --inbox: the sequence that the aggregate waits for
	Raw      []byte    `json:"rawBase64,omitempty"` // with --payload, of a record that could not be decoded
}

func letterAsJSON(l outbox.DeadLetter, private bool) letterJSON {
	out := letterJSON{ID: l.ID, Event: asJSON(l.Record, private && l.Raw == nil), Error: l.Error, Attempts: l.Attempts, Parked: l.Parked, StoredAt: l.StoredAt, TriedAt: l.TriedAt, Order: l.Order}
	if private {
		out.Raw = l.Raw
	}
	return out
}

func (a *app) deadListCommand() *cobra.Command {
	var f deadFlags
	cmd := a.deadCommandOf(&cobra.Command{
		Use: "list", Short: "List dead letters, or count them by their errors",
		Example: `  outbox dead list --consumer confirmations
  outbox dead list --consumer confirmations --by-error
  outbox dead list --consumer confirmations --type ORDER_CREATED --stored-after 3d -o json | jq .id`,
		Args: cobra.NoArgs,
	}, &f, false, true, a.deadList)
	cmd.Flags().BoolVar(&f.byError, "by-error", false, "count the letters whose errors say the same, but for ids and numbers")
	cmd.Flags().BoolVar(&f.payload, "payload", false, "show payloads and headers, too (with -o json)")
	f.addInbox(cmd.Flags())
	return cmd
}

func (a *app) deadList(ctx context.Context, table *outbox.DeadLetterTable, f *deadFlags) error {
	if f.byError {
		return a.deadByError(ctx, table, f)
	}
	lines := json.NewEncoder(a.out)
	lines.SetEscapeHTML(false)
	p := a.paint(a.out)
	known, err := a.newPositions(f)
	if err != nil {
		return err
	}
	n, parked := 0, 0
	for l, err := range table.List(ctx, f.filter) {
		if err != nil {
			return err
		}
		n++
		place, err := known.of(ctx, &l)
		if err != nil {
			return err
		}
		if a.json() {
			shown := letterAsJSON(l, f.payload)
			shown.WaitsFor = place.next
			if err := lines.Encode(shown); err != nil {
				return err
			}
			continue
		}
		state := p.red("failed "+count(l.Attempts, "time")) + "  " + firstOf(printable(l.Error), 120)
		switch {
		case l.Parked:
			parked++
			state = p.yellow("waits behind another")
		case l.Raw != nil:
			state = p.red("cannot be decoded") + "  " + firstOf(printable(l.Error), 120)
		}
		if place.next > 0 {
			state += "  " + p.cyan(place.String())
		}
		_, err = fmt.Fprintf(a.out, "%s  %s  %s  %s\n", p.faint(l.StoredAt.UTC().Format(time.RFC3339)), p.bold(printable(l.ID)), p.green(printable(l.Record.Type)), state)
		if err != nil {
			return err
		}
	}
	if !a.json() {
		fmt.Fprintf(a.out, "%s, %d of them behind another\n", count(n, "dead letter"), parked)
	}
	a.noteNoLetters(n, f)
	return nil
}

// noteNoLetters tells what an empty result may be about. A name that is mistyped cannot be told from a consumer without dead letters.
func (a *app) noteNoLetters(n int, f *deadFlags) {
	switch {
	case n > 0:
	case f.filter != outbox.DeadLetterFilter{}:
		a.note("no dead letter of consumer %s in table %s matches; %s shows all", f.consumer, f.table, a.named("dead", "list", "--table", f.table, "--consumer", f.consumer))
	default:
		a.note("nothing found for consumer %s in table %s; it has to be the name that NewDeadLetterTable was given (%s lists those that the table knows)", f.consumer, f.table, a.named("dead", "consumers", "--table", f.table))
	}
}

// firstOf cuts a text that is long.
func firstOf(text string, most int) string {
	runes := []rune(text)
	if len(runes) <= most {
		return text
	}
	return string(runes[:most]) + "..."
}

func (a *app) deadShowCommand() *cobra.Command {
	var f deadFlags
	var id string
	cmd := a.deadCommandOf(&cobra.Command{
		Use: "show ID", Short: "Show one dead letter, or those of one event",
		Long: `show takes the id of a dead letter, as list shows it, or the id of an event. For an
event, and for an id that is mistyped, it reads all dead letters of the consumer.
There may be several: events of different types or tables may have one id. With
-o json each is an object, one after the other.`,
		Example: `  outbox dead show --consumer confirmations order-42#01J1A2B3C4D5E6F7G8H9JKMNPQ
  outbox dead show --consumer confirmations 01J1A2B3C4D5E6F7G8H9JKMNPQ`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return errors.New("want one id, as dead list shows it, or that of an event")
			}
			id = args[0]
			return checkKey(id)
		},
	}, &f, false, false, func(ctx context.Context, table *outbox.DeadLetterTable, f *deadFlags) error {
		return a.deadShow(ctx, table, id, f)
	})
	cmd.Flags().BoolVar(&f.payload, "payload", false, "show payload and headers, too")
	f.addInbox(cmd.Flags())
	return cmd
}

func (a *app) deadShow(ctx context.Context, table *outbox.DeadLetterTable, id string, f *deadFlags) error {
	known, err := a.newPositions(f)
	if err != nil {
		return err
	}
	l, err := table.Get(ctx, id)
	if !errors.Is(err, outbox.ErrNoDeadLetter) {
		if err != nil {
			return err
		}
		return a.showLetter(ctx, &l, known, f.payload)
	}
	found := false
	for l, listErr := range table.List(ctx, outbox.DeadLetterFilter{}) {
		if listErr != nil {
			return listErr
		}
		if l.Record.ID != id {
			continue
		}
		if found && !a.json() {
			fmt.Fprintln(a.out)
		}
		found = true
		if err := a.showLetter(ctx, &l, known, f.payload); err != nil {
			return err
		}
	}
	if !found {
		return err
	}
	return nil
}

func (a *app) showLetter(ctx context.Context, l *outbox.DeadLetter, known *positions, private bool) error {
	place, err := known.of(ctx, l)
	if err != nil {
		return err
	}
	if a.json() {
		shown := letterAsJSON(*l, private)
		shown.WaitsFor = place.next
		return a.printJSON(shown)
	}
	rows := [][]string{{"id", l.ID}, {"stored", l.StoredAt.UTC().Format(time.RFC3339)}, {"attempts", fmt.Sprint(l.Attempts)}}
	if l.Parked {
		rows = append(rows, []string{"parked", "it waits behind another dead letter of its aggregate"})
	}
	if !l.TriedAt.IsZero() {
		rows = append(rows, []string{"redrive failed", l.TriedAt.UTC().Format(time.RFC3339)})
	}
	if l.Record.ShardID != "" {
		rows = append(rows, []string{"record", l.Record.ShardID + " " + l.Record.SequenceNumber})
	}
	if l.Error != "" {
		rows = append(rows, []string{"error", l.Error})
	}
	if l.Order != "" {
		rows = append(rows, []string{"order", "by the sequences of table " + l.Order})
	}
	if place.next > 0 {
		rows = append(rows, []string{"position", place.String()})
	}
	if err := a.columns(rows); err != nil {
		return err
	}
	if l.Raw == nil {
		return a.printEvent(l.Record, false, private)
	}
	text := fmt.Sprintf("%d bytes that cannot be decoded", len(l.Raw))
	if private {
		text = printable(string(l.Raw))
	}
	_, err = fmt.Fprintln(a.out, text)
	return err
}

func (a *app) deadRedriveCommand() *cobra.Command {
	var f deadFlags
	cmd := a.deadCommandOf(&cobra.Command{
		Use: "redrive", Short: "Ask the consumer to handle dead letters once more",
		Long: `redrive asks the workers of the consumer to hand dead letters to their handlers
once more, and watches until they have, or --wait is over. The request stays. Of an
aggregate all are redriven, in order, until one fails; with --id, those up to it.

A worker looks for such requests every two seconds. In Lambda nobody does, unless
the function calls AnswerRedriveRequests. It exits with 1 if letters stay.`,
		Example: `  outbox dead redrive --consumer confirmations --type ORDER_CREATED
  outbox dead redrive --consumer confirmations --all --yes --no-wait`,
		Args: cobra.NoArgs,
	}, &f, true, true, a.deadRedrive)
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "only say how many would be handled")
	cmd.Flags().BoolVar(&f.noWait, "no-wait", false, "only ask")
	cmd.Flags().DurationVar(&f.wait, "wait", 10*time.Minute, "how long to watch")
	cmd.PreRun = func(cmd *cobra.Command, _ []string) { f.waitGiven = cmd.Flags().Changed("wait") }
	return cmd
}

// wouldRedrive is the result of redrive with --dry-run.
type wouldRedrive struct {
	DryRun   bool `json:"dryRun"`
	Selected int  `json:"selected"`
	// Handled are those that would be handled, one after the other until one fails: the others of the selected ones' aggregates, too.
	Handled int `json:"handled"`
}

func (a *app) wouldRedrive(ctx context.Context, table *outbox.DeadLetterTable, filter outbox.DeadLetterFilter) error {
	chosen, err := selected(ctx, table, filter)
	if err != nil {
		return err
	}
	nobody, err := outbox.NewConsumer() // whose handlers are not called
	if err != nil {
		return err
	}
	would, err := table.Redrive(ctx, nobody, filter, outbox.RedriveOptions{DryRun: true})
	if err != nil {
		return err
	}
	if a.json() {
		return a.printJSON(wouldRedrive{true, len(chosen), would.Redriven})
	}
	_, err = fmt.Fprintf(a.out, "%s selected, %d would be handled, in the order of their aggregates\n", count(len(chosen), "dead letter"), would.Redriven)
	return err
}

// redriven is the result of redrive.
type redriven struct {
	Asked int `json:"asked"`
	// Gone letters were handled, or discarded meanwhile. Left ones failed again, or nobody has come to them.
	Gone    int  `json:"gone"`
	Left    int  `json:"left"`
	Pending bool `json:"pending"` // the request is not answered yet
	failure
}

func (a *app) deadRedrive(ctx context.Context, table *outbox.DeadLetterTable, f *deadFlags) error {
	if f.dryRun {
		return a.wouldRedrive(ctx, table, f.filter)
	}
	before, err := selected(ctx, table, f.filter)
	if err != nil {
		return err
	}
	a.noteNoLetters(len(before), f)
	result := redriven{Asked: len(before)}
	if len(before) == 0 { // something that was cut off may have left an aggregate parked, which a request repairs
		if _, err := table.RequestRedrive(ctx, f.filter); err != nil {
			return err
		}
	}
	if len(before) > 0 {
		if err := a.confirm(ctx, fmt.Sprintf("Have %s of %s handled once more?", count(len(before), "dead letter"), f.consumer)); err != nil {
			return err
		}
		if _, err := table.RequestRedrive(ctx, f.filter); err != nil {
			return err
		}
		if result.Left, result.Pending = len(before), true; !f.noWait {
			a.note("asked; waiting for a worker of %s to answer, for %s at most (--wait)", f.consumer, f.wait)
			if err := a.watch(ctx, table, f, before, &result); err != nil {
				a.note("the request stays for 7 days: a worker that comes will answer it")
				if a.json() {
					result.Error = a.explain(err)
					return errors.Join(err, a.printJSON(result))
				}
				return err
			}
		}
	}
	if a.json() {
		err = a.printJSON(result)
	} else {
		fmt.Fprintf(a.out, "%s asked for, %d gone, %d left\n", count(result.Asked, "dead letter"), result.Gone, result.Left)
		if result.Pending && !f.noWait {
			fmt.Fprintln(a.out, "no worker has answered, and the request stays: does one run, with this table and this consumer? In Lambda a function has to call AnswerRedriveRequests")
		}
	}
	if err == nil && result.Left > 0 && !f.noWait {
		return errFound
	}
	return err
}

// selected returns the ids of the letters that a filter selects.
func selected(ctx context.Context, table *outbox.DeadLetterTable, filter outbox.DeadLetterFilter) (map[string]bool, error) {
	ids := map[string]bool{}
	for l, err := range table.List(ctx, filter) {
		if err != nil {
			return nil, err
		}
		ids[l.ID] = true
	}
	return ids, nil
}

// watch looks until all letters are gone, the request is answered, or the time is over.
func (a *app) watch(ctx context.Context, table *outbox.DeadLetterTable, f *deadFlags, before map[string]bool, result *redriven) error {
	bar := a.bar("redriving", len(before))
	defer bar.done()
	pause := 200 * time.Millisecond
	for deadline := a.now().Add(f.wait); ; pause = min(2*pause, 3*time.Second) {
		pending, err := table.PendingRedrives(ctx) // before the letters: what it says is done shows in them
		if err != nil {
			return err
		}
		filter := f.filter
		filter.ErrorContains = "" // a letter that fails again has another error
		left, err := selected(ctx, table, filter)
		if err != nil {
			return err
		}
		result.Left = 0
		for id := range before {
			if left[id] {
				result.Left++
			}
		}
		result.Gone, result.Pending = len(before)-result.Left, pending > 0
		bar.set(result.Gone)
		if result.Left == 0 || pending == 0 || a.now().After(deadline) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
