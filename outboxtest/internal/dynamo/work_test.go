package dynamo

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// filled is a DB whose table has n items in partitions of ten, and an index.
func filled(t testing.TB, n int) *DB {
	t.Helper()
	db := New(Config{})
	do(t, db, "CreateTable", `{"TableName":"rows","BillingMode":"PAY_PER_REQUEST",
		"AttributeDefinitions":[{"AttributeName":"pk","AttributeType":"S"},{"AttributeName":"sk","AttributeType":"N"},{"AttributeName":"g","AttributeType":"N"}],
		"KeySchema":[{"AttributeName":"pk","KeyType":"HASH"},{"AttributeName":"sk","KeyType":"RANGE"}],
		"GlobalSecondaryIndexes":[{"IndexName":"byG","KeySchema":[{"AttributeName":"g","KeyType":"HASH"}],"Projection":{"ProjectionType":"ALL"}}]}`)
	for i := range n {
		do(t, db, "PutItem", fmt.Sprintf(`{"TableName":"rows","Item":{"pk":{"S":"%d"},"sk":{"N":"%d"},"g":{"N":"%d"}}}`, i/10, i%10, i))
	}
	return db
}

func do(t testing.TB, db *DB, operation, body string) {
	t.Helper()
	_, err := db.Do(t.Context(), operation, []byte(body))
	require.NoError(t, err, operation)
}

// operations are one of each sort; none leaves the table another size.
func operations() map[string]string {
	const key = `{"pk":{"S":"5"},"sk":{"N":"5"}}`
	return map[string]string{
		"GetItem":          `{"TableName":"rows","Key":` + key + `}`,
		"PutItem":          `{"TableName":"rows","Item":{"pk":{"S":"5"},"sk":{"N":"5"},"g":{"N":"7"}},"ConditionExpression":"attribute_exists(pk)"}`,
		"UpdateItem":       `{"TableName":"rows","Key":` + key + `,"UpdateExpression":"ADD v :v","ExpressionAttributeValues":{":v":{"N":"1"}}}`,
		"DeleteItem":       `{"TableName":"rows","Key":{"pk":{"S":"none"},"sk":{"N":"5"}}}`,
		"Query":            `{"TableName":"rows","KeyConditionExpression":"pk = :p AND sk > :s","ExpressionAttributeValues":{":p":{"S":"5"},":s":{"N":"7"}},"ScanIndexForward":false}`,
		"Scan":             `{"TableName":"rows","IndexName":"byG","Limit":5}`,
		"BatchGetItem":     `{"RequestItems":{"rows":{"Keys":[` + key + `]}}}`,
		"BatchWriteItem":   `{"RequestItems":{"rows":[{"PutRequest":{"Item":{"pk":{"S":"5"},"sk":{"N":"5"},"g":{"N":"8"}}}}]}}`,
		"TransactGetItems": `{"TransactItems":[{"Get":{"TableName":"rows","Key":` + key + `}}]}`,
		"TransactWriteItems": `{"TransactItems":[{"Update":{"TableName":"rows","Key":` + key + `,"UpdateExpression":"ADD v :v","ExpressionAttributeValues":{":v":{"N":"1"}}}},` +
			`{"ConditionCheck":{"TableName":"rows","Key":{"pk":{"S":"6"},"sk":{"N":"5"}},"ConditionExpression":"attribute_exists(pk)"}}]}`,
		"DescribeTable": `{"TableName":"rows"}`,
	}
}

// What an operation allocates stands for its work: copying or collecting a table would show in it.
func TestWorkDoesNotGrowWithTheTable(t *testing.T) {
	allocations := func(n int) map[string]float64 {
		db := filled(t, n)
		out := make(map[string]float64)
		for operation, body := range operations() {
			out[operation] = testing.AllocsPerRun(20, func() { do(t, db, operation, body) })
		}
		return out
	}
	small, large := allocations(100), allocations(4_000)
	for operation, n := range small {
		require.InDelta(t, n, large[operation], 10, "%s: allocations with 100 items and with 4,000", operation)
	}
}

// A search may grow with the logarithm of the number of entries, no more.
func TestSearchesAreLogarithmic(t *testing.T) {
	o := newOrdered()
	var keys []entryKey
	for i := range 50_000 {
		key := entryKey{part: fmt.Sprint(mix(uint64(i)))}
		keys = append(keys, key)
		o.set(key, nil)
	}
	total := 0
	for _, key := range keys[:1000] {
		e := &o.head
		for l := o.level - 1; l >= 0; l-- {
			for total++; e.next[l] != nil && e.next[l].key.compare(key) < 0; total++ {
				e = e.next[l]
			}
		}
		require.Equal(t, key, e.next[0].key)
	}
	require.Less(t, float64(total)/1000, 4*math.Log2(float64(len(keys))))
}

func BenchmarkOperations(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		db := filled(b, n)
		for operation, body := range operations() {
			b.Run(fmt.Sprintf("%s/%d", operation, n), func(b *testing.B) {
				for b.Loop() {
					do(b, db, operation, body)
				}
			})
		}
	}
}
