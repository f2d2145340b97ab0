// Package replay handles events again that are still in the events table: after an outage that outlasted the stream's retention,
// for a consumer that is new, or for a handler that was wrong. It reads the table, not the stream, so it works for as long as the
// rows are kept.
//
// [Events.To] hands events straight to a Consumer of this process. [Events.Again] writes them once more, as new events with ids
// of their own, so that they pass through the stream to every consumer. [Events.Records] only reads.
//
// It knows event rows and indexes of their table. It must not know streams, shards or leases.
//
// # Order
//
// Events come in the order of their time, then of their id. Among the events of one aggregate that have a Sequence, it decides.
// The time is the one that the writers stored, in milliseconds: clocks of several machines differ.
//
// # Cost
//
// Without an index every query but one by id scans the whole table, which costs one read unit for each 4 KB of it, whatever is
// found, and takes a second for each few megabytes. [Events.CreateIndex] makes an index on request. What was found is then
// fetched at one read unit for each started 4 KB of a row. All reads but those of an index are strongly consistent.
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
)

// ErrNotFound says that the table has no event with the id of the query.
var ErrNotFound = errors.New("no such event")

// ErrTooMany says that more events match a query than WithMaxEvents allows. Nothing was handled: narrow the query.
var ErrTooMany = errors.New("too many events: narrow the query, or raise the limit")

// HeaderReplayOf is the header of an event that [Events.Again] wrote. Its value is the id of the original.
const HeaderReplayOf = "replayOf"

// Client is what Events needs of the SDK. *dynamodb.Client implements it. UpdateTable is only used by CreateIndex.
type Client interface {
	DescribeTable(context.Context, *dynamodb.DescribeTableInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTableOutput, error)
	Scan(context.Context, *dynamodb.ScanInput, ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error)
	Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error)
	BatchGetItem(context.Context, *dynamodb.BatchGetItemInput, ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error)
	UpdateTable(context.Context, *dynamodb.UpdateTableInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateTableOutput, error)
}

// Events are the events of a table. It is safe for concurrent use.
type Events struct {
	client Client
	table  string
	names  outbox.Attributes // without defaults left to fill in
	layout outbox.Option
	keys   outbox.Option // the layout of what a search returns of a row
	max    int
}

// Option configures New.
type Option interface{ apply(*Events) error }

type option func(*Events) error

func (f option) apply(e *Events) error { return f(e) }

// WithAttributes names the attributes of event rows in a table that existed before, as the Writer's option of the same name does.
func WithAttributes(a outbox.Attributes) Option {
	return option(func(e *Events) error {
		e.names = a
		return nil
	})
}

// defaultMax bounds the memory of a query: some 20 MB for keys.
const defaultMax = 100_000

// WithMaxEvents sets how many events a query may find. More is ErrTooMany, before anything is handled. It bounds memory, at some
// 200 bytes an event. Default 100,000; 1 to 100,000,000.
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
	if table == "" {
		errs = append(errs, errors.New("the name of the events table is empty"))
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
	for name, byDefault := range map[*string]string{&e.names.ID: "eventId", &e.names.Type: "type", &e.names.Time: "timestamp",
		&e.names.AggregateID: "aggregateId", &e.names.Sequence: "sequence"} {
		if *name == "" {
			*name = byDefault
		}
	}
	// Whatever a row has in these attributes, it is not asked for.
	e.names.Payload, e.names.ContentType, e.names.Headers, e.names.ExpiresAt = outbox.NoAttribute, outbox.NoAttribute, outbox.NoAttribute, outbox.NoAttribute
	e.keys = outbox.WithAttributes(e.names)
	return e, nil
}

// Query says which events. Either ID alone is set, or at least one of the others is; those that are set must all hold. A query
// of nothing is an error, since it would be all events.
type Query struct {
	// ID is the id of one event. If there is none, the error is ErrNotFound.
	ID string
	// AggregateID selects the events of one aggregate.
	AggregateID string
	// Type selects the events of one type.
	Type string
	// From and To select the events whose time is at or after From and before To. Either may be zero, which is no bound.
	From, To time.Time
}

// made reports whether New has made the Events.
func (e *Events) made() error {
	if e.client == nil {
		return errors.New("Events are made by replay.New")
	}
	return nil
}

// check says what is wrong with the query.
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

// Records returns the events that match the query, in order (see the package comment). They are searched for when the iteration
// begins: all keys are collected and sorted, and then the rows are fetched, 100 at a time, while it goes on. Rows that are written
// or deleted meanwhile may or may not be among them.
//
// Events that Again wrote are left out where the original is found, too, and of several copies all but the first, since they
// would be handled twice.
//
// A row that cannot be read comes as a Record with its ID only and a *outbox.DecodeError; the caller may go on. Any other error
// ends the iteration, with an empty Record. Items that have no id and type are no events and are passed over.
func (e *Events) Records(ctx context.Context, q Query) iter.Seq2[outbox.Record, error] {
	return func(yield func(outbox.Record, error) bool) {
		found, err := e.find(ctx, q, nil)
		if err != nil {
			yield(outbox.Record{}, fmt.Errorf("replay: %w", err))
			return
		}
		copies := newCopies(found)
		for some := range slices.Chunk(found, maxBatch) {
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
				if r.gone || r.err == nil && copies.leaveOut(&r.record) {
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

// copies knows which copies that Again wrote are superfluous.
type copies struct{ originals map[string]bool }

func newCopies(found []key) *copies {
	c := &copies{originals: make(map[string]bool, len(found))}
	for _, k := range found {
		c.originals[k.id] = true
	}
	return c
}

// leaveOut reports whether the event is the copy of one that is there.
func (c *copies) leaveOut(r *outbox.Record) bool {
	original := originalOf(r)
	if original == r.ID {
		return false
	}
	known := c.originals[original]
	c.originals[original] = true
	return known
}

// originalOf returns the id of the event that r is a copy of, or r's own.
func originalOf(r *outbox.Record) string {
	if original := r.Headers[HeaderReplayOf]; original != "" {
		return original
	}
	return r.ID
}
