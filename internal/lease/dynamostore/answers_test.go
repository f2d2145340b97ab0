package dynamostore_test

import (
	"context"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/lease"
	"github.com/seed-1b628d3f/outbox/internal/lease/dynamostore"
	"github.com/seed-1b628d3f/outbox/internal/rows"
)

// silent is a client that answers every call with the same, and never with a row.
type silent struct {
	query  *dynamodb.QueryOutput
	update *dynamodb.UpdateItemOutput
	delete *dynamodb.DeleteItemOutput
	write  *dynamodb.TransactWriteItemsOutput
	err    error
}

func (s silent) Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	return s.query, s.err
}

func (s silent) UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	return s.update, s.err
}

func (s silent) DeleteItem(context.Context, *dynamodb.DeleteItemInput, ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error) {
	return s.delete, s.err
}

func (s silent) TransactWriteItems(context.Context, *dynamodb.TransactWriteItemsInput, ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error) {
	return s.write, s.err
}

// calls are all calls of a Store that write a row.
func calls(ctx context.Context, s *dynamostore.Store) map[string]error {
	l := lease.Lease{Shard: lease.Shard{ID: "s"}, Owner: "a", Fence: 1, Progress: lease.Progress{Checkpoint: "1"}}
	missed := l
	missed.Missing = "b"
	_, begin := s.Begin(ctx, "1")
	_, acquire := s.Acquire(ctx, l, "b")
	return map[string]error{
		"Register": s.Register(ctx, "a", time.Second), "Beat": s.Beat(ctx, lease.Worker{ID: "a", Beat: 1}), "MarkDead": s.MarkDead(ctx, "a", 1), "Retire": s.Retire(ctx, "a"),
		"Begin": begin, "Ensure": s.Ensure(ctx, l.Shard, "1"), "Acquire": acquire, "Want": s.Want(ctx, l, "b"), "Save": s.Save(ctx, l.Key(), 1, l.Progress),
		"Release": s.Release(ctx, l.Key(), ""), "Miss": s.Miss(ctx, l, "b"), "Gone": s.Gone(ctx, missed), "Revive": s.Revive(ctx, l), "Reopen": s.Reopen(ctx, l),
	}
}

// A client that returns neither an answer nor an error, or an answer without the row that was asked for, proves nothing.
func TestAnAnswerWithoutARowIsAnError(t *testing.T) {
	for name, client := range map[string]silent{
		"no answer":       {},
		"an empty answer": {update: &dynamodb.UpdateItemOutput{}, query: &dynamodb.QueryOutput{Count: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			s := store(t, client, "orders", "changes")
			for call, err := range calls(t.Context(), s) {
				require.ErrorContains(t, err, "lease table leases, group orders", call)
				require.NotErrorIs(t, err, lease.ErrRefused, call)
			}
			_, err := s.View(t.Context())
			require.Error(t, err)
			require.Error(t, s.ForgetWorker(t.Context(), "a"))
			require.Error(t, s.End(t.Context(), lease.Key{Shard: "s", Owner: "a", Fence: 1}, 1, nil, nil))
		})
	}
}

// Errors without a value, and refusals without the row, are no panics and no positions.
func TestErrorsWithoutAValue(t *testing.T) {
	for name, client := range map[string]silent{
		"no exception": {err: (*types.ConditionalCheckFailedException)(nil)},
		"no row":       {err: &types.ConditionalCheckFailedException{}},
		"no reasons":   {err: &types.TransactionCanceledException{}},
	} {
		t.Run(name, func(t *testing.T) {
			s := store(t, client, "orders", "changes")
			all := calls(t.Context(), s)
			for _, call := range []string{"Begin", "Acquire", "Save", "Release", "Want", "Beat", "MarkDead"} {
				require.Error(t, all[call], call)
			}
			require.Error(t, s.ForgetWorker(t.Context(), "a"))
			require.Error(t, s.End(t.Context(), lease.Key{Shard: "s", Owner: "a", Fence: 1}, 1, nil, nil))
		})
	}
}

// A row without its key, or fewer rows than the answer counts, is an answer that is cut short.
func TestAViewThatIsCutShort(t *testing.T) {
	for _, out := range []*dynamodb.QueryOutput{
		{Count: 2, Items: []rows.Item{{"id": rows.S("changes#W#a")}}},
		{Count: 1, Items: []rows.Item{{"beat": rows.N(1)}}},
	} {
		_, err := store(t, silent{query: out}, "orders", "changes").View(t.Context())
		require.Error(t, err)
	}
}
