package dynamo_test

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"
)

// Point-in-time recovery is remembered per table, with the period that can be restored.
func TestPointInTimeRecovery(t *testing.T) {
	w := newWorld(t)
	w.create("alpha", "pk:S")
	w.create("bravo", "pk:S")
	describe := func(table string) *types.PointInTimeRecoveryDescription {
		out, err := w.DescribeContinuousBackups(t.Context(), &dynamodb.DescribeContinuousBackupsInput{TableName: &table})
		require.NoError(t, err)
		require.Equal(t, types.ContinuousBackupsStatusEnabled, out.ContinuousBackupsDescription.ContinuousBackupsStatus)
		return out.ContinuousBackupsDescription.PointInTimeRecoveryDescription
	}
	set := func(table string, enabled bool, days *int32) error {
		_, err := w.UpdateContinuousBackups(t.Context(), &dynamodb.UpdateContinuousBackupsInput{TableName: &table,
			PointInTimeRecoverySpecification: &types.PointInTimeRecoverySpecification{PointInTimeRecoveryEnabled: &enabled, RecoveryPeriodInDays: days}})
		return err
	}
	off := &types.PointInTimeRecoveryDescription{PointInTimeRecoveryStatus: types.PointInTimeRecoveryStatusDisabled}
	require.Equal(t, off, describe("alpha"))
	since := w.clock()
	require.NoError(t, set("alpha", true, nil))
	d := describe("alpha")
	require.Equal(t, types.PointInTimeRecoveryStatusEnabled, d.PointInTimeRecoveryStatus)
	require.Equal(t, int32(35), *d.RecoveryPeriodInDays)
	require.WithinDuration(t, since, *d.EarliestRestorableDateTime, time.Millisecond)
	require.WithinDuration(t, since, *d.LatestRestorableDateTime, time.Millisecond)
	require.Equal(t, off, describe("bravo"))

	w.advance(3 * 24 * time.Hour)
	require.NoError(t, set("alpha", true, nil), "it is on already")
	d = describe("alpha")
	require.WithinDuration(t, since, *d.EarliestRestorableDateTime, time.Millisecond)
	require.WithinDuration(t, w.clock().Add(-5*time.Minute), *d.LatestRestorableDateTime, time.Millisecond)
	require.NoError(t, set("alpha", true, aws.Int32(2)))
	d = describe("alpha")
	require.Equal(t, int32(2), *d.RecoveryPeriodInDays)
	require.WithinDuration(t, w.clock().AddDate(0, 0, -2), *d.EarliestRestorableDateTime, time.Millisecond)

	require.NoError(t, set("alpha", false, nil))
	require.Equal(t, off, describe("alpha"))
	require.Error(t, set("alpha", true, aws.Int32(36)))
	require.Error(t, set("alpha", false, aws.Int32(3)))
	require.Equal(t, off, describe("alpha"))

	requireError(t, set("nowhere", true, nil), "TableNotFoundException", "Table not found: nowhere")
	_, err := w.DescribeContinuousBackups(t.Context(), &dynamodb.DescribeContinuousBackupsInput{TableName: aws.String("nowhere")})
	require.ErrorAs(t, err, new(*types.TableNotFoundException))
}
