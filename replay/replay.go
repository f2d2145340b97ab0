// Package replay handles events again that are still in the events table: after an outage that outlasted the stream's retention,
// for a new consumer, or after a handler was wrong. It reads the table, not the stream, so it works for as long as the rows are
// kept.
//
// [Events.To] hands events straight to a Consumer of this process. [Events.Again] writes them once more, as new events with new
// ids, which pass through the stream to every consumer. [Events.Records] only reads. [Events.Reconcile] finds what a Consumer
// has neither handled nor given up, and hands it over.
//
// It knows event rows and indexes of their table. It must not know streams, shards or leases.
//
// # Order
//
// Events come in the order of their time, then of their id. Events of one aggregate that have a Sequence come in the order of
// their Sequence. The time is what the writers stored, in milliseconds; the clocks of several machines differ.
//
// # Cost
//
// A query by id fetches one row. Without an index every other query scans the whole table: one read unit for each 4 KB of the
// table, whatever is found, and a second for each few megabytes. [Events.CreateIndex] makes an index. Fetching costs one read
// unit for each started 4 KB of a row that was found. These reads are strongly consistent, except those of an index. What
// Reconcile reads and costs, its comment says.
package replay

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/batchget"
	"github.com/seed-1b628d3f/outbox/internal/names"
)

// ErrNotFound says that the table has no event with the id of the query.
var ErrNotFound = errors.New("no such event")

// ErrTooMany says that more events match a query than WithMaxEvents allows. Nothing was handled: narrow the query.
var ErrTooMany = errors.New("too many events: narrow the query, or raise the limit")

// Client is what Events needs of the SDK. *dynamodb.Client implements it. Only CreateIndex uses UpdateTable.
type Client interface {
	DescribeTable(context.Context, *dynamodb.DescribeTableInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTableOutput, error)
	Scan(context.Context, *dynamodb.ScanInput, ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error)
	Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error)
	BatchGetItem(context.Context, *dynamodb.BatchGetItemInput, ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error)
	UpdateTable(context.Context, *dynamodb.UpdateTableInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateTableOutput, error)
}

// Events are the events of a table. They are safe for concurrent use.
type Events struct {
	client Client
	table  string
	rows   outbox.Attributes // all defaults are filled in
	names  outbox.Attributes // those of them that a search may ask for
	// expires is the attribute of a row's time to live. Only Reconcile asks for it.
	expires string
	layout  outbox.Option
	keys    outbox.Option // the layout of the attributes that a search returns
	max     int
}

// Option configures New.
type Option interface{ apply(*Events) error }

type option func(*Events) error

func (f option) apply(e *Events) error { return f(e) }

// WithAttributes names the attributes of event rows in an existing table, like the Writer's option of the same name.
func WithAttributes(a outbox.Attributes) Option {
	return option(func(e *Events) error {
		e.names = a
		return nil
	})
}

// defaultMax bounds the memory of a query: some 20 MB for keys.
const defaultMax = 100_000

// WithMaxEvents sets how many events a query may find. If it finds more, the error is ErrTooMany, before anything is handled. The
// limit bounds memory, at some 200 bytes an event. Default 100,000; 1 to 100,000,000.
func WithMaxEvents(n int) Option {
	return option(func(e *Events) error {
		if n < 1 || n > 100_000_000 {
			return fmt.Errorf("WithMaxEvents: want 1 to 100,000,000, have %d", n)
		}
		e.max = n
		return nil
	})
}

// New returns the events of a table, by name or ARN. It makes no call. The error names everything that is wrong with the
// arguments.
func New(client Client, table string, opts ...Option) (*Events, error) {
	e := &Events{client: client, table: table, max: defaultMax}
	var errs []error
	if v := reflect.ValueOf(client); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		errs = append(errs, errors.New("the DynamoDB client is nil"))
	}
	if err := names.Table(table); err != nil {
		errs = append(errs, fmt.Errorf("the events table: %w", err))
	}
	for i, opt := range opts {
		if opt == nil {
			errs = append(errs, fmt.Errorf("option %d is nil", i))
			continue
		}
		errs = append(errs, opt.apply(e))
	}
	e.layout = outbox.WithAttributes(e.names)
	if _, err := outbox.DecodeItem(nil, e.layout); !errors.Is(err, outbox.ErrNotEvent) {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("replay: New: %w", err)
	}
	complete(&e.names)
	e.rows, e.expires = e.names, e.names.ExpiresAt
	// A query's search asks for none of these attributes, whatever the rows have in them.
	e.names.Payload, e.names.ContentType, e.names.Headers, e.names.ExpiresAt = outbox.NoAttribute, outbox.NoAttribute, outbox.NoAttribute, outbox.NoAttribute
	e.keys = outbox.WithAttributes(e.names)
	return e, nil
}

// Query selects events. Set either ID alone, or at least one of the other fields; an event must match all fields that are set. An
// empty query is an error, because it would select all events.
type Query struct {
	// ID is the id of one event. If the table has no such event, the error is ErrNotFound.
	ID string
	// AggregateID selects the events of one aggregate.
	AggregateID string
	// Type selects the events of one type.
	Type string
	// From and To select the events whose time is at or after From and before To. A zero From or To is no bound.
	From, To time.Time
}

// made reports whether New has made the Events.
func (e *Events) made() error {
	if e.client == nil {
		return errors.New("Events are made by replay.New")
	}
	return nil
}

func (e *Events) check(q Query) error {
	if err := e.made(); err != nil {
		return err
	}
	ranged := !q.From.IsZero() || !q.To.IsZero()
	var errs []error
	switch {
	case q == Query{}:
		errs = append(errs, errors.New("it is empty: set ID, or any of AggregateID, Type, From and To"))
	case q.ID != "" && (q.AggregateID != "" || q.Type != "" || ranged):
		errs = append(errs, errors.New("an ID stands alone, without AggregateID, Type, From and To"))
	case !q.From.IsZero() && !q.To.IsZero() && !q.From.Before(q.To):
		errs = append(errs, fmt.Errorf("its From (%s) must be before To (%s)", q.From.Format(time.RFC3339Nano), q.To.Format(time.RFC3339Nano)))
	}
	if q.AggregateID != "" && e.names.AggregateID == outbox.NoAttribute {
		errs = append(errs, errors.New("the table has no attribute for AggregateID (WithAttributes)"))
	}
	if ranged && e.names.Time == outbox.NoAttribute {
		errs = append(errs, errors.New("the table has no attribute for From and To (WithAttributes)"))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("the query: %w", err)
	}
	return nil
}

// Records returns the events that match the query, in order (see the package comment). The search runs when the iteration begins:
// it collects and sorts all keys. Then the iteration fetches the rows, 100 at a time. Rows that are written or deleted meanwhile
// may or may not be among them.
//
// A copy that Again wrote is left out if its original is found too, and so are all copies of one event but the first: the event
// would be handled twice. If the original is deleted after it was found, a copy takes its place.
//
// A row that cannot be read comes as a Record with only its ID, and an error that matches *outbox.DecodeError; the caller may go
// on. Any other error ends the iteration, with an empty Record. Items without an id and a type are no events and are skipped.
func (e *Events) Records(ctx context.Context, q Query) iter.Seq2[outbox.Record, error] {
	return func(yield func(outbox.Record, error) bool) {
		found, err := e.find(ctx, q, nil)
		if err != nil {
			yield(outbox.Record{}, fmt.Errorf("replay: %w", err))
			return
		}
		passed := copies{}
		for some := range slices.Chunk(found, batchget.Most) {
			rows, err := e.fetch(ctx, some)
			if err != nil {
				yield(outbox.Record{}, fmt.Errorf("replay: %w", err))
				return
			}
			for _, r := range rows {
				if r.gone && q.ID != "" {
					yield(outbox.Record{}, fmt.Errorf("replay: %w", e.notFound(q.ID)))
					return
				}
				if r.gone || r.err == nil && passed.leaveOut(r.record.ID) {
					continue
				}
				if !yield(r.record, r.err) {
					return
				}
			}
		}
	}
}

func (e *Events) notFound(id string) error {
	return fmt.Errorf("table %s, id %q: %w", e.table, id, ErrNotFound)
}

// tableName is the table as change records name it.
func (e *Events) tableName() string {
	if _, name, isARN := strings.Cut(e.table, ":table/"); isARN {
		return name
	}
	return e.table
}
