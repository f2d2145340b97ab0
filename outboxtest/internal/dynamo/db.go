// Package dynamo is DynamoDB in memory: tables, items, indexes, conditions, transactions, and the
// change notifications from which streams are made.
//
// It knows nothing about HTTP, Kinesis or DynamoDB Streams: it announces changes, says which
// destinations were active when they happened, and leaves the rest to whoever listens.
package dynamo

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/attr"
	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// Config is what a DB needs from its surroundings. Every field has a usable zero value.
type Config struct {
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Region and Account appear in ARNs; empty means us-east-1 and 000000000000.
	Region, Account string
	// OnChange is told every committed change, in commit order, one call at a time, before the
	// operation that made the change returns. No-op writes are not changes. No lock that reads
	// need is held, so it may call reading operations; it must not write to the DB: it is meant to
	// put the change in a queue and return.
	OnChange func(Change)
	// StreamExists says whether a Kinesis stream can be made a destination; nil means any can.
	StreamExists func(streamARN string) bool
	// EnableDelay is how long a Kinesis destination stays ENABLING (and DISABLING) by the clock.
	// Changes made meanwhile are not replicated. Zero means it is ACTIVE at once.
	EnableDelay time.Duration
}

// Kinds of change.
const (
	Insert = "INSERT"
	Modify = "MODIFY"
	Remove = "REMOVE"
)

// Change is one committed change of one item. Its items are shared: nobody may change them.
type Change struct {
	// Table and TableARN say where it happened.
	Table, TableARN string
	// Kind is Insert, Modify or Remove.
	Kind string
	// Keys is the item's primary key; Old is nil for an Insert and New is nil for a Remove.
	Keys, Old, New attr.Item
	// At is the moment of commit.
	At time.Time
	// ByTTL is set on a Remove that the table's time to live caused.
	ByTTL bool
	// SizeBytes is the size of the keys and of the images.
	SizeBytes int
	// Destinations are the Kinesis destinations that were ACTIVE at that moment.
	Destinations []Destination
	// StreamView is the table's StreamViewType, "" if DynamoDB Streams is off; StreamARN is its stream.
	StreamView, StreamARN string
}

// Destination is a Kinesis stream that receives a table's changes.
type Destination struct {
	// StreamARN names the stream.
	StreamARN string
	// Precision of the change's time: MILLISECOND or MICROSECOND.
	Precision string
}

// DB is one account's DynamoDB in one Region. It is safe for concurrent use. Its zero value is
// not usable: see New.
type DB struct {
	cfg Config

	// mu guards everything below. A write holds it from its first look at an item to the last
	// change, so every reader sees a transaction whole or not at all.
	mu     sync.RWMutex
	tables map[string]*table
	tokens tokens
	// pending are changes that are committed and not announced yet.
	pending []Change
	// lastStream is the latest time that a stream's ARN names.
	lastStream time.Time

	// announcing is held while changes are announced, one batch at a time, in commit order.
	announcing sync.Mutex
}

// New makes an empty DB.
func New(cfg Config) *DB {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Region == "" {
		cfg.Region = "us-east-1"
	}
	if cfg.Account == "" {
		cfg.Account = "000000000000"
	}
	if cfg.OnChange == nil {
		cfg.OnChange = func(Change) {}
	}
	if cfg.StreamExists == nil {
		cfg.StreamExists = func(string) bool { return true }
	}
	return &DB{cfg: cfg, tables: make(map[string]*table), tokens: newTokens()}
}

// Do performs one operation of the DynamoDB API on the request's JSON body. The result encodes as
// the response's JSON; a failure is a *wire.Error.
func (db *DB) Do(ctx context.Context, operation string, body []byte) (any, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	result, err := db.do(operation, body)
	if !reads(operation) {
		db.announce()
	}
	if err != nil {
		return nil, plain(operation, err)
	}
	return result, nil
}

// reads reports whether an operation changes nothing. Such a one announces nothing either, so that
// OnChange, which runs while changes are announced, may call it.
func reads(operation string) bool {
	switch operation {
	case "DescribeTable", "ListTables", "GetItem", "BatchGetItem", "TransactGetItems", "Query", "Scan",
		"DescribeTimeToLive", "DescribeContinuousBackups", "DescribeKinesisStreamingDestination", "ListTagsOfResource", "DescribeLimits", "DescribeEndpoints":
		return true
	}
	return false
}

func (db *DB) do(operation string, body []byte) (any, error) {
	switch operation {
	case "PutItem":
		return run(body, db.putItem)
	case "UpdateItem":
		return run(body, db.updateItem)
	case "DeleteItem":
		return run(body, db.deleteItem)
	case "Scan":
		return run(body, db.scan)
	case "GetItem":
		return run(body, db.getItem)
	case "Query":
		return run(body, db.query)
	case "BatchGetItem":
		return run(body, db.batchGetItem)
	case "BatchWriteItem":
		return run(body, db.batchWriteItem)
	case "TransactGetItems":
		return run(body, db.transactGetItems)
	case "TransactWriteItems":
		return run(body, db.transactWriteItems)
	}
	return db.administer(operation, body)
}

// administer performs the operations that are about tables.
func (db *DB) administer(operation string, body []byte) (any, error) {
	switch operation {
	case "CreateTable":
		return run(body, db.createTable)
	case "DescribeTable":
		return run(body, db.describeTable)
	case "UpdateTable":
		return run(body, db.updateTable)
	case "DeleteTable":
		return run(body, db.deleteTable)
	case "ListTables":
		return run(body, db.listTables)
	case "UpdateTimeToLive":
		return run(body, db.updateTimeToLive)
	case "DescribeTimeToLive":
		return run(body, db.describeTimeToLive)
	case "UpdateContinuousBackups":
		return run(body, db.updateContinuousBackups)
	case "DescribeContinuousBackups":
		return run(body, db.describeContinuousBackups)
	case "TagResource":
		return run(body, db.tagResource)
	case "UntagResource":
		return run(body, db.untagResource)
	case "ListTagsOfResource":
		return run(body, db.listTagsOfResource)
	case "DescribeLimits":
		return run(body, db.describeLimits)
	case "DescribeEndpoints":
		return run(body, db.describeEndpoints)
	case "EnableKinesisStreamingDestination":
		return run(body, db.enableKinesis)
	case "DisableKinesisStreamingDestination":
		return run(body, db.disableKinesis)
	case "DescribeKinesisStreamingDestination":
		return run(body, db.describeKinesis)
	case "UpdateKinesisStreamingDestination":
		return run(body, db.updateKinesis)
	}
	return nil, wire.UnknownOperation(operation + " of DynamoDB")
}

func run[In, Out any](body []byte, f func(*In) (Out, error)) (any, error) {
	in, err := bind[In](body)
	if err != nil {
		return nil, err
	}
	return f(in)
}

// plain makes the error that the client sees. AWS validates with two generations of code, which word
// some faults differently: single writes and most reads have the newer one, scans, batches of writes
// and transactions the older. Single writes count the faults of the request besides.
func plain(operation string, err error) error {
	e := wire.AsError(err)
	switch operation {
	case "PutItem", "UpdateItem", "DeleteItem":
		if e.Counted {
			return wire.Validation(envelope + e.Message)
		}
	case "Scan", "BatchWriteItem", "TransactWriteItems", "TransactGetItems":
		if e.Older != "" {
			return &wire.Error{Code: e.Code, Message: e.Older}
		}
	}
	return e
}

// envelope stands before faults that are counted.
const envelope = "1 validation error detected: "

// announce tells OnChange what was committed. It returns once every change that was pending when
// it was called has been told, by this caller or another.
func (db *DB) announce() {
	db.announcing.Lock()
	defer db.announcing.Unlock()
	db.mu.Lock()
	changes := db.pending
	db.pending = nil
	db.mu.Unlock()
	for _, c := range changes {
		db.cfg.OnChange(c)
	}
}

// commit puts a new version of an item in place, nil to delete it, and notes the change. A write
// that leaves the item as it was is no change at all. The caller holds mu.
func (db *DB) commit(t *table, old *record, next attr.Item, byTTL bool) {
	if old == nil && next == nil || old != nil && next != nil && attr.EqualItems(old.item, next) {
		return
	}
	change := Change{Table: t.name, TableARN: t.arn, Kind: Modify, New: next, At: db.cfg.Now(), ByTTL: byTTL}
	var rec *record
	if next != nil {
		rec = &record{key: t.key.place(next), tie: t.key.tie(next), item: next, size: attr.ItemSize(next)}
		change.Keys = t.key.key(next)
	}
	if old == nil {
		change.Kind = Insert
	} else {
		change.Old, change.Keys = old.item, t.key.key(old.item)
		if next == nil {
			change.Kind = Remove
		}
	}
	t.store(old, rec)
	change.SizeBytes = attr.ItemSize(change.Keys) + attr.ItemSize(change.Old) + attr.ItemSize(change.New)
	for _, d := range t.destinations {
		if precision, ok := d.replicates(change.At); ok {
			change.Destinations = append(change.Destinations, Destination{StreamARN: d.arn, Precision: precision})
		}
	}
	if t.stream != nil {
		change.StreamView, change.StreamARN = t.stream.view, t.stream.arn
	}
	db.pending = append(db.pending, change)
}

// find is the table of that name or ARN. The caller holds mu.
func (db *DB) find(name string) (*table, bool) {
	if isARN(name) {
		prefix := db.arn("")
		if !strings.HasPrefix(name, prefix) {
			return nil, false
		}
		name = strings.TrimPrefix(name, prefix)
	}
	t, ok := db.tables[name]
	return t, ok
}

// forItems is the table for an operation on items.
func (db *DB) forItems(name string) (*table, error) {
	if t, ok := db.find(name); ok {
		return t, nil
	}
	return nil, wire.Errorf("ResourceNotFoundException", "Requested resource not found")
}

// forAdmin is the table for an operation on tables.
func (db *DB) forAdmin(name string) (*table, error) {
	if t, ok := db.find(name); ok {
		return t, nil
	}
	return nil, wire.Errorf("ResourceNotFoundException", "Requested resource not found: Table: %s not found", name)
}

// arn is the ARN of a table.
func (db *DB) arn(table string) string {
	return "arn:aws:dynamodb:" + db.cfg.Region + ":" + db.cfg.Account + ":table/" + table
}

func isARN(name string) bool { return strings.HasPrefix(name, "arn:") }
