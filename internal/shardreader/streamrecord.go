package shardreader

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"
)

// appendStreamRecord appends a record of DynamoDB Streams as the JSON that Lambda hands over, which the decoder knows. The API
// has the same members except for two names of the identity and the stream's ARN, which tells the table. The event's name comes
// first, so that a decoder that wants only INSERTs can stop there.
func appendStreamRecord(b []byte, r *types.Record, arn string) []byte {
	b = append(b, `{"eventName":`...)
	b = appendString(b, string(r.EventName))
	b = appendMember(b, `,"eventID":`, r.EventID)
	b = appendMember(b, `,"eventVersion":`, r.EventVersion)
	b = appendMember(b, `,"eventSource":`, r.EventSource)
	b = appendMember(b, `,"awsRegion":`, r.AwsRegion)
	b = append(b, `,"eventSourceARN":`...)
	b = appendString(b, arn)
	if u := r.UserIdentity; u != nil {
		b = append(b, `,"userIdentity":{`...)
		from := len(b)
		b = appendMember(b, `,"principalId":`, u.PrincipalId)
		b = appendMember(b, `,"type":`, u.Type)
		b = append(dropComma(b, from), '}')
	}
	if d := r.Dynamodb; d != nil {
		b = append(b, `,"dynamodb":{`...)
		from := len(b)
		if t := d.ApproximateCreationDateTime; t != nil {
			b = appendSeconds(append(b, `,"ApproximateCreationDateTime":`...), *t)
		}
		b = appendImage(b, `,"Keys":`, d.Keys)
		b = appendImage(b, `,"NewImage":`, d.NewImage)
		b = appendImage(b, `,"OldImage":`, d.OldImage)
		b = appendMember(b, `,"SequenceNumber":`, d.SequenceNumber)
		if d.SizeBytes != nil {
			b = strconv.AppendInt(append(b, `,"SizeBytes":`...), *d.SizeBytes, 10)
		}
		if d.StreamViewType != "" {
			b = appendString(append(b, `,"StreamViewType":`...), string(d.StreamViewType))
		}
		b = append(dropComma(b, from), '}')
	}
	return append(b, '}')
}

// dropComma removes the comma at from, which the first member of an object put there.
func dropComma(b []byte, from int) []byte {
	if from == len(b) {
		return b
	}
	return append(b[:from], b[from+1:]...)
}

func appendMember(b []byte, name string, value *string) []byte {
	if value == nil {
		return b
	}
	return appendString(append(b, name...), *value)
}

// appendSeconds appends a time as the API has it: in seconds, with a fraction only if it is not zero.
func appendSeconds(b []byte, t time.Time) []byte {
	b = strconv.AppendInt(b, t.Unix(), 10)
	if ms := t.Nanosecond() / int(time.Millisecond); ms != 0 {
		b = fmt.Appendf(b, ".%03d", ms)
	}
	return b
}

func appendImage(b []byte, name string, image map[string]types.AttributeValue) []byte {
	if image == nil { // an absent image differs from an empty one, although an item is never empty
		return b
	}
	return appendMap(append(b, name...), image)
}

func appendMap(b []byte, m map[string]types.AttributeValue) []byte {
	b = append(b, '{')
	first := true
	for name, v := range m {
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(appendString(b, name), ':')
		b = appendValue(b, v)
	}
	return append(b, '}')
}

// appendValue appends an attribute value. A kind that this SDK does not know becomes a kind that no decoder knows either. So if
// it is part of an event, the record is malformed rather than silently smaller.
func appendValue(b []byte, v types.AttributeValue) []byte {
	switch v := v.(type) {
	case *types.AttributeValueMemberS:
		b = appendString(append(b, `{"S":`...), v.Value)
	case *types.AttributeValueMemberN:
		b = appendString(append(b, `{"N":`...), v.Value)
	case *types.AttributeValueMemberB:
		b = appendBinary(append(b, `{"B":`...), v.Value)
	case *types.AttributeValueMemberBOOL:
		b = strconv.AppendBool(append(b, `{"BOOL":`...), v.Value)
	case *types.AttributeValueMemberNULL:
		b = strconv.AppendBool(append(b, `{"NULL":`...), v.Value)
	case *types.AttributeValueMemberM:
		b = appendMap(append(b, `{"M":`...), v.Value)
	case *types.AttributeValueMemberL:
		b = appendList(append(b, `{"L":`...), v.Value, appendValue)
	case *types.AttributeValueMemberSS:
		b = appendList(append(b, `{"SS":`...), v.Value, appendString)
	case *types.AttributeValueMemberNS:
		b = appendList(append(b, `{"NS":`...), v.Value, appendString)
	case *types.AttributeValueMemberBS:
		b = appendList(append(b, `{"BS":`...), v.Value, appendBinary)
	default:
		b = append(b, `{"UNKNOWN":null`...)
	}
	return append(b, '}')
}

func appendList[T any](b []byte, list []T, one func([]byte, T) []byte) []byte {
	b = append(b, '[')
	for i, v := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = one(b, v)
	}
	return append(b, ']')
}

func appendBinary(b []byte, data []byte) []byte {
	b = append(b, '"')
	b = base64.StdEncoding.AppendEncode(b, data)
	return append(b, '"')
}

// appendString appends a JSON string. It escapes control characters, quotes and backslashes only.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(append(b, s[from:]...), '"')
}
