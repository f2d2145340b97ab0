package deadletter

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// place is what decides where a letter comes in its queue.
type place struct {
	id string
	n  int64 // the number under which the letter was stored: 1 for the first letter of a queue, and one more for each later one

	table    string
	sequence int64 // of the event in its aggregate, in this table; 0 if it has none

	shard  string // with its stream; empty if it is not known
	number string // of the record in this shard
}

// placeAttributes are the attributes of a letter's row that placeOf needs.
var placeAttributes = []string{"id", "place", "table", "sequence", "streamArn", "shardId", "sequenceNumber"}

func placeOf(row rows.Item) place {
	p := place{id: rows.Text(row, "id"), n: rows.Int(row, "place"), table: rows.Text(row, "table"), sequence: rows.Int(row, "sequence")}
	shard, number := rows.Text(row, "shardId"), rows.Text(row, "sequenceNumber")
	if shard != "" && number != "" && strings.Trim(number, "0123456789") == "" {
		p.shard, p.number = rows.Text(row, "streamArn")+"\x00"+shard, strings.TrimLeft(number, "0")
	}
	return p
}

// inOrder sorts the letters of a queue: in the order in which they were stored, but none behind a letter of a later event. What is later is
// known only where numbers can be compared: of two events of a table by their sequences, and of two records of a shard. Sequences go before: if
// some letters have one, it may move a letter past another of its shard that has none.
func inOrder(letters []place) []place {
	slices.SortFunc(letters, func(a, b place) int { return cmp.Or(cmp.Compare(a.n, b.n), strings.Compare(a.id, b.id)) })
	letters = earlierFirst(letters, func(p *place) (string, bool) { return p.shard, p.shard != "" }, func(a, b *place) int {
		return cmp.Or(cmp.Compare(len(a.number), len(b.number)), strings.Compare(a.number, b.number))
	})
	return earlierFirst(letters, func(p *place) (string, bool) { return p.table, p.sequence != 0 }, func(a, b *place) int {
		return cmp.Compare(a.sequence, b.sequence)
	})
}

// earlierFirst moves letters forward until none is behind a later one of its scope. Only letters in the same scope are compared. A letter that
// is not earlier than another one does not pass it, unless it is earlier than a third one before that.
func earlierFirst(letters []place, scope func(*place) (string, bool), compare func(a, b *place) int) []place {
	scopes := map[string][]int{} // the indexes of their letters
	for i := range letters {
		if name, ok := scope(&letters[i]); ok {
			scopes[name] = append(scopes[name], i)
		}
	}
	before := make([]int, len(letters)) // the letter to come before, itself or a later one of its scope: the first of them
	for i := range before {
		before[i] = i
	}
	for _, members := range scopes {
		slices.SortStableFunc(members, func(a, b int) int { return compare(&letters[b], &letters[a]) }) // the latest first
		first, next := math.MaxInt, math.MaxInt                                                         // of what is later; with what is as late
		for i, at := range members {
			if i > 0 && compare(&letters[at], &letters[members[i-1]]) != 0 {
				first = next
			}
			before[at], next = min(at, first), min(next, at)
		}
	}
	order := make([]int, len(letters))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		if before[a] != before[b] {
			return cmp.Compare(before[a], before[b])
		}
		return cmp.Or(compare(&letters[a], &letters[b]), cmp.Compare(a, b)) // one scope: only its members come before its letters
	})
	sorted := make([]place, len(letters))
	for i, at := range order {
		sorted[i] = letters[at]
	}
	return sorted
}
