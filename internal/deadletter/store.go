package deadletter

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox/internal/awserr"
	"github.com/seed-1b628d3f/outbox/internal/backoff"
	"github.com/seed-1b628d3f/outbox/internal/names"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// Client is what a Store needs of the SDK. *dynamodb.Client implements it.
type Client interface {
	Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error)
	GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error)
	BatchGetItem(context.Context, *dynamodb.BatchGetItemInput, ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error)
	PutItem(context.Context, *dynamodb.PutItemInput, ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error)
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
	DeleteItem(context.Context, *dynamodb.DeleteItemInput, ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error)
	TransactWriteItems(context.Context, *dynamodb.TransactWriteItemsInput, ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error)
}

// ErrMissing says that a letter or a queue is not in the table.
var ErrMissing = errors.New("no such dead letter")

const (
	attemptsTTL = 14 * 24 * time.Hour
	requestTTL  = 7 * 24 * time.Hour
)

// Store is one consumer's part of the table. It is safe for concurrent use.
type Store struct {
	client   Client
	table    string
	consumer string

	mu   sync.Mutex
	last int64 // the last place that orderOf made of a time: places differ even within one tick of the clock
}

// New returns the Store of a consumer. The consumer's name has 1 to 255 bytes and no '#'.
func New(client Client, table, consumer string) (*Store, error) {
	var errs []error
	if err := names.Table(table); err != nil {
		errs = append(errs, fmt.Errorf("the table: %w", err))
	}
	if consumer == "" || len(consumer) > 255 || strings.Contains(consumer, "#") || !utf8.ValidString(consumer) {
		errs = append(errs, fmt.Errorf("a consumer's name has 1 to 255 bytes of UTF-8 and no '#': %q", consumer[:min(len(consumer), 300)]))
	}
	return &Store{client: client, table: table, consumer: consumer}, errors.Join(errs...)
}

func (s *Store) letters() string  { return s.consumer }
func (s *Store) queues() string   { return s.consumer + "#lane" }
func (s *Store) parts() string    { return s.consumer + "#part" }
func (s *Store) attempts() string { return s.consumer + "#attempt" }
func (s *Store) requests() string { return s.consumer + "#request" }

func key(group, id string) rows.Item { return rows.Item{"group": rows.S(group), "id": rows.S(id)} }

func (s *Store) failed(what string, err error) error {
	return fmt.Errorf("dead letter table %s, consumer %s: %s: %w", s.table, s.consumer, what, err)
}

// Stored is what a Put did.
type Stored int

// What a Put may have done.
const (
	Refused Stored = iota // nothing: PutBehind found no queue
	Before                // nothing: the event was a letter already
	Added                 // the letter is stored
)

// Put stores a letter, unless the event is a letter already. It clears the event's Fence, which belongs to the worker that stores the letter
// and means nothing to the one that redrives it. Once the letter is stored, its aggregate is parked.
func (s *Store) Put(ctx context.Context, l *Letter) (Stored, error) { return s.put(ctx, l, false) }

// PutBehind is Put for an event of a parked aggregate. If the aggregate is not parked any more, it stores nothing.
func (s *Store) PutBehind(ctx context.Context, l *Letter) (Stored, error) { return s.put(ctx, l, true) }

func (s *Store) put(ctx context.Context, l *Letter, behind bool) (Stored, error) {
	l.ID, l.Error = l.id(), cut(l.Error)
	l.order, l.token = s.orderOf(l), rand.Text()
	l.Event.Fence = 0
	row, parts, err := l.row(s.letters())
	if err != nil {
		return Refused, s.failed("store "+l.ID, err)
	}
	ask := len(parts) > 0 // parts are written first, and must not replace the parts of a letter that is there
	for n := 1; ; n++ {
		if n > conflicts {
			return Refused, s.failed("store "+l.ID, errors.New("the table has a letter with the key, and does not return it"))
		}
		if n > 2 { // removed meanwhile, again and again
			if err := backoff.Wait(ctx, conflictDelay.Delay(n)); err != nil {
				return Refused, s.failed("store "+l.ID, err)
			}
		}
		if ask {
			before := *l
			if there, err := s.there(ctx, l); there != Refused || err != nil {
				return there, err
			}
			row["id"] = rows.S(l.ID)
			if l.ID != before.ID { // an earlier round wrote parts under the other id
				for i := range parts {
					_, _ = awserr.Written(s.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: &s.table, Key: key(s.parts(), before.partID(i))}))
				}
			}
		}
		for i, data := range parts {
			_, err := awserr.Written(s.client.PutItem(ctx, &dynamodb.PutItemInput{TableName: &s.table,
				Item: rows.Item{"group": rows.S(s.parts()), "id": rows.S(l.partID(i)), "data": rows.B(data)}}))
			if err != nil {
				return Refused, s.failed("store a part of "+l.ID, err)
			}
		}
		stored, err := s.insert(ctx, l, row, behind)
		if err != nil || stored != Before {
			return stored, err
		}
		ask = true // a letter has the key: find out whose it is
	}
}

// there looks for a letter of the same event. It returns Refused if there is no such letter, Added if it is l itself (the answer to an earlier
// request was lost), and Before otherwise. If another event with the same id has the key, l gets another key.
func (s *Store) there(ctx context.Context, l *Letter) (Stored, error) {
	out, err := awserr.Answered(s.client.GetItem(ctx, &dynamodb.GetItemInput{TableName: &s.table, Key: key(s.letters(), l.ID), ConsistentRead: aws.Bool(true)}))
	if err != nil {
		return Refused, s.failed("read "+l.ID, err)
	}
	if out.Item == nil {
		return Refused, nil
	}
	have := read(out.Item)
	a, b := &have.Event, &l.Event
	other := l.id() + "~" + hash(l.Event.Type + "\x00" + l.Event.Table)[:16]
	same := a.Type == b.Type && (a.Table == b.Table || a.Table == "" || b.Table == "") // not every delivery names the table
	switch {
	case have.token == l.token:
		return Added, nil
	case same || l.ID == other:
		return Before, nil
	}
	l.ID = other
	return s.there(ctx, l)
}

// insert stores a letter's row. Before means that the key is taken.
func (s *Store) insert(ctx context.Context, l *Letter, row rows.Item, behind bool) (Stored, error) {
	const free = "attribute_not_exists(#id)"
	queue := QueueOf(l.ID)
	if queue == "" {
		_, err := awserr.Written(s.client.PutItem(ctx, &dynamodb.PutItemInput{TableName: &s.table, Item: row,
			ConditionExpression: aws.String(free), ExpressionAttributeNames: rows.Names(free)}))
		if conditionFailed(err) {
			return Before, nil
		}
		if err != nil {
			return Refused, s.failed("store "+l.ID, err)
		}
		return Added, nil
	}
	const count = "SET #aggregateId = :aggregate ADD #letters :one"
	update := &types.Update{TableName: &s.table, Key: key(s.queues(), queue), UpdateExpression: aws.String(count),
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

// conflicts is how often a write is sent that meets a transaction on the same row. DynamoDB refuses such a write, and the SDK does not repeat
// it. They are common on the row of a queue, which every PutBehind updates.
const conflicts = 10

var conflictDelay = backoff.FullJitter{Base: 20 * time.Millisecond, Max: 500 * time.Millisecond}

// repeat calls write until it meets no transaction, up to conflicts times.
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

// transact returns the index of the first operation whose condition failed, or -1. A transaction that meets another one is sent again, up
// to conflicts times.
func (s *Store) transact(ctx context.Context, items ...types.TransactWriteItem) (int, error) {
	for n := 1; ; n++ {
		_, err := awserr.Written(s.client.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: items}))
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

// Remove removes a letter with its parts. It returns false if the letter was gone already. The queue stays until Close.
func (s *Store) Remove(ctx context.Context, l *Letter) (bool, error) {
	const there = "attribute_exists(#id)"
	items := []types.TransactWriteItem{{Delete: &types.Delete{TableName: &s.table, Key: key(s.letters(), l.ID),
		ConditionExpression: aws.String(there), ExpressionAttributeNames: rows.Names(there)}}}
	if queue := QueueOf(l.ID); queue != "" {
		const count = "ADD #letters :minus"
		items = append(items, types.TransactWriteItem{Update: &types.Update{TableName: &s.table, Key: key(s.queues(), queue),
			UpdateExpression: aws.String(count), ExpressionAttributeNames: rows.Names(count), ExpressionAttributeValues: rows.Item{":minus": rows.N(-1)}}})
	}
	const together = 10 // parts in the transaction, which takes 4 MB
	for i := range min(l.parts, together) {
		items = append(items, types.TransactWriteItem{Delete: &types.Delete{TableName: &s.table, Key: key(s.parts(), l.partID(i))}})
	}
	at, err := s.transact(ctx, items...)
	if err != nil {
		return false, s.failed("remove "+l.ID, err)
	}
	for i := together; i < l.parts && at < 0; i++ {
		_, _ = awserr.Written(s.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: &s.table, Key: key(s.parts(), l.partID(i))})) // without the row nobody reads it
	}
	return at < 0, nil
}

// Tried stores that a redrive of a letter failed: one more attempt, and the reason. A letter that is gone stays gone.
func (s *Store) Tried(ctx context.Context, l *Letter, reason string) error {
	const there, expression = "attribute_exists(#id)", "SET #error = :error, #triedAt = :now ADD #attempts :one"
	err := repeat(ctx, func() error {
		_, err := awserr.Written(s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
			TableName: &s.table, Key: key(s.letters(), l.ID), ConditionExpression: aws.String(there), UpdateExpression: aws.String(expression),
			ExpressionAttributeNames:  rows.Names(there, expression),
			ExpressionAttributeValues: rows.Item{":error": rows.S(cut(reason)), ":now": rows.Millis(time.Now()), ":one": rows.N(1)},
		}))
		return err
	})
	if err != nil && !conditionFailed(err) {
		return s.failed("update "+l.ID, err)
	}
	return nil
}
