package outbox

import (
	"errors"
	"fmt"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/changerec"
	"github.com/seed-1b628d3f/outbox/internal/event"
	"github.com/seed-1b628d3f/outbox/internal/slab"
)

// ErrNotEvent says that a record announces no event: it is a REMOVE or a MODIFY, it is of another table, its item lacks the attributes
// of an event, or it is no change record, but other JSON, packed by the Kinesis Producer Library, or foreign (WithForeignRecords). A
// Consumer skips such a record and tells its hooks.
var ErrNotEvent = errors.New("not an event")

// Record is an event with its payload encoded, and where it came from. Middleware and hooks see events as Records.
//
// A Record shares no memory with the bytes that it was decoded from. It may share memory with the records that arrived with it:
// to keep a small part of a Record for long, copy the part. Payload and Headers must not be changed.
//
// A Record can also be written. The Writer stores its payload and content type as they are, whatever the Writer's codec, and does
// not store where the Record came from. A Record without a payload is refused with ErrInvalidEvent.
type Record struct {
	// ID, Type, AggregateID, Sequence, Time and Headers are those of the [Event].
	ID          string
	Type        string
	AggregateID string
	Sequence    int64
	Time        time.Time
	Headers     map[string]string

	// ContentType says how Payload is encoded. Empty means application/json.
	ContentType string
	// Payload is the encoded data. It is nil only if the table has no payload attribute.
	Payload []byte

	// Table is the table that the event was inserted into. It is empty if the change record does not name the table.
	Table string
	// ChangedAt is when DynamoDB made the change, as precisely as the change record says. It is zero if the record does not say.
	ChangedAt time.Time

	// StreamARN, ShardID and SequenceNumber say where the record was delivered from. Invoke and Worker fill in what they know; a
	// Worker's StreamARN is the stream as NewWorker was told it. They are empty after DecodeRecord, and in the hooks of a Writer,
	// whose events are not delivered yet.
	StreamARN      string
	ShardID        string
	SequenceNumber string
	// Fence is set by a Worker and is 0 otherwise. It is higher than the fence of every earlier owner of the shard. A resource
	// that remembers the highest fence it has seen can refuse a worker that has lost its lease without knowing it.
	Fence int64
}

// DecodeError says why a change record or an event row could not be read: it is cut off, a value has the wrong type, and so on.
// It never quotes the content.
type DecodeError struct {
	// Where is the member or attribute at fault. It is empty if the text as a whole is at fault.
	Where string
	// Reason says what was wanted and what is there.
	Reason string

	row bool // the text is an event row, not a change record
}

// Error names the place and the reason.
func (e *DecodeError) Error() string {
	what := "outbox: malformed change record: "
	if e.row {
		what = "outbox: malformed event row: "
	}
	if e.Where == "" {
		return what + e.Reason
	}
	return what + e.Where + ": " + e.Reason
}

// notEventError gives the reason of a skip a text and matches ErrNotEvent. As a small number it becomes an error without an
// allocation. 0 means that there is no reason to skip.
type notEventError changerec.NotEvent

func (e notEventError) Error() string {
	return "outbox: not an event: " + changerec.NotEvent(e).Error()
}
func (e notEventError) Is(target error) bool { return target == ErrNotEvent }

// defaultLayout is how rows look unless WithAttributes says otherwise. It is never changed.
var defaultLayout = DefaultAttributes().layout()

// DecodeRecord reads one change record in JSON: the Data of a Kinesis record from DynamoDB's streaming destination, or a DynamoDB
// Streams record as Lambda hands it over. Members may come in any order, and unknown members are ignored. WithAttributes names
// the attributes of an existing table.
//
// An INSERT whose item has an id and a type is an event. For any other change, for JSON that is no change record, and for data that the Kinesis
// Producer Library has packed, the error matches ErrNotEvent; DecodeRecord stops reading as soon as it knows that a record is no event. For a
// record that cannot be read, the error is a *DecodeError. DecodeRecord is safe for concurrent use.
//
// JSON may nest 128 levels deep; DynamoDB nests 32 levels. A sequence or a time may take 256 bytes of JSON; DynamoDB's numbers
// have 38 digits.
func DecodeRecord(data []byte, opts ...Option) (r Record, err error) {
	layout := defaultLayout
	if len(opts) > 0 {
		if layout, err = layoutOf(opts); err != nil {
			return Record{}, fmt.Errorf("outbox: DecodeRecord: %w", err)
		}
	}
	switch reason, malformed := decodeRecord(&r, data, layout, nil, nil); {
	case malformed != nil:
		return Record{}, malformed
	case reason != 0:
		return Record{}, reason
	}
	return r, nil
}

// layoutOf is separate from DecodeRecord because its config escapes to the heap.
func layoutOf(opts []Option) (*changerec.Layout, error) {
	cfg := recordConfig{layout: defaultLayout}
	for i, opt := range opts {
		if opt == nil {
			return nil, fmt.Errorf("option %d is nil", i)
		}
		if err := opt.applyRecord(&cfg); err != nil {
			return nil, err
		}
	}
	return cfg.layout, nil
}

// decodeRecord fills in what a change record says. Where r was delivered from stays as it is. All else is cleared if the change record is
// malformed, and stays as well if it is not an event.
func decodeRecord(r *Record, data []byte, layout *changerec.Layout, tables []string, s *slab.Slab) (notEventError, *DecodeError) {
	reason, malformed := changerec.Decode((*event.Event)(r), data, layout, tables, s)
	if malformed != nil {
		return 0, &DecodeError{Where: malformed.Where, Reason: malformed.Reason}
	}
	return notEventError(reason), nil
}
