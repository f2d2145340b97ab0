package recordsize

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"
)

// A difference to a record captured from AWS would show most in the envelope.
func TestTheEnvelopeIsTheOneOfAWS(t *testing.T) {
	const captured = `{"awsRegion":"eu-west-1","eventID":"5a88419c-468a-4ac4-8bad-7f832caf7345","eventName":"INSERT","userIdentity":null,` +
		`"recordFormat":"application/json","tableName":"events","dynamodb":{"ApproximateCreationDateTime":1719347890250647,` +
		`"Keys":{"eventId":{"S":"01J"}},"NewImage":{"eventId":{"S":"01J"},"n":{"N":"10"},"b":{"B":"MTMyMQ=="},"ok":{"BOOL":false},"nil":{"NULL":true},` +
		`"m":{"M":{"a":{"S":"x"}}},"l":{"L":[{"S":"x"},{"N":"13"}]},"ss":{"SS":["a"]},"ns":{"NS":["0","1"]},"bs":{"BS":["MTMyMQ=="]}},` +
		`"SizeBytes":198,"ApproximateCreationDateTimePrecision":"MICROSECOND"},"eventSource":"aws:dynamodb"}`
	item := map[string]types.AttributeValue{
		"eventId": s("01J"), "n": &types.AttributeValueMemberN{Value: "10"}, "b": &types.AttributeValueMemberB{Value: []byte("1321")},
		"ok": &types.AttributeValueMemberBOOL{}, "nil": &types.AttributeValueMemberNULL{Value: true},
		"m":  &types.AttributeValueMemberM{Value: map[string]types.AttributeValue{"a": s("x")}},
		"l":  &types.AttributeValueMemberL{Value: []types.AttributeValue{s("x"), &types.AttributeValueMemberN{Value: "13"}}},
		"ss": &types.AttributeValueMemberSS{Value: []string{"a"}}, "ns": &types.AttributeValueMemberNS{Value: []string{"0", "1"}},
		"bs": &types.AttributeValueMemberBS{Value: [][]byte{[]byte("1321")}},
	}
	for _, table := range []string{"events", "arn:aws:dynamodb:eu-west-1:123456789012:table/events"} {
		require.Equal(t, len(captured), Of(Insert{Region: "eu-west-1", Table: table, Item: item, Key: "eventId", Bytes: 198}))
	}
}

// Random items, against encoding/json.
func TestSizeIsThatOfTheEncodedItem(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 0))
		item := randomMap(r, 3)
		want := encode(t, map[string]any{"M": wire(item)["M"]})
		require.Equalf(t, len(want), len(`{"M":}`)+ofMap(item), "seed %d: %s", seed, want)
	}
}

func FuzzQuoted(f *testing.F) {
	for _, text := range []string{"", "a\"b\\c", "\x00\x1f\b\f\n\r\t\x7f", "é漢😀", "\u2028\u2029\u202a", "\xe2\x80", strings.Repeat("\\", 50)} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		text = strings.ToValidUTF8(text, "") // a row holds only valid UTF-8
		require.Equal(t, len(encode(t, text)), quoted(text))
	})
}

func s(v string) types.AttributeValue { return &types.AttributeValueMemberS{Value: v} }

func encode(t *testing.T, v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	require.NoError(t, e.Encode(v))
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// wire returns a value as DynamoDB writes it.
func wire(item map[string]types.AttributeValue) map[string]any {
	out := map[string]any{}
	for name, value := range item {
		out[name] = wireValue(value)
	}
	return map[string]any{"M": out}
}

func wireValue(value types.AttributeValue) any {
	texts := func(members []string) []string { return append([]string{}, members...) }
	switch v := value.(type) {
	case *types.AttributeValueMemberS:
		return map[string]any{"S": v.Value}
	case *types.AttributeValueMemberN:
		return map[string]any{"N": v.Value}
	case *types.AttributeValueMemberB:
		return map[string]any{"B": base64.StdEncoding.EncodeToString(v.Value)}
	case *types.AttributeValueMemberBOOL:
		return map[string]any{"BOOL": v.Value}
	case *types.AttributeValueMemberNULL:
		return map[string]any{"NULL": v.Value}
	case *types.AttributeValueMemberSS:
		return map[string]any{"SS": texts(v.Value)}
	case *types.AttributeValueMemberNS:
		return map[string]any{"NS": texts(v.Value)}
	case *types.AttributeValueMemberBS:
		out := []string{}
		for _, b := range v.Value {
			out = append(out, base64.StdEncoding.EncodeToString(b))
		}
		return map[string]any{"BS": out}
	case *types.AttributeValueMemberL:
		out := []any{}
		for _, e := range v.Value {
			out = append(out, wireValue(e))
		}
		return map[string]any{"L": out}
	case *types.AttributeValueMemberM:
		return wire(v.Value)
	}
	panic(fmt.Sprintf("no attribute value: %T", value))
}

func randomMap(r *rand.Rand, depth int) map[string]types.AttributeValue {
	m := map[string]types.AttributeValue{}
	for range r.IntN(6) {
		m[randomText(r)] = randomValue(r, depth)
	}
	return m
}

func randomText(r *rand.Rand) string {
	alphabet := []rune("ab\"\\\n\t\r\b\f\x00\x01\x1f\x7f</&é漢😀\u2028\u2029\u202a")
	var b strings.Builder
	for range r.IntN(12) {
		b.WriteRune(alphabet[r.IntN(len(alphabet))])
	}
	return b.String()
}

func randomValue(r *rand.Rand, depth int) types.AttributeValue {
	kinds := 10
	if depth == 0 {
		kinds = 8
	}
	texts := func(f func(*rand.Rand) string) (out []string) {
		for range r.IntN(4) {
			out = append(out, f(r))
		}
		return out
	}
	number := func(r *rand.Rand) string { return fmt.Sprint(r.Int64()) }
	switch r.IntN(kinds) {
	case 0:
		return s(randomText(r))
	case 1:
		return &types.AttributeValueMemberN{Value: number(r)}
	case 2:
		return &types.AttributeValueMemberB{Value: []byte(randomText(r))}
	case 3:
		return &types.AttributeValueMemberBOOL{Value: r.IntN(2) == 0}
	case 4:
		return &types.AttributeValueMemberNULL{Value: true}
	case 5:
		return &types.AttributeValueMemberSS{Value: texts(randomText)}
	case 6:
		return &types.AttributeValueMemberNS{Value: texts(number)}
	case 7:
		var members [][]byte
		for _, text := range texts(randomText) {
			members = append(members, []byte(text))
		}
		return &types.AttributeValueMemberBS{Value: members}
	case 8:
		var list []types.AttributeValue
		for range r.IntN(4) {
			list = append(list, randomValue(r, depth-1))
		}
		return &types.AttributeValueMemberL{Value: list}
	default:
		return &types.AttributeValueMemberM{Value: randomMap(r, depth-1)}
	}
}
