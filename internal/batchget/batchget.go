// Package batchget reads rows by their keys, and takes no key that was not read for a row that is missing.
//
// It knows the form of BatchGetItem's answers. It must not know what the rows are.
package batchget

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox/internal/awserr"
	"github.com/seed-1b628d3f/outbox/internal/backoff"
	"github.com/seed-1b628d3f/outbox/internal/names"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// Most is how many keys DynamoDB takes in a request.
const Most = 100

// requests is after how many answers without a key that was read, one behind the other, Read gives up.
const requests = 10

var delay = backoff.FullJitter{Base: 50 * time.Millisecond, Max: 5 * time.Second}

// Client is what Read needs of the SDK.
type Client interface {
	BatchGetItem(context.Context, *dynamodb.BatchGetItemInput, ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error)
}

// Query says which rows are read.
type Query struct {
	Table string      // its name or ARN
	Keys  []rows.Item // at most Most, and no two alike
	// Text returns a text for the key that a row has, or is: another one for each of the table's keys.
	Text       func(rows.Item) string
	Attributes []string // those that are wanted, with those of the key; nil: all
	Stale      bool     // the reads are eventually consistent, and cost half: a row may be missing, or be older, if it was written a moment ago
	// Enough, unless nil, says that what was found will do, although keys are unread.
	Enough func(found map[string]rows.Item) bool
}

// ByID returns the keys of a table whose partition key is an attribute of type S, without a sort key, and the function for their text: the ids.
func ByID(attribute string, ids []string) (keys []rows.Item, text func(rows.Item) string) {
	for _, id := range ids {
		keys = append(keys, rows.Item{attribute: rows.S(id)})
	}
	return keys, func(row rows.Item) string { return rows.Text(row, attribute) }
}

// Read returns the rows that are there, by the texts of their keys, and the service's time: clocks of machines may be off. An answer must have the table's rows, or
// say that all keys are unread; another one is an error.
func (q Query) Read(ctx context.Context, client Client) (found map[string]rows.Item, now time.Time, err error) {
	ask := types.KeysAndAttributes{ConsistentRead: aws.Bool(!q.Stale), Keys: q.Keys}
	if q.Attributes != nil {
		ask.ExpressionAttributeNames = map[string]string{}
		var names []string
		for i, name := range q.Attributes {
			names = append(names, fmt.Sprint("#a", i))
			ask.ExpressionAttributeNames[names[i]] = name
		}
		ask.ProjectionExpression = aws.String(strings.Join(names, ", "))
	}
	found = make(map[string]rows.Item, len(q.Keys))
	for n := 1; ; n++ {
		asked := make(map[string]bool, len(ask.Keys))
		for _, key := range ask.Keys {
			asked[q.Text(key)] = true
		}
		out, err := awserr.Answered(client.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{q.Table: ask}}))
		if err != nil {
			return nil, now, err
		}
		now = time.Now()
		if date, ok := awsmiddleware.GetServerTime(out.ResultMetadata); ok {
			now = date
		}
		before := len(ask.Keys)
		if ask.Keys, err = q.take(out, asked, found); err != nil {
			return nil, now, err
		}
		if !answered(out) && len(ask.Keys) < before { // what is not there is an empty list in an answer
			return nil, now, awserr.ErrNoRows
		}
		if len(ask.Keys) == 0 || q.Enough != nil && q.Enough(found) {
			return found, now, nil
		}
		switch {
		case len(ask.Keys) < before:
			n = 0
		case n >= requests:
			return nil, now, fmt.Errorf("DynamoDB left %d keys unread %d times in a row: is the table throttled?", len(ask.Keys), n)
		}
		if err := backoff.Wait(ctx, delay.Delay(max(n, 1))); err != nil {
			return nil, now, err
		}
	}
}

// take adds an answer's rows to what was found, and returns the keys that are unread: some of those that its request asked for, each once.
func (q Query) take(out *dynamodb.BatchGetItemOutput, asked map[string]bool, found map[string]rows.Item) (unread []map[string]types.AttributeValue, err error) {
	for name, list := range out.Responses {
		if names.OfTable(name) != names.OfTable(q.Table) {
			return nil, errors.New("the answer is about another table")
		}
		for _, row := range list {
			id := q.Text(row)
			if !asked[id] {
				return nil, errors.New("the answer has a row that was not asked for")
			}
			found[id] = row
		}
	}
	for _, left := range out.UnprocessedKeys {
		if len(left.Keys) == 0 {
			return nil, errors.New("the answer has unprocessed keys, and no key among them")
		}
		for _, key := range left.Keys {
			if !asked[q.Text(key)] {
				return nil, errors.New("the answer has an unprocessed key that was not asked for")
			}
			delete(asked, q.Text(key))
		}
		unread = append(unread, left.Keys...)
	}
	return unread, nil
}

func answered(out *dynamodb.BatchGetItemOutput) bool {
	for _, list := range out.Responses {
		if list != nil {
			return true
		}
	}
	return false
}
