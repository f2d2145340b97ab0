package kinesis

import (
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSequenceNumbers(t *testing.T) {
	created := time.Unix(1719347890, 0)
	for _, shard := range []int{0, 1, 15, 16, 4711, 1<<31 - 1} {
		last := ""
		for _, index := range []uint64{0, 1, 2, 9, 10, 1 << 40, lastIndex} {
			// The clock may go back; the numbers do not.
			at := created.Add(time.Duration(100-index%100) * time.Hour)
			s := sequenceNumber(created, shard, index, at)
			require.Len(t, s, 56)
			require.True(t, less(last, s), "%s after %s", s, last)
			last = s
			parsed, ok := parseSequence(s)
			require.True(t, ok)
			require.Equal(t, parsedSequence{version: 2, created: created.Unix(), shardIndex: int64(shard), at: at.Unix()}, parsed)
		}
	}
	// A number of the real service, from its documentation, has the same form.
	_, ok := parseSequence("49590338271490256608559692538361571095921575989136588898")
	require.True(t, ok)
	for _, wrong := range []string{"", "-1", "x", "49590338271490256608559692538361571095921575989136588899", "9999999999999999999999999999999999999999999999999999999999999"} {
		_, ok := parseSequence(wrong)
		require.False(t, ok, wrong)
	}
}

func TestChildrenAreNumberedAboveTheirParents(t *testing.T) {
	e := New(Config{Now: func() time.Time { return time.Unix(1719347890, 0) }, Account: "000000000000", Region: "us-east-1"})
	do := func(operation, body string) {
		t.Helper()
		_, err := e.Do(t.Context(), operation, []byte(body))
		require.NoError(t, err)
	}
	do("CreateStream", `{"StreamName":"s","ShardCount":16}`)
	// All in one second, across the wrap of the shard number's low digit.
	for range 20 {
		s := e.streams["s"]
		parent := s.open()[len(s.open())-1]
		half := new(big.Int).Add(parent.low, new(big.Int).Rsh(width(parent.low, parent.high), 1))
		do("SplitShard", fmt.Sprintf(`{"StreamName":"s","ShardToSplit":%q,"NewStartingHashKey":"%s"}`, parent.id, half))
		for _, child := range s.children(parent) {
			require.True(t, less(parent.last, child.first), "%s ends at %s, %s begins at %s", parent.id, parent.last, child.id, child.first)
		}
	}
}

func TestTheAccountsShardsAreLimited(t *testing.T) {
	e := New(Config{Now: time.Now, Account: "000000000000", Region: "us-east-1"})
	do := func(operation, body string) error {
		t.Helper()
		_, err := e.Do(t.Context(), operation, []byte(body))
		return err
	}
	require.NoError(t, do("CreateStream", `{"StreamName":"s","ShardCount":10000}`))
	require.NoError(t, do("UpdateShardCount", `{"StreamName":"s","TargetShardCount":19999,"ScalingType":"UNIFORM_SCALING"}`))
	require.ErrorContains(t, do("UpdateShardCount", `{"StreamName":"s","TargetShardCount":20001,"ScalingType":"UNIFORM_SCALING"}`),
		"Current shard count for the account: 19999. Limit: 20000. Number of additional shards that would have resulted from this request: 2.")
	require.ErrorContains(t, do("CreateStream", `{"StreamName":"t","ShardCount":2}`), "LimitExceededException")
	require.NoError(t, do("CreateStream", `{"StreamName":"t","ShardCount":1}`))
	require.ErrorContains(t, do("SplitShard", `{"StreamName":"t","ShardToSplit":"0","NewStartingHashKey":"1000"}`), "LimitExceededException")
	require.NoError(t, do("UpdateShardCount", `{"StreamName":"s","TargetShardCount":10000,"ScalingType":"UNIFORM_SCALING"}`))
	require.Equal(t, 10001, e.openShards())
}
