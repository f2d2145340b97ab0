package owntable_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/owntable"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

func TestATableOfAnotherFormIsAnError(t *testing.T) {
	a := outboxtest.Start(t)
	form := owntable.Form{What: "toy table", Partition: "p", Sort: "s", TTL: "ttl"}
	require.NoError(t, form.Create(t.Context(), a.DynamoDB, "toys"))
	require.NoError(t, form.Create(t.Context(), a.DynamoDB, "toys"))
	for want, other := range map[string]owntable.Form{
		`wait for other table toys: it has the keys "p" and "s", not p and x: it is another kind of table`: {What: "other table", Partition: "p", Sort: "x", TTL: "ttl"},
		`other table toys has its time to live on "ttl", not on end: it is another kind of table`:          {What: "other table", Partition: "p", Sort: "s", TTL: "end"},
	} {
		require.EqualError(t, other.Create(t.Context(), a.DynamoDB, "toys"), want)
	}
	_, err := a.DynamoDB.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName: aws.String("numbers"), BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("p"), AttributeType: "S"}, {AttributeName: aws.String("s"), AttributeType: "N"}},
		KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String("p"), KeyType: "HASH"}, {AttributeName: aws.String("s"), KeyType: "RANGE"}}})
	require.NoError(t, err)
	require.EqualError(t, form.Create(t.Context(), a.DynamoDB, "numbers"),
		"wait for toy table numbers: its key s is of type N, not S: it is another kind of table")
}
