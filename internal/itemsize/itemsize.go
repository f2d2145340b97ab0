// Package itemsize computes how many bytes DynamoDB counts for an item.
//
// It follows https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html: names and
// strings count their UTF-8 bytes, binary its raw bytes, a number about one byte for two significant digits and one more, a null or
// boolean one byte, a list or map three bytes and one for each element. The package must not know what an item means.
package itemsize

import (
	"fmt"
	"reflect"
	"strconv"
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

// Of returns the size of an item in bytes. It fails on a nil value, on a type that is not the SDK's, and on documents that nest deeper
// than DynamoDB's 32 levels.
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
	if v := reflect.ValueOf(value); v.Kind() == reflect.Pointer && v.IsNil() {
		return 0, fmt.Errorf("no attribute value, but a nil %T", value)
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

// maxDigits is how many significant digits a number has at most.
const maxDigits = 38

// ofNumber counts a byte for sign and exponent, a byte for every two significant digits, paired from the decimal point, and one
// more for a negative number that is not of full length. AWS publishes this as an approximation; its consumed capacity shows the
// pairing.
func ofNumber(n string) int {
	mantissa, exponent := n, 0
	if i := strings.IndexAny(n, "eE"); i >= 0 {
		mantissa = n[:i]
		exponent, _ = strconv.Atoi(strings.TrimPrefix(n[i+1:], "+")) // DynamoDB refuses what is no number
	}
	negative := strings.HasPrefix(mantissa, "-")
	digits, point, first, last := 0, -1, -1, -1 // positions among the digits
	for i := range len(mantissa) {
		switch c := mantissa[i]; {
		case c == '.':
			point = digits
		case c >= '0' && c <= '9':
			if c != '0' {
				last = digits
				if first < 0 {
					first = digits
				}
			}
			digits++
		}
	}
	if first < 0 {
		return 1 // zero
	}
	if point < 0 {
		point = digits
	}
	significant := last - first + 1
	exponent += point - first - 1 // of the first significant digit
	pairs := (significant + 1) / 2
	if significant%2 == 0 && exponent%2 == 0 {
		pairs++ // the first and the last digit are each half of a pair
	}
	if negative && pairs <= maxDigits/2 {
		return 1 + pairs + 1
	}
	return 1 + pairs
}
