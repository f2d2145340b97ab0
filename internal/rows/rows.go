// Package rows reads and writes the rows of this library's own tables: leases, dead letters, the inbox. It knows attribute values. It
// does not know what a row means.
package rows

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// Item is a row, a key, or the values of an expression.
type Item = map[string]types.AttributeValue

// S returns a string attribute.
func S(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

// N returns a number attribute.
func N(n int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}

// B returns a binary attribute.
func B(b []byte) types.AttributeValue { return &types.AttributeValueMemberB{Value: b} }

// Bool returns a boolean attribute.
func Bool(b bool) types.AttributeValue { return &types.AttributeValueMemberBOOL{Value: b} }

// As returns an attribute value as one of the SDK's types, all of which are pointers. ok is false for another type, and for a nil
// pointer, which a client of the user's own may return.
func As[T comparable](v types.AttributeValue) (value T, ok bool) {
	var none T
	value, ok = v.(T)
	return value, ok && value != none
}

// Text reads a string attribute. Here and below, an attribute that is missing or of another type reads as the zero value.
func Text(row Item, name string) string {
	if v, ok := As[*types.AttributeValueMemberS](row[name]); ok {
		return v.Value
	}
	return ""
}

// Int reads a number attribute.
func Int(row Item, name string) int64 {
	if v, ok := As[*types.AttributeValueMemberN](row[name]); ok {
		n, _ := strconv.ParseInt(v.Value, 10, 64)
		return n
	}
	return 0
}

// Bytes reads a binary attribute.
func Bytes(row Item, name string) []byte {
	if v, ok := As[*types.AttributeValueMemberB](row[name]); ok {
		return v.Value
	}
	return nil
}

// Flag reads a boolean attribute.
func Flag(row Item, name string) bool {
	v, ok := As[*types.AttributeValueMemberBOOL](row[name])
	return ok && v.Value
}

// Millis returns a time in milliseconds.
func Millis(t time.Time) types.AttributeValue { return N(t.UnixMilli()) }

// Time reads a time in milliseconds.
func Time(row Item, name string) time.Time {
	if row[name] == nil {
		return time.Time{}
	}
	return time.UnixMilli(Int(row, name)).UTC()
}

// Names returns the aliases that the expressions use: #x for the attribute x. DynamoDB refuses aliases that no expression uses, and
// attributes without an alias whose names are its reserved words.
func Names(expressions ...string) map[string]string {
	used := map[string]string{}
	for _, e := range expressions {
		for {
			at := strings.IndexByte(e, '#')
			if at < 0 {
				break
			}
			end := at + 1
			for end < len(e) && (e[end] >= 'a' && e[end] <= 'z' || e[end] >= 'A' && e[end] <= 'Z') {
				end++
			}
			used[e[at:end]] = e[at+1 : end]
			e = e[end:]
		}
	}
	return used
}

// Headers returns a map of strings.
func Headers(headers map[string]string) types.AttributeValue {
	m := make(Item, len(headers))
	for name, value := range headers {
		m[name] = S(value)
	}
	return &types.AttributeValueMemberM{Value: m}
}

// ReadHeaders reads a map of strings. An empty map reads as nil.
func ReadHeaders(row Item, name string) map[string]string {
	m, ok := As[*types.AttributeValueMemberM](row[name])
	if !ok || len(m.Value) == 0 {
		return nil
	}
	headers := make(map[string]string, len(m.Value))
	for _, name := range slices.Sorted(maps.Keys(m.Value)) {
		headers[name] = Text(m.Value, name)
	}
	return headers
}
