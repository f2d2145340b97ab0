package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/batchget"
	"github.com/seed-1b628d3f/outbox/internal/inbox"
	"github.com/seed-1b628d3f/outbox/internal/names"
	"github.com/seed-1b628d3f/outbox/internal/order"
)

// orderFlags are those of the commands about positions.
type orderFlags struct {
	inbox, consumer, table, letters string
	attributes                      attributesFlag

	aggregate string
	sequence  int64 // to pass
	id        string
}

func (f *orderFlags) check() error {
	switch {
	case f.inbox == "" || f.table == "":
		return errors.New("--inbox and --table must not be empty")
	case f.consumer == "":
		return errors.New("--consumer is missing: the name that the inbox was given (NewInbox)")
	}
	if err := checkNames(tableFlag("inbox", f.inbox), tableFlag("table", f.table), tableFlag("dead-letters", f.letters)); err != nil {
		return err
	}
	if err := inbox.CheckConsumer(f.consumer); err != nil {
		return fmt.Errorf("--consumer: %w", err)
	}
	attributes, err := f.attributes.read()
	f.id = attributes.ID
	return err
}

// place is the aggregate whose position it is.
func (f *orderFlags) place() inbox.Aggregate {
	return inbox.Aggregate{ID: f.aggregate, Table: names.OfTable(f.table)}
}

func (a *app) orderCommand() *cobra.Command {
	root := &cobra.Command{
		Use: "order", Short: "Show and move how far a consumer with WithOrder is in an aggregate",
		Long: `order is about the positions of a consumer with WithOrder: up to which sequence it
has handled the events of an aggregate.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("a command is missing: show, pass or forget")
		},
	}
	root.AddCommand(a.orderShowCommand(), a.orderPassCommand(), a.orderForgetCommand())
	return root
}

// orderCommandOf builds a command with the flags and arguments that all have.
func (a *app) orderCommandOf(cmd *cobra.Command, f *orderFlags, do func(context.Context, *clients, *orderFlags) error) *cobra.Command {
	withSequence := strings.HasSuffix(cmd.Use, " SEQUENCE")
	cmd.Args = func(_ *cobra.Command, args []string) error {
		switch {
		case withSequence && len(args) != 2:
			return errors.New("want the id of an aggregate, and a sequence")
		case !withSequence && len(args) != 1:
			return errors.New("want the id of one aggregate")
		}
		if f.aggregate = args[0]; f.aggregate == "" || len(f.aggregate) > order.MaxAggregate {
			return fmt.Errorf("the id of an aggregate of sequenced events has 1 to %d bytes, this one %d", order.MaxAggregate, len(f.aggregate))
		}
		if err := checkKey(f.aggregate); err != nil || !withSequence {
			return err
		}
		var err error
		if f.sequence, err = strconv.ParseInt(args[1], 10, 64); err != nil || f.sequence < 1 {
			return fmt.Errorf("%q is no sequence: want a number from 1 on", args[1])
		}
		return nil
	}
	cmd.RunE = a.action(f.check, func(ctx context.Context, c *clients) error { return do(ctx, c, f) })
	flags := cmd.Flags()
	flags.StringVar(&f.inbox, "inbox", "inbox", "inbox table")
	flags.StringVar(&f.consumer, "consumer", "", "consumer whose position it is, as NewInbox was given it")
	flags.StringVar(&f.table, "table", "events", "events table that WithOrder was given")
	return cmd
}

// claimJSON is the claim of a guarded handler on the next event.
type claimJSON struct {
	Owner string    `json:"owner"`
	Until time.Time `json:"until"`
	Live  bool      `json:"live"` // by this machine's clock
}

// positionJSON is how far a consumer is in an aggregate.
type positionJSON struct {
	Aggregate string `json:"aggregate"`
	Known     bool   `json:"known"` // the inbox has a position
	// Position is the last sequence that is handled. So is every one from First on up to it.
	Position int64      `json:"position"`
	First    int64      `json:"first"`
	At       time.Time  `json:"at,omitzero"` // the latest time of an event that has moved the position
	Claim    *claimJSON `json:"claim,omitempty"`

	Next        int64        `json:"next"`
	NextIsThere bool         `json:"nextIsThere"` // in the events table
	Behind      []int64      `json:"behind"`      // which of the 99 sequences after the next one are in the events table
	DeadLetters []letterJSON `json:"deadLetters,omitempty"`
}

func positionOfPlace(f *orderFlags, place inbox.Place, now time.Time) *positionJSON {
	p := &positionJSON{Aggregate: f.aggregate, Known: place.Began, Position: place.Sequence, First: max(place.First, 1), At: place.At.UTC(), Next: place.Sequence + 1, Behind: []int64{}}
	if place.Owner != "" {
		p.Claim = &claimJSON{place.Owner, place.Until.UTC(), place.Claimed(now)}
	}
	return p
}

// position reads a position, and which sequences behind it are in the events table.
func (a *app) position(ctx context.Context, c *clients, f *orderFlags) (*positionJSON, error) {
	place, err := a.placeOf(ctx, c, f)
	if err != nil {
		return nil, err
	}
	p := positionOfPlace(f, place, a.now())
	there, err := present(ctx, c.dynamodb, f, p.Next, p.Next+batchget.Most-1)
	if err != nil {
		return nil, err
	}
	for n := p.Next; n < p.Next+batchget.Most; n++ {
		switch {
		case there[n] && n == p.Next:
			p.NextIsThere = true
		case there[n]:
			p.Behind = append(p.Behind, n)
		}
	}
	if !p.Known {
		a.noteNoPosition(f.inbox, f.consumer, f.aggregate)
	}
	return p, nil
}

func (a *app) placeOf(ctx context.Context, c *clients, f *orderFlags) (inbox.Place, error) {
	table := &inbox.Table{Client: c.dynamodb, Name: f.inbox, Consumer: f.consumer}
	return table.Position(ctx, f.place())
}

func (a *app) orderShowCommand() *cobra.Command {
	var f orderFlags
	cmd := a.orderCommandOf(&cobra.Command{
		Use: "show AGGREGATE", Short: "Show how far a consumer is in an aggregate, and what it waits for",
		Long: `show reads the position of an aggregate, and looks which of the next 100 sequences are
in the events table. With --dead-letters it lists the dead letters of the aggregate,
of the consumer of the same name. It changes nothing.`,
		Example: `  outbox order show --consumer balances account-7
  outbox order show --consumer balances --dead-letters dead-letters account-7 -o json`,
	}, &f, a.orderShow)
	cmd.Flags().StringVar(&f.letters, "dead-letters", "", "dead letter table, to list what is in it")
	f.attributes.add(cmd.Flags())
	return cmd
}

func (a *app) orderShow(ctx context.Context, c *clients, f *orderFlags) error {
	p, err := a.position(ctx, c, f)
	if err != nil {
		return err
	}
	if f.letters != "" {
		table, err := outbox.NewDeadLetterTable(c.dynamodb, f.letters, f.consumer)
		if err != nil {
			return usageError{err}
		}
		for l, err := range table.List(ctx, outbox.DeadLetterFilter{AggregateID: f.aggregate}) {
			if err != nil {
				return err
			}
			if l.Order == f.place().Table {
				p.DeadLetters = append(p.DeadLetters, letterAsJSON(l, false))
			}
		}
	}
	if a.json() {
		return a.printJSON(p)
	}
	return a.printPosition(f, p)
}

func (a *app) printPosition(f *orderFlags, p *positionJSON) error {
	position := "nothing is handled"
	switch {
	case p.Position >= p.First:
		position = fmt.Sprintf("%d: handled from %d on", p.Position, p.First)
	case p.Known:
		position = fmt.Sprintf("%d: the consumer begins at %d", p.Position, p.First)
	}
	rows := [][]string{{"position", position}}
	if !p.At.IsZero() {
		rows = append(rows, []string{"latest event", p.At.Format(time.RFC3339Nano)})
	}
	if p.Claim != nil {
		is := "ended"
		if p.Claim.Live {
			is = "a handler works at the next event until"
		}
		rows = append(rows, []string{"claim", fmt.Sprintf("%s %s, owner %s", is, p.Claim.Until.Format(time.RFC3339), p.Claim.Owner)})
	}
	next := "not in table " + names.OfTable(f.table)
	if p.NextIsThere {
		next = "in table " + names.OfTable(f.table)
	}
	rows = append(rows, []string{"next", fmt.Sprintf("%d: %s", p.Next, next)})
	if len(p.Behind) > 0 {
		rows = append(rows, []string{"behind it", ranges(p.Behind)})
	}
	for _, l := range p.DeadLetters {
		state := "failed " + count(l.Attempts, "time") + ": " + firstOf(l.Error, 120)
		if l.Parked {
			state = "waits behind another"
		}
		rows = append(rows, []string{"dead letter", fmt.Sprintf("#%d  %s  %s", l.Event.Sequence, l.ID, state)})
	}
	if err := a.columns(rows); err != nil {
		return err
	}
	_, err := fmt.Fprintln(a.out, a.verdict(f, p))
	return err
}

// verdict says whether the aggregate stands still, and what to do.
func (a *app) verdict(f *orderFlags, p *positionJSON) string {
	redrive := a.named("dead", "redrive", "--table", f.letters, "--consumer", f.consumer, "--aggregate", f.aggregate)
	position := order.Position{Sequence: p.Position, First: p.First, At: p.At, Began: p.Known}
	for _, l := range p.DeadLetters { // in the order of a redrive
		late := order.Next(position, order.Event{Sequence: l.Event.Sequence, Time: l.Event.Time}, time.Time{}) == order.Late
		switch {
		case late:
			return fmt.Sprintf("%d is late, and what waits behind its letter waits for it. To remove it: %s. If the aggregate's id is used again: %s, and redrive", l.Event.Sequence,
				a.named("dead", "discard", "--table", f.letters, "--consumer", f.consumer, "--inbox", f.inbox, "--id", l.ID),
				a.namedOrder("forget", f))
		case l.Event.Sequence <= p.Position:
			return fmt.Sprintf("%d was handled or passed, and its letter is there still. To remove it, and to handle what waits behind it: %s", l.Event.Sequence, redrive)
		case l.Event.Sequence == p.Next && !l.Parked:
			return fmt.Sprintf("%d is a dead letter, and the aggregate waits for it. Cure the cause, then: %s", p.Next, redrive)
		case l.Event.Sequence == p.Next || p.NextIsThere:
			return fmt.Sprintf("nothing is before %d any more, and dead letters wait. To handle them: %s", p.Next, redrive)
		}
	}
	switch {
	case p.Claim != nil && p.Claim.Live:
		return fmt.Sprintf("%d is being handled", p.Next)
	case p.NextIsThere:
		return fmt.Sprintf("%d waits for its delivery, or fails: see the log and the dead letters of the consumer", p.Next)
	case len(p.Behind) > 0 || len(p.DeadLetters) > 0:
		return fmt.Sprintf("%d is missing, and the aggregate waits for it. If it never existed, or is gone: %s", p.Next,
			a.namedOrder("pass", f, strconv.FormatInt(p.Next, 10)))
	}
	return fmt.Sprintf("nothing behind %d is known", p.Position)
}

// ranges writes sorted numbers for people: 5 to 7, 9.
func ranges(numbers []int64) string {
	var parts []string
	for i := 0; i < len(numbers); i++ {
		from := i
		for i+1 < len(numbers) && numbers[i+1] == numbers[i]+1 {
			i++
		}
		if part := strconv.FormatInt(numbers[from], 10); i > from {
			parts = append(parts, part+" to "+strconv.FormatInt(numbers[i], 10))
		} else {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ", ")
}
