package outbox

import (
	"errors"
	"fmt"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/changerec"
	"github.com/seed-1b628d3f/outbox/internal/event"
	"github.com/seed-1b628d3f/outbox/internal/slab"
)

// ErrNotEvent says that a change record is well formed but announces no event: it is a REMOVE or a MODIFY, it is of another
// table, or its item has not the attributes of an event. A Consumer skips such records and tells its hooks.
var ErrNotEvent = errors.New("not an event")

// Record is an event with its payload encoded, and where it came from: as a handler's middleware and the hooks see it. A
// Record shares no memory with the bytes that it was decoded from, but it may share some with records that arrived together
// with it: to keep a little of one for long, copy that. Its Payload and Headers must not be changed.
//
// A Record can be written, too: a Writer takes it as an event, with the payload and the content type as they are, whatever its
// codec. Where it came from is not written. A Record without a payload is ErrInvalidEvent.
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
	// Payload is the encoded data. It is nil only where the table has no payload attribute.
	Payload []byte

	// Table is the table that the event was inserted into; empty if the change record does not say.
	Table string
	// ChangedAt is when DynamoDB made the change, to the precision of the change record; zero if it does not say.
	ChangedAt time.Time

	// StreamARN, ShardID and SequenceNumber say where the record was delivered from, as far as the deliverer knows.
	// DecodeRecord leaves them empty, Invoke and Worker fill them in. The hooks of a Writer get events that are not delivered yet.
	StreamARN      string
	ShardID        string
	SequenceNumber string
	// Fence is higher than it was for every earlier owner of the shard, if a Worker delivered the record; otherwise 0. A
	// resource that remembers the highest fence it has seen can refuse a worker that lost its lease and does not know it yet.
	Fence int64
}

// DecodeError says why a change record or an event row could not be read: it is cut off, has a value of the wrong type, and so
// on. It never quotes the content.
type DecodeError struct {
	// Where is the member or attribute at fault; empty if the text as a whole is.
	Where string
	// Reason says what was wanted and what is there.
	Reason string

	row bool // it is about an event row
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

// notEventError makes the reason of a skip readable and still matches ErrNotEvent. It is a small number, which makes an error
// without an allocation; 0 is none.
type notEventError changerec.NotEvent

func (e notEventError) Error() string {
	return "outbox: not an event: " + changerec.NotEvent(e).Error()
}
func (e notEventError) Is(target error) bool { return target == ErrNotEvent }

// defaultLayout is what rows look like unless WithAttributes says otherwise. It is never changed.
var defaultLayout = DefaultAttributes().layout()

// DecodeRecord reads one change record in JSON: what DynamoDB's Kinesis streaming destination puts into the Data of a
// Kinesis record, or a DynamoDB Streams record as Lambda hands it over. Members may come in any order, and unknown ones are
// ignored. Attributes of an existing table are named with WithAttributes.
//
// An event is an INSERT whose item has an id and a type. The error matches ErrNotEvent for any other change and for JSON
// that is no change record, and is a *DecodeError for a record that cannot be read. Once a record is known not to be an
// event, the rest of it is not looked at. Nesting is limited to 128 levels of JSON; DynamoDB itself nests 32 levels. A
// sequence or a time may take 256 bytes of JSON; DynamoDB's numbers have 38 digits.
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

// layoutOf is apart from DecodeRecord because its config escapes to the heap.
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
