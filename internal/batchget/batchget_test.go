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
		"both unread, time and again": {dynamodb.BatchGetItemOutput{UnprocessedKeys: unread{"events": {Keys: list{row("1"), row("2")}}}}, "left keys unread 10 times"},
	} {
		synctest.Test(t, func(t *testing.T) {
			found, now, err := Query{Table: "events", Key: "id", IDs: []string{"1", "2"}}.Read(t.Context(), client(func(list) *dynamodb.BatchGetItemOutput { return &c.answer }))
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
		found, _, err := Query{Table: "events", Key: "id", IDs: []string{"1", "2", "3"}}.Read(t.Context(), client(func(keys list) *dynamodb.BatchGetItemOutput {
			asked = append(asked, len(keys))
			return &dynamodb.BatchGetItemOutput{Responses: lists{"events": keys[:1]}, UnprocessedKeys: map[bool]unread{true: {"events": {Keys: keys[1:]}}}[len(keys) > 1]}
		}))
		require.NoError(t, err)
		require.Equal(t, []int{3, 2, 1}, asked)
		require.Len(t, found, 3)
	})
}
