// Package batchget reads rows by their keys, with consistent reads, and takes no key that was not read for a row that is missing.
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

// requests is how many are sent for the keys of a Query, while DynamoDB leaves some of them unread.
const requests = 10

var delay = backoff.FullJitter{Base: 50 * time.Millisecond, Max: time.Second}

// Client is what Read needs of the SDK.
type Client interface {
	BatchGetItem(context.Context, *dynamodb.BatchGetItemInput, ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error)
}

// Query says which rows are read.
type Query struct {
	Table      string   // its name or ARN
	Key        string   // the partition key's attribute, of type S. There is no sort key
	IDs        []string // at most Most
	Attributes []string // those that are wanted; nil: all
	// Enough, unless nil, says that what was found will do, although keys are unread.
	Enough func(found map[string]rows.Item) bool
}

// Read returns the rows that are there, by their ids, and the service's time: clocks of machines may be off. An answer must have the table's rows, or
// say that all keys are unread; another one is an error.
func (q Query) Read(ctx context.Context, client Client) (found map[string]rows.Item, now time.Time, err error) {
	asked := make(map[string]bool, len(q.IDs))
	ask := types.KeysAndAttributes{ConsistentRead: aws.Bool(true)}
	for _, id := range q.IDs {
		asked[id] = true
		ask.Keys = append(ask.Keys, rows.Item{q.Key: rows.S(id)})
	}
	if q.Attributes != nil {
		ask.ExpressionAttributeNames = map[string]string{}
		var names []string
		for i, name := range q.Attributes {
			names = append(names, fmt.Sprint("#a", i))
			ask.ExpressionAttributeNames[names[i]] = name
		}
		ask.ProjectionExpression = aws.String(strings.Join(names, ", "))
	}
	found = make(map[string]rows.Item, len(q.IDs))
	for n := 1; n <= requests; n++ {
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
		if err := backoff.Wait(ctx, delay.Delay(n)); err != nil {
			return nil, now, err
		}
	}
	return nil, now, fmt.Errorf("DynamoDB left keys unread %d times: is the table throttled?", requests)
}

// take adds an answer's rows to what was found, and returns the keys that are unread.
func (q Query) take(out *dynamodb.BatchGetItemOutput, asked map[string]bool, found map[string]rows.Item) (unread []map[string]types.AttributeValue, err error) {
	for name, list := range out.Responses {
		if names.OfTable(name) != names.OfTable(q.Table) {
			return nil, errors.New("the answer is about another table")
		}
		for _, row := range list {
			id := rows.Text(row, q.Key)
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
			if !asked[rows.Text(key, q.Key)] {
				return nil, errors.New("the answer has an unprocessed key that was not asked for")
			}
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
