// Package event holds the one list of an event's fields. A change record is decoded into them, a dead letter keeps them, and callers see them
// as outbox.Record. It must not know how any of these read or write an event.
package event

import "time"

// Event has the fields of outbox.Record, in the same order, and Record documents them. The compiler converts one into the other, and
// refuses to when the lists differ; so no test is needed.
type Event struct {
	ID          string
	Type        string
	AggregateID string
	Sequence    int64
	Time        time.Time
	Headers     map[string]string

	ContentType string
	Payload     []byte

	Table     string
	ChangedAt time.Time

	StreamARN      string
	ShardID        string
	SequenceNumber string
	Fence          int64
}
