package replay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/account"
	"github.com/seed-1b628d3f/outbox/internal/backoff"
	"github.com/seed-1b628d3f/outbox/internal/batchget"
	"github.com/seed-1b628d3f/outbox/internal/event"
)

// deliver hands over what was found.
func (r *reconciliation) deliver(ctx context.Context) error {
	inOrder(r.found)
	err := r.deliverAll(ctx)
	r.result.Oldest = r.oldest()
	left := r.result.Undelivered - r.result.Delivered
	if left == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d undelivered events are still not handled: %w", left, r.result.Undelivered, err)
}

// deliverAll hands over what was found, batch by batch. After a failure, the later events of its aggregate are left, and the others go on. The error
// is the first failure, and what has stopped the rest.
func (r *reconciliation) deliverAll(ctx context.Context) error {
	var (
		started = time.Now()
		size    = batchget.Most
		paced   = 0
		failed  = map[string]bool{} // aggregates
		first   error
		gone    int
	)
	if r.options.PerSecond > 0 {
		size = int(min(batchget.Most, max(1, r.options.PerSecond))) // at most a second's worth at once
	}
	for some := range slices.Chunk(r.found, size) {
		if r.options.PerSecond > 0 {
			due := started.Add(time.Duration(float64(paced) / r.options.PerSecond * float64(time.Second)))
			if err := backoff.Wait(ctx, time.Until(due)); err != nil {
				return errors.Join(err, first)
			}
		}
		records, without, err := r.fetchOpen(ctx, some, failed)
		gone += without
		if err != nil {
			return errors.Join(err, first)
		}
		paced += len(records)
		err = r.process(ctx, records, failed)
		if first == nil {
			first = err
		}
		if err := ctx.Err(); err != nil {
			return errors.Join(err, first)
		}
	}
	if gone > 0 {
		return errors.Join(first, fmt.Errorf("%d expired or were deleted meanwhile: their rows are gone from the table", gone))
	}
	return first
}

// oldest is the earliest time of what was found, but for those that others have handled, or given up, before they were delivered.
func (r *reconciliation) oldest() (at time.Time) {
	for _, k := range r.found {
		if !r.settled[k.id] && (at.IsZero() || k.at.Before(at)) {
			at = k.at
		}
	}
	return at
}

// fetchOpen fetches events, and returns those that are not handled yet, nor behind a failed one. The rows of gone of them are not there any more:
// they stay undelivered.
func (r *reconciliation) fetchOpen(ctx context.Context, some []key, failed map[string]bool) (open []outbox.Record, gone int, err error) {
	rows, err := r.events.fetch(ctx, some)
	if err != nil {
		return nil, 0, err
	}
	var there []event.Event
	for _, row := range rows {
		switch {
		case row.gone:
			gone++
		case row.err != nil:
			r.settle(row.key.id)
			r.unreadable(row)
		case !failed[row.record.AggregateID]:
			there = append(there, event.Event(row.record))
		}
	}
	accounts, err := r.book.Of(ctx, there)
	if err != nil {
		return nil, gone, err
	}
	for i, a := range accounts {
		if a == account.Open {
			open = append(open, outbox.Record(there[i]))
			continue
		}
		r.settle(there[i].ID)
		r.count(a)
	}
	return open, gone, nil
}

// settle takes an event that was found off the undelivered ones.
func (r *reconciliation) settle(id string) {
	r.result.Undelivered--
	r.settled[id] = true
}

// process hands records to the Consumer, and notes which aggregates have failed.
func (r *reconciliation) process(ctx context.Context, records []outbox.Record, failed map[string]bool) error {
	if len(records) == 0 {
		return nil
	}
	unfinished, err := processed(ctx, r.consumer, records)
	for _, i := range unfinished {
		if id := records[i].AggregateID; id != "" {
			failed[id] = true
		}
	}
	r.result.Delivered += len(records) - len(unfinished)
	return err
}
