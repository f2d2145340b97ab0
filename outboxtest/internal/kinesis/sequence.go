package kinesis

import (
	"fmt"
	"math/big"
	"strconv"
	"time"
)

// A sequence number is a 188-bit integer, 56 decimal digits. In hexadecimal:
//
//	2 | creation second of the shard (9) | low digit of the shard number (1) |
//	index (16) | 00 | second of the record (9) | shard number (8) | 2
//
// The index grows with every record of the stream, so numbers are strictly
// increasing within a shard and unique within the stream; the creation second
// comes first, so a child shard's numbers are above those of its parents.
const (
	sequenceHexDigits = 47
	lastIndex         = 1<<63 - 1 // the index in a closed shard's ending sequence number
)

func sequenceNumber(shardCreated time.Time, shardIndex int, index uint64, at time.Time) string {
	hex := fmt.Sprintf("2%09x%01x%016x00%09x%08x2",
		seconds(shardCreated), shardIndex&0xf, index, seconds(at), shardIndex)
	n, _ := new(big.Int).SetString(hex, 16) // cannot fail: the digits were just formatted
	return n.String()
}

// seconds keeps a time within the nine digits it has.
func seconds(t time.Time) int64 { return min(max(t.Unix(), 0), 1<<36-1) }

type parsedSequence struct {
	created    int64
	shardIndex int
}

// parseSequence reads a number of the current format; false for anything else.
func parseSequence(s string) (parsedSequence, bool) {
	n, ok := new(big.Int).SetString(s, 10)
	if !ok || n.Sign() < 0 {
		return parsedSequence{}, false
	}
	hex := n.Text(16)
	if len(hex) != sequenceHexDigits || hex[0] != '2' || hex[sequenceHexDigits-1] != '2' || hex[11] > '7' {
		return parsedSequence{}, false
	}
	created, err1 := strconv.ParseInt(hex[1:10], 16, 64)
	index, err2 := strconv.ParseInt(hex[38:46], 16, 64)
	if err1 != nil || err2 != nil || index > 1<<31-1 {
		return parsedSequence{}, false
	}
	return parsedSequence{created: created, shardIndex: int(index)}, true
}

// less orders two sequence numbers as the numbers that they are.
func less(a, b string) bool {
	if len(a) != len(b) {
		return len(a) < len(b)
	}
	return a < b
}
