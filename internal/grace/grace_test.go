package grace_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-1b628d3f/outbox/internal/grace"
)

func TestWhatIsWrittenAfterAContextsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
		cancel()
		now := time.Now()
		for name, c := range map[string]struct {
			ctx  context.Context
			want time.Duration
		}{
			"with nobody who answers": {ctx, time.Second},
			"with an early answer":    {grace.Until(ctx, now.Add(time.Millisecond)), time.Millisecond},
			"with a late answer":      {grace.Until(ctx, now.Add(time.Minute)), time.Second},
			"after the answer":        {grace.Until(ctx, now.Add(-time.Second)), -time.Second},
		} {
			after, cancel := grace.After(c.ctx, time.Second)
			defer cancel()
			end, _ := after.Deadline()
			require.Equal(t, c.want, end.Sub(now), name)
			require.Equal(t, "value", after.Value(key{}), name)
			require.Equal(t, c.want < 0, after.Err() != nil, name)
		}
	})
}
