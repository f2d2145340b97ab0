package outbox

import (
	"errors"
	"fmt"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/order"
)

// NewSequenced returns the event that takes an aggregate to the version sequence: 1 for its first event, and one more for each next one. Its ID is
// SequencedID(aggregateID, sequence), so one event at most is stored for each sequence, whoever writes it: a Writer refuses another one with
// ErrSequenceTaken, and writes nothing. Time and type are set as by NewEvent.
//
// Take the sequence from the aggregate's version, which the same transaction must move on under a condition. For an aggregate that is made of
// its events alone, the event's own row is this condition.
//
// A repeat needs the same Event value. An event made anew has another Time and counts as another one, since two equal events may be two
// decisions. Times are stored in milliseconds: put the request's id into data, if two requests may be that close.
//
// Never write a sequence before the one below it is known to be committed. After ErrUnknownOutcome repeat that one first.
//
// Ids of aggregates must be unique over all kinds of aggregates: "order-42" rather than "42". A Writer refuses an empty id, an id of more than 2,028
// bytes, and a sequence below 1, with ErrInvalidEvent. Several events of one aggregate in one transaction must have sequences that follow each
// other, in the order of the call; otherwise they are refused with it, too. NewSequenced is safe for concurrent use.
func NewSequenced[T Payload](aggregateID string, sequence int64, data T) Event[T] {
	return Event[T]{
		ID:          SequencedID(aggregateID, sequence),
		Type:        typeOf(data),
		AggregateID: aggregateID,
		Sequence:    sequence,
		Time:        time.Now(),
		Data:        data,
	}
}

// SequencedID returns aggregateID + "#" + sequence in decimal digits: the ID of the event that takes the aggregate to this sequence. An event is
// sequenced if its ID, AggregateID and Sequence fit together in this way, however it was made. It is not sequenced otherwise.
func SequencedID(aggregateID string, sequence int64) string { return order.ID(aggregateID, sequence) }

// sequenced reports whether an event is sequenced (SequencedID).
func sequenced(r *Record) bool { return order.Sequenced(r.ID, r.AggregateID, r.Sequence) }

// checkSequenced returns what is wrong with a sequenced event.
func checkSequenced(r *Record) error {
	switch {
	case r.AggregateID == "":
		return errors.New("its id is that of a sequenced event, and it has no aggregate id: a sequence belongs to an aggregate")
	case r.Sequence < 1:
		return fmt.Errorf("its sequence is %d: the first event of an aggregate has the sequence 1", r.Sequence)
	case len(r.AggregateID) > order.MaxAggregate:
		return fmt.Errorf("its aggregate id has %d bytes: that of a sequenced event has at most %d, so that the id of every later one fits into a DynamoDB key", len(r.AggregateID), order.MaxAggregate)
	}
	return nil
}

// sequenceGap returns the first sequenced event whose sequence is not one more than that of its aggregate's event before it in the transaction, and
// that event's sequence, or -1. Nobody else could ever write what lies between.
func (tx *transaction) sequenceGap() (i int, before int64) {
	if len(tx.events) < 2 {
		return -1, 0
	}
	last := map[string]int64{}
	for i := range tx.events {
		if r := &tx.events[i].record; sequenced(r) {
			if before, ok := last[r.AggregateID]; ok && r.Sequence-1 != before {
				return i, before
			}
			last[r.AggregateID] = r.Sequence
		}
	}
	return -1, 0
}
