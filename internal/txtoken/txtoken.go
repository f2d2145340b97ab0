// Package txtoken derives the idempotency token of a transaction from its content. Equal transactions have equal tokens, in any
// process and at any time; different transactions have different tokens.
//
// DynamoDB compares the parameters of two requests with one token, and refuses a difference (IdempotentParameterMismatchException).
// With a token that is made from the whole content, a repeat is the same request or a new request, never a mismatch. Whether
// DynamoDB sees a difference in the order of a set's members is not documented, so here it makes another token. See
// https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html.
package txtoken

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

const length = 32

// pool reuses buffers, which are large compared with the rest of a transaction.
var pool = sync.Pool{New: func() any { return &writer{buf: make([]byte, 0, 1024)} }}

// Of returns the token of a request with these items and other parameters. It has 32 characters; DynamoDB takes 36.
func Of(items []types.TransactWriteItem, parameters ...string) string {
	w := pool.Get().(*writer)
	defer pool.Put(w)
	w.buf = w.buf[:0]
	for _, p := range parameters {
		w.text(p)
	}
	for i := range items {
		w.item(&items[i])
	}
	sum := sha256.Sum256(w.buf)
	var token [length]byte
	base64.RawURLEncoding.Encode(token[:], sum[:length*6/8])
	return string(token[:])
}

// writer builds a text in which the kind and length of every piece come before it, so that no two contents have the same text.
type writer struct{ buf []byte }

func (w *writer) head(kind byte, length int) {
	w.buf = binary.AppendUvarint(append(w.buf, kind), uint64(length))
}

func (w *writer) text(s string) {
	w.head('s', len(s))
	w.buf = append(w.buf, s...)
}

func (w *writer) optional(s *string) {
	if s == nil {
		w.head('-', 0)
		return
	}
	w.text(*s)
}

func (w *writer) item(item *types.TransactWriteItem) {
	w.head('T', 4)
	if put := item.Put; put != nil {
		w.head('P', 0)
		w.optional(put.TableName)
		w.values(put.Item)
		w.text(string(put.ReturnValuesOnConditionCheckFailure))
		w.expressions(put.ConditionExpression, nil, put.ExpressionAttributeNames, put.ExpressionAttributeValues)
	}
	if update := item.Update; update != nil {
		w.head('U', 0)
		w.optional(update.TableName)
		w.values(update.Key)
		w.text(string(update.ReturnValuesOnConditionCheckFailure))
		w.expressions(update.ConditionExpression, update.UpdateExpression, update.ExpressionAttributeNames, update.ExpressionAttributeValues)
	}
	if del := item.Delete; del != nil {
		w.head('D', 0)
		w.optional(del.TableName)
		w.values(del.Key)
		w.text(string(del.ReturnValuesOnConditionCheckFailure))
		w.expressions(del.ConditionExpression, nil, del.ExpressionAttributeNames, del.ExpressionAttributeValues)
	}
	if check := item.ConditionCheck; check != nil {
		w.head('C', 0)
		w.optional(check.TableName)
		w.values(check.Key)
		w.text(string(check.ReturnValuesOnConditionCheckFailure))
		w.expressions(check.ConditionExpression, nil, check.ExpressionAttributeNames, check.ExpressionAttributeValues)
	}
}

func (w *writer) expressions(condition, update *string, names map[string]string, values map[string]types.AttributeValue) {
	w.optional(condition)
	w.optional(update)
	w.head('n', len(names))
	var few [fewKeys]string
	for _, name := range appendSorted(few[:0], names) {
		w.text(name)
		w.text(names[name])
	}
	w.values(values)
}

func (w *writer) values(m map[string]types.AttributeValue) {
	w.head('M', len(m))
	var few [fewKeys]string
	for _, name := range appendSorted(few[:0], m) {
		w.text(name)
		w.value(m[name])
	}
}

func (w *writer) value(value types.AttributeValue) {
	switch v := value.(type) {
	case *types.AttributeValueMemberS:
		w.head('S', 0)
		w.text(v.Value)
	case *types.AttributeValueMemberN:
		w.head('N', 0)
		w.text(v.Value)
	case *types.AttributeValueMemberB:
		w.head('B', len(v.Value))
		w.buf = append(w.buf, v.Value...)
	case *types.AttributeValueMemberBOOL:
		if v.Value {
			w.head('t', 0)
		} else {
			w.head('f', 0)
		}
	case *types.AttributeValueMemberNULL:
		w.head('0', 0)
	case *types.AttributeValueMemberSS:
		w.head('1', len(v.Value))
		for _, s := range v.Value {
			w.text(s)
		}
	case *types.AttributeValueMemberNS:
		w.head('2', len(v.Value))
		for _, n := range v.Value {
			w.text(n)
		}
	case *types.AttributeValueMemberBS:
		w.head('3', len(v.Value))
		for _, b := range v.Value {
			w.head('b', len(b))
			w.buf = append(w.buf, b...)
		}
	case *types.AttributeValueMemberL:
		w.head('L', len(v.Value))
		for _, e := range v.Value {
			w.value(e)
		}
	case *types.AttributeValueMemberM:
		w.values(v.Value)
	}
}

// fewKeys is how many keys are sorted without an allocation.
const fewKeys = 16

func appendSorted[V any](keys []string, m map[string]V) []string {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
