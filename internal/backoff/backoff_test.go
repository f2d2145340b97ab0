package backoff

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDelaysFillTheirBounds(t *testing.T) {
	f := FullJitter{Base: 100, Max: 1000}
	for n, bound := range map[int]time.Duration{1: 100, 2: 200, 3: 400, 4: 800, 5: 1000, 6: 1000, 1000: 1000} {
		var low, high time.Duration = 1 << 62, 0
		for range 2000 {
			delay := f.Delay(n)
			low, high = min(low, delay), max(high, delay)
		}
		require.GreaterOrEqual(t, low, time.Duration(0))
		require.LessOrEqualf(t, high, bound, "after failure %d", n)
		require.Lessf(t, low, bound/10, "after failure %d: no full jitter", n)
		require.Greaterf(t, high, bound*9/10, "after failure %d: the bound is not used", n)
	}
	require.Zero(t, FullJitter{}.Delay(3))
	for _, n := range []int{1, 2, 3, 50} { // no bound overflows
		var high time.Duration
		for range 200 {
			delay := FullJitter{Base: 1 << 61, Max: 1<<63 - 1}.Delay(n)
			require.GreaterOrEqual(t, delay, time.Duration(0))
			high = max(high, delay)
		}
		require.Greaterf(t, high, time.Duration(1<<60), "after failure %d", n)
	}
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		require.NoError(t, Wait(t.Context(), time.Second))
		require.Equal(t, time.Second, time.Since(start))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		require.ErrorIs(t, Wait(ctx, 2*time.Second), ErrNoTime)
		require.Zero(t, time.Since(start), "it waited for a deadline that leaves no time")

		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		require.ErrorIs(t, Wait(ctx, time.Minute), context.Canceled)
		require.Equal(t, time.Second, time.Since(start))
	})
}
