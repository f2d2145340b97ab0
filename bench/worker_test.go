package main

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// All ways from a stream to typed events deliver the same, each event once.
func TestAllWaysDeliverTheSameEvents(t *testing.T) {
	s := newFakeStream(3, 50, 300)
	require.Equal(t, 150, s.records)
	require.InDelta(t, 1000, float64(s.data)/150, 100)
	var want map[string]order
	for _, w := range s.ways() {
		var mu sync.Mutex
		got := map[string]order{}
		w.run(func(aggregateID string, o order) {
			mu.Lock()
			defer mu.Unlock()
			require.NotContains(t, got, aggregateID, w.name)
			got[aggregateID] = o
		})
		require.Len(t, got, 150, w.name)
		if want == nil {
			want = got
		}
		require.Equal(t, want, got, w.name)
	}
	require.Equal(t, "01J1A2B3C4D5E6F7G802000049", want["order-01J1A2B3C4D5E6F7G802000049"].OrderID)
}
