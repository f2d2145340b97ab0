package reconcilestorm

import (
	"bytes"
	"encoding/json"
	"strings"
)

// planted are bugs of Reconcile, or of what it stands on.
var planted = []struct {
	bug    string
	plan   func(*plan)
	tamper func(*world, exchange) exchange
	seen   string // how the problem begins; alternatives are separated by |
}{
	{"a mark is not seen", unordered, answered("inbox", func([]byte) []byte { return []byte(`{"Responses":{"inbox":[]},"UnprocessedKeys":{}}`) }), "found:"},
	{"a position is not seen", ordered, answered("inbox", func([]byte) []byte { return []byte(`{"Responses":{"inbox":[]},"UnprocessedKeys":{}}`) }), "found:"},
	{"what has no mark counts as handled", unordered, answered("inbox", markAll), "proof:"},
	{"a letter is not seen", withLetters, answered("letters", func([]byte) []byte { return []byte(`{"Responses":{"letters":[]},"UnprocessedKeys":{}}`) }), "found:"},
	{"a discard leaves no row", withLetters, forgetful, "discarded:"},
	{"each call reads the first segment", func(p *plan) { p.segments = 3 }, firstSegment, "liveness:"},
	{"each call reads its first page alone", func(p *plan) { p.page = 3 }, firstPage, "proof:|liveness:"},
	{"a mark comes without its effect", unordered, committed(1), "proof:"},
	{"an effect comes without its mark", unordered, committed(0), "effects:"},
}

func unordered(p *plan)   { p.ordered, p.letters = false, false }
func ordered(p *plan)     { p.ordered, p.letters = true, false }
func withLetters(p *plan) { p.ordered, p.letters = false, true }

// answered answers each BatchGetItem of a table in place of the table.
func answered(table string, answer func(request []byte) []byte) func(*world, exchange) exchange {
	return func(_ *world, carry exchange) exchange {
		return func(operation string, request []byte) (int, []byte) {
			if operation == "BatchGetItem" && bytes.Contains(request, []byte(`"RequestItems":{"`+table+`"`)) {
				return 200, answer(request)
			}
			return carry(operation, request)
		}
	}
}

// markAll answers with a mark for each key.
func markAll(request []byte) []byte {
	var in struct {
		RequestItems map[string]struct {
			Keys []map[string]map[string]string
		}
	}
	must(0, json.Unmarshal(request, &in))
	marks := in.RequestItems["inbox"].Keys
	for _, mark := range marks {
		account, _, _ := strings.Cut(mark["eventId"]["S"], "/")
		mark["type"], mark["aggregateId"], mark["handledAt"] = map[string]string{"S": "POSTED"}, map[string]string{"S": account}, map[string]string{"N": "1"}
	}
	return must(json.Marshal(map[string]any{"Responses": map[string]any{"inbox": marks}}))
}

// transacted rewrites the operations of each transaction.
func transacted(carry exchange, rewrite func(items []json.RawMessage) []json.RawMessage) exchange {
	return func(operation string, request []byte) (int, []byte) {
		if operation == "TransactWriteItems" {
			var in struct{ TransactItems []json.RawMessage }
			must(0, json.Unmarshal(request, &in))
			request = with(request, "TransactItems", rewrite(in.TransactItems))
		}
		return carry(operation, request)
	}
}

func forgetful(_ *world, carry exchange) exchange {
	return transacted(carry, func(items []json.RawMessage) (left []json.RawMessage) {
		for _, item := range items {
			if !bytes.Contains(item, []byte("#discarded")) {
				left = append(left, item)
			}
		}
		return left
	})
}

// committed leaves all but one operation out of some of the transactions with an effect.
func committed(only int) func(*world, exchange) exchange {
	return func(w *world, carry exchange) exchange {
		return transacted(carry, func(items []json.RawMessage) []json.RawMessage {
			if len(items) == 2 && bytes.Contains(items[0], []byte(`"accounts"`)) && !bytes.Contains(items[0], []byte(`"first"`)) && w.oneIn(5) {
				return items[only : only+1]
			}
			return items
		})
	}
}

func firstSegment(_ *world, carry exchange) exchange {
	return func(operation string, request []byte) (int, []byte) {
		if operation == "Scan" && bytes.Contains(request, []byte(`"TotalSegments"`)) {
			request = with(request, "Segment", 0)
		}
		return carry(operation, request)
	}
}

func firstPage(_ *world, carry exchange) exchange {
	return func(operation string, request []byte) (int, []byte) {
		status, answer := carry(operation, request)
		if operation == "Scan" && status == 200 {
			answer = with(answer, "LastEvaluatedKey", nil)
		}
		return status, answer
	}
}

// oneIn is true for a share of the calls.
func (w *world) oneIn(n int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.luck.IntN(n) == 0
}
