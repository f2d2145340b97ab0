// Package outbox is the transactional outbox on DynamoDB. A change and the event that announces it commit in one transaction, and
// every event reaches its handler.
//
// A [Writer] adds event rows to a DynamoDB transaction. DynamoDB's Kinesis streaming destination, or DynamoDB Streams, carries
// every inserted row onwards as a change record. A [Consumer] decodes the change records and hands typed events to plain
// functions, in AWS Lambda or anywhere else.
//
//	type OrderCreated struct {
//		OrderID string `json:"orderId"`
//	}
//
//	func (OrderCreated) EventType() string { return "ORDER_CREATED" }
//
//	// in the service
//	err := writer.Put(ctx, "orders", order, outbox.NewEvent(order.ID, OrderCreated{OrderID: order.ID}))
//
//	// in the consumer
//	outbox.Handle(consumer, func(ctx context.Context, e outbox.Event[OrderCreated]) error {
//		return mailer.Confirm(ctx, e.ID, e.Data)
//	})
//
// Delivery is at least once: a handler may see an event again, with the same ID. With an [Inbox], what [HandleTx] commits happens
// exactly once. Within one Consumer, events of one aggregate are handled one at a time, in the order in which they arrive.
package outbox

import (
	"fmt"
	"reflect"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/eventid"
)

// Payload is the data of an event. It names the event's type. The name must stay the same: it is stored with every event, and a
// Consumer finds the handler by it.
type Payload interface {
	// EventType returns the event type, for example "ORDER_CREATED". It must not depend on the value that it is called on.
	EventType() string
}

// Event is something that happened to an aggregate. The same type is written and handled. An Event is a plain value; this package
// reads its Headers and never changes them.
type Event[T any] struct {
	// ID identifies the event everywhere and for ever. NewEvent sets a ULID. An ID of your own, derived from the cause of the
	// event, makes writing the event again from scratch a repeat instead of a second event. An ID that is SequencedID of the event's
	// AggregateID and Sequence makes it a sequenced event (NewSequenced), whose Time counts as well.
	ID string
	// Type is the event type. If it is empty and Data implements Payload, the Writer takes the type from Data.
	Type string
	// AggregateID names the entity that the event is about. Within one Consumer, events with the same AggregateID are handled one
	// at a time, in the order in which they arrive, or by Sequence (WithOrder). An event with an empty AggregateID has no order with other
	// events.
	AggregateID string
	// Sequence is the version of the aggregate after the event. Optional: 0 means that there is no version. Replays sort by it,
	// and so do redrives within an aggregate. WithOrder hands over sequenced events by it (NewSequenced).
	Sequence int64
	// Time is when the event happened. It is stored in milliseconds. If it is zero, the Writer sets the current time. A time before
	// 1973-03-04 or after 5138-11-15 is refused, because it was most likely made from a number in another unit. A Consumer refuses such
	// numbers, too; a time as text (RFC 3339) has no unit, and any is read.
	Time time.Time
	// Headers travel with the event: trace context, tenant and the like. Optional.
	Headers map[string]string
	// Data is the payload, stored as JSON unless WithCodec says otherwise. encoding/json replaces invalid UTF-8.
	//
	// The payload is part of what makes a repeated event the same event. Values that change with every attempt, such as the
	// current time, do not belong into it.
	Data T
}

// ids is the one source of event ids of the process, so that the ids of all goroutines strictly increase.
var ids = eventid.NewSource(time.Now)

// NewEvent returns an event with a new ID, the current time, and the type that data names. IDs strictly increase within a
// process. A nil pointer names no type; a Writer refuses such an event. NewEvent is safe for concurrent use.
func NewEvent[T Payload](aggregateID string, data T) Event[T] {
	return Event[T]{
		ID:          ids.New(),
		Type:        typeOf(data),
		AggregateID: aggregateID,
		Time:        time.Now(),
		Data:        data,
	}
}

// AnyEvent is an Event of any payload type, a [Record] that is written as it is, or a pointer to either. To pass a list of
// events, make a []AnyEvent.
type AnyEvent interface {
	record(namedCodec) (Record, error)
}

// record returns the event with its payload encoded. If encoding fails, the Record still has everything but the payload.
func (e Event[T]) record(codec namedCodec) (Record, error) {
	r := Record{ID: e.ID, Type: e.Type, AggregateID: e.AggregateID, Sequence: e.Sequence, Time: e.Time, Headers: e.Headers}
	if r.Type == "" {
		r.Type = typeOf(e.Data)
	}
	if !codec.isJSON() {
		r.ContentType = codec.contentType
	}
	var err error
	if r.Payload, err = codec.Marshal(e.Data); err != nil {
		return r, fmt.Errorf("its data cannot be encoded: %w", discreet(err))
	}
	return r, nil
}

// typeOf returns the event type that data names. It returns "" if data is a nil pointer, or not a Payload.
func typeOf(data any) string {
	p, ok := data.(Payload)
	if !ok {
		return ""
	}
	if v := reflect.ValueOf(data); v.Kind() == reflect.Pointer && v.IsNil() {
		return ""
	}
	return p.EventType()
}
