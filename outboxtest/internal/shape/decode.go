package shape

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// Decode reads a request body against its model. The error, if any, is a
// *wire.Error: SerializationException for what is not the JSON of that model,
// ValidationException for what breaks its constraints.
func Decode(body []byte, members []Field) (Values, error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var raw any
	if err := dec.Decode(&raw); err != nil {
		return nil, serialization("")
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, serialization("")
	}
	object, ok := raw.(map[string]any)
	if !ok {
		return nil, serialization("")
	}
	values, err := structure(object, members)
	if err != nil {
		return nil, err
	}
	if err := check(values, members); err != nil {
		return nil, err
	}
	return values, nil
}

func serialization(message string) error {
	return &wire.Error{Code: "SerializationException", Message: message, Status: 400}
}

const (
	startOfList   = "Start of list found where not expected"
	startOfStruct = "Start of structure or map found where not expected."
	bigNumber     = "class com.amazon.coral.value.json.numbers.TruncatingBigNumber"
	javaString    = "class java.lang.String"
	javaBoolean   = "class java.lang.Boolean"
)

func structure(object map[string]any, members []Field) (Values, error) {
	out := make(Values, len(object))
	for _, f := range members {
		raw, ok := object[f.name]
		if !ok || raw == nil {
			continue
		}
		v, err := value(raw, f)
		if err != nil {
			return nil, err
		}
		out[f.name] = v
	}
	return out, nil
}

func value(raw any, f Field) (any, error) {
	if raw == nil {
		return nil, nil
	}
	switch f.kind {
	case kindList:
		return list(raw, f)
	case kindMap:
		return stringMap(raw)
	case kindStructure:
		switch raw := raw.(type) {
		case map[string]any:
			return structure(raw, f.children)
		case []any:
			return nil, serialization(startOfList)
		}
		return nil, serialization("Expected null")
	}
	switch raw.(type) {
	case []any:
		return nil, serialization(startOfList)
	case map[string]any:
		return nil, serialization(startOfStruct)
	}
	return scalar(raw, f.kind)
}

func list(raw any, f Field) (any, error) {
	elements, ok := raw.([]any)
	if !ok {
		if _, isObject := raw.(map[string]any); isObject {
			return nil, serialization(startOfStruct)
		}
		return nil, serialization("Expected list or null")
	}
	out := make([]any, 0, len(elements))
	for _, e := range elements {
		v, err := value(e, f.children[0])
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

func stringMap(raw any) (any, error) {
	object, ok := raw.(map[string]any)
	if !ok {
		if _, isList := raw.([]any); isList {
			return nil, serialization(startOfList)
		}
		return nil, serialization("Expected map or null")
	}
	out := make(map[string]string, len(object))
	for k, e := range object {
		v, err := value(e, String(""))
		if err != nil {
			return nil, err
		}
		out[k], _ = v.(string)
	}
	return out, nil
}

func scalar(raw any, kind Kind) (any, error) {
	switch kind {
	case kindString:
		if s, ok := raw.(string); ok {
			return s, nil
		}
		return nil, serialization(javaClass(raw) + " can not be converted to an String")
	case kindInteger:
		if n, ok := raw.(json.Number); ok {
			return integer(n), nil
		}
		return nil, serialization(javaClass(raw) + " can not be converted to an Integer")
	case kindBoolean:
		switch b := raw.(type) {
		case bool:
			return b, nil
		case string:
			return nil, serialization("'" + strings.ToUpper(b) + "' can not be converted to an Boolean")
		}
		return nil, serialization(javaClass(raw) + " can not be converted to an Boolean")
	case kindTimestamp:
		if n, ok := raw.(json.Number); ok {
			return timestamp(n), nil
		}
		return nil, serialization(javaClass(raw) + " can not be converted to milliseconds since epoch")
	default:
		if s, ok := raw.(string); ok {
			return blob(s)
		}
		return nil, serialization(javaClass(raw) + " can not be converted to a Blob")
	}
}

func javaClass(raw any) string {
	switch raw.(type) {
	case bool:
		return javaBoolean
	case string:
		return javaString
	}
	return bigNumber
}

// integer truncates and saturates, as the front end's number type does.
func integer(n json.Number) int64 {
	x, err := n.Float64()
	switch {
	case err != nil && strings.HasPrefix(string(n), "-"), x < math.MinInt32:
		return math.MinInt32
	case err != nil, x > math.MaxInt32:
		return math.MaxInt32
	}
	return int64(math.Floor(x))
}

func timestamp(n json.Number) time.Time {
	x, err := n.Float64()
	const farthest = 1 << 40 // seconds; beyond any date a client means, and safe to multiply
	if err != nil || math.Abs(x) > farthest {
		x = math.Copysign(farthest, x)
	}
	return time.UnixMilli(int64(math.Round(x * 1000)))
}

func blob(s string) (any, error) {
	if len(s)%4 != 0 {
		return nil, serialization(fmt.Sprintf("'%s' can not be converted to a Blob: "+
			"Base64 encoded length is expected a multiple of 4 bytes but found: %d", s, len(s)))
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err == nil && !strings.ContainsAny(s, "\r\n") { // the decoder skips line breaks, the service does not
		return b, nil
	}
	for i, c := range s {
		alphabet := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '+' || c == '/'
		if !alphabet && (c != '=' || i < len(s)-2 || i == len(s)-2 && s[len(s)-1] != '=') {
			return nil, serialization(fmt.Sprintf("'%s' can not be converted to a Blob: Invalid Base64 character: '%c'", s, c))
		}
	}
	return nil, serialization(fmt.Sprintf("'%s' can not be converted to a Blob: Invalid last non-pad Base64 character dectected", s))
}
