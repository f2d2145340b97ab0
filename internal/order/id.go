// Package order knows which events have an order by sequence, and decides what comes next for one of them.
//
// It knows ids, numbers and times, and makes no call. It must not know tables or handlers.
package order

import "strconv"

// MaxAggregate is how many bytes an aggregate's id may have, so that the id of every sequence fits into a DynamoDB key of 2,048 bytes.
const MaxAggregate = 2048 - len("#9223372036854775807")

// ID returns the id of the event that takes an aggregate to a sequence. Two ids are equal only if aggregate and sequence are, since no number
// contains a '#'.
func ID(aggregate string, sequence int64) string {
	var buf [20]byte
	return aggregate + "#" + string(strconv.AppendInt(buf[:0], sequence, 10))
}

// Sequenced reports whether an event's id is made of its aggregate and its sequence. It allocates nothing.
func Sequenced(id, aggregate string, sequence int64) bool {
	n := len(aggregate)
	if len(id) <= n+1 || id[n] != '#' || id[:n] != aggregate {
		return false
	}
	var buf [20]byte
	return string(strconv.AppendInt(buf[:0], sequence, 10)) == id[n+1:]
}

// Number returns the sequence that an id names beside its aggregate's.
func Number(id, aggregate string) (sequence int64, ok bool) {
	n := len(aggregate)
	if len(id) <= n+1 || id[n] != '#' || id[:n] != aggregate || id[n+1] < '1' || id[n+1] > '9' {
		return 0, false
	}
	sequence, err := strconv.ParseInt(id[n+1:], 10, 64)
	return sequence, err == nil
}
