package changerec

import (
	"bytes"

	"github.com/seed-1b628d3f/outbox/internal/jsonscan"
)

// kplMagic begins every record into which the Kinesis Producer Library, or one of its kind, has packed several. No change record begins
// with it.
const kplMagic = "\xf3\x89\x9a\xc2"

func isAggregate(data []byte) bool { return bytes.HasPrefix(data, []byte(kplMagic)) }

// CannotBeOurs reports whether data is neither a change record nor a damaged one: it begins with something else, or with a whole JSON
// object that is no change record. For a change record that was cut off anywhere, also before its first byte, and for one with
// something behind it, CannotBeOurs returns false.
func CannotBeOurs(data []byte) bool {
	c := jsonscan.New(data)
	if !c.Enter('{') {
		return c.Peek() != 0 || c.Offset() < len(data)
	}
	for first := true; ; first = false {
		name, ok := c.Key(first)
		if !ok {
			break
		}
		if string(name) == "eventName" || string(name) == "dynamodb" {
			return false
		}
		c.Value()
	}
	return c.Err() == nil
}
