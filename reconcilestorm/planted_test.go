package reconcilestorm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// plantedBug is a bug of Reconcile, or of what it stands on.
type plantedBug struct {
	bug    string
	plan   func(*plan)
	tamper func(*world, exchange) exchange
	seen   check // the one that must see it
}

var planted = []plantedBug{
	{"a mark is not seen", unordered, answered("inbox", nothing("inbox")), checkFound},
	{"a position is not seen", ordered, answered("inbox", nothing("inbox")), checkFound},
	{"a letter is not seen", withLetters, answered("letters", nothing("letters")), checkFound},
	{"what has no mark counts as handled", unordered, answered("inbox", markAll), checkProof},
	{"each call reads its first page alone", func(p *plan) { p.page = 3 }, firstPage, checkProof},
	{"a mark comes without its effect", unordered, committed(1), checkProof},
	{"the time of a row is read wrongly", unordered, garbled, checkUnreadable},
	{"the table cannot be searched", unordered, refused, checkError},
	{"the inbox is asked for the marks of another consumer", unordered, anothers, checkBehind},
	{"each call reads the first segment", func(p *plan) { p.segments = 3 }, firstSegment, checkLiveness},
	{"a redrive finds no letter", withLetters, unlisted, checkLetters},
	{"a discard leaves no row", withLetters, forgetful, checkDiscarded},
	{"an effect comes without its mark", unordered, committed(0), checkEffects},
}

func unordered(p *plan)   { p.ordered, p.letters = false, false }
func ordered(p *plan)     { p.ordered, p.letters = true, false }
func withLetters(p *plan) { p.ordered, p.letters = false, true }

// nothing answers that a table has none of the keys.
func nothing(table string) func([]byte) []byte {
	return func([]byte) []byte { return fmt.Appendf(nil, `{"Responses":{%q:[]},"UnprocessedKeys":{}}`, table) }
}

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

// garbled makes text of the time of each row that a search reads.
func garbled(_ *world, carry exchange) exchange {
	return func(operation string, request []byte) (int, []byte) {
		status, answer := carry(operation, request)
		if operation == "Scan" {
			answer = bytes.ReplaceAll(answer, []byte(`"timestamp":{"N":`), []byte(`"timestamp":{"S":`))
		}
		return status, answer
	}
}

func refused(_ *world, carry exchange) exchange {
	return func(operation string, request []byte) (int, []byte) {
		if operation == "Scan" {
			return 400, []byte(`{"__type":"com.amazon.coral.service#AccessDeniedException","message":"planted"}`)
		}
		return carry(operation, request)
	}
}

// anothers looks for the marks of a consumer that there is not.
func anothers(_ *world, carry exchange) exchange {
	return func(operation string, request []byte) (int, []byte) {
		if operation == "BatchGetItem" {
			request = bytes.ReplaceAll(request, []byte(`"consumer#events"`), []byte(`"another#events"`))
		}
		return carry(operation, request)
	}
}

// unlisted hides the letters from who redrives them.
func unlisted(w *world, carry exchange) exchange {
	return func(operation string, request []byte) (int, []byte) {
		if operation == "Query" && w.cured.Load() {
			return 200, []byte(`{"Items":[],"Count":0,"ScannedCount":0}`)
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
