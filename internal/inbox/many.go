package inbox

import (
	"context"
	"fmt"
	"slices"

	"github.com/seed-1b628d3f/outbox/internal/batchget"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// Rows reads the rows of many keys, in their order: nil for a key without a row. Keys may repeat. Without consistent, the reads cost half, and a row
// that was written a moment ago may be missing, or be older.
func (t *Table) Rows(ctx context.Context, keys []Item, consistent bool) ([]Item, error) {
	found := make(map[string]Item, len(keys))
	var ask []Item
	for _, key := range keys {
		if _, twice := found[keyText(key)]; !twice {
			found[keyText(key)] = nil
			ask = append(ask, key)
		}
	}
	for some := range slices.Chunk(ask, batchget.Most) {
		read, _, err := batchget.Query{Table: t.Name, Keys: some, Text: keyText, Stale: !consistent}.Read(ctx, t.Client)
		if err != nil {
			return nil, fmt.Errorf("inbox table %s, consumer %s: read rows: %w", t.Name, t.Consumer, err)
		}
		for text, row := range read {
			found[text] = row
		}
	}
	all := make([]Item, len(keys))
	for i, key := range keys {
		all[i] = found[keyText(key)]
	}
	return all, nil
}

func keyText(key Item) string {
	return fmt.Sprintf("%q %q", rows.Text(key, KeyID), rows.Text(key, KeyConsumer))
}
