package attr

import (
	"math/big"
	"strconv"
	"strings"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// The limits of DynamoDB's numbers: 38 significant digits, magnitudes 1E-130 to 9.99…E+125.
const (
	maxDigits    = 38
	maxMagnitude = 125
	minMagnitude = -130
)

const (
	messageOverflow  = "Number overflow. Attempting to store a number with magnitude larger than supported range"
	messageUnderflow = "Number underflow. Attempting to store a number with magnitude smaller than supported range"
	messagePrecision = "Attempting to store more than 38 significant digits in a Number"
)

// decimal is d.ddd × 10^exp with the sign apart; digits has no zero at either end and is empty for 0.
type decimal struct {
	negative bool
	digits   string
	exp      int
}

func itoa(n int) string { return strconv.Itoa(n) }

func notNumeric(text string) error {
	const message = "The parameter cannot be converted to a numeric value"
	e := wire.CountedValidation(message + ": " + text)
	if text == "" {
		e.Older = message
	}
	return e
}

func parseDecimal(text string) (decimal, error) {
	if text == "" {
		return decimal{}, notNumeric(text)
	}
	rest := text
	var d decimal
	switch rest[0] {
	case '-':
		d.negative, rest = true, rest[1:]
	case '+':
		rest = rest[1:]
	}
	exponent := 0
	if i := strings.IndexAny(rest, "eE"); i >= 0 {
		e := rest[i+1:]
		n, err := strconv.ParseInt(e, 10, 64)
		if err != nil || !isDigits(strings.TrimLeft(e, "+-")) {
			return decimal{}, notNumeric(text)
		}
		// Far beyond what any number of digits could make up for, and safe to calculate with.
		const far = 1 << 30
		exponent, rest = int(min(max(n, -far), far)), rest[:i]
	}
	whole, fraction, _ := strings.Cut(rest, ".")
	if whole+fraction == "" || !isDigits(whole) || !isDigits(fraction) {
		return decimal{}, notNumeric(text)
	}
	all := whole + fraction
	d.digits = strings.TrimLeft(all, "0")
	d.exp = len(whole) - 1 - (len(all) - len(d.digits)) + exponent
	d.digits = strings.TrimRight(d.digits, "0")
	if d.digits == "" {
		// AWS looks at the exponent that a zero was written with.
		if written := exponent - len(fraction); written > maxMagnitude {
			return decimal{}, wire.CountedValidation(messageOverflow)
		} else if written < minMagnitude {
			return decimal{}, wire.CountedValidation(messageUnderflow)
		}
		return decimal{}, nil
	}
	if fault := d.fault(); fault != "" {
		return decimal{}, wire.CountedValidation(fault)
	}
	return d, nil
}

// fault tells why the number cannot be stored, "" if it can.
func (d decimal) fault() string {
	switch {
	case d.exp > maxMagnitude:
		return messageOverflow
	case d.exp < minMagnitude:
		return messageUnderflow
	case len(d.digits) > maxDigits:
		return messagePrecision
	}
	return ""
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// text is the plain notation that DynamoDB answers with: no exponent, no superfluous zero.
func (d decimal) text() string {
	if d.digits == "" {
		return "0"
	}
	var b strings.Builder
	if d.negative {
		b.WriteByte('-')
	}
	switch point := d.exp + 1; {
	case point <= 0:
		b.WriteString("0.")
		b.WriteString(strings.Repeat("0", -point))
		b.WriteString(d.digits)
	case point >= len(d.digits):
		b.WriteString(d.digits)
		b.WriteString(strings.Repeat("0", point-len(d.digits)))
	default:
		b.WriteString(d.digits[:point])
		b.WriteByte('.')
		b.WriteString(d.digits[point:])
	}
	return b.String()
}

// decimal reads the plain notation back; that cannot fail.
func (v Value) decimal() decimal {
	d, _ := parseDecimal(v.Text())
	return d
}

// sortable puts the sign, then the magnitude, then the digits, each inverted for negative numbers.
func (d decimal) sortable() []byte {
	const zero, positive, negative = 1, 2, 0
	if d.digits == "" {
		return []byte{zero}
	}
	out := make([]byte, 0, len(d.digits)+3)
	magnitude := byte(d.exp - minMagnitude) // 0 to 255 exactly
	if !d.negative {
		out = append(out, positive, magnitude)
		return append(out, d.digits...)
	}
	out = append(out, negative, ^magnitude)
	for i := range len(d.digits) {
		out = append(out, '9'-d.digits[i])
	}
	// A longer negative number is the smaller one.
	return append(out, 0xff)
}

// stored is the number as DynamoDB hashes it: pairs of digits around the point, each plus one, after
// the exponent; all of it inverted for a negative number, which a terminator ends.
func (d decimal) stored() []byte {
	if d.digits == "" {
		return []byte{0x80}
	}
	digits, exponent := d.digits, d.exp+1
	if exponent%2 != 0 {
		digits, exponent = "0"+digits, exponent+1
	}
	if len(digits)%2 != 0 {
		digits += "0"
	}
	out := []byte{byte(exponent/2 - 64)}
	for i := 0; i < len(digits); i += 2 {
		out = append(out, 10*(digits[i]-'0')+digits[i+1]-'0'+1)
	}
	if !d.negative {
		return out
	}
	out[0] = ^out[0]
	for i := range out[1:] {
		out[i+1] = 102 - out[i+1]
	}
	if len(out) <= (maxDigits+2)/2 {
		out = append(out, 102)
	}
	return out
}

// size is the number's size by DynamoDB's storage: a byte for sign and exponent, a byte for every
// two digits counted from the decimal point, and a terminator for a negative number.
func (d decimal) size() int {
	if d.digits == "" {
		return 1
	}
	pairs := (len(d.digits) + 1) / 2
	if len(d.digits)%2 == 0 && d.exp%2 == 0 {
		pairs++
	}
	size := 1 + pairs
	if d.negative && pairs < (maxDigits+2)/2 {
		size++
	}
	return size
}

// scaled is the number as an integer multiple of 10^scale.
func (d decimal) scaled(scale int) *big.Int {
	n := new(big.Int)
	if d.digits == "" {
		return n
	}
	n.SetString(d.digits, 10)
	low := d.exp - len(d.digits) + 1
	n.Mul(n, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(low-scale)), nil))
	if d.negative {
		n.Neg(n)
	}
	return n
}

// Add is a + b, or a - b if minus, for two Ns. AWS calls every result it cannot hold an overflow,
// also one that has too many digits.
func Add(a, b Value, minus bool) (Value, error) {
	x, y := a.decimal(), b.decimal()
	scale := 0
	for _, d := range []decimal{x, y} {
		if d.digits != "" {
			scale = min(scale, d.exp-len(d.digits)+1)
		}
	}
	p, q := x.scaled(scale), y.scaled(scale)
	if minus {
		q.Neg(q)
	}
	sum := p.Add(p, q)
	var r decimal
	if sum.Sign() != 0 {
		all := sum.Text(10)
		r.negative = all[0] == '-'
		all = strings.TrimPrefix(all, "-")
		r.exp = len(all) - 1 + scale
		r.digits = strings.TrimRight(all, "0")
	}
	if len(r.digits) > maxDigits {
		return Value{}, wire.Validation(messageOverflow)
	}
	if fault := r.fault(); fault != "" {
		return Value{}, wire.Validation(fault)
	}
	return Value{KindN, r.text()}, nil
}
