package outbox

import (
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/owntable"
	"github.com/seed-1b628d3f/outbox/internal/rows"
	"github.com/seed-1b628d3f/outbox/outboxtest"
)

var errGap = errors.New("a gap")

// moveTo moves a row from one number to the next: an extra operation that is an Update.
func moveTo(to int64) *extra {
	key := rows.Item{"aggregate": rows.S("a"), "consumer": rows.S("c")}
	return &extra{
		write: types.TransactWriteItem{Update: &types.Update{
			TableName: aws.String("positions"), Key: key,
			UpdateExpression:                    aws.String("SET #at = :to"),
			ConditionExpression:                 aws.String("#at = :from OR attribute_not_exists(#at) AND :from = :none"),
			ExpressionAttributeNames:            map[string]string{"#at": "at"},
			ExpressionAttributeValues:           rows.Item{":to": rows.N(to), ":from": rows.N(to - 1), ":none": rows.N(0)},
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		}},
		key: key, name: "the position", row: "the stored position", form: "the form",
		judge: func(old map[string]types.AttributeValue) error {
			if rows.Int(old, "at") >= to {
				return nil
			}
			return errGap
		},
	}
}

// The Writer takes any conditional write for the extra operation, and its judge sees the stored row.
func TestAnExtraUpdateIsJudgedByItsStoredRow(t *testing.T) {
	cloud := outboxtest.Start(t)
	cloud.CreateOutbox(t, "events", "changes", 1)
	form := owntable.Form{What: "table of positions", Partition: "aggregate", Sort: "consumer", TTL: "expiresAt"}
	require.NoError(t, form.Create(t.Context(), cloud.DynamoDB, "positions"))
	w, err := NewWriter(cloud.DynamoDB, "events")
	require.NoError(t, err)
	event := Event[string]{ID: "e", Type: "T"}

	var first, again WriteInfo
	require.NoError(t, w.transact(t.Context(), nil, nil, []*extra{moveTo(1)}, &first), "without events")
	require.False(t, first.Duplicate)
	require.NoError(t, w.transact(t.Context(), nil, []AnyEvent{event}, []*extra{moveTo(1)}, &again), "the row is there already")
	require.True(t, again.Duplicate)

	err = w.transact(t.Context(), nil, []AnyEvent{event}, []*extra{moveTo(3)}, &WriteInfo{})
	require.ErrorIs(t, err, errGap)
	var te *TransactionError
	require.ErrorAs(t, err, &te)
	key := rows.Item{"aggregate": rows.S("a"), "consumer": rows.S("c")}
	require.Equal(t, []FailedOperation{{Index: 1, Kind: "Update", Table: "positions", Key: key, Code: "ConditionalCheckFailed",
		Message: "the stored position", OldItem: rows.Item{"aggregate": rows.S("a"), "consumer": rows.S("c"), "at": rows.N(1)}}}, te.Operations)

	require.NoError(t, w.transact(t.Context(), nil, []AnyEvent{event}, []*extra{moveTo(2)}, &first), "the event was not stored before")
	require.False(t, first.Duplicate)
	require.ErrorIs(t, w.transact(t.Context(), nil, []AnyEvent{event}, []*extra{moveTo(3)}, &first), ErrEventConflict, "the event is stored without this position")

	other := types.TransactWriteItem{Put: &types.Put{TableName: aws.String("positions"), Item: rows.Item{"aggregate": rows.S("a"), "consumer": rows.S("c")}}}
	err = w.transact(t.Context(), []types.TransactWriteItem{other}, nil, []*extra{moveTo(3)}, &first)
	require.ErrorIs(t, err, ErrInvalidWrite)
	require.ErrorContains(t, err, `operation 1 (Update in table "positions"): it is on the same item as operation 0`)
}
