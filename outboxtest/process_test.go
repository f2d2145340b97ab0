package outboxtest_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/outboxtest"
)

// A process hears of its last request, or does not; in both cases the request is carried out, and none after it.
func TestAProcessDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, answered := range []bool{false, true} {
			a := outboxtest.Start(t)
			a.CreateTable(t, "rows", "pk")
			p := a.Process(t.Context(), outboxtest.Death{Request: 2, Answered: answered})
			put := func(pk string) error {
				_, err := p.DynamoDB.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("rows"), Item: map[string]types.AttributeValue{"pk": &types.AttributeValueMemberS{Value: pk}}})
				return err
			}
			require.NoError(t, put("1"))
			if err := put("2"); answered {
				require.NoError(t, err)
				require.False(t, p.Killed())
			} else {
				require.ErrorIs(t, err, outboxtest.ErrKilled)
			}
			require.ErrorIs(t, put("3"), outboxtest.ErrKilled)
			require.True(t, p.Killed())
			require.ErrorIs(t, context.Cause(p.Context()), outboxtest.ErrKilled)
			_, err := p.Kinesis.ListStreams(t.Context(), nil)
			require.ErrorIs(t, err, outboxtest.ErrKilled, "whatever the context")
			_, err = p.Streams.ListStreams(t.Context(), nil)
			require.ErrorIs(t, err, outboxtest.ErrKilled)
			_, err = p.Streams.ListStreams(p.Context(), nil)
			require.ErrorIs(t, err, context.Canceled)

			out, err := a.DynamoDB.Scan(t.Context(), &dynamodb.ScanInput{TableName: aws.String("rows")})
			require.NoError(t, err, "the others live")
			require.EqualValues(t, 2, out.Count)
		}
	})
}

// A process lives until it is killed, and its context ends with that of its test.
func TestAProcessIsKilled(t *testing.T) {
	a := outboxtest.Start(t)
	ctx, cancel := context.WithCancel(t.Context())
	p := a.Process(ctx, outboxtest.Death{})
	for range 100 {
		_, err := p.DynamoDB.ListTables(p.Context(), nil)
		require.NoError(t, err)
	}
	cancel()
	require.ErrorIs(t, p.Context().Err(), context.Canceled)
	require.False(t, p.Killed(), "it was asked to end")
	_, err := p.DynamoDB.ListTables(t.Context(), nil)
	require.NoError(t, err, "it lives, and is not done")
	p.Kill()
	require.True(t, p.Killed())
	_, err = p.DynamoDB.ListTables(t.Context(), nil)
	require.ErrorIs(t, err, outboxtest.ErrKilled)

	p = a.Process(ctx, outboxtest.Death{Request: 1})
	_, err = p.DynamoDB.ListTables(t.Context(), nil)
	require.ErrorIs(t, err, outboxtest.ErrKilled, "it dies though its context had ended before")
	require.True(t, p.Killed())

	p = a.Process(t.Context(), outboxtest.Death{})
	p.Kill()
	_, err = p.DynamoDB.ListTables(t.Context(), nil)
	require.ErrorIs(t, err, outboxtest.ErrKilled)
}

func TestADeathThatCannotBeIsRefused(t *testing.T) {
	a := outboxtest.Start(t)
	for _, death := range []outboxtest.Death{{Request: -1}, {Answered: true}} {
		require.Panics(t, func() { a.Process(t.Context(), death) }, "%+v", death)
	}
}
