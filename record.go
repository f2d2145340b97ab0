package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-1b628d3f/outbox/internal/changerec"
)

// ErrNotEvent says that a change record is well formed but announces no event: it is a REMOVE or a MODIFY, it is of another
// table, or its item has not the attributes of an event. A Consumer skips such records and tells its hooks.
var ErrNotEvent = errors.New("not an event")

// Record is an event with its payload encoded, and where it came from: as a handler's middleware and the hooks see it. A
// Record shares no memory with the bytes that it was decoded from. Its Payload and Headers must not be changed.
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
	// DecodeRecord leaves them empty, Invoke fills them in. The hooks of a Writer get events that are not delivered yet.
	StreamARN      string
	ShardID        string
	SequenceNumber string
}

// DecodeError says why a change record could not be read: it is cut off, has a value of the wrong type, and so on. It never
// quotes the record's content.
type DecodeError struct {
	// Where is the member or attribute at fault; empty if the text as a whole is.
	Where string
	// Reason says what was wanted and what is there.
	Reason string
}

// Error names the place and the reason.
func (e *DecodeError) Error() string {
	if e.Where == "" {
		return "outbox: malformed change record: " + e.Reason
	}
	return "outbox: malformed change record: " + e.Where + ": " + e.Reason
}

// notEventError makes the reason of a skip readable and still matches ErrNotEvent.
type notEventError struct{ reason changerec.NotEvent }

func (e notEventError) Error() string        { return "outbox: not an event: " + e.reason.Error() }
func (e notEventError) Is(target error) bool { return target == ErrNotEvent }

// DecodeRecord reads one change record in JSON: what DynamoDB's Kinesis streaming destination puts into the Data of a
// Kinesis record, or a DynamoDB Streams record as Lambda hands it over. Members may come in any order, and unknown ones are
// ignored. Attributes of an existing table are named with WithAttributes.
//
// An event is an INSERT whose item has an id and a type. The error matches ErrNotEvent for any other change and for JSON
// that is no change record, and is a *DecodeError for a record that cannot be read. Once a record is known not to be an
// event, the rest of it is not looked at. Nesting is limited to 128 levels of JSON; DynamoDB itself nests 32 levels.
func DecodeRecord(data []byte, opts ...RecordOption) (Record, error) {
	cfg := recordConfig{attributes: defaultAttributes}
	for i, opt := range opts {
		if opt == nil {
			return Record{}, fmt.Errorf("outbox: DecodeRecord: option %d is nil", i)
		}
		if err := opt.applyRecord(&cfg); err != nil {
			return Record{}, fmt.Errorf("outbox: DecodeRecord: %w", err)
		}
	}
	return decodeRecord(data, cfg.attributes.layout(), nil)
}

func decodeRecord(data []byte, layout *changerec.Layout, tables []string) (Record, error) {
	e, err := changerec.Decode(data, layout, tables)
	if err == nil {
		return Record{
			ID: e.ID, Type: e.Type, AggregateID: e.AggregateID, Sequence: e.Sequence, Time: e.Time, Headers: e.Headers,
			ContentType: e.ContentType, Payload: e.Payload, Table: e.Table, ChangedAt: e.ChangedAt,
		}, nil
	}
	if reason := changerec.NotEvent(""); errors.As(err, &reason) {
		return Record{}, notEventError{reason}
	}
	malformed := &DecodeError{Reason: err.Error()}
	if at := (*changerec.Error)(nil); errors.As(err, &at) {
		malformed.Where, malformed.Reason = at.Where, at.Reason
	}
	return Record{}, malformed
}

type recordKey struct{}

// RecordFromContext returns the record that is being handled. ok is false outside a handler.
func RecordFromContext(ctx context.Context) (r Record, ok bool) {
	r, ok = ctx.Value(recordKey{}).(Record)
	return r, ok
}
