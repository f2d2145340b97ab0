package main

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/bytedance/sonic"
	"google.golang.org/protobuf/proto"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/bench/orderpb"
)

// likeStd is sonic.ConfigStd without CopyString: Unmarshal copies the payload once, and strings may point into that copy.
var likeStd = sonic.Config{EscapeHTML: true, SortMapKeys: true, CompactMarshaler: true, ValidateString: true}.Froze()

// sonicCodec is JSON by a faster package. It takes the place of the default, because it names the same content type.
type sonicCodec struct{}

func (sonicCodec) ContentType() string                { return "application/json" }
func (sonicCodec) Marshal(v any) ([]byte, error)      { return likeStd.Marshal(v) }
func (sonicCodec) Unmarshal(data []byte, v any) error { return likeStd.Unmarshal(data, v) }

// protoCodec is protobuf. Handlers take pointers to messages: HandleType[*orderpb.Order].
type protoCodec struct{}

func (protoCodec) ContentType() string { return "application/x-protobuf" }

func (protoCodec) Marshal(v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is not a protobuf message", v)
	}
	return proto.Marshal(m)
}

func (protoCodec) Unmarshal(data []byte, v any) error {
	p := reflect.ValueOf(v).Elem() // v is a **orderpb.Order
	if p.Kind() != reflect.Pointer {
		return fmt.Errorf("%T is not a pointer to a pointer to a protobuf message", v)
	}
	p.Set(reflect.New(p.Type().Elem()))
	m, ok := p.Interface().(proto.Message)
	if !ok {
		return fmt.Errorf("%s is not a protobuf message", p.Type())
	}
	return proto.Unmarshal(data, m)
}

// protoOrder is the same order as a protobuf message.
func protoOrder(o order) *orderpb.Order {
	p := &orderpb.Order{
		OrderId: o.OrderID, Customer: &orderpb.Customer{Id: o.Customer.ID, Email: o.Customer.Email},
		Currency: o.Currency, TotalCents: o.Total, Paid: o.Paid, Note: o.Note,
	}
	for _, i := range o.Items {
		p.Items = append(p.Items, &orderpb.Item{Sku: i.SKU, Name: i.Name, Quantity: i.Quantity, PriceCents: i.Price})
	}
	return p
}

// consumer returns a Consumer with a handler of orders that does nothing.
func consumer(opts ...outbox.ConsumerOption) *outbox.Consumer {
	c := must(outbox.NewConsumer(opts...))
	outbox.Handle(c, func(context.Context, outbox.Event[order]) error { return nil })
	outbox.HandleType(c, "ORDER_CREATED_PB", func(context.Context, outbox.Event[*orderpb.Order]) error { return nil })
	return c
}

// batch returns n records of one payload, each of its own aggregate.
func batch(n int, eventType, contentType string, payload []byte) []outbox.Record {
	records := make([]outbox.Record, n)
	for i := range records {
		records[i] = outbox.Record{ID: fmt.Sprint(i), Type: eventType, AggregateID: fmt.Sprint(i), ContentType: contentType, Payload: payload}
	}
	return records
}

// codecRows shows what another codec gains. A record's way through the Consumer is measured, not the codec alone.
func codecRows() []row {
	var rows []row
	one := outbox.WithConcurrency(1)
	std, fast, both := consumer(one), consumer(one, outbox.WithCodec(sonicCodec{})), consumer(one, outbox.WithCodec(protoCodec{}))
	for _, size := range sizes[:3] {
		o := newOrder(size.bytes)
		text, binary := must(json.Marshal(o)), must(proto.Marshal(protoOrder(o)))
		const n = 100
		asJSON, asProto := batch(n, "ORDER_CREATED", "", text), batch(n, "ORDER_CREATED_PB", "application/x-protobuf", binary)
		process := func(c *outbox.Consumer, records []outbox.Record) func() {
			return func() {
				if err := c.Process(context.Background(), records...); err != nil {
					panic(err)
				}
			}
		}
		rows = append(rows, row{
			group: "Process with other codecs, batches of 100, one handler at a time",
			name:  size.name + " of JSON",
			sides: []side{{"std", n, process(std, asJSON)}, {"sonic", n, process(fast, asJSON)}, {"proto", n, process(both, asProto)}},
			judge: func(r results) (string, bool) {
				return fmt.Sprintf("encoding/json %s; sonic %.1f × as fast; protobuf (%d bytes) %.1f ×",
					duration(r.ns("std")), r.ratio("std", "sonic"), len(binary), r.ratio("std", "proto")), true
			},
		})
	}
	return rows
}
