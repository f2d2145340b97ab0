package deadletter

import (
	"context"
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

// Put stores a letter, unless the event is one already. Its lane is parked from then on.
func (s *Store) Put(ctx context.Context, l *Letter) error {
	_, err := s.put(ctx, l, false)
	return err
}

// PutBehind stores a letter behind others of its aggregate. If the aggregate is not parked any more, nothing is stored, and the
// result is false.
func (s *Store) PutBehind(ctx context.Context, l *Letter) (bool, error) { return s.put(ctx, l, true) }

func (s *Store) put(ctx context.Context, l *Letter, behind bool) (bool, error) {
	l.ID, l.Error = l.id(), cut(l.Error)
	l.order = s.orderOf(l)
	row, parts, err := l.row(s.letters())
	if err != nil {
		return false, s.failed("store "+l.ID, err)
	}
	if len(parts) > 0 { // they must not replace those of a letter that is there
		if there, err := s.there(ctx, l); there || err != nil {
			return there, err
		}
		row["id"] = rows.S(l.ID)
	}
	for i, data := range parts {
		_, err := s.client.PutItem(ctx, &dynamodb.PutItemInput{TableName: &s.table,
			Item: rows.Item{"group": rows.S(s.parts()), "id": rows.S(partID(l.ID, i)), "data": rows.B(data)}})
		if err != nil {
			return false, s.failed("store a part of "+l.ID, err)
		}
	}
	for {
		stored, isNew, err := s.insert(ctx, l, row, behind)
		if err != nil || isNew || !stored {
			return stored, err
		}
		id := l.ID
		if there, err := s.there(ctx, l); there || err != nil {
			return there, err
		}
		if l.ID == id {
			continue // it was removed meanwhile
		}
		row["id"] = rows.S(l.ID)
	}
}

// there reports whether the letter's event is one already. If another event with its id is, the letter gets another key.
func (s *Store) there(ctx context.Context, l *Letter) (bool, error) {
	out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{TableName: &s.table, Key: key(s.letters(), l.ID), ConsistentRead: aws.Bool(true)})
	if err != nil {
		return false, s.failed("read "+l.ID, err)
	}
	if out.Item == nil {
		return false, nil
	}
	have := read(out.Item)
	a, b := &have.Event, &l.Event
	if a.Type == b.Type && (a.Table == b.Table || a.Table == "" || b.Table == "") { // some deliveries do not name the table
		return true, nil
	}
	other := l.id() + "~" + hash(l.Event.Type + "\x00" + l.Event.Table)[:16]
	if l.ID == other {
		return true, nil
	}
	l.ID = other
	return s.there(ctx, l)
}

// insert stores a letter's row. stored is false if it was to stand behind others and there are none; isNew is false if a letter with
// its key is there.
func (s *Store) insert(ctx context.Context, l *Letter, row rows.Item, behind bool) (stored, isNew bool, err error) {
	const free = "attribute_not_exists(#id)"
	lane := LaneOf(l.ID)
	if lane == "" {
		_, err := s.client.PutItem(ctx, &dynamodb.PutItemInput{TableName: &s.table, Item: row,
			ConditionExpression: aws.String(free), ExpressionAttributeNames: rows.Names(free)})
		if conditionFailed(err) {
			return true, false, nil
		}
		if err != nil {
			return false, false, s.failed("store "+l.ID, err)
		}
		return true, true, nil
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
		return false, false, s.failed("store "+l.ID, err)
	case at == 1:
		return false, false, nil
	}
	return true, at < 0, nil
}

func partID(letter string, i int) string { return fmt.Sprintf("%s#%04d", letter, i) }

func conditionFailed(err error) bool {
	failed := (*types.ConditionalCheckFailedException)(nil)
	return errors.As(err, &failed)
}

// transact returns the first operation whose condition failed, or -1. Conflicts with other transactions are repeated.
func (s *Store) transact(ctx context.Context, items ...types.TransactWriteItem) (int, error) {
	retry := backoff.FullJitter{Base: 20 * time.Millisecond, Max: 500 * time.Millisecond}
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
		if n == 10 || !slices.ContainsFunc(canceled.CancellationReasons, func(r types.CancellationReason) bool {
			return aws.ToString(r.Code) == "TransactionConflict"
		}) {
			return -1, err
		}
		if wait := backoff.Wait(ctx, retry.Delay(n)); wait != nil {
			return -1, errors.Join(err, wait)
		}
	}
}

// Attempt counts a failed attempt at an event and returns how many there have been.
func (s *Store) Attempt(ctx context.Context, eventID string) (int, error) {
	const expression = "SET #expiresAt = :expires ADD #n :one"
	out, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: &s.table, Key: key(s.attempts(), keyPart(eventID)), UpdateExpression: aws.String(expression),
		ExpressionAttributeNames:  rows.Names(expression),
		ExpressionAttributeValues: rows.Item{":one": rows.N(1), ":expires": rows.N(time.Now().Add(attemptsTTL).Unix())},
		ReturnValues:              types.ReturnValueUpdatedNew,
	})
	if err != nil {
		return 0, s.failed("count an attempt", err)
	}
	return int(rows.Int(out.Attributes, "n")), nil
}

// ForgetAttempts removes the count of an event.
func (s *Store) ForgetAttempts(ctx context.Context, eventID string) error {
	_, err := s.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: &s.table, Key: key(s.attempts(), keyPart(eventID))})
	if err != nil {
		return s.failed("forget attempts", err)
	}
	return nil
}

// query runs through the rows of a group whose ids begin with prefix.
func (s *Store) query(ctx context.Context, group, prefix string, limit int32) iter.Seq2[rows.Item, error] {
	condition := "#group = :group"
	values := rows.Item{":group": rows.S(group)}
	if prefix != "" {
		condition += " AND begins_with(#id, :prefix)"
		values[":prefix"] = rows.S(prefix)
	}
	return func(yield func(rows.Item, error) bool) {
		in := &dynamodb.QueryInput{TableName: &s.table, ConsistentRead: aws.Bool(true), KeyConditionExpression: &condition,
			ExpressionAttributeNames: rows.Names(condition), ExpressionAttributeValues: values}
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

// Letters runs through the letters of a lane in their order, or, for no lane, through all in the order of their ids.
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
		var all []rows.Item
		for row, err := range s.query(ctx, s.letters(), lane+"#", 0) {
			if err != nil {
				yield(Letter{}, err)
				return
			}
			all = append(all, row)
		}
		slices.SortStableFunc(all, func(a, b rows.Item) int { return strings.Compare(rows.Text(a, "order"), rows.Text(b, "order")) })
		for _, row := range all {
			if !s.yield(ctx, row, nil, yield) {
				return
			}
		}
	}
}

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
		out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{TableName: &s.table, Key: key(s.parts(), partID(l.ID, i)), ConsistentRead: aws.Bool(true)})
		switch {
		case err != nil:
			return l, s.failed("read a part of "+l.ID, err)
		case out.Item == nil:
			return l, s.failed("read "+l.ID, ErrMissing)
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
	out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{TableName: &s.table, Key: key(s.letters(), id), ConsistentRead: aws.Bool(true)})
	switch {
	case err != nil:
		return Letter{}, s.failed("read "+id, err)
	case out.Item == nil:
		return Letter{}, s.failed("read "+id, ErrMissing)
	}
	return s.complete(ctx, out.Item)
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
	for i := range l.parts {
		items = append(items, types.TransactWriteItem{Delete: &types.Delete{TableName: &s.table, Key: key(s.parts(), partID(l.ID, i))}})
	}
	at, err := s.transact(ctx, items...)
	if err != nil {
		return false, s.failed("remove "+l.ID, err)
	}
	return at < 0, nil
}

// Tried keeps that a redrive of a letter failed.
func (s *Store) Tried(ctx context.Context, l *Letter, reason string) error {
	const there, expression = "attribute_exists(#id)", "SET #error = :error, #triedAt = :now ADD #attempts :one"
	_, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: &s.table, Key: key(s.letters(), l.ID), ConditionExpression: aws.String(there), UpdateExpression: aws.String(expression),
		ExpressionAttributeNames:  rows.Names(there, expression),
		ExpressionAttributeValues: rows.Item{":error": rows.S(cut(reason)), ":now": rows.Millis(time.Now()), ":one": rows.N(1)},
	})
	if err != nil && !conditionFailed(err) {
		return s.failed("update "+l.ID, err)
	}
	return nil
}
