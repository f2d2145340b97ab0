package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/spf13/cobra"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/batchget"
	"github.com/seed-1b628d3f/outbox/internal/names"
	"github.com/seed-1b628d3f/outbox/internal/order"
)

func (a *app) orderPassCommand() *cobra.Command {
	var f orderFlags
	cmd := a.orderCommandOf(&cobra.Command{
		Use: "pass AGGREGATE SEQUENCE", Short: "Take a sequence for handled that does not exist",
		Long: `pass takes a sequence of an aggregate for handled, without calling a handler. It is
for a number that never existed, or whose row is gone, so that the events behind it
can be handled. Only the next one can be passed. It looks for the row first, and
warns if the row is there, or if nothing behind it is: the event would never be
handled. Then it asks. For an event that is a dead letter take dead discard.

It is no error if the sequence was handled or passed before, or meanwhile: it says so.`,
		Example: `  outbox order pass --consumer balances account-7 12`,
	}, &f, a.orderPass)
	f.attributes.add(cmd.Flags())
	cmd.Flags().BoolVarP(&a.yes, "yes", "y", false, "do not ask")
	return cmd
}

// passed is the result of pass.
type passed struct {
	Aggregate string `json:"aggregate"`
	Sequence  int64  `json:"sequence"`
	Passed    *bool  `json:"passed"`   // by this run. false: it was handled or passed before. null: it is not known
	Position  *int64 `json:"position"` // now
	failure
}

func (a *app) orderPass(ctx context.Context, c *clients, f *orderFlags) error {
	box, err := outbox.NewInbox(c.dynamodb, f.inbox, f.consumer)
	if err != nil {
		return usageError{err}
	}
	p, err := a.position(ctx, c, f)
	if err != nil {
		return err
	}
	switch {
	case f.sequence <= p.Position:
		return a.notPassed(f, p.Position, "before")
	case f.sequence > p.Next:
		return fmt.Errorf("%w: the next one of aggregate %s is %d, not %d. To see where it is: %s", outbox.ErrNotNext, f.aggregate, p.Next, f.sequence,
			a.namedOrder("show", f))
	case p.Claim != nil && p.Claim.Live:
		return fmt.Errorf("%w, until %s: it may still be handled", outbox.ErrClaimed, p.Claim.Until.Format(time.RFC3339))
	case p.NextIsThere:
		a.warn("event %s is in table %s, and this consumer would NEVER handle it", order.ID(f.aggregate, f.sequence), names.OfTable(f.table))
	case len(p.Behind) == 0:
		a.warn("nothing behind %d is in table %s: if the service writes %d later, this consumer will NEVER handle it", f.sequence, names.OfTable(f.table), f.sequence)
	}
	if err := a.confirm(ctx, fmt.Sprintf("Take sequence %d of aggregate %s for handled by %s?", f.sequence, f.aggregate, f.consumer)); err != nil {
		return err
	}
	moved, err := box.Pass(ctx, f.table, f.aggregate, f.sequence)
	if err != nil {
		result := passed{Aggregate: f.aggregate, Sequence: f.sequence, failure: failure{a.explain(err)}}
		if errors.Is(err, outbox.ErrNotNext) || errors.Is(err, outbox.ErrClaimed) {
			result.Passed = aws.Bool(false)
		}
		if a.json() {
			return errors.Join(err, a.printJSON(result))
		}
		return err
	}
	if !moved {
		place, err := a.placeOf(ctx, c, f)
		if err != nil {
			return err
		}
		return a.notPassed(f, place.Sequence, "meanwhile")
	}
	if a.json() {
		return a.printJSON(passed{f.aggregate, f.sequence, aws.Bool(true), &f.sequence, failure{}})
	}
	_, err = fmt.Fprintf(a.out, "passed: the position of %s is %d; dead letters behind it are handled by a redrive\n", printable(f.aggregate), f.sequence)
	return err
}

// notPassed prints that this run has not moved the position over the sequence.
func (a *app) notPassed(f *orderFlags, position int64, when string) error {
	if a.json() {
		return a.printJSON(passed{f.aggregate, f.sequence, aws.Bool(false), &position, failure{}})
	}
	_, err := fmt.Fprintf(a.out, "%d was handled or passed %s: the position is %d\n", f.sequence, when, position)
	return err
}

func (a *app) orderForgetCommand() *cobra.Command {
	var f orderFlags
	cmd := a.orderCommandOf(&cobra.Command{
		Use: "forget AGGREGATE", Short: "Let a consumer begin an aggregate anew",
		Long: `forget removes the position of an aggregate: the consumer begins anew with the next
event that is delivered, as if it had never seen one of the aggregate. It is for an
aggregate whose id is used again. What is still wanted and in the events table is
handled once more. Restart the processes of the consumer then, since they remember
positions. It asks first.`,
		Example: `  outbox order forget --consumer balances account-7`,
	}, &f, a.orderForget)
	cmd.Flags().BoolVarP(&a.yes, "yes", "y", false, "do not ask")
	return cmd
}

// forgotten is the result of forget.
type forgotten struct {
	Aggregate string `json:"aggregate"`
	Forgotten *bool  `json:"forgotten"` // null: it is not known
	Position  int64  `json:"position"`  // before
	failure
}

func (a *app) orderForget(ctx context.Context, c *clients, f *orderFlags) error {
	box, err := outbox.NewInbox(c.dynamodb, f.inbox, f.consumer)
	if err != nil {
		return usageError{err}
	}
	place, err := a.placeOf(ctx, c, f)
	if err != nil {
		return err
	}
	p := positionOfPlace(f, place, a.now())
	result := forgotten{Aggregate: f.aggregate, Position: p.Position}
	switch {
	case !p.Known && p.Claim == nil:
		a.noteNoPosition(f.inbox, f.consumer, f.aggregate)
		result.Forgotten = aws.Bool(false)
		if a.json() {
			return a.printJSON(result)
		}
		_, err := fmt.Fprintf(a.out, "%s has no position\n", printable(f.aggregate))
		return err
	case p.Claim != nil && p.Claim.Live:
		return fmt.Errorf("%w, until %s", outbox.ErrClaimed, p.Claim.Until.Format(time.RFC3339))
	}
	a.note("what is in table %s of aggregate %s, and wanted, is handled once more; the position is %d now", names.OfTable(f.table), f.aggregate, p.Position)
	if err := a.confirm(ctx, fmt.Sprintf("Forget how far %s is in aggregate %s?", f.consumer, f.aggregate)); err != nil {
		return err
	}
	if err := box.Forget(ctx, f.table, f.aggregate); err != nil {
		if errors.Is(err, outbox.ErrClaimed) {
			result.Forgotten = aws.Bool(false)
		}
		if result.Error = a.explain(err); a.json() {
			return errors.Join(err, a.printJSON(result))
		}
		return err
	}
	if result.Forgotten = aws.Bool(true); a.json() {
		return a.printJSON(result)
	}
	_, err = fmt.Fprintf(a.out, "forgotten: restart the processes of %s, which remember the position of %s\n", printable(f.consumer), printable(f.aggregate))
	return err
}

// present returns which sequences of an aggregate have a row in the events table.
func present(ctx context.Context, client *dynamodb.Client, f *orderFlags, first, last int64) (map[int64]bool, error) {
	var ids []string
	for n := first; n <= last; n++ {
		ids = append(ids, order.ID(f.aggregate, n))
	}
	q := batchget.Query{Table: f.table, Attributes: []string{f.id}}
	q.Keys, q.Text = batchget.ByID(f.id, ids)
	found, _, err := q.Read(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("read the events of aggregate %s behind %d in table %s: %w", f.aggregate, first-1, f.table, err)
	}
	there := map[int64]bool{}
	for i, id := range ids {
		there[first+int64(i)] = found[id] != nil
	}
	return there, nil
}
