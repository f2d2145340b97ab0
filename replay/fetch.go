package replay

import (
	"context"
	"fmt"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/batchget"
)

// row is an event as it was fetched.
type row struct {
	key    key
	record outbox.Record // with err, only its ID
	err    error         // a *outbox.DecodeError
	gone   bool          // deleted since the search found it
}

// fetch reads up to batchget.Most rows, in the order of their keys.
func (e *Events) fetch(ctx context.Context, keys []key) ([]row, error) {
	var ids []string
	for _, k := range keys {
		ids = append(ids, k.id)
	}
	q := batchget.Query{Table: e.table}
	q.Keys, q.Text = batchget.ByID(e.names.ID, ids)
	items, _, err := q.Read(ctx, e.client)
	if err != nil {
		return nil, fmt.Errorf("fetch events of table %s: %w", e.table, err)
	}
	rows := make([]row, len(keys))
	for i, k := range keys {
		rows[i] = e.decode(k, items[k.id])
	}
	return rows, nil
}

func (e *Events) decode(k key, stored item) row {
	if stored == nil {
		return row{key: k, gone: true}
	}
	r, err := outbox.DecodeItem(stored, e.layout)
	if err != nil {
		return row{key: k, record: outbox.Record{ID: k.id}, err: fmt.Errorf("event %q of table %s: %w", k.id, e.table, err)}
	}
	r.Table = e.tableName()
	return row{key: k, record: r}
}
