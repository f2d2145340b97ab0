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

// parsedSequence is what a sequence number tells. Besides the format above,
// version 2, the service knows two that it once wrote.
type parsedSequence struct {
	version    int
	created    int64 // second in which the shard was created
	shardIndex int64 // below zero if the highest bit is set
	at         int64 // second of the record; 0 in version 0
}

// latestSecond is where the years end that the service takes: 2477.
const latestSecond = 16025175000

// parseSequence reads a number; false for what the service has never written.
func parseSequence(s string) (p parsedSequence, ok bool) {
	n, ok := new(big.Int).SetString(s, 10)
	if !ok || n.Sign() < 0 {
		return p, false
	}
	if old := new(big.Int).Lsh(big.NewInt(1), 124); n.Cmp(old) < 0 {
		n.Add(n, old) // a short number lacks the leading one of version 0
	}
	switch hex := n.Text(16); {
	case len(hex) == 32 && hex[0] == '1':
		p = parsedSequence{created: hexDigits(hex[1:10]), shardIndex: hexDigits(hex[28:32])}
	case len(hex) != sequenceHexDigits || hex[0] != '2':
		return p, false
	case hex[sequenceHexDigits-1] == '1':
		return parsedSequence{version: 1, created: hexDigits(hex[1:10]), at: hexDigits(hex[13:22]), shardIndex: hexDigits(hex[38:46])}, true
	case hex[sequenceHexDigits-1] != '2' || hex[11] > '7':
		return p, false
	default:
		p = parsedSequence{version: 2, created: hexDigits(hex[1:10]), at: hexDigits(hex[29:38]), shardIndex: hexDigits(hex[38:46])}
		if hex[38] > '7' {
			p.shardIndex = -p.shardIndex
		}
	}
	return p, p.created < latestSecond
}

// hexDigits reads up to nine hexadecimal digits out of a number's text.
func hexDigits(s string) int64 {
	n, _ := strconv.ParseInt(s, 16, 64) // big.Int writes nothing but digits
	return n
}

// less orders two sequence numbers as the numbers that they are.
func less(a, b string) bool {
	if len(a) != len(b) {
		return len(a) < len(b)
	}
	return a < b
}
