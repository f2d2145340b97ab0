package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
)

// order is the payload: the JSON of services, with short strings, numbers and a list that grows.
type order struct {
	OrderID  string   `json:"orderId"`
	Customer customer `json:"customer"`
	Currency string   `json:"currency"`
	Total    int64    `json:"totalCents"`
	Paid     bool     `json:"paid"`
	Items    []item   `json:"items"`
	Note     string   `json:"note"`
}

type customer struct {
	ID    string `json:"id"`
	Email string `json:"email"`
}

type item struct {
	SKU      string `json:"sku"`
	Name     string `json:"name"`
	Quantity int32  `json:"quantity"`
	Price    int64  `json:"priceCents"`
}

func (order) EventType() string { return "ORDER_CREATED" }

// newOrder returns an order of size bytes as JSON: as many items as fit, and a note that fills the rest.
func newOrder(size int) order {
	o := order{
		OrderID:  "01J1A2B3C4D5E6F7G8H9JKMNPQ",
		Customer: customer{ID: "customer-4711", Email: "jane.doe@example.com"},
		Currency: "EUR", Total: 4180, Paid: true, Items: []item{},
		Note: `leave at the "back door"`,
	}
	for missing := size - len(must(json.Marshal(o))); ; {
		n := len(o.Items)
		o.Items = append(o.Items, item{SKU: fmt.Sprintf("SKU-%06d", n), Name: "coffee beans, 1 kg", Quantity: int32(n%3 + 1), Price: 2090})
		if left := size - len(must(json.Marshal(o))); left >= 0 {
			missing = left
			continue
		}
		o.Items = o.Items[:n]
		o.Note += strings.Repeat(".", missing)
		return o
	}
}

// sizes are the payload sizes that are compared.
var sizes = []struct {
	name  string
	bytes int
}{{"300 B", 300}, {"1 KB", 1000}, {"4 KB", 4000}, {"64 KB", 64_000}}

// change is a change record as DynamoDB's Kinesis destination writes it, about an event with this payload: all attributes
// of an event row but the content type, which JSON does not need, and headers.
func change(kind, eventID string, payload []byte) []byte {
	image := "NewImage"
	if kind == "REMOVE" {
		image = "OldImage"
	}
	return fmt.Appendf(nil, `{"awsRegion":"eu-west-1","eventID":"5a88419c-468a-4ac4-8bad-7f832caf7345","eventName":%q,"userIdentity":null,`+
		`"recordFormat":"application/json","tableName":"events","dynamodb":{"ApproximateCreationDateTime":1719347890250647,`+
		`"Keys":{"eventId":{"S":%q}},%q:{"eventId":{"S":%q},"type":{"S":"ORDER_CREATED"},"timestamp":{"N":"1719347890250"},`+
		`"aggregateId":{"S":"order-%s"},"sequence":{"N":"3"},"expiresAt":{"N":"1721939890"},"payload":{"S":%s}},"SizeBytes":%d,"ApproximateCreationDateTimePrecision":"MICROSECOND"},`+
		`"eventSource":"aws:dynamodb"}`, kind, eventID, image, eventID, eventID, must(json.Marshal(string(payload))), len(payload)+150)
}

// insert is the change record of an event with an order of this size.
func insert(size int) []byte {
	return change("INSERT", "01J1A2B3C4D5E6F7G8H9JKMNPQ", must(json.Marshal(newOrder(size))))
}

// invocation is what Lambda hands over for n events of this payload size, each of its own aggregate.
func invocation(n, size int) []byte {
	payload := must(json.Marshal(newOrder(size)))
	text := []byte(`{"Records":[`)
	for i := range n {
		if i > 0 {
			text = append(text, ',')
		}
		data := change("INSERT", fmt.Sprintf("01J1A2B3C4D5E6F7G8H9JK%04d", i), payload)
		text = fmt.Appendf(text, `{"kinesis":{"kinesisSchemaVersion":"1.0","partitionKey":"859F5D8E5C4B4E8F9A0B1C2D3E4F5A6B",`+
			`"sequenceNumber":"4965482810174482193839449%031d","data":%q,"approximateArrivalTimestamp":1731924555.932},`+
			`"eventSource":"aws:kinesis","eventVersion":"1.0","eventID":"shardId-000000000000:4965482810174482193839449%031d",`+
			`"eventName":"aws:kinesis:record","invokeIdentityArn":"arn:aws:iam::123456789012:role/consumer","awsRegion":"eu-west-1",`+
			`"eventSourceARN":"arn:aws:kinesis:eu-west-1:123456789012:stream/events"}`, i, base64.StdEncoding.EncodeToString(data), i)
	}
	return append(text, "]}"...)
}
