package replay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/account"
	"github.com/seed-1b628d3f/outbox/internal/backoff"
	"github.com/seed-1b628d3f/outbox/internal/batchget"
	"github.com/seed-1b628d3f/outbox/internal/event"
)

// deliver hands over what was found. After a failure, the later events of its aggregate are left, and the others go on.
func (r *reconciliation) deliver(ctx context.Context) error {
	inOrder(r.found)
	var (
		started = time.Now()
		size    = batchget.Most
		paced   = 0
		failed  = map[string]bool{} // aggregates
		first   error
		stopped error
	)
	if r.options.PerSecond > 0 {
		size = int(min(batchget.Most, max(1, r.options.PerSecond))) // at most a second's worth at once
	}
	for from := 0; from < len(r.found) && stopped == nil; from += size {
		if r.options.PerSecond > 0 {
			due := started.Add(time.Duration(float64(paced) / r.options.PerSecond * float64(time.Second)))
			if stopped = backoff.Wait(ctx, time.Until(due)); stopped != nil {
				break
			}
		}
		records, err := r.still(ctx, r.found[from:min(from+size, len(r.found))], failed)
		if err != nil {
			stopped = err
			break
		}
		paced += len(records)
		err = r.process(ctx, records, failed)
		if first == nil {
			first = err
		}
		stopped = ctx.Err()
	}
	left := r.result.Undelivered - r.result.Delivered
	switch {
	case left == 0:
		return nil
	case first == nil:
		first = stopped
	case stopped != nil:
		first = errors.Join(stopped, first)
	}
	if first == nil {
		first = errors.New("their rows are gone from the table")
	}
	return fmt.Errorf("%d of %d undelivered events are still not handled: %w", left, r.result.Undelivered, first)
}

// still fetches events, and returns those that are not handled yet, nor behind a failed one.
func (r *reconciliation) still(ctx context.Context, some []key, failed map[string]bool) ([]outbox.Record, error) {
	rows, err := r.events.fetch(ctx, some)
	if err != nil {
		return nil, err
	}
	var there []event.Event
	for _, row := range rows {
		switch {
		case row.err != nil:
			r.result.Undelivered--
			r.unreadable(row)
		case !row.gone && !failed[row.record.AggregateID]:
			there = append(there, event.Event(row.record))
		}
	}
	accounts, err := r.book.Of(ctx, there)
	if err != nil {
		return nil, err
	}
	var open []outbox.Record
	for i, a := range accounts {
		if a == account.Open {
			open = append(open, outbox.Record(there[i]))
			continue
		}
		r.result.Undelivered--
		r.count(a, 1)
	}
	return open, nil
}

// process hands records to the Consumer, and notes which aggregates have failed.
func (r *reconciliation) process(ctx context.Context, records []outbox.Record, failed map[string]bool) error {
	if len(records) == 0 {
		return nil
	}
	err := r.consumer.Process(ctx, records...)
	unfinished := everything(records)
	if p := (*outbox.ProcessError)(nil); err == nil {
		unfinished = nil
	} else if errors.As(err, &p) {
		unfinished = p.Unfinished
	}
	for _, i := range unfinished {
		if id := records[i].AggregateID; id != "" {
			failed[id] = true
		}
	}
	r.result.Delivered += len(records) - len(unfinished)
	return err
}
