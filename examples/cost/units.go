package main

import (
	"encoding/json"
	"strings"
)

// What AWS counts. The sizes are those of the documented event row and of a change record of it; a test compares them with what a
// Writer stores and what arrives in the stream.

// rowBytes is what DynamoDB counts for an event row with a ULID, the type ORDER_CREATED, an aggregate id of 26 characters, a time to
// live and a payload of so many bytes: names, texts, and half a byte for each digit of a number and one more.
func rowBytes(payload int) int {
	return len("eventId") + 26 + len("type") + len("ORDER_CREATED") + len("timestamp") + 8 + len("aggregateId") + 26 +
		len("payload") + payload + len("expiresAt") + 6
}

// recordBytes is the length of the row's change record in Kinesis, with the partition key that Kinesis counts, too. Quotes in the
// payload are escaped there.
func recordBytes(payload int) int {
	const (
		around       = 602 // envelope, key, and the row's other attributes with their types
		partitionKey = 32
	)
	escaped := strings.Count(sample(payload), `"`)
	return around + payload + escaped + partitionKey
}

// removalBytes is the same for the record of the row's removal by time to live, which names who removed it.
func removalBytes(payload int) int {
	return recordBytes(payload) + len(`{"type":"Service","principalId":"dynamodb.amazonaws.com"}`) - len("null")
}

// sample is an order in JSON of so many bytes, with the strings and numbers that orders have.
func sample(size int) string {
	type line struct {
		SKU      string `json:"sku"`
		Name     string `json:"name"`
		Quantity int    `json:"quantity"`
		Price    int    `json:"priceCents"`
	}
	order := struct {
		OrderID string `json:"orderId"`
		Lines   []line `json:"lines"`
		Note    string `json:"note"`
	}{OrderID: "01J1A2B3C4D5E6F7G8H9JKMNPQ", Lines: []line{}}
	text := func() string {
		b, _ := json.Marshal(order) // of strings and numbers: it never fails
		return string(b)
	}
	for len(text()) <= size {
		order.Lines = append(order.Lines, line{"SKU-000042", "coffee beans, 1 kg", 1, 2090})
	}
	if len(order.Lines) > 0 {
		order.Lines = order.Lines[:len(order.Lines)-1]
	}
	order.Note = strings.Repeat(".", max(size-len(text()), 0))
	return text()
}

// units is how many units of a size some bytes are, the last one begun.
func units(bytes, size int) float64 { return float64((bytes + size - 1) / size) }

// What a transaction costs: each item twice, prepared and committed.
// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html
func inTransaction(bytes int) float64 { return 2 * units(bytes, kb) }

// stored is what a row costs that is kept for some days: DynamoDB counts 100 bytes more for each item.
func stored(bytes int, days float64) float64 {
	return float64(bytes+100) / gb * storedGB * days / (hoursPerMonth / 24.0)
}

// carried is what a record costs on its way through an on-demand stream to one reader. Kinesis rounds what it takes in up to the next
// KB. Whether it rounds what is read in the same way is not said; here it is.
func carried(bytes int) float64 { return units(bytes, kb) * kb / gb * (ingestedGB + retrievedGB) }

// put is what a record costs on its way through a provisioned stream, beside its shards.
func put(bytes int) float64 { return units(bytes, 25*kb) * payloadUnit }
