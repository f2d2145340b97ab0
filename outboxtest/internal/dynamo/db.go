// Package dynamo is DynamoDB in memory: tables, items, indexes, conditions, transactions, and the
// change notifications from which streams are made.
//
// It knows nothing about HTTP, Kinesis or DynamoDB Streams: it announces changes, says which
// destinations were active when they happened, and leaves the rest to whoever listens.
package dynamo

import (
	"context"
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
	return &DB{cfg: cfg}
}

// Do performs one operation of the DynamoDB API on the request's JSON body. The result encodes as
// the response's JSON; a failure is a *wire.Error.
func (db *DB) Do(ctx context.Context, operation string, body []byte) (any, error) {
	return nil, wire.UnknownOperation()
}

// ExpireTTL deletes the items whose time to live has passed, as the service does in the background.
// Each deletion is a Remove with ByTTL.
func (db *DB) ExpireTTL() {}
