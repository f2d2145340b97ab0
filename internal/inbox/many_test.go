package inbox_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/inbox"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

const arn = "arn:aws:dynamodb:eu-west-1:000000000000:table/inbox"

// batches answers in place of a table that has the rows of even numbers.
type batches struct {
	inbox.Client
	atOnce int // how many keys it reads; the rest is unprocessed
	calls  int
	answer func(*dynamodb.BatchGetItemOutput)
}

func (b *batches) BatchGetItem(_ context.Context, in *dynamodb.BatchGetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	b.calls++
	keys := in.RequestItems["inbox"].Keys
	if len(keys) == 0 || len(keys) > 100 {
		return nil, fmt.Errorf("%d keys", len(keys))
	}
	out := &dynamodb.BatchGetItemOutput{Responses: map[string][]rows.Item{arn: {}}}
	for i, key := range keys {
		if i >= b.atOnce {
			out.UnprocessedKeys = map[string]types.KeysAndAttributes{"inbox": {Keys: keys[i:]}}
			break
		}
		if id := rows.Text(key, inbox.KeyID); (id[len(id)-1]-'0')%2 == 0 {
			row := inbox.Key(key)
			row["handledAt"] = rows.N(1)
			out.Responses[arn] = append(out.Responses[arn], row)
		}
	}
	if b.answer != nil {
		b.answer(out)
	}
	return out, nil
}

// Every key has its answer, however few keys an answer has, and though keys repeat.
func TestRowsOfManyKeys(t *testing.T) {
	for _, atOnce := range []int{1, 7, 99, 100} {
		synctest.Test(t, func(t *testing.T) {
			table := inbox.Table{Client: &batches{atOnce: atOnce}, Name: "inbox", Consumer: "c"}
			var keys []inbox.Item
			for i := range 330 {
				keys = append(keys, table.MarkKey(inbox.Event{ID: fmt.Sprint(i % 250), Table: "events"}))
			}
			found, err := table.Rows(t.Context(), keys, true)
			require.NoError(t, err)
			require.Len(t, found, len(keys))
			for i, row := range found {
				require.Equal(t, i%2 == 0, row != nil, "row %d", i)
				if row != nil {
					require.Equal(t, keys[i], inbox.Key(row))
				}
			}
		})
	}
	found, err := (&inbox.Table{Client: &batches{}, Name: "inbox"}).Rows(t.Context(), nil, true)
	require.NoError(t, err)
	require.Empty(t, found)
}

// A key that was not read is no row that is missing.
func TestRowsThatAreNotReadAreAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for want, client := range map[string]*batches{
			"left 1 keys unread 10 times in a row": {},
			"the answer has no list of rows":       {atOnce: 1, answer: func(out *dynamodb.BatchGetItemOutput) { out.Responses = nil }},
			"the answer has a row that was not asked for": {atOnce: 1, answer: func(out *dynamodb.BatchGetItemOutput) {
				out.Responses[arn] = []rows.Item{{"eventId": rows.S("other"), "consumer": rows.S("c")}}
			}},
		} {
			table := inbox.Table{Client: client, Name: "inbox", Consumer: "c"}
			found, err := table.Rows(t.Context(), []inbox.Item{table.MarkKey(inbox.Event{ID: "2"})}, false)
			require.ErrorContains(t, err, want)
			require.ErrorContains(t, err, "inbox table inbox, consumer c")
			require.Nil(t, found)
		}
		table := inbox.Table{Client: &batches{}, Name: "inbox", Consumer: "c"}
		ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
		defer cancel()
		_, err := table.Rows(ctx, []inbox.Item{table.MarkKey(inbox.Event{ID: "2"})}, false)
		require.Error(t, err)
	})
}
