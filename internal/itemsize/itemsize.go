// Package itemsize computes how many bytes DynamoDB counts for an item.
//
// It follows https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html: names and
// strings count their UTF-8 bytes, binary its raw bytes, a number about one byte for two significant digits and one more, a
// null or boolean one byte, a list or map three bytes and one for each element. It must not know what an item means.
package itemsize

import (
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// Limits of DynamoDB, in bytes.
const (
	MaxItem        = 400 << 10
	MaxTransaction = 4 << 20
)

// maxDepth is how deeply DynamoDB lets documents nest.
const maxDepth = 32

// Of returns the size of an item. It fails on a nil value, a type the SDK does not have, and documents that nest deeper than
// DynamoDB's 32 levels.
func Of(item map[string]types.AttributeValue) (int, error) {
	size := 0
	for name, value := range item {
		n, err := ofValue(value, 0)
		if err != nil {
			return 0, fmt.Errorf("attribute %q: %w", name, err)
		}
		size += len(name) + n
	}
	return size, nil
}

func ofValue(value types.AttributeValue, depth int) (int, error) {
	if depth > maxDepth {
		return 0, fmt.Errorf("nested deeper than %d levels", maxDepth)
	}
	switch v := value.(type) {
	case *types.AttributeValueMemberS:
		return len(v.Value), nil
	case *types.AttributeValueMemberN:
		return ofNumber(v.Value), nil
	case *types.AttributeValueMemberB:
		return len(v.Value), nil
	case *types.AttributeValueMemberBOOL, *types.AttributeValueMemberNULL:
		return 1, nil
	case *types.AttributeValueMemberSS:
		size := 0
		for _, s := range v.Value {
			size += len(s)
		}
		return size, nil
	case *types.AttributeValueMemberNS:
		size := 0
		for _, n := range v.Value {
			size += ofNumber(n)
		}
		return size, nil
	case *types.AttributeValueMemberBS:
		size := 0
		for _, b := range v.Value {
			size += len(b)
		}
		return size, nil
	case *types.AttributeValueMemberL:
		size := 3 + len(v.Value)
		for _, e := range v.Value {
			n, err := ofValue(e, depth+1)
			if err != nil {
				return 0, err
			}
			size += n
		}
		return size, nil
	case *types.AttributeValueMemberM:
		size := 3 + len(v.Value)
		for name, e := range v.Value {
			n, err := ofValue(e, depth+1)
			if err != nil {
				return 0, err
			}
			size += len(name) + n
		}
		return size, nil
	}
	return 0, fmt.Errorf("no attribute value, but %T", value)
}

// ofNumber counts the significant digits: zeros at either end cost nothing.
func ofNumber(n string) int {
	mantissa, _, _ := strings.Cut(strings.ToLower(n), "e")
	sign := 0
	if strings.HasPrefix(mantissa, "-") {
		sign = 1
	}
	digits := strings.Trim(strings.ReplaceAll(strings.TrimLeft(mantissa, "+-"), ".", ""), "0")
	return 1 + sign + (len(digits)+1)/2
}
