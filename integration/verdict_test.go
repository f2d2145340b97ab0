package integration

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A run is worth what its judge is worth.
func TestVerdict(t *testing.T) {
	known := &deviation{why: "counts wrong", shows: "have 2"}
	for name, c := range map[string]struct {
		run     func(*trial)
		known   *deviation
		problem string
	}{
		"passes":                         {func(*trial) {}, nil, ""},
		"fails":                          {func(t *trial) { require.Equal(t, 1, 2) }, nil, "Not equal"},
		"fails softly":                   {func(t *trial) { refused(t, "it", nil, "E") }, nil, "it: want an error E, have success"},
		"deviates as known":              {func(t *trial) { t.Errorf("want 1, have 2") }, known, ""},
		"deviates otherwise":             {func(t *trial) { t.Errorf("want 1, have 3") }, known, "not in the known way"},
		"no longer deviates":             {func(*trial) {}, known, "no longer deviates"},
		"panics":                         {func(*trial) { panic("have 2") }, known, "panic: have 2"},
		"waits for what never comes":     {func(t *trial) { t.eventually("never", func() bool { return false }) }, nil, "the case ran into its time limit"},
		"its time ends in a request":     {func(t *trial) { <-t.Context().Done(); require.NoError(t, t.Context().Err()) }, nil, "context deadline exceeded"},
		"fails, with nothing left to do": {func(t *trial) { t.FailNow() }, nil, "the case ended early"},
	} {
		t.Run(name, func(t *testing.T) {
			cleaned := false
			failure, panicked := attempt(t.Context(), 50*time.Millisecond, func(tr *trial) {
				tr.Cleanup(func(ctx context.Context) { cleaned = ctx.Err() == nil })
				c.run(tr)
			})
			require.True(t, cleaned, "not cleaned up, or with a context that has ended")
			problem := verdict(failure, panicked, c.known)
			if c.problem == "" {
				require.Empty(t, problem)
				return
			}
			require.Contains(t, problem, c.problem)
		})
	}
}
