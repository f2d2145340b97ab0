package order

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAnIDNamesOneAggregateAndSequence(t *testing.T) {
	require.Equal(t, "order-42#7", ID("order-42", 7))
	seen := map[string]string{}
	for _, aggregate := range []string{"", "a", "#", "a#", "a#1", "a#1#1", "1", "#1", "a#-1", "ä", "日本"} {
		for _, sequence := range []int64{math.MinInt64, -1, 0, 1, 2, 11, 1_000_000_000_000, math.MaxInt64} {
			id := ID(aggregate, sequence)
			require.NotContains(t, seen, id, "two have one id: %q", aggregate)
			seen[id] = aggregate
			require.True(t, Sequenced(id, aggregate, sequence), id)
			for _, other := range []string{"", aggregate + "x", "x" + aggregate, aggregate + "#"} {
				require.Equal(t, other == aggregate, Sequenced(id, other, sequence), "%s for %q", id, other)
			}
			require.False(t, Sequenced(id, aggregate, sequence^1), id)
			require.False(t, Sequenced(id+"0", aggregate, sequence), id)
			require.False(t, Sequenced(id+" ", aggregate, sequence), id)
		}
	}
	for _, id := range []string{"", "#", "a", "a#", "a#01", "a#+1", "a# 1", "a#1.0", "a#1e0"} {
		require.False(t, Sequenced(id, "a", 1), id)
	}
}

func TestEverySequenceOfTheLongestAggregateFitsIntoAKey(t *testing.T) {
	require.Len(t, ID(strings.Repeat("a", MaxAggregate), math.MaxInt64), 2048)
}

func TestTellingASequencedEventAllocatesNothing(t *testing.T) {
	require.Zero(t, testing.AllocsPerRun(100, func() { Sequenced("order-42#9223372036854775807", "order-42", math.MaxInt64) }))
}
