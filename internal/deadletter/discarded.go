package deadletter

import (
	"context"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox/internal/event"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// Discard is Remove for a letter whose event shall not be handled. The same transaction stores that it was discarded, for good.
func (s *Store) Discard(ctx context.Context, l *Letter) (bool, error) {
	if l.Event.ID == "" { // the record could not be decoded, so nobody can ask for its event
		return s.Remove(ctx, l)
	}
	row := key(s.discarded(), discardedID(l.Event))
	row["eventId"], row["discardedAt"] = rows.S(l.Event.ID), rows.Millis(time.Now())
	if !l.Event.Time.IsZero() {
		row["timestamp"] = rows.Millis(l.Event.Time)
	}
	return s.remove(ctx, l, types.TransactWriteItem{Put: &types.Put{TableName: &s.table, Item: row}})
}

// discardedID tells events apart that have one id, as otherID does for letters.
func discardedID(e event.Event) string {
	l := Letter{Event: e}
	return l.id() + "#" + hash(e.Type + "\x00" + e.Table)[:16]
}

// AreLetters reports of each event whether it is a letter, or was discarded as one. An event that is discarded meanwhile is one or the other.
func (s *Store) AreLetters(ctx context.Context, events []event.Event) ([]bool, error) {
	are := make([]bool, 0, len(events))
	for some := range slices.Chunk(events, lettersAtOnce) {
		letters, err := s.batchOf(ctx, s.letters(), some, func(e event.Event) []string {
			l := Letter{Event: e}
			return []string{l.id()}
		})
		if err != nil {
			return nil, err
		}
		// They are read behind the letters, so that none is missed that is discarded meanwhile. Not every letter names the table.
		discarded, err := s.batchOf(ctx, s.discarded(), some, func(e event.Event) []string {
			unnamed := e
			unnamed.Table = ""
			return []string{discardedID(e), discardedID(unnamed)}
		})
		if err != nil {
			return nil, err
		}
		for i, e := range some {
			is := slices.ContainsFunc(discarded[i], func(row rows.Item) bool { return isOf(row, e) })
			for _, row := range letters[i] {
				l, stored := Letter{Event: e}, read(row)
				if l.ID = l.id(); l.same(&stored) {
					is = true
				} else if known, err := s.there(ctx, &l); err != nil { // another event has the key
					return nil, err
				} else if known != Refused {
					is = true
				}
			}
			are = append(are, is)
		}
	}
	return are, nil
}

// isOf reports whether an event was discarded, and not an earlier one with its id. Not every delivery has the time.
func isOf(discarded rows.Item, e event.Event) bool {
	return discarded["timestamp"] == nil || e.Time.IsZero() || rows.Int(discarded, "timestamp") == e.Time.UnixMilli()
}

// batchOf reads the rows of each event that exist, by the ids that idsOf gives them.
func (s *Store) batchOf(ctx context.Context, group string, events []event.Event, idsOf func(event.Event) []string) ([][]rows.Item, error) {
	var ids []string
	for _, e := range events {
		ids = append(ids, idsOf(e)...)
	}
	slices.Sort(ids)
	found, err := s.batch(ctx, group, slices.Compact(ids)) // a BatchGetItem refuses a key that is there twice
	if err != nil {
		return nil, err
	}
	of := make([][]rows.Item, len(events))
	for i, e := range events {
		for _, id := range idsOf(e) {
			if row, there := found[id]; there {
				of[i] = append(of[i], row)
			}
		}
	}
	return of, nil
}
