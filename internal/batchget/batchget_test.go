package batchget

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/rows"
)

type client func(keys []map[string]types.AttributeValue) *dynamodb.BatchGetItemOutput

func (c client) BatchGetItem(_ context.Context, in *dynamodb.BatchGetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	return c(in.RequestItems["events"].Keys), nil
}

type (
	list   = []map[string]types.AttributeValue
	lists  = map[string]list
	unread = map[string]types.KeysAndAttributes
)

func query(ids ...string) Query {
	q := Query{Table: "events"}
	q.Keys, q.Text = ByID("id", ids)
	return q
}

func row(id string) rows.Item { return rows.Item{"id": rows.S(id)} }

// Every answer that does not speak of a key is an error, or is asked again: a key that was not read is no row that is missing.
func TestAnswersThatLeaveSomethingOut(t *testing.T) {
	for name, c := range map[string]struct {
		answer dynamodb.BatchGetItemOutput
		want   string // of the error; "": one row
	}{
		"one row":                     {dynamodb.BatchGetItemOutput{Responses: lists{"events": {row("1")}}}, ""},
		"named by its ARN":            {dynamodb.BatchGetItemOutput{Responses: lists{"arn:aws:dynamodb:eu-west-1:000000000000:table/events": {row("1")}}}, ""},
		"nothing":                     {dynamodb.BatchGetItemOutput{}, "no list of rows"},
		"no list":                     {dynamodb.BatchGetItemOutput{Responses: lists{}}, "no list of rows"},
		"a null list":                 {dynamodb.BatchGetItemOutput{Responses: lists{"events": nil}}, "no list of rows"},
		"another table":               {dynamodb.BatchGetItemOutput{Responses: lists{"other": {}}}, "another table"},
		"another row":                 {dynamodb.BatchGetItemOutput{Responses: lists{"events": {row("3")}}}, "a row that was not asked for"},
		"unread, without keys":        {dynamodb.BatchGetItemOutput{UnprocessedKeys: unread{"events": {}}}, "no key among them"},
		"unread, another key":         {dynamodb.BatchGetItemOutput{UnprocessedKeys: unread{"events": {Keys: list{row("3")}}}}, "unprocessed key that was not asked for"},
		"one unread, and no list":     {dynamodb.BatchGetItemOutput{UnprocessedKeys: unread{"events": {Keys: list{row("1")}}}}, "no list of rows"},
		"both unread, time and again": {dynamodb.BatchGetItemOutput{UnprocessedKeys: unread{"events": {Keys: list{row("1"), row("2")}}}}, "left 2 keys unread 10 times in a row"},
	} {
		synctest.Test(t, func(t *testing.T) {
			found, now, err := query("1", "2").Read(t.Context(), client(func(list) *dynamodb.BatchGetItemOutput { return &c.answer }))
			if c.want != "" {
				require.ErrorContains(t, err, c.want, name)
				return
			}
			require.NoError(t, err, name)
			require.Equal(t, map[string]rows.Item{"1": row("1")}, found, name)
			require.NotZero(t, now)
		})
	}
}

func TestUnreadKeysAreAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []int
		found, _, err := query("1", "2", "3").Read(t.Context(), client(func(keys list) *dynamodb.BatchGetItemOutput {
			asked = append(asked, len(keys))
			return &dynamodb.BatchGetItemOutput{Responses: lists{"events": keys[:1]}, UnprocessedKeys: map[bool]unread{true: {"events": {Keys: keys[1:]}}}[len(keys) > 1]}
		}))
		require.NoError(t, err)
		require.Equal(t, []int{3, 2, 1}, asked)
		require.Len(t, found, 3)
	})
}

// Answers that read some of the keys are no sign of a throttled table, however many there are; those that read nothing are, and end it.
func TestOnlyAnswersWithoutRowsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		throttled := func(without int) client {
			return func(keys list) *dynamodb.BatchGetItemOutput {
				if calls++; calls%without != 0 {
					return &dynamodb.BatchGetItemOutput{UnprocessedKeys: unread{"events": {Keys: keys}}}
				}
				out := &dynamodb.BatchGetItemOutput{Responses: lists{"events": keys[:1]}}
				if len(keys) > 1 {
					out.UnprocessedKeys = unread{"events": {Keys: keys[1:]}}
				}
				return out
			}
		}
		found, _, err := query("1", "2", "3").Read(t.Context(), throttled(10))
		require.NoError(t, err)
		require.Len(t, found, 3)
		require.Equal(t, 30, calls)
		calls = 0
		_, _, err = query("1", "2", "3").Read(t.Context(), throttled(11))
		require.ErrorContains(t, err, "left 3 keys unread 10 times in a row")
		require.Equal(t, 10, calls)
	})
}

// Keys that grow again would be asked for without an end.
func TestUnreadKeysAreThoseOfTheRequest(t *testing.T) {
	for name, second := range map[string]list{"one that was read before": {row("1"), row("2")}, "one twice": {row("2"), row("2")}} {
		synctest.Test(t, func(t *testing.T) {
			calls := 0
			_, _, err := query("1", "2").Read(t.Context(), client(func(keys list) *dynamodb.BatchGetItemOutput {
				calls++
				require.LessOrEqual(t, calls, 100, "it does not end: %s", name)
				if calls%2 == 0 {
					return &dynamodb.BatchGetItemOutput{UnprocessedKeys: unread{"events": {Keys: second}}}
				}
				return &dynamodb.BatchGetItemOutput{Responses: lists{"events": keys[:1]}, UnprocessedKeys: unread{"events": {Keys: list{row("2")}}}}
			}))
			require.ErrorContains(t, err, "unprocessed key that was not asked for", name)
			require.Equal(t, 2, calls)
		})
	}
}

// With a sort key, a row is known by both. Stale reads are those that DynamoDB answers eventually consistent.
func TestKeysOfTwoAttributes(t *testing.T) {
	key := func(a, b string) rows.Item { return rows.Item{"a": rows.S(a), "b": rows.S(b)} }
	q := Query{Table: "events", Keys: list{key("1", "x"), key("1", "y")}, Text: func(row rows.Item) string { return rows.Text(row, "a") + rows.Text(row, "b") }}
	for _, stale := range []bool{false, true} {
		q.Stale = stale
		var consistent *bool
		found, _, err := q.Read(t.Context(), whole(func(in types.KeysAndAttributes) *dynamodb.BatchGetItemOutput {
			consistent = in.ConsistentRead
			return &dynamodb.BatchGetItemOutput{Responses: lists{"events": in.Keys[1:]}}
		}))
		require.NoError(t, err)
		require.Equal(t, map[string]rows.Item{"1y": key("1", "y")}, found)
		require.Equal(t, !stale, *consistent)
	}
	_, _, err := q.Read(t.Context(), whole(func(types.KeysAndAttributes) *dynamodb.BatchGetItemOutput {
		return &dynamodb.BatchGetItemOutput{Responses: lists{"events": {key("2", "x")}}}
	}))
	require.ErrorContains(t, err, "a row that was not asked for")
}

type whole func(types.KeysAndAttributes) *dynamodb.BatchGetItemOutput

func (w whole) BatchGetItem(_ context.Context, in *dynamodb.BatchGetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	return w(in.RequestItems["events"]), nil
}
