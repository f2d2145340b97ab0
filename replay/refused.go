package replay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/batchget"
)

// refused reads all rows that were found, and returns the ids of those that try refuses, if leaveOut agrees to leave out all of them.
// Rows that are gone or cannot be read, and copies that are left out anyway, are not tried.
func (e *Events) refused(ctx context.Context, found []key, leaveOut func(outbox.Record, error) bool, try func(outbox.Record) error, tell func()) (map[string]bool, error) {
	ids, passed := map[string]bool{}, copies{}
	var first error
	agreed := true
	for some := range slices.Chunk(found, batchget.Most) {
		rows, err := e.fetch(ctx, some)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			if row.gone || row.err != nil || passed.leaveOut(row.record.ID) {
				continue
			}
			err := try(row.record)
			if err == nil {
				continue
			}
			if wrong := (*outbox.TransactionError)(nil); !errors.As(err, &wrong) {
				return nil, err // it is not about the event
			}
			ids[row.record.ID] = true
			first = cmp.Or(first, err)
			agreed = leaveOut != nil && leaveOut(row.record, err) && agreed
		}
		tell()
	}
	if !agreed {
		return nil, fmt.Errorf("%d of %d events cannot be copied, and nothing was written; of the first: %w", len(ids), len(found), first)
	}
	return ids, nil
}
