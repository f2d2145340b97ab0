package replay

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/internal/awserr"
	"github.com/seed-1b628d3f/outbox/internal/backoff"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// maxBatch is how many items a BatchGetItem takes.
const maxBatch = 100

// maxRounds is how many answers in a row may bring nothing.
const maxRounds = 10

var jitter = backoff.FullJitter{Base: 50 * time.Millisecond, Max: 5 * time.Second}

// row is an event as it was fetched.
type row struct {
	key    key
	record outbox.Record // with err, only its ID
	err    error         // a *outbox.DecodeError
	gone   bool          // deleted since the search found it
}

// fetch reads up to maxBatch rows, in the order of their keys. DynamoDB leaves keys unprocessed if the answer would be larger
// than 16 MB or the table is throttled. fetch asks for them again.
func (e *Events) fetch(ctx context.Context, keys []key) ([]row, error) {
	items := make(map[string]item, len(keys))
	request := types.KeysAndAttributes{ConsistentRead: aws.Bool(true)}
	for _, k := range keys {
		request.Keys = append(request.Keys, item{e.names.ID: &types.AttributeValueMemberS{Value: k.id}})
	}
	for failures := 0; ; {
		out, err := awserr.Answered(e.client.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{e.table: request}}))
		if err != nil {
			return nil, fmt.Errorf("fetch events of table %s: %w", e.table, err)
		}
		for _, stored := range out.Responses { // of the one table, under its name or its ARN
			for _, i := range stored {
				if id, ok := rows.As[*types.AttributeValueMemberS](i[e.names.ID]); ok {
					items[id.Value] = i
				}
			}
		}
		left := 0
		for _, u := range out.UnprocessedKeys {
			left, request.Keys = len(u.Keys), u.Keys
		}
		if out.Responses == nil && left == 0 { // a row that is gone is missing from a list that is there
			return nil, fmt.Errorf("fetch events of table %s: the answer has neither rows nor unprocessed keys", e.table)
		}
		if left == 0 {
			break
		}
		failures++
		if countItems(out.Responses) > 0 {
			failures = 1
		}
		if failures > maxRounds {
			return nil, fmt.Errorf("fetch events of table %s: %d keys are still unprocessed after %d attempts: it is throttled, replay later or slower", e.table, left, maxRounds)
		}
		if err := backoff.Wait(ctx, jitter.Delay(failures)); err != nil {
			return nil, fmt.Errorf("fetch events of table %s: %w", e.table, err)
		}
	}
	rows := make([]row, len(keys))
	for i, k := range keys {
		rows[i] = e.decode(k, items[k.id])
	}
	return rows, nil
}

func countItems(responses map[string][]item) int {
	n := 0
	for _, items := range responses {
		n += len(items)
	}
	return n
}

func (e *Events) decode(k key, stored item) row {
	if stored == nil {
		return row{key: k, gone: true}
	}
	r, err := outbox.DecodeItem(stored, e.layout)
	if err != nil {
		return row{key: k, record: outbox.Record{ID: k.id}, err: fmt.Errorf("event %q of table %s: %w", k.id, e.table, err)}
	}
	r.Table = e.tableName()
	return row{key: k, record: r}
}
