package dynamo_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"
)

func TestTimeToLive(t *testing.T) {
	w := newWorld(t)
	tables := []string{"alpha", "bravo", "charlie"}
	set := func(table, attribute string, enabled bool) error {
		_, err := w.UpdateTimeToLive(t.Context(), &dynamodb.UpdateTimeToLiveInput{TableName: &table,
			TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: &attribute, Enabled: &enabled}})
		return err
	}
	in := func(d time.Duration) string { return strconv.FormatInt(w.clock().Add(d).Unix(), 10) }
	for _, table := range tables {
		w.create(table, "pk:S")
		require.NoError(t, set(table, "expires", true))
		w.put(table, item{"pk": s("soon"), "expires": n(in(time.Minute))})
		w.put(table, item{"pk": s("later"), "expires": n(in(time.Hour))})
		w.put(table, item{"pk": s("never")})
		w.put(table, item{"pk": s("text"), "expires": s(in(0))})
		w.put(table, item{"pk": s("ages ago"), "expires": n(in(-6 * 365 * 24 * time.Hour))})
	}
	w.taken()
	w.db.ExpireTTL()
	require.Empty(t, w.taken())
	w.advance(2 * time.Minute)
	w.db.ExpireTTL()
	changes := w.taken()
	require.Len(t, changes, len(tables))
	for i, c := range changes {
		require.Equal(t, tables[i], c.Table)
		require.Equal(t, "REMOVE", c.Kind)
		require.True(t, c.ByTTL)
		require.Equal(t, "soon", c.Old["pk"].Text())
		require.Nil(t, w.get(c.Table, item{"pk": s("soon")}))
	}

	out, err := w.DescribeTimeToLive(t.Context(), &dynamodb.DescribeTimeToLiveInput{TableName: aws.String("alpha")})
	require.NoError(t, err)
	require.Equal(t, types.TimeToLiveStatusEnabled, out.TimeToLiveDescription.TimeToLiveStatus)
	require.Equal(t, "expires", *out.TimeToLiveDescription.AttributeName)
	requireInvalid(t, set("alpha", "expires", true), "TimeToLive is already enabled")
	requireInvalid(t, set("alpha", "other", true), "TimeToLive is active on a different AttributeName: current AttributeName is expires")
	require.NoError(t, set("alpha", "expires", false))
	requireInvalid(t, set("alpha", "expires", false), "TimeToLive is already disabled")
	w.advance(2 * time.Hour)
	w.db.ExpireTTL()
	require.Len(t, w.taken(), len(tables)-1, "alpha no longer expires")
	requireError(t, set("nowhere", "expires", true), "ResourceNotFoundException", "Requested resource not found: Table: nowhere not found")
}
