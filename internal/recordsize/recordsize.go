// Package recordsize computes the size of an insert's change record before the insert.
//
// DynamoDB's Kinesis streaming destination silently skips a change record that is larger than the stream takes:
// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/kds_using-shards-and-metrics.html. The size is
// computed for records as captured from AWS, with the precision MICROSECOND; a record in milliseconds is 54 bytes smaller. The
// package must not know what an item means.
package recordsize

import (
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// PartitionKey is the length of the partition key that DynamoDB gives a change record. Kinesis counts it.
const PartitionKey = 32

// envelope is a change record without its variable parts. Of adds each of them.
const envelope = `{"awsRegion":"","eventID":"5a88419c-468a-4ac4-8bad-7f832caf7345","eventName":"INSERT","userIdentity":null,` +
	`"recordFormat":"application/json","tableName":"","dynamodb":{"ApproximateCreationDateTime":1719347890250647,` +
	`"Keys":,"NewImage":,"SizeBytes":,"ApproximateCreationDateTimePrecision":"MICROSECOND"},"eventSource":"aws:dynamodb"}`

// Insert is an item on its way into a table.
type Insert struct {
	Region string
	Table  string                          // a name or an ARN
	Item   map[string]types.AttributeValue // as DynamoDB stores it: numbers in their shortest form
	Key    string                          // the table's partition key, without a sort key
	Bytes  int                             // what DynamoDB counts for the item and its key
}

// Of returns the bytes of the change record's JSON.
func Of(in Insert) int {
	size := len(envelope) + quoted(in.Region) - 2 + quoted(tableName(in.Table)) - 2 + len(strconv.Itoa(in.Bytes))
	size += len(`{:}`) + quoted(in.Key) + ofValue(in.Item[in.Key])
	return size + ofMap(in.Item)
}

// tableName takes the name out of an ARN: arn:aws:dynamodb:region:account:table/name.
func tableName(nameOrARN string) string {
	if _, name, ok := strings.Cut(nameOrARN, ":table/"); ok {
		return name
	}
	return nameOrARN
}

func ofMap(m map[string]types.AttributeValue) int {
	size := len(`{}`) + max(len(m)-1, 0)
	for name, value := range m {
		size += quoted(name) + 1 + ofValue(value)
	}
	return size
}

func ofValue(value types.AttributeValue) int {
	switch v := value.(type) {
	case *types.AttributeValueMemberS:
		return len(`{"S":}`) + quoted(v.Value)
	case *types.AttributeValueMemberN:
		return len(`{"N":}`) + quoted(v.Value)
	case *types.AttributeValueMemberB:
		return len(`{"B":""}`) + base64.StdEncoding.EncodedLen(len(v.Value))
	case *types.AttributeValueMemberBOOL:
		return len(`{"BOOL":}`) + len(strconv.FormatBool(v.Value))
	case *types.AttributeValueMemberNULL:
		return len(`{"NULL":true}`)
	case *types.AttributeValueMemberM:
		return len(`{"M":}`) + ofMap(v.Value)
	case *types.AttributeValueMemberL:
		size := len(`{"L":[]}`) + max(len(v.Value)-1, 0)
		for _, e := range v.Value {
			size += ofValue(e)
		}
		return size
	case *types.AttributeValueMemberSS:
		return len(`{"SS":[]}`) + ofTexts(v.Value)
	case *types.AttributeValueMemberNS:
		return len(`{"NS":[]}`) + ofTexts(v.Value)
	case *types.AttributeValueMemberBS:
		size := len(`{"BS":[]}`) + max(len(v.Value)-1, 0)
		for _, b := range v.Value {
			size += 2 + base64.StdEncoding.EncodedLen(len(b))
		}
		return size
	}
	return 0
}

func ofTexts(members []string) int {
	size := max(len(members)-1, 0)
	for _, m := range members {
		size += quoted(m)
	}
	return size
}

// escaped is the size of each ASCII character within a JSON string.
var escaped = func() (sizes [128]uint8) {
	for c := range sizes {
		switch {
		case strings.ContainsRune("\"\\\b\f\n\r\t", rune(c)):
			sizes[c] = 2
		case c < ' ':
			sizes[c] = 6
		default:
			sizes[c] = 1
		}
	}
	return sizes
}()

// quoted returns the size of s as a JSON string. U+2028 and U+2029, which some encoders escape, count as escaped.
func quoted(s string) int {
	size := 2
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 128 {
			size += int(escaped[c])
			continue
		}
		size++
		if s[i] == 0xe2 && i+2 < len(s) && s[i+1] == 0x80 && s[i+2]|1 == 0xa9 {
			size += len(`\u2028`) - 3
		}
	}
	return size
}
