package deadletter

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox/internal/awserr"
	"github.com/seed-1b628d3f/outbox/internal/backoff"
	"github.com/seed-1b628d3f/outbox/internal/names"
	"github.com/seed-1b628d3f/outbox/internal/recent"
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

// guesses is how many queues a Store knows the last number of. One that it has forgotten is read again, for half a read unit or one.
const guesses = 1000

// Store is one consumer's part of the table. It is safe for concurrent use.
type Store struct {
	client   Client
	table    string
	consumer string

	places *recent.Cache[int64] // the last number of a queue, as far as this process knows: a guess, which the write's condition tests
	sights *recent.Cache[sight] // locks of others, as this process saw them last
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
	return &Store{client: client, table: table, consumer: consumer, places: recent.New[int64](guesses), sights: recent.New[sight](sights)}, errors.Join(errs...)
}

func (s *Store) letters() string   { return s.consumer }
func (s *Store) queues() string    { return s.consumer + "#lane" }
func (s *Store) parts() string     { return s.consumer + "#part" }
func (s *Store) attempts() string  { return s.consumer + "#attempt" }
func (s *Store) requests() string  { return s.consumer + "#request" }
func (s *Store) discarded() string { return s.consumer + "#discarded" }

func key(group, id string) rows.Item { return rows.Item{"group": rows.S(group), "id": rows.S(id)} }

func (s *Store) failed(what string, err error) error {
	return fmt.Errorf("dead letter table %s, consumer %s: %s: %w", s.table, s.consumer, what, err)
}

// Stored is what a Put did.
type Stored int

// What a Put may have done.
const (
	Refused Stored = iota // nothing: PutBehind found no letters
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
	l.token = rand.Text()
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
		if queue := QueueOf(l.ID); behind && queue != "" && len(parts) > 0 { // nobody would remove the parts; others may have the same ones
			_, letters, err := s.lastOf(ctx, queue)
			switch {
			case err != nil && !errors.Is(err, ErrMissing):
				return Refused, err
			case letters <= 0:
				return Refused, nil
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
// request was lost), and Before otherwise. If another event has the key, l gets another key.
func (s *Store) there(ctx context.Context, l *Letter) (Stored, error) {
	const keys = 10
	for n := range keys {
		out, err := awserr.Answered(s.client.GetItem(ctx, &dynamodb.GetItemInput{TableName: &s.table, Key: key(s.letters(), l.ID), ConsistentRead: aws.Bool(true)}))
		if err != nil {
			return Refused, s.failed("read "+l.ID, err)
		}
		if out.Item == nil {
			return Refused, nil
		}
		switch have := read(out.Item); {
		case have.token == l.token:
			return Added, nil
		case l.same(&have):
			return Before, nil
		}
		l.ID = l.otherID(n)
	}
	return Refused, s.failed("store "+l.id(), errors.New("its keys belong to other events"))
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
	// Two letters never get one number: each is stored on the condition that the last number is still the one that was read. Nothing has to be
	// read for the first letter of a queue, nor behind a letter that this process has stored.
	last, known := s.places.Get(queue)
	for n := 1; ; n++ {
		if behind && !known {
			var err error
			var letters int64
			last, letters, err = s.lastOf(ctx, queue)
			switch {
			case err != nil && !errors.Is(err, ErrMissing):
				return Refused, err
			case letters <= 0:
				return Refused, nil
			}
		}
		at, have, err := s.append(ctx, l, row, queue, last, behind)
		switch {
		case err != nil:
			return Refused, s.failed("store "+l.ID, err)
		case at == 0:
			return Before, nil
		case at < 0:
			s.places.Add(queue, last+1)
			return Added, nil
		case n == tries:
			return Refused, s.failed("store "+l.ID, errors.New("other letters of its queue were stored faster, again and again"))
		}
		if n > 1 { // the first guess may have been an old one
			if err := backoff.Wait(ctx, tryDelay.Delay(n-1)); err != nil {
				return Refused, s.failed("store "+l.ID, err)
			}
		}
		if last = rows.Int(have, "last"); len(have) > 0 {
			if known = true; behind && rows.Int(have, "letters") <= 0 {
				return Refused, nil
			}
			continue
		}
		// The row is gone, or the answer does not show it.
		known = false
		if !behind {
			if last, _, err = s.lastOf(ctx, queue); err != nil && !errors.Is(err, ErrMissing) {
				return Refused, err
			}
		}
	}
}

// tries is how often a letter is stored under a number that another letter of its queue has got meanwhile. Of the processes that try at once,
// one succeeds each time.
const tries = 100

var tryDelay = backoff.FullJitter{Base: 10 * time.Millisecond, Max: 200 * time.Millisecond}

// lastOf reads the last number of a queue, and how many letters it has. The error matches ErrMissing if there is no such queue.
func (s *Store) lastOf(ctx context.Context, queue string) (last, letters int64, err error) {
	row, err := s.row(ctx, s.queues(), queue, "id", "last", "letters")
	return rows.Int(row, "last"), rows.Int(row, "letters"), err
}

// append stores a letter's row as the one after the last of its queue, and returns -1. Otherwise it returns what failed: 0, there is a letter
// with this key; 1, the queue's last letter is another one by now, or the letter is to be stored behind others and there are none. Then have is
// the queue's row, if the answer shows it.
func (s *Store) append(ctx context.Context, l *Letter, row rows.Item, queue string, last int64, behind bool) (at int, have rows.Item, err error) {
	const free = "attribute_not_exists(#id)"
	const count = "SET #aggregateId = :aggregate, #last = :next ADD #letters :one"
	values := rows.Item{":one": rows.N(1), ":next": rows.N(last + 1), ":aggregate": rows.S(l.Event.AggregateID)}
	same := "attribute_not_exists(#last)"
	if last != 0 {
		same, values[":last"] = "#last = :last", rows.N(last)
	}
	if behind {
		same = "#letters > :zero AND " + same
		values[":zero"] = rows.N(0)
	}
	row["place"] = rows.N(last + 1)
	return s.transact(ctx,
		types.TransactWriteItem{Put: &types.Put{TableName: &s.table, Item: row,
			ConditionExpression: aws.String(free), ExpressionAttributeNames: rows.Names(free)}},
		types.TransactWriteItem{Update: &types.Update{TableName: &s.table, Key: key(s.queues(), queue), UpdateExpression: aws.String(count),
			ConditionExpression: &same, ExpressionAttributeNames: rows.Names(count, same), ExpressionAttributeValues: values,
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld}})
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

// transact returns the index of the first operation whose condition failed, with the row if the operation asks for it, or -1. A transaction
// that meets another one is sent again, up to conflicts times.
func (s *Store) transact(ctx context.Context, items ...types.TransactWriteItem) (int, rows.Item, error) {
	for n := 1; ; n++ {
		_, err := awserr.Written(s.client.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: items}))
		canceled := (*types.TransactionCanceledException)(nil)
		if err == nil || !errors.As(err, &canceled) {
			return -1, nil, err
		}
		for i, reason := range canceled.CancellationReasons {
			if aws.ToString(reason.Code) == "ConditionalCheckFailed" {
				return i, reason.Item, nil
			}
		}
		if n == conflicts || !slices.ContainsFunc(canceled.CancellationReasons, func(r types.CancellationReason) bool {
			return aws.ToString(r.Code) == "TransactionConflict"
		}) {
			return -1, nil, err
		}
		if wait := backoff.Wait(ctx, conflictDelay.Delay(n)); wait != nil {
			return -1, nil, errors.Join(err, wait)
		}
	}
}

// Remove removes a letter with its parts. It returns false if the letter was gone already. The queue stays until Close.
func (s *Store) Remove(ctx context.Context, l *Letter) (bool, error) { return s.remove(ctx, l) }

// remove is Remove, with other writes in the same transaction.
func (s *Store) remove(ctx context.Context, l *Letter, and ...types.TransactWriteItem) (bool, error) {
	const there = "attribute_exists(#id)"
	items := []types.TransactWriteItem{{Delete: &types.Delete{TableName: &s.table, Key: key(s.letters(), l.ID),
		ConditionExpression: aws.String(there), ExpressionAttributeNames: rows.Names(there)}}}
	items = append(items, and...)
	if queue := QueueOf(l.ID); queue != "" {
		const count = "ADD #letters :minus"
		items = append(items, types.TransactWriteItem{Update: &types.Update{TableName: &s.table, Key: key(s.queues(), queue),
			UpdateExpression: aws.String(count), ExpressionAttributeNames: rows.Names(count), ExpressionAttributeValues: rows.Item{":minus": rows.N(-1)}}})
	}
	const together = 10 // parts in the transaction, which takes 4 MB
	for i := range min(l.parts, together) {
		items = append(items, types.TransactWriteItem{Delete: &types.Delete{TableName: &s.table, Key: key(s.parts(), l.partID(i))}})
	}
	at, _, err := s.transact(ctx, items...)
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
