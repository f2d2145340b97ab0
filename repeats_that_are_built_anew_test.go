package outbox_test

import (
	"errors"
	"strconv"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// An event with a sequence that is read from the item differs when its request is repeated, as docs/writing.md says. With a row for the
// request the repeat finds out that it was handled, whether it looks first or meets the condition.
func TestARepeatThatReadsItsOwnWriteIsAConflict(t *testing.T) {
	cloud := outboxtest.Start(t)
	cloud.CreateOutbox(t, "events", "events", 1)
	cloud.CreateTable(t, "accounts", "id")
	cloud.CreateTable(t, "requests", "key")
	writer := newWriter(t, cloud.DynamoDB)
	get := func(table, name, value string) values {
		out, err := cloud.DynamoDB.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: &table, Key: values{name: str(value)}, ConsistentRead: aws.Bool(true)})
		require.NoError(t, err)
		return out.Item
	}
	deposit := func(key string, more ...types.TransactWriteItem) error {
		version, _ := strconv.Atoi(textOf(get("accounts", "id", "a"), "version"))
		e := event("DEPOSITED#" + key)
		e.Sequence = int64(version + 1)
		return writer.Transact(t.Context(), append(more, types.TransactWriteItem{Put: &types.Put{
			TableName: aws.String("accounts"), Item: values{"id": str("a"), "version": num(strconv.Itoa(version + 1))}}}), e)
	}
	require.NoError(t, deposit("k1"))
	require.ErrorIs(t, deposit("k1"), outbox.ErrEventConflict)

	once := func(key string) error {
		if get("requests", "key", key) != nil {
			return nil
		}
		err := deposit(key, types.TransactWriteItem{Put: &types.Put{TableName: aws.String("requests"), Item: values{"key": str(key)},
			ConditionExpression: aws.String("attribute_not_exists(#k)"), ExpressionAttributeNames: map[string]string{"#k": "key"}}})
		if err != nil && !errors.Is(err, outbox.ErrUnknownOutcome) && get("requests", "key", key) != nil {
			return nil // another instance was faster
		}
		return err
	}
	require.NoError(t, once("k2"))
	require.NoError(t, once("k2"))
	require.Equal(t, "2", textOf(get("accounts", "id", "a"), "version"))
}
