package deadletter

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox/internal/backoff"
	"github.com/seed-1b628d3f/outbox/internal/event"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// Client is what a Store needs. *dynamodb.Client satisfies it.
type Client interface {
	Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error)
	GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error)
	BatchGetItem(context.Context, *dynamodb.BatchGetItemInput, ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error)
	PutItem(context.Context, *dynamodb.PutItemInput, ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error)
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
	DeleteItem(context.Context, *dynamodb.DeleteItemInput, ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error)
	TransactWriteItems(context.Context, *dynamodb.TransactWriteItemsInput, ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error)
}

// ErrMissing says that there is no such dead letter.
var ErrMissing = errors.New("no such dead letter")

const (
	attemptsTTL = 14 * 24 * time.Hour
	requestTTL  = 7 * 24 * time.Hour
)

// Store is the part of a table that belongs to one consumer. It is safe for concurrent use.
type Store struct {
	client   Client
	table    string
	consumer string

	mu   sync.Mutex
	last int64 // the last place given to a letter without one in a stream
}

// New returns the Store of a consumer, whose name must not be empty, nor contain '#'.
func New(client Client, table, consumer string) (*Store, error) {
	var errs []error
	if table == "" {
		errs = append(errs, errors.New("the table's name is empty"))
	}
	if consumer == "" || len(consumer) > 255 || strings.Contains(consumer, "#") {
		errs = append(errs, fmt.Errorf("a consumer's name has 1 to 255 bytes and no '#': %q", consumer[:min(len(consumer), 300)]))
	}
	return &Store{client: client, table: table, consumer: consumer}, errors.Join(errs...)
}

func (s *Store) letters() string  { return s.consumer }
func (s *Store) lanes() string    { return s.consumer + "#lane" }
func (s *Store) parts() string    { return s.consumer + "#part" }
func (s *Store) attempts() string { return s.consumer + "#attempt" }
func (s *Store) requests() string { return s.consumer + "#request" }

func key(group, id string) rows.Item { return rows.Item{"group": rows.S(group), "id": rows.S(id)} }

func (s *Store) failed(what string, err error) error {
	return fmt.Errorf("dead letter table %s, consumer %s: %s: %w", s.table, s.consumer, what, err)
}

// Stored is what became of a letter that was to be stored.
type Stored int

// What may become of it.
const (
	Refused Stored = iota // it was to stand behind others, and there are none
	Before                // the event is a letter already, and is left as it is
	Added                 // it is a letter from now on
)

// Put stores a letter, unless the event is one already. Its lane is parked from then on.
func (s *Store) Put(ctx context.Context, l *Letter) (Stored, error) { return s.put(ctx, l, false) }

// PutBehind stores a letter behind others of its aggregate. If the aggregate is not parked any more, nothing is stored.
func (s *Store) PutBehind(ctx context.Context, l *Letter) (Stored, error) { return s.put(ctx, l, true) }

func (s *Store) put(ctx context.Context, l *Letter, behind bool) (Stored, error) {
	l.ID, l.Error = l.id(), cut(l.Error)
	l.order, l.token = s.orderOf(l), rand.Text()
	l.Event.Fence = 0 // of the worker that stores the letter; another one may handle it
	row, parts, err := l.row(s.letters())
	if err != nil {
		return Refused, s.failed("store "+l.ID, err)
	}
	ask := len(parts) > 0 // they must not replace those of a letter that is there
	for {
		if ask {
			before := *l
			if there, err := s.there(ctx, l); there != Refused || err != nil {
				return there, err
			}
			row["id"] = rows.S(l.ID)
			if l.ID != before.ID { // what may be there of an earlier round is nobody's
				for i := range parts {
					_, _ = s.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: &s.table, Key: key(s.parts(), before.partID(i))})
				}
			}
		}
		for i, data := range parts {
			_, err := s.client.PutItem(ctx, &dynamodb.PutItemInput{TableName: &s.table,
				Item: rows.Item{"group": rows.S(s.parts()), "id": rows.S(l.partID(i)), "data": rows.B(data)}})
			if err != nil {
				return Refused, s.failed("store a part of "+l.ID, err)
			}
		}
		stored, err := s.insert(ctx, l, row, behind)
		if err != nil || stored != Before {
			return stored, err
		}
		ask = true // there is one with its key, unless it is removed meanwhile
	}
}

// there reports whether the letter's event is one already: Before, or Added if that is this very letter, whose answer was lost. If another
// event with its id is, the letter gets another key.
func (s *Store) there(ctx context.Context, l *Letter) (Stored, error) {
	out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{TableName: &s.table, Key: key(s.letters(), l.ID), ConsistentRead: aws.Bool(true)})
	if err != nil {
		return Refused, s.failed("read "+l.ID, err)
	}
	if out.Item == nil {
		return Refused, nil
	}
	have := read(out.Item)
	a, b := &have.Event, &l.Event
	other := l.id() + "~" + hash(l.Event.Type + "\x00" + l.Event.Table)[:16]
	same := a.Type == b.Type && (a.Table == b.Table || a.Table == "" || b.Table == "") // some deliveries do not name the table
	switch {
	case have.token == l.token:
		return Added, nil
	case same || l.ID == other:
		return Before, nil
	}
	l.ID = other
	return s.there(ctx, l)
}

// insert stores a letter's row. Before means that a letter with its key is there.
func (s *Store) insert(ctx context.Context, l *Letter, row rows.Item, behind bool) (Stored, error) {
	const free = "attribute_not_exists(#id)"
	lane := LaneOf(l.ID)
	if lane == "" {
		_, err := s.client.PutItem(ctx, &dynamodb.PutItemInput{TableName: &s.table, Item: row,
			ConditionExpression: aws.String(free), ExpressionAttributeNames: rows.Names(free)})
		if conditionFailed(err) {
			return Before, nil
		}
		if err != nil {
			return Refused, s.failed("store "+l.ID, err)
		}
		return Added, nil
	}
	const count = "SET #aggregateId = :aggregate ADD #letters :one"
	update := &types.Update{TableName: &s.table, Key: key(s.lanes(), lane), UpdateExpression: aws.String(count),
		ExpressionAttributeNames:  rows.Names(count),
		ExpressionAttributeValues: rows.Item{":one": rows.N(1), ":aggregate": rows.S(l.Event.AggregateID)}}
	if behind {
		const parked = "attribute_exists(#id)"
		update.ConditionExpression, update.ExpressionAttributeNames = aws.String(parked), rows.Names(count, parked)
	}
	at, err := s.transact(ctx, types.TransactWriteItem{Put: &types.Put{TableName: &s.table, Item: row,
		ConditionExpression: aws.String(free), ExpressionAttributeNames: rows.Names(free)}}, types.TransactWriteItem{Update: update})
	switch {
	case err != nil:
		return Refused, s.failed("store "+l.ID, err)
	case at == 0:
		return Before, nil
	case at == 1:
		return Refused, nil
	}
	return Added, nil
}

func conditionFailed(err error) bool {
	failed := (*types.ConditionalCheckFailedException)(nil)
	return errors.As(err, &failed)
}

// A write that meets a transaction at the same row is refused, and the SDK does not repeat it. Each event that is parked behind others is a
// transaction at the row of its lane.
const conflicts = 10

var conflictDelay = backoff.FullJitter{Base: 20 * time.Millisecond, Max: 500 * time.Millisecond}

// repeat makes a write again that met a transaction.
func repeat(ctx context.Context, write func() error) error {
	for n := 1; ; n++ {
		err := write()
		if conflict := (*types.TransactionConflictException)(nil); !errors.As(err, &conflict) || n == conflicts {
			return err
		}
		if wait := backoff.Wait(ctx, conflictDelay.Delay(n)); wait != nil {
			return errors.Join(err, wait)
		}
	}
}

// transact returns the first operation whose condition failed, or -1. Conflicts with other transactions are repeated.
func (s *Store) transact(ctx context.Context, items ...types.TransactWriteItem) (int, error) {
	for n := 1; ; n++ {
		_, err := s.client.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: items})
		canceled := (*types.TransactionCanceledException)(nil)
		if err == nil || !errors.As(err, &canceled) {
			return -1, err
		}
		for i, reason := range canceled.CancellationReasons {
			if aws.ToString(reason.Code) == "ConditionalCheckFailed" {
				return i, nil
			}
		}
		if n == conflicts || !slices.ContainsFunc(canceled.CancellationReasons, func(r types.CancellationReason) bool {
			return aws.ToString(r.Code) == "TransactionConflict"
		}) {
			return -1, err
		}
		if wait := backoff.Wait(ctx, conflictDelay.Delay(n)); wait != nil {
			return -1, errors.Join(err, wait)
		}
	}
}

// attemptsAt returns the key under which attempts at an event are counted: those at what a stream delivers are no attempts at a replay.
func (s *Store) attemptsAt(e *event.Event) rows.Item {
	id := keyPart(e.ID)
	if e.SequenceNumber != "" {
		id += "#" + keyPart(e.ShardID+":"+e.SequenceNumber)
	}
	return key(s.attempts(), id)
}

// Attempt counts a failed attempt at an event, in the place it was delivered from, and returns how many there have been. A request that the
// SDK repeats because its answer was lost counts once.
func (s *Store) Attempt(ctx context.Context, e *event.Event) (int, error) {
	const expression, once = "SET #expiresAt = :expires, #last = :token ADD #n :one", "attribute_not_exists(#last) OR #last <> :token"
	out, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: &s.table, Key: s.attemptsAt(e), UpdateExpression: aws.String(expression), ConditionExpression: aws.String(once),
		ExpressionAttributeNames: rows.Names(expression, once),
		ExpressionAttributeValues: rows.Item{":one": rows.N(1), ":expires": rows.N(time.Now().Add(attemptsTTL).Unix()),
			":token": rows.S(rand.Text())},
		ReturnValues:                        types.ReturnValueUpdatedNew,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	if failed := (*types.ConditionalCheckFailedException)(nil); errors.As(err, &failed) {
		return int(rows.Int(failed.Item, "n")), nil
	}
	if err != nil {
		return 0, s.failed("count an attempt", err)
	}
	return int(rows.Int(out.Attributes, "n")), nil
}

// Attempts returns how many failed attempts at an event have been counted.
func (s *Store) Attempts(ctx context.Context, e *event.Event) (int, error) {
	out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{TableName: &s.table, Key: s.attemptsAt(e), ConsistentRead: aws.Bool(true)})
	if err != nil {
		return 0, s.failed("read the attempts", err)
	}
	return int(rows.Int(out.Item, "n")), nil
}

// ForgetAttempts removes what Attempt has counted.
func (s *Store) ForgetAttempts(ctx context.Context, e *event.Event) error {
	_, err := s.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: &s.table, Key: s.attemptsAt(e)})
	if err != nil {
		return s.failed("forget attempts", err)
	}
	return nil
}

// query runs through the rows of a group whose ids begin with prefix: the named attributes of them, or all without a name.
func (s *Store) query(ctx context.Context, group, prefix string, limit int32, attributes ...string) iter.Seq2[rows.Item, error] {
	condition := "#group = :group"
	values := rows.Item{":group": rows.S(group)}
	if prefix != "" {
		condition += " AND begins_with(#id, :prefix)"
		values[":prefix"] = rows.S(prefix)
	}
	return func(yield func(rows.Item, error) bool) {
		in := &dynamodb.QueryInput{TableName: &s.table, ConsistentRead: aws.Bool(true), KeyConditionExpression: &condition,
			ExpressionAttributeNames: rows.Names(condition), ExpressionAttributeValues: values}
		if len(attributes) > 0 {
			projection := "#" + strings.Join(attributes, ", #")
			in.ProjectionExpression, in.ExpressionAttributeNames = &projection, rows.Names(condition, projection)
		}
		if limit > 0 {
			in.Limit = &limit
		}
		for {
			out, err := s.client.Query(ctx, in)
			if err != nil {
				yield(nil, s.failed("read "+group, err))
				return
			}
			for _, row := range out.Items {
				if !yield(row, nil) {
					return
				}
			}
			if in.ExclusiveStartKey = out.LastEvaluatedKey; len(in.ExclusiveStartKey) == 0 {
				return
			}
		}
	}
}

// IDs returns the ids of a lane's letters, in their order.
func (s *Store) IDs(ctx context.Context, lane string) ([]string, error) {
	var all []rows.Item // not the payloads, which may not fit into memory
	for row, err := range s.query(ctx, s.letters(), lane+"#", 0, "id", "order", "storedAt", "sequenceNumber") {
		if err != nil {
			return nil, err
		}
		all = append(all, row)
	}
	ids := make([]string, 0, len(all))
	for _, row := range inOrder(all) {
		ids = append(ids, rows.Text(row, "id"))
	}
	return ids, nil
}

// Letters runs through the letters of a lane in their order, or, for no lane, through all in the order of their ids. It holds a page of
// them in memory.
func (s *Store) Letters(ctx context.Context, lane string) iter.Seq2[Letter, error] {
	return func(yield func(Letter, error) bool) {
		if lane == "" {
			for row, err := range s.query(ctx, s.letters(), "", 0) {
				if !s.yield(ctx, row, err, yield) {
					return
				}
			}
			return
		}
		ids, err := s.IDs(ctx, lane)
		if err != nil {
			yield(Letter{}, err)
			return
		}
		for page := range slices.Chunk(ids, lettersAtOnce) {
			found, err := s.batch(ctx, s.letters(), page)
			if err != nil {
				yield(Letter{}, err)
				return
			}
			for _, id := range page {
				if row, there := found[id]; there && !s.yield(ctx, row, nil, yield) {
					return
				}
			}
		}
	}
}

// lettersAtOnce is how many letters of a lane are read at once: 350 KB each, at most.
const lettersAtOnce = 25

func (s *Store) yield(ctx context.Context, row rows.Item, err error, yield func(Letter, error) bool) bool {
	if err != nil {
		return yield(Letter{}, err)
	}
	l, err := s.complete(ctx, row)
	if errors.Is(err, ErrMissing) { // removed meanwhile
		return true
	}
	return yield(l, err)
}

// complete reads a row with its parts.
func (s *Store) complete(ctx context.Context, row rows.Item) (Letter, error) {
	l := read(row)
	if l.parts == 0 {
		return l, nil
	}
	parts := make([][]byte, 0, l.parts)
	for i := range l.parts {
		out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{TableName: &s.table, Key: key(s.parts(), l.partID(i)), ConsistentRead: aws.Bool(true)})
		switch {
		case err != nil:
			return l, s.failed("read a part of "+l.ID, err)
		case out.Item == nil: // removed meanwhile, unless the row is still there
			_, err := s.row(ctx, l.ID)
			l.Incomplete = true
			return l, err
		}
		parts = append(parts, rows.Bytes(out.Item, "data"))
	}
	if err := l.join(parts); err != nil {
		return l, s.failed("read "+l.ID, err)
	}
	return l, nil
}

// Get returns a letter, or ErrMissing.
func (s *Store) Get(ctx context.Context, id string) (Letter, error) {
	row, err := s.row(ctx, id)
	if err != nil {
		return Letter{}, err
	}
	return s.complete(ctx, row)
}

// Peek returns a letter without what is in its parts, or ErrMissing.
func (s *Store) Peek(ctx context.Context, id string) (Letter, error) {
	row, err := s.row(ctx, id)
	if err != nil {
		return Letter{}, err
	}
	return read(row), nil
}

func (s *Store) row(ctx context.Context, id string) (rows.Item, error) {
	out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{TableName: &s.table, Key: key(s.letters(), id), ConsistentRead: aws.Bool(true)})
	switch {
	case err != nil:
		return nil, s.failed("read "+id, err)
	case out.Item == nil:
		return nil, s.failed("read "+id, ErrMissing)
	}
	return out.Item, nil
}

// Remove removes a letter that is there, and says whether it was. The lane stays until it is closed.
func (s *Store) Remove(ctx context.Context, l *Letter) (bool, error) {
	const there = "attribute_exists(#id)"
	items := []types.TransactWriteItem{{Delete: &types.Delete{TableName: &s.table, Key: key(s.letters(), l.ID),
		ConditionExpression: aws.String(there), ExpressionAttributeNames: rows.Names(there)}}}
	if lane := LaneOf(l.ID); lane != "" {
		const count = "ADD #letters :minus"
		items = append(items, types.TransactWriteItem{Update: &types.Update{TableName: &s.table, Key: key(s.lanes(), lane),
			UpdateExpression: aws.String(count), ExpressionAttributeNames: rows.Names(count), ExpressionAttributeValues: rows.Item{":minus": rows.N(-1)}}})
	}
	const together = 10 // a transaction takes 4 MB
	for i := range min(l.parts, together) {
		items = append(items, types.TransactWriteItem{Delete: &types.Delete{TableName: &s.table, Key: key(s.parts(), l.partID(i))}})
	}
	at, err := s.transact(ctx, items...)
	if err != nil {
		return false, s.failed("remove "+l.ID, err)
	}
	for i := together; i < l.parts && at < 0; i++ {
		_, _ = s.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: &s.table, Key: key(s.parts(), l.partID(i))}) // nobody looks for it any more
	}
	return at < 0, nil
}

// Tried keeps that a redrive of a letter failed.
func (s *Store) Tried(ctx context.Context, l *Letter, reason string) error {
	const there, expression = "attribute_exists(#id)", "SET #error = :error, #triedAt = :now ADD #attempts :one"
	err := repeat(ctx, func() error {
		_, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
			TableName: &s.table, Key: key(s.letters(), l.ID), ConditionExpression: aws.String(there), UpdateExpression: aws.String(expression),
			ExpressionAttributeNames:  rows.Names(there, expression),
			ExpressionAttributeValues: rows.Item{":error": rows.S(cut(reason)), ":now": rows.Millis(time.Now()), ":one": rows.N(1)},
		})
		return err
	})
	if err != nil && !conditionFailed(err) {
		return s.failed("update "+l.ID, err)
	}
	return nil
}
