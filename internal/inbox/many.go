package inbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox/internal/awserr"
	"github.com/seed-1b628d3f/outbox/internal/backoff"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

const (
	manyKeys   = 100 // that a BatchGetItem takes
	manyRounds = 10  // answers in a row that may bring nothing
)

var manyDelay = backoff.FullJitter{Base: 50 * time.Millisecond, Max: 5 * time.Second}

// Rows reads the rows of many keys, in their order: nil for a key without a row. Keys may repeat. Without consistent, a row may be missing, or be
// older, if it was written a moment ago, and costs half.
func (t *Table) Rows(ctx context.Context, keys []Item, consistent bool) ([]Item, error) {
	found := make(map[[2]string]Item, len(keys))
	var ask []Item
	for _, key := range keys {
		if _, twice := found[keyText(key)]; !twice {
			found[keyText(key)] = nil
			ask = append(ask, key)
		}
	}
	for some := range slices.Chunk(ask, manyKeys) {
		if err := t.some(ctx, some, consistent, found); err != nil {
			return nil, fmt.Errorf("inbox table %s, consumer %s: read rows: %w", t.Name, t.Consumer, err)
		}
	}
	all := make([]Item, len(keys))
	for i, key := range keys {
		all[i] = found[keyText(key)]
	}
	return all, nil
}

func keyText(key Item) [2]string {
	return [2]string{rows.Text(key, KeyID), rows.Text(key, KeyConsumer)}
}

// some reads the rows of up to manyKeys keys. What DynamoDB leaves unread is asked for again: a key that was not read is no row that is missing.
func (t *Table) some(ctx context.Context, keys []Item, consistent bool, found map[[2]string]Item) error {
	for failures := 0; len(keys) > 0; {
		out, err := awserr.Answered(t.Client.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{
			t.Name: {Keys: keys, ConsistentRead: aws.Bool(consistent)},
		}}))
		if err != nil {
			return err
		}
		read := 0
		for _, answered := range out.Responses { // one table, named as the caller named it or by its ARN
			for _, row := range answered {
				if _, asked := found[keyText(row)]; !asked {
					return errors.New("the answer has a row that was not asked for")
				}
				found[keyText(row)] = row
				read++
			}
		}
		keys = nil
		for _, left := range out.UnprocessedKeys {
			keys = append(keys, left.Keys...)
		}
		switch {
		case len(keys) == 0 && out.Responses == nil: // what is not there is an empty list in an answer
			return errors.New("the answer has neither rows nor unprocessed keys")
		case len(keys) == 0:
			return nil
		case read > 0:
			failures = 0
		}
		if failures++; failures > manyRounds {
			return fmt.Errorf("%d keys are still unprocessed after %d attempts: the table is throttled", len(keys), manyRounds)
		}
		if err := backoff.Wait(ctx, manyDelay.Delay(failures)); err != nil {
			return err
		}
	}
	return nil
}
