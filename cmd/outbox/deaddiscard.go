package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/inbox"
)

func (a *app) deadDiscardCommand() *cobra.Command {
	var f deadFlags
	cmd := a.deadCommandOf(&cobra.Command{
		Use: "discard", Short: "Remove dead letters for good, without handling them",
		Long: `discard removes dead letters for good. The events stay in the events table as long
as it keeps them. Of each one a small row stays in the dead letter table, so that
Reconcile does not take its event for lost. Letters that wait behind a discarded one
stay, and wait until they are redriven or discarded, too.

A letter of a consumer with WithOrder needs --inbox: its event is taken for handled,
and the position of its aggregate moves. This is for the next event of the aggregate
alone. A letter at or below the position is only removed. If one of the letters has
to wait for an earlier event, nothing is discarded.`,
		Example: `  outbox dead discard --consumer confirmations --id order-42#01J1A2B3C4D5E6F7G8H9JKMNPQ
  outbox dead discard --consumer balances --inbox inbox --id account-7#account-7%2312`,
		Args: cobra.NoArgs,
	}, &f, true, true, a.deadDiscard)
	f.addInbox(cmd.Flags())
	return cmd
}

// discards is the result of discard.
type discards struct {
	Discarded int `json:"discarded"`
	failure
}

// unwanted is a letter that is to be discarded.
type unwanted struct {
	id, aggregate, order string
	inbox                string // the consumer whose position it waits for
	sequence             int64
}

func (a *app) deadDiscard(ctx context.Context, table *outbox.DeadLetterTable, f *deadFlags) error {
	letters, err := unwantedOf(ctx, table, f.filter)
	if err != nil {
		return err
	}
	discard := table.Discard
	if f.inbox != "" {
		box, err := outbox.NewInbox(a.aws.dynamodb, f.inbox, f.consumerOfInbox())
		if err != nil {
			return usageError{err}
		}
		discard = func(ctx context.Context, id string) error { return box.Discard(ctx, table, id) }
	}
	a.noteNoLetters(len(letters), f)
	if len(letters) == 0 && f.id != "" { // a discard that was cut off may have left its aggregate parked
		if err := discard(ctx, f.id); err != nil && !errors.Is(err, outbox.ErrNoDeadLetter) {
			return err
		}
	}
	discarded := 0
	if len(letters) > 0 {
		moves, err := a.inLine(ctx, table, f, letters)
		if err != nil {
			return err
		}
		question := fmt.Sprintf("Remove %s of %s for good?", count(len(letters), "dead letter"), f.consumer)
		if moves > 0 {
			question = fmt.Sprintf("Remove %s of %s for good, and take %s for handled?", count(len(letters), "dead letter"), f.consumer, count(moves, "event"))
		}
		if err := a.confirm(ctx, question); err != nil {
			return err
		}
		bar := a.bar("discarding", len(letters))
		err = func() error {
			defer bar.done()
			for _, l := range letters {
				if err := discard(ctx, l.id); err != nil && !errors.Is(err, outbox.ErrNoDeadLetter) {
					return err
				}
				discarded++
				bar.set(discarded)
			}
			return nil
		}()
		return a.discarded(discarded, err)
	}
	return a.discarded(0, nil)
}

// discarded prints how many letters were discarded, and what ended it.
func (a *app) discarded(n int, err error) error {
	if a.json() {
		return errors.Join(err, a.printJSON(discards{n, failure{a.explain(err)}}))
	}
	fmt.Fprintf(a.out, "%s discarded\n", count(n, "dead letter"))
	return err
}

// unwantedOf returns the letters that a filter selects, those of ordered events in their order.
func unwantedOf(ctx context.Context, table *outbox.DeadLetterTable, filter outbox.DeadLetterFilter) (letters []unwanted, err error) {
	for l, err := range table.List(ctx, filter) {
		if err != nil {
			return nil, err
		}
		letters = append(letters, unwanted{l.ID, l.Record.AggregateID, l.Order, l.Inbox, l.Record.Sequence})
	}
	slices.SortStableFunc(letters, func(a, b unwanted) int {
		if a.order == "" || b.order == "" {
			return cmp.Compare(a.order, b.order)
		}
		return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.aggregate, b.aggregate), cmp.Compare(a.sequence, b.sequence))
	})
	return letters, nil
}

// inLine finds out whether all letters can be discarded, one after the other, and how many positions move. It changes nothing.
func (a *app) inLine(ctx context.Context, table *outbox.DeadLetterTable, f *deadFlags, letters []unwanted) (moves int, err error) {
	positions, err := a.newPositions(f)
	if err != nil {
		return 0, err
	}
	var at unwanted // whose aggregate was looked at last
	next := int64(0)
	for _, l := range letters {
		switch {
		case l.order == "":
			continue
		case f.inbox == "":
			return 0, fmt.Errorf("dead letter %s is of a consumer with WithOrder, whose position has to move as well: give --inbox, the table of its Inbox", l.id)
		case positions.other(l.id, l.inbox) != nil:
			return 0, positions.other(l.id, l.inbox)
		case l.aggregate != at.aggregate || l.order != at.order:
			place, err := positions.read(ctx, inbox.Aggregate{ID: l.aggregate, Table: l.order})
			if err != nil {
				return 0, err
			}
			next = place.Sequence + 1
		}
		at = l
		switch {
		case l.sequence == next:
			next++
			moves++
		case l.sequence > next:
			return 0, a.behind(ctx, table, f, l, next)
		}
	}
	return moves, nil
}

// behind says which event has to go before a letter, and how.
func (a *app) behind(ctx context.Context, table *outbox.DeadLetterTable, f *deadFlags, l unwanted, next int64) error {
	text := fmt.Sprintf("nothing was discarded: dead letter %s has sequence %d, and the next one of aggregate %s is %d", l.id, l.sequence, l.aggregate, next)
	for front, err := range table.List(ctx, outbox.DeadLetterFilter{AggregateID: l.aggregate}) {
		switch {
		case err != nil:
			return errors.Join(errors.New(text), err)
		case front.Order == l.order && front.Record.Sequence == next:
			words := []string{"dead", "discard", "--table", f.table, "--consumer", f.consumer, "--inbox", f.inbox}
			if f.inboxConsumer != "" {
				words = append(words, "--inbox-consumer", f.inboxConsumer)
			}
			return fmt.Errorf("%s, which is a dead letter: %s", text, a.named(append(words, "--id", front.ID)...))
		}
	}
	of := &orderFlags{inbox: f.inbox, consumer: f.consumerOfInbox(), table: l.order, aggregate: l.aggregate}
	return fmt.Errorf("%s, which is no dead letter. To see where it is: %s. If it does not exist: %s", text,
		a.namedOrder("show", of), a.namedOrder("pass", of, strconv.FormatInt(next, 10)))
}
